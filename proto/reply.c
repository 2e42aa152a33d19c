#include "proto/reply.h"

#include <assert.h>

#include "base/decimal.h"

static const struct slice lines[REPLY_COUNT] = {
#define REPLY(name, text) {text "\r\n", sizeof(text "\r\n") - 1},
#include "proto/reply.def"
#undef REPLY
};

struct slice reply_line(enum reply reply)
{
    assert(reply < REPLY_COUNT);
    return lines[reply];
}

static char *put(char *at, struct slice bytes)
{
    if (bytes.size > 0)
        memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

static char *put_number(char *at, uint64_t number)
{
    return at + decimal_format(number, at);
}

static char *put_value(char *at, struct slice key, uint32_t client_flags, uint32_t value_size)
{
    at = put(at, slice_make("VALUE ", 6));
    at = put(at, key);
    *at++ = ' ';
    at = put_number(at, client_flags);
    *at++ = ' ';
    return put_number(at, value_size);
}

static char *put_line_end(char *at)
{
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

size_t reply_value(char out[REPLY_VALUE_SIZE_MAX], struct slice key, uint32_t client_flags,
                   uint32_t value_size)
{
    assert(key.size <= REPLY_KEY_SIZE_MAX);
    return (size_t)(put_line_end(put_value(out, key, client_flags, value_size)) - out);
}

size_t reply_value_cas(char out[REPLY_VALUE_SIZE_MAX], struct slice key, uint32_t client_flags,
                       uint32_t value_size, uint64_t cas)
{
    assert(key.size <= REPLY_KEY_SIZE_MAX);
    char *at = put_value(out, key, client_flags, value_size);
    *at++ = ' ';
    return (size_t)(put_line_end(put_number(at, cas)) - out);
}

size_t reply_number(char out[REPLY_NUMBER_SIZE_MAX], uint64_t number)
{
    return (size_t)(put_line_end(put_number(out, number)) - out);
}

size_t reply_stat(char *out, size_t size, struct slice name, struct slice value)
{
    /* Each part alone first: the sum of lengths that somebody made up must not wrap. */
    if (name.size > size || value.size > size || 5 + name.size + 1 + value.size + 2 > size)
        return 0;
    char *at = put(out, slice_make("STAT ", 5));
    at = put(at, name);
    *at++ = ' ';
    return (size_t)(put_line_end(put(at, value)) - out);
}

size_t reply_version(char *out, size_t size, struct slice version)
{
    if (version.size > size || 8 + version.size + 2 > size)
        return 0;
    char *at = put(out, slice_make("VERSION ", 8));
    return (size_t)(put_line_end(put(at, version)) - out);
}
