/* One run, from its options to its verdict. */
#include <assert.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "t/sim.h"

enum {
    SETTLE_US = 20000000, /* after the faults, all must be at rest within */
    FIRST_FAULT_US = 300000,
    /* of real time: only a run that hangs needs them, so that the verdict does not depend on
     * them */
    SECONDS_MAX = 60,
};

static struct sim *running;

/* An assertion of the code under test is a finding. (glibc's assert() calls this.) */
void __assert_fail(const char *expression, const char *file, unsigned line, const char *function)
    __attribute__((noreturn));
void __assert_fail(const char *expression, const char *file, unsigned line, const char *function)
{
    if (running != NULL)
        sim_fail(running, "assertion: %s:%u: %s: %s", file, line, function, expression);
    fprintf(stderr, "%s:%u: %s: %s\n", file, line, function, expression);
    abort();
}

static void on_signal(int number)
{
    if (running == NULL)
        _Exit(3);
    snprintf(running->reason, sizeof(running->reason), "%s",
             number == SIGALRM ? "hangs: a step does not end" : "crash: bad memory access");
    siglongjmp(running->out, 1);
}

static void catch_signals(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGALRM};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &action, NULL);
}

/* ---- dispatch ---- */

static void on_turn(struct sim *sim, const struct sim_event *event)
{
    sim_worker_turn(sim, event->a, event->shard);
}

static void on_drained(struct sim *sim, const struct sim_event *event)
{
    sim_worker_drained(sim, event->a, event->shard);
}

static void on_tick(struct sim *sim, const struct sim_event *event)
{
    sim_node_tick(sim, event->a);
}

static void on_soon(struct sim *sim, const struct sim_event *event)
{
    struct event tick = {.type = EVENT_TICK};
    sim->nodes[event->a].shards[event->shard].soon_pending = false;
    sim_worker_step(sim, event->a, event->shard, &tick);
}

static void on_view(struct sim *sim, const struct sim_event *event)
{
    sim_node_mail(sim, event->a, event->shard, event->pointer);
    free(event->pointer);
}

static void on_request(struct sim *sim, const struct sim_event *event)
{
    sim_worker_request(sim, event->a, event->pointer);
}

static void on_read(struct sim *sim, const struct sim_event *event)
{
    sim_reader_end(sim, event->a, event->pointer);
}

static void on_answer(struct sim *sim, const struct sim_event *event)
{
    sim_worker_answer(sim, event->a, event->pointer);
}

static void on_resume(struct sim *sim, const struct sim_event *event)
{
    sim_network_wake(sim, event->a);
}

static void on_pump(struct sim *sim, const struct sim_event *event)
{
    if (sim->channels[event->shard][event->a][event->b].pump_at == event->at)
        sim_network_pump(sim, event->shard, event->a, event->b);
}

static void on_connect(struct sim *sim, const struct sim_event *event)
{
    unsigned low = event->a < event->b ? event->a : event->b, high = event->a ^ event->b ^ low;
    if (sim->links[event->shard][low][high].generation == event->generation)
        sim_network_connect(sim, event->shard, event->a, event->b);
}

static void on_control(struct sim *sim, const struct sim_event *event)
{
    if (sim_running(sim, event->b) && sim_reaches(sim, event->a, event->b))
        sim_node_received(sim, event->b, event->a, event->pointer);
    free(event->pointer);
}

static void on_client(struct sim *sim, const struct sim_event *event)
{
    sim_client_next(sim, event->a);
}

static void on_patience(struct sim *sim, const struct sim_event *event)
{
    sim_client_patience(sim, event->a, event->generation);
}

static void on_start(struct sim *sim, const struct sim_event *event)
{
    if (!sim->nodes[event->a].up && sim->nodes[event->a].life == event->generation)
        sim_node_start(sim, event->a);
}

static void on_heal(struct sim *sim, const struct sim_event *event)
{
    (void)event;
    sim_nemesis_heal(sim);
}

static void on_fault(struct sim *sim, const struct sim_event *event)
{
    (void)event;
    sim_nemesis_next(sim);
}

static void on_consensus(struct sim *sim, const struct sim_event *event)
{
    (void)event;
    sim_consensus_turn(sim);
}

static void on_commit(struct sim *sim, const struct sim_event *event)
{
    sim_consensus_commit(sim, event->pointer);
}

static void on_strike(struct sim *sim, const struct sim_event *event)
{
    if (sim->nodes[event->a].life == event->generation)
        sim_nemesis_crash(sim, event->a, event->b != 0);
}

static void on_cut(struct sim *sim, const struct sim_event *event)
{
    if (!sim->settling)
        sim_network_reset(sim, event->shard, event->a, event->b, false);
}

