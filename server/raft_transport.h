/* raft_transport.h: the connections of raft, in the place of libraft's own: peers are found by id,
 * names are resolved again for each connection, and both sides prove that they know the secret
 * before the first byte of raft. Control thread only; for raft_driver.c.
 *
 *     dialler                                  acceptor
 *        | ---- call (nonce D) -----------------> |  knows who calls, checks the configuration
 *        | <--- answer (nonce A, proof) --------- |  proof = HMAC(secret, "A", both nonces, who,
 * whom) | ---- proof --------------------------> |  proof = HMAC(secret, "D", the same) | ====
 * raft, from the dialler only ====> |
 *
 * As on the lanes between nodes (net/hello.h) the proofs cover who connects, not what follows. */
#ifndef SERVER_RAFT_TRANSPORT_H
#define SERVER_RAFT_TRANSPORT_H

#include <raft/uv.h>
#include <stdbool.h>

#include "base/status.h"
#include "replica/view.h"

enum { RAFT_HOST_SIZE = 256, RAFT_PEER_LIMIT = 8, RAFT_SECRET_SIZE = 256 };

struct raft_peer {
    unsigned id;   /* 0: none */
    uint16_t port; /* raft's */
    char host[RAFT_HOST_SIZE];
    char name[RAFT_HOST_SIZE + 8]; /* host:port, what raft calls the address: equal on all nodes */
    struct sockaddr_in address;    /* sin_port 0: not known yet */
    bool numeric, resolving;
    uv_getaddrinfo_t resolver;
};

struct raft_door;

struct raft_transport {
    struct raft_uv_transport base; /* first: raft calls us with it */
    uv_loop_t *loop;
    unsigned self;
    uint64_t configuration;
    char secret[RAFT_SECRET_SIZE]; /* empty: none */
    struct raft_peer peers[RAFT_PEER_LIMIT];
    uv_tcp_t listener;
    bool listening, closing;
    raft_uv_accept_cb on_accept;
    raft_uv_transport_close_cb on_close;
    struct raft_door *doors;
    unsigned door_count;
    unsigned long refused;
    uint64_t told_ms;
};

/* Fills in all but self, configuration, secret and peers, which must be there. False: `why` says
 * which host is of no use. */
bool raft_transport_init(struct raft_transport *transport, uv_loop_t *loop, char *why,
                         size_t why_size);

#endif
