/* Goal: rules whose absence the simulator finds rarely or never, because another rule stands behind
 * them. Each test fails when its rule is taken out (t/planted_faults.txt). Method: three real
 * shards whose channels the test moves by hand. */
#include "base/hash.h"
#include "base/ts.h"

#include "t/cluster.h"

static uint64_t floor_of(const struct cluster *cluster, unsigned node)
{
    struct shard_stats stats;
    shard_stats(cluster->shards[node], &stats);
    return stats.floor;
}

/* The NACK, with the winner's record in it, does not lean on the order of messages of a third
 * node. */
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
    EXPECT_TEXT(cluster_reply(cluster, write), "...");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, write), "STORED");
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
    EXPECT_TEXT(cluster_reply(cluster, write), "...");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, write), "STORED");
    cluster_close(cluster);
}

static void round_everywhere(struct cluster *cluster)
{
    cluster_tick(cluster, 150000);
    cluster_settle(cluster);
}

/* Node 3 has answered a round, and dies before it hears that the round is stable: the others have
 * adopted the floor of the one before. */
TEST(rule, a_healed_node_knows_the_floor_that_was_adopted_without_it)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    round_everywhere(cluster);
    ASSERT(floor_of(cluster, 1) == 0);
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

static uint64_t clock_of(const struct cluster *cluster, unsigned node)
{
    struct shard_stats stats;
    shard_stats(cluster->shards[node], &stats);
    return stats.clock;
}

/* What it would be after a restart, if no record said more. */
static uint64_t kept_clock_of(const struct cluster *cluster, unsigned node)
{
    uint64_t clock, floor;
    store_mark_kept(cluster->stores[node], &clock, &floor);
    return clock;
}

static void come_back(struct cluster *cluster, unsigned node, uint32_t epoch)
{
    cluster_restart(cluster, node);
    cluster_install_all(cluster, epoch, 7 & (uint8_t)~node_bit(node), node_bit(node));
    cluster_settle(cluster);
    EXPECT_EQ(cluster->healed_epoch, epoch);
}

/* Node 2's clock is that of a write that never was: nobody else got it, and it was discarded. Node
 * 1 hears of it when it heals. */
static struct cluster *cluster_with_a_clock_ahead(void)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    for (unsigned i = 0; i < 3; i++)
        round_everywhere(cluster);
    cluster->wall_us += 1000000;
    cluster_request(cluster, 2, REQUEST_SET, "never", "v");
    cluster->wall_us -= 1000000;
    cluster_crash(cluster, 2);
    cluster_install_all(cluster, 2, 5, 0);
    cluster_settle(cluster);
    come_back(cluster, 2, 3);
    cluster_install_all(cluster, 4, 7, 0);
    cluster_settle(cluster);
    for (unsigned i = 0; i < 3; i++)
        round_everywhere(cluster);
    EXPECT(clock_of(cluster, 1) < clock_of(cluster, 2));
    EXPECT_TEXT(cluster_get(cluster, 2, "never"), "-");
    cluster_crash(cluster, 1);
    cluster_install_all(cluster, 5, 6, 0);
    round_everywhere(cluster); /* led by node 2: node 3 hears of it */
    come_back(cluster, 1, 6);
    return cluster;
}

/* A node at which nothing was written says nothing new, and yet the others adopt a floor that its
 * log does not know. */
TEST(rule, a_floor_is_adopted_when_all_logs_say_a_clock_that_high)
{
    struct cluster *cluster = cluster_with_a_clock_ahead();
    cluster_install_all(cluster, 7, 7, 0);
    cluster_settle(cluster);
    uint64_t ahead = clock_of(cluster, 2);
    for (unsigned i = 0; i < 3; i++) {
        round_everywhere(cluster);
        for (unsigned node = 1; node <= 3; node++)
            EXPECT(kept_clock_of(cluster, node) >= floor_of(cluster, 1));
    }
    EXPECT(floor_of(cluster, 1) >= ahead);
    uint64_t floor = floor_of(cluster, 1), tail = log_tail(store_log(cluster->stores[3]));
    round_everywhere(cluster);
    EXPECT_EQ(log_tail(store_log(cluster->stores[3])), tail); /* said once */
    for (unsigned node = 1; node <= 3; node++)
        cluster_crash(cluster, node);
    for (unsigned node = 1; node <= 3; node++)
        cluster_restart(cluster, node);
    cluster_install_all(cluster, 8, 7, 0);
    for (unsigned node = 1; node <= 3; node++)
        EXPECT(clock_of(cluster, node) >= floor);
    cluster_close(cluster);
}

