/* raft_transport.c: raft's connections. A door is one that has not proved itself yet. */
#include "server/raft_transport.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "net/proof.h"

enum {
    GREETING_MAGIC = 0x31524348, /* "HCR1" */
    NONCE_SIZE = 16,
    DOOR_MAX = 64, /* strangers that say nothing must not use up the descriptors */
    DOOR_MS = 3000,
    BACKLOG = 64,
};

struct greeting {
    uint32_t magic;
    uint8_t from, to; /* node ids */
    uint8_t secured;
    uint8_t unused; /* zero */
    uint64_t configuration;
    uint8_t nonce[NONCE_SIZE];
};
static_assert(sizeof(struct greeting) == 32, "wire format");

struct answer {
    struct greeting greeting;
    uint8_t proof[PROOF_SIZE];
};
static_assert(sizeof(struct answer) == 64, "wire format");

enum door_state {
    DOOR_CONNECTING,  /* dialler */
    DOOR_WAIT_ANSWER, /* dialler */
    DOOR_WAIT_CALL,   /* acceptor */
    DOOR_WAIT_PROOF,  /* acceptor */
    DOOR_CLOSED,
};

struct raft_door {
    struct raft_transport *transport;
    struct raft_door *next, **from;
    enum door_state state;
    struct raft_uv_connect *request; /* NULL: acceptor */
    raft_uv_connect_cb done;
    unsigned peer;
    int status;    /* what `request` is told when the door has closed without success */
    uv_tcp_t *tcp; /* raft's once the door is passed: NULL then */
    uv_timer_t timer;
    uv_connect_t connect;
    unsigned handles; /* not closed yet */
    struct greeting call;
    struct answer answer;
    uint8_t input[sizeof(struct answer)];
    size_t input_size, input_wanted;
};

struct parting { /* a write; it may outlive the door */
    uv_write_t write;
    uint8_t bytes[sizeof(struct answer)];
};

/* ---- proofs ---- */

static void prove(const struct raft_door *door, char role, uint8_t proof[PROOF_SIZE])
{
    const char *secret = door->transport->secret;
    uint8_t text[1 + 2 * sizeof(struct greeting)];
    memset(proof, 0, PROOF_SIZE);
    if (secret[0] == '\0')
        return;
    text[0] = (uint8_t)role;
    memcpy(text + 1, &door->call, sizeof(door->call));
    memcpy(text + 1 + sizeof(door->call), &door->answer.greeting, sizeof(struct greeting));
    proof_make(proof, secret, strlen(secret), text, sizeof(text));
}

static bool proves(const struct raft_door *door, char role, const uint8_t proof[PROOF_SIZE])
{
    uint8_t expected[PROOF_SIZE];
    prove(door, role, expected);
    return proof_equal(expected, proof);
}

static void greet(const struct raft_transport *transport, unsigned to, struct greeting *greeting)
{
    *greeting = (struct greeting){.magic = GREETING_MAGIC,
                                  .from = (uint8_t)transport->self,
                                  .to = (uint8_t)to,
                                  .secured = transport->secret[0] != '\0',
                                  .configuration = transport->configuration};
    ssize_t got = getrandom(greeting->nonce, sizeof(greeting->nonce), 0);
    assert(got == sizeof(greeting->nonce)); /* never short below 256 bytes */
}

static const char *greeting_invalid(const struct raft_transport *transport,
                                    const struct greeting *greeting)
{
    if (greeting->magic != GREETING_MAGIC || greeting->unused != 0)
        return "not a node of this kind or version";
    if (greeting->configuration != transport->configuration)
        return "other cluster settings";
    if (greeting->secured != (transport->secret[0] != '\0'))
        return "only one side has a secret";
    if (greeting->to != transport->self)
        return "meant for another node";
    if (greeting->from == transport->self || greeting->from >= RAFT_PEER_LIMIT ||
        transport->peers[greeting->from].id == 0)
        return "an unknown node";
    return NULL;
}

/* ---- doors ---- */

static void end_if_closed(struct raft_transport *transport)
{
    if (transport->closing && !transport->listening && transport->doors == NULL &&
        transport->on_close != NULL) {
        raft_uv_transport_close_cb on_close = transport->on_close;
        transport->on_close = NULL;
        on_close(&transport->base);
    }
}

