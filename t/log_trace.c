#include "t/log_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "pmem/log.h"
#include "t/sim_medium.h"

enum {
    SIZE = 16384,
    COUNT = 10,
    KEYS = 12,
    LIVES = 12,
    STEPS_MAX = 400,
    VALUE_MAX = 900,
    RECORDS_MAX = 1 << 17,
    RESERVE = 2,
};

/* Every record that was ever appended has its own number as value; the model remembers it by that.
 */
struct written {
    uint32_t key;
    uint32_t size;
    uint64_t lsn;
    bool seen; /* by the scan of this life */
};

struct trace {
    struct prng prng;
    struct medium *medium;
    struct log *log;
    struct written *written;
    uint64_t written_count;
    uint64_t current[KEYS];  /* newest in this life, 0: none */
    place_t place[KEYS];     /* where it lies */
    uint64_t promised[KEYS]; /* newest that log_durable() has covered */
    uint64_t scanned[KEYS];  /* newest found by this scan */
    place_t scanned_place[KEYS];
    uint64_t durable;
    uint64_t tail_first; /* of this life */
    uint32_t lives;
    /* A drain was done since the last power cut: the log notes then how far it is durable. */
    bool proved;
    bool cut, rotten, ever_rotten; /* how the last life ended; whether any rot was planted so far */
    char failure[256];
};

#define FAIL(trace, ...)                                                                           \
    do {                                                                                           \
        if ((trace)->failure[0] == 0)                                                              \
            snprintf((trace)->failure, sizeof((trace)->failure), __VA_ARGS__);                     \
    } while (0)

/* ---- what a restart finds ---- */

static bool content_right(const struct record *record, uint64_t number,
                          const struct written *written)
{
    struct slice key = record_key(record), value = record_value(record);
    if (key.size != sizeof(written->key) || memcmp(key.data, &written->key, key.size) != 0 ||
        value.size != written->size)
        return false;
    const uint8_t *bytes = value.data;
    for (size_t i = sizeof(number); i < value.size; i++)
        if (bytes[i] != (uint8_t)(number + i))
            return false;
    return true;
}

static void on_scanned(void *user, const struct record *record, place_t place)
{
    struct trace *trace = user;
    uint64_t number = 0;
    if (record->kind != RECORD_VALUE || record->value_size < sizeof(number)) {
        FAIL(trace, "an invented record of kind %u", record->kind);
        return;
    }
    memcpy(&number, record_value(record).data, sizeof(number));
    if (number == 0 || number > trace->written_count) {
        FAIL(trace, "an invented record");
        return;
    }
    struct written *written = &trace->written[number];
    if (!content_right(record, number, written) || log_lsn(trace->log, place) != written->lsn) {
        FAIL(trace, "record %llu has changed", (unsigned long long)number);
        return;
    }
    written->seen = true;
    uint64_t *newest = &trace->scanned[written->key];
    if (*newest != 0 && trace->written[*newest].lsn >= written->lsn)
        return;
    *newest = number;
    trace->scanned_place[written->key] = place;
}

/* Nothing promised is gone, and of each key no older record than the promised one is current. Rot
 * is either reported or has hit nothing; but what was rotten after a power cut may look torn, if it
 * was the newest. */
static void check_promises(struct trace *trace, const struct log_report *report)
{
    bool excused =
        trace->ever_rotten && (report->corrupt_count > 0 || (trace->rotten && !trace->proved));
    for (uint32_t key = 0; key < KEYS; key++) {
        uint64_t promised = trace->promised[key], found = trace->scanned[key];
        bool lost = promised != 0 && (found == 0 || found < promised);
        if (lost && !excused)
            FAIL(trace, "key %u: record %llu was durable, found %llu", key,
                 (unsigned long long)promised, (unsigned long long)found);
        trace->current[key] = found;
        trace->promised[key] = excused ? 0 : promised;
        trace->place[key] = trace->scanned_place[key];
    }
    if (!trace->ever_rotten && report->corrupt_count > 0)
        FAIL(trace, "damage was reported without any, in segment %u", report->corrupt_segment);
}

