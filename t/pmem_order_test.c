/* Goal: each rule about what must be durable before what, and each check of a start, is needed:
 * without it the very schedule of its test loses, invents or hides something. Method: short lives
 * on the simulated medium, whose drains are done when the test says so; then kills, power cuts of
 * many seeds, and changed bytes. The faults of t/planted_faults.txt take the rules out one by one.
 */
#include "pmem/log.h"
#include "pmem/log_private.h"
#include "t/sim_medium.h"
#include "t/test.h"

enum { SIZE = 65536, COUNT = 8, SEEDS = 40, IDS = 32 };

/* What a start has found; records have their number as timestamp. */
struct found {
    bool there[IDS];
    uint64_t lsn[IDS];
    uint32_t count;
    struct log_report report;
    struct log *log;
};

static void on_record(void *user, const struct record *record, place_t place)
{
    struct found *found = user;
    if (record->kind != RECORD_VALUE)
        return;
    ASSERT(record->ts < IDS);
    found->there[record->ts] = true;
    found->lsn[record->ts] = log_lsn(found->log, place);
    found->count++;
}

static struct log *start(struct medium *medium, struct found *found)
{
    static uint32_t lives;
    struct log_options options = {.identity = {.cluster = 77, .node = 1, .shard_count = 1},
                                  .medium = medium,
                                  .segment_count_max = COUNT,
                                  .life = ++lives};
    uint32_t bad;
    memset(found, 0, sizeof(*found));
    EXPECT_EQ(log_open(&found->log, &options, on_record, found, &found->report, &bad), STATUS_OK);
    assert(found->log != NULL);
    return found->log;
}

static place_t put(struct log *log, uint32_t id, size_t value_size)
{
    static const uint8_t value[SIZE];
    struct record_spec spec = {.kind = RECORD_VALUE,
                               .key = slice_make(&id, sizeof(id)),
                               .value = slice_make(value, value_size),
                               .ts = id};
    place_t place = 0;
    EXPECT_EQ(log_append_nodrain(log, &spec, 0, &place), STATUS_OK);
    return place;
}

static void put_mark(struct log *log, uint64_t durable)
{
    const struct mark mark = {.lsn = durable, .round = 1, .members = 1};
    struct record_spec spec = {.kind = RECORD_MARK, .value = slice_make(&mark, sizeof(mark))};
    place_t place;
    EXPECT_EQ(log_append_nodrain(log, &spec, 0, &place), STATUS_OK);
}

static uint64_t durable_of(struct log *log)
{
    uint64_t durable = 0;
    EXPECT_EQ(log_durable(log, &durable), STATUS_OK);
    return durable;
}

static void turn(struct log *log)
{
    log_drain(log);
    durable_of(log);
}

/* The power goes and comes again; drains are done at once from now on. */
static void cut(struct medium *medium, struct log *log)
{
    log_close(log);
    sim_medium_cut(medium);
    sim_medium_set_manual(medium, false);
}

static void end(struct medium *medium, struct log *log)
{
    log_close(log);
    medium->ops->close(medium);
}

static uint8_t *bytes_of(struct medium *medium, uint32_t segment)
{
    void *base = NULL;
    EXPECT_EQ(medium->ops->map(medium, segment, false, &base), STATUS_OK);
    return base;
}

static void spoil(struct medium *medium, uint32_t segment, uint32_t offset)
{
    sim_medium_poke(medium, segment, offset, bytes_of(medium, segment)[offset] ^ 0x10);
}

static void expect_first(const struct found *found, uint32_t count)
{
    for (uint32_t id = 1; id <= count; id++)
        EXPECT(found->there[id]);
}

/* ---- what waits for what ---- */

enum { COPIED = 3, COPY_AT = SEGMENT_RECORDS + 40 };

/* Segment 0 holds records 1 to COPIED, safe; they are copied to segment 1, the cold tail, and
 * segment 0 is given back. Drains wait for the test from here on. */
