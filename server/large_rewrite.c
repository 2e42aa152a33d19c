/* append and prepend to a value that lies in pieces, or comes to. */
#include <stdlib.h>

#include "base/hash.h"
#include "server/connection.h"
#include "server/large.h"
#include "server/node.h"
#include "server/worker.h"

/* One half of the new value. */
struct part {
    const uint8_t *bytes; /* NULL: in pieces */
    struct manifest manifest;
    uint64_t size, copied;
};

enum rewrite_phase { REWRITE_READING, REWRITE_COPYING, REWRITE_STORING };

struct rewrite {
    struct rewrite *next, *previous; /* of the worker's */
    struct worker *worker;
    struct job *job;       /* the client's */
    struct job *old;       /* what was there */
    struct upload *upload; /* the new value; NULL: not begun */
    struct part parts[2];
    unsigned part;       /* being copied */
    struct job *fetched; /* a piece of it */
    bool fetching;
    bool no_memory;
    enum rewrite_phase phase;
};

static void submit(struct rewrite *rewrite, struct job *job)
{
    job->rewrite = rewrite;
    worker_submit(rewrite->worker, job);
}

static void give(struct rewrite *rewrite, struct job **job)
{
    if (*job != NULL)
        job_give(&rewrite->worker->jobs, *job);
    *job = NULL;
}

static void link_rewrite(struct rewrite *rewrite)
{
    rewrite->next = rewrite->worker->rewrites;
    if (rewrite->next != NULL)
        rewrite->next->previous = rewrite;
    rewrite->worker->rewrites = rewrite;
}

static void unlink_rewrite(struct rewrite *rewrite)
{
    if (rewrite->previous != NULL)
        rewrite->previous->next = rewrite->next;
    else
        rewrite->worker->rewrites = rewrite->next;
    if (rewrite->next != NULL)
        rewrite->next->previous = rewrite->previous;
}

struct job *rewrite_job(const struct rewrite *rewrite)
{
    return rewrite->job;
}

void rewrite_close(struct rewrite *rewrite)
{
    unlink_rewrite(rewrite);
    give(rewrite, &rewrite->old);
    give(rewrite, &rewrite->fetched);
    free(rewrite);
}

/* The client's answer. What it had uploaded itself was copied, or is not wanted. */
static void finish(struct rewrite *rewrite, enum outcome outcome, uint64_t cas)
{
    struct job *job = rewrite->job;
    struct worker *worker = rewrite->worker;
    struct upload *own = job->upload;
    job->outcome = outcome;
    job->answer_cas = cas;
    job->wrote = outcome == OUTCOME_STORED || outcome == OUTCOME_UNKNOWN;
    job->upload = NULL;
    if (own != NULL)
        upload_over(own, OUTCOME_NOT_STORED);
    rewrite_close(rewrite);
    connection_done(worker, job);
}

/* Gives the new value up: what was stored of it goes. */
static void drop_upload(struct rewrite *rewrite)
{
    if (rewrite->upload != NULL)
        upload_abandon(rewrite->upload);
    rewrite->upload = NULL;
}

static void give_up(struct rewrite *rewrite, enum outcome outcome)
{
    drop_upload(rewrite);
    finish(rewrite, outcome, 0);
}

/* The value is another than the one that was to be rewritten, or there is none: the core looks at
 * the client's command again. */
static void start_again(struct rewrite *rewrite)
{
    struct worker *worker = rewrite->worker;
    struct job *job = rewrite->job;
    drop_upload(rewrite);
    rewrite_close(rewrite);
    worker_submit(worker, job);
}

/* ---- reading what is there ---- */

static void read_old(struct rewrite *rewrite)
{
    const struct request *request = &rewrite->job->request;
    struct job *job = large_job(rewrite->worker, REQUEST_GET, request->key, request->hash);
    if (job == NULL) {
        give_up(rewrite, OUTCOME_NO_MEMORY);
        return;
    }
    job->request.options = REQUEST_UNNOTICED;
    submit(rewrite, job);
}

