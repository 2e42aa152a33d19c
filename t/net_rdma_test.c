/* Goal: what only RDMA can do wrong: credits, staging, completions with an error, queue pairs that
 * fail, polling. Method: nodes in one
 * process on devices without hardware (fake_verbs.h), whose misfortunes are chosen; at the end of
 * each case everything was given back and no receive was ever missing (cluster_close()). */
#include <errno.h>

#include "base/prng.h"
#include "net/rdma_private.h"
#include "t/net_cluster.h"

/* ---- credits and staging ---- */

/* No receive is ever missing: a queue pair without rnr_retry would end at once. */
TEST(rdma_credit, frames_wait_for_receives_of_a_lane_that_hangs)
{
    struct cluster cluster;
    uint32_t sent = 0;
    open_connected(&cluster, OVER_RDMA, 2);
    cluster_run(&cluster, 50);
    uint64_t sends = counted().sends;
    for (unsigned i = 0; i < 500; i++) {
        send_some(&cluster, 1, 2, &sent, 1, 500);
        seat_turn(&cluster.nodes[1].seats[0]);
    }
    EXPECT_EQ(sent, 500);
    EXPECT(counted().sends - sends <= RDMA_RECEIVE_COUNT);
    EXPECT(counted().sends - sends > 0);
    EXPECT(seen_by(&cluster, 2, 0, 1)->messages == 0);
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == sent);
    RUN_UNTIL(&cluster, stats_of(&cluster, 1, 2).stalls > 0);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->downs, 0);
    EXPECT_EQ(stats_of(&cluster, 1, 2).not_ready, 0);
    cluster_close(&cluster);
}

/* Each side waits for what the other holds: grants must pass. */
TEST(rdma_credit, storms_both_ways_do_not_lock_each_other)
{
    struct cluster cluster;
    uint32_t sent[3] = {0};
    open_connected(&cluster, OVER_SLOW_RDMA, 2);
    for (unsigned round = 0; round < 400; round++) {
        for (unsigned id = 1; id <= 2; id++) {
            send_some(&cluster, id, 3 - id, &sent[id], 3, 3000);
            seat_turn(&cluster.nodes[id].seats[0]);
        }
    }
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == sent[1]);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->messages == sent[2]);
    EXPECT(sent[1] == 1200 && sent[2] == 1200);
    cluster_close(&cluster);
}

TEST(rdma_credit, heartbeats_pass_by_what_is_held)
{
    struct cluster cluster;
    uint32_t sent = 0;
    open_connected(&cluster, OVER_RDMA, 2);
    struct seat *seat = &cluster.nodes[2].seats[0];
    seat->hold_at = 1;
    for (unsigned i = 0; i < 200; i++) {
        send_some(&cluster, 1, 2, &sent, 1, 7000);
        seat_turn(&cluster.nodes[1].seats[0]);
    }
    RUN_UNTIL(&cluster, stats_of(&cluster, 1, 2).stalls > 0);
    uint64_t heard = net_heard_ns_any(cluster.nodes[2].net, 1);
    RUN_UNTIL(&cluster, net_heard_ns_any(cluster.nodes[2].net, 1) > heard + 200000000);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->messages, 1);
    seat->hold_at = 0;
    net_resume(seat->lane, 1);
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == sent);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->downs, 0);
    cluster_close(&cluster);
}

/* One payload lies in the staging at a time; the next is copied when that one was read. READs take
 * their bytes at completion: a staging used again too early would be found. */
TEST(rdma_staging, large_messages_wait_until_the_last_was_pulled)
{
    struct cluster cluster;
    uint32_t sent = 0;
    open_connected(&cluster, OVER_SLOW_RDMA, 2);
    for (unsigned i = 0; i < 20; i++) {
        send_some(&cluster, 1, 2, &sent, 1, LARGE);
        send_some(&cluster, 1, 2, &sent, 1, 50);
        net_flush(cluster.nodes[1].seats[0].lane);
    }
    uint64_t reads = counted().reads;
    EXPECT(reads <= 1);
    struct seen *seen = seen_by(&cluster, 2, 0, 1);
    RUN_UNTIL(&cluster, seen->messages == sent || seen->downs > 0);
    EXPECT_EQ(seen->downs, 0);
    RUN_UNTIL(&cluster, stats_of(&cluster, 2, 1).pulls == 20);
    EXPECT(stats_of(&cluster, 2, 1).pulled_bytes >= 20 * LARGE);
    EXPECT(stats_of(&cluster, 1, 2).stalls > 0);
    cluster_close(&cluster);
}