static void on_handle_closed(struct raft_door *door)
{
    if (--door->handles > 0)
        return;
    struct raft_transport *transport = door->transport;
    *door->from = door->next;
    if (door->next != NULL)
        door->next->from = door->from;
    transport->door_count--;
    if (door->request != NULL)
        door->done(door->request, NULL, door->status);
    free(door);
    end_if_closed(transport);
}

static void on_tcp_closed(uv_handle_t *handle)
{
    struct raft_door *door = handle->data;
    raft_free(handle);
    on_handle_closed(door);
}

static void on_timer_closed(uv_handle_t *handle)
{
    on_handle_closed(handle->data);
}

static void close_door(struct raft_door *door, int status)
{
    if (door->state == DOOR_CLOSED)
        return;
    door->state = DOOR_CLOSED;
    door->status = status;
    if (door->tcp != NULL)
        uv_close((uv_handle_t *)door->tcp, on_tcp_closed);
    uv_close((uv_handle_t *)&door->timer, on_timer_closed);
}

/* A line a minute: strangers may come often. */
static void refuse(struct raft_door *door, const char *why)
{
    struct raft_transport *transport = door->transport;
    uint64_t now_ms = uv_now(transport->loop);
    transport->refused++;
    if (transport->told_ms == 0 || now_ms - transport->told_ms > 60000) {
        transport->told_ms = now_ms;
        log_warn("raft: a connection %s was refused: %s",
                 door->request != NULL ? "to a peer" : "from outside", why);
    }
    close_door(door, RAFT_NOCONNECTION);
}

static void on_late(uv_timer_t *timer)
{
    close_door(timer->data, RAFT_NOCONNECTION);
}

static struct raft_door *open_door(struct raft_transport *transport)
{
    struct raft_door *door = calloc(1, sizeof(*door));
    uv_tcp_t *tcp = raft_malloc(sizeof(*tcp));
    if (door == NULL || tcp == NULL || uv_tcp_init(transport->loop, tcp) != 0) {
        free(door);
        raft_free(tcp);
        return NULL;
    }
    int code = uv_timer_init(transport->loop, &door->timer);
    assert(code == 0);
    code = uv_timer_start(&door->timer, on_late, DOOR_MS, 0);
    assert(code == 0);
    tcp->data = door->timer.data = door;
    door->transport = transport;
    door->tcp = tcp;
    door->handles = 2;
    door->from = &transport->doors;
    door->next = transport->doors;
    if (door->next != NULL)
        door->next->from = &door->next;
    transport->doors = door;
    transport->door_count++;
    return door;
}

/* The stream is raft's from here on. */
static void pass(struct raft_door *door)
{
    struct raft_transport *transport = door->transport;
    struct raft_uv_connect *request = door->request;
    uv_stream_t *stream = (uv_stream_t *)door->tcp;
    (void)uv_read_stop(stream);
    stream->data = NULL;
    door->tcp = NULL;
    door->handles--;
    door->request = NULL;
    close_door(door, 0);
    if (request != NULL)
        door->done(request, stream, 0);
    else
        transport->on_accept(&transport->base, door->peer, transport->peers[door->peer].name,
                             stream);
}

static void on_written(uv_write_t *write, int status)
{
    (void)status; /* the reading side sees it */
    free(write);
}

static bool put(struct raft_door *door, const void *bytes, size_t size)
{
    struct parting *parting = calloc(1, sizeof(*parting));
    assert(size <= sizeof(parting->bytes));
    if (parting == NULL)
        return false;
    memcpy(parting->bytes, bytes, size);
    uv_buf_t buffer = uv_buf_init((char *)parting->bytes, (unsigned)size);
    if (uv_write(&parting->write, (uv_stream_t *)door->tcp, &buffer, 1, on_written) == 0)
        return true;
    free(parting);
    return false;
}

static void want(struct raft_door *door, enum door_state state, size_t size)
{
    door->state = state;
    door->input_size = 0;
    door->input_wanted = size;
}

