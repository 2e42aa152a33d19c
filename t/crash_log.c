#include "t/crash_log.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "t/store_trap.h"

enum { SLOT_MARK = CRASH_KEYS, SECOND_IMAGES = 4, VALUE_MAX = 4096 };

#define FAIL(run, ...)                                                                             \
    do {                                                                                           \
        if ((run)->failure[0] == 0)                                                                \
            snprintf((run)->failure, sizeof((run)->failure), __VA_ARGS__);                         \
    } while (0)

/* ---- what is found ---- */

static uint8_t value_byte(uint32_t number, uint32_t at)
{
    return (uint8_t)(number * 7 + at);
}

static bool content_right(const struct record *record, uint32_t number,
                          const struct crash_written *written)
{
    struct slice key = record_key(record), value = record_value(record);
    if (record->kind != written->kind || value.size != written->size)
        return false;
    if (written->slot == SLOT_MARK)
        return key.size == 0;
    uint32_t slot = written->slot;
    if (key.size != sizeof(slot) || memcmp(key.data, &slot, sizeof(slot)) != 0)
        return false;
    for (uint32_t i = 0; i < value.size; i++)
        if (((const uint8_t *)value.data)[i] != value_byte(number, i))
            return false;
    return true;
}

struct look {
    struct crash_run *run;
    const struct crash_ledger *ledger;
    struct crash_found *found;
    struct log *log;
};

static void on_scanned(void *user, const struct record *record, place_t place)
{
    struct look *look = user;
    uint64_t number = record->ts;
    if (number == 0 || number > look->ledger->count) {
        FAIL(look->run, "an invented record");
        return;
    }
    const struct crash_written *written = &look->ledger->written[number];
    uint64_t lsn = log_lsn(look->log, place);
    if (!written->alive)
        FAIL(look->run, "record %u comes back", (unsigned)number);
    if (!content_right(record, (uint32_t)number, written) ||
        (written->lsn != 0 && written->lsn != lsn))
        FAIL(look->run, "record %u has changed", (unsigned)number);
    struct crash_found *found = look->found;
    found->seen[number] = true;
    if (lsn < found->newest_lsn[written->slot])
        return;
    found->newest[written->slot] = (uint32_t)number;
    found->newest_lsn[written->slot] = lsn;
    found->place[written->slot] = place;
}

/* Opens the log; NULL: it was refused. */
static struct log *open_log(struct crash_run *run, struct medium *medium,
                            const struct crash_ledger *ledger, struct crash_found *found)
{
    struct look look = {.run = run, .ledger = ledger, .found = found};
    struct log_options options = {.identity = {.cluster = 9, .node = 1, .shard_count = 1},
                                  .medium = medium,
                                  .segment_count_max = run->segments,
                                  .life = ++run->log_life};
    uint32_t bad;
    memset(found, 0, sizeof(*found));
    enum status status = log_open(&look.log, &options, on_scanned, &look, &run->report, &bad);
    if (status != STATUS_OK)
        FAIL(run, "segment %u: %s", bad, status_text(status));
    return status == STATUS_OK ? look.log : NULL;
}

static void check_found(struct crash_run *run, const struct crash_ledger *ledger,
                        const struct crash_found *found)
{
    uint32_t last = 0;
    if (run->report.corrupt_count > 0)
        FAIL(run, "damage is reported in segment %u", run->report.corrupt_segment);
    for (uint32_t i = 1; i <= ledger->count; i++)
        last = found->seen[i] ? i : last;
    uint32_t newest[CRASH_SLOTS] = {0};
    for (uint32_t i = 1; i <= last; i++)
        if (ledger->written[i].alive)
            newest[ledger->written[i].slot] = i;
    for (unsigned slot = 0; slot < CRASH_SLOTS; slot++) {
        if (found->newest[slot] < ledger->promised[slot])
            FAIL(run, "key %u: record %u was durable, found %u", slot, ledger->promised[slot],
                 found->newest[slot]);
        if (found->newest[slot] != newest[slot])
            FAIL(run, "key %u: record %u is missing, found %u, though record %u is there", slot,
                 newest[slot], found->newest[slot], last);
    }
}

/* ---- every image of one moment ---- */

static void second_life(struct crash_life *life, const struct crash_image *image);

