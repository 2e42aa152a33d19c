#include "recovery/evict.h"

#include <string.h>

#include "base/hash.h"

enum {
    PROBATION_SHARE = 10,  /* of the live data */
    CHECKPOINT_SHARE = 16, /* of that */
    QUANTUM_SHARE = 1024,  /* of the room for live data */
    LEVEL_SHARE = 256,     /* of the room for live data */
    LEVEL_US = 1000000,
    CHAINS_MAX = 512,    /* of the index that the main hand looks at in a turn */
    WALK_MAX = 64 << 10, /* bytes of budget of the young hand in a turn */
    CHAIN_KEYS = 12,     /* more in one chain than that are passed over */
    ASK_PATIENCE_US = 1000000,
    PEERS_US = 200000,                         /* to make room in their shares */
    VAIN_US = 100000,                          /* before the next try */
    TURNS_MAX = 2 * (STORE_FREQUENCY_MAX + 1), /* of the main hand in vain */
    TURNS_YOUNG = STORE_FREQUENCY_MAX + 1,     /* then the probation ends for all */
};

static bool is_on(const struct replica *replica)
{
    return replica->options.evicts && replica_is_member(replica);
}

static uint8_t other_members(const struct replica *replica)
{
    return replica->view.members & (uint8_t)~node_bit(replica->options.self);
}

void evict_init(struct evict *evict, const struct replica *replica)
{
    deletes_init(&evict->deletes);
    evict->probation_lsn = log_tail(store_log(replica->store));
}

void evict_on_view(struct evict *evict)
{
    memset(evict->batches, 0, sizeof(evict->batches));
    evict->open = NULL;
}

/* ---- how much ---- */

/* Pieces of large values that are about to go. */
static uint64_t going_bytes(const struct replica *replica)
{
    const struct replaced *replaced = &replica->replaced;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < replaced->count; i++)
        bytes += replaced->manifests[(replaced->head + i) % REPLACED_COUNT_MAX].size;
    return bytes;
}

/* What somebody's store has too much, and who waits lacks. */
static uint64_t excess(const struct replica *replica)
{
    struct store_stats stats;
    uint64_t most = replica_excess(replica);
    for (unsigned node = 0; node <= NODE_COUNT_MAX; node++)
        if (replica->excess[node] > most)
            most = replica->excess[node];
    if (replica->starved == 0)
        return most;
    store_stats(replica->store, &stats);
    uint64_t wanted = stats.live_bytes + replica->starved;
    uint64_t lacks = wanted > stats.live_max ? wanted - stats.live_max : 0;
    return lacks > most ? lacks : most;
}

/* Cleaning does not always reach what the store says it can hold: while somebody waits, here or
 * elsewhere, though there seems to be room, the level sinks, and all members make room down to it,
 * each in its share. It rises again as slowly as it has to. */
static void move_level(struct evict *evict, struct replica *replica)
{
    struct store_stats stats;
    bool stuck = replica->starved != 0 || store_is_full(replica->store);
    if (replica->options.evict_above != 0 ||
        replica->mono_us - evict->level_us < (stuck ? TICK_US : LEVEL_US))
        return;
    store_stats(replica->store, &stats);
    uint64_t step = stats.live_max / LEVEL_SHARE;
    uint64_t level = replica->evict_level;
    if (stuck && stats.live_bytes + replica->starved <= stats.live_max) {
        if (level == 0 || level > stats.live_bytes)
            level = stats.live_bytes;
        replica->evict_level = level > 2 * step ? level - step : step;
    } else if (level != 0 && !stuck) {
        replica->evict_level = level + step < stats.live_max ? level + step : 0;
    }
    evict->level_us = replica->mono_us;
}

/* Less is not worth a start: who has it first would do all the work, and the others, who hear of it
 * a moment later, none. */
static uint64_t quantum(const struct replica *replica)
{
    struct store_stats stats;
    store_stats(replica->store, &stats);
    return replica->options.evict_above != 0 ? 0 : stats.live_max / QUANTUM_SHARE;
}

/* It is another's store that is full, a smaller one. */
static bool is_far_from_full(const struct replica *replica)
{
    struct store_stats stats;
    store_stats(replica->store, &stats);
    return stats.live_bytes < stats.live_max / 8 * 7 && replica->evict_level == 0;
}

