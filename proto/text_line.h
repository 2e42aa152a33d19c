/* text_line.h: one command line of the text protocol that is not a list of keys. For text.c.
 * Pure. */
#ifndef PROTO_TEXT_LINE_H
#define PROTO_TEXT_LINE_H

#include "proto/text.h"

enum { LINE_WORDS_MAX = 8 };

/* The words of a line. Only spaces part them. */
struct words {
    struct slice word[LINE_WORDS_MAX]; /* the first ones; missing ones are empty */
    struct slice last;
    size_t count; /* all of them */
};

void words_split(struct words *words, struct slice line);

enum line_verdict {
    LINE_GOOD,
    LINE_REFUSED,   /* request->reply says why */
    LINE_SKIP,      /* the same, and a data block of request->value_size bytes follows */
    LINE_TOO_LARGE, /* LINE_SKIP, and a set's old value has to go */
    LINE_HTTP,      /* somebody's browser: nothing may be answered */
};

/* Fills in `request`, whose command is set: COMMAND_COUNT or one of the families VALUE, KEY,
 * PLAIN. */
enum line_verdict line_read(const struct words *words, const struct text_limits *limits,
                            struct text_request *request);

/* The same for the family META, from the whole line. meta.c */
enum line_verdict meta_read(struct slice line, const struct text_limits *limits,
                            struct text_request *request);

#endif
