/* Goal: the media keep the promises of medium.h, and refuse what is not theirs without touching it.
 * Method: real files in a directory of the test; the other side of the flusher is awaited by its
 * eventfd. */
#include "pmem/medium.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pmem/log.h"
#include "pmem/medium_file.h"
#include "pmem/medium_guard.h"
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

TEST(medium_file, makes_the_next_segments_ahead)
{
    const char *directory = test_directory();
    struct medium *medium = open_file(directory);
    ASSERT(medium != NULL);
    EXPECT_EQ(size_of(directory, "segment-000000"), SIZE);
    EXPECT_EQ(size_of(directory, "segment-000001"), -1);
    EXPECT_EQ(medium->ops->room(medium, 0), UINT32_MAX);
    EXPECT_EQ(size_of(directory, "segment-000002"), SIZE);
    EXPECT_EQ(medium->ops->room(medium, 5), UINT32_MAX);
    EXPECT_EQ(size_of(directory, "segment-000013"), SIZE);
    medium_file_limit(medium, 17);
    EXPECT_EQ(medium->ops->room(medium, 9), UINT32_MAX);
    medium->ops->close(medium);
    EXPECT_EQ(size_of(directory, "segment-000016"), SIZE);
    EXPECT_EQ(size_of(directory, "segment-000017"), -1);
}

static void limit_file_size(rlim_t size)
{
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = size == 0 ? limit.rlim_max : size;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
}

/* A full disk is known while there is room for what makes room. */
TEST(medium_file, tells_of_a_full_disk_before_the_last_segment_is_taken)
{
    const char *directory = test_directory();
    struct medium *medium = open_file(directory);
    ASSERT(medium != NULL);
    EXPECT_EQ(medium->ops->room(medium, 3), UINT32_MAX); /* 0..11, and by and by 12 and 13 */
    medium_file_limit(medium, 14);
    EXPECT_EQ(medium->ops->room(medium, 5), UINT32_MAX);
    limit_file_size(SIZE / 2);
    medium_file_limit(medium, 100);
    EXPECT_EQ(medium->ops->room(medium, 6), 14);
    EXPECT_EQ(medium->ops->room(medium, 7), 14);
    limit_file_size(0);
    EXPECT_EQ(medium->ops->room(medium, 8), 14); /* for good */
    uint64_t done;
    EXPECT_EQ(medium->ops->drained(medium, &done), STATUS_OK);
    void *base;
    EXPECT_EQ(medium->ops->map(medium, 13, true, &base), STATUS_OK);
    EXPECT(strstr(medium_file_message(medium), "segment-000014: cannot be made") != NULL);
    medium->ops->close(medium);
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
    ASSERT_EQ(medium->ops->map(medium, 1, false, &base), STATUS_CORRUPT);
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

static bool sync_fails;

/* libpmem calls this one. */
int msync(void *address, size_t size, int flags)
{
    if (!sync_fails)
        return (int)syscall(SYS_msync, address, size, flags);
    errno = EIO;
    return -1;
}

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
    memset((uint8_t *)base + 100, 7, 9000);
    sync_fails = true;
    medium->ops->flush(medium, (uint8_t *)base + 100, 9000);
    medium->ops->drain(medium, 1);
    EXPECT(!await(medium, 1));
    sync_fails = false;
    EXPECT_EQ(((uint8_t *)base)[100], 7); /* made dirty again, not changed */
    EXPECT_EQ(((uint8_t *)base)[99], 0);
    EXPECT_EQ(((uint8_t *)base)[4096], 7);
    EXPECT(strstr(medium_file_message(medium), "segment-000000: cannot be synced") != NULL);
    medium->ops->flush(medium, other, 64);
    medium->ops->drain(medium, 2);
    uint64_t done;
    for (unsigned i = 0; i < 3; i++)
        EXPECT_EQ(medium->ops->drained(medium, &done), STATUS_IO);
    medium->ops->close(medium);
}

/* Whatever the reason, unless it is space: nothing tells what else does not work. */
TEST(medium_file, fails_for_ever_when_a_segment_cannot_be_made)
{
    const char *directory = test_directory();
    struct medium *medium = open_file(directory);
    ASSERT(medium != NULL);
    char path[512];
    snprintf(path, sizeof(path), "%s/segment-000004.new", directory);
    ASSERT_EQ(mkdir(path, 0700), 0);
    void *base = NULL;
    uint64_t done;
    EXPECT_EQ(medium->ops->drained(medium, &done), STATUS_OK);
    EXPECT_EQ(medium->ops->map(medium, 4, true, &base), STATUS_IO);
    EXPECT(strstr(medium_file_message(medium), "segment-000004: cannot be made") != NULL);
    EXPECT_EQ(medium->ops->drained(medium, &done), STATUS_IO);
    medium->ops->close(medium);
    rmdir(path);
}

