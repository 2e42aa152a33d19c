/* net.h: messages between the nodes of a group, over TCP or RDMA.
 *
 * One `struct net` per process. Lane i of a node talks to lane i of every other node, over a
 * connection of its own: lanes 0..lane_count-2 belong to the worker threads (one a shard), the last
 * one to the control thread, whose loop also accepts. A lane belongs to the thread that runs its
 * event base; functions that end in _any may be called from any thread, all others on the lane's.
 *
 * Contract, for each (lane, peer, incarnation):
 *
 *  1. First in, first out; at most once; complete messages only. No order between lanes or peers.
 *
 *  2. A loss is always an on_down. After it no message of that connection comes. on_up starts
 *     empty: what was queued, sent or held before may be lost; net sends nothing again by itself.
 *
 *  3. on_up and on_down alternate, on_up first. The incarnation of a peer's on_up never falls.
 *
 *  4. Nothing blocks. Callbacks come from the event loop, net_poll() and net_may_sleep(), never
 *     from inside another function of this file, so that a callback may call any but those two,
 *     net_lane_close() and net_close().
 *
 *  5. on_down is a hint. Only a view removes a member; then net_fence_any() keeps that incarnation
 *     out.
 *
 *  6. STATUS_OK of net_send() means that the bytes were copied: not sent, received or durable. */
#ifndef NET_NET_H
#define NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

struct event_base;
struct rdma_api;
struct net;
struct net_lane;

enum {
    NET_NODE_MAX = 7, /* node ids are 1..7 */
    NET_PEER_LIMIT,   /* size of arrays indexed by node id */
};

struct net_peer {
    unsigned id;
    uint16_t port;
    const char *host; /* a numeric address, or a name, resolved again and again by a thread */
};

/* How the bytes of a connection travel. Each connection is greeted and watched over TCP; the two
 * ends then take RDMA where both offer it. */
enum net_choice {
    NET_CHOOSE_TCP,
    NET_CHOOSE_RDMA, /* nothing else will do */
    NET_CHOOSE_AUTO, /* RDMA with each peer that has it too, else TCP */
};

struct net_options {
    enum net_choice choice;
    const struct rdma_api *rdma; /* NULL: the system's, loaded if RDMA is to be used */
    unsigned self;               /* own node id, one of peers[] */
    unsigned lane_count;         /* equal on all nodes; at least 1 */
    unsigned peer_count;         /* of peers[], self included */
    /* Self's entry is where this node listens. Texts are copied. */
    struct net_peer peers[NET_NODE_MAX];
    uint64_t incarnation;   /* of this node: higher at each start, not 0 */
    uint64_t configuration; /* hash of the cluster-wide settings: peers must have the same */
    const char *secret;     /* NULL, or what peers must prove to know; copied */
    uint32_t heartbeat_ms;  /* a lane that sent nothing for so long sends an empty frame */
    uint32_t suspect_ms;    /* unacknowledged bytes break a connection after twice that, >= 1 s */
    uint32_t connect_ms;    /* a dial that takes longer begins again */
    uint32_t message_size_max; /* equal on all nodes (item size limit + 64 KB) */
    size_t bulk_backlog_max;   /* queued bytes above which bulk is BUSY; 0: 256 KB */
    size_t backlog_max;        /* queued bytes above which live is BUSY; 0: 64 MB */
    uint32_t join_again_ms;    /* a link that fell back to TCP tries RDMA again after so long, then
                                  after twice that, and so on up to ten times; 0: 60 s */
    uint32_t device_again_ms;  /* a lost RDMA device is looked for after so long, then after twice
                                  that, and so on up to 16 times; once it is back the links
                                  return within so long; 0: 1 s */

    /* One line for the operator: a stranger or a foreign node was refused, or a peer refused this
     * node, or sent damaged bytes. Limited to one a minute for each address and reason. Called on
     * any thread. May be NULL. */
    void (*on_refused)(void *user, const char *text);
    /* One line for the operator: what was chosen and why, from net_open(); later, what changed it.
     * Any thread. May be NULL. */
    void (*on_chosen)(void *user, const char *text);
    void *user;
};

/* Binds the listening socket; nothing is dialled or accepted before lanes are open. STATUS_INVALID:
 * options; STATUS_IO: errno says why the address could not be used; STATUS_NOT_FOUND:
 * NET_CHOOSE_RDMA and no usable device, on_chosen() has said why; STATUS_NO_MEMORY. */
enum status net_open(const struct net_options *options, struct net **net) MUST_CHECK;

/* All lanes must be closed. May wait for a name being resolved. NULL is allowed. */
void net_close(struct net *net);

/* Where net listens; useful when the port was given as 0. */
uint16_t net_port(const struct net *net);

enum net_take {
    NET_TAKEN,
    NET_HOLD, /* stays first in line; nothing more from this peer on this lane until net_resume() */
};

/* All on the lane's own thread. `user` is that of net_lane_open(). */
struct net_callbacks {
    /* `message.data` is 8-byte aligned, borrowed for the call. */
    enum net_take (*on_message)(void *user, unsigned peer, uint64_t incarnation,
                                struct slice message);
    void (*on_up)(void *user, unsigned peer, uint64_t incarnation);
    void (*on_down)(void *user, unsigned peer, uint64_t incarnation, const char *why);
    /* After a STATUS_BUSY: there is room again for that class and the ones above it. */
    void (*on_writable)(void *user, unsigned peer);
};

/* Begins to dial and to accept for this lane. Heartbeats start. `callbacks` must outlive the lane.
 * Lanes may be opened in any order; the control lane opens the door. STATUS_NO_MEMORY. */
