#include "bench/tally.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const count_names[TALLY_COUNT] = {
    [TALLY_HIT] = "hits",        [TALLY_MISS] = "misses", [TALLY_ERROR] = "errors",
    [TALLY_UNKNOWN] = "unknown", [TALLY_WRONG] = "wrong", [TALLY_STALE] = "stale",
    [TALLY_LOST] = "lost",
};

void tally_start(struct tally *tally, uint64_t now_ns, uint64_t bucket_ns)
{
    tally_free(tally);
    memset(tally, 0, sizeof(*tally));
    tally->start_ns = tally->end_ns = now_ns;
    tally->bucket_ns = bucket_ns;
    for (unsigned i = 0; i <= SERVER_MAX; i++)
        tally->gaps[i].last_ns = now_ns;
}

void tally_free(struct tally *tally)
{
    free(tally->buckets);
    tally->buckets = NULL;
}

/* NULL: there is no timeline, or no memory for it. */
static struct bucket *bucket_at(struct tally *tally, uint64_t now_ns)
{
    if (tally->bucket_ns == 0)
        return NULL;
    uint64_t index = (now_ns - tally->start_ns) / tally->bucket_ns;
    if (index >= tally->bucket_count) {
        uint32_t count = (uint32_t)index * 2 + 64;
        struct bucket *larger = realloc(tally->buckets, count * sizeof(*larger));
        if (larger == NULL)
            return NULL;
        memset(larger + tally->bucket_count, 0, (count - tally->bucket_count) * sizeof(*larger));
        tally->buckets = larger;
        tally->bucket_count = count;
    }
    return &tally->buckets[index];
}

static void gap_end(struct gap *gap, uint64_t now_ns)
{
    if (now_ns - gap->last_ns > gap->longest_ns) {
        gap->longest_ns = now_ns - gap->last_ns;
        gap->at_ns = gap->last_ns;
    }
    gap->last_ns = now_ns;
}

void tally_get(struct tally *tally, uint64_t now_ns, uint64_t took_ns)
{
    struct bucket *bucket = bucket_at(tally, now_ns);
    histogram_add(&tally->get, took_ns);
    if (bucket != NULL)
        bucket->gets++;
}

void tally_end(struct tally *tally, uint64_t now_ns)
{
    tally->end_ns = now_ns;
    for (unsigned i = 0; i <= SERVER_MAX && tally->set.count > 0; i++)
        gap_end(&tally->gaps[i], now_ns);
}

void tally_set(struct tally *tally, uint64_t now_ns, uint64_t took_ns, unsigned server)
{
    struct bucket *bucket = bucket_at(tally, now_ns);
    histogram_add(&tally->set, took_ns);
    gap_end(&tally->gaps[server], now_ns);
    gap_end(&tally->gaps[SERVER_MAX], now_ns);
    if (bucket != NULL)
        bucket->sets++;
}

void tally_persist(struct tally *tally, uint64_t took_ns)
{
    histogram_add(&tally->persist, took_ns);
}

void tally_count(struct tally *tally, uint64_t now_ns, enum tally_count what)
{
    struct bucket *bucket = bucket_at(tally, now_ns);
    tally->counts[what]++;
    if (bucket != NULL && what == TALLY_ERROR)
        bucket->errors++;
    if (bucket != NULL && what == TALLY_UNKNOWN)
        bucket->unknown++;
}

uint64_t tally_done(const struct tally *tally)
{
    return tally->get.count + tally->set.count;
}

bool tally_bad(const struct tally *tally)
{
    return tally->counts[TALLY_WRONG] + tally->counts[TALLY_STALE] + tally->counts[TALLY_LOST] > 0;
}

static double seconds_of(const struct tally *tally)
{
    return (double)(tally->end_ns - tally->start_ns) / 1e9;
}

static void print_row(const char *name, const struct histogram *histogram, double seconds)
{
    if (histogram->count == 0)
        return;
    printf("  %-7s %8" PRIu64 " %10.0f/s  p50 %8.1f  p99 %8.1f  p99.9 %8.1f  max %8.1f us\n", name,
           histogram->count, (double)histogram->count / seconds,
           (double)histogram_quantile(histogram, 0.5) / 1e3,
           (double)histogram_quantile(histogram, 0.99) / 1e3,
           (double)histogram_quantile(histogram, 0.999) / 1e3, (double)histogram->max_ns / 1e3);
}

static void print_row_json(const char *name, const struct histogram *histogram)
{
    printf("\"%s\": {\"count\": %" PRIu64
           ", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, "
           "\"max_us\": %.1f}, ",
           name, histogram->count, (double)histogram_quantile(histogram, 0.5) / 1e3,
           (double)histogram_quantile(histogram, 0.99) / 1e3,
           (double)histogram_quantile(histogram, 0.999) / 1e3, (double)histogram->max_ns / 1e3);
}

static void print_gap_json(const char *name, const struct gap *gap, const char *behind)
{
    printf("{\"server\": \"%s\", \"longest_ms\": %.1f, \"at_monotonic_s\": %.3f}%s", name,
           (double)gap->longest_ns / 1e6, (double)gap->at_ns / 1e9, behind);
}

static void print_json(const struct tally *tally, const char *phase, const struct options *options)
{
    printf("result {\"phase\": \"%s\", \"seconds\": %.3f, \"ops_per_s\": %.0f, ", phase,
           seconds_of(tally), (double)tally_done(tally) / seconds_of(tally));
    print_row_json("get", &tally->get);
    print_row_json("set", &tally->set);
    print_row_json("persist", &tally->persist);
    for (unsigned i = 0; i < TALLY_COUNT; i++)
        printf("\"%s\": %" PRIu64 ", ", count_names[i], tally->counts[i]);
    printf("\"write_gaps\": [");
    for (unsigned i = 0; i < options->server_count; i++)
        print_gap_json(options->servers[i].name, &tally->gaps[i], ", ");
    print_gap_json("all", &tally->gaps[SERVER_MAX], "]}\n");
}

void tally_print(const struct tally *tally, const char *phase, const struct options *options)
{
    printf("%s: %.0f requests/s in %.2f s\n", phase, (double)tally_done(tally) / seconds_of(tally),
           seconds_of(tally));
    print_row("get", &tally->get, seconds_of(tally));
    print_row("set", &tally->set, seconds_of(tally));
    print_row("persist", &tally->persist, seconds_of(tally));
    printf(" ");
    for (unsigned i = 0; i < TALLY_COUNT; i++)
        printf(" %s %" PRIu64, count_names[i], tally->counts[i]);
    if (tally->set.count > 0)
        printf(" longest time without a write %.1f ms",
               (double)tally->gaps[SERVER_MAX].longest_ns / 1e6);
    printf("\n");
    print_json(tally, phase, options);
    fflush(stdout);
}

void tally_write_timeline(const struct tally *tally, FILE *file)
{
    fprintf(file, "monotonic_ms,gets,sets,errors,unknown\n");
    uint64_t used =
        tally->bucket_ns == 0 ? 0 : (tally->end_ns - tally->start_ns) / tally->bucket_ns;
    for (uint64_t i = 0; i < used && i < tally->bucket_count; i++) {
        const struct bucket *bucket = &tally->buckets[i];
        fprintf(file, "%.3f,%u,%u,%u,%u\n", (double)(tally->start_ns + i * tally->bucket_ns) / 1e6,
                bucket->gets, bucket->sets, bucket->errors, bucket->unknown);
    }
}
