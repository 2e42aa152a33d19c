/* Frames in. A slot is posted again as soon as its messages are delivered, one without messages at
 * once: heartbeats and grants pass by what is held. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "net/rdma_private.h"

static struct frame_header *frame_in(const struct rdma_link *rdma, unsigned slot)
{
    return (struct frame_header *)(rdma->receive_slots + (size_t)slot * RDMA_SLOT_SIZE);
}

static struct frame_header *ring_frame(const struct rdma_link *rdma, unsigned nth)
{
    return frame_in(rdma, rdma->ring[(rdma->ring_at + nth) % RDMA_RECEIVE_COUNT]);
}

static void free_slot(struct rdma_link *rdma, unsigned slot)
{
    assert(rdma->free_count < RDMA_RECEIVE_COUNT);
    rdma->free[rdma->free_count++] = (uint8_t)slot;
}

void rdma_receive_reset(struct link *link)
{
    struct rdma_link *rdma = link->rdma;
    rdma->free_count = 0;
    for (unsigned slot = 0; slot < RDMA_RECEIVE_COUNT; slot++)
        free_slot(rdma, slot);
    rdma->ring_at = 0;
    rdma->ring_count = 0;
    rdma->received = 0;
    rdma->posted = 0;
    rdma->told = 0;
    rdma->pulled = 0;
    rdma->pulled_told = 0;
    rdma->sink_state = SINK_IDLE;
    rdma->checked = false;
}

bool rdma_post_receives(struct link *link, bool all)
{
    struct rdma_link *rdma = link->rdma;
    struct ibv_recv_wr requests[RDMA_RECEIVE_COUNT], *failed;
    struct ibv_sge places[RDMA_RECEIVE_COUNT];
    unsigned count = rdma->free_count;
    uint32_t waiting = rdma->posted - rdma->received;
    /* Where most slots hold what is not delivered yet, each of the others counts. */
    if (count == 0 || (!all && count < RDMA_REPOST_COUNT &&
                       (waiting >= RDMA_REPOST_COUNT || FAULT(RECEIVES_IN_BATCHES))))
        return true;
    for (unsigned i = 0; i < count; i++) {
        unsigned slot = rdma->free[i];
        places[i] = (struct ibv_sge){.addr = (uintptr_t)frame_in(rdma, slot),
                                     .length = RDMA_SLOT_SIZE,
                                     .lkey = rdma_of(link)->frames->lkey};
        requests[i] = (struct ibv_recv_wr){.wr_id = rdma_work_id(RDMA_RECEIVE, link, slot),
                                           .next = i + 1 < count ? &requests[i + 1] : NULL,
                                           .sg_list = &places[i],
                                           .num_sge = 1};
    }
    link->stats.doorbells++;
    link->stats.receives += count;
    rdma->free_count = 0;
    rdma->posted += count;
    errno = ibv_post_recv(rdma->id->qp, requests, &failed);
    return errno == 0;
}

/* What every header says of the peer's side. */
static bool take_counters(struct rdma_link *rdma, const struct frame_header *header)
{
    uint32_t more = header->granted - rdma->credit;
    if (more > RDMA_RECEIVE_COUNT || header->granted - rdma->sequence > RDMA_RECEIVE_COUNT)
        return false;
    if (header->pulled != rdma->staged && header->pulled + 1 != rdma->staged)
        return false;
    rdma->credit = header->granted;
    if (header->pulled == rdma->staged)
        rdma->staging_busy = false;
    return true;
}

static enum frame_error check(const struct link *link, const struct frame_header *header,
                              uint32_t size)
{
    bool pulled = size >= sizeof(*header) && header->magic == FRAME_PULL_MAGIC;
    uint32_t payload_max = pulled ? link->input.payload_max : (uint32_t)RDMA_EAGER_MAX;
    if (size < sizeof(*header))
        return FRAME_BAD_SIZE;
    enum frame_error error = frame_check_header(header, link->rdma->received, payload_max);
    if (error != FRAME_OK)
        return error;
    size_t wanted = sizeof(*header) + (pulled ? sizeof(struct frame_source) : header->size);
    return size == wanted && (header->message_count > 0) == (header->size > 0) ? FRAME_OK
                                                                               : FRAME_BAD_SIZE;
}

