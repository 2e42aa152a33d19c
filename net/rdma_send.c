/* Frames out. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "net/rdma_private.h"

/* Work requests for one doorbell. */
struct batch {
    unsigned count;
    struct ibv_send_wr requests[RDMA_SIGNAL_EVERY];
    struct ibv_sge places[RDMA_SIGNAL_EVERY];
};

static_assert(RDMA_SIGNAL_EVERY * 2 <= RDMA_SEND_COUNT, "some request under way is signalled");

static unsigned reserve(const struct rdma_link *rdma, uint32_t message_count)
{
    if (message_count > 0)
        return FAULT(CREDIT_NO_RESERVE) ? 0 : RDMA_RESERVE;
    return rdma->posted != rdma->told || FAULT(CREDIT_LAST) ? 0 : 1;
}

bool rdma_may_send(const struct link *link, uint32_t message_count)
{
    const struct rdma_link *rdma = link->rdma;
    return (rdma->sent - rdma->done < RDMA_SEND_COUNT || FAULT(SEND_SLOT_EARLY)) &&
           rdma->credit - rdma->sequence + FAULT(CREDIT_ONE_MORE) > reserve(rdma, message_count);
}

static bool post(struct link *link, struct batch *batch)
{
    struct ibv_send_wr *failed;
    if (batch->count == 0)
        return true;
    for (unsigned i = 0; i + 1 < batch->count; i++)
        batch->requests[i].next = &batch->requests[i + 1];
    link->stats.doorbells++;
    link->stats.work_requests += batch->count;
    errno = ibv_post_send(link->rdma->id->qp, batch->requests, &failed);
    batch->count = 0;
    return errno == 0;
}

static struct ibv_send_wr *add_request(struct link *link, struct batch *batch, enum rdma_work work,
                                       struct ibv_sge place)
{
    uint32_t number = link->rdma->sent++;
    unsigned at = batch->count++;
    bool signalled = work == RDMA_READ ||
                     (number % RDMA_SIGNAL_EVERY == RDMA_SIGNAL_EVERY - 1 && !FAULT(NO_SIGNAL));
    batch->places[at] = place;
    batch->requests[at] = (struct ibv_send_wr){
        .wr_id = rdma_work_id(work, link, number),
        .sg_list = &batch->places[at],
        .num_sge = 1,
        .opcode = work == RDMA_READ ? IBV_WR_RDMA_READ : IBV_WR_SEND,
        .send_flags = signalled ? IBV_SEND_SIGNALED : 0,
    };
    return &batch->requests[at];
}

/* A frame of `size` bytes lies in the slot of the next work request, but for what only now is
 * known. */
static void add_send(struct link *link, struct batch *batch, uint32_t size)
{
    struct rdma_link *rdma = link->rdma;
    uint8_t *slot = rdma->send_slots + (size_t)(rdma->sent % RDMA_SEND_COUNT) * RDMA_SLOT_SIZE;
    struct frame_header *header = (struct frame_header *)slot;
    header->sequence = rdma->sequence++;
    header->granted = rdma->posted;
    header->pulled = rdma->pulled;
    frame_seal(header);
    rdma->told = rdma->posted;
    rdma->pulled_told = rdma->pulled;
    struct ibv_sge place = {
        .addr = (uintptr_t)slot, .length = size, .lkey = rdma_of(link)->frames->lkey};
    struct ibv_send_wr *request = add_request(link, batch, RDMA_SEND, place);
    link->stats.frames_out++;
    link->stats.bytes_out += size;
    if (size <= rdma->inline_max) {
        request->send_flags |= IBV_SEND_INLINE;
        link->stats.inlined++;
    }
}

static void *next_slot(struct rdma_link *rdma)
{
    return rdma->send_slots + (size_t)(rdma->sent % RDMA_SEND_COUNT) * RDMA_SLOT_SIZE;
}

/* The payload goes to the staging, and where it is to the peer. */
static void add_pulled(struct link *link, struct batch *batch, const struct frame_header *frame)
{
    struct rdma_link *rdma = link->rdma;
    struct {
        struct frame_header header;
        struct frame_source source;
    } *slot = next_slot(rdma);
    slot->header = *frame;
    slot->header.magic = FRAME_PULL_MAGIC;
    slot->source = (struct frame_source){.address = (uintptr_t)rdma->staging,
                                         .key = rdma_of(link)->staging->rkey};
    memcpy(rdma->staging, frame + 1, frame->size);
    rdma->staging_busy = true;
    rdma->staged++;
    link->stats.bytes_out += frame->size;
    add_send(link, batch, sizeof(*slot));
}

enum status rdma_write(struct link *link, const char **why)
{
    struct rdma_link *rdma = link->rdma;
    struct batch batch;
    const struct frame_header *frame;
    bool posted = true;
    batch.count = 0;
    while (posted && (frame = output_frame(&link->output)) != NULL) {
        bool pulled = frame->size > RDMA_EAGER_MAX;
        if (!rdma_may_send(link, frame->message_count) ||
            (pulled && rdma->staging_busy && !FAULT(STAGING_EARLY)))
            break;
        if (pulled) {
            add_pulled(link, &batch, frame);
        } else {
            memcpy(next_slot(rdma), frame, sizeof(*frame) + frame->size);
            add_send(link, &batch, (uint32_t)sizeof(*frame) + frame->size);
        }
        output_skip(&link->output);
        if (batch.count == RDMA_SIGNAL_EVERY)
            posted = post(link, &batch);
    }
    if (!posted || !post(link, &batch)) {
        *why = "the queue pair takes nothing more";
        return STATUS_IO;
    }
    if (link->output.backlog == 0)
        return STATUS_OK;
    link->stats.stalls += !link->writing;
    return STATUS_AGAIN;
}

bool rdma_send_empty(struct link *link)
{
    struct batch batch;
    batch.count = 0;
    if (!rdma_may_send(link, 0))
        return false;
    memset(next_slot(link->rdma), 0, sizeof(struct frame_header));
    ((struct frame_header *)next_slot(link->rdma))->magic = FRAME_MAGIC;
    add_send(link, &batch, sizeof(struct frame_header));
    link->stats.grants++;
    link->sent_ns = net_now_ns();
    if (post(link, &batch))
        return true;
    link_break(link, "the queue pair takes nothing more");
    return false;
}

bool rdma_send_read(struct link *link, const struct frame_source *source, uint32_t size)
{
    struct rdma_link *rdma = link->rdma;
    struct batch batch;
    batch.count = 0;
    if (rdma->sent - rdma->done >= RDMA_SEND_COUNT)
        return false;
    struct ibv_sge place = {
        .addr = (uintptr_t)rdma->sink, .length = size, .lkey = rdma_of(link)->sinks->lkey};
    struct ibv_send_wr *request = add_request(link, &batch, RDMA_READ, place);
    request->wr.rdma.remote_addr = source->address;
    request->wr.rdma.rkey = source->key;
    if (post(link, &batch))
        return true;
    link_break(link, "the queue pair takes nothing more");
    return false;
}
