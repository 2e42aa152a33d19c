/* options.h: the command line of bench/load. The table is options.def. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum { SERVER_MAX = 8 };

struct server {
    char name[80];
    struct sockaddr_in address;
};

struct options {
    struct server servers[SERVER_MAX];
    unsigned server_count;
    uint32_t value_min, value_max;
    const char *timeline; /* file name or NULL */
#define NUMBER(type, field, name, min, max, initial, text) type field;
#define FLAG(field, name, text) bool field;
#include "bench/options.def"
#undef NUMBER
#undef FLAG
};

/* Ends the process with a text when the command line is wrong. */
void options_parse(struct options *options, int count, char **arguments);

#endif
