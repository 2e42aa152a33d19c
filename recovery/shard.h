/* shard.h: one shard's replica: replication, stability rounds and healing behind one entry. Pure;
 * owner thread only.
 *
 * The caller executes the actions, calls log_drain() after each batch of steps and passes
 * EVENT_DURABLE when log_durable() has moved. A message of a newer epoch is not passed but held in
 * its channel (shard_holds) until the view is installed: dropping it would lose it; so is a record
 * for which there is no room yet. */
#ifndef RECOVERY_SHARD_H
#define RECOVERY_SHARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replica/model.h"
#include "replica/reading.h"
#include "replica/step.h"
#include "store/store.h"

struct shard;

struct shard_options {
    unsigned self;        /* node id, 1..7 */
    uint64_t incarnation; /* new at each start; durable before use */
    uint8_t configured;   /* node set */
    unsigned number;      /* of this shard: spreads buddies */
    struct store *store;
    uint32_t op_count_max;   /* own writes under way; more wait */
    uint32_t value_size_max; /* -I: header, key and value together */
    uint32_t round_us;       /* stability round period; 100,000 is usual */
    uint32_t ask_us;         /* a record invalid for so long: ask its coordinator */
    uint32_t slow_us;        /* a write waiting for so long: report who keeps it waiting */
    /* of its log a walk looks at in a turn, half of it for others' healing; 0: 256 KB */
    uint32_t walk_bytes;
    /* between two looks for pieces that nobody needs; half of it is the grace for readers; 0: 10
     * s */
    uint32_t collect_us;
    enum model model; /* the same at all nodes of the group; 0: synch */
    /* a store that is full makes room; else it refuses what would make it grow */
    bool evicts;
    /* another model was in use here before, and it was an early one (model_is_early) */
    bool was_early;
    /* with `evicts`: it keeps the live data below so many bytes; 0: below what the store holds */
    uint64_t evict_above;
    bool full; /* --recovery=full: trust nothing of what the log holds */
};

/* The memory that a shard needs, zeroed, 64-byte aligned. */
size_t shard_size(const struct shard_options *options);
struct shard *shard_init(void *memory, const struct shard_options *options);

void shard_step(struct shard *shard, const struct event *event, const struct actions *actions);

/* The message is of an epoch that is not installed here yet; or it brings a record for which
 * cleaning is just making room: try again when log_durable() has moved on, or at the next tick. */
bool shard_holds(const struct shard *shard, const struct message *message);

/* This node's uploads of large values below `upload` are over: their pieces may go if no value
 * names them (replica/piece.h). Never falls. */
void shard_set_upload_floor(struct shard *shard, uint64_t upload);

/* A get of this key would answer this record at second `now`, as far as this node knows: it is no
 * tombstone, not past its time, not flushed, and no piece of a large value. For lists of keys,
 * which promise nothing. */
bool shard_shows(const struct shard *shard, const struct found *found, uint32_t now);

/* For any thread: answers reads without the owner; see replica/reading.h. */
bool shard_read_begin_any(const struct shard *shard, const struct request *request, uint32_t now,
                          struct reading *reading);
bool shard_read_end_any(const struct shard *shard, struct request *request, uint32_t now,
                        const struct reading *reading);

/* There is work that waits for no event (walks, replays, cleaning): pass EVENT_TICK soon. */
bool shard_wants_turn(const struct shard *shard);

/* Everything that the group knows to be true is asserted; for the simulator and debug builds, after
 * each step. */
void shard_verify(const struct shard *shard);

struct shard_stats {
    uint32_t epoch;
    bool member, healing;
    uint64_t op_count;      /* own writes under way */
    uint64_t invalid_count; /* keys that are not valid */
    uint64_t waiting_count; /* requests that wait for a key */
    uint64_t writes, rmws, rmw_retries, reads, read_waits, replays, asks;
    uint64_t expired, expired_unfetched;   /* by this node; the latter: never read here */
    uint64_t expired_by_walk;              /* of these, nobody had asked for them */
    uint64_t expire_checked;               /* records looked at by that walk */
    uint64_t evictions, evicted_unfetched; /* by this node */
    /* keys that the other members were asked for, and of these read there */
    uint64_t evict_asked, evict_kept;
    bool full;                 /* this store takes no more growth by clients */
    bool group_full;           /* another member's does not */
    bool flush_known;          /* there was a flush_all: its record is one of the store's values */
    uint64_t pieces_collected; /* of large values that are gone */
    uint64_t round;            /* newest stable round */
    uint64_t rounds;
    uint64_t stable_us; /* when the newest became so; 0: never */
    uint64_t unsettled; /* appends here that are not known to be durable at every member */
    uint64_t persists, persist_waiting; /* REQUEST_PERSIST: answered OK; waiting now */
    bool cold;                          /* began anew: serves when a round is stable */
    uint64_t floor, clock;
    /* healing, this node */
    unsigned buddy; /* 0: none */
    bool heal_full;
    uint64_t heal_left_bytes; /* of the buddy's log, about */
    uint64_t heal_checked, heal_received, heal_received_bytes, heal_discarded;
    uint64_t heal_started_us, heal_listed_us, heal_ended_us; /* mono; 0: not yet */
    /* as buddy */
    uint8_t buddy_of; /* nodes in a session now */
    uint64_t walk_sent, walk_sent_bytes;
    uint64_t walk_left_bytes; /* log bytes the walk still has to look at, about */
};
void shard_stats(const struct shard *shard, struct shard_stats *stats);

#endif
