/* net_cluster.h: for the tests of net: a few `struct net` in one process on 127.0.0.1, all lanes
 * driven by the one thread of the test, everything that the callbacks say written down. Functions
 * static inline, because a test is one program. */
#ifndef T_NET_CLUSTER_H
#define T_NET_CLUSTER_H

#include <arpa/inet.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net/net.h"
#include "t/fake_verbs.h"
#include "t/net_sim_wire.h"
#include "t/ports.h"
#include "t/test.h"

enum {
    CLUSTER_NODE_MAX = 3,
    CLUSTER_LANE_MAX = 3,
    MESSAGE_MAX = 1 << 20,
    PATIENCE_MS = 10000,
    PATIENCE_TURNS = 10000, /* a machine that is busy with others makes few in that time */
    PATIENCE_MS_MAX = 90000,
};

/* What the nodes of a cluster talk over. RDMA: on devices without hardware (fake_verbs.h). */
enum transport {
    OVER_TCP,
    OVER_RDMA,
    OVER_POLLED_RDMA, /* the owners of the lanes poll */
    OVER_SLOW_RDMA,   /* everything takes its time, not the same for all */
    OVER_IWARP,
    OVER_DEVICE, /* a real one, where RDMA_ADDRESS names an address of it */
    OVER_SIM,    /* the simulator's network */
};

/* What one lane of one node has seen of one peer. */
struct seen {
    unsigned ups, downs, messages, writables;
    uint64_t incarnation; /* of the connection that is up; 0: none */
    uint64_t newest;      /* of all connections so far */
    uint32_t next;        /* number that the next message should carry */
    size_t bytes;
    bool wrong; /* a message out of order, unaligned, damaged, of another incarnation, or while down
                 */
    char why[128];
};

struct seat {
    struct cluster_node *node;
    enum transport over;
    struct event_base *base;
    struct net_lane *lane;
    struct seen seen[NET_PEER_LIMIT];
    uint32_t hold_at; /* NET_HOLD is the answer to this number (0: none) */
    bool drop;        /* net_drop() from inside the next on_message */
    bool in_call;     /* inside net_send() or net_flush() */
};

struct cluster_node {
    struct net_options options;
    struct net *net;
    struct seat seats[CLUSTER_LANE_MAX];
    pthread_mutex_t mutex; /* guards the lines: any thread may refuse */
    unsigned line_count;
    char lines[16][256];
    char chosen[256]; /* the last line of on_chosen */
    unsigned chosen_count;
};

struct cluster {
    enum transport over;
    unsigned node_count, lane_count;
    struct cluster_node nodes[CLUSTER_NODE_MAX + 1]; /* by id */
};

static inline uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- callbacks ---- */

static inline void enter(struct seat *seat)
{
    EXPECT(!seat->in_call); /* Contract 4: never from inside a call. */
}

static inline enum net_take cluster_on_message(void *user, unsigned peer, uint64_t incarnation,
                                               struct slice message)
{
    struct seat *seat = user;
    struct seen *seen = &seat->seen[peer];
    uint32_t number = 0;
    enter(seat);
    if (message.size >= sizeof(number))
        memcpy(&number, message.data, sizeof(number));
    if (seat->hold_at != 0 && number == seat->hold_at)
        return NET_HOLD;
    const uint8_t *bytes = message.data;
    for (size_t i = sizeof(number); i < message.size; i++)
        if (bytes[i] != (uint8_t)(number + i))
            seen->wrong = true;
    if (number != seen->next || (uintptr_t)bytes % 8 != 0 || incarnation != seen->incarnation)
        seen->wrong = true;
    seen->next = number + 1;
    seen->messages++;
    seen->bytes += message.size;
    if (seat->drop) {
        seat->drop = false;
        net_drop(seat->lane, peer, "the test wants it");
    }
    return NET_TAKEN;
}

static inline void cluster_on_up(void *user, unsigned peer, uint64_t incarnation)
{
    struct seat *seat = user;
    struct seen *seen = &seat->seen[peer];
    enter(seat);
    EXPECT_EQ(seen->ups, seen->downs); /* Contract 3. */
    EXPECT(net_is_up(seat->lane, peer));
    EXPECT(incarnation >= seen->newest);
    seen->ups++;
    seen->incarnation = incarnation;
    seen->newest = incarnation;
    seen->next = 0;
}

