/* medium_file_private.h: what the owner's side of the file medium (medium_file.c) shares with its
 * flusher thread (medium_flusher.c) and with the making of files (medium_segment.c). */
#ifndef PMEM_MEDIUM_FILE_PRIVATE_H
#define PMEM_MEDIUM_FILE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "pmem/medium_file.h"

enum {
    FILE_SEGMENT_COUNT_MAX = 4096,
    FILE_PATH_SIZE = 4096,
    FILE_NAME_SIZE = 32,
};

/* The part of each segment that waits to be synced: from the first to the last dirty byte. Clean
 * pages between cost nothing, each call waits for the disk's cache: eight pages of a file cost 1.3
 * ms in one msync, as in an fdatasync, and 9 ms in eight (bench/sync.c, median, virtual disk). */
struct ranges {
    uint32_t count;
    uint32_t numbers[FILE_SEGMENT_COUNT_MAX];
    size_t from[FILE_SEGMENT_COUNT_MAX]; /* from == to: none */
    size_t to[FILE_SEGMENT_COUNT_MAX];
};

struct flusher {
    pthread_t thread;
    pthread_mutex_t mutex; /* of what follows, up to `stop` */
    pthread_cond_t wake;
    struct ranges asked;
    uint64_t cookie; /* newest that was asked for */
    bool stop;
    struct ranges taken; /* the thread's own */
    int event_fd;
    _Atomic uint64_t cookie_done;  /* what `asked` held at this cookie is durable */
    _Atomic int error;             /* errno of the sync that failed; final */
    _Atomic uint32_t error_number; /* of the segment; written before `error` */
    _Atomic uint64_t syncs, synced_bytes, sync_us, sync_us_max; /* for statistics */
};

/* Makes segments ahead of time: medium_maker.c. */
struct maker {
    pthread_t thread;
    bool started;          /* the owner's: to be joined */
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t progress;
    bool active;   /* the thread runs and will look at `end` again */
    uint32_t next; /* all below exist */
    uint32_t end;  /* to be made up to here */
    int error;     /* why `next` can't be made; final */
};

struct file_medium {
    struct medium medium; /* first: the caller holds a pointer to it */
    int directory_fd;
    bool is_pmem;
    bool is_volatile; /* tmpfs */
    bool told;        /* that there is no room for more segments */
    uint32_t count_max;
    /* final: a sync failed, or a segment could not be made, for another reason than space */
    bool failed;
    uint64_t cookie;      /* of the newest drain on DAX */
    uint32_t number_last; /* the segment of the newest flush */
    _Atomic uint64_t drains;
    _Atomic(uint8_t *) bases[FILE_SEGMENT_COUNT_MAX]; /* the owner's; read by the guard, too */
    struct ranges dirty;                              /* flushed, no drain asked for yet */
    struct flusher flusher;
    struct maker maker;
    char directory[FILE_PATH_SIZE];
    char message[FILE_PATH_SIZE + 512];
};

void ranges_add(struct ranges *ranges, uint32_t number, size_t from, size_t to);
/* Adds all of `from`, and empties it. */
void ranges_move(struct ranges *to, struct ranges *from);

/* ---- medium_flusher.c ---- */
/* A thread that takes no signals. Returns an errno. */
int file_start_thread(pthread_t *thread, void *(*run)(void *), void *user);
enum status flusher_start(struct file_medium *file) MUST_CHECK;
void flusher_stop(struct file_medium *file);
void flusher_ask(struct file_medium *file, uint64_t cookie);

/* ---- medium_segment.c ---- */
void segment_file_name(uint32_t number, char name[FILE_NAME_SIZE]);
/* Makes the file of a segment: whole and zeroed, or not at all. */
enum status segment_file_create(struct file_medium *file, uint32_t number) MUST_CHECK;
/* The same; returns an errno. Any thread. */
int segment_file_make(const struct file_medium *file, uint32_t number);
bool segment_file_exists(const struct file_medium *file, uint32_t number);
/* Gives a damaged file another name. False: it can't be renamed. */
bool segment_file_put_aside(struct file_medium *file, uint32_t number);
enum status segment_file_check(struct file_medium *file, uint32_t number) MUST_CHECK;
/* What a process that was killed while making a segment has left. */
void segment_file_remove_halves(struct file_medium *file);

/* ---- medium_maker.c ---- */
void maker_open(struct maker *maker);
void maker_close(struct maker *maker);
/* medium_ops.room */
uint32_t maker_room(struct file_medium *file, uint32_t number);
bool is_no_space(int error);

/* Puts the text of an errno about a file into file->message. */
void file_complain(struct file_medium *file, const char *name, const char *what, int error);

#endif
