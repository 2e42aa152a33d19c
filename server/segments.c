#include "server/segments.h"

#include <dirent.h>
#include <stdio.h>

#include "base/log.h"
#include "pmem/medium_file.h"
#include "pmem/medium_memory.h"
#include "replica/piece.h"
#include "server/node.h"

enum {
    SIZE_MIN = 1 << 20,
    SIZE_USUAL_MAX = 64 << 20,
    SIZE_MOST = LOG_SEGMENT_SIZE_MAX,
    SIZE_STEP = 4096,     /* pages */
    COUNT_USUAL_MIN = 64, /* cleaning needs some to choose from, and keeps some: the more, the less
                             that is of all */
    HEADROOM = 8192,      /* of a segment: its header, and a record's header, key and seal */
};

/* As many as there can be of a size that holds the largest record. */
static uint64_t choose_size(uint64_t least, uint64_t shard_size)
{
    uint64_t size = least > SIZE_MIN ? least : SIZE_MIN;
    while (size < SIZE_USUAL_MAX && size * 2 * COUNT_USUAL_MIN <= shard_size)
        size *= 2;
    while (size * 2 <= SIZE_MOST && shard_size / size > SEGMENTS_COUNT_MAX)
        size *= 2;
    return (size + SIZE_STEP - 1) / SIZE_STEP * SIZE_STEP;
}

/* -m is for what lives; what cleaning needs comes on top. */
uint32_t segments_count(uint64_t memory_size, unsigned shard_count, uint32_t segment_size)
{
    uint32_t count = store_segment_count(memory_size / shard_count, segment_size);
    if (count < SEGMENTS_COUNT_MIN)
        return SEGMENTS_COUNT_MIN;
    return count > SEGMENTS_COUNT_MAX ? SEGMENTS_COUNT_MAX : count;
}

enum status segments_choose(const struct options *options, uint32_t fixed, uint32_t *segment_size,
                            uint32_t *segment_count_shard)
{
    uint64_t least = (uint64_t)LARGE_VALUE_MIN + HEADROOM; /* What is larger lies in pieces. */
    uint64_t shard_size = options->memory_size / options->thread_count;
    uint64_t size = choose_size(least, shard_size);
    uint32_t wanted = fixed != 0 ? fixed : options->segment_size;
    if (wanted != 0 && wanted < least) {
        log_error("--segment-size: segments of %u KB%s are too small: at least 2m", wanted / 1024,
                  fixed != 0 ? ", which the data directory has," : "");
        return STATUS_INVALID;
    }
    if (wanted != 0)
        size = wanted;
    *segment_size = (uint32_t)size;
    *segment_count_shard =
        segments_count(options->memory_size, options->thread_count, (uint32_t)size);
    return STATUS_OK;
}

void segments_tell(const struct options *options, uint32_t segment_size, uint32_t count)
{
    uint32_t asked =
        store_segment_count(options->memory_size / options->thread_count, segment_size);
    if (asked == count)
        return;
    log_note("-m %llu is too %s for %u shards with segments of %u KB: using %llu MB",
             (unsigned long long)options->memory_size >> 20, asked < count ? "small" : "large",
             options->thread_count, segment_size >> 10,
             (unsigned long long)store_live_max(count, segment_size) * options->thread_count >> 20);
}

static void shard_path(const struct node *node, unsigned shard, char path[SEGMENTS_NAME_SIZE])
{
    snprintf(path, SEGMENTS_NAME_SIZE, "%s/shard-%u", node->directory.path, shard);
}

const char *segments_directory(const struct node *node, unsigned shard,
                               char path[SEGMENTS_NAME_SIZE])
{
    if (node->directory.path == NULL)
        return NULL;
    shard_path(node, shard, path);
    return path;
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
    if (status == STATUS_OK)
        medium_file_limit(*medium, node->segment_count_shard);
    else
        log_error("%s", why);
    return status;
}

uint32_t segments_count_there(const struct node *node, unsigned shard)
{
    char path[SEGMENTS_NAME_SIZE];
    uint32_t count = 0;
    if (node->directory.path == NULL)
        return 0;
    shard_path(node, shard, path);
    DIR *directory = opendir(path);
    if (directory == NULL)
        return 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        unsigned number;
        if (sscanf(entry->d_name, "segment-%6u", &number) == 1 && number >= count &&
            number < SEGMENTS_COUNT_MAX)
            count = number + 1;
    }
    closedir(directory);
    return count;
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
