#include "net/net_private.h"

#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { RESOLVE_EVERY_S = 2 };

enum status net_resolve(const char *host, uint16_t port, bool numeric, struct address *address)
{
    char service[8];
    struct addrinfo *found;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | (numeric ? AI_NUMERICHOST : 0)};
    snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return STATUS_NOT_FOUND;
    *address = (struct address){.size = found->ai_addrlen};
    memcpy(&address->storage, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return STATUS_OK;
}

void net_address_text(const struct address *address, char *text, size_t size)
{
    if (address->size == 0 || getnameinfo((const struct sockaddr *)&address->storage, address->size,
                                          text, (socklen_t)size, NULL, 0, NI_NUMERICHOST) != 0)
        snprintf(text, size, "unknown address");
}

/* A name may get another address any time (a container started again), so it is looked up for ever.
 */
static void resolve_names(struct net *net)
{
    for (unsigned i = 0; i < net->options.peer_count; i++) {
        const struct net_peer *peer = &net->options.peers[i];
        struct address address;
        if (peer->id == net->options.self ||
            net_resolve(peer->host, peer->port, true, &address) == STATUS_OK ||
            net_resolve(peer->host, peer->port, false, &address) != STATUS_OK)
            continue;
        pthread_mutex_lock(&net->mutex);
        net->addresses[peer->id] = address;
        pthread_mutex_unlock(&net->mutex);
    }
}

static void *run(void *net_given)
{
    struct net *net = net_given;
    pthread_mutex_lock(&net->mutex);
    while (!net->resolver.stop) {
        pthread_mutex_unlock(&net->mutex);
        resolve_names(net);
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += RESOLVE_EVERY_S;
        pthread_mutex_lock(&net->mutex);
        if (!net->resolver.stop)
            pthread_cond_timedwait(&net->resolver.stop_asked, &net->mutex, &until);
    }
    pthread_mutex_unlock(&net->mutex);
    return NULL;
}

static int start_thread(struct net *net)
{
    sigset_t all, before;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&net->resolver.stop_asked, &attributes);
    pthread_condattr_destroy(&attributes);
    /* Signals are for the threads that expect them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&net->resolver.thread, NULL, run, net);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        pthread_cond_destroy(&net->resolver.stop_asked);
    return error;
}

enum status net_resolve_start(struct net *net)
{
    bool names = false;
    for (unsigned i = 0; i < net->options.peer_count; i++) {
        const struct net_peer *peer = &net->options.peers[i];
        if (peer->id != net->options.self &&
            net_resolve(peer->host, peer->port, true, &net->addresses[peer->id]) != STATUS_OK)
            names = true;
    }
    if (names) {
        if (start_thread(net) != 0)
            return STATUS_NO_MEMORY;
        net->resolver.running = true;
    }
    return STATUS_OK;
}

void net_resolve_stop(struct net *net)
{
    if (!net->resolver.running)
        return;
    pthread_mutex_lock(&net->mutex);
    net->resolver.stop = true;
    pthread_cond_signal(&net->resolver.stop_asked);
    pthread_mutex_unlock(&net->mutex);
    pthread_join(net->resolver.thread, NULL);
    pthread_cond_destroy(&net->resolver.stop_asked);
    net->resolver.running = false;
}
