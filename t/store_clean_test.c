/* Goal: overwriting for ever works in bounded space, nothing current is lost by it, and what is
 * full says so. Method: known loads on the simulated medium; and long random lives (store_trace.h).
 */
#include "t/store_box.h"
#include "t/store_trace.h"

#include <setjmp.h>
#include <stddef.h>

#include "base/prng.h"

enum { COUNT = 32, VALUE_SIZE = 200, RETRIES_MAX = 100 };

static char value[BOX_SEGMENT_SIZE];

/* As a client's worker does: on STATUS_BUSY again in a later turn. */
static enum status put_patiently(struct box *box, uint32_t key, enum record_kind kind, size_t size)
{
    struct found found;
    for (unsigned i = 0; i < RETRIES_MAX; i++) {
        enum status status =
            box_put(box, slice_make(&key, 4), kind, slice_make(value, size), false, &found);
        if (status != STATUS_BUSY)
            return status;
        box_turn(box);
    }
    return STATUS_BUSY;
}

/* Fills the store to `percent` of the space that it says it has. Gives the number of keys. */
static uint32_t fill(struct box *box, unsigned percent)
{
    struct store_stats stats;
    uint32_t count = 0;
    for (;; count++) {
        store_stats(box->store, &stats);
        if (stats.live_bytes >= stats.log_bytes / 100 * percent)
            return count;
        if (put_patiently(box, count, RECORD_VALUE, VALUE_SIZE) != STATUS_OK)
            return 0;
    }
}

TEST(clean, overwriting_for_ever_works_at_eighty_percent_live)
{
    struct box box;
    box_make(&box, COUNT);
    uint32_t keys = fill(&box, 80);
    ASSERT(keys > 0);
    struct prng prng = {.state = 7};
    struct store_drop drop = {0};
    uint64_t written = 0, size = record_size_of(4, VALUE_SIZE, 0);
    for (unsigned i = 0; written < 20ULL * COUNT * BOX_SEGMENT_SIZE; written += size, i++) {
        uint32_t key = (uint32_t)prng_below(&prng, keys);
        ASSERT_EQ(put_patiently(&box, key, RECORD_VALUE, VALUE_SIZE), STATUS_OK);
        if (i % 16 == 0) {
            box_turn(&box);
            if (store_wants_cleaning(box.store))
                store_clean(box.store, &drop, 16384);
        }
    }
    struct store_stats stats;
    store_stats(box.store, &stats);
    EXPECT_EQ(stats.value_count, keys);
    EXPECT(stats.cleaned_bytes < 8 * written);
    box_turn(&box);
    box_restart(&box);
    struct found found;
    for (uint32_t key = 0; key < keys; key++)
        ASSERT(box_find(&box, slice_make(&key, 4), &found));
    box_close(&box);
}

/* Without a single call of store_clean: puts clean as much as they need. */
TEST(clean, puts_alone_keep_the_space_bounded)
{
    struct box box;
    box_make(&box, COUNT);
    uint32_t keys = fill(&box, 80);
    ASSERT(keys > 0);
    struct prng prng = {.state = 8};
    for (unsigned i = 0; i < 40000; i++)
        ASSERT_EQ(put_patiently(&box, (uint32_t)prng_below(&prng, keys), RECORD_VALUE, VALUE_SIZE),
                  STATUS_OK);
    box_close(&box);
}

TEST(clean, deleting_for_ever_works_when_tombstones_may_be_dropped)
{
    struct box box;
    box_make(&box, COUNT);
    struct store_drop drop = {0};
    uint64_t written = 0;
    for (uint32_t key = 0; written < 20ULL * COUNT * BOX_SEGMENT_SIZE; key++) {
        ASSERT_EQ(put_patiently(&box, key, RECORD_VALUE, VALUE_SIZE), STATUS_OK);
        ASSERT_EQ(put_patiently(&box, key, RECORD_TOMBSTONE, 0), STATUS_OK);
        written += record_size_of(4, VALUE_SIZE, 0) + record_size_of(4, 0, 0);
        if (key % 16 != 0)
            continue;
        drop = (struct store_drop){.lsn = box_turn(&box), .floor = box.version};
        if (store_wants_cleaning(box.store))
            store_clean(box.store, &drop, 16384);
    }
    struct store_stats stats;
    store_stats(box.store, &stats);
    EXPECT_EQ(stats.value_count, 0);
    EXPECT(stats.live_bytes < stats.log_bytes / 2);
    box_close(&box);
}

