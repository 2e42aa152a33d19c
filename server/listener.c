#include "server/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "proto/reply.h"
#include "server/node.h"
#include "server/watch.h"
#include "server/worker.h"

static int listen_at(const struct addrinfo *address, int backlog)
{
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, backlog) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static bool refuse(const struct options_address *address, const char *why)
{
    log_error("failed to listen on %s:%u: %s", address->host[0] ? address->host : "*",
              address->port, why);
    return false;
}

/* A name, or "all interfaces", may stand for several addresses; families that this machine lacks
 * are left out. */
static bool open_one(struct listeners *listeners, const struct options_address *address,
                     int backlog)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    char port[8];
    unsigned before = listeners->count;
    snprintf(port, sizeof(port), "%u", address->port);
    int failed = getaddrinfo(address->host[0] ? address->host : NULL, port, &hints, &found);
    if (failed)
        return refuse(address, gai_strerror(failed));
    int error = EADDRNOTAVAIL;
    for (const struct addrinfo *at = found; at != NULL && listeners->count < LISTENER_COUNT_MAX;
         at = at->ai_next) {
        int fd = listen_at(at, backlog);
        if (fd >= 0) {
            listeners->fds[listeners->count++] = fd;
            continue;
        }
        error = errno;
        if (error == EADDRINUSE || error == EACCES)
            break;
    }
    freeaddrinfo(found);
    if (listeners->count == before || error == EADDRINUSE || error == EACCES)
        return refuse(address, strerror(error));
    return true;
}

enum status listeners_open(struct listeners *listeners, const struct options *options)
{
    *listeners = (struct listeners){.count = 0};
    for (uint32_t i = 0; i < options->listen_count; i++) {
        if (!open_one(listeners, &options->listen[i].at, (int)options->backlog)) {
            listeners_close(listeners);
            return STATUS_IO;
        }
    }
    return STATUS_OK;
}

void listeners_close(struct listeners *listeners)
{
    listeners_stop(listeners);
    for (unsigned i = 0; i < listeners->count; i++) {
        watch_close(listeners->watches[i]);
        close(listeners->fds[i]);
    }
    listeners->count = 0;
}

static void refuse_connection(struct node *node, int fd)
{
    struct slice line = reply_line(REPLY_TOO_MANY);
    ssize_t ignored = send(fd, line.data, line.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)ignored;
    close(fd);
    atomic_fetch_add_explicit(&node->connection_rejected, 1, memory_order_relaxed);
}

static void hand_over(struct listeners *listeners, int fd)
{
    struct node *node = listeners->node;
    int on = 1;
    uint32_t count = atomic_load_explicit(&node->connection_count, memory_order_relaxed);
    if (count >= node->options.connection_max) {
        refuse_connection(node, fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    atomic_fetch_add_explicit(&node->connection_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&node->connection_total, 1, memory_order_relaxed);
    struct worker *worker = &node->workers[listeners->next_worker];
    listeners->next_worker = (listeners->next_worker + 1) % node->worker_count;
    const struct letter letter = {.type = LETTER_CONNECTION, .fd = fd};
    if (mailbox_put_any(&worker->mailbox, &letter) != STATUS_OK) {
        atomic_fetch_sub_explicit(&node->connection_count, 1, memory_order_relaxed);
        close(fd);
    }
}

static void accept_some(struct listeners *listeners, int listener)
{
    for (int i = 0; i < LISTENER_BURST_MAX; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            hand_over(listeners, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_warn("cannot accept: %s", strerror(errno));
            listeners_stop(listeners); /* Until the next tick: else the loop would spin. */
            listeners->starved = true;
        }
        return;
    }
}

/* One watch for each socket, but they all know the same: accept does not block. */
static void on_ready(void *user)
{
    struct listeners *listeners = user;
    for (unsigned i = 0; i < listeners->count && !listeners->starved; i++)
        accept_some(listeners, listeners->fds[i]);
}

enum status listeners_start(struct listeners *listeners, struct node *node, struct event_base *base)
{
    listeners->node = node;
    for (unsigned i = 0; i < listeners->count; i++) {
        listeners->watches[i] =
            watch_open(base, listeners->fds[i], WATCH_READ, on_ready, listeners);
        if (listeners->watches[i] == NULL)
            return STATUS_NO_MEMORY;
        watch_start(listeners->watches[i], 0);
    }
    return STATUS_OK;
}

void listeners_stop(struct listeners *listeners)
{
    for (unsigned i = 0; i < listeners->count; i++) {
        if (listeners->watches[i] != NULL)
            watch_stop(listeners->watches[i]);
    }
}

void listeners_tick(struct listeners *listeners)
{
    if (!listeners->starved)
        return;
    listeners->starved = false;
    for (unsigned i = 0; i < listeners->count; i++)
        watch_start(listeners->watches[i], 0);
}
