/* A worker thread of the server: takes events, executes actions, drains the log at the end of a
 * turn. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "t/sim.h"

enum { LEASE_TRIES_MAX = 12, POISON = 0xee };

/* An answer on its way out: what lease_copy() fills, and where a pause may strike. */
struct answering {
    struct sim *sim;
    unsigned node;
    uint64_t answer_at;
    size_t size;
    uint8_t copy[sizeof(struct record) + 16 + RECORD_KEY_SIZE_MAX + 1024];
};

/* A lease held at a shard: its node's lease, and the shard must serve in the view that it was given
 * for. */
bool sim_lease_holds(const struct sim *sim, unsigned node, uint64_t at)
{
    uint64_t until = member_lease_until_us(&sim->nodes[node].member);
    return until == UINT64_MAX || sim_mono_at(sim, node, at) < until;
}

/* lease_copy() asks this. Copy first, look after: a pause that strikes in between must show. */
static bool lease_holds(void *user)
{
    struct answering *reading = user;
    struct sim *sim = reading->sim;
    bool copied = false;
    for (size_t i = 0; i < reading->size && i < sizeof(struct record); i++)
        copied |= reading->copy[i] != POISON;
    if (reading->size > 0 && !copied)
        sim_fail(sim, "node %u looked at its lease before it copied the value", reading->node);
    return sim_lease_holds(sim, reading->node, reading->answer_at);
}

static size_t whole_size(const struct record *record)
{
    return record == NULL ? 0 : record_size(record);
}

void sim_worker_take_result(struct sim_call *call, const struct record *record)
{
    struct slice value = record_value(record);
    assert(value.size <= SIM_VALUE_SIZE_MAX);
    call->result = (struct sim_value){.size = (uint8_t)value.size};
    memcpy(call->result.bytes, value.data, value.size);
    call->result_flags = record_client_flags(record);
    call->result_large = (record->flags & RECORD_LARGE) != 0;
    assert(call->result_cas == record_cas(record));
}

static void unlink_call(struct sim_node *n, struct sim_call *call)
{
    struct sim_call **at = &n->calls;
    while (*at != call)
        at = &(*at)->next;
    *at = call->next;
}

void sim_worker_answer(struct sim *sim, unsigned node, struct sim_call *call)
{
    sim_client_answered(sim, call, call->outcome);
    unlink_call(&sim->nodes[node], call);
    free(call);
}

static void answer_at(struct sim *sim, unsigned node, struct sim_call *call, uint64_t at)
{
    call->waits = true;
    if (at <= sim->now) {
        sim_worker_answer(sim, node, call);
        return;
    }
    struct sim_event *event = sim_at(sim, at, SIM_EVENT_ANSWER);
    event->a = (uint8_t)node;
    event->generation = sim->nodes[node].life;
    event->pointer = call;
}

static void request_at(struct sim *sim, unsigned node, struct sim_call *call, uint64_t at)
{
    struct sim_event *event = sim_at(sim, at, SIM_EVENT_REQUEST);
    event->a = (uint8_t)node;
    event->shard = call->shard;
    event->generation = sim->nodes[node].life;
    event->pointer = call;
}

/* The lease has ended: the server tries again for a while, then refuses. */
static void lease_ended(struct sim *sim, unsigned node, struct sim_call *call, uint64_t at)
{
    sim->late_leases++;
    call->outcome = OUTCOME_REFUSED;
    if (++call->tries > LEASE_TRIES_MAX) {
        answer_at(sim, node, call, at);
        return;
    }
    call->waits = true;
    request_at(sim, node, call, at + 5000);
}

static void take_reply(struct sim *sim, struct sim_shard *shard, const struct action *action)
{
    struct sim_call *call = (struct sim_call *)action->request;
    struct answering reading = {.sim = sim, .node = shard->node, .answer_at = sim->now};
    unsigned node = shard->node;
    sim_note(sim, (uint64_t)action->outcome * 4 + action->local,
             "%u.%u   reply to client %u: outcome %d%s", node, shard->number, call->client,
             (int)action->outcome, action->local ? ", local" : "");
    sim_check_reply(sim, node, call, action->outcome, action->local);
    call->outcome = action->outcome;
    call->number = action->number;
    call->result_cas = action->cas;
    reading.size = action->outcome == OUTCOME_HIT ? whole_size(action->record) : 0;
    assert(reading.size <= sizeof(reading.copy));
    if (!action->local) {
        if (reading.size > 0)
            sim_worker_take_result(call, action->record);
        answer_at(sim, node, call, sim->now);
        return;
    }
    sim->local_reads++;
    memset(reading.copy, POISON, sizeof(struct record));
    if (!sim->settling && !sim_fragile(sim) &&
        sim_below(sim, 1000) < sim->profile.pause_in_reply_permille) {
        reading.answer_at = sim->now + sim_between(sim, 1000, sim->profile.pause_max_us);
        sim_node_pause(sim, node, reading.answer_at);
    }
    bool holds =
        lease_copy(reading.copy, slice_make(action->record, reading.size), lease_holds, &reading);
    if (!holds) {
        lease_ended(sim, node, call, reading.answer_at);
        return;
    }
    if (reading.size > 0)
        sim_worker_take_result(call, (const struct record *)reading.copy);
    answer_at(sim, node, call, reading.answer_at);
}

