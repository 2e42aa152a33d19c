/* What memcached promises of one key, one command at a time. Written from its protocol, not from
 * our code. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "t/sim_linear.h"

/* Ours, not memcached's: what is longer is no number, whatever stands behind its first white
 * space. */
enum { NUMBER_SIZE_MAX = 31 };

static bool number_of(const struct sim_value *value, uint64_t *number)
{
    unsigned i = 0;
    uint64_t total = 0;
    while (i < value->size && value->bytes[i] == ' ')
        i++;
    if (i < value->size && value->bytes[i] == '+')
        i++;
    unsigned first = i;
    if (value->size > NUMBER_SIZE_MAX)
        return false;
    for (; i < value->size && value->bytes[i] >= '0' && value->bytes[i] <= '9'; i++) {
        unsigned digit = (unsigned)(value->bytes[i] - '0');
        if (total > (UINT64_MAX - digit) / 10)
            return false;
        total = total * 10 + digit;
    }
    *number = total;
    return i > first && (i == value->size || value->bytes[i] == ' ' || value->bytes[i] == 0);
}

static void number_to(struct sim_value *value, uint64_t number)
{
    char text[24];
    unsigned size = (unsigned)snprintf(text, sizeof(text), "%" PRIu64, number);
    unsigned padded = size > value->size ? size : value->size;
    memset(value->bytes, ' ', padded);
    memcpy(value->bytes, text, size);
    value->size = (uint8_t)padded;
}

