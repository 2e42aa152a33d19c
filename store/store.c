/* Opening, finding, putting. Index: index.c; marks: store_mark.c; cleaning: store_clean.c; the
 * walk: store_walk.c. */
#include "store/store.h"

#include <string.h>

#include "base/fault.h"
#include "base/hash.h"
#include "base/ts.h"
#include "store/store_private.h"

/* A put that finds no room cleans this many times its own size, and a sixteenth of a segment. */
enum { PUT_CLEANS = 4, PUT_CLEANS_SHARE = 16 };

/* ---- counting ---- */

static bool is_piece(const struct record *record)
{
    return record->kind == RECORD_VALUE && record->key_size > RECORD_CLIENT_KEY_SIZE_MAX;
}

static bool expires(const struct record *record)
{
    return record->kind == RECORD_VALUE && record_exptime(record) != 0;
}

static bool is_tombstone(const struct record *record)
{
    return record->kind == RECORD_TOMBSTONE || record->kind == RECORD_DISCARD;
}

void store_count_current(struct store *store, const struct record *record)
{
    uint64_t size = record_size(record);
    store->stats.value_count += record->kind == RECORD_VALUE;
    store->stats.piece_count += is_piece(record);
    if (expires(record)) {
        store->stats.expiring_count++;
        if (record_exptime(record) < store_expires_first(store))
            store_set_expires_first(store, record_exptime(record));
    }
    store->stats.tombstone_count += is_tombstone(record);
    store->stats.live_bytes += size;
    store->tombstone_bytes += is_tombstone(record) ? size : 0;
    if (ts_version(record->ts) > store->stats.version_max)
        store->stats.version_max = ts_version(record->ts);
}

void store_count_dead(struct store *store, const struct record *record, place_t place)
{
    uint64_t size = record_size(record);
    store->stats.value_count -= record->kind == RECORD_VALUE;
    store->stats.piece_count -= is_piece(record);
    store->stats.expiring_count -= expires(record);
    store->stats.tombstone_count -= is_tombstone(record);
    store->stats.live_bytes -= size;
    store->tombstone_bytes -= is_tombstone(record) ? size : 0;
    store->copied = 0;
    log_dead(store->log, place);
}

/* ---- opening ---- */

enum status store_open(struct store **store, const struct store_options *options,
                       struct log_report *report, uint32_t *bad_segment)
{
    assert((uintptr_t)options->index % BUCKET_SIZE == 0);
    struct store *made = options->index;
    uint64_t size;
    void *memory = store_index_memory(made, options->index_size, &size);
    bool kept = store_grant_head(options);
    made->keep = kept ? options->keep : NULL; /* else it lives and dies with the process */
    made->header.life = made->header.checked = 1;
    made->victim = VICTIM_NONE;
    made->forgetful = options->forgetful;
    made->broken = options->broken;
    made->broken_user = options->broken_user;
    index_init(&made->index, memory, size);
    index_grant(made, true);
    struct log_options log = options->log;
    log.memory = store_log_memory(made);
    struct build build = {.store = made, .report = report};
    enum status status = log_open(&made->log, &log, build_on_scanned, &build, report, bad_segment);
    if (status != STATUS_OK)
        return status;
    if (!build_end(&build)) {
        log_close(made->log);
        return STATUS_NO_MEMORY;
    }
    if (made->keep != NULL)
        store_set_ready(made, options);
    *store = made;
    return STATUS_OK;
}

void store_close(struct store *store)
{
    log_close(store->log);
    store->log = NULL;
}

struct log *store_log(struct store *store)
{
    return store->log;
}

/* ---- finding and putting ---- */

void store_begin(struct store *store)
{
    journal_begin(store->journal);
    journal_note(store->journal, &store->stats, sizeof(store->stats));
    journal_note(store->journal, &store->tombstone_bytes, sizeof(store->tombstone_bytes));
}

void store_commit(struct store *store)
{
    journal_commit(store->journal);
}

void store_fill_found(const struct store *store, uint64_t *entry, struct found *found)
{
    uint64_t word = entry_load(entry);
    place_t place = entry_place(word);
    *found = (struct found){
        .entry = entry,
        .record = log_record(store->log, place),
        .place = place,
        .lsn = log_lsn(store->log, place),
        .state = entry_state(store, word),
    };
}

bool store_find(const struct store *store, struct slice key, uint64_t hash, struct found *found)
{
    uint64_t *entry = index_find(store, key, hash);
    if (entry == NULL)
        return false;
    store_fill_found(store, entry, found);
    return true;
}

bool store_find_hash(const struct store *store, uint64_t hash, struct found *found)
{
    uint64_t *entry = index_find_hash(store, hash);
    if (entry == NULL)
        return false;
    store_fill_found(store, entry, found);
    return true;
}

uint32_t store_expires_first(const struct store *store)
{
    return ~store->expires_later;
}

void store_set_expires_first(struct store *store, uint32_t second)
{
    store->expires_later = ~second;
}

static uint64_t spec_size(const struct record_spec *spec)
{
    return record_spec_size(spec);
}

/* What a put is up against. */
struct put {
    const struct record_spec *spec;
    uint64_t hash;
    bool known;          /* the key has a record */
    struct found former; /* that record */
    enum append_class class;
    bool limited; /* the live data may not grow by this */
};

static void look_up(const struct store *store, struct put *put, bool urgent)
{
    uint64_t size = spec_size(put->spec);
    put->known = store_find(store, put->spec->key, put->hash, &put->former);
    uint64_t former_size = put->known ? record_size(put->former.record) : 0;
    put->class = urgent ? APPEND_URGENT : size > former_size ? APPEND_GROWING : APPEND_OVERWRITE;
    put->limited = put->class == APPEND_GROWING &&
                   store->stats.live_bytes + size - former_size > clean_live_max(store);
}

