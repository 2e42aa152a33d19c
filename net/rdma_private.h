/* rdma_private.h: what the rdma_*.c files share.
 *
 *     rdma_api.c      loading the libraries
 *     rdma_net.c      the device, registered memory, the listener
 *     rdma_door.c     control thread: connection requests, the loss and return of the device
 *     rdma_lane.c     a lane's completion queue and connection events
 *     rdma_link.c     a link's queue pair, from the greeting to its end
 *     rdma_send.c     frames out: slots, credits, staging
 *     rdma_receive.c  frames in: receives, pulls
 *
 * Two-sided: each frame is a SEND into a receive that the peer has posted. A frame that does not
 * fit into one is pulled: its header goes with the place of its payload in the sender's staging,
 * the receiver gets it by RDMA READ into its sink.
 *
 * Credits: a frame is sent only if the peer has a receive for it. Each header carries how many
 * receives its sender has posted so far (`granted`). The last RDMA_RESERVE credits are for frames
 * without messages, so that grants and heartbeats get through when messages wait; the very last is
 * for a frame that grants: who has none left has a grant under way to the other side, so that the
 * two never both wait for the other's.
 *
 * Memory is registered once, for all links: what the peers may write into or read is bounded by
 * net_open(). A link's part is touched by its lane only. */
#ifndef NET_RDMA_PRIVATE_H
#define NET_RDMA_PRIVATE_H

#include "base/fault.h"
#include "net/net_private.h"
#include "net/rdma_api.h"

enum {
    RDMA_SLOT_SIZE = 8192, /* of a frame that is sent as it is, header included */
    RDMA_EAGER_MAX = RDMA_SLOT_SIZE - sizeof(struct frame_header),
    RDMA_SEND_COUNT = 64, /* work requests under way, a power of two */
    RDMA_RECEIVE_COUNT = 64,
    RDMA_SIGNAL_EVERY =
        32, /* half of RDMA_SEND_COUNT at most: or all could be under way unsignalled */
    RDMA_REPOST_COUNT = 16, /* receives posted in one call */
    RDMA_GRANT_LAG = 32,    /* receives posted and not told of: worth a frame of their own */
    RDMA_RESERVE = 2,
    RDMA_INLINE_MAX = 220, /* asked for; less is taken */
    RDMA_RETRIES = 3,      /* never 7: soft-RoCE takes it for ever */
    RDMA_ACK_TIMEOUT = 14, /* 4.096 us * 2^14 = 67 ms */
    RDMA_POLL_COUNT = 32,
};

struct rdma {
    const struct rdma_api *api;

    /* The device. Written when it has no users; all NULL: none, it was lost. */
    struct rdma_event_channel *channel; /* the listener's */
    struct rdma_cm_id *listener;
    struct sockaddr_storage own; /* the address this node listens at, without its port */
    struct ibv_context *context; /* the device of that address; belongs to librdmacm */
    struct ibv_pd *pd;
    uint16_t port; /* of the listener */
    bool iwarp;
    uint8_t read_depth; /* RDMA READs under way, each direction */
    unsigned cq_depth;

    uint8_t *memory;
    size_t size, frames_size, large_size, link_count;
    struct ibv_mr *frames;  /* slots of all links: the device writes receives */
    struct ibv_mr *staging; /* peers read */
    struct ibv_mr *sinks;   /* what is pulled */

    /* Guarded by the mutex; `lost` may be read without. */
    atomic_bool lost; /* the device is of no use any more */
    unsigned users;   /* lanes that have queues on it */

    /* rdma_door.c, control thread */
    struct event connections, mishaps, again;
    bool door_open, watched;
    unsigned tries;    /* to open a device that was lost; DEVICE_AGAIN_DOUBLINGS at most */
    uint64_t there_ns; /* since when it is there */
};

/* A connection request on its way to its lane. */
struct rdma_arrival {
    struct rdma_arrival *next;
    struct rdma_cm_id *id;
    struct hello_join join;
};

struct rdma_lane {
    struct rdma *rdma;
    bool there; /* it has queues: all of the following */
    struct rdma_event_channel *channel;
    struct ibv_comp_channel *completions;
    struct ibv_cq *cq;
    struct event connection_events, completion_events;
    struct event more; /* completions were left for the loop's next turn */
    bool polling;      /* the owner polls and says before it sleeps */
    bool armed;        /* the next completion makes `completions` readable */
    struct net_lane_stats stats;
};

