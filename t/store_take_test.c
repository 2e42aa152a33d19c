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
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/ts.h"
#include "pmem/log_private.h"
#include "store/store_private.h"
#include "t/test.h"

enum {
    SEGMENT_SIZE = 4096,
    SEGMENT_COUNT = 16,
    KEY_COUNT = 160,
    OP_COUNT_MAX = 4096,
    WATCHED_MAX = 1 << 16,
    SCAN_EVERY = 8, /* images */
    ROUNDS_BEFORE = 8,
};

/* Everything that a killed process leaves. */
struct arena {
    struct medium medium; /* first; its pointer is each process's own */
    uint64_t cookie;
    uint32_t phase; /* steps of the plan that are done */
    bool exists[SEGMENT_COUNT];
    _Alignas(4096) uint8_t segments[SEGMENT_COUNT][SEGMENT_SIZE];
    _Alignas(4096) uint8_t index[];
};

static uint64_t index_size(void)
{
    return store_index_size((uint64_t)SEGMENT_COUNT * SEGMENT_SIZE);
}

static size_t arena_size(void)
{
    return sizeof(struct arena) + index_size();
}

static enum status map(struct medium *medium, uint32_t number, bool create, void **base)
{
    struct arena *arena = (struct arena *)medium;
    if (number >= SEGMENT_COUNT || (!arena->exists[number] && !create))
        return STATUS_NOT_FOUND;
    arena->exists[number] = true;
    *base = arena->segments[number];
    return STATUS_OK;
}

static void flush(struct medium *medium, const void *at, size_t size)
{
    (void)medium;
    (void)at;
    (void)size;
}

static void drain(struct medium *medium, uint64_t cookie)
{
    ((struct arena *)medium)->cookie = cookie;
}

static enum status drained(struct medium *medium, uint64_t *cookie)
{
    *cookie = ((struct arena *)medium)->cookie;
    return STATUS_OK;
}

static const struct medium_ops ops = {
    .map = map, .flush = flush, .drain = drain, .drained = drained};
static const struct store_keep keep = {.whose = "this boot, this directory"};

