#include "server/tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "server/clock.h"

struct tls {
    struct tls_options options; /* constant */
    pthread_mutex_t lock;       /* of `context`: taken for each new session, never for its bytes */
    SSL_CTX *context;
    _Atomic uint64_t loaded_us;
};

struct tls_session {
    SSL *ssl;
    unsigned long error; /* OpenSSL's; 0: see errno's */
    int error_number;
};

/* ---- a context: everything that the options say, as OpenSSL wants it ---- */

/* What a context is made from, and where the reason goes if it cannot be made. */
struct build {
    const struct tls_options *options;
    SSL_CTX *context;
    char *why;
    size_t why_size;
};

/* `what` as memcached says it, since operators' scripts look for that. */
static bool refuse(struct build *build, const char *what, const char *file, const char *reason)
{
    snprintf(build->why, build->why_size, "%s: %s : %s", what, file, reason);
    return false;
}

static const char *library_reason(void)
{
    unsigned long error = ERR_peek_last_error();
    if (ERR_GET_REASON(error) == ERR_R_PEM_LIB)
        error = ERR_peek_error(); /* the last says only which part of OpenSSL has found it */
    if (ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE)
        return "nothing of that kind is in it (PEM)";
    const char *reason = ERR_reason_error_string(error);
    if (ERR_SYSTEM_ERROR(error))
        reason = strerror(ERR_GET_REASON(error));
    return reason != NULL ? reason : "not valid";
}

/* Says better than OpenSSL why a file cannot be read. */
static bool is_readable(struct build *build, const char *what, const char *file)
{
    FILE *opened = fopen(file, "re");
    if (opened == NULL)
        return refuse(build, what, file, strerror(errno));
    fclose(opened);
    return true;
}

static const char *key_file(const struct tls_options *options)
{
    return options->key != NULL ? options->key : options->chain_cert;
}

/* A key with a password must not make a server ask at a terminal. */
static int give_no_password(char *buffer, int size, int writing, void *user)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)user;
    return 0;
}

static bool load_certificate(struct build *build)
{
    static const char what[] = "Error loading the certificate chain";
    const char *file = build->options->chain_cert;
    if (!is_readable(build, what, file))
        return false;
    return SSL_CTX_use_certificate_chain_file(build->context, file) == 1 ||
           refuse(build, what, file, library_reason());
}

static bool load_key(struct build *build)
{
    static const char what[] = "Error loading the key";
    const char *file = key_file(build->options);
    int type = build->options->key_format == TLS_KEY_DER ? SSL_FILETYPE_ASN1 : SSL_FILETYPE_PEM;
    if (!is_readable(build, what, file))
        return false;
    SSL_CTX_set_default_passwd_cb(build->context, give_no_password);
    if (SSL_CTX_use_PrivateKey_file(build->context, file, type) == 1)
        return true;
    if (ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH)
        return refuse(build, "Error validating the certificate", build->options->chain_cert,
                      "ssl_key is not its key");
    return refuse(build, what, file, library_reason());
}

static bool load_ca(struct build *build)
{
    static const char what[] = "Error loading the CA certificate";
    const char *file = build->options->ca_cert;
    if (file == NULL)
        return true;
    if (!is_readable(build, what, file))
        return false;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(file);
    if (names == NULL || SSL_CTX_load_verify_locations(build->context, file, NULL) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return refuse(build, what, file, library_reason());
    }
    SSL_CTX_set_client_CA_list(build->context, names);
    return true;
}

static bool set_ciphers(struct build *build)
{
    const char *ciphers = build->options->ciphers;
    if (ciphers == NULL || SSL_CTX_set_cipher_list(build->context, ciphers) == 1)
        return true;
    return refuse(build, "Error setting the provided cipher(s)", ciphers, library_reason());
}

static int verify_flags(uint32_t mode)
{
    static const int flags[TLS_MODE_COUNT] = {
        [TLS_MODE_NONE] = SSL_VERIFY_NONE,
        [TLS_MODE_REQUEST] = SSL_VERIFY_PEER,
        [TLS_MODE_REQUIRE] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
        [TLS_MODE_ONCE] = SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE,
    };
    return flags[mode];
}

