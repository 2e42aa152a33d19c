/* clock.h: the two clocks. Any thread. */
#ifndef SERVER_CLOCK_H
#define SERVER_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_us(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* Since 1970; may jump. */
static inline uint64_t clock_wall_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

/* Never jumps, counts suspension: for timers and leases. */
static inline uint64_t clock_mono_us(void)
{
    return clock_us(CLOCK_BOOTTIME);
}

#endif
