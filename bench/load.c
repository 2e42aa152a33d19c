/* load.c: the load generator. Options: bench/load --help. */
#include "bench/load.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "bench/client.h"

enum { EVENTS_MAX = 256, COMPLAINTS_MAX = 10 };

static const char *const phase_names[] = {
    [PHASE_FILL] = "fill",
    [PHASE_MIXED] = "mixed",
    [PHASE_VERIFY] = "verify",
};

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

bool load_next(struct load *load, unsigned server, struct request *request)
{
    uint32_t *cursor = &load->cursors[load->phase == PHASE_VERIFY ? server : 0];
    *request = (struct request){.is_set = load->phase == PHASE_FILL};
    if (load->phase == PHASE_MIXED) {
        double dice = (double)(prng_next(&load->prng) >> 11) / (double)(1ull << 53);
        request->is_set = dice >= load->options.get_ratio;
        request->index = chooser_next(&load->chooser, &load->prng);
        return true;
    }
    if (*cursor == load->options.key_count)
        return false;
    request->index = (*cursor)++;
    return true;
}

void load_complain(struct load *load, enum tally_count what, const struct request *request,
                   unsigned server, uint64_t version)
{
    static const char *const words[TALLY_COUNT] = {
        [TALLY_WRONG] = "wrong", [TALLY_STALE] = "stale", [TALLY_LOST] = "lost"};
    if (load->complaints++ < COMPLAINTS_MAX)
        fprintf(stderr,
                "bench/load: %s: key %" PRIu32 " at %s: version %" PRIu64 ", at least %" PRIu64
                " was due\n",
                words[what], request->index + load->options.key_first,
                load->options.servers[server].name, version, request->floor);
}

/* True when nothing more will be sent and all answers are there. */
static bool is_through(const struct load *load, struct client **clients)
{
    unsigned cursors = load->phase == PHASE_VERIFY ? load->options.server_count : 1;
    if (load->issuing && load->phase == PHASE_MIXED)
        return false;
    for (unsigned i = 0; i < cursors && load->phase != PHASE_MIXED; i++)
        if (load->cursors[i] < load->options.key_count)
            return false;
    for (unsigned i = 0; i < load->options.connections; i++)
        if (client_waiting(clients[i]) > 0)
            return false;
    return true;
}

static void turn(struct load *load, struct client **clients, uint64_t until)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now = now_ns(), wake = until;
    for (unsigned i = 0; i < load->options.connections; i++) {
        uint64_t wanted = client_turn(clients[i], now);
        wake = wanted < wake ? wanted : wake;
    }
    uint64_t wait = wake > now ? wake - now : 0;
    struct timespec timeout = {.tv_sec = (time_t)(wait / 1000000000ull),
                               .tv_nsec = (long)(wait % 1000000000ull)};
    int count = epoll_pwait2(load->epoll, events, EVENTS_MAX, &timeout, NULL);
    for (int i = 0; i < count; i++)
        client_on_event(events[i].data.ptr, events[i].events);
}

/* Fill and verify do not wait for ever for a server that is gone. */
static bool is_stuck(const struct load *load, uint64_t now, uint64_t *done, uint64_t *since)
{
    uint64_t patience_ns = 4 * load->options.timeout_ms * 1000000ull;
    uint64_t seen = tally_done(&load->tally) + load->tally.counts[TALLY_ERROR];
    if (seen != *done) {
        *done = seen;
        *since = now;
    }
    if (load->phase == PHASE_MIXED || now - *since < patience_ns)
        return false;
    fprintf(stderr, "bench/load: gave up: no answer any more\n");
    return true;
}