static void set_sessions(struct build *build)
{
    static const unsigned char name[] = "healcached";
    SSL_CTX *context = build->context;
    SSL_CTX_set_session_id_context(context, name, sizeof(name) - 1);
    if (build->options->session_cache) {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_SERVER);
        SSL_CTX_set_num_tickets(context, 1);
        return;
    }
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(context, 0);
}

/* A cut connection is no attack here: a command counts only when it is complete. Buffers are given
 * back while nothing is under way: most connections are idle. */
static void set_modes(struct build *build)
{
    static const int versions[TLS_VERSION_COUNT] = {TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION,
                                                    TLS1_3_VERSION};
    SSL_CTX *context = build->context;
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE |
                                     SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_min_proto_version(context, versions[build->options->min_version]);
    SSL_CTX_set_verify(context, verify_flags(build->options->verify_mode), NULL);
}

static bool check_given(struct build *build)
{
    const struct tls_options *options = build->options;
    if (options->chain_cert == NULL) {
        snprintf(build->why, build->why_size,
                 "-Z (--enable-ssl) needs a certificate: -o ssl_chain_cert=FILE,ssl_key=FILE");
        return false;
    }
    bool verifies = options->verify_mode != TLS_MODE_NONE || options->required_anywhere;
    if (!verifies || options->ca_cert != NULL)
        return true;
    snprintf(build->why, build->why_size,
             "certificates of clients can only be checked with -o ssl_ca_cert=FILE");
    return false;
}

/* NULL: `why` says why. */
static SSL_CTX *make_context(const struct tls_options *options, char *why, size_t why_size)
{
    struct build build = {.options = options, .why = why, .why_size = why_size};
    snprintf(why, why_size, "no memory for TLS");
    if (!check_given(&build))
        return NULL;
    ERR_clear_error();
    build.context = SSL_CTX_new(TLS_server_method());
    if (build.context == NULL)
        return NULL;
    set_modes(&build);
    set_sessions(&build);
    if (load_certificate(&build) && load_key(&build) && load_ca(&build) && set_ciphers(&build))
        return build.context;
    SSL_CTX_free(build.context);
    ERR_clear_error();
    return NULL;
}

/* ---- the certificates of the process ---- */

static void say_loaded(const struct tls *tls, SSL_CTX *context)
{
    char name[256] = "?";
    char until[32] = "?";
    struct tm time;
    const X509 *certificate = SSL_CTX_get0_certificate(context);
    if (certificate == NULL)
        return;
    const ASN1_TIME *end = X509_get0_notAfter(certificate);
    X509_NAME_oneline(X509_get_subject_name(certificate), name, sizeof(name));
    if (ASN1_TIME_to_tm(end, &time) == 1)
        strftime(until, sizeof(until), "%Y-%m-%d %H:%M:%S", &time);
    log_note("TLS: certificate %s: %s, valid until %s UTC", tls->options.chain_cert, name, until);
    if (X509_cmp_current_time(end) < 0)
        log_warn("TLS: certificate %s has expired", tls->options.chain_cert);
}

enum status tls_open(struct tls **opened, const struct tls_options *options, char *why,
                     size_t why_size)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    *opened = NULL;
    if (tls == NULL)
        return STATUS_NO_MEMORY;
    tls->options = *options;
    tls->context = make_context(options, why, why_size);
    if (tls->context == NULL) {
        free(tls);
        return STATUS_INVALID;
    }
    pthread_mutex_init(&tls->lock, NULL);
    atomic_store(&tls->loaded_us, clock_mono_us());
    say_loaded(tls, tls->context);
    *opened = tls;
    return STATUS_OK;
}

void tls_close(struct tls *tls)
{
    if (tls == NULL)
        return;
    SSL_CTX_free(tls->context);
    pthread_mutex_destroy(&tls->lock);
    free(tls);
}

