/* Goal: a key has the record that was put last, however many there are, and after a restart too.
 * Method: known sequences on the simulated medium. */
#include "t/store_box.h"

enum { COUNT = 32 };

static struct slice text(const char *bytes)
{
    return slice_text(bytes);
}

TEST(store, finds_the_record_that_was_put_last)
{
    struct box box;
    box_make(&box, COUNT);
    struct found found;
    EXPECT(!box_find(&box, text("a"), &found));
    ASSERT_EQ(box_put(&box, text("a"), RECORD_VALUE, text("one"), false, &found), STATUS_OK);
    ASSERT_EQ(box_put(&box, text("a"), RECORD_VALUE, text("two"), false, &found), STATUS_OK);
    ASSERT(box_find(&box, text("a"), &found));
    EXPECT(slice_equal(record_value(found.record), text("two")));
    EXPECT(!box_find(&box, text("b"), &found));
    box_close(&box);
}

TEST(store, keeps_the_state_of_a_record_until_it_is_set)
{
    struct box box;
    box_make(&box, COUNT);
    struct found found;
    ASSERT_EQ(box_put(&box, text("a"), RECORD_VALUE, text("one"), false, &found), STATUS_OK);
    for (unsigned state = STATE_VALID; state <= STATE_UNCONFIRMED; state++) {
        store_set_state(box.store, &found, (enum record_state)state);
        EXPECT_EQ(found.state, state);
        ASSERT(box_find(&box, text("a"), &found));
        EXPECT_EQ(found.state, state);
        EXPECT(slice_equal(record_value(found.record), text("one")));
    }
    box_close(&box);
}

TEST(store, joins_the_two_parts_of_a_value_and_stores_a_cas)
{
    struct box box;
    box_make(&box, COUNT);
    struct found found;
    struct record_spec spec = {.kind = RECORD_VALUE,
                               .flags = RECORD_CAS | RECORD_RMW,
                               .client_flags = 7,
                               .exptime = 8,
                               .ts = 9,
                               .cas = 10,
                               .key = text("key"),
                               .value = text("head,"),
                               .value_tail = text("tail")};
    ASSERT_EQ(store_put_nodrain(box.store, &spec, hash_key(spec.key), STATE_VALID, false, &found),
              STATUS_OK);
    /* Slices may lie in the log: that is how append and prepend work. */
    spec.value = record_value(found.record);
    ASSERT_EQ(store_put_nodrain(box.store, &spec, hash_key(spec.key), STATE_VALID, false, &found),
              STATUS_OK);
    EXPECT(slice_equal(record_value(found.record), text("head,tailtail")));
    EXPECT_EQ(record_cas(found.record), 10);
    EXPECT_EQ(record_client_flags(found.record), 7);
    EXPECT_EQ(record_exptime(found.record), 8);
    EXPECT_EQ(found.record->ts, 9);
    EXPECT_EQ(found.record->flags & RECORD_FLAGS, RECORD_CAS | RECORD_RMW);
    box_close(&box);
}

TEST(store, holds_as_many_keys_as_fit_and_finds_them_after_a_restart)
{
    struct box box;
    box_make(&box, COUNT);
    struct found found;
    uint32_t count = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        status = box_put(&box, slice_make(&count, 4), RECORD_VALUE, text("v"), false, &found);
        count += status == STATUS_OK;
    }
    EXPECT_EQ(status, STATUS_NO_SPACE);
    EXPECT(count > 30000);
    box_turn(&box);
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < count; i++) {
            ASSERT(box_find(&box, slice_make(&i, 4), &found));
            ASSERT(slice_equal(record_key(found.record), slice_make(&i, 4)));
        }
        EXPECT(!box_find(&box, slice_make(&count, 4), &found));
        box_restart(&box);
        EXPECT_EQ(box.report.record_count, count);
    }
    box_close(&box);
}

