/* Goal: nothing but whole, undamaged, ordered frames and proper hellos gets past net's border
 * checks. Method: make good ones, spoil one thing at a time, and name the refusal; run frames
 * through the real output and input over a socket pair. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "net/frame.h"
#include "net/hello.h"
#include "net/input.h"
#include "net/output.h"
#include "t/test.h"

enum { PAYLOAD_MAX = 65536, SEQUENCE = 5 };

struct two_messages {
    struct frame_header header;
    struct message_header first;
    uint8_t first_bytes[8];
    struct message_header second;
    uint8_t second_bytes[16];
};

static void seal(struct two_messages *frame)
{
    frame->header.payload_crc = crc32c(0, &frame->first, frame->header.size);
    frame_seal(&frame->header);
}

static struct two_messages make_frame(void)
{
    struct two_messages frame = {
        .header = {.magic = FRAME_MAGIC, .size = 40, .message_count = 2, .sequence = SEQUENCE},
        .first = {.size = 3},
        .first_bytes = "abc",
        .second = {.size = 16},
        .second_bytes = "0123456789abcdef"};
    seal(&frame);
    return frame;
}

static enum frame_error check(const struct two_messages *frame)
{
    enum frame_error error = frame_check_header(&frame->header, SEQUENCE, PAYLOAD_MAX);
    return error == FRAME_OK ? frame_check_payload(&frame->header, &frame->first) : error;
}

TEST(frame, gives_its_messages_aligned_and_in_order)
{
    struct two_messages frame = make_frame();
    struct slice message;
    uint32_t offset = 0;
    ASSERT_EQ(check(&frame), FRAME_OK);
    ASSERT(frame_message(&frame.header, &frame.first, &offset, &message));
    EXPECT(slice_equal(message, slice_text("abc")));
    EXPECT_EQ((uintptr_t)message.data % 8, 0);
    ASSERT(frame_message(&frame.header, &frame.first, &offset, &message));
    EXPECT(slice_equal(message, slice_text("0123456789abcdef")));
    EXPECT_EQ((uintptr_t)message.data % 8, 0);
    EXPECT(!frame_message(&frame.header, &frame.first, &offset, &message));
}

TEST(frame, without_messages_is_a_heartbeat)
{
    struct frame_header header = {.magic = FRAME_MAGIC, .sequence = SEQUENCE};
    struct slice message;
    uint32_t offset = 0;
    frame_seal(&header);
    EXPECT_EQ(frame_check_header(&header, SEQUENCE, PAYLOAD_MAX), FRAME_OK);
    EXPECT_EQ(frame_check_payload(&header, &header + 1), FRAME_OK);
    EXPECT(!frame_message(&header, &header + 1, &offset, &message));
}

/* Each flipped bit of the whole frame must be noticed, whatever it means. */
TEST(frame, notices_each_flipped_bit)
{
    for (size_t bit = 0; bit < sizeof(struct two_messages) * 8; bit++) {
        struct two_messages frame = make_frame();
        ((uint8_t *)&frame)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (check(&frame) == FRAME_OK)
            test_fail(__FILE__, __LINE__, "bit %zu was not noticed", bit);
    }
}

TEST(frame, names_what_is_wrong_in_a_header)
{
    struct two_messages frame = make_frame();
    frame.header.magic++;
    EXPECT_EQ(check(&frame), FRAME_BAD_MAGIC);
    frame = make_frame();
    frame.header.header_crc++;
    EXPECT_EQ(check(&frame), FRAME_BAD_HEADER);
    frame = make_frame();
    frame.header.sequence++;
    seal(&frame);
    EXPECT_EQ(check(&frame), FRAME_BAD_SEQUENCE);
    frame = make_frame();
    frame.header.size = PAYLOAD_MAX + 8;
    frame_seal(&frame.header);
    EXPECT_EQ(check(&frame), FRAME_BAD_SIZE);
    frame.header.size = 39;
    frame_seal(&frame.header);
    EXPECT_EQ(check(&frame), FRAME_BAD_SIZE);
    frame = make_frame();
    frame.header.message_count = 6; /* of 8 bytes each at least, in 40 */
    frame_seal(&frame.header);
    EXPECT_EQ(check(&frame), FRAME_BAD_SIZE);
}

