/* One connection of a lane to a peer. Atomics: the last-heard stamp, which others may read.
 *
 *     WAITING --(dial)--> DIALLING --(on_dialled)--> GREETING --(go_up)--> UP   our id is higher
 *     NONE --(tcp_peer_adopt)--> UP                                             the peer dials
 *     any --(tcp_peer_down)--> WAITING or NONE
 *
 * Only the loop closes a connection: what fails inside net_send() or net_flush() is noted
 * (break_why) and closed on the next turn, so that no callback comes from inside a call. Such a
 * connection counts as closed from then on. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/tcp.h"

static bool dials(const struct tcp_peer *peer)
{
    const struct hello_side *side = &peer->lane->net->side;
    return (side->known & 1u << peer->id) != 0 && peer->id < side->self;
}

static _Atomic uint64_t *heard(struct tcp_peer *peer)
{
    return &peer->lane->net->heard[peer->lane->index][peer->id];
}

static void set_state(struct tcp_peer *peer, enum link_state state)
{
    static const unsigned from[] = {
        [LINK_NONE] = 1u << LINK_UP,
        [LINK_WAITING] =
            1u << LINK_NONE | 1u << LINK_DIALLING | 1u << LINK_GREETING | 1u << LINK_UP,
        [LINK_DIALLING] = 1u << LINK_WAITING,
        [LINK_GREETING] = 1u << LINK_DIALLING,
        [LINK_UP] = 1u << LINK_NONE | 1u << LINK_GREETING,
    };
    assert(from[state] & 1u << peer->state);
    peer->state = state;
}

static bool usable(const struct tcp_peer *peer)
{
    return peer->state == LINK_UP && peer->break_why == NULL;
}

void tcp_peer_break(struct tcp_peer *peer, const char *why)
{
    if (!usable(peer))
        return;
    peer->break_why = why;
    tcp_lane_turn(peer->lane);
}

/* ---- down ---- */

/* Half to all of the back-off, so that nodes that failed together do not come back together. */
static void wait_to_dial(struct tcp_peer *peer)
{
    unsigned half = peer->backoff_ms / 2;
    struct timeval delay = tcp_timeval(half + (uint32_t)prng_below(&peer->lane->prng, half + 1));
    set_state(peer, LINK_WAITING);
    peer->backoff_ms *= 2;
    if (peer->backoff_ms > BACKOFF_MAX_MS)
        peer->backoff_ms = BACKOFF_MAX_MS;
    event_add(&peer->timer, &delay);
}

static void close_socket(struct tcp_peer *peer)
{
    if (peer->fd >= 0) {
        event_del(&peer->readable);
        event_del(&peer->writable);
        close(peer->fd);
        peer->fd = -1;
    }
    event_del(&peer->timer);
    atomic_store_explicit(heard(peer), 0, memory_order_relaxed);
    output_reset(&peer->output);
    input_reset(&peer->input);
    peer->break_why = NULL;
    peer->held = false;
    peer->full = false;
    peer->resume = false;
    peer->writing = false;
    memset(peer->busy_told, 0, sizeof(peer->busy_told));
}

void tcp_peer_down(struct tcp_peer *peer, const char *why)
{
    bool was_up = peer->state == LINK_UP;
    uint64_t incarnation = peer->incarnation;
    if (peer->state == LINK_NONE || peer->state == LINK_WAITING)
        return;
    close_socket(peer);
    if (dials(peer))
        wait_to_dial(peer);
    else
        set_state(peer, LINK_NONE);
    if (was_up)
        peer->lane->callbacks->on_down(peer->lane->user, peer->id, incarnation, why);
}

/* ---- reading ---- */

static void complain_damage(struct tcp_peer *peer, enum frame_error error)
{
    struct address address = {.size = sizeof(address.storage)};
    if (getpeername(peer->fd, (struct sockaddr *)&address.storage, &address.size) != 0)
        address.size = 0;
    peer->stats.refusals++;
    tcp_complain_any(peer->lane->net, &address, frame_error_text(error),
                     "damaged bytes from node %u, lane %u; connection closed", peer->id,
                     peer->lane->index);
}

static void hold(struct tcp_peer *peer)
{
    peer->held = true;
    peer->stats.held++;
}

/* Delivers until the buffer is empty or a message is held. A callback can't close the connection
 * under us, only break it. */