enum frame_error rdma_received(struct link *link, uint32_t slot, uint32_t size)
{
    struct rdma_link *rdma = link->rdma;
    const struct frame_header *header = frame_in(rdma, slot);
    enum frame_error error = check(link, header, size);
    if (error != FRAME_OK)
        return error;
    rdma->received++;
    link->stats.frames_in++;
    link->stats.bytes_in += size;
    if (!take_counters(rdma, header))
        return FRAME_BAD_COUNTERS;
    if (header->message_count == 0)
        free_slot(rdma, slot);
    else
        rdma->ring[(rdma->ring_at + rdma->ring_count++) % RDMA_RECEIVE_COUNT] = (uint8_t)slot;
    if (header->message_count > 0 && FAULT(RECEIVE_EARLY))
        free_slot(rdma, slot);
    return FRAME_OK;
}

/* ---- pulls ---- */

void rdma_start_pull(struct link *link)
{
    struct rdma_link *rdma = link->rdma;
    unsigned nth = 0;
    if (rdma->sink_state != SINK_IDLE && !(rdma->sink_state == SINK_FULL && FAULT(SINK_EARLY)))
        return;
    while (nth < rdma->ring_count && ring_frame(rdma, nth)->magic != FRAME_PULL_MAGIC)
        nth++;
    if (nth == rdma->ring_count)
        return;
    struct frame_source source;
    const struct frame_header *header = ring_frame(rdma, nth);
    memcpy(&source, header + 1, sizeof(source));
    if (!rdma_send_read(link, &source, header->size))
        return;
    rdma->sink_state = SINK_READING;
    rdma->pulled += FAULT(PULLED_EARLY);
    link->stats.pulls++;
    link->stats.pulled_bytes += header->size;
    link->stats.bytes_in += header->size;
}

void rdma_read_done(struct link *link)
{
    assert(link->rdma->sink_state == SINK_READING);
    link->rdma->sink_state = SINK_FULL;
    link->rdma->pulled += !FAULT(PULLED_EARLY);
}

/* ---- messages ---- */

static void pop(struct link *link)
{
    struct rdma_link *rdma = link->rdma;
    unsigned slot = rdma->ring[rdma->ring_at];
    if (frame_in(rdma, slot)->magic == FRAME_PULL_MAGIC)
        rdma->sink_state = SINK_IDLE;
    rdma->ring_at = (rdma->ring_at + 1) % RDMA_RECEIVE_COUNT;
    rdma->ring_count--;
    rdma->checked = false;
    free_slot(rdma, slot);
    rdma_start_pull(link);
}

/* NULL: still to be pulled. */
static const uint8_t *payload_of(const struct rdma_link *rdma, const struct frame_header *header)
{
    if (header->magic == FRAME_MAGIC)
        return (const uint8_t *)(header + 1);
    return rdma->sink_state == SINK_FULL || FAULT(PULL_UNREAD) ? rdma->sink : NULL;
}

enum status rdma_peek(struct link *link, struct slice *message, enum frame_error *error)
{
    struct rdma_link *rdma = link->rdma;
    for (; rdma->ring_count > 0; pop(link)) {
        const struct frame_header *header = ring_frame(rdma, 0);
        const uint8_t *payload = payload_of(rdma, header);
        if (payload == NULL)
            return STATUS_AGAIN;
        if (!rdma->checked) {
            *error = frame_check_payload(header, payload);
            if (*error != FRAME_OK)
                return STATUS_CORRUPT;
            rdma->checked = true;
            rdma->message_at = 0;
        }
        uint32_t offset = rdma->message_at;
        if (frame_message(header, payload, &offset, message))
            return STATUS_OK;
    }
    return STATUS_AGAIN;
}

void rdma_take(struct link *link)
{
    struct rdma_link *rdma = link->rdma;
    const struct frame_header *header = ring_frame(rdma, 0);
    struct slice message;
    assert(rdma->ring_count > 0 && rdma->checked);
    bool found = frame_message(header, payload_of(rdma, header), &rdma->message_at, &message);
    assert(found);
    link->stats.messages_in += frame_message_kind(message) == FRAME_MESSAGE;
}
