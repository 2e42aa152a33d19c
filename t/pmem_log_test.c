/* Goal: the log keeps what it said is durable, invents nothing and refuses what is not its own.
 * Method: small logs on the simulated medium, ended by kills, power cuts and rot. */
#include <stdio.h>
#include <stdlib.h>

#include "base/prng.h"
#include "pmem/log.h"
#include "pmem/log_private.h"
#include "pmem/medium_memory.h"
#include "t/log_trace.h"
#include "t/sim_medium.h"
#include "t/test.h"

enum { SIZE = 65536, COUNT = 16 };

static struct log_options options_of(struct medium *medium)
{
    static uint32_t lives;
    return (struct log_options){
        .identity = {.cluster = 77, .node = 1, .shard = 0, .shard_count = 1},
        .medium = medium,
        .segment_count_max = COUNT,
        .life = ++lives,
    };
}

static void count_record(void *user, const struct record *record, place_t place)
{
    (void)record;
    (void)place;
    (*(uint64_t *)user)++;
}

static struct log *open_log(struct medium *medium, struct log_report *report, uint64_t *count)
{
    struct log_options options = options_of(medium);
    struct log *log = NULL;
    uint32_t bad;
    *count = 0;
    if (log_open(&log, &options, count_record, count, report, &bad) != STATUS_OK)
        return NULL;
    return log;
}

static enum status append(struct log *log, const char *key, size_t value_size, place_t *place)
{
    static char value[SIZE];
    struct record_spec spec = {.kind = RECORD_VALUE,
                               .key = slice_text(key),
                               .value = slice_make(value, value_size),
                               .ts = 1};
    return log_append_nodrain(log, &spec, 0, place);
}

TEST(log, gives_back_after_a_restart_what_was_drained)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct log_report report;
    uint64_t count, durable;
    struct log *log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    place_t place = 0;
    for (int i = 0; i < 100; i++)
        ASSERT_EQ(append(log, "key", 1500, &place), STATUS_OK);
    EXPECT(place != 0);
    log_drain(log);
    ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
    EXPECT_EQ(durable, log_tail(log));
    log_close(log);
    sim_medium_cut(medium);
    log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    EXPECT_EQ(count, 100);
    EXPECT_EQ(report.corrupt_count, 0);
    EXPECT(log_tail(log) >= durable);
    log_close(log);
    medium->ops->close(medium);
}

static void run_traces(enum log_trace_end end, unsigned count)
{
    for (uint64_t seed = 1; seed <= count; seed++) {
        const char *failure = log_trace_run(seed, end);
        if (failure != NULL) {
            test_fail(__FILE__, __LINE__, "seed %llu: %s", (unsigned long long)seed, failure);
            return;
        }
    }
}

TEST(log, loses_nothing_durable_and_invents_nothing_over_power_cuts)
{
    run_traces(TRACE_CUT, 300);
}

TEST(log, loses_nothing_durable_over_kills_and_power_cuts)
{
    run_traces(TRACE_KILL, 300);
}

TEST(log, reports_rot_and_never_gives_a_wrong_value)
{
    run_traces(TRACE_CORRUPT, 300);
}

/* A log of a few records, closed. */
static struct medium *make_log(void)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 3);
    struct log_report report;
    uint64_t count, durable;
    place_t place;
    struct log *log = open_log(medium, &report, &count);
    for (int i = 0; i < 100; i++)
        EXPECT_EQ(append(log, "key", 1500, &place), STATUS_OK);
    /* Twice, as turns go on: the second one makes durable what was noted after the first. */
    for (int turn = 0; turn < 2; turn++) {
        log_drain(log);
        EXPECT_EQ(log_durable(log, &durable), STATUS_OK);
    }
    log_close(log);
    sim_medium_cut(medium);
    return medium;
}

static void expect_refused(struct medium *medium, const struct log_options *options,
                           enum status expected)
{
    uint64_t before = sim_medium_hash(medium), flushed = sim_medium_flushed(medium), count = 0;
    struct log_report report;
    struct log *log = NULL;
    uint32_t bad = 99;
    EXPECT_EQ(log_open(&log, options, count_record, &count, &report, &bad), expected);
    EXPECT(log == NULL);
    EXPECT_EQ(count, 0);
    EXPECT_EQ(bad, 0);
    EXPECT(sim_medium_hash(medium) == before);
    EXPECT_EQ(sim_medium_flushed(medium), flushed);
}

