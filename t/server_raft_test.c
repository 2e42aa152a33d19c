/* Goal: the agreed log is one order on all nodes, survives restarts, and finds a new leader.
 * Method: three drivers on loopback in one process and one event loop, each with a directory; what
 * each applies is recorded. Short election times; every wait has a limit. */
#include "server/raft_driver.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "t/ports.h"
#include "t/test.h"

enum { NODES = 3, ENTRY_MAX = 512, WAIT_MS = 40000 };

struct seat {
    struct raft_driver *driver;
    char directory[256];
    unsigned leader, role_calls;
    uint32_t applied[ENTRY_MAX]; /* their epochs */
    unsigned count;
    unsigned restores, failures;
    struct member_snapshot state; /* the newest epoch applied stands in admitted[0] */
};

static struct seat seats[NODES + 1];
static struct event_base *base;
static struct raft_driver_options options;
static const char *parent;

static void on_applied(void *user, const struct member_entry *entry)
{
    struct seat *seat = user;
    if (seat->count < ENTRY_MAX)
        seat->applied[seat->count++] = entry->next.epoch;
    seat->state.admitted[0] = entry->next.epoch;
}

static void on_snapshot(void *user, struct member_snapshot *snapshot)
{
    struct seat *seat = user;
    *snapshot = seat->state;
}

static void on_restore(void *user, const struct member_snapshot *snapshot)
{
    struct seat *seat = user;
    seat->state = *snapshot;
    seat->restores++;
}

static void on_role(void *user, unsigned leader)
{
    struct seat *seat = user;
    seat->leader = leader;
    seat->role_calls++;
}

static void on_failed(void *user, const char *why)
{
    struct seat *seat = user;
    fprintf(stderr, "raft failed: %s\n", why);
    seat->failures++;
}

static const struct raft_driver_callbacks callbacks = {.applied = on_applied,
                                                       .snapshot = on_snapshot,
                                                       .restore = on_restore,
                                                       .role = on_role,
                                                       .failed = on_failed};

static void prepare(void)
{
    signal(SIGPIPE, SIG_IGN);
    memset(seats, 0, sizeof(seats));
    memset(&options, 0, sizeof(options));
    base = event_base_new();
    parent = test_directory();
    options.peer_count = NODES;
    options.election_ms = 150;
    options.heartbeat_ms = 30;
    for (unsigned i = 0; i < NODES; i++)
        options.peers[i] = (struct raft_driver_peer){i + 1, "127.0.0.1", free_port()};
    for (unsigned id = 1; id <= NODES; id++)
        snprintf(seats[id].directory, sizeof(seats[id].directory), "%s/raft%u", parent, id);
}

static enum status open_seat(unsigned id, char *why, size_t why_size)
{
    struct seat *seat = &seats[id];
    seat->count = 0;
    seat->leader = 0;
    memset(&seat->state, 0, sizeof(seat->state));
    options.self = id;
    options.directory = seat->directory[0] != '\0' ? seat->directory : NULL;
    return raft_driver_open(&seat->driver, base, &options, &callbacks, seat, why, why_size);
}

static bool opens(unsigned id)
{
    char why[512];
    enum status status = open_seat(id, why, sizeof(why));
    if (status != STATUS_OK)
        test_fail(__FILE__, __LINE__, "open: %s: %s", status_text(status), why);
    return status == STATUS_OK;
}

static void close_seat(unsigned id)
{
    raft_driver_close(seats[id].driver);
    seats[id].driver = NULL;
}

static void finish(void)
{
    for (unsigned id = 1; id <= NODES; id++) {
        close_seat(id);
        EXPECT_EQ(seats[id].failures, 0);
    }
    event_base_free(base);
}

static void run_ms(unsigned milliseconds)
{
    struct timeval after = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
    event_base_loopexit(base, &after);
    event_base_dispatch(base);
}

