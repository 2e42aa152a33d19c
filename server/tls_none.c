/* Instead of tls.c in a build without OpenSSL (make TLS=0): tls_open refuses, so nothing else is
 * called. */
#include "server/tls.h"

#include <assert.h>
#include <stdio.h>

enum status tls_open(struct tls **tls, const struct tls_options *options, char *why,
                     size_t why_size)
{
    (void)options;
    *tls = NULL;
    snprintf(why, why_size, "-Z (--enable-ssl): this build has no TLS (make TLS=1 builds it in)");
    return STATUS_INVALID;
}

void tls_close(struct tls *tls)
{
    assert(tls == NULL);
}

enum status tls_reload_any(struct tls *tls, char *why, size_t why_size)
{
    return tls_open(&tls, NULL, why, why_size);
}

uint64_t tls_loaded_us_any(const struct tls *tls)
{
    assert(tls == NULL);
    return 0;
}

const struct tls_options *tls_options_of(const struct tls *tls)
{
    assert(tls == NULL);
    return NULL;
}

struct tls_session *tls_session_open(struct tls *tls, int fd, enum tls_verify verify)
{
    assert(tls == NULL);
    (void)fd;
    (void)verify;
    return NULL;
}

void tls_session_close(struct tls_session *session)
{
    assert(session == NULL);
}

enum tls_result tls_session_receive(struct tls_session *session, void *to, size_t size, size_t *got)
{
    assert(session == NULL);
    (void)to;
    (void)size;
    *got = 0;
    return TLS_FAILED;
}

enum tls_result tls_session_send(struct tls_session *session, const void *data, size_t size,
                                 size_t *sent)
{
    assert(session == NULL);
    (void)data;
    (void)size;
    *sent = 0;
    return TLS_FAILED;
}

bool tls_session_is_established(const struct tls_session *session)
{
    assert(session == NULL);
    return false;
}

bool tls_session_is_resumed(const struct tls_session *session)
{
    assert(session == NULL);
    return false;
}

bool tls_session_has_more(const struct tls_session *session)
{
    assert(session == NULL);
    return false;
}

const char *tls_session_failure(const struct tls_session *session)
{
    assert(session == NULL);
    return "no TLS";
}
