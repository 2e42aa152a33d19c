#include "server/stats.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "server/clock.h"
#include "server/node.h"
#include "server/version.h"
#include "server/worker.h"

enum { TEXT_SIZE_MAX = 65536 };

/* Lines that do not fit any more are left out; END always fits. */
struct text {
    char *data;
    size_t used;
};

__attribute__((format(printf, 3, 4))) static void stat(struct text *text, const char *name,
                                                       const char *format, ...)
{
    char value[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(value, sizeof(value), format, arguments);
    va_end(arguments);
    text->used += reply_stat(text->data + text->used, TEXT_SIZE_MAX - 8 - text->used,
                             slice_text(name), slice_text(value));
}

static void stat_number(struct text *text, const char *name, uint64_t value)
{
    stat(text, name, "%" PRIu64, value);
}

static uint64_t sum(const struct node *node, enum counter counter)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < node->worker_count; i++)
        total += counters_read_any(&node->workers[i].counters, counter);
    return total;
}

static uint64_t load(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

/* ---- stats
 * --------------------------------------------------------------------------------------------- */

static void stat_time(struct text *text, const char *name, struct timeval time)
{
    stat(text, name, "%ld.%06ld", (long)time.tv_sec, (long)time.tv_usec);
}

static void process_stats(struct text *text, const struct node *node)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    stat_number(text, "pid", (uint64_t)getpid());
    stat_number(text, "uptime", (clock_mono_us() - node->started_us) / 1000000);
    stat_number(text, "time", clock_wall_us() / 1000000);
    stat(text, "version", "%s", SERVER_VERSION_PROTOCOL);
    stat(text, "libevent", "%s", watch_library_version());
    stat_number(text, "pointer_size", sizeof(void *) * 8);
    stat_time(text, "rusage_user", usage.ru_utime);
    stat_time(text, "rusage_system", usage.ru_stime);
    stat_number(text, "max_connections", node->options.connection_max);
    stat_number(text, "curr_connections", atomic_load(&node->connection_count));
    stat_number(text, "total_connections", load(&node->connection_total));
    stat_number(text, "rejected_connections", load(&node->connection_rejected));
}

static void counter_stats(struct text *text, const struct node *node)
{
    static const char *const names[COUNTER_COUNT] = {
#define COUNTER(name) #name,
#include "server/counter.def"
#undef COUNTER
    };
    for (enum counter i = 0; i < COUNTER_COUNT; i++)
        stat_number(text, names[i], sum(node, i) - counters_read_any(&node->forgotten, i));
}

static void store_stats_lines(struct text *text, const struct node *node)
{
    uint64_t items = 0, pieces = 0, bytes = 0, tombstones = 0, log_bytes = 0, index_bytes = 0, cleaned = 0,
             expired = 0;
    for (unsigned i = 0; i < node->worker_count; i++) {
        struct published published;
        publication_read_any(&node->workers[i].publication, &published);
        items += published.store.value_count - published.store.piece_count;
        pieces += published.store.piece_count;
        tombstones += published.store.tombstone_count;
        bytes += published.store.live_bytes;
        log_bytes += published.store.log_bytes;
        index_bytes += published.store.index_bytes;
        cleaned += published.store.cleaned_bytes;
        expired += published.shard.expired;
    }
    stat_number(text, "get_expired", expired);
    stat_number(text, "limit_maxbytes",
                (uint64_t)node->segment_size * node->segment_count_shard * node->worker_count);
    stat_number(text, "accepting_conns", 1);
    stat_number(text, "threads", node->worker_count);
    stat_number(text, "hash_bytes", index_bytes);
    stat_number(text, "bytes", bytes);
    stat_number(text, "curr_items", items);
    stat_number(text, "large_pieces", pieces);
    stat_number(text, "evictions", 0);
    stat_number(text, "tombstones", tombstones);
    stat_number(text, "log_bytes", log_bytes);
    stat_number(text, "log_cleaned_bytes", cleaned);
}