/* Keys whose hashes fall into one bucket are what an attacker would send. */
TEST(store, finds_keys_that_all_fall_into_one_bucket)
{
    struct box box;
    box_make(&box, COUNT);
    struct found found;
    static uint32_t keys[500];
    unsigned count = 0;
    for (uint32_t i = 0; count < 500; i++)
        if ((hash_key(slice_make(&i, 4)) & 0xfff) == 5)
            keys[count++] = i;
    for (unsigned i = 0; i < count; i++)
        ASSERT_EQ(box_put(&box, slice_make(&keys[i], 4), RECORD_VALUE, text("v"), false, &found),
                  STATUS_OK);
    for (unsigned i = 0; i < count; i++)
        ASSERT(box_find(&box, slice_make(&keys[i], 4), &found));
    box_close(&box);
}

TEST(store, is_unconfirmed_from_the_newest_mark_on_after_a_restart)
{
    struct box box;
    box_make(&box, COUNT);
    struct found found;
    struct mark mark;
    ASSERT_EQ(box_put(&box, text("before"), RECORD_VALUE, text("v"), false, &found), STATUS_OK);
    uint64_t durable = box_turn(&box);
    ASSERT_EQ(box_put(&box, text("after"), RECORD_VALUE, text("v"), false, &found), STATUS_OK);
    mark = (struct mark){.lsn = durable, .round = 1, .members = 7};
    ASSERT_EQ(store_put_mark_nodrain(box.store, &mark), STATUS_OK);
    box_turn(&box);
    box_restart(&box);
    ASSERT(box_find(&box, text("before"), &found));
    EXPECT_EQ(found.state, STATE_VALID);
    ASSERT(box_find(&box, text("after"), &found));
    EXPECT_EQ(found.state, STATE_UNCONFIRMED);
    box_close(&box);
}

TEST(store, remembers_the_newest_mark_of_each_node)
{
    struct box box;
    box_make(&box, COUNT);
    struct mark mark;
    EXPECT(!store_mark_last(box.store, &mark));
    for (uint64_t round = 1; round <= 4; round++) {
        mark = (struct mark){.lsn = 1, .round = round, .members = round < 3 ? 7 : 3};
        ASSERT_EQ(store_put_mark_nodrain(box.store, &mark), STATUS_OK);
    }
    box_turn(&box);
    for (int life = 0; life < 2; life++) {
        ASSERT(store_mark_with(box.store, 3, &mark));
        EXPECT_EQ(mark.round, 2);
        ASSERT(store_mark_with(box.store, 2, &mark));
        EXPECT_EQ(mark.round, 4);
        EXPECT(!store_mark_with(box.store, 4, &mark));
        ASSERT(store_mark_last(box.store, &mark));
        EXPECT_EQ(mark.round, 4);
        box_restart(&box);
    }
    box_close(&box);
}

TEST(store, keeps_a_clock_with_its_newest_mark_and_without_any)
{
    struct box box;
    box_make(&box, COUNT);
    struct mark mark;
    uint64_t clock, floor;
    store_mark_kept(box.store, &clock, &floor);
    EXPECT_EQ(clock, 0);
    ASSERT_EQ(store_put_clock_nodrain(box.store, 5, 4), STATUS_OK);
    box_turn(&box);
    for (int life = 0; life < 2; life++) {
        EXPECT(!store_mark_last(box.store, &mark));
        store_mark_kept(box.store, &clock, &floor);
        EXPECT_EQ(clock, 5);
        EXPECT_EQ(floor, 4);
        box_restart(&box);
    }
    mark = (struct mark){.lsn = 1, .round = 1, .members = 3, .clock = 6};
    ASSERT_EQ(store_put_mark_nodrain(box.store, &mark), STATUS_OK);
    ASSERT_EQ(store_put_clock_nodrain(box.store, 7, 5), STATUS_OK);
    box_turn(&box);
    for (int life = 0; life < 2; life++) {
        ASSERT(store_mark_with(box.store, 2, &mark));
        EXPECT_EQ(mark.lsn, 1);
        EXPECT_EQ(mark.round, 1);
        EXPECT_EQ(mark.members, 3);
        EXPECT_EQ(mark.clock, 7);
        EXPECT(!store_mark_with(box.store, 3, &mark));
        store_mark_kept(box.store, &clock, &floor);
        EXPECT_EQ(clock, 7);
        EXPECT_EQ(floor, 5);
        box_restart(&box);
    }
    box_close(&box);
}

