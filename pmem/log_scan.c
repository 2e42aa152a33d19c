/* What a restart finds. Three passes: look at every segment; decide what is torn and what is
 * damaged; hand over.
 *
 * After a power cut, appends that were not durable are there or not, in any pattern; so each stream
 * ends at its first gap, and what lies behind the gap is cut off. A cold tail that is torn loses
 * nothing: what was copied there is still where it was. But a gap below a number that was known to
 * be durable is damage: then everything readable is kept. Known durable: the progress lines, and
 * `lsn` of any MARK.
 *
 * Cut-off records must not come back: a power cut may keep records and lose the header of their
 * segment, whose generation is then given out again. So checksums depend on the life of the log,
 * too: no two openings have the same. */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "pmem/log_private.h"

enum {
    RECORD_SIZE_MIN = sizeof(struct record),
};

/* What was found in one segment. */
struct found_segment {
    uint32_t number;
    uint32_t generation;
    uint32_t end;          /* the first byte that is no part of the gapless run of records */
    uint32_t behind;       /* the first sound record behind the gap; 0: none */
    uint32_t behind_count; /* of these, SEAL included */
    uint64_t lsn_max;      /* of the run, without SEAL */
    uint64_t records;      /* of the run, without SEAL */
    uint32_t live;         /* their bytes */
    bool sealed;
    bool damaged;
    bool headless; /* its header is broken: it is neither cut off nor gone on with */
    bool unknown;  /* nor does a progress line say how to read its records */
    bool cut;      /* lies behind the end of its stream */
};

struct scan {
    struct log *log;
    struct log_report *report;
    struct found_segment *found;
    uint32_t found_count;
    uint64_t known_durable[STREAM_COUNT];
    uint64_t seen[STREAM_COUNT]; /* above every append number seen; the hot one, every lsn too */
};

static void at_least(uint64_t *number, uint64_t to)
{
    if (to > *number)
        *number = to;
}

/* ---- the first pass ---- */

static void note_damage(struct scan *scan, uint32_t number)
{
    if (scan->report->corrupt_count++ == 0)
        scan->report->corrupt_segment = number;
}

enum status segment_check_header(const struct log *log, uint32_t number)
{
    const struct segment_header *header = segment_header_of(log, number);
    if (header->magic != SEGMENT_MAGIC && !FAULT(HEADER_MAGIC))
        return STATUS_CORRUPT;
    if (header->crc != segment_header_crc(header) && !FAULT(HEADER_CRC))
        return STATUS_CORRUPT;
    if (header->version != LOG_FORMAT_VERSION && !FAULT(HEADER_VERSION))
        return STATUS_VERSION;
    if (memcmp(&header->identity, &log->options.identity, sizeof(header->identity)) != 0 &&
        !FAULT(HEADER_IDENTITY))
        return STATUS_FOREIGN;
    if (header->segment_size != log->medium->segment_size && !FAULT(HEADER_SIZE))
        return STATUS_FOREIGN;
    return (header->number == number || FAULT(HEADER_NUMBER)) && header->stream < STREAM_COUNT
               ? STATUS_OK
               : STATUS_CORRUPT;
}

/* An erased header still says which generation is used up. No record would come back otherwise,
 * either (the life is part of its checksum), but what is said to grow for ever does. */
static void note_erased(struct log *log, uint32_t number)
{
    const struct segment_header *header = segment_header_of(log, number);
    if (header->crc == segment_header_crc(header) && header->generation > log->generation &&
        header->version == LOG_FORMAT_VERSION)
        log->generation = header->generation;
}

static struct found_segment *add_found(struct scan *scan, uint32_t number, uint32_t generation)
{
    struct found_segment *found = &scan->found[scan->found_count++];
    *found =
        (struct found_segment){.number = number, .generation = generation, .end = SEGMENT_RECORDS};
    return found;
}

static const struct segment_progress *sound_progress(const struct log *log, uint32_t number)
{
    const struct segment_progress *progress = segment_progress_of(log, number);
    /* A line of zeros has no such checksum; the generation says so without leaning on a property of
     * CRC-32C. */
    bool sound = progress->crc == segment_progress_crc(progress) || FAULT(PROGRESS_CRC);
    return sound && progress->generation != 0 ? progress : NULL;
}

static bool is_found(const struct scan *scan, uint32_t number)
{
    for (uint32_t i = 0; i < scan->found_count; i++)
        if (scan->found[i].number == number)
            return true;
    return false;
}

