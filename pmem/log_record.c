/* Bytes of records: writing, checking, searching. */
#include <string.h>

#include "base/crc32c.h"
#include "base/fault.h"
#include "pmem/log_private.h"

enum {
    SEARCH_CHAIN = 8,     /* headers in a row, before a checksum is worth its time */
    SEARCH_SEGMENTS = 64, /* of checksums that were wrong, in one search */
};

/* The place is part of the checksum: a record is sound only where it was written, not inside
 * another one's value. */
uint32_t record_crc(uint32_t seed, uint32_t offset, const struct record *record)
{
    uint32_t crc = FAULT(ANY_PLACE) ? seed : crc32c(seed, &offset, sizeof(offset));
    return crc32c(crc, (const uint8_t *)record + sizeof(record->crc),
                  record_size(record) - sizeof(record->crc));
}

bool record_plausible(const struct log *log, uint32_t number, uint32_t offset)
{
    uint32_t room = log->medium->segment_size - offset;
    if (room < sizeof(struct record))
        return false;
    const struct record *record = (const void *)(log->segments[number].base + offset);
    return ((record->kind != 0 && record->kind <= KIND_MAX) || FAULT(RECORD_KIND)) &&
           (record->key_size <= RECORD_KEY_SIZE_MAX || FAULT(RECORD_KEY_SIZE)) &&
           (record_size(record) <= room || FAULT(RECORD_BOUNDS));
}

bool record_sound(const struct log *log, uint32_t number, uint32_t generation, uint32_t offset)
{
    if (!record_plausible(log, number, offset))
        return false;
    const struct record *record = (const void *)(log->segments[number].base + offset);
    if (FAULT(TORN_RECORD))
        return true;
    return record->crc == record_crc(segment_crc_seed(log, number, generation), offset, record);
}

static bool is_blank(const struct log *log, uint32_t number, uint32_t offset)
{
    const uint8_t *bytes = log->segments[number].base + offset;
    for (size_t i = 0; i < sizeof(struct record); i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* Checksums of whatever looks like a header would take minutes. Behind a record lie others, to the
 * end of the segment or of what was ever written. */
static bool is_followed(const struct log *log, uint32_t number, uint32_t offset)
{
    for (unsigned i = 0; i < SEARCH_CHAIN; i++) {
        if (!record_plausible(log, number, offset))
            return i > 0 && (log->medium->segment_size - offset < sizeof(struct record) ||
                             is_blank(log, number, offset));
        const struct record *record = (const void *)(log->segments[number].base + offset);
        if (record->kind == RECORD_SEAL)
            return record_size(record) == sizeof(*record);
        offset += (uint32_t)record_size(record);
    }
    return true;
}

/* Most bytes are no header's: what is behind a damaged record is found by its size. 0: not so. */
static uint32_t hop(const struct log *log, uint32_t number, uint32_t generation, uint32_t offset)
{
    for (unsigned i = 0; i < SEARCH_CHAIN && record_plausible(log, number, offset); i++) {
        if (record_sound(log, number, generation, offset))
            return offset;
        offset += (uint32_t)record_size((const void *)(log->segments[number].base + offset));
    }
    return 0;
}

uint32_t record_search(const struct log *log, uint32_t number, uint32_t generation, uint32_t offset)
{
    uint64_t budget = (uint64_t)SEARCH_SEGMENTS * log->medium->segment_size;
    uint32_t next = hop(log, number, generation, offset);
    if (next != 0)
        return next;
    for (; offset + sizeof(struct record) <= log->medium->segment_size; offset++) {
        if (!is_followed(log, number, offset))
            continue;
        if (record_sound(log, number, generation, offset))
            return offset;
        uint64_t cost = record_size((const void *)(log->segments[number].base + offset));
        if (cost > budget)
            return 0;
        budget -= cost;
    }
    return 0;
}

static uint8_t *put(uint8_t *at, struct slice bytes)
{
    if (bytes.size > 0)
        memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

/* What the space held before may look like a record. It is none, but an opening would call it a
 * torn one. */
static void end_behind(struct log *log, uint32_t number, uint32_t offset)
{
    if (log->medium->segment_size - offset >= sizeof(struct record))
        memset(log->segments[number].base + offset, 0, sizeof(struct record));
}

/* Completes a record that is all there but for the crc. */
static void finish(struct log *log, uint32_t number, uint32_t offset, struct record *record)
{
    record->crc = record_crc(log->more[number].crc_seed, offset, record);
    end_behind(log, number, offset + (uint32_t)record_size(record));
    if (!FAULT(NO_FLUSH))
        log->medium->ops->flush(log->medium, record, record_size(record));
}

struct record *record_write(struct log *log, uint32_t number, uint32_t offset,
                            const struct record_spec *spec, uint64_t lsn)
{
    struct record *record = (void *)(log->segments[number].base + offset);
    *record = (struct record){
        .ts = spec->ts,
        .lsn_delta = lsn_delta_of(lsn, log->segments[number].lsn_base),
        .value_size = (uint32_t)(spec->value.size + spec->value_tail.size) & RECORD_VALUE_SIZE_MAX,
        .kind = (unsigned)spec->kind & 7,
        .key_size = (uint8_t)spec->key.size,
        .flags = record_spec_flags(spec),
    };
    uint8_t *at = (uint8_t *)(record + 1);
    if (record->flags & RECORD_CAS)
        at = put(at, slice_make(&spec->cas, sizeof(spec->cas)));
    if (record->flags & RECORD_HAS_CLIENT_FLAGS)
        at = put(at, slice_make(&spec->client_flags, sizeof(spec->client_flags)));
    if (record->flags & RECORD_HAS_EXPTIME)
        at = put(at, slice_make(&spec->exptime, sizeof(spec->exptime)));
    put(put(put(at, spec->key), spec->value), spec->value_tail);
    finish(log, number, offset, record);
    return record;
}

void record_copy(struct log *log, uint32_t number, uint32_t offset, const struct record *from,
                 uint64_t lsn)
{
    struct record *record = (void *)(log->segments[number].base + offset);
    memcpy(record, from, record_size(from));
    record->lsn_delta = lsn_delta_of(lsn, log->segments[number].lsn_base);
    finish(log, number, offset, record);
}
