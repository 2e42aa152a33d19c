/* One connection of a lane to a peer. Atomics: the last-heard stamp, which others may read.
 *
 *     this side dials:  WAITING --(dial)--> DIALLING --(on_dialled)--> GREETING --(join)--> JOINING
 *     the peer, whose id is higher, dials:                         NONE --(link_adopt)--> JOINING
 *     either:           JOINING --(link_go_up)--> UP
 *                       any --(link_down)--> WAITING or NONE
 *
 * Only the loop closes a connection: what fails inside net_send() or net_flush() is noted
 * (break_why) and closed on the next turn, so that no callback comes from inside a call. Such a
 * connection counts as closed from then on. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/net_private.h"

static _Atomic uint64_t *heard(struct link *link)
{
    return &link->lane->net->heard[link->lane->index][link->id];
}

static void set_state(struct link *link, enum link_state state)
{
    static const unsigned from[] = {
        [LINK_NONE] = 1u << LINK_JOINING | 1u << LINK_UP,
        [LINK_WAITING] = 1u << LINK_NONE | 1u << LINK_DIALLING | 1u << LINK_GREETING |
                         1u << LINK_JOINING | 1u << LINK_UP,
        [LINK_DIALLING] = 1u << LINK_WAITING,
        [LINK_GREETING] = 1u << LINK_DIALLING,
        [LINK_JOINING] = 1u << LINK_NONE | 1u << LINK_GREETING,
        [LINK_UP] = 1u << LINK_JOINING,
    };
    assert(from[state] & 1u << link->state);
    link->state = state;
}

bool link_usable(const struct link *link)
{
    return link->state == LINK_UP && link->break_why == NULL;
}

void link_break(struct link *link, const char *why)
{
    if (!link_usable(link))
        return;
    link->break_why = why;
    net_lane_turn(link->lane);
}

/* ---- down ---- */

/* Half to all of the back-off, so that nodes that failed together do not come back together. */
static void wait_to_dial(struct link *link)
{
    unsigned half = link->backoff_ms / 2;
    struct timeval delay = net_timeval(half + (uint32_t)prng_below(&link->lane->prng, half + 1));
    set_state(link, LINK_WAITING);
    link->backoff_ms *= 2;
    if (link->backoff_ms > BACKOFF_MAX_MS)
        link->backoff_ms = BACKOFF_MAX_MS;
    event_add(&link->timer, &delay);
}

static void close_socket(struct link *link)
{
    if (link->fd >= 0) {
        if (link->wire != NULL)
            link->wire->end(link);
        link->wire = NULL;
        event_del(&link->readable);
        event_del(&link->writable);
        close(link->fd);
        link->fd = -1;
    }
    event_del(&link->timer);
    atomic_store_explicit(heard(link), 0, memory_order_relaxed);
    output_reset(&link->output);
    link->break_why = NULL;
    link->held = false;
    link->resume = false;
    link->writing = false;
    link_probe_reset(link);
    memset(link->busy_told, 0, sizeof(link->busy_told));
}

struct address link_peer_address(const struct link *link)
{
    struct address address = {.size = sizeof(address.storage)};
    if (getpeername(link->fd, (struct sockaddr *)&address.storage, &address.size) != 0)
        address.size = 0;
    return address;
}

void link_down(struct link *link, const char *why)
{
    bool was_up = link->state == LINK_UP;
    uint64_t incarnation = link->incarnation;
    if (link->state == LINK_NONE || link->state == LINK_WAITING)
        return;
    if (link->state == LINK_JOINING && link_dials(link))
        link_note_failed_join(link, why);
    close_socket(link);
    if (link_dials(link))
        wait_to_dial(link);
    else
        set_state(link, LINK_NONE);
    if (was_up)
        link->lane->callbacks->on_down(link->lane->user, link->id, incarnation, why);
}

/* ---- reading ---- */

void link_complain_damage(struct link *link, enum frame_error error)
{
    struct address address = link_peer_address(link);
    link->stats.refusals++;
    net_complain_any(link->lane->net, &address, frame_error_text(error),
                     "damaged bytes from node %u, lane %u; connection closed", link->id,
                     link->lane->index);
}

static void break_damaged(struct link *link, enum frame_error error)
{
    link_complain_damage(link, error);
    link_break(link, frame_error_text(error));
}

static void hold(struct link *link)
{
    link->held = true;
    link->stats.held++;
}

