/* shelf.h: a store in this process's memory, for what measures the store alone. One thread. */
#ifndef BENCH_SHELF_H
#define BENCH_SHELF_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "base/hash.h"
#include "base/ts.h"
#include "pmem/medium_memory.h"
#include "store/store_private.h"

enum { SHELF_KEY_SIZE = 16, SHELF_TURN = 16 }; /* puts a turn of the owner's loop */

struct shelf {
    struct store *store;
    struct medium *medium;
    void *index;
    uint64_t index_size, version, durable;
};

static inline uint64_t shelf_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Of this thread: what other processes take does not count. */
static inline uint64_t shelf_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void shelf_must(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static inline void shelf_open(struct shelf *shelf, uint32_t segment_count, uint32_t segment_size)
{
    struct log_report report;
    uint32_t bad;
    *shelf = (struct shelf){.index_size = store_index_size((uint64_t)segment_count * segment_size)};
    shelf_must(medium_memory_open(&shelf->medium, segment_size) == STATUS_OK, "no memory");
    shelf->index = mmap(NULL, shelf->index_size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    shelf_must(shelf->index != MAP_FAILED, "no memory");
    struct store_options options = {
        .log = {.identity = {.cluster = 1, .node = 1, .shard_count = 1},
                .medium = shelf->medium,
                .segment_count_max = segment_count},
        .index = shelf->index,
        .index_size = shelf->index_size,
    };
    shelf_must(store_open(&shelf->store, &options, &report, &bad) == STATUS_OK, "cannot open");
}

static inline void shelf_close(struct shelf *shelf)
{
    store_close(shelf->store);
    munmap(shelf->index, shelf->index_size);
    shelf->medium->ops->close(shelf->medium);
}

/* What a worker does once in a turn. */
static inline void shelf_turn(struct shelf *shelf)
{
    const struct store_drop drop = {.lsn = shelf->durable, .floor = shelf->version};
    log_drain(store_log(shelf->store));
    shelf_must(log_durable(store_log(shelf->store), &shelf->durable) == STATUS_OK, "no medium");
    store_clean_turn(shelf->store, &drop);
}

static inline enum status shelf_put(struct shelf *shelf, uint64_t number, uint32_t value_size)
{
    static char value[1 << 16];
    char key[32];
    struct found found;
    snprintf(key, sizeof(key), "key:%012llx", (unsigned long long)(number & 0xffffffffffff));
    struct slice name = slice_make(key, SHELF_KEY_SIZE);
    struct record_spec spec = {.kind = RECORD_VALUE,
                               .ts = ts_make(++shelf->version, 1, 0),
                               .key = name,
                               .value = slice_make(value, value_size)};
    return store_put_nodrain(shelf->store, &spec, hash_key(name), STATE_VALID, false, &found);
}

#endif