TEST(log, refuses_what_belongs_to_another_and_writes_no_byte)
{
    struct medium *medium = make_log();
    for (unsigned field = 0; field < 4; field++) {
        struct log_options options = options_of(medium);
        options.identity.cluster += field == 0;
        options.identity.node += field == 1;
        options.identity.shard += field == 2;
        options.identity.shard_count += field == 3;
        expect_refused(medium, &options, STATUS_FOREIGN);
    }
    medium->ops->close(medium);
}

/* The header of segment 0, as a later version would write it: magic, crc and version keep their
 * places. */
TEST(log, refuses_another_version_and_writes_no_byte)
{
    struct medium *medium = make_log();
    void *base;
    ASSERT_EQ(medium->ops->map(medium, 0, false, &base), STATUS_OK);
    struct segment_header header;
    memcpy(&header, base, sizeof(header));
    header.version++;
    header.crc = segment_header_crc(&header);
    for (uint32_t i = 0; i < sizeof(header); i++)
        sim_medium_poke(medium, 0, i, ((uint8_t *)&header)[i]);
    struct log_options options = options_of(medium);
    expect_refused(medium, &options, STATUS_VERSION);
    medium->ops->close(medium);
}

TEST(log, keeps_what_is_readable_when_a_header_is_damaged)
{
    struct medium *medium = make_log();
    sim_medium_poke(medium, 0, 3, 0xff);
    struct log_report report;
    uint64_t count;
    struct log *log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    EXPECT_EQ(count, 100);
    EXPECT_EQ(report.corrupt_count, 1);
    EXPECT_EQ(report.corrupt_segment, 0);
    log_close(log);
    medium->ops->close(medium);
}

TEST(log, keeps_what_lies_behind_a_damaged_record_and_never_overwrites_it)
{
    struct medium *medium = make_log();
    sim_medium_poke(medium, 0, 10000, 0xff);
    struct log_report report;
    uint64_t count, durable;
    place_t place;
    for (unsigned life = 0; life < 3; life++) {
        struct log *log = open_log(medium, &report, &count);
        ASSERT(log != NULL);
        EXPECT_EQ(count, 99 + life);
        EXPECT_EQ(report.corrupt_count, 1);
        EXPECT_EQ(log_segment(log, 0)->state, SEGMENT_SEALED);
        uint64_t tail = log_tail(log);
        EXPECT(tail > 101);
        ASSERT_EQ(append(log, "more", 10, &place), STATUS_OK);
        EXPECT_EQ(log_lsn(log, place), tail);
        log_drain(log);
        ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
        log_close(log);
        sim_medium_cut(medium);
    }
    medium->ops->close(medium);
}

/* Values of anything hold a lot that looks like records; what is behind the damage is found by the size of what is damaged. */
TEST(log, loses_no_more_records_than_are_damaged_among_values_of_any_bytes)
{
    enum { SIZE_USUAL = 1 << 20, VALUE_SIZE = 5000, KEPT = 200, HURT = 4 };
    struct medium *medium = sim_medium_open(SIZE_USUAL, COUNT, 5);
    struct log_report report;
    uint64_t count, durable;
    struct prng prng = {.state = 99};
    struct log *log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    uint8_t value[VALUE_SIZE];
    for (unsigned i = 0; i < sizeof(value); i++)
        value[i] = (uint8_t)prng_next(&prng);
    struct record_spec spec = {.kind = RECORD_VALUE, .key = slice_text("key"), .value = slice_make(value, VALUE_SIZE), .ts = 1};
    place_t places[KEPT];
    for (unsigned i = 0; i < KEPT; i++)
        ASSERT_EQ(log_append_nodrain(log, &spec, 0, &places[i]), STATUS_OK);
    log_drain(log);
    ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
    log_close(log);
    sim_medium_cut(medium);
    for (unsigned i = 0; i < HURT; i++) {
        place_t place = places[10 + i * 40];
        sim_medium_poke(medium, place_segment(place), place_offset(place) + sizeof(struct record) + 30, 4);
    }
    log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    EXPECT_EQ(count, KEPT - HURT);
    EXPECT(report.corrupt_count > 0);
    log_close(log);
    medium->ops->close(medium);
}

TEST(log, gives_a_damaged_segment_back_when_it_is_told_to)
{
    struct medium *medium = make_log();
    sim_medium_poke(medium, 0, 10000, 0xff);
    struct log_report report;
    uint64_t count, durable;
    struct log *log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    uint32_t before = log_segment_free_count(log);
    log_segment_give(log, 0);
    ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
    EXPECT_EQ(log_segment(log, 0)->state, SEGMENT_FREE);
    EXPECT_EQ(log_segment_free_count(log), before + 1);
    log_close(log);
    sim_medium_cut(medium);
    log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    EXPECT_EQ(report.corrupt_count, 0);
    log_close(log);
    medium->ops->close(medium);
}

