#include "server/directory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/crc32c.h"

static_assert(sizeof(struct directory_node) == 48, "DIR/node is part of the format");

static const char magic[8] = "healnode";

/* The microseconds since 1970: higher at each start, also where nothing survives. */
static uint64_t clock_incarnation(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void join(char *out, size_t size, const char *path, const char *name)
{
    int used = snprintf(out, size, "%s/%s", path, name);
    assert(used > 0 && (size_t)used < size);
}

static uint32_t node_crc(const struct directory_node *node)
{
    return crc32c(0, node, offsetof(struct directory_node, crc));
}

static enum status sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return STATUS_IO;
    int failed = fsync(fd);
    close(fd);
    return failed ? STATUS_IO : STATUS_OK;
}

/* Whole or not at all: a new file takes the old one's name when it is durable. */
static enum status write_node(struct directory *directory)
{
    char name[4200], fresh[4200];
    join(name, sizeof(name), directory->path, "node");
    join(fresh, sizeof(fresh), directory->path, "node.new");
    directory->node.crc = node_crc(&directory->node);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return STATUS_IO;
    const size_t size = sizeof(directory->node);
    int failed = write(fd, &directory->node, size) != (ssize_t)size || fsync(fd) != 0;
    close(fd);
    if (failed || rename(fresh, name) != 0)
        return STATUS_IO;
    return sync_directory(directory->path);
}

/* STATUS_NOT_FOUND: a new directory. */
static enum status read_node(const struct directory *directory, struct directory_node *node)
{
    char name[4200];
    join(name, sizeof(name), directory->path, "node");
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO;
    ssize_t size = read(fd, node, sizeof(*node));
    close(fd);
    if (size < 0)
        return STATUS_IO;
    if ((size_t)size < offsetof(struct directory_node, node) ||
        memcmp(node->magic, magic, sizeof(magic)) != 0)
        return STATUS_CORRUPT;
    if (node->format_version != DIRECTORY_FORMAT_VERSION)
        return STATUS_VERSION;
    return (size_t)size == sizeof(*node) && node->crc == node_crc(node) ? STATUS_OK
                                                                        : STATUS_CORRUPT;
}

/* What an operator can always do. */
#define BEGIN_ANEW "or give it an empty directory, which a node of a group fills from the others"

/* Is what is there ours? */
static enum status compare(const char *path, const struct directory_node *there,
                           const struct directory_node *want, char *why, size_t size)
{
    if (there->node != want->node) {
        snprintf(why, size,
                 "%s/node: the directory belongs to node %u, this is node %u; start this node with "
                 "its own --data, or as --node=%u",
                 path, there->node, want->node, there->node);
        return STATUS_FOREIGN;
    }
    if (there->shard_count != want->shard_count) {
        snprintf(why, size,
                 "%s/node: the directory was made with -t %u, this process has -t %u; start with "
                 "-t %u, " BEGIN_ANEW,
                 path, there->shard_count, want->shard_count, there->shard_count);
        return STATUS_FOREIGN;
    }
    if (there->cluster != want->cluster) {
        snprintf(why, size,
                 "%s/node: the directory belongs to another cluster (other --peers); start with "
                 "the --peers it was made with, " BEGIN_ANEW,
                 path);
        return STATUS_FOREIGN;
    }
    return STATUS_OK;
}

static void make_new(struct directory *directory, const struct directory_node *want)
{
    directory->node = *want;
    memcpy(directory->node.magic, magic, sizeof(magic));
    directory->node.format_version = DIRECTORY_FORMAT_VERSION;
    /* From the clock: a node whose disk was wiped must come back higher than before. */
    directory->node.incarnation = clock_incarnation();
}

/* The node's own file is made before any log. */
static bool has_log(const char *path)
{
    char name[4200];
    struct stat stat;
    join(name, sizeof(name), path, "shard-0");
    return lstat(name, &stat) == 0;
}

