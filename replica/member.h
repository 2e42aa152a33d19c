/* member.h: who belongs to the group: views, read leases, joining, cold start (doc/membership.md).
 * Pure: no I/O, no clock.
 *
 * One `struct member` per node, driven by its control thread. An ordered, agreed log (raft; an
 * oracle in the simulator) holds only membership entries; control messages may be lost, late or
 * doubled. All times are this node's own CLOCK_BOOTTIME in microseconds and are never compared with
 * another node's.
 *
 * A view change is two entries: VIEW(e+1) says what comes, ACTIVATE(e+1) makes every node that is
 * in it install it.
 *
 *     [e active]                leader's tick: plan() proposes VIEW(e+1)
 *         |  VIEW(e+1) committed
 *         v
 *     [e active, e+1 pending]   leavers get no grant; when their leases have ended, the leader
 *         |                     proposes ACTIVATE(e+1)
 *         |  ACTIVATE(e+1) committed
 *         v
 *     [e+1 active]              install it, or be removed
 *
 * Invariants:
 *  1. Epochs of activated views grow by one (the first may begin higher: a log may remember more
 *     than the agreed log does). One VIEW is pending at most. A VIEW or ACTIVATE that does not fit
 *     the state is ignored by everybody alike.
 *  2. A leader first commits LEAD and does nothing before that is applied: then it has applied
 *     whatever was committed before it. VIEW and ACTIVATE count only if they carry the last applied
 *     LEAD; so what an earlier leader proposed has no effect after it.
 *  3. Grants are given only by a leader (2) whom a majority of the configured nodes has called its
 *     leader within election_us (BEAT and ECHO; measured from the sending of the BEAT), only to
 *     members of the active view under their admitted incarnation, and to nobody who leaves with
 *     the pending or proposed view.
 *  4. A replica serves until asked_us + L(1 - rho), asked_us being when it asked; only as a member
 *     of the view it has installed, under the incarnation that was admitted.
 *  5. ACTIVATE is proposed when no leaver can hold a lease: L(1 + 2 rho) after this leader's last
 *     grant to it, and (E + L)(1 + 3 rho) after this leader became leader (E = election_us: the
 *     former leader's grants end by (3)). A leaver whose newer incarnation has asked to join is
 *     dead, and is not waited for. Views without leaving members need no wait.
 *  6. A view other than a cold start keeps at least one member of the active one that is surely
 *     alive (has asked for its lease within one), or one that has healed under it. So the last
 *     member is never removed, whatever the suspicion.
 *  7. Cold start: every member of the active view has asked to join with a newer incarnation.
 *     Members are those that are not blank; each of these must be there. All blank: nothing happens
 *     without the operator (force_members).
 *  8. At no time does a node hold a valid lease while another has installed a later view without
 *     that incarnation. (This is what 2 to 7 are for; the tests check it after every step.)
 *
 * Who is removed: see member_lead.c. */
#ifndef REPLICA_MEMBER_H
#define REPLICA_MEMBER_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "replica/view.h"

enum { MEMBER_LIMIT = 8 /* size of arrays indexed by node id */, MEMBER_JOIN_US = 250000 };

struct member_options {
    unsigned self; /* node id, 1..7 */
    uint64_t
        incarnation;    /* not 0; higher at each start and after each removal; durable before use */
    uint8_t configured; /* node set */
    uint8_t force_members; /* operator: cold start with these only; 0: off. Works once, for the
                              first incarnation */
    bool blank; /* this node holds no usable log: it cannot be an authority in a cold start */
    uint32_t last_epoch;   /* of the newest view its log remembers; 0: none */
    bool boot_by_majority; /* a group without durable logs: the first start need not wait for all */
    uint64_t lease_us, suspect_us,
        boot_grace_us;    /* equal on all nodes, as election_us and drift_ppm */
    uint64_t election_us; /* a follower waits at least so long before it stands for election */
    uint32_t drift_ppm;   /* 500 is generous */
};

enum member_entry_kind {
    MEMBER_LEAD = 1, /* a new leader begins; it is (leader, incarnation, lead) */
    MEMBER_VIEW,     /* `next` is agreed, not yet in force */
    MEMBER_ACTIVATE, /* the pending view of epoch next.epoch is in force */
};

