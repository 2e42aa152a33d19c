/* Goal: a thread that reads records of another one's shard finds what is current at that moment,
 * whole, whatever the owner does: replaces, removes, splits chains, cleans, uses segments again.
 * Method: an owner that does all this as fast as it can in a small log, so that each segment is
 * used again many times a second, and readers that find, let the owner work, and only then look. A
 * value says whose it is, which version, and has a checksum. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/crc32c.h"
#include "base/hash.h"
#include "base/ts.h"
#include "pmem/medium_memory.h"
#include "server/readers.h"
#include "store/store.h"
#include "t/test.h"

enum {
    SEGMENT_SIZE = 16384,
    SEGMENT_COUNT = 24,
    HOT = 48,    /* keys that readers ask for */
    COLD = 2048, /* keys that come and go beside them: chains grow, split and shrink */
    VALUE_MAX = 700,
    READERS = 2,
    /* or longer, until enough was done, on a machine that is slow or busy */
    RUN_MS = 1500,
    RUN_MS_MAX = 60000,
    USES_MIN = 10 * SEGMENT_COUNT,
    HITS_MIN = 1000,
};

struct world {
    struct medium *medium;
    struct store *store;
    void *index;
    struct readers readers;
    _Atomic bool stop;
    _Atomic uint64_t begun[HOT];    /* the newest version that the owner has begun to put */
    _Atomic uint64_t complete[HOT]; /* the newest that is the current one, or a newer */
    _Atomic uint64_t hits, stale, torn;
    uint64_t asked, grace; /* the owner's */
    uint64_t version;
    uint32_t random;
};

struct value {
    uint32_t crc; /* of all that follows */
    uint32_t key;
    uint64_t version;
    uint8_t filling[VALUE_MAX];
};

static uint32_t draw(uint32_t *random, uint32_t below)
{
    *random = *random * 1664525 + 1013904223;
    return (*random >> 8) % below;
}

static uint32_t crc_of(const struct value *value, size_t size)
{
    return crc32c(0, &value->key, size - offsetof(struct value, key));
}

/* ---- the owner ---- */

static bool put(struct world *world, uint32_t key, enum record_kind kind)
{
    struct value value = {.key = key, .version = ++world->version};
    size_t size = offsetof(struct value, filling) + draw(&world->random, VALUE_MAX);
    memset(value.filling, (int)value.version, VALUE_MAX);
    value.crc = crc_of(&value, size);
    struct record_spec spec = {.kind = kind,
                               .ts = ts_make(value.version, 1, 0),
                               .key = slice_make(&key, sizeof(key)),
                               .value = slice_make(&value, kind == RECORD_VALUE ? size : 0)};
    struct found found;
    if (key < HOT)
        atomic_store(&world->begun[key], value.version);
    enum status status =
        store_put_nodrain(world->store, &spec, hash_key(spec.key), STATE_VALID, true, &found);
    if (status == STATUS_OK && key < HOT)
        atomic_store(&world->complete[key], value.version);
    return status == STATUS_OK;
}

/* What a worker does at the end of its turn. */
static void end_turn(struct world *world)
{
    struct log *log = store_log(world->store);
    const struct store_drop drop = {.lsn = log_tail(log), .floor = UINT64_MAX >> 12};
    uint64_t durable;
    store_clean(world->store, &drop, SEGMENT_SIZE);
    if (world->grace == 0 && (world->grace = log_grace_ask(log)) != 0)
        world->asked = readers_ask_any(&world->readers);
    if (world->grace != 0 && readers_passed_any(&world->readers, world->asked)) {
        log_grace_pass(log, world->grace);
        world->grace = 0;
    }
    log_drain(log);
    EXPECT_EQ(log_durable(log, &durable), STATUS_OK);
}

/* Comes and goes in waves, so that the index splits, and tombstones leave it. */
static void own(struct world *world, uint64_t turn)
{
    for (unsigned i = 0; i < 16; i++) {
        bool hot = draw(&world->random, 2) == 0;
        bool wither = (turn / 256) % 2 == 1;
        uint32_t key = hot ? draw(&world->random, HOT) : HOT + draw(&world->random, COLD);
        enum record_kind kind = RECORD_VALUE;
        if (draw(&world->random, 8) == 0 || (!hot && (wither || key > HOT + COLD / 8)))
            kind = RECORD_TOMBSTONE;
        if (!put(world, key, kind)) {
            sched_yield(); /* no room before a reader has left */
            break;
        }
    }
    end_turn(world);
}

/* ---- readers ---- */

