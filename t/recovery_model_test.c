/* Goal: the persistency models (replica/model.def): who says what, in which order, what is answered
 * and readable when. Method: three real shards whose messages and drains the test moves by hand. */
#include "t/cluster.h"

/* ---- the table ---- */

TEST(model, names_are_found_and_nothing_else_is)
{
    enum model model;
    for (unsigned i = 0; i < MODEL_COUNT; i++) {
        EXPECT(model_parse(model_name((enum model)i), &model));
        EXPECT_EQ(model, i);
    }
    EXPECT_TEXT(model_name((enum model)0), "synch");
    EXPECT(!model_parse("", &model));
    EXPECT(!model_parse("Synch", &model));
    EXPECT(!model_parse("synchronous", &model));
}

/* ---- a write, model by model ---- */

TEST(synch, says_nothing_before_it_is_durable)
{
    struct cluster *cluster = cluster_open_late(MODEL_SYNCH);
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster->trace, "1>2 INV k\n1>3 INV k\n");
    EXPECT_TEXT(cluster_reply(cluster, set), "...");
    cluster_expect_everywhere(cluster, "k", "...");
    cluster_durable_everywhere(cluster);
    EXPECT_TEXT(cluster->trace, "1>2 INV k\n1>3 INV k\n2>1 ACK \n3>1 ACK \n1>2 VAL k\n1>3 VAL k\n");
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    cluster_expect_everywhere(cluster, "k", "v");
    cluster_close(cluster);
}

TEST(strict, is_readable_when_all_have_it_and_answered_when_it_is_durable_at_all)
{
    struct cluster *cluster = cluster_open_late(MODEL_STRICT);
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster->trace,
                "1>2 INV k\n1>3 INV k\n2>1 TAKEN \n3>1 TAKEN \n1>2 VAL k\n1>3 VAL k\n");
    EXPECT_TEXT(cluster_reply(cluster, set), "...");
    cluster_expect_everywhere(cluster, "k", "v");
    cluster_durable(cluster, 1);
    cluster_durable(cluster, 2);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, set), "..."); /* not yet at node 3 */
    cluster_durable(cluster, 3);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    EXPECT_TEXT(
        cluster->trace,
        "1>2 INV k\n1>3 INV k\n2>1 TAKEN \n3>1 TAKEN \n1>2 VAL k\n1>3 VAL k\n2>1 ACK \n3>1 ACK \n");
    cluster_close(cluster);
}

TEST(strict, waits_for_its_own_log_too)
{
    struct cluster *cluster = cluster_open_late(MODEL_STRICT);
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    cluster_durable(cluster, 2);
    cluster_durable(cluster, 3);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, set), "...");
    cluster_durable(cluster, 1);
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    cluster_close(cluster);
}

TEST(read_enforced, is_answered_when_all_have_it_and_readable_when_it_is_durable_at_all)
{
    struct cluster *cluster = cluster_open_late(MODEL_READ_ENFORCED);
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster->trace, "1>2 INV k\n1>3 INV k\n2>1 TAKEN \n3>1 TAKEN \n");
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    unsigned get = cluster_request(cluster, 1, REQUEST_GET, "k", NULL);
    cluster_expect_everywhere(cluster, "k", "...");
    cluster_durable(cluster, 1);
    cluster_durable(cluster, 2);
    cluster_settle(cluster);
    cluster_expect_everywhere(cluster, "k", "...");
    cluster_durable(cluster, 3);
    cluster_settle(cluster);
    EXPECT_TEXT(
        cluster->trace,
        "1>2 INV k\n1>3 INV k\n2>1 TAKEN \n3>1 TAKEN \n2>1 ACK \n3>1 ACK \n1>2 VAL k\n1>3 VAL k\n");
    EXPECT_TEXT(cluster->replies[get].value, "v");
    cluster_expect_everywhere(cluster, "k", "v");
    cluster_close(cluster);
}

TEST(eventual, never_waits_for_a_medium)
{
    for (enum model model = MODEL_EVENTUAL; model <= MODEL_SCOPE; model++) {
        struct cluster *cluster = cluster_open_late(model);
        unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
        EXPECT(cluster_deliver(cluster, 1, 2));
        EXPECT(cluster_deliver(cluster, 2, 1));
        EXPECT_TEXT(cluster_reply(cluster, set), "..."); /* node 3 does not have it */
        cluster_settle(cluster);
        EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
        cluster_expect_everywhere(cluster, "k", "v");
        cluster_durable_everywhere(cluster);
        EXPECT_TEXT(cluster->trace,
                    "1>2 INV k\n2>1 TAKEN \n1>3 INV k\n3>1 TAKEN \n1>2 VAL k\n1>3 VAL k\n");
        cluster_close(cluster);
    }
}

