#include "t/fake_private.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct fake fake = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* ---- settings and violations ---- */

struct fake_settings fake_settings_default(void)
{
    return (struct fake_settings){.seed = 1, .inline_max = 220, .read_max = 16, .queue_max = 1024};
}

void fake_violate(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fake.violation, sizeof(fake.violation), format, arguments);
    va_end(arguments);
    fake.counters.violations++;
    if (fake.settings.count_violations)
        return;
    fprintf(stderr, "fake verbs: %s\n", fake.violation);
    abort();
}

bool fake_await(const unsigned *got, const unsigned *acknowledged)
{
    unsigned rounds = fake.settings.count_violations ? 10 : 2000;
    for (unsigned i = 0; *got != *acknowledged && i < rounds; i++) {
        fake_unlock();
        usleep(1000);
        fake_lock();
    }
    return *got == *acknowledged;
}

bool fake_is_manual(void)
{
    return fake.settings.manual || fake.settings.delay > 0;
}

uint64_t fake_due(void)
{
    if (!fake_is_manual())
        return fake.step;
    return fake.step + 1 + prng_below(&fake.prng, fake.settings.delay + 1);
}

static void apply_settings(void)
{
    bool iwarp = fake.settings.iwarp;
    if (iwarp && fake.settings.inline_max > 80)
        fake.settings.inline_max = 80;
    for (unsigned i = 1; i <= FAKE_DEVICE_COUNT; i++) {
        struct ibv_device *device = &fake.devices[i].device;
        device->node_type = iwarp ? IBV_NODE_RNIC : IBV_NODE_CA;
        device->transport_type = iwarp ? IBV_TRANSPORT_IWARP : IBV_TRANSPORT_IB;
    }
}

static void open_device(struct fake_device *device, unsigned number)
{
    device->number = number;
    snprintf(device->device.name, sizeof(device->device.name), "fake%u", number);
    fake_mailbox_open(&device->events);
    device->context = (struct ibv_context){.device = &device->device,
                                           .ops = {.poll_cq = fake_poll_cq,
                                                   .req_notify_cq = fake_req_notify_cq,
                                                   .post_send = fake_post_send,
                                                   .post_recv = fake_post_recv},
                                           .cmd_fd = -1,
                                           .async_fd = device->events.fd,
                                           .num_comp_vectors = 1};
}

static void open_devices(void)
{
    for (unsigned i = 1; i <= FAKE_DEVICE_COUNT; i++)
        open_device(&fake.devices[i], i);
    fake.opened = true;
    fake.settings = fake_settings_default();
    fake.next_key = 1;
    fake.next_qp = 16;
    apply_settings();
}

void fake_lock(void)
{
    pthread_mutex_lock(&fake.mutex);
    if (!fake.opened)
        open_devices();
}

void fake_unlock(void)
{
    pthread_mutex_unlock(&fake.mutex);
}

/* Descriptors and their modes are part of a device, which a test may get anew. */
static void renew_device(struct fake_device *device)
{
    struct fake_event *event;
    while ((event = fake_mailbox_remove(&device->events, NULL)) != NULL)
        free(event);
    fcntl(device->events.fd, F_SETFL, 0);
    fake_mailbox_hang_up(&device->events, false);
    device->removed = false;
    device->stalled = false;
    device->open = false;
}

void fake_verbs_begin(const struct fake_settings *settings)
{
    fake_lock();
    struct fake_counters old = fake.counters;
    fake.settings = *settings;
    /* What is alive counts on. */
    fake.counters = (struct fake_counters){.registered = old.registered,
                                           .pds = old.pds,
                                           .mrs = old.mrs,
                                           .cqs = old.cqs,
                                           .qps = old.qps,
                                           .ids = old.ids,
                                           .channels = old.channels};
    if (old.pds + old.mrs + old.cqs + old.qps + old.ids + old.channels != 0)
        fake_violate("left over: %u pds, %u mrs, %u cqs, %u qps, %u ids, %u channels", old.pds,
                     old.mrs, old.cqs, old.qps, old.ids, old.channels);
    for (unsigned i = 1; i <= FAKE_DEVICE_COUNT; i++)
        renew_device(&fake.devices[i]);
    while (fake.letters != NULL) {
        struct fake_letter *letter = fake.letters;
        fake.letters = letter->next;
        free(letter->event);
        free(letter);
    }
    fake.prng.state = settings->seed;
    fake.step = 0;
    apply_settings();
    fake_unlock();
}

