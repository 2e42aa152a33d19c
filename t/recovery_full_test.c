/* Goal: a group whose stores fill up says so and goes on: every command is answered, nothing is
 * lost, deletes make room. Method: three real shards with small logs; random sets, deletes and
 * overwrites at all nodes, messages in random order between nodes; one command a key at a time, so
 * that what each key must hold is known. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/prng.h"
#include "t/cluster.h"

enum {
    KEYS = 400,
    UNDER_WAY_MAX = 24,
    SEGMENT = 16384,
    VALUE_MAX = 8000,
    SETTLE_TICKS = 300,
    TICK = 10000
};

struct key {
    char name[16];
    char value[VALUE_MAX + 1];
    uint32_t stored; /* number of the value that it must hold; 0: none */
    uint32_t sent;
    unsigned reply;
    bool busy, deletes;
};

struct life {
    struct cluster *cluster;
    struct prng prng;
    struct key keys[KEYS];
    uint32_t numbers;
    unsigned under_way, refused, stored;
    unsigned nodes; /* 1 to this serve */
    uint32_t size_max;
};

static struct life *life_open(uint64_t seed, uint32_t size_max, const uint32_t segments[3])
{
    struct life *life = calloc(1, sizeof(*life));
    life->cluster = cluster_open_sized(SEGMENT, segments);
    life->prng.state = seed;
    life->size_max = size_max;
    life->nodes = 3;
    for (unsigned i = 0; i < KEYS; i++)
        snprintf(life->keys[i].name, sizeof(life->keys[i].name), "key%u", i);
    return life;
}

static void life_close(struct life *life)
{
    cluster_close(life->cluster);
    free(life);
}

static void begin(struct life *life, struct key *key, unsigned node, bool deletes)
{
    uint32_t size = 20 + (uint32_t)prng_below(&life->prng, life->size_max - 20);
    memset(key->value, '.', size);
    key->value[size] = 0;
    key->sent = ++life->numbers;
    snprintf(key->value, 12, "%010u", key->sent);
    key->value[10] = '.';
    key->deletes = deletes;
    key->busy = true;
    life->under_way++;
    key->reply = cluster_request(life->cluster, node, deletes ? REQUEST_DELETE : REQUEST_SET,
                                 key->name, deletes ? NULL : key->value);
}

/* A set that finds no room deletes what was there, as in memcached. */
static void take_replies(struct life *life)
{
    for (unsigned i = 0; i < KEYS; i++) {
        struct key *key = &life->keys[i];
        const struct cluster_reply *reply = &life->cluster->replies[key->reply];
        if (!key->busy || !reply->done)
            continue;
        key->busy = false;
        life->under_way--;
        life->refused += reply->outcome == OUTCOME_NO_MEMORY;
        life->stored += reply->outcome == OUTCOME_STORED;
        if (key->deletes)
            EXPECT(reply->outcome == (key->stored != 0 ? OUTCOME_DELETED : OUTCOME_NOT_FOUND));
        else
            EXPECT(reply->outcome == OUTCOME_STORED || reply->outcome == OUTCOME_NO_MEMORY);
        key->stored = reply->outcome == OUTCOME_STORED ? key->sent : 0;
    }
}

static void step(struct life *life, unsigned delete_percent)
{
    struct key *key = &life->keys[prng_below(&life->prng, KEYS)];
    unsigned node = 1 + (unsigned)prng_below(&life->prng, life->nodes);
    if (!key->busy && life->under_way < UNDER_WAY_MAX)
        begin(life, key, node, prng_chance(&life->prng, delete_percent));
    for (unsigned i = 0; i < 8; i++)
        (void)cluster_deliver(life->cluster, 1 + (unsigned)prng_below(&life->prng, 3),
                              1 + (unsigned)prng_below(&life->prng, 3));
    if (prng_chance(&life->prng, 10))
        cluster_tick(life->cluster, TICK);
    life->cluster->traced = 0;
    take_replies(life);
}

/* Everybody is answered in the end. */
static void settle(struct life *life)
{
    for (unsigned i = 0; i < SETTLE_TICKS && life->under_way > 0; i++) {
        cluster_settle(life->cluster);
        cluster_tick(life->cluster, TICK);
        life->cluster->traced = 0;
        take_replies(life);
    }
    cluster_settle(life->cluster);
    EXPECT_EQ(life->under_way, 0);
}

