/* replica.h: replication of one shard: reads, writes, read-modify-writes, replays. The linearizable
 * core, after Hermes (section 3) with the rules of doc/protocol.md. Pure; owner thread only.
 * Entered through recovery/shard.h.
 *
 * State of a key's current record, and who makes each step (replica_set_state is the only writer):
 *
 *     (absent) --write_start--> WRITE --pending_complete, still current--> VALID
 *     VALID ----write_start--> WRITE
 *     any ----replica_take_record (newer)--> INVALID --on_val / heal--> VALID
 *     INVALID --replay_start--> REPLAY --pending_complete / on_val--> VALID
 *     UNCONFIRMED --cold start: replay_start--> REPLAY;  healing: INV or buddy--> INVALID or VALID
 *
 * Invariants (numbers are those of doc/protocol.md):
 *  1. A request is answered from a record only when it is VALID.
 *  2. VALID follows only from: all acknowledgements of the present view that the model asks for; a
 *     VAL of that ts; a buddy.
 *  3. An ACK is sent only when this record or a newer one of its key is durable here; TAKEN, when
 *     it is in the log.
 *  4. A read-modify-write is refused the moment a newer record replaces it at its coordinator,
 *     unless it is complete: all have it.
 *  5. Acknowledgements count only in the epoch in which they were asked for. */
#ifndef REPLICA_REPLICA_H
#define REPLICA_REPLICA_H

#include <assert.h>

#include "base/fault.h"
#include "base/hash.h"
#include "base/ts.h"
#include "replica/model.h"
#include "replica/piece.h"
#include "replica/reading.h"
#include "replica/step.h"
#include "store/store.h"

enum {
    /* what a walk over the log looks at in a turn, unless options say otherwise: about 2 ms */
    WALK_BYTES = 256 << 10,
    /* a plain write orders after any read-modify-write from the same base (Hermes section 3.6) */
    PLAIN_STEP = 4,
    RMW_STEP = 1,
    OWN_BYTES_BUSY = 1 << 20, /* so many take a while: who acknowledges some of them is at work */
    /* of own writes under way: what a channel that breaks has to be sent again */
    OWN_BYTES_MAX = 32 << 20,
    /* an unanswered INV is sent again: channels are reliable, dropped for want of space is not */
    RESEND_US = 1000000,
    OP_NONE = 0,
};

/* A write or replay that waits for acknowledgements. ts 0: none. */
struct pending {
    uint64_t ts;
    uint64_t lsn; /* of its record: durable here when durable > lsn */
    uint64_t sent_us;
    uint64_t started_us;
    uint8_t taken; /* node set: have it, or a newer one of its key */
    /* node set: have said all that the model asks of them; to the others it is sent again */
    uint8_t acked;
    bool valid;      /* it has been complete and made VALID, whatever has replaced it since */
    bool answered;   /* its clients have their answer */
    uint32_t size;   /* of its record */
    uint32_t growth; /* of the live data by it */
    bool rmw;
    enum outcome outcome;
    uint64_t number;
    uint64_t cas; /* of its record */
    /* to answer, linked by next; the last one's value is the one written */
    struct request *requests;
};

/* Manifests whose value this node has replaced: their pieces may soon go (recovery/collect.h). A
 * ring: what does not fit is found by a walk instead. */
enum { REPLACED_COUNT_MAX = 64 };
struct replaced {
    struct manifest manifests[REPLACED_COUNT_MAX];
    uint64_t since_us[REPLACED_COUNT_MAX];
    uint32_t head, count;
};

/* What is known of a key that is not at rest. */
struct op {
    struct op *hash_next;
    uint64_t hash;
    uint64_t lsn;        /* of the current record */
    uint64_t since_us;   /* invalid since, or last asked */
    uint32_t generation; /* of the slot: an ACK that is late finds another */
    bool used;
    bool may_replay; /* its coordinator disowned it */
    bool ready;      /* in replica->ready */
    struct op *ready_next;
    uint8_t key_size;
    uint8_t key[RECORD_KEY_SIZE_MAX];
    struct pending own;
    struct pending replay;
    struct request *wait_first, *wait_last;
};

/* Waits until `need` is durable: an ACK to send, or a pending to look at again. Not used in models
 * that never wait. */
struct deferred {
    uint64_t need;
    uint64_t ts;
    uint64_t token;
    uint8_t to; /* 0: look at the pending */
    uint8_t flags;
};

