/* Goal: a log whose memory is taken over from a killed process promises nothing that a power cut
 * may still take away, and is refused where the segments are not those that the memory speaks of.
 * Method: a short life on the simulated medium, killed; the memory is taken over; then power cuts
 * of many seeds, and a scan. The faults of t/planted_faults.txt take the rules out one by one. */
#include <stdlib.h>

#include "pmem/log.h"
#include "pmem/log_private.h"
#include "t/sim_medium.h"
#include "t/test.h"

enum { SIZE = 65536, COUNT = 8, SEEDS = 40, IDS = 16, COPIED = 3 };

/* A process and what it leaves. */
struct life {
    struct medium *medium;
    void *memory, *before; /* `before`: as it was when an update began */
    struct log *log;
    struct log_report report;
    bool there[IDS]; /* found by a scan */
    uint32_t count;
};

static uint32_t lives;

static struct log_options options_of(const struct life *life)
{
    return (struct log_options){.identity = {.cluster = 7, .node = 1, .shard_count = 1},
                                .medium = life->medium,
                                .segment_count_max = COUNT,
                                .life = ++lives,
                                .memory = life->memory};
}

static void on_record(void *user, const struct record *record, place_t place)
{
    struct life *life = user;
    (void)place;
    if (record->kind != RECORD_VALUE)
        return;
    assert(record->ts < IDS);
    life->there[record->ts] = true;
    life->count++;
}

/* Scans, into memory that is new. */
static void scan(struct life *life)
{
    uint32_t bad;
    memset(life->memory, 0, log_memory_size());
    memset(life->there, 0, sizeof(life->there));
    life->count = 0;
    struct log_options options = options_of(life);
    EXPECT_EQ(log_open(&life->log, &options, on_record, life, &life->report, &bad), STATUS_OK);
    EXPECT_EQ(life->report.corrupt_count, 0);
}

static struct life begin(uint64_t seed)
{
    uint64_t size = (log_memory_size() + 63) / 64 * 64;
    struct life life = {.medium = sim_medium_open(SIZE, COUNT, seed),
                        .memory = aligned_alloc(64, size),
                        .before = aligned_alloc(64, size)};
    assert(life.memory != NULL);
    assert(life.before != NULL);
    scan(&life);
    return life;
}

static void end(struct life *life)
{
    life->medium->ops->close(life->medium);
    free(life->memory);
    free(life->before);
}

static place_t put(struct life *life, uint32_t id)
{
    static const uint8_t value[1000];
    struct record_spec spec = {.kind = RECORD_VALUE,
                               .key = slice_make(&id, sizeof(id)),
                               .value = slice_make(value, sizeof(value)),
                               .ts = id};
    place_t place = 0;
    EXPECT_EQ(log_append_nodrain(life->log, &spec, 0, &place), STATUS_OK);
    return place;
}

static uint64_t look(struct life *life)
{
    uint64_t durable = 0;
    EXPECT_EQ(log_durable(life->log, &durable), STATUS_OK);
    return durable;
}

static void turn(struct life *life)
{
    log_drain(life->log);
    look(life);
}

static enum status take(struct life *life, bool undone)
{
    uint32_t bad;
    struct log_options options = options_of(life);
    sim_medium_kill(life->medium);
    return log_take_over(&life->log, &options, undone, &life->report, &bad);
}

/* What the journal does: the memory is as before the update. */
static void keep(struct life *life)
{
    memcpy(life->before, life->memory, log_memory_size());
}

static void undo(struct life *life)
{
    memcpy(life->memory, life->before, log_memory_size());
}

static void cut_and_scan(struct life *life)
{
    sim_medium_cut(life->medium);
    sim_medium_set_manual(life->medium, false);
    scan(life);
}

static void complete_and_look(struct life *life, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        sim_medium_complete(life->medium, sim_medium_asked(life->medium));
        look(life);
    }
}

static void expect_first(const struct life *life, uint32_t count)
{
    for (uint32_t id = 1; id <= count; id++)
        EXPECT(life->there[id]);
}

TEST(take, what_the_killed_process_wrote_becomes_durable)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct life life = begin(seed);
        put(&life, 1);
        put(&life, 2);
        ASSERT_EQ(take(&life, false), STATUS_OK);
        EXPECT_EQ(look(&life), log_tail(life.log));
        cut_and_scan(&life);
        expect_first(&life, 2);
        end(&life);
    }
}

