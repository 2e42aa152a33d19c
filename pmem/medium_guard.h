/* medium_guard.h: what becomes of SIGBUS: a page of a mapped segment that its medium does not give.
 * Holds atomics.
 *
 * Reasons: a broken cell of persistent memory, a disk that does not read, a file system that was
 * made read-only, a file that somebody cut. Nothing can be answered in the place of such a page, so
 * a process that meets one ends at once, with a line that names the segment; what was acknowledged
 * is with the other nodes, or on the medium. Only medium_guard_readable() asks without risk. SIGBUS
 * elsewhere ends the process as if there were no guard. */
#ifndef PMEM_MEDIUM_GUARD_H
#define PMEM_MEDIUM_GUARD_H

#include <stdbool.h>
#include <stddef.h>

struct file_medium;

/* Once, before there are threads. The process will end with `exit_code`. `beside` names a file
 * beside the segments that is removed then, because what it says of them may not be believed any
 * more; NULL: none. No alternate stack: the stacks lie in ordinary memory. */
void medium_guard_install(int exit_code, const char *beside);

/* Tells the guard of the segments of a medium, and that they are to be forgotten. Any thread. */
void medium_guard_add_any(struct file_medium *file);
void medium_guard_remove_any(struct file_medium *file);

/* Whether every page of [base, base + size) can be read; if not, *bad is the offset of the first
 * that can't. Any thread; only where the guard is installed. */
bool medium_guard_readable_any(const void *base, size_t size, size_t *bad);

#endif