struct replica_options {
    unsigned self;
    uint64_t incarnation;
    uint8_t configured;
    struct store *store;
    uint32_t op_count_max;
    uint32_t value_size_max;
    uint32_t ask_us;
    uint32_t slow_us;
    uint32_t walk_bytes; /* 0: WALK_BYTES */
    enum model model;    /* the same at all nodes of the group */
    bool was_early;      /* what the log holds may have been written in a model that is early */
    bool evicts;         /* a full store makes room */
    uint64_t evict_above;
};

/* Which records are not trusted: those in [lsn_min, lsn_end). They become UNCONFIRMED by a walk of
 * many turns; until it is over, `active`, all of them count as such, whatever their state says
 * (replica_mark.c). */
struct marking {
    bool active;
    /* the whole range is UNCONFIRMED, and no view was installed since: nothing to be done again */
    bool untouched;
    uint64_t lsn_min;
    /* the log's tail when the present epoch, or life, began: what lies behind is of this one */
    uint64_t lsn_end;
    struct store_cursor cursor;
    uint64_t tail; /* for replica_walk_budget */
};

struct replica {
    struct notice notice; /* for other threads; all else is the owner's */
    struct replica_options options;
    struct store *store;
    struct view view;
    bool fresh;      /* no view installed since start */
    bool cold_waits; /* as the next one, should it begin anew */
    /* the group began anew, in a model that may have lost what was answered or read: nobody serves
     * before a round is stable, when all agree on what is left (doc/protocol.md, Cold start) */
    bool cold;
    const struct model_row *model;

    uint64_t wall_us, mono_us;
    const struct actions *actions;

    uint64_t clock; /* >= every version and floor seen */
    uint64_t floor; /* version: newer than anything ever forgotten */
    uint64_t durable;

    struct op *ops;
    struct op **op_table;
    struct op *op_free;
    uint32_t op_capacity, op_table_mask;
    uint32_t op_used, own_count, replay_count;
    uint64_t own_bytes, own_growth;
    uint8_t full_nodes; /* members whose stores are full, as far as their acknowledgements say */
    /* some member's was, as the last stable round says, and not all have said since that theirs are
     * not */
    bool group_full;
    uint8_t roomy_nodes; /* whose acknowledgements have said so since that round */
    /* store_excess() of each member, as far as it has told; [0]: of any, by the last round */
    uint64_t excess[NODE_COUNT_MAX + 1];
    /* eviction will make room: commands that find none wait for it (recovery/evict.h) */
    bool may_evict;
    uint64_t starved; /* so much growth found no room here, and waits */
    /* for store_excess: to where there is room indeed; 0: as the store says */
    uint64_t evict_level;
    uint64_t acked_us[NODE_COUNT_MAX + 1]; /* when the node last acknowledged anything */
    uint32_t sweep;                        /* next op to look at for timeouts */

    struct op *ready; /* own writes that wait for nobody: looked at when the step ends */
    struct deferred *deferred;
    uint32_t deferred_mask, deferred_head, deferred_tail;
    bool check_all; /* the ring was full: look at every pending */
    /* a valid key has requests that found no room: the next tick tries them again */
    bool stalled;

    struct request *blocked_first, *blocked_last; /* no room: in order, all commands */

    bool unconfirmed; /* cold start: the walk over unconfirmed records is not done */
    struct store_cursor unconfirmed_cursor;
    uint64_t unconfirmed_tail; /* for replica_walk_budget */

    struct marking marking;

    /* the flush record: key "" */
    struct {
        bool known, valid;
        uint64_t ts;        /* records below are absent once valid */
        uint64_t record_ts; /* its own */
        uint64_t due;       /* second at which a delayed flush takes effect; 0: none */
    } flush;

    struct request internal_flush; /* a delayed flush that falls due */
    bool internal_flush_busy;

    struct replaced replaced;

    uint64_t writes, rmws, rmw_retries, reads, read_waits, replays, asks, expired,
        expired_unfetched;
    uint64_t waiting;
};

size_t replica_size(const struct replica_options *options);
void replica_init(struct replica *replica, const struct replica_options *options, void *memory);

/* ---- events ---- */
void replica_on_request(struct replica *replica, struct request *request);
/* A request made by the core itself that may as well be left undone: it does not wait behind
 * anything. False: nothing happened, as its key is not at rest or there is no room. */
