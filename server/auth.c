#include "server/auth.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* What a file that is too long is cut to is too long as well. */
enum { READ_SIZE = PASSWORD_FILE_SIZE_MAX + 1 };

static enum status read_file(const char *path, uint8_t bytes[READ_SIZE], size_t *size)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        log_error("password file '%s': %s", path, strerror(errno));
        return STATUS_IO;
    }
    setvbuf(file, NULL, _IONBF, 0); /* no copy of it stays behind */
    *size = fread(bytes, 1, READ_SIZE, file);
    bool good = ferror(file) == 0;
    fclose(file);
    if (!good)
        log_error("password file '%s': cannot be read", path);
    return good ? STATUS_OK : STATUS_IO;
}

static enum status load(const char *path, struct passwords *passwords)
{
    uint8_t bytes[READ_SIZE];
    size_t size = 0;
    uint32_t line;
    enum status status = read_file(path, bytes, &size);
    if (status == STATUS_OK) {
        enum password_error error = password_read(passwords, slice_make(bytes, size), &line);
        if (error != PASSWORD_GOOD) {
            log_error("password file %s:%u: %s", path, line, password_error_text(error));
            status = STATUS_INVALID;
        }
    }
    explicit_bzero(bytes, sizeof(bytes));
    return status;
}

enum status auth_open(struct auth *auth, const char *path)
{
    *auth = (struct auth){.path = NULL};
    pthread_mutex_init(&auth->lock, NULL);
    if (path == NULL)
        return STATUS_OK;
    enum status status = load(path, &auth->passwords);
    if (status == STATUS_OK && (auth->path = realpath(path, NULL)) == NULL) {
        log_error("password file '%s': %s", path, strerror(errno));
        status = STATUS_IO;
    }
    if (status != STATUS_OK)
        auth_close(auth);
    return status;
}

void auth_close(struct auth *auth)
{
    pthread_mutex_destroy(&auth->lock);
    free(auth->path);
    explicit_bzero(auth, sizeof(*auth));
}

void auth_reload(struct auth *auth)
{
    struct passwords fresh;
    if (auth->path == NULL)
        return;
    if (load(auth->path, &fresh) == STATUS_OK) {
        pthread_mutex_lock(&auth->lock);
        auth->passwords = fresh;
        pthread_mutex_unlock(&auth->lock);
        log_note("%s: read again, %u users", auth->path, fresh.count);
    } else {
        log_error("%s: could not be read again; the old users stay", auth->path);
    }
    explicit_bzero(&fresh, sizeof(fresh));
}

bool auth_is_right_any(struct auth *auth, struct slice user, struct slice password)
{
    pthread_mutex_lock(&auth->lock);
    bool right = password_is_right(&auth->passwords, user, password);
    pthread_mutex_unlock(&auth->lock);
    return right;
}
