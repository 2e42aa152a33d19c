/* log_life.h: a small log on the simulated medium, started and ended as often as a test likes. */
#ifndef T_LOG_LIFE_H
#define T_LOG_LIFE_H

#include "pmem/log.h"
#include "pmem/log_private.h"
#include "t/sim_medium.h"
#include "t/test.h"

enum { SIZE = 65536, COUNT = 16 };

/* What a start has found. */
struct found {
    struct log_report report;
    uint64_t count; /* records */
};

static inline struct log_options options_of(struct medium *medium)
{
    static uint32_t lives;
    return (struct log_options){
        .identity = {.cluster = 77, .node = 1, .shard = 0, .shard_count = 1},
        .medium = medium,
        .segment_count_max = COUNT,
        .life = ++lives,
    };
}

static inline void count_record(void *user, const struct record *record, place_t place)
{
    (void)record;
    (void)place;
    (*(uint64_t *)user)++;
}

static inline struct log *start(struct medium *medium, struct found *found)
{
    struct log_options options = options_of(medium);
    struct log *log = NULL;
    uint32_t bad;
    *found = (struct found){.count = 0};
    EXPECT_EQ(log_open(&log, &options, count_record, &found->count, &found->report, &bad),
              STATUS_OK);
    assert(log != NULL);
    return log;
}

static inline void end(struct medium *medium, struct log *log)
{
    log_close(log);
    medium->ops->close(medium);
}

static inline enum status append(struct log *log, const char *key, size_t value_size,
                                 place_t *place)
{
    static char value[SIZE];
    struct record_spec spec = {.kind = RECORD_VALUE,
                               .key = slice_text(key),
                               .value = slice_make(value, value_size),
                               .ts = 1};
    return log_append_nodrain(log, &spec, 0, place);
}

static inline uint64_t durable_of(struct log *log)
{
    uint64_t durable = 0;
    EXPECT_EQ(log_durable(log, &durable), STATUS_OK);
    return durable;
}

/* As the owner does it in a turn; what is durable then. */
static inline uint64_t turn(struct log *log)
{
    log_drain(log);
    return durable_of(log);
}

#endif