TEST(medium_file, without_any_segment_the_first_one_must_be_made_at_once)
{
    struct medium *medium = NULL;
    char message[512];
    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = SIZE / 2;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    EXPECT_EQ(medium_file_open(&medium, test_directory(), SIZE, message, sizeof(message)),
              STATUS_NO_SPACE);
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT(strstr(message, "segment-000000: cannot be made") != NULL);
}

TEST(medium_file, a_damaged_segment_is_put_aside_and_made_anew)
{
    const char *directory = test_directory();
    make_file(directory, "segment-000001", 1000);
    make_file(directory, "segment-000000", SIZE);
    struct medium *medium = open_file(directory);
    ASSERT(medium != NULL);
    void *base = NULL;
    EXPECT_EQ(medium->ops->map(medium, 1, true, &base), STATUS_CORRUPT);
    EXPECT(medium->ops->replace(medium, 1));
    EXPECT_EQ(size_of(directory, "segment-000001.damaged"), 1000);
    ASSERT_EQ(medium->ops->map(medium, 1, true, &base), STATUS_OK);
    EXPECT_EQ(((uint8_t *)base)[0], 0);
    EXPECT(medium->ops->replace(medium, 0)); /* a mapped one, too */
    EXPECT_EQ(size_of(directory, "segment-000000.damaged"), SIZE);
    EXPECT_EQ(medium->ops->map(medium, 0, false, &base), STATUS_NOT_FOUND);
    EXPECT(!medium->ops->replace(medium, 7));
    EXPECT(medium->ops->replace(medium, 1)); /* the older one stays */
    EXPECT_EQ(size_of(directory, "segment-000001.damaged"), 1000);
    EXPECT_EQ(size_of(directory, "segment-000001.damaged-2"), SIZE);
    medium->ops->close(medium);
}

TEST(medium_file, counts_what_it_syncs)
{
    struct medium *medium = open_file(test_directory());
    ASSERT(medium != NULL);
    uint8_t *base = NULL;
    struct medium_file_stats stats;
    ASSERT_EQ(medium->ops->map(medium, 0, true, (void **)&base), STATUS_OK);
    for (uint64_t cookie = 1; cookie <= 50; cookie++) {
        medium->ops->flush(medium, base + 64 * cookie, 64);
        medium->ops->drain(medium, cookie);
    }
    EXPECT(await(medium, 50));
    medium_file_stats_any(medium, &stats);
    EXPECT_EQ(stats.drains, 50);
    EXPECT(stats.syncs <= 50);
    EXPECT_EQ(stats.syncs > 0, medium_file_fd(medium) >= 0); /* none on DAX */
    EXPECT_EQ(stats.bytes >= 50 * 64, medium_file_fd(medium) >= 0);
    EXPECT(stats.sync_us >= stats.sync_us_max);
    EXPECT(stats.kind != NULL);
    medium->ops->close(medium);
}

/* ---- SIGBUS ---- */
enum { GUARD_CODE = 93, CUT = 8192 };

static uint8_t *map_and_cut(struct medium *medium, const char *directory)
{
    char path[512];
    uint8_t *base = NULL;
    snprintf(path, sizeof(path), "%s/segment-000002", directory);
    if (medium->ops->map(medium, 2, true, (void **)&base) == STATUS_OK)
        EXPECT_EQ(truncate(path, CUT), 0);
    return base;
}

TEST(medium_guard, a_page_that_cannot_be_read_is_found_by_asking)
{
    const char *directory = test_directory();
    struct medium *medium = open_file(directory);
    ASSERT(medium != NULL);
    medium_guard_install(GUARD_CODE, NULL);
    ASSERT(map_and_cut(medium, directory) != NULL);
    EXPECT(!medium->ops->readable(medium, 2));
    EXPECT(strstr(medium_file_message(medium), "segment-000002: the page at byte 8192") != NULL);
    void *base = NULL;
    ASSERT_EQ(medium->ops->map(medium, 3, true, &base), STATUS_OK);
    EXPECT(medium->ops->readable(medium, 3));
    medium->ops->close(medium);
}

/* Runs `body` in a child; its wait status and what it wrote to stderr. */
static int run_child(void (*body)(const char *), const char *directory, char *text, size_t size)
{
    int ends[2], status = 0;
    text[0] = 0;
    if (pipe(ends) != 0)
        return 0;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        medium_guard_install(GUARD_CODE, "beside");
        body(directory);
        _exit(0);
    }
    close(ends[1]);
    size_t used = 0;
    for (ssize_t got; used + 1 < size && (got = read(ends[0], text + used, size - used - 1)) > 0;)
        used += (size_t)got;
    text[used] = 0;
    close(ends[0]);
    waitpid(pid, &status, 0);
    return status;
}

