/* A lane's completion queue and connection events. They come and go with the device (rdma_door.c).
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "net/rdma_private.h"

enum { ROUNDS_MAX = 32 /* of polls in one turn of the loop */ };

static void nonblocking(int fd)
{
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* ---- completions ---- */

/* NULL: of a queue pair that is no more. */
static struct link *link_of(struct net_lane *lane, uint64_t work_id)
{
    unsigned id = (uint8_t)(work_id >> 48);
    struct link *link = &lane->links[id < NET_PEER_LIMIT ? id : 0];
    bool known = link->rdma != NULL && link->rdma->id != NULL &&
                 (link->rdma->generation == (uint16_t)(work_id >> 32) || FAULT(OLD_QUEUE_PAIR));
    return known ? link : NULL;
}

/* Handles what is there, a batch; false: nothing was. */
static bool poll_once(struct net_lane *lane)
{
    struct rdma_lane *rdma = lane->rdma;
    struct ibv_wc completions[RDMA_POLL_COUNT];
    unsigned touched = 0;
    int count = ibv_poll_cq(rdma->cq, RDMA_POLL_COUNT, completions);
    rdma->stats.polls++;
    if (count < 0 && !FAULT(POLL_UNNOTICED))
        rdma_lose(lane->net, "the completion queue failed");
    if (count <= 0) {
        rdma->stats.empty_polls++;
        return false;
    }
    for (int i = 0; i < count; i++) {
        struct link *link = link_of(lane, completions[i].wr_id);
        if (link == NULL)
            continue;
        touched |= 1u << link->id;
        rdma_link_completion(link, &completions[i]);
    }
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++)
        if ((touched & 1u << id) != 0 && lane->links[id].wire == &wire_rdma)
            rdma_link_settle(&lane->links[id]);
    return true;
}

static void arm(struct rdma_lane *rdma)
{
    rdma->armed = true;
    rdma->stats.sleeps++;
    (void)ibv_req_notify_cq(rdma->cq, 0);
}

bool rdma_lane_poll(struct net_lane *lane)
{
    return lane->rdma->there && poll_once(lane);
}

bool rdma_lane_is_there(const struct net_lane *lane)
{
    return lane->rdma != NULL && lane->rdma->there;
}

/* What came between the last poll and the arming raises no event: hence once more. */
bool rdma_lane_may_sleep(struct net_lane *lane)
{
    if (lane->rdma->armed || !lane->rdma->there)
        return true;
    arm(lane->rdma);
    return FAULT(SLEEP_NO_POLL) || !poll_once(lane);
}

struct net_lane_stats rdma_lane_stats(const struct net_lane *lane)
{
    return lane->rdma->stats;
}

void rdma_lane_set_polling(struct net_lane *lane, bool polling)
{
    lane->rdma->polling = polling;
}

/* False: there will be none any more. */
static bool take_events(struct rdma_lane *rdma)
{
    struct ibv_cq *cq;
    void *user;
    unsigned count = 0;
    while (rdma->rdma->api->ibv_get_cq_event(rdma->completions, &cq, &user) == 0)
        count++;
    bool gone = errno != EAGAIN && errno != EINTR;
    if (count > 0 && !FAULT(COMPLETION_EVENT_HELD))
        rdma->rdma->api->ibv_ack_cq_events(rdma->cq, count);
    return !gone;
}

/* Others want their turn, too: the loop's next one goes on. (An event made active from its own
 * callback would be called again in this one.) */
static void handle_completions(struct net_lane *lane)
{
    struct timeval at_once = {0};
    for (unsigned round = 0; round < ROUNDS_MAX; round++) {
        if (poll_once(lane))
            continue;
        if (lane->rdma->polling || lane->rdma->armed)
            return;
        arm(lane->rdma);
        if (FAULT(WAKE_NO_POLL))
            return;
    }
    event_add(&lane->rdma->more, &at_once);
}

