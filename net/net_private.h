/* net_private.h: what the files of this folder share; net.h is what others use.
 *
 *     net.c        opening, the gate (which incarnations may pass), refusal lines, _any functions
 *     resolve.c    names of hosts to addresses, in a thread of its own
 *     door.c       the door: strangers until they have proved who they are; control thread
 *     lane.c       a lane: arrivals from the door, heartbeats, work put off to the next turn
 *     link.c       a lane's link to a peer: dial, greet, deliver, queue, down
 *     link_choice.c whether a link is to be by RDMA
 *     link_probe.c pings and pongs
 *     wire_tcp.c   how the frames of a link travel: over its socket
 *     rdma_*.c     over a queue pair (rdma_private.h)
 *
 * The mutex of struct net guards what threads share. It is never held over a system call that may
 * block, nor taken on the data path. Atomics: the last-heard stamps, nothing else. */
#ifndef NET_NET_PRIVATE_H
#define NET_NET_PRIVATE_H

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
    DEVICE_AGAIN_MS = 1000, /* after a loss; doubles with each try in vain, and each early loss */
    JOIN_FAILURES_MAX = 3,  /* of RDMA, in a row: over TCP for a while, where that may be */
    COMPLAINT_MAX = 64,     /* remembered refusals */
    COMPLAINT_QUIET_S = 60,
    PING_MS = 1000,
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
    struct hello call, answer;
};

struct wire;
struct rdma;
struct rdma_arrival;
struct rdma_lane;
struct rdma_link;

/* The part of a lane that other threads may touch, under the mutex. */
struct mailbox {
    int wake_fd; /* eventfd */
    bool open;
    bool rdma_open;        /* the lane has queues on the device */
    struct arrival *first; /* one a peer at most */
    struct rdma_arrival *first_rdma;
    struct net_stats stats[NET_PEER_LIMIT];
    struct net_lane_stats lane_stats;
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
    const struct wire *wire; /* of links that are not RDMA: wire_tcp; a test may have another */
    struct rdma *rdma;       /* NULL: tcp only */

    pthread_mutex_t mutex; /* guards all from here to `heard` */
    char transport[NET_TRANSPORT_SIZE];
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
    LINK_JOINING,  /* greeted; the wire is being made */
    LINK_UP,
};

struct link {
    struct net_lane *lane;
    unsigned id;
    enum link_state state; /* written by set_state() only */
    int fd;
    struct event readable, writable, timer;
    uint64_t incarnation;
    struct hello call, answer;
    size_t got; /* bytes of the answer */
    unsigned backoff_ms;

    const struct wire *wire; /* from LINK_JOINING on */
    struct input input;      /* wire_tcp's */
    struct rdma_link *rdma;  /* wire_rdma's; NULL: none */
    unsigned join_failures;  /* in a row */
    bool was_tcp;            /* the last time that it was up */
    uint32_t pause_ms;       /* the last pause of RDMA; 0: the last join came about */
    bool pauses;             /* that pause has begun */
    uint64_t tcp_until_ns;   /* RDMA failed too often: not offered until then */
    struct output output;
    struct net_stats stats;
    uint64_t sent_ns;           /* of the last write */
    uint64_t asked_ns;          /* of the last ping; 0: none on this connection */
    bool asking;                /* its pong has not come */
    const char *break_why;      /* not NULL: to be closed on the next turn; counts as closed */
    bool held;                  /* NET_HOLD was answered */
    bool full;                  /* not reading: the buffer is full behind a held message */
    bool resume;                /* net_resume() was called */
    bool writing;               /* waits for the socket to be writable */
    bool busy_told[NET_URGENT]; /* by class: an on_writable is owed */
};

/* What a counter has counted, which begins again. */
static inline uint64_t link_taken(uint64_t *counter)
{
    uint64_t counted = *counter;
    *counter = 0;
    return counted;
}

/* How the frames of a link travel. All on the lane's thread. */
struct wire {
    /* The greeting is over, link->fd is authenticated. link_go_up() at once or later. */
    void (*join)(struct link *link);
    /* Sends what link->output holds. STATUS_OK: all; STATUS_AGAIN: link_write_out() will be called
     * when it may go on; STATUS_IO: *why. */
    enum status (*write)(struct link *link, const char **why);
    /* The next message, as input_peek() says, and going past it. */
    enum status (*peek)(struct link *link, struct slice *message, enum frame_error *error);
    void (*take)(struct link *link);
    void (*resume)(struct link *link);    /* a hold is over, before delivery goes on */
    void (*delivered)(struct link *link); /* for now; there may be room for more */
    void (*tick)(struct link *link);      /* stats, memory */
    void (*end)(struct link *link);       /* before the socket is closed; in any state */
};
extern const struct wire wire_tcp, wire_rdma;

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
    struct rdma_lane *rdma; /* NULL: tcp only */
    struct link links[NET_PEER_LIMIT];
};

/* CLOCK_BOOTTIME. */
uint64_t net_now_ns(void);
struct timeval net_timeval(uint32_t milliseconds);

/* net.c */

/* May this incarnation connect? With `raise` it was proved: older ones are shut out from now on, on
 * all lanes. */
