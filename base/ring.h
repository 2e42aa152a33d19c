/* ring.h: a queue of pointers between two threads: one puts, one takes. Holds atomics; never
 * blocks. */
#ifndef BASE_RING_H
#define BASE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring {
    _Alignas(64) _Atomic uint32_t head; /* next to take; written by the taker */
    _Alignas(64) _Atomic uint32_t tail; /* next to put; written by the putter */
    uint32_t mask;
    void **slots; /* the caller's memory, `count` pointers */
};

/* `count` is a power of two. `slots` stays the caller's, and must outlive the ring. */
static inline void ring_init(struct ring *ring, void **slots, uint32_t count)
{
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    ring->mask = count - 1;
    ring->slots = slots;
}

/* False: full, nothing was put. */
static inline bool ring_put(struct ring *ring, void *item)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    if (tail - atomic_load_explicit(&ring->head, memory_order_acquire) > ring->mask)
        return false;
    ring->slots[tail & ring->mask] = item;
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    return true;
}

/* For the taker. */
static inline bool ring_is_empty(const struct ring *ring)
{
    return atomic_load_explicit(&ring->head, memory_order_relaxed) ==
           atomic_load_explicit(&ring->tail, memory_order_acquire);
}

/* NULL: empty. */
static inline void *ring_take(struct ring *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    if (head == atomic_load_explicit(&ring->tail, memory_order_acquire))
        return NULL;
    void *item = ring->slots[head & ring->mask];
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return item;
}

#endif
