#include "proto/command.h"

#include <assert.h>

struct row {
    const char *word;
    uint8_t size;
    uint8_t family;
    uint8_t words_min;
};

static const struct row rows[COMMAND_COUNT] = {
#define COMMAND(name, word, family, words_min) {word, sizeof(word) - 1, FAMILY_##family, words_min},
#include "proto/command.def"
#undef COMMAND
};

enum command command_find(struct slice word)
{
    for (unsigned i = 0; i < COMMAND_COUNT; i++)
        if (rows[i].size == word.size && memcmp(rows[i].word, word.data, word.size) == 0)
            return (enum command)i;
    return COMMAND_COUNT;
}

const char *command_word(enum command command)
{
    assert(command < COMMAND_COUNT);
    return rows[command].word;
}

enum command_family command_family(enum command command)
{
    assert(command < COMMAND_COUNT);
    return (enum command_family)rows[command].family;
}

unsigned command_words_min(enum command command)
{
    assert(command < COMMAND_COUNT);
    return rows[command].words_min;
}
