/* gate.h: which incarnations of a peer may pass. Pure: the simulator's network asks the same rule.
 */
#ifndef NET_GATE_H
#define NET_GATE_H

#include <stdint.h>

#include "base/fault.h"
#include "net/hello.h"

struct gate {
    uint64_t newest; /* older ones are refused */
    uint64_t fenced; /* this and older ones are refused */
};

static inline enum hello_refusal gate_judge(const struct gate *gate, uint64_t incarnation)
{
    if (FAULT(OLD_INCARNATION))
        return HELLO_ACCEPTED;
    if (incarnation <= gate->fenced)
        return HELLO_FENCED;
    return incarnation < gate->newest ? HELLO_OLD_INCARNATION : HELLO_ACCEPTED;
}

#endif
