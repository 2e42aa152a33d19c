#include "t/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/hash.h"
#include "pmem/medium_memory.h"

enum { SEGMENT_SIZE = 1 << 18, SEGMENTS = 64 };

static bool lease_always(void *user)
{
    (void)user;
    return true;
}

static void trace(struct cluster *cluster, const struct cluster_message *item)
{
    const struct message *message = item->bytes;
    if (message->type >= MSG_ROUND_WANTED && message->type <= MSG_ROUND_STABLE)
        return;
    if (cluster->traced > CLUSTER_TRACE - 512)
        return; /* nobody reads so much */
    int size = snprintf(cluster->trace + cluster->traced, CLUSTER_TRACE - cluster->traced,
                        "%u>%u %s %.*s\n", item->from, item->to, message_name(message->type),
                        (int)message->key_size, (const char *)message_key(message).data);
    cluster->traced += (size_t)size;
}

static void send_action(struct cluster *cluster, const struct action *action)
{
    for (unsigned to = 1; to <= CLUSTER_NODES; to++) {
        if ((action->to & node_bit(to)) == 0)
            continue;
        size_t size = sizeof(struct message) + action->key.size + action->value.size;
        struct message *bytes = malloc(size);
        *bytes = action->header;
        if (action->key.size > 0)
            memcpy(bytes + 1, action->key.data, action->key.size);
        if (action->value.size > 0)
            memcpy((uint8_t *)(bytes + 1) + action->key.size, action->value.data,
                   action->value.size);
        if (message_invalid(slice_make(bytes, size)) != NULL)
            test_fail(__FILE__, __LINE__, "%s: %s", message_name(bytes->type),
                      message_invalid(slice_make(bytes, size)));
        cluster->queue[cluster->tail++ % CLUSTER_QUEUE] =
            (struct cluster_message){.bytes = bytes, .from = cluster->now, .to = to};
    }
}

static void reply_action(struct cluster *cluster, const struct action *action)
{
    struct cluster_reply *reply = &cluster->replies[action->request - cluster->requests];
    if (reply->done)
        test_fail(__FILE__, __LINE__, "a request was answered twice");
    *reply = (struct cluster_reply){.done = true,
                                    .outcome = action->outcome,
                                    .cas = action->cas,
                                    .number = action->number,
                                    .local = action->local};
    if (action->outcome == OUTCOME_HIT) {
        struct slice value = record_value(action->record);
        if (value.size > sizeof(reply->value) - 1)
            value.size = sizeof(reply->value) - 1;
        lease_copy(reply->value, value, lease_always, NULL);
        reply->cas = record_cas(action->record);
    }
}

static void take(void *user, const struct action *action)
{
    struct cluster *cluster = user;
    switch (action->type) {
    case ACTION_SEND:
        send_action(cluster, action);
        break;
    case ACTION_REPLY:
        reply_action(cluster, action);
        break;
    case ACTION_HEALED:
        cluster->healed_epoch = action->epoch;
        break;
    case ACTION_EVICTED:
        cluster->evicted++;
        break;
    case ACTION_SUSPECT:
        break;
    }
}

static void step(struct cluster *cluster, unsigned node, struct event *event)
{
    struct actions actions = {.take = take, .user = cluster};
    cluster->now = node;
    event->wall_us = cluster->wall_us;
    event->mono_us = cluster->mono_us;
    shard_step(cluster->shards[node], event, &actions);
    shard_verify(cluster->shards[node]);
    if (!cluster->drains_late)
        cluster_durable(cluster, node);
}

void cluster_durable(struct cluster *cluster, unsigned node)
{
    uint64_t durable;
    struct log *log = store_log(cluster->stores[node]);
    log_drain(log);
    if (log_durable(log, &durable) != STATUS_OK ||
        (durable == cluster->durable[node] && log_proved(log) == cluster->proved[node]))
        return;
    cluster->durable[node] = durable;
    cluster->proved[node] = log_proved(log);
    struct actions actions = {.take = take, .user = cluster};
    struct event event = {.type = EVENT_DURABLE,
                          .wall_us = cluster->wall_us,
                          .mono_us = cluster->mono_us,
                          .durable = durable};
    cluster->now = node;
    shard_step(cluster->shards[node], &event, &actions);
    shard_verify(cluster->shards[node]);
}

