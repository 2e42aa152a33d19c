/* Goal: only nodes of this cluster, of this version, who know the secret, in their newest
 * incarnation get in; all others are turned away with one clear line and cost nothing. Method: a
 * real node as acceptor, hand-made callers with one thing wrong each; two real nodes that do not
 * fit; fences and incarnations on real clusters. */
#include <errno.h>
#include <fcntl.h>

#include "base/crc32c.h"
#include "net/frame.h"
#include "net/hello.h"
#include "net/net_private.h"
#include "t/net_cluster.h"

/* ---- a hand-made node 2 ---- */

struct caller {
    int fd;
    struct hello_side side;
    struct hello call, answer;
};

static struct caller caller_make(const struct cluster *cluster)
{
    struct caller caller = {.fd = -1};
    const struct net_options *options = &cluster->nodes[1].options;
    caller.side = (struct hello_side){.self = 2,
                                      .transports = HELLO_TCP,
                                      .known = 1u << 1 | 1u << 2,
                                      .lane_count = options->lane_count,
                                      .message_size_max = options->message_size_max,
                                      .configuration = options->configuration,
                                      .secret = options->secret};
    hello_make(&caller.call, &caller.side, 1, 0, 500);
    return caller;
}

static void caller_connect(struct caller *caller, const struct cluster *cluster)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {htonl(INADDR_LOOPBACK)},
                                  .sin_port = htons(net_port(cluster->nodes[1].net))};
    caller->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(caller->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    fcntl(caller->fd, F_SETFL, O_NONBLOCK);
}

static void caller_send(const struct caller *caller, const void *bytes, size_t size)
{
    EXPECT_EQ(send(caller->fd, bytes, size, MSG_NOSIGNAL), size);
}

/* True: the acceptor closed the connection (and sent nothing more). */
static bool caller_closed(const struct caller *caller)
{
    char byte;
    ssize_t got = recv(caller->fd, &byte, 1, 0);
    return got == 0 || (got < 0 && errno != EAGAIN);
}

static bool caller_answered(struct caller *caller)
{
    return recv(caller->fd, &caller->answer, sizeof(caller->answer), MSG_PEEK) ==
               sizeof(caller->answer) &&
           recv(caller->fd, &caller->answer, sizeof(caller->answer), 0) == sizeof(caller->answer);
}

/* The whole handshake, as `call` stands; false: refused. */
static bool caller_enter(struct caller *caller, struct cluster *cluster)
{
    struct hello_proof proof;
    caller_connect(caller, cluster);
    caller_send(caller, &caller->call, sizeof(caller->call));
    RUN_UNTIL(cluster, caller_answered(caller));
    if (caller->answer.refusal != 0)
        return false;
    EXPECT_EQ(hello_check_answer(&caller->answer, &caller->call, &caller->side), HELLO_ACCEPTED);
    hello_make_proof(&proof, &caller->call, &caller->answer, &caller->side);
    caller_send(caller, &proof, sizeof(proof));
    return true;
}

static void reseal(struct hello *hello)
{
    hello->crc = crc32c(0, hello, offsetof(struct hello, crc));
}

/* A cluster of two of which only node 1 runs. */
static void open_acceptor(struct cluster *cluster, const char *secret)
{
    cluster_prepare(cluster, OVER_TCP, 2, 2);
    cluster->nodes[1].options.secret = secret;
    node_open(cluster, 1);
}

/* Calls with caller->call, expects that reason, and closes. */
static void expect_refusal(struct cluster *cluster, struct caller *caller,
                           enum hello_refusal refusal)
{
    reseal(&caller->call);
    EXPECT(!caller_enter(caller, cluster));
    if (caller->answer.refusal != refusal)
        test_fail(__FILE__, __LINE__, "refused as \"%s\", expected \"%s\"",
                  hello_refusal_text(caller->answer.refusal), hello_refusal_text(refusal));
    EXPECT(has_line(&cluster->nodes[1], hello_refusal_text(refusal)));
    RUN_UNTIL(cluster, caller_closed(caller));
    close(caller->fd);
    *caller = caller_make(cluster);
}