static struct log *give_copied(struct medium *medium)
{
    struct found found;
    place_t place[COPIED], to;
    struct log *log = start(medium, &found);
    for (uint32_t i = 0; i < COPIED; i++)
        place[i] = put(log, i + 1, 1000);
    log_stream_end(log, STREAM_HOT);
    turn(log);
    turn(log);
    sim_medium_set_manual(medium, true);
    for (uint32_t i = 0; i < COPIED; i++)
        EXPECT_EQ(log_copy_nodrain(log, place[i], STREAM_COLD, &to), STATUS_OK);
    EXPECT_EQ(place_segment(to), 1);
    log_segment_give(log, 0);
    return log;
}

/* What was asked for is done, and the owner looks. */
static void complete_and_look(struct medium *medium, struct log *log, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        sim_medium_complete(medium, sim_medium_asked(medium));
        durable_of(log);
    }
}

static void expect_copied_after_cut(struct medium *medium, struct log *log)
{
    struct found found;
    cut(medium, log);
    log = start(medium, &found);
    EXPECT_EQ(found.report.corrupt_count, 0);
    expect_first(&found, COPIED);
    end(medium, log);
}

TEST(order, a_segment_given_back_is_erased_when_its_copies_are_durable)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct medium *medium = sim_medium_open(SIZE, COUNT, seed);
        struct log *log = give_copied(medium);
        durable_of(log);
        expect_copied_after_cut(medium, log);
    }
}

/* Else a copy that rots is taken for a torn tail, and the original is gone: lost in silence. */
TEST(order, a_segment_given_back_is_erased_when_the_loss_of_a_copy_would_be_noticed)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct medium *medium = sim_medium_open(SIZE, COUNT, seed);
        struct found found;
        struct log *log = give_copied(medium);
        durable_of(log);
        complete_and_look(medium, log, (unsigned)(seed % 4));
        cut(medium, log);
        spoil(medium, 1, COPY_AT);
        log = start(medium, &found);
        if (found.report.corrupt_count == 0)
            expect_first(&found, COPIED);
        end(medium, log);
    }
}

/* Copies are proved; segment 0 is erased, but that is not durable yet. */
static struct log *erase_not_durably(struct medium *medium)
{
    struct log *log = give_copied(medium);
    durable_of(log);
    complete_and_look(medium, log, 2);
    EXPECT(segment_header_is_free((const void *)bytes_of(medium, 0)));
    return log;
}

/* Else the old header comes back, with records of another life behind it. */
TEST(order, an_erased_segment_is_used_again_when_its_erasure_is_durable)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct medium *medium = sim_medium_open(SIZE, COUNT, seed);
        struct log *log = erase_not_durably(medium);
        put(log, COPIED + 1, 1000);
        expect_copied_after_cut(medium, log);
    }
}

/* The start reads the erased header from the cache that a killed process has left. */
TEST(order, a_segment_that_a_start_finds_erased_is_used_again_when_that_is_durable)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct medium *medium = sim_medium_open(SIZE, COUNT, seed);
        struct found found;
        log_close(erase_not_durably(medium));
        sim_medium_kill(medium);
        struct log *log = start(medium, &found);
        put(log, COPIED + 1, 1000);
        expect_copied_after_cut(medium, log);
    }
}

/* Nobody else need ask: an owner that only reads would never serve what it has found. */
TEST(order, a_start_asks_for_the_drain_of_what_it_has_found)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    struct log *log = start(medium, &found);
    put(log, 1, 100);
    log_close(log);
    sim_medium_kill(medium);
    log = start(medium, &found);
    EXPECT_EQ(found.count, 1);
    EXPECT_EQ(durable_of(log), log_tail(log));
    end(medium, log);
}

/* Nobody else need ask: an owner that is out of space appends nothing, so asks for no drain. */
TEST(order, a_proof_asks_for_the_drain_behind_it)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct log *log = give_copied(medium);
    durable_of(log);
    complete_and_look(medium, log, 3);
    EXPECT_EQ(log_segment(log, 0)->state, SEGMENT_FREE);
    end(medium, log);
}

