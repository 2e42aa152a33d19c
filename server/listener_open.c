/* Opening and closing the sockets where clients come in. */
#include "server/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "server/watch.h"

/* ---- network ---- */

static int listen_at(const struct addrinfo *address, int backlog)
{
    int on = 1;
    bool udp = address->ai_socktype == SOCK_DGRAM;
    int fd = socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (!udp)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && (udp || listen(fd, backlog) == 0))
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static bool refuse(const char *kind, const struct options_address *address, uint16_t port,
                   const char *why)
{
    log_error("failed to listen on %s%s:%u: %s", kind, address->host[0] ? address->host : "*", port,
              why);
    return false;
}

static void add(struct listeners *listeners, enum listener_kind kind, unsigned option, int fd)
{
    listeners->sockets[listeners->count++] =
        (struct listener){.all = listeners, .kind = kind, .option = option, .fd = fd};
}

/* A name, or "all interfaces", may stand for several addresses; families that this machine lacks
 * are left out. */
static bool open_network(struct listeners *listeners, enum listener_kind kind, unsigned option)
{
    const struct options_listen *listen = &listeners->options->listen[option];
    const char *host = listen->at.host[0] ? listen->at.host : NULL;
    const char *name = kind == LISTENER_UDP ? "UDP " : "";
    uint16_t port_number = kind == LISTENER_UDP ? listen->udp_port : listen->at.port;
    struct addrinfo hints = {.ai_flags = AI_PASSIVE,
                             .ai_socktype = kind == LISTENER_UDP ? SOCK_DGRAM : SOCK_STREAM};
    struct addrinfo *found;
    char port[8];
    unsigned before = listeners->count;
    snprintf(port, sizeof(port), "%u", port_number);
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed)
        return refuse(name, &listen->at, port_number, gai_strerror(failed));
    int error = EADDRNOTAVAIL;
    for (const struct addrinfo *at = found; at != NULL && listeners->count < LISTENER_COUNT_MAX;
         at = at->ai_next) {
        int fd = listen_at(at, (int)listeners->options->backlog);
        if (fd >= 0) {
            add(listeners, kind, option, fd);
            continue;
        }
        error = errno;
        if (error == EADDRINUSE || error == EACCES)
            break;
    }
    freeaddrinfo(found);
    if (listeners->count == before || error == EADDRINUSE || error == EACCES)
        return refuse(name, &listen->at, port_number,
                      error == EADDRINUSE ? "address already in use; stop who listens there, or "
                                            "choose another port (-p, -l)"
                                          : strerror(error));
    return true;
}

static bool open_networks(struct listeners *listeners, unsigned option)
{
    const struct options *options = listeners->options;
    const struct options_listen *listen = &options->listen[option];
    if (listen->has_tcp && !open_network(listeners, LISTENER_TCP, option))
        return false;
    return listen->is_unix || !options_has_udp(options) ||
           open_network(listeners, LISTENER_UDP, option);
}

/* ---- which ports the kernel has given ---- */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* False: it is no network socket. */
static bool own_address(int fd, union address *address)
{
    socklen_t size = sizeof(*address);
    return getsockname(fd, &address->any, &size) == 0 &&
           (address->any.sa_family == AF_INET || address->any.sa_family == AF_INET6);
}

static unsigned port_of(const union address *address)
{
    return ntohs(address->any.sa_family == AF_INET ? address->v4.sin_port : address->v6.sin6_port);
}

static void print_ports(const struct listeners *listeners, FILE *file)
{
    union address address;
    for (unsigned i = 0; i < listeners->count; i++) {
        const struct listener *socket = &listeners->sockets[i];
        if (own_address(socket->fd, &address))
            fprintf(file, "%s %s: %u\n", socket->kind == LISTENER_UDP ? "UDP" : "TCP",
                    address.any.sa_family == AF_INET ? "INET" : "INET6", port_of(&address));
    }
}

/* Under another name first: whoever waits for the file finds all of it. */
static bool write_ports(const struct listeners *listeners)
{
    const char *path = getenv("MEMCACHED_PORT_FILENAME");
    char part[4096];
    if (path == NULL || listeners->options->unix_path != NULL)
        return true;
    if (snprintf(part, sizeof(part), "%s.lck", path) >= (int)sizeof(part)) {
        log_error("MEMCACHED_PORT_FILENAME is too long");
        return false;
    }
    FILE *file = fopen(part, "we");
    if (file != NULL) {
        print_ports(listeners, file);
        if (fclose(file) == 0 && rename(part, path) == 0)
            return true;
    }
    log_error("MEMCACHED_PORT_FILENAME: %s: %s", path, strerror(errno));
    return false;
}

