/* view.h: who belongs to the group now. Agreed by a majority of the configured nodes; epochs grow
 * and skip none. */
#ifndef REPLICA_VIEW_H
#define REPLICA_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ts.h"

/* A set of nodes: bit (id - 1) is node `id`, ids are 1..7. */
static inline uint8_t node_bit(unsigned node)
{
    return (uint8_t)(1u << (node - 1));
}

struct view {
    uint32_t epoch;     /* 0: none yet */
    uint8_t members;    /* serve clients, coordinate, acknowledge */
    uint8_t healing;    /* acknowledge, serve nobody, coordinate nothing */
    uint8_t configured; /* all nodes of the group */
    uint8_t reserved;
    /* index: node id; of members and healing nodes: the one that was admitted */
    uint64_t incarnation[8];
};

/* The node and incarnation that made `ts` still belong to the group (doc/protocol.md:
 * "coordinator"). */
static inline bool view_has_coordinator(const struct view *view, uint64_t ts)
{
    unsigned node = ts_node(ts);
    return node >= 1 && node <= 7 && ((view->members | view->healing) & node_bit(node)) != 0 &&
           (view->incarnation[node] & 0xff) == ts_incarnation(ts);
}

#endif
