/* connection_binary.h: what connection_read.c and connection_write.c need of a connection that
 * speaks the binary protocol. The worker's own thread. */
#ifndef SERVER_CONNECTION_BINARY_H
#define SERVER_CONNECTION_BINARY_H

#include "server/connection.h"

/* One event of the parser. False: it needs more bytes, or the request has to wait. */
bool connection_binary_parse(struct connection *connection, struct slice input, size_t *consumed);

/* A whole answer with a body, which is copied. */
void connection_binary_answer(struct connection *connection, const struct binary_tag *tag,
                              enum binary_status status, struct slice body);

/* Nothing is under way any more: answers what waited for that. */
void connection_binary_end_barrier(struct connection *connection, enum command command);

/* Makes the answer of a job whose turn it is. */
void connection_binary_format(struct connection *connection, struct job *job);

#endif