static inline void cluster_on_down(void *user, unsigned peer, uint64_t incarnation, const char *why)
{
    struct seat *seat = user;
    struct seen *seen = &seat->seen[peer];
    enter(seat);
    EXPECT_EQ(seen->ups, seen->downs + 1);
    EXPECT(incarnation == seen->incarnation);
    EXPECT(!net_is_up(seat->lane, peer));
    seen->downs++;
    seen->incarnation = 0;
    snprintf(seen->why, sizeof(seen->why), "%s", why);
}

static inline void cluster_on_writable(void *user, unsigned peer)
{
    struct seat *seat = user;
    enter(seat);
    seat->seen[peer].writables++;
}

static const struct net_callbacks cluster_callbacks = {.on_message = cluster_on_message,
                                                       .on_up = cluster_on_up,
                                                       .on_down = cluster_on_down,
                                                       .on_writable = cluster_on_writable};

static inline void cluster_on_refused(void *user, const char *text)
{
    struct cluster_node *node = user;
    pthread_mutex_lock(&node->mutex);
    if (node->line_count < 16)
        snprintf(node->lines[node->line_count++], 256, "%s", text);
    pthread_mutex_unlock(&node->mutex);
}

static inline void cluster_on_chosen(void *user, const char *text)
{
    struct cluster_node *node = user;
    pthread_mutex_lock(&node->mutex);
    snprintf(node->chosen, sizeof(node->chosen), "%s", text);
    node->chosen_count++;
    pthread_mutex_unlock(&node->mutex);
}

static inline bool has_chosen(struct cluster_node *node, const char *part)
{
    pthread_mutex_lock(&node->mutex);
    bool found = strstr(node->chosen, part) != NULL;
    pthread_mutex_unlock(&node->mutex);
    return found;
}

static inline unsigned lines_chosen(struct cluster_node *node)
{
    pthread_mutex_lock(&node->mutex);
    unsigned count = node->chosen_count;
    pthread_mutex_unlock(&node->mutex);
    return count;
}

static inline bool has_line(struct cluster_node *node, const char *part)
{
    bool found = false;
    pthread_mutex_lock(&node->mutex);
    for (unsigned i = 0; i < node->line_count; i++)
        found = found || strstr(node->lines[i], part) != NULL;
    pthread_mutex_unlock(&node->mutex);
    return found;
}

/* ---- opening and closing ---- */

static inline bool is_faked(enum transport over)
{
    return over != OVER_TCP && over != OVER_SIM && over != OVER_DEVICE;
}

/* NULL: there is none to be tried. */
static inline const char *device_address(void)
{
    return getenv("RDMA_ADDRESS");
}

static inline void begin_devices(enum transport over)
{
    struct fake_settings settings = fake_settings_default();
    if (over == OVER_SLOW_RDMA)
        settings.delay = 20;
    settings.iwarp = over == OVER_IWARP;
    fake_verbs_begin(&settings);
}

/* Options of `node_count` nodes with the same settings; nothing is opened. */
static inline void cluster_prepare(struct cluster *cluster, enum transport over,
                                   unsigned node_count, unsigned lane_count)
{
    struct net_options shared = {.choice = is_faked(over) || over == OVER_DEVICE ? NET_CHOOSE_RDMA
                                                                                 : NET_CHOOSE_TCP,
                                 .lane_count = lane_count,
                                 .peer_count = node_count,
                                 .configuration = 4711,
                                 .heartbeat_ms = 20,
                                 .suspect_ms = 2000,
                                 .connect_ms = 8000, /* as long as a busy machine needs */
                                 .message_size_max = MESSAGE_MAX,
                                 .on_refused = cluster_on_refused,
                                 .on_chosen = cluster_on_chosen};
    *cluster = (struct cluster){.over = over, .node_count = node_count, .lane_count = lane_count};
    if (is_faked(over))
        begin_devices(over);
    for (unsigned id = 1; id <= node_count; id++)
        shared.peers[id - 1] =
            (struct net_peer){.id = id,
                              .host = over == OVER_DEVICE ? device_address() : "127.0.0.1",
                              .port = free_port()};
    for (unsigned id = 1; id <= node_count; id++) {
        struct cluster_node *node = &cluster->nodes[id];
        node->options = shared;
        node->options.self = id;
        node->options.rdma = is_faked(over) ? fake_verbs_of(id) : NULL;
        node->options.incarnation = 100 + id;
        node->options.user = node;
        pthread_mutex_init(&node->mutex, NULL);
    }
}

