/* keys.h: what may still be read of each key: the check behind `stale` and `lost`. One thread, one
 * process: values of other writers count as older than all of ours.
 *
 * Versions are numbers in the order of sending. A write is clean when no other write of its key was
 * under way as it was sent: everything of a lower number had been answered before, so it is older
 * in every linear order. Once a clean version was acknowledged or read, no request sent later may
 * see a lower number: that is the key's floor. A write of unknown outcome is under way for ever: it
 * may take effect at any time. */
#ifndef BENCH_KEYS_H
#define BENCH_KEYS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct key_state {
    uint64_t floor;
    uint32_t under_way;
};

struct keys {
    struct key_state *states; /* by index, not by number */
    uint64_t version;         /* given out last */
};

/* False: no memory. */
static inline bool keys_init(struct keys *keys, uint32_t count)
{
    *keys = (struct keys){.states = calloc(count, sizeof(struct key_state))};
    return keys->states != NULL;
}

static inline void keys_free(struct keys *keys)
{
    free(keys->states);
}

static inline uint64_t keys_write_begin(struct keys *keys, uint32_t index, bool *clean)
{
    *clean = keys->states[index].under_way++ == 0;
    return ++keys->version;
}

static inline void keys_seen(struct keys *keys, uint32_t index, uint64_t version, bool clean)
{
    if (clean && version > keys->states[index].floor)
        keys->states[index].floor = version;
}

static inline void keys_write_acknowledged(struct keys *keys, uint32_t index, uint64_t version,
                                           bool clean)
{
    keys->states[index].under_way--;
    keys_seen(keys, index, version, clean);
}

/* A request sent now must see this version or a higher one; 0: it may see nothing at all. */
static inline uint64_t keys_floor(const struct keys *keys, uint32_t index)
{
    return keys->states[index].floor;
}

#endif