/* Nobody's acknowledgement will come. */
TEST(eventual, a_sole_member_answers_at_once)
{
    struct cluster *cluster = cluster_open_model(MODEL_EVENTUAL);
    cluster_install(cluster, 1, 2, 1, 0);
    cluster->drains_late = true;
    unsigned first = cluster_request(cluster, 1, REQUEST_SET, "k", "1");
    unsigned second = cluster_request(cluster, 1, REQUEST_INCR, "k", NULL);
    EXPECT_TEXT(cluster_reply(cluster, first), "STORED");
    EXPECT_TEXT(cluster_reply(cluster, second), "NUMBER");
    EXPECT_TEXT(cluster_get(cluster, 1, "k"), "2");
    cluster_close(cluster);
}

/* Who has something newer says at once that it has, and that it is durable when it is. */
TEST(strict, an_older_inv_is_taken_at_once_and_durable_with_the_newer_one)
{
    struct cluster *cluster = cluster_open_late(MODEL_STRICT);
    cluster_request(cluster, 1, REQUEST_SET, "k", "old");
    cluster_request(cluster, 3, REQUEST_SET, "k", "new"); /* same time: the higher node wins */
    EXPECT(cluster_deliver(cluster, 3, 2));
    EXPECT(cluster_deliver(cluster, 1, 2));
    EXPECT(cluster_deliver(cluster, 2, 1));
    EXPECT(!cluster_deliver(cluster, 2, 1));
    cluster_durable(cluster, 2);
    EXPECT(cluster_deliver(cluster, 2, 1));
    EXPECT_TEXT(cluster->trace, "3>2 INV k\n1>2 INV k\n2>1 TAKEN \n2>1 ACK \n");
    cluster_close(cluster);
}

/* ---- what goes on between the two points ---- */

TEST(strict, a_second_write_waits_for_the_answer_of_the_first_and_reads_do_not)
{
    struct cluster *cluster = cluster_open_late(MODEL_STRICT);
    unsigned first = cluster_request(cluster, 1, REQUEST_SET, "k", "1");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_get(cluster, 1, "k"), "1");
    unsigned refused = cluster_request(cluster, 1, REQUEST_ADD, "k", "x");
    EXPECT_TEXT(cluster_reply(cluster, refused), "NOT_STORED"); /* it writes nothing */
    unsigned second = cluster_request(cluster, 1, REQUEST_SET, "k", "2");
    unsigned get = cluster_request(cluster, 1, REQUEST_GET, "k", NULL);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, second), "...");
    EXPECT_TEXT(cluster_reply(cluster, get), "..."); /* behind it */
    cluster_durable_everywhere(cluster);
    EXPECT_TEXT(cluster_reply(cluster, first), "STORED");
    EXPECT_TEXT(cluster->replies[get].value, "2");
    cluster_durable_everywhere(cluster);
    EXPECT_TEXT(cluster_reply(cluster, second), "STORED");
    cluster_close(cluster);
}

/* All have it: that it was replaced before it was durable does not undo it. */
static struct cluster *open_overtaken(unsigned *incr)
{
    struct cluster *cluster = cluster_open_late(MODEL_STRICT);
    cluster_request(cluster, 2, REQUEST_SET, "n", "10");
    cluster_settle(cluster);
    cluster_durable_everywhere(cluster);
    *incr = cluster_request(cluster, 1, REQUEST_INCR, "n", NULL);
    cluster_settle(cluster);
    cluster_request(cluster, 3, REQUEST_SET, "n", "50");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, *incr), "...");
    cluster->traced = 0;
    cluster->trace[0] = 0;
    return cluster;
}

TEST(strict, a_complete_read_modify_write_that_is_replaced_is_not_executed_again)
{
    unsigned incr;
    struct cluster *cluster = open_overtaken(&incr);
    cluster_durable_everywhere(cluster);
    EXPECT_TEXT(cluster_reply(cluster, incr), "NUMBER");
    EXPECT_EQ(cluster->replies[incr].number, 11);
    cluster_expect_everywhere(cluster, "n", "50");
    cluster_close(cluster);
}

