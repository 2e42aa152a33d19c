/* The one who breaks things, and in the end mends them. What it breaks must be survivable: never is
 * the last good copy of something acknowledged destroyed. Everything else may fail at once, in any
 * number. */
#include <inttypes.h>

#include "t/sim.h"

static unsigned any_node(struct sim *sim)
{
    return 1 + (unsigned)sim_below(sim, sim->profile.node_count);
}

static unsigned any_victim(struct sim *sim)
{
    unsigned node = any_node(sim);
    while (sim->profile.victims != 0 && (sim->profile.victims & node_bit(node)) == 0)
        node = any_node(sim);
    return node;
}

static void start_at(struct sim *sim, unsigned node, uint64_t at)
{
    struct sim_event *event = sim_at(sim, at, SIM_EVENT_START);
    event->a = (uint8_t)node;
    event->generation = sim->nodes[node].life;
}

static bool is_member(const struct sim *sim, unsigned node)
{
    return (sim->newest.members & node_bit(node)) != 0;
}

/* A member whose disk is gone may not become the last of the group: while it counts as a member,
 * nothing else fails. */
bool sim_fragile(struct sim *sim)
{
    if (sim->fragile != 0 && (!is_member(sim, sim->fragile) ||
                              sim->newest.incarnation[sim->fragile] > sim->fragile_incarnation))
        sim->fragile = 0;
    return sim->fragile != 0;
}

bool sim_view_is_changing(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->proposal_count; i++)
        if (!sim->proposals[i]->settled && sim->proposals[i]->entry.kind == MEMBER_VIEW)
            return true;
    for (uint32_t i = 0; i < sim->log_count; i++)
        if (sim->log[i].kind == MEMBER_VIEW && sim->log[i].next.epoch > sim->newest.epoch)
            return true;
    return false;
}

/* Every other member is sound and well, and stays in the view. */
static bool may_damage(const struct sim *sim, unsigned node)
{
    unsigned others = 0;
    if (sim_view_is_changing(sim) || !sim_model_may_lose_power(sim, node))
        return false;
    for (unsigned other = 1; other <= sim->profile.node_count; other++) {
        const struct sim_node *n = &sim->nodes[other];
        if (n->damaged || (n->rotten && other != node) || n->blocked_from != 0)
            return false;
        if (other == node || !is_member(sim, other))
            continue;
        if (!sim_running(sim, other) || sim->newest.incarnation[other] != n->incarnation)
            return false;
        others++;
    }
    return others > 0;
}

static void crash_now(struct sim *sim, unsigned node)
{
    if (!sim->nodes[node].up)
        return;
    sim_node_crash(sim, node);
    start_at(sim, node, sim->now + 1000 + sim_below(sim, sim->profile.down_max_us));
}

static bool too_many(const struct sim *sim, unsigned node)
{
    unsigned well = 0;
    for (unsigned other = 1; other <= sim->profile.node_count; other++)
        well += other != node && sim_running(sim, other);
    return sim->profile.keep_majority && sim->profile.node_count > 1 &&
           2 * well <= sim->profile.node_count;
}

static void guard(struct sim *sim, unsigned node)
{
    if (!is_member(sim, node))
        return;
    sim->fragile = node;
    sim->fragile_incarnation = sim->nodes[node].incarnation;
}

static void crash(struct sim *sim, unsigned node)
{
    if (!too_many(sim, node))
        crash_now(sim, node);
}

static bool any_rotten(const struct sim *sim)
{
    for (unsigned node = 1; node <= sim->profile.node_count; node++)
        if (sim->nodes[node].rotten)
            return true;
    return false;
}

static void damage(struct sim *sim, unsigned node, bool wipe)
{
    if (!may_damage(sim, node))
        return;
    guard(sim, node);
    crash_now(sim, node);
    sim->nodes[node].damaged = true;
    sim->nodes[node].rotten |= !wipe;
    for (unsigned shard = 0; shard < sim->profile.shard_count; shard++) {
        if (wipe)
            sim_medium_wipe(sim->nodes[node].shards[shard].medium);
        else if (shard == 0 || sim_chance(sim, 50))
            sim_medium_corrupt(sim->nodes[node].shards[shard].medium);
    }
    if (wipe)
        sim->wipes++;
    else
        sim->corruptions++;
    sim_note(sim, node, "%u: disk %s", node, wipe ? "wiped" : "damaged");
}

static void power_cut(struct sim *sim)
{
    if (any_rotten(sim))
        return;
    sim->power_cuts++;
    sim_note(sim, 0, "power cut");
    for (unsigned node = 1; node <= sim->profile.node_count; node++)
        crash_now(sim, node);
}

static void pause_node(struct sim *sim)
{
    unsigned node = any_victim(sim);
    if (!sim_running(sim, node) || too_many(sim, node))
        return;
    sim->pauses++;
    sim_node_pause(sim, node, sim->now + 1000 + sim_below(sim, sim->profile.pause_max_us));
}

