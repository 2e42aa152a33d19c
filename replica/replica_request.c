/* Executing requests: waiting, reading, starting writes. What a command does to its record:
 * replica_plan.c. */
#include "replica/plan.h"

enum { RETURN_SHARE = 8 }; /* of the room for live data */

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

/* One with options of its own, such as a unique, is a write of its own. So is one whose value lies
 * in pieces: they are deleted when it is replaced. */
static bool may_join(const struct request *request)
{
    return request->type == REQUEST_SET && request->options == 0 && !request->large;
}

/* SETs that wait right behind a SET go out with it as one write, the last; all are answered. */
static struct request *last_of_sets(const struct op *op, struct request *first, unsigned *joined)
{
    struct request *last = first;
    *joined = 0;
    if (op == NULL || !may_join(first))
        return last;
    for (struct request *next = op->wait_first; next != NULL && may_join(next); next = next->next) {
        if (next->value.size > first->value.size)
            break; /* should it not fit, the first would be refused for it */
        last = next;
        ++*joined;
    }
    return last;
}

/* Moves the waiting SETs up to `last` to the pending write. */
static void join_sets(struct replica *replica, struct op *op, struct request *first,
                      struct request *last)
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
    bool kept = (plan->spec.flags & RECORD_LARGE) &&
                manifest_of(plan->spec.value).upload == plan->replaces.upload;
    if (plan->replaces.size == 0 || kept || replaced->count == REPLACED_COUNT_MAX)
        return;
    uint32_t at = (replaced->head + replaced->count++) % REPLACED_COUNT_MAX;
    replaced->manifests[at] = plan->replaces;
    replaced->since_us[at] = replica->mono_us;
}

static enum execute write_start(struct replica *replica, struct request *request, struct plan *plan,
                                uint64_t base);

bool replica_is_all_graves(const struct replica *replica)
{
    struct store_stats stats;
    if (replica->view.members == replica->view.configured)
        return false;
    store_stats(replica->store, &stats);
    return stats.tombstone_bytes > stats.live_max / 2;
}

/* The rest of the room is for the return of who is away: it has records of its own that the group
 * no longer has, until it has exchanged them. */
static bool grows_over_graves(const struct replica *replica, uint64_t growth)
{
    struct store_stats stats;
    if (!replica_is_all_graves(replica) || FAULT(GRAVES_TO_THE_BRIM))
        return false;
    store_stats(replica->store, &stats);
    return stats.live_bytes + growth > stats.live_max - stats.live_max / RETURN_SHARE;
}

/* A follower cannot refuse an INV, so growth stops here while some member is full, and what is
 * under way stays within what the others keep free for it. STATUS_BUSY: when some of it is
 * complete. */
static enum status may_grow(const struct replica *replica, uint64_t growth)
{
    unsigned peers = (unsigned)__builtin_popcount(replica_peers(replica));
    if (growth == 0)
        return STATUS_OK;
    if (grows_over_graves(replica, growth))
        return STATUS_NO_SPACE;
    if (peers == 0)
        return STATUS_OK;
    if (replica_group_is_full(replica))
        return STATUS_NO_SPACE;
    bool alone = replica->own_growth == 0;
    return alone || replica->own_growth + growth <= store_growth_max(replica->store, peers)
               ? STATUS_OK
               : STATUS_BUSY;
}

/* A set that found no memory must not leave the old value, as if nothing had been set (memcached).
 * Here, not by a command of its own: a later set of the same client must not be deleted by it. */
static enum execute delete_instead(struct replica *replica, struct request *request, uint64_t base)
{
    struct plan plan = {.outcome = OUTCOME_NO_MEMORY};
    plan.spec =
        (struct record_spec){.kind = RECORD_TOMBSTONE, .flags = RECORD_RMW, .key = request->key};
    return write_start(replica, request, &plan, base);
}

/* What no acknowledgement of a peer will say of it: that it is durable here, or that there is no
 * peer to wait for. */
