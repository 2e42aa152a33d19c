/* Making and checking the files of segments. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fault.h"
#include "pmem/medium_file_private.h"

#define HALF_SUFFIX ".new"
#define ASIDE_SUFFIX ".damaged"

enum { BTRFS_MAGIC_NUMBER = 0x9123683e, ASIDE_MAX = 100 };

void segment_file_name(uint32_t number, char name[FILE_NAME_SIZE])
{
    snprintf(name, FILE_NAME_SIZE, "segment-%06u", number);
}

void file_complain(struct file_medium *file, const char *name, const char *what, int error)
{
    snprintf(file->message, sizeof(file->message), "%s/%s: %s%s%s", file->directory, name, what,
             error != 0 ? ": " : "", error != 0 ? strerror(error) : "");
}

/* Writes zeros, so that a later sync has no extents to commit. Returns an errno. */
static int fill(int fd, uint32_t size)
{
    static const char zeros[65536];
    int error;
    do /* on tmpfs any signal interrupts it, a debugger's too */
        error = posix_fallocate(fd, 0, size);
    while (error == EINTR);
    for (uint32_t at = 0; error == 0 && at < size;) {
        size_t part = size - at < sizeof(zeros) ? size - at : sizeof(zeros);
        ssize_t written = pwrite(fd, zeros, part, at);
        if (written > 0)
            at += (uint32_t)written;
        else if (written < 0 && errno != EINTR)
            error = errno;
    }
    if (error == 0 && fsync(fd) != 0)
        error = errno;
    return error;
}

/* Where every write goes to a new place, a file that is whole today may find no space tomorrow. */
static void forbid_copy_on_write(int fd)
{
    struct statfs stat;
    int flags = 0;
    if (fstatfs(fd, &stat) != 0 || stat.f_type != BTRFS_MAGIC_NUMBER ||
        ioctl(fd, FS_IOC_GETFLAGS, &flags) != 0)
        return;
    flags |= FS_NOCOW_FL;
    int ignored = ioctl(fd, FS_IOC_SETFLAGS, &flags);
    (void)ignored; /* As good as it can be had. */
}

/* Under its name only when it is whole. Calls nothing that writes to `file`. */
int segment_file_make(const struct file_medium *file, uint32_t number)
{
    char name[FILE_NAME_SIZE], half[FILE_NAME_SIZE + sizeof(HALF_SUFFIX)];
    segment_file_name(number, name);
    snprintf(half, sizeof(half), "%s" HALF_SUFFIX, name);
    int fd =
        openat(file->directory_fd, half, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return errno;
    forbid_copy_on_write(fd);
    int error = fill(fd, file->medium.segment_size);
    close(fd);
    if (error == 0 && renameat(file->directory_fd, half, file->directory_fd, name) != 0)
        error = errno;
    if (error == 0 && fsync(file->directory_fd) != 0)
        return errno;
    if (error != 0 && !FAULT(HALF_STAYS))
        unlinkat(file->directory_fd, half, 0);
    return error;
}

enum status segment_file_create(struct file_medium *file, uint32_t number)
{
    char name[FILE_NAME_SIZE];
    segment_file_name(number, name);
    int error = segment_file_make(file, number);
    if (error == 0)
        return STATUS_OK;
    file_complain(file, name, "cannot be made", error);
    return is_no_space(error) ? STATUS_NO_SPACE : STATUS_IO;
}

bool segment_file_exists(const struct file_medium *file, uint32_t number)
{
    char name[FILE_NAME_SIZE];
    segment_file_name(number, name);
    return faccessat(file->directory_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool segment_file_put_aside(struct file_medium *file, uint32_t number)
{
    char name[FILE_NAME_SIZE], aside[FILE_NAME_SIZE + sizeof(ASIDE_SUFFIX) + 4];
    segment_file_name(number, name);
    snprintf(aside, sizeof(aside), "%s" ASIDE_SUFFIX, name);
    /* An older one stays: its bad blocks would be given to somebody. */
    for (unsigned i = 2; !FAULT(ASIDE_OVER) && i < ASIDE_MAX &&
                         faccessat(file->directory_fd, aside, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
         i++)
        snprintf(aside, sizeof(aside), "%s" ASIDE_SUFFIX "-%u", name, i);
    if (renameat(file->directory_fd, name, file->directory_fd, aside) != 0 ||
        fsync(file->directory_fd) != 0) {
        file_complain(file, name, "cannot be renamed", errno);
        return false;
    }
    return true;
}

enum status segment_file_check(struct file_medium *file, uint32_t number)
{
    char name[FILE_NAME_SIZE];
    struct stat stat;
    segment_file_name(number, name);
    if (fstatat(file->directory_fd, name, &stat, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT)
            return STATUS_NOT_FOUND;
        file_complain(file, name, "cannot be looked at", errno);
        return STATUS_IO;
    }
    if (S_ISREG(stat.st_mode) &&
        (stat.st_size == (off_t)file->medium.segment_size || FAULT(FILE_SIZE)))
        return STATUS_OK;
    char what[128];
    snprintf(what, sizeof(what),
             S_ISREG(stat.st_mode) ? "has %lld bytes instead of %u" : "is no file",
             (long long)stat.st_size, file->medium.segment_size);
    file_complain(file, name, what, 0);
    return STATUS_CORRUPT;
}

void segment_file_remove_halves(struct file_medium *file)
{
    for (uint32_t i = 0; i < FILE_SEGMENT_COUNT_MAX; i++) {
        char name[FILE_NAME_SIZE], half[FILE_NAME_SIZE + sizeof(HALF_SUFFIX)];
        segment_file_name(i, name);
        snprintf(half, sizeof(half), "%s" HALF_SUFFIX, name);
        unlinkat(file->directory_fd, half, 0);
    }
}
