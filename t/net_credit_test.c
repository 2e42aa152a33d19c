/* Goal: credits bound what is under way, and never stop both sides for good. Method: two nodes over
 * the fake device, which is stalled while both send all they may; numbers set to near their end. */
#include "net/rdma_private.h"
#include "t/net_cluster.h"

static struct rdma_link *rdma_of_lane(struct cluster *cluster, unsigned id, unsigned peer)
{
    return cluster->nodes[id].seats[0].lane->links[peer].rdma;
}

static void send_both_ways(struct cluster *cluster, unsigned count)
{
    for (uint32_t i = 0; i < count; i++) {
        ASSERT_EQ(send_number(cluster, 1, 0, 2, NET_LIVE, i, 5000), STATUS_OK);
        ASSERT_EQ(send_number(cluster, 2, 0, 1, NET_LIVE, i, 5000), STATUS_OK);
    }
}

static void stall(bool stalled)
{
    fake_verbs_stall(1, stalled);
    fake_verbs_stall(2, stalled);
}

/* Heartbeats go on while messages wait; the last credit is not theirs. With it spent on both sides,
 * each waited for the other's grant. */
TEST(credit, is_never_used_up_on_both_sides_by_what_grants_nothing)
{
    struct cluster cluster;
    cluster_open(&cluster, OVER_RDMA, 2, 1);
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster_run(&cluster, 50);
    stall(true);
    send_both_ways(&cluster, 200);
    cluster_run(&cluster, 300); /* heartbeats, every 20 ms */
    for (unsigned id = 1; id <= 2; id++) {
        struct rdma_link *rdma = rdma_of_lane(&cluster, id, 3 - id);
        EXPECT(rdma->credit - rdma->sequence >= 1);
        EXPECT(rdma->credit - rdma->sequence <= RDMA_RESERVE);
    }
    stall(false);
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == 200);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->messages == 200);
    cluster_close(&cluster);
}

/* What is held keeps its receives; heartbeats pass beside it for as long as it lasts. */
TEST(credit, lets_heartbeats_pass_what_is_held_on_both_sides)
{
    struct cluster cluster;
    cluster_open(&cluster, OVER_RDMA, 2, 1);
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster.nodes[1].seats[0].hold_at = 1;
    cluster.nodes[2].seats[0].hold_at = 1;
    send_both_ways(&cluster, 200);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->messages == 1);
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == 1);
    cluster_run(&cluster, 200);
    for (unsigned i = 0; i < 5; i++) {
        uint64_t before_ms = now_ms();
        cluster_run(&cluster, 100);
        RUN_UNTIL(&cluster, net_heard_ns_any(cluster.nodes[1].net, 2) / 1000000 >= before_ms);
        RUN_UNTIL(&cluster, net_heard_ns_any(cluster.nodes[2].net, 1) / 1000000 >= before_ms);
    }
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->messages, 1);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->messages, 1);
    for (unsigned id = 1; id <= 2; id++) {
        cluster.nodes[id].seats[0].hold_at = 0;
        net_resume(cluster.nodes[id].seats[0].lane, 3 - id);
    }
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == 200);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->messages == 200);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->downs, 0);
    cluster_close(&cluster);
}

/* ---- numbers that begin again at 0 ---- */

/* Nothing is on its way between the two, and no completion waits. */
static bool is_quiet(struct cluster *cluster)
{
    for (unsigned id = 1; id <= 2; id++) {
        if (net_poll(cluster->nodes[id].seats[0].lane) ||
            cluster->nodes[id].seats[0].lane->links[3 - id].output.backlog > 0 ||
            rdma_of_lane(cluster, id, 3 - id)->sequence !=
                rdma_of_lane(cluster, 3 - id, id)->received)
            return false;
    }
    return true;
}

/* As if that many more had been sent, posted and pulled, both ways. */
static void advance(struct rdma_link *rdma, uint32_t by)
{
    uint32_t *numbers[] = {&rdma->sent,   &rdma->done,       &rdma->sequence, &rdma->credit,
                           &rdma->staged, &rdma->posted,     &rdma->told,     &rdma->received,
                           &rdma->pulled, &rdma->pulled_told};
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        *numbers[i] += by;
}

/* 2^32 frames take minutes on a fast device. */
TEST(credit, goes_on_when_its_numbers_begin_again)
{
    struct cluster cluster;
    uint32_t sent[3] = {0};
    open_connected(&cluster, OVER_RDMA, 2);
    cluster_run(&cluster, 50);
    RUN_UNTIL(&cluster, is_quiet(&cluster));
    uint32_t by = (uint32_t)-RDMA_SEND_COUNT - rdma_of_lane(&cluster, 1, 2)->sent;
    by -= by % RDMA_SEND_COUNT; /* each number keeps its slot */
    advance(rdma_of_lane(&cluster, 1, 2), by);
    advance(rdma_of_lane(&cluster, 2, 1), by);
    for (unsigned round = 0; round < 300; round++)
        for (unsigned id = 1; id <= 2; id++) {
            send_some(&cluster, id, 3 - id, &sent[id], 1, round % 2 == 0 ? 20000 : 500);
            net_flush(cluster.nodes[id].seats[0].lane);
            cluster_turn(&cluster);
        }
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == 300);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->messages == 300);
    for (unsigned id = 1; id <= 2; id++) {
        const struct rdma_link *rdma = rdma_of_lane(&cluster, id, 3 - id);
        EXPECT(rdma->sent < 10000 && rdma->sequence < 10000 && rdma->received < 10000);
        EXPECT(rdma->credit < 10000 && rdma->posted < 10000);
        EXPECT(rdma->staged < 10000 && rdma->pulled < 10000);
        EXPECT_EQ(seen_by(&cluster, id, 0, 3 - id)->downs, 0);
    }
    cluster_close(&cluster);
}
