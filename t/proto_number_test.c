/* Goal: numbers in command lines, in memcached's two ways. Method: known answers around each limit.
 */
#include "proto/number.h"

#include "t/test.h"

static uint64_t last;

static bool u32(const char *text)
{
    uint32_t number = 4711;
    bool good = number_u32(slice_text(text), &number);
    last = number;
    return good;
}

static bool i32(const char *text)
{
    int32_t number = 4711;
    bool good = number_i32(slice_text(text), &number);
    last = (uint64_t)(int64_t)number;
    return good;
}

static bool u64(const char *text)
{
    last = 4711;
    return number_u64(slice_text(text), &last);
}

static bool loose_u32(const char *text)
{
    uint32_t number = 4711;
    bool good = number_loose_u32(slice_text(text), &number);
    last = number;
    return good;
}

static bool loose_i32(const char *text)
{
    int32_t number = 4711;
    bool good = number_loose_i32(slice_text(text), &number);
    last = (uint64_t)(int64_t)number;
    return good;
}

#define READS(function, text, expected)                                                            \
    do {                                                                                           \
        EXPECT(function(text));                                                                    \
        EXPECT_EQ(last, expected);                                                                 \
    } while (0)
#define REFUSES(function, text)                                                                    \
    do {                                                                                           \
        EXPECT(!function(text));                                                                   \
        EXPECT_EQ(last, 4711);                                                                     \
    } while (0)

TEST(number, strict_32_bits_without_sign)
{
    READS(u32, "0", 0);
    READS(u32, "4294967295", 4294967295);
    READS(u32, "00000000012", 12);
    REFUSES(u32, "4294967296");
    REFUSES(u32, "000000000012");
    REFUSES(u32, "");
    REFUSES(u32, "-0");
    REFUSES(u32, "+1");
    REFUSES(u32, "1 ");
}

TEST(number, strict_32_bits_with_sign)
{
    READS(i32, "2147483647", INT32_MAX);
    READS(i32, "-2147483648", INT32_MIN);
    READS(i32, "-0", 0);
    READS(i32, "-", 0);
    REFUSES(i32, "2147483648");
    REFUSES(i32, "-2147483649");
    REFUSES(i32, "-00000000001");
    REFUSES(i32, "");
    REFUSES(i32, "--1");
    REFUSES(i32, "+1");
    REFUSES(i32, "1.5");
}

TEST(number, strict_64_bits)
{
    READS(u64, "18446744073709551615", -1);
    READS(u64, "0018446744073709551615", -1);
    REFUSES(u64, "00018446744073709551615");
    REFUSES(u64, "18446744073709551616");
    REFUSES(u64, "");
    REFUSES(u64, "-1");
}

TEST(number, loose_ones_are_cut_to_32_bits)
{
    READS(loose_u32, "4294967295", 4294967295);
    READS(loose_u32, "4294967296", 0);
    READS(loose_u32, "18446744073709551615", 4294967295);
    REFUSES(loose_u32, "18446744073709551616");
    READS(loose_i32, "2147483648", INT32_MIN);
    READS(loose_i32, "4294967297", 1);
    READS(loose_i32, "-4294967297", -1);
    READS(loose_i32, "9223372036854775807", -1);
    READS(loose_i32, "-9223372036854775808", 0);
    REFUSES(loose_i32, "9223372036854775808");
    REFUSES(loose_i32, "-9223372036854775809");
}

TEST(number, loose_ones_may_have_space_and_sign)
{
    READS(loose_u32, "\t+7", 7);
    READS(loose_u32, "7\tx", 7);
    READS(loose_u32, "-0", 0);
    READS(loose_i32, "000000000000000000000000000000000000007", 7);
    REFUSES(loose_u32, "-1");
    REFUSES(loose_u32, "");
    REFUSES(loose_u32, "+");
    REFUSES(loose_u32, "7x");
    REFUSES(loose_i32, "- 7");
    REFUSES(loose_i32, "x");
}
