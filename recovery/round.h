/* round.h: stability rounds of one shard (doc/protocol.md): what lies before a node's mark of a
 * stable round is complete, visible and durable at every member. Pure; owner thread only. */
#ifndef RECOVERY_ROUND_H
#define RECOVERY_ROUND_H

#include "replica/replica.h"

/* What a mark promises. Everything before a node's mark is finished there when it says DONE. The
 * others may have some of that behind their own marks, and there it is durable only, not proved
 * (log_proved: should it rot, that would look like a torn tail), or not even durable yet, in the
 * models that let a record be read early. But it lies before their marks of the next round, which
 * starts later. So the mark that is settled, and logged, is that of the stable round before; the
 * floor likewise. */

/* periods after which the leader gives a round up and starts another */
enum { ROUND_PATIENCE = 20 };

struct request_line { /* linked by next */
    struct request *first, *last;
};

struct round {
    uint32_t period_us;
    uint64_t next_us; /* when the leader starts the next */

    /* every member */
    uint64_t number;        /* the round this node has marked for; 0: none. (epoch << 32) | count */
    uint64_t mark;          /* its log's tail then */
    uint64_t started_clock; /* that came with its start; a round of this epoch; 0: none yet */
    bool kept;              /* before the mark the log says the clock of the round before */
    uint32_t cursor;        /* for replica_finished_before */
    bool done;              /* said so */
    unsigned leader;
    uint64_t former_mark; /* of the last round of this epoch that became stable; 0: none */
    uint64_t former_floor;

    /* REQUEST_PERSIST: waiting --ROUND_WANTED--> asked --the next start says so--> marked
     * --stable--> answered */
    struct request_line waiting;
    struct request_line asked;
    struct request_line marked;
    uint64_t persist_count, persists; /* that wait; that were answered */

    /* the leader: the lowest member */
    uint32_t count;
    uint64_t led; /* the round under way; 0: none */
    uint64_t led_since_us;
    uint64_t floor;     /* clock sent with the start */
    uint8_t done_nodes; /* node set */
    bool full;          /* one of them has no room for growth */
    uint8_t wanted;     /* node set: somebody waits there for a round that begins from now on */
    uint8_t led_wanted; /* the same when the round under way began */
    uint64_t excess;    /* the most that one of them has too much (store_excess) */

    uint64_t stable; /* newest stable round known here */
    /* own settled mark of the newest stable round of this epoch; 0: none yet */
    uint64_t stable_mark;
    uint64_t stable_count;
    uint64_t stable_us;   /* when it became so; 0: never */
    uint64_t logged_tail; /* log's tail behind the last MARK: nothing new, no new MARK */
    uint8_t logged_members;
    uint64_t logged_floor;
    uint64_t logged_lsn; /* of the last MARK */
    uint64_t content;    /* log's tail before it, and before MARKs right before it */
};

/* Appends here that are not known to be durable at every member. */
uint64_t round_unsettled(const struct round *round, const struct replica *replica);

void round_on_view(struct round *round, struct replica *replica);
void round_on_tick(struct round *round, struct replica *replica);
void round_on_start(struct round *round, struct replica *replica, const struct message *message);
void round_on_done(struct round *round, struct replica *replica, const struct message *message);
void round_on_stable(struct round *round, struct replica *replica, const struct message *message);
void round_on_wanted(struct round *round, struct replica *replica, const struct message *message);
void round_on_up(struct round *round, struct replica *replica, unsigned peer);

/* REQUEST_PERSIST. Answered by the first round that begins after this, and is asked for. */
void round_on_persist(struct round *round, struct replica *replica, struct request *request);
/* This node does not serve: nobody waits any more. */
void round_refuse(struct round *round, struct replica *replica);

/* After any event: says DONE as soon as everything before the mark is finished. */
void round_advance(struct round *round, struct replica *replica);

#endif
