/* The device: that of the address this node listens at, and the memory that is registered with it.
 * From net_open(), then by the control thread, when no lane uses the device (rdma_door.c). */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "net/rdma_private.h"

enum {
    LISTEN_QUEUE =
        1024, /* all lanes of all peers may ask at once, and a refusal costs a back-off */
    PAGE = 4096,
};

/* ---- memory ---- */

static size_t round_up(size_t size)
{
    return (size + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static bool map_memory(struct rdma *rdma, const struct net_options *options)
{
    if (rdma->memory != NULL)
        return true;
    rdma->link_count = (size_t)options->lane_count * (options->peer_count - 1);
    rdma->frames_size = (size_t)(RDMA_RECEIVE_COUNT + RDMA_SEND_COUNT) * RDMA_SLOT_SIZE;
    rdma->large_size = round_up(frame_payload_max(options->message_size_max));
    rdma->size = rdma->link_count * (rdma->frames_size + 2 * rdma->large_size);
    void *memory =
        mmap(NULL, rdma->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    rdma->memory = memory;
    /* A child's copy would part the device from our pages. */
    (void)madvise(memory, rdma->size, MADV_DONTFORK);
    return true;
}

static bool register_memory(struct rdma *rdma)
{
    const struct rdma_api *api = rdma->api;
    uint8_t *staging = rdma->memory + rdma->link_count * rdma->frames_size;
    size_t large = rdma->link_count * rdma->large_size;
    /* iWARP answers a READ with writes into the sink. */
    int sink = IBV_ACCESS_LOCAL_WRITE |
               (rdma->iwarp && !FAULT(SINK_NO_WRITE) ? IBV_ACCESS_REMOTE_WRITE : 0);
    rdma->frames = (api->ibv_reg_mr)(rdma->pd, rdma->memory, rdma->link_count * rdma->frames_size,
                                     IBV_ACCESS_LOCAL_WRITE);
    if (rdma->frames == NULL)
        return false;
    rdma->staging = (api->ibv_reg_mr)(rdma->pd, staging, large, IBV_ACCESS_REMOTE_READ);
    if (rdma->staging == NULL)
        return false;
    rdma->sinks = (api->ibv_reg_mr)(rdma->pd, staging + large, large, sink);
    return rdma->sinks != NULL;
}

static void say_unregistered(const struct rdma *rdma, char *why, size_t why_size)
{
    struct rlimit limit = {0};
    int used = snprintf(why, why_size, "%zu MB cannot be registered with %s: %s", rdma->size >> 20,
                        rdma->context->device->name, strerror(errno));
    (void)getrlimit(RLIMIT_MEMLOCK, &limit);
    if (limit.rlim_cur == RLIM_INFINITY || used < 0 || (size_t)used >= why_size)
        return;
    snprintf(why + used, why_size - (size_t)used,
             ". The limit of locked memory is %llu KB: set LimitMEMLOCK=infinity in the unit, or "
             "ulimit -l unlimited",
             (unsigned long long)limit.rlim_cur >> 10);
}

/* ---- the device ---- */

static bool find_device(struct net *net, char *why, size_t why_size)
{
    struct rdma *rdma = net->rdma;
    struct address address = {.size = sizeof(address.storage)};
    char text[INET6_ADDRSTRLEN + 32];
    if (getsockname(net->listen_fd, (struct sockaddr *)&address.storage, &address.size) != 0)
        address.size = 0;
    net_address_text(&address, text, sizeof(text));
    if (address.storage.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&address.storage)->sin6_port = 0;
    else
        ((struct sockaddr_in *)&address.storage)->sin_port = 0;
    rdma->own = address.storage;
    rdma->channel = rdma->api->rdma_create_event_channel();
    if (rdma->channel == NULL) {
        snprintf(why, why_size, "no RDMA device (%s)", strerror(errno));
        return false;
    }
    if (rdma->api->rdma_create_id(rdma->channel, &rdma->listener, net, RDMA_PS_TCP) != 0) {
        rdma->listener = NULL;
        snprintf(why, why_size, "no RDMA device (%s)", strerror(errno));
        return false;
    }
    if (rdma->api->rdma_bind_addr(rdma->listener, (struct sockaddr *)&address.storage) != 0 ||
        rdma->listener->verbs == NULL) {
        snprintf(why, why_size, "no RDMA device has the address %s of this node in --peers", text);
        return false;
    }
    rdma->context = rdma->listener->verbs;
    return true;
}

static bool ask_device(struct rdma *rdma, unsigned peer_count, char *why, size_t why_size)
{
    struct ibv_device_attr attr;
    const char *name = rdma->context->device->name;
    if (rdma->api->ibv_query_device(rdma->context, &attr) != 0) {
        snprintf(why, why_size, "%s does not answer: %s", name, strerror(errno));
        return false;
    }
    int depth = attr.max_qp_rd_atom < attr.max_qp_init_rd_atom ? attr.max_qp_rd_atom
                                                               : attr.max_qp_init_rd_atom;
    rdma->read_depth = (uint8_t)(depth < 16 ? depth : 16);
    rdma->iwarp = rdma->context->device->transport_type == IBV_TRANSPORT_IWARP;
    /* Twice the sum: those of a queue pair just destroyed may still lie there. */
    rdma->cq_depth =
        (2 - FAULT(CQ_SMALL)) * (peer_count - 1) * (RDMA_SEND_COUNT + RDMA_RECEIVE_COUNT);
    if (rdma->read_depth > 0 && rdma->cq_depth <= (unsigned)attr.max_cqe)
        return true;
    snprintf(why, why_size, "%s can do too little (%d reads, %d completions)", name,
             rdma->read_depth, attr.max_cqe);
    return false;
}

bool rdma_device_open(struct net *net, char *why, size_t why_size)
{
    struct rdma *rdma = net->rdma;
    if (!find_device(net, why, why_size) ||
        !ask_device(rdma, net->options.peer_count, why, why_size))
        return false;
    rdma->pd = rdma->api->ibv_alloc_pd(rdma->context);
    if (rdma->pd == NULL || !map_memory(rdma, &net->options)) {
        snprintf(why, why_size, "%s: %s", rdma->context->device->name, strerror(errno));
        return false;
    }
    if (!register_memory(rdma)) {
        say_unregistered(rdma, why, why_size);
        return false;
    }
    if (rdma->api->rdma_listen(rdma->listener, LISTEN_QUEUE) != 0) {
        snprintf(why, why_size, "%s cannot listen: %s", rdma->context->device->name,
                 strerror(errno));
        return false;
    }
    rdma->port = ntohs(rdma->api->rdma_get_src_port(rdma->listener));
    snprintf(why, why_size, "device %s, %zu MB registered", rdma->context->device->name,
             rdma->size >> 20);
    return true;
}

void rdma_device_close(struct rdma *rdma)
{
    const struct rdma_api *api = rdma->api;
    struct ibv_mr *regions[] = {rdma->frames, rdma->staging, rdma->sinks};
    for (unsigned i = 0; i < 3; i++)
        if (regions[i] != NULL)
            (void)api->ibv_dereg_mr(regions[i]);
    if (rdma->pd != NULL)
        (void)api->ibv_dealloc_pd(rdma->pd);
    if (rdma->listener != NULL)
        (void)api->rdma_destroy_id(rdma->listener);
    if (rdma->channel != NULL)
        api->rdma_destroy_event_channel(rdma->channel);
    rdma->frames = NULL;
    rdma->staging = NULL;
    rdma->sinks = NULL;
    rdma->pd = NULL;
    rdma->context = NULL;
    rdma->listener = NULL;
    rdma->channel = NULL;
}

static void free_rdma(struct net *net)
{
    struct rdma *rdma = net->rdma;
    rdma_device_close(rdma);
    if (rdma->memory != NULL)
        munmap(rdma->memory, rdma->size);
    free(rdma);
    net->rdma = NULL;
}

enum status rdma_open(struct net *net, char *why, size_t why_size)
{
    const char *missing;
    struct rdma *rdma = calloc(1, sizeof(*rdma));
    if (rdma == NULL)
        return STATUS_NO_MEMORY;
    rdma->api = net->options.rdma;
    if (rdma->api == NULL && rdma_api_load(&rdma->api, &missing) != STATUS_OK) {
        snprintf(why, why_size, "%s", missing);
        free(rdma);
        return STATUS_NOT_FOUND;
    }
    net->rdma = rdma;
    if (rdma_device_open(net, why, why_size))
        return STATUS_OK;
    free_rdma(net);
    return STATUS_NOT_FOUND;
}

void rdma_close(struct net *net)
{
    if (net->rdma != NULL)
        free_rdma(net);
}

uint64_t net_registered_any(const struct net *net)
{
    return net->rdma == NULL ? 0 : net->rdma->size;
}
