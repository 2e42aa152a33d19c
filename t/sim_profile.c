/* What a seed draws: swarm testing. Each run has its own rates, and whole kinds of faults are
 * absent from it, so that a rule is not hidden behind another fault that always strikes first. A
 * scenario narrows the draw to what one rule is there for. */
#include "t/sim_draw.h"

void sim_draw_small_log(struct sim *sim, struct sim_profile *p)
{
    p->segment_size = 4096;
    p->segment_count = 6 + (uint32_t)sim_below(sim, 4);
    if (sim_chance(sim, 50))
        p->segment_count += 10; /* with a cold tail */
    p->operation_count = 1500 + (unsigned)sim_below(sim, 1500);
    p->safety_us = sim_between(sim, 3000000, 6000000);
    p->pad_max = 150;
    p->key_count = SIM_KEY_MAX;
    p->skew_percent = 85;
}

static void draw_sizes(struct sim *sim, struct sim_profile *p)
{
    p->node_count = (unsigned)ONE_OF(sim, 1, 3, 3, 3, 3, 3, 3, 5, 5, 5);
    p->shard_count = sim_chance(sim, 25) ? 2 : 1;
    p->key_count = sim_chance(sim, 10) ? SIM_KEY_MAX : 2 + (unsigned)sim_below(sim, 7);
    p->client_count = 2 + (unsigned)sim_below(sim, 5);
    p->operation_count = 300 + (unsigned)sim_below(sim, 400);
    p->safety_us = sim_between(sim, 2000000, 6000000);
    p->pad_max = 40;
    p->segment_size = 4096 << sim_below(sim, 2);
    p->segment_count = 12 + (uint32_t)sim_below(sim, 12);
    p->verify_every = 16;
    p->wall_frozen = sim_chance(sim, 25);
    p->wall_spread_us = ONE_OF(sim, 0, 20000, 20000, 2000000);
    if (sim_chance(sim, 25))
        sim_draw_small_log(sim, p);
}

static void draw_speeds(struct sim *sim, struct sim_profile *p)
{
    p->think_us = 2 * p->safety_us * p->client_count / p->operation_count;
    p->client_patience_us = ONE_OF(sim, 100000, 500000, 1000000);
    p->delay_min_us = ONE_OF(sim, 10, 50, 200);
    p->delay_max_us = p->delay_min_us + ONE_OF(sim, 0, 100, 1000, 5000);
    p->delay_tail_percent = (unsigned)ONE_OF(sim, 0, 0, 1, 5);
    p->slow_link_percent = (unsigned)ONE_OF(sim, 0, 0, 20, 50);
    p->slow_factor = (unsigned)ONE_OF(sim, 3, 10, 30);
    p->drain_min_us = ONE_OF(sim, 1, 1, 20, 100);
    p->drain_max_us = p->drain_min_us + ONE_OF(sim, 0, 50, 500, 5000);
    p->drain_stall_percent = (unsigned)ONE_OF(sim, 0, 0, 0, 2);
    p->turn_us = ONE_OF(sim, 0, 5, 50);
    p->view_delay_us = ONE_OF(sim, 10, 500, 5000);
    p->lease_us = ONE_OF(sim, 60000, 100000);
    p->suspect_us = ONE_OF(sim, 60000, 100000, 200000);
    p->election_us = ONE_OF(sim, 60000, 100000);
    p->boot_grace_us = 200000;
    p->drift_ppm = sim_chance(sim, 50) ? 450 : 0;
    p->round_us = (uint32_t)ONE_OF(sim, 30000, 100000);
    p->ask_us = (uint32_t)ONE_OF(sim, 20000, 60000, 100000);
    p->slow_us = (uint32_t)ONE_OF(sim, 150000, 300000);
    p->control_loss_percent = (unsigned)ONE_OF(sim, 0, 0, 2, 20);
}

