/* The life of a segment; the diagram is in log.h. Holds an atomic: the magic, written in one go. */
#include <stdatomic.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/fault.h"
#include "pmem/log_private.h"

struct segment_header *segment_header_of(const struct log *log, uint32_t number)
{
    return (void *)log->segments[number].base;
}

struct segment_progress *segment_progress_of(const struct log *log, uint32_t number)
{
    return (void *)(log->segments[number].base + SEGMENT_LINE);
}

bool segment_header_is_free(const struct segment_header *header)
{
    return header->magic == 0 || header->magic == SEGMENT_MAGIC_ERASED;
}

uint32_t segment_header_crc(const struct segment_header *header)
{
    size_t skipped = offsetof(struct segment_header, version);
    return crc32c(0, &header->version, sizeof(*header) - skipped);
}

uint32_t segment_progress_crc(const struct segment_progress *progress)
{
    return crc32c(0, &progress->generation, sizeof(*progress) - sizeof(progress->crc));
}

uint32_t segment_crc_seed(const struct log *log, uint32_t number, uint32_t generation)
{
    const struct segment_more *more = &log->more[number];
    if (log->segments[number].generation == generation && more->crc_seed != 0)
        return more->crc_seed;
    uint32_t words[3] = {number, FAULT(ANY_GENERATION) ? 0 : generation,
                         FAULT(ANY_LIFE) ? 0 : more->life};
    uint32_t seed = crc32c(0, &log->options.identity, sizeof(log->options.identity));
    return crc32c(seed, words, sizeof(words));
}

/* One edge of the diagram; the only writer of `state` after the opening scan. */
static void set_state(struct log *log, uint32_t number, enum segment_state state)
{
    struct segment *segment = &log->segments[number];
    assert(state == (segment->state + 1) % (SEGMENT_ERASING + 1));
    log->free_count += state == SEGMENT_FREE;
    log->free_count -= state == SEGMENT_OPEN;
    log->moving_count += state == SEGMENT_DRAINING;
    log->moving_count -= state == SEGMENT_FREE;
    segment->state = state;
}

static void write_progress(struct log *log, uint32_t number)
{
    const struct segment *segment = &log->segments[number];
    struct segment_progress made = {
        .generation = segment->generation,
        .count = log->more[number].progress,
        .append_first = segment->append_first,
        .lsn_base = segment->lsn_base,
        .life = log->more[number].life,
        .stream = (uint16_t)segment->stream,
        .used = (uint16_t)log->used,
    };
    for (unsigned i = 0; i < STREAM_COUNT; i++)
        made.durable[i] = log->streams[i].durable;
    made.crc = segment_progress_crc(&made);
    memcpy(segment_progress_of(log, number), &made, sizeof(made));
}

/* The magic comes last: before it is there, the segment is free. */
static void write_header(struct log *log, uint32_t number)
{
    const struct segment *segment = &log->segments[number];
    struct segment_header *header = segment_header_of(log, number);
    struct segment_header made = {
        .version = LOG_FORMAT_VERSION,
        .identity = log->options.identity,
        .segment_size = log->medium->segment_size,
        .number = (uint16_t)number,
        .stream = (uint16_t)segment->stream,
        .generation = segment->generation,
        .life = log->more[number].life,
        .append_first = segment->append_first,
        .lsn_base = segment->lsn_base,
    };
    made.crc = segment_header_crc(&made);
    memcpy(&header->crc, &made.crc, sizeof(made) - offsetof(struct segment_header, crc));
    write_progress(log, number);
    atomic_store_explicit((_Atomic uint64_t *)&header->magic, SEGMENT_MAGIC, memory_order_release);
    if (!FAULT(FLUSH_HEADER))
        log->medium->ops->flush(log->medium, header, SEGMENT_RECORDS);
}