static void core_stats(struct text *text, const struct node *node)
{
    struct shard_stats total = {.epoch = 0};
    uint64_t parked = 0;
    for (unsigned i = 0; i < node->worker_count; i++) {
        struct published published;
        publication_read_any(&node->workers[i].publication, &published);
        const struct shard_stats *shard = &published.shard;
        parked += published.parked;
        total.op_count += shard->op_count;
        total.invalid_count += shard->invalid_count;
        total.waiting_count += shard->waiting_count;
        total.writes += shard->writes;
        total.rmws += shard->rmws;
        total.rmw_retries += shard->rmw_retries;
        total.reads += shard->reads;
        total.read_waits += shard->read_waits;
        total.replays += shard->replays;
        total.asks += shard->asks;
        total.rounds += shard->rounds;
    }
    stat_number(text, "writes_under_way", total.op_count);
    stat_number(text, "keys_invalid", total.invalid_count);
    stat_number(text, "requests_waiting", total.waiting_count);
    stat_number(text, "requests_parked_now", parked);
    stat_number(text, "core_writes", total.writes);
    stat_number(text, "core_rmws", total.rmws);
    stat_number(text, "core_rmw_retries", total.rmw_retries);
    stat_number(text, "core_reads", total.reads);
    stat_number(text, "core_read_waits", total.read_waits);
    stat_number(text, "core_replays", total.replays);
    stat_number(text, "core_asks", total.asks);
    stat_number(text, "core_rounds", total.rounds);
}

const char *stats_role(const struct node *node)
{
    struct node_view now;
    uint8_t self = node_bit(node->options.self);
    if (node->net == NULL)
        return "single";
    node_view_any((struct node *)node, &now);
    if (now.view.members & self)
        return "member";
    return now.view.healing & self ? "healing" : "absent";
}

/* "1,2,3"; "none". */
static const char *node_list(uint8_t nodes, char out[16])
{
    size_t used = 0;
    for (unsigned id = 1; id <= 7; id++) {
        if (nodes & node_bit(id))
            used += (size_t)snprintf(out + used, 16 - used, "%s%u", used > 0 ? "," : "", id);
    }
    return used > 0 ? out : "none";
}

static void view_stats(struct text *text, const struct node *node)
{
    struct node_view now;
    char list[16];
    node_view_any((struct node *)node, &now);
    uint64_t until_us = load(&node->lease_until_us), mono_us = clock_mono_us();
    stat_number(text, "node", node->options.self);
    stat(text, "role", "%s", stats_role(node));
    stat_number(text, "incarnation", load(&node->incarnation));
    stat_number(text, "view_epoch", now.view.epoch);
    stat(text, "view_members", "%s", node_list(now.view.members, list));
    stat(text, "view_healing", "%s", node_list(now.view.healing, list));
    stat(text, "view_configured", "%s", node_list(node->options.configured, list));
    stat(text, "view_leader_here", "%s", now.leading ? "yes" : "no");
    if (until_us == UINT64_MAX)
        stat(text, "lease_ms_left", "unlimited");
    else
        stat_number(text, "lease_ms_left", until_us > mono_us ? (until_us - mono_us) / 1000 : 0);
}

/* How long ago each peer was heard on its quietest lane. */
static void peer_stats(struct text *text, const struct node *node)
{
    char list[16], name[40];
    uint8_t up = 0;
    for (uint32_t i = 0; i < node->options.peer_count; i++) {
        const struct options_address *peer = &node->options.peers[i];
        if (peer->id == node->options.self)
            continue;
        uint64_t heard_us = net_heard_ns_any(node->net, peer->id) / 1000;
        up |= heard_us != 0 ? node_bit(peer->id) : 0;
        snprintf(name, sizeof(name), "peer%u_heard_ms_ago", peer->id);
        if (heard_us == 0)
            stat(text, name, "never");
        else
            stat_number(text, name, (clock_mono_us() - heard_us) / 1000);
    }
    stat(text, "peers", "%s", node_list(up, list));
    if (node->net != NULL)
        stat_number(text, "peers_refused", net_refused_any(node->net));
}

/* ---- stats heal
 * ---------------------------------------------------------------------------------------- */

