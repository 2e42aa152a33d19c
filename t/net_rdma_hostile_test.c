/* Goal: a peer that got in and then lies over its queue pair loses its connection, and reaches no
 * memory but what is there for it to read. Method: two nodes on devices without hardware
 * (fake_verbs.h); node 1's queue pair is made to send, or to ask for, what node 1 never would. */
#include "base/crc32c.h"
#include "net/rdma_private.h"
#include "t/net_cluster.h"

static struct link *liar(struct cluster *cluster)
{
    return &cluster->nodes[1].seats[0].lane->links[2];
}

/* A frame as node 1 would send it next, and room for what follows its header. */
struct lie {
    struct frame_header header;
    union {
        uint8_t payload[RDMA_EAGER_MAX];
        struct frame_source source;
        struct message_header message;
    };
};

static struct lie make_lie(struct cluster *cluster)
{
    const struct rdma_link *rdma = liar(cluster)->rdma;
    return (struct lie){.header = {.magic = FRAME_MAGIC,
                                   .sequence = rdma->sequence,
                                   .granted = rdma->posted,
                                   .pulled = rdma->pulled}};
}

static void post_lie(struct cluster *cluster, const struct lie *lie, uint32_t size)
{
    struct link *link = liar(cluster);
    uint32_t number = link->rdma->sent++;
    uint8_t *slot = link->rdma->send_slots + (size_t)(number % RDMA_SEND_COUNT) * RDMA_SLOT_SIZE;
    struct ibv_sge place = {
        .addr = (uintptr_t)slot, .length = size, .lkey = rdma_of(link)->frames->lkey};
    struct ibv_send_wr *failed, request = {.wr_id = rdma_work_id(RDMA_SEND, link, number),
                                           .sg_list = &place,
                                           .num_sge = 1,
                                           .opcode = IBV_WR_SEND,
                                           .send_flags = IBV_SEND_SIGNALED};
    link->rdma->sequence++;
    memcpy(slot, lie, size);
    EXPECT_EQ(ibv_post_send(link->rdma->id->qp, &request, &failed), 0);
}

static void seal_and_post(struct cluster *cluster, struct lie *lie, uint32_t size)
{
    frame_seal(&lie->header);
    post_lie(cluster, lie, size);
}

/* Node 2 says why, once, and the two connect again. */
static void expect_caught(struct cluster *cluster, const char *why)
{
    struct seen *seen = seen_by(cluster, 2, 0, 1);
    unsigned downs = seen->downs;
    RUN_UNTIL(cluster, seen->downs == downs + 1);
    EXPECT_TEXT(seen->why, why);
    EXPECT(has_line(&cluster->nodes[2], why));
    RUN_UNTIL(cluster, all_up(cluster));
    cluster_run(cluster, 30);
}

/* ---- frames ---- */

TEST(rdma_hostile, frames_whose_sizes_lie_end_the_connection)
{
    static const struct {
        uint32_t magic, size, message_count, sent;
    } lies[] = {
        {FRAME_MAGIC, 0, 0, sizeof(struct frame_header) - 1},
        {FRAME_MAGIC, 0, 0, 0},
        {FRAME_MAGIC, 16, 1, sizeof(struct frame_header)},
        {FRAME_MAGIC, 16, 1, sizeof(struct frame_header) + 24},
        {FRAME_MAGIC, RDMA_EAGER_MAX + 8, 1, RDMA_SLOT_SIZE},
        {FRAME_MAGIC, UINT32_MAX - 7, 1, RDMA_SLOT_SIZE},
        {FRAME_MAGIC, 16, 0, sizeof(struct frame_header) + 16},
        {FRAME_MAGIC, 16, 3, sizeof(struct frame_header) + 16},
        {FRAME_PULL_MAGIC, 16, 1, sizeof(struct frame_header)},
        {FRAME_PULL_MAGIC, 16, 1, sizeof(struct frame_header) + sizeof(struct frame_source) - 1},
        {FRAME_PULL_MAGIC, 16, 1, sizeof(struct frame_header) + sizeof(struct frame_source) + 8},
        {FRAME_PULL_MAGIC, MESSAGE_MAX * 2, 1,
         sizeof(struct frame_header) + sizeof(struct frame_source)},
    };
    struct cluster cluster;
    open_connected(&cluster, OVER_RDMA, 2);
    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct lie lie = make_lie(&cluster);
        lie.header.magic = lies[i].magic;
        lie.header.size = lies[i].size;
        lie.header.message_count = lies[i].message_count;
        seal_and_post(&cluster, &lie, lies[i].sent);
        expect_caught(&cluster, frame_error_text(FRAME_BAD_SIZE));
    }
    EXPECT_EQ(counted().reads, 0);
    cluster_close(&cluster);
}

