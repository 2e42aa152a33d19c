/* Reads by another worker of the same node (replica/reading.h): one that is stopped between finding
 * a record and copying it, while the owner goes on, however long: the node may be removed
 * meanwhile, and be back. */
#include <inttypes.h>

#include "t/sim.h"

/* Who was inside when the log asked, and still is. */
static bool is_read(const struct sim *sim, const struct sim_shard *shard)
{
    for (const struct sim_call *call = sim->nodes[shard->node].calls; call != NULL;
         call = call->next)
        if (call->inside && call->shard == shard->number && call->inside_since < shard->grace_asked)
            return true;
    return false;
}

void sim_reader_pass_grace(struct sim *sim, struct sim_shard *shard)
{
    struct log *log = store_log(shard->store);
    if (shard->grace == 0) {
        shard->grace = log_grace_ask(log);
        shard->grace_asked++;
    }
    if (shard->grace == 0 || is_read(sim, shard))
        return;
    log_grace_pass(log, shard->grace);
    shard->grace = 0;
}

bool sim_reader_begin(struct sim *sim, unsigned node, struct sim_call *call)
{
    struct sim_shard *shard = &sim->nodes[node].shards[call->shard];
    uint32_t now = (uint32_t)(sim_wall(sim, node) / 1000000);
    if (sim->profile.elsewhere_percent == 0 || call->upload != NULL || call->download != NULL ||
        call->tries > 0 || !sim_chance(sim, sim->profile.elsewhere_percent) ||
        !shard_read_begin_any(shard->shard, &call->request, now, &call->reading))
        return false;
    uint64_t delay = sim_below(sim, 300);
    if (!sim->settling && sim_chance(sim, 10))
        delay = sim_below(sim, sim->profile.elsewhere_max_us);
    sim_check_reply(sim, node, call, OUTCOME_HIT, true); /* what is answered later is true now */
    call->tries++;
    call->waits = true;
    call->inside = true;
    call->inside_since = shard->grace_asked;
    struct sim_event *event = sim_at(sim, sim->now + delay, SIM_EVENT_READ);
    event->a = (uint8_t)node;
    event->shard = call->shard;
    event->generation = sim->nodes[node].life;
    event->pointer = call;
    sim_note(sim, delay,
             "%u.%u FOUND by another worker, for client %u: key '%s' ts %" PRIu64
             ".%u.%u, goes on after %" PRIu64 " us",
             node, call->shard, call->client, call->key, ts_version(call->reading.found.record->ts),
             ts_node(call->reading.found.record->ts),
             ts_incarnation(call->reading.found.record->ts), delay);
    return true;
}

void sim_reader_end(struct sim *sim, unsigned node, struct sim_call *call)
{
    struct sim_shard *shard = &sim->nodes[node].shards[call->shard];
    uint32_t now = (uint32_t)(sim_wall(sim, node) / 1000000);
    const struct record *record = call->reading.found.record;
    bool whole = record_value(record).size <= SIM_VALUE_SIZE_MAX &&
                 slice_equal(record_key(record), call->request.key);
    if (!whole)
        sim_fail(sim, "node %u: the record that a reader has found is no more", node);
    call->result_cas = record_cas(record);
    sim_worker_take_result(call, record);
    bool read = sim_lease_holds(sim, node, sim->now) &&
                shard_read_end_any(shard->shard, &call->request, now, &call->reading);
    call->inside = false;
    sim_note(sim, read, "%u.%u %s for client %u", node, call->shard,
             read ? "READ by another worker" : "to be read by the owner", call->client);
    if (!read) {
        sim_worker_request(sim, node, call);
        return;
    }
    sim->elsewhere_reads++;
    call->outcome = OUTCOME_HIT;
    sim_worker_answer(sim, node, call);
}
