/* listener.h: the sockets where clients connect. Control thread. */
#ifndef SERVER_LISTENER_H
#define SERVER_LISTENER_H

#include <stdint.h>

#include "base/status.h"
#include "server/options.h"

struct event_base;
struct node;
struct watch;

enum { LISTENER_COUNT_MAX = 2 * OPTIONS_LISTEN_MAX, LISTENER_BURST_MAX = 64 };

struct listeners {
    struct node *node;
    unsigned count;
    int fds[LISTENER_COUNT_MAX];
    struct watch *watches[LISTENER_COUNT_MAX];
    unsigned next_worker; /* connections go to the workers in turn */
    bool starved;         /* no descriptor was left; tried again with the next tick */
};

/* Binds all of options->listen. STATUS_IO: one could not be bound, a line said which and why;
 * nothing is open. */
enum status listeners_open(struct listeners *listeners, const struct options *options) MUST_CHECK;
void listeners_close(struct listeners *listeners);

/* Begins to accept, and to hand connections to the workers of `node`. */
enum status listeners_start(struct listeners *listeners, struct node *node,
                            struct event_base *base) MUST_CHECK;
void listeners_stop(struct listeners *listeners);

void listeners_tick(struct listeners *listeners);

#endif
