/* Answers with a value that lies in pieces. */
#include <stdlib.h>

#include "base/log.h"
#include "server/connection.h"
#include "server/large.h"
#include "server/worker.h"

struct download {
    struct manifest manifest;
    struct slice tail;
    uint64_t hash;    /* of the client's key */
    uint32_t number;  /* next piece to ask for */
    struct job *last; /* the newest body, or the head */
    uint64_t claimed; /* memory for all that it has at once */
};

/* Asks for the next piece, behind the last one. False: no memory. */
static bool add_body(struct connection *connection, struct download *download)
{
    uint8_t key[PIECE_KEY_SIZE];
    piece_key(download->manifest.upload, download->number, key);
    struct job *job =
        large_job(connection->worker, REQUEST_GET, slice_make(key, sizeof(key)), download->hash);
    if (job == NULL)
        return false;
    job->kind = JOB_BODY;
    job->memory = NULL; /* download_claim has it */
    job->body_size = piece_size(download->manifest.size, download->number);
    job->line_number = download->last->line_number;
    job->download = download;
    download->number++;
    connection_insert(connection, download->last, job);
    download->last = job;
    worker_submit(connection->worker, job);
    return true;
}

static bool is_complete(const struct download *download)
{
    return download->number == piece_count(download->manifest.size);
}

bool download_claim(struct connection *connection, struct job *job)
{
    struct download *download = calloc(1, sizeof(*download));
    if (download == NULL)
        return false;
    download->manifest = manifest_of(slice_make(job->value, job->value_size));
    if (download->manifest.size == 0) { /* no manifest: nothing that could be sent */
        log_error("a large value has no manifest");
        free(download);
        return false;
    }
    download->hash = job->request.hash;
    download->last = job;
    download->claimed = (uint64_t)DOWNLOAD_WINDOW * PIECE_SIZE;
    if (!job_memory_take(connection->worker->jobs.memory, download->claimed)) {
        free(download);
        return false;
    }
    connection->download = download;
    return true;
}

bool download_begin(struct connection *connection, struct slice tail)
{
    struct download *download = connection->download;
    download->tail = tail;
    for (unsigned i = 0; i < DOWNLOAD_WINDOW && !is_complete(download); i++)
        if (!add_body(connection, download))
            return false;
    return true;
}

bool download_continues(const struct job *job)
{
    return job->download != NULL && job == job->download->last && !is_complete(job->download);
}

/* What cannot be sent any more ends the connection: the client was promised so many bytes. */
void download_format(struct connection *connection, struct job *job)
{
    struct slice bytes = piece_bytes(slice_make(job->value, job->value_size));
    if (job->outcome != OUTCOME_HIT || job->lost || bytes.size != job->body_size) {
        log_info("a large value was gone before its reader had taken it; the connection ends");
        counters_add(&connection->worker->counters, COUNTER_large_reads_cut, 1);
        connection->broken = true;
        return;
    }
    job->value_size = 0;
    job->head = bytes.data;
    job->head_size = (uint32_t)bytes.size;
    if (job == job->download->last && is_complete(job->download)) {
        job->tail = job->download->tail.data;
        job->tail_size = (uint32_t)job->download->tail.size;
    }
}

void download_sent(struct connection *connection, struct job *job)
{
    struct download *download = job->download;
    if (job == download->last) {
        download_close(connection);
        return;
    }
    if (!is_complete(download) && !add_body(connection, download))
        connection->broken = true;
}

void download_close(struct connection *connection)
{
    struct download *download = connection->download;
    if (download == NULL)
        return;
    job_memory_give(connection->worker->jobs.memory, download->claimed);
    free(download);
    connection->download = NULL;
}
