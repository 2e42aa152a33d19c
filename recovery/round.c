#include "recovery/round.h"

#include <string.h>

static uint8_t self_bit(const struct replica *replica)
{
    return node_bit(replica->options.self);
}

static unsigned lowest(uint8_t nodes)
{
    return (unsigned)__builtin_ctz(nodes) + 1;
}

static void send_plain(struct replica *replica, uint8_t to, enum message_type type, uint8_t flags,
                       uint64_t number, uint64_t version, uint64_t last)
{
    struct message message = replica_message(replica, type);
    message.flags = flags;
    message.number[0] = number;
    message.number[1] = version;
    message.number[2] = last;
    message.ts = replica->clock;
    replica_send(replica, to & (uint8_t)~self_bit(replica), false, &message, slice_make(NULL, 0),
                 slice_make(NULL, 0));
}

/* ---- who waits for a round ---- */

static void line_add(struct request_line *line, struct request *request)
{
    request->next = NULL;
    if (line->last != NULL)
        line->last->next = request;
    else
        line->first = request;
    line->last = request;
}

/* All of `more` behind `line`. */
static void line_move(struct request_line *line, struct request_line *more)
{
    if (more->first == NULL)
        return;
    if (line->last != NULL)
        line->last->next = more->first;
    else
        line->first = more->first;
    line->last = more->last;
    *more = (struct request_line){0};
}

static void answer(struct round *round, struct replica *replica, struct request_line *line,
                   enum outcome outcome)
{
    while (line->first != NULL) {
        struct request *request = line->first;
        line->first = request->next;
        round->persist_count--;
        round->persists += outcome == OUTCOME_OK;
        replica_reply(replica, request, outcome, NULL, 0, false);
    }
    line->last = NULL;
}

static void lead(struct round *round, struct replica *replica);

/* Those who came since the last asking share the next one. */
static void ask(struct round *round, struct replica *replica)
{
    if (round->asked.first != NULL || round->waiting.first == NULL || !replica_is_member(replica))
        return;
    line_move(&round->asked, &round->waiting);
    unsigned leader = lowest(replica->view.members);
    if (leader != replica->options.self) {
        send_plain(replica, node_bit(leader), MSG_ROUND_WANTED, 0, 0, 0, 0);
        return;
    }
    round->wanted |= self_bit(replica);
    lead(round, replica);
}

void round_on_persist(struct round *round, struct replica *replica, struct request *request)
{
    round->persist_count++;
    line_add(&round->waiting, request);
    if (!replica_is_member(replica)) {
        round_refuse(round, replica);
        return;
    }
    if (FAULT(PERSIST_ANY_ROUND) && round->number != 0)
        line_move(&round->marked, &round->waiting);
    ask(round, replica);
}

void round_refuse(struct round *round, struct replica *replica)
{
    answer(round, replica, &round->marked, OUTCOME_REFUSED);
    answer(round, replica, &round->asked, OUTCOME_REFUSED);
    answer(round, replica, &round->waiting, OUTCOME_REFUSED);
}

void round_on_wanted(struct round *round, struct replica *replica, const struct message *message)
{
    if (!replica_is_member(replica) || lowest(replica->view.members) != replica->options.self)
        return;
    round->wanted |= node_bit(message->from);
    lead(round, replica);
}

/* ---- rounds ---- */

/* The clock of the round before becomes the floor with this one: then each member must know it
 * whatever it loses, or it would give versions to records that are not newer than what others have
 * forgotten. So it lies before the mark; without room for it this node is not done, and marks again
 * later. */
static void place_mark(struct round *round, struct replica *replica)
{
    struct log *log = store_log(replica->store);
    uint64_t tail = log_tail(log);
    round->kept = FAULT(CLOCK_UNKEPT) || replica_keep_clock(replica, round->started_clock);
    if (log_tail(log) != tail) { /* by what is nobody's data */
        if (round->logged_tail != tail)
            round->content = tail;
        round->logged_tail = log_tail(log);
    }
    round->mark = log_tail(log);
    log_prove(log);
    round->cursor = 0;
}

/* Merges before it marks: a record made after the mark is newer than the floor (protocol check,
 * flaw 3). */
