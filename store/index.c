/* The index: linear hashing over buckets of one cache line, with chains of overflow buckets. Holds
 * atomics.
 *
 * Other threads may look for an entry at any moment (index_find_any). What they rely on:
 *  1. A word that stands in an entry names the current record of its key. split() and
 *     index_remove() write an entry to its new place before they empty the old one, and put no
 *     record meanwhile: a reader may meet the same entry twice or not at all, and never a former
 *     one.
 *  2. A place that was left holds 0 or another key's entry, also in a bucket that was given back
 *     and is used again: the reader compares the whole key, so a chain that leads elsewhere is
 *     harmless.
 *  3. Whatever it loads was stored whole, with release: the record's bytes are there.
 * So what it finds holds, and what it does not find may still be there. */
#include <string.h>

#include "base/hash.h"
#include "store/store_private.h"

enum {
    MAIN_COUNT_MIN = 16,
    FILL_MAX = 5,         /* mean entries a chain before one more bucket is split */
    RECORD_SIZE_MIN = 32, /* a mean of all keys and values */
};

/* Main buckets at four entries each; and overflow for any distribution: full buckets, and one not
 * full a chain. */
uint64_t store_index_size(uint64_t log_size)
{
    uint64_t entries = log_size / RECORD_SIZE_MIN + MAIN_COUNT_MIN;
    uint64_t main_max = entries / 4 + MAIN_COUNT_MIN;
    uint64_t total = 2 * main_max + entries / BUCKET_ENTRIES + MAIN_COUNT_MIN;
    return (sizeof(struct store) + log_memory_size() + 4 * BUCKET_SIZE) +
           total * (BUCKET_SIZE + ACCESS_BUCKET_SIZE);
}

void index_find_parts(struct index *index, void *memory, uint64_t size)
{
    uint64_t total = size / (BUCKET_SIZE + ACCESS_BUCKET_SIZE);
    assert(total > 2 * MAIN_COUNT_MIN);
    index->buckets = memory;
    index->total = total > UINT32_MAX ? UINT32_MAX : (uint32_t)total;
    index->accesses = (void *)(index->buckets + index->total);
    index->main_granted = 0;
    index->low_granted = index->total;
}

void index_init(struct index *index, void *memory, uint64_t size)
{
    index_find_parts(index, memory, size);
    index->main_count = MAIN_COUNT_MIN;
    index->overflow_low = index->total;
}

uint32_t index_bucket_of(uint64_t hash, uint32_t count)
{
    uint32_t mask = UINT32_MAX >> __builtin_clz(count);
    uint32_t bucket = (uint32_t)hash & mask;
    return bucket < count ? bucket : bucket & (mask >> 1);
}

uint64_t *index_find(const struct store *store, struct slice key, uint64_t hash)
{
    const struct index *index = &store->index;
    uint64_t tag = (hash >> TAG_HASH_SHIFT) & TAG_MASK;
    struct bucket *bucket = &index->buckets[index_bucket_of(hash, index->main_count)];
    for (;;) {
        for (unsigned i = 0; i < BUCKET_ENTRIES; i++) {
            uint64_t word = entry_load(&bucket->entries[i]);
            if (word == 0)
                return NULL;
            if (word >> TAG_SHIFT == tag && entry_life(word) != life_of(store))
                word = entry_use_first(store, &bucket->entries[i]);
            if (word >> TAG_SHIFT == tag &&
                slice_equal(record_key(log_record(store->log, entry_place(word))), key))
                return &bucket->entries[i];
        }
        if (bucket->overflow == 0)
            return NULL;
        bucket = &index->buckets[bucket->overflow];
    }
}

