/* step.h: what goes into the replication core and what comes out.
 *
 * The core is a pure function: shard_step(shard, event, actions) (recovery/shard.h). Each event
 * carries the time. Actions are handed to actions->take() one by one while the step runs; what they
 * point at is borrowed for that call only, and take() may not step the shard again. */
#ifndef REPLICA_STEP_H
#define REPLICA_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "replica/message.h"
#include "replica/request.h"
#include "replica/view.h"

enum event_type {
    EVENT_REQUEST, /* a client's command */
    EVENT_MESSAGE, /* from a peer; passed message_invalid(), and shard_holds() said no */
    EVENT_DURABLE, /* log_durable() has moved */
    EVENT_VIEW,    /* a view was agreed: install it now */
    /* the channel to `peer` is there again: what it lost in this epoch is sent again */
    EVENT_UP,
    EVENT_TICK, /* at least every TICK_US, and in every turn while shard_wants_turn() */
    /* no lease for so long that clients should wait no more: all are answered, what was begun goes
     * on */
    EVENT_STALLED,
    /* this node was removed while alive: everything volatile is void, `incarnation` is the new
     * one */
    EVENT_RESTART,
};

struct event {
    enum event_type type;
    uint64_t wall_us; /* CLOCK_REALTIME: versions, expiry. May jump */
    uint64_t mono_us; /* CLOCK_BOOTTIME: timers */
    union {
        struct request *request;
        const struct message *message;
        uint64_t durable; /* every append numbered below survives */
        const struct view *view;
        unsigned peer;
        uint64_t incarnation;
    };
};

enum action_type {
    ACTION_SEND,
    ACTION_REPLY,
    /* this shard has all it missed in epoch `epoch`; when all shards have, ask for membership */
    ACTION_HEALED,
    /* this node has evicted `key`: `request` tells in `seen` what it saw of it. To be shown to who
     * watches */
    ACTION_EVICTED,
    ACTION_SUSPECT, /* nodes in `to` keep a write waiting for too long in epoch `epoch` */
};

struct action {
    enum action_type type;
    uint32_t epoch;
    /* SEND: header, key and value to each node in `to`; bulk yields to everything else */
    uint8_t to;
    bool bulk;
    struct message header;
    struct slice key;
    struct slice value;
    /* REPLY */
    struct request *request;
    enum outcome outcome;
    const struct record *record; /* HIT: copy it with lease_copy() before take() returns */
    uint64_t number;
    /* STORED, NUMBER, TOUCHED, HIT: the unique of what this request has written or read. Another's
     * write may have replaced it by now, but it never names another's value */
    uint64_t cas;
    /* the answer rests on a local read: it is worth something only under a lease that holds after
     * the copy */
    bool local;
};

struct actions {
    void (*take)(void *user, const struct action *action);
    void *user;
};

enum { TICK_US = 10000 };

/* The lease rule: copy first, look at the lease after (rdma pitfall 18; a pause between the two
 * would make a stale read). Returns what lease_holds(user) said, called once, after the copy. */
bool lease_copy(void *to, struct slice from, bool (*lease_holds)(void *user), void *user);

#endif
