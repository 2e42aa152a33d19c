/* Opening, the gate, refusal lines and what any thread may ask. Atomics: the last-heard stamps,
 * here and in link.c; they order nothing, so relaxed; all else that threads share is under the
 * mutex. */
#include "net/net_private.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/hash.h"

enum {
    BULK_BACKLOG_DEFAULT = 256 << 10,
    BACKLOG_DEFAULT = 64 << 20,
    MESSAGE_SIZE_LIMIT = (1 << 30) + (1 << 20), /* the largest -I and its header */
    LISTEN_QUEUE = 128,
    USER_TIMEOUT_MIN_MS = 1000,
};

uint64_t net_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

struct timeval net_timeval(uint32_t milliseconds)
{
    return (struct timeval){.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
}

/* ---- opening ---- */

static bool options_valid(const struct net_options *options)
{
    unsigned known = 0;
    if (options->peer_count == 0 || options->peer_count > NET_NODE_MAX ||
        options->lane_count == 0 || options->lane_count > LANE_COUNT_MAX)
        return false;
    for (unsigned i = 0; i < options->peer_count; i++) {
        const struct net_peer *peer = &options->peers[i];
        if (peer->id == 0 || peer->id > NET_NODE_MAX || peer->host == NULL ||
            (known & 1u << peer->id) != 0)
            return false;
        known |= 1u << peer->id;
    }
    return options->self <= NET_NODE_MAX && (known & 1u << options->self) != 0 &&
           options->incarnation != 0 && options->heartbeat_ms > 0 && options->suspect_ms > 0 &&
           options->connect_ms > 0 && options->message_size_max > 0 &&
           options->message_size_max <= MESSAGE_SIZE_LIMIT;
}

static void free_options(struct net_options *options)
{
    for (unsigned i = 0; i < options->peer_count; i++)
        free((char *)options->peers[i].host);
    free((char *)options->secret);
}

static enum status copy_options(struct net_options *to, const struct net_options *from)
{
    bool failed = false;
    *to = *from;
    for (unsigned i = 0; i < from->peer_count; i++) {
        to->peers[i].host = strdup(from->peers[i].host);
        failed = failed || to->peers[i].host == NULL;
    }
    to->secret = NULL;
    if (from->secret != NULL && from->secret[0] != '\0') {
        to->secret = strdup(from->secret);
        failed = failed || to->secret == NULL;
    }
    if (to->bulk_backlog_max == 0)
        to->bulk_backlog_max = BULK_BACKLOG_DEFAULT;
    if (to->backlog_max == 0)
        to->backlog_max = BACKLOG_DEFAULT;
    if (!failed)
        return STATUS_OK;
    free_options(to);
    return STATUS_NO_MEMORY;
}

static void make_side(struct net *net)
{
    net->side = (struct hello_side){.self = net->options.self,
                                    .lane_count = net->options.lane_count,
                                    .message_size_max = net->options.message_size_max,
                                    .configuration = net->options.configuration,
                                    .secret = net->options.secret,
                                    .transports = HELLO_TCP};
    for (unsigned i = 0; i < net->options.peer_count; i++)
        net->side.known |= 1u << net->options.peers[i].id;
}

static int listen_at(const struct address *address)
{
    int one = 1;
    int family = address->storage.ss_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (const struct sockaddr *)&address->storage, address->size) == 0 &&
        listen(fd, LISTEN_QUEUE) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static enum status open_listener(struct net *net)
{
    const struct net_peer *self = net->options.peers;
    struct address address;
    while (self->id != net->options.self)
        self++;
    if (net_resolve(self->host, self->port, false, &address) != STATUS_OK) {
        errno = EADDRNOTAVAIL;
        return STATUS_IO;
    }
    net->listen_fd = listen_at(&address);
    if (net->listen_fd < 0)
        return STATUS_IO;
    address.size = sizeof(address.storage);
    if (getsockname(net->listen_fd, (struct sockaddr *)&address.storage, &address.size) != 0)
        return STATUS_IO;
    net->port = ntohs(address.storage.ss_family == AF_INET6
                          ? ((struct sockaddr_in6 *)&address.storage)->sin6_port
                          : ((struct sockaddr_in *)&address.storage)->sin_port);
    return STATUS_OK;
}

/* RDMA if it is wanted and can be; says so. */
static enum status choose_transport(struct net *net)
{
    const struct net_options *options = &net->options;
    char why[NET_TRANSPORT_SIZE - 16] = "by --net=tcp";
    enum status status = STATUS_OK;
    if (options->choice != NET_CHOOSE_TCP && options->peer_count > 1)
        status = rdma_open(net, why, sizeof(why));
    net_set_transport_any(net, net->rdma != NULL ? "rdma" : "tcp", why);
    if (net->rdma != NULL)
        net->side.transports = HELLO_RDMA | (options->choice == NET_CHOOSE_AUTO ? HELLO_TCP : 0);
    bool wanted = options->choice == NET_CHOOSE_RDMA && status == STATUS_NOT_FOUND;
    if (options->on_chosen != NULL)
        options->on_chosen(options->user, wanted ? why : net->transport);
    return wanted || status == STATUS_NO_MEMORY ? status : STATUS_OK;
}

static enum status open_mailboxes(struct net *net)
{
    unsigned lane_count = net->options.lane_count;
    net->heard = calloc(lane_count, sizeof(*net->heard));
    net->mailboxes = calloc(lane_count, sizeof(*net->mailboxes));
    if (net->heard == NULL || net->mailboxes == NULL)
        return STATUS_NO_MEMORY;
    for (unsigned i = 0; i < lane_count; i++)
        net->mailboxes[i].wake_fd = -1;
    for (unsigned i = 0; i < lane_count; i++) {
        net->mailboxes[i].wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (net->mailboxes[i].wake_fd < 0)
            return STATUS_IO;
    }
    return STATUS_OK;
}

enum status net_open(const struct net_options *options, struct net **net_made)
{
    if (!options_valid(options))
        return STATUS_INVALID;
    struct net *net = calloc(1, sizeof(*net));
    if (net == NULL)
        return STATUS_NO_MEMORY;
    enum status status = copy_options(&net->options, options);
    if (status != STATUS_OK) {
        free(net);
        return status;
    }
    net->listen_fd = -1;
    net->wire = &wire_tcp;
    net->incarnation = options->incarnation;
    pthread_mutex_init(&net->mutex, NULL);
    make_side(net);
    status = open_mailboxes(net);
    if (status == STATUS_OK)
        status = open_listener(net);
    if (status == STATUS_OK)
        status = choose_transport(net);
    if (status == STATUS_OK)
        status = net_resolve_start(net);
    if (status != STATUS_OK) {
        int error = errno;
        net_close(net);
        errno = error;
        return status;
    }
    *net_made = net;
    return STATUS_OK;
}

void net_close(struct net *net)
{
    if (net == NULL)
        return;
    net_resolve_stop(net);
    rdma_close(net);
    if (net->listen_fd >= 0)
        close(net->listen_fd);
    for (unsigned i = 0; net->mailboxes != NULL && i < net->options.lane_count; i++) {
        assert(!net->mailboxes[i].open);
        if (net->mailboxes[i].wake_fd >= 0)
            close(net->mailboxes[i].wake_fd);
    }
    free(net->mailboxes);
    free(net->heard);
    pthread_mutex_destroy(&net->mutex);
    free_options(&net->options);
    free(net);
}

uint16_t net_port(const struct net *net)
{
    return net->port;
}

void net_prepare_socket(const struct net *net, int fd)
{
    int one = 1;
    /* A stopped reader closes its window, which counts as unacknowledged too; hence more than
     * suspect_ms. */
    unsigned timeout_ms = 2 * net->options.suspect_ms;
    if (timeout_ms < USER_TIMEOUT_MIN_MS)
        timeout_ms = USER_TIMEOUT_MIN_MS;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
}

/* ---- the gate and the own incarnation ---- */

void net_wake_locked(struct mailbox *mailbox)
{
    uint64_t one = 1;
    if (!mailbox->open)
        return;
    ssize_t ignored = write(mailbox->wake_fd, &one, sizeof(one));
    (void)ignored; /* Full means that it will wake anyway. */
}

static void wake_all_locked(struct net *net)
{
    for (unsigned i = 0; i < net->options.lane_count; i++)
        net_wake_locked(&net->mailboxes[i]);
}

void net_wake_all_any(struct net *net)
{
    pthread_mutex_lock(&net->mutex);
    wake_all_locked(net);
    pthread_mutex_unlock(&net->mutex);
}

enum hello_refusal net_admit_any(struct net *net, unsigned peer, uint64_t incarnation, bool raise)
{
    pthread_mutex_lock(&net->mutex);
    struct gate *gate = &net->gates[peer];
    enum hello_refusal refusal = gate_judge(gate, incarnation);
    if (refusal == HELLO_ACCEPTED && raise && incarnation > gate->newest) {
        gate->newest = incarnation;
        wake_all_locked(net);
    }
    pthread_mutex_unlock(&net->mutex);
    return refusal;
}

void net_fence_any(struct net *net, unsigned peer, uint64_t incarnation)
{
    assert(peer < NET_PEER_LIMIT);
    pthread_mutex_lock(&net->mutex);
    if (incarnation > net->gates[peer].fenced) {
        net->gates[peer].fenced = incarnation;
        wake_all_locked(net);
    }
    pthread_mutex_unlock(&net->mutex);
}

void net_set_incarnation_any(struct net *net, uint64_t incarnation)
{
    pthread_mutex_lock(&net->mutex);
    assert(incarnation >= net->incarnation);
    if (incarnation > net->incarnation) {
        net->incarnation = incarnation;
        wake_all_locked(net);
    }
    pthread_mutex_unlock(&net->mutex);
}

uint32_t net_transports_any(const struct net *net)
{
    if (net->rdma == NULL || !rdma_is_lost_any(net))
        return net->side.transports;
    return net->side.transports & HELLO_TCP;
}

uint64_t net_own_incarnation_any(struct net *net)
{
    pthread_mutex_lock(&net->mutex);
    uint64_t incarnation = net->incarnation;
    pthread_mutex_unlock(&net->mutex);
    return incarnation;
}

/* ---- what others may ask ---- */

uint64_t net_heard_ns_any(const struct net *net, unsigned peer)
{
    uint64_t oldest = UINT64_MAX;
    assert(peer < NET_PEER_LIMIT);
    for (unsigned i = 0; i < net->options.lane_count; i++) {
        uint64_t heard = atomic_load_explicit(&net->heard[i][peer], memory_order_relaxed);
        if (heard < oldest)
            oldest = heard;
    }
    return oldest;
}

void net_stats_any(const struct net *net, unsigned lane, unsigned peer, struct net_stats *stats)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)&net->mutex;
    assert(lane < net->options.lane_count);
    assert(peer < NET_PEER_LIMIT);
    pthread_mutex_lock(mutex);
    *stats = net->mailboxes[lane].stats[peer];
    pthread_mutex_unlock(mutex);
}