static void on_call(struct raft_door *door)
{
    memcpy(&door->call, door->input, sizeof(door->call));
    const char *why = greeting_invalid(door->transport, &door->call);
    if (why != NULL) {
        refuse(door, why);
        return;
    }
    door->peer = door->call.from;
    greet(door->transport, door->peer, &door->answer.greeting);
    prove(door, 'A', door->answer.proof);
    want(door, DOOR_WAIT_PROOF, PROOF_SIZE);
    if (!put(door, &door->answer, sizeof(door->answer)))
        close_door(door, RAFT_NOCONNECTION);
}

static void on_answer(struct raft_door *door)
{
    uint8_t proof[PROOF_SIZE];
    memcpy(&door->answer, door->input, sizeof(door->answer));
    const char *why = greeting_invalid(door->transport, &door->answer.greeting);
    if (why == NULL && door->answer.greeting.from != door->peer)
        why = "another node than was called";
    if (why == NULL && !proves(door, 'A', door->answer.proof))
        why = "it does not know the secret";
    if (why != NULL) {
        refuse(door, why);
        return;
    }
    prove(door, 'D', proof);
    if (put(door, proof, sizeof(proof)))
        pass(door);
    else
        close_door(door, RAFT_NOCONNECTION);
}

static void on_proof(struct raft_door *door)
{
    if (proves(door, 'D', door->input))
        pass(door);
    else
        refuse(door, "it does not know the secret");
}

/* Exactly what is missing, so that nothing of raft's is read here. */
static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct raft_door *door = handle->data;
    (void)suggested;
    *buffer = uv_buf_init((char *)door->input + door->input_size,
                          (unsigned)(door->input_wanted - door->input_size));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct raft_door *door = stream->data;
    (void)buffer;
    if (size < 0) {
        close_door(door, RAFT_NOCONNECTION);
        return;
    }
    door->input_size += (size_t)size;
    if (door->input_size < door->input_wanted)
        return;
    if (door->state == DOOR_WAIT_CALL)
        on_call(door);
    else if (door->state == DOOR_WAIT_ANSWER)
        on_answer(door);
    else if (door->state == DOOR_WAIT_PROOF)
        on_proof(door);
}

/* ---- dialling ---- */

static void on_connected(uv_connect_t *connect, int status)
{
    struct raft_door *door = connect->data;
    if (door->state == DOOR_CLOSED)
        return;
    if (status != 0) {
        close_door(door, RAFT_NOCONNECTION);
        return;
    }
    (void)uv_tcp_nodelay(door->tcp, 1);
    greet(door->transport, door->peer, &door->call);
    want(door, DOOR_WAIT_ANSWER, sizeof(struct answer));
    if (!put(door, &door->call, sizeof(door->call)) ||
        uv_read_start((uv_stream_t *)door->tcp, give_buffer, on_read) != 0)
        close_door(door, RAFT_NOCONNECTION);
}

static void set_address(struct raft_peer *peer, const struct addrinfo *from)
{
    memcpy(&peer->address, from->ai_addr, sizeof(peer->address));
    peer->address.sin_port = htons(peer->port);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *result)
{
    struct raft_peer *peer = request->data;
    peer->resolving = false;
    if (status == 0 && result != NULL && result->ai_family == AF_INET)
        set_address(peer, result);
    uv_freeaddrinfo(result);
}

/* For the next connection. */
static void resolve(struct raft_transport *transport, struct raft_peer *peer)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    if (peer->numeric || peer->resolving)
        return;
    peer->resolver.data = peer;
    peer->resolving = uv_getaddrinfo(transport->loop, &peer->resolver, on_resolved, peer->host,
                                     NULL, &hints) == 0;
}

/* By id, not by the address that the raft log remembers. raft tries again after an error. */
static int transport_connect(struct raft_uv_transport *base, struct raft_uv_connect *request,
                             raft_id id, const char *address, raft_uv_connect_cb done)
{
    struct raft_transport *transport = (struct raft_transport *)base;
    (void)address;
    if (transport->closing || id < 1 || id >= RAFT_PEER_LIMIT || transport->peers[id].id == 0)
        return RAFT_NOCONNECTION;
    struct raft_peer *peer = &transport->peers[id];
    resolve(transport, peer);
    struct raft_door *door = peer->address.sin_port != 0 ? open_door(transport) : NULL;
    if (door == NULL)
        return RAFT_NOCONNECTION;
    door->peer = (unsigned)id;
    door->connect.data = door;
    door->state = DOOR_CONNECTING;
    if (uv_tcp_connect(&door->connect, door->tcp, (const struct sockaddr *)&peer->address,
                       on_connected) != 0) {
        close_door(door, RAFT_NOCONNECTION);
        return RAFT_NOCONNECTION;
    }
    door->request = request;
    door->done = done;
    return 0;
}