static void deliver(struct tcp_peer *peer)
{
    struct net_lane *lane = peer->lane;
    struct slice message;
    enum frame_error error;
    while (usable(peer) && !peer->held) {
        enum status status = input_peek(&peer->input, &message, &error);
        if (status == STATUS_CORRUPT) {
            complain_damage(peer, error);
            tcp_peer_break(peer, frame_error_text(error));
        } else if (status == STATUS_NO_MEMORY) {
            tcp_peer_break(peer, "no memory for what it sends");
        }
        if (status != STATUS_OK)
            return;
        if (lane->callbacks->on_message(lane->user, peer->id, peer->incarnation, message) ==
            NET_HOLD)
            hold(peer);
        else
            input_take(&peer->input);
    }
}

static const char *error_text(int error)
{
    const char *text = strerrordesc_np(error);
    return text != NULL ? text : "unknown error";
}

static void on_readable(evutil_socket_t fd, short what, void *user)
{
    struct tcp_peer *peer = user;
    (void)what;
    if (!usable(peer))
        return;
    switch (input_read(&peer->input, fd)) {
    case STATUS_OK:
        atomic_store_explicit(heard(peer), tcp_now_ns(), memory_order_relaxed);
        peer->backoff_ms = BACKOFF_MIN_MS;
        deliver(peer);
        return;
    case STATUS_AGAIN:
        return;
    case STATUS_BUSY: /* Back-pressure: the peer's queue grows instead of ours. */
        assert(peer->held);
        peer->full = true;
        event_del(&peer->readable);
        return;
    case STATUS_CLOSED:
        tcp_peer_down(peer, "closed by the peer");
        return;
    case STATUS_NO_MEMORY:
        tcp_peer_down(peer, "no memory for what it sends");
        return;
    default:
        tcp_peer_down(peer, error_text(errno));
        return;
    }
}

static void resume(struct tcp_peer *peer)
{
    peer->resume = false;
    if (!peer->held)
        return;
    peer->held = false;
    if (peer->full) {
        peer->full = false;
        event_add(&peer->readable, NULL);
    }
    deliver(peer);
}

/* ---- writing ---- */

static size_t backlog_max(const struct tcp_peer *peer, enum net_class class)
{
    const struct net_options *options = &peer->lane->net->options;
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
static bool owes_writable(const struct tcp_peer *peer)
{
    for (enum net_class class = NET_BULK; class < NET_URGENT; class ++)
        if (peer->busy_told[class] && peer->output.backlog <= backlog_max(peer, class) / 2)
            return true;
    return false;
}

static void tell_writable(struct tcp_peer *peer)
{
    if (!owes_writable(peer))
        return;
    for (enum net_class class = NET_BULK; class < NET_URGENT; class ++)
        if (peer->output.backlog <= backlog_max(peer, class) / 2)
            peer->busy_told[class] = false;
    peer->lane->callbacks->on_writable(peer->lane->user, peer->id);
}

static void write_out(struct tcp_peer *peer)
{
    switch (output_write(&peer->output, peer->fd)) {
    case STATUS_OK:
        if (peer->writing)
            event_del(&peer->writable);
        peer->writing = false;
        break;
    case STATUS_AGAIN:
        if (!peer->writing)
            event_add(&peer->writable, NULL);
        peer->writing = true;
        break;
    default:
        tcp_peer_break(peer, error_text(errno));
        return;
    }
    peer->sent_ns = tcp_now_ns();
    if (owes_writable(peer))
        tcp_lane_turn(peer->lane);
}

static enum status refuse_busy(struct tcp_peer *peer, enum net_class class)
{
    if (class == NET_URGENT) {
        tcp_peer_break(peer, "too slow: more is queued for it than may be");
        return STATUS_CLOSED;
    }
    peer->busy_told[class] = true;
    peer->stats.busy++;
    return STATUS_BUSY;
}

enum status net_send(struct net_lane *lane, unsigned id, enum net_class class,
                     const struct slice *parts, unsigned part_count)
{
    assert(id < NET_PEER_LIMIT);
    struct tcp_peer *peer = &lane->peers[id];
    size_t size = 0;
    if (!usable(peer))
        return STATUS_CLOSED;
    for (unsigned i = 0; i < part_count; i++)
        size += parts[i].size;
    if (size > lane->net->options.message_size_max)
        return STATUS_TOO_LARGE;
    /* An empty queue takes any message, or one that is larger than the limit could never be sent.
     */
    if (peer->output.backlog > 0 && peer->output.backlog + size > backlog_max(peer, class))
        return refuse_busy(peer, class);
    return output_add(&peer->output, parts, part_count, size);
}

void net_flush(struct net_lane *lane)
{
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++) {
        struct tcp_peer *peer = &lane->peers[id];
        if (usable(peer) && !peer->writing && peer->output.backlog > 0)
            write_out(peer);
    }
}