static void run_phase(struct load *load, struct client **clients, enum phase phase)
{
    uint64_t start = now_ns(), second = 1000000000ull;
    bool mixed = phase == PHASE_MIXED;
    uint64_t bucket_ns = mixed && load->options.timeline ? load->options.bucket_ms * 1000000ull : 0;
    uint64_t measure = start + (mixed ? (uint64_t)(load->options.warm_up * 1e9) : 0);
    uint64_t end = mixed ? measure + (uint64_t)(load->options.seconds * 1e9) : UINT64_MAX;
    uint64_t done = 0, done_since = start;
    bool warm = measure == start;
    load->phase = phase;
    load->issuing = true;
    memset(load->cursors, 0, sizeof(load->cursors));
    tally_start(&load->tally, start, bucket_ns);
    for (unsigned i = 0; i < load->options.connections; i++)
        client_begin(clients[i], start);
    while (!is_through(load, clients) && !is_stuck(load, now_ns(), &done, &done_since)) {
        uint64_t now = now_ns();
        if (!warm && now >= measure) {
            tally_start(&load->tally, now, bucket_ns);
            warm = true;
        }
        if (load->issuing && now >= end) {
            tally_end(&load->tally, now);
            load->issuing = false;
        }
        uint64_t next = warm ? (load->issuing ? end : now + second) : measure;
        turn(load, clients, next < now + second ? next : now + second);
    }
    if (!mixed)
        tally_end(&load->tally, now_ns());
}

static bool report(struct load *load)
{
    const char *path = load->options.timeline;
    tally_print(&load->tally, phase_names[load->phase], &load->options);
    if (load->phase != PHASE_MIXED || path == NULL)
        return true;
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        perror(path);
        return false;
    }
    tally_write_timeline(&load->tally, file);
    return fclose(file) == 0;
}

static uint64_t requests_planned(const struct load *load)
{
    unsigned servers = load->phase == PHASE_VERIFY ? load->options.server_count : 1;
    return (uint64_t)load->options.key_count * servers;
}

/* Returns the exit code. */
static int run(struct load *load, struct client **clients)
{
    const bool wanted[] = {[PHASE_FILL] = load->options.fill,
                           [PHASE_MIXED] = load->options.seconds > 0,
                           [PHASE_VERIFY] = load->options.verify};
    uint64_t done = 0;
    bool bad = false;
    for (enum phase phase = PHASE_FILL; phase <= PHASE_VERIFY; phase++) {
        if (!wanted[phase])
            continue;
        run_phase(load, clients, phase);
        bad |= !report(load);
        bad |= tally_bad(&load->tally);
        bad |= load->phase != PHASE_MIXED && tally_done(&load->tally) < requests_planned(load);
        done += tally_done(&load->tally);
    }
    return bad ? 1 : done == 0 ? 3 : 0;
}

static void free_clients(struct client **clients, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        client_free(clients[i]);
    free(clients);
}

static struct client **make_clients(struct load *load)
{
    unsigned count = load->options.connections;
    struct client **clients = calloc(count, sizeof(*clients));
    if (clients == NULL)
        return NULL;
    for (unsigned i = 0; i < count; i++) {
        clients[i] = client_new(load, i % load->options.server_count, i, count);
        if (clients[i] == NULL) {
            free_clients(clients, count);
            return NULL;
        }
    }
    return clients;
}

int main(int count, char **arguments)
{
    struct load *load = calloc(1, sizeof(*load));
    if (load == NULL)
        return 2;
    options_parse(&load->options, count, arguments);
    load->prng.state = load->options.seed;
    struct prng identity = {.state = now_ns() ^ (uint64_t)getpid() << 40};
    load->writer = (uint32_t)prng_next(&identity);
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    chooser_init(&load->chooser, load->options.key_count, load->options.theta);
    struct client **clients = make_clients(load);
    int code = 2;
    if (load->epoll >= 0 && clients != NULL && keys_init(&load->keys, load->options.key_count)) {
        code = run(load, clients);
        free_clients(clients, load->options.connections);
        keys_free(&load->keys);
        tally_free(&load->tally);
    }
    free(load);
    return code;
}