bool replica_try_request(struct replica *replica, struct request *request);
void replica_on_message(struct replica *replica, const struct message *message);
void replica_on_durable(struct replica *replica, uint64_t durable);
void replica_on_view(struct replica *replica, const struct view *view);
void replica_on_up(struct replica *replica, unsigned peer);
void replica_on_tick(struct replica *replica);
void replica_on_stalled(struct replica *replica);
void replica_on_restart(struct replica *replica, uint64_t incarnation);
/* After each event. */
void replica_end_step(struct replica *replica);
/* A round is stable: all members agree on what there is. */
void replica_on_stable(struct replica *replica);

/* ---- for recovery ---- */
static inline bool replica_is_member(const struct replica *replica)
{
    return (replica->view.members & node_bit(replica->options.self)) != 0;
}

static inline bool replica_is_healing(const struct replica *replica)
{
    return (replica->view.healing & node_bit(replica->options.self)) != 0;
}

/* Records that flush_all makes absent: neither its own, whose key is empty, nor pieces, which go
 * when their value has gone. */
static inline bool replica_under_flush(size_t key_size)
{
    return key_size > 0 && key_size <= RECORD_CLIENT_KEY_SIZE_MAX;
}

/* The wall clock in seconds, as exptimes have it. */
static inline uint32_t replica_now(const struct replica *replica)
{
    return (uint32_t)(replica->wall_us / 1000000);
}

/* See shard_shows. */
bool replica_shows(const struct replica *replica, const struct found *found, uint32_t now);

/* Pieces and a manifest are taken only from an upload that this node began in its present
 * incarnation: once the others have seen it leave, they may collect the pieces of those before
 * (recovery/collect.h). */
static inline bool replica_takes_upload(const struct replica *replica, uint64_t upload)
{
    return ts_node(upload) == replica->options.self &&
           ts_incarnation(upload) == (replica->options.incarnation & 0xff);
}

/* Everybody who has to acknowledge, this node left out. */
uint8_t replica_peers(const struct replica *replica);

/* MESSAGE_FULL if this node's store takes no more growth, else 0. */
static inline uint8_t replica_full_flag(const struct replica *replica)
{
    return store_is_full(replica->store) ? MESSAGE_FULL : 0;
}

/* What this node's store has too much; told with each acknowledgement. */
static inline uint64_t replica_excess(const struct replica *replica)
{
    uint64_t level =
        replica->options.evict_above != 0 ? replica->options.evict_above : replica->evict_level;
    return replica->options.evicts ? store_excess(replica->store, level) : 0;
}

/* While a configured node is away tombstones stay, for its return. When they hold half of the room,
 * more of them would only displace what is left: then the store is full. */
bool replica_is_all_graves(const struct replica *replica);

/* Somebody would have no room for more. */
static inline bool replica_group_is_full(const struct replica *replica)
{
    return !FAULT(GROW_ANYWHERE) && (replica->group_full || replica->full_nodes != 0);
}

/* A header with type, sender and epoch filled in. */
struct message replica_message(const struct replica *replica, enum message_type type);
void replica_send(struct replica *replica, uint8_t to, bool bulk, const struct message *message,
                  struct slice key, struct slice value);
/* Sends a record as `type`. */
void replica_send_record(struct replica *replica, uint8_t to, bool bulk, struct message *message,
                         const struct record *record);

/* Merges a version into the clock. */
static inline void replica_see_version(struct replica *replica, uint64_t version)
{
    if (version > replica->clock)
        replica->clock = version;
}

/* Sees to it that a start, once the log is durable, finds a clock of at least `version`, which this
 * one has reached. False: no room now. */
bool replica_keep_clock(struct replica *replica, uint64_t version);

/* Makes the record in `message` the current one of its key, in `state`, whatever was there. NULL:
 * no room, nothing changed. */
struct op *replica_take_record(struct replica *replica, const struct message *message,
                               enum record_state state);

/* What a walk over the log may look at in one turn: more when the log grew since its last one, or
 * it would never reach the tail under load. *tail: the log's tail at the last turn, 0 to begin. */
static inline uint64_t replica_walk_budget(const struct replica *replica, uint64_t base,
                                           uint64_t *tail)
{
    uint64_t now = log_tail(store_log(replica->store));
    uint64_t grown = *tail == 0 ? 0 : now - *tail;
    *tail = now;
    return base + 2 * STORE_WALK_COST * grown;
}

/* For other threads (replica_read.c): whether records may be read here, at the end of each step;
 * what a flush hides. */
void replica_notice_serving(struct replica *replica);
void replica_notice_flush(struct replica *replica);

/* What an answer may have to tell of a record as it is. */
void replica_see(struct request *request, const struct record *record, const struct access *access,
                 uint32_t now);

/* The only writer of a record's state. */
void replica_set_state(struct replica *replica, struct found *found, enum record_state state);

