/* group.h: this node's place in the group: the membership core (replica/member.h) with its log,
 * lane and timers. Control thread only. A single node has no peers and no raft: view {self}, the
 * same code. */
#ifndef SERVER_GROUP_H
#define SERVER_GROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "net/net.h"
#include "replica/member.h"
#include "server/mailbox.h"
#include "server/options.h"

struct event_base;
struct node;
struct raft_driver;

struct group {
    struct node *node;
    struct member member;
    struct member_actions actions;
    struct raft_driver *raft;                  /* NULL: a single node */
    struct net_lane *lane;                     /* NULL: a single node */
    uint32_t healed_epoch[OPTIONS_THREAD_MAX]; /* by shard: it has all it missed in this epoch */
    uint64_t fences[MEMBER_LIMIT];
    uint64_t now_us;
    uint64_t healing_since_us; /* 0: not healing */
    uint64_t told_us;          /* the newest progress line */
    uint64_t told_received;    /* what it said */
    bool told_no_room;
    uint64_t awaited_us; /* the newest line about a start that waits */
    uint64_t awaits_since_us;
    uint64_t leaderless_us; /* since when the agreed log has no leader; 0: it has one */
    unsigned leader;        /* of the agreed log; 0: nobody */
    uint64_t absent_us; /* since when another leads, and has not taken this node in; 0: not so */
    uint64_t told_absent_us;
    uint64_t told_leaderless_us; /* the newest line about that; 0: none since there was one */
};

enum status group_open(struct group *group, struct node *node, struct event_base *base) MUST_CHECK;
void group_close(struct group *group);

/* About every 10 ms. */
void group_tick(struct group *group);

/* At the end of each turn of the loop. */
void group_flush(struct group *group);

/* HEALED and SUSPECT of the shards. */
void group_read_letter(struct group *group, const struct letter *letter);

#endif
