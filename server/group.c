#include "server/group.h"

#include <assert.h>
#include <stdio.h>

#include "base/log.h"
#include "server/clock.h"
#include "server/node.h"
#include "server/raft_driver.h"
#include "server/stats.h"
#include "server/worker.h"

enum {
    DRIFT_PPM = 500,
    HEARTBEATS_PER_ELECTION = 5,
    PROGRESS_US = 1000000,
    NO_ROOM_US = 60000000,
    AWAITS_US = 5000000,            /* say so often whom a start waits for */
    LEADERLESS_US = 5000000,        /* an election takes less, also on a slow machine */
    LEADERLESS_AGAIN_US = 60000000, /* say so often that there is none */
};

static const char *node_names(uint8_t nodes, char out[16])
{
    size_t used = 0;
    for (unsigned id = 1; id < MEMBER_LIMIT; id++) {
        if ((nodes & node_bit(id)) == 0)
            continue;
        if (used > 0)
            out[used++] = ',';
        out[used++] = (char)('0' + id);
    }
    out[used] = 0;
    return used > 0 ? out : "none";
}

/* ---- to the workers ---- */

/* Views must not be lost. */
static void tell_workers(const struct node *node, const struct letter *letter)
{
    for (unsigned i = 0; i < node->worker_count; i++) {
        enum status status = mailbox_put_any(&node->workers[i].mailbox, letter);
        assert(status == STATUS_OK);
    }
}

static void set_lease(struct node *node, uint64_t until_us)
{
    atomic_store_explicit(&node->lease_until_us, until_us, memory_order_release);
}

static void note_role(struct group *group, const struct view *view)
{
    uint8_t self = node_bit(group->node->options.self);
    struct stats_heal heal;
    if ((view->healing & self) != 0 && group->healing_since_us == 0) {
        group->healing_since_us = group->told_us = group->now_us;
        group->told_received = 0;
        group->told_no_room = false;
        log_note("role: healing; this node is being sent what it missed");
    } else if ((view->members & self) != 0 && group->healing_since_us != 0) {
        stats_heal(group->node, &heal);
        log_note("role: member; healed (%s) in %llu ms: %llu records and %llu bytes received, %llu "
                 "own ones checked, "
                 "%llu discarded",
                 heal.full ? "full" : "incremental",
                 (unsigned long long)(group->now_us - group->healing_since_us) / 1000,
                 (unsigned long long)heal.received, (unsigned long long)heal.received_bytes,
                 (unsigned long long)heal.checked, (unsigned long long)heal.discarded);
        group->healing_since_us = 0;
    }
}

/* ---- what follows from each change ---- */

static void keep_fences(struct group *group)
{
    for (unsigned id = 1; group->node->net != NULL && id < MEMBER_LIMIT; id++) {
        uint64_t fence = member_fence(&group->member, id);
        if (fence <= group->fences[id] || id == group->node->options.self)
            continue;
        group->fences[id] = fence;
        net_fence_any(group->node->net, id, fence);
    }
}

static void publish(struct group *group)
{
    struct node_view now;
    node_view_any(group->node, &now);
    bool leading = member_leads(&group->member);
    if (now.leading != leading) {
        now.leading = leading;
        node_set_view(group->node, &now);
        log_info("membership: this node %s", leading ? "leads" : "no longer leads");
    }
    set_lease(group->node, member_lease_until_us(&group->member));
}

static void follow(struct group *group)
{
    keep_fences(group);
    publish(group);
}

/* ---- what the membership core wants done ---- */

static void on_install(void *user, const struct view *view)
{
    struct group *group = user;
    char members[16], healing[16], configured[16];
    struct node_view now = {.view = *view, .leading = member_leads(&group->member)};
    log_note("view %u: members %s; healing %s; configured %s", view->epoch,
             node_names(view->members, members), node_names(view->healing, healing),
             node_names(view->configured, configured));
    note_role(group, view);
    /* Last: who sees the view in `stats` finds its line in the log. */
    tell_workers(group->node, &(struct letter){.type = LETTER_VIEW, .view = *view});
    node_set_view(group->node, &now);
}

/* The lease is void at once; the shards forget what is volatile, then the node asks to join as
 * somebody new. */
