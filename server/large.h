/* large.h: values above LARGE_VALUE_MIN, which lie in pieces (replica/piece.h). The worker's own
 * thread.
 *
 * Storing: the connection gives the bytes of the data block to an upload, which sends piece after
 * piece to the shard of the key, a few at a time; when all are stored, the client's job goes there
 * with the manifest as its value. An upload that ends otherwise deletes its pieces.
 *
 * Reading: the answer to a get that found a manifest is followed by the bodies: jobs that fetch one
 * piece each, two at a time, in the list of the connection, so that a slow reader holds no more.
 *
 * append and prepend to such a value are a rewrite: the old value and the new bytes are copied to
 * an upload, and the manifest is exchanged by a cas, again if the value has changed meanwhile. */
#ifndef SERVER_LARGE_H
#define SERVER_LARGE_H

#include <stdbool.h>
#include <stdint.h>

#include "replica/piece.h"
#include "server/job.h"

struct connection;
struct node;
struct rewrite;
struct worker;

enum {
    UPLOAD_WINDOW = 2, /* pieces of one upload on their way; with 4 it is no faster, and others wait
                          for longer */
    PIECES_OUT_MAX =
        4, /* pieces of all uploads of a worker: what others do must not wait behind dozens */
    FULL_PATIENCE_US = 500000, /* a full store is asked again for so long */
    DISCARD_WINDOW = 8,        /* deletes of one upload on their way */
    DOWNLOAD_WINDOW = 2, /* pieces of one answer: one is sent while the next is copied; more do not
                            fit the cache */
};

enum upload_phase {
    UPLOAD_TAKING,     /* bytes are coming */
    UPLOAD_ENDING,     /* all were given; pieces are on their way */
    UPLOAD_COMMITTING, /* the manifest is on its way */
    UPLOAD_DISCARDING, /* its pieces are being deleted */
};

struct upload {
    struct upload *next, *previous; /* of the worker's, newest first */
    struct upload *next_due;
    struct worker *worker;
    struct job *job;         /* of the client; NULL: nobody waits for this upload */
    struct rewrite *rewrite; /* or NULL */
    struct job *piece;       /* being filled; NULL: none */
    uint32_t filled;
    uint32_t head_size; /* of a piece's value */
    uint32_t number;    /* next piece to send; discarding: to delete */
    uint32_t under_way;
    uint32_t sent;          /* pieces that were sent at all */
    uint64_t full_since_us; /* no piece has found room; 0: the last one has */
    enum upload_phase phase;
    enum outcome outcome; /* STORED until a piece says otherwise */
    bool is_due;
    struct manifest manifest;
    uint64_t hash; /* of the client's key */
    uint8_t key[RECORD_CLIENT_KEY_SIZE_MAX];
    uint8_t key_size;
};

/* An upload of `size` bytes for the key of `job`, which it will submit (upload_end) or which gets
 * its outcome. NULL: no memory. */
struct upload *upload_open(struct worker *worker, struct job *job, uint64_t size);

bool upload_has_room(const struct upload *upload);

/* Where the next bytes go, and how many at most; 0: not now, the connection is made due when there
 * is room again. After a failure the bytes go nowhere, but are taken all the same. */
uint8_t *upload_room(struct upload *upload, uint32_t *size);
void upload_taken(struct upload *upload, uint32_t size);

/* All bytes were given and the data block is good. */
void upload_end(struct upload *upload);

/* The data block was bad, or the client is gone: its job is the caller's again. */
void upload_abandon(struct upload *upload);

/* The job that carried the manifest, or whose pieces failed, is back with this outcome. The upload
 * is gone, or deletes what is nobody's. */
void upload_over(struct upload *upload, enum outcome outcome);

/* Any JOB_PIECE is back. May be called while the shard steps: it only notes it. */
void large_done(struct worker *worker, struct job *job);

/* An append or prepend that the core leaves to us: only noted, as above. */
void large_rewrite(struct worker *worker, struct job *job);

/* Goes on with all that was noted. */
void large_run_due(struct worker *worker);

/* Uploads of this node below it are over; any thread. */
uint64_t large_floor_any(struct node *node);

/* The worker stops: frees everything; what is stored in pieces is left to the others, or to the
 * next start. */
void large_close(struct worker *worker);

/* ---- large_rewrite.c */

void rewrite_begin(struct worker *worker, struct job *job);
void rewrite_on_job(struct rewrite *rewrite, struct job *job); /* a JOB_PIECE of it is back */
void rewrite_pump(struct rewrite *rewrite);                    /* its upload went on */
void rewrite_close(struct rewrite *rewrite);
struct job *rewrite_job(const struct rewrite *rewrite); /* the client's */

/* Its answer may be long in coming, and what the client sends behind it must wait for that. */
static inline bool request_may_be_rewritten(const struct request *request)
{
    return request_extends(request->type);
}

/* large.c for it: a job that is not the client's, to the owner of `hash`. NULL: no memory. */
struct job *large_job(struct worker *worker, enum request_type type, struct slice key,
                      uint64_t hash);

/* ---- large_read.c: called by what formats answers */

/* The answer to `job` is to hold a large value (job->large). False: no memory for its pieces, and
 * another answer must be given. True: download_begin must follow. */
bool download_claim(struct connection *connection, struct job *job);

/* What was formatted is its head, what follows the value is `tail`. False: no memory. */
bool download_begin(struct connection *connection, struct slice tail);

/* A body is to be sent, or was sent. */
void download_format(struct connection *connection, struct job *job);
void download_sent(struct connection *connection, struct job *job);

/* More bodies come behind this one. */
bool download_continues(const struct job *job);
void download_close(struct connection *connection);

/* Bytes of the client's value in the answer `job`. */
static inline uint64_t job_client_size(const struct job *job)
{
    return job->large ? manifest_of(slice_make(job->value, job->value_size)).size : job->value_size;
}

#endif
