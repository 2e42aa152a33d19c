/* Clients: each has one command under way at a time, at any node, and writes down when it began and
 * what came back. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "t/sim.h"

enum {
    EXTENDED_MAX = 40,
    PAD_MAX = 150,
    OPEN_ENDED_MAX = 4,
    BURST_MAX = 12,
    LARGE_PAUSES = 4,
    FINAL_CLIENT = SIM_CLIENT_MAX
};

struct slice sim_key_name(unsigned key, char name[SIM_KEY_SIZE + 1])
{
    snprintf(name, SIM_KEY_SIZE + 1, "k%03u", key % 1000);
    return slice_make(name, SIM_KEY_SIZE);
}

unsigned sim_key_shard(const struct sim *sim, unsigned key)
{
    char name[SIM_KEY_SIZE + 1];
    return hash_shard(hash_key(sim_key_name(key, name)), sim->profile.shard_count);
}

static enum request_type draw_type(struct sim *sim)
{
    unsigned total = 0;
    if (sim_below(sim, 1000) < sim->profile.flush_permille)
        return REQUEST_FLUSH;
    if (sim->profile.persist_percent > 0 && sim_chance(sim, sim->profile.persist_percent))
        return REQUEST_PERSIST;
    for (unsigned i = 0; i < REQUEST_EXPIRE; i++)
        total += sim->profile.weight[i];
    uint64_t draw = sim_below(sim, total);
    unsigned type = 0;
    while (draw >= sim->profile.weight[type])
        draw -= sim->profile.weight[type++];
    return (enum request_type)type;
}

static void draw_value(struct sim *sim, struct sim_operation *operation)
{
    bool extends = request_extends(operation->type);
    struct sim_value *value = &operation->value;
    int size = 0;
    char padding[PAD_MAX];
    memset(padding, '.', sizeof(padding));
    assert(sim->profile.pad_max <= PAD_MAX);
    if (extends) {
        /* one draw a statement: the order of arguments is the compiler's */
        unsigned digit = (unsigned)sim_below(sim, 10);
        int letter = 'a' + (int)sim_below(sim, 26);
        size = snprintf(value->bytes, sizeof(value->bytes), "%c%u", letter, digit);
    } else if (sim_chance(sim, 60)) {
        size =
            snprintf(value->bytes, sizeof(value->bytes), "%u", 1000 + sim->operation_count * 100);
    } else {
        size = snprintf(value->bytes, sizeof(value->bytes), "v%u%.*s", sim->operation_count,
                        (int)sim_below(sim, sim->profile.pad_max + 1), padding);
    }
    value->size = (uint8_t)size;
}

static unsigned draw_key(struct sim *sim)
{
    unsigned count = sim->profile.key_count, first = 0;
    unsigned hot = count < 2 ? 1 : 2;
    if (sim->profile.window == 0)
        return (unsigned)sim_below(sim, sim_chance(sim, sim->profile.skew_percent) ? hot : count);
    unsigned skip = (unsigned)sim_below(sim, sim->profile.window);
    while (first + 1 < count && (sim->open_ended[first] >= OPEN_ENDED_MAX || skip > 0))
        skip -= sim->open_ended[first++] < OPEN_ENDED_MAX;
    return first;
}

/* Some commands become their meta counterparts. Recaching compares with exptimes far away, so that
 * it has something to find. */
