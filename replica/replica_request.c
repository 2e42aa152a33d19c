/* What each command does to the current record of its key: either an answer, or the record to write. */
#include <string.h>

#include "base/decimal.h"
#include "replica/piece.h"
#include "replica/replica.h"

/* What a command sees of its key. */
struct current {
    const struct record *record; /* NULL: absent, deleted or flushed */
    uint64_t base;               /* version to build on */
    bool expired;
};

/* The record to write. `digits` holds a computed value. */
struct plan {
    struct record_spec spec;
    bool plain;
    unsigned joined; /* other SETs that it answers */
    enum outcome outcome;
    uint64_t number;
    struct manifest replaces; /* size 0: none */
    char digits[32];
};

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static struct current look(const struct replica *replica, const struct found *found)
{
    uint64_t absent = FAULT(NO_FLOOR) ? 0 : replica->floor;
    if (replica->flush.known)
        absent = larger(absent, ts_version(replica->flush.ts));
    if (found == NULL)
        return (struct current){.base = absent};
    const struct record *record = found->record;
    bool flushed = replica->flush.known && replica_under_flush(record->key_size) && record->ts < replica->flush.ts;
    if (record->kind != RECORD_VALUE || flushed)
        return (struct current){.base = larger(absent, ts_version(record->ts))};
    return (struct current){
        .record = record,
        .base = ts_version(record->ts),
        .expired = record->key_size > 0 && record->exptime != 0 && record->exptime <= replica->wall_us / 1000000,
    };
}

/* ---- commands that build on what is there ---- */

static enum outcome plan_concat(const struct replica *replica, const struct request *request,
                                const struct record *record, struct plan *plan)
{
    bool append = request->type == REQUEST_APPEND;
    plan->spec.value = append ? record_value(record) : request->value;
    plan->spec.value_tail = append ? request->value : record_value(record);
    plan->spec.client_flags = record->client_flags;
    plan->spec.exptime = record->exptime;
    uint64_t size = record_client_size(record) + request->value.size;
    if (sizeof(*record) + request->key.size + size > replica->options.value_size_max)
        return OUTCOME_TOO_LARGE;
    return (record->flags & RECORD_LARGE) || size > LARGE_VALUE_MIN ? OUTCOME_LARGE : OUTCOME_STORED;
}

static enum outcome plan_arithmetic(const struct request *request, const struct record *record, struct plan *plan)
{
    uint64_t number;
    if (record->value_size > sizeof(plan->digits) - 1 || (record->flags & RECORD_LARGE) ||
        decimal_parse_stored(record_value(record), &number) != STATUS_OK)
        return OUTCOME_NON_NUMERIC;
    if (request->type == REQUEST_INCR)
        number += request->delta;
    else
        number = number < request->delta ? 0 : number - request->delta;
    size_t size = decimal_format(number, plan->digits);
    for (; size < record->value_size; size++)
        plan->digits[size] = ' '; /* as memcached: a value does not shrink */
    plan->spec.value = slice_make(plan->digits, size);
    plan->spec.client_flags = record->client_flags;
    plan->spec.exptime = record->exptime;
    plan->number = number;
    return OUTCOME_NUMBER;
}

static enum outcome plan_touch(const struct request *request, const struct record *record, struct plan *plan)
{
    plan->spec.value = record_value(record);
    plan->spec.client_flags = record->client_flags;
    plan->spec.flags |= RECORD_CAS | (record->flags & RECORD_LARGE);
    plan->spec.cas = record_cas(record);
    return request->type == REQUEST_GAT ? OUTCOME_HIT : OUTCOME_TOUCHED;
}

static enum outcome plan_flush(const struct replica *replica, const struct request *request, struct plan *plan)
{
    plan->plain = request->exptime == 0;
    if (!plan->plain) { /* what is flushed so far stays flushed until the moment comes */
        uint64_t flushed = replica->flush.known ? replica->flush.ts : 0;
        memcpy(plan->digits, &flushed, sizeof(flushed));
        plan->spec.value = slice_make(plan->digits, sizeof(flushed));
    }
    return OUTCOME_OK;
}

/* An incr or decr of what is not there. */
static enum outcome plan_initial(const struct request *request, struct plan *plan)
{
    if (!request->vivify)
        return OUTCOME_NOT_FOUND;
    plan->spec.value = slice_make(plan->digits, decimal_format(request->initial, plan->digits));
    plan->number = request->initial;
    return OUTCOME_NUMBER;
}

