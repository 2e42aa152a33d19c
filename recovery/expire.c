#include "recovery/expire.h"

#include "base/hash.h"

enum {
    TURN_US = 10000,
    CHAINS = 256, /* in one turn: some 0.1 ms */
    TRIES_MAX = 20,
};

void expire_init(struct expire *expire)
{
    deletes_init(&expire->deletes);
}

/* Shares have changed hands: what others would have deleted may be this node's now. */
void expire_on_view(struct expire *expire, struct replica *replica)
{
    expire->walking = false;
    expire->rest_us = 0;
    expire->flushed_ts = 0;
    struct store_stats stats;
    store_stats(replica->store, &stats);
    if (stats.expiring_count > 0)
        store_set_expires_first(replica->store, 0);
}

/* ---- one chain ---- */

struct chain {
    struct expire *expire;
    struct store_share share;
    uint32_t now;
    unsigned count;
    uint64_t hashes[EXPIRE_FOUND];
};

static bool is_flushed(const struct chain *chain, const struct found *found)
{
    return replica_under_flush(found->record->key_size) &&
           found->record->ts < chain->expire->flush_ts;
}

static void visit(void *user, const struct found *found)
{
    struct chain *chain = user;
    struct expire *expire = chain->expire;
    const struct record *record = found->record;
    expire->checked++;
    if (record->kind != RECORD_VALUE || !replica_under_flush(record->key_size))
        return;
    uint32_t exptime = record_exptime(record);
    bool over = exptime != 0 && exptime <= chain->now;
    if (!over && !is_flushed(chain, found)) {
        if (exptime != 0 && exptime < expire->first)
            expire->first = exptime;
        return;
    }
    uint64_t hash = hash_key(record_key(record));
    if (!store_share_has(&chain->share, hash))
        return;
    if (chain->count < EXPIRE_FOUND)
        chain->hashes[chain->count++] = hash;
    else
        expire->left = true;
}

/* False: some are not at rest, or there is no room now. */
static bool delete_found(struct expire *expire, struct replica *replica, const struct chain *chain)
{
    bool all = true;
    for (unsigned i = 0; i < chain->count; i++) {
        struct found found;
        if (store_find_hash(replica->store, chain->hashes[i], &found) &&
            !deletes_start(&expire->deletes, replica, REQUEST_EXPIRE, &found))
            all = false;
    }
    return all;
}

/* ---- the walk ---- */

static void take_finished(struct expire *expire, struct replica *replica)
{
    const struct request *request;
    while ((request = deletes_take(&expire->deletes)) != NULL) {
        if (request->outcome != OUTCOME_DELETED)
            continue;
        expire->deleted++;
        replica->expired++;
        replica->expired_unfetched += !request->seen.fetched;
    }
}

static bool is_due(const struct expire *expire, const struct replica *replica)
{
    if (replica->mono_us < expire->rest_us)
        return false;
    bool flushed =
        replica->flush.known && replica->flush.valid && replica->flush.ts != expire->flushed_ts;
    return flushed || store_expires_first(replica->store) <= replica_now(replica);
}

static void begin(struct expire *expire, struct replica *replica)
{
    expire->walking = true;
    expire->position = 0;
    expire->first = UINT32_MAX;
    expire->left = false;
    expire->flush_ts = replica->flush.known && replica->flush.valid ? replica->flush.ts : 0;
    expire->walks++;
    store_set_expires_first(replica->store, UINT32_MAX); /* what is put meanwhile lowers it */
}

static void end(struct expire *expire, struct replica *replica)
{
    expire->walking = false;
    expire->rest_us = replica->mono_us + EXPIRE_REST_US;
    if (expire->left)
        expire->first = 0;
    else
        expire->flushed_ts = expire->flush_ts;
    if (expire->first < store_expires_first(replica->store))
        store_set_expires_first(replica->store, expire->first);
}

static bool is_in_a_hurry(const struct replica *replica)
{
    return replica->starved > 0 || replica_excess(replica) > 0;
}

/* One chain. False: enough for this turn. What can't be deleted now is tried again for some turns,
 * then left to the next walk. */
static bool walk_chain(struct expire *expire, struct replica *replica)
{
    if (expire->deletes.free_count < EXPIRE_FOUND)
        return false;
    struct chain chain = {
        .expire = expire, .share = deletes_share(replica), .now = replica_now(replica)};
    uint64_t before = expire->position;
    if (!store_scan(replica->store, &expire->position, visit, &chain)) {
        end(expire, replica);
        return false;
    }
    if (delete_found(expire, replica, &chain)) {
        expire->tries = 0;
        return true;
    }
    if (expire->tries++ < TRIES_MAX) {
        expire->position = before;
        return false;
    }
    expire->tries = 0;
    expire->left = true;
    return true;
}

void expire_on_tick(struct expire *expire, struct replica *replica)
{
    take_finished(expire, replica);
    bool due = replica->mono_us - expire->turn_us >= TURN_US || is_in_a_hurry(replica);
    if (!replica_is_member(replica) || !due)
        return;
    expire->turn_us = replica->mono_us;
    if (!expire->walking && is_due(expire, replica))
        begin(expire, replica);
    for (unsigned i = 0; expire->walking && i < CHAINS; i++)
        if (!walk_chain(expire, replica))
            return;
}

bool expire_wants_turn(const struct expire *expire, const struct replica *replica)
{
    return expire->walking && is_in_a_hurry(replica) && expire->deletes.free_count >= EXPIRE_FOUND;
}
