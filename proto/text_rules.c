#include "proto/text.h"

enum {
    /* What memcached adds to key and value: its item header with a cas, the zero byte behind the
       key, CRLF. */
    ITEM_OVERHEAD = 48 + 8 + 1 + 2,
    ITEM_FLAGS_SIZE = 4, /* only if they are not 0 */
    RELATIVE_MAX = 60 * 60 * 24 * 30,
};

uint64_t text_item_size(size_t key_size, uint32_t client_flags, uint64_t value_size)
{
    return ITEM_OVERHEAD + key_size + (client_flags != 0 ? ITEM_FLAGS_SIZE : 0) + value_size;
}

bool text_item_fits(uint32_t item_size_max, size_t key_size, uint32_t client_flags,
                    uint64_t value_size)
{
    uint64_t others = ITEM_OVERHEAD + key_size + (client_flags != 0 ? ITEM_FLAGS_SIZE : 0);
    return others <= item_size_max && value_size <= item_size_max - others;
}

uint32_t text_expire_at(int64_t exptime, uint32_t now)
{
    if (exptime == 0)
        return 0;
    if (exptime < 0)
        return TEXT_EXPIRED;
    uint64_t at = exptime > RELATIVE_MAX ? (uint64_t)exptime : (uint64_t)exptime + now;
    if (at <= now)
        return TEXT_EXPIRED;
    return at < UINT32_MAX ? (uint32_t)at : UINT32_MAX;
}
