/* Goal: the persistency models (replica/model.def): who says what, in which order, and what is answered and readable when; and
 * what persist waits for. Method: three real shards whose messages and drains the test moves by hand. */
#include "t/cluster.h"

static const char *reply_of(const struct cluster *cluster, unsigned index)
{
    return cluster->replies[index].done ? outcome_text(cluster->replies[index].outcome) : "...";
}

static unsigned persist(struct cluster *cluster, unsigned node)
{
    return cluster_request(cluster, node, REQUEST_PERSIST, "", NULL);
}

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

/* ---- persist ---- */

TEST(persist, is_answered_when_its_round_is_stable)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 2, REQUEST_SET, "k", "v");
    cluster_settle(cluster);
    cluster->drains_late = true;
    unsigned index = persist(cluster, 2);
    EXPECT(cluster_deliver(cluster, 2, 1)); /* ROUND_WANTED */
    EXPECT(cluster_deliver(cluster, 1, 2)); /* ROUND_START */
    EXPECT(cluster_deliver(cluster, 2, 1)); /* ROUND_DONE */
    EXPECT(cluster_deliver(cluster, 1, 3));
    EXPECT_TEXT(reply_of(cluster, index), "...");
    EXPECT(cluster_deliver(cluster, 3, 1));
    EXPECT_TEXT(reply_of(cluster, index), "...");
    EXPECT(cluster_deliver(cluster, 1, 2)); /* ROUND_STABLE */
    EXPECT_TEXT(reply_of(cluster, index), "OK");
    cluster_close(cluster);
}
