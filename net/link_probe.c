/* Round trips of a link: a ping a second, whose answer is counted by how long it took. */
#include <string.h>

#include "net/net_private.h"

void link_probe_reset(struct link *link)
{
    link->asking = false;
    link->asked_ns = 0;
}

/* One at a time: a peer that holds must not find a queue of them. */
void link_ping(struct link *link, uint64_t now_ns)
{
    if (link->asking || now_ns - link->asked_ns < (uint64_t)PING_MS * 1000000)
        return;
    link->asked_ns = net_now_ns();
    link->asking = output_add_probe(&link->output, FRAME_PING, link->asked_ns) == STATUS_OK;
}

static void count_round(struct link *link, uint64_t took_ns)
{
    unsigned bucket = 0;
    while (bucket < NET_ROUND_BUCKETS - 1 && took_ns >= (uint64_t)1000 << bucket)
        bucket++;
    link->stats.rounds[bucket]++;
}

/* The answer goes out with the flush at the end of the turn, as answers to messages do. A peer that
 * asks and does not read is treated like one that is too slow for messages. */
static void answer(struct link *link, uint64_t stamp_ns)
{
    if (link->output.backlog > link_backlog_max(link, NET_URGENT))
        link_break(link, LINK_TOO_SLOW);
    else if (output_add_probe(&link->output, FRAME_PONG, stamp_ns) != STATUS_OK)
        link_break(link, "no memory for an answer");
}

enum frame_error link_take_probe(struct link *link, struct slice message)
{
    uint64_t stamp_ns;
    memcpy(&stamp_ns, message.data, sizeof(stamp_ns));
    if (frame_message_kind(message) == FRAME_PING) {
        answer(link, stamp_ns);
        return FRAME_OK;
    }
    if (!link->asking || stamp_ns != link->asked_ns)
        return FRAME_BAD_PONG;
    link->asking = false;
    count_round(link, net_now_ns() - stamp_ns);
    return FRAME_OK;
}
