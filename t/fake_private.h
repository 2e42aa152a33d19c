/* fake_private.h: what the files of the fake device share.
 *
 *     fake_verbs.c   settings, counters, devices and their events, misfortunes
 *     fake_memory.c  protection domains, registered memory, completion queues
 *     fake_queue.c   queue pairs: posting, taking effect, breaking
 *     fake_cm.c      the connection manager: channels, ids, what a program asks for
 *     fake_letter.c  its messages between nodes, and the events that they become
 *
 * All under `fake.mutex`; functions here that don't say otherwise expect it held. */
#ifndef T_FAKE_PRIVATE_H
#define T_FAKE_PRIVATE_H

#include <pthread.h>
#include <stddef.h>

#include "base/prng.h"
#include "t/fake_verbs.h"

enum {
    FAKE_SGE_MAX = 4,
    FAKE_INLINE_LIMIT = 1024,
    FAKE_PORT_FIRST = 20000,
    FAKE_POISON = 0xaa,
};

/* A queue of things with a descriptor to wait on: an eventfd that counts them. */
struct fake_event {
    struct fake_event *next;
    void *owner; /* what must not be destroyed before the event is acknowledged */
};

struct fake_mailbox {
    int fd;
    bool hung_up; /* of a device that is gone: readable for ever, and nothing but EIO to read */
    struct fake_event *first;
};

/* From here on, what the program knows is the first member: one pointer is the other. */
struct fake_device {
    struct ibv_context context;
    struct ibv_device device;
    unsigned number;
    bool removed, stalled;
    bool open;        /* the library has a context of it */
    unsigned objects; /* that a program made of it: domains, queues, channels, ids */
    struct fake_mailbox events;
};

struct fake_pd {
    struct ibv_pd pd;
    struct fake_device *device;
    unsigned users;
};

struct fake_mr {
    struct ibv_mr mr;
    struct fake_mr *next;
    int access;
};

struct fake_channel {
    struct ibv_comp_channel channel;
    struct fake_channel *next;
    struct fake_mailbox events;
};

struct fake_completion {
    uint64_t wr_id;
    enum ibv_wc_status status;
    enum ibv_wc_opcode opcode;
    uint32_t byte_len;
    uint32_t qp_num;
    uint64_t slot; /* of its queue, free again when this is polled */
    bool receive;
};

struct fake_cq {
    struct ibv_cq cq;
    struct fake_device *device;
    struct fake_channel *channel;
    struct fake_completion *ring; /* [depth] */
    uint64_t in, out;
    bool armed, solicited_only, dead;
    unsigned users;
    unsigned got, acknowledged;             /* completion events */
    unsigned async_got, async_acknowledged; /* of the device, about this queue */
};

enum fake_stage { FAKE_WAITS, FAKE_EFFECTIVE, FAKE_FAILED };

struct fake_send {
    uint64_t wr_id, due;
    enum ibv_wr_opcode opcode;
    unsigned flags;
    enum fake_stage stage;
    enum ibv_wc_status status; /* FAKE_FAILED */
    unsigned attempts;
    unsigned sge_count;
    struct ibv_sge sges[FAKE_SGE_MAX];
    uint64_t remote_address;
    uint32_t remote_key;
    uint8_t *inlined; /* a copy; NULL: none */
    uint32_t inlined_size;
};

struct fake_receive {
    uint64_t wr_id;
    unsigned sge_count;
    struct ibv_sge sges[FAKE_SGE_MAX];
};

struct fake_id;

struct fake_qp {
    struct ibv_qp qp;
    struct fake_qp *next; /* by age */
    struct fake_device *device;
    struct fake_qp *peer;
    struct fake_id *id;
    struct ibv_qp_cap cap;
    bool signal_all;
    bool acceptor, received; /* iWARP: who may speak */
    unsigned rnr_retry;      /* as the peer asked for; 7: for ever */
    unsigned initiator_depth, responder_resources;
    bool fails;              /* breaks as soon as it is its turn */
    bool silent;             /* flushes nothing */
    struct fake_send *sends; /* [cap.max_send_wr] */
    /* Slots: freed <= retired <= effective <= posted; `effective`: next SEND to take effect. */
    uint64_t send_freed, send_retired, send_effective, send_posted;
    struct fake_receive *receives;
    uint64_t receive_freed, receive_taken, receive_posted;
    unsigned async_got, async_acknowledged;
};