/* Good until the next call. */
static struct slice key_text(struct slice key)
{
    static char text[64];
    uint32_t number;
    if (key.size == 0)
        return slice_text("");
    if (!key_is_piece(key))
        return key;
    uint64_t upload = piece_key_upload(key);
    memcpy(&number, (const uint8_t *)key.data + sizeof(upload), sizeof(number));
    int size = snprintf(text, sizeof(text), "(%" PRIu64 ".%u.%u/%u)", ts_version(upload),
                        ts_node(upload), ts_incarnation(upload), number);
    return slice_make(text, (size_t)size);
}

static void take_send(struct sim *sim, struct sim_shard *shard, const struct action *action)
{
    const struct message *m = &action->header;
    sim_note(sim, m->ts ^ ((uint64_t)m->type << 8) ^ action->to,
             "%u.%u   send %s to %02x epoch %u key '%.*s' ts %" PRIu64
             ".%u.%u flags %x numbers %" PRIu64 " %" PRIu64,
             shard->node, shard->number, message_name(m->type), action->to, m->epoch,
             (int)key_text(action->key).size, (const char *)key_text(action->key).data,
             ts_version(m->ts), ts_node(m->ts), ts_incarnation(m->ts), m->flags, m->number[0],
             m->number[1]);
    sim_check_sent(sim, shard->node, shard->number, action);
    sim_rules_sent(sim, shard, action);
    sim_large_sent(sim, shard, action);
    for (unsigned to = 1; to <= sim->profile.node_count; to++)
        if ((action->to & node_bit(to)) != 0)
            sim_network_send(sim, shard->node, to, shard->number, action);
    sim_aim_sent(sim, shard->node, shard->number, action);
}

static void take(void *user, const struct action *action)
{
    struct sim_shard *shard = user;
    struct sim *sim = shard->sim;
    switch (action->type) {
    case ACTION_SEND:
        take_send(sim, shard, action);
        break;
    case ACTION_REPLY:
        take_reply(sim, shard, action);
        break;
    case ACTION_HEALED:
        sim_note(sim, action->epoch, "%u.%u   healed in epoch %u", shard->node, shard->number,
                 action->epoch);
        sim_node_healed(sim, shard->node, shard->number, action->epoch);
        break;
    case ACTION_EVICTED:
        sim->evictions++;
        break;
    case ACTION_SUSPECT:
        sim_note(sim, action->epoch, "%u.%u   suspects %02x in epoch %u", shard->node,
                 shard->number, action->to, action->epoch);
        sim_node_suspects(sim, shard->node, action->to, action->epoch);
        break;
    }
}

static struct sim_event *schedule(struct sim *sim, const struct sim_shard *shard, uint64_t at,
                                  enum sim_event_type type)
{
    struct sim_event *event = sim_at(sim, at, type);
    event->a = shard->node;
    event->shard = shard->number;
    event->generation = sim->nodes[shard->node].life;
    return event;
}

void sim_worker_step(struct sim *sim, unsigned node, unsigned number, struct event *event)
{
    struct sim_shard *shard = &sim->nodes[node].shards[number];
    struct actions actions = {.take = take, .user = shard};
    event->wall_us = sim_wall(sim, node);
    event->mono_us = sim_mono(sim, node);
    if (event->wall_us / 1000000 > sim->wall_max)
        sim->wall_max = (uint32_t)(event->wall_us / 1000000);
    sim_medium_set_time(shard->medium, sim->now);
    bool cold = sim_era_before_step(sim, shard);
    shard_step(shard->shard, event, &actions);
    if (cold)
        sim_era_after_step(sim, shard);
    sim->steps++;
    sim_check_step(sim, node, number);
    sim_aim_step(sim, shard);
    if (!shard->turn_pending) {
        shard->turn_pending = true;
        schedule(sim, shard, sim->now + sim_below(sim, sim->profile.turn_us + 1), SIM_EVENT_TURN);
    }
}

static void look_again(struct sim *sim, struct sim_shard *shard)
{
    uint64_t due = sim_medium_due(shard->medium);
    if (due == UINT64_MAX || due >= shard->drain_at)
        return;
    shard->drain_at = due;
    schedule(sim, shard, due, SIM_EVENT_DRAINED);
}

