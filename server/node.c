#include "server/node.h"
#include "replica/piece.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "pmem/medium_guard.h"
#include "server/clock.h"
#include "server/control.h"
#include "server/disk.h"
#include "server/index_memory.h"
#include "server/listener.h"
#include "server/process.h"
#include "server/sasl.h"
#include "server/segments.h"
#include "server/version.h"
#include "server/worker.h"

enum {
    HEARTBEATS_PER_SUSPECT = 5, /* so many may be lost before a peer is suspected */
    CONNECT_MS = 1000,
    MESSAGE_HEADROOM = 65536,
    CLIENT_MEMORY_MIN = 64 << 20,
    /* the data directory is not this node's, or cannot be used; or --net can't */
    EXIT_FOREIGN = 78,
};

void node_set_view(struct node *node, const struct node_view *view)
{
    pthread_mutex_lock(&node->view_lock);
    node->view = *view;
    pthread_mutex_unlock(&node->view_lock);
}

void node_view_any(struct node *node, struct node_view *view)
{
    pthread_mutex_lock(&node->view_lock);
    *view = node->view;
    pthread_mutex_unlock(&node->view_lock);
}

bool node_refresh_certs_any(struct node *node, char *why, size_t why_size)
{
    if (node->tls == NULL) {
        snprintf(why, why_size, "Error TLS not enabled");
        return false;
    }
    if (tls_reload_any(node->tls, why, why_size) == STATUS_OK)
        return true;
    log_error("TLS: the certificates stay as they are: %s", why);
    return false;
}

/* ---- opening, in this order
 * ------------------------------------------------------------------------------ */

static uint64_t client_memory_limit(const struct options *options)
{
    uint64_t usual = options->memory_size / 4;
    if (options->client_memory_mb != 0)
        return (uint64_t)options->client_memory_mb << 20;
    return usual < CLIENT_MEMORY_MIN ? CLIENT_MEMORY_MIN : usual;
}

/* A directory keeps the size that its segments were made with. */
static enum status choose_segments(struct node *node)
{
    const struct options *options = &node->options;
    uint32_t fixed = node->directory.node.segment_size;
    enum status status =
        segments_choose(options, fixed, &node->segment_size, &node->segment_count_shard);
    if (status != STATUS_OK)
        return status;
    if (options->segment_size != 0 && options->segment_size != fixed)
        log_note("--segment-size has no effect: %s was made with segments of %u KB", options->data,
                 fixed >> 10);
    segments_tell(options, node->segment_size, node->segment_count_shard);
    return STATUS_OK;
}

static enum status open_directory(struct node *node)
{
    char why[960] = ""; /* as much as a line of the log holds */
    struct directory_node want = {
        .node = node->options.self,
        .shard_count = node->options.thread_count,
        .cluster = options_directory_hash(&node->options),
        .early = model_is_early(model_row(node->options.persistency)),
    };
    enum status status =
        segments_choose(&node->options, 0, &want.segment_size, &node->segment_count_shard);
    if (status != STATUS_OK)
        return status;
    status = directory_open(&node->directory, node->options.data, &want, why, sizeof(why));
    if (status != STATUS_OK) {
        log_error("%s", why);
        return status;
    }
    atomic_store(&node->incarnation, node->directory.node.incarnation);
    status = choose_segments(node);
    if (status != STATUS_OK)
        directory_close(&node->directory);
    return status;
}

static void on_refused(void *user, const char *text)
{
    (void)user;
    log_warn("%s", text);
}

static void on_chosen(void *user, const char *text)
{
    (void)user;
    log_note("net: %s", text);
}

static void tell_no_net(const struct options *options, enum status status)
{
    const struct options_address *own = options->peers;
    const char *advice = "it must be an address of this machine, or a name of one";
    while (own->id != options->self)
        own++;
    if (errno == EADDRINUSE)
        advice = "free it, or give the node another port there, for all nodes";
    if (status == STATUS_NOT_FOUND)
        log_error("--net=rdma: RDMA cannot be used here, the line above says why; put that right, "
                  "or start with --net=auto");
    else
        log_error("--peers: cannot listen on %s:%u, which stands there for this node: %s; %s",
                  own->host, own->port, strerror(errno), advice);
}

