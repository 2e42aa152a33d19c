/* command.h: the commands of clients, as an enum. The table is command.def. */
#ifndef PROTO_COMMAND_H
#define PROTO_COMMAND_H

#include "base/slice.h"

enum command {
#define COMMAND(name, word, family, words_min) COMMAND_##name,
#include "proto/command.def"
#undef COMMAND
    COMMAND_COUNT
};

enum command_family {
    FAMILY_KEYS,
    FAMILY_VALUE,
    FAMILY_KEY,
    FAMILY_PLAIN,
    FAMILY_ADMIN,
    FAMILY_META,
};

/* COMMAND_COUNT: no command of that name. Upper case is another name. */
enum command command_find(struct slice word);

const char *command_word(enum command command);
enum command_family command_family(enum command command);
unsigned command_words_min(enum command command);

#endif
