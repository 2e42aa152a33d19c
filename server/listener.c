#include "server/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "proto/reply.h"
#include "server/node.h"
#include "server/watch.h"
#include "server/worker.h"

static bool is_encrypted(const struct listener *listener)
{
    const struct options *options = listener->all->options;
    return options->tls_enabled && options->listen[listener->option].tls != LISTEN_TLS_NONE;
}

/* A client that speaks TLS would not understand the line. */
static void refuse_connection(const struct listener *listener, int fd)
{
    struct slice line = reply_line(REPLY_TOO_MANY);
    ssize_t ignored =
        is_encrypted(listener) ? 0 : send(fd, line.data, line.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)ignored;
    close(fd);
    atomic_fetch_add_explicit(&listener->all->node->connection_rejected, 1, memory_order_relaxed);
}

static struct worker *next_worker(struct listeners *listeners)
{
    struct worker *worker = &listeners->node->workers[listeners->next_worker];
    listeners->next_worker = (listeners->next_worker + 1) % listeners->node->worker_count;
    return worker;
}

static void set_options(const struct listener *listener, int fd)
{
    int on = 1;
    if (listener->kind == LISTENER_TCP) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
}

static void hand_over(struct listener *listener, int fd)
{
    struct node *node = listener->all->node;
    uint32_t count = atomic_load_explicit(&node->connection_count, memory_order_relaxed);
    if (count >= node->options.connection_max) {
        refuse_connection(listener, fd);
        return;
    }
    set_options(listener, fd);
    atomic_fetch_add_explicit(&node->connection_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&node->connection_total, 1, memory_order_relaxed);
    struct worker *worker = next_worker(listener->all);
    const struct letter letter = {
        .type = LETTER_CONNECTION, .fd = fd, .listener = listener->option};
    if (mailbox_put_any(&worker->mailbox, &letter) != STATUS_OK) {
        atomic_fetch_sub_explicit(&node->connection_count, 1, memory_order_relaxed);
        close(fd);
    }
}

static void on_ready(void *user)
{
    struct listener *listener = user;
    struct listeners *all = listener->all;
    for (int i = 0; i < LISTENER_BURST_MAX && !all->starved; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            hand_over(listener, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_warn("cannot accept: %s", strerror(errno));
            listeners_stop(all); /* Until the next tick: else the loop would spin. */
            all->starved = true;
        }
        return;
    }
}

static enum status start_accepting(struct listener *listener, struct event_base *base)
{
    listener->watch = watch_open(base, listener->fd, WATCH_READ, on_ready, listener);
    if (listener->watch == NULL)
        return STATUS_NO_MEMORY;
    watch_start(listener->watch, 0);
    return STATUS_OK;
}

/* From now on the socket is a worker's. */
static enum status hand_over_udp(struct listener *listener)
{
    struct worker *worker = next_worker(listener->all);
    const struct letter letter = {
        .type = LETTER_UDP, .fd = listener->fd, .listener = listener->option};
    enum status status = mailbox_put_any(&worker->mailbox, &letter);
    if (status == STATUS_OK)
        listener->fd = -1;
    return status;
}

enum status listeners_start(struct listeners *listeners, struct node *node, struct event_base *base)
{
    listeners->node = node;
    for (unsigned i = 0; i < listeners->count; i++) {
        struct listener *listener = &listeners->sockets[i];
        enum status status = listener->kind == LISTENER_UDP ? hand_over_udp(listener)
                                                            : start_accepting(listener, base);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

void listeners_stop(struct listeners *listeners)
{
    for (unsigned i = 0; i < listeners->count; i++) {
        if (listeners->sockets[i].watch != NULL)
            watch_stop(listeners->sockets[i].watch);
    }
}

void listeners_tick(struct listeners *listeners)
{
    if (!listeners->starved)
        return;
    listeners->starved = false;
    for (unsigned i = 0; i < listeners->count; i++) {
        if (listeners->sockets[i].watch != NULL)
            watch_start(listeners->sockets[i].watch, 0);
    }
}
