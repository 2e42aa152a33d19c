/* member.c: what every node does: it applies the agreed log, holds its lease, asks to join, reports
 * silence. */
#include "replica/member.h"

#include <string.h>

#include "replica/member_lead.h"

enum {
    HEALED_RETRY_US = 100000,
    CONNECT_GRACE = 3, /* times suspect_us: what a newcomer gets to connect its lanes */
};

/* ---- the border ---- */

static const char *view_invalid(const struct view *view)
{
    if ((view->members & view->healing) != 0)
        return "a node both member and healing";
    if ((view_nodes(view) & ~view->configured) != 0 || (view->configured & 0x80) != 0)
        return "a node that is not configured";
    if (view->reserved != 0 || view->incarnation[0] != 0)
        return "reserved bytes are not zero";
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if (((view_nodes(view) & node_bit(node)) != 0) != (view->incarnation[node] != 0))
            return "incarnations do not fit the nodes";
    return (view->epoch != 0) == (view->members != 0) ? NULL : "a view without members";
}

const char *member_message_invalid(struct slice bytes)
{
    const struct member_message *message = (const void *)bytes.data;
    if (bytes.size != sizeof(*message))
        return "membership message of a wrong size";
    if (message->type == 0 || message->type >= MEMBER_MESSAGE_LIMIT)
        return "unknown membership message";
    if (message->type == MEMBER_SUSPECT ? message->node < 1 || message->node >= MEMBER_LIMIT
                                        : message->node != 0)
        return "membership message about a node that cannot be";
    if ((message->flags & ~(MEMBER_FLAG_BLANK | MEMBER_FLAG_SLOW)) != 0 ||
        (message->force & 0x80) != 0)
        return "membership message with unknown flags";
    if (message->incarnation == 0 && message->type != MEMBER_BEAT && message->type != MEMBER_ECHO)
        return "membership message without an incarnation";
    return NULL;
}

const char *member_entry_invalid(struct slice bytes)
{
    const struct member_entry *entry = (const void *)bytes.data;
    if (bytes.size != sizeof(*entry))
        return "membership entry of a wrong size";
    if (entry->kind < MEMBER_LEAD || entry->kind > MEMBER_ACTIVATE)
        return "unknown membership entry";
    if (entry->leader < 1 || entry->leader >= MEMBER_LIMIT || entry->lead == 0 ||
        entry->incarnation == 0)
        return "membership entry without a leader";
    if (entry->cold > 1 || entry->reserved != 0)
        return "membership entry with unknown flags";
    if (entry->kind != MEMBER_LEAD && entry->next.epoch == 0)
        return "membership entry without an epoch";
    return entry->kind == MEMBER_VIEW ? view_invalid(&entry->next) : NULL;
}

const char *member_snapshot_invalid(struct slice bytes)
{
    const struct member_snapshot *snapshot = (const void *)bytes.data;
    if (bytes.size != sizeof(*snapshot))
        return "membership snapshot of a wrong size";
    if (snapshot->leader >= MEMBER_LIMIT)
        return "membership snapshot with an unknown leader";
    const char *why = view_invalid(&snapshot->active);
    if (why == NULL && snapshot->pending.epoch != 0 && snapshot->active.epoch != 0 &&
        snapshot->pending.epoch != snapshot->active.epoch + 1)
        why = "membership snapshot with views that do not follow each other";
    return why != NULL ? why : view_invalid(&snapshot->pending);
}

/* ---- the agreed log ---- */

void member_init(struct member *member, const struct member_options *options)
{
    assert(options->self >= 1);
    assert(options->self < MEMBER_LIMIT);
    assert((options->configured & node_bit(options->self)) != 0);
    assert(options->incarnation != 0);
    memset(member, 0, sizeof(*member));
    member->options = *options;
    member->incarnation = options->incarnation;
}

/* Invariant 8, this node's side: out of the view means out of the lease, at once. */
static void leave(struct member *member, const struct member_actions *actions)
{
    member->incarnation = 0;
    member->admitted = false;
    member->lease_until_us = 0;
    member->healed_epoch = 0;
    memset(&member->installed, 0, sizeof(member->installed));
    actions->removed(actions->user);
}

