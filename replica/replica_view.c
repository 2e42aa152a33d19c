/* Views, replays, and what time brings: everything that goes on when nodes come and go. */
#include "replica/replica.h"

#include <string.h>

enum { SWEEPS = 16 };

static bool coordinator_is_gone(const struct replica *replica, uint64_t ts)
{
    return !view_has_coordinator(&replica->view, ts);
}

/* Finishes a write for its coordinator: same ts, same value, same flag (Hermes section 3.2).
 * Idempotent. */
void replica_replay_start(struct replica *replica, struct op *op, struct found *found)
{
    assert(replica_is_member(replica));
    assert(op->replay.ts == 0);
    op->replay = (struct pending){
        .ts = found->record->ts,
        .lsn = found->lsn,
        .started_us = replica->mono_us,
        .rmw = (found->record->flags & RECORD_RMW) != 0,
    };
    replica->replay_count++;
    replica->replays++;
    replica_set_state(replica, found, STATE_REPLAY);
    replica_send_inv(replica, op, &op->replay, replica_peers(replica));
    if (model_awaits_durable(replica->model))
        defer(replica, &(struct deferred){.need = op->replay.lsn,
                                          .ts = op->replay.ts,
                                          .token = op_token(replica, op)});
    if (replica->durable > op->replay.lsn || replica_peers(replica) == 0)
        replica->check_all = true; /* no event need come for it */
}

/* ---- a new view ---- */

static void begin_again(struct replica *replica, struct op *op, struct pending *pending)
{
    if (pending->ts == 0)
        return;
    if (!(pending->rmw ? FAULT(KEEP_ACKS_RMW) : FAULT(KEEP_ACKS_PLAIN)))
        pending->acked = pending->taken = 0; /* invariant 5 */
    pending->started_us = replica->mono_us;
    replica_send_inv(replica, op, pending, replica_peers(replica));
}

static void install_op(struct replica *replica, struct op *op)
{
    struct found found;
    begin_again(replica, op, &op->own);
    begin_again(replica, op, &op->replay);
    bool any = store_find(replica->store, op_key(op), op->hash, &found);
    if (any && found.state == STATE_INVALID && replica_is_member(replica) &&
        coordinator_is_gone(replica, found.record->ts) && !FAULT(NO_REPLAY))
        replica_replay_start(replica, op, &found);
}

static void forget_deferred_acks(struct replica *replica, uint8_t to)
{
    uint32_t kept = replica->deferred_head;
    for (uint32_t i = replica->deferred_head; i != replica->deferred_tail; i++) {
        struct deferred item = replica->deferred[i & replica->deferred_mask];
        if ((item.to & to) == 0)
            replica->deferred[kept++ & replica->deferred_mask] = item;
    }
    replica->deferred_tail = kept;
}

void replica_on_view(struct replica *replica, const struct view *view)
{
    assert(view->epoch > replica->view.epoch);
    bool first = replica->fresh;
    replica->view = *view;
    replica->full_nodes = 0;
    replica->group_full = false;
    memset(replica->excess, 0, sizeof(replica->excess));
    forget_deferred_acks(replica, 0xff); /* of the old epoch: nobody would take them */
    if (!replica_is_member(replica) && !replica_is_healing(replica))
        return;
    replica->fresh = false;
    if (replica_is_member(replica))
        /* something is left only in a cold start right after a removal: nobody serves meanwhile */
        replica_mark_end(replica);
    if (first && replica_is_member(replica)) {
        /* cold start: the members pool what they have, by replaying it */
        replica->unconfirmed = true;
        replica->cold = replica->cold_waits && !FAULT(COLD_SERVES);
        replica->unconfirmed_cursor = (struct store_cursor){0};
    }
    for (uint32_t i = 0; i < replica->op_capacity; i++)
        if (replica->ops[i].used)
            install_op(replica, &replica->ops[i]);
    replica->check_all = true;
}

void replica_on_up(struct replica *replica, unsigned peer)
{
    uint8_t bit = node_bit(peer);
    forget_deferred_acks(replica, bit); /* the peer asks again */
    if ((replica_peers(replica) & bit) == 0)
        return;
    for (uint32_t i = 0; i < replica->op_capacity; i++) {
        struct op *op = &replica->ops[i];
        if (op->used && op->own.ts != 0 && (op->own.acked & bit) == 0)
            replica_send_inv(replica, op, &op->own, bit);
        if (op->used && op->replay.ts != 0 && (op->replay.acked & bit) == 0)
            replica_send_inv(replica, op, &op->replay, bit);
    }
}

