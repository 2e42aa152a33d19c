/* The parser's states. Only set_state() writes the state.
 *
 *     HEADER __ 24 bytes, good __> BODY __ extras and key there __> HEADER        (no value)
 *       |  \                        |  \__ a value __> VALUE __ all taken __> HEADER
 *       |   \__ refused __> SKIP <__/__ too large      |
 *       |                    ^  \______________________/__ binary_value_refuse
 *       |                    \__ all bytes skipped __> HEADER, or CLOSED
 *       \__ bad magic __> CLOSED
 *
 * The header is read once, when it is complete, and its 24 bytes are consumed at once. */
#include "proto/binary.h"

#include <assert.h>

#include "proto/text.h"

enum binary_state {
    STATE_HEADER,
    STATE_BODY,
    STATE_VALUE,
    STATE_SKIP,
    STATE_CLOSED,
};

enum key_rule { KEY_NO, KEY_YES, KEY_MAY };
enum { LOUD, QUIET, CLOSED = 0, OPEN = 1 };

struct row {
    bool known, quiet, with_key, value, open;
    uint8_t base;
    uint8_t extras, extras_or;
    enum key_rule key;
};

static const struct row rows[256] = {
#define OPCODE(number, name, base_name, is_loud, key_back, extras_size, extras_size_or, key_is,    \
               has_value, is_open)                                                                 \
    [number] = {.known = true,                                                                     \
                .quiet = is_loud,                                                                  \
                .with_key = key_back,                                                              \
                .value = has_value,                                                                \
                .open = is_open,                                                                   \
                .base = BINARY_##base_name,                                                        \
                .extras = extras_size,                                                             \
                .extras_or = extras_size_or,                                                       \
                .key = KEY_##key_is},
#include "proto/binary_opcode.def"
#undef OPCODE
};

/* Offsets in the header. */
enum {
    AT_OPCODE = 1,
    AT_KEY_SIZE = 2,
    AT_EXTRAS_SIZE = 4,
    AT_BODY_SIZE = 8,
    AT_OPAQUE = 12,
    AT_CAS = 16
};

static uint64_t read_number(const uint8_t *at, unsigned size)
{
    uint64_t number = 0;
    for (unsigned i = 0; i < size; i++)
        number = number << 8 | at[i];
    return number;
}

static uint32_t read_u32(const uint8_t *at)
{
    return (uint32_t)read_number(at, 4);
}

static void set_state(struct binary_parser *parser, enum binary_state state)
{
    assert(parser->state != STATE_CLOSED);
    parser->state = (uint8_t)state;
}

void binary_init(struct binary_parser *parser)
{
    *parser = (struct binary_parser){.state = STATE_HEADER};
}

static bool is_sasl(uint8_t base)
{
    return base == BINARY_SASL_AUTH || base == BINARY_SASL_STEP;
}

/* ---- refusing ---- */

/* The next event will be the refusal, `size` bytes later. */
static void skip(struct binary_parser *parser, uint32_t size, enum binary_status status,
                 bool closes)
{
    set_state(parser, STATE_SKIP);
    parser->left = size;
    parser->status = (uint8_t)status;
    parser->closes = closes;
}

static enum binary_event step_skip(struct binary_parser *parser, struct slice input, size_t *used,
                                   struct binary_request *request)
{
    *used = input.size < parser->left ? input.size : parser->left;
    parser->left -= (uint32_t)*used;
    if (parser->left > 0)
        return BINARY_MORE;
    set_state(parser, parser->closes ? STATE_CLOSED : STATE_HEADER);
    request->status = (enum binary_status)parser->status;
    request->closes = parser->closes;
    return BINARY_ERROR;
}

/* ---- header ---- */

static bool lengths_fit(const struct row *row, uint32_t extras, uint32_t key, uint32_t body)
{
    if (extras != row->extras && extras != row->extras_or)
        return false;
    if ((row->key == KEY_YES && key == 0) || (row->key == KEY_NO && key > 0))
        return false;
    return row->value || body == extras + key;
}

/* Looks at the lengths before a byte of the body is taken. What is refused is answered when
 * memcached would: with extras and key behind, where it closes; else with the whole body behind. */
