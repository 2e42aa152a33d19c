/* Memory that outlives the process: whose it is, taking it over, and checking what was taken over.
 *
 * It is taken over when it was left by this program, for this log, in this boot, and is not known
 * to be wrong: then it is as it was at some instruction of the process that was killed, and undoing
 * what was under way makes it whole. States of records are void: an entry carries the low bits of
 * the life that wrote it, and what a former one wrote counts as VALID or UNCONFIRMED by the newest
 * mark alone, exactly as after a scan. store_check() gives all entries the present life's bits;
 * until it is through, lives are distinguished by LIFE_BITS, so that few may follow each other
 * unchecked. That also ends a chain of crashes whose reason lies in the memory. */
#include <string.h>

#include "base/crc32c.h"
#include "base/hash.h"
#include "store/store_private.h"

/* "healindx", little-endian. */
#define STORE_MAGIC 0x78646e696c616568ULL

enum {
    STORE_MEMORY_VERSION = 2,
    CHECK_COST = 64, /* of an entry, in bytes of budget */
    CHAIN_MAX = 1 << 20,
    ALIVE_SLACK_US = 1000000, /* a turn may take so long */
};

static uint64_t round_to_bucket(uint64_t size)
{
    return (size + BUCKET_SIZE - 1) / BUCKET_SIZE * BUCKET_SIZE;
}

void *store_log_memory(const struct store *store)
{
    return (uint8_t *)store + round_to_bucket(sizeof(*store));
}

void *store_index_memory(const struct store *store, uint64_t index_size, uint64_t *size)
{
    uint64_t at = round_to_bucket(sizeof(*store)) + round_to_bucket(log_memory_size());
    assert(index_size > at);
    *size = index_size - at;
    return (uint8_t *)store + at;
}

bool store_grant_head(const struct store_options *options)
{
    const struct store_keep *keep = options->keep;
    uint64_t size;
    const uint8_t *end = store_index_memory(options->index, options->index_size, &size);
    uint64_t head = (uint64_t)(end - (const uint8_t *)options->index);
    return keep != NULL && (keep->grow == NULL || keep->grow(keep->user, 0, head));
}

static void fill_origin(struct store_origin *origin, const struct store_options *options)
{
    memset(origin, 0, sizeof(*origin));
    origin->version = STORE_MEMORY_VERSION;
    origin->store_size = sizeof(struct store);
    origin->log_size = log_memory_size();
    origin->index_size = options->index_size;
    origin->identity = options->log.identity;
    origin->segment_size = options->log.medium->segment_size;
    memcpy(origin->whose, options->keep->whose, sizeof(origin->whose));
}

static void use_journal(struct store *store)
{
    store->journal = &store->notes;
    store->index.journal = &store->notes;
    log_set_journal(store->log, &store->notes);
}

void store_set_ready(struct store *store, const struct store_options *options)
{
    struct store_header *header = &store->header;
    fill_origin(&header->made, options);
    header->crc = crc32c(0, &header->made, sizeof(header->made));
    header->magic = STORE_MAGIC;
    use_journal(store);
    atomic_signal_fence(memory_order_seq_cst);
    *(volatile uint32_t *)&header->ready = 1;
}

void store_alive(struct store *store, uint64_t wall_us)
{
    store->header.alive_us = wall_us;
}

