/* The life of a node: what the control thread of the server does. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "t/sim.h"

enum { INDEX_SIZE = 1 << 16, OP_COUNT_MAX = 64, VALUE_SIZE_MAX = 1024, CHECK_BUDGET = 512 };

/* ---- what the member wants done ---- */

static void on_send(void *user, unsigned to, const struct member_message *message)
{
    struct sim_node *n = user;
    sim_network_control(n->sim, n->id, to, message);
}

static void on_propose(void *user, const struct member_entry *entry)
{
    struct sim_node *n = user;
    sim_consensus_propose(n->sim, n->id, entry);
}

static void send_mail(struct sim_node *n, const struct sim_mail *mail)
{
    struct sim *sim = n->sim;
    for (unsigned number = 0; number < sim->profile.shard_count; number++) {
        struct sim_shard *shard = &n->shards[number];
        uint64_t at = sim->now + sim_below(sim, sim->profile.view_delay_us);
        if (at < shard->view_at)
            at = shard->view_at;
        shard->view_at = at;
        struct sim_mail *copy = malloc(sizeof(*copy));
        assert(copy != NULL);
        *copy = *mail;
        struct sim_event *event = sim_at(sim, at, SIM_EVENT_VIEW);
        event->a = n->id;
        event->shard = (uint8_t)number;
        event->generation = n->life;
        event->pointer = copy;
    }
}

static void fence(struct sim_node *n)
{
    struct sim *sim = n->sim;
    for (unsigned peer = 1; peer <= sim->profile.node_count; peer++) {
        uint64_t until = member_fence(&n->member, peer);
        if (peer == n->id || until <= n->removed[peer])
            continue;
        n->removed[peer] = n->gates[peer].fenced = until;
        bool passes = gate_judge(&n->gates[peer], sim->nodes[peer].incarnation) == HELLO_ACCEPTED;
        for (unsigned shard = 0; shard < sim->profile.shard_count && !passes; shard++)
            sim_network_reset(sim, shard, n->id, peer, false);
    }
}

static void on_install(void *user, const struct view *view)
{
    struct sim_node *n = user;
    struct sim *sim = n->sim;
    sim_note(sim, view->epoch * 64 + view->members, "%u: view %u members %02x healing %02x", n->id,
             view->epoch, view->members, view->healing);
    if (view->epoch > sim->newest.epoch) {
        sim_check_cold(sim, view);
        sim_era_view(sim, view);
        sim->newest = *view;
    }
    if ((view->members & node_bit(n->id)) != 0)
        n->damaged = false;
    send_mail(n, &(struct sim_mail){.view = *view});
    fence(n);
}

static void on_removed(void *user)
{
    struct sim_node *n = user;
    struct sim *sim = n->sim;
    n->incarnation = n->incarnation_next++;
    sim->removals++;
    sim_note(sim, n->id, "%u: was removed, comes back as %" PRIu64, n->id, n->incarnation);
    member_new_incarnation(&n->member, n->incarnation);
    send_mail(n, &(struct sim_mail){.restart = true, .incarnation = n->incarnation});
    sim_network_reset_node(sim, n->id);
}

static void quiet_send(void *user, unsigned to, const struct member_message *message)
{
    (void)user;
    (void)to;
    (void)message;
}

static void quiet_propose(void *user, const struct member_entry *entry)
{
    (void)user;
    (void)entry;
}

static void quiet_install(void *user, const struct view *view)
{
    (void)user;
    (void)view;
}

static void quiet_removed(void *user)
{
    (void)user;
}

/* Node 0: nothing is done. */
struct member_actions sim_node_actions(struct sim *sim, unsigned node)
{
    if (node == 0)
        return (struct member_actions){.send = quiet_send,
                                       .propose = quiet_propose,
                                       .install = quiet_install,
                                       .removed = quiet_removed};
    return (struct member_actions){.send = on_send,
                                   .propose = on_propose,
                                   .install = on_install,
                                   .removed = on_removed,
                                   .user = &sim->nodes[node]};
}

/* ---- start and end ---- */

static void *take_memory(size_t size)
{
    size_t rounded = (size + 63) / 64 * 64;
    void *memory = aligned_alloc(64, rounded);
    assert(memory != NULL);
    memset(memory, 0, rounded);
    return memory;
}

