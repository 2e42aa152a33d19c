#include "t/fake_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- protection domains and memory ---- */

struct ibv_pd *fake_alloc_pd(struct ibv_context *context)
{
    struct fake_pd *pd = calloc(1, sizeof(*pd));
    fake_lock();
    pd->pd.context = context;
    pd->device = (struct fake_device *)context;
    pd->device->objects++;
    fake.counters.pds++;
    fake_unlock();
    return &pd->pd;
}

int fake_dealloc_pd(struct ibv_pd *given)
{
    struct fake_pd *pd = (struct fake_pd *)given;
    fake_lock();
    bool busy = pd->users != 0;
    pd->device->objects -= !busy;
    fake.counters.pds -= !busy;
    fake_unlock();
    if (busy)
        return EBUSY;
    free(pd);
    return 0;
}

static int registration_error(const struct fake_pd *pd, int access)
{
    if (fake.settings.fail_reg_mr > 0 && --fake.settings.fail_reg_mr == 0)
        return ENOMEM;
    if (pd->device->removed)
        return EIO;
    if ((access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)) != 0 &&
        (access & IBV_ACCESS_LOCAL_WRITE) == 0)
        return EINVAL;
    return 0;
}

static struct ibv_mr *add_memory(struct fake_pd *pd, void *address, size_t size, int access)
{
    struct fake_mr *mr = calloc(1, sizeof(*mr));
    uint32_t key = fake.next_key++ * 256;
    mr->mr = (struct ibv_mr){.context = pd->pd.context,
                             .pd = &pd->pd,
                             .addr = address,
                             .length = size,
                             .lkey = key,
                             .rkey = key + 1};
    mr->access = access;
    mr->next = fake.mrs;
    fake.mrs = mr;
    pd->users++;
    fake.counters.mrs++;
    fake.counters.registered += size;
    if (fake.counters.registered > fake.counters.registered_max)
        fake.counters.registered_max = fake.counters.registered;
    return &mr->mr;
}

struct ibv_mr *fake_reg_mr(struct ibv_pd *given, void *address, size_t size, int access)
{
    struct fake_pd *pd = (struct fake_pd *)given;
    struct ibv_mr *mr = NULL;
    fake_lock();
    int error = registration_error(pd, access);
    if (error == 0)
        mr = add_memory(pd, address, size, access);
    fake_unlock();
    if (error != 0)
        errno = error;
    return mr;
}

int fake_dereg_mr(struct ibv_mr *mr)
{
    fake_lock();
    struct fake_mr **at = &fake.mrs;
    while (*at != (struct fake_mr *)mr)
        at = &(*at)->next;
    *at = (*at)->next;
    ((struct fake_pd *)mr->pd)->users--;
    fake.counters.mrs--;
    fake.counters.registered -= mr->length;
    fake_unlock();
    free(mr);
    return 0;
}

void *fake_memory(const struct ibv_pd *pd, uint64_t address, uint32_t size, uint32_t key,
                  bool remote, int access)
{
    static uint8_t nothing;
    if (size == 0)
        return &nothing;
    for (struct fake_mr *mr = fake.mrs; mr != NULL; mr = mr->next) {
        if ((remote ? mr->mr.rkey : mr->mr.lkey) != key)
            continue;
        uint64_t offset = address - (uintptr_t)mr->mr.addr;
        bool inside = address >= (uintptr_t)mr->mr.addr && offset <= mr->mr.length &&
                      size <= mr->mr.length - offset;
        bool allowed = mr->mr.pd == pd && (mr->access & access) == access;
        return inside && allowed ? (uint8_t *)mr->mr.addr + offset : NULL;
    }
    return NULL;
}

/* ---- completion queues ---- */

struct ibv_comp_channel *fake_create_comp_channel(struct ibv_context *context)
{
    struct fake_channel *channel = calloc(1, sizeof(*channel));
    fake_lock();
    fake_mailbox_open(&channel->events);
    channel->channel = (struct ibv_comp_channel){.context = context, .fd = channel->events.fd};
    channel->next = fake.channels;
    fake.channels = channel;
    ((struct fake_device *)context)->objects++;
    fake.counters.channels++;
    fake_unlock();
    return &channel->channel;
}

int fake_destroy_comp_channel(struct ibv_comp_channel *given)
{
    struct fake_channel *channel = (struct fake_channel *)given, **at = &fake.channels;
    fake_lock();
    bool busy = channel->channel.refcnt != 0;
    while (*at != channel)
        at = &(*at)->next;
    if (!busy)
        *at = channel->next;
    ((struct fake_device *)channel->channel.context)->objects -= !busy;
    fake.counters.channels -= !busy;
    fake_unlock();
    if (busy)
        return EBUSY;
    fake_mailbox_close(&channel->events);
    free(channel);
    return 0;
}

struct ibv_cq *fake_create_cq(struct ibv_context *context, int depth, void *user,
                              struct ibv_comp_channel *channel, int vector)
{
    if (depth < 1 || depth > 65536 || vector != 0 ||
        (channel != NULL && channel->context != context)) {
        errno = EINVAL;
        return NULL;
    }
    fake_lock();
    bool fails = fake.settings.fail_cq > 0 && --fake.settings.fail_cq == 0;
    fails = fails || ((struct fake_device *)context)->removed;
    fake_unlock();
    if (fails) {
        errno = ENOMEM;
        return NULL;
    }
    struct fake_cq *cq = calloc(1, sizeof(*cq));
    cq->cq =
        (struct ibv_cq){.context = context, .channel = channel, .cq_context = user, .cqe = depth};
    cq->ring = calloc((size_t)depth, sizeof(*cq->ring));
    cq->device = (struct fake_device *)context;
    cq->channel = (struct fake_channel *)channel;
    fake_lock();
    if (channel != NULL)
        channel->refcnt++;
    cq->device->objects++;
    fake.counters.cqs++;
    fake_unlock();
    return &cq->cq;
}

