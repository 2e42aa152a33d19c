/* sim_draw.h: how a seed's profile is drawn (sim_profile.c, sim_scenario*.c). */
#ifndef T_SIM_DRAW_H
#define T_SIM_DRAW_H

#include "t/sim.h"

static inline uint64_t one_of(struct sim *sim, const uint64_t *choices, unsigned count)
{
    return choices[sim_below(sim, count)];
}
#define ONE_OF(sim, ...)                                                                           \
    one_of(sim, (const uint64_t[]){__VA_ARGS__},                                                   \
           sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

/* A weight that is 0 in most runs. */
static inline unsigned sometimes(struct sim *sim, unsigned percent, unsigned weight_max)
{
    return sim_chance(sim, percent) ? 1 + (unsigned)sim_below(sim, weight_max) : 0;
}

/* So many writes that the log turns over several times: cleaning, tombstones that go, segments used
 * again. */
void sim_draw_small_log(struct sim *sim, struct sim_profile *p);

/* False: no such scenario. */
bool sim_scenario_narrow(struct sim *sim, const char *name, struct sim_profile *p);

#endif
