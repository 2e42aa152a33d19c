/* load.h: what the parts of bench/load share. One thread. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "bench/chooser.h"
#include "bench/keys.h"
#include "bench/options.h"
#include "bench/tally.h"

enum phase {
    PHASE_FILL,
    PHASE_MIXED,
    PHASE_VERIFY,
};

/* A request that waits for its answer. */
struct request {
    uint64_t planned_ns; /* latency counts from here */
    uint64_t sent_ns;
    uint64_t version; /* of a set */
    uint64_t floor;   /* of a get: what it has to see */
    uint32_t index;   /* of the key */
    bool is_set;
    bool is_persist; /* neither set nor get */
    bool clean;
};

struct load {
    struct options options;
    struct tally tally;
    struct chooser chooser;
    struct prng prng;
    struct keys keys;
    uint32_t writer; /* marks the values of this process */
    enum phase phase;
    bool issuing;                 /* false: only wait for the answers */
    uint32_t cursors[SERVER_MAX]; /* fill: the first counts; verify: one a server */
    int epoll;
    unsigned complaints;
};

uint64_t now_ns(void);

/* Chooses what a connection to `server` asks next; false: nothing more in this phase. */
bool load_next(struct load *load, unsigned server, struct request *request);

/* Says on stderr what was wrong with a value; the first few times only. */
void load_complain(struct load *load, enum tally_count what, const struct request *request,
                   unsigned server, uint64_t version);

#endif