/* Nobody has its value any more, so it is not sent again: the others are asked to prove that they
 * have something newer. */
TEST(strict, a_complete_read_modify_write_that_was_replaced_is_proved_over_a_broken_channel)
{
    unsigned incr;
    struct cluster *cluster = open_overtaken(&incr);
    cluster_durable(cluster, 2);
    cluster_lose(cluster, 1, 2); /* its ACK */
    cluster_up(cluster, 1, 2);
    cluster_durable(cluster, 1);
    cluster_durable(cluster, 3);
    cluster_settle(cluster);
    EXPECT(strstr(cluster->trace, "1>2 PROVE n\n") != NULL);
    EXPECT_TEXT(cluster_reply(cluster, incr), "NUMBER");
    cluster_expect_everywhere(cluster, "n", "50");
    cluster_close(cluster);
}

TEST(strict, a_complete_read_modify_write_that_was_replaced_is_proved_in_a_new_view)
{
    unsigned incr;
    struct cluster *cluster = open_overtaken(&incr);
    cluster_install_all(cluster, 2, 3, 0);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, incr), "...");
    EXPECT(strstr(cluster->trace, "1>2 PROVE n\n") != NULL);
    cluster_durable(cluster, 1);
    EXPECT_TEXT(cluster_reply(cluster, incr), "...");
    cluster_durable(cluster, 2);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, incr), "NUMBER");
    EXPECT_TEXT(cluster_get(cluster, 1, "n"), "50");
    cluster_close(cluster);
}

/* The answer is the record: nothing may replace that before the answer is given. */
TEST(strict, an_answer_with_the_value_is_given_from_the_record)
{
    struct cluster *cluster = cluster_open_late(MODEL_STRICT);
    cluster_request(cluster, 2, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    cluster_durable_everywhere(cluster);
    struct request gat = {.type = REQUEST_GAT, .key = slice_text("k"), .exptime = 5000};
    unsigned touched = cluster_request_full(cluster, 1, &gat);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, touched), "...");
    EXPECT_TEXT(cluster_get(cluster, 2, "k"), "...");
    cluster_durable_everywhere(cluster);
    EXPECT_TEXT(cluster_reply(cluster, touched), "HIT");
    EXPECT_TEXT(cluster->replies[touched].value, "v");
    cluster_close(cluster);
}

TEST(read_enforced, a_read_modify_write_that_not_all_have_loses_to_a_newer_write)
{
    struct cluster *cluster = cluster_open_late(MODEL_READ_ENFORCED);
    cluster_request(cluster, 1, REQUEST_SET, "n", "10");
    cluster_settle(cluster);
    cluster_durable_everywhere(cluster);
    unsigned incr = cluster_request(cluster, 1, REQUEST_INCR, "n", NULL);
    /* before the INV reaches it */
    unsigned set = cluster_request(cluster, 3, REQUEST_SET, "n", "50");
    EXPECT(cluster_deliver(cluster, 1, 2));
    EXPECT(cluster_deliver(cluster, 2, 1));
    EXPECT_TEXT(cluster_reply(cluster, incr), "...");
    cluster_settle(cluster);
    cluster_durable_everywhere(cluster);
    cluster_durable_everywhere(cluster);
    EXPECT_TEXT(cluster_reply(cluster, incr), "NUMBER");
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    EXPECT_EQ(cluster->replies[incr].number, 51); /* it was refused: not all had it */
    cluster_expect_everywhere(cluster, "n", "51");
    cluster_close(cluster);
}

TEST(read_enforced, an_answered_write_is_finished_by_the_others_when_its_node_is_gone)
{
    struct cluster *cluster = cluster_open_late(MODEL_READ_ENFORCED);
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    cluster_crash(cluster, 1);
    cluster_install_all(cluster, 2, 6, 0);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_get(cluster, 2, "k"), "...");
    cluster_durable(cluster, 2);
    cluster_durable(cluster, 3);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_get(cluster, 2, "k"), "v");
    EXPECT_TEXT(cluster_get(cluster, 3, "k"), "v");
    cluster_close(cluster);
}

