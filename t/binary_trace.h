/* binary_trace.h: what the binary parser says about some bytes, as text to compare. For tests and
 * fuzzers.
 *
 *     GET:k|  SETQ:k f=1 e=2 s=3 c=4 o=5|abcDONE|     fields that are 0 are left out; s: the
 * value's size SET:k^|                                         the old value of a Set that is too
 * large goes !04|  !04X|                                     an error to answer; X: and close
 *     CLOSE| */
#ifndef T_BINARY_TRACE_H
#define T_BINARY_TRACE_H

#include "proto/binary.h"
#include "t/text_trace.h"

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

/* The buffer holds exactly what binary.h asks for. */
static inline void binary_trace_arrive(struct trace_input *input)
{
    size_t until = input->used + BINARY_INPUT_SIZE_MIN;
    until = until < input->size ? until : input->size;
    while (input->next_cut < input->cut_count && input->cuts[input->next_cut] <= input->arrived)
        input->next_cut++;
    if (input->next_cut < input->cut_count && input->cuts[input->next_cut] < until)
        until = input->cuts[input->next_cut];
    /* A parser that waits with a full buffer would wait for ever. */
    assert(until > input->arrived);
    input->arrived = until;
}

/* Parses from a copy with nothing around it, so that the address sanitizer sees every byte read
 * outside. */
static inline enum binary_event binary_trace_parse(struct binary_parser *parser,
                                                   const struct binary_limits *limits,
                                                   struct trace_input *input, struct trace *trace)
{
    struct binary_request request;
    size_t consumed, there = input->arrived - input->used;
    char *copy = malloc(there > 0 ? there : 1);
    assert(copy != NULL);
    memcpy(copy, input->bytes + input->used, there);
    enum binary_event event =
        binary_parse(parser, limits, slice_make(copy, there), &consumed, &request);
    assert(consumed <= there);
    input->used += consumed;
    binary_trace_event(trace, event, &request);
    /* A caller without memory for the value. */
    if (event == BINARY_VALUE && request.key.size >= 6 &&
        memcmp(request.key.data, "refuse", 6) == 0)
        binary_value_refuse(parser, BINARY_STATUS_NO_MEMORY);
    free(copy);
    return event;
}

static inline void binary_trace_take_value(struct trace *trace, struct binary_parser *parser,
                                           struct trace_input *input)
{
    size_t there = input->arrived - input->used;
    uint32_t left = binary_value_left(parser);
    uint32_t count = left < there ? left : (uint32_t)there;
    trace_bytes(trace, input->bytes + input->used, count);
    binary_value_taken(parser, count);
    input->used += count;
}

/* The trace of `bytes`, which come in pieces that end at `cuts`; free() its text. */
static inline struct trace binary_trace(struct slice bytes, const struct binary_limits *limits,
                                        const size_t *cuts, size_t cut_count, bool *between)
{
    struct trace trace = {0};
    struct binary_parser parser;
    struct trace_input input = {
        .bytes = bytes.data, .size = bytes.size, .cuts = cuts, .cut_count = cut_count};
    enum binary_event event = BINARY_MORE;
    trace_bytes(&trace, "", 0);
    binary_init(&parser);
    while (event != BINARY_CLOSE) {
        bool waits;
        if (binary_value_left(&parser) > 0) {
            binary_trace_take_value(&trace, &parser, &input);
            waits = binary_value_left(&parser) > 0;
        } else {
            event = binary_trace_parse(&parser, limits, &input, &trace);
            waits = event == BINARY_MORE;
        }
        if (waits && input.arrived == input.size)
            break;
        if (waits)
            binary_trace_arrive(&input);
    }
    if (between != NULL)
        *between =
            binary_between_requests(&parser, slice_make(input.bytes, input.size - input.used));
    return trace;
}

#endif
