/* Rules whose breach clients would see only after further accidents: what they promise of the state
 * itself, looked up in the bytes of the logs and in what all nodes hold, without the help of the
 * code that keeps them. */
#include <inttypes.h>

#include "base/hash.h"
#include "t/sim.h"

static struct slice name_of(unsigned key, char text[SIM_KEY_SIZE + 1])
{
    return key == SIM_KEY_MAX ? slice_make("", 0) : sim_key_name(key, text);
}

static bool is_of(const struct record *record, struct slice name)
{
    return record->kind != RECORD_MARK && slice_equal(record_key(record), name);
}

/* The highest lsn of the key's records, 0: none. */
static uint64_t newest_of(const struct log *log, struct slice name, bool *deletes)
{
    uint64_t newest = 0;
    *deletes = false;
    for (uint32_t i = 0; i < log_segment_count(log); i++) {
        const struct record *record;
        uint32_t offset = 0;
        place_t place;
        enum segment_state state = log_segment(log, i)->state;
        /* after a take-over some are still given back */
        bool in_use = state == SEGMENT_OPEN || state == SEGMENT_SEALED;
        while (in_use && (record = log_segment_next(log, i, &offset, &place)) != NULL)
            if (is_of(record, name) && log_lsn(log, place) > newest) {
                newest = log_lsn(log, place);
                *deletes = record->kind == RECORD_TOMBSTONE || record->kind == RECORD_DISCARD;
            }
    }
    return newest;
}

/* An index that was taken over does without what cleaning had dropped from a segment that is still
 * there. */
void sim_rules_opened(struct sim *sim, const struct sim_shard *shard)
{
    const struct log *log = store_log(shard->store);
    for (unsigned key = 0; key <= SIM_KEY_MAX; key++) {
        char text[SIM_KEY_SIZE + 1];
        bool deletes;
        uint64_t newest = newest_of(log, name_of(key, text), &deletes);
        bool dropped = shard->took_over && deletes && shard->keys[key].lsn == 0;
        if (shard->keys[key].lsn != newest && !dropped)
            sim_fail(sim,
                     "node %u: the scan makes lsn %" PRIu64
                     " of key %u current, and its log holds %" PRIu64,
                     shard->node, shard->keys[key].lsn, key, newest);
    }
}

/* Does the segment hold the record `lsn` of the key; and a value of it that is older? */
static void look_into(const struct log *log, uint32_t number, struct slice name, uint64_t lsn,
                      bool *holds, bool *older)
{
    const struct record *record;
    uint32_t offset = 0;
    place_t place;
    *holds = *older = false;
    while ((record = log_segment_next(log, number, &offset, &place)) != NULL) {
        if (!is_of(record, name))
            continue;
        *holds |= log_lsn(log, place) == lsn;
        *older |= record->kind == RECORD_VALUE && log_lsn(log, place) < lsn;
    }
}

/* Here: no scan could bring an older value back, but one that goes together with what voids it.
 * Elsewhere: nobody holds an older value, or it would stay there. Damaged disks are healed in full.
 */
void sim_rules_forgotten(struct sim *sim, const struct sim_shard *shard, unsigned key,
                         const struct sim_shadow *former)
{
    const struct log *log = store_log(shard->store);
    char text[SIM_KEY_SIZE + 1];
    struct slice name = name_of(key, text);
    for (uint32_t i = 0; i < log_segment_count(log); i++) {
        bool holds, older;
        look_into(log, i, name, former->lsn, &holds, &older);
        if (older && !holds)
            sim_fail(sim, "node %u forgets that key %u is gone, and segment %u still holds a value",
                     shard->node, key, i);
    }
    for (unsigned node = 1; node <= sim->profile.node_count; node++) {
        const struct sim_node *n = &sim->nodes[node];
        const struct sim_shadow *theirs = &n->shards[shard->number].keys[key];
        if (former->kind == RECORD_TOMBSTONE && theirs->kind == RECORD_VALUE &&
            theirs->ts < former->ts && !n->damaged && !n->rotten)
            sim_fail(sim,
                     "node %u forgets that key %u was deleted, and node %u still holds a value",
                     shard->node, key, node);
    }
}

static bool heals(const struct sim_shard *shard)
{
    return (shard->view.healing & node_bit(shard->node)) != 0;
}

