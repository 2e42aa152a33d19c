/* member_cluster.h: a group of nodes that run the real membership code on simulated clocks, links
 * and an agreed log. For tests.
 *
 * The log is an oracle that behaves as raft does: one order; a proposal may be lost when its leader
 * is; a leader that is cut off goes on believing in itself for a while; a new one is known to a
 * majority before it knows itself. One millisecond a step. After every step invariant 8 of
 * replica/member.h is checked, and that equal epochs are equal views. */
#ifndef T_MEMBER_CLUSTER_H
#define T_MEMBER_CLUSTER_H

#include "base/prng.h"
#include "replica/member.h"

enum {
    CLUSTER_LEASE_US = 80000,
    CLUSTER_SUSPECT_US = 60000,
    CLUSTER_ELECTION_US = 150000,
    CLUSTER_GRACE_US = 3000000,
    CLUSTER_LOG_MAX = 20000,
    CLUSTER_MAIL_MAX = 4096,
};

struct cluster;

struct cluster_node {
    struct cluster *cluster;
    struct member member;
    unsigned id;
    bool up, paused;
    bool blank;          /* at its next start */
    uint8_t force;       /* at its next start */
    uint32_t last_epoch; /* what its log remembers, or remembered before it was damaged */
    uint64_t incarnation;
    int64_t drift_ppm;
    unsigned applied;     /* entries of the log */
    uint64_t apply_at_us; /* when the next one arrives */
    unsigned role;        /* whom raft calls leader here */
    uint64_t role_lost_us;
    uint64_t ticked_us, heal_at_us, stopped_heal_us;
    uint64_t heard_us[MEMBER_LIMIT]; /* global time */
    unsigned installs, removals;
    bool heals;
};

struct cluster_mail {
    uint64_t due_us; /* 0: free */
    unsigned from, to;
    struct member_message message;
};

struct cluster {
    struct prng prng;
    unsigned count;
    bool boot_by_majority;
    uint64_t now_us;
    struct cluster_node nodes[MEMBER_LIMIT];
    bool control_cut[MEMBER_LIMIT][MEMBER_LIMIT], data_cut[MEMBER_LIMIT][MEMBER_LIMIT];
    unsigned leader; /* raft's */
    uint64_t elect_at_us;
    bool slow_raft; /* proposals are lost now and then, entries arrive late */
    struct member_entry log[CLUSTER_LOG_MAX], proposals[64];
    unsigned log_count, proposal_count;
    uint64_t proposal_due_us[64];
    unsigned proposal_from[64];
    struct cluster_mail mail[CLUSTER_MAIL_MAX];
    struct view views[CLUSTER_LOG_MAX]; /* by epoch, as installed first */
    uint64_t installed_us[CLUSTER_LOG_MAX];
    uint32_t epoch_max;
    unsigned cold_views;
    const char *violation;
};

static inline uint64_t cluster_clock(const struct cluster_node *node)
{
    int64_t now = (int64_t)node->cluster->now_us;
    return (uint64_t)(now + now * node->drift_ppm / 1000000) + node->id * 1000000000ull;
}

static inline bool cluster_works(const struct cluster *cluster, unsigned node)
{
    return cluster->nodes[node].up && !cluster->nodes[node].paused;
}

static inline bool cluster_linked(const struct cluster *cluster, unsigned a, unsigned b)
{
    return a == b || !cluster->control_cut[a][b];
}

static inline uint64_t cluster_delay(struct cluster *cluster)
{
    return prng_chance(&cluster->prng, 2) ? prng_below(&cluster->prng, 40000)
                                          : 100 + prng_below(&cluster->prng, 1500);
}

/* ---- actions ---- */

