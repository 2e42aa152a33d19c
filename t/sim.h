/* sim.h: a whole cluster in one thread: the real store, shard and member code of 1 to 5 nodes on a
 * simulated network, medium, clock and consensus, under faults; judged while it runs and afterwards
 * (doc/verification.md).
 *
 * A run is a pure function of its options: no wall clock, no other source of chance than the seed,
 * nothing that depends on addresses. Time is virtual, in microseconds. A violation ends the run by
 * a jump out of whatever was running (sim_fail), so that an assertion of the code under test is a
 * finding like any other. */
#ifndef T_SIM_H
#define T_SIM_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/prng.h"
#include "net/gate.h"
#include "recovery/shard.h"
#include "replica/member.h"
#include "replica/piece.h"
#include "t/sim_linear.h"
#include "t/sim_medium.h"
#include "t/sim_profile.h"
#include "t/sim_queue.h"

enum {
    SIM_NODE_MAX = 5, /* ids 1..5 */
    SIM_NODE_LIMIT,   /* size of arrays indexed by node id */
    SIM_SHARD_MAX = 2,
    SIM_KEY_MAX = 16,
    SIM_CLIENT_MAX = 12,
    SIM_PIECE_CLIENT = 255, /* not a client: a node's own command for a piece of a large value */
    SIM_KEY_SIZE = 4,
    SIM_REASON_SIZE = 1024,
    SIM_WALL_START = 1700000000, /* seconds since 1970 when a run begins */
};

#define SIM_FOREVER UINT64_MAX

struct sim;

/* ---- events ---- */
enum sim_event_type {
    SIM_EVENT_PUMP,     /* a channel may have something to deliver: shard, a (from), b (to) */
    SIM_EVENT_CONNECT,  /* a connection is made again: shard, a, b */
    SIM_EVENT_CONTROL,  /* a message between members: a, b, pointer */
    SIM_EVENT_TURN,     /* end of a worker's turn: a, shard */
    SIM_EVENT_DRAINED,  /* look whether the log became durable: a, shard */
    SIM_EVENT_TICK,     /* a */
    SIM_EVENT_SOON,     /* a shard wants another turn: a, shard */
    SIM_EVENT_VIEW,     /* the control thread's mail to a worker: a, shard, pointer */
    SIM_EVENT_REQUEST,  /* a client's command reaches a node: a, shard, pointer */
    SIM_EVENT_READ,     /* another worker goes on with its read: a, shard, pointer */
    SIM_EVENT_ANSWER,   /* an answer that a pause delayed: a, pointer */
    SIM_EVENT_CLIENT,   /* a client's next command: a */
    SIM_EVENT_PATIENCE, /* a client gives up: a, generation: the command */
    SIM_EVENT_START,    /* a node starts: a */
    SIM_EVENT_RESUME,   /* a pause ends: a */
    SIM_EVENT_HEAL,     /* a partition ends */
    SIM_EVENT_FAULT,    /* the next fault */
    SIM_EVENT_CONSENSUS,
    SIM_EVENT_COMMIT, /* a proposal commits: a, pointer */
    SIM_EVENT_STRIKE, /* an aimed fault: a node goes down. a, b: what it had sent is lost */
    SIM_EVENT_CUT,    /* an aimed fault: a connection breaks: shard, a, b */
};

struct sim_event {
    uint64_t at, number; /* equal times: in the order of scheduling */
    enum sim_event_type type;
    uint8_t a, b, shard;
    /* of the node, the connection or the command: of an older one the event is void */
    uint32_t generation;
    void *pointer;
};

/* ---- network ---- */
struct sim_channel {
    struct sim_queue queue;
    uint64_t pump_at;           /* SIM_FOREVER: no pump is scheduled */
    uint64_t heard_us;          /* the receiver's clock: newest reception */
    unsigned slowness;          /* times */
    uint64_t lag_us, lag_until; /* until then each message takes so much longer */
    bool held;
};

struct sim_link { /* between two nodes on one shard's lane, a < b */
    bool up;
    uint32_t generation;
};

/* ---- nodes ---- */

