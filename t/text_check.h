/* text_check.h: compares the trace of some input with what it must be, however the bytes come:
 * whole, cut in two at every byte, and byte by byte. For tests. */
#ifndef T_TEXT_CHECK_H
#define T_TEXT_CHECK_H

#include "t/test.h"
#include "t/text_trace.h"

static const struct text_limits limits = {.item_size_max = 1024 * 1024};
static const struct text_limits small_limits = {.item_size_max = 1024};

static inline bool trace_is(struct slice input, const struct text_limits *with, const size_t *cuts,
                            size_t cut_count, struct slice expected)
{
    struct trace trace = trace_text(input, with, cuts, cut_count, NULL);
    bool same = slice_equal(slice_make(trace.text, trace.size), expected);
    if (!same)
        test_fail(__FILE__, __LINE__,
                  "%.200s\n(%zu bytes, %zu cuts, first %zu) gives\n%.2000s\nexpected\n%.2000s",
                  (const char *)input.data, input.size, cut_count, cut_count > 0 ? cuts[0] : 0,
                  trace.text, (const char *)expected.data);
    free(trace.text);
    return same;
}

/* Whole, byte by byte, and cut in two at every place; of long inputs at some places. */
static inline void check(struct slice input, const struct text_limits *with, struct slice expected)
{
    size_t *cuts = calloc(input.size + 1, sizeof(*cuts));
    size_t stride = 1 + input.size / 3000;
    if (input.size > 10000)
        stride = input.size / 37;
    bool same = trace_is(input, with, NULL, 0, expected);
    for (size_t at = 1; same && at < input.size; at += stride)
        same = trace_is(input, with, &at, 1, expected);
    for (size_t i = 0; i < input.size; i++)
        cuts[i] = i + 1;
    if (same)
        trace_is(input, with, cuts, input.size, expected);
    free(cuts);
}

#define CHECK(input, expected)                                                                     \
    check(slice_make(input, sizeof(input) - 1), &limits, slice_make(expected, sizeof(expected) - 1))
#define CHECK_SMALL(input, expected)                                                               \
    check(slice_make(input, sizeof(input) - 1), &small_limits,                                     \
          slice_make(expected, sizeof(expected) - 1))

#define FORMAT "!CLIENT_ERROR bad command line format|"

#endif
