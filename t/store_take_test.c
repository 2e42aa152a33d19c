/* Goal: whenever the process is killed, at any instruction of any change, the memory that it leaves
 * is taken over as it was before the change or after it, or is known to be wrong. Method: a child
 * works in shared memory and is stepped through its changes one machine instruction at a time
 * (ptrace); each time the memory has changed, a copy of it, at another address, is taken over and
 * compared: keys and values, counts, the space of each segment, and what a scan of the same
 * segments would find. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "pmem/log_private.h"
#include "store/store_private.h"
#include "t/store_arena.h"
#include "t/test.h"

enum {
    KEY_COUNT = 160,
    WATCHED_MAX = 1 << 16,
    SCAN_EVERY = 8, /* images */
    ROUNDS_BEFORE = 8,
};

static struct plan plan;

static void work(struct arena *arena)
{
    struct store_options options = arena_options(arena);
    struct log_report report;
    struct store *store;
    uint32_t bad;
    if (store_open(&store, &options, &report, &bad) != STATUS_OK)
        abort();
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    for (uint32_t i = 0; i < plan.count; i++) {
        if (i == plan.stepped_from)
            raise(SIGSTOP);
        plan_do(&plan, i, store);
        *(volatile uint32_t *)&arena->phase = i + 1;
    }
    _exit(0);
}

/* ---- comparing ---- */

struct sums {
    const struct store *store;
    uint64_t live[ARENA_SEGMENT_COUNT];
    uint64_t bytes, values, others;
};

static void add_found(void *user, const struct found *found)
{
    struct sums *sums = user;
    uint64_t size = record_size(found->record);
    sums->live[place_segment(found->place)] += size;
    sums->bytes += size;
    sums->values += found->record->kind == RECORD_VALUE;
    sums->others += found->record->kind != RECORD_VALUE;
}

static void add_marks(struct sums *sums)
{
    const struct log *log = sums->store->log;
    for (uint32_t i = 0; i < ARENA_SEGMENT_COUNT; i++) {
        uint32_t offset = 0;
        place_t place;
        const struct record *record;
        bool used = log_segment(log, i)->state == SEGMENT_OPEN ||
                    log_segment(log, i)->state == SEGMENT_SEALED;
        while (used && (record = log_segment_next(log, i, &offset, &place)) != NULL)
            if (record->kind == RECORD_MARK && mark_is_current(sums->store, place)) {
                sums->live[i] += record_size(record);
                sums->bytes += record_size(record);
            }
    }
}

static const char *compare_counts(const struct store *store)
{
    struct sums sums = {.store = store};
    uint64_t position = 0;
    struct store_stats stats;
    while (store_scan(store, &position, add_found, &sums))
        continue;
    add_marks(&sums);
    store_stats(store, &stats);
    if (stats.value_count != sums.values || stats.tombstone_count != sums.others ||
        store->index.entry_count != sums.values + sums.others)
        return "counts of records";
    if (stats.live_bytes != sums.bytes)
        return "live bytes";
    for (uint32_t i = 0; i < ARENA_SEGMENT_COUNT; i++) {
        const struct segment *segment = log_segment(store->log, i);
        bool used = segment->state == SEGMENT_OPEN || segment->state == SEGMENT_SEALED;
        if (used && segment->live != sums.live[i])
            return "live bytes of a segment";
    }
    return NULL;
}

static bool key_is(const struct store *store, uint32_t key, uint32_t expected)
{
    uint8_t value[ARENA_SEGMENT_SIZE];
    struct found found;
    struct slice slice = slice_make(&key, sizeof(key));
    bool any =
        store_find(store, slice, hash_key(slice), &found) && found.record->kind == RECORD_VALUE;
    if (any &&
        found.state != (found.lsn < mark_confirmed_below(store) ? STATE_VALID : STATE_UNCONFIRMED))
        return false;
    if (!any || expected == 0)
        return !any && expected == 0;
    return slice_equal(record_value(found.record), plan_value(&plan, expected, value));
}

/* As before the step under way, or as after it: one key differs at most. */
static const char *compare_keys(const struct store *store, uint32_t phase)
{
    for (uint32_t key = 0; key < KEY_COUNT; key++) {
        uint32_t after = phase < plan.count ? phase + 1 : phase;
        if (!key_is(store, key, plan_worth(&plan, phase, key)) &&
            !key_is(store, key, plan_worth(&plan, after, key)))
            return "a key";
    }
    return NULL;
}