static void check_all(struct life *life)
{
    for (unsigned node = 1; node <= life->nodes; node++)
        for (unsigned i = 0; i < KEYS; i++) {
            char number[16] = "-";
            const char *found = cluster_get(life->cluster, node, life->keys[i].name);
            if (life->keys[i].stored != 0)
                snprintf(number, sizeof(number), "%010u", life->keys[i].stored);
            if (strncmp(found, number, life->keys[i].stored != 0 ? 10 : 2) != 0)
                test_fail(__FILE__, __LINE__, "node %u has %.12s for %s, wanted %s", node, found,
                          life->keys[i].name, number);
            life->cluster->traced = 0;
        }
}

static void live_round(struct life *life, unsigned steps, unsigned delete_percent)
{
    for (unsigned i = 0; i < steps; i++)
        step(life, delete_percent);
    settle(life);
    check_all(life);
}

static void live(uint64_t seed, uint32_t size_max, const uint32_t segments[3])
{
    struct life *life = life_open(seed, size_max, segments);
    for (unsigned round = 0; round < 6; round++) {
        live_round(life, 1500, (unsigned[]){0, 5, 60}[round % 3]);
        if (life->under_way > 0) {
            printf("seed %llu, values to %u, round %u\n", (unsigned long long)seed, size_max,
                   round);
            break;
        }
    }
    EXPECT(life->refused > 0 || size_max < 2000); /* small values of all keys may fit */
    EXPECT(life->stored > 100);
    life_close(life);
}

TEST(full, equal_stores_fill_up_and_go_on)
{
    for (uint64_t seed = 1; seed <= 3; seed++)
        for (uint32_t size = 500; size <= VALUE_MAX; size *= 4)
            live(seed, size,
                 (const uint32_t[]){8 + (uint32_t)seed % 12, 8 + (uint32_t)seed % 12,
                                    8 + (uint32_t)seed % 12});
}

/* The smallest decides. */
TEST(full, a_smaller_store_among_larger_ones_limits_the_group)
{
    for (uint64_t seed = 1; seed <= 3; seed++)
        for (uint32_t size = 500; size <= VALUE_MAX; size *= 4)
            live(seed, size, (const uint32_t[]){20, 9, 14});
}

static void come_back(struct life *life)
{
    struct cluster *cluster = life->cluster;
    cluster_restart(cluster, 3);
    cluster_install_all(cluster, 3, 3, 4);
    for (unsigned i = 0; i < SETTLE_TICKS && cluster->healed_epoch != 3; i++) {
        cluster_settle(cluster);
        cluster_tick(cluster, TICK);
        cluster->traced = 0;
    }
    EXPECT_EQ(cluster->healed_epoch, 3);
    cluster_install_all(cluster, 4, 7, 0);
    life->nodes = 3;
}

/* While one is away, nobody may drop a tombstone; what it has missed fits when it comes back. */
TEST(full, a_node_comes_back_to_a_group_that_filled_up_without_it)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        const uint32_t count = 10 + (uint32_t)seed;
        struct life *life = life_open(seed, 3000, (const uint32_t[]){count, count, count});
        live_round(life, 1000, 20);
        cluster_crash(life->cluster, 3);
        life->nodes = 2;
        cluster_install_all(life->cluster, 2, 3, 0);
        live_round(life, 1000, 50);
        live_round(life, 1000, 5);
        come_back(life);
        live_round(life, 1000, 20);
        EXPECT(life->refused > 0);
        life_close(life);
    }
}

static enum outcome ask(struct cluster *cluster, enum request_type type, const char *prefix,
                        unsigned number)
{
    static char text[24], value[160];
    struct request request = {.type = type, .value = slice_make(value, sizeof(value))};
    request.key = slice_make(text, (size_t)snprintf(text, sizeof(text), "%s%u", prefix, number));
    cluster->traced = 0;
    unsigned reply = cluster_request_full(cluster, 1, &request);
    cluster_settle(cluster);
    for (unsigned i = 0; i < SETTLE_TICKS && !cluster->replies[reply].done; i++) {
        cluster->traced = 0;
        cluster_tick(cluster, TICK);
        cluster_settle(cluster);
    }
    EXPECT(cluster->replies[reply].done);
    return cluster->replies[reply].outcome;
}