void cluster_durable_everywhere(struct cluster *cluster)
{
    for (unsigned node = 1; node <= CLUSTER_NODES; node++)
        cluster_durable(cluster, node);
    cluster_settle(cluster);
}

static void start(struct cluster *cluster, unsigned node)
{
    struct store_options store = {
        .log = {.identity = {.cluster = 1, .node = (uint16_t)node, .shard_count = 1},
                .medium = cluster->media[node],
                .segment_count_max = cluster->segments[node],
                .life = (uint32_t)cluster->view.incarnation[node]},
        .index_size = store_index_size((uint64_t)cluster->media[node]->segment_size *
                                       cluster->segments[node]),
    };
    struct log_report report;
    uint32_t bad;
    cluster->index_size[node] = store.index_size;
    cluster->index[node] = store.index = mmap(NULL, store.index_size, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (store_open(&cluster->stores[node], &store, &report, &bad) != STATUS_OK)
        test_fail(__FILE__, __LINE__, "the store does not open");
    struct shard_options options = {
        .self = node,
        .incarnation = cluster->view.incarnation[node],
        .configured = 7,
        .store = cluster->stores[node],
        .op_count_max = 16,
        .value_size_max = 4096,
        .round_us = 100000,
        .ask_us = 50000,
        .slow_us = 5000000,
        .walk_bytes = cluster->walk_bytes,
        .evicts = cluster->evicts,
        .model = cluster->model,
    };
    cluster->memory[node] = aligned_alloc(64, (shard_size(&options) + 63) / 64 * 64);
    memset(cluster->memory[node], 0, shard_size(&options));
    cluster->shards[node] = shard_init(cluster->memory[node], &options);
    cluster->durable[node] = cluster->proved[node] = 0;
}

static struct cluster *open_cluster(uint32_t segment_size, const uint32_t segments[CLUSTER_NODES],
                                    enum model model, bool evicts)
{
    struct cluster *cluster = calloc(1, sizeof(*cluster));
    cluster->evicts = evicts;
    cluster->model = model;
    cluster->wall_us = 1000000000;
    cluster->mono_us = 1000000;
    for (unsigned node = 1; node <= CLUSTER_NODES; node++) {
        cluster->view.incarnation[node] = 1;
        cluster->segments[node] = segments[node - 1];
        if (medium_memory_open(&cluster->media[node], segment_size) != STATUS_OK)
            test_fail(__FILE__, __LINE__, "no memory");
        start(cluster, node);
    }
    cluster_install_all(cluster, 1, 7, 0);
    cluster_settle(cluster);
    if (model_is_early(model_row(model))) { /* serves when a round is stable */
        cluster_tick(cluster, 0);
        cluster_settle(cluster);
    }
    cluster->traced = 0;
    return cluster;
}

struct cluster *cluster_open(void)
{
    return cluster_open_sized(SEGMENT_SIZE, (const uint32_t[]){SEGMENTS, SEGMENTS, SEGMENTS});
}

struct cluster *cluster_open_model(enum model model)
{
    return open_cluster(SEGMENT_SIZE, (const uint32_t[]){SEGMENTS, SEGMENTS, SEGMENTS}, model,
                        false);
}

struct cluster *cluster_open_late(enum model model)
{
    struct cluster *cluster = cluster_open_model(model);
    cluster->drains_late = true;
    return cluster;
}

struct cluster *cluster_open_sized(uint32_t segment_size, const uint32_t segments[CLUSTER_NODES])
{
    return open_cluster(segment_size, segments, MODEL_SYNCH, false);
}

struct cluster *cluster_open_evicting(uint32_t segment_size, const uint32_t segments[CLUSTER_NODES])
{
    return open_cluster(segment_size, segments, MODEL_SYNCH, true);
}

static void stop(struct cluster *cluster, unsigned node)
{
    if (cluster->shards[node] == NULL)
        return;
    store_close(cluster->stores[node]);
    munmap(cluster->index[node], cluster->index_size[node]);
    free(cluster->memory[node]);
    cluster->shards[node] = NULL;
}

void cluster_close(struct cluster *cluster)
{
    for (unsigned node = 1; node <= CLUSTER_NODES; node++) {
        stop(cluster, node);
        cluster->media[node]->ops->close(cluster->media[node]);
    }
    for (; cluster->head != cluster->tail; cluster->head++)
        free(cluster->queue[cluster->head % CLUSTER_QUEUE].bytes);
    free(cluster);
}

unsigned cluster_request_full(struct cluster *cluster, unsigned node, const struct request *request)
{
    unsigned index = cluster->request_count++ % CLUSTER_REQUESTS;
    while (cluster->request_count > CLUSTER_REQUESTS && !cluster->replies[index].done)
        index = cluster->request_count++ % CLUSTER_REQUESTS;
    cluster->requests[index] = *request;
    cluster->requests[index].hash = hash_key(request->key);
    cluster->replies[index] = (struct cluster_reply){0};
    struct event event = {.type = EVENT_REQUEST, .request = &cluster->requests[index]};
    step(cluster, node, &event);
    return index;
}

unsigned cluster_request(struct cluster *cluster, unsigned node, enum request_type type,
                         const char *key, const char *value)
{
    struct request request = {.type = type,
                              .key = slice_text(key),
                              .value = slice_text(value != NULL ? value : ""),
                              .delta = 1};
    return cluster_request_full(cluster, node, &request);
}

/* The item at queue position `at` leaves; those before it move up, so that order per pair stays. */
static void remove_at(struct cluster *cluster, unsigned at)
{
    for (; at != cluster->head; at--)
        cluster->queue[at % CLUSTER_QUEUE] = cluster->queue[(at - 1) % CLUSTER_QUEUE];
    cluster->head++;
}

bool cluster_deliver(struct cluster *cluster, unsigned from, unsigned to)
{
    for (unsigned at = cluster->head; at != cluster->tail; at++) {
        struct cluster_message item = cluster->queue[at % CLUSTER_QUEUE];
        if (item.from != from || item.to != to)
            continue;
        if (cluster->shards[to] != NULL && shard_holds(cluster->shards[to], item.bytes))
            return false;
        remove_at(cluster, at);
        if (cluster->shards[to] != NULL) {
            trace(cluster, &item);
            struct event event = {.type = EVENT_MESSAGE, .message = item.bytes};
            step(cluster, to, &event);
        }
        free(item.bytes);
        return true;
    }
    return false;
}

void cluster_lose(struct cluster *cluster, unsigned a, unsigned b)
{
    unsigned kept = cluster->head;
    for (unsigned at = cluster->head; at != cluster->tail; at++) {
        struct cluster_message item = cluster->queue[at % CLUSTER_QUEUE];
        if ((item.from == a && item.to == b) || (item.from == b && item.to == a))
            free(item.bytes);
        else
            cluster->queue[kept++ % CLUSTER_QUEUE] = item;
    }
    cluster->tail = kept;
}

void cluster_settle(struct cluster *cluster)
{
    bool any = true;
    while (any) {
        any = false;
        for (unsigned from = 1; from <= CLUSTER_NODES; from++)
            for (unsigned to = 1; to <= CLUSTER_NODES; to++)
                any = cluster_deliver(cluster, from, to) || any;
        for (unsigned node = 1; node <= CLUSTER_NODES; node++)
            if (cluster->shards[node] != NULL && shard_wants_turn(cluster->shards[node])) {
                struct event event = {.type = EVENT_TICK};
                step(cluster, node, &event);
                any = true;
            }
    }
}

void cluster_up(struct cluster *cluster, unsigned a, unsigned b)
{
    struct event at_a = {.type = EVENT_UP, .peer = b}, at_b = {.type = EVENT_UP, .peer = a};
    step(cluster, a, &at_a);
    step(cluster, b, &at_b);
}

void cluster_removed(struct cluster *cluster, unsigned node)
{
    struct event event = {.type = EVENT_RESTART, .incarnation = ++cluster->view.incarnation[node]};
    for (unsigned peer = 1; peer <= CLUSTER_NODES; peer++)
        cluster_lose(cluster, node, peer);
    step(cluster, node, &event);
}

void cluster_stalled(struct cluster *cluster, unsigned node)
{
    struct event event = {.type = EVENT_STALLED};
    step(cluster, node, &event);
}

void cluster_tick(struct cluster *cluster, uint64_t us)
{
    cluster->wall_us += us;
    cluster->mono_us += us;
    for (unsigned node = 1; node <= CLUSTER_NODES; node++)
        if (cluster->shards[node] != NULL) {
            struct event event = {.type = EVENT_TICK};
            step(cluster, node, &event);
        }
}

void cluster_install(struct cluster *cluster, unsigned node, uint32_t epoch, uint8_t members,
                     uint8_t healing)
{
    struct view view = cluster->view;
    view.epoch = epoch;
    view.members = members;
    view.healing = healing;
    view.configured = 7;
    struct event event = {.type = EVENT_VIEW, .view = &view};
    step(cluster, node, &event);
}

void cluster_install_all(struct cluster *cluster, uint32_t epoch, uint8_t members, uint8_t healing)
{
    for (unsigned node = 1; node <= CLUSTER_NODES; node++)
        if (cluster->shards[node] != NULL && ((members | healing) & node_bit(node)) != 0)
            cluster_install(cluster, node, epoch, members, healing);
}

void cluster_crash(struct cluster *cluster, unsigned node)
{
    stop(cluster, node);
    for (unsigned peer = 1; peer <= CLUSTER_NODES; peer++)
        cluster_lose(cluster, node, peer);
}

void cluster_restart(struct cluster *cluster, unsigned node)
{
    cluster->view.incarnation[node]++;
    start(cluster, node);
}

const char *outcome_text(enum outcome outcome)
{
    static const char *const texts[] = {
        [OUTCOME_HIT] = "HIT",
        [OUTCOME_MISS] = "MISS",
        [OUTCOME_STORED] = "STORED",
        [OUTCOME_NOT_STORED] = "NOT_STORED",
        [OUTCOME_EXISTS] = "EXISTS",
        [OUTCOME_NOT_FOUND] = "NOT_FOUND",
        [OUTCOME_DELETED] = "DELETED",
        [OUTCOME_TOUCHED] = "TOUCHED",
        [OUTCOME_NUMBER] = "NUMBER",
        [OUTCOME_NON_NUMERIC] = "NON_NUMERIC",
        [OUTCOME_LARGE] = "LARGE",
        [OUTCOME_TOO_LARGE] = "TOO_LARGE",
        [OUTCOME_NO_MEMORY] = "NO_MEMORY",
        [OUTCOME_OK] = "OK",
        [OUTCOME_REFUSED] = "REFUSED",
        [OUTCOME_UNKNOWN] = "UNKNOWN",
    };
    return texts[outcome];
}

const char *cluster_get(struct cluster *cluster, unsigned node, const char *key)
{
    unsigned get = cluster_request(cluster, node, REQUEST_GET, key, NULL);
    const struct cluster_reply *reply = &cluster->replies[get];
    if (!reply->done)
        return "...";
    return reply->outcome == OUTCOME_HIT    ? reply->value
           : reply->outcome == OUTCOME_MISS ? "-"
                                            : outcome_text(reply->outcome);
}

void cluster_expect_everywhere(struct cluster *cluster, const char *key, const char *value)
{
    for (unsigned node = 1; node <= CLUSTER_NODES; node++)
        EXPECT_TEXT(cluster_get(cluster, node, key), value);
}

const char *cluster_reply(const struct cluster *cluster, unsigned index)
{
    return cluster->replies[index].done ? outcome_text(cluster->replies[index].outcome) : "...";
}
