#include "proto/number.h"

enum {
    SIZE_32_MAX = 11,
    SIZE_64_MAX = 22,
};

bool number_u64(struct slice text, uint64_t *number)
{
    return text.size <= SIZE_64_MAX && slice_to_u64(text, number);
}

bool number_u32(struct slice text, uint32_t *number)
{
    uint64_t wide;
    if (text.size > SIZE_32_MAX || !slice_to_u64(text, &wide) || wide > UINT32_MAX)
        return false;
    *number = (uint32_t)wide;
    return true;
}

static struct slice behind(struct slice text, size_t count)
{
    return slice_make((const char *)text.data + count, text.size - count);
}

bool number_i32(struct slice text, int32_t *number)
{
    const char *bytes = text.data;
    uint64_t magnitude = 0;
    bool negative = text.size > 0 && bytes[0] == '-';
    if (text.size == 0 || text.size > SIZE_32_MAX)
        return false;
    struct slice digits = negative ? behind(text, 1) : text;
    /* A lone '-' is 0, as memcached has it. */
    if (digits.size > 0 && !slice_to_u64(digits, &magnitude))
        return false;
    if (magnitude > (uint64_t)INT32_MAX + negative)
        return false;
    *number = (int32_t)(negative ? -(int64_t)magnitude : (int64_t)magnitude);
    return true;
}

static bool is_space(char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static bool read_loose(struct slice text, bool *negative, uint64_t *magnitude)
{
    const char *bytes = text.data;
    size_t at = 0;
    while (at < text.size && is_space(bytes[at]))
        at++;
    *negative = at < text.size && bytes[at] == '-';
    if (at < text.size && (bytes[at] == '-' || bytes[at] == '+'))
        at++;
    size_t first = at;
    while (at < text.size && bytes[at] >= '0' && bytes[at] <= '9')
        at++;
    if (at < text.size && bytes[at] != '\0' && !is_space(bytes[at]))
        return false;
    return slice_to_u64(slice_make(bytes + first, at - first), magnitude);
}

bool number_loose_u32(struct slice text, uint32_t *number)
{
    bool negative;
    uint64_t magnitude;
    if (!read_loose(text, &negative, &magnitude) || (negative && magnitude != 0))
        return false;
    *number = (uint32_t)magnitude;
    return true;
}

bool number_loose_i32(struct slice text, int32_t *number)
{
    bool negative;
    uint64_t magnitude;
    if (!read_loose(text, &negative, &magnitude) || magnitude > (uint64_t)INT64_MAX + negative)
        return false;
    /* Unsigned arithmetic is the cut to 32 bits, in two's complement, without overflow. */
    uint32_t low = (uint32_t)(negative ? -magnitude : magnitude);
    *number = (int32_t)low;
    return true;
}
