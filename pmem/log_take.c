/* Taking over the memory of a log whose process has ended: what the segments hold is known already,
 * so none is scanned. */
#include <string.h>

#include "base/fault.h"
#include "pmem/log_private.h"

/* What died with the process: pointers, cookies, drains. */
static void begin_life(struct log *log, const struct log_options *options)
{
    log->options = *options;
    log->medium = options->medium;
    log_find_tables(log);
    log->own_memory = false;
    log->journal = NULL;
    log->growing = true;
    log->cookie = log->cookie_done = 0;
    for (unsigned i = 0; i < STREAM_COUNT; i++) {
        log->streams[i].open = SEGMENT_NONE;
        log->streams[i].tail_asked = 0;
    }
    log->proof = (struct proof){.hot_noted = 1, .hot_done = 1};
    log->drain_count = 0;
    log->flushed = true;
    log->grace = 1;
    log->grace_given = log->grace_passed = 0;
    log->grace_passed = log->grace++; /* its readers have ended, too */
}

static bool in_use(const struct segment *segment)
{
    return segment->state == SEGMENT_OPEN || segment->state == SEGMENT_SEALED;
}

/* Is it the segment that the memory speaks of, and does it hold the newest record that was written
 * to it? */
static enum status compare(const struct log *log, uint32_t number)
{
    const struct segment *segment = &log->segments[number];
    const struct segment_header *header = segment_header_of(log, number);
    if (!in_use(segment) || log->more[number].damaged)
        return STATUS_OK;
    bool same = header->generation == segment->generation &&
                header->append_first == segment->append_first &&
                header->lsn_base == segment->lsn_base && header->stream == segment->stream;
    if (segment_check_header(log, number) != STATUS_OK || (!same && !FAULT(TAKE_OTHER)) ||
        segment->used < SEGMENT_RECORDS || segment->used > log->medium->segment_size)
        return STATUS_CORRUPT;
    uint32_t last = log->more[number].last;
    if (segment->state == SEGMENT_OPEN && last != 0 &&
        (last >= segment->used ||
         (!record_sound(log, number, segment->generation, last) && !FAULT(TAKE_LAST))))
        return STATUS_CORRUPT;
    return STATUS_OK;
}

/* A free segment need not be there, or may have been made ahead of its use. */
static enum status map_again(struct log *log, uint32_t number)
{
    struct segment *segment = &log->segments[number];
    bool free = segment->state == SEGMENT_FREE;
    if (log->options.refuse_damage && in_use(segment) && log->more[number].damaged &&
        !FAULT(TAKE_DAMAGE))
        return STATUS_CORRUPT; /* a scan will say what is missing, and refuse */
    if (segment->base == NULL && (!free || number >= log->options.segment_count_max))
        return in_use(segment) && !log->more[number].unusable ? STATUS_CORRUPT : STATUS_OK;
    void *base = NULL;
    enum status status = log->medium->ops->map(log->medium, number, false, &base);
    segment->base = status == STATUS_OK ? base : NULL;
    if (status == STATUS_NOT_FOUND)
        return free ? STATUS_OK : STATUS_CORRUPT;
    return status == STATUS_OK ? compare(log, number) : status;
}

/* Records that the memory does not know: none, or the one of an update that was undone. */
static bool holds_more(const struct log *log, uint32_t number, bool undone)
{
    const struct segment *segment = &log->segments[number];
    const struct segment_header *header = segment_header_of(log, number);
    uint32_t generation = segment->generation, offset = segment->used;
    if (segment->state == SEGMENT_FREE) {
        if (segment_header_is_free(header))
            return false;
        if (!undone || segment_check_header(log, number) != STATUS_OK ||
            header->generation != log->generation + 1)
            return true;
        generation = header->generation;
        offset = SEGMENT_RECORDS;
    } else if (segment->state != SEGMENT_OPEN || log->more[number].damaged) {
        return false;
    }
    if (!record_sound(log, number, generation, offset))
        return false;
    const struct record *record = (const void *)(segment->base + offset);
    return !undone || record_sound(log, number, generation, offset + (uint32_t)record_size(record));
}

static uint32_t count_segments(const struct log *log)
{
    uint32_t count = SEGMENT_COUNT_MAX;
    while (count > log->options.segment_count_max && log->segments[count - 1].state == SEGMENT_FREE)
        count--;
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; i++)
        used += log->segments[i].state != SEGMENT_FREE;
    return log_with_headroom(log, count, used);
}

