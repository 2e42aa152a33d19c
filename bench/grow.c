/* How long one put can take while the index grows: inserts only, in this process, in memory. In
 * processor time (what other processes take does not count, page faults of fresh memory do), and in
 * wall clock time for comparison.
 *
 *     grow_put_max 85.2 us                      one line for scripts each
 *
 * Usage: bench/grow [MILLIONS]; 10 if not given */
#include "bench/histogram.h"
#include "bench/shelf.h"

enum { SEGMENT_SIZE = 16 << 20, VALUE_SIZE = 8, BYTES_A_KEY = 64 };

static void report(const char *what, const struct histogram *histogram)
{
    printf("grow_%s_p50 %.2f us\n", what, (double)histogram_quantile(histogram, 0.5) / 1e3);
    printf("grow_%s_p99.9 %.2f us\n", what, (double)histogram_quantile(histogram, 0.999) / 1e3);
    printf("grow_%s_p99.99 %.2f us\n", what, (double)histogram_quantile(histogram, 0.9999) / 1e3);
    printf("grow_%s_max %.2f us\n", what, (double)histogram->max_ns / 1e3);
}

int main(int count, char **words)
{
    uint64_t keys = (count > 1 ? strtoull(words[1], NULL, 10) : 10) * 1000000;
    static struct histogram cpu, wall;
    struct shelf shelf;
    struct store_stats stats;
    uint64_t over = 0;
    shelf_open(&shelf, (uint32_t)(keys * BYTES_A_KEY / SEGMENT_SIZE) + 16, SEGMENT_SIZE);
    for (uint64_t i = 0; i < keys; i++) {
        uint64_t wall_began = shelf_now_ns(), began = shelf_cpu_ns();
        shelf_must(shelf_put(&shelf, i, VALUE_SIZE) == STATUS_OK, "no room");
        uint64_t took = shelf_cpu_ns() - began;
        histogram_add(&cpu, took);
        histogram_add(&wall, shelf_now_ns() - wall_began);
        over += took > 1000000;
        if (i % SHELF_TURN == 0)
            shelf_turn(&shelf);
    }
    store_stats(shelf.store, &stats);
    printf("grow_keys %llu count\n", (unsigned long long)keys);
    printf("grow_index %.1f MB\n", (double)stats.index_bytes / 1e6);
    report("put", &cpu);
    report("put_wall", &wall);
    printf("grow_over_1ms %llu count\n", (unsigned long long)over);
    shelf_close(&shelf);
    return over != 0;
}
