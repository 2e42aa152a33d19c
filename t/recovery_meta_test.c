/* Goal: what meta commands do to a record, on every node, and that a win is handed out once in the
 * whole group. Method: three real shards whose channels the test moves by hand. */
#include <stdio.h>

#include "t/cluster.h"

/* seconds behind the start of the test's clock: no exptime of the test passes by itself */
enum { FAR = 1000000 };

static uint32_t in(const struct cluster *cluster, uint32_t seconds)
{
    return (uint32_t)(cluster->wall_us / 1000000) + seconds;
}

static struct request command(enum request_type type, const char *key, const char *value)
{
    return (struct request){
        .type = type, .key = slice_text(key), .value = slice_text(value), .delta = 1};
}

/* Executes one at a node, delivers all, and tells outcome and marks: "HIT 'value' W" and the
 * like. */
static const char *run(struct cluster *cluster, unsigned node, const struct request *request)
{
    static char text[4][400];
    static unsigned turn;
    char *out = text[turn++ % 4];
    unsigned index = cluster_request_full(cluster, node, request);
    cluster_settle(cluster);
    const struct cluster_reply *reply = &cluster->replies[index];
    const struct seen *seen = &cluster->requests[index].seen;
    int at = snprintf(out, 400, "%s", reply->done ? outcome_text(reply->outcome) : "...");
    if (reply->done && reply->outcome == OUTCOME_HIT)
        at += snprintf(out + at, 400 - (size_t)at, " '%s'", reply->value);
    snprintf(out + at, 400 - (size_t)at, "%s%s%s%s%s", (seen->marks & ~SEEN_BASE64) ? " " : "",
             seen->marks & SEEN_CREATED ? "C" : "", seen->marks & SEEN_TAKEN ? "Z" : "",
             seen->marks & SEEN_STALE ? "X" : "", seen->marks & SEEN_WON ? "W" : "");
    return out;
}

static const char *fetch(struct cluster *cluster, unsigned node, const char *key)
{
    struct request request = command(REQUEST_FETCH, key, "");
    return run(cluster, node, &request);
}

static const char *vivify(struct cluster *cluster, unsigned node, const char *key)
{
    struct request request = command(REQUEST_FETCH, key, "");
    request.vivify = true;
    request.exptime = in(cluster, 60);
    return run(cluster, node, &request);
}

static void set(struct cluster *cluster, unsigned node, const char *key, const char *value,
                uint32_t exptime)
{
    struct request request = command(REQUEST_SET, key, value);
    request.exptime = exptime;
    (void)run(cluster, node, &request);
    EXPECT_EQ(cluster->replies[cluster->request_count - 1].outcome, OUTCOME_STORED);
}

static const char *mark_stale(struct cluster *cluster, unsigned node, const char *key)
{
    struct request request = command(REQUEST_DELETE, key, "");
    request.options = REQUEST_MARKS_STALE;
    return run(cluster, node, &request);
}

static uint64_t cas_at(struct cluster *cluster, unsigned node, const char *key)
{
    unsigned get = cluster_request(cluster, node, REQUEST_GET, key, NULL);
    return cluster->replies[get].cas;
}

TEST(fetch, that_changes_nothing_is_a_local_read)
{
    struct cluster *cluster = cluster_open();
    set(cluster, 1, "k", "v", 0);
    size_t traced = cluster->traced;
    EXPECT_TEXT(fetch(cluster, 2, "k"), "HIT 'v'");
    EXPECT_TEXT(fetch(cluster, 2, "absent"), "MISS");
    EXPECT_EQ(cluster->traced, traced);
    EXPECT(cluster->replies[cluster->request_count - 1].local);
    cluster_close(cluster);
}

