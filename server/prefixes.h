/* prefixes.h: holds an atomic: what commands did by the prefix of their key, for `stats detail`.
 * Any thread; there is a lock, taken only while it is enabled. */
#ifndef SERVER_PREFIXES_H
#define SERVER_PREFIXES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct job;

enum {
    PREFIXES_COUNT_MAX = 65536, /* keys of further prefixes are not counted */
    PREFIXES_CHAINS = 4096,
};

enum prefix_event {
    PREFIX_MISS,
    PREFIX_HIT,
    PREFIX_SET,
    PREFIX_DELETE,
};

struct prefixes {
    _Atomic bool enabled; /* ask before prefixes_note */
    char delimiter;       /* ends a prefix; constant */
    pthread_mutex_t lock;
    uint32_t count;
    uint64_t size; /* of their names together */
    struct prefix *chains[PREFIXES_CHAINS];
};

void prefixes_open(struct prefixes *prefixes, char delimiter, bool enabled);
void prefixes_close(struct prefixes *prefixes);

/* A key without the delimiter has no prefix. */
void prefixes_note(struct prefixes *prefixes, struct slice key, enum prefix_event event);

/* Forgets all. */
void prefixes_clear(struct prefixes *prefixes);

/* Puts lines `PREFIX p get n hit n set n del n` and END into job->value. False: no memory. */
bool prefixes_print(struct prefixes *prefixes, struct job *job);

#endif
