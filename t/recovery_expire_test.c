/* Goal: what is past its time, or flushed, goes though nobody asks for it, and a store in which
 * nothing expires pays nothing. Method: three real shards (t/cluster.h); time is moved, and the
 * stores are counted. */
#include <stdio.h>

#include "t/cluster.h"

enum { KEYS = 300, SECOND_US = 1000000 };

static void set_keys(struct cluster *cluster, const char *prefix, uint32_t exptime)
{
    static char names[4 * KEYS][24];
    static unsigned used;
    for (unsigned i = 0; i < KEYS; i++) {
        char *key = names[used++ % (4 * KEYS)];
        snprintf(key, sizeof(names[0]), "%s%u", prefix, i);
        struct request request = {.type = REQUEST_SET,
                                  .key = slice_text(key),
                                  .value = slice_text("v"),
                                  .exptime = exptime};
        cluster->traced = 0;
        cluster_request_full(cluster, 1 + i % CLUSTER_NODES, &request);
        cluster_settle(cluster);
    }
}

static unsigned values(const struct cluster *cluster, unsigned node)
{
    struct store_stats stats;
    store_stats(cluster->stores[node], &stats);
    return (unsigned)stats.value_count;
}

static struct shard_stats stats_of(const struct cluster *cluster, unsigned node)
{
    struct shard_stats stats;
    shard_stats(cluster->shards[node], &stats);
    return stats;
}

static void wait(struct cluster *cluster, unsigned seconds)
{
    for (unsigned i = 0; i < seconds * 50; i++) {
        cluster->traced = 0; /* it would be long, and is not looked at */
        cluster_tick(cluster, SECOND_US / 50);
        cluster_settle(cluster);
    }
}

static uint32_t now(const struct cluster *cluster)
{
    return (uint32_t)(cluster->wall_us / SECOND_US);
}

TEST(expire, what_is_past_its_time_goes_though_nobody_asks)
{
    struct cluster *cluster = cluster_open();
    set_keys(cluster, "stays", 0);
    set_keys(cluster, "later", now(cluster) + 1000);
    set_keys(cluster, "goes", now(cluster) + 5);
    wait(cluster, 3);
    EXPECT_EQ(values(cluster, 1), 3 * KEYS);
    wait(cluster, 5);
    uint64_t deleted = 0;
    for (unsigned node = 1; node <= CLUSTER_NODES; node++) {
        EXPECT_EQ(values(cluster, node), 2 * KEYS);
        EXPECT(stats_of(cluster, node).expired_by_walk > KEYS / 6); /* each has its share */
        deleted += stats_of(cluster, node).expired_by_walk;
    }
    EXPECT_EQ(deleted, KEYS);
    cluster_close(cluster);
}

TEST(expire, a_store_waits_for_the_first_that_can_expire)
{
    struct cluster *cluster = cluster_open();
    set_keys(cluster, "stays", 0);
    wait(cluster, 10);
    EXPECT_EQ(stats_of(cluster, 1).expire_checked, 0);
    set_keys(cluster, "later", now(cluster) + 100);
    wait(cluster, 20);
    uint64_t checked = stats_of(cluster, 1).expire_checked;
    EXPECT(checked <= 4 * KEYS); /* one walk may have to find out */
    wait(cluster, 60);
    EXPECT_EQ(stats_of(cluster, 1).expire_checked, checked);
    wait(cluster, 30);
    EXPECT_EQ(values(cluster, 2), KEYS);
    cluster_close(cluster);
}

TEST(expire, a_touched_record_stays)
{
    struct cluster *cluster = cluster_open();
    struct request set = {.type = REQUEST_SET,
                          .key = slice_text("key"),
                          .value = slice_text("v"),
                          .exptime = now(cluster) + 3};
    cluster_request_full(cluster, 1, &set);
    cluster_settle(cluster);
    struct request touch = {
        .type = REQUEST_TOUCH, .key = slice_text("key"), .exptime = now(cluster) + 1000};
    cluster_request_full(cluster, 2, &touch);
    cluster_settle(cluster);
    wait(cluster, 10);
    EXPECT_TEXT(cluster_get(cluster, 3, "key"), "v");
    cluster_close(cluster);
}

TEST(expire, what_was_flushed_goes_too)
{
    struct cluster *cluster = cluster_open();
    set_keys(cluster, "key", 0);
    struct request flush = {.type = REQUEST_FLUSH, .key = slice_make("", 0)};
    cluster_request_full(cluster, 2, &flush);
    cluster_settle(cluster);
    set_keys(cluster, "new", 0);
    wait(cluster, 5);
    for (unsigned node = 1; node <= CLUSTER_NODES; node++)
        EXPECT_EQ(values(cluster, node), KEYS + 1); /* and the flush itself */
    EXPECT_TEXT(cluster_get(cluster, 1, "new7"), "v");
    EXPECT_TEXT(cluster_get(cluster, 1, "key7"), "-");
    cluster_close(cluster);
}

TEST(expire, the_share_of_a_node_that_left_is_anothers)
{
    struct cluster *cluster = cluster_open();
    set_keys(cluster, "goes", now(cluster) + 3);
    cluster_crash(cluster, 3);
    cluster_install(cluster, 1, 2, 3, 0);
    cluster_install(cluster, 2, 2, 3, 0);
    cluster_settle(cluster);
    wait(cluster, 8);
    EXPECT_EQ(values(cluster, 1), 0);
    EXPECT_EQ(values(cluster, 2), 0);
    cluster_close(cluster);
}
