/* options_line.h: a command line in; the options, or the line that says why not, out. */
#ifndef T_OPTIONS_LINE_H
#define T_OPTIONS_LINE_H

#include <stdio.h>
#include <string.h>

#include "server/options.h"
#include "t/test.h"

static struct options options;
static char why[512];

static inline enum options_verdict parse(const char *line)
{
    static char copy[1024];
    char *arguments[32] = {"healcached"};
    int count = 1;
    snprintf(copy, sizeof(copy), "%s", line);
    for (char *word = strtok(copy, " "); word != NULL && count < 32; word = strtok(NULL, " "))
        arguments[count++] = word;
    why[0] = 0;
    return options_parse(&options, count, arguments, why, sizeof(why));
}

static inline bool refused(const char *line, const char *part)
{
    return parse(line) == OPTIONS_WRONG && strstr(why, part) != NULL && strchr(why, '\n') == NULL;
}

#endif
