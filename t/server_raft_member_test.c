/* Goal: the membership core and the raft driver fit: a group forms, loses its leader, takes it
 * back, starts cold. Method: three of each in one process on loopback and real time; control
 * messages are handed over by a queue, data lanes are taken as heard while a node is open. Every
 * wait has a limit. */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "server/raft_driver.h"
#include "t/ports.h"
#include "t/test.h"

enum {
    NODES = 3,
    MAIL_MAX = 1024,
    WAIT_MS = 40000,
    SOON_MS = 10000,
    ELECTION_MS = 150,
    LEASE_MS = 80,
};

struct seat {
    unsigned id;
    struct raft_driver *driver;
    struct member member;
    struct member_actions actions;
    uint64_t incarnation;
    uint32_t last_epoch;
    char directory[256];
    unsigned removals;
};

struct mail {
    unsigned from, to;
    struct member_message message;
};

static struct seat seats[NODES + 1];
static struct event_base *base;
static struct event *ticker;
static struct raft_driver_options options;
static struct mail mail[MAIL_MAX];
static unsigned mail_count, failures;

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* ---- the core's actions, raft's callbacks ---- */
static void do_send(void *user, unsigned to, const struct member_message *message)
{
    struct seat *seat = user;
    if (mail_count < MAIL_MAX)
        mail[mail_count++] = (struct mail){seat->id, to, *message};
}

static void do_propose(void *user, const struct member_entry *entry)
{
    struct seat *seat = user;
    raft_driver_propose(seat->driver, entry);
}

static void do_install(void *user, const struct view *view)
{
    struct seat *seat = user;
    seat->last_epoch = view->epoch;
}

static void do_removed(void *user)
{
    struct seat *seat = user;
    seat->removals++;
    member_new_incarnation(&seat->member, ++seat->incarnation);
}

static void on_applied(void *user, const struct member_entry *entry)
{
    struct seat *seat = user;
    member_applied(&seat->member, entry, now_us(), &seat->actions);
}

static void on_snapshot(void *user, struct member_snapshot *snapshot)
{
    struct seat *seat = user;
    member_snapshot(&seat->member, snapshot);
}

static void on_restore(void *user, const struct member_snapshot *snapshot)
{
    struct seat *seat = user;
    member_restore(&seat->member, snapshot, now_us(), &seat->actions);
}

static void on_role(void *user, unsigned leader)
{
    struct seat *seat = user;
    member_role(&seat->member, leader, now_us(), &seat->actions);
}

static void on_failed(void *user, const char *why)
{
    (void)user;
    fprintf(stderr, "raft failed: %s\n", why);
    failures++;
}

static const struct raft_driver_callbacks callbacks = {.applied = on_applied,
                                                       .snapshot = on_snapshot,
                                                       .restore = on_restore,
                                                       .role = on_role,
                                                       .failed = on_failed};

/* ---- the loop ---- */

static void deliver(void)
{
    struct mail taken[MAIL_MAX];
    unsigned count = mail_count;
    memcpy(taken, mail, count * sizeof(*mail));
    mail_count = 0;
    for (unsigned i = 0; i < count; i++) {
        struct seat *to = &seats[taken[i].to];
        if (to->driver != NULL && seats[taken[i].from].driver != NULL)
            member_received(&to->member, taken[i].from, &taken[i].message, now_us(), &to->actions);
    }
}

static void on_tick(evutil_socket_t descriptor, short what, void *user)
{
    (void)descriptor;
    (void)what;
    (void)user;
    uint64_t now = now_us(), heard[MEMBER_LIMIT] = {0};
    for (unsigned id = 1; id <= NODES; id++)
        heard[id] = seats[id].driver != NULL ? now : 0;
    for (unsigned id = 1; id <= NODES; id++) {
        struct seat *seat = &seats[id];
        if (seat->driver == NULL)
            continue;
        member_tick(&seat->member, now, heard, &seat->actions);
        if ((member_installed(&seat->member)->healing & node_bit(id)) != 0)
            member_all_healed(&seat->member, seat->last_epoch, now, &seat->actions);
    }
    deliver();
}

static void run_ms(unsigned milliseconds)
{
    struct timeval after = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
    event_base_loopexit(base, &after);
    event_base_dispatch(base);
}

