/* Goal: a password file means what memcached's -Y means by it; every limit is refused by name, and
 * only the right pair is right. Method: files in memory, good ones and each wrong in one way. */
#include "proto/password.h"

#include <stdio.h>

#include "t/test.h"

static struct passwords passwords;
static uint32_t line;

static enum password_error read_text(const char *text)
{
    return password_read(&passwords, slice_text(text), &line);
}

static bool right(const char *user, const char *password)
{
    return password_is_right(&passwords, slice_text(user), slice_text(password));
}

TEST(password, lines_name_users_and_their_passwords)
{
    ASSERT_EQ(read_text("bob:secret\nalice:pw\r\nlast:end"), PASSWORD_GOOD);
    EXPECT_EQ(passwords.count, 3);
    EXPECT(right("bob", "secret"));
    EXPECT(right("alice", "pw"));
    EXPECT(right("last", "end"));
}

TEST(password, all_but_the_exact_pair_is_wrong)
{
    ASSERT_EQ(read_text("bob:secret\nalice:pw\n"), PASSWORD_GOOD);
    EXPECT(!right("bob", "secre"));
    EXPECT(!right("bob", "secret1"));
    EXPECT(!right("bob", "Secret"));
    EXPECT(!right("bob", ""));
    EXPECT(!right("bo", "secret"));
    EXPECT(!right("bobb", "secret"));
    EXPECT(!right("", "secret"));
    EXPECT(!right("", ""));
    EXPECT(!right("bob", "pw")); /* somebody else's */
    EXPECT(!right("bob:secret", "secret"));
}

TEST(password, zero_bytes_do_not_stand_for_the_end)
{
    ASSERT_EQ(read_text("bob:secret\n"), PASSWORD_GOOD);
    EXPECT(!password_is_right(&passwords, slice_make("bob", 3), slice_make("secret\0", 7)));
    EXPECT(!password_is_right(&passwords, slice_make("bob\0", 4), slice_make("secret", 6)));
    /* An entry that is not used is zeros. */
    EXPECT(!password_is_right(&passwords, slice_make("\0", 1), slice_make("\0", 1)));
}

TEST(password, a_password_may_hold_colons_and_spaces)
{
    ASSERT_EQ(read_text("bob:a:b c \n"), PASSWORD_GOOD);
    EXPECT(right("bob", "a:b c "));
    EXPECT(!right("bob", "a"));
}

TEST(password, a_name_may_stand_twice)
{
    ASSERT_EQ(read_text("bob:one\nbob:two\n"), PASSWORD_GOOD);
    EXPECT(right("bob", "one"));
    EXPECT(right("bob", "two"));
}

TEST(password, there_are_one_to_eight_users)
{
    char text[200];
    size_t used = 0;
    EXPECT_EQ(read_text(""), PASSWORD_NO_USERS);
    for (int i = 1; i <= 9; i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "user%d:pw%d\n", i, i);
        EXPECT_EQ(read_text(text), i <= 8 ? PASSWORD_GOOD : PASSWORD_TOO_MANY);
    }
    EXPECT_EQ(line, 9);
}

TEST(password, a_line_has_at_most_255_bytes)
{
    char text[300];
    for (unsigned size = 254; size <= 256; size++) {
        memset(text, 'x', sizeof(text));
        memcpy(text, "bob:", 4);
        text[size] = 0;
        enum password_error wanted = size <= 255 ? PASSWORD_GOOD : PASSWORD_LONG_LINE;
        EXPECT_EQ(read_text(text), wanted);
        EXPECT(right("bob", text + 4) == (size <= 255));
        memcpy(text + size, "\r\n", 3);
        EXPECT_EQ(read_text(text), wanted);
    }
    memset(text, 'u', 255);
    text[252] = ':';
    ASSERT_EQ(read_text(text), PASSWORD_LONG_LINE); /* 256 with the rest */
    text[254] = 0;
    ASSERT_EQ(read_text(text), PASSWORD_GOOD);
    EXPECT(!password_is_right(&passwords, slice_make(text, 300), slice_make("u", 1)));
    EXPECT(!password_is_right(&passwords, slice_make("u", 1), slice_make(text, 256)));
}

TEST(password, lines_that_are_no_pair_are_refused_by_number)
{
    static const char *const wrong[] = {"bob:pw\nalice\n", "bob:pw\n\n", "bob:pw\n:pw\n",
                                        "bob:pw\nalice:\n", "bob:pw\n\r\n"};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        EXPECT_EQ(read_text(wrong[i]), PASSWORD_MALFORMED);
        EXPECT_EQ(line, 2);
    }
    EXPECT_EQ(password_read(&passwords, slice_make("bob:p\0w\n", 8), &line), PASSWORD_MALFORMED);
}
