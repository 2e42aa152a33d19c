/* Goal: a full store makes room by deletes that all members agree on, of what is read least
 * wherever it is read; a newer value is never deleted for an older one, and who waits for room that
 * cannot come is told so. Method: three real shards with small logs (t/cluster.h), filled far
 * beyond what they hold. */
#include <stdio.h>

#include "base/ts.h"
#include "recovery/evict.h"
#include "t/cluster.h"

enum { SEGMENT_BYTES = 16384, MANY = 40, FEW = 12, KEYS = 6000, HOT = 20, ROUND = 100000 };

static const uint32_t equal_logs[CLUSTER_NODES] = {MANY, MANY, MANY};
static char filler[160];

static struct slice name(const char *prefix, unsigned number)
{
    static char text[8][24];
    static unsigned used;
    char *at = text[used++ % 8];
    return slice_make(at, (size_t)snprintf(at, sizeof(text[0]), "%s%u", prefix, number));
}

static unsigned request(struct cluster *cluster, unsigned node, enum request_type type,
                        struct slice key)
{
    static char keys[CLUSTER_REQUESTS][24];
    static unsigned used;
    char *kept = keys[used++ % CLUSTER_REQUESTS];
    memcpy(kept, key.data, key.size);
    memset(filler, 'x', sizeof(filler));
    cluster->traced = 0; /* the trace would be long, and is not looked at */
    struct request request = {.type = type,
                              .key = slice_make(kept, key.size),
                              .value = slice_make(filler, sizeof(filler))};
    return cluster_request_full(cluster, node, &request);
}

static enum outcome ask(struct cluster *cluster, unsigned node, enum request_type type,
                        struct slice key)
{
    unsigned reply = request(cluster, node, type, key);
    cluster_settle(cluster);
    for (int i = 0; i < 200 && !cluster->replies[reply].done; i++) {
        cluster->traced = 0;
        cluster_tick(cluster, 10000);
        cluster_settle(cluster);
    }
    return cluster->replies[reply].done ? cluster->replies[reply].outcome : OUTCOME_UNKNOWN;
}

/* Sets keys that nobody reads, from all nodes; those of `hot` are read at `reader` meanwhile. */
static void fill(struct cluster *cluster, unsigned count, unsigned hot, unsigned reader)
{
    for (unsigned i = 0; i < count; i++) {
        ASSERT_EQ(ask(cluster, 1 + i % CLUSTER_NODES, REQUEST_SET, name("key", i)), OUTCOME_STORED);
        if (hot > 0 && i % 4 == 0)
            ask(cluster, reader, REQUEST_GET, name("hot", i / 4 % hot));
        cluster->traced = 0;
        if (i % 8 == 0) /* a tombstone leaves after two rounds */
            cluster_tick(cluster, ROUND / 4);
    }
    cluster_settle(cluster);
}

static bool has(const struct cluster *cluster, unsigned node, struct slice key)
{
    struct found found;
    return store_find(cluster->stores[node], key, hash_key(key), &found) &&
           found.record->kind == RECORD_VALUE;
}

static unsigned evictions(const struct cluster *cluster, unsigned node)
{
    struct shard_stats stats;
    shard_stats(cluster->shards[node], &stats);
    return (unsigned)stats.evictions;
}

TEST(evict, a_full_store_makes_room_and_refuses_nothing)
{
    struct cluster *cluster = cluster_open_evicting(SEGMENT_BYTES, equal_logs);
    fill(cluster, KEYS, 0, 0);
    cluster_tick(cluster, 10000);
    cluster_settle(cluster);
    cluster_tick(cluster, 10000); /* all that is over has been counted */
    unsigned kept = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        bool here = has(cluster, 1, name("key", i));
        ASSERT_EQ(has(cluster, 2, name("key", i)), here);
        ASSERT_EQ(has(cluster, 3, name("key", i)), here);
        kept += here;
    }
    EXPECT(kept > 700); /* it holds some 1500 */
    unsigned total = 0;
    for (unsigned node = 1; node <= CLUSTER_NODES; node++) {
        EXPECT(evictions(cluster, node) > KEYS / 6); /* each has its share */
        total += evictions(cluster, node);
    }
    EXPECT_EQ(total, KEYS - kept);
    EXPECT_EQ(cluster->evicted, total);
    cluster_close(cluster);
}