void rewrite_begin(struct worker *worker, struct job *job)
{
    struct rewrite *rewrite = calloc(1, sizeof(*rewrite));
    if (rewrite == NULL) {
        job->outcome = OUTCOME_NO_MEMORY;
        connection_done(worker, job);
        return;
    }
    rewrite->worker = worker;
    rewrite->job = job;
    rewrite->phase = REWRITE_READING;
    link_rewrite(rewrite);
    read_old(rewrite);
}

/* If that is still the value then, it cannot be rewritten. */
static void start_again_without(struct rewrite *rewrite, uint64_t upload)
{
    rewrite->job->missed = upload;
    start_again(rewrite);
}

static struct part part_of(bool large, struct slice value)
{
    if (!large)
        return (struct part){.bytes = value.data, .size = value.size};
    struct manifest manifest = manifest_of(value);
    return (struct part){.manifest = manifest, .size = manifest.size};
}

static void on_old(struct rewrite *rewrite, struct job *old)
{
    struct job *job = rewrite->job;
    rewrite->old = old;
    bool found = old->outcome == OUTCOME_HIT;
    if (old->outcome == OUTCOME_MISS ||
        (found && job->request.compare && old->answer_cas != job->request.cas)) {
        start_again(rewrite);
        return;
    }
    if (!found || old->lost) {
        give_up(rewrite, found ? OUTCOME_NO_MEMORY : old->outcome);
        return;
    }
    bool append = job->request.type == REQUEST_APPEND;
    rewrite->parts[!append] = part_of(old->large, slice_make(old->value, old->value_size));
    rewrite->parts[append] = part_of(job->request.large, job->request.value);
    uint64_t size = rewrite->parts[0].size + rewrite->parts[1].size;
    if (!text_item_fits(rewrite->worker->node->options.item_size_max, job->request.key.size,
                        old->answer_flags, size)) {
        give_up(rewrite, OUTCOME_TOO_LARGE);
        return;
    }
    rewrite->upload = upload_open(rewrite->worker, job, size);
    if (rewrite->upload == NULL) {
        give_up(rewrite, OUTCOME_NO_MEMORY);
        return;
    }
    rewrite->upload->rewrite = rewrite;
    rewrite->phase = REWRITE_COPYING;
    rewrite_pump(rewrite);
}

/* ---- copying ---- */

static void fetch(struct rewrite *rewrite, const struct part *part)
{
    const struct request *request = &rewrite->job->request;
    uint8_t key[PIECE_KEY_SIZE];
    piece_key(part->manifest.upload, (uint32_t)(part->copied / PIECE_SIZE), key);
    struct job *job =
        large_job(rewrite->worker, REQUEST_GET, slice_make(key, sizeof(key)), request->hash);
    rewrite->fetching = job != NULL;
    rewrite->no_memory = job == NULL;
    if (job != NULL)
        submit(rewrite, job);
}

/* The next bytes of the part that are here; of size 0: a piece has to be fetched. */
static struct slice at_hand(const struct rewrite *rewrite, const struct part *part)
{
    if (part->bytes != NULL)
        return slice_make(part->bytes + part->copied, part->size - part->copied);
    if (rewrite->fetched == NULL)
        return slice_make(NULL, 0);
    struct slice piece =
        piece_bytes(slice_make(rewrite->fetched->value, rewrite->fetched->value_size));
    size_t begin = part->copied % PIECE_SIZE;
    return slice_make((const uint8_t *)piece.data + begin, piece.size - begin);
}

/* False: nothing more can be copied now. */
static bool copy_some(struct rewrite *rewrite)
{
    struct part *part = &rewrite->parts[rewrite->part];
    uint32_t room;
    if (part->copied == part->size) {
        give(rewrite, &rewrite->fetched);
        return ++rewrite->part < 2;
    }
    struct slice bytes = at_hand(rewrite, part);
    if (bytes.size == 0) {
        if (!rewrite->fetching)
            fetch(rewrite, part);
        return false;
    }
    uint8_t *to = upload_room(rewrite->upload, &room);
    if (to == NULL)
        return false;
    if (room > bytes.size)
        room = (uint32_t)bytes.size;
    memcpy(to, bytes.data, room);
    upload_taken(rewrite->upload, room);
    part->copied += room;
    if (part->bytes == NULL && part->copied % PIECE_SIZE == 0)
        give(rewrite, &rewrite->fetched);
    return true;
}

