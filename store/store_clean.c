/* Cleaning: copies what lives in a victim to the cold tail and gives the segment back.
 *
 * Victim: the segment whose cleaning gains most for its cost, (1 - u)^2 * age / (1 + u), where a
 * share u of it lives and `age` is what was put since it was opened. That is Rosenblum's and
 * Ousterhout's choice (The Design and Implementation of a Log-Structured File System, section 3.5)
 * with more weight on what is dead: theirs copies a seventh more where all keys are alike
 * (bench/clean.c). But when tombstones hold much of the space and may be dropped, the oldest one: a
 * tombstone can go only after every segment that may hold an older version has gone.
 *
 * A small log cannot spare a segment for a second tail, nor copy much for a small gain: there,
 * copies go to the hot one, and the victim is the segment with the most dead bytes.
 *
 * Room is kept in steps: cleaning may use every free segment; what is urgent leaves some to
 * cleaning; overwriting by clients leaves as many again to what is urgent; and growing as many
 * again to overwriting, which needs room before it makes any. */
#include "base/fault.h"
#include "base/hash.h"
#include "base/ts.h"
#include "store/store_private.h"

enum {
    SEGMENTS_MANY = 16,
    SEGMENTS_FEW = 8,
    /* for as many bytes that may live there is room for one that is dead: cleaning needs some to
     * gain */
    LIVE_SHARE = 8,
    GAIN_SHARE = 32, /* a victim must have this part of its bytes dead... */
    GAIN_MIN = 256,  /* ...and more than the segment's own overhead */
    START_SHARE =
        64, /* cleaning starts when this part of the segments is left, beyond the reserve */
    TOMBSTONE_SHARE = 16, /* tombstones are worth a sweep when they hold this part of the space */
    TOMBSTONES_KEPT_SHARE = 32,
    DROP_BUDGET = 64 << 10, /* of the walk that drops tombstones, in one turn */
    TURN_BUDGET_MIN = 16 << 10,
    TURN_BUDGET_MAX = 64 << 10, /* beyond twice what was appended */
    /* bytes of cleaning for each that was appended, when cleaning starts... */
    RATE_MIN = 4,
    RATE_DOUBLINGS_MAX = 4, /* ...and twice that with each segment less */
    SCAN_COST = 64,         /* of looking at one record, in bytes of budget */
};

/* One victim needs at most one free segment, and the next one another while the first is on its
 * way. */
static uint32_t reserve_of(uint32_t count, enum append_class class)
{
    uint32_t step = count >= SEGMENTS_MANY ? 2 : 1;
    if (class == APPEND_GROWING && count < SEGMENTS_FEW)
        class = APPEND_OVERWRITE;
    return step * (1 + (uint32_t) class);
}

uint32_t clean_reserve(const struct store *store, enum append_class class)
{
    return reserve_of(log_segment_count(store->log), class);
}

bool clean_leaves_room(const struct store *store, enum append_class class)
{
    return log_segment_free_count(store->log) >= clean_reserve(store, class);
}

static uint64_t log_bytes(uint32_t count, uint32_t reserve, uint64_t room)
{
    return count > reserve ? (count - reserve) * room : 0;
}

uint64_t clean_log_bytes(const struct store *store)
{
    return log_bytes(log_segment_limit(store->log), clean_reserve(store, APPEND_GROWING),
                     log_record_size_max(store->log));
}

uint64_t clean_live_max(const struct store *store)
{
    return clean_log_bytes(store) / (LIVE_SHARE + 1) * LIVE_SHARE;
}

uint32_t store_segment_count(uint64_t live_bytes, uint32_t segment_size)
{
    uint64_t room = segment_size - LOG_SEGMENT_OVERHEAD;
    /* Eviction begins a little before there is no room at all: so many bytes are to fit before it
     * does. */
    live_bytes += live_bytes / (EVICT_MARGIN_SHARE - 1) + 1;
    uint64_t bytes = (live_bytes + LIVE_SHARE - 1) / LIVE_SHARE * (LIVE_SHARE + 1);
    uint64_t count = (bytes + room - 1) / room;
    count += reserve_of(SEGMENTS_MANY, APPEND_GROWING);
    return count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
}

uint64_t store_live_max(uint32_t segment_count, uint32_t segment_size)
{
    return log_bytes(segment_count, reserve_of(segment_count, APPEND_GROWING),
                     segment_size - LOG_SEGMENT_OVERHEAD) /
           (LIVE_SHARE + 1) * LIVE_SHARE;
}

/* ---- choosing ---- */

static bool has_cold_tail(const struct store *store)
{
    return log_segment_limit(store->log) >= SEGMENTS_MANY;
}

