/* Goal: memcached 1.6.45's classic text protocol, byte for byte, however the bytes come. Method: a
 * table of input and the trace it must give (t/text_trace.h); each is fed whole, cut in two at
 * every byte, and byte by byte. */
#include "proto/text.h"

#include "t/text_check.h"

/* A growing text for the long inputs. */
struct text {
    struct trace bytes;
};

static void add(struct text *text, const char *string)
{
    trace_bytes(&text->bytes, string, strlen(string));
}

static void add_repeated(struct text *text, char byte, size_t count)
{
    for (size_t i = 0; i < count; i++)
        trace_bytes(&text->bytes, &byte, 1);
}

static void check_texts(struct text *input, const struct text_limits *with, struct text *expected)
{
    trace_bytes(&expected->bytes, "", 0);
    check(slice_make(input->bytes.text, input->bytes.size), with,
          slice_make(expected->bytes.text, expected->bytes.size));
    free(input->bytes.text);
    free(expected->bytes.text);
}

TEST(text, gives_the_keys_of_a_get_one_by_one)
{
    CHECK("get a\r\n", "get:a|END|");
    CHECK("get a b  a   c\r\n", "get:a|get:b|get:a|get:c|END|");
    CHECK("gets a\nget b\n", "gets:a|END|get:b|END|");
    CHECK("get   a \r\n", "get:a|END|");
    CHECK("gat 10 a b\r\n", "gat:a@10|gat:b@10|END|");
    CHECK("gats -1 a\r\n", "gats:a@-1|END|");
    CHECK("gat  0  a\r\n", "gat:a@0|END|");
    CHECK("get \t\xc3\xa4 \x01\0z\r\n", "get:\t\xc3\xa4|get:\x01\0z|END|");
}

TEST(text, a_carriage_return_inside_a_line_belongs_to_the_key)
{
    CHECK("get a\r b\r\n", "get:a\r|get:b|END|");
    CHECK("get a\r\r\n", "get:a\r|END|");
    CHECK("get \r a\n", "get:\r|get:a|END|");
}

TEST(text, noreply_is_a_key_of_get)
{
    CHECK("get noreply\r\n", "get:noreply|END|");
    CHECK("get a noreply\r\n", "get:a|get:noreply|END|");
    CHECK("set noreply 0 0 1\r\nx\r\n", "set:noreply,0,0,1|xSTORE|");
}

TEST(text, refuses_get_without_a_key_and_gat_without_a_number)
{
    CHECK("get\r\n", FORMAT);
    CHECK("get  \r\nget a\r\n", FORMAT "get:a|END|");
    CHECK("gat 10\r\n", FORMAT);
    CHECK("gats\r\n", FORMAT);
    CHECK("gat x k\r\nget a\r\n", "!CLIENT_ERROR invalid exptime argument|get:a|END|");
    CHECK("gat 2147483648 k\r\n", "!CLIENT_ERROR invalid exptime argument|");
}

TEST(text, reads_the_numbers_of_storage_commands)
{
    CHECK("set a 1 2 3\r\nabc\r\n", "set:a,1,2,3|abcSTORE|");
    CHECK("add a 4294967295 -1 0\r\n\r\n", "add:a,4294967295,-1,0|STORE|");
    CHECK("replace  a  7  0  1  \r\nx\r\n", "replace:a,7,0,1|xSTORE|");
    CHECK("append a 0 0 2\nxy\r\n", "append:a,0,0,2|xySTORE|");
    CHECK("prepend a 0 0 2 noreply\r\nxy\r\n", "prepend:a,0,0,2~|xySTORE~|");
    CHECK("cas a 0 0 1 18446744073709551615\r\nx\r\n", "cas:a,0,0,1,18446744073709551615|xSTORE|");
    CHECK("cas a 0 0 1 5 noreply\r\nx\r\n", "cas:a,0,0,1,5~|xSTORE~|");
    CHECK("set a 0 0 1 5\r\nx\r\n", "set:a,0,0,1|xSTORE|");
}

