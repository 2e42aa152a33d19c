/* Goal: a damaged log is refused where nobody could fill in what is missing: no older version of a
 * key comes back unnoticed. Method: logs of many versions of few keys on the simulated medium;
 * bytes changed at a place, or at random; each seed is printed when it fails. */
#include <stdio.h>
#include <stdlib.h>

#include "t/log_life.h"

enum { KEYS = 20, RECORDS = 100, VALUE_SIZE = 1500, SEEDS = 1500, HURT_MAX = 4 };

/* What a scan finds: the newest version of each key. */
struct versions {
    uint64_t lsn[KEYS], version[KEYS];
    struct log *log;
    uint64_t count;
};

static void on_record(void *user, const struct record *record, place_t place)
{
    struct versions *versions = user;
    uint64_t lsn = log_lsn(versions->log, place);
    uint8_t key = *record_key_at(record);
    assert(key < KEYS);
    versions->count++;
    if (lsn < versions->lsn[key])
        return;
    versions->lsn[key] = lsn;
    versions->version[key] = record->ts;
}

static enum status open_log(struct medium *medium, bool refuse, struct versions *versions,
                            struct log_report *report)
{
    struct log_options options = options_of(medium);
    uint32_t bad;
    options.refuse_damage = refuse;
    *versions = (struct versions){.count = 0};
    enum status status = log_open(&versions->log, &options, on_record, versions, report, &bad);
    if (report->corrupt_count > 0)
        EXPECT_EQ(bad, report->corrupt_segment);
    return status;
}

static place_t put(struct log *log, uint64_t version)
{
    static const uint8_t value[VALUE_SIZE];
    uint8_t key = (uint8_t)(version % KEYS);
    struct record_spec spec = {.kind = RECORD_VALUE,
                               .key = slice_make(&key, 1),
                               .value = slice_make(value, VALUE_SIZE),
                               .ts = version};
    place_t place = 0;
    EXPECT_EQ(log_append_nodrain(log, &spec, 0, &place), STATUS_OK);
    return place;
}

/* Versions 1 to RECORDS, proved; closed. */
static struct medium *make_log(uint64_t seed)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, seed);
    struct versions versions;
    struct log_report report;
    EXPECT_EQ(open_log(medium, true, &versions, &report), STATUS_OK);
    for (uint64_t version = 1; version <= RECORDS; version++)
        (void)put(versions.log, version);
    log_prove(versions.log);
    for (int i = 0; i < 3; i++)
        (void)turn(versions.log);
    EXPECT(log_proved(versions.log) > RECORDS);
    log_close(versions.log);
    sim_medium_cut(medium);
    return medium;
}

static void expect_newest(const struct versions *versions)
{
    for (uint64_t version = RECORDS - KEYS + 1; version <= RECORDS; version++)
        EXPECT_EQ(versions->version[version % KEYS], version);
}

static struct log_report expect_refused(struct medium *medium)
{
    uint64_t before = sim_medium_hash(medium), flushed = sim_medium_flushed(medium);
    struct versions versions;
    struct log_report report;
    EXPECT_EQ(open_log(medium, true, &versions, &report), STATUS_CORRUPT);
    EXPECT(versions.log == NULL);
    EXPECT_EQ(versions.count, 0);
    EXPECT_EQ(report.corrupt_count, 1);
    EXPECT(sim_medium_hash(medium) == before);
    EXPECT_EQ(sim_medium_flushed(medium), flushed);
    return report;
}

TEST(refusal, is_given_with_what_is_missing_and_no_byte_written)
{
    struct medium *medium = make_log(1);
    sim_medium_poke(medium, 1, 10000, 0xff);
    struct log_report report = expect_refused(medium);
    EXPECT_EQ(report.corrupt_segment, 1);
    EXPECT(report.corrupt_from <= 10000);
    EXPECT(report.corrupt_to > 10000);
    EXPECT(report.corrupt_to - report.corrupt_from < VALUE_SIZE + 100); /* one record */
    EXPECT_EQ(report.missing_count, 1);
    EXPECT_EQ(report.unread_count, 0);
    medium->ops->close(medium);
}

TEST(refusal, counts_a_run_of_records)
{
    struct medium *medium = make_log(1);
    for (uint32_t at = 10000; at < 20000; at++)
        sim_medium_poke(medium, 0, at, 0);
    struct log_report report = expect_refused(medium);
    EXPECT(report.missing_count >= 10000 / (VALUE_SIZE + 40));
    EXPECT(report.missing_count <= 10000 / VALUE_SIZE + 2);
    medium->ops->close(medium);
}