/* The header is broken. The progress line still tells what its records are to be read with. */
static void add_damaged(struct scan *scan, uint32_t number)
{
    struct log *log = scan->log;
    struct segment *segment = &log->segments[number];
    const struct segment_progress *progress =
        segment->base == NULL ? NULL : sound_progress(log, number);
    segment->generation = progress == NULL ? 0 : progress->generation;
    struct found_segment *found = add_found(scan, number, segment->generation);
    found->damaged = found->headless = true;
    found->unknown = progress == NULL;
    note_damage(scan, number);
    if (progress == NULL)
        return;
    segment->stream = progress->stream == STREAM_COLD ? STREAM_COLD : STREAM_HOT;
    segment->append_first = progress->append_first;
    segment->lsn_base = progress->lsn_base;
    log->more[number].life = progress->life;
    log->more[number].progress = progress->count;
    at_least(&scan->seen[segment->stream], segment->append_first);
    at_least(&scan->seen[STREAM_HOT], segment->lsn_base);
}

static void add_sound(struct scan *scan, uint32_t number)
{
    struct log *log = scan->log;
    const struct segment_header *header = segment_header_of(log, number);
    const struct segment_progress *progress = sound_progress(log, number);
    struct segment *segment = &log->segments[number];
    add_found(scan, number, header->generation);
    segment->generation = header->generation;
    segment->stream = (enum log_stream)header->stream;
    segment->append_first = header->append_first;
    segment->lsn_base = header->lsn_base;
    log->more[number].life = header->life;
    log->more[number].crc_seed = segment_crc_seed(log, number, header->generation);
    at_least(&scan->seen[segment->stream], header->append_first);
    at_least(&scan->seen[STREAM_HOT], header->lsn_base);
    if (progress == NULL ||
        ((progress->generation != header->generation || progress->life != header->life) &&
         !FAULT(PROGRESS_GENERATION)))
        return;
    log->more[number].progress = progress->count;
    if (progress->count > 0)
        at_least(&scan->known_durable[segment->stream], header->append_first + progress->count);
    for (unsigned i = 0; i < STREAM_COUNT && !FAULT(STREAM_NO_PROOF); i++)
        at_least(&scan->known_durable[i], progress->durable[i]);
}

/* What is mapped but has a page that can't be had is never touched: base stays NULL, as if it could
 * not be mapped. */
static bool is_readable(const struct log *log, uint32_t number)
{
    const struct medium_ops *ops = log->medium->ops;
    return ops->readable == NULL || ops->readable(log->medium, number);
}

/* Was used, and is gone: its file was removed, or its header overwritten with zeros. It is kept as
 * a damaged segment, so that it is missed until somebody says that all is well again. Where damage
 * is refused, no file is made in its place. */
static void look_for_missing(struct scan *scan)
{
    struct log *log = scan->log;
    for (uint32_t i = 0; i < log->used && !FAULT(MISSING_UNSEEN); i++) {
        struct segment *segment = &log->segments[i];
        void *base = NULL;
        if (is_found(scan, i) || (segment->base != NULL && segment_header_of(log, i)->magic != 0))
            continue;
        if (segment->base == NULL && !log->options.refuse_damage &&
            log->medium->ops->map(log->medium, i, true, &base) == STATUS_OK)
            segment->base = base;
        if (i >= log->segment_count)
            log->segment_count = i + 1;
        add_damaged(scan, i);
    }
}

/* Nothing is written in this pass: a foreign log stays as it is. */
static enum status look_at_headers(struct scan *scan, uint32_t *bad_segment)
{
    struct log *log = scan->log;
    for (uint32_t i = 0; i < SEGMENT_COUNT_MAX; i++) {
        void *base = NULL;
        enum status status = log->medium->ops->map(log->medium, i, false, &base);
        *bad_segment = i;
        if (status == STATUS_NOT_FOUND)
            continue;
        if (status == STATUS_OK && !is_readable(log, i))
            status = STATUS_CORRUPT;
        if (status == STATUS_OK) {
            log->segments[i].base = base;
            status = segment_header_is_free(segment_header_of(log, i))
                         ? STATUS_NOT_FOUND
                         : segment_check_header(log, i);
            const struct segment_progress *progress = sound_progress(log, i);
            if (progress != NULL && progress->used > log->used &&
                progress->used <= SEGMENT_COUNT_MAX)
                log->used = progress->used;
        }
        if (i >= log->segment_count && status == STATUS_NOT_FOUND) {
            note_erased(log, i);
            continue; /* free, and beyond the limit */
        }
        if (i >= log->segment_count)
            log->segment_count = i + 1; /* a smaller limit than before hides no data */
        if (status == STATUS_OK)
            add_sound(scan, i);
        else if (status == STATUS_NOT_FOUND)
            note_erased(log, i);
        else if (status == STATUS_CORRUPT)
            add_damaged(scan, i);
        else
            return status;
    }
    look_for_missing(scan);
    log->segment_count = log_with_headroom(log, log->segment_count, scan->found_count);
    return STATUS_OK;
}

