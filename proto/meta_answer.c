/* Answers of meta commands. */
#include <assert.h>

#include "base/decimal.h"
#include "proto/base64.h"
#include "proto/meta.h"

static_assert(META_ANSWER_SIZE_MAX >= sizeof("VA 4294967295 k b W X Z\r\n") +
                                          (META_KEY_SIZE_MAX + 2) / 3 * 4 + META_OPAQUE_SIZE_MAX +
                                          sizeof(" c18446744073709551615") +
                                          6 * sizeof(" f4294967295"),
              "an answer with everything");

static const char codes[][3] = {"VA", "HD", "EN", "NF", "NS", "EX"};

static char *put(char *at, struct slice bytes)
{
    if (bytes.size > 0)
        memcpy(at, bytes.data, bytes.size);
    return at + bytes.size;
}

static char *put_text(char *at, const char *text)
{
    return put(at, slice_text(text));
}

static char *put_number(char *at, uint64_t number)
{
    return at + decimal_format(number, at);
}

static char *put_flag(char *at, char letter)
{
    *at++ = ' ';
    *at++ = letter;
    return at;
}

static char *put_key(char *at, struct slice key, bool base64)
{
    return base64 ? at + base64_encode(key, at) : put(at, key);
}

static uint32_t seconds_between(uint32_t from, uint32_t to)
{
    return to > from ? to - from : 0;
}

static char *put_time_left(char *at, uint32_t now, uint32_t exptime)
{
    return exptime == 0 ? put_text(at, "-1") : put_number(at, seconds_between(now, exptime));
}

/* The letters that an answer repeats. */
static const char *answered(enum command command, enum meta_code code)
{
    bool found = code == META_VA || code == META_HD;
    switch ((int)command) {
    case COMMAND_MG:
        return found ? "kOcfhlst" : "kO";
    case COMMAND_MS:
        return "kOcs";
    case COMMAND_MA:
        return found ? "kOct" : "kO";
    case COMMAND_MP:
        return "O";
    }
    return "kO";
}

static char *put_letter(char *at, char letter, const struct meta *meta,
                        const struct meta_result *result, uint32_t exptime)
{
    if (letter == 'O') {
        *at++ = ' ';
        return put(at, slice_make(meta->opaque, meta->opaque_size));
    }
    at = put_flag(at, letter);
    switch (letter) {
    case 'k':
        at = put_key(at, result->key, result->base64);
        return result->base64 ? put_flag(at, 'b') : at;
    case 'c':
        return put_number(at, result->cas);
    case 'f':
        return put_number(at, result->client_flags);
    case 'h':
        return put_text(at, result->fetched ? "1" : "0");
    case 'l':
        return put_number(at, seconds_between(result->access_at, result->now));
    case 's':
        return put_number(at, result->value_size);
    }
    return put_time_left(at, result->now, exptime); /* t */
}

/* What a flag does to the exptime counts for the flags behind it. */
static char *put_letters(char *at, enum command command, const struct meta *meta,
                         const struct meta_result *result)
{
    const char *letters = answered(command, result->code);
    uint32_t exptime = result->exptime;
    for (unsigned i = 0; i < meta->flag_count; i++) {
        char letter = meta->flags[i];
        if (letter == 'T')
            exptime = result->new_exptime;
        else if (letter == 'N' && result->created)
            exptime = result->vivify_exptime;
        else if (memchr(letters, letter, strlen(letters)) != NULL)
            at = put_letter(at, letter, meta, result, exptime);
    }
    return at;
}

static bool is_hidden(enum command command, const struct meta *meta, enum meta_code code)
{
    if (!meta_has(meta, 'q'))
        return false;
    return command == COMMAND_MG ? code == META_EN : code == META_HD || code == META_VA;
}

size_t meta_answer(char out[META_ANSWER_SIZE_MAX], enum command command, const struct meta *meta,
                   const struct meta_result *result)
{
    if (is_hidden(command, meta, result->code))
        return 0;
    char *at = put_text(out, codes[result->code]);
    if (result->code == META_VA) {
        *at++ = ' ';
        at = put_number(at, result->value_size);
    }
    at = put_letters(at, command, meta, result);
    if (result->taken)
        at = put_flag(at, 'Z');
    if (result->stale)
        at = put_flag(at, 'X');
    if (result->won)
        at = put_flag(at, 'W');
    at = put_text(at, "\r\n");
    return (size_t)(at - out);
}

size_t meta_debug_answer(char out[META_ANSWER_SIZE_MAX], const struct meta_debug *debug)
{
    char *at = put_key(put_text(out, "ME "), debug->key, debug->base64);
    at = put_time_left(put_text(at, " exp="), debug->now, debug->exptime);
    at = put_number(put_text(at, " la="), seconds_between(debug->access_at, debug->now));
    at = put_number(put_text(at, " cas="), debug->cas);
    at = put_text(at, debug->fetched ? " fetch=yes" : " fetch=no");
    at = put_number(put_text(at, " cls="), debug->class_id);
    at = put_number(put_text(at, " size="), debug->size);
    at = put_text(at, "\r\n");
    return (size_t)(at - out);
}