static void on_removed(void *user)
{
    struct group *group = user;
    struct node *node = group->node;
    set_lease(node, 0);
    log_warn("role: absent; the group has removed this node; it asks to join again");
    group->healing_since_us = 0;
    node_set_view(node, &(struct node_view){.leading = false});
    if (directory_raise_incarnation(&node->directory) != STATUS_OK) {
        log_error("%s/node: the new incarnation cannot be written; stopping", node->directory.path);
        atomic_store(&node->failed, true);
        return;
    }
    uint64_t incarnation = node->directory.node.incarnation;
    atomic_store(&node->incarnation, incarnation);
    tell_workers(node, &(struct letter){.type = LETTER_INCARNATION, .incarnation = incarnation});
    if (node->net != NULL)
        net_set_incarnation_any(node->net, incarnation);
    member_new_incarnation(&group->member, incarnation);
}

static void on_send(void *user, unsigned to, const struct member_message *message)
{
    struct group *group = user;
    struct slice part = slice_make(message, sizeof(*message));
    if (group->lane != NULL) {
        enum status status = net_send(group->lane, to, NET_LIVE, &part, 1);
        (void)status; /* They may be lost: each is repeated. */
    }
}

static void on_propose(void *user, const struct member_entry *entry)
{
    struct group *group = user;
    if (group->raft != NULL)
        raft_driver_propose(group->raft, entry);
}

/* ---- what the agreed log says ---- */

static void on_applied(void *user, const struct member_entry *entry)
{
    struct group *group = user;
    group->now_us = clock_mono_us();
    member_applied(&group->member, entry, group->now_us, &group->actions);
    follow(group);
}

static void on_snapshot(void *user, struct member_snapshot *snapshot)
{
    struct group *group = user;
    member_snapshot(&group->member, snapshot);
}

static void on_restore(void *user, const struct member_snapshot *snapshot)
{
    struct group *group = user;
    group->now_us = clock_mono_us();
    member_restore(&group->member, snapshot, group->now_us, &group->actions);
    follow(group);
}

static void on_role(void *user, unsigned leader)
{
    struct group *group = user;
    group->now_us = clock_mono_us();
    log_info("membership: the agreed log is led by node %u (0: nobody)", leader);
    if (leader != 0 && group->told_leaderless_us != 0) {
        group->told_leaderless_us = 0;
        log_note("a majority of the nodes is here again");
    }
    group->leaderless_us = leader != 0 ? 0 : group->now_us;
    group->leader = leader;
    member_role(&group->member, leader, group->now_us, &group->actions);
    follow(group);
}

static void on_failed(void *user, const char *why)
{
    struct group *group = user;
    log_error("membership: %s; stopping", why);
    atomic_store(&group->node->failed, true);
}

static const struct raft_driver_callbacks raft_callbacks = {
    .applied = on_applied,
    .snapshot = on_snapshot,
    .restore = on_restore,
    .role = on_role,
    .failed = on_failed,
};

/* ---- the control lane ---- */

static enum net_take on_message(void *user, unsigned peer, uint64_t incarnation, struct slice bytes)
{
    struct group *group = user;
    (void)incarnation;
    const char *why = member_message_invalid(bytes);
    if (why != NULL) {
        net_drop(group->lane, peer, why);
        return NET_TAKEN;
    }
    group->now_us = clock_mono_us();
    member_received(&group->member, peer, bytes.data, group->now_us, &group->actions);
    follow(group);
    return NET_TAKEN;
}

static void on_up(void *user, unsigned peer, uint64_t incarnation)
{
    struct group *group = user;
    log_note("connected to node %u (incarnation %llu) over %s", peer,
             (unsigned long long)incarnation, net_is_rdma(group->lane, peer) ? "rdma" : "tcp");
}

static void on_down(void *user, unsigned peer, uint64_t incarnation, const char *why)
{
    (void)user;
    (void)incarnation;
    log_note("connection to node %u is down: %s", peer, why);
}

static void on_writable(void *user, unsigned peer)
{
    (void)user;
    (void)peer;
}

static const struct net_callbacks callbacks = {
    .on_message = on_message,
    .on_up = on_up,
    .on_down = on_down,
    .on_writable = on_writable,
};

/* ---- ticks ---- */

/* A node with less memory than the group's data can never be filled: nothing moves until somebody
 * does something. */
static bool tell_no_room(struct group *group, const struct stats_heal *heal)
{
    if (!heal->no_room || heal->received > group->told_received)
        return false;
    if (group->told_no_room && group->now_us - group->told_us < NO_ROOM_US)
        return true;
    group->told_no_room = true;
    group->told_us = group->now_us;
    log_warn("healing cannot go on: this node's store is full with %llu MB of the group's data; "
             "start it with a larger -m, or delete",
             (unsigned long long)heal->received_bytes >> 20);
    return true;
}