TEST(frame, names_what_is_wrong_in_a_payload)
{
    struct two_messages frame = make_frame();
    frame.first_bytes[0]++;
    EXPECT_EQ(check(&frame), FRAME_BAD_PAYLOAD);
    uint32_t sizes[] = {17, 24, 0x7fffffff, UINT32_MAX, UINT32_MAX - 7};
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        frame = make_frame();
        frame.second.size = sizes[i];
        seal(&frame);
        EXPECT_EQ(check(&frame), FRAME_BAD_MESSAGES);
    }
    frame = make_frame();
    frame.second.kind = FRAME_KIND_COUNT;
    seal(&frame);
    EXPECT_EQ(check(&frame), FRAME_BAD_MESSAGES);
    frame = make_frame();
    frame.header.message_count = 1; /* bytes are left */
    seal(&frame);
    EXPECT_EQ(check(&frame), FRAME_BAD_MESSAGES);
    frame.header.message_count = 3; /* a message is missing */
    seal(&frame);
    EXPECT_EQ(check(&frame), FRAME_BAD_MESSAGES);
}

TEST(frame, has_pings_and_pongs_of_one_size_only)
{
    for (unsigned kind = FRAME_PING; kind <= FRAME_PONG; kind++) {
        struct two_messages frame = make_frame();
        frame.first.size = FRAME_PROBE_SIZE;
        frame.first.kind = kind;
        seal(&frame);
        EXPECT_EQ(check(&frame), FRAME_OK);
        frame.first.size = FRAME_PROBE_SIZE - 1;
        seal(&frame);
        EXPECT_EQ(check(&frame), FRAME_BAD_MESSAGES);
        frame = make_frame();
        frame.second.kind = kind; /* 16 bytes */
        seal(&frame);
        EXPECT_EQ(check(&frame), FRAME_BAD_MESSAGES);
    }
}

/* ---- output to input ---- */

struct pipe {
    int fds[2];
    struct block_pool pool;
    struct output output;
    struct input input;
};

static bool pipe_open(struct pipe *pipe, uint32_t message_size_max)
{
    *pipe = (struct pipe){0};
    output_init(&pipe->output, &pipe->pool);
    input_init(&pipe->input, frame_payload_max(message_size_max));
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pipe->fds) == 0;
}

static void pipe_close(struct pipe *pipe)
{
    output_reset(&pipe->output);
    block_pool_close(&pipe->pool);
    input_reset(&pipe->input);
    close(pipe->fds[0]);
    close(pipe->fds[1]);
}

/* Message `i`: of a size that depends on i, each byte too. */
static size_t sample_size(unsigned i)
{
    static const size_t sizes[] = {0, 1, 7, 8, 9, 100, 4000, 33000, 70000, 300000};
    return sizes[i % 10];
}

static bool sample_equal(unsigned i, struct slice message)
{
    const uint8_t *bytes = message.data;
    if (message.size != sample_size(i) || (uintptr_t)bytes % 8 != 0)
        return false;
    for (size_t at = 0; at < message.size; at++)
        if (bytes[at] != (uint8_t)(at * 31 + i))
            return false;
    return true;
}

static enum status add_sample(struct output *output, unsigned i)
{
    static uint8_t bytes[300000];
    for (size_t at = 0; at < sample_size(i); at++)
        bytes[at] = (uint8_t)(at * 31 + i);
    size_t half = sample_size(i) / 2;
    struct slice parts[] = {slice_make(bytes, half), slice_make(NULL, 0),
                            slice_make(bytes + half, sample_size(i) - half)};
    return output_add(output, parts, 3, sample_size(i));
}

