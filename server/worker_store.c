/* Opening the worker's shard: its medium, its index's memory, the store, the core. Each shard in a
 * thread of its own. */
#include "server/worker.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "server/clock.h"
#include "server/node.h"
#include "server/process.h"
#include "server/segments.h"

enum {
    OP_COUNT_MAX = 4096,
    ROUND_US = 100000,
    ASK_US = 200000,
    INDEX_PAGE = 4096,
};

/* ---- what is logged ---- */

static void log_damage(const struct worker *worker, const struct log_report *report,
                       const char *then)
{
    char name[SEGMENTS_NAME_SIZE], unread[80] = "", bytes[80] = "";
    segments_name(worker->node, worker->number, worker->medium, report->corrupt_segment, name);
    if (report->corrupt_to > report->corrupt_from)
        snprintf(bytes, sizeof(bytes), ", at bytes %u to %u", report->corrupt_from,
                 report->corrupt_to - 1);
    if (report->unread_count > 0)
        snprintf(unread, sizeof(unread), ", and all of %u segments that cannot be read",
                 report->unread_count);
    log_error(
        "%s: damaged%s (damaged segments in this shard: %u; missing records: at least %llu%s); %s",
        name, bytes, report->corrupt_count, (unsigned long long)report->missing_count, unread,
        then);
}

/* Of a node that has nobody to heal from. The keys that the damaged part held are not known: a
 * record has one checksum, so if it does not hold, nor does the key. */
static void log_refused(const struct worker *worker, const struct log_report *report)
{
    log_damage(worker, report,
               "not started: there is no other node to heal from, and keys that were overwritten "
               "or deleted lately may come back "
               "with older values. Restore the directory, or start once with --damaged=serve to "
               "serve what is left. Nothing was "
               "written to this log");
}

static void log_taken(const struct worker *worker, uint64_t took_us)
{
    struct store_stats stats;
    store_stats(worker->store, &stats);
    log_note("shard %u: index taken over: %llu items in %llu.%03llu ms", worker->number,
             (unsigned long long)stats.value_count, (unsigned long long)took_us / 1000,
             (unsigned long long)took_us % 1000);
}

static uint64_t scanned_bytes(const struct worker *worker)
{
    uint64_t bytes = 0;
    const struct log *log = store_log(worker->store);
    for (uint32_t i = 0; i < log_segment_count(log); i++)
        if (log_segment(log, i)->state != SEGMENT_FREE)
            bytes += log_segment(log, i)->used;
    return bytes;
}

static void log_scanned(const struct worker *worker, const struct log_report *report,
                        uint64_t took_us, const char *why)
{
    double seconds = (double)(took_us > 0 ? took_us : 1) / 1e6;
    log_note("shard %u: %llu records scanned in %llu ms, %llu torn bytes cut off", worker->number,
             (unsigned long long)report->record_count, (unsigned long long)took_us / 1000,
             (unsigned long long)report->torn_bytes);
    if (report->record_count > 0)
        log_note("shard %u: index rebuilt by scan (%s): %.0f items/s, %.3f GB/s", worker->number,
                 why, (double)report->record_count / seconds,
                 (double)scanned_bytes(worker) / 1e9 / seconds);
}

/* As when a page can't be had (pmem/medium_guard.h): there is nothing true to answer, and so
 * nothing is answered. */
static void end_broken(void *user, uint32_t segment)
{
    const struct worker *worker = user;
    worker_tell_broken(worker, segment);
    process_remove_pid(&worker->node->options);
    _exit(EXIT_MEDIUM);
}

/* A node that is alone takes a damaged log only when it is told to. */
static bool refuses_damage(const struct node *node)
{
    return node->net == NULL && node->options.damaged == DAMAGED_REFUSE;
}

static void log_open_error(const struct worker *worker, enum status status, uint32_t segment)
{
    char name[SEGMENTS_NAME_SIZE];
    segments_name(worker->node, worker->number, worker->medium, segment, name);
    const char *advice = status == STATUS_FOREIGN || status == STATUS_VERSION
                             ? "; put the right file back, or give the node an empty directory, "
                               "which it fills from the others"
                             : "";
    log_error("%s: %s%s; nothing was written. %s", name, status_text(status), advice,
              segments_trouble(worker->node, worker->medium));
}

/* With a smaller -m than before, what is there has to be found all the same. */
static uint32_t segment_count(const struct worker *worker)
{
    uint32_t there = segments_count_there(worker->node, worker->number);
    uint32_t count = worker->node->segment_count_shard;
    return there > count ? there : count;
}

/* Address space, not memory: pages come as the index grows. */
static enum status open_index(struct worker *worker)
{
    const struct node *node = worker->node;
    char path[SEGMENTS_NAME_SIZE];
    const char *directory = segments_directory(node, worker->number, path);
    uint64_t size = store_index_size((uint64_t)node->segment_size * segment_count(worker));
    worker->index_size = (size + INDEX_PAGE - 1) / INDEX_PAGE * INDEX_PAGE;
    return index_memory_open(&worker->index, directory, node->options.index_directory,
                             worker->index_size);
}

