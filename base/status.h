/* status.h: the one kind of error that functions return. Bugs are asserted, not returned. */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

enum status {
#define STATUS(name, text) STATUS_##name,
#include "base/status.def"
#undef STATUS
    STATUS_COUNT
};

/* Put on every function that returns a status the caller has to handle. */
#define MUST_CHECK __attribute__((warn_unused_result))

/* A text for people; never NULL. Callable from any thread. */
const char *status_text(enum status status);

#endif
