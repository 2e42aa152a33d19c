/* Bytes of records: writing, checking, searching. */
#include <string.h>

#include "base/crc32c.h"
#include "base/fault.h"
#include "pmem/log_private.h"

/* The place is part of the checksum: a record is sound only where it was written, not inside
 * another one's value. */
uint32_t record_crc(uint32_t seed, uint32_t offset, const struct record *record)
{
    size_t size = sizeof(*record) + ((record->flags & RECORD_CAS) ? 8 : 0) + record->key_size +
                  (size_t)record->value_size;
    uint32_t crc = crc32c(seed, &offset, sizeof(offset));
    return crc32c(crc, &record->value_size, size - sizeof(record->crc));
}

bool record_sound(const struct log *log, uint32_t number, uint32_t generation, uint32_t offset)
{
    uint32_t room = log->medium->segment_size - offset;
    if (room < sizeof(struct record))
        return false;
    const struct record *record = (const void *)(log->segments[number].base + offset);
    if (record->generation != generation || record->kind == 0 || record->kind > KIND_MAX ||
        record->reserved != 0 || record->key_size > RECORD_KEY_SIZE_MAX ||
        record_size(record) > room)
        return false;
    if (FAULT(TORN_RECORD))
        return true;
    return record->crc == record_crc(segment_crc_seed(log, number, generation), offset, record);
}

uint32_t record_search(const struct log *log, uint32_t number, uint32_t generation, uint32_t offset)
{
    for (; offset + sizeof(struct record) <= log->medium->segment_size; offset += RECORD_ALIGN)
        if (record_sound(log, number, generation, offset))
            return offset;
    return 0;
}

static uint8_t *put(uint8_t *at, struct slice bytes)
{
    if (bytes.size > 0)
        memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

/* Completes a record that is all there but for generation and crc. */
static void finish(struct log *log, uint32_t number, uint32_t offset, struct record *record)
{
    record->generation = log->segments[number].generation;
    record->crc = record_crc(log->more[number].crc_seed, offset, record);
    if (!FAULT(NO_FLUSH))
        log->medium->ops->flush(log->medium, record, record_size(record));
}

struct record *record_write(struct log *log, uint32_t number, uint32_t offset,
                            const struct record_spec *spec, uint64_t lsn)
{
    struct record *record = (void *)(log->segments[number].base + offset);
    *record = (struct record){
        .value_size = (uint32_t)(spec->value.size + spec->value_tail.size),
        .kind = (uint8_t)spec->kind,
        .flags = spec->flags,
        .key_size = (uint8_t)spec->key.size,
        .client_flags = spec->client_flags,
        .exptime = spec->exptime,
        .ts = spec->ts,
        .lsn = lsn,
    };
    uint8_t *at = (uint8_t *)(record + 1);
    if (spec->flags & RECORD_CAS)
        at = put(at, slice_make(&spec->cas, sizeof(spec->cas)));
    at = put(put(put(at, spec->key), spec->value), spec->value_tail);
    uint8_t *end = (uint8_t *)record + record_size(record);
    memset(at, 0, (size_t)(end - at));
    finish(log, number, offset, record);
    return record;
}

void record_copy(struct log *log, uint32_t number, uint32_t offset, const struct record *from)
{
    struct record *record = (void *)(log->segments[number].base + offset);
    memcpy(record, from, record_size(from));
    finish(log, number, offset, record);
}