static enum status open_net(struct node *node)
{
    const struct options *options = &node->options;
    struct net_options net = {
        .choice = (enum net_choice)options->net,
        .self = options->self,
        .lane_count = options->thread_count + 1,
        .peer_count = options->peer_count,
        .incarnation = node->directory.node.incarnation,
        .configuration = options_cluster_hash(options),
        .secret = options->secret[0] != 0 ? options->secret : NULL,
        .heartbeat_ms = options->suspect_ms / HEARTBEATS_PER_SUSPECT,
        .suspect_ms = options->suspect_ms,
        .connect_ms = CONNECT_MS,
        .message_size_max = LARGE_VALUE_MIN + MESSAGE_HEADROOM,
        .on_refused = on_refused,
        .on_chosen = on_chosen,
        .user = node,
    };
    if (options->peer_count < 2)
        return STATUS_OK;
    for (uint32_t i = 0; i < options->peer_count; i++) {
        const struct options_address *peer = &options->peers[i];
        net.peers[i] = (struct net_peer){.id = peer->id, .port = peer->port, .host = peer->host};
    }
    enum status status = net_open(&net, &node->net);
    if (status != STATUS_OK)
        tell_no_net(options, status);
    return status;
}

/* Job memory is the workers' own: shards after all of them. */
static void close_workers(struct node *node, unsigned count)
{
    while (count > 0)
        worker_close(&node->workers[--count]);
    for (unsigned i = 0; i < node->worker_count; i++)
        worker_shard_close(&node->workers[i]);
}

struct opening {
    struct node *node;
    unsigned number;
    enum status status;
    pthread_t thread;
    bool threaded;
};

static void *open_shard(void *user)
{
    struct opening *opening = user;
    struct node *node = opening->node;
    opening->status = worker_shard_open(&node->workers[opening->number], node, opening->number);
    return NULL;
}

/* All at once: a scan takes what one core can do. */
static enum status open_shards(struct node *node)
{
    static struct opening openings[OPTIONS_THREAD_MAX];
    enum status status = STATUS_OK;
    for (unsigned i = 0; i < node->worker_count; i++) {
        openings[i] = (struct opening){.node = node, .number = i};
        openings[i].threaded =
            pthread_create(&openings[i].thread, NULL, open_shard, &openings[i]) == 0;
        if (!openings[i].threaded)
            open_shard(&openings[i]);
    }
    for (unsigned i = 0; i < node->worker_count; i++) {
        if (openings[i].threaded)
            pthread_join(openings[i].thread, NULL);
        if (status == STATUS_OK)
            status = openings[i].status;
    }
    for (unsigned i = 0; i < node->worker_count && status != STATUS_OK; i++)
        if (openings[i].status == STATUS_OK)
            worker_shard_close(&node->workers[i]);
    return status;
}

static enum status open_workers(struct node *node)
{
    node->worker_count = node->options.thread_count;
    readers_init(&node->readers, node->worker_count);
    node->client_memory.limit = client_memory_limit(&node->options);
    atomic_store(&node->upload_version, clock_wall_us()); /* those of a former life are over */
    node->workers = calloc(node->worker_count, sizeof(*node->workers));
    if (node->workers == NULL)
        return STATUS_NO_MEMORY;
    enum status status = open_shards(node);
    if (status != STATUS_OK) {
        free(node->workers);
        return status;
    }
    for (unsigned i = 0; i < node->worker_count; i++) {
        status = worker_open(&node->workers[i]);
        if (status == STATUS_OK)
            continue;
        close_workers(node, i);
        free(node->workers);
        return status;
    }
    return STATUS_OK;
}

/* ---- running
 * --------------------------------------------------------------------------------------------- */