static void read_cut_segment(const char *directory)
{
    const volatile uint8_t *base = map_and_cut(open_file(directory), directory);
    (void)base[CUT - 1];
    (void)base[CUT + 5];
}

TEST(medium_guard, a_process_that_meets_one_ends_with_a_line_that_names_the_segment)
{
    char text[2048];
    const char *directory = test_directory();
    make_file(directory, "beside", 4);
    make_file(directory, "other", 4);
    int status = run_child(read_cut_segment, directory, text, sizeof(text));
    EXPECT_EQ(size_of(directory, "beside"), -1);
    EXPECT_EQ(size_of(directory, "other"), 4);
    EXPECT(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), GUARD_CODE);
    const char *named = strstr(text, directory);
    ASSERT(named != NULL);
    EXPECT(strstr(named, "/segment-000002: the page at byte 8197 cannot be had (SIGBUS)") != NULL);
    EXPECT(strstr(text, "Z error ") != NULL);
}

static void read_beside(const char *directory)
{
    struct medium *medium = open_file(directory);
    (void)medium;
    char path[512];
    snprintf(path, sizeof(path), "%s/other", directory);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    const volatile uint8_t *bytes = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    (void)bytes[0];
}

TEST(medium_guard, elsewhere_the_signal_ends_the_process_as_ever)
{
    char text[2048];
    int status = run_child(read_beside, test_directory(), text, sizeof(text));
    EXPECT(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), SIGBUS);
}

static uint32_t unreadable;

static bool only_others_are_readable(struct medium *medium, uint32_t number)
{
    (void)medium;
    return number != unreadable;
}

static struct log *open_log(struct medium *medium, uint64_t *count, struct log_report *report)
{
    struct log *log = NULL;
    uint32_t bad;
    struct log_options options = {
        .identity = {.cluster = 1, .node = 1}, .medium = medium, .segment_count_max = 8};
    *count = 0;
    if (log_open(&log, &options, count_record, count, report, &bad) != STATUS_OK)
        test_fail(__FILE__, __LINE__, "the log cannot be opened");
    return log;
}

static void append_1000(struct log *log, unsigned count)
{
    static const char value[1000];
    place_t place;
    struct record_spec spec = {
        .kind = RECORD_VALUE, .key = slice_text("key"), .value = slice_make(value, 1000)};
    for (unsigned i = 0; i < count; i++)
        EXPECT_EQ(log_append_nodrain(log, &spec, 0, &place), STATUS_OK);
    log_drain(log);
}

/* Until all is durable, and as many segments are free. */
static bool await_log(struct log *log, struct medium *medium, uint32_t free_count)
{
    uint64_t durable = 0;
    for (unsigned tries = 0; tries < 1000; tries++) {
        if (log_durable(log, &durable) != STATUS_OK)
            return false;
        if (durable >= log_tail(log) && log_segment_free_count(log) >= free_count)
            return true;
        struct pollfd poll_fd = {.fd = medium_file_fd(medium), .events = POLLIN};
        poll(&poll_fd, 1, 10);
        medium_file_clear(medium);
        log_drain(log);
    }
    return false;
}

/* The log's part: what can't be read is damage of that segment alone, and does not stay for
 * ever. */
TEST(medium_file, an_unreadable_segment_is_damage_until_it_is_given_back)
{
    const char *directory = test_directory();
    struct log_report report;
    uint64_t count;
    for (unsigned life = 0; life < 3; life++) {
        struct medium *medium = open_file(directory);
        ASSERT(medium != NULL);
        struct medium_ops ops = *medium->ops;
        if (life == 1)
            ops.readable = only_others_are_readable;
        medium->ops = &ops;
        unreadable = 1;
        struct log *log = open_log(medium, &count, &report);
        ASSERT(log != NULL);
        EXPECT_EQ(report.corrupt_count, life == 1);
        EXPECT_EQ(log_segment_is_damaged(log, 1), life == 1);
        if (life == 0)
            append_1000(log, 200); /* of some 60 a segment */
        if (life == 1) {
            EXPECT(count > 100);
            EXPECT(count < 200);
            uint32_t free_before = log_segment_free_count(log);
            log_segment_give(log, 1);
            append_1000(log, 1); /* opens one */
            EXPECT(await_log(log, medium, free_before));
            EXPECT_EQ(size_of(directory, "segment-000001.damaged"), SIZE);
            append_1000(log, 280); /* through the new segment 1 */
        }
        EXPECT(await_log(log, medium, 0));
        log_close(log);
        medium->ops->close(medium);
    }
    EXPECT_EQ(size_of(directory, "segment-000001"), SIZE);
    EXPECT(count > 350);
}