static inline void seat_prepare(const struct cluster *cluster, struct seat *seat,
                                struct cluster_node *node)
{
    *seat = (struct seat){.node = node, .over = cluster->over, .base = event_base_new()};
}

static inline void seat_open(struct seat *seat, unsigned index)
{
    enum status status =
        net_lane_open(seat->node->net, index, seat->base, &cluster_callbacks, seat, &seat->lane);
    EXPECT_EQ(status, STATUS_OK);
    if (seat->over == OVER_POLLED_RDMA)
        net_set_polling(seat->lane, true);
}

static inline void node_open(struct cluster *cluster, unsigned id)
{
    struct cluster_node *node = &cluster->nodes[id];
    enum status status = net_open(&node->options, &node->net);
    if (status != STATUS_OK) {
        test_fail(__FILE__, __LINE__, "net_open: %s", status_text(status));
        abort();
    }
    if (cluster->over == OVER_SIM)
        sim_wire_use(node->net, id);
    for (unsigned i = 0; i < node->options.lane_count; i++) {
        struct seat *seat = &node->seats[i];
        seat_prepare(cluster, seat, node);
        seat_open(seat, i);
    }
}

static inline void node_close(struct cluster *cluster, unsigned id)
{
    struct cluster_node *node = &cluster->nodes[id];
    if (node->net == NULL)
        return;
    for (unsigned i = 0; i < node->options.lane_count; i++) {
        net_lane_close(node->seats[i].lane);
        event_base_free(node->seats[i].base);
        node->seats[i].base = NULL;
    }
    net_close(node->net);
    node->net = NULL;
}

static inline void cluster_open(struct cluster *cluster, enum transport over, unsigned node_count,
                                unsigned lane_count)
{
    cluster_prepare(cluster, over, node_count, lane_count);
    for (unsigned id = 1; id <= node_count; id++)
        node_open(cluster, id);
}

/* Everything was given back, and the rules that a device does not enforce were kept. */
static inline void check_devices(void)
{
    struct fake_counters counters;
    fake_verbs_counters(&counters);
    EXPECT_EQ(counters.pds + counters.mrs + counters.cqs + counters.qps + counters.ids +
                  counters.channels,
              0);
    EXPECT_EQ(counters.registered, 0);
    EXPECT_EQ(counters.rnr, 0);
    EXPECT_EQ(counters.without_ack_timeout, 0);
    EXPECT_EQ(counters.endless_retries, 0);
}

static inline void cluster_close(struct cluster *cluster)
{
    for (unsigned id = 1; id <= cluster->node_count; id++) {
        node_close(cluster, id);
        for (unsigned i = 0; i < CLUSTER_LANE_MAX; i++)
            for (unsigned peer = 1; peer <= cluster->node_count; peer++)
                if (cluster->nodes[id].seats[i].seen[peer].wrong)
                    test_fail(__FILE__, __LINE__, "node %u, lane %u: wrong message from %u", id, i,
                              peer);
        pthread_mutex_destroy(&cluster->nodes[id].mutex);
    }
    if (is_faked(cluster->over))
        check_devices();
}

/* ---- running ---- */

static inline void seat_turn(struct seat *seat)
{
    if (is_faked(seat->over))
        fake_verbs_run();
    if (seat->over == OVER_POLLED_RDMA)
        (void)net_poll(seat->lane);
    event_base_loop(seat->base, EVLOOP_NONBLOCK);
    seat->in_call = true;
    net_flush(seat->lane);
    seat->in_call = false;
}

/* One turn of every loop. */
static inline void cluster_turn(struct cluster *cluster)
{
    for (unsigned id = 1; id <= cluster->node_count; id++)
        for (unsigned i = 0; cluster->nodes[id].net != NULL && i < cluster->lane_count; i++)
            seat_turn(&cluster->nodes[id].seats[i]);
    usleep(200);
}

