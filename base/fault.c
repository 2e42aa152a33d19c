#include "base/fault.h"

#ifdef FAULTS
enum fault fault_active = FAULT_NONE;
#endif

/* A translation unit may not be empty in ISO C. */
typedef int fault_unit;
