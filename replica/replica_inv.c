/* What a follower does: INV and VAL; and the questions about records that stay invalid. */
#include "replica/replica.h"

/* ACK for `message`, once everything before and at `need` is durable here (invariant 3); TAKEN at
 * once, in models that have it. */
static void acknowledge(struct replica *replica, const struct message *message, uint64_t need)
{
    /* invariant 11 */
    assert(!replica_awaits_mark(replica, need) || FAULT(MARK_AT_FACE) ||
           FAULT(EQUAL_INV_NOT_FRESH));
    struct deferred ack = {
        .need = need,
        .ts = message->ts,
        .token = message->number[0],
        .to = node_bit(message->from),
        .flags = message->flags & MESSAGE_REPLAY,
    };
    uint8_t acks = replica->model->acks;
    bool durable = need < replica->durable || FAULT(ACK_BEFORE_DURABLE);
    if ((acks & MODEL_ACK_TAKEN) != 0 && (!durable || (acks & MODEL_ACK_DURABLE) == 0))
        replica_send_ack(replica, MSG_TAKEN, &ack);
    if ((acks & MODEL_ACK_DURABLE) == 0)
        return;
    if (durable)
        replica_send_ack(replica, MSG_ACK, &ack);
    else
        defer(replica, &ack);
}

/* Mine is newer. A read-modify-write was computed from what is no longer so: it is refused, and
 * given the winner. */
static void answer_older(struct replica *replica, const struct message *message,
                         const struct found *found)
{
    bool rmw = (message->record_flags & RECORD_RMW) != 0;
    if (rmw && !FAULT(RMW_NACK_AS_ACK)) {
        struct message nack = replica_message(replica, MSG_NACK);
        nack.number[0] = message->number[0];
        nack.flags = message->flags & MESSAGE_REPLAY;
        replica_send_record(replica, node_bit(message->from), false, &nack, found->record);
        return;
    }
    acknowledge(replica, message, FAULT(OLDER_ACK_AT_ONCE) ? 0 : found->lsn);
}

static void take_and_acknowledge(struct replica *replica, const struct message *message)
{
    struct op *op = replica_take_record(replica, message, STATE_INVALID);
    if (op != NULL) /* else no room: it is not acknowledged, and sent again later */
        acknowledge(replica, message, op->lsn);
}

/* A healing node has this record, but not of this epoch: its session may yet find that it is worth
 * nothing. What the group sends now must outlive that, because it is acknowledged and the buddy may
 * not have heard of it: it is appended anew. */
static bool is_equal_but_old(const struct replica *replica, const struct message *message,
                             const struct found *found)
{
    return replica_is_healing(replica) && found->record->ts == message->ts &&
           found->lsn < replica->marking.lsn_end && !FAULT(EQUAL_INV_NOT_FRESH);
}

void replica_on_inv(struct replica *replica, const struct message *message)
{
    struct slice key = message_key(message);
    struct found found;
    bool any = replica_find_marked(replica, key, hash_key(key), &found);
    bool unconfirmed = any && found.state == STATE_UNCONFIRMED && replica_is_healing(replica);
    uint64_t mine = any ? found.record->ts : 0;
    replica_see_version(replica, ts_version(message->ts));
    if (mine == message->ts && !is_equal_but_old(replica, message, &found))
        acknowledge(replica, message, found.lsn);
    else if (mine <= message->ts || (unconfirmed && !FAULT(UNCONFIRMED_TRUSTED)))
        take_and_acknowledge(replica, message);
    else
        answer_older(replica, message, &found);
}

void replica_on_val(struct replica *replica, const struct message *message)
{
    struct slice key = message_key(message);
    uint64_t hash = hash_key(key);
    struct found found;
    if (!replica_find_marked(replica, key, hash, &found))
        return;
    if (found.record->ts != message->ts && !FAULT(VAL_ANY_TS))
        return;
    bool cold = found.state == STATE_UNCONFIRMED && replica_is_member(replica);
    if (found.state != STATE_INVALID && found.state != STATE_REPLAY && !cold)
        /* VALID already; WRITE ends by its own acknowledgements; a healing node asks its buddy */
        return;
    struct op *op = op_find(replica, key, hash);
    if (op != NULL && op->replay.ts != 0) {
        op->replay.ts = 0;
        replica->replay_count--;
    }
    replica_set_state(replica, &found, STATE_VALID);
    if (op != NULL)
        replica_became_valid(replica, op);
}

/* The record that the asker waits for was complete, so a member has it or what replaced it; nothing
 * at all: a tombstone that was dropped, which happens only when it is durable everywhere. Who heals
 * may have yet to get it, and is asked again. */
void replica_on_prove(struct replica *replica, const struct message *message)
{
    struct slice key = message_key(message);
    struct found found;
    bool any = replica_find_marked(replica, key, hash_key(key), &found);
    if (any && (found.record->ts < message->ts || found.state == STATE_UNCONFIRMED ||
                is_equal_but_old(replica, message, &found)))
        return;
    if (any || replica_is_member(replica))
        acknowledge(replica, message, any ? found.lsn : 0);
}

/* A peer's copy of my record stays invalid: tell it how things stand. */
void replica_on_ask(struct replica *replica, const struct message *message)
{
    struct slice key = message_key(message);
    uint64_t hash = hash_key(key);
    uint8_t to = node_bit(message->from);
    struct op *op = op_find(replica, key, hash);
    struct found found;
    bool any = replica_find_marked(replica, key, hash, &found);
    if (op != NULL && op->own.ts == message->ts && !op->own.valid) {
        replica_send_inv(replica, op, &op->own, to);
        return;
    }
    if (any && found.record->ts > message->ts && found.state != STATE_UNCONFIRMED &&
        found.record->kind != RECORD_DISCARD) {
        struct message newer = replica_message(replica, MSG_NACK);
        replica_send_record(replica, to, false, &newer, found.record);
        return;
    }
    bool valid = any && found.record->ts == message->ts && found.state == STATE_VALID;
    struct message answer = replica_message(replica, valid ? MSG_VAL : MSG_GONE);
    answer.ts = message->ts;
    replica_send(replica, to, false, &answer, key, slice_make(NULL, 0));
}

/* Its coordinator does not drive it any more: replaying cannot go behind its back. */
void replica_on_gone(struct replica *replica, const struct message *message)
{
    struct slice key = message_key(message);
    uint64_t hash = hash_key(key);
    struct op *op = op_find(replica, key, hash);
    struct found found;
    if (op == NULL || !replica_find_marked(replica, key, hash, &found))
        return;
    if (found.record->ts != message->ts || found.state != STATE_INVALID || op->replay.ts != 0)
        return;
    op->may_replay = true;
    if (replica_is_member(replica))
        replica_replay_start(replica, op, &found);
}