static inline void cluster_send(void *user, unsigned to, const struct member_message *message)
{
    struct cluster_node *node = user;
    struct cluster *cluster = node->cluster;
    assert(member_message_invalid(slice_make(message, sizeof(*message))) == NULL);
    if (cluster->slow_raft && prng_chance(&cluster->prng, 2))
        return;
    for (unsigned i = 0; i < CLUSTER_MAIL_MAX; i++)
        if (cluster->mail[i].due_us == 0) {
            cluster->mail[i] =
                (struct cluster_mail){.due_us = cluster->now_us + cluster_delay(cluster),
                                      .from = node->id,
                                      .to = to,
                                      .message = *message};
            return;
        }
}

static inline void cluster_propose(void *user, const struct member_entry *entry)
{
    struct cluster_node *node = user;
    struct cluster *cluster = node->cluster;
    assert(member_entry_invalid(slice_make(entry, sizeof(*entry))) == NULL);
    if (cluster->leader != node->id || cluster->proposal_count == 64 ||
        (cluster->slow_raft && prng_chance(&cluster->prng, 5)))
        return;
    unsigned at = cluster->proposal_count++;
    cluster->proposals[at] = *entry;
    cluster->proposal_from[at] = node->id;
    cluster->proposal_due_us[at] = cluster->now_us + 2000 + prng_below(&cluster->prng, 4000);
}

static inline void cluster_install(void *user, const struct view *view)
{
    struct cluster_node *node = user;
    struct cluster *cluster = node->cluster;
    node->installs++;
    assert(view->epoch < CLUSTER_LOG_MAX);
    if (cluster->views[view->epoch].epoch == 0) {
        cluster->views[view->epoch] = *view;
        cluster->installed_us[view->epoch] = cluster->now_us;
    } else if (memcmp(&cluster->views[view->epoch], view, sizeof(*view)) != 0) {
        cluster->violation = "two views of one epoch";
    }
    if (view->epoch > cluster->epoch_max)
        cluster->epoch_max = view->epoch;
    if ((view->members & node_bit(node->id)) != 0)
        node->last_epoch = view->epoch;
    node->heal_at_us = cluster->now_us + 20000;
}

static inline void cluster_removed(void *user)
{
    struct cluster_node *node = user;
    node->removals++;
    member_new_incarnation(&node->member, ++node->incarnation);
}

static inline struct member_actions cluster_actions(struct cluster_node *node)
{
    return (struct member_actions){.send = cluster_send,
                                   .propose = cluster_propose,
                                   .install = cluster_install,
                                   .removed = cluster_removed,
                                   .user = node};
}

/* ---- faults ---- */

static inline void cluster_start(struct cluster *cluster, unsigned id)
{
    struct cluster_node *node = &cluster->nodes[id];
    struct member_options options = {.self = id,
                                     .incarnation = ++node->incarnation,
                                     .configured = (uint8_t)((1u << cluster->count) - 1),
                                     .force_members = node->force,
                                     .blank = node->blank,
                                     .last_epoch = node->last_epoch,
                                     .lease_us = CLUSTER_LEASE_US,
                                     .suspect_us = CLUSTER_SUSPECT_US,
                                     .boot_grace_us = CLUSTER_GRACE_US,
                                     .boot_by_majority = cluster->boot_by_majority,
                                     .election_us = CLUSTER_ELECTION_US,
                                     .drift_ppm = 500};
    member_init(&node->member, &options);
    node->up = true;
    node->paused = false;
    node->applied = 0;
    node->role = 0;
    node->blank = false;
    node->force = 0;
    node->heal_at_us = 0;
    memset(node->heard_us, 0, sizeof(node->heard_us));
}

static inline void cluster_kill(struct cluster *cluster, unsigned id)
{
    cluster->nodes[id].up = false;
}

static inline void cluster_cut(struct cluster *cluster, unsigned a, unsigned b, bool control,
                               bool data)
{
    cluster->control_cut[a][b] = cluster->control_cut[b][a] = control;
    cluster->data_cut[a][b] = cluster->data_cut[b][a] = data;
}

