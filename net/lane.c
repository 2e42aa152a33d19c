/* A lane: what arrives in its mailbox, the heartbeat tick, and work put off to the next turn of the
 * loop. */
#include <assert.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "net/net_private.h"

void net_lane_turn(struct net_lane *lane)
{
    event_active(&lane->turn, EV_TIMEOUT, 0);
}

static void on_turn(evutil_socket_t fd, short what, void *user)
{
    struct net_lane *lane = user;
    (void)fd;
    (void)what;
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++)
        link_turn(&lane->links[id]);
}

static void on_tick(evutil_socket_t fd, short what, void *user)
{
    struct net_lane *lane = user;
    struct net *net = lane->net;
    uint64_t now = net_now_ns();
    (void)fd;
    (void)what;
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++)
        link_tick(&lane->links[id], now);
    pthread_mutex_lock(&net->mutex);
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++)
        net->mailboxes[lane->index].stats[id] = lane->links[id].stats;
    if (lane->rdma != NULL)
        net->mailboxes[lane->index].lane_stats = rdma_lane_stats(lane);
    pthread_mutex_unlock(&net->mutex);
}

/* ---- the mailbox ---- */

static struct arrival *take_arrivals(struct net_lane *lane)
{
    struct mailbox *mailbox = &lane->net->mailboxes[lane->index];
    uint64_t count;
    ssize_t ignored = read(mailbox->wake_fd, &count, sizeof(count));
    (void)ignored;
    pthread_mutex_lock(&lane->net->mutex);
    struct arrival *first = mailbox->first;
    mailbox->first = NULL;
    pthread_mutex_unlock(&lane->net->mutex);
    return first;
}

/* A new own incarnation: every peer must hear it before anything else. */
static void renew(struct net_lane *lane)
{
    uint64_t incarnation = net_own_incarnation_any(lane->net);
    if (lane->incarnation == incarnation)
        return;
    lane->incarnation = incarnation;
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++) {
        if (lane->links[id].state != LINK_NONE)
            link_down(&lane->links[id], "this node took a new incarnation");
        link_redial(&lane->links[id]);
    }
}

static void close_shut_out(struct net_lane *lane)
{
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++) {
        struct link *link = &lane->links[id];
        if (link->state != LINK_UP && link->state != LINK_JOINING)
            continue;
        enum hello_refusal refusal = net_admit_any(lane->net, id, link->incarnation, false);
        if (refusal != HELLO_ACCEPTED)
            link_down(link, hello_refusal_text(refusal));
    }
}

static void on_wake(evutil_socket_t fd, short what, void *user)
{
    struct net_lane *lane = user;
    (void)fd;
    (void)what;
    struct arrival *arrival = take_arrivals(lane);
    renew(lane);
    close_shut_out(lane);
    if (lane->rdma != NULL)
        rdma_lane_wake(lane);
    if (lane->rdma != NULL && lane->index == lane->net->options.lane_count - 1)
        rdma_door_wake(lane->net);
    while (arrival != NULL) {
        struct arrival *next = arrival->next;
        if (arrival->answer.incarnation == lane->incarnation &&
            net_admit_any(lane->net, arrival->call.from, arrival->call.incarnation, false) ==
                HELLO_ACCEPTED)
            link_adopt(&lane->links[arrival->call.from], arrival);
        else
            close(arrival->fd);
        free(arrival);
        arrival = next;
    }
}

/* ---- opening and closing ---- */

static void set_open(struct net_lane *lane, bool open)
{
    struct net *net = lane->net;
    struct mailbox *mailbox = &net->mailboxes[lane->index];
    pthread_mutex_lock(&net->mutex);
    assert(mailbox->open != open);
    mailbox->open = open;
    lane->incarnation = net->incarnation;
    pthread_mutex_unlock(&net->mutex);
}

static void start_events(struct net_lane *lane)
{
    uint32_t tick_ms = (lane->net->options.heartbeat_ms + 1) / 2;
    struct timeval tick = net_timeval(tick_ms);
    event_assign(&lane->wake, lane->base, lane->net->mailboxes[lane->index].wake_fd,
                 EV_READ | EV_PERSIST, on_wake, lane);
    event_assign(&lane->tick, lane->base, -1, EV_PERSIST, on_tick, lane);
    evtimer_assign(&lane->turn, lane->base, on_turn, lane);
    event_add(&lane->wake, NULL);
    event_add(&lane->tick, &tick);
}

enum status net_lane_open(struct net *net, unsigned index, struct event_base *base,
                          const struct net_callbacks *callbacks, void *user,
                          struct net_lane **lane_made)
{
    assert(index < net->options.lane_count);
    struct net_lane *lane = calloc(1, sizeof(*lane));
    if (lane == NULL)
        return STATUS_NO_MEMORY;
    lane->net = net;
    lane->index = index;
    lane->base = base;
    lane->callbacks = callbacks;
    lane->user = user;
    ssize_t got = getrandom(&lane->prng.state, sizeof(lane->prng.state), 0);
    assert(got == sizeof(lane->prng.state));
    set_open(lane, true);
    start_events(lane);
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++)
        link_open(&lane->links[id], lane, id);
    enum status status = rdma_lane_open(lane);
    if (index == net->options.lane_count - 1)
        net_door_open(net, base);
    if (status == STATUS_OK)
        *lane_made = lane;
    else
        net_lane_close(lane);
    return status;
}

void net_lane_close(struct net_lane *lane)
{
    if (lane == NULL)
        return;
    struct net *net = lane->net;
    if (lane->index == net->options.lane_count - 1)
        net_door_close(net);
    set_open(lane, false);
    for (struct arrival *next, *arrival = take_arrivals(lane); arrival != NULL; arrival = next) {
        next = arrival->next;
        close(arrival->fd);
        free(arrival);
    }
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++)
        link_close(&lane->links[id]);
    rdma_lane_close(lane);
    event_del(&lane->wake);
    event_del(&lane->tick);
    event_del(&lane->turn);
    block_pool_close(&lane->pool);
    pthread_mutex_lock(&net->mutex);
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++)
        net->mailboxes[lane->index].stats[id] = (struct net_stats){0};
    pthread_mutex_unlock(&net->mutex);
    free(lane);
}

bool net_poll(struct net_lane *lane)
{
    return lane->rdma != NULL && rdma_lane_poll(lane);
}

void net_set_polling(struct net_lane *lane, bool polling)
{
    if (lane->rdma != NULL)
        rdma_lane_set_polling(lane, polling);
}

bool net_may_sleep(struct net_lane *lane)
{
    return lane->rdma == NULL || rdma_lane_may_sleep(lane);
}