TEST(door, tells_each_foreign_node_and_the_operator_why)
{
    struct cluster cluster;
    open_acceptor(&cluster, NULL);
    struct caller caller = caller_make(&cluster);
    caller.call.configuration++;
    expect_refusal(&cluster, &caller, HELLO_OTHER_CONFIGURATION);
    caller.call.version++;
    expect_refusal(&cluster, &caller, HELLO_OTHER_VERSION);
    caller.call.lane_count++;
    expect_refusal(&cluster, &caller, HELLO_OTHER_LANES);
    caller.call.message_size_max--;
    expect_refusal(&cluster, &caller, HELLO_OTHER_SIZE);
    caller.call.from = 5;
    expect_refusal(&cluster, &caller, HELLO_UNKNOWN_NODE);
    caller.call.to = 2;
    expect_refusal(&cluster, &caller, HELLO_WRONG_NODE);
    caller.call.from = 1;
    expect_refusal(&cluster, &caller, HELLO_WRONG_DIRECTION);
    caller.call.secured = 1;
    expect_refusal(&cluster, &caller, HELLO_SECRET);
    caller.call.lane = 2;
    expect_refusal(&cluster, &caller, HELLO_DAMAGED);
    EXPECT_EQ(net_refused_any(cluster.nodes[1].net), 9);
    EXPECT_EQ(cluster.nodes[1].line_count, 9);
    EXPECT(has_line(&cluster.nodes[1],
                    "refused node 2, lane 0 (127.0.0.1): another cluster configuration"));
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->ups, 0);
    cluster_close(&cluster);
}

TEST(door, complains_once_about_the_same)
{
    struct cluster cluster;
    open_acceptor(&cluster, NULL);
    struct caller caller = caller_make(&cluster);
    for (unsigned i = 0; i < 20; i++) {
        caller.call.configuration++;
        expect_refusal(&cluster, &caller, HELLO_OTHER_CONFIGURATION);
    }
    EXPECT_EQ(cluster.nodes[1].line_count, 1);
    EXPECT_EQ(net_refused_any(cluster.nodes[1].net), 20);
    cluster_close(&cluster);
}

TEST(door, turns_garbage_away_without_an_answer)
{
    struct cluster cluster;
    open_acceptor(&cluster, NULL);
    static const char *const texts[] = {"GET / HTTP/1.1\r\n\r\n", "get key\r\n",
                                        "\x16\x03\x01\x02\x01\x01\x01\xfc\x03\x03"};
    for (unsigned i = 0; i < 3; i++) {
        struct caller caller = caller_make(&cluster);
        caller_connect(&caller, &cluster);
        caller_send(&caller, texts[i], strlen(texts[i]));
        RUN_UNTIL(&cluster, caller_closed(&caller));
        close(caller.fd);
    }
    EXPECT_EQ(cluster.nodes[1].line_count, 1);
    EXPECT(has_line(&cluster.nodes[1],
                    "refused a connection (127.0.0.1): it does not speak this protocol"));
    cluster_close(&cluster);
}

/* Pieces of 1, 2, 3 bytes and so on: byte by byte takes too long on a busy machine. */
TEST(door, takes_a_hello_that_comes_in_pieces_and_frames_right_behind_it)
{
    struct cluster cluster;
    open_acceptor(&cluster, "swordfish");
    struct caller caller = caller_make(&cluster);
    caller_connect(&caller, &cluster);
    size_t sent = 0;
    for (size_t size = 1; sent < sizeof(caller.call); size++) {
        if (size > sizeof(caller.call) - sent)
            size = sizeof(caller.call) - sent;
        caller_send(&caller, (uint8_t *)&caller.call + sent, size);
        sent += size;
        cluster_turn(&cluster);
    }
    RUN_UNTIL(&cluster, caller_answered(&caller));
    struct {
        struct hello_proof proof;
        struct frame_header frame;
        struct message_header message;
        uint64_t number; /* message 0, with a pattern of index for bytes 4..7 */
    } rest = {.frame = {.magic = FRAME_MAGIC, .size = 16, .message_count = 1},
              .message = {.size = 8},
              .number = 0x0706050400000000};
    rest.frame.payload_crc = crc32c(0, &rest.message, 16);
    frame_seal(&rest.frame);
    hello_make_proof(&rest.proof, &caller.call, &caller.answer, &caller.side);
    caller_send(&caller, &rest, sizeof(rest));
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->messages == 1);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->incarnation, 500);
    close(caller.fd);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->downs == 1);
    cluster_close(&cluster);
}