/* Of that, what falls to this node and is not under way. */
static uint64_t need(const struct evict *evict, const struct replica *replica)
{
    uint64_t all = excess(replica), under_way = 0;
    if (all == 0)
        return 0;
    uint64_t going = going_bytes(replica);
    all = all > going ? all - going : 0;
    for (unsigned i = 0; i < EVICT_BATCHES; i++)
        under_way += evict->batches[i].bytes;
    unsigned count = deletes_share(replica).count;
    uint64_t mine = (all + count - 1) / count;
    bool waits =
        replica->starved != 0 || replica_group_is_full(replica) || is_far_from_full(replica);
    if (mine < quantum(replica) && !waits)
        return 0;
    return mine > under_way ? mine - under_way : 0;
}

static uint64_t gain_of(const struct record *record)
{
    uint64_t gain = record_size(record) - record_size_of(record->key_size, 0, 0);
    return gain + 1 + ((record->flags & RECORD_LARGE) ? manifest_of(record_value(record)).size : 0);
}

/* What the others have said of their stores is older than this: they will have `gain` more. */
static void note_gain(struct replica *replica, uint64_t gain)
{
    gain *= deletes_share(replica).count;
    for (unsigned node = 0; node <= NODE_COUNT_MAX; node++)
        replica->excess[node] -= gain < replica->excess[node] ? gain : replica->excess[node];
    replica->starved -= gain < replica->starved ? gain : replica->starved;
}

/* ---- deleting ---- */

static void note_evicted(struct evict *evict, struct replica *replica,
                         const struct request *request)
{
    struct found found;
    evict->evictions++;
    evict->unfetched += !request->seen.fetched;
    if (store_find(replica->store, request->key, request->hash, &found) &&
        found.record->kind == RECORD_TOMBSTONE)
        store_set_frequency(replica->store, &found, 1);
    struct action action = {
        .type = ACTION_EVICTED, .key = request->key, .epoch = replica->view.epoch};
    struct request seen = *request;
    action.request = &seen;
    replica->actions->take(replica->actions->user, &action);
}

static void take_finished(struct evict *evict, struct replica *replica)
{
    const struct request *request;
    while ((request = deletes_take(&evict->deletes)) != NULL) {
        if (request->outcome != OUTCOME_DELETED)
            continue;
        if (request->type == REQUEST_EVICT) {
            note_evicted(evict, replica, request);
        } else {
            replica->expired++;
            replica->expired_unfetched += !request->seen.fetched;
        }
    }
}

static void delete_candidate(struct evict *evict, struct replica *replica,
                             const struct evict_candidate *candidate)
{
    struct found found;
    if (!deletes_have_room(&evict->deletes) ||
        !store_find_hash(replica->store, candidate->hash, &found) ||
        (found.record->ts != candidate->ts && !FAULT(EVICT_ANY)) ||
        found.record->kind != RECORD_VALUE)
        return;
    uint64_t gain = gain_of(found.record);
    enum request_type type =
        replica_shows(replica, &found, replica_now(replica)) || FAULT(EVICT_PIECES)
            ? REQUEST_EVICT
            : REQUEST_EXPIRE;
    if (deletes_start(&evict->deletes, replica, type, &found))
        note_gain(replica, gain);
}

static void delete_batch(struct evict *evict, struct replica *replica, struct evict_batch *batch)
{
    const struct evict_batch done = *batch;
    *batch = (struct evict_batch){.number = 0};
    for (unsigned i = 0; i < done.count; i++) {
        if ((done.kept >> i & 1) == 0)
            delete_candidate(evict, replica, &done.candidates[i]);
        else
            evict->kept++;
    }
}

/* ---- asking ---- */

static void send_ask(struct evict *evict, struct replica *replica, struct evict_batch *batch)
{
    uint64_t hashes[EVICT_BATCH];
    static_assert(sizeof(hashes) <= RECORD_KEY_SIZE_MAX, "they fit into the message's key");
    for (unsigned i = 0; i < batch->count; i++)
        hashes[i] = batch->candidates[i].hash;
    struct message message = replica_message(replica, MSG_EVICT_ASK);
    message.number[0] = batch->number;
    batch->waits = other_members(replica);
    batch->sent_us = replica->mono_us;
    evict->asked += batch->count;
    replica_send(replica, batch->waits, false, &message,
                 slice_make(hashes, batch->count * sizeof(hashes[0])), slice_make(NULL, 0));
}

