#include "server/control.h"

#include <signal.h>
#include <stdlib.h>

#include "base/log.h"
#include "server/node.h"
#include "server/watch.h"

enum { TICK_PERIOD_US = 10000 };

static const int signal_numbers[3] = {SIGTERM, SIGINT, SIGUSR1};

static void on_signal(void *user)
{
    struct control *control = user;
    control->stopping = true;
}

/* What can be changed while serving is read again. */
static void on_hangup(void *user)
{
    struct control *control = user;
    char why[1024];
    log_note("SIGHUP");
    auth_reload(&control->node->auth);
    if (control->node->tls != NULL)
        (void)node_refresh_certs_any(control->node, why, sizeof(why)); /* It has logged why not. */
}

static void on_letter(void *user)
{
    struct control *control = user;
    for (struct letter *letter = mailbox_take(&control->node->mailbox), *next; letter != NULL;
         letter = next) {
        next = letter->next;
        if (letter->type == LETTER_FAILED)
            control->failed = control->medium_failed = true;
        else
            group_read_letter(&control->group, letter);
        free(letter);
    }
}

static void on_tick(void *user)
{
    struct control *control = user;
    group_tick(&control->group);
    listeners_tick(control->listeners);
    if (atomic_load(&control->node->failed))
        control->failed = true;
}

static void close_watches(struct control *control)
{
    for (int i = 0; i < 3; i++)
        watch_close(control->signals[i]);
    watch_close(control->hangup_watch);
    watch_close(control->letter_watch);
    watch_close(control->tick_watch);
}

static enum status open_watches(struct control *control)
{
    bool good = true;
    for (int i = 0; i < 3; i++) {
        control->signals[i] =
            watch_open(control->base, signal_numbers[i], WATCH_SIGNAL, on_signal, control);
        good = good && control->signals[i] != NULL;
    }
    control->hangup_watch = watch_open(control->base, SIGHUP, WATCH_SIGNAL, on_hangup, control);
    control->letter_watch =
        watch_open(control->base, control->node->mailbox.wake_fd, WATCH_READ, on_letter, control);
    control->tick_watch = watch_open(control->base, -1, WATCH_TIMER, on_tick, control);
    if (!good || control->hangup_watch == NULL || control->letter_watch == NULL ||
        control->tick_watch == NULL) {
        close_watches(control);
        return STATUS_NO_MEMORY;
    }
    for (int i = 0; i < 3; i++)
        watch_start(control->signals[i], 0);
    watch_start(control->hangup_watch, 0);
    watch_start(control->letter_watch, 0);
    watch_start(control->tick_watch, TICK_PERIOD_US);
    return STATUS_OK;
}

enum status control_open(struct control *control, struct node *node, struct listeners *listeners)
{
    *control = (struct control){.node = node, .listeners = listeners};
    control->base = watch_base_open();
    if (control->base == NULL)
        return STATUS_NO_MEMORY;
    enum status status = open_watches(control);
    if (status != STATUS_OK)
        goto close_base;
    status = group_open(&control->group, node, control->base);
    if (status == STATUS_OK)
        return STATUS_OK;
    close_watches(control);
close_base:
    watch_base_close(control->base);
    return status;
}

void control_close(struct control *control)
{
    group_close(&control->group);
    close_watches(control);
    listeners_close(control->listeners);
    watch_base_close(control->base);
}

enum status control_run(struct control *control)
{
    enum status status = listeners_start(control->listeners, control->node, control->base);
    if (status != STATUS_OK)
        return status;
    group_tick(&control->group);
    while (!control->stopping && !control->failed) {
        watch_turn(control->base, true);
        group_flush(&control->group);
    }
    listeners_stop(control->listeners);
    return control->failed ? STATUS_IO : STATUS_OK;
}