static void read_lengths(struct binary_parser *parser, const struct binary_limits *limits,
                         uint32_t extras, uint32_t key, uint32_t body)
{
    const struct row *row = &rows[parser->tag.opcode];
    if (extras + key > body)
        skip(parser, extras + key, BINARY_STATUS_UNKNOWN_COMMAND, true);
    else if (body > BINARY_BODY_SIZE_MAX)
        skip(parser, 0, BINARY_STATUS_INVALID, true);
    else if (limits->locked && !row->open)
        skip(parser, extras + key, BINARY_STATUS_AUTH_ERROR, true);
    else if (key > BINARY_KEY_SIZE_MAX)
        skip(parser, extras + key, BINARY_STATUS_INVALID, true);
    else if (!row->known)
        skip(parser, body, BINARY_STATUS_UNKNOWN_COMMAND, false);
    else if (!lengths_fit(row, extras, key, body))
        skip(parser, extras + key, BINARY_STATUS_INVALID, true);
    else if (!limits->sasl && (is_sasl(row->base) || row->base == BINARY_SASL_LIST_MECHS))
        skip(parser, body, BINARY_STATUS_UNKNOWN_COMMAND, false);
    else
        set_state(parser, STATE_BODY);
}

static enum binary_event step_header(struct binary_parser *parser,
                                     const struct binary_limits *limits, struct slice input,
                                     size_t *used)
{
    const uint8_t *header = input.data;
    if (header[0] != BINARY_MAGIC_REQUEST) {
        *used = input.size;
        set_state(parser, STATE_CLOSED);
        return BINARY_CLOSE;
    }
    if (input.size < BINARY_HEADER_SIZE)
        return BINARY_MORE;
    *used = BINARY_HEADER_SIZE;
    const struct row *row = &rows[header[AT_OPCODE]];
    parser->tag = (struct binary_tag){
        .opcode = header[AT_OPCODE], .quiet = row->quiet, .with_key = row->with_key};
    memcpy(&parser->tag.opaque, header + AT_OPAQUE, sizeof(parser->tag.opaque));
    parser->cas = read_number(header + AT_CAS, 8);
    uint32_t extras = header[AT_EXTRAS_SIZE];
    uint32_t key = (uint32_t)read_number(header + AT_KEY_SIZE, 2);
    uint32_t body = read_u32(header + AT_BODY_SIZE);
    parser->extras_size = (uint8_t)extras;
    parser->key_size = (uint16_t)key;
    read_lengths(parser, limits, extras, key, body);
    if (parser->state == STATE_BODY)
        parser->left = body - extras - key;
    return BINARY_MORE;
}

/* ---- extras and key ---- */

static void read_extras(const uint8_t *extras, struct binary_request *request)
{
    switch ((int)request->base) {
    case BINARY_SET:
    case BINARY_ADD:
    case BINARY_REPLACE:
        request->client_flags = read_u32(extras);
        request->exptime = read_u32(extras + 4);
        break;
    case BINARY_INCREMENT:
    case BINARY_DECREMENT:
        request->delta = read_number(extras, 8);
        request->initial = read_number(extras + 8, 8);
        request->exptime = read_u32(extras + 16);
        break;
    case BINARY_TOUCH:
    case BINARY_GAT:
        request->exptime = read_u32(extras);
        break;
    }
}

/* BINARY_STATUS_OK: the value may come. */
static enum binary_status judge_value(const struct binary_parser *parser,
                                      const struct binary_limits *limits,
                                      const struct binary_request *request)
{
    if (!is_sasl((uint8_t)request->base))
        return text_item_fits(limits->item_size_max, request->key.size, request->client_flags,
                              parser->left)
                   ? BINARY_STATUS_OK
                   : BINARY_STATUS_TOO_LARGE;
    if (request->key.size > BINARY_MECHANISM_SIZE_MAX)
        return BINARY_STATUS_INVALID;
    return parser->left <= BINARY_SASL_SIZE_MAX ? BINARY_STATUS_OK : BINARY_STATUS_NO_MEMORY;
}

