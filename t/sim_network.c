/* The network. Shards' channels are first in, first out and lose nothing while a connection lasts;
 * a reset loses what is under way, both ways. A partition is silence: what was sent arrives when it
 * ends, unless the connection broke. Between members (control lane) messages may be lost, late,
 * doubled and out of order. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "t/sim.h"

static struct sim_link *link_of(struct sim *sim, unsigned shard, unsigned a, unsigned b)
{
    return a < b ? &sim->links[shard][a][b] : &sim->links[shard][b][a];
}

bool sim_reaches(const struct sim *sim, unsigned from, unsigned to)
{
    return (sim->nodes[to].blocked_from & node_bit(from)) == 0;
}

bool sim_running(const struct sim *sim, unsigned node)
{
    return sim->nodes[node].up && sim->nodes[node].paused_until <= sim->now;
}

static uint64_t delay(struct sim *sim)
{
    uint64_t us = sim_between(sim, sim->profile.delay_min_us, sim->profile.delay_max_us);
    return sim_chance(sim, sim->profile.delay_tail_percent) && !sim->settling ? us * 10 : us;
}

static void schedule_pump(struct sim *sim, unsigned shard, unsigned from, unsigned to, uint64_t at)
{
    struct sim_channel *channel = &sim->channels[shard][from][to];
    if (channel->pump_at <= at)
        return;
    channel->pump_at = at;
    struct sim_event *event = sim_at(sim, at, SIM_EVENT_PUMP);
    event->shard = (uint8_t)shard;
    event->a = (uint8_t)from;
    event->b = (uint8_t)to;
}

void sim_network_send(struct sim *sim, unsigned from, unsigned to, unsigned shard,
                      const struct action *action)
{
    struct sim_channel *channel = &sim->channels[shard][from][to];
    if (!link_of(sim, shard, from, to)->up)
        return;
    size_t size = sizeof(action->header) + action->key.size + action->value.size;
    struct sim_packet *packet = sim_packet_make(size);
    packet->incarnation = sim->nodes[from].incarnation;
    packet->deliver_at = sim->now + delay(sim) * (sim->settling ? 1 : channel->slowness);
    if (channel->lag_until > sim->now && !sim->settling)
        packet->deliver_at += channel->lag_us;
    memcpy(packet->bytes, &action->header, sizeof(action->header));
    if (action->key.size > 0)
        memcpy(packet->bytes + sizeof(action->header), action->key.data, action->key.size);
    if (action->value.size > 0)
        memcpy(packet->bytes + sizeof(action->header) + action->key.size, action->value.data,
               action->value.size);
    sim_queue_put(&channel->queue, packet);
    sim->messages++;
    if (channel->queue.first == packet && !channel->held)
        schedule_pump(sim, shard, from, to, packet->deliver_at);
}

static bool may_deliver(const struct sim *sim, unsigned from, unsigned to)
{
    return sim_running(sim, to) && sim_reaches(sim, from, to);
}

void sim_network_pump(struct sim *sim, unsigned shard, unsigned from, unsigned to)
{
    struct sim_channel *channel = &sim->channels[shard][from][to];
    channel->pump_at = SIM_FOREVER;
    while (sim_queue_due(&channel->queue, sim->now) != NULL && may_deliver(sim, from, to)) {
        const struct message *message = (const struct message *)channel->queue.first->bytes;
        channel->heard_us = sim_mono(sim, to);
        channel->held = shard_holds(sim->nodes[to].shards[shard].shard, message);
        if (channel->held) {
            sim_note(sim, message->epoch, "%u.%u holds %s of epoch %u from %u", to, shard,
                     message_name(message->type), message->epoch, from);
            return;
        }
        struct sim_packet *packet = sim_queue_take(&channel->queue);
        if (gate_judge(&sim->nodes[to].gates[from], packet->incarnation) != HELLO_ACCEPTED) {
            free(packet); /* its connection was closed when a newer one came on another lane */
            continue;
        }
        message = (const struct message *)packet->bytes;
        sim_check_incarnation(sim, from, to, packet->incarnation);
        sim_aim_message(sim, to, shard, message);
        sim_worker_message(sim, to, shard, message);
        free(packet);
    }
    if (channel->queue.first != NULL && may_deliver(sim, from, to))
        schedule_pump(sim, shard, from, to, channel->queue.first->deliver_at);
}

void sim_network_wake(struct sim *sim, unsigned to)
{
    for (unsigned shard = 0; shard < sim->profile.shard_count; shard++) {
        for (unsigned from = 1; from <= sim->profile.node_count; from++) {
            struct sim_channel *channel = &sim->channels[shard][from][to];
            channel->held = false;
            if (channel->queue.first != NULL && may_deliver(sim, from, to))
                schedule_pump(sim, shard, from, to,
                              channel->queue.first->deliver_at > sim->now
                                  ? channel->queue.first->deliver_at
                                  : sim->now);
        }
    }
}

void sim_network_retry(struct sim *sim, unsigned shard, unsigned to)
{
    for (unsigned from = 1; from <= sim->profile.node_count; from++) {
        struct sim_channel *channel = &sim->channels[shard][from][to];
        if (channel->held && channel->queue.first != NULL && may_deliver(sim, from, to)) {
            channel->held = false;
            schedule_pump(sim, shard, from, to, sim->now);
        }
    }
}

static void schedule_connect(struct sim *sim, unsigned shard, unsigned a, unsigned b, uint64_t at)
{
    struct sim_event *event = sim_at(sim, at, SIM_EVENT_CONNECT);
    event->shard = (uint8_t)shard;
    event->a = (uint8_t)a;
    event->b = (uint8_t)b;
    event->generation = link_of(sim, shard, a, b)->generation;
}

