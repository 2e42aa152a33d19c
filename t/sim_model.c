/* The persistency models: which one a run has, what its answers promise, and what may lose power in
 * it. The checks look at the durable part of the logs, as the shadows know it, not at the code's
 * own word. */
#include <inttypes.h>
#include <string.h>

#include "t/sim.h"

/* By chance of its own: the rest of the draw does not depend on it. */
bool sim_model_draw(struct sim *sim)
{
    static const unsigned percents[] = {0, 0, 2, 10};
    struct sim_profile *p = &sim->profile;
    struct prng prng = {sim->options.seed ^ 0x90de15};
    const char *name = sim->options.model;
    if (name == NULL)
        return true;
    p->persist_percent = percents[prng_below(&prng, 4)];
    p->model = (enum model)prng_below(&prng, MODEL_COUNT);
    return strcmp(name, "any") == 0 || model_parse(name, &p->model);
}

static bool is_early(const struct sim *sim)
{
    return model_is_early(model_row(sim->profile.model));
}

/* ---- what may lose power ---- */

static bool is_settled(const struct sim *sim, const struct sim_node *n)
{
    for (unsigned number = 0; number < sim->profile.shard_count; number++) {
        struct shard_stats stats;
        shard_stats(n->shards[number].shard, &stats);
        if (stats.cold)
            return false;
    }
    return true;
}

/* Another member lives on with everything that was answered, or read. Else the node is only killed:
 * what a group loses that is without power altogether is judged by itself (scenario blackout). */
bool sim_model_may_lose_power(const struct sim *sim, unsigned node)
{
    if (!is_early(sim) || sim->profile.blackout)
        return true;
    if (sim_view_is_changing(sim))
        return false;
    for (unsigned other = 1; other <= sim->profile.node_count; other++) {
        const struct sim_node *n = &sim->nodes[other];
        bool member = (sim->newest.members & node_bit(other)) != 0 &&
                      sim->newest.incarnation[other] == n->incarnation;
        if (other != node && n->up && member && is_settled(sim, n))
            return true;
    }
    return false;
}

/* ---- what an answer promises ---- */

/* Who has left meanwhile heals anew, and may be given an older record on the way: it no longer
 * counts. */
static bool counts(const struct sim *sim, const struct sim_shard *own, unsigned member)
{
    return (own->view.members & sim->newest.members & node_bit(member)) != 0 &&
           sim->newest.incarnation[member] == own->view.incarnation[member] &&
           !sim->nodes[member].damaged;
}

static uint64_t newest_ts(const struct sim_shadow *shadow)
{
    uint64_t ts = shadow->ts;
    for (unsigned i = 0; i < shadow->count; i++)
        ts = shadow->appends[i].ts > ts ? shadow->appends[i].ts : ts;
    return ts;
}

/* A tombstone that was there, and may go since all have it. */
static bool is_forgotten(const struct sim_shard *shard, const struct sim_shadow *shadow,
                         uint64_t ts)
{
    return (shadow->kind == 0 || shadow->kind == RECORD_DISCARD || shadow->appends[0].ts == 0) &&
           ts_version(ts) <= shard->floor;
}

static void check_everywhere(struct sim *sim, const struct sim_shard *own, unsigned key,
                             uint64_t ts, bool durable, const char *what)
{
    for (unsigned member = 1; member <= sim->profile.node_count; member++) {
        const struct sim_shard *shard = &sim->nodes[member].shards[own->number];
        const struct sim_shadow *shadow = &shard->keys[key];
        /* with what was not durable */
        bool died = sim->nodes[member].incarnation != own->view.incarnation[member];
        if (!counts(sim, own, member) || (died && !durable) || is_forgotten(shard, shadow, ts) ||
            (durable ? shadow->appends[0].ts : newest_ts(shadow)) >= ts)
            continue;
        sim_fail(sim, "node %u %s key %u ts %" PRIu64 ".%u.%u, which is not %s at member %u",
                 own->node, what, key, ts_version(ts), ts_node(ts), ts_incarnation(ts),
                 durable ? "durable" : "there", member);
    }
}

static void promise(struct sim *sim, const struct sim_shard *own, unsigned key, uint64_t ts)
{
    uint64_t *promised = &sim->promised[own->number][key];
    if (ts > *promised)
        *promised = ts;
}

void sim_model_wrote(struct sim *sim, struct sim_shard *own, unsigned key)
{
    struct sim_shadow *shadow = &own->keys[key];
    bool durable = model_row(sim->profile.model)->answered == MODEL_AT_DURABLE;
    check_everywhere(sim, own, key, shadow->own_ts, durable, "acknowledges");
    if (shadow->own_ts > shadow->acked_ts)
        shadow->acked_ts = shadow->own_ts;
    if (durable)
        promise(sim, own, key, shadow->own_ts);
}

void sim_model_read(struct sim *sim, const struct sim_shard *own, unsigned key)
{
    const struct sim_shadow *shadow = &own->keys[key];
    bool durable = model_row(sim->profile.model)->readable == MODEL_AT_DURABLE;
    if (shadow->kind != RECORD_VALUE || shadow->state != STATE_VALID)
        return;
    check_everywhere(sim, own, key, shadow->ts, durable, "answers a read of");
    if (durable)
        promise(sim, own, key, shadow->ts);
}

void sim_model_persist(struct sim_call *call, const struct sim_shard *own)
{
    for (unsigned key = 0; key <= SIM_KEY_MAX; key++) {
        const struct sim_shadow *shadow = &own->keys[key];
        uint64_t valid =
            shadow->kind == RECORD_VALUE && shadow->state == STATE_VALID ? shadow->ts : 0;
        call->persists[key] = valid > shadow->acked_ts ? valid : shadow->acked_ts;
    }
}

void sim_model_persisted(struct sim *sim, const struct sim_call *call, const struct sim_shard *own)
{
    sim->persists++;
    for (unsigned key = 0; key <= SIM_KEY_MAX; key++) {
        check_everywhere(sim, own, key, call->persists[key], true, "has persisted");
        promise(sim, own, key, call->persists[key]);
    }
}
