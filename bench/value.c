#include "bench/value.h"

static void put_hex(char *out, uint64_t number, unsigned digits)
{
    for (unsigned i = digits; i > 0; i--, number >>= 4)
        out[i - 1] = "0123456789abcdef"[number & 0xf];
}

static bool get_hex(const char *text, unsigned digits, uint64_t *number)
{
    *number = 0;
    for (unsigned i = 0; i < digits; i++) {
        char c = text[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        *number = *number << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return true;
}

static void write_head(const struct value *value, char out[VALUE_HEAD_SIZE])
{
    memset(out, ' ', VALUE_HEAD_SIZE);
    put_hex(out, value->key_hash, 16);
    put_hex(out + 17, value->writer, 8);
    put_hex(out + 26, value->version, 16);
    out[43] = value->clean ? 'c' : 'u';
}

/* One period of the filler, by the version: a value put together from two versions is found out. */
static void filler_period(uint64_t version, char period[64])
{
    for (unsigned i = 0; i < 64; i++)
        period[i] = (char)('A' + (version * 7 + i * (1 + version % 23)) % 26);
}

static void write_filler(uint64_t version, char *out, uint32_t size)
{
    char period[64];
    filler_period(version, period);
    for (uint32_t at = 0; at < size; at += sizeof(period))
        memcpy(out + at, period, size - at < sizeof(period) ? size - at : sizeof(period));
}

static bool filler_right(uint64_t version, const char *at, size_t size)
{
    char period[64];
    filler_period(version, period);
    for (; size > sizeof(period); at += sizeof(period), size -= sizeof(period))
        if (memcmp(at, period, sizeof(period)) != 0)
            return false;
    return memcmp(at, period, size) == 0;
}

void value_write(const struct value *value, void *out, uint32_t size)
{
    char *at = out;
    if (size < VALUE_HEAD_SIZE) {
        write_filler(value->key_hash, at, size);
        return;
    }
    write_head(value, at);
    write_filler(value->version, at + VALUE_HEAD_SIZE, size - VALUE_HEAD_SIZE);
}

bool value_read(struct slice bytes, uint64_t key_hash, struct value *value)
{
    const char *text = bytes.data;
    uint64_t writer = 0;
    *value = (struct value){.key_hash = key_hash};
    if (bytes.size < VALUE_HEAD_SIZE)
        return filler_right(key_hash, text, bytes.size);
    if (!get_hex(text, 16, &value->key_hash) || value->key_hash != key_hash)
        return false;
    if (!get_hex(text + 17, 8, &writer) || !get_hex(text + 26, 16, &value->version))
        return false;
    if (text[43] != 'c' && text[43] != 'u')
        return false;
    value->writer = (uint32_t)writer;
    value->clean = text[43] == 'c';
    return filler_right(value->version, text + VALUE_HEAD_SIZE, bytes.size - VALUE_HEAD_SIZE);
}
