/* Goal: the command line as memcached's users know it, and refusals that name the option and what
 * is allowed. Method: command lines in, the struct or the line out. */
#include "server/options_private.h"

#include "net/net.h"
#include "t/options_line.h"

TEST(options, lists_that_are_too_long_are_refused)
{
    static char list[OPTIONS_EXTENDED_SIZE + 8];
    char *arguments[] = {"healcached", "-o", list};
    memset(list, ',', sizeof(list) - 1);
    EXPECT_EQ(options_parse(&options, 3, arguments, why, sizeof(why)), OPTIONS_WRONG);
    EXPECT(strstr(why, "too long") != NULL);
    list[OPTIONS_EXTENDED_SIZE - 1] = 0;
    EXPECT_EQ(options_parse(&options, 3, arguments, why, sizeof(why)), OPTIONS_RUN);
}

TEST(options, without_any_is_a_memcached)
{
    ASSERT_EQ(parse(""), OPTIONS_RUN);
    EXPECT_EQ(options.listen_count, 1);
    EXPECT_EQ(options.listen[0].at.port, 11211);
    EXPECT_TEXT(options.listen[0].at.host, "");
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
    EXPECT_TEXT(options.listen[0].at.host, "127.0.0.1");
    EXPECT_EQ(options.listen[0].at.port, 7);
    EXPECT_TEXT(options.listen[1].at.host, "::1");
    EXPECT_EQ(options.listen[1].at.port, 8);
    EXPECT_TEXT(options.listen[2].at.host, "::1");
    EXPECT_EQ(options.listen[2].at.port, 7);
    EXPECT_EQ(options.listen[3].at.port, 9);
    EXPECT_TEXT(options.listen[4].at.host, "");
    EXPECT_EQ(options.listen[4].at.port, 10);
    EXPECT(refused("-l [::1", "--listen"));
    EXPECT(refused("-l host:99999", "--listen"));
    EXPECT(refused("-p 0 -l host", "no port"));
    ASSERT_EQ(parse("-l a,,b,"), OPTIONS_RUN);
    EXPECT_EQ(options.listen_count, 2);
    EXPECT(refused("--listen=", "an address"));
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
    EXPECT(refused("--node=1 --peers=1@a:1,2@b:2,3@a:1", "nodes 1 and 3"));
    EXPECT(refused("--node=1 --peers=1@a:1,2@b:2,3@a:10001", "nodes 1 and 3"));
    EXPECT(refused("--node=1 --peers=1@a:40000,2@b:2,3@a:60000", "nodes 1 and 3"));
    EXPECT(refused("--node=1 --peers=1@a:1,2@b:2,3@c:3 --force-members=", "--force-members"));
    EXPECT(refused("--node=1 --peers=1@a:1,2@b:2,3@c:3 --force-members=1,4", "--force-members"));
}

TEST(options, unknown_ones_get_the_nearest_name)
{
    EXPECT(refused("--prot=1", "--port"));
    EXPECT(refused("--thread=1", "--threads"));
    EXPECT(refused("--memory=1", "--memory-limit"));
    EXPECT(refused("--bogus", "--bogus (-h"));
    EXPECT(refused("-v=2", "long name"));
    EXPECT(refused("-Q", "-Q"));
    EXPECT(refused("word", "word"));
    EXPECT(refused("--daemon=1", "no argument"));
    EXPECT(refused("--port", "needs an argument"));
    EXPECT(refused("-p", "needs an argument"));
}

/* An argument that the row takes; NULL: it takes none, or one of a shape of its own. */
static const char *good_argument(const struct option_row *row)
{
    static char text[32];
    if (row->argument == NULL || row->argument[0] == '[')
        return NULL;
    if (strchr(row->argument, '|') != NULL)
        snprintf(text, sizeof(text), "%.*s", (int)strcspn(row->argument, "|"), row->argument);
    else if (row->min == 0 && row->max == 1)
        snprintf(text, sizeof(text), "0.5");
    else
        snprintf(text, sizeof(text), "%lld", (long long)row->min + 1);
    return text;
}

static const char *line_of(const struct option_row *row, const char *argument)
{
    static char line[256];
    const char *begin = row->extended ? "-o " : "--";
    snprintf(line, sizeof(line), "%s%s%s%s", begin, row->word, argument != NULL ? "=" : "",
             argument != NULL ? argument : "");
    return line;
}

