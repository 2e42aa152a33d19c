/* stream.h: the bytes of one client, below its connection: a plain socket, TLS
 * over one, or a datagram. The
 * worker's own thread. Nothing here blocks.
 *
 * TLS hides two things that a socket's events do not tell, so whoever owns a stream has to ask:
 * - bytes may have left the socket already (stream_has_more): no event comes for them;
 * - receiving may have to wait until the socket takes bytes, and sending until it has some
 *   (stream_wanted_events): handshakes and key updates go both ways.
 *
 * The handshake is part of receiving. It is long work, so a worker does only
 * STREAM_HANDSHAKES_PER_TURN steps of handshakes in a turn; the rest has to try again with the next
 * turn (STREAM_AGAIN). */
#ifndef SERVER_STREAM_H
#define SERVER_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/status.h"
#include "server/counters.h"
#include "server/tls.h"

struct udp_request;

enum {
    STREAM_HANDSHAKES_PER_TURN = 2, /* with RSA keys one takes 1 ms (2048 bits) to 5 ms (4096) */
};

enum stream_result {
    STREAM_OK,    /* some bytes went */
    STREAM_AGAIN, /* none now */
    STREAM_ENDED, /* the client sends no more; receiving only */
    STREAM_BROKEN /* close it; what had to be counted and logged was */
};

/* What the streams of one worker share. */
struct stream_commons {
    struct counters *counters;
    struct tls *tls; /* NULL: no TLS */
    uint8_t *buffer; /* pieces of answers are joined here, to be encrypted as one record */
    size_t buffer_size;
    unsigned handshakes_left; /* in this turn */
    uint64_t logged_us; /* lines about clients that speak wrongly are rare, however many they are */
    uint64_t unlogged_count;
};

/* STATUS_NO_MEMORY. `tls` may be NULL; with it, `buffer_size` is that of the buffer. */
enum status stream_commons_open(struct stream_commons *commons, struct counters *counters,
                                struct tls *tls, size_t buffer_size) MUST_CHECK;
void stream_commons_close(struct stream_commons *commons);
void stream_commons_begin_turn(struct stream_commons *commons);

struct stream {
    struct stream_commons *commons;
    struct tls_session *session;  /* NULL: no TLS */
    struct udp_request *datagram; /* NULL: none; else fd is -1 */
    int fd;
    bool looked;      /* at the first bytes: are they what this listener expects? */
    bool established; /* TLS: the handshake is done */
    bool has_more;
    bool receive_awaits_write;
    bool send_awaits_read;
};

/* Takes the descriptor over on success. */
enum status stream_open_plain(struct stream *stream, struct stream_commons *commons,
                              int fd) MUST_CHECK;

/* commons->tls is there. `verify` overrides what the options say about certificates of clients. */
enum status stream_open_tls(struct stream *stream, struct stream_commons *commons, int fd,
                            enum tls_verify verify) MUST_CHECK;

/* Takes the request over. Each stream_send must hold one whole answer, and takes it. */
void stream_open_datagram(struct stream *stream, struct stream_commons *commons,
                          struct udp_request *datagram);

/* Says goodbye if that is possible at once. */
void stream_close(struct stream *stream);

/* Up to `size` bytes; `*got` is 0 unless STREAM_OK. */
enum stream_result stream_receive(struct stream *stream, void *to, size_t size, size_t *got);

/* As much as goes now of what the pieces hold; `*sent` is 0 unless STREAM_OK. After STREAM_AGAIN
 * the pieces of the next call must begin with the same bytes, and hold at least as many. */
enum stream_result stream_send(struct stream *stream, const struct iovec *pieces, unsigned count,
                               size_t *sent);

/* A TLS handshake is under way. */
static inline bool stream_is_starting(const struct stream *stream)
{
    return stream->session != NULL && !stream->established;
}

static inline bool stream_is_datagram(const struct stream *stream)
{
    return stream->datagram != NULL;
}

/* There may be bytes to receive that no event of the socket will tell of. */
static inline bool stream_has_more(const struct stream *stream)
{
    return stream->has_more;
}

/* In: does the owner want to receive and to send? Out: the events to wait for. On either it tries
 * all it wants. */
static inline void stream_wanted_events(const struct stream *stream, bool *read, bool *write)
{
    bool receives = *read, sends = *write;
    *read = (receives && !stream->receive_awaits_write) || (sends && stream->send_awaits_read);
    *write = (sends && !stream->send_awaits_read) || (receives && stream->receive_awaits_write);
}

#endif
