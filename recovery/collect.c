#include "recovery/collect.h"

#include <string.h>

#include "base/hash.h"

static bool self_is_lowest(const struct replica *replica)
{
    return (replica->view.members & (uint8_t)(node_bit(replica->options.self) - 1)) == 0;
}

enum need {
    NEEDED,     /* the value's record names it */
    OPEN,       /* that record is not VALID: not known now */
    NOT_NEEDED, /* and never will be, if the upload is over */
};

/* The record that says that no value is older than it. */
static uint64_t flush_lsn(const struct replica *replica)
{
    struct slice key = slice_make("", 0);
    struct found found;
    return store_find(replica->store, key, hash_key(key), &found) ? found.lsn : 0;
}

/* Its word, and the bit in that. */
static uint64_t *upload_bit(struct collect_uploads *set, uint64_t upload, uint64_t *bit)
{
    uint64_t number = hash_key(slice_make(&upload, sizeof(upload))) % COLLECT_UPLOADS;
    *bit = (uint64_t)1 << number % 64;
    return &set->bits[number / 64];
}

/* Whether the current record of the value's key names the upload. *since: the lsn of the record
 * that says that it does not; UINT64_MAX: there is none. */
static enum need need_of(const struct replica *replica, const struct found *orphan, uint64_t *since)
{
    const struct record *piece = orphan->record;
    struct slice key = piece_client_key(record_value(piece));
    struct found found;
    *since = UINT64_MAX;
    if (!store_find(replica->store, key, hash_key(key), &found))
        return NOT_NEEDED;
    if (found.state != STATE_VALID)
        return OPEN;
    const struct record *record = found.record;
    bool flushed = replica->flush.known && record->ts < replica->flush.ts;
    if (flushed && !replica->flush.valid)
        return OPEN;
    bool names = record->kind == RECORD_VALUE && (record->flags & RECORD_LARGE) &&
                 manifest_of(record_value(record)).upload == piece_upload(piece);
    if (names && !flushed && !FAULT(COLLECT_NEEDED))
        return NEEDED;
    *since = flushed ? flush_lsn(replica) : found.lsn;
    return NOT_NEEDED;
}

/* False: too many are under way. */
static bool delete_piece(struct collect *collect, struct replica *replica, struct slice key)
{
    for (unsigned i = 0; i < COLLECT_DELETES; i++) {
        struct collect_delete *delete = &collect->deletes[i];
        if (delete->busy)
            continue;
        memcpy(delete->key, key.data, key.size);
        delete->request = (struct request){
            .type = REQUEST_DELETE,
            .key = slice_make(delete->key, key.size),
            .hash = hash_key(key),
            .busy = &delete->busy,
        };
        delete->busy = true;
        collect->deleted++;
        replica_on_request(replica, &delete->request);
        return true;
    }
    return false;
}

/* Dead pieces count as live data. With no more than a quarter left, values and their readers
 * compete for room. */
static bool is_short_of_room(const struct replica *replica, const struct store_stats *stats)
{
    return stats->live_bytes > stats->live_max / 4 * 3 ||
           replica->replaced.count > REPLACED_COUNT_MAX / 4 * 3;
}

/* Whoever reads what went at `then_us` has had time enough. */
static bool grace_is_over(const struct collect *collect, const struct replica *replica,
                          uint64_t then_us)
{
    return replica->mono_us >= then_us + collect->period_us / 2;
}

static bool may_hurry(const struct collect *collect)
{
    return collect->short_of_room || FAULT(COLLECT_AT_ONCE);
}

/* ---- what this node has replaced itself ---- */