TEST(evict, what_is_read_stays_wherever_it_is_read)
{
    for (unsigned reader = 1; reader <= CLUSTER_NODES; reader++) {
        struct cluster *cluster = cluster_open_evicting(SEGMENT_BYTES, equal_logs);
        for (unsigned i = 0; i < HOT; i++)
            ASSERT_EQ(ask(cluster, 1, REQUEST_SET, name("hot", i)), OUTCOME_STORED);
        fill(cluster, KEYS, HOT, reader);
        for (unsigned i = 0; i < HOT; i++)
            EXPECT(has(cluster, 2, name("hot", i)));
        cluster_close(cluster);
    }
}

TEST(evict, without_it_a_full_store_refuses)
{
    struct cluster *cluster = cluster_open_sized(SEGMENT_BYTES, equal_logs);
    enum outcome outcome = OUTCOME_STORED;
    for (unsigned i = 0; i < KEYS && outcome == OUTCOME_STORED; i++)
        outcome = ask(cluster, 1, REQUEST_SET, name("key", i));
    EXPECT_EQ(outcome, OUTCOME_NO_MEMORY);
    EXPECT(has(cluster, 1, name("key", 0)));
    cluster_close(cluster);
}

TEST(evict, among_larger_stores_the_smallest_decides_and_nothing_is_refused)
{
    struct cluster *cluster =
        cluster_open_evicting(SEGMENT_BYTES, (const uint32_t[]){4 * MANY, MANY, 4 * MANY});
    fill(cluster, KEYS, 0, 0);
    EXPECT(evictions(cluster, 1) + evictions(cluster, 2) + evictions(cluster, 3) > KEYS / 2);
    cluster_close(cluster);
}

static const struct message *first_ask(const struct cluster *cluster)
{
    for (unsigned at = cluster->head; at != cluster->tail; at++)
        if (cluster->queue[at % CLUSTER_QUEUE].bytes->type == MSG_EVICT_ASK)
            return cluster->queue[at % CLUSTER_QUEUE].bytes;
    return NULL;
}

/* Sets keys until some member has asked for keys to evict, and nobody has answered yet. *number: of
 * one of the keys. */
static unsigned fill_until_asked(struct cluster *cluster, unsigned *number)
{
    for (unsigned i = 0; i < KEYS; i++) {
        request(cluster, 1, REQUEST_SET, name("key", i));
        for (unsigned to = 2; to <= CLUSTER_NODES; to++)
            while (first_ask(cluster) == NULL &&
                   (cluster_deliver(cluster, 1, to) || cluster_deliver(cluster, to, 1) ||
                    cluster_deliver(cluster, to, 5 - to)))
                ;
        if (i % 16 == 0 && first_ask(cluster) == NULL)
            cluster->traced = 0;
        cluster_tick(cluster, 10000);
        const struct message *message = first_ask(cluster);
        uint64_t hash;
        if (message == NULL)
            continue;
        memcpy(&hash, message_key(message).data, sizeof(hash));
        for (*number = 0; *number < i; ++*number)
            if (hash_key(name("key", *number)) == hash)
                return message->from;
    }
    test_fail(__FILE__, __LINE__, "nobody asks");
    return 0;
}

TEST(evict, a_value_that_came_meanwhile_stays)
{
    struct cluster *cluster = cluster_open_evicting(SEGMENT_BYTES, equal_logs);
    unsigned number, node = fill_until_asked(cluster, &number);
    unsigned writer = node == 2 ? 3 : 2, last = 6 - node - writer;
    ASSERT(has(cluster, node, name("key", number)));
    unsigned set = request(cluster, writer, REQUEST_SET, name("key", number));
    while (cluster_deliver(cluster, writer, node) || cluster_deliver(cluster, node, writer) ||
           cluster_deliver(cluster, writer, last) || cluster_deliver(cluster, last, writer))
        ;
    ASSERT_EQ(cluster->replies[set].outcome, OUTCOME_STORED);
    cluster_settle(cluster); /* only now the last one answers what it was asked before */
    EXPECT(has(cluster, 1, name("key", number)));
    EXPECT(has(cluster, 3, name("key", number)));
    cluster_close(cluster);
}

TEST(evict, a_key_that_is_read_while_the_others_are_asked_stays)
{
    for (unsigned reader = 2; reader <= CLUSTER_NODES; reader++) {
        struct cluster *cluster = cluster_open_evicting(SEGMENT_BYTES, equal_logs);
        unsigned number;
        fill_until_asked(cluster, &number);
        request(cluster, reader, REQUEST_GET, name("key", number));
        cluster_settle(cluster);
        EXPECT(has(cluster, 1, name("key", number)));
        cluster_close(cluster);
    }
}