TEST(text, reads_flags_and_exptime_of_storage_commands_as_strtol_does)
{
    CHECK("set a 4294967296 0 0\r\n\r\n", "set:a,0,0,0|STORE|");
    CHECK("set a +5 +6 0\r\n\r\n", "set:a,5,6,0|STORE|");
    CHECK("set a 0 2147483648 0\r\n\r\n", "set:a,0,-2147483648,0|STORE|");
    CHECK("set a 0 4294967296 0\r\n\r\n", "set:a,0,0,0|STORE|");
    CHECK("set a -1 0 0\r\n\r\n", FORMAT);
    CHECK("set a 0x1 0 0\r\n\r\n", FORMAT);
    CHECK("set a 0 9223372036854775808 0\r\n\r\n", FORMAT);
    CHECK("set a 18446744073709551616 0 0\r\n\r\n", FORMAT);
}

TEST(text, a_value_may_hold_anything)
{
    CHECK("set a 0 0 7\r\nEND\r\nz\0\r\nget a\r\n", "set:a,0,0,7|END\r\nz\0STORE|get:a|END|");
}

TEST(text, a_bad_data_chunk_takes_two_bytes_more_and_the_rest_is_a_line)
{
    CHECK("set a 0 0 1\r\nabcd\r\nget a\r\n",
          "set:a,0,0,1|aDROP|!CLIENT_ERROR bad data chunk|" FORMAT "get:a|END|");
    CHECK("set a 0 0 1\r\nabcquit\r\nget a\r\n",
          "set:a,0,0,1|aDROP|!CLIENT_ERROR bad data chunk|quit|CLOSE|");
    CHECK("set a 0 0 3\r\nab\r\nget a\r\n",
          "set:a,0,0,3|ab\rDROP|!CLIENT_ERROR bad data chunk|!ERROR|");
    CHECK("set a 0 0 1 noreply\r\na\r\r\n", "set:a,0,0,1~|aDROP~|" FORMAT);
    CHECK("set a 0 0 1\r\na\n\nget a\r\n",
          "set:a,0,0,1|aDROP|!CLIENT_ERROR bad data chunk|get:a|END|");
}

TEST(text, a_line_without_a_length_skips_nothing_and_noreply_does_not_hide_it)
{
    CHECK("set a 0 0\r\nabc\r\n", FORMAT "!ERROR|");
    CHECK("set a 0 0 -1\r\n", FORMAT);
    CHECK("set a 0 0 x\r\n", FORMAT);
    CHECK("set a 0 0 +1\r\n", FORMAT);
    CHECK("set a 0 0 noreply\r\nget a\r\n", FORMAT "get:a|END|");
    CHECK("set a 0 0 x noreply\r\n", FORMAT);
    CHECK("set a 0 0 000000000001\r\n", FORMAT);
}

TEST(text, the_longest_length_is_two_below_the_largest_integer)
{
    CHECK("add a 0 0 2147483645\r\nabc", "");
    CHECK("add a 0 0 2147483646\r\nget a\r\n", FORMAT "get:a|END|");
    CHECK("add a 0 0 2147483647\r\nget a\r\n", FORMAT "get:a|END|");
    CHECK("add a 0 0 4294967297\r\nget a\r\n", FORMAT "get:a|END|");
}

TEST(text, a_refused_storage_line_still_swallows_its_data_block)
{
    CHECK("set a x 0 3\r\nabc\r\nget a\r\n", FORMAT "get:a|END|");
    CHECK("set a 0 y 3 noreply\r\nabc\r\nget a\r\n", "get:a|END|");
    CHECK("cas a 0 0 3\r\nabc\r\nget a\r\n", FORMAT "get:a|END|");
    CHECK("cas a 0 0 3 x\r\nget\r\nget a\r\n", FORMAT "get:a|END|");
    CHECK("cas a 0 0 3 noreply\r\nabc\r\nget a\r\n", "get:a|END|");
    CHECK("cas a 0 0 3 18446744073709551616\r\nabc\r\n", FORMAT);
}

