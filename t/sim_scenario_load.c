/* Scenarios that choose what clients do and which faults strike. */
#include "t/sim_scenario.h"

void scenario_calm(struct sim *sim, struct sim_profile *p)
{
    (void)sim;
    clear_faults(p);
}

void scenario_conflicts(struct sim *sim, struct sim_profile *p)
{
    p->key_count = 2;
    p->client_count = 6;
    three_or_five(sim, p);
    p->delay_max_us = p->delay_min_us + 2000;
    p->operation_count = 800;
    pace(p, 1);
}

void scenario_crashes(struct sim *sim, struct sim_profile *p)
{
    scenario_conflicts(sim, p);
    clear_faults(p);
    p->crash = 1;
    strike(p, 100000, 300000);
}

void scenario_power(struct sim *sim, struct sim_profile *p)
{
    clear_faults(p);
    p->crash = (unsigned)sim_below(sim, 2);
    p->power_cut = 1;
    strike(p, 400000, 50000);
}

void scenario_cuts(struct sim *sim, struct sim_profile *p)
{
    three_or_five(sim, p);
    clear_faults(p);
    p->partition = 2;
    p->one_way = 1;
    p->pause = 1;
    p->fault_gap_us = 200000;
    p->partition_max_us = p->pause_max_us = 800000;
}

void scenario_deletes(struct sim *sim, struct sim_profile *p)
{
    scenario_conflicts(sim, p);
    weigh_all(p, 0);
    p->weight[REQUEST_GET] = 4;
    p->weight[REQUEST_SET] = 4;
    p->weight[REQUEST_ADD] = 6;
    p->weight[REQUEST_DELETE] = 6;
    p->round_us = 30000;
    p->wall_frozen = sim_chance(sim, 70);
    sim_draw_small_log(sim, p);
    pace(p, 2);
}

void scenario_deletes_and_crashes(struct sim *sim, struct sim_profile *p)
{
    scenario_deletes(sim, p);
    clear_faults(p);
    p->crash = 1;
    p->keep_majority = sim_chance(sim, 80);
    strike(p, 300000, ONE_OF(sim, 50000, 2000000));
}

void scenario_cleaning(struct sim *sim, struct sim_profile *p)
{
    sim_draw_small_log(sim, p);
    pace(p, 2);
    clear_faults(p);
    p->power_cut = 1;
    p->crash = 1;
    strike(p, 300000, 50000);
    p->drain_max_us = 5000;
    p->drain_stall_percent = 5;
}

void scenario_healing(struct sim *sim, struct sim_profile *p)
{
    scenario_crashes(sim, p);
    delays(p, 200, 2000);
    p->slow_link_percent = 40;
    p->slow_factor = 10;
    p->round_us = 30000;
    p->down_max_us = ONE_OF(sim, 3000, 30000);
    p->fault_gap_us = 60000;
    p->keep_majority = sim_chance(sim, 80);
    keys(p, SIM_KEY_MAX, 3);
    p->wall_frozen = sim_chance(sim, 50);
}

/* One or two keys, no pause, and nodes that come back at once: what was under way at a change of
 * view is the point. */
static void churn(struct sim *sim, struct sim_profile *p)
{
    scenario_conflicts(sim, p);
    clear_faults(p);
    keys(p, SIM_KEY_MAX, 1 + (unsigned)sim_below(sim, 2));
    p->shard_count = 1;
    p->crash = 4;
    p->reset = (unsigned)sim_below(sim, 4);
    p->keep_majority = sim_chance(sim, 80);
    p->fault_gap_us = ONE_OF(sim, 40000, 100000);
    p->down_max_us = ONE_OF(sim, 3000, 30000);
    p->slow_link_percent = (unsigned)ONE_OF(sim, 0, 30, 50);
    p->delay_tail_percent = 5;
    p->view_delay_us = ONE_OF(sim, 500, 5000);
    p->think_us = 2000;
    p->operation_count = 700;
    p->wall_frozen = sim_chance(sim, 50);
}

