/* What must be true after every step, at every answer, and at the end. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "t/sim.h"

enum { JUDGE_STEPS_MAX = 60000000 };

static unsigned key_of(struct slice key)
{
    const char *digits = key.data;
    if (key_is_piece(key))
        return SIM_KEY_MAX + 1;
    if (key.size != SIM_KEY_SIZE)
        return SIM_KEY_MAX;
    return (unsigned)((digits[1] - '0') * 100 + (digits[2] - '0') * 10 + (digits[3] - '0'));
}

static bool find(const struct sim_shard *shard, unsigned key, struct found *found)
{
    char text[SIM_KEY_SIZE + 1];
    struct slice name = key == SIM_KEY_MAX ? slice_make("", 0) : sim_key_name(key, text);
    return store_find(shard->store, name, hash_key(name), found);
}

static uint64_t content_of(const struct record *record)
{
    uint64_t hash = hash_key(record_value(record));
    return hash ^ ((uint64_t)record->kind << 56) ^ ((uint64_t)record_client_flags(record) << 32) ^
           record_exptime(record) ^ record_cas(record) * 0x9e3779b97f4a7c15;
}

/* ---- the shadow: current record of each key at each node, and which of its records are durable
 * ---- */

static void push(struct sim *sim, struct sim_shadow *shadow, uint64_t lsn, uint64_t ts)
{
    /* the durable one, and a gap: only more can be missed, not falsely blamed */
    if (shadow->count == SIM_APPENDS_MAX) {
        memmove(shadow->appends + 1, shadow->appends + 2,
                (SIM_APPENDS_MAX - 2) * sizeof(shadow->appends[0]));
        shadow->count--;
    }
    shadow->appends[shadow->count++] = (struct sim_append){lsn, ts};
    (void)sim;
}

static bool look(const struct sim_shard *shard, unsigned key, struct sim_shadow *shadow)
{
    struct found found;
    if (!find(shard, key, &found)) {
        bool changed = shadow->kind != 0;
        shadow->kind = 0;
        shadow->ts = shadow->lsn = shadow->content = shadow->upload = 0;
        return changed;
    }
    shadow->state = (uint8_t)found.state;
    if (shadow->kind != 0 && shadow->lsn == found.lsn)
        return false;
    shadow->kind = found.record->kind;
    shadow->ts = found.record->ts;
    shadow->lsn = found.lsn;
    shadow->content = content_of(found.record);
    bool large = found.record->kind == RECORD_VALUE && (found.record->flags & RECORD_LARGE) != 0;
    shadow->upload = large ? manifest_of(record_value(found.record)).upload : 0;
    return true;
}

/* The log has been opened: what it found after a power cut is durable; after the death of the
 * process, only what was. */
void sim_check_opened(struct sim *sim, unsigned node, unsigned number)
{
    struct sim_shard *shard = &sim->nodes[node].shards[number];
    bool killed = sim->nodes[node].was_killed && !sim->nodes[node].damaged;
    for (unsigned key = 0; key <= SIM_KEY_MAX; key++) {
        struct sim_shadow *shadow = &shard->keys[key];
        struct sim_append durable = shadow->appends[0];
        *shadow = (struct sim_shadow){.count = 1};
        look(shard, key, shadow);
        shadow->appends[0] = killed ? durable : (struct sim_append){shadow->lsn, shadow->ts};
        if (killed && shadow->kind != 0)
            push(sim, shadow, shadow->lsn, shadow->ts);
    }
    sim_check_durable(sim, node, number);
    sim_rules_opened(sim, shard);
}

void sim_check_durable(struct sim *sim, unsigned node, unsigned number)
{
    struct sim_shard *shard = &sim->nodes[node].shards[number];
    for (unsigned key = 0; key <= SIM_KEY_MAX; key++) {
        struct sim_shadow *shadow = &shard->keys[key];
        unsigned done = 0;
        while (done + 1 < shadow->count && shadow->appends[done + 1].lsn < shard->durable)
            done++;
        if (done == 0)
            continue;
        memmove(shadow->appends, shadow->appends + done,
                (shadow->count - done) * sizeof(shadow->appends[0]));
        shadow->count -= done;
    }
}

/* ---- after every step ---- */

static bool serves(const struct sim_shard *shard)
{
    return shard->sim->nodes[shard->node].up && (shard->view.members & node_bit(shard->node)) != 0;
}

