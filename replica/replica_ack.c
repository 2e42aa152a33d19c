/* INV out, ACK and NACK in: how a write becomes complete, or is refused. */
#include "replica/replica.h"

/* A plain write that was overtaken is no longer in the store: its request still holds it. */
static void send_from_request(struct replica *replica, struct op *op, const struct pending *pending,
                              struct message *message, uint8_t to)
{
    const struct request *last = pending->requests;
    assert(last != NULL);
    while (last->next != NULL)
        last = last->next;
    (void)op;
    message->record_kind = RECORD_VALUE;
    message->record_flags = request_record_flags(last);
    message->client_flags = last->client_flags;
    message->exptime = last->exptime;
    message->ts = pending->ts;
    message->cas = pending->cas;
    replica_send(replica, to, false, message, last->key, last->value);
}

/* A read-modify-write that is complete, and was replaced: nobody has its value any more, nor needs
 * it. What its client still waits for is that it, or what replaced it, is durable. */
static void send_prove(struct replica *replica, struct op *op, const struct pending *pending,
                       uint8_t to)
{
    assert(pending_is_complete(pending) || FAULT(RMW_NOT_REFUSED));
    struct message message = replica_message(replica, MSG_PROVE);
    message.ts = pending->ts;
    message.number[0] = op_token(replica, op);
    replica_send(replica, to, false, &message, op_key(op), slice_make(NULL, 0));
}

void replica_send_inv(struct replica *replica, struct op *op, struct pending *pending, uint8_t to)
{
    struct found found;
    /* An answer to one that asks does not put off what another, who had no room, waits for. */
    if ((replica_peers(replica) & (uint8_t)~pending->acked & (uint8_t)~to) == 0 ||
        FAULT(ASK_PUTS_OFF))
        pending->sent_us = replica->mono_us;
    if (to == 0)
        return;
    struct message message = replica_message(replica, MSG_INV);
    message.number[0] = op_token(replica, op);
    if (pending == &op->replay)
        message.flags = MESSAGE_REPLAY;
    bool any = store_find(replica->store, op_key(op), op->hash, &found);
    if (any && found.record->ts == pending->ts)
        replica_send_record(replica, to, false, &message, found.record);
    else if (pending->rmw)
        send_prove(replica, op, pending, to);
    else
        send_from_request(replica, op, pending, &message, to);
}

/* Answers the requests of an own write that is over. SETs that went out as one were overwritten by
 * the last of them: each gets a unique of its own from the versions that next_ts() left free for
 * them, or a cas of one would succeed on the value of another. */
static void reply_all(struct replica *replica, const struct pending *done,
                      const struct record *record)
{
    unsigned behind = 0;
    for (const struct request *request = done->requests; request != NULL; request = request->next)
        behind++;
    for (struct request *request = done->requests, *next; request != NULL; request = next) {
        next = request->next;
        request->next = NULL;
        behind--;
        uint64_t cas =
            behind == 0 || FAULT(ONE_UNIQUE) ? done->cas : done->ts - ts_make(behind, 0, 0);
        replica_reply_written(replica, request, done, cas, record);
    }
}

static void count_over(struct replica *replica, const struct pending *own)
{
    replica->own_count--;
    replica->own_bytes -= own->size;
    replica->own_growth -= own->growth;
}

void replica_refuse_own(struct replica *replica, struct op *op)
{
    struct request *request = op->own.requests;
    assert(op->own.rmw);
    op->own.ts = 0;
    op->own.requests = NULL;
    count_over(replica, &op->own);
    replica->rmw_retries++;
    if (request == NULL) /* an expiry's own request waits already */
        return;
    request->tried = true;
    op_wait(replica, op, request, true);
}

void replica_forget_own(struct replica *replica, struct op *op)
{
    assert(!op->own.rmw || pending_is_complete(&op->own));
    assert(op->own.requests == NULL);
    op->own.ts = 0;
    count_over(replica, &op->own);
}

