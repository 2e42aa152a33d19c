/* readers.h: holds atomics: who may be looking at records of shards that are not his own.
 *
 * A record that a worker has found in another one's shard stays as it is until that worker leaves,
 * at the latest at the end of its turn: the owner uses the space of a segment again only when all
 * who were inside when it gave the segment back have left since (pmem/log.h, log_grace_ask). A
 * worker that reads nothing of others, or sleeps, is outside and holds up nobody.
 *
 *     reader: enter -> find, copy, find, copy ... -> leave          owner: give segments back ->
 *                                                                   ask -> (each turn) passed? ->
 *                                                                   reuse
 *
 * Why nothing is used again too early, and no reader finds an entry that the owner has replaced
 * before it asked: an owner looks at each reader's word by a read-modify-write if it says
 * "outside", and a reader enters by one; so one of them comes first in the order of that word. Is
 * it the owner, then the reader sees all that the owner did before. Is it the reader, then the
 * owner finds it inside. A reader inside with a number not below the owner's has seen the asking,
 * and all that came before it. */
#ifndef SERVER_READERS_H
#define SERVER_READERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/options.h"

/* Each on a cache line of its own: one writes it, for each turn in which it reads. */
struct reader {
    _Alignas(64) _Atomic uint64_t since; /* the newest asking when it entered; 0: outside */
};

struct readers {
    _Alignas(64) _Atomic uint64_t asked; /* the number of the newest asking of any owner */
    unsigned count;                      /* constant */
    struct reader each[OPTIONS_THREAD_MAX];
};

static inline void readers_init(struct readers *readers, unsigned count)
{
    atomic_init(&readers->asked, 1);
    readers->count = count;
    for (unsigned i = 0; i < OPTIONS_THREAD_MAX; i++)
        atomic_init(&readers->each[i].since, 0);
}

/* `number`: the caller, in 0..count-1. It is outside. */
static inline void readers_enter_any(struct readers *readers, unsigned number)
{
    uint64_t asked = atomic_load_explicit(&readers->asked, memory_order_acquire);
    atomic_exchange_explicit(&readers->each[number].since, asked, memory_order_acq_rel);
}

static inline void readers_leave_any(struct readers *readers, unsigned number)
{
    atomic_store_explicit(&readers->each[number].since, 0, memory_order_release);
}

/* What the caller did before is seen by everybody who enters after this; the number is for
 * readers_passed_any(). */
static inline uint64_t readers_ask_any(struct readers *readers)
{
    return atomic_fetch_add_explicit(&readers->asked, 1, memory_order_acq_rel) + 1;
}

/* Everybody who was inside at that asking has left since. */
static inline bool readers_passed_any(struct readers *readers, uint64_t asked)
{
    for (unsigned i = 0; i < readers->count; i++) {
        uint64_t since = 0;
        bool outside = atomic_compare_exchange_strong_explicit(
            &readers->each[i].since, &since, 0, memory_order_acq_rel, memory_order_acquire);
        if (!outside && since < asked)
            return false;
    }
    return true;
}

#endif
