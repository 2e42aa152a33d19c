/* Goal: the way back to RDMA, by itself: of a node whose device was lost and is there again, and of
 * a link for which no queue pair came about. Method: nodes in one process on devices without
 * hardware (fake_verbs.h) that are removed, restored and stalled; a device may be restored only
 * when all of it was given back. */
#include "base/prng.h"
#include "net/rdma_private.h"
#include "t/net_cluster.h"

enum {
    SOON_MS = 20,
    JOIN_AGAIN_MS = 200,
    TURMOIL_REMOVALS = 8, /* fewer where patience ends before */
};

static void open_nodes(struct cluster *cluster, enum net_choice choice, unsigned node_count)
{
    cluster_prepare(cluster, OVER_RDMA, node_count, 2);
    for (unsigned id = 1; id <= node_count; id++) {
        cluster->nodes[id].options.choice = choice;
        cluster->nodes[id].options.device_again_ms = SOON_MS;
        cluster->nodes[id].options.join_again_ms = SOON_MS;
        node_open(cluster, id);
    }
    RUN_UNTIL(cluster, all_up(cluster));
}

/* Every lane of every node with every other. */
static bool all_rdma(struct cluster *cluster)
{
    for (unsigned id = 1; id <= cluster->node_count; id++)
        for (unsigned i = 0; i < cluster->lane_count; i++)
            for (unsigned peer = 1; peer <= cluster->node_count; peer++)
                if (peer != id && !net_is_rdma(cluster->nodes[id].seats[i].lane, peer))
                    return false;
    return true;
}

static void check_talk(struct cluster *cluster, unsigned from, unsigned to)
{
    uint32_t sent = 0;
    struct seen *seen = seen_by(cluster, to, 0, from);
    unsigned before = seen->messages;
    EXPECT_EQ(seen->next, 0);
    send_some(cluster, from, to, &sent, 5, LARGE);
    RUN_UNTIL(cluster, seen->messages == before + 5);
}

/* ---- the device ---- */

static void remove_and_restore(struct cluster *cluster, unsigned id, enum net_choice choice)
{
    struct cluster_node *node = &cluster->nodes[id];
    fake_verbs_remove(id);
    RUN_UNTIL(cluster, has_chosen(node, "until it is back"));
    RUN_UNTIL(cluster, fake_verbs_is_free(id));
    if (choice == NET_CHOOSE_AUTO) {
        RUN_UNTIL(cluster, all_up(cluster));
        EXPECT(does(node, "tcp: no RDMA device has the address "));
        EXPECT(has_chosen(node, "on over TCP"));
    } else {
        cluster_run(cluster, 3 * SOON_MS);
        EXPECT(does(node, "none: no RDMA device has the address "));
        for (unsigned peer = 1; peer <= cluster->node_count; peer++)
            EXPECT(!net_is_up(node->seats[0].lane, peer));
    }
    EXPECT(!net_is_rdma(node->seats[1].lane, 1 + id % 3));
    fake_verbs_restore(id);
    RUN_UNTIL(cluster, all_rdma(cluster));
    EXPECT(has_chosen(node, "the RDMA device is back: device fake"));
    EXPECT(does(node, "rdma: device fake"));
}

/* One line when it is lost and one when it is back, however many tries; others hear of nothing. */
static void come_back(enum net_choice choice, bool silent)
{
    struct cluster cluster;
    struct fake_settings settings = fake_settings_default();
    open_nodes(&cluster, choice, 3);
    settings.silent_removal = silent;
    fake_verbs_set(&settings);
    for (unsigned id = 1; id <= 3; id++) {
        uint64_t registered = counted().registered;
        unsigned lines = lines_chosen(&cluster.nodes[id]);
        unsigned a = 1 + id % 3, b = 1 + (id + 1) % 3;
        unsigned downs = seen_by(&cluster, a, 0, b)->downs;
        remove_and_restore(&cluster, id, choice);
        EXPECT_EQ(lines_chosen(&cluster.nodes[id]), lines + 2);
        EXPECT_EQ(counted().registered, registered);
        check_talk(&cluster, id, a);
        check_talk(&cluster, b, id);
        EXPECT_EQ(seen_by(&cluster, a, 0, b)->downs, downs);
        cluster_run(&cluster, 50);
        EXPECT(all_rdma(&cluster));
    }
    cluster_close(&cluster);
}

