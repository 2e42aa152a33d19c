/* Goal: a thread that is not the owner answers a read only where nothing is in doubt; in each other
 * case it says so. Method: three real shards whose channels the test moves by hand. The test is
 * that thread: it begins, lets the owner go on, and ends. */
#include "base/hash.h"
#include "t/cluster.h"

enum { NODE = 2 };

static uint32_t now_of(const struct cluster *cluster)
{
    return (uint32_t)(cluster->wall_us / 1000000);
}

static struct request ask(const char *key, enum request_type type)
{
    struct slice name = slice_text(key);
    return (struct request){.type = type, .key = name, .hash = hash_key(name)};
}

static bool begin(const struct cluster *cluster, struct request *request, struct reading *reading)
{
    return shard_read_begin_any(cluster->shards[NODE], request, now_of(cluster), reading);
}

static bool end(const struct cluster *cluster, struct request *request,
                const struct reading *reading)
{
    return shard_read_end_any(cluster->shards[NODE], request, now_of(cluster), reading);
}

/* The value that is read in one go; "-": the owner has to be asked. */
static const char *read_of(const struct cluster *cluster, struct request request)
{
    static char text[64];
    struct reading reading;
    if (!begin(cluster, &request, &reading) || !end(cluster, &request, &reading))
        return "-";
    struct slice value = record_value(reading.found.record);
    EXPECT(value.size < sizeof(text));
    memcpy(text, value.data, value.size);
    text[value.size] = 0;
    return text;
}

static struct cluster *with_value(const char *key, const char *value)
{
    struct cluster *cluster = cluster_open();
    cluster_request(cluster, 1, REQUEST_SET, key, value);
    cluster_settle(cluster);
    return cluster;
}

TEST(read_any, a_value_that_is_complete_is_read)
{
    struct cluster *cluster = with_value("k", "v");
    EXPECT_TEXT(read_of(cluster, ask("k", REQUEST_GET)), "v");
    EXPECT_TEXT(read_of(cluster, ask("k", REQUEST_FETCH)), "v");
    cluster_close(cluster);
}

/* Nothing is concluded from absence: entries move while the owner works. */
TEST(read_any, what_is_absent_deleted_or_under_way_is_asked_for)
{
    struct cluster *cluster = with_value("k", "v");
    EXPECT_TEXT(read_of(cluster, ask("other", REQUEST_GET)), "-");
    cluster_request(cluster, 1, REQUEST_SET, "k", "new");
    EXPECT(cluster_deliver(cluster, 1, NODE));
    EXPECT_TEXT(read_of(cluster, ask("k", REQUEST_GET)), "-");
    cluster_settle(cluster);
    EXPECT_TEXT(read_of(cluster, ask("k", REQUEST_GET)), "new");
    cluster_request(cluster, 3, REQUEST_DELETE, "k", "");
    cluster_settle(cluster);
    EXPECT_TEXT(read_of(cluster, ask("k", REQUEST_GET)), "-");
    cluster_close(cluster);
}

TEST(read_any, commands_that_may_write_are_the_owners)
{
    struct cluster *cluster = with_value("k", "v");
    struct request request = ask("k", REQUEST_FETCH);
    for (unsigned option = 1; option < 256; option <<= 1) {
        bool plain = option == REQUEST_KEY_BASE64 || option == REQUEST_UNNOTICED;
        request.options = (uint8_t)option;
        EXPECT_TEXT(read_of(cluster, request), plain ? "v" : "-");
    }
    EXPECT_TEXT(read_of(cluster, ask("k", REQUEST_SET)), "-");
    EXPECT_TEXT(read_of(cluster, ask("k", REQUEST_GAT)), "-");
    EXPECT_TEXT(read_of(cluster, ask("k", REQUEST_INCR)), "-");
    cluster_close(cluster);
}

TEST(read_any, a_record_past_its_time_is_the_owners)
{
    struct cluster *cluster = cluster_open();
    struct request set = ask("k", REQUEST_SET);
    set.value = slice_text("v");
    set.exptime = now_of(cluster) + 2;
    cluster_request_full(cluster, 1, &set);
    cluster_settle(cluster);
    EXPECT_TEXT(read_of(cluster, ask("k", REQUEST_GET)), "v");
    cluster->wall_us += 1000000;
    EXPECT_TEXT(read_of(cluster, ask("k", REQUEST_GET)), "v");
    cluster->wall_us += 1000000;
    EXPECT_TEXT(read_of(cluster, ask("k", REQUEST_GET)), "-");
    cluster_close(cluster);
}

