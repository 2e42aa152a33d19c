/* Goal: whenever the power goes, the log comes back with all it has promised, nothing else, and in
 * order. Method: short lives of a log; before each store, when a drain was asked for and when it is
 * done, each state that a power cut can leave is recovered and checked (t/crash_log.h). Built with
 * VARIANT=trap only. */
#include <stdio.h>

#include "t/crash_log.h"
#include "t/store_trap.h"
#include "t/test.h"

static struct crash_run run;

static void end_run(const char *name)
{
    if (run.failure[0] != 0)
        test_fail(__FILE__, __LINE__, "%s", run.failure);
    EXPECT(run.moment_count > 0);
    printf("# power cuts, %s: %llu moments, %llu images, %llu second lives\n", name,
           (unsigned long long)run.moment_count, (unsigned long long)run.image_count,
           (unsigned long long)run.second_count);
    crash_run_end(&run);
}

/* The loop of an owner: some appends, then one turn. */
TEST(crash, appends)
{
    crash_run_begin(&run, 4, 1);
    struct crash_life *life = crash_life_begin(&run);
    for (uint32_t i = 0; i < 12; i++) {
        crash_put(life, i % CRASH_KEYS, i % 4 == 3 ? RECORD_TOMBSTONE : RECORD_VALUE,
                  i % 4 == 3 ? 0 : 10 + 30 * i);
        if (i % 3 == 2)
            crash_turn(life);
    }
    end_run("appends");
}

/* Appends go on while the drain is under way. */
TEST(crash, appends_behind_a_drain_that_takes_long)
{
    crash_run_begin(&run, 4, 2);
    struct crash_life *life = crash_life_begin(&run);
    crash_medium_set_manual(life->medium, true);
    for (uint32_t i = 0; i < 10; i++) {
        crash_put(life, i % CRASH_KEYS, RECORD_VALUE, 20 + 10 * i);
        if (i % 2 == 1)
            crash_ask(life);
        if (i % 4 == 3)
            crash_medium_complete(life->medium);
        crash_turn(life);
    }
    end_run("slow drains");
}

TEST(crash, segments_fill_and_are_sealed)
{
    crash_run_begin(&run, 4, 3);
    struct crash_life *life = crash_life_begin(&run);
    for (uint32_t i = 0; i < 9; i++) {
        crash_put(life, i % CRASH_KEYS, RECORD_VALUE, i % 2 == 0 ? 3500 : 100 + 40 * i);
        if (i % 2 == 1)
            crash_turn(life);
    }
    crash_turn(life);
    end_run("sealing");
}

/* Room for three segments only: each is cleaned, given back and used again. */
TEST(crash, segments_are_cleaned_and_used_again)
{
    crash_run_begin(&run, 3, 4);
    struct crash_life *life = crash_life_begin(&run);
    crash_put(life, 4, RECORD_VALUE, 100);
    for (uint32_t i = 0; i < 9; i++) {
        crash_put(life, i % 3, RECORD_VALUE, 1000);
        crash_turn(life);
        if (log_segment_free_count(life->log) < 2)
            crash_clean(life);
        crash_turn(life);
    }
    end_run("cleaning");
}

/* Copies have a tail of their own; both tails are open when the power goes. */
TEST(crash, the_cold_tail_fills_and_is_cleaned_too)
{
    crash_run_begin(&run, CRASH_TWO_TAILS, 7);
    struct crash_life *life = crash_life_begin(&run);
    crash_put(life, 3, RECORD_VALUE, 1300);
    crash_put(life, 4, RECORD_VALUE, 1300);
    for (uint32_t i = 0; i < 12; i++) {
        crash_put(life, i % 3, RECORD_VALUE, 1300);
        crash_turn(life);
        if (log_segment_free_count(life->log) < 3)
            crash_clean(life);
        if (i % 2 == 0)
            crash_turn(life);
    }
    end_run("two tails");
}

TEST(crash, the_log_goes_on_behind_torn_tails)
{
    crash_run_begin(&run, CRASH_TWO_TAILS, 8);
    struct crash_life *life = crash_life_begin(&run);
    for (uint32_t i = 0; i < 12; i++) {
        crash_put(life, i % 3 == 0 ? 4 : i % 2, RECORD_VALUE, 1300);
        if (i % 4 == 1)
            crash_turn(life);
        if (log_segment_free_count(life->log) < 4)
            crash_clean(life);
        if (i % 4 == 2)
            crash_power(life, i == 2 ? CRASH_SOME : i == 6 ? CRASH_NOTHING : CRASH_ALL);
    }
    crash_turn(life);
    end_run("two torn tails");
}

/* What waits for a drain waits for the right one: each takes as long as two acts. The second life
 * is killed once. */
TEST(crash, segments_are_cleaned_behind_drains_that_take_long)
{
    for (unsigned kill = 0; kill < 2; kill++) {
        crash_run_begin(&run, CRASH_TWO_TAILS - kill, 9 + kill);
        run.images_max = 12;
        struct crash_life *life = crash_life_begin(&run);
        crash_medium_set_manual(life->medium, true);
        crash_put(life, 4, RECORD_VALUE, 100);
        for (uint32_t i = 0; i < 14; i++) {
            crash_put(life, i % 3, RECORD_VALUE, 1300);
            crash_turn(life);
            if (life->log != NULL && log_segment_free_count(life->log) < 3)
                crash_clean(life);
            if (i % 2 == 1)
                crash_medium_complete(life->medium);
            if (kill && i == 11)
                crash_kill(life);
            crash_turn(life);
        }
        end_run("cleaning with slow drains");
    }
}

TEST(crash, marks_prove_what_was_durable)
{
    crash_run_begin(&run, 3, 5);
    struct crash_life *life = crash_life_begin(&run);
    for (uint32_t i = 0; i < 8; i++) {
        crash_put(life, i % 3, RECORD_VALUE, 500);
        crash_turn(life);
        crash_put_mark(life);
        if (log_segment_free_count(life->log) < 2)
            crash_clean(life);
    }
    crash_turn(life);
    end_run("marks");
}

/* What a killed process leaves can be read, but is no more durable than before. */
TEST(crash, a_killed_process_starts_again)
{
    crash_run_begin(&run, 4, 6);
    struct crash_life *life = crash_life_begin(&run);
    for (uint32_t i = 0; i < 10; i++) {
        crash_put(life, i % CRASH_KEYS, RECORD_VALUE, 700);
        if (i % 3 == 1)
            crash_turn(life);
        if (i == 2 || i == 5 || i == 8)
            crash_kill(life);
        if (i == 6)
            crash_clean(life);
    }
    crash_turn(life);
    end_run("kills");
}

TEST(crash, the_log_goes_on_behind_a_torn_tail)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        crash_run_begin(&run, 4, seed);
        struct crash_life *life = crash_life_begin(&run);
        for (uint32_t i = 0; i < 9; i++) {
            crash_put(life, i % CRASH_KEYS, RECORD_VALUE, i % 3 == 1 ? 3000 : 100 + 20 * i);
            if (i % 4 == 1)
                crash_turn(life);
            if (i % 3 == 2)
                crash_power(life, i == 2 ? CRASH_SOME : i == 5 ? CRASH_NOTHING : CRASH_ALL);
        }
        crash_turn(life);
        end_run("torn tails");
    }
}
