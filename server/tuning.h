/* tuning.h: commands that tune parts of memcached which do not exist here (lru, slabs, most of
 * lru_crawler). Arguments are checked as there, and nothing is done. Any thread; no state. */
#ifndef SERVER_TUNING_H
#define SERVER_TUNING_H

#include <stdbool.h>

#include "proto/text.h"

enum {
    SLAB_CLASS = 1,        /* to clients, all items are of this class */
    SLAB_CLASS_COUNT = 64, /* ids from 1 to below this are no error */
};

/* A word of the line that is a name or the beginning of one: memcached takes `stats set` for `stats
 * settings`. */
bool tuning_is_short_for(struct slice word, const char *name);

/* The whole answer to `lru` and `slabs`. */
enum reply tuning_answer_lru(const struct text_request *request);
enum reply tuning_answer_slabs(const struct text_request *request);

/* The answer to lru_crawler but metadump, mgdump, enable and disable. */
enum reply tuning_answer_crawler(const struct text_request *request);

/* "all", "hash", or a comma list of class ids. REPLY_OK: SLAB_CLASS is among them; else the
 * answer. */
enum reply tuning_read_classes(struct slice list);

#endif
