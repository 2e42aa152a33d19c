/* The door: a stranger gets STRANGER_MS to say who it is and to prove it; then its connection goes
 * to the lane's mailbox. Exactly the bytes of the handshake are read here, so that the lane finds
 * the frames untouched. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "net/net_private.h"

enum { DOOR_PAUSE_MS = 50 };

static void watch_listener(struct net *net)
{
    if (net->door.stranger_count < STRANGER_MAX)
        event_add(&net->door.listener, NULL);
}

/* The connection is no longer ours; whoever took the descriptor set it to -1. */
static void forget(struct stranger *stranger)
{
    struct net *net = stranger->net;
    event_del(&stranger->readable);
    event_del(&stranger->deadline);
    if (stranger->fd >= 0)
        close(stranger->fd);
    stranger->stage = STRANGER_FREE;
    net->door.stranger_count--;
    watch_listener(net);
}

static void complain(const struct stranger *stranger, enum hello_refusal refusal)
{
    const char *reason = hello_refusal_text(refusal);
    if (refusal == HELLO_NOT_READY)
        return;
    if (stranger->got < sizeof(stranger->call) && stranger->stage == STRANGER_CALLS)
        net_complain_any(stranger->net, &stranger->address, reason, "refused a connection");
    else
        net_complain_any(stranger->net, &stranger->address, reason, "refused node %u, lane %u",
                         stranger->call.from, stranger->call.lane);
}

/* Tells the peer why if it speaks our language, and the operator. */
static void refuse(struct stranger *stranger, enum hello_refusal refusal)
{
    complain(stranger, refusal);
    if (refusal != HELLO_NOT_OURS && refusal != HELLO_TOO_SLOW) {
        char rest[4096];
        struct hello no;
        hello_make_refusal(&no, &stranger->net->side, stranger->call.from, refusal);
        ssize_t ignored = send(stranger->fd, &no, sizeof(no), MSG_NOSIGNAL | MSG_DONTWAIT);
        /* Bytes that were not read would turn the close into a reset, which overtakes the answer.
         */
        ignored = recv(stranger->fd, rest, sizeof(rest), MSG_DONTWAIT);
        (void)ignored;
    }
    forget(stranger);
}

/* Is the lane there to take the connection? */
static enum hello_refusal lane_ready(struct net *net, unsigned lane)
{
    pthread_mutex_lock(&net->mutex);
    bool open = net->mailboxes[lane].open;
    pthread_mutex_unlock(&net->mutex);
    return open ? HELLO_ACCEPTED : HELLO_NOT_READY;
}