static void await_own(struct replica *replica, struct op *op)
{
    if (model_awaits_durable(replica->model))
        defer(replica, &(struct deferred){
                           .need = op->own.lsn, .ts = op->own.ts, .token = op_token(replica, op)});
    if (!model_is_early(replica->model) || replica_peers(replica) != 0 || op->ready)
        return; /* ready still: the write before it was completed by something else in this step */
    op->ready = true;
    op->ready_next = replica->ready;
    replica->ready = op;
}

/* No record was written: the command waits for room, or is answered. */
static enum execute without_room(struct replica *replica, struct request *request,
                                 const struct plan *plan, uint64_t base, enum status put,
                                 uint64_t growth)
{
    bool removes = plan->spec.kind == RECORD_TOMBSTONE;
    struct found found;
    bool may_wait = replica->may_evict && !removes && !replica_is_all_graves(replica);
    if (put == STATUS_NO_SPACE && may_wait) {
        if (!replica_group_is_full(replica)) /* else the others say what they have too much */
            replica->starved = larger(replica->starved, growth);
        /* A piece is tried again by its uploader. Here it would keep all others waiting, perhaps
         * for pieces that no eviction takes: those of uploads that wait behind it. */
        if (!key_is_piece(request->key))
            return EXECUTE_BLOCKED;
    }
    if (put == STATUS_BUSY)
        return EXECUTE_BLOCKED;
    if (put == STATUS_NO_SPACE && request->type == REQUEST_SET && !removes &&
        store_find(replica->store, request->key, request->hash, &found) &&
        found.record->kind == RECORD_VALUE)
        return delete_instead(replica, request, base);
    bool large = put == STATUS_TOO_LARGE;
    request->next = NULL;
    replica_reply(replica, request, large ? OUTCOME_TOO_LARGE : OUTCOME_NO_MEMORY, NULL, 0, false);
    return EXECUTE_DONE;
}

/* The key's op, if one more write may begin; NULL: not now. *made: nobody else needs it. */
static struct op *op_for_write(struct replica *replica, const struct request *request,
                               const struct plan *plan, bool *made)
{
    struct op *op = op_find(replica, request->key, request->hash);
    *made = op == NULL;
    if (*made && (replica->own_count >= replica->options.op_count_max ||
                  (op = op_take(replica, request->key, request->hash)) == NULL))
        return NULL;
    assert(op->own.ts == 0);
    bool removes = plan->spec.kind == RECORD_TOMBSTONE;
    uint64_t size = plan->spec.value.size + plan->spec.value_tail.size;
    if (replica->own_count > 0 && replica->own_bytes + size > OWN_BYTES_MAX && !removes) {
        if (*made)
            op_give_if_idle(replica, op, STATE_VALID);
        return NULL;
    }
    return op;
}

/* `found` is the new record: from here on it is under way. */
static void begin_own(struct replica *replica, struct op *op, struct request *request,
                      const struct plan *plan, const struct found *found, uint64_t growth)
{
    if (!plan->keeps_access)
        store_access_reset(replica->store, found, replica_now(replica));
    op->lsn = found->lsn;
    op->since_us = replica->mono_us;
    op->own = (struct pending){
        .ts = plan->spec.ts,
        .lsn = found->lsn,
        .started_us = replica->mono_us,
        .size = (uint32_t)record_size(found->record),
        .growth = (uint32_t)growth,
        .rmw = !plan->plain,
        .outcome = plan->outcome,
        .number = plan->number,
        .cas = record_cas(found->record),
        .requests = request,
    };
    request->next = NULL;
    replica->own_count++;
    replica->own_bytes += op->own.size;
    replica->own_growth += growth;
    if (plan->plain)
        replica->writes++;
    else
        replica->rmws++;
}

