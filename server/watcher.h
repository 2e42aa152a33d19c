/* watcher.h: holds atomics: clients that watch what others do (the command watch).
 *
 * A line is written once, by the thread in which something happened, into the buffer of each
 * watcher that asked for it; the watcher's own worker sends it when it can. A watcher that is slow
 * loses lines, and is told how many; nobody waits for it. While nobody watches, an event costs one
 * look at `mask`. There is a lock, taken for lines and by watchers only. */
#ifndef SERVER_WATCHER_H
#define SERVER_WATCHER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct connection;
struct job;
struct request;
struct watcher;
struct worker;

enum watcher_event {
    WATCHER_FETCHERS = 1,
    WATCHER_MUTATIONS = 2,
    WATCHER_EVICTIONS = 4,
    WATCHER_CONNEVENTS = 8,
    WATCHER_DELETIONS = 16,
};

enum { WATCHER_COUNT_MAX = 20, WATCHER_LINE_SIZE_MAX = 1200 };

struct watchers {
    _Atomic uint32_t mask; /* events that anybody watches */
    _Atomic uint32_t count;
    _Atomic uint64_t line_count, sent_count, skipped_count;
    pthread_mutex_t lock; /* of the rest, and of what the watchers hold */
    uint64_t number;      /* of the last line */
    struct watcher *first;
};

void watchers_open(struct watchers *watchers);
void watchers_close(struct watchers *watchers);         /* nobody watches any more */
void watchers_forget_counts(struct watchers *watchers); /* stats reset */

static inline bool watchers_want(struct watchers *watchers, enum watcher_event event)
{
    return (atomic_load_explicit(&watchers->mask, memory_order_relaxed) & event) != 0;
}

/* Puts `ts= gid=`, the line and a newline. Any thread. */
void watchers_put_any(struct watchers *watchers, enum watcher_event event, struct slice line);

/* NULL: too many, or no memory. `home` is woken when there is something. */
struct watcher *watcher_add(struct watchers *watchers, struct worker *home, uint32_t events,
                            uint32_t buffer_size);
void watcher_remove(struct watchers *watchers, struct watcher *watcher);

bool watcher_has_lines(struct watchers *watchers, const struct watcher *watcher);

/* Whole or half lines, up to `size` bytes. */
uint32_t watcher_take(struct watchers *watchers, struct watcher *watcher, void *to, uint32_t size);

/* watcher_lines.c: what happened, as lines. Each looks first whether anybody wants them. */
void watchers_note_job(struct worker *worker, const struct job *job);
void watchers_note_eviction(struct worker *worker, const struct request *request);
void watchers_note_connection(struct worker *worker, const struct connection *connection,
                              const char *closed_because); /* NULL: it is new */

#endif
