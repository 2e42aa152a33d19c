/* Access words: one beside each index entry, which move with it.
 *
 *     | 2 bits of frequency | fetched | 29 bits of seconds |
 *
 * Seconds are kept modulo 2^29, 17 years: what lies in the future was before the last wrap. 0 in
 * the lower 30 bits: never written. Each word is loaded and stored whole, in no order with
 * anything: an access that is lost between two who write it at once matters to nobody. Holds
 * atomics. */
#include "store/store_private.h"

enum {
    ACCESS_FETCHED = 1 << 29,
    ACCESS_SECONDS = ACCESS_FETCHED - 1,
    FREQUENCY_SHIFT = 30,
};

static uint32_t get(const struct store *store, const struct found *found)
{
    return access_load(index_access(&store->index, found->entry));
}

/* Most reads of a key that is read often change nothing, and leave the cache line clean. */
static void put(struct store *store, const struct found *found, uint32_t word)
{
    uint32_t *access = index_access(&store->index, found->entry);
    if (get(store, found) != word)
        access_store(access, word);
}

static uint32_t with_frequency(uint32_t word, unsigned frequency)
{
    return (word & (((uint32_t)1 << FREQUENCY_SHIFT) - 1)) | (uint32_t)frequency << FREQUENCY_SHIFT;
}

struct access store_access_of(const struct store *store, const struct found *found, uint32_t now)
{
    uint32_t word = with_frequency(get(store, found), 0);
    if (word == 0)
        return (struct access){.at = 0};
    uint32_t idle = (now - word) & ACCESS_SECONDS;
    /* The wall clock may have been set back: that is no idle time of 17 years. */
    if (idle > ACCESS_SECONDS / 2)
        idle = 0;
    return (struct access){.at = now - idle, .fetched = (word & ACCESS_FETCHED) != 0};
}

unsigned store_frequency(const struct store *store, const struct found *found)
{
    return get(store, found) >> FREQUENCY_SHIFT;
}

void store_set_frequency(struct store *store, const struct found *found, unsigned frequency)
{
    assert(frequency <= STORE_FREQUENCY_MAX);
    put(store, found, with_frequency(get(store, found), frequency));
}

void store_accessed(struct store *store, const struct found *found, uint32_t now)
{
    unsigned frequency = store_frequency(store, found);
    frequency += frequency < STORE_FREQUENCY_MAX;
    put(store, found, with_frequency((now & ACCESS_SECONDS) | ACCESS_FETCHED, frequency));
}

void store_access_reset(struct store *store, const struct found *found, uint32_t now)
{
    put(store, found, with_frequency(now & ACCESS_SECONDS, store_frequency(store, found)));
}
