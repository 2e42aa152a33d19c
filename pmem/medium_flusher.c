/* The thread that syncs ordinary files. Holds atomics: the newest cookie that is done, and numbers
 * for statistics. */
#include <errno.h>
#include <libpmem.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "pmem/medium_file_private.h"

void ranges_add(struct ranges *ranges, uint32_t number, size_t from, size_t to)
{
    if (ranges->from[number] == ranges->to[number]) {
        ranges->numbers[ranges->count++] = number;
        ranges->from[number] = from;
        ranges->to[number] = to;
        return;
    }
    if (from < ranges->from[number] && !FAULT(SYNC_RANGE_FROM))
        ranges->from[number] = from;
    if (to > ranges->to[number] && !FAULT(SYNC_RANGE_TO))
        ranges->to[number] = to;
}

void ranges_move(struct ranges *to, struct ranges *from)
{
    for (uint32_t i = 0; i < from->count; i++) {
        uint32_t number = from->numbers[i];
        ranges_add(to, number, from->from[number], from->to[number]);
        from->from[number] = from->to[number] = 0;
    }
    from->count = 0;
}

static void tell(struct flusher *flusher)
{
    const uint64_t one = 1;
    ssize_t written = write(flusher->event_fd, &one, sizeof(one));
    (void)written; /* full means that it is readable already */
}

static uint64_t clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* This thread alone writes them. */
static void add(_Atomic uint64_t *number, uint64_t amount)
{
    uint64_t now = atomic_load_explicit(number, memory_order_relaxed);
    atomic_store_explicit(number, now + amount, memory_order_relaxed);
}

static void count(struct flusher *flusher, size_t size, uint64_t took_us)
{
    add(&flusher->syncs, 1);
    add(&flusher->synced_bytes, size);
    add(&flusher->sync_us, took_us);
    if (took_us > atomic_load_explicit(&flusher->sync_us_max, memory_order_relaxed))
        atomic_store_explicit(&flusher->sync_us_max, took_us, memory_order_relaxed);
}

/* False: the medium failed. Never tried again: the kernel may have dropped the pages it could not
 * write. */
static bool sync_taken(struct file_medium *file)
{
    struct ranges *taken = &file->flusher.taken;
    for (uint32_t i = 0; i < taken->count; i++) {
        uint32_t number = taken->numbers[i];
        size_t from = taken->from[number], size = taken->to[number] - from;
        uint8_t *base = atomic_load_explicit(&file->bases[number], memory_order_relaxed);
        uint64_t began_us = clock_us();
        if (pmem_msync(base + from, size) != 0 && !FAULT(SYNC_ERROR_PASSED)) {
            atomic_store(&file->flusher.error_number, number);
            atomic_store(&file->flusher.error, errno != 0 ? errno : EIO);
            return false;
        }
        count(&file->flusher, size, clock_us() - began_us);
        taken->from[number] = taken->to[number] = 0;
    }
    taken->count = 0;
    return true;
}

static uint64_t newest(struct flusher *flusher)
{
    pthread_mutex_lock(&flusher->mutex);
    uint64_t cookie = flusher->cookie;
    pthread_mutex_unlock(&flusher->mutex);
    return cookie;
}

static void *run(void *user)
{
    struct file_medium *file = user;
    struct flusher *flusher = &file->flusher;
    bool sound = true;
    pthread_mutex_lock(&flusher->mutex);
    while (sound && !flusher->stop) {
        uint64_t cookie = flusher->cookie;
        if (cookie == atomic_load(&flusher->cookie_done)) {
            pthread_cond_wait(&flusher->wake, &flusher->mutex);
            continue;
        }
        ranges_move(&flusher->taken, &flusher->asked);
        pthread_mutex_unlock(&flusher->mutex);
        if (FAULT(SYNC_TOLD_EARLY))
            atomic_store(&flusher->cookie_done, cookie);
        sound = sync_taken(file);
        if (FAULT(SYNC_NEWEST_DONE))
            cookie = newest(flusher);
        if (sound)
            atomic_store(&flusher->cookie_done, cookie);
        tell(flusher);
        pthread_mutex_lock(&flusher->mutex);
    }
    pthread_mutex_unlock(&flusher->mutex);
    return NULL;
}

/* Signals are the main thread's business. */
int file_start_thread(pthread_t *thread, void *(*body)(void *), void *user)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, body, user);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

enum status flusher_start(struct file_medium *file)
{
    struct flusher *flusher = &file->flusher;
    flusher->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (flusher->event_fd < 0)
        return STATUS_IO;
    pthread_mutex_init(&flusher->mutex, NULL);
    pthread_cond_init(&flusher->wake, NULL);
    if (file_start_thread(&flusher->thread, run, file) == 0)
        return STATUS_OK;
    pthread_cond_destroy(&flusher->wake);
    pthread_mutex_destroy(&flusher->mutex);
    close(flusher->event_fd);
    return STATUS_NO_MEMORY;
}

void flusher_stop(struct file_medium *file)
{
    struct flusher *flusher = &file->flusher;
    pthread_mutex_lock(&flusher->mutex);
    flusher->stop = true;
    pthread_cond_signal(&flusher->wake);
    pthread_mutex_unlock(&flusher->mutex);
    pthread_join(flusher->thread, NULL);
    pthread_cond_destroy(&flusher->wake);
    pthread_mutex_destroy(&flusher->mutex);
    close(flusher->event_fd);
}

void flusher_ask(struct file_medium *file, uint64_t cookie)
{
    struct flusher *flusher = &file->flusher;
    pthread_mutex_lock(&flusher->mutex);
    ranges_move(&flusher->asked, &file->dirty);
    flusher->cookie = cookie;
    pthread_cond_signal(&flusher->wake);
    pthread_mutex_unlock(&flusher->mutex);
}
