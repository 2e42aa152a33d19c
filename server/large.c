#include "server/large.h"

#include <assert.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/ts.h"
#include "server/connection.h"
#include "server/node.h"
#include "server/worker.h"

/* ---- uploads and their ids ---- */

/* Larger than any before; see large_floor_any for the order. */
static uint64_t new_version(struct node *node, uint64_t wall_us)
{
    uint64_t last = atomic_load(&node->upload_version), next;
    do {
        next = last + 1 > wall_us ? last + 1 : wall_us;
    } while (!atomic_compare_exchange_weak(&node->upload_version, &last, next));
    return next;
}

static uint64_t id_of(const struct node *node, uint64_t version)
{
    return ts_make(version, node->options.self, (unsigned)atomic_load(&node->incarnation));
}

/* Ids grow. Each worker first says that ids from the present one on may be alive with it, then
 * takes one; here the newest id is read first: whoever took one up to that has said so. */
uint64_t large_floor_any(struct node *node)
{
    uint64_t floor = atomic_load(&node->upload_version) + 1;
    for (unsigned i = 0; i < node->worker_count; i++) {
        uint64_t oldest = atomic_load(&node->workers[i].upload_oldest);
        if (oldest < floor)
            floor = oldest;
    }
    return ts_make(floor, 0, 0);
}

static void link_upload(struct worker *worker, struct upload *upload)
{
    if (worker->uploads == NULL)
        atomic_store(&worker->upload_oldest, atomic_load(&worker->node->upload_version) + 1);
    else
        worker->uploads->previous = upload;
    upload->next = worker->uploads;
    worker->uploads = upload;
}

/* The last in the list is the oldest. */
static void unlink_upload(struct worker *worker, struct upload *upload)
{
    if (upload->previous != NULL)
        upload->previous->next = upload->next;
    else
        worker->uploads = upload->next;
    if (upload->next != NULL)
        upload->next->previous = upload->previous;
    else
        atomic_store(&worker->upload_oldest, upload->previous == NULL
                                                 ? UINT64_MAX
                                                 : ts_version(upload->previous->manifest.upload));
}

static void set_due(struct upload *upload)
{
    if (upload->is_due)
        return;
    upload->is_due = true;
    upload->next_due = upload->worker->uploads_due;
    upload->worker->uploads_due = upload;
}

/* Shards are of one size. What can never fit must not fill one on the way. */
static bool fits_shard(const struct worker *worker, uint64_t size)
{
    struct store_stats stats;
    store_stats(worker->store, &stats);
    return size < stats.live_max;
}

struct upload *upload_open(struct worker *worker, struct job *job, uint64_t size)
{
    struct upload *upload = calloc(1, sizeof(*upload));
    if (upload == NULL)
        return NULL;
    upload->worker = worker;
    upload->job = job;
    upload->outcome = fits_shard(worker, size) ? OUTCOME_STORED : OUTCOME_NO_MEMORY;
    upload->key_size = (uint8_t)job->request.key.size;
    memcpy(upload->key, job->request.key.data, upload->key_size);
    upload->hash = job->request.hash;
    upload->head_size = 1u + upload->key_size;
    link_upload(worker, upload);
    upload->manifest.upload = id_of(worker->node, new_version(worker->node, worker->wall_us));
    upload->manifest.size = size;
    return upload;
}

static void close_upload(struct upload *upload)
{
    assert(upload->under_way == 0 && !upload->is_due);
    if (upload->piece != NULL)
        job_give(&upload->worker->jobs, upload->piece);
    unlink_upload(upload->worker, upload);
    free(upload);
}

/* ---- pieces out ---- */

struct job *large_job(struct worker *worker, enum request_type type, struct slice key,
                      uint64_t hash)
{
    struct job *job = job_take(&worker->jobs);
    if (job == NULL)
        return NULL;
    job->kind = JOB_PIECE;
    memcpy(job->key, key.data, key.size);
    job->request.type = type;
    job->request.key = slice_make(job->key, key.size);
    job->request.hash = hash_key(key);
    job->owner = (uint16_t)hash_shard(hash, worker->node->worker_count);
    return job;
}

static struct job *piece_job(struct upload *upload, enum request_type type, uint32_t number)
{
    uint8_t key[PIECE_KEY_SIZE];
    piece_key(upload->manifest.upload, number, key);
    struct job *job = large_job(upload->worker, type, slice_make(key, sizeof(key)), upload->hash);
    if (job != NULL)
        job->upload = upload;
    return job;
}

