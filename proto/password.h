/* password.h: the users that a password file names, as memcached's -Y reads it, and the question
 * whether a pair is right. Pure; the caller sees to it that nobody reads while it is filled in. */
#ifndef PROTO_PASSWORD_H
#define PROTO_PASSWORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum {
    PASSWORD_USERS_MAX = 8,
    PASSWORD_LINE_SIZE_MAX = 255, /* user, colon, password */
    PASSWORD_FILE_SIZE_MAX = PASSWORD_USERS_MAX * (PASSWORD_LINE_SIZE_MAX + 2), /* and CRLF */
};

enum password_error {
    PASSWORD_GOOD,
    PASSWORD_NO_USERS,
    PASSWORD_TOO_MANY, /* users */
    PASSWORD_LONG_LINE,
    PASSWORD_MALFORMED, /* no colon, no user, no password, or a zero byte */
};

struct password_entry {
    uint8_t user_size, size;
    uint8_t user[PASSWORD_LINE_SIZE_MAX + 1]; /* zeros behind it */
    uint8_t password[PASSWORD_LINE_SIZE_MAX + 1];
};

struct passwords {
    uint32_t count;
    struct password_entry entries[PASSWORD_USERS_MAX]; /* those not used are zero */
};

/* Reads a whole file: lines `user:password`, the last one's newline may be missing; a password may
 * hold colons and spaces. *line: the number of the line that is wrong, from 1. */
enum password_error password_read(struct passwords *passwords, struct slice file, uint32_t *line);

const char *password_error_text(enum password_error error);

/* Takes as long for a wrong user as for a wrong password, wherever they differ: what is compared
 * depends on the sizes of the arguments alone. */
bool password_is_right(const struct passwords *passwords, struct slice user, struct slice password);

#endif
