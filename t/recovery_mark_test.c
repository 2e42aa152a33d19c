/* Goal: what a healing node may do with its own records while it is still marking which of them it
 * must not trust. Method: three real shards, node 3 with walks of a few records a turn; channels
 * and turns are moved by hand. */
#include <stdio.h>

#include "base/hash.h"
#include "t/cluster.h"

enum { KEYS = 40, WALK_RECORDS = 4 };

static bool find(const struct cluster *cluster, unsigned node, const char *key, struct found *found)
{
    return store_find(cluster->stores[node], slice_text(key), hash_key(slice_text(key)), found);
}

static uint64_t ts_of(const struct cluster *cluster, unsigned node, const char *key)
{
    struct found found;
    return find(cluster, node, key, &found) ? found.record->ts : 0;
}

static unsigned unconfirmed_count(const struct cluster *cluster)
{
    unsigned count = 0;
    for (int i = 0; i < KEYS; i++) {
        struct found found;
        char key[16];
        snprintf(key, sizeof(key), "key%d", i);
        count += find(cluster, 3, key, &found) && found.state == STATE_UNCONFIRMED;
    }
    return count;
}

/* Node 3 has come back with short walks, and KEYS keys were written after the newest round. */
static struct cluster *cluster_with_short_walks(void)
{
    struct cluster *cluster = cluster_open();
    cluster->walk_bytes = WALK_RECORDS * STORE_WALK_COST;
    cluster_crash(cluster, 3);
    cluster_restart(cluster, 3);
    cluster_install_all(cluster, 2, 3, 4);
    cluster_settle(cluster);
    cluster_install_all(cluster, 3, 7, 0);
    cluster_settle(cluster);
    cluster_request(cluster, 1, REQUEST_SET, "first", "v");
    cluster_settle(cluster);
    cluster_tick(cluster, 150000);
    cluster_settle(cluster);
    for (int i = 0; i < KEYS; i++) {
        char key[16];
        snprintf(key, sizeof(key), "key%d", i);
        struct request request = {
            .type = REQUEST_SET, .key = slice_text(key), .value = slice_text("v")};
        cluster_request_full(cluster, 1, &request);
        cluster_settle(cluster);
    }
    cluster->traced = 0;
    memset(cluster->trace, 0, sizeof(cluster->trace));
    return cluster;
}

/* Node 3 is removed while it lives, and heals in view 5. */
static void remove_and_let_heal(struct cluster *cluster)
{
    cluster_removed(cluster, 3);
    cluster_install_all(cluster, 4, 3, 0);
    cluster_install_all(cluster, 5, 3, 4);
}

static void tick_3(struct cluster *cluster)
{
    cluster_tick(cluster, 1000);
}

static void deliver_between_3_and_the_others(struct cluster *cluster)
{
    for (unsigned i = 0; i < 50; i++)
        for (unsigned peer = 1; peer <= 2; peer++) {
            cluster_deliver(cluster, 3, peer);
            cluster_deliver(cluster, peer, 3);
        }
}

TEST(marking, goes_on_over_many_turns_and_the_session_opens_after_the_last)
{
    struct cluster *cluster = cluster_with_short_walks();
    remove_and_let_heal(cluster);
    unsigned turns = 0;
    for (unsigned before = unconfirmed_count(cluster); before < KEYS && turns < KEYS; turns++) {
        deliver_between_3_and_the_others(cluster);
        EXPECT(strstr(cluster->trace, "HEAL_OFFER") != NULL); /* the members are asked meanwhile */
        EXPECT(strstr(cluster->trace, "HEAL_OPEN") == NULL);
        tick_3(cluster);
        unsigned after = unconfirmed_count(cluster);
        EXPECT(after - before <= WALK_RECORDS);
        before = after;
    }
    EXPECT(turns >= KEYS / WALK_RECORDS);
    cluster_settle(cluster);
    EXPECT(strstr(cluster->trace, "HEAL_OPEN") != NULL);
    EXPECT_EQ(cluster->healed_epoch, 5);
    cluster_install_all(cluster, 6, 7, 0);
    EXPECT_TEXT(cluster_get(cluster, 3, "key7"), "v");
    cluster_close(cluster);
}

