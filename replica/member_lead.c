/* member_lead.c: what the leader of the agreed log does for the group: leases, and views. All
 * changes are in one VIEW: who joins, who has healed, and who is removed:
 *  - a node whose newer incarnation asks to join: the old one is dead;
 *  - whom member_suspect.c finds. A node dropped on suspicion twice within ten seconds waits before
 *    it is let in again, twice as long each time. */
#include "replica/member_lead.h"

#include <string.h>

#include "base/fault.h"

enum {
    JOIN_FRESH_US = 4 * MEMBER_JOIN_US,
    FLAP_US = 10000000,
    BACKOFF_MAX = 64, /* times 2 suspect_us */
};

/* ---- what the leader may believe ---- */

/* When a majority last surely called this node leader: the sending time of the BEAT that completes
 * it. 0: not yet. */
static uint64_t contact_us(const struct member *member, uint64_t now_us)
{
    unsigned needed = node_count(member->options.configured) / 2 + 1;
    uint64_t newest = UINT64_MAX;
    uint8_t counted = 0;
    for (unsigned i = 0; i < needed; i++) {
        unsigned best = 0;
        uint64_t best_us = 0;
        for (unsigned node = 1; node < MEMBER_LIMIT; node++) {
            uint64_t us = node == member->options.self ? now_us : member->peers[node].echo_us;
            if ((member->options.configured & node_bit(node) & ~counted) != 0 && us > best_us) {
                best = node;
                best_us = us;
            }
        }
        if (best == 0)
            return 0;
        counted |= node_bit(best);
        newest = best_us;
    }
    return newest;
}

/* Invariant 3. */
static bool contact_fresh(const struct member *member, uint64_t now_us)
{
    uint64_t contact = contact_us(member, now_us);
    return contact != 0 && now_us - contact <= member->options.election_us;
}

/* Members of the active view that `next` does not have under the same incarnation. */
static uint8_t leavers_of(const struct member *member, const struct view *next)
{
    const struct view *active = &member->agreed.active;
    uint8_t leavers = 0;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if ((active->members & node_bit(node)) != 0 &&
            !view_admits(next, node, active->incarnation[node]))
            leavers |= node_bit(node);
    return leavers;
}

static bool leaves(const struct member *member, unsigned node)
{
    uint8_t leavers = 0;
    if (member->agreed.pending.epoch != 0)
        leavers |= leavers_of(member, &member->agreed.pending);
    if (member->proposed.kind == MEMBER_VIEW)
        leavers |= leavers_of(member, &member->proposed.next);
    return (leavers & node_bit(node)) != 0;
}

/* The incarnation of `node` that was admitted last is no more: a newer one asks to join. */
static bool surely_dead(const struct member *member, unsigned node)
{
    const struct member_snapshot *agreed = &member->agreed;
    if (node == member->options.self)
        return member->incarnation != agreed->admitted[node];
    return member->peers[node].join_incarnation > agreed->admitted[node];
}

static bool heard_within(const struct member *member, unsigned node, uint64_t now_us,
                         uint64_t within_us)
{
    if (node == member->options.self)
        return !surely_dead(member, node);
    uint64_t alive_us = member->peers[node].alive_us;
    return alive_us != 0 && !surely_dead(member, node) && now_us - alive_us <= within_us;
}

/* It may live: nobody may start the group over its head. */
static bool maybe_alive(const struct member *member, unsigned node, uint64_t now_us)
{
    return heard_within(member, node, now_us,
                        member->options.suspect_us + member->options.lease_us);
}

/* It lives, so others may go: it is one that holds everything. A member asks for its lease several
 * times in each; who has not may be down, and come back without its disk. Nobody is removed for
 * it: the others only stay until it is heard again. */
static bool surely_alive(const struct member *member, unsigned node, uint64_t now_us)
{
    uint64_t within_us = member->options.lease_us;
    if (FAULT(ALIVE_LONG_AGO))
        within_us += 2 * member->options.suspect_us;
    return heard_within(member, node, now_us, within_us);
}

/* It asks to join, is there, and may be admitted as far as its data lanes tell. */
static bool asks_to_join(const struct member *member, unsigned node, uint64_t now_us)
{
    const struct member_peer *peer = &member->peers[node];
    if (node ==
        member->options
            .self) /* join_incarnation: what it says of itself is recorded when it is sent */
        return member->incarnation != 0 && member->incarnation == peer->join_incarnation &&
               member->incarnation > member->agreed.admitted[node];
    return (member->options.configured & node_bit(node)) != 0 && peer->join_us != 0 &&
           peer->join_incarnation > member->agreed.admitted[node] &&
           now_us - peer->join_us <= JOIN_FRESH_US &&
           !member_silent(member, node, now_us, member->options.suspect_us);
}