static void on_writable(evutil_socket_t fd, short what, void *user)
{
    struct tcp_peer *peer = user;
    (void)fd;
    (void)what;
    if (usable(peer))
        write_out(peer);
}

/* ---- up ---- */

static void go_up(struct tcp_peer *peer, uint64_t incarnation)
{
    struct event_base *base = peer->lane->base;
    set_state(peer, LINK_UP);
    peer->incarnation = incarnation;
    peer->stats.ups++;
    peer->sent_ns = tcp_now_ns();
    event_assign(&peer->readable, base, peer->fd, EV_READ | EV_PERSIST, on_readable, peer);
    event_assign(&peer->writable, base, peer->fd, EV_WRITE | EV_PERSIST, on_writable, peer);
    event_add(&peer->readable, NULL);
    peer->lane->callbacks->on_up(peer->lane->user, peer->id, incarnation);
}

void tcp_peer_adopt(struct tcp_peer *peer, int fd, uint64_t incarnation)
{
    assert(!dials(peer));
    if (peer->state == LINK_UP)
        tcp_peer_down(peer, "replaced by a newer connection");
    peer->fd = fd;
    /* The dialler's own lane spoke. It has heard our control thread only, so this lane says that it
     * lives. */
    atomic_store_explicit(heard(peer), tcp_now_ns(), memory_order_relaxed);
    go_up(peer, incarnation);
    if (usable(peer) && output_add_heartbeat(&peer->output) == STATUS_OK)
        write_out(peer);
}

/* ---- dialling ---- */

static void refuse_answer(struct tcp_peer *peer, enum hello_refusal refusal)
{
    struct net *net = peer->lane->net;
    struct address address = {.size = sizeof(address.storage)};
    if (getpeername(peer->fd, (struct sockaddr *)&address.storage, &address.size) != 0)
        address.size = 0;
    peer->stats.refusals++;
    if (refusal != HELLO_REFUSED_US)
        tcp_complain_any(net, &address, hello_refusal_text(refusal),
                         "refused the answer of node %u, lane %u", peer->id, peer->lane->index);
    else if (peer->answer.refusal != HELLO_NOT_READY)
        tcp_complain_any(net, &address, hello_refusal_text(peer->answer.refusal),
                         "node %u refused this node, lane %u", peer->id, peer->lane->index);
    tcp_peer_down(peer, hello_refusal_text(refusal));
}

static void judge_answer(struct tcp_peer *peer)
{
    struct net *net = peer->lane->net;
    struct hello_proof proof;
    enum hello_refusal refusal = hello_check_answer(&peer->answer, &peer->call, &net->side);
    if (refusal == HELLO_ACCEPTED)
        refusal = tcp_admit_any(net, peer->id, peer->answer.incarnation, true);
    if (refusal != HELLO_ACCEPTED) {
        refuse_answer(peer, refusal);
        return;
    }
    hello_make_proof(&proof, &peer->call, &peer->answer, &net->side);
    if (send(peer->fd, &proof, sizeof(proof), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(proof)) {
        tcp_peer_down(peer, "closed by the peer");
        return;
    }
    event_del(&peer->readable);
    event_del(&peer->timer);
    go_up(peer, peer->answer.incarnation);
}

/* Reads exactly the answer: what follows are frames. */
static void on_answer(evutil_socket_t fd, short what, void *user)
{
    struct tcp_peer *peer = user;
    (void)what;
    ssize_t got = recv(fd, (uint8_t *)&peer->answer + peer->got, sizeof(peer->answer) - peer->got,
                       MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        tcp_peer_down(peer, "closed by the peer");
        return;
    }
    peer->got += (size_t)got;
    if (peer->got >= HELLO_PREFIX_SIZE) {
        enum hello_refusal refusal = hello_check_prefix(&peer->answer);
        if (refusal != HELLO_ACCEPTED) {
            refuse_answer(peer, refusal);
            return;
        }
    }
    if (peer->got == sizeof(peer->answer))
        judge_answer(peer);
}

static void on_dialled(evutil_socket_t fd, short what, void *user)
{
    struct tcp_peer *peer = user;
    struct net_lane *lane = peer->lane;
    int error = 0;
    socklen_t size = sizeof(error);
    (void)what;
    hello_make(&peer->call, &lane->net->side, peer->id, lane->index, lane->incarnation);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0 ||
        send(fd, &peer->call, sizeof(peer->call), MSG_NOSIGNAL | MSG_DONTWAIT) !=
            sizeof(peer->call)) {
        tcp_peer_down(peer, "could not be reached");
        return;
    }
    set_state(peer, LINK_GREETING);
    peer->got = 0;
    event_del(&peer->writable);
    event_add(&peer->readable, NULL);
}