static void note_record(struct scan *scan, const struct found_segment *found,
                        const struct record *record)
{
    if (record->kind != RECORD_SEAL)
        at_least(&scan->seen[STREAM_HOT], segment_lsn(scan->log, found->number, record) + 1);
    struct mark mark;
    if (record->kind != RECORD_MARK || record->value_size != sizeof(mark))
        return;
    memcpy(&mark, record_value(record).data, sizeof(mark));
    if (!FAULT(MARK_NO_PROOF))
        at_least(&scan->known_durable[STREAM_HOT], mark.lsn);
}

/* Follows the gapless run; then looks whether anything sound lies behind the gap. */
static void look_at_records(struct scan *scan, struct found_segment *found)
{
    struct log *log = scan->log;
    const struct segment *segment = &log->segments[found->number];
    uint32_t size = log->medium->segment_size, offset = found->end;
    while (!found->sealed && record_sound(log, found->number, found->generation, offset)) {
        const struct record *record = (const void *)(segment->base + offset);
        log->more[found->number].last = offset;
        offset += (uint32_t)record_size(record);
        log->more[found->number].count++;
        found->sealed = record->kind == RECORD_SEAL;
        if (!found->sealed) {
            at_least(&found->lsn_max, segment_lsn(log, found->number, record));
            found->live += (uint32_t)record_size(record);
            found->records++;
        }
        note_record(scan, found, record);
    }
    found->end = offset;
    found->sealed = found->sealed || size - offset < RECORD_SIZE_MIN;
    at_least(&scan->seen[segment->stream], segment->append_first + log->more[found->number].count);
    while (!found->sealed &&
           (offset = record_search(log, found->number, found->generation, offset)) != 0) {
        const struct record *record = (const void *)(segment->base + offset);
        if (found->behind_count++ == 0)
            found->behind = offset;
        note_record(scan, found, record);
        offset += (uint32_t)record_size(record);
    }
}

/* ---- the second pass ---- */

/* Also for what is erased already: perhaps only in the cache that a killed process has left, and it
 * has to be erased durably before it is used. */
void segment_erase_first(struct log *log, uint32_t number)
{
    segment_erase(log, number);
    log->segments[number].state = SEGMENT_ERASING;
    log->segments[number].wait = FAULT(START_NO_WAIT) ? 0 : log->cookie + 1;
    log->moving_count++;
}

static int compare_found(const void *a, const void *b)
{
    const struct found_segment *left = a, *right = b;
    if (left->generation != right->generation)
        return left->generation < right->generation ? -1 : 1;
    return left->number < right->number ? -1 : 1;
}

static enum log_stream stream_of(const struct scan *scan, const struct found_segment *found)
{
    return scan->log->segments[found->number].stream;
}

static bool is_of(const struct scan *scan, const struct found_segment *found,
                  enum log_stream stream)
{
    return !found->headless && !found->cut && stream_of(scan, found) == stream;
}

/* The stream ended here. Nothing behind may come back: segments that are cut off are not taken, so
 * settle_free() erases them; and the end is made clean, sealed unless nothing was cut off. */
static void cut_off(struct scan *scan, uint32_t index)
{
    enum log_stream stream = stream_of(scan, &scan->found[index]);
    for (uint32_t i = index + 1; i < scan->found_count; i++) {
        struct found_segment *found = &scan->found[i];
        if (!is_of(scan, found, stream))
            continue;
        scan->report->torn_bytes += found->end - SEGMENT_RECORDS;
        found->cut = true;
    }
}

/* Bytes of a record that began to be written at the end of the run. */
static uint32_t torn_bytes(const struct log *log, const struct found_segment *found)
{
    const struct record *record = (const void *)(log->segments[found->number].base + found->end);
    uint64_t room = log->medium->segment_size - found->end;
    if (!record_plausible(log, found->number, found->end))
        return found->behind == 0 ? 0 : found->behind - found->end;
    uint64_t size = record_size(record);
    return (uint32_t)(size < room ? size : room);
}

