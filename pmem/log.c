/* Opening, appending, draining. Segments: log_segment.c; what a restart finds: log_scan.c. */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "pmem/log_private.h"

static uint64_t round_to_line(uint64_t size)
{
    return (size + SEGMENT_LINE - 1) / SEGMENT_LINE * SEGMENT_LINE;
}

uint64_t log_memory_size(void)
{
    return round_to_line(sizeof(struct log)) +
           round_to_line(SEGMENT_COUNT_MAX * sizeof(struct segment)) +
           round_to_line(SEGMENT_COUNT_MAX * sizeof(struct segment_more));
}

void log_find_tables(struct log *log)
{
    uint8_t *at = (uint8_t *)log + round_to_line(sizeof(*log));
    log->segments = (void *)at;
    log->more = (void *)(at + round_to_line(SEGMENT_COUNT_MAX * sizeof(struct segment)));
}

static void init(struct log *log, const struct log_options *options)
{
    log_find_tables(log);
    log->options = *options;
    log->medium = options->medium;
    log->segment_count = options->segment_count_max;
    log->growing = true;
    log->grace = 1;
    for (unsigned i = 0; i < STREAM_COUNT; i++)
        log->streams[i] = (struct stream){.open = SEGMENT_NONE, .tail = 1, .durable = 1};
    log->proof.hot_noted = log->proof.hot_done = 1; /* there is nothing below */
}

enum status log_open(struct log **log, const struct log_options *options, log_scan_t scan,
                     void *user, struct log_report *report, uint32_t *bad_segment)
{
    assert(options->segment_count_max > 0 && options->segment_count_max <= SEGMENT_COUNT_MAX);
    assert(options->medium->segment_size >= SEGMENT_SIZE_MIN);
    assert(options->medium->segment_size <= LOG_SEGMENT_SIZE_MAX);
    *bad_segment = 0;
    memset(report, 0, sizeof(*report));
    struct log *made = options->memory != NULL ? options->memory : calloc(1, log_memory_size());
    if (made == NULL)
        return STATUS_NO_MEMORY;
    init(made, options);
    made->own_memory = options->memory == NULL;
    *log = made;
    uint64_t durable;
    enum status status = log_scan(made, scan, user, report, bad_segment);
    if (status == STATUS_OK)
        status = log_durable(made, &durable);
    if (status != STATUS_OK) {
        log_close(made);
        *log = NULL;
    }
    return status;
}

void log_close(struct log *log)
{
    if (log->own_memory)
        free(log);
}

static bool fits_open(const struct log *log, enum log_stream stream, uint64_t size)
{
    uint32_t open = log->streams[stream].open;
    return open != SEGMENT_NONE && size <= log->medium->segment_size - log->segments[open].used;
}

/* Makes room for `size` bytes at the tail of a stream. */
static enum status make_room(struct log *log, enum log_stream stream, uint64_t size,
                             uint32_t reserve)
{
    if (size > log_record_size_max(log))
        return STATUS_TOO_LARGE;
    return fits_open(log, stream, size) ? STATUS_OK : segment_open_next(log, stream, reserve);
}

static place_t count_append(struct log *log, enum log_stream to, const struct record *record,
                            uint64_t lsn)
{
    struct stream *stream = &log->streams[to];
    struct segment *segment = &log->segments[stream->open];
    place_t place = place_make(stream->open, segment->used);
    uint32_t size = (uint32_t)record_size(record);
    log_note_segment(log, stream->open);
    log_note(log, &stream->tail, sizeof(stream->tail));
    log->more[stream->open].last = segment->used;
    segment->used += size;
    segment->live += size;
    if (lsn > segment->lsn_max)
        segment->lsn_max = lsn;
    log->more[stream->open].count++;
    stream->tail++;
    return place;
}

enum status log_append_nodrain(struct log *log, const struct record_spec *spec, uint32_t reserve,
                               place_t *place)
{
    assert(spec->key.size <= RECORD_KEY_SIZE_MAX);
    assert(spec->kind >= RECORD_VALUE && spec->kind < RECORD_SEAL);
    if (spec->value.size > RECORD_VALUE_SIZE_MAX ||
        spec->value_tail.size > RECORD_VALUE_SIZE_MAX - spec->value.size)
        return STATUS_TOO_LARGE;
    enum status status = make_room(log, STREAM_HOT, record_spec_size(spec), reserve);
    if (status != STATUS_OK)
        return status;
    const struct stream *hot = &log->streams[STREAM_HOT];
    const struct record *record =
        record_write(log, hot->open, log->segments[hot->open].used, spec, hot->tail);
    *place = count_append(log, STREAM_HOT, record, hot->tail);
    return STATUS_OK;
}

uint32_t log_stream_open(const struct log *log, enum log_stream stream)
{
    return log->streams[stream].open;
}

uint32_t log_generation(const struct log *log)
{
    return log->generation;
}

bool log_segment_is_durable(const struct log *log, uint32_t number)
{
    return log->segments[number].lsn_max < log->streams[STREAM_HOT].durable;
}

enum status log_copy_nodrain(struct log *log, place_t from, enum log_stream stream, place_t *to)
{
    const struct record *record = log_record(log, from);
    assert(log_lsn(log, from) < log->streams[STREAM_HOT].durable);
    enum status status = make_room(log, stream, record_size(record), 0);
    if (status != STATUS_OK)
        return status;
    uint32_t open = log->streams[stream].open;
    record_copy(log, open, log->segments[open].used, record, log_lsn(log, from));
    *to = count_append(log, stream, record, log_lsn(log, from));
    log_dead(log, from);
    return STATUS_OK;
}

bool log_has_room(const struct log *log, uint64_t size, uint32_t reserve)
{
    return log->free_count > reserve || fits_open(log, STREAM_HOT, size);
}

