/* round.h: stability rounds of one shard (doc/protocol.md): what lies before a node's mark of a stable round is complete,
 * visible and durable at every member. Pure; owner thread only. */
#ifndef RECOVERY_ROUND_H
#define RECOVERY_ROUND_H

#include "replica/replica.h"

enum { ROUND_PATIENCE = 20 }; /* periods after which the leader gives a round up and starts another */

struct round {
    uint32_t period_us;
    uint64_t next_us; /* when the leader starts the next */

    /* every member */
    uint64_t number; /* the round this node has marked for; 0: none. (epoch << 32) | count */
    uint64_t mark;   /* its log's tail then */
    uint32_t cursor; /* for replica_finished_before */
    bool done;       /* said so */
    unsigned leader;

    /* the leader: the lowest member */
    uint32_t count;
    uint64_t led; /* the round under way; 0: none */
    uint64_t led_since_us;
    uint64_t floor;     /* clock sent with the start */
    uint8_t done_nodes; /* node set */
    bool full;          /* one of them has no room for growth */

    uint64_t stable;      /* newest stable round known here */
    uint64_t stable_mark; /* own mark of the newest stable round of this epoch; 0: none yet */
    uint64_t stable_count;
    uint64_t logged_tail; /* log's tail behind the last MARK: nothing new, no new MARK */
    uint8_t logged_members;
    uint64_t logged_floor;
};

void round_on_view(struct round *round, struct replica *replica);
void round_on_tick(struct round *round, struct replica *replica);
void round_on_start(struct round *round, struct replica *replica, const struct message *message);
void round_on_done(struct round *round, struct replica *replica, const struct message *message);
void round_on_stable(struct round *round, struct replica *replica, const struct message *message);

/* After any event: says DONE as soon as everything before the mark is finished. */
void round_advance(struct round *round, struct replica *replica);

#endif
