/* The owner's side of the file medium. Holds atomics: what the flusher reports, and what the guard
 * and statistics read. */
#include "pmem/medium_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libpmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "pmem/medium_file_private.h"
#include "pmem/medium_guard.h"

enum { TMPFS_MAGIC_NUMBER = 0x01021994, PAGE = 4096 };

static struct file_medium *file_of(struct medium *medium)
{
    return (struct file_medium *)medium;
}

void medium_file_path(const struct medium *medium, uint32_t number, char *path, size_t path_size)
{
    char name[FILE_NAME_SIZE];
    segment_file_name(number, name);
    snprintf(path, path_size, "%s/%s", ((const struct file_medium *)medium)->directory, name);
}

/* Without PMEM_FILE_CREATE, which would cut an existing file to the given length. */
static enum status map_file(struct file_medium *file, uint32_t number)
{
    char path[FILE_PATH_SIZE + FILE_NAME_SIZE], name[FILE_NAME_SIZE];
    medium_file_path(&file->medium, number, path, sizeof(path));
    segment_file_name(number, name);
    size_t size = 0;
    int is_pmem = 0;
    void *base = pmem_map_file(path, 0, 0, 0, &size, &is_pmem);
    if (base == NULL) {
        file_complain(file, name, "cannot be mapped", errno);
        return STATUS_IO;
    }
    if ((size != file->medium.segment_size && !FAULT(FILE_SIZE)) ||
        (is_pmem != 0) != file->is_pmem) {
        pmem_unmap(base, size);
        file_complain(file, name, "is not like the other segments", 0);
        return STATUS_CORRUPT;
    }
    atomic_store_explicit(&file->bases[number], base, memory_order_relaxed);
    return STATUS_OK;
}

static uint32_t room(struct medium *medium, uint32_t number)
{
    return maker_room(file_of(medium), number);
}

static uint8_t *base_of(const struct file_medium *file, uint32_t number)
{
    return atomic_load_explicit(&file->bases[number], memory_order_relaxed);
}

static enum status map(struct medium *medium, uint32_t number, bool create, void **base)
{
    struct file_medium *file = file_of(medium);
    assert(number < FILE_SEGMENT_COUNT_MAX);
    if (base_of(file, number) == NULL) {
        enum status status = segment_file_check(file, number);
        if (status == STATUS_NOT_FOUND && create)
            status = segment_file_create(file, number);
        if (status == STATUS_OK)
            status = map_file(file, number);
        if (status != STATUS_OK && status != STATUS_NOT_FOUND)
            log_warn("%s", file->message);
        file->failed =
            file->failed || (status == STATUS_IO && create && !FAULT(MAKE_FAILED_GOES_ON));
        if (status != STATUS_OK)
            return status;
    }
    *base = base_of(file, number);
    return STATUS_OK;
}

static void unmap(struct file_medium *file, uint32_t number)
{
    uint8_t *base = base_of(file, number);
    if (base == NULL)
        return;
    atomic_store_explicit(&file->bases[number], NULL, memory_order_relaxed);
    pmem_unmap(base, file->medium.segment_size);
}

static bool readable(struct medium *medium, uint32_t number)
{
    struct file_medium *file = file_of(medium);
    size_t bad;
    if (medium_guard_readable_any(base_of(file, number), medium->segment_size, &bad))
        return true;
    char name[FILE_NAME_SIZE], what[96];
    segment_file_name(number, name);
    snprintf(what, sizeof(what), "the page at byte %zu cannot be read", bad);
    file_complain(file, name, what, EIO);
    log_warn("%s", file->message);
    return false;
}

/* Unmapped by the one that says that it is not needed: nobody reads it any more. */
static bool replace(struct medium *medium, uint32_t number)
{
    struct file_medium *file = file_of(medium);
    unmap(file, number);
    return segment_file_put_aside(file, number);
}

static bool lies_in(const struct file_medium *file, uint32_t number, const uint8_t *at)
{
    const uint8_t *base = base_of(file, number);
    return base != NULL && at >= base && at < base + file->medium.segment_size;
}

/* Nearly always the one of the last call: the log works on one segment at a time. */
static uint32_t number_of(struct file_medium *file, const uint8_t *at)
{
    for (uint32_t i = 0; i < FILE_SEGMENT_COUNT_MAX; i++) {
        uint32_t number = (file->number_last + i) % FILE_SEGMENT_COUNT_MAX;
        if (lies_in(file, number, at)) {
            file->number_last = number;
            return number;
        }
    }
    assert(!"what is flushed lies in a segment");
    return 0;
}

