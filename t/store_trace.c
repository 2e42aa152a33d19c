#include "t/store_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/prng.h"
#include "base/ts.h"
#include "store/store.h"
#include "t/sim_medium.h"

enum {
    SIZE = 16384,
    COUNT_SMALL = 12, /* one tail */
    COUNT_LARGE = 18, /* two */
    KEYS = 150,
    LIVES = 8,
    STEPS_MAX = 1500,
    VALUE_MAX = 900,
    RECORDS_MAX = LIVES * STEPS_MAX + 1,
    NODES = 3,
};

/* Every put has a number, which is its version too. */
struct put {
    uint32_t key;
    uint32_t kind;
    uint64_t lsn;
};

struct trace {
    struct prng prng;
    struct medium *medium;
    uint32_t lives;
    uint32_t segment_count;
    struct store *store;
    void *index;
    uint64_t index_size;
    struct put *puts;
    uint64_t put_count;
    uint64_t current[KEYS];  /* the newest put of this life, or what was found; 0: none */
    uint64_t promised[KEYS]; /* the newest put that is durable */
    uint64_t durable;
    struct store_drop drop;      /* given to cleaning now */
    struct store_drop drop_most; /* the widest ever given: what may have gone */
    uint64_t round, mark_put[NODES], mark_promised[NODES], mark_append[NODES];
    bool touched[KEYS]; /* since the walk began */
    char failure[256];
};

#define FAIL(trace, ...)                                                                           \
    do {                                                                                           \
        if ((trace)->failure[0] == 0)                                                              \
            snprintf((trace)->failure, sizeof((trace)->failure), __VA_ARGS__);                     \
    } while (0)

static struct slice key_of(const uint32_t *key)
{
    return slice_make(key, sizeof(*key));
}

static bool look_up(const struct trace *trace, uint32_t key, struct found *found)
{
    return store_find(trace->store, key_of(&key), hash_key(key_of(&key)), found);
}

static bool is_deletion(const struct put *put)
{
    return put->kind != RECORD_VALUE;
}

/* Whether a put, if it is a deletion, may have been dropped by cleaning. */
static bool may_be_gone(const struct trace *trace, uint64_t number)
{
    const struct put *put = &trace->puts[number];
    return is_deletion(put) && put->lsn < trace->drop_most.lsn &&
           (put->kind == RECORD_DISCARD || number <= trace->drop_most.floor);
}

static void check_content(struct trace *trace, const struct found *found, uint64_t number)
{
    const struct record *record = found->record;
    const struct put *put = &trace->puts[number];
    struct slice value = record_value(record);
    const uint8_t *bytes = value.data;
    if (record->kind != put->kind || found->lsn != put->lsn ||
        !slice_equal(record_key(record), key_of(&put->key)))
        FAIL(trace, "put %llu has changed", (unsigned long long)number);
    for (size_t i = sizeof(number); i < value.size; i++)
        if (bytes[i] != (uint8_t)(number + i)) {
            FAIL(trace, "the value of put %llu has changed", (unsigned long long)number);
            return;
        }
}

static uint64_t number_of(const struct record *record)
{
    uint64_t number = 0;
    if (record->value_size >= sizeof(number))
        memcpy(&number, record_value(record).data, sizeof(number));
    return number;
}

/* ---- checks ---- */

static void check_key(struct trace *trace, uint32_t key)
{
    struct found found;
    uint64_t number = trace->current[key];
    if (!look_up(trace, key, &found)) {
        if (number != 0 && !may_be_gone(trace, number))
            FAIL(trace, "key %u: put %llu is not found", key, (unsigned long long)number);
        return;
    }
    if (number == 0 || number_of(found.record) != number)
        FAIL(trace, "key %u: found %llu, not %llu", key,
             (unsigned long long)number_of(found.record), (unsigned long long)number);
    else
        check_content(trace, &found, number);
}

static void check_counts(struct trace *trace)
{
    struct store_stats stats;
    store_stats(trace->store, &stats);
    uint64_t values = 0, deletions = 0;
    for (uint32_t key = 0; key < KEYS; key++) {
        struct found found;
        if (!look_up(trace, key, &found))
            continue;
        values += found.record->kind == RECORD_VALUE;
        deletions += found.record->kind != RECORD_VALUE;
    }
    if (stats.value_count != values || stats.tombstone_count != deletions)
        FAIL(trace, "%llu values and %llu deletions are counted as %llu and %llu",
             (unsigned long long)values, (unsigned long long)deletions,
             (unsigned long long)stats.value_count, (unsigned long long)stats.tombstone_count);
}

/* After a restart: nothing older than what was promised; and it is confirmed exactly below the
 * mark. */
