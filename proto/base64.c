#include "proto/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

enum { OUTSIDE = 64, PAD = 65 };

size_t base64_encode(struct slice bytes, char *out)
{
    const uint8_t *in = bytes.data;
    size_t at = 0;
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t left = bytes.size - i;
        uint32_t three = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                         (left > 2 ? in[i + 2] : 0u);
        out[at++] = alphabet[three >> 18];
        out[at++] = alphabet[three >> 12 & 63];
        out[at++] = left > 1 ? alphabet[three >> 6 & 63] : '=';
        out[at++] = left > 2 ? alphabet[three & 63] : '=';
    }
    return at;
}

static unsigned value_of(uint8_t byte)
{
    if (byte >= 'A' && byte <= 'Z')
        return byte - 'A';
    if (byte >= 'a' && byte <= 'z')
        return byte - 'a' + 26u;
    if (byte >= '0' && byte <= '9')
        return byte - '0' + 52u;
    return byte == '+' ? 62 : byte == '/' ? 63 : byte == '=' ? PAD : OUTSIDE;
}

/* Four letters that were read: three bytes, or fewer if there was padding. -1: too much of it. */
static int put_block(const unsigned block[4], char *out)
{
    unsigned pad = 0;
    uint32_t three = 0;
    for (unsigned i = 0; i < 4; i++) {
        pad += block[i] == PAD;
        three = three << 6 | (block[i] & 63u & -(unsigned)(block[i] != PAD));
    }
    out[0] = (char)(three >> 16);
    out[1] = (char)(three >> 8);
    out[2] = (char)three;
    return pad > 2 ? -1 : 3 - (int)pad;
}

/* All letters must come in fours, also behind the padding. */
size_t base64_decode(struct slice text, char *out)
{
    const uint8_t *in = text.data;
    unsigned block[4], count = 0;
    size_t at = 0;
    bool ended = false;
    for (size_t i = 0; i < text.size; i++) {
        unsigned value = value_of(in[i]);
        if (value == OUTSIDE)
            continue;
        block[count++] = value;
        if (count < 4)
            continue;
        count = 0;
        if (ended)
            continue;
        int bytes = put_block(block, out + at);
        if (bytes < 0)
            return 0;
        at += (size_t)bytes;
        ended = bytes < 3;
    }
    return count == 0 ? at : 0;
}