/* An append that was undone may not be found by a later scan either. */
static void void_tail(struct log *log, uint32_t number)
{
    const struct segment *segment = &log->segments[number];
    uint32_t room = log->medium->segment_size - segment->used;
    uint32_t size = room < sizeof(struct record) ? room : (uint32_t)sizeof(struct record);
    if (!FAULT(TAKE_UNDONE))
        memset(segment->base + segment->used, 0, size);
    if (!FAULT(TAKE_UNDONE_FLUSH))
        log->medium->ops->flush(log->medium, segment->base + segment->used, size);
}

/* What the process flushed but did not drain is not known: all that is not known to be durable is
 * flushed again. */
static void settle_used(struct log *log, uint32_t number, struct log_report *report)
{
    struct segment *segment = &log->segments[number];
    struct segment_more *more = &log->more[number];
    bool complete = !more->damaged && more->count > 0 && more->progress == more->count;
    more->progress_flushed = more->progress;
    report->record_count += more->count;
    if (more->damaged && report->corrupt_count++ == 0)
        report->corrupt_segment = number;
    if (segment->base != NULL && !FAULT(TAKE_FLUSH))
        log->medium->ops->flush(log->medium, segment->base,
                                complete ? SEGMENT_RECORDS : segment->used);
    if (segment->state == SEGMENT_OPEN) {
        void_tail(log, number);
        log->streams[segment->stream].open = number;
    } else {
        log->unnoted_count += !more->damaged && more->progress < more->count;
    }
}

/* Opened by an update that was undone: its generation is used up all the same. */
static void settle_free(struct log *log, uint32_t number)
{
    const struct segment *segment = &log->segments[number];
    if (segment->base != NULL && !segment_header_is_free(segment_header_of(log, number))) {
        const struct segment_header *header = segment_header_of(log, number);
        if (header->crc == segment_header_crc(header) && header->generation > log->generation)
            log->generation = header->generation;
        if (!FAULT(TAKE_OPENED))
            segment_erase_first(log, number);
    } else {
        log->free_count += number < log->segment_count && !log->more[number].unusable;
    }
}

static void settle(struct log *log, struct log_report *report)
{
    log->free_count = log->moving_count = log->unnoted_count = 0;
    for (uint32_t i = 0; i < SEGMENT_COUNT_MAX; i++) {
        struct segment *segment = &log->segments[i];
        switch (segment->state) {
        case SEGMENT_FREE:
            settle_free(log, i);
            break;
        case SEGMENT_OPEN:
        case SEGMENT_SEALED:
            settle_used(log, i, report);
            break;
        case SEGMENT_DRAINING:
            segment->grace = 0;
            segment->wait = FAULT(TAKE_DRAINING) ? 0 : segments_ask_proof(log);
            log->moving_count++;
            log->unnoted_count +=
                !log->more[i].damaged && log->more[i].progress < log->more[i].count;
            break;
        case SEGMENT_ERASING:
            if (segment->base != NULL && !FAULT(TAKE_ERASING))
                segment_erase(log, i);
            segment->grace = 0;
            segment->wait = FAULT(TAKE_NO_WAIT) ? 0 : log->cookie + 1;
            log->moving_count++;
            break;
        }
    }
    if (!FAULT(TAKE_NO_DRAIN))
        log_ask_drain(log);
}

enum status log_take_over(struct log **log, const struct log_options *options, bool undone,
                          struct log_report *report, uint32_t *bad_segment)
{
    struct log *taken = options->memory;
    assert(options->segment_count_max > 0 && options->segment_count_max <= SEGMENT_COUNT_MAX);
    memset(report, 0, sizeof(*report));
    begin_life(taken, options);
    for (uint32_t i = 0; i < SEGMENT_COUNT_MAX; i++) {
        *bad_segment = i;
        enum status status = map_again(taken, i);
        if (status != STATUS_OK)
            return status;
        if (taken->segments[i].base != NULL && holds_more(taken, i, undone) && !FAULT(TAKE_MORE))
            return STATUS_CORRUPT;
    }
    taken->segment_count = count_segments(taken);
    settle(taken, report);
    *bad_segment = report->corrupt_segment;
    *log = taken;
    uint64_t durable;
    return log_durable(taken, &durable);
}