TEST(options, without_a_meaning_are_taken_and_noted)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        if (!row->ignored)
            continue;
        const char *line = line_of(row, good_argument(row));
        EXPECT_EQ(parse(line), OPTIONS_RUN);
        EXPECT_TEXT(why, "");
        for (int j = 0; j < OPTION_COUNT; j++)
            EXPECT_EQ(options.ignored[j / 64] >> j % 64 & 1, i == j);
        if (row->max != 0) {
            char number[32];
            snprintf(number, sizeof(number), "%lld", (long long)row->min);
            EXPECT(refused(line_of(row, number), row->word));
            snprintf(number, sizeof(number), "%lld", (long long)row->max);
            EXPECT(refused(line_of(row, number), "below"));
            EXPECT(refused(line_of(row, "x"), "a number"));
            EXPECT(refused(line_of(row, "5x"), "a number"));
        }
    }
    ASSERT_EQ(parse("-p 1"), OPTIONS_RUN);
    for (int j = 0; j < OPTIONS_IGNORED_MAX / 64; j++)
        EXPECT_EQ(options.ignored[j], 0);
}

TEST(options, of_every_row_say_when_their_argument_is_missing_or_too_much)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        if (row->word != NULL && option_needs_argument(row)) {
            EXPECT(refused(line_of(row, NULL), "needs an argument"));
            EXPECT(strstr(why, row->word) != NULL);
        } else if (row->word != NULL && !option_takes_argument(row)) {
            EXPECT(refused(line_of(row, "1"), "takes no argument"));
        }
    }
}

TEST(options, of_every_row_are_named_when_one_letter_is_wrong)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        char word[64], line[128];
        if (row->word == NULL)
            continue;
        snprintf(word, sizeof(word), "%s", row->word);
        word[strlen(word) / 2] = '_';
        if (strcmp(word, row->word) == 0)
            word[strlen(word) / 2] = 'Q';
        snprintf(line, sizeof(line), "%s%s", row->extended ? "-o " : "--", word);
        EXPECT(refused(line, row->word));
        EXPECT_EQ(options.exit_code, EXIT_WRONG);
    }
}

TEST(options, letters_are_used_once)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        for (int j = 0; j < i; j++)
            EXPECT(option_rows[i].letter == 0 || option_rows[i].letter != option_rows[j].letter);
    }
}

TEST(options, extended_ones_are_a_list)
{
    ASSERT_EQ(parse("-o modern,track_sizes,,idle_timeout=7 -o watcher_logbuf_size=9"), OPTIONS_RUN);
    EXPECT(options.track_sizes);
    EXPECT_EQ(options.idle_timeout_s, 7);
    EXPECT_EQ(options.watcher_buffer_kb, 9);
    ASSERT_EQ(parse("--extended=modern,track_sizes"), OPTIONS_RUN);
    EXPECT(options.track_sizes);
    EXPECT(refused("-o modern,nonsens", "nonsens"));
    EXPECT(refused("-o idle_timeout=x", "-o idle_timeout"));
    EXPECT_EQ(options.exit_code, EXIT_WRONG);
    EXPECT(refused("-o hash_algorithm=md5", "jenkins or murmur3 or xxh3"));
}

TEST(options, end_with_the_status_of_memcached)
{
    static const char *const with_1[] = {"-t 0", "-c 0", "-R 0", "-f 1",
                                         "-n 0", "-D",   "-N 0", "-Q"};
    static const char *const with_64[] = {"-p 65536", "-I 1",     "-B some",
                                          "-m x",     "--node=9", "word"};
    for (unsigned i = 0; i < sizeof(with_1) / sizeof(with_1[0]); i++) {
        EXPECT_EQ(parse(with_1[i]), OPTIONS_WRONG);
        EXPECT_EQ(options.exit_code, 1);
    }
    for (unsigned i = 0; i < sizeof(with_64) / sizeof(with_64[0]); i++) {
        EXPECT_EQ(parse(with_64[i]), OPTIONS_WRONG);
        EXPECT_EQ(options.exit_code, 64);
    }
}

TEST(options, switches_of_memcached_are_switches_here)
{
    ASSERT_EQ(parse("-AXWCrF -D / -B ascii --verbose=2"), OPTIONS_RUN);
    EXPECT(options.shutdown_allowed);
    EXPECT(options.no_dump);
    EXPECT(options.no_watch);
    EXPECT(options.no_cas);
    EXPECT(options.core_dumps);
    EXPECT(options.no_flush);
    EXPECT_EQ(options.delimiter, '/');
    EXPECT(options.detail);
    EXPECT_EQ(options.protocol, PROTOCOL_ASCII);
    EXPECT(refused("-D ab", "one character"));
    ASSERT_EQ(parse(""), OPTIONS_RUN);
    EXPECT_EQ(options.delimiter, ':');
    EXPECT(!options.detail);
}

