/* Memory, sending, states, and what ends a write: the parts every file of this folder uses. */
#include "replica/replica.h"

#include <string.h>

enum { OPS_PER_OWN = 3 }; /* own, and those of every other node, and some being replayed */

static uint32_t round_up_to_power(uint32_t count)
{
    uint32_t power = 16;
    while (power < count)
        power *= 2;
    return power;
}

static uint32_t node_count(uint8_t nodes)
{
    return (uint32_t)__builtin_popcount(nodes);
}

static uint32_t op_capacity(const struct replica_options *options)
{
    return (node_count(options->configured) + OPS_PER_OWN) * options->op_count_max;
}

static uint32_t table_size(const struct replica_options *options)
{
    return round_up_to_power(op_capacity(options));
}

static uint32_t deferred_size(const struct replica_options *options)
{
    return round_up_to_power(op_capacity(options) * 2);
}

size_t replica_size(const struct replica_options *options)
{
    return (size_t)op_capacity(options) * sizeof(struct op) +
           (size_t)table_size(options) * sizeof(struct op *) +
           (size_t)deferred_size(options) * sizeof(struct deferred);
}

void replica_init(struct replica *replica, const struct replica_options *options, void *memory)
{
    memset(replica, 0, sizeof(*replica));
    replica->options = *options;
    replica->store = options->store;
    replica->fresh = true;
    replica->model = model_row(options->model);
    replica->cold_waits = model_is_early(replica->model) || options->was_early;
    replica->op_capacity = op_capacity(options);
    replica->ops = memory;
    replica->deferred = (void *)(replica->ops + replica->op_capacity);
    replica->deferred_mask = deferred_size(options) - 1;
    replica->op_table = (void *)(replica->deferred + deferred_size(options));
    replica->op_table_mask = table_size(options) - 1;
    for (uint32_t i = replica->op_capacity; i-- > 0;) {
        replica->ops[i].hash_next = replica->op_free;
        replica->op_free = &replica->ops[i];
    }

    struct store_stats stats;
    struct mark mark;
    if (log_durable(store_log(replica->store), &replica->durable) != STATUS_OK)
        replica->durable = 0; /* the caller meets the same error and stops */
    store_stats(replica->store, &stats);
    replica_see_version(replica, stats.version_max);
    if (replica->options.walk_bytes == 0)
        replica->options.walk_bytes = WALK_BYTES;
    if (store_mark_last(replica->store, &mark))
        replica_mark_opened(replica, mark.lsn);
    store_mark_kept(replica->store, &mark.clock, &replica->floor);
    replica_see_version(replica, mark.clock);
    replica_see_version(replica, replica->floor);
    replica_refresh_flush(replica);
}

bool replica_keep_clock(struct replica *replica, uint64_t version)
{
    uint64_t clock, floor;
    assert(version <= replica->clock);
    store_mark_kept(replica->store, &clock, &floor);
    return clock >= version ||
           store_put_clock_nodrain(replica->store, replica->clock, replica->floor) == STATUS_OK;
}

/* ---- sending ---- */

uint8_t replica_peers(const struct replica *replica)
{
    uint8_t nodes = replica->view.members;
    if (!FAULT(HEALING_NOT_COUNTED))
        nodes |= replica->view.healing;
    return nodes & (uint8_t)~node_bit(replica->options.self);
}

struct message replica_message(const struct replica *replica, enum message_type type)
{
    return (struct message){
        .type = (uint8_t)type,
        .from = (uint8_t)replica->options.self,
        .epoch = replica->view.epoch,
    };
}

void replica_send(struct replica *replica, uint8_t to, bool bulk, const struct message *message,
                  struct slice key, struct slice value)
{
    if (to == 0)
        return;
    struct action action = {
        .type = ACTION_SEND, .epoch = replica->view.epoch, .to = to, .bulk = bulk};
    action.header = *message;
    action.header.key_size = (uint8_t)key.size;
    action.header.value_size = (uint32_t)value.size;
    action.key = key;
    action.value = value;
    replica->actions->take(replica->actions->user, &action);
}

void replica_send_record(struct replica *replica, uint8_t to, bool bulk, struct message *message,
                         const struct record *record)
{
    message->record_kind = record->kind;
    message->record_flags = record->flags & RECORD_FLAGS;
    message->client_flags = record_client_flags(record);
    message->exptime = record_exptime(record);
    message->ts = record->ts;
    message->cas = record_cas(record);
    replica_send(replica, to, bulk, message, record_key(record), record_value(record));
}

