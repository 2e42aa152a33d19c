#include "recovery/heal.h"

#include "recovery/buddy.h"

static void send_empty(struct replica *replica, uint8_t to, enum message_type type, uint64_t first,
                       uint64_t second, uint64_t third)
{
    struct message message = replica_message(replica, type);
    message.number[0] = first;
    message.number[1] = second;
    message.number[2] = third;
    replica_send(replica, to, false, &message, slice_make(NULL, 0), slice_make(NULL, 0));
}

/* ---- beginning ---- */

static void ask_members(struct heal *heal, struct replica *replica)
{
    heal->phase = HEAL_ASKING;
    heal->buddy = 0;
    heal->offered = 0;
    heal->asked_us = replica->mono_us;
    send_empty(replica, replica->view.members, MSG_HEAL_ASK, 0, 0, 0);
}

/* Also begins again within an epoch: then what this epoch brought stays confirmed, because it was
 * acknowledged, and the next buddy may not have heard of it yet. */
static void prepare_session(struct heal *heal, struct replica *replica)
{
    heal->session = (uint64_t)replica->view.epoch << 16 | ((heal->session + 1) & 0xffff);
    heal->full = heal->end_seen = heal->unresolved = false;
    heal->cursor = (struct store_cursor){0};
    heal->checks = heal->answers = heal->received = heal->told = heal->bytes_untold = 0;
    heal->listed_us = heal->ended_us = 0;
    if (heal->started_us == 0)
        heal->started_us = replica->mono_us;
}

static void begin_session(struct heal *heal, struct replica *replica)
{
    prepare_session(heal, replica);
    ask_members(heal, replica);
}

/* There was no room: cleaning has to go on first. Asks when the time for offers is over. */
static void begin_later(struct heal *heal, struct replica *replica)
{
    prepare_session(heal, replica);
    heal->own_first = !FAULT(OWN_NOT_FIRST);
    heal->phase = HEAL_ASKING;
    heal->buddy = 0;
    heal->offered = 0;
    heal->asked_us = replica->mono_us;
}

/* Everything after the mark is unconfirmed anew: what another epoch brought may have been undone
 * since (flaw 8). The members are asked while the walk over it goes on; the session is opened when
 * both are through. */
static void distrust(struct heal *heal, struct replica *replica)
{
    struct mark mark = {0};
    bool known = store_mark_last(replica->store, &mark) && mark.lsn != 0;
    heal->mark = known && !heal->always_full && !heal->full_begun ? mark.lsn : 0;
    uint64_t lsn_min = heal->own_first ? 0 : heal->mark;
    heal->all_marked = lsn_min == 0;
    if (!FAULT(UNCONFIRMED_TRUSTED))
        replica_mark_begin(replica, lsn_min);
}

void heal_on_view(struct heal *heal, struct replica *replica)
{
    if (replica_is_healing(replica)) {
        distrust(heal, replica);
        begin_session(heal, replica);
        return;
    }
    heal->phase = HEAL_IDLE;
    heal->buddy = 0;
    heal->own_first = false;
}

/* The buddy's walk ends where its log ends now, and what it does not bring is not the group's:
 * nothing here may still look trusted. */
static void open_session(struct heal *heal, struct replica *replica)
{
    if (replica_is_marking(replica) && !FAULT(OPEN_BEFORE_MARKED))
        return;
    bool checks = !heal->full || heal->own_first;
    heal->phase = checks ? HEAL_CHECKING : HEAL_TAKING;
    heal->listed_us = checks ? 0 : replica->mono_us;
    send_empty(replica, node_bit(heal->buddy), MSG_HEAL_OPEN, heal->session, heal->full,
               heal->own_first);
}

