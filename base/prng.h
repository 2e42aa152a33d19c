/* prng.h: a small seeded generator (SplitMix64): same seed, same numbers, everywhere. Not for
 * secrets. */
#ifndef BASE_PRNG_H
#define BASE_PRNG_H

#include <stdint.h>

struct prng {
    uint64_t state;
};

static inline uint64_t prng_next(struct prng *prng)
{
    uint64_t z = prng->state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* A number in [0, bound); `bound` > 0. */
static inline uint64_t prng_below(struct prng *prng, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)prng_next(prng) * bound) >> 64);
}

/* True `percent` times in a hundred. */
static inline int prng_chance(struct prng *prng, unsigned percent)
{
    return prng_below(prng, 100) < percent;
}

#endif