static enum net_take take_message(struct link *link, struct slice message)
{
    struct net_lane *lane = link->lane;
    if (frame_message_kind(message) == FRAME_MESSAGE)
        return lane->callbacks->on_message(lane->user, link->id, link->incarnation, message);
    enum frame_error error = link_take_probe(link, message);
    if (error != FRAME_OK)
        break_damaged(link, error);
    return NET_TAKEN;
}

static void deliver_messages(struct link *link)
{
    struct slice message;
    enum frame_error error;
    while (link_usable(link) && !link->held) {
        enum status status = link->wire->peek(link, &message, &error);
        if (status == STATUS_CORRUPT)
            break_damaged(link, error);
        else if (status == STATUS_NO_MEMORY)
            link_break(link, "no memory for what it sends");
        if (status != STATUS_OK)
            return;
        if (take_message(link, message) == NET_HOLD)
            hold(link);
        else
            link->wire->take(link);
    }
}

void link_deliver(struct link *link)
{
    deliver_messages(link);
    if (link_usable(link))
        link->wire->delivered(link);
}

static void resume(struct link *link)
{
    link->resume = false;
    if (!link->held)
        return;
    link->held = false;
    link->wire->resume(link);
    link_deliver(link);
}

/* ---- writing ---- */

size_t link_backlog_max(const struct link *link, enum net_class class)
{
    const struct net_options *options = &link->lane->net->options;
    switch (class) {
    case NET_BULK:
        return options->bulk_backlog_max;
    case NET_LIVE:
        return options->backlog_max;
    case NET_URGENT:
        return 4 * options->backlog_max;
    }
    assert(!"a class that does not exist");
}

/* Room means half the limit, or sender and socket would take turns at every message. */
static bool owes_writable(const struct link *link)
{
    for (enum net_class class = NET_BULK; class < NET_URGENT; class ++)
        if (link->busy_told[class] && link->output.backlog <= link_backlog_max(link, class) / 2)
            return true;
    return false;
}

static void tell_writable(struct link *link)
{
    if (!owes_writable(link))
        return;
    for (enum net_class class = NET_BULK; class < NET_URGENT; class ++)
        if (link->output.backlog <= link_backlog_max(link, class) / 2)
            link->busy_told[class] = false;
    link->lane->callbacks->on_writable(link->lane->user, link->id);
}

void link_write_out(struct link *link)
{
    const char *why = NULL;
    switch (link->wire->write(link, &why)) {
    case STATUS_OK:
        link->writing = false;
        break;
    case STATUS_AGAIN:
        link->writing = true;
        break;
    default:
        link_break(link, why);
        return;
    }
    link->sent_ns = net_now_ns();
    if (owes_writable(link))
        net_lane_turn(link->lane);
}

static enum status refuse_busy(struct link *link, enum net_class class)
{
    if (class == NET_URGENT) {
        link_break(link, LINK_TOO_SLOW);
        return STATUS_CLOSED;
    }
    link->busy_told[class] = true;
    link->stats.busy++;
    return STATUS_BUSY;
}

enum status net_send(struct net_lane *lane, unsigned id, enum net_class class,
                     const struct slice *parts, unsigned part_count)
{
    assert(id < NET_PEER_LIMIT);
    struct link *link = &lane->links[id];
    size_t size = 0;
    if (!link_usable(link))
        return STATUS_CLOSED;
    for (unsigned i = 0; i < part_count; i++)
        size += parts[i].size;
    if (size > lane->net->options.message_size_max)
        return STATUS_TOO_LARGE;
    /* An empty queue takes any message, or one that is larger than the limit could never be sent.
     */
    if (link->output.backlog > 0 && link->output.backlog + size > link_backlog_max(link, class))
        return refuse_busy(link, class);
    return output_add(&link->output, parts, part_count, size);
}

void net_flush(struct net_lane *lane)
{
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++) {
        struct link *link = &lane->links[id];
        if (link_usable(link) && !link->writing && link->output.backlog > 0)
            link_write_out(link);
    }
}

/* ---- up ---- */

void link_heard(struct link *link)
{
    atomic_store_explicit(heard(link), net_now_ns(), memory_order_relaxed);
    link->backoff_ms = BACKOFF_MIN_MS;
}