/* A command on its way through a node. */
struct sim_call {
    struct request request;
    struct sim_call *next; /* in the node's list */
    uint32_t operation;    /* index in the history */
    uint32_t command;      /* the client's count: it may have given up */
    uint8_t client, shard;
    unsigned tries;
    /* the client's command waits for it, or this is about one of its pieces */
    struct sim_upload *upload;
    struct sim_download *download; /* this reads one of its pieces */
    uint8_t piece_key[PIECE_KEY_SIZE];
    bool waits; /* for another try or an answer: not inside the core */
    char key[SIM_KEY_SIZE + 1];
    struct sim_value value;
    uint64_t persists[SIM_KEY_MAX + 1]; /* persist: what it has to find durable, by key */
    /* an answer that a pause delays */
    enum outcome outcome;
    struct sim_value result;
    uint32_t result_flags;
    bool result_large;
    uint64_t result_cas, number;
    /* read by another worker (sim_reader.c) */
    bool inside;           /* it has found a record */
    uint64_t inside_since; /* the shard's grace_asked then */
    struct reading reading;
};

struct sim_append { /* a record of a key that is appended and perhaps not durable */
    uint64_t lsn, ts;
};

enum { SIM_APPENDS_MAX = 64 };

/* What the checks know of one key at one node. */
struct sim_shadow {
    uint64_t inv_ts, inv_token; /* of the last INV that reached this node while it healed */
    uint32_t inv_epoch;
    uint8_t inv_from; /* whose token it is */
    /* by lsn; the first is the newest durable one, or zeros */
    struct sim_append appends[SIM_APPENDS_MAX];
    unsigned count;
    uint64_t own_ts;   /* of this node's last own write of the key */
    uint64_t acked_ts; /* of the newest that it answered */
    /* the current record; kind 0: none */
    uint64_t ts, lsn, content;
    uint64_t upload; /* that it names; 0: none */
    uint8_t kind, state;
};

/* The control thread's mail to a worker. */
struct sim_mail {
    bool restart;
    uint64_t incarnation;
    struct view view;
};

struct sim_shard {
    struct sim *sim;
    uint8_t node, number;
    struct medium *medium; /* lives on when the node dies */
    struct store *store;
    struct shard *shard;
    void *store_memory, *shard_memory;
    void *left;     /* by a killed process: its index, to be taken over; NULL: none */
    bool took_over; /* the index, at the last opening */
    uint64_t durable;
    uint64_t proved;   /* then: log_proved() */
    uint64_t drain_at; /* when the medium is looked at next; SIM_FOREVER: nothing under way */
    uint64_t grace, grace_asked; /* as in the server: sim_reader.c */
    bool turn_pending, soon_pending;
    uint64_t view_at; /* mail is in order */
    uint32_t healed_epoch;
    uint64_t leased_at;    /* a tick last saw a lease */
    bool stalled;          /* none for long: the shard was told */
    uint32_t generation;   /* of the newest log segment that the aim has seen */
    uint64_t floor, clock; /* after the newest step */
    uint64_t kept;         /* the clock that the log's marks say */
    /* when its log was last nearly full: no grace for readers of pieces then */
    uint64_t crowded_us;
    struct view view;                        /* installed here */
    struct sim_shadow keys[SIM_KEY_MAX + 1]; /* the last: the flush record */
};

struct sim_node {
    struct sim *sim;
    uint8_t id;
    bool up;
    bool damaged; /* its disk was wiped or corrupted, and it has not been a member since */
    bool rotten;  /* damaged segments may still lie in its log, though it has healed */
    /* it died without losing power: what was not durable then is readable, but still not durable */
    bool was_killed;
    uint32_t life;        /* generation */
    uint64_t incarnation; /* of this life or membership */
    uint64_t incarnation_next;
    uint64_t paused_until;
    int64_t mono_offset; /* clocks: mono = offset + t + t * ppm / 10^6; wall = mono + wall_offset */
    int32_t drift_ppm;
    int64_t wall_offset;
    struct member member;
    struct gate gates[SIM_NODE_LIMIT]; /* by peer: the real one */
    /* by peer: incarnations up to this one have left the view installed here */
    uint64_t removed[SIM_NODE_LIMIT];
    /* by peer: the newest incarnation that was connected to this life */
    uint64_t met[SIM_NODE_LIMIT];
    uint8_t blocked_from; /* set: packets from these do not arrive here */
    struct sim_shard shards[SIM_SHARD_MAX];
    struct sim_call *calls;
    struct sim_upload *uploads; /* that are not over, newest first */
    uint64_t upload_version;
    /* consensus, as this node sees it */
    unsigned leader;
    uint64_t contact_us; /* global time of the last word of the leader */
    uint32_t applied;    /* entries */
    uint32_t durable_applied;
};