const uint64_t *index_find_any(const struct store *store, struct slice key, uint64_t hash,
                               uint64_t *word)
{
    /* chains are a few buckets; one that changes all the time might have no end */
    enum { CHAIN_MAX = 64 };
    const struct index *index = &store->index;
    uint64_t tag = (hash >> TAG_HASH_SHIFT) & TAG_MASK;
    uint64_t number = index_bucket_of(hash, main_count_load(index));
    for (unsigned length = 0; length < CHAIN_MAX; length++) {
        const struct bucket *bucket = &index->buckets[number];
        for (unsigned i = 0; i < BUCKET_ENTRIES; i++) {
            *word = entry_load(&bucket->entries[i]);
            if (*word == 0)
                return NULL;
            if (*word >> TAG_SHIFT == tag && entry_life(*word) == life_of(store) &&
                slice_equal(record_key(log_record(store->log, entry_place(*word))), key))
                return &bucket->entries[i];
        }
        number = entry_load(&bucket->overflow);
        if (number == 0 || number >= index->total)
            return NULL;
    }
    return NULL;
}

uint64_t *index_find_place(const struct store *store, uint64_t hash, place_t place)
{
    const struct index *index = &store->index;
    struct bucket *bucket = &index->buckets[index_bucket_of(hash, index->main_count)];
    for (;; bucket = &index->buckets[bucket->overflow]) {
        for (unsigned i = 0; i < BUCKET_ENTRIES; i++) {
            uint64_t word = entry_load(&bucket->entries[i]);
            if (entry_place(word) != place)
                continue;
            if (entry_life(word) != life_of(store))
                (void)entry_use_first(store, &bucket->entries[i]);
            return &bucket->entries[i];
        }
        if (bucket->overflow == 0)
            return NULL;
    }
}

uint64_t *index_find_hash(const struct store *store, uint64_t hash)
{
    const struct index *index = &store->index;
    uint64_t tag = (hash >> TAG_HASH_SHIFT) & TAG_MASK;
    struct bucket *bucket = &index->buckets[index_bucket_of(hash, index->main_count)];
    for (;; bucket = &index->buckets[bucket->overflow]) {
        for (unsigned i = 0; i < BUCKET_ENTRIES; i++) {
            uint64_t word = entry_load(&bucket->entries[i]);
            if (word == 0)
                return NULL;
            if (word >> TAG_SHIFT == tag && entry_life(word) != life_of(store))
                word = entry_use_first(store, &bucket->entries[i]);
            if (word >> TAG_SHIFT == tag &&
                hash_key(record_key(log_record(store->log, entry_place(word)))) == hash)
                return &bucket->entries[i];
        }
        if (bucket->overflow == 0)
            return NULL;
    }
}

/* ---- memory ---- */

static void grant(struct store *store, uint32_t from, uint32_t to)
{
    const struct index *index = &store->index;
    const struct store_keep *keep = store->keep;
    if (keep == NULL || keep->grow == NULL)
        return;
    uint64_t buckets = (uint64_t)((uint8_t *)index->buckets - (uint8_t *)store);
    uint64_t accesses = (uint64_t)((uint8_t *)index->accesses - (uint8_t *)store);
    bool kept = keep->grow(keep->user, buckets + (uint64_t)from * BUCKET_SIZE,
                           buckets + (uint64_t)to * BUCKET_SIZE);
    kept = keep->grow(keep->user, accesses + (uint64_t)from * ACCESS_BUCKET_SIZE,
                      accesses + (uint64_t)to * ACCESS_BUCKET_SIZE) &&
           kept;
    if (!kept)
        store_distrust(store);
}

/* In steps from both ends; the same steps in each life. */
void index_grant(struct store *store, bool ask)
{
    struct index *index = &store->index;
    while (index->main_granted <= index->main_count && index->main_granted < index->total) {
        uint32_t left = index->total - index->main_granted;
        uint32_t count = left < INDEX_GROW_COUNT ? left : INDEX_GROW_COUNT;
        if (ask)
            grant(store, index->main_granted, index->main_granted + count);
        index->main_granted += count;
    }
    while (index->low_granted >= index->overflow_low && index->low_granted > 0) {
        uint32_t count =
            index->low_granted < INDEX_GROW_COUNT ? index->low_granted : INDEX_GROW_COUNT;
        index->low_granted -= count;
        if (ask)
            grant(store, index->low_granted, index->low_granted + count);
    }
}

