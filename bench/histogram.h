/* histogram.h: counts of durations in classes that are at most 1/64 wide of their value. One
 * thread. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_FINE_BITS = 6,
    HISTOGRAM_FINE = 1 << HISTOGRAM_FINE_BITS,
    HISTOGRAM_CLASSES = (64 - HISTOGRAM_FINE_BITS + 1) * HISTOGRAM_FINE,
};

struct histogram {
    uint64_t counts[HISTOGRAM_CLASSES];
    uint64_t count;
    uint64_t max_ns;
};

static inline unsigned histogram_class(uint64_t ns)
{
    if (ns < HISTOGRAM_FINE)
        return (unsigned)ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - HISTOGRAM_FINE_BITS;
    return (shift + 1) * HISTOGRAM_FINE + (unsigned)((ns >> shift) - HISTOGRAM_FINE);
}

/* The largest duration that falls into the class. */
static inline uint64_t histogram_class_end(unsigned class)
{
    if (class < HISTOGRAM_FINE)
        return class;
    unsigned shift = class / HISTOGRAM_FINE - 1;
    return ((uint64_t)(class % HISTOGRAM_FINE + HISTOGRAM_FINE + 1) << shift) - 1;
}

static inline void histogram_add(struct histogram *histogram, uint64_t ns)
{
    histogram->counts[histogram_class(ns)]++;
    histogram->count++;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

/* The duration that `fraction` of all do not exceed; 0 when there is none. */
static inline uint64_t histogram_quantile(const struct histogram *histogram, double fraction)
{
    uint64_t wanted = (uint64_t)(fraction * (double)histogram->count), seen = 0;
    for (unsigned class = 0; class < HISTOGRAM_CLASSES; class ++) {
        seen += histogram->counts[class];
        if (seen > wanted) {
            uint64_t end = histogram_class_end(class);
            return end < histogram->max_ns ? end : histogram->max_ns;
        }
    }
    return histogram->max_ns;
}

#endif
