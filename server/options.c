#include "server/options.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/slice.h"
#include "server/version.h"

enum option {
#define OPTION(name, letter, word, argument, initial, help) OPTION_##name,
#include "server/option.def"
#undef OPTION
    OPTION_COUNT
};

struct row {
    char letter;
    const char *word;
    const char *argument; /* NULL: a switch */
    const char *initial;
    const char *help;
};

static const struct row rows[OPTION_COUNT] = {
#define OPTION(name, letter, word, argument, initial, help) {letter, word, argument, initial, help},
#include "server/option.def"
#undef OPTION
};

/* What a parse works on. */
struct parse {
    struct options *options;
    const char *nodes; /* --node and --force-members are judged when --peers is known */
    const char *force;
    char *why;
    size_t why_size;
};

__attribute__((format(printf, 2, 3))) static bool refuse(struct parse *parse, const char *format,
                                                         ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(parse->why, parse->why_size, format, arguments);
    va_end(arguments);
    return false;
}

static bool refuse_option(struct parse *parse, enum option option, const char *text,
                          const char *allowed)
{
    const struct row *row = &rows[option];
    if (row->letter != 0)
        return refuse(parse, "-%c (--%s): '%s' is not allowed; it must be %s", row->letter,
                      row->word, text, allowed);
    return refuse(parse, "--%s: '%s' is not allowed; it must be %s", row->word, text, allowed);
}

static bool take_number(struct parse *parse, enum option option, const char *text, uint64_t min,
                        uint64_t max, uint64_t *number)
{
    char allowed[64];
    snprintf(allowed, sizeof(allowed), "a number from %llu to %llu", (unsigned long long)min,
             (unsigned long long)max);
    if (!slice_to_u64(slice_text(text), number) || *number < min || *number > max)
        return refuse_option(parse, option, text, allowed);
    return true;
}

static bool take_u32(struct parse *parse, enum option option, const char *text, uint32_t min,
                     uint32_t max, uint32_t *number)
{
    uint64_t wide;
    if (!take_number(parse, option, text, min, max, &wide))
        return false;
    *number = (uint32_t)wide;
    return true;
}

/* A number with k, m or nothing behind it, in bytes. */
static bool take_size(struct parse *parse, enum option option, const char *text, uint64_t min,
                      uint64_t max, const char *allowed, uint32_t *size)
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
        return refuse_option(parse, option, text, allowed);
    *size = (uint32_t)(number * unit);
    return true;
}

/* host, host:port, [v6]:port, :port; a bare v6 address has no port. False: no address. */
static bool split_address(struct slice text, uint16_t port, struct options_address *address)
{
    const char *begin = text.data;
    const char *end = begin + text.size;
    const char *colon = memrchr(begin, ':', text.size);
    struct slice host = text;
    if (text.size > 0 && begin[0] == '[') {
        const char *bracket = memchr(begin, ']', text.size);
        if (bracket == NULL || (bracket + 1 != end && bracket[1] != ':'))
            return false;
        host = slice_make(begin + 1, (size_t)(bracket - begin - 1));
        colon = bracket + 1 == end ? NULL : bracket + 1;
    } else if (colon != NULL && memchr(begin, ':', (size_t)(colon - begin)) != NULL) {
        colon = NULL;
    } else if (colon != NULL) {
        host.size = (size_t)(colon - begin);
    }
    uint64_t number = port;
    if (colon != NULL &&
        (!slice_to_u64(slice_make(colon + 1, (size_t)(end - colon - 1)), &number) ||
         number > 65535))
        return false;
    if (host.size >= sizeof(address->host))
        return false;
    address->port = (uint16_t)number;
    memcpy(address->host, host.data, host.size);
    address->host[host.size] = 0;
    if (strcmp(address->host, "*") == 0)
        address->host[0] = 0;
    return true;
}

/* The next piece of a comma list. */
static bool next_piece(const char **list, struct slice *piece)
{
    if (**list == 0)
        return false;
    size_t size = strcspn(*list, ",");
    *piece = slice_make(*list, size);
    *list += size + ((*list)[size] == ',');
    return true;
}

static bool take_listen(struct parse *parse, const char *text)
{
    struct options *options = parse->options;
    struct slice piece;
    for (const char *list = text; next_piece(&list, &piece);) {
        if (options->listen_count == OPTIONS_LISTEN_MAX ||
            !split_address(piece, 0, &options->listen[options->listen_count++]))
            return refuse_option(parse, OPTION_LISTEN, text,
                                 "up to 16 of host, host:port or [v6]:port");
    }
    return true;
}