void segment_erase(struct log *log, uint32_t number)
{
    struct segment_header *header = segment_header_of(log, number);
    header->magic = SEGMENT_MAGIC_ERASED;
    if (!FAULT(FLUSH_ERASED))
        log->medium->ops->flush(log->medium, header, sizeof(*header));
    log->flushed = true;
}

void segment_seal(struct log *log, uint32_t number)
{
    struct segment *segment = &log->segments[number];
    struct stream *stream = &log->streams[segment->stream];
    log_note_segment(log, number);
    log_note(log, &stream->tail, sizeof(stream->tail));
    log_note(log, &stream->open, sizeof(stream->open));
    if (log->medium->segment_size - segment->used >= sizeof(struct record)) {
        const struct record_spec spec = {.kind = RECORD_SEAL};
        record_write(log, number, segment->used, &spec, segment->lsn_base);
        segment->used += (uint32_t)sizeof(struct record);
        log->more[number].count++;
        stream->tail++;
    }
    if (segment->state == SEGMENT_OPEN)
        set_state(log, number, SEGMENT_SEALED);
    if (!log->more[number].damaged && log->more[number].progress < log->more[number].count)
        log->unnoted_count++;
    if (stream->open == number)
        stream->open = SEGMENT_NONE;
}

void log_stream_end(struct log *log, enum log_stream stream)
{
    if (log->streams[stream].open != SEGMENT_NONE)
        segment_seal(log, log->streams[stream].open);
}

/* A mapped one if there is any, else the next one that was never used. */
static uint32_t find_free(const struct log *log)
{
    uint32_t found = SEGMENT_NONE;
    for (uint32_t i = 0; i < log->segment_count; i++) {
        const struct segment *segment = &log->segments[i];
        if (segment->state != SEGMENT_FREE || log->more[i].unusable)
            continue;
        if (segment->base != NULL)
            return i;
        if (found == SEGMENT_NONE && log->growing)
            found = i;
    }
    return found;
}

static bool counts_as_free(const struct log *log, uint32_t number)
{
    const struct segment *segment = &log->segments[number];
    return segment->state == SEGMENT_FREE && !log->more[number].unusable &&
           (segment->base != NULL || log->growing);
}

/* A disk that is full now is taken as full until the next start: the log goes on with the segments
 * it has. */
static void stop_growing(struct log *log)
{
    log->growing = false;
    log->free_count = 0;
    for (uint32_t i = 0; i < log->segment_count; i++)
        log->free_count += counts_as_free(log, i);
}

/* There is room for no more than `count` segments. Told while free ones are left, so the log is
 * smaller from now on, and otherwise goes on as ever. */
static void shrink_to(struct log *log, uint32_t count)
{
    uint32_t used = log_segment_used_count(log);
    count = count > used ? count : used;
    if (count >= log->segment_count)
        return;
    for (uint32_t i = count; i < log->segment_count; i++)
        log->free_count -= counts_as_free(log, i);
    log->segment_count = count;
    if (log->options.segment_count_max > count)
        log->options.segment_count_max = count;
}

static void ask_for_room(struct log *log)
{
    const struct medium_ops *ops = log->medium->ops;
    uint32_t number = find_free(log);
    if (ops->room != NULL && number != SEGMENT_NONE)
        shrink_to(log, ops->room(log->medium, number));
}

static enum status map_free(struct log *log, uint32_t reserve, uint32_t *number)
{
    ask_for_room(log);
    if (log->free_count <= reserve)
        return STATUS_NO_SPACE;
    *number = find_free(log);
    assert(*number != SEGMENT_NONE);
    struct segment *segment = &log->segments[*number];
    if (segment->base != NULL)
        return STATUS_OK;
    void *base = NULL;
    enum status status = log->medium->ops->map(log->medium, *number, true, &base);
    if (status == STATUS_NO_SPACE)
        stop_growing(log);
    if (status == STATUS_OK)
        segment->base = base;
    return status;
}

