/* hello.h: how two nodes make sure of each other before the first frame. Pure but for the nonce;
 * any thread.
 *
 *     dialler                                    acceptor
 *        | ---- hello (nonce D) ------------------> |  knows who calls, checks the settings
 *        | <--- hello (nonce A, proof or refusal) - |  proof = HMAC(secret, "A", both hellos)
 *        | ---- hello_proof ----------------------> |  proof = HMAC(secret, "D", both hellos)
 *        | ==== frames, both ways ================= |
 *
 * Where both offer RDMA, the acceptor's lane then says where it listens for it (hello_ready), the
 * dialler connects a queue pair whose request carries a hello_join, and the frames travel there;
 * the TCP connection stays, silent, and ends with the process.
 *
 * The dialler (the higher node id) speaks first, on the queue pair as well: iWARP wants it so.
 * Without a secret the proofs are zero. The proofs cover who connects, not the frames that follow:
 * a network on which others can write into connections needs more (a VPN, TLS). Magic, version and
 * size keep their place for ever. */
#ifndef NET_HELLO_H
#define NET_HELLO_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HELLO_MAGIC = 0x31484348,       /* "HCH1" */
    HELLO_PROOF_MAGIC = 0x31504348, /* "HCP1" */
    HELLO_JOIN_MAGIC = 0x314a4348,  /* "HCJ1" */
    HELLO_READY_MAGIC = 0x31594348, /* "HCY1" */
    HELLO_VERSION = 1,              /* of hellos, frames and all messages in them */
    HELLO_PREFIX_SIZE = 8,          /* magic, version, size: enough to refuse another version */
    HELLO_PROOF_SIZE = 32,
};

struct hello {
    uint32_t magic;
    uint16_t version;
    uint16_t size; /* of the whole hello */
    uint16_t lane;
    uint16_t lane_count;
    uint8_t from; /* node ids */
    uint8_t to;
    uint8_t secured; /* 1: has a secret */
    uint8_t refusal; /* acceptor: enum hello_refusal; the rest says nothing then */
    uint64_t incarnation;
    uint64_t configuration;
    uint32_t message_size_max;
    uint32_t transports; /* enum hello_transport: what the caller offers, what the acceptor chose */
    uint8_t nonce[16];
    uint8_t proof[HELLO_PROOF_SIZE]; /* acceptor only */
    uint32_t unused_end;             /* zero */
    uint32_t crc;                    /* of all before it */
};
static_assert(sizeof(struct hello) == 96, "wire format");
static_assert(offsetof(struct hello, incarnation) == 16, "wire format");
static_assert(offsetof(struct hello, nonce) == 40, "wire format");

struct hello_proof {
    uint32_t magic;
    uint32_t unused; /* zero */
    uint8_t proof[HELLO_PROOF_SIZE];
    uint32_t unused_end; /* zero */
    uint32_t crc;        /* of all before it */
};
static_assert(sizeof(struct hello_proof) == 48, "wire format");

/* The acceptor's lane waits for a queue pair at this port of its address. */
struct hello_ready {
    uint32_t magic;
    uint16_t port;
    uint16_t unused;     /* zero */
    uint32_t unused_end; /* zero */
    uint32_t crc;        /* of all before it */
};
static_assert(sizeof(struct hello_ready) == 16, "wire format");

/* The private data of a connection request: which greeting it belongs to. 56 bytes is all that
 * InfiniBand gives. */
struct hello_join {
    uint32_t magic;
    uint8_t from;
    uint8_t to;
    uint16_t lane;
    uint8_t nonce[16]; /* the acceptor's */
    uint8_t proof[HELLO_PROOF_SIZE];
};
static_assert(sizeof(struct hello_join) == 56, "wire format");

enum hello_transport { HELLO_TCP = 1, HELLO_RDMA = 2 };

/* Why a hello is refused; the number is wire format. */
enum hello_refusal {
#define HELLO_REFUSAL_ROW(name, text) HELLO_##name,
#include "net/hello_refusal.def"
#undef HELLO_REFUSAL_ROW
    HELLO_REFUSAL_COUNT
};

/* Numbers from the wire are allowed. */
const char *hello_refusal_text(unsigned refusal);

/* What a node knows of itself and of the cluster. */
struct hello_side {
    unsigned self;
    unsigned known; /* bit n: node n is configured */
    unsigned lane_count;
    uint32_t message_size_max;
    uint64_t configuration;
    const char *secret;  /* NULL: none */
    uint32_t transports; /* offered */
};

/* A hello of this side, with a fresh nonce, sealed. */
void hello_make(struct hello *hello, const struct hello_side *side, unsigned to, unsigned lane,
                uint64_t incarnation);

/* Narrows what a hello offers or has chosen, and seals it again. */
void hello_offer(struct hello *hello, uint32_t transports);

/* What the acceptor takes of a call's offer; 0: nothing in common. */
uint32_t hello_choose(const struct hello *call, const struct hello_side *side);

/* An acceptor's no, sealed. */
void hello_make_refusal(struct hello *hello, const struct hello_side *side, unsigned to,
                        enum hello_refusal refusal);

/* Judges the first HELLO_PREFIX_SIZE bytes: HELLO_ACCEPTED, NOT_OURS or OTHER_VERSION. */
enum hello_refusal hello_check_prefix(const void *prefix);

/* Judges a caller's whole hello. */
enum hello_refusal hello_check_call(const struct hello *hello, const struct hello_side *side);

/* Judges the answer to `call`, its proof included. HELLO_REFUSED_US: answer->refusal is the peer's
 * reason. */
enum hello_refusal hello_check_answer(const struct hello *answer, const struct hello *call,
                                      const struct hello_side *side);

/* Puts the acceptor's proof into its answer and seals it again. */
void hello_prove_answer(struct hello *answer, const struct hello *call,
                        const struct hello_side *side);

/* The dialler's last word, and its check. */
void hello_make_proof(struct hello_proof *proof, const struct hello *call,
                      const struct hello *answer, const struct hello_side *side);
enum hello_refusal hello_check_proof(const struct hello_proof *proof, const struct hello *call,
                                     const struct hello *answer, const struct hello_side *side);

void hello_make_ready(struct hello_ready *ready, uint16_t port);
enum hello_refusal hello_check_ready(const struct hello_ready *ready);

void hello_make_join(struct hello_join *join, const struct hello *call, const struct hello *answer,
                     const struct hello_side *side);
/* `join` may be of any origin; the hellos are those of the greeting that waits. */
enum hello_refusal hello_check_join(const struct hello_join *join, const struct hello *call,
                                    const struct hello *answer, const struct hello_side *side);

#endif
