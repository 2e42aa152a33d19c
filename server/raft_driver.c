/* raft_driver.c: libraft and its libuv loop inside a libevent loop.
 *
 * libuv's loop has one descriptor that says "something happened" and one timeout; both become
 * libevent events, and pump() turns the loop without waiting. What is proposed inside a callback is
 * handed to raft after the turn, never inside it. */
#include "server/raft_driver.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <raft.h>
#include <raft/uv.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "server/raft_transport.h"

enum {
    PROPOSAL_MAX = 16, /* more are lost, which is allowed */
    TURN_MAX = 4,      /* turns of libuv's loop in one of libevent's, while proposals come */
    SEGMENT_SIZE = 65536,
    SNAPSHOT_ENTRIES = 64,
    TRAILING_ENTRIES = 16,
    CONNECT_RETRY_MS = 100,
    STALE_SECONDS = 60,
};

#define TEMPORARY "healcached-raft-"

struct raft_driver {
    struct event_base *base;
    struct event *ready, *timer, *starter;
    uv_loop_t loop;
    struct raft_transport transport;
    struct raft_io io;
    int (*send)(struct raft_io *, struct raft_io_send *, const struct raft_message *,
                raft_io_send_cb); /* libraft's; see send_if_addressed() */
    struct raft_fsm fsm;
    struct raft raft;
    bool started, failed, closed, silent /* callbacks must not be called */;
    char directory[512];
    bool temporary;
    int lock; /* of the temporary directory; -1: none */
    struct raft_driver_callbacks callbacks;
    void *user;
    struct raft_driver_options options;
    struct member_entry proposals[PROPOSAL_MAX];
    unsigned proposal_count;
    bool restored; /* a snapshot was read while starting: to be told first */
    struct member_snapshot snapshot;
    unsigned leader;
    raft_term term;
};

uint16_t raft_driver_port(uint16_t peer_port)
{
    return (uint16_t)(peer_port <= 55535 ? peer_port + 10000 : peer_port - 10000);
}

/* ---- what is told ---- */

static void tell_failed(struct raft_driver *driver, const char *why)
{
    if (driver->failed || driver->silent)
        return;
    driver->failed = true;
    driver->callbacks.failed(driver->user, why);
}

static void tell_restored(struct raft_driver *driver)
{
    if (!driver->restored || driver->silent)
        return;
    driver->restored = false;
    driver->callbacks.restore(driver->user, &driver->snapshot);
}

static unsigned current_leader(struct raft_driver *driver)
{
    raft_id id = 0;
    const char *address = NULL;
    if (!driver->started)
        return 0;
    raft_leader(&driver->raft, &id, &address);
    return (unsigned)id;
}

/* A new term of the same leader began with an election: others may have led in between, so it is
 * told as a loss first. */
static void tell_role(struct raft_driver *driver)
{
    unsigned leader = current_leader(driver);
    raft_term term = driver->raft.current_term;
    if (driver->silent)
        return;
    tell_restored(driver);
    if (driver->leader == leader && (driver->term == term || leader == 0)) {
        driver->term = term;
        return;
    }
    if (driver->leader != 0 && leader != 0)
        driver->callbacks.role(driver->user, 0);
    driver->leader = leader;
    driver->term = term;
    driver->callbacks.role(driver->user, leader);
}

/* ---- raft's state machine ---- */

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buffer, void **result)
{
    struct raft_driver *driver = fsm->data;
    struct member_entry entry;
    *result = NULL;
    const char *why = "membership entry of a wrong size";
    if (buffer->len == sizeof(entry)) {
        memcpy(&entry, buffer->base, sizeof(entry));
        why = member_entry_invalid(slice_make(&entry, sizeof(entry)));
    }
    if (why != NULL) {
        tell_failed(driver, why);
        return RAFT_MALFORMED;
    }
    tell_role(driver);
    if (!driver->silent)
        driver->callbacks.applied(driver->user, &entry);
    return 0;
}