enum fake_id_state {
    ID_IDLE,
    ID_BOUND,
    ID_LISTENING,
    ID_RESOLVING,
    ID_ADDRESSED,
    ID_ROUTED,
    ID_CONNECTING,
    ID_REQUESTED, /* made for a request */
    ID_ACCEPTED,
    ID_CONNECTED,
    ID_ENDED,
};

struct fake_cm_channel {
    struct rdma_event_channel channel;
    struct fake_mailbox events;
    struct fake_device *device; /* of the node that made it */
    unsigned ids;
};

struct fake_id {
    struct rdma_cm_id id;
    struct fake_id *next;
    uint64_t serial;
    enum fake_id_state state;
    struct fake_device *device; /* NULL: none yet */
    struct fake_id *peer;
    uint16_t port;
    int backlog;
    int waiting; /* requests that nobody fetched */
    struct rdma_conn_param param;
    bool ack_timeout_set;
    bool parted; /* was told that it is disconnected */
    unsigned got, acknowledged;
};

struct fake_cm_event {
    struct fake_event event;
    struct rdma_cm_event cm;
    uint8_t private_data[256];
};

struct fake_async_event {
    struct fake_event event;
    struct ibv_async_event async;
};

/* A message of the CM on its way. Those of one sender keep their order. */
struct fake_letter {
    struct fake_letter *next;
    uint64_t due;
    uint64_t sender;                     /* serial */
    struct fake_id *from, *to;           /* NULL: gone meanwhile, or nobody */
    struct fake_device *source, *target; /* NULL: it does not leave the node */
    uint16_t port;                       /* a request's destination */
    struct fake_cm_event *event;
};

struct fake {
    pthread_mutex_t mutex;
    struct fake_settings settings;
    struct fake_counters counters;
    struct prng prng;
    uint64_t step;
    char violation[160];
    bool opened;
    struct fake_device devices[FAKE_DEVICE_COUNT + 1]; /* by number */
    struct fake_mr *mrs;
    struct fake_channel *channels;
    struct fake_qp *qps;
    struct fake_id *ids;
    struct fake_letter *letters;
    uint64_t next_serial;
    uint32_t next_key, next_qp;
    uint16_t next_port;
};
extern struct fake fake;

/* fake_verbs.c */
__attribute__((format(printf, 1, 2))) void fake_violate(const char *format, ...);
/* Lets go of the lock until what was got is acknowledged: the real library waits as well, but for
 * ever. False: it never was. */
bool fake_await(const unsigned *got, const unsigned *acknowledged);
bool fake_is_manual(void);
uint64_t fake_due(void);
void fake_lock(void); /* the first one opens the devices */
void fake_unlock(void);
void fake_mailbox_open(struct fake_mailbox *mailbox);
void fake_mailbox_close(struct fake_mailbox *mailbox);
void fake_mailbox_put(struct fake_mailbox *mailbox, struct fake_event *event);
void fake_mailbox_hang_up(struct fake_mailbox *mailbox, bool hung_up);
/* Locks, and waits unless the descriptor is non-blocking. NULL: unlocked, errno is EAGAIN, or EIO
 * of one that is hung up. */
struct fake_event *fake_mailbox_take_locking(struct fake_mailbox *mailbox);
/* The first event of `owner` (NULL: of anybody), taken out; NULL: none. */
struct fake_event *fake_mailbox_remove(struct fake_mailbox *mailbox, const void *owner);
void fake_async(struct fake_device *device, enum ibv_event_type type, void *element, void *owner);

/* fake_memory.c */
void fake_complete(struct fake_cq *cq, const struct fake_completion *completion, bool solicited);
/* NULL: the key is not of this domain, or does not allow that. */
void *fake_memory(const struct ibv_pd *pd, uint64_t address, uint32_t size, uint32_t key,
                  bool remote, int access);
