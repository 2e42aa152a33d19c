/* Scenarios aimed at single rules: faults strike where the rule is needed (sim_aim.c). */
#include "t/sim_scenario.h"

/* A log so full and a medium so slow that segments are used again as soon as they may be; the power
 * goes right then. */
void scenario_reuse(struct sim *sim, struct sim_profile *p)
{
    scenario_cleaning(sim, p);
    p->shard_count = 1;
    p->power_cut = p->crash = 0;
    p->aim.reuse_percent = 10;
    p->drain_min_us = ONE_OF(sim, 100, 1000);
    p->drain_max_us = ONE_OF(sim, 2000, 20000);
    p->client_count = SIM_CLIENT_MAX;
    p->think_us = 2000;
    only(p, REQUEST_SET, REQUEST_SET, REQUEST_DELETE);
}

/* Keys are deleted one by one and not written again, while two others turn the log over. */
void scenario_wither(struct sim *sim, struct sim_profile *p)
{
    scenario_deletes_and_crashes(sim, p);
    p->node_count = 3;
    p->shard_count = 1;
    p->aim.wither = sim_chance(sim, 50);
    p->aim.forget_percent = (unsigned)ONE_OF(sim, 5, 20);
    p->crash = 0;
    p->client_count = 8;
    work(p, 6000000, 4000);
    p->think_us = 5000;
    p->fault_gap_us = 200000;
    brisk(p);
    p->down_max_us = 30000;
    p->keep_majority = false;
    only(p, REQUEST_SET, REQUEST_DELETE, REQUEST_ADD);
    p->skew_percent = (unsigned)ONE_OF(sim, 50, 70, 85);
}

/* The round's leader reaches node 3 late, and node 3 keeps what the others have long forgotten. */
void scenario_voids(struct sim *sim, struct sim_profile *p)
{
    scenario_wither(sim, p);
    p->wall_frozen = sim_chance(sim, 50);
    p->aim.roomy = 0x04;
    p->aim.forget_percent = 0;
    p->aim.wither = false;
    p->weight[REQUEST_DELETE] = 9;
    p->skew_percent = 80;
    p->aim.recoil_permille = 30;
    p->victims = 0x04;
    p->crash = 1;
    p->keep_majority = true;
    p->round_us = (uint32_t)ONE_OF(sim, 100000, 300000);
    p->lag = 4;
    lag_by(p, 60000, 200000);
}

/* The coordinator dies when one follower has its INV and the others have another's. */
void scenario_orphans(struct sim *sim, struct sim_profile *p)
{
    scenario_churn_rmw(sim, p);
    p->crash = 0;
    p->reset = 0;
    p->keep_majority = true;
    p->node_count = 3;
    p->aim.orphan_permille = 300;
    p->window = 1 + (unsigned)sim_below(sim, 3);
    p->operation_count = 1500;
    p->think_us = 500;
    p->safety_us = 6000000;
    brisk(p);
    p->delay_max_us = ONE_OF(sim, 2000, 10000);
    p->lag = 1;
    lag_by(p, ONE_OF(sim, 20000, 100000), 300000);
}

/* Links that become slow for a while, one way, while nodes come and go. */
void scenario_lags(struct sim *sim, struct sim_profile *p)
{
    scenario_churn_sets(sim, p);
    p->crash = 1;
    p->reset = 0;
    p->lag = 3;
    p->lag_max_us = ONE_OF(sim, 20000, 60000, 300000);
    p->lag_time_max_us = ONE_OF(sim, 100000, 500000);
    p->slow_us = 5000000;
    p->client_patience_us = 1000000;
    p->wall_spread_us = ONE_OF(sim, 0, 2000000);
    p->client_count = SIM_CLIENT_MAX;
    p->window = 4;
}

/* Nodes that are away for long, and links on which what the others sent comes late when they are
 * back. */
void scenario_away(struct sim *sim, struct sim_profile *p)
{
    scenario_lags(sim, p);
    p->node_count = 3;
    keys(p, SIM_KEY_MAX, 0);
    work(p, 6000000, 1500);
    pace(p, 1);
    p->crash = p->lag = 1;
    p->keep_majority = true;
    strike(p, 200000, 600000);
    lag_by(p, ONE_OF(sim, 20000, 60000), 500000);
    suspect_after(p, 60000);
}

/* Coordinators that die before anybody else has their record, which comes back with them, newer
 * than anything. */