static void forget_events(struct fake_cq *cq)
{
    struct fake_event *event;
    while (cq->channel != NULL && (event = fake_mailbox_remove(&cq->channel->events, cq)) != NULL)
        free(event);
    while ((event = fake_mailbox_remove(&cq->device->events, cq)) != NULL)
        free(event);
}

int fake_destroy_cq(struct ibv_cq *given)
{
    struct fake_cq *cq = (struct fake_cq *)given;
    fake_lock();
    if (cq->users != 0) {
        fake_unlock();
        return EBUSY;
    }
    if (!fake_await(&cq->got, &cq->acknowledged) ||
        !fake_await(&cq->async_got, &cq->async_acknowledged))
        fake_violate("ibv_destroy_cq: waits for ever for %u completion and %u other events",
                     cq->got - cq->acknowledged, cq->async_got - cq->async_acknowledged);
    forget_events(cq);
    if (cq->channel != NULL)
        cq->channel->channel.refcnt--;
    cq->device->objects--;
    fake.counters.cqs--;
    fake_unlock();
    free(cq->ring);
    free(cq);
    return 0;
}

int fake_get_cq_event(struct ibv_comp_channel *given, struct ibv_cq **cq, void **user)
{
    struct fake_event *event = fake_mailbox_take_locking(&((struct fake_channel *)given)->events);
    if (event == NULL)
        return -1;
    struct fake_cq *about = event->owner;
    about->got++;
    fake.counters.cq_events++;
    *cq = &about->cq;
    *user = about->cq.cq_context;
    fake_unlock();
    free(event);
    return 0;
}

void fake_ack_cq_events(struct ibv_cq *given, unsigned count)
{
    struct fake_cq *cq = (struct fake_cq *)given;
    fake_lock();
    cq->acknowledged += count;
    if (cq->acknowledged > cq->got)
        fake_violate("ibv_ack_cq_events: %u acknowledged, %u came", cq->acknowledged, cq->got);
    fake_unlock();
}

int fake_req_notify_cq(struct ibv_cq *given, int solicited_only)
{
    struct fake_cq *cq = (struct fake_cq *)given;
    fake_lock();
    fake.counters.arms++;
    cq->solicited_only = solicited_only != 0 && (!cq->armed || cq->solicited_only);
    cq->armed = true;
    int error = cq->device->removed || cq->dead ? EIO : 0;
    fake_unlock();
    return error;
}

static void notify(struct fake_cq *cq)
{
    cq->armed = false;
    if (cq->channel == NULL)
        return;
    struct fake_event *event = calloc(1, sizeof(*event));
    event->owner = cq;
    fake_mailbox_put(&cq->channel->events, event);
}

static void overflow(struct fake_cq *cq)
{
    cq->dead = true;
    fake_async(cq->device, IBV_EVENT_CQ_ERR, cq, cq);
    for (struct fake_qp *qp = fake.qps; qp != NULL; qp = qp->next)
        if (qp->qp.send_cq == &cq->cq || qp->qp.recv_cq == &cq->cq) {
            qp->silent = true;
            fake_qp_error(qp);
        }
}

void fake_complete(struct fake_cq *cq, const struct fake_completion *completion, bool solicited)
{
    if (cq->dead)
        return;
    if (cq->in - cq->out == (uint64_t)cq->cq.cqe) {
        overflow(cq);
        return;
    }
    cq->ring[cq->in++ % (uint64_t)cq->cq.cqe] = *completion;
    if (cq->armed && (!cq->solicited_only || solicited || completion->status != IBV_WC_SUCCESS))
        notify(cq);
}

/* The queue pair may be gone. */
static void free_slots(const struct fake_completion *completion)
{
    for (struct fake_qp *qp = fake.qps; qp != NULL; qp = qp->next)
        if (qp->qp.qp_num == completion->qp_num) {
            if (completion->receive)
                qp->receive_freed = completion->slot + 1;
            else
                qp->send_freed = completion->slot + 1;
        }
}

static void fill(struct ibv_wc *wc, const struct fake_completion *completion)
{
    memset(wc, FAKE_POISON, sizeof(*wc));
    wc->wr_id = completion->wr_id;
    wc->status = completion->status;
    wc->qp_num = completion->qp_num;
    if (completion->status != IBV_WC_SUCCESS)
        return;
    wc->opcode = completion->opcode;
    wc->wc_flags = 0;
    if (completion->opcode != IBV_WC_SEND)
        wc->byte_len = completion->byte_len;
}

int fake_poll_cq(struct ibv_cq *given, int count, struct ibv_wc *wc)
{
    struct fake_cq *cq = (struct fake_cq *)given;
    int found = 0;
    fake_lock();
    fake.counters.polls++;
    for (; found < count && cq->out < cq->in && !cq->dead; found++) {
        const struct fake_completion *completion = &cq->ring[cq->out++ % (uint64_t)cq->cq.cqe];
        free_slots(completion);
        fill(&wc[found], completion);
    }
    fake.counters.completions += (unsigned)found;
    fake.counters.empty_polls += found == 0;
    if (cq->dead)
        found = -1;
    fake_unlock();
    return found;
}