static bool values_equal(const struct sim_value *a, const struct sim_value *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

static void stored(struct sim_state *state, const struct sim_operation *operation)
{
    *state = (struct sim_state){.exists = true,
                                .flags = operation->flags,
                                .exptime = operation->exptime,
                                .large = operation->large,
                                .value = operation->value};
}

/* The answer was a value: it must be this one, with a unique that belongs to it alone. */
static bool hit(struct sim_state *state, const struct sim_operation *operation, bool cas_seen)
{
    if (!state->exists || !values_equal(&state->value, &operation->result) ||
        state->large != operation->result_large || state->flags != operation->result_flags ||
        operation->result_cas == 0)
        return false;
    if (state->cas == 0) {
        if (cas_seen)
            return false;
        state->cas = operation->result_cas;
    }
    return state->cas == operation->result_cas;
}

static bool join(struct sim_value *value, const struct sim_value *head,
                 const struct sim_value *tail)
{
    struct sim_value joined = {0};
    if (head->size + tail->size > SIM_VALUE_SIZE_MAX)
        return false;
    joined.size = (uint8_t)(head->size + tail->size);
    memcpy(joined.bytes, head->bytes, head->size);
    memcpy(joined.bytes + head->size, tail->bytes, tail->size);
    *value = joined;
    return true;
}

static enum outcome store_if(bool wanted, struct sim_state *state,
                             const struct sim_operation *operation)
{
    if (wanted)
        stored(state, operation);
    return wanted ? OUTCOME_STORED : OUTCOME_NOT_STORED;
}

static enum outcome extend(struct sim_state *state, const struct sim_operation *operation)
{
    struct sim_value old = state->value;
    if (!state->exists && !operation->vivify)
        return OUTCOME_NOT_STORED;
    if (!state->exists) {
        stored(state, operation);
        return OUTCOME_STORED;
    }
    if (operation->whole) {
        state->value = operation->value;
        state->large = operation->large;
        state->cas = 0;
        state->stale = state->won = false;
        return OUTCOME_STORED;
    }
    if (state->large)
        return OUTCOME_LARGE; /* the server's work, not the core's */
    bool fits = operation->type == REQUEST_APPEND ? join(&state->value, &old, &operation->value)
                                                  : join(&state->value, &operation->value, &old);
    if (!fits)
        return OUTCOME_TOO_LARGE;
    state->cas = 0;
    state->stale = state->won = false;
    return OUTCOME_STORED;
}

static void set_exptime(struct sim_state *state, const struct sim_operation *operation)
{
    if (operation->options & REQUEST_SETS_EXPTIME)
        state->exptime = operation->new_exptime;
}

static enum outcome create_number(struct sim_state *state, const struct sim_operation *operation,
                                  uint64_t *number)
{
    if (!operation->vivify)
        return OUTCOME_NOT_FOUND;
    *state = (struct sim_state){
        .exists = true, .flags = operation->flags, .exptime = operation->exptime};
    number_to(&state->value, operation->initial);
    *number = operation->initial;
    return OUTCOME_NUMBER;
}

static enum outcome count(struct sim_state *state, const struct sim_operation *operation,
                          uint64_t *number)
{
    if (!state->exists)
        return create_number(state, operation, number);
    if (state->large || !number_of(&state->value, number))
        return OUTCOME_NON_NUMERIC;
    if (operation->type == REQUEST_INCR)
        *number += operation->delta;
    else
        *number = *number > operation->delta ? *number - operation->delta : 0;
    number_to(&state->value, *number);
    set_exptime(state, operation);
    state->cas = 0;
    return OUTCOME_NUMBER;
}

static enum outcome compare_and_store(struct sim_state *state,
                                      const struct sim_operation *operation)
{
    if (!state->exists)
        return OUTCOME_NOT_FOUND;
    /* a unique that nobody saw is no one's guess */
    bool equal = state->cas != 0 && state->cas == operation->cas;
    /* what was seen before must be older */
    bool older = operation->cas != 0 && (operation->options & REQUEST_MARKS_STALE);
    if (!equal && !older)
        return OUTCOME_EXISTS;
    struct sim_state old = *state;
    stored(state, operation);
    if (!equal) {
        state->exptime = old.exptime;
        state->stale = true;
        state->won = old.won;
    }
    return OUTCOME_STORED;
}

/* Meta get: who finds it stale or soon to expire is told once to replace it. */
static enum outcome fetch(struct sim_state *state, const struct sim_operation *operation,
                          uint8_t *marks)
{
    if (!state->exists) {
        if (!operation->vivify)
            return OUTCOME_MISS;
        *state = (struct sim_state){.exists = true, .won = true, .exptime = operation->exptime};
        *marks = SEEN_CREATED | SEEN_WON;
        return OUTCOME_HIT;
    }
    uint32_t before = state->exptime;
    set_exptime(state, operation);
    uint32_t compared = (operation->options & REQUEST_EXPTIME_FIRST) ? state->exptime : before;
    bool soon = (operation->options & REQUEST_RECACHES) && compared != 0 &&
                compared < operation->recache_at;
    *marks = (state->stale ? SEEN_STALE : 0) | (state->won             ? SEEN_TAKEN
                                                : state->stale || soon ? SEEN_WON
                                                                       : 0);
    state->won = state->won || (*marks & SEEN_WON) != 0;
    return OUTCOME_HIT;
}

/* Meta delete may keep the key: without its value, or as stale, which makes it another version. */
static enum outcome remove_or_mark(struct sim_state *state, const struct sim_operation *operation)
{
    bool empties = (operation->options & REQUEST_EMPTIES) != 0;
    bool stale = (operation->options & REQUEST_MARKS_STALE) != 0;
    if (!state->exists)
        return OUTCOME_NOT_FOUND;
    if (!empties && !stale) {
        *state = (struct sim_state){0};
        return OUTCOME_DELETED;
    }
    if (empties)
        *state = (struct sim_state){.exists = true,
                                    .flags = operation->flags,
                                    .exptime = operation->exptime,
                                    .cas = state->cas};
    else
        set_exptime(state, operation);
    state->stale = stale;
    state->won = false;
    if (stale)
        state->cas = 0;
    return OUTCOME_DELETED;
}

static enum outcome touch(struct sim_state *state, const struct sim_operation *operation,
                          enum outcome yes, enum outcome no)
{
    if (!state->exists)
        return no;
    state->exptime = operation->exptime;
    return yes;
}

/* A command for one version of the key only. A unique that nobody saw is no one's guess. */
static bool is_of_another(const struct sim_state *state, const struct sim_operation *operation)
{
    bool counts = operation->type == REQUEST_INCR || operation->type == REQUEST_DECR;
    if (counts && state->exists && state->value.size == 0)
        return false; /* it is no number first */
    return operation->compare && state->exists && (state->cas == 0 || state->cas != operation->cas);
}

/* The unique of what a command has written, if it was told: new, or with touch the old one. */
static bool written(struct sim_state *state, const struct sim_operation *operation, bool cas_seen)
{
    bool keeps = operation->outcome == OUTCOME_TOUCHED && state->cas != 0;
    if (operation->result_cas == 0)
        return true;
    if (keeps)
        return state->cas == operation->result_cas;
    state->cas = operation->result_cas;
    return !cas_seen;
}

/* Executes; the answer that memcached would give. */
static enum outcome execute(struct sim_state *state, const struct sim_operation *operation,
                            uint64_t *number, uint8_t *marks)
{
    bool exists = state->exists;
    if (is_of_another(state, operation))
        return OUTCOME_EXISTS;
    switch (operation->type) {
    case REQUEST_GET:
        return exists ? OUTCOME_HIT : OUTCOME_MISS;
    case REQUEST_SET:
        return store_if(true, state, operation);
    case REQUEST_ADD:
        return store_if(!exists, state, operation);
    case REQUEST_REPLACE:
        return store_if(exists, state, operation);
    case REQUEST_APPEND:
    case REQUEST_PREPEND:
        return extend(state, operation);
    case REQUEST_CAS:
        return compare_and_store(state, operation);
    case REQUEST_INCR:
    case REQUEST_DECR:
        return count(state, operation, number);
    case REQUEST_TOUCH:
        return touch(state, operation, OUTCOME_TOUCHED, OUTCOME_NOT_FOUND);
    case REQUEST_GAT:
        return touch(state, operation, OUTCOME_HIT, OUTCOME_MISS);
    case REQUEST_FETCH:
        return fetch(state, operation, marks);
    case REQUEST_DELETE:
        return remove_or_mark(state, operation);
    case REQUEST_FLUSH:
        *state = (struct sim_state){0};
        return OUTCOME_OK;
    case REQUEST_EXPIRE:
    case REQUEST_PERSIST:
    case REQUEST_EVICT:
        break;
    }
    assert(!"not a client's command");
    return OUTCOME_UNKNOWN;
}

bool sim_spec_apply(const struct sim_state *before, const struct sim_operation *operation,
                    enum sim_variant variant, bool cas_seen, struct sim_state *after)
{
    bool expired = variant == SIM_EXPIRED_FIRST;
    uint64_t number = 0;
    if (variant == SIM_DELETED_ONLY) {
        *after = (struct sim_state){0};
        return operation->answered == UINT64_MAX && operation->type == REQUEST_SET;
    }
    *after = *before;
    if (operation->answered != UINT64_MAX && operation->outcome == OUTCOME_NO_MEMORY) {
        /* a set that finds no memory deletes the old value, if there is room for that */
        if (expired)
            *after = (struct sim_state){0};
        return operation->type == REQUEST_SET;
    }
    if (expired) {
        bool past = before->exptime != 0 && before->exptime <= operation->wall_max;
        if (!before->exists || !(past || operation->evicts))
            return false;
        *after = (struct sim_state){0};
    } else if (before->exists && before->exptime != 0 && before->exptime < operation->wall_min) {
        return false;
    }
    uint8_t marks = 0;
    enum outcome outcome = execute(after, operation, &number, &marks);
    if (operation->answered == UINT64_MAX)
        return true;
    if (outcome != operation->outcome)
        return false;
    if (outcome == OUTCOME_NUMBER && number != operation->number)
        return false;
    if (operation->type == REQUEST_FETCH && marks != operation->result_marks)
        return false;
    if (outcome == OUTCOME_NUMBER || outcome == OUTCOME_STORED || outcome == OUTCOME_TOUCHED)
        return written(after, operation, cas_seen);
    return outcome != OUTCOME_HIT || hit(after, operation, cas_seen);
}

static const char *const request_names[] = {
    "get",   "set", "add",    "replace", "append", "prepend", "cas",     "incr", "decr",
    "touch", "gat", "delete", "flush",   "expire", "fetch",   "persist", "evict"};

static const char *const outcome_names[] = {"HIT",       "MISS",        "STORED",  "NOT_STORED",
                                            "EXISTS",    "NOT_FOUND",   "DELETED", "TOUCHED",
                                            "NUMBER",    "NON_NUMERIC", "LARGE",   "TOO_LARGE",
                                            "NO_MEMORY", "OK",          "REFUSED", "UNKNOWN"};

void sim_operation_print(const struct sim_operation *operation, char *text, size_t size)
{
    const struct sim_operation *o = operation;
    bool open = o->answered == UINT64_MAX;
    int at = snprintf(text, size, "%10.6f..%10.6f client %u node %u: %s key%u",
                      (double)o->started_us / 1e6, (double)o->ended_us / 1e6, o->client, o->node,
                      request_names[o->type], o->key);
    at += snprintf(text + at, size - (size_t)at,
                   " '%.*s' flags %u exptime %u cas %" PRIx64 " delta %" PRIu64 "%s%s options %x",
                   o->value.size, o->value.bytes, o->flags, o->exptime, o->cas, o->delta,
                   o->compare ? " compare" : "", o->vivify ? " vivify" : "", o->options);
    if (o->options & (REQUEST_SETS_EXPTIME | REQUEST_RECACHES))
        at += snprintf(text + at, size - (size_t)at, " new exptime %u recache at %u",
                       o->new_exptime, o->recache_at);
    if (open)
        snprintf(text + at, size - (size_t)at, " -> ?");
    else
        snprintf(text + at, size - (size_t)at,
                 " -> %s '%.*s' flags %u cas %" PRIx64 " number %" PRIu64 " marks %x",
                 outcome_names[o->outcome], o->result.size, o->result.bytes, o->result_flags,
                 o->result_cas, o->number, o->result_marks);
}
