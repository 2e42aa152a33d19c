#include "t/fake_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum {
    REQUEST_DATA_MAX = 56,
    ACCEPT_DATA_MAX = 196,
    REJECT_DATA_MAX = 148,
    STATUS_NOBODY_LISTENS = 8, /* IB's "invalid service id" */
    STATUS_STALE = 4,
    STATUS_CONSUMER = 28,
};

static int refuse(int error)
{
    errno = error;
    return -1;
}

/* ---- addresses ---- */

/* NULL: no device has it. */
static struct fake_device *device_of(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr) ? &fake.devices[1] : NULL;
    }
    uint32_t number = ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) - (127u << 24);
    return number >= 1 && number <= FAKE_DEVICE_COUNT ? &fake.devices[number] : NULL;
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

static void set_device(struct fake_id *id, struct fake_device *device)
{
    id->device = device;
    id->id.verbs = device != NULL ? &device->context : NULL;
    id->id.port_num = 1;
}

static struct fake_id *find_bound(const struct fake_device *device, uint16_t port)
{
    for (struct fake_id *id = fake.ids; id != NULL; id = id->next)
        if ((id->state == ID_BOUND || id->state == ID_LISTENING) && id->port == port &&
            (id->device == NULL || device == NULL || id->device == device))
            return id;
    return NULL;
}

static uint16_t free_port(void)
{
    do
        fake.next_port = fake.next_port < FAKE_PORT_FIRST ? FAKE_PORT_FIRST : fake.next_port + 1;
    while (find_bound(NULL, fake.next_port) != NULL);
    return fake.next_port;
}

/* ---- letters ---- */

static struct fake_cm_event *make_event(enum rdma_cm_event_type type, int status)
{
    struct fake_cm_event *event = calloc(1, sizeof(*event));
    event->cm.event = type;
    event->cm.status = status;
    return event;
}

/* IB pads what it carries, so that the size says little. */
static void set_data(struct fake_cm_event *event, const void *data, unsigned size, unsigned max)
{
    if (size > 0)
        memcpy(event->private_data, data, size);
    event->cm.param.conn.private_data = event->private_data;
    event->cm.param.conn.private_data_len = (uint8_t)(fake.settings.iwarp ? size : max);
}

/* What is one's resources is the other's depth. */
static void set_param(struct fake_cm_event *event, const struct rdma_conn_param *param,
                      unsigned max)
{
    set_data(event, param->private_data, param->private_data_len, max);
    event->cm.param.conn.responder_resources = param->initiator_depth;
    event->cm.param.conn.initiator_depth = param->responder_resources;
    event->cm.param.conn.retry_count = param->retry_count;
    event->cm.param.conn.rnr_retry_count = param->rnr_retry_count;
}

static struct fake_letter *post(struct fake_id *from, struct fake_id *to,
                                struct fake_cm_event *event)
{
    struct fake_letter *letter = calloc(1, sizeof(*letter)), **end = &fake.letters;
    letter->due = fake_due();
    letter->sender = from->serial;
    letter->from = from;
    letter->to = to;
    letter->event = event;
    if (from != to) {
        letter->source = from->device;
        letter->target = to != NULL ? to->device : NULL;
    }
    while (*end != NULL)
        end = &(*end)->next;
    *end = letter;
    return letter;
}

static void tell(struct fake_id *from, struct fake_id *to, enum rdma_cm_event_type type, int status)
{
    if (to != NULL)
        post(from, to, make_event(type, status));
}

static void deliver_now(void)
{
    while (!fake_is_manual() && fake_cm_run())
        ;
}

/* ---- arrival ---- */

static void put(struct fake_id *id, struct fake_cm_event *event)
{
    struct fake_cm_channel *channel = (struct fake_cm_channel *)id->id.channel;
    event->event.owner = id;
    if (event->cm.id == NULL)
        event->cm.id = &id->id;
    fake_mailbox_put(&channel->events, &event->event);
}