void scenario_churn_rmw(struct sim *sim, struct sim_profile *p)
{
    churn(sim, p);
    p->client_count =
        4; /* read-modify-writes of unknown outcome are what the judge finds hardest */
    only(p, REQUEST_INCR, sim_chance(sim, 50) ? REQUEST_APPEND : REQUEST_DECR, REQUEST_CAS);
    p->weight[REQUEST_ADD] = 2;
    p->weight[REQUEST_GET] = 2;
}

void scenario_churn_sets(struct sim *sim, struct sim_profile *p)
{
    churn(sim, p);
    only(p, REQUEST_SET, REQUEST_SET, REQUEST_DELETE);
    p->weight[REQUEST_GET] = 2;
}

/* Three nodes stay and write; two come and go all the time, so that each heals over several changes
 * of view. */
void scenario_rejoin(struct sim *sim, struct sim_profile *p)
{
    churn(sim, p);
    p->node_count = 5;
    p->victims = 0x18;
    p->client_count = SIM_CLIENT_MAX;
    p->window = 4;
    p->think_us = 500;
    p->operation_count = 1500;
    p->crash = 1;
    p->reset = (unsigned)sim_below(sim, 2);
    p->keep_majority = false;
    strike(p, ONE_OF(sim, 8000, 15000, 30000), 2000);
    p->safety_us = 2000000;
    p->slow_link_percent = 40;
    p->slow_factor = (unsigned)ONE_OF(sim, 5, 20);
    delays(p, 50, ONE_OF(sim, 100, 500));
    p->view_delay_us = ONE_OF(sim, 50, 1000);
    p->client_patience_us = 500000;
    p->round_us = 30000;
    only(p, REQUEST_SET, sim_chance(sim, 50) ? REQUEST_INCR : REQUEST_SET, REQUEST_DELETE);
}

void scenario_rot(struct sim *sim, struct sim_profile *p)
{
    (void)sim;
    p->node_count = 3;
    clear_faults(p);
    p->corrupt = 2;
    p->wipe = 1;
    p->crash = 1;
    strike(p, 300000, 100000);
}

void scenario_resets(struct sim *sim, struct sim_profile *p)
{
    scenario_conflicts(sim, p);
    clear_faults(p);
    p->reset = 1;
    p->fault_gap_us = 20000;
}

/* Meta commands on few keys: what is won, stale, recached and made where nothing was, with nodes
 * that come and go. */
void scenario_meta(struct sim *sim, struct sim_profile *p)
{
    scenario_conflicts(sim, p);
    p->meta = true;
    p->client_count = 4;
    keys(p, SIM_KEY_MAX, 2);
    for (unsigned i = 0; i < REQUEST_EXPIRE; i++)
        p->weight[i] = p->weight[i] > 0;
    p->weight[REQUEST_GET] = 8;
    p->weight[REQUEST_SET] = p->weight[REQUEST_CAS] = 2;
    p->weight[REQUEST_DELETE] = 4;
}

/* Values in pieces: slow uploads and readers, collectors that look often, nodes that come and go or
 * are removed alive. */
void scenario_large(struct sim *sim, struct sim_profile *p)
{
    scenario_churn_sets(sim, p);
    three_or_five(sim, p);
    p->client_count = 4;
    p->window = 3;
    p->segment_size = 8192;
    p->segment_count = 24;
    p->pad_max = 40;
    work(p, 6000000, 500);
    pace(p, 2);
    p->large_percent = 50;
    p->collect_us = (uint32_t)ONE_OF(sim, 100000, 200000, 400000);
    p->large_pause_us = ONE_OF(sim, 5000, 200000, 800000);
    p->client_patience_us = 500000;
    p->aim.manifest_permille = (unsigned)ONE_OF(sim, 0, 0, 100, 500);
    p->crash = sometimes(sim, 60, 4);
    p->wipe = sometimes(sim, 20, 2);
    p->power_cut = sometimes(sim, 20, 1);
    p->pause = sometimes(sim, 40, 4);
    p->partition = sometimes(sim, 40, 4);
    p->reset = sometimes(sim, 30, 4);
    p->lag = sometimes(sim, 60, 4);
    lag_by(p, ONE_OF(sim, 20000, 100000, 300000), 500000);
    p->fault_gap_us = ONE_OF(sim, 100000, 300000);
    p->down_max_us = ONE_OF(sim, 30000, 300000);
    p->pause_max_us = p->partition_max_us = ONE_OF(sim, 100000, 400000);
    p->round_us = 30000;
    suspect_after(p, 60000);
    weigh_all(p, 1);
    p->weight[REQUEST_SET] = 6;
    p->weight[REQUEST_GET] = 6;
    p->weight[REQUEST_ADD] = p->weight[REQUEST_CAS] = p->weight[REQUEST_DELETE] = 3;
    p->weight[REQUEST_FLUSH] = 0;
    p->flush_permille = (unsigned)ONE_OF(sim, 0, 0, 5);
}