static bool begin_piece(struct upload *upload)
{
    uint32_t size = piece_size(upload->manifest.size, upload->number);
    struct job *job = piece_job(upload, REQUEST_SET, upload->number);
    if (job == NULL || !job_reserve(job, upload->head_size + size)) {
        if (job != NULL)
            job_give(&upload->worker->jobs, job);
        return false;
    }
    piece_head(slice_make(upload->key, upload->key_size), job->value);
    job->request.value = slice_make(job->value, job->value_size);
    upload->piece = job;
    upload->filled = 0;
    return true;
}

/* Where bytes of an upload go that has failed. */
static _Thread_local uint8_t nowhere[16 << 10];

bool upload_has_room(const struct upload *upload)
{
    return upload->outcome != OUTCOME_STORED || upload->piece != NULL ||
           upload->under_way < UPLOAD_WINDOW;
}

uint8_t *upload_room(struct upload *upload, uint32_t *size)
{
    assert(upload->phase == UPLOAD_TAKING);
    *size = sizeof(nowhere);
    if (upload->outcome != OUTCOME_STORED)
        return nowhere;
    if (!upload_has_room(upload)) {
        *size = 0;
        return NULL;
    }
    if (upload->piece == NULL && !begin_piece(upload)) {
        upload->outcome = OUTCOME_NO_MEMORY;
        return nowhere;
    }
    uint32_t at = upload->head_size + upload->filled;
    *size = upload->piece->value_size - at;
    return upload->piece->value + at;
}

static void send_pieces(struct worker *worker)
{
    while (worker->pieces_out < PIECES_OUT_MAX && worker->pieces_waiting.count > 0) {
        worker->pieces_out++;
        worker_submit(worker, job_queue_take(&worker->pieces_waiting));
    }
}

void upload_taken(struct upload *upload, uint32_t size)
{
    struct job *piece = upload->piece;
    if (upload->outcome != OUTCOME_STORED || piece == NULL)
        return;
    upload->filled += size;
    if (upload->head_size + upload->filled < piece->value_size)
        return;
    upload->piece = NULL;
    upload->number++;
    upload->sent = upload->number;
    upload->under_way++;
    job_queue_put(&upload->worker->pieces_waiting, piece);
    send_pieces(upload->worker);
}

void upload_end(struct upload *upload)
{
    assert(upload->phase == UPLOAD_TAKING);
    upload->phase = UPLOAD_ENDING;
    set_due(upload);
}

static void discard(struct upload *upload)
{
    upload->phase = UPLOAD_DISCARDING;
    upload->job = NULL;
    upload->rewrite = NULL;
    upload->number = 0;
    if (upload->piece != NULL)
        job_give(&upload->worker->jobs, upload->piece);
    upload->piece = NULL;
    set_due(upload);
}

void upload_abandon(struct upload *upload)
{
    discard(upload);
}

/* Of an unknown outcome the manifest may still become the value: then the collector decides. */
void upload_over(struct upload *upload, enum outcome outcome)
{
    assert(upload->phase == UPLOAD_COMMITTING);
    if (outcome != OUTCOME_STORED && outcome != OUTCOME_UNKNOWN) {
        discard(upload);
        return;
    }
    upload->phase = UPLOAD_DISCARDING;
    upload->job = NULL;
    upload->rewrite = NULL;
    upload->number = upload->sent;
    set_due(upload);
}

/* ---- what comes back ---- */

void large_done(struct worker *worker, struct job *job)
{
    job->done = true;
    job_queue_put(&worker->pieces_done, job);
}

void large_rewrite(struct worker *worker, struct job *job)
{
    job_queue_put(&worker->rewrites_due, job);
}

/* The client's job goes to its shard, or back to the client. A set that found no memory must not
 * leave the old value. */
static void commit(struct upload *upload)
{
    struct job *job = upload->job;
    upload->phase = UPLOAD_COMMITTING;
    if (upload->rewrite != NULL) {
        rewrite_pump(upload->rewrite);
        return;
    }
    bool full = upload->outcome == OUTCOME_NO_MEMORY && job->request.type == REQUEST_SET;
    if (upload->outcome != OUTCOME_STORED && !full) {
        job->outcome = upload->outcome;
        connection_done(upload->worker, job);
        return;
    }
    if (full) {
        job->unstored = true;
        job->request.type = REQUEST_DELETE;
    } else {
        job->request.value = slice_make(&upload->manifest, sizeof(upload->manifest));
        job->request.large = true;
    }
    if (!request_may_be_rewritten(&job->request))
        connection_submitted(job);
    worker_submit(upload->worker, job);
}

/* Not before all that was sent is back: a piece that still waits would be left over. */
static void go_on_discarding(struct upload *upload)
{
    if (upload->number == 0 && upload->under_way > 0)
        return;
    while (upload->number < upload->sent && upload->under_way < DISCARD_WINDOW) {
        struct job *job = piece_job(upload, REQUEST_DELETE, upload->number);
        if (job == NULL)
            upload->number = upload->sent; /* The collector will find the rest. */
        if (job == NULL)
            break;
        upload->number++;
        upload->under_way++;
        worker_submit(upload->worker, job);
    }
    if (upload->number == upload->sent && upload->under_way == 0)
        close_upload(upload);
}

