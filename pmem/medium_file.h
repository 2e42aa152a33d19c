/* medium_file.h: segments as files of one directory, `segment-000000` and so on, mapped by libpmem.
 *
 * On DAX a drain is done on return. On an ordinary file one flusher thread syncs what was flushed:
 * one sync in flight, the next one gathers meanwhile. Its completion is told by an eventfd. That
 * two processes do not use one directory is the caller's care. */
#ifndef PMEM_MEDIUM_FILE_H
#define PMEM_MEDIUM_FILE_H

#include "pmem/medium.h"

/* A thread makes the next segments before they are needed. Makes the directory if need be.
 * `message` says on failure what is wrong with which file: STATUS_IO, STATUS_NO_MEMORY,
 * STATUS_NO_SPACE; STATUS_FOREIGN: all that is there was made with another segment size. Nothing
 * that exists is changed. With nothing there, the first segment must be made now.
 *
 * Mapping a file of a wrong size gives STATUS_CORRUPT and leaves it as it is; replace() renames it
 * to `.damaged`. A segment that can't be made leaves no file. An error of the flusher is final:
 * drained() gives STATUS_IO for ever, because what a failed sync has thrown away can't be known. */
enum status medium_file_open(struct medium **medium, const char *directory, uint32_t segment_size,
                             char *message, size_t message_size) MUST_CHECK;

/* No segment numbered `count` or above is made ahead. */
void medium_file_limit(struct medium *medium, uint32_t count);

/* Readable when drained() may have moved on: poll it, call medium_file_clear(). -1 on DAX: nothing
 * to wait for. */
int medium_file_fd(const struct medium *medium);
void medium_file_clear(struct medium *medium);

/* What it is, and what it did so far. Any thread. */
struct medium_file_stats {
    const char *kind; /* one word: dax, file, or tmpfs */
    uint64_t drains;  /* asked for */
    uint64_t syncs;   /* calls; on DAX there are none */
    uint64_t bytes;   /* of the stretches that were synced */
    uint64_t sync_us; /* in all */
    uint64_t sync_us_max;
};
void medium_file_stats_any(const struct medium *medium, struct medium_file_stats *stats);

/* The newest trouble, by file name; empty: none. Stays the medium's. */
const char *medium_file_message(const struct medium *medium);

/* The path of a segment's file, for messages. */
void medium_file_path(const struct medium *medium, uint32_t number, char *path, size_t path_size);

#endif