static struct found *found_of(const struct store *store, uint32_t key, struct found *found)
{
    struct slice slice = slice_make(&key, sizeof(key));
    return store_find(store, slice, hash_key(slice), found) && found->record->kind == RECORD_VALUE
               ? found
               : NULL;
}

/* Power is lost later: the scan finds what was taken over. */
static const char *compare_scan(struct arena *image, const struct store *taken)
{
    static void *memory;
    struct store_options options = arena_options(image);
    struct log_report report;
    struct store *scanned;
    uint32_t bad;
    if (memory == NULL)
        memory = aligned_alloc(4096, (arena_index_size() + 4095) / 4096 * 4096);
    memset(memory, 0, arena_index_size());
    options.index = memory;
    options.keep = NULL;
    image->cookie = 0;
    if (store_open(&scanned, &options, &report, &bad) != STATUS_OK || report.corrupt_count > 0)
        return "the scan";
    const char *wrong = NULL;
    for (uint32_t key = 0; key < KEY_COUNT && wrong == NULL; key++) {
        struct found one, other;
        bool any = found_of(taken, key, &one) != NULL;
        if (any != (found_of(scanned, key, &other) != NULL) || (any && one.place != other.place))
            wrong = "a scanned key";
    }
    store_close(scanned);
    return wrong;
}

static struct totals {
    uint64_t steps, images, refused;
    uint64_t entries_min, entries_max; /* in the index */
} totals;

/* What is wrong with the memory as it is now; NULL: nothing. */
static const char *judge(const struct arena *arena, struct arena *image)
{
    struct log_report report;
    struct store *store;
    uint32_t bad;
    const char *why;
    memcpy(image, arena, arena_size());
    image->cookie = 0;
    struct store_options options = arena_options(image);
    if (store_take_over(&store, &options, &report, &bad, &why) != STATUS_OK) {
        totals.refused++;
        return ((const struct store *)(const void *)arena->index)->notes.lost != 0 ? NULL : why;
    }
    uint64_t entries = store->index.entry_count;
    if (totals.entries_min == 0 || entries < totals.entries_min)
        totals.entries_min = entries;
    if (entries > totals.entries_max)
        totals.entries_max = entries;
    const char *wrong = compare_keys(store, arena->phase);
    if (wrong == NULL)
        wrong = compare_counts(store);
    if (wrong == NULL && store_check(store, UINT64_MAX, &bad) != STATUS_OK)
        wrong = "an entry";
    if (wrong == NULL)
        wrong = compare_counts(store);
    if (wrong == NULL && totals.images % SCAN_EVERY == 0)
        wrong = compare_scan(image, store);
    return wrong;
}

/* ---- stepping ---- */

/* What a change may touch, packed; more than this test's changes do. */
static size_t gather(const struct arena *arena, uint8_t *out)
{
    const struct store *store = (const void *)arena->index;
    const uint8_t *log = store_log_memory(store);
    size_t size = 0;
    const struct {
        const void *at;
        size_t size;
    } parts[] = {
        {&store->header, sizeof(store->header)},
        {&store->notes, 16},
        {&store->journal, sizeof(*store) - offsetof(struct store, journal)},
        {log, sizeof(struct log) + ARENA_SEGMENT_COUNT * sizeof(struct segment) + 64},
        {log + log_memory_size() - SEGMENT_COUNT_MAX * sizeof(struct segment_more) - 64,
         ARENA_SEGMENT_COUNT * sizeof(struct segment_more) + 64},
        {(const uint8_t *)store + ((const uint8_t *)log - arena->index) + log_memory_size(),
         64 * BUCKET_SIZE},
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        memcpy(out + size, parts[i].at, parts[i].size);
        size += parts[i].size;
    }
    return size;
}