/* Every open node names the same leader, which is open; 0: not within the limit. */
static unsigned wait_leader(void)
{
    for (unsigned waited = 0; waited < WAIT_MS; waited += 10) {
        unsigned leader = 0;
        bool agreed = true;
        for (unsigned id = 1; id <= NODES; id++) {
            if (seats[id].driver == NULL)
                continue;
            leader = leader == 0 ? seats[id].leader : leader;
            agreed = agreed && seats[id].leader == leader;
        }
        if (agreed && leader != 0 && seats[leader].driver != NULL)
            return leader;
        run_ms(10);
    }
    return 0;
}

static void propose(uint32_t epoch)
{
    unsigned leader = wait_leader();
    struct member_entry entry = {
        .kind = MEMBER_ACTIVATE, .leader = 1, .lead = 1, .incarnation = 1, .next.epoch = epoch};
    if (leader != 0)
        raft_driver_propose(seats[leader].driver, &entry);
}

static bool wait_state(unsigned id, uint32_t epoch)
{
    for (unsigned waited = 0; waited < WAIT_MS; waited += 5) {
        if (seats[id].state.admitted[0] == epoch)
            return true;
        run_ms(5);
    }
    return false;
}

static void open_all(void)
{
    for (unsigned id = 1; id <= NODES; id++)
        opens(id);
}

TEST(raft, elects_one_leader_and_applies_in_one_order)
{
    prepare();
    open_all();
    ASSERT(wait_leader() != 0);
    for (uint32_t epoch = 1; epoch <= 20; epoch++) {
        propose(epoch);
        EXPECT(epoch % 5 != 0 || wait_state(1, epoch));
    }
    for (unsigned id = 1; id <= NODES; id++) {
        EXPECT(wait_state(id, 20));
        EXPECT_EQ(seats[id].count, 20);
        for (unsigned i = 0; i < seats[id].count; i++)
            EXPECT_EQ(seats[id].applied[i], i + 1);
    }
    finish();
}

TEST(raft, a_proposal_of_a_follower_is_lost)
{
    prepare();
    open_all();
    unsigned leader = wait_leader(), follower = leader == 1 ? 2 : 1;
    ASSERT(leader != 0);
    struct member_entry entry = {
        .kind = MEMBER_ACTIVATE, .leader = 1, .lead = 1, .incarnation = 1, .next.epoch = 9};
    raft_driver_propose(seats[follower].driver, &entry);
    run_ms(100);
    EXPECT_EQ(seats[leader].count, 0);
    EXPECT_EQ(seats[follower].count, 0);
    finish();
}

TEST(raft, the_others_elect_another_when_the_leader_stops_and_it_catches_up_later)
{
    prepare();
    open_all();
    unsigned first = wait_leader();
    ASSERT(first != 0);
    propose(1);
    EXPECT(wait_state(first, 1));
    close_seat(first);
    unsigned second = wait_leader();
    EXPECT(second != 0);
    EXPECT(second != first);
    propose(2);
    EXPECT(wait_state(second, 2));
    opens(first);
    EXPECT(wait_state(first, 2));
    EXPECT_EQ(seats[first].count, 2);
    EXPECT_EQ(wait_leader(), second);
    finish();
}

static unsigned long directory_size(const char *path)
{
    unsigned long size = 0;
    DIR *directory = opendir(path);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        struct stat status;
        if (fstatat(dirfd(directory), entry->d_name, &status, 0) == 0 && S_ISREG(status.st_mode))
            size += (unsigned long)status.st_size;
    }
    closedir(directory);
    return size;
}

TEST(raft, a_restart_begins_with_the_snapshot_and_the_directory_stays_small)
{
    prepare();
    open_all();
    ASSERT(wait_leader() != 0);
    for (uint32_t epoch = 1; epoch <= 200; epoch++) {
        propose(epoch);
        EXPECT(epoch % 10 != 0 || wait_state(1, epoch));
    }
    for (unsigned id = 1; id <= NODES; id++)
        EXPECT(wait_state(id, 200));
    run_ms(100);
    EXPECT(directory_size(seats[1].directory) < 1000000);
    for (unsigned id = 1; id <= NODES; id++)
        close_seat(id);
    open_all();
    ASSERT(wait_leader() != 0);
    propose(201);
    for (unsigned id = 1; id <= NODES; id++) {
        EXPECT(wait_state(id, 201));
        EXPECT_EQ(seats[id].restores, 1);
        EXPECT(seats[id].count < 150);
    }
    finish();
}

