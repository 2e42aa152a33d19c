/* worker.h: holds an atomic: a worker thread: one event loop, one shard, one net lane, many client
 * connections.
 *
 * A turn of its loop:
 *
 *     events (sockets, peers, rings) -> steps of the shard -> log_drain -> net_flush
 *         -> log_durable -> EVENT_DURABLE -> answers to other workers and to clients -> net_flush
 *
 * A command on a key of another shard travels through the ring to that shard's worker, which
 * executes it, copies the value and sends it back the same way. Everything here is called on the
 * worker's own thread, but worker_open, worker_start, worker_join and worker_close, which the
 * control thread calls before and after it. */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/ring.h"
#include "net/net.h"
#include "pmem/medium.h"
#include "recovery/shard.h"
#include "server/counters.h"
#include "server/index_memory.h"
#include "server/job.h"
#include "server/mailbox.h"
#include "server/options.h"
#include "server/stream.h"
#include "server/watch.h"

struct node;
struct connection;

enum {
    WORKER_RING_COUNT = 1024, /* jobs between two workers; more wait in the outbox */
    WORKER_DURABLE_MAX =
        16, /* rounds of EVENT_DURABLE in one turn: with plain memory each may lead to another */
    WORKER_BUFFER_SIZE = 16384,   /* of a connection that has read half a command */
    WORKER_BUFFER_COUNT_MAX = 64, /* free ones that are kept */
    WORKER_PUBLISH_US = 100000,
    WORKER_JOB_MAX = 65536, /* commands under way of all connections of a worker, about */
    WORKER_SWEEP_US = 1000000,
};

/* Jobs from one other worker. */
struct worker_ring {
    struct ring ring;
    void *slots[WORKER_RING_COUNT];
};

struct worker {
    struct node *node;
    unsigned number; /* of the worker and of its shard */
    pthread_t thread;
    struct event_base *base;
    struct watch *letter_watch, *ring_watch, *tick_watch, *medium_watch;
    struct mailbox mailbox;
    int ring_fd;               /* other workers wake this one here */
    _Atomic bool asleep;       /* or about to be: who puts something into a ring must wake it */
    struct worker_ring *rings; /* by sender */
    struct job_queue outbox[OPTIONS_THREAD_MAX]; /* by receiver */
    bool stopping;
    bool failed; /* the medium; the control thread was told */

    /* the shard */
    struct medium *medium;
    int medium_fd; /* readable when a drain is done; -1: none */
    struct store *store;
    struct index_memory index;
    uint64_t index_size; /* that is wanted; index.size may be larger */
    void *shard_memory;
    struct shard *shard;
    bool damaged, empty;   /* what the opening scan found */
    uint32_t last_epoch;   /* of the newest mark then, before damage voided it; 0: none */
    struct net_lane *lane; /* NULL: a single node */
    bool holds;            /* a message of a peer, until a view is installed or there is room */
    uint8_t rdma_peers;    /* node set: connected over RDMA */
    bool polls;            /* --poll-us, and this node has RDMA */
    bool talked;           /* with one of them, since it was last seen to be idle */
    uint64_t poll_until_us;
    uint64_t looked_us; /* when the kernel was last asked; only while it polls */
    struct actions actions;
    uint64_t drained; /* the log's tail at the last drain */
    uint64_t durable; /* the newest that the shard was told */
    uint64_t proved;  /* then: log_proved() */
    bool clocks_old;
    uint64_t wall_us, mono_us; /* of this turn */
    uint64_t ticked_us, published_us, swept_us;
    uint32_t healed_epoch; /* to be told to the control thread; 0: nothing */
    /* number of what the log has given back and others may be reading; 0: nothing is asked */
    uint64_t grace;
    uint64_t grace_asked; /* the asking for it (readers.h) */
    bool full;            /* as the log was told last */
    uint64_t told_full_us;
    uint64_t sequence;
    struct job_queue parked; /* cannot be answered now (no lease, not serving) */
    bool parked_unsorted;    /* they are not in the order of their sequence */
    bool stalled;            /* without a lease for so long that clients were told */
    uint64_t leased_us;      /* when a lease was last seen to hold */
    uint64_t retried_us;

