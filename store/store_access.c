/* Access words: one beside each index entry, which move with it.
 *
 *     | 2 bits, free | fetched | 29 bits of seconds |
 *
 * Seconds are kept modulo 2^29, 17 years: what lies in the future was before the last wrap. 0 is a
 * word never written. Holds atomics: a word is loaded and stored whole, in no order with anything; an
 * access that is lost between two who write it at once matters to nobody. */
#include "store/store_private.h"

enum {
    ACCESS_FETCHED = 1 << 29,
    ACCESS_SECONDS = ACCESS_FETCHED - 1,
};

struct access store_access_of(const struct store *store, const struct found *found, uint32_t now)
{
    uint32_t word = access_load(index_access(&store->index, found->entry));
    if (word == 0)
        return (struct access){.at = 0};
    uint32_t idle = (now - word) & ACCESS_SECONDS;
    /* The wall clock may have been set back: that is no idle time of 17 years. */
    if (idle > ACCESS_SECONDS / 2)
        idle = 0;
    return (struct access){.at = now - idle, .fetched = (word & ACCESS_FETCHED) != 0};
}

/* Most reads of a key that is read often change nothing, and leave the cache line clean. */
static void put(struct store *store, const struct found *found, uint32_t word)
{
    uint32_t *access = index_access(&store->index, found->entry);
    if (access_load(access) != word)
        access_store(access, word);
}

void store_accessed(struct store *store, const struct found *found, uint32_t now)
{
    put(store, found, (now & ACCESS_SECONDS) | ACCESS_FETCHED);
}

void store_access_reset(struct store *store, const struct found *found, uint32_t now)
{
    put(store, found, now & ACCESS_SECONDS);
}