static void compare(struct sim *sim, unsigned key, const struct sim_shard *a,
                    const struct sim_shard *b)
{
    const struct sim_shadow *x = &a->keys[key], *y = &b->keys[key];
    if (x->kind != 0 && y->kind != 0 && x->ts == y->ts && x->ts != 0 && x->content != y->content)
        sim_fail(sim, "nodes %u and %u: key %u has two values with one ts %" PRIu64 ".%u.%u",
                 a->node, b->node, key, ts_version(x->ts), ts_node(x->ts), ts_incarnation(x->ts));
    if (!serves(a) || !serves(b) || a->view.epoch != b->view.epoch)
        return;
    if (x->kind == RECORD_VALUE && y->kind != 0 && y->kind != RECORD_DISCARD &&
        x->state == STATE_VALID && y->state == STATE_VALID && x->ts != y->ts)
        sim_fail(sim,
                 "nodes %u and %u of epoch %u: key %u is VALID with ts %" PRIu64
                 ".%u.%u here, %" PRIu64 ".%u.%u there",
                 a->node, b->node, a->view.epoch, key, ts_version(x->ts), ts_node(x->ts),
                 ts_incarnation(x->ts), ts_version(y->ts), ts_node(y->ts), ts_incarnation(y->ts));
    bool flushed = a->keys[SIM_KEY_MAX].kind != 0 || b->keys[SIM_KEY_MAX].kind != 0;
    if (x->kind == RECORD_VALUE && x->state == STATE_VALID &&
        (y->kind == 0 || y->kind == RECORD_DISCARD) && !flushed)
        sim_fail(sim, "nodes %u and %u of epoch %u: key %u is VALID here, and unknown there",
                 a->node, b->node, a->view.epoch, key);
}

void sim_check_step(struct sim *sim, unsigned node, unsigned number)
{
    struct sim_shard *shard = &sim->nodes[node].shards[number];
    for (unsigned key = 0; key <= SIM_KEY_MAX; key++) {
        if (key < SIM_KEY_MAX && key >= sim->profile.key_count)
            continue;
        struct sim_shadow *shadow = &shard->keys[key];
        struct sim_shadow before = {.kind = shadow->kind,
                                    .state = shadow->state,
                                    .ts = shadow->ts,
                                    .lsn = shadow->lsn,
                                    .upload = shadow->upload};
        bool changed = look(shard, key, shadow);
        if (changed)
            push(sim, shadow, shadow->lsn, shadow->ts);
        if (!changed && shadow->state == before.state)
            continue;
        sim_large_changed(sim, shard, key, before.upload);
        if (before.kind != 0 && shadow->kind == 0) {
            sim->forgotten++;
            sim_rules_forgotten(sim, shard, key, &before);
            sim_aim_forgot(sim, node);
        }
        if (shadow->state == STATE_WRITE)
            shadow->own_ts = shadow->ts; /* a sole member sends no INV */
        sim_note(sim, shadow->ts ^ shadow->state,
                 "%u.%u   key %u: kind %u state %u ts %" PRIu64 ".%u.%u lsn %" PRIu64, node, number,
                 key, shadow->kind, shadow->state, ts_version(shadow->ts), ts_node(shadow->ts),
                 ts_incarnation(shadow->ts), shadow->lsn);
        for (unsigned other = 1; other <= sim->profile.node_count; other++) {
            if (other == node || !sim->nodes[other].up)
                continue;
            compare(sim, key, shard, &sim->nodes[other].shards[number]);
            compare(sim, key, &sim->nodes[other].shards[number], shard);
        }
    }
    sim_rules_floor(sim, shard);
    sim_large_step(sim, shard);
    if (sim->steps % sim->profile.verify_every == 0) {
        sim->verifications++;
        shard_verify(shard->shard);
    }
}

void sim_check_leases(struct sim *sim)
{
    for (unsigned node = 1; node <= sim->profile.node_count; node++) {
        const struct sim_node *n = &sim->nodes[node];
        bool member = (sim->newest.members & node_bit(node)) != 0 &&
                      sim->newest.incarnation[node] == n->incarnation;
        if (n->up && !member && sim->profile.node_count > 1 && sim_lease_holds(sim, node, sim->now))
            sim_fail(sim, "node %u holds a lease, but view %u is installed somewhere without it",
                     node, sim->newest.epoch);
    }
}

void sim_check_view(struct sim *sim, unsigned node)
{
    const struct view *view = member_installed(&sim->nodes[node].member);
    for (unsigned other = 1; other <= sim->profile.node_count && view->epoch != 0; other++) {
        const struct view *theirs = member_installed(&sim->nodes[other].member);
        if (sim->nodes[other].up && theirs->epoch == view->epoch &&
            memcmp(theirs, view, sizeof(*view)) != 0)
            sim_fail(sim, "nodes %u and %u have different views of epoch %u", node, other,
                     view->epoch);
    }
    sim_check_leases(sim);
}

