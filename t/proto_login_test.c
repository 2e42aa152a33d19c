/* Goal: before a client has said who he is, only that one command is understood, with memcached's
 * answers, and what he can make us keep is bounded. Method: input and trace (t/login_trace.h),
 * whole, cut in two at every byte, and byte by byte. */
#include "proto/login.h"

#include "t/login_trace.h"
#include "t/test.h"

#define NO "!CLIENT_ERROR unauthenticated|"

static bool trace_is(struct slice input, const size_t *cuts, size_t cut_count, const char *expected)
{
    struct trace trace = login_trace(input, cuts, cut_count);
    bool same = slice_equal(slice_make(trace.text, trace.size), slice_text(expected));
    if (!same)
        test_fail(__FILE__, __LINE__, "%.200s\n(%zu cuts, first %zu) gives\n%.300s\nexpected\n%s",
                  (const char *)input.data, cut_count, cut_count > 0 ? cuts[0] : 0, trace.text,
                  expected);
    free(trace.text);
    return same;
}

static void check(struct slice input, const char *expected)
{
    size_t *cuts = malloc((input.size + 1) * sizeof(*cuts));
    bool same = trace_is(input, NULL, 0, expected);
    for (size_t at = 1; same && at < input.size; at += 1 + input.size / 500)
        same = trace_is(input, &at, 1, expected);
    for (size_t i = 0; i < input.size; i++)
        cuts[i] = i + 1;
    if (same)
        trace_is(input, cuts, input.size, expected);
    free(cuts);
}
#define CHECK(input, expected) check(slice_make(input, sizeof(input) - 1), expected)

TEST(login, a_set_holds_user_and_password)
{
    CHECK("set a 0 0 10\r\nbob secret\r\n", "bob=secret|");
    CHECK("set any x y 10 noreply\nbob secret\r\n", "bob=secret|");
    CHECK("  set   a  0  0  10\r\nbob secret\r\n", "bob=secret|");
}

TEST(login, a_password_may_hold_spaces_and_colons)
{
    CHECK("set a 0 0 15\r\nbob se cret: x \r\n", "bob=se cret: x |");
    CHECK("set a 0 0 8\r\nbob   pw\r\n", "bob=  pw|");
    CHECK("set a 0 0 8\r\n  bob pw\r\n", "bob=pw|");
}

TEST(login, anything_else_is_refused_with_a_line_each)
{
    CHECK("mn\r\nversion\r\nquit\r\nget a\r\n", NO NO NO NO);
    CHECK("\r\n\n   \r\n", NO NO NO);
    CHECK("SET a 0 0 2\r\nb\r\n", NO NO);
    CHECK("add a 0 0 3\r\nb c\r\n", NO NO);
    CHECK("set a 0 0\r\n", NO);
    CHECK("set a 0 0 -1\r\nset a 0 0 x\r\nset a 0 0 4294967296\r\n", NO NO NO);
    CHECK("\x80\x21\r\n", NO);
}

TEST(login, another_attempt_may_follow)
{
    CHECK("get a\r\nset a 0 0 3\r\nb c\r\nset a 0 0 3\r\nb d\r\n", NO "b=c|b=d|");
}

TEST(login, a_pair_needs_a_space_and_two_words)
{
    CHECK("set a 0 0 4\r\nbobp\r\n", "!CLIENT_ERROR bad authentication token format|");
    CHECK("set a 0 0 4\r\nbob \r\n", "!CLIENT_ERROR bad authentication token format|");
    CHECK("set a 0 0 0\r\n\r\n", "!CLIENT_ERROR bad authentication token format|");
    CHECK("set a 0 0 3\r\n   \r\n", "!CLIENT_ERROR bad authentication token format|");
}

TEST(login, the_data_ends_in_crlf)
{
    CHECK("set a 0 0 3\r\nb cXYmn\r\n", "!CLIENT_ERROR bad command line termination|" NO);
    CHECK("set a 0 0 3\r\nb c\nXmn\r\n", "!CLIENT_ERROR bad command line termination|" NO);
}

static void check_size(unsigned size, const char *expected)
{
    char *text = malloc(40000);
    int used = snprintf(text, 100, "set a 0 0 %u\r\n", size);
    memset(text + used, 'x', size);
    memcpy(text + used + size, "\r\nmn\r\n", 6);
    check(slice_make(text, (size_t)used + size + 6), expected);
    free(text);
}

TEST(login, the_data_has_at_most_16_kib_with_its_crlf)
{
    check_size(16381, "!CLIENT_ERROR bad authentication token format|" NO);
    check_size(16382, "!CLIENT_ERROR bad authentication token format|" NO);
    check_size(16383, "!CLIENT_ERROR auth token too long|X|CLOSE|");
    CHECK("set a 0 0 2147483646\r\n", "!CLIENT_ERROR auth token too long|X|CLOSE|");
    CHECK("set a 0 0 4294967295\r\n", "!CLIENT_ERROR auth token too long|X|CLOSE|");
}

static void check_line(unsigned size, const char *expected)
{
    char *text = malloc(5000);
    memset(text, 'x', size);
    text[size] = '\n';
    check(slice_make(text, (size_t)size + 1), expected);
    free(text);
}

TEST(login, a_line_of_more_than_2048_bytes_closes)
{
    check_line(2047, NO);
    check_line(2048, NO);
    check_line(2049, "CLOSE|");
}
