/* Preloaded into a node by cases_media.py: msync(2) fails with EIO while the file exists whose path
 * FAILING_SYNC holds. With FAILING_SYNC_ONCE it fails one time: what comes behind it would succeed,
 * as on a real disk. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int msync(void *address, size_t size, int flags)
{
    static atomic_int failed;
    const char *path = getenv("FAILING_SYNC");
    if (path != NULL && access(path, F_OK) == 0 &&
        (getenv("FAILING_SYNC_ONCE") == NULL || atomic_fetch_add(&failed, 1) == 0)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_msync, address, size, flags);
}