TEST(refusal, is_given_for_the_newest_records)
{
    struct medium *medium = make_log(1);
    uint32_t last = 0;
    void *base;
    while (medium->ops->map(medium, last + 1, false, &base) == STATUS_OK)
        last++;
    sim_medium_poke(medium, last, SEGMENT_RECORDS + 100, 0xff);
    struct log_report report = expect_refused(medium);
    EXPECT_EQ(report.corrupt_segment, last);
    EXPECT(report.missing_count >= 1);
    medium->ops->close(medium);
}

/* Every record is there. But that of a segment which was erased would say the same if its magic had
 * rotted: what it holds may be of keys that were deleted long ago. */
TEST(refusal, is_given_for_a_header_even_if_every_record_is_there)
{
    struct medium *medium = make_log(1);
    sim_medium_poke(medium, 0, 3, 0xff);
    struct log_report report = expect_refused(medium);
    EXPECT_EQ(report.corrupt_from, 0);
    EXPECT_EQ(report.corrupt_to, SEGMENT_LINE);
    EXPECT_EQ(report.missing_count, 0);
    EXPECT_EQ(report.unread_count, 0);
    medium->ops->close(medium);
}

TEST(refusal, is_given_for_a_segment_that_cannot_be_read)
{
    struct medium *medium = make_log(1);
    sim_medium_truncate(medium, 1);
    struct log_report report = expect_refused(medium);
    EXPECT_EQ(report.corrupt_segment, 1);
    EXPECT_EQ(report.corrupt_from, 0);
    EXPECT_EQ(report.corrupt_to, SIZE);
    EXPECT_EQ(report.unread_count, 1);
    EXPECT_EQ(report.missing_count, 0);
    medium->ops->close(medium);
}

/* Nothing that was acknowledged is missing. */
TEST(refusal, is_not_given_for_a_torn_tail)
{
    struct medium *medium = make_log(1);
    struct versions versions;
    struct log_report report;
    ASSERT_EQ(open_log(medium, true, &versions, &report), STATUS_OK);
    place_t place = put(versions.log, RECORDS + 1);
    log_close(versions.log);
    sim_medium_kill(medium);
    sim_medium_poke(medium, place_segment(place), place_offset(place) + 50, 0xff);
    ASSERT_EQ(open_log(medium, true, &versions, &report), STATUS_OK);
    EXPECT_EQ(versions.count, RECORDS);
    EXPECT(report.torn_bytes > 0);
    end(medium, versions.log);
}

/* It was given back once, with what could be read of it copied: nobody asks again. */
TEST(refusal, is_given_no_more_when_the_damage_was_taken_and_repaired)
{
    struct medium *medium = make_log(1);
    struct versions versions;
    struct log_report report;
    sim_medium_poke(medium, 0, 10000, 0xff);
    ASSERT_EQ(open_log(medium, false, &versions, &report), STATUS_OK);
    EXPECT_EQ(report.missing_count, 1);
    log_segment_give(versions.log, 0);
    for (int i = 0; i < 3; i++)
        (void)durable_of(versions.log);
    log_close(versions.log);
    sim_medium_cut(medium);
    ASSERT_EQ(open_log(medium, true, &versions, &report), STATUS_OK);
    EXPECT_EQ(report.corrupt_count, 0);
    end(medium, versions.log);
}

TEST(refusal, is_given_or_damage_has_cost_no_newest_version)
{
    unsigned refused = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct medium *medium = make_log(seed);
        struct versions versions;
        struct log_report report;
        for (uint64_t i = 0; i <= seed % HURT_MAX; i++)
            EXPECT(sim_medium_corrupt(medium));
        enum status status = open_log(medium, true, &versions, &report);
        refused += status == STATUS_CORRUPT;
        if (status == STATUS_OK) {
            expect_newest(&versions);
            log_close(versions.log);
        }
        if (test_failed())
            printf("seed %llu\n", (unsigned long long)seed);
        medium->ops->close(medium);
    }
    EXPECT(refused > SEEDS / 2);
    EXPECT(refused < SEEDS);
}

/* Whoever opened it with damage may have ended before it was repaired. */
TEST(refusal, of_what_a_killed_process_knew_is_left_to_a_scan)
{
    struct medium *medium = make_log(1);
    struct log_options options = options_of(medium);
    struct versions versions = {.count = 0};
    struct log_report report;
    uint32_t bad;
    uint64_t size = (log_memory_size() + 63) / 64 * 64;
    options.memory = aligned_alloc(64, size);
    ASSERT(options.memory != NULL);
    memset(options.memory, 0, size);
    sim_medium_poke(medium, 0, 10000, 0xff);
    ASSERT_EQ(log_open(&versions.log, &options, on_record, &versions, &report, &bad), STATUS_OK);
    sim_medium_kill(medium);
    options.refuse_damage = true;
    EXPECT_EQ(log_take_over(&versions.log, &options, false, &report, &bad), STATUS_CORRUPT);
    free(options.memory);
    medium->ops->close(medium);
}
