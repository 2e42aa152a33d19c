/* stats.h: answers to `stats`. Called on a worker's thread; reads what others publish. */
#ifndef SERVER_STATS_H
#define SERVER_STATS_H

#include "proto/reply.h"
#include "server/job.h"

struct worker;
struct node;

/* Puts the lines, END included, into job->value. REPLY_COUNT: done; else that line is the whole
 * answer. `words`: the arguments of stats, with single spaces between them. */
enum reply stats_answer(struct worker *worker, const char *words, struct job *job);

/* Sums over all shards, for log lines. */
struct stats_heal {
    uint64_t checked, received, received_bytes, discarded;
    uint64_t left_bytes;                      /* of the buddy's log, about */
    uint64_t started_us, listed_us, ended_us; /* earliest start, latest ends; 0: not yet */
    unsigned healing_count;
    bool full;
    bool no_room; /* a shard's store is full */
};
void stats_heal(const struct node *node, struct stats_heal *heal);

const char *stats_role(const struct node *node);

#endif
