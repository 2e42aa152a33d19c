/* model.h: the persistency models: what an acknowledgement means, what an answer waits for, and
 * what makes a record readable. A setting of the whole group: all its nodes must have the same
 * (doc/protocol.md, Persistency models). Pure. */
#ifndef REPLICA_MODEL_H
#define REPLICA_MODEL_H

#include <stdbool.h>
#include <stdint.h>

enum model {
#define MODEL(NAME, name, acks, answered, readable, text) MODEL_##NAME,
#include "replica/model.def"
#undef MODEL
    MODEL_COUNT
};

/* What a follower says of a record that it was sent. */
enum model_acks {
    MODEL_ACK_TAKEN = 1,   /* TAKEN, at once: it, or a newer one of its key, is in my log */
    MODEL_ACK_DURABLE = 2, /* ACK, when it is durable there */
};

/* A point in a write's life: all nodes of the present view have said so, and it is true here. */
enum model_point { MODEL_AT_TAKEN, MODEL_AT_DURABLE };

struct model_row {
    const char *name;
    const char *text;
    uint8_t acks;              /* enum model_acks */
    enum model_point answered; /* the client gets its answer */
    enum model_point readable; /* the record becomes VALID here, and VAL goes out */
};

/* Never NULL; `model` is below MODEL_COUNT. */
const struct model_row *model_row(enum model model);
const char *model_name(enum model model);

/* False: there is none of that name. */
bool model_parse(const char *name, enum model *model);

/* A write may be answered, or read, while it is in memory alone: a loss of power at all nodes at
 * once can undo it. */
static inline bool model_is_early(const struct model_row *row)
{
    return (row->acks & MODEL_ACK_TAKEN) != 0;
}

/* Something waits until it is durable here. */
static inline bool model_awaits_durable(const struct model_row *row)
{
    return (row->acks & MODEL_ACK_DURABLE) != 0;
}

#endif