TEST(rdma_hostile, frames_out_of_order_or_unsealed_end_the_connection)
{
    struct cluster cluster;
    open_connected(&cluster, OVER_RDMA, 2);
    struct lie lie = make_lie(&cluster);
    lie.header.sequence--;
    seal_and_post(&cluster, &lie, sizeof(lie.header));
    expect_caught(&cluster, frame_error_text(FRAME_BAD_SEQUENCE));
    lie = make_lie(&cluster);
    post_lie(&cluster, &lie, sizeof(lie.header));
    expect_caught(&cluster, frame_error_text(FRAME_BAD_HEADER));
    lie = make_lie(&cluster);
    lie.header.magic++;
    seal_and_post(&cluster, &lie, sizeof(lie.header));
    expect_caught(&cluster, frame_error_text(FRAME_BAD_MAGIC));
    cluster_close(&cluster);
}

/* More credits than there are receives would let this node run into an RNR; a payload that counts
 * as read before it was would be written over. */
TEST(rdma_hostile, counters_that_cannot_be_end_the_connection)
{
    static const struct {
        uint32_t granted, pulled;
    } lies[] = {
        {RDMA_RECEIVE_COUNT + 1, 0}, {UINT32_MAX, 0}, {UINT32_MAX / 2, 0}, {0, 1}, {0, UINT32_MAX},
    };
    struct cluster cluster;
    open_connected(&cluster, OVER_RDMA, 2);
    for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        uint32_t sent = 0;
        send_some(&cluster, 2, 1, &sent, 2, LARGE); /* pulled twice */
        RUN_UNTIL(&cluster, liar(&cluster)->rdma->pulled == 2);
        cluster_run(&cluster, 30);
        struct lie lie = make_lie(&cluster);
        /* -1 of `granted` takes back what was given; `pulled` may be one behind, not two. */
        lie.header.granted += lies[i].granted;
        lie.header.pulled += lies[i].pulled == UINT32_MAX ? (uint32_t)-2 : lies[i].pulled;
        seal_and_post(&cluster, &lie, sizeof(lie.header));
        expect_caught(&cluster, frame_error_text(FRAME_BAD_COUNTERS));
    }
    cluster_close(&cluster);
}

/* An iWARP acceptor that speaks before it may brings the dialler's link up before the dialler hears
 * that the connection is there. */
TEST(rdma_hostile, a_connection_that_is_there_may_be_told_of_late)
{
    struct cluster cluster;
    open_connected(&cluster, OVER_RDMA, 2);
    rdma_link_event(&cluster.nodes[2].seats[0].lane->links[1], RDMA_CM_EVENT_ESTABLISHED);
    cluster_run(&cluster, 30);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->ups, 1);
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->downs, 0);
    cluster_close(&cluster);
}

/* ---- messages that are pulled ---- */

/* A pulled frame of `size` bytes that lie in node 1's staging. */
static struct lie make_pulled(struct cluster *cluster, uint32_t size)
{
    struct lie lie = make_lie(cluster);
    uint8_t *staging = liar(cluster)->rdma->staging;
    struct message_header message = {.size = size - sizeof(message)};
    memcpy(staging, &message, sizeof(message));
    lie.header.magic = FRAME_PULL_MAGIC;
    lie.header.size = size;
    lie.header.message_count = 1;
    lie.header.payload_crc = crc32c(0, staging, size);
    lie.source = (struct frame_source){.address = (uintptr_t)staging,
                                       .key = rdma_of(liar(cluster))->staging->rkey};
    return lie;
}

static const uint32_t announced = sizeof(struct frame_header) + sizeof(struct frame_source);

TEST(rdma_hostile, what_is_pulled_is_checked_like_what_is_sent)
{
    struct cluster cluster;
    open_connected(&cluster, OVER_RDMA, 2);
    struct lie lie = make_pulled(&cluster, 20000);
    lie.header.payload_crc++;
    seal_and_post(&cluster, &lie, announced);
    expect_caught(&cluster, frame_error_text(FRAME_BAD_PAYLOAD));
    lie = make_pulled(&cluster, 20000);
    ((struct message_header *)liar(&cluster)->rdma->staging)->size += 8;
    lie.header.payload_crc = crc32c(0, liar(&cluster)->rdma->staging, 20000);
    seal_and_post(&cluster, &lie, announced);
    expect_caught(&cluster, frame_error_text(FRAME_BAD_MESSAGES));
    EXPECT_EQ(seen_by(&cluster, 2, 0, 1)->messages, 0);
    cluster_close(&cluster);
}

