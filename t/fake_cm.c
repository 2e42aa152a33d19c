#include "t/fake_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { REQUEST_DATA_MAX = 56, ACCEPT_DATA_MAX = 196, REJECT_DATA_MAX = 148 };

static int refuse(int error)
{
    errno = error;
    return -1;
}

/* ---- addresses ---- */

enum { OWN_NETWORK = 0x7f000100 /* 127.0.1.N is device N's alone */ };

/* NULL: nobody's. 127.0.0.1 and ::1 are everybody's: the device is that of the caller's table. */
static struct fake_device *device_of(const struct sockaddr *address, struct fake_device *own)
{
    bool four = address->sa_family == AF_INET;
    uint32_t host = ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr);
    uint32_t number = host - OWN_NETWORK;
    if (four && number >= 1 && number <= FAKE_DEVICE_COUNT)
        return &fake.devices[number];
    bool local = four ? host == INADDR_LOOPBACK
                      : IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
    if (!local)
        return NULL;
    return fake.settings.loopback_device != 0 ? &fake.devices[fake.settings.loopback_device] : own;
}

static bool is_wildcard(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET6)
        return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)address)->sin6_addr);
    return ((const struct sockaddr_in *)address)->sin_addr.s_addr == 0;
}

static uint16_t port_of(const struct sockaddr *address)
{
    return ntohs(((const struct sockaddr_in *)address)->sin_port); /* both families alike */
}

static void set_source(struct fake_id *id, const struct sockaddr *address, uint16_t port)
{
    bool six = address->sa_family == AF_INET6;
    memcpy(&id->id.route.addr.src_storage, address,
           six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    id->id.route.addr.src_sin.sin_port = htons(port);
    id->port = port;
}

/* Ports are shared by all devices, as one address is. */
static struct fake_id *find_bound(uint16_t port)
{
    for (struct fake_id *id = fake.ids; id != NULL; id = id->next)
        if ((id->state == ID_BOUND || id->state == ID_LISTENING) && id->port == port)
            return id;
    return NULL;
}

static uint16_t free_port(void)
{
    do
        fake.next_port = fake.next_port < FAKE_PORT_FIRST ? FAKE_PORT_FIRST : fake.next_port + 1;
    while (find_bound(fake.next_port) != NULL);
    return fake.next_port;
}

/* ---- channels and their events ---- */

struct rdma_event_channel *fake_create_event_channel(unsigned node)
{
    struct fake_cm_channel *channel = calloc(1, sizeof(*channel));
    fake_lock();
    channel->device = &fake.devices[node];
    fake_mailbox_open(&channel->events);
    channel->channel.fd = channel->events.fd;
    fake.counters.channels++;
    fake_unlock();
    return &channel->channel;
}

void fake_destroy_event_channel(struct rdma_event_channel *given)
{
    struct fake_cm_channel *channel = (struct fake_cm_channel *)given;
    fake_lock();
    if (channel->ids != 0)
        fake_violate("rdma_destroy_event_channel: %u ids use it", channel->ids);
    fake_mailbox_close(&channel->events);
    fake.counters.channels--;
    fake_unlock();
    free(channel);
}

static void count_end(const struct fake_id *id)
{
    fake.counters.without_ack_timeout += !id->ack_timeout_set;
}

/* The library makes the dialler's queue pair ready when the program fetches the event, and then
 * tells the acceptor. */
static void establish(struct fake_id *id)
{
    struct fake_qp *qp = (struct fake_qp *)id->id.qp;
    id->state = ID_CONNECTED;
    if (qp->qp.state == IBV_QPS_INIT)
        qp->qp.state = IBV_QPS_RTS;
    fake.counters.joins++;
    fake.counters.endless_retries += id->param.retry_count == 7;
    count_end(id);
    fake_tell(id, id->peer, RDMA_CM_EVENT_ESTABLISHED, 0);
    fake_cm_deliver();
    fake_post_run(qp);
}

static void fetch(struct fake_id *id, const struct rdma_cm_event *event)
{
    id->got++;
    fake.counters.cm_events++;
    if (event->event == RDMA_CM_EVENT_CONNECT_REQUEST)
        id->waiting--;
    else if (event->event == RDMA_CM_EVENT_ESTABLISHED && id->state == ID_CONNECTING)
        establish(id);
    else if ((event->event == RDMA_CM_EVENT_REJECTED ||
              event->event == RDMA_CM_EVENT_UNREACHABLE) &&
             id->id.qp != NULL) {
        fake_qp_error((struct fake_qp *)id->id.qp);
        fake_post_run((struct fake_qp *)id->id.qp);
    }
}

int fake_get_cm_event(struct rdma_event_channel *given, struct rdma_cm_event **event)
{
    struct fake_cm_channel *channel = (struct fake_cm_channel *)given;
    struct fake_event *taken = fake_mailbox_take_locking(&channel->events);
    if (taken == NULL)
        return -1;
    struct fake_cm_event *own = (struct fake_cm_event *)taken;
    fetch(taken->owner, &own->cm);
    *event = &own->cm;
    fake_unlock();
    return 0;
}

int fake_ack_cm_event(struct rdma_cm_event *event)
{
    struct fake_cm_event *own =
        (struct fake_cm_event *)((char *)event - offsetof(struct fake_cm_event, cm));
    fake_lock();
    for (struct fake_id *id = fake.ids; id != NULL; id = id->next)
        if (id == own->event.owner)
            id->acknowledged++;
    fake_unlock();
    memset(own, FAKE_POISON, sizeof(*own));
    free(own);
    return 0;
}

/* ---- ids ---- */

int fake_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *context,
                   enum rdma_port_space space)
{
    if (space != RDMA_PS_TCP)
        return refuse(EINVAL);
    fake_lock();
    if (channel == NULL) {
        fake_violate("rdma_create_id: without a channel its calls block");
        fake_unlock();
        return refuse(EINVAL);
    }
    *id = &fake_id_make((struct fake_cm_channel *)channel, context, space)->id;
    fake_unlock();
    return 0;
}

