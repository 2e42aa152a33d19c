/* uri.h: keys in lists and logs, encoded as in a URI. Pure; any thread. */
#ifndef PROTO_URI_H
#define PROTO_URI_H

#include <stddef.h>

#include "base/slice.h"

/* What is no letter, digit or one of -._~ becomes %XX. Returns the bytes written, at most three for
 * each of `text`. */
size_t uri_encode(char *out, struct slice text);

#endif
