/* Virtual time: the heap of events, chance, clocks, the hash and the trace of a run. */
#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>

#include "t/sim.h"

void sim_fail(struct sim *sim, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sim->reason, sizeof(sim->reason), format, arguments);
    va_end(arguments);
    longjmp(sim->out, 1);
}

static bool sooner(const struct sim_event *a, const struct sim_event *b)
{
    return a->at != b->at ? a->at < b->at : a->number < b->number;
}

static void heap_up(struct sim *sim, size_t at)
{
    struct sim_event event = sim->heap[at];
    for (; at > 0 && sooner(&event, &sim->heap[(at - 1) / 2]); at = (at - 1) / 2)
        sim->heap[at] = sim->heap[(at - 1) / 2];
    sim->heap[at] = event;
}

/* The event can be filled in until the next call: what the order depends on is set here. */
struct sim_event *sim_at(struct sim *sim, uint64_t at, enum sim_event_type type)
{
    if (sim->heap_count == sim->heap_room) {
        sim->heap_room = sim->heap_room == 0 ? 1024 : 2 * sim->heap_room;
        sim->heap = realloc(sim->heap, sim->heap_room * sizeof(*sim->heap));
        assert(sim->heap != NULL);
    }
    uint64_t number = ++sim->number;
    sim->heap[sim->heap_count] =
        (struct sim_event){.at = at < sim->now ? sim->now : at, .number = number, .type = type};
    heap_up(sim, sim->heap_count++);
    for (size_t i = sim->heap_count - 1;; i = (i - 1) / 2)
        if (sim->heap[i].number == number)
            return &sim->heap[i];
}

bool sim_next(struct sim *sim, struct sim_event *event)
{
    if (sim->heap_count == 0)
        return false;
    *event = sim->heap[0];
    struct sim_event last = sim->heap[--sim->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= sim->heap_count)
            break;
        if (child + 1 < sim->heap_count && sooner(&sim->heap[child + 1], &sim->heap[child]))
            child++;
        if (!sooner(&sim->heap[child], &last))
            break;
        sim->heap[at] = sim->heap[child];
        at = child;
    }
    sim->heap[at] = last;
    sim->now = event->at;
    return true;
}

uint64_t sim_below(struct sim *sim, uint64_t bound)
{
    return bound == 0 ? 0 : prng_below(&sim->prng, bound);
}

uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high)
{
    return high <= low ? low : low + prng_below(&sim->prng, high - low + 1);
}

bool sim_chance(struct sim *sim, unsigned percent)
{
    return prng_chance(&sim->prng, percent);
}

void sim_mix(struct sim *sim, uint64_t word)
{
    uint64_t hash = sim->hash ^ word;
    hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93;
    hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93;
    sim->hash = hash ^ sim->now;
}

void sim_print(struct sim *sim, const char *format, ...)
{
    va_list arguments;
    printf("%10.6f ", (double)sim->now / 1e6);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

uint64_t sim_mono_at(const struct sim *sim, unsigned node, uint64_t at)
{
    const struct sim_node *n = &sim->nodes[node];
    return (uint64_t)(n->mono_offset + (int64_t)at + (int64_t)at * n->drift_ppm / 1000000);
}

uint64_t sim_mono(const struct sim *sim, unsigned node)
{
    return sim_mono_at(sim, node, sim->now);
}

uint64_t sim_wall(const struct sim *sim, unsigned node)
{
    const struct sim_node *n = &sim->nodes[node];
    int64_t drift = (int64_t)sim->now * n->drift_ppm / 1000000;
    if (sim->profile.wall_frozen)
        return (uint64_t)((int64_t)SIM_WALL_START * 1000000 + n->wall_offset);
    return (uint64_t)((int64_t)SIM_WALL_START * 1000000 + (int64_t)sim->now + drift +
                      n->wall_offset);
}
