/* Goal: what comes from outside is refused at the border when it makes no sense. Method: one
 * damaged field at a time. */
#include "replica/member.h"
#include "t/test.h"

static bool message_refused(struct member_message message)
{
    return member_message_invalid(slice_make(&message, sizeof(message))) != NULL;
}

TEST(member, foreign_bytes_are_refused)
{
    struct member_message good = {.type = MEMBER_JOIN, .incarnation = 3, .force = 5}, bad = good;
    EXPECT(!message_refused(good));
    EXPECT(member_message_invalid(slice_make(&good, sizeof(good) - 1)) != NULL);
    bad.type = MEMBER_MESSAGE_LIMIT;
    EXPECT(message_refused(bad));
    bad = good, bad.type = 0;
    EXPECT(message_refused(bad));
    bad = good, bad.incarnation = 0;
    EXPECT(message_refused(bad));
    bad = good, bad.node = 1;
    EXPECT(message_refused(bad));
    bad = good, bad.flags = 4;
    EXPECT(message_refused(bad));
    bad = good, bad.force = 0x80;
    EXPECT(message_refused(bad));
    bad = good, bad.type = MEMBER_SUSPECT, bad.node = 8;
    EXPECT(message_refused(bad));
}

static bool entry_refused(struct member_entry entry)
{
    return member_entry_invalid(slice_make(&entry, sizeof(entry))) != NULL;
}

TEST(member, damaged_entries_are_refused)
{
    struct member_entry good = {.kind = MEMBER_VIEW, .leader = 1, .lead = 1, .incarnation = 1}, bad;
    good.next = (struct view){.epoch = 1, .members = 1, .configured = 3};
    good.next.incarnation[1] = 1;
    EXPECT(!entry_refused(good));
    EXPECT(member_entry_invalid(slice_make(&good, sizeof(good) + 1)) != NULL);
    bad = good, bad.kind = 4;
    EXPECT(entry_refused(bad));
    bad = good, bad.leader = 0;
    EXPECT(entry_refused(bad));
    bad = good, bad.cold = 2;
    EXPECT(entry_refused(bad));
    bad = good, bad.next.healing = 1;
    EXPECT(entry_refused(bad));
    bad = good, bad.next.members = 5;
    EXPECT(entry_refused(bad));
    bad = good, bad.next.incarnation[2] = 5;
    EXPECT(entry_refused(bad));
    bad = good, bad.next.epoch = 0;
    EXPECT(entry_refused(bad));
    bad = good, bad.next.members = 0, bad.next.incarnation[1] = 0;
    EXPECT(entry_refused(bad));
}

static bool snapshot_refused(struct member_snapshot snapshot)
{
    return member_snapshot_invalid(slice_make(&snapshot, sizeof(snapshot))) != NULL;
}

TEST(member, damaged_snapshots_are_refused)
{
    struct member_snapshot good = {.leader = 7}, bad;
    EXPECT(!snapshot_refused(good));
    EXPECT(member_snapshot_invalid(slice_make(&good, sizeof(good) - 8)) != NULL);
    bad = good, bad.leader = 8;
    EXPECT(snapshot_refused(bad));
    bad = good, bad.active.members = 1;
    EXPECT(snapshot_refused(bad));
    bad = good, bad.pending.epoch = 1;
    EXPECT(snapshot_refused(bad));
    good.active = (struct view){.epoch = 4, .members = 1, .configured = 1, .incarnation = {0, 1}};
    good.pending = good.active;
    good.pending.epoch = 5;
    EXPECT(!snapshot_refused(good));
    bad = good, bad.pending.epoch = 6;
    EXPECT(snapshot_refused(bad));
}
