/* Goal: no line of a meta command makes the parser read outside its input, assert, or say something
 * else when the bytes come in other pieces; and no answer to what it took grows too long, or breaks
 * the line with what a key holds. Method: as proto_text_fuzz.c, each line of the input behind a
 * meta command that the first bytes choose; then each accepted line by itself, answered with
 * results of every shape. */
#include "proto/base64.h"
#include "t/fuzz/text_pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PREFIX_SIZE = 3 };

static struct meta_result draw_result(struct prng *prng, const struct text_request *request)
{
    return (struct meta_result){
        .code = (enum meta_code)prng_below(prng, META_EX + 1),
        .key = request->key,
        .base64 = prng_chance(prng, 50),
        .created = prng_chance(prng, 50),
        .won = prng_chance(prng, 50),
        .taken = prng_chance(prng, 50),
        .stale = prng_chance(prng, 50),
        .fetched = prng_chance(prng, 50),
        .value_size = (uint32_t)prng_next(prng),
        .client_flags = (uint32_t)prng_next(prng),
        .cas = prng_next(prng),
        .now = (uint32_t)prng_next(prng),
        .access_at = (uint32_t)prng_next(prng),
        .exptime = (uint32_t)prng_next(prng),
        .new_exptime = text_expire_at(request->meta.exptime, 1000),
        .vivify_exptime = text_expire_at(request->meta.vivify_exptime, 1000),
    };
}

static void check_answer(const char *out, size_t size, bool may_be_hidden)
{
    if (size == 0) {
        assert(may_be_hidden);
        return;
    }
    assert(size >= 4 && size <= META_ANSWER_SIZE_MAX);
    assert(memcmp(out + size - 2, "\r\n", 2) == 0);
}

static void answer(struct prng *prng, const struct text_request *request)
{
    char out[META_ANSWER_SIZE_MAX];
    struct meta_result result = draw_result(prng, request);
    struct meta_debug debug = {.key = request->key,
                               .base64 = result.base64,
                               .now = result.now,
                               .exptime = result.exptime,
                               .cas = result.cas,
                               .size = UINT64_MAX};
    size_t size = meta_answer(out, request->command, &request->meta, &result);
    check_answer(out, size, meta_has(&request->meta, 'q'));
    assert(!result.base64 || size == 0 || memchr(out, '\n', size) == out + size - 1);
    check_answer(out, meta_debug_answer(out, &debug), false);
}

/* One line, as a request of its own. */
static void answer_line(struct slice line, const struct text_limits *limits, struct prng *prng)
{
    struct text_parser parser;
    struct text_request request;
    size_t consumed;
    text_init(&parser);
    enum text_event event = text_parse(&parser, limits, line, &consumed, &request);
    if ((event != TEXT_REQUEST && event != TEXT_VALUE) ||
        command_family(request.command) != FAMILY_META || request.command == COMMAND_MN)
        return;
    bool keyless = request.command == COMMAND_MP;
    assert((request.key.size > 0) == !keyless && request.key.size <= META_KEY_SIZE_MAX);
    assert(request.meta.flag_count <= META_WORDS_MAX - (keyless ? 1 : 2));
    assert(request.meta.opaque_size <= META_OPAQUE_SIZE_MAX);
    char text[META_KEY_SIZE_MAX * 2], back[META_KEY_SIZE_MAX * 2];
    size_t encoded = base64_encode(request.key, text);
    assert(encoded == base64_size(request.key.size));
    assert(
        slice_equal(slice_make(back, base64_decode(slice_make(text, encoded), back)), request.key));
    for (unsigned i = 0; i < 4; i++)
        answer(prng, &request);
}

/* Puts a meta command before each line that has none. */
static struct slice with_commands(struct slice bytes, struct prng *prng, char *out)
{
    static const char commands[][PREFIX_SIZE + 1] = {"mg ", "ms ", "md ", "ma ",
                                                     "me ", "mn ", "mp "};
    const char *in = bytes.data;
    size_t at = 0;
    bool begins = true;
    for (size_t i = 0; i < bytes.size; i++) {
        bool has_one = begins && bytes.size - i > 2 && in[i] == 'm' && in[i + 2] == ' ';
        if (begins && !has_one && prng_chance(prng, 70)) {
            memcpy(out + at, commands[prng_below(prng, sizeof(commands) / sizeof(commands[0]))],
                   PREFIX_SIZE);
            at += PREFIX_SIZE;
        }
        out[at++] = in[i];
        begins = in[i] == '\n';
    }
    return slice_make(out, at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct prng prng;
    if (size < CONTROL_SIZE)
        return 0;
    memcpy(&prng.state, data, CONTROL_SIZE);
    char *memory = malloc((PREFIX_SIZE + 1) * size);
    assert(memory != NULL);
    struct slice input =
        with_commands(slice_make(data + CONTROL_SIZE, size - CONTROL_SIZE), &prng, memory);
    struct text_limits limits = {.item_size_max = prng_chance(&prng, 50) ? 128 : 1 << 20};
    struct trace whole = trace_text(input, &limits, NULL, 0, NULL);
    compare_random_pieces(input, &limits, &whole, &prng);
    if (input.size <= BYTEWISE_MAX)
        compare_single_bytes(input, &limits, &whole);
    free(whole.text);
    const char *at = input.data, *end = at + input.size;
    for (const char *newline; at < end && (newline = memchr(at, '\n', (size_t)(end - at))) != NULL;
         at = newline + 1)
        answer_line(slice_make(at, (size_t)(newline + 1 - at)), &limits, &prng);
    free(memory);
    return 0;
}
