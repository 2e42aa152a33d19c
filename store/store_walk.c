/* The walk over the current records, in the order of the log. It goes along both streams, each with
 * a place of its own: cleaning moves records only to the tail of a stream, so ahead of the walk.
 * The cold stream, which is the older one, comes first; but whatever is copied meanwhile, the walk
 * is through only when it is at both tails. */
#include "base/fault.h"
#include "base/hash.h"
#include "store/store_private.h"

static bool is_walkable(const struct segment *segment, enum log_stream stream)
{
    return segment->stream == stream &&
           (segment->state == SEGMENT_OPEN || segment->state == SEGMENT_SEALED);
}

static bool is_ahead(const struct segment *segment, const struct store_cursor *cursor,
                     enum log_stream stream, uint64_t lsn_min)
{
    return is_walkable(segment, stream) && segment->generation >= cursor->at[stream].generation &&
           segment->lsn_max >= lsn_min;
}

/* The stream's segment with the smallest generation at or above the cursor's that can hold what is
 * wanted. Behind the last one the cursor stays at the tail, so that the next look costs nothing. */
static bool find_segment(struct store *store, struct store_cursor *cursor, enum log_stream stream,
                         uint64_t lsn_min)
{
    uint32_t *generation = &cursor->at[stream].generation, *hint = &store->walk_segment[stream];
    uint32_t open = log_stream_open(store->log, stream), best = VICTIM_NONE;
    if (*generation > log_generation(store->log))
        return false;
    if (*hint >= log_segment_count(store->log))
        *hint = 0; /* there are fewer now */
    const struct segment *hinted = log_segment(store->log, *hint);
    if (cursor->at[stream].offset != 0 && is_walkable(hinted, stream) &&
        hinted->generation == *generation)
        return true;
    if (open != LOG_SEGMENT_NONE && log_segment(store->log, open)->generation == *generation) {
        *hint = open;
        return is_ahead(log_segment(store->log, open), cursor, stream, lsn_min);
    }
    for (uint32_t i = 0; i < log_segment_count(store->log); i++)
        if (is_ahead(log_segment(store->log, i), cursor, stream, lsn_min) &&
            (best == VICTIM_NONE ||
             log_segment(store->log, i)->generation < log_segment(store->log, best)->generation))
            best = i;
    if (best == VICTIM_NONE) {
        *generation = open != LOG_SEGMENT_NONE ? log_segment(store->log, open)->generation
                                               : log_generation(store->log) + 1;
        cursor->at[stream].offset = 0;
        return false;
    }
    *hint = best;
    return true;
}

/* True: *found is current and wanted. */
static bool wanted(const struct store *store, const struct record *record, place_t place,
                   uint64_t lsn_min, struct found *found)
{
    if (record->kind == RECORD_MARK || log_lsn(store->log, place) < lsn_min)
        return false;
    uint64_t *entry = index_find_place(store, hash_key(record_key(record)), place);
    if (entry == NULL)
        return false;
    store_fill_found(store, entry, found);
    return true;
}

/* False: it is at the tail. */
static bool walk_stream(struct store *store, struct store_cursor *cursor, enum log_stream stream,
                        uint64_t lsn_min, uint64_t *budget, struct found *found)
{
    while (find_segment(store, cursor, stream, lsn_min)) {
        uint32_t number = store->walk_segment[stream];
        uint32_t generation = log_segment(store->log, number)->generation;
        if (generation != cursor->at[stream].generation) {
            cursor->at[stream].generation = generation;
            cursor->at[stream].offset = 0;
        }
        place_t place;
        const struct record *record;
        while (*budget > 0 && (record = store_segment_next(
                                   store, number, &cursor->at[stream].offset, &place)) != NULL) {
            *budget -= STORE_WALK_COST < *budget ? STORE_WALK_COST : *budget;
            if (wanted(store, record, place, lsn_min, found))
                return true;
        }
        if (*budget == 0) {
            *found = (struct found){0};
            return true;
        }
        if (log_segment(store->log, number)->state == SEGMENT_OPEN)
            return false; /* more may be appended: the cursor stays */
        cursor->at[stream].generation++;
        cursor->at[stream].offset = 0;
    }
    return false;
}

bool store_walk(struct store *store, struct store_cursor *cursor, uint64_t lsn_min,
                uint64_t *budget, struct found *found)
{
    if (FAULT(WALK_LEAVES_COPIES))
        return (cursor->at[STREAM_HOT].generation == 0 &&
                walk_stream(store, cursor, STREAM_COLD, lsn_min, budget, found)) ||
               walk_stream(store, cursor, STREAM_HOT, lsn_min, budget, found);
    return walk_stream(store, cursor, STREAM_COLD, lsn_min, budget, found) ||
           walk_stream(store, cursor, STREAM_HOT, lsn_min, budget, found);
}

uint64_t store_walk_left(const struct store *store, const struct store_cursor *cursor,
                         uint64_t lsn_min)
{
    uint64_t left = 0;
    for (uint32_t i = 0; i < log_segment_count(store->log); i++) {
        const struct segment *segment = log_segment(store->log, i);
        enum log_stream stream = segment->stream;
        if (!is_ahead(segment, cursor, stream, lsn_min))
            continue;
        bool here = segment->generation == cursor->at[stream].generation;
        uint32_t done = here ? cursor->at[stream].offset : 0;
        left += done < segment->used ? segment->used - done : 0;
    }
    return left;
}
