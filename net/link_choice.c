/* Whether a link is to be by RDMA, when that did not come about, and the way back from TCP.
 *
 * Nothing tells that a fabric works but a join, and while that is tried the link is down. So where
 * TCP has done before, a join is a trial: a single one, which gets a third of suspect_ms at most,
 * so that nobody suspects anybody for it. After one that failed comes a pause, which doubles.
 *
 * When a device that was lost is back, each link over TCP is dialled anew once, by the end that has
 * it back, since it offered no RDMA when it called, or could not take what it was offered. Not all
 * at once: hundreds of queue pairs take a device longer than a trial lasts. */
#include <stdio.h>

#include "net/net_private.h"

enum {
    JOIN_AGAIN_MS = 60000, /* and as long for TCP to come about at all */
    JOIN_AGAIN_TIMES_MAX = 10,
    TRIALS_PER_SUSPECT = 3,
};

bool link_dials(const struct link *link)
{
    const struct hello_side *side = &link->lane->net->side;
    return (side->known & 1u << link->id) != 0 && link->id < side->self;
}

uint32_t link_offer(const struct link *link)
{
    const struct net_lane *lane = link->lane;
    bool rdma = rdma_lane_is_there(lane) && net_now_ns() >= link->tcp_until_ns;
    return net_transports_any(lane->net) & (rdma ? ~0u : HELLO_TCP);
}

/* The acceptor leaves it to the dialler to give up. */
static bool is_trial(const struct link *link)
{
    return link_dials(link) && link->wire == &wire_rdma && (link->was_tcp || link->pause_ms > 0);
}

uint32_t link_join_ms(const struct link *link)
{
    const struct net_options *options = &link->lane->net->options;
    uint32_t trial_ms = options->suspect_ms / TRIALS_PER_SUSPECT;
    return is_trial(link) && trial_ms < options->connect_ms ? trial_ms : options->connect_ms;
}

/* Half to all of it, so that the lanes do not all try at once. */
static void begin_pause(struct link *link)
{
    uint32_t half_ms = link->pause_ms / 2;
    uint64_t pause_ms = half_ms + prng_below(&link->lane->prng, half_ms + 1);
    link->tcp_until_ns = net_now_ns() + pause_ms * 1000000;
    link->pauses = true;
}

void link_note_up(struct link *link)
{
    link->join_failures = 0;
    link->was_tcp = link->wire != &wire_rdma;
    if (!link->was_tcp)
        link->pause_ms = 0;
    else if (link->pause_ms > 0 && !link->pauses)
        begin_pause(link);
}

/* TCP first, then the pause: it begins when the link is up. */
static void fall_back(struct link *link)
{
    uint32_t first_ms = link->lane->net->options.join_again_ms;
    if (first_ms == 0)
        first_ms = JOIN_AGAIN_MS;
    link->pause_ms = link->pause_ms == 0 ? first_ms : 2 * link->pause_ms;
    if (link->pause_ms > JOIN_AGAIN_TIMES_MAX * first_ms)
        link->pause_ms = JOIN_AGAIN_TIMES_MAX * first_ms;
    link->pauses = false;
    link->tcp_until_ns = net_now_ns() + (uint64_t)JOIN_AGAIN_MS * 1000000;
    link->backoff_ms = BACKOFF_MIN_MS; /* the peer is there, and TCP will do */
}

void link_note_device(struct link *link)
{
    const struct net_options *options = &link->lane->net->options;
    uint32_t spread_ms = options->device_again_ms > 0 ? options->device_again_ms : DEVICE_AGAIN_MS;
    uint64_t from_ns = net_now_ns() + prng_below(&link->lane->prng, spread_ms) * 1000000;
    if (options->choice == NET_CHOOSE_AUTO && link->tcp_until_ns < from_ns)
        link->tcp_until_ns = from_ns;
}

static void tell_tcp(const struct link *link, const char *why)
{
    const struct net_options *options = &link->lane->net->options;
    char text[256];
    snprintf(text, sizeof(text), "node %u, lane %u: tcp for now: %s", link->id, link->lane->index,
             why);
    if (options->on_chosen != NULL)
        options->on_chosen(options->user, text);
}

/* Though both ends offered it. Where TCP may not be, it is tried on and on. */
void link_note_failed_join(struct link *link, const char *why)
{
    struct net *net = link->lane->net;
    bool told = link->pause_ms > 0;
    link->stats.failures++;
    if (++link->join_failures < JOIN_FAILURES_MAX && !is_trial(link))
        return;
    link->join_failures = 0;
    if (net->options.choice != NET_CHOOSE_AUTO) {
        struct address address = link_peer_address(link);
        net_complain_any(net, &address, why, "no connection to node %u, lane %u", link->id,
                         link->lane->index);
        return;
    }
    fall_back(link);
    if (!told)
        tell_tcp(link, why);
}

bool link_wants_rdma(const struct link *link)
{
    if (!link_usable(link) || link->wire == &wire_rdma)
        return false;
    bool offered = (link->call.transports & HELLO_RDMA) != 0;
    return offered != link_dials(link) && (link_offer(link) & HELLO_RDMA) != 0;
}