static inline void cluster_run(struct cluster *cluster, unsigned milliseconds)
{
    for (uint64_t end = now_ms() + milliseconds; now_ms() < end;)
        cluster_turn(cluster);
}

/* How long to wait for what will come: not long in a test that has failed already. Begins with the
 * first question; asked once a turn. */
struct patience {
    uint64_t began_ms;
    unsigned turns;
};

static inline bool patience_ended(struct patience *patience)
{
    if (patience->turns++ == 0)
        patience->began_ms = now_ms();
    uint64_t waited_ms = now_ms() - patience->began_ms;
    if (test_failed() && waited_ms >= PATIENCE_MS / 20)
        return true;
    return waited_ms >= PATIENCE_MS &&
           (patience->turns >= PATIENCE_TURNS || waited_ms >= PATIENCE_MS_MAX);
}

/* Turns until `condition`, which is judged once a turn. Reports and goes on when patience ends. */
#define RUN_UNTIL(cluster, condition)                                                              \
    do {                                                                                           \
        struct patience run_patience = {0};                                                        \
        while (!(condition)) {                                                                     \
            if (patience_ended(&run_patience)) {                                                   \
                test_fail(__FILE__, __LINE__, "waited in vain for: %s", #condition);               \
                break;                                                                             \
            }                                                                                      \
            cluster_turn(cluster);                                                                 \
        }                                                                                          \
    } while (0)

static inline struct seen *seen_by(struct cluster *cluster, unsigned id, unsigned lane,
                                   unsigned peer)
{
    return &cluster->nodes[id].seats[lane].seen[peer];
}

/* All lanes of all open nodes are connected with all others. */
static inline bool all_up(struct cluster *cluster)
{
    for (unsigned id = 1; id <= cluster->node_count; id++)
        for (unsigned i = 0; cluster->nodes[id].net != NULL && i < cluster->lane_count; i++)
            for (unsigned peer = 1; peer <= cluster->node_count; peer++)
                if (peer != id && cluster->nodes[peer].net != NULL &&
                    !net_is_up(cluster->nodes[id].seats[i].lane, peer))
                    return false;
    return true;
}

/* Sends message `number` of `size` bytes (at least 4), in two parts. */
static inline enum status send_number(struct cluster *cluster, unsigned from, unsigned lane,
                                      unsigned to, enum net_class class, uint32_t number,
                                      size_t size)
{
    static _Thread_local uint8_t bytes[MESSAGE_MAX + 8];
    struct seat *seat = &cluster->nodes[from].seats[lane];
    for (size_t i = sizeof(number); i < size; i++)
        bytes[i] = (uint8_t)(number + i);
    struct slice parts[] = {slice_make(&number, sizeof(number)),
                            slice_make(bytes + sizeof(number), size - sizeof(number))};
    seat->in_call = true;
    enum status status = net_send(seat->lane, to, class, parts, 2);
    seat->in_call = false;
    return status;
}

/* ---- over RDMA ---- */

enum { LARGE = 200000 /* is pulled */ };

static inline struct net_stats stats_of(struct cluster *cluster, unsigned id, unsigned peer)
{
    struct net_stats stats;
    net_stats_any(cluster->nodes[id].net, 0, peer, &stats);
    return stats;
}

/* What a node says of itself begins so. */
static inline bool does(struct cluster_node *node, const char *what)
{
    char text[NET_TRANSPORT_SIZE];
    net_transport_any(node->net, text);
    return strncmp(text, what, strlen(what)) == 0;
}

static inline struct fake_counters counted(void)
{
    struct fake_counters counters;
    fake_verbs_counters(&counters);
    return counters;
}

static inline void open_connected(struct cluster *cluster, enum transport over, unsigned node_count)
{
    cluster_open(cluster, over, node_count, 1);
    RUN_UNTIL(cluster, all_up(cluster));
}

/* Sends numbers from *next on until net takes no more or `count` were sent. */
static inline void send_some(struct cluster *cluster, unsigned from, unsigned to, uint32_t *next,
                             unsigned count, size_t size)
{
    for (unsigned i = 0; i < count; i++)
        if (send_number(cluster, from, 0, to, NET_LIVE, *next, size) == STATUS_OK)
            ++*next;
}

#endif