static void add_heal(struct stats_heal *heal, const struct shard_stats *shard)
{
    heal->checked += shard->heal_checked;
    heal->received += shard->heal_received;
    heal->received_bytes += shard->heal_received_bytes;
    heal->discarded += shard->heal_discarded;
    heal->left_bytes += shard->heal_left_bytes;
    heal->healing_count += shard->healing && shard->heal_ended_us == 0;
    heal->full = heal->full || shard->heal_full;
    if (shard->heal_started_us != 0 &&
        (heal->started_us == 0 || shard->heal_started_us < heal->started_us))
        heal->started_us = shard->heal_started_us;
    if (shard->heal_listed_us > heal->listed_us)
        heal->listed_us = shard->heal_listed_us;
    if (shard->heal_ended_us > heal->ended_us)
        heal->ended_us = shard->heal_ended_us;
}

void stats_heal(const struct node *node, struct stats_heal *heal)
{
    *heal = (struct stats_heal){.checked = 0};
    for (unsigned i = 0; i < node->worker_count; i++) {
        struct published published;
        publication_read_any(&node->workers[i].publication, &published);
        add_heal(heal, &published.shard);
    }
}

static void heal_stats(struct text *text, const struct node *node)
{
    struct stats_heal heal;
    char name[48], list[16];
    stats_heal(node, &heal);
    stat(text, "role", "%s", stats_role(node));
    stat_number(text, "heal_shards_left", heal.healing_count);
    stat(text, "heal_mode", "%s", heal.full ? "full" : "incremental");
    stat_number(text, "heal_checked", heal.checked);
    stat_number(text, "heal_received", heal.received);
    stat_number(text, "heal_received_bytes", heal.received_bytes);
    stat_number(text, "heal_discarded", heal.discarded);
    stat_number(text, "heal_left_bytes", heal.left_bytes);
    if (heal.started_us != 0) {
        uint64_t took_us = (heal.healing_count == 0 ? heal.ended_us : clock_mono_us()) - heal.started_us;
        stat_number(text, "heal_ms", took_us / 1000);
        stat_number(text, "heal_bytes_per_s", heal.received_bytes * 1000000 / (took_us | 1));
    }
    for (unsigned i = 0; i < node->worker_count; i++) {
        struct published published;
        publication_read_any(&node->workers[i].publication, &published);
        snprintf(name, sizeof(name), "shard%u_buddy", i);
        stat_number(text, name, published.shard.buddy);
        snprintf(name, sizeof(name), "shard%u_buddy_of", i);
        stat(text, name, "%s", node_list(published.shard.buddy_of, list));
        snprintf(name, sizeof(name), "shard%u_walk_sent", i);
        stat_number(text, name, published.shard.walk_sent);
        snprintf(name, sizeof(name), "shard%u_walk_sent_bytes", i);
        stat_number(text, name, published.shard.walk_sent_bytes);
        snprintf(name, sizeof(name), "shard%u_walk_left_bytes", i);
        stat_number(text, name, published.shard.walk_left_bytes);
        snprintf(name, sizeof(name), "shard%u_stable_round", i);
        stat_number(text, name, published.shard.round);
    }
}

/* ---- the others
 * ---------------------------------------------------------------------------------------- */

static const char *yes_no(bool yes)
{
    return yes ? "yes" : "no";
}

