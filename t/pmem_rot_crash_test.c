/* Goal: whatever damage is done to the bytes of a log, nothing wrong is read, and what is missing
 * of what was proved is reported. Method: a short life of a log, ended by a power cut; each line,
 * each unit of eight bytes and some bits of it are changed, segments are removed, exchanged and cut
 * short, and what is left is recovered and compared with the ledger. */
#include <stdio.h>

#include "t/crash_log.h"
#include "t/test.h"

enum { SEGMENTS = 4, LINE = 64, ACTS = 26 };

static struct crash_run run;

static struct crash_life *begin(void)
{
    crash_run_begin(&run, SEGMENTS, 1);
    run.images_max = 0;
    return crash_life_begin(&run);
}

static void act(struct crash_life *life, uint32_t i)
{
    bool delete = i % 9 == 8;
    crash_put(life, i % 11 == 10 ? 4 : i % 4, delete ? RECORD_TOMBSTONE : RECORD_VALUE,
              delete ? 0 : 300 + 70 * (i % 7));
    if (i % 5 == 4)
        crash_put_mark(life);
    crash_turn(life);
    if (log_segment_free_count(life->log) < 2)
        crash_clean(life);
}

/* Cleaned segments, a used one again, marks, and an open segment with some records, of which the
 * last ones are not proved. */
static struct crash_life *live(void)
{
    struct crash_life *life = begin();
    for (uint32_t i = 0; i < ACTS; i++)
        act(life, i);
    log_prove(life->log);
    crash_turn(life);
    crash_turn(life);
    for (uint32_t i = 0; i < 3; i++)
        crash_put(life, i, RECORD_VALUE, 100);
    crash_turn(life);
    EXPECT(run.failure[0] == 0);
    return life;
}

static void end_run(const char *name)
{
    if (run.failure[0] != 0)
        test_fail(__FILE__, __LINE__, "%s", run.failure);
    EXPECT(run.image_count > 0);
    printf("# damage, %s: %llu images, %llu with damage reported\n", name,
           (unsigned long long)run.image_count, (unsigned long long)run.reported_count);
    crash_run_end(&run);
}

/* One place is changed by `change`; of every segment, in steps of `step` bytes. */
static void damage_each(const char *name, uint32_t step,
                        void (*change)(uint8_t *bytes, struct prng *prng))
{
    struct crash_life *life = live();
    for (uint32_t at = 0; at < SEGMENTS * CRASH_SEGMENT_SIZE && run.failure[0] == 0; at += step) {
        uint8_t *bytes = crash_left(life);
        change(bytes + at, &run.prng);
        crash_look(life);
        if (run.failure[0] != 0)
            printf("at byte %u of segment %u\n", at % CRASH_SEGMENT_SIZE, at / CRASH_SEGMENT_SIZE);
    }
    end_run(name);
}

static void flip_bit(uint8_t *bytes, struct prng *prng)
{
    *bytes ^= (uint8_t)(1U << prng_below(prng, 8));
}

static void zero_unit(uint8_t *bytes, struct prng *prng)
{
    (void)prng;
    memset(bytes, 0, 8);
}

static void fill_unit(uint8_t *bytes, struct prng *prng)
{
    (void)prng;
    memset(bytes, 0xff, 8);
}

static void zero_line(uint8_t *bytes, struct prng *prng)
{
    (void)prng;
    memset(bytes, 0, LINE);
}

static void scramble_line(uint8_t *bytes, struct prng *prng)
{
    for (unsigned i = 0; i < LINE; i++)
        bytes[i] = (uint8_t)prng_below(prng, 256);
}

TEST(rot, a_flipped_bit)
{
    damage_each("a flipped bit in each byte", 1, flip_bit);
}

TEST(rot, eight_bytes_of_zeros)
{
    damage_each("eight bytes of zeros", 8, zero_unit);
}

TEST(rot, eight_bytes_of_ones)
{
    damage_each("eight bytes of ones", 8, fill_unit);
}

TEST(rot, a_line_of_zeros)
{
    damage_each("a line of zeros", LINE, zero_line);
}

TEST(rot, a_line_of_anything)
{
    for (unsigned i = 0; i < 8; i++)
        damage_each("a line of anything", LINE, scramble_line);
}

/* Sizes become as large as can be: nothing is read behind the segment, where memory ends. */
static void fill_three(uint8_t *bytes, struct prng *prng)
{
    (void)prng;
    if ((uintptr_t)bytes % LINE < LINE - 2)
        memset(bytes, 0xff, 3);
}

TEST(rot, three_bytes_of_ones)
{
    damage_each("three bytes of ones", 1, fill_three);
}

/* Its file is gone, or all of it is zeros. */
static void remove_each(struct crash_life *life)
{
    for (uint32_t i = 0; i < SEGMENTS && log_segment_used_count(life->log) > 1; i++) {
        (void)crash_left(life);
        crash_image_remove(run.images[0], i);
        crash_look(life);
        memset(crash_left(life) + i * CRASH_SEGMENT_SIZE, 0, CRASH_SEGMENT_SIZE);
        crash_look(life);
    }
}

static void exchange_each(struct crash_life *life)
{
    static uint8_t kept[CRASH_SEGMENT_SIZE];
    for (uint32_t i = 1; i < SEGMENTS; i++) {
        uint8_t *bytes = crash_left(life);
        memcpy(kept, bytes, sizeof(kept));
        memcpy(bytes, bytes + i * CRASH_SEGMENT_SIZE, sizeof(kept));
        memcpy(bytes + i * CRASH_SEGMENT_SIZE, kept, sizeof(kept));
        crash_look(life);
    }
}

/* Of what was copied while a segment was cleaned, too, when the original is gone. */
TEST(rot, at_any_moment)
{
    struct crash_life *life = begin();
    for (uint32_t i = 0; i < ACTS && run.failure[0] == 0; i++) {
        act(life, i);
        for (uint32_t at = 0; at < SEGMENTS * CRASH_SEGMENT_SIZE && run.failure[0] == 0;
             at += LINE) {
            scramble_line(crash_left(life) + at, &run.prng);
            crash_look(life);
        }
        remove_each(life);
        exchange_each(life);
    }
    end_run("a line of anything at any moment");
}
