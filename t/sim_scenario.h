/* sim_scenario.h: the scenarios, and what they say again and again. A helper that takes two numbers
 * must get at most one that is drawn: in which order a call's arguments are evaluated is not
 * defined. */
#ifndef T_SIM_SCENARIO_H
#define T_SIM_SCENARIO_H

#include "t/sim_draw.h"

/* Each narrows the draw of sim_profile.c to what one rule is there for. */
#define SCENARIO(function, name, text)                                                             \
    void scenario_##function(struct sim *sim, struct sim_profile *p);
#include "t/sim_scenario.def"
#undef SCENARIO

/* ---- load ---- */

static inline void three_or_five(struct sim *sim, struct sim_profile *p)
{
    p->node_count = 3 + 2 * (unsigned)sim_below(sim, 2);
}

/* All used alike; only `window` of them at a time, if not 0. */
static inline void keys(struct sim_profile *p, unsigned count, unsigned window)
{
    p->key_count = count;
    p->window = window;
    p->skew_percent = 0;
}

static inline void work(struct sim_profile *p, uint64_t safety_us, unsigned operation_count)
{
    p->safety_us = safety_us;
    p->operation_count = operation_count;
}

/* Clients pause so long that their commands last about `times` as long as faults strike. */
static inline void pace(struct sim_profile *p, unsigned times)
{
    p->think_us = times * p->safety_us * p->client_count / p->operation_count;
}

static inline void weigh_all(struct sim_profile *p, unsigned weight)
{
    for (unsigned i = 0; i < REQUEST_EXPIRE; i++)
        p->weight[i] = weight;
}

static inline void only(struct sim_profile *p, enum request_type first, enum request_type second,
                        enum request_type third)
{
    weigh_all(p, 0);
    p->weight[REQUEST_GET] = 3;
    p->weight[first] = p->weight[second] = p->weight[third] = 3;
}

/* ---- speed ---- */

static inline void delays(struct sim_profile *p, uint64_t min_us, uint64_t max_us)
{
    p->delay_min_us = min_us;
    p->delay_max_us = max_us;
}

static inline void drains(struct sim_profile *p, uint64_t min_us, uint64_t max_us)
{
    p->drain_min_us = min_us;
    p->drain_max_us = max_us;
}

static inline void suspect_after(struct sim_profile *p, uint64_t time_us)
{
    p->suspect_us = p->lease_us = p->election_us = time_us;
}

/* Nothing is slow by itself: only what is aimed at delays anything. */
static inline void brisk(struct sim_profile *p)
{
    p->slow_link_percent = p->delay_tail_percent = p->drain_stall_percent =
        p->control_loss_percent = 0;
    delays(p, 200, 2000);
    drains(p, 1, 100);
    p->view_delay_us = 3000;
    suspect_after(p, 60000);
    p->slow_us = 5000000;
    p->client_patience_us = 1000000;
}

/* ---- faults ---- */

static inline void clear_faults(struct sim_profile *p)
{
    p->crash = p->wipe = p->corrupt = p->power_cut = p->pause = p->reset = p->partition =
        p->one_way = 0;
    p->wall_jump = p->removal = p->full_percent = p->pause_in_reply_permille = 0;
}

static inline void strike(struct sim_profile *p, uint64_t gap_us, uint64_t down_max_us)
{
    p->fault_gap_us = gap_us;
    p->down_max_us = down_max_us;
}

/* Nodes go down only where something is aimed. */
static inline void lag_only(struct sim_profile *p)
{
    p->crash = 0;
    p->lag = 1;
    p->keep_majority = true;
}

static inline void lag_by(struct sim_profile *p, uint64_t max_us, uint64_t time_max_us)
{
    p->lag_max_us = max_us;
    p->lag_time_max_us = time_max_us;
}

#endif
