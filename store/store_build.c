/* Building the index while the log is scanned.
 *
 * Nearly every record is a cache miss: its bucket, and where it replaces another, that one. So
 * records are gathered, and their lines are asked for before the first is looked at. The index is
 * made as large as the number of records wants it, since splitting later reads all keys again. */
#include "base/fault.h"
#include "base/hash.h"
#include "store/store_private.h"

/* What FAULT(DISCARD_ONE) brings back: the newest version older than `lsn`. */
static place_t find_older(const struct store *store, struct slice key, uint64_t lsn)
{
    place_t found = 0, place;
    uint64_t newest = 0;
    for (uint32_t i = 0; i < log_segment_count(store->log); i++) {
        uint32_t offset = 0;
        const struct record *record;
        while ((record = log_segment_next(store->log, i, &offset, &place)) != NULL) {
            uint64_t at = log_lsn(store->log, place);
            if (at >= lsn || at < newest || !slice_equal(record_key(record), key) ||
                record->kind == RECORD_MARK)
                continue;
            newest = at;
            found = place;
        }
    }
    return found;
}

/* Of the records of one key the one with the highest lsn is current: a DISCARD too, so it voids all
 * before it. */
static void take(struct store *store, const struct record *record, place_t place, uint64_t hash)
{
    store_count_current(store, record);
    uint64_t word = entry_make(store, hash, STATE_UNCONFIRMED, place);
    uint64_t *entry = index_find(store, record_key(record), hash);
    if (entry == NULL) {
        store->index_full = store->index_full || index_insert(store, hash, word) == NULL;
        return;
    }
    place_t other = entry_place(entry_load(entry));
    const struct record *former = log_record(store->log, other);
    uint64_t former_lsn = log_lsn(store->log, other);
    if (former_lsn > log_lsn(store->log, place)) {
        store_count_dead(store, record, place);
        return;
    }
    if (FAULT(DISCARD_ONE) && record->kind == RECORD_DISCARD) {
        place_t older = find_older(store, record_key(record), former_lsn);
        entry_store(entry, entry_make(store, hash, STATE_UNCONFIRMED, older == 0 ? place : older));
        return;
    }
    store_count_dead(store, former, other);
    entry_store(entry, word);
}

/* Asks for the records that may be of the same keys: their buckets are there by now. */
static void prefetch_rivals(const struct store *store, uint64_t hash)
{
    const struct bucket *bucket =
        &store->index.buckets[index_bucket_of(hash, store->index.main_count)];
    uint64_t tag = (hash >> TAG_HASH_SHIFT) & TAG_MASK;
    for (unsigned i = 0; i < BUCKET_ENTRIES; i++) {
        uint64_t word = entry_load(&bucket->entries[i]);
        if (word == 0)
            return;
        if (word >> TAG_SHIFT == tag)
            __builtin_prefetch(log_record(store->log, entry_place(word)));
    }
}

static void take_gathered(struct build *build)
{
    for (uint32_t i = 0; i < build->count; i++)
        prefetch_rivals(build->store, build->items[i].hash);
    for (uint32_t i = 0; i < build->count; i++) {
        const struct build_item *item = &build->items[i];
        take(build->store, log_record(build->store->log, item->place), item->place, item->hash);
    }
    build->count = 0;
}

void build_on_scanned(void *user, const struct record *record, place_t place)
{
    struct build *build = user;
    struct store *store = build->store;
    if (!build->sized)
        index_presize(store, build->report->record_count);
    build->sized = true;
    store->index.fresh = true;
    if (record->kind == RECORD_MARK) {
        mark_scanned(store, record, place);
        return;
    }
    uint64_t hash = hash_key(record_key(record));
    const struct bucket *bucket =
        &store->index.buckets[index_bucket_of(hash, store->index.main_count)];
    __builtin_prefetch(bucket, 1);
    build->items[build->count++] = (struct build_item){.place = place, .hash = hash};
    if (build->count == BUILD_BATCH)
        take_gathered(build);
}

/* What lies before the newest own mark was complete everywhere. */
static void confirm(struct store *store)
{
    uint64_t below = mark_confirmed_below(store);
    struct index_cursor cursor = {0};
    uint64_t *entry;
    while (below > 0 && (entry = index_next(store, &cursor)) != NULL) {
        uint64_t word = entry_load(entry);
        place_t place = entry_place(word);
        const struct segment *segment =
            log_segment(store->log, (uint32_t)(place >> PLACE_UNIT_BITS));
        if (segment->lsn_max < below || log_lsn(store->log, place) < below)
            entry_store(entry, entry_with_state(store, word, STATE_VALID));
    }
}

bool build_end(struct build *build)
{
    take_gathered(build);
    build->store->index.fresh = false;
    if (build->store->index_full)
        return false;
    confirm(build->store);
    return true;
}
