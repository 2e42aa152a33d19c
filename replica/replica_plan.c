/* What each command does to the current record of its key: either an answer, or the record to
 * write. */
#include "replica/plan.h"

#include <string.h>

#include "base/decimal.h"
#include "base/item.h"

struct current plan_look(const struct replica *replica, const struct found *found)
{
    uint64_t absent = FAULT(NO_FLOOR) ? 0 : replica->floor;
    if (replica->flush.known)
        absent = larger(absent, ts_version(replica->flush.ts));
    if (found == NULL)
        return (struct current){.base = absent};
    const struct record *record = found->record;
    bool flushed = replica->flush.known && replica_under_flush(record->key_size) &&
                   record->ts < replica->flush.ts;
    if (record->kind != RECORD_VALUE || flushed)
        return (struct current){.base = larger(absent, ts_version(record->ts)),
                                .flushed = flushed && record->kind == RECORD_VALUE};
    return (struct current){
        .record = record,
        .base = ts_version(record->ts),
        .expired = record->key_size > 0 && record_exptime(record) != 0 &&
                   record_exptime(record) <= replica->wall_us / 1000000,
    };
}

bool replica_shows(const struct replica *replica, const struct found *found, uint32_t now)
{
    const struct record *record = found->record;
    bool expired = record_exptime(record) != 0 && record_exptime(record) <= now;
    return replica_under_flush(record->key_size) && found->state != STATE_UNCONFIRMED && !expired &&
           plan_look(replica, found).record != NULL;
}

/* ---- commands that build on what is there ---- */

/* Marks of a record that stay while its value is the same, or the same number going on. */
enum { KEPT = RECORD_STALE | RECORD_WON | RECORD_BASE64 | RECORD_LARGE };

static void keep_cas(const struct record *record, struct plan *plan)
{
    plan->spec.flags |= RECORD_CAS;
    plan->spec.cas = record_cas(record);
}

static uint32_t later_exptime(const struct request *request, const struct record *record)
{
    return (request->options & REQUEST_SETS_EXPTIME) ? request->new_exptime
                                                     : record_exptime(record);
}

static uint64_t request_client_size(const struct request *request)
{
    return request->large ? manifest_of(request->value).size : request->value.size;
}

static enum outcome plan_concat(const struct replica *replica, const struct request *request,
                                const struct record *record, struct plan *plan)
{
    bool append = request->type == REQUEST_APPEND;
    if (record == NULL)
        return request->vivify ? OUTCOME_STORED : OUTCOME_NOT_STORED;
    plan->spec.client_flags = record_client_flags(record);
    plan->spec.exptime = record_exptime(record);
    plan->spec.flags |= record->flags & RECORD_BASE64;
    if (request->whole)
        return OUTCOME_STORED;
    plan->spec.value = append ? record_value(record) : request->value;
    plan->spec.value_tail = append ? request->value : record_value(record);
    uint64_t size = record_client_size(record) + request_client_size(request);
    if (!item_fits(replica->options.value_size_max, request->key.size, record_client_flags(record),
                   size))
        return OUTCOME_TOO_LARGE;
    /* a manifest is no part of a value */
    bool in_pieces = (record->flags & RECORD_LARGE) || request->large;
    return in_pieces || size > LARGE_VALUE_MIN ? OUTCOME_LARGE : OUTCOME_STORED;
}

/* An incr or decr of what is not there. */
static enum outcome plan_initial(struct request *request, struct plan *plan)
{
    if (!request->vivify)
        return OUTCOME_NOT_FOUND;
    request->seen.marks |= SEEN_CREATED;
    plan->spec.value = slice_make(plan->digits, decimal_format(request->initial, plan->digits));
    plan->number = request->initial;
    return OUTCOME_NUMBER;
}

static enum outcome plan_arithmetic(struct request *request, const struct record *record,
                                    struct plan *plan)
{
    uint64_t number;
    if (record == NULL)
        return plan_initial(request, plan);
    if (record->value_size > sizeof(plan->digits) - 1 || (record->flags & RECORD_LARGE) ||
        decimal_parse_stored(record_value(record), &number) != STATUS_OK)
        return OUTCOME_NON_NUMERIC;
    bool adds = request->type == REQUEST_INCR;
    number = adds ? decimal_add(number, request->delta) : decimal_subtract(number, request->delta);
    size_t size = decimal_format_stored(number, plan->digits, record->value_size);
    plan->spec.value = slice_make(plan->digits, size);
    plan->spec.client_flags = record_client_flags(record);
    plan->spec.exptime = later_exptime(request, record);
    plan->spec.flags |= record->flags & KEPT;
    plan->keeps_access = size == record->value_size;
    plan->number = number;
    return OUTCOME_NUMBER;
}