/* What happens inside a node, `of_node`, does not happen when that is down, or had to start again,
 * and waits while it is paused. */
static const struct kind {
    void (*handle)(struct sim *sim, const struct sim_event *event);
    bool of_node;
} kinds[] = {
    [SIM_EVENT_TURN] = {on_turn, true},        [SIM_EVENT_DRAINED] = {on_drained, true},
    [SIM_EVENT_TICK] = {on_tick, true},        [SIM_EVENT_SOON] = {on_soon, true},
    [SIM_EVENT_VIEW] = {on_view, true},        [SIM_EVENT_REQUEST] = {on_request, true},
    [SIM_EVENT_READ] = {on_read, true},        [SIM_EVENT_ANSWER] = {on_answer, true},
    [SIM_EVENT_RESUME] = {on_resume, true},    [SIM_EVENT_PUMP] = {on_pump, false},
    [SIM_EVENT_CONNECT] = {on_connect, false}, [SIM_EVENT_CONTROL] = {on_control, false},
    [SIM_EVENT_CLIENT] = {on_client, false},   [SIM_EVENT_PATIENCE] = {on_patience, false},
    [SIM_EVENT_START] = {on_start, false},     [SIM_EVENT_HEAL] = {on_heal, false},
    [SIM_EVENT_FAULT] = {on_fault, false},     [SIM_EVENT_CONSENSUS] = {on_consensus, false},
    [SIM_EVENT_COMMIT] = {on_commit, false},   [SIM_EVENT_STRIKE] = {on_strike, false},
    [SIM_EVENT_CUT] = {on_cut, false},
};

/* All that happens to a paused node happens when it goes on. */
static void put_off(struct sim *sim, const struct sim_event *event)
{
    struct sim_event *later = sim_at(sim, sim->nodes[event->a].paused_until, event->type);
    uint64_t at = later->at, number = later->number;
    *later = *event;
    later->at = at;
    later->number = number;
}

static void dispatch(struct sim *sim, const struct sim_event *event)
{
    const struct kind *kind = &kinds[event->type];
    const struct sim_node *n = &sim->nodes[event->a];
    bool gone = kind->of_node && (n->life != event->generation || !n->up);
    if (gone && event->type == SIM_EVENT_VIEW)
        free(event->pointer);
    if (gone)
        return;
    if (kind->of_node && n->paused_until > sim->now)
        put_off(sim, event);
    else
        kind->handle(sim, event);
}

/* ---- a run ---- */

static void prepare(struct sim *sim)
{
    const struct sim_profile *p = &sim->profile;
    sim->configured = (uint8_t)((1u << p->node_count) - 1);
    for (unsigned node = 1; node <= p->node_count; node++) {
        struct sim_node *n = &sim->nodes[node];
        n->sim = sim;
        n->id = (uint8_t)node;
        n->incarnation_next = 1;
        n->drift_ppm = (int32_t)sim_below(sim, 2 * p->drift_ppm + 1) - (int32_t)p->drift_ppm;
        n->wall_offset = (int64_t)sim_below(sim, p->wall_spread_us + 1);
        for (unsigned number = 0; number < p->shard_count; number++) {
            struct sim_shard *shard = &n->shards[number];
            shard->sim = sim;
            shard->node = (uint8_t)node;
            shard->number = (uint8_t)number;
            shard->medium = sim_medium_open(p->segment_size, sim_segment_count(sim, node),
                                            prng_next(&sim->prng));
        }
    }
    for (unsigned shard = 0; shard < SIM_SHARD_MAX; shard++)
        for (unsigned from = 0; from < SIM_NODE_LIMIT; from++)
            for (unsigned to = 0; to < SIM_NODE_LIMIT; to++) {
                sim->channels[shard][from][to].pump_at = SIM_FOREVER;
                sim->channels[shard][from][to].slowness =
                    sim_chance(sim, p->slow_link_percent) ? p->slow_factor : 1;
            }
    for (unsigned node = 1; node <= p->node_count; node++)
        sim_network_reset_node(sim, node); /* which begins to dial */
    for (unsigned node = 1; node <= p->node_count; node++) {
        struct sim_event *event = sim_at(sim, sim_below(sim, 50000), SIM_EVENT_START);
        event->a = (uint8_t)node;
        event->generation = 0;
    }
    sim_at(sim, 0, SIM_EVENT_CONSENSUS);
    sim_at(sim, FIRST_FAULT_US + sim_below(sim, p->fault_gap_us), SIM_EVENT_FAULT);
    sim_clients_start(sim);
}