/* An entry of the agreed log. The struct is the log format: little-endian. */
struct member_entry {
    uint8_t kind;   /* enum member_entry_kind */
    uint8_t leader; /* who proposed it, and under which LEAD: */
    uint8_t cold;   /* VIEW: 1 if a cold start; for the operator's log */
    uint8_t reserved;
    uint32_t lead;
    uint64_t incarnation;
    struct view next;
};
static_assert(sizeof(struct view) == 72, "part of the log format");
static_assert(sizeof(struct member_entry) == 88, "part of the log format");

enum member_message_type {
    MEMBER_LEASE_ASK = 1, /* stamp_us: when asked, the asker's clock; incarnation */
    MEMBER_LEASE_GRANT,   /* stamp_us, incarnation: of the ask; epoch; lease_us */
    MEMBER_JOIN,          /* incarnation, flags, force, epoch: last one known to the log */
    MEMBER_HEALED,        /* epoch, incarnation */
    MEMBER_SUSPECT,       /* node, its incarnation, epoch; flags: MEMBER_FLAG_SLOW */
    MEMBER_BEAT,          /* leader to all: stamp_us */
    MEMBER_ECHO,          /* answer of who calls the sender its leader: stamp_us of the BEAT */
    MEMBER_MESSAGE_LIMIT, /* a first byte from here on is not ours: the server may use the lane for
                             more */
};

enum member_flags {
    MEMBER_FLAG_BLANK = 1, /* JOIN: no usable log */
    MEMBER_FLAG_SLOW =
        2, /* SUSPECT: a write waits for it (a shard says so); else: nothing was heard of it */
};

/* A message on the control lane. The struct is the wire: little-endian. */
struct member_message {
    uint8_t type; /* enum member_message_type */
    uint8_t node;
    uint8_t flags;
    uint8_t force;
    uint32_t epoch;
    uint64_t incarnation;
    uint64_t stamp_us;
    uint64_t lease_us;
};
static_assert(sizeof(struct member_message) == 32, "part of the wire format");

/* NULL if `bytes` are one whole and sensible item, else why not. The gate for what comes from
 * outside; 8-byte aligned. */
const char *member_message_invalid(struct slice bytes);
const char *member_entry_invalid(struct slice bytes);
const char *member_snapshot_invalid(struct slice bytes);

/* What member_* wants done. Called while the function runs; only removed() may call back, and only
 * member_new_incarnation(). */
struct member_actions {
    /* To a peer on the control lane. May be lost. */
    void (*send)(void *user, unsigned to, const struct member_message *message);
    /* To the agreed log; only while leader. May be lost: it is proposed again. */
    void (*propose)(void *user, const struct member_entry *entry);
    /* This node is in the view under its present incarnation: every shard must install it now. Then
     * fence: member_fence(). */
    void (*install)(void *user, const struct view *view);
    /* This node was removed while alive; its lease is void from now on. The shards must forget what
     * is volatile (EVENT_RESTART) and a new incarnation must be given with
     * member_new_incarnation(), now or later; then it asks to join again. */
    void (*removed)(void *user);
    void *user;
};

/* What the agreed log has led to: equal on all nodes that have applied the same entries. Fixed: the
 * raft snapshot. */
struct member_snapshot {
    struct view active;  /* epoch 0: never any */
    struct view pending; /* epoch 0: none */
    uint64_t lead_incarnation;
    uint32_t lead;
    uint8_t leader; /* of the last LEAD */
    uint8_t reserved[3];
    uint64_t admitted[MEMBER_LIMIT]; /* newest incarnation ever in a view */
};
static_assert(sizeof(struct member_snapshot) == 224, "part of the snapshot format");

struct member_report { /* what a leader knows of one node's complaints about another in this epoch
                        */
    uint64_t first_us, last_us; /* 0: none */
    uint64_t hold_us;           /* it stands for so long after last_us */
};

struct member_peer {   /* what a node knows of another (or of itself); most of it matters at the
                          leader only */
    uint64_t heard_us; /* newest evidence of the data lanes */
    uint64_t alive_us; /* last LEASE_ASK or HEALED under the admitted incarnation */
    uint64_t grant_us; /* when this leader last granted it a lease; 0: not since it leads */
    uint64_t echo_us;  /* newest own BEAT it has echoed */
    uint64_t join_us;  /* last JOIN; 0: none */
    uint64_t join_incarnation; /* newest that asked to join */
    uint32_t join_epoch;
    bool join_blank;
    uint8_t join_force;
    uint64_t suspected_us; /* when SUSPECT was last sent about it */
    uint64_t dropped_us;   /* when it was last removed on suspicion */
    uint64_t backoff_us;   /* a JOIN is not answered before dropped_us + backoff_us */
    struct member_report reports[MEMBER_LIMIT]; /* by reporter */
};