/* What an id that goes away tells the other side. */
static void say_farewell(struct fake_id *id)
{
    if (id->peer == NULL)
        return;
    if (id->state == ID_CONNECTING || id->state == ID_REQUESTED)
        fake_tell(id, id->peer, RDMA_CM_EVENT_REJECTED, 4 /* stale */);
    else if (id->state == ID_ACCEPTED || id->state == ID_CONNECTED)
        fake_tell(id, id->peer, RDMA_CM_EVENT_DISCONNECTED, 0);
    id->peer->peer = NULL;
}

static void forget_letters(struct fake_id *id)
{
    for (struct fake_letter *letter = fake.letters; letter != NULL; letter = letter->next) {
        if (letter->to == id)
            letter->to = NULL;
        if (letter->from == id)
            letter->from = NULL;
    }
}

static void remove_id(struct fake_id *id);

static void forget_events(struct fake_id *id)
{
    struct fake_cm_channel *channel = (struct fake_cm_channel *)id->id.channel;
    struct fake_event *event;
    while ((event = fake_mailbox_remove(&channel->events, id)) != NULL) {
        struct rdma_cm_event *cm = &((struct fake_cm_event *)event)->cm;
        if (cm->event == RDMA_CM_EVENT_CONNECT_REQUEST)
            remove_id((struct fake_id *)cm->id);
        free(event);
    }
}

static void remove_id(struct fake_id *id)
{
    struct fake_id **at = &fake.ids;
    forget_events(id);
    say_farewell(id);
    forget_letters(id);
    while (*at != id)
        at = &(*at)->next;
    *at = id->next;
    ((struct fake_cm_channel *)id->id.channel)->ids--;
    fake_id_set_device(id, NULL);
    fake.counters.ids--;
    free(id);
}

static void await_acknowledgements(const struct fake_id *id, const char *what)
{
    if (!fake_await(&id->got, &id->acknowledged))
        fake_violate("%s: waits for ever for %u events", what, id->got - id->acknowledged);
}

int fake_destroy_id(struct rdma_cm_id *given)
{
    struct fake_id *id = (struct fake_id *)given;
    fake_lock();
    await_acknowledgements(id, "rdma_destroy_id");
    if (id->id.qp != NULL) {
        fake_violate("rdma_destroy_id: it still has a queue pair");
        fake_qp_close((struct fake_qp *)id->id.qp);
    }
    remove_id(id);
    fake_cm_deliver();
    fake_unlock();
    return 0;
}

int fake_migrate_id(struct rdma_cm_id *given, struct rdma_event_channel *target)
{
    struct fake_id *id = (struct fake_id *)given;
    struct fake_cm_channel *from = (struct fake_cm_channel *)id->id.channel;
    struct fake_cm_channel *to = (struct fake_cm_channel *)target;
    struct fake_event *event;
    fake_lock();
    await_acknowledgements(id, "rdma_migrate_id");
    if (from->device != to->device)
        fake_violate("rdma_migrate_id: to another node's channel");
    while (from != to && (event = fake_mailbox_remove(&from->events, id)) != NULL)
        fake_mailbox_put(&to->events, event);
    from->ids--;
    to->ids++;
    id->id.channel = target;
    fake_unlock();
    return 0;
}

int fake_set_option(struct rdma_cm_id *given, int level, int name, void *value, size_t size)
{
    struct fake_id *id = (struct fake_id *)given;
    if (level != RDMA_OPTION_ID || name != RDMA_OPTION_ID_ACK_TIMEOUT || size != 1 ||
        *(uint8_t *)value > 31)
        return refuse(EINVAL);
    fake_lock();
    id->ack_timeout_set = true;
    fake_unlock();
    return 0;
}

