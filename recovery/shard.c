#include "recovery/shard.h"

#include <string.h>

#include "recovery/buddy.h"
#include "recovery/collect.h"
#include "recovery/evict.h"
#include "recovery/expire.h"
#include "recovery/heal.h"
#include "recovery/round.h"

enum { ALIGN = 64 };

struct shard {
    struct replica replica;
    struct round round;
    struct heal heal;
    struct buddy buddies[8]; /* by healing node */
    struct collect collect;
    struct evict evict;
    struct expire expire;
};

static struct replica_options replica_options(const struct shard_options *options)
{
    return (struct replica_options){
        .self = options->self,
        .incarnation = options->incarnation,
        .configured = options->configured,
        .store = options->store,
        .op_count_max = options->op_count_max,
        .value_size_max = options->value_size_max,
        .ask_us = options->ask_us,
        .slow_us = options->slow_us,
        .walk_bytes = options->walk_bytes,
        .model = options->model,
        .was_early = options->was_early,
        .evicts = options->evicts,
        .evict_above = options->evict_above,
    };
}

static size_t own_size(void)
{
    return (sizeof(struct shard) + ALIGN - 1) / ALIGN * ALIGN;
}

size_t shard_size(const struct shard_options *options)
{
    struct replica_options inner = replica_options(options);
    return own_size() + replica_size(&inner);
}

struct shard *shard_init(void *memory, const struct shard_options *options)
{
    struct shard *shard = memory;
    struct replica_options inner = replica_options(options);
    memset(shard, 0, sizeof(*shard));
    replica_init(&shard->replica, &inner, (uint8_t *)memory + own_size());
    shard->round.period_us = options->round_us;
    shard->collect.period_us = options->collect_us != 0 ? options->collect_us : COLLECT_PERIOD_US;
    evict_init(&shard->evict, &shard->replica);
    expire_init(&shard->expire);
    shard->heal.shard = options->number;
    shard->heal.always_full = options->full;
    return shard;
}

/* ---- messages ---- */

static bool of_group(const struct replica *replica, const struct message *message)
{
    uint8_t bit = node_bit(message->from);
    return ((replica->view.members | replica->view.healing) & bit) != 0 &&
           message->from != replica->options.self;
}

/* Committed stays committed: a VAL is true in every epoch. All else belongs to its own. */
static bool epoch_passes(const struct replica *replica, const struct message *message)
{
    if (message->epoch == replica->view.epoch || message->type == MSG_VAL)
        return true;
    if (message->type >= MSG_ROUND_WANTED && message->type <= MSG_ROUND_STABLE)
        return FAULT(ROUND_ANY_EPOCH);
    if (message->type >= MSG_HEAL_ASK)
        return FAULT(EPOCH_GATE_HEAL);
    return FAULT(EPOCH_GATE_OFF);
}

static void on_message(struct shard *shard, const struct message *message)
{
    struct replica *replica = &shard->replica;
    struct buddy *buddy = &shard->buddies[message->from];
    switch ((enum message_type)message->type) {
    case MSG_INV:
    case MSG_ACK:
    case MSG_TAKEN:
    case MSG_NACK:
    case MSG_VAL:
    case MSG_ASK:
    case MSG_GONE:
    case MSG_PROVE:
        replica_on_message(replica, message);
        break;
    case MSG_ROUND_WANTED:
        round_on_wanted(&shard->round, replica, message);
        break;
    case MSG_ROUND_START:
        round_on_start(&shard->round, replica, message);
        break;
    case MSG_ROUND_DONE:
        round_on_done(&shard->round, replica, message);
        break;
    case MSG_ROUND_STABLE:
        round_on_stable(&shard->round, replica, message);
        break;
    case MSG_HEAL_ASK:
        buddy_on_ask(replica, message);
        break;
    case MSG_HEAL_OFFER:
        heal_on_offer(&shard->heal, replica, message);
        break;
    case MSG_HEAL_OPEN:
        buddy_on_open(buddy, replica, message);
        break;
    case MSG_HEAL_CHECK:
        buddy_on_check(buddy, replica, message);
        break;
    case MSG_HEAL_LISTED:
        buddy_on_listed(buddy, replica, message);
        break;
    case MSG_HEAL_RECORD:
        heal_on_record(&shard->heal, replica, message);
        break;
    case MSG_HEAL_SAME:
        heal_on_same(&shard->heal, replica, message);
        break;
    case MSG_HEAL_ABSENT:
        heal_on_absent(&shard->heal, replica, message);
        break;
    case MSG_HEAL_TAKEN:
        buddy_on_taken(buddy, message);
        break;
    case MSG_HEAL_END:
        heal_on_end(&shard->heal, replica, message);
        break;
    case MSG_EVICT_ASK:
        evict_on_ask(replica, message);
        break;
    case MSG_EVICT_KEEP:
        evict_on_keep(&shard->evict, replica, message);
        break;
    case MSG_NONE:
    case MSG_COUNT:
        assert(false && "message_invalid lets none of these pass");
    }
}

