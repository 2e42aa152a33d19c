/* record.h: one version of one key, as it lies in the log. Format: doc/format.md.
 *
 *     | struct record, 21 bytes | cas, 8 bytes | client flags, 4 | exptime, 4 | key | value |
 *                                 each only if its flag is set
 *
 * A record begins at any byte: the struct is packed, and what follows it is read with memcpy. Its
 * place in the order of first appending, the lsn, is relative to its segment: ask log_lsn(). A
 * record is immutable once appended. Little-endian, like the machines it runs on. */
#ifndef PMEM_RECORD_H
#define PMEM_RECORD_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/slice.h"

enum record_kind {
    RECORD_VALUE = 1,
    RECORD_TOMBSTONE = 2, /* the key was deleted; no value */
    RECORD_DISCARD = 3,   /* voids all earlier records of its key: the group has none; ts is 0 */
    RECORD_MARK = 4,      /* a stable round (struct mark is the value); no key */
    RECORD_SEAL = 5,      /* ends a full segment; written by the log itself */
};

enum record_flags {
    /* made by a read-modify-write: a replay has to keep that (Hermes section 3.6) */
    RECORD_RMW = 1,
    RECORD_CAS = 2, /* carries a cas unique other than its ts (touch, gat, meta's E) */
    /* What meta commands know of a value (doc/format.md): */
    RECORD_STALE = 4,   /* to be replaced; may still be shown */
    RECORD_WON = 8,     /* somebody was told to replace it: nobody else is */
    RECORD_BASE64 = 16, /* its key came in base64, and is shown so: it may hold any byte */
    /* the value is a manifest: what the client stored lies in pieces (replica/piece.h) */
    RECORD_LARGE = 128,
    RECORD_FLAGS = 128 | 31, /* all of them */
    /* Of the layout; set by the log itself, and in records only: */
    RECORD_HAS_CLIENT_FLAGS = 32,
    RECORD_HAS_EXPTIME = 64,
};

enum {
    RECORD_VALUE_SIZE_MAX = (1 << 21) - 1,
    RECORD_CLIENT_KEY_SIZE_MAX = 250,
    RECORD_KEY_SIZE_MAX, /* one more: keys of pieces, which no client can name */
};

struct record {
    /* crc32c of segment, generation, offset and all that follows, up to the end of the value: a
     * record left over from an earlier use of the space is no record */
    uint32_t crc;
    uint64_t ts;
    int32_t lsn_delta; /* from the first append of its segment; negative in copies */
    uint32_t value_size : 21;
    uint32_t kind : 3;
    uint32_t key_size : 8;
    uint8_t flags;
} __attribute__((packed));
static_assert(sizeof(struct record) == 21, "the record header is part of the format");

/* What a new record is to hold. Slices are the caller's. */
struct record_spec {
    enum record_kind kind;
    uint8_t flags; /* RECORD_CAS is set exactly if `cas` is to be stored */
    uint32_t client_flags;
    uint32_t exptime;
    uint64_t ts;
    uint64_t cas; /* used with RECORD_CAS only */
    struct slice key;
    struct slice value;
    struct slice value_tail; /* put behind `value`: append and prepend build no copy of their own */
};

/* Bytes between the header and the key. */
static inline uint32_t record_extra_size(uint8_t flags)
{
    return ((flags & RECORD_CAS) ? 8 : 0) + ((flags & RECORD_HAS_CLIENT_FLAGS) ? 4 : 0) +
           ((flags & RECORD_HAS_EXPTIME) ? 4 : 0);
}

static inline const uint8_t *record_key_at(const struct record *record)
{
    return (const uint8_t *)(record + 1) + record_extra_size(record->flags);
}

static inline struct slice record_key(const struct record *record)
{
    return slice_make(record_key_at(record), record->key_size);
}

static inline struct slice record_value(const struct record *record)
{
    return slice_make(record_key_at(record) + record->key_size, record->value_size);
}

static inline uint32_t record_client_flags(const struct record *record)
{
    uint32_t client_flags = 0;
    if (record->flags & RECORD_HAS_CLIENT_FLAGS)
        memcpy(&client_flags,
               (const uint8_t *)(record + 1) + ((record->flags & RECORD_CAS) ? 8 : 0),
               sizeof(client_flags));
    return client_flags;
}

/* Seconds since 1970; 0: never. */
static inline uint32_t record_exptime(const struct record *record)
{
    uint32_t exptime = 0;
    if (record->flags & RECORD_HAS_EXPTIME)
        memcpy(&exptime, record_key_at(record) - sizeof(exptime), sizeof(exptime));
    return exptime;
}

/* The `cas unique` that clients see. */
static inline uint64_t record_cas(const struct record *record)
{
    uint64_t cas = record->ts;
    if (record->flags & RECORD_CAS)
        memcpy(&cas, record + 1, sizeof(cas));
    return cas;
}

/* Bytes a record takes in the log; `flags` as they are in the record. */
static inline uint64_t record_size_of(uint64_t key_size, uint64_t value_size, uint8_t flags)
{
    return sizeof(struct record) + record_extra_size(flags) + key_size + value_size;
}

static inline uint64_t record_size(const struct record *record)
{
    return record_size_of(record->key_size, record->value_size, record->flags);
}

/* The flags a record made of this will have. */
static inline uint8_t record_spec_flags(const struct record_spec *spec)
{
    return (uint8_t)((spec->flags & RECORD_FLAGS) |
                     (spec->client_flags != 0 ? RECORD_HAS_CLIENT_FLAGS : 0) |
                     (spec->exptime != 0 ? RECORD_HAS_EXPTIME : 0));
}

static inline uint64_t record_spec_size(const struct record_spec *spec)
{
    return record_size_of(spec->key.size, spec->value.size + spec->value_tail.size,
                          record_spec_flags(spec));
}

/* What a MARK says: at round `round` everything in this log before `lsn` was complete, visible and
 * durable at every node in `members` (doc/protocol.md, stability rounds). */
struct mark {
    uint64_t lsn;
    uint64_t round; /* (epoch << 32) | number: grows for ever */
    uint64_t floor; /* adopted floor version, as of this round */
    uint64_t clock; /* the node's version clock: survives a restart */
    uint32_t epoch;
    uint8_t members;    /* bit (id - 1) is node `id` */
    uint8_t configured; /* all nodes of the group, same bits */
    uint16_t reserved;  /* zero */
};
static_assert(sizeof(struct mark) == 40, "the mark is part of the format");

#endif
