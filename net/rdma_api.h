/* rdma_api.h: the functions of librdmacm and libibverbs that net uses, as a table. The libraries
 * are loaded when RDMA is wanted and not before, so that a node without them runs; a test gives a
 * table of its own, with contexts whose `ops` (ibv_post_send, ibv_poll_cq and the other inline
 * functions call through them) are its own as well.
 *
 * Each member has the name, the type and the meaning of the function it stands for. */
#ifndef NET_RDMA_API_H
#define NET_RDMA_API_H

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include "base/status.h"

struct rdma_api {
    struct rdma_event_channel *(*rdma_create_event_channel)(void);
    void (*rdma_destroy_event_channel)(struct rdma_event_channel *channel);
    int (*rdma_create_id)(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context,
                          enum rdma_port_space space);
    int (*rdma_destroy_id)(struct rdma_cm_id *id);
    int (*rdma_bind_addr)(struct rdma_cm_id *id, struct sockaddr *address);
    int (*rdma_listen)(struct rdma_cm_id *id, int backlog);
    __be16 (*rdma_get_src_port)(struct rdma_cm_id *id);
    int (*rdma_resolve_addr)(struct rdma_cm_id *id, struct sockaddr *source,
                             struct sockaddr *destination, int timeout_ms);
    int (*rdma_resolve_route)(struct rdma_cm_id *id, int timeout_ms);
    int (*rdma_create_qp)(struct rdma_cm_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *attr);
    void (*rdma_destroy_qp)(struct rdma_cm_id *id);
    int (*rdma_connect)(struct rdma_cm_id *id, struct rdma_conn_param *param);
    int (*rdma_accept)(struct rdma_cm_id *id, struct rdma_conn_param *param);
    int (*rdma_reject)(struct rdma_cm_id *id, const void *private_data, uint8_t size);
    int (*rdma_disconnect)(struct rdma_cm_id *id);
    int (*rdma_migrate_id)(struct rdma_cm_id *id, struct rdma_event_channel *channel);
    int (*rdma_set_option)(struct rdma_cm_id *id, int level, int name, void *value, size_t size);
    int (*rdma_get_cm_event)(struct rdma_event_channel *channel, struct rdma_cm_event **event);
    int (*rdma_ack_cm_event)(struct rdma_cm_event *event);
    struct ibv_context **(*rdma_get_devices)(int *count);
    void (*rdma_free_devices)(struct ibv_context **devices);

    int (*ibv_query_device)(struct ibv_context *context, struct ibv_device_attr *attr);
    struct ibv_pd *(*ibv_alloc_pd)(struct ibv_context *context);
    int (*ibv_dealloc_pd)(struct ibv_pd *pd);
    struct ibv_mr *(*ibv_reg_mr)(struct ibv_pd *pd, void *address, size_t size, int access);
    int (*ibv_dereg_mr)(struct ibv_mr *mr);
    struct ibv_comp_channel *(*ibv_create_comp_channel)(struct ibv_context *context);
    int (*ibv_destroy_comp_channel)(struct ibv_comp_channel *channel);
    struct ibv_cq *(*ibv_create_cq)(struct ibv_context *context, int depth, void *user,
                                    struct ibv_comp_channel *channel, int vector);
    int (*ibv_destroy_cq)(struct ibv_cq *cq);
    int (*ibv_get_cq_event)(struct ibv_comp_channel *channel, struct ibv_cq **cq, void **user);
    void (*ibv_ack_cq_events)(struct ibv_cq *cq, unsigned count);
    int (*ibv_modify_qp)(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask);
    int (*ibv_get_async_event)(struct ibv_context *context, struct ibv_async_event *event);
    void (*ibv_ack_async_event)(struct ibv_async_event *event);
    const char *(*ibv_wc_status_str)(enum ibv_wc_status status);
};

/* Loads the libraries, once a process; they stay loaded. Any thread. STATUS_NOT_FOUND: *why says
 * what is missing, a text for people that stays valid. */
enum status rdma_api_load(const struct rdma_api **api, const char **why) MUST_CHECK;

#endif
