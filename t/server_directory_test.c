/* Goal: a data directory is used by its owner only, by one process at a time, and gives a higher
 * incarnation each time. Method: open, damage, open again; what was refused must be unchanged. */
#include "server/directory.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "t/test.h"

static const struct directory_node mine = {
    .node = 1, .shard_count = 4, .segment_size = 1 << 20, .cluster = 4711};
static char why[512];

static enum status open_as(struct directory *directory, const char *path,
                           const struct directory_node *want)
{
    why[0] = 0;
    return directory_open(directory, path, want, why, sizeof(why));
}

static void name_of(char name[4200], const char *path)
{
    snprintf(name, 4200, "%s/node", path);
}

static bool read_file(const char *path, struct directory_node *node)
{
    char name[4200];
    name_of(name, path);
    int fd = open(name, O_RDONLY);
    bool good = fd >= 0 && read(fd, node, sizeof(*node)) == (ssize_t)sizeof(*node);
    close(fd);
    return good;
}

static void overwrite(const char *path, off_t at, const void *data, size_t size)
{
    char name[4200];
    name_of(name, path);
    int fd = open(name, O_WRONLY);
    ASSERT(fd >= 0 && pwrite(fd, data, size, at) == (ssize_t)size);
    close(fd);
}

TEST(directory, incarnation_grows_by_one_with_each_opening)
{
    struct directory directory;
    const char *path = test_directory();
    ASSERT_EQ(open_as(&directory, path, &mine), STATUS_OK);
    uint64_t first = directory.node.incarnation;
    ASSERT_EQ(directory_raise_incarnation(&directory), STATUS_OK);
    EXPECT_EQ(directory.node.incarnation, first + 1);
    directory_close(&directory);
    ASSERT_EQ(open_as(&directory, path, &mine), STATUS_OK);
    EXPECT_EQ(directory.node.incarnation, first + 2);
    directory_close(&directory);
}

TEST(directory, a_new_one_begins_above_a_lost_one)
{
    struct directory directory;
    ASSERT_EQ(open_as(&directory, test_directory(), &mine), STATUS_OK);
    uint64_t first = directory.node.incarnation;
    directory_close(&directory);
    ASSERT_EQ(open_as(&directory, test_directory(), &mine), STATUS_OK);
    EXPECT(directory.node.incarnation > first);
    directory_close(&directory);
}

TEST(directory, keeps_its_segment_size)
{
    struct directory directory;
    struct directory_node other = mine;
    const char *path = test_directory();
    ASSERT_EQ(open_as(&directory, path, &mine), STATUS_OK);
    directory_close(&directory);
    other.segment_size = 2 << 20;
    ASSERT_EQ(open_as(&directory, path, &other), STATUS_OK);
    EXPECT_EQ(directory.node.segment_size, 1 << 20);
    directory_close(&directory);
}

/* A cold start after another model must not trust more than the log was written under. */
TEST(directory, remembers_that_answers_could_be_undone)
{
    struct directory directory;
    struct directory_node early = mine;
    const char *path = test_directory();
    ASSERT_EQ(open_as(&directory, path, &mine), STATUS_OK);
    EXPECT_EQ(directory.node.early, 0);
    directory_close(&directory);
    early.early = 1;
    ASSERT_EQ(open_as(&directory, path, &early), STATUS_OK);
    directory_close(&directory);
    ASSERT_EQ(open_as(&directory, path, &mine), STATUS_OK);
    EXPECT_EQ(directory.node.early, 1);
    directory_close(&directory);
}

TEST(directory, is_used_by_one_process_at_a_time)
{
    struct directory directory, second;
    const char *path = test_directory();
    ASSERT_EQ(open_as(&directory, path, &mine), STATUS_OK);
    EXPECT_EQ(open_as(&second, path, &mine), STATUS_BUSY);
    EXPECT(strstr(why, "another process") != NULL && strstr(why, path) != NULL);
    directory_close(&directory);
    ASSERT_EQ(open_as(&second, path, &mine), STATUS_OK);
    directory_close(&second);
}

static void expect_refused(const char *path, const struct directory_node *want, enum status status,
                           const char *part)
{
    struct directory directory;
    struct directory_node before, after;
    ASSERT(read_file(path, &before));
    EXPECT_EQ(open_as(&directory, path, want), status);
    EXPECT(strstr(why, part) != NULL && strstr(why, path) != NULL);
    ASSERT(read_file(path, &after));
    EXPECT(memcmp(&before, &after, sizeof(before)) == 0);
}

TEST(directory, of_somebody_else_is_refused_and_unchanged)
{
    struct directory directory;
    struct directory_node other;
    const char *path = test_directory();
    ASSERT_EQ(open_as(&directory, path, &mine), STATUS_OK);
    directory_close(&directory);
    other = mine, other.node = 2;
    expect_refused(path, &other, STATUS_FOREIGN, "node 1");
    other = mine, other.shard_count = 2;
    expect_refused(path, &other, STATUS_FOREIGN, "-t 4");
    other = mine, other.cluster = 1;
    expect_refused(path, &other, STATUS_FOREIGN, "another cluster");
}

TEST(directory, damaged_or_of_another_version_is_refused_and_unchanged)
{
    struct directory directory;
    const char *path = test_directory();
    uint32_t version = 99;
    ASSERT_EQ(open_as(&directory, path, &mine), STATUS_OK);
    uint64_t incarnation = directory.node.incarnation + 1;
    directory_close(&directory);
    overwrite(path, offsetof(struct directory_node, incarnation), &incarnation,
              sizeof(incarnation));
    expect_refused(path, &mine, STATUS_CORRUPT, "damaged");
    overwrite(path, offsetof(struct directory_node, format_version), &version, sizeof(version));
    expect_refused(path, &mine, STATUS_VERSION, "version 99");
    overwrite(path, 0, "something", 8);
    expect_refused(path, &mine, STATUS_CORRUPT, "not a file of healcached");
}

/* Who is told "the right one is missing" can put it back; a new one would begin with a new
 * incarnation. */
TEST(directory, with_a_log_and_without_its_own_file_is_refused)
{
    struct directory directory;
    const char *path = test_directory();
    char name[4200];
    snprintf(name, sizeof(name), "%s/shard-0", path);
    ASSERT_EQ(mkdir(name, 0700), 0);
    EXPECT_EQ(open_as(&directory, path, &mine), STATUS_CORRUPT);
    EXPECT(strstr(why, "missing") != NULL && strstr(why, path) != NULL);
    name_of(name, path);
    EXPECT(access(name, F_OK) != 0);
}

TEST(directory, none_is_needed_in_memory)
{
    struct directory directory;
    ASSERT_EQ(open_as(&directory, NULL, &mine), STATUS_OK);
    uint64_t first = directory.node.incarnation;
    EXPECT(first > 0);
    ASSERT_EQ(directory_raise_incarnation(&directory), STATUS_OK);
    EXPECT_EQ(directory.node.incarnation, first + 1);
    directory_close(&directory);
}