/* ---- clients ---- */
struct sim_client {
    uint32_t command; /* how many so far */
    bool busy;
    unsigned burst; /* commands to come without thinking */
    uint8_t home;   /* 0: any node */
    uint64_t cas_seen[SIM_KEY_MAX];
    uint32_t operation;
};

/* What is known of a large value that somebody began to store. */
struct sim_large {
    uint64_t upload;
    uint64_t since_us;   /* a node could answer it */
    uint64_t unnamed_us; /* first seen to be replaced, or flushed; 0: not yet */
    uint16_t key;
    uint8_t pieces;
    uint64_t judged_ts[4]; /* by piece: of a delete that was judged when it began */
};

/* From a cold start of the group to the next (sim_era.c). */
struct sim_era {
    uint32_t cold_start;
    uint64_t stamp; /* when it begins */
    uint64_t ts[SIM_KEY_MAX];
    struct sim_operation values[SIM_KEY_MAX]; /* what it begins with: a set, or a get: nothing */
};

enum { SIM_ERAS_MAX = 64 };

struct sim_eras {
    struct sim_era list[SIM_ERAS_MAX];
    unsigned count;
};

struct sim_proposal {
    struct member_entry entry;
    unsigned by;
    uint32_t term;
    bool settled;
};

struct sim {
    struct sim_options options;
    struct sim_profile profile;
    struct prng prng;
    uint64_t now, number;
    uint64_t hash; /* of everything that happened */
    struct sim_event *heap;
    size_t heap_count, heap_room;

    struct sim_node nodes[SIM_NODE_LIMIT];
    /* shard, from, to */
    struct sim_channel channels[SIM_SHARD_MAX][SIM_NODE_LIMIT][SIM_NODE_LIMIT];
    struct sim_link links[SIM_SHARD_MAX][SIM_NODE_LIMIT][SIM_NODE_LIMIT];
    uint8_t configured;
    bool settling; /* the safety phase is over: no faults any more */
    bool final;    /* the last reads are under way */
    /* a member that lost its disk and is not yet out of the view: nothing else may fail now */
    unsigned fragile;
    uint64_t fragile_incarnation;
    bool silent_death; /* who dies now takes with it what it had sent */

    struct sim_client clients[SIM_CLIENT_MAX];
    struct sim_operation *history;
    uint32_t operation_count, operation_room;
    uint32_t open_count; /* commands without an answer */
    uint64_t stamp;
    uint32_t wall_max;
    /* commands that change it with an unknown outcome: the judge's work doubles with each */
    unsigned open_ended[SIM_KEY_MAX];
    unsigned extended[SIM_KEY_MAX]; /* append and prepend so far: values stay short */

    /* durable everywhere, says the model: newest ts of each key */
    uint64_t promised[SIM_SHARD_MAX][SIM_KEY_MAX + 1];
    uint64_t persists;
    uint32_t cold_starts;
    struct sim_era era_draft;
    struct sim_eras eras[SIM_SHARD_MAX];

    struct sim_large *larges;
    uint32_t large_count, large_room;

    /* consensus */
    struct member_entry *log;
    uint32_t log_count, log_room;
    unsigned leader;
    uint32_t term;
    uint64_t leader_lost_us; /* since when it has no majority; SIM_FOREVER: it has */
    struct sim_proposal *proposals[64];
    unsigned proposal_count;
    struct view newest; /* installed by anybody */

