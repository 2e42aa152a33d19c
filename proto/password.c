#include "proto/password.h"

static enum password_error read_line(struct password_entry *entry, struct slice line)
{
    const uint8_t *text = line.data;
    const uint8_t *colon = line.size > 0 ? memchr(text, ':', line.size) : NULL;
    if (line.size > PASSWORD_LINE_SIZE_MAX)
        return PASSWORD_LONG_LINE;
    if (colon == NULL || colon == text || colon + 1 == text + line.size ||
        memchr(text, 0, line.size) != NULL)
        return PASSWORD_MALFORMED;
    entry->user_size = (uint8_t)(colon - text);
    entry->size = (uint8_t)(line.size - entry->user_size - 1);
    memcpy(entry->user, text, entry->user_size);
    memcpy(entry->password, colon + 1, entry->size);
    return PASSWORD_GOOD;
}

/* Without its end; *rest is what comes behind. */
static struct slice take_line(struct slice *rest)
{
    const uint8_t *text = rest->data;
    const uint8_t *newline = memchr(text, '\n', rest->size);
    size_t size = newline != NULL ? (size_t)(newline - text) : rest->size;
    size_t used = newline != NULL ? size + 1 : size;
    *rest = slice_make(text + used, rest->size - used);
    if (size > 0 && text[size - 1] == '\r')
        size--;
    return slice_make(text, size);
}

enum password_error password_read(struct passwords *passwords, struct slice file, uint32_t *line)
{
    *passwords = (struct passwords){.count = 0};
    for (*line = 1; file.size > 0; ++*line) {
        struct slice text = take_line(&file);
        if (passwords->count == PASSWORD_USERS_MAX)
            return PASSWORD_TOO_MANY;
        enum password_error error = read_line(&passwords->entries[passwords->count], text);
        if (error != PASSWORD_GOOD)
            return error;
        passwords->count++;
    }
    return passwords->count > 0 ? PASSWORD_GOOD : PASSWORD_NO_USERS;
}

const char *password_error_text(enum password_error error)
{
    switch (error) {
    case PASSWORD_GOOD:
        break;
    case PASSWORD_NO_USERS:
        return "names no user";
    case PASSWORD_TOO_MANY:
        return "more than 8 users";
    case PASSWORD_LONG_LINE:
        return "longer than 255 bytes";
    case PASSWORD_MALFORMED:
        return "is not user:password";
    }
    return "good";
}

/* What a client sent, in the shape of an entry. False: it cannot be one; then its bytes are those
 * of nobody. */
static bool fill(uint8_t out[PASSWORD_LINE_SIZE_MAX + 1], struct slice text)
{
    bool fits = text.size > 0 && text.size <= PASSWORD_LINE_SIZE_MAX;
    memset(out, 0, PASSWORD_LINE_SIZE_MAX + 1);
    if (fits)
        memcpy(out, text.data, text.size);
    return fits;
}

/* 0: equal. Looks at every byte, whatever it has seen. */
static uint32_t difference(const uint8_t *a, const uint8_t *b)
{
    uint32_t found = 0;
    for (unsigned i = 0; i <= PASSWORD_LINE_SIZE_MAX; i++)
        found |= a[i] ^ b[i];
    return found;
}

bool password_is_right(const struct passwords *passwords, struct slice user, struct slice password)
{
    uint8_t given_user[PASSWORD_LINE_SIZE_MAX + 1], given[PASSWORD_LINE_SIZE_MAX + 1];
    bool fits = fill(given_user, user);
    fits &= fill(given, password);
    volatile uint32_t right = 0; /* no early end that a compiler could find */
    for (unsigned i = 0; i < PASSWORD_USERS_MAX; i++) {
        const struct password_entry *entry = &passwords->entries[i];
        uint32_t wrong = difference(entry->user, given_user) | difference(entry->password, given);
        wrong |= (uint32_t)entry->user_size ^ (uint32_t)user.size;
        wrong |= (uint32_t)entry->size ^ (uint32_t)password.size;
        right |= wrong == 0;
    }
    return fits && right != 0;
}
