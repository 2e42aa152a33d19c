#include "t/fake_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct fake_send *send_at(struct fake_qp *qp, uint64_t slot)
{
    return &qp->sends[slot % qp->cap.max_send_wr];
}

static struct fake_receive *receive_at(struct fake_qp *qp, uint64_t slot)
{
    return &qp->receives[slot % qp->cap.max_recv_wr];
}

/* ---- opening and closing ---- */

static int qp_error(const struct fake_id *id, const struct ibv_pd *pd,
                    const struct ibv_qp_init_attr *attr)
{
    const struct ibv_qp_cap *cap = &attr->cap;
    if (fake.settings.fail_qp > 0 && --fake.settings.fail_qp == 0)
        return ENOMEM;
    if (id->device == NULL || pd == NULL || pd->context != &id->device->context ||
        attr->qp_type != IBV_QPT_RC || attr->send_cq == NULL || attr->recv_cq == NULL ||
        attr->srq != NULL || attr->send_cq->context != pd->context ||
        attr->recv_cq->context != pd->context)
        return EINVAL;
    if (id->device->removed)
        return EIO;
    if (cap->max_inline_data > fake.settings.inline_max || cap->max_send_wr < 1 ||
        cap->max_recv_wr < 1 || cap->max_send_wr > fake.settings.queue_max ||
        cap->max_recv_wr > fake.settings.queue_max || cap->max_send_sge > FAKE_SGE_MAX ||
        cap->max_recv_sge > FAKE_SGE_MAX)
        return EINVAL;
    return 0;
}

struct fake_qp *fake_qp_open(struct fake_id *id, struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
    int error = qp_error(id, pd, attr);
    if (error != 0) {
        errno = error;
        return NULL;
    }
    struct fake_qp *qp = calloc(1, sizeof(*qp)), **end = &fake.qps;
    qp->qp = (struct ibv_qp){.context = pd->context,
                             .qp_context = attr->qp_context,
                             .pd = pd,
                             .send_cq = attr->send_cq,
                             .recv_cq = attr->recv_cq,
                             .qp_num = fake.next_qp++,
                             .state = IBV_QPS_INIT,
                             .qp_type = IBV_QPT_RC};
    qp->device = id->device;
    qp->id = id;
    qp->cap = attr->cap;
    qp->signal_all = attr->sq_sig_all != 0;
    qp->sends = calloc(qp->cap.max_send_wr, sizeof(*qp->sends));
    qp->receives = calloc(qp->cap.max_recv_wr, sizeof(*qp->receives));
    ((struct fake_pd *)pd)->users++;
    ((struct fake_cq *)qp->qp.send_cq)->users++;
    ((struct fake_cq *)qp->qp.recv_cq)->users++;
    while (*end != NULL)
        end = &(*end)->next;
    *end = qp;
    fake.counters.qps++;
    return qp;
}

/* What completed stays in the completion queues. */
void fake_qp_close(struct fake_qp *qp)
{
    struct fake_qp **at = &fake.qps;
    struct fake_event *event;
    if (!fake_await(&qp->async_got, &qp->async_acknowledged))
        fake_violate("rdma_destroy_qp: waits for ever for an event of the device");
    while ((event = fake_mailbox_remove(&qp->device->events, qp)) != NULL)
        free(event);
    while (*at != qp)
        at = &(*at)->next;
    *at = qp->next;
    if (qp->peer != NULL)
        qp->peer->peer = NULL;
    ((struct fake_pd *)qp->qp.pd)->users--;
    ((struct fake_cq *)qp->qp.send_cq)->users--;
    ((struct fake_cq *)qp->qp.recv_cq)->users--;
    fake.counters.qps--;
    for (unsigned i = 0; i < qp->cap.max_send_wr; i++)
        free(qp->sends[i].inlined);
    free(qp->sends);
    free(qp->receives);
    free(qp);
}

/* ---- breaking ---- */

void fake_qp_error(struct fake_qp *qp)
{
    if (qp->qp.state == IBV_QPS_ERR)
        return;
    qp->qp.state = IBV_QPS_ERR;
    if (fake.settings.iwarp && qp->peer != NULL && qp->peer->qp.state == IBV_QPS_RTS)
        qp->peer->qp.state = IBV_QPS_ERR;
}

