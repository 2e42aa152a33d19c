#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
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
    used += (size_t)snprintf(line + used, sizeof(line) - used, ".%03ldZ %s ", now.tv_nsec / 1000000,
                             class);
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

/* Days since 1970 to a date, by arithmetic alone: gmtime_r() takes a lock, and snprintf() may take
 * memory. */
struct date {
    unsigned year, month, day;
};

static struct date date_of(uint64_t days)
{
    struct date date = {.year = 1970, .month = 1};
    static const unsigned char lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    for (;; date.year++) {
        bool leap = (date.year % 4 == 0 && date.year % 100 != 0) || date.year % 400 == 0;
        for (date.month = 1; date.month <= 12; date.month++) {
            unsigned length = lengths[date.month - 1] + (date.month == 2 && leap);
            if (days < length) {
                date.day = (unsigned)days + 1;
                return date;
            }
            days -= length;
        }
    }
}

static size_t put_number(char *at, uint64_t number, unsigned width, char behind)
{
    for (unsigned i = width; i > 0; i--, number /= 10)
        at[i - 1] = (char)('0' + number % 10);
    at[width] = behind;
    return width + 1;
}

void log_error_in_signal(const char *text)
{
    char line[1024];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seconds = (uint64_t)now.tv_sec;
    struct date date = date_of(seconds / 86400);
    size_t used = put_number(line, date.year, 4, '-');
    used += put_number(line + used, date.month, 2, '-');
    used += put_number(line + used, date.day, 2, 'T');
    used += put_number(line + used, seconds / 3600 % 24, 2, ':');
    used += put_number(line + used, seconds / 60 % 60, 2, ':');
    used += put_number(line + used, seconds % 60, 2, '.');
    used += put_number(line + used, (uint64_t)now.tv_nsec / 1000000, 3, 'Z');
    for (const char *class = " error "; *class != 0; class ++)
        line[used++] = *class;
    while (*text != 0 && used < sizeof(line) - 1)
        line[used++] = *text++;
    line[used++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, used);
    (void)ignored; /* Nobody is left to be told. */
}