static void run_stepped(void)
{
    static uint8_t before[WATCHED_MAX], now[WATCHED_MAX];
    struct arena *arena = arena_make(true), *image = arena_make(false);
    int state;
    pid_t child = fork();
    if (child == 0)
        work(arena);
    waitpid(child, &state, 0);
    ASSERT(WIFSTOPPED(state));
    ASSERT_EQ(arena->phase, plan.stepped_from);
    for (;;) {
        ptrace(PTRACE_SINGLESTEP, child, NULL, NULL);
        waitpid(child, &state, 0);
        if (!WIFSTOPPED(state))
            break;
        totals.steps++;
        size_t size = gather(arena, now);
        if (memcmp(before, now, size) == 0)
            continue;
        memcpy(before, now, size);
        const char *wrong = judge(arena, image);
        totals.images++;
        if (wrong != NULL) {
            test_fail(__FILE__, __LINE__, "killed in step %u (%d), image %llu: %s is wrong",
                      arena->phase, (int)plan.steps[arena->phase].action,
                      (unsigned long long)totals.images, wrong);
            kill(child, SIGKILL);
            waitpid(child, &state, 0);
            break;
        }
    }
    EXPECT(WIFEXITED(state) || test_failed());
    arena_free(arena);
    arena_free(image);
}

static void begin_plan(void)
{
    memset(&plan, 0, sizeof(plan));
    memset(&totals, 0, sizeof(totals));
}

static void say(void)
{
    printf("%llu instructions, %llu different images, %llu refused, %llu to %llu entries\n",
           (unsigned long long)totals.steps, (unsigned long long)totals.images,
           (unsigned long long)totals.refused, (unsigned long long)totals.entries_min,
           (unsigned long long)totals.entries_max);
}

/* ---- tests ---- */

TEST(take, puts_are_done_or_not_done)
{
    begin_plan();
    for (uint32_t key = 0; key < 20; key++)
        plan_add(&plan, STEP_PUT, key, 20 + key);
    plan_add(&plan, STEP_TURN, 0, 0);
    plan.stepped_from = plan.count;
    plan_add(&plan, STEP_PUT, 3, 50);
    plan_add(&plan, STEP_PUT, 100, 60);
    plan_add(&plan, STEP_DELETE, 4, 0);
    plan_add(&plan, STEP_MARK, KEY_COUNT, 0);
    plan_add(&plan, STEP_PUT, 5, 10);
    plan_add(&plan, STEP_INVALID, 5, 0);
    plan_add(&plan, STEP_PUT, 5, 11);
    plan_add(&plan, STEP_MARK, KEY_COUNT, 0);
    plan_add(&plan, STEP_TURN, 0, 0);
    run_stepped();
    say();
    EXPECT(totals.images > 100);
    EXPECT_EQ(totals.refused, 0);
}

/* Sixteen chains at first: the eighty-first key splits one, and so does every fifth after it. */
TEST(take, splits_and_new_segments_are_done_or_not_done)
{
    begin_plan();
    for (uint32_t key = 0; key < 76; key++)
        plan_add(&plan, STEP_PUT, key, 30);
    plan.stepped_from = plan.count;
    for (uint32_t key = 76; key < 120; key++)
        plan_add(&plan, STEP_PUT, key, 40);
    run_stepped();
    say();
    EXPECT(totals.images > 500);
    EXPECT_EQ(totals.refused, 0);
}

/* Dead space of all kinds, and tombstones that go: entries leave the index and chains become
 * shorter. */
TEST(take, cleaning_is_done_or_not_done)
{
    begin_plan();
    for (uint32_t key = 0; key < KEY_COUNT; key++)
        plan_add(&plan, STEP_PUT, key, 110);
    for (uint32_t key = 0; key < KEY_COUNT; key++)
        if (key % 8 != 1)
            plan_add(&plan, STEP_DELETE, key, 0);
    for (uint32_t i = 0; i < ROUNDS_BEFORE; i++) { /* old versions leave first */
        for (uint32_t key = 1; key < KEY_COUNT; key += 8)
            plan_add(&plan, STEP_PUT, key, 150);
        plan_add(&plan, STEP_MARK, KEY_COUNT, 0);
        plan_add(&plan, STEP_CLEAN, 0, 2000);
        plan_add(&plan, STEP_TURN, 0, 0);
    }
    plan.stepped_from = plan.count;
    for (uint32_t i = 0; i < 5; i++) {
        for (uint32_t key = 1; key < KEY_COUNT; key += 40)
            plan_add(&plan, STEP_PUT, key, 140);
        plan_add(&plan, STEP_CLEAN, 0, 3000);
        plan_add(&plan, STEP_TURN, 0, 0);
    }
    run_stepped();
    say();
    EXPECT(totals.images > 500);
    EXPECT(totals.entries_min + 4 < totals.entries_max);
    EXPECT_EQ(totals.refused, 0);
}

