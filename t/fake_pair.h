/* fake_pair.h: for the tests of the fake device: two nodes with a queue pair each, without net.
 * Functions static inline, because a test is one program. */
#ifndef T_FAKE_PAIR_H
#define T_FAKE_PAIR_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>

#include "t/fake_verbs.h"
#include "t/test.h"

enum { MEMORY_SIZE = 4096, ALL_ACCESS = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ };

struct side {
    const struct rdma_api *api;
    struct rdma_event_channel *channel;
    struct rdma_cm_id *listener, *id;
    struct ibv_pd *pd;
    struct ibv_comp_channel *completions;
    struct ibv_cq *cq;
    struct ibv_mr *mr;
    uint8_t memory[MEMORY_SIZE];
};

struct pair {
    struct side dialler, acceptor;
    struct fake_settings settings;
    struct ibv_qp_cap cap;
    struct rdma_conn_param param;
    int access;
    int depth; /* of completion queues */
};

static inline struct pair plan(void)
{
    struct pair pair = {
        .settings = fake_settings_default(),
        .cap = {.max_send_wr = 4,
                .max_recv_wr = 4,
                .max_send_sge = 2,
                .max_recv_sge = 1,
                .max_inline_data = 16},
        .param = {.responder_resources = 4, .initiator_depth = 4, .retry_count = 3},
        .access = ALL_ACCESS,
        .depth = 16,
    };
    pair.settings.count_violations = true;
    return pair;
}

static inline void nonblocking(int fd)
{
    fcntl(fd, F_SETFL, O_NONBLOCK);
}

static inline void run(void)
{
    for (unsigned i = 0; i < 10; i++)
        fake_verbs_run();
}

/* The next event's type, -1: none. Its id is the side's, if it had none. */
static inline int next_event(struct side *side)
{
    struct rdma_cm_event *event;
    if (side->api->rdma_get_cm_event(side->channel, &event) != 0)
        return -1;
    int type = event->event;
    if (type == RDMA_CM_EVENT_CONNECT_REQUEST)
        side->id = event->id;
    side->api->rdma_ack_cm_event(event);
    return type;
}

static inline struct sockaddr_in local(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
}

static inline void open_side(struct pair *pair, struct side *side, unsigned device)
{
    struct sockaddr_in any_port = local(0);
    side->api = fake_verbs_of(device);
    side->channel = side->api->rdma_create_event_channel();
    nonblocking(side->channel->fd);
    side->api->rdma_create_id(side->channel, &side->listener, NULL, RDMA_PS_TCP);
    EXPECT_EQ(side->api->rdma_bind_addr(side->listener, (struct sockaddr *)&any_port), 0);
    EXPECT_EQ(side->api->rdma_listen(side->listener, 1), 0);
    struct ibv_context *context = side->listener->verbs;
    nonblocking(context->async_fd);
    side->pd = side->api->ibv_alloc_pd(context);
    side->completions = side->api->ibv_create_comp_channel(context);
    nonblocking(side->completions->fd);
    side->cq = side->api->ibv_create_cq(context, pair->depth, side, side->completions, 0);
    side->mr = (side->api->ibv_reg_mr)(side->pd, side->memory, MEMORY_SIZE, pair->access);
}

static inline int make_qp(struct pair *pair, struct side *side)
{
    struct ibv_qp_init_attr attr = {
        .send_cq = side->cq, .recv_cq = side->cq, .cap = pair->cap, .qp_type = IBV_QPT_RC};
    return side->api->rdma_create_qp(side->id, side->pd, &attr);
}

static inline void open_pair(struct pair *pair)
{
    fake_verbs_begin(&pair->settings);
    open_side(pair, &pair->dialler, 1);
    open_side(pair, &pair->acceptor, 2);
}

/* Up to where the route is known and there is a queue pair. */
static inline void resolve(struct pair *pair)
{
    struct side *side = &pair->dialler;
    struct rdma_cm_id *to = pair->acceptor.listener;
    struct sockaddr_in address = local(ntohs(side->api->rdma_get_src_port(to)));
    side->api->rdma_create_id(side->channel, &side->id, NULL, RDMA_PS_TCP);
    EXPECT_EQ(side->api->rdma_resolve_addr(side->id, NULL, (struct sockaddr *)&address, 100), 0);
    run();
    EXPECT_EQ(next_event(side), RDMA_CM_EVENT_ADDR_RESOLVED);
    EXPECT_EQ(side->api->rdma_resolve_route(side->id, 100), 0);
    run();
    EXPECT_EQ(next_event(side), RDMA_CM_EVENT_ROUTE_RESOLVED);
    EXPECT_EQ(make_qp(pair, side), 0);
}

