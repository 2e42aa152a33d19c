/* ts.h: logical timestamps, the total order of all writes of one key.
 *
 * 52 bits of version (a hybrid logical clock in microseconds), 4 bits of node, 8 bits of
 * incarnation. Compared as plain integers. The incarnation is there so that equal timestamps never
 * name two values: a restarted node may not remember which versions it gave out (doc/protocol.md,
 * invariant 5). Zero is older than everything and is never given to a write. */
#ifndef BASE_TS_H
#define BASE_TS_H

#include <stdint.h>

enum {
    TS_INCARNATION_BITS = 8,
    TS_NODE_BITS = 4,
};

static inline uint64_t ts_make(uint64_t version, unsigned node, unsigned incarnation)
{
    return (version << (TS_NODE_BITS + TS_INCARNATION_BITS)) |
           ((uint64_t)(node & 0xf) << TS_INCARNATION_BITS) | (incarnation & 0xff);
}

static inline uint64_t ts_version(uint64_t ts)
{
    return ts >> (TS_NODE_BITS + TS_INCARNATION_BITS);
}

static inline unsigned ts_node(uint64_t ts)
{
    return (unsigned)(ts >> TS_INCARNATION_BITS) & 0xf;
}

static inline unsigned ts_incarnation(uint64_t ts)
{
    return (unsigned)ts & 0xff;
}

#endif
