/* The oracle in place of raft: one agreed log; a leader that a majority follows; entries reach each
 * node in order, each at its own time. It keeps what raft promises and no more: proposals may be
 * lost, a deposed leader's last proposals may be committed by its successor, and a leader that was
 * cut off or paused believes in itself for a while.
 *
 * A node is told that it leads only after a majority was told that the former leader does not
 * (member_role). */
#include <assert.h>
#include <stdlib.h>

#include "t/sim.h"

enum { TURN_US = 5000 };

static bool in_touch(const struct sim *sim, unsigned a, unsigned b)
{
    return a == b || (sim_running(sim, a) && sim_running(sim, b) && sim_reaches(sim, a, b) &&
                      sim_reaches(sim, b, a));
}

static uint8_t reached_by(const struct sim *sim, unsigned node)
{
    uint8_t set = 0;
    if (!sim_running(sim, node))
        return 0;
    for (unsigned other = 1; other <= sim->profile.node_count; other++)
        if (in_touch(sim, node, other))
            set |= node_bit(other);
    return set;
}

static bool majority(const struct sim *sim, uint8_t set)
{
    return 2 * (unsigned)__builtin_popcount(set) > sim->profile.node_count;
}

static void tell_role(struct sim *sim, unsigned node, unsigned leader)
{
    struct sim_node *n = &sim->nodes[node];
    if (n->leader == leader)
        return;
    n->leader = leader;
    sim_note(sim, node * 8 + leader, "%u: the leader is %u", node, leader);
    struct member_actions actions = sim_node_actions(sim, node);
    member_role(&n->member, leader, sim_mono(sim, node), &actions);
}

static void append(struct sim *sim, const struct member_entry *entry)
{
    if (sim->log_count == sim->log_room) {
        sim->log_room = sim->log_room == 0 ? 64 : 2 * sim->log_room;
        sim->log = realloc(sim->log, sim->log_room * sizeof(*sim->log));
        assert(sim->log != NULL);
    }
    sim->log[sim->log_count++] = *entry;
    sim_note(sim, entry->kind * 1000 + entry->next.epoch,
             "committed %u: kind %u by %u lead %u epoch %u members %02x healing %02x",
             sim->log_count, entry->kind, entry->leader, entry->lead, entry->next.epoch,
             entry->next.members, entry->next.healing);
}

/* Applies some of what the node lacks; `all`: nothing is left out. */
static void apply(struct sim *sim, unsigned node, bool all)
{
    struct sim_node *n = &sim->nodes[node];
    struct member_actions actions = sim_node_actions(sim, node);
    while (n->applied < sim->log_count && (all || !sim_chance(sim, 30))) {
        const struct member_entry *entry = &sim->log[n->applied++];
        member_applied(&n->member, entry, sim_mono(sim, node), &actions);
    }
    sim_check_view(sim, node);
}

static void forget_proposals(struct sim *sim, unsigned term)
{
    for (unsigned i = 0; i < sim->proposal_count; i++)
        if (sim->proposals[i]->term <= term)
            sim->proposals[i]->settled = true;
}

/* What the old leader had sent to some: the new one may have it. */
static void inherit_proposals(struct sim *sim)
{
    for (unsigned i = 0; i < sim->proposal_count; i++) {
        struct sim_proposal *proposal = sim->proposals[i];
        if (!proposal->settled && sim_chance(sim, 50))
            append(sim, &proposal->entry);
    }
    forget_proposals(sim, sim->term);
}

static void elect(struct sim *sim, unsigned candidate, uint8_t voters)
{
    inherit_proposals(sim);
    sim->term++;
    for (unsigned node = 1; node <= sim->profile.node_count; node++)
        if ((voters & node_bit(node)) != 0)
            tell_role(sim, node, 0);
    sim->leader = candidate;
    sim->nodes[candidate].contact_us = sim->now;
    sim_note(sim, candidate, "elected %u, term %u, by %02x", candidate, sim->term, voters);
    tell_role(sim, candidate, candidate);
}

/* A node that heard nothing of a leader for long enough stands; who votes heard nothing either
 * (pre-vote). */
static void stand(struct sim *sim, unsigned node)
{
    struct sim_node *n = &sim->nodes[node];
    uint64_t patience = sim->profile.election_us + sim_below(sim, sim->profile.election_us);
    uint8_t voters = 0;
    if (!sim_running(sim, node) || sim->now - n->contact_us < patience)
        return;
    for (unsigned other = 1; other <= sim->profile.node_count; other++)
        if (in_touch(sim, node, other) &&
            sim->now - sim->nodes[other].contact_us >= sim->profile.election_us)
            voters |= node_bit(other);
    if (majority(sim, voters))
        elect(sim, node, voters);
}

