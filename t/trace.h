/* trace.h: what a parser says about some bytes, as text to compare; and how the bytes reach it. For
 * tests and fuzzers (text_trace.h, binary_trace.h). */
#ifndef T_TRACE_H
#define T_TRACE_H

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/slice.h"

struct trace {
    char *text;
    size_t size, room;
};

static inline void trace_bytes(struct trace *trace, const void *data, size_t size)
{
    if (trace->size + size + 1 > trace->room) {
        trace->room = 2 * (trace->size + size + 1);
        trace->text = realloc(trace->text, trace->room);
        assert(trace->text != NULL);
    }
    if (size > 0)
        memcpy(trace->text + trace->size, data, size);
    trace->size += size;
    trace->text[trace->size] = '\0';
}

__attribute__((format(printf, 2, 3))) static inline void trace_print(struct trace *trace,
                                                                     const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    assert(size >= 0 && (size_t)size < sizeof(line));
    trace_bytes(trace, line, (size_t)size);
}

/* A connection: bytes [used, arrived) of `bytes` are in its buffer. */
struct trace_input {
    const char *bytes;
    size_t size, used, arrived;
    const size_t *cuts; /* ascending positions at which a piece ends; the rest is one piece */
    size_t cut_count, next_cut;
};

static inline struct trace_input trace_input_of(struct slice bytes, const size_t *cuts,
                                                size_t cut_count)
{
    return (struct trace_input){
        .bytes = bytes.data, .size = bytes.size, .cuts = cuts, .cut_count = cut_count};
}

static inline bool trace_has_all(const struct trace_input *input)
{
    return input->arrived == input->size;
}

static inline struct slice trace_rest(const struct trace_input *input)
{
    return slice_make(input->bytes, input->size - input->used);
}

/* The next piece, into a buffer of `room` bytes. */
static inline void trace_arrive(struct trace_input *input, size_t room)
{
    size_t until = input->used + room;
    until = until < input->size ? until : input->size;
    while (input->next_cut < input->cut_count && input->cuts[input->next_cut] <= input->arrived)
        input->next_cut++;
    if (input->next_cut < input->cut_count && input->cuts[input->next_cut] < until)
        until = input->cuts[input->next_cut];
    /* A parser that waits with a full buffer would wait for ever. */
    assert(until > input->arrived);
    input->arrived = until;
}

/* What of a value of `left` more bytes is there; the caller tells the parser how much that was. */
static inline uint32_t trace_take_value(struct trace *trace, struct trace_input *input,
                                        uint32_t left)
{
    size_t there = input->arrived - input->used;
    uint32_t count = left < there ? left : (uint32_t)there;
    trace_bytes(trace, input->bytes + input->used, count);
    input->used += count;
    return count;
}

/* The buffer as a copy with nothing around it, so that the address sanitizer sees every byte read
 * outside; free() its data. */
static inline struct slice trace_buffer(const struct trace_input *input)
{
    size_t there = input->arrived - input->used;
    char *copy = malloc(there > 0 ? there : 1);
    assert(copy != NULL);
    memcpy(copy, input->bytes + input->used, there);
    return slice_make(copy, there);
}

/* The caller plays one without memory for values of such keys. */
static inline bool trace_refuses(struct slice key)
{
    return key.size >= 6 && memcmp(key.data, "refuse", 6) == 0;
}

#endif
