/* listener.h: the sockets where clients come in: TCP, UNIX and UDP. Control thread.
 *
 * A connection goes to a worker, in turn; so does a UDP socket, once. Handshakes of TLS are the
 * workers' work. */
#ifndef SERVER_LISTENER_H
#define SERVER_LISTENER_H

#include <stdint.h>
#include <sys/types.h>

#include "base/status.h"
#include "server/options.h"

struct event_base;
struct node;
struct watch;

enum { LISTENER_COUNT_MAX = 4 * OPTIONS_LISTEN_MAX, LISTENER_BURST_MAX = 64 };

enum listener_kind { LISTENER_TCP, LISTENER_UNIX, LISTENER_UDP };

struct listener {
    struct listeners *all;
    enum listener_kind kind;
    unsigned option; /* in options.listen */
    int fd;          /* -1: handed over */
    struct watch *watch;
};

struct listeners {
    struct node *node;
    const struct options *options;
    unsigned count;
    struct listener sockets[LISTENER_COUNT_MAX];
    dev_t unix_device; /* of the UNIX socket's file: only our own is removed */
    ino_t unix_inode;
    unsigned next_worker; /* connections go to the workers in turn */
    bool starved;         /* no descriptor was left; tried again with the next tick */
};

/* Binds all network addresses of options->listen, and writes the file that the variable
 * MEMCACHED_PORT_FILENAME names. STATUS_IO: something failed, a line said what and why; nothing is
 * open. */
enum status listeners_open(struct listeners *listeners, const struct options *options) MUST_CHECK;

/* Then, as the user that the process will stay: the UNIX socket, whose file has to be his. */
enum status listeners_open_unix(struct listeners *listeners) MUST_CHECK;

/* Removes the UNIX socket's file, too. */
void listeners_close(struct listeners *listeners);

/* "127.0.0.1:11211 [::1]:11211 udp 127.0.0.1:11211", as far as it fits. */
void listeners_describe(const struct listeners *listeners, char *text, size_t size);

/* Begins to accept, and to hand connections to the workers of `node`. */
enum status listeners_start(struct listeners *listeners, struct node *node,
                            struct event_base *base) MUST_CHECK;
void listeners_stop(struct listeners *listeners);

void listeners_tick(struct listeners *listeners);

#endif