static void tell_unread(const char *path, enum status status, const struct directory_node *there,
                        char *why, size_t size)
{
    if (status == STATUS_NOT_FOUND)
        snprintf(why, size,
                 "%s/node: missing, but there is a log beside it; put the file back, " BEGIN_ANEW,
                 path);
    else if (status == STATUS_VERSION)
        snprintf(why, size,
                 "%s/node: format version %u, this program knows %u; start the version of "
                 "healcached that made it, " BEGIN_ANEW,
                 path, there->format_version, DIRECTORY_FORMAT_VERSION);
    else if (status == STATUS_CORRUPT)
        snprintf(why, size,
                 "%s/node: %s, or not a file of healcached; put the right one back, " BEGIN_ANEW,
                 path, there->magic[0] == 0 ? "empty" : "damaged");
    else
        snprintf(why, size, "%s/node: cannot be read: %s", path, strerror(errno));
}

static enum status load(struct directory *directory, const struct directory_node *want, char *why,
                        size_t size)
{
    struct directory_node there = {.node = 0};
    enum status status = read_node(directory, &there);
    if (status == STATUS_NOT_FOUND && !has_log(directory->path)) {
        make_new(directory, want);
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        tell_unread(directory->path, status, &there, why, size);
        return status == STATUS_NOT_FOUND ? STATUS_CORRUPT : status;
    }
    directory->node = there;
    directory->node.early = there.early | want->early;
    return compare(directory->path, &there, want, why, size);
}

/* Who has the lock writes its process id into the file: for people, nothing depends on it. */
static void note_owner(const struct directory *directory)
{
    char text[24];
    int size = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    bool noted = ftruncate(directory->lock, 0) == 0 &&
                 pwrite(directory->lock, text, (size_t)size, 0) == size;
    (void)noted;
}

static void tell_busy(const struct directory *directory, const char *name, char *why, size_t size)
{
    char text[24] = "";
    ssize_t got = pread(directory->lock, text, sizeof(text) - 1, 0);
    long owner = got > 0 ? strtol(text, NULL, 10) : 0;
    char process[48] = "another process";
    if (owner > 0)
        snprintf(process, sizeof(process), "another process (%ld)", owner);
    snprintf(why, size,
             "%s: %s is using this data directory; stop it first, or choose another "
             "--data",
             name, process);
}

/* Also makes `path` itself, not its parents. */
static enum status take_lock(struct directory *directory, char *why, size_t size)
{
    char name[4200];
    errno = strlen(directory->path) > 4096 ? ENAMETOOLONG : 0;
    if (errno != 0 || (mkdir(directory->path, 0700) != 0 && errno != EEXIST)) {
        snprintf(why, size, "--data=%s: the directory cannot be made: %s", directory->path,
                 strerror(errno));
        return STATUS_IO;
    }
    join(name, sizeof(name), directory->path, "lock");
    directory->lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (directory->lock < 0) {
        snprintf(why, size, "%s: %s", name, strerror(errno));
        return STATUS_IO;
    }
    if (flock(directory->lock, LOCK_EX | LOCK_NB) != 0) {
        tell_busy(directory, name, why, size);
        close(directory->lock);
        return STATUS_BUSY;
    }
    note_owner(directory);
    return STATUS_OK;
}

enum status directory_open(struct directory *directory, const char *path,
                           const struct directory_node *want, char *why, size_t why_size)
{
    *directory = (struct directory){.path = path, .lock = -1, .node = *want};
    directory->node.incarnation = clock_incarnation();
    if (path == NULL)
        return STATUS_OK;
    enum status status = take_lock(directory, why, why_size);
    if (status != STATUS_OK)
        return status;
    status = load(directory, want, why, why_size);
    if (status != STATUS_OK)
        goto unlock;
    status = directory_raise_incarnation(directory);
    if (status == STATUS_OK)
        return STATUS_OK;
    snprintf(why, why_size, "%s/node: cannot be written: %s", path, strerror(errno));

unlock:
    close(directory->lock);
    return status;
}

enum status directory_raise_incarnation(struct directory *directory)
{
    /* By one: timestamps hold its low 8 bits only, so 256 restarts lie between two that look equal.
     */
    directory->node.incarnation++;
    return directory->path == NULL ? STATUS_OK : write_node(directory);
}

void directory_close(struct directory *directory)
{
    if (directory->path != NULL)
        close(directory->lock);
}
