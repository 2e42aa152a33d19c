#include "net/output.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/crc32c.h"

enum {
    BLOCK_SIZE = 32768,  /* of the usual block, without its head */
    POOL_BLOCK_MAX = 64, /* kept by a lane: 2 MB */
    WRITE_BLOCK_MAX = 64 /* in one writev */
};

struct block {
    struct block *next;
    uint32_t capacity;
    uint32_t used;
    uint32_t sent;
    uint32_t unused;
    _Alignas(8) uint8_t data[];
};

static struct block *block_take(struct block_pool *pool, size_t size)
{
    struct block *block = pool->free;
    if (size <= BLOCK_SIZE && block != NULL) {
        pool->free = block->next;
        pool->free_count--;
    } else {
        size_t capacity = size <= BLOCK_SIZE ? BLOCK_SIZE : size;
        block = malloc(sizeof(*block) + capacity);
        if (block == NULL)
            return NULL;
        block->capacity = (uint32_t)capacity;
    }
    block->next = NULL;
    block->used = 0;
    block->sent = 0;
    return block;
}

static void block_give(struct block_pool *pool, struct block *block)
{
    if (block->capacity != BLOCK_SIZE || pool->free_count >= POOL_BLOCK_MAX) {
        free(block);
        return;
    }
    block->next = pool->free;
    pool->free = block;
    pool->free_count++;
}

void block_pool_close(struct block_pool *pool)
{
    for (struct block *next, *block = pool->free; block != NULL; block = next) {
        next = block->next;
        free(block);
    }
    *pool = (struct block_pool){0};
}

void output_init(struct output *output, struct block_pool *pool)
{
    *output = (struct output){.pool = pool, .gather_max = FRAME_GATHER_MAX};
}

void output_set_framing(struct output *output, uint32_t gather_max, bool whole)
{
    assert(output->head == NULL);
    output->gather_max = gather_max;
    output->whole = whole;
}

void output_reset(struct output *output)
{
    for (struct block *next, *block = output->head; block != NULL; block = next) {
        next = block->next;
        block_give(output->pool, block);
    }
    output->head = NULL;
    output->tail = NULL;
    output->frame = NULL;
    output->backlog = 0;
    output->sequence = 0;
}

static size_t room_in_tail(const struct output *output)
{
    const struct block *tail = output->tail;
    return tail == NULL ? 0 : tail->capacity - tail->used;
}

/* `size` bytes in a row at the end of the chain, 8-byte aligned. */
static void *reserve(struct output *output, size_t size)
{
    struct block *tail = output->tail;
    if (room_in_tail(output) < size) {
        tail = block_take(output->pool, size);
        if (tail == NULL)
            return NULL;
        if (output->tail != NULL)
            output->tail->next = tail;
        else
            output->head = tail;
        output->tail = tail;
    }
    void *at = tail->data + tail->used;
    tail->used += (uint32_t)size;
    output->backlog += size;
    return at;
}

static void frame_begin(struct output *output, struct frame_header *frame)
{
    *frame = (struct frame_header){.magic = FRAME_MAGIC, .sequence = output->sequence++};
    output->frame = frame;
}

static void frame_end(struct output *output)
{
    if (output->frame == NULL)
        return;
    frame_seal(output->frame);
    output->frame = NULL;
    output->frames++;
}

static void copy_message(uint8_t *at, enum frame_kind kind, const struct slice *parts,
                         unsigned part_count, size_t size)
{
    struct message_header header = {.size = (uint32_t)size, .kind = (uint32_t)kind};
    memcpy(at, &header, sizeof(header));
    memset(at + frame_message_size(size) - 8, 0, size % 8 != 0 ? 8 : 0);
    at += sizeof(header);
    for (unsigned i = 0; i < part_count; i++) {
        if (parts[i].size > 0)
            memcpy(at, parts[i].data, parts[i].size);
        at += parts[i].size;
    }
}

static enum status add(struct output *output, enum frame_kind kind, const struct slice *parts,
                       unsigned part_count, size_t size)
{
    size_t extent = frame_message_size(size);
    if (output->frame != NULL && (output->frame->size + extent > output->gather_max ||
                                  (output->whole && room_in_tail(output) < extent)))
        frame_end(output);
    size_t header = output->frame == NULL ? sizeof(struct frame_header) : 0;
    uint8_t *at = reserve(output, header + extent);
    if (at == NULL)
        return STATUS_NO_MEMORY;
    if (header > 0)
        frame_begin(output, (struct frame_header *)at);
    at += header;
    copy_message(at, kind, parts, part_count, size);
    struct frame_header *frame = output->frame;
    frame->payload_crc = crc32c(frame->payload_crc, at, extent);
    frame->size += (uint32_t)extent;
    frame->message_count++;
    return STATUS_OK;
}

enum status output_add(struct output *output, const struct slice *parts, unsigned part_count,
                       size_t size)
{
    enum status status = add(output, FRAME_MESSAGE, parts, part_count, size);
    output->messages += status == STATUS_OK;
    return status;
}

enum status output_add_probe(struct output *output, enum frame_kind kind, uint64_t stamp)
{
    struct slice part = slice_make(&stamp, sizeof(stamp));
    assert(kind == FRAME_PING || kind == FRAME_PONG);
    return add(output, kind, &part, 1, sizeof(stamp));
}

enum status output_add_heartbeat(struct output *output)
{
    frame_end(output);
    struct frame_header *frame = reserve(output, sizeof(*frame));
    if (frame == NULL)
        return STATUS_NO_MEMORY;
    frame_begin(output, frame);
    frame_end(output);
    return STATUS_OK;
}

/* Takes `size` written bytes off the front of the chain. */
static void consume(struct output *output, size_t size)
{
    output->backlog -= size;
    output->bytes += size;
    for (;;) {
        struct block *block = output->head;
        size_t left = block->used - block->sent;
        if (size < left) {
            block->sent += (uint32_t)size;
            return;
        }
        size -= left;
        output->head = block->next;
        block_give(output->pool, block);
        if (output->head == NULL) {
            assert(size == 0);
            output->tail = NULL;
            return;
        }
    }
}

struct frame_header *output_frame(struct output *output)
{
    assert(output->whole);
    frame_end(output);
    struct block *head = output->head;
    return head == NULL ? NULL : (struct frame_header *)(head->data + head->sent);
}

void output_skip(struct output *output)
{
    const struct frame_header *frame = output_frame(output);
    consume(output, sizeof(*frame) + frame->size);
}

enum status output_write(struct output *output, int fd)
{
    frame_end(output);
    while (output->head != NULL) {
        struct iovec blocks[WRITE_BLOCK_MAX];
        unsigned count = 0;
        for (struct block *block = output->head; block != NULL && count < WRITE_BLOCK_MAX;
             block = block->next)
            blocks[count++] = (struct iovec){.iov_base = block->data + block->sent,
                                             .iov_len = block->used - block->sent};
        struct msghdr message = {.msg_iov = blocks, .msg_iovlen = count};
        /* writev that answers EPIPE instead of raising SIGPIPE. */
        ssize_t written = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? STATUS_AGAIN : STATUS_IO;
        consume(output, (size_t)written);
    }
    return STATUS_OK;
}
