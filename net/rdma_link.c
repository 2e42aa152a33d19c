/* A link's queue pair.
 *
 *     acceptor                                     dialler
 *     hello_ready over the socket  ------------->  resolve the address, then the route
 *     the request with its hello_join  <---------  connect
 *     accept  --------------------------------->   established: up, first frame
 *     first frame received: up  <----------------
 *
 * Never used twice: what went wrong with a queue pair ends with it. Destroying it is what proves
 * that the peer no longer reads our staging. Nothing is sent again by this layer. */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "net/rdma_private.h"

static void set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)address)->sin_port = htons(port);
}

/* ---- the queue pair ---- */

/* Devices differ in what they inline; asking for too much fails. */
static bool create_queue_pair(struct link *link)
{
    static const uint32_t inlines[] = {RDMA_INLINE_MAX, 128, 80, 0};
    struct rdma *rdma = rdma_of(link);
    struct ibv_cq *cq = link->lane->rdma->cq;
    for (unsigned i = 0; i < sizeof(inlines) / sizeof(inlines[0]); i++) {
        struct ibv_qp_init_attr attr = {
            .send_cq = cq,
            .recv_cq = cq,
            .cap = {.max_send_wr = RDMA_SEND_COUNT,
                    .max_recv_wr = RDMA_RECEIVE_COUNT,
                    .max_send_sge = 1,
                    .max_recv_sge = 1,
                    .max_inline_data = inlines[i]},
            .qp_type = IBV_QPT_RC,
        };
        if (rdma->api->rdma_create_qp(link->rdma->id, rdma->pd, &attr) == 0) {
            link->rdma->inline_max = attr.cap.max_inline_data;
            return true;
        }
    }
    return false;
}

static void reset(struct link *link)
{
    struct rdma_link *rdma = link->rdma;
    rdma->id = NULL;
    rdma->connected = false;
    rdma->ready_got = 0;
    rdma->generation++;
    rdma->sent = 0;
    rdma->done = 0;
    rdma->sequence = 0;
    rdma->credit = RDMA_RECEIVE_COUNT;
    rdma->staged = 0;
    rdma->staging_busy = false;
    rdma_receive_reset(link);
}

/* Receives first: a frame that meets none would end the connection. */
static bool make_queue_pair(struct link *link)
{
    return create_queue_pair(link) && (FAULT(RECEIVES_LATE) || rdma_post_receives(link, true));
}

static struct rdma_conn_param parameters(const struct link *link)
{
    uint8_t depth = rdma_of(link)->read_depth;
    return (struct rdma_conn_param){.responder_resources = depth,
                                    .initiator_depth = depth,
                                    .retry_count = FAULT(ENDLESS_RETRIES) ? 7 : RDMA_RETRIES,
                                    .rnr_retry_count = 0 /* an RNR is a bug: let it be seen */};
}

/* Not inherited from the listener, nor agreed upon: each side sets its own. */
static void set_ack_timeout(const struct link *link)
{
    uint8_t timeout = RDMA_ACK_TIMEOUT;
    if (FAULT(NO_ACK_TIMEOUT))
        return;
    (void)rdma_of(link)->api->rdma_set_option(
        link->rdma->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, sizeof(timeout));
}

/* Frames are counted where they are posted. */
static void count_messages(struct link *link)
{
    link->stats.messages_out += link_taken(&link->output.messages);
    link->output.frames = 0;
    link->output.bytes = 0;
}

static void end(struct link *link)
{
    struct rdma_link *rdma = link->rdma;
    const struct rdma_api *api = rdma_of(link)->api;
    count_messages(link);
    link->stats.credits = 0;
    if (rdma->id != NULL) {
        if (rdma->connected)
            (void)api->rdma_disconnect(rdma->id);
        if (rdma->id->qp != NULL)
            api->rdma_destroy_qp(rdma->id);
        (void)api->rdma_destroy_id(rdma->id);
    }
    rdma->id = NULL;
}

/* ---- the dialler ---- */

/* This node's own address, which is on the device that has our memory. The socket's need not be:
 * the kernel took it from the route to the peer, which may lead out of another interface. */
static bool find_addresses(const struct link *link, struct sockaddr_storage *from,
                           struct sockaddr_storage *to)
{
    socklen_t from_size = sizeof(*from), to_size = sizeof(*to);
    if (getsockname(link->fd, (struct sockaddr *)from, &from_size) != 0 ||
        getpeername(link->fd, (struct sockaddr *)to, &to_size) != 0)
        return false;
    if (rdma_of(link)->own.ss_family == to->ss_family)
        *from = rdma_of(link)->own;
    set_port(from, 0);
    set_port(to, link->rdma->ready.port);
    return true;
}

