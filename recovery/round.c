#include "recovery/round.h"

static uint8_t self_bit(const struct replica *replica)
{
    return node_bit(replica->options.self);
}

static unsigned lowest(uint8_t nodes)
{
    return (unsigned)__builtin_ctz(nodes) + 1;
}

static void send_plain(struct replica *replica, uint8_t to, enum message_type type, uint8_t flags, uint64_t number,
                       uint64_t version)
{
    struct message message = replica_message(replica, type);
    message.flags = flags;
    message.number[0] = number;
    message.number[1] = version;
    replica_send(replica, to & (uint8_t)~self_bit(replica), false, &message, slice_make(NULL, 0),
                 slice_make(NULL, 0));
}

/* Merges before it marks: a record made after the mark is newer than the floor (protocol check, flaw 3). */
static void mark_now(struct round *round, struct replica *replica, unsigned leader, uint64_t number, uint64_t clock)
{
    replica_see_version(replica, clock);
    round->number = number;
    round->leader = leader;
    round->mark = log_tail(store_log(replica->store));
    round->cursor = 0;
    round->done = false;
}

void round_on_view(struct round *round, struct replica *replica)
{
    round->next_us = replica->mono_us;
    round->stable_mark = 0;
    if (FAULT(ROUND_ANY_EPOCH))
        return;
    round->number = round->led = 0;
    round->done = false;
}

/* A MARK is logged only when it says something new. */
static void log_mark(struct round *round, struct replica *replica)
{
    struct log *log = store_log(replica->store);
    bool new = log_tail(log) != round->logged_tail || replica->view.members != round->logged_members ||
               replica->floor != round->logged_floor;
    struct mark mark = {
        .lsn = round->mark,
        .round = round->number,
        .floor = replica->floor,
        .clock = replica->clock,
        .epoch = replica->view.epoch,
        .members = replica->view.members,
        .configured = replica->view.configured,
    };
    if (!new || store_put_mark_nodrain(replica->store, &mark) != STATUS_OK)
        return;
    round->logged_tail = log_tail(log);
    round->logged_members = replica->view.members;
    round->logged_floor = replica->floor;
}

/* The floor moves only while no configured node is away: one that is would not know it (flaw 4). */
static void become_stable(struct round *round, struct replica *replica, uint64_t floor, bool full)
{
    replica->group_full = full;
    replica->full_nodes = 0;
    uint8_t present = replica->view.members;
    if (FAULT(HEALING_NOT_ABSENT))
        present |= replica->view.healing;
    round->stable = round->number;
    round->stable_mark = round->mark;
    round->stable_count++;
    bool quiet = log_tail(store_log(replica->store)) == round->logged_tail;
    if (present == replica->view.configured && floor > replica->floor && !quiet)
        replica->floor = floor;
    log_mark(round, replica);
    round->number = 0;
}

static void finish_if_all_done(struct round *round, struct replica *replica)
{
    if (round->led == 0 || (replica->view.members & (uint8_t)~round->done_nodes) != 0)
        return;
    round->full = round->full || store_is_full(replica->store);
    send_plain(replica, replica->view.members, MSG_ROUND_STABLE, round->full ? MESSAGE_FULL : 0, round->led, round->floor);
    if (round->number == round->led)
        become_stable(round, replica, round->floor, round->full);
    round->led = 0;
}

static void lead(struct round *round, struct replica *replica)
{
    uint64_t patience = (uint64_t)round->period_us * ROUND_PATIENCE;
    if (round->led != 0 && replica->mono_us - round->led_since_us < patience)
        return;
    if (replica->mono_us < round->next_us)
        return;
    round->next_us = replica->mono_us + round->period_us;
    round->led = (uint64_t)replica->view.epoch << 32 | ++round->count;
    round->led_since_us = replica->mono_us;
    round->floor = replica->clock;
    round->done_nodes = 0;
    round->full = false;
    send_plain(replica, replica->view.members, MSG_ROUND_START, 0, round->led, round->floor);
    mark_now(round, replica, replica->options.self, round->led, round->floor);
}

void round_on_tick(struct round *round, struct replica *replica)
{
    if (!replica_is_member(replica))
        return;
    if (lowest(replica->view.members) == replica->options.self)
        lead(round, replica);
    round_advance(round, replica);
}

void round_advance(struct round *round, struct replica *replica)
{
    if (round->number == 0 || round->done || !replica_is_member(replica))
        return;
    bool finished = replica->durable >= round->mark &&
                    replica_finished_before(replica, round->mark, &round->cursor);
    if (!finished && !FAULT(DONE_EARLY))
        return;
    round->done = true;
    if (round->leader == replica->options.self) {
        round->done_nodes |= self_bit(replica);
        finish_if_all_done(round, replica);
    } else {
        send_plain(replica, node_bit(round->leader), MSG_ROUND_DONE, replica_full_flag(replica), round->number, 0);
    }
}

void round_on_start(struct round *round, struct replica *replica, const struct message *message)
{
    if (!replica_is_member(replica))
        return;
    mark_now(round, replica, message->from, message->number[0], message->number[1]);
    round_advance(round, replica);
}

void round_on_done(struct round *round, struct replica *replica, const struct message *message)
{
    if (round->led == 0 || message->number[0] != round->led)
        return;
    round->done_nodes |= node_bit(message->from);
    round->full = round->full || (message->flags & MESSAGE_FULL) != 0;
    finish_if_all_done(round, replica);
}

void round_on_stable(struct round *round, struct replica *replica, const struct message *message)
{
    if (round->number == 0 || message->number[0] != round->number || !round->done)
        return;
    become_stable(round, replica, message->number[1], (message->flags & MESSAGE_FULL) != 0);
}
