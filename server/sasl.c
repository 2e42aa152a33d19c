#include "server/sasl.h"

#include <pthread.h>
#include <sasl/sasl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "server/auth.h"

enum { MECHANISM_SIZE_MAX = 32, LOG_LINE_SIZE = 256, HOST_SIZE_MAX = 1025 };

/* There is one libsasl2 in the process, and it keeps the pointer to the callbacks. */
static struct {
    sasl_callback_t callbacks[4];
    char host[HOST_SIZE_MAX]; /* the realm of users without one */
} library;

struct sasl_dialogue {
    sasl_conn_t *connection;
    bool open; /* a step may follow */
};

/* ---- what the library asks of us ---- */

/* A stranger's name may be in the text. */
static int on_log(void *context, int level, const char *text)
{
    char line[LOG_LINE_SIZE];
    size_t size = 0;
    (void)context;
    for (; text != NULL && text[size] != 0 && size + 1 < sizeof(line); size++)
        line[size] = (unsigned char)text[size] < ' ' ? '?' : text[size];
    line[size] = 0;
    if (level == SASL_LOG_ERR)
        log_warn("SASL: %s", line);
    else if (level == SASL_LOG_FAIL || level == SASL_LOG_WARN)
        log_info("SASL: %s", line);
    else if (level != SASL_LOG_PASS && level != SASL_LOG_NONE)
        log_debug("SASL: %s", line);
    return SASL_OK;
}

static int check_password(sasl_conn_t *connection, void *context, const char *user,
                          const char *password, unsigned size, struct propctx *properties)
{
    (void)connection;
    (void)properties;
    bool right = user != NULL && password != NULL &&
                 auth_is_right_any(context, slice_text(user), slice_make(password, size));
    return right ? SASL_OK : SASL_NOUSER; /* NOUSER: the library looks elsewhere, too */
}

/* A plain file can be compared with what PLAIN brings, and with nothing else: a client would choose
 * a stronger mechanism and fail. All other options come from memcached.conf. */
static int get_option(void *context, const char *plugin, const char *option, const char **result,
                      unsigned *size)
{
    (void)context;
    (void)plugin;
    if (strcmp(option, "mech_list") != 0)
        return SASL_FAIL;
    *result = "PLAIN";
    if (size != NULL)
        *size = 5;
    return SASL_OK;
}

static void *mutex_open(void)
{
    pthread_mutex_t *mutex = malloc(sizeof(*mutex));
    if (mutex != NULL)
        pthread_mutex_init(mutex, NULL);
    return mutex;
}

static int mutex_lock(void *mutex)
{
    return pthread_mutex_lock(mutex) == 0 ? 0 : -1;
}

static int mutex_unlock(void *mutex)
{
    return pthread_mutex_unlock(mutex) == 0 ? 0 : -1;
}

static void mutex_close(void *mutex)
{
    if (mutex != NULL)
        pthread_mutex_destroy(mutex);
    free(mutex);
}

/* Its own types differ from callback to callback; it calls each with the right one. */
static int (*as_callback(void (*function)(void)))(void)
{
    union {
        void (*given)(void);
        int (*wanted)(void);
    } cast = {.given = function};
    return cast.wanted;
}

/* The library would look it up for each dialogue, and the worker would wait for the DNS. */
static void find_host(void)
{
    sasl_conn_t *connection = NULL;
    const void *host = NULL;
    if (sasl_server_new("memcached", NULL, NULL, NULL, NULL, NULL, 0, &connection) != SASL_OK)
        return;
    if (sasl_getprop(connection, SASL_SERVERFQDN, &host) == SASL_OK && host != NULL)
        snprintf(library.host, sizeof(library.host), "%s", (const char *)host);
    sasl_dispose(&connection);
}

