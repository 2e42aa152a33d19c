/* Goal: records that other threads may still read are not written over. Method: one log in plain
 * memory, where drains are done at once, so that only readers can hold a segment back. */
#include "pmem/log.h"
#include "pmem/medium_memory.h"
#include "t/test.h"

enum { SIZE = 65536, COUNT = 4 };

struct grace {
    struct medium *medium;
    struct log *log;
    struct log_report report;
};

static void nothing(void *user, const struct record *record, place_t place)
{
    (void)user;
    (void)record;
    (void)place;
}

static void make(struct grace *grace, bool readers)
{
    uint32_t bad;
    ASSERT_EQ(medium_memory_open(&grace->medium, SIZE), STATUS_OK);
    struct log_options options = {.identity = {.cluster = 1, .node = 1, .shard_count = 1},
                                  .medium = grace->medium,
                                  .segment_count_max = COUNT,
                                  .readers = readers,
                                  .life = 1};
    ASSERT_EQ(log_open(&grace->log, &options, nothing, NULL, &grace->report, &bad), STATUS_OK);
}

static void end(struct grace *grace)
{
    log_close(grace->log);
    grace->medium->ops->close(grace->medium);
}

/* A record as large as a segment can hold: each takes one, and seals the former. */
static enum status fill_one(struct grace *grace, place_t *place)
{
    static char value[SIZE / 2 + 1000];
    const struct record_spec spec = {.kind = RECORD_VALUE,
                                     .ts = 1,
                                     .key = slice_text("k"),
                                     .value = slice_make(value, sizeof(value))};
    return log_append_nodrain(grace->log, &spec, 0, place);
}

static void turn(struct grace *grace)
{
    uint64_t durable;
    log_drain(grace->log);
    EXPECT_EQ(log_durable(grace->log, &durable), STATUS_OK);
}

static enum segment_state state_of(const struct grace *grace, uint32_t number)
{
    return log_segment(grace->log, number)->state;
}

static void fill_two_and_give_one(struct grace *grace)
{
    place_t place;
    ASSERT_EQ(fill_one(grace, &place), STATUS_OK);
    log_dead(grace->log, place);
    ASSERT_EQ(fill_one(grace, &place), STATUS_OK);
    log_segment_give(grace->log, 0);
    turn(grace);
}

TEST(grace, a_segment_given_back_waits_for_readers)
{
    struct grace grace;
    make(&grace, true);
    EXPECT_EQ(log_grace_ask(grace.log), 0);
    fill_two_and_give_one(&grace);
    EXPECT_EQ(state_of(&grace, 0), SEGMENT_ERASING);
    EXPECT_EQ(log_segment_free_count(grace.log), COUNT - 2);
    uint64_t number = log_grace_ask(grace.log);
    ASSERT(number != 0);
    EXPECT_EQ(log_grace_ask(grace.log), number);
    turn(&grace);
    EXPECT_EQ(state_of(&grace, 0), SEGMENT_ERASING);
    log_grace_pass(grace.log, number);
    turn(&grace);
    EXPECT_EQ(state_of(&grace, 0), SEGMENT_FREE);
    EXPECT_EQ(log_segment_free_count(grace.log), COUNT - 1);
    EXPECT_EQ(log_grace_ask(grace.log), 0);
    end(&grace);
}

/* Who asked before it was given back knows nothing of it: those who have let go since may have
 * found it again. */
TEST(grace, what_is_given_back_after_the_asking_waits_for_the_next)
{
    struct grace grace;
    place_t place;
    make(&grace, true);
    fill_two_and_give_one(&grace);
    uint64_t first = log_grace_ask(grace.log);
    ASSERT_EQ(fill_one(&grace, &place), STATUS_OK);
    log_segment_give(grace.log, 1);
    turn(&grace);
    log_grace_pass(grace.log, first);
    turn(&grace);
    EXPECT_EQ(state_of(&grace, 0), SEGMENT_FREE);
    EXPECT_EQ(state_of(&grace, 1), SEGMENT_ERASING);
    uint64_t second = log_grace_ask(grace.log);
    EXPECT(second > first);
    log_grace_pass(grace.log, second);
    turn(&grace);
    EXPECT_EQ(state_of(&grace, 1), SEGMENT_FREE);
    end(&grace);
}

TEST(grace, without_readers_nothing_waits)
{
    struct grace grace;
    make(&grace, false);
    fill_two_and_give_one(&grace);
    EXPECT_EQ(state_of(&grace, 0), SEGMENT_FREE);
    end(&grace);
}

/* While it waits, its records are as they were, whatever is appended meanwhile. */
TEST(grace, records_stay_whole_while_somebody_reads_them)
{
    struct grace grace;
    place_t place, more;
    make(&grace, true);
    ASSERT_EQ(fill_one(&grace, &place), STATUS_OK);
    const struct record *record = log_record(grace.log, place);
    uint32_t crc = record->crc;
    log_dead(grace.log, place);
    ASSERT_EQ(fill_one(&grace, &more), STATUS_OK);
    log_segment_give(grace.log, 0);
    for (unsigned i = 0; i < 2 * COUNT; i++) {
        turn(&grace);
        (void)fill_one(&grace, &more);
    }
    EXPECT_EQ(record->crc, crc);
    EXPECT(slice_equal(record_key(record), slice_text("k")));
    EXPECT_EQ(fill_one(&grace, &more), STATUS_NO_SPACE);
    log_grace_pass(grace.log, log_grace_ask(grace.log));
    turn(&grace);
    EXPECT_EQ(fill_one(&grace, &more), STATUS_OK);
    end(&grace);
}
