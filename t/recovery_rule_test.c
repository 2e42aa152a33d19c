/* Goal: rules whose absence the simulator finds rarely or never, because another rule stands behind them. Each test fails when its
 * rule is taken out (t/planted_faults.txt). Method: three real shards whose channels the test moves by hand. */
#include <stdio.h>

#include "t/cluster.h"

static const char *reply_of(const struct cluster *cluster, unsigned index)
{
    return cluster->replies[index].done ? outcome_text(cluster->replies[index].outcome) : "...";
}

static uint64_t floor_of(const struct cluster *cluster, unsigned node)
{
    struct shard_stats stats;
    shard_stats(cluster->shards[node], &stats);
    return stats.floor;
}

/* The NACK, with the winner's record in it, does not lean on the order of messages of a third node. */
TEST(rule, a_read_modify_write_behind_a_newer_record_is_told_so)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_ADD, "k", "added");
    cluster_request(cluster, 3, REQUEST_SET, "k", "set");
    EXPECT(cluster_deliver(cluster, 3, 2));
    EXPECT(cluster_deliver(cluster, 1, 2));
    EXPECT(cluster_deliver(cluster, 2, 1));
    EXPECT_TEXT(cluster->trace, "3>2 INV k\n1>2 INV k\n2>1 NACK k\n");
    cluster_close(cluster);
}

/* Node 2 acknowledges in view 1, node 3 in view 2: that is not enough. */
static void acknowledged_in_two_views(enum request_type type)
{
    struct cluster *cluster = cluster_open();
    unsigned write = cluster_request(cluster, 1, type, "k", "v");
    EXPECT(cluster_deliver(cluster, 1, 2));
    EXPECT(cluster_deliver(cluster, 2, 1));
    cluster_install_all(cluster, 2, 7, 0);
    while (cluster_deliver(cluster, 1, 3))
        ;
    while (cluster_deliver(cluster, 3, 1))
        ;
    EXPECT_TEXT(reply_of(cluster, write), "...");
    cluster_settle(cluster);
    EXPECT_TEXT(reply_of(cluster, write), "STORED");
    cluster_close(cluster);
}

TEST(rule, a_new_view_asks_for_all_acknowledgements_of_a_plain_write_again)
{
    acknowledged_in_two_views(REQUEST_SET);
}

TEST(rule, a_new_view_asks_for_all_acknowledgements_of_a_read_modify_write_again)
{
    acknowledged_in_two_views(REQUEST_ADD);
}

TEST(rule, an_acknowledgement_of_an_older_view_that_comes_late_does_not_count)
{
    struct cluster *cluster = cluster_open();
    unsigned write = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    EXPECT(cluster_deliver(cluster, 1, 2)); /* its ACK is on the way */
    cluster_install_all(cluster, 2, 7, 0);
    while (cluster_deliver(cluster, 1, 3))
        ;
    while (cluster_deliver(cluster, 3, 1))
        ;
    EXPECT(cluster_deliver(cluster, 2, 1));
    EXPECT_TEXT(reply_of(cluster, write), "...");
    cluster_settle(cluster);
    EXPECT_TEXT(reply_of(cluster, write), "STORED");
    cluster_close(cluster);
}

/* Node 3 has answered a round, and dies before it hears that the round is stable: the others have adopted its floor. */
TEST(rule, a_healed_node_knows_the_floor_that_was_adopted_without_it)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    cluster_tick(cluster, 150000);
    for (unsigned i = 0; i < 20 && floor_of(cluster, 1) == 0; i++)
        for (unsigned peer = 2; peer <= 3; peer++) {
            cluster_deliver(cluster, 1, peer);
            cluster_deliver(cluster, peer, 1);
        }
    ASSERT(floor_of(cluster, 1) > 0);
    ASSERT(floor_of(cluster, 3) == 0);
    cluster_crash(cluster, 3);
    cluster_settle(cluster);
    cluster_restart(cluster, 3);
    cluster_install_all(cluster, 2, 3, 4);
    cluster_settle(cluster);
    EXPECT_EQ(cluster->healed_epoch, 2);
    EXPECT(floor_of(cluster, 3) >= floor_of(cluster, 1));
    cluster_close(cluster);
}
