/* Goal: how nodes come to RDMA and away from it: joins that fail, foreigners at the listener,
 * devices that are missing or go away, and the way back to TCP. Method: nodes in one process on
 * devices without hardware (fake_verbs.h), whose misfortunes are chosen; at the end of each case
 * everything was given back (cluster_close()). */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "net/rdma_private.h"
#include "t/net_cluster.h"

enum { FOREIGNER = 8 /* device of nobody in the cluster */ };

/* ---- the connection ---- */

TEST(rdma_join, one_that_takes_too_long_begins_again)
{
    struct cluster cluster;
    cluster_prepare(&cluster, OVER_RDMA, 2, 1);
    for (unsigned id = 1; id <= 2; id++)
        cluster.nodes[id].options.connect_ms = 50;
    fake_verbs_stall(1, true);
    node_open(&cluster, 1);
    node_open(&cluster, 2);
    RUN_UNTIL(&cluster, stats_of(&cluster, 2, 1).failures >= 2);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->ups, 0);
    /* The next may take as long as a busy machine needs. */
    for (unsigned id = 1; id <= 2; id++)
        cluster.nodes[id].net->options.connect_ms = 8000;
    fake_verbs_stall(1, false);
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster_run(&cluster, 50);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->ups, 1);
    cluster_close(&cluster);
}

