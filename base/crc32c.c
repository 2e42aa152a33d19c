#include "base/crc32c.h"

#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

/* Reflected polynomial 0x1EDC6F41, one nibble at a time: small, and only a fallback. */
static uint32_t crc_portable(uint32_t crc, const uint8_t *at, size_t size)
{
    static const uint32_t nibble[16] = {0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1,
                                        0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
                                        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
                                        0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75};
    for (; size > 0; size--, at++) {
        crc = (crc >> 4) ^ nibble[(crc ^ *at) & 0xf];
        crc = (crc >> 4) ^ nibble[(crc ^ (*at >> 4)) & 0xf];
    }
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_hardware(uint32_t crc, const uint8_t *at,
                                                               size_t size)
{
    uint64_t state = crc;
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        state = _mm_crc32_u64(state, word);
    }
    for (; size > 0; size--, at++)
        state = _mm_crc32_u8((uint32_t)state, *at);
    return (uint32_t)state;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return ~crc_hardware(~crc, data, size);
#endif
    return ~crc_portable(~crc, data, size);
}
