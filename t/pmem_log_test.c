/* Goal: the log keeps what it said is durable, invents nothing and refuses what is not its own.
 * Method: small logs on the simulated medium, ended by kills, power cuts and rot. */
#include <stdio.h>
#include <stdlib.h>

#include "base/prng.h"
#include "pmem/log.h"
#include "pmem/medium_memory.h"
#include "t/log_trace.h"
#include "t/sim_medium.h"
#include "t/test.h"

enum { SIZE = 65536, COUNT = 16 };

static struct log_options options_of(struct medium *medium)
{
    return (struct log_options){
        .identity = {.cluster = 77, .node = 1, .shard = 0, .shard_count = 1},
        .medium = medium,
        .segment_count_max = COUNT,
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
