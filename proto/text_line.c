#include "proto/text_line.h"

#include <assert.h>

#include "proto/number.h"

void words_split(struct words *words, struct slice line)
{
    const char *at = line.data, *end = at + line.size;
    words->count = 0;
    words->last = slice_make(at, 0);
    for (;;) {
        while (at < end && *at == ' ')
            at++;
        if (at == end)
            break;
        const char *space = memchr(at, ' ', (size_t)(end - at));
        const char *word_end = space != NULL ? space : end;
        words->last = slice_make(at, (size_t)(word_end - at));
        if (words->count < LINE_WORDS_MAX)
            words->word[words->count] = words->last;
        words->count++;
        at = word_end;
    }
    for (size_t i = words->count; i < LINE_WORDS_MAX; i++)
        words->word[i] = slice_make(NULL, 0);
}

static bool end_in_noreply(const struct words *words)
{
    return slice_equal(words->last, slice_text("noreply"));
}

static enum line_verdict refuse(struct text_request *request, enum reply reply)
{
    request->reply = reply;
    return LINE_REFUSED;
}

static bool is_key(struct slice word)
{
    return word.size <= TEXT_KEY_SIZE_MAX;
}

/* Flags, exptime and cas of a storage command. */
static bool read_storage_numbers(const struct words *words, struct text_request *request)
{
    int32_t exptime;
    if (!number_loose_u32(words->word[2], &request->client_flags) ||
        !number_loose_i32(words->word[3], &exptime))
        return false;
    request->exptime = exptime;
    if (request->command != COMMAND_CAS)
        return true;
    return number_u64(words->word[5], &request->cas);
}

static enum line_verdict read_storage(const struct words *words, const struct text_limits *limits,
                                      struct text_request *request)
{
    int32_t size;
    /* Without a length nobody knows what follows: nothing is skipped, and noreply does not hide it.
     */
    if (!number_i32(words->word[4], &size) || size < 0 || size > INT32_MAX - 2)
        return refuse(request, REPLY_BAD_FORMAT);
    request->value_size = (uint32_t)size;
    request->noreply = end_in_noreply(words);
    request->key = words->word[1];
    request->reply = REPLY_BAD_FORMAT;
    if (!is_key(request->key) || !read_storage_numbers(words, request))
        return LINE_SKIP;
    if (text_item_fits(limits->item_size_max, request->key.size, request->client_flags,
                       request->value_size))
        return LINE_GOOD;
    request->reply = REPLY_TOO_LARGE;
    return LINE_TOO_LARGE;
}

static_assert((int)LINE_WORDS_MAX >= (int)TEXT_WORDS_MAX, "the caller may see them");

enum { DELETE_WORDS_MAX = 4 }; /* delete key 0 noreply */

static enum line_verdict read_key_command(const struct words *words, struct text_request *request)
{
    int32_t exptime;
    request->noreply = end_in_noreply(words);
    request->key = words->word[1];
    if (!is_key(request->key))
        return refuse(request, REPLY_BAD_FORMAT);
    /* What follows the key of a delete does not matter: old clients send a 0. But for memccapable,
     * which wants more words than any client ever sent to be refused, as 1.6.18 did. */
    if (request->command == COMMAND_DELETE)
        return words->count <= DELETE_WORDS_MAX ? LINE_GOOD : refuse(request, REPLY_DELETE_USAGE);
    if (request->command == COMMAND_TOUCH) {
        if (!number_i32(words->word[2], &exptime))
            return refuse(request, REPLY_BAD_EXPTIME);
        request->exptime = exptime;
        return LINE_GOOD;
    }
    return number_u64(words->word[2], &request->delta) ? LINE_GOOD
                                                       : refuse(request, REPLY_BAD_DELTA);
}

static enum line_verdict read_flush_all(const struct words *words, struct text_request *request)
{
    int32_t delay;
    request->noreply = end_in_noreply(words);
    if (words->count == (request->noreply ? 2 : 1))
        return LINE_GOOD;
    if (!number_i32(words->word[1], &delay))
        return refuse(request, REPLY_BAD_EXPTIME);
    request->exptime = delay;
    return LINE_GOOD;
}

static enum line_verdict read_verbosity(const struct words *words, struct text_request *request)
{
    request->noreply = end_in_noreply(words);
    if (!number_u32(words->word[1], &request->level))
        return refuse(request, REPLY_BAD_FORMAT);
    return LINE_GOOD;
}

static enum line_verdict read_persist(const struct words *words, struct text_request *request)
{
    request->noreply = end_in_noreply(words);
    return words->count == (request->noreply ? 2 : 1) ? LINE_GOOD
                                                      : refuse(request, REPLY_BAD_FORMAT);
}

static enum line_verdict read_plain(const struct words *words, struct text_request *request)
{
    if (request->command == COMMAND_FLUSH_ALL)
        return read_flush_all(words, request);
    if (request->command == COMMAND_VERBOSITY)
        return read_verbosity(words, request);
    if (request->command == COMMAND_PERSIST)
        return read_persist(words, request);
    request->word_count = (uint32_t)(words->count < TEXT_WORDS_MAX ? words->count : TEXT_WORDS_MAX);
    for (uint32_t i = 0; i < TEXT_WORDS_MAX; i++) /* missing ones are empty */
        request->words[i] = words->word[i];
    return LINE_GOOD;
}

static enum line_verdict read_unknown(const struct words *words, struct text_request *request)
{
    if (words->count > 1 && words->last.size >= 5 && memcmp(words->last.data, "HTTP/", 5) == 0)
        return LINE_HTTP;
    request->noreply = end_in_noreply(words);
    return refuse(request, REPLY_ERROR);
}

enum line_verdict line_read(const struct words *words, const struct text_limits *limits,
                            struct text_request *request)
{
    if (request->command == COMMAND_COUNT)
        return read_unknown(words, request);
    if (words->count < command_words_min(request->command))
        return refuse(request, REPLY_BAD_FORMAT);
    switch (command_family(request->command)) {
    case FAMILY_VALUE:
        return read_storage(words, limits, request);
    case FAMILY_KEY:
        return read_key_command(words, request);
    case FAMILY_PLAIN:
    case FAMILY_ADMIN:
        return read_plain(words, request);
    case FAMILY_KEYS:
    case FAMILY_META:
        break;
    }
    assert(!"these are not read here");
    return LINE_REFUSED;
}
