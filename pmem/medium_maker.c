/* Makes segments ahead of time, in a thread of its own that lives while there is something to make:
 * writing zeros takes longer than the owner may stop.
 *
 * So many are ready before the log takes another one that a disk which is full now is known to be
 * full while there still are free segments: cleaning, deleting and overwriting need some. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "pmem/medium_file_private.h"

enum {
    AHEAD_MAX = 8,  /* what the store keeps free, at most, and some */
    AHEAD_MORE = 2, /* begun while those are used */
};

bool is_no_space(int error)
{
    return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

static void *run(void *user)
{
    struct file_medium *file = user;
    struct maker *maker = &file->maker;
    pthread_mutex_lock(&maker->mutex);
    while (maker->next < maker->end && maker->error == 0) {
        uint32_t number = maker->next;
        pthread_mutex_unlock(&maker->mutex);
        int error = segment_file_exists(file, number) ? 0 : segment_file_make(file, number);
        pthread_mutex_lock(&maker->mutex);
        maker->error = error;
        maker->next += error == 0;
        pthread_cond_signal(&maker->progress);
    }
    maker->active = false;
    pthread_cond_signal(&maker->progress);
    pthread_mutex_unlock(&maker->mutex);
    return NULL;
}

static void join(struct maker *maker)
{
    if (maker->started)
        pthread_join(maker->thread, NULL);
    maker->started = false;
}

/* With the mutex, which is given up meanwhile if the thread is at its end. */
static void ask(struct file_medium *file, uint32_t end)
{
    struct maker *maker = &file->maker;
    if (end > file->count_max)
        end = file->count_max;
    if (end <= maker->end || maker->error != 0)
        return;
    maker->end = end;
    if (maker->active)
        return;
    pthread_mutex_unlock(&maker->mutex);
    join(maker);
    pthread_mutex_lock(&maker->mutex);
    maker->active = maker->started = file_start_thread(&maker->thread, run, file) == 0;
    if (!maker->started)
        maker->error = EAGAIN;
}

static void await(struct maker *maker, uint32_t end)
{
    while (maker->active && maker->next < end)
        pthread_cond_wait(&maker->progress, &maker->mutex);
}

void maker_open(struct maker *maker)
{
    pthread_mutex_init(&maker->mutex, NULL);
    pthread_cond_init(&maker->progress, NULL);
}

void maker_close(struct maker *maker)
{
    pthread_mutex_lock(&maker->mutex);
    maker->end = 0;
    pthread_mutex_unlock(&maker->mutex);
    join(maker);
    pthread_cond_destroy(&maker->progress);
    pthread_mutex_destroy(&maker->mutex);
}

/* Said once; `next` is the one that could not be made. */
static uint32_t tell_end(struct file_medium *file, int error, uint32_t next)
{
    char name[FILE_NAME_SIZE];
    segment_file_name(next, name);
    if (!file->told)
        file_complain(file, name, "cannot be made", error);
    if (is_no_space(error) && !file->told)
        log_warn("%s. The log goes on with %u segments, until the next start", file->message, next);
    else if (!file->told)
        log_warn("%s", file->message);
    file->told = true;
    file->failed = file->failed || !is_no_space(error);
    return next;
}

uint32_t maker_room(struct file_medium *file, uint32_t number)
{
    struct maker *maker = &file->maker;
    uint32_t ahead = number < AHEAD_MAX / 2 ? 2 * number + 2 : AHEAD_MAX;
    pthread_mutex_lock(&maker->mutex);
    ask(file, number + ahead + 1);
    await(maker, number + ahead + 1);
    if (maker->error == 0)
        ask(file, number + ahead + 1 + AHEAD_MORE);
    int error = maker->error;
    uint32_t next = maker->next;
    pthread_mutex_unlock(&maker->mutex);
    /* What failed only now may lie further ahead than has to be ready. */
    return error == 0 || next > number + ahead ? UINT32_MAX : tell_end(file, error, next);
}