TEST(evict, what_a_lost_channel_or_a_dead_member_was_asked_for_does_not_stop_it)
{
    struct cluster *cluster = cluster_open_evicting(SEGMENT_BYTES, equal_logs);
    unsigned number, node = fill_until_asked(cluster, &number);
    unsigned other = node % CLUSTER_NODES + 1, third = 6 - node - other;
    cluster_lose(cluster, node, other);
    cluster_up(cluster, node, other);
    cluster_settle(cluster);
    unsigned before = evictions(cluster, node);
    fill(cluster, KEYS, 0, 0);
    EXPECT(evictions(cluster, node) > before);
    cluster_crash(cluster, third);
    uint8_t left = (uint8_t)(7 & ~node_bit(third));
    cluster_install(cluster, node, 2, left, 0);
    cluster_install(cluster, other, 2, left, 0);
    cluster_settle(cluster);
    before = evictions(cluster, node);
    for (unsigned i = 0; i < 300; i++)
        ASSERT_EQ(ask(cluster, node, REQUEST_SET, name("rest", i)), OUTCOME_STORED);
    EXPECT(evictions(cluster, node) > before);
    cluster_close(cluster);
}

static uint8_t piece_keys[KEYS][PIECE_KEY_SIZE];
static char big[2000];

static void wait_for(struct cluster *cluster, unsigned reply)
{
    cluster_settle(cluster);
    for (int i = 0; i < 200 && !cluster->replies[reply].done; i++) {
        cluster->traced = 0;
        cluster_tick(cluster, 10000);
        cluster_settle(cluster);
    }
}

/* Of an upload for the key "k". */
static unsigned request_piece(struct cluster *cluster, enum request_type type, unsigned number)
{
    piece_key(ts_make(1, 1, 1), number, piece_keys[number]);
    memset(big, 'b', sizeof(big));
    big[0] = 1, big[1] = 'k';
    struct request piece = {.type = type, .key = slice_make(piece_keys[number], PIECE_KEY_SIZE)};
    if (type == REQUEST_SET)
        piece.value = slice_make(big, sizeof(big));
    cluster->traced = 0;
    return cluster_request_full(cluster, 1, &piece);
}

static unsigned set_big(struct cluster *cluster, unsigned node, const char *key)
{
    struct request set = {
        .type = REQUEST_SET, .key = slice_text(key), .value = slice_make(big, sizeof(big))};
    return cluster_request_full(cluster, node, &set);
}

/* Now and then all who ask are told that there is no room; else they wait. */
static unsigned set_that_waits(struct cluster *cluster)
{
    unsigned reply = set_big(cluster, 1, "other");
    for (int i = 0; i < 100 && cluster->replies[reply].done; i++) {
        cluster->traced = 0;
        cluster_tick(cluster, 10000);
        cluster_settle(cluster);
        reply = set_big(cluster, 1, "other");
    }
    EXPECT(!cluster->replies[reply].done);
    return reply;
}

/* An upload that fills the store: its pieces have no value yet that could be evicted. Returns how
 * many were stored. */
static unsigned fill_with_pieces(struct cluster *cluster)
{
    enum outcome outcome = OUTCOME_STORED;
    unsigned count = 0;
    for (; count < KEYS && outcome == OUTCOME_STORED; count++) {
        unsigned reply = request_piece(cluster, REQUEST_SET, count);
        wait_for(cluster, reply);
        EXPECT(cluster->replies[reply].done);
        outcome = cluster->replies[reply].outcome;
    }
    EXPECT_EQ(outcome, OUTCOME_NO_MEMORY);
    EXPECT(count > 50);
    for (int i = 0; i < 50; i++) { /* what was tried in vain may be tried again */
        cluster->traced = 0;
        cluster_tick(cluster, 10000);
        cluster_settle(cluster);
    }
    return count - 1;
}

TEST(evict, who_waits_for_room_that_cannot_come_is_refused)
{
    struct cluster *cluster =
        cluster_open_evicting(SEGMENT_BYTES, (const uint32_t[]){FEW, FEW, FEW});
    unsigned count = fill_with_pieces(cluster);
    /* A piece waits nowhere: its uploader tries again, and who comes behind is not kept waiting by
     * it. */
    unsigned refused = request_piece(cluster, REQUEST_SET, count);
    EXPECT(cluster->replies[refused].done);
    unsigned small = set_big(cluster, 1, "other");
    wait_for(cluster, small);
    ASSERT(cluster->replies[small].done);
    EXPECT_EQ(cluster->replies[small].outcome, OUTCOME_NO_MEMORY);
    EXPECT_EQ(evictions(cluster, 1), 0);
    cluster_close(cluster);
}