enum status segment_open_next(struct log *log, enum log_stream stream, uint32_t reserve)
{
    uint32_t number;
    enum status status = map_free(log, reserve, &number);
    if (status != STATUS_OK)
        return status;
    log_stream_end(log, stream);
    struct segment *segment = &log->segments[number];
    log_note_segment(log, number);
    log_note(log, &log->generation, sizeof(log->generation));
    log_note(log, &log->streams[stream].open, sizeof(log->streams[stream].open));
    segment->stream = stream;
    segment->generation = ++log->generation;
    segment->used = SEGMENT_RECORDS;
    segment->live = 0;
    segment->append_first = log->streams[stream].tail;
    segment->lsn_base = log_tail(log);
    segment->lsn_max = 0;
    log->more[number] =
        (struct segment_more){.progress_used = SEGMENT_RECORDS, .life = log->options.life};
    log->more[number].crc_seed = segment_crc_seed(log, number, segment->generation);
    set_state(log, number, SEGMENT_OPEN);
    log->streams[stream].open = number;
    write_header(log, number);
    return STATUS_OK;
}

uint32_t log_segment_used_count(const struct log *log)
{
    uint32_t count = log->segment_count;
    while (count > 0 && log->segments[count - 1].state == SEGMENT_FREE &&
           log->segments[count - 1].base == NULL && !log->more[count - 1].unusable)
        count--;
    return count;
}

/* All between the two counts are free and were never mapped. */
uint32_t log_resize(struct log *log, uint32_t count)
{
    uint32_t used = log_segment_used_count(log), max = log->options.segment_count_max;
    if (count > max)
        count = max;
    if (count < used)
        count = used;
    if (log->growing)
        log->free_count = log->free_count + count - log->segment_count;
    log->segment_count = count;
    return count;
}

void log_segment_give(struct log *log, uint32_t number)
{
    assert(number < log->segment_count);
    struct segment *segment = &log->segments[number];
    assert(segment->state == SEGMENT_SEALED);
    set_state(log, number, SEGMENT_DRAINING);
    segment->grace = log->grace_given = log->grace;
    if (FAULT(FREE_EARLY)) {
        const struct segment_more *more = &log->more[number];
        log->unnoted_count -= !more->damaged && more->progress < more->count;
        set_state(log, number, SEGMENT_ERASING);
        set_state(log, number, SEGMENT_FREE);
        return;
    }
    segment->wait = segments_ask_proof(log);
    if (!FAULT(GIVE_NO_DRAIN))
        log_drain(log);
}

uint32_t log_segment_limit(const struct log *log)
{
    uint32_t max = log->options.segment_count_max;
    return log->segment_count < max ? log->segment_count : max;
}

uint32_t log_with_headroom(const struct log *log, uint32_t count, uint32_t used)
{
    uint32_t near = 1 + log->options.segment_count_max / LIMIT_NEAR_SHARE;
    near = near < LIMIT_HEADROOM ? near : LIMIT_HEADROOM;
    if (count > log->options.segment_count_max)
        count += LIMIT_HEADROOM;
    else if (count - used < near)
        count = used + LIMIT_HEADROOM;
    return count < SEGMENT_COUNT_MAX ? count : SEGMENT_COUNT_MAX;
}

bool log_drop_last(struct log *log)
{
    if (log->segment_count <= log->options.segment_count_max ||
        log->segments[log->segment_count - 1].state != SEGMENT_FREE)
        return false;
    log->segment_count--;
    log->free_count -= counts_as_free(log, log->segment_count);
    return true;
}

/* What was put aside would be missed at the next start. */
static void make_anew(struct log *log, uint32_t number)
{
    void *base = NULL;
    if (log->more[number].unusable ||
        log->medium->ops->map(log->medium, number, true, &base) != STATUS_OK)
        return;
    log->segments[number].base = base;
    segment_erase(log, number);
}

/* One that could not be read is put aside, and made anew when it is needed; if that fails, it is
 * never used again. */
