/* dump.h: lists of keys: lru_crawler metadump and mgdump, stats cachedump and sizes. In slices: the
 * owner of a shard looks at a few chains of its index and writes their lines into a job, whose home
 * sends it and asks for the next one when the client has taken what there is. So neither the size
 * of the store nor a client that does not read holds anybody up, and a dump needs little memory.
 * Each key that is there all the time is listed once (store_scan); what changes meanwhile may or
 * may not be listed, and other nodes are not asked. */
#ifndef SERVER_DUMP_H
#define SERVER_DUMP_H

#include <stdbool.h>
#include <stdint.h>

struct worker;
struct job;

enum dump_format {
    DUMP_META,  /* key=K exp=E la=L cas=C fetch=F cls=1 size=S flags=F */
    DUMP_MG,    /* mg K */
    DUMP_CACHE, /* ITEM K [B b; E s] */
    DUMP_SIZES, /* no text: a uint32_t for each item, its size as dump_size_slot() rounds it */
    DUMP_CONNECTIONS, /* no keys: the clients of each worker, see connection_list.c */
};

/* Where a slice begins, and, when it is back, where the next one does. */
struct dump_slice {
    uint64_t position; /* of store_scan; 0 to begin */
    uint64_t left;     /* items that may still be listed */
    uint8_t format;    /* enum dump_format */
    bool ended;        /* the shard is through */
};

/* At the owner: fills the job's value and moves its slice on. */
void dump_slice(struct worker *worker, struct job *job);

/* Sizes are counted in steps of 32 bytes, and of 1 MiB above that. */
enum { DUMP_SIZE_SLOTS = 32768 + 1 + 1024 + 1 };
uint32_t dump_size_slot(uint64_t size);
uint64_t dump_slot_size(uint32_t slot); /* the largest size in it */

#endif
