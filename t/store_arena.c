#include "t/store_arena.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/hash.h"
#include "base/ts.h"

uint64_t arena_index_size(void)
{
    return store_index_size((uint64_t)ARENA_SEGMENT_COUNT * ARENA_SEGMENT_SIZE);
}

size_t arena_size(void)
{
    return sizeof(struct arena) + arena_index_size();
}

static enum status map(struct medium *medium, uint32_t number, bool create, void **base)
{
    struct arena *arena = (struct arena *)medium;
    if (number >= ARENA_SEGMENT_COUNT || (!arena->exists[number] && !create))
        return STATUS_NOT_FOUND;
    arena->exists[number] = true;
    *base = arena->segments[number];
    return STATUS_OK;
}

static void flush(struct medium *medium, const void *at, size_t size)
{
    (void)medium;
    (void)at;
    (void)size;
}

static void drain(struct medium *medium, uint64_t cookie)
{
    ((struct arena *)medium)->cookie = cookie;
}

static enum status drained(struct medium *medium, uint64_t *cookie)
{
    *cookie = ((struct arena *)medium)->cookie;
    return STATUS_OK;
}

static const struct medium_ops ops = {
    .map = map, .flush = flush, .drain = drain, .drained = drained};
static const struct store_keep keep = {.whose = "this boot, this directory"};

struct arena *arena_make(bool shared)
{
    struct arena *arena = mmap(NULL, arena_size(), PROT_READ | PROT_WRITE,
                               (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
    arena->medium = (struct medium){.ops = &ops, .segment_size = ARENA_SEGMENT_SIZE};
    return arena;
}

void arena_free(struct arena *arena)
{
    munmap(arena, arena_size());
}

struct store_options arena_options(struct arena *arena)
{
    return (struct store_options){
        .log = {.identity = {.cluster = 1, .node = 1, .shard_count = 1},
                .medium = &arena->medium,
                .segment_count_max = ARENA_SEGMENT_COUNT},
        .index = arena->index,
        .index_size = arena_index_size(),
        .keep = &keep,
    };
}

/* ---- the plan ---- */

void plan_add(struct plan *plan, enum plan_action action, uint32_t key, uint32_t size)
{
    plan->steps[plan->count++] = (struct plan_step){.action = action, .key = key, .size = size};
}

struct slice plan_value(const struct plan *plan, uint32_t step, uint8_t bytes[ARENA_SEGMENT_SIZE])
{
    uint32_t size = plan->steps[step - 1].size;
    for (uint32_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(step >> (i % 4 * 8));
    return slice_make(bytes, size);
}

uint32_t plan_worth(const struct plan *plan, uint32_t phase, uint32_t key)
{
    for (uint32_t i = phase; i-- > 0;)
        if (plan->steps[i].key == key && plan->steps[i].action <= STEP_DELETE)
            return plan->steps[i].action == STEP_PUT ? i + 1 : 0;
    return 0;
}

static void put(const struct plan *plan, uint32_t index, struct store *store)
{
    const struct plan_step *step = &plan->steps[index];
    uint8_t bytes[ARENA_SEGMENT_SIZE];
    struct slice key = slice_make(&step->key, sizeof(step->key));
    struct record_spec spec = {.kind = step->action == STEP_PUT ? RECORD_VALUE : RECORD_TOMBSTONE,
                               .ts = ts_make(index + 1, 1, 0),
                               .key = key};
    if (step->action == STEP_PUT)
        spec.value = plan_value(plan, index + 1, bytes);
    struct found found;
    if (store_put_nodrain(store, &spec, hash_key(key), STATE_VALID, true, &found) != STATUS_OK)
        abort();
}

void plan_do(const struct plan *plan, uint32_t index, struct store *store)
{
    const struct plan_step *step = &plan->steps[index];
    struct mark mark = {.round = index, .epoch = 1, .members = 1, .configured = 1};
    const struct store_drop drop = {.lsn = UINT64_MAX, .floor = UINT64_MAX};
    struct slice key = slice_make(&step->key, sizeof(step->key));
    struct found found;
    uint64_t durable;
    switch (step->action) {
    case STEP_PUT:
    case STEP_DELETE:
        put(plan, index, store);
        break;
    case STEP_MARK:
        mark.lsn = log_tail(store_log(store));
        if (store_put_mark_nodrain(store, &mark) != STATUS_OK)
            abort();
        break;
    case STEP_CLEAN:
        store_clean(store, &drop, step->size);
        break;
    case STEP_INVALID:
        if (store_find(store, key, hash_key(key), &found))
            store_set_state(store, &found, STATE_INVALID);
        break;
    case STEP_TURN:
        log_drain(store_log(store));
        if (log_durable(store_log(store), &durable) != STATUS_OK)
            abort();
        break;
    }
}
