#include "server/watch.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>

struct watch {
    struct event event;
    watch_ready_t ready;
    void *user;
    bool started;
};

static void on_event(evutil_socket_t fd, short what, void *argument)
{
    struct watch *watch = argument;
    (void)fd;
    (void)what;
    watch->ready(watch->user);
}

struct watch *watch_open(struct event_base *base, int fd, enum watch_kind kind, watch_ready_t ready,
                         void *user)
{
    static const short kinds[] = {
        [WATCH_READ] = EV_READ | EV_PERSIST,
        [WATCH_WRITE] = EV_WRITE | EV_PERSIST,
        [WATCH_TIMER] = EV_PERSIST,
        [WATCH_SIGNAL] = EV_SIGNAL | EV_PERSIST,
    };
    struct watch *watch = malloc(sizeof(*watch));
    if (watch == NULL)
        return NULL;
    watch->ready = ready;
    watch->user = user;
    watch->started = false;
    if (event_assign(&watch->event, base, fd, kinds[kind], on_event, watch) != 0) {
        free(watch);
        return NULL;
    }
    return watch;
}

void watch_start(struct watch *watch, uint32_t period_us)
{
    if (watch->started)
        return;
    struct timeval period = {.tv_sec = period_us / 1000000, .tv_usec = period_us % 1000000};
    watch->started = event_add(&watch->event, period_us == 0 ? NULL : &period) == 0;
}

void watch_stop(struct watch *watch)
{
    if (watch->started)
        event_del(&watch->event);
    watch->started = false;
}

void watch_close(struct watch *watch)
{
    if (watch == NULL)
        return;
    watch_stop(watch);
    free(watch);
}

struct event_base *watch_base_open(void)
{
    struct event_config *config = event_config_new();
    if (config == NULL)
        return NULL;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

void watch_base_close(struct event_base *base)
{
    event_base_free(base);
}

void watch_turn(struct event_base *base, bool wait)
{
    /* ONCE in both cases: without it NONBLOCK goes on for as long as any event is ready. */
    event_base_loop(base, EVLOOP_ONCE | (wait ? 0 : EVLOOP_NONBLOCK));
}

const char *watch_library_version(void)
{
    return event_get_version();
}
