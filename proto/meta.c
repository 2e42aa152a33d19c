/* Lines of meta commands. Answers: meta_answer.c. */
#include "proto/meta.h"

#include "proto/base64.h"
#include "proto/number.h"
#include "proto/text_line.h"

enum {
    TOKENS_MAX =
        META_WORDS_MAX + 3, /* memcached looks at no more, and so sees no fault in the rest */
    LETTER_MIN = 'A',
    LETTER_MAX = 'z',
};

struct tokens {
    struct slice token[TOKENS_MAX];
    size_t count;
};

static bool begins_flag(char byte)
{
    return (byte >= LETTER_MIN && byte <= LETTER_MAX) || (byte >= '0' && byte <= '9');
}

/* False: a word from `flags_begin` on begins with what no flag begins with. */
static bool split(struct tokens *tokens, struct slice line, size_t flags_begin)
{
    const char *at = line.data, *end = at + line.size;
    for (tokens->count = 0; tokens->count < TOKENS_MAX; tokens->count++) {
        while (at < end && *at == ' ')
            at++;
        if (at == end)
            return true;
        const char *space = memchr(at, ' ', (size_t)(end - at));
        const char *word_end = space != NULL ? space : end;
        if (tokens->count >= flags_begin && !begins_flag(*at))
            return false;
        tokens->token[tokens->count] = slice_make(at, (size_t)(word_end - at));
        at = word_end;
    }
    return true;
}

/* ---- flags ---- */

static enum reply good(bool read, enum reply otherwise)
{
    return read ? REPLY_COUNT : otherwise;
}

static enum reply read_key(struct text_request *request)
{
    size_t size = base64_decode(request->key, request->key_memory);
    request->key = slice_make(request->key_memory, size);
    return good(size > 0, REPLY_META_KEY);
}

static enum reply read_opaque(struct meta *meta, struct slice token)
{
    bool fits = token.size <= META_OPAQUE_SIZE_MAX;
    meta->opaque_size = (uint8_t)(fits ? token.size : META_OPAQUE_SIZE_MAX + 1);
    if (fits)
        memcpy(meta->opaque, token.data, token.size);
    return REPLY_COUNT; /* other faults go first: check_opaque */
}

/* REPLY_COUNT: good. REPLY_META_FLAG ends the reading. */
static enum reply read_flag(struct text_request *request, char letter, struct slice token)
{
    struct meta *meta = &request->meta;
    struct slice text = slice_make((const char *)token.data + 1, token.size - 1);
    switch (letter) {
    case 'b':
        return read_key(request);
    case 'N':
        return good(number_i32(text, &meta->vivify_exptime), REPLY_META_TOKEN);
    case 'T':
        return good(number_i32(text, &meta->exptime), REPLY_META_TOKEN);
    case 'R':
        return good(number_i32(text, &meta->recache), REPLY_META_TOKEN);
    case 'C':
        return good(number_u64(text, &meta->compare), REPLY_META_TOKEN);
    case 'E':
        return good(number_u64(text, &meta->cas), REPLY_META_TOKEN);
    case 'F':
        return good(number_u32(text, &meta->client_flags), REPLY_BAD_FORMAT);
    case 'J':
        return good(number_u64(text, &meta->initial), REPLY_META_INITIAL);
    case 'D':
        return good(number_u64(text, &meta->delta), REPLY_META_DELTA);
    case 'M':
        meta->mode = text.size > 0 ? *(const char *)text.data : ' ';
        return REPLY_COUNT;
    case 'O':
        return read_opaque(meta, token);
    }
    return good(memchr("PLkstcfvhuqxIl", letter, sizeof("PLkstcfvhuqxIl") - 1) != NULL,
                REPLY_META_FLAG);
}

/* Of several faults the last is told, but a letter that nobody knows and one given twice end the
 * reading. */
