#include "server/index_memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/log.h"

enum { PAGE = 4096, TMPFS = 0x01021994, RAMFS = 0x858458f6 };

#define FILE_PREFIX "healcached-"

/* ---- whose it is ---- */

/* Which boot, and which directory: its inode, since a copy of the directory may hold other
 * segments. */
static bool fill_whose(struct store_keep *keep, const char *directory)
{
    char boot[40] = "";
    struct stat stat_of;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, boot, sizeof(boot) - 1);
    close(fd);
    if (got < 32 || stat(directory, &stat_of) != 0)
        return false;
    uint32_t used = 0;
    for (ssize_t i = 0; i < got && used < 32; i++)
        if (boot[i] != '-' && boot[i] != '\n')
            keep->whose[used++] = (uint8_t)boot[i];
    uint64_t ids[2] = {(uint64_t)stat_of.st_dev, (uint64_t)stat_of.st_ino};
    static_assert(32 + sizeof(ids) <= STORE_WHOSE_SIZE, "room for the boot and the directory");
    memcpy(keep->whose + 32, ids, sizeof(ids));
    return true;
}

/* When a segment was changed last, by whoever. */
static uint64_t newest_change(const char *path)
{
    uint64_t newest = 0;
    DIR *directory = opendir(path);
    if (directory == NULL)
        return 0;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        struct stat stat_of;
        if (strncmp(entry->d_name, "segment-", 8) != 0 ||
            fstatat(dirfd(directory), entry->d_name, &stat_of, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        uint64_t at =
            (uint64_t)stat_of.st_ctim.tv_sec * 1000000 + (uint64_t)stat_of.st_ctim.tv_nsec / 1000;
        newest = at > newest ? at : newest;
    }
    closedir(directory);
    return newest;
}

static bool is_ram(const char *directory)
{
    struct statfs fs;
    return statfs(directory, &fs) == 0 &&
           ((uint64_t)fs.f_type == TMPFS || (uint64_t)fs.f_type == RAMFS);
}

/* ---- mapping ---- */

static void *map_own(void *at, uint64_t size)
{
    return mmap(at, size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at != NULL ? MAP_FIXED : 0), -1, 0);
}

static enum status use_own(struct index_memory *memory, uint64_t size)
{
    memory->fd = -1;
    memory->found = false;
    memory->size = size;
    memory->at = map_own(NULL, size);
    return memory->at == MAP_FAILED ? STATUS_NO_MEMORY : STATUS_OK;
}

static enum status map_file(struct index_memory *memory, uint64_t size)
{
    void *at =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory->fd, PAGE);
    if (at == MAP_FAILED)
        return STATUS_NO_MEMORY;
    (void)madvise(at, size, MADV_HUGEPAGE); /* where the administrator allows it */
    memory->at = at;
    memory->size = size;
    return STATUS_OK;
}

/* ---- growing ---- */

static bool allocate(const struct index_memory *memory, uint64_t from, uint64_t to)
{
    return from >= to || fallocate(memory->fd, 0, (off_t)from + PAGE, (off_t)(to - from)) == 0 ||
           errno == EOPNOTSUPP;
}

/* The pages at either end may be in use already: then they are there, and stay. */
static bool replace(const struct index_memory *memory, uint64_t from, uint64_t to)
{
    if (!allocate(memory, from, from + PAGE))
        (void)map_own((uint8_t *)memory->at + from, PAGE);
    if (to - from > PAGE && !allocate(memory, to - PAGE, to))
        (void)map_own((uint8_t *)memory->at + to - PAGE, PAGE);
    return to - from <= 2 * PAGE ||
           map_own((uint8_t *)memory->at + from + PAGE, to - from - 2 * PAGE) != MAP_FAILED;
}

static bool grow(void *user, uint64_t from, uint64_t to)
{
    const struct index_memory *memory = user;
    from = from / PAGE * PAGE;
    to = (to + PAGE - 1) / PAGE * PAGE;
    if (allocate(memory, from, to))
        return true;
    log_warn("%s: %s: no room for the index, which goes on in the process's own memory: a restart "
             "will scan the log",
             memory->path, strerror(errno));
    if (!replace(memory, from, to))
        log_error("%s: no memory for the index", memory->path);
    return false;
}

/* ---- the file ---- */

