/* connection.h: one client: bytes in, jobs out, answers in the order of the commands. The worker's
 * own thread.
 *
 *     stream -> buffer -> parser -> job -> worker_submit ... connection_done -> answers -> stream
 *
 * The first byte, or an option, chooses the parser: text_parse; binary_parse (connection_binary.h);
 * login_parse (connection_auth.h), until the client has said who he is.
 *
 * Many commands of one client are under way at once; each waits in the list of its connection until
 * all before it are answered. flush_all, persist, stats, verbosity and quit wait until nothing is
 * under way (barrier). A client that does not read its answers is not read either, once
 * CONNECTION_BYTES_MAX of them or CONNECTION_JOB_MAX commands are waiting. */
#ifndef SERVER_CONNECTION_H
#define SERVER_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/binary.h"
#include "proto/login.h"
#include "proto/text.h"
#include "server/job.h"
#include "server/stream.h"

struct sasl_dialogue;
struct worker;
struct watch;
struct dump;
struct watcher;

enum {
    CONNECTION_JOB_MAX = 512,        /* commands under way or not yet written */
    CONNECTION_STRANGER_JOB_MAX = 8, /* the same, before authentication */
    CONNECTION_BYTES_MAX = 4 << 20,  /* values in them, plus one value */
    CONNECTION_GET_MAX =
        64, /* keys asked for at once; fewer if values are large: their size is not known before */
    CONNECTION_HINT_INITIAL = 262144, /* assumed size of an unknown value */
    CONNECTION_TURN_MAX = 256 << 10,  /* bytes that are read in one turn, about */
    CONNECTION_KEY_GROUPS = 32
};

/* With -C: no item has this unique. */
#define CONNECTION_CAS_NEVER UINT64_MAX

/* Chosen by the first byte, or by -B; then for ever. */
enum connection_protocol {
    CONNECTION_UNDECIDED,
    CONNECTION_TEXT,
    CONNECTION_BINARY,
    CONNECTION_LOGIN, /* text, as soon as the client has authenticated himself (-Y) */
};

struct connection {
    struct connection *next, *previous; /* of the worker's */
    struct connection *next_due;
    struct worker *worker;
    struct watch *read_watch, *write_watch;
    struct stream stream;
    const struct options_listen *listener; /* where the client came in */
    bool is_due;
    bool ended;   /* the client sends no more */
    bool closing; /* nothing more is parsed; close when all is written */
    bool broken;  /* close now */
    bool waits;   /* the next command waits until nothing is under way */
    bool more;    /* there are bytes to go on with that no event will tell of */
    enum connection_protocol protocol;
    union {
        struct text_parser parser;
        struct binary_parser binary;
        struct login_parser login;
    };
    bool authenticated;         /* with -S */
    bool asking;                /* libsasl2 is at work for it: `sasl` is not here */
    struct sasl_dialogue *sasl; /* NULL: none */
    uint8_t *buffer;            /* NULL: nothing is kept */
    uint32_t begin, end;
    size_t turn_bytes;        /* read in this turn */
    struct job *first, *last; /* by next_answer */
    struct job *value_job;    /* its data block is arriving */
    /* nothing more is parsed until it is submitted or, if it may be a rewrite, done: a client's
     * commands on one key keep their order */
    const struct job *holder;
    struct download *download;                  /* of the answer at the front, if it is large */
    uint32_t job_count;                         /* in the list */
    uint32_t pending_count;                     /* of these, not done */
    uint16_t pending_in[CONNECTION_KEY_GROUPS]; /* of these, by the hash of their key */
    uint32_t get_count;                         /* of these, with a value of unknown size to come */
    uint64_t bytes;                             /* of values in the list */
    uint64_t written;                           /* of the first one's answer */
    uint32_t value_hint;
    uint32_t line_number;    /* of the newest command */
    uint32_t refused_line;   /* a get that was ended by an error */
    enum command barrier;    /* under way, and nothing is parsed meanwhile; COMMAND_COUNT: none */
    struct dump *dump;       /* of the barrier, if it lists keys */
    struct watcher *watcher; /* NULL: it is none */
    struct connection *next_watcher;
    bool barrier_noreply;
    enum reply barrier_reply;
    uint32_t barrier_megabytes; /* of cache_memlimit; 0: it failed, and is undone */
    struct binary_tag barrier_tag;
    uint64_t number; /* of the worker's: grows */
    uint64_t opened_us;
    uint64_t heard_us;      /* when bytes came last */
    char barrier_words[64]; /* arguments of stats; the answer of mp */
    /* shards with writes that no persist has covered yet: bit n is shard n */
    uint64_t scope;
};

/* Takes the descriptor over. `listener`: where it came in, in options.listen. */
void connection_open(struct worker *worker, int fd, unsigned listener);

/* A connection for one datagram: it ends when that is answered. Takes the request over. */
void connection_open_datagram(struct worker *worker, struct udp_request *request,
                              unsigned listener);

/* A job has come back. May be called while the shard steps: it only notes it. */
void connection_done(struct worker *worker, struct job *job);

/* Goes on with every connection that is due: writes answers, parses what waits. */
void connection_run_due(struct worker *worker);

void connection_close_all(struct worker *worker);

/* connection_sweep.c. About once a second: ends those whose TLS handshake does not come to an end,
 * and those that are idle for longer than the options allow. */
void connection_sweep(struct worker *worker);

