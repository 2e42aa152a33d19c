#include "base/hash.h"

/* The 128-bit multiply-and-fold family (as in wyhash and rapidhash): two lanes of eight bytes a
 * round. */
static const uint64_t secret[] = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb,
                                  0x2545f4914f6cdd1d};

static inline uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t load(const uint8_t *at, size_t size)
{
    uint64_t word = 0;
    memcpy(&word, at, size);
    return word;
}

uint64_t hash_key(struct slice key)
{
    const uint8_t *at = key.data;
    size_t left = key.size;
    uint64_t state = secret[0] ^ key.size;
    for (; left > 16; left -= 16, at += 16)
        state = fold(load(at, 8) ^ secret[1], load(at + 8, 8) ^ state);
    uint64_t low = left > 0 ? load(at, left < 8 ? left : 8) : 0;
    uint64_t high = left > 8 ? load(at + 8, left - 8) : 0;
    state = fold(low ^ secret[2], high ^ state);
    return fold(state ^ secret[3], secret[1] ^ key.size);
}