/* Else it could be a member at a cold start, and know nothing of what its buddy had forgotten. */
TEST(rule, a_node_is_healed_when_its_log_says_the_clock_of_the_group)
{
    struct cluster *cluster = cluster_with_a_clock_ahead();
    EXPECT(clock_of(cluster, 1) >= clock_of(cluster, 2));
    EXPECT(kept_clock_of(cluster, 1) >= clock_of(cluster, 2));
    cluster_close(cluster);
}

static uint64_t ts_of(const struct cluster *cluster, unsigned node, const char *key)
{
    struct found found;
    bool any =
        store_find(cluster->stores[node], slice_text(key), hash_key(slice_text(key)), &found);
    return any ? found.record->ts : 0;
}

static void round_between(struct cluster *cluster, unsigned a, unsigned b)
{
    cluster_tick(cluster, 150000);
    for (unsigned i = 0; i < 20; i++) {
        cluster_deliver(cluster, a, b);
        cluster_deliver(cluster, b, a);
    }
}

/* What only node 3 knew counts as older than anything, whatever its timestamp. */
TEST(rule, an_inv_is_taken_over_an_unconfirmed_record_that_is_newer)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 3, REQUEST_SET, "k", "alone");
    cluster_crash(cluster, 3);
    cluster_restart(cluster, 3);
    cluster_install_all(cluster, 2, 3, 4);
    cluster_request(cluster, 1, REQUEST_SET, "k", "group"); /* the same moment, a lower node */
    ASSERT(ts_of(cluster, 3, "k") > ts_of(cluster, 1, "k"));
    while (cluster_deliver(cluster, 1, 3))
        ;
    EXPECT(ts_of(cluster, 3, "k") == ts_of(cluster, 1, "k"));
    cluster_close(cluster);
}

/* Node 3 has the write of node 1 from before its crash; its buddy, node 2, gets it only after it
 * has answered. */
TEST(rule, an_inv_of_equal_timestamp_makes_an_unconfirmed_record_the_groups)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "k", "old");
    cluster_settle(cluster);
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "new");
    EXPECT(cluster_deliver(cluster, 1, 3));
    cluster_crash(cluster, 3);
    cluster_restart(cluster, 3);
    cluster_install_all(cluster, 2, 3, 4);
    EXPECT(cluster_deliver(cluster, 1, 3)); /* the INV again */
    EXPECT(cluster_deliver(cluster, 3, 2)); /* only node 2 is asked in time */
    EXPECT(cluster_deliver(cluster, 2, 3));
    cluster_tick(cluster, 250000);
    for (unsigned i = 0; i < 20; i++) {
        cluster_deliver(cluster, 3, 2);
        cluster_deliver(cluster, 2, 3);
        cluster_tick(cluster, 10000);
    }
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    EXPECT(ts_of(cluster, 3, "k") == ts_of(cluster, 1, "k"));
    cluster_close(cluster);
}

/* Protocol check, flaw 6: the coordinator completes in the old view what the buddy's walk met half
 * done in the new one. */
TEST(rule, the_walk_does_not_skip_a_record_that_is_not_valid_yet)
{
    struct cluster *cluster = cluster_open();
    cluster_crash(cluster, 3);
    cluster_install_all(cluster, 2, 3, 0);
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    while (cluster_deliver(cluster, 1, 2))
        ;
    cluster_restart(cluster, 3);
    cluster_install(cluster, 2, 3, 3, 4);
    cluster_install(cluster, 3, 3, 3, 4);
    for (unsigned i = 0; i < 40; i++) {
        cluster_deliver(cluster, 3, 2);
        cluster_deliver(cluster, 2, 3);
        cluster_tick(cluster, 10000);
    }
    EXPECT_TEXT(cluster_reply(cluster, set), "...");
    EXPECT(cluster_deliver(cluster, 2, 1)); /* the ACK of view 2 */
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    cluster_install(cluster, 1, 3, 3, 4);
    cluster_settle(cluster);
    EXPECT(ts_of(cluster, 3, "k") == ts_of(cluster, 1, "k"));
    cluster_close(cluster);
}