void fake_verbs_set(const struct fake_settings *settings)
{
    fake_lock();
    fake.settings = *settings;
    apply_settings();
    fake_unlock();
}

void fake_verbs_counters(struct fake_counters *counters)
{
    fake_lock();
    *counters = fake.counters;
    fake_unlock();
}

const char *fake_verbs_violation(void)
{
    return fake.violation;
}

/* ---- steps ---- */

static bool run_once(void)
{
    bool moved = fake_cm_run();
    for (struct fake_qp *qp = fake.qps; qp != NULL; qp = qp->next)
        moved = fake_qp_run(qp) || moved;
    return moved;
}

bool fake_verbs_run(void)
{
    bool moved = false;
    fake_lock();
    fake.step++;
    while (run_once())
        moved = true;
    moved = moved || fake.letters != NULL || fake_qps_wait();
    fake_unlock();
    return moved;
}

/* ---- misfortunes ---- */

static bool is_pair(const struct fake_qp *qp)
{
    return qp->peer != NULL && qp->qp.qp_num < qp->peer->qp.qp_num && qp->qp.state == IBV_QPS_RTS &&
           qp->peer->qp.state == IBV_QPS_RTS;
}

unsigned fake_verbs_pairs(void)
{
    unsigned count = 0;
    fake_lock();
    for (struct fake_qp *qp = fake.qps; qp != NULL; qp = qp->next)
        count += is_pair(qp);
    fake_unlock();
    return count;
}

static void break_end(struct fake_qp *qp, enum ibv_wc_status status)
{
    if (qp->send_retired < qp->send_posted) {
        struct fake_send *send = &qp->sends[qp->send_retired % qp->cap.max_send_wr];
        send->stage = FAKE_FAILED;
        send->status = status;
    }
    qp->fails = true;
}

bool fake_verbs_break(unsigned pair, enum ibv_wc_status status)
{
    bool found = false;
    fake_lock();
    for (struct fake_qp *qp = fake.qps; qp != NULL && !found; qp = qp->next) {
        if (!is_pair(qp) || pair-- != 0)
            continue;
        break_end(qp, status);
        break_end(qp->peer, status);
        fake_post_run(qp);
        found = true;
    }
    fake_unlock();
    return found;
}

void fake_verbs_remove(unsigned number)
{
    struct fake_device *device = &fake.devices[number];
    fake_lock();
    device->removed = true;
    fake_async(device, IBV_EVENT_DEVICE_FATAL, NULL, NULL);
    fake_mailbox_hang_up(&device->events, true);
    for (struct fake_channel *channel = fake.channels; channel != NULL; channel = channel->next)
        if (channel->channel.context == &device->context)
            fake_mailbox_hang_up(&channel->events, true);
    for (struct fake_qp *qp = fake.qps; qp != NULL; qp = qp->next)
        if (qp->device == device) {
            qp->silent = fake.settings.silent_removal;
            fake_qp_error(qp);
            fake_post_run(qp);
        }
    fake_cm_remove(device);
    fake_unlock();
}

void fake_verbs_restore(unsigned number)
{
    fake_lock();
    if (fake.devices[number].open)
        fake_violate("restored while in use: %u objects", fake.devices[number].objects);
    fake.devices[number].removed = false;
    fake_mailbox_hang_up(&fake.devices[number].events, false);
    fake_unlock();
}

bool fake_verbs_is_free(unsigned number)
{
    fake_lock();
    bool open = fake.devices[number].open;
    fake_unlock();
    return !open;
}

void fake_verbs_stall(unsigned number, bool stalled)
{
    fake_lock();
    fake.devices[number].stalled = stalled;
    while (!stalled && !fake_is_manual() && run_once())
        ;
    fake_unlock();
}

/* ---- mailboxes ---- */

void fake_mailbox_open(struct fake_mailbox *mailbox)
{
    mailbox->fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
    assert(mailbox->fd >= 0);
}

void fake_mailbox_close(struct fake_mailbox *mailbox)
{
    close(mailbox->fd);
}

void fake_mailbox_put(struct fake_mailbox *mailbox, struct fake_event *event)
{
    struct fake_event **end = &mailbox->first;
    while (*end != NULL)
        end = &(*end)->next;
    event->next = NULL;
    *end = event;
    int result = eventfd_write(mailbox->fd, 1);
    assert(result == 0);
}