/* A context is never changed once sessions may use it: a new one takes its place. */
enum status tls_reload_any(struct tls *tls, char *why, size_t why_size)
{
    SSL_CTX *context = make_context(&tls->options, why, why_size);
    if (context == NULL)
        return STATUS_INVALID;
    say_loaded(tls, context);
    pthread_mutex_lock(&tls->lock);
    SSL_CTX *old = tls->context;
    tls->context = context;
    pthread_mutex_unlock(&tls->lock);
    SSL_CTX_free(old); /* Its sessions still hold it. */
    atomic_store(&tls->loaded_us, clock_mono_us());
    return STATUS_OK;
}

uint64_t tls_loaded_us_any(const struct tls *tls)
{
    return atomic_load(&tls->loaded_us);
}

const struct tls_options *tls_options_of(const struct tls *tls)
{
    return &tls->options;
}

/* ---- sessions ---- */

static SSL *make_ssl(struct tls *tls)
{
    pthread_mutex_lock(&tls->lock);
    SSL *ssl = SSL_new(tls->context);
    pthread_mutex_unlock(&tls->lock);
    return ssl;
}

struct tls_session *tls_session_open(struct tls *tls, int fd, enum tls_verify verify)
{
    struct tls_session *session = calloc(1, sizeof(*session));
    if (session == NULL)
        return NULL;
    session->ssl = make_ssl(tls);
    if (session->ssl == NULL || SSL_set_fd(session->ssl, fd) != 1) {
        SSL_free(session->ssl);
        free(session);
        return NULL;
    }
    if (verify != TLS_VERIFY_OPTION)
        SSL_set_verify(session->ssl,
                       verify_flags(verify == TLS_VERIFY_NONE ? TLS_MODE_NONE : TLS_MODE_REQUIRE),
                       NULL);
    SSL_set_accept_state(session->ssl);
    return session;
}

void tls_session_close(struct tls_session *session)
{
    bool failed = session->error != 0 || session->error_number != 0;
    ERR_clear_error();
    if (!failed && SSL_is_init_finished(session->ssl))
        SSL_shutdown(session->ssl);
    ERR_clear_error();
    SSL_free(session->ssl);
    free(session);
}

static enum tls_result fail(struct tls_session *session, int error_number)
{
    session->error = ERR_peek_error();
    session->error_number = error_number != 0 ? error_number : EPIPE;
    return session->error != 0 ? TLS_FAILED : TLS_GONE;
}

/* What a call that did not succeed came to. OpenSSL's queue of errors belongs to the thread, so it
 * is left empty. */
static enum tls_result judge(struct tls_session *session, int returned, int error_number)
{
    enum tls_result result = TLS_FAILED;
    switch (SSL_get_error(session->ssl, returned)) {
    case SSL_ERROR_WANT_READ:
        result = TLS_AWAIT_READ;
        break;
    case SSL_ERROR_WANT_WRITE:
        result = TLS_AWAIT_WRITE;
        break;
    case SSL_ERROR_ZERO_RETURN:
        result = TLS_ENDED;
        break;
    default:
        result = fail(session, error_number);
    }
    ERR_clear_error();
    return result;
}

enum tls_result tls_session_receive(struct tls_session *session, void *to, size_t size, size_t *got)
{
    *got = 0;
    ERR_clear_error();
    errno = 0;
    int returned = SSL_read_ex(session->ssl, to, size, got);
    return returned == 1 ? TLS_DONE : judge(session, returned, errno);
}

enum tls_result tls_session_send(struct tls_session *session, const void *data, size_t size,
                                 size_t *sent)
{
    *sent = 0;
    ERR_clear_error();
    errno = 0;
    int returned = SSL_write_ex(session->ssl, data, size, sent);
    enum tls_result result = returned == 1 ? TLS_DONE : judge(session, returned, errno);
    return result == TLS_ENDED ? TLS_GONE : result;
}

bool tls_session_is_established(const struct tls_session *session)
{
    return SSL_is_init_finished(session->ssl);
}

bool tls_session_is_resumed(const struct tls_session *session)
{
    return SSL_session_reused(session->ssl);
}

bool tls_session_has_more(const struct tls_session *session)
{
    return SSL_has_pending(session->ssl);
}

const char *tls_session_failure(const struct tls_session *session)
{
    const char *reason = ERR_reason_error_string(session->error);
    return reason != NULL ? reason : strerror(session->error_number);
}