TEST(rdma_return, a_device_that_is_back_is_used_again)
{
    come_back(NET_CHOOSE_AUTO, false);
    come_back(NET_CHOOSE_AUTO, true);
}

TEST(rdma_return, a_node_of_rdma_alone_connects_again_when_its_device_is_back)
{
    come_back(NET_CHOOSE_RDMA, false);
}

/* Which end has its device back first is all the same. */
TEST(rdma_return, of_both_ends_of_a_link_in_any_order)
{
    struct cluster cluster;
    open_nodes(&cluster, NET_CHOOSE_AUTO, 2);
    for (unsigned first = 1; first <= 2; first++) {
        for (unsigned id = 1; id <= 2; id++) {
            fake_verbs_remove(id);
            RUN_UNTIL(&cluster, fake_verbs_is_free(id));
        }
        RUN_UNTIL(&cluster, all_up(&cluster));
        fake_verbs_restore(first);
        RUN_UNTIL(&cluster, does(&cluster.nodes[first], "rdma"));
        cluster_run(&cluster, 100);
        RUN_UNTIL(&cluster, all_up(&cluster)); /* who has its device back has dialled anew */
        EXPECT(!net_is_rdma(cluster.nodes[1].seats[0].lane, 2));
        fake_verbs_restore(3 - first);
        RUN_UNTIL(&cluster, all_rdma(&cluster));
    }
    cluster_close(&cluster);
}

/* The answer still says RDMA. */
TEST(rdma_return, a_device_that_goes_during_a_greeting_makes_no_queue_pair)
{
    struct cluster cluster;
    cluster_prepare(&cluster, OVER_RDMA, 2, 1);
    for (unsigned id = 1; id <= 2; id++) {
        cluster.nodes[id].options.choice = NET_CHOOSE_AUTO;
        node_open(&cluster, id);
    }
    RUN_UNTIL(&cluster, all_rdma(&cluster));
    struct seat *dialler = &cluster.nodes[2].seats[0];
    struct link *link = &dialler->lane->links[1];
    net_drop(dialler->lane, 1, "the test wants it");
    for (uint64_t end = now_ms() + PATIENCE_MS; link->state != LINK_GREETING && now_ms() < end;)
        seat_turn(dialler);
    EXPECT_EQ(link->state, LINK_GREETING);
    rdma_lose(cluster.nodes[2].net, "the test wants it");
    while (dialler->lane->rdma->there)
        seat_turn(dialler);
    RUN_UNTIL(&cluster, all_up(&cluster));
    EXPECT_EQ(link->stats.failures, 1);
    RUN_UNTIL(&cluster, all_rdma(&cluster));
    cluster_close(&cluster);
}

/* Until the node has said so many lines of its device, the last of them that it is back. */
static void await_return(struct cluster *cluster, unsigned id, unsigned lines)
{
    RUN_UNTIL(cluster, lines_chosen(&cluster->nodes[id]) == lines);
    EXPECT(has_chosen(&cluster->nodes[id], "the RDMA device is back"));
    RUN_UNTIL(cluster, all_rdma(cluster));
}

/* It was not removed, only of no use: a completion queue overflowed. */
TEST(rdma_return, a_device_that_never_went_is_opened_anew)
{
    struct cluster cluster;
    open_nodes(&cluster, NET_CHOOSE_AUTO, 2);
    for (unsigned i = 0; i < 3; i++) {
        unsigned lines = lines_chosen(&cluster.nodes[1]);
        rdma_lose(cluster.nodes[1].net, "the test wants it");
        rdma_lose(cluster.nodes[1].net, "and says so twice");
        EXPECT(has_chosen(&cluster.nodes[1], "the test wants it: on over TCP, until it is back"));
        EXPECT(does(&cluster.nodes[1], "tcp: the test wants it"));
        await_return(&cluster, 1, lines + 2);
    }
    cluster_close(&cluster);
}