static void restart(struct trace *trace)
{
    memset(trace->scanned, 0, sizeof(trace->scanned));
    memset(trace->scanned_place, 0, sizeof(trace->scanned_place));
    struct log_options options = {.identity = {.cluster = 5, .node = 2, .shard_count = 1},
                                  .medium = trace->medium,
                                  .segment_count_max = COUNT,
                                  .life = ++trace->lives};
    struct log_report report;
    uint32_t bad;
    enum status status = log_open(&trace->log, &options, on_scanned, trace, &report, &bad);
    if (status != STATUS_OK) {
        trace->log = NULL;
        FAIL(trace, "opening: %s", status_text(status));
        return;
    }
    check_promises(trace, &report);
    trace->tail_first = log_tail(trace->log);
    /* What was not current is dead, as the store would say. */
    for (uint32_t number = 0; number < log_segment_count(trace->log); number++) {
        uint32_t offset = 0;
        place_t place;
        const struct record *record;
        while ((record = log_segment_next(trace->log, number, &offset, &place)) != NULL) {
            uint32_t key = KEYS;
            if (record->key_size == sizeof(key))
                memcpy(&key, record_key(record).data, sizeof(key));
            if (key >= KEYS || trace->place[key] != place)
                log_dead(trace->log, place);
        }
    }
}

/* ---- one life ---- */

static void promise(struct trace *trace)
{
    uint64_t durable = 0;
    if (log_durable(trace->log, &durable) != STATUS_OK)
        FAIL(trace, "the medium failed");
    if (durable < trace->durable)
        FAIL(trace, "durable went back");
    trace->durable = durable;
    trace->proved = trace->proved || durable >= trace->tail_first;
    for (uint64_t i = 1; i <= trace->written_count; i++) {
        const struct written *written = &trace->written[i];
        if (written->seen && written->lsn < durable && i > trace->promised[written->key])
            trace->promised[written->key] = i;
    }
}

static void append(struct trace *trace)
{
    static uint8_t value[VALUE_MAX];
    uint64_t number = trace->written_count + 1;
    uint32_t key = (uint32_t)prng_below(&trace->prng, KEYS);
    uint32_t size = 8 + (uint32_t)prng_below(&trace->prng, VALUE_MAX - 8);
    for (uint32_t i = 0; i < size; i++)
        value[i] = (uint8_t)(number + i);
    memcpy(value, &number, sizeof(number));
    uint64_t lsn = log_tail(trace->log);
    struct record_spec spec = {.kind = RECORD_VALUE,
                               .ts = number,
                               .key = slice_make(&key, 4),
                               .value = slice_make(value, size)};
    place_t place;
    if (log_append_nodrain(trace->log, &spec, RESERVE, &place) != STATUS_OK)
        return;
    lsn = log_lsn(trace->log, place);
    if (lsn + 1 != log_tail(trace->log))
        FAIL(trace, "lsn %llu, tail %llu", (unsigned long long)lsn,
             (unsigned long long)log_tail(trace->log));
    trace->written_count = number;
    trace->written[number] = (struct written){.key = key, .size = size, .lsn = lsn, .seen = true};
    if (trace->current[key] != 0)
        log_dead(trace->log, trace->place[key]);
    trace->current[key] = number;
    trace->place[key] = place;
}

/* As the store cleans: copies what is current of the segment with the most dead bytes, gives it
 * back. Mostly to the cold tail; in a small log, copies go to the hot one. */
static void clean(struct trace *trace)
{
    enum log_stream stream = prng_chance(&trace->prng, 80) ? STREAM_COLD : STREAM_HOT;
    uint32_t victim = UINT32_MAX, dead_max = 0;
    for (uint32_t i = 0; i < log_segment_count(trace->log); i++) {
        const struct segment *segment = log_segment(trace->log, i);
        bool may_go = log_segment_is_durable(trace->log, i);
        if (segment->state == SEGMENT_SEALED && may_go &&
            segment->used - segment->live > dead_max) {
            dead_max = segment->used - segment->live;
            victim = i;
        }
    }
    if (victim == UINT32_MAX)
        return;
    for (uint32_t key = 0; key < KEYS; key++) {
        if (trace->current[key] == 0 || trace->place[key] >> PLACE_UNIT_BITS != victim)
            continue;
        place_t to;
        if (log_copy_nodrain(trace->log, trace->place[key], stream, &to) != STATUS_OK)
            return;
        trace->place[key] = to;
    }
    log_segment_give(trace->log, victim);
}

