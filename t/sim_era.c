/* Runs in which the whole group may lose power, in models that then may lose what was answered
 * (scenario blackout).
 *
 * A group that begins anew with what its logs still hold begins an era: nobody serves before all
 * agree on what that is, so there is one moment at which each key has one value everywhere, and no
 * command of the era before can still change it. The judge takes each era by itself, beginning with
 * the values of that moment, exactly. And those values are no older than what the model had
 * promised to keep: what was answered (synch, strict), read (synch, read-enforced), or answered
 * before a persist. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "t/sim.h"

/* A view is about to be installed for the first time: does anybody who lived in the one before go
 * on in it? */
void sim_era_view(struct sim *sim, const struct view *view)
{
    const struct view *former = &sim->newest;
    bool goes_on = former->epoch == 0;
    for (unsigned node = 1; node <= sim->profile.node_count; node++)
        goes_on |= ((former->members | former->healing) & view->members & node_bit(node)) != 0 &&
                   former->incarnation[node] == view->incarnation[node];
    sim->cold_starts += !goes_on;
}

static bool is_cold(const struct sim_shard *shard)
{
    struct shard_stats stats;
    shard_stats(shard->shard, &stats);
    return stats.cold;
}

static bool is_forgotten(const struct sim *sim, unsigned number, uint64_t ts)
{
    for (unsigned node = 1; node <= sim->profile.node_count; node++)
        if (ts_version(ts) <= sim->nodes[node].shards[number].floor)
            return true;
    return false;
}

/* What the key holds, as a set that comes before everything. */
static struct sim_operation value_of(struct sim *sim, const struct sim_shard *shard, unsigned key,
                                     uint64_t *ts)
{
    struct sim_operation set = {
        .type = REQUEST_SET, .outcome = OUTCOME_STORED, .key = (uint16_t)key};
    char text[SIM_KEY_SIZE + 1];
    struct slice name = sim_key_name(key, text);
    struct found found;
    *ts = 0;
    if (!store_find(shard->store, name, hash_key(name), &found) ||
        found.record->kind == RECORD_DISCARD)
        return (struct sim_operation){.type = REQUEST_GET};
    *ts = found.record->ts;
    if (found.record->kind != RECORD_VALUE)
        return (struct sim_operation){.type = REQUEST_GET};
    assert(record_value(found.record).size <= SIM_VALUE_SIZE_MAX);
    set.flags = record_client_flags(found.record);
    set.exptime = record_exptime(found.record);
    set.result_cas = record_cas(found.record);
    set.value.size = (uint8_t)record_value(found.record).size;
    memcpy(set.value.bytes, record_value(found.record).data, set.value.size);
    (void)sim;
    return set;
}

static void draft(struct sim *sim, const struct sim_shard *shard, struct sim_era *era)
{
    era->cold_start = sim->cold_starts;
    era->stamp = sim->stamp += 2;
    for (unsigned key = 0; key < sim->profile.key_count; key++)
        era->values[key] = value_of(sim, shard, key, &era->ts[key]);
}

bool sim_era_before_step(struct sim *sim, const struct sim_shard *shard)
{
    if (!sim->profile.blackout || !is_cold(shard))
        return false;
    draft(sim, shard, &sim->era_draft);
    return true;
}

/* The first who serves: the era begins with what it found before that step. */
void sim_era_after_step(struct sim *sim, const struct sim_shard *shard)
{
    struct sim_eras *eras = &sim->eras[shard->number];
    if (is_cold(shard) ||
        (eras->count > 0 && eras->list[eras->count - 1].cold_start == sim->cold_starts) ||
        sim->cold_starts == 0)
        return;
    assert(eras->count < SIM_ERAS_MAX);
    eras->list[eras->count++] = sim->era_draft;
    for (unsigned key = 0; key < sim->profile.key_count; key++) {
        uint64_t ts = sim->era_draft.ts[key], promised = sim->promised[shard->number][key];
        if (sim_key_shard(sim, key) == shard->number && ts < promised &&
            !is_forgotten(sim, shard->number, promised))
            sim_fail(sim,
                     "after all lost power key %u has ts %" PRIu64 ".%u.%u, and %" PRIu64
                     ".%u.%u was promised to outlive that",
                     key, ts_version(ts), ts_node(ts), ts_incarnation(ts), ts_version(promised),
                     ts_node(promised), ts_incarnation(promised));
    }
}

/* Commands of `list` that belong to the era: answered in it, or not at all and begun in it or in
 * the one before (then they may have waited for it to begin). `copies` has room for one more. */
size_t sim_era_cut(const struct sim *sim, unsigned key, unsigned number,
                   const struct sim_operation *const *list, size_t count,
                   struct sim_operation *copies)
{
    const struct sim_eras *eras = &sim->eras[sim_key_shard(sim, key)];
    uint64_t begin = number == 0 ? 0 : eras->list[number - 1].stamp;
    uint64_t former = number < 2 ? 0 : eras->list[number - 2].stamp;
    uint64_t end = number == eras->count ? UINT64_MAX : eras->list[number].stamp;
    size_t taken = 0;
    if (begin > 0 && eras->list[number - 1].values[key].type == REQUEST_SET) {
        copies[taken] = eras->list[number - 1].values[key];
        copies[taken].invoked = begin - 1;
        copies[taken++].answered = begin;
    }
    for (size_t i = 0; i < count; i++) {
        bool unknown = list[i]->answered == UINT64_MAX;
        if (unknown ? list[i]->invoked > end || list[i]->invoked <= former
                    : list[i]->answered > end || list[i]->answered <= begin)
            continue;
        copies[taken] = *list[i];
        if (copies[taken].invoked <= begin)
            copies[taken].invoked = begin + 1;
        taken++;
    }
    return taken;
}
