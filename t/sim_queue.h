/* sim_queue.h: one direction of a simulated connection: packets that arrive in the order in which
 * they were sent, none before its time, none twice; a cut loses all but the first few. The
 * simulator's network is made of it, and so is the wire that shows that it keeps the contract of
 * net.h (net_sim_wire.h). Functions static inline, because tests of other folders use it, too. */
#ifndef T_SIM_QUEUE_H
#define T_SIM_QUEUE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct sim_packet {
    struct sim_packet *next;
    uint64_t deliver_at;
    uint64_t incarnation; /* the sender's */
    size_t size;
    _Alignas(8) uint8_t bytes[];
};

struct sim_queue {
    struct sim_packet *first, *last;
    uint64_t last_at;
};

static inline struct sim_packet *sim_packet_make(size_t size)
{
    struct sim_packet *packet = malloc(sizeof(*packet) + size);
    assert(packet != NULL);
    *packet = (struct sim_packet){.size = size};
    return packet;
}

/* Not before packet->deliver_at, nor before what was put earlier. */
static inline void sim_queue_put(struct sim_queue *queue, struct sim_packet *packet)
{
    if (packet->deliver_at < queue->last_at)
        packet->deliver_at = queue->last_at;
    queue->last_at = packet->deliver_at;
    packet->next = NULL;
    if (queue->first == NULL)
        queue->first = packet;
    else
        queue->last->next = packet;
    queue->last = packet;
}

/* The first packet if its time has come. */
static inline struct sim_packet *sim_queue_due(const struct sim_queue *queue, uint64_t now)
{
    return queue->first != NULL && queue->first->deliver_at <= now ? queue->first : NULL;
}

/* The first; the caller frees it. */
static inline struct sim_packet *sim_queue_take(struct sim_queue *queue)
{
    struct sim_packet *packet = queue->first;
    queue->first = packet->next;
    if (queue->first == NULL)
        queue->last = NULL;
    return packet;
}

static inline unsigned sim_queue_count(const struct sim_queue *queue)
{
    unsigned count = 0;
    for (const struct sim_packet *packet = queue->first; packet != NULL; packet = packet->next)
        count++;
    return count;
}

/* Empties it. The first `keep` packets are the caller's, in order; the others are lost. */
static inline struct sim_packet *sim_queue_cut(struct sim_queue *queue, uint64_t keep, uint64_t now)
{
    struct sim_packet *kept = NULL, **last = &kept;
    while (queue->first != NULL) {
        struct sim_packet *packet = sim_queue_take(queue);
        packet->next = NULL;
        if (keep > 0) {
            keep--;
            *last = packet;
            last = &packet->next;
        } else {
            free(packet);
        }
    }
    queue->last_at = now;
    return kept;
}

#endif
