/* Goal: pieces of a large value stay while anything can need them, and go when nothing ever will.
 * Method: three real shards (t/cluster.h); pieces and manifests are written as the server does it.
 */
#include "base/hash.h"
#include "base/ts.h"
#include "recovery/collect.h"
#include "t/cluster.h"

enum { SECOND_US = 1000000, SIZE = PIECE_SIZE + 1 };

static uint64_t upload_of(unsigned node, unsigned number)
{
    return ts_make(number, node, 1);
}

static unsigned put_piece(struct cluster *cluster, unsigned node, uint64_t upload, uint32_t number)
{
    static uint8_t key[8][PIECE_KEY_SIZE];
    static uint8_t value[] = {3, 'b', 'i', 'g', 'x'};
    static unsigned used;
    uint8_t *bytes = key[used++ % 8];
    piece_key(upload, number, bytes);
    struct request request = {.type = REQUEST_SET,
                              .key = slice_make(bytes, PIECE_KEY_SIZE),
                              .value = slice_make(value, sizeof(value))};
    request.hash = hash_key(request.key);
    return cluster_request_full(cluster, node, &request);
}

static void put_pieces(struct cluster *cluster, unsigned node, uint64_t upload)
{
    put_piece(cluster, node, upload, 0);
    put_piece(cluster, node, upload, 1);
    cluster_settle(cluster);
}

static unsigned put_manifest_of(struct cluster *cluster, unsigned node, uint64_t upload,
                                uint64_t size)
{
    static struct manifest manifest;
    manifest = (struct manifest){.upload = upload, .size = size};
    struct request request = {.type = REQUEST_SET,
                              .large = true,
                              .key = slice_text("big"),
                              .hash = hash_key(slice_text("big")),
                              .value = slice_make(&manifest, sizeof(manifest))};
    unsigned reply = cluster_request_full(cluster, node, &request);
    cluster_settle(cluster);
    return reply;
}

static unsigned put_manifest(struct cluster *cluster, unsigned node, uint64_t upload)
{
    return put_manifest_of(cluster, node, upload, SIZE);
}

static uint64_t pieces(const struct cluster *cluster, unsigned node)
{
    struct store_stats stats;
    store_stats(cluster->stores[node], &stats);
    return stats.piece_count;
}

/* Long enough for rounds, the grace and a walk. */
static void wait_long(struct cluster *cluster)
{
    for (int i = 0; i < 60; i++) {
        cluster_tick(cluster, SECOND_US / 2);
        cluster_settle(cluster);
    }
}

static void uploads_are_over(struct cluster *cluster)
{
    for (unsigned node = 1; node <= CLUSTER_NODES; node++)
        if (cluster->shards[node] != NULL)
            shard_set_upload_floor(cluster->shards[node], UINT64_MAX);
}

TEST(collect, pieces_of_the_current_value_stay)
{
    struct cluster *cluster = cluster_open();
    uploads_are_over(cluster);
    put_pieces(cluster, 1, upload_of(1, 1));
    put_manifest(cluster, 1, upload_of(1, 1));
    wait_long(cluster);
    EXPECT_EQ(pieces(cluster, 1), 2);
    EXPECT_EQ(pieces(cluster, 3), 2);
    cluster_close(cluster);
}

TEST(collect, pieces_of_a_value_that_another_node_replaced_go_everywhere_after_a_grace)
{
    struct cluster *cluster = cluster_open();
    put_pieces(cluster, 1, upload_of(1, 1));
    put_manifest(cluster, 1, upload_of(1, 1));
    cluster_request(cluster, 2, REQUEST_SET, "big", "small");
    cluster_settle(cluster);
    cluster_tick(cluster, SECOND_US);
    cluster_settle(cluster);
    EXPECT_EQ(pieces(cluster, 1), 2); /* somebody may still be reading them */
    wait_long(cluster);
    for (unsigned node = 1; node <= CLUSTER_NODES; node++)
        EXPECT_EQ(pieces(cluster, node), 0);
    EXPECT_TEXT(cluster_get(cluster, 3, "big"), "small");
    cluster_close(cluster);
}

TEST(collect, a_touch_keeps_them)
{
    struct cluster *cluster = cluster_open();
    uploads_are_over(cluster);
    put_pieces(cluster, 1, upload_of(1, 1));
    put_manifest(cluster, 1, upload_of(1, 1));
    unsigned touch = cluster_request(cluster, 2, REQUEST_TOUCH, "big", "");
    cluster_settle(cluster);
    EXPECT_TEXT(outcome_text(cluster->replies[touch].outcome), "TOUCHED");
    wait_long(cluster);
    EXPECT_EQ(pieces(cluster, 2), 2);
    cluster_close(cluster);
}

