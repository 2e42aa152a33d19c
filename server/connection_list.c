/* stats conns: the clients of a worker, some at a time: asking the kernel for addresses takes time.
 */
#include <stdio.h>

#include "server/connection.h"
#include "server/endpoint.h"
#include "server/worker.h"

enum { SLICE_COUNT = 128, LINES_SIZE_MAX = 512 };

static const char *state_of(const struct connection *connection)
{
    if (connection->watcher != NULL)
        return "conn_watch";
    if (connection->dump != NULL || connection->barrier != COMMAND_COUNT)
        return "conn_parse_cmd";
    if (connection->value_job != NULL)
        return "conn_nread";
    return connection->first != NULL ? "conn_mwrite" : "conn_read";
}

static uint32_t put_lines(char *out, const struct connection *connection)
{
    struct endpoint peer, own;
    char peer_text[ENDPOINT_TEXT_SIZE], own_text[ENDPOINT_TEXT_SIZE];
    int fd = connection->stream.fd;
    uint64_t quiet_us = connection->worker->mono_us - connection->heard_us;
    endpoint_of_peer(fd, &peer);
    endpoint_of_listener(fd, &own);
    return (uint32_t)snprintf(out, LINES_SIZE_MAX,
                              "STAT %d:addr %s\r\nSTAT %d:listen_addr %s\r\nSTAT %d:state %s\r\n"
                              "STAT %d:secs_since_last_cmd %llu\r\n",
                              fd, endpoint_print(&peer, peer_text), fd,
                              endpoint_print(&own, own_text), fd, state_of(connection), fd,
                              (unsigned long long)(quiet_us / 1000000));
}

/* The newest come first in the list, so the number of the last one says where to go on, whoever
 * comes and goes. */
void connection_list_slice(struct worker *worker, struct job *job)
{
    uint64_t below = job->slice.position == 0 ? UINT64_MAX : job->slice.position;
    uint32_t used = 0, count = 0;
    job->lost = !job_reserve(job, SLICE_COUNT * LINES_SIZE_MAX);
    if (job->lost)
        return;
    job->slice.ended = true;
    for (const struct connection *at = worker->connections; at != NULL; at = at->next) {
        if (at->number >= below || stream_is_datagram(&at->stream))
            continue;
        if (count++ == SLICE_COUNT) {
            job->slice.ended = false;
            break;
        }
        used += put_lines((char *)job->value + used, at);
        job->slice.position = at->number;
    }
    job->value_size = used;
}