TEST(text, a_set_that_is_too_large_deletes_the_old_value_and_then_answers)
{
    CHECK_SMALL("set a 0 0 965\r\n", "delete:a~^|");
    CHECK_SMALL("add a 0 0 965\r\n", "");
    for (int noreply = 0; noreply <= 1; noreply++) {
        struct text input = {{0}}, expected = {{0}};
        add(&input, noreply ? "set a 0 0 965 noreply\r\n" : "set a 0 0 965\r\n");
        add_repeated(&input, 'x', 965);
        add(&input, "\r\nreplace b 0 0 965\r\n");
        add_repeated(&input, '\n', 967);
        add(&input, "get a\r\n");
        add(&expected, "delete:a~^|");
        add(&expected, noreply ? "" : "!SERVER_ERROR object too large for cache|");
        add(&expected, "!SERVER_ERROR object too large for cache|get:a|END|");
        check_texts(&input, &small_limits, &expected);
    }
}

static void check_value_of(size_t size, bool flags, const char *expected_verdict)
{
    struct text input = {{0}}, expected = {{0}};
    char line[64];
    snprintf(line, sizeof(line), "add a %d 0 %zu\r\n", flags, size);
    add(&input, line);
    add_repeated(&input, 'x', size);
    add(&input, "\r\n");
    if (expected_verdict[0] != '!') {
        snprintf(line, sizeof(line), "add:a,%d,0,%zu|", flags, size);
        add(&expected, line);
        add_repeated(&expected, 'x', size);
    }
    add(&expected, expected_verdict);
    check_texts(&input, &small_limits, &expected);
}

TEST(text, the_item_size_counts_header_key_and_value)
{
    check_value_of(963, false, "STORE|");
    check_value_of(964, false, "STORE|");
    check_value_of(965, false, "!SERVER_ERROR object too large for cache|");
    check_value_of(960, true, "STORE|");
    check_value_of(961, true, "!SERVER_ERROR object too large for cache|");
    EXPECT(text_item_fits(1024 * 1024, 1, 0, 1048516));
    EXPECT(!text_item_fits(1024 * 1024, 1, 0, 1048517));
    EXPECT(!text_item_fits(1024 * 1024, 250, 0, UINT64_MAX));
    EXPECT(!text_item_fits(60, 250, 0, 0));
}

static void check_key_of(size_t size, bool fits)
{
    static const char *const lines[][3] = {
        {"get ", "\r\n", "get:"},
        {"get ", "\n", "get:"},
        {"gat 1 ", " b\r\n", "gat:"},
        {"touch ", " 1\r\n", "touch:"},
        {"incr ", " 1\r\n", "incr:"},
        {"delete ", "\r\n", "delete:"},
        {"set ", " 0 0 1\r\nx\r\n", "set:"},
    };
    static const char *const tails[] = {"|END|", "|END|", "@1|gat:b@1|END|", "@1|",
                                        "+1|",   "|",     ",0,0,1|xSTORE|"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct text input = {{0}}, expected = {{0}};
        add(&input, lines[i][0]);
        add_repeated(&input, 'k', size);
        add(&input, lines[i][1]);
        add(&input, "get a\r\n");
        add(&expected, fits ? lines[i][2] : FORMAT);
        if (fits)
            add_repeated(&expected, 'k', size);
        add(&expected, fits ? tails[i] : "");
        add(&expected, "get:a|END|");
        check_texts(&input, &limits, &expected);
    }
}

TEST(text, a_key_has_at_most_250_bytes)
{
    check_key_of(249, true);
    check_key_of(250, true);
    check_key_of(251, false);
    check_key_of(252, false);
    check_key_of(1500, false);
}

