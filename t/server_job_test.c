/* Goal: jobs that were put back in any order are tried again in the order in which they came.
 * Method: all orders of few, and many in a random one. */
#include "server/job.h"

#include <stdlib.h>

#include "base/prng.h"
#include "t/test.h"

enum { COUNT = 10000 };

static struct job *make(uint64_t sequence)
{
    struct job *job = calloc(1, sizeof(*job));
    job->sequence = sequence;
    return job;
}

static void expect_sorted(struct job_queue *queue, uint32_t count)
{
    uint64_t last = 0;
    EXPECT_EQ(queue->count, count);
    if (count > 0)
        EXPECT(queue->last->next == NULL);
    for (struct job *job; (job = job_queue_take(queue)) != NULL; free(job)) {
        EXPECT(job->sequence > last);
        last = job->sequence;
        count--;
    }
    EXPECT_EQ(count, 0);
    EXPECT(queue->last == NULL);
}

TEST(job, few_are_sorted_whatever_their_order)
{
    for (uint32_t count = 0; count <= 5; count++)
        for (unsigned order = 0; order < 120; order++) {
            struct job_queue queue = {.first = NULL};
            uint64_t left[5] = {1, 2, 3, 4, 5};
            unsigned rest = order;
            for (uint32_t i = count; i > 0; i--) {
                unsigned at = rest % i;
                rest /= i;
                job_queue_put(&queue, make(left[at]));
                left[at] = left[i - 1];
            }
            job_queue_sort(&queue);
            expect_sorted(&queue, count);
        }
}

TEST(job, many_are_sorted)
{
    static uint64_t numbers[COUNT];
    struct prng prng = {.state = 3};
    struct job_queue queue = {.first = NULL};
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t at = (uint32_t)prng_below(&prng, i + 1);
        numbers[i] = numbers[at];
        numbers[at] = i + 1;
    }
    for (uint32_t i = 0; i < COUNT; i++)
        job_queue_put(&queue, make(numbers[i]));
    job_queue_sort(&queue);
    expect_sorted(&queue, COUNT);
}