/* ---- towards a connection ---- */

static int bind_locked(struct fake_id *id, const struct sockaddr *address)
{
    struct fake_device *device = ((struct fake_cm_channel *)id->id.channel)->device;
    uint16_t port = port_of(address);
    if (id->state != ID_IDLE)
        return EINVAL;
    if (!is_wildcard(address))
        device = device_of(address, device);
    if (fake.settings.no_device || device == NULL || device->removed)
        return ENODEV;
    if (port == 0)
        port = free_port();
    else if (find_bound(port) != NULL)
        return EADDRINUSE;
    fake_id_set_device(id, device);
    if (is_wildcard(address))
        id->id.verbs = NULL; /* of all devices */
    set_source(id, address, port);
    id->state = ID_BOUND;
    return 0;
}

int fake_bind_addr(struct rdma_cm_id *id, struct sockaddr *address)
{
    fake_lock();
    int error = bind_locked((struct fake_id *)id, address);
    fake_unlock();
    return error != 0 ? refuse(error) : 0;
}

int fake_listen(struct rdma_cm_id *given, int backlog)
{
    struct fake_id *id = (struct fake_id *)given;
    fake_lock();
    bool bound = id->state == ID_BOUND;
    if (bound) {
        id->state = ID_LISTENING;
        id->backlog = backlog > 0 ? backlog : 1024;
    }
    fake_unlock();
    return bound ? 0 : refuse(EINVAL);
}

__be16 fake_get_src_port(struct rdma_cm_id *id)
{
    return id->route.addr.src_sin.sin_port;
}

