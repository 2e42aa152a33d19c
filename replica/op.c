/* The table of keys that are not at rest, and the ring of what waits for durability. */
#include <string.h>

#include "replica/replica.h"

static struct op **op_slot(const struct replica *replica, uint64_t hash)
{
    return &replica->op_table[(hash ^ (hash >> 29)) & replica->op_table_mask];
}

struct op *op_find(const struct replica *replica, struct slice key, uint64_t hash)
{
    for (struct op *op = *op_slot(replica, hash); op != NULL; op = op->hash_next)
        if (op->hash == hash && slice_equal(op_key(op), key))
            return op;
    return NULL;
}

struct op *op_take(struct replica *replica, struct slice key, uint64_t hash)
{
    struct op *op = op_find(replica, key, hash);
    if (op != NULL || replica->op_free == NULL)
        return op;
    op = replica->op_free;
    replica->op_free = op->hash_next;
    uint32_t generation = op->generation + 1;
    memset(op, 0, offsetof(struct op, key));
    memset(&op->own, 0, sizeof(*op) - offsetof(struct op, own));
    op->generation = generation;
    op->used = true;
    op->hash = hash;
    op->since_us = replica->mono_us;
    op->key_size = (uint8_t)key.size;
    if (key.size > 0)
        memcpy(op->key, key.data, key.size);
    struct op **slot = op_slot(replica, hash);
    op->hash_next = *slot;
    *slot = op;
    replica->op_used++;
    return op;
}

/* What it was ready for has come to an end otherwise, in the same step. */
static void forget_ready(struct replica *replica, struct op *op)
{
    struct op **link = &replica->ready;
    while (*link != op)
        link = &(*link)->ready_next;
    *link = op->ready_next;
    op->ready = false;
}

static void give(struct replica *replica, struct op *op)
{
    struct op **link = op_slot(replica, op->hash);
    if (op->ready)
        forget_ready(replica, op);
    while (*link != op)
        link = &(*link)->hash_next;
    *link = op->hash_next;
    op->used = false;
    op->hash_next = replica->op_free;
    replica->op_free = op;
    replica->op_used--;
}

void op_give_if_idle(struct replica *replica, struct op *op, enum record_state state)
{
    if (state == STATE_VALID && op->own.ts == 0 && op->replay.ts == 0 && op->wait_first == NULL)
        give(replica, op);
}

void op_forget_all(struct replica *replica)
{
    for (uint32_t i = 0; i < replica->op_capacity; i++)
        if (replica->ops[i].used) {
            assert(replica->ops[i].wait_first == NULL);
            assert(replica->ops[i].own.requests == NULL);
            give(replica, &replica->ops[i]);
        }
    replica->own_count = replica->replay_count = 0;
    replica->own_bytes = replica->own_growth = 0;
    replica->deferred_head = replica->deferred_tail;
}

void op_wait(struct replica *replica, struct op *op, struct request *request, bool first)
{
    replica->waiting++;
    if (first) {
        request->next = op->wait_first;
        op->wait_first = request;
        if (op->wait_last == NULL)
            op->wait_last = request;
        return;
    }
    request->next = NULL;
    if (op->wait_last != NULL)
        op->wait_last->next = request;
    else
        op->wait_first = request;
    op->wait_last = request;
}

uint64_t op_token(const struct replica *replica, const struct op *op)
{
    return (uint64_t)op->generation << 32 | (uint32_t)(op - replica->ops);
}

struct op *op_of_token(struct replica *replica, uint64_t token)
{
    uint32_t slot = (uint32_t)token;
    if (slot >= replica->op_capacity)
        return NULL;
    struct op *op = &replica->ops[slot];
    return op->used && op->generation == (uint32_t)(token >> 32) ? op : NULL;
}

void defer(struct replica *replica, const struct deferred *deferred)
{
    if (replica->deferred_tail - replica->deferred_head > replica->deferred_mask) {
        /* An ACK that is not sent is asked for again; a pending that is not looked at is found by
         * the next sweep. */
        replica->check_all = true;
        return;
    }
    replica->deferred[replica->deferred_tail++ & replica->deferred_mask] = *deferred;
}
