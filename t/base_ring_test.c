/* Goal: what is put into a ring is taken once, whole and in order, also when two threads do it at
 * once. Method: a full and an empty ring by hand; then two threads and a small ring, so that it is
 * full and empty very often. ThreadSanitizer runs this too (make check-tsan). */
#include <pthread.h>
#include <sched.h>

#include "base/ring.h"
#include "t/test.h"

enum { SLOT_COUNT = 8, ITEM_COUNT = 200000 };

static uint64_t items[ITEM_COUNT];

static void *put_all(void *user)
{
    struct ring *ring = user;
    for (uint64_t i = 0; i < ITEM_COUNT; i++) {
        items[i] = i * 3; /* written before the put: the taker has to see it */
        while (!ring_put(ring, &items[i]))
            sched_yield();
    }
    return NULL;
}

TEST(ring, is_empty_at_first)
{
    void *slots[SLOT_COUNT];
    struct ring ring;
    ring_init(&ring, slots, SLOT_COUNT);
    EXPECT(ring_take(&ring) == NULL);
}

TEST(ring, refuses_what_does_not_fit_and_gives_in_the_order_of_putting)
{
    void *slots[SLOT_COUNT];
    struct ring ring;
    ring_init(&ring, slots, SLOT_COUNT);
    for (size_t i = 0; i < SLOT_COUNT; i++)
        ASSERT(ring_put(&ring, &items[i]));
    EXPECT(!ring_put(&ring, &items[SLOT_COUNT]));
    for (size_t i = 0; i < SLOT_COUNT; i++)
        EXPECT(ring_take(&ring) == &items[i]);
    EXPECT(ring_take(&ring) == NULL);
}

TEST(ring, goes_on_when_its_counters_wrap)
{
    void *slots[SLOT_COUNT];
    struct ring ring;
    ring_init(&ring, slots, SLOT_COUNT);
    atomic_store(&ring.head, UINT32_MAX - 2);
    atomic_store(&ring.tail, UINT32_MAX - 2);
    for (size_t i = 0; i < SLOT_COUNT; i++)
        ASSERT(ring_put(&ring, &items[i]));
    EXPECT(!ring_put(&ring, &items[0]));
    for (size_t i = 0; i < SLOT_COUNT; i++)
        EXPECT(ring_take(&ring) == &items[i]);
}

TEST(ring, carries_everything_from_one_thread_to_another)
{
    void *slots[SLOT_COUNT];
    struct ring ring;
    pthread_t putter;
    ring_init(&ring, slots, SLOT_COUNT);
    ASSERT_EQ(pthread_create(&putter, NULL, put_all, &ring), 0);
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < ITEM_COUNT; i++) {
        uint64_t *item;
        while ((item = ring_take(&ring)) == NULL)
            sched_yield();
        wrong += item != &items[i] || *item != i * 3;
    }
    pthread_join(putter, NULL);
    EXPECT_EQ(wrong, 0);
    EXPECT(ring_take(&ring) == NULL);
}