static void go_on(struct upload *upload)
{
    switch (upload->phase) {
    case UPLOAD_TAKING:
        if (upload->rewrite != NULL)
            rewrite_pump(upload->rewrite);
        else if (upload->job->connection != NULL)
            connection_set_due(upload->job->connection);
        break;
    case UPLOAD_ENDING:
        if (upload->under_way == 0)
            commit(upload);
        break;
    case UPLOAD_COMMITTING:
        break;
    case UPLOAD_DISCARDING:
        go_on_discarding(upload);
        break;
    }
}

/* Of a value that was replaced just now the space comes back soon (recovery/collect.h): until then
 * a store that holds little else is not full. */
static bool may_try_again(struct upload *upload, const struct job *job)
{
    uint64_t now_us = upload->worker->mono_us;
    bool full = job->request.type == REQUEST_SET && job->outcome == OUTCOME_NO_MEMORY;
    if (!full)
        upload->full_since_us = 0;
    else if (upload->full_since_us == 0)
        upload->full_since_us = now_us;
    return full && upload->outcome == OUTCOME_STORED && upload->phase < UPLOAD_COMMITTING &&
           now_us - upload->full_since_us < FULL_PATIENCE_US;
}

static void try_again(struct worker *worker)
{
    if (worker->pieces_again.count == 0 || worker->mono_us - worker->again_us < TICK_US)
        return;
    struct job_queue again = worker->pieces_again;
    worker->pieces_again = (struct job_queue){.first = NULL};
    worker->again_us = worker->mono_us;
    for (struct job *job; (job = job_queue_take(&again)) != NULL;) {
        job->done = job->answered = false;
        worker->pieces_out++;
        worker_submit(worker, job);
    }
}

static void on_piece(struct worker *worker, struct job *job)
{
    struct upload *upload = job->upload;
    if (job->rewrite != NULL) {
        rewrite_on_job(job->rewrite, job);
        return;
    }
    if (job->request.type == REQUEST_SET)
        worker->pieces_out--;
    if (may_try_again(upload, job)) {
        job_queue_put(&worker->pieces_again, job);
        return;
    }
    upload->under_way--;
    /* Of a piece it may be unknown what becomes of it: the value stays what it was. */
    if (job->request.type == REQUEST_SET && job->outcome != OUTCOME_STORED &&
        upload->outcome == OUTCOME_STORED)
        upload->outcome = job->outcome == OUTCOME_UNKNOWN ? OUTCOME_REFUSED : job->outcome;
    job_give(&worker->jobs, job);
    set_due(upload);
}

/* One round only: what becomes due meanwhile waits for the next turn. */
void large_run_due(struct worker *worker)
{
    struct job_queue pieces = worker->pieces_done, rewrites = worker->rewrites_due;
    worker->pieces_done = worker->rewrites_due = (struct job_queue){.first = NULL};
    for (struct job *job; (job = job_queue_take(&pieces)) != NULL;)
        on_piece(worker, job);
    try_again(worker);
    send_pieces(worker);
    for (struct job *job; (job = job_queue_take(&rewrites)) != NULL;)
        rewrite_begin(worker, job);
    struct upload *due = worker->uploads_due;
    worker->uploads_due = NULL;
    for (struct upload *upload = due, *next; upload != NULL; upload = next) {
        next = upload->next_due;
        upload->is_due = false;
        go_on(upload);
    }
}

void large_close(struct worker *worker)
{
    for (struct job *job; (job = job_queue_take(&worker->pieces_again)) != NULL;)
        job_give(&worker->jobs, job);
    for (struct job *job; (job = job_queue_take(&worker->pieces_waiting)) != NULL;)
        job_give(&worker->jobs, job);
    for (struct job *job; (job = job_queue_take(&worker->pieces_done)) != NULL;)
        job_give(&worker->jobs, job);
    for (struct job *job; (job = job_queue_take(&worker->rewrites_due)) != NULL;)
        job_give(&worker->jobs, job);
    while (worker->rewrites != NULL) {
        job_give(&worker->jobs, rewrite_job(worker->rewrites));
        rewrite_close(worker->rewrites);
    }
    while (worker->uploads != NULL) {
        struct upload *upload = worker->uploads;
        if (upload->phase == UPLOAD_ENDING && upload->rewrite == NULL)
            job_give(&worker->jobs, upload->job);
        upload->under_way = 0;
        upload->is_due = false;
        close_upload(upload);
    }
}
