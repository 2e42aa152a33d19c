/* store_trap.h: a test is called before every single store that the code under test makes to memory
 * of its choice.
 *
 * In a build with VARIANT=trap the objects of the folders are compiled with gcc's instrumentation
 * for ThreadSanitizer, and this file stands in for its run time: each write, atomic or not, comes
 * by here first. memcpy, memmove and memset are taken apart into stores of eight aligned bytes, in
 * rising order. In every other build nothing is called.
 *
 *     store_trap_begin(on_store, user);
 *     store_trap_watch(base, size);
 *     ... code under test ...
 *     store_trap_end();
 *
 * One thread. While the callback runs the trap is off; it may begin one of its own, which ends with
 * it. */
#ifndef T_STORE_TRAP_H
#define T_STORE_TRAP_H

#include <stddef.h>

/* `size` bytes at `at` are about to be written; everything before has been. */
typedef void (*store_trap_t)(void *user, void *at, size_t size);

void store_trap_begin(store_trap_t call, void *user);
/* Adds memory that is watched; a few pieces. */
void store_trap_watch(const void *at, size_t size);
void store_trap_end(void);

#endif