TEST(door, closes_a_connection_that_sends_damaged_frames)
{
    struct cluster cluster;
    open_acceptor(&cluster, NULL);
    struct frame_header frames[] = {{.magic = FRAME_MAGIC, .sequence = 0},
                                    {.magic = FRAME_MAGIC, .sequence = 2}};
    struct caller caller = caller_make(&cluster);
    frame_seal(&frames[0]);
    frame_seal(&frames[1]);
    ASSERT(caller_enter(&caller, &cluster));
    caller_send(&caller, frames, sizeof(frames));
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->downs == 1);
    EXPECT_TEXT(seen_by(&cluster, 1, 0, 2)->why, "frame out of order");
    EXPECT(has_line(&cluster.nodes[1], "damaged bytes from node 2, lane 0; connection closed "
                                       "(127.0.0.1): frame out of order"));
    close(caller.fd);
    cluster_close(&cluster);
}

/* Nor may a peer say how long a round trip took. */
TEST(door, closes_a_connection_that_answers_what_was_not_asked)
{
    struct cluster cluster;
    struct {
        struct frame_header header;
        struct message_header message;
        uint64_t stamp;
    } frame = {.header = {.magic = FRAME_MAGIC, .size = 16, .message_count = 1},
               .message = {.size = FRAME_PROBE_SIZE, .kind = FRAME_PONG},
               .stamp = 1};
    open_acceptor(&cluster, NULL);
    struct caller caller = caller_make(&cluster);
    frame.header.payload_crc = crc32c(0, &frame.message, 16);
    frame_seal(&frame.header);
    ASSERT(caller_enter(&caller, &cluster));
    caller_send(&caller, &frame, sizeof(frame));
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->downs == 1);
    EXPECT_TEXT(seen_by(&cluster, 1, 0, 2)->why, "an answer to a ping that was not sent");
    close(caller.fd);
    cluster_close(&cluster);
}

/* Answers are queued for it whether it reads them or not. */
TEST(door, closes_a_connection_that_asks_and_does_not_read_the_answers)
{
    enum { PINGS = 4000 };
    static struct {
        struct frame_header header;
        struct {
            struct message_header header;
            uint64_t stamp;
        } pings[PINGS];
    } frame;
    struct cluster cluster;
    size_t at = 0;
    cluster_prepare(&cluster, OVER_TCP, 2, 2);
    cluster.nodes[1].options.backlog_max = 65536;
    cluster.nodes[1].options.suspect_ms = 60000; /* nor does the kernel lose patience before */
    node_open(&cluster, 1);
    struct caller caller = caller_make(&cluster);
    ASSERT(caller_enter(&caller, &cluster));
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->ups == 1);
    for (unsigned i = 0; i < PINGS; i++)
        frame.pings[i].header =
            (struct message_header){.size = FRAME_PROBE_SIZE, .kind = FRAME_PING};
    frame.header =
        (struct frame_header){.magic = FRAME_MAGIC,
                              .size = sizeof(frame.pings),
                              .message_count = PINGS,
                              .payload_crc = crc32c(0, frame.pings, sizeof(frame.pings))};
    for (unsigned turn = 0; turn < 2000 && seen_by(&cluster, 1, 0, 2)->downs == 0; turn++) {
        frame_seal(&frame.header);
        ssize_t sent = send(caller.fd, (uint8_t *)&frame + at, sizeof(frame) - at, MSG_NOSIGNAL);
        at += sent > 0 ? (size_t)sent : 0;
        if (at == sizeof(frame)) {
            frame.header.sequence++;
            at = 0;
        }
        seat_turn(&cluster.nodes[1].seats[0]);
        EXPECT(cluster.nodes[1].seats[0].lane->links[2].output.backlog <
               4 * 65536 + sizeof(frame.pings));
    }
    EXPECT_TEXT(seen_by(&cluster, 1, 0, 2)->why, "too slow: more is queued for it than may be");
    close(caller.fd);
    cluster_close(&cluster);
}