/* Recovers one image. Now and then life goes on in it. */
static void check_image(struct crash_life *life, bool second)
{
    struct crash_run *run = life->run;
    unsigned below = life->depth + 1;
    struct medium *medium = run->media[below];
    run->image_count++;
    crash_medium_set_plain(medium, true);
    crash_medium_load(medium, run->images[life->depth]);
    struct log *log = open_log(run, medium, &life->ledger, &run->look);
    if (log == NULL)
        return;
    log_close(log);
    check_found(run, &life->ledger, &run->look);
    if (second && below + 1 < CRASH_DEPTH && run->failure[0] == 0)
        second_life(life, run->images[life->depth]);
}

static void check_all(struct crash_life *life, uint64_t count, uint64_t second)
{
    for (uint64_t i = 0; i < count; i++) {
        crash_image_combination(life->run->images[life->depth], i);
        check_image(life, i == second);
    }
}

static void check_some(struct crash_life *life, uint32_t lines, unsigned count, unsigned second)
{
    struct crash_image *image = life->run->images[life->depth];
    crash_image_all(image, false);
    check_image(life, false);
    crash_image_all(image, true);
    check_image(life, second == 0);
    for (uint32_t i = 0; i < lines && 2 * lines < count; i++) {
        crash_image_all_but(image, false, i);
        check_image(life, false);
        crash_image_all_but(image, true, i);
        check_image(life, false);
    }
    for (unsigned i = 0; i < count / 3; i++) {
        crash_image_random(image, &life->run->prng);
        check_image(life, i + 1 == second);
    }
}

static void on_moment(void *user, enum crash_event event)
{
    struct crash_life *life = user;
    struct crash_run *run = life->run;
    (void)event;
    if (run->failure[0] != 0 || run->images_max == 0)
        return;
    run->moment_count++;
    unsigned images_max = life->depth == 0 ? run->images_max : SECOND_IMAGES;
    uint32_t lines = crash_image_lines(run->images[life->depth], life->medium);
    uint64_t count = crash_image_combinations(run->images[life->depth]);
    bool few = count <= images_max;
    uint64_t second = UINT64_MAX;
    if (life->depth == 0 && prng_chance(&run->prng, run->second_percent))
        second = prng_below(&run->prng, few ? count : images_max / 3);
    if (few)
        check_all(life, count, second);
    else
        check_some(life, lines, images_max, (unsigned)second);
    if (run->failure[0] != 0 && strstr(run->failure, "moment") == NULL) {
        size_t size = strlen(run->failure);
        snprintf(run->failure + size, sizeof(run->failure) - size, "; moment %llu, life %u%s",
                 (unsigned long long)run->moment_count, life->depth + 1,
                 life->opening ? ", opening" : "");
    }
}

/* ---- a life ---- */

static bool going_on(const struct crash_life *life)
{
    return life->log != NULL && life->run->failure[0] == 0;
}

static void kill_dead(struct crash_life *life)
{
    for (uint32_t number = 0; number < log_segment_count(life->log); number++) {
        uint32_t offset = 0;
        place_t place;
        const struct record *record;
        while ((record = log_segment_next(life->log, number, &offset, &place)) != NULL)
            if (life->place[life->ledger.written[record->ts].slot] != place)
                log_dead(life->log, place);
    }
}

static void open_life(struct crash_life *life)
{
    struct crash_run *run = life->run;
    life->opening = true;
    crash_medium_set_plain(life->medium, false);
    crash_medium_watch(life->medium, on_moment, life);
    crash_medium_trap(life->medium);
    life->log = open_log(run, life->medium, &life->ledger, &life->found);
    store_trap_end();
    life->opening = false;
    if (life->log == NULL || run->failure[0] != 0)
        return;
    check_found(run, &life->ledger, &life->found);
    for (uint32_t i = 1; i <= life->ledger.count; i++)
        life->ledger.written[i].alive = life->found.seen[i];
    memcpy(life->current, life->found.newest, sizeof(life->current));
    memcpy(life->place, life->found.place, sizeof(life->place));
    if (run->failure[0] == 0)
        kill_dead(life);
}

static void close_life(struct crash_life *life)
{
    if (life->log != NULL)
        log_close(life->log);
    life->log = NULL;
}

