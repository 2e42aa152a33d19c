/* udp.h: requests that come as datagrams, as memcached frames them. The worker's own thread.
 *
 *     datagram = id (2) sequence (2) count (2) 0 (2) bytes        numbers in network order
 *
 * A request is one datagram, which may hold several commands; those that say they are part of more
 * are dropped, and so is what is no request. Each answer is a message of its own: datagrams of at
 * most UDP_DATAGRAM_SIZE_MAX bytes with the request's id, numbered 0 to count - 1. Nothing is sent
 * again.
 *
 * For the connection that runs the commands (one for each request), a request is a stream that ends
 * with its bytes. */
#ifndef SERVER_UDP_H
#define SERVER_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/status.h"

struct worker;
struct udp;
struct udp_request;

enum {
    UDP_HEADER_SIZE = 8,
    UDP_DATAGRAM_SIZE_MAX = 1400,
    UDP_REQUEST_MAX = 64, /* at once, of one socket; more wait in the kernel, or are lost */
    UDP_ANSWER_SIZE_MAX = 2 << 20, /* of all answers to one request: more are not sent */
};

/* Takes the descriptor over, and begins to read. On failure it is closed, and a line said so. */
void udp_open(struct worker *worker, int fd, unsigned listener);
void udp_close_all(struct worker *worker);

/* ---- for stream.c ---- */

size_t udp_receive(struct udp_request *request, void *to, size_t size); /* 0: its end */

/* One whole answer. What the kernel does not take is lost. */
void udp_send(struct udp_request *request, const struct iovec *pieces, unsigned count);

void udp_request_close(struct udp_request *request);

#endif