TEST(stall, who_waits_for_the_medium_is_told_that_the_outcome_is_unknown)
{
    struct cluster *cluster = cluster_open_late(MODEL_STRICT);
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    unsigned waiting = cluster_request(cluster, 1, REQUEST_PERSIST, "", NULL);
    cluster_stalled(cluster, 1);
    EXPECT_TEXT(cluster_reply(cluster, set), "UNKNOWN");
    EXPECT_TEXT(cluster_reply(cluster, waiting), "REFUSED");
    cluster_durable_everywhere(cluster);
    cluster_expect_everywhere(cluster, "k", "v");
    cluster_close(cluster);
}

/* ---- views, channels, questions ---- */

/* Node 2 has it in view 1, node 3 in view 2: that is not enough, of neither kind. */
TEST(views, what_was_taken_in_an_older_one_does_not_count)
{
    static const enum model models[] = {MODEL_STRICT, MODEL_READ_ENFORCED, MODEL_EVENTUAL};
    for (unsigned i = 0; i < 3; i++) {
        struct cluster *cluster = cluster_open_model(models[i]);
        unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
        EXPECT(cluster_deliver(cluster, 1, 2));
        while (cluster_deliver(cluster, 2, 1))
            ;
        cluster_install_all(cluster, 2, 7, 0);
        while (cluster_deliver(cluster, 1, 3))
            ;
        while (cluster_deliver(cluster, 3, 1))
            ;
        EXPECT_TEXT(cluster_reply(cluster, set), "...");
        EXPECT_TEXT(cluster_get(cluster, 1, "k"), "...");
        cluster_settle(cluster);
        EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
        cluster_close(cluster);
    }
}

TEST(views, a_healing_node_is_waited_for)
{
    static const enum model models[] = {MODEL_STRICT, MODEL_READ_ENFORCED, MODEL_EVENTUAL};
    for (unsigned i = 0; i < 3; i++) {
        struct cluster *cluster = cluster_open_model(models[i]);
        cluster_crash(cluster, 3);
        cluster_install_all(cluster, 2, 3, 0);
        cluster_settle(cluster);
        cluster_restart(cluster, 3);
        cluster_install_all(cluster, 3, 3, 4);
        unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
        while (cluster_deliver(cluster, 1, 2) || cluster_deliver(cluster, 2, 1))
            ;
        EXPECT_TEXT(cluster_reply(cluster, set), "...");
        EXPECT_TEXT(cluster_get(cluster, 2, "k"), "...");
        cluster_settle(cluster);
        EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
        EXPECT_TEXT(cluster_get(cluster, 2, "k"), "v");
        cluster_close(cluster);
    }
}

TEST(channel, what_it_loses_is_said_again)
{
    static const enum model models[] = {MODEL_STRICT, MODEL_READ_ENFORCED, MODEL_EVENTUAL};
    for (unsigned i = 0; i < 9; i++) {
        struct cluster *cluster = cluster_open_model(models[i / 3]);
        unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
        /* its INV is lost; TAKEN, and ACK; or ACK alone */
        for (unsigned moved = 0; moved < i % 3; moved++)
            EXPECT(moved == 0 ? cluster_deliver(cluster, 1, 2) : cluster_deliver(cluster, 2, 1));
        cluster_lose(cluster, 1, 2);
        cluster_up(cluster, 1, 2);
        cluster_settle(cluster);
        EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
        cluster_expect_everywhere(cluster, "k", "v");
        cluster_close(cluster);
    }
}

/* It has the value, and its client waits for the medium: who asks about it may read it. */
TEST(strict, a_lost_val_is_found_before_the_write_is_durable)
{
    struct cluster *cluster = cluster_open_late(MODEL_STRICT);
    unsigned set = cluster_request(cluster, 1, REQUEST_SET, "k", "v");
    EXPECT(cluster_deliver(cluster, 1, 2));
    EXPECT(cluster_deliver(cluster, 1, 3));
    EXPECT(cluster_deliver(cluster, 2, 1));
    EXPECT(cluster_deliver(cluster, 3, 1));
    cluster_lose(cluster, 1, 3); /* its VAL */
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_get(cluster, 3, "k"), "...");
    for (unsigned i = 0; i < 40; i++) {
        cluster_tick(cluster, 10000);
        cluster_settle(cluster);
    }
    EXPECT_TEXT(cluster_get(cluster, 3, "k"), "v");
    EXPECT_TEXT(cluster_reply(cluster, set), "...");
    cluster_close(cluster);
}

