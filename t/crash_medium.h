/* crash_medium.h: a medium that knows every state in which a power cut may leave it.
 *
 * Of each line of 64 bytes it remembers all contents since the last one that is durable for
 * certain. A power cut leaves any of them, of each line by itself: the cache writes lines back when
 * it likes, and a store that came later may have arrived while an earlier one to another line has
 * not. Within a line, stores arrive in their order (x86 writes back the whole line as it is);
 * crash_image_random() is harsher than that with lines that hold records: each 8 bytes of them may
 * be of another moment. What was flushed is durable once a drain behind the flush is done; the
 * contents before it are gone.
 *
 * It must be told of each store: store_trap.h, with crash_medium_on_store() as the callback. A
 * store that was not told is found (an assertion). Each segment ends at memory that cannot be
 * read. */
#ifndef T_CRASH_MEDIUM_H
#define T_CRASH_MEDIUM_H

#include "base/prng.h"
#include "pmem/medium.h"

enum crash_event {
    CRASH_STORE,      /* the code is about to write; all earlier stores are done */
    CRASH_DRAIN,      /* a drain was asked for, and is not done */
    CRASH_DRAIN_DONE, /* it is done, the code does not know yet */
};

/* Called at each moment at which the power may go. */
typedef void (*crash_watch_t)(void *user, enum crash_event event);

/* Closed by ops->close. No watch: nothing is called. */
struct medium *crash_medium_open(uint32_t segment_size, uint32_t segments);
void crash_medium_watch(struct medium *medium, crash_watch_t watch, void *user);

/* For store_trap_begin(); `medium` as its user. */
void crash_medium_on_store(void *medium, void *at, size_t size);
void crash_medium_trap(struct medium *medium); /* begins the trap */

/* True: stores need not be told, every drain is done at once and nothing is remembered: for looking
 * at an image. */
void crash_medium_set_plain(struct medium *medium, bool plain);

/* True: a drain is done only when crash_medium_complete() is called, with all others. */
void crash_medium_set_manual(struct medium *medium, bool manual);
void crash_medium_complete(struct medium *medium);

/* A killed process leaves what it wrote, no more durable than before. Then log_open() a new log on
 * it. */
void crash_medium_kill(struct medium *medium);

/* ---- images: what a power cut now would leave ---- */

/* One choice: for each uncertain line which content; made by one of the functions below. */
struct crash_image;
struct crash_image *crash_image_open(const struct medium *medium);
void crash_image_close(struct crash_image *image);

/* How many lines are uncertain now, and how many combinations of their contents there are
 * (UINT64_MAX: more than that). */
uint32_t crash_image_lines(struct crash_image *image, struct medium *medium);
uint64_t crash_image_combinations(const struct crash_image *image);

/* After crash_image_lines(), while nothing is written: */
void crash_image_combination(struct crash_image *image, uint64_t which);
void crash_image_all(struct crash_image *image, bool newest);
/* the line is the opposite */
void crash_image_all_but(struct crash_image *image, bool newest, uint32_t line);
void crash_image_random(struct crash_image *image, struct prng *prng);

/* The bytes of all segments, one after the other. */
uint8_t *crash_image_bytes(struct crash_image *image);
void crash_image_remove(struct crash_image *image, uint32_t segment); /* its file */

/* Makes `medium` what the image of another one is: all of it durable; a new life. Of equal size and
 * count. */
void crash_medium_load(struct medium *medium, const struct crash_image *image);

/* Reads and changes one byte, durably. */
uint8_t crash_medium_peek(const struct medium *medium, uint32_t segment, uint32_t offset);
void crash_medium_poke(struct medium *medium, uint32_t segment, uint32_t offset, uint8_t value);

#endif
