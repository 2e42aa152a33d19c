/* fault_child.h: does a run of random lives find a planted fault? Each in a child process, because
 * an assertion that stops it counts as found, too. In builds with FAULTS. */
#ifndef T_FAULT_CHILD_H
#define T_FAULT_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"

/* What the life of a seed has shown to be wrong; NULL: nothing. */
typedef const char *(*fault_life_t)(uint64_t seed);

#ifdef FAULTS
enum { FAULT_SEEDS_MAX = 400, FAULT_FOUND = 2 };

/* The child's exit; what an assertion stops ends by a signal. */
static inline int fault_child(enum fault fault, fault_life_t live)
{
    fault_active = fault;
    for (uint64_t seed = 1; seed <= FAULT_SEEDS_MAX; seed++) {
        const char *failure = live(seed);
        if (failure == NULL)
            continue;
        printf("found with seed %llu: %s\n", (unsigned long long)seed, failure);
        fflush(stdout);
        return FAULT_FOUND;
    }
    return 0;
}

static inline bool fault_is_found(enum fault fault, fault_life_t live)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(fault_child(fault, live));
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child)
        return false;
    return WIFSIGNALED(status) || WEXITSTATUS(status) != 0;
}
#endif

#endif
