/* The device while it is used: connection requests, its mishaps, its loss and its return.
 *
 *     any thread        rdma_lose(): `lost`, every lane is woken
 *     each lane         its links down, its queues closed, no user any more; the last wakes us
 *     control thread    the device closed, then tried again and again; not `lost`, lanes woken
 *     each lane         queues opened: a user
 *
 * So no thread waits for another, and what belongs to one device is gone before the next is opened.
 * The memory stays mapped all the while. Atomics: `lost`, written under the mutex. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/rdma_private.h"

enum {
    DEVICE_AGAIN_DOUBLINGS = 4,
    DEVICE_STEADY_S = 60, /* lost sooner: early */
};

/* ---- loss ---- */

bool rdma_is_lost_any(const struct net *net)
{
    return atomic_load(&net->rdma->lost);
}

/* What stats say until the device is back. */
static void set_away(struct net *net, const char *why)
{
    net_set_transport_any(net, net->options.choice == NET_CHOOSE_AUTO ? "tcp" : "none", why);
}

static void tell_lost(struct net *net, const char *why)
{
    char text[256];
    snprintf(text, sizeof(text), "%s: %s", why,
             net->options.choice == NET_CHOOSE_AUTO
                 ? "on over TCP, until it is back"
                 : "no connections (--net=rdma), until it is back");
    set_away(net, why);
    if (net->options.on_chosen != NULL)
        net->options.on_chosen(net->options.user, text);
}

void rdma_lose(struct net *net, const char *why)
{
    pthread_mutex_lock(&net->mutex);
    bool was_lost = atomic_exchange(&net->rdma->lost, true);
    pthread_mutex_unlock(&net->mutex);
    if (was_lost)
        return;
    tell_lost(net, why);
    if (!FAULT(LOST_UNTOLD))
        net_wake_all_any(net);
}

/* ---- connection requests ---- */

const char rdma_not_awaited[] = "no greeting waits for it";

void rdma_refuse(struct net *net, struct rdma_cm_id *id, const char *why)
{
    const struct sockaddr *from = &id->route.addr.dst_addr;
    struct address address = {.size = from->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                                  : sizeof(struct sockaddr_in)};
    memcpy(&address.storage, from, address.size);
    (void)net->rdma->api->rdma_reject(id, NULL, 0);
    (void)net->rdma->api->rdma_destroy_id(id);
    if (why != NULL)
        net_complain_any(net, &address, why, "refused a queue pair");
}

/* One a peer waits at most: a newer request means that the peer has given the older one up. */
static void hand_over(struct net *net, struct rdma_cm_id *id, const struct hello_join *join)
{
    struct rdma_arrival *arrival = malloc(sizeof(*arrival));
    struct rdma_cm_id *refused = id;
    if (arrival != NULL) {
        struct mailbox *mailbox = &net->mailboxes[join->lane];
        pthread_mutex_lock(&net->mutex);
        if (mailbox->open && mailbox->rdma_open && !atomic_load(&net->rdma->lost)) {
            struct rdma_arrival **at = &mailbox->first_rdma;
            while (*at != NULL && (*at)->join.from != join->from)
                at = &(*at)->next;
            refused = *at != NULL ? (*at)->id : NULL;
            struct rdma_arrival *older = *at;
            *arrival = (struct rdma_arrival){
                .next = older != NULL ? older->next : NULL, .id = id, .join = *join};
            *at = arrival;
            arrival = older;
            net_wake_locked(mailbox);
        }
        pthread_mutex_unlock(&net->mutex);
    }
    free(arrival);
    if (refused != NULL)
        rdma_refuse(net, refused, NULL);
}

static void on_request(struct net *net, struct rdma_cm_event *event)
{
    struct hello_join join;
    struct rdma_cm_id *id = event->id;
    bool shaped = event->param.conn.private_data_len >= sizeof(join);
    if (shaped)
        memcpy(&join, event->param.conn.private_data, sizeof(join));
    id->context = NULL;
    (void)net->rdma->api->rdma_ack_cm_event(event);
    if (!shaped || join.magic != HELLO_JOIN_MAGIC)
        rdma_refuse(net, id, hello_refusal_text(HELLO_NOT_OURS));
    else if (join.from == 0 || join.from >= NET_PEER_LIMIT || join.lane >= net->options.lane_count)
        rdma_refuse(net, id, rdma_not_awaited);
    else
        hand_over(net, id, &join);
}

static void on_connections(evutil_socket_t fd, short what, void *user)
{
    struct net *net = user;
    struct rdma_cm_event *event;
    (void)fd;
    (void)what;
    while (net->rdma->api->rdma_get_cm_event(net->rdma->channel, &event) == 0) {
        enum rdma_cm_event_type type = event->event;
        if (type == RDMA_CM_EVENT_CONNECT_REQUEST) {
            on_request(net, event);
            continue;
        }
        /* Of a request that waits for its lane: the lane finds out. */
        (void)net->rdma->api->rdma_ack_cm_event(event);
        if (type == RDMA_CM_EVENT_DEVICE_REMOVAL)
            rdma_lose(net, "the RDMA device is gone");
    }
}