TEST(log, reports_a_segment_that_was_cut_short)
{
    struct medium *medium = make_log();
    sim_medium_truncate(medium, 1);
    struct log_report report;
    uint64_t count, durable;
    struct log *log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    EXPECT_EQ(report.corrupt_count, 1);
    EXPECT_EQ(report.corrupt_segment, 1);
    EXPECT(count < 100);
    log_segment_give(log, 1);
    ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
    place_t place;
    while (append(log, "key", 1500, &place) == STATUS_OK)
        EXPECT(place >> PLACE_UNIT_BITS != 1);
    log_close(log);
    medium->ops->close(medium);
}

/* Fills segment 0 with records of which every third lives, and copies those to the cold tail. */
static struct log *make_copies(struct medium *medium)
{
    struct log_report report;
    uint64_t count, durable;
    place_t place, to, lives[100];
    uint32_t live_count = 0;
    struct log *log = open_log(medium, &report, &count);
    for (int i = 0; i < 100; i++) {
        EXPECT_EQ(append(log, "key", 1500, &place), STATUS_OK);
        if (place >> PLACE_UNIT_BITS == 0 && i % 3 == 0)
            lives[live_count++] = place;
    }
    log_drain(log);
    EXPECT_EQ(log_durable(log, &durable), STATUS_OK);
    for (uint32_t i = 0; i < live_count; i++)
        EXPECT_EQ(log_copy_nodrain(log, lives[i], STREAM_COLD, &to), STATUS_OK);
    EXPECT_EQ(log_tail(log), 103); /* two SEALs, and no copy */
    return log;
}

TEST(log, a_cold_tail_that_is_torn_loses_nothing)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct medium *medium = sim_medium_open(SIZE, COUNT, seed);
        struct log_report report;
        uint64_t count;
        log_close(make_copies(medium));
        sim_medium_cut(medium);
        struct log *log = open_log(medium, &report, &count);
        ASSERT(log != NULL);
        EXPECT(count >= 100);
        EXPECT_EQ(report.corrupt_count, 0);
        EXPECT(log_tail(log) >= 103);
        log_close(log);
        medium->ops->close(medium);
    }
}

TEST(log, goes_on_at_both_tails_after_a_restart)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct log_report report;
    uint64_t count, durable;
    place_t place, copy;
    struct log *log = make_copies(medium);
    log_segment_give(log, 0);
    ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
    EXPECT_EQ(log_segment(log, 0)->state, SEGMENT_FREE);
    log_close(log);
    sim_medium_cut(medium);
    log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    ASSERT_EQ(append(log, "key", 10, &place), STATUS_OK);
    EXPECT_EQ(log_lsn(log, place), 103);
    log_drain(log);
    ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
    ASSERT_EQ(log_copy_nodrain(log, place, STREAM_COLD, &copy), STATUS_OK);
    EXPECT_EQ(log_segment(log, (uint32_t)(place >> PLACE_UNIT_BITS))->generation, 3);
    EXPECT_EQ(log_segment(log, (uint32_t)(copy >> PLACE_UNIT_BITS))->generation, 4);
    EXPECT_EQ(log_segment(log, (uint32_t)(copy >> PLACE_UNIT_BITS))->stream, STREAM_COLD);
    EXPECT_EQ(log_lsn(log, copy), 103);
    log_close(log);
    medium->ops->close(medium);
}

/* Behind the drain the segment they came from is gone: they may not pass for a torn tail. */
TEST(log, reports_damage_in_the_cold_tail)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct log_report report;
    uint64_t count, durable;
    struct log *log = make_copies(medium);
    log_segment_give(log, 0);
    ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
    log_close(log);
    sim_medium_cut(medium);
    sim_medium_poke(medium, 3, 10000, 0xff);
    log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    EXPECT_EQ(report.corrupt_count, 1);
    EXPECT_EQ(report.corrupt_segment, 3);
    EXPECT_EQ(log_segment(log, 3)->stream, STREAM_COLD);
    EXPECT_EQ(log_segment(log, 3)->state, SEGMENT_SEALED);
    log_close(log);
    medium->ops->close(medium);
}