static void flush(struct medium *medium, const void *at, size_t size)
{
    struct file_medium *file = file_of(medium);
    if (file->is_pmem) {
        pmem_flush(at, size);
        return;
    }
    uint32_t number = number_of(file, at);
    size_t from = (size_t)((const uint8_t *)at - base_of(file, number));
    assert(from + size <= medium->segment_size);
    if (size > 0)
        ranges_add(&file->dirty, number, from, from + size);
}

static void drain(struct medium *medium, uint64_t cookie)
{
    struct file_medium *file = file_of(medium);
    atomic_fetch_add_explicit(&file->drains, 1, memory_order_relaxed);
    if (file->is_pmem) {
        pmem_drain();
        file->cookie = cookie;
    } else {
        flusher_ask(file, cookie);
    }
}

/* What could not be written counts as clean from then on: a sync of it after the next start would
 * do nothing, and succeed. The flusher has ended, so its ranges are the owner's. */
static void make_dirty_again(struct file_medium *file)
{
    const struct ranges *taken = &file->flusher.taken;
    for (uint32_t i = 0; i < taken->count; i++) {
        uint32_t number = taken->numbers[i];
        volatile uint8_t *base = base_of(file, number);
        for (size_t at = taken->from[number]; at < taken->to[number]; at = (at / PAGE + 1) * PAGE)
            base[at] = base[at];
    }
    file->failed = true;
}

static enum status drained(struct medium *medium, uint64_t *cookie)
{
    struct file_medium *file = file_of(medium);
    if (file->failed)
        return STATUS_IO;
    if (file->is_pmem) {
        *cookie = file->cookie;
        return STATUS_OK;
    }
    int error = atomic_load(&file->flusher.error);
    if (error != 0) {
        make_dirty_again(file);
        char name[FILE_NAME_SIZE];
        segment_file_name(atomic_load(&file->flusher.error_number), name);
        file_complain(file, name, "cannot be synced", error);
        return STATUS_IO;
    }
    *cookie = atomic_load(&file->flusher.cookie_done);
    return STATUS_OK;
}

static void close_medium(struct medium *medium)
{
    struct file_medium *file = file_of(medium);
    maker_close(&file->maker);
    if (!file->is_pmem)
        flusher_stop(file);
    medium_guard_remove_any(file);
    for (uint32_t i = 0; i < FILE_SEGMENT_COUNT_MAX; i++)
        unmap(file, i);
    close(file->directory_fd);
    free(file);
}

int medium_file_fd(const struct medium *medium)
{
    const struct file_medium *file = (const struct file_medium *)medium;
    return file->is_pmem ? -1 : file->flusher.event_fd;
}

void medium_file_clear(struct medium *medium)
{
    uint64_t count;
    if (!file_of(medium)->is_pmem) {
        ssize_t got = read(file_of(medium)->flusher.event_fd, &count, sizeof(count));
        (void)got; /* nothing to read is as good */
    }
}

void medium_file_stats_any(const struct medium *medium, struct medium_file_stats *stats)
{
    const struct file_medium *file = (const struct file_medium *)medium;
    const struct flusher *flusher = &file->flusher;
    *stats = (struct medium_file_stats){
        .kind = file->is_pmem       ? "dax"
                : file->is_volatile ? "tmpfs"
                                    : "file",
        .drains = atomic_load_explicit(&file->drains, memory_order_relaxed),
        .syncs = atomic_load_explicit(&flusher->syncs, memory_order_relaxed),
        .bytes = atomic_load_explicit(&flusher->synced_bytes, memory_order_relaxed),
        .sync_us = atomic_load_explicit(&flusher->sync_us, memory_order_relaxed),
        .sync_us_max = atomic_load_explicit(&flusher->sync_us_max, memory_order_relaxed),
    };
}

void medium_file_limit(struct medium *medium, uint32_t count)
{
    file_of(medium)->count_max = count < FILE_SEGMENT_COUNT_MAX ? count : FILE_SEGMENT_COUNT_MAX;
}

const char *medium_file_message(const struct medium *medium)
{
    return ((const struct file_medium *)medium)->message;
}

/* ---- opening ---- */

static enum status open_directory(struct file_medium *file)
{
    if (mkdir(file->directory, 0700) != 0 && errno != EEXIST) {
        file_complain(file, "", "cannot be made", errno);
        return errno == ENOSPC ? STATUS_NO_SPACE : STATUS_IO;
    }
    file->directory_fd = open(file->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file->directory_fd >= 0)
        return STATUS_OK;
    file_complain(file, "", "cannot be opened", errno);
    return STATUS_IO;
}

