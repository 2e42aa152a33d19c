/* member_suspect.c: whom the leader removes from the view because others cannot work with it:
 *  - a node that this leader has not heard for suspect_us, if it hears a majority of the configured
 *    nodes (else it may itself be the one that is cut off, and waits four times as long);
 *  - a node that more than half of the members complain about; the leader too: it stays leader,
 *    without being a member;
 *  - a healing node that any member complains about: to begin again costs it little, to wait for it
 *    costs everybody;
 *  - if none of these: one of a pair that do not reach each other, when the complaint has stood for
 *    2 suspect_us, as writes stand still until one of them goes: the one with more complaints, else
 *    the higher id; never the leader. */
#include "replica/member_lead.h"

enum { SLOW_HOLD_US = 1000000 }; /* a shard repeats its complaint at least so often */

void member_on_healed(struct member *member, unsigned from, uint32_t epoch, uint64_t incarnation,
                      uint64_t now_us)
{
    const struct view *active = &member->agreed.active;
    if (epoch != active->epoch || !view_admits(active, from, incarnation))
        return;
    member->peers[from].alive_us = now_us;
    member->healed |= node_bit(from) & active->healing;
}

void member_on_suspect(struct member *member, unsigned from, const struct member_message *message,
                       uint64_t now_us)
{
    const struct view *active = &member->agreed.active;
    if (!member->leading || message->epoch != active->epoch ||
        (active->members & node_bit(from)) == 0 ||
        !view_admits(active, message->node, message->incarnation))
        return;
    struct member_report *complaint = &member->peers[message->node].reports[from];
    uint64_t hold_us = SLOW_HOLD_US + 4 * member->options.suspect_us;
    if (complaint->last_us == 0 || now_us - complaint->last_us > hold_us)
        complaint->first_us = now_us;
    complaint->last_us = now_us;
    complaint->hold_us =
        (message->flags & MEMBER_FLAG_SLOW) != 0 ? hold_us : member->options.suspect_us;
}

/* Members whose complaint about `node` stands; `*longest_us`: how long the oldest of them has. */
static uint8_t complaints(const struct member *member, unsigned node, uint64_t now_us,
                          uint64_t *longest_us)
{
    uint8_t from = 0;
    *longest_us = 0;
    for (unsigned other = 1; other < MEMBER_LIMIT; other++) {
        const struct member_report *complaint = &member->peers[node].reports[other];
        if (other == node || complaint->last_us == 0 ||
            now_us - complaint->last_us > complaint->hold_us)
            continue;
        from |= node_bit(other);
        if (complaint->last_us - complaint->first_us > *longest_us)
            *longest_us = complaint->last_us - complaint->first_us;
    }
    return from;
}

static bool hears_majority(const struct member *member, uint64_t now_us)
{
    uint8_t heard = 0;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if (!member_silent(member, node, now_us, member->options.suspect_us))
            heard |= node_bit(node) & member->options.configured;
    return 2 * node_count(heard) > node_count(member->options.configured);
}

static uint8_t silent_nodes(const struct member *member, uint64_t now_us)
{
    uint64_t limit_us = member->options.suspect_us * (hears_majority(member, now_us) ? 1 : 4);
    uint8_t silent = 0;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if (member_silent(member, node, now_us, limit_us))
            silent |= node_bit(node) & view_nodes(&member->agreed.active);
    return silent;
}

static uint8_t reported_nodes(const struct member *member, uint64_t now_us)
{
    const struct view *active = &member->agreed.active;
    uint8_t reported = 0;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++) {
        uint64_t longest_us;
        unsigned count = node_count(complaints(member, node, now_us, &longest_us));
        bool healing = (active->healing & node_bit(node)) != 0;
        if (healing ? count > 0 : 2 * count > node_count(active->members))
            reported |= node_bit(node);
    }
    return reported & view_nodes(active);
}

/* Two that do not reach each other: one has to go, or writes stand still. */
static uint8_t odd_one_out(const struct member *member, uint64_t now_us)
{
    unsigned chosen = 0, most = 0;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++) {
        uint64_t longest_us;
        uint8_t from = complaints(member, node, now_us, &longest_us);
        if (longest_us < 2 * member->options.suspect_us || node_count(from) < most)
            continue;
        chosen = node == member->options.self ? (unsigned)__builtin_ffs(from) : node;
        most = node_count(from);
    }
    return chosen == 0 ? 0 : node_bit(chosen);
}

uint8_t member_culprits(const struct member *member, uint64_t now_us)
{
    uint8_t reported = reported_nodes(member, now_us);
    uint8_t all = reported | silent_nodes(member, now_us);
    if (all == 0)
        return odd_one_out(member, now_us);
    /* Who hears nobody is no judge of everybody. */
    return (member->agreed.active.members & ~all) != 0 ? all : reported;
}
