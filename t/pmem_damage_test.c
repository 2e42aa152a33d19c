/* Goal: the log refuses what is not its own, says what is damaged, keeps the rest, and takes
 * nothing for a record that is none. Method: small logs on the simulated medium whose bytes are
 * changed between two starts. */
#include "base/prng.h"
#include "t/log_life.h"

/* A log of a few records, closed. */
static struct medium *make_log(void)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 3);
    struct found found;
    place_t place;
    struct log *log = start(medium, &found);
    for (int i = 0; i < 100; i++)
        EXPECT_EQ(append(log, "key", 1500, &place), STATUS_OK);
    /* Twice, as turns go on: the second one makes durable what was noted after the first. */
    turn(log);
    turn(log);
    log_close(log);
    sim_medium_cut(medium);
    return medium;
}

static void expect_refused(struct medium *medium, const struct log_options *options,
                           enum status expected)
{
    uint64_t before = sim_medium_hash(medium), flushed = sim_medium_flushed(medium);
    struct found found = {.count = 0};
    struct log *log = NULL;
    uint32_t bad = 99;
    EXPECT_EQ(log_open(&log, options, count_record, &found.count, &found.report, &bad), expected);
    EXPECT(log == NULL);
    EXPECT_EQ(found.count, 0);
    EXPECT_EQ(bad, 0);
    EXPECT(sim_medium_hash(medium) == before);
    EXPECT_EQ(sim_medium_flushed(medium), flushed);
}

TEST(damage, refuses_what_belongs_to_another_and_writes_no_byte)
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

static struct segment_header header_of(struct medium *medium)
{
    void *base;
    struct segment_header header;
    EXPECT_EQ(medium->ops->map(medium, 0, false, &base), STATUS_OK);
    memcpy(&header, base, sizeof(header));
    return header;
}

static void put_header(struct medium *medium, struct segment_header header)
{
    header.crc = segment_header_crc(&header);
    for (uint32_t i = 0; i < sizeof(header); i++)
        sim_medium_poke(medium, 0, i, ((uint8_t *)&header)[i]);
}

/* The header of segment 0, as a later version would write it: magic, crc and version keep their
 * places. */
TEST(damage, refuses_another_version_and_writes_no_byte)
{
    struct medium *medium = make_log();
    struct segment_header header = header_of(medium);
    header.version++;
    put_header(medium, header);
    struct log_options options = options_of(medium);
    expect_refused(medium, &options, STATUS_VERSION);
    medium->ops->close(medium);
}

/* The header of segment 0, as a log with larger segments would write it. */
TEST(damage, refuses_segments_of_another_size_and_writes_no_byte)
{
    struct medium *medium = make_log();
    struct segment_header header = header_of(medium);
    header.segment_size *= 2;
    put_header(medium, header);
    struct log_options options = options_of(medium);
    expect_refused(medium, &options, STATUS_FOREIGN);
    medium->ops->close(medium);
}

TEST(damage, keeps_what_is_readable_when_a_header_is_damaged)
{
    struct medium *medium = make_log();
    sim_medium_poke(medium, 0, 3, 0xff);
    struct found found;
    struct log *log = start(medium, &found);
    EXPECT_EQ(found.count, 100);
    EXPECT_EQ(found.report.corrupt_count, 1);
    EXPECT_EQ(found.report.corrupt_segment, 0);
    end(medium, log);
}

TEST(damage, keeps_what_lies_behind_a_damaged_record_and_never_overwrites_it)
{
    struct medium *medium = make_log();
    sim_medium_poke(medium, 0, 10000, 0xff);
    struct found found;
    place_t place;
    for (unsigned life = 0; life < 3; life++) {
        struct log *log = start(medium, &found);
        EXPECT_EQ(found.count, 99 + life);
        EXPECT_EQ(found.report.corrupt_count, 1);
        EXPECT_EQ(log_segment(log, 0)->state, SEGMENT_SEALED);
        uint64_t tail = log_tail(log);
        EXPECT(tail > 101);
        ASSERT_EQ(append(log, "more", 10, &place), STATUS_OK);
        EXPECT_EQ(log_lsn(log, place), tail);
        turn(log);
        log_close(log);
        sim_medium_cut(medium);
    }
    medium->ops->close(medium);
}

/* Values of anything hold a lot that looks like records; what is behind the damage is found by the
 * size of what is damaged. */
TEST(damage, loses_no_more_records_than_are_damaged_among_values_of_any_bytes)
{
    enum { SIZE_USUAL = 1 << 20, VALUE_SIZE = 5000, KEPT = 200, HURT = 4 };
    struct medium *medium = sim_medium_open(SIZE_USUAL, COUNT, 5);
    struct found found;
    struct prng prng = {.state = 99};
    struct log *log = start(medium, &found);
    uint8_t value[VALUE_SIZE];
    for (unsigned i = 0; i < sizeof(value); i++)
        value[i] = (uint8_t)prng_next(&prng);
    struct record_spec spec = {.kind = RECORD_VALUE,
                               .key = slice_text("key"),
                               .value = slice_make(value, VALUE_SIZE),
                               .ts = 1};
    place_t places[KEPT];
    for (unsigned i = 0; i < KEPT; i++)
        ASSERT_EQ(log_append_nodrain(log, &spec, 0, &places[i]), STATUS_OK);
    turn(log);
    log_close(log);
    sim_medium_cut(medium);
    for (unsigned i = 0; i < HURT; i++) {
        place_t place = places[10 + i * 40];
        sim_medium_poke(medium, place_segment(place),
                        place_offset(place) + sizeof(struct record) + 30, 4);
    }
    log = start(medium, &found);
    EXPECT_EQ(found.count, KEPT - HURT);
    EXPECT(found.report.corrupt_count > 0);
    end(medium, log);
}

