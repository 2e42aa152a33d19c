#include "t/crash_medium.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "t/store_trap.h"

enum { LINE = 64, UNIT = 8, UNITS = LINE / UNIT, GUARD = 4096, HEADER_LINES = 1 };

/* The contents of a line since the one that is durable: versions[0] is that, the last one is what
 * the program sees. */
struct line {
    uint64_t first; /* number of versions[0] */
    uint32_t count, size;
    uint8_t (*versions)[LINE];
};

struct flushed {
    uint32_t line;
    uint64_t version;
    bool asked; /* a drain came behind it */
};

struct crash {
    struct medium medium; /* first: the caller holds a pointer to it */
    uint32_t segment_count, line_count, lines_each;
    uint8_t *memory; /* the segments, with a guard behind each */
    bool *exists;
    struct line *lines;
    struct flushed *flushed;
    size_t flushed_count, flushed_size;
    const uint8_t *store_at; /* the store that was told last: done by now */
    size_t store_size;
    uint64_t asked, done;
    bool manual, plain;
    crash_watch_t watch;
    void *user;
};

struct crash_image {
    uint32_t segment_size, segment_count, line_count;
    uint8_t *bytes; /* without guards */
    const struct crash *crash;
    uint32_t *uncertain; /* lines */
    uint32_t uncertain_count;
    bool *exists;
};

static struct crash *crash_of(struct medium *medium)
{
    return (struct crash *)medium;
}

static uint8_t *segment_at(const struct crash *crash, uint32_t number)
{
    return crash->memory + (size_t)number * (crash->medium.segment_size + GUARD);
}

static uint8_t *line_at(const struct crash *crash, uint32_t line)
{
    return segment_at(crash, line / crash->lines_each) + (size_t)(line % crash->lines_each) * LINE;
}

static uint32_t line_of(const struct crash *crash, const uint8_t *at)
{
    size_t from = (size_t)(at - crash->memory), stride = crash->medium.segment_size + GUARD;
    assert(from % stride < crash->medium.segment_size);
    return (uint32_t)(from / stride * crash->lines_each + from % stride / LINE);
}

/* ---- versions ---- */

static void add_version(struct line *line, const uint8_t *content)
{
    if (line->count == line->size) {
        line->size = line->size == 0 ? 4 : 2 * line->size;
        line->versions = realloc(line->versions, line->size * sizeof(*line->versions));
        assert(line->versions != NULL);
    }
    memcpy(line->versions[line->count++], content, LINE);
}

/* A store of more than eight bytes is several: its parts arrive in rising order. */
static void note_line(struct line *line, const uint8_t *now)
{
    uint8_t content[LINE];
    memcpy(content, line->versions[line->count - 1], LINE);
    for (unsigned unit = 0; unit < UNITS; unit++) {
        if (memcmp(content + unit * UNIT, now + unit * UNIT, UNIT) == 0)
            continue;
        memcpy(content + unit * UNIT, now + unit * UNIT, UNIT);
        add_version(line, content);
    }
}

/* Takes over what the last told store has written. */
static void sync_store(struct crash *crash)
{
    if (crash->store_size == 0)
        return;
    uint32_t from = line_of(crash, crash->store_at);
    uint32_t to = line_of(crash, crash->store_at + crash->store_size - 1);
    for (uint32_t line = from; line <= to; line++)
        note_line(&crash->lines[line], line_at(crash, line));
    crash->store_size = 0;
}

/* Every line is as the last told store has left it. */
static void check_untold(const struct crash *crash)
{
    for (uint32_t line = 0; line < crash->line_count; line++) {
        const struct line *at = &crash->lines[line];
        if (memcmp(at->versions[at->count - 1], line_at(crash, line), LINE) != 0)
            assert(!"a store that was not told");
    }
}

static void sync_all(struct crash *crash)
{
    if (crash->plain)
        return;
    sync_store(crash);
    check_untold(crash);
}

static void call_watch(struct crash *crash, enum crash_event event)
{
    if (crash->watch != NULL)
        crash->watch(crash->user, event); /* may begin a trap of its own, and sets ours again */
}

void crash_medium_on_store(void *medium, void *at, size_t size)
{
    struct crash *crash = crash_of(medium);
    sync_store(crash);
    call_watch(crash, CRASH_STORE);
    crash->store_at = at;
    crash->store_size = size;
}

void crash_medium_trap(struct medium *medium)
{
    struct crash *crash = crash_of(medium);
    store_trap_begin(crash_medium_on_store, medium);
    store_trap_watch(crash->memory, (size_t)crash->segment_count * (medium->segment_size + GUARD));
}

/* ---- the medium ---- */

static enum status map(struct medium *medium, uint32_t number, bool create, void **base)
{
    struct crash *crash = crash_of(medium);
    if (number >= crash->segment_count)
        return create ? STATUS_NO_SPACE : STATUS_NOT_FOUND;
    if (!create && !crash->exists[number])
        return STATUS_NOT_FOUND;
    crash->exists[number] = true;
    *base = segment_at(crash, number);
    return STATUS_OK;
}

