/* The client's side of a dump: asks for slices, one at a time, as long as the client takes them. */
#include <stdlib.h>

#include "base/log.h"
#include "server/connection.h"
#include "server/node.h"
#include "server/worker.h"

enum { BYTES_MAX = 256 << 10 }; /* of slices that the client has not taken */

struct dump {
    struct dump_slice slice; /* the next one */
    unsigned shard;
    bool exclusive; /* of those of which there is one in the process */
    bool failed;    /* no memory for a slice */
    uint64_t taken_us;
    uint32_t *sizes; /* DUMP_SIZES: items in each slot */
};

enum reply connection_dump_begin(struct connection *connection, enum dump_format format,
                                 uint64_t limit)
{
    struct node *node = connection->worker->node;
    struct dump *dump = calloc(1, sizeof(*dump));
    if (dump == NULL)
        return REPLY_NO_MEMORY_STATS;
    dump->slice = (struct dump_slice){.format = (uint8_t)format, .left = limit};
    dump->exclusive = format == DUMP_META || format == DUMP_MG;
    dump->taken_us = connection->worker->mono_us;
    if (format == DUMP_SIZES)
        dump->sizes = calloc(DUMP_SIZE_SLOTS, sizeof(dump->sizes[0]));
    if (format == DUMP_SIZES && dump->sizes == NULL) {
        free(dump);
        return REPLY_NO_MEMORY_STATS;
    }
    if (dump->exclusive && atomic_exchange(&node->dumping, true)) {
        free(dump);
        return REPLY_CRAWLER_BUSY;
    }
    if (dump->exclusive) {
        connection->worker->dumper = connection;
        atomic_fetch_add_explicit(&node->dump_count, 1, memory_order_relaxed);
        connection_answer_line(connection, REPLY_OK, false);
    }
    connection->dump = dump;
    connection_set_due(connection);
    return REPLY_COUNT;
}

void connection_dump_close(struct connection *connection)
{
    struct dump *dump = connection->dump;
    if (dump == NULL)
        return;
    if (dump->exclusive) {
        connection->worker->dumper = NULL;
        atomic_store(&connection->worker->node->dumping, false);
    }
    free(dump->sizes);
    free(dump);
    connection->dump = NULL;
}

static void count_sizes(struct dump *dump, struct job *job)
{
    for (uint32_t at = 0; at < job->value_size; at += (uint32_t)sizeof(uint32_t)) {
        uint32_t slot;
        memcpy(&slot, job->value + at, sizeof(slot));
        dump->sizes[slot]++;
    }
    job->value_size = 0;
}

void connection_dump_take(struct connection *connection, struct job *job)
{
    struct dump *dump = connection->dump;
    dump->slice = job->slice;
    dump->failed = job->lost;
    if (dump->sizes != NULL)
        count_sizes(dump, job);
    if (job->slice.ended) {
        dump->shard++;
        dump->slice.position = 0;
        dump->slice.ended = false;
    }
}

bool connection_dump_has_room(const struct connection *connection)
{
    return connection->bytes < BYTES_MAX;
}

bool connection_dump_is_stuck(const struct connection *connection, uint64_t now_us,
                              uint64_t after_us)
{
    return connection->dump != NULL && now_us - connection->dump->taken_us > after_us;
}

static void answer_sizes(struct connection *connection)
{
    enum { LINE_SIZE_MAX = 40 };
    const struct dump *dump = connection->dump;
    struct job *job = connection_new_job(connection, JOB_TEXT);
    uint32_t lines = 0, used = 0;
    for (uint32_t slot = 0; slot < DUMP_SIZE_SLOTS; slot++)
        lines += dump->sizes[slot] > 0;
    if (job == NULL || !job_reserve(job, lines * LINE_SIZE_MAX)) {
        connection->broken = true;
        if (job != NULL)
            job_give(&connection->worker->jobs, job);
        return;
    }
    for (uint32_t slot = 0; slot < DUMP_SIZE_SLOTS; slot++) {
        if (dump->sizes[slot] > 0)
            used += (uint32_t)snprintf((char *)job->value + used, lines * LINE_SIZE_MAX - used,
                                       "STAT %llu %u\r\n", (unsigned long long)dump_slot_size(slot),
                                       dump->sizes[slot]);
    }
    job->value_size = used;
    job->done = true;
    connection_append(connection, job);
}

static void end(struct connection *connection)
{
    enum dump_format format = (enum dump_format)connection->dump->slice.format;
    if (format == DUMP_SIZES)
        answer_sizes(connection);
    connection_answer_line(connection, format == DUMP_MG ? REPLY_EN : REPLY_END, false);
    connection_dump_close(connection);
    connection->barrier = COMMAND_COUNT;
}

void connection_dump_go_on(struct connection *connection)
{
    struct dump *dump = connection->dump;
    if (dump->failed) {
        log_warn("a dump of keys was ended: no memory for the next of them");
        connection->broken = true;
        return;
    }
    if (!connection_dump_has_room(connection))
        return;
    dump->taken_us = connection->worker->mono_us;
    if (dump->shard == connection->worker->node->worker_count || dump->slice.left == 0) {
        end(connection);
        return;
    }
    struct job *job = connection_new_job(connection, JOB_DUMP);
    if (job == NULL)
        return;
    job->owner = (uint16_t)dump->shard;
    job->slice = dump->slice;
    connection_submit(connection, job);
}
