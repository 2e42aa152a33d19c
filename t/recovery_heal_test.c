/* Goal: views, rounds and healing of one shard. Method: three real shards; nodes are crashed,
 * restarted and given views by hand. */
#include <stdio.h>

#include "pmem/medium_memory.h"
#include "t/cluster.h"

static struct shard_stats stats_of(const struct cluster *cluster, unsigned node)
{
    struct shard_stats stats;
    shard_stats(cluster->shards[node], &stats);
    return stats;
}

/* Enough time for a stability round to begin and end. */
static void round_trip(struct cluster *cluster)
{
    cluster_tick(cluster, 150000);
    cluster_settle(cluster);
}

static void set_and_settle(struct cluster *cluster, unsigned node, const char *key,
                           const char *value)
{
    unsigned set = cluster_request(cluster, node, REQUEST_SET, key, value);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
}

/* `node` comes back, heals in view `epoch` and is a member in the next. */
static void heal(struct cluster *cluster, unsigned node, uint32_t epoch)
{
    cluster_restart(cluster, node);
    cluster_install_all(cluster, epoch, 7 & (uint8_t)~node_bit(node), node_bit(node));
    cluster_settle(cluster);
    EXPECT_EQ(cluster->healed_epoch, epoch);
    cluster_install_all(cluster, epoch + 1, 7, 0);
    cluster_settle(cluster);
}

TEST(round, leaves_a_mark_that_covers_what_was_written_before)
{
    struct cluster *cluster = cluster_open();
    set_and_settle(cluster, 1, "a", "1");
    uint64_t tail = log_tail(store_log(cluster->stores[2]));
    round_trip(cluster);
    struct mark mark;
    ASSERT(store_mark_last(cluster->stores[2], &mark));
    EXPECT(mark.lsn < tail); /* others may have that behind their marks: not proved yet */
    round_trip(cluster);
    ASSERT(store_mark_last(cluster->stores[2], &mark));
    EXPECT(mark.lsn >= tail);
    EXPECT_EQ(mark.members, 7);
    cluster_close(cluster);
}

TEST(round, is_not_done_while_a_record_before_the_mark_is_open)
{
    struct cluster *cluster = cluster_open();
    round_trip(cluster);
    uint64_t stable = stats_of(cluster, 2).rounds;
    cluster_request(cluster, 1, REQUEST_SET, "a", "1");
    cluster_deliver(cluster, 1, 2);
    cluster_tick(cluster, 150000);
    for (int i = 0; i < 8; i++) { /* everything but node 3's acknowledgement */
        cluster_deliver(cluster, 1, 2);
        cluster_deliver(cluster, 2, 1);
    }
    EXPECT_EQ(stats_of(cluster, 2).rounds, stable);
    cluster_settle(cluster);
    EXPECT_EQ(stats_of(cluster, 2).rounds, stable + 1);
    cluster_close(cluster);
}

/* What is only durable may rot and look like a torn tail: the others must not rely on it yet. */
TEST(round, is_not_done_before_what_lies_before_the_mark_is_proved)
{
    struct cluster *cluster = cluster_open();
    set_and_settle(cluster, 1, "a", "1");
    cluster->drains_late = true;
    cluster_tick(cluster, 150000);
    EXPECT(cluster_deliver(cluster, 1, 2)); /* ROUND_START */
    EXPECT(!cluster_deliver(cluster, 2, 1));
    cluster_durable(cluster, 2);
    EXPECT(cluster_deliver(cluster, 2, 1)); /* ROUND_DONE */
    cluster_close(cluster);
}

TEST(view, a_write_whose_coordinator_died_is_finished_by_the_others)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_deliver(cluster, 1, 2);
    cluster_crash(cluster, 1);
    EXPECT_TEXT(cluster_get(cluster, 2, "k"), "...");
    cluster_install_all(cluster, 2, 6, 0);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_get(cluster, 2, "k"), "v");
    EXPECT_TEXT(cluster_get(cluster, 3, "k"), "v");
    cluster_close(cluster);
}

TEST(view, a_write_goes_on_without_the_node_that_left)
{
    struct cluster *cluster = cluster_open();
    cluster_crash(cluster, 3);
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, set), "...");
    cluster_install_all(cluster, 2, 3, 0);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    cluster_close(cluster);
}

/* A message of an epoch that is not installed here is held, not lost. */
TEST(view, a_newer_epochs_message_waits_for_its_view)
{
    struct cluster *cluster = cluster_open();
    cluster_crash(cluster, 3);
    cluster_install(cluster, 1, 2, 3, 0);
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    EXPECT(!cluster_deliver(cluster, 1, 2));
    cluster_install(cluster, 2, 2, 3, 0);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    cluster_close(cluster);
}