/* The newest mark in common is best; among equals shards take different ones. */
static void choose_buddy(struct heal *heal, struct replica *replica)
{
    unsigned best = 0;
    for (unsigned i = 0; i < NODE_COUNT_MAX; i++) {
        unsigned node = (heal->shard + i) % NODE_COUNT_MAX + 1;
        if ((heal->offered & replica->view.members & node_bit(node)) == 0)
            continue;
        if (best == 0 || heal->offer[node] > heal->offer[best])
            best = node;
    }
    if (best == 0)
        return;
    heal->buddy = best;
    heal->full = heal->mark == 0 || heal->offer[best] == 0;
    /* nobody shares a mark: nothing here is known to be the group's */
    if ((heal->own_first || heal->full) && !heal->all_marked) {
        replica_mark_everything(replica);
        heal->all_marked = true;
    }
    if (heal->full)
        heal->mark = 0;
    heal->full_begun = heal->full;
    heal->phase = HEAL_MARKING;
    open_session(heal, replica);
}

void heal_on_offer(struct heal *heal, struct replica *replica, const struct message *message)
{
    if (heal->phase != HEAL_ASKING)
        return;
    heal->offered |= node_bit(message->from);
    heal->offer[message->from] = message->number[0];
    if ((replica->view.members & (uint8_t)~heal->offered) == 0)
        choose_buddy(heal, replica);
}

/* A channel that broke may have lost part of the session. */
void heal_on_up(struct heal *heal, struct replica *replica, unsigned peer)
{
    if (heal->phase == HEAL_IDLE || !replica_is_healing(replica))
        return;
    if (heal->phase == HEAL_ASKING)
        send_empty(replica, node_bit(peer) & replica->view.members, MSG_HEAL_ASK, 0, 0, 0);
    else if (heal->buddy == peer && heal->phase < HEAL_SETTLING)
        begin_session(heal, replica);
}

/* ---- checking own records ---- */

static uint64_t check_window(const struct replica *replica)
{
    uint64_t count = HEAL_CHECK_BYTES / (replica->options.value_size_max | 1);
    return count > HEAL_CHECK_WINDOW ? HEAL_CHECK_WINDOW : count < 1 ? 1 : count;
}

static void check_some(struct heal *heal, struct replica *replica)
{
    uint64_t budget = replica_walk_budget(replica, replica->options.walk_bytes, &heal->tail);
    while (heal->checks - heal->answers < check_window(replica)) {
        struct found found;
        uint64_t lsn_min = heal->own_first ? 0 : heal->mark;
        if (!store_walk(replica->store, &heal->cursor, lsn_min, &budget, &found)) {
            heal->phase = HEAL_TAKING;
            heal->listed_us = replica->mono_us;
            send_empty(replica, node_bit(heal->buddy), MSG_HEAL_LISTED, heal->session, heal->checks,
                       0);
            return;
        }
        if (found.record == NULL)
            return;
        if (found.state != STATE_UNCONFIRMED)
            continue;
        struct message check = replica_message(replica, MSG_HEAL_CHECK);
        check.ts = found.record->ts;
        check.number[0] = heal->session;
        check.number[1] = ++heal->checks;
        replica_send(replica, node_bit(heal->buddy), false, &check, record_key(found.record),
                     slice_make(NULL, 0));
    }
}

/* ---- taking ---- */

static bool of_this_session(const struct heal *heal, const struct message *message)
{
    return message->from == heal->buddy &&
           (message->number[0] == heal->session || FAULT(EPOCH_GATE_HEAL)) &&
           (heal->phase == HEAL_CHECKING || heal->phase == HEAL_TAKING);
}

static void count_taken(struct heal *heal, struct replica *replica, const struct message *message)
{
    heal->received = message->number[1];
    heal->bytes_untold += heal_progress_size(message->number[2]);
    if (message->type == MSG_HEAL_RECORD)
        heal->left_bytes = heal_progress_left(message->number[2]);
    if (message->type != MSG_HEAL_RECORD || (message->flags & MESSAGE_ANSWER))
        heal->answers++;
    if (heal->received - heal->told < HEAL_TAKEN_EVERY && heal->bytes_untold < 64 << 10)
        return;
    send_empty(replica, node_bit(heal->buddy), MSG_HEAL_TAKEN, heal->session, heal->received,
               heal->bytes_untold);
    heal->told = heal->received;
    heal->bytes_untold = 0;
}

