#include "bench/chooser.h"

#include <math.h>

void chooser_init(struct chooser *chooser, uint32_t count, double theta)
{
    *chooser = (struct chooser){.count = count, .theta = theta};
    if (theta == 0)
        return;
    for (uint32_t i = 1; i <= count; i++)
        chooser->zeta += 1 / pow(i, theta);
    chooser->second = 1 + pow(0.5, theta);
    chooser->alpha = 1 / (1 - theta);
    chooser->eta = (1 - pow(2.0 / count, 1 - theta)) / (1 - chooser->second / chooser->zeta);
}

static uint32_t rank(const struct chooser *chooser, double u)
{
    double uz = u * chooser->zeta;
    if (uz < 1)
        return 0;
    if (uz < chooser->second)
        return 1;
    double place = chooser->count * pow(chooser->eta * u - chooser->eta + 1, chooser->alpha);
    return place < chooser->count ? (uint32_t)place : chooser->count - 1;
}

uint32_t chooser_next(const struct chooser *chooser, struct prng *prng)
{
    if (chooser->theta == 0)
        return (uint32_t)prng_below(prng, chooser->count);
    uint64_t random = prng_next(prng) >> 11;
    struct prng spread = {.state = rank(chooser, (double)random / (double)(1ull << 53))};
    return (uint32_t)prng_below(&spread, chooser->count);
}