static enum binary_event begin_value(struct binary_parser *parser,
                                     const struct binary_limits *limits,
                                     struct binary_request *request)
{
    enum binary_status status = judge_value(parser, limits, request);
    request->value_size = parser->left;
    if (status == BINARY_STATUS_OK) {
        set_state(parser, STATE_VALUE);
        return BINARY_VALUE;
    }
    skip(parser, parser->left, status, false);
    if (status != BINARY_STATUS_TOO_LARGE || request->base != BINARY_SET)
        return BINARY_MORE;
    request->base = BINARY_DELETE;
    request->cas = 0;
    request->tag.quiet = true;
    request->replaced_by_too_large = true;
    return BINARY_REQUEST;
}

static enum binary_event step_body(struct binary_parser *parser, const struct binary_limits *limits,
                                   struct slice input, size_t *used, struct binary_request *request)
{
    const struct row *row = &rows[parser->tag.opcode];
    const uint8_t *extras = input.data;
    size_t size = (size_t)parser->extras_size + parser->key_size;
    if (input.size < size)
        return BINARY_MORE;
    *used = size;
    request->base = (enum binary_opcode)row->base;
    request->cas = parser->cas;
    request->key = slice_make(size > 0 ? extras + parser->extras_size : NULL, parser->key_size);
    if (request->base == BINARY_FLUSH && parser->extras_size > 0)
        request->exptime = read_u32(extras);
    else if (parser->extras_size > 0)
        read_extras(extras, request);
    if (row->value)
        return begin_value(parser, limits, request);
    set_state(parser, STATE_HEADER);
    return BINARY_REQUEST;
}

/* ---- values ---- */

uint32_t binary_value_left(const struct binary_parser *parser)
{
    return parser->state == STATE_VALUE ? parser->left : 0;
}

void binary_value_taken(struct binary_parser *parser, uint32_t size)
{
    assert(parser->state == STATE_VALUE);
    assert(size <= parser->left);
    parser->left -= size;
}

void binary_value_refuse(struct binary_parser *parser, enum binary_status status)
{
    assert(parser->state == STATE_VALUE);
    skip(parser, parser->left, status, false);
}

/* ---- the whole ---- */

static enum binary_event step(struct binary_parser *parser, const struct binary_limits *limits,
                              struct slice input, size_t *used, struct binary_request *request)
{
    switch ((enum binary_state)parser->state) {
    case STATE_HEADER:
        return input.size > 0 ? step_header(parser, limits, input, used) : BINARY_MORE;
    case STATE_BODY:
        return step_body(parser, limits, input, used, request);
    case STATE_VALUE:
        assert(parser->left == 0);
        set_state(parser, STATE_HEADER);
        return BINARY_VALUE_END;
    case STATE_SKIP:
        return step_skip(parser, input, used, request);
    case STATE_CLOSED:
        break;
    }
    return BINARY_CLOSE;
}

enum binary_event binary_parse(struct binary_parser *parser, const struct binary_limits *limits,
                               struct slice input, size_t *consumed, struct binary_request *request)
{
    *consumed = 0;
    for (;;) {
        size_t used = 0;
        uint8_t state = parser->state;
        struct slice rest =
            slice_make(input.size > 0 ? (const uint8_t *)input.data + *consumed : NULL,
                       input.size - *consumed);
        *request = (struct binary_request){.tag = parser->tag};
        enum binary_event event = step(parser, limits, rest, &used, request);
        if (state == STATE_HEADER)
            request->tag = parser->tag;
        *consumed += used;
        /* A step that says nothing, used nothing and leads nowhere waits for bytes. */
        if (event != BINARY_MORE || (used == 0 && parser->state == state))
            return event;
    }
}

bool binary_between_requests(const struct binary_parser *parser, struct slice unconsumed)
{
    return parser->state == STATE_HEADER && unconsumed.size == 0;
}

/* ---- statuses ---- */

static const struct {
    uint16_t number;
    struct slice text;
} statuses[BINARY_STATUS_COUNT] = {
#define BINARY_STATUS(number, name, text) {number, {text, sizeof(text) - 1}},
#include "proto/binary_status.def"
#undef BINARY_STATUS
};

uint16_t binary_status_number(enum binary_status status)
{
    assert(status < BINARY_STATUS_COUNT);
    return statuses[status].number;
}

struct slice binary_status_text(enum binary_status status)
{
    assert(status < BINARY_STATUS_COUNT);
    return statuses[status].text;
}
