/* Goal: the access word of a key stays with it while the index grows and shrinks, and costs no
 * write. Method: many keys on the simulated medium, each with a time of its own. */
#include <stdio.h>

#include "t/store_box.h"

enum { COUNT = 64, COUNT_SMALL = 14, KEYS = 6000, NOW = 1800000000 };

static struct slice key_of(char out[16], unsigned number)
{
    return slice_make(out, (size_t)snprintf(out, 16, "key%u", number));
}

static void make_keys(struct box *box)
{
    struct found found;
    char key[16];
    for (unsigned i = 0; i < KEYS; i++) {
        ASSERT_EQ(box_put(box, key_of(key, i), RECORD_VALUE, slice_text("v"), false, &found),
                  STATUS_OK);
        store_access_reset(box->store, &found, NOW + i);
        if (i % 2 == 0)
            store_accessed(box->store, &found, NOW + i);
    }
}

TEST(access, words_move_with_the_entries_while_the_index_grows)
{
    struct box box;
    box_make(&box, COUNT);
    make_keys(&box);
    struct found found;
    char key[16];
    for (unsigned i = 0; i < KEYS; i++) {
        ASSERT(box_find(&box, key_of(key, i), &found));
        struct access access = store_access_of(box.store, &found, NOW + KEYS);
        ASSERT_EQ(access.at, NOW + i);
        ASSERT_EQ(access.fetched, i % 2 == 0);
    }
    box_close(&box);
}

/* Dropped tombstones leave holes, which the last entry of the chain fills. */
TEST(access, words_move_with_the_entries_when_keys_go)
{
    struct box box;
    box_make(&box, COUNT_SMALL);
    make_keys(&box);
    struct found found;
    char key[16];
    for (unsigned i = 0; i < KEYS; i++)
        if (i % 3 != 0) {
            ASSERT_EQ(
                box_put(&box, key_of(key, i), RECORD_TOMBSTONE, slice_make("", 0), false, &found),
                STATUS_OK);
            box_turn(&box);
        }
    struct store_drop drop = {.lsn = UINT64_MAX, .floor = UINT64_MAX >> 12};
    struct store_stats stats;
    static char filler[4000];
    for (unsigned i = 0; i < 3000; i++) {
        ASSERT_EQ(box_put(&box, slice_text("filler"), RECORD_VALUE,
                          slice_make(filler, sizeof(filler)), false, &found),
                  STATUS_OK);
        store_clean(box.store, &drop, 1 << 20);
        box_turn(&box);
    }
    store_stats(box.store, &stats);
    EXPECT(stats.tombstone_count < KEYS / 3);
    for (unsigned i = 0; i < KEYS; i += 3) {
        ASSERT(box_find(&box, key_of(key, i), &found));
        ASSERT_EQ(store_access_of(box.store, &found, NOW + KEYS).at, NOW + i);
    }
    box_close(&box);
}

TEST(access, a_new_record_of_a_key_keeps_the_word_until_it_is_reset)
{
    struct box box;
    box_make(&box, COUNT);
    struct found found;
    ASSERT_EQ(box_put(&box, slice_text("a"), RECORD_VALUE, slice_text("1"), false, &found),
              STATUS_OK);
    EXPECT_EQ(store_access_of(box.store, &found, NOW).at, 0U);
    EXPECT(!store_access_of(box.store, &found, NOW).fetched);
    store_accessed(box.store, &found, NOW);
    ASSERT_EQ(box_put(&box, slice_text("a"), RECORD_VALUE, slice_text("2"), false, &found),
              STATUS_OK);
    EXPECT(store_access_of(box.store, &found, NOW + 5).fetched);
    EXPECT_EQ(store_access_of(box.store, &found, NOW + 5).at, (uint32_t)NOW);
    store_access_reset(box.store, &found, NOW + 6);
    EXPECT(!store_access_of(box.store, &found, NOW + 6).fetched);
    EXPECT_EQ(store_access_of(box.store, &found, NOW + 9).at, NOW + 6U);
    /* A clock that was set back is no access in the far past. */
    EXPECT_EQ(store_access_of(box.store, &found, NOW).at, (uint32_t)NOW);
    box_close(&box);
}

TEST(access, words_are_gone_after_a_restart)
{
    struct box box;
    box_make(&box, COUNT);
    struct found found;
    ASSERT_EQ(box_put(&box, slice_text("a"), RECORD_VALUE, slice_text("1"), false, &found),
              STATUS_OK);
    store_accessed(box.store, &found, NOW);
    box_turn(&box);
    box_turn(&box);
    box_restart(&box);
    ASSERT(box_find(&box, slice_text("a"), &found));
    EXPECT_EQ(store_access_of(box.store, &found, NOW).at, 0U);
    box_close(&box);
}
