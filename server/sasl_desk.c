#include "server/sasl_desk.h"

#include <unistd.h>

enum { RETRY_US = 10000 };

/* NULL: stop. */
static struct sasl_call *take(struct sasl_desk *desk)
{
    pthread_mutex_lock(&desk->lock);
    while (desk->first == NULL && !desk->stopping)
        pthread_cond_wait(&desk->wake, &desk->lock);
    struct sasl_call *call = desk->stopping ? NULL : desk->first;
    if (call != NULL) {
        desk->first = call->next;
        if (desk->first == NULL)
            desk->end = &desk->first;
        desk->busy_count++;
    }
    pthread_mutex_unlock(&desk->lock);
    return call;
}

static void execute(struct sasl_call *call)
{
    if (call->begins)
        call->verdict = sasl_begin(&call->dialogue, call->mechanism, call->data, &call->answer);
    else
        call->verdict = sasl_step(call->dialogue, call->data, &call->answer);
}

/* A client waits for it: it must not get lost for want of memory. */
static void send_back(struct sasl_call *call)
{
    const struct letter letter = {.type = LETTER_SASL, .call = call};
    while (mailbox_put_any(call->home, &letter) != STATUS_OK)
        usleep(RETRY_US);
}

static void *serve(void *argument)
{
    struct sasl_desk *desk = argument;
    for (struct sasl_call *call; (call = take(desk)) != NULL;) {
        execute(call);
        pthread_mutex_lock(&desk->lock);
        bool stopping = desk->stopping; /* then its home may be gone */
        desk->busy_count--;
        if (!stopping)
            send_back(call);
        pthread_mutex_unlock(&desk->lock);
    }
    return NULL;
}

enum status sasl_desk_open(struct sasl_desk *desk)
{
    *desk = (struct sasl_desk){.thread_count = 0};
    desk->end = &desk->first;
    pthread_mutex_init(&desk->lock, NULL);
    pthread_cond_init(&desk->wake, NULL);
    for (; desk->thread_count < SASL_DESK_THREADS; desk->thread_count++) {
        if (pthread_create(&desk->threads[desk->thread_count], NULL, serve, desk) == 0)
            continue;
        (void)sasl_desk_close(desk);
        return STATUS_NO_MEMORY;
    }
    return STATUS_OK;
}

void sasl_desk_ask_any(struct sasl_desk *desk, struct sasl_call *call)
{
    call->next = NULL;
    pthread_mutex_lock(&desk->lock);
    *desk->end = call;
    desk->end = &call->next;
    pthread_cond_signal(&desk->wake);
    pthread_mutex_unlock(&desk->lock);
}

bool sasl_desk_close(struct sasl_desk *desk)
{
    pthread_mutex_lock(&desk->lock);
    desk->stopping = true;
    bool idle = desk->busy_count == 0;
    pthread_cond_broadcast(&desk->wake);
    pthread_mutex_unlock(&desk->lock);
    for (unsigned i = 0; i < desk->thread_count; i++) {
        if (idle)
            pthread_join(desk->threads[i], NULL);
        else
            pthread_detach(desk->threads[i]);
    }
    return idle;
}