static void draw_options(struct sim *sim, struct sim_operation *o)
{
    uint32_t far = SIM_WALL_START + 1000000;
    bool extends = request_extends(o->type);
    bool counts = o->type == REQUEST_INCR || o->type == REQUEST_DECR;
    if (o->type == REQUEST_GET && sim_chance(sim, 80))
        o->type = REQUEST_FETCH;
    if (o->exptime == 0 && o->type != REQUEST_FLUSH && sim_chance(sim, 60))
        o->exptime = far + (uint32_t)sim_below(sim, 4);
    if (o->type == REQUEST_FETCH || counts || o->type == REQUEST_DELETE)
        o->options |= sim_chance(sim, 25) ? REQUEST_SETS_EXPTIME : 0;
    o->new_exptime = far + (uint32_t)sim_below(sim, 4);
    if (o->type == REQUEST_FETCH) {
        o->options |= sim_chance(sim, 50) ? REQUEST_RECACHES : 0;
        o->options |= sim_chance(sim, 30)
                          ? REQUEST_EXPTIME_FIRST & -((o->options & REQUEST_SETS_EXPTIME) != 0)
                          : 0;
        o->recache_at = far + (uint32_t)sim_below(sim, 6);
        o->compare = false;
    }
    if (o->type == REQUEST_FETCH || extends)
        o->vivify = sim_chance(sim, 40);
    if (o->type == REQUEST_DELETE)
        o->options |= sim_chance(sim, 60) ? REQUEST_MARKS_STALE : 0;
    if (o->type == REQUEST_DELETE)
        o->options |= sim_chance(sim, 20) ? REQUEST_EMPTIES : 0;
    if (o->type == REQUEST_CAS)
        o->options |= sim_chance(sim, 40) ? REQUEST_MARKS_STALE : 0;
    o->compare = o->compare && o->type != REQUEST_CAS;
}

static void draw_large(struct sim *sim, struct sim_operation *o)
{
    o->large = request_stores(o->type) && sim->profile.large_percent > 0 &&
               sim_chance(sim, sim->profile.large_percent);
    if (!o->large || !request_extends(o->type))
        return;
    /* as the server sends it, who has copied the value of this unique */
    o->whole = o->compare = true;
    o->cas = sim->clients[o->client % SIM_CLIENT_MAX].cas_seen[o->key];
}

static void draw_operation(struct sim *sim, unsigned client, struct sim_operation *operation)
{
    struct sim_operation *o = operation;
    *o = (struct sim_operation){
        .client = (uint8_t)client}; /* one draw a statement: in an initialiser the order is open */
    o->type = draw_type(sim);
    o->key = (uint16_t)draw_key(sim);
    o->flags = (uint32_t)sim_below(sim, 4);
    o->delta = 1 + sim_below(sim, 20);
    if (request_extends(o->type) && ++sim->extended[o->key] > EXTENDED_MAX)
        o->type = REQUEST_GET;
    if (o->type == REQUEST_PERSIST)
        return;
    if (sim->open_ended[o->key] >= OPEN_ENDED_MAX)
        o->type = REQUEST_GET;
    if (request_stores(o->type))
        draw_value(sim, o);
    if (sim_chance(sim, sim->profile.expire_percent) && !sim->profile.wall_frozen &&
        o->type != REQUEST_FLUSH)
        o->exptime = (uint32_t)(SIM_WALL_START + sim->now / 1000000 + sim_below(sim, 4));
    sim_aim_operation(sim, o);
    o->compare = o->type != REQUEST_SET && o->type != REQUEST_FLUSH && o->type != REQUEST_GET &&
                 sim_chance(sim, 10);
    o->vivify = (o->type == REQUEST_INCR || o->type == REQUEST_DECR) && sim_chance(sim, 30);
    o->initial = o->delta * 1000;
    if (o->type == REQUEST_CAS || o->compare)
        o->cas = sim->clients[client % SIM_CLIENT_MAX].cas_seen[o->key];
    if (sim->profile.meta && sim->open_ended[o->key] < OPEN_ENDED_MAX)
        draw_options(sim, o);
    draw_large(sim, o);
}

static uint32_t record(struct sim *sim, const struct sim_operation *operation)
{
    if (sim->operation_count == sim->operation_room) {
        sim->operation_room = sim->operation_room == 0 ? 512 : 2 * sim->operation_room;
        sim->history = realloc(sim->history, sim->operation_room * sizeof(*sim->history));
        assert(sim->history != NULL);
    }
    sim->history[sim->operation_count] = *operation;
    return sim->operation_count++;
}

/* Its slices are the call's. */
static struct request request_of(const struct sim_operation *operation, struct sim_call *call)
{
    struct slice key = sim_key_name(operation->key, call->key);
    if (operation->type == REQUEST_FLUSH || operation->type == REQUEST_PERSIST)
        key = slice_make("", 0);
    return (struct request){
        .type = operation->type,
        .client_flags = operation->flags,
        .exptime = operation->exptime,
        .hash = hash_key(key),
        .key = key,
        .value = slice_make(call->value.bytes, call->value.size),
        .cas = operation->cas,
        .delta = operation->delta,
        .compare = operation->compare,
        .whole = operation->whole,
        .vivify = operation->vivify,
        .initial = operation->initial,
        .options = operation->options,
        .new_exptime = operation->new_exptime,
        .recache_at = operation->recache_at,
    };
}

