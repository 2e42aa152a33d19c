/* text_trace.h: what the text parser says about some bytes, as text to compare. For tests and
 * fuzzers.
 *
 *     get:a|  gat:a@10|  END|            a key; a key with its exptime; the end of the keys
 *     set:a,1,2,3|abcSTORE|              flags, exptime, size; then the data block and its verdict
 *     incr:a+5|  touch:a@5|  delete:a~|  ~ is noreply
 *     delete:a~^|                        ^ is the first half of refusing a set that is too large
 *     !CLIENT_ERROR bad data chunk|      an error to answer
 *     CLOSE| */
#ifndef T_TEXT_TRACE_H
#define T_TEXT_TRACE_H

#include "proto/text.h"
#include "t/trace.h"

static inline void trace_reply(struct trace *trace, enum reply reply)
{
    struct slice line = reply_line(reply);
    trace_print(trace, "!%.*s|", (int)line.size - 2, (const char *)line.data);
}

static inline void trace_numbers(struct trace *trace, const struct text_request *request)
{
    switch (request->command) {
    case COMMAND_GAT:
    case COMMAND_GATS:
    case COMMAND_TOUCH:
    case COMMAND_FLUSH_ALL:
        trace_print(trace, "@%" PRId64, request->exptime);
        break;
    case COMMAND_INCR:
    case COMMAND_DECR:
        trace_print(trace, "+%" PRIu64, request->delta);
        break;
    case COMMAND_VERBOSITY:
        trace_print(trace, "=%" PRIu32, request->level);
        break;
    default:
        break;
    }
    if (command_family(request->command) == FAMILY_VALUE)
        trace_print(trace, ",%" PRIu32 ",%" PRId64 ",%" PRIu32, request->client_flags,
                    request->exptime, request->value_size);
    if (request->command == COMMAND_CAS)
        trace_print(trace, ",%" PRIu64, request->cas);
}

/* Flags in their order; numbers as they were read. */
static inline void trace_meta(struct trace *trace, const struct text_request *request)
{
    const struct meta *meta = &request->meta;
    if (request->command == COMMAND_MS)
        trace_print(trace, ",%" PRIu32, request->value_size);
    for (unsigned i = 0; i < meta->flag_count; i++) {
        char letter = meta->flags[i];
        assert(meta_has(meta, letter));
        trace_print(trace, " %c", letter);
        if (letter == 'O')
            trace_bytes(trace, meta->opaque + 1, meta->opaque_size - 1u);
        else if (letter == 'M')
            trace_print(trace, "%c", meta->mode);
        else if (letter == 'T' || letter == 'N' || letter == 'R')
            trace_print(trace, "%" PRId32,
                        letter == 'T'   ? meta->exptime
                        : letter == 'N' ? meta->vivify_exptime
                                        : meta->recache);
        else if (letter == 'F')
            trace_print(trace, "%" PRIu32, meta->client_flags);
        else if (strchr("CEJD", letter) != NULL)
            trace_print(trace, "%" PRIu64,
                        letter == 'C'   ? meta->compare
                        : letter == 'E' ? meta->cas
                        : letter == 'J' ? meta->initial
                                        : meta->delta);
    }
}

static inline void trace_request(struct trace *trace, const struct text_request *request)
{
    trace_print(trace, "%s", command_word(request->command));
    enum command_family family = command_family(request->command);
    if (family != FAMILY_PLAIN && family != FAMILY_ADMIN) {
        trace_bytes(trace, ":", 1);
        trace_bytes(trace, request->key.data, request->key.size);
    }
    trace_numbers(trace, request);
    if (command_family(request->command) == FAMILY_META && request->command != COMMAND_MN)
        trace_meta(trace, request);
    for (uint32_t i = 1; i < request->word_count; i++) {
        trace_bytes(trace, " ", 1);
        trace_bytes(trace, request->words[i].data, request->words[i].size);
    }
    trace_print(trace, "%s%s|", request->noreply ? "~" : "",
                request->replaced_by_too_large ? "^" : "");
}

static inline void trace_event(struct trace *trace, enum text_event event,
                               const struct text_request *request)
{
    switch (event) {
    case TEXT_MORE:
        break;
    case TEXT_REQUEST:
    case TEXT_KEY:
    case TEXT_VALUE:
        trace_request(trace, request);
        break;
    case TEXT_KEYS_END:
        trace_print(trace, "END|");
        break;
    case TEXT_VALUE_END:
        trace_print(trace, "STORE%s|", request->noreply ? "~" : "");
        break;
    case TEXT_VALUE_BAD:
        trace_print(trace, "DROP%s|", request->noreply ? "~" : "");
        if (!request->noreply)
            trace_reply(trace, request->reply);
        break;
    case TEXT_ERROR:
        trace_reply(trace, request->reply);
        break;
    case TEXT_CLOSE:
        trace_print(trace, "CLOSE|");
        break;
    }
}

static inline enum text_event text_trace_parse(struct text_parser *parser,
                                               const struct text_limits *limits,
                                               struct trace_input *input, struct trace *trace)
{
    struct text_request request;
    size_t consumed;
    struct slice buffer = trace_buffer(input);
    enum text_event event = text_parse(parser, limits, buffer, &consumed, &request);
    assert(consumed <= buffer.size);
    input->used += consumed;
    trace_event(trace, event, &request);
    if (event == TEXT_VALUE && trace_refuses(request.key))
        text_value_refuse(parser, REPLY_NO_MEMORY_STORING);
    free((void *)buffer.data);
    return event;
}

/* The trace of `bytes`, which come in pieces that end at `cuts`; free() its text. `between`, unless
 * NULL: whether the parser then stood between two commands. */
static inline struct trace trace_text(struct slice bytes, const struct text_limits *limits,
                                      const size_t *cuts, size_t cut_count, bool *between)
{
    struct trace trace = {0};
    struct text_parser parser;
    struct trace_input input = trace_input_of(bytes, cuts, cut_count);
    enum text_event event = TEXT_MORE;
    trace_bytes(&trace, "", 0);
    text_init(&parser);
    while (event != TEXT_CLOSE) {
        uint32_t left = text_value_left(&parser);
        bool waits;
        if (left > 0) {
            text_value_taken(&parser, trace_take_value(&trace, &input, left));
            waits = text_value_left(&parser) > 0;
        } else {
            event = text_trace_parse(&parser, limits, &input, &trace);
            waits = event == TEXT_MORE;
        }
        if (waits && trace_has_all(&input))
            break;
        if (waits)
            trace_arrive(&input, TEXT_INPUT_SIZE_MIN);
    }
    if (between != NULL)
        *between = text_between_commands(&parser, trace_rest(&input));
    return trace;
}

#endif
