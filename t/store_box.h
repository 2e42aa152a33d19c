/* store_box.h: a store on the simulated medium, for tests. */
#ifndef T_STORE_BOX_H
#define T_STORE_BOX_H

#include <stdlib.h>

#include "base/hash.h"
#include "base/ts.h"
#include "store/store.h"
#include "t/sim_medium.h"
#include "t/test.h"

enum { BOX_SEGMENT_SIZE = 65536 };

struct box {
    struct medium *medium;
    struct store *store;
    struct log_report report;
    void *index;
    uint32_t segment_count;
    uint32_t lives;
    uint64_t version;                             /* of the last put */
    void (*broken)(void *user, uint32_t segment); /* from the next start on */
};

static inline void box_open(struct box *box)
{
    uint64_t size = store_index_size((uint64_t)BOX_SEGMENT_SIZE * box->segment_count);
    box->index = aligned_alloc(64, (size + 63) / 64 * 64);
    memset(box->index, 0, size);
    struct store_options options = {
        .log = {.identity = {.cluster = 1, .node = 1, .shard_count = 1},
                .medium = box->medium,
                .segment_count_max = box->segment_count,
                .life = ++box->lives},
        .index = box->index,
        .index_size = size,
        .broken = box->broken,
        .broken_user = box,
    };
    uint32_t bad;
    EXPECT_EQ(store_open(&box->store, &options, &box->report, &bad), STATUS_OK);
}

static inline void box_make(struct box *box, uint32_t segment_count)
{
    *box = (struct box){.segment_count = segment_count,
                        .medium = sim_medium_open(BOX_SEGMENT_SIZE, segment_count, 1)};
    box_open(box);
}

static inline void box_restart(struct box *box)
{
    store_close(box->store);
    free(box->index);
    sim_medium_cut(box->medium);
    box_open(box);
}

static inline void box_close(struct box *box)
{
    store_close(box->store);
    free(box->index);
    box->medium->ops->close(box->medium);
}

/* One turn of an owner's loop. */
static inline uint64_t box_turn(struct box *box)
{
    uint64_t durable = 0;
    log_drain(store_log(box->store));
    EXPECT_EQ(log_durable(store_log(box->store), &durable), STATUS_OK);
    return durable;
}

static inline enum status box_put(struct box *box, struct slice key, enum record_kind kind,
                                  struct slice value, bool urgent, struct found *found)
{
    struct record_spec spec = {
        .kind = kind, .ts = ts_make(++box->version, 1, 0), .key = key, .value = value};
    return store_put_nodrain(box->store, &spec, hash_key(key), STATE_VALID, urgent, found);
}

static inline bool box_find(const struct box *box, struct slice key, struct found *found)
{
    return store_find(box->store, key, hash_key(key), found);
}

#endif