/* More silent strangers than there are places; the real node must get in as soon as they are
 * dropped. */
TEST(door, drops_silent_strangers_after_two_seconds)
{
    struct cluster cluster;
    struct caller callers[80];
    open_acceptor(&cluster, NULL);
    uint64_t begin = now_ms();
    for (unsigned i = 0; i < 80; i++) {
        callers[i] = caller_make(&cluster);
        caller_connect(&callers[i], &cluster);
        caller_send(&callers[i], &callers[i].call, i % sizeof(struct hello));
    }
    cluster.nodes[2].options.connect_ms = 20000;
    node_open(&cluster, 2);
    bool is_early = false; /* all places are taken */
    RUN_UNTIL(&cluster, (is_early |= all_up(&cluster) && !caller_closed(&callers[0]),
                         caller_closed(&callers[0])));
    EXPECT(!is_early);
    uint64_t closed = now_ms();
    EXPECT(closed - begin >= 1950);
    RUN_UNTIL(&cluster, all_up(&cluster));
    EXPECT(now_ms() - closed < 5000);
    EXPECT(has_line(&cluster.nodes[1], "it did not say who it is in time"));
    for (unsigned i = 0; i < 80; i++)
        close(callers[i].fd);
    cluster_close(&cluster);
}

/* ---- real nodes that do not fit ---- */

static void expect_strangers(struct cluster *cluster, const char *first, const char *second)
{
    node_open(cluster, 1);
    node_open(cluster, 2);
    RUN_UNTIL(cluster, has_line(&cluster->nodes[1], first));
    RUN_UNTIL(cluster, has_line(&cluster->nodes[2], second));
    cluster_run(cluster, 100);
    EXPECT_EQ(seen_by(cluster, 1, 0, 2)->ups, 0);
    EXPECT_EQ(seen_by(cluster, 2, 0, 1)->ups, 0);
    EXPECT(cluster->nodes[1].line_count <= 2);
    EXPECT(cluster->nodes[2].line_count <= 2);
    cluster_close(cluster);
}

TEST(door, keeps_another_cluster_out_and_both_say_so)
{
    struct cluster cluster;
    cluster_prepare(&cluster, OVER_TCP, 2, 2);
    cluster.nodes[2].options.configuration++;
    expect_strangers(&cluster, "another cluster configuration",
                     "node 1 refused this node, lane 0 (127.0.0.1): another cluster configuration");
}

TEST(door, keeps_out_who_does_not_know_the_secret)
{
    struct cluster cluster;
    cluster_prepare(&cluster, OVER_TCP, 2, 1);
    cluster.nodes[1].options.secret = "swordfish";
    expect_strangers(&cluster, "only one side has a secret", "only one side has a secret");
    cluster_prepare(&cluster, OVER_TCP, 2, 1);
    cluster.nodes[1].options.secret = "swordfish";
    cluster.nodes[2].options.secret = "guess";
    node_open(&cluster, 1);
    node_open(&cluster, 2);
    /* The dialler finds out first: the acceptor could not prove it either. */
    RUN_UNTIL(&cluster, has_line(&cluster.nodes[2], "refused the answer of node 1, lane 0 "
                                                    "(127.0.0.1): another secret"));
    /* A caller that does not check, and makes its proof up. */
    struct caller caller = caller_make(&cluster);
    struct hello_proof proof;
    caller_connect(&caller, &cluster);
    caller_send(&caller, &caller.call, sizeof(caller.call));
    RUN_UNTIL(&cluster, caller_answered(&caller));
    caller.side.secret = "guess";
    hello_make_proof(&proof, &caller.call, &caller.answer, &caller.side);
    caller_send(&caller, &proof, sizeof(proof));
    RUN_UNTIL(&cluster, has_line(&cluster.nodes[1], "another secret"));
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->ups, 0);
    close(caller.fd);
    cluster_close(&cluster);
}