/* connection_read.c. Receives and parses, up to a limit, so that others have their turn. Afterwards
 * `more` says that there are bytes to go on with, as soon as that is allowed: no event of the
 * socket will tell. */
void connection_read(struct connection *connection);
/* Nothing has to be answered, or found, before the next command is looked at. */
bool connection_may_parse(const struct connection *connection);
void connection_give_buffer(struct connection *connection);

/* connection_write.c. Writes what can be answered; sets `broken` when the client is gone. */
void connection_write(struct connection *connection);

/* connection_command.c: */
void connection_on_event(struct connection *connection, enum text_event event,
                         const struct text_request *request);
bool connection_must_wait(const struct connection *connection, enum text_event event,
                          const struct text_request *request);
/* What a command is to the core; a meta command becomes that by its flags. */
enum request_type connection_request_type(enum command command);
struct job *connection_new_job(struct connection *connection, enum job_kind kind);
void connection_submit(struct connection *connection, struct job *job);
/* A data block of `size` bytes comes for the job, which becomes connection->value_job. False: no
 * memory, the job is gone. */
bool connection_begin_value(struct connection *connection, struct job *job, uint32_t size);
void connection_end_value(struct connection *connection); /* it was good: the job goes on its way */
void connection_cancel_value(struct connection *connection); /* it was bad */
void connection_answer_line(struct connection *connection, enum reply reply, bool noreply);
void connection_tally(struct worker *worker, const struct job *job);
void connection_tally_eviction(struct worker *worker, const struct request *request);

/* connection_persist.c: persist and its other forms. A job at each shard of connection->scope; when
 * all are done, connection_end_barrier answers. */
void connection_begin_persist(struct connection *connection);
void connection_persist_text(struct connection *connection, const struct text_request *request);
void connection_persist_meta(struct connection *connection, const struct text_request *request);
/* one is back */
void connection_note_persist(struct connection *connection, const struct job *job);
void connection_end_persist(struct connection *connection);

/* connection_admin.c: commands without a key. */
void connection_on_admin(struct connection *connection, const struct text_request *request);
void connection_note_barrier(struct connection *connection,
                             const struct job *job); /* one is back */
void connection_end_barrier(struct connection *connection);
/* One line, of which `text` is all but the end. */
void connection_answer_text(struct connection *connection, const char *text);
/* To a command that came in one piece with others: dumps and watch are refused then, as in
 * memcached. */
bool connection_owes_answers(const struct connection *connection);
/* A piece of work at every shard; when all are done, connection_end_barrier answers. */
void connection_begin_barrier(struct connection *connection, enum command command,
                              enum job_kind kind, uint32_t exptime);
/* The same at one of them. False: no memory, the connection ends. */
bool connection_submit_part(struct connection *connection, enum command command, enum job_kind kind,
                            uint32_t shard, uint32_t exptime);

/* connection_write.c. The value of a storage command, and of a get that is not answered with it, is
 * not sent. */
void connection_drop_value(struct connection *connection, struct job *job);
/* The answer's line, and what stands behind its value; constant memory, or the job's. */
void connection_set_head(struct job *job, struct slice text);
void connection_set_tail(struct job *job, struct slice text);
/* The line for an outcome; REPLY_COUNT: it is none of the fixed ones. */
enum reply connection_fixed_reply(const struct job *job);

/* Before an answer with a value is formatted: if that lies in pieces that cannot be sent, job->lost
 * is set. */
void connection_claim_pieces(struct connection *connection, struct job *job);
/* The value of a formatted answer lies in pieces: they follow its head, and its tail follows
 * them. */
void connection_send_pieces(struct connection *connection, struct job *job);

/* connection_dump.c: a list of keys, which the barrier waits for. REPLY_COUNT: it began; else the
 * answer. */
enum reply connection_dump_begin(struct connection *connection, enum dump_format format,
                                 uint64_t limit);
void connection_dump_take(struct connection *connection, struct job *job); /* a slice is back */
void connection_dump_go_on(
    struct connection *connection); /* nothing is under way: the next slice, or the end */
bool connection_dump_has_room(const struct connection *connection);
/* The client has taken nothing for so long. */
bool connection_dump_is_stuck(const struct connection *connection, uint64_t now_us,
                              uint64_t after_us);
void connection_dump_close(struct connection *connection);

/* connection_list.c: a slice of stats conns, at the worker whose clients they are. */
void connection_list_slice(struct worker *worker, struct job *job);

/* connection_watch.c: the command watch, after which the connection does nothing else. */
void connection_begin_watch(struct connection *connection, const struct text_request *request);
void connection_end_watch(struct connection *connection);  /* it closes */
void connection_take_lines(struct connection *connection); /* some of what waits for it */
bool connection_lines_wait(
    const struct connection *connection);                    /* there is more, and room for it */
void connection_ignore_input(struct connection *connection); /* and notice when it ends */
void connection_run_watchers(
    struct worker *worker); /* those of this worker are due if there are lines */

/* In connection.c, for the others. */
void connection_append(struct connection *connection, struct job *job);
void connection_insert(struct connection *connection, struct job *after, struct job *job);
void connection_submitted(const struct job *job); /* a large value, at last */
void connection_end_pending(struct connection *connection, const struct job *job);
/* Nothing of this client is under way on the key: a read of it may be answered at once, and is in
 * order. */
bool connection_is_idle_on(const struct connection *connection, uint64_t hash);
void connection_set_due(struct connection *connection);

#endif
