#include "server/dump.h"

#include <string.h>

#include "base/decimal.h"
#include "base/ts.h"
#include "proto/base64.h"
#include "proto/text.h"
#include "proto/uri.h"
#include "replica/piece.h"
#include "server/node.h"
#include "server/tuning.h"
#include "server/worker.h"

enum {
    SLICE_SIZE = 32768,
    SLICE_CHAINS = 64, /* a chain is about five keys, each perhaps a cache miss */
    BUSY_CHAINS =
        8, /* when clients had commands here since the last slice: they wait for this one */
    LINE_SIZE_MAX = 1024,
    SIZE_STEP = 32,
    SIZE_SMALL_MAX = 1 << 20,
};

struct slice_text {
    struct worker *worker;
    struct job *job;
    uint32_t now;
    size_t used;
    bool full; /* a line of this chain did not fit any more */
};

/* ---- pieces of a line; there is room for LINE_SIZE_MAX ---- */

static void put(struct slice_text *text, const void *data, size_t size)
{
    memcpy(text->job->value + text->used, data, size);
    text->used += size;
}

static void put_text(struct slice_text *text, const char *word)
{
    put(text, word, strlen(word));
}

static void put_number(struct slice_text *text, const char *name, uint64_t number)
{
    put_text(text, name);
    text->used += decimal_format(number, (char *)text->job->value + text->used);
}

static void put_encoded(struct slice_text *text, struct slice key)
{
    text->used += uri_encode((char *)text->job->value + text->used, key);
}

/* Neither spaces nor control characters: such a key can stand in a line of the text protocol. */
static bool fits_text(struct slice key)
{
    const uint8_t *bytes = key.data;
    for (size_t i = 0; i < key.size; i++) {
        if (bytes[i] <= ' ' || bytes[i] == 127)
            return false;
    }
    return true;
}

/* ---- lines ---- */

static void put_meta(struct slice_text *text, const struct found *found)
{
    const struct record *record = found->record;
    struct access access = store_access_of(text->worker->store, found, text->now);
    uint64_t size =
        text_item_size(record->key_size, record_client_flags(record), record_client_size(record));
    put_text(text, "key=");
    put_encoded(text, record_key(record));
    if (record_exptime(record) == 0)
        put_text(text, " exp=-1");
    else
        put_number(text, " exp=", record_exptime(record));
    put_number(text, " la=", access.at != 0 ? access.at : ts_version(record->ts) / 1000000);
    put_number(text, " cas=", text->worker->node->options.no_cas ? 0 : record_cas(record));
    put_text(text, access.fetched ? " fetch=yes" : " fetch=no");
    put_number(text, " cls=", SLAB_CLASS);
    put_number(text, " size=", size);
    put_number(text, " flags=", record_client_flags(record));
    put_text(text, " \n");
}

static void put_mg(struct slice_text *text, const struct record *record)
{
    struct slice key = record_key(record);
    put_text(text, "mg ");
    if (!(record->flags & RECORD_BASE64) && fits_text(key)) {
        put(text, key.data, key.size);
        put_text(text, "\r\n");
    } else {
        text->used += base64_encode(key, (char *)text->job->value + text->used);
        put_text(text, " b\r\n");
    }
}

/* Keys that would break the line are left out, as memcached does. */
static void put_cache(struct slice_text *text, const struct record *record)
{
    if (!fits_text(record_key(record)))
        return;
    put_text(text, "ITEM ");
    put(text, record_key_at(record), record->key_size);
    put_number(text, " [", record_client_size(record));
    put_number(text, " b; ", record_exptime(record));
    put_text(text, " s]\r\n");
}

static void put_size(struct slice_text *text, const struct record *record)
{
    uint32_t slot = dump_size_slot(
        text_item_size(record->key_size, record_client_flags(record), record_client_size(record)));
    put(text, &slot, sizeof(slot));
}

static void on_key(void *user, const struct found *found)
{
    struct slice_text *text = user;
    struct job *job = text->job;
    if (job->slice.left == 0 || !shard_shows(text->worker->shard, found, text->now))
        return;
    if (text->full || job->value_size - text->used < LINE_SIZE_MAX) {
        text->full = true;
        return;
    }
    job->slice.left--;
    switch ((enum dump_format)job->slice.format) {
    case DUMP_META:
        put_meta(text, found);
        break;
    case DUMP_MG:
        put_mg(text, found->record);
        break;
    case DUMP_CACHE:
        put_cache(text, found->record);
        break;
    case DUMP_SIZES:
        put_size(text, found->record);
        break;
    case DUMP_CONNECTIONS:
        break;
    }
}

/* ---- a slice ---- */

/* One chain: all its lines, or none. */
static void take_chain(struct slice_text *text)
{
    struct dump_slice *slice = &text->job->slice, before = *slice;
    size_t used = text->used;
    slice->ended = !store_scan(text->worker->store, &slice->position, on_key, text);
    if (!text->full)
        return;
    *slice = before;
    text->used = used;
}

void dump_slice(struct worker *worker, struct job *job)
{
    struct slice_text text = {.worker = worker, .job = job, .now = worker_now(worker)};
    int chains = worker->sequence == worker->dump_sequence ? SLICE_CHAINS : BUSY_CHAINS;
    worker->dump_sequence = worker->sequence;
    /* More than one buffer only if the lines of a single chain do not fit, which takes a very long
     * chain. */
    for (uint32_t size = SLICE_SIZE; text.used == 0 && size <= SLICE_SIZE << 8; size *= 2) {
        job->lost = !job_reserve(job, size);
        if (job->lost)
            return;
        text.full = false;
        for (int i = 0; i < chains && !text.full && !job->slice.ended; i++)
            take_chain(&text);
        if (!text.full)
            break;
    }
    job->value_size = (uint32_t)text.used;
    job->slice.ended = job->slice.ended || job->slice.left == 0;
}

/* ---- sizes ---- */

uint32_t dump_size_slot(uint64_t size)
{
    uint32_t small = SIZE_SMALL_MAX / SIZE_STEP;
    if (size <= SIZE_SMALL_MAX)
        return (uint32_t)((size + SIZE_STEP - 1) / SIZE_STEP);
    uint64_t slot = small + (size - 1) / SIZE_SMALL_MAX;
    return slot < DUMP_SIZE_SLOTS ? (uint32_t)slot : DUMP_SIZE_SLOTS - 1;
}

uint64_t dump_slot_size(uint32_t slot)
{
    uint32_t small = SIZE_SMALL_MAX / SIZE_STEP;
    return slot <= small ? (uint64_t)slot * SIZE_STEP
                         : (uint64_t)(slot - small + 1) * SIZE_SMALL_MAX;
}
