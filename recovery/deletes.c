#include "recovery/deletes.h"

#include <string.h>

#include "base/hash.h"

struct store_share deletes_share(const struct replica *replica)
{
    uint8_t members = replica->view.members;
    uint8_t lower = members & (uint8_t)(node_bit(replica->options.self) - 1);
    return (struct store_share){.number = (unsigned)__builtin_popcount(lower),
                                .count = (unsigned)__builtin_popcount(members)};
}

void deletes_init(struct deletes *deletes)
{
    for (unsigned i = 0; i < DELETES_MAX; i++)
        deletes->free[i] = (uint8_t)i;
    deletes->free_count = DELETES_MAX;
}

bool deletes_start(struct deletes *deletes, struct replica *replica, enum request_type type,
                   const struct found *found)
{
    assert(deletes_have_room(deletes));
    struct delete *delete = &deletes->deletes[deletes->free[deletes->free_count - 1]];
    struct slice key = record_key(found->record);
    memcpy(delete->key, key.data, key.size);
    delete->request = (struct request){
        .type = type,
        .key = slice_make(delete->key, key.size),
        .hash = hash_key(key),
        .cas = found->record->ts,
        .busy = &delete->busy,
    };
    if (!replica_try_request(replica, &delete->request)) {
        delete->request.busy = NULL;
        return false;
    }
    deletes->free_count--;
    return true;
}

static bool is_used(const struct deletes *deletes, unsigned number)
{
    return deletes->deletes[number].request.busy != NULL;
}

const struct request *deletes_take(struct deletes *deletes)
{
    if (deletes->free_count == DELETES_MAX)
        return NULL;
    for (; deletes->next < DELETES_MAX; deletes->next++) {
        struct delete *delete = &deletes->deletes[deletes->next];
        if (!is_used(deletes, deletes->next) || delete->busy)
            continue;
        delete->request.busy = NULL;
        deletes->free[deletes->free_count++] = (uint8_t)deletes->next++;
        return &delete->request;
    }
    deletes->next = 0;
    return NULL;
}
