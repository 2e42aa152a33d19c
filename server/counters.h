/* counters.h: holds atomics: numbers that one thread writes and others read, without locks and
 * without order. */
#ifndef SERVER_COUNTERS_H
#define SERVER_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "pmem/medium_file.h"
#include "recovery/shard.h"
#include "store/store.h"

enum counter {
#define COUNTER(name) COUNTER_##name,
#include "server/counter.def"
#undef COUNTER
    COUNTER_COUNT
};

/* Of one worker, who alone writes. */
struct counters {
    _Atomic uint64_t values[COUNTER_COUNT];
};

static inline void counters_add(struct counters *counters, enum counter counter, uint64_t amount)
{
    _Atomic uint64_t *value = &counters->values[counter];
    uint64_t now = atomic_load_explicit(value, memory_order_relaxed);
    atomic_store_explicit(value, now + amount, memory_order_relaxed);
}

static inline uint64_t counters_read_any(const struct counters *counters, enum counter counter)
{
    return atomic_load_explicit(&counters->values[counter], memory_order_relaxed);
}

/* What a worker publishes of its shard, about every 100 ms and when `stats` asks for it. */
struct published {
    struct shard_stats shard;
    struct store_stats store;
    struct medium_file_stats medium; /* kind NULL: in memory */
    uint64_t undurable;              /* appends that are not durable here yet */
    uint64_t parked;
    uint64_t jobs_taken; /* commands of clients under way */
    uint64_t buffers;    /* read buffers, in use or kept */
};

enum { PUBLISHED_WORDS = (sizeof(struct published) + 7) / 8 };

/* Words may be of different moments, none is torn. */
struct publication {
    _Atomic uint64_t words[PUBLISHED_WORDS];
};

static inline void publication_write(struct publication *publication,
                                     const struct published *published)
{
    uint64_t words[PUBLISHED_WORDS] = {0};
    memcpy(words, published, sizeof(*published));
    for (unsigned i = 0; i < PUBLISHED_WORDS; i++)
        atomic_store_explicit(&publication->words[i], words[i], memory_order_relaxed);
}

static inline void publication_read_any(const struct publication *publication,
                                        struct published *published)
{
    uint64_t words[PUBLISHED_WORDS];
    for (unsigned i = 0; i < PUBLISHED_WORDS; i++)
        words[i] = atomic_load_explicit(&publication->words[i], memory_order_relaxed);
    memcpy(published, words, sizeof(*published));
}

#endif