TEST(raft, a_node_that_lost_its_directory_gets_the_snapshot_of_the_others)
{
    prepare();
    open_all();
    ASSERT(wait_leader() != 0);
    for (uint32_t epoch = 1; epoch <= 150; epoch++) {
        propose(epoch);
        EXPECT(epoch % 10 != 0 || wait_state(1, epoch));
    }
    unsigned lost = wait_leader() == 1 ? 2 : 1;
    close_seat(lost);
    snprintf(seats[lost].directory, sizeof(seats[lost].directory), "%s/new", parent);
    opens(lost);
    EXPECT(wait_state(lost, 150));
    EXPECT_EQ(seats[lost].restores, 1);
    finish();
}

TEST(raft, without_a_directory_a_temporary_one_is_used_and_removed)
{
    prepare();
    setenv("TMPDIR", parent, 1);
    for (unsigned id = 1; id <= NODES; id++)
        seats[id].directory[0] = '\0';
    open_all();
    EXPECT(wait_leader() != 0);
    propose(1);
    EXPECT(wait_state(3, 1));
    finish();
    unsetenv("TMPDIR");
    DIR *directory = opendir(parent);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        EXPECT(entry->d_name[0] == '.');
    closedir(directory);
}

static bool exists(const char *name)
{
    char path[512];
    struct stat status;
    snprintf(path, sizeof(path), "%s/%s", parent, name);
    return stat(path, &status) == 0;
}

static int make(const char *name, unsigned age)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", parent, name);
    struct timespec then[2] = {{.tv_sec = time(NULL) - age}, {.tv_sec = time(NULL) - age}};
    EXPECT_EQ(mkdir(path, 0700), 0);
    EXPECT_EQ(utimensat(AT_FDCWD, path, then, 0), 0);
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

TEST(raft, what_a_killed_process_left_is_removed_but_nothing_that_is_in_use_or_new)
{
    prepare();
    setenv("TMPDIR", parent, 1);
    close(make("healcached-raft-killed", 100));
    close(make("healcached-raft-new", 0));
    close(make("foreign", 100));
    int lock = make("healcached-raft-used", 100);
    EXPECT_EQ(flock(lock, LOCK_EX), 0);
    seats[1].directory[0] = '\0';
    opens(1);
    EXPECT(!exists("healcached-raft-killed"));
    EXPECT(exists("healcached-raft-new"));
    EXPECT(exists("healcached-raft-used"));
    EXPECT(exists("foreign"));
    close(lock);
    finish();
    unsetenv("TMPDIR");
}

TEST(raft, names_are_resolved)
{
    prepare();
    for (unsigned i = 0; i < NODES; i++)
        options.peers[i].host = "localhost";
    open_all();
    EXPECT(wait_leader() != 0);
    propose(1);
    for (unsigned id = 1; id <= NODES; id++)
        EXPECT(wait_state(id, 1));
    finish();
}

/* No driver fails; one that does not belong just stays alone. */
TEST(raft, a_node_with_another_secret_or_other_settings_stays_outside)
{
    prepare();
    options.secret = "one";
    opens(1);
    opens(2);
    ASSERT(wait_leader() != 0);
    static const struct {
        const char *secret;
        uint64_t configuration;
    } wrong[] = {{"two", 0}, {NULL, 0}, {"one", 5}};
    for (unsigned i = 0; i < 3; i++) {
        options.secret = wrong[i].secret;
        options.configuration = wrong[i].configuration;
        opens(3);
        run_ms(400);
        EXPECT_EQ(seats[3].leader, 0);
        close_seat(3);
    }
    options.secret = "one";
    options.configuration = 0;
    opens(3);
    EXPECT(wait_leader() != 0);
    finish();
}