/* ---- start and restart ---- */

/* A try that was overtaken here lies INVALID at others. They may have gone on in a view without
 * this node, and without whoever overtook it: then they have replayed it. Only a newer record that
 * is VALID here says that it is gone everywhere. */
static enum outcome refused(const struct request *request)
{
    return request->tried && !FAULT(TRIED_IS_REFUSED) ? OUTCOME_UNKNOWN : OUTCOME_REFUSED;
}

static void refuse_waiting(struct replica *replica)
{
    for (uint32_t i = 0; i < replica->op_capacity; i++) {
        struct op *op = &replica->ops[i];
        if (!op->used)
            continue;
        while (op->own.requests != NULL) {
            struct request *request = op->own.requests;
            op->own.requests = request->next;
            replica_reply(replica, request,
                          FAULT(UNDER_WAY_REFUSED) ? OUTCOME_REFUSED : OUTCOME_UNKNOWN, NULL, 0,
                          false);
        }
        while (op->wait_first != NULL) {
            struct request *request = op->wait_first;
            op->wait_first = request->next;
            replica->waiting--;
            replica_reply(replica, request, refused(request), NULL, 0, false);
        }
        op->wait_last = NULL;
    }
    while (replica->blocked_first != NULL) {
        struct request *request = replica->blocked_first;
        replica->blocked_first = request->next;
        replica_reply(replica, request, OUTCOME_REFUSED, NULL, 0, false);
    }
    replica->blocked_last = NULL;
}

static void forget_overtaken(struct replica *replica, struct op *op)
{
    struct found found;
    if (op->own.ts == 0 || (op->own.rmw && !pending_is_complete(&op->own)))
        return;
    if (!store_find(replica->store, op_key(op), op->hash, &found) || found.record->ts != op->own.ts)
        replica_forget_own(replica, op);
}

/* The writes themselves stay: they are complete when the others are there again, or a view
 * decides. */
void replica_on_stalled(struct replica *replica)
{
    refuse_waiting(replica);
    for (uint32_t i = 0; i < replica->op_capacity; i++)
        if (replica->ops[i].used)
            forget_overtaken(replica, &replica->ops[i]);
}

void replica_on_restart(struct replica *replica, uint64_t incarnation)
{
    struct mark mark = {0};
    refuse_waiting(replica);
    (void)store_mark_last(replica->store, &mark);
    replica->options.incarnation = incarnation;
    replica->view = (struct view){0};
    replica->fresh = true;
    replica->unconfirmed = replica->cold = false;
    replica_mark_begin(replica, mark.lsn);
}

void replica_on_stable(struct replica *replica)
{
    if (!replica->cold)
        return;
    replica->cold = false;
    replica_unblock(replica);
}

/* ---- time ---- */

/* The requests of a node that is no member any more wait for EVENT_RESTART; a flush that is due is
 * an ordinary write. */
static void start_due_flush(struct replica *replica)
{
    bool lowest = (replica->view.members & (uint8_t)(node_bit(replica->options.self) - 1)) == 0;
    if (!replica->flush.known || replica->flush.due == 0 ||
        replica->flush.due > replica->wall_us / 1000000 || !replica->flush.valid ||
        replica->internal_flush_busy || !lowest)
        return;
    replica->internal_flush =
        (struct request){.type = REQUEST_FLUSH, .hash = hash_key(slice_make("", 0))};
    replica->internal_flush.key = slice_make("", 0);
    replica->internal_flush.busy = &replica->internal_flush_busy;
    replica->internal_flush_busy = true;
    replica_on_request(replica, &replica->internal_flush);
}

bool replica_drive_unconfirmed(struct replica *replica, struct found *found)
{
    if (!replica_is_member(replica))
        return false;
    if (found->record->kind == RECORD_DISCARD) {
        replica_set_state(replica, found, STATE_VALID); /* nothing to bring to the others */
        return true;
    }
    struct slice key = record_key(found->record);
    struct op *op = op_take(replica, key, hash_key(key));
    if (op == NULL)
        return false;
    op->lsn = found->lsn;
    replica_replay_start(replica, op, found);
    return true;
}

/* Cold start: replays what this node cannot know to be complete. The current record decides,
 * confirmed or not, when peers compare. */