enum rdma_sink { SINK_IDLE, SINK_READING, SINK_FULL };

struct rdma_link {
    struct rdma_cm_id *id; /* NULL: none */
    bool connected;        /* rdma_connect() or rdma_accept() was called */
    uint16_t generation;   /* of the queue pair: completions of an older one are ignored */
    uint32_t inline_max;
    size_t ready_got;
    struct hello_ready ready;

    /* Sending. Work request n uses slot n mod RDMA_SEND_COUNT. */
    uint8_t *send_slots;
    uint8_t *staging;
    uint32_t sent, done; /* work requests */
    uint32_t sequence;   /* of the next frame; frames sent so far */
    uint32_t credit;     /* frames that may have been sent in all */
    uint32_t staged;     /* pulled frames sent so far */
    bool staging_busy;   /* the peer has not read the last of them yet */

    /* Receiving. */
    uint8_t *receive_slots;
    uint8_t *sink;
    uint8_t ring[RDMA_RECEIVE_COUNT]; /* slots of frames with messages, in order */
    unsigned ring_at, ring_count;
    uint8_t free[RDMA_RECEIVE_COUNT]; /* slots to be posted */
    unsigned free_count;
    uint32_t received;     /* frames so far */
    uint32_t posted, told; /* receives posted so far; as the peer was told */
    uint32_t pulled, pulled_told;
    enum rdma_sink sink_state; /* for the first pulled frame of the ring */
    bool checked;              /* the first frame of the ring is good */
    uint32_t message_at;       /* offset in its payload of the next message */
};

/* What a completion is of, in its wr_id. After a failure nothing else of it is to be trusted. */
enum rdma_work { RDMA_SEND, RDMA_READ, RDMA_RECEIVE };
static inline uint64_t rdma_work_id(enum rdma_work work, const struct link *link, uint32_t number)
{
    return (uint64_t)work << 56 | (uint64_t)link->id << 48 |
           (uint64_t)link->rdma->generation << 32 | number;
}

static inline struct rdma *rdma_of(const struct link *link)
{
    return link->lane->net->rdma;
}

/* rdma_net.c */
/* Its memory is mapped the first time. `why`: what it is, or why it cannot be used; what was opened
 * then is left for rdma_device_close(). */
bool rdma_device_open(struct net *net, char *why, size_t why_size);
void rdma_device_close(struct rdma *rdma);

/* rdma_door.c: of the device; the lanes take their links down. Any thread. `why` is a literal. */
void rdma_lose(struct net *net, const char *why);
/* Of a request, which is destroyed. Any thread. `why`: a literal for the operator, and counted;
 * NULL: neither. */
void rdma_refuse(struct net *net, struct rdma_cm_id *id, const char *why);
extern const char rdma_not_awaited[]; /* one for two files: complaints know them by their address */

/* rdma_link.c */
void rdma_link_open(struct link *link, unsigned number);
/* Of an id on the lane's channel, whose context is the link. */
void rdma_link_event(struct link *link, enum rdma_cm_event_type type);
/* Takes the id over, or refuses and destroys it. */
void rdma_link_accept(struct net_lane *lane, struct rdma_cm_id *id, const struct hello_join *join);
void rdma_link_completion(struct link *link, const struct ibv_wc *completion);
/* Completions were handled: delivers, posts, sends. */
void rdma_link_settle(struct link *link);

/* rdma_send.c */
enum status rdma_write(struct link *link, const char **why) MUST_CHECK;
/* A frame without messages; false: it cannot be sent now. */
bool rdma_send_empty(struct link *link);
/* One READ of `size` bytes into the sink; false: not now. */
bool rdma_send_read(struct link *link, const struct frame_source *source, uint32_t size);
/* A frame with that many messages. */
bool rdma_may_send(const struct link *link, uint32_t message_count);

/* rdma_receive.c */
void rdma_receive_reset(struct link *link);
/* False: the queue pair takes none. */
bool rdma_post_receives(struct link *link, bool all);
/* FRAME_OK, or what is wrong with it. */
enum frame_error rdma_received(struct link *link, uint32_t slot, uint32_t size);
void rdma_read_done(struct link *link);
void rdma_start_pull(struct link *link);
enum status rdma_peek(struct link *link, struct slice *message, enum frame_error *error);
void rdma_take(struct link *link);

#endif