static void check_found(struct trace *trace, uint32_t key, uint64_t confirmed_below)
{
    struct found found;
    uint64_t promised = trace->promised[key], number = 0;
    if (look_up(trace, key, &found)) {
        number = number_of(found.record);
        if (number == 0 || number > trace->put_count || trace->puts[number].key != key) {
            FAIL(trace, "key %u: an invented record", key);
            return;
        }
        check_content(trace, &found, number);
        if ((found.lsn < confirmed_below) != (found.state == STATE_VALID) ||
            (found.state != STATE_VALID && found.state != STATE_UNCONFIRMED))
            FAIL(trace, "key %u: state %d", key, (int)found.state);
    }
    if (number < promised) {
        bool gone = false;
        for (uint64_t i = promised; number == 0 && i <= trace->put_count && !gone; i++)
            gone = trace->puts[i].key == key && may_be_gone(trace, i);
        if (!gone)
            FAIL(trace, "key %u: put %llu was durable, found %llu", key,
                 (unsigned long long)promised, (unsigned long long)number);
    }
    trace->current[key] = number;
}

static void check_marks(struct trace *trace)
{
    for (unsigned i = 0; i < NODES; i++) {
        struct mark mark = {0};
        if (!store_mark_with(trace->store, i + 1, &mark))
            mark.round = 0;
        if (mark.round < trace->mark_promised[i] || mark.round > trace->mark_put[i])
            FAIL(trace, "mark of node %u: round %llu, promised %llu", i + 1,
                 (unsigned long long)mark.round, (unsigned long long)trace->mark_promised[i]);
        trace->mark_put[i] = trace->mark_promised[i] = mark.round;
        trace->mark_append[i] = 0;
    }
}

/* ---- lives ---- */

static void restart(struct trace *trace)
{
    memset(trace->index, 0, trace->index_size);
    struct store_options options = {
        .log = {.identity = {.cluster = 1, .node = 1, .shard_count = 1},
                .medium = trace->medium,
                .segment_count_max = trace->segment_count,
                .life = ++trace->lives},
        .index = trace->index,
        .index_size = trace->index_size,
    };
    struct log_report report;
    uint32_t bad;
    enum status status = store_open(&trace->store, &options, &report, &bad);
    if (status != STATUS_OK || report.corrupt_count > 0) {
        FAIL(trace, "opening: %s, %u damaged", status_text(status), report.corrupt_count);
        if (status != STATUS_OK)
            trace->store = NULL;
        return;
    }
    struct mark last;
    uint64_t confirmed_below = store_mark_last(trace->store, &last) ? last.lsn : 0;
    for (uint32_t key = 0; key < KEYS; key++)
        check_found(trace, key, confirmed_below);
    check_marks(trace);
    check_counts(trace);
    trace->durable = 0;
}

static void promise(struct trace *trace)
{
    if (log_durable(store_log(trace->store), &trace->durable) != STATUS_OK)
        FAIL(trace, "the medium failed");
    for (uint32_t key = 0; key < KEYS; key++) {
        uint64_t number = trace->current[key];
        if (number > trace->promised[key] && trace->puts[number].lsn < trace->durable)
            trace->promised[key] = number;
    }
    for (unsigned i = 0; i < NODES; i++)
        if (trace->mark_append[i] < trace->durable)
            trace->mark_promised[i] = trace->mark_put[i];
}

static void put(struct trace *trace)
{
    static uint8_t value[VALUE_MAX];
    uint64_t number = trace->put_count + 1;
    uint32_t key = (uint32_t)prng_below(&trace->prng, KEYS),
             dice = (uint32_t)prng_below(&trace->prng, 10);
    enum record_kind kind = dice < 6 ? RECORD_VALUE : dice < 8 ? RECORD_TOMBSTONE : RECORD_DISCARD;
    size_t size = kind == RECORD_VALUE ? 8 + prng_below(&trace->prng, VALUE_MAX - 8) : 8;
    for (size_t i = 0; i < size; i++)
        value[i] = (uint8_t)(number + i);
    memcpy(value, &number, sizeof(number));
    struct record_spec spec = {.kind = kind,
                               .ts = kind == RECORD_DISCARD ? 0 : ts_make(number, 1, 0),
                               .key = key_of(&key),
                               .value = slice_make(value, size)};
    struct found found;
    bool urgent = prng_chance(&trace->prng, 20), invalid = prng_chance(&trace->prng, 10);
    enum status status = store_put_nodrain(trace->store, &spec, hash_key(spec.key),
                                           invalid ? STATE_INVALID : STATE_VALID, urgent, &found);
    if (status == STATUS_BUSY) {
        log_drain(store_log(trace->store));
        return;
    }
    if (status != STATUS_OK) {
        FAIL(trace, "put: %s", status_text(status));
        return;
    }
    trace->put_count = number;
    trace->puts[number] = (struct put){.key = key, .kind = kind, .lsn = found.lsn};
    trace->current[key] = number;
    trace->touched[key] = true;
    if (invalid && prng_chance(&trace->prng, 80))
        store_set_state(trace->store, &found, STATE_VALID);
}

