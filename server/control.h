/* control.h: the control thread's loop: signals, new connections, membership, letters of the
 * workers. */
#ifndef SERVER_CONTROL_H
#define SERVER_CONTROL_H

#include "base/status.h"
#include "server/group.h"
#include "server/listener.h"

struct node;

struct control {
    struct node *node;
    struct event_base *base;
    struct watch *signals[3];
    struct watch *hangup_watch;
    struct watch *letter_watch;
    struct watch *tick_watch;
    struct group group;
    struct listeners *listeners;
    bool stopping;
    bool failed;
    bool medium_failed; /* that is why */
};

/* The workers are open, not started. */
enum status control_open(struct control *control, struct node *node,
                         struct listeners *listeners) MUST_CHECK;
void control_close(struct control *control);

/* Returns when a signal came, or the medium of a shard failed. STATUS_IO: the latter. */
enum status control_run(struct control *control) MUST_CHECK;

#endif