static uint8_t joining_nodes(const struct member *member, uint64_t now_us)
{
    uint8_t nodes = 0;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if (asks_to_join(member, node, now_us))
            nodes |= node_bit(node);
    return nodes;
}

/* ---- leases ---- */

static bool may_grant(const struct member *member, unsigned node, uint64_t incarnation,
                      uint64_t now_us)
{
    const struct view *active = &member->agreed.active;
    if (!member->leading || !contact_fresh(member, now_us))
        return false;
    if (FAULT(GRANT_OLD) && leaves(member, node))
        return true;
    return (active->members & node_bit(node)) != 0 && active->incarnation[node] == incarnation &&
           !leaves(member, node);
}

void member_on_lease_ask(struct member *member, unsigned from, const struct member_message *message,
                         uint64_t now_us, const struct member_actions *actions)
{
    struct member_peer *peer = &member->peers[from];
    if (view_admits(&member->agreed.active, from, message->incarnation))
        peer->alive_us = now_us;
    if (!may_grant(member, from, message->incarnation, now_us))
        return;
    if (!FAULT(GRANT_OLD) || !leaves(member, from))
        peer->grant_us = now_us;
    struct member_message grant = {.type = MEMBER_LEASE_GRANT,
                                   .epoch = member->agreed.active.epoch,
                                   .incarnation = message->incarnation,
                                   .stamp_us = message->stamp_us,
                                   .lease_us = member->options.lease_us};
    actions->send(actions->user, from, &grant);
}

static void grant_self(struct member *member, uint64_t now_us)
{
    unsigned self = member->options.self;
    if (!may_grant(member, self, member->incarnation, now_us))
        return;
    member->peers[self].grant_us = now_us;
    member_take_lease(member, now_us, member->options.lease_us);
}

void member_on_echo(struct member *member, unsigned from, uint64_t stamp_us)
{
    struct member_peer *peer = &member->peers[from];
    if (member->role_leader == member->options.self && stamp_us >= member->lead_since_us &&
        stamp_us <= member->beat_us && stamp_us > peer->echo_us)
        peer->echo_us = stamp_us;
}

static void beat(struct member *member, uint64_t now_us, const struct member_actions *actions)
{
    uint64_t every_us = member->options.lease_us / 3;
    if (every_us > member->options.election_us / 4)
        every_us = member->options.election_us / 4;
    if (now_us - member->beat_us < every_us)
        return;
    member->beat_us = now_us;
    struct member_message message = {.type = MEMBER_BEAT, .stamp_us = now_us};
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if (node != member->options.self && (member->options.configured & node_bit(node)) != 0)
            actions->send(actions->user, node, &message);
}

/* Invariant 5: no member that leaves with the pending view can hold a lease any more. */
static bool leavers_gone(const struct member *member, uint64_t now_us)
{
    const struct member_options *options = &member->options;
    uint64_t lease_us = options->lease_us + 2 * options->lease_us * options->drift_ppm / 1000000;
    uint64_t former_us = options->lease_us + options->election_us;
    former_us += 3 * former_us * options->drift_ppm / 1000000 + 1;
    uint8_t leavers = leavers_of(member, &member->agreed.pending);
    for (unsigned node = 1; node < MEMBER_LIMIT; node++) {
        const struct member_peer *peer = &member->peers[node];
        uint64_t old = member->agreed.active.incarnation[node];
        if ((leavers & node_bit(node)) == 0 || FAULT(NO_LEASE_WAIT))
            continue;
        if (node == options->self ? member->incarnation != old : peer->join_incarnation > old)
            continue;
        if (peer->grant_us != 0 && now_us - peer->grant_us <= lease_us)
            return false;
        if (!FAULT(LEADER_EARLY) && now_us - member->lead_since_us <= former_us)
            return false;
    }
    return true;
}

/* ---- views ---- */

static void propose(struct member *member, const struct member_entry *entry, uint64_t now_us,
                    const struct member_actions *actions)
{
    member->proposed = *entry;
    member->proposed_us = now_us;
    actions->propose(actions->user, entry);
}

static struct member_entry entry_make(const struct member *member, enum member_entry_kind kind)
{
    struct member_entry entry;
    memset(&entry, 0, sizeof(entry));
    entry.kind = (uint8_t)kind;
    entry.leader = (uint8_t)member->options.self;
    entry.lead = member->lead;
    entry.incarnation = member->options.incarnation;
    return entry;
}

