/* Goal: the command line as memcached's users know it, and refusals that name the option and what
 * is allowed. Method: command lines in, the struct or the line out. */
#include "server/options.h"

#include <stdio.h>

#include "t/test.h"

static struct options options;
static char why[512];

static enum options_verdict parse(const char *line)
{
    static char copy[1024];
    char *arguments[32] = {"healcached"};
    int count = 1;
    snprintf(copy, sizeof(copy), "%s", line);
    for (char *word = strtok(copy, " "); word != NULL && count < 32; word = strtok(NULL, " "))
        arguments[count++] = word;
    why[0] = 0;
    return options_parse(&options, count, arguments, why, sizeof(why));
}

static bool refused(const char *line, const char *part)
{
    return parse(line) == OPTIONS_WRONG && strstr(why, part) != NULL && strchr(why, '\n') == NULL;
}

TEST(options, without_any_is_a_memcached)
{
    ASSERT_EQ(parse(""), OPTIONS_RUN);
    EXPECT_EQ(options.listen_count, 1);
    EXPECT_EQ(options.listen[0].port, 11211);
    EXPECT_TEXT(options.listen[0].host, "");
    EXPECT_EQ(options.memory_size, 64 << 20);
    EXPECT_EQ(options.item_size_max, 1 << 20);
    EXPECT_EQ(options.connection_max, 1024);
    EXPECT_EQ(options.thread_count, 4);
    EXPECT_EQ(options.peer_count, 0);
    EXPECT_EQ(options.self, 1);
    EXPECT_EQ(options.configured, 1);
}

TEST(options, short_ones_may_be_joined)
{
    ASSERT_EQ(parse("-dMvv -p1234 -m 128 -c 9 -u root"), OPTIONS_RUN);
    EXPECT(options.daemon);
    EXPECT(options.no_eviction);
    EXPECT_EQ(options.verbose, 2);
    EXPECT_EQ(options.port, 1234);
    EXPECT_EQ(options.memory_size, 128 << 20);
    EXPECT_EQ(options.connection_max, 9);
    EXPECT_TEXT(options.user, "root");
}

TEST(options, long_ones_take_both_forms)
{
    ASSERT_EQ(parse("--port=1234 --threads 2 --verbose --max-item-size=5m"), OPTIONS_RUN);
    EXPECT_EQ(options.port, 1234);
    EXPECT_EQ(options.thread_count, 2);
    EXPECT_EQ(options.item_size_max, 5 << 20);
}

TEST(options, item_size_has_borders)
{
    EXPECT_EQ(parse("-I 1k"), OPTIONS_RUN);
    EXPECT_EQ(parse("-I 1024m"), OPTIONS_RUN);
    EXPECT_EQ(options.item_size_max, 1 << 30);
    EXPECT_EQ(parse("-I 1024"), OPTIONS_RUN);
    EXPECT(refused("-I 1023", "1k to 1024m"));
    EXPECT(refused("-I 1025m", "1k to 1024m"));
    EXPECT(refused("-I k", "-I"));
    EXPECT(refused("-I 99999999999999999999m", "-I"));
    EXPECT(refused("-I -1m", "-I"));
}

TEST(options, addresses_have_many_forms)
{
    ASSERT_EQ(parse("-p 7 -l 127.0.0.1,[::1]:8,::1,host:9 -l *:10"), OPTIONS_RUN);
    ASSERT_EQ(options.listen_count, 5);
    EXPECT_TEXT(options.listen[0].host, "127.0.0.1");
    EXPECT_EQ(options.listen[0].port, 7);
    EXPECT_TEXT(options.listen[1].host, "::1");
    EXPECT_EQ(options.listen[1].port, 8);
    EXPECT_TEXT(options.listen[2].host, "::1");
    EXPECT_EQ(options.listen[2].port, 7);
    EXPECT_EQ(options.listen[3].port, 9);
    EXPECT_TEXT(options.listen[4].host, "");
    EXPECT_EQ(options.listen[4].port, 10);
    EXPECT(refused("-l [::1", "--listen"));
    EXPECT(refused("-l host:99999", "--listen"));
    EXPECT(refused("-p 0 -l host", "no port"));
    EXPECT_EQ(parse("-p 0"), OPTIONS_RUN);
    EXPECT_EQ(options.listen_count, 0);
}

TEST(options, a_group_has_an_odd_number_of_different_nodes)
{
    ASSERT_EQ(parse("--node=3 --peers=3@c:3,1@a:1,2@[::1]:2"), OPTIONS_RUN);
    EXPECT_EQ(options.peer_count, 3);
    EXPECT_EQ(options.configured, 7);
    EXPECT_EQ(options.peers[0].id, 1);
    EXPECT_TEXT(options.peers[1].host, "::1");
    EXPECT_TEXT(options.peers[2].host, "c");
    EXPECT(refused("--node=1 --peers=1@a:1,2@b:2", "1, 3, 5 or 7"));
    EXPECT(refused("--node=1 --peers=1@a:1,1@b:2,3@c:3", "different ids"));
    EXPECT(refused("--node=1 --peers=1@a:1,2@b,3@c:3", "--peers"));
    EXPECT(refused("--node=1 --peers=1@a:1,2@b:2,8@c:3", "--peers"));
    EXPECT(refused("--node=4 --peers=1@a:1,2@b:2,3@c:3", "--node=4"));
    EXPECT(refused("--peers=1@a:1,2@b:2,3@c:3", "--node"));
    EXPECT(refused("--node=8", "1 to 7"));
    EXPECT(refused("--node=1 --peers=1@a:1,2@b:2,3@c:3 --force-members=1,4", "--force-members"));
}

TEST(options, unknown_ones_get_the_nearest_name)
{
    EXPECT(refused("--prot=1", "--port"));
    EXPECT(refused("--thread=1", "--threads"));
    EXPECT(refused("-Q", "-Q"));
    EXPECT(refused("word", "word"));
    EXPECT(refused("--daemon=1", "no argument"));
    EXPECT(refused("--port", "needs an argument"));
    EXPECT(refused("-p", "needs an argument"));
}

TEST(options, hashes_tell_what_must_be_equal)
{
    ASSERT_EQ(parse("--node=1 --peers=1@a:1,2@b:2,3@c:3 -t 2"), OPTIONS_RUN);
    uint64_t cluster = options_cluster_hash(&options), directory = options_directory_hash(&options);
    ASSERT_EQ(parse("--node=2 --peers=3@c:3,2@b:2,1@a:1 -t 2 -m 999 -c 5"), OPTIONS_RUN);
    EXPECT(options_cluster_hash(&options) == cluster);
    EXPECT(options_directory_hash(&options) == directory);
    ASSERT_EQ(parse("--node=1 --peers=1@a:1,2@b:2,3@c:3 -t 2 --lease-ms=77"), OPTIONS_RUN);
    EXPECT(options_cluster_hash(&options) != cluster);
    EXPECT(options_directory_hash(&options) == directory);
    ASSERT_EQ(parse("--node=1 --peers=1@a:1,2@b:2,3@c:4 -t 2"), OPTIONS_RUN);
    EXPECT(options_directory_hash(&options) != directory);
}
