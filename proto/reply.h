/* reply.h: answers of the text protocol, formatted into memory of the caller. Pure; any thread. */
#ifndef PROTO_REPLY_H
#define PROTO_REPLY_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum reply {
#define REPLY(name, text) REPLY_##name,
#include "proto/reply.def"
#undef REPLY
    REPLY_COUNT
};

/* The whole line with its CRLF; constant memory. */
struct slice reply_line(enum reply reply);

enum {
    REPLY_KEY_SIZE_MAX = 250,
    REPLY_VALUE_SIZE_MAX = 6 + REPLY_KEY_SIZE_MAX + 1 + 10 + 1 + 10 + 1 + 20 + 2,
    REPLY_NUMBER_SIZE_MAX = 20 + 2,
};

/* `VALUE key flags size\r\n`; behind it come the value and CRLF, and behind the last key REPLY_END.
 * Returns the bytes written. */
size_t reply_value(char out[REPLY_VALUE_SIZE_MAX], struct slice key, uint32_t client_flags,
                   uint32_t value_size);

/* The same for gets and gats: `VALUE key flags size cas\r\n`. */
size_t reply_value_cas(char out[REPLY_VALUE_SIZE_MAX], struct slice key, uint32_t client_flags,
                       uint32_t value_size, uint64_t cas);

/* The answer of incr and decr. */
size_t reply_number(char out[REPLY_NUMBER_SIZE_MAX], uint64_t number);

/* `STAT name value\r\n`, and `VERSION text\r\n`. 0: does not fit into `size` bytes, nothing was
 * written. */
size_t reply_stat(char *out, size_t size, struct slice name, struct slice value);
size_t reply_version(char *out, size_t size, struct slice version);

#endif