static void install(struct member *member, const struct member_actions *actions)
{
    const struct view *active = &member->agreed.active;
    assert(member->installed.epoch < active->epoch);
    member->installed = *active;
    if ((active->members & node_bit(member->options.self)) != 0) {
        member->options.blank = false;
        member->options.force_members = 0;
    } else {
        member->lease_until_us = 0;
    }
    actions->install(actions->user, &member->installed);
}

/* Brings this node in line with what is agreed now. */
static void settle(struct member *member, const struct member_actions *actions)
{
    const struct member_snapshot *agreed = &member->agreed;
    const struct view *newest = agreed->pending.epoch != 0 ? &agreed->pending : &agreed->active;
    assert(agreed->pending.epoch == 0 || agreed->active.epoch == 0 ||
           agreed->pending.epoch == agreed->active.epoch + 1);
    bool in = view_admits(newest, member->options.self, member->incarnation);
    /* Not `member->admitted`: a snapshot may hide both the admission and the removal. The last one:
     * a log that was lost by a majority and begun again (groups in memory) knows nothing of this
     * node. */
    if (!in && member->incarnation != 0 &&
        (agreed->admitted[member->options.self] >= member->incarnation ||
         member->installed.epoch != 0)) {
        leave(member, actions);
        return;
    }
    member->admitted = in;
    if (view_admits(&agreed->active, member->options.self, member->incarnation) &&
        member->installed.epoch != agreed->active.epoch)
        install(member, actions);
}

/* Newcomers need a moment to connect before their silence means anything; complaints of the old
 * epoch are void. */
static void begin_epoch(struct member *member, const struct view *before, uint64_t now_us)
{
    const struct view *active = &member->agreed.active;
    member->healed = 0;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++) {
        struct member_peer *peer = &member->peers[node];
        memset(peer->reports, 0, sizeof(peer->reports));
        if (active->incarnation[node] != 0 &&
            active->incarnation[node] != before->incarnation[node])
            peer->heard_us = now_us + CONNECT_GRACE * member->options.suspect_us;
    }
}

static bool view_fits(const struct member_snapshot *agreed, const struct view *next)
{
    const struct view *active = &agreed->active;
    if (agreed->pending.epoch != 0 || (active->epoch != 0 && next->epoch != active->epoch + 1))
        return false;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if (next->incarnation[node] != 0 && next->incarnation[node] != active->incarnation[node] &&
            next->incarnation[node] <= agreed->admitted[node])
            return false;
    return true;
}

static void apply_lead(struct member *member, const struct member_entry *entry, uint64_t now_us)
{
    struct member_snapshot *agreed = &member->agreed;
    agreed->leader = entry->leader;
    agreed->lead = entry->lead;
    agreed->lead_incarnation = entry->incarnation;
    member->leading = member->role_leader == member->options.self &&
                      entry->leader == member->options.self && entry->lead == member->lead &&
                      entry->incarnation == member->options.incarnation;
    if (member->leading)
        member->lead_applied_us = now_us;
}

static void apply_view(struct member *member, const struct member_entry *entry)
{
    struct member_snapshot *agreed = &member->agreed;
    if (!view_fits(agreed, &entry->next))
        return;
    agreed->pending = entry->next;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if (entry->next.incarnation[node] != 0)
            agreed->admitted[node] = entry->next.incarnation[node];
}

static void apply_activate(struct member *member, const struct member_entry *entry, uint64_t now_us)
{
    struct member_snapshot *agreed = &member->agreed;
    if (agreed->pending.epoch != entry->next.epoch)
        return;
    struct view before = agreed->active;
    agreed->active = agreed->pending;
    memset(&agreed->pending, 0, sizeof(agreed->pending));
    begin_epoch(member, &before, now_us);
}