static struct fake_id *make_id(struct fake_cm_channel *channel, void *context,
                               enum rdma_port_space space)
{
    struct fake_id *id = calloc(1, sizeof(*id));
    id->id.channel = &channel->channel;
    id->id.context = context;
    id->id.ps = space;
    id->id.qp_type = IBV_QPT_RC;
    id->serial = ++fake.next_serial;
    id->next = fake.ids;
    fake.ids = id;
    channel->ids++;
    fake.counters.ids++;
    return id;
}

static void arrive_request(struct fake_letter *letter)
{
    struct fake_id *dialler = letter->from;
    struct fake_id *listener = find_bound(letter->target, letter->port);
    if (letter->target->removed || fake.settings.no_device) {
        tell(dialler, dialler, RDMA_CM_EVENT_UNREACHABLE, -ETIMEDOUT);
    } else if (listener == NULL || listener->state != ID_LISTENING) {
        tell(dialler, dialler, RDMA_CM_EVENT_REJECTED, STATUS_NOBODY_LISTENS);
    } else if (listener->waiting >= listener->backlog) {
        tell(dialler, dialler, RDMA_CM_EVENT_REJECTED, STATUS_CONSUMER);
    } else {
        struct fake_id *id = make_id((struct fake_cm_channel *)listener->id.channel,
                                     listener->id.context, listener->id.ps);
        set_device(id, letter->target);
        id->state = ID_REQUESTED;
        id->peer = dialler;
        dialler->peer = id;
        id->id.route.addr.src_storage = dialler->id.route.addr.dst_storage;
        id->id.route.addr.dst_storage = dialler->id.route.addr.src_storage;
        letter->event->cm.id = &id->id;
        letter->event->cm.listen_id = &listener->id;
        listener->waiting++;
        put(listener, letter->event);
        return;
    }
    free(letter->event);
}

/* The next state of an id that is told of `type`; false: it is not told. */
static bool advance(struct fake_id *id, enum rdma_cm_event_type type)
{
    switch ((int)type) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
        id->state = ID_ADDRESSED;
        return true;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
        id->state = ID_ROUTED;
        return true;
    case RDMA_CM_EVENT_ESTABLISHED:
        if (id->state == ID_CONNECTING)
            return true; /* its state changes when the program fetches the event */
        if (id->state != ID_ACCEPTED)
            return false;
        id->state = ID_CONNECTED;
        return true;
    case RDMA_CM_EVENT_DISCONNECTED:
        if (id->parted)
            return false;
        id->parted = true;
        if (!fake.settings.iwarp)
            tell(id, id, RDMA_CM_EVENT_TIMEWAIT_EXIT, 0);
        return true;
    case RDMA_CM_EVENT_REJECTED:
    case RDMA_CM_EVENT_UNREACHABLE:
        if (id->state != ID_CONNECTING && id->state != ID_REQUESTED && id->state != ID_ACCEPTED)
            return false;
        id->state = ID_ENDED;
        return true;
    default:
        return true;
    }
}

static void arrive(struct fake_letter *letter)
{
    struct fake_id *id = letter->to;
    enum rdma_cm_event_type type = letter->event->cm.event;
    if (type == RDMA_CM_EVENT_CONNECT_REQUEST && letter->from != NULL) {
        arrive_request(letter);
    } else if (id == NULL || !advance(id, type)) {
        free(letter->event);
    } else {
        put(id, letter->event);
        if (type == RDMA_CM_EVENT_DISCONNECTED && fake.settings.iwarp && id->id.qp != NULL) {
            fake_qp_error((struct fake_qp *)id->id.qp);
            fake_post_run((struct fake_qp *)id->id.qp);
        }
    }
    free(letter);
}

static bool is_due(const struct fake_letter *letter)
{
    const struct fake_letter *before = fake.letters;
    if (letter->due > fake.step || (letter->source != NULL && letter->source->stalled) ||
        (letter->target != NULL && letter->target->stalled))
        return false;
    while (before != letter && before->sender != letter->sender)
        before = before->next;
    return before == letter;
}

bool fake_cm_run(void)
{
    struct fake_letter **at = &fake.letters, *letter;
    while (*at != NULL && !is_due(*at))
        at = &(*at)->next;
    letter = *at;
    if (letter == NULL)
        return false;
    *at = letter->next;
    arrive(letter);
    return true;
}

