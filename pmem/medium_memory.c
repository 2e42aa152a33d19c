#include "pmem/medium_memory.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { SEGMENT_COUNT_MAX = 4096 };

struct memory {
    struct medium medium; /* first: the caller holds a pointer to it */
    uint64_t cookie;
    void *bases[SEGMENT_COUNT_MAX];
};

static enum status map(struct medium *medium, uint32_t number, bool create, void **base)
{
    struct memory *memory = (struct memory *)medium;
    assert(number < SEGMENT_COUNT_MAX);
    if (memory->bases[number] == NULL && create) {
        void *made = mmap(NULL, medium->segment_size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (made == MAP_FAILED)
            return STATUS_NO_SPACE;
        memory->bases[number] = made;
    }
    *base = memory->bases[number];
    return *base == NULL ? STATUS_NOT_FOUND : STATUS_OK;
}

static void flush(struct medium *medium, const void *at, size_t size)
{
    (void)medium;
    (void)at;
    (void)size;
}

static void drain(struct medium *medium, uint64_t cookie)
{
    ((struct memory *)medium)->cookie = cookie;
}

static enum status drained(struct medium *medium, uint64_t *cookie)
{
    *cookie = ((struct memory *)medium)->cookie;
    return STATUS_OK;
}

static void close(struct medium *medium)
{
    struct memory *memory = (struct memory *)medium;
    for (uint32_t i = 0; i < SEGMENT_COUNT_MAX; i++)
        if (memory->bases[i] != NULL)
            munmap(memory->bases[i], medium->segment_size);
    free(memory);
}

enum status medium_memory_open(struct medium **medium, uint32_t segment_size)
{
    static const struct medium_ops ops = {
        .map = map, .flush = flush, .drain = drain, .drained = drained, .close = close};
    struct memory *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return STATUS_NO_MEMORY;
    made->medium = (struct medium){.ops = &ops, .segment_size = segment_size};
    *medium = &made->medium;
    return STATUS_OK;
}