TEST(collect, a_flush_takes_them_along)
{
    struct cluster *cluster = cluster_open();
    uploads_are_over(cluster);
    put_pieces(cluster, 1, upload_of(1, 1));
    put_manifest(cluster, 1, upload_of(1, 1));
    struct request flush = {
        .type = REQUEST_FLUSH, .key = slice_make("", 0), .hash = hash_key(slice_make("", 0))};
    cluster_request_full(cluster, 3, &flush);
    cluster_settle(cluster);
    EXPECT_EQ(pieces(cluster, 2), 2);
    wait_long(cluster);
    EXPECT_EQ(pieces(cluster, 2), 0);
    cluster_close(cluster);
}

/* Its manifest comes after the flush: the value is there. */
TEST(collect, a_flush_in_the_middle_of_an_upload_spares_its_pieces)
{
    struct cluster *cluster = cluster_open();
    put_piece(cluster, 1, upload_of(1, 1), 0);
    cluster_settle(cluster);
    struct request flush = {
        .type = REQUEST_FLUSH, .key = slice_make("", 0), .hash = hash_key(slice_make("", 0))};
    cluster_request_full(cluster, 3, &flush);
    cluster_settle(cluster);
    put_piece(cluster, 1, upload_of(1, 1), 1);
    put_manifest(cluster, 1, upload_of(1, 1));
    wait_long(cluster);
    uploads_are_over(cluster);
    wait_long(cluster);
    EXPECT_EQ(pieces(cluster, 2), 2);
    struct request get = {.type = REQUEST_GET};
    uint8_t key[PIECE_KEY_SIZE];
    piece_key(upload_of(1, 1), 0, key);
    get.key = slice_make(key, sizeof(key));
    get.hash = hash_key(get.key);
    unsigned read = cluster_request_full(cluster, 2, &get);
    EXPECT_TEXT(outcome_text(cluster->replies[read].outcome), "HIT");
    cluster_close(cluster);
}

TEST(collect, an_upload_under_way_is_left_alone_and_one_given_up_is_not)
{
    struct cluster *cluster = cluster_open();
    shard_set_upload_floor(cluster->shards[1], upload_of(1, 2));
    put_pieces(cluster, 1, upload_of(1, 1));
    put_pieces(cluster, 1, upload_of(1, 2));
    EXPECT_EQ(pieces(cluster, 3), 4);
    wait_long(cluster);
    EXPECT_EQ(pieces(cluster, 3), 2);
    put_manifest(cluster, 1, upload_of(1, 2));
    uploads_are_over(cluster);
    wait_long(cluster);
    EXPECT_EQ(pieces(cluster, 3), 2);
    cluster_close(cluster);
}

TEST(collect, the_lowest_member_takes_what_a_departed_uploader_left)
{
    struct cluster *cluster = cluster_open();
    put_pieces(cluster, 3, upload_of(3, 1));
    wait_long(cluster);
    EXPECT_EQ(pieces(cluster, 1), 2);
    cluster_crash(cluster, 3);
    cluster_install_all(cluster, 2, 3, 0);
    cluster_settle(cluster);
    wait_long(cluster);
    EXPECT_EQ(pieces(cluster, 1), 0);
    EXPECT_EQ(pieces(cluster, 2), 0);
    cluster_close(cluster);
}

/* Node 3 has written pieces, and time enough has passed for all but the rules. */
static struct cluster *open_with_pieces_of_node_3(void)
{
    struct cluster *cluster = cluster_open();
    put_pieces(cluster, 3, upload_of(3, 1));
    for (int i = 0; i < 20; i++) {
        cluster_tick(cluster, SECOND_US);
        cluster_settle(cluster);
    }
    return cluster;
}

/* Node 3 sends the manifest, which reaches node 2 only, and is gone. */
static void leave_manifest_at_node_2(struct cluster *cluster)
{
    static struct manifest manifest;
    manifest = (struct manifest){.upload = upload_of(3, 1), .size = SIZE};
    struct request set = {.type = REQUEST_SET,
                          .large = true,
                          .key = slice_text("big"),
                          .hash = hash_key(slice_text("big")),
                          .value = slice_make(&manifest, sizeof(manifest))};
    cluster_request_full(cluster, 3, &set);
    EXPECT(cluster_deliver(cluster, 3, 2));
    cluster_lose(cluster, 3, 1);
    cluster_lose(cluster, 3, 2);
    cluster_crash(cluster, 3);
}

/* Node 1 has looked around, again and again, before node 2 has said anything in the new view. */
static void expect_that_the_replay_finds_its_pieces(struct cluster *cluster)
{
    for (unsigned i = 0; i < 4; i++)
        cluster_tick(cluster, 15 * SECOND_US);
    cluster_install(cluster, 2, 2, 3, 0);
    cluster_settle(cluster);
    wait_long(cluster);
    EXPECT_EQ(pieces(cluster, 1), 2);
    EXPECT_EQ(pieces(cluster, 2), 2);
}