/* Nothing is appended to it any more, and nothing in it can still be lost. */
static bool may_go(const struct store *store, uint32_t number)
{
    return log_segment(store->log, number)->state == SEGMENT_SEALED &&
           (log_segment_is_durable(store->log, number) || FAULT(COPY_EARLY));
}

/* The cold tail: cleaning may end it and clean it, when it stands in the way. */
static bool is_cold_tail(const struct store *store, uint32_t number)
{
    const struct segment *segment = log_segment(store->log, number);
    return segment->state == SEGMENT_OPEN && segment->stream == STREAM_COLD;
}

static double gain_of(const struct store *store, const struct segment *segment)
{
    double dead = segment->used - segment->live, size = log_record_size_max(store->log);
    double age = (double)(log_tail(store->log) - segment->lsn_base);
    bool greedy = store->policy == POLICY_GREEDY || !has_cold_tail(store);
    return greedy ? dead : dead * dead * age / (size + segment->live);
}

static uint32_t best_gain(const struct store *store)
{
    uint64_t dead_min = log_record_size_max(store->log) / GAIN_SHARE + GAIN_MIN;
    double gain_max = -1;
    uint32_t victim = VICTIM_NONE;
    for (uint32_t i = 0; i < log_segment_count(store->log); i++) {
        const struct segment *segment = log_segment(store->log, i);
        bool ended = may_go(store, i) || (is_cold_tail(store, i) && !has_cold_tail(store));
        if (!ended || segment->used - segment->live <= dead_min)
            continue;
        double gain = gain_of(store, segment);
        if (gain <= gain_max)
            continue;
        gain_max = gain;
        victim = i;
    }
    return victim;
}

/* Also the cold tail: it may have been opened before any other segment that is left. */
static uint32_t oldest(const struct store *store)
{
    uint32_t victim = VICTIM_NONE;
    for (uint32_t i = 0; i < log_segment_count(store->log); i++) {
        const struct segment *segment = log_segment(store->log, i);
        if ((may_go(store, i) || is_cold_tail(store, i)) &&
            (victim == VICTIM_NONE ||
             segment->lsn_base < log_segment(store->log, victim)->lsn_base))
            victim = i;
    }
    return victim;
}

static bool tombstones_heavy(const struct store *store)
{
    return !store->forgetful && store->drop.lsn > 0 &&
           store->tombstone_bytes > clean_log_bytes(store) / TOMBSTONE_SHARE;
}

/* While little is copied, the cold tail stays open until all else is younger: what it holds of
 * tombstones would never leave. */
static bool may_sweep(const struct store *store)
{
    return !store->forgetful && store->drop.lsn > 0 && store->tombstone_bytes > 0;
}

/* Everything was copied twice and nothing died meanwhile: more of it would gain nothing. */
static bool stalled(const struct store *store)
{
    return store->copied > 2 * log_segment_count(store->log) * log_record_size_max(store->log);
}

static uint32_t damaged(const struct store *store)
{
    for (uint32_t i = 0; store->repair && i < log_segment_count(store->log); i++)
        if (log_segment_is_damaged(store->log, i) && may_go(store, i))
            return i;
    return VICTIM_NONE;
}

/* The log may take fewer segments than it did before the last start, and what lives fits in these.
 */
static bool is_over(const struct store *store)
{
    return log_segment_count(store->log) > log_segment_limit(store->log) &&
           store->stats.live_bytes <= clean_live_max(store);
}

/* The last segment is free and above the limit, and not needed as room. */
static bool can_come_down(const struct store *store)
{
    uint32_t last = log_segment_count(store->log) - 1;
    return is_over(store) && log_segment(store->log, last)->state == SEGMENT_FREE &&
           log_segment_free_count(store->log) > clean_reserve(store, APPEND_GROWING) + 1;
}

static void come_down(struct store *store)
{
    while (can_come_down(store) && log_drop_last(store->log))
        ;
}

/* The last segment beyond the limit, if there is a free one within for what lives in it. */
static uint32_t surplus(const struct store *store)
{
    uint32_t victim = VICTIM_NONE, limit = log_segment_limit(store->log);
    bool room = false;
    for (uint32_t i = 0; i < limit; i++)
        room = room || log_segment(store->log, i)->state == SEGMENT_FREE;
    for (uint32_t i = limit; room && i < log_segment_count(store->log); i++)
        if (may_go(store, i) || is_cold_tail(store, i))
            victim = i;
    return victim;
}

