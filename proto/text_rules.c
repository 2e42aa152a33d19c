#include "base/item.h"
#include "proto/text.h"

enum {
    RELATIVE_MAX = 60 * 60 * 24 * 30,
};

uint64_t text_item_size(size_t key_size, uint32_t client_flags, uint64_t value_size)
{
    return ITEM_OVERHEAD + key_size + (client_flags != 0 ? ITEM_FLAGS_SIZE : 0) + value_size;
}

bool text_item_fits(uint32_t item_size_max, size_t key_size, uint32_t client_flags,
                    uint64_t value_size)
{
    return item_fits(item_size_max, key_size, client_flags, value_size);
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