/* The hardest for tombstones: full of values, all deleted, full of others. */
TEST(clean, a_full_store_can_be_emptied_and_filled_again)
{
    struct box box;
    box_make(&box, COUNT);
    struct store_drop drop = {0};
    for (uint32_t round = 0; round < 6; round++) {
        uint32_t first = round * 1000000, count = 0;
        while (count < 5500 &&
               put_patiently(&box, first + count, RECORD_VALUE, VALUE_SIZE) == STATUS_OK)
            count++;
        ASSERT_EQ(count, 5500);
        for (uint32_t i = 0; i < count; i++) {
            ASSERT_EQ(put_patiently(&box, first + i, RECORD_TOMBSTONE, 0), STATUS_OK);
            drop = (struct store_drop){.lsn = box_turn(&box), .floor = box.version};
            store_clean(box.store, &drop, 1000);
        }
    }
    box_close(&box);
}

TEST(clean, a_store_full_of_live_data_refuses_clients_and_still_takes_what_is_urgent)
{
    struct box box;
    box_make(&box, COUNT);
    uint32_t key = 0;
    enum status status;
    while ((status = put_patiently(&box, key, RECORD_VALUE, VALUE_SIZE)) == STATUS_OK)
        key++;
    EXPECT_EQ(status, STATUS_NO_SPACE);
    struct store_stats stats;
    store_stats(box.store, &stats);
    EXPECT(stats.live_bytes > stats.log_bytes / 100 * 88);
    struct found found;
    for (uint32_t i = 0; i < 100; i++) {
        uint32_t other = 1000000 + i;
        EXPECT_EQ(box_put(&box, slice_make(&other, 4), RECORD_VALUE, slice_make(value, VALUE_SIZE),
                          true, &found),
                  STATUS_OK);
    }
    /* What does not make it fuller is always possible: an equal overwrite, and a deletion. */
    for (uint32_t i = 0; i < 2000; i++)
        ASSERT_EQ(put_patiently(&box, i % key, RECORD_VALUE, VALUE_SIZE), STATUS_OK);
    for (uint32_t i = 0; i < key; i++)
        ASSERT_EQ(put_patiently(&box, i, RECORD_TOMBSTONE, 0), STATUS_OK);
    ASSERT_EQ(put_patiently(&box, 5, RECORD_VALUE, VALUE_SIZE), STATUS_OK);
    box_close(&box);
}

TEST(clean, says_busy_while_segments_are_on_their_way_to_be_free)
{
    struct box box;
    box_make(&box, COUNT);
    uint32_t keys = fill(&box, 60);
    sim_medium_set_manual(box.medium, true);
    struct found found;
    enum status status = STATUS_OK;
    for (uint32_t i = 0; status == STATUS_OK && i < 100000; i++) {
        uint32_t key = i % keys;
        status = box_put(&box, slice_make(&key, 4), RECORD_VALUE, slice_make(value, VALUE_SIZE),
                         false, &found);
    }
    EXPECT_EQ(status, STATUS_BUSY);
    uint32_t key = 1;
    EXPECT_EQ(box_put(&box, slice_make(&key, 4), RECORD_VALUE, slice_make(value, VALUE_SIZE), true,
                      &found),
              STATUS_OK);
    sim_medium_set_manual(box.medium, false);
    sim_medium_complete(box.medium, sim_medium_asked(box.medium));
    EXPECT_EQ(put_patiently(&box, key, RECORD_VALUE, VALUE_SIZE), STATUS_OK);
    box_close(&box);
}

/* Overwrites until all that lay in the log was cleaned, several times. */
static void turn_over(struct box *box, const struct store_drop *drop)
{
    struct prng prng = {.state = 9};
    for (unsigned i = 0; i < 30000; i++) {
        ASSERT_EQ(put_patiently(box, (uint32_t)prng_below(&prng, 1000), RECORD_VALUE, VALUE_SIZE),
                  STATUS_OK);
        box_turn(box);
        if (store_wants_cleaning(box->store))
            store_clean(box->store, drop, 16384);
    }
}