void member_applied(struct member *member, const struct member_entry *entry, uint64_t now_us,
                    const struct member_actions *actions)
{
    struct member_snapshot *agreed = &member->agreed;
    bool current = entry->leader == agreed->leader && entry->lead == agreed->lead &&
                   entry->incarnation == agreed->lead_incarnation;
    if (entry->kind == MEMBER_LEAD)
        apply_lead(member, entry, now_us);
    else if (current && entry->kind == MEMBER_VIEW)
        apply_view(member, entry);
    else if (current && entry->kind == MEMBER_ACTIVATE)
        apply_activate(member, entry, now_us);
    if (memcmp(entry, &member->proposed, sizeof(*entry)) == 0)
        memset(&member->proposed, 0, sizeof(member->proposed));
    settle(member, actions);
    member_lead_work(member, now_us, actions);
}

void member_snapshot(const struct member *member, struct member_snapshot *snapshot)
{
    *snapshot = member->agreed;
}

void member_restore(struct member *member, const struct member_snapshot *snapshot, uint64_t now_us,
                    const struct member_actions *actions)
{
    struct view before = member->agreed.active;
    member->agreed = *snapshot;
    member->leading = false;
    begin_epoch(member, &before, now_us);
    settle(member, actions);
}

void member_role(struct member *member, unsigned leader, uint64_t now_us,
                 const struct member_actions *actions)
{
    if (leader == member->role_leader)
        return;
    member->role_leader = leader;
    member->leading = false;
    memset(&member->proposed, 0, sizeof(member->proposed));
    member->join_sent_us = 0;
    member->healed_sent_us = 0;
    if (leader == member->options.self)
        member_lead_begin(member, now_us, actions);
}

/* ---- messages ---- */

static void send_to(struct member *member, unsigned to, const struct member_message *message,
                    const struct member_actions *actions)
{
    if (to != 0 && to != member->options.self)
        actions->send(actions->user, to, message);
}

void member_take_lease(struct member *member, uint64_t asked_us, uint64_t lease_us)
{
    if ((member->installed.members & node_bit(member->options.self)) == 0)
        return;
    uint64_t surely_us = lease_us - lease_us * member->options.drift_ppm / 1000000;
    if (asked_us + surely_us > member->lease_until_us)
        member->lease_until_us = asked_us + surely_us;
}

static void on_lease_grant(struct member *member, const struct member_message *message)
{
    if (message->incarnation != member->incarnation || message->stamp_us > member->asked_us ||
        message->lease_us > member->options.lease_us)
        return;
    member_take_lease(member, message->stamp_us, message->lease_us);
}

/* Kept by everybody: who becomes leader later then knows at once who is dead and who wants in. */
static void on_join(struct member *member, unsigned from, const struct member_message *message,
                    uint64_t now_us)
{
    struct member_peer *peer = &member->peers[from];
    if (message->incarnation < peer->join_incarnation)
        return;
    peer->join_incarnation = message->incarnation;
    peer->join_us = now_us;
    peer->join_epoch = message->epoch;
    peer->join_blank = (message->flags & MEMBER_FLAG_BLANK) != 0;
    peer->join_force = message->force;
}

static void on_beat(struct member *member, unsigned from, const struct member_message *message,
                    const struct member_actions *actions)
{
    if (member->role_leader != from)
        return;
    send_to(member, from,
            &(struct member_message){.type = MEMBER_ECHO, .stamp_us = message->stamp_us}, actions);
}

void member_received(struct member *member, unsigned from, const struct member_message *message,
                     uint64_t now_us, const struct member_actions *actions)
{
    if (from < 1 || from >= MEMBER_LIMIT || from == member->options.self ||
        (member->options.configured & node_bit(from)) == 0)
        return;
    switch ((enum member_message_type)message->type) {
    case MEMBER_LEASE_ASK:
        member_on_lease_ask(member, from, message, now_us, actions);
        break;
    case MEMBER_LEASE_GRANT:
        on_lease_grant(member, message);
        break;
    case MEMBER_JOIN:
        on_join(member, from, message, now_us);
        break;
    case MEMBER_HEALED:
        member_on_healed(member, from, message->epoch, message->incarnation, now_us);
        break;
    case MEMBER_SUSPECT:
        member_on_suspect(member, from, message, now_us);
        break;
    case MEMBER_BEAT:
        on_beat(member, from, message, actions);
        break;
    case MEMBER_ECHO:
        member_on_echo(member, from, message->stamp_us);
        break;
    case MEMBER_MESSAGE_LIMIT:
        break;
    }
    member_lead_work(member, now_us, actions);
}

