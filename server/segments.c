#include "server/segments.h"

#include <stdio.h>

#include "base/log.h"
#include "pmem/medium_file.h"
#include "pmem/medium_memory.h"
#include "replica/piece.h"
#include "server/node.h"

enum {
    SIZE_MIN = 1 << 20,
    SIZE_USUAL_MAX = 64 << 20,
    COUNT_USUAL_MIN = 16, /* cleaning needs some to choose from */
    COUNT_MIN = 8,
    HEADROOM = 8192, /* of a segment: its header, and a record's header, key and seal */
};

static uint32_t next_power(uint64_t size)
{
    uint64_t power = SIZE_MIN;
    while (power < size)
        power *= 2;
    return (uint32_t)power;
}

enum status segments_choose(const struct options *options, uint32_t fixed, uint32_t *segment_size,
                            uint32_t *segment_count_shard)
{
    uint64_t least = (uint64_t)LARGE_VALUE_MIN + HEADROOM; /* What is larger lies in pieces. */
    uint64_t shard_size = options->memory_size / options->thread_count;
    uint64_t size = next_power(least);
    uint32_t wanted = fixed != 0 ? fixed : options->segment_size;
    if (wanted != 0 && wanted < least) {
        log_error("--segment-size: segments of %u KB%s are too small: at least 2m", wanted / 1024,
                  fixed != 0 ? ", which the data directory has," : "");
        return STATUS_INVALID;
    }
    while (size < SIZE_USUAL_MAX && size * 2 * COUNT_USUAL_MIN <= shard_size)
        size *= 2;
    if (wanted != 0)
        size = wanted;
    uint64_t count = shard_size / size;
    if (count < COUNT_MIN) {
        count = COUNT_MIN;
        log_note("-m %llu is too small for %u shards: using %llu MB",
                 (unsigned long long)options->memory_size >> 20, options->thread_count,
                 (unsigned long long)(count * size * options->thread_count) >> 20);
    }
    *segment_size = (uint32_t)size;
    *segment_count_shard = (uint32_t)count;
    return STATUS_OK;
}

static void shard_path(const struct node *node, unsigned shard, char path[SEGMENTS_NAME_SIZE])
{
    snprintf(path, SEGMENTS_NAME_SIZE, "%s/shard-%u", node->directory.path, shard);
}

enum status segments_open(const struct node *node, unsigned shard, struct medium **medium,
                          int *ready_fd)
{
    char path[SEGMENTS_NAME_SIZE], why[512];
    *ready_fd = -1;
    if (node->directory.path == NULL)
        return medium_memory_open(medium, node->segment_size);
    shard_path(node, shard, path);
    enum status status = medium_file_open(medium, path, node->segment_size, why, sizeof(why));
    if (status == STATUS_OK)
        *ready_fd = medium_file_fd(*medium);
    else
        log_error("%s", why);
    return status;
}

void segments_name(const struct node *node, unsigned shard, const struct medium *medium,
                   uint32_t segment, char name[SEGMENTS_NAME_SIZE])
{
    if (node->directory.path == NULL)
        snprintf(name, SEGMENTS_NAME_SIZE, "shard %u in memory", shard);
    else
        medium_file_path(medium, segment, name, SEGMENTS_NAME_SIZE);
}

const char *segments_trouble(const struct node *node, const struct medium *medium)
{
    return node->directory.path == NULL ? "" : medium_file_message(medium);
}
