/* member_lead.h: between member.c, member_lead.c and member_suspect.c only. */
#ifndef REPLICA_MEMBER_LEAD_H
#define REPLICA_MEMBER_LEAD_H

#include "replica/member.h"

/* ---- member.c ---- */

static inline uint8_t view_nodes(const struct view *view)
{
    return view->members | view->healing;
}

/* `node` is in the view under exactly that incarnation. */
static inline bool view_admits(const struct view *view, unsigned node, uint64_t incarnation)
{
    return incarnation != 0 && (view_nodes(view) & node_bit(node)) != 0 &&
           view->incarnation[node] == incarnation;
}

static inline unsigned node_count(uint8_t nodes)
{
    return (unsigned)__builtin_popcount(nodes);
}

/* Nothing has come from `node` for longer than `limit_us`. A stamp in the future is a grace. */
static inline bool member_silent(const struct member *member, unsigned node, uint64_t now_us,
                                 uint64_t limit_us)
{
    return node != member->options.self &&
           (int64_t)(now_us - member->peers[node].heard_us) > (int64_t)limit_us;
}

/* Takes the grant of a lease that was asked for at `asked_us`. */
void member_take_lease(struct member *member, uint64_t asked_us, uint64_t lease_us);

/* ---- member_lead.c ---- */

/* This node became leader. */
void member_lead_begin(struct member *member, uint64_t now_us,
                       const struct member_actions *actions);

/* Whatever is due: beats, the own lease, a lost proposal, ACTIVATE, a new view. Cheap; called after
 * each event. */
void member_lead_work(struct member *member, uint64_t now_us, const struct member_actions *actions);

void member_on_lease_ask(struct member *member, unsigned from, const struct member_message *message,
                         uint64_t now_us, const struct member_actions *actions);
void member_on_echo(struct member *member, unsigned from, uint64_t stamp_us);

/* ---- member_suspect.c ---- */

void member_on_healed(struct member *member, unsigned from, uint32_t epoch, uint64_t incarnation,
                      uint64_t now_us);
void member_on_suspect(struct member *member, unsigned from, const struct member_message *message,
                       uint64_t now_us);
/* Who has to go because others cannot work with it. */
uint8_t member_culprits(const struct member *member, uint64_t now_us);

#endif