TEST(rdma_join, knows_the_secret)
{
    struct cluster cluster;
    cluster_prepare(&cluster, OVER_RDMA, 2, 2);
    for (unsigned id = 1; id <= 2; id++)
        cluster.nodes[id].options.secret = "only we know";
    node_open(&cluster, 1);
    node_open(&cluster, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    RUN_UNTIL(&cluster, stats_of(&cluster, 1, 2).rdma);
    cluster_close(&cluster);
}

struct foreigner {
    const struct rdma_api *api;
    struct rdma_event_channel *channel;
    struct rdma_cm_id *id;
    struct ibv_pd *pd;
    struct ibv_cq *cq;
};

static int foreigner_event(struct cluster *cluster, struct foreigner *foreigner)
{
    struct rdma_cm_event *event;
    struct patience patience = {0};
    while (foreigner->api->rdma_get_cm_event(foreigner->channel, &event) != 0) {
        if (patience_ended(&patience))
            return -1;
        cluster_turn(cluster);
    }
    int type = event->event;
    foreigner->api->rdma_ack_cm_event(event);
    return type;
}

/* Somebody who may reach the listener asks for a queue pair with `size` bytes of private data. */
static void foreigner_calls(struct cluster *cluster, struct foreigner *foreigner, const void *data,
                            uint8_t size)
{
    const struct rdma_api *api = fake_verbs_of(FOREIGNER);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(cluster->nodes[1].net->rdma->port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct rdma_conn_param param = {.private_data = data, .private_data_len = size};
    uint8_t timeout = 14;
    foreigner->api = api;
    foreigner->channel = api->rdma_create_event_channel();
    fcntl(foreigner->channel->fd, F_SETFL, O_NONBLOCK);
    api->rdma_create_id(foreigner->channel, &foreigner->id, NULL, RDMA_PS_TCP);
    EXPECT_EQ(api->rdma_resolve_addr(foreigner->id, NULL, (struct sockaddr *)&to, 100), 0);
    EXPECT_EQ(foreigner_event(cluster, foreigner), RDMA_CM_EVENT_ADDR_RESOLVED);
    EXPECT_EQ(api->rdma_resolve_route(foreigner->id, 100), 0);
    EXPECT_EQ(foreigner_event(cluster, foreigner), RDMA_CM_EVENT_ROUTE_RESOLVED);
    foreigner->pd = api->ibv_alloc_pd(foreigner->id->verbs);
    foreigner->cq = api->ibv_create_cq(foreigner->id->verbs, 4, NULL, NULL, 0);
    struct ibv_qp_init_attr attr = {.send_cq = foreigner->cq,
                                    .recv_cq = foreigner->cq,
                                    .cap = {.max_send_wr = 1, .max_recv_wr = 1},
                                    .qp_type = IBV_QPT_RC};
    EXPECT_EQ(api->rdma_create_qp(foreigner->id, foreigner->pd, &attr), 0);
    api->rdma_set_option(foreigner->id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, 1);
    EXPECT_EQ(api->rdma_connect(foreigner->id, &param), 0);
}

static void foreigner_leaves(struct foreigner *foreigner)
{
    foreigner->api->rdma_destroy_qp(foreigner->id);
    foreigner->api->rdma_destroy_id(foreigner->id);
    foreigner->api->ibv_destroy_cq(foreigner->cq);
    foreigner->api->ibv_dealloc_pd(foreigner->pd);
    foreigner->api->rdma_destroy_event_channel(foreigner->channel);
}

/* A join of `from` for `lane`, of a greeting that never was. */
static struct hello_join made_up_join(uint8_t from, uint16_t lane)
{
    return (struct hello_join){
        .magic = HELLO_JOIN_MAGIC, .from = from, .to = 1, .lane = lane, .nonce = "guessed"};
}

TEST(rdma_join, refuses_who_was_not_greeted)
{
    struct cluster cluster;
    struct hello_join joins[] = {made_up_join(2, 0), made_up_join(2, 1),   made_up_join(2, 2),
                                 made_up_join(2, 9), made_up_join(0, 0),   made_up_join(1, 0),
                                 made_up_join(7, 0), made_up_join(255, 0), made_up_join(2, 0)};
    unsigned count = sizeof(joins) / sizeof(joins[0]);
    joins[count - 1].magic++;
    cluster_open(&cluster, OVER_RDMA, 2, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    for (unsigned i = 0; i <= count; i++) {
        struct foreigner foreigner;
        foreigner_calls(&cluster, &foreigner, &joins[i % count], i < count ? sizeof(joins[0]) : 0);
        EXPECT_EQ(foreigner_event(&cluster, &foreigner), RDMA_CM_EVENT_REJECTED);
        foreigner_leaves(&foreigner);
    }
    cluster_run(&cluster, 50);
    EXPECT_EQ(net_refused_any(cluster.nodes[1].net), count + 1);
    EXPECT_EQ(cluster.nodes[1].line_count, 2);
    EXPECT(
        has_line(&cluster.nodes[1], "refused a queue pair (127.0.0.1): no greeting waits for it"));
    EXPECT(has_line(&cluster.nodes[1], "refused a queue pair (127.0.0.1): it does not speak"));
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->downs + seen_by(&cluster, 1, 1, 2)->downs, 0);
    cluster_close(&cluster);
}

/* While a greeted peer is on its way, its place is not for others. */
TEST(rdma_join, keeps_the_place_of_a_greeted_peer)
{
    struct cluster cluster;
    struct hello_join join = made_up_join(2, 0);
    cluster_prepare(&cluster, OVER_RDMA, 2, 1);
    fake_verbs_stall(2, true);
    node_open(&cluster, 1);
    node_open(&cluster, 2);
    RUN_UNTIL(&cluster, cluster.nodes[1].seats[0].lane->links[2].state == LINK_JOINING);
    struct foreigner foreigner;
    foreigner_calls(&cluster, &foreigner, &join, sizeof(join));
    EXPECT_EQ(foreigner_event(&cluster, &foreigner), RDMA_CM_EVENT_REJECTED);
    foreigner_leaves(&foreigner);
    fake_verbs_stall(2, false);
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster_close(&cluster);
}

/* The greeting's socket has the address that the route to the peer gave it, here 127.0.0.1, which
 * is another device's; the node's own address in --peers is what counts. */
static void prepare_own_addresses(struct cluster *cluster, const char *const hosts[2])
{
    struct fake_settings settings = fake_settings_default();
    cluster_prepare(cluster, OVER_RDMA, 2, 2);
    settings.loopback_device = FOREIGNER;
    fake_verbs_set(&settings);
    for (unsigned id = 1; id <= 2; id++)
        for (unsigned i = 0; i < 2; i++)
            cluster->nodes[id].options.peers[i].host = hosts[i];
}

TEST(rdma_join, calls_from_the_nodes_own_address_whatever_the_route_is)
{
    struct cluster cluster;
    prepare_own_addresses(&cluster, (const char *const[]){"127.0.1.1", "127.0.1.2"});
    node_open(&cluster, 1);
    node_open(&cluster, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    RUN_UNTIL(&cluster, stats_of(&cluster, 1, 2).rdma && stats_of(&cluster, 2, 1).rdma);
    cluster_close(&cluster);
}

/* No device of this machine has it: a start says so. */
TEST(rdma_join, a_node_whose_address_is_of_no_device_has_none)
{
    struct cluster cluster;
    prepare_own_addresses(&cluster, (const char *const[]){"127.0.1.1", "127.0.2.2"});
    EXPECT_EQ(net_open(&cluster.nodes[2].options, &cluster.nodes[2].net), STATUS_NOT_FOUND);
    EXPECT(has_chosen(&cluster.nodes[2], "no RDMA device has the address 127.0.2.2"));
    cluster.nodes[2].net = NULL;
    cluster_close(&cluster);
}

/* Who calls and goes away at once, or never answers, leaves nothing. */
TEST(rdma_join, forgets_a_caller_that_left)
{
    struct cluster cluster;
    struct hello_join join = made_up_join(2, 0);
    open_connected(&cluster, OVER_SLOW_RDMA, 2);
    unsigned ids = counted().ids;
    for (unsigned i = 0; i < 20; i++) {
        struct foreigner foreigner;
        foreigner_calls(&cluster, &foreigner, &join, sizeof(join));
        for (unsigned j = 0; j < i; j++)
            fake_verbs_run();
        foreigner_leaves(&foreigner);
    }
    RUN_UNTIL(&cluster, counted().ids == ids);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->downs, 0);
    cluster_close(&cluster);
}

TEST(rdma_join, a_new_incarnation_or_a_fence_ends_queue_pairs_too)
{
    struct cluster cluster;
    open_connected(&cluster, OVER_RDMA, 3);
    net_set_incarnation_any(cluster.nodes[2].net, 500);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->incarnation == 500 &&
                            seen_by(&cluster, 3, 0, 2)->incarnation == 500);
    net_fence_any(cluster.nodes[1].net, 2, 500);
    RUN_UNTIL(&cluster, !net_is_up(cluster.nodes[1].seats[0].lane, 2));
    cluster_run(&cluster, 200);
    EXPECT(!net_is_up(cluster.nodes[1].seats[0].lane, 2));
    EXPECT(net_is_up(cluster.nodes[3].seats[0].lane, 2));
    net_set_incarnation_any(cluster.nodes[2].net, 501);
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster_close(&cluster);
}

/* ---- devices, and the way back to TCP ---- */

static void prepare_auto(struct cluster *cluster, enum transport over, unsigned node_count)
{
    cluster_prepare(cluster, over, node_count, 1);
    for (unsigned id = 1; id <= node_count; id++)
        cluster->nodes[id].options.choice = NET_CHOOSE_AUTO;
}

TEST(rdma_choice, auto_takes_rdma_with_each_peer_that_has_it)
{
    struct cluster cluster;
    prepare_auto(&cluster, OVER_RDMA, 3);
    fake_verbs_remove(2); /* before it is asked for */
    for (unsigned id = 1; id <= 3; id++)
        node_open(&cluster, id);
    EXPECT(has_chosen(&cluster.nodes[2], "no RDMA device"));
    EXPECT(does(&cluster.nodes[2], "tcp: "));
    EXPECT(does(&cluster.nodes[1], "rdma: "));
    RUN_UNTIL(&cluster, all_up(&cluster));
    RUN_UNTIL(&cluster, stats_of(&cluster, 1, 3).rdma && stats_of(&cluster, 3, 1).rdma);
    EXPECT(!stats_of(&cluster, 1, 2).rdma && !stats_of(&cluster, 2, 3).rdma);
    uint32_t sent = 0;
    send_some(&cluster, 1, 2, &sent, 10, LARGE);
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == 10);
    cluster_close(&cluster);
}

