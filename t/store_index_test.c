/* Goal: a key has the record that was put last, however many there are, and after a restart too.
 * Method: random puts against an array, on memory and on the simulated medium. */
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/prng.h"
#include "pmem/medium_memory.h"
#include "store/store.h"
#include "t/sim_medium.h"
#include "t/test.h"

enum { SIZE = 65536, COUNT = 32 };

struct box {
    struct medium *medium;
    struct store *store;
    struct log_report report;
    void *index;
};

static enum status open_box(struct box *box)
{
    uint64_t size = store_index_size((uint64_t)box->medium->segment_size * COUNT);
    box->index = aligned_alloc(64, (size + 63) / 64 * 64);
    memset(box->index, 0, size);
    struct store_options options = {
        .log = {.identity = {.cluster = 1, .node = 1, .shard_count = 1},
                .medium = box->medium,
                .segment_count_max = COUNT},
        .index = box->index,
        .index_size = size,
    };
    uint32_t bad;
    return store_open(&box->store, &options, &box->report, &bad);
}

static void close_box(struct box *box)
{
    store_close(box->store);
    free(box->index);
}

static enum status put(struct box *box, struct slice key, enum record_kind kind, const char *value,
                       enum record_state state, struct found *found)
{
    struct record_spec spec = {.kind = kind, .ts = 5, .key = key, .value = slice_text(value)};
    return store_put_nodrain(box->store, &spec, hash_key(key), state, false, found);
}

TEST(store, finds_the_record_that_was_put_last)
{
    struct box box = {.medium = sim_medium_open(SIZE, COUNT, 1)};
    ASSERT_EQ(open_box(&box), STATUS_OK);
    struct found found;
    struct slice key = slice_text("a");
    EXPECT(!store_find(box.store, key, hash_key(key), &found));
    ASSERT_EQ(put(&box, key, RECORD_VALUE, "one", STATE_VALID, &found), STATUS_OK);
    ASSERT_EQ(put(&box, key, RECORD_VALUE, "two", STATE_WRITE, &found), STATUS_OK);
    ASSERT(store_find(box.store, key, hash_key(key), &found));
    EXPECT(slice_equal(record_value(found.record), slice_text("two")));
    EXPECT_EQ(found.state, STATE_WRITE);
    store_set_state(box.store, &found, STATE_VALID);
    ASSERT(store_find(box.store, key, hash_key(key), &found));
    EXPECT_EQ(found.state, STATE_VALID);
    close_box(&box);
    box.medium->ops->close(box.medium);
}

TEST(store, holds_as_many_keys_as_fit_and_finds_them_after_a_restart)
{
    struct box box = {.medium = sim_medium_open(SIZE, COUNT, 1)};
    ASSERT_EQ(open_box(&box), STATUS_OK);
    struct found found;
    uint32_t count = 0;
    for (;; count++) {
        enum status status =
            put(&box, slice_make(&count, 4), RECORD_VALUE, "v", STATE_VALID, &found);
        if (status != STATUS_OK) {
            EXPECT_EQ(status, STATUS_NO_SPACE);
            break;
        }
    }
    EXPECT(count > 30000);
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < count; i++) {
            ASSERT(store_find(box.store, slice_make(&i, 4), hash_key(slice_make(&i, 4)), &found));
            ASSERT(slice_equal(record_key(found.record), slice_make(&i, 4)));
        }
        close_box(&box);
        sim_medium_kill(box.medium);
        ASSERT_EQ(open_box(&box), STATUS_OK);
        EXPECT_EQ(box.report.record_count, count);
    }
    close_box(&box);
    box.medium->ops->close(box.medium);
}
