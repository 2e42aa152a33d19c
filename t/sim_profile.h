/* sim_profile.h: what a run of the simulator is asked for, and what its seed draws from that. */
#ifndef T_SIM_PROFILE_H
#define T_SIM_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "replica/model.h"
#include "replica/request.h"

struct sim_options {
    uint64_t seed;
    /* NULL, or a name of t/sim_scenario.def: draws the faults that a rule is there for */
    const char *scenario;
    unsigned node_count; /* 0: by seed */
    const char *model;   /* NULL: synch; "any": by seed; or the name of one */
    bool trace;
    bool quick; /* a shorter run */
};

/* Aimed faults (sim_aim.c): what strikes at the moment at which a rule carries weight. All 0:
 * never. */
struct sim_aim {
    /* of INVs of a key in conflict: the sender dies, and nobody else gets that INV */
    unsigned orphan_permille;
    unsigned reuse_percent; /* of log segments that are opened: the node dies soon after */
    /* of ROUND_STABLE: who receives it dies before its MARK can be durable */
    unsigned stable_percent;
    bool tails;               /* and only while it has something that only others have durable */
    unsigned recoil_permille; /* of INVs sent: the sender dies before anybody gets it */
    unsigned forget_percent;  /* of tombstones dropped: the node dies soon after */
    /* of ACKs, while another follower lacks that INV: the sender of the ACK dies */
    unsigned turncoat_permille;
    /* of INVs of manifests that only some have: the sender dies, and nobody else gets that INV */
    unsigned manifest_permille;
    unsigned cut_permille; /* of INVs to a healing node: the connection breaks soon after */
    uint8_t roomy;         /* nodes whose log is four times as large: nothing is cleaned there */
    /* all keys but the first two are deleted in the course of the run, one by one */
    bool wither;
    /* the first two keys are only counted up: the newest versions are those of keys that go */
    bool count;
};

/* What a seed draws: sizes, speeds, and how often each kind of fault strikes (0: never in this
 * run). */
struct sim_profile {
    unsigned node_count, shard_count, key_count, client_count, operation_count;
    uint64_t safety_us; /* faults until then; afterwards everything must come to rest */
    uint64_t think_us;  /* between two commands of a client, at most */
    uint64_t client_patience_us;
    uint64_t delay_min_us, delay_max_us;
    unsigned delay_tail_percent; /* messages that take ten times as long */
    /* links, each way by itself, that take slow_factor times as long all the time */
    unsigned slow_link_percent;
    unsigned slow_factor;
    uint64_t drain_min_us, drain_max_us;
    unsigned drain_stall_percent; /* drains that take twenty times as long */
    uint64_t turn_us;             /* from a step to its log_drain(), at most */
    uint64_t view_delay_us;       /* from the control thread to a shard, at most */
    uint64_t lease_us, suspect_us, election_us, boot_grace_us;
    uint32_t drift_ppm, round_us, ask_us, slow_us;
    uint32_t walk_bytes; /* of the log a turn; 0: as in the product, which is all there is */
    /* of the nodes that are killed leave an index that is taken over, if their power stays */
    unsigned take_percent;
    bool only_kills; /* nobody's power fails */
    unsigned control_loss_percent;
    uint8_t victims;       /* nodes that crash and pause; 0: all */
    bool keep_majority;    /* crashes and pauses leave most nodes alone */
    uint64_t fault_gap_us; /* mean time between faults */
    /* weights */
    unsigned crash, wipe, corrupt, power_cut, pause, reset, partition, one_way, wall_jump, removal;
    unsigned lag; /* weight: one link, one way, becomes slow for a while */
    uint64_t lag_max_us, lag_time_max_us;
    struct sim_aim aim;
    unsigned full_percent; /* restarts with --recovery=full */
    unsigned pause_in_reply_permille;
    /* reads that another worker of the node tries, who may be stopped in the middle... */
    unsigned elsewhere_percent;
    uint64_t elsewhere_max_us; /* ...for up to so long */
    uint64_t down_max_us, pause_max_us, partition_max_us;
    /* the wall clock stands still: versions grow by the rules alone, not by time */
    bool wall_frozen;
    bool meta;               /* some commands become meta commands */
    bool evicts;             /* full stores make room */
    uint32_t evict_above;    /* of shard_options */
    uint64_t wall_spread_us; /* wall clocks differ by up to this */
    unsigned expire_percent;
    unsigned flush_permille;
    unsigned weight[REQUEST_EXPIRE]; /* of each command */
    uint32_t segment_size, segment_count;
    unsigned pad_max;        /* of values */
    unsigned large_percent;  /* of values that are stored: they lie in pieces (replica/piece.h) */
    uint32_t collect_us;     /* of shard_options; 0: as in the product, longer than a run */
    unsigned piece_size;     /* of their values, at least */
    uint64_t large_pause_us; /* between two pieces that a client sends or takes, at most */
    /* commands go to so many keys at a time, to the next when the judge has enough of one; 0: to
     * all */
    unsigned window;
    /* commands that go to the first two keys; the others have time to be forgotten */
    unsigned skew_percent;
    enum model model;
    unsigned persist_percent; /* of commands */
    /* the whole group may lose power though the model may then lose answers */
    bool blackout;
    unsigned verify_every; /* shard_verify() after every so many steps */
};

#endif
