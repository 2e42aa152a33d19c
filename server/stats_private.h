/* stats_private.h: what the files of `stats` share: lines of an answer, and sums over all shards.
 */
#ifndef SERVER_STATS_PRIVATE_H
#define SERVER_STATS_PRIVATE_H

#include <sys/resource.h>

#include "server/counters.h"
#include "server/node.h"
#include "server/stats.h"

enum { STATS_TEXT_SIZE = 65536 }; /* of most groups, which need less */

/* Lines that do not fit any more are left out; END always fits. */
struct text {
    char *data;
    size_t size, used;
};

__attribute__((format(printf, 3, 4))) void stat_text(struct text *text, const char *name,
                                                     const char *format, ...);
void stat_number(struct text *text, const char *name, uint64_t value);

/* Since the last `stats reset`. */
uint64_t stats_count(const struct node *node, enum counter counter);

/* Sums over all shards, as they were when their workers last published. */
struct totals {
    struct store_stats store;
    struct shard_stats shard;        /* numbers only */
    struct medium_file_stats medium; /* the kind is that of a shard: they lie in one directory */
    uint64_t undurable;
    uint64_t stable_us; /* of the shard whose newest stable round is the oldest; 0: one has none */
    uint64_t parked;
    uint64_t commands;   /* of clients, under way */
    uint64_t buffers;    /* for reading from clients */
    uint64_t item_count; /* of clients */
    uint64_t limit_bytes;
    uint64_t chunk_size;  /* of an item, on average */
    uint64_t chunk_count; /* about so many items there would be room for */
    unsigned index_power; /* about so many entries, as a power of two */
    struct rusage usage;
};
void stats_sum(const struct node *node, struct totals *totals);

/* One group of lines each: the names behind `stats`. */
void stats_settings(struct text *text, const struct node *node);
void stats_items(struct text *text, const struct node *node);
void stats_slabs(struct text *text, const struct node *node);
void stats_view(struct text *text, const struct node *node);
void stats_core(struct text *text, const struct node *node);
void stats_heal_lines(struct text *text, const struct node *node);
void stats_net(struct text *text, const struct node *node);
uint32_t stats_net_size(const struct node *node); /* of its text, at most */

static inline const char *yes_no(bool yes)
{
    return yes ? "yes" : "no";
}

#endif