/* Only a file of ours: the directory may be everybody's. */
static bool open_found(struct index_memory *memory)
{
    struct stat stat_of;
    memory->fd = open(memory->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (memory->fd < 0)
        return false;
    if (fstat(memory->fd, &stat_of) == 0 && S_ISREG(stat_of.st_mode) &&
        stat_of.st_uid == geteuid() && stat_of.st_nlink == 1 &&
        flock(memory->fd, LOCK_EX | LOCK_NB) == 0) {
        memory->size = stat_of.st_size > PAGE ? (uint64_t)stat_of.st_size - PAGE : 0;
        return true;
    }
    close(memory->fd);
    return false;
}

/* Where the link leads, if it is one of ours. */
static bool find(struct index_memory *memory)
{
    ssize_t size = readlink(memory->link, memory->path, sizeof(memory->path) - 1);
    if (size < 0) {
        snprintf(memory->path, sizeof(memory->path), "%s", memory->link);
        return errno == EINVAL && open_found(memory); /* the file itself */
    }
    memory->path[size] = 0;
    const char *name = strrchr(memory->path, '/');
    return name != NULL && strncmp(name + 1, FILE_PREFIX, strlen(FILE_PREFIX)) == 0 &&
           open_found(memory);
}

static bool create_here(struct index_memory *memory)
{
    snprintf(memory->path, sizeof(memory->path), "%s", memory->link);
    memory->fd = open(memory->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return memory->fd >= 0 && flock(memory->fd, LOCK_EX | LOCK_NB) == 0;
}

/* The link comes last, and says where the file is. */
static bool create_elsewhere(struct index_memory *memory)
{
    uint64_t number;
    if (getrandom(&number, sizeof(number), 0) != sizeof(number))
        return false;
    snprintf(memory->path, sizeof(memory->path), "%s/" FILE_PREFIX "%u-%016llx", memory->where,
             (unsigned)geteuid(), (unsigned long long)number);
    memory->fd = open(memory->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (memory->fd < 0)
        return false;
    if (flock(memory->fd, LOCK_EX | LOCK_NB) == 0 && symlink(memory->path, memory->link) == 0)
        return true;
    unlink(memory->path);
    close(memory->fd);
    return false;
}

/* Its first page: an absolute path, so that others find out whether the link is still there. */
static bool sign(const struct index_memory *memory)
{
    char page[PAGE] = "";
    const char *name = strrchr(memory->link, '/');
    char directory[INDEX_PATH_SIZE];
    snprintf(directory, sizeof(directory), "%.*s", (int)(name - memory->link), memory->link);
    char *absolute = realpath(directory, NULL);
    if (absolute == NULL)
        return false;
    int length = snprintf(page, sizeof(page), "%s%s", absolute, name);
    free(absolute);
    return length > 0 && (size_t)length < sizeof(page) &&
           pwrite(memory->fd, page, sizeof(page), 0) == sizeof(page);
}

/* Nobody uses it, and no link leads to it: the data directory was removed. */
static bool is_left_over(int fd, const char *path)
{
    struct stat stat_of;
    char link[PAGE + 1] = "", leads[INDEX_PATH_SIZE] = "";
    if (fstat(fd, &stat_of) != 0 || !S_ISREG(stat_of.st_mode) || stat_of.st_uid != geteuid() ||
        flock(fd, LOCK_EX | LOCK_NB) != 0 || pread(fd, link, PAGE, 0) != PAGE || link[0] != '/')
        return false;
    ssize_t size = readlink(link, leads, sizeof(leads) - 1);
    return size < 0 ? errno == ENOENT || errno == ENOTDIR || errno == EINVAL
                    : strcmp(leads, path) != 0;
}

static void remove_left_over(const char *where)
{
    char path[INDEX_PATH_SIZE];
    DIR *directory = opendir(where);
    if (directory == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        int length = snprintf(path, sizeof(path), "%s/%s", where, entry->d_name);
        if (strncmp(entry->d_name, FILE_PREFIX, strlen(FILE_PREFIX)) != 0 || length < 0 ||
            (size_t)length >= sizeof(path))
            continue;
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0)
            continue;
        if (is_left_over(fd, path))
            unlink(path);
        close(fd);
    }
    closedir(directory);
}

static bool create(struct index_memory *memory, const char *directory, uint64_t size)
{
    (void)unlink(memory->link);
    remove_left_over(memory->where);
    bool made = is_ram(directory) ? create_here(memory) : create_elsewhere(memory);
    if (made && !is_ram(directory) && !is_ram(memory->where))
        log_warn("--index-dir=%s is on a disk, which every change of the index is written to; give "
                 "it a RAM file system, or none",
                 memory->where);
    if (!made) {
        log_warn("%s: %s: the index cannot outlive the process: a restart will scan the log",
                 memory->path, strerror(errno));
        return false;
    }
    if (sign(memory) && ftruncate(memory->fd, (off_t)size + PAGE) == 0)
        return true;
    close(memory->fd);
    return false;
}

/* Whoever goes on without what is there makes it old: it must not be found again. */
static void forget(struct index_memory *memory)
{
    if (find(memory)) {
        unlink(memory->path);
        close(memory->fd);
        memory->fd = -1;
    }
    (void)unlink(memory->link);
}

enum status index_memory_open(struct index_memory *memory, const char *directory, const char *where,
                              uint64_t size)
{
    *memory =
        (struct index_memory){.fd = -1, .where = where, .keep = {.grow = grow, .user = memory}};
    if (directory == NULL)
        return use_own(memory, size);
    int length = snprintf(memory->link, sizeof(memory->link), "%s/" INDEX_FILE_NAME, directory);
    if (length < 0 || (size_t)length >= sizeof(memory->link))
        return STATUS_TOO_LARGE;
    if (strcmp(where, "none") == 0 || !fill_whose(&memory->keep, directory)) {
        forget(memory);
        return use_own(memory, size);
    }
    memory->keep.changed_us = newest_change(directory);
    memory->found = find(memory);
    if (!memory->found && !create(memory, directory, size))
        return use_own(memory, size);
    uint64_t there = memory->found && memory->size >= size ? memory->size : size;
    if (memory->found && memory->size < size && ftruncate(memory->fd, (off_t)size + PAGE) != 0)
        return STATUS_NO_SPACE;
    enum status status = map_file(memory, there);
    if (status != STATUS_OK)
        close(memory->fd);
    return status;
}

enum status index_memory_renew(struct index_memory *memory, uint64_t size)
{
    if (memory->fd < 0 || !memory->found)
        return STATUS_OK;
    munmap(memory->at, memory->size);
    if (ftruncate(memory->fd, PAGE) != 0 || ftruncate(memory->fd, (off_t)size + PAGE) != 0) {
        close(memory->fd);
        forget(memory);
        return use_own(memory, size);
    }
    return map_file(memory, size);
}

const struct store_keep *index_memory_keep(const struct index_memory *memory)
{
    return memory->fd >= 0 ? &memory->keep : NULL;
}

void index_memory_close(struct index_memory *memory)
{
    munmap(memory->at, memory->size);
    if (memory->fd >= 0)
        close(memory->fd);
}
