/* What cleaning costs: bytes that it copies for each byte that is put, by policy, load and how full
 * the store is; and what that does to a turn of 16 puts, in processor time: other processes may be
 * at work here. In this process, in memory.
 *
 *     uniform_85_greedy 3.10 copied/put        one line for scripts each, then a table
 *
 * Usage: bench/clean [LOG_MB]; 64 if not given, in segments of 256 KB */
#include <math.h>
#include <string.h>

#include "base/prng.h"
#include "bench/histogram.h"
#include "bench/shelf.h"

enum { SEGMENT_SIZE = 1 << 18, VALUE_SIZE = 200, WARM_ROUNDS = 4, ROUNDS = 3 };

static const char *const policy_names[] = {"two-tails", "one-tail", "greedy"};
static const unsigned fills[] = {70, 85, 90};

/* Keys drawn as often as by Zipf's law with exponent 0.99, the popular ones anywhere. */
struct popularity {
    double *sums; /* NULL: uniform */
    uint32_t count;
};

static void popularity_make(struct popularity *popularity, uint32_t count, bool zipf)
{
    *popularity = (struct popularity){.count = count};
    if (!zipf)
        return;
    popularity->sums = calloc(count, sizeof(double));
    shelf_must(popularity->sums != NULL, "no memory");
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        popularity->sums[i] = sum += 1 / pow(i + 1, 0.99);
}

static uint64_t scatter(uint64_t rank, uint64_t count)
{
    return rank * 2654435761u % count;
}

static uint64_t popularity_draw(const struct popularity *popularity, struct prng *prng)
{
    if (popularity->sums == NULL)
        return prng_below(prng, popularity->count);
    double at = (double)(prng_next(prng) >> 11) / 9007199254740992.0 *
                popularity->sums[popularity->count - 1];
    uint32_t low = 0, high = popularity->count - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (popularity->sums[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return scatter(low, popularity->count);
}

/* As a client: refused for now, again in the next turn. */
static void put_patiently(struct shelf *shelf, uint64_t key)
{
    for (unsigned i = 0; i < 100000; i++) {
        enum status status = shelf_put(shelf, key, VALUE_SIZE);
        if (status == STATUS_OK)
            return;
        shelf_must(status == STATUS_BUSY, "the store is full");
        shelf_turn(shelf);
    }
    shelf_must(false, "the store stays busy");
}

/* Fills the store to `percent` of the space that records may take, apart from what is kept free. */
static uint32_t fill(struct shelf *shelf, unsigned percent)
{
    struct store_stats stats;
    store_stats(shelf->store, &stats);
    uint64_t size = record_size_of(SHELF_KEY_SIZE, VALUE_SIZE, 0);
    uint32_t count = (uint32_t)(stats.log_bytes / 100 * percent / size);
    for (uint32_t i = 0; i < count; i++) {
        put_patiently(shelf, i);
        if (i % SHELF_TURN == 0)
            shelf_turn(shelf);
    }
    return count;
}

static void overwrite(struct shelf *shelf, const struct popularity *popularity, struct prng *prng,
                      uint64_t bytes, struct histogram *histogram)
{
    uint64_t size = record_size_of(SHELF_KEY_SIZE, VALUE_SIZE, 0), turn_ns = 0;
    for (uint64_t i = 0; i < bytes / size; i++) {
        uint64_t key = popularity_draw(popularity, prng), began = shelf_cpu_ns();
        put_patiently(shelf, key);
        if (i % SHELF_TURN == 0)
            shelf_turn(shelf);
        /* Who comes in the same turn waits for its cleaning, too. */
        turn_ns = i % SHELF_TURN == 0 ? 0 : turn_ns;
        turn_ns += shelf_cpu_ns() - began;
        if (i % SHELF_TURN == SHELF_TURN - 1)
            histogram_add(histogram, turn_ns);
    }
}

static double measure(enum clean_policy policy, bool zipf, unsigned percent, uint64_t log_bytes,
                      struct histogram *histogram)
{
    struct shelf shelf;
    struct popularity popularity;
    struct prng prng = {.state = 1};
    struct store_stats before, after;
    static struct histogram warm;
    shelf_open(&shelf, (uint32_t)(log_bytes / SEGMENT_SIZE), SEGMENT_SIZE);
    shelf.store->policy = policy;
    popularity_make(&popularity, fill(&shelf, percent), zipf);
    overwrite(&shelf, &popularity, &prng, WARM_ROUNDS * log_bytes, &warm);
    store_stats(shelf.store, &before);
    uint64_t appended = shelf.store->appended;
    overwrite(&shelf, &popularity, &prng, ROUNDS * log_bytes, histogram);
    store_stats(shelf.store, &after);
    appended = shelf.store->appended - appended;
    free(popularity.sums);
    shelf_close(&shelf);
    return (double)(after.cleaned_bytes - before.cleaned_bytes) / (double)appended;
}

int main(int count, char **words)
{
    uint64_t log_bytes = (count > 1 ? strtoull(words[1], NULL, 10) : 64) << 20;
    static struct histogram histogram;
    for (unsigned zipf = 0; zipf < 2; zipf++) {
        const char *load = zipf ? "zipf" : "uniform";
        for (unsigned i = 0; i < sizeof(fills) / sizeof(fills[0]); i++) {
            double copied[3];
            for (unsigned policy = 0; policy < 3; policy++) {
                memset(&histogram, 0, sizeof(histogram));
                copied[policy] =
                    measure((enum clean_policy)policy, zipf, fills[i], log_bytes, &histogram);
                printf("%s_%u_%s %.3f copied/put\n", load, fills[i], policy_names[policy],
                       copied[policy]);
                printf("%s_%u_%s_turn p50 %.1f p99 %.1f p99.9 %.1f max %.1f us\n", load, fills[i],
                       policy_names[policy], (double)histogram_quantile(&histogram, 0.5) / 1e3,
                       (double)histogram_quantile(&histogram, 0.99) / 1e3,
                       (double)histogram_quantile(&histogram, 0.999) / 1e3,
                       (double)histogram.max_ns / 1e3);
                fflush(stdout);
            }
            printf("%s_%u_ratio %.3f two-tails/greedy\n", load, fills[i], copied[0] / copied[2]);
        }
    }
    return 0;
}
