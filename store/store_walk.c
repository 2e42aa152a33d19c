/* The walk over the current records, in the order of the log. Cleaning moves records only to the
 * tail, so ahead of the walk. */
#include "base/hash.h"
#include "store/store_private.h"


static bool walkable(const struct segment *segment)
{
    return segment->state == SEGMENT_OPEN || segment->state == SEGMENT_SEALED;
}

/* The segment with the smallest generation at or above the cursor's that can hold what is wanted.
 */
static bool find_segment(struct store *store, const struct store_cursor *cursor, uint64_t lsn_min)
{
    const struct segment *hint = log_segment(store->log, store->walk_segment);
    if (cursor->offset != 0 && walkable(hint) && hint->generation == cursor->generation)
        return true;
    uint32_t best = VICTIM_NONE;
    for (uint32_t i = 0; i < log_segment_count(store->log); i++) {
        const struct segment *segment = log_segment(store->log, i);
        if (walkable(segment) && segment->generation >= cursor->generation &&
            segment->lsn_max >= lsn_min &&
            (best == VICTIM_NONE ||
             segment->generation < log_segment(store->log, best)->generation))
            best = i;
    }
    if (best == VICTIM_NONE)
        return false;
    store->walk_segment = best;
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

bool store_walk(struct store *store, struct store_cursor *cursor, uint64_t lsn_min,
                uint64_t *budget, struct found *found)
{
    while (find_segment(store, cursor, lsn_min)) {
        uint32_t number = store->walk_segment;
        uint32_t generation = log_segment(store->log, number)->generation;
        if (generation != cursor->generation)
            *cursor = (struct store_cursor){.generation = generation};
        place_t place;
        const struct record *record;
        while (*budget > 0 &&
               (record = log_segment_next(store->log, number, &cursor->offset, &place)) != NULL) {
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
        cursor->generation++;
        cursor->offset = 0;
    }
    return false;
}
