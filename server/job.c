#include "server/job.h"

#include <stdlib.h>

static_assert(offsetof(struct job, request) == 0, "job_of relies on it");

void job_queue_put(struct job_queue *queue, struct job *job)
{
    job->next = NULL;
    if (queue->last == NULL)
        queue->first = job;
    else
        queue->last->next = job;
    queue->last = job;
    queue->count++;
}

void job_queue_put_first(struct job_queue *queue, struct job *job)
{
    job->next = queue->first;
    queue->first = job;
    if (queue->last == NULL)
        queue->last = job;
    queue->count++;
}

struct job *job_queue_take(struct job_queue *queue)
{
    struct job *job = queue->first;
    if (job == NULL)
        return NULL;
    queue->first = job->next;
    if (queue->first == NULL)
        queue->last = NULL;
    queue->count--;
    return job;
}

static struct job *merge(struct job *a, struct job *b)
{
    struct job *first = NULL, **at = &first;
    while (a != NULL && b != NULL) {
        struct job **least = a->sequence < b->sequence ? &a : &b;
        *at = *least;
        at = &(*at)->next;
        *least = *at;
    }
    *at = a != NULL ? a : b;
    return first;
}

/* runs[i] holds a sorted run of 2^i jobs, or NULL. */
void job_queue_sort(struct job_queue *queue)
{
    struct job *runs[32] = {NULL}, *sorted = NULL;
    for (struct job *job = queue->first, *next; job != NULL; job = next) {
        unsigned i = 0;
        next = job->next;
        job->next = NULL;
        for (; runs[i] != NULL; i++) {
            job = merge(runs[i], job);
            runs[i] = NULL;
        }
        runs[i] = job;
    }
    for (unsigned i = 0; i < 32; i++)
        sorted = merge(runs[i], sorted);
    queue->first = queue->last = sorted;
    while (queue->last != NULL && queue->last->next != NULL)
        queue->last = queue->last->next;
}

struct job *job_take(struct job_pool *pool)
{
    struct job *job = pool->first;
    if (job != NULL) {
        pool->first = job->next;
        pool->count--;
    } else {
        job = malloc(sizeof(*job));
        if (job == NULL)
            return NULL;
    }
    memset(job, 0, offsetof(struct job, key)); /* The buffers behind need no clearing. */
    job->memory = pool->memory;
    pool->taken++;
    job->value = job->value_memory;
    job->value_capacity = JOB_INLINE_SIZE;
    return job;
}

static bool take(struct job_memory *memory, uint64_t size, uint64_t more)
{
    if (memory == NULL)
        return true;
    uint64_t used = atomic_load_explicit(&memory->used, memory_order_relaxed);
    if (memory->limit > 0 && used + size > memory->limit + more)
        return false;
    atomic_fetch_add_explicit(&memory->used, size, memory_order_relaxed);
    return true;
}

bool job_memory_take(struct job_memory *memory, uint64_t size)
{
    return take(memory, size, 0);
}

void job_memory_give(struct job_memory *memory, uint64_t size)
{
    if (memory != NULL)
        atomic_fetch_sub_explicit(&memory->used, size, memory_order_relaxed);
}

static void free_value(struct job *job)
{
    if (job->value != job->value_memory) {
        free(job->value);
        job_memory_give(job->memory, job->value_capacity);
    }
    job->value = job->value_memory;
    job->value_capacity = JOB_INLINE_SIZE;
    job->value_size = 0;
}

void job_give(struct job_pool *pool, struct job *job)
{
    free_value(job);
    pool->taken--;
    if (pool->count == JOB_POOL_COUNT_MAX) {
        free(job);
        return;
    }
    job->next = pool->first;
    pool->first = job;
    pool->count++;
}

void job_pool_close(struct job_pool *pool)
{
    for (struct job *job = pool->first, *next; job != NULL; job = next) {
        next = job->next;
        free(job);
    }
    *pool = (struct job_pool){.count = 0};
}

bool job_reserve(struct job *job, uint32_t size)
{
    if (size > job->value_capacity) {
        free_value(job);
        /* Who has to find out why memory is short needs statistics. */
        if (!take(job->memory, size, job->kind == JOB_TEXT ? JOB_MEMORY_TEXT : 0))
            return false;
        uint8_t *memory = malloc(size);
        if (memory == NULL) {
            job_memory_give(job->memory, size);
            return false;
        }
        job->value = memory;
        job->value_capacity = size;
    }
    job->value_size = size;
    return true;
}
