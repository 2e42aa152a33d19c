/* stats net: the connections to the peers, by peer and by shard and peer. Ours: memcached has no
 * such. What each line means is in doc/operations.md. */
#include <stdio.h>

#include "server/stats_private.h"
#include "server/worker.h"

/* Where a line belongs: what its name begins with. */
struct place {
    const struct node *node;
    char prefix[32];
};

static void number(struct text *text, const struct place *place, const char *name, uint64_t value)
{
    char full[80];
    snprintf(full, sizeof(full), "%s%s", place->prefix, name);
    stat_number(text, full, value);
}

static void word(struct text *text, const struct place *place, const char *name, const char *value)
{
    char full[80];
    snprintf(full, sizeof(full), "%s%s", place->prefix, name);
    stat_text(text, full, "%s", value);
}

/* `part` for each of `whole`. */
static void ratio(struct text *text, const struct place *place, const char *name, uint64_t part,
                  uint64_t whole)
{
    char value[32];
    snprintf(value, sizeof(value), "%.2f", whole > 0 ? (double)part / (double)whole : 0.0);
    word(text, place, name, value);
}

static void round_lines(struct text *text, const struct place *place, const uint64_t *rounds)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < NET_ROUND_BUCKETS; i++)
        count += rounds[i];
    number(text, place, "rounds", count);
    for (unsigned i = 0; i < NET_ROUND_BUCKETS; i++) {
        char name[40];
        bool last = i == NET_ROUND_BUCKETS - 1;
        if (rounds[i] == 0)
            continue;
        snprintf(name, sizeof(name), "rounds_%s_us_%u", last ? "from" : "below",
                 1u << (last ? i - 1 : i));
        number(text, place, name, rounds[i]);
    }
}

static void link_lines(struct text *text, const struct place *place, const struct net_stats *stats)
{
    bool rdma = net_registered_any(place->node->net) > 0;
#define LINE(name, field) number(text, place, #name, stats->field);
#define RDMA(name, field)                                                                          \
    if (rdma)                                                                                      \
    LINE(name, field)
#include "server/net_stat.def"
#undef LINE
#undef RDMA
    ratio(text, place, "messages_per_frame", stats->messages_out, stats->frames_out);
    if (rdma)
        ratio(text, place, "inline_share", stats->inlined, stats->frames_out);
    round_lines(text, place, stats->rounds);
}

static void add(struct net_stats *total, const struct net_stats *stats)
{
#define LINE(name, field) total->field += stats->field;
#define RDMA(name, field) LINE(name, field)
#include "server/net_stat.def"
#undef LINE
#undef RDMA
    for (unsigned i = 0; i < NET_ROUND_BUCKETS; i++)
        total->rounds[i] += stats->rounds[i];
}

/* All lanes, that of the control thread included. */
static void peer_lines(struct text *text, const struct node *node, unsigned peer)
{
    struct place place = {.node = node};
    struct net_stats total = {.up = false};
    unsigned lane_count = node->worker_count + 1, up = 0, rdma = 0;
    for (unsigned lane = 0; lane < lane_count; lane++) {
        struct net_stats stats;
        net_stats_any(node->net, lane, peer, &stats);
        add(&total, &stats);
        up += stats.up;
        rdma += stats.up && stats.rdma;
    }
    snprintf(place.prefix, sizeof(place.prefix), "peer%u_", peer);
    number(text, &place, "lanes", lane_count);
    number(text, &place, "lanes_up", up);
    number(text, &place, "lanes_rdma", rdma);
    link_lines(text, &place, &total);
}

static const char *transport_text(const struct net_stats *stats)
{
    if (!stats->up)
        return "none";
    return stats->rdma ? "rdma" : "tcp";
}

/* The lane's own numbers; the control thread is none of the shards. */
static void lane_lines(struct text *text, const struct node *node, unsigned lane)
{
    struct place place = {.node = node};
    struct net_lane_stats stats;
    net_lane_stats_any(node->net, lane, &stats);
    if (lane == node->worker_count) {
        snprintf(place.prefix, sizeof(place.prefix), "control_");
    } else {
        const struct counters *counters = &node->workers[lane].counters;
        snprintf(place.prefix, sizeof(place.prefix), "shard%u_", lane);
        number(text, &place, "kernel_looks", counters_read_any(counters, COUNTER_kernel_looks));
        number(text, &place, "kernel_sleeps", counters_read_any(counters, COUNTER_kernel_sleeps));
    }
    if (net_registered_any(node->net) == 0)
        return;
    number(text, &place, "polls", stats.polls);
    number(text, &place, "empty_polls", stats.empty_polls);
    number(text, &place, "sleeps", stats.sleeps);
    number(text, &place, "wakes", stats.wakes);
}

static void lane_peer_lines(struct text *text, const struct node *node, unsigned lane,
                            unsigned peer)
{
    struct place place = {.node = node};
    struct net_stats stats;
    net_stats_any(node->net, lane, peer, &stats);
    if (lane == node->worker_count)
        snprintf(place.prefix, sizeof(place.prefix), "control_peer%u_", peer);
    else
        snprintf(place.prefix, sizeof(place.prefix), "shard%u_peer%u_", lane, peer);
    word(text, &place, "state", stats.up ? "up" : "down");
    word(text, &place, "transport", transport_text(&stats));
    link_lines(text, &place, &stats);
}

void stats_net(struct text *text, const struct node *node)
{
    const struct options *options = &node->options;
    char transport[NET_TRANSPORT_SIZE] = "none";
    if (node->net != NULL)
        net_transport_any(node->net, transport);
    stat_text(text, "transport", "%s", transport);
    stat_number(text, "registered_bytes", node->net != NULL ? net_registered_any(node->net) : 0);
    if (node->net == NULL)
        return;
    for (uint32_t i = 0; i < options->peer_count; i++)
        if (options->peers[i].id != options->self)
            peer_lines(text, node, options->peers[i].id);
    for (unsigned lane = 0; lane <= node->worker_count; lane++) {
        lane_lines(text, node, lane);
        for (uint32_t i = 0; i < options->peer_count; i++)
            if (options->peers[i].id != options->self)
                lane_peer_lines(text, node, lane, options->peers[i].id);
    }
}

uint32_t stats_net_size(const struct node *node)
{
    enum { PLACE_SIZE = 4096 };              /* of a place's lines, at most */
    uint32_t lanes = node->worker_count + 2; /* the control thread's, and the sums */
    return 4096 + lanes * (node->options.peer_count + 1) * PLACE_SIZE;
}
