/* directory.h: the data directory: one process at a time, of one node of one cluster. Control
 * thread only.
 *
 * DIR/lock is locked with flock(2) while the process lives. DIR/node says whose the directory is,
 * and holds the incarnation, which is raised durably before it is used: a restarted node may not
 * remember which timestamps it gave out (base/ts.h). Nothing is written to a directory that belongs
 * to somebody else. */
#ifndef SERVER_DIRECTORY_H
#define SERVER_DIRECTORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { DIRECTORY_FORMAT_VERSION = 1 };

/* DIR/node, as it lies on the disk. */
struct directory_node {
    char magic[8];
    uint32_t format_version;
    uint32_t node;
    uint32_t shard_count;
    uint32_t segment_size;
    uint64_t cluster; /* options_directory_hash() */
    uint64_t incarnation;
    uint32_t early; /* 1: was used with a model in which an answer may be undone (model_is_early);
                       stays */
    uint32_t crc;   /* of all before */
};

struct directory {
    const char *path; /* the caller's; NULL: in memory, nothing survives */
    int lock;
    struct directory_node node;
};

/* Creates `path` if need be, locks it, compares and raises the incarnation. `want` says whose it
 * must be; a segment size that is there already wins over want's, and `early` is true for ever.
 * `path` NULL: no directory; the incarnation comes from the clock. STATUS_BUSY: another process has
 * it; STATUS_FOREIGN, STATUS_VERSION, STATUS_CORRUPT, STATUS_IO: `why` (one line, names the file)
 * says what is wrong and what to do, and nothing was changed. A directory with a log and without
 * DIR/node is STATUS_CORRUPT. */
enum status directory_open(struct directory *directory, const char *path,
                           const struct directory_node *want, char *why,
                           size_t why_size) MUST_CHECK;

/* A higher incarnation, durable on return. */
enum status directory_raise_incarnation(struct directory *directory) MUST_CHECK;

void directory_close(struct directory *directory);

#endif