/* Messages of all sizes, through socket buffers smaller than many of them. */
TEST(pipe, carries_messages_of_all_sizes)
{
    struct pipe pipe;
    unsigned taken = 0;
    ASSERT(pipe_open(&pipe, 300000));
    for (unsigned i = 0; i < 200; i++)
        ASSERT_EQ(add_sample(&pipe.output, i), STATUS_OK);
    while (taken < 200) {
        struct slice message;
        enum frame_error error;
        enum status written = output_write(&pipe.output, pipe.fds[0]);
        ASSERT(written == STATUS_OK || written == STATUS_AGAIN);
        ASSERT_EQ(input_read(&pipe.input, pipe.fds[1]), STATUS_OK);
        while (input_peek(&pipe.input, &message, &error) == STATUS_OK) {
            ASSERT(sample_equal(taken, message));
            taken++;
            input_take(&pipe.input);
        }
    }
    EXPECT_EQ(pipe.output.backlog, 0);
    EXPECT_EQ(pipe.output.bytes, pipe.input.bytes);
    EXPECT_EQ(pipe.output.frames, pipe.input.frames);
    EXPECT_EQ(pipe.output.messages, 200);
    EXPECT_EQ(pipe.input.messages, 200);
    pipe_close(&pipe);
}

TEST(pipe, tells_pings_and_pongs_from_messages_and_does_not_count_them)
{
    struct pipe pipe;
    struct slice message;
    enum frame_error error;
    uint64_t stamp;
    static const enum frame_kind kinds[] = {FRAME_PING, FRAME_MESSAGE, FRAME_PONG};
    ASSERT(pipe_open(&pipe, 1000));
    ASSERT_EQ(output_add_probe(&pipe.output, FRAME_PING, 4711), STATUS_OK);
    ASSERT_EQ(add_sample(&pipe.output, 5), STATUS_OK);
    ASSERT_EQ(output_add_probe(&pipe.output, FRAME_PONG, 4711), STATUS_OK);
    ASSERT_EQ(output_write(&pipe.output, pipe.fds[0]), STATUS_OK);
    ASSERT_EQ(input_read(&pipe.input, pipe.fds[1]), STATUS_OK);
    for (unsigned i = 0; i < 3; i++) {
        ASSERT_EQ(input_peek(&pipe.input, &message, &error), STATUS_OK);
        ASSERT_EQ(frame_message_kind(message), kinds[i]);
        if (kinds[i] != FRAME_MESSAGE) {
            memcpy(&stamp, message.data, sizeof(stamp));
            EXPECT(message.size == sizeof(stamp) && stamp == 4711);
        }
        input_take(&pipe.input);
    }
    EXPECT_EQ(pipe.input.frames, 1);
    EXPECT_EQ(pipe.input.messages, 1);
    EXPECT_EQ(pipe.output.messages, 1);
    pipe_close(&pipe);
}

/* A large frame's memory comes back, but not while large frames keep coming. */
TEST(pipe, shrinks_when_no_large_frame_came_for_a_while)
{
    struct pipe pipe;
    struct slice message;
    enum frame_error error;
    ASSERT(pipe_open(&pipe, 300000));
    ASSERT_EQ(add_sample(&pipe.output, 9), STATUS_OK);
    do {
        enum status written = output_write(&pipe.output, pipe.fds[0]);
        ASSERT(written == STATUS_OK || written == STATUS_AGAIN);
        ASSERT_EQ(input_read(&pipe.input, pipe.fds[1]), STATUS_OK);
    } while (input_peek(&pipe.input, &message, &error) == STATUS_AGAIN);
    EXPECT(sample_equal(9, message));
    input_take(&pipe.input);
    EXPECT_EQ(input_peek(&pipe.input, &message, &error), STATUS_AGAIN);
    input_shrink(&pipe.input);
    EXPECT(pipe.input.capacity >= 300000);
    input_shrink(&pipe.input);
    EXPECT_EQ(pipe.input.capacity, 0);
    pipe_close(&pipe);
}

/* Behind a message that is not taken, reading goes on (heartbeats must be heard) but ends
 * somewhere. */
