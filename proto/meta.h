/* meta.h: the meta commands mg ms md ma me mn, and mp: their flags, and their answers. Pure; any
 * thread.
 *
 * text.h reads their lines and hands them over like all others; what the flags say is in struct
 * meta, which the caller keeps for the answer: that follows the flags in their order. Answers are
 * those of memcached 1.6.45. mp is ours: as mn it has no key, and of the flags O and q mean
 * something. */
#ifndef PROTO_META_H
#define PROTO_META_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "proto/command.h"

enum {
    META_WORDS_MAX = 20,       /* of a line, command and key counted */
    META_OPAQUE_SIZE_MAX = 32, /* the O counted */
    META_KEY_SIZE_MAX = 250,   /* of a key as it is given */
    META_KEY_RAW_SIZE_MAX = META_KEY_SIZE_MAX / 4 * 3,
    META_ANSWER_SIZE_MAX = 640,
};

/* What stands behind key and size. Numbers without their flag are 0, but delta is 1. */
struct meta {
    uint64_t letters; /* of all flags: meta_has */
    uint8_t flag_count;
    uint8_t opaque_size;
    char mode;                  /* M; 0: none */
    int32_t exptime;            /* T: for text_expire_at, as are the next two */
    int32_t vivify_exptime;     /* N */
    int32_t recache;            /* R */
    uint32_t client_flags;      /* F */
    uint64_t compare;           /* C */
    uint64_t cas;               /* E */
    uint64_t initial;           /* J */
    uint64_t delta;             /* D */
    char flags[META_WORDS_MAX]; /* so many as flag_count says */
    char opaque[META_OPAQUE_SIZE_MAX];
};

static inline bool meta_has(const struct meta *meta, char letter)
{
    return (meta->letters >> (letter - 'A') & 1) != 0;
}

enum meta_code {
    META_VA, /* a value follows */
    META_HD,
    META_EN,
    META_NF,
    META_NS,
    META_EX,
};

/* What a command came to. Times are seconds since 1970. */
struct meta_result {
    enum meta_code code;
    struct slice key;
    bool base64;  /* show the key so */
    bool created; /* mg, ma: N made it */
    bool won, taken, stale;
    bool fetched;
    uint32_t value_size;
    uint32_t client_flags;
    uint64_t cas;
    uint32_t now;
    uint32_t access_at;
    uint32_t exptime;        /* before the command; 0: never */
    uint32_t new_exptime;    /* what T says */
    uint32_t vivify_exptime; /* what N says */
};

/* The answer's line with its CRLF; behind META_VA come the value and CRLF. 0: q hides it. */
size_t meta_answer(char out[META_ANSWER_SIZE_MAX], enum command command, const struct meta *meta,
                   const struct meta_result *result);

/* The answer of me for a key that is there. */
struct meta_debug {
    struct slice key;
    bool base64;
    bool fetched;
    uint32_t now, exptime, access_at;
    uint64_t cas;
    uint32_t class_id;
    uint64_t size; /* header, key and value, as memcached counts them */
};
size_t meta_debug_answer(char out[META_ANSWER_SIZE_MAX], const struct meta_debug *debug);

#endif
