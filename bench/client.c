#include "bench/client.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/decimal.h"
#include "base/hash.h"
#include "bench/value.h"

enum { RETRY_MS = 20, PAUSE_MS = 10, ROOM = 65536, KEY_SIZE_MAX = 250 };

enum client_state {
    CLIENT_DOWN,
    CLIENT_CONNECTING,
    CLIENT_UP,
};

struct buffer {
    char *data;
    size_t begin, end, size;
};

struct client {
    struct load *load;
    unsigned server;
    int fd;
    enum client_state state;
    uint64_t wait_ns;  /* nothing is tried before */
    uint64_t due_ns;   /* --rate: the next request */
    uint64_t every_ns; /* 0: as fast as the answers come */
    double offset;     /* of the schedule, as a share of every_ns */
    struct request *requests;
    unsigned first, count;
    unsigned unpersisted; /* sets since the last persist */
    struct buffer in, out;
};

/* ---- buffers ---- */

static void buffer_reserve(struct buffer *buffer, size_t room)
{
    if (buffer->begin > 0 && buffer->size - buffer->end < room) {
        memmove(buffer->data, buffer->data + buffer->begin, buffer->end - buffer->begin);
        buffer->end -= buffer->begin;
        buffer->begin = 0;
    }
    if (buffer->size - buffer->end < room) {
        buffer->size = buffer->end + room + buffer->size;
        buffer->data = realloc(buffer->data, buffer->size);
        assert(buffer->data != NULL);
    }
}

static void buffer_put(struct buffer *buffer, const void *data, size_t size)
{
    memcpy(buffer->data + buffer->end, data, size);
    buffer->end += size;
}

static void buffer_put_text(struct buffer *buffer, const char *text)
{
    buffer_put(buffer, text, strlen(text));
}

static void buffer_put_number(struct buffer *buffer, uint64_t number)
{
    buffer->end += decimal_format(number, buffer->data + buffer->end);
}

/* ---- keys and values ---- */

static struct slice make_key(const struct load *load, uint32_t index, char key[KEY_SIZE_MAX])
{
    unsigned size = load->options.key_size;
    uint32_t number = load->options.key_first + index;
    memset(key, '0', size);
    key[0] = 'k';
    for (unsigned i = size - 1; number > 0; i--, number /= 10)
        key[i] = (char)('0' + number % 10);
    return slice_make(key, size);
}

static uint32_t choose_value_size(struct load *load)
{
    uint32_t least = load->options.value_min, most = load->options.value_max;
    return least + (uint32_t)prng_below(&load->prng, most - least + 1);
}

/* ---- requests ---- */

static void write_set(struct client *client, struct request *request, struct slice key)
{
    struct load *load = client->load;
    uint32_t size = choose_value_size(load);
    request->version = keys_write_begin(&load->keys, request->index, &request->clean);
    struct value value = {.key_hash = hash_key(key),
                          .writer = load->writer,
                          .version = request->version,
                          .clean = request->clean};
    buffer_reserve(&client->out, size + 512);
    client->unpersisted++;
    buffer_put_text(&client->out, "set ");
    buffer_put(&client->out, key.data, key.size);
    buffer_put_text(&client->out, " 0 0 ");
    buffer_put_number(&client->out, size);
    buffer_put_text(&client->out, "\r\n");
    value_write(&value, client->out.data + client->out.end, size);
    client->out.end += size;
    buffer_put_text(&client->out, "\r\n");
}

static void write_get(struct client *client, struct request *request, struct slice key)
{
    request->floor = keys_floor(&client->load->keys, request->index);
    buffer_reserve(&client->out, 512);
    buffer_put_text(&client->out, "get ");
    buffer_put(&client->out, key.data, key.size);
    buffer_put_text(&client->out, "\r\n");
}

static void write_persist(struct client *client)
{
    buffer_reserve(&client->out, 512);
    buffer_put_text(&client->out, "persist\r\n");
    client->unpersisted = 0;
}

