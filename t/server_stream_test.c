/* Goal: a connection gets from its stream exactly the bytes that the client sent, is told of each
 * that no event will tell of, and can send through any narrowness; certificates change between
 * sessions, never within. Method: socket pairs with little room, OpenSSL's client at the other end,
 * sizes from a fixed seed. */
#include "server/stream.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "t/test.h"

enum {
    BUFFER_SIZE = 4096,
    TURNS_MAX = 1000000,
};

static struct counters counters;
static struct stream_commons commons;
static struct tls *tls;
static SSL_CTX *client_context;
static char certificate_path[4096], key_path[4096], why[512];
static uint32_t seed;

static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % below;
}

/* ---- certificates ---- */
static void write_certificate(const char *name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    X509_sign(certificate, key, EVP_sha256());
    FILE *file = fopen(certificate_path, "w");
    PEM_write_X509(file, certificate);
    fclose(file);
    file = fopen(key_path, "w");
    PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void name_of(const SSL *ssl, char name[64])
{
    X509 *certificate = SSL_get1_peer_certificate(ssl);
    name[0] = 0;
    if (certificate != NULL)
        X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, 64);
    X509_free(certificate);
}

/* ---- a world of one server and one client ---- */

static void open_world(void)
{
    snprintf(certificate_path, sizeof(certificate_path), "%s/certificate", test_directory());
    snprintf(key_path, sizeof(key_path), "%s/key", test_directory());
    write_certificate("first");
    const struct tls_options options = {.chain_cert = certificate_path,
                                        .key = key_path,
                                        .key_format = TLS_KEY_PEM,
                                        .min_version = 2,
                                        .buffer_kb = 4,
                                        .session_cache = true};
    counters = (struct counters){0};
    seed = 1;
    ASSERT_EQ(tls_open(&tls, &options, why, sizeof(why)), STATUS_OK);
    ASSERT_EQ(stream_commons_open(&commons, &counters, tls, BUFFER_SIZE), STATUS_OK);
    client_context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_mode(client_context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

static void close_world(void)
{
    stream_commons_close(&commons);
    tls_close(tls);
    SSL_CTX_free(client_context);
}

/* Both ends do not block, and hold little. */
static void open_pair(int fds[2])
{
    int size = 4096;
    int failed = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
    ASSERT(!failed);
    for (int i = 0; i < 2; i++)
        setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

struct pair {
    struct stream server;
    SSL *client;
    int client_fd;
};

static void open_tls_pair(struct pair *pair, int version)
{
    int fds[2];
    open_pair(fds);
    pair->client_fd = fds[1];
    enum status status = stream_open_tls(&pair->server, &commons, fds[0], TLS_VERIFY_OPTION);
    ASSERT_EQ(status, STATUS_OK);
    pair->client = SSL_new(client_context);
    SSL_set_min_proto_version(pair->client, version);
    SSL_set_max_proto_version(pair->client, version);
    SSL_set_fd(pair->client, fds[1]);
    SSL_set_connect_state(pair->client);
}

static void close_pair(struct pair *pair)
{
    stream_close(&pair->server);
    SSL_free(pair->client);
    close(pair->client_fd);
}

/* Until both ends have done their part. */
static void shake_hands(struct pair *pair)
{
    uint8_t byte;
    size_t got;
    for (int i = 0; i < 100 && !(SSL_is_init_finished(pair->client) && pair->server.established);
         i++) {
        SSL_do_handshake(pair->client);
        stream_commons_begin_turn(&commons);
        EXPECT_EQ(stream_receive(&pair->server, &byte, 1, &got), STREAM_AGAIN);
    }
    EXPECT(pair->server.established);
}

static uint64_t count(enum counter counter)
{
    return counters_read_any(&counters, counter);
}

/* ---- plain ---- */

TEST(stream, plain_bytes_pass_until_the_end)
{
    int fds[2];
    struct stream stream;
    char data[16];
    size_t moved;
    struct iovec pieces[2] = {{.iov_base = "ab", .iov_len = 2}, {.iov_base = "c", .iov_len = 1}};
    open_world();
    open_pair(fds);
    ASSERT_EQ(stream_open_plain(&stream, &commons, fds[0]), STATUS_OK);
    EXPECT_EQ(stream_receive(&stream, data, sizeof(data), &moved), STREAM_AGAIN);
    EXPECT_EQ(write(fds[1], "get", 3), 3);
    EXPECT_EQ(stream_receive(&stream, data, sizeof(data), &moved), STREAM_OK);
    EXPECT_EQ(moved, 3);
    EXPECT_EQ(stream_send(&stream, pieces, 2, &moved), STREAM_OK);
    EXPECT_EQ(moved, 3);
    EXPECT_EQ(read(fds[1], data, sizeof(data)), 3);
    close(fds[1]);
    EXPECT_EQ(stream_receive(&stream, data, sizeof(data), &moved), STREAM_ENDED);
    EXPECT_EQ(stream_send(&stream, pieces, 2, &moved), STREAM_BROKEN);
    stream_close(&stream);
    close_world();
}

TEST(stream, tls_where_there_is_none_gets_an_alert)
{
    int fds[2];
    struct stream stream;
    uint8_t data[16];
    size_t moved;
    open_world();
    open_pair(fds);
    ASSERT_EQ(stream_open_plain(&stream, &commons, fds[0]), STATUS_OK);
    EXPECT_EQ(write(fds[1], "\x16\x03\x01\x02\x00\x01", 6), 6);
    EXPECT_EQ(stream_receive(&stream, data, sizeof(data), &moved), STREAM_BROKEN);
    EXPECT_EQ(moved, 0);
    EXPECT_EQ(read(fds[1], data, sizeof(data)), 7);
    EXPECT_EQ(data[0], 0x15);
    stream_close(&stream);
    close(fds[1]);
    close_world();
}

/* A value may hold such bytes: only the first ones count. */
TEST(stream, later_bytes_may_look_like_tls)
{
    int fds[2];
    struct stream stream;
    uint8_t data[16];
    size_t moved;
    open_world();
    open_pair(fds);
    ASSERT_EQ(stream_open_plain(&stream, &commons, fds[0]), STATUS_OK);
    EXPECT_EQ(write(fds[1], "x", 1), 1);
    EXPECT_EQ(stream_receive(&stream, data, sizeof(data), &moved), STREAM_OK);
    EXPECT_EQ(write(fds[1], "\x16\x03\x01\x02\x00\x01", 6), 6);
    EXPECT_EQ(stream_receive(&stream, data, sizeof(data), &moved), STREAM_OK);
    EXPECT_EQ(moved, 6);
    stream_close(&stream);
    close(fds[1]);
    close_world();
}

TEST(stream, plain_text_to_tls_is_told_so)
{
    struct pair pair;
    char data[64] = "";
    size_t moved;
    open_world();
    open_tls_pair(&pair, TLS1_3_VERSION);
    EXPECT_EQ(stream_receive(&pair.server, data, sizeof(data), &moved), STREAM_AGAIN);
    EXPECT_EQ(write(pair.client_fd, "get a\r\n", 7), 7);
    EXPECT_EQ(stream_receive(&pair.server, data, sizeof(data), &moved), STREAM_BROKEN);
    EXPECT_EQ(count(COUNTER_ssl_handshake_errors), 1);
    EXPECT(read(pair.client_fd, data, sizeof(data)) > 0);
    EXPECT(strncmp(data, "CLIENT_ERROR ", 13) == 0);
    close_pair(&pair);
    close_world();
}

/* ---- TLS ---- */

/* One direction of a conversation: what is sent is a pattern, so that each byte says where it
 * belongs. */
struct flow {
    size_t size, sent, received;
};

static uint8_t pattern(size_t at)
{
    return (uint8_t)(at * 31 + at / 251);
}

/* As a connection does: pieces of any size; after AGAIN the same bytes, and maybe more. */
static void server_sends(struct pair *pair, struct flow *flow, size_t *offered)
{
    static uint8_t data[3 * BUFFER_SIZE];
    struct iovec pieces[3];
    size_t left = flow->size - flow->sent, moved;
    if (left == 0)
        return;
    size_t want = 1 + draw(sizeof(data));
    if (want < *offered)
        want = *offered;
    if (want > left)
        want = left;
    assert(want <= sizeof(data));
    for (size_t i = 0; i < want; i++)
        data[i] = pattern(flow->sent + i);
    size_t first = draw((uint32_t)want + 1), second = draw((uint32_t)(want - first) + 1);
    pieces[0] = (struct iovec){.iov_base = data, .iov_len = first};
    pieces[1] = (struct iovec){.iov_base = data + first, .iov_len = second};
    pieces[2] = (struct iovec){.iov_base = data + first + second, .iov_len = want - first - second};
    enum stream_result result = stream_send(&pair->server, pieces, 3, &moved);
    EXPECT(result == STREAM_OK || result == STREAM_AGAIN);
    *offered = result == STREAM_AGAIN ? want : 0;
    flow->sent += moved;
}

/* With nothing told to be left, what has not come yet must be something the socket will tell of. */
static void server_receives(struct pair *pair, struct flow *flow, int unread_fd)
{
    uint8_t data[3000];
    size_t moved;
    enum stream_result result = stream_receive(&pair->server, data, 1 + draw(sizeof(data)), &moved);
    EXPECT(result == STREAM_OK || result == STREAM_AGAIN);
    for (size_t i = 0; i < moved; i++)
        EXPECT_EQ(data[i], pattern(flow->received + i));
    flow->received += moved;
    struct pollfd socket = {.fd = unread_fd, .events = POLLIN};
    bool waits = !stream_has_more(&pair->server) && poll(&socket, 1, 0) == 0;
    if (waits && !pair->server.receive_awaits_write)
        EXPECT(flow->received >=
               flow->sent); /* More: a record is out, its call has yet to say so. */
}

static void client_sends(struct pair *pair, struct flow *flow, size_t *offered)
{
    static uint8_t data[40000];
    size_t want = 1 + draw(sizeof(data)), moved = 0;
    if (want < *offered)
        want = *offered;
    if (want > flow->size - flow->sent)
        want = flow->size - flow->sent;
    for (size_t i = 0; i < want; i++)
        data[i] = pattern(flow->sent + i);
    if (want > 0 && SSL_write_ex(pair->client, data, want, &moved) == 1)
        flow->sent += moved;
    *offered = moved == 0 ? want : 0;
}

static void client_receives(struct pair *pair, struct flow *flow)
{
    uint8_t data[3000];
    size_t moved = 0;
    SSL_read_ex(pair->client, data, sizeof(data), &moved);
    for (size_t i = 0; i < moved; i++)
        EXPECT_EQ(data[i], pattern(flow->received + i));
    flow->received += moved;
}

static void converse(int version, uint32_t start)
{
    struct pair pair;
    struct flow up = {.size = 400000}, down = {.size = 400000};
    size_t offered = 0, client_offered = 0;
    int turns = 0;
    open_world();
    seed = start;
    open_tls_pair(&pair, version);
    shake_hands(&pair);
    while ((up.received < up.size || down.received < down.size) && turns++ < TURNS_MAX &&
           !test_failed()) {
        stream_commons_begin_turn(&commons);
        if (draw(2) == 0)
            client_sends(&pair, &up, &client_offered);
        if (draw(2) == 0)
            server_sends(&pair, &down, &offered);
        if (draw(3) == 0)
            server_receives(&pair, &up, pair.server.fd);
        if (draw(3) == 0)
            client_receives(&pair, &down);
    }
    EXPECT_EQ(up.received, up.size);
    EXPECT_EQ(down.received, down.size);
    EXPECT_EQ(count(COUNTER_ssl_proto_errors), 0);
    close_pair(&pair);
    close_world();
}

TEST(stream, tls_1_2_loses_nothing_in_any_narrowness)
{
    for (uint32_t start = 1; start <= 5; start++)
        converse(TLS1_2_VERSION, start);
}

TEST(stream, tls_1_3_loses_nothing_in_any_narrowness)
{
    for (uint32_t start = 1; start <= 5; start++)
        converse(TLS1_3_VERSION, start);
}

/* While nothing waits for the socket: see tls.h. */
TEST(stream, keys_can_be_updated)
{
    struct pair pair;
    struct flow up = {.size = 0}, down = {.size = 0};
    size_t offered = 0, client_offered = 0;
    open_world();
    open_tls_pair(&pair, TLS1_3_VERSION);
    shake_hands(&pair);
    for (int i = 0; i < 50; i++) {
        EXPECT_EQ(SSL_key_update(pair.client, SSL_KEY_UPDATE_REQUESTED), 1);
        up.size += 100;
        down.size += 100;
        while (up.received < up.size && !test_failed()) {
            client_sends(&pair, &up, &client_offered);
            server_receives(&pair, &up, pair.server.fd);
        }
        while (down.received < down.size && !test_failed()) {
            server_sends(&pair, &down, &offered);
            client_receives(&pair, &down);
        }
    }
    EXPECT_EQ(count(COUNTER_ssl_proto_errors), 0);
    close_pair(&pair);
    close_world();
}

TEST(stream, a_record_that_left_the_socket_is_told_of)
{
    struct pair pair;
    uint8_t data[4096] = {0};
    size_t moved, total = 0;
    open_world();
    open_tls_pair(&pair, TLS1_3_VERSION);
    shake_hands(&pair);
    EXPECT_EQ(SSL_write(pair.client, data, 1000), 1000);
    ASSERT_EQ(stream_receive(&pair.server, data, 100, &moved), STREAM_OK);
    struct pollfd socket = {.fd = pair.server.fd, .events = POLLIN};
    EXPECT_EQ(poll(&socket, 1, 0), 0);
    for (total = moved; stream_has_more(&pair.server); total += moved)
        ASSERT_EQ(stream_receive(&pair.server, data, 100, &moved), STREAM_OK);
    EXPECT_EQ(total, 1000);
    EXPECT_EQ(stream_receive(&pair.server, data, 100, &moved), STREAM_AGAIN);
    close_pair(&pair);
    close_world();
}

TEST(stream, events_are_those_of_the_other_direction_if_tls_says_so)
{
    struct stream stream = {.fd = -1};
    bool read = true, write = false;
    stream_wanted_events(&stream, &read, &write);
    EXPECT(read && !write);
    stream.receive_awaits_write = true;
    stream_wanted_events(&stream, &read, &write);
    EXPECT(!read && write);
    stream = (struct stream){.fd = -1, .send_awaits_read = true};
    read = false;
    write = true;
    stream_wanted_events(&stream, &read, &write);
    EXPECT(read && !write);
}

TEST(stream, handshakes_of_a_turn_are_few)
{
    struct pair pair;
    uint8_t byte;
    size_t got;
    open_world();
    open_tls_pair(&pair, TLS1_3_VERSION);
    SSL_do_handshake(pair.client);
    commons.handshakes_left = 0;
    for (int i = 0; i < 10; i++)
        EXPECT_EQ(stream_receive(&pair.server, &byte, 1, &got), STREAM_AGAIN);
    struct pollfd socket = {.fd = pair.server.fd, .events = POLLIN};
    EXPECT_EQ(poll(&socket, 1, 0), 1); /* The event comes again. */
    EXPECT(stream_is_starting(&pair.server));
    shake_hands(&pair);
    EXPECT(!stream_is_starting(&pair.server));
    EXPECT_EQ(count(COUNTER_ssl_new_sessions), 1);
    commons.handshakes_left = 0;
    EXPECT_EQ(SSL_write(pair.client, "x", 1), 1);
    EXPECT_EQ(stream_receive(&pair.server, &byte, 1, &got), STREAM_OK);
    close_pair(&pair);
    close_world();
}

TEST(stream, closing_says_goodbye)
{
    struct pair pair;
    char byte;
    open_world();
    open_tls_pair(&pair, TLS1_3_VERSION);
    shake_hands(&pair);
    stream_close(&pair.server);
    EXPECT(SSL_read(pair.client, &byte, 1) <= 0);
    EXPECT_EQ(SSL_get_shutdown(pair.client) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
    SSL_free(pair.client);
    close(pair.client_fd);
    close_world();
}

TEST(stream, a_client_may_end_with_or_without_goodbye)
{
    for (int polite = 0; polite < 2; polite++) {
        struct pair pair;
        char byte;
        size_t got;
        open_world();
        open_tls_pair(&pair, TLS1_3_VERSION);
        shake_hands(&pair);
        EXPECT_EQ(SSL_write(pair.client, "x", 1), 1);
        if (polite)
            SSL_shutdown(pair.client);
        shutdown(pair.client_fd, SHUT_WR);
        EXPECT_EQ(stream_receive(&pair.server, &byte, 1, &got), STREAM_OK);
        EXPECT_EQ(stream_receive(&pair.server, &byte, 1, &got), STREAM_ENDED);
        EXPECT_EQ(count(COUNTER_ssl_proto_errors), 0);
        close_pair(&pair);
        close_world();
    }
}

TEST(stream, a_forged_record_breaks_it)
{
    struct pair pair;
    char byte;
    size_t got;
    open_world();
    open_tls_pair(&pair, TLS1_3_VERSION);
    shake_hands(&pair);
    EXPECT_EQ(write(pair.client_fd,
                    "\x17\x03\x03\x00\x13"
                    "0123456789012345678",
                    24),
              24);
    EXPECT_EQ(stream_receive(&pair.server, &byte, 1, &got), STREAM_BROKEN);
    EXPECT_EQ(count(COUNTER_ssl_proto_errors), 1);
    close_pair(&pair);
    close_world();
}

/* ---- certificates that change ---- */

TEST(stream, sessions_keep_the_certificate_they_began_with)
{
    struct pair old, new;
    char name[64];
    open_world();
    open_tls_pair(&old, TLS1_3_VERSION);
    write_certificate("second");
    ASSERT_EQ(tls_reload_any(tls, why, sizeof(why)), STATUS_OK);
    open_tls_pair(&new, TLS1_3_VERSION);
    shake_hands(&new);
    shake_hands(&old);
    name_of(old.client, name);
    EXPECT_TEXT(name, "first");
    name_of(new.client, name);
    EXPECT_TEXT(name, "second");
    close_pair(&old);
    close_pair(&new);
    close_world();
}

TEST(stream, a_bad_certificate_leaves_the_old_one)
{
    struct pair pair;
    char name[64];
    open_world();
    FILE *file = fopen(certificate_path, "w");
    fputs("nonsense\n", file);
    fclose(file);
    EXPECT_EQ(tls_reload_any(tls, why, sizeof(why)), STATUS_INVALID);
    EXPECT(strstr(why, certificate_path) != NULL);
    unlink(key_path);
    EXPECT_EQ(tls_reload_any(tls, why, sizeof(why)), STATUS_INVALID);
    open_tls_pair(&pair, TLS1_3_VERSION);
    shake_hands(&pair);
    name_of(pair.client, name);
    EXPECT_TEXT(name, "first");
    close_pair(&pair);
    close_world();
}