enum status sasl_open(struct auth *auth)
{
    unsigned count = 0;
    library.callbacks[count++] =
        (sasl_callback_t){.id = SASL_CB_LOG, .proc = as_callback((void (*)(void))on_log)};
    if (auth->path != NULL) {
        library.callbacks[count++] = (sasl_callback_t){
            .id = SASL_CB_GETOPT, .proc = as_callback((void (*)(void))get_option)};
        library.callbacks[count++] =
            (sasl_callback_t){.id = SASL_CB_SERVER_USERDB_CHECKPASS,
                              .proc = as_callback((void (*)(void))check_password),
                              .context = auth};
    }
    library.callbacks[count] = (sasl_callback_t){.id = SASL_CB_LIST_END};
    sasl_set_mutex(mutex_open, mutex_lock, mutex_unlock, mutex_close);
    int result = sasl_server_init(library.callbacks, "memcached");
    if (result != SASL_OK) {
        log_error("-S (--enable-sasl): %s", sasl_errstring(result, NULL, NULL));
        return STATUS_IO;
    }
    find_host();
    return STATUS_OK;
}

void sasl_close(void)
{
    sasl_done();
}

/* ---- dialogues ---- */

static bool make(struct sasl_dialogue **dialogue)
{
    /* Nothing here encrypts what follows: mechanisms may not ask for that. Without a configuration
     * the library would let in everybody who calls himself anonymous. */
    const sasl_security_properties_t properties = {.max_ssf = 0,
                                                   .security_flags = SASL_SEC_NOANONYMOUS};
    const char *host = library.host[0] != 0 ? library.host : NULL;
    if (*dialogue != NULL)
        return true;
    *dialogue = calloc(1, sizeof(**dialogue));
    if (*dialogue == NULL)
        return false;
    if (sasl_server_new("memcached", host, NULL, NULL, NULL, NULL, 0, &(*dialogue)->connection) ==
            SASL_OK &&
        sasl_setprop((*dialogue)->connection, SASL_SEC_PROPS, &properties) == SASL_OK)
        return true;
    sasl_end(*dialogue);
    *dialogue = NULL;
    return false;
}

static enum sasl_verdict verdict(struct sasl_dialogue *dialogue, int result)
{
    dialogue->open = result == SASL_CONTINUE;
    if (result == SASL_OK)
        return SASL_ACCEPTED;
    return result == SASL_CONTINUE ? SASL_CONTINUES : SASL_REFUSED;
}

enum sasl_verdict sasl_begin(struct sasl_dialogue **dialogue, struct slice mechanism,
                             struct slice data, struct slice *answer)
{
    char name[MECHANISM_SIZE_MAX + 1];
    const char *out = NULL;
    unsigned size = 0;
    *answer = slice_make(NULL, 0);
    sasl_end(*dialogue); /* Nothing of a failed attempt may help the next one. */
    *dialogue = NULL;
    if (mechanism.size > MECHANISM_SIZE_MAX || !make(dialogue))
        return SASL_REFUSED;
    memcpy(name, mechanism.data, mechanism.size);
    name[mechanism.size] = 0;
    int result = sasl_server_start((*dialogue)->connection, name, data.size > 0 ? data.data : NULL,
                                   (unsigned)data.size, &out, &size);
    *answer = slice_make(out, out != NULL ? size : 0);
    return verdict(*dialogue, result);
}

enum sasl_verdict sasl_step(struct sasl_dialogue *dialogue, struct slice data, struct slice *answer)
{
    const char *out = NULL;
    unsigned size = 0;
    *answer = slice_make(NULL, 0);
    if (dialogue == NULL || !dialogue->open)
        return SASL_REFUSED;
    int result = sasl_server_step(dialogue->connection, data.size > 0 ? data.data : NULL,
                                  (unsigned)data.size, &out, &size);
    *answer = slice_make(out, out != NULL ? size : 0);
    return verdict(dialogue, result);
}

struct slice sasl_mechanisms(struct sasl_dialogue **dialogue)
{
    const char *list = NULL;
    unsigned size = 0;
    if (!make(dialogue) ||
        sasl_listmech((*dialogue)->connection, NULL, "", " ", "", &list, &size, NULL) != SASL_OK)
        return slice_make(NULL, 0);
    return slice_make(list, size);
}

void sasl_end(struct sasl_dialogue *dialogue)
{
    if (dialogue == NULL)
        return;
    if (dialogue->connection != NULL)
        sasl_dispose(&dialogue->connection);
    free(dialogue);
}
