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

void rewrite_close(struct rewrite *rewrite)
{
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
    job->upload = NULL;
    if (own != NULL)
        upload_over(own, &(struct job){.outcome = OUTCOME_NOT_STORED});
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

/* ---- reading what is there
 * ------------------------------------------------------------------------------- */

static void read_old(struct rewrite *rewrite)
{
    const struct request *request = &rewrite->job->request;
    struct job *job = large_job(rewrite->worker, REQUEST_GET, request->key, request->hash);
    give(rewrite, &rewrite->old);
    rewrite->phase = REWRITE_READING;
    rewrite->part = 0;
    if (job == NULL)
        give_up(rewrite, OUTCOME_NO_MEMORY);
    else
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
    read_old(rewrite);
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
    if (old->outcome == OUTCOME_MISS || old->lost || old->outcome != OUTCOME_HIT) {
        give_up(rewrite, old->outcome == OUTCOME_MISS ? OUTCOME_NOT_STORED
                         : old->lost                  ? OUTCOME_NO_MEMORY
                                                      : old->outcome);
        return;
    }
    if (job->request.compare && old->answer_cas != job->request.cas) {
        give_up(rewrite, OUTCOME_EXISTS);
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

/* ---- copying
 * --------------------------------------------------------------------------------------------- */

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

/* A piece that has gone: the value was replaced meanwhile. */
static void on_fetched(struct rewrite *rewrite, struct job *job)
{
    const struct part *part = &rewrite->parts[rewrite->part];
    uint32_t wanted = piece_size(part->manifest.size, (uint32_t)(part->copied / PIECE_SIZE));
    rewrite->fetching = false;
    rewrite->fetched = job;
    if (job->outcome == OUTCOME_HIT && !job->lost &&
        piece_bytes(slice_make(job->value, job->value_size)).size == wanted) {
        rewrite_pump(rewrite);
        return;
    }
    enum outcome outcome = job->lost ? OUTCOME_NO_MEMORY : job->outcome;
    give(rewrite, &rewrite->fetched);
    drop_upload(rewrite);
    if (outcome == OUTCOME_MISS &&
        part->manifest.upload != manifest_of(rewrite->job->request.value).upload)
        read_old(rewrite);
    else
        finish(rewrite, outcome == OUTCOME_MISS ? OUTCOME_NOT_STORED : outcome, 0);
}

/* ---- storing
 * --------------------------------------------------------------------------------------------- */

static void store(struct rewrite *rewrite)
{
    const struct request *request = &rewrite->job->request;
    const struct upload *upload = rewrite->upload;
    rewrite->phase = REWRITE_STORING;
    if (upload->outcome != OUTCOME_STORED) {
        enum outcome outcome = upload->outcome;
        upload_over(rewrite->upload, &(struct job){.outcome = OUTCOME_NOT_STORED});
        finish(rewrite, outcome, 0);
        return;
    }
    struct job *job = large_job(rewrite->worker, REQUEST_CAS, request->key, request->hash);
    if (job == NULL) {
        upload_over(rewrite->upload, &(struct job){.outcome = OUTCOME_NOT_STORED});
        finish(rewrite, OUTCOME_NO_MEMORY, 0);
        return;
    }
    job->request.cas = rewrite->old->answer_cas;
    job->request.client_flags = rewrite->old->answer_flags;
    job->request.exptime = rewrite->old->answer_exptime;
    job->request.value = slice_make(&upload->manifest, sizeof(upload->manifest));
    job->request.large = true;
    job->request.options = request->options & (REQUEST_SETS_CAS | REQUEST_KEY_BASE64);
    job->request.new_cas = request->new_cas;
    submit(rewrite, job);
}

static void on_stored(struct rewrite *rewrite, struct job *job)
{
    enum outcome outcome = job->outcome;
    uint64_t cas = job->answer_cas;
    rewrite->job->request.seen.value_size = (uint32_t)rewrite->upload->manifest.size;
    upload_over(rewrite->upload, job);
    rewrite->upload = NULL;
    job_give(&rewrite->worker->jobs, job);
    if (outcome == OUTCOME_EXISTS)
        read_old(rewrite); /* It has changed meanwhile. */
    else
        finish(rewrite, outcome == OUTCOME_NOT_FOUND ? OUTCOME_NOT_STORED : outcome, cas);
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