/* An upload that was given up deletes its pieces. */
TEST(evict, who_waits_for_room_does_not_hold_up_who_makes_it)
{
    struct cluster *cluster =
        cluster_open_evicting(SEGMENT_BYTES, (const uint32_t[]){FEW, FEW, FEW});
    unsigned count = fill_with_pieces(cluster);
    unsigned set = set_that_waits(cluster);
    unsigned gone[8];
    for (unsigned i = 0; i < 8; i++)
        gone[i] = request_piece(cluster, REQUEST_DELETE, i * (count / 8));
    cluster_settle(cluster);
    for (unsigned i = 0; i < 8; i++)
        EXPECT_EQ(cluster->replies[gone[i]].outcome, OUTCOME_DELETED);
    wait_for(cluster, set);
    ASSERT(cluster->replies[set].done);
    EXPECT_EQ(cluster->replies[set].outcome, OUTCOME_STORED);
    cluster_close(cluster);
}

/* What can go is on its way, so nobody is told that there is no room; but who waits must not be in
 * the way himself. */
TEST(evict, who_waits_for_the_room_of_a_large_value_that_is_evicted_gets_it)
{
    struct cluster *cluster =
        cluster_open_evicting(SEGMENT_BYTES, (const uint32_t[]){FEW, FEW, FEW});
    unsigned count = fill_with_pieces(cluster);
    struct manifest manifest = {.upload = ts_make(1, 1, 1),
                                .size = (uint64_t)(count - 1) * PIECE_SIZE + 1};
    struct request set = {.type = REQUEST_SET,
                          .key = slice_text("k"),
                          .large = true,
                          .value = slice_make(&manifest, sizeof(manifest))};
    unsigned reply = cluster_request_full(cluster, 1, &set);
    wait_for(cluster, reply);
    ASSERT_EQ(cluster->replies[reply].outcome, OUTCOME_STORED);
    unsigned waits[] = {set_that_waits(cluster), set_big(cluster, 2, "second"),
                        set_big(cluster, 3, "third")};
    for (unsigned i = 0; i < 3; i++) {
        wait_for(cluster, waits[i]);
        ASSERT(cluster->replies[waits[i]].done);
        EXPECT_EQ(cluster->replies[waits[i]].outcome, OUTCOME_STORED);
    }
    EXPECT_EQ(evictions(cluster, 1) + evictions(cluster, 2) + evictions(cluster, 3), 1);
    cluster_close(cluster);
}

/* Tombstones have to wait for the node that is away: what is left of the values stays, and sets are
 * refused. */
TEST(evict, ends_when_half_of_the_room_is_tombstones_for_a_node_that_is_away)
{
    struct cluster *cluster = cluster_open_evicting(SEGMENT_BYTES, equal_logs);
    cluster_crash(cluster, 3);
    cluster_install(cluster, 1, 2, 3, 0);
    cluster_install(cluster, 2, 2, 3, 0);
    cluster_settle(cluster);
    enum outcome outcome = OUTCOME_STORED;
    unsigned count = 0;
    for (; count < 3 * KEYS && outcome == OUTCOME_STORED; count++)
        outcome = ask(cluster, 1 + count % 2, REQUEST_SET, name("key", count));
    EXPECT_EQ(outcome, OUTCOME_NO_MEMORY);
    struct store_stats stats;
    store_stats(cluster->stores[1], &stats);
    EXPECT(stats.tombstone_bytes < stats.live_max / 3 * 2);
    EXPECT(stats.value_count > 400);
    cluster_restart(cluster, 3);
    cluster_install_all(cluster, 3, 3, 4);
    cluster_settle(cluster);
    for (int i = 0; i < 100 && cluster->healed_epoch != 3; i++) {
        cluster->traced = 0;
        cluster_tick(cluster, 10000);
        cluster_settle(cluster);
    }
    ASSERT_EQ(cluster->healed_epoch, 3);
    cluster_install_all(cluster, 4, 7, 0);
    for (int i = 0; i < 100; i++) {
        cluster->traced = 0;
        cluster_settle(cluster);
        cluster_tick(cluster, ROUND);
    }
    fill(cluster, KEYS, 0, 0);
    cluster_close(cluster);
}