static inline void cluster_isolate(struct cluster *cluster, unsigned id, bool cut)
{
    for (unsigned other = 1; other <= cluster->count; other++)
        if (other != id)
            cluster_cut(cluster, id, other, cut, cut);
}

/* ---- raft ---- */

static inline uint8_t cluster_reach(const struct cluster *cluster, unsigned from)
{
    uint8_t nodes = 0;
    for (unsigned id = 1; id <= cluster->count; id++)
        if (cluster_works(cluster, from) && cluster_works(cluster, id) &&
            cluster_linked(cluster, from, id))
            nodes |= node_bit(id);
    return nodes;
}

static inline bool cluster_has_majority(const struct cluster *cluster, unsigned id)
{
    return id != 0 && 2 * (unsigned)__builtin_popcount(cluster_reach(cluster, id)) > cluster->count;
}

static inline void cluster_give_role(struct cluster *cluster, unsigned id, unsigned leader)
{
    struct cluster_node *node = &cluster->nodes[id];
    struct member_actions actions = cluster_actions(node);
    if (node->role == leader)
        return;
    node->role = leader;
    member_role(&node->member, leader, cluster_clock(node), &actions);
}

/* What the former leader had under way is in the log before anything of the new one, or lost. */
static inline void cluster_elect(struct cluster *cluster)
{
    unsigned start = (unsigned)prng_below(&cluster->prng, cluster->count), chosen = 0;
    for (unsigned i = 0; i < cluster->count && chosen == 0; i++) {
        unsigned id = (start + i) % cluster->count + 1;
        if (id != cluster->leader && cluster_has_majority(cluster, id))
            chosen = id;
    }
    if (chosen == 0 && cluster_has_majority(cluster, cluster->leader))
        chosen = cluster->leader;
    if (chosen == 0)
        return;
    for (unsigned i = 0; i < cluster->proposal_count; i++)
        if (prng_chance(&cluster->prng, 50))
            cluster->log[cluster->log_count++] = cluster->proposals[i];
    cluster->proposal_count = 0;
    cluster->leader = chosen;
    cluster->elect_at_us = 0;
    uint8_t reach = cluster_reach(cluster, chosen);
    for (unsigned id = 1; id <= cluster->count; id++)
        if ((reach & node_bit(id)) != 0)
            cluster_give_role(cluster, id, id == chosen ? 0 : chosen);
    cluster_give_role(cluster, chosen, chosen);
}

/* Who hears of the leader follows it; who does not gives up after a while (a leader: after twice
 * the election time). */
static inline void cluster_step_roles(struct cluster *cluster)
{
    for (unsigned id = 1; id <= cluster->count; id++) {
        struct cluster_node *node = &cluster->nodes[id];
        unsigned leader = cluster->leader;
        if (!cluster_works(cluster, id))
            continue;
        bool hears = id == leader ? cluster_has_majority(cluster, id)
                                  : leader != 0 && cluster_works(cluster, leader) &&
                                        cluster_has_majority(cluster, leader) &&
                                        cluster_linked(cluster, id, leader);
        if (hears) {
            node->role_lost_us = cluster->now_us;
            if (node->role != leader && prng_chance(&cluster->prng, 20))
                cluster_give_role(cluster, id, leader);
        } else if (cluster->now_us - node->role_lost_us >
                   (node->role == id ? 2u : 1u) * CLUSTER_ELECTION_US) {
            cluster_give_role(cluster, id, 0);
        }
    }
}