TEST(pipe, reads_behind_an_untaken_message_up_to_a_limit)
{
    struct pipe pipe;
    struct slice message;
    enum frame_error error;
    size_t read = 0;
    ASSERT(pipe_open(&pipe, 1000));
    ASSERT_EQ(add_sample(&pipe.output, 5), STATUS_OK);
    ASSERT_EQ(output_write(&pipe.output, pipe.fds[0]), STATUS_OK);
    ASSERT_EQ(input_read(&pipe.input, pipe.fds[1]), STATUS_OK);
    ASSERT_EQ(input_peek(&pipe.input, &message, &error), STATUS_OK);
    for (;;) {
        for (unsigned i = 0; i < 100; i++)
            ASSERT_EQ(output_add_heartbeat(&pipe.output), STATUS_OK);
        enum status written = output_write(&pipe.output, pipe.fds[0]);
        ASSERT(written == STATUS_OK || written == STATUS_AGAIN);
        enum status status = input_read(&pipe.input, pipe.fds[1]);
        if (status == STATUS_BUSY)
            break;
        ASSERT_EQ(status, STATUS_OK);
        read = pipe.input.end - pipe.input.begin;
        ASSERT(read < 1 << 20);
    }
    EXPECT(read > 250000);
    ASSERT_EQ(input_peek(&pipe.input, &message, &error), STATUS_OK);
    EXPECT(sample_equal(5, message));
    input_take(&pipe.input);
    EXPECT_EQ(input_peek(&pipe.input, &message, &error), STATUS_AGAIN);
    EXPECT_EQ(input_read(&pipe.input, pipe.fds[1]), STATUS_OK);
    pipe_close(&pipe);
}

TEST(pipe, tells_the_end_and_a_damaged_stream)
{
    struct pipe pipe;
    struct slice message;
    enum frame_error error;
    ASSERT(pipe_open(&pipe, 1000));
    EXPECT_EQ(input_read(&pipe.input, pipe.fds[1]), STATUS_AGAIN);
    ASSERT_EQ(write(pipe.fds[0], "GET / HTTP/1.1\r\nHost: someone.example\r\n\r\n", 42), 42);
    EXPECT_EQ(input_read(&pipe.input, pipe.fds[1]), STATUS_OK);
    EXPECT_EQ(input_peek(&pipe.input, &message, &error), STATUS_CORRUPT);
    EXPECT_EQ(error, FRAME_BAD_MAGIC);
    shutdown(pipe.fds[0], SHUT_WR);
    EXPECT_EQ(input_read(&pipe.input, pipe.fds[1]), STATUS_CLOSED);
    pipe_close(&pipe);
}

/* ---- hello ---- */

static const struct hello_side acceptor = {.self = 1,
                                           .transports = HELLO_TCP,
                                           .known = 1u << 1 | 1u << 2,
                                           .lane_count = 3,
                                           .message_size_max = 1000,
                                           .configuration = 77,
                                           .secret = "swordfish"};
static const struct hello_side dialler = {.self = 2,
                                          .transports = HELLO_TCP,
                                          .known = 1u << 1 | 1u << 2,
                                          .lane_count = 3,
                                          .message_size_max = 1000,
                                          .configuration = 77,
                                          .secret = "swordfish"};

TEST(hello, makes_both_sides_sure)
{
    struct hello call, answer;
    struct hello_proof proof;
    hello_make(&call, &dialler, 1, 2, 41);
    ASSERT_EQ(hello_check_call(&call, &acceptor), HELLO_ACCEPTED);
    hello_make(&answer, &acceptor, 2, 2, 99);
    hello_prove_answer(&answer, &call, &acceptor);
    ASSERT_EQ(hello_check_answer(&answer, &call, &dialler), HELLO_ACCEPTED);
    hello_make_proof(&proof, &call, &answer, &dialler);
    ASSERT_EQ(hello_check_proof(&proof, &call, &answer, &acceptor), HELLO_ACCEPTED);
    EXPECT_EQ(answer.incarnation, 99);
}

/* A call of `side`, changed in one place and sealed again. */
static enum hello_refusal call_of(struct hello_side side, unsigned to, unsigned lane)
{
    struct hello call;
    hello_make(&call, &side, to, lane, 41);
    return hello_check_call(&call, &acceptor);
}