struct fake_event *fake_mailbox_remove(struct fake_mailbox *mailbox, const void *owner)
{
    struct fake_event **at = &mailbox->first;
    eventfd_t one;
    while (*at != NULL && owner != NULL && (*at)->owner != owner)
        at = &(*at)->next;
    struct fake_event *event = *at;
    if (event == NULL)
        return NULL;
    *at = event->next;
    int result = eventfd_read(mailbox->fd, &one);
    assert(result == 0);
    return event;
}

void fake_mailbox_hang_up(struct fake_mailbox *mailbox, bool hung_up)
{
    eventfd_t one;
    if (mailbox->hung_up == hung_up)
        return;
    mailbox->hung_up = hung_up;
    int result = hung_up ? eventfd_write(mailbox->fd, 1) : eventfd_read(mailbox->fd, &one);
    assert(result == 0);
}

struct fake_event *fake_mailbox_take_locking(struct fake_mailbox *mailbox)
{
    struct pollfd ready = {.fd = mailbox->fd, .events = POLLIN};
    fake_lock();
    while (mailbox->first == NULL) {
        bool hung_up = mailbox->hung_up;
        fake.counters.hang_ups += hung_up;
        fake_unlock();
        if (hung_up) {
            errno = EIO;
            return NULL;
        }
        if ((fcntl(mailbox->fd, F_GETFL) & O_NONBLOCK) != 0) {
            errno = EAGAIN;
            return NULL;
        }
        poll(&ready, 1, -1);
        fake_lock();
    }
    return fake_mailbox_remove(mailbox, NULL);
}

/* ---- events of devices ---- */

void fake_async(struct fake_device *device, enum ibv_event_type type, void *element, void *owner)
{
    struct fake_async_event *event = calloc(1, sizeof(*event));
    event->event.owner = owner;
    event->async.event_type = type;
    event->async.element.cq = element; /* a union of pointers */
    fake_mailbox_put(&device->events, &event->event);
}

/* The counters of fetched and acknowledged events of what an event is about; NULL: of nothing. */
static unsigned *async_count(const struct ibv_async_event *event, bool acknowledged)
{
    if (event->event_type == IBV_EVENT_CQ_ERR) {
        struct fake_cq *cq = (struct fake_cq *)event->element.cq;
        return acknowledged ? &cq->async_acknowledged : &cq->async_got;
    }
    if (event->event_type == IBV_EVENT_DEVICE_FATAL)
        return NULL;
    struct fake_qp *qp = (struct fake_qp *)event->element.qp;
    return acknowledged ? &qp->async_acknowledged : &qp->async_got;
}

static int get_async_event(struct ibv_context *context, struct ibv_async_event *event)
{
    struct fake_device *device = (struct fake_device *)context;
    struct fake_event *taken = fake_mailbox_take_locking(&device->events);
    if (taken == NULL)
        return -1;
    *event = ((struct fake_async_event *)taken)->async;
    unsigned *count = async_count(event, false);
    if (count != NULL)
        ++*count;
    fake.counters.async_events++;
    fake_unlock();
    free(taken);
    return 0;
}

static void ack_async_event(struct ibv_async_event *event)
{
    fake_lock();
    unsigned *count = async_count(event, true);
    if (count != NULL)
        ++*count;
    fake_unlock();
}

static int query_device(struct ibv_context *context, struct ibv_device_attr *attr)
{
    (void)context;
    fake_lock();
    *attr = (struct ibv_device_attr){.fw_ver = "fake",
                                     .max_mr_size = UINT64_MAX,
                                     .page_size_cap = 4096,
                                     .max_qp = 1024,
                                     .max_qp_wr = (int)fake.settings.queue_max,
                                     .max_sge = FAKE_SGE_MAX,
                                     .max_sge_rd = 1,
                                     .max_cq = 1024,
                                     .max_cqe = 65536,
                                     .max_mr = 1024,
                                     .max_pd = 64,
                                     .max_qp_rd_atom = (int)fake.settings.read_max,
                                     .max_qp_init_rd_atom = (int)fake.settings.read_max,
                                     .phys_port_cnt = 1};
    fake_unlock();
    return 0;
}

/* ---- table ---- */