/* ---- at every answer ---- */

void sim_check_sent(struct sim *sim, unsigned node, unsigned number, const struct action *action)
{
    const struct message *m = &action->header;
    unsigned key = key_of(action->key);
    if (m->type == MSG_INV && ts_node(m->ts) == node && (m->flags & MESSAGE_REPLAY) == 0 &&
        key <= SIM_KEY_MAX)
        sim->nodes[node].shards[number].keys[key].own_ts = m->ts;
}

static bool wrote(const struct sim_call *call, enum outcome outcome, bool local)
{
    switch (outcome) {
    case OUTCOME_STORED:
    case OUTCOME_DELETED:
    case OUTCOME_TOUCHED:
    case OUTCOME_NUMBER:
    case OUTCOME_OK:
        return true;
    case OUTCOME_HIT:
        return (call->request.type == REQUEST_GAT || call->request.type == REQUEST_FETCH) && !local;
    case OUTCOME_MISS:
    case OUTCOME_NOT_STORED:
    case OUTCOME_EXISTS:
    case OUTCOME_NOT_FOUND:
    case OUTCOME_NON_NUMERIC:
    case OUTCOME_LARGE:
    case OUTCOME_TOO_LARGE:
    case OUTCOME_NO_MEMORY:
    case OUTCOME_REFUSED:
    case OUTCOME_UNKNOWN:
        return false;
    }
    return false;
}

/* What is acknowledged, or read, is what the model says at every member of the node's view that is
 * still one (sim_model.c). */
void sim_check_reply(struct sim *sim, unsigned node, const struct sim_call *call,
                     enum outcome outcome, bool local)
{
    unsigned key = call->request.key.size == 0 ? SIM_KEY_MAX : key_of(call->request.key);
    struct sim_shard *own = &sim->nodes[node].shards[call->shard];
    if (sim_is_piece(call))
        return;
    if (call->request.type == REQUEST_PERSIST) {
        if (outcome == OUTCOME_OK)
            sim_model_persisted(sim, call, own);
    } else if (wrote(call, outcome, local)) {
        sim_model_wrote(sim, own, key);
    } else if (outcome == OUTCOME_HIT) {
        sim_model_read(sim, own, key);
    }
}

/* ---- at the end ---- */

static bool shard_at_rest(const struct sim *sim, unsigned node, unsigned number, char *why,
                          size_t size)
{
    const struct sim_shard *shard = &sim->nodes[node].shards[number];
    struct shard_stats stats;
    shard_stats(shard->shard, &stats);
    if (stats.op_count == 0 && stats.invalid_count == 0 && stats.waiting_count == 0 &&
        shard->view.epoch == sim->newest.epoch)
        return true;
    snprintf(why, size,
             "node %u shard %u: epoch %u, %" PRIu64 " writes under way, %" PRIu64
             " keys not valid, %" PRIu64 " requests wait",
             node, number, stats.epoch, stats.op_count, stats.invalid_count, stats.waiting_count);
    return false;
}

static bool key_equal(const struct sim *sim, unsigned key, unsigned node, char *why, size_t size)
{
    unsigned number = sim_key_shard(sim, key);
    const struct sim_shadow *x = &sim->nodes[1].shards[number].keys[key],
                            *y = &sim->nodes[node].shards[number].keys[key];
    bool here = x->kind == RECORD_VALUE, there = y->kind == RECORD_VALUE;
    bool valid =
        (x->kind == 0 || x->state == STATE_VALID) && (y->kind == 0 || y->state == STATE_VALID);
    bool flushed = sim->nodes[1].shards[number].keys[SIM_KEY_MAX].kind != 0;
    if (valid &&
        (flushed || (here == there && (!here || (x->ts == y->ts && x->content == y->content)))))
        return true;
    snprintf(why, size,
             "key %u: node 1 kind %u state %u ts %" PRIx64 ", node %u kind %u state %u ts %" PRIx64,
             key, x->kind, x->state, x->ts, node, y->kind, y->state, y->ts);
    return false;
}

