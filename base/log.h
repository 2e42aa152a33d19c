/* log.h: lines for the operator, on stderr. Any thread; a line is written whole. Never called by
 * pure code. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

/* 0: warnings and errors, and what an operator must know; 1: info; 2: debug. Set once, or by
 * `verbosity`. */
void log_set_level(int level);
int log_level(void);

#define LOG_FORMAT __attribute__((format(printf, 1, 2)))
LOG_FORMAT void log_debug(const char *format, ...);
LOG_FORMAT void log_info(const char *format, ...);
LOG_FORMAT void log_warn(const char *format, ...);
LOG_FORMAT void log_error(const char *format, ...);

/* Always printed: start, stop, views, healing. */
LOG_FORMAT void log_note(const char *format, ...);

/* The same as log_error, of a ready text, for a signal handler. */
void log_error_in_signal(const char *text);

#endif