static bool take_peer(struct options *options, struct slice piece)
{
    const char *begin = piece.data;
    struct options_address peer = {.id = 0};
    if (piece.size < 3 || begin[0] < '1' || begin[0] > '7' || begin[1] != '@')
        return false;
    if (!split_address(slice_make(begin + 2, piece.size - 2), 0, &peer))
        return false;
    peer.id = (unsigned)(begin[0] - '0');
    uint8_t bit = (uint8_t)(1u << (peer.id - 1));
    if (peer.port == 0 || peer.host[0] == 0 || options->peer_count == OPTIONS_PEER_MAX ||
        (options->configured & bit) != 0)
        return false;
    uint32_t at = options->peer_count++;
    for (; at > 0 && options->peers[at - 1].id > peer.id; at--)
        options->peers[at] = options->peers[at - 1];
    options->peers[at] = peer;
    options->configured |= bit;
    return true;
}

static bool take_peers(struct parse *parse, const char *text)
{
    static const char allowed[] =
        "ID@HOST:PORT,... with different ids from 1 to 7; 1, 3, 5 or 7 nodes";
    struct options *options = parse->options;
    struct slice piece;
    options->peer_count = 0;
    options->configured = 0;
    for (const char *list = text; next_piece(&list, &piece);) {
        if (!take_peer(options, piece))
            return refuse_option(parse, OPTION_PEERS, text, allowed);
    }
    if (options->peer_count % 2 == 0)
        return refuse_option(parse, OPTION_PEERS, text, allowed);
    return true;
}

static bool take_secret(struct parse *parse, const char *path)
{
    char *secret = parse->options->secret;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return refuse_option(parse, OPTION_SECRET, path, "a file that can be read");
    size_t size = fread(secret, 1, OPTIONS_SECRET_SIZE_MAX, file);
    fclose(file);
    while (size > 0 && (secret[size - 1] == '\n' || secret[size - 1] == '\r'))
        size--;
    if (size < 8 || size == OPTIONS_SECRET_SIZE_MAX || memchr(secret, 0, size) != NULL)
        return refuse_option(parse, OPTION_SECRET, path, "a file of 8 to 255 characters");
    secret[size] = 0;
    return true;
}

static bool take_word(struct parse *parse, enum option option, const char *text, const char *first,
                      const char *second)
{
    char allowed[64];
    snprintf(allowed, sizeof(allowed), "%s or %s", first, second);
    if (strcmp(text, first) != 0 && strcmp(text, second) != 0)
        return refuse_option(parse, option, text, allowed);
    return true;
}

/* The options of a group of nodes. */
static bool take_group(struct parse *parse, enum option option, const char *text)
{
    struct options *options = parse->options;
    switch ((int)option) {
    case OPTION_NODE:
        parse->nodes = text;
        return take_u32(parse, option, text, 1, 7, &options->self);
    case OPTION_PEERS:
        return take_peers(parse, text);
    case OPTION_DATA:
        options->data = text;
        return text[0] != 0 || refuse_option(parse, option, text, "a directory");
    case OPTION_SEGMENT:
        if (!take_size(parse, option, text, 65536, 1u << 31, "a power of two from 64k to 2048m",
                       &options->segment_size))
            return false;
        return (options->segment_size & (options->segment_size - 1)) == 0 ||
               refuse_option(parse, option, text, "a power of two from 64k to 2048m");
    case OPTION_RECOVERY:
        options->recovery_full = strcmp(text, "full") == 0;
        return take_word(parse, option, text, "incremental", "full");
    case OPTION_SUSPECT:
        return take_u32(parse, option, text, 10, 600000, &options->suspect_ms);
    case OPTION_LEASE:
        return take_u32(parse, option, text, 10, 600000, &options->lease_ms);
    case OPTION_ELECTION:
        return take_u32(parse, option, text, 10, 600000, &options->election_ms);
    case OPTION_STALL:
        return take_u32(parse, option, text, 0, 600000, &options->stall_ms);
    case OPTION_SECRET:
        return take_secret(parse, text);
    case OPTION_FORCE:
        parse->force = text;
        return true;
    }
    return true;
}

static bool take_memory(struct parse *parse, const char *text)
{
    uint64_t megabytes;
    if (!take_number(parse, OPTION_MEMORY, text, 1, 64u << 20, &megabytes))
        return false;
    parse->options->memory_size = megabytes << 20;
    return true;
}