static void start(unsigned id)
{
    struct seat *seat = &seats[id];
    struct member_options member = {.self = id,
                                    .incarnation = ++seat->incarnation,
                                    .configured = (1u << NODES) - 1,
                                    .blank = seat->last_epoch == 0,
                                    .last_epoch = seat->last_epoch,
                                    .lease_us = LEASE_MS * 1000,
                                    .suspect_us = 100000,
                                    .boot_grace_us = 60000000,
                                    .election_us = ELECTION_MS * 1000,
                                    .drift_ppm = 500};
    char why[512];
    member_init(&seat->member, &member);
    options.self = id;
    options.directory = seat->directory;
    enum status status =
        raft_driver_open(&seat->driver, base, &options, &callbacks, seat, why, sizeof(why));
    if (status != STATUS_OK)
        test_fail(__FILE__, __LINE__, "open: %s", why);
}

static void stop(unsigned id)
{
    raft_driver_close(seats[id].driver);
    seats[id].driver = NULL;
}

static void prepare(void)
{
    signal(SIGPIPE, SIG_IGN);
    memset(seats, 0, sizeof(seats));
    mail_count = failures = 0;
    base = event_base_new();
    ticker = event_new(base, -1, EV_PERSIST, on_tick, NULL);
    event_add(ticker, &(struct timeval){.tv_usec = 5000});
    options = (struct raft_driver_options){
        .peer_count = NODES, .election_ms = ELECTION_MS, .heartbeat_ms = 30};
    for (unsigned i = 0; i < NODES; i++)
        options.peers[i] = (struct raft_driver_peer){i + 1, "127.0.0.1", free_port()};
    const char *parent = test_directory();
    for (unsigned id = 1; id <= NODES; id++) {
        struct seat *seat = &seats[id];
        seat->id = id;
        seat->actions = (struct member_actions){do_send, do_propose, do_install, do_removed, seat};
        snprintf(seat->directory, sizeof(seat->directory), "%s/raft%u", parent, id);
    }
    for (unsigned id = 1; id <= NODES; id++)
        start(id);
}

static void finish(void)
{
    for (unsigned id = 1; id <= NODES; id++)
        stop(id);
    event_free(ticker);
    event_base_free(base);
    EXPECT_EQ(failures, 0);
}

static bool serves(unsigned id, uint8_t members)
{
    const struct member *member = &seats[id].member;
    return seats[id].driver != NULL && member_installed(member)->members == members &&
           member_installed(member)->healing == 0 && member_lease_until_us(member) > now_us();
}

/* All of `members` serve in a view of just them; how many ms that took, or more than WAIT_MS. */
static unsigned wait_served(uint8_t members)
{
    uint64_t began_us = now_us();
    for (;;) {
        bool all = true;
        for (unsigned id = 1; id <= NODES; id++)
            all = all && ((members & node_bit(id)) == 0 || serves(id, members));
        unsigned passed = (unsigned)((now_us() - began_us) / 1000);
        if (all || passed > WAIT_MS)
            return passed;
        run_ms(2);
    }
}

static unsigned leader(void)
{
    for (unsigned id = 1; id <= NODES; id++)
        if (seats[id].driver != NULL && member_leads(&seats[id].member))
            return id;
    return 1;
}

TEST(group, forms_loses_its_leader_and_takes_it_back)
{
    prepare();
    EXPECT(wait_served(7) <= WAIT_MS);
    unsigned gone = leader();
    stop(gone);
    unsigned took = wait_served(7 & ~node_bit(gone));
    EXPECT(took <= SOON_MS);
    EXPECT(took >= ELECTION_MS + LEASE_MS);
    start(gone);
    EXPECT(wait_served(7) <= WAIT_MS);
    finish();
}

TEST(group, a_follower_that_restarts_at_once_is_back_in_short_time)
{
    prepare();
    EXPECT(wait_served(7) <= WAIT_MS);
    run_ms(200);
    unsigned id = leader() == 1 ? 2 : 1;
    uint32_t epoch = seats[leader()].last_epoch;
    stop(id);
    start(id);
    EXPECT(wait_served(7) <= SOON_MS);
    EXPECT_EQ(seats[leader()].last_epoch, epoch + 2);
    finish();
}

TEST(group, starts_cold_when_the_last_member_is_back)
{
    prepare();
    EXPECT(wait_served(7) <= WAIT_MS);
    uint32_t epoch = seats[1].last_epoch;
    for (unsigned id = 1; id <= NODES; id++)
        stop(id);
    start(1);
    start(2);
    run_ms(1500);
    EXPECT_EQ(member_installed(&seats[1].member)->epoch, 0);
    EXPECT_EQ(member_view(&seats[1].member)->epoch, epoch);
    start(3);
    EXPECT(wait_served(7) <= WAIT_MS);
    EXPECT_EQ(seats[1].last_epoch, epoch + 1);
    finish();
}