TEST(door, lets_in_who_knows_the_secret)
{
    struct cluster cluster;
    cluster_prepare(&cluster, OVER_TCP, 2, 1);
    cluster.nodes[1].options.secret = "swordfish";
    cluster.nodes[2].options.secret = "swordfish";
    node_open(&cluster, 1);
    node_open(&cluster, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    ASSERT_EQ(send_number(&cluster, 1, 0, 2, NET_LIVE, 0, 10), STATUS_OK);
    RUN_UNTIL(&cluster, seen_by(&cluster, 2, 0, 1)->messages == 1);
    EXPECT_EQ(cluster.nodes[1].line_count + cluster.nodes[2].line_count, 0);
    cluster_close(&cluster);
}

/* Another program on the port of a peer must not look like one. */
TEST(door, does_not_take_another_server_for_a_peer)
{
    struct cluster cluster;
    cluster_prepare(&cluster, OVER_TCP, 2, 1);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {htonl(INADDR_LOOPBACK)},
                                  .sin_port = htons(cluster.nodes[1].options.peers[0].port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), accepted = -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    ASSERT_EQ(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ASSERT_EQ(listen(fd, 10), 0);
    node_open(&cluster, 2);
    RUN_UNTIL(&cluster, (accepted = accept(fd, NULL, NULL)) >= 0);
    EXPECT_EQ(send(accepted, "220 mail.example ESMTP\r\n", 24, MSG_NOSIGNAL), 24);
    RUN_UNTIL(&cluster, has_line(&cluster.nodes[2], "refused the answer of node 1, lane 0 "
                                                    "(127.0.0.1): it does not speak"));
    close(accepted);
    close(fd);
    cluster_close(&cluster);
}

/* ---- incarnations ---- */

/* A node that was started again must not be heard through a connection of its former life, on any
 * lane. */
TEST(incarnation, newer_one_replaces_the_older_on_all_lanes)
{
    struct cluster cluster;
    open_acceptor(&cluster, NULL);
    struct caller old[2], young = caller_make(&cluster);
    for (unsigned lane = 0; lane < 2; lane++) {
        old[lane] = caller_make(&cluster);
        hello_make(&old[lane].call, &old[lane].side, 1, lane, 500);
        ASSERT(caller_enter(&old[lane], &cluster));
        RUN_UNTIL(&cluster, seen_by(&cluster, 1, lane, 2)->ups == 1);
    }
    young.call.incarnation = 501;
    reseal(&young.call);
    ASSERT(caller_enter(&young, &cluster));
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->ups == 2);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->incarnation, 501);
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 1, 2)->downs == 1);
    close(old[0].fd);
    close(old[1].fd);
    expect_refusal(&cluster, &old[0], HELLO_OLD_INCARNATION);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->downs, 1);
    close(young.fd);
    cluster_close(&cluster);
}

TEST(incarnation, same_one_on_a_second_connection_replaces_the_first)
{
    struct cluster cluster;
    open_acceptor(&cluster, NULL);
    struct caller first = caller_make(&cluster), second = caller_make(&cluster);
    ASSERT(caller_enter(&first, &cluster));
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->ups == 1);
    ASSERT(caller_enter(&second, &cluster));
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->ups == 2);
    EXPECT_TEXT(seen_by(&cluster, 1, 0, 2)->why, "replaced by a newer connection");
    RUN_UNTIL(&cluster, caller_closed(&first));
    close(first.fd);
    close(second.fd);
    cluster_close(&cluster);
}

/* A worker that hangs: connections made again and again to its lane may not pile up. */
TEST(incarnation, only_the_last_connection_waits_for_a_lane_that_hangs)
{
    struct cluster cluster;
    struct caller callers[5];
    open_acceptor(&cluster, NULL);
    struct seat *worker = &cluster.nodes[1].seats[0], *control = &cluster.nodes[1].seats[1];
    for (unsigned i = 0; i < 5; i++) {
        struct hello_proof proof;
        callers[i] = caller_make(&cluster);
        caller_connect(&callers[i], &cluster);
        caller_send(&callers[i], &callers[i].call, sizeof(callers[i].call));
        while (!caller_answered(&callers[i]))
            seat_turn(control);
        hello_make_proof(&proof, &callers[i].call, &callers[i].answer, &callers[i].side);
        caller_send(&callers[i], &proof, sizeof(proof));
        for (unsigned turn = 0; turn < 20; turn++, usleep(100))
            seat_turn(control);
    }
    for (unsigned i = 0; i < 4; i++)
        EXPECT(caller_closed(&callers[i]));
    EXPECT(!caller_closed(&callers[4]));
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->ups == 1);
    EXPECT(net_is_up(worker->lane, 2));
    for (unsigned i = 0; i < 5; i++)
        close(callers[i].fd);
    cluster_close(&cluster);
}