/* The rule of three: confirmed everywhere, at most the floor, and no older version anywhere in the
 * log. */
TEST(clean, keeps_tombstones_that_absent_nodes_need)
{
    for (unsigned round = 0; round < 2; round++) {
        struct box box;
        box_make(&box, COUNT);
        uint32_t key = 1000000;
        struct found found;
        ASSERT_EQ(put_patiently(&box, key, RECORD_VALUE, 10), STATUS_OK);
        ASSERT_EQ(put_patiently(&box, key, RECORD_TOMBSTONE, 0), STATUS_OK);
        ASSERT(box_find(&box, slice_make(&key, 4), &found));
        uint64_t lsn = found.lsn, version = ts_version(found.record->ts);
        struct store_drop drop = {.lsn = lsn + (round != 0), .floor = version - (round != 1)};
        struct store_drop wide = {.lsn = lsn + 1, .floor = version};
        turn_over(&box, &drop);
        if (round == 0)
            EXPECT(box_find(&box, slice_make(&key, 4), &found));
        turn_over(&box, &wide);
        EXPECT(!box_find(&box, slice_make(&key, 4), &found));
        box_restart(&box);
        EXPECT(!box_find(&box, slice_make(&key, 4), &found));
        box_close(&box);
    }
}

/* They are for the log alone: no node needs them. */
TEST(clean, discards_leave_when_what_they_void_has_left)
{
    struct box box;
    box_make(&box, COUNT);
    uint32_t key = 1000000;
    struct found found;
    ASSERT_EQ(put_patiently(&box, key, RECORD_VALUE, 10), STATUS_OK);
    ASSERT_EQ(put_patiently(&box, key, RECORD_DISCARD, 0), STATUS_OK);
    ASSERT(box_find(&box, slice_make(&key, 4), &found));
    struct store_drop drop = {0};
    turn_over(&box, &drop);
    EXPECT(!box_find(&box, slice_make(&key, 4), &found));
    box_restart(&box);
    EXPECT(!box_find(&box, slice_make(&key, 4), &found));
    box_close(&box);
}

TEST(clean, marks_survive_it)
{
    struct box box;
    box_make(&box, COUNT);
    struct mark mark = {.lsn = 1, .round = 5, .members = 7};
    ASSERT_EQ(store_put_mark_nodrain(box.store, &mark), STATUS_OK);
    mark = (struct mark){.lsn = 1, .round = 6, .members = 3};
    ASSERT_EQ(store_put_mark_nodrain(box.store, &mark), STATUS_OK);
    for (uint32_t i = 0; i < 40000; i++)
        ASSERT_EQ(put_patiently(&box, i % 1000, RECORD_VALUE, VALUE_SIZE), STATUS_OK);
    box_turn(&box);
    box_restart(&box);
    ASSERT(store_mark_with(box.store, 3, &mark));
    EXPECT_EQ(mark.round, 5);
    ASSERT(store_mark_with(box.store, 1, &mark));
    EXPECT_EQ(mark.round, 6);
    box_close(&box);
}

/* Records so large that few fit into a segment: cleaning may not run in circles. */
TEST(clean, large_records_are_refused_when_they_no_longer_fit)
{
    struct box box;
    box_make(&box, COUNT);
    uint32_t key = 0;
    enum status status;
    while ((status = put_patiently(&box, key, RECORD_VALUE, BOX_SEGMENT_SIZE * 2 / 5)) == STATUS_OK)
        key++;
    EXPECT_EQ(status, STATUS_NO_SPACE);
    EXPECT(key >= 40);
    for (uint32_t i = 0; i < 1000; i++)
        ASSERT_EQ(put_patiently(&box, i % (key / 2), RECORD_VALUE, BOX_SEGMENT_SIZE * 2 / 5),
                  STATUS_OK);
    EXPECT_EQ(put_patiently(&box, 1, RECORD_VALUE, BOX_SEGMENT_SIZE), STATUS_TOO_LARGE);
    box_close(&box);
}

TEST(clean, a_small_log_works_too)
{
    struct box box;
    box_make(&box, 4);
    for (uint32_t i = 0; i < 20000; i++)
        ASSERT_EQ(put_patiently(&box, i % 100, RECORD_VALUE, VALUE_SIZE), STATUS_OK);
    box_close(&box);
}