static void mark_now(struct round *round, struct replica *replica, unsigned leader, uint64_t number,
                     uint64_t clock, uint8_t wanted)
{
    replica_see_version(replica, clock);
    round->number = number;
    round->leader = leader;
    place_mark(round, replica);
    round->started_clock = clock;
    round->done = false;
    if ((wanted & self_bit(replica)) != 0)
        line_move(&round->marked, &round->asked);
    if (FAULT(PERSIST_EARLY))
        answer(round, replica, &round->marked, OUTCOME_OK);
    ask(round, replica);
}

void round_on_view(struct round *round, struct replica *replica)
{
    round->next_us = replica->mono_us;
    round->wanted = round->led_wanted = 0;
    line_move(&round->marked, &round->asked);
    line_move(&round->marked, &round->waiting);
    line_move(&round->waiting, &round->marked);
    if (FAULT(ROUND_ANY_EPOCH))
        return;
    round->stable_mark = round->former_mark = round->former_floor = round->started_clock = 0;
    round->number = round->led = 0;
    round->done = false;
    ask(round, replica);
}

/* See round.h. */
static bool marks_late(void)
{
    return !FAULT(MARK_AT_ONCE);
}

/* The last MARK does not cover what was written before it; this one will. */
static bool is_behind(const struct round *round)
{
    return marks_late() && round->logged_lsn < round->content &&
           round->stable_mark > round->logged_lsn;
}

/* A MARK is logged only when it says something new. */
static void log_mark(struct round *round, struct replica *replica)
{
    struct log *log = store_log(replica->store);
    bool late = is_behind(round);
    bool grown = log_tail(log) != round->logged_tail;
    bool new = grown || late || replica->view.members != round->logged_members ||
               replica->floor != round->logged_floor;
    uint64_t tail = log_tail(log);
    struct mark mark = {
        .lsn = round->stable_mark,
        .round = round->number,
        .floor = replica->floor,
        .clock = replica->clock,
        .epoch = replica->view.epoch,
        .members = replica->view.members,
        .configured = replica->view.configured,
    };
    if (!new || store_put_mark_nodrain(replica->store, &mark) != STATUS_OK)
        return;
    if (grown)
        round->content = tail;
    round->logged_lsn = mark.lsn;
    round->logged_tail = log_tail(log);
    round->logged_members = replica->view.members;
    round->logged_floor = replica->floor;
}

/* The floor moves only while no configured node is away: one that is would not know it (flaw 4).
 * All logs say a clock that is not below it: place_mark(). */
static void become_stable(struct round *round, struct replica *replica, uint64_t floor, bool full,
                          uint64_t excess)
{
    replica->group_full = full;
    replica->full_nodes = replica->roomy_nodes = 0;
    memset(replica->excess, 0, sizeof(replica->excess));
    replica->excess[0] = excess;
    uint8_t present = replica->view.members;
    if (FAULT(HEALING_NOT_ABSENT))
        present |= replica->view.healing;
    round->stable = round->number;
    uint64_t former_floor = round->former_floor;
    round->stable_mark = marks_late() ? round->former_mark : round->mark;
    round->former_mark = round->mark;
    round->former_floor = floor;
    round->stable_count++;
    round->stable_us = replica->mono_us;
    bool settled = !marks_late() || round->stable_mark != 0;
    if (marks_late())
        floor = former_floor;
    bool quiet = log_tail(store_log(replica->store)) == round->logged_tail && !is_behind(round);
    if (settled && present == replica->view.configured && floor > replica->floor && !quiet)
        replica->floor = floor;
    if (settled)
        log_mark(round, replica);
    round->number = 0;
    answer(round, replica, &round->marked, OUTCOME_OK);
    replica_on_stable(replica);
}

static void note_excess(struct round *round, uint64_t excess)
{
    if (excess > round->excess)
        round->excess = excess;
}

static void finish_if_all_done(struct round *round, struct replica *replica)
{
    if (round->led == 0 || (replica->view.members & (uint8_t)~round->done_nodes) != 0)
        return;
    round->full = round->full || store_is_full(replica->store);
    note_excess(round, replica_excess(replica));
    send_plain(replica, replica->view.members, MSG_ROUND_STABLE, round->full ? MESSAGE_FULL : 0,
               round->led, round->floor, round->excess);
    if (round->number == round->led)
        become_stable(round, replica, round->floor, round->full, round->excess);
    round->led = 0;
    if (round->wanted != 0)
        lead(round, replica);
}

