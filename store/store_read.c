/* Reading without being the owner. Holds atomics: index.c says what may be relied on. */
#include "store/store_private.h"

bool store_read_any(const struct store *store, struct slice key, uint64_t hash, struct found *found)
{
    uint64_t word;
    const uint64_t *entry = index_find_any(store, key, hash, &word);
    if (entry == NULL || entry_state(store, word) != STATE_VALID)
        return false;
    *found = (struct found){
        .entry = (uint64_t *)entry,
        .record = log_record(store->log, entry_place(word)),
        .place = entry_place(word),
        .state = STATE_VALID,
    };
    return true;
}

bool store_accessed_any(const struct store *store, const struct found *found, uint32_t now,
                        bool notice, struct access *access)
{
    *access = store_access_of(store, found, now);
    if (entry_place(entry_load(found->entry)) != found->place)
        return false;
    if (notice)
        store_accessed((struct store *)store, found, now);
    return true;
}
