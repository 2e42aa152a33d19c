/* mailbox.h: rare letters between threads: views, connections, healing news. Any thread puts, one
 * thread takes.
 *
 * Has a lock: nothing of the data path goes this way (that takes base/ring.h). Wakes the taker by
 * an eventfd. */
#ifndef SERVER_MAILBOX_H
#define SERVER_MAILBOX_H

#include <pthread.h>
#include <stdint.h>

#include "base/status.h"
#include "replica/view.h"

struct sasl_call;

enum letter_type {
    /* to workers */
    LETTER_CONNECTION,  /* `fd` is a new client's, come in by `listener` */
    LETTER_UDP,         /* `fd` is the UDP socket of `listener` */
    LETTER_VIEW,        /* install `view` */
    LETTER_INCARNATION, /* this node was removed while alive: begin anew as `incarnation` */
    LETTER_STOP,
    LETTER_SASL, /* `call` is done */
    /* to the control thread */
    LETTER_HEALED,  /* shard `shard` has all it missed in `epoch` */
    LETTER_SUSPECT, /* `nodes` keep a write of `shard` waiting in `epoch` */
    LETTER_FAILED,  /* the medium of `shard` failed: the node must stop */
};

struct letter {
    struct letter *next;
    enum letter_type type;
    int fd;
    unsigned listener; /* in options.listen */
    unsigned shard;
    uint32_t epoch;
    uint8_t nodes;
    uint64_t incarnation;
    struct sasl_call *call;
    struct view view;
};

struct mailbox {
    pthread_mutex_t lock;
    struct letter *first;
    struct letter **end;
    int wake_fd; /* readable while there is something */
};

enum status mailbox_open(struct mailbox *mailbox) MUST_CHECK;

/* Frees what nobody took; descriptors in it are closed. */
void mailbox_close(struct mailbox *mailbox);

/* Puts a copy. STATUS_NO_MEMORY: nothing was put. */
enum status mailbox_put_any(struct mailbox *mailbox, const struct letter *letter) MUST_CHECK;

/* Everything that is there, in order, as a list; the caller frees each letter. Resets the
 * wake-up. */
struct letter *mailbox_take(struct mailbox *mailbox);

#endif
