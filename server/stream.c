#include "server/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "server/clock.h"
#include "server/udp.h"

enum { LOG_PERIOD_US = 10000000, DRAIN_SIZE = 4096 };

/* ---- what a worker's streams share ---- */

enum status stream_commons_open(struct stream_commons *commons, struct counters *counters,
                                struct tls *tls, size_t buffer_size)
{
    *commons = (struct stream_commons){.counters = counters, .tls = tls};
    stream_commons_begin_turn(commons);
    if (tls == NULL)
        return STATUS_OK;
    commons->buffer = malloc(buffer_size);
    commons->buffer_size = buffer_size;
    return commons->buffer != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

void stream_commons_close(struct stream_commons *commons)
{
    free(commons->buffer);
    *commons = (struct stream_commons){.counters = NULL};
}

void stream_commons_begin_turn(struct stream_commons *commons)
{
    commons->handshakes_left = STREAM_HANDSHAKES_PER_TURN;
}

/* Anybody can make clients fail as often as he likes: a line each would fill the disk. */
static void log_failure(struct stream_commons *commons, const char *what, const char *why)
{
    uint64_t now_us = clock_mono_us();
    commons->unlogged_count++;
    if (commons->logged_us != 0 && now_us - commons->logged_us < LOG_PERIOD_US)
        return;
    log_warn("%s: %s (%llu since the last such line)", what, why,
             (unsigned long long)commons->unlogged_count);
    commons->logged_us = now_us;
    commons->unlogged_count = 0;
}

/* ---- opening, closing ---- */

enum status stream_open_plain(struct stream *stream, struct stream_commons *commons, int fd)
{
    *stream = (struct stream){.commons = commons, .fd = fd};
    return STATUS_OK;
}

enum status stream_open_tls(struct stream *stream, struct stream_commons *commons, int fd,
                            enum tls_verify verify)
{
    *stream = (struct stream){.commons = commons, .fd = fd};
    stream->session = tls_session_open(commons->tls, fd, verify);
    return stream->session != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

/* Its end is told by no event either. */
void stream_open_datagram(struct stream *stream, struct stream_commons *commons,
                          struct udp_request *datagram)
{
    *stream = (struct stream){.commons = commons, .datagram = datagram, .fd = -1, .has_more = true};
}

void stream_close(struct stream *stream)
{
    if (stream->session != NULL)
        tls_session_close(stream->session);
    if (stream->datagram != NULL)
        udp_request_close(stream->datagram);
    else
        close(stream->fd);
    *stream = (struct stream){.fd = -1};
}

/* ---- clients that speak TLS where there is none, and the other way round ---- */

/* The last words to a client that is not understood. What it has sent is taken first: closing with
 * bytes unread would reset the connection, and the words would be lost. */
static enum stream_result turn_away(struct stream *stream, const void *words, size_t size)
{
    char taken[DRAIN_SIZE];
    ssize_t ignored = recv(stream->fd, taken, sizeof(taken), MSG_DONTWAIT);
    ignored = send(stream->fd, words, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)ignored;
    return STREAM_BROKEN;
}

/* A TLS record that holds a handshake message: no command begins like that. */
static bool looks_like_tls(const uint8_t *data, size_t size)
{
    return size >= 3 && data[0] == 0x16 && data[1] == 3 && data[2] <= 4;
}

static enum stream_result turn_away_tls(struct stream *stream)
{
    static const uint8_t alert[] = {0x15, 3, 1, 0, 2, 2, 40}; /* fatal: handshake_failure */
    log_failure(stream->commons, "closed a client", "it speaks TLS to a port without TLS");
    return turn_away(stream, alert, sizeof(alert));
}

static enum stream_result turn_away_plain(struct stream *stream)
{
    static const char words[] = "CLIENT_ERROR this port expects TLS\r\n";
    counters_add(stream->commons->counters, COUNTER_ssl_handshake_errors, 1);
    log_failure(stream->commons, "closed a client", "it does not speak TLS to a port with TLS");
    return turn_away(stream, words, sizeof(words) - 1);
}

/* ---- plain ---- */

static enum stream_result judge(ssize_t returned)
{
    if (returned > 0)
        return STREAM_OK;
    if (returned == 0)
        return STREAM_ENDED;
    return errno == EAGAIN || errno == EINTR ? STREAM_AGAIN : STREAM_BROKEN;
}

static enum stream_result receive_plain(struct stream *stream, void *to, size_t size, size_t *got)
{
    ssize_t received = recv(stream->fd, to, size, 0);
    enum stream_result result = judge(received);
    if (result != STREAM_OK)
        return result;
    if (!stream->looked && looks_like_tls(to, (size_t)received))
        return turn_away_tls(stream);
    stream->looked = true;
    *got = (size_t)received;
    return STREAM_OK;
}

static enum stream_result send_plain(struct stream *stream, const struct iovec *pieces,
                                     unsigned count, size_t *sent)
{
    struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = count};
    ssize_t taken = sendmsg(stream->fd, &message, MSG_NOSIGNAL);
    if (taken < 0)
        return judge(taken);
    *sent = (size_t)taken;
    return STREAM_OK;
}

/* ---- TLS ---- */

/* A client that lets the kernel join its writes sends its first command when the end of the
 * handshake is acknowledged: the kernel would wait 40 ms with that, since we have nothing to say.
 */
static void note_established(struct stream *stream)
{
    struct stream_commons *commons = stream->commons;
    int on = 1;
    stream->established = true;
    setsockopt(stream->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
    bool counted = tls_options_of(commons->tls)->session_cache;
    if (counted && !tls_session_is_resumed(stream->session))
        counters_add(commons->counters, COUNTER_ssl_new_sessions, 1);
}

static enum stream_result note_failure(struct stream *stream, enum tls_result result)
{
    struct stream_commons *commons = stream->commons;
    if (!stream->established)
        counters_add(commons->counters, COUNTER_ssl_handshake_errors, 1);
    if (result == TLS_GONE)
        return STREAM_BROKEN;
    if (stream->established)
        counters_add(commons->counters, COUNTER_ssl_proto_errors, 1);
    log_failure(commons, stream->established ? "TLS failed" : "TLS handshake failed",
                tls_session_failure(stream->session));
    return STREAM_BROKEN;
}

/* The first byte tells a TLS client; OpenSSL would wait for four more. */
static enum stream_result look(struct stream *stream)
{
    uint8_t first;
    enum stream_result result = judge(recv(stream->fd, &first, 1, MSG_PEEK));
    if (result != STREAM_OK)
        return result;
    if (first != 0x16)
        return turn_away_plain(stream);
    stream->looked = true;
    return STREAM_OK;
}

static enum stream_result begin_receive_tls(struct stream *stream)
{
    if (stream->established)
        return STREAM_OK;
    if (!stream->looked) {
        enum stream_result result = look(stream);
        if (result != STREAM_OK)
            return result;
    }
    if (stream->commons->handshakes_left == 0)
        return STREAM_AGAIN;
    stream->commons->handshakes_left--;
    return STREAM_OK;
}

/* `got`: what was received before, in the same call. Trouble is told when there is nothing else to
 * tell; it will be found again. */
static enum stream_result judge_receive(struct stream *stream, enum tls_result result, size_t got)
{
    stream->receive_awaits_write = result == TLS_AWAIT_WRITE;
    stream->has_more = false;
    bool waits = result == TLS_AWAIT_READ || result == TLS_AWAIT_WRITE;
    if (got > 0) {
        stream->has_more = !waits;
        return STREAM_OK;
    }
    if (result == TLS_ENDED)
        return STREAM_ENDED;
    return waits ? STREAM_AGAIN : note_failure(stream, result);
}

/* A record at a time, as long as there are any and room for them. */
static enum stream_result receive_tls(struct stream *stream, void *to, size_t size, size_t *got)
{
    enum stream_result begun = begin_receive_tls(stream);
    if (begun != STREAM_OK)
        return begun;
    do {
        size_t now;
        enum tls_result result =
            tls_session_receive(stream->session, (uint8_t *)to + *got, size - *got, &now);
        if (!stream->established && tls_session_is_established(stream->session))
            note_established(stream);
        if (result != TLS_DONE)
            return judge_receive(stream, result, *got);
        *got += now;
        stream->has_more = tls_session_has_more(stream->session);
    } while (stream->has_more && *got < size);
    stream->receive_awaits_write = false;
    return STREAM_OK;
}

/* Joins pieces, since each send becomes a record; a first piece that is large enough goes as it is.
 * The size depends on nothing but the sum of the pieces, so that a second try never offers less. */
static size_t join(const struct stream_commons *commons, const struct iovec *pieces, unsigned count,
                   const void **data)
{
    size_t used = 0, size_max = commons->buffer_size;
    while (count > 1 && pieces[0].iov_len == 0) {
        pieces++;
        count--;
    }
    *data = pieces[0].iov_base;
    if (count == 1 || pieces[0].iov_len >= size_max)
        return pieces[0].iov_len < size_max ? pieces[0].iov_len : size_max;
    for (unsigned i = 0; i < count && used < size_max; i++) {
        size_t left = size_max - used;
        size_t size = pieces[i].iov_len < left ? pieces[i].iov_len : left;
        memcpy(commons->buffer + used, pieces[i].iov_base, size);
        used += size;
    }
    *data = commons->buffer;
    return used;
}

static enum stream_result send_tls(struct stream *stream, const struct iovec *pieces,
                                   unsigned count, size_t *sent)
{
    const void *data;
    size_t size = join(stream->commons, pieces, count, &data);
    if (size == 0)
        return STREAM_OK;
    enum tls_result result = tls_session_send(stream->session, data, size, sent);
    stream->send_awaits_read = result == TLS_AWAIT_READ;
    if (result == TLS_FAILED || result == TLS_GONE)
        return note_failure(stream, result);
    return result == TLS_DONE ? STREAM_OK : STREAM_AGAIN;
}

/* ---- datagrams ---- */

static enum stream_result receive_datagram(struct stream *stream, void *to, size_t size,
                                           size_t *got)
{
    *got = udp_receive(stream->datagram, to, size);
    stream->has_more = *got > 0;
    return *got > 0 ? STREAM_OK : STREAM_ENDED;
}

static enum stream_result send_datagram(struct stream *stream, const struct iovec *pieces,
                                        unsigned count, size_t *sent)
{
    for (unsigned i = 0; i < count; i++)
        *sent += pieces[i].iov_len;
    udp_send(stream->datagram, pieces, count);
    return STREAM_OK;
}

/* ---- all ---- */

enum stream_result stream_receive(struct stream *stream, void *to, size_t size, size_t *got)
{
    *got = 0;
    if (stream->session != NULL)
        return receive_tls(stream, to, size, got);
    return stream->datagram == NULL ? receive_plain(stream, to, size, got)
                                    : receive_datagram(stream, to, size, got);
}

enum stream_result stream_send(struct stream *stream, const struct iovec *pieces, unsigned count,
                               size_t *sent)
{
    *sent = 0;
    if (stream->session != NULL)
        return send_tls(stream, pieces, count, sent);
    return stream->datagram == NULL ? send_plain(stream, pieces, count, sent)
                                    : send_datagram(stream, pieces, count, sent);
}
