#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static atomic_int level_now;

void log_set_level(int level)
{
    atomic_store(&level_now, level);
}

int log_level(void)
{
    return atomic_load(&level_now);
}

/* One write(2) a line, so that lines of several threads and processes do not mix. */
static void write_line(const char *class, const char *format, va_list arguments)
{
    char line[1024];
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t used = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &utc);
    used += (size_t)snprintf(line + used, sizeof(line) - used, ".%03ldZ %s ", now.tv_nsec / 1000000, class);
    int text = vsnprintf(line + used, sizeof(line) - used - 1, format, arguments);
    if (text > 0)
        used += (size_t)text;
    if (used > sizeof(line) - 2)
        used = sizeof(line) - 2;
    line[used++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, used);
    (void)ignored; /* Nobody is left to be told. */
}

#define DEFINE_LOG(name, class, level)                                                             \
    void name(const char *format, ...)                                                             \
    {                                                                                              \
        if (log_level() < (level))                                                                 \
            return;                                                                                \
        va_list arguments;                                                                         \
        va_start(arguments, format);                                                               \
        write_line((class), format, arguments);                                                    \
        va_end(arguments);                                                                         \
    }

DEFINE_LOG(log_debug, "debug", 2)
DEFINE_LOG(log_info, "info", 1)
DEFINE_LOG(log_note, "note", 0)
DEFINE_LOG(log_warn, "warning", 0)
DEFINE_LOG(log_error, "error", 0)
