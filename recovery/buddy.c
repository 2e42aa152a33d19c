#include "recovery/buddy.h"

#include <string.h>

static uint64_t round_with(const struct replica *replica, unsigned node)
{
    struct mark mark;
    return store_mark_with(replica->store, node, &mark) && mark.lsn != 0 ? mark.round : 0;
}

void buddy_on_ask(struct replica *replica, const struct message *message)
{
    if (!replica_is_member(replica) || replica->cold)
        return;
    struct message offer = replica_message(replica, MSG_HEAL_OFFER);
    offer.number[0] = FAULT(BUDDY_ANY) ? 1 : round_with(replica, message->from);
    replica_send(replica, node_bit(message->from), false, &offer, slice_make(NULL, 0),
                 slice_make(NULL, 0));
}

void buddy_on_open(struct buddy *buddy, struct replica *replica, const struct message *message)
{
    struct mark mark;
    if (!replica_is_member(replica))
        return;
    memset(buddy, 0, sizeof(*buddy));
    buddy->active = true;
    buddy->session = message->number[0];
    buddy->full = message->number[1] != 0;
    buddy->waits = message->number[2] != 0;
    buddy->listed = buddy->full && !buddy->waits;
    buddy->lsn_end = log_tail(store_log(replica->store));
    if (!buddy->full && store_mark_with(replica->store, message->from, &mark))
        buddy->lsn_min = mark.lsn;
    else if (!buddy->full && FAULT(BUDDY_ANY))
        buddy->lsn_min = buddy->lsn_end;
}

uint64_t buddy_left_bytes(const struct buddy *buddy, const struct replica *replica)
{
    if (!buddy->active || buddy->walked)
        return 0;
    return store_walk_left(replica->store, &buddy->cursor, buddy->lsn_min);
}

/* Sends the group's record, valid or not: one that is skipped would be missed for good (protocol
 * check, flaw 6). */
static void send_current(struct buddy *buddy, struct replica *replica, unsigned node,
                         const struct found *found, uint8_t flags)
{
    struct message message = replica_message(replica, MSG_HEAL_RECORD);
    message.flags = flags;
    if (found->state != STATE_VALID)
        message.flags |= MESSAGE_INVALID_HERE;
    message.number[0] = buddy->session;
    message.number[1] = ++buddy->sent;
    uint64_t size = record_size(found->record);
    message.number[2] = heal_progress_make(size, buddy->left_bytes);
    buddy->bytes_ahead += size;
    buddy->sent_records++;
    buddy->sent_bytes += size;
    replica_send_record(replica, node_bit(node), true, &message, found->record);
}

void buddy_on_check(struct buddy *buddy, struct replica *replica, const struct message *message)
{
    struct slice key = message_key(message);
    struct found found;
    bool any = store_find(replica->store, key, hash_key(key), &found) &&
               found.record->kind != RECORD_DISCARD;
    if (!buddy->active)
        return;
    if (any && found.record->ts != message->ts) {
        if (FAULT(ANSWER_LOWER_IGNORED) && found.record->ts < message->ts)
            any = false, found.record = NULL;
        else {
            send_current(buddy, replica, message->from, &found, MESSAGE_ANSWER);
            return;
        }
    }
    struct message answer = replica_message(replica, any ? MSG_HEAL_SAME : MSG_HEAL_ABSENT);
    if (FAULT(ANSWER_LOWER_IGNORED) && !any)
        answer.type = MSG_HEAL_SAME;
    if (any && found.state != STATE_VALID)
        answer.flags |= MESSAGE_INVALID_HERE;
    answer.ts = message->ts;
    answer.number[0] = buddy->session;
    answer.number[1] = ++buddy->sent;
    replica_send(replica, node_bit(message->from), true, &answer, key, slice_make(NULL, 0));
}

void buddy_on_listed(struct buddy *buddy, struct replica *replica, const struct message *message)
{
    (void)replica;
    if (message->number[0] == buddy->session)
        buddy->listed = true;
}

void buddy_on_taken(struct buddy *buddy, const struct message *message)
{
    if (!buddy->active || message->number[0] != buddy->session)
        return;
    buddy->taken = message->number[1];
    buddy->bytes_ahead -=
        message->number[2] < buddy->bytes_ahead ? message->number[2] : buddy->bytes_ahead;
}

static bool window_open(const struct buddy *buddy)
{
    return buddy->sent - buddy->taken < BUDDY_WINDOW && buddy->bytes_ahead < BUDDY_WINDOW_BYTES;
}

static void end_session(struct buddy *buddy, struct replica *replica, unsigned node)
{
    struct message end = replica_message(replica, MSG_HEAL_END);
    end.number[0] = buddy->session;
    end.ts = replica->clock;
    end.cas = replica->floor;
    buddy->ended = true;
    replica_send(replica, node_bit(node), true, &end, slice_make(NULL, 0), slice_make(NULL, 0));
}

static void walk(struct buddy *buddy, struct replica *replica, unsigned node)
{
    uint64_t budget = replica_walk_budget(replica, replica->options.walk_bytes / 2, &buddy->tail);
    buddy->left_bytes = buddy_left_bytes(buddy, replica);
    while (window_open(buddy)) {
        struct found found;
        if (!store_walk(replica->store, &buddy->cursor, buddy->lsn_min, &budget, &found)) {
            buddy->walked = true;
            return;
        }
        if (found.record == NULL)
            return;
        bool sent_as_inv = found.lsn >= buddy->lsn_end;
        bool skipped = FAULT(WALK_SKIPS_INVALID) && found.state != STATE_VALID;
        if (sent_as_inv || skipped || found.record->kind == RECORD_DISCARD)
            continue;
        uint64_t size = record_size(found.record);
        budget -= size < budget ? size : budget;
        send_current(buddy, replica, node, &found, 0);
    }
}

static bool may_walk(const struct buddy *buddy)
{
    return buddy->listed || !buddy->waits;
}

void buddy_on_tick(struct buddy *buddy, struct replica *replica, unsigned node)
{
    if (!buddy->active || buddy->ended)
        return;
    if (!buddy->walked && may_walk(buddy))
        walk(buddy, replica, node);
    if (buddy->walked && buddy->listed)
        end_session(buddy, replica, node);
}

bool buddy_wants_turn(const struct buddy *buddy)
{
    return buddy->active && !buddy->ended &&
           (buddy->walked ? buddy->listed : may_walk(buddy) && window_open(buddy));
}