static void answer(struct stranger *stranger)
{
    struct net *net = stranger->net;
    const struct hello *call = &stranger->call;
    struct hello_side side = net->side;
    side.transports = net_transports_any(net);
    enum hello_refusal refusal = hello_check_call(call, &side);
    if (refusal == HELLO_ACCEPTED)
        refusal = lane_ready(net, call->lane);
    if (refusal == HELLO_ACCEPTED)
        refusal = net_admit_any(net, call->from, call->incarnation, false);
    if (refusal != HELLO_ACCEPTED) {
        refuse(stranger, refusal);
        return;
    }
    hello_make(&stranger->answer, &net->side, call->from, call->lane, net_own_incarnation_any(net));
    hello_offer(&stranger->answer, hello_choose(call, &side));
    hello_prove_answer(&stranger->answer, call, &net->side);
    /* The first bytes on a fresh connection: they fit, or something is wrong with it. */
    if (send(stranger->fd, &stranger->answer, sizeof(stranger->answer),
             MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(stranger->answer)) {
        forget(stranger);
        return;
    }
    stranger->stage = STRANGER_PROVES;
    stranger->got = 0;
}

/* A lane that hangs keeps one connection a peer, the last; else redials would use up all
 * descriptors. */
static void put_arrival_locked(struct mailbox *mailbox, struct arrival *arrival)
{
    struct arrival **at = &mailbox->first;
    while (*at != NULL && (*at)->call.from != arrival->call.from)
        at = &(*at)->next;
    if (*at != NULL) {
        arrival->next = (*at)->next;
        close((*at)->fd);
        free(*at);
    }
    *at = arrival;
    net_wake_locked(mailbox);
}

static void hand_over(struct stranger *stranger)
{
    struct net *net = stranger->net;
    struct mailbox *mailbox = &net->mailboxes[stranger->call.lane];
    struct arrival *arrival = malloc(sizeof(*arrival));
    /* The lane may close the descriptor as soon as it has it: our poll must know nothing of it
     * then. */
    event_del(&stranger->readable);
    if (arrival != NULL) {
        *arrival = (struct arrival){
            .fd = stranger->fd, .call = stranger->call, .answer = stranger->answer};
        pthread_mutex_lock(&net->mutex);
        if (mailbox->open) {
            put_arrival_locked(mailbox, arrival);
            stranger->fd = -1;
            arrival = NULL;
        }
        pthread_mutex_unlock(&net->mutex);
    }
    free(arrival);
    forget(stranger);
}

static void admit(struct stranger *stranger)
{
    enum hello_refusal refusal = hello_check_proof(&stranger->proof, &stranger->call,
                                                   &stranger->answer, &stranger->net->side);
    if (refusal == HELLO_ACCEPTED)
        refusal =
            net_admit_any(stranger->net, stranger->call.from, stranger->call.incarnation, true);
    if (refusal == HELLO_ACCEPTED)
        hand_over(stranger);
    else
        refuse(stranger, refusal);
}

static void on_bytes(struct stranger *stranger)
{
    bool calls = stranger->stage == STRANGER_CALLS;
    size_t size = calls ? sizeof(stranger->call) : sizeof(stranger->proof);
    if (calls && stranger->got >= HELLO_PREFIX_SIZE) {
        enum hello_refusal refusal = hello_check_prefix(&stranger->call);
        if (refusal != HELLO_ACCEPTED) {
            refuse(stranger, refusal);
            return;
        }
    }
    if (stranger->got < size)
        return;
    if (calls)
        answer(stranger);
    else
        admit(stranger);
}

static void on_readable(evutil_socket_t fd, short what, void *user)
{
    struct stranger *stranger = user;
    bool calls = stranger->stage == STRANGER_CALLS;
    size_t size = calls ? sizeof(stranger->call) : sizeof(stranger->proof);
    uint8_t *to = calls ? (uint8_t *)&stranger->call : (uint8_t *)&stranger->proof;
    (void)what;
    ssize_t got = recv(fd, to + stranger->got, size - stranger->got, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        forget(stranger);
        return;
    }
    stranger->got += (size_t)got;
    on_bytes(stranger);
}

static void on_deadline(evutil_socket_t fd, short what, void *user)
{
    (void)fd;
    (void)what;
    refuse(user, HELLO_TOO_SLOW);
}

static void greet(struct net *net, int fd, const struct address *address)
{
    struct stranger *stranger = net->door.strangers;
    struct timeval deadline = net_timeval(STRANGER_MS);
    while (stranger->stage != STRANGER_FREE)
        stranger++;
    *stranger =
        (struct stranger){.stage = STRANGER_CALLS, .fd = fd, .net = net, .address = *address};
    net_prepare_socket(net, fd);
    event_assign(&stranger->readable, net->door.base, fd, EV_READ | EV_PERSIST, on_readable,
                 stranger);
    evtimer_assign(&stranger->deadline, net->door.base, on_deadline, stranger);
    event_add(&stranger->readable, NULL);
    event_add(&stranger->deadline, &deadline);
    net->door.stranger_count++;
}

static void on_accept(evutil_socket_t listen_fd, short what, void *user)
{
    struct net *net = user;
    (void)what;
    while (net->door.stranger_count < STRANGER_MAX) {
        struct address address = {.size = sizeof(address.storage)};
        int fd = accept4(listen_fd, (struct sockaddr *)&address.storage, &address.size,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            greet(net, fd, &address);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* The listener stays readable; asking it again at once would only burn the processor.
             */
            struct timeval pause = net_timeval(DOOR_PAUSE_MS);
            event_del(&net->door.listener);
            event_add(&net->door.pause, &pause);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
    /* The others wait in the kernel's queue until a place is free, STRANGER_MS at most. */
    event_del(&net->door.listener);
}

static void on_pause_end(evutil_socket_t fd, short what, void *user)
{
    (void)fd;
    (void)what;
    watch_listener(user);
}

void net_door_open(struct net *net, struct event_base *base)
{
    net->door.base = base;
    event_assign(&net->door.listener, base, net->listen_fd, EV_READ | EV_PERSIST, on_accept, net);
    evtimer_assign(&net->door.pause, base, on_pause_end, net);
    watch_listener(net);
    rdma_door_open(net, base);
}

void net_door_close(struct net *net)
{
    rdma_door_close(net);
    for (unsigned i = 0; i < STRANGER_MAX; i++)
        if (net->door.strangers[i].stage != STRANGER_FREE)
            forget(&net->door.strangers[i]);
    event_del(&net->door.listener);
    event_del(&net->door.pause);
    assert(net->door.stranger_count == 0);
}
