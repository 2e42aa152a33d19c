/* The parser's states. Only set_state() writes the state.
 *
 *              short line of keys, or the beginning of a long one
 *     LINE ---------------------------------------------------------> KEYS ----> LINE, or SKIP_LINE
 * -> LINE | \__ storage command __> VALUE __ all bytes taken, CRLF or not __> LINE | |
 * text_value_refuse
 *      |___ refused one _________> SKIP __ all bytes swallowed __> LINE
 *      |___ quit, HTTP, a line without end __> CLOSED
 *
 * A list of keys may have any length. If the line is no longer than other lines may be, all its
 * keys are looked at before the first is given, so that a bad key yields one error line and nothing
 * else. In a longer one the keys before the bad one have been given already. Which of the two it is
 * depends on the bytes only, not on how they came. */
#include "proto/text.h"

#include <assert.h>

#include "proto/number.h"
#include "proto/text_line.h"

enum text_state {
    STATE_LINE,
    STATE_KEYS,
    STATE_VALUE,
    STATE_SKIP,
    STATE_SKIP_LINE,
    STATE_CLOSED,
};

static void set_state(struct text_parser *parser, enum text_state state)
{
    assert(parser->state != STATE_CLOSED);
    parser->state = (uint8_t)state;
    parser->scanned = 0;
}

void text_init(struct text_parser *parser)
{
    *parser = (struct text_parser){.state = STATE_LINE};
}

static struct slice from(struct slice input, size_t at)
{
    return slice_make((const char *)input.data + at, input.size - at);
}

static enum text_event close_now(struct text_parser *parser)
{
    set_state(parser, STATE_CLOSED);
    return TEXT_CLOSE;
}

static enum text_event answer(struct text_request *request, enum reply reply)
{
    request->reply = reply;
    return request->noreply ? TEXT_MORE : TEXT_ERROR;
}

/* All but words, which word_count counts, and what belongs to meta, which meta_read() fills in. */
static void clear(struct text_request *request)
{
    memset(request, 0, offsetof(struct text_request, words));
    request->command = COMMAND_COUNT;
}

static void skip_block(struct text_parser *parser, uint64_t size, enum reply reply)
{
    set_state(parser, STATE_SKIP);
    parser->left = size;
    parser->reply = reply;
}

/* ---- lists of keys ---- */

static enum text_event begin_keys(struct text_parser *parser, enum command command, int64_t exptime)
{
    set_state(parser, STATE_KEYS);
    parser->command = command;
    parser->exptime = exptime;
    parser->key_given = false;
    return TEXT_MORE;
}

static bool takes_exptime(enum command command)
{
    return command == COMMAND_GAT || command == COMMAND_GATS;
}

static size_t count_spaces(struct slice text)
{
    const char *bytes = text.data;
    size_t count = 0;
    while (count < text.size && bytes[count] == ' ')
        count++;
    return count;
}

/* Where the word that begins at `at` ends. */
static size_t word_end(struct slice text, size_t at)
{
    const char *space = memchr((const char *)text.data + at, ' ', text.size - at);
    return space != NULL ? (size_t)(space - (const char *)text.data) : text.size;
}

static bool all_are_keys(struct slice keys)
{
    size_t at = 0;
    while (at < keys.size) {
        size_t start = at + count_spaces(from(keys, at));
        at = word_end(keys, start);
        if (at - start > TEXT_KEY_SIZE_MAX)
            return false;
    }
    return true;
}

/* A whole line: uses what stands before its first key. `*used` is the whole line when this is
 * called. */
static enum text_event read_keys_line(struct text_parser *parser, struct slice line, size_t *used,
                                      struct text_request *request)
{
    struct words words;
    int32_t exptime = 0;
    words_split(&words, line);
    if (words.count < command_words_min(request->command))
        return answer(request, REPLY_BAD_FORMAT);
    bool touches = takes_exptime(request->command);
    if (touches && !number_i32(words.word[1], &exptime))
        return answer(request, REPLY_BAD_EXPTIME);
    struct slice first = words.word[touches ? 2 : 1];
    size_t begin = (size_t)((const char *)first.data - (const char *)line.data);
    if (line.size > TEXT_KEY_SIZE_MAX && !all_are_keys(from(line, begin)))
        return answer(request, REPLY_BAD_FORMAT);
    *used = begin;
    return begin_keys(parser, request->command, exptime);
}