int fake_poll_cq(struct ibv_cq *cq, int count, struct ibv_wc *wc);
int fake_req_notify_cq(struct ibv_cq *cq, int solicited_only);
struct ibv_pd *fake_alloc_pd(struct ibv_context *context);
int fake_dealloc_pd(struct ibv_pd *pd);
struct ibv_mr *fake_reg_mr(struct ibv_pd *pd, void *address, size_t size, int access);
int fake_dereg_mr(struct ibv_mr *mr);
struct ibv_comp_channel *fake_create_comp_channel(struct ibv_context *context);
int fake_destroy_comp_channel(struct ibv_comp_channel *channel);
struct ibv_cq *fake_create_cq(struct ibv_context *context, int depth, void *user,
                              struct ibv_comp_channel *channel, int vector);
int fake_destroy_cq(struct ibv_cq *cq);
int fake_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **user);
void fake_ack_cq_events(struct ibv_cq *cq, unsigned count);

/* fake_queue.c */
struct fake_qp *fake_qp_open(struct fake_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
void fake_qp_close(struct fake_qp *qp);
void fake_qp_error(struct fake_qp *qp);
/* Takes all steps that can be taken now; true: there was one. */
bool fake_qp_run(struct fake_qp *qp);
bool fake_qps_wait(void);               /* something waits only for its time */
void fake_post_run(struct fake_qp *qp); /* automatic mode */
int fake_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
int fake_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
int fake_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);

/* fake_letter.c */
bool fake_cm_run(void);     /* one letter */
void fake_cm_deliver(void); /* automatic mode: all */
void fake_cm_remove(struct fake_device *device);
struct fake_id *fake_id_make(struct fake_cm_channel *channel, void *context,
                             enum rdma_port_space space);
void fake_id_set_device(struct fake_id *id, struct fake_device *device);
struct fake_cm_event *fake_event_make(enum rdma_cm_event_type type, int status);
void fake_event_data(struct fake_cm_event *event, const void *data, unsigned size, unsigned max);
void fake_event_param(struct fake_cm_event *event, const struct rdma_conn_param *param,
                      unsigned max);
struct fake_letter *fake_letter_post(struct fake_id *from, struct fake_id *to,
                                     struct fake_cm_event *event);
/* Nothing happens without `to`. */
void fake_tell(struct fake_id *from, struct fake_id *to, enum rdma_cm_event_type type, int status);

/* fake_cm.c */
struct rdma_event_channel *fake_create_event_channel(unsigned node);
void fake_destroy_event_channel(struct rdma_event_channel *channel);
int fake_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context,
                   enum rdma_port_space space);
int fake_destroy_id(struct rdma_cm_id *id);
int fake_bind_addr(struct rdma_cm_id *id, struct sockaddr *address);
int fake_listen(struct rdma_cm_id *id, int backlog);
__be16 fake_get_src_port(struct rdma_cm_id *id);
int fake_resolve_addr(struct rdma_cm_id *id, struct sockaddr *source, struct sockaddr *destination,
                      int timeout_ms);
int fake_resolve_route(struct rdma_cm_id *id, int timeout_ms);
int fake_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
void fake_destroy_qp(struct rdma_cm_id *id);
int fake_connect(struct rdma_cm_id *id, struct rdma_conn_param *param);
int fake_accept(struct rdma_cm_id *id, struct rdma_conn_param *param);
int fake_reject(struct rdma_cm_id *id, const void *private_data, uint8_t size);
int fake_disconnect(struct rdma_cm_id *id);
int fake_migrate_id(struct rdma_cm_id *id, struct rdma_event_channel *channel);
int fake_set_option(struct rdma_cm_id *id, int level, int name, void *value, size_t size);
int fake_get_cm_event(struct rdma_event_channel *channel, struct rdma_cm_event **event);
int fake_ack_cm_event(struct rdma_cm_event *event);
struct ibv_context **fake_get_devices(int *count);
void fake_free_devices(struct ibv_context **devices);

#endif
