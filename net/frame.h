/* frame.h: how messages lie on a connection. Pure; any thread.
 *
 * A connection carries frames; a frame carries the messages that were gathered in one turn, none
 * for a heartbeat:
 *
 *     frame_header | message_header, bytes, zeros to 8 | message_header, bytes, zeros to 8 | ...
 *
 * Everything is a multiple of 8, so that a message lies aligned in a buffer where its frame does.
 * Little-endian, as the machines this runs on. TCP's checksum is weak, hence two of our own: the
 * header's own, so that a size may be believed before the payload is there, and the payload's. */
#ifndef NET_FRAME_H
#define NET_FRAME_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum {
    FRAME_MAGIC = 0x31464348,      /* "HCF1" */
    FRAME_PULL_MAGIC = 0x31524348, /* RDMA: a struct frame_source follows in place of the payload */
    FRAME_GATHER_MAX = 65536,      /* payload above which the next message opens another frame */
};

struct frame_header {
    uint32_t magic;
    uint32_t size;          /* of the payload */
    uint32_t message_count; /* 0: heartbeat */
    uint32_t payload_crc;
    uint32_t sequence;   /* 0, 1, 2... of the connection */
    uint32_t granted;    /* RDMA: receives posted so far, mod 2^32; the other side may send so many
                            frames */
    uint32_t pulled;     /* RDMA: pulled frames of the other side that were read so far, mod 2^32 */
    uint32_t header_crc; /* of all before it */
};
static_assert(sizeof(struct frame_header) == 32, "wire format");
static_assert(offsetof(struct frame_header, header_crc) == 28, "wire format");

/* Where the payload of a frame lies that is to be read by RDMA READ. */
struct frame_source {
    uint64_t address;
    uint32_t key;
    uint32_t unused; /* zero */
};
static_assert(sizeof(struct frame_source) == 16, "wire format");

enum frame_kind {
    FRAME_MESSAGE, /* of net's user */
    FRAME_PING,    /* FRAME_PROBE_SIZE bytes, which the receiver sends back... */
    FRAME_PONG,    /* ...in one of these: how long a message and its answer take */
    FRAME_KIND_COUNT
};

enum { FRAME_PROBE_SIZE = 8 };

struct message_header {
    uint32_t size; /* of the bytes that follow, without the padding */
    uint32_t kind; /* enum frame_kind */
};
static_assert(sizeof(struct message_header) == 8, "wire format");

/* NULL-free texts of what can be wrong with a frame. */
enum frame_error {
#define FRAME_ERROR_ROW(name, text) FRAME_##name,
#include "net/frame_error.def"
#undef FRAME_ERROR_ROW
    FRAME_ERROR_COUNT
};
const char *frame_error_text(enum frame_error error);

/* Bytes that a message of `size` takes in a payload. */
static inline size_t frame_message_size(size_t size)
{
    return sizeof(struct message_header) + ((size + 7) & ~(size_t)7);
}

/* The largest payload a sender makes when no message is above `message_size_max`. */
static inline uint32_t frame_payload_max(uint32_t message_size_max)
{
    size_t largest = frame_message_size(message_size_max);
    return (uint32_t)(largest > FRAME_GATHER_MAX ? largest : FRAME_GATHER_MAX);
}

/* Completes a header whose magic is set: header_crc. */
void frame_seal(struct frame_header *header);

/* FRAME_OK: `header` is that of frame number `sequence`, and its payload is no larger than
 * `payload_max`. */
enum frame_error frame_check_header(const struct frame_header *header, uint32_t sequence,
                                    uint32_t payload_max);

/* FRAME_OK: the payload of a checked header is whole and frame_message() may walk it. */
enum frame_error frame_check_payload(const struct frame_header *header, const void *payload);

/* The message at *offset of a checked payload; moves *offset to the next. False: the end. */
bool frame_message(const struct frame_header *header, const void *payload, uint32_t *offset,
                   struct slice *message);

/* Of a message that frame_message() gave: its header lies before its bytes. */
enum frame_kind frame_message_kind(struct slice message);

#endif