static void admit(const struct member *member, struct view *next, unsigned node, bool as_member)
{
    if (as_member)
        next->members |= node_bit(node);
    else
        next->healing |= node_bit(node);
    next->incarnation[node] =
        node == member->options.self ? member->incarnation : member->peers[node].join_incarnation;
}

static void drop(struct view *next, unsigned node)
{
    next->members &= (uint8_t)~node_bit(node);
    next->healing &= (uint8_t)~node_bit(node);
    next->incarnation[node] = 0;
}

static void view_of(const struct member *member, uint8_t members, uint32_t epoch, struct view *next)
{
    memset(next, 0, sizeof(*next));
    next->epoch = epoch;
    next->configured = member->options.configured;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if ((members & node_bit(node)) != 0)
            admit(member, next, node, true);
}

/* The operator's choice, if one of those that ask to join carries it. */
static uint8_t forced_members(const struct member *member, uint8_t joining, uint64_t now_us)
{
    const struct view *active = &member->agreed.active;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if ((active->members & node_bit(node)) != 0 && maybe_alive(member, node, now_us))
            return 0;
    if (now_us - member->lead_applied_us < member->options.boot_grace_us)
        return 0;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++) {
        uint8_t force = member->peers[node].join_force & member->options.configured;
        if ((joining & node_bit(node)) != 0 && force != 0 && (force & ~joining) == 0)
            return force;
    }
    return 0;
}

/* Of those that ask to join, the nodes whose logs remember the newest epoch and are whole: a log
 * that has lost something counts in the choice of the epoch, but not as one to begin with. */
static uint8_t newest_logs(const struct member *member, uint8_t joining, uint32_t *epoch)
{
    uint8_t newest = 0;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++) {
        const struct member_peer *peer = &member->peers[node];
        if ((joining & node_bit(node)) == 0 || peer->join_epoch < *epoch)
            continue;
        newest = peer->join_epoch > *epoch ? 0 : newest;
        newest |= peer->join_blank && peer->join_epoch > 0 ? 0 : node_bit(node);
        *epoch = peer->join_epoch;
    }
    return newest;
}

/* No view was ever agreed. A majority alone may be one that has lost its disks while the node that
 * is away holds what they had acknowledged: with durable logs all are waited for. Logs may still
 * remember one (the agreed log was lost): then only the newest of them count. */
static bool first_start(const struct member *member, uint8_t joining, uint64_t now_us,
                        struct view *next)
{
    uint8_t configured = member->options.configured, forced;
    uint32_t epoch = 0;
    uint8_t newest = newest_logs(member, joining, &epoch);
    forced = forced_members(member, joining, now_us);
    bool late = member->options.boot_by_majority &&
                now_us - member->lead_since_us >= member->options.boot_grace_us && epoch == 0 &&
                2 * node_count(joining) > node_count(configured);
    if (forced == 0 && ((joining != configured && !late) || newest == 0))
        return false;
    view_of(member, forced != 0 ? forced : newest, epoch + 1, next);
    return true;
}

/* Of the members of the active view: dead ones that hold data, and dead ones that do not. */
static void sort_dead(const struct member *member, uint8_t *holders, uint8_t *blanks)
{
    *holders = *blanks = 0;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++) {
        if ((member->agreed.active.members & node_bit(node)) == 0 || !surely_dead(member, node))
            continue;
        if (node == member->options.self ? member->options.blank : member->peers[node].join_blank)
            *blanks |= node_bit(node);
        else
            *holders |= node_bit(node);
    }
}

/* Invariant 7. */
static bool cold_start(const struct member *member, uint64_t now_us, struct view *next)
{
    const struct view *active = &member->agreed.active;
    uint8_t joining = joining_nodes(member, now_us), holders, blanks;
    if (active->epoch == 0)
        return first_start(member, joining, now_us, next);
    uint8_t members = forced_members(member, joining, now_us);
    sort_dead(member, &holders, &blanks);
    if (members == 0 && (holders | blanks) == active->members && (holders & ~joining) == 0)
        members = holders;
    if (FAULT(COLD_ANY) && (holders & joining) != 0)
        members = holders & joining;
    if (members == 0)
        return false;
    view_of(member, members, active->epoch + 1, next);
    return true;
}

static bool may_enter(const struct member *member, unsigned node, uint64_t now_us)
{
    const struct member_peer *peer = &member->peers[node];
    return asks_to_join(member, node, now_us) &&
           (peer->dropped_us == 0 || now_us - peer->dropped_us >= peer->backoff_us);
}

/* Everything that is due at once: who goes, who has healed, who comes. False: nothing, or it may
 * not be (invariant 6). */
