/* Aimed faults. What strikes at random seldom meets the one moment at which a rule carries weight:
 * here are those moments. */
#include "base/hash.h"
#include "t/sim.h"

enum { SOON_US = 300, HOT_KEYS = 2, FORGET_US = 50000, BURSTS_US = 1000000, BURST_US = 60000 };

uint32_t sim_segment_count(const struct sim *sim, unsigned node)
{
    const struct sim_profile *p = &sim->profile;
    return (p->aim.roomy & node_bit(node)) != 0 ? 4 * p->segment_count : p->segment_count;
}

static void strike_at(struct sim *sim, unsigned node, uint64_t at, bool silent)
{
    struct sim_event *event = sim_at(sim, at, SIM_EVENT_STRIKE);
    event->a = (uint8_t)node;
    event->b = silent;
    event->generation = sim->nodes[node].life;
}

static bool strikes(struct sim *sim, unsigned rate, unsigned out_of)
{
    return rate > 0 && !sim->settling && sim_below(sim, out_of) < rate;
}

static bool is_victim(const struct sim *sim, unsigned node)
{
    return sim->profile.victims == 0 || (sim->profile.victims & node_bit(node)) != 0;
}

static bool in_conflict(const struct sim_shard *shard, const struct message *message)
{
    struct slice key = message_key(message);
    struct found found;
    return store_find(shard->store, key, hash_key(key), &found) && found.state == STATE_INVALID &&
           found.record->ts < message->ts && ts_node(found.record->ts) != message->from;
}

/* Is an INV of that record still on its way from its coordinator to anybody? */
static bool under_way(const struct sim *sim, unsigned from, unsigned shard, uint64_t ts)
{
    for (unsigned to = 1; to <= sim->profile.node_count; to++) {
        for (const struct sim_packet *packet = sim->channels[shard][from][to].queue.first;
             packet != NULL; packet = packet->next) {
            const struct message *message = (const struct message *)packet->bytes;
            if (message->type == MSG_INV && message->ts == ts)
                return true;
        }
    }
    return false;
}

/* The node has a record, not durable, that is durable elsewhere: what a round that is stable must
 * not leave out. */
static bool has_tail(const struct sim *sim, unsigned node, unsigned number)
{
    const struct sim_shard *shard = &sim->nodes[node].shards[number];
    for (unsigned key = 0; key < sim->profile.key_count; key++) {
        const struct sim_shadow *shadow = &shard->keys[key];
        if (shadow->kind != RECORD_VALUE || shadow->lsn < shard->durable)
            continue;
        for (unsigned other = 1; other <= sim->profile.node_count; other++)
            if (sim->nodes[other].up &&
                sim->nodes[other].shards[number].keys[key].appends[0].ts == shadow->ts)
                return true;
    }
    return false;
}

/* A follower has acknowledged what is still under way at node `to`. */
static bool is_turncoat(struct sim *sim, unsigned to, unsigned shard, const struct message *message)
{
    unsigned permille = sim->profile.aim.turncoat_permille;
    if (message->type != MSG_ACK && message->type != MSG_TAKEN)
        return false;
    return permille > 0 && is_victim(sim, message->from) &&
           under_way(sim, to, shard, message->ts) && strikes(sim, permille, 1000);
}

/* The coordinator of this INV, which not all have yet, is to die of it. */
static bool dies_of(struct sim *sim, unsigned shard, const struct message *message,
                    unsigned permille)
{
    return permille > 0 && is_victim(sim, message->from) &&
           under_way(sim, message->from, shard, message->ts) && strikes(sim, permille, 1000);
}

