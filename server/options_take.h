/* options_take.h: the takers of option.def: what becomes of an option's argument. Each macro fills
 * in the last fields of a struct option_row. */
#ifndef SERVER_OPTIONS_TAKE_H
#define SERVER_OPTIONS_TAKE_H

#include "server/options_private.h"

#define TAKER(name)                                                                                \
    bool options_take_##name(struct parse *parse, const struct option_row *row, const char *text)
TAKER(switch);
TAKER(count);
TAKER(text);
TAKER(number);
TAKER(megabytes);
TAKER(size);
TAKER(choice);
TAKER(ignored);
TAKER(ignored_number);
TAKER(ignored_choice);
TAKER(missing);
TAKER(answer);
/* options_listen.c */
TAKER(port);
TAKER(udp_port);
TAKER(listen);
TAKER(unix_path);
TAKER(unix_mask);
TAKER(key_format);
/* options_group.c: those with a shape of their own */
TAKER(delimiter);
TAKER(node);
TAKER(peers);
TAKER(data);
TAKER(segment);
TAKER(persistency);
TAKER(recovery);
TAKER(secret);
TAKER(force);
TAKER(extended); /* options.c: a list of other rows */

/* The offset of a field, which must be of this type. */
#define FIELD(field, type)                                                                         \
    (offsetof(struct options, field) + 0 * sizeof((type *)0 == &((struct options *)0)->field))

#define BY(name) .take = options_take_##name
#define SWITCH(field) .take = options_take_switch, .at = FIELD(field, bool)
#define COUNT(field) .take = options_take_count, .at = FIELD(field, uint32_t)
#define TEXT(field) .take = options_take_text, .at = FIELD(field, const char *)
#define NUMBER(field, least, most)                                                                 \
    .take = options_take_number, .at = FIELD(field, uint32_t), .min = (least), .max = (most)
#define MEGABYTES(field, least, most)                                                              \
    .take = options_take_megabytes, .at = FIELD(field, uint64_t), .min = (least), .max = (most)
/* With k or m behind the number; `text` says so to people. */
#define SIZE(field, least, most, text)                                                             \
    .take = options_take_size, .at = FIELD(field, uint32_t), .min = (least), .max = (most),        \
    .allowed = (text)
/* One of the words in the column `argument`; the field gets its number. */
#define CHOICE(field) .take = options_take_choice, .at = FIELD(field, uint32_t)

/* No meaning here; the help says why. */
#define IGNORED .take = options_take_ignored, .ignored = true
/* The same, but a number between (not at) these borders is asked for, perhaps with a fraction. */
#define IGNORED_NUMBER(above, below)                                                               \
    .take = options_take_ignored_number, .ignored = true, .min = (above), .max = (below)
#define IGNORED_CHOICE .take = options_take_ignored_choice, .ignored = true

/* Refused as long as there is nothing behind it. */
#define MISSING .take = options_take_missing

#define ANSWER(function) .take = options_take_answer, .print = function

/* For takers: a number from min to max. */
bool options_read_number(struct parse *parse, const struct option_row *row, const char *text,
                         uint64_t min, uint64_t max, uint64_t *number);

/* A number with k, m or nothing behind it, in bytes. */
bool options_read_size(const char *text, uint64_t min, uint64_t max, uint32_t *size);

#endif