static uint32_t choose(const struct store *store)
{
    if (damaged(store) != VICTIM_NONE)
        return damaged(store);
    if (stalled(store))
        return VICTIM_NONE;
    if (is_over(store) && surplus(store) != VICTIM_NONE)
        return surplus(store);
    uint32_t victim = may_sweep(store) ? oldest(store) : VICTIM_NONE;
    if (victim != VICTIM_NONE &&
        (is_cold_tail(store, victim) ||
         (tombstones_heavy(store) && log_segment(store->log, victim)->lsn_max < store->drop.lsn)))
        return victim;
    return best_gain(store);
}

/* Cleaning starts when so many are left. */
static uint32_t free_start(const struct store *store)
{
    return clean_reserve(store, APPEND_GROWING) + 1 + log_segment_count(store->log) / START_SHARE;
}

static bool room_is_low(const struct store *store)
{
    return log_segment_free_count(store->log) <= free_start(store);
}

/* A sweep for tombstones copies everything, so it has to be worth it. */
static bool live_is_high(const struct store *store)
{
    return store->stats.live_bytes > clean_live_max(store) / 8 * 7;
}

bool store_wants_cleaning(const struct store *store)
{
    if (store->victim != VICTIM_NONE || can_come_down(store))
        return true;
    bool wanted = damaged(store) != VICTIM_NONE || room_is_low(store) || is_over(store) ||
                  (live_is_high(store) && tombstones_heavy(store));
    return wanted && choose(store) != VICTIM_NONE;
}

/* ---- copying ---- */

/* Where the oldest segment other than the victim begins. It only rises while the victim is cleaned,
 * so it need not be looked for at each record. */
static void note_oldest_left(struct store *store)
{
    store->oldest_left = UINT64_MAX;
    for (uint32_t i = 0; i < log_segment_count(store->log); i++) {
        const struct segment *segment = log_segment(store->log, i);
        if (i != store->victim && segment->state != SEGMENT_FREE &&
            segment->lsn_base < store->oldest_left)
            store->oldest_left = segment->lsn_base;
    }
}

/* No version older than `lsn` can be left outside the victim: copies of one were made before it was
 * appended, so into segments that had been opened. */
static bool older_have_left(const struct store *store, uint64_t lsn)
{
    return store->forgetful || store->oldest_left > lsn || FAULT(DROP_BEFORE_OLDER);
}

/* A discard says that the log holds nothing of its key, a tombstone that the group does not. */
static bool may_drop(const struct store *store, const struct found *found)
{
    const struct record *record = found->record;
    if (record->kind != RECORD_TOMBSTONE && record->kind != RECORD_DISCARD)
        return false;
    bool waits = record->kind == RECORD_TOMBSTONE || FAULT(DISCARDS_STAY);
    bool needed =
        found->state != STATE_VALID ||
        (waits && (found->lsn >= store->drop.lsn || ts_version(record->ts) > store->drop.floor));
    if (needed && !FAULT(DROP_TOMBSTONE_EARLY))
        return false;
    return older_have_left(store, found->lsn);
}

static void drop(struct store *store, const struct found *found)
{
    struct slice key = record_key(found->record);
    store_count_dead(store, found->record, found->place);
    index_remove(store, hash_key(key), found->entry);
}

/* Where no scan will ever be, a tombstone needs no segment to be cleaned: it goes where it lies,
 * the oldest first. Some stay: who sets a key again soon after it was evicted is known by them
 * (recovery/evict.h). */
static void drop_in_place(struct store *store, uint64_t budget)
{
    struct found found;
    while (store->tombstone_bytes > clean_log_bytes(store) / TOMBSTONES_KEPT_SHARE &&
           store->drop_walked < store->drop.lsn) {
        const struct store_cursor before = store->dropped;
        if (!store_walk(store, &store->dropped, 0, &budget, &found)) {
            store->dropped = (struct store_cursor){0};
            store->drop_walked = log_tail(store->log);
            return;
        }
        if (found.record == NULL)
            return;
        if (found.lsn >= store->drop.lsn) {
            store->dropped = before; /* what follows is younger still */
            return;
        }
        if (may_drop(store, &found)) {
            store_begin(store);
            drop(store, &found);
            store_commit(store);
        }
    }
}

static enum status copy(struct store *store, const struct record *record, place_t place,
                        place_t *to)
{
    /* A copy gets a checksum of its own: what has rotted since the start would be right again. */
    if (!store->forgetful && !log_is_sound(store->log, place) && !FAULT(COPY_BELIEVES))
        store_end_broken(store, (uint32_t)(place >> PLACE_UNIT_BITS));
    enum log_stream stream =
        has_cold_tail(store) && store->policy == POLICY_BEST ? STREAM_COLD : STREAM_HOT;
    enum status status = log_copy_nodrain(store->log, place, stream, to);
    if (status != STATUS_OK)
        return status;
    store->stats.cleaned_bytes += record_size(record);
    store->copied += record_size(record);
    return STATUS_OK;
}

