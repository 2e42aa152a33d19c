/* The worker's lane to its peers: messages in and out. */
#include "server/worker.h"

#include "base/log.h"
#include "server/node.h"

static enum net_take on_message(void *user, unsigned peer, uint64_t incarnation, struct slice bytes)
{
    struct worker *worker = user;
    (void)incarnation;
    const char *why = message_invalid(bytes);
    const struct message *message = bytes.data;
    if (why == NULL && message->from != peer)
        why = "a message in the name of another node";
    if (why != NULL) {
        net_drop(worker->lane, peer, why);
        return NET_TAKEN;
    }
    if (shard_holds(worker->shard, message)) {
        worker->holds = true;
        return NET_HOLD;
    }
    worker->talked = worker->talked || (worker->rdma_peers & node_bit(peer)) != 0;
    struct event event = {.type = EVENT_MESSAGE, .message = message};
    worker_step(worker, &event);
    return NET_TAKEN;
}

static void on_up(void *user, unsigned peer, uint64_t incarnation)
{
    struct worker *worker = user;
    bool rdma = net_is_rdma(worker->lane, peer);
    log_info("shard %u: connected to node %u (incarnation %llu) over %s", worker->number, peer,
             (unsigned long long)incarnation, rdma ? "rdma" : "tcp");
    if (rdma)
        worker->rdma_peers |= node_bit(peer);
    struct event event = {.type = EVENT_UP, .peer = peer};
    worker_step(worker, &event);
}

static void on_down(void *user, unsigned peer, uint64_t incarnation, const char *why)
{
    struct worker *worker = user;
    (void)incarnation;
    log_info("shard %u: connection to node %u is down: %s", worker->number, peer, why);
    worker->rdma_peers &= (uint8_t)~node_bit(peer);
}

static void on_writable(void *user, unsigned peer)
{
    (void)user;
    (void)peer; /* Bulk waits for HEAL_TAKEN, not for the socket. */
}

static const struct net_callbacks callbacks = {
    .on_message = on_message,
    .on_up = on_up,
    .on_down = on_down,
    .on_writable = on_writable,
};

enum status worker_net_open(struct worker *worker)
{
    if (worker->node->net == NULL)
        return STATUS_OK;
    enum status status = net_lane_open(worker->node->net, worker->number, worker->base, &callbacks,
                                       worker, &worker->lane);
    if (status != STATUS_OK) {
        log_error("shard %u: no lane to the peers: %s", worker->number, status_text(status));
        return status;
    }
    worker->polls = worker->node->options.poll_us > 0 && net_registered_any(worker->node->net) > 0;
    if (worker->polls)
        net_set_polling(worker->lane, true);
    return STATUS_OK;
}

/* Never BUSY: the core relies on its channels while they last. A peer that takes nothing any more
 * loses the connection instead, and EVENT_UP makes the core send again. */
void worker_net_send(struct worker *worker, const struct action *action)
{
    const struct slice parts[] = {
        slice_make(&action->header, sizeof(action->header)),
        action->key,
        action->value,
    };
    if (worker->lane == NULL)
        return;
    worker->talked = worker->talked || (action->to & worker->rdma_peers) != 0; /* and is answered */
    for (unsigned peer = 1; peer <= NET_NODE_MAX; peer++) {
        if ((action->to & node_bit(peer)) == 0)
            continue;
        enum status status = net_send(worker->lane, peer, NET_URGENT, parts, 3);
        if (status != STATUS_OK && status != STATUS_CLOSED)
            net_drop(worker->lane, peer, "a message could not be queued");
    }
}

void worker_net_resume(struct worker *worker)
{
    worker->holds = false;
    for (unsigned peer = 1; worker->lane != NULL && peer <= NET_NODE_MAX; peer++) {
        if (peer != worker->node->options.self)
            net_resume(worker->lane, peer);
    }
}
