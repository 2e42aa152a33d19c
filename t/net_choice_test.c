/* Goal: two nodes take RDMA where both may and can, TCP where one may not or cannot and both may,
 * and otherwise say why they do not talk. Method: two nodes on devices without hardware
 * (fake_verbs.h), with each choice, and with devices that fail. */
#include "t/net_cluster.h"

enum { PAIR_QUEUE_TOO_SMALL = 8 }; /* no queue pair of ours fits */

static void prepare(struct cluster *cluster, enum net_choice first, enum net_choice second)
{
    cluster_prepare(cluster, OVER_RDMA, 2, 2);
    cluster->nodes[1].options.choice = first;
    cluster->nodes[2].options.choice = second;
}

static void set_queue_max(unsigned queue_max)
{
    struct fake_settings settings = fake_settings_default();
    settings.queue_max = queue_max;
    fake_verbs_set(&settings);
}

static void open_both(struct cluster *cluster)
{
    node_open(cluster, 1);
    node_open(cluster, 2);
}

static bool talk_over_rdma(struct cluster *cluster)
{
    bool first = net_is_rdma(cluster->nodes[1].seats[0].lane, 2);
    EXPECT_EQ(net_is_rdma(cluster->nodes[2].seats[0].lane, 1), first);
    EXPECT_EQ(net_is_rdma(cluster->nodes[1].seats[1].lane, 2), first);
    return first;
}

static bool takes_rdma(enum net_choice first, enum net_choice second)
{
    struct cluster cluster;
    prepare(&cluster, first, second);
    open_both(&cluster);
    RUN_UNTIL(&cluster, all_up(&cluster));
    bool rdma = talk_over_rdma(&cluster);
    cluster_close(&cluster);
    return rdma;
}

TEST(choice, is_rdma_where_both_may)
{
    EXPECT(takes_rdma(NET_CHOOSE_AUTO, NET_CHOOSE_AUTO));
    EXPECT(takes_rdma(NET_CHOOSE_AUTO, NET_CHOOSE_RDMA));
    EXPECT(takes_rdma(NET_CHOOSE_RDMA, NET_CHOOSE_RDMA));
}

TEST(choice, is_tcp_where_one_wants_no_other_and_the_other_may)
{
    EXPECT(!takes_rdma(NET_CHOOSE_AUTO, NET_CHOOSE_TCP));
    EXPECT(!takes_rdma(NET_CHOOSE_TCP, NET_CHOOSE_AUTO));
}

TEST(choice, with_nothing_in_common_is_refused_with_a_line_on_both_sides)
{
    struct cluster cluster;
    prepare(&cluster, NET_CHOOSE_TCP, NET_CHOOSE_RDMA);
    open_both(&cluster);
    RUN_UNTIL(&cluster, has_line(&cluster.nodes[1], "no transport in common") &&
                            has_line(&cluster.nodes[2], "no transport in common"));
    EXPECT(!net_is_up(cluster.nodes[1].seats[0].lane, 2));
    cluster_close(&cluster);
}

TEST(choice, without_a_device_is_tcp_or_refused_and_says_why)
{
    struct cluster cluster;
    struct fake_settings settings = fake_settings_default();
    prepare(&cluster, NET_CHOOSE_AUTO, NET_CHOOSE_RDMA);
    settings.no_device = true;
    fake_verbs_set(&settings);
    node_open(&cluster, 1);
    EXPECT(has_chosen(&cluster.nodes[1], "tcp: no RDMA device"));
    EXPECT_EQ(net_registered_any(cluster.nodes[1].net), 0);
    EXPECT_EQ(net_open(&cluster.nodes[2].options, &cluster.nodes[2].net), STATUS_NOT_FOUND);
    EXPECT(has_chosen(&cluster.nodes[2], "no RDMA device"));
    cluster_close(&cluster);
}

/* A fabric that does not work must not keep apart who may talk otherwise. */
TEST(choice, is_tcp_for_a_while_when_queue_pairs_do_not_come_about)
{
    struct cluster cluster;
    struct net_stats stats;
    prepare(&cluster, NET_CHOOSE_AUTO, NET_CHOOSE_AUTO);
    set_queue_max(PAIR_QUEUE_TOO_SMALL);
    open_both(&cluster);
    RUN_UNTIL(&cluster, all_up(&cluster));
    EXPECT(!talk_over_rdma(&cluster));
    EXPECT(has_chosen(&cluster.nodes[2], "tcp for now: RDMA: no queue pair"));
    cluster_run(&cluster, 100);
    net_stats_any(cluster.nodes[2].net, 0, 1, &stats);
    EXPECT_EQ(stats.failures, 3);
    cluster_close(&cluster);
}

TEST(choice, of_nothing_but_rdma_says_why_it_does_not_come_about_and_tries_on)
{
    struct cluster cluster;
    prepare(&cluster, NET_CHOOSE_RDMA, NET_CHOOSE_RDMA);
    set_queue_max(PAIR_QUEUE_TOO_SMALL);
    open_both(&cluster);
    RUN_UNTIL(&cluster, has_line(&cluster.nodes[2], "(127.0.0.1): RDMA: no queue pair"));
    EXPECT(has_line(&cluster.nodes[2], "no connection to node 1, lane "));
    EXPECT(!net_is_up(cluster.nodes[2].seats[0].lane, 1));
    set_queue_max(fake_settings_default().queue_max);
    RUN_UNTIL(&cluster, all_up(&cluster));
    EXPECT(talk_over_rdma(&cluster));
    cluster_close(&cluster);
}