/* The READ fails at the liar's own device, which breaks the queue pair. */
TEST(rdma_hostile, a_pull_from_nowhere_ends_the_connection)
{
    struct cluster cluster;
    open_connected(&cluster, OVER_RDMA, 2);
    for (unsigned i = 0; i < 3; i++) {
        struct seen *seen = seen_by(&cluster, 2, 0, 1);
        struct lie lie = make_pulled(&cluster, 20000);
        lie.source.key += i == 0 ? 1000 : 0;
        lie.source.address += i == 1 ? 1u << 30 : 0;
        lie.source.address = i == 2 ? UINT64_MAX - 10000 : lie.source.address;
        seal_and_post(&cluster, &lie, announced);
        RUN_UNTIL(&cluster, seen->downs == i + 1);
        EXPECT_TEXT(seen->why, "remote access error");
        RUN_UNTIL(&cluster, all_up(&cluster));
        cluster_run(&cluster, 30);
    }
    cluster_close(&cluster);
}

/* One at a time goes into the sink; the others wait in their slots. */
TEST(rdma_hostile, many_pulls_at_once_are_taken_one_by_one)
{
    struct cluster cluster;
    open_connected(&cluster, OVER_RDMA, 2);
    cluster.nodes[2].seats[0].hold_at = 7;
    memset(liar(&cluster)->rdma->staging, 0, 20000);
    liar(&cluster)->rdma->staging[sizeof(struct message_header)] = 7;
    for (unsigned i = 0; i < 40; i++) {
        struct lie lie = make_pulled(&cluster, 20000);
        seal_and_post(&cluster, &lie, announced);
    }
    liar(&cluster)->rdma->staged = 1; /* or it would be the one that complains */
    RUN_UNTIL(&cluster, counted().reads == 1);
    cluster_run(&cluster, 30);
    EXPECT_EQ(counted().reads, 1);
    EXPECT(cluster.nodes[2].seats[0].lane->links[1].rdma->ring_count >= 40);
    net_drop(cluster.nodes[2].seats[0].lane, 1, "enough");
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->downs == 1);
    cluster.nodes[2].seats[0].hold_at = 0;
    RUN_UNTIL(&cluster, all_up(&cluster));
    cluster_close(&cluster);
}

/* ---- memory ---- */

/* Node 1 reads `size` bytes at `from` of node 2 into its own sink; true: it got them. */
static bool reads(struct cluster *cluster, const void *from, uint32_t key, uint32_t size)
{
    struct link *link = liar(cluster);
    struct seen *seen = seen_by(cluster, 1, 0, 2);
    unsigned downs = seen->downs;
    struct ibv_sge place = {
        .addr = (uintptr_t)link->rdma->sink, .length = size, .lkey = rdma_of(link)->sinks->lkey};
    struct ibv_send_wr *failed, request = {
                                    .wr_id = rdma_work_id(RDMA_SEND, link, link->rdma->sent++),
                                    .sg_list = &place,
                                    .num_sge = 1,
                                    .opcode = IBV_WR_RDMA_READ,
                                    .send_flags = IBV_SEND_SIGNALED,
                                    .wr.rdma = {.remote_addr = (uintptr_t)from, .rkey = key},
                                };
    EXPECT_EQ(ibv_post_send(link->rdma->id->qp, &request, &failed), 0);
    cluster_run(cluster, 30);
    if (seen->downs == downs)
        return true;
    EXPECT_TEXT(seen->why, "remote access error");
    RUN_UNTIL(cluster, all_up(cluster));
    return false;
}

TEST(rdma_hostile, a_peer_may_read_the_staging_and_nothing_else)
{
    struct cluster cluster;
    open_connected(&cluster, OVER_RDMA, 2);
    const struct rdma *victim = cluster.nodes[2].net->rdma;
    const uint8_t *staging = victim->staging->addr, *sinks = victim->sinks->addr;
    EXPECT(reads(&cluster, staging, victim->staging->rkey, 4096));
    EXPECT(!reads(&cluster, victim->frames->addr, victim->frames->rkey, 4096));
    EXPECT(!reads(&cluster, sinks, victim->sinks->rkey, 4096));
    EXPECT(!reads(&cluster, sinks, victim->staging->rkey, 4096));
    EXPECT(!reads(&cluster, staging - 4096, victim->staging->rkey, 4096));
    EXPECT(!reads(&cluster, sinks - 8, victim->staging->rkey, 16));
    cluster_close(&cluster);
}
