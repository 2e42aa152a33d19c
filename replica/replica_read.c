/* Reading without being the owner, and what the owner publishes for it. Holds atomics. */
#include "replica/replica.h"

enum {
    /* What a reader may do without asking: all else needs a write, or may. */
    OPTIONS_PLAIN = REQUEST_KEY_BASE64 | REQUEST_UNNOTICED,
    /* Records about which the owner has more to say. */
    FLAGS_OWNER = RECORD_LARGE | RECORD_STALE | RECORD_WON,
};

/* ---- the owner ---- */

void replica_notice_serving(struct replica *replica)
{
    bool serves = replica_is_member(replica) && !replica->cold && !replica->unconfirmed &&
                  !replica_is_marking(replica);
    uint64_t serving = serves ? replica->view.epoch : 0;
    if (atomic_load_explicit(&replica->notice.serving, memory_order_relaxed) != serving)
        atomic_store_explicit(&replica->notice.serving, serving, memory_order_release);
}

/* At once when it changes, before anybody can be told: an answer to flush_all must not overtake
 * it. */
void replica_notice_flush(struct replica *replica)
{
    uint64_t flushed = 0;
    if (replica->flush.known)
        flushed = replica->flush.valid ? replica->flush.ts : UINT64_MAX;
    atomic_store_explicit(&replica->notice.flushed, flushed, memory_order_release);
}

void replica_see(struct request *request, const struct record *record, const struct access *access,
                 uint32_t now)
{
    request->seen.fetched = access->fetched;
    /* After a restart the write is the last that is known; not all versions are times. */
    uint32_t written = (uint32_t)(ts_version(record->ts) / 1000000);
    request->seen.access_at = access->at != 0 ? access->at : written != 0 ? written : now;
    request->seen.exptime = record_exptime(record);
    request->seen.value_size = (uint32_t)record_client_size(record);
    request->seen.marks = (uint8_t)(((record->flags & RECORD_STALE) ? SEEN_STALE : 0) |
                                    ((record->flags & RECORD_WON) ? SEEN_TAKEN : 0) |
                                    ((record->flags & RECORD_BASE64) ? SEEN_BASE64 : 0));
}

/* ---- others ---- */

static bool is_plain_read(const struct request *request)
{
    bool reads = request->type == REQUEST_GET || request->type == REQUEST_FETCH;
    return reads && (request->options & ~OPTIONS_PLAIN) == 0;
}

bool replica_read_begin_any(const struct replica *replica, const struct request *request,
                            uint32_t now, struct reading *reading)
{
    if (!is_plain_read(request))
        return false;
    reading->serving = atomic_load_explicit(&replica->notice.serving, memory_order_acquire);
    if (reading->serving == 0 ||
        !store_read_any(replica->store, request->key, request->hash, &reading->found))
        return false;
    const struct record *record = reading->found.record;
    uint32_t exptime = record_exptime(record);
    return record->kind == RECORD_VALUE && (record->flags & FLAGS_OWNER) == 0 &&
           (exptime == 0 || exptime > now);
}

bool replica_read_end_any(const struct replica *replica, struct request *request, uint32_t now,
                          const struct reading *reading)
{
    const struct record *record = reading->found.record;
    uint64_t flushed = atomic_load_explicit(&replica->notice.flushed, memory_order_acquire);
    if (record->ts < flushed && !FAULT(FLUSH_UNNOTICED))
        return false;
    uint64_t serving = atomic_load_explicit(&replica->notice.serving, memory_order_acquire);
    if (serving != reading->serving && !FAULT(READ_OVER_LIVES))
        return false;
    struct access access;
    bool notice = (request->options & REQUEST_UNNOTICED) == 0;
    bool exact = store_accessed_any(replica->store, &reading->found, now, notice, &access);
    if (!exact && request->type == REQUEST_FETCH)
        return false; /* it may have to tell when the key was last read */
    replica_see(request, record, &access, now);
    return true;
}