void store_distrust(struct store *store)
{
    atomic_store_explicit((_Atomic uint32_t *)&store->header.ready, 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

/* NULL: it is ours, and may be taken over. */
static const char *why_not(const struct store *store, const struct store_options *options)
{
    const struct store_header *header = &store->header;
    struct store_origin origin;
    fill_origin(&origin, options);
    if (header->magic == 0)
        return "there is none";
    if (header->magic != STORE_MAGIC ||
        header->crc != crc32c(0, &header->made, sizeof(header->made)))
        return "its header is damaged";
    if (memcmp(header->made.whose, origin.whose, sizeof(origin.whose)) != 0)
        return "it is of another boot or directory";
    if (memcmp(&header->made, &origin, sizeof(origin)) != 0)
        return "it is of another version or other settings";
    if (header->ready != 1)
        return "it was not complete, or known to be wrong";
    if (header->alive_us + ALIVE_SLACK_US < options->keep->changed_us)
        return "a segment was changed after the process had ended";
    if (header->life - header->checked >= LIFE_COUNT - 1)
        return "it was taken over again and again, and never checked to the end";
    return NULL;
}

static bool counts_hold(const struct index *index)
{
    return index->main_count > 0 && index->main_count <= index->overflow_low &&
           index->overflow_low <= index->total && index->overflow_free < index->total;
}

/* Pointers, and what need not outlive a process. */
static void begin_life(struct store *store, const struct store_options *options)
{
    uint64_t size;
    void *memory = store_index_memory(store, options->index_size, &size);
    store->keep = options->keep;
    index_find_parts(&store->index, memory, size);
    store->drop = (struct store_drop){0};
    store->victim = VICTIM_NONE;
    store->copied = 0;
    memset(store->walk_segment, 0, sizeof(store->walk_segment));
    store->dropped = (struct store_cursor){0};
    store->drop_walked = 0;
    store->forgetful = options->forgetful;
    store->broken = options->broken;
    store->broken_user = options->broken_user;
    store->repair = false;
    store->check_position = 0;
    store->stats.cleaned_bytes = 0;
}

enum status store_take_over(struct store **store, const struct store_options *options,
                            struct log_report *report, uint32_t *bad_segment, const char **why)
{
    struct store *taken = options->index;
    memset(report, 0, sizeof(*report));
    *bad_segment = 0;
    *why = store_grant_head(options) ? why_not(taken, options) : "there is no memory for it";
    if (*why != NULL)
        return STATUS_NOT_FOUND;
    bool undone = taken->notes.used != 0;
    if (!journal_roll_back(&taken->notes, taken, options->index_size)) {
        *why = "the process ended in a change that cannot be undone";
        return STATUS_NOT_FOUND;
    }
    begin_life(taken, options);
    if (!counts_hold(&taken->index)) {
        *why = "its counts are damaged";
        return STATUS_NOT_FOUND;
    }
    taken->header.life++;
    struct log_options log = options->log;
    log.memory = store_log_memory(taken);
    enum status status = log_take_over(&taken->log, &log, undone, report, bad_segment);
    if (status != STATUS_OK) {
        *why = "the segments are not those that it speaks of";
        return status == STATUS_CORRUPT ? STATUS_NOT_FOUND : status;
    }
    use_journal(taken);
    taken->proven_from = log_tail(taken->log);
    index_grant(taken, false);
    taken->confirmed_below = mark_confirmed_below(taken);
    *store = taken;
    return STATUS_OK;
}

/* ---- checking ---- */

bool store_wants_check(const struct store *store)
{
    return store->header.checked != store->header.life;
}

static uint32_t segment_of(place_t place)
{
    return (uint32_t)(place >> PLACE_UNIT_BITS);
}

/* Of the store, only `ready` is changed, and only here. */
void store_end_broken(const struct store *store, uint32_t segment)
{
    store_distrust((struct store *)(uintptr_t)store);
    if (store->broken != NULL)
        store->broken(store->broken_user, segment);
    assert(!"a record, or the index that was taken over, is damaged; the next start scans the log");
}

uint64_t entry_use_first(const struct store *store, uint64_t *entry)
{
    uint64_t word = entry_load(entry);
    if (!log_is_sound(store->log, entry_place(word)))
        store_end_broken(store, segment_of(entry_place(word)));
    word = entry_with_state(store, word, entry_state(store, word));
    entry_store(entry, word);
    return word;
}

/* Where the walk ends there is no record of clients, but where a seal should be there must be
 * one. */
static bool is_sound_end(const struct store *store, uint32_t number, uint32_t offset)
{
    const struct segment *segment = log_segment(store->log, number);
    return offset + sizeof(struct record) > segment->used ||
           log_is_sound(store->log, (place_t)number << PLACE_UNIT_BITS | offset);
}

const struct record *store_segment_next(const struct store *store, uint32_t number,
                                        uint32_t *offset, place_t *place)
{
    const struct segment *segment = log_segment(store->log, number);
    bool known = segment->base == NULL || segment->lsn_base >= store->proven_from ||
                 log_segment_is_damaged(store->log, number);
    const struct record *record = log_segment_next(store->log, number, offset, place);
    if (known || FAULT(WALK_BELIEVES))
        return record;
    if (record != NULL ? !log_is_sound(store->log, *place) : !is_sound_end(store, number, *offset))
        store_end_broken(store, number);
    return record;
}

static bool entry_holds(const struct store *store, uint64_t word, uint32_t chain)
{
    place_t place = entry_place(word);
    if (!log_is_sound(store->log, place))
        return false;
    uint64_t hash = hash_key(record_key(log_record(store->log, place)));
    return index_bucket_of(hash, store->index.main_count) == chain &&
           ((hash >> TAG_HASH_SHIFT) & TAG_MASK) == word >> TAG_SHIFT;
}

/* *cost: in bytes of budget. */
static bool check_chain(struct store *store, uint32_t chain, uint64_t *cost, uint32_t *bad_segment)
{
    const struct index *index = &store->index;
    uint64_t number = chain;
    for (uint32_t length = 0; length < CHAIN_MAX; length++) {
        struct bucket *bucket = &index->buckets[number];
        for (unsigned i = 0; i < BUCKET_ENTRIES; i++) {
            uint64_t word = entry_load(&bucket->entries[i]);
            if (word == 0)
                return true;
            *cost += CHECK_COST;
            *bad_segment = segment_of(entry_place(word));
            if (entry_life(word) == life_of(store))
                continue;
            if (!entry_holds(store, word, chain))
                return false;
            *cost += record_size(log_record(store->log, entry_place(word)));
            entry_store(&bucket->entries[i],
                        entry_with_state(store, word, entry_state(store, word)));
        }
        number = bucket->overflow;
        if (number == 0)
            return true;
        if (number < index->overflow_low || number >= index->total)
            return false;
    }
    return false;
}

/* In the order of store_scan(), which no growth disturbs. */
enum status store_check(struct store *store, uint64_t budget, uint32_t *bad_segment)
{
    while (store_wants_check(store)) {
        if (store->check_position > UINT32_MAX) {
            store->header.checked = store->header.life;
            break;
        }
        uint32_t count = store->index.main_count;
        uint32_t chain = index_bucket_of(store_backwards((uint32_t)store->check_position), count);
        uint64_t cost = CHECK_COST;
        if (!check_chain(store, chain, &cost, bad_segment)) {
            store_distrust(store);
            return STATUS_CORRUPT;
        }
        store->check_position += (uint64_t)1 << (32 - store_chain_depth(chain, count));
        if (cost >= budget)
            break;
        budget -= cost;
    }
    return STATUS_OK;
}