/* The write itself: record, op, INV. EXECUTE_BLOCKED means nothing happened. */
static enum execute write_start(struct replica *replica, struct request *request, struct plan *plan,
                                uint64_t base)
{
    bool made;
    struct op *op = op_for_write(replica, request, plan, &made);
    if (op == NULL)
        return EXECUTE_BLOCKED;
    bool removes = plan->spec.kind == RECORD_TOMBSTONE;
    struct found found;
    uint64_t growth = removes ? 0 : store_growth(replica->store, &plan->spec, request->hash);
    enum status put = may_grow(replica, growth);
    if (put == STATUS_OK) {
        plan->spec.ts = next_ts(replica, plan, base);
        put = store_put_nodrain(replica->store, &plan->spec, request->hash, STATE_WRITE, removes,
                                &found);
    }
    if (put != STATUS_OK) {
        if (made)
            op_give_if_idle(replica, op, STATE_VALID);
        return without_room(replica, request, plan, base, put, growth);
    }
    begin_own(replica, op, request, plan, &found, growth);
    if (request->key.size == 0)
        replica_refresh_flush(replica);
    note_replaced(replica, plan);
    bool local = request->type == REQUEST_EVICT && FAULT(EVICT_LOCAL);
    op->own.acked = local ? replica_peers(replica) : 0;
    replica_send_inv(replica, op, &op->own, local ? 0 : replica_peers(replica));
    await_own(replica, op);
    return EXECUTE_DONE;
}

static struct manifest replaced_by(const struct current *now)
{
    if (now->record == NULL || !(now->record->flags & RECORD_LARGE))
        return (struct manifest){.size = 0};
    return manifest_of(record_value(now->record));
}

/* A record past its time is deleted by a write of its own first; the request goes on when that is
 * complete. */
static enum execute expire_first(struct replica *replica, struct request *request,
                                 const struct found *found, const struct current *now)
{
    bool fetched = store_access_of(replica->store, found, replica_now(replica)).fetched;
    struct plan plan = {.outcome = OUTCOME_DELETED, .replaces = replaced_by(now)};
    plan.spec =
        (struct record_spec){.kind = RECORD_TOMBSTONE, .flags = RECORD_RMW, .key = request->key};
    struct op *op = op_find(replica, request->key, request->hash);
    bool made = op == NULL;
    if (made && (op = op_take(replica, request->key, request->hash)) == NULL)
        return EXECUTE_BLOCKED;
    enum execute started = write_start(replica, request, &plan, now->base);
    if (started == EXECUTE_BLOCKED) {
        if (made)
            op_give_if_idle(replica, op, STATE_VALID);
        return started;
    }
    if (op->own.ts == 0)
        return EXECUTE_DONE; /* no room: answered */
    op->own.requests = NULL;
    replica->expired++;
    replica->expired_unfetched += !fetched;
    op_wait(replica, op, request, true);
    return EXECUTE_WAITS;
}

static enum execute wait_for(struct replica *replica, struct slice key, uint64_t hash,
                             struct request *request)
{
    struct op *op = op_take(replica, key, hash);
    if (op == NULL)
        return EXECUTE_BLOCKED;
    if (request->type == REQUEST_GET || request->type == REQUEST_FETCH)
        replica->read_waits++;
    op_wait(replica, op, request, false);
    return EXECUTE_WAITS;
}

static enum execute read_answer(struct replica *replica, struct request *request,
                                const struct found *found, const struct record *record)
{
    replica->reads++;
    if (record != NULL && !(request->options & REQUEST_UNNOTICED))
        store_accessed(replica->store, found, replica_now(replica));
    request->next = NULL;
    replica_reply(replica, request, record != NULL ? OUTCOME_HIT : OUTCOME_MISS, record, 0, true);
    return EXECUTE_DONE;
}

