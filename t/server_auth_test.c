/* Goal: the password file is read as a whole or not at all, also while clients log in; SASL's
 * dialogue lets in who knows a password and nobody else, in whatever order its steps come. Method:
 * files in a directory of the test, threads that log in while the file changes between two good
 * ones, and dialogues with the real libsasl2 against such a file. */
#include "server/auth.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "server/sasl.h"
#include "t/test.h"

enum { LOGIN_THREADS = 3, RELOADS = 200 };

static char path[512];

static void write_file(const char *text)
{
    FILE *file = fopen(path, "we");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
        abort();
}

/* Nobody may see half a file: a new one takes the old one's place. */
static void replace_file(const char *text)
{
    char fresh[600];
    snprintf(fresh, sizeof(fresh), "%s.new", path);
    FILE *file = fopen(fresh, "we");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0 || rename(fresh, path) != 0)
        abort();
}

static enum status open_file(struct auth *auth, const char *text)
{
    log_set_level(0);
    snprintf(path, sizeof(path), "%s/users", test_directory());
    write_file(text);
    return auth_open(auth, path);
}

static bool right(struct auth *auth, const char *user, const char *password)
{
    return auth_is_right_any(auth, slice_text(user), slice_text(password));
}

TEST(auth, a_good_file_lets_its_users_in)
{
    struct auth auth;
    ASSERT_EQ(open_file(&auth, "bob:secret\nalice:pw"), STATUS_OK);
    EXPECT(right(&auth, "bob", "secret"));
    EXPECT(right(&auth, "alice", "pw"));
    EXPECT(!right(&auth, "bob", "pw"));
    auth_close(&auth);
}

TEST(auth, without_a_file_nobody_is_let_in)
{
    struct auth auth;
    ASSERT_EQ(auth_open(&auth, NULL), STATUS_OK);
    EXPECT(!right(&auth, "bob", "secret"));
    EXPECT(!right(&auth, "", ""));
    auth_reload(&auth);
    auth_close(&auth);
}

TEST(auth, a_file_that_is_wrong_or_not_there_is_refused)
{
    struct auth auth;
    char long_file[5000];
    EXPECT_EQ(open_file(&auth, ""), STATUS_INVALID);
    EXPECT_EQ(open_file(&auth, "bob\n"), STATUS_INVALID);
    memset(long_file, 'x', sizeof(long_file));
    memcpy(long_file, "bob:", 4);
    long_file[sizeof(long_file) - 1] = 0;
    EXPECT_EQ(open_file(&auth, long_file), STATUS_INVALID);
    unlink(path);
    EXPECT_EQ(auth_open(&auth, path), STATUS_IO);
    EXPECT_EQ(auth_open(&auth, test_directory()), STATUS_IO);
}

/* Eight lines of 255 bytes with CRLF are the largest good file. */
TEST(auth, the_largest_file_is_read_to_its_end)
{
    struct auth auth;
    char text[PASSWORD_FILE_SIZE_MAX + 1], password[PASSWORD_LINE_SIZE_MAX + 1];
    size_t used = 0;
    memset(password, 'p', sizeof(password));
    password[PASSWORD_LINE_SIZE_MAX - 6] = 0;
    for (int i = 1; i <= PASSWORD_USERS_MAX; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "user%d:%s\r\n", i, password);
    ASSERT_EQ(used, PASSWORD_FILE_SIZE_MAX);
    ASSERT_EQ(open_file(&auth, text), STATUS_OK);
    EXPECT(right(&auth, "user8", password));
    auth_close(&auth);
}

TEST(auth, a_reload_takes_the_new_file_or_keeps_the_old_users)
{
    struct auth auth;
    ASSERT_EQ(open_file(&auth, "bob:secret\n"), STATUS_OK);
    replace_file("bob:other\nalice:pw\n");
    EXPECT(right(&auth, "bob", "secret")); /* not before it is told */
    auth_reload(&auth);
    EXPECT(!right(&auth, "bob", "secret"));
    EXPECT(right(&auth, "bob", "other"));
    EXPECT(right(&auth, "alice", "pw"));
    replace_file("nonsense\n");
    auth_reload(&auth);
    EXPECT(right(&auth, "alice", "pw"));
    unlink(path);
    auth_reload(&auth);
    EXPECT(right(&auth, "alice", "pw"));
    auth_close(&auth);
}

/* ---- logins while the file is read again ---- */

struct race {
    struct auth auth;
    atomic_bool stop;
    atomic_uint refused, mixed, count;
};

/* bob stands in both files; mallory's pair is made of one file's user and the other's password. */
static void *log_in(void *argument)
{
    struct race *race = argument;
    while (!atomic_load(&race->stop)) {
        if (!right(&race->auth, "bob", "secret"))
            atomic_fetch_add(&race->refused, 1);
        if (right(&race->auth, "mallory", "two") || right(&race->auth, "trent", "one"))
            atomic_fetch_add(&race->mixed, 1);
        atomic_fetch_add(&race->count, 1);
    }
    return NULL;
}