static void complete_send(struct fake_qp *qp, enum ibv_wc_status status)
{
    struct fake_send *send = send_at(qp, qp->send_retired);
    bool read = send->opcode == IBV_WR_RDMA_READ;
    struct fake_completion completion = {.wr_id = send->wr_id,
                                         .status = status,
                                         .opcode = read ? IBV_WC_RDMA_READ : IBV_WC_SEND,
                                         .byte_len = read ? send->sges[0].length : 0,
                                         .qp_num = qp->qp.qp_num,
                                         .slot = qp->send_retired};
    bool signalled = qp->signal_all || (send->flags & IBV_SEND_SIGNALED) != 0;
    qp->send_retired++;
    if (qp->send_effective < qp->send_retired)
        qp->send_effective = qp->send_retired;
    if (signalled || status != IBV_WC_SUCCESS)
        fake_complete((struct fake_cq *)qp->qp.send_cq, &completion, false);
}

static void complete_receive(struct fake_qp *qp, enum ibv_wc_status status, uint32_t size,
                             bool solicited)
{
    struct fake_completion completion = {.wr_id = receive_at(qp, qp->receive_taken)->wr_id,
                                         .status = status,
                                         .opcode = IBV_WC_RECV,
                                         .byte_len = size,
                                         .qp_num = qp->qp.qp_num,
                                         .slot = qp->receive_taken,
                                         .receive = true};
    qp->receive_taken++;
    fake_complete((struct fake_cq *)qp->qp.recv_cq, &completion, solicited);
}

static bool flush(struct fake_qp *qp)
{
    if (qp->silent ||
        (qp->send_retired == qp->send_posted && qp->receive_taken == qp->receive_posted))
        return false;
    while (qp->send_retired < qp->send_posted) {
        struct fake_send *send = send_at(qp, qp->send_retired);
        complete_send(qp, send->stage == FAKE_FAILED ? send->status : IBV_WC_WR_FLUSH_ERR);
    }
    while (qp->receive_taken < qp->receive_posted)
        complete_receive(qp, IBV_WC_WR_FLUSH_ERR, 0, false);
    return true;
}

static void fail(struct fake_send *send, enum ibv_wc_status status)
{
    send->stage = FAKE_FAILED;
    send->status = status;
}

/* ---- taking effect ---- */

/* True: go on. False: nothing can be said yet, or it has failed. */
static bool reaches_peer(struct fake_qp *qp, struct fake_send *send)
{
    struct fake_qp *peer = qp->peer;
    if (qp->device->stalled || (peer != NULL && peer->device->stalled))
        return false;
    if (peer != NULL && (peer->qp.state == IBV_QPS_INIT || peer->qp.state == IBV_QPS_RTR))
        return false;
    if (peer != NULL && peer->qp.state == IBV_QPS_RTS && !peer->device->removed)
        return true;
    fail(send, IBV_WC_RETRY_EXC_ERR);
    return false;
}

/* NULL: a local key does not allow it. Freed by the caller. */
static uint8_t *gather(struct fake_qp *qp, const struct fake_send *send, uint32_t *size)
{
    *size = send->inlined_size;
    for (unsigned i = 0; send->inlined == NULL && i < send->sge_count; i++)
        *size += send->sges[i].length;
    uint8_t *bytes = malloc(*size + 1);
    size_t done = send->inlined_size;
    if (send->inlined != NULL)
        memcpy(bytes, send->inlined, done);
    for (unsigned i = 0; send->inlined == NULL && i < send->sge_count; i++) {
        const struct ibv_sge *sge = &send->sges[i];
        const void *from = fake_memory(qp->qp.pd, sge->addr, sge->length, sge->lkey, false, 0);
        if (from == NULL) {
            free(bytes);
            return NULL;
        }
        memcpy(bytes + done, from, sge->length);
        done += sge->length;
    }
    return bytes;
}