static enum outcome plan_touch(const struct request *request, const struct record *record,
                               struct plan *plan)
{
    bool reads = request->type == REQUEST_GAT;
    if (record == NULL)
        return reads ? OUTCOME_MISS : OUTCOME_NOT_FOUND;
    plan->spec.value = record_value(record);
    plan->spec.client_flags = record_client_flags(record);
    keep_cas(record, plan);
    plan->spec.flags |= record->flags & KEPT;
    plan->keeps_access = true;
    return reads ? OUTCOME_HIT : OUTCOME_TOUCHED;
}

static enum outcome plan_flush(const struct replica *replica, const struct request *request,
                               struct plan *plan)
{
    plan->plain = request->exptime == 0;
    if (!plan->plain) { /* what is flushed so far stays flushed until the moment comes */
        uint64_t flushed = replica->flush.known ? replica->flush.ts : 0;
        memcpy(plan->digits, &flushed, sizeof(flushed));
        plan->spec.value = slice_make(plan->digits, sizeof(flushed));
    }
    return OUTCOME_OK;
}

/* ---- commands of the meta protocol ---- */

/* Who finds a stale value, or one that expires soon, is told once that it shall bring a new one. */
static bool wins(const struct request *request, const struct record *record)
{
    if (record->flags & RECORD_WON)
        return false;
    if (record->flags & RECORD_STALE)
        return true;
    bool first = (request->options & REQUEST_EXPTIME_FIRST) != 0;
    uint32_t exptime = first ? request->new_exptime : record_exptime(record);
    return (request->options & REQUEST_RECACHES) && exptime != 0 && exptime < request->recache_at;
}

static enum outcome plan_vivify_empty(struct request *request, struct plan *plan)
{
    if (!request->vivify)
        return OUTCOME_MISS;
    request->seen.marks |= SEEN_CREATED | SEEN_WON;
    plan->spec.flags |= RECORD_WON;
    plan->spec.value = slice_make(NULL, 0);
    plan->spec.client_flags = 0;
    return OUTCOME_HIT;
}

/* A fetch that changes nothing is a read, and no more. */
static enum outcome plan_fetch(struct request *request, const struct record *record,
                               struct plan *plan)
{
    if (record == NULL)
        return plan_vivify_empty(request, plan);
    bool won = wins(request, record);
    uint32_t exptime = later_exptime(request, record);
    plan->spec.value = record_value(record);
    plan->spec.client_flags = record_client_flags(record);
    plan->spec.exptime = exptime;
    plan->spec.flags = RECORD_RMW | (uint8_t)(record->flags & KEPT) | (won ? RECORD_WON : 0);
    keep_cas(record, plan);
    plan->keeps_access = true;
    request->seen.marks |= won ? SEEN_WON : 0;
    plan->reads = exptime == record_exptime(record) && (!won || FAULT(WIN_UNWRITTEN));
    return OUTCOME_HIT;
}

/* Stale: the value stays, the next one who fetches it wins, and its unique is another one. Emptied:
 * its unique stays. */
static enum outcome plan_invalidate(const struct request *request, const struct record *record,
                                    struct plan *plan)
{
    bool empties = (request->options & REQUEST_EMPTIES) != 0;
    plan->spec.flags |= record->flags & (empties ? RECORD_BASE64 : RECORD_BASE64 | RECORD_LARGE);
    plan->spec.value = empties ? slice_make(NULL, 0) : record_value(record);
    if (!empties) {
        plan->spec.client_flags = record_client_flags(record);
        plan->spec.exptime = later_exptime(request, record);
    }
    if (request->options & REQUEST_MARKS_STALE) {
        plan->spec.flags |= RECORD_STALE;
        plan->keeps_access = !empties;
    } else if (!(request->options & REQUEST_SETS_CAS)) {
        keep_cas(record, plan);
    }
    return OUTCOME_DELETED;
}

static enum outcome plan_delete(const struct request *request, const struct record *record,
                                struct plan *plan)
{
    if (record == NULL)
        return OUTCOME_NOT_FOUND;
    if (request->type == REQUEST_DELETE &&
        (request->options & (REQUEST_MARKS_STALE | REQUEST_EMPTIES)))
        return plan_invalidate(request, record, plan);
    plan->spec.kind = RECORD_TOMBSTONE;
    plan->spec.flags = RECORD_RMW;
    plan->spec.value = slice_make(NULL, 0);
    plan->spec.client_flags = plan->spec.exptime = 0;
    return OUTCOME_DELETED;
}

/* A value for an older version than is there is better than none, if the client says so: as a stale
 * one. */