/* A process that starts finds in its log what is unconfirmed; there is nothing to be marked. */
TEST(marking, is_not_done_again_after_a_start)
{
    struct cluster *cluster = cluster_with_short_walks();
    cluster_crash(cluster, 3);
    cluster_install_all(cluster, 4, 3, 0);
    cluster_restart(cluster, 3);
    EXPECT_EQ(unconfirmed_count(cluster), KEYS);
    cluster_install_all(cluster, 5, 3, 4);
    deliver_between_3_and_the_others(cluster);
    EXPECT(strstr(cluster->trace, "HEAL_OPEN") != NULL);
    cluster_close(cluster);
}

/* What only node 3 knew counts as older than anything, also where the walk has not come by yet. */
TEST(marking, a_record_that_awaits_its_mark_gives_way_to_an_inv)
{
    struct cluster *cluster = cluster_with_short_walks();
    cluster_request(cluster, 3, REQUEST_SET, "last", "alone");
    remove_and_let_heal(cluster);
    struct found found;
    ASSERT(find(cluster, 3, "last", &found));
    ASSERT(found.state == STATE_WRITE);
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "last",
                                   "group"); /* the same moment, a lower node */
    ASSERT(ts_of(cluster, 3, "last") > ts_of(cluster, 1, "last"));
    deliver_between_3_and_the_others(cluster);
    EXPECT(ts_of(cluster, 3, "last") == ts_of(cluster, 1, "last"));
    cluster_settle(cluster);
    EXPECT(cluster->replies[set].done);
    EXPECT_EQ(cluster->healed_epoch, 5);
    EXPECT(ts_of(cluster, 3, "last") == ts_of(cluster, 1, "last"));
    cluster_close(cluster);
}

/* Node 3 acknowledges it, and its buddy may not know it: nothing may give it up again. */
TEST(marking, leaves_alone_what_was_written_after_the_view)
{
    struct cluster *cluster = cluster_with_short_walks();
    remove_and_let_heal(cluster);
    cluster_request(cluster, 1, REQUEST_SET, "new", "v");
    deliver_between_3_and_the_others(cluster);
    struct found found;
    for (unsigned turns = 0; turns < KEYS; turns++) {
        tick_3(cluster);
        ASSERT(find(cluster, 3, "new", &found));
        EXPECT(found.state == STATE_INVALID);
    }
    cluster_close(cluster);
}

/* It has the record, but of an earlier epoch. The group's is a record of its own, behind what is
 * marked. */
TEST(marking, an_inv_of_equal_timestamp_is_appended_anew)
{
    struct cluster *cluster = cluster_with_short_walks();
    struct found found;
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "last", "v");
    EXPECT(cluster_deliver(cluster, 1, 3));
    ASSERT(find(cluster, 3, "last", &found));
    uint64_t old = found.lsn;
    remove_and_let_heal(cluster);
    deliver_between_3_and_the_others(cluster);
    ASSERT(find(cluster, 3, "last", &found));
    EXPECT(found.record->ts == ts_of(cluster, 1, "last"));
    EXPECT(found.lsn > old);
    EXPECT(found.state == STATE_INVALID);
    cluster_settle(cluster);
    EXPECT(cluster->replies[set].done);
    cluster_close(cluster);
}

/* The view changes in the middle: what the first epoch brought is as old as the rest. */
TEST(marking, begins_again_with_a_view)
{
    struct cluster *cluster = cluster_with_short_walks();
    remove_and_let_heal(cluster);
    cluster_request(cluster, 1, REQUEST_SET, "new", "v");
    deliver_between_3_and_the_others(cluster);
    tick_3(cluster);
    cluster_install(cluster, 3, 6, 3, 4);
    struct found found;
    for (unsigned turns = 0; turns < KEYS; turns++)
        tick_3(cluster);
    ASSERT(find(cluster, 3, "new", &found));
    EXPECT(found.state == STATE_UNCONFIRMED);
    cluster_install(cluster, 1, 6, 3, 4);
    cluster_install(cluster, 2, 6, 3, 4);
    cluster_settle(cluster);
    EXPECT_EQ(cluster->healed_epoch, 6);
    EXPECT(ts_of(cluster, 3, "new") == ts_of(cluster, 1, "new"));
    cluster_close(cluster);
}