TEST(clean, random_lives_lose_nothing_and_bring_nothing_back)
{
    for (uint64_t seed = 1; seed <= 150; seed++) {
        const char *failure = store_trace_run(seed);
        if (failure != NULL) {
            test_fail(__FILE__, __LINE__, "seed %llu: %s", (unsigned long long)seed, failure);
            return;
        }
    }
}

static sigjmp_buf broken_end;
static uint32_t broken_segment;

static void on_broken(void *user, uint32_t segment)
{
    (void)user;
    broken_segment = segment;
    siglongjmp(broken_end, 1);
}

/* The store is full of what lives when a byte of a sealed segment rots, under the running process.
 * Then every second key is overwritten, until cleaning comes by. `at`: in the record. Returns the
 * segment that it named. */
static uint32_t rot_and_clean(uint32_t at, uint8_t byte)
{
    struct box box;
    struct store_drop drop = {0};
    struct found found;
    uint32_t key = 10;
    box_make(&box, COUNT);
    box.broken = on_broken;
    uint32_t keys = fill(&box, 80);
    box_turn(&box);
    box_restart(&box);
    EXPECT(box_find(&box, slice_make(&key, 4), &found));
    uint32_t segment = (uint32_t)(found.place >> PLACE_UNIT_BITS);
    EXPECT_EQ(log_segment(store_log(box.store), segment)->state, SEGMENT_SEALED);
    ((uint8_t *)(uintptr_t)found.record)[at] ^= byte;
    broken_segment = UINT32_MAX;
    if (sigsetjmp(broken_end, 0) == 0)
        for (unsigned i = 0; i < 20 * keys; i++) {
            EXPECT_EQ(put_patiently(&box, i % keys | 1, RECORD_VALUE, VALUE_SIZE), STATUS_OK);
            box_turn(&box);
            store_clean(box.store, &drop, 16384);
        }
    EXPECT(broken_segment == segment);
    uint32_t named = broken_segment;
    box_close(&box);
    return named;
}

/* A copy would have a right checksum. */
TEST(clean, a_value_that_has_rotted_is_not_copied)
{
    EXPECT(rot_and_clean(sizeof(struct record) + 50, 1) != UINT32_MAX);
}

TEST(clean, a_segment_whose_records_are_not_found_is_not_given_back)
{
    /* the value's size */
    EXPECT(rot_and_clean(offsetof(struct record, crc) + 16, 0x10) != UINT32_MAX);
    EXPECT(rot_and_clean(sizeof(struct record), 1) != UINT32_MAX); /* the key */
}

/* Once the group's records are here again, the damaged segment is cleaned away, and the next start
 * finds no damage. */
TEST(clean, takes_damaged_segments_after_a_repair)
{
    struct box box;
    struct store_drop drop = {0};
    box_make(&box, COUNT);
    ASSERT(fill(&box, 40) > 0);
    box_turn(&box);
    for (unsigned i = 0; i < 64 && box.report.corrupt_count == 0; i++) {
        ASSERT(sim_medium_corrupt(box.medium));
        box_restart(&box);
    }
    ASSERT(box.report.corrupt_count > 0);
    box_turn(&box);
    box_restart(&box);
    EXPECT(box.report.corrupt_count > 0); /* evidence stays until somebody repairs */
    store_repair(box.store);
    for (unsigned i = 0; i < 1000 && store_wants_cleaning(box.store); i++) {
        box_turn(&box);
        store_clean(box.store, &drop, 65536);
    }
    EXPECT(!store_wants_cleaning(box.store));
    for (unsigned i = 0; i < 10; i++)
        box_turn(&box);
    box_restart(&box);
    EXPECT_EQ(box.report.corrupt_count, 0);
    box_close(&box);
}

static void reopen_smaller(struct box *box, uint32_t segment_count)
{
    box_turn(box);
    uint64_t size = store_index_size((uint64_t)BOX_SEGMENT_SIZE * box->segment_count);
    struct store_options options = {
        .log = {.identity = {.cluster = 1, .node = 1, .shard_count = 1},
                .medium = box->medium,
                .segment_count_max = segment_count},
        .index = box->index,
        .index_size = size,
    };
    uint32_t bad;
    store_close(box->store);
    sim_medium_cut(box->medium);
    memset(box->index, 0, size);
    ASSERT_EQ(store_open(&box->store, &options, &box->report, &bad), STATUS_OK);
}