TEST(fetch, of_nothing_makes_an_empty_value_and_wins_once)
{
    struct cluster *cluster = cluster_open();
    EXPECT_TEXT(vivify(cluster, 1, "k"), "HIT '' CW");
    EXPECT_TEXT(vivify(cluster, 2, "k"), "HIT '' Z");
    EXPECT_TEXT(fetch(cluster, 3, "k"), "HIT '' Z");
    set(cluster, 3, "k", "v", 0);
    EXPECT_TEXT(vivify(cluster, 2, "k"), "HIT 'v'");
    cluster_close(cluster);
}

/* The heart of it: both see nothing, both begin, one is refused and does it again. */
TEST(fetch, by_two_nodes_at_once_is_won_by_one)
{
    for (unsigned order = 0; order < 4; order++) {
        struct cluster *cluster = cluster_open();
        struct request request = command(REQUEST_FETCH, "k", "");
        request.vivify = true;
        unsigned a = cluster_request_full(cluster, 1, &request);
        unsigned b = cluster_request_full(cluster, 3, &request);
        if (order & 1)
            EXPECT(cluster_deliver(cluster, 3, 1));
        if (order & 2)
            EXPECT(cluster_deliver(cluster, 1, 2));
        cluster_settle(cluster);
        EXPECT_EQ(cluster->replies[a].outcome, OUTCOME_HIT);
        EXPECT_EQ(cluster->replies[b].outcome, OUTCOME_HIT);
        unsigned marks[] = {cluster->requests[a].seen.marks, cluster->requests[b].seen.marks};
        EXPECT_EQ(((marks[0] & SEEN_WON) != 0) + ((marks[1] & SEEN_WON) != 0), 1);
        EXPECT_EQ(((marks[0] & SEEN_TAKEN) != 0) + ((marks[1] & SEEN_TAKEN) != 0), 1);
        cluster_close(cluster);
    }
}

TEST(fetch, of_a_stale_value_is_won_by_one_of_two_nodes_at_once)
{
    struct cluster *cluster = cluster_open();
    set(cluster, 1, "k", "v", 0);
    EXPECT_TEXT(mark_stale(cluster, 2, "k"), "DELETED");
    struct request request = command(REQUEST_FETCH, "k", "");
    unsigned a = cluster_request_full(cluster, 1, &request);
    unsigned b = cluster_request_full(cluster, 3, &request);
    cluster_settle(cluster);
    unsigned marks[] = {cluster->requests[a].seen.marks, cluster->requests[b].seen.marks};
    EXPECT_EQ(((marks[0] & SEEN_WON) != 0) + ((marks[1] & SEEN_WON) != 0), 1);
    EXPECT((marks[0] & marks[1] & SEEN_STALE) != 0);
    EXPECT_TEXT(cluster->replies[b].value, "v");
    cluster_close(cluster);
}

/* The winner's node dies before it could tell: the win is spent or it never was; it is not handed
 * out twice. */
TEST(fetch, whose_node_dies_hands_out_no_second_win_once_it_was_seen)
{
    struct cluster *cluster = cluster_open();
    struct request request = command(REQUEST_FETCH, "k", "");
    request.vivify = true;
    unsigned won = cluster_request_full(cluster, 1, &request);
    EXPECT(cluster_deliver(cluster, 1, 2)); /* 3 has heard nothing */
    EXPECT(!cluster->replies[won].done);
    cluster_crash(cluster, 1);
    cluster_install_all(cluster, 2, 0x6, 0);
    cluster_settle(cluster);
    EXPECT_TEXT(vivify(cluster, 3, "k"), "HIT '' Z"); /* 2 has finished the dead node's write */
    cluster_close(cluster);
}

TEST(fetch, whose_node_dies_unheard_leaves_the_win_to_others)
{
    struct cluster *cluster = cluster_open();
    struct request request = command(REQUEST_FETCH, "k", "");
    request.vivify = true;
    (void)cluster_request_full(cluster, 1, &request);
    cluster_crash(cluster, 1);
    cluster_lose(cluster, 1, 2);
    cluster_lose(cluster, 1, 3);
    cluster_install_all(cluster, 2, 0x6, 0);
    cluster_settle(cluster);
    EXPECT_TEXT(vivify(cluster, 3, "k"), "HIT '' CW");
    EXPECT_TEXT(vivify(cluster, 2, "k"), "HIT '' Z");
    cluster_close(cluster);
}

