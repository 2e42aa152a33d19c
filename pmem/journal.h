/* journal.h: an undo journal: memory that several words are changed in stays whole when the process
 * is killed in the middle. Owner thread only. Of memory that outlives a process, not of media: a
 * power cut ends the memory itself.
 *
 *     journal_begin -> (journal_note, change)... -> journal_commit
 *
 * A killed process leaves every store up to some instruction and none behind it. So what was there
 * before is written down first, and holds from one store on; after a crash journal_roll_back() puts
 * it back, last note first. Stores are ordered against the compiler only: one thread's stores reach
 * memory in its order (x86), and who takes the memory over begins after the killed process has
 * ended.
 *
 * A note names its place by the distance from the journal, so both must lie in one mapping. */
#ifndef PMEM_JOURNAL_H
#define PMEM_JOURNAL_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    JOURNAL_WORDS = 1024,
    JOURNAL_NOTE_SIZE_MAX = 1024,
    JOURNAL_SIZE_BITS = 16,
};

struct journal {
    uint32_t used; /* words of notes that hold; 0: nothing is under way */
    /* a note found no room: until the commit, a crash leaves what cannot be put right */
    uint32_t lost;
    uint64_t notes[JOURNAL_WORDS];
};

/* Nothing is under way yet. A NULL journal keeps no notes: the memory dies with the process. */
static inline void journal_begin(const struct journal *journal)
{
    assert(journal == NULL || (journal->used == 0 && journal->lost == 0));
}

/* `size` bytes at `at` are about to change. */
static inline void journal_note(struct journal *journal, const void *at, uint32_t size)
{
    if (journal == NULL)
        return;
    uint32_t used = journal->used, words = (size + sizeof(uint64_t) - 1) / sizeof(uint64_t);
    int64_t distance = (const uint8_t *)at - (const uint8_t *)journal;
    if (used + 1 + words > JOURNAL_WORDS) {
        journal->lost = 1;
        atomic_signal_fence(memory_order_seq_cst);
        return;
    }
    journal->notes[used] = (uint64_t)distance << JOURNAL_SIZE_BITS | size;
    memcpy(&journal->notes[used + 1], at, size);
    atomic_signal_fence(memory_order_seq_cst); /* the note, then that it holds, then the change */
    *(volatile uint32_t *)&journal->used = used + 1 + words;
    atomic_signal_fence(memory_order_seq_cst);
}

/* What was begun is done: the notes are void. */
static inline void journal_commit(struct journal *journal)
{
    if (journal == NULL)
        return;
    atomic_signal_fence(memory_order_seq_cst);
    *(volatile uint32_t *)&journal->used = 0;
    *(volatile uint32_t *)&journal->lost = 0;
    atomic_signal_fence(memory_order_seq_cst);
}

/* Undoes what a killed process had begun, inside [memory, memory + size), where the journal lies.
 * May be killed itself, and called again. False: it cannot be undone, nothing was changed. */
bool journal_roll_back(struct journal *journal, void *memory, uint64_t size);

#endif
