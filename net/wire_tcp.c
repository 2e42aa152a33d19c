/* The frames of a link over its socket. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "net/net_private.h"

static const char *error_text(int error)
{
    const char *text = strerrordesc_np(error);
    return text != NULL ? text : "unknown error";
}

static void on_readable(evutil_socket_t fd, short what, void *user)
{
    struct link *link = user;
    (void)what;
    if (!link_usable(link))
        return;
    switch (input_read(&link->input, fd)) {
    case STATUS_OK:
        link_heard(link);
        link_deliver(link);
        return;
    case STATUS_AGAIN:
        return;
    case STATUS_BUSY: /* Back-pressure: the peer's queue grows instead of ours. */
        assert(link->held);
        link->full = true;
        event_del(&link->readable);
        return;
    case STATUS_CLOSED:
        link_down(link, "closed by the peer");
        return;
    case STATUS_NO_MEMORY:
        link_down(link, "no memory for what it sends");
        return;
    default:
        link_down(link, error_text(errno));
        return;
    }
}

static void on_writable(evutil_socket_t fd, short what, void *user)
{
    struct link *link = user;
    (void)fd;
    (void)what;
    if (link_usable(link))
        link_write_out(link);
}

static void join(struct link *link)
{
    struct event_base *base = link->lane->base;
    output_set_framing(&link->output, FRAME_GATHER_MAX, false);
    event_assign(&link->readable, base, link->fd, EV_READ | EV_PERSIST, on_readable, link);
    event_assign(&link->writable, base, link->fd, EV_WRITE | EV_PERSIST, on_writable, link);
    event_add(&link->readable, NULL);
    link_go_up(link);
}

static enum status write_frames(struct link *link, const char **why)
{
    enum status status = output_write(&link->output, link->fd);
    if (status == STATUS_OK)
        event_del(&link->writable);
    else if (status == STATUS_AGAIN)
        event_add(&link->writable, NULL);
    else
        *why = error_text(errno);
    return status;
}

static enum status peek(struct link *link, struct slice *message, enum frame_error *error)
{
    return input_peek(&link->input, message, error);
}

static void take(struct link *link)
{
    input_take(&link->input);
}

static void resume(struct link *link)
{
    if (!link->full)
        return;
    link->full = false;
    event_add(&link->readable, NULL);
}

/* The kernel's buffer takes what comes. */
static void delivered(struct link *link)
{
    (void)link;
}

/* A link may have been RDMA before, or be it next: what is counted here is added. */
static void count(struct link *link)
{
    link->stats.frames_in += link_taken(&link->input.frames);
    link->stats.messages_in += link_taken(&link->input.messages);
    link->stats.bytes_in += link_taken(&link->input.bytes);
    link->stats.frames_out += link_taken(&link->output.frames);
    link->stats.messages_out += link_taken(&link->output.messages);
    link->stats.bytes_out += link_taken(&link->output.bytes);
}

static void tick(struct link *link)
{
    input_shrink(&link->input);
    count(link);
}

static void end(struct link *link)
{
    count(link);
    input_reset(&link->input);
    link->full = false;
}

const struct wire wire_tcp = {
    .join = join,
    .write = write_frames,
    .peek = peek,
    .take = take,
    .resume = resume,
    .delivered = delivered,
    .tick = tick,
    .end = end,
};