TEST(damage, gives_a_damaged_segment_back_when_it_is_told_to)
{
    struct medium *medium = make_log();
    sim_medium_poke(medium, 0, 10000, 0xff);
    struct found found;
    struct log *log = start(medium, &found);
    uint32_t before = log_segment_free_count(log);
    log_segment_give(log, 0);
    durable_of(log);
    EXPECT_EQ(log_segment(log, 0)->state, SEGMENT_FREE);
    EXPECT_EQ(log_segment_free_count(log), before + 1);
    log_close(log);
    sim_medium_cut(medium);
    log = start(medium, &found);
    EXPECT_EQ(found.report.corrupt_count, 0);
    end(medium, log);
}

TEST(damage, reports_a_segment_that_was_cut_short)
{
    struct medium *medium = make_log();
    sim_medium_truncate(medium, 1);
    struct found found;
    struct log *log = start(medium, &found);
    EXPECT_EQ(found.report.corrupt_count, 1);
    EXPECT_EQ(found.report.corrupt_segment, 1);
    EXPECT(found.count < 100);
    log_segment_give(log, 1);
    durable_of(log);
    place_t place;
    while (append(log, "key", 1500, &place) == STATUS_OK)
        EXPECT(place >> PLACE_UNIT_BITS != 1);
    end(medium, log);
}

/* A power cut may keep the records of a segment and lose its header. When the space is used again,
 * none of them may come back. */
TEST(damage, no_record_comes_back_whose_header_was_lost)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    place_t first, second;
    uint8_t left[160];
    struct log *log = start(medium, &found);
    ASSERT_EQ(append(log, "first", 100, &first), STATUS_OK);
    ASSERT_EQ(append(log, "second", 100, &second), STATUS_OK);
    uint32_t at = (uint32_t)((const uint8_t *)log_record(log, second) - log_segment(log, 0)->base);
    memcpy(left, log_record(log, second), sizeof(left));
    log_close(log);
    for (uint32_t i = 0; i < SEGMENT_RECORDS; i++)
        sim_medium_poke(medium, 0, i, 0);
    sim_medium_kill(medium);
    log = start(medium, &found);
    EXPECT_EQ(found.count, 0);
    ASSERT_EQ(append(log, "third", 100, &first), STATUS_OK);
    log_drain(log);
    log_close(log);
    sim_medium_kill(medium);
    for (uint32_t i = 0; i < sizeof(left); i++) /* the zeros behind the record were lost, too */
        sim_medium_poke(medium, 0, at + i, left[i]);
    log = start(medium, &found);
    EXPECT_EQ(found.count, 1);
    end(medium, log);
}

/* A client's value that looks like a record, with the right checksum for another place, is no
 * record, not even where the record around it is damaged and sound ones are looked for behind. */
TEST(damage, finds_no_record_inside_a_value)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    place_t first, second;
    struct log *log = start(medium, &found);
    ASSERT_EQ(append(log, "inner", 16, &first), STATUS_OK);
    const struct record *inner = log_record(log, first);
    struct record_spec spec = {.kind = RECORD_VALUE,
                               .key = slice_text("outerkey"),
                               .value = slice_make(inner, record_size(inner))};
    ASSERT_EQ(log_append_nodrain(log, &spec, 0, &second), STATUS_OK);
    const uint8_t *base = log_segment(log, 0)->base;
    uint32_t outer = (uint32_t)((const uint8_t *)log_record(log, second) - base);
    turn(log);
    log_close(log);
    sim_medium_kill(medium);
    sim_medium_poke(medium, 0, outer + 4, 0xff);
    log = start(medium, &found);
    EXPECT_EQ(found.report.corrupt_count, 1);
    EXPECT_EQ(found.count, 1);
    end(medium, log);
}

/* Makes the second of two records one that was never written so, with the right checksum; how many
 * are found then. */
static uint64_t count_with(uint8_t kind, uint8_t key_size)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    place_t first, second;
    struct log *log = start(medium, &found);
    EXPECT_EQ(append(log, "first", 10, &first), STATUS_OK);
    EXPECT_EQ(append(log, "second", 400, &second), STATUS_OK);
    static uint64_t copy[128];
    struct record *record = (void *)copy;
    memcpy(copy, log_record(log, second), record_size(log_record(log, second)));
    record->value_size = (record->value_size + record->key_size - key_size) & RECORD_VALUE_SIZE_MAX;
    record->key_size = key_size;
    record->kind = kind & 7;
    uint32_t offset = place_offset(second);
    record->crc =
        record_crc(segment_crc_seed(log, 0, log_segment(log, 0)->generation), offset, record);
    log_close(log);
    sim_medium_kill(medium);
    for (uint32_t i = 0; i < record_size(record); i++)
        sim_medium_poke(medium, 0, offset + i, ((uint8_t *)copy)[i]);
    log = start(medium, &found);
    end(medium, log);
    return found.count;
}

TEST(damage, takes_no_record_of_an_unknown_kind)
{
    EXPECT_EQ(count_with(RECORD_VALUE, 6), 2);
    EXPECT_EQ(count_with(0, 6), 1);
    EXPECT_EQ(count_with(RECORD_SEAL + 1, 6), 1);
}

TEST(damage, takes_no_record_whose_key_is_too_long)
{
    EXPECT_EQ(count_with(RECORD_VALUE, RECORD_KEY_SIZE_MAX), 2);
    EXPECT_EQ(count_with(RECORD_VALUE, RECORD_KEY_SIZE_MAX + 1), 1);
}