static bool issue(struct client *client, uint64_t planned, uint64_t now)
{
    char key[KEY_SIZE_MAX];
    struct load *load = client->load;
    unsigned slot = (client->first + client->count) % load->options.depth;
    struct request *request = &client->requests[slot];
    bool persists =
        load->options.persist_every > 0 && client->unpersisted >= load->options.persist_every;
    if (persists)
        *request = (struct request){.is_persist = true};
    else if (!load_next(load, client->server, request))
        return false;
    request->planned_ns = planned;
    request->sent_ns = now;
    if (request->is_persist)
        write_persist(client);
    else if (request->is_set)
        write_set(client, request, make_key(load, request->index, key));
    else
        write_get(client, request, make_key(load, request->index, key));
    client->count++;
    return true;
}

static void issue_all(struct client *client, uint64_t now)
{
    while (client->load->issuing && client->count < client->load->options.depth) {
        if (client->every_ns == 0) {
            if (!issue(client, now, now))
                return;
        } else {
            if (client->due_ns > now || !issue(client, client->due_ns, now))
                return;
            client->due_ns += client->every_ns;
        }
    }
}

/* ---- connection ---- */

static void watch(struct client *client, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    int result = epoll_ctl(client->load->epoll, operation, client->fd, &event);
    assert(result == 0);
}

/* What was under way has no answer: of its writes nothing is known for ever. */
static void drop(struct client *client, uint64_t now)
{
    close(client->fd);
    client->fd = -1;
    client->state = CLIENT_DOWN;
    client->wait_ns = now + RETRY_MS * 1000000ull;
    for (unsigned i = 0; i < client->count; i++)
        tally_count(&client->load->tally, now, TALLY_UNKNOWN);
    client->count = client->unpersisted = 0;
    client->in.begin = client->in.end = client->out.begin = client->out.end = 0;
}

