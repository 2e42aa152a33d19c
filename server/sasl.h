/* sasl.h: SASL of clients (-S), through libsasl2; the only face of that library. Its server name is
 * "memcached": it reads memcached.conf in the directories of SASL_CONF_PATH, or in its own ones.
 *
 * A dialogue belongs to one connection, or to the thread that asks for it (sasl_desk.h): to begin
 * one or to make a step may take seconds. */
#ifndef SERVER_SASL_H
#define SERVER_SASL_H

#include "base/slice.h"
#include "base/status.h"

struct auth;
struct sasl_dialogue;

/* Once in the process, before any thread. A pair that `auth` says is right is right for PLAIN, too.
 * Otherwise the reason was logged. */
enum status sasl_open(struct auth *auth) MUST_CHECK;
void sasl_close(void);

enum sasl_verdict {
    SASL_ACCEPTED,
    SASL_CONTINUES, /* *answer goes to the client, who then makes the next step */
    SASL_REFUSED,
};

/* Begins anew, whatever came before. *dialogue: the connection's, NULL at first; *answer is good
 * until the next call. */
enum sasl_verdict sasl_begin(struct sasl_dialogue **dialogue, struct slice mechanism,
                             struct slice data, struct slice *answer);

/* SASL_REFUSED, too, if nothing was begun or it has ended. */
enum sasl_verdict sasl_step(struct sasl_dialogue *dialogue, struct slice data,
                            struct slice *answer);

/* The mechanisms' names with spaces between them; empty: none can be had. */
struct slice sasl_mechanisms(struct sasl_dialogue **dialogue);

void sasl_end(struct sasl_dialogue *dialogue); /* NULL is allowed */

#endif
