/* Scenarios: each narrows the draw of sim_profile.c to what one rule is there for. */
#include <string.h>

#include "t/sim_draw.h"

struct scenario {
    const char *name, *text;
    void (*narrow)(struct sim *sim, struct sim_profile *profile);
};

static void clear_faults(struct sim_profile *p)
{
    p->crash = p->wipe = p->corrupt = p->power_cut = p->pause = p->reset = p->partition =
        p->one_way = 0;
    p->wall_jump = p->removal = p->full_percent = p->pause_in_reply_permille = 0;
}

static void calm(struct sim *sim, struct sim_profile *p)
{
    (void)sim;
    clear_faults(p);
}

static void conflicts(struct sim *sim, struct sim_profile *p)
{
    p->key_count = 2;
    p->client_count = 6;
    p->node_count = 3 + 2 * (unsigned)sim_below(sim, 2);
    p->delay_max_us = p->delay_min_us + 2000;
    p->operation_count = 800;
    p->think_us = p->safety_us * p->client_count / p->operation_count;
}

static void crashes(struct sim *sim, struct sim_profile *p)
{
    conflicts(sim, p);
    clear_faults(p);
    p->crash = 1;
    p->fault_gap_us = 100000;
    p->down_max_us = 300000;
}

static void power(struct sim *sim, struct sim_profile *p)
{
    clear_faults(p);
    p->crash = (unsigned)sim_below(sim, 2);
    p->power_cut = 1;
    p->fault_gap_us = 400000;
    p->down_max_us = 50000;
}

static void cuts(struct sim *sim, struct sim_profile *p)
{
    p->node_count = 3 + 2 * (unsigned)sim_below(sim, 2);
    clear_faults(p);
    p->partition = 2;
    p->one_way = 1;
    p->pause = 1;
    p->fault_gap_us = 200000;
    p->partition_max_us = p->pause_max_us = 800000;
}

static void deletes(struct sim *sim, struct sim_profile *p)
{
    conflicts(sim, p);
    for (unsigned i = 0; i < REQUEST_EXPIRE; i++)
        p->weight[i] = 0;
    p->weight[REQUEST_GET] = 4;
    p->weight[REQUEST_SET] = 4;
    p->weight[REQUEST_ADD] = 6;
    p->weight[REQUEST_DELETE] = 6;
    p->round_us = 30000;
    p->wall_frozen = sim_chance(sim, 70);
    sim_draw_small_log(sim, p);
    p->think_us = 2 * p->safety_us * p->client_count / p->operation_count;
}

static void deletes_and_crashes(struct sim *sim, struct sim_profile *p)
{
    deletes(sim, p);
    clear_faults(p);
    p->crash = 1;
    p->keep_majority = sim_chance(sim, 80);
    p->fault_gap_us = 300000;
    p->down_max_us = ONE_OF(sim, 50000, 2000000);
}

static void cleaning(struct sim *sim, struct sim_profile *p)
{
    sim_draw_small_log(sim, p);
    p->think_us = 2 * p->safety_us * p->client_count / p->operation_count;
    clear_faults(p);
    p->power_cut = 1;
    p->crash = 1;
    p->fault_gap_us = 300000;
    p->down_max_us = 50000;
    p->drain_max_us = 5000;
    p->drain_stall_percent = 5;
}

static void healing(struct sim *sim, struct sim_profile *p)
{
    crashes(sim, p);
    p->delay_min_us = 200;
    p->delay_max_us = 2000;
    p->slow_link_percent = 40;
    p->slow_factor = 10;
    p->round_us = 30000;
    p->down_max_us = ONE_OF(sim, 3000, 30000);
    p->fault_gap_us = 60000;
    p->keep_majority = sim_chance(sim, 80);
    p->key_count = SIM_KEY_MAX;
    p->window = 3;
    p->skew_percent = 0;
    p->wall_frozen = sim_chance(sim, 50);
}

static void only(struct sim_profile *p, enum request_type first, enum request_type second,
                 enum request_type third)
{
    for (unsigned i = 0; i < REQUEST_EXPIRE; i++)
        p->weight[i] = 0;
    p->weight[REQUEST_GET] = 3;
    p->weight[first] = p->weight[second] = p->weight[third] = 3;
}

