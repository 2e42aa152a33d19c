/* sasl_desk.h: where logins wait for libsasl2. It may ask somebody else (saslauthd, a directory)
 * and take seconds; a worker that waited so long would be missed by the other nodes, so threads of
 * their own do. */
#ifndef SERVER_SASL_DESK_H
#define SERVER_SASL_DESK_H

#include <pthread.h>
#include <stdbool.h>

#include "server/mailbox.h"
#include "server/sasl.h"

struct job;

enum { SASL_DESK_THREADS = 4 };

/* One step of a dialogue. Whoever has it has its dialogue and its job, too. */
struct sasl_call {
    struct sasl_call *next;
    struct mailbox *home;
    struct job *job; /* the desk does not look at it */
    struct sasl_dialogue *dialogue;
    bool begins; /* else: a step of `dialogue` */
    struct slice mechanism, data;
    enum sasl_verdict verdict;
    struct slice answer; /* good until the dialogue's next call */
};

struct sasl_desk {
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t wake;
    struct sasl_call *first, **end;
    pthread_t threads[SASL_DESK_THREADS];
    unsigned thread_count, busy_count;
    bool stopping;
};

/* Starts the threads: not before the process has become a daemon. */
enum status sasl_desk_open(struct sasl_desk *desk) MUST_CHECK;

/* The call comes back as LETTER_SASL to its home. Any thread. */
void sasl_desk_ask_any(struct sasl_desk *desk, struct sasl_call *call);

/* Nobody is waited for: what is under way ends with the process. False: a thread is still inside
 * libsasl2, which must stay open. */
bool sasl_desk_close(struct sasl_desk *desk);

#endif
