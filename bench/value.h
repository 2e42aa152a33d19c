/* value.h: values that tell whose they are, so that every read can be checked. Any thread.
 *
 *     key hash, 16 hex digits | space | writer, 8 hex | space | version, 16 hex | space | c or u |
 * space | filler
 *
 * c: when the write was sent no other write of the key was under way ("clean"), so all versions
 * before it are older in every possible order. The filler follows from the version. Values shorter
 * than VALUE_HEAD_SIZE hold filler only, and no version. */
#ifndef BENCH_VALUE_H
#define BENCH_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum { VALUE_HEAD_SIZE = 45 };

struct value {
    uint64_t key_hash;
    uint32_t writer;
    uint64_t version;
    bool clean;
};

/* Writes exactly `size` bytes. */
void value_write(const struct value *value, void *out, uint32_t size);

/* False: these are not bytes that value_write() made for a key of that hash. A short value gives
 * version 0. */
bool value_read(struct slice bytes, uint64_t key_hash, struct value *value);

#endif
