/* input.h: what one connection has received and not yet delivered. One thread. Grows to the frame
 * that is arriving, bytes are read to where they stay; moved at most once per read and at most once
 * per frame. */
#ifndef NET_INPUT_H
#define NET_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"
#include "net/frame.h"

struct input {
    uint8_t *data; /* NULL until the first read */
    size_t capacity;
    size_t begin, end; /* what was received and not yet taken */
    uint32_t payload_max;
    uint32_t message_at; /* offset in the payload of the next message of a checked frame */
    bool checked;        /* the frame at `begin` is whole and good */
    bool grown;          /* a large frame came since the last input_shrink() */
    uint32_t sequence;   /* of the frame at `begin` */
    uint64_t frames, messages, bytes; /* messages: of net's user */
};

void input_init(struct input *input, uint32_t payload_max);

/* Frees the buffer; what it held is gone. The sequence begins again, the counters stay. */
void input_reset(struct input *input);

/* Reads once. STATUS_OK: something came; STATUS_AGAIN: nothing there; STATUS_CLOSED: the end;
 * STATUS_BUSY: the buffer is full, messages must be taken first; STATUS_IO: see errno;
 * STATUS_NO_MEMORY. */
enum status input_read(struct input *input, int fd) MUST_CHECK;

/* The next message, aligned, borrowed until input_take() or the next read. STATUS_AGAIN: more must
 * arrive; STATUS_CORRUPT: *error says why, the connection is of no use any more; STATUS_NO_MEMORY.
 */
enum status input_peek(struct input *input, struct slice *message,
                       enum frame_error *error) MUST_CHECK;

/* Goes past the message just peeked. */
void input_take(struct input *input);

/* Now and then: gives memory back that only a large frame needed. */
void input_shrink(struct input *input);

#endif