/* True: write plan->spec, then answer plan->outcome. False: answer plan->outcome now. */
static bool plan_write(const struct replica *replica, const struct request *request, const struct current *now,
                       struct plan *plan)
{
    const struct record *record = now->record;
    plan->spec = (struct record_spec){
        .kind = RECORD_VALUE,
        .flags = RECORD_RMW | (request->large ? RECORD_LARGE : 0),
        .client_flags = request->client_flags,
        .exptime = request->exptime,
        .key = request->key,
        .value = request->value,
    };
    plan->plain = false;
    plan->outcome = OUTCOME_STORED;
    bool compares = request->compare && !FAULT(NO_COMPARE);
    if (compares && record != NULL && record_cas(record) != request->cas) {
        plan->outcome = OUTCOME_EXISTS;
        return false;
    }
    switch (request->type) {
    case REQUEST_SET:
        plan->plain = true;
        break;
    case REQUEST_ADD:
        plan->outcome = record == NULL ? OUTCOME_STORED : OUTCOME_NOT_STORED;
        break;
    case REQUEST_REPLACE:
        plan->outcome = record != NULL ? OUTCOME_STORED : OUTCOME_NOT_STORED;
        break;
    case REQUEST_CAS:
        if (record == NULL)
            plan->outcome = OUTCOME_NOT_FOUND;
        else if (record_cas(record) != request->cas)
            plan->outcome = OUTCOME_EXISTS;
        break;
    case REQUEST_APPEND:
    case REQUEST_PREPEND:
        plan->outcome = record == NULL ? OUTCOME_NOT_STORED : plan_concat(replica, request, record, plan);
        break;
    case REQUEST_INCR:
    case REQUEST_DECR:
        plan->outcome =
            record == NULL ? plan_initial(request, plan) : plan_arithmetic(request, record, plan);
        break;
    case REQUEST_TOUCH:
    case REQUEST_GAT:
        if (record == NULL)
            plan->outcome = request->type == REQUEST_GAT ? OUTCOME_MISS : OUTCOME_NOT_FOUND;
        else
            plan->outcome = plan_touch(request, record, plan);
        break;
    case REQUEST_DELETE:
    case REQUEST_EXPIRE:
        plan->outcome = record == NULL ? OUTCOME_NOT_FOUND : OUTCOME_DELETED;
        plan->spec.kind = RECORD_TOMBSTONE;
        plan->spec.value = slice_make(NULL, 0);
        plan->spec.client_flags = plan->spec.exptime = 0;
        break;
    case REQUEST_FLUSH:
        plan->outcome = plan_flush(replica, request, plan);
        break;
    case REQUEST_GET:
        assert(false && "a get writes nothing");
    }
    if (plan->plain)
        plan->spec.flags &= (uint8_t)~RECORD_RMW;
    return plan->outcome == OUTCOME_STORED || plan->outcome == OUTCOME_NUMBER || plan->outcome == OUTCOME_HIT ||
           plan->outcome == OUTCOME_TOUCHED || plan->outcome == OUTCOME_DELETED || plan->outcome == OUTCOME_OK;
}

/* ---- writing ---- */

static uint64_t next_ts(struct replica *replica, const struct plan *plan, uint64_t base)
{
    unsigned plain_step = FAULT(PLAIN_PLUS_ONE) ? 1 : PLAIN_STEP;
    unsigned rmw_step = FAULT(RMW_PLUS_FOUR) ? 4 : RMW_STEP;
    uint64_t version = base + rmw_step;
    if (plan->plain) {
        version = larger(base + plain_step, replica->clock + plain_step);
        if (!FAULT(PLAIN_PLUS_ONE))
            version = larger(version, replica->wall_us);
        version += plan->joined; /* the versions below are theirs: reply_all() */
    }
    replica_see_version(replica, version);
    return ts_make(version, replica->options.self,
                   FAULT(NO_INCARNATION) ? 0 : (unsigned)replica->options.incarnation);
}

/* SETs that wait right behind a SET go out with it as one write, the last; all are answered. */
static struct request *last_of_sets(const struct op *op, struct request *first, unsigned *joined)
{
    struct request *last = first;
    *joined = 0;
    if (op == NULL || first->type != REQUEST_SET)
        return last;
    for (struct request *next = op->wait_first; next != NULL && next->type == REQUEST_SET; next = next->next) {
        if (next->value.size > first->value.size)
            break; /* should it not fit, the first would be refused for it */
        last = next;
        ++*joined;
    }
    return last;
}

/* Moves the waiting SETs up to `last` to the pending write. */
static void join_sets(struct replica *replica, struct op *op, struct request *first, struct request *last)
{
    struct request *request = first;
    while (request != last) {
        request->next = op->wait_first;
        request = op->wait_first;
        op->wait_first = request->next;
        replica->waiting--;
    }
    if (op->wait_first == NULL)
        op->wait_last = NULL;
    last->next = NULL;
}

