/* heal.h: the healing node's side of a session. A session belongs to one view; a new view starts it
 * again, which is cheap: what is there already costs one comparison. Pure; owner thread only.
 *
 *     IDLE --view with me healing--> ASKING --offers--> MARKING --own records marked--> CHECKING
 *     CHECKING --all listed--> TAKING --HEAL_END--> SETTLING --durable--> HEALED
 *
 * In a full session nothing of what the log holds is trusted, nothing is checked: the walk brings
 * everything, and what it did not bring is dropped at the end.
 *
 * A store that is nearly full may not hold what the buddy sends beside what the group no longer
 * has. When it is full, the node begins again, own records first: it checks all that it had before
 * this view, whether it trusts them or not, so that what the group has deleted makes room; the
 * buddy's walk comes after that. */
#ifndef RECOVERY_HEAL_H
#define RECOVERY_HEAL_H

#include "replica/replica.h"

enum {
    HEAL_OFFER_US = 200000,      /* wait for offers of all members; then the best so far */
    HEAL_CHECK_WINDOW = 512,     /* checks without an answer... */
    HEAL_CHECK_BYTES = 32 << 20, /* ...and what the answers may come to */
    HEAL_TAKEN_EVERY = 64,
};

enum heal_phase {
    HEAL_IDLE,
    HEAL_ASKING,
    HEAL_MARKING,
    HEAL_CHECKING,
    HEAL_TAKING,
    HEAL_SETTLING,
    HEAL_HEALED
};

struct heal {
    enum heal_phase phase;
    unsigned shard;
    bool always_full;
    bool full;
    /* records before the mark are unconfirmed, too: only a full session can end that... */
    bool full_begun;
    bool own_first;  /* ...or one that checks them all */
    bool all_marked; /* in this view; what was confirmed since then stays so */
    bool unresolved; /* there was no room to exchange some of them: once more */
    bool end_seen;
    uint64_t session;
    uint64_t mark; /* own records from here on are unconfirmed */
    uint64_t asked_us;
    uint8_t offered;   /* nodes that answered */
    uint64_t offer[8]; /* round, by node */
    unsigned buddy;    /* 0: none */
    struct store_cursor cursor;
    uint64_t tail; /* for replica_walk_budget */
    uint64_t checks, answers;
    uint64_t received, told; /* sequence numbers: taken, and said so */
    uint64_t bytes_untold;
    uint64_t settle; /* the log has to be durable up to here */
    uint64_t records, bytes, discarded, confirmed;
    uint64_t left_bytes; /* of the buddy's log, as it said last */
    uint64_t started_us, listed_us, ended_us;
};

void heal_on_view(struct heal *heal, struct replica *replica);
void heal_on_tick(struct heal *heal, struct replica *replica);
void heal_on_up(struct heal *heal, struct replica *replica, unsigned peer);
void heal_on_offer(struct heal *heal, struct replica *replica, const struct message *message);
void heal_on_record(struct heal *heal, struct replica *replica, const struct message *message);
void heal_on_same(struct heal *heal, struct replica *replica, const struct message *message);
void heal_on_absent(struct heal *heal, struct replica *replica, const struct message *message);
void heal_on_end(struct heal *heal, struct replica *replica, const struct message *message);

/* After any event: moves on to the next phase where nothing more is missing. */
void heal_advance(struct heal *heal, struct replica *replica);
bool heal_wants_turn(const struct heal *heal, const struct replica *replica);

#endif
