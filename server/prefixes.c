#include "server/prefixes.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "server/job.h"

struct prefix {
    struct prefix *next;
    uint64_t gets, hits, sets, deletes;
    uint8_t size;
    char name[];
};

void prefixes_open(struct prefixes *prefixes, char delimiter, bool enabled)
{
    *prefixes = (struct prefixes){.delimiter = delimiter};
    atomic_init(&prefixes->enabled, enabled);
    pthread_mutex_init(&prefixes->lock, NULL);
}

void prefixes_clear(struct prefixes *prefixes)
{
    pthread_mutex_lock(&prefixes->lock);
    for (unsigned i = 0; i < PREFIXES_CHAINS; i++) {
        for (struct prefix *prefix = prefixes->chains[i], *next; prefix != NULL; prefix = next) {
            next = prefix->next;
            free(prefix);
        }
        prefixes->chains[i] = NULL;
    }
    prefixes->count = 0;
    prefixes->size = 0;
    pthread_mutex_unlock(&prefixes->lock);
}

void prefixes_close(struct prefixes *prefixes)
{
    prefixes_clear(prefixes);
    pthread_mutex_destroy(&prefixes->lock);
}

/* NULL: there are too many, or no memory. */
static struct prefix *make(struct prefixes *prefixes, struct slice name, struct prefix **chain)
{
    if (prefixes->count == PREFIXES_COUNT_MAX)
        return NULL;
    struct prefix *prefix = malloc(sizeof(*prefix) + name.size);
    if (prefix == NULL)
        return NULL;
    *prefix = (struct prefix){.next = *chain, .size = (uint8_t)name.size};
    memcpy(prefix->name, name.data, name.size);
    *chain = prefix;
    prefixes->count++;
    prefixes->size += name.size;
    return prefix;
}

static struct prefix *find(struct prefixes *prefixes, struct slice name)
{
    struct prefix **chain = &prefixes->chains[hash_key(name) % PREFIXES_CHAINS];
    for (struct prefix *prefix = *chain; prefix != NULL; prefix = prefix->next) {
        if (slice_equal(slice_make(prefix->name, prefix->size), name))
            return prefix;
    }
    return make(prefixes, name, chain);
}

static void count(struct prefix *prefix, enum prefix_event event)
{
    prefix->gets += event == PREFIX_MISS || event == PREFIX_HIT;
    prefix->hits += event == PREFIX_HIT;
    prefix->sets += event == PREFIX_SET;
    prefix->deletes += event == PREFIX_DELETE;
}

void prefixes_note(struct prefixes *prefixes, struct slice key, enum prefix_event event)
{
    const char *end = key.size > 0 ? memchr(key.data, prefixes->delimiter, key.size) : NULL;
    if (end == NULL)
        return;
    pthread_mutex_lock(&prefixes->lock);
    struct prefix *prefix =
        find(prefixes, slice_make(key.data, (size_t)(end - (const char *)key.data)));
    if (prefix != NULL)
        count(prefix, event);
    pthread_mutex_unlock(&prefixes->lock);
}

enum { LINE_SIZE_MAX = 128 }; /* of a line without its name */

static size_t print_line(char *out, const struct prefix *prefix)
{
    return (size_t)snprintf(out, LINE_SIZE_MAX + prefix->size,
                            "PREFIX %.*s get %llu hit %llu set %llu del %llu\r\n", prefix->size,
                            prefix->name, (unsigned long long)prefix->gets,
                            (unsigned long long)prefix->hits, (unsigned long long)prefix->sets,
                            (unsigned long long)prefix->deletes);
}

bool prefixes_print(struct prefixes *prefixes, struct job *job)
{
    pthread_mutex_lock(&prefixes->lock);
    uint64_t size = prefixes->size + (uint64_t)prefixes->count * LINE_SIZE_MAX + LINE_SIZE_MAX;
    bool good = job_reserve(job, (uint32_t)size); /* 65,536 of 250 bytes are below 32 MB. */
    size_t used = 0;
    for (unsigned i = 0; good && i < PREFIXES_CHAINS; i++) {
        for (const struct prefix *at = prefixes->chains[i]; at != NULL; at = at->next)
            used += print_line((char *)job->value + used, at);
    }
    pthread_mutex_unlock(&prefixes->lock);
    if (!good)
        return false;
    struct slice end = reply_line(REPLY_END);
    memcpy(job->value + used, end.data, end.size);
    job->value_size = (uint32_t)(used + end.size);
    return true;
}