TEST(hello, refuses_each_difference_by_name)
{
    struct hello_side side = dialler;
    EXPECT_EQ(call_of(side, 2, 0), HELLO_WRONG_NODE);
    EXPECT_EQ(call_of(side, 1, 3), HELLO_DAMAGED); /* a lane that does not exist */
    side.configuration++;
    EXPECT_EQ(call_of(side, 1, 0), HELLO_OTHER_CONFIGURATION);
    side = dialler;
    side.lane_count++;
    EXPECT_EQ(call_of(side, 1, 0), HELLO_OTHER_LANES);
    side = dialler;
    side.message_size_max++;
    EXPECT_EQ(call_of(side, 1, 0), HELLO_OTHER_SIZE);
    side = dialler;
    side.secret = NULL;
    EXPECT_EQ(call_of(side, 1, 0), HELLO_SECRET);
    unsigned strangers[] = {0, 3, 7, 31, 32, 255};
    for (unsigned i = 0; i < sizeof(strangers) / sizeof(strangers[0]); i++) {
        side = dialler;
        side.self = strangers[i];
        EXPECT_EQ(call_of(side, 1, 0), HELLO_UNKNOWN_NODE);
    }
    side = dialler;
    side.self = 1;
    EXPECT_EQ(call_of(side, 1, 0), HELLO_WRONG_DIRECTION);
}

TEST(hello, refuses_another_version_by_its_first_bytes)
{
    struct hello call;
    hello_make(&call, &dialler, 1, 0, 41);
    call.version++;
    EXPECT_EQ(hello_check_prefix(&call), HELLO_OTHER_VERSION);
    EXPECT_EQ(hello_check_call(&call, &acceptor), HELLO_OTHER_VERSION);
    EXPECT_EQ(hello_check_prefix("GET / HT"), HELLO_NOT_OURS);
}

TEST(hello, notices_each_flipped_bit)
{
    for (size_t bit = 0; bit < sizeof(struct hello) * 8; bit++) {
        struct hello call;
        hello_make(&call, &dialler, 1, 0, 41);
        ((uint8_t *)&call)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT(hello_check_call(&call, &acceptor) != HELLO_ACCEPTED);
    }
}

TEST(hello, does_not_believe_who_has_another_secret)
{
    struct hello call, answer;
    struct hello_proof proof;
    struct hello_side other = acceptor;
    other.secret = "swordfisH";
    hello_make(&call, &dialler, 1, 0, 41);
    hello_make(&answer, &other, 2, 0, 99);
    hello_prove_answer(&answer, &call, &other);
    EXPECT_EQ(hello_check_answer(&answer, &call, &dialler), HELLO_PROOF);
    hello_prove_answer(&answer, &call, &acceptor);
    hello_make_proof(&proof, &call, &answer, &other);
    EXPECT_EQ(hello_check_proof(&proof, &call, &answer, &acceptor), HELLO_PROOF);
}

static uint32_t chosen(uint32_t offered, uint32_t accepted)
{
    struct hello call;
    struct hello_side side = acceptor;
    side.transports = accepted;
    hello_make(&call, &dialler, 1, 0, 41);
    hello_offer(&call, offered);
    enum hello_refusal refusal = hello_check_call(&call, &side);
    EXPECT_EQ(refusal, hello_choose(&call, &side) == 0 ? HELLO_NO_TRANSPORT : HELLO_ACCEPTED);
    return hello_choose(&call, &side);
}

TEST(hello, takes_rdma_where_both_have_it_and_refuses_where_nothing_is_common)
{
    EXPECT_EQ(chosen(HELLO_TCP | HELLO_RDMA, HELLO_TCP | HELLO_RDMA), HELLO_RDMA);
    EXPECT_EQ(chosen(HELLO_RDMA, HELLO_TCP | HELLO_RDMA), HELLO_RDMA);
    EXPECT_EQ(chosen(HELLO_TCP, HELLO_TCP | HELLO_RDMA), HELLO_TCP);
    EXPECT_EQ(chosen(HELLO_TCP | HELLO_RDMA, HELLO_TCP), HELLO_TCP);
    EXPECT_EQ(chosen(HELLO_TCP, HELLO_RDMA), 0);
    EXPECT_EQ(chosen(0, HELLO_TCP), 0);
}