static void dial(struct link *link)
{
    struct rdma_link *rdma = link->rdma;
    const struct rdma_api *api = rdma_of(link)->api;
    struct sockaddr_storage from, to;
    int limit = (int)link->lane->net->options.connect_ms;
    if (!find_addresses(link, &from, &to)) {
        link_down(link, "closed by the peer");
        return;
    }
    if (api->rdma_create_id(link->lane->rdma->channel, &rdma->id, link, RDMA_PS_TCP) != 0) {
        rdma->id = NULL;
        link_down(link, "RDMA: no connection identifier");
    } else if (api->rdma_resolve_addr(rdma->id, (struct sockaddr *)&from, (struct sockaddr *)&to,
                                      limit) != 0) {
        link_down(link, "RDMA: the peer's address is not reached over this device");
    }
}

static void on_address(struct link *link)
{
    const struct rdma_api *api = rdma_of(link)->api;
    if (link->rdma->id->verbs != rdma_of(link)->context)
        link_down(link, "RDMA: the peer is reached over another device than this node's address");
    else if (api->rdma_resolve_route(link->rdma->id, (int)link->lane->net->options.connect_ms) != 0)
        link_down(link, "RDMA: no route to the peer");
}

static void on_route(struct link *link)
{
    struct rdma_link *rdma = link->rdma;
    struct hello_join join;
    struct rdma_conn_param param = parameters(link);
    hello_make_join(&join, &link->call, &link->answer, &link->lane->net->side);
    param.private_data = &join;
    param.private_data_len = sizeof(join);
    if (!make_queue_pair(link)) {
        link_down(link, "RDMA: no queue pair");
        return;
    }
    set_ack_timeout(link);
    rdma->connected = true;
    if (rdma_of(link)->api->rdma_connect(rdma->id, &param) != 0)
        link_down(link, "RDMA: the connection could not be asked for");
}

/* The socket tells the dialler where to connect, then its end that the peer is gone. */
static void on_socket(evutil_socket_t fd, short what, void *user)
{
    struct link *link = user;
    struct rdma_link *rdma = link->rdma;
    size_t left = link_dials(link) ? sizeof(rdma->ready) - rdma->ready_got : 0;
    uint8_t more;
    (void)what;
    ssize_t got = left > 0 ? recv(fd, (uint8_t *)&rdma->ready + rdma->ready_got, left, MSG_DONTWAIT)
                           : recv(fd, &more, sizeof(more), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        link_down(link, "closed by the peer");
        return;
    }
    rdma->ready_got += (size_t)got;
    if (left == 0)
        link_down(link, "bytes on a socket that should be silent");
    else if (left == (size_t)got && hello_check_ready(&rdma->ready) != HELLO_ACCEPTED)
        link_down(link, hello_refusal_text(HELLO_DAMAGED));
    else if (left == (size_t)got)
        dial(link);
}

/* ---- the acceptor ---- */

static bool awaited(const struct link *link, const struct hello_join *join)
{
    return link->lane->rdma->there && link->state == LINK_JOINING && link->wire == &wire_rdma &&
           !link_dials(link) && link->rdma->id == NULL &&
           (FAULT(JOIN_UNPROVED) || hello_check_join(join, &link->call, &link->answer,
                                                     &link->lane->net->side) == HELLO_ACCEPTED);
}

void rdma_link_accept(struct net_lane *lane, struct rdma_cm_id *id, const struct hello_join *join)
{
    struct link *link = &lane->links[join->from < NET_PEER_LIMIT ? join->from : 0];
    const struct rdma_api *api = lane->net->rdma->api;
    if (!awaited(link, join)) {
        rdma_refuse(lane->net, id, rdma_not_awaited);
        return;
    }
    if (id->verbs != lane->net->rdma->context ||
        api->rdma_migrate_id(id, lane->rdma->channel) != 0) {
        rdma_refuse(lane->net, id, NULL);
        return;
    }
    struct rdma_conn_param param = parameters(link);
    id->context = link;
    link->rdma->id = id;
    if (!make_queue_pair(link)) {
        (void)api->rdma_reject(id, NULL, 0);
        link_down(link, "RDMA: no queue pair");
        return;
    }
    set_ack_timeout(link);
    link->rdma->connected = true;
    if (api->rdma_accept(id, &param) != 0)
        link_down(link, "RDMA: the connection could not be accepted");
}

/* ---- what happens to it ---- */

static const char *failure_text(enum rdma_cm_event_type type)
{
    switch (type) {
    case RDMA_CM_EVENT_ADDR_ERROR:
        return "RDMA: the peer's address was not resolved";
    case RDMA_CM_EVENT_ROUTE_ERROR:
        return "RDMA: no route to the peer";
    case RDMA_CM_EVENT_UNREACHABLE:
        return "RDMA: the peer does not answer";
    case RDMA_CM_EVENT_REJECTED:
        return "RDMA: the peer refused";
    case RDMA_CM_EVENT_DISCONNECTED:
        return "closed by the peer";
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
        return "the RDMA device is gone";
    default:
        return "RDMA: the connection failed";
    }
}