static void reply(struct replica *replica, struct request *request, struct action *action)
{
    if (request->busy != NULL) {
        *request->busy = false;
        request->outcome = action->outcome;
        return;
    }
    action->type = ACTION_REPLY;
    action->epoch = replica->view.epoch;
    action->request = request;
    replica->actions->take(replica->actions->user, action);
}

void replica_reply(struct replica *replica, struct request *request, enum outcome outcome,
                   const struct record *record, uint64_t number, bool local)
{
    reply(replica, request,
          &(struct action){.outcome = outcome,
                           .record = record,
                           .number = number,
                           .cas = record != NULL ? record_cas(record) : 0,
                           .local = local});
}

void replica_reply_written(struct replica *replica, struct request *request,
                           const struct pending *write, uint64_t cas, const struct record *record)
{
    reply(replica, request,
          &(struct action){
              .outcome = write->outcome, .record = record, .number = write->number, .cas = cas});
}

/* ---- states ---- */

static bool edge_is_legal(enum record_state from, enum record_state to)
{
    static const uint8_t legal[] = {
        [STATE_VALID] = 1 << STATE_UNCONFIRMED | 1 << STATE_VALID | 1 << STATE_INVALID,
        [STATE_INVALID] =
            1 << STATE_VALID | 1 << STATE_REPLAY | 1 << STATE_UNCONFIRMED | 1 << STATE_INVALID,
        [STATE_WRITE] = 1 << STATE_VALID | 1 << STATE_UNCONFIRMED,
        [STATE_REPLAY] =
            1 << STATE_VALID | 1 << STATE_UNCONFIRMED | 1 << STATE_REPLAY | 1 << STATE_INVALID,
        [STATE_UNCONFIRMED] =
            1 << STATE_VALID | 1 << STATE_INVALID | 1 << STATE_REPLAY | 1 << STATE_UNCONFIRMED,
    };
    return (legal[from] >> to) & 1;
}

void replica_set_state(struct replica *replica, struct found *found, enum record_state state)
{
    assert(edge_is_legal(found->state, state));
    if (state == STATE_UNCONFIRMED) /* invariant 11 */
        assert(found->lsn < replica->marking.lsn_end || FAULT(MARKS_OWN_EPOCH));
    else
        assert(!replica_awaits_mark(replica, found->lsn) || FAULT(MARK_AT_FACE));
    store_set_state(replica->store, found, state);
    if (found->record->key_size == 0)
        replica_refresh_flush(replica);
}

static void read_flush(struct replica *replica)
{
    struct found found;
    if (!store_find(replica->store, slice_make("", 0), hash_key(slice_make("", 0)), &found)) {
        replica->flush.known = false;
        return;
    }
    const struct record *record = found.record;
    replica->flush.known = record->kind == RECORD_VALUE;
    replica->flush.valid = found.state == STATE_VALID;
    replica->flush.record_ts = record->ts;
    replica->flush.due = record_exptime(record);
    replica->flush.ts = record->ts;
    if (record->value_size == sizeof(uint64_t))
        memcpy(&replica->flush.ts, record_value(record).data, sizeof(uint64_t));
}

/* A newer record has replaced that of the own write. */
static void overtake_own(struct replica *replica, struct op *op)
{
    bool refused = op->own.rmw && (!pending_is_complete(&op->own) || FAULT(COMPLETE_REFUSED));
    if (refused && !FAULT(RMW_NOT_REFUSED))
        replica_refuse_own(replica, op);
    else if (!refused && op->own.requests == NULL)
        /* its clients have their answers, by the model or because this node stalled */
        replica_forget_own(replica, op);
}

void replica_refresh_flush(struct replica *replica)
{
    read_flush(replica);
    replica_notice_flush(replica);
}