/* An answer must choose one, and one that was offered. */
TEST(hello, refuses_an_answer_that_chooses_what_was_not_offered)
{
    struct hello call, answer;
    struct hello_side both = dialler;
    both.transports = HELLO_TCP | HELLO_RDMA;
    hello_make(&call, &both, 1, 0, 41);
    hello_make(&answer, &acceptor, 2, 0, 99);
    hello_offer(&answer, HELLO_TCP | HELLO_RDMA);
    hello_prove_answer(&answer, &call, &acceptor);
    EXPECT_EQ(hello_check_answer(&answer, &call, &both), HELLO_DAMAGED);
    hello_offer(&answer, HELLO_RDMA);
    hello_prove_answer(&answer, &call, &acceptor);
    EXPECT_EQ(hello_check_answer(&answer, &call, &both), HELLO_ACCEPTED);
    hello_offer(&call, HELLO_TCP);
    hello_prove_answer(&answer, &call, &acceptor);
    EXPECT_EQ(hello_check_answer(&answer, &call, &both), HELLO_DAMAGED);
}

/* A queue pair joins the greeting it was made for: same lane, nodes, nonces and secret. */
TEST(hello, lets_only_the_greeted_join)
{
    struct hello call, answer, other;
    struct hello_join join;
    hello_make(&call, &dialler, 1, 0, 41);
    hello_make(&answer, &acceptor, 2, 0, 99);
    hello_make_join(&join, &call, &answer, &dialler);
    EXPECT_EQ(hello_check_join(&join, &call, &answer, &acceptor), HELLO_ACCEPTED);
    hello_make(&other, &acceptor, 2, 0, 99);
    EXPECT_EQ(hello_check_join(&join, &call, &other, &acceptor), HELLO_DAMAGED);
    hello_make(&other, &dialler, 1, 0, 41);
    EXPECT_EQ(hello_check_join(&join, &other, &answer, &acceptor), HELLO_PROOF);
    for (size_t bit = 0; bit < sizeof(join) * 8; bit++) {
        struct hello_join wrong = join;
        ((uint8_t *)&wrong)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT(hello_check_join(&wrong, &call, &answer, &acceptor) != HELLO_ACCEPTED);
    }
}

TEST(hello, notices_each_flipped_bit_of_where_to_join)
{
    struct hello_ready ready;
    hello_make_ready(&ready, 4711);
    EXPECT_EQ(hello_check_ready(&ready), HELLO_ACCEPTED);
    EXPECT_EQ(ready.port, 4711);
    for (size_t bit = 0; bit < sizeof(ready) * 8; bit++) {
        struct hello_ready wrong = ready;
        ((uint8_t *)&wrong)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT_EQ(hello_check_ready(&wrong), HELLO_DAMAGED);
    }
}

/* What was heard on another connection proves nothing here, nor does the acceptor's own proof sent
 * back. */
TEST(hello, does_not_believe_a_proof_repeated)
{
    struct hello call, answer, second;
    struct hello_proof proof;
    hello_make(&call, &dialler, 1, 0, 41);
    hello_make(&answer, &acceptor, 2, 0, 99);
    hello_prove_answer(&answer, &call, &acceptor);
    hello_make_proof(&proof, &call, &answer, &dialler);
    hello_make(&second, &acceptor, 2, 0, 99);
    EXPECT_EQ(hello_check_proof(&proof, &call, &second, &acceptor), HELLO_PROOF);
    memcpy(proof.proof, answer.proof, sizeof(proof.proof));
    proof.crc = crc32c(0, &proof, offsetof(struct hello_proof, crc));
    EXPECT_EQ(hello_check_proof(&proof, &call, &answer, &acceptor), HELLO_PROOF);
}

TEST(hello, tells_a_refusal_from_an_answer)
{
    struct hello call, answer;
    hello_make(&call, &dialler, 1, 0, 41);
    hello_make_refusal(&answer, &acceptor, 2, HELLO_OTHER_LANES);
    EXPECT_EQ(hello_check_answer(&answer, &call, &dialler), HELLO_REFUSED_US);
    EXPECT_TEXT(hello_refusal_text(answer.refusal), "another number of lanes (shards)");
    EXPECT_TEXT(hello_refusal_text(200), "for an unknown reason");
}
