/* Goal: answers of the text protocol, byte for byte. Method: known answers and the longest ones. */
#include "proto/reply.h"

#include "t/test.h"

static const char *as_text(const char *bytes, size_t size)
{
    static char text[1024];
    memcpy(text, bytes, size);
    text[size] = '\0';
    return text;
}

TEST(reply, lines_end_in_crlf)
{
    for (int i = 0; i < REPLY_COUNT; i++) {
        struct slice line = reply_line((enum reply)i);
        EXPECT(line.size > 2);
        EXPECT(memcmp((const char *)line.data + line.size - 2, "\r\n", 2) == 0);
        EXPECT(memchr(line.data, '\n', line.size - 1) == NULL);
    }
    EXPECT(slice_equal(reply_line(REPLY_STORED), slice_text("STORED\r\n")));
}

TEST(reply, formats_value_lines)
{
    char out[REPLY_VALUE_SIZE_MAX], key[250];
    EXPECT_TEXT(as_text(out, reply_value(out, slice_text("a"), 0, 0)), "VALUE a 0 0\r\n");
    EXPECT_TEXT(as_text(out, reply_value_cas(out, slice_text("key"), 5, 1048576, 7)),
                "VALUE key 5 1048576 7\r\n");
    memset(key, 'k', sizeof(key));
    EXPECT_EQ(
        reply_value_cas(out, slice_make(key, sizeof(key)), UINT32_MAX, UINT32_MAX, UINT64_MAX),
        REPLY_VALUE_SIZE_MAX);
}

TEST(reply, formats_numbers_and_statistics)
{
    char out[64];
    EXPECT_TEXT(as_text(out, reply_number(out, 0)), "0\r\n");
    EXPECT_TEXT(as_text(out, reply_number(out, UINT64_MAX)), "18446744073709551615\r\n");
    EXPECT_TEXT(as_text(out, reply_stat(out, 13, slice_text("pid"), slice_text("12"))),
                "STAT pid 12\r\n");
    EXPECT_EQ(reply_stat(out, 12, slice_text("pid"), slice_text("12")), 0);
    EXPECT_EQ(reply_stat(out, 12, slice_make("", SIZE_MAX), slice_text("12")), 0);
    EXPECT_TEXT(as_text(out, reply_stat(out, 64, slice_text("x"), slice_text(""))), "STAT x \r\n");
    EXPECT_TEXT(as_text(out, reply_version(out, 15, slice_text("1.6.0"))), "VERSION 1.6.0\r\n");
    EXPECT_EQ(reply_version(out, 14, slice_text("1.6.0")), 0);
}
