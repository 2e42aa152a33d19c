/* raft_driver.h: the agreed log of membership: Debian's libraft with its own libuv I/O, run inside
 * a libevent loop. Control thread only.
 *
 * Every configured node votes. Entries are struct member_entry, written only when the membership
 * changes; snapshots are struct member_snapshot. Raft speaks TCP on the peer port + 10000 (- 10000
 * where that is no port): hosts must be numeric IPv4 addresses or names that resolve to one.
 * Peers prove the secret to each other, as on the lanes (raft_transport.h).
 *
 * Without a directory the votes and entries live in a temporary one that is removed at the end.
 * Such a node forgets its vote when it restarts: it may vote twice in a term, and a majority that
 * restarts forgets the views. That is what a group in memory is: when most of it stops, its data
 * are gone as well; and a restarted node keeps silent for two election times, so that the term in
 * which it may have voted is over.
 *
 * No callback comes from inside any of these functions: all come from the loop. */
#ifndef SERVER_RAFT_DRIVER_H
#define SERVER_RAFT_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "replica/member.h"

struct event_base;
struct raft_driver;

struct raft_driver_peer {
    unsigned id;
    const char *host; /* copied */
    uint16_t port;    /* the peer port: raft's is made from it */
};

struct raft_driver_options {
    unsigned self;
    unsigned peer_count; /* of peers[], self included: all configured nodes */
    struct raft_driver_peer peers[MEMBER_LIMIT];
    const char *directory;  /* DIR/raft, made if need be; NULL: a temporary one */
    unsigned election_ms;   /* member_options.election_us / 1000 */
    unsigned heartbeat_ms;  /* at most a third of it */
    uint64_t configuration; /* hash of the cluster-wide settings: peers must have the same */
    const char *secret;     /* NULL, or what peers must prove to know; copied */
};

struct raft_driver_callbacks {
    /* The next committed entry. */
    void (*applied)(void *user, const struct member_entry *entry);
    void (*snapshot)(void *user, struct member_snapshot *snapshot);
    void (*restore)(void *user, const struct member_snapshot *snapshot);
    /* Raft's leader is now `leader`, 0: none known. Comes before anything else can happen in this
     * thread. Also a loss followed by a return of the same leader is told as two calls. */
    void (*role)(void *user, unsigned leader);
    /* Nothing works any more (the disk, damaged data): this node must stop. Comes once. */
    void (*failed)(void *user, const char *why);
};

/* STATUS_INVALID: a host that cannot be used; STATUS_FOREIGN: the directory belongs to another
 * group; STATUS_IO: port taken, directory; STATUS_CORRUPT: raft cannot read what it wrote. `why`
 * says it in one line. */
enum status raft_driver_open(struct raft_driver **driver, struct event_base *base,
                             const struct raft_driver_options *options,
                             const struct raft_driver_callbacks *callbacks, void *user, char *why,
                             size_t why_size) MUST_CHECK;

/* Ends everything in order; waits for the disk. No callback comes. NULL is allowed. */
void raft_driver_close(struct raft_driver *driver);

/* Queued; offered once. Lost without notice unless this node leads (member_tick proposes again).
 * May be called in a callback. */
void raft_driver_propose(struct raft_driver *driver, const struct member_entry *entry);

/* Where raft listens for a node of this peer port. */
uint16_t raft_driver_port(uint16_t peer_port);

#endif
