#include "server/endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

union address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
    struct sockaddr_un local;
};

static void read_address(const union address *address, socklen_t size, struct endpoint *endpoint)
{
    size_t path_at = offsetof(struct sockaddr_un, sun_path);
    switch (address->any.sa_family) {
    case AF_INET:
        endpoint->transport = "tcp";
        endpoint->port = ntohs(address->four.sin_port);
        inet_ntop(AF_INET, &address->four.sin_addr, endpoint->host, sizeof(endpoint->host));
        break;
    case AF_INET6:
        endpoint->transport = "tcp6";
        endpoint->port = ntohs(address->six.sin6_port);
        inet_ntop(AF_INET6, &address->six.sin6_addr, endpoint->host, sizeof(endpoint->host));
        break;
    case AF_UNIX: /* A client's end has no name. */
        endpoint->transport = "unix";
        snprintf(endpoint->host, sizeof(endpoint->host), "%.*s",
                 size > path_at ? (int)(size - path_at) : 0, address->local.sun_path);
        break;
    }
}

static void unknown(struct endpoint *endpoint)
{
    *endpoint = (struct endpoint){.transport = "tcp", .host = "unknown"};
}

void endpoint_of_peer(int fd, struct endpoint *endpoint)
{
    union address address;
    socklen_t size = sizeof(address);
    unknown(endpoint);
    if (getpeername(fd, &address.any, &size) == 0)
        read_address(&address, size, endpoint);
}

void endpoint_of_listener(int fd, struct endpoint *endpoint)
{
    union address address;
    socklen_t size = sizeof(address);
    unknown(endpoint);
    if (getsockname(fd, &address.any, &size) == 0)
        read_address(&address, size, endpoint);
}

const char *endpoint_print(const struct endpoint *endpoint, char text[ENDPOINT_TEXT_SIZE])
{
    if (endpoint->port == 0)
        snprintf(text, ENDPOINT_TEXT_SIZE, "%s:%s", endpoint->transport, endpoint->host);
    else if (strchr(endpoint->host, ':') != NULL)
        snprintf(text, ENDPOINT_TEXT_SIZE, "%s:[%s]:%u", endpoint->transport, endpoint->host,
                 endpoint->port);
    else
        snprintf(text, ENDPOINT_TEXT_SIZE, "%s:%s:%u", endpoint->transport, endpoint->host,
                 endpoint->port);
    return text;
}