/* Read it with the functions below. */
struct member {
    struct member_options options;
    uint64_t incarnation; /* present one; 0: removed, no new one yet */
    struct member_snapshot agreed;
    struct view installed; /* last one given to install(); epoch 0: none under this incarnation */
    bool admitted;         /* the newest VIEW has this node under this incarnation */
    unsigned role_leader;  /* whom the agreed log calls leader; 0: nobody */
    uint64_t ticked_us, asked_us, lease_until_us, join_sent_us, healed_sent_us;
    uint32_t healed_epoch; /* all shards have healed in this epoch */
    struct member_peer peers[MEMBER_LIMIT];
    /* as leader */
    uint64_t lead_since_us, beat_us, lead_applied_us;
    uint32_t lead;                /* times this process became leader */
    uint64_t lead_incarnation;    /* under which it did */
    bool leading;                 /* its LEAD is applied, and no later one */
    struct member_entry proposed; /* kind 0: nothing is under way */
    uint64_t proposed_us;
    uint8_t healed; /* nodes that said HEALED for the active epoch */
};

void member_init(struct member *member, const struct member_options *options);

/* The next committed entry, in order; also those replayed at start. It passed
 * member_entry_invalid(). */
void member_applied(struct member *member, const struct member_entry *entry, uint64_t now_us,
                    const struct member_actions *actions);

/* The state to restore from instead of replaying all entries up to here. */
void member_snapshot(const struct member *member, struct member_snapshot *snapshot);
void member_restore(struct member *member, const struct member_snapshot *snapshot, uint64_t now_us,
                    const struct member_actions *actions);

/* The agreed log calls `leader` (0: nobody known) its leader. Call it at every change, before any
 * other event is passed: invariant 3 needs that a node is told it leads only after a majority of
 * the configured nodes was told that the former leader does not. */
void member_role(struct member *member, unsigned leader, uint64_t now_us,
                 const struct member_actions *actions);

/* A message of a peer; it passed member_message_invalid(). */
void member_received(struct member *member, unsigned from, const struct member_message *message,
                     uint64_t now_us, const struct member_actions *actions);

/* About every 10 ms (at most a quarter of the shortest time in options). heard_us[node]: last
 * reception on the data lane that has waited longest (net_heard_ns_any / 1000), 0: a lane is down.
 * Where self is the only configured node the first tick installs. */
void member_tick(struct member *member, uint64_t now_us, const uint64_t heard_us[MEMBER_LIMIT],
                 const struct member_actions *actions);

/* All shards of this node said ACTION_HEALED for `epoch`. */
void member_all_healed(struct member *member, uint32_t epoch, uint64_t now_us,
                       const struct member_actions *actions);

/* A shard said ACTION_SUSPECT: the set `nodes` keeps a write waiting in `epoch`. To be repeated
 * while it goes on. */
void member_suspects(struct member *member, uint8_t nodes, uint32_t epoch, uint64_t now_us,
                     const struct member_actions *actions);

/* After removed(): higher than any before, and than member_fence() of this node. What this node
 * holds is as good for a cold start as before. */
void member_new_incarnation(struct member *member, uint64_t incarnation);

/* Reads copied before this time were current (compare after the copy). 0: none. UINT64_MAX: a
 * single node. */
uint64_t member_lease_until_us(const struct member *member);

/* The active view as far as this node has applied the log; it need not be in it. Epoch 0: never
 * any. */
const struct view *member_view(const struct member *member);

/* The view this node serves or heals in; epoch 0: it is in none. */
const struct view *member_installed(const struct member *member);

/* Incarnations of `node` up to this one are excluded for good (net_fence_any); 0: none is. Grows
 * with activated views. */
uint64_t member_fence(const struct member *member, unsigned node);

/* This node leads and may act. */
bool member_leads(const struct member *member);

/* At the leader, while no view can be made: the members of the last view that a start waits for; 0:
 * it waits for nobody. `all_blank` is set when all are here and none holds a whole log, so that
 * only the operator can decide (force_members). Also where no view is known, but damaged logs
 * remember one. */
uint8_t member_awaits(const struct member *member, bool *all_blank);

/* Of the active view that this node knows to be agreed; 0: none ever was. */
static inline uint32_t member_agreed_epoch(const struct member *member)
{
    return member->agreed.active.epoch;
}

#endif