/* The first segment that is there tells whether all lie on persistent memory: a new file would need
 * space. */
static bool probe_pmem(const struct file_medium *file)
{
    size_t size = 0;
    int is_pmem = 0;
    void *base = NULL;
    for (uint32_t i = 0; base == NULL && i < FILE_SEGMENT_COUNT_MAX; i++) {
        char path[FILE_PATH_SIZE + FILE_NAME_SIZE];
        struct stat stat_of;
        medium_file_path(&file->medium, i, path, sizeof(path));
        if (lstat(path, &stat_of) == 0 && S_ISREG(stat_of.st_mode) &&
            stat_of.st_size == (off_t)file->medium.segment_size)
            base = pmem_map_file(path, 0, 0, 0, &size, &is_pmem);
    }
    if (base == NULL)
        return false;
    pmem_unmap(base, size);
    if (is_pmem != 0 && getenv("PMEM_IS_PMEM_FORCE") != NULL)
        log_warn("%s: PMEM_IS_PMEM_FORCE is set: if this is no persistent memory, a power cut "
                 "loses data",
                 file->directory);
    return is_pmem != 0;
}

/* All segments have one size, but another one: a question of settings, not damage. */
static enum status check_sizes(struct file_medium *file, bool *empty)
{
    off_t other = 0;
    *empty = true;
    for (uint32_t i = 0; i < FILE_SEGMENT_COUNT_MAX; i++) {
        char name[FILE_NAME_SIZE];
        struct stat stat;
        segment_file_name(i, name);
        if (fstatat(file->directory_fd, name, &stat, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        *empty = false;
        if (stat.st_size == (off_t)file->medium.segment_size || stat.st_size == 0 ||
            stat.st_size % 4096 != 0 || (other != 0 && other != stat.st_size))
            return STATUS_OK;
        other = stat.st_size;
        char what[128];
        snprintf(what, sizeof(what), "was made with segments of %lld bytes, not %u",
                 (long long)other, file->medium.segment_size);
        file_complain(file, name, what, 0);
    }
    return other == 0 ? STATUS_OK : STATUS_FOREIGN;
}

static bool is_tmpfs(const struct file_medium *file)
{
    struct statfs stat;
    return fstatfs(file->directory_fd, &stat) == 0 && stat.f_type == TMPFS_MAGIC_NUMBER;
}

static enum status start(struct file_medium *file)
{
    bool empty;
    enum status status = check_sizes(file, &empty);
    if (status != STATUS_OK)
        return status;
    file->message[0] = 0;
    segment_file_remove_halves(file);
    /* The first segment is needed as soon as a client writes: better to stop now than then. */
    if (empty)
        status = segment_file_create(file, 0);
    if (status != STATUS_OK)
        return status;
    file->is_pmem = probe_pmem(file);
    file->is_volatile = is_tmpfs(file);
    if (!file->is_pmem)
        status = flusher_start(file);
    if (status != STATUS_OK)
        file_complain(file, "", "the flusher thread cannot be started", errno);
    if (status != STATUS_OK)
        return status;
    maker_open(&file->maker);
    medium_guard_add_any(file);
    return STATUS_OK;
}

enum status medium_file_open(struct medium **medium, const char *directory, uint32_t segment_size,
                             char *message, size_t message_size)
{
    static const struct medium_ops ops = {
        .room = room,
        .map = map,
        .readable = readable,
        .replace = replace,
        .flush = flush,
        .drain = drain,
        .drained = drained,
        .close = close_medium,
    };
    snprintf(message, message_size, "%s: %s", directory, status_text(STATUS_NO_MEMORY));
    struct file_medium *file = calloc(1, sizeof(*file));
    if (file == NULL)
        return STATUS_NO_MEMORY;
    file->medium = (struct medium){.ops = &ops, .segment_size = segment_size};
    file->count_max = FILE_SEGMENT_COUNT_MAX;
    snprintf(file->directory, sizeof(file->directory), "%s", directory);
    enum status status = open_directory(file);
    if (status != STATUS_OK)
        goto free_file;
    status = start(file);
    if (status != STATUS_OK)
        goto close_directory;
    snprintf(message, message_size, "%s", "");
    *medium = &file->medium;
    return STATUS_OK;

close_directory:
    close(file->directory_fd);
free_file:
    snprintf(message, message_size, "%s", file->message);
    free(file);
    return status;
}
