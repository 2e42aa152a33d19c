/* output.h: what one connection has still to send: frames being built in a chain of blocks, written
 * from there. One thread. Messages are contiguous in a block: a large one gets a block of its own.
 */
#ifndef NET_OUTPUT_H
#define NET_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"
#include "net/frame.h"

struct block;

/* Blocks of the usual size, kept for reuse by all connections of one lane. */
struct block_pool {
    struct block *free;
    unsigned free_count;
};
void block_pool_close(struct block_pool *pool);

struct output {
    struct block_pool *pool;
    struct block *head, *tail;
    struct frame_header
        *frame;        /* the frame being built, in the tail or a block before it; NULL: none */
    size_t backlog;    /* bytes in the chain, not yet written */
    uint64_t sequence; /* of the next frame */
    uint64_t frames, messages, bytes;
};

void output_init(struct output *output, struct block_pool *pool);

/* Gives all blocks back; what was queued is gone. The sequence begins again, the counters stay. */
void output_reset(struct output *output);

/* Queues one message, copied. STATUS_NO_MEMORY: nothing was queued. */
enum status output_add(struct output *output, const struct slice *parts, unsigned part_count,
                       size_t size) MUST_CHECK;

/* Queues an empty frame. */
enum status output_add_heartbeat(struct output *output) MUST_CHECK;

/* Closes the frame being built and writes as much as the socket takes. STATUS_OK: all is written;
 * STATUS_AGAIN: go on when the socket is writable; STATUS_IO: see errno. */
enum status output_write(struct output *output, int fd) MUST_CHECK;

#endif
