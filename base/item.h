/* item.h: what memcached's -I limits: its item header, the key and the value, together. */
#ifndef BASE_ITEM_H
#define BASE_ITEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    /* What memcached adds to key and value: its item header with a cas, the zero byte behind the
       key, CRLF. */
    ITEM_OVERHEAD = 48 + 8 + 1 + 2,
    ITEM_FLAGS_SIZE = 4, /* only if they are not 0 */
};

/* With the default of 1 MiB a value of 1,048,516 bytes and no client flags fits under a key of 1
 * byte. */
static inline bool item_fits(uint32_t item_size_max, size_t key_size, uint32_t client_flags,
                             uint64_t value_size)
{
    uint64_t others = ITEM_OVERHEAD + key_size + (client_flags != 0 ? ITEM_FLAGS_SIZE : 0);
    return others <= item_size_max && value_size <= item_size_max - others;
}

#endif
