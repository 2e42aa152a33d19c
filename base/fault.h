/* fault.h: deliberate faults, for proving that the tests can fail.
 *
 * In the product FAULT(name) is the constant 0. In a build with -DFAULTS it is true while
 * fault_active is that fault: the simulator switches one on and must then find a violation
 * (doc/verification.md). */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

enum fault {
    FAULT_NONE,
#define FAULT_ROW(name, text) FAULT_##name,
#include "base/fault.def"
#undef FAULT_ROW
    FAULT_COUNT
};

#ifdef FAULTS
extern enum fault fault_active;
#define FAULT(name) (fault_active == FAULT_##name)
#else
#define FAULT(name) 0
#endif

#endif