static void flush(struct medium *medium, const void *at, size_t size)
{
    struct crash *crash = crash_of(medium);
    sync_all(crash);
    if (size == 0 || crash->plain)
        return;
    for (uint32_t line = line_of(crash, at); line <= line_of(crash, (const uint8_t *)at + size - 1);
         line++) {
        if (crash->flushed_count == crash->flushed_size) {
            crash->flushed_size = crash->flushed_size == 0 ? 256 : 2 * crash->flushed_size;
            crash->flushed = realloc(crash->flushed, crash->flushed_size * sizeof(*crash->flushed));
            assert(crash->flushed != NULL);
        }
        const struct line *flushed = &crash->lines[line];
        crash->flushed[crash->flushed_count++] =
            (struct flushed){.line = line, .version = flushed->first + flushed->count - 1};
    }
}

/* The content of that version is durable: what came before is gone. */
static void settle(struct line *line, uint64_t version)
{
    if (version <= line->first)
        return;
    uint32_t gone = (uint32_t)(version - line->first);
    line->first = version;
    line->count -= gone;
    memmove(line->versions, line->versions + gone, line->count * sizeof(*line->versions));
}

void crash_medium_complete(struct medium *medium)
{
    struct crash *crash = crash_of(medium);
    size_t kept = 0;
    for (size_t i = 0; i < crash->flushed_count; i++) {
        const struct flushed *flushed = &crash->flushed[i];
        if (flushed->asked)
            settle(&crash->lines[flushed->line], flushed->version);
        else
            crash->flushed[kept++] = *flushed;
    }
    crash->flushed_count = kept;
    crash->done = crash->asked;
}

static void drain(struct medium *medium, uint64_t cookie)
{
    struct crash *crash = crash_of(medium);
    sync_all(crash);
    assert(cookie > crash->asked);
    crash->asked = cookie;
    crash->done = crash->plain ? cookie : crash->done;
    for (size_t i = 0; i < crash->flushed_count; i++)
        crash->flushed[i].asked = true;
    if (crash->plain)
        return;
    call_watch(crash, CRASH_DRAIN);
    if (crash->manual)
        return;
    crash_medium_complete(medium);
    call_watch(crash, CRASH_DRAIN_DONE);
}

static enum status drained(struct medium *medium, uint64_t *cookie)
{
    sync_all(crash_of(medium));
    *cookie = crash_of(medium)->done;
    return STATUS_OK;
}

static void close(struct medium *medium)
{
    struct crash *crash = crash_of(medium);
    for (uint32_t i = 0; i < crash->line_count; i++)
        free(crash->lines[i].versions);
    munmap(crash->memory, (size_t)crash->segment_count * (medium->segment_size + GUARD));
    free(crash->flushed);
    free(crash->lines);
    free(crash->exists);
    free(crash);
}