static void on_more(evutil_socket_t fd, short what, void *user)
{
    (void)fd;
    (void)what;
    handle_completions(user);
}

static void on_completions(evutil_socket_t fd, short what, void *user)
{
    struct net_lane *lane = user;
    (void)fd;
    (void)what;
    if (!take_events(lane->rdma)) {
        /* The descriptor of a device that is gone stays readable for ever. */
        event_del(&lane->rdma->completion_events);
        rdma_lose(lane->net, "the RDMA device is gone");
        return;
    }
    lane->rdma->stats.wakes++;
    lane->rdma->armed = false;
    handle_completions(lane);
}

/* ---- connection events ---- */

static void on_connections(evutil_socket_t fd, short what, void *user)
{
    struct net_lane *lane = user;
    const struct rdma_api *api = lane->rdma->rdma->api;
    struct rdma_cm_event *event;
    (void)fd;
    (void)what;
    while (api->rdma_get_cm_event(lane->rdma->channel, &event) == 0) {
        struct link *link = event->id->context;
        enum rdma_cm_event_type type = event->event;
        /* Before the id may be destroyed, which waits for it. */
        if (!FAULT(CONNECTION_EVENT_HELD))
            (void)api->rdma_ack_cm_event(event);
        rdma_link_event(link, type);
    }
}

/* ---- queues ---- */

static bool open_queues(struct rdma_lane *rdma)
{
    const struct rdma_api *api = rdma->rdma->api;
    rdma->channel = api->rdma_create_event_channel();
    if (rdma->channel == NULL)
        return false;
    rdma->completions = api->ibv_create_comp_channel(rdma->rdma->context);
    if (rdma->completions == NULL)
        return false;
    rdma->cq = api->ibv_create_cq(rdma->rdma->context, (int)rdma->rdma->cq_depth, NULL,
                                  rdma->completions, 0);
    return rdma->cq != NULL;
}

static void close_queues(struct rdma_lane *rdma)
{
    const struct rdma_api *api = rdma->rdma->api;
    if (rdma->cq != NULL)
        (void)api->ibv_destroy_cq(rdma->cq);
    if (rdma->completions != NULL)
        (void)api->ibv_destroy_comp_channel(rdma->completions);
    if (rdma->channel != NULL)
        api->rdma_destroy_event_channel(rdma->channel);
    rdma->cq = NULL;
    rdma->completions = NULL;
    rdma->channel = NULL;
}

static void start_events(struct net_lane *lane)
{
    struct rdma_lane *rdma = lane->rdma;
    nonblocking(rdma->channel->fd);
    nonblocking(rdma->completions->fd);
    event_assign(&rdma->connection_events, lane->base, rdma->channel->fd, EV_READ | EV_PERSIST,
                 on_connections, lane);
    event_assign(&rdma->completion_events, lane->base, rdma->completions->fd, EV_READ | EV_PERSIST,
                 on_completions, lane);
    evtimer_assign(&rdma->more, lane->base, on_more, lane);
    event_add(&rdma->connection_events, NULL);
    event_add(&rdma->completion_events, NULL);
    arm(rdma);
}

static enum status open_links(struct net_lane *lane)
{
    unsigned number = lane->index * (lane->net->options.peer_count - 1);
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++) {
        if (id == lane->net->side.self || (lane->net->side.known & 1u << id) == 0)
            continue;
        lane->links[id].rdma = calloc(1, sizeof(struct rdma_link));
        if (lane->links[id].rdma == NULL)
            return STATUS_NO_MEMORY;
        rdma_link_open(&lane->links[id], number++);
    }
    return STATUS_OK;
}

/* ---- the device comes and goes ---- */

/* True: the device cannot be closed before leave(). */
static bool become_user(struct net *net)
{
    pthread_mutex_lock(&net->mutex);
    bool lost = atomic_load(&net->rdma->lost);
    net->rdma->users += !lost;
    pthread_mutex_unlock(&net->mutex);
    return !lost;
}

