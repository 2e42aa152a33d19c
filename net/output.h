/* output.h: what one connection has still to send: frames being built in a chain of blocks, written
 * from there. One thread. Messages are contiguous in a block: a large one gets a block of its own.
 */
#ifndef NET_OUTPUT_H
#define NET_OUTPUT_H

#include <stdbool.h>
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
    uint32_t gather_max; /* payload above which the next message opens another frame */
    struct block *head, *tail;
    struct frame_header
        *frame; /* the frame being built, in the tail or a block before it; NULL: none */
    bool whole;
    size_t backlog;    /* bytes in the chain, not yet written */
    uint32_t sequence; /* of the next frame */
    uint64_t frames, messages, bytes;
};

void output_init(struct output *output, struct block_pool *pool);

/* How frames are made from now on; `whole`: each lies in a row, for output_frame(). Nothing may be
 * queued. output_init() chooses FRAME_GATHER_MAX, not whole. */
void output_set_framing(struct output *output, uint32_t gather_max, bool whole);

/* Gives all blocks back; what was queued is gone. The sequence begins again, the counters stay. */
void output_reset(struct output *output);

/* Queues one message, copied. STATUS_NO_MEMORY: nothing was queued. */
enum status output_add(struct output *output, const struct slice *parts, unsigned part_count,
                       size_t size) MUST_CHECK;

/* Queues a ping or a pong; not counted as a message. */
enum status output_add_probe(struct output *output, enum frame_kind kind,
                             uint64_t stamp) MUST_CHECK;

/* Queues an empty frame. */
enum status output_add_heartbeat(struct output *output) MUST_CHECK;

/* The first frame, header and payload in a row, its header not yet sealed for the wire; NULL: none.
 * Closes the frame being built. For whole frames only. */
struct frame_header *output_frame(struct output *output);

/* Goes past the frame just seen: it was sent. */
void output_skip(struct output *output);

/* Closes the frame being built and writes as much as the socket takes. STATUS_OK: all is written;
 * STATUS_AGAIN: go on when the socket is writable; STATUS_IO: see errno. */
enum status output_write(struct output *output, int fd) MUST_CHECK;

#endif