struct medium *crash_medium_open(uint32_t segment_size, uint32_t segments)
{
    static const struct medium_ops ops = {
        .map = map, .flush = flush, .drain = drain, .drained = drained, .close = close};
    struct crash *crash = calloc(1, sizeof(*crash));
    assert(crash != NULL);
    assert(segment_size % GUARD == 0);
    crash->medium = (struct medium){.ops = &ops, .segment_size = segment_size};
    crash->segment_count = segments;
    crash->lines_each = segment_size / LINE;
    crash->line_count = segments * crash->lines_each;
    crash->lines = calloc(crash->line_count, sizeof(*crash->lines));
    crash->exists = calloc(segments, sizeof(*crash->exists));
    crash->memory = mmap(NULL, (size_t)segments * (segment_size + GUARD), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(crash->lines != NULL);
    assert(crash->exists != NULL);
    assert(crash->memory != MAP_FAILED);
    for (uint32_t i = 0; i < segments; i++)
        mprotect(segment_at(crash, i) + segment_size, GUARD, PROT_NONE);
    for (uint32_t i = 0; i < crash->line_count; i++)
        add_version(&crash->lines[i], line_at(crash, i));
    return &crash->medium;
}

void crash_medium_watch(struct medium *medium, crash_watch_t watch, void *user)
{
    crash_of(medium)->watch = watch;
    crash_of(medium)->user = user;
}

void crash_medium_set_plain(struct medium *medium, bool plain)
{
    crash_of(medium)->plain = plain;
}

void crash_medium_set_manual(struct medium *medium, bool manual)
{
    crash_of(medium)->manual = manual;
}

static void forget_drains(struct crash *crash)
{
    crash->flushed_count = 0;
    crash->asked = crash->done = 0;
    crash->store_size = 0;
}

void crash_medium_kill(struct medium *medium)
{
    sync_all(crash_of(medium));
    forget_drains(crash_of(medium));
}

/* ---- images ---- */

struct crash_image *crash_image_open(const struct medium *medium)
{
    const struct crash *crash = (const struct crash *)medium;
    struct crash_image *image = calloc(1, sizeof(*image));
    assert(image != NULL);
    image->segment_size = medium->segment_size;
    image->segment_count = crash->segment_count;
    image->line_count = crash->line_count;
    image->bytes = aligned_alloc(LINE, (size_t)crash->line_count * LINE);
    image->uncertain = calloc(crash->line_count, sizeof(*image->uncertain));
    image->exists = calloc(crash->segment_count, sizeof(*image->exists));
    assert(image->bytes != NULL);
    assert(image->uncertain != NULL);
    assert(image->exists != NULL);
    return image;
}

void crash_image_close(struct crash_image *image)
{
    free(image->exists);
    free(image->uncertain);
    free(image->bytes);
    free(image);
}

static void choose(struct crash_image *image, uint32_t line, uint32_t version)
{
    memcpy(image->bytes + (size_t)line * LINE, image->crash->lines[line].versions[version], LINE);
}

uint32_t crash_image_lines(struct crash_image *image, struct medium *medium)
{
    struct crash *crash = crash_of(medium);
    sync_all(crash);
    image->crash = crash;
    image->uncertain_count = 0;
    memcpy(image->exists, crash->exists, crash->segment_count * sizeof(*image->exists));
    for (uint32_t line = 0; line < crash->line_count; line++) {
        choose(image, line, 0);
        if (crash->lines[line].count > 1)
            image->uncertain[image->uncertain_count++] = line;
    }
    return image->uncertain_count;
}

uint64_t crash_image_combinations(const struct crash_image *image)
{
    uint64_t combinations = 1;
    for (uint32_t i = 0; i < image->uncertain_count; i++) {
        uint64_t count = image->crash->lines[image->uncertain[i]].count;
        if (combinations > UINT64_MAX / count)
            return UINT64_MAX;
        combinations *= count;
    }
    return combinations;
}

void crash_image_combination(struct crash_image *image, uint64_t which)
{
    for (uint32_t i = 0; i < image->uncertain_count; i++) {
        uint32_t line = image->uncertain[i], count = image->crash->lines[line].count;
        choose(image, line, (uint32_t)(which % count));
        which /= count;
    }
}

void crash_image_all(struct crash_image *image, bool newest)
{
    for (uint32_t i = 0; i < image->uncertain_count; i++) {
        uint32_t line = image->uncertain[i];
        choose(image, line, newest ? image->crash->lines[line].count - 1 : 0);
    }
}

void crash_image_all_but(struct crash_image *image, bool newest, uint32_t line)
{
    crash_image_all(image, newest);
    line = image->uncertain[line];
    choose(image, line, newest ? 0 : image->crash->lines[line].count - 1);
}

/* Lines of records may be torn; those with a header are whole at some moment
 * (pmem/log_private.h). */
static void tear(struct crash_image *image, uint32_t line, struct prng *prng)
{
    const struct line *at = &image->crash->lines[line];
    for (unsigned unit = 0; unit < UNITS; unit++)
        memcpy(image->bytes + (size_t)line * LINE + unit * UNIT,
               at->versions[prng_below(prng, at->count)] + unit * UNIT, UNIT);
}

void crash_image_random(struct crash_image *image, struct prng *prng)
{
    unsigned newest = (unsigned)prng_below(prng, 5) * 25;
    for (uint32_t i = 0; i < image->uncertain_count; i++) {
        uint32_t line = image->uncertain[i], count = image->crash->lines[line].count;
        bool header = line % image->crash->lines_each < HEADER_LINES;
        if (!header && prng_chance(prng, 10))
            tear(image, line, prng);
        else if (prng_chance(prng, 20))
            choose(image, line, (uint32_t)prng_below(prng, count));
        else
            choose(image, line, prng_chance(prng, newest) ? count - 1 : 0);
    }
}

uint8_t *crash_image_bytes(struct crash_image *image)
{
    return image->bytes;
}

void crash_image_remove(struct crash_image *image, uint32_t segment)
{
    image->exists[segment] = false;
    memset(image->bytes + (size_t)segment * image->segment_size, 0, image->segment_size);
}

void crash_medium_load(struct medium *medium, const struct crash_image *image)
{
    struct crash *crash = crash_of(medium);
    assert(crash->line_count == image->line_count);
    assert(crash->segment_count == image->segment_count);
    memcpy(crash->exists, image->exists, image->segment_count * sizeof(*image->exists));
    for (uint32_t i = 0; i < crash->segment_count; i++)
        memcpy(segment_at(crash, i), image->bytes + (size_t)i * image->segment_size,
               image->segment_size);
    for (uint32_t line = 0; line < crash->line_count && !crash->plain; line++) {
        crash->lines[line].count = 1;
        memcpy(crash->lines[line].versions[0], image->bytes + (size_t)line * LINE, LINE);
    }
    forget_drains(crash);
}

uint8_t crash_medium_peek(const struct medium *medium, uint32_t segment, uint32_t offset)
{
    return segment_at((const struct crash *)medium, segment)[offset];
}

void crash_medium_poke(struct medium *medium, uint32_t segment, uint32_t offset, uint8_t value)
{
    struct crash *crash = crash_of(medium);
    struct line *line = &crash->lines[segment * crash->lines_each + offset / LINE];
    segment_at(crash, segment)[offset] = value;
    line->count = 1;
    memcpy(line->versions[0], segment_at(crash, segment) + offset / LINE * LINE, LINE);
}