static void take_requests(struct net_lane *lane)
{
    pthread_mutex_lock(&lane->net->mutex);
    lane->net->mailboxes[lane->index].rdma_open = true;
    pthread_mutex_unlock(&lane->net->mutex);
}

static void end_use(struct net_lane *lane)
{
    struct net *net = lane->net;
    pthread_mutex_lock(&net->mutex);
    net->mailboxes[lane->index].rdma_open = false;
    assert(net->mailboxes[lane->index].first_rdma == NULL);
    net->rdma->users--;
    net_wake_locked(&net->mailboxes[net->options.lane_count - 1]);
    pthread_mutex_unlock(&net->mutex);
}

/* STATUS_AGAIN: the device is lost. */
static enum status enter(struct net_lane *lane)
{
    struct rdma_lane *rdma = lane->rdma;
    if (!become_user(lane->net))
        return STATUS_AGAIN;
    if (!open_queues(rdma)) {
        close_queues(rdma);
        end_use(lane);
        return STATUS_NO_MEMORY;
    }
    rdma->there = true;
    start_events(lane);
    take_requests(lane);
    return STATUS_OK;
}

/* All queue pairs and requests are gone, and no request comes any more. */
static void leave(struct net_lane *lane)
{
    struct rdma_lane *rdma = lane->rdma;
    event_del(&rdma->connection_events);
    event_del(&rdma->completion_events);
    event_del(&rdma->more);
    (void)take_events(rdma);
    close_queues(rdma);
    rdma->there = false;
    end_use(lane);
}

static void take_arrivals(struct net_lane *lane)
{
    struct mailbox *mailbox = &lane->net->mailboxes[lane->index];
    pthread_mutex_lock(&lane->net->mutex);
    struct rdma_arrival *arrival = mailbox->first_rdma;
    mailbox->first_rdma = NULL;
    pthread_mutex_unlock(&lane->net->mutex);
    while (arrival != NULL) {
        struct rdma_arrival *next = arrival->next;
        rdma_link_accept(lane, arrival->id, &arrival->join);
        free(arrival);
        arrival = next;
    }
}

static void come_back(struct net_lane *lane)
{
    enum status status = enter(lane);
    if (status == STATUS_NO_MEMORY)
        rdma_lose(lane->net, "no completion queue can be made on the RDMA device");
    for (unsigned id = 1; status == STATUS_OK && id < NET_PEER_LIMIT; id++)
        link_note_device(&lane->links[id]);
}

void rdma_lane_wake(struct net_lane *lane)
{
    /* Read first: once it is lost no request comes any more. */
    bool lost = rdma_is_lost_any(lane->net);
    if (!lost && !lane->rdma->there)
        come_back(lane);
    take_arrivals(lane);
    if (!lost || !lane->rdma->there)
        return;
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++)
        if (lane->links[id].wire == &wire_rdma)
            link_down(&lane->links[id], "the RDMA device is of no use any more");
    leave(lane);
}

/* ---- opening and closing ---- */

enum status rdma_lane_open(struct net_lane *lane)
{
    if (lane->net->rdma == NULL)
        return STATUS_OK;
    lane->rdma = calloc(1, sizeof(*lane->rdma));
    if (lane->rdma == NULL)
        return STATUS_NO_MEMORY;
    lane->rdma->rdma = lane->net->rdma;
    return enter(lane) == STATUS_NO_MEMORY ? STATUS_NO_MEMORY : open_links(lane);
}

/* The links are closed: nothing is under way. */
void rdma_lane_close(struct net_lane *lane)
{
    if (lane->rdma == NULL)
        return;
    take_arrivals(lane); /* nobody waits for them: they are refused */
    for (unsigned id = 1; id < NET_PEER_LIMIT; id++) {
        free(lane->links[id].rdma);
        lane->links[id].rdma = NULL;
    }
    if (lane->rdma->there)
        leave(lane);
    free(lane->rdma);
    lane->rdma = NULL;
}
