/* binary_answer.h: answers of the binary protocol, formatted into memory of the caller. Pure; any
 * thread. */
#ifndef PROTO_BINARY_ANSWER_H
#define PROTO_BINARY_ANSWER_H

#include "proto/binary.h"

enum {
    BINARY_ANSWER_SIZE_MAX = BINARY_HEADER_SIZE + 4 + BINARY_KEY_SIZE_MAX, /* without the value */
};

/* The header alone. Behind it come extras, key and the rest, body_size bytes together. */
size_t binary_put_header(uint8_t out[BINARY_HEADER_SIZE], const struct binary_tag *tag,
                         enum binary_status status, uint64_t cas, uint32_t extras_size,
                         uint32_t key_size, uint32_t body_size);

/* Header and the status' text. */
size_t binary_put_status(uint8_t out[BINARY_ANSWER_SIZE_MAX], const struct binary_tag *tag,
                         enum binary_status status, uint64_t cas);

/* A hit of a get, gat or touch: header, flags, and the key if the tag asks for it; the value of
 * value_size bytes comes behind it. */
size_t binary_put_hit(uint8_t out[BINARY_ANSWER_SIZE_MAX], const struct binary_tag *tag,
                      uint64_t cas, uint32_t client_flags, struct slice key, uint32_t value_size);

/* A miss of a get or gat: with the key in place of the text, if the tag asks for it. */
size_t binary_put_miss(uint8_t out[BINARY_ANSWER_SIZE_MAX], const struct binary_tag *tag,
                       struct slice key);

/* The answer of increment and decrement. */
size_t binary_put_number(uint8_t out[BINARY_ANSWER_SIZE_MAX], const struct binary_tag *tag,
                         uint64_t cas, uint64_t number);

/* One statistic; both empty: the end of them. 0: does not fit into `size` bytes, nothing was
 * written. */
size_t binary_put_stat(uint8_t *out, size_t size, const struct binary_tag *tag, struct slice name,
                       struct slice value);

#endif
