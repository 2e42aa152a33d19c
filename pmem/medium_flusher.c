/* The thread that syncs ordinary files. Holds atomics: the newest cookie that is done. */
#include <errno.h>
#include <libpmem.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "pmem/medium_file_private.h"

void ranges_add(struct ranges *ranges, uint32_t number, size_t from, size_t to)
{
    if (ranges->from[number] == ranges->to[number]) {
        ranges->numbers[ranges->count++] = number;
        ranges->from[number] = from;
        ranges->to[number] = to;
        return;
    }
    if (from < ranges->from[number])
        ranges->from[number] = from;
    if (to > ranges->to[number])
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

/* False: the medium failed. Never tried again: the kernel may have dropped the pages it could not
 * write. */
static bool sync_taken(struct file_medium *file)
{
    struct ranges *taken = &file->flusher.taken;
    for (uint32_t i = 0; i < taken->count; i++) {
        uint32_t number = taken->numbers[i];
        size_t from = taken->from[number], size = taken->to[number] - from;
        if (pmem_msync(file->bases[number] + from, size) != 0) {
            atomic_store(&file->flusher.error_number, number);
            atomic_store(&file->flusher.error, errno != 0 ? errno : EIO);
            return false;
        }
        taken->from[number] = taken->to[number] = 0;
    }
    taken->count = 0;
    return true;
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
        sound = sync_taken(file);
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
