#include "t/net_sim_wire.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net/net_private.h"
#include "t/sim_queue.h"

enum { DELAY_MAX_NS = 2000000, ROOM = 1 << 20 /* bytes under way, each direction */ };

/* One end of a connection. `mate` and what belongs to the queue are under the mutex. */
struct sim_end {
    struct sim_end *next;
    struct link *link;
    struct sim_end *mate; /* NULL: not there yet, or gone */
    bool cut;             /* the mate is gone */
    uint8_t nonce[16];    /* of the greeting: what both ends have in common */
    struct sim_queue queue;
    size_t under_way;
    struct sim_packet *current; /* taken from the queue: no cut loses it any more */
    int wake_fd;
    struct event wake, due;
    uint32_t sequence, message_at;
    bool checked;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct sim_end *ends;
static struct prng prng;

static struct sim_end *end_of(const struct link *link)
{
    pthread_mutex_lock(&mutex);
    struct sim_end *end = ends;
    while (end != NULL && end->link != link)
        end = end->next;
    pthread_mutex_unlock(&mutex);
    return end;
}

static void wake(const struct sim_end *end)
{
    if (end != NULL)
        eventfd_write(end->wake_fd, 1);
}

/* ---- what comes ---- */

static struct sim_packet *due(struct sim_end *end)
{
    if (end->current != NULL)
        return end->current;
    pthread_mutex_lock(&mutex);
    if (sim_queue_due(&end->queue, net_now_ns()) != NULL)
        end->current = sim_queue_take(&end->queue);
    pthread_mutex_unlock(&mutex);
    return end->current;
}

static void pass(struct sim_end *end)
{
    pthread_mutex_lock(&mutex);
    end->under_way -= end->current->size;
    struct sim_packet *passed = end->current;
    end->current = NULL;
    wake(end->mate); /* there is room */
    pthread_mutex_unlock(&mutex);
    free(passed);
    end->checked = false;
    end->sequence++;
}

static enum frame_error check(const struct sim_end *end, const struct frame_header *header)
{
    enum frame_error error =
        frame_check_header(header, end->sequence, end->link->input.payload_max);
    return error == FRAME_OK ? frame_check_payload(header, header + 1) : error;
}

static enum status peek(struct link *link, struct slice *message, enum frame_error *error)
{
    struct sim_end *end = end_of(link);
    for (struct sim_packet *packet; (packet = due(end)) != NULL; pass(end)) {
        const struct frame_header *header = (const void *)packet->bytes;
        if (!end->checked) {
            *error = check(end, header);
            if (*error != FRAME_OK)
                return STATUS_CORRUPT;
            end->checked = true;
            end->message_at = 0;
            link->stats.frames_in++;
            link->stats.bytes_in += packet->size;
        }
        uint32_t offset = end->message_at;
        if (frame_message(header, header + 1, &offset, message))
            return STATUS_OK;
    }
    return STATUS_AGAIN;
}

static void take(struct link *link)
{
    struct sim_end *end = end_of(link);
    const struct frame_header *header = (const void *)due(end)->bytes;
    struct slice message;
    (void)frame_message(header, header + 1, &end->message_at, &message);
    link->stats.messages_in += frame_message_kind(message) == FRAME_MESSAGE;
}

/* ---- the loop ---- */

/* In how many ns the first packet is due; UINT64_MAX: there is none. */
static uint64_t wait_ns(struct sim_end *end, bool *empty)
{
    uint64_t now = net_now_ns(), wait = UINT64_MAX;
    pthread_mutex_lock(&mutex);
    *empty = end->queue.first == NULL;
    if (!*empty)
        wait = end->queue.first->deliver_at > now ? end->queue.first->deliver_at - now : 0;
    pthread_mutex_unlock(&mutex);
    return wait;
}

static void on_wake(evutil_socket_t fd, short what, void *user)
{
    struct sim_end *end = user;
    struct link *link = end->link;
    eventfd_t ignored;
    bool empty;
    (void)fd;
    (void)what;
    (void)eventfd_read(end->wake_fd, &ignored);
    pthread_mutex_lock(&mutex);
    bool met = end->mate != NULL || end->cut, cut = end->cut;
    pthread_mutex_unlock(&mutex);
    if (met && link->state == LINK_JOINING)
        link_go_up(link);
    if (!link_usable(link))
        return;
    if (due(end) != NULL)
        link_heard(link);
    link_deliver(link);
    if (link_usable(link) && link->writing)
        link_write_out(link);
    uint64_t wait = wait_ns(end, &empty);
    if (cut && (empty || link->held)) {
        link_down(link, "closed by the peer");
    } else if (!empty && !link->held) {
        struct timeval delay = {.tv_usec = (suseconds_t)(wait / 1000 + 1)};
        event_add(&end->due, &delay);
    }
}

/* The socket has nothing more to say, but for its end. */
static void on_socket(evutil_socket_t fd, short what, void *user)
{
    struct link *link = user;
    uint8_t byte;
    (void)what;
    if (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT) == 0) {
        event_del(&link->readable);
        on_wake(-1, 0, end_of(link));
    }
}