static const char *wc_status_str(enum ibv_wc_status status)
{
    static const char *const texts[] = {[IBV_WC_SUCCESS] = "success",
                                        [IBV_WC_LOC_LEN_ERR] = "local length error",
                                        [IBV_WC_LOC_QP_OP_ERR] = "local QP operation error",
                                        [IBV_WC_LOC_PROT_ERR] = "local protection error",
                                        [IBV_WC_WR_FLUSH_ERR] = "Work Request Flushed Error",
                                        [IBV_WC_REM_INV_REQ_ERR] = "remote invalid request error",
                                        [IBV_WC_REM_ACCESS_ERR] = "remote access error",
                                        [IBV_WC_REM_OP_ERR] = "remote operation error",
                                        [IBV_WC_RETRY_EXC_ERR] = "transport retry counter exceeded",
                                        [IBV_WC_RNR_RETRY_EXC_ERR] = "RNR retry counter exceeded",
                                        [IBV_WC_GENERAL_ERR] = "general error"};
    bool known = status < sizeof(texts) / sizeof(texts[0]) && texts[status] != NULL;
    return known ? texts[status] : "unknown";
}

/* A table says whose it is by the one function that comes before all others. */
#define FAKE_CREATOR(node)                                                                         \
    static struct rdma_event_channel *create_event_channel_##node(void)                            \
    {                                                                                              \
        return fake_create_event_channel(node);                                                    \
    }
FAKE_CREATOR(1)
FAKE_CREATOR(2)
FAKE_CREATOR(3)
FAKE_CREATOR(4)
FAKE_CREATOR(5)
FAKE_CREATOR(6)
FAKE_CREATOR(7)
FAKE_CREATOR(8)

const struct rdma_api fake_verbs = {
    .rdma_create_event_channel = create_event_channel_1,
    .rdma_destroy_event_channel = fake_destroy_event_channel,
    .rdma_create_id = fake_create_id,
    .rdma_destroy_id = fake_destroy_id,
    .rdma_bind_addr = fake_bind_addr,
    .rdma_listen = fake_listen,
    .rdma_get_src_port = fake_get_src_port,
    .rdma_resolve_addr = fake_resolve_addr,
    .rdma_resolve_route = fake_resolve_route,
    .rdma_create_qp = fake_create_qp,
    .rdma_destroy_qp = fake_destroy_qp,
    .rdma_connect = fake_connect,
    .rdma_accept = fake_accept,
    .rdma_reject = fake_reject,
    .rdma_disconnect = fake_disconnect,
    .rdma_migrate_id = fake_migrate_id,
    .rdma_set_option = fake_set_option,
    .rdma_get_cm_event = fake_get_cm_event,
    .rdma_ack_cm_event = fake_ack_cm_event,
    .rdma_get_devices = fake_get_devices,
    .rdma_free_devices = fake_free_devices,
    .ibv_query_device = query_device,
    .ibv_alloc_pd = fake_alloc_pd,
    .ibv_dealloc_pd = fake_dealloc_pd,
    .ibv_reg_mr = fake_reg_mr,
    .ibv_dereg_mr = fake_dereg_mr,
    .ibv_create_comp_channel = fake_create_comp_channel,
    .ibv_destroy_comp_channel = fake_destroy_comp_channel,
    .ibv_create_cq = fake_create_cq,
    .ibv_destroy_cq = fake_destroy_cq,
    .ibv_get_cq_event = fake_get_cq_event,
    .ibv_ack_cq_events = fake_ack_cq_events,
    .ibv_modify_qp = fake_modify_qp,
    .ibv_get_async_event = get_async_event,
    .ibv_ack_async_event = ack_async_event,
    .ibv_wc_status_str = wc_status_str,
};

const struct rdma_api *fake_verbs_of(unsigned device)
{
    static struct rdma_event_channel *(*const creators[])(void) = {
        NULL,
        create_event_channel_1,
        create_event_channel_2,
        create_event_channel_3,
        create_event_channel_4,
        create_event_channel_5,
        create_event_channel_6,
        create_event_channel_7,
        create_event_channel_8,
    };
    static struct rdma_api tables[FAKE_DEVICE_COUNT + 1];
    assert(device >= 1 && device <= FAKE_DEVICE_COUNT);
    fake_lock();
    if (tables[device].rdma_create_event_channel == NULL) {
        tables[device] = fake_verbs;
        tables[device].rdma_create_event_channel = creators[device];
    }
    fake_unlock();
    return &tables[device];
}
