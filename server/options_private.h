/* options_private.h: what the files of the command line share: the table's rows and a parse under
 * way. */
#ifndef SERVER_OPTIONS_PRIVATE_H
#define SERVER_OPTIONS_PRIVATE_H

#include <assert.h>
#include <stddef.h>

#include "base/slice.h"
#include "server/options.h"

enum option {
#define OPTION(name, letter, word, argument, initial, taker, help) OPTION_##name,
#define EXTENDED(name, word, argument, initial, taker, help) OPTION_##name,
#include "server/option.def"
#undef OPTION
#undef EXTENDED
    OPTION_COUNT
};
static_assert((int)OPTION_COUNT <= (int)OPTIONS_IGNORED_MAX, "options.ignored has a bit for each");

/* What a parse works on. */
struct parse {
    struct options *options;
    const char *nodes; /* --node and --force-members are judged when --peers is known */
    const char *force;
    bool exit; /* it was answered on stdout */
    char *why;
    size_t why_size;
};

struct option_row {
    char letter;          /* 0: none, and in EXTENDED ones */
    bool extended;        /* a word of -o */
    bool ignored;         /* no meaning here */
    const char *word;     /* NULL: a letter only */
    const char *argument; /* NULL: a switch; "[X]": may be left out; "a|b": these words */
    const char *initial;
    const char *help;

    /* Reads `text` (NULL: no argument) into the options. False: refused, the reason is in
     * parse->why. */
    bool (*take)(struct parse *parse, const struct option_row *row, const char *text);
    size_t at; /* of the field in struct options */
    int64_t min, max;
    const char *allowed;
    void (*print)(FILE *out);
};

extern const struct option_row option_rows[OPTION_COUNT];

/* The one line about what is wrong; false, for the caller to return. */
__attribute__((format(printf, 3, 4))) bool options_refuse(struct parse *parse, int exit_code,
                                                          const char *format, ...);

/* `text` is not allowed as argument of this option; `allowed` says what is. */
bool options_refuse_argument(struct parse *parse, const struct option_row *row, const char *text,
                             const char *allowed);

/* What is wrong with a word that is in no row, with the row that comes nearest. */
bool options_refuse_unknown(struct parse *parse, const char *word, size_t size, bool extended);

/* "-p (--port)", "--node", "-o modern". */
enum { OPTION_NAME_SIZE = 64 };
const char *option_name(const struct option_row *row, char name[OPTION_NAME_SIZE]);

bool option_takes_argument(const struct option_row *row);
bool option_needs_argument(const struct option_row *row);

/* What can only be judged when all options are known. */
bool options_check_together(struct parse *parse);

/* options_listen.c: of this, what is about clients' sockets. */
bool options_check_listen(struct parse *parse);

/* host, host:port, [v6]:port, :port. False: no address. */
bool options_split_address(struct slice text, struct options_address *address);

/* The next piece of a comma list. False: none is left. */
bool options_next_piece(const char **list, struct slice *piece);

#endif