/* It holds as many values as there is room for; the others have deleted them, and have tombstones
 * of keys that it has never heard of. */
TEST(full, a_full_node_comes_back_to_a_group_that_is_full_of_tombstones)
{
    struct cluster *cluster = cluster_open_sized(16384, (const uint32_t[]){40, 40, 40});
    unsigned count = 0, others = 0;
    while (ask(cluster, REQUEST_SET, "key", count) == OUTCOME_STORED)
        count++;
    EXPECT(count > 1000);
    cluster_crash(cluster, 3);
    cluster_install_all(cluster, 2, 3, 0);
    for (unsigned i = 0; i < count; i++)
        ASSERT_EQ(ask(cluster, REQUEST_DELETE, "key", i), OUTCOME_DELETED);
    while (others < 100000 && ask(cluster, REQUEST_SET, "other", others) == OUTCOME_STORED)
        ASSERT_EQ(ask(cluster, REQUEST_DELETE, "other", others++), OUTCOME_DELETED);
    EXPECT(others > 2 * count);
    struct life life = {.cluster = cluster};
    come_back(&life);
    for (unsigned i = 0; i < 20; i++) {
        cluster->traced = 0;
        cluster_tick(cluster, 100000);
        cluster_settle(cluster);
    }
    EXPECT_EQ(ask(cluster, REQUEST_SET, "key", 0), OUTCOME_STORED); /* tombstones may go now */
    cluster_close(cluster);
}

static bool has_tombstone(const struct cluster *cluster, unsigned node, const char *key)
{
    struct found found;
    return store_find(cluster->stores[node], slice_text(key), hash_key(slice_text(key)), &found) &&
           found.record->kind == RECORD_TOMBSTONE;
}

/* Overwrites one record of a node's store, behind the back of its shard, until all else of the log
 * was cleaned. */
static void turn_over(struct cluster *cluster, unsigned node)
{
    static char value[160];
    struct record_spec spec = {.kind = RECORD_VALUE,
                               .key = slice_text("filler"),
                               .value = slice_make(value, sizeof(value))};
    for (unsigned i = 0; i < 3000; i++) {
        struct found found;
        enum status status = store_put_nodrain(cluster->stores[node], &spec, hash_key(spec.key),
                                               STATE_VALID, false, &found);
        ASSERT(status == STATUS_OK || status == STATUS_BUSY);
        if (status == STATUS_BUSY || i % 50 == 0)
            cluster_tick(cluster, TICK);
        cluster->traced = 0;
    }
}

/* Node 3 is away and has to be told of the tombstone. Node 1 lives, is removed, and cleans before
 * it knows of another view: of nobody, all are there. */
TEST(full, a_node_that_has_no_view_yet_forgets_no_tombstone)
{
    struct cluster *cluster = cluster_open_sized(16384, (const uint32_t[]){12, 12, 12});
    ASSERT_EQ(ask(cluster, REQUEST_SET, "gone", 0), OUTCOME_STORED);
    ASSERT_EQ(ask(cluster, REQUEST_SET, "younger", 0), OUTCOME_STORED);
    for (unsigned i = 0; i < 20; i++) { /* rounds, whose floor is above the tombstone to come */
        cluster->traced = 0;
        cluster_tick(cluster, 100000);
        cluster_settle(cluster);
    }
    cluster_crash(cluster, 3);
    cluster_install_all(cluster, 2, 3, 0);
    ASSERT_EQ(ask(cluster, REQUEST_DELETE, "gone", 0), OUTCOME_DELETED);
    for (unsigned i = 0; i < 20; i++) { /* a mark behind it */
        cluster->traced = 0;
        cluster_tick(cluster, 100000);
        cluster_settle(cluster);
    }
    cluster_removed(cluster, 1);
    turn_over(cluster, 1);
    EXPECT(has_tombstone(cluster, 1, "gone0"));
    cluster_close(cluster);
}
