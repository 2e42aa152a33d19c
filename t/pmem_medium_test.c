/* Goal: the media keep the promises of medium.h, and refuse what is not theirs without touching it.
 * Method: real files in a directory of the test; the other side of the flusher is awaited by its
 * eventfd. */
#include "pmem/medium.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pmem/log.h"
#include "pmem/medium_file.h"
#include "pmem/medium_memory.h"
#include "t/sim_medium.h"
#include "t/test.h"

enum { SIZE = 65536, WAIT_MS = 10000 };

static struct medium *open_file(const char *directory)
{
    struct medium *medium = NULL;
    char message[512];
    if (medium_file_open(&medium, directory, SIZE, message, sizeof(message)) != STATUS_OK)
        test_fail(__FILE__, __LINE__, "%s", message);
    return medium;
}

/* Waits until `cookie` is done. False: not in time, or the medium failed. */
static bool await(struct medium *medium, uint64_t cookie)
{
    uint64_t done = 0;
    int fd = medium_file_fd(medium);
    while (medium->ops->drained(medium, &done) == STATUS_OK && done < cookie) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        if (fd < 0 || poll(&poll_fd, 1, WAIT_MS) != 1)
            return false;
        medium_file_clear(medium);
    }
    return done >= cookie;
}

static off_t size_of(const char *directory, const char *name)
{
    char path[512];
    struct stat stat_of;
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return stat(path, &stat_of) == 0 ? stat_of.st_size : -1;
}

static void make_file(const char *directory, const char *name, off_t size)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    EXPECT(fd >= 0);
    EXPECT_EQ(ftruncate(fd, size), 0);
    EXPECT_EQ(write(fd, "keep", 4), 4);
    close(fd);
}

TEST(medium_memory, maps_zeros_and_only_what_was_made)
{
    struct medium *medium = NULL;
    ASSERT_EQ(medium_memory_open(&medium, SIZE), STATUS_OK);
    void *base = NULL, *again = NULL;
    EXPECT_EQ(medium->ops->map(medium, 7, false, &base), STATUS_NOT_FOUND);
    ASSERT_EQ(medium->ops->map(medium, 7, true, &base), STATUS_OK);
    ASSERT_EQ(medium->ops->map(medium, 7, false, &again), STATUS_OK);
    EXPECT(base == again);
    EXPECT_EQ(((uint8_t *)base)[SIZE - 1], 0);
    uint64_t cookie = 9;
    EXPECT_EQ(medium->ops->drained(medium, &cookie), STATUS_OK);
    EXPECT_EQ(cookie, 0);
    medium->ops->drain(medium, 1);
    EXPECT_EQ(medium->ops->drained(medium, &cookie), STATUS_OK);
    EXPECT_EQ(cookie, 1);
    medium->ops->close(medium);
}

TEST(medium_file, gives_back_after_reopening_what_was_drained)
{
    const char *directory = test_directory();
    struct medium *medium = open_file(directory);
    ASSERT(medium != NULL);
    void *base = NULL;
    EXPECT_EQ(medium->ops->map(medium, 1, false, &base), STATUS_NOT_FOUND);
    ASSERT_EQ(medium->ops->map(medium, 1, true, &base), STATUS_OK);
    EXPECT_EQ((uintptr_t)base % 4096, 0);
    memcpy((uint8_t *)base + 5000, "hello", 5);
    medium->ops->flush(medium, (uint8_t *)base + 5000, 5);
    medium->ops->drain(medium, 1);
    EXPECT(await(medium, 1));
    medium->ops->close(medium);
    EXPECT_EQ(size_of(directory, "segment-000001"), SIZE);
    medium = open_file(directory);
    ASSERT(medium != NULL);
    ASSERT_EQ(medium->ops->map(medium, 1, false, &base), STATUS_OK);
    EXPECT(memcmp((uint8_t *)base + 5000, "hello", 5) == 0);
    EXPECT_EQ(((uint8_t *)base)[0], 0);
    medium->ops->close(medium);
}

TEST(medium_file, makes_the_next_segment_ahead)
{
    const char *directory = test_directory();
    struct medium *medium = open_file(directory);
    ASSERT(medium != NULL);
    void *base = NULL;
    EXPECT_EQ(size_of(directory, "segment-000000"), SIZE);
    ASSERT_EQ(medium->ops->map(medium, 0, true, &base), STATUS_OK);
    medium->ops->close(medium);
    EXPECT_EQ(size_of(directory, "segment-000001"), SIZE);
    EXPECT_EQ(size_of(directory, "segment-000002"), -1);
}

TEST(medium_file, does_many_drains_over_many_segments)
{
    struct medium *medium = open_file(test_directory());
    ASSERT(medium != NULL);
    uint8_t *bases[5];
    for (uint32_t i = 0; i < 5; i++)
        ASSERT_EQ(medium->ops->map(medium, i, true, (void **)&bases[i]), STATUS_OK);
    for (uint64_t cookie = 1; cookie <= 200; cookie++) {
        for (unsigned i = 0; i < 5; i++) {
            bases[i][cookie * 64] = 1;
            medium->ops->flush(medium, bases[i] + cookie * 64, 64);
        }
        medium->ops->drain(medium, cookie);
    }
    EXPECT(await(medium, 200));
    medium->ops->close(medium);
}

