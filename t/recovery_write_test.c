/* Goal: what one shard says and answers, message by message. Method: three real shards whose
 * channels the test moves by hand; what they say is compared with golden text. */
#include <stdio.h>

#include "t/cluster.h"

TEST(write, is_answered_after_all_acknowledged_and_then_told_to_all)
{
    struct cluster *cluster = cluster_open();
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    EXPECT(cluster_deliver(cluster, 1, 2));
    EXPECT(cluster_deliver(cluster, 2, 1));
    EXPECT_TEXT(cluster_reply(cluster, set), "...");
    EXPECT(cluster_deliver(cluster, 1, 3));
    EXPECT(cluster_deliver(cluster, 3, 1));
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster->trace, "1>2 INV k\n2>1 ACK \n1>3 INV k\n3>1 ACK \n1>2 VAL k\n1>3 VAL k\n");
    for (unsigned node = 1; node <= 3; node++)
        EXPECT_TEXT(cluster_get(cluster, node, "k"), "v");
    cluster_close(cluster);
}

/* An ACK says "durable here". */
TEST(write, is_not_acknowledged_before_it_is_durable)
{
    struct cluster *cluster = cluster_open();
    cluster->drains_late = true;
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    EXPECT(cluster_deliver(cluster, 1, 2));
    EXPECT(!cluster_deliver(cluster, 2, 1));
    cluster_durable(cluster, 2);
    EXPECT(cluster_deliver(cluster, 2, 1));
    EXPECT(cluster_deliver(cluster, 1, 3));
    cluster_durable(cluster, 3);
    EXPECT(cluster_deliver(cluster, 3, 1));
    EXPECT_TEXT(cluster_reply(cluster, set), "..."); /* not yet durable at the coordinator */
    cluster_durable(cluster, 1);
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    cluster_close(cluster);
}

TEST(read, waits_while_the_record_is_invalid)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    EXPECT(cluster_deliver(cluster, 1, 2));
    unsigned get = cluster_request(cluster, 2, REQUEST_GET, "k", NULL);
    EXPECT_TEXT(cluster_reply(cluster, get), "...");
    /* nothing has reached it: the write may still come after */
    EXPECT_TEXT(cluster_get(cluster, 3, "k"), "-");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster->replies[get].value, "v");
    cluster_close(cluster);
}

/* A follower that already holds a newer write must still answer, or the older writer would wait for
 * ever. */
TEST(write, older_inv_is_acked_not_applied)
{
    struct cluster *cluster = cluster_open();
    unsigned first = cluster_request(cluster, 1, REQUEST_SET, "k", "old");
    /* same time: the higher node wins */
    unsigned second = cluster_request(cluster, 3, REQUEST_SET, "k", "new");
    EXPECT(cluster_deliver(cluster, 3, 2));
    EXPECT(cluster_deliver(cluster, 1, 2));
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, first), "STORED");
    EXPECT_TEXT(cluster_reply(cluster, second), "STORED");
    for (unsigned node = 1; node <= 3; node++)
        EXPECT_TEXT(cluster_get(cluster, node, "k"), "new");
    cluster_close(cluster);
}

TEST(rmw, two_increments_at_once_count_twice)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 2, REQUEST_SET, "n", "10");
    cluster_settle(cluster);
    unsigned a = cluster_request(cluster, 1, REQUEST_INCR, "n", NULL);
    unsigned b = cluster_request(cluster, 3, REQUEST_INCR, "n", NULL);
    cluster_settle(cluster);
    EXPECT_EQ(cluster->replies[a].number + cluster->replies[b].number, 23);
    EXPECT_TEXT(cluster_get(cluster, 2, "n"), "12");
    cluster_close(cluster);
}

TEST(rmw, an_add_loses_to_a_set_of_the_same_moment)
{
    struct cluster *cluster = cluster_open();
    unsigned add = cluster_request(cluster, 3, REQUEST_ADD, "k", "added");
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "set");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    EXPECT_TEXT(cluster_reply(cluster, add), "NOT_STORED");
    EXPECT_TEXT(cluster_get(cluster, 2, "k"), "set");
    cluster_close(cluster);
}