bool sim_check_at_rest(struct sim *sim, char *why, size_t size)
{
    if (sim->newest.members != sim->configured) {
        snprintf(why, size, "members are %02x, healing %02x in epoch %u", sim->newest.members,
                 sim->newest.healing, sim->newest.epoch);
        return false;
    }
    for (unsigned node = 1; node <= sim->profile.node_count; node++)
        for (unsigned number = 0; number < sim->profile.shard_count; number++)
            if (!sim->nodes[node].up || !shard_at_rest(sim, node, number, why, size))
                return false;
    for (unsigned key = 0; key < sim->profile.key_count; key++)
        for (unsigned node = 1; node <= sim->profile.node_count; node++)
            if (!key_equal(sim, key, node, why, size))
                return false;
    if (sim->open_count > 0) {
        snprintf(why, size, "%u commands have no answer", sim->open_count);
        return false;
    }
    return sim_large_at_rest(sim, why, size);
}

/* Whether what was known at `stamp` has an order: what was not answered then may have any
 * outcome. */
static bool had_order(const struct sim_operation *const *list, size_t count, uint64_t stamp)
{
    struct sim_operation *copies = calloc(count + 1, sizeof(*copies));
    const struct sim_operation **known = calloc(count + 1, sizeof(*known));
    size_t known_count = 0;
    uint64_t steps;
    assert(copies != NULL && known != NULL);
    for (size_t i = 0; i < count; i++) {
        if (list[i]->invoked > stamp)
            continue;
        copies[i] = *list[i];
        if (copies[i].answered > stamp)
            copies[i].answered = UINT64_MAX;
        known[known_count++] = &copies[i];
    }
    bool has = sim_linear_check(known, known_count, JUDGE_STEPS_MAX, &steps) != SIM_VIOLATION;
    free(known);
    free(copies);
    return has;
}

static void report_key(struct sim *sim, const struct sim_operation *const *list, size_t count)
{
    char line[900];
    uint64_t first = UINT64_MAX;
    if (!sim->options.trace)
        return;
    for (size_t i = 0; i < count; i++)
        if (list[i]->answered < first && !had_order(list, count, list[i]->answered))
            first = list[i]->answered;
    for (size_t i = 0; i < count; i++) {
        sim_operation_print(list[i], line, sizeof(line));
        printf("%s%s\n", line,
               list[i]->answered == first ? "   <---- with this answer it has no order" : "");
    }
}

static void judge(struct sim *sim, unsigned key, const struct sim_operation *const *list,
                  size_t count)
{
    uint64_t steps;
    enum sim_verdict verdict = sim_linear_check(list, count, JUDGE_STEPS_MAX, &steps);
    sim->judge_steps += steps;
    if (verdict == SIM_LINEARIZABLE)
        return;
    report_key(sim, list, count);
    if (verdict == SIM_UNDECIDED)
        sim_fail(sim, "the judge gave up on key %u after %" PRIu64 " steps: undecided", key, steps);
    sim_fail(sim, "the history of key %u (%zu commands) is not linearizable", key, count);
}

/* Each era by itself; there is one unless the group lost power altogether, and what its model
 * allows to be lost. */
static void judge_eras(struct sim *sim, unsigned key, const struct sim_operation *const *list,
                       size_t count)
{
    struct sim_operation *copies = calloc(count + 1, sizeof(*copies));
    const struct sim_operation **cut = calloc(count + 1, sizeof(*cut));
    assert(copies != NULL && cut != NULL);
    for (unsigned era = 0; era <= sim->eras[sim_key_shard(sim, key)].count; era++) {
        size_t taken = sim_era_cut(sim, key, era, list, count, copies);
        for (size_t i = 0; i < taken; i++)
            cut[i] = &copies[i];
        judge(sim, key, cut, taken);
    }
    free(cut);
    free(copies);
}

static void judge_key(struct sim *sim, unsigned key, const struct sim_operation **list)
{
    size_t count = 0;
    for (uint32_t i = 0; i < sim->operation_count; i++) {
        const struct sim_operation *operation = &sim->history[i];
        bool flushes = operation->type == REQUEST_FLUSH &&
                       sim_key_shard(sim, operation->key) == sim_key_shard(sim, key);
        if (operation->type != REQUEST_PERSIST && (operation->key == key || flushes))
            list[count++] = operation;
    }
    if (sim->eras[sim_key_shard(sim, key)].count > 0)
        judge_eras(sim, key, list, count);
    else
        judge(sim, key, list, count);
}

void sim_check_history(struct sim *sim)
{
    const struct sim_operation **list =
        calloc(sim->operation_count + 1, sizeof(const struct sim_operation *));
    assert(list != NULL);
    for (unsigned key = 0; key < sim->profile.key_count; key++)
        judge_key(sim, key, list);
    free(list);
}