static bool take(struct parse *parse, enum option option, const char *text)
{
    struct options *options = parse->options;
    uint32_t number;
    switch ((int)option) {
    case OPTION_PORT:
        if (!take_u32(parse, option, text, 0, 65535, &number))
            return false;
        options->port = (int)number;
        return true;
    case OPTION_LISTEN:
        return take_listen(parse, text);
    case OPTION_MEMORY:
        return take_memory(parse, text);
    case OPTION_CONNECTIONS:
        return take_u32(parse, option, text, 1, 1000000, &options->connection_max);
    case OPTION_THREADS:
        return take_u32(parse, option, text, 1, OPTIONS_THREAD_MAX, &options->thread_count);
    case OPTION_NO_EVICTION:
        options->no_eviction = true;
        return true;
    case OPTION_ITEM_SIZE:
        return take_size(parse, option, text, 1024, 1u << 30, "from 1k to 1024m",
                         &options->item_size_max);
    case OPTION_BACKLOG:
        if (!take_u32(parse, option, text, 1, 65535, &number))
            return false;
        options->backlog = (int)number;
        return true;
    case OPTION_PER_TURN:
        return take_u32(parse, option, text, 1, 100000, &options->per_turn_max);
    case OPTION_NO_FLUSH:
        options->no_flush = true;
        return true;
    case OPTION_VERBOSE:
        options->verbose++;
        return true;
    case OPTION_DAEMON:
        options->daemon = true;
        return true;
    case OPTION_PID_FILE:
        options->pid_file = text;
        return true;
    case OPTION_USER:
        options->user = text;
        return true;
    case OPTION_UDP:
        return take_number(parse, option, text, 0, 0, &(uint64_t){0});
    case OPTION_PROTOCOL:
        return take_word(parse, option, text, "auto", "ascii");
    }
    return take_group(parse, option, text);
}

/* Edit distance of two short words. */
static unsigned distance(const char *a, size_t a_size, const char *b, size_t b_size)
{
    unsigned row[64];
    if (a_size > 40 || b_size >= sizeof(row) / sizeof(row[0]))
        return 99;
    for (size_t j = 0; j <= b_size; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= a_size; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_size; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = row[j] + 1 < best ? row[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return row[b_size];
}

static bool refuse_unknown(struct parse *parse, const char *word, size_t size)
{
    size_t nearest = 0;
    unsigned best = 1000;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        unsigned now = distance(word, size, rows[i].word, strlen(rows[i].word));
        if (now < best) {
            best = now;
            nearest = i;
        }
    }
    return refuse(parse, "unknown option --%.*s; the nearest is --%s (-h lists all)", (int)size,
                  word, rows[nearest].word);
}

static bool answer_and_exit(enum option option)
{
    if (option == OPTION_HELP)
        options_print_help(stdout);
    else if (option == OPTION_VERSION)
        printf("healcached %s\n", SERVER_VERSION);
    else
        return false;
    return true;
}

/* --word, --word=argument, --word argument. */
static bool parse_long(struct parse *parse, int count, char **arguments, int *at, bool *exit)
{
    const char *word = arguments[*at] + 2;
    size_t size = strcspn(word, "=");
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (strlen(rows[i].word) != size || memcmp(rows[i].word, word, size) != 0)
            continue;
        const char *argument = word[size] == '=' ? word + size + 1 : NULL;
        if (rows[i].argument == NULL && argument != NULL)
            return refuse(parse, "--%s takes no argument", rows[i].word);
        if (rows[i].argument != NULL && argument == NULL) {
            if (*at + 1 >= count)
                return refuse(parse, "--%s needs an argument: %s", rows[i].word, rows[i].argument);
            argument = arguments[++*at];
        }
        *exit = answer_and_exit((enum option)i);
        return *exit || take(parse, (enum option)i, argument);
    }
    return refuse_unknown(parse, word, size);
}

static int find_letter(char letter)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (rows[i].letter != 0 && rows[i].letter == letter)
            return i;
    }
    return -1;
}

/* -x, -xyz, -xARGUMENT, -x ARGUMENT. */
static bool parse_short(struct parse *parse, int count, char **arguments, int *at, bool *exit)
{
    for (const char *letter = arguments[*at] + 1; *letter != 0 && !*exit; letter++) {
        int option = find_letter(*letter);
        if (option < 0)
            return refuse(parse, "unknown option -%c (-h lists all)", *letter);
        const char *argument = NULL;
        if (rows[option].argument != NULL) {
            argument = letter + 1;
            if (*argument == 0 && *at + 1 >= count)
                return refuse(parse, "-%c (--%s) needs an argument: %s", *letter, rows[option].word,
                              rows[option].argument);
            if (*argument == 0)
                argument = arguments[++*at];
        }
        *exit = answer_and_exit((enum option)option);
        if (!*exit && !take(parse, (enum option)option, argument))
            return false;
        if (argument != NULL)
            return true;
    }
    return true;
}