static void issue(struct sim *sim, unsigned node, unsigned client,
                  const struct sim_operation *drawn, unsigned shard)
{
    struct sim_node *n = &sim->nodes[node];
    struct sim_operation operation = *drawn;
    operation.node = (uint8_t)node;
    operation.invoked = ++sim->stamp;
    operation.answered = UINT64_MAX;
    operation.outcome = OUTCOME_UNKNOWN;
    operation.started_us = sim->now;
    operation.wall_max = UINT32_MAX; /* until it is answered */
    operation.evicts = sim->profile.evicts;
    operation.wall_min =
        sim->profile.wall_jump != 0 ? 0 : (uint32_t)(sim_wall(sim, node) / 1000000);
    struct sim_call *call = calloc(1, sizeof(*call));
    assert(call != NULL);
    call->operation = record(sim, &operation);
    call->client = (uint8_t)client;
    call->shard = (uint8_t)shard;
    call->value = operation.value;
    call->waits = true;
    if (client < SIM_CLIENT_MAX) {
        call->command = sim->clients[client].command;
        sim->clients[client].operation = call->operation;
    }
    call->request = request_of(&operation, call);
    call->next = n->calls;
    n->calls = call;
    sim->open_count++;
    if (operation.large) {
        sim_large_begin(sim, node, call);
        return;
    }
    struct sim_event *event = sim_at(sim, sim->now, SIM_EVENT_REQUEST);
    event->a = (uint8_t)node;
    event->shard = (uint8_t)shard;
    event->generation = n->life;
    event->pointer = call;
}

static void next_at(struct sim *sim, unsigned client, uint64_t at)
{
    sim_at(sim, at, SIM_EVENT_CLIENT)->a = (uint8_t)client;
}

void sim_clients_start(struct sim *sim)
{
    for (unsigned client = 0; client < sim->profile.client_count; client++) {
        struct sim_client *c = &sim->clients[client];
        if (sim_chance(sim, 20))
            c->home = (uint8_t)(1 + sim_below(sim, sim->profile.node_count));
        next_at(sim, client, sim_below(sim, sim->profile.think_us + 1));
    }
}

static void think(struct sim *sim, unsigned client)
{
    struct sim_client *c = &sim->clients[client];
    uint64_t pause = sim_below(sim, 20);
    if (c->burst > 0) {
        c->burst--;
    } else {
        c->burst = (unsigned)sim_below(sim, BURST_MAX);
        pause = sim_below(sim, sim->profile.think_us * (c->burst + 1) + 1);
    }
    next_at(sim, client, sim->now + pause);
}

/* Mostly a node that serves, as far as anybody knows; sometimes any. */
static unsigned choose_node(struct sim *sim, const struct sim_client *c)
{
    unsigned node = c->home != 0 ? c->home : 1 + (unsigned)sim_below(sim, sim->profile.node_count);
    for (unsigned tries = 0; tries < 4 && c->home == 0 && !sim_chance(sim, 10); tries++) {
        if (sim->nodes[node].up && (sim->newest.members & node_bit(node)) != 0 &&
            sim->newest.incarnation[node] == sim->nodes[node].incarnation)
            break;
        node = 1 + (unsigned)sim_below(sim, sim->profile.node_count);
    }
    return node;
}

void sim_client_next(struct sim *sim, unsigned client)
{
    struct sim_client *c = &sim->clients[client];
    unsigned node = choose_node(sim, c);
    if (c->busy || sim->settling ||
        sim->operation_count - sim->refused >= sim->profile.operation_count ||
        sim->operation_count >= 3 * sim->profile.operation_count)
        return;
    if (!sim->nodes[node].up) {
        next_at(sim, client, sim->now + sim_between(sim, 1000, 20000));
        return;
    }
    struct sim_operation operation;
    draw_operation(sim, client, &operation);
    c->busy = true;
    c->command++;
    /* flush_all is one command a shard; the clients here flush one of them. */
    unsigned shard = sim_key_shard(sim, operation.key);
    issue(sim, node, client, &operation, shard);
    uint64_t patience = sim->profile.client_patience_us +
                        (operation.large ? LARGE_PAUSES * sim->profile.large_pause_us : 0);
    struct sim_event *event = sim_at(sim, sim->now + patience, SIM_EVENT_PATIENCE);
    event->a = (uint8_t)client;
    event->generation = c->command;
}