static void walk_unconfirmed(struct replica *replica)
{
    struct mark mark = {0};
    struct found found;
    uint64_t budget =
        replica_walk_budget(replica, replica->options.walk_bytes, &replica->unconfirmed_tail);
    (void)store_mark_last(replica->store, &mark);
    while (replica->replay_count < replica->options.op_count_max) {
        if (!store_walk(replica->store, &replica->unconfirmed_cursor, mark.lsn, &budget, &found)) {
            replica->unconfirmed = false;
            return;
        }
        if (found.record == NULL)
            return;
        if (found.state != STATE_UNCONFIRMED)
            continue;
        if (!replica_drive_unconfirmed(replica, &found)) {
            /* this one was passed: begin again later */
            replica->unconfirmed_cursor = (struct store_cursor){0};
            return;
        }
    }
}

static void ask_coordinator(struct replica *replica, struct op *op, struct found *found)
{
    uint64_t ts = found->record->ts;
    bool mine = ts_node(ts) == replica->options.self;
    op->since_us = replica->mono_us;
    if (coordinator_is_gone(replica, ts) || mine || op->may_replay || FAULT(REPLAY_ALIVE)) {
        if (replica_is_member(replica) && !FAULT(NO_REPLAY))
            replica_replay_start(replica, op, found);
        return;
    }
    struct message message = replica_message(replica, MSG_ASK);
    message.ts = ts;
    replica->asks++;
    replica_send(replica, node_bit(ts_node(ts)), false, &message, op_key(op), slice_make(NULL, 0));
}

/* Those of `nodes` that let a write wait, sent RESEND_US ago and more. Messages go in order, so
 * while many bytes are under way a node that has acknowledged something since just has not come to
 * this one: to send it again would only make more of them. Not for ever: it may be this one that
 * the node has no room for. */
static uint8_t keep_waiting(const struct replica *replica, uint8_t nodes,
                            const struct pending *pending)
{
    enum { PATIENCE = 10 };
    if (replica->own_bytes <= OWN_BYTES_BUSY ||
        replica->mono_us - pending->sent_us >= (uint64_t)PATIENCE * RESEND_US)
        return nodes;
    for (unsigned node = 1; node <= NODE_COUNT_MAX; node++)
        if (replica->mono_us - replica->acked_us[node] < RESEND_US)
            nodes &= (uint8_t)~node_bit(node);
    return nodes;
}

static void resend(struct replica *replica, struct op *op, struct pending *pending)
{
    if (pending->ts == 0 || replica->mono_us - pending->sent_us < RESEND_US)
        return;
    uint8_t missing = replica_peers(replica) & (uint8_t)~pending->acked;
    uint8_t late = keep_waiting(replica, missing, pending);
    if (missing != 0 && late == 0)
        return;
    if (late != 0 && replica->mono_us - pending->started_us >= replica->options.slow_us) {
        struct action action = {.type = ACTION_SUSPECT, .epoch = replica->view.epoch, .to = late};
        replica->actions->take(replica->actions->user, &action);
    }
    replica_send_inv(replica, op, pending, late);
}

static void sweep_op(struct replica *replica, struct op *op)
{
    struct found found;
    resend(replica, op, &op->own);
    resend(replica, op, &op->replay);
    bool any = store_find(replica->store, op_key(op), op->hash, &found);
    if (any && found.state == STATE_INVALID && op->replay.ts == 0 &&
        replica->mono_us - op->since_us >= replica->options.ask_us)
        ask_coordinator(replica, op, &found);
    else if ((!any || found.state == STATE_VALID) && op->own.ts == 0 && op->replay.ts == 0)
        replica_became_valid(replica, op);
}

static void sweep(struct replica *replica)
{
    uint32_t count = replica->stalled ? replica->op_capacity : replica->op_capacity / SWEEPS + 1;
    replica->stalled = false;
    for (; count > 0 && replica->op_used > 0; count--) {
        replica->sweep = (replica->sweep + 1) % replica->op_capacity;
        if (replica->ops[replica->sweep].used)
            sweep_op(replica, &replica->ops[replica->sweep]);
    }
}

void replica_on_tick(struct replica *replica)
{
    replica_mark_some(replica);
    if (!replica_is_member(replica) && !replica_is_healing(replica))
        return;
    sweep(replica);
    if (replica->check_all)
        replica_on_durable(replica, replica->durable);
    if (!replica_is_member(replica))
        return;
    if (replica->unconfirmed)
        walk_unconfirmed(replica);
    start_due_flush(replica);
    replica_unblock(replica);
}
