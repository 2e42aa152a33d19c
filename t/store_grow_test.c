/* Goal: the index touches no memory that it has not asked for, and asks for little at a time;
 * without it the store goes on, and is not taken over. Method: the memory cannot be touched until
 * it was asked for. */
#include <sys/mman.h>

#include "base/hash.h"
#include "base/ts.h"
#include "pmem/medium_memory.h"
#include "store/store.h"
#include "t/test.h"

enum {
    SEGMENT_SIZE = 1 << 20,
    SEGMENT_COUNT = 32,
    KEY_COUNT = 200000,
    PAGE = 4096,
    STEP_MAX = 1 << 20, /* bytes: what takes well below 1 ms */
};

struct guarded {
    uint8_t *at;
    uint64_t size;
    uint64_t largest; /* asked for at once, behind the first */
    unsigned count;
    bool refuses; /* from now on what is given would not outlive the process */
};

static bool grow(void *user, uint64_t from, uint64_t to)
{
    struct guarded *memory = user;
    from = from / PAGE * PAGE;
    to = (to + PAGE - 1) / PAGE * PAGE;
    EXPECT(to <= memory->size);
    if (memory->count++ > 0 && to - from > memory->largest)
        memory->largest = to - from;
    EXPECT_EQ(mprotect(memory->at + from, to - from, PROT_READ | PROT_WRITE), 0);
    return !memory->refuses;
}

static enum status put(struct store *store, uint32_t key)
{
    struct found found;
    struct slice slice = slice_make(&key, sizeof(key));
    struct record_spec spec = {.kind = RECORD_VALUE, .ts = ts_make(key + 1, 1, 0), .key = slice};
    return store_put_nodrain(store, &spec, hash_key(slice), STATE_VALID, true, &found);
}

static void check_all(const struct store *store)
{
    for (uint32_t key = 0; key < KEY_COUNT; key++) {
        struct found found;
        struct slice slice = slice_make(&key, sizeof(key));
        ASSERT(store_find(store, slice, hash_key(slice), &found));
    }
}

static void run(bool refuses)
{
    struct guarded memory = {
        .size =
            (store_index_size((uint64_t)SEGMENT_SIZE * SEGMENT_COUNT) + PAGE - 1) / PAGE * PAGE};
    memory.at =
        mmap(NULL, memory.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT(memory.at != MAP_FAILED);
    const struct store_keep keep = {.whose = "me", .grow = grow, .user = &memory};
    struct store_options options = {.index = memory.at, .index_size = memory.size, .keep = &keep};
    options.log.segment_count_max = SEGMENT_COUNT;
    ASSERT_EQ(medium_memory_open(&options.log.medium, SEGMENT_SIZE), STATUS_OK);
    struct store *store;
    struct log_report report;
    uint32_t bad;
    const char *why = "";
    ASSERT_EQ(store_open(&store, &options, &report, &bad), STATUS_OK);
    for (uint32_t key = 0; key < KEY_COUNT; key++) {
        memory.refuses = refuses && key > KEY_COUNT / 2;
        ASSERT_EQ(put(store, key), STATUS_OK);
    }
    check_all(store);
    EXPECT(memory.count > 4);
    EXPECT(memory.largest <= STEP_MAX);
    memory.refuses = false;
    enum status status = store_take_over(&store, &options, &report, &bad, &why);
    EXPECT_EQ(status, refuses ? STATUS_NOT_FOUND : STATUS_OK);
    if (status == STATUS_OK)
        check_all(store);
    store_close(store);
    options.log.medium->ops->close(options.log.medium);
    munmap(memory.at, memory.size);
}

TEST(grow, asks_before_it_touches_and_for_little_at_a_time)
{
    run(false);
}

TEST(grow, without_memory_that_outlives_the_process_nothing_is_taken_over)
{
    run(true);
}