/* Its pieces are nobody's when the new record is complete; touch and gat keep them. */
static void note_replaced(struct replica *replica, const struct plan *plan)
{
    struct replaced *replaced = &replica->replaced;
    bool kept = (plan->spec.flags & RECORD_LARGE) && manifest_of(plan->spec.value).upload == plan->replaces.upload;
    if (plan->replaces.size == 0 || kept || replaced->count == REPLACED_COUNT_MAX)
        return;
    uint32_t at = (replaced->head + replaced->count++) % REPLACED_COUNT_MAX;
    replaced->manifests[at] = plan->replaces;
    replaced->since_us[at] = replica->mono_us;
}

static enum execute write_start(struct replica *replica, struct request *request, struct plan *plan, uint64_t base);

/* A set that found no memory must not leave the old value, as if nothing had been set (memcached). Here, not by a command
 * of its own: a later set of the same client must not be deleted by it. */
static enum execute delete_instead(struct replica *replica, struct request *request, uint64_t base)
{
    struct plan plan = {.outcome = OUTCOME_NO_MEMORY};
    plan.spec = (struct record_spec){.kind = RECORD_TOMBSTONE, .flags = RECORD_RMW, .key = request->key};
    return write_start(replica, request, &plan, base);
}

/* The write itself: record, op, INV. NULL-safe about room: EXECUTE_BLOCKED means nothing happened. */
static enum execute write_start(struct replica *replica, struct request *request, struct plan *plan, uint64_t base)
{
    struct op *op = op_find(replica, request->key, request->hash);
    bool made = op == NULL;
    if (made && (replica->own_count >= replica->options.op_count_max ||
                 (op = op_take(replica, request->key, request->hash)) == NULL))
        return EXECUTE_BLOCKED;
    assert(op->own.ts == 0);
    bool removes = plan->spec.kind == RECORD_TOMBSTONE;
    uint64_t size = plan->spec.value.size + plan->spec.value_tail.size;
    struct found found;
    if (replica->own_count > 0 && replica->own_bytes + size > OWN_BYTES_MAX && !removes) {
        if (made)
            op_give_if_idle(replica, op, STATE_VALID);
        return EXECUTE_BLOCKED;
    }
    plan->spec.ts = next_ts(replica, plan, base);
    enum status put = store_put_nodrain(replica->store, &plan->spec, request->hash, STATE_WRITE, removes, &found);
    if (put != STATUS_OK) {
        if (made)
            op_give_if_idle(replica, op, STATE_VALID);
        if (put == STATUS_BUSY)
            return EXECUTE_BLOCKED;
        if (put == STATUS_NO_SPACE && request->type == REQUEST_SET && !removes &&
            store_find(replica->store, request->key, request->hash, &found) && found.record->kind == RECORD_VALUE)
            return delete_instead(replica, request, base);
        bool large = put == STATUS_TOO_LARGE;
        request->next = NULL;
        replica_reply(replica, request, large ? OUTCOME_TOO_LARGE : OUTCOME_NO_MEMORY, NULL, 0, false);
        return EXECUTE_DONE;
    }
    op->lsn = found.record->lsn;
    op->since_us = replica->mono_us;
    op->own = (struct pending){
        .ts = plan->spec.ts,
        .lsn = found.record->lsn,
        .started_us = replica->mono_us,
        .size = (uint32_t)record_size(found.record),
        .rmw = !plan->plain,
        .outcome = plan->outcome,
        .number = plan->number,
        .cas = record_cas(found.record),
        .requests = request,
    };
    request->next = NULL;
    replica->own_count++;
    replica->own_bytes += op->own.size;
    if (plan->plain)
        replica->writes++;
    else
        replica->rmws++;
    if (request->key.size == 0)
        replica_refresh_flush(replica);
    note_replaced(replica, plan);
    replica_send_inv(replica, op, &op->own, replica_peers(replica));
    defer(replica, &(struct deferred){.need = op->own.lsn, .ts = op->own.ts, .token = op_token(replica, op)});
    return EXECUTE_DONE;
}

static struct manifest replaced_by(const struct current *now)
{
    if (now->record == NULL || !(now->record->flags & RECORD_LARGE))
        return (struct manifest){.size = 0};
    return manifest_of(record_value(now->record));
}

/* A record past its time is deleted by a write of its own first; the request goes on when that is complete. */
static enum execute expire_first(struct replica *replica, struct request *request, const struct current *now)
{
    struct plan plan = {.outcome = OUTCOME_DELETED, .replaces = replaced_by(now)};
    plan.spec = (struct record_spec){.kind = RECORD_TOMBSTONE, .flags = RECORD_RMW, .key = request->key};
    struct op *op = op_take(replica, request->key, request->hash);
    if (op == NULL)
        return EXECUTE_BLOCKED;
    enum execute started = write_start(replica, request, &plan, now->base);
    if (started == EXECUTE_BLOCKED) {
        op_give_if_idle(replica, op, STATE_VALID);
        return started;
    }
    if (op->own.ts == 0)
        return EXECUTE_DONE; /* no room: answered */
    op->own.requests = NULL;
    replica->expired++;
    op_wait(replica, op, request, true);
    return EXECUTE_WAITS;
}