static int resolve_locked(struct fake_id *id, struct sockaddr *source, struct sockaddr *destination)
{
    struct sockaddr_in first = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (id->state != ID_IDLE && id->state != ID_BOUND)
        return EINVAL;
    if (id->state == ID_IDLE && bind_locked(id, source != NULL ? source : (void *)&first) != 0)
        return ENODEV;
    bool six = destination->sa_family == AF_INET6;
    memcpy(&id->id.route.addr.dst_storage, destination,
           six ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    id->state = ID_RESOLVING;
    if (device_of(destination, id->device) == NULL)
        fake_tell(id, id, RDMA_CM_EVENT_ADDR_ERROR, -ENODEV);
    else
        fake_tell(id, id, RDMA_CM_EVENT_ADDR_RESOLVED, 0);
    fake_cm_deliver();
    return 0;
}

int fake_resolve_addr(struct rdma_cm_id *id, struct sockaddr *source, struct sockaddr *destination,
                      int timeout_ms)
{
    (void)timeout_ms;
    fake_lock();
    int error = resolve_locked((struct fake_id *)id, source, destination);
    fake_unlock();
    return error != 0 ? refuse(error) : 0;
}

int fake_resolve_route(struct rdma_cm_id *given, int timeout_ms)
{
    struct fake_id *id = (struct fake_id *)given;
    (void)timeout_ms;
    fake_lock();
    bool addressed = id->state == ID_ADDRESSED;
    if (addressed) {
        id->state = ID_RESOLVING;
        fake_tell(id, id, RDMA_CM_EVENT_ROUTE_RESOLVED, 0);
        fake_cm_deliver();
    }
    fake_unlock();
    return addressed ? 0 : refuse(EINVAL);
}

int fake_create_qp(struct rdma_cm_id *given, struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
    struct fake_id *id = (struct fake_id *)given;
    struct fake_qp *qp = NULL;
    fake_lock();
    errno = EINVAL;
    if (id->id.qp == NULL)
        qp = fake_qp_open(id, pd, attr);
    if (qp != NULL) {
        id->id.qp = &qp->qp;
        id->id.pd = pd;
    }
    fake_unlock();
    return qp != NULL ? 0 : -1;
}

void fake_destroy_qp(struct rdma_cm_id *given)
{
    struct fake_id *id = (struct fake_id *)given;
    fake_lock();
    if (id->id.qp == NULL)
        fake_violate("rdma_destroy_qp: there is none");
    else
        fake_qp_close((struct fake_qp *)id->id.qp);
    id->id.qp = NULL;
    fake_unlock();
}

static int param_error(const struct fake_id *id, const struct rdma_conn_param *param, unsigned max)
{
    if (id->id.qp == NULL || param->private_data_len > max || param->rnr_retry_count > 7 ||
        param->retry_count > 7 || param->responder_resources > fake.settings.read_max ||
        param->initiator_depth > fake.settings.read_max)
        return EINVAL;
    return id->device->removed ? EIO : 0;
}

int fake_connect(struct rdma_cm_id *given, struct rdma_conn_param *param)
{
    struct fake_id *id = (struct fake_id *)given;
    fake_lock();
    int error = id->state != ID_ROUTED ? EINVAL : param_error(id, param, REQUEST_DATA_MAX);
    if (error == 0) {
        struct fake_cm_event *event = fake_event_make(RDMA_CM_EVENT_CONNECT_REQUEST, 0);
        fake_event_param(event, param, REQUEST_DATA_MAX);
        id->param = *param;
        id->state = ID_CONNECTING;
        struct fake_letter *letter = fake_letter_post(id, NULL, event);
        letter->port = port_of(&id->id.route.addr.dst_addr);
        fake_cm_deliver();
    }
    fake_unlock();
    return error != 0 ? refuse(error) : 0;
}

static void join(struct fake_id *id, struct fake_id *dialler, const struct rdma_conn_param *param)
{
    struct fake_qp *qp = (struct fake_qp *)id->id.qp;
    qp->acceptor = true;
    qp->initiator_depth = param->initiator_depth;
    qp->responder_resources = param->responder_resources;
    qp->qp.state = IBV_QPS_RTS;
    if (dialler == NULL || dialler->id.qp == NULL)
        return;
    struct fake_qp *peer = (struct fake_qp *)dialler->id.qp;
    unsigned depth = dialler->param.initiator_depth;
    qp->rnr_retry = dialler->param.rnr_retry_count;
    qp->peer = peer;
    peer->peer = qp;
    peer->rnr_retry = param->rnr_retry_count;
    peer->responder_resources = dialler->param.responder_resources;
    peer->initiator_depth = depth < param->responder_resources ? depth : param->responder_resources;
}

int fake_accept(struct rdma_cm_id *given, struct rdma_conn_param *param)
{
    struct fake_id *id = (struct fake_id *)given;
    fake_lock();
    int error = id->state != ID_REQUESTED ? EINVAL : param_error(id, param, ACCEPT_DATA_MAX);
    if (error == 0) {
        struct fake_cm_event *event = fake_event_make(RDMA_CM_EVENT_ESTABLISHED, 0);
        fake_event_param(event, param, ACCEPT_DATA_MAX);
        join(id, id->peer, param);
        id->state = ID_ACCEPTED;
        count_end(id);
        fake_letter_post(id, id->peer, event);
        fake_cm_deliver();
    }
    fake_unlock();
    return error != 0 ? refuse(error) : 0;
}

int fake_reject(struct rdma_cm_id *given, const void *private_data, uint8_t size)
{
    struct fake_id *id = (struct fake_id *)given;
    fake_lock();
    bool possible = id->state == ID_REQUESTED && size <= REJECT_DATA_MAX;
    if (possible) {
        struct fake_cm_event *event =
            fake_event_make(RDMA_CM_EVENT_REJECTED, 28 /* the program's */);
        fake_event_data(event, private_data, size, REJECT_DATA_MAX);
        id->state = ID_ENDED;
        fake_letter_post(id, id->peer, event);
        fake_cm_deliver();
    }
    fake_unlock();
    return possible ? 0 : refuse(EINVAL);
}

int fake_disconnect(struct rdma_cm_id *given)
{
    struct fake_id *id = (struct fake_id *)given;
    fake_lock();
    bool possible = id->state == ID_ACCEPTED || id->state == ID_CONNECTED || id->parted;
    if (possible && id->id.qp != NULL) {
        fake_qp_error((struct fake_qp *)id->id.qp);
        fake_post_run((struct fake_qp *)id->id.qp);
    }
    if (possible && id->state != ID_ENDED) {
        id->state = ID_ENDED;
        fake_tell(id, id->peer, RDMA_CM_EVENT_DISCONNECTED, 0);
        fake_tell(id, id, RDMA_CM_EVENT_DISCONNECTED, 0);
        fake_cm_deliver();
    }
    fake_unlock();
    return possible ? 0 : refuse(EINVAL);
}

/* ---- devices ---- */

/* What was removed is let go of only here, if nothing is left of it; and not, if there is no device
 * at all. */
struct ibv_context **fake_get_devices(int *count)
{
    struct ibv_context **devices = calloc(FAKE_DEVICE_COUNT + 1, sizeof(struct ibv_context *));
    *count = 0;
    fake_lock();
    for (unsigned i = 1; i <= FAKE_DEVICE_COUNT; i++)
        if (!fake.devices[i].removed)
            devices[(*count)++] = &fake.devices[i].context;
    for (unsigned i = 1; i <= FAKE_DEVICE_COUNT && *count > 0; i++)
        if (fake.devices[i].removed && fake.devices[i].objects == 0)
            fake.devices[i].open = false;
    fake_unlock();
    if (*count > 0)
        return devices;
    free(devices);
    errno = ENODEV;
    return NULL;
}

void fake_free_devices(struct ibv_context **devices)
{
    free(devices);
}