/* Logs that hold about half of what the keys would take, each read and written at all nodes. */
void scenario_evict(struct sim *sim, struct sim_profile *p)
{
    scenario_churn_sets(sim, p);
    three_or_five(sim, p);
    p->evicts = true;
    p->evict_above = (uint32_t)ONE_OF(sim, 600, 1200);
    p->segment_size = 4096;
    p->segment_count = (uint32_t)ONE_OF(sim, 4, 6, 9);
    p->pad_max = 150;
    p->key_count = SIM_KEY_MAX;
    p->window = 0;
    work(p, 6000000, 1200);
    p->client_count = 6;
    pace(p, 2);
    p->round_us = 30000;
    p->crash = sometimes(sim, 60, 4);
    p->power_cut = sometimes(sim, 20, 1);
    p->pause = sometimes(sim, 40, 4);
    p->partition = sometimes(sim, 40, 4);
    p->reset = sometimes(sim, 40, 4);
    p->expire_percent = (unsigned)ONE_OF(sim, 0, 20);
    p->fault_gap_us = ONE_OF(sim, 100000, 300000);
    p->down_max_us = ONE_OF(sim, 30000, 300000);
    p->weight[REQUEST_SET] = 12;
    p->weight[REQUEST_GET] = 12;
    p->weight[REQUEST_ADD] = p->weight[REQUEST_CAS] = p->weight[REQUEST_INCR] = 3;
}

/* Values in pieces for which there is hardly room: who waits for some must get it from those that
 * go, or be told. While nodes are away tombstones stay, and need room, too: a log of few segments
 * would not hold them. */
void scenario_crowd(struct sim *sim, struct sim_profile *p)
{
    scenario_large(sim, p);
    p->evicts = true;
    p->segment_size = 4096;
    p->key_count = SIM_KEY_MAX;
    p->client_count = 6;
    p->pad_max = 150;
    p->piece_size = 240;
    p->wipe = p->power_cut = 0;
    p->client_patience_us = 2000000;
    bool stays = sim_chance(sim, 50);
    p->segment_count = (uint32_t)(stays ? ONE_OF(sim, 5, 6, 8) : ONE_OF(sim, 20, 24));
    if (stays)
        p->crash = p->pause = p->partition = p->lag = p->reset = p->aim.manifest_permille = 0;
}

/* Readers who are not the owner and are stopped in the middle, while segments are used again, keys
 * are flushed and expire, and their node is removed and comes back. */
void scenario_elsewhere(struct sim *sim, struct sim_profile *p)
{
    scenario_cuts(sim, p);
    sim_draw_small_log(sim, p);
    p->elsewhere_percent = 80;
    p->elsewhere_max_us = ONE_OF(sim, 20000, 800000, 800000);
    p->node_count = 3;
    p->client_count = 8;
    p->segment_count = 6;
    p->window = 0;
    p->key_count = (unsigned)ONE_OF(sim, 2, 4, 4, SIM_KEY_MAX);
    p->client_patience_us = 2000000;
    p->fault_gap_us = 150000;
    suspect_after(p, 40000);
    p->view_delay_us = 500;
    p->partition_max_us = p->pause_max_us = ONE_OF(sim, 150000, 300000);
    p->weight[REQUEST_GET] = 12;
    p->flush_permille = (unsigned)ONE_OF(sim, 0, 10);
    pace(p, 2);
}

/* The machines live on, so each index is taken over; conflicts, so that states other than VALID are
 * left. */
void scenario_kills(struct sim *sim, struct sim_profile *p)
{
    scenario_crashes(sim, p);
    p->only_kills = true;
    p->take_percent = 100;
    p->down_max_us = ONE_OF(sim, 5000, 20000, 300000);
}
