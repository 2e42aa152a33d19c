#include "t/sim_medium.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/prng.h"

enum { LINE = 64, SEGMENT_ALIGN = 4096, DRAIN_COUNT_MAX = 4096 };

/* A line as it was when it was flushed. */
struct pending {
    uint32_t segment;
    uint32_t line;
    uint64_t cookie; /* 0: no drain was asked for since */
    uint8_t data[LINE];
};

struct drain_due {
    uint64_t cookie;
    uint64_t due;
};

struct sim_segment {
    uint8_t *cache;   /* what the program sees; NULL: does not exist */
    uint8_t *durable; /* what is safe */
    bool truncated;
};

struct sim {
    struct medium medium; /* first: the caller holds a pointer to it */
    struct prng prng;
    uint32_t segment_count;
    struct sim_segment *segments;
    struct pending *pending; /* in the order of flushing */
    size_t pending_count, pending_size;
    struct drain_due dues[DRAIN_COUNT_MAX];
    uint32_t due_count;
    uint64_t asked, done, now, delay_min, delay_max, flushed;
    bool manual, failed;
};

static struct sim *sim_of(struct medium *medium)
{
    return (struct sim *)medium;
}

static const struct sim *sim_of_const(const struct medium *medium)
{
    return (const struct sim *)medium;
}

static enum status map(struct medium *medium, uint32_t number, bool create, void **base)
{
    struct sim *sim = sim_of(medium);
    if (number >= sim->segment_count)
        return create ? STATUS_NO_SPACE : STATUS_NOT_FOUND;
    struct sim_segment *segment = &sim->segments[number];
    if (segment->truncated)
        return STATUS_CORRUPT;
    if (segment->cache == NULL) {
        if (!create)
            return STATUS_NOT_FOUND;
        segment->cache = aligned_alloc(SEGMENT_ALIGN, medium->segment_size);
        segment->durable = aligned_alloc(SEGMENT_ALIGN, medium->segment_size);
        assert(segment->cache != NULL);
        assert(segment->durable != NULL);
        memset(segment->cache, 0, medium->segment_size);
        memset(segment->durable, 0, medium->segment_size);
    }
    *base = segment->cache;
    return STATUS_OK;
}

static uint32_t segment_of(const struct sim *sim, const uint8_t *at)
{
    for (uint32_t i = 0; i < sim->segment_count; i++) {
        const uint8_t *cache = sim->segments[i].cache;
        if (cache != NULL && at >= cache && at < cache + sim->medium.segment_size)
            return i;
    }
    assert(!"flushed what is no segment");
    return 0;
}

static struct pending *add_pending(struct sim *sim)
{
    if (sim->pending_count == sim->pending_size) {
        sim->pending_size = sim->pending_size == 0 ? 1024 : 2 * sim->pending_size;
        sim->pending = realloc(sim->pending, sim->pending_size * sizeof(*sim->pending));
        assert(sim->pending != NULL);
    }
    return &sim->pending[sim->pending_count++];
}

static void flush(struct medium *medium, const void *at, size_t size)
{
    struct sim *sim = sim_of(medium);
    if (size == 0)
        return;
    uint32_t number = segment_of(sim, at);
    const uint8_t *cache = sim->segments[number].cache;
    size_t first = (size_t)((const uint8_t *)at - cache);
    assert(first + size <= medium->segment_size);
    for (size_t line = first / LINE; line <= (first + size - 1) / LINE; line++) {
        struct pending *pending = add_pending(sim);
        *pending = (struct pending){.segment = number, .line = (uint32_t)line};
        memcpy(pending->data, cache + line * LINE, LINE);
        sim->flushed++;
    }
}

static void settle(struct sim *sim, const struct pending *pending)
{
    memcpy(sim->segments[pending->segment].durable + (size_t)pending->line * LINE, pending->data,
           LINE);
}