/* The miss is answered when all have the delete; the next write waits until that is durable. */
TEST(strict, expiry_is_over_for_readers_before_it_is_durable)
{
    struct cluster *cluster = cluster_open_late(MODEL_STRICT);
    struct request set = {
        .type = REQUEST_SET, .key = slice_text("k"), .value = slice_text("v"), .exptime = 1001};
    cluster_request_full(cluster, 1, &set);
    cluster_settle(cluster);
    cluster_durable_everywhere(cluster);
    cluster->wall_us = 1001000000;
    unsigned get = cluster_request(cluster, 2, REQUEST_GET, "k", NULL);
    unsigned add = cluster_request(cluster, 2, REQUEST_ADD, "k", "w");
    EXPECT_TEXT(cluster_reply(cluster, get), "...");
    cluster_settle(cluster);
    EXPECT_TEXT(cluster_reply(cluster, get), "MISS");
    EXPECT_TEXT(cluster_reply(cluster, add), "...");
    cluster_durable_everywhere(cluster);
    cluster_durable_everywhere(cluster);
    EXPECT_TEXT(cluster_reply(cluster, add), "STORED");
    cluster_expect_everywhere(cluster, "k", "w");
    cluster_close(cluster);
}

/* ---- rounds ---- */

static uint64_t mark_of(struct cluster *cluster, unsigned node)
{
    struct mark mark = {0};
    (void)store_mark_last(cluster->stores[node], &mark);
    return mark.lsn;
}

/* When node 2 marks for a round it has a record that node 3 has only behind its mark, and may lose:
 * to a crash where a record is VALID before it is durable everywhere, to damage that looks like a
 * torn tail in all models. */
TEST(rounds, the_mark_is_that_of_the_round_before_where_a_valid_record_may_be_lost_elsewhere)
{
    for (enum model model = MODEL_SYNCH; model < MODEL_COUNT; model++) {
        struct cluster *cluster = cluster_open_model(model);
        cluster_request(cluster, 2, REQUEST_SET, "k", "v");
        cluster_settle(cluster);
        uint64_t tail = log_tail(store_log(cluster->stores[2]));
        cluster_tick(cluster, 100000);
        cluster_settle(cluster);
        EXPECT(mark_of(cluster, 2) < tail);
        cluster_tick(cluster, 100000);
        cluster_settle(cluster);
        EXPECT_EQ(mark_of(cluster, 2), tail); /* though nothing was written since */
        tail = log_tail(store_log(cluster->stores[2]));
        cluster_tick(cluster, 100000);
        cluster_settle(cluster);
        /* and that is all there is to say */
        EXPECT_EQ(log_tail(store_log(cluster->stores[2])), tail);
        cluster_close(cluster);
    }
}

/* ---- cold start ---- */

/* Node 3 alone still has what was answered: nobody may be told the old value meanwhile, or it would
 * come back later. */
TEST(cold, nobody_serves_before_all_agree_on_what_is_left)
{
    struct cluster *cluster = cluster_open_model(MODEL_EVENTUAL);
    cluster_request(cluster, 1, REQUEST_SET, "k", "old");
    cluster_settle(cluster);
    for (unsigned i = 0; i < 3; i++) {
        cluster_tick(cluster, 100000);
        cluster_settle(cluster);
    }
    /* as if it had lost power, and its log's end: it never gets the new value */
    cluster_crash(cluster, 1);
    cluster_crash(cluster, 2);
    cluster_install(cluster, 3, 2, 4, 0);
    unsigned set = cluster_request(cluster, 3, REQUEST_SET, "k", "new");
    EXPECT_TEXT(cluster_reply(cluster, set), "STORED");
    cluster_crash(cluster, 3);
    for (unsigned node = 1; node <= CLUSTER_NODES; node++)
        cluster_restart(cluster, node);
    cluster_install_all(cluster, 3, 7, 0);
    unsigned get = cluster_request(cluster, 1, REQUEST_GET, "k", NULL);
    EXPECT_TEXT(cluster_reply(cluster, get), "...");
    cluster_tick(cluster, 10000);
    cluster_settle(cluster);
    cluster_tick(cluster, 10000);
    cluster_settle(cluster);
    EXPECT_TEXT(cluster->replies[get].value, "new");
    cluster_close(cluster);
}