void sim_rules_inv(struct sim_shard *shard, const struct message *message)
{
    char text[SIM_KEY_SIZE + 1];
    for (unsigned key = 0; message->type == MSG_INV && heals(shard) && key <= SIM_KEY_MAX; key++)
        if (slice_equal(message_key(message), name_of(key, text)))
            shard->keys[key].inv_ts = message->ts, shard->keys[key].inv_token = message->number[0],
            shard->keys[key].inv_epoch = message->epoch, shard->keys[key].inv_from = message->from;
}

void sim_rules_sent(struct sim *sim, const struct sim_shard *shard, const struct action *action)
{
    const struct message *header = &action->header;
    bool acknowledges = header->type == MSG_ACK || header->type == MSG_TAKEN;
    for (unsigned key = 0; acknowledges && heals(shard) && key <= SIM_KEY_MAX; key++) {
        char text[SIM_KEY_SIZE + 1];
        struct slice name = name_of(key, text);
        struct found found;
        const struct sim_shadow *shadow = &shard->keys[key];
        if (shadow->inv_ts == header->ts && shadow->inv_token == header->number[0] &&
            shadow->inv_epoch == header->epoch && action->to == node_bit(shadow->inv_from) &&
            store_find(shard->store, name, hash_key(name), &found) &&
            found.state == STATE_UNCONFIRMED)
            sim_fail(sim,
                     "healing node %u acknowledges key %u, and holds what nobody has confirmed",
                     shard->node, key);
    }
}

static bool serves(const struct sim_shard *shard)
{
    return shard->sim->nodes[shard->node].up && (shard->view.members & node_bit(shard->node)) != 0;
}

void sim_rules_floor(struct sim *sim, struct sim_shard *shard)
{
    struct shard_stats stats;
    shard_stats(shard->shard, &stats);
    shard->floor = stats.floor;
    shard->clock = stats.cold ? UINT64_MAX : stats.clock; /* it gives out no version yet */
    uint64_t floor_kept;
    store_mark_kept(shard->store, &shard->kept, &floor_kept);
    for (unsigned node = 1; node <= sim->profile.node_count && serves(shard); node++) {
        const struct sim_shard *other = &sim->nodes[node].shards[shard->number];
        if (!serves(other) || other->view.epoch != shard->view.epoch)
            continue;
        const struct sim_shard *behind = shard->clock < other->floor ? shard : other;
        const struct sim_shard *ahead = behind == shard ? other : shard;
        if (behind->clock < ahead->floor)
            sim_fail(sim,
                     "member %u may reuse versions: its clock is %" PRIu64
                     ", and member %u has forgotten up to %" PRIu64,
                     behind->node, behind->clock, ahead->node, ahead->floor);
        if (behind->kept < ahead->floor || ahead->kept < behind->floor)
            sim_fail(sim,
                     "member %u or %u would reuse versions after a restart: their logs say clocks "
                     "%" PRIu64 " and %" PRIu64 ", and they have forgotten up to %" PRIu64
                     " and %" PRIu64,
                     behind->node, ahead->node, behind->kept, ahead->kept, behind->floor,
                     ahead->floor);
    }
}

/* The next view either goes on with one that never stopped, a member or healed since, or pools what
 * all members hold: all but those whose disk was lost (invariant 7 of the member code). */
void sim_check_cold(struct sim *sim, const struct view *view)
{
    const struct view *former = &sim->newest;
    bool goes_on = false;
    if (former->epoch == 0 || view->epoch != former->epoch + 1)
        return; /* the first one; or what lies between was installed nowhere, and may have been cold
                   itself */
    for (unsigned node = 1; node <= sim->profile.node_count; node++)
        goes_on |= ((former->members | former->healing) & view->members & node_bit(node)) != 0 &&
                   former->incarnation[node] == view->incarnation[node];
    for (unsigned node = 1; node <= sim->profile.node_count && !goes_on; node++)
        if ((former->members & (uint8_t)~view->members & node_bit(node)) != 0 &&
            !sim->nodes[node].damaged && !sim->nodes[node].rotten)
            sim_fail(sim,
                     "view %u starts cold without node %u, which was a member and holds its data",
                     view->epoch, node);
}

void sim_check_incarnation(struct sim *sim, unsigned from, unsigned to, uint64_t incarnation)
{
    const struct sim_node *n = &sim->nodes[to];
    if (incarnation < n->met[from] || incarnation <= n->removed[from])
        sim_fail(sim,
                 "node %u is given a message of node %u, incarnation %" PRIu64 ", which was %s", to,
                 from, incarnation,
                 incarnation <= n->removed[from] ? "removed" : "replaced by a newer one");
}
