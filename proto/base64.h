/* base64.h: base64 of keys in meta commands and dumps. Pure; any thread. */
#ifndef PROTO_BASE64_H
#define PROTO_BASE64_H

#include <stddef.h>

#include "base/slice.h"

/* Bytes that `size` bytes take in base64. */
static inline size_t base64_size(size_t size)
{
    return (size + 2) / 3 * 4;
}

/* Returns base64_size(bytes.size). */
size_t base64_encode(struct slice bytes, char *out);

/* Writes at most text.size / 4 * 3 bytes and returns how many; 0: this is no base64. As memcached
 * has it, bytes outside the alphabet do not count, and what stands behind the padding does not
 * matter. */
size_t base64_decode(struct slice text, char *out);

#endif