bool shard_holds(const struct shard *shard, const struct message *message)
{
    if (FAULT(NEWER_EPOCH_DROPPED))
        return false;
    const struct replica *replica = &shard->replica;
    if (message->epoch > replica->view.epoch)
        return true;
    bool record =
        message->type == MSG_INV || message->type == MSG_NACK || message->type == MSG_HEAL_RECORD;
    return record && store_is_busy(replica->store, message->key_size, message->value_size);
}

/* ---- the other events ---- */

/* What the log holds is the group's again, and may be trusted the next time. */
static void full_heal_is_through(struct shard *shard)
{
    store_repair(shard->replica.store);
    shard->heal.always_full = false;
}

static void on_view(struct shard *shard, const struct view *view)
{
    replica_on_view(&shard->replica, view);
    if (shard->heal.phase == HEAL_HEALED && shard->heal.full && replica_is_member(&shard->replica))
        full_heal_is_through(shard);
    memset(shard->buddies, 0, sizeof(shard->buddies));
    round_on_view(&shard->round, &shard->replica);
    evict_on_view(&shard->evict);
    expire_on_view(&shard->expire, &shard->replica);
    heal_on_view(&shard->heal, &shard->replica);
}

static void on_restart(struct shard *shard, uint64_t incarnation)
{
    replica_on_restart(&shard->replica, incarnation);
    round_refuse(&shard->round, &shard->replica);
    memset(shard->buddies, 0, sizeof(shard->buddies));
    round_on_view(&shard->round, &shard->replica);
    evict_on_view(&shard->evict);
    shard->heal.phase = HEAL_IDLE;
    shard->heal.started_us = 0;
}

/* Nothing may be forgotten while a configured node is away; a healing one is. Who is no member does
 * not know, and a node that has just started has a view of nobody, of a group of nobody. */
static void clean(struct replica *replica)
{
    struct store_drop drop = {0};
    struct mark mark;
    uint8_t present = replica->view.members;
    if (FAULT(HEALING_NOT_ABSENT))
        present |= replica->view.healing;
    bool knows = replica_is_member(replica) || FAULT(DROP_WITHOUT_VIEW);
    if (knows && present == replica->view.configured && store_mark_last(replica->store, &mark) &&
        !replica->unconfirmed) {
        drop.lsn = mark.lsn;
        drop.floor = replica->floor;
    }
    store_clean_turn(replica->store, &drop);
}

static void on_tick(struct shard *shard)
{
    struct replica *replica = &shard->replica;
    clean(replica);
    expire_on_tick(&shard->expire, replica);
    evict_advance(&shard->evict, replica);
    replica_on_tick(replica);
    round_on_tick(&shard->round, replica);
    heal_on_tick(&shard->heal, replica);
    for (unsigned node = 1; node <= NODE_COUNT_MAX; node++)
        buddy_on_tick(&shard->buddies[node], replica, node);
    collect_on_tick(&shard->collect, replica, &shard->round);
}

static void on_request(struct shard *shard, struct request *request)
{
    if (request->type != REQUEST_PERSIST) {
        replica_on_request(&shard->replica, request);
        return;
    }
    round_on_persist(&shard->round, &shard->replica, request);
    round_advance(&shard->round, &shard->replica);
}

void shard_set_upload_floor(struct shard *shard, uint64_t upload)
{
    shard->collect.upload_floor = upload;
}

void shard_step(struct shard *shard, const struct event *event, const struct actions *actions)
{
    struct replica *replica = &shard->replica;
    replica->wall_us = event->wall_us;
    replica->mono_us = event->mono_us;
    replica->actions = actions;
    switch (event->type) {
    case EVENT_REQUEST:
        on_request(shard, event->request);
        break;
    case EVENT_MESSAGE:
        assert(event->message->epoch <= replica->view.epoch || FAULT(NEWER_EPOCH_DROPPED));
        if (of_group(replica, event->message) && epoch_passes(replica, event->message))
            on_message(shard, event->message);
        round_advance(&shard->round, replica);
        break;
    case EVENT_DURABLE:
        replica_on_durable(replica, event->durable);
        evict_advance(&shard->evict, replica);
        heal_advance(&shard->heal, replica);
        round_advance(&shard->round, replica);
        break;
    case EVENT_VIEW:
        on_view(shard, event->view);
        break;
    case EVENT_UP:
        replica_on_up(replica, event->peer);
        round_on_up(&shard->round, replica, event->peer);
        heal_on_up(&shard->heal, replica, event->peer);
        break;
    case EVENT_TICK:
        on_tick(shard);
        break;
    case EVENT_STALLED:
        replica_on_stalled(replica);
        round_refuse(&shard->round, replica);
        break;
    case EVENT_RESTART:
        on_restart(shard, event->incarnation);
        break;
    }
    replica_end_step(replica);
    replica_notice_serving(replica);
    replica->actions = NULL;
}