static void put_mark(struct trace *trace)
{
    promise(trace);
    struct mark mark = {.lsn = trace->durable,
                        .round = ++trace->round,
                        .floor = trace->put_count,
                        .epoch = 1,
                        .members = (uint8_t)(1 | prng_below(&trace->prng, 1 << NODES))};
    if (store_put_mark_nodrain(trace->store, &mark) != STATUS_OK)
        return;
    for (unsigned i = 0; i < NODES; i++)
        if (mark.members >> i & 1) {
            trace->mark_put[i] = mark.round;
            trace->mark_append[i] = log_tail(store_log(trace->store)) - 1;
        }
    bool drop = prng_chance(&trace->prng, 70);
    trace->drop =
        (struct store_drop){.lsn = drop ? mark.lsn : 0, .floor = drop ? mark.floor / 2 : 0};
    if (trace->drop.lsn > trace->drop_most.lsn)
        trace->drop_most.lsn = trace->drop.lsn;
    if (trace->drop.floor > trace->drop_most.floor)
        trace->drop_most.floor = trace->drop.floor;
}

static void clean(struct trace *trace)
{
    if (store_wants_cleaning(trace->store))
        store_clean(trace->store, &trace->drop, 200 + prng_below(&trace->prng, 8000));
}

static void step(struct trace *trace)
{
    unsigned dice = (unsigned)prng_below(&trace->prng, 100);
    struct medium *medium = trace->medium;
    uint64_t left = sim_medium_asked(medium) - sim_medium_done(medium);
    if (dice < 60) {
        put(trace);
    } else if (dice < 70) {
        log_drain(store_log(trace->store));
    } else if (dice < 82) {
        sim_medium_complete(medium, sim_medium_done(medium) + prng_below(&trace->prng, left + 1));
    } else if (dice < 90) {
        promise(trace);
    } else if (dice < 92) {
        put_mark(trace);
    } else if (dice < 98) {
        clean(trace);
    } else {
        check_key(trace, (uint32_t)prng_below(&trace->prng, KEYS));
    }
}

/* What is current during the whole walk is given at least once, whatever happens meanwhile. */
static void walk(struct trace *trace)
{
    bool given[KEYS] = {false};
    memset(trace->touched, 0, sizeof(trace->touched));
    uint64_t lsn_min = prng_below(&trace->prng, log_tail(store_log(trace->store)) + 1);
    struct store_cursor cursor = {0};
    for (unsigned calls = 0;; calls++) {
        struct found found;
        uint64_t budget = 1000;
        if (calls > 100000)
            FAIL(trace, "the walk does not end");
        if (trace->failure[0] != 0 || !store_walk(trace->store, &cursor, lsn_min, &budget, &found))
            break;
        if (found.record != NULL) {
            if (found.lsn < lsn_min)
                FAIL(trace, "the walk gives a record that is too old");
            given[trace->puts[number_of(found.record)].key] = true;
        }
        if (prng_chance(&trace->prng, 30))
            step(trace);
    }
    for (uint32_t key = 0; key < KEYS; key++) {
        struct found found;
        if (!trace->touched[key] && !given[key] && look_up(trace, key, &found) &&
            found.lsn >= lsn_min)
            FAIL(trace, "the walk has left out key %u", key);
    }
}

static void live(struct trace *trace)
{
    sim_medium_set_manual(trace->medium, prng_chance(&trace->prng, 60));
    sim_medium_complete(trace->medium, sim_medium_asked(trace->medium));
    uint64_t steps = prng_below(&trace->prng, prng_chance(&trace->prng, 20) ? 10 : STEPS_MAX);
    for (uint64_t i = 0; i < steps && trace->put_count < RECORDS_MAX - 3000; i++) {
        step(trace);
        if (trace->failure[0] != 0)
            return;
    }
    for (uint32_t key = 0; key < KEYS; key++)
        check_key(trace, key);
    check_counts(trace);
    if (prng_chance(&trace->prng, 50))
        walk(trace);
}

static void end_life(struct trace *trace)
{
    store_close(trace->store);
    trace->store = NULL;
    if (prng_chance(&trace->prng, 70))
        sim_medium_cut(trace->medium);
    else
        sim_medium_kill(trace->medium);
}

const char *store_trace_run(uint64_t seed)
{
    static struct trace trace;
    memset(&trace, 0, sizeof(trace));
    trace.prng.state = seed;
    trace.segment_count = prng_chance(&trace.prng, 50) ? COUNT_SMALL : COUNT_LARGE;
    trace.medium = sim_medium_open(SIZE, trace.segment_count, seed + 1);
    trace.puts = calloc(RECORDS_MAX + 100000, sizeof(*trace.puts));
    trace.index_size = store_index_size((uint64_t)SIZE * trace.segment_count);
    trace.index = aligned_alloc(64, (trace.index_size + 63) / 64 * 64);
    restart(&trace);
    for (unsigned i = 0; i < LIVES && trace.failure[0] == 0; i++) {
        live(&trace);
        end_life(&trace);
        restart(&trace);
    }
    if (trace.store != NULL)
        store_close(trace.store);
    free(trace.index);
    free(trace.puts);
    trace.medium->ops->close(trace.medium);
    return trace.failure[0] != 0 ? trace.failure : NULL;
}