/* Until the replay at node 2 is through, node 1 must not judge. */
TEST(collect, a_manifest_that_a_replay_will_bring_counts)
{
    struct cluster *cluster = open_with_pieces_of_node_3();
    leave_manifest_at_node_2(cluster);
    cluster_install(cluster, 1, 2, 3, 0);
    expect_that_the_replay_finds_its_pieces(cluster);
    cluster_close(cluster);
}

/* Node 2 was done when it did not know the manifest yet. Counted in the next view, that would prove
 * what is no longer so. */
TEST(collect, a_node_that_was_done_in_an_older_view_has_to_be_done_again)
{
    struct cluster *cluster = open_with_pieces_of_node_3();
    cluster_tick(cluster, SECOND_US);
    cluster_settle(cluster); /* the round after this one makes what was written before it stable */
    cluster_tick(cluster, SECOND_US);
    while (cluster_deliver(cluster, 1, 2))
        ; /* ROUND_START among them; the answer is on its way */
    leave_manifest_at_node_2(cluster);
    cluster_install(cluster, 1, 2, 3, 0);
    EXPECT(cluster_deliver(cluster, 2, 1));
    while (cluster_deliver(cluster, 2, 1))
        ;
    expect_that_the_replay_finds_its_pieces(cluster);
    cluster_close(cluster);
}

/* Node 3 was removed in the middle of an upload, and is a member again before the upload goes on.
 * Meanwhile the others had every reason to collect what it had stored. */
TEST(collect, an_upload_ends_when_its_node_is_removed)
{
    struct cluster *cluster = cluster_open();
    put_pieces(cluster, 3, upload_of(3, 1));
    cluster_removed(cluster, 3);
    cluster_install_all(cluster, 2, 3, 4);
    cluster_settle(cluster);
    wait_long(cluster);
    EXPECT_EQ(pieces(cluster, 1), 0);
    cluster_install_all(cluster, 3, 7, 0);
    cluster_settle(cluster);
    unsigned piece = put_piece(cluster, 3, upload_of(3, 1), 2);
    unsigned manifest = put_manifest(cluster, 3, upload_of(3, 1));
    EXPECT_TEXT(outcome_text(cluster->replies[piece].outcome), "REFUSED");
    EXPECT_TEXT(outcome_text(cluster->replies[manifest].outcome), "REFUSED");
    EXPECT_TEXT(cluster_get(cluster, 1, "big"), "-");
    cluster_close(cluster);
}

/* It has not begun another one since, and its wall clock may say anything. */
TEST(collect, a_node_that_is_back_takes_what_it_left_itself)
{
    struct cluster *cluster = cluster_open();
    put_pieces(cluster, 3, upload_of(3, 1));
    cluster_crash(cluster, 3);
    cluster_restart(cluster, 3);
    cluster_install_all(cluster, 2, 3, 4);
    cluster_settle(cluster);
    cluster_install_all(cluster, 3, 7, 0);
    cluster_settle(cluster);
    EXPECT_EQ(pieces(cluster, 3), 2);
    wait_long(cluster);
    EXPECT_EQ(pieces(cluster, 1), 0);
    EXPECT_EQ(pieces(cluster, 3), 0);
    cluster_close(cluster);
}

/* Just before one, or just behind one. */
static void come_to_a_walk(struct cluster *cluster)
{
    for (unsigned tick = 0; tick < 19; tick++) {
        cluster_tick(cluster, SECOND_US / 2);
        cluster_settle(cluster);
    }
}

static void expect_that_they_go_after_a_grace(struct cluster *cluster)
{
    unsigned ticks = 0;
    while (pieces(cluster, 1) == 2 && ticks < 100) {
        cluster_tick(cluster, SECOND_US / 2);
        cluster_settle(cluster);
        ticks++;
    }
    EXPECT(ticks >= 10);
    EXPECT(ticks < 100);
}

/* A delete has a version next to that of the value that it removes: the clock would say that it is
 * long ago. Node 2 has deleted the value and is gone; so it is node 1 that has to know how long
 * readers have had. */
TEST(collect, readers_have_their_time_after_a_delete_of_an_old_value)
{
    struct cluster *cluster = cluster_open();
    put_pieces(cluster, 1, upload_of(1, 1));
    put_manifest(cluster, 1, upload_of(1, 1));
    wait_long(cluster);
    uploads_are_over(cluster);
    come_to_a_walk(cluster);
    cluster_request(cluster, 2, REQUEST_DELETE, "big", NULL);
    cluster_settle(cluster);
    cluster_crash(cluster, 2);
    cluster_install_all(cluster, 2, 5, 0);
    cluster_settle(cluster);
    expect_that_they_go_after_a_grace(cluster);
    cluster_close(cluster);
}