/* Nothing is written in this pass either: damage may be refused. */
static void decide(struct scan *scan)
{
    struct log *log = scan->log;
    for (uint32_t i = 0; i < scan->found_count; i++) {
        struct found_segment *found = &scan->found[i];
        uint64_t end = log->segments[found->number].append_first + log->more[found->number].count;
        if (found->damaged || found->cut)
            continue;
        bool early = !found->sealed && end < scan->known_durable[stream_of(scan, found)];
        if (early && !FAULT(EARLY_IS_TORN)) {
            found->damaged = true;
            note_damage(scan, found->number);
        } else if (!found->sealed) {
            scan->report->torn_bytes += torn_bytes(log, found);
            cut_off(scan, i);
        }
    }
}

/* How many records at least are missing from a damaged segment: what is known to have been there,
 * less what was found. */
static uint64_t count_missing(const struct scan *scan, uint32_t index)
{
    const struct found_segment *found = &scan->found[index];
    const struct segment *segment = &scan->log->segments[found->number];
    const struct segment_more *more = &scan->log->more[found->number];
    uint64_t known = more->progress, there = more->count + found->behind_count;
    uint64_t durable = scan->known_durable[segment->stream];
    bool last = true;
    for (uint32_t i = index + 1; i < scan->found_count; i++)
        last = last && stream_of(scan, &scan->found[i]) != segment->stream;
    if (last && durable > segment->append_first && durable - segment->append_first > known)
        known = durable - segment->append_first;
    if (known > there)
        return known - there;
    return found->headless ? 0 : 1; /* what broke the run */
}

/* Completes the report: what is missing, and which bytes of the first damaged segment hold no
 * record. */
static void describe_damage(struct scan *scan)
{
    struct log_report *report = scan->report;
    for (uint32_t i = 0; i < scan->found_count; i++) {
        const struct found_segment *found = &scan->found[i];
        if (!found->damaged)
            continue;
        report->unread_count += found->unknown;
        report->missing_count += found->unknown ? 0 : count_missing(scan, i);
        if (found->number != report->corrupt_segment)
            continue;
        report->corrupt_from = found->headless ? 0 : found->end;
        report->corrupt_to = scan->log->medium->segment_size;
        if (!found->unknown && found->headless)
            report->corrupt_to = SEGMENT_LINE;
        else if (!found->unknown && found->behind != 0)
            report->corrupt_to = found->behind;
    }
}

/* ---- the third pass ---- */

static void hand_over(struct scan *scan, const struct found_segment *found, log_scan_t call,
                      void *user)
{
    struct log *log = scan->log;
    struct segment *segment = &log->segments[found->number];
    uint32_t offset = 0;
    place_t place;
    const struct record *record;
    segment->live = found->damaged ? 0 : found->live;
    segment->lsn_max = found->damaged ? 0 : found->lsn_max;
    while (found->damaged &&
           (record = log_segment_next(log, found->number, &offset, &place)) != NULL) {
        segment->live += (uint32_t)record_size(record);
        at_least(&segment->lsn_max, log_lsn(log, place));
        scan->report->record_count++;
    }
    offset = 0;
    while ((record = log_segment_next(log, found->number, &offset, &place)) != NULL)
        call(user, record, place);
}

static void settle_segment(struct scan *scan, const struct found_segment *found)
{
    struct log *log = scan->log;
    struct segment *segment = &log->segments[found->number];
    struct segment_more *more = &log->more[found->number];
    segment->state = SEGMENT_SEALED;
    segment->used = found->end;
    if (found->damaged) {
        more->damaged = true;
        more->unusable = segment->base == NULL;
        segment->used = log->medium->segment_size;
    }
    /* A killed process leaves what is readable but not durable: records, and also what proves
     * damage. */
    bool complete = !found->damaged && more->count > 0 && more->progress == more->count;
    more->progress_flushed = more->progress;
    if (segment->base != NULL && !FAULT(FLUSH_FOUND))
        log->medium->ops->flush(log->medium, segment->base,
                                complete ? SEGMENT_RECORDS : segment->used);
    log->unnoted_count += !found->damaged && more->progress < more->count;
}

static uint64_t numbers_lost(const struct scan *scan)
{
    uint64_t count_max = scan->log->medium->segment_size / RECORD_SIZE_MIN;
    return scan->report->corrupt_count == 0 || FAULT(LOST_NUMBERS)
               ? 0
               : (scan->report->corrupt_count + 1) * count_max;
}