TEST(fetch, marks_outlive_a_crash_and_reach_a_node_that_was_away)
{
    struct cluster *cluster = cluster_open();
    cluster_crash(cluster, 3);
    cluster_install_all(cluster, 2, 0x3, 0);
    struct request request = command(REQUEST_SET, "k", "v");
    request.options = REQUEST_KEY_BASE64;
    EXPECT_TEXT(run(cluster, 1, &request), "STORED");
    EXPECT_TEXT(mark_stale(cluster, 1, "k"), "DELETED");
    EXPECT_TEXT(fetch(cluster, 2, "k"), "HIT 'v' XW");
    cluster_restart(cluster, 3);
    cluster_install_all(cluster, 3, 0x3, 0x4);
    for (unsigned i = 0; i < 100 && cluster->healed_epoch != 3; i++) {
        cluster_tick(cluster, TICK_US);
        cluster_settle(cluster);
    }
    EXPECT_EQ(cluster->healed_epoch, 3U);
    cluster_install_all(cluster, 4, 0x7, 0);
    cluster_settle(cluster);
    EXPECT_TEXT(fetch(cluster, 3, "k"), "HIT 'v' ZX");
    EXPECT((cluster->requests[cluster->request_count - 1].seen.marks & SEEN_BASE64) != 0);
    cluster_close(cluster);
}

TEST(fetch, wins_when_the_value_expires_soon_and_nobody_has)
{
    struct cluster *cluster = cluster_open();
    set(cluster, 1, "k", "v", in(cluster, 100));
    struct request request = command(REQUEST_FETCH, "k", "");
    request.options = REQUEST_RECACHES;
    request.recache_at = in(cluster, 100);
    EXPECT_TEXT(run(cluster, 2, &request), "HIT 'v'"); /* not below */
    request.recache_at = in(cluster, 101);
    EXPECT_TEXT(run(cluster, 2, &request), "HIT 'v' W");
    EXPECT_TEXT(run(cluster, 3, &request), "HIT 'v' Z");
    set(cluster, 1, "for ever", "v", 0);
    request.key = slice_text("for ever");
    EXPECT_TEXT(run(cluster, 3, &request), "HIT 'v'");
    cluster_close(cluster);
}

TEST(fetch, compares_with_the_new_exptime_if_that_is_asked_for_first)
{
    struct cluster *cluster = cluster_open();
    struct request request = command(REQUEST_FETCH, "k", "");
    set(cluster, 1, "k", "v", in(cluster, 100));
    request.options = REQUEST_RECACHES | REQUEST_SETS_EXPTIME | REQUEST_EXPTIME_FIRST;
    request.recache_at = in(cluster, 200);
    request.new_exptime = in(cluster, 300);
    EXPECT_TEXT(run(cluster, 2, &request), "HIT 'v'");
    EXPECT_EQ(cluster->requests[cluster->request_count - 1].seen.exptime, in(cluster, 100));
    request.options &= (uint8_t)~REQUEST_EXPTIME_FIRST;
    request.new_exptime = in(cluster, 150);
    EXPECT_TEXT(run(cluster, 2, &request), "HIT 'v'");   /* 300 */
    EXPECT_TEXT(run(cluster, 3, &request), "HIT 'v' W"); /* 150 */
    cluster_close(cluster);
}

