#include "server/options.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/slice.h"
#include "server/options_take.h"

/* ---- refusals ---- */

bool options_refuse(struct parse *parse, int exit_code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(parse->why, parse->why_size, format, arguments);
    va_end(arguments);
    parse->options->exit_code = exit_code;
    return false;
}

const char *option_name(const struct option_row *row, char name[OPTION_NAME_SIZE])
{
    if (row->extended)
        snprintf(name, OPTION_NAME_SIZE, "-o %s", row->word);
    else if (row->word == NULL)
        snprintf(name, OPTION_NAME_SIZE, "-%c", row->letter);
    else if (row->letter == 0)
        snprintf(name, OPTION_NAME_SIZE, "--%s", row->word);
    else
        snprintf(name, OPTION_NAME_SIZE, "-%c (--%s)", row->letter, row->word);
    return name;
}

/* Wrong numbers of these, and of all words of -o, end memcached with 1 where others end it with
 * 64. */
static int exit_code(const struct option_row *row)
{
    bool one = row->extended || (row->letter != 0 && strchr("cDfnNRt", row->letter) != NULL);
    return one ? EXIT_WRONG : EXIT_USAGE;
}

bool options_refuse_argument(struct parse *parse, const struct option_row *row, const char *text,
                             const char *allowed)
{
    char name[OPTION_NAME_SIZE];
    return options_refuse(parse, exit_code(row), "%s: '%s' is not allowed; it must be %s",
                          option_name(row, name), text, allowed);
}

/* ---- one option ---- */

bool option_takes_argument(const struct option_row *row)
{
    return row->argument != NULL;
}

bool option_needs_argument(const struct option_row *row)
{
    return row->argument != NULL && row->argument[0] != '[';
}

/* `argument` is what stands behind '=', if anything does. */
static bool take(struct parse *parse, const struct option_row *row, const char *argument)
{
    char name[OPTION_NAME_SIZE];
    if (!option_takes_argument(row) && argument != NULL)
        return options_refuse(parse, exit_code(row), "%s takes no argument",
                              option_name(row, name));
    if (option_needs_argument(row) && argument == NULL)
        return options_refuse(parse, exit_code(row), "%s needs an argument: %s",
                              option_name(row, name), row->argument);
    return row->take(parse, row, argument);
}

/* NULL: there is none. */
static const struct option_row *find_word(const char *word, size_t size, bool extended)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        if (row->extended == extended && row->word != NULL && strlen(row->word) == size &&
            memcmp(row->word, word, size) == 0)
            return row;
    }
    return NULL;
}

static const struct option_row *find_letter(char letter)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (option_rows[i].letter != 0 && option_rows[i].letter == letter)
            return &option_rows[i];
    }
    return NULL;
}

/* The next argument of the command line, if this option needs one and has none yet. */
static const char *next_argument(const struct option_row *row, int count, char **arguments, int *at)
{
    return option_needs_argument(row) && *at + 1 < count ? arguments[++*at] : NULL;
}

/* --word, --word=argument, --word argument. */
static bool parse_long(struct parse *parse, int count, char **arguments, int *at)
{
    const char *word = arguments[*at] + 2;
    size_t size = strcspn(word, "=");
    const struct option_row *row = find_word(word, size, false);
    if (row == NULL)
        return options_refuse_unknown(parse, word, size, false);
    return take(parse, row,
                word[size] == '=' ? word + size + 1 : next_argument(row, count, arguments, at));
}

/* -x, -xyz, -xARGUMENT, -x ARGUMENT. An argument that may be left out is only taken by the long
 * form. */
static bool parse_short(struct parse *parse, int count, char **arguments, int *at)
{
    for (const char *letter = arguments[*at] + 1; *letter != 0 && !parse->exit; letter++) {
        const struct option_row *row = find_letter(*letter);
        if (row == NULL && *letter == '=')
            return options_refuse(parse, EXIT_WRONG, "'%s': '=' stands only behind a long name",
                                  arguments[*at]);
        if (row == NULL)
            return options_refuse(parse, EXIT_WRONG, "unknown option -%c (-h lists all)", *letter);
        if (option_needs_argument(row))
            return take(parse, row,
                        letter[1] != 0 ? letter + 1 : next_argument(row, count, arguments, at));
        if (!take(parse, row, NULL))
            return false;
    }
    return true;
}

