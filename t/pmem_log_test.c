/* Goal: the log keeps what it said is durable, invents nothing, and goes on where it was.
 * Method: small logs on the simulated medium, ended by kills, power cuts and rot. */
#include "t/log_life.h"
#include "t/log_trace.h"

TEST(log, gives_back_after_a_restart_what_was_drained)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    struct log *log = start(medium, &found);
    place_t place = 0;
    for (int i = 0; i < 100; i++)
        ASSERT_EQ(append(log, "key", 1500, &place), STATUS_OK);
    EXPECT(place != 0);
    uint64_t durable = turn(log);
    EXPECT_EQ(durable, log_tail(log));
    log_close(log);
    sim_medium_cut(medium);
    log = start(medium, &found);
    EXPECT_EQ(found.count, 100);
    EXPECT_EQ(found.report.corrupt_count, 0);
    EXPECT(log_tail(log) >= durable);
    end(medium, log);
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

/* Fills segment 0 with records of which every third lives, and copies those to the cold tail. */
static struct log *make_copies(struct medium *medium)
{
    struct found found;
    place_t place, to, lives[100];
    uint32_t live_count = 0;
    struct log *log = start(medium, &found);
    for (int i = 0; i < 100; i++) {
        EXPECT_EQ(append(log, "key", 1500, &place), STATUS_OK);
        if (place >> PLACE_UNIT_BITS == 0 && i % 3 == 0)
            lives[live_count++] = place;
    }
    turn(log);
    for (uint32_t i = 0; i < live_count; i++)
        EXPECT_EQ(log_copy_nodrain(log, lives[i], STREAM_COLD, &to), STATUS_OK);
    EXPECT_EQ(log_tail(log), 103); /* two SEALs, and no copy */
    return log;
}

TEST(log, a_cold_tail_that_is_torn_loses_nothing)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct medium *medium = sim_medium_open(SIZE, COUNT, seed);
        struct found found;
        log_close(make_copies(medium));
        sim_medium_cut(medium);
        struct log *log = start(medium, &found);
        EXPECT(found.count >= 100);
        EXPECT_EQ(found.report.corrupt_count, 0);
        EXPECT(log_tail(log) >= 103);
        end(medium, log);
    }
}

TEST(log, goes_on_at_both_tails_after_a_restart)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    place_t place, copy;
    struct log *log = make_copies(medium);
    log_segment_give(log, 0);
    durable_of(log);
    EXPECT_EQ(log_segment(log, 0)->state, SEGMENT_FREE);
    log_close(log);
    sim_medium_cut(medium);
    log = start(medium, &found);
    ASSERT_EQ(append(log, "key", 10, &place), STATUS_OK);
    EXPECT_EQ(log_lsn(log, place), 103);
    turn(log);
    ASSERT_EQ(log_copy_nodrain(log, place, STREAM_COLD, &copy), STATUS_OK);
    EXPECT_EQ(log_segment(log, place_segment(place))->generation, 3);
    EXPECT_EQ(log_segment(log, place_segment(copy))->generation, 4);
    EXPECT_EQ(log_segment(log, place_segment(copy))->stream, STREAM_COLD);
    EXPECT_EQ(log_lsn(log, copy), 103);
    end(medium, log);
}

/* Behind the drain the segment they came from is gone: they may not pass for a torn tail. */
TEST(log, reports_damage_in_the_cold_tail)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    struct log *log = make_copies(medium);
    log_segment_give(log, 0);
    durable_of(log);
    log_close(log);
    sim_medium_cut(medium);
    sim_medium_poke(medium, 3, 10000, 0xff);
    log = start(medium, &found);
    EXPECT_EQ(found.report.corrupt_count, 1);
    EXPECT_EQ(found.report.corrupt_segment, 3);
    EXPECT_EQ(log_segment(log, 3)->stream, STREAM_COLD);
    EXPECT_EQ(log_segment(log, 3)->state, SEGMENT_SEALED);
    end(medium, log);
}

TEST(log, refuses_what_never_fits_and_what_does_not_fit_now)
{
    struct medium *medium = sim_medium_open(SIZE, 2, 1);
    struct found found;
    struct log *log = start(medium, &found);
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
    end(medium, log);
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
    struct found found;
    place_t place;
    struct log *log = start(medium, &found);
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
    end(medium, log);
}

TEST(log, is_durable_only_when_the_drain_is_done_and_stops_when_the_medium_fails)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    uint64_t durable;
    place_t place;
    struct log *log = start(medium, &found);
    sim_medium_set_manual(medium, true);
    ASSERT_EQ(append(log, "a", 10, &place), STATUS_OK);
    log_drain(log);
    uint64_t asked = sim_medium_asked(medium);
    ASSERT_EQ(append(log, "b", 10, &place), STATUS_OK);
    log_drain(log);
    log_drain(log);
    EXPECT_EQ(sim_medium_asked(medium), asked + 1);
    EXPECT_EQ(durable_of(log), 1);
    sim_medium_complete(medium, asked);
    EXPECT_EQ(durable_of(log), 2);
    sim_medium_fail(medium);
    EXPECT_EQ(log_durable(log, &durable), STATUS_IO);
    end(medium, log);
}

/* Drains are asked for faster than they are done: none is forgotten, however many. */
TEST(log, remembers_any_number_of_drains)
{
    struct medium *medium = sim_medium_open(SIZE, COUNT, 1);
    struct found found;
    place_t place;
    struct log *log = start(medium, &found);
    sim_medium_set_manual(medium, true);
    for (unsigned i = 0; i < 300; i++) {
        ASSERT_EQ(append(log, "a", 10, &place), STATUS_OK);
        log_drain(log);
    }
    sim_medium_complete(medium, 20);
    EXPECT_EQ(durable_of(log), 20);
    sim_medium_complete(medium, sim_medium_asked(medium));
    EXPECT_EQ(durable_of(log), log_tail(log));
    end(medium, log);
}