static void stop_workers(struct node *node, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        enum status status =
            mailbox_put_any(&node->workers[i].mailbox, &(struct letter){.type = LETTER_STOP});
        if (status != STATUS_OK)
            abort(); /* Nothing is lost: what was acknowledged is durable. */
    }
    for (unsigned i = 0; i < count; i++)
        worker_join(&node->workers[i]);
}

static void say_started(const struct node *node, const struct listeners *listeners)
{
    const struct options *options = &node->options;
    char where[512];
    listeners_describe(listeners, where, sizeof(where));
    uint64_t size = (uint64_t)node->segment_size * node->segment_count_shard * node->worker_count;
    log_note("healcached %s: node %u%s, %u threads, %llu MB %s%s, clients%s at %s", SERVER_VERSION,
             options->self, node->net != NULL ? "" : " (single)", node->worker_count,
             (unsigned long long)size >> 20, options->data != NULL ? "in " : "of memory",
             options->data != NULL ? options->data : "", node->tls != NULL ? " (TLS)" : "", where);
}

/* -m may be smaller than at the last start. Before the workers run. */
static void say_too_small(const struct node *node)
{
    uint64_t live = 0, most = 0;
    bool over = false;
    for (unsigned i = 0; i < node->worker_count; i++) {
        struct store_stats stats;
        store_stats(node->workers[i].store, &stats);
        over = over || stats.live_bytes > stats.live_max;
        live += stats.live_bytes;
        most += stats.live_max;
    }
    if (!over)
        return;
    log_warn("-m %llu: %llu MB are in use and -m leaves room for %llu MB: %s",
             (unsigned long long)node->options.memory_size >> 20,
             (unsigned long long)(live + (1 << 20) - 1) >> 20, (unsigned long long)most >> 20,
             node->options.no_eviction
                 ? "nothing is lost and all is served, but what makes the data grow is refused as "
                   "out of memory; start with a larger -m, or delete"
                 : "items are evicted until it fits, on all nodes of the group; with -M none "
                   "would be");
}

/* Other options that do not fit what is there. A value lies in one shard. */
static void say_unfit(const struct node *node)
{
    const struct options *options = &node->options;
    struct store_stats stats;
    store_stats(node->workers[0].store, &stats);
    if (options->item_size_max > stats.live_max)
        log_warn("-I lets clients store up to %u MB, but a shard has room for %llu MB (-m over "
                 "-t): what is larger is refused as out of memory",
                 options->item_size_max >> 20, (unsigned long long)stats.live_max >> 20);
    const struct {
        bool given;
        const char *name;
    } of_groups[] = {{options->self_given, "--node"},
                     {options->secret[0] != 0, "--secret-file"},
                     {options->recovery_full, "--recovery=full"},
                     {options->force_members != 0, "--force-members"},
                     {options->net == NET_CHOOSE_RDMA, "--net=rdma"}};
    for (size_t i = 0; i < sizeof(of_groups) / sizeof(of_groups[0]); i++) {
        if (of_groups[i].given && options->peer_count == 0)
            log_warn("%s without --peers has no effect: this is a single node, of no group",
                     of_groups[i].name);
    }
}

static int run(struct node *node, struct listeners *listeners)
{
    static struct control control;
    unsigned started = 0;
    enum status status = control_open(&control, node, listeners);
    if (status != STATUS_OK)
        return EXIT_SYSTEM;
    if (node->options.sasl)
        status = sasl_desk_open(&node->sasl_desk);
    bool desk = node->options.sasl && status == STATUS_OK;
    while (status == STATUS_OK && started < node->worker_count) {
        status = worker_start(&node->workers[started]);
        started += status == STATUS_OK;
    }
    say_started(node, listeners);
    disk_tell(node);
    if (status == STATUS_OK)
        status = control_run(&control);
    stop_workers(node, started);
    node->sasl_busy = desk && !sasl_desk_close(&node->sasl_desk);
    control_close(&control);
    log_note("stopped");
    if (status == STATUS_OK)
        return 0;
    return control.medium_failed ? EXIT_MEDIUM : EXIT_SYSTEM;
}

