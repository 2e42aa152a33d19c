/* Goal: rules of RDMA for whose breach something else makes up, late or mostly: ticks, the other
 * end, luck. Method: two nodes on devices without hardware (fake_verbs.h), without ticks or with
 * one end that hangs; calls to the device are met on their way. */
#include <errno.h>

#include "net/rdma_private.h"
#include "t/net_cluster.h"

enum { NO_TICKS_MS = 600000, TURNS = 200 };

static void open_with(struct cluster *cluster, enum transport over, uint32_t heartbeat_ms)
{
    cluster_prepare(cluster, over, 2, 1);
    for (unsigned id = 1; id <= 2; id++) {
        cluster->nodes[id].options.heartbeat_ms = heartbeat_ms;
        node_open(cluster, id);
    }
    RUN_UNTIL(cluster, all_up(cluster) || counted().rnr > 0);
    EXPECT_EQ(counted().rnr, 0);
}

static struct seat *seat_of(struct cluster *cluster, unsigned id)
{
    return &cluster->nodes[id].seats[0];
}

static unsigned messages_at(struct cluster *cluster, unsigned id)
{
    return seen_by(cluster, id, 0, 3 - id)->messages;
}

static void check_never_down(struct cluster *cluster)
{
    EXPECT_EQ(seen_by(cluster, 1, 0, 2)->downs, 0);
    EXPECT_EQ(seen_by(cluster, 2, 0, 1)->downs, 0);
}

/* One node's loop alone: the other hangs. */
static void turn_alone(struct cluster *cluster, unsigned id, unsigned turns)
{
    for (unsigned i = 0; i < turns; i++) {
        seat_turn(seat_of(cluster, id));
        usleep(200);
    }
}

/* Node 2 gets so many within TURNS turns: what waits for a tick does not come so soon. */
static void expect_messages(struct cluster *cluster, unsigned count)
{
    for (unsigned turn = 0; turn < TURNS && messages_at(cluster, 2) < count; turn++)
        cluster_turn(cluster);
    EXPECT_EQ(messages_at(cluster, 2), count);
}

/* ---- credits ---- */

/* Messages go one way; what the other way carries are grants. */
TEST(rdma_rule, grants_come_without_waiting_for_a_tick)
{
    struct cluster cluster;
    uint32_t sent = 0;
    open_with(&cluster, OVER_RDMA, NO_TICKS_MS);
    for (unsigned i = 0; i < 4; i++) {
        send_some(&cluster, 1, 2, &sent, 100, 5000);
        expect_messages(&cluster, 100 * (i + 1));
    }
    check_never_down(&cluster);
    cluster_close(&cluster);
}

TEST(rdma_rule, a_payload_that_was_pulled_is_told_of_without_waiting_for_a_tick)
{
    struct cluster cluster;
    uint32_t sent = 0;
    open_with(&cluster, OVER_RDMA, NO_TICKS_MS);
    send_some(&cluster, 1, 2, &sent, 10, LARGE);
    expect_messages(&cluster, 10);
    cluster_close(&cluster);
}

/* The end that hangs has been sent all that it has receives for. The other has receives to tell it
 * of, again and again, and may not. */
TEST(rdma_rule, a_grant_too_waits_for_a_receive)
{
    struct cluster cluster;
    uint32_t one = 0, two = 0;
    open_with(&cluster, OVER_RDMA, 2);
    send_some(&cluster, 2, 1, &two, 100, 5000);
    turn_alone(&cluster, 2, 50);
    for (unsigned i = 0; i < RDMA_RECEIVE_COUNT - RDMA_RESERVE; i++) {
        send_some(&cluster, 1, 2, &one, 1, 5000);
        net_flush(seat_of(&cluster, 1)->lane);
        turn_alone(&cluster, 2, 20); /* some ticks */
    }
    EXPECT(messages_at(&cluster, 2) > RDMA_GRANT_LAG);
    struct rdma_link *rdma = seat_of(&cluster, 2)->lane->links[1].rdma;
    EXPECT_EQ(rdma->credit - rdma->sequence, 0);
    EXPECT(rdma->posted != rdma->told);
    check_never_down(&cluster);
    RUN_UNTIL(&cluster, messages_at(&cluster, 1) == two && messages_at(&cluster, 2) == one);
    check_never_down(&cluster);
    cluster_close(&cluster);
}