/* False: the memory was zeroed, for a scan. */
static bool take_over(struct sim *sim, struct sim_shard *shard, const struct store_options *options,
                      struct log_report *report)
{
    const struct sim_node *n = &sim->nodes[shard->node];
    uint32_t bad_segment;
    const char *why;
    shard->left = NULL;
    if (!n->damaged && !n->rotten) {
        enum status status = store_take_over(&shard->store, options, report, &bad_segment, &why);
        if (status == STATUS_OK) {
            sim_note(sim, report->record_count, "%u.%u takes its index over", n->id, shard->number);
            return true;
        }
        /* It may die again and again before it has looked at everything. */
        if (strstr(why, "never checked") == NULL)
            sim_fail(sim, "node %u: an index is not taken over: %s", n->id, why);
    }
    memset(options->index, 0, options->index_size);
    return false;
}

static enum status open_store(struct sim *sim, struct sim_shard *shard, struct log_report *report)
{
    static const struct store_keep keep = {.whose = "the simulation"};
    struct log_identity identity = {.cluster = 0x51,
                                    .node = shard->node,
                                    .shard = shard->number,
                                    .shard_count = (uint16_t)sim->profile.shard_count};
    uint64_t index_size =
        store_index_size((uint64_t)sim->profile.segment_size * sim_segment_count(sim, shard->node));
    uint32_t bad_segment;
    shard->store_memory = shard->left != NULL ? shard->left : take_memory(index_size);
    struct store_options options = {
        .log = {.identity = identity,
                .medium = shard->medium,
                .segment_count_max = sim_segment_count(sim, shard->node),
                .readers = true,
                .life = (uint32_t)sim->nodes[shard->node].incarnation},
        .index = shard->store_memory,
        .index_size = index_size,
        .keep = sim->profile.take_percent > 0 ? &keep : NULL};
    shard->took_over = shard->left != NULL && take_over(sim, shard, &options, report);
    if (shard->took_over)
        return STATUS_OK;
    enum status status = store_open(&shard->store, &options, report, &bad_segment);
    if (status != STATUS_OK) {
        shard->store = NULL;
        free(shard->store_memory);
        shard->store_memory = NULL;
    }
    return status;
}

static void close_store(struct sim_shard *shard)
{
    if (shard->store != NULL)
        store_close(shard->store);
    free(shard->store_memory);
    shard->store = NULL;
    shard->store_memory = NULL;
}

void sim_node_forget(struct sim_shard *shard)
{
    free(shard->left);
    shard->left = NULL;
}

/* What an operator does with a disk that is refused: it is replaced. Only a damaged one may be
 * refused. */
static void open_or_replace(struct sim *sim, struct sim_node *n, struct sim_shard *shard,
                            bool *blank)
{
    struct log_report report;
    enum status status = open_store(sim, shard, &report);
    sim_note(sim, (uint64_t)status * 1000 + report.record_count,
             "%u.%u opens its log: %s, %" PRIu64 " records, %" PRIu64 " torn bytes, %u damaged",
             n->id, shard->number, status_text(status), report.record_count, report.torn_bytes,
             report.corrupt_count);
    if (!n->rotten && (status != STATUS_OK || report.corrupt_count > 0))
        sim_fail(sim, "node %u: an undamaged log is refused: %s, %u", n->id, status_text(status),
                 report.corrupt_count);
    *blank |= status != STATUS_OK || report.corrupt_count > 0;
    if (status == STATUS_OK && report.corrupt_count > 0) {
        status = store_drop_marks_nodrain(shard->store);
        if (status != STATUS_OK)
            close_store(shard);
    }
    if (status != STATUS_OK) {
        sim_medium_wipe(shard->medium);
        status = open_store(sim, shard, &report);
        assert(status == STATUS_OK);
    }
}

static void start_shard(struct sim *sim, struct sim_node *n, struct sim_shard *shard, bool full)
{
    struct shard_options options = {
        .self = n->id,
        .incarnation = n->incarnation,
        .configured = sim->configured,
        .number = shard->number,
        .store = shard->store,
        .op_count_max = OP_COUNT_MAX,
        .value_size_max = VALUE_SIZE_MAX,
        .round_us = sim->profile.round_us,
        .ask_us = sim->profile.ask_us,
        .slow_us = sim->profile.slow_us,
        .walk_bytes = sim->profile.walk_bytes,
        .collect_us = sim->profile.collect_us,
        .evicts = sim->profile.evicts,
        .evict_above = sim->profile.evict_above,
        .model = sim->profile.model,
        .full = full,
    };
    shard->shard_memory = take_memory(shard_size(&options));
    shard->shard = shard_init(shard->shard_memory, &options);
    shard->drain_at = SIM_FOREVER;
    shard->grace = 0;
    shard->turn_pending = shard->soon_pending = false;
    shard->view_at = 0;
    shard->healed_epoch = 0;
    shard->view = (struct view){0};
    sim_medium_set_time(shard->medium, sim->now);
    enum status status = log_durable(store_log(shard->store), &shard->durable);
    assert(status == STATUS_OK);
    sim_check_opened(sim, n->id, shard->number);
    shard->durable = shard->proved = 0; /* the shard has to be told */
}

