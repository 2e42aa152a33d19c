/* number.h: numbers in command lines. memcached reads them in two ways, and clients depend on both.
 * Pure; any thread. */
#ifndef PROTO_NUMBER_H
#define PROTO_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

/* The strict way: digits only (number_i32 takes a '-' before them), no overflow. As in memcached at
 * most 11 bytes, 22 for number_u64, leading zeros counted. False: `*number` is untouched. */
bool number_u32(struct slice text, uint32_t *number);
bool number_i32(struct slice text, int32_t *number);
bool number_u64(struct slice text, uint64_t *number);

/* The way of strtol(), for flags and exptime of storage commands: white space and a sign may stand
 * before the digits, anything behind a tab that follows them. Read with 64 bits and then cut to 32:
 * 4294967296 is 0. */
bool number_loose_u32(struct slice text, uint32_t *number);
bool number_loose_i32(struct slice text, int32_t *number);

#endif
