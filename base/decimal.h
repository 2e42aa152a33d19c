/* decimal.h: numbers as text: fast formatting, and the arithmetic of `incr` and `decr` on stored
 * values. Pure. */
#ifndef BASE_DECIMAL_H
#define BASE_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/status.h"

enum { DECIMAL_SIZE_MAX = 20 }; /* of 2^64 - 1 */

/* Writes `number` without leading zeros and without a final zero byte; returns the count of digits,
 * at least 1. */
size_t decimal_format(uint64_t number, char out[DECIMAL_SIZE_MAX]);

/* Reads a stored value as memcached's incr does: white space, an optional '+', digits, and then the
 * end, white space or a zero byte, behind which nothing matters. STATUS_INVALID: not such a number,
 * negative, or over 2^64 - 1. */
enum status decimal_parse_stored(struct slice value, uint64_t *number) MUST_CHECK;

/* incr: wraps at 2^64. */
static inline uint64_t decimal_add(uint64_t number, uint64_t delta)
{
    return number + delta;
}

/* decr: stops at 0. */
static inline uint64_t decimal_subtract(uint64_t number, uint64_t delta)
{
    return number > delta ? number - delta : 0;
}

/* Writes the value that replaces one of `old_size` bytes, and returns its size: a value never
 * shrinks, it is padded with spaces, as memcached does it. `out` has room for both. */
size_t decimal_format_stored(uint64_t number, char *out, size_t old_size);

#endif