/* What is held keeps the receives it lies in; the few others are posted again one by one. */
TEST(rdma_rule, what_is_held_keeps_its_own_receives_alone)
{
    struct cluster cluster;
    uint32_t sent = 0;
    open_with(&cluster, OVER_RDMA, 2);
    struct rdma_link *rdma = seat_of(&cluster, 2)->lane->links[1].rdma;
    seat_of(&cluster, 2)->hold_at = 1;
    send_some(&cluster, 1, 2, &sent, 200, 5000);
    for (unsigned turn = 0; turn < TURNS; turn++) /* many ticks, each with a heartbeat */
        cluster_turn(&cluster);
    EXPECT_EQ(messages_at(&cluster, 2), 1);
    EXPECT(rdma->ring_count >= RDMA_RECEIVE_COUNT - RDMA_RESERVE);
    EXPECT(rdma->posted - rdma->received > 0);
    seat_of(&cluster, 2)->hold_at = 0;
    net_resume(seat_of(&cluster, 2)->lane, 1);
    RUN_UNTIL(&cluster, messages_at(&cluster, 2) == sent || seen_by(&cluster, 2, 0, 1)->downs > 0);
    check_never_down(&cluster);
    cluster_close(&cluster);
}

/* What is under way has a limit of its own: a completion tells of many sends, and late. */
TEST(rdma_rule, the_place_of_a_send_is_used_again_when_its_completion_was_seen)
{
    struct cluster cluster;
    uint32_t sent = 0;
    open_with(&cluster, OVER_RDMA, NO_TICKS_MS);
    for (unsigned i = 0; i < 40 && messages_at(&cluster, 2) == sent; i++) {
        send_some(&cluster, 1, 2, &sent, 37, 5000);
        net_flush(seat_of(&cluster, 1)->lane);
        for (unsigned turn = 0; turn < TURNS && messages_at(&cluster, 2) < sent; turn++) {
            turn_alone(&cluster, 2, 3);
            turn_alone(&cluster, 1, 1);
        }
    }
    EXPECT_EQ(messages_at(&cluster, 2), 40 * 37);
    check_never_down(&cluster);
    cluster_close(&cluster);
}

/* Over iWARP the acceptor is told of the connection when it accepts, or with the first frame. */
TEST(rdma_rule, who_accepts_waits_for_the_first_frame_before_it_speaks)
{
    for (unsigned seed = 1; seed <= 5; seed++) {
        struct cluster cluster;
        struct fake_settings settings = fake_settings_default();
        settings.iwarp = true;
        settings.delay = 40;
        settings.seed = seed;
        cluster_prepare(&cluster, OVER_IWARP, 2, 1);
        fake_verbs_set(&settings);
        node_open(&cluster, 1);
        node_open(&cluster, 2);
        RUN_UNTIL(&cluster, all_up(&cluster));
        check_never_down(&cluster);
        cluster_close(&cluster);
    }
}

/* ---- sleeping ---- */

static struct {
    struct cluster *cluster;
    int (*notify)(struct ibv_cq *cq, int solicited_only);
    uint32_t sent;
    bool due;
} between;

/* A message arrives when the queue was found empty, and just before a wake-up is asked for. */
static int notify_after_a_message(struct ibv_cq *cq, int solicited_only)
{
    if (between.due) {
        between.due = false;
        send_some(between.cluster, 1, 2, &between.sent, 1, 100);
        net_flush(seat_of(between.cluster, 1)->lane);
    }
    return between.notify(cq, solicited_only);
}

TEST(rdma_rule, a_message_that_comes_just_before_sleep_is_not_slept_over)
{
    struct cluster cluster;
    open_with(&cluster, OVER_RDMA, NO_TICKS_MS);
    cluster_run(&cluster, 20);
    struct ibv_context_ops *ops = &cluster.nodes[2].net->rdma->context->ops;
    between.cluster = &cluster;
    between.notify = ops->req_notify_cq;
    between.sent = 0;
    between.due = true;
    ops->req_notify_cq = notify_after_a_message;
    send_some(&cluster, 1, 2, &between.sent, 1, 100);
    net_flush(seat_of(&cluster, 1)->lane);
    turn_alone(&cluster, 2, 20);
    ops->req_notify_cq = between.notify;
    EXPECT(!between.due);
    EXPECT_EQ(between.sent, 2);
    EXPECT_EQ(messages_at(&cluster, 2), 2);
    cluster_close(&cluster);
}

/* ---- completion queues ---- */

/* All that the first queue pair had under way is flushed into the completion queue, and lies there
 * while the next one comes and gets all that it can. */