TEST(fetch, keeps_the_unique_when_it_wins_or_sets_the_exptime)
{
    struct cluster *cluster = cluster_open();
    set(cluster, 1, "k", "v", 0);
    (void)mark_stale(cluster, 1, "k");
    uint64_t cas = cas_at(cluster, 2, "k");
    EXPECT_TEXT(fetch(cluster, 3, "k"), "HIT 'v' XW");
    EXPECT_EQ(cas_at(cluster, 1, "k"), cas);
    struct request request = command(REQUEST_FETCH, "k", "");
    request.options = REQUEST_SETS_EXPTIME;
    request.new_exptime = in(cluster, FAR);
    EXPECT_TEXT(run(cluster, 2, &request), "HIT 'v' ZX");
    EXPECT_EQ(cas_at(cluster, 3, "k"), cas);
    cluster_close(cluster);
}

TEST(stale, keeps_the_value_under_a_new_unique_and_is_over_with_the_next_one)
{
    struct cluster *cluster = cluster_open();
    set(cluster, 1, "k", "v", 0);
    uint64_t cas = cas_at(cluster, 2, "k");
    EXPECT_TEXT(mark_stale(cluster, 2, "k"), "DELETED");
    EXPECT(cas_at(cluster, 3, "k") > cas);
    EXPECT_TEXT(cluster_get(cluster, 3, "k"), "v"); /* a plain get knows nothing of it */
    EXPECT_TEXT(fetch(cluster, 3, "k"), "HIT 'v' XW");
    EXPECT_TEXT(mark_stale(cluster, 1, "k"), "DELETED ZX");
    EXPECT_TEXT(fetch(cluster, 2, "k"), "HIT 'v' XW"); /* the next one may win again */
    set(cluster, 1, "k", "w", 0);
    EXPECT_TEXT(fetch(cluster, 2, "k"), "HIT 'w'");
    EXPECT_TEXT(mark_stale(cluster, 1, "absent"), "NOT_FOUND");
    cluster_close(cluster);
}

TEST(stale, is_kept_by_touch_and_incr_and_cleared_by_append)
{
    struct cluster *cluster = cluster_open();
    set(cluster, 1, "n", "9", 0);
    (void)mark_stale(cluster, 1, "n");
    (void)fetch(cluster, 2, "n");
    struct request incr = command(REQUEST_INCR, "n", "");
    EXPECT_TEXT(run(cluster, 3, &incr), "NUMBER ZX");
    struct request touch = command(REQUEST_TOUCH, "n", "");
    touch.exptime = in(cluster, 50);
    EXPECT_TEXT(run(cluster, 3, &touch), "TOUCHED ZX");
    EXPECT_TEXT(fetch(cluster, 1, "n"), "HIT '10' ZX");
    struct request append = command(REQUEST_APPEND, "n", "0");
    EXPECT_TEXT(run(cluster, 3, &append), "STORED ZX");
    EXPECT_TEXT(fetch(cluster, 1, "n"), "HIT '100'");
    cluster_close(cluster);
}

TEST(stale, comes_from_a_value_for_an_older_version)
{
    struct cluster *cluster = cluster_open();
    set(cluster, 1, "k", "1", 0);
    struct request late = command(REQUEST_CAS, "k", "late");
    late.cas = cas_at(cluster, 1, "k");
    late.exptime = in(cluster, 10);
    set(cluster, 2, "k", "2", in(cluster, 90));
    EXPECT_TEXT(run(cluster, 3, &late), "EXISTS");
    late.options = REQUEST_MARKS_STALE;
    EXPECT_TEXT(run(cluster, 3, &late), "STORED");
    EXPECT_TEXT(fetch(cluster, 1, "k"), "HIT 'late' XW");
    /* what was there counts */
    EXPECT_EQ(cluster->requests[cluster->request_count - 1].seen.exptime, in(cluster, 90));
    late.cas = UINT64_MAX;
    EXPECT_TEXT(run(cluster, 3, &late), "EXISTS ZX"); /* from the future */
    late.cas = 1;
    EXPECT_TEXT(run(cluster, 3, &late), "STORED ZX");
    EXPECT_TEXT(fetch(cluster, 2, "k"), "HIT 'late' ZX"); /* and the win stays spent */
    cluster_close(cluster);
}