static void append(struct crash_life *life, uint8_t slot, struct record_spec *spec)
{
    if (!going_on(life))
        return;
    struct crash_ledger *ledger = &life->ledger;
    uint32_t number = ++ledger->count;
    assert(number < CRASH_WRITTEN_MAX);
    ledger->written[number] = (struct crash_written){.kind = (uint8_t)spec->kind,
                                                     .slot = slot,
                                                     .alive = true,
                                                     .size = (uint32_t)spec->value.size};
    spec->ts = number;
    place_t place;
    crash_medium_trap(life->medium);
    enum status status = log_append_nodrain(life->log, spec, 0, &place);
    store_trap_end();
    if (status != STATUS_OK) {
        ledger->written[number].alive = false;
        return;
    }
    ledger->written[number].lsn = log_lsn(life->log, place);
    if (life->current[slot] != 0)
        log_dead(life->log, life->place[slot]);
    life->current[slot] = number;
    life->place[slot] = place;
}

void crash_put(struct crash_life *life, uint32_t key, enum record_kind kind, uint32_t value_size)
{
    uint8_t value[VALUE_MAX];
    assert(key < CRASH_KEYS);
    assert(value_size <= VALUE_MAX);
    for (uint32_t i = 0; i < value_size; i++)
        value[i] = value_byte(life->ledger.count + 1, i);
    struct record_spec spec = {
        .kind = kind, .key = slice_make(&key, sizeof(key)), .value = slice_make(value, value_size)};
    append(life, (uint8_t)key, &spec);
}

/* Takes note of what the log says is durable. */
static void promise(struct crash_life *life, uint64_t *durable)
{
    crash_medium_trap(life->medium);
    *durable = 0;
    if (log_durable(life->log, durable) != STATUS_OK)
        FAIL(life->run, "the medium failed");
    store_trap_end();
    struct crash_ledger *ledger = &life->ledger;
    for (uint32_t i = 1; i <= ledger->count; i++) {
        const struct crash_written *written = &ledger->written[i];
        if (written->alive && written->lsn != 0 && written->lsn < *durable &&
            i > ledger->promised[written->slot])
            ledger->promised[written->slot] = i;
        if (written->alive && written->lsn != 0 && written->lsn < log_proved(life->log) &&
            i > ledger->proved[written->slot])
            ledger->proved[written->slot] = i;
    }
}

void crash_put_mark(struct crash_life *life)
{
    uint64_t durable;
    if (!going_on(life))
        return;
    promise(life, &durable);
    const struct mark mark = {.lsn = durable, .round = 1, .members = 1};
    struct record_spec spec = {.kind = RECORD_MARK, .value = slice_make(&mark, sizeof(mark))};
    append(life, SLOT_MARK, &spec);
}

void crash_ask(struct crash_life *life)
{
    if (!going_on(life))
        return;
    crash_medium_trap(life->medium);
    log_drain(life->log);
    store_trap_end();
}

void crash_turn(struct crash_life *life)
{
    uint64_t durable;
    crash_ask(life);
    if (going_on(life))
        promise(life, &durable);
}

void crash_copy(struct crash_life *life, uint32_t segment)
{
    enum log_stream stream = life->run->segments < CRASH_TWO_TAILS ? STREAM_HOT : STREAM_COLD;
    if (going_on(life) && !log_segment_is_durable(life->log, segment))
        return;
    for (unsigned slot = 0; slot < CRASH_SLOTS && going_on(life); slot++) {
        if (life->current[slot] == 0 || life->place[slot] >> PLACE_UNIT_BITS != segment)
            continue;
        place_t to;
        crash_medium_trap(life->medium);
        enum status status = log_copy_nodrain(life->log, life->place[slot], stream, &to);
        store_trap_end();
        if (status != STATUS_OK)
            return;
        life->place[slot] = to;
    }
    if (!going_on(life))
        return;
    crash_medium_trap(life->medium);
    log_segment_give(life->log, segment);
    store_trap_end();
}

void crash_clean(struct crash_life *life)
{
    uint32_t victim = UINT32_MAX, dead_max = 0;
    if (!going_on(life))
        return;
    for (uint32_t i = 0; i < log_segment_count(life->log); i++) {
        const struct segment *segment = log_segment(life->log, i);
        bool may_go = log_segment_is_durable(life->log, i);
        if (segment->state == SEGMENT_SEALED && may_go &&
            segment->used - segment->live > dead_max) {
            dead_max = segment->used - segment->live;
            victim = i;
        }
    }
    if (victim != UINT32_MAX)
        crash_copy(life, victim);
}

void crash_kill(struct crash_life *life)
{
    if (!going_on(life))
        return;
    close_life(life);
    crash_medium_kill(life->medium);
    open_life(life);
}

