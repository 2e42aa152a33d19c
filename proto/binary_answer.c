#include "proto/binary_answer.h"

#include <assert.h>

static uint8_t *put_number(uint8_t *at, uint64_t number, unsigned size)
{
    for (unsigned i = size; i > 0; i--) {
        at[i - 1] = (uint8_t)number;
        number >>= 8;
    }
    return at + size;
}

static uint8_t *put(uint8_t *at, struct slice bytes)
{
    if (bytes.size > 0)
        memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

/* magic, opcode, key size, extras size, data type, status, body size, opaque, cas */
size_t binary_put_header(uint8_t out[BINARY_HEADER_SIZE], const struct binary_tag *tag,
                         enum binary_status status, uint64_t cas, uint32_t extras_size,
                         uint32_t key_size, uint32_t body_size)
{
    uint8_t *at = put_number(out, BINARY_MAGIC_ANSWER, 1);
    at = put_number(at, tag->opcode, 1);
    at = put_number(at, key_size, 2);
    at = put_number(at, extras_size, 1);
    at = put_number(at, 0, 1);
    at = put_number(at, binary_status_number(status), 2);
    at = put_number(at, body_size, 4);
    at = put(at, slice_make(&tag->opaque, sizeof(tag->opaque)));
    at = put_number(at, cas, 8);
    assert(at - out == BINARY_HEADER_SIZE);
    return BINARY_HEADER_SIZE;
}

size_t binary_put_status(uint8_t out[BINARY_ANSWER_SIZE_MAX], const struct binary_tag *tag,
                         enum binary_status status, uint64_t cas)
{
    struct slice text = binary_status_text(status);
    size_t size = binary_put_header(out, tag, status, cas, 0, 0, (uint32_t)text.size);
    assert(size + text.size <= BINARY_ANSWER_SIZE_MAX);
    return (size_t)(put(out + size, text) - out);
}

size_t binary_put_hit(uint8_t out[BINARY_ANSWER_SIZE_MAX], const struct binary_tag *tag,
                      uint64_t cas, uint32_t client_flags, struct slice key, uint32_t value_size)
{
    struct slice shown = tag->with_key ? key : slice_make(NULL, 0);
    assert(shown.size <= BINARY_KEY_SIZE_MAX);
    uint8_t *at = out + binary_put_header(out, tag, BINARY_STATUS_OK, cas, 4, (uint32_t)shown.size,
                                          4 + (uint32_t)shown.size + value_size);
    at = put_number(at, client_flags, 4);
    return (size_t)(put(at, shown) - out);
}

size_t binary_put_miss(uint8_t out[BINARY_ANSWER_SIZE_MAX], const struct binary_tag *tag,
                       struct slice key)
{
    if (!tag->with_key)
        return binary_put_status(out, tag, BINARY_STATUS_NOT_FOUND, 0);
    uint32_t size = (uint32_t)key.size;
    assert(size <= BINARY_KEY_SIZE_MAX);
    uint8_t *at = out + binary_put_header(out, tag, BINARY_STATUS_NOT_FOUND, 0, 0, size, size);
    return (size_t)(put(at, key) - out);
}

size_t binary_put_number(uint8_t out[BINARY_ANSWER_SIZE_MAX], const struct binary_tag *tag,
                         uint64_t cas, uint64_t number)
{
    uint8_t *at = out + binary_put_header(out, tag, BINARY_STATUS_OK, cas, 0, 0, 8);
    return (size_t)(put_number(at, number, 8) - out);
}

size_t binary_put_stat(uint8_t *out, size_t size, const struct binary_tag *tag, struct slice name,
                       struct slice value)
{
    size_t body = name.size + value.size;
    /* Each alone first: the sum of lengths that somebody made up must not wrap. */
    if (name.size > UINT16_MAX || value.size > size || BINARY_HEADER_SIZE + body > size)
        return 0;
    uint8_t *at = out + binary_put_header(out, tag, BINARY_STATUS_OK, 0, 0, (uint32_t)name.size,
                                          (uint32_t)body);
    return (size_t)(put(put(at, name), value) - out);
}
