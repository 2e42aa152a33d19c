/* medium.h: where the segments of one shard's log lie: the seam between the log and its memory.
 *
 * Implementations: medium_memory.h (anonymous memory, durable never asked), medium_file.h (libpmem:
 * DAX with flush and drain; an ordinary file with msync by a flusher thread), and the simulator's.
 * Owner thread only.
 *
 * Order of durability: what was flushed before a drain is durable when drained() has reached the
 * drain's cookie; nothing is promised of anything else, in any order. */
#ifndef PMEM_MEDIUM_H
#define PMEM_MEDIUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct medium;

struct medium_ops {
    /* Maps segment `number` (segment_size bytes, 8-byte aligned, zeros when new). With `create` the
     * segment may not exist yet, without it STATUS_NOT_FOUND if it does not. STATUS_NO_SPACE: the
     * others can still be used; STATUS_CORRUPT: what is there is damaged; STATUS_IO: with `create`,
     * the medium failed, as drained() will say. */
    enum status (*map)(struct medium *medium, uint32_t number, bool create, void **base);

    /* The log is about to take segment `number`: how many segments there can be at most. Less than
     * was thought is told while some are still free. UINT32_MAX: no limit is known. May wait until
     * they are ready. NULL: no limit. */
    uint32_t (*room)(struct medium *medium, uint32_t number);

    /* Whether all of a mapped segment can be read, page by page: an access to a page that can't be
     * had ends the process. NULL: always. */
    bool (*readable)(struct medium *medium, uint32_t number);

    /* A segment that map() refused, or that is not readable, is not needed any more: puts it aside,
     * so that map() with `create` makes a new one. False: it can't be put aside. NULL: never. */
    bool (*replace)(struct medium *medium, uint32_t number);

    /* Begins to write [at, at + size) back. Cheap; not durable yet. */
    void (*flush)(struct medium *medium, const void *at, size_t size);

    /* Asks that all that was flushed so far become durable. `cookie` grows from call to call. May
     * be done on return (DAX, memory) or later (file: one sync in flight, the next one gathers). */
    void (*drain)(struct medium *medium, uint64_t cookie);

    /* The newest cookie whose drain is done; 0 at the beginning. STATUS_IO: the medium failed,
     * nothing further will ever be durable, the node must stop. */
    enum status (*drained)(struct medium *medium, uint64_t *cookie);

    /* Unmaps everything. */
    void (*close)(struct medium *medium);
};

struct medium {
    const struct medium_ops *ops;
    uint32_t segment_size;
};

#endif