static enum reply read_flags(struct text_request *request, const struct tokens *tokens,
                             size_t begin)
{
    struct meta *meta = &request->meta;
    enum reply fault = REPLY_COUNT;
    if (request->key.size > META_KEY_SIZE_MAX)
        return REPLY_BAD_FORMAT;
    if (tokens->count > META_WORDS_MAX)
        return REPLY_META_WORDS;
    for (size_t i = begin; i < tokens->count; i++) {
        char letter = *(const char *)tokens->token[i].data;
        if (letter < LETTER_MIN)
            return REPLY_META_FLAG;
        if (meta_has(meta, letter))
            return REPLY_META_DUPLICATE;
        meta->letters |= (uint64_t)1 << (letter - LETTER_MIN);
        meta->flags[meta->flag_count++] = letter;
        enum reply found = read_flag(request, letter, tokens->token[i]);
        if (found == REPLY_META_FLAG)
            return found;
        /* Client flags have no text of their own. */
        if (found != REPLY_COUNT && (letter != 'F' || fault == REPLY_COUNT))
            fault = found;
    }
    return fault;
}

static enum reply check_mode(enum command command, char mode)
{
    if (mode == 0)
        return REPLY_COUNT;
    if (command == COMMAND_MS)
        return good(memchr("EAPRS", mode, 5) != NULL, REPLY_META_MS_MODE);
    if (command == COMMAND_MA)
        return good(memchr("I+D-", mode, 4) != NULL, REPLY_META_MA_MODE);
    return REPLY_COUNT;
}

static enum reply check_opaque(const struct meta *meta)
{
    return good(meta->opaque_size <= META_OPAQUE_SIZE_MAX, REPLY_META_OPAQUE);
}

/* ---- commands ---- */

static enum line_verdict verdict(struct text_request *request, enum reply fault)
{
    request->reply = fault;
    return fault == REPLY_COUNT ? LINE_GOOD : LINE_REFUSED;
}

static enum line_verdict read_command(struct text_request *request, const struct tokens *tokens,
                                      size_t flags_begin)
{
    enum reply fault = read_flags(request, tokens, flags_begin);
    if (fault != REPLY_COUNT && request->command == COMMAND_MA)
        fault = REPLY_META_ARITHMETIC; /* whatever it is */
    if (fault == REPLY_COUNT)
        fault = check_mode(request->command, request->meta.mode);
    if (fault == REPLY_COUNT)
        fault = check_opaque(&request->meta);
    return verdict(request, fault);
}

/* Once the size is known the data block is skipped, whatever else is wrong. */
static enum line_verdict read_set(struct text_request *request, const struct tokens *tokens,
                                  const struct text_limits *limits)
{
    int32_t size;
    if (!number_i32(tokens->token[2], &size) || size < 0 || size > INT32_MAX - 2)
        return verdict(request, REPLY_BAD_FORMAT);
    request->value_size = (uint32_t)size;
    request->reply = read_flags(request, tokens, 3);
    if (request->reply == REPLY_COUNT)
        request->reply = check_mode(COMMAND_MS, request->meta.mode);
    if (request->reply != REPLY_COUNT)
        return LINE_SKIP;
    if (!text_item_fits(limits->item_size_max, request->key.size, request->meta.client_flags,
                        request->value_size)) {
        request->reply = REPLY_TOO_LARGE;
        return LINE_TOO_LARGE;
    }
    request->reply = check_opaque(&request->meta);
    return request->reply == REPLY_COUNT ? LINE_GOOD : LINE_SKIP;
}

static enum line_verdict read_debug(struct text_request *request, const struct tokens *tokens)
{
    if (request->key.size > META_KEY_SIZE_MAX)
        return verdict(request, REPLY_BAD_FORMAT);
    if (tokens->count > 2 && slice_equal(tokens->token[2], slice_make("b", 1)))
        return verdict(request, good(read_key(request) == REPLY_COUNT, REPLY_BAD_FORMAT));
    return LINE_GOOD;
}

enum line_verdict meta_read(struct slice line, const struct text_limits *limits,
                            struct text_request *request)
{
    struct tokens tokens;
    bool stores = request->command == COMMAND_MS, keyless = request->command == COMMAND_MP;
    size_t flags_begin = stores ? 3 : keyless ? 1 : 2;
    memset(&request->meta, 0, offsetof(struct meta, flags));
    request->meta.delta = 1;
    if (request->command == COMMAND_MN)
        return LINE_GOOD;
    if (!split(&tokens, line, flags_begin) || tokens.count < command_words_min(request->command))
        return verdict(request, REPLY_BAD_FORMAT);
    if (keyless)
        return read_command(request, &tokens, flags_begin);
    request->key = tokens.token[1];
    if (request->command == COMMAND_ME)
        return read_debug(request, &tokens);
    return stores ? read_set(request, &tokens, limits)
                  : read_command(request, &tokens, flags_begin);
}