static void tell_progress(struct group *group)
{
    struct stats_heal heal;
    if (group->healing_since_us == 0 || group->now_us - group->told_us < PROGRESS_US)
        return;
    stats_heal(group->node, &heal);
    if (tell_no_room(group, &heal))
        return;
    group->told_us = group->now_us;
    group->told_received = heal.received;
    log_note("healing for %llu ms: %u of %u shards left, %llu records and %llu bytes received, "
             "%llu own ones checked",
             (unsigned long long)(group->now_us - group->healing_since_us) / 1000,
             heal.healing_count, group->node->worker_count, (unsigned long long)heal.received,
             (unsigned long long)heal.received_bytes, (unsigned long long)heal.checked);
}

/* A cold start waits for all members of the last view; the operator must know for whom. */
static void tell_awaited(struct group *group)
{
    char names[16];
    bool all_blank = false;
    uint8_t nodes = member_awaits(&group->member, &all_blank);
    if (nodes == 0 && !all_blank) {
        group->awaits_since_us = 0;
        return;
    }
    if (group->awaits_since_us == 0)
        group->awaits_since_us = group->awaited_us = group->now_us;
    if (group->now_us - group->awaited_us < AWAITS_US)
        return;
    group->awaited_us = group->now_us;
    if (all_blank)
        log_warn("start: all members of the last view are here, but none holds a whole log: each "
                 "is damaged or empty. Restore a "
                 "directory, or --force-members decides whose logs to go on with: keys that were "
                 "overwritten or deleted lately may "
                 "come back with older values");
    else if (member_agreed_epoch(&group->member) == 0)
        log_warn("start: waiting for node %s: the first start of a group takes all its nodes (or "
                 "--force-members, if the others never held data)",
                 node_names(nodes, names));
    else
        log_warn("start: waiting for node %s of the last view (or --force-members: what only they "
                 "knew is lost)",
                 node_names(nodes, names));
}

/* Without a majority nothing is agreed upon and nobody serves; nobody else would say so. */
static void tell_leaderless(struct group *group)
{
    const struct options *options = &group->node->options;
    uint64_t told_us = group->told_leaderless_us;
    if (group->raft == NULL || group->leaderless_us == 0 ||
        group->now_us - group->leaderless_us < LEADERLESS_US ||
        (told_us != 0 && group->now_us - told_us < LEADERLESS_AGAIN_US))
        return;
    group->told_leaderless_us = group->now_us;
    uint8_t away = 0;
    unsigned here = 1;
    for (uint32_t i = 0; i < options->peer_count; i++) {
        unsigned id = options->peers[i].id;
        bool up = id != options->self && net_is_up(group->lane, id);
        here += up;
        if (!up && id != options->self)
            away |= node_bit(id);
    }
    char names[16];
    if (here <= options->peer_count / 2)
        log_warn("not serving: no connection to node %s; it takes %u of the %u nodes. Are they "
                 "running, reachable as --peers says, and is none refused (a line above)?",
                 node_names(away, names), options->peer_count / 2 + 1, options->peer_count);
    else
        log_warn("not serving: %u of the %u nodes are connected, but they agree on no leader. Can "
                 "they reach each other at the port 10000 away from that in --peers?",
                 here, options->peer_count);
}

/* The leader's log has the reason, as for whom a start waits; this one has to say where to look. */
static void tell_absent(struct group *group)
{
    struct node_view now;
    unsigned self = group->node->options.self;
    node_view_any(group->node, &now);
    bool absent = group->leader != 0 && group->leader != self &&
                  ((now.view.members | now.view.healing) & node_bit(self)) == 0;
    if (!absent) {
        group->absent_us = group->told_absent_us = 0;
        return;
    }
    if (group->absent_us == 0)
        group->absent_us = group->now_us;
    uint64_t since_us = group->told_absent_us != 0 ? group->told_absent_us : group->absent_us;
    uint64_t wait_us = group->told_absent_us != 0 ? LEADERLESS_AGAIN_US : LEADERLESS_US;
    if (group->now_us - since_us < wait_us)
        return;
    group->told_absent_us = group->now_us;
    log_warn("not serving: node %u, which leads, has not taken this node in yet; its log says why",
             group->leader);
}

void group_flush(struct group *group)
{
    if (group->lane != NULL)
        net_flush(group->lane);
}