/* ---- the wire ---- */

static void meet(struct sim_end *end)
{
    pthread_mutex_lock(&mutex);
    for (struct sim_end *other = ends; other != NULL; other = other->next) {
        if (other->mate == NULL && !other->cut &&
            memcmp(other->nonce, end->nonce, sizeof(end->nonce)) == 0) {
            other->mate = end;
            end->mate = other;
            wake(end);
            wake(other);
        }
    }
    end->next = ends;
    ends = end;
    pthread_mutex_unlock(&mutex);
}

static void join(struct link *link)
{
    struct event_base *base = link->lane->base;
    struct sim_end *end = calloc(1, sizeof(*end));
    assert(end != NULL);
    output_set_framing(&link->output, FRAME_GATHER_MAX, true);
    end->link = link;
    end->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert(end->wake_fd >= 0);
    memcpy(end->nonce, link->answer.nonce, sizeof(end->nonce));
    event_assign(&end->wake, base, end->wake_fd, EV_READ | EV_PERSIST, on_wake, end);
    evtimer_assign(&end->due, base, on_wake, end);
    event_add(&end->wake, NULL);
    event_assign(&link->readable, base, link->fd, EV_READ | EV_PERSIST, on_socket, link);
    event_add(&link->readable, NULL);
    meet(end);
}

static void send_frame(struct link *link, struct sim_end *mate, const struct frame_header *frame)
{
    struct sim_packet *packet = sim_packet_make(sizeof(*frame) + frame->size);
    memcpy(packet->bytes, frame, packet->size);
    packet->deliver_at = net_now_ns() + prng_below(&prng, DELAY_MAX_NS);
    link->stats.frames_out++;
    link->stats.bytes_out += packet->size;
    mate->under_way += packet->size;
    sim_queue_put(&mate->queue, packet);
}

static enum status write_frames(struct link *link, const char **why)
{
    struct sim_end *mate, *end = end_of(link);
    const struct frame_header *frame;
    *why = NULL;
    pthread_mutex_lock(&mutex);
    mate = end->mate;
    while ((frame = output_frame(&link->output)) != NULL &&
           (mate == NULL || mate->under_way < ROOM)) {
        if (mate != NULL)
            send_frame(link, mate, frame);
        output_skip(&link->output);
    }
    wake(mate);
    pthread_mutex_unlock(&mutex);
    return link->output.backlog == 0 ? STATUS_OK : STATUS_AGAIN;
}

static void resume(struct link *link)
{
    wake(end_of(link)); /* for what comes behind what was held */
}

static void delivered(struct link *link)
{
    (void)link;
}

static void tick(struct link *link)
{
    link->stats.messages_out = link->output.messages;
}

/* Under the mutex. What is under way to the mate: the first few arrive all the same. */
static void leave(struct sim_end *end)
{
    struct sim_end **at = &ends, *mate = end->mate;
    while (*at != end)
        at = &(*at)->next;
    *at = end->next;
    if (mate == NULL)
        return;
    uint64_t keep = prng_below(&prng, sim_queue_count(&mate->queue) + 1);
    struct sim_packet *kept = sim_queue_cut(&mate->queue, keep, net_now_ns());
    mate->under_way = mate->current != NULL ? mate->current->size : 0;
    for (struct sim_packet *next; kept != NULL; kept = next) {
        next = kept->next;
        mate->under_way += kept->size;
        sim_queue_put(&mate->queue, kept);
    }
    mate->mate = NULL;
    mate->cut = true;
    wake(mate);
}

static void finish(struct link *link)
{
    struct sim_end *end = end_of(link);
    pthread_mutex_lock(&mutex);
    leave(end);
    pthread_mutex_unlock(&mutex);
    (void)sim_queue_cut(&end->queue, 0, 0);
    free(end->current);
    event_del(&end->wake);
    event_del(&end->due);
    close(end->wake_fd);
    free(end);
}

static const struct wire sim_wire = {
    .join = join,
    .write = write_frames,
    .peek = peek,
    .take = take,
    .resume = resume,
    .delivered = delivered,
    .tick = tick,
    .end = finish,
};

void sim_wire_use(struct net *net, uint64_t seed)
{
    pthread_mutex_lock(&mutex);
    prng.state = seed;
    pthread_mutex_unlock(&mutex);
    net->wire = &sim_wire;
}
