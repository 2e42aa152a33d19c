#include "net/hello.h"

#include <string.h>
#include <sys/random.h>

#include "base/crc32c.h"
#include "net/proof.h"

static const char *const texts[] = {
#define HELLO_REFUSAL_ROW(name, text) [HELLO_##name] = (text),
#include "net/hello_refusal.def"
#undef HELLO_REFUSAL_ROW
};

const char *hello_refusal_text(unsigned refusal)
{
    return refusal < HELLO_REFUSAL_COUNT ? texts[refusal] : "for an unknown reason";
}

static void seal(struct hello *hello)
{
    hello->crc = crc32c(0, hello, offsetof(struct hello, crc));
}

void hello_make(struct hello *hello, const struct hello_side *side, unsigned to, unsigned lane,
                uint64_t incarnation)
{
    *hello = (struct hello){
        .magic = HELLO_MAGIC,
        .version = HELLO_VERSION,
        .size = sizeof(*hello),
        .lane = (uint16_t)lane,
        .lane_count = (uint16_t)side->lane_count,
        .from = (uint8_t)side->self,
        .to = (uint8_t)to,
        .secured = side->secret != NULL,
        .incarnation = incarnation,
        .configuration = side->configuration,
        .message_size_max = side->message_size_max,
        .transports = side->transports,
    };
    ssize_t got = getrandom(hello->nonce, sizeof(hello->nonce), 0);
    assert(got == sizeof(hello->nonce)); /* Never short below 256 bytes. */
    seal(hello);
}

void hello_offer(struct hello *hello, uint32_t transports)
{
    hello->transports = transports;
    seal(hello);
}

uint32_t hello_choose(const struct hello *call, const struct hello_side *side)
{
    uint32_t common = call->transports & side->transports;
    return (common & HELLO_RDMA) != 0 ? HELLO_RDMA : common & HELLO_TCP;
}

void hello_make_refusal(struct hello *hello, const struct hello_side *side, unsigned to,
                        enum hello_refusal refusal)
{
    *hello = (struct hello){
        .magic = HELLO_MAGIC,
        .version = HELLO_VERSION,
        .size = sizeof(*hello),
        .from = (uint8_t)side->self,
        .to = (uint8_t)to,
        .refusal = (uint8_t)refusal,
    };
    seal(hello);
}

enum hello_refusal hello_check_prefix(const void *prefix)
{
    uint32_t magic;
    uint16_t version;
    memcpy(&magic, prefix, sizeof(magic));
    memcpy(&version, (const uint8_t *)prefix + offsetof(struct hello, version), sizeof(version));
    if (magic != HELLO_MAGIC)
        return HELLO_NOT_OURS;
    return version == HELLO_VERSION ? HELLO_ACCEPTED : HELLO_OTHER_VERSION;
}

static enum hello_refusal check_shape(const struct hello *hello)
{
    enum hello_refusal prefix = hello_check_prefix(hello);
    if (prefix != HELLO_ACCEPTED)
        return prefix;
    if (hello->size != sizeof(*hello) ||
        hello->crc != crc32c(0, hello, offsetof(struct hello, crc)) || hello->unused_end != 0)
        return HELLO_DAMAGED;
    return HELLO_ACCEPTED;
}

/* What both directions must agree in. */
static enum hello_refusal check_settings(const struct hello *hello, const struct hello_side *side)
{
    /* The first two are part of the configuration, too, but have a clearer name. */
    if (hello->lane_count != side->lane_count)
        return HELLO_OTHER_LANES;
    if (hello->message_size_max != side->message_size_max)
        return HELLO_OTHER_SIZE;
    if (hello->configuration != side->configuration)
        return HELLO_OTHER_CONFIGURATION;
    if (hello->secured != (side->secret != NULL))
        return HELLO_SECRET;
    if (hello->from == 0 || hello->from > 31 || (side->known & 1u << hello->from) == 0)
        return HELLO_UNKNOWN_NODE;
    if (hello->to != side->self)
        return HELLO_WRONG_NODE;
    if (hello->lane >= side->lane_count || hello->incarnation == 0)
        return HELLO_DAMAGED;
    return HELLO_ACCEPTED;
}

enum hello_refusal hello_check_call(const struct hello *hello, const struct hello_side *side)
{
    enum hello_refusal refusal = check_shape(hello);
    if (refusal == HELLO_ACCEPTED)
        refusal = check_settings(hello, side);
    if (refusal == HELLO_ACCEPTED && hello->from <= side->self)
        refusal = HELLO_WRONG_DIRECTION;
    if (refusal == HELLO_ACCEPTED && hello->refusal != 0)
        refusal = HELLO_DAMAGED;
    if (refusal == HELLO_ACCEPTED && hello_choose(hello, side) == 0)
        refusal = HELLO_NO_TRANSPORT;
    return refusal;
}

