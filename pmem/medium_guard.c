/* The handler of SIGBUS. Holds atomics: the media whose segments it knows. */
#include "pmem/medium_guard.h"

#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

#include "base/log.h"
#include "pmem/medium_file_private.h"

enum {
    MEDIA_MAX = 256, /* of one process: a shard each. A segment of one more is not recognised */
    PAGE = 4096,
    TEXT_SIZE = FILE_PATH_SIZE + 256,
};

static _Atomic(struct file_medium *) media[MEDIA_MAX];
static int exit_code;
static const char *remove_beside;

static _Thread_local sigjmp_buf probe_end;
static _Thread_local volatile sig_atomic_t probing;

/* ---- text, by functions that a signal handler may call ---- */

struct line {
    char text[TEXT_SIZE];
    size_t used;
};

static void add_text(struct line *line, const char *text)
{
    while (*text != 0 && line->used < sizeof(line->text) - 1)
        line->text[line->used++] = *text++;
    line->text[line->used] = 0;
}

static void add_number(struct line *line, size_t number, unsigned width)
{
    char digits[24];
    unsigned at = sizeof(digits) - 1;
    digits[at] = 0;
    while ((number > 0 || width > 0 || at == sizeof(digits) - 1) && at > 0) {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
        width -= width > 0;
    }
    add_text(line, &digits[at]);
}

/* ---- the handler ---- */

static const struct file_medium *find(const uint8_t *at, uint32_t *number)
{
    for (unsigned i = 0; i < MEDIA_MAX; i++) {
        struct file_medium *file = atomic_load(&media[i]);
        for (uint32_t n = 0; file != NULL && n < FILE_SEGMENT_COUNT_MAX; n++) {
            const uint8_t *base = atomic_load_explicit(&file->bases[n], memory_order_relaxed);
            if (base == NULL || at < base || at >= base + file->medium.segment_size)
                continue;
            *number = n;
            return file;
        }
    }
    return NULL;
}

static void tell(const struct file_medium *file, uint32_t number, const uint8_t *at, int code)
{
    struct line line = {.used = 0};
    const uint8_t *base = atomic_load_explicit(&file->bases[number], memory_order_relaxed);
    add_text(&line, file->directory);
    add_text(&line, "/segment-");
    add_number(&line, number, 6);
    add_text(&line, ": the page at byte ");
    add_number(&line, (size_t)(at - base), 1);
    add_text(&line, code == BUS_MCEERR_AR || code == BUS_MCEERR_AO
                        ? " is broken memory (SIGBUS)"
                        : " cannot be had (SIGBUS): the medium failed, or the file was cut");
    add_text(&line, "; stopping. At the next start the segment is checked");
    log_error_in_signal(line.text);
}

static void remove_file(const struct file_medium *file)
{
    struct line path = {.used = 0};
    if (remove_beside == NULL)
        return;
    add_text(&path, file->directory);
    add_text(&path, "/");
    add_text(&path, remove_beside);
    (void)unlink(path.text);
}

static void on_bus(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (probing)
        siglongjmp(probe_end, 1);
    const uint8_t *at = info->si_addr;
    uint32_t segment = 0;
    const struct file_medium *file = find(at, &segment);
    if (file == NULL) {
        signal(number, SIG_DFL); /* Not ours: the access is made again, and ends in a core file. */
        return;
    }
    tell(file, segment, at, info->si_code);
    remove_file(file);
    _exit(exit_code);
}

void medium_guard_install(int code, const char *beside)
{
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    exit_code = code;
    remove_beside = beside;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

void medium_guard_add_any(struct file_medium *file)
{
    for (unsigned i = 0; i < MEDIA_MAX; i++) {
        struct file_medium *none = NULL;
        if (atomic_compare_exchange_strong(&media[i], &none, file))
            return;
    }
}

void medium_guard_remove_any(struct file_medium *file)
{
    for (unsigned i = 0; i < MEDIA_MAX; i++) {
        struct file_medium *same = file;
        if (atomic_compare_exchange_strong(&media[i], &same, NULL))
            return;
    }
}

bool medium_guard_readable_any(const void *base, size_t size, size_t *bad)
{
    const volatile uint8_t *bytes = base;
    volatile size_t at = 0;
    if (sigsetjmp(probe_end, 1) != 0) {
        probing = 0;
        *bad = at;
        return false;
    }
    probing = 1;
    for (; at < size; at += PAGE)
        (void)bytes[at];
    probing = 0;
    return true;
}