/* What the answer may have to tell of the record as it was. */
static void see(const struct replica *replica, struct request *request, const struct found *found,
                const struct record *record)
{
    request->seen =
        (struct seen){.expired = request->seen.expired, .flushed = request->seen.flushed};
    if (record == NULL)
        return;
    struct access access = store_access_of(replica->store, found, replica_now(replica));
    replica_see(request, record, &access, replica_now(replica));
}

/* Its key can be read, but a write of this node on it is still to be answered: it goes after that
 * one. */
static enum execute wait_for_own(struct replica *replica, struct op *op, struct request *request)
{
    op_wait(replica, op, request, true);
    return EXECUTE_WAITS;
}

/* Its answer does not depend on what is there. */
static bool is_plain(const struct request *request)
{
    return request->type == REQUEST_SET || request->type == REQUEST_FLUSH;
}

/* It is the very record that was chosen, and nobody has read it here meanwhile. */
static bool may_evict(const struct replica *replica, const struct request *request,
                      const struct found *found)
{
    return (found->record->ts == request->cas && store_frequency(replica->store, found) == 0) ||
           FAULT(EVICT_ANY);
}

/* A flush_all that is not complete yet may make it absent. */
static bool is_under_flush(const struct replica *replica, const struct request *request,
                           const struct found *found)
{
    return replica->flush.known && !replica->flush.valid && found != NULL &&
           replica_under_flush(request->key.size) && found->record->ts < replica->flush.ts;
}

/* What the command has to do with; record NULL: nothing. A record past its time is that of EXPIRE
 * alone, which deletes no other; EVICT deletes only what was chosen. */
static void choose_record(const struct replica *replica, const struct request *request,
                          const struct found *found, struct current *now)
{
    bool due = now->expired && !is_plain(request) && !FAULT(EXPIRE_LOCAL);
    if (request->type == REQUEST_EXPIRE && !due)
        now->record = now->flushed ? found->record : NULL;
    else if (request->type == REQUEST_EVICT &&
             !(found != NULL && may_evict(replica, request, found)))
        now->record = NULL;
    else if (now->expired && !due)
        now->record = NULL;
}

/* The waiting SETs that go out with it as one write give it the value of the last. */
static enum execute write_with_joined(struct replica *replica, struct op *op,
                                      struct request *request, struct plan *plan, uint64_t base)
{
    struct request *last = last_of_sets(op, request, &plan->joined);
    if (last != request) {
        plan->spec.client_flags = last->client_flags;
        plan->spec.exptime = last->exptime;
        plan->spec.value = last->value;
        plan->spec.flags = request_record_flags(last);
    }
    enum execute started = write_start(replica, request, plan, base);
    if (started == EXECUTE_DONE && op != NULL && op->used && op->own.requests == request)
        join_sets(replica, op, request, last);
    return started;
}

enum execute replica_execute(struct replica *replica, struct request *request)
{
    if (replica->cold)
        return EXECUTE_BLOCKED;
    struct found record;
    bool any = store_find(replica->store, request->key, request->hash, &record);
    if (any && record.state == STATE_UNCONFIRMED) {
        (void)replica_drive_unconfirmed(replica, &record); /* at once, when somebody asks for it */
        any = store_find(replica->store, request->key, request->hash, &record);
    }
    const struct found *found = any ? &record : NULL;
    struct op *op = op_find(replica, request->key, request->hash);
    bool own_open = op != NULL && op->own.ts != 0;
    if ((any && found->state != STATE_VALID) || (own_open && !op->own.valid))
        return wait_for(replica, request->key, request->hash, request);
    request->tried = false; /* what overtook it is complete everywhere */
    if (is_under_flush(replica, request, found))
        return wait_for(replica, slice_make("", 0), hash_key(slice_make("", 0)), request);

    struct current now = plan_look(replica, found);
    request->seen.expired = request->seen.expired || now.expired;
    request->seen.flushed = now.flushed;
    if (now.expired && !is_plain(request) && request->type != REQUEST_EXPIRE &&
        !FAULT(EXPIRE_LOCAL))
        return own_open ? wait_for_own(replica, op, request)
                        : expire_first(replica, request, found, &now);
    choose_record(replica, request, found, &now);
    see(replica, request, found, now.record);
    if (request->type == REQUEST_GET)
        return read_answer(replica, request, found, now.record);