void sim_worker_drained(struct sim *sim, unsigned node, unsigned number)
{
    struct sim_shard *shard = &sim->nodes[node].shards[number];
    uint64_t durable;
    shard->drain_at = SIM_FOREVER;
    sim_medium_set_time(shard->medium, sim->now);
    sim_reader_pass_grace(sim, shard);
    enum status status = log_durable(store_log(shard->store), &durable);
    if (status != STATUS_OK)
        sim_fail(sim, "node %u: log_durable: %s", node, status_text(status));
    look_again(sim, shard);
    uint64_t proved = log_proved(store_log(shard->store));
    if (durable <= shard->durable && proved == shard->proved)
        return;
    shard->durable = durable;
    shard->proved = proved;
    sim_note(sim, durable, "%u.%u DURABLE below %" PRIu64, node, number, durable);
    sim_check_durable(sim, node, number);
    struct event event = {.type = EVENT_DURABLE, .durable = durable};
    sim_worker_step(sim, node, number, &event);
    sim_network_retry(sim, number, node);
}

void sim_worker_turn(struct sim *sim, unsigned node, unsigned number)
{
    struct sim_shard *shard = &sim->nodes[node].shards[number];
    shard->turn_pending = false;
    sim_medium_set_time(shard->medium, sim->now);
    uint64_t low = sim->profile.drain_min_us, high = sim->profile.drain_max_us;
    if (!sim->settling && sim_chance(sim, sim->profile.drain_stall_percent))
        low *= 20, high *= 20;
    sim_medium_set_delay(shard->medium, low, high);
    log_drain(store_log(shard->store));
    sim_worker_drained(sim, node, number);
    if (shard_wants_turn(shard->shard) && !shard->soon_pending) {
        shard->soon_pending = true;
        schedule(sim, shard, sim->now + sim_between(sim, 50, 300), SIM_EVENT_SOON);
    }
}

void sim_worker_message(struct sim *sim, unsigned node, unsigned number,
                        const struct message *message)
{
    struct event event = {.type = EVENT_MESSAGE, .message = message};
    const char *why = message_invalid(slice_make(message, message_size(message)));
    if (why != NULL)
        sim_fail(sim, "node %u sent a message that is refused: %s", message->from, why);
    sim_note(sim, message->ts ^ ((uint64_t)message->from << 56) ^ message->type,
             "%u.%u MESSAGE %s from %u epoch %u key '%.*s' ts %" PRIu64 ".%u.%u", node, number,
             message_name(message->type), message->from, message->epoch,
             (int)key_text(message_key(message)).size,
             (const char *)key_text(message_key(message)).data, ts_version(message->ts),
             ts_node(message->ts), ts_incarnation(message->ts));
    sim_rules_inv(&sim->nodes[node].shards[number], message);
    sim_worker_step(sim, node, number, &event);
}

void sim_worker_request(struct sim *sim, unsigned node, struct sim_call *call)
{
    struct event event = {.type = EVENT_REQUEST, .request = &call->request};
    sim_note(sim, ((uint64_t)call->request.type << 8) + call->client,
             "%u.%u REQUEST of client %u: type %d key '%s'", node, call->shard, call->client,
             (int)call->request.type, call->key);
    if (sim_reader_begin(sim, node, call))
        return;
    call->waits = false;
    if (call->request.type == REQUEST_PERSIST)
        sim_model_persist(call, &sim->nodes[node].shards[call->shard]);
    sim_worker_step(sim, node, call->shard, &event);
}

/* As the server does; sooner where clients are impatient, so that both kinds of runs are seen. */
void sim_worker_notice_lease(struct sim *sim, unsigned node, unsigned number)
{
    struct sim_shard *shard = &sim->nodes[node].shards[number];
    uint64_t patience = sim->profile.client_patience_us / 2;
    if (sim_lease_holds(sim, node, sim->now)) {
        shard->leased_at = sim->now;
        shard->stalled = false;
    } else if (!shard->stalled && sim->now - shard->leased_at >= patience) {
        struct event event = {.type = EVENT_STALLED};
        sim_note(sim, 0, "%u.%u STALLED", node, number);
        shard->stalled = true;
        sim_worker_step(sim, node, number, &event);
    }
}

void sim_worker_drop_calls(struct sim *sim, unsigned node)
{
    struct sim_node *n = &sim->nodes[node];
    sim_large_drop(sim, node);
    while (n->calls != NULL) {
        struct sim_call *call = n->calls;
        n->calls = call->next;
        sim_client_answered(sim, call, OUTCOME_UNKNOWN);
        free(call);
    }
}