uint64_t log_record_size_max(const struct log *log)
{
    return log->medium->segment_size - SEGMENT_RECORDS;
}

const struct record *log_record(const struct log *log, place_t place)
{
    return (const void *)(log->segments[place_segment(place)].base + place_offset(place));
}

uint64_t log_lsn(const struct log *log, place_t place)
{
    return segment_lsn(log, place_segment(place), log_record(log, place));
}

uint64_t log_tail(const struct log *log)
{
    return log->streams[STREAM_HOT].tail;
}

void log_ask_drain(struct log *log)
{
    struct drain drain = {
        .cookie = ++log->cookie, .noted = log->proof.hot_noted, .ticket = log->proof.noted};
    for (unsigned i = 0; i < STREAM_COUNT; i++)
        log->streams[i].tail_asked = drain.tail[i] = log->streams[i].tail;
    log->flushed = false;
    /* Full: the newest note is merged into this one, which only reports it later. */
    if (log->drain_count == DRAIN_COUNT_MAX)
        log->drain_count--;
    log->drains[log->drain_count++] = drain;
    log->medium->ops->drain(log->medium, log->cookie);
}

void log_drain(struct log *log)
{
    const struct stream *hot = &log->streams[STREAM_HOT], *cold = &log->streams[STREAM_COLD];
    bool copied = cold->tail != cold->tail_asked;
    if (hot->tail != hot->tail_asked || copied || log->flushed)
        log_ask_drain(log);
}

static void take_drain(struct log *log, const struct drain *drain)
{
    for (unsigned i = 0; i < STREAM_COUNT; i++)
        if (drain->tail[i] > log->streams[i].durable)
            log->streams[i].durable = drain->tail[i];
    log->proof.done = drain->ticket;
    log->proof.hot_done = drain->noted;
}

/* Takes over what the drains that are done have made durable. */
static void take_drains(struct log *log)
{
    uint32_t done = 0;
    while (done < log->drain_count && log->drains[done].cookie <= log->cookie_done)
        done++;
    if (done > 0)
        take_drain(log, &log->drains[done - 1]);
    log->drain_count -= done;
    memmove(log->drains, log->drains + done, log->drain_count * sizeof(log->drains[0]));
    if (done > 0 || segments_want_proof(log))
        segments_note_progress(log);
}

enum status log_durable(struct log *log, uint64_t *durable)
{
    uint64_t asked;
    do {
        asked = log->cookie;
        enum status status = log->medium->ops->drained(log->medium, &log->cookie_done);
        if (status != STATUS_OK)
            return status;
        take_drains(log);
        segments_move(log);
    } while (log->cookie != asked); /* some media are done at once */
    const struct stream *hot = &log->streams[STREAM_HOT];
    *durable = FAULT(NO_DRAIN) ? hot->tail : hot->durable;
    return STATUS_OK;
}

void log_prove(struct log *log)
{
    (void)segments_ask_proof(log);
}

uint64_t log_proved(const struct log *log)
{
    return log->proof.hot_done;
}

void log_dead(struct log *log, place_t place)
{
    struct segment *segment = &log->segments[place_segment(place)];
    uint32_t size = (uint32_t)record_size(log_record(log, place));
    assert(segment->live >= size);
    log_note(log, &segment->live, sizeof(segment->live));
    segment->live -= size;
}

void log_set_journal(struct log *log, struct journal *journal)
{
    log->journal = journal;
}

uint32_t log_segment_count(const struct log *log)
{
    return log->segment_count;
}

const struct segment *log_segment(const struct log *log, uint32_t number)
{
    assert(number < log->segment_count);
    return &log->segments[number];
}

uint32_t log_segment_free_count(const struct log *log)
{
    return log->free_count;
}

bool log_place_in_use(const struct log *log, place_t place)
{
    uint32_t number = place_segment(place), offset = place_offset(place);
    if (number >= log->segment_count || offset < SEGMENT_RECORDS)
        return false;
    const struct segment *segment = &log->segments[number];
    bool used = segment->state == SEGMENT_OPEN || segment->state == SEGMENT_SEALED;
    return used && segment->base != NULL && offset < segment->used;
}

bool log_is_sound(const struct log *log, place_t place)
{
    uint32_t number = place_segment(place);
    return log_place_in_use(log, place) &&
           record_sound(log, number, log->segments[number].generation, place_offset(place));
}

bool log_segment_is_damaged(const struct log *log, uint32_t number)
{
    const struct segment *segment = &log->segments[number];
    return segment->state == SEGMENT_SEALED && log->more[number].damaged;
}

bool log_segment_shows_damage(const struct log *log, uint32_t number)
{
    enum segment_state state = log->segments[number].state;
    bool given = state == SEGMENT_DRAINING || state == SEGMENT_ERASING;
    return log_segment_is_damaged(log, number) || (given && log->more[number].damaged);
}

const struct record *log_segment_next(const struct log *log, uint32_t number, uint32_t *offset,
                                      place_t *place)
{
    const struct segment *segment = &log->segments[number];
    if (*offset == 0)
        *offset = SEGMENT_RECORDS;
    if (segment->base == NULL || segment->state == SEGMENT_FREE)
        return NULL;
    if (log->more[number].damaged) {
        uint32_t found = record_search(log, number, segment->generation, *offset);
        *offset = found == 0 ? segment->used : found;
    }
    if (*offset + sizeof(struct record) > segment->used)
        return NULL;
    const struct record *record = (const void *)(segment->base + *offset);
    if (record->kind == RECORD_SEAL || !record_plausible(log, number, *offset))
        return NULL;
    *place = place_make(number, *offset);
    *offset += (uint32_t)record_size(record);
    return record;
}