/* The record is VALID now: answers and goes on with who waits. `op` may be gone afterwards. */
void replica_became_valid(struct replica *replica, struct op *op);

/* Forgets all ops and begins to make every present record from `lsn_min` on UNCONFIRMED: an epoch
 * begins in which this node heals, or it has been removed. What is appended from here on is of that
 * epoch, and is left alone. */
void replica_mark_begin(struct replica *replica, uint64_t lsn_min);

/* The same for the records before `lsn_min`, too: within the epoch, nobody was found who shares the
 * mark. */
void replica_mark_everything(struct replica *replica);

/* A turn of the walk; nothing if it is over. */
void replica_mark_some(struct replica *replica);
/* This node is a member: the rest of the walk at once, and from here on states change by other
 * rules. */
void replica_mark_end(struct replica *replica);

static inline bool replica_is_marking(const struct replica *replica)
{
    return replica->marking.active;
}

/* The store was opened with all records from `lsn_min` on UNCONFIRMED. */
void replica_mark_opened(struct replica *replica, uint64_t lsn_min);

/* No record before `lsn` is open: see doc/protocol.md, rounds. *cursor is 0 to begin, and stays
 * true for the same lsn. */
bool replica_finished_before(const struct replica *replica, uint64_t lsn, uint32_t *cursor);

/* Reads the flush record again after it changed. */
void replica_refresh_flush(struct replica *replica);

void replica_verify(const struct replica *replica);

/* ---- between the files of this folder ---- */
struct op *op_find(const struct replica *replica, struct slice key, uint64_t hash);
/* finds or makes; NULL: full */
struct op *op_take(struct replica *replica, struct slice key, uint64_t hash);
void op_give_if_idle(struct replica *replica, struct op *op, enum record_state state);
void op_wait(struct replica *replica, struct op *op, struct request *request, bool first);
static inline struct slice op_key(const struct op *op)
{
    return slice_make(op->key, op->key_size);
}
uint64_t op_token(const struct replica *replica, const struct op *op);
struct op *op_of_token(struct replica *replica, uint64_t token);
void op_forget_all(struct replica *replica);

void defer(struct replica *replica, const struct deferred *deferred);
/* ACK or TAKEN. */
void replica_send_ack(struct replica *replica, enum message_type type, const struct deferred *ack);
void replica_reply(struct replica *replica, struct request *request, enum outcome outcome,
                   const struct record *record, uint64_t number, bool local);
/* The answer to a write that is complete. `record`: it, if it is still there. */
void replica_reply_written(struct replica *replica, struct request *request,
                           const struct pending *write, uint64_t cas, const struct record *record);

/* Executes a request now; false: it was put to wait, and nothing behind it on this key may go
 * first. */
enum execute { EXECUTE_DONE, EXECUTE_WAITS, EXECUTE_BLOCKED };
enum execute replica_execute(struct replica *replica, struct request *request);
void replica_unblock(struct replica *replica);

void replica_send_inv(struct replica *replica, struct op *op, struct pending *pending, uint8_t to);
void replica_refuse_own(struct replica *replica, struct op *op);
/* Gives up an own write that was overtaken and that nobody waits for: the newer record stands for
 * it. Plain, or complete. */
void replica_forget_own(struct replica *replica, struct op *op);
void replica_replay_start(struct replica *replica, struct op *op, struct found *found);
/* It is complete: whatever happens, it has taken effect, and cannot be refused any more. */
static inline bool pending_is_complete(const struct pending *pending)
{
    return pending->valid || pending->answered;
}
/* Replays a record that a member holds unconfirmed after a cold start. False: no room now. */
bool replica_drive_unconfirmed(struct replica *replica, struct found *found);

/* A record with this lsn counts as UNCONFIRMED, though its state may not say so yet. */
bool replica_awaits_mark(const struct replica *replica, uint64_t lsn);
/* As store_find; what awaits its mark gets it first. */
bool replica_find_marked(struct replica *replica, struct slice key, uint64_t hash,
                         struct found *found);

void replica_on_inv(struct replica *replica, const struct message *message);
/* ACK, TAKEN. */
void replica_on_ack(struct replica *replica, const struct message *message);
void replica_on_nack(struct replica *replica, const struct message *message);
void replica_on_val(struct replica *replica, const struct message *message);
void replica_on_ask(struct replica *replica, const struct message *message);
void replica_on_prove(struct replica *replica, const struct message *message);
void replica_on_gone(struct replica *replica, const struct message *message);

#endif
