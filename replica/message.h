/* message.h: messages between the replicas of one shard. The struct is the wire: little-endian,
 * followed by key and value. They travel over a reliable FIFO channel per (shard, peer); net frames
 * them. */
#ifndef REPLICA_MESSAGE_H
#define REPLICA_MESSAGE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum message_type {
    MSG_NONE,
#define MESSAGE(name, record, any_epoch, text) MSG_##name,
#include "replica/message.def"
#undef MESSAGE
    MSG_COUNT
};

enum message_flags {
    MESSAGE_INVALID_HERE = 1, /* HEAL_RECORD, HEAL_SAME: the record is not yet valid at the buddy */
    /* INV: sent by another than its coordinator; ACK, TAKEN, NACK: answers such a one */
    MESSAGE_REPLAY = 2,
    /* ACK, TAKEN, ROUND_DONE: my store is full; ROUND_STABLE: somebody's is */
    MESSAGE_FULL = 8,
    MESSAGE_ANSWER = 4, /* HEAL_RECORD: answers a HEAL_CHECK; else found by the walk */
};

struct message {
    uint8_t type;
    uint8_t from; /* node id of the sender */
    uint8_t flags;
    uint8_t key_size;
    uint32_t epoch; /* of the sender when it sent */
    uint32_t value_size;
    uint32_t client_flags;
    uint32_t exptime;
    uint8_t record_kind;  /* enum record_kind, of messages that carry one */
    uint8_t record_flags; /* enum record_flags */
    uint16_t reserved;    /* zero */
    uint64_t ts;
    uint64_t cas;
    uint64_t number[3];
};
static_assert(sizeof(struct message) == 64, "the message header is part of the wire format");

static inline struct slice message_key(const struct message *message)
{
    return slice_make(message + 1, message->key_size);
}

static inline struct slice message_value(const struct message *message)
{
    return slice_make((const uint8_t *)(message + 1) + message->key_size, message->value_size);
}

static inline size_t message_size(const struct message *message)
{
    return sizeof(*message) + message->key_size + message->value_size;
}

/* NULL if `bytes` (8-byte aligned) is one whole and sensible message, else why not. The one gate:
 * behind it, handlers assert. */
const char *message_invalid(struct slice bytes);

/* Name of a type, for traces; "?" if there is none. */
const char *message_name(unsigned type);

#endif