TEST(store, forgets_its_marks_for_good)
{
    struct box box;
    box_make(&box, COUNT);
    struct found found;
    ASSERT_EQ(box_put(&box, text("a"), RECORD_VALUE, text("v"), false, &found), STATUS_OK);
    struct mark mark = {.lsn = box_turn(&box), .round = 1, .members = 7, .clock = 9, .floor = 8};
    ASSERT_EQ(store_put_mark_nodrain(box.store, &mark), STATUS_OK);
    ASSERT_EQ(store_drop_marks_nodrain(box.store), STATUS_OK);
    box_turn(&box);
    for (int life = 0; life < 2; life++) {
        EXPECT(!store_mark_last(box.store, &mark));
        /* not these: what was given out stays given out */
        store_mark_kept(box.store, &mark.clock, &mark.floor);
        EXPECT_EQ(mark.clock, 9);
        EXPECT_EQ(mark.floor, 8);
        for (unsigned node = 1; node <= NODE_COUNT_MAX; node++)
            EXPECT(!store_mark_with(box.store, node, &mark));
        box_restart(&box);
        ASSERT(box_find(&box, text("a"), &found));
        EXPECT_EQ(found.state, STATE_UNCONFIRMED);
    }
    box_close(&box);
}

/* Numbers of the keys the walk gives, in its order; "..." where the budget ran out. */
static void walk_text(struct box *box, uint64_t lsn_min, uint64_t budget, char *out)
{
    struct store_cursor cursor = {0};
    struct found found;
    uint64_t left = budget;
    out[0] = 0;
    while (store_walk(box->store, &cursor, lsn_min, &left, &found)) {
        if (found.record != NULL)
            strncat(out, record_key(found.record).data, record_key(found.record).size);
        else
            strcat(out, ".");
        left = found.record == NULL ? budget : left;
    }
}

TEST(store, walks_over_what_is_current_in_the_order_of_the_log)
{
    struct box box;
    box_make(&box, COUNT);
    struct found found;
    char out[100];
    const char *keys = "abcab";
    uint64_t lsn_b = 0;
    for (unsigned i = 0; i < 5; i++) {
        ASSERT_EQ(box_put(&box, slice_make(keys + i, 1), i == 2 ? RECORD_TOMBSTONE : RECORD_VALUE,
                          text(""), false, &found),
                  STATUS_OK);
        lsn_b = found.lsn;
    }
    walk_text(&box, 0, 100000, out);
    EXPECT_TEXT(out, "cab");
    walk_text(&box, lsn_b, 100000, out);
    EXPECT_TEXT(out, "b");
    walk_text(&box, lsn_b + 1, 100000, out);
    EXPECT_TEXT(out, "");
    walk_text(&box, 0, 1, out);
    EXPECT_TEXT(out, "..c.a.b.");
    box_close(&box);
}

TEST(store, counts_what_it_holds)
{
    struct box box;
    box_make(&box, COUNT);
    struct found found;
    struct store_stats stats;
    ASSERT_EQ(box_put(&box, text("a"), RECORD_VALUE, text("v"), false, &found), STATUS_OK);
    ASSERT_EQ(box_put(&box, text("b"), RECORD_VALUE, text("v"), false, &found), STATUS_OK);
    ASSERT_EQ(box_put(&box, text("b"), RECORD_TOMBSTONE, text(""), false, &found), STATUS_OK);
    ASSERT_EQ(box_put(&box, text("c"), RECORD_DISCARD, text(""), false, &found), STATUS_OK);
    box_turn(&box);
    for (int life = 0; life < 2; life++) {
        store_stats(box.store, &stats);
        EXPECT_EQ(stats.value_count, 1);
        EXPECT_EQ(stats.tombstone_count, 2);
        EXPECT_EQ(stats.live_bytes, 3 * record_size_of(1, 0, 0) + 1);
        EXPECT_EQ(stats.version_max, 4);
        box_restart(&box);
    }
    box_close(&box);
}