/* ---- what proves that something is missing ---- */

/* The progress line is not flushed yet: some power cuts leave none. */
TEST(order, a_mark_proves_what_lies_before_it)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct medium *medium = sim_medium_open(SIZE, COUNT, seed);
        struct found found;
        struct log *log = start(medium, &found);
        put(log, 1, 100);
        place_t spoilt = put(log, 2, 100);
        put(log, 3, 100);
        log_drain(log);
        put_mark(log, durable_of(log));
        turn(log);
        cut(medium, log);
        spoil(medium, 0, place_offset(spoilt) + 30);
        log = start(medium, &found);
        EXPECT_EQ(found.report.corrupt_count, 1);
        EXPECT(found.there[3]); /* so it is kept, too */
        end(medium, log);
    }
}

/* The own line of segment 1 is not flushed yet; that of segment 0 is, when segment 1 is noted
 * there, and tells of both. */
TEST(order, a_progress_line_proves_what_lies_in_other_segments)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct medium *medium = sim_medium_open(SIZE, COUNT, seed);
        struct found found;
        struct log *log = start(medium, &found);
        put(log, 1, 100);
        log_stream_end(log, STREAM_HOT);
        turn(log);
        put(log, 2, 100);
        place_t spoilt = put(log, 3, 100);
        EXPECT_EQ(place_segment(spoilt), 1);
        turn(log);
        turn(log);
        cut(medium, log);
        spoil(medium, 1, place_offset(spoilt) + 30);
        log = start(medium, &found);
        EXPECT_EQ(found.report.corrupt_count, 1);
        end(medium, log);
    }
}

/* There is no other in use that could say that it was there; but a free one, at once or a little
 * later. */
TEST(order, the_only_segment_that_was_used_is_missed_when_it_vanishes)
{
    for (unsigned later = 0; later < 2; later++) {
        struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
        struct found found;
        void *base;
        struct log *log = start(medium, &found);
        for (unsigned i = 0; i < 2; i++) {
            if (i == later)
                ASSERT_EQ(medium->ops->map(medium, 1, true, &base), STATUS_OK);
            put(log, 1 + i, 100);
            log_prove(log);
            turn(log);
            turn(log);
        }
        cut(medium, log);
        log = start(medium, &found);
        EXPECT(found.there[1]);
        EXPECT_EQ(found.report.corrupt_count, 0);
        cut(medium, log);
        for (uint32_t i = 0; i < SIZE; i++)
            sim_medium_poke(medium, 0, i, 0);
        log = start(medium, &found);
        EXPECT(!found.there[1]);
        EXPECT_EQ(found.report.corrupt_count, 1);
        EXPECT_EQ(found.report.corrupt_segment, 0);
        end(medium, log);
    }
}

/* Only the copies are left, all of them in one segment, and its file vanishes. Of the other stream
 * there is one segment, open. */
TEST(order, a_segment_that_vanishes_is_missed_when_it_was_proved)
{
    for (unsigned sealed = 0; sealed < 2; sealed++) {
        struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
        struct found found;
        place_t to;
        struct log *log = start(medium, &found);
        place_t place = put(log, 1, 100);
        for (unsigned i = 0; i <= sealed; i++) {
            log_stream_end(log, STREAM_HOT);
            put(log, 2 + i, 100);
        }
        log_prove(log);
        turn(log);
        turn(log);
        EXPECT_EQ(log_copy_nodrain(log, place, STREAM_COLD, &to), STATUS_OK);
        log_segment_give(log, 0);
        turn(log);
        EXPECT_EQ(log_segment(log, 0)->state, SEGMENT_FREE);
        cut(medium, log);
        for (uint32_t i = 0; i < SIZE; i++)
            sim_medium_poke(medium, place_segment(to), i, 0);
        log = start(medium, &found);
        EXPECT(!found.there[1]);
        EXPECT_EQ(found.report.corrupt_count, 1);
        EXPECT_EQ(found.report.corrupt_segment, place_segment(to));
        end(medium, log);
    }
}

