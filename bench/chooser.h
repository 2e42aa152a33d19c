/* chooser.h: which key comes next: all alike, or as Zipf has it (Gray et al. 1994, as YCSB does
 * it). */
#ifndef BENCH_CHOOSER_H
#define BENCH_CHOOSER_H

#include <stdint.h>

#include "base/prng.h"

struct chooser {
    uint32_t count;
    double theta; /* 0: all alike; below 1 */
    double zeta, alpha, eta, second;
};

/* Takes time in proportion to `count` when theta is not 0. */
void chooser_init(struct chooser *chooser, uint32_t count, double theta);

/* In [0, count). The popular keys are spread over the range. */
uint32_t chooser_next(const struct chooser *chooser, struct prng *prng);

#endif