TEST(rdma_rule, a_completion_queue_has_room_for_two_queue_pairs_of_each_peer)
{
    struct cluster cluster;
    uint32_t one = 0, two = 0;
    open_with(&cluster, OVER_POLLED_RDMA, NO_TICKS_MS);
    cluster_run(&cluster, 20);
    struct seat *seat = seat_of(&cluster, 2);
    struct seen *seen = seen_by(&cluster, 2, 0, 1);
    fake_verbs_stall(1, true);
    send_some(&cluster, 2, 1, &two, 200, 5000);
    net_flush(seat->lane);
    net_drop(seat->lane, 1, "the test wants it");
    event_base_loop(seat->base, EVLOOP_NONBLOCK);
    EXPECT_EQ(seen->downs, 1);
    fake_verbs_stall(1, false);
    for (uint64_t end = now_ms() + PATIENCE_MS; seen->ups < 2 && now_ms() < end;) {
        event_base_loop(seat->base, EVLOOP_NONBLOCK); /* and no poll */
        turn_alone(&cluster, 1, 1);
    }
    EXPECT_EQ(seen->ups, 2);
    turn_alone(&cluster, 1, 5);
    send_some(&cluster, 1, 2, &one, 100, 5000);
    turn_alone(&cluster, 1, 5);
    RUN_UNTIL(&cluster, seen->messages == 100 || seen->downs > 1);
    EXPECT_EQ(seen->messages, 100);
    EXPECT_EQ(seen->downs, 1);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->downs, 1);
    cluster_close(&cluster);
}

enum { SMALL_DEPTH = 16 };

static struct ibv_cq *create_small_cq(struct ibv_context *context, int depth, void *user,
                                      struct ibv_comp_channel *channel, int vector)
{
    (void)depth;
    return fake_verbs.ibv_create_cq(context, SMALL_DEPTH, user, channel, vector);
}

/* Takes what there is, and says nothing of it. */
static int no_async_event(struct ibv_context *context, struct ibv_async_event *event)
{
    while (fake_verbs.ibv_get_async_event(context, event) == 0)
        fake_verbs.ibv_ack_async_event(event);
    errno = EAGAIN;
    return -1;
}

static int (*poll_as_it_is)(struct ibv_cq *cq, int count, struct ibv_wc *completions);

static int poll_without_errors(struct ibv_cq *cq, int count, struct ibv_wc *completions)
{
    int got = poll_as_it_is(cq, count, completions);
    return got < 0 ? 0 : got;
}

/* Node 2's completion queue overflows, which it hears from an event or from the poll. All of it is
 * noticed by node 2 itself: node 1 hangs. */
static void overflow(bool by_event)
{
    struct cluster cluster;
    uint32_t sent = 0;
    cluster_prepare(&cluster, OVER_RDMA, 2, 1);
    struct rdma_api api = *fake_verbs_of(2);
    api.ibv_create_cq = create_small_cq;
    if (!by_event)
        api.ibv_get_async_event = no_async_event;
    cluster.nodes[2].options.rdma = &api;
    for (unsigned id = 1; id <= 2; id++) {
        cluster.nodes[id].options.choice = NET_CHOOSE_AUTO;
        cluster.nodes[id].options.device_again_ms = NO_TICKS_MS; /* not in this test */
        node_open(&cluster, id);
    }
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster_run(&cluster, 20);
    struct ibv_context_ops *ops = &cluster.nodes[2].net->rdma->context->ops;
    poll_as_it_is = ops->poll_cq;
    if (by_event)
        ops->poll_cq = poll_without_errors;
    EXPECT(net_is_rdma(seat_of(&cluster, 2)->lane, 1));
    send_some(&cluster, 1, 2, &sent, 2 * SMALL_DEPTH, 5000);
    net_flush(seat_of(&cluster, 1)->lane);
    turn_alone(&cluster, 2, 50);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->downs, 1);
    EXPECT(has_chosen(&cluster.nodes[2], by_event ? "overflowed" : "completion queue failed"));
    RUN_UNTIL(&cluster, all_up(&cluster) && seen_by(&cluster, 1, 0, 2)->downs == 1);
    EXPECT(!net_is_rdma(seat_of(&cluster, 2)->lane, 1));
    ops->poll_cq = poll_as_it_is;
    cluster_close(&cluster);
}

TEST(rdma_rule, a_completion_queue_that_overflows_is_noticed_by_its_event)
{
    overflow(true);
}

TEST(rdma_rule, a_completion_queue_that_overflows_is_noticed_by_who_polls)
{
    overflow(false);
}