static enum outcome plan_cas(const struct request *request, const struct record *record,
                             struct plan *plan)
{
    if (record == NULL)
        return OUTCOME_NOT_FOUND;
    if (record_cas(record) == request->cas)
        return OUTCOME_STORED;
    if (!(request->options & REQUEST_MARKS_STALE) || request->cas == 0 ||
        request->cas > record_cas(record))
        return OUTCOME_EXISTS;
    plan->spec.exptime = record_exptime(record);
    plan->spec.flags |= RECORD_STALE | (record->flags & RECORD_WON);
    return OUTCOME_STORED;
}

/* ---- all of them ---- */

static enum outcome plan_command(const struct replica *replica, struct request *request,
                                 const struct record *record, struct plan *plan)
{
    switch (request->type) {
    case REQUEST_SET:
        plan->plain = true;
        return OUTCOME_STORED;
    case REQUEST_ADD:
        return record == NULL ? OUTCOME_STORED : OUTCOME_NOT_STORED;
    case REQUEST_REPLACE:
        return record != NULL ? OUTCOME_STORED : OUTCOME_NOT_STORED;
    case REQUEST_CAS:
        return plan_cas(request, record, plan);
    case REQUEST_APPEND:
    case REQUEST_PREPEND:
        return plan_concat(replica, request, record, plan);
    case REQUEST_INCR:
    case REQUEST_DECR:
        return plan_arithmetic(request, record, plan);
    case REQUEST_TOUCH:
    case REQUEST_GAT:
        return plan_touch(request, record, plan);
    case REQUEST_FETCH:
        return plan_fetch(request, record, plan);
    case REQUEST_DELETE:
    case REQUEST_EXPIRE:
    case REQUEST_EVICT:
        return plan_delete(request, record, plan);
    case REQUEST_FLUSH:
        return plan_flush(replica, request, plan);
    case REQUEST_GET:
    case REQUEST_PERSIST:
        break;
    }
    assert(false && "writes nothing");
    return OUTCOME_MISS;
}

/* The unique that the client wants for the new value; a fetch that finds one leaves it as it is. */
static void set_cas(const struct request *request, const struct record *record, struct plan *plan)
{
    bool new_value =
        plan->spec.kind == RECORD_VALUE && (request->type != REQUEST_FETCH || record == NULL);
    if (!(request->options & REQUEST_SETS_CAS) || !new_value)
        return;
    plan->spec.flags |= RECORD_CAS;
    plan->spec.cas = request->new_cas;
}

static uint32_t client_size(const struct record_spec *spec)
{
    if (spec->flags & RECORD_LARGE)
        return (uint32_t)manifest_of(spec->value).size;
    return (uint32_t)(spec->value.size + spec->value_tail.size);
}

/* How the key is shown is decided by who stores a value, not by who changes it. */
static uint8_t flags_of_new(const struct request *request, const struct record *record)
{
    bool stores = record == NULL || request->type == REQUEST_SET ||
                  request->type == REQUEST_REPLACE || request->type == REQUEST_CAS;
    uint8_t wanted = RECORD_LARGE | (stores ? RECORD_BASE64 : 0);
    return RECORD_RMW | (request_record_flags(request) & wanted);
}

/* The command is for one version of its key only, and there is another. What is empty is no number
 * first. */
static bool is_of_another(const struct request *request, const struct record *record)
{
    bool counts = request->type == REQUEST_INCR || request->type == REQUEST_DECR;
    if (!request->compare || request->type == REQUEST_CAS || record == NULL || FAULT(NO_COMPARE))
        return false;
    return record_cas(record) != request->cas && !(counts && record->value_size == 0);
}

static bool comes_of_a_write(enum outcome outcome)
{
    return outcome == OUTCOME_STORED || outcome == OUTCOME_NUMBER || outcome == OUTCOME_HIT ||
           outcome == OUTCOME_TOUCHED || outcome == OUTCOME_DELETED || outcome == OUTCOME_OK;
}

bool plan_write(const struct replica *replica, struct request *request, const struct current *now,
                struct plan *plan)
{
    const struct record *record = now->record;
    plan->spec = (struct record_spec){
        .kind = RECORD_VALUE,
        .flags = flags_of_new(request, record),
        .client_flags = request->client_flags,
        .exptime = request->exptime,
        .key = request->key,
        .value = request->value,
    };
    plan->plain = plan->reads = plan->keeps_access = false;
    if (is_of_another(request, record)) {
        plan->outcome = OUTCOME_EXISTS;
        return false;
    }
    plan->outcome = plan_command(replica, request, record, plan);
    if (plan->plain)
        plan->spec.flags &= (uint8_t)~RECORD_RMW;
    set_cas(request, record, plan);
    bool writes = !plan->reads && comes_of_a_write(plan->outcome);
    if (writes && plan->spec.kind != RECORD_TOMBSTONE)
        request->seen.value_size = client_size(&plan->spec);
    return writes;
}