static void settings_stats(struct text *text, const struct node *node)
{
    const struct options *options = &node->options;
    stat_number(text, "maxbytes",
                (uint64_t)node->segment_size * node->segment_count_shard * node->worker_count);
    stat_number(text, "maxconns", options->connection_max);
    stat_number(text, "tcpport", options->listen_count > 0 ? options->listen[0].at.port : 0);
    stat_number(text, "udpport", 0);
    stat(text, "inter", "%s",
         options->listen_count > 0 && options->listen[0].at.host[0] ? options->listen[0].at.host
                                                                 : "NULL");
    stat_number(text, "verbosity", (uint64_t)options->verbose);
    stat(text, "evictions", "off");
    stat(text, "domain_socket", "NULL");
    stat_number(text, "num_threads", node->worker_count);
    stat(text, "stat_key_prefix", ":");
    stat(text, "detail_enabled", "no");
    stat_number(text, "reqs_per_event", options->per_turn_max);
    stat(text, "cas_enabled", "yes");
    stat_number(text, "tcp_backlog", (uint64_t)options->backlog);
    static const char *const protocols[] = {"auto-negotiate", "ascii", "binary"};
    stat(text, "binding_protocol", "%s", protocols[options->protocol]);
    stat(text, "auth_enabled_sasl", "%s", yes_no(options->sasl));
    stat(text, "auth_enabled_ascii", "%s", options->auth_file != NULL ? options->auth_file : "no");
    stat_number(text, "item_size_max", options->item_size_max);
    stat(text, "maxconns_fast", "yes");
    stat(text, "flush_enabled", "%s", yes_no(!options->no_flush));
    stat(text, "dump_enabled", "no");
    stat_number(text, "client_flags_size", sizeof(uint32_t));
    stat(text, "data", "%s", options->data != NULL ? options->data : "NULL");
    stat_number(text, "segment_size", node->segment_size);
    stat_number(text, "segments_per_shard", node->segment_count_shard);
    stat(text, "recovery", "%s", options->recovery_full ? "full" : "incremental");
    stat_number(text, "suspect_ms", options->suspect_ms);
    stat_number(text, "lease_ms", options->lease_ms);
    stat_number(text, "election_ms", options->election_ms);
    stat_number(text, "stall_ms", options->stall_ms);
    for (uint32_t i = 0; i < options->peer_count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "peer%u", options->peers[i].id);
        stat(text, name, "%s:%u", options->peers[i].host, options->peers[i].port);
    }
}

static void slabs_stats(struct text *text, const struct node *node)
{
    stat_number(text, "active_slabs", 0);
    stat_number(text, "total_malloced",
                (uint64_t)node->segment_size * node->segment_count_shard * node->worker_count);
}

static void sizes_stats(struct text *text, const struct node *node)
{
    (void)node;
    stat(text, "sizes_status", "disabled");
}

static void nothing(struct text *text, const struct node *node)
{
    (void)text;
    (void)node;
}

static void general_stats(struct text *text, const struct node *node)
{
    process_stats(text, node);
    counter_stats(text, node);
    store_stats_lines(text, node);
    view_stats(text, node);
    peer_stats(text, node);
    core_stats(text, node);
}

static void group_stats(struct text *text, const struct node *node)
{
    view_stats(text, node);
    peer_stats(text, node);
}

static const struct {
    const char *name;
    void (*print)(struct text *text, const struct node *node);
} groups[] = {
    {"", general_stats},    {"settings", settings_stats}, {"heal", heal_stats},
    {"view", group_stats},  {"peers", group_stats},       {"items", nothing},
    {"slabs", slabs_stats}, {"sizes", sizes_stats},       {"conns", nothing},
};

static void reset(struct node *node)
{
    for (enum counter i = 0; i < COUNTER_COUNT; i++)
        atomic_store_explicit(&node->forgotten.values[i], sum(node, i), memory_order_relaxed);
    atomic_store_explicit(&node->connection_total, 0, memory_order_relaxed);
    atomic_store_explicit(&node->connection_rejected, 0, memory_order_relaxed);
}

enum reply stats_answer(struct worker *worker, const char *words, struct job *job)
{
    size_t group = 0;
    if (strcmp(words, "reset") == 0) {
        reset(worker->node);
        return REPLY_RESET;
    }
    if (strncmp(words, "detail", 6) == 0)
        return REPLY_NO_DETAIL;
    if (strncmp(words, "cachedump", 9) == 0)
        return REPLY_NO_CACHEDUMP;
    while (group < sizeof(groups) / sizeof(groups[0]) && strcmp(groups[group].name, words) != 0)
        group++;
    if (group == sizeof(groups) / sizeof(groups[0]))
        return REPLY_ERROR;
    if (!job_reserve(job, TEXT_SIZE_MAX))
        return REPLY_NO_MEMORY_STATS;
    struct text text = {.data = (char *)job->value};
    groups[group].print(&text, worker->node);
    struct slice end = reply_line(REPLY_END);
    memcpy(text.data + text.used, end.data, end.size);
    job->value_size = (uint32_t)(text.used + end.size);
    return REPLY_COUNT;
}
