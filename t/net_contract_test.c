/* Goal: the contract of net.h over each transport: order, completeness, loss only with on_down,
 * hold, limits, liveness stamps. Method: two or three nodes in one process, driven turn by turn by
 * one thread; once with real threads, for TSan. Every message carries its number and a pattern,
 * checked at arrival (net_cluster.h). */
#include <stdatomic.h>

#include "base/prng.h"
#include "t/net_cluster.h"

#define CONTRACT_OVER(transport, suite, name)                                                      \
    TEST(suite, name)                                                                              \
    {                                                                                              \
        if ((transport) != OVER_DEVICE || device_address() != NULL)                                \
            contract_##name(transport);                                                            \
    }

/* A case that takes seconds: not over each kind of RDMA. */
#define LONG_CONTRACT(name)                                                                        \
    static void contract_##name(enum transport over);                                              \
    CONTRACT_OVER(OVER_TCP, tcp, name)                                                             \
    CONTRACT_OVER(OVER_RDMA, rdma, name)                                                           \
    CONTRACT_OVER(OVER_SIM, sim, name)                                                             \
    static void contract_##name(enum transport over)

#define CONTRACT(name)                                                                             \
    static void contract_##name(enum transport over);                                              \
    CONTRACT_OVER(OVER_TCP, tcp, name)                                                             \
    CONTRACT_OVER(OVER_RDMA, rdma, name)                                                           \
    CONTRACT_OVER(OVER_POLLED_RDMA, polled_rdma, name)                                             \
    CONTRACT_OVER(OVER_SLOW_RDMA, slow_rdma, name)                                                 \
    CONTRACT_OVER(OVER_IWARP, iwarp, name)                                                         \
    CONTRACT_OVER(OVER_DEVICE, device, name)                                                       \
    CONTRACT_OVER(OVER_SIM, sim, name)                                                             \
    static void contract_##name(enum transport over)

CONTRACT(connects_each_lane_with_each_peer_and_says_the_incarnation)
{
    struct cluster cluster;
    cluster_open(&cluster, over, 3, 3);
    RUN_UNTIL(&cluster, all_up(&cluster));
    for (unsigned id = 1; id <= 3; id++)
        for (unsigned lane = 0; lane < 3; lane++)
            for (unsigned peer = 1; peer <= 3; peer++) {
                EXPECT_EQ(seen_by(&cluster, id, lane, peer)->ups, peer != id);
                EXPECT_EQ(seen_by(&cluster, id, lane, peer)->incarnation,
                          peer != id ? 100 + peer : 0);
            }
    cluster_close(&cluster);
}

CONTRACT(delivers_in_order_and_on_its_own_lane)
{
    struct cluster cluster;
    cluster_open(&cluster, over, 2, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    for (uint32_t i = 0; i < 5000; i++) {
        ASSERT_EQ(send_number(&cluster, 1, 0, 2, NET_LIVE, i, 4 + i % 200), STATUS_OK);
        ASSERT_EQ(send_number(&cluster, 2, 0, 1, NET_URGENT, i, 4), STATUS_OK);
        if (i % 500 == 0)
            cluster_turn(&cluster);
    }
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == 5000);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->messages == 5000);
    EXPECT_EQ(seen_by(&cluster, 2, 1, 1)->messages, 0);
    cluster_close(&cluster);
}

CONTRACT(sends_nothing_before_the_flush_and_gathers)
{
    struct cluster cluster;
    struct net_stats stats;
    cluster_open(&cluster, over, 2, 1);
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster_run(&cluster, 50);
    net_stats_any(cluster.nodes[1].net, 0, 2, &stats);
    uint64_t frames_before = stats.frames_out;
    for (uint32_t i = 0; i < 100; i++)
        ASSERT_EQ(send_number(&cluster, 1, 0, 2, NET_LIVE, i, 32), STATUS_OK);
    seat_turn(&cluster.nodes[2].seats[0]);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->messages, 0);
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == 100);
    RUN_UNTIL(&cluster, stats_of(&cluster, 1, 2).messages_out == 100);
    net_stats_any(cluster.nodes[1].net, 0, 2, &stats);
    EXPECT(stats.frames_out - frames_before < 20); /* one, and heartbeats */
    EXPECT(stats.bytes_out > 100 * 32 && stats.ups == 1);
    cluster_close(&cluster);
}

