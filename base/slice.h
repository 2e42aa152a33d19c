/* slice.h: a run of bytes that somebody else owns. */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const void *data;
    size_t size;
};

static inline struct slice slice_make(const void *data, size_t size)
{
    return (struct slice){.data = data, .size = size};
}

/* The bytes of a C string, without its final zero. */
static inline struct slice slice_text(const char *text)
{
    return slice_make(text, strlen(text));
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* The whole slice as an unsigned decimal number: digits only, at least one, no overflow. */
static inline bool slice_to_u64(struct slice text, uint64_t *number)
{
    const char *digits = text.data;
    uint64_t result = 0;
    if (text.size == 0)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        unsigned digit = (unsigned)(digits[i] - '0');
        if (digit > 9 || __builtin_mul_overflow(result, 10, &result) ||
            __builtin_add_overflow(result, digit, &result))
            return false;
    }
    *number = result;
    return true;
}

#endif