static void look(struct world *world, uint32_t key, uint32_t *random)
{
    struct slice name = slice_make(&key, sizeof(key));
    struct value copy;
    struct found found;
    uint64_t least = atomic_load(&world->complete[key]);
    if (!store_read_any(world->store, name, hash_key(name), &found) ||
        found.record->kind != RECORD_VALUE)
        return;
    if (draw(random, 4) == 0)
        sched_yield(); /* the owner goes on meanwhile */
    struct slice value = record_value(found.record);
    uint64_t most = atomic_load(&world->begun[key]);
    if (value.size < offsetof(struct value, filling) || value.size > sizeof(copy)) {
        atomic_fetch_add(&world->torn, 1);
        return;
    }
    memcpy(&copy, value.data, value.size);
    struct access access;
    (void)store_accessed_any(world->store, &found, 1, true, &access);
    atomic_fetch_add(&world->hits, 1);
    atomic_fetch_add(&world->torn, copy.crc != crc_of(&copy, value.size) || copy.key != key);
    atomic_fetch_add(&world->stale, copy.version < least || copy.version > most);
}

struct reader_thread {
    struct world *world;
    unsigned number;
    pthread_t thread;
};

static void *read_all_the_time(void *user)
{
    struct reader_thread *reader = user;
    struct world *world = reader->world;
    uint32_t random = reader->number * 77 + 1;
    while (!atomic_load(&world->stop) && atomic_load(&world->torn) == 0) {
        readers_enter_any(&world->readers, reader->number);
        for (unsigned i = 0; i < 8; i++)
            look(world, draw(&random, HOT), &random);
        readers_leave_any(&world->readers, reader->number);
    }
    return NULL;
}

/* ---- the test ---- */

static void open_world(struct world *world)
{
    uint64_t size = store_index_size((uint64_t)SEGMENT_SIZE * SEGMENT_COUNT);
    struct log_report report;
    uint32_t bad;
    *world = (struct world){.random = 1};
    readers_init(&world->readers, READERS + 1);
    world->index = aligned_alloc(64, (size + 63) / 64 * 64);
    memset(world->index, 0, size);
    ASSERT_EQ(medium_memory_open(&world->medium, SEGMENT_SIZE), STATUS_OK);
    struct store_options options = {
        .log = {.identity = {.cluster = 1, .node = 1, .shard_count = 1},
                .medium = world->medium,
                .segment_count_max = SEGMENT_COUNT,
                .readers = true,
                .life = 1},
        .index = world->index,
        .index_size = size,
    };
    ASSERT_EQ(store_open(&world->store, &options, &report, &bad), STATUS_OK);
}

static void close_world(struct world *world)
{
    store_close(world->store);
    world->medium->ops->close(world->medium);
    free(world->index);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint32_t newest_generation(const struct world *world)
{
    const struct log *log = store_log(world->store);
    uint32_t newest = 0;
    for (uint32_t i = 0; i < log_segment_count(log); i++)
        if (log_segment(log, i)->generation > newest)
            newest = log_segment(log, i)->generation;
    return newest;
}

static bool goes_on(const struct world *world, uint64_t begin_ms)
{
    uint64_t spent = now_ms() - begin_ms;
    bool enough = newest_generation(world) >= USES_MIN && atomic_load(&world->hits) >= HITS_MIN;
    return spent < (enough ? RUN_MS : RUN_MS_MAX) && atomic_load(&world->torn) == 0;
}

TEST(readers, find_what_is_current_and_whole_whatever_the_owner_does)
{
    static struct world world;
    struct reader_thread threads[READERS];
    open_world(&world);
    for (unsigned i = 0; i < READERS; i++) {
        threads[i] = (struct reader_thread){.world = &world, .number = i};
        ASSERT_EQ(pthread_create(&threads[i].thread, NULL, read_all_the_time, &threads[i]), 0);
    }
    uint64_t begin = now_ms();
    for (uint64_t turn = 0; goes_on(&world, begin); turn++)
        own(&world, turn);
    atomic_store(&world.stop, true);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(threads[i].thread, NULL);
    EXPECT_EQ(atomic_load(&world.torn), 0);
    EXPECT_EQ(atomic_load(&world.stale), 0);
    EXPECT(atomic_load(&world.hits) >= HITS_MIN);
    EXPECT(newest_generation(&world) >= USES_MIN);
    if (getenv("READERS_VERBOSE") != NULL)
        fprintf(stderr, "%llu hits, %u segments used, version %llu\n",
                (unsigned long long)world.hits, newest_generation(&world),
                (unsigned long long)world.version);
    close_world(&world);
}

/* One thread plays all parts: the order is known. */
TEST(readers, who_is_inside_when_an_owner_asks_holds_it_up_until_it_leaves)
{
    static struct readers readers;
    readers_init(&readers, 3);
    EXPECT(readers_passed_any(&readers, readers_ask_any(&readers)));
    readers_enter_any(&readers, 1);
    uint64_t first = readers_ask_any(&readers);
    EXPECT(!readers_passed_any(&readers, first));
    readers_enter_any(&readers, 2); /* it has seen the asking */
    readers_leave_any(&readers, 1);
    EXPECT(readers_passed_any(&readers, first));
    uint64_t second = readers_ask_any(&readers);
    EXPECT(!readers_passed_any(&readers, second));
    readers_leave_any(&readers, 2);
    readers_enter_any(&readers, 1);
    EXPECT(readers_passed_any(&readers, second));
    EXPECT(readers_passed_any(&readers, first));
}
