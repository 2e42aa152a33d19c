#include "server/udp.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "server/connection.h"
#include "server/watch.h"
#include "server/worker.h"

enum {
    PAYLOAD_SIZE_MAX = UDP_DATAGRAM_SIZE_MAX - UDP_HEADER_SIZE,
    RECEIVE_SIZE = 65536, /* no datagram is larger */
    SEND_BUFFER_SIZE = 2 * UDP_ANSWER_SIZE_MAX,
    BURST_MAX = 32,
    PIECES_MAX = 16,
};

struct udp {
    struct udp *next; /* of the worker's */
    struct worker *worker;
    struct watch *watch;
    int fd;
    unsigned listener;
    unsigned under_way;
    uint8_t buffer[RECEIVE_SIZE];
};

struct udp_request {
    struct udp *udp;
    struct sockaddr_storage from;
    socklen_t from_size;
    uint16_t id;     /* in network order */
    size_t answered; /* bytes */
    size_t taken, size;
    uint8_t bytes[];
};

/* ---- requests ---- */

static bool begins_with(const uint8_t *bytes, size_t size, const char *word)
{
    size_t word_size = strlen(word);
    return size >= word_size && memcmp(bytes, word, word_size) == 0;
}

/* Of another server, sent here by somebody who forged the sender: if it were answered, the two
 * would never stop. */
static bool is_answer(const uint8_t *bytes, size_t size)
{
    return bytes[0] == 0x81 || begins_with(bytes, size, "ERROR") ||
           begins_with(bytes, size, "CLIENT_ERROR") || begins_with(bytes, size, "SERVER_ERROR");
}

static bool is_request(const uint8_t *datagram, size_t size)
{
    static const uint8_t one[2] = {0, 1};
    return size > UDP_HEADER_SIZE && memcmp(datagram + 4, one, sizeof(one)) == 0 &&
           !is_answer(datagram + UDP_HEADER_SIZE, size - UDP_HEADER_SIZE);
}

static void take_request(struct udp *udp, size_t size, const struct sockaddr_storage *from,
                         socklen_t from_size)
{
    if (!is_request(udp->buffer, size))
        return;
    size -= UDP_HEADER_SIZE;
    struct udp_request *request = malloc(sizeof(*request) + size);
    if (request == NULL)
        return; /* As if it had been lost on its way. */
    *request =
        (struct udp_request){.udp = udp, .from = *from, .from_size = from_size, .size = size};
    memcpy(&request->id, udp->buffer, sizeof(request->id));
    memcpy(request->bytes, udp->buffer + UDP_HEADER_SIZE, size);
    udp->under_way++;
    connection_open_datagram(udp->worker, request, udp->listener);
}

static void on_readable(void *user)
{
    struct udp *udp = user;
    for (unsigned i = 0; i < BURST_MAX && udp->under_way < UDP_REQUEST_MAX; i++) {
        struct sockaddr_storage from;
        socklen_t from_size = sizeof(from);
        ssize_t got = recvfrom(udp->fd, udp->buffer, sizeof(udp->buffer), 0,
                               (struct sockaddr *)&from, &from_size);
        if (got < 0)
            return;
        take_request(udp, (size_t)got, &from, from_size);
    }
    if (udp->under_way == UDP_REQUEST_MAX)
        watch_stop(udp->watch);
}

size_t udp_receive(struct udp_request *request, void *to, size_t size)
{
    size_t left = request->size - request->taken;
    if (size > left)
        size = left;
    memcpy(to, request->bytes + request->taken, size);
    request->taken += size;
    return size;
}

void udp_request_close(struct udp_request *request)
{
    struct udp *udp = request->udp;
    udp->under_way--;
    watch_start(udp->watch, 0);
    free(request);
}

/* ---- answers ---- */

/* Walks through the pieces of an answer. */
struct cursor {
    const struct iovec *pieces;
    unsigned count;
    size_t offset; /* in the first one */
};

/* The next bytes, up to `room`, as pieces behind the first of `out`; returns how many pieces there
 * are. */