/* It was never safe; a segment above it is, and from now on says how many there are. */
TEST(order, a_segment_whose_header_was_lost_is_not_missed_later)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    place_t to;
    struct log *log = start(medium, &found);
    place_t place = put(log, 1, 100);
    log_stream_end(log, STREAM_HOT);
    turn(log);
    EXPECT_EQ(place_segment(put(log, 2, 100)), 1);
    EXPECT_EQ(log_copy_nodrain(log, place, STREAM_COLD, &to), STATUS_OK);
    EXPECT_EQ(place_segment(to), 2);
    log_close(log);
    sim_medium_kill(medium);
    for (uint32_t i = 0; i < SEGMENT_LINE; i++)
        sim_medium_poke(medium, 1, i, 0);
    for (unsigned life = 0; life < 2; life++) {
        log = start(medium, &found);
        EXPECT_EQ(found.report.corrupt_count, 0);
        turn(log);
        turn(log);
        log_close(log);
        sim_medium_kill(medium);
    }
    medium->ops->close(medium);
}

/* Its header and all its records are sound, but for another place. Nothing of them is proved. */
TEST(order, a_segment_in_the_place_of_another_is_damage)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    struct log *log = start(medium, &found);
    put(log, 1, 100);
    log_stream_end(log, STREAM_HOT);
    put(log, 2, 100);
    log_drain(log);
    log_close(log);
    sim_medium_kill(medium);
    const uint8_t *from = bytes_of(medium, 0), *to = bytes_of(medium, 1);
    for (uint32_t i = 0; i < 512; i++) {
        uint8_t kept = from[i];
        sim_medium_poke(medium, 0, i, to[i]);
        sim_medium_poke(medium, 1, i, kept);
    }
    log = start(medium, &found);
    EXPECT_EQ(found.report.corrupt_count, 2);
    end(medium, log);
}

/* It would say that more was durable than was ever written: damage where there is none, and numbers
 * without end. */
TEST(order, a_progress_line_that_has_rotted_proves_nothing)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    struct log *log = start(medium, &found);
    put(log, 1, 100);
    turn(log);
    uint64_t tail = log_tail(log);
    log_close(log);
    sim_medium_kill(medium);
    spoil(medium, 0, SEGMENT_LINE + offsetof(struct segment_progress, durable) + 5);
    log = start(medium, &found);
    EXPECT_EQ(found.report.corrupt_count, 0);
    EXPECT_EQ(log_tail(log), tail);
    end(medium, log);
}

/* ---- what a start does with what it has lost ---- */

/* A power cut has kept the second of two records. What is appended in the place of the first must
 * not make it count again, whatever is left of the zeros behind it. */
TEST(order, a_tail_with_records_behind_its_gap_is_sealed)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    uint8_t left[256];
    struct log *log = start(medium, &found);
    place_t first = put(log, 1, 100), second = put(log, 2, 100);
    uint32_t size = (uint32_t)record_size(log_record(log, second));
    memcpy(left, log_record(log, second), size);
    log_close(log);
    sim_medium_kill(medium);
    spoil(medium, 0, place_offset(first) + 30);
    log = start(medium, &found);
    EXPECT_EQ(found.count, 0);
    EXPECT_EQ(found.report.corrupt_count, 0);
    put(log, 3, 100);
    turn(log);
    log_close(log);
    sim_medium_kill(medium);
    for (uint32_t i = 0; i < size; i++)
        sim_medium_poke(medium, 0, place_offset(second) + i, left[i]);
    log = start(medium, &found);
    EXPECT(found.there[3]);
    EXPECT(!found.there[2]);
    end(medium, log);
}

/* The same at the cold tail, whose numbers the copies do not tell: what would come back may have
 * been deleted since. */