static void draw_faults(struct sim *sim, struct sim_profile *p)
{
    p->fault_gap_us = ONE_OF(sim, 100000, 200000, 400000, 800000);
    p->keep_majority = sim_chance(sim, 60);
    p->crash = sometimes(sim, 70, 10);
    p->wipe = sometimes(sim, 25, 4);
    p->corrupt = sometimes(sim, 15, 4);
    p->power_cut = sometimes(sim, 25, 3);
    p->pause = sometimes(sim, 40, 8);
    p->reset = sometimes(sim, 40, 8);
    p->partition = sometimes(sim, 40, 8);
    p->one_way = sometimes(sim, 20, 8);
    p->wall_jump = sometimes(sim, 15, 4);
    p->full_percent = (unsigned)ONE_OF(sim, 0, 0, 0, 0, 30);
    p->pause_in_reply_permille = (unsigned)ONE_OF(sim, 0, 0, 2, 10);
    p->down_max_us = ONE_OF(sim, 20000, 300000, 1000000);
    p->pause_max_us = ONE_OF(sim, 20000, 200000, 800000);
    p->partition_max_us = ONE_OF(sim, 50000, 300000, 800000);
}

static void draw_commands(struct sim *sim, struct sim_profile *p)
{
    p->expire_percent = (unsigned)ONE_OF(sim, 0, 0, 0, 20);
    p->flush_permille = (unsigned)ONE_OF(sim, 0, 0, 0, 5);
    for (unsigned i = 0; i < REQUEST_EXPIRE; i++)
        p->weight[i] = sometimes(sim, 70, 10);
    p->weight[REQUEST_GET] += 15;
    p->weight[REQUEST_SET] += 8;
    p->weight[REQUEST_FLUSH] = 0;
}

/* Walks of few records a turn, in half of the runs. By chance of its own: the rest of the draw does
 * not depend on it. */
static void draw_walks(struct sim *sim, struct sim_profile *p)
{
    static const uint32_t choices[] = {128, 256, 1024, 4096};
    struct prng prng = {sim->options.seed ^ 0x57a1c};
    if (prng_chance(&prng, 50))
        p->walk_bytes = choices[prng_below(&prng, sizeof(choices) / sizeof(choices[0]))];
}

/* Indexes that are taken over, in half of the runs. By chance of its own, too. */
static void draw_takes(struct sim *sim, struct sim_profile *p)
{
    struct prng prng = {sim->options.seed ^ 0x7a4e0};
    if (p->take_percent == 0 && prng_chance(&prng, 50))
        p->take_percent = 80;
}

/* Large values in some runs of the swarm, with room for their pieces. By chance of its own, too. */
static void draw_large(struct sim *sim, struct sim_profile *p)
{
    static const uint32_t periods[] = {100000, 400000, 1000000}, pauses[] = {5000, 100000, 500000};
    struct prng prng = {sim->options.seed ^ 0x1a49e};
    if (sim->options.scenario != NULL || !prng_chance(&prng, 10))
        return;
    p->large_percent = 20 + (unsigned)prng_below(&prng, 40);
    p->collect_us = periods[prng_below(&prng, 3)];
    p->large_pause_us = pauses[prng_below(&prng, 3)];
    p->segment_count += 12;
}

/* Reads by other workers in some runs of the swarm. By chance of its own, too. */
static void draw_elsewhere(struct sim *sim, struct sim_profile *p)
{
    struct prng prng = {sim->options.seed ^ 0xe15e};
    if (sim->options.scenario != NULL || !prng_chance(&prng, 15))
        return;
    p->elsewhere_percent = 20 + (unsigned)prng_below(&prng, 60);
    p->elsewhere_max_us = 1000 + prng_below(&prng, 500000);
}

/* False: no such model. */
static bool finish(struct sim *sim, struct sim_profile *p)
{
    draw_walks(sim, p);
    draw_large(sim, p);
    draw_takes(sim, p);
    draw_elsewhere(sim, p);
    bool known = sim_model_draw(sim);
    if (sim->options.node_count != 0)
        p->node_count = sim->options.node_count;
    if (sim->options.quick) {
        p->safety_us /= 3;
        p->operation_count /= 3;
    }
    if (p->node_count == 1)
        p->pause = p->reset = p->partition = p->one_way = p->wipe = p->corrupt = 0;
    return known;
}

bool sim_profile_draw(struct sim *sim)
{
    struct sim_profile *p = &sim->profile;
    draw_sizes(sim, p);
    draw_speeds(sim, p);
    draw_faults(sim, p);
    draw_commands(sim, p);
    const char *name = sim->options.scenario;
    bool known = name == NULL || sim_scenario_narrow(sim, name, p);
    return finish(sim, p) && known;
}