TEST(options, damage_is_refused_unless_it_is_to_be_served)
{
    ASSERT_EQ(parse(""), OPTIONS_RUN);
    EXPECT_EQ(options.damaged, DAMAGED_REFUSE);
    ASSERT_EQ(parse("--damaged=serve"), OPTIONS_RUN);
    EXPECT_EQ(options.damaged, DAMAGED_SERVE);
    ASSERT_EQ(parse("--damaged=serve --damaged=refuse"), OPTIONS_RUN);
    EXPECT_EQ(options.damaged, DAMAGED_REFUSE);
    EXPECT(refused("--damaged=ignore", "refuse or serve"));
    EXPECT(refused("--damaged", "argument"));
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
    ASSERT_EQ(parse("--node=1 --peers=1@a:1,2@b:2,3@c:3 -t 2 --persistency=strict"), OPTIONS_RUN);
    EXPECT(options_cluster_hash(&options) != cluster);
    EXPECT(options_directory_hash(&options) == directory);
    ASSERT_EQ(parse("--node=1 --peers=1@a:1,2@b:2,3@c:4 -t 2"), OPTIONS_RUN);
    EXPECT(options_directory_hash(&options) != directory);
}

TEST(options, net_is_tcp_rdma_or_auto_and_each_node_chooses_for_itself)
{
    ASSERT_EQ(parse("--node=1 --peers=1@a:1,2@b:2,3@c:3"), OPTIONS_RUN);
    EXPECT_EQ(options.net, NET_CHOOSE_AUTO);
    EXPECT_EQ(options.poll_us, 0);
    uint64_t hash = options_cluster_hash(&options);
    ASSERT_EQ(parse("--node=1 --peers=1@a:1,2@b:2,3@c:3 --net=tcp --poll-us=50"), OPTIONS_RUN);
    EXPECT_EQ(options.net, NET_CHOOSE_TCP);
    EXPECT_EQ(options.poll_us, 50);
    EXPECT(options_cluster_hash(&options) == hash);
    ASSERT_EQ(parse("--net=rdma"), OPTIONS_RUN);
    EXPECT_EQ(options.net, NET_CHOOSE_RDMA);
    EXPECT(refused("--net=ib", "tcp or rdma or auto"));
    EXPECT(refused("--poll-us=1000001", "0 to 1000000"));
}

TEST(options, persistency_is_the_name_of_a_model)
{
    char line[64];
    ASSERT_EQ(parse(""), OPTIONS_RUN);
    EXPECT_EQ(options.persistency, MODEL_SYNCH);
    for (int model = 0; model < MODEL_COUNT; model++) {
        snprintf(line, sizeof(line), "--persistency=%s", model_name((enum model)model));
        ASSERT_EQ(parse(line), OPTIONS_RUN);
        EXPECT_EQ((int)options.persistency, model);
        EXPECT(strstr(option_rows[OPTION_PERSISTENCY].argument, model_name((enum model)model)));
    }
    EXPECT(refused("--persistency=sync", "synch or strict or read-enforced or eventual or scope"));
}

/* Whatever speaks the other protocol would be an open door. */
TEST(options, to_authenticate_shut_the_other_protocol)
{
    ASSERT_EQ(parse("-S -l 127.0.0.1,proto[binary]:127.0.0.2"), OPTIONS_RUN);
    EXPECT(options.sasl);
    EXPECT_EQ(options.protocol, PROTOCOL_BINARY);
    EXPECT_EQ(options.listen[0].protocol, PROTOCOL_BINARY);
    ASSERT_EQ(parse("--auth-file=users -l proto[auto]:127.0.0.1"), OPTIONS_RUN);
    EXPECT_TEXT(options.auth_file, "users");
    EXPECT_EQ(options.protocol, PROTOCOL_ASCII);
    EXPECT_EQ(options.listen[0].protocol, PROTOCOL_ASCII);
    EXPECT(refused("-S -Y users", "only one of them"));
    EXPECT(refused("-S -B ascii", "not -B ascii"));
    EXPECT(refused("-Y users -B binary", "not -B binary"));
    EXPECT(refused("-S -l proto[ascii]:127.0.0.1", "proto[]"));
    EXPECT(refused("-Y users -l proto[binary]:127.0.0.1", "proto[]"));
    EXPECT(refused("-S -U 11211", "UDP"));
    EXPECT(refused("-Y users -U 11211", "UDP"));
    EXPECT_EQ(options.exit_code, EXIT_USAGE);
}