void sim_aim_message(struct sim *sim, unsigned to, unsigned shard, const struct message *message)
{
    const struct sim_aim *aim = &sim->profile.aim;
    bool own = message->type == MSG_INV && ts_node(message->ts) == message->from;
    bool manifest =
        own && message->record_kind == RECORD_VALUE && (message->record_flags & RECORD_LARGE) != 0;
    if (is_turncoat(sim, to, shard, message))
        strike_at(sim, message->from, sim->now, false);
    if (own && aim->orphan_permille > 0 && in_conflict(&sim->nodes[to].shards[shard], message) &&
        dies_of(sim, shard, message, aim->orphan_permille))
        strike_at(sim, message->from, sim->now, true);
    if (manifest && dies_of(sim, shard, message, aim->manifest_permille))
        strike_at(sim, message->from, sim->now, true);
    if (message->type == MSG_ROUND_STABLE && is_victim(sim, to) &&
        (!aim->tails || has_tail(sim, to, shard)) && strikes(sim, aim->stable_percent, 100))
        strike_at(sim, to, sim->now, false);
}

void sim_aim_sent(struct sim *sim, unsigned node, unsigned shard, const struct action *action)
{
    const struct message *m = &action->header;
    if (m->type == MSG_INV && (m->flags & MESSAGE_REPLAY) == 0 && is_victim(sim, node) &&
        strikes(sim, sim->profile.aim.recoil_permille, 1000))
        strike_at(sim, node, sim->now + sim_below(sim, SOON_US), true);
    uint8_t healing = action->to & sim->nodes[node].shards[shard].view.healing;
    if (m->type != MSG_INV || healing == 0 || !strikes(sim, sim->profile.aim.cut_permille, 1000))
        return;
    struct sim_event *event = sim_at(sim, sim->now + sim_below(sim, SOON_US), SIM_EVENT_CUT);
    event->shard = (uint8_t)shard;
    event->a = (uint8_t)node;
    event->b = (uint8_t)(__builtin_ctz(healing) + 1);
}

void sim_aim_forgot(struct sim *sim, unsigned node)
{
    if (sim->nodes[node].up && is_victim(sim, node) &&
        strikes(sim, sim->profile.aim.forget_percent, 100))
        strike_at(sim, node, sim->now + sim_below(sim, FORGET_US), false);
}

static uint32_t newest_generation(const struct sim_shard *shard)
{
    const struct log *log = store_log(shard->store);
    uint32_t newest = 0;
    for (uint32_t i = 0; i < log_segment_count(log); i++)
        if (log_segment(log, i)->generation > newest)
            newest = log_segment(log, i)->generation;
    return newest;
}

void sim_aim_step(struct sim *sim, struct sim_shard *shard)
{
    const struct sim_aim *aim = &sim->profile.aim;
    if (aim->reuse_percent == 0)
        return;
    uint32_t newest = newest_generation(shard);
    bool opened = newest > shard->generation && newest > log_segment_count(store_log(shard->store));
    shard->generation = newest;
    if (opened && is_victim(sim, shard->node) && strikes(sim, aim->reuse_percent, 100))
        strike_at(sim, shard->node, sim->now + sim_below(sim, SOON_US), false);
}

static bool is_plain_or_new(enum request_type type)
{
    return type == REQUEST_SET || type == REQUEST_ADD;
}

static void count(const struct sim *sim, struct sim_operation *operation)
{
    if (operation->key < HOT_KEYS && operation->type != REQUEST_ADD &&
        operation->type != REQUEST_GET)
        operation->type = REQUEST_REPLACE;
    else if (operation->key >= HOT_KEYS && is_plain_or_new(operation->type) &&
             sim->now % BURSTS_US > BURST_US)
        operation->type = REQUEST_DELETE;
}

static void wither(struct sim *sim, struct sim_operation *operation)
{
    uint64_t dies_us =
        sim->profile.safety_us * (operation->key + 1u) / (sim->profile.key_count + 1u);
    if (operation->key >= HOT_KEYS && sim->now >= dies_us && is_plain_or_new(operation->type))
        operation->type = REQUEST_DELETE;
}

void sim_aim_operation(struct sim *sim, struct sim_operation *operation)
{
    if (sim->profile.aim.wither)
        wither(sim, operation);
    if (sim->profile.aim.count)
        count(sim, operation);
}