/* Up to the request. */
static inline void request(struct pair *pair)
{
    resolve(pair);
    EXPECT_EQ(pair->dialler.api->rdma_connect(pair->dialler.id, &pair->param), 0);
    run();
    EXPECT_EQ(next_event(&pair->acceptor), RDMA_CM_EVENT_CONNECT_REQUEST);
    EXPECT_EQ(make_qp(pair, &pair->acceptor), 0);
}

static inline void join(struct pair *pair)
{
    open_pair(pair);
    request(pair);
    EXPECT_EQ(pair->acceptor.api->rdma_accept(pair->acceptor.id, &pair->param), 0);
    run();
    EXPECT_EQ(next_event(&pair->dialler), RDMA_CM_EVENT_ESTABLISHED);
    run();
    EXPECT_EQ(next_event(&pair->acceptor), RDMA_CM_EVENT_ESTABLISHED);
}

static inline void destroy_id(struct side *side)
{
    if (side->id == NULL)
        return;
    if (side->id->qp != NULL)
        side->api->rdma_destroy_qp(side->id);
    side->api->rdma_destroy_id(side->id);
    side->id = NULL;
}

static inline void close_side(struct side *side)
{
    destroy_id(side);
    EXPECT_EQ(side->api->ibv_dereg_mr(side->mr), 0);
    EXPECT_EQ(side->api->ibv_destroy_cq(side->cq), 0);
    EXPECT_EQ(side->api->ibv_destroy_comp_channel(side->completions), 0);
    EXPECT_EQ(side->api->ibv_dealloc_pd(side->pd), 0);
    EXPECT_EQ(side->api->rdma_destroy_id(side->listener), 0);
    side->api->rdma_destroy_event_channel(side->channel);
}

static inline void close_pair(struct pair *pair)
{
    close_side(&pair->dialler);
    close_side(&pair->acceptor);
}

static inline uint64_t violations(void)
{
    struct fake_counters counters;
    fake_verbs_counters(&counters);
    return counters.violations;
}

static inline struct ibv_sge place(struct side *side, uint32_t offset, uint32_t size)
{
    return (struct ibv_sge){
        .addr = (uintptr_t)side->memory + offset, .length = size, .lkey = side->mr->lkey};
}

static inline int post_receive(struct side *side, uint64_t id, struct ibv_sge sge)
{
    struct ibv_recv_wr wr = {.wr_id = id, .sg_list = &sge, .num_sge = 1}, *bad = NULL;
    return ibv_post_recv(side->id->qp, &wr, &bad);
}

static inline int post_send(struct side *side, uint64_t id, struct ibv_sge sge, unsigned flags)
{
    struct ibv_send_wr *bad = NULL, wr = {.wr_id = id,
                                          .sg_list = &sge,
                                          .num_sge = 1,
                                          .opcode = IBV_WR_SEND,
                                          .send_flags = flags};
    return ibv_post_send(side->id->qp, &wr, &bad);
}

/* From the start of the other side's memory to 2048 of the own. */
static inline int post_read(struct pair *pair, uint64_t id, uint32_t size, uint32_t key)
{
    struct ibv_sge sge = place(&pair->dialler, 2048, size);
    struct ibv_send_wr *bad = NULL, wr = {.wr_id = id,
                                          .sg_list = &sge,
                                          .num_sge = 1,
                                          .opcode = IBV_WR_RDMA_READ,
                                          .send_flags = IBV_SEND_SIGNALED};
    wr.wr.rdma.remote_addr = (uintptr_t)pair->acceptor.memory;
    wr.wr.rdma.rkey = key;
    return ibv_post_send(pair->dialler.id->qp, &wr, &bad);
}

/* The status of the next completion, which must be of `id`; -1: none. */
static inline int completed(struct side *side, uint64_t id)
{
    struct ibv_wc wc;
    if (ibv_poll_cq(side->cq, 1, &wc) != 1)
        return -1;
    EXPECT_EQ(wc.wr_id, id);
    EXPECT_EQ(wc.qp_num, side->id->qp->qp_num);
    return (int)wc.status;
}

#endif
