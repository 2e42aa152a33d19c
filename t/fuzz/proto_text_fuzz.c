/* Goal: no bytes make the text parser read outside its input, assert, wait for ever with a full
 * buffer, or say something else when the same bytes come in other pieces. Method: the trace
 * (t/text_trace.h) of the whole input against the trace of the same input cut at random, and byte
 * by byte. The first 8 bytes of the data choose limit and cuts. */
#include "t/fuzz/text_pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct prng prng;
    if (size < CONTROL_SIZE)
        return 0;
    memcpy(&prng.state, data, CONTROL_SIZE);
    struct slice input = slice_make(data + CONTROL_SIZE, size - CONTROL_SIZE);
    struct text_limits limits = {.item_size_max = prng_chance(&prng, 50) ? 128 : 1 << 20};
    struct trace whole = trace_text(input, &limits, NULL, 0, NULL);
    compare_random_pieces(input, &limits, &whole, &prng);
    compare_random_pieces(input, &limits, &whole, &prng);
    if (input.size <= BYTEWISE_MAX)
        compare_single_bytes(input, &limits, &whole);
    free(whole.text);
    return 0;
}