    /* counters, for people */
    uint64_t steps, messages, crashes, restarts, wipes, corruptions, power_cuts, pauses, resets,
        partitions, removals;
    uint64_t cleaned_bytes, forgotten, evictions; /* forgotten: tombstones that were dropped */
    uint64_t uploads, downloads, pieces_read, pieces_late, pieces_deleted;
    uint64_t local_reads, elsewhere_reads, refused, unknown, late_leases, verifications,
        judge_steps;

    jmp_buf out;
    char reason[SIM_REASON_SIZE];
};

/* ---- sim_schedule.c ---- */
__attribute__((format(printf, 2, 3), noreturn)) void sim_fail(struct sim *sim, const char *format,
                                                              ...);
struct sim_event *sim_at(struct sim *sim, uint64_t at, enum sim_event_type type);
bool sim_next(struct sim *sim, struct sim_event *event);
uint64_t sim_below(struct sim *sim, uint64_t bound);                /* 0 if bound is 0 */
uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high); /* inclusive */
bool sim_chance(struct sim *sim, unsigned percent);
/* Mixes a word into the hash of the run. */
void sim_mix(struct sim *sim, uint64_t word);
/* A line of the trace, and its place in the hash. `words`: what tells this event from others. */
#define sim_note(sim, word, ...)                                                                   \
    do {                                                                                           \
        sim_mix(sim, word);                                                                        \
        if ((sim)->options.trace)                                                                  \
            sim_print(sim, __VA_ARGS__);                                                           \
    } while (0)
__attribute__((format(printf, 2, 3))) void sim_print(struct sim *sim, const char *format, ...);
uint64_t sim_mono(const struct sim *sim, unsigned node);
uint64_t sim_mono_at(const struct sim *sim, unsigned node, uint64_t at);
uint64_t sim_wall(const struct sim *sim, unsigned node);

/* ---- sim_profile.c ---- */
/* False: no such scenario. */
bool sim_profile_draw(struct sim *sim);
void sim_scenarios_print(FILE *file);

/* ---- sim_network.c ---- */
void sim_network_send(struct sim *sim, unsigned from, unsigned to, unsigned shard,
                      const struct action *action);
void sim_network_pump(struct sim *sim, unsigned shard, unsigned from, unsigned to);
/* everything that waits for this node: a view, a resume, a healed partition */
void sim_network_wake(struct sim *sim, unsigned to);
/* What a shard held may find room now. */
void sim_network_retry(struct sim *sim, unsigned shard, unsigned to);
void sim_network_reset(struct sim *sim, unsigned shard, unsigned a, unsigned b, bool keep_some);
void sim_network_reset_node(struct sim *sim, unsigned node);
/* what it had sent may still arrive, until its end is noticed */
void sim_network_died(struct sim *sim, unsigned node);
void sim_network_connect(struct sim *sim, unsigned shard, unsigned a, unsigned b);
void sim_network_control(struct sim *sim, unsigned from, unsigned to,
                         const struct member_message *message);
void sim_network_listen(struct sim *sim, unsigned node); /* heartbeats */
bool sim_reaches(const struct sim *sim, unsigned from, unsigned to);
bool sim_running(const struct sim *sim, unsigned node); /* up and not paused */

/* ---- sim_consensus.c ---- */
void sim_consensus_turn(struct sim *sim);
void sim_consensus_commit(struct sim *sim, struct sim_proposal *proposal);
void sim_consensus_start(struct sim *sim, unsigned node); /* a node starts: replays what it has */
void sim_consensus_stop(struct sim *sim, unsigned node);
void sim_consensus_propose(struct sim *sim, unsigned node, const struct member_entry *entry);
void sim_consensus_free(struct sim *sim);

/* ---- sim_node.c ---- */
void sim_node_start(struct sim *sim, unsigned node);
void sim_node_crash(struct sim *sim, unsigned node);
void sim_node_free(struct sim *sim, unsigned node);
void sim_node_forget(struct sim_shard *shard);       /* what a killed process has left */
void sim_node_count(struct sim *sim, unsigned node); /* adds to the counters what its stores say */
void sim_node_tick(struct sim *sim, unsigned node);
void sim_node_mail(struct sim *sim, unsigned node, unsigned shard, const struct sim_mail *mail);
void sim_node_healed(struct sim *sim, unsigned node, unsigned shard, uint32_t epoch);
void sim_node_suspects(struct sim *sim, unsigned node, uint8_t nodes, uint32_t epoch);
void sim_node_pause(struct sim *sim, unsigned node, uint64_t until);
void sim_node_received(struct sim *sim, unsigned node, unsigned from,
                       const struct member_message *message);