void evict_on_ask(struct replica *replica, const struct message *message)
{
    struct message answer = replica_message(replica, MSG_EVICT_KEEP);
    struct slice hashes = message_key(message);
    answer.number[0] = message->number[0];
    for (unsigned i = 0; i < EVICT_BATCH && (i + 1) * sizeof(uint64_t) <= hashes.size; i++) {
        uint64_t hash;
        struct found found;
        memcpy(&hash, (const uint8_t *)hashes.data + i * sizeof(hash), sizeof(hash));
        if (!store_find_hash(replica->store, hash, &found))
            continue;
        unsigned frequency = store_frequency(replica->store, &found);
        if (frequency == 0)
            continue;
        store_set_frequency(replica->store, &found, frequency - 1);
        answer.number[1] |= (uint64_t)1 << i;
    }
    replica_send(replica, node_bit(message->from), false, &answer, slice_make(NULL, 0),
                 slice_make(NULL, 0));
}

void evict_on_keep(struct evict *evict, struct replica *replica, const struct message *message)
{
    for (unsigned i = 0; i < EVICT_BATCHES; i++) {
        struct evict_batch *batch = &evict->batches[i];
        if (batch->number == 0 || batch->number != message->number[0] || batch == evict->open)
            continue;
        batch->waits &= (uint8_t)~node_bit(message->from);
        batch->kept |= (uint32_t)message->number[1];
        if (batch->waits == 0)
            delete_batch(evict, replica, batch);
    }
    evict_advance(evict, replica);
}

/* A channel that broke has lost the question, or its answer. */
static void give_up_late(struct evict *evict, const struct replica *replica)
{
    for (unsigned i = 0; i < EVICT_BATCHES; i++) {
        struct evict_batch *batch = &evict->batches[i];
        if (batch->waits != 0 && replica->mono_us - batch->sent_us > ASK_PATIENCE_US)
            *batch = (struct evict_batch){.number = 0};
    }
}

/* ---- choosing ---- */

static void open_batch(struct evict *evict)
{
    unsigned pending = DELETES_MAX - evict->deletes.free_count;
    struct evict_batch *free = NULL;
    for (unsigned i = 0; i < EVICT_BATCHES; i++) {
        pending += evict->batches[i].count;
        if (evict->batches[i].number == 0)
            free = &evict->batches[i];
    }
    if (free == NULL || pending + EVICT_BATCH > DELETES_MAX)
        return;
    if (++evict->batch_number == 0)
        evict->batch_number = 1;
    free->number = evict->batch_number;
    evict->open = free;
}

static void close_batch(struct evict *evict, struct replica *replica)
{
    struct evict_batch *batch = evict->open;
    evict->open = NULL;
    if (batch == NULL)
        return;
    if (batch->count == 0)
        *batch = (struct evict_batch){.number = 0};
    else if (other_members(replica) != 0)
        send_ask(evict, replica, batch);
    else
        delete_batch(evict, replica, batch);
}

static void propose(void *user, const struct found *found)
{
    struct evict *evict = user;
    struct evict_batch *batch = evict->open;
    evict->turns = 0;
    evict->vain_us = 0;
    if (batch->count == EVICT_BATCH)
        return;
    batch->candidates[batch->count++] = (struct evict_candidate){
        .hash = hash_key(record_key(found->record)), .ts = found->record->ts};
    batch->bytes += gain_of(found->record);
    evict->proposed_bytes += gain_of(found->record);
}

/* Of so many bytes that were put, the youngest tenth of the live data. */
static void move_probation(struct evict *evict, const struct replica *replica)
{
    struct store_stats stats;
    store_stats(replica->store, &stats);
    uint64_t window = stats.live_bytes / PROBATION_SHARE;
    const struct evict_checkpoint *newest =
        &evict->checkpoints[(evict->checkpoint_count - 1) % EVICT_CHECKPOINTS];
    if (evict->checkpoint_count == 0 ||
        stats.put_bytes - newest->put_bytes >= window / CHECKPOINT_SHARE)
        evict->checkpoints[evict->checkpoint_count++ % EVICT_CHECKPOINTS] =
            (struct evict_checkpoint){.lsn = log_tail(store_log(replica->store)),
                                      .put_bytes = stats.put_bytes};
    for (unsigned i = 0; i < EVICT_CHECKPOINTS && i < evict->checkpoint_count; i++) {
        const struct evict_checkpoint *at = &evict->checkpoints[i];
        if (at->put_bytes + window <= stats.put_bytes && at->lsn > evict->probation_lsn)
            evict->probation_lsn = at->lsn;
    }
}