static void flush(struct cluster *cluster, unsigned node)
{
    const struct request request = {
        .type = REQUEST_FLUSH, .key = slice_text(""), .hash = hash_key(slice_text(""))};
    cluster_request_full(cluster, node, &request);
}

/* From the moment at which the flush is known here, and for those who began before, too. */
TEST(read_any, a_flush_counts_as_soon_as_it_is_known)
{
    struct cluster *cluster = with_value("k", "v");
    struct request request = ask("k", REQUEST_GET);
    struct reading reading;
    ASSERT(begin(cluster, &request, &reading));
    flush(cluster, 1);
    ASSERT(begin(cluster, &request, &reading));
    EXPECT(cluster_deliver(cluster, 1, NODE));
    EXPECT(!end(cluster, &request, &reading));
    EXPECT_TEXT(read_of(cluster, request), "-");
    cluster_settle(cluster);
    EXPECT_TEXT(read_of(cluster, request), "-");
    cluster_request(cluster, 1, REQUEST_SET, "k", "later");
    cluster_settle(cluster);
    EXPECT_TEXT(read_of(cluster, request), "later");
    cluster_close(cluster);
}

/* Its lease may hold again when it goes on: only the epoch tells. */
TEST(read_any, who_began_in_another_epoch_has_read_nothing)
{
    struct cluster *cluster = with_value("k", "v");
    struct request request = ask("k", REQUEST_GET);
    struct reading reading;
    ASSERT(begin(cluster, &request, &reading));
    cluster_removed(cluster, NODE);
    EXPECT(!end(cluster, &request, &reading));
    cluster_close(cluster);
}

TEST(read_any, a_node_that_is_no_member_reads_nothing)
{
    struct cluster *cluster = with_value("k", "v");
    cluster_removed(cluster, NODE);
    EXPECT_TEXT(read_of(cluster, ask("k", REQUEST_GET)), "-");
    cluster_install_all(cluster, 2, 5, 2);
    EXPECT_TEXT(read_of(cluster, ask("k", REQUEST_GET)), "-");
    cluster_close(cluster);
}

TEST(read_any, a_new_view_is_another_epoch_and_serves)
{
    struct cluster *cluster = with_value("k", "v");
    struct request request = ask("k", REQUEST_GET);
    struct reading reading;
    ASSERT(begin(cluster, &request, &reading));
    cluster_install_all(cluster, 2, 3, 0);
    EXPECT(!end(cluster, &request, &reading));
    cluster_settle(cluster);
    EXPECT_TEXT(read_of(cluster, request), "v");
    cluster_close(cluster);
}

/* As by the owner: `mg k h l t` tells of the reads before this one. */
TEST(read_any, is_noted_and_told_as_by_the_owner)
{
    struct cluster *cluster = with_value("k", "v");
    struct request request = ask("k", REQUEST_FETCH);
    struct reading reading;
    request.options = REQUEST_UNNOTICED;
    for (unsigned i = 0; i < 2; i++) {
        ASSERT(begin(cluster, &request, &reading));
        ASSERT(end(cluster, &request, &reading));
        EXPECT(!request.seen.fetched);
    }
    request.options = 0;
    ASSERT(begin(cluster, &request, &reading));
    ASSERT(end(cluster, &request, &reading));
    EXPECT(!request.seen.fetched);
    EXPECT_EQ(request.seen.value_size, 1);
    cluster->wall_us += 5000000;
    uint32_t before = request.seen.access_at;
    ASSERT(begin(cluster, &request, &reading));
    ASSERT(end(cluster, &request, &reading));
    EXPECT(request.seen.fetched);
    EXPECT_EQ(request.seen.access_at, before);
    cluster_close(cluster);
}

/* Then the access words are another key's: who has to tell of them asks the owner, a plain get does
 * not care. */
TEST(read_any, a_record_that_was_replaced_meanwhile_is_still_the_answer_of_a_get)
{
    struct cluster *cluster = with_value("k", "v");
    struct request get = ask("k", REQUEST_GET), fetch = ask("k", REQUEST_FETCH);
    struct reading first, second;
    ASSERT(begin(cluster, &get, &first));
    ASSERT(begin(cluster, &fetch, &second));
    cluster_request(cluster, 1, REQUEST_SET, "k", "new");
    cluster_settle(cluster);
    EXPECT(end(cluster, &get, &first));
    EXPECT(!end(cluster, &fetch, &second));
    EXPECT(slice_equal(record_value(first.found.record), slice_text("v")));
    cluster_close(cluster);
}
