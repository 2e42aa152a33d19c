/* bench/sync: how to make mapped segments durable: several dirty stretches of one or more files,
 * synced in the ways that Linux offers. Prints, for each pattern, microseconds of a batch in each
 * way, side by side: `name value unit`, then a table.
 *
 *   bench/sync [DIRECTORY]      default: the current directory; it must be on the disk in question
 *
 * A batch is what the flusher (pmem/medium_flusher.c) has to do for one drain: the tail of the open
 * segment, and perhaps the progress line of another and the header of a third. sync_file_range()
 * does not empty the disk's own cache, so it is no alternative, only the lower bound of writing. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 3, SIZE = 8 << 20, PAGE = 4096, ROUNDS = 150, STRETCHES_MAX = 16 };

struct stretch {
    unsigned file;
    size_t at, size;
};

struct pattern {
    const char *name;
    unsigned count;
    struct stretch stretches[STRETCHES_MAX];
};

struct files {
    int fds[FILES];
    uint8_t *bases[FILES];
};

static const struct pattern patterns[] = {
    {"tail_of_one_page", 1, {{0, 5 * PAGE, 300}}},
    {"tail_of_64_KiB", 1, {{0, 16 * PAGE, 64 << 10}}},
    {"tail_of_1_MiB", 1, {{0, 16 * PAGE, 1 << 20}}},
    {"tail_and_progress_line", 2, {{0, 64, 64}, {0, 700 * PAGE, 4096}}},
    {"three_files", 3, {{0, 64, 64}, {1, 500 * PAGE, 8192}, {2, 0, 64}}},
    {"eight_pages_of_one_file",
     8,
     {{0, 0, 64},
      {0, 100 * PAGE, 64},
      {0, 200 * PAGE, 64},
      {0, 300 * PAGE, 64},
      {0, 400 * PAGE, 64},
      {0, 500 * PAGE, 64},
      {0, 600 * PAGE, 64},
      {0, 700 * PAGE, 64}}},
};

enum way { WAY_MSYNC_EACH, WAY_MSYNC_SPAN, WAY_FDATASYNC, WAY_RANGE_ONLY, WAY_COUNT };
static const char *const way_names[WAY_COUNT] = {"msync_each", "msync_span", "fdatasync",
                                                 "range_only"};

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void open_files(struct files *files, const char *directory)
{
    static char zeros[1 << 16];
    for (unsigned i = 0; i < FILES; i++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/bench-sync-%u-%ld", directory, i, (long)getpid());
        files->fds[i] = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (files->fds[i] < 0)
            fail(path);
        unlink(path);
        for (size_t at = 0; at < SIZE; at += sizeof(zeros))
            if (pwrite(files->fds[i], zeros, sizeof(zeros), (off_t)at) != (ssize_t)sizeof(zeros))
                fail("write");
        if (fsync(files->fds[i]) != 0)
            fail("fsync");
        files->bases[i] = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, files->fds[i], 0);
        if (files->bases[i] == MAP_FAILED)
            fail("mmap");
    }
}

static void sync_stretch(const struct files *files, unsigned file, size_t from, size_t to,
                         enum way way)
{
    int failed = 0;
    from = from / PAGE * PAGE;
    if (way == WAY_FDATASYNC)
        failed = fdatasync(files->fds[file]);
    else if (way == WAY_RANGE_ONLY)
        failed = sync_file_range(files->fds[file], (off_t)from, (off_t)(to - from),
                                 SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                     SYNC_FILE_RANGE_WAIT_AFTER);
    else
        failed = msync(files->bases[file] + from, to - from, MS_SYNC);
    if (failed != 0)
        fail(way_names[way]);
}

/* From the first to the last dirty byte of each file, as the flusher does; each by itself for the
 * other ways. */
static void sync_batch(const struct files *files, const struct pattern *pattern, enum way way)
{
    size_t from[FILES], to[FILES] = {0};
    memset(from, 0xff, sizeof(from));
    for (unsigned i = 0; i < pattern->count; i++) {
        const struct stretch *stretch = &pattern->stretches[i];
        size_t end = stretch->at + stretch->size;
        if (way == WAY_MSYNC_EACH || way == WAY_RANGE_ONLY)
            sync_stretch(files, stretch->file, stretch->at, end, way);
        from[stretch->file] = stretch->at < from[stretch->file] ? stretch->at : from[stretch->file];
        to[stretch->file] = end > to[stretch->file] ? end : to[stretch->file];
    }
    for (unsigned i = 0; i < FILES; i++)
        if (to[i] > 0 && (way == WAY_MSYNC_SPAN || way == WAY_FDATASYNC))
            sync_stretch(files, i, from[i], to[i], way);
}

static int compare(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

/* The ways take turns, so that what else the disk does hits all alike. The median. */
static void measure(const struct files *files, const struct pattern *pattern, double us[WAY_COUNT])
{
    static uint64_t took[WAY_COUNT][ROUNDS];
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (enum way way = 0; way < WAY_COUNT; way++) {
            for (unsigned i = 0; i < pattern->count; i++) {
                const struct stretch *stretch = &pattern->stretches[i];
                memset(files->bases[stretch->file] + stretch->at, (int)(round + way),
                       stretch->size);
            }
            uint64_t began = clock_ns();
            sync_batch(files, pattern, way);
            took[way][round] = clock_ns() - began;
        }
    }
    for (enum way way = 0; way < WAY_COUNT; way++) {
        qsort(took[way], ROUNDS, sizeof(took[way][0]), compare);
        us[way] = (double)took[way][ROUNDS / 2] / 1000;
    }
}

int main(int count, char **arguments)
{
    enum { PATTERNS = sizeof(patterns) / sizeof(patterns[0]) };
    static double us[PATTERNS][WAY_COUNT];
    static struct files files;
    open_files(&files, count > 1 ? arguments[1] : ".");
    for (unsigned i = 0; i < PATTERNS; i++) {
        measure(&files, &patterns[i], us[i]);
        for (enum way way = 0; way < WAY_COUNT; way++)
            printf("sync_%s_%s %.0f us\n", patterns[i].name, way_names[way], us[i][way]);
    }
    printf("\n%-26s", "median, us");
    for (enum way way = 0; way < WAY_COUNT; way++)
        printf("%12s", way_names[way]);
    for (unsigned i = 0; i < PATTERNS; i++) {
        printf("\n%-26s", patterns[i].name);
        for (enum way way = 0; way < WAY_COUNT; way++)
            printf("%12.0f", us[i][way]);
    }
    printf("\n");
    return 0;
}