TEST(medium_file, leaves_a_file_of_a_wrong_size_as_it_is)
{
    const char *directory = test_directory();
    make_file(directory, "segment-000000", SIZE);
    make_file(directory, "segment-000001", 1000);
    struct medium *medium = open_file(directory);
    ASSERT(medium != NULL);
    void *base = NULL;
    EXPECT_EQ(medium->ops->map(medium, 0, false, &base), STATUS_OK);
    EXPECT_EQ(medium->ops->map(medium, 1, false, &base), STATUS_CORRUPT);
    EXPECT(strstr(medium_file_message(medium), "segment-000001: has 1000 bytes instead of 65536") !=
           NULL);
    EXPECT_EQ(medium->ops->map(medium, 1, true, &base), STATUS_CORRUPT);
    EXPECT_EQ(size_of(directory, "segment-000001"), 1000);
    medium->ops->close(medium);
}

TEST(medium_file, refuses_segments_of_another_size_by_name)
{
    const char *directory = test_directory();
    make_file(directory, "segment-000003", 2 * SIZE);
    struct medium *medium = NULL;
    char message[512];
    EXPECT_EQ(medium_file_open(&medium, directory, SIZE, message, sizeof(message)), STATUS_FOREIGN);
    EXPECT(strstr(message, "segment-000003") != NULL);
    EXPECT_EQ(size_of(directory, "segment-000003"), 2 * SIZE);
}

TEST(medium_file, says_which_directory_cannot_be_opened)
{
    struct medium *medium = NULL;
    char message[512];
    EXPECT_EQ(medium_file_open(&medium, "/nonexistent/deeper", SIZE, message, sizeof(message)),
              STATUS_IO);
    EXPECT(strstr(message, "/nonexistent/deeper") != NULL);
}

/* A limit of the file size stands for a full disk: both end in the middle of making a segment. */
TEST(medium_file, leaves_no_half_segment_when_space_runs_out)
{
    const char *directory = test_directory();
    make_file(directory, "segment-000009.new", 77);
    struct medium *medium = open_file(directory);
    ASSERT(medium != NULL);
    EXPECT_EQ(size_of(directory, "segment-000009.new"), -1);
    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = SIZE / 2;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    void *base = NULL;
    EXPECT_EQ(medium->ops->map(medium, 5, true, &base), STATUS_NO_SPACE);
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_EQ(size_of(directory, "segment-000005"), -1);
    EXPECT_EQ(size_of(directory, "segment-000005.new"), -1);
    EXPECT_EQ(medium->ops->map(medium, 5, true, &base), STATUS_OK);
    medium->ops->close(medium);
}

static void count_record(void *user, const struct record *record, place_t place)
{
    (void)record;
    (void)place;
    (*(uint64_t *)user)++;
}

/* The whole way: records of a log on files, with growing, sealing and reopening. */
TEST(medium_file, carries_a_log_over_a_restart)
{
    const char *directory = test_directory();
    for (unsigned life = 0; life < 3; life++) {
        struct medium *medium = open_file(directory);
        ASSERT(medium != NULL);
        struct log_options options = {
            .identity = {.cluster = 1, .node = 1}, .medium = medium, .segment_count_max = 8};
        struct log *log;
        struct log_report report;
        uint32_t bad;
        uint64_t count = 0, durable = 0;
        ASSERT_EQ(log_open(&log, &options, count_record, &count, &report, &bad), STATUS_OK);
        EXPECT_EQ(count, life * 100);
        EXPECT_EQ(report.corrupt_count, 0);
        static const char value[1000];
        struct record_spec spec = {
            .kind = RECORD_VALUE, .key = slice_text("key"), .value = slice_make(value, 1000)};
        place_t place;
        for (unsigned i = 0; i < 100; i++)
            ASSERT_EQ(log_append_nodrain(log, &spec, 0, &place), STATUS_OK);
        log_drain(log);
        for (unsigned tries = 0; tries < 1000 && durable < log_tail(log); tries++) {
            struct pollfd poll_fd = {.fd = medium_file_fd(medium), .events = POLLIN};
            poll(&poll_fd, 1, 100);
            medium_file_clear(medium);
            ASSERT_EQ(log_durable(log, &durable), STATUS_OK);
        }
        EXPECT_EQ(durable, log_tail(log));
        log_close(log);
        medium->ops->close(medium);
    }
}

/* A sync of what is no longer mapped fails, as one of a broken disk would. */
TEST(medium_file, never_syncs_again_after_an_error)
{
    struct medium *medium = open_file(test_directory());
    ASSERT(medium != NULL);
    void *base = NULL, *other = NULL;
    ASSERT_EQ(medium->ops->map(medium, 0, true, &base), STATUS_OK);
    ASSERT_EQ(medium->ops->map(medium, 1, true, &other), STATUS_OK);
    if (medium_file_fd(medium) < 0) {
        medium->ops->close(medium);
        return; /* DAX: there is no sync that could fail */
    }
    ASSERT_EQ(munmap(base, SIZE), 0);
    medium->ops->flush(medium, base, 64);
    medium->ops->drain(medium, 1);
    EXPECT(!await(medium, 1));
    EXPECT(strstr(medium_file_message(medium), "segment-000000: cannot be synced") != NULL);
    medium->ops->flush(medium, other, 64);
    medium->ops->drain(medium, 2);
    uint64_t done;
    for (unsigned i = 0; i < 3; i++)
        EXPECT_EQ(medium->ops->drained(medium, &done), STATUS_IO);
    medium->ops->close(medium);
}