/* One or two keys, no pause, and nodes that come back at once: what was under way at a change of
 * view is the point. */
static void churn(struct sim *sim, struct sim_profile *p)
{
    conflicts(sim, p);
    clear_faults(p);
    p->key_count = SIM_KEY_MAX;
    p->window = 1 + (unsigned)sim_below(sim, 2);
    p->skew_percent = 0;
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

static void churn_rmw(struct sim *sim, struct sim_profile *p)
{
    churn(sim, p);
    p->client_count =
        4; /* read-modify-writes of unknown outcome are what the judge finds hardest */
    only(p, REQUEST_INCR, sim_chance(sim, 50) ? REQUEST_APPEND : REQUEST_DECR, REQUEST_CAS);
    p->weight[REQUEST_ADD] = 2;
    p->weight[REQUEST_GET] = 2;
}

static void churn_sets(struct sim *sim, struct sim_profile *p)
{
    churn(sim, p);
    only(p, REQUEST_SET, REQUEST_SET, REQUEST_DELETE);
    p->weight[REQUEST_GET] = 2;
}

/* Three nodes stay and write; two come and go all the time, so that each heals over several changes
 * of view. */
static void rejoin(struct sim *sim, struct sim_profile *p)
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
    p->fault_gap_us = ONE_OF(sim, 8000, 15000, 30000);
    p->down_max_us = 2000;
    p->safety_us = 2000000;
    p->slow_link_percent = 40;
    p->slow_factor = (unsigned)ONE_OF(sim, 5, 20);
    p->delay_min_us = 50;
    p->delay_max_us = ONE_OF(sim, 100, 500);
    p->view_delay_us = ONE_OF(sim, 50, 1000);
    p->client_patience_us = 500000;
    p->round_us = 30000;
    only(p, REQUEST_SET, sim_chance(sim, 50) ? REQUEST_INCR : REQUEST_SET, REQUEST_DELETE);
}

static void rot(struct sim *sim, struct sim_profile *p)
{
    (void)sim;
    p->node_count = 3;
    clear_faults(p);
    p->corrupt = 2;
    p->wipe = 1;
    p->crash = 1;
    p->fault_gap_us = 300000;
    p->down_max_us = 100000;
}

static void resets(struct sim *sim, struct sim_profile *p)
{
    conflicts(sim, p);
    clear_faults(p);
    p->reset = 1;
    p->fault_gap_us = 20000;
}

/* Meta commands on few keys: what is won, stale, recached and made where nothing was, with nodes
 * that come and go. */
static void meta(struct sim *sim, struct sim_profile *p)
{
    conflicts(sim, p);
    p->meta = true;
    p->client_count = 4;
    p->key_count = SIM_KEY_MAX;
    p->window = 2;
    p->skew_percent = 0;
    for (unsigned i = 0; i < REQUEST_EXPIRE; i++)
        p->weight[i] = p->weight[i] > 0;
    p->weight[REQUEST_GET] = 8;
    p->weight[REQUEST_SET] = p->weight[REQUEST_CAS] = 2;
    p->weight[REQUEST_DELETE] = 4;
}

/* ---- aimed at single rules (sim_aim.c) ---- */

/* Nothing is slow by itself: only what is aimed at delays anything. */
static void brisk(struct sim_profile *p)
{
    p->slow_link_percent = p->delay_tail_percent = p->drain_stall_percent =
        p->control_loss_percent = 0;
    p->delay_min_us = 200;
    p->delay_max_us = 2000;
    p->drain_min_us = 1;
    p->drain_max_us = 100;
    p->view_delay_us = 3000;
    p->suspect_us = p->lease_us = p->election_us = 60000;
    p->slow_us = 5000000;
    p->client_patience_us = 1000000;
}

/* A log so full and a medium so slow that segments are used again as soon as they may be; the power
 * goes right then. */
