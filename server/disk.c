#include "server/disk.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/log.h"
#include "pmem/medium_file.h"
#include "server/node.h"
#include "server/segments.h"
#include "server/worker.h"

enum { FILE_COUNT_MAX = 4096 };

static uint64_t bytes_present(const struct node *node)
{
    uint64_t bytes = 0;
    for (unsigned shard = 0; shard < node->options.thread_count; shard++) {
        for (unsigned number = 0; number < FILE_COUNT_MAX; number++) {
            char path[SEGMENTS_NAME_SIZE];
            struct stat stat_of;
            snprintf(path, sizeof(path), "%s/shard-%u/segment-%06u", node->directory.path, shard,
                     number);
            if (stat(path, &stat_of) != 0)
                break; /* They are made in order: what is behind a gap is little. */
            bytes += (uint64_t)stat_of.st_blocks * 512;
        }
    }
    return bytes;
}

enum status disk_check(const struct node *node)
{
    struct statvfs stat_of;
    const char *path = node->directory.path;
    if (path == NULL || statvfs(path, &stat_of) != 0)
        return STATUS_OK;
    uint64_t shards = node->options.thread_count, segment = node->segment_size;
    uint64_t present = bytes_present(node), free = (uint64_t)stat_of.f_bavail * stat_of.f_frsize;
    uint64_t most = segment * node->segment_count_shard * shards;
    uint64_t least = segment * SEGMENTS_COUNT_MIN * shards;
    if (present == 0 && free < least) {
        log_error("--data=%s: %llu MB are free; the smallest log of %llu threads needs %llu MB",
                  path, (unsigned long long)free >> 20, (unsigned long long)shards,
                  (unsigned long long)least >> 20);
        return STATUS_NO_SPACE;
    }
    if (present + free < most)
        log_warn("--data=%s: -m lets the log grow to %llu MB, but it has %llu MB and only %llu MB "
                 "more are free. On a full disk the log goes on in the space that it has",
                 path, (unsigned long long)most >> 20, (unsigned long long)present >> 20,
                 (unsigned long long)free >> 20);
    return STATUS_OK;
}

void disk_tell(const struct node *node)
{
    struct medium_file_stats stats;
    const char *path = node->directory.path;
    if (path == NULL)
        return;
    medium_file_stats_any(node->workers[0].medium, &stats);
    if (strcmp(stats.kind, "dax") == 0)
        log_note("--data=%s: persistent memory (DAX): flush and drain, no system calls", path);
    else if (strcmp(stats.kind, "tmpfs") == 0)
        log_warn("--data=%s: a file system in memory (tmpfs): it outlives the process, not the "
                 "machine",
                 path);
    else
        log_note("--data=%s: files, made durable by msync, one batch at a time", path);
}
