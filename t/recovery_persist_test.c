/* Goal: what persist waits for, whoever comes, goes, or fails meanwhile.
 * Method: three real shards whose messages and drains the test moves by hand. */
#include "t/cluster.h"

static unsigned persist_at(struct cluster *cluster, unsigned node)
{
    return cluster_request(cluster, node, REQUEST_PERSIST, "", NULL);
}

static uint64_t rounds_of(const struct cluster *cluster, unsigned node)
{
    struct shard_stats stats;
    shard_stats(cluster->shards[node], &stats);
    return stats.rounds;
}

TEST(persist, is_answered_when_its_round_is_stable)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 2, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    unsigned index = persist_at(cluster, 2);
    EXPECT(cluster_deliver(cluster, 2, 1)); /* ROUND_WANTED */
    EXPECT(cluster_deliver(cluster, 1, 2)); /* ROUND_START */
    EXPECT(cluster_deliver(cluster, 2, 1)); /* ROUND_DONE */
    EXPECT(cluster_deliver(cluster, 1, 3));
    EXPECT_TEXT(cluster_reply(cluster, index), "...");
    EXPECT(cluster_deliver(cluster, 3, 1));
    EXPECT_TEXT(cluster_reply(cluster, index), "...");
    EXPECT(cluster_deliver(cluster, 1, 2)); /* ROUND_STABLE */
    EXPECT_TEXT(cluster_reply(cluster, index), "OK");
    cluster_close(cluster);
}

TEST(persist, waits_for_every_medium)
{
    for (unsigned last = 1; last <= CLUSTER_NODES; last++) {
        struct cluster *cluster = cluster_open_late(MODEL_SCOPE);
        cluster_request(cluster, 2, REQUEST_SET, "k", "v");
        cluster_settle(cluster);
        unsigned index = persist_at(cluster, 2);
        cluster_settle(cluster);
        for (unsigned node = 1; node <= CLUSTER_NODES; node++)
            if (node != last)
                cluster_durable(cluster, node);
        cluster_settle(cluster);
        EXPECT_TEXT(cluster_reply(cluster, index), "...");
        cluster_durable(cluster, last);
        cluster_settle(cluster);
        EXPECT_TEXT(cluster_reply(cluster, index), "OK");
        cluster_close(cluster);
    }
}

/* Node 3 marks before it has the write, node 2 after it was answered: their round says nothing of
 * it. */
TEST(persist, is_not_answered_by_a_round_that_began_before_it)
{
    struct cluster *cluster = cluster_open_model(MODEL_SCOPE);
    cluster_tick(cluster, 100000); /* node 1 starts a round */
    EXPECT(cluster_deliver(cluster, 1, 3));
    unsigned set = cluster_request(cluster, 2, REQUEST_SET, "k", "v");
    EXPECT(cluster_deliver(cluster, 2, 3));
    cluster->drains_late = true; /* node 3 has it, and may lose it */
    EXPECT(cluster_deliver(cluster, 2, 1));
    while (cluster_deliver(cluster, 3, 2))
        ;
    EXPECT_TEXT(cluster_reply(cluster, set), "...");
    uint64_t rounds = rounds_of(cluster, 2);
    unsigned index = persist_at(cluster, 2);
    while (cluster_deliver(cluster, 1, 2))
        ;
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    unsigned second = persist_at(cluster, 2);
    cluster_durable(cluster, 2);
    while (rounds_of(cluster, 2) == rounds)
        EXPECT(cluster_deliver(cluster, 2, 1) || cluster_deliver(cluster, 3, 1) ||
               cluster_deliver(cluster, 1, 2));
    EXPECT_TEXT(cluster_reply(cluster, index), "...");
    EXPECT_TEXT(cluster_reply(cluster, second), "...");
    cluster->drains_late = false;
    cluster_durable_everywhere(cluster);
    EXPECT_TEXT(cluster_reply(cluster, index), "OK");
    EXPECT_TEXT(cluster_reply(cluster, second), "OK");
    cluster_close(cluster);
}

TEST(persist, many_share_a_round)
{
    struct cluster *cluster = cluster_open_model(MODEL_SCOPE);
    unsigned indexes[100];
    uint64_t rounds = rounds_of(cluster, 2);
    for (unsigned i = 0; i < 100; i++)
        indexes[i] = persist_at(cluster, 1 + i % CLUSTER_NODES);
    cluster_settle(cluster);
    for (unsigned i = 0; i < 100; i++)
        EXPECT_TEXT(cluster_reply(cluster, indexes[i]), "OK");
    EXPECT(rounds_of(cluster, 2) - rounds <= 3);
    cluster_close(cluster);
}

TEST(persist, a_sole_member_waits_for_its_own_medium)
{
    struct cluster *cluster = cluster_open_model(MODEL_SCOPE);
    cluster_install(cluster, 1, 2, 1, 0);
    cluster->drains_late = true;
    cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    unsigned index = persist_at(cluster, 1);
    EXPECT_TEXT(cluster_reply(cluster, index), "...");
    cluster_durable(cluster, 1);
    EXPECT_TEXT(cluster_reply(cluster, index), "OK");
    cluster_close(cluster);
}

TEST(persist, goes_on_in_a_new_view_with_a_new_leader)
{
    struct cluster *cluster = cluster_open_model(MODEL_SCOPE);
    cluster_request(cluster, 3, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    unsigned asked = persist_at(cluster, 3);
    EXPECT(cluster_deliver(cluster, 3, 1));
    EXPECT(cluster_deliver(cluster, 1, 3)); /* its round has begun */
    unsigned waiting = persist_at(cluster, 3);
    cluster_crash(cluster, 1);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, asked), "...");
    cluster_install_all(cluster, 2, 6, 0);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, asked), "OK");
    EXPECT_TEXT(cluster_reply(cluster, waiting), "OK");
    cluster_close(cluster);
}

/* Whatever the broken connection has lost, it is not waited for until the leader gives up. */
TEST(persist, goes_on_when_a_channel_comes_back)
{
    for (unsigned moved = 0; moved < 4; moved++) {
        struct cluster *cluster = cluster_open_model(MODEL_SCOPE);
        unsigned index = persist_at(cluster, 2);
        for (unsigned i = 0; i < moved; i++)
            (void)(i % 2 == 0 ? cluster_deliver(cluster, 2, 1) : cluster_deliver(cluster, 1, 2));
        cluster_lose(cluster, 1, 2);
        cluster_up(cluster, 1, 2);
        cluster_settle(cluster);
        cluster_tick(cluster, 100000);
        cluster_settle(cluster);
        EXPECT_TEXT(cluster_reply(cluster, index), "OK");
        cluster_close(cluster);
    }
}

TEST(persist, is_refused_by_who_is_no_member)
{
    struct cluster *cluster = cluster_open_model(MODEL_SCOPE);
    unsigned waiting = persist_at(cluster, 3);
    cluster_removed(cluster, 3);
    EXPECT_TEXT(cluster_reply(cluster, waiting), "REFUSED");
    EXPECT_TEXT(cluster_reply(cluster, persist_at(cluster, 3)), "REFUSED");
    cluster_close(cluster);
}