/* ---- overflow buckets ---- */

static uint32_t overflow_room(const struct index *index)
{
    return index->free_count + (index->overflow_low - index->main_count);
}

/* 0: none left. */
static uint32_t overflow_take(struct store *store)
{
    struct index *index = &store->index;
    uint32_t number = index->overflow_free;
    if (number != 0) {
        journal_note(index->journal, &index->buckets[number].overflow, sizeof(uint64_t));
        index->overflow_free = (uint32_t)index->buckets[number].overflow;
        index->free_count--;
        entry_store(&index->buckets[number].overflow, 0);
        return number;
    }
    if (index->overflow_low == index->main_count)
        return 0;
    index->overflow_low--;
    if (index->overflow_low <= index->low_granted)
        index_grant(store, true);
    return index->overflow_low;
}

static void overflow_give(struct index *index, uint32_t number)
{
    struct bucket *bucket = &index->buckets[number];
    journal_note(index->journal, bucket, sizeof(*bucket));
    for (unsigned i = 0; i < BUCKET_ENTRIES; i++)
        entry_store(&bucket->entries[i], 0);
    entry_store(&bucket->overflow, index->overflow_free);
    index->overflow_free = number;
    index->free_count++;
}

/* Where an entry lies in a chain. */
struct spot {
    struct bucket *bucket;
    unsigned slot;
};

/* The first free entry of a chain; makes the chain longer if it is full. NULL: no room. */
static uint64_t *first_free(struct store *store, struct bucket *bucket)
{
    struct index *index = &store->index;
    for (;;) {
        for (unsigned i = 0; i < BUCKET_ENTRIES; i++)
            if (entry_load(&bucket->entries[i]) == 0)
                return &bucket->entries[i];
        if (bucket->overflow == 0) {
            journal_note(index->journal, &bucket->overflow, sizeof(bucket->overflow));
            entry_store(&bucket->overflow, overflow_take(store));
        }
        if (bucket->overflow == 0)
            return NULL;
        bucket = &index->buckets[bucket->overflow];
    }
}

/* The chain ends before `spot`: what is behind is emptied and given back. */
static void cut_chain(struct index *index, struct bucket *head, struct spot spot)
{
    journal_note(index->journal, spot.bucket, sizeof(*spot.bucket));
    for (unsigned i = spot.slot; i < BUCKET_ENTRIES; i++)
        entry_store(&spot.bucket->entries[i], 0);
    uint64_t next = spot.bucket->overflow;
    entry_store(&spot.bucket->overflow, 0);
    while (next != 0) {
        uint32_t number = (uint32_t)next;
        next = index->buckets[number].overflow;
        overflow_give(index, number);
    }
    /* An overflow bucket may not be left empty: it is unlinked too. */
    if (spot.slot == 0 && spot.bucket != head) {
        struct bucket *before = head;
        while (&index->buckets[before->overflow] != spot.bucket)
            before = &index->buckets[before->overflow];
        overflow_give(index, (uint32_t)before->overflow);
        journal_note(index->journal, &before->overflow, sizeof(before->overflow));
        entry_store(&before->overflow, 0);
    }
}

static uint32_t chain_length(const struct index *index, const struct bucket *bucket)
{
    uint32_t length = 1;
    for (; bucket->overflow != 0; bucket = &index->buckets[bucket->overflow])
        length++;
    return length;
}

/* An entry and its access word go to another place. */
static void move(struct index *index, uint64_t *to, const uint64_t *from)
{
    journal_note(index->journal, to, sizeof(*to));
    entry_store(to, entry_load(from));
    access_store(index_access(index, to), access_load(index_access(index, from)));
}

static void advance(const struct index *index, struct spot *spot)
{
    if (++spot->slot < BUCKET_ENTRIES || spot->bucket->overflow == 0)
        return;
    spot->bucket = &index->buckets[spot->bucket->overflow];
    spot->slot = 0;
}