TEST(rmw, commands_answer_as_memcached_does)
{
    struct cluster *cluster = cluster_open();
    EXPECT_TEXT(cluster_reply(cluster, cluster_request(cluster, 1, REQUEST_REPLACE, "k", "x")),
                "NOT_STORED");
    EXPECT_TEXT(cluster_reply(cluster, cluster_request(cluster, 1, REQUEST_APPEND, "k", "x")),
                "NOT_STORED");
    EXPECT_TEXT(cluster_reply(cluster, cluster_request(cluster, 1, REQUEST_CAS, "k", "x")),
                "NOT_FOUND");
    EXPECT_TEXT(cluster_reply(cluster, cluster_request(cluster, 1, REQUEST_INCR, "k", NULL)),
                "NOT_FOUND");
    EXPECT_TEXT(cluster_reply(cluster, cluster_request(cluster, 1, REQUEST_DELETE, "k", NULL)),
                "NOT_FOUND");
    EXPECT_TEXT(cluster_reply(cluster, cluster_request(cluster, 1, REQUEST_TOUCH, "k", NULL)),
                "NOT_FOUND");
    unsigned add = cluster_request(cluster, 1, REQUEST_ADD, "k", "b");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, add), "STORED");
    cluster_request(cluster, 2, REQUEST_APPEND, "k", "c");
    cluster_settle(cluster);
    cluster_request(cluster, 3, REQUEST_PREPEND, "k", "a");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_get(cluster, 1, "k"), "abc");
    EXPECT_TEXT(cluster_reply(cluster, cluster_request(cluster, 1, REQUEST_INCR, "k", NULL)),
                "NON_NUMERIC");
    EXPECT_TEXT(cluster_reply(cluster, cluster_request(cluster, 1, REQUEST_CAS, "k", "x")),
                "EXISTS");
    unsigned gone = cluster_request(cluster, 2, REQUEST_DELETE, "k", NULL);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, gone), "DELETED");
    EXPECT_TEXT(cluster_get(cluster, 3, "k"), "-");
    cluster_close(cluster);
}

TEST(rmw, touch_keeps_the_cas_unique_and_cas_accepts_it)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    unsigned before = cluster_request(cluster, 2, REQUEST_GET, "k", NULL);
    struct request touch = {.type = REQUEST_TOUCH, .key = slice_text("k"), .exptime = 5000};
    unsigned touched = cluster_request_full(cluster, 3, &touch);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, touched), "TOUCHED");
    unsigned after = cluster_request(cluster, 1, REQUEST_GET, "k", NULL);
    EXPECT(cluster->replies[before].cas == cluster->replies[after].cas);
    struct request cas = {.type = REQUEST_CAS,
                          .key = slice_text("k"),
                          .value = slice_text("w"),
                          .cas = cluster->replies[after].cas};
    unsigned swapped = cluster_request_full(cluster, 2, &cas);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, swapped), "STORED");
    cluster_close(cluster);
}

/* Who first sees it expired deletes it everywhere before answering the miss. */
TEST(expiry, is_a_write_of_its_own)
{
    struct cluster *cluster = cluster_open();
    struct request set = {
        .type = REQUEST_SET, .key = slice_text("k"), .value = slice_text("v"), .exptime = 1001};
    cluster_request_full(cluster, 1, &set);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_get(cluster, 2, "k"), "v");
    cluster->wall_us = 1001000000;
    cluster->traced = 0;
    unsigned get = cluster_request(cluster, 2, REQUEST_GET, "k", NULL);
    EXPECT_TEXT(cluster_reply(cluster, get), "...");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, get), "MISS");
    cluster->wall_us = 1000000000; /* a node with a slow clock does not see it again */
    EXPECT_TEXT(cluster_get(cluster, 3, "k"), "-");
    cluster_close(cluster);
}

TEST(flush, makes_all_older_records_absent_everywhere)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "a", "1");
    cluster_request(cluster, 2, REQUEST_SET, "b", "2");
    cluster_settle(cluster);
    unsigned flush = cluster_request(cluster, 3, REQUEST_FLUSH, "", NULL);
    EXPECT_TEXT(cluster_get(cluster, 3, "a"), "..."); /* decided only when it is complete */
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, flush), "OK");
    for (unsigned node = 1; node <= 3; node++)
        EXPECT_TEXT(cluster_get(cluster, node, node == 1 ? "a" : "b"), "-");
    unsigned add = cluster_request(cluster, 1, REQUEST_ADD, "a", "3");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, add), "STORED");
    EXPECT_TEXT(cluster_get(cluster, 2, "a"), "3");
    cluster_close(cluster);
}

TEST(flush, with_a_delay_waits_for_its_second)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "a", "1");
    cluster_settle(cluster);
    struct request flush = {.type = REQUEST_FLUSH, .key = slice_text(""), .exptime = 1005};
    unsigned index = cluster_request_full(cluster, 2, &flush);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, index), "OK");
    EXPECT_TEXT(cluster_get(cluster, 3, "a"), "1");
    cluster_tick(cluster, 4000000);
    cluster_request(cluster, 1, REQUEST_SET, "b", "2");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_get(cluster, 3, "a"), "1");
    cluster_tick(cluster, 1500000);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_get(cluster, 3, "a"), "-");
    EXPECT_TEXT(cluster_get(cluster, 2, "b"), "-");
    cluster_close(cluster);
}