/* False: no room to follow a record that is not valid yet; nothing changed. */
static bool settle_state(struct replica *replica, struct found *found, bool valid)
{
    struct slice key = record_key(found->record);
    struct op *op =
        valid ? op_find(replica, key, hash_key(key)) : op_take(replica, key, hash_key(key));
    if (op == NULL && !valid)
        return false;
    if (!valid)
        op->lsn = found->lsn;
    replica_set_state(replica, found, valid ? STATE_VALID : STATE_INVALID);
    if (op != NULL && valid)
        replica_became_valid(replica, op);
    return true;
}

/* The last room is kept for records that make some: those that own ones are exchanged for when they
 * are checked. */
static bool is_too_much(const struct replica *replica, const struct message *message,
                        const struct record *former)
{
    uint64_t size = record_size_of(message->key_size, message->value_size, message->record_flags);
    return (former == NULL || size > record_size(former)) && store_is_full(replica->store);
}

/* The group's record: taken unless this epoch has brought a newer one. What is unconfirmed gives
 * way to anything. */
static bool take_group_record(struct heal *heal, struct replica *replica,
                              const struct message *message)
{
    struct slice key = message_key(message);
    struct found found;
    bool valid = (message->flags & MESSAGE_INVALID_HERE) == 0;
    bool any = store_find(replica->store, key, hash_key(key), &found);
    bool unconfirmed = any && found.state == STATE_UNCONFIRMED;
    if (any && found.record->ts == message->ts) {
        if (unconfirmed || (found.state == STATE_INVALID && valid))
            return settle_state(replica, &found, valid);
        return true;
    }
    if (any && !unconfirmed && found.record->ts > message->ts && !FAULT(FRESH_RULE_OFF))
        return true;
    if (!heal->own_first && !FAULT(OWN_NOT_FIRST) &&
        is_too_much(replica, message, any ? found.record : NULL))
        return false;
    struct op *op = replica_take_record(replica, message, valid ? STATE_VALID : STATE_INVALID);
    if (op == NULL)
        return false;
    heal->records++;
    heal->bytes += message_size(message);
    if (valid)
        replica_became_valid(replica, op);
    return true;
}

/* No room. Others of the own records may make some, and cleaning after them: those are gone through
 * to the end. False: the session has ended. */
static bool put_off(struct heal *heal, struct replica *replica, bool own)
{
    if (own && heal->own_first) {
        heal->unresolved = true;
        return true;
    }
    begin_later(heal, replica);
    return false;
}

void heal_on_record(struct heal *heal, struct replica *replica, const struct message *message)
{
    if (!of_this_session(heal, message))
        return;
    if (!take_group_record(heal, replica, message) &&
        !put_off(heal, replica, (message->flags & MESSAGE_ANSWER) != 0))
        return;
    count_taken(heal, replica, message);
}

void heal_on_same(struct heal *heal, struct replica *replica, const struct message *message)
{
    struct slice key = message_key(message);
    struct found found;
    if (!of_this_session(heal, message))
        return;
    if (store_find(replica->store, key, hash_key(key), &found) &&
        found.state == STATE_UNCONFIRMED && found.record->ts == message->ts) {
        if (!settle_state(replica, &found, (message->flags & MESSAGE_INVALID_HERE) == 0)) {
            begin_later(heal, replica);
            return;
        }
        heal->confirmed++;
    }
    count_taken(heal, replica, message);
}

/* A write that only this node knew must not come back: all its earlier records of the key are void
 * (flaw 7). */
static bool discard(struct heal *heal, struct replica *replica, struct slice key)
{
    struct record_spec spec = {.kind = RECORD_DISCARD, .key = key};
    struct found found;
    enum status status =
        store_put_nodrain(replica->store, &spec, hash_key(key), STATE_VALID, true, &found);
    if (status != STATUS_OK)
        return false;
    heal->discarded++;
    if (key.size == 0)
        replica_refresh_flush(replica);
    return true;
}