/* ---- damage while no process was there ---- */

static sigjmp_buf broken_end;
static uint32_t broken_segment;

static void on_broken(void *user, uint32_t segment)
{
    *(uint32_t *)user = segment;
    siglongjmp(broken_end, 1);
}

static const struct segment *sealed_segment(const struct store *store, uint32_t *number)
{
    for (*number = 0; *number < ARENA_SEGMENT_COUNT; ++*number)
        if (log_segment(store->log, *number)->state == SEGMENT_SEALED)
            return log_segment(store->log, *number);
    abort();
}

/* Taken over with a bit changed in the first record of a sealed segment, which is the newest of its
 * key or, `dead`, is not. */
static struct store *take_damaged(struct arena *arena, bool dead, uint32_t *damaged)
{
    struct store *store;
    struct log_report report;
    uint32_t bad;
    const char *why;
    struct store_options options = arena_options(arena);
    begin_plan();
    for (uint32_t key = 0; key < KEY_COUNT; key++)
        plan_add(&plan, STEP_PUT, key, 100);
    for (uint32_t key = 0; dead && key < KEY_COUNT; key += 2)
        plan_add(&plan, STEP_PUT, key, 100);
    if (store_open(&store, &options, &report, &bad) != STATUS_OK)
        abort();
    for (uint32_t i = 0; i < plan.count; i++)
        plan_do(&plan, i, store);
    (void)sealed_segment(store, damaged);
    arena->segments[*damaged][SEGMENT_RECORDS + sizeof(struct record) + 20] ^= 1;
    options.broken = on_broken;
    options.broken_user = &broken_segment;
    broken_segment = UINT32_MAX;
    if (store_take_over(&store, &options, &report, &bad, &why) != STATUS_OK)
        abort();
    return store;
}

static void look_for_all(const struct store *store)
{
    for (uint32_t key = 0; key < KEY_COUNT; key++) {
        struct found found;
        struct slice slice = slice_make(&key, sizeof(key));
        (void)store_find(store, slice, hash_key(slice), &found);
    }
}

TEST(take, a_damaged_record_is_named_when_it_is_used_and_nothing_is_taken_over_again)
{
    struct arena *arena = arena_make(false);
    uint32_t damaged;
    struct store *store = take_damaged(arena, false, &damaged);
    if (sigsetjmp(broken_end, 0) == 0)
        look_for_all(store);
    EXPECT_EQ(broken_segment, damaged);
    struct store_options options = arena_options(arena);
    struct log_report report;
    uint32_t bad;
    const char *why;
    EXPECT(store_take_over(&store, &options, &report, &bad, &why) == STATUS_NOT_FOUND);
    arena_free(arena);
}

/* No entry leads there, so only a walk meets it; and might lose its way. */
TEST(take, a_damaged_record_that_is_not_current_is_found_by_who_walks)
{
    struct arena *arena = arena_make(false);
    uint32_t damaged, bad;
    struct store *store = take_damaged(arena, true, &damaged);
    EXPECT(store_check(store, UINT64_MAX, &bad) == STATUS_OK);
    struct store_cursor cursor = {0};
    struct found found;
    uint64_t budget = UINT64_MAX;
    if (sigsetjmp(broken_end, 0) == 0)
        while (store_walk(store, &cursor, 0, &budget, &found))
            continue;
    EXPECT_EQ(broken_segment, damaged);
    arena_free(arena);
}

TEST(take, a_damaged_record_that_is_not_current_is_found_by_cleaning)
{
    struct arena *arena = arena_make(false);
    uint32_t damaged;
    struct store *store = take_damaged(arena, true, &damaged);
    if (sigsetjmp(broken_end, 0) == 0)
        for (uint32_t key = 0; key < PLAN_STEP_MAX && broken_segment == UINT32_MAX; key++) {
            plan_add(&plan, STEP_PUT, key % KEY_COUNT, 100);
            plan_do(&plan, plan.count - 1, store);
        }
    EXPECT_EQ(broken_segment, damaged);
    arena_free(arena);
}