static uint64_t round_count(struct cluster *cluster, unsigned id, unsigned lane, unsigned peer)
{
    struct net_stats stats;
    uint64_t count = 0;
    net_stats_any(cluster->nodes[id].net, lane, peer, &stats);
    for (unsigned i = 0; i < NET_ROUND_BUCKETS; i++)
        count += stats.rounds[i];
    return count;
}

/* The first at once, then one a second. No callback sees anything of it. */
LONG_CONTRACT(measures_round_trips_that_nobody_else_sees)
{
    struct cluster cluster;
    struct net_stats stats;
    cluster_open(&cluster, over, 2, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    for (unsigned id = 1; id <= 2; id++)
        for (unsigned lane = 0; lane < 2; lane++)
            RUN_UNTIL(&cluster, round_count(&cluster, id, lane, 3 - id) >= 2);
    net_stats_any(cluster.nodes[1].net, 0, 2, &stats);
    EXPECT_EQ(stats.rounds[NET_ROUND_BUCKETS - 1], 0);
    EXPECT(round_count(&cluster, 1, 0, 2) <= 4);
    EXPECT_EQ(stats.messages_in, 0);
    EXPECT_EQ(stats.messages_out, 0);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->messages, 0);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->downs, 0);
    cluster_close(&cluster);
}

/* A peer that holds for long must not find many of them behind what it held. */
LONG_CONTRACT(asks_again_only_when_the_answer_is_there)
{
    struct cluster cluster;
    cluster_open(&cluster, over, 2, 1);
    RUN_UNTIL(&cluster, all_up(&cluster) && round_count(&cluster, 1, 0, 2) == 1);
    cluster.nodes[2].seats[0].hold_at = 7;
    for (uint32_t i = 0; i < 8; i++)
        ASSERT_EQ(send_number(&cluster, 1, 0, 2, NET_LIVE, i, 8), STATUS_OK);
    cluster_run(&cluster, 3200);
    EXPECT_EQ(round_count(&cluster, 1, 0, 2), 1);
    cluster.nodes[2].seats[0].hold_at = 0;
    net_resume(cluster.nodes[2].seats[0].lane, 1);
    RUN_UNTIL(&cluster, round_count(&cluster, 1, 0, 2) == 3); /* a new one follows at once */
    cluster_run(&cluster, 100);
    EXPECT_EQ(round_count(&cluster, 1, 0, 2), 3);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->messages, 8);
    cluster_close(&cluster);
}

CONTRACT(carries_the_largest_message_and_refuses_a_larger_one)
{
    struct cluster cluster;
    cluster_open(&cluster, over, 2, 1);
    RUN_UNTIL(&cluster, all_up(&cluster));
    for (uint32_t i = 0; i < 20; i++)
        ASSERT_EQ(send_number(&cluster, 1, 0, 2, NET_LIVE, i, MESSAGE_MAX - i % 9), STATUS_OK);
    EXPECT_EQ(send_number(&cluster, 1, 0, 2, NET_LIVE, 20, MESSAGE_MAX + 1), STATUS_TOO_LARGE);
    struct seen *seen = seen_by(&cluster, 2, 0, 1);
    RUN_UNTIL(&cluster, seen->messages == 20 || seen->downs > 0);
    EXPECT_EQ(seen->downs, 0);
    cluster_close(&cluster);
}

CONTRACT(answers_closed_where_nobody_is)
{
    struct cluster cluster;
    cluster_prepare(&cluster, over, 2, 1);
    node_open(&cluster, 2);
    cluster_run(&cluster, 50);
    EXPECT_EQ(send_number(&cluster, 2, 0, 1, NET_LIVE, 0, 10), STATUS_CLOSED);
    EXPECT_EQ(send_number(&cluster, 2, 0, 7, NET_URGENT, 0, 10), STATUS_CLOSED);
    EXPECT_EQ(net_heard_ns_any(cluster.nodes[2].net, 1), 0);
    net_resume(cluster.nodes[2].seats[0].lane, 1);
    net_drop(cluster.nodes[2].seats[0].lane, 1, "nothing there");
    node_open(&cluster, 1);
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster_close(&cluster);
}