static bool young_hand_is_due(const struct evict *evict)
{
    return evict->young_lsn < evict->probation_lsn;
}

/* One record. */
static void move_young_hand(struct evict *evict, struct replica *replica,
                            const struct store_share *share, uint64_t *budget)
{
    struct found found;
    if (!store_walk(replica->store, &evict->young, evict->young_lsn, budget, &found)) {
        evict->young_lsn = evict->probation_lsn;
        return;
    }
    if (found.record == NULL)
        return;
    const struct segment *segment =
        log_segment(store_log(replica->store), (uint32_t)(found.place >> PLACE_UNIT_BITS));
    if (segment->stream == STREAM_HOT) /* a copy may be younger than what the hand has come to */
        evict->young_lsn = found.lsn + 1;
    const struct record *record = found.record;
    if (record->kind != RECORD_VALUE || record->key_size == 0 || found.state != STATE_VALID ||
        (record->key_size > RECORD_CLIENT_KEY_SIZE_MAX && !FAULT(EVICT_PIECES)) ||
        !store_share_has(share, hash_key(record_key(record))))
        return;
    unsigned frequency = store_frequency(replica->store, &found);
    if (frequency > 0)
        store_set_frequency(replica->store, &found, frequency - 1);
    else
        propose(evict, &found);
}

/* One chain of the index. */
static void move_main_hand(struct evict *evict, struct replica *replica,
                           const struct store_share *share)
{
    if (store_hand(replica->store, &evict->main, share, evict->young_lsn, propose, evict))
        return;
    evict->main = 0;
    evict->turns++;
    if (evict->turns == TURNS_YOUNG)
        evict->probation_lsn = log_tail(store_log(replica->store));
}

static void choose(struct evict *evict, struct replica *replica)
{
    const struct store_share share = deletes_share(replica);
    uint64_t walk = WALK_MAX;
    unsigned chains = CHAINS_MAX;
    uint64_t enough = evict->proposed_bytes + need(evict, replica);
    while (walk > 0 && chains > 0 && evict->turns < TURNS_MAX && evict->proposed_bytes < enough) {
        if (evict->open == NULL)
            open_batch(evict);
        if (evict->open == NULL)
            return;
        if (young_hand_is_due(evict)) {
            move_young_hand(evict, replica, &share, &walk);
        } else {
            move_main_hand(evict, replica, &share);
            chains--;
        }
        if (evict->open->count + CHAIN_KEYS > EVICT_BATCH)
            close_batch(evict, replica);
    }
}

static void search_anew(struct evict *evict)
{
    evict->barren = false;
    evict->vain_us = 0;
    evict->turns = 0;
}

/* The hand has found nothing that could go. If nothing is about to go either, whoever waits for
 * room is told so. */
static void note_barren(struct evict *evict, const struct replica *replica)
{
    if (evict->turns < TURNS_MAX)
        return;
    if (evict->vain_us == 0)
        evict->vain_us = replica->mono_us;
    uint64_t vain_us = replica->mono_us - evict->vain_us;
    /* they may have something in their shares */
    uint64_t patience_us = other_members(replica) != 0 ? PEERS_US : 0;
    evict->barren = vain_us >= patience_us && going_bytes(replica) == 0 &&
                    evict->deletes.free_count == DELETES_MAX;
    if (vain_us >= patience_us + VAIN_US)
        search_anew(evict);
}

void evict_advance(struct evict *evict, struct replica *replica)
{
    take_finished(evict, replica);
    give_up_late(evict, replica);
    replica->may_evict = is_on(replica) && !evict->barren;
    evict->wants_turn = false;
    if (!is_on(replica))
        return;
    move_probation(evict, replica);
    move_level(evict, replica);
    if (need(evict, replica) == 0) {
        replica->starved = 0;
        search_anew(evict);
        return;
    }
    if (replica_is_all_graves(replica)) {
        replica->may_evict = false;
        return;
    }
    choose(evict, replica);
    close_batch(evict, replica);
    note_barren(evict, replica);
    replica->may_evict = !evict->barren;
    open_batch(evict);
    evict->wants_turn = evict->open != NULL && evict->turns < TURNS_MAX && need(evict, replica) > 0;
    close_batch(evict, replica);
    replica->starved = 0; /* who still waits says so again */
}
