#include "server/tuning.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/number.h"

bool tuning_is_short_for(struct slice word, const char *name)
{
    return word.size > 0 && word.size <= strlen(name) && memcmp(word.data, name, word.size) == 0;
}

/* A word of the line with a zero behind it; cut if it is too long for any number. */
static double read_fraction(struct slice word, bool *good)
{
    char text[64], *end;
    snprintf(text, sizeof(text), "%.*s", (int)word.size, (const char *)word.data);
    double number = strtod(text, &end);
    *good = *good && end != text && *end == 0;
    return number;
}

static enum reply lru_tune(const struct text_request *request)
{
    uint32_t hot = 0, warm = 0;
    bool good = number_u32(request->words[2], &hot) && number_u32(request->words[3], &warm);
    double hot_factor = read_fraction(request->words[4], &good);
    double warm_factor = read_fraction(request->words[5], &good);
    if (!good)
        return REPLY_ERROR;
    if ((uint64_t)hot + warm > 80)
        return REPLY_LRU_PERCENTS;
    return hot_factor > 0 && warm_factor > 0 ? REPLY_OK : REPLY_LRU_FACTORS;
}

enum reply tuning_answer_lru(const struct text_request *request)
{
    struct slice word = request->words[1], third = request->words[2];
    int32_t ttl;
    if (request->word_count >= 6 && tuning_is_short_for(word, "tune"))
        return lru_tune(request);
    if (request->word_count < 3)
        return REPLY_ERROR;
    if (tuning_is_short_for(word, "mode"))
        return slice_equal(third, slice_text("flat")) || slice_equal(third, slice_text("segmented"))
                   ? REPLY_OK
                   : REPLY_ERROR;
    if (tuning_is_short_for(word, "temp_ttl"))
        return number_i32(third, &ttl) ? REPLY_OK : REPLY_ERROR;
    return REPLY_ERROR;
}

/* There is one class, whose pages belong to nobody else. */
static enum reply slabs_reassign(const struct text_request *request)
{
    int32_t from, to;
    if (!number_i32(request->words[2], &from) || !number_i32(request->words[3], &to))
        return REPLY_BAD_FORMAT;
    if (from == to)
        return REPLY_SLABS_SAME;
    if (from < -1 || from >= SLAB_CLASS_COUNT || to < 0 || to >= SLAB_CLASS_COUNT)
        return REPLY_SLABS_BAD_CLASS;
    return REPLY_SLABS_NO_SPARE;
}

static enum reply slabs_automove(const struct text_request *request)
{
    struct slice word = request->words[2], value = request->words[3];
    uint32_t number;
    bool good = true;
    if (tuning_is_short_for(word, "ratio") || tuning_is_short_for(word, "freeratio")) {
        read_fraction(value, &good);
        return good ? REPLY_OK : REPLY_ERROR;
    }
    if (tuning_is_short_for(word, "window")) {
        if (!number_u32(value, &number))
            return REPLY_BAD_FORMAT;
        return number >= 3 && number <= 1800 ? REPLY_OK : REPLY_SLABS_WINDOW;
    }
    if (!number_u32(word, &number))
        return REPLY_BAD_FORMAT;
    return number <= 2 ? REPLY_OK : REPLY_ERROR;
}

enum reply tuning_answer_slabs(const struct text_request *request)
{
    if (request->word_count == 4 && tuning_is_short_for(request->words[1], "reassign"))
        return slabs_reassign(request);
    if (request->word_count >= 3 && tuning_is_short_for(request->words[1], "automove"))
        return slabs_automove(request);
    return REPLY_ERROR;
}

enum reply tuning_read_classes(struct slice list)
{
    const char *at = list.data, *end = at + list.size;
    enum reply reply = REPLY_CRAWLER_NOTHING;
    if (slice_equal(list, slice_text("all")) || slice_equal(list, slice_text("hash")))
        return REPLY_OK;
    while (at < end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        struct slice word = slice_make(at, (size_t)((comma != NULL ? comma : end) - at));
        uint32_t class;
        if (word.size > 0 && (!number_u32(word, &class) || class == 0 || class >= SLAB_CLASS_COUNT))
            return REPLY_CRAWLER_BAD_CLASS;
        if (word.size > 0 && class == SLAB_CLASS)
            reply = REPLY_OK;
        at += word.size + 1;
    }
    return reply;
}

/* Expired items are found when they are read, and when the log is cleaned: there is no crawler to
 * set. */
enum reply tuning_answer_crawler(const struct text_request *request)
{
    struct slice word = request->words[1];
    uint32_t number;
    if (request->word_count != 3)
        return REPLY_ERROR;
    if (tuning_is_short_for(word, "crawl"))
        return tuning_read_classes(request->words[2]);
    if (tuning_is_short_for(word, "tocrawl"))
        return number_u32(request->words[2], &number) ? REPLY_OK : REPLY_BAD_FORMAT;
    if (!tuning_is_short_for(word, "sleep"))
        return REPLY_ERROR;
    if (!number_u32(request->words[2], &number))
        return REPLY_BAD_FORMAT;
    return number <= 1000000 ? REPLY_OK : REPLY_CRAWLER_SLEEP;
}