TEST(rdma_return, a_device_that_is_there_and_cannot_be_used_is_tried_again)
{
    struct cluster cluster;
    struct fake_settings settings = fake_settings_default();
    open_nodes(&cluster, NET_CHOOSE_AUTO, 2);
    for (unsigned nth = 1; nth <= 3; nth++) {
        unsigned lines = lines_chosen(&cluster.nodes[2]);
        settings.fail_reg_mr = nth;
        fake_verbs_set(&settings);
        rdma_lose(cluster.nodes[2].net, "the test wants it");
        await_return(&cluster, 2, lines + 2);
        EXPECT(cluster.nodes[2].net->rdma->tries > 1);
    }
    cluster_close(&cluster);
}

/* It is lost again then, for all lanes. */
TEST(rdma_return, a_lane_that_gets_no_queue_on_it_means_that_it_is_not_back)
{
    struct cluster cluster;
    struct fake_settings settings = fake_settings_default();
    open_nodes(&cluster, NET_CHOOSE_AUTO, 2);
    for (unsigned nth = 1; nth <= 2; nth++) {
        unsigned lines = lines_chosen(&cluster.nodes[1]);
        settings.fail_cq = nth;
        fake_verbs_set(&settings);
        rdma_lose(cluster.nodes[1].net, "the test wants it");
        RUN_UNTIL(&cluster, has_chosen(&cluster.nodes[1], "no completion queue can be made"));
        await_return(&cluster, 1, lines + 4);
    }
    cluster_close(&cluster);
}

/* Those that wait in vain end with the node. */
TEST(rdma_return, a_node_may_end_while_its_device_is_away)
{
    struct cluster cluster;
    for (unsigned turns = 0; turns < 40; turns += 3) {
        open_nodes(&cluster, NET_CHOOSE_AUTO, 2);
        fake_verbs_remove(2);
        for (unsigned i = 0; i < turns; i++)
            cluster_turn(&cluster);
        node_close(&cluster, 2);
        cluster_close(&cluster);
    }
}

/* The dialler cannot know, and asks once. */
TEST(rdma_return, a_peer_of_tcp_alone_is_asked_once)
{
    struct cluster cluster;
    cluster_prepare(&cluster, OVER_RDMA, 2, 1);
    cluster.nodes[1].options.choice = NET_CHOOSE_TCP;
    cluster.nodes[2].options.choice = NET_CHOOSE_AUTO;
    cluster.nodes[2].options.device_again_ms = SOON_MS;
    cluster.nodes[2].options.join_again_ms = SOON_MS;
    node_open(&cluster, 1);
    node_open(&cluster, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster_run(&cluster, 5 * SOON_MS);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->ups, 1);
    rdma_lose(cluster.nodes[2].net, "the test wants it");
    net_drop(cluster.nodes[2].seats[0].lane, 1, "the test wants it");
    RUN_UNTIL(&cluster, does(&cluster.nodes[2], "rdma"));
    cluster_run(&cluster, 10 * SOON_MS);
    EXPECT(seen_by(&cluster, 2, 0, 1)->ups <= 3);
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster_close(&cluster);
}

/* ---- joins ---- */

static struct link *link_of_dialler(struct cluster *cluster)
{
    return &cluster->nodes[2].seats[0].lane->links[1];
}

/* Two nodes of one lane over TCP, because nothing reaches the device of node 1. */
static void open_fallen(struct cluster *cluster)
{
    cluster_prepare(cluster, OVER_RDMA, 2, 1);
    for (unsigned id = 1; id <= 2; id++) {
        cluster->nodes[id].options.choice = NET_CHOOSE_AUTO;
        cluster->nodes[id].options.connect_ms = 50;
        cluster->nodes[id].options.suspect_ms = 300;
        cluster->nodes[id].options.join_again_ms = JOIN_AGAIN_MS;
    }
    fake_verbs_stall(1, true);
    node_open(cluster, 1);
    node_open(cluster, 2);
    RUN_UNTIL(cluster, all_up(cluster));
}