static void set_valid_and_tell(struct replica *replica, struct op *op, struct found *found)
{
    struct message message = replica_message(replica, MSG_VAL);
    message.ts = found->record->ts;
    replica_set_state(replica, found, STATE_VALID);
    replica_send(replica,
                 (replica->view.members | replica->view.healing) &
                     (uint8_t)~node_bit(replica->options.self),
                 false, &message, op_key(op), slice_make(NULL, 0));
}

static bool has_reached(const struct replica *replica, const struct pending *pending,
                        enum model_point point)
{
    uint8_t have = point == MODEL_AT_TAKEN ? pending->taken : pending->acked;
    uint8_t missing = replica_peers(replica) & (uint8_t)~have;
    if (FAULT(VALID_EARLY) && __builtin_popcount(missing) == 1)
        missing = 0;
    return missing == 0 && (point == MODEL_AT_TAKEN || replica->durable > pending->lsn);
}

static bool is_answered_now(const struct replica *replica, const struct pending *pending)
{
    enum model_point point = FAULT(ANSWERED_EARLY) ? MODEL_AT_TAKEN : replica->model->answered;
    return !pending->answered && has_reached(replica, pending, point);
}

/* An answer that brings the value is taken from the record, which nothing may replace before. */
static bool is_valid_now(const struct replica *replica, const struct pending *pending)
{
    enum model_point point = FAULT(READABLE_EARLY) ? MODEL_AT_TAKEN : replica->model->readable;
    if (pending->outcome == OUTCOME_HIT && !pending->answered && point < replica->model->answered)
        point = replica->model->answered;
    return !pending->valid && has_reached(replica, pending, point);
}

/* Both points are behind it: nobody waits for more. One that was replaced need not become readable
 * any more, a replay has no client. */
static void end_if_through(struct replica *replica, struct op *op, struct pending *pending,
                           bool current)
{
    bool own = pending == &op->own;
    if (own ? !pending->answered || (current && !pending->valid) : !pending->valid)
        return;
    if (own)
        count_over(replica, pending);
    else
        replica->replay_count--;
    pending->ts = 0;
}

static bool counts_as_read(const struct pending *pending)
{
    const struct request *first = pending->requests;
    bool reads = pending->outcome == OUTCOME_HIT || pending->outcome == OUTCOME_TOUCHED;
    return reads && first != NULL && (first->options & REQUEST_UNNOTICED) == 0;
}

/* Goes on as far as acknowledgements, and the model, allow. `op` may be gone afterwards. */
static void try_complete(struct replica *replica, struct op *op, struct pending *pending)
{
    if (pending->ts == 0)
        return;
    bool answered = pending == &op->own && is_answered_now(replica, pending);
    bool valid = is_valid_now(replica, pending);
    if (!answered && !valid)
        return;
    struct found found;
    bool current =
        store_find(replica->store, op_key(op), op->hash, &found) && found.record->ts == pending->ts;
    pending->answered |= answered;
    pending->valid |= valid;
    struct pending done = *pending;
    if (answered)
        pending->requests = NULL;
    end_if_through(replica, op, pending, current);
    if (valid && current && found.state != STATE_VALID)
        set_valid_and_tell(replica, op, &found);
    if (answered && current && counts_as_read(&done))
        store_accessed(replica->store, &found, replica_now(replica));
    if (answered)
        reply_all(replica, &done, current ? found.record : NULL);
    bool any = store_find(replica->store, op_key(op), op->hash, &found);
    if (any && found.state == STATE_VALID)
        replica_became_valid(replica, op);
}

