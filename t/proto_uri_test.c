/* Goal: any key becomes one word that a URI decoder gives back. Method: every byte, and known
 * words. */
#include "proto/uri.h"

#include <stdlib.h>

#include "t/test.h"

TEST(uri, plain_characters_stay)
{
    static const char plain[] = "azAZ09-._~";
    char out[64];
    ASSERT_EQ(uri_encode(out, slice_text(plain)), sizeof(plain) - 1);
    EXPECT_EQ(memcmp(out, plain, sizeof(plain) - 1), 0);
    EXPECT_EQ(uri_encode(out, slice_text("")), 0);
}

TEST(uri, every_other_byte_becomes_three)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char in = (char)byte, out[4] = "";
        size_t size = uri_encode(out, slice_make(&in, 1));
        if (size == 1) {
            EXPECT_EQ(out[0], in);
            EXPECT(strchr("-._~", in) != NULL ||
                   (byte < 128 && (byte | 32) >= 'a' && (byte | 32) <= 'z') ||
                   (byte >= '0' && byte <= '9'));
            continue;
        }
        ASSERT_EQ(size, 3);
        EXPECT_EQ(out[0], '%');
        EXPECT_EQ(strtoul(out + 1, NULL, 16), byte);
    }
}