static void end_erasing(struct log *log, uint32_t number)
{
    struct segment_more *more = &log->more[number];
    const struct medium_ops *ops = log->medium->ops;
    set_state(log, number, SEGMENT_FREE);
    if (more->unusable && ops->replace != NULL) {
        more->unusable = !ops->replace(log->medium, number);
        make_anew(log, number);
    }
    if (!counts_as_free(log, number))
        log->free_count--;
}

static bool is_unread(const struct log *log, const struct segment *segment)
{
    return !log->options.readers || segment->grace <= log->grace_passed || FAULT(REUSE_WHILE_READ);
}

uint64_t log_grace_ask(struct log *log)
{
    if (log->grace_given <= log->grace_passed)
        return 0;
    if (log->grace_given == log->grace)
        log->grace++;
    return log->grace_given;
}

void log_grace_pass(struct log *log, uint64_t number)
{
    assert(number < log->grace);
    if (number > log->grace_passed)
        log->grace_passed = number;
}

/* A copy that is durable but not proved could rot and be taken for a torn tail, and its original
 * would be gone. */
static bool is_copied(const struct log *log, const struct segment *segment)
{
    if (FAULT(GIVE_NO_WAIT))
        return true;
    return segment->wait <= (FAULT(GIVE_UNPROVED) ? log->proof.noted : log->proof.done);
}

static void end_draining(struct log *log, uint32_t number)
{
    if (log->segments[number].base != NULL)
        segment_erase(log, number);
    set_state(log, number, SEGMENT_ERASING);
}

/* The erasures of one pass share one drain. */
void segments_move(struct log *log)
{
    bool erased = false;
    for (uint32_t i = 0; log->moving_count > 0 && i < log->segment_count; i++) {
        struct segment *segment = &log->segments[i];
        if (segment->state == SEGMENT_ERASING && segment->wait <= log->cookie_done &&
            is_unread(log, segment)) {
            end_erasing(log, i);
        } else if (segment->state == SEGMENT_DRAINING && is_copied(log, segment)) {
            end_draining(log, i);
            segment->wait = FAULT(ERASE_NO_WAIT) ? 0 : log->cookie + 1;
            erased = true;
        }
    }
    if (erased && !FAULT(ERASE_NO_DRAIN))
        log_ask_drain(log);
}

/* ---- proofs ---- */

static void begin_proof(struct log *log)
{
    for (unsigned i = 0; i < STREAM_COUNT; i++)
        log->proof.target[i] = log->streams[i].tail;
    log->proof.wanted++;
}

/* What is asked for while one is under way waits for the next: a target that runs ahead would never
 * be reached. */
uint64_t segments_ask_proof(struct log *log)
{
    struct proof *proof = &log->proof;
    if (proof->wanted == proof->noted)
        begin_proof(log);
    else
        proof->again = true;
    return proof->wanted + proof->again;
}

bool segments_want_proof(const struct log *log)
{
    bool wanted = log->proof.wanted != log->proof.noted;
    for (unsigned i = 0; i < STREAM_COUNT; i++)
        wanted = wanted && (log->proof.target[i] <= log->streams[i].durable || FAULT(PROOF_EARLY));
    return wanted;
}

static void end_proof(struct log *log)
{
    struct proof *proof = &log->proof;
    proof->noted = proof->wanted;
    proof->hot_noted = log->streams[STREAM_HOT].durable;
    if (proof->again)
        begin_proof(log);
    proof->again = false;
    if (!FAULT(PROOF_NO_DRAIN))
        log_ask_drain(log);
}

static void flush_progress(struct log *log, uint32_t number)
{
    struct segment_more *more = &log->more[number];
    if (!FAULT(FLUSH_PROGRESS))
        log->medium->ops->flush(log->medium, segment_progress_of(log, number),
                                sizeof(struct segment_progress));
    more->progress_used = log->segments[number].used;
    more->progress_flushed = more->progress;
    log->flushed = true;
}