TEST(auth, a_login_sees_the_old_file_or_the_new_one)
{
    static struct race race;
    pthread_t threads[LOGIN_THREADS];
    ASSERT_EQ(open_file(&race.auth, "mallory:one\nbob:secret\n"), STATUS_OK);
    for (int i = 0; i < LOGIN_THREADS; i++)
        ASSERT(pthread_create(&threads[i], NULL, log_in, &race) == 0);
    for (int i = 0; i < RELOADS || atomic_load(&race.count) < RELOADS; i++) {
        replace_file(i % 2 == 0 ? "bob:secret\ntrent:two\n" : "mallory:one\nbob:secret\n");
        auth_reload(&race.auth);
    }
    atomic_store(&race.stop, true);
    for (int i = 0; i < LOGIN_THREADS; i++)
        pthread_join(threads[i], NULL);
    EXPECT_EQ(atomic_load(&race.refused), 0);
    EXPECT_EQ(atomic_load(&race.mixed), 0);
    auth_close(&race.auth);
}

/* ---- SASL ---- */

static struct slice bytes(const char *text, size_t size)
{
    return slice_make(text, size);
}
#define BYTES(text) bytes(text, sizeof(text) - 1)

static const char *say(enum sasl_verdict verdict)
{
    switch (verdict) {
    case SASL_ACCEPTED:
        return "accepted";
    case SASL_CONTINUES:
        return "continues";
    case SASL_REFUSED:
        break;
    }
    return "refused";
}

static const char *begin(struct sasl_dialogue **dialogue, const char *mechanism, struct slice data)
{
    struct slice answer;
    return say(sasl_begin(dialogue, slice_text(mechanism), data, &answer));
}

static const char *step(struct sasl_dialogue *dialogue, struct slice data)
{
    struct slice answer;
    return say(sasl_step(dialogue, data, &answer));
}

static const char right_pair[] = "\0bob\0secret", wrong_pair[] = "\0bob\0secreT";

static void check_dialogues(struct sasl_dialogue **dialogue)
{
    EXPECT_TEXT(step(*dialogue, BYTES(right_pair)), "refused"); /* nothing was begun */
    EXPECT_TEXT(begin(dialogue, "PLAIN", BYTES(wrong_pair)), "refused");
    EXPECT_TEXT(step(*dialogue, BYTES(right_pair)), "refused"); /* it has failed */
    EXPECT_TEXT(begin(dialogue, "PLAIN", BYTES(right_pair)), "accepted");
    EXPECT_TEXT(step(*dialogue, BYTES(right_pair)), "refused"); /* it is over */
    EXPECT_TEXT(begin(dialogue, "PLAIN", BYTES("")), "continues");
    EXPECT_TEXT(step(*dialogue, BYTES(right_pair)), "accepted");
    EXPECT_TEXT(begin(dialogue, "PLAIN", BYTES("")), "continues");
    EXPECT_TEXT(step(*dialogue, BYTES(wrong_pair)), "refused");
    EXPECT_TEXT(step(*dialogue, BYTES(right_pair)), "refused");
    EXPECT_TEXT(begin(dialogue, "PLAIN", BYTES("\0bob")), "refused");
    EXPECT_TEXT(begin(dialogue, "PLAIN", BYTES("x")), "refused");
    EXPECT_TEXT(begin(dialogue, "PLAIN", BYTES("\0eve\0secret")), "refused");
    EXPECT_TEXT(begin(dialogue, "", BYTES(right_pair)), "refused");
    EXPECT_TEXT(begin(dialogue, "NOPE", BYTES(right_pair)), "refused");
    EXPECT_TEXT(begin(dialogue, "ANONYMOUS", BYTES("x")), "refused");
    EXPECT_TEXT(begin(dialogue, "EXTERNAL", BYTES("bob")), "refused");
    EXPECT_TEXT(begin(dialogue, "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM", BYTES("x")), "refused");
}

TEST(sasl, a_dialogue_lets_in_who_knows_a_password)
{
    static struct auth auth; /* the library keeps a pointer to it */
    struct sasl_dialogue *dialogue = NULL, *fresh = NULL;
    ASSERT_EQ(open_file(&auth, "bob:secret\n"), STATUS_OK);
    ASSERT_EQ(sasl_open(&auth), STATUS_OK);
    check_dialogues(&dialogue);
    EXPECT(slice_equal(sasl_mechanisms(&fresh), slice_text("PLAIN")));
    replace_file("bob:other\n");
    auth_reload(&auth);
    EXPECT_TEXT(begin(&fresh, "PLAIN", BYTES(right_pair)), "refused");
    EXPECT_TEXT(begin(&fresh, "PLAIN", BYTES("\0bob\0other")), "accepted");
    sasl_end(dialogue);
    sasl_end(fresh);
    sasl_end(NULL);
    sasl_close();
    auth_close(&auth);
}
