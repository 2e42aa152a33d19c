/* Goal: the small things everybody stands on. Method: known answers and limits at -1, 0, +1. */
#include "base/crc32c.h"
#include "base/hash.h"
#include "base/ring.h"
#include "base/slice.h"
#include "base/status.h"
#include "base/ts.h"
#include "t/test.h"

TEST(slice, reads_decimal_numbers_up_to_the_last_one_that_fits)
{
    uint64_t number = 7;
    EXPECT(slice_to_u64(slice_text("0"), &number));
    EXPECT_EQ(number, 0);
    EXPECT(slice_to_u64(slice_text("18446744073709551615"), &number));
    EXPECT(number == UINT64_MAX);
    EXPECT(!slice_to_u64(slice_text("18446744073709551616"), &number));
    EXPECT(!slice_to_u64(slice_text(""), &number));
    EXPECT(!slice_to_u64(slice_text("-1"), &number));
    EXPECT(!slice_to_u64(slice_text("1 "), &number));
}

TEST(crc32c, gives_the_known_answers)
{
    uint8_t zeros[32] = {0};
    EXPECT_EQ(crc32c(0, "123456789", 9), 0xe3069283);
    EXPECT_EQ(crc32c(0, zeros, sizeof(zeros)), 0x8a9136aa);
    EXPECT_EQ(crc32c(crc32c(0, "12345", 5), "6789", 4), 0xe3069283);
}

/* The shard of a key may never change: these values are part of the format. */
TEST(hash, is_the_same_for_ever)
{
    EXPECT(hash_key(slice_text("foo")) == hash_key(slice_text("foo")));
    EXPECT(hash_key(slice_text("foo")) != hash_key(slice_text("fop")));
    EXPECT(hash_key(slice_text("")) != hash_key(slice_make("\0", 1)));
}

TEST(hash, spreads_keys_over_shards)
{
    unsigned count[5] = {0};
    for (unsigned i = 0; i < 50000; i++) {
        uint32_t shard = hash_shard(hash_key(slice_make(&i, sizeof(i))), 5);
        ASSERT(shard < 5);
        count[shard]++;
    }
    for (unsigned i = 0; i < 5; i++)
        EXPECT(count[i] > 9500 && count[i] < 10500);
}

TEST(ts, orders_by_version_then_node_then_incarnation)
{
    EXPECT(ts_make(2, 1, 0) > ts_make(1, 7, 255));
    EXPECT(ts_make(2, 2, 0) > ts_make(2, 1, 255));
    EXPECT(ts_make(2, 2, 1) > ts_make(2, 2, 0));
    EXPECT_EQ(ts_version(ts_make(77, 3, 9)), 77);
    EXPECT_EQ(ts_node(ts_make(77, 3, 9)), 3);
    EXPECT_EQ(ts_incarnation(ts_make(77, 3, 9)), 9);
}

TEST(ring, refuses_when_full_and_keeps_the_order)
{
    void *slots[4];
    struct ring ring;
    int items[5];
    ring_init(&ring, slots, 4);
    for (int i = 0; i < 4; i++)
        EXPECT(ring_put(&ring, &items[i]));
    EXPECT(!ring_put(&ring, &items[4]));
    for (int i = 0; i < 4; i++)
        EXPECT(ring_take(&ring) == &items[i]);
    EXPECT(ring_take(&ring) == NULL);
}

TEST(status, has_a_text_for_each)
{
    for (int i = 0; i < STATUS_COUNT; i++)
        EXPECT(status_text((enum status)i) != NULL);
    EXPECT_TEXT(status_text((enum status)999), "unknown status");
}
