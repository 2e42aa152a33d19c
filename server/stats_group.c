/* stats view, peers and heal: this node in its group. Ours: memcached has no such. */
#include <inttypes.h>

#include "server/clock.h"
#include "server/stats_private.h"
#include "server/worker.h"

static uint64_t load(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

const char *stats_role(const struct node *node)
{
    struct node_view now;
    uint8_t self = node_bit(node->options.self);
    if (node->net == NULL)
        return "single";
    node_view_any((struct node *)node, &now);
    if (now.view.members & self)
        return "member";
    return now.view.healing & self ? "healing" : "absent";
}

/* "1,2,3"; "none". */
static const char *node_list(uint8_t nodes, char out[16])
{
    size_t used = 0;
    for (unsigned id = 1; id <= 7; id++) {
        if (nodes & node_bit(id))
            used += (size_t)snprintf(out + used, 16 - used, "%s%u", used > 0 ? "," : "", id);
    }
    return used > 0 ? out : "none";
}

static void view_lines(struct text *text, const struct node *node)
{
    struct node_view now;
    char list[16];
    node_view_any((struct node *)node, &now);
    uint64_t until_us = load(&node->lease_until_us), mono_us = clock_mono_us();
    stat_number(text, "node", node->options.self);
    stat_text(text, "role", "%s", stats_role(node));
    stat_number(text, "incarnation", load(&node->incarnation));
    stat_number(text, "view_epoch", now.view.epoch);
    stat_text(text, "view_members", "%s", node_list(now.view.members, list));
    stat_text(text, "view_healing", "%s", node_list(now.view.healing, list));
    stat_text(text, "view_configured", "%s", node_list(node->options.configured, list));
    stat_text(text, "view_leader_here", "%s", now.leading ? "yes" : "no");
    if (until_us == UINT64_MAX)
        stat_text(text, "lease_ms_left", "unlimited");
    else
        stat_number(text, "lease_ms_left", until_us > mono_us ? (until_us - mono_us) / 1000 : 0);
}

/* How long ago each peer was heard on its quietest lane. */
static void peer_lines(struct text *text, const struct node *node)
{
    char list[16], name[40];
    uint8_t up = 0;
    for (uint32_t i = 0; i < node->options.peer_count; i++) {
        const struct options_address *peer = &node->options.peers[i];
        if (peer->id == node->options.self)
            continue;
        uint64_t heard_us = net_heard_ns_any(node->net, peer->id) / 1000;
        up |= heard_us != 0 ? node_bit(peer->id) : 0;
        snprintf(name, sizeof(name), "peer%u_heard_ms_ago", peer->id);
        if (heard_us == 0)
            stat_text(text, name, "never");
        else
            stat_number(text, name, (clock_mono_us() - heard_us) / 1000);
    }
    stat_text(text, "peers", "%s", node_list(up, list));
    if (node->net != NULL)
        stat_number(text, "peers_refused", net_refused_any(node->net));
}

static void add_heal(struct stats_heal *heal, const struct shard_stats *shard)
{
    heal->checked += shard->heal_checked;
    heal->received += shard->heal_received;
    heal->received_bytes += shard->heal_received_bytes;
    heal->discarded += shard->heal_discarded;
    heal->left_bytes += shard->heal_left_bytes;
    heal->healing_count += shard->healing && shard->heal_ended_us == 0;
    heal->full = heal->full || shard->heal_full;
    heal->no_room = heal->no_room || shard->full;
    if (shard->heal_started_us != 0 &&
        (heal->started_us == 0 || shard->heal_started_us < heal->started_us))
        heal->started_us = shard->heal_started_us;
    if (shard->heal_listed_us > heal->listed_us)
        heal->listed_us = shard->heal_listed_us;
    if (shard->heal_ended_us > heal->ended_us)
        heal->ended_us = shard->heal_ended_us;
}

void stats_heal(const struct node *node, struct stats_heal *heal)
{
    *heal = (struct stats_heal){.checked = 0};
    for (unsigned i = 0; i < node->worker_count; i++) {
        struct published published;
        publication_read_any(&node->workers[i].publication, &published);
        add_heal(heal, &published.shard);
    }
}

void stats_heal_lines(struct text *text, const struct node *node)
{
    struct stats_heal heal;
    char name[48], list[16];
    stats_heal(node, &heal);
    stat_text(text, "role", "%s", stats_role(node));
    stat_number(text, "heal_shards_left", heal.healing_count);
    stat_text(text, "heal_mode", "%s", heal.full ? "full" : "incremental");
    stat_number(text, "heal_checked", heal.checked);
    stat_number(text, "heal_received", heal.received);
    stat_number(text, "heal_received_bytes", heal.received_bytes);
    stat_number(text, "heal_discarded", heal.discarded);
    stat_number(text, "heal_left_bytes", heal.left_bytes);
    if (heal.started_us != 0) {
        uint64_t took_us =
            (heal.healing_count == 0 ? heal.ended_us : clock_mono_us()) - heal.started_us;
        stat_number(text, "heal_ms", took_us / 1000);
        stat_number(text, "heal_bytes_per_s", heal.received_bytes * 1000000 / (took_us | 1));
    }
    for (unsigned i = 0; i < node->worker_count; i++) {
        struct published published;
        publication_read_any(&node->workers[i].publication, &published);
        snprintf(name, sizeof(name), "shard%u_buddy", i);
        stat_number(text, name, published.shard.buddy);
        snprintf(name, sizeof(name), "shard%u_buddy_of", i);
        stat_text(text, name, "%s", node_list(published.shard.buddy_of, list));
        snprintf(name, sizeof(name), "shard%u_walk_sent", i);
        stat_number(text, name, published.shard.walk_sent);
        snprintf(name, sizeof(name), "shard%u_walk_sent_bytes", i);
        stat_number(text, name, published.shard.walk_sent_bytes);
        snprintf(name, sizeof(name), "shard%u_walk_left_bytes", i);
        stat_number(text, name, published.shard.walk_left_bytes);
        snprintf(name, sizeof(name), "shard%u_stable_round", i);
        stat_number(text, name, published.shard.round);
    }
}

void stats_view(struct text *text, const struct node *node)
{
    view_lines(text, node);
    peer_lines(text, node);
}

void stats_core(struct text *text, const struct node *node)
{
    struct totals totals;
    stats_sum(node, &totals);
    stat_number(text, "writes_under_way", totals.shard.op_count);
    stat_number(text, "keys_invalid", totals.shard.invalid_count);
    stat_number(text, "requests_waiting", totals.shard.waiting_count);
    stat_number(text, "requests_parked_now", totals.parked);
    stat_number(text, "core_writes", totals.shard.writes);
    stat_number(text, "core_rmws", totals.shard.rmws);
    stat_number(text, "core_rmw_retries", totals.shard.rmw_retries);
    stat_number(text, "core_reads", totals.shard.reads);
    stat_number(text, "core_read_waits", totals.shard.read_waits);
    stat_number(text, "core_replays", totals.shard.replays);
    stat_number(text, "core_asks", totals.shard.asks);
    stat_number(text, "core_rounds", totals.shard.rounds);
    stat_number(text, "persists_waiting", totals.shard.persist_waiting);
    stat_number(text, "records_not_durable_here", totals.undurable);
    stat_number(text, "records_not_durable_everywhere", totals.shard.unsettled);
    if (totals.stable_us == 0)
        stat_text(text, "stable_round_ms_ago", "never");
    else
        stat_number(text, "stable_round_ms_ago", (clock_mono_us() - totals.stable_us) / 1000);
}