void scenario_recoil(struct sim *sim, struct sim_profile *p)
{
    scenario_lags(sim, p);
    p->node_count = 3;
    keys(p, SIM_KEY_MAX, 0);
    p->safety_us = 6000000;
    p->victims = 0x04;
    lag_only(p);
    p->aim.recoil_permille = 20;
    p->wall_frozen = false;
    p->wall_spread_us = 2000000;
    p->fault_gap_us = 60000;
    brisk(p);
    lag_by(p, 30000, 300000);
    p->delay_min_us = 500;
    p->operation_count = 1500;
    p->think_us = 2000;
}

/* A follower acknowledges, dies, and is back before the others have the record at all. */
void scenario_turncoats(struct sim *sim, struct sim_profile *p)
{
    scenario_lags(sim, p);
    p->node_count = 3;
    lag_only(p);
    p->aim.turncoat_permille = 50;
    p->aim.cut_permille = 300;
    p->fault_gap_us = 60000;
    lag_by(p, ONE_OF(sim, 30000, 100000), 300000);
    p->operation_count = 1500;
    p->think_us = 2000;
    p->down_max_us = 3000;
}

/* Nodes and disks go and come while the newest versions are those of keys that were deleted and
 * forgotten. */
void scenario_counts(struct sim *sim, struct sim_profile *p)
{
    scenario_wither(sim, p);
    p->aim.wither = false;
    p->aim.forget_percent = 0;
    p->aim.count = true;
    p->wall_frozen = sim_chance(sim, 50);
    p->crash = 2;
    p->wipe = 1;
    p->lag = 3;
    lag_by(p, 100000, 300000);
    p->keep_majority = true;
    strike(p, 400000, 300000);
    p->skew_percent = 85;
    p->operation_count = 10000;
    p->think_us = 500;
    delays(p, 50, 500);
    p->wall_frozen = false;
    only(p, REQUEST_SET, REQUEST_SET, REQUEST_ADD);
    p->weight[REQUEST_SET] = 12;
    p->weight[REQUEST_ADD] = 1;
}

/* The same, away for long, and the offers of a member reach who heals so late that it waits, and
 * holds what is deleted. */
void scenario_lingers(struct sim *sim, struct sim_profile *p)
{
    scenario_counts(sim, p);
    p->wipe = 0;
    p->crash = p->lag = 1;
    p->down_max_us = 1500000;
    lag_by(p, 150000, 1000000);
}

/* Slow media, and nodes that die when a round has just become stable: with what they have behind
 * their marks. */
void scenario_tails(struct sim *sim, struct sim_profile *p)
{
    scenario_lags(sim, p);
    brisk(p);
    p->node_count = 3;
    p->shard_count = 2;
    keys(p, SIM_KEY_MAX, 0);
    p->crash = 0;
    p->keep_majority = true;
    p->aim.stable_percent = 70;
    p->aim.tails = true;
    p->fault_gap_us = 30000;
    lag_by(p, 30000, 300000);
    drains(p, 2000, ONE_OF(sim, 10000, 40000));
    p->lag = 8;
    p->round_us = 30000;
    work(p, 6000000, 1000);
    pace(p, 2);
    p->down_max_us = 10000;
}

/* All nodes go down at once, again and again, with media so slow that only one of them still has
 * what was answered last. */
void scenario_dawn(struct sim *sim, struct sim_profile *p)
{
    scenario_power(sim, p);
    p->node_count = 3;
    keys(p, 4, 0);
    p->client_count = SIM_CLIENT_MAX;
    drains(p, 2000, 40000);
    delays(p, 100, ONE_OF(sim, 1000, 5000));
    p->view_delay_us = ONE_OF(sim, 500, 5000);
    p->round_us = 30000;
    work(p, 6000000, 2500);
    p->think_us = 3000;
    p->fault_gap_us = 300000;
    only(p, REQUEST_SET, REQUEST_SET, REQUEST_DELETE);
    p->weight[REQUEST_GET] = 9;
}

/* The same in models that lose answers by it. */
void scenario_blackout(struct sim *sim, struct sim_profile *p)
{
    scenario_dawn(sim, p);
    p->blackout = true;
    p->keep_majority = false;
    p->crash = (unsigned)sim_below(sim, 3);
    p->think_us = ONE_OF(sim, 3000, 20000);
    p->flush_permille = p->expire_percent = 0;
    if (sim_chance(sim, 50))
        return;
    only(p, REQUEST_SET, REQUEST_INCR, REQUEST_DELETE);
    p->client_count = 4; /* as in churn_rmw */
    p->operation_count = 1200;
}