void link_go_up(struct link *link)
{
    event_del(&link->timer);
    set_state(link, LINK_UP);
    link_note_up(link);
    link->stats.ups++;
    link->sent_ns = net_now_ns();
    /* The dialler's own lane spoke in the greeting. It has heard our control thread only, so this
     * lane says that it lives; on a queue pair it is the dialler that must speak first. */
    if (!link_dials(link))
        atomic_store_explicit(heard(link), net_now_ns(), memory_order_relaxed);
    link->lane->callbacks->on_up(link->lane->user, link->id, link->incarnation);
    if (link_usable(link) && output_add_heartbeat(&link->output) == STATUS_OK)
        link_write_out(link);
}

/* Greeted: both ends know each other, the socket is silent. */
static void join(struct link *link)
{
    set_state(link, LINK_JOINING);
    link->incarnation = link_dials(link) ? link->answer.incarnation : link->call.incarnation;
    link->wire = link->answer.transports == HELLO_RDMA ? &wire_rdma : link->lane->net->wire;
    link->stats.rdma = link->wire == &wire_rdma;
    struct timeval limit = net_timeval(link_join_ms(link));
    event_add(&link->timer, &limit);
    link->wire->join(link);
}

void link_adopt(struct link *link, const struct arrival *arrival)
{
    assert(!link_dials(link));
    if (link->state != LINK_NONE)
        link_down(link, "replaced by a newer connection");
    link->fd = arrival->fd;
    link->call = arrival->call;
    link->answer = arrival->answer;
    join(link);
}

/* ---- dialling ---- */

static void refuse_answer(struct link *link, enum hello_refusal refusal)
{
    struct net *net = link->lane->net;
    struct address address = link_peer_address(link);
    link->stats.refusals++;
    if (refusal != HELLO_REFUSED_US)
        net_complain_any(net, &address, hello_refusal_text(refusal),
                         "refused the answer of node %u, lane %u", link->id, link->lane->index);
    else if (link->answer.refusal != HELLO_NOT_READY)
        net_complain_any(net, &address, hello_refusal_text(link->answer.refusal),
                         "node %u refused this node, lane %u", link->id, link->lane->index);
    link_down(link, hello_refusal_text(refusal));
}

static void judge_answer(struct link *link)
{
    struct net *net = link->lane->net;
    struct hello_proof proof;
    enum hello_refusal refusal = hello_check_answer(&link->answer, &link->call, &net->side);
    if (refusal == HELLO_ACCEPTED)
        refusal = net_admit_any(net, link->id, link->answer.incarnation, true);
    if (refusal != HELLO_ACCEPTED) {
        refuse_answer(link, refusal);
        return;
    }
    hello_make_proof(&proof, &link->call, &link->answer, &net->side);
    if (send(link->fd, &proof, sizeof(proof), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(proof)) {
        link_down(link, "closed by the peer");
        return;
    }
    event_del(&link->readable);
    event_del(&link->timer);
    join(link);
}

/* Reads exactly the answer: what follows are frames. */
static void on_answer(evutil_socket_t fd, short what, void *user)
{
    struct link *link = user;
    (void)what;
    ssize_t got = recv(fd, (uint8_t *)&link->answer + link->got, sizeof(link->answer) - link->got,
                       MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        link_down(link, "closed by the peer");
        return;
    }
    link->got += (size_t)got;
    if (link->got >= HELLO_PREFIX_SIZE) {
        enum hello_refusal refusal = hello_check_prefix(&link->answer);
        if (refusal != HELLO_ACCEPTED) {
            refuse_answer(link, refusal);
            return;
        }
    }
    if (link->got == sizeof(link->answer))
        judge_answer(link);
}

static void on_dialled(evutil_socket_t fd, short what, void *user)
{
    struct link *link = user;
    struct net_lane *lane = link->lane;
    int error = 0;
    socklen_t size = sizeof(error);
    (void)what;
    hello_make(&link->call, &lane->net->side, link->id, lane->index, lane->incarnation);
    hello_offer(&link->call, link_offer(link));
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0 ||
        send(fd, &link->call, sizeof(link->call), MSG_NOSIGNAL | MSG_DONTWAIT) !=
            sizeof(link->call)) {
        link_down(link, "could not be reached");
        return;
    }
    set_state(link, LINK_GREETING);
    link->got = 0;
    event_del(&link->writable);
    event_add(&link->readable, NULL);
}