TEST(rdma_choice, auto_goes_on_over_tcp_where_joins_fail)
{
    struct cluster cluster;
    prepare_auto(&cluster, OVER_RDMA, 2);
    for (unsigned id = 1; id <= 2; id++)
        cluster.nodes[id].options.connect_ms = 50;
    fake_verbs_stall(1, true);
    node_open(&cluster, 1);
    node_open(&cluster, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    RUN_UNTIL(&cluster, stats_of(&cluster, 2, 1).failures >= JOIN_FAILURES_MAX);
    RUN_UNTIL(&cluster, !stats_of(&cluster, 2, 1).rdma);
    EXPECT(has_chosen(&cluster.nodes[2], "tcp for now"));
    cluster_close(&cluster);
}

TEST(rdma_choice, rdma_alone_refuses_to_start_without_a_device)
{
    struct cluster cluster;
    cluster_prepare(&cluster, OVER_RDMA, 2, 1);
    fake_verbs_remove(1);
    EXPECT_EQ(net_open(&cluster.nodes[1].options, &cluster.nodes[1].net), STATUS_NOT_FOUND);
    EXPECT(has_chosen(&cluster.nodes[1], "no RDMA device has the address 127.0.0.1"));
    cluster.nodes[1].net = NULL;
    cluster_close(&cluster);
}

/* The limit of locked memory, of this process; false: more than it may have. */
static bool set_locked(rlim_t bytes)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return false;
    limit.rlim_cur = bytes;
    if (limit.rlim_max < bytes)
        limit.rlim_max = bytes; /* Root may. */
    return setrlimit(RLIMIT_MEMLOCK, &limit) == 0;
}