void fake_cm_remove(struct fake_device *device)
{
    for (struct fake_id *id = fake.ids; id != NULL; id = id->next)
        if (id->device == device)
            tell(id, id, RDMA_CM_EVENT_DEVICE_REMOVAL, 0);
    deliver_now();
}

/* ---- channels and their events ---- */

struct rdma_event_channel *fake_create_event_channel(void)
{
    struct fake_cm_channel *channel = calloc(1, sizeof(*channel));
    fake_lock();
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
    tell(id, id->peer, RDMA_CM_EVENT_ESTABLISHED, 0);
    deliver_now();
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
    if (channel == NULL || space != RDMA_PS_TCP)
        return refuse(EINVAL);
    fake_lock();
    *id = &make_id((struct fake_cm_channel *)channel, context, space)->id;
    fake_unlock();
    return 0;
}

/* What an id that goes away tells the other side. */
static void say_farewell(struct fake_id *id)
{
    if (id->peer == NULL)
        return;
    if (id->state == ID_CONNECTING || id->state == ID_REQUESTED)
        tell(id, id->peer, RDMA_CM_EVENT_REJECTED, STATUS_STALE);
    else if (id->state == ID_ACCEPTED || id->state == ID_CONNECTED)
        tell(id, id->peer, RDMA_CM_EVENT_DISCONNECTED, 0);
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
    fake.counters.ids--;
    free(id);
}

int fake_destroy_id(struct rdma_cm_id *given)
{
    struct fake_id *id = (struct fake_id *)given;
    fake_lock();
    if (id->got != id->acknowledged)
        fake_violate("rdma_destroy_id: waits for ever for %u events", id->got - id->acknowledged);
    if (id->id.qp != NULL)
        fake_violate("rdma_destroy_id: it still has a queue pair");
    remove_id(id);
    deliver_now();
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
    if (id->got != id->acknowledged)
        fake_violate("rdma_migrate_id: waits for ever for %u events", id->got - id->acknowledged);
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
    struct fake_device *device = is_wildcard(address) ? NULL : device_of(address);
    uint16_t port = port_of(address);
    if (id->state != ID_IDLE)
        return EINVAL;
    if (fake.settings.no_device || (!is_wildcard(address) && (device == NULL || device->removed)))
        return ENODEV;
    if (port == 0)
        port = free_port();
    else if (find_bound(device, port) != NULL)
        return EADDRINUSE;
    set_device(id, device);
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
    if (id->device == NULL || device_of(destination) == NULL)
        tell(id, id, RDMA_CM_EVENT_ADDR_ERROR, -ENODEV);
    else
        tell(id, id, RDMA_CM_EVENT_ADDR_RESOLVED, 0);
    deliver_now();
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
        tell(id, id, RDMA_CM_EVENT_ROUTE_RESOLVED, 0);
        deliver_now();
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
        struct fake_cm_event *event = make_event(RDMA_CM_EVENT_CONNECT_REQUEST, 0);
        set_param(event, param, REQUEST_DATA_MAX);
        id->param = *param;
        id->state = ID_CONNECTING;
        struct fake_letter *letter = post(id, NULL, event);
        letter->target = device_of(&id->id.route.addr.dst_addr);
        letter->port = port_of(&id->id.route.addr.dst_addr);
        deliver_now();
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
        struct fake_cm_event *event = make_event(RDMA_CM_EVENT_ESTABLISHED, 0);
        set_param(event, param, ACCEPT_DATA_MAX);
        join(id, id->peer, param);
        id->state = ID_ACCEPTED;
        count_end(id);
        post(id, id->peer, event);
        deliver_now();
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
        struct fake_cm_event *event = make_event(RDMA_CM_EVENT_REJECTED, STATUS_CONSUMER);
        set_data(event, private_data, size, REJECT_DATA_MAX);
        id->state = ID_ENDED;
        post(id, id->peer, event);
        deliver_now();
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
        tell(id, id->peer, RDMA_CM_EVENT_DISCONNECTED, 0);
        tell(id, id, RDMA_CM_EVENT_DISCONNECTED, 0);
        deliver_now();
    }
    fake_unlock();
    return possible ? 0 : refuse(EINVAL);
}
