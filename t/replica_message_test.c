/* Goal: nothing malformed gets past the gate for peers' messages. Method: one good message, broken
 * one field at a time. */
#include "pmem/record.h"
#include "replica/step.h"
#include "t/test.h"

struct sample {
    struct message header;
    uint8_t bytes[264];
};

static struct sample good(enum message_type type)
{
    struct sample sample = {
        .header = {.type = (uint8_t)type, .from = 2, .epoch = 3, .key_size = 3, .ts = 77}};
    if (type == MSG_INV) {
        sample.header.record_kind = RECORD_VALUE;
        sample.header.value_size = 5;
    }
    return sample;
}

static const char *check(const struct sample *sample)
{
    return message_invalid(slice_make(sample, message_size(&sample->header)));
}

TEST(message, every_type_has_a_name)
{
    for (unsigned type = MSG_NONE + 1; type < MSG_COUNT; type++)
        EXPECT(strcmp(message_name(type), "?") != 0);
    EXPECT_TEXT(message_name(MSG_COUNT), "?");
    EXPECT_TEXT(message_name(MSG_NONE), "?");
}

TEST(message, good_ones_pass)
{
    struct sample inv = good(MSG_INV), ack = good(MSG_ACK);
    EXPECT(check(&inv) == NULL);
    EXPECT(check(&ack) == NULL);
}

TEST(message, sizes_have_to_add_up)
{
    struct sample inv = good(MSG_INV);
    size_t size = message_size(&inv.header);
    EXPECT(message_invalid(slice_make(&inv, size - 1)) != NULL);
    EXPECT(message_invalid(slice_make(&inv, size + 1)) != NULL);
    EXPECT(message_invalid(slice_make(&inv, sizeof(struct message) - 1)) != NULL);
    EXPECT(message_invalid(slice_make(&inv, 0)) != NULL);
    EXPECT(message_invalid(slice_make((const char *)&inv + 1, size)) != NULL);
}

TEST(message, keys_end_at_251_bytes)
{
    struct sample ack = good(MSG_ACK);
    ack.header.key_size = RECORD_KEY_SIZE_MAX; /* a piece's */
    EXPECT(check(&ack) == NULL);
    ack.header.key_size = RECORD_KEY_SIZE_MAX + 1;
    EXPECT(check(&ack) != NULL);
}

TEST(message, senders_and_types_are_known_ones)
{
    struct sample ack = good(MSG_ACK);
    ack.header.from = 0;
    EXPECT(check(&ack) != NULL);
    ack.header.from = 8;
    EXPECT(check(&ack) != NULL);
    ack = good(MSG_NONE);
    EXPECT(check(&ack) != NULL);
    ack = good(MSG_COUNT);
    EXPECT(check(&ack) != NULL);
    ack = good(MSG_ACK);
    ack.header.reserved = 1;
    EXPECT(check(&ack) != NULL);
}

TEST(message, records_are_values_or_tombstones_with_a_timestamp)
{
    struct sample inv = good(MSG_INV);
    inv.header.record_kind = RECORD_MARK;
    EXPECT(check(&inv) != NULL);
    inv = good(MSG_INV);
    inv.header.record_kind = RECORD_TOMBSTONE;
    EXPECT(check(&inv) != NULL); /* with a value */
    inv.header.value_size = 0;
    EXPECT(check(&inv) == NULL);
    inv.header.record_flags = 0x40;
    EXPECT(check(&inv) != NULL);
    inv.header.record_flags = RECORD_LARGE; /* without a manifest */
    EXPECT(check(&inv) != NULL);
    inv = good(MSG_INV);
    inv.header.ts = 0;
    EXPECT(check(&inv) != NULL);
    struct sample ack = good(MSG_ACK);
    ack.header.value_size = 1;
    EXPECT(check(&ack) != NULL);
}

/* ---- the lease ---- */

struct moment {
    const char *copied;
    bool seen_copied; /* when the lease was looked at, the copy was there */
    bool holds;
};

static bool look(void *user)
{
    struct moment *moment = user;
    moment->seen_copied = memcmp(moment->copied, "value", 5) == 0;
    return moment->holds;
}

TEST(lease, is_looked_at_after_the_copy)
{
    char copied[8] = "";
    struct moment moment = {.copied = copied, .holds = true};
    EXPECT(lease_copy(copied, slice_text("value"), look, &moment));
    EXPECT(moment.seen_copied);
    moment.holds = false;
    EXPECT(!lease_copy(copied, slice_text("value"), look, &moment));
}
