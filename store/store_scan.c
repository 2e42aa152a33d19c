/* The scan: every key once, while the index grows.
 *
 * A chain of the index holds the keys whose hashes end in the same bits. Read backwards, last bit
 * first, those hashes are one stretch of numbers, and the chains in the order of their stretches
 * cover all numbers without a gap:
 *
 *     chain   ...00 | ...10 | .001 | .101 | ...11      hash bits
 *     stretch 00... | 01... | 100. | 101. | 11...      backwards: rising
 *
 * Splitting a chain halves its stretch and moves no other border. So the scan remembers a number:
 * what is below was visited, and the next chain begins exactly there, however often the index has
 * split meanwhile. */
#include "store/store_private.h"

uint32_t store_backwards(uint32_t bits)
{
    bits = (bits & 0x55555555) << 1 | (bits >> 1 & 0x55555555);
    bits = (bits & 0x33333333) << 2 | (bits >> 2 & 0x33333333);
    bits = (bits & 0x0f0f0f0f) << 4 | (bits >> 4 & 0x0f0f0f0f);
    return __builtin_bswap32(bits);
}

/* How many of the last bits of a hash choose this chain. */
unsigned store_chain_depth(uint32_t bucket, uint32_t main_count)
{
    unsigned level = 31 - (unsigned)__builtin_clz(main_count);
    uint64_t half = (uint64_t)1 << level;
    return level + (bucket >= half || bucket + half < main_count);
}

static void visit_chain(const struct store *store, uint32_t bucket, store_visit_t visit, void *user)
{
    struct bucket *at = &store->index.buckets[bucket];
    for (;;) {
        for (unsigned i = 0; i < BUCKET_ENTRIES; i++) {
            uint64_t word = entry_load(&at->entries[i]);
            if (word == 0)
                return;
            struct found found;
            if (entry_life(word) != life_of(store))
                (void)entry_use_first(store, &at->entries[i]);
            store_fill_found(store, &at->entries[i], &found);
            visit(user, &found);
        }
        if (at->overflow == 0)
            return;
        at = &store->index.buckets[at->overflow];
    }
}

bool store_scan(const struct store *store, uint64_t *position, store_visit_t visit, void *user)
{
    if (*position > UINT32_MAX)
        return false;
    uint32_t count = store->index.main_count;
    uint32_t bucket = index_bucket_of(store_backwards((uint32_t)*position), count);
    visit_chain(store, bucket, visit, user);
    *position += (uint64_t)1 << (32 - store_chain_depth(bucket, count));
    return true;
}