enum status listeners_open(struct listeners *listeners, const struct options *options)
{
    *listeners = (struct listeners){.options = options};
    for (uint32_t i = 0; i < options->listen_count; i++) {
        if (!open_networks(listeners, i)) {
            listeners_close(listeners);
            return STATUS_IO;
        }
    }
    if (write_ports(listeners))
        return STATUS_OK;
    listeners_close(listeners);
    return STATUS_IO;
}

/* ---- UNIX ---- */

static enum status refuse_unix(const struct listeners *listeners, const char *why)
{
    log_error("failed to listen on UNIX socket: %s: %s", listeners->options->unix_path, why);
    return STATUS_IO;
}

/* Somebody listens there. */
static bool is_served(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool served =
        fd >= 0 &&
        (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    return served;
}

/* What a server that was killed has left is removed; nothing else is. */
static enum status remove_stale(const struct listeners *listeners,
                                const struct sockaddr_un *address)
{
    struct stat found;
    if (lstat(address->sun_path, &found) != 0)
        return STATUS_OK;
    if (!S_ISSOCK(found.st_mode))
        return refuse_unix(listeners, "the file is there and is no socket");
    if (is_served(address))
        return refuse_unix(listeners, "another process serves there");
    if (unlink(address->sun_path) != 0)
        return refuse_unix(listeners, strerror(errno));
    return STATUS_OK;
}

/* The file gets its permissions as it comes into being, so that there is no moment without. */
static int bind_unix(const struct listeners *listeners, const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    mode_t before = umask(~listeners->options->unix_mask & 0777);
    int bound = bind(fd, (const struct sockaddr *)address, sizeof(*address));
    int error = errno;
    umask(before);
    if (bound == 0 && listen(fd, (int)listeners->options->backlog) == 0)
        return fd;
    if (bound == 0)
        error = errno;
    close(fd);
    errno = error;
    return -1;
}

enum status listeners_open_unix(struct listeners *listeners)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat own;
    if (listeners->options->unix_path == NULL)
        return STATUS_OK;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", listeners->options->unix_path);
    enum status status = remove_stale(listeners, &address);
    if (status != STATUS_OK)
        return status;
    int fd = bind_unix(listeners, &address);
    if (fd < 0)
        return refuse_unix(listeners, strerror(errno));
    if (lstat(address.sun_path, &own) == 0) {
        listeners->unix_device = own.st_dev;
        listeners->unix_inode = own.st_ino;
    }
    add(listeners, LISTENER_UNIX, 0, fd);
    return STATUS_OK;
}

/* Another server may have put its own there meanwhile. */
static void remove_unix(const struct listeners *listeners)
{
    const char *path = listeners->options->unix_path;
    struct stat found;
    if (lstat(path, &found) == 0 && found.st_dev == listeners->unix_device &&
        found.st_ino == listeners->unix_inode)
        unlink(path);
}

/* ---- all ---- */

void listeners_close(struct listeners *listeners)
{
    listeners_stop(listeners);
    for (unsigned i = 0; i < listeners->count; i++) {
        struct listener *socket = &listeners->sockets[i];
        watch_close(socket->watch);
        if (socket->kind == LISTENER_UNIX)
            remove_unix(listeners);
        if (socket->fd >= 0)
            close(socket->fd);
    }
    listeners->count = 0;
}

static size_t describe(const struct listeners *listeners, const struct listener *socket, char *text,
                       size_t size)
{
    union address address;
    char host[64] = "";
    const char *kind = socket->kind == LISTENER_UDP ? "udp " : "";
    if (socket->kind == LISTENER_UNIX)
        return (size_t)snprintf(text, size, "%s", listeners->options->unix_path);
    if (!own_address(socket->fd, &address))
        return 0;
    bool v4 = address.any.sa_family == AF_INET;
    getnameinfo(&address.any, v4 ? sizeof(address.v4) : sizeof(address.v6), host, sizeof(host),
                NULL, 0, NI_NUMERICHOST);
    return (size_t)snprintf(text, size, v4 ? "%s%s:%u" : "%s[%s]:%u", kind, host,
                            port_of(&address));
}

void listeners_describe(const struct listeners *listeners, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
    for (unsigned i = 0; i < listeners->count && used + 1 < size; i++) {
        if (used > 0)
            text[used++] = ' ';
        text[used] = 0;
        used += describe(listeners, &listeners->sockets[i], text + used, size - used);
    }
    if (listeners->count == 0)
        snprintf(text, size, "nowhere");
}