static void step(struct trace *trace)
{
    unsigned dice = (unsigned)prng_below(&trace->prng, 100);
    if (log_segment_free_count(trace->log) <= 2 + RESERVE)
        clean(trace);
    if (dice < 70) {
        append(trace);
    } else if (dice < 80) {
        log_drain(trace->log);
    } else if (dice < 88) {
        sim_medium_complete(trace->medium,
                            sim_medium_done(trace->medium) +
                                prng_below(&trace->prng, 1 + sim_medium_asked(trace->medium) -
                                                             sim_medium_done(trace->medium)));
    } else if (dice < 98) {
        promise(trace);
    } else {
        if (prng_chance(&trace->prng, 20))
            log_stream_end(trace->log, STREAM_COLD);
        clean(trace);
    }
}

/* In some lives everything works at once, so that many segments are used and cleaned. */
static void live(struct trace *trace)
{
    bool manual = prng_chance(&trace->prng, 60);
    sim_medium_set_manual(trace->medium, manual);
    sim_medium_complete(trace->medium, sim_medium_asked(trace->medium));
    uint64_t steps = prng_below(&trace->prng, prng_chance(&trace->prng, 30) ? 10 : STEPS_MAX);
    for (uint64_t i = 0; i < steps && trace->failure[0] == 0; i++)
        step(trace);
}

/* Mostly one spot. Many at once may hit a record and also what would prove that it is missing. */
static bool rot(struct trace *trace)
{
    unsigned spots =
        prng_chance(&trace->prng, 80) ? 1 : 1 + (unsigned)prng_below(&trace->prng, 300);
    trace->proved = trace->proved && spots == 1;
    bool done = false;
    for (unsigned i = 0; i < spots; i++)
        done = sim_medium_corrupt(trace->medium) || done;
    return done;
}

static void end_life(struct trace *trace, enum log_trace_end end)
{
    log_close(trace->log);
    trace->log = NULL;
    trace->cut = end == TRACE_CUT || prng_chance(&trace->prng, 50);
    trace->proved = trace->proved && !trace->cut;
    if (trace->cut)
        sim_medium_cut(trace->medium);
    else
        sim_medium_kill(trace->medium);
    bool drained = trace->durable >= trace->tail_first;
    trace->durable = 0;
    /* A record that is not found now was lost; it must not count as promised later. */
    for (uint64_t i = 1; i <= trace->written_count; i++)
        trace->written[i].seen = false;
    /* What the last start found of the rot is safe when that start's drain is done. */
    trace->rotten = trace->rotten && !drained;
    if (end == TRACE_CORRUPT && prng_chance(&trace->prng, 50) && rot(trace))
        trace->rotten = true;
    trace->ever_rotten = trace->ever_rotten || trace->rotten;
}

const char *log_trace_run(uint64_t seed, enum log_trace_end end)
{
    static struct trace trace;
    memset(&trace, 0, sizeof(trace));
    trace.prng.state = seed;
    trace.medium = sim_medium_open(SIZE, COUNT, seed + 1);
    trace.written = calloc(RECORDS_MAX, sizeof(*trace.written));
    restart(&trace);
    for (unsigned i = 0; i < LIVES && trace.failure[0] == 0; i++) {
        live(&trace);
        end_life(&trace, end);
        restart(&trace);
    }
    if (trace.log != NULL)
        log_close(trace.log);
    free(trace.written);
    trace.medium->ops->close(trace.medium);
    return trace.failure[0] != 0 ? trace.failure : NULL;
}
