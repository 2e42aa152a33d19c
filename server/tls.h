/* tls.h: TLS for clients, by OpenSSL 3: certificates that can be exchanged while serving, and
 * sessions over non-blocking sockets. What a connection needs of it goes through stream.h. A build
 * without OpenSSL (make TLS=0) has tls_none.c instead, whose tls_open refuses.
 *
 * A limit of OpenSSL 3.0: a client that asks for a key update while a record for it waits for its
 * socket loses its connection. Clients do so after many gigabytes, if at all.
 *
 * A session keeps the certificates it began with; those that begin after tls_reload_any have the
 * new ones. */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct tls;         /* any thread */
struct tls_session; /* one thread */

enum tls_verify {
    TLS_VERIFY_OPTION, /* as tls_options.verify_mode says */
    TLS_VERIFY_NONE,
    TLS_VERIFY_REQUIRE
};

enum {
    TLS_MODE_NONE,    /* clients are not asked for a certificate */
    TLS_MODE_REQUEST, /* asked; one that is sent must be good */
    TLS_MODE_REQUIRE, /* must send a good one */
    TLS_MODE_ONCE,    /* as REQUEST: there is no renegotiation, in which it could be asked again */
    TLS_MODE_COUNT,
    TLS_VERSION_COUNT = 4, /* 1.0 to 1.3 */
    TLS_KEY_PEM = 1,
    TLS_KEY_DER = 2
};

/* Files are named as given; NULL: not given. */
struct tls_options {
    const char *chain_cert; /* PEM */
    const char *key;        /* NULL: in chain_cert */
    const char *ca_cert;    /* PEM: who may sign certificates of clients */
    const char *ciphers;    /* up to TLS 1.2, as OpenSSL writes them */
    uint32_t verify_mode;
    uint32_t key_format;    /* TLS_KEY_... */
    uint32_t min_version;   /* 0: TLS 1.0 ... 3: TLS 1.3 */
    uint32_t buffer_kb;     /* what is encrypted at once, at most */
    bool session_cache;     /* sessions can be resumed */
    bool required_anywhere; /* a listener asks for TLS_VERIFY_REQUIRE, so ca_cert must be there */
};

/* Reads the certificates. The options' texts stay the caller's, and stay. STATUS_INVALID: something
 * is missing or wrong; `why` has one line, which names the file. */
enum status tls_open(struct tls **tls, const struct tls_options *options, char *why,
                     size_t why_size) MUST_CHECK;
void tls_close(struct tls *tls); /* NULL is allowed; sessions may still be open */

/* Reads the files again. Unless STATUS_OK, everything stays as it was, and `why` says why. */
enum status tls_reload_any(struct tls *tls, char *why, size_t why_size) MUST_CHECK;

/* CLOCK_BOOTTIME: when the certificates were read. */
uint64_t tls_loaded_us_any(const struct tls *tls);
const struct tls_options *tls_options_of(const struct tls *tls);

enum tls_result {
    TLS_DONE,        /* some bytes went */
    TLS_AWAIT_READ,  /* none; try again when the socket has bytes */
    TLS_AWAIT_WRITE, /* none; try again when it takes some */
    TLS_ENDED,       /* receiving only: the other side sends no more */
    TLS_GONE,        /* the socket broke: no fault of TLS */
    TLS_FAILED       /* see tls_session_failure */
};

/* The server's side of a handshake, begun by the first tls_session_receive. The descriptor stays
 * the caller's. NULL: no memory. */
struct tls_session *tls_session_open(struct tls *tls, int fd, enum tls_verify verify);
void tls_session_close(struct tls_session *session); /* sends a goodbye if that is possible now */

enum tls_result tls_session_receive(struct tls_session *session, void *to, size_t size,
                                    size_t *got);

/* One record at most. After TLS_AWAIT_...: again with the same bytes, and maybe more of them. */
enum tls_result tls_session_send(struct tls_session *session, const void *data, size_t size,
                                 size_t *sent);

bool tls_session_is_established(const struct tls_session *session); /* the handshake is done */
bool tls_session_is_resumed(const struct tls_session *session);
bool tls_session_has_more(
    const struct tls_session *session); /* bytes that left the socket already */

/* After TLS_FAILED: for people. */
const char *tls_session_failure(const struct tls_session *session);

#endif