/* HMAC-SHA256 over the role and both hellos, the answer's as it was before its proof; zeros without
 * a secret. */
static void prove(uint8_t proof[HELLO_PROOF_SIZE], char role, const struct hello *call,
                  const struct hello *answer, const struct hello_side *side)
{
    struct {
        uint8_t role[8];
        struct hello call, answer;
    } text = {.role = {(uint8_t)role}, .call = *call, .answer = *answer};
    static_assert((int)HELLO_PROOF_SIZE == (int)PROOF_SIZE, "a proof fits");
    memset(proof, 0, HELLO_PROOF_SIZE);
    if (side->secret == NULL)
        return;
    memset(text.answer.proof, 0, sizeof(text.answer.proof));
    text.answer.crc = 0;
    proof_make(proof, side->secret, strlen(side->secret), &text, sizeof(text));
}

static bool proven(const uint8_t given[HELLO_PROOF_SIZE], char role, const struct hello *call,
                   const struct hello *answer, const struct hello_side *side)
{
    uint8_t wanted[HELLO_PROOF_SIZE];
    prove(wanted, role, call, answer, side);
    return proof_equal(given, wanted);
}

void hello_prove_answer(struct hello *answer, const struct hello *call,
                        const struct hello_side *side)
{
    prove(answer->proof, 'A', call, answer, side);
    seal(answer);
}

enum hello_refusal hello_check_answer(const struct hello *answer, const struct hello *call,
                                      const struct hello_side *side)
{
    enum hello_refusal refusal = check_shape(answer);
    if (refusal != HELLO_ACCEPTED)
        return refusal;
    if (answer->refusal != 0)
        return HELLO_REFUSED_US;
    refusal = check_settings(answer, side);
    if (refusal != HELLO_ACCEPTED)
        return refusal;
    if (answer->from != call->to)
        return HELLO_WRONG_NODE;
    if (answer->lane != call->lane || answer->transports != hello_choose(answer, side) ||
        (answer->transports & call->transports) == 0)
        return HELLO_DAMAGED;
    return proven(answer->proof, 'A', call, answer, side) ? HELLO_ACCEPTED : HELLO_PROOF;
}

void hello_make_proof(struct hello_proof *proof, const struct hello *call,
                      const struct hello *answer, const struct hello_side *side)
{
    *proof = (struct hello_proof){.magic = HELLO_PROOF_MAGIC};
    prove(proof->proof, 'D', call, answer, side);
    proof->crc = crc32c(0, proof, offsetof(struct hello_proof, crc));
}

enum hello_refusal hello_check_proof(const struct hello_proof *proof, const struct hello *call,
                                     const struct hello *answer, const struct hello_side *side)
{
    if (proof->magic != HELLO_PROOF_MAGIC || proof->unused != 0 || proof->unused_end != 0 ||
        proof->crc != crc32c(0, proof, offsetof(struct hello_proof, crc)))
        return HELLO_DAMAGED;
    return proven(proof->proof, 'D', call, answer, side) ? HELLO_ACCEPTED : HELLO_PROOF;
}

void hello_make_ready(struct hello_ready *ready, uint16_t port)
{
    *ready = (struct hello_ready){.magic = HELLO_READY_MAGIC, .port = port};
    ready->crc = crc32c(0, ready, offsetof(struct hello_ready, crc));
}

enum hello_refusal hello_check_ready(const struct hello_ready *ready)
{
    bool good = ready->magic == HELLO_READY_MAGIC && ready->unused == 0 && ready->unused_end == 0 &&
                ready->crc == crc32c(0, ready, offsetof(struct hello_ready, crc));
    return good ? HELLO_ACCEPTED : HELLO_DAMAGED;
}

void hello_make_join(struct hello_join *join, const struct hello *call, const struct hello *answer,
                     const struct hello_side *side)
{
    *join = (struct hello_join){
        .magic = HELLO_JOIN_MAGIC, .from = call->from, .to = call->to, .lane = call->lane};
    memcpy(join->nonce, answer->nonce, sizeof(join->nonce));
    prove(join->proof, 'J', call, answer, side);
}

enum hello_refusal hello_check_join(const struct hello_join *join, const struct hello *call,
                                    const struct hello *answer, const struct hello_side *side)
{
    if (join->magic != HELLO_JOIN_MAGIC || join->from != call->from || join->to != call->to ||
        join->lane != call->lane || memcmp(join->nonce, answer->nonce, sizeof(join->nonce)) != 0)
        return HELLO_DAMAGED;
    return proven(join->proof, 'J', call, answer, side) ? HELLO_ACCEPTED : HELLO_PROOF;
}