TEST(rdma_staging, memory_is_registered_once_and_bounded)
{
    struct cluster cluster;
    uint32_t sent = 0;
    open_connected(&cluster, OVER_RDMA, 3);
    uint64_t registered = counted().registered;
    EXPECT_EQ(registered, net_registered_any(cluster.nodes[1].net) * 3);
    for (unsigned i = 0; i < 10; i++) {
        send_some(&cluster, 1, 2, &sent, 4, MESSAGE_MAX);
        cluster_turn(&cluster);
    }
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == sent);
    EXPECT_EQ(counted().registered_max, registered);
    cluster_close(&cluster);
}

/* ---- queue pairs that fail ---- */

TEST(rdma_failure, error_completions_end_a_connection_once_and_it_comes_again)
{
    static const enum ibv_wc_status statuses[] = {IBV_WC_RETRY_EXC_ERR, IBV_WC_RNR_RETRY_EXC_ERR,
                                                  IBV_WC_LOC_PROT_ERR, IBV_WC_WR_FLUSH_ERR,
                                                  IBV_WC_GENERAL_ERR};
    struct cluster cluster;
    open_connected(&cluster, OVER_SLOW_RDMA, 2);
    struct fake_counters before = counted();
    struct seen *one = seen_by(&cluster, 1, 0, 2), *two = seen_by(&cluster, 2, 0, 1);
    for (unsigned i = 0; i < 5; i++) {
        uint32_t sent = 0;
        send_some(&cluster, 1, 2, &sent, 20, 100);
        net_flush(cluster.nodes[1].seats[0].lane);
        EXPECT(fake_verbs_break(0, statuses[i]));
        RUN_UNTIL(&cluster, one->downs == i + 1 && two->downs == i + 1);
        RUN_UNTIL(&cluster, one->ups == i + 2 && two->ups == i + 2);
    }
    cluster_run(&cluster, 100);
    EXPECT(one->downs == 5 && two->downs == 5);
    RUN_UNTIL(&cluster, stats_of(&cluster, 1, 2).retries == 1);
    EXPECT_EQ(stats_of(&cluster, 1, 2).not_ready, 1);
    /* Nothing of the five is left. */
    RUN_UNTIL(&cluster, counted().qps == before.qps && counted().ids == before.ids);
    cluster_close(&cluster);
}

/* Only one end breaks, and it tells nobody: what the other sends next ends with "retries". */
TEST(rdma_failure, an_end_that_broke_silently_is_noticed_by_the_next_frame)
{
    struct cluster cluster;
    open_connected(&cluster, OVER_RDMA, 2);
    struct seen *one = seen_by(&cluster, 1, 0, 2), *two = seen_by(&cluster, 2, 0, 1);
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
    struct ibv_qp *qp = cluster.nodes[1].seats[0].lane->links[2].rdma->id->qp;
    EXPECT_EQ(fake_verbs.ibv_modify_qp(qp, &attr, IBV_QP_STATE), 0);
    RUN_UNTIL(&cluster, one->downs == 1 && two->downs == 1);
    RUN_UNTIL(&cluster, one->ups == 2 && two->ups == 2);
    cluster_close(&cluster);
}

/* They lie in the completion queue until it is polled, here until the next queue pair is up. */
TEST(rdma_failure, completions_of_an_older_queue_pair_are_ignored)
{
    struct cluster cluster;
    open_connected(&cluster, OVER_POLLED_RDMA, 2);
    cluster_run(&cluster, 50);
    struct seat *dialler = &cluster.nodes[2].seats[0];
    struct seen *seen = seen_by(&cluster, 2, 0, 1);
    net_drop(dialler->lane, 1, "the test wants it");
    for (struct patience patience = {0}; seen->ups < 2 && !patience_ended(&patience);) {
        event_base_loop(dialler->base, EVLOOP_NONBLOCK);
        seat_turn(&cluster.nodes[1].seats[0]);
    }
    EXPECT_EQ(seen->ups, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster_run(&cluster, 50);
    EXPECT_EQ(seen->downs, 1);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->downs, 1);
    cluster_close(&cluster);
}