/* NULL: the stream holds nothing. */
static const struct found_segment *newest_of(const struct scan *scan, enum log_stream stream)
{
    const struct found_segment *newest = NULL;
    for (uint32_t i = 0; i < scan->found_count; i++)
        if (is_of(scan, &scan->found[i], stream))
            newest = &scan->found[i];
    return newest;
}

/* Goes on in the newest segment of the stream if it ends cleanly and its next append number is the
 * stream's next one. */
static void settle_tail(struct scan *scan, enum log_stream stream)
{
    struct log *log = scan->log;
    struct stream *settled = &log->streams[stream];
    settled->tail = scan->seen[stream] + numbers_lost(scan);
    at_least(&settled->tail, scan->known_durable[stream]);
    settled->durable = scan->known_durable[stream];
    const struct found_segment *newest = newest_of(scan, stream);
    if (newest == NULL || newest->damaged || newest->sealed)
        return;
    struct segment *segment = &log->segments[newest->number];
    struct segment_more *more = &log->more[newest->number];
    log->unnoted_count -= more->progress < more->count;
    /* In the hot stream a record behind the gap also shows in the number: it tells its own. Copies
     * do not. */
    bool next = segment->append_first + more->count == settled->tail || FAULT(TAIL_NUMBER);
    if (next && (newest->behind == 0 || FAULT(TORN_TAIL_OPEN))) {
        segment->state = SEGMENT_OPEN;
        more->progress_used = segment->used;
        settled->open = newest->number;
        return;
    }
    segment_seal(log, newest->number);
}

/* A segment whose header a power cut has taken away looks as if it was never used. Those above it
 * will say that it was, so it must have a magic before. */
static void settle_free(struct log *log)
{
    bool below = false; /* one that was used */
    for (uint32_t i = log->segment_count; i-- > 0;) {
        struct segment *segment = &log->segments[i];
        if (segment->state != SEGMENT_FREE) {
            below = !FAULT(LOST_HEADER_MISSED);
            continue;
        }
        const struct segment_header *header = segment_header_of(log, i);
        bool used = segment->base != NULL && (below || header->crc != 0 || header->magic != 0);
        below = below || (used && !FAULT(LOST_HEADER_MISSED));
        if (used && !FAULT(ERASED_IS_FREE))
            segment_erase_first(log, i);
        else
            log->free_count++;
    }
}

static void settle(struct scan *scan, log_scan_t call, void *user)
{
    struct log *log = scan->log;
    for (uint32_t i = 0; i < scan->found_count; i++)
        if (!scan->found[i].damaged && !scan->found[i].cut)
            scan->report->record_count += scan->found[i].records;
    for (uint32_t i = 0; i < scan->found_count; i++) {
        if (scan->found[i].cut)
            continue;
        settle_segment(scan, &scan->found[i]);
        hand_over(scan, &scan->found[i], call, user);
    }
    settle_free(log);
    for (unsigned i = 0; i < STREAM_COUNT; i++)
        settle_tail(scan, (enum log_stream)i);
    if (FAULT(RESTART_LSN) && scan->found_count > 0)
        log->streams[STREAM_HOT].tail = log->segments[scan->found[0].number].lsn_base;
    if (!FAULT(SCAN_NO_DRAIN))
        log_ask_drain(log);
}

enum status log_scan(struct log *log, log_scan_t call, void *user, struct log_report *report,
                     uint32_t *bad_segment)
{
    struct scan scan = {.log = log, .report = report, .known_durable = {1, 1}, .seen = {1, 1}};
    scan.found = calloc(SEGMENT_COUNT_MAX, sizeof(*scan.found));
    if (scan.found == NULL)
        return STATUS_NO_MEMORY;
    enum status status = look_at_headers(&scan, bad_segment);
    if (status == STATUS_OK) {
        for (uint32_t i = 0; i < scan.found_count; i++) {
            if (scan.found[i].generation > log->generation)
                log->generation = scan.found[i].generation;
            if (log->segments[scan.found[i].number].base != NULL)
                look_at_records(&scan, &scan.found[i]);
        }
        qsort(scan.found, scan.found_count, sizeof(*scan.found), compare_found);
        decide(&scan);
        describe_damage(&scan);
        *bad_segment = report->corrupt_segment;
        if (report->corrupt_count > 0 && log->options.refuse_damage && !FAULT(DAMAGE_TAKEN))
            status = STATUS_CORRUPT;
        else
            settle(&scan, call, user);
    }
    free(scan.found);
    return status;
}