TEST(text, one_bad_key_spoils_a_line_of_ordinary_length)
{
    struct text input = {{0}}, expected = {{0}};
    add(&input, "get a b ");
    add_repeated(&input, 'k', 251);
    add(&input, " c\r\nget d\r\n");
    add(&expected, FORMAT "get:d|END|");
    check_texts(&input, &limits, &expected);
}

TEST(text, the_longest_line_has_2048_bytes)
{
    for (size_t size = 2047; size <= 2049; size++) {
        struct text input = {{0}}, expected = {{0}};
        add(&input, "delete a ");
        add_repeated(&input, 'x', size - 10);
        add(&input, "\r\nget a\r\n");
        add(&expected, size <= 2048 ? "delete:a|get:a|END|" : "CLOSE|");
        check_texts(&input, &limits, &expected);
    }
}

TEST(text, closes_on_a_long_line_without_end)
{
    static const char *const words[] = {"", "set a ", "GET ", " get a ", "getx ", "gat ", "gat 1"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        struct text input = {{0}}, expected = {{0}};
        add(&input, words[i]);
        add_repeated(&input, i == 5 ? ' ' : '1', 2049 - strlen(words[i]));
        add(&expected, "CLOSE|");
        check_texts(&input, &limits, &expected);
    }
}

static void check_long_list(const char *command, const char *key, unsigned count, const char *end)
{
    struct text input = {{0}}, expected = {{0}};
    add(&input, command);
    for (unsigned i = 0; i < count; i++) {
        char text[32];
        add_repeated(&input, ' ', 1 + i % 3);
        snprintf(text, sizeof(text), "key%u", i);
        add(&input, text);
        add(&expected, key);
        add(&expected, text);
        add(&expected, strncmp(command, "gat", 3) == 0 ? "@5|" : "|");
    }
    add(&input, end);
    add(&input, "get a\r\n");
    add(&expected, "END|get:a|END|");
    check_texts(&input, &limits, &expected);
}

TEST(text, a_list_of_keys_has_no_limit)
{
    check_long_list("get", "get:", 400, "\r\n");
    check_long_list("gets", "gets:", 400, " \n");
    check_long_list("gat 5", "gat:", 400, "\r\n");
    check_long_list("gats  5", "gats:", 400, "  \r\n");
    check_long_list("get", "get:", 20000, "\r\n");
}

TEST(text, a_long_list_of_250_byte_keys_fits_the_smallest_buffer)
{
    struct text input = {{0}}, expected = {{0}};
    add(&input, "get");
    for (int i = 0; i < 20; i++) {
        add(&input, " ");
        add_repeated(&input, 'k', 250);
        add(&expected, "get:");
        add_repeated(&expected, 'k', 250);
        add(&expected, "|");
    }
    add(&input, "\r\n");
    add(&expected, "END|");
    check_texts(&input, &limits, &expected);
}

TEST(text, in_a_long_list_the_keys_before_the_bad_one_were_given)
{
    struct text input = {{0}}, expected = {{0}};
    add(&input, "get a ");
    add_repeated(&input, ' ', 2048);
    add(&input, "b ");
    add_repeated(&input, 'k', 251);
    add(&input, " c\r\nget d\r\n");
    add(&expected, "get:a|get:b|" FORMAT "get:d|END|");
    check_texts(&input, &limits, &expected);
}

TEST(text, a_long_line_is_refused_without_keys_or_exptime)
{
    struct text input = {{0}}, expected = {{0}};
    add(&input, "get ");
    add_repeated(&input, ' ', 3000);
    add(&input, "\r\ngat x ");
    for (int i = 0; i < 1000; i++)
        add(&input, "abc ");
    add(&input, "\r\nget d\r\n");
    add(&expected, FORMAT "!CLIENT_ERROR invalid exptime argument|get:d|END|");
    check_texts(&input, &limits, &expected);
}