/* It may have reached the medium, by whatever way, and the zeros in its place not yet. */
TEST(take, a_record_that_was_undone_never_comes_back)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct life life = begin(seed);
        put(&life, 1);
        turn(&life);
        keep(&life);
        place_t place = put(&life, 2);
        const uint8_t *record = (const void *)log_record(life.log, place);
        for (uint32_t i = 0; i < record_size((const void *)record); i++)
            sim_medium_poke(life.medium, place_segment(place), place_offset(place) + i, record[i]);
        undo(&life);
        ASSERT_EQ(take(&life, true), STATUS_OK);
        turn(&life);
        cut_and_scan(&life);
        EXPECT(life.there[1]);
        EXPECT(!life.there[2]);
        end(&life);
    }
}

TEST(take, a_segment_whose_opening_was_undone_is_erased)
{
    struct life life = begin(1);
    keep(&life);
    put(&life, 1);
    undo(&life);
    ASSERT_EQ(take(&life, true), STATUS_OK);
    turn(&life);
    sim_medium_kill(life.medium);
    scan(&life);
    EXPECT_EQ(life.count, 0);
    end(&life);
}

/* Segment 0 holds what is safe; it is copied to segment 1 and given back. Drains wait for the test
 * from here on. */
static void give_copied(struct life *life)
{
    place_t place[COPIED], to;
    for (uint32_t i = 0; i < COPIED; i++)
        place[i] = put(life, i + 1);
    log_stream_end(life->log, STREAM_HOT);
    turn(life);
    turn(life);
    sim_medium_set_manual(life->medium, true);
    for (uint32_t i = 0; i < COPIED; i++)
        EXPECT_EQ(log_copy_nodrain(life->log, place[i], STREAM_COLD, &to), STATUS_OK);
    log_segment_give(life->log, 0);
    look(life);
}

TEST(take, a_segment_given_back_by_the_killed_process_waits_for_its_copies)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct life life = begin(seed);
        give_copied(&life);
        ASSERT_EQ(take(&life, false), STATUS_OK);
        look(&life);
        cut_and_scan(&life);
        expect_first(&life, COPIED);
        end(&life);
    }
}

/* Else its old header comes back after it was used again. */
TEST(take, a_segment_erased_by_the_killed_process_is_erased_durably)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct life life = begin(seed);
        give_copied(&life);
        complete_and_look(&life, 2);
        EXPECT_EQ(log_segment(life.log, 0)->state, SEGMENT_ERASING);
        ASSERT_EQ(take(&life, false), STATUS_OK);
        bool done = seed % 2 == 0;
        complete_and_look(&life, done ? 2 : 0);
        look(&life);
        EXPECT_EQ(log_segment(life.log, 0)->state == SEGMENT_FREE, done);
        put(&life, COPIED + 1);
        cut_and_scan(&life);
        expect_first(&life, COPIED);
        end(&life);
    }
}

/* ---- another process has used the segments since ---- */
TEST(take, is_refused_when_records_were_appended_since)
{
    struct life life = begin(1);
    put(&life, 1);
    turn(&life);
    keep(&life);
    sim_medium_kill(life.medium);
    scan(&life);
    put(&life, 2);
    undo(&life);
    EXPECT_EQ(take(&life, false), STATUS_CORRUPT);
    end(&life);
}

TEST(take, is_refused_when_a_segment_was_used_again_since)
{
    struct life life = begin(1);
    put(&life, 1);
    log_stream_end(life.log, STREAM_HOT);
    turn(&life);
    keep(&life);
    sim_medium_kill(life.medium);
    scan(&life);
    log_segment_give(life.log, 0);
    look(&life);
    EXPECT_EQ(place_segment(put(&life, 2)), 0);
    undo(&life);
    EXPECT_EQ(take(&life, false), STATUS_CORRUPT);
    end(&life);
}

TEST(take, is_refused_when_the_newest_record_is_not_there)
{
    struct life life = begin(1);
    put(&life, 1);
    uint32_t last = place_offset(put(&life, 2));
    turn(&life);
    sim_medium_poke(life.medium, 0, last + 100, 0xff);
    EXPECT_EQ(take(&life, false), STATUS_CORRUPT);
    sim_medium_poke(life.medium, 0, last + 100, 0);
    EXPECT_EQ(take(&life, false), STATUS_OK);
    end(&life);
}