/* Also the line of one that is erased is read, until it is used again; then it is written anew. */
static bool may_tell(const struct log *log, uint32_t number)
{
    enum segment_state state = log->segments[number].state;
    bool in_use = state == SEGMENT_OPEN || state == SEGMENT_SEALED || state == SEGMENT_DRAINING;
    return in_use && !log->more[number].damaged && log->more[number].progress > 0;
}

/* Below `number` there is none without a file: it would be missed. */
static bool all_exist(const struct log *log, uint32_t number)
{
    for (uint32_t i = log->used; i < number; i++)
        if (log->segments[i].state == SEGMENT_FREE && log->segments[i].base == NULL)
            return false;
    return true;
}

/* In a free segment that is there already: nothing but that line is read of it. */
static bool tell_in_free(struct log *log)
{
    void *base = NULL;
    uint32_t number = 0;
    while (number < log->segment_count &&
           (log->segments[number].state != SEGMENT_FREE || log->more[number].unusable))
        number++;
    if (number == log->segment_count || FAULT(USED_ONLY_UNKNOWN))
        return false;
    if (log->segments[number].base == NULL &&
        log->medium->ops->map(log->medium, number, false, &base) == STATUS_OK)
        log->segments[number].base = base;
    if (log->segments[number].base == NULL)
        return false;
    struct segment_progress made = {
        .generation = log->generation, .life = log->options.life, .used = (uint16_t)log->used};
    made.crc = segment_progress_crc(&made);
    memcpy(segment_progress_of(log, number), &made, sizeof(made));
    log->medium->ops->flush(log->medium, segment_progress_of(log, number), sizeof(made));
    log->flushed = true;
    return true;
}

static bool tell_used(struct log *log)
{
    for (uint32_t i = 0; i < log->segment_count; i++) {
        if (i + 1 == log->used || !may_tell(log, i))
            continue;
        write_progress(log, i);
        flush_progress(log, i);
        return true;
    }
    return tell_in_free(log);
}

/* That a segment exists is noted in another one, too: should its file vanish, that is noticed.
 * Perhaps there is no other but the one that was copied from, and is about to be erased; or only
 * free ones, or none yet, made ahead of need. */
static void note_used(struct log *log, uint32_t number)
{
    if (number >= log->used && all_exist(log, number))
        log->used = number + 1;
    if (log->told < log->used && !FAULT(USED_UNKNOWN) && tell_used(log))
        log->told = log->used;
}

/* Unflushed it serves the restart of a killed process; flushed now and then, and when a proof is
 * wanted, also that after a power cut. */
static void note_progress(struct log *log, uint32_t number, bool proof)
{
    struct segment *segment = &log->segments[number];
    struct segment_more *more = &log->more[number];
    uint64_t durable = log->streams[segment->stream].durable;
    if (more->damaged || segment->base == NULL || durable <= segment->append_first)
        return;
    uint64_t count = durable - segment->append_first;
    bool complete = count >= more->count;
    if (complete)
        count = more->count;
    bool new = count > more->progress;
    if (!new && (!proof || more->progress_flushed == more->progress))
        return;
    if (new) {
        more->progress = count;
        note_used(log, number);
        write_progress(log, number);
    }
    bool sealed = segment->state != SEGMENT_OPEN;
    log->unnoted_count -= new &&sealed &&complete;
    if ((sealed && complete) || proof ||
        segment->used - more->progress_used >= log->medium->segment_size / PROGRESS_STEPS)
        flush_progress(log, number);
}

void segments_note_progress(struct log *log)
{
    bool proof = segments_want_proof(log);
    for (unsigned i = 0; i < STREAM_COUNT; i++)
        if (log->streams[i].open != SEGMENT_NONE)
            note_progress(log, log->streams[i].open, proof);
    for (uint32_t i = 0; log->unnoted_count > 0 && i < log->segment_count; i++)
        if (log->segments[i].state == SEGMENT_SEALED || log->segments[i].state == SEGMENT_DRAINING)
            note_progress(log, i, proof);
    if (proof)
        end_proof(log);
}