/* `beginning` is too long for a line and has no newline. Only a list of keys may be that long. */
static enum text_event begin_long_line(struct text_parser *parser, struct slice beginning,
                                       size_t *used, struct text_request *request)
{
    int32_t exptime = 0;
    size_t end = word_end(beginning, 0);
    enum command command = command_find(slice_make(beginning.data, end));
    if (end == beginning.size || command == COMMAND_COUNT || command_family(command) != FAMILY_KEYS)
        return close_now(parser);
    if (takes_exptime(command)) {
        size_t start = end + count_spaces(from(beginning, end));
        end = word_end(beginning, start);
        if (end == beginning.size)
            return close_now(parser);
        *used = end;
        if (!number_i32(slice_make((const char *)beginning.data + start, end - start), &exptime)) {
            set_state(parser, STATE_SKIP_LINE);
            return answer(request, REPLY_BAD_EXPTIME);
        }
    }
    *used = end;
    return begin_keys(parser, command, exptime);
}

static enum text_event end_keys(struct text_parser *parser, struct text_request *request)
{
    request->command = parser->command;
    set_state(parser, STATE_LINE);
    return parser->key_given ? TEXT_KEYS_END : answer(request, REPLY_BAD_FORMAT);
}

static enum text_event refuse_key(struct text_parser *parser, struct text_request *request)
{
    set_state(parser, STATE_SKIP_LINE);
    return answer(request, REPLY_BAD_FORMAT);
}

static enum text_event give_key(struct text_parser *parser, struct slice key,
                                struct text_request *request)
{
    parser->key_given = true;
    parser->scanned = 0;
    request->command = parser->command;
    request->exptime = parser->exptime;
    request->key = key;
    return TEXT_KEY;
}

/* Bytes before the space or newline that ends the key, or `window` when it is not among the first
 * `window` bytes. */
static size_t find_key_end(const char *bytes, size_t from_byte, size_t window)
{
    size_t at = from_byte;
    while (at < window && bytes[at] != ' ' && bytes[at] != '\n')
        at++;
    return at;
}

static enum text_event step_keys(struct text_parser *parser, struct slice input, size_t *used,
                                 struct text_request *request)
{
    /* The longest key, the CR that may belong to the line's end, and the byte that ends it. */
    enum { WINDOW_MAX = TEXT_KEY_SIZE_MAX + 2 };
    size_t spaces = count_spaces(input);
    struct slice text = from(input, spaces);
    const char *bytes = text.data;
    size_t window = text.size < WINDOW_MAX ? text.size : WINDOW_MAX;
    size_t size = find_key_end(bytes, parser->scanned, window);
    *used = spaces;
    if (size == window) {
        if (window == WINDOW_MAX)
            return refuse_key(parser, request);
        parser->scanned = (uint32_t)window;
        return TEXT_MORE;
    }
    size_t key_size = bytes[size] == '\n' && size > 0 && bytes[size - 1] == '\r' ? size - 1 : size;
    if (key_size > TEXT_KEY_SIZE_MAX)
        return refuse_key(parser, request);
    /* The newline is used by itself, in the next step. */
    *used += key_size > 0 ? key_size : size + 1;
    if (key_size == 0)
        return end_keys(parser, request);
    return give_key(parser, slice_make(bytes, key_size), request);
}

/* ---- other lines
 * -----------------------------------------------------------------------------------------------
 */

/* A set that is too large must not leave the old value: the caller deletes it first, without an
 * answer. */
static enum text_event skip_too_large(struct text_parser *parser, struct text_request *request)
{
    skip_block(parser, (uint64_t)request->value_size + 2, request->reply);
    if (request->command != COMMAND_SET && request->command != COMMAND_MS)
        return TEXT_MORE;
    struct slice key = request->key;
    clear(request);
    request->command = COMMAND_DELETE;
    request->noreply = request->replaced_by_too_large = true;
    request->key = key;
    return TEXT_REQUEST;
}

static enum text_event accept_line(struct text_parser *parser, struct text_request *request)
{
    if (request->command == COMMAND_QUIT)
        set_state(parser, STATE_CLOSED);
    if (command_family(request->command) != FAMILY_VALUE && request->command != COMMAND_MS)
        return TEXT_REQUEST;
    set_state(parser, STATE_VALUE);
    parser->left = request->value_size;
    return TEXT_VALUE;
}

static enum text_event read_line(struct text_parser *parser, const struct text_limits *limits,
                                 struct slice line, struct text_request *request)
{
    enum line_verdict verdict;
    if (request->command != COMMAND_COUNT && command_family(request->command) == FAMILY_META) {
        verdict = meta_read(line, limits, request);
    } else {
        struct words words;
        words_split(&words, line);
        verdict = line_read(&words, limits, request);
    }
    parser->noreply = request->noreply;
    switch (verdict) {
    case LINE_GOOD:
        return accept_line(parser, request);
    case LINE_REFUSED:
        return answer(request, request->reply);
    case LINE_SKIP:
        skip_block(parser, (uint64_t)request->value_size + 2, request->reply);
        return TEXT_MORE;
    case LINE_TOO_LARGE:
        return skip_too_large(parser, request);
    case LINE_HTTP:
        break;
    }
    return close_now(parser);
}