    /* clients */
    bool reading; /* inside: it has looked at records of others' shards in this turn */
    struct connection *connections;
    struct udp *udp;             /* sockets */
    struct connection *due;      /* those with something to write or to go on with */
    struct connection *watchers; /* by next_watcher */
    uint64_t dump_sequence;      /* of the newest command when keys were last listed */
    struct connection *dumper;   /* who lists keys now, if it is a client of this worker */
    uint64_t connection_number;  /* of the newest */
    _Atomic bool watched;        /* there are lines for them */
    struct job_pool jobs;
    struct upload *uploads;          /* of large values, newest first */
    struct upload *uploads_due;      /* those that can go on */
    struct job_queue pieces_waiting; /* of uploads, filled, in order */
    uint32_t pieces_out;             /* on their way */
    struct job_queue pieces_again;   /* found the store full, and may find room in a moment */
    uint64_t again_us;               /* when they were last tried */
    struct job_queue pieces_done;    /* back from their shards */
    struct job_queue rewrites_due;
    struct rewrite *rewrites; /* under way */
    _Atomic uint64_t
        upload_oldest; /* version of the oldest upload here, or less; UINT64_MAX: none */
    void *buffers;     /* free read buffers, linked by their first word */
    uint32_t buffer_count;
    uint32_t buffer_total; /* in use and free */
    struct stream_commons streams;
    struct counters counters;
    struct publication publication;
};

/* Seconds since 1970, of this turn: what exptimes are compared with. */
static inline uint32_t worker_now(const struct worker *worker)
{
    return (uint32_t)(worker->wall_us / 1000000);
}

/* Opens all but the shard, which is open and stays so. Otherwise the reason was logged. */
enum status worker_open(struct worker *worker) MUST_CHECK;
enum status worker_start(struct worker *worker) MUST_CHECK;
void worker_join(struct worker *worker);
void worker_close(struct worker *worker);

/* The job goes to its owner, and comes back through connection_done() at its home. */
void worker_submit(struct worker *worker, struct job *job);

/* There are lines for its watchers. */
void worker_wake_watchers_any(struct worker *worker);

/* worker_store.c: the shard, before worker_open and after worker_close; in any thread. */
enum status worker_shard_open(struct worker *worker, struct node *node, unsigned number) MUST_CHECK;
void worker_shard_close(struct worker *worker);

/* worker_shard.c */
void worker_set_actions(struct worker *worker);
void worker_check(struct worker *worker); /* each turn: some of an index that was taken over */
/* The last line of a process whose index or log, taken over, turns out to be wrong: the next start
 * scans, and then knows what is. */
void worker_tell_broken(const struct worker *worker, uint32_t segment);
void worker_read_clocks(struct worker *worker);
bool worker_lease_holds(const struct worker *worker);         /* this node may answer reads now */
void worker_execute(struct worker *worker, struct job *job);  /* at the owner */
void worker_finish(struct worker *worker, struct job *job);   /* at the owner: on its way back */
void worker_step(struct worker *worker, struct event *event); /* the times are filled in here */
void worker_notice_lease(
    struct worker *worker); /* each turn: answers clients when there has been none for long */
void worker_retry_parked(struct worker *worker);
void worker_durable(
    struct worker *worker); /* drains, and tells the shard what has become durable */
void worker_publish(struct worker *worker);

/* worker_read.c */
/* A read of another worker's shard that can be answered here and now: it is, and the job is as the
 * owner would send it back. False: submit it. Not while anything of the same client is under way on
 * that key, which must come first. */
bool worker_read(struct worker *worker, struct job *job);
/* at the end of each turn, and for ever at the end */
void worker_stop_reading(struct worker *worker);
/* each turn: what readers of this shard have let go of is used again */
void worker_pass_grace(struct worker *worker);

/* worker_wait.c */
/* Runs the callbacks of what has come from sockets, timers and peers; sleeps until something comes,
 * if there is nothing else to do. The beginning of each turn; clocks are old then. */
void worker_wait(struct worker *worker);

/* worker_net.c */
enum status worker_net_open(struct worker *worker) MUST_CHECK;
void worker_net_send(struct worker *worker, const struct action *action);
void worker_net_resume(struct worker *worker); /* a view was installed, or there may be room: what
                                                  was held may be taken */

#endif