/* What node 1 says when the first registration fails. */
static void fail_to_register(struct cluster *cluster)
{
    struct fake_settings settings = fake_settings_default();
    struct cluster_node *node = &cluster->nodes[1];
    settings.fail_reg_mr = 1;
    fake_verbs_set(&settings);
    EXPECT_EQ(net_open(&node->options, &node->net), STATUS_NOT_FOUND);
    node->net = NULL;
}

TEST(rdma_choice, names_the_limit_of_locked_memory_if_there_is_one)
{
    struct cluster cluster;
    struct rlimit before;
    ASSERT(getrlimit(RLIMIT_MEMLOCK, &before) == 0);
    cluster_prepare(&cluster, OVER_RDMA, 2, 1);
    ASSERT(set_locked(65536));
    fail_to_register(&cluster);
    EXPECT(has_chosen(&cluster.nodes[1], "is 64 KB: set LimitMEMLOCK=infinity in the unit, or "
                                         "ulimit -l unlimited"));
    if (set_locked(RLIM_INFINITY)) {
        fail_to_register(&cluster);
        EXPECT(has_chosen(&cluster.nodes[1], "cannot be registered with fake1: Cannot allocate"));
        EXPECT(!has_chosen(&cluster.nodes[1], "limit"));
    }
    (void)set_locked(before.rlim_cur);
    cluster_close(&cluster);
}

TEST(rdma_choice, says_what_to_set_when_memory_cannot_be_registered)
{
    struct cluster cluster;
    struct fake_settings settings = fake_settings_default();
    ASSERT(set_locked(65536));
    cluster_prepare(&cluster, OVER_RDMA, 2, 1);
    struct cluster_node *node = &cluster.nodes[1];
    for (unsigned nth = 1; nth <= 3; nth++) {
        settings.fail_reg_mr = nth;
        fake_verbs_set(&settings);
        EXPECT_EQ(net_open(&node->options, &node->net), STATUS_NOT_FOUND);
        EXPECT(has_chosen(node, "LimitMEMLOCK=infinity"));
        check_devices();
        settings.fail_reg_mr = nth;
        fake_verbs_set(&settings);
        node->options.choice = NET_CHOOSE_AUTO;
        node_open(&cluster, 1);
        EXPECT(has_chosen(node, "LimitMEMLOCK=infinity"));
        EXPECT(does(node, "tcp: "));
        EXPECT_EQ(net_registered_any(node->net), 0);
        node_close(&cluster, 1);
        node->options.choice = NET_CHOOSE_RDMA;
    }
    node->net = NULL;
    cluster_close(&cluster);
}

