#include "server/watcher.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/clock.h"
#include "server/worker.h"

struct watcher {
    struct watcher *next;
    struct worker *home;
    uint32_t events;
    uint32_t size, begin, used; /* of the ring */
    uint64_t skipped;           /* since the last line that found room */
    uint8_t ring[];
};

void watchers_open(struct watchers *watchers)
{
    *watchers = (struct watchers){.number = 0};
    pthread_mutex_init(&watchers->lock, NULL);
}

void watchers_close(struct watchers *watchers)
{
    pthread_mutex_destroy(&watchers->lock);
}

void watchers_forget_counts(struct watchers *watchers)
{
    atomic_store(&watchers->line_count, 0);
    atomic_store(&watchers->sent_count, 0);
    atomic_store(&watchers->skipped_count, 0);
}

static void set_mask(struct watchers *watchers)
{
    uint32_t mask = 0;
    for (const struct watcher *at = watchers->first; at != NULL; at = at->next)
        mask |= at->events;
    atomic_store_explicit(&watchers->mask, mask, memory_order_relaxed);
}

struct watcher *watcher_add(struct watchers *watchers, struct worker *home, uint32_t events,
                            uint32_t buffer_size)
{
    if (atomic_fetch_add(&watchers->count, 1) >= WATCHER_COUNT_MAX) {
        atomic_fetch_sub(&watchers->count, 1);
        return NULL;
    }
    struct watcher *watcher = malloc(sizeof(*watcher) + buffer_size);
    if (watcher == NULL) {
        atomic_fetch_sub(&watchers->count, 1);
        return NULL;
    }
    *watcher = (struct watcher){.home = home, .events = events, .size = buffer_size};
    pthread_mutex_lock(&watchers->lock);
    watcher->next = watchers->first;
    watchers->first = watcher;
    set_mask(watchers);
    pthread_mutex_unlock(&watchers->lock);
    return watcher;
}

void watcher_remove(struct watchers *watchers, struct watcher *watcher)
{
    pthread_mutex_lock(&watchers->lock);
    struct watcher **at = &watchers->first;
    while (*at != watcher)
        at = &(*at)->next;
    *at = watcher->next;
    set_mask(watchers);
    pthread_mutex_unlock(&watchers->lock);
    atomic_fetch_sub(&watchers->count, 1);
    free(watcher);
}

/* ---- the ring; under the lock ---- */

static void put_bytes(struct watcher *watcher, const void *bytes, uint32_t size)
{
    uint32_t end = (watcher->begin + watcher->used) % watcher->size;
    uint32_t first = watcher->size - end < size ? watcher->size - end : size;
    memcpy(watcher->ring + end, bytes, first);
    memcpy(watcher->ring, (const uint8_t *)bytes + first, size - first);
    watcher->used += size;
}

/* What was skipped is said in front of the first line that finds room again. */
static bool put_line(struct watcher *watcher, const char *line, uint32_t size)
{
    char note[40];
    uint32_t note_size = 0;
    if (watcher->skipped > 0)
        note_size = (uint32_t)snprintf(note, sizeof(note), "skipped=%llu\n",
                                       (unsigned long long)watcher->skipped);
    if (watcher->size - watcher->used < note_size + size) {
        watcher->skipped++;
        return false;
    }
    put_bytes(watcher, note, note_size);
    put_bytes(watcher, line, size);
    watcher->skipped = 0;
    return true;
}

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

void watchers_put_any(struct watchers *watchers, enum watcher_event event, struct slice line)
{
    char whole[WATCHER_LINE_SIZE_MAX + 80];
    uint64_t now_us = clock_wall_us();
    pthread_mutex_lock(&watchers->lock);
    int size =
        snprintf(whole, sizeof(whole), "ts=%llu.%06u gid=%llu %.*s\n",
                 (unsigned long long)(now_us / 1000000), (unsigned)(now_us % 1000000),
                 (unsigned long long)++watchers->number, (int)line.size, (const char *)line.data);
    count(&watchers->line_count);
    for (struct watcher *watcher = watchers->first; watcher != NULL; watcher = watcher->next) {
        if ((watcher->events & event) == 0)
            continue;
        bool put = put_line(watcher, whole, (uint32_t)size);
        count(put ? &watchers->sent_count : &watchers->skipped_count);
        if (put)
            worker_wake_watchers_any(watcher->home);
    }
    pthread_mutex_unlock(&watchers->lock);
}

bool watcher_has_lines(struct watchers *watchers, const struct watcher *watcher)
{
    pthread_mutex_lock(&watchers->lock);
    bool some = watcher->used > 0;
    pthread_mutex_unlock(&watchers->lock);
    return some;
}

uint32_t watcher_take(struct watchers *watchers, struct watcher *watcher, void *to, uint32_t size)
{
    pthread_mutex_lock(&watchers->lock);
    if (size > watcher->used)
        size = watcher->used;
    uint32_t first = watcher->size - watcher->begin < size ? watcher->size - watcher->begin : size;
    memcpy(to, watcher->ring + watcher->begin, first);
    memcpy((uint8_t *)to + first, watcher->ring, size - first);
    watcher->begin = (watcher->begin + size) % watcher->size;
    watcher->used -= size;
    pthread_mutex_unlock(&watchers->lock);
    return size;
}