static struct store_options store_options(struct worker *worker)
{
    const struct node *node = worker->node;
    return (struct store_options){
        .log = {.identity = {.cluster = options_directory_hash(&node->options),
                             .node = (uint16_t)node->options.self,
                             .shard = (uint16_t)worker->number,
                             .shard_count = (uint16_t)node->worker_count},
                .medium = worker->medium,
                .segment_count_max = node->segment_count_shard,
                .refuse_damage = refuses_damage(node),
                .readers = node->worker_count > 1,
                .life = (uint32_t)node->directory.node.incarnation},
        .index = worker->index.at,
        .index_size = worker->index.size,
        .forgetful = node->options.data == NULL,
        .keep = index_memory_keep(&worker->index),
        .broken = end_broken,
        .broken_user = worker,
    };
}

/* What the last process left, if it may be trusted; else the log is scanned. */
static enum status take_over_or_scan(struct worker *worker, struct log_report *report,
                                     uint32_t *bad_segment)
{
    const struct node *node = worker->node;
    const char *why = node->options.rebuild_index ? "--rebuild-index" : "there is none";
    uint64_t began_us = clock_mono_us();
    enum status status = STATUS_NOT_FOUND;
    struct store_options options = store_options(worker);
    if (worker->index.found && !node->options.rebuild_index)
        status = store_take_over(&worker->store, &options, report, bad_segment, &why);
    if (status == STATUS_OK)
        log_taken(worker, clock_mono_us() - began_us);
    if (status != STATUS_NOT_FOUND)
        return status;
    status = index_memory_renew(&worker->index, worker->index_size);
    if (status != STATUS_OK)
        return status;
    began_us = clock_mono_us();
    options = store_options(worker);
    status = store_open(&worker->store, &options, report, bad_segment);
    if (status == STATUS_OK && node->options.data != NULL)
        log_scanned(worker, report, clock_mono_us() - began_us, why);
    return status;
}

/* The log has damage, and is opened all the same. */
static void take_damaged(struct worker *worker, const struct log_report *report)
{
    worker->damaged = true;
    if (worker->node->net == NULL) {
        log_damage(worker, report,
                   "--damaged=serve: what is left is served, keys that were overwritten or deleted "
                   "lately may have come back with "
                   "older values. What can be read of the damaged segments moves to others; then "
                   "the option is not needed any more");
        store_repair(worker->store);
        return;
    }
    log_damage(worker, report, "the shard is fetched from the other nodes as a whole");
    /* A full log may have no room for it. Then the damage itself, which stays until the shard has
     * healed, says the same at the next start. */
    enum status status = store_drop_marks_nodrain(worker->store);
    if (status != STATUS_OK)
        log_warn("shard %u: could not void its marks: %s", worker->number, status_text(status));
}

static enum status open_store(struct worker *worker)
{
    struct log_report report = {.record_count = 0};
    struct mark mark;
    uint32_t bad_segment = 0;
    enum status status = take_over_or_scan(worker, &report, &bad_segment);
    if (status != STATUS_OK) {
        if (status == STATUS_CORRUPT && report.corrupt_count > 0)
            log_refused(worker, &report);
        else
            log_open_error(worker, status, bad_segment);
        return status;
    }
    bool marked = store_mark_last(worker->store, &mark);
    worker->empty = report.record_count == 0 && !marked;
    worker->last_epoch = marked ? mark.epoch : 0;
    if (report.corrupt_count > 0)
        take_damaged(worker, &report);
    return STATUS_OK;
}

static enum status open_core(struct worker *worker)
{
    const struct node *node = worker->node;
    const struct shard_options options = {
        .self = node->options.self,
        .incarnation = node->directory.node.incarnation,
        .configured = node->options.configured,
        .number = worker->number,
        .store = worker->store,
        .op_count_max = OP_COUNT_MAX,
        .value_size_max = node->options.item_size_max,
        .round_us = ROUND_US,
        .ask_us = ASK_US,
        .slow_us = node->options.suspect_ms * 1000,
        .model = node->options.persistency,
        .was_early = node->directory.node.early != 0,
        .evicts = !node->options.no_eviction,
        .full = node->net != NULL && (worker->damaged || node->options.recovery_full),
    };
    size_t size = (shard_size(&options) + 63) / 64 * 64;
    worker->shard_memory = aligned_alloc(64, size);
    if (worker->shard_memory == NULL)
        return STATUS_NO_MEMORY;
    memset(worker->shard_memory, 0, size);
    worker->shard = shard_init(worker->shard_memory, &options);
    worker_set_actions(worker);
    return STATUS_OK;
}

enum status worker_shard_open(struct worker *worker, struct node *node, unsigned number)
{
    *worker = (struct worker){.node = node,
                              .number = number,
                              .medium_fd = -1,
                              .upload_oldest = UINT64_MAX,
                              .jobs = {.memory = &node->client_memory}};
    worker_read_clocks(worker);
    enum status status = segments_open(node, worker->number, &worker->medium, &worker->medium_fd);
    if (status != STATUS_OK)
        return status;
    status = open_index(worker);
    if (status != STATUS_OK)
        goto close_medium;
    status = open_store(worker);
    if (status != STATUS_OK)
        goto close_index;
    status = open_core(worker);
    if (status != STATUS_OK)
        goto close_store;
    store_alive(worker->store, worker->wall_us);
    worker_publish(worker);
    return STATUS_OK;

close_store:
    store_close(worker->store);
close_index:
    index_memory_close(&worker->index);
close_medium:
    worker->medium->ops->close(worker->medium);
    return status;
}

void worker_shard_close(struct worker *worker)
{
    free(worker->shard_memory);
    store_close(worker->store);
    index_memory_close(&worker->index);
    worker->medium->ops->close(worker->medium);
}