void sim_medium_complete(struct medium *medium, uint64_t cookie)
{
    struct sim *sim = sim_of(medium);
    size_t kept = 0;
    for (size_t i = 0; i < sim->pending_count; i++) {
        const struct pending *pending = &sim->pending[i];
        if (pending->cookie != 0 && pending->cookie <= cookie)
            settle(sim, pending);
        else
            sim->pending[kept++] = *pending;
    }
    sim->pending_count = kept;
    uint32_t left = 0;
    for (uint32_t i = 0; i < sim->due_count; i++)
        if (sim->dues[i].cookie > cookie)
            sim->dues[left++] = sim->dues[i];
    sim->due_count = left;
    if (cookie > sim->asked)
        cookie = sim->asked;
    if (cookie > sim->done)
        sim->done = cookie;
}

static void complete_due(struct sim *sim)
{
    uint64_t cookie = 0;
    for (uint32_t i = 0; i < sim->due_count && sim->dues[i].due <= sim->now; i++)
        cookie = sim->dues[i].cookie;
    if (cookie != 0)
        sim_medium_complete(&sim->medium, cookie);
}

static void drain(struct medium *medium, uint64_t cookie)
{
    struct sim *sim = sim_of(medium);
    assert(cookie > sim->asked);
    for (size_t i = sim->pending_count; i > 0 && sim->pending[i - 1].cookie == 0; i--)
        sim->pending[i - 1].cookie = cookie;
    sim->asked = cookie;
    if (sim->manual)
        return;
    if (sim->delay_max == 0) {
        sim_medium_complete(medium, cookie);
        return;
    }
    assert(sim->due_count < DRAIN_COUNT_MAX);
    uint64_t due =
        sim->now + sim->delay_min + prng_below(&sim->prng, sim->delay_max - sim->delay_min + 1);
    if (sim->due_count > 0 && sim->dues[sim->due_count - 1].due > due)
        due = sim->dues[sim->due_count - 1].due;
    sim->dues[sim->due_count++] = (struct drain_due){.cookie = cookie, .due = due};
}

static enum status drained(struct medium *medium, uint64_t *cookie)
{
    struct sim *sim = sim_of(medium);
    if (sim->failed)
        return STATUS_IO;
    complete_due(sim);
    *cookie = sim->done;
    return STATUS_OK;
}

static void free_segments(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->segment_count; i++) {
        free(sim->segments[i].cache);
        free(sim->segments[i].durable);
        sim->segments[i] = (struct sim_segment){0};
    }
}

static void close(struct medium *medium)
{
    struct sim *sim = sim_of(medium);
    free_segments(sim);
    free(sim->segments);
    free(sim->pending);
    free(sim);
}

struct medium *sim_medium_open(uint32_t segment_size, uint32_t segments, uint64_t seed)
{
    static const struct medium_ops ops = {
        .map = map, .flush = flush, .drain = drain, .drained = drained, .close = close};
    struct sim *sim = calloc(1, sizeof(*sim));
    assert(sim != NULL);
    assert(segment_size % SEGMENT_ALIGN == 0);
    sim->medium = (struct medium){.ops = &ops, .segment_size = segment_size};
    sim->prng.state = seed;
    sim->segment_count = segments;
    sim->segments = calloc(segments, sizeof(*sim->segments));
    assert(sim->segments != NULL);
    return &sim->medium;
}

/* A new life: its cookies begin at 0. */
static void forget_drains(struct sim *sim)
{
    sim->asked = 0;
    sim->done = 0;
    sim->due_count = 0;
    sim->failed = false;
}

void sim_medium_cut(struct medium *medium)
{
    static const unsigned chances[] = {0, 10, 50, 50, 50, 90, 100};
    struct sim *sim = sim_of(medium);
    unsigned chance = chances[prng_below(&sim->prng, sizeof(chances) / sizeof(chances[0]))];
    for (size_t i = 0; i < sim->pending_count; i++)
        if (prng_chance(&sim->prng, chance))
            settle(sim, &sim->pending[i]);
    sim->pending_count = 0;
    for (uint32_t i = 0; i < sim->segment_count; i++) {
        struct sim_segment *segment = &sim->segments[i];
        for (uint32_t at = 0; segment->cache != NULL && at < medium->segment_size; at += LINE)
            if (memcmp(segment->cache + at, segment->durable + at, LINE) != 0 &&
                prng_chance(&sim->prng, chance))
                memcpy(segment->durable + at, segment->cache + at, LINE);
        if (segment->cache != NULL)
            memcpy(segment->cache, segment->durable, medium->segment_size);
    }
    forget_drains(sim);
}