/* `keep`: so many of the first packets arrive all the same, before the end is seen. */
static void cut_channel(struct sim *sim, unsigned shard, unsigned from, unsigned to, bool keep_some)
{
    struct sim_channel *channel = &sim->channels[shard][from][to];
    uint64_t keep =
        keep_some && !channel->held ? sim_below(sim, sim_queue_count(&channel->queue) + 1) : 0;
    struct sim_packet *kept = sim_queue_cut(&channel->queue, keep, sim->now);
    channel->held = false;
    while (kept != NULL) {
        struct sim_packet *packet = kept;
        const struct message *message = (const struct message *)packet->bytes;
        kept = packet->next;
        if (may_deliver(sim, from, to) && !shard_holds(sim->nodes[to].shards[shard].shard, message))
            sim_worker_message(sim, to, shard, message);
        free(packet);
    }
}

void sim_network_reset(struct sim *sim, unsigned shard, unsigned a, unsigned b, bool keep_some)
{
    struct sim_link *link = link_of(sim, shard, a, b);
    if (link->up)
        sim_note(sim, a * 8 + b, "reset %u-%u shard %u", a, b, shard);
    link->up = false;
    cut_channel(sim, shard, a, b, keep_some);
    cut_channel(sim, shard, b, a, keep_some);
    sim->channels[shard][a][b].heard_us = 0;
    sim->channels[shard][b][a].heard_us = 0;
    link->generation++;
    schedule_connect(sim, shard, a, b, sim->now + sim_between(sim, 200, 20000));
}

void sim_network_reset_node(struct sim *sim, unsigned node)
{
    for (unsigned shard = 0; shard < sim->profile.shard_count; shard++)
        for (unsigned peer = 1; peer <= sim->profile.node_count; peer++)
            if (peer != node)
                sim_network_reset(sim, shard, node, peer, false);
}

void sim_network_died(struct sim *sim, unsigned node)
{
    for (unsigned shard = 0; shard < sim->profile.shard_count; shard++) {
        for (unsigned peer = 1; peer <= sim->profile.node_count; peer++) {
            struct sim_link *link = link_of(sim, shard, node, peer);
            if (peer == node)
                continue;
            if (sim->silent_death) {
                sim_network_reset(sim, shard, node, peer, false);
                continue;
            }
            if (!link->up || sim_chance(sim, 30)) {
                sim_network_reset(sim, shard, node, peer, true);
                continue;
            }
            link->up = false;
            link->generation++;
            cut_channel(sim, shard, peer, node, false);
            schedule_connect(sim, shard, node, peer, sim->now + sim_between(sim, 200, 20000));
        }
    }
}

static bool fenced(const struct sim *sim, unsigned a, unsigned b)
{
    return gate_judge(&sim->nodes[a].gates[b], sim->nodes[b].incarnation) != HELLO_ACCEPTED ||
           gate_judge(&sim->nodes[b].gates[a], sim->nodes[a].incarnation) != HELLO_ACCEPTED;
}

static void tell_up(struct sim *sim, unsigned node, unsigned peer, unsigned shard)
{
    struct event event = {.type = EVENT_UP, .peer = peer};
    struct sim_node *n = &sim->nodes[node];
    sim->channels[shard][peer][node].heard_us = sim_mono(sim, node);
    n->met[peer] = sim->nodes[peer].incarnation;
    if (n->gates[peer].newest < n->met[peer])
        n->gates[peer].newest = n->met[peer];
    sim_worker_step(sim, node, shard, &event);
}

void sim_network_connect(struct sim *sim, unsigned shard, unsigned a, unsigned b)
{
    struct sim_link *link = link_of(sim, shard, a, b);
    if (link->up)
        return;
    if (!sim_running(sim, a) || !sim_running(sim, b) || !sim_reaches(sim, a, b) ||
        !sim_reaches(sim, b, a) || fenced(sim, a, b)) {
        schedule_connect(sim, shard, a, b, sim->now + sim_between(sim, 5000, 20000));
        return;
    }
    cut_channel(sim, shard, a, b, false); /* a new connection starts empty */
    cut_channel(sim, shard, b, a, false);
    link->up = true;
    sim_note(sim, a * 8 + b, "connect %u-%u shard %u", a, b, shard);
    tell_up(sim, a, b, shard);
    tell_up(sim, b, a, shard);
}

void sim_network_control(struct sim *sim, unsigned from, unsigned to,
                         const struct member_message *message)
{
    unsigned copies = sim_chance(sim, sim->profile.control_loss_percent) && !sim->settling ? 0 : 1;
    if (sim_chance(sim, 2))
        copies++;
    for (unsigned i = 0; i < copies && sim_reaches(sim, from, to); i++) {
        struct member_message *copy = malloc(sizeof(*copy));
        assert(copy != NULL);
        *copy = *message;
        struct sim_event *event = sim_at(sim, sim->now + delay(sim), SIM_EVENT_CONTROL);
        event->a = (uint8_t)from;
        event->b = (uint8_t)to;
        event->pointer = copy;
    }
}

/* Every lane that is up carries heartbeats. */
void sim_network_listen(struct sim *sim, unsigned node)
{
    uint64_t now = sim_mono(sim, node);
    for (unsigned shard = 0; shard < sim->profile.shard_count; shard++) {
        for (unsigned peer = 1; peer <= sim->profile.node_count; peer++) {
            if (peer == node)
                continue;
            struct sim_channel *channel = &sim->channels[shard][peer][node];
            bool up = link_of(sim, shard, node, peer)->up;
            if (!up)
                channel->heard_us = 0;
            else if (sim_running(sim, peer) && sim_reaches(sim, peer, node))
                channel->heard_us = now;
        }
    }
}