/* What is found in an image is durable from now on. */
static void settle_ledger(struct crash_ledger *ledger, const struct crash_found *found)
{
    for (uint32_t i = 1; i <= ledger->count; i++)
        ledger->written[i].alive = found->seen[i];
    memcpy(ledger->promised, found->newest, sizeof(ledger->promised));
}

void crash_power(struct crash_life *life, enum crash_left left)
{
    if (!going_on(life))
        return;
    struct crash_run *run = life->run;
    struct crash_image *image = run->images[life->depth];
    close_life(life);
    crash_image_lines(image, life->medium);
    if (left == CRASH_SOME)
        crash_image_random(image, &run->prng);
    else
        crash_image_all(image, left == CRASH_ALL);
    check_image(life, false);
    settle_ledger(&life->ledger, &run->look);
    crash_medium_load(life->medium, image);
    if (run->failure[0] == 0)
        open_life(life);
}

/* ---- a second one, in what the first one has left ---- */

static void go_on(struct crash_life *life)
{
    for (uint32_t i = 0; i < 3; i++)
        crash_put(life, i % 2, RECORD_VALUE, 60 + 100 * i);
    crash_turn(life);
    crash_put(life, 2, RECORD_VALUE, 300);
    crash_clean(life);
    crash_turn(life);
    crash_put(life, 0, RECORD_TOMBSTONE, 0);
    crash_turn(life);
}

static void second_life(struct crash_life *life, const struct crash_image *image)
{
    struct crash_run *run = life->run;
    struct crash_life *second = &run->lives[life->depth + 1];
    memset(second, 0, sizeof(*second));
    second->run = run;
    second->depth = life->depth + 1;
    second->medium = run->media[second->depth];
    second->ledger = life->ledger;
    settle_ledger(&second->ledger, &run->look);
    run->second_count++;
    crash_medium_set_plain(second->medium, false);
    crash_medium_set_manual(second->medium, false);
    crash_medium_load(second->medium, image);
    open_life(second);
    go_on(second);
    close_life(second);
    crash_medium_trap(life->medium);
}

/* ---- damage ---- */

uint8_t *crash_left(struct crash_life *life)
{
    struct crash_image *image = life->run->images[life->depth];
    crash_image_lines(image, life->medium);
    crash_image_all(image, false);
    return crash_image_bytes(image);
}

void crash_look(struct crash_life *life)
{
    struct crash_run *run = life->run;
    struct medium *medium = run->media[life->depth + 1];
    run->image_count++;
    crash_medium_set_plain(medium, true);
    crash_medium_load(medium, run->images[life->depth]);
    struct log *log = open_log(run, medium, &life->ledger, &run->look);
    if (log == NULL)
        return;
    log_close(log);
    run->reported_count += run->report.corrupt_count > 0;
    for (unsigned slot = 0; slot < CRASH_SLOTS && run->report.corrupt_count == 0; slot++)
        if (run->look.newest[slot] < life->ledger.proved[slot])
            FAIL(run, "key %u: record %u was proved, found %u, and nothing is reported", slot,
                 life->ledger.proved[slot], run->look.newest[slot]);
}

/* ---- runs ---- */

void crash_run_begin(struct crash_run *run, uint32_t segments, uint64_t seed)
{
    /* A log takes half a megabyte for a moment: to ask the kernel for it each time is slow. */
    mallopt(M_MMAP_THRESHOLD, 1 << 26);
    mallopt(M_TRIM_THRESHOLD, 1 << 26);
    memset(run, 0, sizeof(*run));
    run->prng.state = seed;
    run->segments = segments;
    run->images_max = 32;
    run->second_percent = 1;
    for (unsigned i = 0; i < CRASH_DEPTH; i++) {
        run->media[i] = crash_medium_open(CRASH_SEGMENT_SIZE, segments);
        run->images[i] = crash_image_open(run->media[i]);
    }
}

void crash_run_end(struct crash_run *run)
{
    for (unsigned i = 0; i < CRASH_DEPTH; i++) {
        close_life(&run->lives[i]);
        crash_image_close(run->images[i]);
        run->media[i]->ops->close(run->media[i]);
    }
}

struct crash_life *crash_life_begin(struct crash_run *run)
{
    struct crash_life *life = &run->lives[0];
    life->run = run;
    life->medium = run->media[0];
    open_life(life);
    return life;
}