void sim_medium_kill(struct medium *medium)
{
    struct sim *sim = sim_of(medium);
    /* Their drains will never be heard of; the lines may reach the medium early or late, as
     * unflushed ones do. */
    sim->pending_count = 0;
    forget_drains(sim);
}

void sim_medium_wipe(struct medium *medium)
{
    struct sim *sim = sim_of(medium);
    free_segments(sim);
    sim->pending_count = 0;
    forget_drains(sim);
}

static bool line_used(const uint8_t *line)
{
    for (uint32_t i = 0; i < LINE; i++)
        if (line[i] != 0)
            return true;
    return false;
}

bool sim_medium_corrupt(struct medium *medium)
{
    struct sim *sim = sim_of(medium);
    for (unsigned tries = 0; tries < 10000; tries++) {
        struct sim_segment *segment = &sim->segments[prng_below(&sim->prng, sim->segment_count)];
        uint64_t at = prng_below(&sim->prng, medium->segment_size / LINE) * LINE;
        if (segment->cache == NULL || !line_used(segment->cache + at))
            continue;
        for (uint64_t bits = 1 + prng_below(&sim->prng, 8); bits > 0; bits--) {
            uint64_t byte = at + prng_below(&sim->prng, LINE);
            segment->cache[byte] ^= (uint8_t)(1U << prng_below(&sim->prng, 8));
        }
        memcpy(segment->durable + at, segment->cache + at, LINE);
        return true;
    }
    return false;
}

void sim_medium_poke(struct medium *medium, uint32_t segment, uint32_t offset, uint8_t value)
{
    struct sim *sim = sim_of(medium);
    assert(sim->segments[segment].cache != NULL);
    sim->segments[segment].cache[offset] = value;
    sim->segments[segment].durable[offset] = value;
}

void sim_medium_truncate(struct medium *medium, uint32_t segment)
{
    sim_of(medium)->segments[segment].truncated = true;
}

void sim_medium_fail(struct medium *medium)
{
    sim_of(medium)->failed = true;
}

void sim_medium_set_manual(struct medium *medium, bool manual)
{
    sim_of(medium)->manual = manual;
}

void sim_medium_set_delay(struct medium *medium, uint64_t delay_min, uint64_t delay_max)
{
    assert(delay_min <= delay_max);
    sim_of(medium)->delay_min = delay_min;
    sim_of(medium)->delay_max = delay_max;
}

void sim_medium_set_time(struct medium *medium, uint64_t now)
{
    sim_of(medium)->now = now;
}

uint64_t sim_medium_due(const struct medium *medium)
{
    const struct sim *sim = sim_of_const(medium);
    return sim->due_count == 0 ? UINT64_MAX : sim->dues[0].due;
}

uint64_t sim_medium_asked(const struct medium *medium)
{
    return sim_of_const(medium)->asked;
}

uint64_t sim_medium_done(const struct medium *medium)
{
    return sim_of_const(medium)->done;
}

uint64_t sim_medium_hash(const struct medium *medium)
{
    const struct sim *sim = sim_of_const(medium);
    uint64_t hash = 0;
    for (uint32_t i = 0; i < sim->segment_count; i++) {
        const uint8_t *cache = sim->segments[i].cache;
        hash =
            hash * 31 + (cache == NULL ? i + 1 : hash_key(slice_make(cache, medium->segment_size)));
    }
    return hash;
}

uint64_t sim_medium_flushed(const struct medium *medium)
{
    return sim_of_const(medium)->flushed;
}
