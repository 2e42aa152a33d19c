/* login.h: the text protocol before authentication (-Y): `set KEY FLAGS EXPTIME SIZE` with `user
 * password` as its data block, and nothing else. Pure.
 *
 * Used as the text parser is, but the data block is part of the input: the caller's buffer holds
 * LOGIN_INPUT_SIZE_MIN bytes, which is all that a stranger can make us keep. */
#ifndef PROTO_LOGIN_H
#define PROTO_LOGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "proto/reply.h"

enum {
    LOGIN_LINE_SIZE_MAX = 2048,
    LOGIN_INPUT_SIZE_MIN = 16384,
    LOGIN_DATA_SIZE_MAX = LOGIN_INPUT_SIZE_MIN - 2, /* and its CRLF */
};

enum login_event {
    LOGIN_MORE,   /* nothing more to do with these bytes */
    LOGIN_TRY,    /* user and password: judge them and answer */
    LOGIN_ANSWER, /* answer `reply`: not that command, or a bad one */
    LOGIN_CLOSE,  /* after the answers that are due, close */
};

struct login_request {
    enum reply reply;
    bool closes;                 /* behind that answer */
    struct slice user, password; /* in the input, until it is consumed */
};

/* Nothing in it is for the caller. */
struct login_parser {
    uint8_t state; /* enum login_state in login.c */
    uint32_t scanned;
    uint32_t size; /* of the data block, without its CRLF */
};

void login_init(struct login_parser *parser);

enum login_event login_parse(struct login_parser *parser, struct slice input, size_t *consumed,
                             struct login_request *request);

#endif
