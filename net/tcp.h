/* tcp.h: what the files of the tcp transport share; net.h is what others use.
 *
 *     tcp_net.c      opening, the gate (which incarnations may pass), refusal lines, _any functions
 *     tcp_resolve.c  names of hosts to addresses, in a thread of its own
 *     tcp_accept.c   the door: strangers until they have proved who they are; control thread
 *     tcp_lane.c     a lane: arrivals from the door, heartbeats, work put off to the next turn
 *     tcp_peer.c     one connection: dial, read, deliver, write, down
 *
 * The mutex of struct net guards what threads share. It is never held over a system call that may
 * block, nor taken on the data path. Atomics: the last-heard stamps, nothing else. */
#ifndef NET_TCP_H
#define NET_TCP_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "base/prng.h"
#include "net/gate.h"
#include "net/hello.h"
#include "net/input.h"
#include "net/net.h"
#include "net/output.h"

enum {
    LANE_COUNT_MAX = 256,
    STRANGER_MAX = 64,  /* connections at the door; the others wait in the kernel's queue */
    STRANGER_MS = 2000, /* until they must have proved who they are */
    BACKOFF_MIN_MS = 20,
    BACKOFF_MAX_MS = 1000,
    COMPLAINT_MAX = 64, /* remembered refusals */
    COMPLAINT_QUIET_S = 60,
};

struct address {
    struct sockaddr_storage storage;
    socklen_t size; /* 0: not known yet */
};

/* A connection that passed the door, on its way to its lane. */
struct arrival {
    struct arrival *next;
    int fd;
    unsigned peer;
    uint64_t incarnation;     /* of the peer */
    uint64_t own_incarnation; /* that we answered with */
};

/* The part of a lane that other threads may touch, under the mutex. */
struct mailbox {
    int wake_fd; /* eventfd */
    bool open;
    struct arrival *first; /* one a peer at most */
    struct net_stats stats[NET_PEER_LIMIT];
};

struct complaint {
    const char *reason; /* NULL: free */
    uint64_t address_hash;
    uint64_t at_ns;
};

struct resolver {
    pthread_t thread;
    pthread_cond_t stop_asked;
    bool running;
    bool stop;
};

enum stranger_stage {
    STRANGER_FREE,
    STRANGER_CALLS,  /* its hello is awaited */
    STRANGER_PROVES, /* answered; its proof is awaited */
};

struct stranger {
    enum stranger_stage stage;
    int fd;
    struct net *net;
    struct event readable, deadline;
    struct address address;
    size_t got; /* bytes of call or proof */
    struct hello call, answer;
    struct hello_proof proof;
};

/* Control thread only, from the opening of its lane to its closing. */
struct door {
    struct event_base *base;
    struct event listener, pause;
    unsigned stranger_count;
    struct stranger strangers[STRANGER_MAX];
};

struct net {
    struct net_options options; /* hosts and secret are our own copies */
    struct hello_side side;
    int listen_fd;
    uint16_t port;
    struct door door;

    pthread_mutex_t mutex; /* guards all from here to `heard` */
    uint64_t incarnation;
    struct gate gates[NET_PEER_LIMIT];
    struct address addresses[NET_PEER_LIMIT];
    struct mailbox *mailboxes; /* [lane_count] */
    struct complaint complaints[COMPLAINT_MAX];
    uint64_t refused;
    struct resolver resolver;

    _Atomic uint64_t (*heard)[NET_PEER_LIMIT]; /* [lane_count]: CLOCK_BOOTTIME in ns; 0: down */
};

enum link_state {
    LINK_NONE,    /* not a peer, or it is the peer that dials */
    LINK_WAITING, /* until the next dial */
    LINK_DIALLING,
    LINK_GREETING, /* our hello is out */
    LINK_UP,
};

struct tcp_peer {
    struct net_lane *lane;
    unsigned id;
    enum link_state state; /* written by set_state() only */
    int fd;
    struct event readable, writable, timer;
    uint64_t incarnation;
    struct hello call, answer;
    size_t got; /* bytes of the answer */
    unsigned backoff_ms;

    struct input input;
    struct output output;
    struct net_stats stats;
    uint64_t sent_ns;           /* of the last write */
    const char *break_why;      /* not NULL: to be closed on the next turn; counts as closed */
    bool held;                  /* NET_HOLD was answered */
    bool full;                  /* not reading: the buffer is full behind a held message */
    bool resume;                /* net_resume() was called */
    bool writing;               /* waits for the socket to be writable */
    bool busy_told[NET_URGENT]; /* by class: an on_writable is owed */
};

struct net_lane {
    struct net *net;
    unsigned index;
    struct event_base *base;
    const struct net_callbacks *callbacks;
    void *user;
    struct event wake, tick, turn;
    uint64_t incarnation; /* own, as all connections of this lane said it */
    struct prng prng;
    struct block_pool pool;
    struct tcp_peer peers[NET_PEER_LIMIT];
};

/* CLOCK_BOOTTIME. */
uint64_t tcp_now_ns(void);
struct timeval tcp_timeval(uint32_t milliseconds);

/* tcp_net.c */

/* May this incarnation connect? With `raise` it was proved: older ones are shut out from now on, on
 * all lanes. */
enum hello_refusal tcp_admit_any(struct net *net, unsigned peer, uint64_t incarnation, bool raise);
uint64_t tcp_incarnation_any(struct net *net);
/* Makes the lane look at its mailbox, the gates and the own incarnation. The mutex is held by the
 * caller. */
void tcp_wake_locked(struct mailbox *mailbox);
/* Counts a refusal and tells the operator, unless the same was told lately. `reason` is a literal,
 * the key of "the same". */
__attribute__((format(printf, 4, 5))) void tcp_complain_any(struct net *net,
                                                            const struct address *address,
                                                            const char *reason, const char *format,
                                                            ...);
/* No delay, user timeout, non-blocking. */
void tcp_prepare_socket(const struct net *net, int fd);

/* tcp_resolve.c */
enum status tcp_resolve_start(struct net *net) MUST_CHECK;
void tcp_resolve_stop(struct net *net);
/* Blocks for names. STATUS_NOT_FOUND. */
enum status tcp_resolve(const char *host, uint16_t port, bool numeric,
                        struct address *address) MUST_CHECK;
void tcp_address_text(const struct address *address, char *text, size_t size);

/* tcp_accept.c */
void tcp_door_open(struct net *net, struct event_base *base);
void tcp_door_close(struct net *net);

/* tcp_lane.c */
/* Runs tcp_peer_turn() for all peers from the loop, soon. */
void tcp_lane_turn(struct net_lane *lane);

/* tcp_peer.c */
void tcp_peer_open(struct tcp_peer *peer, struct net_lane *lane, unsigned id);
void tcp_peer_close(struct tcp_peer *peer);
/* A connection made elsewhere takes the place of the present one. */
void tcp_peer_adopt(struct tcp_peer *peer, int fd, uint64_t incarnation);
/* Closes what there is, tells on_down if it was up, and dials again if that is our part. From the
 * loop only. */
void tcp_peer_down(struct tcp_peer *peer, const char *why);
/* Dials at once, if dialling is our part and nothing is under way. */
void tcp_peer_redial(struct tcp_peer *peer);
void tcp_peer_turn(struct tcp_peer *peer);
void tcp_peer_tick(struct tcp_peer *peer, uint64_t now_ns);
/* Breaks the connection on the next turn. */
void tcp_peer_break(struct tcp_peer *peer, const char *why);

#endif
