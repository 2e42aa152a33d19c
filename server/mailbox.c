#include "server/mailbox.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum status mailbox_open(struct mailbox *mailbox)
{
    mailbox->first = NULL;
    mailbox->end = &mailbox->first;
    pthread_mutex_init(&mailbox->lock, NULL);
    mailbox->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return mailbox->wake_fd < 0 ? STATUS_IO : STATUS_OK;
}

void mailbox_close(struct mailbox *mailbox)
{
    for (struct letter *letter = mailbox_take(mailbox), *next; letter != NULL; letter = next) {
        next = letter->next;
        if (letter->type == LETTER_CONNECTION || letter->type == LETTER_UDP)
            close(letter->fd);
        free(letter);
    }
    close(mailbox->wake_fd);
    pthread_mutex_destroy(&mailbox->lock);
}

enum status mailbox_put_any(struct mailbox *mailbox, const struct letter *letter)
{
    struct letter *copy = malloc(sizeof(*copy));
    if (copy == NULL)
        return STATUS_NO_MEMORY;
    *copy = *letter;
    copy->next = NULL;
    pthread_mutex_lock(&mailbox->lock);
    *mailbox->end = copy;
    mailbox->end = &copy->next;
    pthread_mutex_unlock(&mailbox->lock);
    eventfd_write(mailbox->wake_fd, 1);
    return STATUS_OK;
}

struct letter *mailbox_take(struct mailbox *mailbox)
{
    eventfd_t ignored;
    eventfd_read(mailbox->wake_fd, &ignored);
    pthread_mutex_lock(&mailbox->lock);
    struct letter *first = mailbox->first;
    mailbox->first = NULL;
    mailbox->end = &mailbox->first;
    pthread_mutex_unlock(&mailbox->lock);
    return first;
}