/* Copies or drops a record if it is current. *cost: in bytes of budget. */
static enum status treat(struct store *store, const struct record *record, place_t place,
                         uint64_t *cost)
{
    place_t to;
    enum status status;
    *cost = SCAN_COST;
    if (record->kind == RECORD_MARK) {
        if (!mark_is_current(store, place))
            return STATUS_OK;
        status = copy(store, record, place, &to);
        if (status == STATUS_OK)
            mark_moved(store, place, to);
        return status;
    }
    struct found found;
    uint64_t hash = hash_key(record_key(record));
    uint64_t *entry = index_find_place(store, hash, place);
    if (entry == NULL)
        return STATUS_OK;
    store_fill_found(store, entry, &found);
    if (may_drop(store, &found)) {
        drop(store, &found);
        return STATUS_OK;
    }
    *cost += record_size(record);
    status = copy(store, record, place, &to);
    if (status == STATUS_OK) {
        journal_note(store->journal, found.entry, sizeof(*found.entry));
        entry_store(found.entry, entry_make(store, hash, found.state, to));
    }
    return status;
}

/* False: it can't go on now. */
static bool step(struct store *store, uint64_t *budget)
{
    uint32_t offset = store->victim_offset;
    place_t place;
    const struct record *record = store_segment_next(store, store->victim, &offset, &place);
    if (record == NULL) {
        /* A record whose sizes have rotted hides those behind it. */
        if (log_segment(store->log, store->victim)->live != 0 && !FAULT(GIVE_ALIVE))
            store_end_broken(store, store->victim);
        log_segment_give(store->log, store->victim);
        store->victim = VICTIM_NONE;
        return true;
    }
    uint64_t cost;
    store_begin(store);
    enum status status = treat(store, record, place, &cost);
    store_commit(store);
    if (status != STATUS_OK)
        return false;
    store->victim_offset = offset;
    *budget -= cost < *budget ? cost : *budget;
    return true;
}

static void begin(struct store *store)
{
    store->victim = choose(store);
    store->victim_offset = 0;
    if (store->victim == VICTIM_NONE ||
        log_segment(store->log, store->victim)->state != SEGMENT_OPEN)
        return;
    store_begin(store);
    log_stream_end(store->log, STREAM_COLD);
    store_commit(store);
}

void clean_more(struct store *store, uint64_t budget)
{
    for (; budget > 0; come_down(store)) {
        if (!store_wants_cleaning(store))
            return;
        if (store->victim == VICTIM_NONE)
            begin(store);
        note_oldest_left(store);
        while (budget > 0 && store->victim != VICTIM_NONE)
            if (!step(store, &budget))
                return;
    }
}

void store_repair(struct store *store)
{
    store->repair = true;
}

void store_clean(struct store *store, const struct store_drop *drop, uint64_t budget)
{
    store->drop = *drop;
    if (store->forgetful && drop->lsn > 0)
        drop_in_place(store, DROP_BUDGET);
    clean_more(store, budget);
}

static uint64_t turn_budget(const struct store *store, uint64_t appended)
{
    uint32_t start = free_start(store), free = log_segment_free_count(store->log);
    uint32_t missing = free < start ? start - free : 0;
    uint64_t rate = RATE_MIN << (missing < RATE_DOUBLINGS_MAX ? missing : RATE_DOUBLINGS_MAX);
    uint64_t budget = TURN_BUDGET_MIN + rate * appended, max = TURN_BUDGET_MAX + 2 * appended;
    return budget < max ? budget : max;
}

void store_clean_turn(struct store *store, const struct store_drop *drop)
{
    uint64_t budget = turn_budget(store, store->appended - store->appended_before);
    store->appended_before = store->appended;
    store_clean(store, drop, budget);
}

/* Segments that were given back and are not free yet, or that may be cleaned soon. */
static bool segments_coming(const struct store *store)
{
    for (uint32_t i = 0; i < log_segment_count(store->log); i++) {
        enum segment_state state = log_segment(store->log, i)->state;
        if (state == SEGMENT_DRAINING || state == SEGMENT_ERASING ||
            (state == SEGMENT_SEALED && !may_go(store, i)))
            return true;
    }
    return false;
}

bool clean_frees_segments(const struct store *store)
{
    return store->victim != VICTIM_NONE || segments_coming(store) || choose(store) != VICTIM_NONE;
}

bool clean_drops_tombstones(const struct store *store)
{
    return tombstones_heavy(store) && clean_frees_segments(store);
}
