/* replay: uses caches as applications do, and counts: get, and on a miss set. Several caches are
 * given the same trace at the same time. Figures are of the second half of the trace, when the
 * caches are full. For bench/hits.
 *
 * Gets of a batch go out as one command, the sets of what was missing behind it. */
#include <arpa/inet.h>
#include <assert.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/trace.h"

enum {
    TARGETS_MAX = 4,
    PORTS_MAX = 8,
    BATCH = 64,
    KEY_SIZE = 32,
    VALUE_MAX = 4096,
    BUFFER_SIZE = 1 << 19,
};

struct line {
    int socket;
    uint64_t keys[BATCH];
    unsigned count;
    size_t size;
    char buffer[BUFFER_SIZE];
};

/* One cache: a node, or several with the same data. */
struct target {
    unsigned port_count;
    struct line *lines[PORTS_MAX];
    uint64_t hits, asked;
};

struct replay {
    struct trace trace;
    uint64_t request_count;
    unsigned value_size;
    bool in_turn; /* nodes of a cache are asked in turn; else a key is always asked of the same */
    unsigned target_count;
    struct target targets[TARGETS_MAX];
    char value[VALUE_MAX];
};

__attribute__((noreturn)) static void stop(const char *why, const char *what)
{
    fprintf(stderr, "bench/replay: %s %s\n", why, what);
    exit(1);
}

static void send_all(struct line *line)
{
    for (size_t sent = 0; sent < line->size;) {
        ssize_t size = send(line->socket, line->buffer + sent, line->size - sent, 0);
        if (size <= 0)
            stop("cannot send", "");
        sent += (size_t)size;
    }
    line->size = 0;
}

static void receive_some(struct line *line)
{
    ssize_t size = recv(line->socket, line->buffer + line->size, BUFFER_SIZE - line->size, 0);
    if (size <= 0)
        stop("the connection broke", "");
    line->size += (size_t)size;
}

/* The line that begins at `at`, and where the next one begins. */
static const char *receive_line(struct line *line, size_t *at)
{
    for (;;) {
        char *begin = line->buffer + *at;
        char *end = memchr(begin, '\n', line->size - *at);
        if (end != NULL) {
            *at += (size_t)(end - begin) + 1;
            end[-1] = 0;
            return begin;
        }
        receive_some(line);
    }
}

static void ask(struct line *line)
{
    char *at = line->buffer;
    if (line->count == 0)
        return;
    at += sprintf(at, "get");
    for (unsigned i = 0; i < line->count; i++)
        at += sprintf(at, " %0*llu", KEY_SIZE, (unsigned long long)line->keys[i]);
    at += sprintf(at, "\r\n");
    line->size = (size_t)(at - line->buffer);
    send_all(line);
}

/* Reads the answer; marks what was there. */
static unsigned take_answer(const struct replay *replay, struct line *line, bool found[BATCH])
{
    size_t at = 0;
    unsigned hits = 0, next = 0;
    memset(found, 0, BATCH * sizeof(found[0]));
    for (;;) {
        const char *text = receive_line(line, &at);
        if (strcmp(text, "END") == 0)
            break;
        if (strncmp(text, "VALUE ", 6) != 0)
            stop("unexpected answer:", text);
        uint64_t key = strtoull(text + 6, NULL, 10);
        while (next < line->count && line->keys[next] != key)
            next++;
        if (next == line->count)
            stop("a value that was not asked for:", text);
        found[next++] = true;
        hits++;
        while (line->size < at + replay->value_size + 2)
            receive_some(line);
        at += replay->value_size + 2;
    }
    line->size = 0;
    return hits;
}

static void store_missing(const struct replay *replay, struct line *line, const bool found[BATCH])
{
    char *at = line->buffer;
    for (unsigned i = 0; i < line->count; i++)
        if (!found[i])
            at += sprintf(at, "set %0*llu 0 0 %u noreply\r\n%.*s\r\n", KEY_SIZE,
                          (unsigned long long)line->keys[i], replay->value_size,
                          (int)replay->value_size, replay->value);
    line->size = (size_t)(at - line->buffer);
    send_all(line);
    line->count = 0;
}