static void dial(struct client *client, uint64_t now)
{
    const struct server *server = &client->load->options.servers[client->server];
    int one = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert(client->fd >= 0);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    int result =
        connect(client->fd, (const struct sockaddr *)&server->address, sizeof(server->address));
    if (result != 0 && errno != EINPROGRESS) {
        drop(client, now);
        return;
    }
    client->state = CLIENT_CONNECTING;
    client->wait_ns = now + client->load->options.timeout_ms * 1000000ull;
    watch(client, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
}

static void flush(struct client *client, uint64_t now)
{
    struct buffer *out = &client->out;
    bool blocked = false;
    while (out->begin < out->end && !blocked) {
        ssize_t sent =
            send(client->fd, out->data + out->begin, out->end - out->begin, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            drop(client, now);
            return;
        }
        blocked = sent < 0;
        out->begin += sent < 0 ? 0 : (size_t)sent;
    }
    if (!blocked)
        out->begin = out->end = 0;
    watch(client, EPOLLIN | (blocked ? EPOLLOUT : 0), EPOLL_CTL_MOD);
}

/* ---- answers ---- */

static void finish(struct client *client, const struct request *request, uint64_t now)
{
    struct tally *tally = &client->load->tally;
    bool measured = request->planned_ns >= tally->start_ns;
    if (!client->load->issuing && client->load->phase == PHASE_MIXED)
        return; /* after the end of what is measured */
    if (request->is_persist && measured)
        tally_persist(tally, now - request->planned_ns);
    else if (request->is_set && measured)
        tally_set(tally, now, now - request->planned_ns, client->server);
    else if (measured)
        tally_get(tally, now, now - request->planned_ns);
}

static void on_miss(struct client *client, const struct request *request, uint64_t now)
{
    struct load *load = client->load;
    tally_count(&load->tally, now, TALLY_MISS);
    if (!load->options.no_check && load->options.durable && request->floor > 0) {
        tally_count(&load->tally, now, TALLY_LOST);
        load_complain(load, TALLY_LOST, request, client->server, 0);
    }
}

static void on_value(struct client *client, const struct request *request, struct slice bytes,
                     uint64_t now)
{
    struct load *load = client->load;
    char key[KEY_SIZE_MAX];
    struct value value;
    tally_count(&load->tally, now, TALLY_HIT);
    if (load->options.no_check)
        return;
    enum tally_count verdict = TALLY_HIT;
    if (!value_read(bytes, hash_key(make_key(load, request->index, key)), &value))
        verdict = TALLY_WRONG;
    else if (bytes.size < VALUE_HEAD_SIZE)
        return;
    else if ((value.writer == load->writer ? value.version : 0) < request->floor)
        verdict = TALLY_STALE;
    else if (value.writer == load->writer)
        keys_seen(&load->keys, request->index, value.version, value.clean);
    if (verdict != TALLY_HIT) {
        tally_count(&load->tally, now, verdict);
        load_complain(load, verdict, request, client->server, value.version);
    }
}

static bool starts(struct slice text, const char *what)
{
    return text.size >= strlen(what) && memcmp(text.data, what, strlen(what)) == 0;
}

/* The size in `VALUE key flags size`; false: it is no such line. */
static bool value_line_size(struct slice line, uint64_t *size)
{
    const char *text = line.data;
    size_t at = line.size;
    while (at > 0 && text[at - 1] != ' ')
        at--;
    return slice_to_u64(slice_make(text + at, line.size - at), size) && *size <= 1u << 30;
}

enum answer {
    ANSWER_WHOLE,
    ANSWER_PART,
    ANSWER_NONSENSE,
};

/* `line` has lost its CRLF; `text` is all that was received. *used: the bytes of a whole answer. */
static enum answer take_get(struct client *client, const struct request *request, struct slice line,
                            struct slice text, size_t *used, uint64_t now)
{
    static const char end[] = "\r\nEND\r\n";
    uint64_t size;
    if (slice_equal(line, slice_text("END"))) {
        on_miss(client, request, now);
        finish(client, request, now);
        return ANSWER_WHOLE;
    }
    if (!starts(line, "VALUE ") || !value_line_size(line, &size))
        return ANSWER_NONSENSE;
    size_t head = *used;
    *used = head + size + sizeof(end) - 1;
    if (text.size < *used)
        return ANSWER_PART;
    const char *value = (const char *)text.data + head;
    if (memcmp(value + size, end, sizeof(end) - 1) != 0)
        return ANSWER_NONSENSE;
    on_value(client, request, slice_make(value, size), now);
    finish(client, request, now);
    return ANSWER_WHOLE;
}

static enum answer take_answer(struct client *client, const struct request *request,
                               struct slice text, size_t *used, uint64_t now)
{
    struct load *load = client->load;
    const char *newline = memchr(text.data, '\n', text.size);
    if (newline == NULL)
        return ANSWER_PART;
    struct slice line = slice_make(text.data, (size_t)(newline - (const char *)text.data));
    *used = line.size + 1;
    if (line.size > 0 && newline[-1] == '\r')
        line.size--;
    if (starts(line, "SERVER_ERROR") || starts(line, "ERROR") || starts(line, "CLIENT_ERROR")) {
        /* A refused write may have happened nevertheless: it stays under way. Do not run in
         * circles. */
        tally_count(&load->tally, now, TALLY_ERROR);
        client->wait_ns = now + PAUSE_MS * 1000000ull;
        return ANSWER_WHOLE;
    }
    if (request->is_persist) {
        if (!slice_equal(line, slice_text("OK")))
            return ANSWER_NONSENSE;
        finish(client, request, now);
        return ANSWER_WHOLE;
    }
    if (!request->is_set)
        return take_get(client, request, line, text, used, now);
    if (!slice_equal(line, slice_text("STORED")))
        return ANSWER_NONSENSE;
    keys_write_acknowledged(&load->keys, request->index, request->version, request->clean);
    finish(client, request, now);
    return ANSWER_WHOLE;
}

/* Returns false when the connection is of no use any more. */
static bool take_answers(struct client *client, uint64_t now)
{
    struct buffer *in = &client->in;
    while (in->begin < in->end) {
        size_t used = 0;
        struct slice text = slice_make(in->data + in->begin, in->end - in->begin);
        if (client->count == 0) {
            fprintf(stderr, "bench/load: an answer that nobody asked for\n");
            return false;
        }
        struct request *request = &client->requests[client->first];
        enum answer answer = take_answer(client, request, text, &used, now);
        if (answer == ANSWER_PART)
            return true;
        if (answer == ANSWER_NONSENSE) {
            tally_count(&client->load->tally, now, TALLY_WRONG);
            fprintf(stderr, "bench/load: not an answer: %.*s\n",
                    (int)(text.size < 60 ? text.size : 60), (const char *)text.data);
            return false;
        }
        in->begin += used;
        client->first = (client->first + 1) % client->load->options.depth;
        client->count--;
    }
    in->begin = in->end = 0;
    return true;
}

static void receive(struct client *client)
{
    for (;;) {
        buffer_reserve(&client->in, ROOM);
        size_t room = client->in.size - client->in.end;
        ssize_t got = recv(client->fd, client->in.data + client->in.end, room, 0);
        uint64_t now = now_ns();
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got > 0)
            client->in.end += (size_t)got;
        if (got <= 0 || !take_answers(client, now)) {
            drop(client, now);
            return;
        }
        if ((size_t)got < room)
            return;
    }
}

