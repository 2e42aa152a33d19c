/* Goal: on ordinary files a drain is done only when all that was flushed before it has been synced.
 * Method: a medium in a directory of the test; the msync that libpmem calls is ours, waits at a
 * gate and notes what it covers. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "pmem/medium_file.h"
#include "t/test.h"

enum { SIZE = 65536, WAIT_MS = 10000, SYNCS_MAX = 64 };

static struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t moved;
    unsigned allowed, waiting, count; /* syncs that may pass; are at the gate; have begun */
    const uint8_t *from[SYNCS_MAX], *to[SYNCS_MAX];
} gate = {.mutex = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

int msync(void *address, size_t size, int flags)
{
    pthread_mutex_lock(&gate.mutex);
    if (gate.count < SYNCS_MAX) {
        gate.from[gate.count] = address;
        gate.to[gate.count] = (uint8_t *)address + size;
    }
    gate.count++;
    gate.waiting++;
    pthread_cond_broadcast(&gate.moved);
    while (gate.allowed == 0)
        pthread_cond_wait(&gate.moved, &gate.mutex);
    gate.allowed--;
    gate.waiting--;
    pthread_mutex_unlock(&gate.mutex);
    return (int)syscall(SYS_msync, address, size, flags);
}

static void allow(unsigned count)
{
    pthread_mutex_lock(&gate.mutex);
    gate.allowed = count;
    pthread_cond_broadcast(&gate.moved);
    pthread_mutex_unlock(&gate.mutex);
}

/* Until the flusher stands at the gate. */
static void await_sync(void)
{
    struct timespec until;
    int error = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_MS / 1000;
    pthread_mutex_lock(&gate.mutex);
    while (error == 0 && (gate.waiting == 0 || gate.allowed > 0))
        error = pthread_cond_timedwait(&gate.moved, &gate.mutex, &until);
    pthread_mutex_unlock(&gate.mutex);
    EXPECT_EQ(error, 0);
}

static bool was_synced(const uint8_t *at)
{
    bool found = false;
    pthread_mutex_lock(&gate.mutex);
    for (unsigned i = 0; i < gate.count && i < SYNCS_MAX; i++)
        found = found || (at >= gate.from[i] && at < gate.to[i]);
    pthread_mutex_unlock(&gate.mutex);
    return found;
}

static uint64_t done(struct medium *medium)
{
    uint64_t cookie = UINT64_MAX;
    EXPECT_EQ(medium->ops->drained(medium, &cookie), STATUS_OK);
    return cookie;
}

static void await(struct medium *medium, uint64_t cookie)
{
    while (done(medium) < cookie) {
        struct pollfd poll_fd = {.fd = medium_file_fd(medium), .events = POLLIN};
        ASSERT_EQ(poll(&poll_fd, 1, WAIT_MS), 1);
        medium_file_clear(medium);
    }
}

/* Two segments, nothing synced yet. NULL: on DAX, where no sync is. */
static struct medium *begin(uint8_t *bases[2])
{
    struct medium *medium = NULL;
    char message[512];
    EXPECT_EQ(medium_file_open(&medium, test_directory(), SIZE, message, sizeof(message)),
              STATUS_OK);
    for (uint32_t i = 0; i < 2; i++)
        EXPECT_EQ(medium->ops->map(medium, i, true, (void **)&bases[i]), STATUS_OK);
    gate.allowed = gate.waiting = gate.count = 0;
    if (medium_file_fd(medium) >= 0)
        return medium;
    medium->ops->close(medium);
    return NULL;
}

static void flush_and_drain(struct medium *medium, uint8_t *at, uint64_t cookie)
{
    *at = 1;
    medium->ops->flush(medium, at, 1);
    medium->ops->drain(medium, cookie);
}

/* The same, and the sync of drain 1 stands at the gate. */
static struct medium *begin_with_sync(uint8_t *bases[2])
{
    struct medium *medium = begin(bases);
    if (medium != NULL) {
        flush_and_drain(medium, bases[0] + 5000, 1);
        await_sync();
    }
    return medium;
}

TEST(medium_sync, a_drain_is_done_when_its_sync_is_back)
{
    uint8_t *bases[2];
    struct medium *medium = begin_with_sync(bases);
    if (medium == NULL)
        return;
    EXPECT_EQ(done(medium), 0);
    allow(1);
    await(medium, 1);
    medium->ops->close(medium);
}

/* Group commit: what is asked for while a sync is under way goes with the next one, and so does its
 * answer. */
TEST(medium_sync, what_was_asked_for_meanwhile_is_not_done_with_it)
{
    uint8_t *bases[2];
    struct medium *medium = begin_with_sync(bases);
    if (medium == NULL)
        return;
    flush_and_drain(medium, bases[1] + 5000, 2);
    flush_and_drain(medium, bases[1] + 9000, 3);
    allow(1);
    await(medium, 1);
    ASSERT_EQ(done(medium), 1);
    await_sync();
    EXPECT_EQ(done(medium), 1);
    EXPECT_EQ(gate.count, 2);
    allow(1);
    await(medium, 3);
    medium->ops->close(medium);
}

TEST(medium_sync, covers_all_that_was_flushed_in_whatever_order)
{
    uint8_t *bases[2];
    struct medium *medium = begin(bases);
    static const uint32_t places[] = {40000, 100, 61000, 20000};
    if (medium == NULL)
        return;
    allow(SYNCS_MAX);
    for (unsigned i = 0; i < 4; i++) {
        medium->ops->flush(medium, bases[0] + places[i], 10);
        medium->ops->flush(medium, bases[1] + places[3 - i], 10);
    }
    medium->ops->drain(medium, 1);
    await(medium, 1);
    for (unsigned i = 0; i < 4; i++)
        for (unsigned segment = 0; segment < 2; segment++) {
            EXPECT(was_synced(bases[segment] + places[i]));
            EXPECT(was_synced(bases[segment] + places[i] + 9));
        }
    medium->ops->close(medium);
}
