/* node.h: holds atomics: the process: what its threads share, the order of starting and of
 * stopping. */
#ifndef SERVER_NODE_H
#define SERVER_NODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/net.h"
#include "replica/view.h"
#include "server/auth.h"
#include "server/counters.h"
#include "server/directory.h"
#include "server/job.h"
#include "server/mailbox.h"
#include "server/options.h"
#include "server/prefixes.h"
#include "server/readers.h"
#include "server/sasl_desk.h"
#include "server/watcher.h"

struct worker;

/* For people: `stats` and log lines. */
struct node_view {
    struct view view; /* the one installed here; epoch 0: none */
    bool leading;
};

struct node {
    struct options options; /* constant */
    struct directory directory;
    struct auth auth;
    struct sasl_desk sasl_desk;   /* with -S */
    bool sasl_busy;               /* a login could not be ended: libsasl2 stays open */
    uint32_t segment_size;        /* bytes, constant */
    uint32_t segment_count_shard; /* constant */
    struct net *net;              /* NULL: a single node */
    struct tls *tls;              /* of clients. NULL: none */
    struct worker *workers;
    unsigned worker_count;  /* and of shards */
    struct mailbox mailbox; /* to the control thread */
    uint64_t started_us;

    _Atomic uint64_t lease_until_us; /* CLOCK_BOOTTIME; reads copied before are current. UINT64_MAX:
                                        single node */
    _Atomic uint64_t incarnation;    /* of now; directory.node is the control thread's */
    _Atomic uint32_t connection_count;
    _Atomic uint64_t connection_total;
    _Atomic uint64_t connection_rejected;
    struct readers readers; /* workers, and what they may be looking at */
    struct job_memory client_memory;
    _Atomic uint64_t upload_version; /* of the newest upload of a large value */
    _Atomic uint64_t memory_limit;   /* bytes: -m, or what cache_memlimit has made of it */
    _Atomic bool dumping; /* lru_crawler metadump or mgdump, of which there is one at a time */
    _Atomic uint64_t dump_count; /* begun so far */
    _Atomic bool crawler_off;    /* by lru_crawler disable: no dumps */
    _Atomic bool failed;         /* the control thread cannot go on */
    struct counters forgotten;   /* sums at the last `stats reset`: to be subtracted */

    struct watchers watchers; /* the command watch */
    struct prefixes prefixes; /* stats detail */

    pthread_mutex_t view_lock; /* of `view` only */
    struct node_view view;
};

/* Runs until it is told to stop. The exit code of the process. */
int node_run(const struct options *options);

/* Reads the certificates for clients again; new connections get them. False: the old ones stay; a
 * line was logged, and is in `why`. */
bool node_refresh_certs_any(struct node *node, char *why, size_t why_size);

void node_set_view(struct node *node, const struct node_view *view);
void node_view_any(struct node *node, struct node_view *view);

#endif
