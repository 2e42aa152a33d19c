#include "t/fake_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    STATUS_STALE = 4,
    STATUS_NOBODY_LISTENS = 8, /* IB's "invalid service id" */
    STATUS_CONSUMER = 28,
};

void fake_id_set_device(struct fake_id *id, struct fake_device *device)
{
    if (id->device != NULL)
        id->device->objects--;
    if (device != NULL) {
        device->objects++;
        device->open = true;
    }
    id->device = device;
    id->id.verbs = device != NULL ? &device->context : NULL;
    id->id.port_num = 1;
}

/* ---- letters ---- */

struct fake_cm_event *fake_event_make(enum rdma_cm_event_type type, int status)
{
    struct fake_cm_event *event = calloc(1, sizeof(*event));
    event->cm.event = type;
    event->cm.status = status;
    return event;
}

/* IB pads what it carries, so that the size says little. */
void fake_event_data(struct fake_cm_event *event, const void *data, unsigned size, unsigned max)
{
    if (size > 0)
        memcpy(event->private_data, data, size);
    event->cm.param.conn.private_data = event->private_data;
    event->cm.param.conn.private_data_len = (uint8_t)(fake.settings.iwarp ? size : max);
}

/* What is one's resources is the other's depth. */
void fake_event_param(struct fake_cm_event *event, const struct rdma_conn_param *param,
                      unsigned max)
{
    fake_event_data(event, param->private_data, param->private_data_len, max);
    event->cm.param.conn.responder_resources = param->initiator_depth;
    event->cm.param.conn.initiator_depth = param->responder_resources;
    event->cm.param.conn.retry_count = param->retry_count;
    event->cm.param.conn.rnr_retry_count = param->rnr_retry_count;
}

struct fake_letter *fake_letter_post(struct fake_id *from, struct fake_id *to,
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
        letter->target = to != NULL ? to->device : NULL; /* a request: known on arrival */
    }
    while (*end != NULL)
        end = &(*end)->next;
    *end = letter;
    return letter;
}

void fake_tell(struct fake_id *from, struct fake_id *to, enum rdma_cm_event_type type, int status)
{
    if (to != NULL)
        fake_letter_post(from, to, fake_event_make(type, status));
}

void fake_cm_deliver(void)
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

struct fake_id *fake_id_make(struct fake_cm_channel *channel, void *context,
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

static struct fake_id *find_listener(uint16_t port)
{
    for (struct fake_id *id = fake.ids; id != NULL; id = id->next)
        if (id->state == ID_LISTENING && id->port == port && !id->device->removed)
            return id;
    return NULL;
}

static void arrive_request(struct fake_letter *letter)
{
    struct fake_id *dialler = letter->from;
    struct fake_id *listener = find_listener(letter->port);
    if (listener == NULL) {
        fake_tell(dialler, dialler, RDMA_CM_EVENT_REJECTED, STATUS_NOBODY_LISTENS);
    } else if (listener->waiting >= listener->backlog) {
        fake_tell(dialler, dialler, RDMA_CM_EVENT_REJECTED, STATUS_CONSUMER);
    } else {
        struct fake_id *id = fake_id_make((struct fake_cm_channel *)listener->id.channel,
                                          listener->id.context, listener->id.ps);
        fake_id_set_device(id, listener->device);
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
            fake_tell(id, id, RDMA_CM_EVENT_TIMEWAIT_EXIT, 0);
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

static bool is_stalled(const struct fake_letter *letter)
{
    const struct fake_device *target = letter->target;
    if (letter->event->cm.event == RDMA_CM_EVENT_CONNECT_REQUEST) {
        const struct fake_id *listener = find_listener(letter->port);
        target = listener != NULL ? listener->device : NULL;
    }
    return (letter->source != NULL && letter->source->stalled) ||
           (target != NULL && target->stalled);
}

static bool is_due(const struct fake_letter *letter)
{
    const struct fake_letter *before = fake.letters;
    if (letter->due > fake.step || is_stalled(letter))
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
            fake_tell(id, id, RDMA_CM_EVENT_DEVICE_REMOVAL, 0);
    fake_cm_deliver();
}