void group_tick(struct group *group)
{
    uint64_t heard_us[MEMBER_LIMIT] = {0};
    group->now_us = clock_mono_us();
    for (unsigned id = 1; group->node->net != NULL && id < MEMBER_LIMIT; id++) {
        if (id != group->node->options.self)
            heard_us[id] = net_heard_ns_any(group->node->net, id) / 1000;
    }
    member_tick(&group->member, group->now_us, heard_us, &group->actions);
    follow(group);
    tell_progress(group);
    tell_awaited(group);
    tell_leaderless(group);
    tell_absent(group);
}

static void on_healed(struct group *group, unsigned shard, uint32_t epoch)
{
    group->healed_epoch[shard] = epoch;
    for (unsigned i = 0; i < group->node->worker_count; i++) {
        if (group->healed_epoch[i] != epoch)
            return;
    }
    log_note("all shards have what they missed; asking for membership");
    group->now_us = clock_mono_us();
    member_all_healed(&group->member, epoch, group->now_us, &group->actions);
}

void group_read_letter(struct group *group, const struct letter *letter)
{
    if (letter->type == LETTER_HEALED)
        on_healed(group, letter->shard, letter->epoch);
    else if (letter->type == LETTER_SUSPECT)
        member_suspects(&group->member, letter->nodes, letter->epoch, clock_mono_us(),
                        &group->actions);
}

/* ---- opening ---- */

/* What the logs say: the newest epoch they remember, and whether they are good for a cold start. */
static void look_at_logs(const struct node *node, uint32_t *last_epoch, bool *blank)
{
    bool damaged = node->options.recovery_full, empty = true;
    *last_epoch = 0;
    for (unsigned i = 0; i < node->worker_count; i++) {
        const struct worker *worker = &node->workers[i];
        damaged = damaged || worker->damaged;
        empty = empty && worker->empty;
        if (worker->last_epoch > *last_epoch)
            *last_epoch = worker->last_epoch;
        if (worker->damaged && *last_epoch == 0)
            *last_epoch = 1; /* it is no new node, though its log does not say so any more */
    }
    *blank = node->net != NULL && (damaged || empty);
}

static enum status open_raft(struct group *group, struct event_base *base)
{
    const struct options *options = &group->node->options;
    char why[512] = "", directory[4200];
    struct raft_driver_options raft = {
        .self = options->self,
        .peer_count = options->peer_count,
        .directory = options->data != NULL ? directory : NULL,
        .election_ms = options->election_ms,
        .heartbeat_ms = options->election_ms / HEARTBEATS_PER_ELECTION,
        .configuration = options_cluster_hash(options),
        .secret = options->secret[0] != 0 ? options->secret : NULL,
    };
    snprintf(directory, sizeof(directory), "%s/raft", options->data != NULL ? options->data : "");
    for (uint32_t i = 0; i < options->peer_count; i++) {
        const struct options_address *peer = &options->peers[i];
        raft.peers[i] =
            (struct raft_driver_peer){.id = peer->id, .host = peer->host, .port = peer->port};
    }
    enum status status =
        raft_driver_open(&group->raft, base, &raft, &raft_callbacks, group, why, sizeof(why));
    if (status != STATUS_OK)
        log_error("membership: %s", why);
    return status;
}

enum status group_open(struct group *group, struct node *node, struct event_base *base)
{
    const struct options *options = &node->options;
    struct member_options member = {
        .self = options->self,
        .incarnation = node->directory.node.incarnation,
        .configured = options->configured,
        .force_members = options->force_members,
        .lease_us = (uint64_t)options->lease_ms * 1000,
        .suspect_us = (uint64_t)options->suspect_ms * 1000,
        .election_us = (uint64_t)options->election_ms * 1000,
        .boot_grace_us = 2 * (uint64_t)(options->suspect_ms + options->election_ms) * 1000,
        .boot_by_majority = options->data == NULL,
        .drift_ppm = DRIFT_PPM,
    };
    look_at_logs(node, &member.last_epoch, &member.blank);
    *group = (struct group){.node = node, .now_us = clock_mono_us()};
    group->leaderless_us = group->now_us;
    group->actions = (struct member_actions){.send = on_send,
                                             .propose = on_propose,
                                             .install = on_install,
                                             .removed = on_removed,
                                             .user = group};
    member_init(&group->member, &member);
    if (node->net == NULL)
        return STATUS_OK;
    enum status status =
        net_lane_open(node->net, node->worker_count, base, &callbacks, group, &group->lane);
    if (status != STATUS_OK)
        return status;
    status = open_raft(group, base);
    if (status != STATUS_OK)
        net_lane_close(group->lane);
    return status;
}

void group_close(struct group *group)
{
    raft_driver_close(group->raft);
    net_lane_close(group->lane);
}
