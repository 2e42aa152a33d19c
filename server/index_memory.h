/* index_memory.h: the memory of a shard's index: a shared file mapping, so that it outlives a
 * process that was killed. Each shard's own thread.
 *
 * It has to lie in a RAM file system: the index is written all over, and on a disk the kernel would
 * write it back again and again, and let the worker wait meanwhile. So DIR/shard-N/index is a link
 * to a file in --index-dir (/dev/shm), or that file itself where DIR is a RAM file system. Without
 * one the memory is the process's own. Only one boot can use it. The file's first page says which
 * link leads to it: a start removes those that no link leads to any more.
 *
 * The file is as large as the index may become, and sparse: a part of it is allocated before it is
 * used, because touching what a full file system cannot give is SIGBUS. Where nothing is left, the
 * process's own memory takes the part's place. */
#ifndef SERVER_INDEX_MEMORY_H
#define SERVER_INDEX_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "store/store.h"

#define INDEX_FILE_NAME "index" /* DIR/shard-N/index */

enum { INDEX_PATH_SIZE = 4096 };

struct index_memory {
    void *at; /* pages of zeros, or what the last process left */
    uint64_t size;
    int fd;            /* locked. -1: the process's own memory */
    bool found;        /* it was there already */
    const char *where; /* RAM file system for new ones */
    struct store_keep keep;
    char link[INDEX_PATH_SIZE]; /* DIR/shard-N/index */
    char path[INDEX_PATH_SIZE];
};

/* `directory` is the shard's, which exists; NULL: in memory only. `where`: --index-dir, or "none".
 * `size`, in whole pages, is what is wanted; what is there already may be larger, and is used as it
 * is. */
enum status index_memory_open(struct index_memory *memory, const char *directory, const char *where,
                              uint64_t size) MUST_CHECK;

/* Gives it back what it was: zeros, of the size that is wanted. */
enum status index_memory_renew(struct index_memory *memory, uint64_t size) MUST_CHECK;

/* For store_options. NULL: it dies with the process. */
const struct store_keep *index_memory_keep(const struct index_memory *memory);

void index_memory_close(struct index_memory *memory);

#endif