TEST(text, reads_the_commands_with_one_key)
{
    CHECK("delete a\r\n", "delete:a|");
    CHECK("delete a 0\r\n", "delete:a|");
    CHECK("delete a 0 noreply\r\n", "delete:a~|");
    CHECK("delete a noreply\r\n", "delete:a~|");
    CHECK("delete a 5 x\r\n", "delete:a|");
    CHECK("delete a b c d\r\n",
          "!CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]|");
    CHECK("touch a 0\r\n", "touch:a@0|");
    CHECK("touch a -5 noreply\r\n", "touch:a@-5~|");
    CHECK("incr a 18446744073709551615\r\n", "incr:a+18446744073709551615|");
    CHECK("decr a 0 noreply\n", "decr:a+0~|");
}

TEST(text, refuses_bad_arguments_of_the_commands_with_one_key)
{
    CHECK("delete\r\n", FORMAT);
    CHECK("incr a\r\n", FORMAT);
    CHECK("touch a\r\n", FORMAT);
    CHECK("incr a abc\r\n", "!CLIENT_ERROR invalid numeric delta argument|");
    CHECK("incr a -1\r\n", "!CLIENT_ERROR invalid numeric delta argument|");
    CHECK("decr a 18446744073709551616\r\n", "!CLIENT_ERROR invalid numeric delta argument|");
    CHECK("touch a x\r\n", "!CLIENT_ERROR invalid exptime argument|");
    CHECK("touch a 2147483648\r\n", "!CLIENT_ERROR invalid exptime argument|");
    CHECK("touch a x noreply\r\nincr a x noreply\r\n", "");
}

TEST(text, reads_the_commands_without_a_key)
{
    CHECK("flush_all\r\n", "flush_all@0|");
    CHECK("flush_all noreply\r\n", "flush_all@0~|");
    CHECK("flush_all 10\r\n", "flush_all@10|");
    CHECK("flush_all -1 noreply\r\n", "flush_all@-1~|");
    CHECK("flush_all x\r\n", "!CLIENT_ERROR invalid exptime argument|");
    CHECK("persist\r\n", "persist|");
    CHECK("persist noreply\r\n", "persist~|");
    CHECK("persist all\r\n", "!CLIENT_ERROR bad command line format|");
    CHECK("persist all noreply\r\n", "");
    CHECK("persists\r\n", "!ERROR|");
    CHECK("version\r\nversion 1 2\r\n", "version|version 1 2|");
    CHECK("verbosity 1\r\n", "verbosity=1|");
    CHECK("verbosity 9 noreply\r\n", "verbosity=9~|");
    CHECK("verbosity\r\n", FORMAT);
    CHECK("verbosity x\r\n", FORMAT);
    CHECK("verbosity noreply\r\n", "");
    CHECK("stats\r\nstats  items\r\n", "stats|stats items|");
    CHECK("stats cachedump 1 2 3 4 5 6 7 8 9\r\n", "stats cachedump 1 2 3 4 5 6|");
    CHECK("lru_crawler metadump all\r\nslabs\r\n", "lru_crawler metadump all|slabs|");
}

TEST(text, nothing_is_parsed_after_quit)
{
    CHECK("get a\r\nquit\r\nget a\r\n", "get:a|END|quit|CLOSE|");
    CHECK("quit now\r\nset a 0 0 1\r\n", "quit now|CLOSE|");
}

TEST(text, an_unknown_command_is_an_error)
{
    CHECK("foo\r\n", "!ERROR|");
    CHECK("GET a\r\n", "!ERROR|");
    CHECK(" get a\r\n", "!ERROR|");
    CHECK("getx a\r\n", "!ERROR|");
    CHECK("get\ta\r\n", "!ERROR|");
    CHECK("     \r\n", "!ERROR|");
    CHECK("foo noreply\r\nget a\r\n", "get:a|END|");
}