/* It is a property of the stored key: only who stores a value decides. */
TEST(base64, mark_is_set_and_cleared_by_who_stores_a_value)
{
    static const enum request_type changes[] = {REQUEST_APPEND, REQUEST_INCR, REQUEST_TOUCH,
                                                REQUEST_FETCH};
    struct cluster *cluster = cluster_open();
    for (unsigned came = 0; came < 2; came++) {
        struct request store = command(REQUEST_SET, "k", "1");
        store.options = came ? REQUEST_KEY_BASE64 : 0;
        (void)run(cluster, 1, &store);
        for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
            struct request change = command(changes[i], "k", "2");
            change.options = came ? 0 : REQUEST_KEY_BASE64;
            (void)run(cluster, 2, &change);
            (void)mark_stale(cluster, 3, "k");
            (void)fetch(cluster, 1, "k");
            unsigned marks = cluster->requests[cluster->request_count - 1].seen.marks;
            EXPECT_EQ((marks & SEEN_BASE64) != 0, came != 0);
        }
    }
    struct request vivify_it = command(REQUEST_FETCH, "new", "");
    vivify_it.vivify = true;
    vivify_it.options = REQUEST_KEY_BASE64;
    (void)run(cluster, 1, &vivify_it);
    (void)fetch(cluster, 2, "new");
    EXPECT((cluster->requests[cluster->request_count - 1].seen.marks & SEEN_BASE64) != 0);
    cluster_close(cluster);
}

TEST(emptied, keeps_the_key_and_its_unique)
{
    struct cluster *cluster = cluster_open();
    struct request set_flags = command(REQUEST_SET, "k", "v");
    set_flags.client_flags = 5;
    set_flags.exptime = in(cluster, 90);
    (void)run(cluster, 1, &set_flags);
    uint64_t cas = cas_at(cluster, 1, "k");
    struct request empty = command(REQUEST_DELETE, "k", "");
    empty.options = REQUEST_EMPTIES;
    EXPECT_TEXT(run(cluster, 2, &empty), "DELETED");
    EXPECT_TEXT(fetch(cluster, 3, "k"), "HIT ''");
    EXPECT_EQ(cas_at(cluster, 1, "k"), cas);
    EXPECT_EQ(cluster->requests[cluster->request_count - 2].seen.exptime, 0U);
    empty.options = REQUEST_EMPTIES | REQUEST_MARKS_STALE | REQUEST_SETS_CAS;
    empty.new_cas = 77;
    empty.exptime = in(cluster, 30);
    EXPECT_TEXT(run(cluster, 2, &empty), "DELETED");
    EXPECT_EQ(cas_at(cluster, 3, "k"), 77U);
    EXPECT_TEXT(fetch(cluster, 3, "k"), "HIT '' XW");
    cluster_close(cluster);
}

TEST(unique, can_be_chosen_for_every_new_value)
{
    static const enum request_type types[] = {REQUEST_SET, REQUEST_REPLACE, REQUEST_APPEND,
                                              REQUEST_INCR};
    struct cluster *cluster = cluster_open();
    set(cluster, 1, "k", "1", 0);
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct request request = command(types[i], "k", "2");
        request.options = REQUEST_SETS_CAS;
        request.new_cas = 100 + i;
        (void)run(cluster, 1 + i % 3, &request);
        EXPECT_EQ(cluster->replies[cluster->request_count - 1].cas, 100 + i);
        for (unsigned node = 1; node <= 3; node++)
            EXPECT_EQ(cas_at(cluster, node, "k"), 100 + i);
    }
    cluster_close(cluster);
}