static void run_batch(struct replay *replay, bool counts)
{
    uint64_t keys[BATCH];
    bool found[BATCH];
    for (unsigned i = 0; i < BATCH; i++)
        keys[i] = trace_next(&replay->trace);
    for (unsigned t = 0; t < replay->target_count; t++) {
        struct target *target = &replay->targets[t];
        for (unsigned i = 0; i < BATCH; i++) {
            uint64_t by = replay->in_turn ? i : (keys[i] * 0x9e3779b97f4a7c15) >> 40;
            struct line *line = target->lines[by % target->port_count];
            line->keys[line->count++] = keys[i];
        }
        for (unsigned p = 0; p < target->port_count; p++)
            ask(target->lines[p]);
    }
    for (unsigned t = 0; t < replay->target_count; t++) {
        struct target *target = &replay->targets[t];
        for (unsigned p = 0; p < target->port_count; p++) {
            struct line *line = target->lines[p];
            if (line->count == 0)
                continue;
            unsigned asked = line->count, hits = take_answer(replay, line, found);
            target->hits += counts ? hits : 0;
            target->asked += counts ? asked : 0;
            store_missing(replay, line, found);
        }
    }
}

static struct line *connect_line(const char *port)
{
    struct line *line = calloc(1, sizeof(*line));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int one = 1;
    assert(line != NULL);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    line->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(line->socket, (struct sockaddr *)&address, sizeof(address)) != 0)
        stop("cannot connect to port", port);
    setsockopt(line->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return line;
}

static void add_target(struct replay *replay, char *ports)
{
    struct target *target = &replay->targets[replay->target_count++];
    if (replay->target_count > TARGETS_MAX)
        stop("too many caches", "");
    for (char *port = strtok(ports, "+"); port != NULL; port = strtok(NULL, "+")) {
        if (target->port_count == PORTS_MAX)
            stop("too many nodes", "");
        target->lines[target->port_count++] = connect_line(port);
    }
}

/* NAME=VALUE of the arguments that do not name a cache. */
static void take_argument(struct replay *replay, const char *argument)
{
    const char *text = strchr(argument, '=');
    double value = text != NULL ? atof(text + 1) : 1;
    static const char *const names[] = {"--zipf=", "--keys=", "--requests=", "--value-size=",
                                        "--once=", "--scan=", "--scan-gap=", "--in-turn"};
    unsigned i = 0;
    while (i < sizeof(names) / sizeof(names[0]) &&
           strncmp(argument, names[i], strlen(names[i])) != 0)
        i++;
    switch (i) {
    case 0:
        replay->trace.exponent = value;
        break;
    case 1:
        replay->trace.key_count = (uint64_t)value;
        break;
    case 2:
        replay->request_count = (uint64_t)value;
        break;
    case 3:
        replay->value_size = value < VALUE_MAX ? (unsigned)value : VALUE_MAX;
        break;
    case 4:
        replay->trace.once_percent = (unsigned)value;
        break;
    case 5:
        replay->trace.scan_length = (uint32_t)value;
        break;
    case 6:
        replay->trace.scan_gap = (uint32_t)value;
        break;
    case 7:
        replay->in_turn = true;
        break;
    default:
        stop("unknown argument", argument);
    }
}

int main(int count, char **arguments)
{
    static struct replay replay = {.trace = {.key_count = 1000000, .exponent = 1},
                                   .request_count = 1000000,
                                   .value_size = 100};
    memset(replay.value, 'v', sizeof(replay.value));
    for (int i = 1; i < count; i++) {
        if (arguments[i][0] == '-')
            take_argument(&replay, arguments[i]);
        else
            add_target(&replay, arguments[i]);
    }
    if (replay.target_count == 0)
        stop("usage: replay [--zipf=S] [--keys=N] [--requests=N] [--value-size=N] [--once=PERCENT] "
             "[--scan=N",
             "--scan-gap=N] [--in-turn] PORT[+PORT]... for each cache");
    trace_init(&replay.trace, 1);
    for (uint64_t done = 0; done < replay.request_count; done += BATCH)
        run_batch(&replay, done >= replay.request_count / 2);
    for (unsigned i = 0; i < replay.target_count; i++)
        printf("%llu %llu\n", (unsigned long long)replay.targets[i].hits,
               (unsigned long long)replay.targets[i].asked);
    return 0;
}
