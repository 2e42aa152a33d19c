/* What of an earlier epoch, or of an earlier life, a healing node must not trust: a walk that makes
 * it UNCONFIRMED, a part of it in each turn. Until it has passed, the range it is for counts as
 * marked: whoever needs such a record finds it by replica_find_marked(). What this epoch brings is
 * always appended, so it lies behind the range (doc/protocol.md, Healing). */
#include "replica/replica.h"

static bool range_holds(const struct marking *marking, uint64_t lsn)
{
    return lsn >= marking->lsn_min && lsn < marking->lsn_end;
}

bool replica_awaits_mark(const struct replica *replica, uint64_t lsn)
{
    return replica->marking.active && range_holds(&replica->marking, lsn);
}

/* Records before the mark that an INV of an earlier epoch, or a buddy, made INVALID, or that were
 * being replayed: as before it, the mark says that they are complete. */
static void trust_again(struct replica *replica, uint64_t lsn_min)
{
    for (uint32_t i = 0; i < replica->op_capacity; i++) {
        const struct op *op = &replica->ops[i];
        struct found found;
        if (!op->used || !store_find(replica->store, op_key(op), op->hash, &found) ||
            found.lsn >= lsn_min)
            continue;
        if (found.state == STATE_INVALID || found.state == STATE_REPLAY)
            replica_set_state(replica, &found, STATE_VALID);
    }
}

void replica_mark_opened(struct replica *replica, uint64_t lsn_min)
{
    replica->marking = (struct marking){
        .untouched = true,
        .lsn_min = lsn_min,
        .lsn_end = log_tail(store_log(replica->store)),
    };
}

void replica_mark_begin(struct replica *replica, uint64_t lsn_min)
{
    struct marking *marking = &replica->marking;
    uint64_t tail = log_tail(store_log(replica->store));
    bool marked = marking->untouched && lsn_min >= marking->lsn_min && tail == marking->lsn_end;
    marking->active = false;
    trust_again(replica, lsn_min);
    op_forget_all(replica);
    *marking = (struct marking){
        .active = !marked,
        .untouched = marked && replica->fresh,
        .lsn_min = lsn_min,
        .lsn_end = tail,
    };
    replica_refresh_flush(replica);
}

void replica_mark_everything(struct replica *replica)
{
    struct marking *marking = &replica->marking;
    *marking = (struct marking){.active = true, .lsn_end = marking->lsn_end};
}

static void mark(struct replica *replica, struct found *found)
{
    if (found->state != STATE_UNCONFIRMED)
        replica_set_state(replica, found, STATE_UNCONFIRMED);
}

static void walk(struct replica *replica, uint64_t budget)
{
    struct marking *marking = &replica->marking;
    struct found found;
    while (store_walk(replica->store, &marking->cursor, marking->lsn_min, &budget, &found)) {
        if (found.record == NULL)
            return;
        if (range_holds(marking, found.lsn) || FAULT(MARKS_OWN_EPOCH))
            mark(replica, &found);
    }
    marking->active = false;
    marking->untouched = replica->fresh;
    replica_refresh_flush(replica);
}

void replica_mark_some(struct replica *replica)
{
    if (replica->marking.active)
        walk(replica,
             replica_walk_budget(replica, replica->options.walk_bytes, &replica->marking.tail));
}

void replica_mark_end(struct replica *replica)
{
    if (replica->marking.active)
        walk(replica, UINT64_MAX);
    replica->marking.untouched = false;
}

bool replica_find_marked(struct replica *replica, struct slice key, uint64_t hash,
                         struct found *found)
{
    if (!store_find(replica->store, key, hash, found))
        return false;
    if (replica_awaits_mark(replica, found->lsn) && !FAULT(MARK_AT_FACE))
        mark(replica, found);
    return true;
}