enum { STRANGERS = 80 };

/* What talks to the port without being a node: bytes of another protocol, silence, half a greeting.
 */
TEST(raft, strangers_are_turned_away_and_disturb_nobody)
{
    prepare();
    open_all();
    unsigned leader = wait_leader();
    ASSERT(leader != 0);
    uint16_t port = raft_driver_port(options.peers[leader - 1].port);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int strangers[STRANGERS];
    char noise[64], byte;
    memset(noise, 'x', sizeof(noise));
    for (unsigned i = 0; i < STRANGERS; i++) {
        strangers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        EXPECT_EQ(connect(strangers[i], (void *)&address, sizeof(address)), 0);
        EXPECT(i % 3 == 0 || send(strangers[i], noise, i % 3 == 1 ? 64 : 7, MSG_NOSIGNAL) > 0);
        run_ms(2);
    }
    run_ms(100);
    EXPECT(recv(strangers[1], &byte, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET); /* closed */
    propose(1);
    for (unsigned id = 1; id <= NODES; id++)
        EXPECT(wait_state(id, 1));
    EXPECT_EQ(wait_leader(), leader);
    for (unsigned i = 0; i < STRANGERS; i++)
        close(strangers[i]);
    finish();
}

static void refused(unsigned id, enum status expected, const char *text)
{
    char why[512] = "";
    enum status status = open_seat(id, why, sizeof(why));
    EXPECT_EQ(status, expected);
    if (strstr(why, text) == NULL)
        test_fail(__FILE__, __LINE__, "%s does not say %s", why, text);
}

TEST(raft, a_port_in_use_is_refused_with_a_text)
{
    prepare();
    uint16_t port = raft_driver_port(options.peers[1].port);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int stranger = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(stranger, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    EXPECT_EQ(bind(stranger, (void *)&address, sizeof(address)), 0);
    EXPECT_EQ(listen(stranger, 1), 0);
    char text[512];
    snprintf(text, sizeof(text),
             "raft in %s: cannot listen on 127.0.0.1:%u, which is 10000 away from this node's port "
             "in --peers: address already in use; free it, or give the node another port there, "
             "for all nodes",
             seats[2].directory, port);
    refused(2, STATUS_IO, text);
    close(stranger);
    opens(2);
    finish();
}

TEST(raft, two_nodes_of_one_address_are_refused)
{
    prepare();
    options.peers[1].port = options.peers[0].port;
    refused(2, STATUS_IO, "address already in use");
    finish();
}

TEST(raft, a_directory_of_another_group_is_refused)
{
    prepare();
    opens(1);
    run_ms(50);
    close_seat(1);
    options.peer_count = 2;
    refused(1, STATUS_FOREIGN, "other nodes");
    options.peer_count = 3;
    opens(1);
    finish();
}

TEST(raft, hosts_and_directories_that_cannot_be_used_are_refused)
{
    prepare();
    options.peers[0].host = "no.such.host.invalid";
    refused(1, STATUS_INVALID, "no.such.host.invalid");
    options.peers[0].host = "::1";
    refused(1, STATUS_INVALID, "IPv4");
    options.peers[0].host = "127.0.0.1";
    snprintf(seats[1].directory, sizeof(seats[1].directory), "%s/none/raft", parent);
    refused(1, STATUS_IO, "none/raft");
    char name[600];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    options.directory = name;
    options.self = 1;
    char why[1024];
    EXPECT_EQ(
        raft_driver_open(&seats[1].driver, base, &options, &callbacks, &seats[1], why, sizeof(why)),
        STATUS_IO);
    EXPECT(strstr(why, "too long") != NULL);
    finish();
}

TEST(raft, the_port_is_ten_thousand_away_from_the_peer_port)
{
    EXPECT_EQ(raft_driver_port(11311), 21311);
    EXPECT_EQ(raft_driver_port(55535), 65535);
    EXPECT_EQ(raft_driver_port(55536), 45536);
}