static void never_answered(struct sim *sim, uint32_t number)
{
    struct sim_operation *operation = &sim->history[number];
    sim->unknown++;
    operation->ended_us = sim->now;
    if (operation->type == REQUEST_PERSIST)
        return;
    for (unsigned key = 0; key < sim->profile.key_count; key++)
        if (operation->type == REQUEST_FLUSH ||
            (key == operation->key && operation->type != REQUEST_GET))
            sim->open_ended[key]++;
}

void sim_client_patience(struct sim *sim, unsigned client, uint32_t command)
{
    struct sim_client *c = &sim->clients[client];
    if (!c->busy || c->command != command)
        return;
    c->busy = false;
    never_answered(sim, c->operation);
    think(sim, client);
}

static bool tells_unique(enum outcome outcome)
{
    return outcome == OUTCOME_HIT || outcome == OUTCOME_STORED || outcome == OUTCOME_NUMBER ||
           outcome == OUTCOME_TOUCHED;
}

static void write_down(struct sim *sim, const struct sim_call *call, enum outcome outcome)
{
    struct sim_operation *operation = &sim->history[call->operation];
    operation->answered = ++sim->stamp;
    operation->outcome = outcome;
    operation->ended_us = sim->now;
    operation->wall_max = sim->wall_max;
    operation->number = call->number;
    if (tells_unique(outcome)) {
        assert(call->result_cas != 0);
        operation->result_cas = call->result_cas;
    }
    if (outcome == OUTCOME_HIT) {
        operation->result = call->result;
        operation->result_flags = call->result_flags;
        operation->result_large = call->result_large;
        operation->result_marks = operation->type == REQUEST_FETCH ? call->request.seen.marks : 0;
    }
}

void sim_client_answered(struct sim *sim, const struct sim_call *call, enum outcome outcome)
{
    struct sim_client *c = &sim->clients[call->client % SIM_CLIENT_MAX];
    if (sim_is_piece(call)) {
        sim->open_count--;
        sim_large_answered(sim, call, outcome);
        return;
    }
    if (call->upload != NULL)
        sim_large_over(sim, call, outcome);
    bool waits = call->client == FINAL_CLIENT || (c->busy && c->command == call->command);
    sim->open_count--;
    sim->refused += outcome == OUTCOME_REFUSED;
    sim_note(sim, (uint64_t)outcome + call->client * 32u, "client %u: %s outcome %d", call->client,
             waits ? "takes" : "no longer waits for", (int)outcome);
    if (!waits)
        return;
    if (outcome != OUTCOME_UNKNOWN)
        write_down(sim, call, outcome);
    else
        never_answered(sim, call->operation);
    if (outcome == OUTCOME_HIT && call->result_large)
        sim_large_read(sim, call);
    if (call->client == FINAL_CLIENT)
        return;
    if (tells_unique(outcome))
        c->cas_seen[sim->history[call->operation].key] = call->result_cas;
    c->busy = false;
    if (outcome == OUTCOME_REFUSED || outcome == OUTCOME_UNKNOWN || outcome == OUTCOME_NO_MEMORY)
        next_at(sim, call->client, sim->now + sim_between(sim, 2000, 20000));
    else
        think(sim, call->client);
}

void sim_client_final_reads(struct sim *sim)
{
    sim->final = true;
    for (unsigned key = 0; key < sim->profile.key_count; key++) {
        for (unsigned node = 1; node <= sim->profile.node_count; node++) {
            struct sim_operation operation = {
                .type = REQUEST_GET, .client = FINAL_CLIENT, .key = (uint16_t)key};
            issue(sim, node, FINAL_CLIENT, &operation, sim_key_shard(sim, key));
        }
    }
}
