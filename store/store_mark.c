/* The newest MARK for each node. A MARK record lives while a node's newest mark points at it. */
#include <string.h>

#include "store/store_private.h"

/* Members of a mark that says: forget. */
enum { NODES_ALL = (1 << NODE_COUNT_MAX) - 1 };

bool mark_is_current(const struct store *store, place_t place)
{
    for (unsigned i = 0; i < NODE_COUNT_MAX; i++)
        if (store->marks[i].place == place)
            return true;
    return false;
}

void mark_moved(struct store *store, place_t from, place_t to)
{
    journal_note(store->journal, store->marks, sizeof(store->marks));
    for (unsigned i = 0; i < NODE_COUNT_MAX; i++)
        if (store->marks[i].place == from)
            store->marks[i].place = to;
}

/* Makes the record the newest of its members where it is newer than what is there. */
static void take(struct store *store, const struct record *record, const struct mark *mark,
                 place_t place)
{
    uint64_t lsn = log_lsn(store->log, place);
    journal_note(store->journal, store->marks, sizeof(store->marks));
    for (unsigned i = 0; i < NODE_COUNT_MAX; i++) {
        struct store_mark *slot = &store->marks[i];
        if (!(mark->members >> i & 1) || (slot->place != 0 && slot->lsn > lsn))
            continue;
        place_t former = slot->place;
        *slot = (struct store_mark){.mark = *mark, .lsn = lsn, .place = place};
        if (former != 0 && !mark_is_current(store, former))
            store_count_dead(store, log_record(store->log, former), former);
    }
    store_count_current(store, record);
    if (!mark_is_current(store, place))
        store_count_dead(store, record, place);
}

void mark_scanned(struct store *store, const struct record *record, place_t place)
{
    struct mark mark = {0};
    if (record->value_size == sizeof(mark))
        memcpy(&mark, record_value(record).data, sizeof(mark));
    take(store, record, &mark, place);
}

static enum status try_put(struct store *store, const struct mark *mark)
{
    struct record_spec spec = {.kind = RECORD_MARK, .value = slice_make(mark, sizeof(*mark))};
    place_t place;
    if (!clean_leaves_room(store, APPEND_URGENT))
        return STATUS_NO_SPACE;
    store_begin(store);
    enum status status =
        log_append_nodrain(store->log, &spec, clean_reserve(store, APPEND_URGENT), &place);
    if (status == STATUS_OK)
        take(store, log_record(store->log, place), mark, place);
    store_commit(store);
    return status;
}

enum status store_put_mark_nodrain(struct store *store, const struct mark *mark)
{
    enum status status = try_put(store, mark);
    if (status != STATUS_NO_SPACE)
        return status;
    uint64_t size = log_record_size_max(store->log);
    clean_more(store, size < PUT_CLEANS_MAX ? size : PUT_CLEANS_MAX);
    status = try_put(store, mark);
    return status == STATUS_NO_SPACE && clean_frees_segments(store) ? STATUS_BUSY : status;
}

void store_mark_kept(const struct store *store, uint64_t *clock, uint64_t *floor)
{
    *clock = *floor = 0;
    for (unsigned i = 0; i < NODE_COUNT_MAX; i++) {
        const struct store_mark *slot = &store->marks[i];
        if (slot->place != 0 && slot->mark.clock > *clock)
            *clock = slot->mark.clock;
        if (slot->place != 0 && slot->mark.floor > *floor)
            *floor = slot->mark.floor;
    }
}

enum status store_put_clock_nodrain(struct store *store, uint64_t clock, uint64_t floor)
{
    struct mark mark = {.members = NODES_ALL};
    (void)store_mark_last(store, &mark);
    mark.clock = clock;
    mark.floor = floor;
    return store_put_mark_nodrain(store, &mark);
}

enum status store_drop_marks_nodrain(struct store *store)
{
    struct mark forget = {.members = NODES_ALL};
    store_mark_kept(store, &forget.clock, &forget.floor);
    return store_put_mark_nodrain(store, &forget);
}

static bool give(const struct store_mark *slot, struct mark *mark)
{
    if (slot->place == 0 || slot->mark.lsn == 0)
        return false;
    *mark = slot->mark;
    return true;
}

bool store_mark_with(const struct store *store, unsigned node, struct mark *mark)
{
    assert(node >= 1);
    assert(node <= NODE_COUNT_MAX);
    return give(&store->marks[node - 1], mark);
}

bool store_mark_last(const struct store *store, struct mark *mark)
{
    const struct store_mark *last = &store->marks[0];
    for (unsigned i = 1; i < NODE_COUNT_MAX; i++)
        if (store->marks[i].place != 0 && (last->place == 0 || store->marks[i].lsn > last->lsn))
            last = &store->marks[i];
    return give(last, mark);
}

uint64_t mark_confirmed_below(const struct store *store)
{
    struct mark mark;
    return store_mark_last(store, &mark) ? mark.lsn : 0;
}