TEST(log, refuses_what_never_fits_and_what_does_not_fit_now)
{
    struct medium *medium = sim_medium_open(SIZE, 2, 1);
    struct log_report report;
    uint64_t count;
    struct log *log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    place_t place;
    uint64_t value_max = log_record_size_max(log) - sizeof(struct record) - 3;
    EXPECT_EQ(append(log, "key", value_max + 1, &place), STATUS_TOO_LARGE);
    EXPECT_EQ(append(log, "key", value_max, &place), STATUS_OK);
    uint64_t tail = log_tail(log);
    struct record_spec spec = {.kind = RECORD_TOMBSTONE, .key = slice_text("key")};
    EXPECT_EQ(log_append_nodrain(log, &spec, COUNT - 1, &place), STATUS_NO_SPACE);
    EXPECT_EQ(log_tail(log), tail);
    EXPECT_EQ(append(log, "key", value_max, &place), STATUS_OK);
    /* The medium is full before the limit of the log is. */
    EXPECT_EQ(append(log, "key", 1, &place), STATUS_NO_SPACE);
    EXPECT_EQ(log_segment_free_count(log), 0);
    log_close(log);
    medium->ops->close(medium);
}

/* Records of which one fills a segment, until there is no room. */
static uint32_t fill(struct log *log)
{
    place_t place;
    uint32_t count = 0;
    while (append(log, "k", SIZE - 1024, &place) == STATUS_OK)
        count++;
    return count;
}

TEST(log, takes_no_more_segments_than_it_is_told)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct log_report report;
    uint64_t count;
    place_t place;
    struct log *log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    ASSERT_EQ(append(log, "k", SIZE - 1024, &place), STATUS_OK);
    EXPECT_EQ(log_segment_used_count(log), 1);
    EXPECT_EQ(log_resize(log, 0), 1);
    EXPECT_EQ(log_segment_free_count(log), 0);
    EXPECT_EQ(append(log, "k", SIZE - 1024, &place), STATUS_NO_SPACE);
    EXPECT_EQ(log_resize(log, 5), 5);
    EXPECT_EQ(log_segment_count(log), 5);
    EXPECT_EQ(fill(log), 4);
    EXPECT_EQ(log_segment_free_count(log), 0);
    EXPECT_EQ(log_resize(log, 3), 5);
    EXPECT_EQ(log_resize(log, COUNT + 1), COUNT);
    EXPECT_EQ(fill(log), COUNT - 5);
    log_close(log);
    medium->ops->close(medium);
}

TEST(log, is_durable_only_when_the_drain_is_done_and_stops_when_the_medium_fails)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct log_report report;
    uint64_t count, durable;
    place_t place;
    struct log *log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    sim_medium_set_manual(medium, true);
    ASSERT_EQ(append(log, "a", 10, &place), STATUS_OK);
    log_drain(log);
    uint64_t asked = sim_medium_asked(medium);
    ASSERT_EQ(append(log, "b", 10, &place), STATUS_OK);
    log_drain(log);
    log_drain(log);
    EXPECT_EQ(sim_medium_asked(medium), asked + 1);
    ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
    EXPECT_EQ(durable, 1);
    sim_medium_complete(medium, asked);
    ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
    EXPECT_EQ(durable, 2);
    sim_medium_fail(medium);
    EXPECT_EQ(log_durable(log, &durable), STATUS_IO);
    log_close(log);
    medium->ops->close(medium);
}

/* Drains are asked for faster than they are done: none is forgotten, however many. */
TEST(log, remembers_any_number_of_drains)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct log_report report;
    uint64_t count, durable;
    place_t place;
    struct log *log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    sim_medium_set_manual(medium, true);
    for (unsigned i = 0; i < 300; i++) {
        ASSERT_EQ(append(log, "a", 10, &place), STATUS_OK);
        log_drain(log);
    }
    sim_medium_complete(medium, 20);
    ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
    EXPECT_EQ(durable, 20);
    sim_medium_complete(medium, sim_medium_asked(medium));
    ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
    EXPECT_EQ(durable, log_tail(log));
    log_close(log);
    medium->ops->close(medium);
}