/* The staging may be used again only when the queue pair is destroyed; the sink too. */
TEST(rdma_failure, a_connection_that_ends_while_a_read_runs_harms_nothing)
{
    struct cluster cluster;
    unsigned running = 0;
    for (unsigned seed = 1; seed <= 10; seed++) {
        open_connected(&cluster, OVER_SLOW_RDMA, 2);
        struct seen *seen = seen_by(&cluster, 2, 0, 1);
        struct fake_settings settings = fake_settings_default();
        settings.delay = 40;
        settings.seed = seed;
        fake_verbs_set(&settings);
        uint32_t sent = 0;
        send_some(&cluster, 1, 2, &sent, 3, LARGE);
        net_flush(cluster.nodes[1].seats[0].lane);
        RUN_UNTIL(&cluster, counted().reads > 0);
        running += seen->messages == 0;
        EXPECT(fake_verbs_break(0, IBV_WC_RETRY_EXC_ERR));
        RUN_UNTIL(&cluster, seen->downs == 1 && seen_by(&cluster, 1, 0, 2)->downs == 1);
        RUN_UNTIL(&cluster, all_up(&cluster));
        unsigned before = seen->messages;
        sent = 0;
        send_some(&cluster, 1, 2, &sent, 3, LARGE);
        RUN_UNTIL(&cluster, seen->messages == before + 3);
        cluster_close(&cluster);
    }
    EXPECT(running > 0);
}

TEST(rdma_failure, damaged_bytes_end_the_connection_and_are_told)
{
    struct cluster cluster;
    for (unsigned nth = 1; nth <= 3; nth++) {
        open_connected(&cluster, OVER_RDMA, 2);
        cluster_run(&cluster, 30);
        struct seen *seen = seen_by(&cluster, 2, 0, 1);
        struct fake_settings settings = fake_settings_default();
        settings.seed = nth;
        settings.damage = nth; /* a frame or what it says is to be pulled */
        fake_verbs_set(&settings);
        uint32_t sent = 0;
        send_some(&cluster, 1, 2, &sent, 1, LARGE);
        RUN_UNTIL(&cluster, seen->downs + seen_by(&cluster, 1, 0, 2)->downs == 2);
        RUN_UNTIL(&cluster, all_up(&cluster));
        EXPECT(cluster.nodes[1].line_count + cluster.nodes[2].line_count > 0);
        cluster_close(&cluster);
    }
}

TEST(rdma_failure, a_queue_pair_that_cannot_be_made_is_tried_again)
{
    struct cluster cluster;
    struct fake_settings settings = fake_settings_default();
    for (unsigned nth = 1; nth <= 8; nth++) { /* each asks for less and less inline */
        cluster_prepare(&cluster, OVER_RDMA, 2, 1);
        settings.fail_qp = nth;
        settings.inline_max = 100;
        fake_verbs_set(&settings);
        node_open(&cluster, 1);
        node_open(&cluster, 2);
        RUN_UNTIL(&cluster, all_up(&cluster));
        cluster_close(&cluster);
    }
}

static unsigned refusing; /* calls that a device still answers with ENOMEM */
static struct ibv_context_ops real;

static int post_send_or_refuse(struct ibv_qp *qp, struct ibv_send_wr *first,
                               struct ibv_send_wr **failed)
{
    if (refusing == 0)
        return real.post_send(qp, first, failed);
    refusing--;
    *failed = first;
    return ENOMEM;
}

static int post_recv_or_refuse(struct ibv_qp *qp, struct ibv_recv_wr *first,
                               struct ibv_recv_wr **failed)
{
    if (refusing == 0)
        return real.post_recv(qp, first, failed);
    refusing--;
    *failed = first;
    return ENOMEM;
}