TEST(order, a_cold_tail_with_copies_behind_its_gap_is_sealed)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    uint8_t left[256];
    place_t copies[2], place;
    struct log *log = start(medium, &found);
    place_t first = put(log, 1, 100), second = put(log, 2, 100);
    log_stream_end(log, STREAM_HOT);
    turn(log);
    EXPECT_EQ(log_copy_nodrain(log, first, STREAM_COLD, &copies[0]), STATUS_OK);
    EXPECT_EQ(log_copy_nodrain(log, second, STREAM_COLD, &copies[1]), STATUS_OK);
    uint32_t size = (uint32_t)record_size(log_record(log, copies[1]));
    memcpy(left, log_record(log, copies[1]), size);
    log_close(log);
    sim_medium_kill(medium);
    spoil(medium, 1, place_offset(copies[0]) + 30);
    log = start(medium, &found);
    EXPECT_EQ(found.count, 2);
    EXPECT_EQ(found.report.corrupt_count, 0);
    turn(log);
    EXPECT_EQ(log_copy_nodrain(log, first, STREAM_COLD, &place), STATUS_OK);
    turn(log);
    log_close(log);
    sim_medium_kill(medium);
    for (uint32_t i = 0; i < size; i++)
        sim_medium_poke(medium, 1, place_offset(copies[1]) + i, left[i]);
    log = start(medium, &found);
    EXPECT_EQ(found.count, 3);
    end(medium, log);
}

/* Else the segment's records would be counted from numbers that they do not have: as durable before
 * they are. */
TEST(order, a_tail_before_lost_numbers_is_sealed)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct medium *medium = sim_medium_open(SIZE, COUNT, seed);
        struct found found;
        struct log *log = start(medium, &found);
        put(log, 1, 100);
        log_stream_end(log, STREAM_HOT);
        put(log, 2, 100);
        turn(log);
        turn(log);
        log_close(log);
        sim_medium_kill(medium);
        sim_medium_truncate(medium, 0);
        log = start(medium, &found);
        EXPECT_EQ(found.report.corrupt_count, 1);
        put(log, 3, 100);
        sim_medium_set_manual(medium, true);
        log_drain(log);
        put(log, 4, 100);
        complete_and_look(medium, log, 1);
        cut(medium, log);
        log = start(medium, &found);
        EXPECT_EQ(found.report.corrupt_count, 1);
        EXPECT(found.there[2]);
        EXPECT(found.there[3]);
        end(medium, log);
    }
}

/* The zeros behind what is written over them may be lost in a power cut. */
TEST(order, records_of_a_former_use_of_a_segment_never_come_back)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    uint8_t left[256];
    struct log *log = start(medium, &found);
    place_t place[2] = {put(log, 1, 100), put(log, 2, 100)};
    uint32_t size = (uint32_t)record_size(log_record(log, place[1]));
    memcpy(left, log_record(log, place[1]), size);
    log_stream_end(log, STREAM_HOT);
    turn(log);
    log_dead(log, place[0]);
    log_dead(log, place[1]);
    log_segment_give(log, 0);
    turn(log);
    EXPECT_EQ(put(log, 3, 100), place[0]);
    turn(log);
    log_close(log);
    sim_medium_kill(medium);
    for (uint32_t i = 0; i < size; i++)
        sim_medium_poke(medium, 0, place_offset(place[1]) + i, left[i]);
    log = start(medium, &found);
    EXPECT(found.there[3]);
    EXPECT(!found.there[2]);
    end(medium, log);
}

/* The segment may be readable again one day: of two records of one number nobody could say which is
 * the newer one. */
TEST(order, numbers_of_what_was_lost_are_not_given_out_again)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    struct log *log = start(medium, &found);
    put(log, 1, 100);
    log_stream_end(log, STREAM_HOT);
    turn(log);
    for (uint32_t id = 2; id < 12; id++)
        EXPECT_EQ(place_segment(put(log, id, 100)), 1);
    uint64_t tail = log_tail(log);
    log_close(log);
    sim_medium_kill(medium);
    sim_medium_truncate(medium, 1);
    log = start(medium, &found);
    EXPECT_EQ(found.report.corrupt_count, 1);
    EXPECT_EQ(found.count, 1);
    EXPECT(log_tail(log) >= tail);
    end(medium, log);
}