/* One that has its own unique may not go out as part of another. */
TEST(unique, that_was_chosen_is_not_lost_among_sets_that_wait_together)
{
    struct cluster *cluster = cluster_open();
    unsigned index[4];
    for (unsigned i = 0; i < 4; i++) {
        struct request request = command(REQUEST_SET, "k", i % 2 ? "odd" : "even");
        request.options = i == 2 ? REQUEST_SETS_CAS : 0;
        request.new_cas = 7;
        index[i] = cluster_request_full(cluster, 1, &request);
    }
    cluster_settle(cluster);
    EXPECT_EQ(cluster->replies[index[2]].cas, 7U);
    for (unsigned i = 0; i < 4; i++)
        for (unsigned j = 0; j < i; j++)
            EXPECT(cluster->replies[index[i]].cas != cluster->replies[index[j]].cas);
    cluster_close(cluster);
}

TEST(vivify, makes_what_append_and_incr_do_not_find)
{
    struct cluster *cluster = cluster_open();
    struct request append = command(REQUEST_APPEND, "a", "tail");
    EXPECT_TEXT(run(cluster, 1, &append), "NOT_STORED");
    append.vivify = true;
    append.exptime = in(cluster, 40);
    EXPECT_TEXT(run(cluster, 2, &append), "STORED");
    EXPECT_TEXT(run(cluster, 3, &append), "STORED");
    EXPECT_TEXT(fetch(cluster, 1, "a"), "HIT 'tailtail'");
    EXPECT_EQ(cluster->requests[cluster->request_count - 1].seen.value_size, 8U);
    struct request incr = command(REQUEST_INCR, "n", "");
    incr.vivify = true;
    incr.initial = 13;
    incr.exptime = in(cluster, 40);
    incr.options = REQUEST_SETS_EXPTIME;
    incr.new_exptime = in(cluster, 80);
    EXPECT_TEXT(run(cluster, 1, &incr), "NUMBER C");
    EXPECT_TEXT(run(cluster, 2, &incr), "NUMBER");
    EXPECT_EQ(cluster->requests[cluster->request_count - 1].seen.exptime, in(cluster, 40));
    EXPECT_TEXT(fetch(cluster, 1, "n"), "HIT '14'");
    EXPECT_EQ(cluster->requests[cluster->request_count - 1].seen.exptime, in(cluster, 80));
    cluster_close(cluster);
}

/* h and l: of this node, before this command, and gone with the value. */
TEST(access, is_told_as_it_was_before)
{
    struct cluster *cluster = cluster_open();
    set(cluster, 1, "k", "v", 0);
    struct request quiet = command(REQUEST_FETCH, "k", "");
    quiet.options = REQUEST_UNNOTICED;
    for (unsigned i = 0; i < 2; i++) {
        (void)run(cluster, 1, &quiet);
        EXPECT(!cluster->requests[cluster->request_count - 1].seen.fetched);
    }
    uint32_t set_at = cluster->requests[cluster->request_count - 1].seen.access_at;
    EXPECT_EQ(set_at, in(cluster, 0));
    cluster->wall_us += 5000000;
    (void)fetch(cluster, 1, "k");
    EXPECT(!cluster->requests[cluster->request_count - 1].seen.fetched);
    EXPECT_EQ(cluster->requests[cluster->request_count - 1].seen.access_at, set_at);
    (void)fetch(cluster, 1, "k");
    EXPECT(cluster->requests[cluster->request_count - 1].seen.fetched);
    EXPECT_EQ(cluster->requests[cluster->request_count - 1].seen.access_at, set_at + 5);
    (void)fetch(cluster, 2, "k");
    EXPECT(!cluster->requests[cluster->request_count - 1].seen.fetched); /* of this node only */
    struct request touch = command(REQUEST_TOUCH, "k", "");
    touch.exptime = in(cluster, 50);
    (void)run(cluster, 2, &touch);
    (void)fetch(cluster, 1, "k");
    /* another node's touch is no new value */
    EXPECT(cluster->requests[cluster->request_count - 1].seen.fetched);
    set(cluster, 2, "k", "w", 0);
    (void)fetch(cluster, 1, "k");
    EXPECT(!cluster->requests[cluster->request_count - 1].seen.fetched);
    cluster_close(cluster);
}