static enum execute wait_for(struct replica *replica, struct slice key, uint64_t hash, struct request *request)
{
    struct op *op = op_take(replica, key, hash);
    if (op == NULL)
        return EXECUTE_BLOCKED;
    if (request->type == REQUEST_GET)
        replica->read_waits++;
    op_wait(replica, op, request, false);
    return EXECUTE_WAITS;
}

static enum execute read_answer(struct replica *replica, struct request *request, const struct record *record)
{
    replica->reads++;
    request->next = NULL;
    replica_reply(replica, request, record != NULL ? OUTCOME_HIT : OUTCOME_MISS, record, 0, true);
    return EXECUTE_DONE;
}

enum execute replica_execute(struct replica *replica, struct request *request)
{
    struct found found;
    bool any = store_find(replica->store, request->key, request->hash, &found);
    if (any && found.state == STATE_UNCONFIRMED) {
        (void)replica_drive_unconfirmed(replica, &found); /* at once, when somebody asks for it */
        any = store_find(replica->store, request->key, request->hash, &found);
    }
    struct op *op = op_find(replica, request->key, request->hash);
    if ((any && found.state != STATE_VALID) || (op != NULL && op->own.ts != 0))
        return wait_for(replica, request->key, request->hash, request);

    bool plain = request->type == REQUEST_SET || request->type == REQUEST_FLUSH;
    bool under_flush = replica->flush.known && !replica->flush.valid && any && replica_under_flush(request->key.size) &&
                       found.record->ts < replica->flush.ts;
    if (under_flush)
        return wait_for(replica, slice_make("", 0), hash_key(slice_make("", 0)), request);

    struct current now = look(replica, any ? &found : NULL);
    if (now.expired && !plain && !FAULT(EXPIRE_LOCAL)) {
        if (request->type != REQUEST_EXPIRE) /* else it is what the request is for */
            return expire_first(replica, request, &now);
    } else if (now.expired || request->type == REQUEST_EXPIRE) {
        now.record = NULL;
    }
    if (request->type == REQUEST_GET)
        return read_answer(replica, request, now.record);

    struct plan plan = {.replaces = replaced_by(&now)};
    if (!plan_write(replica, request, &now, &plan)) {
        request->next = NULL;
        replica_reply(replica, request, plan.outcome, NULL, plan.number, true);
        return EXECUTE_DONE;
    }
    struct request *last = last_of_sets(op, request, &plan.joined);
    if (last != request) {
        plan.spec.client_flags = last->client_flags;
        plan.spec.exptime = last->exptime;
        plan.spec.value = last->value;
        plan.spec.flags = last->large ? RECORD_LARGE : 0;
    }
    enum execute started = write_start(replica, request, &plan, now.base);
    if (started == EXECUTE_DONE && op != NULL && op->used && op->own.requests == request)
        join_sets(replica, op, request, last);
    return started;
}

static void block(struct replica *replica, struct request *request)
{
    request->next = NULL;
    if (replica->blocked_last != NULL)
        replica->blocked_last->next = request;
    else
        replica->blocked_first = request;
    replica->blocked_last = request;
}

void replica_on_request(struct replica *replica, struct request *request)
{
    request->next = NULL;
    if (!replica_is_member(replica)) {
        replica_reply(replica, request, OUTCOME_REFUSED, NULL, 0, false);
        return;
    }
    struct op *op = op_find(replica, request->key, request->hash);
    if (replica->blocked_first != NULL)
        block(replica, request); /* nothing overtakes: a client's commands on a key keep their order */
    else if (op != NULL && op->wait_first != NULL)
        op_wait(replica, op, request, false);
    else if (replica_execute(replica, request) == EXECUTE_BLOCKED)
        block(replica, request);
}

void replica_unblock(struct replica *replica)
{
    while (replica->blocked_first != NULL) {
        struct request *request = replica->blocked_first;
        struct request *rest = request->next;
        struct op *op = op_find(replica, request->key, request->hash);
        if (op != NULL && op->wait_first != NULL)
            op_wait(replica, op, request, false);
        else if (replica_execute(replica, request) == EXECUTE_BLOCKED) {
            request->next = rest;
            return;
        }
        replica->blocked_first = rest;
        if (rest == NULL)
            replica->blocked_last = NULL;
    }
}