/* ---- the words of -o: word, word=argument, with commas between them ---- */

/* One word with a zero behind it, whose memory stays: fields may point to its argument. */
static bool parse_extended(struct parse *parse, char *text)
{
    size_t size = strcspn(text, "=");
    const struct option_row *row = find_word(text, size, true);
    if (row == NULL)
        return options_refuse_unknown(parse, text, size, true);
    return take(parse, row, text[size] == '=' ? text + size + 1 : NULL);
}

TAKER(extended)
{
    (void)row;
    struct options *options = parse->options;
    size_t size = strlen(text) + 1;
    char *rest = options->extended + options->extended_used;
    if (size > sizeof(options->extended) - options->extended_used)
        return options_refuse(parse, EXIT_USAGE, "-o (--extended): the lists are too long");
    memcpy(rest, text, size);
    options->extended_used += (uint32_t)size;
    for (char *piece; (piece = strsep(&rest, ",")) != NULL;) {
        if (*piece != 0 && !parse_extended(parse, piece))
            return false;
    }
    return true;
}

/* ---- all of them ---- */

static bool take_defaults(struct parse *parse)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        if (row->initial != NULL && !row->take(parse, row, row->initial))
            return false;
    }
    return true;
}

static bool parse_one(struct parse *parse, int count, char **arguments, int *at)
{
    const char *text = arguments[*at];
    if (text[0] == '-' && text[1] == '-' && text[2] != 0)
        return parse_long(parse, count, arguments, at);
    if (text[0] == '-' && text[1] != 0 && text[1] != '-')
        return parse_short(parse, count, arguments, at);
    return options_refuse(parse, EXIT_USAGE, "'%s' is no option (-h lists all)", text);
}

enum options_verdict options_parse(struct options *options, int count, char **arguments, char *why,
                                   size_t why_size)
{
    struct parse parse = {.options = options, .why = why, .why_size = why_size};
    *options = (struct options){.self = 1, .delimiter = ':'};
    if (!take_defaults(&parse))
        return OPTIONS_WRONG;
    for (int at = 1; at < count && !parse.exit; at++) {
        if (!parse_one(&parse, count, arguments, &at))
            return OPTIONS_WRONG;
    }
    if (parse.exit)
        return OPTIONS_EXIT;
    return options_check_together(&parse) ? OPTIONS_RUN : OPTIONS_WRONG;
}

void options_log_ignored(const struct options *options)
{
    char name[OPTION_NAME_SIZE];
    for (int i = 0; i < OPTION_COUNT; i++) {
        if ((options->ignored[i / 64] >> i % 64 & 1) != 0)
            log_note("%s has no effect: %s", option_name(&option_rows[i], name),
                     option_rows[i].help);
    }
}

/* ---- hashes ---- */

/* What a data directory belongs to: who the nodes are and how keys are spread. */
uint64_t options_directory_hash(const struct options *options)
{
    char text[OPTIONS_PEER_MAX * 280 + 64];
    size_t used =
        (size_t)snprintf(text, sizeof(text), "healcached threads=%u", options->thread_count);
    for (uint32_t i = 0; i < options->peer_count; i++) {
        const struct options_address *peer = &options->peers[i];
        used += (size_t)snprintf(text + used, sizeof(text) - used, ",%u@%s:%u", peer->id,
                                 peer->host, peer->port);
    }
    return hash_key(slice_make(text, used));
}

uint64_t options_cluster_hash(const struct options *options)
{
    char text[160];
    int size = snprintf(
        text, sizeof(text), "%016llx suspect=%u lease=%u election=%u persistency=%s evicts=%d",
        (unsigned long long)options_directory_hash(options), options->suspect_ms, options->lease_ms,
        options->election_ms, model_name(options->persistency), !options->no_eviction);
    return hash_key(slice_make(text, (size_t)size));
}