static void lead(struct round *round, struct replica *replica)
{
    uint64_t patience = (uint64_t)round->period_us * ROUND_PATIENCE;
    if (round->led != 0 && replica->mono_us - round->led_since_us < patience)
        return;
    if (replica->mono_us < round->next_us && round->wanted == 0)
        return;
    round->next_us = replica->mono_us + round->period_us;
    round->led = (uint64_t)replica->view.epoch << 32 | ++round->count;
    round->led_since_us = replica->mono_us;
    round->floor = replica->clock;
    round->done_nodes = 0;
    round->full = false;
    round->excess = 0;
    round->led_wanted = round->wanted;
    round->wanted = 0;
    send_plain(replica, replica->view.members, MSG_ROUND_START, 0, round->led, round->floor,
               round->led_wanted);
    mark_now(round, replica, replica->options.self, round->led, round->floor, round->led_wanted);
}

void round_on_tick(struct round *round, struct replica *replica)
{
    if (!replica_is_member(replica))
        return;
    if (lowest(replica->view.members) == replica->options.self)
        lead(round, replica);
    if (round->number != 0 && !round->kept)
        place_mark(round, replica);
    round_advance(round, replica);
}

/* Others will rely on this node having everything before its mark: it is not only durable here, its
 * loss would be noticed. */
static bool is_safe(const struct round *round, const struct replica *replica)
{
    uint64_t proved = log_proved(store_log(replica->store));
    return replica->durable >= round->mark && (proved >= round->mark || FAULT(MARK_UNPROVED));
}

void round_advance(struct round *round, struct replica *replica)
{
    if (round->number == 0 || round->done || !replica_is_member(replica))
        return;
    bool finished = round->kept && is_safe(round, replica) &&
                    replica_finished_before(replica, round->mark, &round->cursor);
    if (!finished && !FAULT(DONE_EARLY))
        return;
    round->done = true;
    if (round->leader == replica->options.self) {
        round->done_nodes |= self_bit(replica);
        finish_if_all_done(round, replica);
    } else {
        send_plain(replica, node_bit(round->leader), MSG_ROUND_DONE, replica_full_flag(replica),
                   round->number, replica_excess(replica), 0);
    }
}

void round_on_start(struct round *round, struct replica *replica, const struct message *message)
{
    if (!replica_is_member(replica))
        return;
    mark_now(round, replica, message->from, message->number[0], message->number[1],
             (uint8_t)message->number[2]);
    round_advance(round, replica);
}

void round_on_done(struct round *round, struct replica *replica, const struct message *message)
{
    if (round->led == 0 || message->number[0] != round->led)
        return;
    if (replica->cold)
        replica_see_version(replica, message->ts);
    round->done_nodes |= node_bit(message->from);
    round->full = round->full || (message->flags & MESSAGE_FULL) != 0;
    note_excess(round, message->number[1]);
    finish_if_all_done(round, replica);
}

void round_on_stable(struct round *round, struct replica *replica, const struct message *message)
{
    if (round->number == 0 || message->number[0] != round->number || !round->done)
        return;
    /* what others have forgotten may be newer than anything that was found here */
    if (replica->cold)
        replica_see_version(replica, message->ts);
    become_stable(round, replica, message->number[1], (message->flags & MESSAGE_FULL) != 0,
                  message->number[2]);
}

/* What somebody waits for does not wait until the leader loses patience with what the connection
 * has lost. */
void round_on_up(struct round *round, struct replica *replica, unsigned peer)
{
    uint8_t bit = node_bit(peer) & replica->view.members;
    if (!replica_is_member(replica) || bit == 0)
        return;
    if (round->led != 0 && round->led_wanted != 0 && (round->done_nodes & bit) == 0)
        send_plain(replica, bit, MSG_ROUND_START, 0, round->led, round->floor, round->led_wanted);
    if (round->asked.first != NULL && lowest(replica->view.members) == peer)
        send_plain(replica, bit, MSG_ROUND_WANTED, 0, 0, 0, 0);
}

/* MARKs themselves are nobody's data. */
uint64_t round_unsettled(const struct round *round, const struct replica *replica)
{
    struct mark mark;
    uint64_t tail = log_tail(store_log(replica->store)), settled = round->stable_mark;
    if (store_mark_last(replica->store, &mark) && mark.lsn > settled)
        settled = mark.lsn;
    if (tail == round->logged_tail)
        tail = round->content;
    return tail > settled ? tail - settled : 0;
}