/* A healing node may hold much that will go; only who serves decides. */
static void note_full(struct replica *replica, const struct message *message)
{
    uint8_t bit = node_bit(message->from) & replica->view.members;
    replica->full_nodes &= (uint8_t)~bit;
    if ((message->flags & MESSAGE_FULL) != 0)
        replica->full_nodes |= bit;
    else
        replica->roomy_nodes |= bit;
    uint8_t others = replica->view.members & (uint8_t)~node_bit(replica->options.self);
    if (replica->options.evicts && (others & (uint8_t)~replica->roomy_nodes) == 0)
        replica->group_full = false;
    if (bit != 0)
        replica->excess[message->from] = message->number[1];
}

void replica_on_ack(struct replica *replica, const struct message *message)
{
    note_full(replica, message);
    replica->acked_us[message->from] = replica->mono_us;
    struct op *op = op_of_token(replica, message->number[0]);
    if (op == NULL)
        return;
    struct pending *pending = op->own.ts == message->ts ? &op->own : &op->replay;
    if (pending->ts != message->ts)
        return;
    pending->taken |= node_bit(message->from);
    if (message->type == MSG_ACK || !model_awaits_durable(replica->model))
        pending->acked |= node_bit(message->from);
    try_complete(replica, op, pending);
}

/* The record that comes with it has won. It is taken as an INV would be, and by that the loser is
 * refused (invariant 4). */
void replica_on_nack(struct replica *replica, const struct message *message)
{
    struct slice key = message_key(message);
    struct found found;
    bool any = store_find(replica->store, key, hash_key(key), &found);
    if (FAULT(NACK_WITHOUT_RECORD)) {
        struct op *op = op_find(replica, key, hash_key(key));
        if (op != NULL && op->own.ts != 0 && op->own.rmw)
            replica_refuse_own(replica, op);
        return;
    }
    if (any && found.record->ts >= message->ts)
        return;
    struct op *op = replica_take_record(replica, message, STATE_INVALID);
    /* it was complete: it loses nothing, but its ACK is still missing */
    if (op != NULL && op->own.ts != 0 && op->own.rmw)
        send_prove(replica, op, &op->own, node_bit(message->from));
}

void replica_send_ack(struct replica *replica, enum message_type type, const struct deferred *ack)
{
    struct message message = replica_message(replica, type);
    message.ts = ack->ts;
    message.number[0] = ack->token;
    message.number[1] = replica_excess(replica);
    message.flags = ack->flags | replica_full_flag(replica);
    replica_send(replica, ack->to, false, &message, slice_make(NULL, 0), slice_make(NULL, 0));
}

static void look_again(struct replica *replica, struct op *op, uint64_t ts)
{
    if (op == NULL || ts == 0)
        return;
    if (op->own.ts == ts)
        try_complete(replica, op, &op->own);
    else if (op->replay.ts == ts)
        try_complete(replica, op, &op->replay);
}

void replica_on_durable(struct replica *replica, uint64_t durable)
{
    replica->durable = durable;
    while (replica->deferred_head != replica->deferred_tail) {
        struct deferred next = replica->deferred[replica->deferred_head & replica->deferred_mask];
        if (next.need >= durable)
            break;
        replica->deferred_head++;
        if (next.to != 0)
            replica_send_ack(replica, MSG_ACK, &next);
        else
            look_again(replica, op_of_token(replica, next.token), next.ts);
    }
    if (replica_is_member(replica))
        /* there may be room now: what waits for it need not wait for the next tick */
        replica_unblock(replica);
    if (!replica->check_all)
        return;
    replica->check_all = false;
    for (uint32_t i = 0; i < replica->op_capacity; i++)
        if (replica->ops[i].used) {
            uint64_t own = replica->ops[i].own.ts, replay = replica->ops[i].replay.ts;
            look_again(replica, &replica->ops[i], own);
            if (replica->ops[i].used)
                look_again(replica, &replica->ops[i], replay);
        }
}

void replica_end_step(struct replica *replica)
{
    while (replica->ready != NULL) {
        struct op *op = replica->ready;
        replica->ready = op->ready_next;
        op->ready = false;
        try_complete(replica, op, &op->own);
    }
}