/* ---- what is due by time ---- */

/* The node's own pause is no evidence against others: of a late tick only a part counts as
 * silence. */
static void take_evidence(struct member *member, uint64_t now_us,
                          const uint64_t heard_us[MEMBER_LIMIT])
{
    uint64_t passed_us = now_us - member->ticked_us, believed_us = member->options.suspect_us / 4;
    uint64_t pause_us = passed_us > believed_us ? passed_us - believed_us : 0;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++) {
        struct member_peer *peer = &member->peers[node];
        if (member->ticked_us == 0 && peer->heard_us < now_us)
            peer->heard_us = now_us;
        else if (member->ticked_us != 0 && peer->heard_us < now_us)
            peer->heard_us += pause_us;
        uint64_t heard = heard_us[node] < now_us ? heard_us[node] : now_us;
        if (heard > peer->heard_us)
            peer->heard_us = heard;
    }
    member->ticked_us = now_us;
}

/* Every L/3; more often while the lease is about to end. */
static void ask_lease(struct member *member, uint64_t now_us, const struct member_actions *actions)
{
    if ((member->installed.members & node_bit(member->options.self)) == 0)
        return;
    uint64_t lease_us = member->options.lease_us;
    bool scarce = member->lease_until_us < now_us + lease_us / 3;
    if (now_us - member->asked_us < (scarce ? lease_us / 8 : lease_us / 3))
        return;
    member->asked_us = now_us;
    send_to(member, member->role_leader,
            &(struct member_message){
                .type = MEMBER_LEASE_ASK, .incarnation = member->incarnation, .stamp_us = now_us},
            actions);
}

static void ask_join(struct member *member, uint64_t now_us, const struct member_actions *actions)
{
    if (member->incarnation == 0 || member->admitted ||
        (member->join_sent_us != 0 && now_us - member->join_sent_us < MEMBER_JOIN_US))
        return;
    member->join_sent_us = now_us;
    uint32_t epoch = member->agreed.active.epoch > member->options.last_epoch
                         ? member->agreed.active.epoch
                         : member->options.last_epoch;
    struct member_message join = {.type = MEMBER_JOIN,
                                  .flags = member->options.blank ? MEMBER_FLAG_BLANK : 0,
                                  .force = member->options.force_members,
                                  .epoch = epoch,
                                  .incarnation = member->incarnation};
    on_join(member, member->options.self, &join, now_us);
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if ((member->options.configured & node_bit(node)) != 0)
            send_to(member, node, &join, actions);
}

static void say_healed(struct member *member, uint64_t now_us, const struct member_actions *actions)
{
    if (member->healed_epoch == 0 || member->healed_epoch != member->installed.epoch ||
        (member->installed.healing & node_bit(member->options.self)) == 0 ||
        (member->healed_sent_us != 0 && now_us - member->healed_sent_us < HEALED_RETRY_US))
        return;
    member->healed_sent_us = now_us;
    struct member_message healed = {
        .type = MEMBER_HEALED, .epoch = member->healed_epoch, .incarnation = member->incarnation};
    member_on_healed(member, member->options.self, healed.epoch, healed.incarnation, now_us);
    send_to(member, member->role_leader, &healed, actions);
}

/* Members only: what a healing node does not hear keeps nobody waiting. */
static void report(struct member *member, unsigned node, uint8_t flags, uint64_t now_us,
                   const struct member_actions *actions)
{
    struct member_message suspect = {.type = MEMBER_SUSPECT,
                                     .node = (uint8_t)node,
                                     .flags = flags,
                                     .epoch = member->installed.epoch,
                                     .incarnation = member->installed.incarnation[node]};
    member_on_suspect(member, member->options.self, &suspect, now_us);
    send_to(member, member->role_leader, &suspect, actions);
}