/* Holding is how the protocol waits for a newer view: nothing may overtake the held message,
 * nothing may be lost. */
CONTRACT(holds_a_message_first_in_line_until_resumed)
{
    struct cluster cluster;
    cluster_open(&cluster, over, 2, 2);
    struct seat *seat = &cluster.nodes[2].seats[0];
    struct seen *seen = seen_by(&cluster, 2, 0, 1);
    RUN_UNTIL(&cluster, all_up(&cluster));
    seat->hold_at = 7;
    for (uint32_t i = 0; i < 20; i++)
        ASSERT_EQ(send_number(&cluster, 1, 0, 2, NET_LIVE, i, 100), STATUS_OK);
    RUN_UNTIL(&cluster, seen->messages == 7);
    uint64_t heard = net_heard_ns_any(cluster.nodes[2].net, 1);
    cluster_run(&cluster, 100);
    /* Heartbeats count. */
    RUN_UNTIL(&cluster, net_heard_ns_any(cluster.nodes[2].net, 1) > heard + 20000000);
    EXPECT_EQ(seen->messages, 7);
    net_resume(seat->lane, 1); /* held again at once */
    cluster_run(&cluster, 20);
    EXPECT_EQ(seen->messages, 7);
    seat->hold_at = 15;
    net_resume(seat->lane, 1);
    RUN_UNTIL(&cluster, seen->messages == 15);
    seat->hold_at = 0;
    net_resume(seat->lane, 1);
    RUN_UNTIL(&cluster, seen->messages == 20);
    EXPECT_EQ(seen->downs, 0);
    cluster_close(&cluster);
}

CONTRACT(pushes_back_while_held_and_loses_nothing)
{
    struct cluster cluster;
    uint32_t sent = 0;
    enum status status;
    cluster_prepare(&cluster, over, 2, 1);
    cluster.nodes[1].options.backlog_max = 1 << 20;
    node_open(&cluster, 1);
    node_open(&cluster, 2);
    struct seen *seen = seen_by(&cluster, 2, 0, 1);
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster.nodes[2].seats[0].hold_at = 3;
    for (;;) {
        status = send_number(&cluster, 1, 0, 2, NET_LIVE, sent, 50000);
        if (status != STATUS_OK)
            break;
        sent++;
        cluster_turn(&cluster);
        ASSERT(sent < 5000);
    }
    EXPECT_EQ(status, STATUS_BUSY);
    RUN_UNTIL(&cluster, seen->messages == 3);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->writables, 0);
    /* What must not be refused still is taken. */
    EXPECT_EQ(send_number(&cluster, 1, 0, 2, NET_URGENT, sent++, 8), STATUS_OK);
    cluster.nodes[2].seats[0].hold_at = 0;
    net_resume(cluster.nodes[2].seats[0].lane, 1);
    RUN_UNTIL(&cluster, seen->messages == sent || seen->downs > 0);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->writables, 1);
    EXPECT_EQ(seen->downs, 0);
    cluster_close(&cluster);
}

CONTRACT(makes_bulk_yield_to_live_messages)
{
    struct cluster cluster;
    uint32_t sent = 0;
    cluster_open(&cluster, over, 2, 1);
    struct seen *sender = seen_by(&cluster, 1, 0, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    while (send_number(&cluster, 1, 0, 2, NET_BULK, sent, 10000) == STATUS_OK)
        sent++;
    EXPECT(sent > 20 && sent < 40); /* 256 KB */
    EXPECT_EQ(send_number(&cluster, 1, 0, 2, NET_LIVE, sent++, 10000), STATUS_OK);
    EXPECT_EQ(sender->writables, 0);
    RUN_UNTIL(&cluster, sender->writables == 1);
    EXPECT_EQ(send_number(&cluster, 1, 0, 2, NET_BULK, sent++, 10000), STATUS_OK);
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == sent);
    EXPECT_EQ(sender->writables, 1);
    cluster_close(&cluster);
}

