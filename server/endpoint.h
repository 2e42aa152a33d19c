/* endpoint.h: the address at one end of a client's socket, for people. */
#ifndef SERVER_ENDPOINT_H
#define SERVER_ENDPOINT_H

#include <stdint.h>

struct endpoint {
    const char *transport; /* tcp, tcp6, unix */
    uint16_t port;         /* 0: none */
    char host[112];        /* or a path; "unknown" when the socket no longer says */
};

/* The client's end. */
void endpoint_of_peer(int fd, struct endpoint *endpoint);

/* Ours. */
void endpoint_of_listener(int fd, struct endpoint *endpoint);

/* "tcp:127.0.0.1:11211", "tcp6:[::1]:11211", "unix:/path" */
enum { ENDPOINT_TEXT_SIZE = 136 };
const char *endpoint_print(const struct endpoint *endpoint, char text[ENDPOINT_TEXT_SIZE]);

#endif