enum hello_refusal net_admit_any(struct net *net, unsigned peer, uint64_t incarnation, bool raise);
uint64_t net_own_incarnation_any(struct net *net);
/* What this node offers now: enum hello_transport. */
uint32_t net_transports_any(const struct net *net);
/* What net_transport_any() says: "tcp: because". */
void net_set_transport_any(struct net *net, const char *what, const char *why);
/* Makes the lane look at its mailbox, the gates and the own incarnation. The mutex is held by the
 * caller. */
void net_wake_locked(struct mailbox *mailbox);
void net_wake_all_any(struct net *net);
/* Counts a refusal and tells the operator, unless the same was told lately. `reason` is a literal,
 * the key of "the same". */
__attribute__((format(printf, 4, 5))) void net_complain_any(struct net *net,
                                                            const struct address *address,
                                                            const char *reason, const char *format,
                                                            ...);
/* No delay, user timeout, non-blocking. */
void net_prepare_socket(const struct net *net, int fd);

/* resolve.c */
enum status net_resolve_start(struct net *net) MUST_CHECK;
void net_resolve_stop(struct net *net);
/* Blocks for names. STATUS_NOT_FOUND. */
enum status net_resolve(const char *host, uint16_t port, bool numeric,
                        struct address *address) MUST_CHECK;
void net_address_text(const struct address *address, char *text, size_t size);

/* door.c */
void net_door_open(struct net *net, struct event_base *base);
void net_door_close(struct net *net);

/* lane.c */
/* Runs link_turn() for all peers from the loop, soon. */
void net_lane_turn(struct net_lane *lane);

/* link.c */
void link_open(struct link *link, struct net_lane *lane, unsigned id);
void link_close(struct link *link);
/* A connection made elsewhere takes the place of the present one. */
void link_adopt(struct link *link, const struct arrival *arrival);
/* Damaged bytes: counts and tells the operator. */
void link_complain_damage(struct link *link, enum frame_error error);
/* Size 0: unknown. */
struct address link_peer_address(const struct link *link);
/* Neither closed nor about to be. */
bool link_usable(const struct link *link);
/* What a wire says: it is ready; something came; there are messages; it can send again. */
void link_go_up(struct link *link);
void link_heard(struct link *link);
/* Delivers until there is no message or one is held. A callback can't close the connection under
 * us, only break it. */
void link_deliver(struct link *link);
void link_write_out(struct link *link);
/* Closes what there is, tells on_down if it was up, and dials again if that is our part. From the
 * loop only. */
void link_down(struct link *link, const char *why);
/* Dials at once, if dialling is our part and nothing is under way. */
void link_redial(struct link *link);
void link_turn(struct link *link);
void link_tick(struct link *link, uint64_t now_ns);
/* Breaks the connection on the next turn. */
void link_break(struct link *link, const char *why);
#define LINK_TOO_SLOW "too slow: more is queued for it than may be"
/* Queued bytes above which a class waits, or is the end of the connection. */
size_t link_backlog_max(const struct link *link, enum net_class class);

/* link_choice.c: whether it is to be by RDMA. */
bool link_dials(const struct link *link);       /* this end does */
uint32_t link_offer(const struct link *link);   /* of the dialler: enum hello_transport */
uint32_t link_join_ms(const struct link *link); /* how long to wait for the wire */
void link_note_up(struct link *link);
/* Of the dialler's end, in LINK_JOINING. */
void link_note_failed_join(struct link *link, const char *why);
/* The device is back. */
void link_note_device(struct link *link);
/* Over TCP now, and worth another try: the link should go down and be dialled anew. */
bool link_wants_rdma(const struct link *link);

/* link_probe.c: how long a message and its answer take. */
void link_probe_reset(struct link *link);           /* a connection is over */
void link_ping(struct link *link, uint64_t now_ns); /* each tick; queues one if it is time */
/* Of a ping or a pong: answers or counts. */
enum frame_error link_take_probe(struct link *link, struct slice message);

/* rdma_net.c, rdma_door.c, rdma_lane.c */
/* Loads the libraries, finds the device of the own address, registers memory, listens. *why: what
 * was chosen, or why it cannot be; for people. */
enum status rdma_open(struct net *net, char *why, size_t why_size) MUST_CHECK;
void rdma_close(struct net *net);
bool rdma_is_lost_any(const struct net *net);
/* The door's part: connection requests, the loss and return of the device. Control thread. */
void rdma_door_open(struct net *net, struct event_base *base);
void rdma_door_close(struct net *net);
void rdma_door_wake(struct net *net); /* it may be lost, and free of users */
enum status rdma_lane_open(struct net_lane *lane) MUST_CHECK;
void rdma_lane_close(struct net_lane *lane);
/* Connection requests in the mailbox; a device that was lost or is back. */
void rdma_lane_wake(struct net_lane *lane);
/* The lane has queues on the device: RDMA is possible now. */
bool rdma_lane_is_there(const struct net_lane *lane);
struct net_lane_stats rdma_lane_stats(const struct net_lane *lane);
bool rdma_lane_poll(struct net_lane *lane);
void rdma_lane_set_polling(struct net_lane *lane, bool polling);
bool rdma_lane_may_sleep(struct net_lane *lane);

#endif