CONTRACT(gives_a_peer_up_rather_than_queue_without_limit)
{
    struct cluster cluster;
    uint32_t sent = 0;
    cluster_prepare(&cluster, over, 2, 1);
    cluster.nodes[1].options.backlog_max = 1 << 18;
    node_open(&cluster, 1);
    node_open(&cluster, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    while (send_number(&cluster, 1, 0, 2, NET_URGENT, sent, 1000) == STATUS_OK)
        ASSERT(sent++ < 2000);
    EXPECT(sent > 1000);
    EXPECT(!net_is_up(cluster.nodes[1].seats[0].lane, 2));
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->downs == 1);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->ups == 2);
    cluster_close(&cluster);
}

/* on_message that breaks its own connection: on_down comes from the loop, later messages of the
 * frame do not come. */
CONTRACT(starts_empty_after_a_drop)
{
    struct cluster cluster;
    cluster_open(&cluster, over, 2, 2);
    struct seen *seen = seen_by(&cluster, 2, 0, 1);
    RUN_UNTIL(&cluster, all_up(&cluster));
    for (unsigned round = 1; round <= 5; round++) {
        unsigned before = seen->messages;
        for (uint32_t i = 0; i < 10; i++)
            ASSERT_EQ(send_number(&cluster, 1, 0, 2, NET_LIVE, i, 100), STATUS_OK);
        cluster.nodes[2].seats[0].drop = true;
        RUN_UNTIL(&cluster, seen->downs == round);
        EXPECT_TEXT(seen->why, "the test wants it");
        EXPECT_EQ(seen->messages, before + 1);
        RUN_UNTIL(&cluster, seen->ups == round + 1);
        RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->ups == round + 1);
    }
    EXPECT_EQ(seen_by(&cluster, 2, 1, 1)->downs, 0); /* The other lane did not notice. */
    cluster_close(&cluster);
}

CONTRACT(connects_again_with_a_peer_that_was_started_again)
{
    struct cluster cluster;
    cluster_open(&cluster, over, 3, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    node_close(&cluster, 2);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->downs == 1);
    RUN_UNTIL(&cluster, seen_by(&cluster, 3, 1, 2)->downs == 1);
    EXPECT_EQ(net_heard_ns_any(cluster.nodes[1].net, 2), 0);
    EXPECT(net_heard_ns_any(cluster.nodes[1].net, 3) != 0);
    cluster.nodes[2].options.incarnation = 200;
    node_open(&cluster, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->incarnation, 200);
    EXPECT_EQ(seen_by(&cluster, 3, 1, 2)->incarnation, 200);
    cluster_close(&cluster);
}