static void lead(struct sim *sim)
{
    uint8_t reached = reached_by(sim, sim->leader);
    if (!majority(sim, reached))
        return;
    for (unsigned node = 1; node <= sim->profile.node_count; node++) {
        if ((reached & node_bit(node)) == 0)
            continue;
        sim->nodes[node].contact_us = sim->now;
        tell_role(sim, node, sim->leader);
        apply(sim, node, false);
    }
}

/* Who believes to lead without a majority gives up after the election time; so do followers of such
 * a one. */
static void doubt(struct sim *sim, unsigned node)
{
    struct sim_node *n = &sim->nodes[node];
    if (sim_running(sim, node) && n->leader != 0 &&
        sim->now - n->contact_us >= 2 * sim->profile.election_us) {
        if (n->leader == node && sim->leader == node)
            sim->leader = 0;
        tell_role(sim, node, 0);
    }
}

void sim_consensus_turn(struct sim *sim)
{
    if (sim->leader != 0)
        lead(sim);
    for (unsigned node = 1; node <= sim->profile.node_count; node++) {
        doubt(sim, node);
        stand(sim, node);
    }
    sim_at(sim, sim->now + sim_between(sim, TURN_US / 2, TURN_US), SIM_EVENT_CONSENSUS);
}

void sim_consensus_propose(struct sim *sim, unsigned node, const struct member_entry *entry)
{
    sim_note(sim, entry->kind * 8 + node, "%u: proposes kind %u epoch %u members %02x healing %02x",
             node, entry->kind, entry->next.epoch, entry->next.members, entry->next.healing);
    if (sim->leader != node ||
        sim->proposal_count == sizeof(sim->proposals) / sizeof(sim->proposals[0]))
        return;
    struct sim_proposal *proposal = calloc(1, sizeof(*proposal));
    assert(proposal != NULL);
    *proposal = (struct sim_proposal){.entry = *entry, .by = node, .term = sim->term};
    sim->proposals[sim->proposal_count++] = proposal;
    sim_at(sim, sim->now + sim_between(sim, 500, 6000), SIM_EVENT_COMMIT)->pointer = proposal;
}

static void drop_proposal(struct sim *sim, struct sim_proposal *proposal)
{
    unsigned at = 0;
    while (sim->proposals[at] != proposal)
        at++;
    sim->proposal_count--;
    for (; at < sim->proposal_count; at++)
        sim->proposals[at] = sim->proposals[at + 1];
    free(proposal);
}

void sim_consensus_commit(struct sim *sim, struct sim_proposal *proposal)
{
    bool lives = !proposal->settled && proposal->term == sim->term && sim->leader == proposal->by;
    if (lives && !majority(sim, reached_by(sim, sim->leader))) {
        /* Stays unsettled until there is a majority again or another leader. */
        sim_at(sim, sim->now + TURN_US, SIM_EVENT_COMMIT)->pointer = proposal;
        return;
    }
    if (lives) {
        append(sim, &proposal->entry);
        apply(sim, sim->leader, true);
    }
    drop_proposal(sim, proposal);
}

void sim_consensus_start(struct sim *sim, unsigned node)
{
    struct sim_node *n = &sim->nodes[node];
    struct member_actions actions = sim_node_actions(sim, node);
    n->leader = 0;
    n->contact_us = sim->now;
    uint32_t known = n->durable_applied;
    n->applied = 0;
    if (known > 0 && sim_chance(sim, 50)) { /* from a snapshot */
        struct member scratch;
        struct member_snapshot snapshot;
        struct member_options options = n->member.options;
        struct member_actions quiet = sim_node_actions(sim, 0);
        member_init(&scratch, &options);
        for (uint32_t i = 0; i < known; i++)
            member_applied(&scratch, &sim->log[i], sim_mono(sim, node), &quiet);
        member_snapshot(&scratch, &snapshot);
        member_restore(&n->member, &snapshot, sim_mono(sim, node), &actions);
        n->applied = known;
    }
}

void sim_consensus_stop(struct sim *sim, unsigned node)
{
    struct sim_node *n = &sim->nodes[node];
    n->durable_applied = (uint32_t)sim_below(sim, n->applied + 1);
    if (sim->leader == node)
        sim->leader = 0;
}

void sim_consensus_free(struct sim *sim)
{
    for (unsigned i = 0; i < sim->proposal_count; i++)
        free(sim->proposals[i]);
    free(sim->log);
}