void heal_on_absent(struct heal *heal, struct replica *replica, const struct message *message)
{
    struct slice key = message_key(message);
    struct found found;
    if (!of_this_session(heal, message))
        return;
    bool unconfirmed =
        store_find(replica->store, key, hash_key(key), &found) && found.state == STATE_UNCONFIRMED;
    if (unconfirmed && found.record->kind == RECORD_DISCARD) {
        replica_set_state(replica, &found, STATE_VALID);
    } else if (unconfirmed && !discard(heal, replica, key) && !put_off(heal, replica, true)) {
        return;
    }
    count_taken(heal, replica, message);
}

/* ---- the end ---- */

void heal_on_end(struct heal *heal, struct replica *replica, const struct message *message)
{
    if (!of_this_session(heal, message))
        return;
    if (!FAULT(NO_BUDDY_CLOCK)) {
        replica_see_version(replica, message->ts);
        replica_see_version(replica, message->cas);
        if (message->cas > replica->floor)
            replica->floor = message->cas;
    }
    heal->end_seen = true;
    heal->left_bytes = 0;
    heal->cursor = (struct store_cursor){0};
}

/* After a full session: what the walk did not bring is not the group's. False: not through yet. */
static bool drop_unconfirmed(struct heal *heal, struct replica *replica)
{
    uint64_t budget = replica_walk_budget(replica, replica->options.walk_bytes, &heal->tail);
    struct found found;
    while (store_walk(replica->store, &heal->cursor, 0, &budget, &found)) {
        uint8_t key[RECORD_KEY_SIZE_MAX];
        if (found.record == NULL)
            return false;
        if (found.state != STATE_UNCONFIRMED)
            continue;
        struct slice old = record_key(found.record);
        if (old.size > 0)
            memcpy(key, old.data, old.size); /* appending may move the old record */
        if (!discard(heal, replica, slice_make(key, old.size))) {
            heal->cursor = (struct store_cursor){0};
            return false;
        }
    }
    return true;
}

/* As a member it must know a clock that is not below any floor, whatever it loses from then on: all
 * its former log may be of another time. Without room it stays where it is, and tries again. */
static void settle(struct heal *heal, struct replica *replica)
{
    if (!FAULT(HEALED_CLOCK_UNKEPT) && !replica_keep_clock(replica, replica->clock))
        return;
    heal->phase = HEAL_SETTLING;
    heal->settle = log_tail(store_log(replica->store));
    heal->ended_us = replica->mono_us;
}

void heal_advance(struct heal *heal, struct replica *replica)
{
    if (heal->phase != HEAL_SETTLING || replica->durable < heal->settle)
        return;
    heal->phase = HEAL_HEALED;
    heal->full_begun = false;
    struct action action = {.type = ACTION_HEALED, .epoch = replica->view.epoch};
    replica->actions->take(replica->actions->user, &action);
}

void heal_on_tick(struct heal *heal, struct replica *replica)
{
    if (!replica_is_healing(replica))
        return;
    if (heal->phase == HEAL_ASKING && replica->mono_us - heal->asked_us >= HEAL_OFFER_US) {
        choose_buddy(heal, replica);
        if (heal->buddy == 0)
            ask_members(heal, replica);
    }
    if (heal->phase == HEAL_MARKING)
        open_session(heal, replica);
    if (heal->phase == HEAL_CHECKING)
        check_some(heal, replica);
    if ((heal->phase == HEAL_CHECKING || heal->phase == HEAL_TAKING) &&
        heal->received != heal->told) {
        send_empty(replica, node_bit(heal->buddy), MSG_HEAL_TAKEN, heal->session, heal->received,
                   heal->bytes_untold);
        heal->told = heal->received;
        heal->bytes_untold = 0;
    }
    if (heal->phase == HEAL_TAKING && heal->end_seen && heal->unresolved)
        begin_later(heal, replica);
    else if (heal->phase == HEAL_TAKING && heal->end_seen &&
             (!heal->full || drop_unconfirmed(heal, replica)))
        settle(heal, replica);
    heal_advance(heal, replica);
}

bool heal_wants_turn(const struct heal *heal, const struct replica *replica)
{
    return (heal->phase == HEAL_CHECKING && heal->checks - heal->answers < check_window(replica)) ||
           (heal->phase == HEAL_TAKING && (heal->end_seen || heal->received != heal->told));
}