TEST(text, a_line_shorter_than_two_letters_is_a_bad_line)
{
    CHECK("\r\n", FORMAT);
    CHECK("\n", FORMAT);
    CHECK("a\r\n", FORMAT);
    CHECK("ab\n", FORMAT);
    CHECK("ab\r\n", "!ERROR|");
    CHECK("abc\n", "!ERROR|");
}

TEST(text, closes_on_an_http_request)
{
    CHECK("POST / HTTP/1.1\r\nHost: x\r\nset a 0 0 1\r\nx\r\n", "CLOSE|");
    CHECK("x HTTP/\r\n", "CLOSE|");
    CHECK("HTTP/1.1\r\n", "!ERROR|");
    CHECK("get HTTP/1.1\r\n", "get:HTTP/1.1|END|");
}

TEST(text, a_caller_without_memory_refuses_a_value)
{
    CHECK("set refuse 0 0 3\r\nabc\r\nget a\r\n",
          "set:refuse,0,0,3|!SERVER_ERROR out of memory storing object|get:a|END|");
    CHECK("set refuse 0 0 0 noreply\r\nxyget a\r\n", "set:refuse,0,0,0~|get:a|END|");
}

static bool ends_between(const char *input)
{
    bool between;
    struct trace trace = trace_text(slice_text(input), &limits, NULL, 0, &between);
    free(trace.text);
    return between;
}

TEST(text, knows_when_it_stands_between_commands)
{
    EXPECT(ends_between(""));
    EXPECT(ends_between("get a\r\n"));
    EXPECT(ends_between("set a 0 0 1\r\nx\r\n"));
    EXPECT(!ends_between("get a\r"));
    EXPECT(!ends_between("set a 0 0 1\r\n"));
    EXPECT(!ends_between("set a 0 0 1\r\nx"));
    EXPECT(!ends_between("set a x 0 1\r\nx"));
}

/* Values over 4 GB do not exist, but the bytes of many pieces of the largest must add up. */
TEST(text, takes_a_value_of_2_gigabytes_in_pieces)
{
    struct text_limits large = {.item_size_max = UINT32_MAX};
    struct text_parser parser;
    struct text_request request;
    struct slice line = slice_text("set a 0 0 2147483645\r\n");
    size_t consumed;
    text_init(&parser);
    ASSERT_EQ(text_parse(&parser, &large, line, &consumed, &request), TEXT_VALUE);
    ASSERT_EQ(request.value_size, 2147483645);
    while (text_value_left(&parser) > 0)
        text_value_taken(&parser,
                         text_value_left(&parser) > 65536 ? 65536 : text_value_left(&parser));
    EXPECT_EQ(text_parse(&parser, &large, slice_text("\r\n"), &consumed, &request), TEXT_VALUE_END);
}

TEST(text, exptime_is_relative_up_to_30_days)
{
    const uint32_t now = 1700000000;
    EXPECT_EQ(text_expire_at(0, now), 0);
    EXPECT_EQ(text_expire_at(1, now), now + 1);
    EXPECT_EQ(text_expire_at(2592000, now), now + 2592000);
    EXPECT_EQ(text_expire_at(2592001, now), TEXT_EXPIRED);
    EXPECT_EQ(text_expire_at(now - 1, now), TEXT_EXPIRED);
    EXPECT_EQ(text_expire_at(now, now), TEXT_EXPIRED);
    EXPECT_EQ(text_expire_at((int64_t)now + 1, now), now + 1);
    EXPECT_EQ(text_expire_at(-1, now), TEXT_EXPIRED);
    EXPECT_EQ(text_expire_at(INT64_MIN, now), TEXT_EXPIRED);
    EXPECT_EQ(text_expire_at(INT64_MAX, now), UINT32_MAX);
    EXPECT_EQ(text_expire_at(UINT32_MAX, now), UINT32_MAX);
    EXPECT_EQ(text_expire_at(2592000, UINT32_MAX), UINT32_MAX);
}
