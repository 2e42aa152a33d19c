/* job.h: holds an atomic: one command of a client on its way: from its connection to the shard that
 * owns the key, and back.
 *
 * A job belongs to one thread at a time: to its home (the worker of the connection), then, through
 * a ring, to the owner (the worker of the shard), and back. It outlives its connection until the
 * core has answered. */
#ifndef SERVER_JOB_H
#define SERVER_JOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/binary.h"
#include "proto/command.h"
#include "proto/reply.h"
#include "proto/text.h"
#include "replica/request.h"
#include "server/dump.h"

struct connection;
struct download;
struct rewrite;
struct upload;

enum job_kind {
    JOB_REQUEST, /* for the core; `request` is filled in */
    JOB_LINE,    /* the answer is `line`; nothing is to be done */
    JOB_BODY,    /* a piece of a large value, part of the answer before it (server/large.h) */
    JOB_PIECE,   /* a piece of a large value on its way to or from an upload; no answer */
    JOB_TEXT,    /* the answer is the value buffer */
    JOB_FLUSH,   /* this shard's part of a flush_all; no answer of its own */
    JOB_PERSIST, /* this shard's part of a persist; no answer of its own */
    JOB_PUBLISH, /* the owner publishes its numbers; no answer of its own */
    JOB_RESIZE,  /* the owner's log may use `request.exptime` segments; no answer of its own */
    JOB_DUMP,    /* the owner lists some keys: `slice`; the answer is the value buffer */
};

enum { JOB_INLINE_SIZE = 1024 };

struct job {
    struct request request; /* slices point into `key` and `value` */
    struct job *next;       /* in a queue: an outbox, the parked ones, the free ones */

    /* home */
    struct job *next_answer;       /* in the order of the connection */
    struct connection *connection; /* NULL: closed meanwhile, nobody waits for the answer */
    enum command command;
    uint32_t line_number; /* of the client's command: the keys of one get share it */
    uint16_t home, owner; /* worker numbers */
    enum job_kind kind;
    enum reply line;
    struct binary_tag tag; /* binary protocol: this, and: */
    uint8_t binary_base;   /* enum binary_opcode */
    uint8_t binary_status; /* JOB_LINE: enum binary_status, the answer */
    uint8_t key_group;     /* while it is pending (connection.c) */
    bool noreply;
    bool done;     /* back at its home */
    bool answered; /* by its owner */
    bool formatted;
    bool ends_keys;            /* the last key of a get: END follows */
    bool too_large;            /* the delete that a too large set leaves behind */
    bool unstored;             /* the delete that a large set without memory leaves behind */
    struct upload *upload;     /* whose piece, or whose manifest it is; NULL: none */
    struct rewrite *rewrite;   /* whose piece it is; NULL: none */
    uint64_t missed;           /* a rewrite found this upload without a piece; 0: none */
    struct download *download; /* JOB_BODY: of which answer */
    uint32_t body_size;        /* JOB_BODY: what it must bring */
    bool no_value; /* the answer tells of a value and does not hold it: it is not copied */
    uint32_t vivify_exptime; /* meta commands: what N says, and */
    uint32_t sent_size;      /* the size of the data block */

    /* owner */
    enum outcome outcome;
    bool large; /* the value found is a manifest: see job_client_size() */
    bool lost;  /* a value was found, but there is no memory to copy it */
    bool wrote; /* or may have: it belongs to the client's scope */
    uint64_t sequence;
    uint64_t deadline_us; /* not executed by then: refused */
    uint32_t answer_flags;
    uint32_t answer_exptime;
    uint64_t answer_cas;
    uint64_t number;
    struct dump_slice slice;

    /* Data of a storage command, then the value of an answer. */
    uint8_t *value;
    uint32_t value_size;
    uint32_t value_capacity;
    struct job_memory *memory; /* where the value is counted; NULL: nowhere */

    uint32_t head_size, tail_size;
    const char *tail;
    const char *head;
    char key[RECORD_KEY_SIZE_MAX];
    struct meta meta; /* of the family META */
    char head_memory[META_ANSWER_SIZE_MAX + REPLY_NUMBER_SIZE_MAX];
    uint8_t value_memory[JOB_INLINE_SIZE];
};

/* First in, first out. */
struct job_queue {
    struct job *first;
    struct job *last;
    uint32_t count;
};

void job_queue_put(struct job_queue *queue, struct job *job);
void job_queue_put_first(struct job_queue *queue, struct job *job);
struct job *job_queue_take(struct job_queue *queue); /* NULL: empty */
void job_queue_sort(struct job_queue *queue);        /* by sequence */

/* Bytes of values on their way to or from clients, of the whole process. One reader who does not
 * read may hold what CONNECTION_BYTES_MAX allows; many of them no more than this. */
struct job_memory {
    _Atomic uint64_t used;
    uint64_t limit; /* constant; 0: none */
};

enum { JOB_MEMORY_TEXT = 1 << 20 }; /* by so much JOB_TEXT may go beyond the limit */

/* For what is not the value of a job. NULL: nobody counts. False: the limit is reached. */
bool job_memory_take(struct job_memory *memory, uint64_t size);
void job_memory_give(struct job_memory *memory, uint64_t size);

/* Free jobs of one thread: so many are kept, the rest goes back to malloc. */
enum { JOB_POOL_COUNT_MAX = 2048 };

struct job_pool {
    struct job_memory *memory; /* NULL: nobody counts */
    struct job *first;
    uint32_t count;
    uint32_t taken; /* and not given back */
};

/* NULL: no memory. Everything but the buffers is zero; value is empty. */
struct job *job_take(struct job_pool *pool);
void job_give(struct job_pool *pool, struct job *job);
void job_pool_close(struct job_pool *pool);

/* Makes room for `size` bytes at job->value, whose content is lost; value_size is set. False: no
 * memory, or the limit is reached; value empty. */
bool job_reserve(struct job *job, uint32_t size);

static inline struct job *job_of(struct request *request)
{
    return (struct job *)request; /* Its first member. */
}

#endif