static enum text_event step_line(struct text_parser *parser, const struct text_limits *limits,
                                 struct slice input, size_t *used, struct text_request *request)
{
    enum { WINDOW_MAX = TEXT_LINE_SIZE_MAX + 1, LINE_SIZE_MIN = 3 };
    size_t window = input.size < WINDOW_MAX ? input.size : WINDOW_MAX;
    const char *bytes = input.data;
    const char *newline = window > parser->scanned
                              ? memchr(bytes + parser->scanned, '\n', window - parser->scanned)
                              : NULL;
    if (newline == NULL) {
        parser->scanned = (uint32_t)window;
        return window < WINDOW_MAX
                   ? TEXT_MORE
                   : begin_long_line(parser, slice_make(bytes, window), used, request);
    }
    parser->scanned = 0;
    size_t size = (size_t)(newline - bytes);
    *used = size + 1;
    /* The shortest line is two letters and CRLF; with a bare newline, three letters. memcached has
     * it so. */
    if (size < LINE_SIZE_MIN)
        return answer(request, REPLY_BAD_FORMAT);
    struct slice line = slice_make(bytes, bytes[size - 1] == '\r' ? size - 1 : size);
    request->command = command_find(slice_make(bytes, word_end(line, 0)));
    if (request->command != COMMAND_COUNT && command_family(request->command) == FAMILY_KEYS)
        return read_keys_line(parser, line, used, request);
    return read_line(parser, limits, line, request);
}

/* ---- data blocks and what is thrown away ---- */

uint32_t text_value_left(const struct text_parser *parser)
{
    return parser->state == STATE_VALUE ? (uint32_t)parser->left : 0;
}

void text_value_taken(struct text_parser *parser, uint32_t size)
{
    assert(parser->state == STATE_VALUE);
    assert(size <= parser->left);
    parser->left -= size;
}

void text_value_refuse(struct text_parser *parser, enum reply reply)
{
    assert(parser->state == STATE_VALUE);
    skip_block(parser, parser->left + 2, reply);
}

static enum text_event step_value(struct text_parser *parser, struct slice input, size_t *used,
                                  struct text_request *request)
{
    assert(parser->left == 0);
    if (input.size < 2)
        return TEXT_MORE;
    *used = 2;
    set_state(parser, STATE_LINE);
    request->noreply = parser->noreply;
    if (memcmp(input.data, "\r\n", 2) == 0)
        return TEXT_VALUE_END;
    request->reply = REPLY_BAD_CHUNK;
    return TEXT_VALUE_BAD;
}

static enum text_event step_skip(struct text_parser *parser, struct slice input, size_t *used,
                                 struct text_request *request)
{
    *used = input.size < parser->left ? input.size : (size_t)parser->left;
    parser->left -= *used;
    if (parser->left > 0)
        return TEXT_MORE;
    set_state(parser, STATE_LINE);
    request->noreply = parser->noreply;
    return answer(request, parser->reply);
}

static enum text_event step_skip_line(struct text_parser *parser, struct slice input, size_t *used)
{
    const char *newline = input.size > 0 ? memchr(input.data, '\n', input.size) : NULL;
    *used = newline != NULL ? (size_t)(newline - (const char *)input.data) + 1 : input.size;
    if (newline != NULL)
        set_state(parser, STATE_LINE);
    return TEXT_MORE;
}

static enum text_event step(struct text_parser *parser, const struct text_limits *limits,
                            struct slice input, size_t *used, struct text_request *request)
{
    switch ((enum text_state)parser->state) {
    case STATE_LINE:
        return step_line(parser, limits, input, used, request);
    case STATE_KEYS:
        return step_keys(parser, input, used, request);
    case STATE_VALUE:
        return step_value(parser, input, used, request);
    case STATE_SKIP:
        return step_skip(parser, input, used, request);
    case STATE_SKIP_LINE:
        return step_skip_line(parser, input, used);
    case STATE_CLOSED:
        break;
    }
    return TEXT_CLOSE;
}

enum text_event text_parse(struct text_parser *parser, const struct text_limits *limits,
                           struct slice input, size_t *consumed, struct text_request *request)
{
    *consumed = 0;
    for (;;) {
        size_t used = 0;
        if (*consumed == input.size)
            return parser->state == STATE_CLOSED ? TEXT_CLOSE : TEXT_MORE;
        clear(request);
        enum text_event event = step(parser, limits, from(input, *consumed), &used, request);
        *consumed += used;
        /* A step that says nothing and used nothing waits for bytes. */
        if (event != TEXT_MORE || used == 0)
            return event;
    }
}

bool text_between_commands(const struct text_parser *parser, struct slice unconsumed)
{
    return parser->state == STATE_LINE && unconsumed.size == 0;
}