static int connect_to(const struct net *net, const struct address *address)
{
    if (address->size == 0)
        return -1;
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    tcp_prepare_socket(net, fd);
    if (connect(fd, (const struct sockaddr *)&address->storage, address->size) == 0 ||
        errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

static void dial(struct tcp_peer *peer)
{
    struct net *net = peer->lane->net;
    struct event_base *base = peer->lane->base;
    struct timeval limit = tcp_timeval(net->options.connect_ms);
    pthread_mutex_lock(&net->mutex);
    struct address address = net->addresses[peer->id];
    pthread_mutex_unlock(&net->mutex);
    set_state(peer, LINK_DIALLING);
    peer->fd = connect_to(net, &address);
    if (peer->fd < 0) {
        tcp_peer_down(peer, "could not be reached");
        return;
    }
    event_assign(&peer->readable, base, peer->fd, EV_READ | EV_PERSIST, on_answer, peer);
    event_assign(&peer->writable, base, peer->fd, EV_WRITE | EV_PERSIST, on_dialled, peer);
    event_add(&peer->writable, NULL);
    event_add(&peer->timer, &limit);
}

/* The back-off is over, or the dial took too long. */
static void on_timer(evutil_socket_t fd, short what, void *user)
{
    struct tcp_peer *peer = user;
    (void)fd;
    (void)what;
    if (peer->state == LINK_WAITING)
        dial(peer);
    else
        tcp_peer_down(peer, "no answer in time");
}

void tcp_peer_redial(struct tcp_peer *peer)
{
    if (peer->state != LINK_WAITING)
        return;
    event_del(&peer->timer);
    peer->backoff_ms = BACKOFF_MIN_MS;
    dial(peer);
}

/* ---- the lane's events ---- */

void tcp_peer_open(struct tcp_peer *peer, struct net_lane *lane, unsigned id)
{
    const struct net_options *options = &lane->net->options;
    struct timeval now = {0};
    *peer = (struct tcp_peer){.lane = lane, .id = id, .fd = -1, .backoff_ms = BACKOFF_MIN_MS};
    input_init(&peer->input, frame_payload_max(options->message_size_max));
    output_init(&peer->output, &lane->pool);
    evtimer_assign(&peer->timer, lane->base, on_timer, peer);
    if (dials(peer)) {
        set_state(peer, LINK_WAITING);
        event_add(&peer->timer, &now);
    }
}

void tcp_peer_close(struct tcp_peer *peer)
{
    close_socket(peer);
    peer->state = LINK_NONE; /* The end, not an edge of the diagram. */
}

void tcp_peer_turn(struct tcp_peer *peer)
{
    if (peer->state != LINK_UP)
        return;
    if (peer->break_why == NULL && peer->resume)
        resume(peer);
    if (peer->break_why == NULL)
        tell_writable(peer);
    if (peer->break_why != NULL)
        tcp_peer_down(peer, peer->break_why);
}

void tcp_peer_tick(struct tcp_peer *peer, uint64_t now_ns)
{
    uint64_t quiet_ns = (uint64_t)peer->lane->net->options.heartbeat_ms * 1000000 / 2;
    if (usable(peer) && !peer->writing) {
        /* A queue that waits for the socket needs no heartbeat behind it. No memory: the next tick
         * tries again. */
        if (peer->output.backlog == 0 && now_ns - peer->sent_ns >= quiet_ns &&
            output_add_heartbeat(&peer->output) != STATUS_OK)
            return;
        if (peer->output.backlog > 0)
            write_out(peer);
    }
    input_shrink(&peer->input);
    peer->stats.frames_in = peer->input.frames;
    peer->stats.messages_in = peer->input.messages;
    peer->stats.bytes_in = peer->input.bytes;
    peer->stats.frames_out = peer->output.frames;
    peer->stats.messages_out = peer->output.messages;
    peer->stats.bytes_out = peer->output.bytes;
    peer->stats.backlog = peer->output.backlog;
}

void net_resume(struct net_lane *lane, unsigned id)
{
    assert(id < NET_PEER_LIMIT);
    struct tcp_peer *peer = &lane->peers[id];
    if (!usable(peer))
        return;
    peer->resume = true;
    tcp_lane_turn(lane);
}

void net_drop(struct net_lane *lane, unsigned id, const char *why)
{
    assert(id < NET_PEER_LIMIT);
    tcp_peer_break(&lane->peers[id], why);
}

bool net_is_up(const struct net_lane *lane, unsigned id)
{
    assert(id < NET_PEER_LIMIT);
    return usable(&lane->peers[id]);
}