enum status net_lane_open(struct net *net, unsigned index, struct event_base *base,
                          const struct net_callbacks *callbacks, void *user,
                          struct net_lane **lane) MUST_CHECK;

/* Closes the connections; no callback comes any more. NULL is allowed. */
void net_lane_close(struct net_lane *lane);

enum net_class {
    NET_BULK,   /* healing: BUSY above bulk_backlog_max, so that it yields to live traffic */
    NET_LIVE,   /* BUSY above backlog_max */
    NET_URGENT, /* never BUSY; above 4 * backlog_max the connection is given up instead (CLOSED,
                   on_down follows) */
};

/* Queues one message made of `part_count` parts, copied before return. All classes share one order.
 * Goes out with the next net_flush(). STATUS_CLOSED: not connected; STATUS_BUSY: on_writable
 * follows; STATUS_TOO_LARGE; STATUS_NO_MEMORY. */
enum status net_send(struct net_lane *lane, unsigned peer, enum net_class class,
                     const struct slice *parts, unsigned part_count) MUST_CHECK;

/* One writev a peer with everything gathered since the last; the loop does it at the end of each
 * turn. Cheap when nothing is queued. */
void net_flush(struct net_lane *lane);

/* Handles what has come by RDMA without asking the kernel; the callbacks come as from the loop.
 * True: there was something. Does nothing, and nothing is there, over TCP. */
bool net_poll(struct net_lane *lane);

/* The owner will call net_poll() by itself, and net_may_sleep() each time before it blocks in the
 * loop. Otherwise the lane wakes the loop for each arrival. */
void net_set_polling(struct net_lane *lane, bool polling);

/* True: nothing waits, and whatever comes from now on wakes the loop. False: something had come and
 * was handled, as by net_poll(). */
bool net_may_sleep(struct net_lane *lane);

/* Ends a hold: the held message is delivered again, from the loop. Nothing held: does nothing. */
void net_resume(struct net_lane *lane, unsigned peer);

/* Closes the connection (the peer sent nonsense); on_down follows, then it is dialled again. `why`
 * is a literal. */
void net_drop(struct net_lane *lane, unsigned peer, const char *why);

bool net_is_up(const struct net_lane *lane, unsigned peer);

/* Up, and by RDMA. */
bool net_is_rdma(const struct net_lane *lane, unsigned peer);

/* CLOCK_BOOTTIME in ns of the last reception from `peer` on the lane that has waited longest: proof
 * that every worker of the peer lived then, and that ours listened. 0: a lane has no connection, or
 * nothing came on it yet. */
uint64_t net_heard_ns_any(const struct net *net, unsigned peer);

/* The group removed this node, or it starts anew: closes all connections and connects again as
 * `incarnation` (higher). */
void net_set_incarnation_any(struct net *net, uint64_t incarnation);

/* The view excludes that incarnation of `peer` and older ones: closes their connections (on_down on
 * each lane, soon) and refuses them from now on. Never loosened. */
void net_fence_any(struct net *net, unsigned peer, uint64_t incarnation);

enum { NET_ROUND_BUCKETS = 24 }; /* bucket n: below 2^n microseconds */

struct net_stats {
    bool up;
    bool rdma;
    uint64_t frames_in, frames_out;
    uint64_t messages_in, messages_out; /* without pings and pongs */
    uint64_t bytes_in, bytes_out;
    uint64_t ups;                       /* connections made so far */
    uint64_t busy;                      /* messages answered with STATUS_BUSY */
    uint64_t held;                      /* times a message was held */
    uint64_t backlog;                   /* bytes queued now */
    uint64_t refusals;                  /* of hellos and damaged frames, with or without a line */
    uint64_t rounds[NET_ROUND_BUCKETS]; /* round trips of a message and its answer, one a second */

    /* RDMA */
    uint64_t work_requests; /* sends and reads posted */
    uint64_t receives;      /* receives posted */
    uint64_t doorbells;     /* calls that posted them */
    uint64_t completions;
    uint64_t inlined; /* frames that went inline */
    uint64_t pulls;   /* frames read from the peer's memory */
    uint64_t pulled_bytes;
    uint64_t grants;    /* frames sent only to give credits */
    uint64_t credits;   /* frames that may be sent now */
    uint64_t stalls;    /* times that frames waited: no credit, no slot or no staging room */
    uint64_t not_ready; /* a receive was missing (RNR): a bug */
    uint64_t retries;   /* connections given up after retransmissions */
    uint64_t failures;  /* joins that did not come about */
};

/* Of one lane, all peers. */
struct net_lane_stats {
    uint64_t polls;       /* of the completion queue */
    uint64_t empty_polls; /* that found nothing */
    uint64_t sleeps;      /* times the lane asked to be woken */
    uint64_t wakes;       /* times it was */
};

/* As of the lane's last heartbeat tick. Zeros for a lane that is not open. */
void net_stats_any(const struct net *net, unsigned lane, unsigned peer, struct net_stats *stats);

void net_lane_stats_any(const struct net *net, unsigned lane, struct net_lane_stats *stats);

enum { NET_TRANSPORT_SIZE = 256 };

/* What this node does, for people: "tcp", "rdma" and its device, or "none" (NET_CHOOSE_RDMA, and
 * the device was lost); and why. */
void net_transport_any(const struct net *net, char text[NET_TRANSPORT_SIZE]);

/* Bytes registered with the device while it is there: fixed by net_open(). 0: no RDMA. */
uint64_t net_registered_any(const struct net *net);

/* Strangers and foreign nodes turned away at the door so far. */
uint64_t net_refused_any(const struct net *net);

#endif