/* Only a proved hello may shut an older incarnation out; else any stranger could. */
TEST(incarnation, unproved_one_changes_nothing)
{
    struct cluster cluster;
    open_acceptor(&cluster, "swordfish");
    struct caller good = caller_make(&cluster), bad = caller_make(&cluster);
    ASSERT(caller_enter(&good, &cluster));
    RUN_UNTIL(&cluster, seen_by(&cluster, 1, 0, 2)->ups == 1);
    bad.call.incarnation = 900;
    reseal(&bad.call);
    caller_connect(&bad, &cluster);
    caller_send(&bad, &bad.call, sizeof(bad.call));
    RUN_UNTIL(&cluster, caller_answered(&bad));
    struct hello_proof proof = {.magic = HELLO_PROOF_MAGIC};
    proof.crc = crc32c(0, &proof, offsetof(struct hello_proof, crc));
    caller_send(&bad, &proof, sizeof(proof));
    RUN_UNTIL(&cluster, has_line(&cluster.nodes[1], "another secret"));
    cluster_run(&cluster, 20);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->downs, 0);
    close(good.fd);
    close(bad.fd);
    cluster_close(&cluster);
}

/* A node removed by its group is kept out by both roles, dialler and acceptor, until it comes as
 * somebody new. */
TEST(incarnation, fenced_one_stays_out_until_a_higher_comes)
{
    struct cluster cluster;
    cluster_open(&cluster, OVER_TCP, 3, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    net_fence_any(cluster.nodes[1].net, 2, 102);
    net_fence_any(cluster.nodes[3].net, 2, 102);
    for (unsigned lane = 0; lane < 2; lane++) {
        RUN_UNTIL(&cluster, seen_by(&cluster, 1, lane, 2)->downs == 1);
        RUN_UNTIL(&cluster, seen_by(&cluster, 3, lane, 2)->downs == 1);
        EXPECT_TEXT(seen_by(&cluster, 1, lane, 2)->why,
                    "its incarnation was removed from the group");
    }
    cluster_run(&cluster, 200);
    EXPECT_EQ(seen_by(&cluster, 1, 0, 2)->ups, 1);
    EXPECT_EQ(seen_by(&cluster, 3, 0, 2)->ups, 1);
    EXPECT(net_is_up(cluster.nodes[1].seats[0].lane, 3));
    net_set_incarnation_any(cluster.nodes[2].net, 300);
    RUN_UNTIL(&cluster, all_up(&cluster));
    for (unsigned lane = 0; lane < 2; lane++) {
        EXPECT_EQ(seen_by(&cluster, 1, lane, 2)->incarnation, 300);
        EXPECT_EQ(seen_by(&cluster, 3, lane, 2)->incarnation, 300);
    }
    cluster_close(&cluster);
}

TEST(incarnation, new_own_one_closes_and_connects_again)
{
    struct cluster cluster;
    cluster_open(&cluster, OVER_TCP, 3, 2);
    RUN_UNTIL(&cluster, all_up(&cluster));
    net_set_incarnation_any(cluster.nodes[2].net, 300);
    for (unsigned lane = 0; lane < 2; lane++) {
        RUN_UNTIL(&cluster, seen_by(&cluster, 1, lane, 2)->incarnation == 300);
        RUN_UNTIL(&cluster, seen_by(&cluster, 3, lane, 2)->incarnation == 300);
        EXPECT_EQ(seen_by(&cluster, 1, lane, 2)->downs, 1);
        EXPECT(seen_by(&cluster, 2, lane, 1)->downs >= 1);
    }
    RUN_UNTIL(&cluster, all_up(&cluster));
    EXPECT_EQ(seen_by(&cluster, 1, 0, 3)->downs, 0);
    cluster_close(&cluster);
}
