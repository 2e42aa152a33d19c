#include <string.h>

#include "base/fault.h"
#include "replica/step.h"

bool lease_copy(void *to, struct slice from, bool (*lease_holds)(void *user), void *user)
{
    if (FAULT(LEASE_BEFORE_COPY)) {
        bool holds = lease_holds(user);
        memcpy(to, from.data, from.size);
        return holds;
    }
    if (from.size > 0)
        memcpy(to, from.data, from.size);
    return lease_holds(user);
}