static int connect_to(const struct net *net, const struct address *address)
{
    if (address->size == 0)
        return -1;
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    net_prepare_socket(net, fd);
    if (connect(fd, (const struct sockaddr *)&address->storage, address->size) == 0 ||
        errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

static void dial(struct link *link)
{
    struct net *net = link->lane->net;
    struct event_base *base = link->lane->base;
    struct timeval limit = net_timeval(net->options.connect_ms);
    pthread_mutex_lock(&net->mutex);
    struct address address = net->addresses[link->id];
    pthread_mutex_unlock(&net->mutex);
    set_state(link, LINK_DIALLING);
    link->fd = connect_to(net, &address);
    if (link->fd < 0) {
        link_down(link, "could not be reached");
        return;
    }
    event_assign(&link->readable, base, link->fd, EV_READ | EV_PERSIST, on_answer, link);
    event_assign(&link->writable, base, link->fd, EV_WRITE | EV_PERSIST, on_dialled, link);
    event_add(&link->writable, NULL);
    event_add(&link->timer, &limit);
}

/* The back-off is over, or the dial took too long. */
static void on_timer(evutil_socket_t fd, short what, void *user)
{
    struct link *link = user;
    (void)fd;
    (void)what;
    if (link->state == LINK_WAITING)
        dial(link);
    else
        link_down(link, "no answer in time");
}

void link_redial(struct link *link)
{
    if (link->state != LINK_WAITING)
        return;
    event_del(&link->timer);
    link->backoff_ms = BACKOFF_MIN_MS;
    dial(link);
}

/* ---- the lane's events ---- */

void link_open(struct link *link, struct net_lane *lane, unsigned id)
{
    const struct net_options *options = &lane->net->options;
    struct timeval now = {0};
    *link = (struct link){.lane = lane, .id = id, .fd = -1, .backoff_ms = BACKOFF_MIN_MS};
    input_init(&link->input, frame_payload_max(options->message_size_max));
    output_init(&link->output, &lane->pool);
    evtimer_assign(&link->timer, lane->base, on_timer, link);
    /* A wire may never use one of them; they are deleted all the same. */
    event_assign(&link->readable, lane->base, -1, 0, NULL, NULL);
    event_assign(&link->writable, lane->base, -1, 0, NULL, NULL);
    if (link_dials(link)) {
        set_state(link, LINK_WAITING);
        event_add(&link->timer, &now);
    }
}

void link_close(struct link *link)
{
    close_socket(link);
    link->state = LINK_NONE; /* The end, not an edge of the diagram. */
}

void link_turn(struct link *link)
{
    if (link->state != LINK_UP)
        return;
    if (link->break_why == NULL && link->resume)
        resume(link);
    if (link->break_why == NULL)
        tell_writable(link);
    if (link->break_why != NULL)
        link_down(link, link->break_why);
}

/* A queue that waits for the socket needs no heartbeat behind it, and a ping there would measure
 * the queue. */
static void say_something(struct link *link, uint64_t now_ns)
{
    uint64_t quiet_ns = (uint64_t)link->lane->net->options.heartbeat_ms * 1000000 / 2;
    link_ping(link, now_ns);
    if (link->output.backlog == 0 && now_ns - link->sent_ns >= quiet_ns &&
        output_add_heartbeat(&link->output) != STATUS_OK)
        return; /* The next tick tries again. */
    if (link->output.backlog > 0)
        link_write_out(link);
}

void link_tick(struct link *link, uint64_t now_ns)
{
    if (link_wants_rdma(link)) {
        link_down(link, "RDMA is tried again");
        link_redial(link);
    }
    if (link_usable(link) && !link->writing)
        say_something(link, now_ns);
    if (link->wire != NULL)
        link->wire->tick(link);
    link->stats.up = link_usable(link);
    link->stats.backlog = link->output.backlog;
}

void net_resume(struct net_lane *lane, unsigned id)
{
    assert(id < NET_PEER_LIMIT);
    struct link *link = &lane->links[id];
    if (!link_usable(link))
        return;
    link->resume = true;
    net_lane_turn(lane);
}

void net_drop(struct net_lane *lane, unsigned id, const char *why)
{
    assert(id < NET_PEER_LIMIT);
    link_break(&lane->links[id], why);
}

bool net_is_up(const struct net_lane *lane, unsigned id)
{
    assert(id < NET_PEER_LIMIT);
    return link_usable(&lane->links[id]);
}

bool net_is_rdma(const struct net_lane *lane, unsigned id)
{
    assert(id < NET_PEER_LIMIT);
    return link_usable(&lane->links[id]) && lane->links[id].wire == &wire_rdma;
}
