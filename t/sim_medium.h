/* sim_medium.h: a medium whose power can be cut. Deterministic: same seed and same calls, same
 * bytes.
 *
 * What the log writes is at first only in the processor's cache: a line of 64 bytes is
 *
 *     volatile --flush--> pending (a copy is taken) --drain done--> durable
 *
 * sim_medium_cut() ends a life by losing power: each pending or volatile line survives by chance,
 * one by one, whatever the order of writing. sim_medium_kill() ends a life by killing the process:
 * all that was written is still there to be read, but is no more durable than before.
 *
 * After either call the old struct log is dead: log_close() it (which touches no byte of the
 * medium), then log_open() a new one on the same medium. Cookies begin at 0 again. Bases of
 * segments stay the same.
 *
 * Drains are done at once (the default), or when the test says so, or after a delay:
 *
 *     sim_medium_set_manual(medium, true);              sim_medium_complete(medium,
 * sim_medium_asked(medium)); sim_medium_set_delay(medium, 100, 5000); sim_medium_set_time(medium,
 * now);  -- each turn of the simulation */
#ifndef T_SIM_MEDIUM_H
#define T_SIM_MEDIUM_H

#include "pmem/medium.h"

/* At most `segments` segments (0-based numbers) can be created; one more is STATUS_NO_SPACE. Closed
 * by ops->close. */
struct medium *sim_medium_open(uint32_t segment_size, uint32_t segments, uint64_t seed);

/* Power fails; then it comes back. How many percent of the lines survive is drawn from the seed, 0
 * and 100 included. */
void sim_medium_cut(struct medium *medium);

/* The process dies; the machine lives on. */
void sim_medium_kill(struct medium *medium);

/* A new, empty disk. */
void sim_medium_wipe(struct medium *medium);

/* Flips between one and eight bits of one 64-byte line that is in use somewhere: a rotten medium.
 * False: there is no segment. To be called between two lives. */
bool sim_medium_corrupt(struct medium *medium);

/* Changes one byte, durably. */
void sim_medium_poke(struct medium *medium, uint32_t segment, uint32_t offset, uint8_t value);

/* From now on mapping this segment gives STATUS_CORRUPT: its file was cut short. */
void sim_medium_truncate(struct medium *medium, uint32_t segment);

/* From now on drained() gives STATUS_IO, until the next cut or kill. */
void sim_medium_fail(struct medium *medium);

/* True: a drain is done only when sim_medium_complete() is called. */
void sim_medium_set_manual(struct medium *medium, bool manual);

/* Each drain is done a random delay in [delay_min, delay_max] after it was asked for, but never
 * before an earlier one. Time is what sim_medium_set_time() said last, in any unit. delay_max == 0:
 * at once again. */
void sim_medium_set_delay(struct medium *medium, uint64_t delay_min, uint64_t delay_max);
void sim_medium_set_time(struct medium *medium, uint64_t now);

/* When the earliest drain that is still under way will be done; UINT64_MAX: none is. */
uint64_t sim_medium_due(const struct medium *medium);

/* The newest cookie asked for, and the newest done. */
uint64_t sim_medium_asked(const struct medium *medium);
uint64_t sim_medium_done(const struct medium *medium);

/* Does all drains up to `cookie`. */
void sim_medium_complete(struct medium *medium, uint64_t cookie);

/* Of all that exists: equal media have equal hashes. For "not one byte was written". */
uint64_t sim_medium_hash(const struct medium *medium);

/* How many lines were flushed so far. */
uint64_t sim_medium_flushed(const struct medium *medium);

#endif
