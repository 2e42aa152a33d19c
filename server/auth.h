/* auth.h: the password file: -Y, or for SASL MEMCACHED_SASL_PWDB. Opened and read again by the
 * control thread, asked by any. */
#ifndef SERVER_AUTH_H
#define SERVER_AUTH_H

#include <pthread.h>
#include <stdbool.h>

#include "base/status.h"
#include "proto/password.h"

struct auth {
    char *path;           /* absolute: a daemon changes its directory; NULL: no file */
    pthread_mutex_t lock; /* of `passwords`: a login sees the old file or the new one */
    struct passwords passwords;
};

/* Otherwise nothing stays open and the reason was logged. */
enum status auth_open(struct auth *auth, const char *path) MUST_CHECK;
void auth_close(struct auth *auth);

/* Reads the file again. If that fails the old users stay, and the log says why. Who is
 * authenticated already stays so. */
void auth_reload(struct auth *auth);

bool auth_is_right_any(struct auth *auth, struct slice user, struct slice password);

#endif
