/* text.h: memcached's text protocol, classic and meta, from bytes to requests. One parser for each
 * connection. Pure.
 *
 * The caller owns a buffer of at least TEXT_INPUT_SIZE_MIN bytes. In a loop it calls text_parse
 * with all bytes that it has not consumed yet, handles the event, and drops `consumed` bytes;
 * slices of the request point into the input and are good until then. On TEXT_MORE it drops them,
 * reads and calls again. The events depend on the bytes only, never on how they were cut into
 * pieces. Answers are those of memcached 1.6.45.
 *
 * A command that must not be answered (`noreply`) and is refused by the parser yields no event.
 *
 * Data blocks are not read here. After TEXT_VALUE:
 *
 *     while ((left = text_value_left(parser)) > 0) {
 *         take up to `left` bytes, from the rest of the input or straight from the socket;
 *         text_value_taken(parser, count);
 *     }
 *     text_parse(...) -> TEXT_VALUE_END: the block was good, execute the command (the key was
 * copied before); TEXT_VALUE_BAD: forget the command, the old value stays
 *
 * A connection that ends before TEXT_VALUE_END has stored nothing. */
#ifndef PROTO_TEXT_H
#define PROTO_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "proto/command.h"
#include "proto/meta.h"
#include "proto/reply.h"

enum {
    TEXT_KEY_SIZE_MAX = 250,
    TEXT_LINE_SIZE_MAX =
        2048, /* without the newline; lines of get, gets, gat and gats have no limit */
    TEXT_INPUT_SIZE_MIN = 2 * TEXT_LINE_SIZE_MAX,
    TEXT_WORDS_MAX = 8, /* words of a line that the caller may see: stats and its arguments, and the
                           family ADMIN */
    TEXT_EXPIRED = 1,   /* a time in the past, see text_expire_at */
};

enum text_event {
    TEXT_MORE,      /* nothing more to do with these bytes */
    TEXT_REQUEST,   /* a command without a data block: request->command of the families KEY, PLAIN,
                     * ADMIN and META
                     */
    TEXT_KEY,       /* one key of get, gets, gat or gats */
    TEXT_KEYS_END,  /* the last key of that line was given: answer END */
    TEXT_VALUE,     /* a storage command, or ms; its data block follows */
    TEXT_VALUE_END, /* its data block is complete and ended in CRLF; `request` is not filled in */
    TEXT_VALUE_BAD, /* it did not end in CRLF: drop it, and answer request->reply unless
                       request->noreply */
    TEXT_ERROR,     /* answer request->reply; the parser goes on behind the bad command */
    TEXT_CLOSE,     /* after the answers that are due, close; nothing more will be parsed */
};

struct text_limits {
    uint32_t item_size_max; /* -I: see text_item_fits */
};

struct text_request {
    enum command command;
    enum reply reply; /* TEXT_ERROR, TEXT_VALUE_BAD */
    bool noreply;
    /* TEXT_REQUEST, COMMAND_DELETE with noreply: not a client's delete but the first half of
     * refusing a `set` or `ms` that is too large, whose old value must go. TEXT_ERROR follows when
     * its data block was skipped. */
    bool replaced_by_too_large;
    struct slice key;
    uint32_t client_flags;
    uint32_t value_size;
    int64_t exptime; /* gat gats set ... touch: as given, for text_expire_at. flush_all: its delay,
                        0 if none */
    uint64_t cas;    /* COMMAND_CAS */
    uint64_t delta;  /* incr, decr */
    uint32_t level;  /* verbosity */
    /* stats and ADMIN: words[0] is the command, the rest its arguments; words over TEXT_WORDS_MAX
     * are dropped, missing ones are empty. Filled in for these only: clearing it for others would
     * cost as much as reading a get. */
    uint32_t word_count;
    struct slice words[TEXT_WORDS_MAX];
    /* Only of the family META. A key that came in base64 lies in key_memory. */
    struct meta meta;
    char key_memory[META_KEY_RAW_SIZE_MAX];
};

/* Nothing in it is for the caller. */
struct text_parser {
    uint8_t state; /* enum text_state in text.c */
    bool noreply;
    bool key_given;   /* in a list of keys */
    uint32_t scanned; /* bytes at the start of the input in which the end of the line or key was not
                         found */
    uint64_t left;    /* of a data block: bytes to take, or bytes to swallow, these with the CRLF */
    enum reply reply; /* the answer when they are swallowed */
    enum command command;
    int64_t exptime;
};

void text_init(struct text_parser *parser);

/* One event. `input` begins where the last call's `*consumed` ended (bytes taken as a value do not
 * count as input). Must not be called while text_value_left() > 0. */
enum text_event text_parse(struct text_parser *parser, const struct text_limits *limits,
                           struct slice input, size_t *consumed, struct text_request *request);

/* Bytes of the data block that the caller has not taken yet. */
uint32_t text_value_left(const struct text_parser *parser);
void text_value_taken(struct text_parser *parser, uint32_t size);

/* Between TEXT_VALUE and TEXT_VALUE_END: the caller will not have this value (no memory, not
 * serving). The rest is swallowed; then TEXT_ERROR with `reply`, or nothing after noreply. */
void text_value_refuse(struct text_parser *parser, enum reply reply);

/* False in the middle of a line, a list of keys or a data block: here the connection may be ended
 * or handed on. */
bool text_between_commands(const struct text_parser *parser, struct slice unconsumed);

/* base/item.h */
bool text_item_fits(uint32_t item_size_max, size_t key_size, uint32_t client_flags,
                    uint64_t value_size);

/* The same sum: what memcached would need for the item. */
uint64_t text_item_size(size_t key_size, uint32_t client_flags, uint64_t value_size);

/* The second at which an item is gone, `now` being the wall clock in seconds. 0: never.
 * TEXT_EXPIRED: gone at once (it is stored all the same). Up to 30 days `exptime` is relative,
 * above it is a Unix time. */
uint32_t text_expire_at(int64_t exptime, uint32_t now);

#endif
