/* binary.h: memcached's binary protocol, from bytes to requests. One parser for each connection.
 * Pure. Answers: binary_answer.h.
 *
 * Used as the text parser is (text.h): a buffer of at least BINARY_INPUT_SIZE_MIN bytes, one event
 * a call, `consumed` bytes dropped after each; slices of the request point into the input and are
 * good until then. The events depend on the bytes only, never on how they were cut into pieces.
 *
 * Values are not read here. After BINARY_VALUE:
 *
 *     while ((left = binary_value_left(parser)) > 0)
 *         take up to `left` bytes; binary_value_taken(parser, count);
 *     binary_parse(...) -> BINARY_VALUE_END: execute the request (its key was copied before)
 *
 * BINARY_ERROR comes when all bytes of the refused request are behind. Lengths that contradict each
 * other close the connection, since nobody knows where the next request begins. */
#ifndef PROTO_BINARY_H
#define PROTO_BINARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum {
    BINARY_MAGIC_REQUEST = 0x80,
    BINARY_MAGIC_ANSWER = 0x81,
    BINARY_HEADER_SIZE = 24,
    BINARY_EXTRAS_SIZE_MAX = 20,
    BINARY_KEY_SIZE_MAX = 250,
    BINARY_BODY_SIZE_MAX = 1 << 30,
    BINARY_INPUT_SIZE_MIN = BINARY_HEADER_SIZE + BINARY_EXTRAS_SIZE_MAX + BINARY_KEY_SIZE_MAX,
    BINARY_MECHANISM_SIZE_MAX = 32,  /* of SASL, in place of the key */
    BINARY_SASL_SIZE_MAX = 16 << 10, /* what a stranger may make us keep */
    BINARY_FOREVER = 0xffffffff,     /* exptime of increment and decrement: do not create */
};

enum binary_opcode {
#define OPCODE(number, name, base, loud, with_key, extras, extras_or, key, value, open)            \
    BINARY_##name = number,
#include "proto/binary_opcode.def"
#undef OPCODE
};

/* The place in the table; binary_status_number() is what is sent. */
enum binary_status {
#define BINARY_STATUS(number, name, text) BINARY_STATUS_##name,
#include "proto/binary_status.def"
#undef BINARY_STATUS
    BINARY_STATUS_COUNT
};

uint16_t binary_status_number(enum binary_status status);
struct slice binary_status_text(enum binary_status status);

/* What a request's header says of the answer. */
struct binary_tag {
    uint8_t opcode; /* as sent: the quiet one, or one that nobody knows */
    bool quiet;
    bool with_key;
    uint32_t opaque; /* the four bytes as they came */
};

enum binary_event {
    BINARY_MORE,      /* nothing more to do with these bytes */
    BINARY_REQUEST,   /* a request without a value */
    BINARY_VALUE,     /* a request whose value of value_size bytes, maybe 0, follows */
    BINARY_VALUE_END, /* the value is complete; `request` is not filled in */
    BINARY_ERROR,     /* answer request->status, also if the request was quiet; close if
                         request->closes */
    BINARY_CLOSE,     /* after the answers that are due, close; nothing more will be parsed */
};

struct binary_limits {
    uint32_t item_size_max; /* -I: as text_item_fits */
    bool sasl;              /* else the requests of SASL are unknown */
    bool locked;            /* not authenticated: the table says what is allowed */
};

struct binary_request {
    struct binary_tag tag;
    enum binary_opcode base; /* what to do */
    enum binary_status status;
    bool closes;
    /* A quiet delete that is the first half of refusing a Set that is too large: its old value must
     * go. BINARY_ERROR follows. */
    bool replaced_by_too_large;
    struct slice key; /* of SASL: the mechanism; of Stat: the group */
    uint64_t cas;     /* 0: any */
    uint32_t client_flags;
    uint32_t value_size;
    uint32_t exptime; /* as sent, unsigned; flush: its delay, 0 if none */
    uint64_t delta, initial;
};

/* Nothing in it is for the caller. */
struct binary_parser {
    uint8_t state; /* enum binary_state in binary.c */
    uint8_t extras_size;
    uint8_t status; /* when `left` bytes are skipped */
    bool closes;
    struct binary_tag tag;
    uint16_t key_size;
    uint32_t left; /* of the value, or to be skipped */
    uint64_t cas;
};

void binary_init(struct binary_parser *parser);

/* One event. Must not be called while binary_value_left() > 0. */
enum binary_event binary_parse(struct binary_parser *parser, const struct binary_limits *limits,
                               struct slice input, size_t *consumed,
                               struct binary_request *request);

uint32_t binary_value_left(const struct binary_parser *parser);
void binary_value_taken(struct binary_parser *parser, uint32_t size);

/* Between BINARY_VALUE and BINARY_VALUE_END: the caller will not have this value. The rest is
 * swallowed; then BINARY_ERROR with `status`. */
void binary_value_refuse(struct binary_parser *parser, enum binary_status status);

/* False in the middle of a request. */
bool binary_between_requests(const struct binary_parser *parser, struct slice unconsumed);

#endif