/* One piece of the oldest. False: nothing can be done now. */
static bool collect_replaced(struct collect *collect, struct replica *replica)
{
    struct replaced *replaced = &replica->replaced;
    if (replaced->count == 0 ||
        !(grace_is_over(collect, replica, replaced->since_us[replaced->head]) ||
          may_hurry(collect)))
        return false;
    struct manifest manifest = replaced->manifests[replaced->head];
    uint8_t bytes[PIECE_KEY_SIZE];
    struct found found;
    uint64_t since;
    piece_key(manifest.upload, collect->number, bytes);
    struct slice key = slice_make(bytes, sizeof(bytes));
    enum need need = NOT_NEEDED;
    if (collect->number >= piece_count(manifest.size)) {
        need = NEEDED; /* All are gone. */
    } else if (store_find(replica->store, key, hash_key(key), &found) &&
               found.record->kind == RECORD_VALUE) {
        if (found.state != STATE_VALID)
            return false;
        need = need_of(replica, &found, &since);
        if (need == OPEN || (need == NOT_NEEDED && !delete_piece(collect, replica, key)))
            return false;
    }
    collect->number++;
    if (need == NEEDED) {
        replaced->head = (replaced->head + 1) % REPLACED_COUNT_MAX;
        replaced->count--;
        collect->number = 0;
    }
    return true;
}

/* ---- what nobody has replaced ---- */

/* This node is the one to judge the piece. */
static bool is_judge(const struct collect *collect, const struct replica *replica,
                     const struct record *piece)
{
    uint64_t upload = piece_upload(piece);
    unsigned node = ts_node(upload);
    if (node == replica->options.self)
        return upload < collect->upload_floor || !replica_takes_upload(replica, upload) ||
               FAULT(COLLECT_UPLOADING);
    if ((replica->view.members & node_bit(node)) != 0)
        return false;
    return self_is_lowest(replica);
}

/* Whoever reads it has had time enough. */
static bool is_long_replaced(struct collect *collect, uint64_t upload, uint64_t since)
{
    uint64_t bit;
    if (since != UINT64_MAX)
        return since < collect->seen_lsn;
    *upload_bit(&collect->absent, upload, &bit) |= bit;
    return (*upload_bit(&collect->seen, upload, &bit) & bit) != 0 || FAULT(COLLECT_FORGOTTEN);
}

static bool is_orphan(struct collect *collect, const struct replica *replica,
                      const struct round *round, const struct found *found)
{
    const struct record *piece = found->record;
    uint64_t since;
    if (piece->kind != RECORD_VALUE || piece->key_size != PIECE_KEY_SIZE ||
        found->state != STATE_VALID)
        return false;
    if (found->lsn >= round->stable_mark && !FAULT(COLLECT_UNSTABLE))
        return false;
    return is_judge(collect, replica, piece) && need_of(replica, found, &since) == NOT_NEEDED &&
           (is_long_replaced(collect, piece_upload(piece), since) || may_hurry(collect));
}

static void walk(struct collect *collect, struct replica *replica, const struct round *round)
{
    uint64_t budget = replica_walk_budget(replica, COLLECT_WALK_BUDGET, &collect->tail);
    struct found found;
    if (grace_is_over(collect, replica, collect->noted_us)) {
        collect->seen_lsn = collect->noted_lsn;
        collect->seen = collect->noted;
    }
    collect->walks = true;
    while (store_walk(replica->store, &collect->cursor, 0, &budget, &found)) {
        if (found.record == NULL)
            return;
        if (is_orphan(collect, replica, round, &found) &&
            !delete_piece(collect, replica, record_key(found.record)))
            return; /* Whoever is passed over now is met by the next walk. */
    }
    collect->cursor = (struct store_cursor){0};
    collect->walks = false;
    collect->tail = 0;
    if (grace_is_over(collect, replica, collect->noted_us)) {
        collect->noted_lsn = log_tail(store_log(replica->store));
        collect->noted = collect->absent;
        collect->absent = (struct collect_uploads){.bits = {0}};
        collect->noted_us = replica->mono_us;
    }
    collect->walk_us =
        replica->mono_us + collect->period_us / (collect->short_of_room ? COLLECT_HASTE : 1);
}

void collect_on_tick(struct collect *collect, struct replica *replica, const struct round *round)
{
    struct store_stats stats;
    store_stats(replica->store, &stats);
    collect->hurries = false;
    if (stats.piece_count == 0 || !replica_is_member(replica))
        return;
    collect->short_of_room = is_short_of_room(replica, &stats);
    while (collect_replaced(collect, replica))
        collect->hurries = collect->short_of_room;
    if (replica->mono_us >= collect->walk_us)
        walk(collect, replica, round);
}

bool collect_wants_turn(const struct collect *collect)
{
    return collect->walks || collect->hurries;
}
