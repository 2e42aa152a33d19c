/* Goal: no bytes make the binary parser read outside its input, assert, wait for ever with a full
 * buffer, or say something else when the same bytes come in other pieces. Method: as
 * proto_text_fuzz.c, with t/binary_trace.h. The first 8 bytes of the data choose limits and cuts.
 */
#include "base/prng.h"
#include "t/binary_trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONTROL_SIZE = 8, CUTS_MAX = 16, BYTEWISE_MAX = 1024 };

static void compare(struct slice input, const struct binary_limits *limits,
                    const struct trace *whole, const size_t *cuts, size_t cut_count)
{
    struct trace pieces = binary_trace(input, limits, cuts, cut_count, NULL);
    assert(slice_equal(slice_make(pieces.text, pieces.size), slice_make(whole->text, whole->size)));
    free(pieces.text);
}

static void compare_random_pieces(struct slice input, const struct binary_limits *limits,
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

static void compare_single_bytes(struct slice input, const struct binary_limits *limits,
                                 const struct trace *whole)
{
    size_t cuts[BYTEWISE_MAX];
    for (size_t i = 0; i < input.size; i++)
        cuts[i] = i + 1;
    compare(input, limits, whole, cuts, input.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct prng prng;
    if (size < CONTROL_SIZE)
        return 0;
    memcpy(&prng.state, data, CONTROL_SIZE);
    struct slice input = slice_make(data + CONTROL_SIZE, size - CONTROL_SIZE);
    struct binary_limits limits = {.item_size_max = prng_chance(&prng, 50) ? 128 : 1 << 20,
                                   .sasl = prng_chance(&prng, 50)};
    limits.locked = limits.sasl && prng_chance(&prng, 50);
    struct trace whole = binary_trace(input, &limits, NULL, 0, NULL);
    compare_random_pieces(input, &limits, &whole, &prng);
    compare_random_pieces(input, &limits, &whole, &prng);
    if (input.size <= BYTEWISE_MAX)
        compare_single_bytes(input, &limits, &whole);
    free(whole.text);
    return 0;
}
