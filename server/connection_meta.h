/* connection_meta.h: meta commands on a connection. For connection_command.c, connection_write.c
 * and tally.c. */
#ifndef SERVER_CONNECTION_META_H
#define SERVER_CONNECTION_META_H

#include "server/connection.h"

/* Fills in what the flags say; key, command and owner are there. `now` in seconds. */
void connection_meta_fill(struct job *job, const struct text_request *request, uint32_t now);

/* The answer to a meta command that has come back. */
void connection_meta_format(struct connection *connection, struct job *job);

#endif
