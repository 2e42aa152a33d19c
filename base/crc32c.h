/* crc32c.h: the Castagnoli checksum, in hardware where the processor has it. Callable from any
 * thread. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to begin) over `size` bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

#endif
