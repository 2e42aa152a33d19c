#include "pmem/journal.h"

/* Where a note's bytes belong; NULL: the note is damaged. */
static uint8_t *place_of(struct journal *journal, uint32_t at, const uint8_t *memory, uint64_t size,
                         uint32_t *note_size)
{
    int64_t distance = (int64_t)journal->notes[at] >> JOURNAL_SIZE_BITS;
    *note_size = (uint32_t)(journal->notes[at] & ((1U << JOURNAL_SIZE_BITS) - 1));
    int64_t offset = distance + ((const uint8_t *)journal - memory);
    if (offset < 0 || (uint64_t)offset >= size || *note_size > size - (uint64_t)offset ||
        *note_size > JOURNAL_NOTE_SIZE_MAX)
        return NULL;
    return (uint8_t *)journal + distance;
}

/* Notes are read forwards and undone backwards, so that of two of one place the older wins. */
bool journal_roll_back(struct journal *journal, void *memory, uint64_t size)
{
    uint16_t starts[JOURNAL_WORDS / 2];
    uint32_t count = 0, note_size;
    if (journal->lost != 0 || journal->used > JOURNAL_WORDS)
        return false;
    for (uint32_t at = 0; at < journal->used; count++) {
        if (count == sizeof(starts) / sizeof(starts[0]) ||
            place_of(journal, at, memory, size, &note_size) == NULL || note_size == 0)
            return false;
        starts[count] = (uint16_t)at;
        at += 1 + (note_size + (uint32_t)sizeof(uint64_t) - 1) / (uint32_t)sizeof(uint64_t);
        if (at > journal->used)
            return false;
    }
    while (count > 0) {
        uint32_t at = starts[--count];
        uint8_t *place = place_of(journal, at, memory, size, &note_size);
        memcpy(place, &journal->notes[at + 1], note_size);
    }
    journal_commit(journal);
    return true;
}