static inline void cluster_step_raft(struct cluster *cluster)
{
    bool lives = cluster_has_majority(cluster, cluster->leader) &&
                 cluster->nodes[cluster->leader].role == cluster->leader;
    if (lives)
        cluster->elect_at_us = 0;
    else if (cluster->elect_at_us == 0)
        cluster->elect_at_us =
            cluster->now_us + CLUSTER_ELECTION_US + prng_below(&cluster->prng, CLUSTER_ELECTION_US);
    else if (cluster->now_us >= cluster->elect_at_us)
        cluster_elect(cluster);
    cluster_step_roles(cluster);
    unsigned kept = 0;
    for (unsigned i = 0; i < cluster->proposal_count; i++) {
        if (lives && cluster->proposal_due_us[i] <= cluster->now_us) {
            assert(cluster->log_count < CLUSTER_LOG_MAX);
            cluster->log[cluster->log_count++] = cluster->proposals[i];
            continue;
        }
        cluster->proposals[kept] = cluster->proposals[i];
        cluster->proposal_from[kept] = cluster->proposal_from[i];
        cluster->proposal_due_us[kept++] = cluster->proposal_due_us[i];
    }
    cluster->proposal_count = kept;
}

/* A node that is far behind may get a snapshot instead of the entries. */
static inline void cluster_restore(struct cluster *cluster, struct cluster_node *node)
{
    unsigned leader = cluster->leader;
    struct member_actions actions = cluster_actions(node);
    struct cluster_node *from = &cluster->nodes[leader];
    struct member_snapshot snapshot;
    member_snapshot(&from->member, &snapshot);
    assert(member_snapshot_invalid(slice_make(&snapshot, sizeof(snapshot))) == NULL);
    node->applied = from->applied;
    member_restore(&node->member, &snapshot, cluster_clock(node), &actions);
}

static inline void cluster_step_apply(struct cluster *cluster, struct cluster_node *node)
{
    unsigned leader = cluster->leader;
    bool linked = leader != 0 && cluster_works(cluster, leader) &&
                  cluster_linked(cluster, node->id, leader) &&
                  cluster_has_majority(cluster, leader) && node->role == leader;
    if (!linked || node->apply_at_us > cluster->now_us)
        return;
    struct member_actions actions = cluster_actions(node);
    if (node->id != leader && node->applied + 20 < cluster->nodes[leader].applied) {
        cluster_restore(cluster, node);
    }
    while (node->applied < cluster->log_count) {
        const struct member_entry *entry = &cluster->log[node->applied++];
        member_applied(&node->member, entry, cluster_clock(node), &actions);
    }
    node->apply_at_us =
        cluster->now_us + (cluster->slow_raft ? prng_below(&cluster->prng, 60000) : 0);
}

/* ---- time ---- */

static inline void cluster_step_mail(struct cluster *cluster)
{
    for (unsigned i = 0; i < CLUSTER_MAIL_MAX; i++) {
        struct cluster_mail *mail = &cluster->mail[i];
        struct cluster_node *node = &cluster->nodes[mail->to];
        if (mail->due_us == 0 || mail->due_us > cluster->now_us || (node->up && node->paused))
            continue;
        struct cluster_mail taken = *mail;
        mail->due_us = 0;
        struct member_actions actions = cluster_actions(node);
        if (node->up && cluster_linked(cluster, taken.from, taken.to))
            member_received(&node->member, taken.from, &taken.message, cluster_clock(node),
                            &actions);
    }
}

static inline void cluster_step_node(struct cluster *cluster, struct cluster_node *node)
{
    struct member_actions actions = cluster_actions(node);
    cluster_step_apply(cluster, node);
    uint64_t heard[MEMBER_LIMIT] = {0}, clock = cluster_clock(node);
    for (unsigned id = 1; id <= cluster->count; id++) {
        if (id != node->id && cluster_works(cluster, id) && !cluster->data_cut[node->id][id] &&
            (cluster->now_us / 1000 + id) % 10 == 0)
            node->heard_us[id] = cluster->now_us;
        if (node->heard_us[id] != 0 && cluster->nodes[id].up && !cluster->data_cut[node->id][id])
            heard[id] = clock - (cluster->now_us - node->heard_us[id]);
    }
    if (cluster->now_us - node->ticked_us >= 10000) {
        node->ticked_us = cluster->now_us;
        member_tick(&node->member, clock, heard, &actions);
    }
    const struct view *installed = member_installed(&node->member);
    if (node->heals && node->heal_at_us != 0 && cluster->now_us >= node->heal_at_us &&
        (installed->healing & node_bit(node->id)) != 0) {
        node->heal_at_us = 0;
        member_all_healed(&node->member, installed->epoch, clock, &actions);
    }
}