struct member_actions sim_node_actions(struct sim *sim, unsigned node);

/* ---- sim_worker.c ---- */
void sim_worker_step(struct sim *sim, unsigned node, unsigned shard, struct event *event);
void sim_worker_turn(struct sim *sim, unsigned node, unsigned shard);
void sim_worker_drained(struct sim *sim, unsigned node, unsigned shard);
void sim_worker_request(struct sim *sim, unsigned node, struct sim_call *call);
void sim_worker_answer(struct sim *sim, unsigned node, struct sim_call *call);
void sim_worker_message(struct sim *sim, unsigned node, unsigned shard,
                        const struct message *message);
void sim_worker_take_result(struct sim_call *call, const struct record *record);
void sim_worker_drop_calls(struct sim *sim, unsigned node);
void sim_worker_notice_lease(struct sim *sim, unsigned node, unsigned number);
bool sim_lease_holds(const struct sim *sim, unsigned node, uint64_t at);

/* ---- sim_reader.c ---- */
void sim_reader_pass_grace(struct sim *sim, struct sim_shard *shard);
/* false: to the owner */
bool sim_reader_begin(struct sim *sim, unsigned node, struct sim_call *call);
void sim_reader_end(struct sim *sim, unsigned node, struct sim_call *call);

/* ---- sim_client.c ---- */
void sim_clients_start(struct sim *sim);
void sim_client_next(struct sim *sim, unsigned client);
void sim_client_patience(struct sim *sim, unsigned client, uint32_t command);
/* The outcome of a call; OUTCOME_UNKNOWN: nobody will ever know. Frees nothing. */
void sim_client_answered(struct sim *sim, const struct sim_call *call, enum outcome outcome);
void sim_client_final_reads(struct sim *sim);
unsigned sim_key_shard(const struct sim *sim, unsigned key);
struct slice sim_key_name(unsigned key, char name[SIM_KEY_SIZE + 1]);

/* ---- sim_large.c ---- */
/* The command at this node stores a large value: its pieces go first, then the manifest, whose
 * bytes are the value now. */
void sim_large_begin(struct sim *sim, unsigned node, struct sim_call *call);
/* A piece's call has its outcome. */
void sim_large_answered(struct sim *sim, const struct sim_call *call, enum outcome outcome);
/* The command that carried the manifest, or never came to it, has its outcome. */
void sim_large_over(struct sim *sim, const struct sim_call *call, enum outcome outcome);
/* The answer to a client was a manifest: its pieces are read one after another. */
void sim_large_read(struct sim *sim, const struct sim_call *call);
/* the node is gone: its calls are about nothing any more */
void sim_large_drop(struct sim *sim, unsigned node);
uint64_t sim_large_floor(const struct sim *sim, unsigned node);
/* What a key's record names has changed at a node. */
void sim_large_changed(struct sim *sim, const struct sim_shard *shard, unsigned key,
                       uint64_t former);
/* After each step. */
void sim_large_step(struct sim *sim, struct sim_shard *shard);
/* A piece is about to be deleted: may it? */
void sim_large_sent(struct sim *sim, struct sim_shard *shard, const struct action *action);
/* Each piece is of a current manifest, and each manifest has its pieces. */
bool sim_large_at_rest(struct sim *sim, char *why, size_t why_size);
static inline bool sim_is_piece(const struct sim_call *call)
{
    return call->client == SIM_PIECE_CLIENT;
}

