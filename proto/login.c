/*     LINE --- set k f e size ------> DATA --- size + 2 bytes there ---> LINE
 *       |                               LOGIN_TRY, or LOGIN_ANSWER where they end badly
 *       |--- any other line --------> LINE       LOGIN_ANSWER
 *       |--- size too large --------> ENDED      LOGIN_ANSWER, then LOGIN_CLOSE
 *       `--- no newline in sight ---> ENDED      LOGIN_CLOSE */
#include "proto/login.h"

#include "proto/number.h"

enum login_state { STATE_LINE, STATE_DATA, STATE_ENDED };

void login_init(struct login_parser *parser)
{
    *parser = (struct login_parser){.state = STATE_LINE};
}

/* The next word of `line`; empty at its end. */
static struct slice take_word(struct slice *line)
{
    const char *at = line->data, *end = at + line->size;
    while (at < end && *at == ' ')
        at++;
    const char *space = at < end ? memchr(at, ' ', (size_t)(end - at)) : NULL;
    const char *stop = space != NULL ? space : end;
    *line = slice_make(stop, (size_t)(end - stop));
    return slice_make(at, (size_t)(stop - at));
}

static enum login_event answer(struct login_request *request, enum reply reply)
{
    request->reply = reply;
    return LOGIN_ANSWER;
}

/* Key, flags and exptime may be anything. */
static enum login_event read_line(struct login_parser *parser, struct slice line,
                                  struct login_request *request)
{
    struct slice command = take_word(&line);
    for (int i = 0; i < 3; i++)
        (void)take_word(&line);
    struct slice size = take_word(&line);
    if (!slice_equal(command, slice_text("set")) || !number_u32(size, &parser->size))
        return answer(request, REPLY_UNAUTHENTICATED);
    if (parser->size > LOGIN_DATA_SIZE_MAX) {
        parser->state = STATE_ENDED;
        request->closes = true;
        return answer(request, REPLY_AUTH_TOO_LONG);
    }
    parser->state = STATE_DATA;
    return LOGIN_MORE;
}

static enum login_event step_line(struct login_parser *parser, struct slice input, size_t *used,
                                  struct login_request *request)
{
    const char *bytes = input.data;
    size_t window = input.size <= LOGIN_LINE_SIZE_MAX ? input.size : LOGIN_LINE_SIZE_MAX + 1;
    const char *newline = window > parser->scanned
                              ? memchr(bytes + parser->scanned, '\n', window - parser->scanned)
                              : NULL;
    if (newline == NULL) {
        parser->scanned = (uint32_t)window;
        if (window <= LOGIN_LINE_SIZE_MAX)
            return LOGIN_MORE;
        parser->state = STATE_ENDED;
        return LOGIN_CLOSE;
    }
    parser->scanned = 0;
    size_t size = (size_t)(newline - bytes);
    *used = size + 1;
    if (size > 0 && bytes[size - 1] == '\r')
        size--;
    return read_line(parser, slice_make(bytes, size), request);
}

/* The password is all that follows the first space: it may hold others. */
static enum login_event step_data(struct login_parser *parser, struct slice input, size_t *used,
                                  struct login_request *request)
{
    const char *data = input.data;
    if (input.size < (size_t)parser->size + 2)
        return LOGIN_MORE;
    *used = (size_t)parser->size + 2;
    parser->state = STATE_LINE;
    if (memcmp(data + parser->size, "\r\n", 2) != 0)
        return answer(request, REPLY_BAD_AUTH_END);
    struct slice rest = slice_make(data, parser->size);
    request->user = take_word(&rest);
    if (request->user.size == 0 || rest.size < 2)
        return answer(request, REPLY_BAD_AUTH_FORMAT);
    request->password = slice_make((const char *)rest.data + 1, rest.size - 1);
    return LOGIN_TRY;
}

static enum login_event step(struct login_parser *parser, struct slice input, size_t *used,
                             struct login_request *request)
{
    switch ((enum login_state)parser->state) {
    case STATE_LINE:
        return step_line(parser, input, used, request);
    case STATE_DATA:
        return step_data(parser, input, used, request);
    case STATE_ENDED:
        break;
    }
    return LOGIN_CLOSE;
}

enum login_event login_parse(struct login_parser *parser, struct slice input, size_t *consumed,
                             struct login_request *request)
{
    *consumed = 0;
    for (;;) {
        size_t used = 0;
        *request = (struct login_request){.reply = REPLY_COUNT};
        if (*consumed == input.size)
            return parser->state == STATE_ENDED ? LOGIN_CLOSE : LOGIN_MORE;
        struct slice rest =
            slice_make((const char *)input.data + *consumed, input.size - *consumed);
        enum login_event event = step(parser, rest, &used, request);
        *consumed += used;
        if (event != LOGIN_MORE || used == 0)
            return event;
    }
}
