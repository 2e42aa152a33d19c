/* segments.h: where the logs lie, and how large their segments are. Control thread, at start. */
#ifndef SERVER_SEGMENTS_H
#define SERVER_SEGMENTS_H

#include <stdint.h>

#include "base/status.h"
#include "pmem/log.h"
#include "server/options.h"

struct node;

enum {
    SEGMENTS_NAME_SIZE = 4300,
    SEGMENTS_COUNT_MIN = 8, /* of a shard: cleaning needs some to choose from */
    SEGMENTS_COUNT_MAX = LOG_SEGMENT_COUNT_MAX,
};

/* Segments that each shard needs so that items of `memory_size` bytes in all may live there; within
 * what is possible. */
uint32_t segments_count(uint64_t memory_size, unsigned shard_count, uint32_t segment_size);

/* What to call the limit, when `live_max` bytes can live in the log: whole segments hold a little
 * more than was asked for, the smallest log much more. */
static inline uint64_t segments_limit(uint64_t memory_size, uint64_t live_max)
{
    return live_max < 2 * memory_size ? memory_size : live_max;
}

/* Bytes of a segment and how many of them a shard has, from -m, -t and -I. `fixed`: the size that a
 * data directory already has, or 0. If -m is too small for the largest item it is raised, if it is
 * more than SEGMENTS_COUNT_MAX of the fixed size it is lowered: segments_tell() says so.
 * STATUS_INVALID: the fixed size does not hold a record; a line says so. */
enum status segments_choose(const struct options *options, uint32_t fixed, uint32_t *segment_size,
                            uint32_t *segment_count_shard) MUST_CHECK;

/* Logs a line if what was chosen is not what -m says. */
void segments_tell(const struct options *options, uint32_t segment_size, uint32_t count);

/* The medium of one shard. *ready_fd is readable when a drain is done, -1 if that is never later.
 */
enum status segments_open(const struct node *node, unsigned shard, struct medium **medium,
                          int *ready_fd) MUST_CHECK;

/* How many segments the shard's directory may hold already, perhaps more than -m allows now. */
uint32_t segments_count_there(const struct node *node, unsigned shard);

/* The directory of a shard, in `path`; NULL: it is in memory. */
const char *segments_directory(const struct node *node, unsigned shard,
                               char path[SEGMENTS_NAME_SIZE]);

/* The name of the file, for a message. */
void segments_name(const struct node *node, unsigned shard, const struct medium *medium,
                   uint32_t segment, char name[SEGMENTS_NAME_SIZE]);

/* The medium's newest trouble, or "". */
const char *segments_trouble(const struct node *node, const struct medium *medium);

#endif
