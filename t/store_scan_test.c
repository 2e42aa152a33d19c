/* Goal: a scan visits each key that is there all the time once, however the store changes under it.
 * Method: a store that is filled, emptied and cleaned between the steps of a scan; a tally of
 * visits by key. Cases differ in how many keys there are at first, so that the index stands before,
 * at and behind a power of two. */
#include "base/prng.h"
#include "t/store_box.h"

enum { COUNT = 64, KEY_COUNT_MAX = 20000 };

struct tally {
    uint8_t visits[KEY_COUNT_MAX];
    uint32_t total;
};

static void count(void *user, const struct found *found)
{
    struct tally *tally = user;
    uint32_t key;
    ASSERT_EQ(found->record->key_size, 4);
    memcpy(&key, record_key_at(found->record), 4);
    ASSERT(key < KEY_COUNT_MAX);
    tally->visits[key]++;
    tally->total++;
}

static void put(struct box *box, uint32_t key)
{
    struct found found;
    ASSERT_EQ(box_put(box, slice_make(&key, 4), RECORD_VALUE, slice_text("value"), false, &found),
              STATUS_OK);
}

static void put_range(struct box *box, uint32_t from, uint32_t to)
{
    for (uint32_t key = from; key < to; key++)
        put(box, key);
}

TEST(store, scan_of_an_empty_store_ends)
{
    struct box box;
    static struct tally tally;
    uint64_t position = 0;
    box_make(&box, COUNT);
    while (store_scan(box.store, &position, count, &tally))
        ;
    EXPECT_EQ(tally.total, 0);
    EXPECT(!store_scan(box.store, &position, count, &tally));
    box_close(&box);
}

TEST(store, scan_of_a_store_at_rest_visits_each_key_once)
{
    static const uint32_t counts[] = {1, 79, 80, 81, 159, 160, 161, 1000, 5119, 5120, 5121, 20000};
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct box box;
        static struct tally tally;
        uint64_t position = 0;
        tally = (struct tally){.total = 0};
        box_make(&box, COUNT);
        put_range(&box, 0, counts[i]);
        while (store_scan(box.store, &position, count, &tally))
            ;
        EXPECT_EQ(tally.total, counts[i]);
        for (uint32_t key = 0; key < counts[i]; key++)
            EXPECT_EQ(tally.visits[key], 1);
        box_close(&box);
    }
}

/* The index grows to many times its size while the scan is under way. */
TEST(store, scan_visits_each_key_once_while_the_index_grows)
{
    for (uint32_t first = 1; first < 4000; first = first * 3 + 7) {
        struct box box;
        static struct tally tally;
        uint64_t position = 0;
        tally = (struct tally){.total = 0};
        box_make(&box, COUNT);
        put_range(&box, 0, first);
        uint32_t next = first;
        while (store_scan(box.store, &position, count, &tally)) {
            uint32_t more = next + 37 < KEY_COUNT_MAX ? next + 37 : KEY_COUNT_MAX;
            put_range(&box, next, more);
            next = more;
        }
        for (uint32_t key = 0; key < first; key++)
            EXPECT_EQ(tally.visits[key], 1);
        for (uint32_t key = first; key < next; key++)
            EXPECT(tally.visits[key] <= 1);
        box_close(&box);
    }
}

/* Overwriting moves records, cleaning too, and removing a key moves an entry inside its chain. */
TEST(store, scan_visits_each_key_once_while_others_are_changed_and_removed)
{
    struct box box;
    static struct tally tally;
    struct prng prng = {.state = 17};
    uint64_t position = 0;
    enum { KEPT = 3000, CHANGED = 6000 };
    box_make(&box, 16);
    put_range(&box, 0, CHANGED);
    while (store_scan(box.store, &position, count, &tally)) {
        for (int i = 0; i < 5; i++) {
            uint32_t key = KEPT + (uint32_t)(prng_next(&prng) % (CHANGED - KEPT));
            struct found found;
            enum record_kind kind = i % 2 == 0 ? RECORD_VALUE : RECORD_TOMBSTONE;
            enum status status =
                box_put(&box, slice_make(&key, 4), kind,
                        slice_text(kind == RECORD_VALUE ? "other" : ""), true, &found);
            ASSERT(status == STATUS_OK || status == STATUS_BUSY);
        }
        struct store_drop drop = {.lsn = log_tail(store_log(box.store)), .floor = box.version};
        store_clean(box.store, &drop, 65536);
        box_turn(&box);
    }
    for (uint32_t key = 0; key < KEPT; key++)
        EXPECT_EQ(tally.visits[key], 1);
    for (uint32_t key = KEPT; key < CHANGED; key++)
        EXPECT(tally.visits[key] <= 1);
    box_close(&box);
}
