#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"
#include "t/sim_linear.h"

/* A start or an answer, in a doubly linked list in order of time; those of operations that the
 * search has placed are unlinked. An operation with an unknown outcome has no answer in the list
 * and need not be placed. */
struct entry {
    uint32_t operation;
    bool answer;
    uint64_t at;
    struct entry *before, *after;
    struct entry *pair; /* of a start: its answer or NULL */
};

struct placed {
    struct entry *start;
    struct sim_state state_before;
    unsigned variant;
};

/* A configuration that was reached: which operations are placed (as a sum of random numbers) and
 * the state. */
struct reached {
    uint64_t set[2];
    uint64_t state;
};

struct search {
    const struct sim_operation *const *operations;
    uint32_t count;
    struct entry *entries;
    struct entry head;
    uint32_t answers_left;
    struct placed *stack;
    uint32_t depth;
    uint64_t (*number)[2]; /* random, one pair an operation */
    uint32_t *cas_group;   /* operations that report one unique; UINT32_MAX: none */
    uint32_t *cas_placed;  /* how many of each group are placed */
    uint64_t set[2];
    struct sim_state state;
    struct reached *memory;
    uint64_t memory_mask, memory_count;
};

static uint64_t mix(uint64_t hash, uint64_t word)
{
    struct prng prng = {hash ^ (word * 0xff51afd7ed558ccd)};
    return prng_next(&prng);
}

static uint64_t state_hash(const struct sim_state *state)
{
    unsigned bits = state->exists + 2u * state->stale + 4u * state->won + 8u * state->large;
    uint64_t hash = mix(bits, state->cas);
    hash = mix(hash, ((uint64_t)state->flags << 32) | state->exptime);
    for (unsigned i = 0; i < state->value.size; i++)
        hash = hash * 0x100000001b3 + (unsigned char)state->value.bytes[i];
    return mix(hash, state->value.size);
}

static bool memory_put(struct search *search, const struct reached *item)
{
    uint64_t at = (item->set[0] ^ item->state) & search->memory_mask;
    for (;; at = (at + 1) & search->memory_mask) {
        struct reached *there = &search->memory[at];
        if (there->set[0] == 0 && there->set[1] == 0)
            break;
        if (there->set[0] == item->set[0] && there->set[1] == item->set[1] &&
            there->state == item->state)
            return false;
    }
    search->memory[at] = *item;
    return true;
}

static void memory_grow(struct search *search)
{
    struct reached *old = search->memory;
    uint64_t old_size = search->memory_mask + 1;
    search->memory_mask = old_size * 2 - 1;
    search->memory = calloc(old_size * 2, sizeof(*old));
    assert(search->memory != NULL);
    for (uint64_t i = 0; i < old_size; i++)
        if (old[i].set[0] != 0 || old[i].set[1] != 0)
            memory_put(search, &old[i]);
    free(old);
}

/* False: this configuration was looked at before, in vain. */
static bool remember(struct search *search, const struct sim_state *state, uint32_t operation)
{
    struct reached item = {.state = state_hash(state)};
    item.set[0] = search->set[0] ^ search->number[operation][0];
    item.set[1] = search->set[1] ^ search->number[operation][1];
    if (!memory_put(search, &item))
        return false;
    if (++search->memory_count * 2 > search->memory_mask)
        memory_grow(search);
    return true;
}

static void unlink_entry(struct entry *entry)
{
    entry->before->after = entry->after;
    if (entry->after != NULL)
        entry->after->before = entry->before;
}

static void link_entry(struct entry *entry)
{
    entry->before->after = entry;
    if (entry->after != NULL)
        entry->after->before = entry;
}

static void note_placed(struct search *search, struct entry *start, bool placed)
{
    uint32_t operation = start->operation;
    uint32_t group = search->cas_group[operation];
    search->set[0] ^= search->number[operation][0];
    search->set[1] ^= search->number[operation][1];
    if (group != UINT32_MAX)
        search->cas_placed[group] += placed ? 1 : UINT32_MAX;
    if (start->pair != NULL)
        search->answers_left += placed ? UINT32_MAX : 1;
}

static void place(struct search *search, struct entry *start, unsigned variant,
                  const struct sim_state *state)
{
    search->stack[search->depth++] = (struct placed){start, search->state, variant};
    search->state = *state;
    note_placed(search, start, true);
    unlink_entry(start);
    if (start->pair != NULL)
        unlink_entry(start->pair);
}

static struct placed take_back(struct search *search)
{
    struct placed last = search->stack[--search->depth];
    if (last.start->pair != NULL)
        link_entry(last.start->pair);
    link_entry(last.start);
    note_placed(search, last.start, false);
    search->state = last.state_before;
    return last;
}

