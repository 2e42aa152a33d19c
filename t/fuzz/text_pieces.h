/* text_pieces.h: the trace of some text (t/text_trace.h) must be the same however it is cut. For
 * fuzzers. */
#ifndef T_FUZZ_TEXT_PIECES_H
#define T_FUZZ_TEXT_PIECES_H

#include "base/prng.h"
#include "t/text_trace.h"

enum { CONTROL_SIZE = 8, CUTS_MAX = 16, BYTEWISE_MAX = 1024 };

static inline void compare(struct slice input, const struct text_limits *limits,
                           const struct trace *whole, const size_t *cuts, size_t cut_count)
{
    struct trace pieces = trace_text(input, limits, cuts, cut_count, NULL);
    assert(slice_equal(slice_make(pieces.text, pieces.size), slice_make(whole->text, whole->size)));
    free(pieces.text);
}

static inline void compare_random_pieces(struct slice input, const struct text_limits *limits,
                                         const struct trace *whole, struct prng *prng)
{
    size_t cuts[CUTS_MAX], at = 0, count = 0;
    size_t step_max = 1 + prng_below(prng, input.size + 1);
    while (count < CUTS_MAX && at < input.size) {
        at += 1 + prng_below(prng, step_max);
        cuts[count++] = at < input.size ? at : input.size;
    }
    compare(input, limits, whole, cuts, count);
}

static inline void compare_single_bytes(struct slice input, const struct text_limits *limits,
                                        const struct trace *whole)
{
    size_t cuts[BYTEWISE_MAX];
    for (size_t i = 0; i < input.size; i++)
        cuts[i] = i + 1;
    compare(input, limits, whole, cuts, input.size);
}

#endif
