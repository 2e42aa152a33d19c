#include "server/stats.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/clock.h"
#include "server/prefixes.h"
#include "server/segments.h"
#include "server/stats_private.h"
#include "server/tuning.h"
#include "server/version.h"
#include "server/worker.h"

void stat_text(struct text *text, const char *name, const char *format, ...)
{
    char value[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(value, sizeof(value), format, arguments);
    va_end(arguments);
    text->used += reply_stat(text->data + text->used, text->size - 8 - text->used, slice_text(name),
                             slice_text(value));
}

void stat_number(struct text *text, const char *name, uint64_t value)
{
    stat_text(text, name, "%" PRIu64, value);
}

/* ---- sums ---- */

static uint64_t sum(const struct node *node, enum counter counter)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < node->worker_count; i++)
        total += counters_read_any(&node->workers[i].counters, counter);
    return total;
}

uint64_t stats_count(const struct node *node, enum counter counter)
{
    return sum(node, counter) - counters_read_any(&node->forgotten, counter);
}

static uint64_t load(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static void add_store(struct store_stats *total, const struct store_stats *store)
{
    total->value_count += store->value_count;
    total->piece_count += store->piece_count;
    total->tombstone_count += store->tombstone_count;
    total->live_bytes += store->live_bytes;
    total->live_max += store->live_max;
    total->log_bytes += store->log_bytes;
    total->segment_count += store->segment_count;
    total->segment_free += store->segment_free;
    total->segment_damaged += store->segment_damaged;
    total->put_bytes += store->put_bytes;
    total->index_bytes += store->index_bytes;
    total->cleaned_bytes += store->cleaned_bytes;
}

static void add_shard(struct shard_stats *total, const struct shard_stats *shard)
{
    total->op_count += shard->op_count;
    total->invalid_count += shard->invalid_count;
    total->waiting_count += shard->waiting_count;
    total->writes += shard->writes;
    total->rmws += shard->rmws;
    total->rmw_retries += shard->rmw_retries;
    total->reads += shard->reads;
    total->read_waits += shard->read_waits;
    total->replays += shard->replays;
    total->asks += shard->asks;
    total->rounds += shard->rounds;
    total->unsettled += shard->unsettled;
    total->persist_waiting += shard->persist_waiting;
    total->expired += shard->expired;
    total->expired_unfetched += shard->expired_unfetched;
    total->expired_by_walk += shard->expired_by_walk;
    total->expire_checked += shard->expire_checked;
    total->evict_asked += shard->evict_asked;
    total->evict_kept += shard->evict_kept;
    total->full = total->full || shard->full;
}

static void add_medium(struct medium_file_stats *total, const struct medium_file_stats *medium)
{
    total->kind = medium->kind != NULL ? medium->kind : "memory";
    total->drains += medium->drains;
    total->syncs += medium->syncs;
    total->bytes += medium->bytes;
    total->sync_us += medium->sync_us;
    if (total->sync_us_max < medium->sync_us_max)
        total->sync_us_max = medium->sync_us_max;
}

void stats_sum(const struct node *node, struct totals *totals)
{
    *totals = (struct totals){.parked = 0};
    for (unsigned i = 0; i < node->worker_count; i++) {
        struct published published;
        publication_read_any(&node->workers[i].publication, &published);
        add_store(&totals->store, &published.store);
        add_shard(&totals->shard, &published.shard);
        add_medium(&totals->medium, &published.medium);
        totals->parked += published.parked;
        totals->undurable += published.undurable;
        if (i == 0 || published.shard.stable_us < totals->stable_us)
            totals->stable_us = published.shard.stable_us;
        totals->commands += published.jobs_taken;
        totals->buffers += published.buffers;
        totals->item_count +=
            published.store.value_count - published.store.piece_count - published.shard.flush_known;
    }
    totals->limit_bytes = segments_limit(load(&node->memory_limit), totals->store.live_max);
    totals->chunk_size = totals->item_count > 0 ? totals->store.live_bytes / totals->item_count + 1
                                                : sizeof(struct record);
    totals->chunk_count = totals->shard.full ? 0 : totals->limit_bytes / totals->chunk_size;
    if (totals->chunk_count < totals->item_count)
        totals->chunk_count = totals->item_count;
    while ((sizeof(uint64_t) << (totals->index_power + 1)) <= totals->store.index_bytes)
        totals->index_power++;
    getrusage(RUSAGE_SELF, &totals->usage);
}

/* ---- the general ones ---- */

static void general_lines(struct text *text, const struct node *node)
{
    struct totals totals;
    stats_sum(node, &totals);
#define COUNT(name) stat_number(text, #name, stats_count(node, COUNTER_##name));
#define COUNT_IF(name, condition)                                                                  \
    if (condition)                                                                                 \
    COUNT(name)
#define VALUE(name, number) stat_number(text, #name, number);
#define VALUE_IF(name, condition, number)                                                          \
    if (condition)                                                                                 \
    VALUE(name, number)
#define TEXT(name, ...) stat_text(text, #name, __VA_ARGS__);
#define TIME(name, time)                                                                           \
    stat_text(text, #name, "%ld.%06ld", (long)(time).tv_sec, (long)(time).tv_usec);
#define ZERO(name) stat_number(text, #name, 0);
#include "server/stat.def"
#undef COUNT
#undef COUNT_IF
#undef VALUE
#undef VALUE_IF
#undef TEXT
#undef TIME
#undef ZERO
}

static void stats_general(struct text *text, const struct node *node)
{
    general_lines(text, node);
    stats_view(text, node);
    stats_core(text, node);
}

/* ---- the sub-commands ---- */

static void sizes_are_off(struct text *text, const struct node *node)
{
    (void)node;
    stat_text(text, "sizes_status", "disabled");
}

static const struct group {
    const char *name;
    bool short_name; /* its beginning is enough, as in memcached */
    void (*print)(struct text *text, const struct node *node);
    uint32_t (*size)(const struct node *node); /* NULL: STATS_TEXT_SIZE */
} groups[] = {
    {"", false, stats_general, NULL},          {"settings", true, stats_settings, NULL},
    {"items", false, stats_items, NULL},       {"slabs", false, stats_slabs, NULL},
    {"sizes", false, sizes_are_off, NULL},     {"heal", false, stats_heal_lines, NULL},
    {"view", false, stats_view, NULL},         {"peers", false, stats_view, NULL},
    {"net", false, stats_net, stats_net_size},
};

static const struct group *find_group(struct slice word)
{
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        const struct group *group = &groups[i];
        if (slice_equal(word, slice_text(group->name)) ||
            (group->short_name && tuning_is_short_for(word, group->name)))
            return group;
    }
    return NULL;
}

static void reset(struct node *node)
{
    for (enum counter i = 0; i < COUNTER_COUNT; i++)
        atomic_store_explicit(&node->forgotten.values[i], sum(node, i), memory_order_relaxed);
    atomic_store_explicit(&node->connection_total, 0, memory_order_relaxed);
    atomic_store_explicit(&node->connection_rejected, 0, memory_order_relaxed);
    prefixes_clear(&node->prefixes);
    watchers_forget_counts(&node->watchers);
}

static enum reply answer_detail(struct node *node, struct slice how, struct job *job)
{
    bool on = slice_equal(how, slice_text("on"));
    if (node->options.no_dump)
        return REPLY_NO_DETAIL;
    if (slice_equal(how, slice_text("dump")))
        return prefixes_print(&node->prefixes, job) ? REPLY_COUNT : REPLY_NO_MEMORY_STATS;
    if (!on && !slice_equal(how, slice_text("off")))
        return REPLY_DETAIL_USAGE;
    atomic_store_explicit(&node->prefixes.enabled, on, memory_order_relaxed);
    return REPLY_OK;
}

static enum reply answer_group(const struct group *group, const struct node *node, struct job *job)
{
    uint32_t size = group->size != NULL ? group->size(node) : STATS_TEXT_SIZE;
    if (!job_reserve(job, size))
        return REPLY_NO_MEMORY_STATS;
    struct text text = {.data = (char *)job->value, .size = size};
    group->print(&text, node);
    struct slice end = reply_line(REPLY_END);
    memcpy(text.data + text.used, end.data, end.size);
    job->value_size = (uint32_t)(text.used + end.size);
    return REPLY_COUNT;
}

enum reply stats_answer(struct worker *worker, const char *words, struct job *job)
{
    size_t size = strcspn(words, " ");
    struct slice word = slice_make(words, size);
    if (tuning_is_short_for(word, "reset")) {
        reset(worker->node);
        return REPLY_RESET;
    }
    if (tuning_is_short_for(word, "detail"))
        return answer_detail(worker->node, slice_text(words + size + (words[size] == ' ')), job);
    const struct group *group = find_group(word);
    return group != NULL ? answer_group(group, worker->node, job) : REPLY_ERROR;
}