static bool next_view(const struct member *member, uint8_t dropped, uint64_t now_us,
                      struct view *next)
{
    const struct view *active = &member->agreed.active;
    *next = *active;
    next->epoch++;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if ((view_nodes(active) & node_bit(node)) != 0 &&
            ((dropped & node_bit(node)) != 0 || surely_dead(member, node)))
            drop(next, node);
    uint8_t promoted = member->healed & next->healing;
    next->members |= promoted;
    next->healing &= (uint8_t)~promoted;
    bool kept = false;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if ((next->members & node_bit(node)) != 0 && surely_alive(member, node, now_us))
            kept = true;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if ((view_nodes(next) & node_bit(node)) == 0 && may_enter(member, node, now_us))
            admit(member, next, node, false);
    struct view same = *next;
    same.epoch--;
    return kept && memcmp(&same, active, sizeof(same)) != 0;
}

static void note_drops(struct member *member, const struct view *next, uint8_t dropped,
                       uint64_t now_us)
{
    uint64_t base_us = 2 * member->options.suspect_us;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++) {
        struct member_peer *peer = &member->peers[node];
        if ((dropped & node_bit(node)) == 0 || (view_nodes(next) & node_bit(node)) != 0 ||
            surely_dead(member, node))
            continue;
        bool again =
            peer->dropped_us != 0 && now_us - peer->dropped_us < FLAP_US + peer->backoff_us;
        peer->backoff_us = !again ? 0 : peer->backoff_us == 0 ? base_us : 2 * peer->backoff_us;
        if (peer->backoff_us > BACKOFF_MAX * base_us)
            peer->backoff_us = BACKOFF_MAX * base_us;
        peer->dropped_us = now_us;
    }
}

static void plan(struct member *member, uint64_t now_us, const struct member_actions *actions)
{
    struct member_entry entry = entry_make(member, MEMBER_VIEW);
    if (cold_start(member, now_us, &entry.next)) {
        entry.cold = 1;
        propose(member, &entry, now_us, actions);
        return;
    }
    if (member->agreed.active.epoch == 0)
        return;
    uint8_t dropped = member_culprits(member, now_us);
    if (!next_view(member, dropped, now_us, &entry.next))
        return;
    note_drops(member, &entry.next, dropped, now_us);
    propose(member, &entry, now_us, actions);
}

/* ---- the leader's turn ---- */

void member_lead_begin(struct member *member, uint64_t now_us, const struct member_actions *actions)
{
    member->lead++;
    member->lead_since_us = now_us;
    member->beat_us = 0;
    member->healed = 0;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++) {
        struct member_peer *peer = &member->peers[node];
        peer->grant_us = peer->echo_us = peer->alive_us = 0;
        memset(peer->reports, 0, sizeof(peer->reports));
    }
    struct member_entry entry = entry_make(member, MEMBER_LEAD);
    propose(member, &entry, now_us, actions);
    member_lead_work(member, now_us, actions);
}

void member_lead_work(struct member *member, uint64_t now_us, const struct member_actions *actions)
{
    if (member->role_leader != member->options.self)
        return;
    beat(member, now_us, actions);
    grant_self(member, now_us);
    if (member->proposed.kind != 0) {
        if (now_us - member->proposed_us >= 2 * member->options.election_us) {
            member->proposed_us = now_us;
            actions->propose(actions->user, &member->proposed);
        }
        return;
    }
    if (!member->leading) { /* an older LEAD came in between */
        member_lead_begin(member, now_us, actions);
        return;
    }
    if (member->agreed.pending.epoch == 0) {
        plan(member, now_us, actions);
    } else if (leavers_gone(member, now_us)) {
        struct member_entry entry = entry_make(member, MEMBER_ACTIVATE);
        entry.next.epoch = member->agreed.pending.epoch;
        propose(member, &entry, now_us, actions);
    }
}

uint8_t member_awaits(const struct member *member, bool *all_blank)
{
    const struct view *active = &member->agreed.active;
    uint64_t now_us = member->ticked_us;
    uint8_t joining = joining_nodes(member, now_us), holders, blanks;
    *all_blank = false;
    if (!member->leading || member->agreed.pending.epoch != 0)
        return 0;
    if (active->epoch == 0) {
        uint32_t epoch = 0;
        *all_blank =
            joining == member->options.configured && newest_logs(member, joining, &epoch) == 0;
        return member->options.configured & (uint8_t)~joining;
    }
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if ((active->members & node_bit(node)) != 0 && maybe_alive(member, node, now_us))
            return 0;
    sort_dead(member, &holders, &blanks);
    *all_blank = blanks == active->members;
    return active->members & (uint8_t) ~(blanks | (holders & joining));
}