/* A power cut may keep the records of a segment and lose its header. When the space is used again, none of them may come back. */
TEST(log, no_record_comes_back_whose_header_was_lost)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct log_report report;
    uint64_t count;
    place_t first, second;
    uint8_t left[160];
    struct log *log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    ASSERT_EQ(append(log, "first", 100, &first), STATUS_OK);
    ASSERT_EQ(append(log, "second", 100, &second), STATUS_OK);
    uint32_t at = (uint32_t)((const uint8_t *)log_record(log, second) - log_segment(log, 0)->base);
    memcpy(left, log_record(log, second), sizeof(left));
    log_close(log);
    for (uint32_t i = 0; i < SEGMENT_RECORDS; i++)
        sim_medium_poke(medium, 0, i, 0);
    sim_medium_kill(medium);
    log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    EXPECT_EQ(count, 0);
    ASSERT_EQ(append(log, "third", 100, &first), STATUS_OK);
    log_drain(log);
    log_close(log);
    sim_medium_kill(medium);
    for (uint32_t i = 0; i < sizeof(left); i++) /* the zeros behind the record were lost, too */
        sim_medium_poke(medium, 0, at + i, left[i]);
    log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    EXPECT_EQ(count, 1);
    log_close(log);
    medium->ops->close(medium);
}

/* A client's value that looks like a record, with the right checksum for another place, is no
 * record, not even where the record around it is damaged and sound ones are looked for behind. */
TEST(log, finds_no_record_inside_a_value)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct log_report report;
    uint64_t count;
    place_t first, second;
    struct log *log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    ASSERT_EQ(append(log, "inner", 16, &first), STATUS_OK);
    const struct record *inner = log_record(log, first);
    struct record_spec spec = {.kind = RECORD_VALUE,
                               .key = slice_text("outerkey"),
                               .value = slice_make(inner, record_size(inner))};
    ASSERT_EQ(log_append_nodrain(log, &spec, 0, &second), STATUS_OK);
    const uint8_t *base = log_segment(log, 0)->base;
    uint32_t outer = (uint32_t)((const uint8_t *)log_record(log, second) - base);
    uint64_t durable;
    log_drain(log);
    ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
    log_close(log);
    sim_medium_kill(medium);
    sim_medium_poke(medium, 0, outer + 4, 0xff);
    log = open_log(medium, &report, &count);
    ASSERT(log != NULL);
    EXPECT_EQ(report.corrupt_count, 1);
    EXPECT_EQ(count, 1);
    log_close(log);
    medium->ops->close(medium);
}

/* The header of segment 0, as a log with larger segments would write it. */
TEST(log, refuses_segments_of_another_size_and_writes_no_byte)
{
    struct medium *medium = make_log();
    void *base;
    ASSERT_EQ(medium->ops->map(medium, 0, false, &base), STATUS_OK);
    struct segment_header header;
    memcpy(&header, base, sizeof(header));
    header.segment_size *= 2;
    header.crc = segment_header_crc(&header);
    for (uint32_t i = 0; i < sizeof(header); i++)
        sim_medium_poke(medium, 0, i, ((uint8_t *)&header)[i]);
    struct log_options options = options_of(medium);
    expect_refused(medium, &options, STATUS_FOREIGN);
    medium->ops->close(medium);
}

/* Makes the second of two records one that was never written so, with the right checksum; how many are found then. */
static uint64_t count_with(uint8_t kind, uint8_t key_size)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct log_report report;
    uint64_t count = 0;
    place_t first, second;
    struct log *log = open_log(medium, &report, &count);
    EXPECT_EQ(append(log, "first", 10, &first), STATUS_OK);
    EXPECT_EQ(append(log, "second", 400, &second), STATUS_OK);
    static uint64_t copy[128];
    struct record *record = (void *)copy;
    memcpy(copy, log_record(log, second), record_size(log_record(log, second)));
    record->value_size = (record->value_size + record->key_size - key_size) & RECORD_VALUE_SIZE_MAX;
    record->key_size = key_size;
    record->kind = kind & 7;
    uint32_t offset = place_offset(second);
    record->crc = record_crc(segment_crc_seed(log, 0, log_segment(log, 0)->generation), offset, record);
    log_close(log);
    sim_medium_kill(medium);
    for (uint32_t i = 0; i < record_size(record); i++)
        sim_medium_poke(medium, 0, offset + i, ((uint8_t *)copy)[i]);
    log = open_log(medium, &report, &count);
    EXPECT(log != NULL);
    log_close(log);
    medium->ops->close(medium);
    return count;
}

TEST(log, takes_no_record_of_an_unknown_kind)
{
    EXPECT_EQ(count_with(RECORD_VALUE, 6), 2);
    EXPECT_EQ(count_with(0, 6), 1);
    EXPECT_EQ(count_with(RECORD_SEAL + 1, 6), 1);
}

TEST(log, takes_no_record_whose_key_is_too_long)
{
    EXPECT_EQ(count_with(RECORD_VALUE, RECORD_KEY_SIZE_MAX), 2);
    EXPECT_EQ(count_with(RECORD_VALUE, RECORD_KEY_SIZE_MAX + 1), 1);
}
