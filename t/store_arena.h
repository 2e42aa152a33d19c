/* store_arena.h: a store in memory that outlives the process which works in it, and a plan of
 * changes to it, by which it can be judged wherever that process was killed. For tests.
 *
 * An arena may be copied, byte by byte, to any other address, and the copy be taken over. */
#ifndef T_STORE_ARENA_H
#define T_STORE_ARENA_H

#include "pmem/medium.h"
#include "store/store.h"

enum {
    ARENA_SEGMENT_SIZE = 4096,
    ARENA_SEGMENT_COUNT = 16,
    PLAN_STEP_MAX = 4096,
};

/* Everything that a killed process leaves. */
struct arena {
    struct medium medium; /* first; its pointer is each process's own */
    uint64_t cookie;
    uint32_t phase; /* steps of the plan that are done */
    bool exists[ARENA_SEGMENT_COUNT];
    _Alignas(4096) uint8_t segments[ARENA_SEGMENT_COUNT][ARENA_SEGMENT_SIZE];
    _Alignas(4096) uint8_t index[];
};

/* Empty; `shared` with the children of this process. */
struct arena *arena_make(bool shared);
void arena_free(struct arena *arena);

size_t arena_size(void);
uint64_t arena_index_size(void);
struct store_options arena_options(struct arena *arena);

/* ---- the plan: what is done, and what the keys are worth after each step ---- */

enum plan_action { STEP_PUT, STEP_DELETE, STEP_MARK, STEP_CLEAN, STEP_INVALID, STEP_TURN };

struct plan_step {
    enum plan_action action;
    uint32_t key;
    uint32_t size; /* of the value; of cleaning: its budget */
};

struct plan {
    struct plan_step steps[PLAN_STEP_MAX];
    uint32_t count;
    uint32_t stepped_from; /* what is before is done at full speed */
};

void plan_add(struct plan *plan, enum plan_action action, uint32_t key, uint32_t size);

/* Does the step at this index. */
void plan_do(const struct plan *plan, uint32_t index, struct store *store);

/* Which step put the value that a key has after `phase` steps, counted from 1. 0: it has none. */
uint32_t plan_worth(const struct plan *plan, uint32_t phase, uint32_t key);

/* The value that a step puts, counted from 1: its number, over and over. It lies in `bytes`. */
struct slice plan_value(const struct plan *plan, uint32_t step, uint8_t bytes[ARENA_SEGMENT_SIZE]);

#endif