static struct arena *arena_make(bool shared)
{
    struct arena *arena = mmap(NULL, arena_size(), PROT_READ | PROT_WRITE,
                               (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, 0);
    arena->medium = (struct medium){.ops = &ops, .segment_size = SEGMENT_SIZE};
    return arena;
}

static struct store_options options_of(struct arena *arena)
{
    return (struct store_options){
        .log = {.identity = {.cluster = 1, .node = 1, .shard_count = 1},
                .medium = &arena->medium,
                .segment_count_max = SEGMENT_COUNT},
        .index = arena->index,
        .index_size = index_size(),
        .keep = &keep,
    };
}

/* ---- the plan: what the child does, and what the keys are worth after each step ---- */

struct step {
    enum { STEP_PUT, STEP_DELETE, STEP_MARK, STEP_CLEAN, STEP_INVALID, STEP_TURN } what;
    uint32_t key;
    uint32_t size;
};

static struct plan {
    struct step steps[OP_COUNT_MAX];
    uint32_t count;
    uint32_t stepped_from; /* what is before is done at full speed */
} plan;

static void add(int what, uint32_t key, uint32_t size)
{
    plan.steps[plan.count++] = (struct step){.what = what, .key = key, .size = size};
}

/* A value is its step's number, over and over. 0: none. */
static void value_of(uint32_t step, uint32_t size, uint8_t value[SEGMENT_SIZE])
{
    for (uint32_t i = 0; i < size; i++)
        value[i] = (uint8_t)(step >> (i % 4 * 8));
}

static uint32_t worth(uint32_t phase, uint32_t key)
{
    for (uint32_t i = phase; i-- > 0;)
        if (plan.steps[i].key == key && plan.steps[i].what <= STEP_DELETE)
            return plan.steps[i].what == STEP_PUT ? i + 1 : 0;
    return 0;
}

static void put(struct store *store, uint32_t number, const struct step *step)
{
    uint8_t value[SEGMENT_SIZE];
    value_of(number + 1, step->size, value);
    struct slice key = slice_make(&step->key, sizeof(step->key));
    struct record_spec spec = {.kind = step->what == STEP_PUT ? RECORD_VALUE : RECORD_TOMBSTONE,
                               .ts = ts_make(number + 1, 1, 0),
                               .key = key,
                               .value = slice_make(value, step->what == STEP_PUT ? step->size : 0)};
    struct found found;
    if (store_put_nodrain(store, &spec, hash_key(key), STATE_VALID, true, &found) != STATUS_OK)
        abort();
}

static void take_step(struct store *store, uint32_t number)
{
    const struct step *step = &plan.steps[number];
    struct mark mark = {.round = number, .epoch = 1, .members = 1, .configured = 1};
    const struct store_drop drop = {.lsn = UINT64_MAX, .floor = UINT64_MAX};
    struct slice key = slice_make(&step->key, sizeof(step->key));
    struct found found;
    uint64_t durable;
    switch (step->what) {
    case STEP_PUT:
    case STEP_DELETE:
        put(store, number, step);
        break;
    case STEP_MARK:
        mark.lsn = log_tail(store_log(store));
        if (store_put_mark_nodrain(store, &mark) != STATUS_OK)
            abort();
        break;
    case STEP_CLEAN:
        store_clean(store, &drop, step->size);
        break;
    case STEP_INVALID:
        if (store_find(store, key, hash_key(key), &found))
            store_set_state(store, &found, STATE_INVALID);
        break;
    case STEP_TURN:
        log_drain(store_log(store));
        if (log_durable(store_log(store), &durable) != STATUS_OK)
            abort();
        break;
    }
}

static void work(struct arena *arena)
{
    struct store_options options = options_of(arena);
    struct log_report report;
    struct store *store;
    uint32_t bad;
    if (store_open(&store, &options, &report, &bad) != STATUS_OK)
        abort();
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    for (uint32_t i = 0; i < plan.count; i++) {
        if (i == plan.stepped_from)
            raise(SIGSTOP);
        take_step(store, i);
        *(volatile uint32_t *)&arena->phase = i + 1;
    }
    _exit(0);
}

/* ---- comparing ---- */

struct sums {
    const struct store *store;
    uint64_t live[SEGMENT_COUNT];
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
    for (uint32_t i = 0; i < SEGMENT_COUNT; i++) {
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
    for (uint32_t i = 0; i < SEGMENT_COUNT; i++) {
        const struct segment *segment = log_segment(store->log, i);
        bool used = segment->state == SEGMENT_OPEN || segment->state == SEGMENT_SEALED;
        if (used && segment->live != sums.live[i])
            return "live bytes of a segment";
    }
    return NULL;
}

static bool key_is(const struct store *store, uint32_t key, uint32_t expected)
{
    uint8_t value[SEGMENT_SIZE];
    struct found found;
    struct slice slice = slice_make(&key, sizeof(key));
    bool any =
        store_find(store, slice, hash_key(slice), &found) && found.record->kind == RECORD_VALUE;
    if (any &&
        found.state != (found.lsn < mark_confirmed_below(store) ? STATE_VALID : STATE_UNCONFIRMED))
        return false;
    if (!any || expected == 0)
        return !any && expected == 0;
    value_of(expected, plan.steps[expected - 1].size, value);
    return slice_equal(record_value(found.record),
                       slice_make(value, plan.steps[expected - 1].size));
}

/* As before the step under way, or as after it: one key differs at most. */
static const char *compare_keys(const struct store *store, uint32_t phase)
{
    for (uint32_t key = 0; key < KEY_COUNT; key++) {
        uint32_t after = phase < plan.count ? phase + 1 : phase;
        if (!key_is(store, key, worth(phase, key)) && !key_is(store, key, worth(after, key)))
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
    struct store_options options = options_of(image);
    struct log_report report;
    struct store *scanned;
    uint32_t bad;
    if (memory == NULL)
        memory = aligned_alloc(4096, (index_size() + 4095) / 4096 * 4096);
    memset(memory, 0, index_size());
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
    struct store_options options = options_of(image);
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
        {log, sizeof(struct log) + SEGMENT_COUNT * sizeof(struct segment) + 64},
        {log + log_memory_size() - SEGMENT_COUNT_MAX * sizeof(struct segment_more) - 64,
         SEGMENT_COUNT * sizeof(struct segment_more) + 64},
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
                      arena->phase, (int)plan.steps[arena->phase].what,
                      (unsigned long long)totals.images, wrong);
            kill(child, SIGKILL);
            waitpid(child, &state, 0);
            break;
        }
    }
    EXPECT(WIFEXITED(state) || test_failed());
    munmap(arena, arena_size());
    munmap(image, arena_size());
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
        add(STEP_PUT, key, 20 + key);
    add(STEP_TURN, 0, 0);
    plan.stepped_from = plan.count;
    add(STEP_PUT, 3, 50);
    add(STEP_PUT, 100, 60);
    add(STEP_DELETE, 4, 0);
    add(STEP_MARK, KEY_COUNT, 0);
    add(STEP_PUT, 5, 10);
    add(STEP_INVALID, 5, 0);
    add(STEP_PUT, 5, 11);
    add(STEP_MARK, KEY_COUNT, 0);
    add(STEP_TURN, 0, 0);
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
        add(STEP_PUT, key, 30);
    plan.stepped_from = plan.count;
    for (uint32_t key = 76; key < 120; key++)
        add(STEP_PUT, key, 40);
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
        add(STEP_PUT, key, 110);
    for (uint32_t key = 0; key < KEY_COUNT; key++)
        if (key % 8 != 1)
            add(STEP_DELETE, key, 0);
    for (uint32_t i = 0; i < ROUNDS_BEFORE; i++) { /* old versions leave first */
        for (uint32_t key = 1; key < KEY_COUNT; key += 8)
            add(STEP_PUT, key, 150);
        add(STEP_MARK, KEY_COUNT, 0);
        add(STEP_CLEAN, 0, 2000);
        add(STEP_TURN, 0, 0);
    }
    plan.stepped_from = plan.count;
    for (uint32_t i = 0; i < 5; i++) {
        for (uint32_t key = 1; key < KEY_COUNT; key += 40)
            add(STEP_PUT, key, 140);
        add(STEP_CLEAN, 0, 3000);
        add(STEP_TURN, 0, 0);
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
    for (*number = 0; *number < SEGMENT_COUNT; ++*number)
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
    struct store_options options = options_of(arena);
    begin_plan();
    for (uint32_t key = 0; key < KEY_COUNT; key++)
        add(STEP_PUT, key, 100);
    for (uint32_t key = 0; dead && key < KEY_COUNT; key += 2)
        add(STEP_PUT, key, 100);
    if (store_open(&store, &options, &report, &bad) != STATUS_OK)
        abort();
    for (uint32_t i = 0; i < plan.count; i++)
        take_step(store, i);
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
    struct store_options options = options_of(arena);
    struct log_report report;
    uint32_t bad;
    const char *why;
    EXPECT(store_take_over(&store, &options, &report, &bad, &why) == STATUS_NOT_FOUND);
    munmap(arena, arena_size());
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
    munmap(arena, arena_size());
}

TEST(take, a_damaged_record_that_is_not_current_is_found_by_cleaning)
{
    struct arena *arena = arena_make(false);
    uint32_t damaged;
    struct store *store = take_damaged(arena, true, &damaged);
    if (sigsetjmp(broken_end, 0) == 0)
        for (uint32_t key = 0; key < OP_COUNT_MAX && broken_segment == UINT32_MAX; key++) {
            add(STEP_PUT, key % KEY_COUNT, 100);
            take_step(store, plan.count - 1);
        }
    EXPECT_EQ(broken_segment, damaged);
    munmap(arena, arena_size());
}