static void start_member(struct sim *sim, struct sim_node *n, bool blank, uint32_t last_epoch)
{
    struct member_options options = {
        .self = n->id,
        .incarnation = n->incarnation,
        .configured = sim->configured,
        .blank = blank,
        .last_epoch = last_epoch,
        .lease_us = sim->profile.lease_us,
        .suspect_us = sim->profile.suspect_us,
        .boot_grace_us = sim->profile.boot_grace_us,
        .election_us = sim->profile.election_us,
        .drift_ppm = 500,
    };
    member_init(&n->member, &options);
    sim_consensus_start(sim, n->id);
}

static void schedule_tick(struct sim *sim, const struct sim_node *n, uint64_t at)
{
    struct sim_event *event = sim_at(sim, at, SIM_EVENT_TICK);
    event->a = n->id;
    event->generation = n->life;
}

void sim_node_start(struct sim *sim, unsigned node)
{
    struct sim_node *n = &sim->nodes[node];
    bool blank = false, marked = false;
    uint32_t last_epoch = 0;
    assert(!n->up);
    n->life++;
    n->upload_version = 0;
    n->incarnation = n->incarnation_next++;
    n->paused_until = 0;
    n->mono_offset = (int64_t)sim_between(sim, 1000000, 100000000);
    memset(n->gates, 0, sizeof(n->gates));
    memset(n->removed, 0, sizeof(n->removed));
    memset(n->met, 0, sizeof(n->met));
    sim_note(sim, n->incarnation, "%u: starts as %" PRIu64, node, n->incarnation);
    for (unsigned number = 0; number < sim->profile.shard_count; number++) {
        struct mark mark;
        open_or_replace(sim, n, &n->shards[number], &blank);
        if (store_mark_last(n->shards[number].store, &mark)) {
            marked = true;
            last_epoch = mark.epoch > last_epoch ? mark.epoch : last_epoch;
        }
    }
    n->rotten = blank;
    bool full = blank || sim_chance(sim, sim->profile.full_percent);
    for (unsigned number = 0; number < sim->profile.shard_count; number++)
        start_shard(sim, n, &n->shards[number], full);
    n->up = true;
    sim->restarts++;
    start_member(sim, n, blank || (n->damaged && !marked), last_epoch);
    schedule_tick(sim, n, sim->now + sim_below(sim, TICK_US));
}

void sim_node_count(struct sim *sim, unsigned node)
{
    for (unsigned number = 0; number < sim->profile.shard_count; number++) {
        struct store_stats stats;
        store_stats(sim->nodes[node].shards[number].store, &stats);
        sim->cleaned_bytes += stats.cleaned_bytes;
    }
}

void sim_node_free(struct sim *sim, unsigned node)
{
    struct sim_node *n = &sim->nodes[node];
    for (unsigned number = 0; number < sim->profile.shard_count; number++) {
        struct sim_shard *shard = &n->shards[number];
        close_store(shard);
        free(shard->shard_memory);
        shard->shard = NULL;
        shard->shard_memory = NULL;
    }
}

/* By chance of its own: the rest of the run draws as it would without. */
static void leave_indexes(struct sim *sim, struct sim_node *n)
{
    struct prng prng = {sim->options.seed ^ n->id << 8 ^ n->incarnation};
    for (unsigned number = 0; number < sim->profile.shard_count; number++) {
        struct sim_shard *shard = &n->shards[number];
        if (!prng_chance(&prng, sim->profile.take_percent))
            continue;
        shard->left = shard->store_memory;
        shard->store_memory = NULL;
        shard->store = NULL;
    }
}

void sim_node_crash(struct sim *sim, unsigned node)
{
    struct sim_node *n = &sim->nodes[node];
    bool power =
        sim_chance(sim, 70) && sim_model_may_lose_power(sim, node) && !sim->profile.only_kills;
    assert(n->up);
    sim_note(sim, node, "%u: %s", node, power ? "loses power" : "is killed");
    n->up = false;
    n->was_killed = !power;
    n->life++;
    n->paused_until = 0;
    sim->crashes++;
    sim_consensus_stop(sim, node);
    sim_network_died(sim, node);
    sim_worker_drop_calls(sim, node);
    sim_node_count(sim, node);
    if (!power)
        leave_indexes(sim, n);
    sim_node_free(sim, node);
    for (unsigned number = 0; number < sim->profile.shard_count; number++) {
        if (power)
            sim_medium_cut(n->shards[number].medium);
        else
            sim_medium_kill(n->shards[number].medium);
    }
}

