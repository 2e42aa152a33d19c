#include "base/fault.h"

#ifdef FAULTS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum fault fault_active = FAULT_NONE;

/* FAULT=NAME in the environment plants it in any program of this build: then its tests have to fail
 * (t/planted-faults). */
__attribute__((constructor)) static void plant(void)
{
    static const char *const names[] = {
        "NONE",
#define FAULT_ROW(name, text) #name,
#include "base/fault.def"
#undef FAULT_ROW
    };
    const char *wanted = getenv("FAULT");
    if (wanted == NULL)
        return;
    for (int i = 0; i < FAULT_COUNT; i++)
        if (strcmp(wanted, names[i]) == 0)
            fault_active = (enum fault)i;
    if (fault_active == FAULT_NONE) {
        fprintf(stderr, "no such fault: %s\n", wanted);
        exit(2);
    }
}
#endif

/* A translation unit may not be empty in ISO C. */
typedef int fault_unit;