static void reuse(struct sim *sim, struct sim_profile *p)
{
    cleaning(sim, p);
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
static void wither(struct sim *sim, struct sim_profile *p)
{
    deletes_and_crashes(sim, p);
    p->node_count = 3;
    p->shard_count = 1;
    p->aim.wither = sim_chance(sim, 50);
    p->aim.forget_percent = (unsigned)ONE_OF(sim, 5, 20);
    p->crash = 0;
    p->client_count = 8;
    p->operation_count = 4000;
    p->safety_us = 6000000;
    p->think_us = 5000;
    p->fault_gap_us = 200000;
    brisk(p);
    p->down_max_us = 30000;
    p->keep_majority = false;
    only(p, REQUEST_SET, REQUEST_DELETE, REQUEST_ADD);
    p->skew_percent = (unsigned)ONE_OF(sim, 50, 70, 85);
}

/* The round's leader reaches node 3 late, and node 3 keeps what the others have long forgotten. */
static void voids(struct sim *sim, struct sim_profile *p)
{
    wither(sim, p);
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
    p->lag_max_us = 60000;
    p->lag_time_max_us = 200000;
}

/* The coordinator dies when one follower has its INV and the others have another's. */
static void orphans(struct sim *sim, struct sim_profile *p)
{
    churn_rmw(sim, p);
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
    p->lag_max_us = ONE_OF(sim, 20000, 100000);
    p->lag_time_max_us = 300000;
}

/* Links that become slow for a while, one way, while nodes come and go. */
static void lags(struct sim *sim, struct sim_profile *p)
{
    churn_sets(sim, p);
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
static void away(struct sim *sim, struct sim_profile *p)
{
    lags(sim, p);
    p->node_count = 3;
    p->key_count = SIM_KEY_MAX;
    p->window = 0;
    p->skew_percent = 0;
    p->safety_us = 6000000;
    p->operation_count = 1500;
    p->think_us = p->safety_us * p->client_count / p->operation_count;
    p->crash = p->lag = 1;
    p->keep_majority = true;
    p->fault_gap_us = 200000;
    p->down_max_us = 600000;
    p->lag_max_us = ONE_OF(sim, 20000, 60000);
    p->lag_time_max_us = 500000;
    p->suspect_us = p->lease_us = p->election_us = 60000;
}

/* Coordinators that die before anybody else has their record, which comes back with them, newer
 * than anything. */
static void recoil(struct sim *sim, struct sim_profile *p)
{
    lags(sim, p);
    p->node_count = 3;
    p->key_count = SIM_KEY_MAX;
    p->window = 0;
    p->skew_percent = 0;
    p->safety_us = 6000000;
    p->victims = 0x04;
    p->crash = 0;
    p->lag = 1;
    p->keep_majority = true;
    p->aim.recoil_permille = 20;
    p->wall_frozen = false;
    p->wall_spread_us = 2000000;
    p->fault_gap_us = 60000;
    brisk(p);
    p->lag_max_us = 30000;
    p->lag_time_max_us = 300000;
    p->delay_min_us = 500;
    p->operation_count = 1500;
    p->think_us = 2000;
}

/* A follower acknowledges, dies, and is back before the others have the record at all. */
static void turncoats(struct sim *sim, struct sim_profile *p)
{
    lags(sim, p);
    p->node_count = 3;
    p->crash = 0;
    p->lag = 1;
    p->keep_majority = true;
    p->aim.turncoat_permille = 50;
    p->aim.cut_permille = 300;
    p->fault_gap_us = 60000;
    p->lag_max_us = ONE_OF(sim, 30000, 100000);
    p->lag_time_max_us = 300000;
    p->operation_count = 1500;
    p->think_us = 2000;
    p->down_max_us = 3000;
}

/* Nodes and disks go and come while the newest versions are those of keys that were deleted and
 * forgotten. */
static void counts(struct sim *sim, struct sim_profile *p)
{
    wither(sim, p);
    p->aim.wither = false;
    p->aim.forget_percent = 0;
    p->aim.count = true;
    p->wall_frozen = sim_chance(sim, 50);
    p->crash = 2;
    p->wipe = 1;
    p->lag = 3;
    p->lag_max_us = 100000;
    p->lag_time_max_us = 300000;
    p->keep_majority = true;
    p->fault_gap_us = 400000;
    p->down_max_us = 300000;
    p->skew_percent = 85;
    p->operation_count = 10000;
    p->think_us = 500;
    p->delay_min_us = 50;
    p->delay_max_us = 500;
    p->wall_frozen = false;
    only(p, REQUEST_SET, REQUEST_SET, REQUEST_ADD);
    p->weight[REQUEST_SET] = 12;
    p->weight[REQUEST_ADD] = 1;
}

/* The same, away for long, and the offers of a member reach who heals so late that it waits, and
 * holds what is deleted. */
static void lingers(struct sim *sim, struct sim_profile *p)
{
    counts(sim, p);
    p->wipe = 0;
    p->crash = p->lag = 1;
    p->down_max_us = 1500000;
    p->lag_max_us = 150000;
    p->lag_time_max_us = 1000000;
}

/* Values in pieces: slow uploads and readers, collectors that look often, nodes that come and go or
 * are removed alive. */
static void large(struct sim *sim, struct sim_profile *p)
{
    churn_sets(sim, p);
    p->node_count = 3 + 2 * (unsigned)sim_below(sim, 2);
    p->client_count = 4;
    p->window = 3;
    p->segment_size = 8192;
    p->segment_count = 24;
    p->pad_max = 40;
    p->safety_us = 6000000;
    p->operation_count = 500;
    p->think_us = 2 * p->safety_us * p->client_count / p->operation_count;
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
    p->lag_max_us = ONE_OF(sim, 20000, 100000, 300000);
    p->lag_time_max_us = 500000;
    p->fault_gap_us = ONE_OF(sim, 100000, 300000);
    p->down_max_us = ONE_OF(sim, 30000, 300000);
    p->pause_max_us = p->partition_max_us = ONE_OF(sim, 100000, 400000);
    p->round_us = 30000;
    p->suspect_us = p->lease_us = p->election_us = 60000;
    for (unsigned i = 0; i < REQUEST_EXPIRE; i++)
        p->weight[i] = 1;
    p->weight[REQUEST_SET] = 6;
    p->weight[REQUEST_GET] = 6;
    p->weight[REQUEST_ADD] = p->weight[REQUEST_CAS] = p->weight[REQUEST_DELETE] = 3;
    p->weight[REQUEST_FLUSH] = 0;
    p->flush_permille = (unsigned)ONE_OF(sim, 0, 0, 5);
}

/* Logs that hold about half of what the keys would take, each read and written at all nodes. */
static void evict(struct sim *sim, struct sim_profile *p)
{
    churn_sets(sim, p);
    p->node_count = 3 + 2 * (unsigned)sim_below(sim, 2);
    p->evicts = true;
    p->evict_above = (uint32_t)ONE_OF(sim, 600, 1200);
    p->segment_size = 4096;
    p->segment_count = (uint32_t)ONE_OF(sim, 4, 6, 9);
    p->pad_max = 150;
    p->key_count = SIM_KEY_MAX;
    p->window = 0;
    p->operation_count = 1200;
    p->safety_us = 6000000;
    p->client_count = 6;
    p->think_us = 2 * p->safety_us * p->client_count / p->operation_count;
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

/* ---- for the models in which a write is answered, or read, before it is durable ---- */

/* Slow media, and nodes that die when a round has just become stable: with what they have behind their marks. */
static void tails(struct sim *sim, struct sim_profile *p)
{
    lags(sim, p);
    brisk(p);
    p->node_count = 3;
    p->shard_count = 2;
    p->key_count = SIM_KEY_MAX;
    p->window = 0;
    p->skew_percent = 0;
    p->crash = 0;
    p->keep_majority = true;
    p->aim.stable_percent = 70;
    p->aim.tails = true;
    p->fault_gap_us = 30000;
    p->lag_max_us = 30000;
    p->lag_time_max_us = 300000;
    p->drain_min_us = 2000;
    p->drain_max_us = ONE_OF(sim, 10000, 40000);
    p->lag = 8;
    p->round_us = 30000;
    p->operation_count = 1000;
    p->safety_us = 6000000;
    p->think_us = 2 * p->safety_us * p->client_count / p->operation_count;
    p->down_max_us = 10000;
}

/* All nodes go down at once, again and again, with media so slow that only one of them still has what was answered last. */
static void dawn(struct sim *sim, struct sim_profile *p)
{
    power(sim, p);
    p->node_count = 3;
    p->key_count = 4;
    p->window = 0;
    p->skew_percent = 0;
    p->client_count = SIM_CLIENT_MAX;
    p->drain_min_us = 2000;
    p->drain_max_us = 40000;
    p->delay_min_us = 100;
    p->delay_max_us = ONE_OF(sim, 1000, 5000);
    p->view_delay_us = ONE_OF(sim, 500, 5000);
    p->round_us = 30000;
    p->operation_count = 2500;
    p->safety_us = 6000000;
    p->think_us = 3000;
    p->fault_gap_us = 300000;
    only(p, REQUEST_SET, REQUEST_SET, REQUEST_DELETE);
    p->weight[REQUEST_GET] = 9;
}

/* Readers who are not the owner and are stopped in the middle, while segments are used again, keys are flushed and expire, and
 * their node is removed and comes back. */
static void elsewhere(struct sim *sim, struct sim_profile *p)
{
    cuts(sim, p);
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
    p->suspect_us = p->lease_us = p->election_us = 40000;
    p->view_delay_us = 500;
    p->partition_max_us = p->pause_max_us = ONE_OF(sim, 150000, 300000);
    p->weight[REQUEST_GET] = 12;
    p->flush_permille = (unsigned)ONE_OF(sim, 0, 10);
    p->think_us = 2 * p->safety_us * p->client_count / p->operation_count;
}

/* The same in models that lose answers by it. */
static void blackout(struct sim *sim, struct sim_profile *p)
{
    dawn(sim, p);
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

/* The machines live on, so each index is taken over; conflicts, so that states other than VALID are left. */
static void kills(struct sim *sim, struct sim_profile *p)
{
    crashes(sim, p);
    p->only_kills = true;
    p->take_percent = 100;
    p->down_max_us = ONE_OF(sim, 5000, 20000, 300000);
}

static const struct scenario scenarios[] = {
    {"calm", "no faults at all", calm},
    {"conflicts", "many commands on two keys", conflicts},
    {"crashes", "conflicts, and nodes that crash and come back soon", crashes},
    {"power", "all nodes lose power at once", power},
    {"cuts", "partitions and pauses that outlast leases", cuts},
    {"deletes", "delete, add and set of two keys, fast rounds, a small log", deletes},
    {"deletes-and-crashes", "the same with crashes", deletes_and_crashes},
    {"cleaning", "a log that turns over, and power cuts", cleaning},
    {"churn-rmw", "read-modify-writes while nodes come and go at once", churn_rmw},
    {"churn-sets", "sets and deletes while nodes come and go at once", churn_sets},
    {"rejoin", "two of five nodes come and go all the time", rejoin},
    {"healing", "nodes that crash while others heal, on a slow network", healing},
    {"rot", "disks that are damaged or replaced", rot},
    {"reuse", "power goes right after a log segment is used again", reuse},
    {"wither", "keys that are deleted for good, in a log that turns over", wither},
    {"voids", "a node that keeps what the others forget", voids},
    {"orphans", "coordinators that die when one follower has their INV", orphans},
    {"lags", "links that become slow for a while, one way", lags},
    {"away", "nodes that are away for long, and slow links", away},
    {"recoil", "coordinators that die before anybody has their INV", recoil},
    {"turncoats", "followers that die when they have acknowledged", turncoats},
    {"counts", "what is newest is forgotten, while nodes and disks come and go", counts},
    {"lingers", "the same, and healing that has to wait", lingers},
    {"resets", "connections that break inside an epoch", resets},
    {"large", "values in pieces, and who collects what is left of them", large},
    {"evict", "stores that are full and make room", evict},
    {"elsewhere", "reads by other workers than the owner, who are stopped in the middle", elsewhere},
    {"meta", "meta commands: who wins, what is stale", meta},
    {"tails", "slow media, and nodes that die when a round is stable", tails},
    {"dawn", "all nodes go down, and one of them has what was answered last", dawn},
    {"kills", "processes that are killed in the middle of everything, and take over what they left", kills},
    {"blackout", "all nodes lose power, and with it what their model allows", blackout},
};

void sim_scenarios_print(FILE *file)
{
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
        fprintf(file, "  %-20s %s\n", scenarios[i].name, scenarios[i].text);
}

bool sim_scenario_narrow(struct sim *sim, const char *name, struct sim_profile *p)
{
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        if (strcmp(name, scenarios[i].name) != 0)
            continue;
        scenarios[i].narrow(sim, p);
        return true;
    }
    return false;
}