void rdma_link_event(struct link *link, enum rdma_cm_event_type type)
{
    switch (type) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
        on_address(link);
        return;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
        on_route(link);
        return;
    case RDMA_CM_EVENT_ESTABLISHED: /* The acceptor waits for the first frame. */
        if ((link_dials(link) || FAULT(ACCEPTOR_SPEAKS)) && link->state == LINK_JOINING)
            link_go_up(link);
        return;
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
    case RDMA_CM_EVENT_CONNECT_RESPONSE:
        return;
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
        rdma_lose(link->lane->net, "the RDMA device is gone");
        link_down(link, failure_text(type));
        return;
    default:
        link_down(link, failure_text(type));
        return;
    }
}

static void on_failed(struct link *link, const struct ibv_wc *completion)
{
    const char *why = rdma_of(link)->api->ibv_wc_status_str(completion->status);
    if (completion->status == IBV_WC_RNR_RETRY_EXC_ERR)
        link->stats.not_ready++;
    if (completion->status == IBV_WC_RETRY_EXC_ERR)
        link->stats.retries++;
    link_down(link, completion->status == IBV_WC_WR_FLUSH_ERR ? "closed by the peer" : why);
}

/* The first frame is what brings an acceptor's link up. */
static void on_frame(struct link *link, const struct ibv_wc *completion)
{
    enum frame_error error = rdma_received(link, (uint32_t)completion->wr_id, completion->byte_len);
    if (error != FRAME_OK) {
        link_complain_damage(link, error);
        link_down(link, frame_error_text(error));
        return;
    }
    link_heard(link);
    if (link->state == LINK_JOINING)
        link_go_up(link);
}

void rdma_link_completion(struct link *link, const struct ibv_wc *completion)
{
    struct rdma_link *rdma = link->rdma;
    link->stats.completions++;
    if (completion->status != IBV_WC_SUCCESS && !FAULT(FAILED_IS_DONE)) {
        on_failed(link, completion);
        return;
    }
    switch ((enum rdma_work)(completion->wr_id >> 56)) {
    case RDMA_READ:
        rdma_read_done(link);
        rdma->done = (uint32_t)completion->wr_id + 1;
        return;
    case RDMA_SEND:
        rdma->done = (uint32_t)completion->wr_id + 1;
        return;
    case RDMA_RECEIVE:
        on_frame(link, completion);
        return;
    }
}

void rdma_link_settle(struct link *link)
{
    if (!link_usable(link))
        return;
    rdma_start_pull(link);
    link_deliver(link);
}

/* ---- the wire ---- */

static void join(struct link *link)
{
    struct hello_ready ready;
    reset(link);
    if (!link->lane->rdma->there) { /* it went while the two greeted each other */
        link_down(link, "the RDMA device is gone");
        return;
    }
    output_set_framing(&link->output, RDMA_EAGER_MAX, true);
    event_assign(&link->readable, link->lane->base, link->fd, EV_READ | EV_PERSIST, on_socket,
                 link);
    event_add(&link->readable, NULL);
    if (link_dials(link))
        return;
    hello_make_ready(&ready, rdma_of(link)->port);
    if (send(link->fd, &ready, sizeof(ready), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(ready))
        link_down(link, "closed by the peer");
}

/* Nothing was stopped: what came meanwhile lies in its slots. */
static void resume(struct link *link)
{
    (void)link;
}

/* Slots are free again, or the peer has told of its own. */
static void delivered(struct link *link)
{
    struct rdma_link *rdma = link->rdma;
    if (!rdma_post_receives(link, false)) {
        link_break(link, "RDMA: no receives can be posted");
        return;
    }
    if (link->writing && !FAULT(CREDIT_UNHEARD))
        link_write_out(link);
    if (link_usable(link) && ((rdma->posted - rdma->told >= RDMA_GRANT_LAG && !FAULT(GRANT_LATE)) ||
                              (rdma->pulled != rdma->pulled_told && !FAULT(PULLED_LATE))))
        (void)rdma_send_empty(link);
}

/* Heartbeats go beside a queue that waits for credits: with the reserve. */
static void tick(struct link *link)
{
    struct rdma_link *rdma = link->rdma;
    if (link_usable(link) && (link->writing || rdma->posted != rdma->told))
        (void)rdma_send_empty(link);
    count_messages(link);
    link->stats.credits = rdma->credit - rdma->sequence;
}

const struct wire wire_rdma = {
    .join = join,
    .write = rdma_write,
    .peek = rdma_peek,
    .take = rdma_take,
    .resume = resume,
    .delivered = delivered,
    .tick = tick,
    .end = end,
};

void rdma_link_open(struct link *link, unsigned number)
{
    struct rdma *rdma = rdma_of(link);
    struct rdma_link *made = link->rdma;
    uint8_t *slots = rdma->memory + number * rdma->frames_size;
    uint8_t *large = rdma->memory + rdma->link_count * rdma->frames_size;
    made->receive_slots = slots;
    made->send_slots = slots + (size_t)RDMA_RECEIVE_COUNT * RDMA_SLOT_SIZE;
    made->staging = large + number * rdma->large_size;
    made->sink = large + (rdma->link_count + number) * rdma->large_size;
}
