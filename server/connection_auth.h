/* connection_auth.h: what connection_read.c and connection_binary.c need of a client who has to say
 * who he is. The worker's own thread. */
#ifndef SERVER_CONNECTION_AUTH_H
#define SERVER_CONNECTION_AUTH_H

#include "server/connection.h"

struct sasl_call;

/* One event of a connection in CONNECTION_LOGIN. False: it needs more bytes. */
bool connection_auth_parse(struct connection *connection, struct slice input, size_t *consumed);

/* Answers the request for the mechanisms' names. */
void connection_auth_list(struct connection *connection, const struct binary_tag *tag);

/* Begins to answer SASL_AUTH or SASL_STEP, whose data is the job's value and whose mechanism is its
 * key, and takes the job. */
void connection_auth_step(struct connection *connection, struct job *job);

/* The step is done. Takes the call. */
void connection_auth_done(struct worker *worker, struct sasl_call *call);

void connection_auth_end(struct connection *connection);

#endif