    struct plan plan = {.replaces = replaced_by(&now)};
    if (!plan_write(replica, request, &now, &plan)) {
        if (request->type == REQUEST_FETCH)
            return read_answer(replica, request, found, now.record);
        request->next = NULL;
        replica_reply(replica, request, plan.outcome, NULL, plan.number, true);
        return EXECUTE_DONE;
    }
    if (own_open)
        return wait_for_own(replica, op, request);
    return write_with_joined(replica, op, request, &plan, now.base);
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

static void block_first(struct replica *replica, struct request *request)
{
    request->next = replica->blocked_first;
    replica->blocked_first = request;
    if (request->next == NULL)
        replica->blocked_last = request;
}

static struct request *unblock_first(struct replica *replica)
{
    struct request *request = replica->blocked_first;
    replica->blocked_first = request->next;
    if (replica->blocked_first == NULL)
        replica->blocked_last = NULL;
    return request;
}

/* It stores a large value, or a piece of one, and its upload began before this node was removed:
 * meanwhile the others have deleted the pieces that no manifest named. Whoever waits when that
 * happens is refused then, so this is asked once. */
static bool is_of_former_upload(const struct replica *replica, const struct request *request)
{
    if (FAULT(STALE_MANIFEST))
        return false;
    if (request->large)
        return !replica_takes_upload(replica, manifest_of(request->value).upload);
    if (request->type != REQUEST_SET || !key_is_piece(request->key))
        return false;
    return !replica_takes_upload(replica, piece_key_upload(request->key));
}

/* Who is blocked may be waiting for the room of pieces that go. No order is lost: whoever deletes
 * or reads a piece has seen that it is stored. */
static bool may_overtake(const struct request *request)
{
    return key_is_piece(request->key) && request->type != REQUEST_SET && !FAULT(PIECE_DELETE_WAITS);
}

/* Else nothing overtakes who is blocked: a client's commands on a key keep their order. */
void replica_on_request(struct replica *replica, struct request *request)
{
    request->next = NULL;
    request->tried = false;
    if (!replica_is_member(replica) || is_of_former_upload(replica, request)) {
        replica_reply(replica, request, OUTCOME_REFUSED, NULL, 0, false);
        return;
    }
    bool overtakes = may_overtake(request);
    struct op *op = op_find(replica, request->key, request->hash);
    if (replica->blocked_first != NULL && !overtakes)
        block(replica, request);
    else if (op != NULL && op->wait_first != NULL)
        op_wait(replica, op, request, false);
    else if (replica_execute(replica, request) == EXECUTE_BLOCKED)
        (overtakes ? block_first : block)(replica, request);
}

bool replica_try_request(struct replica *replica, struct request *request)
{
    assert(request->busy != NULL);
    struct found found;
    request->next = NULL;
    request->tried = false;
    if (!replica_is_member(replica) || op_find(replica, request->key, request->hash) != NULL ||
        !store_find(replica->store, request->key, request->hash, &found) ||
        found.state != STATE_VALID)
        return false;
    *request->busy = true;
    enum execute execute = replica_execute(replica, request);
    if (execute == EXECUTE_BLOCKED)
        *request->busy = false;
    return execute != EXECUTE_BLOCKED;
}

void replica_unblock(struct replica *replica)
{
    while (replica->blocked_first != NULL) {
        struct request *request = unblock_first(replica);
        struct op *op = op_find(replica, request->key, request->hash);
        if (op != NULL && op->wait_first != NULL)
            op_wait(replica, op, request, false);
        else if (replica_execute(replica, request) == EXECUTE_BLOCKED) {
            block_first(replica, request);
            return;
        }
    }
}