static enum ibv_wc_status scatter(struct fake_qp *qp, const struct fake_receive *receive,
                                  const uint8_t *bytes, uint32_t size)
{
    for (unsigned i = 0; i < receive->sge_count && size > 0; i++) {
        const struct ibv_sge *sge = &receive->sges[i];
        uint32_t part = size < sge->length ? size : sge->length;
        void *to =
            fake_memory(qp->qp.pd, sge->addr, part, sge->lkey, false, IBV_ACCESS_LOCAL_WRITE);
        if (to == NULL)
            return IBV_WC_LOC_PROT_ERR;
        memcpy(to, bytes, part);
        bytes += part;
        size -= part;
    }
    return size == 0 ? IBV_WC_SUCCESS : IBV_WC_LOC_LEN_ERR;
}

static void meet_no_receive(struct fake_qp *qp, struct fake_send *send)
{
    if (send->attempts > 0 && send->due == fake.step + 1)
        return; /* once a step */
    fake.counters.rnr++;
    if (fake.settings.iwarp) {
        fail(send, IBV_WC_WR_FLUSH_ERR);
        fake_qp_error(qp->peer);
    } else if (qp->rnr_retry != 7 && send->attempts == qp->rnr_retry) {
        fail(send, IBV_WC_RNR_RETRY_EXC_ERR);
    }
    send->attempts++;
    send->due = fake.step + 1;
}

static void receive(struct fake_qp *qp, struct fake_send *send, const uint8_t *bytes, uint32_t size)
{
    enum ibv_wc_status status = scatter(qp, receive_at(qp, qp->receive_taken), bytes, size);
    bool early = qp->acceptor && !qp->received && qp->id->state == ID_ACCEPTED;
    qp->received = true;
    complete_receive(qp, status, size, (send->flags & IBV_SEND_SOLICITED) != 0);
    if (early && !fake.settings.iwarp)
        fake_async(qp->device, IBV_EVENT_COMM_EST, qp, qp);
    send->stage = FAKE_EFFECTIVE;
    if (status == IBV_WC_SUCCESS)
        return;
    fake_qp_error(qp);
    fail(send, status == IBV_WC_LOC_LEN_ERR ? IBV_WC_REM_INV_REQ_ERR : IBV_WC_REM_OP_ERR);
}

/* Somewhere in the middle. */
static void damage(uint8_t *bytes, uint32_t size)
{
    if (size > 0 && fake.settings.damage > 0 && --fake.settings.damage == 0)
        bytes[prng_below(&fake.prng, size)] ^= 0x10;
}

static bool take_send(struct fake_qp *qp, struct fake_send *send)
{
    uint32_t size;
    if (!reaches_peer(qp, send))
        return send->stage != FAKE_WAITS;
    uint8_t *bytes = gather(qp, send, &size);
    if (bytes == NULL)
        fail(send, IBV_WC_LOC_PROT_ERR);
    else if (qp->peer->receive_taken == qp->peer->receive_posted)
        meet_no_receive(qp, send);
    else {
        damage(bytes, size);
        receive(qp->peer, send, bytes, size);
    }
    free(bytes);
    return send->stage != FAKE_WAITS;
}

static bool take_read(struct fake_qp *qp, struct fake_send *send)
{
    int sink = IBV_ACCESS_LOCAL_WRITE | (fake.settings.iwarp ? IBV_ACCESS_REMOTE_WRITE : 0);
    struct fake_qp *peer = qp->peer;
    if (!reaches_peer(qp, send))
        return send->stage != FAKE_WAITS;
    uint32_t size = send->sge_count > 0 ? send->sges[0].length : 0;
    void *to = fake_memory(qp->qp.pd, send->sges[0].addr, size, send->sges[0].lkey, false, sink);
    void *from = fake_memory(peer->qp.pd, send->remote_address, size, send->remote_key, true,
                             IBV_ACCESS_REMOTE_READ);
    if (to == NULL) {
        fail(send, IBV_WC_LOC_PROT_ERR);
    } else if (qp->initiator_depth == 0) {
        fail(send, IBV_WC_LOC_QP_OP_ERR);
    } else if (peer->responder_resources == 0) {
        fail(send, IBV_WC_REM_INV_REQ_ERR);
        fake_qp_error(peer);
    } else if (from == NULL) {
        fail(send, IBV_WC_REM_ACCESS_ERR);
        fake_qp_error(peer);
    } else {
        memcpy(to, from, size);
        damage(to, size);
        send->stage = FAKE_EFFECTIVE;
    }
    return true;
}