/* Adds one main bucket and moves to it what belongs there. */
static void split(struct store *store)
{
    struct index *index = &store->index;
    uint32_t added = index->main_count;
    uint32_t from = index_bucket_of(added, added);
    struct bucket *head = &index->buckets[from];
    if (overflow_room(index) <= chain_length(index, head) + 1 || added >= index->overflow_low ||
        added >= index->total / 5 * 2)
        return;
    main_count_store(index, added + 1);
    if (index->main_count >= index->main_granted)
        index_grant(store, true);
    struct spot read = {.bucket = head}, write = {.bucket = head};
    while (read.slot < BUCKET_ENTRIES) {
        uint64_t word = entry_load(&read.bucket->entries[read.slot]);
        if (word == 0)
            break;
        uint64_t hash = hash_key(record_key(log_record(store->log, entry_place(word))));
        if (index_bucket_of(hash, index->main_count) == added) {
            move(index, first_free(store, &index->buckets[added]),
                 &read.bucket->entries[read.slot]);
        } else {
            move(index, &write.bucket->entries[write.slot], &read.bucket->entries[read.slot]);
            advance(index, &write);
        }
        advance(index, &read);
    }
    if (write.slot < BUCKET_ENTRIES)
        cut_chain(index, head, write);
}

void index_presize(struct store *store, uint64_t entry_count)
{
    struct index *index = &store->index;
    uint64_t count = entry_count / FILL_MAX + 1, max = index->total / 5 * 2;
    assert(index->entry_count == 0);
    if (count > max)
        count = max;
    if (count <= index->main_count)
        return;
    main_count_store(index, (uint32_t)count);
    index_grant(store, true);
}

bool index_has_room(const struct store *store)
{
    return overflow_room(&store->index) > 0;
}

/* The counts, in one piece. */
static void note_counts(struct index *index)
{
    size_t size = offsetof(struct index, entry_count) + sizeof(index->entry_count) -
                  offsetof(struct index, main_count);
    journal_note(index->journal, &index->main_count, (uint32_t)size);
}

uint64_t *index_insert(struct store *store, uint64_t hash, uint64_t word)
{
    struct index *index = &store->index;
    note_counts(index);
    if (index->entry_count >= (uint64_t)index->main_count * FILL_MAX)
        split(store);
    uint64_t *entry = first_free(store, &index->buckets[index_bucket_of(hash, index->main_count)]);
    if (entry == NULL)
        return NULL;
    journal_note(index->journal, entry, sizeof(*entry));
    entry_store(entry, word);
    if (!index->fresh)
        access_store(index_access(index, entry), 0);
    index->entry_count++;
    return entry;
}

/* The last entry of the chain takes the place of the removed one. */
void index_remove(struct store *store, uint64_t hash, uint64_t *entry)
{
    struct index *index = &store->index;
    note_counts(index);
    struct bucket *head = &index->buckets[index_bucket_of(hash, index->main_count)];
    struct spot last = {.bucket = head};
    while (last.bucket->overflow != 0)
        last.bucket = &index->buckets[last.bucket->overflow];
    while (last.slot + 1 < BUCKET_ENTRIES && entry_load(&last.bucket->entries[last.slot + 1]) != 0)
        last.slot++;
    move(index, entry, &last.bucket->entries[last.slot]);
    cut_chain(index, head, last);
    index->entry_count--;
}

uint64_t *index_next(const struct store *store, struct index_cursor *cursor)
{
    const struct index *index = &store->index;
    while (cursor->main < index->main_count) {
        struct bucket *bucket = &index->buckets[cursor->bucket];
        if (cursor->slot < BUCKET_ENTRIES && entry_load(&bucket->entries[cursor->slot]) != 0)
            return &bucket->entries[cursor->slot++];
        if (cursor->slot == BUCKET_ENTRIES && bucket->overflow != 0)
            cursor->bucket = (uint32_t)bucket->overflow;
        else
            cursor->bucket = ++cursor->main;
        cursor->slot = 0;
    }
    return NULL;
}