TEST(heal, brings_exactly_what_was_missed)
{
    struct cluster *cluster = cluster_open();
    char keys[30][16];
    for (int i = 0; i < 30; i++) {
        snprintf(keys[i], sizeof(keys[i]), "k%d", i);
        set_and_settle(cluster, 1 + (unsigned)i % 3, keys[i], "old");
    }
    round_trip(cluster);
    cluster_crash(cluster, 3);
    cluster_install_all(cluster, 2, 3, 0);
    for (int i = 0; i < 5; i++)
        set_and_settle(cluster, 1, keys[i], "new");
    unsigned gone = cluster_request(cluster, 2, REQUEST_DELETE, keys[5], NULL);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, gone), "DELETED");
    heal(cluster, 3, 3);
    for (int i = 0; i < 30; i++)
        EXPECT_TEXT(cluster_get(cluster, 3, keys[i]), i < 5 ? "new" : i == 5 ? "-" : "old");
    EXPECT_EQ(stats_of(cluster, 3).heal_received, 6);
    cluster_close(cluster);
}

/* A write that only the dead node knew must not come back. */
TEST(heal, discards_what_only_this_node_knew)
{
    struct cluster *cluster = cluster_open();
    set_and_settle(cluster, 1, "k", "group");
    round_trip(cluster);
    cluster_request(cluster, 3, REQUEST_SET, "k", "mine");
    cluster_request(cluster, 3, REQUEST_SET, "x", "mine");
    cluster_crash(cluster, 3);
    cluster_install_all(cluster, 2, 3, 0);
    heal(cluster, 3, 3);
    EXPECT_TEXT(cluster_get(cluster, 3, "k"), "group");
    EXPECT_TEXT(cluster_get(cluster, 3, "x"), "-");
    cluster_crash(cluster, 3); /* nor after another restart */
    cluster_install_all(cluster, 5, 3, 0);
    heal(cluster, 3, 6);
    EXPECT_TEXT(cluster_get(cluster, 3, "k"), "group");
    EXPECT_TEXT(cluster_get(cluster, 3, "x"), "-");
    cluster_close(cluster);
}

TEST(heal, a_write_during_healing_counts_the_healing_node)
{
    struct cluster *cluster = cluster_open();
    set_and_settle(cluster, 1, "k", "1");
    cluster_crash(cluster, 3);
    cluster_install_all(cluster, 2, 3, 0);
    cluster_restart(cluster, 3);
    cluster_install_all(cluster, 3, 3, 4);
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "2");
    unsigned refused = cluster_request(cluster, 3, REQUEST_GET, "k", NULL);
    EXPECT_TEXT(cluster_reply(cluster, refused), "REFUSED");
    cluster_deliver(cluster, 1, 2);
    cluster_deliver(cluster, 2, 1);
    EXPECT_TEXT(cluster_reply(cluster, set), "...");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    cluster_install_all(cluster, 4, 7, 0);
    EXPECT_TEXT(cluster_get(cluster, 3, "k"), "2");
    cluster_close(cluster);
}

TEST(heal, an_empty_node_is_filled_by_the_same_walk)
{
    struct cluster *cluster = cluster_open();
    set_and_settle(cluster, 1, "a", "1");
    set_and_settle(cluster, 2, "b", "2");
    round_trip(cluster);
    cluster_crash(cluster, 2);
    cluster_install_all(cluster, 2, 5, 0);
    cluster->media[2]->ops->close(cluster->media[2]);
    ASSERT_EQ(medium_memory_open(&cluster->media[2], 1 << 18), STATUS_OK);
    heal(cluster, 2, 3);
    EXPECT_TEXT(cluster_get(cluster, 2, "a"), "1");
    EXPECT_TEXT(cluster_get(cluster, 2, "b"), "2");
    EXPECT(stats_of(cluster, 2).heal_full);
    cluster_close(cluster);
}

TEST(heal, begins_again_when_the_view_changes)
{
    struct cluster *cluster = cluster_open();
    set_and_settle(cluster, 1, "k", "1");
    round_trip(cluster);
    cluster_crash(cluster, 3);
    cluster_install_all(cluster, 2, 3, 0);
    set_and_settle(cluster, 1, "k", "2");
    cluster_restart(cluster, 3);
    cluster_install_all(cluster, 3, 3, 4);
    for (int i = 0; i < 3; i++) { /* half a session, then the buddy may be gone */
        cluster_deliver(cluster, 3, 1);
        cluster_deliver(cluster, 1, 3);
        cluster_deliver(cluster, 3, 2);
    }
    cluster_crash(cluster, 1);
    cluster_install_all(cluster, 4, 2, 4);
    cluster_settle(cluster);
    EXPECT_EQ(cluster->healed_epoch, 4);
    cluster_install_all(cluster, 5, 6, 0);
    EXPECT_TEXT(cluster_get(cluster, 3, "k"), "2");
    cluster_close(cluster);
}

