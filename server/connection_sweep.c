/* Ends connections that do nothing for too long. */
#include "base/log.h"
#include "server/connection.h"
#include "server/node.h"
#include "server/worker.h"

enum {
    HANDSHAKE_US_MAX = 10000000,
    DUMP_US_MAX = 60000000, /* a list of keys that nobody takes keeps others from having one */
};

static void end(struct connection *connection, enum counter counter)
{
    counters_add(&connection->worker->counters, counter, 1);
    connection->broken = true;
    connection_set_due(connection);
}

/* Nothing of it is under way here, and the client has sent nothing: not even a part of a
 * command. */
static bool is_idle(const struct connection *connection, uint64_t idle_us_max)
{
    return connection->worker->mono_us - connection->heard_us >= idle_us_max &&
           connection->first == NULL && connection->pending_count == 0 &&
           connection->barrier == COMMAND_COUNT && connection->watcher == NULL &&
           !connection->broken && !stream_is_datagram(&connection->stream);
}

static void sweep_dumper(struct worker *worker, uint64_t idle_us_max)
{
    struct connection *connection = worker->dumper;
    uint64_t after_us = idle_us_max > 0 && idle_us_max < DUMP_US_MAX ? idle_us_max : DUMP_US_MAX;
    if (connection == NULL || connection->broken ||
        !connection_dump_is_stuck(connection, worker->mono_us, after_us))
        return;
    log_info("a list of keys is ended: its client has taken nothing for %u seconds",
             (unsigned)(after_us / 1000000));
    end(connection, COUNTER_idle_kicks);
}

/* The newest come first in the list, so that without idle_timeout only they are looked at. */
void connection_sweep(struct worker *worker)
{
    uint64_t idle_us_max = (uint64_t)worker->node->options.idle_timeout_s * 1000000;
    sweep_dumper(worker, idle_us_max);
    for (struct connection *connection = worker->connections; connection != NULL;
         connection = connection->next) {
        uint64_t age_us = worker->mono_us - connection->opened_us;
        if (idle_us_max == 0 && age_us > 2 * HANDSHAKE_US_MAX)
            return;
        if (stream_is_starting(&connection->stream)) {
            if (age_us >= HANDSHAKE_US_MAX && !connection->broken)
                end(connection, COUNTER_ssl_handshake_errors);
        } else if (idle_us_max > 0 && is_idle(connection, idle_us_max)) {
            end(connection, COUNTER_idle_kicks);
        }
    }
}