static bool run_sends(struct fake_qp *qp)
{
    bool moved = false;
    while (qp->qp.state == IBV_QPS_RTS && qp->send_effective < qp->send_posted) {
        struct fake_send *send = send_at(qp, qp->send_effective);
        bool fenced = (send->flags & IBV_SEND_FENCE) != 0 && qp->send_retired < qp->send_effective;
        bool read = send->opcode == IBV_WR_RDMA_READ; /* its turn is at completion */
        if (!read &&
            (send->stage != FAKE_WAITS || send->due > fake.step || fenced || !take_send(qp, send)))
            break;
        if (send->stage == FAKE_FAILED)
            return true;
        qp->send_effective++;
        moved = true;
    }
    return moved;
}

static bool retire(struct fake_qp *qp)
{
    bool moved = false;
    while (qp->qp.state == IBV_QPS_RTS && qp->send_retired < qp->send_posted) {
        struct fake_send *send = send_at(qp, qp->send_retired);
        if (send->opcode == IBV_WR_RDMA_READ && send->stage == FAKE_WAITS && send->due <= fake.step)
            take_read(qp, send);
        if (send->stage == FAKE_WAITS)
            break;
        moved = true;
        if (send->stage == FAKE_FAILED)
            fake_qp_error(qp);
        else
            complete_send(qp, IBV_WC_SUCCESS);
    }
    return moved;
}

bool fake_qp_run(struct fake_qp *qp)
{
    bool moved = qp->fails;
    if (qp->fails)
        fake_qp_error(qp);
    qp->fails = false;
    moved = run_sends(qp) || moved;
    moved = retire(qp) || moved;
    if (qp->qp.state == IBV_QPS_ERR)
        moved = flush(qp) || moved;
    return moved;
}

void fake_post_run(struct fake_qp *qp)
{
    while (!fake_is_manual()) {
        bool moved = fake_qp_run(qp);
        if (qp->peer != NULL)
            moved = fake_qp_run(qp->peer) || moved;
        if (!moved)
            break;
    }
}

bool fake_qps_wait(void)
{
    for (struct fake_qp *qp = fake.qps; qp != NULL; qp = qp->next)
        for (uint64_t slot = qp->send_retired; slot < qp->send_posted; slot++)
            if (qp->qp.state == IBV_QPS_RTS && send_at(qp, slot)->due > fake.step &&
                send_at(qp, slot)->attempts == 0)
                return true;
    return false;
}

/* ---- posting ---- */

static int send_error(struct fake_qp *qp, const struct ibv_send_wr *wr)
{
    bool inlined = (wr->send_flags & IBV_SEND_INLINE) != 0;
    bool read = wr->opcode == IBV_WR_RDMA_READ;
    uint64_t size = 0;
    for (int i = 0; i < wr->num_sge; i++)
        size += wr->sg_list[i].length;
    if (qp->device->removed)
        return EIO;
    if (qp->qp.state != IBV_QPS_RTS && qp->qp.state != IBV_QPS_ERR)
        return EINVAL;
    if (qp->send_posted - qp->send_freed == qp->cap.max_send_wr)
        return ENOMEM;
    if ((!read && wr->opcode != IBV_WR_SEND) || wr->num_sge < 0 ||
        (unsigned)wr->num_sge > qp->cap.max_send_sge || (read && (wr->num_sge > 1 || inlined)) ||
        (inlined && size > qp->cap.max_inline_data) || size > UINT32_MAX / 2)
        return EINVAL;
    return 0;
}

static void copy_inline(struct fake_send *send)
{
    send->inlined = malloc(send->sge_count * FAKE_INLINE_LIMIT + 1);
    for (unsigned i = 0; i < send->sge_count; i++) {
        memcpy(send->inlined + send->inlined_size, (const void *)(uintptr_t)send->sges[i].addr,
               send->sges[i].length);
        send->inlined_size += send->sges[i].length;
    }
}

static void poison(struct fake_qp *qp, const struct ibv_sge *sge)
{
    void *memory =
        fake_memory(qp->qp.pd, sge->addr, sge->length, sge->lkey, false, IBV_ACCESS_LOCAL_WRITE);
    if (memory != NULL)
        memset(memory, FAKE_POISON, sge->length);
}