/* SETs that pile up behind one are written once, and all answered. */
TEST(write, waiting_sets_of_one_key_go_out_as_one)
{
    struct cluster *cluster = cluster_open();
    unsigned first = cluster_request(cluster, 1, REQUEST_SET, "k", "1");
    unsigned second = cluster_request(cluster, 1, REQUEST_SET, "k", "2");
    unsigned third = cluster_request(cluster, 1, REQUEST_SET, "k", "3");
    unsigned get = cluster_request(cluster, 1, REQUEST_GET, "k", NULL);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, first), "STORED");
    EXPECT_TEXT(cluster_reply(cluster, second), "STORED");
    EXPECT_TEXT(cluster_reply(cluster, third), "STORED");
    EXPECT_TEXT(cluster->replies[get].value, "3");
    EXPECT_TEXT(
        cluster->trace,
        "1>2 INV k\n1>3 INV k\n2>1 ACK \n3>1 ACK \n"
        "1>2 VAL k\n1>3 VAL k\n1>2 INV k\n1>3 INV k\n2>1 ACK \n3>1 ACK \n1>2 VAL k\n1>3 VAL k\n");
    cluster_close(cluster);
}

TEST(write, beyond_the_limit_waits_and_is_done_in_the_end)
{
    struct cluster *cluster = cluster_open();
    char keys[40][16];
    for (int i = 0; i < 40; i++) {
        snprintf(keys[i], sizeof(keys[i]), "k%d", i);
        cluster_request(cluster, 2, REQUEST_SET, keys[i], "v");
    }
    cluster_settle(cluster);
    cluster_tick(cluster, 10000);
    cluster_settle(cluster);
    cluster_tick(cluster, 10000);
    cluster_settle(cluster);
    for (unsigned i = 0; i < 40; i++)
        EXPECT_TEXT(cluster_reply(cluster, i), "STORED");
    cluster_close(cluster);
}

/* Goal: who waits when the group is lost is told, and told the truth. */
TEST(stall, what_was_begun_is_unknown_and_what_waited_was_not_applied)
{
    struct cluster *cluster = cluster_open();
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    unsigned get = cluster_request(cluster, 1, REQUEST_GET, "k", NULL);
    unsigned add = cluster_request(cluster, 1, REQUEST_ADD, "k", "w");
    cluster_stalled(cluster, 1);
    EXPECT_TEXT(cluster_reply(cluster, set), "UNKNOWN");
    EXPECT_TEXT(cluster_reply(cluster, get), "REFUSED");
    EXPECT_TEXT(cluster_reply(cluster, add), "REFUSED");
    cluster_settle(cluster);
    for (unsigned node = 1; node <= 3; node++)
        EXPECT_TEXT(cluster_get(cluster, node, "k"), "v"); /* it goes on */
    cluster_close(cluster);
}

/* Its value was only in the request, which the client has got back. */
TEST(stall, a_write_that_was_overtaken_is_forgotten)
{
    for (unsigned late = 0; late <= 1; late++) {
        struct cluster *cluster = cluster_open();
        unsigned first = cluster_request(cluster, 1, REQUEST_SET, "k", "old");
        cluster_request(cluster, 3, REQUEST_SET, "k", "new");
        if (late == 0)
            EXPECT(cluster_deliver(cluster, 3, 1));
        cluster_stalled(cluster, 1);
        EXPECT_TEXT(cluster_reply(cluster, first), "UNKNOWN");
        if (late == 1)
            EXPECT(cluster_deliver(cluster, 3, 1));
        cluster_up(cluster, 1, 2); /* it would be sent again */
        cluster_install_all(cluster, 2, 7, 0);
        cluster_settle(cluster);
        for (unsigned node = 1; node <= 3; node++)
            EXPECT_TEXT(cluster_get(cluster, node, "k"), "new");
        cluster_close(cluster);
    }
}

TEST(stall, a_read_modify_write_may_still_win_or_lose)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 2, REQUEST_SET, "n", "10");
    cluster_settle(cluster);
    unsigned incr = cluster_request(cluster, 1, REQUEST_INCR, "n", NULL);
    cluster_stalled(cluster, 1);
    EXPECT_TEXT(cluster_reply(cluster, incr), "UNKNOWN");
    unsigned other = cluster_request(cluster, 3, REQUEST_INCR, "n", NULL);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, other), "NUMBER");
    char found[16];
    snprintf(found, sizeof(found), "%s", cluster_get(cluster, 2, "n"));
    EXPECT(strcmp(found, "11") == 0 || strcmp(found, "12") == 0);
    EXPECT_TEXT(cluster_get(cluster, 1, "n"), found);
    cluster_close(cluster);
}

/* Here the INV is lost; else a follower had no room for it. The other one asks for the VAL all the
 * time. */
TEST(write, an_inv_that_was_not_taken_comes_again_whoever_asks_meanwhile)
{
    struct cluster *cluster = cluster_open();
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_lose(cluster, 1, 2);
    for (unsigned i = 0; i < 60 && !cluster->replies[set].done; i++) {
        cluster_settle(cluster);
        cluster_tick(cluster, 60000);
    }
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    EXPECT(strstr(cluster->trace, "3>1 ASK k") != NULL);
    cluster_close(cluster);
}