static void expect_keys(struct box *box, uint32_t keys)
{
    struct found found;
    for (uint32_t key = 0; key < keys; key++)
        EXPECT(box_find(box, slice_make(&key, 4), &found));
}

/* The data was spread over all segments; what is free beyond the new limit is not used again. */
TEST(clean, a_log_that_is_opened_with_a_smaller_limit_comes_down_to_it)
{
    struct box box;
    struct store_drop drop = {0};
    box_make(&box, COUNT);
    uint32_t keys = fill(&box, 30);
    ASSERT(keys > 0);
    for (unsigned i = 0; i < 3 * keys; i++)
        ASSERT_EQ(put_patiently(&box, i % keys, RECORD_VALUE, VALUE_SIZE), STATUS_OK);
    reopen_smaller(&box, COUNT / 2);
    EXPECT(log_segment_count(store_log(box.store)) > COUNT / 2);
    EXPECT_EQ(log_segment_limit(store_log(box.store)), COUNT / 2);
    EXPECT(!store_is_full(box.store));
    for (unsigned i = 0; store_wants_cleaning(box.store) && i < 10000; i++) {
        store_clean(box.store, &drop, 16384);
        box_turn(&box);
    }
    EXPECT(!store_wants_cleaning(box.store));
    EXPECT(log_segment_count(store_log(box.store)) <= COUNT / 2 + 1); /* perhaps the open one */
    for (unsigned i = 0; i < 2 * keys; i++)
        ASSERT_EQ(put_patiently(&box, i % keys, RECORD_VALUE, VALUE_SIZE), STATUS_OK);
    EXPECT(log_segment_count(store_log(box.store)) <= COUNT / 2 + 1);
    expect_keys(&box, keys);
    reopen_smaller(&box, COUNT / 2);
    expect_keys(&box, keys);
    box_close(&box);
}

TEST(clean, more_data_than_a_smaller_limit_is_kept_and_may_not_grow)
{
    struct box box;
    struct found found;
    box_make(&box, COUNT);
    uint32_t keys = fill(&box, 80), more = keys;
    ASSERT(keys > 0);
    reopen_smaller(&box, COUNT / 2);
    EXPECT(store_is_full(box.store));
    expect_keys(&box, keys);
    EXPECT_EQ(put_patiently(&box, more, RECORD_VALUE, VALUE_SIZE), STATUS_NO_SPACE);
    for (uint32_t i = 0; i < 4 * keys; i++)
        ASSERT_EQ(put_patiently(&box, i % keys, RECORD_VALUE, VALUE_SIZE), STATUS_OK);
    for (uint32_t key = keys / 4; key < keys; key++)
        ASSERT_EQ(put_patiently(&box, key, RECORD_VALUE, 0), STATUS_OK);
    EXPECT(!store_is_full(box.store));
    EXPECT_EQ(put_patiently(&box, more, RECORD_VALUE, VALUE_SIZE), STATUS_OK);
    expect_keys(&box, keys);
    EXPECT(box_find(&box, slice_make(&more, 4), &found));
    box_close(&box);
}

/* Just as many segments in use as the new limit allows is the case that needs most. */
TEST(clean, what_a_smaller_limit_leaves_is_enough_for_a_mark_and_for_making_the_data_less)
{
    for (uint32_t limit = COUNT / 2; limit <= COUNT; limit++) {
        struct box box;
        struct mark mark = {.lsn = 1, .round = limit, .members = 1, .configured = 1};
        box_make(&box, COUNT);
        uint32_t keys = fill(&box, 80);
        ASSERT(keys > 0);
        reopen_smaller(&box, limit);
        enum status status = store_put_mark_nodrain(box.store, &mark);
        if (status != STATUS_OK)
            test_fail(__FILE__, __LINE__, "limit %u: no room for a mark", limit);
        for (uint32_t key = 0; key < keys; key++)
            ASSERT_EQ(put_patiently(&box, key, RECORD_VALUE, 0), STATUS_OK);
        EXPECT(!store_is_full(box.store));
        box_close(&box);
    }
}