static void enqueue_send(struct fake_qp *qp, const struct ibv_send_wr *wr)
{
    struct fake_send *send = send_at(qp, qp->send_posted++);
    free(send->inlined);
    *send = (struct fake_send){.wr_id = wr->wr_id,
                               .due = fake_due(),
                               .opcode = wr->opcode,
                               .flags = wr->send_flags,
                               .sge_count = (unsigned)wr->num_sge};
    for (unsigned i = 0; i < send->sge_count; i++)
        send->sges[i] = wr->sg_list[i];
    if (wr->opcode == IBV_WR_RDMA_READ) {
        send->remote_address = wr->wr.rdma.remote_addr;
        send->remote_key = wr->wr.rdma.rkey;
        fake.counters.reads++;
        for (unsigned i = 0; i < send->sge_count; i++)
            poison(qp, &send->sges[i]);
        return;
    }
    fake.counters.sends++;
    if ((wr->send_flags & IBV_SEND_INLINE) == 0)
        return;
    fake.counters.inline_sends++;
    copy_inline(send);
}

int fake_post_send(struct ibv_qp *given, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
    struct fake_qp *qp = (struct fake_qp *)given;
    int error = 0;
    fake_lock();
    fake.counters.send_calls++;
    if (fake.settings.iwarp && qp->acceptor && !qp->received && qp->qp.state == IBV_QPS_RTS)
        fake_violate("ibv_post_send: over iWARP the dialler sends first");
    for (; wr != NULL && error == 0; wr = wr->next) {
        error = send_error(qp, wr);
        if (error == 0)
            enqueue_send(qp, wr);
        else
            *bad = wr;
    }
    fake_post_run(qp);
    fake_unlock();
    return error;
}

static int receive_error(struct fake_qp *qp, const struct ibv_recv_wr *wr)
{
    if (qp->device->removed)
        return EIO;
    if (qp->receive_posted - qp->receive_freed == qp->cap.max_recv_wr)
        return ENOMEM;
    if (wr->num_sge < 0 || (unsigned)wr->num_sge > qp->cap.max_recv_sge)
        return EINVAL;
    return 0;
}

static void enqueue_receive(struct fake_qp *qp, const struct ibv_recv_wr *wr)
{
    struct fake_receive *receive = receive_at(qp, qp->receive_posted++);
    *receive = (struct fake_receive){.wr_id = wr->wr_id, .sge_count = (unsigned)wr->num_sge};
    fake.counters.receives++;
    for (unsigned i = 0; i < receive->sge_count; i++) {
        receive->sges[i] = wr->sg_list[i];
        poison(qp, &receive->sges[i]);
    }
}

int fake_post_recv(struct ibv_qp *given, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
    struct fake_qp *qp = (struct fake_qp *)given;
    int error = 0;
    fake_lock();
    fake.counters.receive_calls++;
    for (; wr != NULL && error == 0; wr = wr->next) {
        error = receive_error(qp, wr);
        if (error == 0)
            enqueue_receive(qp, wr);
        else
            *bad = wr;
    }
    fake_post_run(qp);
    fake_unlock();
    return error;
}

static int modify_error(const struct fake_qp *qp, const struct ibv_qp_attr *attr, int mask)
{
    enum ibv_qp_state next = (mask & IBV_QP_STATE) != 0 ? attr->qp_state : qp->qp.state;
    if (mask == IBV_QP_STATE && next == IBV_QPS_ERR)
        return 0;
    if ((mask & ~IBV_QP_STATE) != IBV_QP_MIN_RNR_TIMER || qp->qp.state != IBV_QPS_RTS ||
        next != IBV_QPS_RTS || attr->min_rnr_timer > 31)
        return EINVAL;
    return qp->device->removed ? EIO : 0;
}

int fake_modify_qp(struct ibv_qp *given, struct ibv_qp_attr *attr, int mask)
{
    struct fake_qp *qp = (struct fake_qp *)given;
    fake_lock();
    int error = modify_error(qp, attr, mask);
    if (error == 0 && mask == IBV_QP_STATE && attr->qp_state == IBV_QPS_ERR)
        fake_qp_error(qp);
    fake_post_run(qp);
    fake_unlock();
    return error;
}
