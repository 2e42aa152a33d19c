/* The hand of the clock that chooses what to evict: over the index, in the order of store_scan.
 *
 * It looks at words of the index and at segments' numbers first, and reads a record only when that
 * may be one to evict: the rest of a large store stays out of the caches. */
#include "base/fault.h"
#include "store/store_private.h"

static bool is_old(const struct store *store, place_t place, uint64_t lsn_end)
{
    const struct segment *segment = log_segment(store->log, (uint32_t)(place >> PLACE_UNIT_BITS));
    return segment->lsn_max < lsn_end || log_lsn(store->log, place) < lsn_end;
}

/* The bits of a hash that stand in an entry, where they are in the hash. */
static uint64_t hash_part(uint64_t word)
{
    static_assert(64 - TAG_SHIFT == STORE_SHARE_BITS,
                  "the share of a key can be told from its entry");
    return (word >> TAG_SHIFT) << TAG_HASH_SHIFT;
}

static void look_at(struct store *store, uint64_t *entry, const struct store_share *share,
                    uint64_t lsn_end, store_visit_t visit, void *user)
{
    uint64_t word = entry_load(entry);
    place_t place = entry_place(word);
    if (entry_state(store, word) != STATE_VALID || !store_share_has(share, hash_part(word)) ||
        !is_old(store, place, lsn_end))
        return;
    struct found found = {.entry = entry, .place = place, .state = STATE_VALID};
    unsigned frequency = store_frequency(store, &found);
    if (frequency > 0) {
        store_set_frequency(store, &found, frequency - 1);
        return;
    }
    if (entry_life(word) != life_of(store))
        (void)entry_use_first(store, entry);
    found.record = log_record(store->log, place);
    found.lsn = log_lsn(store->log, place);
    bool piece = found.record->key_size > RECORD_CLIENT_KEY_SIZE_MAX && !FAULT(EVICT_PIECES);
    if (found.record->kind == RECORD_VALUE && found.record->key_size > 0 && !piece)
        visit(user, &found);
}

bool store_hand(struct store *store, uint64_t *position, const struct store_share *share,
                uint64_t lsn_end, store_visit_t visit, void *user)
{
    if (*position > UINT32_MAX)
        return false;
    uint32_t count = store->index.main_count;
    uint32_t number = index_bucket_of(store_backwards((uint32_t)*position), count);
    struct bucket *bucket = &store->index.buckets[number];
    *position += (uint64_t)1 << (32 - store_chain_depth(number, count));
    for (;; bucket = &store->index.buckets[bucket->overflow]) {
        for (unsigned i = 0; i < BUCKET_ENTRIES && entry_load(&bucket->entries[i]) != 0; i++)
            look_at(store, &bucket->entries[i], share, lsn_end, visit, user);
        if (bucket->overflow == 0)
            return true;
    }
}
