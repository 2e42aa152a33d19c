#include "proto/uri.h"

static bool is_plain(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' || byte == '_' || byte == '~';
}

size_t uri_encode(char *out, struct slice text)
{
    static const char digits[] = "0123456789ABCDEF";
    const uint8_t *bytes = text.data;
    char *at = out;
    for (size_t i = 0; i < text.size; i++) {
        if (is_plain(bytes[i])) {
            *at++ = (char)bytes[i];
            continue;
        }
        *at++ = '%';
        *at++ = digits[bytes[i] >> 4];
        *at++ = digits[bytes[i] & 15];
    }
    return (size_t)(at - out);
}
