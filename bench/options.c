#include "bench/options.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_usage(void)
{
    fputs("bench/load: puts load on memcached servers and checks every value that is read.\n\n"
          "  --servers=HOST:PORT,...  (127.0.0.1:11211)\n"
          "  --value-size=N or N-M    (100)\n"
          "  --timeline=FILE          completed requests in each bucket\n",
          stderr);
#define NUMBER(type, field, name, min, max, initial, text)                                         \
    fprintf(stderr, "  --%s=N  %s (%g)\n", name, text, (double)(initial));
#define FLAG(field, name, text) fprintf(stderr, "  --%s  %s\n", name, text);
#include "bench/options.def"
#undef NUMBER
#undef FLAG
    fputs(
        "\nPrints a table and a line `result {...}` for each phase. Ends with 1 when a value was "
        "wrong,\n"
        "older than it may be, or lost, or a fill or verify was not complete; with 3 when nothing\n"
        "was answered.\n",
        stderr);
}

__attribute__((noreturn)) static void refuse(const char *what, const char *text)
{
    print_usage();
    fprintf(stderr, "\nbench/load: %s: %s\n", what, text);
    exit(2);
}

static double parse_number(const char *name, const char *text, double min, double max)
{
    char *end;
    double result = strtod(text, &end);
    if (end == text || *end != 0 || !(result >= min && result <= max))
        refuse(name, text);
    return result;
}

static void add_server(struct options *options, const char *text)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
    char host[sizeof(options->servers[0].name)];
    if (options->server_count == SERVER_MAX || strlen(text) >= sizeof(host))
        refuse("--servers", text);
    strcpy(host, text);
    char *colon = strrchr(host, ':');
    if (colon != NULL)
        *colon = 0;
    if (getaddrinfo(host, colon == NULL ? "11211" : colon + 1, &hints, &found) != 0)
        refuse("--servers", text);
    struct server *server = &options->servers[options->server_count++];
    strcpy(server->name, text);
    memcpy(&server->address, found->ai_addr, sizeof(server->address));
    freeaddrinfo(found);
}

static void parse_servers(struct options *options, const char *text)
{
    char *list = strdup(text), *rest = list, *name;
    options->server_count = 0;
    while ((name = strsep(&rest, ",")) != NULL)
        add_server(options, name);
    free(list);
}

static void parse_value_size(struct options *options, const char *text)
{
    const double limit = 64 << 20;
    char least[32];
    const char *minus = strchr(text, '-');
    if (strlen(text) >= sizeof(least))
        refuse("--value-size", text);
    strcpy(least, text);
    if (minus != NULL)
        least[minus - text] = 0;
    options->value_min = (uint32_t)parse_number("--value-size", least, 1, limit);
    options->value_max = options->value_min;
    if (minus != NULL)
        options->value_max =
            (uint32_t)parse_number("--value-size", minus + 1, options->value_min, limit);
}

static void parse_one(struct options *options, const char *argument)
{
    char name[32] = "";
    const char *equals = strchr(argument, '=');
    const char *text = equals == NULL ? "" : equals + 1;
    size_t size = equals == NULL ? strlen(argument) : (size_t)(equals - argument);
    if (size < 3 || strncmp(argument, "--", 2) != 0 || size >= sizeof(name))
        refuse("what is this", argument);
    memcpy(name, argument + 2, size - 2);
    if (strcmp(name, "servers") == 0)
        parse_servers(options, text);
    else if (strcmp(name, "value-size") == 0)
        parse_value_size(options, text);
    else if (strcmp(name, "timeline") == 0)
        options->timeline = text;
#define NUMBER(type, field, word, min, max, initial, help)                                         \
    else if (strcmp(name, word) == 0) options->field = (type)parse_number(word, text, min, max);
#define FLAG(field, word, help)                                                                    \
    else if (strcmp(name, word) == 0 && equals == NULL) options->field = true;
#include "bench/options.def"
#undef NUMBER
#undef FLAG
    else
        refuse("what is this", argument);
}

void options_parse(struct options *options, int count, char **arguments)
{
    *options = (struct options){
        .value_min = 100,
        .value_max = 100,
#define NUMBER(type, field, name, min, max, initial, text) .field = (initial),
#define FLAG(field, name, text)
#include "bench/options.def"
#undef NUMBER
#undef FLAG
    };
    parse_servers(options, "127.0.0.1:11211");
    for (int i = 1; i < count; i++)
        parse_one(options, arguments[i]);
}
