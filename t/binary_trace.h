/* binary_trace.h: what the binary parser says about some bytes, as text to compare. For tests and
 * fuzzers.
 *
 *     GET:k|  SETQ:k f=1 e=2 s=3 c=4 o=5|abcDONE|   fields that are 0 are left out; s: the value's
 *                                                   size
 *     SET:k^|                                       the old value of a Set that is too large goes
 *     !04|  !04X|                                   an error to answer; X: and close
 *     CLOSE| */
#ifndef T_BINARY_TRACE_H
#define T_BINARY_TRACE_H

#include "proto/binary.h"
#include "t/trace.h"

static inline const char *binary_trace_name(uint8_t opcode)
{
    switch (opcode) {
#define OPCODE(number, name, base, loud, with_key, extras, extras_or, key, value, open)            \
    case number:                                                                                   \
        return #name;
#include "proto/binary_opcode.def"
#undef OPCODE
    }
    return "?";
}

static inline void binary_trace_field(struct trace *trace, const char *name, uint64_t value)
{
    if (value != 0)
        trace_print(trace, " %s=%" PRIu64, name, value);
}

static inline void binary_trace_request(struct trace *trace, const struct binary_request *request)
{
    uint32_t opaque;
    memcpy(&opaque, &request->tag.opaque, sizeof(opaque));
    trace_print(trace, "%s", binary_trace_name(request->tag.opcode));
    if (request->key.size > 0) {
        trace_bytes(trace, ":", 1);
        trace_bytes(trace, request->key.data, request->key.size);
    }
    binary_trace_field(trace, "f", request->client_flags);
    binary_trace_field(trace, "e", request->exptime);
    binary_trace_field(trace, "d", request->delta);
    binary_trace_field(trace, "i", request->initial);
    binary_trace_field(trace, "s", request->value_size);
    binary_trace_field(trace, "c", request->cas);
    binary_trace_field(trace, "o", opaque);
    trace_print(trace, "%s|", request->replaced_by_too_large ? "^" : "");
}

static inline void binary_trace_event(struct trace *trace, enum binary_event event,
                                      const struct binary_request *request)
{
    switch (event) {
    case BINARY_MORE:
        break;
    case BINARY_REQUEST:
    case BINARY_VALUE:
        binary_trace_request(trace, request);
        break;
    case BINARY_VALUE_END:
        trace_print(trace, "DONE|");
        break;
    case BINARY_ERROR:
        trace_print(trace, "!%02x%s|", binary_status_number(request->status),
                    request->closes ? "X" : "");
        break;
    case BINARY_CLOSE:
        trace_print(trace, "CLOSE|");
        break;
    }
}

static inline enum binary_event binary_trace_parse(struct binary_parser *parser,
                                                   const struct binary_limits *limits,
                                                   struct trace_input *input, struct trace *trace)
{
    struct binary_request request;
    size_t consumed;
    struct slice buffer = trace_buffer(input);
    enum binary_event event = binary_parse(parser, limits, buffer, &consumed, &request);
    assert(consumed <= buffer.size);
    input->used += consumed;
    binary_trace_event(trace, event, &request);
    if (event == BINARY_VALUE && trace_refuses(request.key))
        binary_value_refuse(parser, BINARY_STATUS_NO_MEMORY);
    free((void *)buffer.data);
    return event;
}

/* The trace of `bytes`, which come in pieces that end at `cuts`; free() its text. */
static inline struct trace binary_trace(struct slice bytes, const struct binary_limits *limits,
                                        const size_t *cuts, size_t cut_count, bool *between)
{
    struct trace trace = {0};
    struct binary_parser parser;
    struct trace_input input = trace_input_of(bytes, cuts, cut_count);
    enum binary_event event = BINARY_MORE;
    trace_bytes(&trace, "", 0);
    binary_init(&parser);
    while (event != BINARY_CLOSE) {
        uint32_t left = binary_value_left(&parser);
        bool waits;
        if (left > 0) {
            binary_value_taken(&parser, trace_take_value(&trace, &input, left));
            waits = binary_value_left(&parser) > 0;
        } else {
            event = binary_trace_parse(&parser, limits, &input, &trace);
            waits = event == BINARY_MORE;
        }
        if (waits && trace_has_all(&input))
            break;
        if (waits)
            trace_arrive(&input, BINARY_INPUT_SIZE_MIN);
    }
    if (between != NULL)
        *between = binary_between_requests(&parser, trace_rest(&input));
    return trace;
}

#endif