/* Its tombstone may be forgotten: then nothing says when it went. Pieces of an upload that is over
 * and that no record of the key tells of are the same case. */
TEST(collect, readers_have_their_time_when_nothing_says_how_long_it_was)
{
    struct cluster *cluster = cluster_open();
    put_pieces(cluster, 1, upload_of(1, 1));
    wait_long(cluster);
    come_to_a_walk(cluster);
    uploads_are_over(cluster);
    expect_that_they_go_after_a_grace(cluster);
    cluster_close(cluster);
}

TEST(collect, an_append_to_a_large_value_is_left_to_the_server)
{
    struct cluster *cluster = cluster_open();
    put_manifest_of(cluster, 1, upload_of(1, 1), 100);
    unsigned append = cluster_request(cluster, 2, REQUEST_APPEND, "big", "x");
    unsigned incr = cluster_request(cluster, 2, REQUEST_INCR, "big", "");
    cluster_settle(cluster);
    EXPECT_TEXT(outcome_text(cluster->replies[append].outcome), "LARGE");
    EXPECT_TEXT(outcome_text(cluster->replies[incr].outcome), "NON_NUMERIC");
    cluster_close(cluster);
}

/* Put behind a small value the manifest would be neither a value nor a manifest. */
TEST(collect, an_append_whose_own_bytes_lie_in_pieces_is_left_to_the_server)
{
    static const enum request_type types[] = {REQUEST_APPEND, REQUEST_PREPEND};
    struct manifest manifest = {.upload = upload_of(1, 1), .size = 1000};
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, "small", "v");
    cluster_settle(cluster);
    for (int i = 0; i < 2; i++) {
        struct request request = {.type = types[i],
                                  .large = true,
                                  .key = slice_text("small"),
                                  .hash = hash_key(slice_text("small")),
                                  .value = slice_make(&manifest, sizeof(manifest))};
        unsigned number = cluster_request_full(cluster, 1, &request);
        cluster_settle(cluster);
        EXPECT_TEXT(outcome_text(cluster->replies[number].outcome), "LARGE");
    }
    cluster_close(cluster);
}

/* What the server makes of an append replaces the value that it was made from, and no other; flags
 * and time stay. */
TEST(collect, a_whole_result_replaces_the_value_it_was_made_from)
{
    struct cluster *cluster = cluster_open();
    put_manifest_of(cluster, 1, upload_of(1, 1), SIZE);
    unsigned touch = cluster_request(cluster, 2, REQUEST_TOUCH, "big", "");
    cluster_settle(cluster);
    EXPECT_TEXT(outcome_text(cluster->replies[touch].outcome), "TOUCHED");
    unsigned read = cluster_request(cluster, 2, REQUEST_GET, "big", "");
    struct manifest manifest = {.upload = upload_of(2, 2), .size = 2 * SIZE};
    struct request whole = {.type = REQUEST_APPEND,
                            .large = true,
                            .whole = true,
                            .compare = true,
                            .cas = cluster->replies[read].cas + 1,
                            .key = slice_text("big"),
                            .hash = hash_key(slice_text("big")),
                            .value = slice_make(&manifest, sizeof(manifest))};
    unsigned refused = cluster_request_full(cluster, 2, &whole);
    whole.cas = cluster->replies[read].cas;
    unsigned stored = cluster_request_full(cluster, 2, &whole);
    cluster_settle(cluster);
    EXPECT_TEXT(outcome_text(cluster->replies[refused].outcome), "EXISTS");
    EXPECT_TEXT(outcome_text(cluster->replies[stored].outcome), "STORED");
    cluster_close(cluster);
}

/* The others may have taken its pieces for orphans while it was away. */
TEST(collect, an_upload_that_a_removal_interrupted_is_refused)
{
    struct cluster *cluster = cluster_open();
    struct manifest manifest = {.upload = ts_make(1, 1, 0), .size = SIZE};
    struct request set = {.type = REQUEST_SET,
                          .large = true,
                          .key = slice_text("big"),
                          .hash = hash_key(slice_text("big")),
                          .value = slice_make(&manifest, sizeof(manifest))};
    unsigned refused = cluster_request_full(cluster, 1, &set);
    cluster_settle(cluster);
    EXPECT_TEXT(outcome_text(cluster->replies[refused].outcome), "REFUSED");
    manifest.upload = upload_of(1, 1);
    unsigned stored = cluster_request_full(cluster, 1, &set);
    cluster_settle(cluster);
    EXPECT_TEXT(outcome_text(cluster->replies[stored].outcome), "STORED");
    cluster_close(cluster);
}