/* What node 1's device refuses is not tried again on that queue pair: the next one is new. */
static void refuse_posts(bool sends, unsigned times, uint32_t size)
{
    struct cluster cluster;
    uint32_t sent = 0;
    open_connected(&cluster, OVER_RDMA, 2);
    cluster_run(&cluster, 30);
    struct ibv_context_ops *ops = &cluster.nodes[1].net->rdma->context->ops;
    real = *ops;
    refusing = times;
    if (sends)
        ops->post_send = post_send_or_refuse;
    else
        ops->post_recv = post_recv_or_refuse;
    for (unsigned i = 0; i < 100 && refusing == times; i++) {
        send_some(&cluster, 2, 1, &sent, 1, size); /* a large one is read by node 1 */
        cluster_turn(&cluster);
    }
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->downs == 1);
    RUN_UNTIL(&cluster, refusing == 0 && all_up(&cluster));
    EXPECT_TEXT(seen_by(&cluster, 1, 0, 2)->why,
                sends ? "the queue pair takes nothing more" : "RDMA: no receives can be posted");
    cluster_run(&cluster, 30);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->ups, 2);
    *ops = real;
    cluster_close(&cluster);
}

TEST(rdma_failure, posts_that_the_device_refuses_end_the_connection)
{
    refuse_posts(true, 1, LARGE);
    refuse_posts(true, 1, 100);
    refuse_posts(false, 1, 100);
    refuse_posts(false, 3, 100); /* those of the next queue pair, too */
}

TEST(rdma_failure, goes_without_inline_where_the_device_has_none)
{
    struct cluster cluster;
    uint32_t sent = 0;
    struct fake_settings settings = fake_settings_default();
    settings.inline_max = 0;
    cluster_prepare(&cluster, OVER_RDMA, 2, 1);
    fake_verbs_set(&settings);
    node_open(&cluster, 1);
    node_open(&cluster, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    send_some(&cluster, 1, 2, &sent, 100, 20);
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == 100);
    EXPECT_EQ(counted().inline_sends, 0);
    cluster_close(&cluster);
}

/* ---- polling ---- */

TEST(rdma_poll, asks_to_be_woken_only_before_sleeping)
{
    struct cluster cluster;
    uint32_t sent = 0;
    open_connected(&cluster, OVER_POLLED_RDMA, 2);
    cluster_run(&cluster, 50);
    struct fake_counters before = counted();
    send_some(&cluster, 1, 2, &sent, 100, 100);
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == sent);
    EXPECT_EQ(counted().arms, before.arms);
    EXPECT(counted().polls > before.polls);
    EXPECT_EQ(counted().cq_events, before.cq_events);
    struct seat *seat = &cluster.nodes[2].seats[0];
    /* What came after the last poll and before it asked raises no event. */
    send_some(&cluster, 1, 2, &sent, 1, 100);
    net_flush(cluster.nodes[1].seats[0].lane);
    EXPECT(!net_may_sleep(seat->lane));
    while (!net_may_sleep(seat->lane))
        (void)net_poll(seat->lane);
    EXPECT(counted().arms > before.arms);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->messages, sent);
    send_some(&cluster, 1, 2, &sent, 1, 100);
    net_flush(cluster.nodes[1].seats[0].lane);
    uint64_t began = now_ms();
    while (seen_by(&cluster, 2, 0, 1)->messages < sent && now_ms() < began + PATIENCE_MS)
        event_base_loop(seat->base, EVLOOP_ONCE);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->messages, sent);
    EXPECT(counted().cq_events > before.cq_events);
    cluster_close(&cluster);
}

/* ---- load ---- */

static struct cluster *fed;
static unsigned fed_polls, fed_number;

/* As often as node 2 looks, there is one more message of node 1. */
static int poll_and_feed(struct ibv_cq *cq, int count, struct ibv_wc *completions)
{
    if (fed_polls++ < 1000) {
        send_some(fed, 1, 2, &fed_number, 1, 100);
        event_base_loop(fed->nodes[1].seats[0].base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
        net_flush(fed->nodes[1].seats[0].lane);
    }
    return real.poll_cq(cq, count, completions);
}

/* Clients and timers are served, and answers flushed, however much a peer sends. */
TEST(rdma_load, a_peer_that_never_stops_does_not_keep_the_loop)
{
    struct cluster cluster;
    open_connected(&cluster, OVER_RDMA, 2);
    cluster_run(&cluster, 30);
    struct ibv_context_ops *ops = &cluster.nodes[2].net->rdma->context->ops;
    real = *ops;
    fed = &cluster;
    ops->poll_cq = poll_and_feed;
    send_some(&cluster, 1, 2, &fed_number, 1, 100);
    net_flush(cluster.nodes[1].seats[0].lane);
    for (unsigned turn = 1; turn <= 5; turn++) {
        event_base_loop(cluster.nodes[2].seats[0].base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
        EXPECT(fed_polls > 10 * turn);
        EXPECT(fed_polls < 100 * turn);
    }
    *ops = real;
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == fed_number);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->downs, 0);
    cluster_close(&cluster);
}