/* Invariant 8. A paused node counts: it may read when it wakes up, and looks at its clock only
 * then. */
static inline void cluster_check(struct cluster *cluster)
{
    for (unsigned id = 1; id <= cluster->count; id++) {
        const struct cluster_node *node = &cluster->nodes[id];
        const struct view *own = member_installed(&node->member);
        if (!node->up || cluster_clock(node) >= member_lease_until_us(&node->member))
            continue;
        if ((own->members & node_bit(id)) == 0)
            cluster->violation = "a lease without membership";
        for (uint32_t epoch = own->epoch + 1; epoch <= cluster->epoch_max; epoch++)
            if (cluster->views[epoch].epoch != 0 &&
                ((cluster->views[epoch].members & node_bit(id)) == 0 ||
                 cluster->views[epoch].incarnation[id] != own->incarnation[id]))
                cluster->violation = "a lease while others have a view without its holder";
    }
}

static inline void cluster_run(struct cluster *cluster, unsigned milliseconds)
{
    for (unsigned i = 0; i < milliseconds && cluster->violation == NULL; i++) {
        cluster->now_us += 1000;
        cluster_step_raft(cluster);
        cluster_step_mail(cluster);
        for (unsigned id = 1; id <= cluster->count; id++)
            if (cluster_works(cluster, id))
                cluster_step_node(cluster, &cluster->nodes[id]);
        cluster_check(cluster);
    }
}

static inline void cluster_init(struct cluster *cluster, unsigned count, uint64_t seed)
{
    memset(cluster, 0, sizeof(*cluster));
    cluster->prng.state = seed;
    cluster->count = count;
    cluster->now_us = 1000000;
    for (unsigned id = 1; id <= count; id++) {
        struct cluster_node *node = &cluster->nodes[id];
        node->cluster = cluster;
        node->id = id;
        node->blank = true;
        node->heals = true;
        node->drift_ppm = (int64_t)prng_below(&cluster->prng, 1001) - 500;
        node->ticked_us = cluster->now_us + id * 1700;
    }
}

/* Every node that works is in the newest view in the given roles, and its members hold leases. */
static inline bool cluster_is(const struct cluster *cluster, uint8_t members, uint8_t healing)
{
    uint32_t newest = 0;
    for (unsigned id = 1; id <= cluster->count; id++)
        if (cluster_works(cluster, id) && member_view(&cluster->nodes[id].member)->epoch > newest)
            newest = member_view(&cluster->nodes[id].member)->epoch;
    for (unsigned id = 1; id <= cluster->count; id++) {
        const struct cluster_node *node = &cluster->nodes[id];
        const struct view *view = member_installed(&node->member);
        if (((members | healing) & node_bit(id)) == 0)
            continue;
        if (!cluster_works(cluster, id) || view->epoch != newest || view->members != members ||
            view->healing != healing)
            return false;
        if ((members & node_bit(id)) != 0 &&
            member_lease_until_us(&node->member) <= cluster_clock(node))
            return false;
    }
    return true;
}

/* How long it takes until cluster_is(), in ms; limit + 1 if it never is. */
static inline unsigned cluster_wait(struct cluster *cluster, uint8_t members, uint8_t healing,
                                    unsigned limit)
{
    for (unsigned passed = 0; passed <= limit; passed++) {
        if (cluster_is(cluster, members, healing) || cluster->violation != NULL)
            return passed;
        cluster_run(cluster, 1);
    }
    return limit + 1;
}

#endif