static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *buffers[], unsigned *count)
{
    struct raft_driver *driver = fsm->data;
    if (driver->silent)
        return RAFT_CANCELED;
    struct member_snapshot *snapshot = raft_malloc(sizeof(*snapshot));
    *buffers = raft_malloc(sizeof(**buffers));
    if (snapshot == NULL || *buffers == NULL) {
        raft_free(snapshot);
        raft_free(*buffers);
        return RAFT_NOMEM;
    }
    driver->callbacks.snapshot(driver->user, snapshot);
    (*buffers)[0] = (struct raft_buffer){.base = snapshot, .len = sizeof(*snapshot)};
    *count = 1;
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buffer)
{
    struct raft_driver *driver = fsm->data;
    if (buffer->len != sizeof(driver->snapshot))
        return RAFT_MALFORMED;
    memcpy(&driver->snapshot, buffer->base, sizeof(driver->snapshot));
    if (member_snapshot_invalid(slice_make(&driver->snapshot, sizeof(driver->snapshot))) != NULL)
        return RAFT_MALFORMED;
    raft_free(buffer->base);
    driver->restored = true;
    if (driver->started)
        tell_restored(driver);
    return 0;
}

/* ---- the two loops ---- */

static void on_applied(struct raft_apply *request, int status, void *result)
{
    (void)status; /* whoever proposed sees it applied, or proposes again */
    (void)result;
    free(request);
}

static void hand_over(struct raft_driver *driver, const struct member_entry *entry)
{
    struct raft_apply *request = calloc(1, sizeof(*request));
    struct raft_buffer buffer = {.base = raft_malloc(sizeof(*entry)), .len = sizeof(*entry)};
    if (request != NULL && buffer.base != NULL) {
        memcpy(buffer.base, entry, sizeof(*entry));
        if (raft_apply(&driver->raft, request, &buffer, 1, on_applied) == 0)
            return;
    }
    raft_free(buffer.base);
    free(request);
}

static void hand_over_all(struct raft_driver *driver)
{
    unsigned count = driver->proposal_count;
    struct member_entry entries[PROPOSAL_MAX];
    memcpy(entries, driver->proposals, count * sizeof(*entries));
    driver->proposal_count = 0;
    for (unsigned i = 0; i < count; i++)
        if (driver->started && raft_state(&driver->raft) == RAFT_LEADER)
            hand_over(driver, &entries[i]);
}

static void wait_again(struct raft_driver *driver)
{
    int milliseconds = uv_backend_timeout(&driver->loop);
    if (driver->proposal_count > 0)
        milliseconds = 0;
    if (milliseconds < 0) {
        event_del(driver->timer);
        return;
    }
    struct timeval after = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
    event_add(driver->timer, &after);
}

static void pump(struct raft_driver *driver)
{
    for (unsigned turn = 0; turn == 0 || (turn < TURN_MAX && driver->proposal_count > 0); turn++) {
        hand_over_all(driver);
        uv_run(&driver->loop, UV_RUN_NOWAIT);
        tell_role(driver);
    }
    if (driver->started && raft_state(&driver->raft) == RAFT_UNAVAILABLE)
        tell_failed(driver, raft_errmsg(&driver->raft));
    wait_again(driver);
}

static void on_turn(evutil_socket_t descriptor, short what, void *user)
{
    (void)descriptor;
    (void)what;
    pump(user);
}

void raft_driver_propose(struct raft_driver *driver, const struct member_entry *entry)
{
    if (driver->proposal_count == PROPOSAL_MAX)
        return;
    driver->proposals[driver->proposal_count++] = *entry;
    event_active(driver->timer, EV_TIMEOUT, 0);
}

/* ---- texts and peers ---- */

__attribute__((format(printf, 3, 4))) static void say(char *why, size_t why_size,
                                                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, why_size, format, arguments);
    va_end(arguments);
}

