/* hash.h: the hash of a key. Equal on every node and for ever: the shard of a key depends on it. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

/* 64 well mixed bits. The shard is taken from the top 16, the index uses the others. */
uint64_t hash_key(struct slice key);

static inline uint32_t hash_shard(uint64_t hash, uint32_t shard_count)
{
    return (uint32_t)(((hash >> 48) * shard_count) >> 16);
}

#endif