/* ---- sim_model.c ---- */
bool sim_model_draw(struct sim *sim); /* false: no such model */
/* Loses power, not only its process, and nothing is lost that the model promises. */
bool sim_model_may_lose_power(const struct sim *sim, unsigned node);
/* An answer of `own`'s node: a write of the key; a read of it. */
void sim_model_wrote(struct sim *sim, struct sim_shard *own, unsigned key);
void sim_model_read(struct sim *sim, const struct sim_shard *own, unsigned key);
/* A persist comes to the shard; is answered. */
void sim_model_persist(struct sim_call *call, const struct sim_shard *own);
void sim_model_persisted(struct sim *sim, const struct sim_call *call, const struct sim_shard *own);

/* ---- sim_era.c ---- */
void sim_era_view(struct sim *sim, const struct view *view);
/* true: sim_era_after_step has to be called */
bool sim_era_before_step(struct sim *sim, const struct sim_shard *shard);
void sim_era_after_step(struct sim *sim, const struct sim_shard *shard);
size_t sim_era_cut(const struct sim *sim, unsigned key, unsigned number,
                   const struct sim_operation *const *list, size_t count,
                   struct sim_operation *copies);

/* ---- sim_check.c ---- */
void sim_check_step(struct sim *sim, unsigned node, unsigned shard);
void sim_check_sent(struct sim *sim, unsigned node, unsigned shard, const struct action *action);
void sim_check_durable(struct sim *sim, unsigned node, unsigned shard);
void sim_check_reply(struct sim *sim, unsigned node, const struct sim_call *call,
                     enum outcome outcome, bool local);
void sim_check_view(struct sim *sim, unsigned node);
void sim_check_leases(struct sim *sim);
/* ---- sim_rules.c: what the code's rules promise of its state, looked up without its help ---- */
/* The log has been opened: of each key's records the one with the highest lsn counts. */
void sim_rules_opened(struct sim *sim, const struct sim_shard *shard);
/* The record of a key, a tombstone or a DISCARD, was dropped. */
void sim_rules_forgotten(struct sim *sim, const struct sim_shard *shard, unsigned key,
                         const struct sim_shadow *former);
/* A healing node is given an INV; a node sends. What healing acknowledges it must hold, or newer,
 * as the group's. */
void sim_rules_inv(struct sim_shard *shard, const struct message *message);
void sim_rules_sent(struct sim *sim, const struct sim_shard *shard, const struct action *action);
/* After each step: no member's clock is behind a floor that another has adopted. */
void sim_rules_floor(struct sim *sim, struct sim_shard *shard);
/* A view is about to be installed for the first time anywhere. */
void sim_check_cold(struct sim *sim, const struct view *view);
void sim_check_incarnation(struct sim *sim, unsigned from, unsigned to, uint64_t incarnation);
void sim_check_opened(struct sim *sim, unsigned node, unsigned shard);
bool sim_check_at_rest(struct sim *sim, char *why, size_t why_size);
void sim_check_history(struct sim *sim);

/* ---- sim_nemesis.c ---- */
void sim_nemesis_next(struct sim *sim);
void sim_nemesis_heal(struct sim *sim);
void sim_nemesis_end(struct sim *sim); /* everything that is broken is mended */
bool sim_fragile(struct sim *sim);
bool sim_view_is_changing(const struct sim *sim);

/* The node dies, if that is survivable; `silent`: what it had sent is lost. */
void sim_nemesis_crash(struct sim *sim, unsigned node, bool silent);

/* ---- sim_aim.c ---- */
/* Before the message is delivered. */
void sim_aim_message(struct sim *sim, unsigned to, unsigned shard, const struct message *message);
void sim_aim_step(struct sim *sim, struct sim_shard *shard);
void sim_aim_forgot(struct sim *sim, unsigned node); /* a tombstone was dropped */
void sim_aim_sent(struct sim *sim, unsigned node, unsigned shard, const struct action *action);
/* Bends what a client is about to do. */
void sim_aim_operation(struct sim *sim, struct sim_operation *operation);
uint32_t sim_segment_count(const struct sim *sim, unsigned node);

/* ---- sim_run.c ---- */
struct sim_result {
    bool passed;
    uint64_t hash, steps, operations, events;
    char reason[SIM_REASON_SIZE];
    char summary[512];
};
void sim_run(const struct sim_options *options, struct sim_result *result);

#endif