TEST(rule, no_floor_is_adopted_while_a_node_heals)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    cluster_crash(cluster, 3);
    cluster_restart(cluster, 3);
    cluster_install_all(cluster, 2, 3, 4);
    round_between(cluster, 1, 2);
    round_between(cluster, 1, 2); /* the floor of a round is adopted in the next one */
    EXPECT(floor_of(cluster, 1) == 0);
    cluster_close(cluster);
}

TEST(rule, a_record_for_an_absent_key_is_newer_than_anything_forgotten)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    round_everywhere(cluster);
    round_everywhere(cluster);
    ASSERT(floor_of(cluster, 1) > 0);
    cluster_request(cluster, 1, REQUEST_ADD, "fresh", "v");
    EXPECT(ts_version(ts_of(cluster, 1, "fresh")) > floor_of(cluster, 1));
    cluster_close(cluster);
}

/* Node 1's append is overtaken at node 1 by node 3's delete; node 2 has heard of the append alone,
 * and is the next view alone. */
TEST(rule, who_is_removed_does_not_call_an_overtaken_try_not_applied)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    unsigned append = cluster_request(cluster, 1, REQUEST_APPEND, "k", "+");
    EXPECT(cluster_deliver(cluster, 1, 2));
    cluster_request(cluster, 3, REQUEST_DELETE, "k", NULL);
    EXPECT(cluster_deliver(cluster, 3, 1));
    EXPECT_TEXT(cluster_reply(cluster, append), "...");
    cluster_removed(cluster, 1);
    cluster_crash(cluster, 3);
    cluster_install(cluster, 2, 2, 2, 0);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_get(cluster, 2, "k"), "v+");
    EXPECT_TEXT(cluster_reply(cluster, append), "UNKNOWN");
    cluster_close(cluster);
}

/* A command that waited for it and was never tried itself may be tried again elsewhere. */
TEST(rule, who_is_removed_calls_a_command_that_only_waited_not_applied)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_ADD, "k", "v");
    unsigned append = cluster_request(cluster, 1, REQUEST_APPEND, "k", "+");
    cluster_removed(cluster, 1);
    EXPECT_TEXT(cluster_reply(cluster, append), "REFUSED");
    cluster_close(cluster);
}

/* A HEAL_OPEN comes when the buddy is an epoch further: a session of it would end, by its messages,
 * the one that the node has opened meanwhile. */
TEST(rule, a_session_of_an_older_view_does_not_end_that_of_this_one)
{
    struct cluster *cluster = cluster_open();
    cluster_crash(cluster, 3);
    cluster_install_all(cluster, 2, 3, 0);
    cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    cluster_restart(cluster, 3);
    cluster_install_all(cluster, 3, 3, 4);
    for (unsigned member = 1; member <= 2; member++) {
        EXPECT(cluster_deliver(cluster, 3, member)); /* HEAL_ASK */
        EXPECT(cluster_deliver(cluster, member, 3)); /* HEAL_OFFER */
    }
    for (unsigned i = 0; i < 4; i++)
        cluster_tick(cluster, 1000); /* it opens its session, and lists */
    cluster_install_all(cluster, 4, 3, 4);
    while (cluster_deliver(cluster, 3, 1) || cluster_deliver(cluster, 3, 2))
        ; /* HEAL_OPEN of epoch 3, HEAL_ASK of this one */
    for (unsigned i = 0; i < 4; i++)
        cluster_tick(cluster, 1000);
    EXPECT(cluster_deliver(cluster, 1, 3)); /* HEAL_OFFER */
    EXPECT(cluster_deliver(cluster, 2, 3));
    while (cluster_deliver(cluster, 1, 3))
        ; /* what the session of the older epoch had to say */
    for (unsigned i = 0; i < 4; i++)
        cluster_tick(cluster, 1000);
    EXPECT(cluster->healed_epoch < 4); /* nobody has heard its HEAL_OPEN */
    for (unsigned i = 0; i < 4; i++) {
        cluster_settle(cluster);
        cluster_tick(cluster, 10000);
    }
    EXPECT_EQ(cluster->healed_epoch, 4);
    cluster_close(cluster);
}