static int open_and_run(struct node *node, struct listeners *listeners)
{
    int code = EXIT_FOREIGN;
    if (open_directory(node) != STATUS_OK)
        return code;
    if (disk_check(node) != STATUS_OK)
        goto close_directory;
    enum status status = open_net(node);
    if (status != STATUS_OK) {
        code = status == STATUS_NOT_FOUND ? EXIT_FOREIGN : EXIT_SYSTEM;
        goto close_directory;
    }
    if (mailbox_open(&node->mailbox) != STATUS_OK)
        goto close_net;
    if (open_workers(node) != STATUS_OK)
        goto close_mailbox;
    say_too_small(node);
    say_unfit(node);
    code = run(node, listeners);
    close_workers(node, node->worker_count);
    free(node->workers);
close_mailbox:
    mailbox_close(&node->mailbox);
close_net:
    net_close(node->net);
close_directory:
    directory_close(&node->directory);
    return code;
}

static int prepare_process(const struct options *options)
{
    int code = process_check_user(options);
    if (code == 0)
        code = process_allow_core(options);
    if (code == 0)
        code = process_raise_descriptors(options);
    process_raise_locked(options);
    if (code == 0)
        code = process_detach(options);
    return code;
}

/* While the process may still read what its later user may not. */
static int open_tls(struct node *node)
{
    const struct options *options = &node->options;
    char why[1024];
    if (!options->tls_enabled) {
        if (options->tls.chain_cert != NULL || options->tls.key != NULL)
            log_warn("-o ssl_chain_cert and the like have no effect without -Z (--enable-ssl)");
        return 0;
    }
    if (tls_open(&node->tls, &options->tls, why, sizeof(why)) == STATUS_OK)
        return 0;
    log_error("%s", why);
    return EXIT_USAGE;
}

/* With the rights that the process was started with. */
static int open_auth(struct node *node)
{
    const struct options *options = &node->options;
    const char *path = options->sasl ? getenv("MEMCACHED_SASL_PWDB") : options->auth_file;
    if (auth_open(&node->auth, path) != STATUS_OK)
        return EXIT_WRONG;
    if (!options->sasl || sasl_open(&node->auth) == STATUS_OK)
        return 0;
    auth_close(&node->auth);
    return EXIT_WRONG;
}

static void close_auth(struct node *node)
{
    if (node->sasl_busy)
        return;
    if (node->options.sasl)
        sasl_close();
    auth_close(&node->auth);
}

static int listen_and_run(struct node *node)
{
    static struct listeners listeners;
    const struct options *options = &node->options;
    if (listeners_open(&listeners, options) != STATUS_OK)
        return EXIT_SYSTEM;
    int code = process_write_pid(options);
    if (code == 0)
        code = process_drop_user(options);
    if (code == 0 && listeners_open_unix(&listeners) != STATUS_OK)
        code = EXIT_SYSTEM;
    if (code == 0)
        code = open_and_run(node, &listeners);
    listeners_close(&listeners);
    process_remove_pid(options);
    return code;
}

int node_run(const struct options *options)
{
    static struct node node;
    log_set_level(options->verbose > 2 ? 2 : (int)options->verbose);
    options_log_ignored(options);
    node.options = *options;
    atomic_store(&node.memory_limit, options->memory_size);
    node.started_us = clock_mono_us();
    pthread_mutex_init(&node.view_lock, NULL);
    watchers_open(&node.watchers);
    prefixes_open(&node.prefixes, options->delimiter, options->detail);
    process_ignore_signals();
    medium_guard_install(EXIT_MEDIUM, INDEX_FILE_NAME);
    int code = open_tls(&node);
    if (code == 0)
        code = open_auth(&node);
    if (code == 0) {
        code = prepare_process(options);
        if (code == 0)
            code = listen_and_run(&node);
        close_auth(&node);
    }
    prefixes_close(&node.prefixes);
    watchers_close(&node.watchers);
    tls_close(node.tls);
    return code;
}
