#include "base/decimal.h"

#include <stdbool.h>

size_t decimal_format(uint64_t number, char out[DECIMAL_SIZE_MAX])
{
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
        "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
        "8081828384858687888990919293949596979899";
    char digits[DECIMAL_SIZE_MAX];
    size_t at = sizeof(digits);
    while (number >= 10) {
        at -= 2;
        memcpy(digits + at, pairs + number % 100 * 2, 2);
        number /= 100;
    }
    /* An even count of digits leaves 0 here; only the number 0 itself is that digit. */
    if (number != 0 || at == sizeof(digits))
        digits[--at] = (char)('0' + number);
    memcpy(out, digits + at, sizeof(digits) - at);
    return sizeof(digits) - at;
}

/* isspace() of the C locale, whatever the locale of the process is. */
static bool is_space(char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

enum status decimal_parse_stored(struct slice value, uint64_t *number)
{
    const char *text = value.data;
    size_t at = 0;
    while (at < value.size && is_space(text[at]))
        at++;
    bool negative = at < value.size && text[at] == '-';
    if (at < value.size && (text[at] == '+' || text[at] == '-'))
        at++;
    size_t first = at;
    while (at < value.size && text[at] >= '0' && text[at] <= '9')
        at++;
    if (at < value.size && text[at] != '\0' && !is_space(text[at]))
        return STATUS_INVALID;
    uint64_t result;
    if (at == first || !slice_to_u64(slice_make(text + first, at - first), &result))
        return STATUS_INVALID;
    /* strtoull, and so memcached, takes -0. */
    if (negative && result != 0)
        return STATUS_INVALID;
    *number = result;
    return STATUS_OK;
}

size_t decimal_format_stored(uint64_t number, char *out, size_t old_size)
{
    size_t size = decimal_format(number, out);
    if (size >= old_size)
        return size;
    memset(out + size, ' ', old_size - size);
    return old_size;
}