/* A piece of the client's own upload, which this node holds until it is over. */
static bool is_own(const struct rewrite *rewrite, const struct part *part)
{
    const struct upload *own = rewrite->job->upload;
    return own != NULL && part->manifest.upload == own->manifest.upload;
}

/* A piece of the old value that has gone: it was replaced meanwhile. An own one can go only while
 * this node is out of the group. */
static void on_fetched(struct rewrite *rewrite, struct job *job)
{
    const struct part *part = &rewrite->parts[rewrite->part];
    uint32_t wanted = piece_size(part->manifest.size, (uint32_t)(part->copied / PIECE_SIZE));
    bool whole = job->outcome == OUTCOME_HIT && !job->lost &&
                 piece_bytes(slice_make(job->value, job->value_size)).size == wanted;
    rewrite->fetching = false;
    rewrite->fetched = job;
    if (whole)
        rewrite_pump(rewrite);
    else if (job->lost)
        give_up(rewrite, OUTCOME_NO_MEMORY);
    else if (job->outcome != OUTCOME_MISS || is_own(rewrite, part) ||
             rewrite->job->missed == part->manifest.upload)
        give_up(rewrite, OUTCOME_REFUSED);
    else
        start_again_without(rewrite, part->manifest.upload);
}

/* ---- storing ---- */

static void store(struct rewrite *rewrite)
{
    const struct request *request = &rewrite->job->request;
    const struct upload *upload = rewrite->upload;
    rewrite->phase = REWRITE_STORING;
    if (upload->outcome != OUTCOME_STORED) {
        give_up(rewrite, upload->outcome);
        return;
    }
    struct job *job = large_job(rewrite->worker, request->type, request->key, request->hash);
    if (job == NULL) {
        give_up(rewrite, OUTCOME_NO_MEMORY);
        return;
    }
    job->request.whole = job->request.compare = job->request.large = true;
    job->request.cas = rewrite->old->answer_cas;
    job->request.value = slice_make(&upload->manifest, sizeof(upload->manifest));
    job->request.options = request->options;
    job->request.new_cas = request->new_cas;
    submit(rewrite, job);
}

static void on_stored(struct rewrite *rewrite, struct job *job)
{
    enum outcome outcome = job->outcome;
    uint64_t cas = job->answer_cas;
    rewrite->job->request.seen = job->request.seen;
    upload_over(rewrite->upload, outcome);
    rewrite->upload = NULL;
    job_give(&rewrite->worker->jobs, job);
    if (outcome == OUTCOME_EXISTS || outcome == OUTCOME_NOT_STORED)
        start_again(rewrite); /* It has changed meanwhile. */
    else
        finish(rewrite, outcome, cas);
}

void rewrite_pump(struct rewrite *rewrite)
{
    if (rewrite->phase == REWRITE_COPYING && rewrite->upload->phase == UPLOAD_COMMITTING) {
        store(rewrite);
        return;
    }
    if (rewrite->phase != REWRITE_COPYING || rewrite->upload->phase != UPLOAD_TAKING)
        return;
    while (copy_some(rewrite))
        ;
    if (rewrite->no_memory)
        give_up(rewrite, OUTCOME_NO_MEMORY);
    else if (rewrite->part == 2)
        upload_end(rewrite->upload);
}

void rewrite_on_job(struct rewrite *rewrite, struct job *job)
{
    switch (rewrite->phase) {
    case REWRITE_READING:
        on_old(rewrite, job);
        break;
    case REWRITE_COPYING:
        on_fetched(rewrite, job);
        break;
    case REWRITE_STORING:
        on_stored(rewrite, job);
        break;
    }
}