static bool take_defaults(struct parse *parse)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (rows[i].initial != NULL && !take(parse, (enum option)i, rows[i].initial))
            return false;
    }
    return true;
}

static bool take_force(struct parse *parse)
{
    struct options *options = parse->options;
    struct slice piece;
    for (const char *list = parse->force; next_piece(&list, &piece);) {
        unsigned id = piece.size == 1 ? (unsigned)(((const char *)piece.data)[0] - '0') : 0;
        if (id < 1 || id > 7 || (options->configured & (1u << (id - 1))) == 0)
            return refuse_option(parse, OPTION_FORCE, parse->force,
                                 "a comma list of ids in --peers");
        options->force_members |= (uint8_t)(1u << (id - 1));
    }
    return true;
}

/* What can only be judged when all options are known. */
static bool check_together(struct parse *parse)
{
    struct options *options = parse->options;
    options->item_size_group = options->item_size_max;
    if (options->peer_count > 0 && parse->nodes == NULL)
        return refuse(parse, "--peers needs --node: which of them this one is");
    if (options->peer_count == 0) {
        if (parse->nodes == NULL)
            options->self = 1;
        options->configured = (uint8_t)(1u << (options->self - 1));
    }
    if ((options->configured & (1u << (options->self - 1))) == 0)
        return refuse(parse, "--node=%u is not one of --peers", options->self);
    if (parse->force != NULL && !take_force(parse))
        return false;
    if (options->listen_count == 0 && options->port != 0)
        options->listen_count = 1; /* All interfaces, as memcached does. */
    for (uint32_t i = 0; i < options->listen_count; i++) {
        if (options->listen[i].port == 0)
            options->listen[i].port = (uint16_t)options->port;
        if (options->listen[i].port == 0)
            return refuse(parse, "--listen=%s has no port, and -p is 0", options->listen[i].host);
    }
    return true;
}

enum options_verdict options_parse(struct options *options, int count, char **arguments, char *why,
                                   size_t why_size)
{
    struct parse parse = {.options = options, .why = why, .why_size = why_size};
    bool exit = false;
    *options = (struct options){.self = 1};
    if (!take_defaults(&parse))
        return OPTIONS_WRONG;
    for (int at = 1; at < count && !exit; at++) {
        const char *text = arguments[at];
        bool good;
        if (text[0] == '-' && text[1] == '-' && text[2] != 0)
            good = parse_long(&parse, count, arguments, &at, &exit);
        else if (text[0] == '-' && text[1] != 0 && text[1] != '-')
            good = parse_short(&parse, count, arguments, &at, &exit);
        else
            good = refuse(&parse, "'%s' is no option (-h lists all)", text);
        if (!good)
            return OPTIONS_WRONG;
    }
    if (exit)
        return OPTIONS_EXIT;
    return check_together(&parse) ? OPTIONS_RUN : OPTIONS_WRONG;
}

void options_print_help(FILE *out)
{
    fprintf(out, "healcached %s: a memcached that is linearizable, replicated and durable\n",
            SERVER_VERSION);
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct row *row = &rows[i];
        char name[64];
        snprintf(name, sizeof(name), "%c%c%c --%s%s%s", row->letter ? '-' : ' ',
                 row->letter ? row->letter : ' ', row->letter ? ',' : ' ', row->word,
                 row->argument ? "=" : "", row->argument ? row->argument : "");
        const char *help = strncmp(row->help, "IGNORED", 7) == 0
                               ? "taken and ignored, for old start scripts"
                               : row->help;
        fprintf(out, "  %-32s %s", name, help);
        if (row->initial != NULL)
            fprintf(out, " (default: %s)", row->initial);
        fputc('\n', out);
    }
}

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
    int size =
        snprintf(text, sizeof(text), "%016llx item=%u suspect=%u lease=%u election=%u",
                 (unsigned long long)options_directory_hash(options), options->item_size_group,
                 options->suspect_ms, options->lease_ms, options->election_ms);
    return hash_key(slice_make(text, (size_t)size));
}
