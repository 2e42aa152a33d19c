/* record.h: one version of one key, as it lies in the log. Format: doc/format.md.
 *
 *     | struct record, 40 bytes | cas, 8 bytes, if RECORD_CAS | key | value | zeros up to a multiple of 8 |
 *
 * A record is immutable once appended. Little-endian, like the machines it runs on. */
#ifndef PMEM_RECORD_H
#define PMEM_RECORD_H

#include <assert.h>
#include <stdint.h>

#include "base/slice.h"

enum record_kind {
    RECORD_VALUE = 1,
    RECORD_TOMBSTONE = 2, /* the key was deleted; no value */
    RECORD_DISCARD = 3,   /* voids all earlier records of its key: the group has none; ts is 0 */
    RECORD_MARK = 4,      /* a stable round (struct mark is the value); no key */
    RECORD_SEAL = 5,      /* ends a full segment; written by the log itself */
};

enum record_flags {
    RECORD_RMW = 1, /* made by a read-modify-write: a replay has to keep that (Hermes section 3.6) */
    RECORD_CAS = 2, /* carries a cas unique other than its ts (touch, gat, meta's E) */
    /* What meta commands know of a value (doc/format.md): */
    RECORD_STALE = 4,   /* to be replaced; may still be shown */
    RECORD_WON = 8,     /* somebody was told to replace it: nobody else is */
    RECORD_BASE64 = 16, /* its key came in base64, and is shown so: it may hold any byte */
    RECORD_LARGE = 128, /* the value is a manifest: what the client stored lies in pieces (replica/piece.h) */
    RECORD_FLAGS = 128 | 31, /* all of them */
};

enum {
    RECORD_ALIGN = 8,
    RECORD_CLIENT_KEY_SIZE_MAX = 250,
    RECORD_KEY_SIZE_MAX, /* one more: keys of pieces, which no client can name */
};

struct record {
    uint32_t crc; /* crc32c of segment, generation, offset and all that follows, up to the end of the value */
    uint32_t value_size;
    uint8_t kind;
    uint8_t flags;
    uint8_t key_size;
    uint8_t reserved; /* zero */
    uint32_t generation; /* the segment's: a record left over from an earlier use of the space is no record */
    uint32_t client_flags;
    uint32_t exptime; /* seconds since 1970; 0: never */
    uint64_t ts;
    uint64_t lsn; /* position in the order of first appending; a copy made by cleaning keeps it */
};
static_assert(sizeof(struct record) == 40, "the record header is part of the format");

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

static inline const uint8_t *record_key_at(const struct record *record)
{
    return (const uint8_t *)(record + 1) + ((record->flags & RECORD_CAS) ? 8 : 0);
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
    return record->client_flags;
}

/* Seconds since 1970; 0: never. */
static inline uint32_t record_exptime(const struct record *record)
{
    return record->exptime;
}

/* The `cas unique` that clients see. */
static inline uint64_t record_cas(const struct record *record)
{
    uint64_t cas = record->ts;
    if (record->flags & RECORD_CAS)
        memcpy(&cas, record + 1, sizeof(cas));
    return cas;
}

/* Bytes a record takes in the log. */
static inline uint64_t record_size_of(uint64_t key_size, uint64_t value_size, uint8_t flags)
{
    uint64_t size = sizeof(struct record) + ((flags & RECORD_CAS) ? 8 : 0) + key_size + value_size;
    return (size + RECORD_ALIGN - 1) / RECORD_ALIGN * RECORD_ALIGN;
}

static inline uint64_t record_size(const struct record *record)
{
    return record_size_of(record->key_size, record->value_size, record->flags);
}

/* What a MARK says: at round `round` everything in this log before `lsn` was complete, visible and durable
 * at every node in `members` (doc/protocol.md, stability rounds). */
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