/* Places the operation if one of its variants leads somewhere new. */
static bool try_place(struct search *search, struct entry *start, unsigned variant)
{
    const struct sim_operation *operation = search->operations[start->operation];
    uint32_t group = search->cas_group[start->operation];
    bool cas_seen = group != UINT32_MAX && search->cas_placed[group] > 0;
    for (; variant < SIM_VARIANT_COUNT; variant++) {
        struct sim_state after;
        if (sim_spec_apply(&search->state, operation, (enum sim_variant)variant, cas_seen,
                           &after) &&
            remember(search, &after, start->operation)) {
            place(search, start, variant, &after);
            return true;
        }
    }
    return false;
}

static enum sim_verdict run(struct search *search, uint64_t step_count_max, uint64_t *steps)
{
    struct entry *entry = search->head.after;
    unsigned variant = 0;
    for (*steps = 0; search->answers_left > 0; ++*steps) {
        if (*steps == step_count_max)
            return SIM_UNDECIDED;
        assert(entry != NULL);
        if (entry->answer) {
            /* This one was answered before everything that is still ahead began: something before
             * is wrong. */
            if (search->depth == 0)
                return SIM_VIOLATION;
            struct placed last = take_back(search);
            entry = last.start;
            variant = last.variant + 1;
        } else if (try_place(search, entry, variant)) {
            entry = search->head.after;
            variant = 0;
        } else {
            entry = entry->after;
            variant = 0;
        }
    }
    return SIM_LINEARIZABLE;
}

static int compare_entries(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;
    if (left->at != right->at)
        return left->at < right->at ? -1 : 1;
    return left->answer - right->answer; /* equal times: they overlap */
}

/* A definite answer that says "nothing was done, and nothing about the key" takes no part. */
static bool counts(const struct sim_operation *operation)
{
    if (operation->answered == UINT64_MAX)
        return operation->type != REQUEST_GET;
    bool full = operation->outcome == OUTCOME_NO_MEMORY && operation->type != REQUEST_SET;
    return operation->outcome != OUTCOME_REFUSED && operation->outcome != OUTCOME_TOO_LARGE &&
           !full;
}

static void link_all(struct search *search, uint32_t entry_count)
{
    struct entry **starts = calloc(search->count + 1, sizeof(*starts));
    struct entry *last = &search->head;
    assert(starts != NULL);
    qsort(search->entries, entry_count, sizeof(*search->entries), compare_entries);
    for (uint32_t i = 0; i < entry_count; i++) {
        struct entry *entry = &search->entries[i];
        entry->before = last;
        last->after = entry;
        last = entry;
        if (entry->answer)
            starts[entry->operation]->pair = entry;
        else
            starts[entry->operation] = entry;
    }
    free(starts);
}

static void group_uniques(struct search *search)
{
    for (uint32_t i = 0; i < search->count; i++) {
        const struct sim_operation *operation = search->operations[i];
        search->cas_group[i] = UINT32_MAX;
        if (operation->answered == UINT64_MAX || operation->result_cas == 0)
            continue;
        search->cas_group[i] = i;
        for (uint32_t j = 0; j < i; j++)
            if (search->cas_group[j] == j &&
                search->operations[j]->result_cas == operation->result_cas)
                search->cas_group[i] = j;
    }
}

static void fill(struct search *search)
{
    struct prng prng = {0x5eed};
    uint32_t entry_count = 0;
    for (uint32_t i = 0; i < search->count; i++) {
        const struct sim_operation *operation = search->operations[i];
        search->number[i][0] = prng_next(&prng);
        search->number[i][1] = prng_next(&prng);
        if (!counts(operation))
            continue;
        search->entries[entry_count++] = (struct entry){.operation = i, .at = operation->invoked};
        if (operation->answered != UINT64_MAX) {
            search->entries[entry_count++] =
                (struct entry){.operation = i, .at = operation->answered, .answer = true};
            search->answers_left++;
        }
    }
    link_all(search, entry_count);
    group_uniques(search);
}

enum sim_verdict sim_linear_check(const struct sim_operation *const *operations, size_t count,
                                  uint64_t step_count_max, uint64_t *steps)
{
    struct search search = {
        .operations = operations, .count = (uint32_t)count, .memory_mask = 1023};
    search.entries = calloc(2 * count + 1, sizeof(*search.entries));
    search.stack = calloc(count + 1, sizeof(*search.stack));
    search.number = calloc(count + 1, sizeof(*search.number));
    search.cas_group = calloc(count + 1, sizeof(*search.cas_group));
    search.cas_placed = calloc(count + 1, sizeof(*search.cas_placed));
    search.memory = calloc(search.memory_mask + 1, sizeof(*search.memory));
    assert(search.entries != NULL && search.stack != NULL && search.number != NULL);
    assert(search.cas_group != NULL && search.cas_placed != NULL && search.memory != NULL);
    fill(&search);
    enum sim_verdict verdict = run(&search, step_count_max, steps);
    free(search.memory);
    free(search.cas_placed);
    free(search.cas_group);
    free(search.number);
    free(search.stack);
    free(search.entries);
    return verdict;
}