/* ---- all of it ---- */

static void misfortune(struct cluster *cluster, struct prng *prng)
{
    unsigned id = 1 + (unsigned)prng_below(prng, 3), peer = 1 + id % 3;
    switch (prng_below(prng, 40)) {
    case 0:
        (void)fake_verbs_break((unsigned)prng_below(prng, 4), IBV_WC_RETRY_EXC_ERR);
        break;
    case 1:
        net_drop(cluster->nodes[id].seats[0].lane, peer, "turmoil");
        break;
    case 2:
        fake_verbs_stall(id, true);
        break;
    case 3:
        cluster->nodes[id].seats[0].hold_at = 1 + (uint32_t)prng_below(prng, 30);
        break;
    case 4:
    case 5:
    case 6:
        fake_verbs_stall(id, false);
        break;
    case 7:
        net_set_incarnation_any(cluster->nodes[id].net, 1000 + now_ms());
        break;
    default:
        cluster->nodes[id].seats[0].hold_at = 0;
        net_resume(cluster->nodes[id].seats[0].lane, peer);
        break;
    }
}

static void send_in_turmoil(struct cluster *cluster, struct prng *prng, unsigned from, unsigned to)
{
    static uint32_t sent[4][4];
    static unsigned ups[4][4];
    struct seen *seen = seen_by(cluster, from, 0, to);
    if (ups[from][to] != seen->ups || seen->ups == seen->downs)
        sent[from][to] = 0; /* numbers begin again with each connection */
    ups[from][to] = seen->ups;
    size_t size = prng_chance(prng, 20) ? prng_below(prng, LARGE) : prng_below(prng, 3000);
    send_some(cluster, from, to, &sent[from][to], 1 + (unsigned)prng_below(prng, 4), 4 + size);
}

static bool has_seen_enough(struct cluster *cluster)
{
    unsigned messages = 0, downs = 0;
    for (unsigned id = 1; id <= 3; id++)
        for (unsigned peer = 1; peer <= 3; peer++) {
            messages += seen_by(cluster, id, 0, peer)->messages;
            downs += seen_by(cluster, id, 0, peer)->downs;
        }
    return messages > 100 && downs > 10;
}

/* What arrives is a prefix of what was sent on that connection (judged by net_cluster.h), whatever
 * breaks; and when nothing breaks any more, all are connected again. */
TEST(rdma_turmoil, keeps_the_contract)
{
    struct cluster cluster;
    struct patience patience = {0};
    struct prng prng = {.state = now_ms()};
    struct fake_settings settings = fake_settings_default();
    settings.seed = prng.state;
    settings.delay = 15;
    printf("# seed %llu\n", (unsigned long long)prng.state);
    cluster_prepare(&cluster, OVER_SLOW_RDMA, 3, 1);
    fake_verbs_set(&settings);
    for (unsigned id = 1; id <= 3; id++) {
        cluster.nodes[id].options.connect_ms = 200;
        node_open(&cluster, id);
    }
    uint64_t least = now_ms() + 3000;
    while (now_ms() < least || (!has_seen_enough(&cluster) && !patience_ended(&patience))) {
        misfortune(&cluster, &prng);
        unsigned from = 1 + (unsigned)prng_below(&prng, 3);
        send_in_turmoil(&cluster, &prng, from, 1 + from % 3);
        send_in_turmoil(&cluster, &prng, from, 1 + (from + 1) % 3);
        cluster_turn(&cluster);
    }
    for (unsigned id = 1; id <= 3; id++) {
        fake_verbs_stall(id, false);
        cluster.nodes[id].seats[0].hold_at = 0;
    }
    RUN_UNTIL(&cluster, all_up(&cluster));
    EXPECT(has_seen_enough(&cluster));
    cluster_close(&cluster);
}