static void reset(struct sim *sim)
{
    unsigned a = any_node(sim), b = any_node(sim);
    if (a == b)
        return;
    sim->resets++;
    /* one draw a statement: the order of arguments is the compiler's */
    bool keep_some = sim_chance(sim, 50);
    unsigned shard = (unsigned)sim_below(sim, sim->profile.shard_count);
    sim_network_reset(sim, shard, a, b, keep_some);
}

/* Splits the nodes in two sides; `one_way`: one side still hears the other. */
static void partition(struct sim *sim, bool one_way)
{
    uint8_t side = (uint8_t)sim_between(sim, 1, sim->configured - 1u);
    if (sim_chance(sim, 50))
        side = node_bit(any_node(sim));
    sim->partitions++;
    sim_note(sim, side, "partition: %02x is cut off%s", side, one_way ? ", one way" : "");
    for (unsigned node = 1; node <= sim->profile.node_count; node++) {
        bool inside = (side & node_bit(node)) != 0;
        uint8_t others = inside ? (uint8_t)(sim->configured & ~side) : side;
        if (!one_way || inside)
            sim->nodes[node].blocked_from |= others;
    }
    sim_at(sim, sim->now + 1000 + sim_below(sim, sim->profile.partition_max_us), SIM_EVENT_HEAL);
}

void sim_nemesis_heal(struct sim *sim)
{
    bool broken = sim_chance(sim, 50);
    sim_note(sim, broken, "partitions end");
    for (unsigned node = 1; node <= sim->profile.node_count; node++) {
        uint8_t blocked = sim->nodes[node].blocked_from;
        sim->nodes[node].blocked_from = 0;
        for (unsigned peer = 1; peer <= sim->profile.node_count && broken; peer++)
            for (unsigned shard = 0;
                 shard < sim->profile.shard_count && (blocked & node_bit(peer)) != 0; shard++)
                if (peer != node)
                    sim_network_reset(sim, shard, node, peer, true);
    }
    for (unsigned node = 1; node <= sim->profile.node_count; node++)
        sim_network_wake(sim, node);
}

static void wall_jump(struct sim *sim)
{
    struct sim_node *n = &sim->nodes[any_node(sim)];
    n->wall_offset += (int64_t)sim_below(sim, 4000000) - 2000000;
    sim_note(sim, (uint64_t)n->wall_offset, "%u: wall clock is now off by %" PRId64 " us", n->id,
             n->wall_offset);
}

static void lag(struct sim *sim)
{
    unsigned from = any_node(sim), to = any_node(sim);
    struct sim_channel *channel =
        &sim->channels[sim_below(sim, sim->profile.shard_count)][from][to];
    channel->lag_us = 1000 + sim_below(sim, sim->profile.lag_max_us);
    channel->lag_until = sim->now + sim_below(sim, sim->profile.lag_time_max_us);
    sim_note(sim, channel->lag_us, "%u to %u takes %" PRIu64 " us longer for a while", from, to,
             channel->lag_us);
}

void sim_nemesis_crash(struct sim *sim, unsigned node, bool silent)
{
    if (sim->settling || sim_fragile(sim) || !sim->nodes[node].up)
        return;
    sim->silent_death = silent;
    crash(sim, node);
    sim->silent_death = false;
}

static void strike(struct sim *sim)
{
    const struct sim_profile *p = &sim->profile;
    const unsigned weights[] = {p->crash, p->wipe,      p->corrupt, p->power_cut, p->pause,
                                p->reset, p->partition, p->one_way, p->wall_jump, p->lag};
    unsigned total = 0, kind = 0;
    for (unsigned i = 0; i < sizeof(weights) / sizeof(weights[0]); i++)
        total += weights[i];
    if (total == 0)
        return;
    uint64_t draw = sim_below(sim, total);
    while (draw >= weights[kind])
        draw -= weights[kind++];
    switch (kind) {
    case 0:
        crash(sim, any_victim(sim));
        break;
    case 1:
    case 2:
        damage(sim, any_node(sim), kind == 1);
        break;
    case 3:
        power_cut(sim);
        break;
    case 4:
        pause_node(sim);
        break;
    case 5:
        reset(sim);
        break;
    case 6:
    case 7:
        partition(sim, kind == 7);
        break;
    case 8:
        wall_jump(sim);
        break;
    default:
        lag(sim);
        break;
    }
}

void sim_nemesis_next(struct sim *sim)
{
    if (sim->settling)
        return;
    if (!sim_fragile(sim))
        strike(sim);
    sim_at(sim, sim->now + 1 + sim_below(sim, 2 * sim->profile.fault_gap_us), SIM_EVENT_FAULT);
}

void sim_nemesis_end(struct sim *sim)
{
    sim->settling = true;
    sim_note(sim, 1, "---- faults end ----");
    sim_nemesis_heal(sim);
    for (unsigned node = 1; node <= sim->profile.node_count; node++)
        if (!sim->nodes[node].up)
            start_at(sim, node, sim->now + sim_below(sim, 100000));
}