TEST(rdma_again, a_link_that_fell_back_to_tcp_returns_when_the_fabric_works)
{
    struct cluster cluster;
    open_fallen(&cluster);
    EXPECT(has_chosen(&cluster.nodes[2], "tcp for now"));
    RUN_UNTIL(&cluster, stats_of(&cluster, 2, 1).failures >= JOIN_FAILURES_MAX + 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    EXPECT(!net_is_rdma(cluster.nodes[2].seats[0].lane, 1));
    fake_verbs_stall(1, false);
    RUN_UNTIL(&cluster, all_up(&cluster) && net_is_rdma(cluster.nodes[2].seats[0].lane, 1));
    EXPECT_EQ(link_of_dialler(&cluster)->pause_ms, 0);
    check_talk(&cluster, 1, 2);
    cluster_run(&cluster, 5 * SOON_MS);
    EXPECT(net_is_rdma(cluster.nodes[2].seats[0].lane, 1));
    cluster_close(&cluster);
}

/* One more try has failed, and the link is up again. */
static void await_try(struct cluster *cluster)
{
    struct link *link = link_of_dialler(cluster);
    struct seen *seen = seen_by(cluster, 2, 0, 1);
    unsigned downs = seen->downs;
    uint64_t failures = link->stats.failures;
    RUN_UNTIL(cluster, seen->downs == downs + 1);
    RUN_UNTIL(cluster, all_up(cluster));
    EXPECT_EQ(link->stats.failures, failures + 1);
    EXPECT_EQ(seen->downs, downs + 1);
    EXPECT(!net_is_rdma(cluster->nodes[2].seats[0].lane, 1));
}

/* A single one, a fraction of suspect_ms long: the minute of connect_ms would be seen here. */
TEST(rdma_again, a_try_is_short_and_the_next_comes_later_and_later)
{
    struct cluster cluster;
    open_fallen(&cluster);
    struct link *link = link_of_dialler(&cluster);
    unsigned lines = lines_chosen(&cluster.nodes[2]);
    cluster.nodes[2].net->options.connect_ms = 60000;
    for (uint32_t pause_ms = JOIN_AGAIN_MS; pause_ms < 8 * JOIN_AGAIN_MS; pause_ms *= 2) {
        EXPECT_EQ(link->pause_ms, pause_ms);
        await_try(&cluster);
    }
    cluster.nodes[2].net->options.join_again_ms = JOIN_AGAIN_MS / 10;
    await_try(&cluster);
    EXPECT_EQ(link->pause_ms, JOIN_AGAIN_MS);          /* ten times that at most */
    EXPECT_EQ(lines_chosen(&cluster.nodes[2]), lines); /* said once */
    cluster_close(&cluster);
}

/* It is back and the fabric is not: the links are tried, shortly, and stay on TCP. */
TEST(rdma_again, a_device_that_is_back_is_tried_with_care)
{
    struct cluster cluster;
    cluster_prepare(&cluster, OVER_RDMA, 2, 1);
    for (unsigned id = 1; id <= 2; id++) {
        cluster.nodes[id].options.choice = NET_CHOOSE_AUTO;
        cluster.nodes[id].options.connect_ms = 60000;
        cluster.nodes[id].options.suspect_ms = 300;
        cluster.nodes[id].options.device_again_ms = SOON_MS;
        cluster.nodes[id].options.join_again_ms = JOIN_AGAIN_MS;
        node_open(&cluster, id);
    }
    RUN_UNTIL(&cluster, all_rdma(&cluster));
    for (unsigned id = 1; id <= 2; id++) {
        uint64_t failures = link_of_dialler(&cluster)->stats.failures;
        fake_verbs_remove(id);
        RUN_UNTIL(&cluster, fake_verbs_is_free(id));
        RUN_UNTIL(&cluster, all_up(&cluster));
        fake_verbs_stall(3 - id, true);
        fake_verbs_restore(id);
        await_try(&cluster);
        EXPECT_EQ(link_of_dialler(&cluster)->stats.failures, failures + 1);
        EXPECT(has_chosen(&cluster.nodes[2], "tcp for now: no answer in time"));
        fake_verbs_stall(3 - id, false);
        RUN_UNTIL(&cluster, all_rdma(&cluster));
    }
    cluster_close(&cluster);
}

/* ---- with threads ---- */

struct runner {
    struct seat *seat;
    pthread_t thread;
    atomic_bool stop;
};

static void *run_seat(void *user)
{
    struct runner *runner = user;
    while (!atomic_load(&runner->stop)) {
        seat_turn(runner->seat);
        usleep(500);
    }
    return NULL;
}

static bool all_said(struct cluster *cluster, bool rdma)
{
    for (unsigned id = 1; id <= 2; id++)
        for (unsigned lane = 0; lane < 2; lane++) {
            struct net_stats stats;
            net_stats_any(cluster->nodes[id].net, lane, 3 - id, &stats);
            if (!stats.up || stats.rdma != rdma)
                return false;
        }
    return true;
}

static bool comes_true(struct cluster *cluster, bool rdma)
{
    for (uint64_t end = now_ms() + PATIENCE_MS; now_ms() < end; usleep(1000))
        if (all_said(cluster, rdma))
            return true;
    return false;
}

static bool is_freed(unsigned device)
{
    for (uint64_t end = now_ms() + PATIENCE_MS; now_ms() < end; usleep(1000))
        if (fake_verbs_is_free(device))
            return true;
    return false;
}

/* Each lane in a thread of its own: none may use a device that another has closed. */
TEST(rdma_return, lanes_of_many_threads_leave_it_and_take_it_again)
{
    static struct runner runners[4];
    struct cluster cluster;
    open_nodes(&cluster, NET_CHOOSE_AUTO, 2);
    for (unsigned i = 0; i < 4; i++) {
        runners[i].seat = &cluster.nodes[1 + i / 2].seats[i % 2];
        atomic_store(&runners[i].stop, false);
        pthread_create(&runners[i].thread, NULL, run_seat, &runners[i]);
    }
    for (unsigned round = 0; round < 4; round++) {
        unsigned device = 1 + round % 2;
        EXPECT(comes_true(&cluster, true));
        fake_verbs_remove(device);
        EXPECT(is_freed(device));
        EXPECT(comes_true(&cluster, false));
        fake_verbs_restore(device);
    }
    EXPECT(comes_true(&cluster, true));
    for (unsigned i = 0; i < 4; i++)
        atomic_store(&runners[i].stop, true);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(runners[i].thread, NULL);
    cluster_close(&cluster);
}

/* ---- all of it ---- */

/* Devices that come and go while messages travel: the contract holds (net_cluster.h), and in the
 * end all is by RDMA. */
TEST(rdma_return, keeps_the_contract_in_turmoil)
{
    struct cluster cluster;
    struct prng prng = {.state = now_ms()};
    bool removed[4] = {false};
    uint32_t sent[4] = {0};
    unsigned ups[4] = {0}, removals = 0;
    printf("# seed %llu\n", (unsigned long long)prng.state);
    open_nodes(&cluster, NET_CHOOSE_AUTO, 3);
    uint64_t end = now_ms() + PATIENCE_MS;
    for (; removals < TURMOIL_REMOVALS && now_ms() < end; cluster_turn(&cluster)) {
        unsigned id = 1 + (unsigned)prng_below(&prng, 3), to = 1 + id % 3;
        if (removed[id] && fake_verbs_is_free(id)) {
            fake_verbs_restore(id);
            removed[id] = false;
        } else if (!removed[id] && prng_chance(&prng, 3)) {
            fake_verbs_remove(id);
            removed[id] = true;
            removals++;
        }
        struct seen *seen = seen_by(&cluster, id, 0, to);
        if (ups[id] != seen->ups || seen->ups == seen->downs)
            sent[id] = 0; /* numbers begin again with each connection */
        ups[id] = seen->ups;
        send_some(&cluster, id, to, &sent[id], 3, prng_chance(&prng, 10) ? LARGE : 500);
    }
    for (unsigned id = 1; id <= 3; id++) {
        RUN_UNTIL(&cluster, !removed[id] || fake_verbs_is_free(id));
        if (removed[id])
            fake_verbs_restore(id);
    }
    RUN_UNTIL(&cluster, all_rdma(&cluster));
    EXPECT(removals > 1);
    cluster_close(&cluster);
}
