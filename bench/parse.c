/* Nanoseconds that the parsers take for a request: one line for scripts.
 *
 *     parse ns/request: text-get 40.1 text-set 68.0 meta-get 70.2 ... binary-set 24.9
 *
 * Each stream holds requests with keys of 16 bytes and values of 100, fits into a connection's
 * buffer and is parsed again and again, values taken as a connection takes them; the best of
 * several runs counts. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/binary.h"
#include "proto/text.h"

enum {
    STREAM_SIZE = 16384,
    REQUEST_COUNT = 80,
    VALUE_SIZE = 100,
    RUN_COUNT = 7,
    RUN_NS = 60000000
};

struct stream {
    const char *name;
    char bytes[STREAM_SIZE];
    size_t size;
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now); /* others may be at work here */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void add(struct stream *stream, const void *bytes, size_t size)
{
    if (stream->size + size > STREAM_SIZE)
        abort();
    memcpy(stream->bytes + stream->size, bytes, size);
    stream->size += size;
}

static void add_line(struct stream *stream, const char *format, int number)
{
    char line[128];
    int size = snprintf(line, sizeof(line), format, number);
    add(stream, line, (size_t)size);
}

static void add_value(struct stream *stream)
{
    char value[VALUE_SIZE + 2];
    memset(value, 'v', VALUE_SIZE);
    memcpy(value + VALUE_SIZE, "\r\n", 2);
    add(stream, value, sizeof(value));
}

static void add_binary(struct stream *stream, uint8_t opcode, uint8_t extras_size,
                       uint8_t value_size, int number)
{
    uint8_t header[BINARY_HEADER_SIZE] = {BINARY_MAGIC_REQUEST, opcode, 0, 16, extras_size};
    static const uint8_t zeros[VALUE_SIZE];
    header[11] = (uint8_t)(extras_size + 16 + value_size);
    add(stream, header, sizeof(header));
    add(stream, zeros, extras_size);
    add_line(stream, "key-%012d", number);
    add(stream, zeros, value_size);
}

/* ---- parsing a whole stream; the number of requests, 0: the parser does not know them ---- */

static unsigned parse_text(const struct stream *stream)
{
    const struct text_limits limits = {.item_size_max = 1 << 20};
    struct text_parser parser;
    struct text_request request;
    size_t at = 0, consumed;
    unsigned count = 0;
    text_init(&parser);
    for (;;) {
        uint32_t left = text_value_left(&parser);
        if (left > 0) {
            text_value_taken(&parser, left);
            at += left;
            continue;
        }
        enum text_event event =
            text_parse(&parser, &limits, slice_make(stream->bytes + at, stream->size - at),
                       &consumed, &request);
        at += consumed;
        if (event == TEXT_MORE)
            return at == stream->size ? count : 0;
        if (event == TEXT_ERROR || event == TEXT_CLOSE)
            return 0;
        count += event != TEXT_KEYS_END && event != TEXT_VALUE_END;
    }
}

static unsigned parse_binary(const struct stream *stream)
{
    const struct binary_limits limits = {.item_size_max = 1 << 20};
    struct binary_parser parser;
    struct binary_request request;
    size_t at = 0, consumed;
    unsigned count = 0;
    binary_init(&parser);
    for (;;) {
        uint32_t left = binary_value_left(&parser);
        if (left > 0) {
            binary_value_taken(&parser, left);
            at += left;
            continue;
        }
        enum binary_event event =
            binary_parse(&parser, &limits, slice_make(stream->bytes + at, stream->size - at),
                         &consumed, &request);
        at += consumed;
        if (event == BINARY_MORE)
            return at == stream->size ? count : 0;
        if (event == BINARY_ERROR || event == BINARY_CLOSE)
            return 0;
        count += event != BINARY_VALUE_END;
    }
}

/* ---- measuring ---- */

static double measure_once(const struct stream *stream, unsigned (*parse)(const struct stream *))
{
    uint64_t began_ns = now_ns(), took_ns;
    uint64_t count = 0;
    do {
        for (int i = 0; i < 100; i++)
            count += parse(stream);
        took_ns = now_ns() - began_ns;
    } while (took_ns < RUN_NS);
    return (double)took_ns / (double)count;
}

static void measure(const struct stream *stream, unsigned (*parse)(const struct stream *))
{
    double best = 1e9;
    if (parse(stream) != REQUEST_COUNT) {
        printf(" %s -", stream->name); /* not spoken */
        return;
    }
    for (int i = 0; i < RUN_COUNT; i++) {
        double ns = measure_once(stream, parse);
        best = ns < best ? ns : best;
    }
    printf(" %s %.1f", stream->name, best);
}

static void measure_lines(const char *name, const char *format, bool with_value)
{
    static struct stream stream;
    stream = (struct stream){.name = name};
    for (int i = 0; i < REQUEST_COUNT; i++) {
        add_line(&stream, format, i);
        if (with_value)
            add_value(&stream);
    }
    measure(&stream, parse_text);
}

static void measure_binary(const char *name, uint8_t opcode, uint8_t extras_size,
                           uint8_t value_size)
{
    static struct stream stream;
    stream = (struct stream){.name = name};
    for (int i = 0; i < REQUEST_COUNT; i++)
        add_binary(&stream, opcode, extras_size, value_size, i);
    measure(&stream, parse_binary);
}

int main(void)
{
    printf("parse ns/request:");
    measure_lines("text-get", "get key-%012d\r\n", false);
    measure_lines("text-set", "set key-%012d 0 0 100\r\n", true);
    measure_lines("meta-get", "mg key-%012d v f c\r\n", false);
    measure_lines("meta-set", "ms key-%012d 100 T0 F0\r\n", true);
    measure_binary("binary-get", BINARY_GET, 0, 0);
    measure_binary("binary-set", BINARY_SET, 8, VALUE_SIZE);
    printf("\n");
    return 0;
}