static enum status try_put(struct store *store, const struct put *put, place_t *place)
{
    if (put->limited || (!put->known && !index_has_room(store)) ||
        !clean_leaves_room(store, put->class))
        return STATUS_NO_SPACE;
    return log_append_nodrain(store->log, put->spec, clean_reserve(store, put->class), place);
}

static void make_current(struct store *store, const struct put *put, enum record_state state,
                         place_t place, struct found *found)
{
    const struct record *record = log_record(store->log, place);
    store_count_current(store, record);
    store->stats.put_bytes += record->kind == RECORD_VALUE ? record_size(record) : 0;
    store->appended += record_size(record);
    uint64_t word = entry_make(store, put->hash, state, place);
    uint64_t *entry = put->former.entry;
    if (put->known) {
        journal_note(store->journal, entry, sizeof(*entry));
        entry_store(entry, word);
    } else {
        entry = index_insert(store, put->hash, word);
    }
    assert(entry != NULL);
    if (put->known)
        store_count_dead(store, put->former.record, put->former.place);
    store_fill_found(store, entry, found);
}

/* Done or not done, whenever the process is killed. */
static enum status put_or_not(struct store *store, const struct put *put, enum record_state state,
                              struct found *found)
{
    place_t place;
    store_begin(store);
    enum status status = try_put(store, put, &place);
    if (status == STATUS_OK)
        make_current(store, put, state, place, found);
    store_commit(store);
    return status;
}

enum status store_put_nodrain(struct store *store, const struct record_spec *spec, uint64_t hash,
                              enum record_state state, bool urgent, struct found *found)
{
    if (spec->value.size > RECORD_VALUE_SIZE_MAX ||
        spec->value_tail.size > RECORD_VALUE_SIZE_MAX - spec->value.size ||
        spec_size(spec) > log_record_size_max(store->log))
        return STATUS_TOO_LARGE;
    struct put put = {.spec = spec, .hash = hash};
    look_up(store, &put, urgent);
    enum status status = put_or_not(store, &put, state, found);
    if (status == STATUS_NO_SPACE) {
        uint64_t share = log_record_size_max(store->log) / PUT_CLEANS_SHARE;
        clean_more(store, PUT_CLEANS * spec_size(spec) +
                              (share < PUT_CLEANS_MAX ? share : PUT_CLEANS_MAX));
        look_up(store, &put, urgent);
        status = put_or_not(store, &put, state, found);
    }
    if (status == STATUS_NO_SPACE) {
        bool coming = put.limited ? clean_drops_tombstones(store) : clean_frees_segments(store);
        return coming ? STATUS_BUSY : STATUS_NO_SPACE;
    }
    return status;
}

bool store_is_full(const struct store *store)
{
    if (store->stats.live_bytes > clean_live_max(store))
        return !clean_drops_tombstones(store);
    return !clean_leaves_room(store, APPEND_GROWING) && !clean_frees_segments(store);
}

bool store_is_busy(const struct store *store, uint64_t key_size, uint64_t value_size)
{
    uint64_t size = record_size_of(key_size, value_size,
                                   RECORD_CAS | RECORD_HAS_CLIENT_FLAGS | RECORD_HAS_EXPTIME);
    if (size > log_record_size_max(store->log))
        return false;
    bool room = clean_leaves_room(store, APPEND_URGENT) &&
                log_has_room(store->log, size, clean_reserve(store, APPEND_URGENT));
    return !room && clean_frees_segments(store);
}

uint64_t store_growth(const struct store *store, const struct record_spec *spec, uint64_t hash)
{
    struct found former;
    uint64_t size = spec_size(spec);
    uint64_t former_size =
        store_find(store, spec->key, hash, &former) ? record_size(former.record) : 0;
    return size > former_size ? size - former_size : 0;
}

uint64_t store_growth_max(const struct store *store, unsigned peers)
{
    if (store->stats.live_bytes < clean_live_max(store) / 2)
        return UINT64_MAX;
    uint64_t kept = clean_reserve(store, APPEND_GROWING) - clean_reserve(store, APPEND_URGENT);
    return kept * log_record_size_max(store->log) / (2 * (peers + 1));
}

uint64_t store_excess(const struct store *store, uint64_t level)
{
    uint64_t max = clean_live_max(store);
    uint64_t usual = max - max / EVICT_MARGIN_SHARE;
    if (level == 0 || level > usual)
        level = usual;
    return store->stats.live_bytes > level ? store->stats.live_bytes - level : 0;
}

void store_set_state(struct store *store, struct found *found, enum record_state state)
{
    uint64_t word = entry_load(found->entry);
    assert(entry_place(word) == found->place);
    entry_store(found->entry, entry_with_state(store, word, state));
    found->state = state;
}

void store_stats(const struct store *store, struct store_stats *stats)
{
    const struct index *index = &store->index;
    *stats = store->stats;
    stats->tombstone_bytes = store->tombstone_bytes;
    stats->live_max = clean_live_max(store);
    stats->log_bytes = clean_log_bytes(store);
    stats->segment_count = log_segment_limit(store->log);
    stats->segment_free = log_segment_free_count(store->log);
    stats->segment_damaged = 0;
    for (uint32_t i = 0; i < log_segment_count(store->log); i++)
        stats->segment_damaged += log_segment_shows_damage(store->log, i);
    stats->index_bytes = (uint64_t)(index->main_count + index->total - index->overflow_low) *
                         (BUCKET_SIZE + ACCESS_BUCKET_SIZE);
}