void net_lane_stats_any(const struct net *net, unsigned lane, struct net_lane_stats *stats)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)&net->mutex;
    assert(lane < net->options.lane_count);
    pthread_mutex_lock(mutex);
    *stats = net->mailboxes[lane].lane_stats;
    pthread_mutex_unlock(mutex);
}

void net_set_transport_any(struct net *net, const char *what, const char *why)
{
    pthread_mutex_lock(&net->mutex);
    snprintf(net->transport, sizeof(net->transport), "%s: %s", what, why);
    pthread_mutex_unlock(&net->mutex);
}

void net_transport_any(const struct net *net, char text[NET_TRANSPORT_SIZE])
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)&net->mutex;
    pthread_mutex_lock(mutex);
    memcpy(text, net->transport, sizeof(net->transport));
    pthread_mutex_unlock(mutex);
}

uint64_t net_refused_any(const struct net *net)
{
    pthread_mutex_t *mutex = (pthread_mutex_t *)&net->mutex;
    pthread_mutex_lock(mutex);
    uint64_t refused = net->refused;
    pthread_mutex_unlock(mutex);
    return refused;
}

/* ---- refusal lines ---- */

/* False: the same was said within COMPLAINT_QUIET_S, or too many different things were. */
static bool may_complain(struct net *net, uint64_t address_hash, const char *reason)
{
    uint64_t now = net_now_ns();
    bool may = false;
    struct complaint *oldest = &net->complaints[0];
    pthread_mutex_lock(&net->mutex);
    net->refused++;
    for (unsigned i = 0; i < COMPLAINT_MAX; i++) {
        struct complaint *complaint = &net->complaints[i];
        if (complaint->reason == reason && complaint->address_hash == address_hash) {
            oldest = complaint;
            break;
        }
        if (complaint->at_ns < oldest->at_ns)
            oldest = complaint;
    }
    if (oldest->reason == NULL || now - oldest->at_ns >= (uint64_t)COMPLAINT_QUIET_S * 1000000000) {
        *oldest = (struct complaint){.reason = reason, .address_hash = address_hash, .at_ns = now};
        may = true;
    }
    pthread_mutex_unlock(&net->mutex);
    return may;
}

void net_complain_any(struct net *net, const struct address *address, const char *reason,
                      const char *format, ...)
{
    char remote[INET6_ADDRSTRLEN + 32];
    char text[512];
    va_list arguments;
    net_address_text(address, remote, sizeof(remote));
    if (!may_complain(net, hash_key(slice_text(remote)), reason) || net->options.on_refused == NULL)
        return;
    va_start(arguments, format);
    int used = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (used >= 0 && (size_t)used < sizeof(text))
        snprintf(text + used, sizeof(text) - (size_t)used, " (%s): %s", remote, reason);
    net->options.on_refused(net->options.user, text);
}