TEST(cold_start, members_pool_what_they_have)
{
    struct cluster *cluster = cluster_open();
    set_and_settle(cluster, 1, "a", "1");
    round_trip(cluster);
    set_and_settle(cluster, 2, "b", "2");
    /* nobody else has it, nobody was told: either way is right */
    cluster_request(cluster, 3, REQUEST_SET, "c", "3");
    for (unsigned node = 1; node <= 3; node++)
        cluster_crash(cluster, node);
    for (unsigned node = 1; node <= 3; node++)
        cluster_restart(cluster, node);
    cluster_install_all(cluster, 2, 7, 0);
    cluster_settle(cluster);
    for (unsigned node = 1; node <= 3; node++) {
        EXPECT_TEXT(cluster_get(cluster, node, "a"), "1");
        EXPECT_TEXT(cluster_get(cluster, node, "b"), "2");
        EXPECT_TEXT(cluster_get(cluster, node, "c"), "3");
    }
    EXPECT_EQ(stats_of(cluster, 1).invalid_count, 0);
    cluster_close(cluster);
}

TEST(channel, what_a_broken_one_lost_is_sent_again)
{
    struct cluster *cluster = cluster_open();
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_lose(cluster, 1, 2);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, set), "...");
    cluster_up(cluster, 1, 2);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    cluster_close(cluster);
}

/* The VAL was lost: the follower asks, rather than replaying behind a living coordinator's back. */
TEST(channel, a_lost_val_is_asked_for)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    for (int i = 0; i < 2; i++) {
        cluster_deliver(cluster, 1, 2 + (unsigned)i);
        cluster_deliver(cluster, 2 + (unsigned)i, 1);
    }
    cluster_lose(cluster, 1, 2);
    cluster_settle(cluster);
    unsigned get = cluster_request(cluster, 2, REQUEST_GET, "k", NULL);
    EXPECT_TEXT(cluster_reply(cluster, get), "...");
    for (int i = 0; i < 40; i++)
        cluster_tick(cluster, 10000);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster->replies[get].value, "v");
    EXPECT(stats_of(cluster, 2).asks > 0);
    EXPECT_EQ(stats_of(cluster, 2).replays, 0);
    cluster_close(cluster);
}

TEST(restart, of_a_living_node_says_what_it_does_not_know)
{
    struct cluster *cluster = cluster_open();
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    unsigned get = cluster_request(cluster, 1, REQUEST_GET, "k", NULL);
    cluster_removed(cluster, 1);
    EXPECT_TEXT(cluster_reply(cluster, set), "UNKNOWN");
    EXPECT_TEXT(cluster_reply(cluster, get), "REFUSED");
    EXPECT_TEXT(cluster_get(cluster, 1, "k"), "REFUSED");
    cluster_install_all(cluster, 2, 6, 0);
    cluster_settle(cluster);
    cluster_install_all(cluster, 3, 6, 1);
    cluster_settle(cluster);
    EXPECT_EQ(cluster->healed_epoch, 3);
    cluster_install_all(cluster, 4, 7, 0);
    EXPECT_TEXT(cluster_get(cluster, 1, "k"), cluster_get(cluster, 2, "k"));
    cluster_close(cluster);
}

static void deliver_all(struct cluster *cluster)
{
    for (bool any = true; any;) {
        any = false;
        for (unsigned from = 1; from <= CLUSTER_NODES; from++)
            for (unsigned to = 1; to <= CLUSTER_NODES; to++)
                any = cluster_deliver(cluster, from, to) || any;
    }
}

/* More is written in each turn than the walk looks at in one: it has to keep up with the tail all
 * the same. */
TEST(heal, ends_under_sustained_writes)
{
    enum { KEYS = 48, SIZE = 3500, TURNS_MAX = 1500 };
    static char value[SIZE + 1];
    struct cluster *cluster = cluster_open();
    memset(value, 'x', SIZE);
    char keys[KEYS][16];
    for (int i = 0; i < KEYS; i++) {
        snprintf(keys[i], sizeof(keys[i]), "k%d", i);
        set_and_settle(cluster, 1, keys[i], value);
    }
    cluster_crash(cluster, 3);
    cluster_install_all(cluster, 2, 3, 0);
    cluster_restart(cluster, 3);
    cluster_install_all(cluster, 3, 3, 4);
    unsigned turns = 0;
    for (; turns < TURNS_MAX && cluster->healed_epoch != 3; turns++) {
        cluster->request_count = 0;
        for (int i = 0; i < KEYS; i++)
            cluster_request(cluster, 1 + (unsigned)i % 2, REQUEST_SET, keys[i], value);
        deliver_all(cluster);
        cluster_tick(cluster, 10000);
        deliver_all(cluster);
        for (unsigned i = 0; i < KEYS; i++)
            ASSERT(cluster->replies[i].done);
    }
    EXPECT_EQ(cluster->healed_epoch, 3);
    cluster_close(cluster);
}