static void on_mishaps(evutil_socket_t fd, short what, void *user)
{
    struct net *net = user;
    struct rdma *rdma = net->rdma;
    struct ibv_async_event event;
    (void)fd;
    (void)what;
    while (rdma->api->ibv_get_async_event(rdma->context, &event) == 0) {
        enum ibv_event_type type = event.event_type;
        rdma->api->ibv_ack_async_event(&event);
        if (type == IBV_EVENT_CQ_ERR && !FAULT(OVERFLOW_UNNOTICED))
            rdma_lose(net, "an RDMA completion queue overflowed");
        else if (type == IBV_EVENT_DEVICE_FATAL)
            rdma_lose(net, "the RDMA device failed");
    }
    if (errno == EAGAIN || errno == EINTR)
        return;
    /* The descriptor of a device that is gone stays readable for ever. */
    event_del(&rdma->mishaps);
    rdma_lose(net, "the RDMA device is gone");
}

/* ---- return ---- */

static void nonblocking(int fd)
{
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void watch(struct net *net)
{
    struct rdma *rdma = net->rdma;
    struct event_base *base = net->door.base;
    nonblocking(rdma->channel->fd);
    nonblocking(rdma->context->async_fd);
    event_assign(&rdma->connections, base, rdma->channel->fd, EV_READ | EV_PERSIST, on_connections,
                 net);
    event_assign(&rdma->mishaps, base, rdma->context->async_fd, EV_READ | EV_PERSIST, on_mishaps,
                 net);
    event_add(&rdma->connections, NULL);
    event_add(&rdma->mishaps, NULL);
    rdma->watched = true;
    rdma->there_ns = net_now_ns();
}

/* At once when the device is lost, though it may have users yet. */
static void stop_watching(struct rdma *rdma)
{
    if (!rdma->watched)
        return;
    event_del(&rdma->connections);
    event_del(&rdma->mishaps);
    rdma->watched = false;
}

/* The library may give the same context again: it must not speak of this end then. */
static void forget_mishaps(const struct rdma *rdma)
{
    struct ibv_async_event event;
    while (rdma->api->ibv_get_async_event(rdma->context, &event) == 0)
        rdma->api->ibv_ack_async_event(&event);
}

static void wait_for_device(struct net *net)
{
    struct rdma *rdma = net->rdma;
    uint32_t first_ms = net->options.device_again_ms;
    if (first_ms == 0)
        first_ms = DEVICE_AGAIN_MS;
    struct timeval delay = net_timeval(first_ms << rdma->tries);
    if (rdma->tries < DEVICE_AGAIN_DOUBLINGS)
        rdma->tries++;
    event_add(&rdma->again, &delay);
}

/* The library keeps a device open that was taken out of the machine, until it looks at what there
 * is; and the kernel may keep the device until then. It opens the machine's other devices, too,
 * hence only if ours is not there. */
static void let_go_of_dead_devices(const struct rdma_api *api)
{
    int count;
    struct ibv_context **devices = api->rdma_get_devices(&count);
    if (devices != NULL)
        api->rdma_free_devices(devices);
}

static void tell_back(struct net *net, const char *what)
{
    char text[NET_TRANSPORT_SIZE + 32];
    snprintf(text, sizeof(text), "the RDMA device is back: %s", what);
    net_set_transport_any(net, "rdma", what);
    if (net->options.on_chosen != NULL)
        net->options.on_chosen(net->options.user, text);
}

static void on_again(evutil_socket_t fd, short what, void *user)
{
    struct net *net = user;
    struct rdma *rdma = net->rdma;
    char text[NET_TRANSPORT_SIZE - 16];
    (void)fd;
    (void)what;
    if (!rdma_device_open(net, text, sizeof(text))) {
        set_away(net, text);
        rdma_device_close(rdma);
        let_go_of_dead_devices(rdma->api);
        wait_for_device(net);
        return;
    }
    watch(net);
    tell_back(net, text);
    pthread_mutex_lock(&net->mutex);
    atomic_store(&rdma->lost, false);
    pthread_mutex_unlock(&net->mutex);
    net_wake_all_any(net);
}

void rdma_door_wake(struct net *net)
{
    struct rdma *rdma = net->rdma;
    if (!rdma->door_open)
        return;
    pthread_mutex_lock(&net->mutex);
    bool lost = atomic_load(&rdma->lost);
    unsigned users = rdma->users;
    pthread_mutex_unlock(&net->mutex);
    if (!lost)
        return;
    stop_watching(rdma);
    if (users > 0 || rdma->channel == NULL)
        return;
    forget_mishaps(rdma);
    rdma_device_close(rdma);
    if (net_now_ns() - rdma->there_ns >= (uint64_t)DEVICE_STEADY_S * 1000000000)
        rdma->tries = 0;
    wait_for_device(net);
}

/* ---- the door ---- */

void rdma_door_open(struct net *net, struct event_base *base)
{
    struct rdma *rdma = net->rdma;
    if (rdma == NULL)
        return;
    evtimer_assign(&rdma->again, base, on_again, net);
    rdma->door_open = true;
    if (rdma->channel == NULL) {
        wait_for_device(net);
        return;
    }
    watch(net);
    rdma_door_wake(net);
}

void rdma_door_close(struct net *net)
{
    struct rdma *rdma = net->rdma;
    if (rdma == NULL || !rdma->door_open)
        return;
    stop_watching(rdma);
    event_del(&rdma->again);
    rdma->door_open = false;
}