static void report_silence(struct member *member, uint64_t now_us,
                           const struct member_actions *actions)
{
    uint64_t suspect_us = member->options.suspect_us;
    if ((member->installed.members & node_bit(member->options.self)) == 0)
        return;
    for (unsigned node = 1; node < MEMBER_LIMIT; node++) {
        struct member_peer *peer = &member->peers[node];
        if ((view_nodes(&member->installed) & node_bit(node)) == 0 ||
            !member_silent(member, node, now_us, suspect_us) ||
            now_us - peer->suspected_us < suspect_us / 2)
            continue;
        peer->suspected_us = now_us;
        report(member, node, 0, now_us, actions);
    }
}

/* A group of one: nobody to ask, nobody to lose a lease to. */
static void stand_alone(struct member *member, const struct member_actions *actions)
{
    if (member->installed.epoch != 0)
        return;
    unsigned self = member->options.self;
    struct view view = {.epoch = member->options.last_epoch + 1,
                        .members = node_bit(self),
                        .configured = node_bit(self)};
    view.incarnation[self] = member->incarnation;
    member->agreed.active = view;
    member->admitted = true;
    member->lease_until_us = UINT64_MAX;
    install(member, actions);
}

void member_tick(struct member *member, uint64_t now_us, const uint64_t heard_us[MEMBER_LIMIT],
                 const struct member_actions *actions)
{
    if (member->options.configured == node_bit(member->options.self)) {
        stand_alone(member, actions);
        return;
    }
    take_evidence(member, now_us, heard_us);
    ask_lease(member, now_us, actions);
    ask_join(member, now_us, actions);
    say_healed(member, now_us, actions);
    report_silence(member, now_us, actions);
    member_lead_work(member, now_us, actions);
}

/* ---- what the server says and asks ---- */

void member_all_healed(struct member *member, uint32_t epoch, uint64_t now_us,
                       const struct member_actions *actions)
{
    if (epoch != member->installed.epoch)
        return;
    member->healed_epoch = epoch;
    member->healed_sent_us = 0;
    say_healed(member, now_us, actions);
    member_lead_work(member, now_us, actions);
}

void member_suspects(struct member *member, uint8_t nodes, uint32_t epoch, uint64_t now_us,
                     const struct member_actions *actions)
{
    if (epoch != member->installed.epoch ||
        (member->installed.members & node_bit(member->options.self)) == 0)
        return;
    nodes &= view_nodes(&member->installed) & (uint8_t)~node_bit(member->options.self);
    for (unsigned node = 1; node < MEMBER_LIMIT; node++)
        if ((nodes & node_bit(node)) != 0)
            report(member, node, MEMBER_FLAG_SLOW, now_us, actions);
    member_lead_work(member, now_us, actions);
}

void member_new_incarnation(struct member *member, uint64_t incarnation)
{
    assert(member->incarnation == 0);
    assert(incarnation > member->options.incarnation);
    assert(incarnation > member->agreed.admitted[member->options.self]);
    member->incarnation = incarnation;
    member->options.force_members = 0;
    member->join_sent_us = 0;
}

uint64_t member_lease_until_us(const struct member *member)
{
    return member->lease_until_us;
}

const struct view *member_view(const struct member *member)
{
    return &member->agreed.active;
}

const struct view *member_installed(const struct member *member)
{
    return &member->installed;
}

uint64_t member_fence(const struct member *member, unsigned node)
{
    const struct view *active = &member->agreed.active;
    uint64_t admitted = member->agreed.admitted[node];
    if (active->incarnation[node] != 0)
        return active->incarnation[node] - 1;
    if (member->agreed.pending.incarnation[node] == admitted && admitted != 0)
        return admitted - 1;
    return admitted;
}

bool member_leads(const struct member *member)
{
    return member->leading;
}