/* A removed device may flush nothing: nobody may wait for it. */
static void lose_device(bool silent, enum net_choice choice)
{
    struct cluster cluster;
    struct fake_settings settings = fake_settings_default();
    uint32_t sent = 0;
    cluster_prepare(&cluster, OVER_RDMA, 3, 1);
    settings.silent_removal = silent;
    fake_verbs_set(&settings);
    for (unsigned id = 1; id <= 3; id++) {
        cluster.nodes[id].options.choice = choice;
        node_open(&cluster, id);
    }
    RUN_UNTIL(&cluster, all_up(&cluster));
    send_some(&cluster, 2, 1, &sent, 5, LARGE);
    net_flush(cluster.nodes[2].seats[0].lane);
    fake_verbs_remove(2);
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->downs == 1);
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 3)->downs == 1);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->downs == 1);
    EXPECT(has_chosen(&cluster.nodes[2], "RDMA device"));
    EXPECT_EQ(seen_by(&cluster, 1, 0, 3)->downs, 0);
    if (choice == NET_CHOOSE_AUTO) {
        RUN_UNTIL(&cluster, all_up(&cluster));
        RUN_UNTIL(&cluster, !stats_of(&cluster, 2, 1).rdma && !stats_of(&cluster, 2, 3).rdma);
        sent = 0;
        send_some(&cluster, 2, 1, &sent, 5, LARGE);
        unsigned before = seen_by(&cluster, 1, 0, 2)->messages;
        RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->messages == before + 5);
    } else {
        cluster_run(&cluster, 300);
        EXPECT(!net_is_up(cluster.nodes[2].seats[0].lane, 1));
    }
    EXPECT_EQ(seen_by(&cluster, 1, 0, 3)->downs, 0);
    cluster_close(&cluster);
}

/* The descriptors of a device that is gone stay readable for ever: who goes on watching them does
 * nothing else any more. */
TEST(rdma_choice, a_device_that_is_removed_is_not_watched_any_more)
{
    struct cluster cluster;
    open_connected(&cluster, OVER_RDMA, 2);
    fake_verbs_remove(1);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->downs == 1);
    cluster_run(&cluster, 50);
    uint64_t before = counted().hang_ups;
    cluster_run(&cluster, 100);
    EXPECT_EQ(counted().hang_ups, before);
    cluster_close(&cluster);
}

static bool fell(const struct net_stats *before, const struct net_stats *after)
{
    return after->frames_in < before->frames_in || after->frames_out < before->frames_out ||
           after->messages_in < before->messages_in || after->bytes_in < before->bytes_in ||
           after->messages_out < before->messages_out || after->bytes_out < before->bytes_out;
}

/* What is counted goes on over the other transport. */
TEST(rdma_choice, counters_of_a_peer_never_fall)
{
    struct cluster cluster;
    uint32_t sent = 0;
    prepare_auto(&cluster, OVER_RDMA, 2);
    node_open(&cluster, 1);
    node_open(&cluster, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    for (unsigned i = 0; i < 20; i++) {
        send_some(&cluster, 1, 2, &sent, 1, i == 7 ? LARGE : 1000);
        net_flush(cluster.nodes[1].seats[0].lane);
    }
    RUN_UNTIL(&cluster, stats_of(&cluster, 2, 1).messages_in == 20);
    cluster_run(&cluster, 50);
    struct net_stats sender = stats_of(&cluster, 1, 2), receiver = stats_of(&cluster, 2, 1);
    EXPECT_EQ(sender.messages_out, 20);
    fake_verbs_remove(1);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->ups == 2);
    sent = 0;
    send_some(&cluster, 1, 2, &sent, 1, 1000);
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == 21);
    cluster_run(&cluster, 50);
    struct net_stats sender_now = stats_of(&cluster, 1, 2), now = stats_of(&cluster, 2, 1);
    EXPECT(!sender_now.rdma);
    EXPECT(sender.credits > 0);
    EXPECT_EQ(sender_now.credits, 0);
    EXPECT(!fell(&sender, &sender_now));
    EXPECT(!fell(&receiver, &now));
    EXPECT_EQ(sender_now.messages_out, 21);
    EXPECT_EQ(now.messages_in, 21);
    EXPECT(sender_now.frames_out - sender.frames_out < 20);
    EXPECT(sender_now.bytes_out - sender.bytes_out < 10000);
    cluster_close(&cluster);
}

TEST(rdma_choice, a_device_that_is_removed_ends_its_connections_only)
{
    lose_device(false, NET_CHOOSE_RDMA);
    lose_device(true, NET_CHOOSE_RDMA);
}

TEST(rdma_choice, auto_goes_on_over_tcp_when_the_device_is_removed)
{
    lose_device(false, NET_CHOOSE_AUTO);
    lose_device(true, NET_CHOOSE_AUTO);
}
