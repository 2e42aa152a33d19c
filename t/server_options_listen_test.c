/* Goal: where clients connect is what the command line says, and what would leave a door open, or
 * no door at all, is refused. Method: command lines in, the struct or the line out. */
#include "t/options_line.h"

TEST(options_listen, ports_may_be_off_any_or_a_number)
{
    ASSERT_EQ(parse("-p 0"), OPTIONS_RUN);
    EXPECT_EQ(options.listen_count, 0);
    ASSERT_EQ(parse("-p -1"), OPTIONS_RUN);
    EXPECT(options.port_any);
    EXPECT(options.listen[0].has_tcp);
    EXPECT_EQ(options.listen[0].at.port, 0);
    ASSERT_EQ(parse("-p 65535 -U 65535"), OPTIONS_RUN);
    EXPECT_EQ(options.listen[0].at.port, 65535);
    EXPECT_EQ(options.listen[0].udp_port, 65535);
    EXPECT(refused("-p 65536", "0 to 65535, or -1"));
    EXPECT(refused("-p -2", "-p"));
    EXPECT(refused("-U 65536", "-U"));
    EXPECT(refused("-U x", "-U"));
    EXPECT(refused("-p 0 -l host", "no port"));
}

TEST(options_listen, udp_is_off_and_may_be_alone)
{
    ASSERT_EQ(parse(""), OPTIONS_RUN);
    EXPECT(!options_has_udp(&options));
    ASSERT_EQ(parse("-p 0 -U 5 -l a,b:6"), OPTIONS_RUN);
    EXPECT(options_has_udp(&options));
    EXPECT(!options.listen[0].has_tcp);
    EXPECT_EQ(options.listen[0].udp_port, 5);
    EXPECT(options.listen[1].has_tcp); /* A port of its own is for both, as in memcached. */
    EXPECT_EQ(options.listen[1].udp_port, 6);
}

TEST(options_listen, words_before_an_address_are_about_it)
{
    ASSERT_EQ(parse("-Z -l notls:a:1,btls:tag[x]:[::1]:2 -l proto[binary]:mtls:b -l c -B ascii"),
              OPTIONS_RUN);
    ASSERT_EQ(options.listen_count, 4);
    EXPECT_EQ(options.listen[0].tls, LISTEN_TLS_NONE);
    EXPECT_TEXT(options.listen[0].at.host, "a");
    EXPECT_EQ(options.listen[0].protocol, PROTOCOL_ASCII);
    EXPECT_EQ(options.listen[1].tls, LISTEN_TLS_BASIC);
    EXPECT_TEXT(options.listen[1].at.host, "::1");
    EXPECT_EQ(options.listen[1].at.port, 2);
    EXPECT_EQ(options.listen[2].tls, LISTEN_TLS_MUTUAL);
    EXPECT_EQ(options.listen[2].protocol, PROTOCOL_BINARY);
    EXPECT_EQ(options.listen[2].at.port, 11211);
    EXPECT_EQ(options.listen[3].tls, LISTEN_TLS_OPTION);
    EXPECT(options.tls.required_anywhere);
    EXPECT(refused("-l proto[x]:a", "proto["));
    EXPECT(refused("-l a:70000", "a:70000"));
}

TEST(options_listen, sixteen_are_the_limit)
{
    char line[256] = "-l ";
    for (int i = 0; i < 16; i++)
        snprintf(line + strlen(line), sizeof(line) - strlen(line), "%sh%d", i > 0 ? "," : "", i);
    ASSERT_EQ(parse(line), OPTIONS_RUN);
    EXPECT_EQ(options.listen_count, 16);
    snprintf(line + strlen(line), sizeof(line) - strlen(line), ",one");
    EXPECT(refused(line, "16"));
}

TEST(options_listen, a_unix_socket_is_instead_of_all_others)
{
    ASSERT_EQ(parse("-s /run/socket -p 5 -U 6 -l a,b"), OPTIONS_RUN);
    ASSERT_EQ(options.listen_count, 1);
    EXPECT(options.listen[0].is_unix);
    EXPECT(!options.listen[0].has_tcp);
    EXPECT(!options_has_udp(&options));
    EXPECT_EQ(options.unix_mask, 0700);
    ASSERT_EQ(parse("-s s -a 0666"), OPTIONS_RUN);
    EXPECT_EQ(options.unix_mask, 0666);
    EXPECT(refused("-s s -a 8", "octal"));
    EXPECT(refused("-s s -a 1000", "octal"));
    EXPECT(refused("-s s -a 00700", "octal"));
}

TEST(options_listen, a_unix_path_has_a_length)
{
    char line[128] = "-s ";
    memset(line + 3, 'x', 107);
    EXPECT_EQ(parse(line), OPTIONS_RUN);
    line[110] = 'x';
    EXPECT(refused(line, "107 bytes"));
}

TEST(options_listen, tls_is_memcached_s)
{
    ASSERT_EQ(parse("-Z -o ssl_chain_cert=c,ssl_key=k,ssl_ca_cert=a,ssl_verify_mode=2 -o "
                    "ssl_ciphers=x:y,ssl_min_version=3,ssl_keyformat=DER,ssl_wbuf_size=64,ssl_"
                    "session_cache"),
              OPTIONS_RUN);
    EXPECT(options.tls_enabled);
    EXPECT_TEXT(options.tls.chain_cert, "c");
    EXPECT_TEXT(options.tls.key, "k");
    EXPECT_TEXT(options.tls.ca_cert, "a");
    EXPECT_TEXT(options.tls.ciphers, "x:y");
    EXPECT_EQ(options.tls.verify_mode, TLS_MODE_REQUIRE);
    EXPECT_EQ(options.tls.min_version, 3);
    EXPECT_EQ(options.tls.key_format, TLS_KEY_DER);
    EXPECT_EQ(options.tls.buffer_kb, 64);
    EXPECT(options.tls.session_cache);
    ASSERT_EQ(parse("-Z"),
              OPTIONS_RUN); /* Without a certificate it ends when that is looked for. */
    EXPECT_EQ(options.tls.min_version, 2);
    EXPECT_EQ(options.tls.buffer_kb, 16);
    EXPECT_EQ(options.tls.key_format, TLS_KEY_PEM);
    EXPECT(refused("-Z -o ssl_verify_mode=4", "0 to 3"));
    EXPECT_EQ(options.exit_code, EXIT_WRONG);
    EXPECT(refused("-Z -o ssl_min_version=4", "0 to 3"));
    EXPECT(refused("-Z -o ssl_keyformat=ENGINE", "PEM"));
    EXPECT(refused("-Z -o ssl_wbuf_size=0", "ssl_wbuf_size"));
}

TEST(options_listen, no_door_is_left_open_by_mistake)
{
    EXPECT(refused("-l notls:a", "-Z"));
    EXPECT(refused("-l mtls:a", "-Z"));
    EXPECT(refused("-Z -s socket", "TCP port"));
    EXPECT(refused("-Z -p 0 -U 5", "TCP port"));
    EXPECT(refused("-Z -U 5 -o ssl_verify_mode=2", "UDP"));
    EXPECT(refused("-Z -U 5 -l a,mtls:b", "UDP"));
    EXPECT_EQ(options.exit_code, EXIT_USAGE);
    EXPECT_EQ(parse("-Z -U 5 -o ssl_verify_mode=1"), OPTIONS_RUN);
}
