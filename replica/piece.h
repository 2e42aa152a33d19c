/* piece.h: values too large for one record. Pure; any thread.
 *
 * Such a value lies in pieces: records of their own under keys that no client can name (longer than
 * a client's key may be), in the shard of the value's key. Its own record is flagged RECORD_LARGE
 * and holds a manifest instead of the value. Whoever stores one writes the pieces first, each an
 * ordinary plain write; when all are complete the manifest is written by the client's command,
 * which is the point at which the value changes. A piece never changes, so a reader that has the
 * manifest may fetch the pieces one by one. Pieces that no manifest names go by and by:
 * recovery/collect.h. */
#ifndef REPLICA_PIECE_H
#define REPLICA_PIECE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "pmem/record.h"

enum {
    LARGE_VALUE_MIN = 1 << 20, /* a value above this size lies in pieces */
    PIECE_SIZE = 512 << 10,    /* of each piece but the last */
    PIECE_KEY_SIZE = RECORD_KEY_SIZE_MAX,
    PIECE_HEAD_SIZE_MAX =
        1 + RECORD_CLIENT_KEY_SIZE_MAX, /* of its record's value, see piece_head */
};

/* The value of a record with RECORD_LARGE. */
struct manifest {
    uint64_t upload; /* unique for ever in the group: a ts of the node that stored it */
    uint64_t size;   /* of the whole value */
};
static_assert(sizeof(struct manifest) == 16, "the manifest is part of the format");

static inline struct manifest manifest_of(struct slice value)
{
    struct manifest manifest = {0};
    if (value.size == sizeof(manifest))
        memcpy(&manifest, value.data, sizeof(manifest));
    return manifest;
}

/* Bytes of the client's value behind `record`. */
static inline uint64_t record_client_size(const struct record *record)
{
    return record->flags & RECORD_LARGE ? manifest_of(record_value(record)).size
                                        : record->value_size;
}

static inline uint32_t piece_count(uint64_t size)
{
    return (uint32_t)((size + PIECE_SIZE - 1) / PIECE_SIZE);
}

static inline uint32_t piece_size(uint64_t size, uint32_t number)
{
    uint64_t left = size - (uint64_t)number * PIECE_SIZE;
    return (uint32_t)(left < PIECE_SIZE ? left : PIECE_SIZE);
}

static inline bool key_is_piece(struct slice key)
{
    return key.size == PIECE_KEY_SIZE;
}

/* The key of piece `number`, from 0. */
static inline void piece_key(uint64_t upload, uint32_t number, uint8_t key[PIECE_KEY_SIZE])
{
    memset(key, 0, PIECE_KEY_SIZE);
    memcpy(key, &upload, sizeof(upload));
    memcpy(key + sizeof(upload), &number, sizeof(number));
}

static inline uint64_t piece_key_upload(struct slice key)
{
    uint64_t upload;
    memcpy(&upload, key.data, sizeof(upload));
    return upload;
}

static inline uint64_t piece_upload(const struct record *record)
{
    return piece_key_upload(record_key(record));
}

/* A piece's record holds the size and the bytes of the client's key, then the piece: so that it can
 * be asked whether anything still needs it. Returns the bytes written. */
static inline uint32_t piece_head(struct slice client_key, uint8_t out[PIECE_HEAD_SIZE_MAX])
{
    out[0] = (uint8_t)client_key.size;
    memcpy(out + 1, client_key.data, client_key.size);
    return 1 + (uint32_t)client_key.size;
}

/* The client's key, and the piece itself. Of size 0: no sensible piece. */
static inline struct slice piece_client_key(struct slice value)
{
    const uint8_t *bytes = value.data;
    if (value.size == 0 || value.size < 1u + bytes[0])
        return slice_make(NULL, 0);
    return slice_make(bytes + 1, bytes[0]);
}

static inline struct slice piece_bytes(struct slice value)
{
    struct slice key = piece_client_key(value);
    return slice_make((const uint8_t *)value.data + 1 + key.size, value.size - 1 - key.size);
}

#endif
