/* Zipf by rejection-inversion (Hörmann and Derflinger 1996): no table, constant time, any exponent.
 */
#include "bench/trace.h"

#include <math.h>

static double uniform(struct prng *prng)
{
    return (double)(prng_next(prng) >> 11) * 0x1p-53;
}

/* The integral of x^-exponent, and its inverse. */
static double integral(const struct trace *trace, double x)
{
    double left = 1 - trace->exponent;
    return left == 0 ? log(x) : (pow(x, left) - 1) / left;
}

static double inverse(const struct trace *trace, double y)
{
    double left = 1 - trace->exponent;
    return left == 0 ? exp(y) : pow(1 + y * left, 1 / left);
}

void trace_init(struct trace *trace, uint64_t seed)
{
    trace->prng.state = seed;
    trace->next_once = trace->key_count;
    trace->position = 0;
    trace->low = integral(trace, 1.5) - 1;
    trace->high = integral(trace, (double)trace->key_count + 0.5);
}

static uint64_t zipf(struct trace *trace)
{
    for (;;) {
        double y = trace->low + uniform(&trace->prng) * (trace->high - trace->low);
        double rank = floor(inverse(trace, y) + 0.5);
        if (rank < 1)
            rank = 1;
        if (rank > (double)trace->key_count)
            rank = (double)trace->key_count;
        if (y >= integral(trace, rank + 0.5) - pow(rank, -trace->exponent))
            return (uint64_t)rank - 1;
    }
}

uint64_t trace_next(struct trace *trace)
{
    if (trace->scan_gap != 0) {
        trace->position = (trace->position + 1) % (trace->scan_gap + trace->scan_length);
        if (trace->position >= trace->scan_gap)
            return trace->next_once++;
    }
    if (trace->once_percent != 0 && prng_chance(&trace->prng, trace->once_percent))
        return trace->next_once++;
    return zipf(trace);
}
