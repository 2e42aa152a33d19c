/* cluster.h: three real shards in one test, with channels that the test moves by hand: what is
 * said, in which order, what is lost. Memory media; time stands still unless the test moves it. No
 * checker: the simulator is for that. */
#ifndef T_CLUSTER_H
#define T_CLUSTER_H

#include "recovery/shard.h"
#include "t/test.h"

enum { CLUSTER_NODES = 3, CLUSTER_QUEUE = 4096, CLUSTER_TRACE = 1 << 16, CLUSTER_REQUESTS = 512 };

struct cluster_message {
    struct message *bytes; /* malloced */
    unsigned from, to;
};

struct cluster_reply {
    bool done;
    enum outcome outcome;
    char value[256];
    uint64_t cas, number;
    bool local;
};

struct cluster {
    struct shard *shards[8]; /* by node id; NULL: down */
    struct store *stores[8];
    struct medium *media[8];
    void *memory[8], *index[8];
    size_t index_size[8];
    uint32_t segments[8];
    struct view view;
    uint64_t wall_us, mono_us;
    uint64_t durable[8];
    uint64_t proved[8];  /* log_proved() then */
    uint32_t walk_bytes; /* of nodes that start from here on; 0: as usual */
    bool evicts;         /* nodes that start from here on */
    unsigned evicted;
    enum model model;
    bool drains_late; /* EVENT_DURABLE only by cluster_durable */
    unsigned now;     /* node that steps */
    struct cluster_message queue[CLUSTER_QUEUE];
    unsigned head, tail;
    char trace[CLUSTER_TRACE]; /* "1>2 INV key" lines of delivered messages, rounds left out */
    size_t traced;
    struct request requests[CLUSTER_REQUESTS]; /* used again when answered */
    struct cluster_reply replies[CLUSTER_REQUESTS];
    unsigned request_count;
    uint32_t healed_epoch; /* by the last ACTION_HEALED */
};

/* Three nodes, all members of view 1. */
struct cluster *cluster_open(void);
/* The same in another persistency model than synch. */
struct cluster *cluster_open_model(enum model model);
/* And what is written becomes durable only by cluster_durable. */
struct cluster *cluster_open_late(enum model model);
/* In synch, with logs of so many segments at node 1, 2, 3. */
struct cluster *cluster_open_sized(uint32_t segment_size, const uint32_t segments[CLUSTER_NODES]);
/* And they make room when they are full. */
struct cluster *cluster_open_evicting(uint32_t segment_size,
                                      const uint32_t segments[CLUSTER_NODES]);
void cluster_close(struct cluster *cluster);

/* Starts a command at `node`; the index of its reply. */
unsigned cluster_request(struct cluster *cluster, unsigned node, enum request_type type,
                         const char *key, const char *value);
/* The same with every field given. */
unsigned cluster_request_full(struct cluster *cluster, unsigned node,
                              const struct request *request);

/* Delivers the oldest message from `from` to `to`; false: there is none, or it is held. */
bool cluster_deliver(struct cluster *cluster, unsigned from, unsigned to);
/* Forgets all messages under way between two nodes, both directions. */
void cluster_lose(struct cluster *cluster, unsigned a, unsigned b);
/* Delivers everything, in order, until it is quiet. */
void cluster_settle(struct cluster *cluster);
/* The channel between two nodes is there again. */
void cluster_up(struct cluster *cluster, unsigned a, unsigned b);
/* The node lives, and learns that the others removed it. */
void cluster_removed(struct cluster *cluster, unsigned node);
/* The node has had no lease for long. */
void cluster_stalled(struct cluster *cluster, unsigned node);
void cluster_tick(struct cluster *cluster, uint64_t us);
void cluster_durable(struct cluster *cluster, unsigned node);
/* At all nodes; and what follows from it. */
void cluster_durable_everywhere(struct cluster *cluster);
void cluster_install(struct cluster *cluster, unsigned node, uint32_t epoch, uint8_t members,
                     uint8_t healing);
void cluster_install_all(struct cluster *cluster, uint32_t epoch, uint8_t members, uint8_t healing);
/* The node is gone; its log stays. */
void cluster_crash(struct cluster *cluster, unsigned node);
/* It comes back under the next incarnation, without a view. */
void cluster_restart(struct cluster *cluster, unsigned node);

/* A get at `node`, delivered at once; "-" for a miss, "..." while it waits. */
const char *cluster_get(struct cluster *cluster, unsigned node, const char *key);
void cluster_expect_everywhere(struct cluster *cluster, const char *key, const char *value);
/* The outcome of a command; "..." while it waits. */
const char *cluster_reply(const struct cluster *cluster, unsigned index);
const char *outcome_text(enum outcome outcome);

#endif