/* ---- what load.c calls ---- */

struct client *client_new(struct load *load, unsigned server, unsigned index, unsigned count)
{
    struct client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return NULL;
    *client = (struct client){.load = load, .server = server, .fd = -1};
    client->requests = calloc(load->options.depth, sizeof(struct request));
    if (load->options.rate > 0)
        client->every_ns = (uint64_t)(1e9 * count / load->options.rate);
    client->offset = (double)index / count;
    if (client->requests == NULL) {
        free(client);
        return NULL;
    }
    return client;
}

void client_free(struct client *client)
{
    if (client == NULL)
        return;
    if (client->fd >= 0)
        close(client->fd);
    free(client->requests);
    free(client->in.data);
    free(client->out.data);
    free(client);
}

void client_begin(struct client *client, uint64_t now)
{
    client->due_ns = now + (uint64_t)(client->offset * (double)client->every_ns);
}

unsigned client_waiting(const struct client *client)
{
    return client->count;
}

uint64_t client_turn(struct client *client, uint64_t now)
{
    uint64_t patience_ns = client->load->options.timeout_ms * 1000000ull;
    if (client->state == CLIENT_DOWN && client->wait_ns <= now)
        dial(client, now);
    else if (client->state == CLIENT_CONNECTING && client->wait_ns <= now)
        drop(client, now);
    else if (client->count > 0 && client->requests[client->first].sent_ns + patience_ns <= now)
        drop(client, now);
    if (client->state != CLIENT_UP || client->wait_ns > now)
        return client->wait_ns > now ? client->wait_ns : now;
    size_t before = client->out.end;
    issue_all(client, now);
    if (client->out.end > before)
        flush(client, now);
    uint64_t wanted = client->count > 0 ? client->requests[client->first].sent_ns + patience_ns : 0;
    if (client->every_ns > 0 && client->count < client->load->options.depth)
        wanted = wanted == 0 || client->due_ns < wanted ? client->due_ns : wanted;
    return wanted == 0 ? now + patience_ns : wanted;
}

void client_on_event(struct client *client, uint32_t events)
{
    if (client->state == CLIENT_CONNECTING && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
        int error = 0;
        socklen_t size = sizeof(error);
        getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) {
            drop(client, now_ns());
            return;
        }
        client->state = CLIENT_UP;
        client->wait_ns = 0;
        client->due_ns = client->due_ns > now_ns() ? client->due_ns : now_ns();
        watch(client, EPOLLIN, EPOLL_CTL_MOD);
        return;
    }
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        receive(client);
    if (client->state == CLIENT_UP && (events & EPOLLOUT))
        flush(client, now_ns());
}