/* True: the run is over and all is well. */
static bool ended(struct sim *sim, const struct sim_event *event)
{
    char why[256];
    if (!sim->settling && sim->now >= sim->profile.safety_us)
        sim_nemesis_end(sim);
    if (!sim->settling || event->type != SIM_EVENT_CONSENSUS)
        return false;
    bool rests = sim_check_at_rest(sim, why, sizeof(why));
    if (!rests && sim->now > sim->profile.safety_us + SETTLE_US)
        sim_fail(sim, "not at rest %u s after the last fault: %s", SETTLE_US / 1000000, why);
    if (!rests)
        return false;
    if (!sim->final) {
        sim_client_final_reads(sim);
        return false;
    }
    sim_check_history(sim);
    return true;
}

static void run(struct sim *sim)
{
    struct sim_event event;
    if (!sim_profile_draw(sim))
        sim_fail(sim, "no such scenario or model: %s, %s", sim->options.scenario,
                 sim->options.model);
    prepare(sim);
    while (sim_next(sim, &event)) {
        dispatch(sim, &event);
        if (ended(sim, &event))
            return;
    }
    sim_fail(sim, "nothing happens any more");
}

static void free_all(struct sim *sim)
{
    struct sim_event event;
    while (sim_next(sim, &event))
        if (event.type == SIM_EVENT_CONTROL || event.type == SIM_EVENT_VIEW)
            free(event.pointer);
    for (unsigned node = 1; node <= sim->profile.node_count; node++) {
        if (sim->nodes[node].up)
            sim_worker_drop_calls(sim, node);
        sim_node_free(sim, node);
        for (unsigned shard = 0; shard < sim->profile.shard_count; shard++) {
            struct medium *medium = sim->nodes[node].shards[shard].medium;
            if (medium != NULL)
                medium->ops->close(medium);
            sim_node_forget(&sim->nodes[node].shards[shard]);
            for (unsigned peer = 1; peer <= sim->profile.node_count; peer++) {
                struct sim_channel *channel = &sim->channels[shard][node][peer];
                (void)sim_queue_cut(&channel->queue, 0, 0);
            }
        }
    }
    sim_consensus_free(sim);
    free(sim->history);
    free(sim->larges);
    free(sim->heap);
}

static void summarize(const struct sim *sim, struct sim_result *result)
{
    const struct sim_profile *p = &sim->profile;
    snprintf(result->summary, sizeof(result->summary),
             "%s, %" PRIu64
             " persists, %u nodes, %u shards, %u keys, %u clients, %.1f s: %u commands (%" PRIu64
             " refused, %" PRIu64 " unknown, %" PRIu64 " local reads, %" PRIu64
             " by other workers, %" PRIu64 " late leases), %" PRIu64 " steps, %" PRIu64
             " messages, epoch %u; crashes %" PRIu64 " wipes %" PRIu64 " corruptions %" PRIu64
             " power cuts %" PRIu64 " pauses %" PRIu64 " resets %" PRIu64 " partitions %" PRIu64
             " removals %" PRIu64 "; cleaned %" PRIu64 ", forgotten %" PRIu64 ", evicted %" PRIu64
             ", judge %" PRIu64,
             model_name(p->model), sim->persists, p->node_count, p->shard_count, p->key_count,
             p->client_count, (double)sim->now / 1e6, sim->operation_count, sim->refused,
             sim->unknown, sim->local_reads, sim->elsewhere_reads, sim->late_leases, sim->steps,
             sim->messages, sim->newest.epoch, sim->crashes, sim->wipes, sim->corruptions,
             sim->power_cuts, sim->pauses, sim->resets, sim->partitions, sim->removals,
             sim->cleaned_bytes, sim->forgotten, sim->evictions, sim->judge_steps);
}

void sim_run(const struct sim_options *options, struct sim_result *result)
{
    struct sim *sim = calloc(1, sizeof(*sim));
    assert(sim != NULL);
    catch_signals();
    sim->options = *options;
    sim->prng.state = options->seed;
    sim->hash = options->seed;
    *result = (struct sim_result){0};
    running = sim;
    if (options->trace)
        setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    alarm(SECONDS_MAX);
    if (sigsetjmp(sim->out, 0) == 0) {
        run(sim);
        result->passed = true;
        for (unsigned node = 1; node <= sim->profile.node_count; node++)
            sim_node_count(sim, node);
    }
    alarm(0);
    running = NULL;
    result->hash = sim->hash;
    result->steps = sim->steps;
    result->operations = sim->operation_count;
    memcpy(result->reason, sim->reason, sizeof(result->reason));
    summarize(sim, result);
    if (result->passed) /* after a jump out, structures may be torn: left alone */
        free_all(sim);
    if (result->passed)
        free(sim);
}