static void take_peers(struct raft_driver *driver)
{
    struct raft_transport *transport = &driver->transport;
    transport->self = driver->options.self;
    transport->configuration = driver->options.configuration;
    if (driver->options.secret != NULL)
        snprintf(transport->secret, sizeof(transport->secret), "%s", driver->options.secret);
    for (unsigned i = 0; i < driver->options.peer_count; i++) {
        const struct raft_driver_peer *given = &driver->options.peers[i];
        struct raft_peer *peer = &transport->peers[given->id];
        peer->id = given->id;
        peer->port = raft_driver_port(given->port);
        snprintf(peer->host, sizeof(peer->host), "%s", given->host);
        snprintf(peer->name, sizeof(peer->name), "%s:%u", given->host, peer->port);
    }
}

static const struct raft_peer *peer_self(const struct raft_driver *driver)
{
    return &driver->transport.peers[driver->options.self];
}

/* ---- the directory ---- */

static void remove_directory(const char *path)
{
    DIR *directory = opendir(path);
    if (directory == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.')
            (void)unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
    if (rmdir(path) != 0)
        log_warn("%s: %s", path, strerror(errno));
}

/* A process that is killed leaves its temporary directory behind: nobody holds its lock. One that
 * is just being made is not locked yet, but young. */
static void remove_stale(const char *parent)
{
    char path[512];
    DIR *directory = opendir(parent);
    if (directory == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        struct stat found;
        if (strncmp(entry->d_name, TEMPORARY, strlen(TEMPORARY)) != 0 ||
            snprintf(path, sizeof(path), "%s/%s", parent, entry->d_name) >= (int)sizeof(path))
            continue;
        int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (descriptor < 0)
            continue;
        if (fstat(descriptor, &found) == 0 && found.st_uid == geteuid() &&
            time(NULL) - found.st_mtime > STALE_SECONDS &&
            flock(descriptor, LOCK_EX | LOCK_NB) == 0)
            remove_directory(path);
        close(descriptor);
    }
    closedir(directory);
}

static bool make_temporary(struct raft_driver *driver)
{
    const char *parent = getenv("TMPDIR");
    parent = parent != NULL ? parent : "/tmp";
    remove_stale(parent);
    snprintf(driver->directory, sizeof(driver->directory), "%s/%sXXXXXX", parent, TEMPORARY);
    if (mkdtemp(driver->directory) == NULL)
        return false;
    driver->lock = open(driver->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return driver->lock >= 0 && flock(driver->lock, LOCK_EX | LOCK_NB) == 0;
}

static void remove_temporary(struct raft_driver *driver)
{
    if (!driver->temporary)
        return;
    remove_directory(driver->directory);
    if (driver->lock >= 0)
        close(driver->lock);
}

static enum status take_directory(struct raft_driver *driver, char *why, size_t why_size)
{
    const char *given = driver->options.directory;
    driver->temporary = given == NULL;
    if (given != NULL) {
        int size = snprintf(driver->directory, sizeof(driver->directory), "%s", given);
        errno = ENAMETOOLONG;
        if (size < (int)sizeof(driver->directory) && (mkdir(given, 0700) == 0 || errno == EEXIST))
            return STATUS_OK;
    } else if (make_temporary(driver)) {
        return STATUS_OK;
    }
    say(why, why_size, "%s: %s", driver->directory, strerror(errno));
    return STATUS_IO;
}

/* ---- open and close ---- */

static int bootstrap(struct raft_driver *driver)
{
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    int code = 0;
    for (unsigned id = 1; id < MEMBER_LIMIT && code == 0; id++)
        if (driver->transport.peers[id].id != 0)
            code = raft_configuration_add(&configuration, id, driver->transport.peers[id].name,
                                          RAFT_VOTER);
    if (code == 0)
        code = raft_bootstrap(&driver->raft, &configuration);
    raft_configuration_close(&configuration);
    return code == RAFT_CANTBOOTSTRAP ? 0 : code;
}

/* The voters are fixed at the first start: --peers with other ids is another group. */
static bool same_voters(const struct raft_driver *driver)
{
    const struct raft_configuration *configuration = &driver->raft.configuration;
    for (unsigned i = 0; i < configuration->n; i++)
        if (configuration->servers[i].id >= MEMBER_LIMIT ||
            driver->transport.peers[configuration->servers[i].id].id == 0)
            return false;
    return configuration->n == driver->options.peer_count;
}

/* libraft leaves the text with the part that failed, and does not always hand it up. */
static const char *why_not_started(struct raft_driver *driver, int code)
{
    const char *texts[] = {driver->transport.base.errmsg, raft_errmsg(&driver->raft),
                           driver->io.errmsg};
    for (unsigned i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        if (texts[i][0] != '\0')
            return texts[i];
    return raft_strerror(code);
}

static enum status start(struct raft_driver *driver, char *why, size_t why_size)
{
    int code = bootstrap(driver);
    if (code == 0)
        code = raft_start(&driver->raft);
    if (code != 0) {
        say(why, why_size, "raft in %s: %s", driver->directory, why_not_started(driver, code));
        return code == RAFT_CORRUPT || code == RAFT_MALFORMED ? STATUS_CORRUPT : STATUS_IO;
    }
    driver->started = true;
    if (same_voters(driver))
        return STATUS_OK;
    say(why, why_size, "%s belongs to a group of other nodes", driver->directory);
    return STATUS_FOREIGN;
}

static void on_start(evutil_socket_t descriptor, short what, void *user)
{
    struct raft_driver *driver = user;
    char why[512];
    (void)descriptor;
    (void)what;
    if (start(driver, why, sizeof(why)) != STATUS_OK)
        tell_failed(driver, why);
    else
        pump(driver);
}

static bool init_raft(struct raft_driver *driver)
{
    driver->fsm = (struct raft_fsm){.version = 1,
                                    .data = driver,
                                    .apply = fsm_apply,
                                    .snapshot = fsm_snapshot,
                                    .restore = fsm_restore};
    unsigned self = driver->options.self;
    if (raft_init(&driver->raft, &driver->io, &driver->fsm, self, peer_self(driver)->name) != 0)
        return false;
    raft_uv_set_segment_size(&driver->io, SEGMENT_SIZE);
    raft_uv_set_connect_retry_delay(&driver->io, CONNECT_RETRY_MS);
    raft_set_election_timeout(&driver->raft, driver->options.election_ms);
    raft_set_heartbeat_timeout(&driver->raft, driver->options.heartbeat_ms);
    raft_set_install_snapshot_timeout(&driver->raft, 2 * driver->options.election_ms);
    raft_set_snapshot_threshold(&driver->raft, SNAPSHOT_ENTRIES);
    raft_set_snapshot_trailing(&driver->raft, TRAILING_ENTRIES);
    raft_set_pre_vote(&driver->raft, true);
    return true;
}

static bool init_events(struct raft_driver *driver)
{
    struct timeval silence = {.tv_sec = 2 * driver->options.election_ms / 1000,
                              .tv_usec = 2 * driver->options.election_ms % 1000 * 1000};
    driver->ready = event_new(driver->base, uv_backend_fd(&driver->loop), EV_READ | EV_PERSIST,
                              on_turn, driver);
    driver->timer = event_new(driver->base, -1, 0, on_turn, driver);
    driver->starter = event_new(driver->base, -1, 0, on_start, driver);
    if (driver->ready == NULL || driver->timer == NULL || driver->starter == NULL)
        return false;
    return event_add(driver->ready, NULL) == 0 &&
           (!driver->temporary || event_add(driver->starter, &silence) == 0);
}

static void on_closed(struct raft *raft)
{
    struct raft_driver *driver = raft->data;
    driver->closed = true;
}

static void free_events(struct raft_driver *driver)
{
    if (driver->ready != NULL)
        event_free(driver->ready);
    if (driver->timer != NULL)
        event_free(driver->timer);
    if (driver->starter != NULL)
        event_free(driver->starter);
}

void raft_driver_close(struct raft_driver *driver)
{
    if (driver == NULL)
        return;
    driver->silent = true;
    driver->raft.data = driver;
    raft_close(&driver->raft, on_closed);
    while (!driver->closed)
        uv_run(&driver->loop, UV_RUN_ONCE);
    raft_uv_close(&driver->io);
    uv_run(&driver->loop, UV_RUN_DEFAULT);
    int code = uv_loop_close(&driver->loop);
    assert(code == 0);
    free_events(driver);
    remove_temporary(driver);
    free(driver);
}

/* libraft 0.15 answers the leader when an append is on disk. When a newer term has come meanwhile,
 * there is none: it would send to no address, which is a null pointer, and crash. */
static int send_if_addressed(struct raft_io *io, struct raft_io_send *request,
                             const struct raft_message *message, raft_io_send_cb done)
{
    struct raft_driver *driver =
        (struct raft_driver *)((char *)io - offsetof(struct raft_driver, io));
    return message->server_address != NULL ? driver->send(io, request, message, done)
                                           : RAFT_NOCONNECTION;
}

/* Everything up to raft_init(); after it, raft_driver_close() can end it all. */
static enum status open_loop(struct raft_driver *driver, char *why, size_t why_size)
{
    enum status status = STATUS_INVALID;
    if (uv_loop_init(&driver->loop) != 0)
        return STATUS_NO_MEMORY;
    if (!raft_transport_init(&driver->transport, &driver->loop, why, why_size))
        goto close_loop;
    status = STATUS_IO;
    if (raft_uv_init(&driver->io, &driver->loop, driver->directory, &driver->transport.base) != 0) {
        say(why, why_size, "raft in %s: %s", driver->directory, driver->io.errmsg);
        goto close_loop;
    }
    driver->send = driver->io.send;
    driver->io.send = send_if_addressed;
    if (init_raft(driver))
        return STATUS_OK;
    say(why, why_size, "raft in %s: %s", driver->directory, raft_errmsg(&driver->raft));
    raft_uv_close(&driver->io);
close_loop:
    uv_run(&driver->loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&driver->loop);
    return status;
}

static enum status open_all(struct raft_driver *driver, char *why, size_t why_size)
{
    take_peers(driver);
    enum status status = take_directory(driver, why, why_size);
    if (status != STATUS_OK)
        return status;
    status = open_loop(driver, why, why_size);
    if (status != STATUS_OK)
        remove_temporary(driver);
    return status;
}

enum status raft_driver_open(struct raft_driver **opened, struct event_base *base,
                             const struct raft_driver_options *options,
                             const struct raft_driver_callbacks *callbacks, void *user, char *why,
                             size_t why_size)
{
    assert(options->peer_count >= 2);
    assert(why_size > 0);
    why[0] = '\0';
    struct raft_driver *driver = calloc(1, sizeof(*driver));
    if (driver == NULL)
        return STATUS_NO_MEMORY;
    driver->base = base;
    driver->lock = -1;
    driver->options = *options;
    driver->callbacks = *callbacks;
    driver->user = user;
    enum status status = open_all(driver, why, why_size);
    if (status != STATUS_OK) {
        free(driver);
        return status;
    }
    status = STATUS_NO_MEMORY;
    if (init_events(driver))
        status = driver->temporary ? STATUS_OK : start(driver, why, why_size);
    if (status != STATUS_OK) {
        raft_driver_close(driver);
        return status;
    }
    event_active(driver->timer, EV_TIMEOUT, 0);
    *opened = driver;
    return STATUS_OK;
}