struct op *replica_take_record(struct replica *replica, const struct message *message,
                               enum record_state state)
{
    struct slice key = message_key(message);
    uint64_t hash = hash_key(key);
    struct op *op = op_take(replica, key, hash);
    if (op == NULL)
        return NULL;
    struct record_spec spec = {
        .kind = message->record_kind,
        .flags = message->record_flags,
        .client_flags = message->client_flags,
        .exptime = message->exptime,
        .ts = message->ts,
        .cas = message->cas,
        .key = key,
        .value = message_value(message),
    };
    struct found found, old;
    bool any = store_find(replica->store, key, hash, &old);
    bool same_value =
        any && old.record->kind == RECORD_VALUE && record_cas(old.record) == message->cas;
    if (store_put_nodrain(replica->store, &spec, hash, state, true, &found) != STATUS_OK) {
        any = store_find(replica->store, key, hash, &old);
        op_give_if_idle(replica, op, any ? old.state : STATE_VALID);
        return NULL;
    }
    if (!same_value)
        store_access_reset(replica->store, &found, replica_now(replica));
    replica_see_version(replica, ts_version(message->ts));
    op->lsn = found.lsn;
    op->since_us = replica->mono_us;
    op->may_replay = false;
    if (op->replay.ts != 0 && op->replay.ts != message->ts) {
        op->replay.ts = 0;
        replica->replay_count--;
    }
    if (key.size == 0)
        replica_refresh_flush(replica);
    if (op->own.ts != 0 && op->own.ts != message->ts)
        overtake_own(replica, op);
    return op;
}

void replica_became_valid(struct replica *replica, struct op *op)
{
    while (op->wait_first != NULL) {
        struct found found;
        bool any = store_find(replica->store, op_key(op), op->hash, &found);
        if ((any && found.state != STATE_VALID) || (op->own.ts != 0 && !op->own.valid))
            return;
        struct request *request = op->wait_first;
        op->wait_first = request->next;
        if (op->wait_first == NULL)
            op->wait_last = NULL;
        replica->waiting--;
        enum execute executed = replica_execute(replica, request);
        if (executed == EXECUTE_BLOCKED) {
            op_wait(replica, op, request, true);
            replica->stalled = true;
            break;
        }
        if (executed == EXECUTE_WAITS && op->own.ts != 0)
            return;
    }
    struct found found;
    bool any = store_find(replica->store, op_key(op), op->hash, &found);
    op_give_if_idle(replica, op, any ? found.state : STATE_VALID);
}

/* ---- messages ---- */

void replica_on_message(struct replica *replica, const struct message *message)
{
    static void (*const handlers[MSG_COUNT])(struct replica *, const struct message *) = {
        [MSG_INV] = replica_on_inv,   [MSG_ACK] = replica_on_ack,     [MSG_TAKEN] = replica_on_ack,
        [MSG_NACK] = replica_on_nack, [MSG_VAL] = replica_on_val,     [MSG_ASK] = replica_on_ask,
        [MSG_GONE] = replica_on_gone, [MSG_PROVE] = replica_on_prove,
    };
    assert(message->type < MSG_COUNT);
    assert(handlers[message->type] != NULL && "recovery handles the others");
    handlers[message->type](replica, message);
}

bool replica_finished_before(const struct replica *replica, uint64_t lsn, uint32_t *cursor)
{
    if (replica->unconfirmed)
        return false;
    for (; *cursor < replica->op_capacity; (*cursor)++) {
        const struct op *op = &replica->ops[*cursor];
        if (!op->used)
            continue;
        struct found found;
        bool open =
            store_find(replica->store, op_key(op), op->hash, &found) && found.state != STATE_VALID;
        if ((open && op->lsn < lsn) || (op->own.ts != 0 && op->own.lsn < lsn) ||
            (op->replay.ts != 0 && op->replay.lsn < lsn))
            return false;
    }
    return true;
}

void replica_verify(const struct replica *replica)
{
    uint32_t used = 0, own = 0, replays = 0;
    for (uint32_t i = 0; i < replica->op_capacity; i++) {
        const struct op *op = &replica->ops[i];
        if (!op->used)
            continue;
        used++;
        own += op->own.ts != 0;
        replays += op->replay.ts != 0;
        struct found found;
        bool any = store_find(replica->store, op_key(op), op->hash, &found);
        if (op->own.ts != 0 && op->own.rmw && !pending_is_complete(&op->own)) { /* invariant 4 */
            assert(any);
            assert(FAULT(RMW_NOT_REFUSED) || found.record->ts == op->own.ts);
        }
        if (any && found.state == STATE_WRITE)
            assert(op->own.ts == found.record->ts);
        if (any && found.state == STATE_REPLAY)
            assert(op->replay.ts == found.record->ts);
        if (any)
            assert(ts_version(found.record->ts) <= replica->clock);
    }
    assert(!replica_is_marking(replica) || !replica_is_member(replica));
    assert(replica->ready == NULL);
    assert(used == replica->op_used);
    assert(own == replica->own_count);
    assert(replays == replica->replay_count);
}