static unsigned take_payload(struct cursor *cursor, size_t room, struct iovec out[PIECES_MAX])
{
    unsigned count = 1;
    while (cursor->count > 0 && room > 0 && count < PIECES_MAX) {
        size_t left = cursor->pieces->iov_len - cursor->offset;
        size_t size = left < room ? left : room;
        out[count++] = (struct iovec){.iov_base = (char *)cursor->pieces->iov_base + cursor->offset,
                                      .iov_len = size};
        room -= size;
        cursor->offset += size;
        if (size == left) {
            cursor->pieces++;
            cursor->count--;
            cursor->offset = 0;
        }
    }
    return count;
}

static bool send_datagram(struct udp_request *request, struct iovec *pieces, unsigned count,
                          unsigned sequence, unsigned total)
{
    uint16_t header[4] = {request->id, htons((uint16_t)sequence), htons((uint16_t)total), 0};
    static_assert(sizeof(header) == UDP_HEADER_SIZE, "as on the wire");
    pieces[0] = (struct iovec){.iov_base = header, .iov_len = sizeof(header)};
    struct msghdr message = {.msg_name = &request->from,
                             .msg_namelen = request->from_size,
                             .msg_iov = pieces,
                             .msg_iovlen = count};
    return sendmsg(request->udp->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

static void send_message(struct udp_request *request, const struct iovec *pieces, unsigned count,
                         size_t size)
{
    struct cursor cursor = {.pieces = pieces, .count = count};
    struct iovec out[PIECES_MAX];
    unsigned total = (unsigned)((size + PAYLOAD_SIZE_MAX - 1) / PAYLOAD_SIZE_MAX);
    for (unsigned sequence = 0; sequence < total; sequence++) {
        unsigned used = take_payload(&cursor, PAYLOAD_SIZE_MAX, out);
        if (!send_datagram(request, out, used, sequence, total))
            return; /* The rest is of no use to anybody. */
    }
}

/* Once; what comes after is left out. A binary client would not understand it. */
static void refuse_answer(struct udp_request *request, const struct iovec *first)
{
    static const char words[] = "SERVER_ERROR the answer is too large for UDP\r\n";
    const struct iovec piece = {.iov_base = (char *)words, .iov_len = sizeof(words) - 1};
    bool told = request->answered > UDP_ANSWER_SIZE_MAX;
    bool binary = *(const uint8_t *)first->iov_base == 0x81;
    request->answered = (size_t)UDP_ANSWER_SIZE_MAX + 1;
    if (!told && !binary)
        send_message(request, &piece, 1, piece.iov_len);
}

void udp_send(struct udp_request *request, const struct iovec *pieces, unsigned count)
{
    size_t size = 0;
    assert(count < PIECES_MAX);
    for (unsigned i = 0; i < count; i++)
        size += pieces[i].iov_len;
    if (request->answered + size > UDP_ANSWER_SIZE_MAX) {
        refuse_answer(request, pieces);
        return;
    }
    request->answered += size;
    send_message(request, pieces, count, size);
}

/* ---- sockets ---- */

void udp_open(struct worker *worker, int fd, unsigned listener)
{
    int size = SEND_BUFFER_SIZE;
    struct udp *udp = malloc(sizeof(*udp));
    if (udp == NULL)
        goto close_fd;
    udp->worker = worker;
    udp->fd = fd;
    udp->listener = listener;
    udp->under_way = 0;
    udp->watch = watch_open(worker->base, fd, WATCH_READ, on_readable, udp);
    if (udp->watch == NULL)
        goto free_udp;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)); /* A large answer goes at once. */
    udp->next = worker->udp;
    worker->udp = udp;
    watch_start(udp->watch, 0);
    return;

free_udp:
    free(udp);
close_fd:
    log_error("no memory for a UDP socket");
    close(fd);
}

void udp_close_all(struct worker *worker)
{
    for (struct udp *udp = worker->udp, *next; udp != NULL; udp = next) {
        next = udp->next;
        assert(udp->under_way == 0);
        watch_close(udp->watch);
        close(udp->fd);
        free(udp);
    }
    worker->udp = NULL;
}