bool shard_shows(const struct shard *shard, const struct found *found, uint32_t now)
{
    return replica_shows(&shard->replica, found, now);
}

bool shard_read_begin_any(const struct shard *shard, const struct request *request, uint32_t now,
                          struct reading *reading)
{
    return replica_read_begin_any(&shard->replica, request, now, reading);
}

bool shard_read_end_any(const struct shard *shard, struct request *request, uint32_t now,
                        const struct reading *reading)
{
    return replica_read_end_any(&shard->replica, request, now, reading);
}

bool shard_wants_turn(const struct shard *shard)
{
    const struct replica *replica = &shard->replica;
    if (heal_wants_turn(&shard->heal, replica) || collect_wants_turn(&shard->collect) ||
        evict_wants_turn(&shard->evict) || expire_wants_turn(&shard->expire, replica) ||
        replica_is_marking(replica) || store_wants_cleaning(replica->store) || replica->check_all)
        return true;
    for (unsigned node = 1; node <= NODE_COUNT_MAX; node++)
        if (buddy_wants_turn(&shard->buddies[node]))
            return true;
    return replica->unconfirmed && replica->replay_count < replica->options.op_count_max;
}

void shard_verify(const struct shard *shard)
{
    replica_verify(&shard->replica);
    assert(shard->heal.phase == HEAL_IDLE || replica_is_healing(&shard->replica));
}

static void heal_stats(const struct shard *shard, struct shard_stats *stats)
{
    const struct heal *heal = &shard->heal;
    stats->buddy = heal->buddy;
    stats->heal_full = heal->full;
    stats->heal_checked = heal->checks;
    stats->heal_received = heal->records;
    stats->heal_received_bytes = heal->bytes;
    stats->heal_discarded = heal->discarded;
    stats->heal_left_bytes = heal->left_bytes;
    stats->heal_started_us = heal->started_us;
    stats->heal_listed_us = heal->listed_us;
    stats->heal_ended_us = heal->ended_us;
    for (unsigned node = 1; node <= NODE_COUNT_MAX; node++) {
        const struct buddy *buddy = &shard->buddies[node];
        if (buddy->active && !buddy->ended)
            stats->buddy_of |= node_bit(node);
        stats->walk_left_bytes += buddy_left_bytes(buddy, &shard->replica);
        stats->walk_sent += buddy->sent_records;
        stats->walk_sent_bytes += buddy->sent_bytes;
    }
}

void shard_stats(const struct shard *shard, struct shard_stats *stats)
{
    const struct replica *replica = &shard->replica;
    memset(stats, 0, sizeof(*stats));
    stats->epoch = replica->view.epoch;
    stats->member = replica_is_member(replica);
    stats->healing = replica_is_healing(replica);
    stats->op_count = replica->own_count;
    stats->invalid_count = replica->op_used;
    stats->waiting_count = replica->waiting;
    stats->writes = replica->writes;
    stats->rmws = replica->rmws;
    stats->rmw_retries = replica->rmw_retries;
    stats->reads = replica->reads;
    stats->read_waits = replica->read_waits;
    stats->replays = replica->replays;
    stats->asks = replica->asks;
    stats->expired = replica->expired;
    stats->expired_unfetched = replica->expired_unfetched;
    stats->expired_by_walk = shard->expire.deleted;
    stats->expire_checked = shard->expire.checked;
    stats->evictions = shard->evict.evictions;
    stats->evicted_unfetched = shard->evict.unfetched;
    stats->evict_asked = shard->evict.asked;
    stats->evict_kept = shard->evict.kept;
    stats->full = store_is_full(replica->store);
    stats->group_full = replica_group_is_full(replica);
    stats->flush_known = replica->flush.known;
    stats->pieces_collected = shard->collect.deleted;
    stats->round = shard->round.stable;
    stats->rounds = shard->round.stable_count;
    stats->stable_us = shard->round.stable_us;
    stats->unsettled = round_unsettled(&shard->round, replica);
    stats->persists = shard->round.persists;
    stats->persist_waiting = shard->round.persist_count;
    stats->cold = replica->cold;
    stats->floor = replica->floor;
    stats->clock = replica->clock;
    heal_stats(shard, stats);
}