void sim_node_pause(struct sim *sim, unsigned node, uint64_t until)
{
    struct sim_node *n = &sim->nodes[node];
    if (until <= n->paused_until)
        return;
    n->paused_until = until;
    sim_note(sim, until, "%u: pauses for %" PRIu64 " us", node, until - sim->now);
    struct sim_event *event = sim_at(sim, until, SIM_EVENT_RESUME);
    event->a = n->id;
    event->generation = n->life;
}

/* ---- the control thread's turns ---- */

static void heard_of(const struct sim *sim, unsigned node, uint64_t heard_us[MEMBER_LIMIT])
{
    memset(heard_us, 0, MEMBER_LIMIT * sizeof(heard_us[0]));
    for (unsigned peer = 1; peer <= sim->profile.node_count; peer++) {
        for (unsigned shard = 0; shard < sim->profile.shard_count && peer != node; shard++) {
            uint64_t at = sim->channels[shard][peer][node].heard_us;
            if (shard == 0 || at < heard_us[peer])
                heard_us[peer] = at;
        }
    }
}

/* Of an index that was taken over. */
static void check_some(struct sim *sim, const struct sim_node *n, struct sim_shard *shard)
{
    uint32_t bad_segment;
    if (store_wants_check(shard->store) &&
        store_check(shard->store, CHECK_BUDGET, &bad_segment) != STATUS_OK)
        sim_fail(sim, "node %u: an index that was taken over does not hold", n->id);
}

void sim_node_tick(struct sim *sim, unsigned node)
{
    struct sim_node *n = &sim->nodes[node];
    uint64_t heard_us[MEMBER_LIMIT];
    struct member_actions actions = sim_node_actions(sim, node);
    sim_mix(sim, node);
    sim_network_listen(sim, node);
    heard_of(sim, node, heard_us);
    member_tick(&n->member, sim_mono(sim, node), heard_us, &actions);
    for (unsigned number = 0; number < sim->profile.shard_count; number++) {
        struct event event = {.type = EVENT_TICK};
        sim_worker_notice_lease(sim, node, number);
        check_some(sim, n, &n->shards[number]);
        shard_set_upload_floor(n->shards[number].shard, sim_large_floor(sim, node));
        sim_worker_step(sim, node, number, &event);
        sim_network_retry(sim, number, node);
    }
    sim_check_leases(sim);
    schedule_tick(sim, n, sim->now + TICK_US / 2 + sim_below(sim, TICK_US / 2));
}

void sim_node_received(struct sim *sim, unsigned node, unsigned from,
                       const struct member_message *message)
{
    struct member_actions actions = sim_node_actions(sim, node);
    const char *why = member_message_invalid(slice_make(message, sizeof(*message)));
    if (why != NULL)
        sim_fail(sim, "node %u sent a member message that is refused: %s", from, why);
    sim_mix(sim, message->type * 64u + node * 8 + from);
    member_received(&sim->nodes[node].member, from, message, sim_mono(sim, node), &actions);
}

void sim_node_mail(struct sim *sim, unsigned node, unsigned number, const struct sim_mail *mail)
{
    struct sim_shard *shard = &sim->nodes[node].shards[number];
    struct event event = {.type = mail->restart ? EVENT_RESTART : EVENT_VIEW};
    if (mail->restart) {
        event.incarnation = mail->incarnation;
        shard->view = (struct view){0};
    } else {
        event.view = &mail->view;
        shard->view = mail->view;
    }
    sim_note(sim, mail->view.epoch, "%u.%u %s epoch %u", node, number,
             mail->restart ? "RESTART" : "VIEW", mail->view.epoch);
    sim_worker_step(sim, node, number, &event);
    sim_network_wake(sim, node);
}

void sim_node_healed(struct sim *sim, unsigned node, unsigned number, uint32_t epoch)
{
    struct sim_node *n = &sim->nodes[node];
    n->shards[number].healed_epoch = epoch;
    for (unsigned i = 0; i < sim->profile.shard_count; i++)
        if (n->shards[i].healed_epoch != epoch)
            return;
    struct member_actions actions = sim_node_actions(sim, node);
    member_all_healed(&n->member, epoch, sim_mono(sim, node), &actions);
}

void sim_node_suspects(struct sim *sim, unsigned node, uint8_t nodes, uint32_t epoch)
{
    struct member_actions actions = sim_node_actions(sim, node);
    member_suspects(&sim->nodes[node].member, nodes, epoch, sim_mono(sim, node), &actions);
}
