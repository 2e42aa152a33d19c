/* client.h: one connection of bench/load to a server. It connects again for ever. One thread. */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <stdint.h>

#include "bench/load.h"

struct client;

/* NULL: no memory. `load` must outlive it. `index` of `count` clients: they share out --rate. */
struct client *client_new(struct load *load, unsigned server, unsigned index, unsigned count);
void client_free(struct client *client);

/* Connects, gives up what takes too long, sends what is due. Returns when it wants to be called
 * again. */
uint64_t client_turn(struct client *client, uint64_t now);

/* epoll says that the socket has `events`. */
void client_on_event(struct client *client, uint32_t events);

/* A phase begins: the schedule starts anew. */
void client_begin(struct client *client, uint64_t now);

/* Requests without an answer. */
unsigned client_waiting(const struct client *client);

#endif