/* A worker that hangs must not be covered by others of its process that live. */
CONTRACT(hears_no_more_of_a_peer_when_one_lane_of_it_hangs)
{
    struct cluster cluster;
    cluster_open(&cluster, over, 2, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster_run(&cluster, 100);
    for (uint64_t end = now_ms() + 100; now_ms() < end; usleep(500)) {
        seat_turn(&cluster.nodes[1].seats[0]);
        seat_turn(&cluster.nodes[2].seats[0]);
        seat_turn(&cluster.nodes[2].seats[1]);
    }
    uint64_t age_ms = now_ms() - net_heard_ns_any(cluster.nodes[2].net, 1) / 1000000;
    EXPECT(age_ms >= 60 && age_ms < 2000);
    RUN_UNTIL(&cluster, now_ms() - net_heard_ns_any(cluster.nodes[2].net, 1) / 1000000 < 40);
    EXPECT_EQ(seen_by(&cluster, 2, 1, 1)->downs, 0);
    cluster_close(&cluster);
}

CONTRACT(finds_peers_by_name)
{
    struct cluster cluster;
    cluster_prepare(&cluster, over, 2, 1);
    for (unsigned id = 1; id <= 2; id++) {
        cluster.nodes[id].options.peers[0].host = "localhost";
        cluster.nodes[id].options.peers[1].host = "no-such-host.invalid";
        cluster.nodes[id].options.peers[id - 1].host = "127.0.0.1";
    }
    node_open(&cluster, 1);
    node_open(&cluster, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster_close(&cluster);
}

CONTRACT(refuses_wrong_options_and_a_port_in_use)
{
    struct cluster cluster;
    struct net *net = NULL;
    cluster_open(&cluster, over, 2, 1);
    struct net_options options = cluster.nodes[1].options;
    EXPECT_EQ(net_open(&options, &net), STATUS_IO);
    options.peers[0].port = 0;
    options.self = 3;
    EXPECT_EQ(net_open(&options, &net), STATUS_INVALID);
    options.self = 1;
    options.incarnation = 0;
    EXPECT_EQ(net_open(&options, &net), STATUS_INVALID);
    options.incarnation = 1;
    options.peers[1].id = 1;
    EXPECT_EQ(net_open(&options, &net), STATUS_INVALID);
    options.peers[1].id = 8;
    EXPECT_EQ(net_open(&options, &net), STATUS_INVALID);
    options.peers[1].id = 7;
    options.peers[0].host = "192.0.2.1"; /* not an address of this machine */
    EXPECT_EQ(net_open(&options, &net), STATUS_IO);
    options.peers[0].host = "127.0.0.1";
    ASSERT_EQ(net_open(&options, &net), STATUS_OK);
    EXPECT(net_port(net) != 0);
    net_close(net);
    cluster_close(&cluster);
}

/* ---- with threads ---- */

enum { THREAD_MESSAGES = 3000 };

struct runner {
    struct cluster *cluster;
    unsigned id, lane;
    pthread_t thread;
    atomic_bool *stop;
    atomic_uint *done;
    uint32_t sent[NET_PEER_LIMIT];
    bool finished;
    atomic_uint messages, downs;  /* seen so far */
    bool turmoil;                 /* send for ever, drop connections now and then */
    unsigned ups[NET_PEER_LIMIT]; /* turmoil: as of the last message sent */
    struct prng prng;
};

static void runner_send(struct runner *runner)
{
    struct cluster *cluster = runner->cluster;
    struct seat *seat = &cluster->nodes[runner->id].seats[runner->lane];
    bool finished = true;
    for (unsigned peer = 1; peer <= cluster->node_count; peer++) {
        if (peer == runner->id)
            continue;
        for (unsigned i = 0; i < 20 && runner->sent[peer] < THREAD_MESSAGES; i++) {
            uint32_t number = runner->sent[peer];
            if (send_number(cluster, runner->id, runner->lane, peer, NET_LIVE, number,
                            4 + number % 3000) != STATUS_OK)
                break;
            runner->sent[peer]++;
        }
        finished = finished && runner->sent[peer] == THREAD_MESSAGES &&
                   seat->seen[peer].messages == THREAD_MESSAGES;
    }
    if (finished && !runner->finished)
        atomic_fetch_add(runner->done, 1);
    runner->finished = finished;
}

/* Numbers begin again with each connection, as the receiver expects. */
static void runner_send_in_turmoil(struct runner *runner)
{
    struct seat *seat = &runner->cluster->nodes[runner->id].seats[runner->lane];
    unsigned peer = 1 + (unsigned)prng_below(&runner->prng, runner->cluster->node_count);
    if (runner->ups[peer] != seat->seen[peer].ups)
        runner->sent[peer] = 0;
    runner->ups[peer] = seat->seen[peer].ups;
    for (unsigned i = 0; i < 10; i++)
        if (send_number(runner->cluster, runner->id, runner->lane, peer, NET_BULK,
                        runner->sent[peer], 4 + prng_below(&runner->prng, 9000)) == STATUS_OK)
            runner->sent[peer]++;
    if (prng_chance(&runner->prng, 1))
        net_drop(seat->lane, peer, "turmoil");
    if (prng_chance(&runner->prng, 5))
        seat->hold_at = 1 + (uint32_t)prng_below(&runner->prng, 50);
    else if (prng_chance(&runner->prng, 20))
        seat->hold_at = 0;
    net_resume(seat->lane, peer);
}

static void runner_tell(struct runner *runner, const struct seat *seat)
{
    unsigned messages = 0, downs = 0;
    for (unsigned peer = 1; peer < NET_PEER_LIMIT; peer++) {
        messages += seat->seen[peer].messages;
        downs += seat->seen[peer].downs;
    }
    atomic_store(&runner->messages, messages);
    atomic_store(&runner->downs, downs);
}

static void *runner_main(void *given)
{
    struct runner *runner = given;
    struct seat *seat = &runner->cluster->nodes[runner->id].seats[runner->lane];
    seat_open(seat, runner->lane);
    while (!atomic_load(runner->stop)) {
        seat_turn(seat);
        if (runner->turmoil)
            runner_send_in_turmoil(runner);
        else
            runner_send(runner);
        runner_tell(runner, seat);
        usleep(500);
    }
    net_lane_close(seat->lane);
    return NULL;
}

struct crew {
    struct cluster cluster;
    struct runner runners[6];
    atomic_bool stop;
    atomic_uint done;
};

static void crew_start(struct crew *crew, enum transport over, bool turmoil)
{
    struct cluster *cluster = &crew->cluster;
    *crew = (struct crew){0};
    cluster_prepare(cluster, over, 3, 2);
    for (unsigned id = 1; id <= 3; id++) {
        ASSERT_EQ(net_open(&cluster->nodes[id].options, &cluster->nodes[id].net), STATUS_OK);
        if (cluster->over == OVER_SIM)
            sim_wire_use(cluster->nodes[id].net, id);
    }
    for (unsigned i = 0; i < 6; i++) {
        struct runner *runner = &crew->runners[i];
        *runner = (struct runner){.cluster = cluster,
                                  .id = i / 2 + 1,
                                  .lane = i % 2,
                                  .stop = &crew->stop,
                                  .done = &crew->done,
                                  .turmoil = turmoil,
                                  .prng = {.state = i}};
        struct seat *seat = &cluster->nodes[runner->id].seats[runner->lane];
        seat_prepare(cluster, seat, &cluster->nodes[runner->id]);
        ASSERT_EQ(pthread_create(&runner->thread, NULL, runner_main, runner), 0);
    }
}

/* What the other threads saw may be read after this. */
static void crew_end(struct crew *crew)
{
    struct cluster *cluster = &crew->cluster;
    atomic_store(&crew->stop, true);
    for (unsigned i = 0; i < 6; i++)
        pthread_join(crew->runners[i].thread, NULL);
    for (unsigned i = 0; i < 6; i++)
        event_base_free(cluster->nodes[i / 2 + 1].seats[i % 2].base);
    for (unsigned id = 1; id <= 3; id++) {
        net_close(cluster->nodes[id].net);
        cluster->nodes[id].net = NULL;
    }
    cluster_close(cluster);
}

/* Lanes of three nodes, each in a thread of its own, while another thread asks what may be asked
 * from any. */
CONTRACT(works_with_a_thread_for_each_lane)
{
    struct crew crew;
    struct net_stats stats;
    crew_start(&crew, over, false);
    uint64_t end = now_ms() + 4 * PATIENCE_MS;
    while (atomic_load(&crew.done) < 6 && now_ms() < end) {
        for (unsigned id = 1; id <= 3; id++) {
            struct net *net = crew.cluster.nodes[id].net;
            (void)net_heard_ns_any(net, id % 3 + 1);
            net_stats_any(net, 0, id % 3 + 1, &stats);
            net_fence_any(net, id % 3 + 1, 50); /* nobody's */
        }
        usleep(1000);
    }
    EXPECT_EQ(atomic_load(&crew.done), 6);
    crew_end(&crew);
}

static bool seen_enough(struct crew *crew)
{
    unsigned messages = 0, downs = 0;
    for (unsigned i = 0; i < 6; i++) {
        messages += atomic_load(&crew->runners[i].messages);
        downs += atomic_load(&crew->runners[i].downs);
    }
    return messages > 500 && downs > 20;
}

/* Drops, holds, new incarnations and fences all the time: what arrives is still a prefix of what
 * was sent on that connection, ups and downs alternate, incarnations do not fall (all judged by
 * net_cluster.h). Not the same twice: threads. */
CONTRACT(keeps_its_contract_in_turmoil)
{
    struct crew crew;
    bool enough = false;
    crew_start(&crew, over, true);
    uint64_t least = now_ms() + 1500, most = now_ms() + 4 * PATIENCE_MS;
    for (uint64_t round = 1; now_ms() < least || (!enough && now_ms() < most); round++) {
        unsigned id = 1 + round % 3;
        net_set_incarnation_any(crew.cluster.nodes[id].net, 1000 + round);
        net_fence_any(crew.cluster.nodes[1 + id % 3].net, id, 1000 + round - 1);
        /* Longer and longer, for machines on which little happens in that time. */
        usleep(30000 + 500 * (unsigned)round);
        enough = seen_enough(&crew);
    }
    EXPECT(enough);
    crew_end(&crew);
}
