/* Goal: numbers as text, as memcached's incr and decr read and leave them. Method: known answers,
 * and the numbers around every power of ten. */
#include "base/decimal.h"

#include <inttypes.h>
#include <stdio.h>

#include "t/test.h"

static bool parses(const char *text, size_t size, uint64_t expected)
{
    uint64_t number = 4711;
    return decimal_parse_stored(slice_make(text, size), &number) == STATUS_OK && number == expected;
}

static bool refused(const char *text, size_t size)
{
    uint64_t number = 4711;
    return decimal_parse_stored(slice_make(text, size), &number) == STATUS_INVALID &&
           number == 4711;
}

#define PARSES(text, expected) EXPECT(parses(text, sizeof(text) - 1, expected))
#define REFUSED(text) EXPECT(refused(text, sizeof(text) - 1))

static void compare_format(uint64_t number)
{
    char actual[DECIMAL_SIZE_MAX + 1], expected[DECIMAL_SIZE_MAX + 1];
    actual[decimal_format(number, actual)] = '\0';
    snprintf(expected, sizeof(expected), "%" PRIu64, number);
    EXPECT_TEXT(actual, expected);
}

TEST(decimal, formats_as_printf_does_around_every_power_of_ten)
{
    uint64_t power = 1;
    for (int i = 0; i < 20; i++, power *= 10) {
        compare_format(power - 1);
        compare_format(power);
        compare_format(power + 1);
    }
    compare_format(UINT64_MAX);
    compare_format(UINT64_MAX - 1);
}

TEST(decimal, reads_a_stored_number_with_spaces_plus_and_leading_zeros)
{
    PARSES("0", 0);
    PARSES("9 ", 9);
    PARSES("  12", 12);
    PARSES(" \t\n\v\f\r7\r\n", 7);
    PARSES("+5", 5);
    PARSES("-0", 0);
    PARSES("000000000000000000000000000000018446744073709551615", UINT64_MAX);
    PARSES("18446744073709551615", UINT64_MAX);
}

TEST(decimal, ignores_what_follows_a_space_or_zero_byte_as_strtoull_does)
{
    PARSES("12 abc", 12);
    PARSES("12\0abc", 12);
}

TEST(decimal, refuses_what_is_not_a_number)
{
    REFUSED("");
    REFUSED(" ");
    REFUSED("+");
    REFUSED("-");
    REFUSED("+-1");
    REFUSED("-5");
    REFUSED("-18446744073709551615");
    REFUSED("1a");
    REFUSED("a1");
    REFUSED("0x10");
    REFUSED("1.5");
    REFUSED("\0001");
    REFUSED("18446744073709551616");
    REFUSED("99999999999999999999999");
}

TEST(decimal, incr_wraps_and_decr_stops_at_zero)
{
    EXPECT_EQ(decimal_add(UINT64_MAX, 1), 0);
    EXPECT_EQ(decimal_add(UINT64_MAX, UINT64_MAX), -2);
    EXPECT_EQ(decimal_subtract(5, 5), 0);
    EXPECT_EQ(decimal_subtract(5, 4), 1);
    EXPECT_EQ(decimal_subtract(5, 6), 0);
    EXPECT_EQ(decimal_subtract(0, UINT64_MAX), 0);
}

static const char *stored(uint64_t number, size_t old_size)
{
    static char value[64];
    value[decimal_format_stored(number, value, old_size)] = '\0';
    return value;
}

TEST(decimal, a_stored_value_grows_but_never_shrinks)
{
    EXPECT_TEXT(stored(9, 2), "9 ");
    EXPECT_TEXT(stored(10, 2), "10");
    EXPECT_TEXT(stored(100, 2), "100");
    EXPECT_TEXT(stored(0, 20), "0                   ");
    EXPECT_TEXT(stored(UINT64_MAX, 1), "18446744073709551615");
}
