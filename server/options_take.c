/* The table's rows, and the takers that many of them share. */
#include "server/options_take.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/slice.h"

const struct option_row option_rows[OPTION_COUNT] = {
#define OPTION(name, letter_, word_, argument_, initial_, taker, help_)                            \
    {.letter = letter_,                                                                            \
     .word = word_,                                                                                \
     .argument = argument_,                                                                        \
     .initial = initial_,                                                                          \
     .help = help_,                                                                                \
     taker},
#define EXTENDED(name, word_, argument_, initial_, taker, help_)                                   \
    {.extended = true,                                                                             \
     .word = word_,                                                                                \
     .argument = argument_,                                                                        \
     .initial = initial_,                                                                          \
     .help = help_,                                                                                \
     taker},
#include "server/option.def"
#undef OPTION
#undef EXTENDED
};

static void *field(struct parse *parse, const struct option_row *row)
{
    return (char *)parse->options + row->at;
}

TAKER(switch)
{
    (void)text;
    *(bool *)field(parse, row) = true;
    return true;
}

TAKER(count)
{
    uint32_t *count = field(parse, row);
    uint64_t number = (uint64_t)*count + 1;
    if (text != NULL && !options_read_number(parse, row, text, 0, 9, &number))
        return false;
    *count = (uint32_t)number;
    return true;
}

TAKER(text)
{
    *(const char **)field(parse, row) = text;
    return true;
}

/* ---- numbers ---- */

bool options_read_number(struct parse *parse, const struct option_row *row, const char *text,
                         uint64_t min, uint64_t max, uint64_t *number)
{
    char allowed[64];
    snprintf(allowed, sizeof(allowed), "a number from %llu to %llu", (unsigned long long)min,
             (unsigned long long)max);
    if (!slice_to_u64(slice_text(text), number) || *number < min || *number > max)
        return options_refuse_argument(parse, row, text, allowed);
    return true;
}

TAKER(number)
{
    uint64_t number;
    if (!options_read_number(parse, row, text, (uint64_t)row->min, (uint64_t)row->max, &number))
        return false;
    *(uint32_t *)field(parse, row) = (uint32_t)number;
    return true;
}

TAKER(megabytes)
{
    uint64_t megabytes;
    if (!options_read_number(parse, row, text, (uint64_t)row->min, (uint64_t)row->max, &megabytes))
        return false;
    *(uint64_t *)field(parse, row) = megabytes << 20;
    return true;
}

bool options_read_size(const char *text, uint64_t min, uint64_t max, uint32_t *size)
{
    size_t digits = strlen(text);
    uint64_t unit = 1;
    uint64_t number;
    if (digits > 0 && tolower((unsigned char)text[digits - 1]) == 'k')
        unit = 1024;
    else if (digits > 0 && tolower((unsigned char)text[digits - 1]) == 'm')
        unit = 1024 * 1024;
    if (unit > 1)
        digits--;
    if (!slice_to_u64(slice_make(text, digits), &number) || number > max / unit ||
        number * unit < min)
        return false;
    *size = (uint32_t)(number * unit);
    return true;
}

TAKER(size)
{
    return options_read_size(text, (uint64_t)row->min, (uint64_t)row->max, field(parse, row)) ||
           options_refuse_argument(parse, row, text, row->allowed);
}

/* ---- words ---- */

/* The number of `text` in a list a|b|c; -1: not in it. */
static int find_choice(const char *list, const char *text)
{
    size_t size = strlen(text);
    for (int i = 0;; i++) {
        size_t word = strcspn(list, "|");
        if (word == size && memcmp(list, text, size) == 0)
            return i;
        if (list[word] == 0)
            return -1;
        list += word + 1;
    }
}

static bool refuse_choice(struct parse *parse, const struct option_row *row, const char *text)
{
    char allowed[128];
    size_t used = 0;
    for (const char *list = row->argument; *list != 0 && used < sizeof(allowed);) {
        size_t word = strcspn(list, "|");
        used += (size_t)snprintf(allowed + used, sizeof(allowed) - used, "%s%.*s",
                                 used > 0 ? " or " : "", (int)word, list);
        list += word + (list[word] == '|');
    }
    return options_refuse_argument(parse, row, text, allowed);
}

TAKER(choice)
{
    int choice = find_choice(row->argument, text);
    if (choice < 0)
        return refuse_choice(parse, row, text);
    *(uint32_t *)field(parse, row) = (uint32_t)choice;
    return true;
}

TAKER(persistency)
{
    return model_parse(text, &parse->options->persistency) || refuse_choice(parse, row, text);
}

TAKER(recovery)
{
    int choice = find_choice(row->argument, text);
    parse->options->recovery_full = choice == 1;
    return choice >= 0 || refuse_choice(parse, row, text);
}

/* ---- options without a meaning ---- */

TAKER(ignored)
{
    size_t option = (size_t)(row - option_rows);
    (void)text;
    parse->options->ignored[option / 64] |= (uint64_t)1 << option % 64;
    return true;
}

TAKER(ignored_number)
{
    char allowed[96];
    char *end = NULL;
    if (text == NULL)
        return options_take_ignored(parse, row, text);
    double number = strtod(text, &end);
    snprintf(allowed, sizeof(allowed), "a number above %lld and below %lld", (long long)row->min,
             (long long)row->max);
    if (end == text || *end != 0 || !(number > (double)row->min) || !(number < (double)row->max))
        return options_refuse_argument(parse, row, text, allowed);
    return options_take_ignored(parse, row, text);
}

TAKER(ignored_choice)
{
    return find_choice(row->argument, text) < 0 ? refuse_choice(parse, row, text)
                                                : options_take_ignored(parse, row, text);
}

TAKER(missing)
{
    char name[OPTION_NAME_SIZE];
    (void)text;
    return options_refuse(parse, EXIT_USAGE, "%s: not supported yet", option_name(row, name));
}

TAKER(answer)
{
    (void)text;
    row->print(stdout);
    parse->exit = true;
    return true;
}