/* ---- accepting ---- */

static void on_connection(uv_stream_t *stream, int status)
{
    struct raft_transport *transport = stream->data;
    if (status != 0 || transport->closing)
        return;
    struct raft_door *door = open_door(transport);
    if (door == NULL)
        return;
    want(door, DOOR_WAIT_CALL, sizeof(struct greeting));
    if (uv_accept(stream, (uv_stream_t *)door->tcp) != 0 || transport->door_count > DOOR_MAX ||
        uv_read_start((uv_stream_t *)door->tcp, give_buffer, on_read) != 0)
        close_door(door, RAFT_NOCONNECTION);
}

static int transport_init(struct raft_uv_transport *base, raft_id id, const char *address)
{
    (void)base;
    (void)id;
    (void)address;
    return 0;
}

static int transport_listen(struct raft_uv_transport *base, raft_uv_accept_cb on_accept)
{
    struct raft_transport *transport = (struct raft_transport *)base;
    const struct raft_peer *self = &transport->peers[transport->self];
    int code = uv_tcp_init(transport->loop, &transport->listener);
    if (code != 0)
        return RAFT_IOERR;
    transport->listening = true;
    transport->listener.data = transport;
    transport->on_accept = on_accept;
    code = uv_tcp_bind(&transport->listener, (const struct sockaddr *)&self->address, 0);
    if (code == 0)
        code = uv_listen((uv_stream_t *)&transport->listener, BACKLOG, on_connection);
    if (code == 0)
        return 0;
    snprintf(base->errmsg, sizeof(base->errmsg),
             "cannot listen on %s, which is 10000 away from this node's port in --peers: %s; free "
             "it, or give the node another port there, for all nodes",
             self->name, uv_strerror(code));
    return RAFT_IOERR;
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct raft_transport *transport = handle->data;
    transport->listening = false;
    end_if_closed(transport);
}

static void transport_close(struct raft_uv_transport *base, raft_uv_transport_close_cb on_close)
{
    struct raft_transport *transport = (struct raft_transport *)base;
    transport->closing = true;
    transport->on_close = on_close;
    for (struct raft_door *door = transport->doors, *next; door != NULL; door = next) {
        next = door->next;
        close_door(door, RAFT_CANCELED);
    }
    if (transport->listening)
        uv_close((uv_handle_t *)&transport->listener, on_listener_closed);
    end_if_closed(transport);
}

/* Own host: needed now, to listen there. */
static bool resolve_self(struct raft_peer *peer)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *result = NULL;
    if (getaddrinfo(peer->host, NULL, &hints, &result) != 0)
        return false;
    set_address(peer, result);
    freeaddrinfo(result);
    return true;
}

bool raft_transport_init(struct raft_transport *transport, uv_loop_t *loop, char *why,
                         size_t why_size)
{
    transport->loop = loop;
    transport->base.init = transport_init;
    transport->base.listen = transport_listen;
    transport->base.connect = transport_connect;
    transport->base.close = transport_close;
    for (unsigned id = 1; id < RAFT_PEER_LIMIT; id++) {
        struct raft_peer *peer = &transport->peers[id];
        if (peer->id == 0)
            continue;
        if (strchr(peer->host, ':') != NULL) {
            snprintf(why, why_size, "%s: raft needs an IPv4 address or a name", peer->host);
            return false;
        }
        peer->numeric = uv_ip4_addr(peer->host, peer->port, &peer->address) == 0;
        if (!peer->numeric)
            memset(&peer->address, 0, sizeof(peer->address));
    }
    struct raft_peer *self = &transport->peers[transport->self];
    if (self->numeric || resolve_self(self))
        return true;
    snprintf(why, why_size, "%s: no IPv4 address by this name", self->host);
    return false;
}
