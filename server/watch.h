/* watch.h: descriptors and timers of a thread's event loop; the only face of libevent in this
 * folder (its `struct event` and the core's are two things). A watch belongs to the thread that
 * runs the loop. */
#ifndef SERVER_WATCH_H
#define SERVER_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct watch;

enum watch_kind {
    WATCH_READ,  /* `fd` has something to read, or is at its end */
    WATCH_WRITE, /* `fd` takes bytes */
    WATCH_TIMER, /* every `period_us`; `fd` is -1 */
    WATCH_SIGNAL /* `fd` is a signal number */
};

typedef void (*watch_ready_t)(void *user);

/* Not started yet. NULL: no memory. */
struct watch *watch_open(struct event_base *base, int fd, enum watch_kind kind, watch_ready_t ready,
                         void *user);
void watch_start(struct watch *watch,
                 uint32_t period_us);  /* harmless when started; 0 for all but timers */
void watch_stop(struct watch *watch);  /* harmless when stopped */
void watch_close(struct watch *watch); /* NULL is allowed */

struct event_base *watch_base_open(void);
void watch_base_close(struct event_base *base);

/* Runs what is ready; with `wait`, sleeps until something is. */
void watch_turn(struct event_base *base, bool wait);

const char *watch_library_version(void);

#endif
