/* Goal: a watcher gets whole lines in order, and is told exactly how many it lost.
 * Method: lines of known numbers into small buffers, taken in pieces of many sizes. */
#include "server/watcher.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "server/worker.h"
#include "t/test.h"

static struct watchers watchers;
static struct worker home;

static void begin(void)
{
    watchers_open(&watchers);
    home = (struct worker){.ring_fd = eventfd(0, EFD_NONBLOCK)};
}

static void end(void)
{
    EXPECT_EQ(watchers.mask, 0);
    EXPECT_EQ(watchers.count, 0);
    watchers_close(&watchers);
    close(home.ring_fd);
}

static void put(enum watcher_event event, unsigned number)
{
    char line[64];
    int size = snprintf(line, sizeof(line), "type=test number=%u", number);
    watchers_put_any(&watchers, event, slice_make(line, (size_t)size));
}

/* What was taken, with a zero behind it. */
static size_t take(struct watcher *watcher, char *out, size_t out_size, uint32_t step)
{
    size_t used = 0;
    for (uint32_t got = 1; got > 0; used += got)
        got = watcher_take(&watchers, watcher, out + used,
                           out_size - 1 - used < step ? (uint32_t)(out_size - 1 - used) : step);
    out[used] = 0;
    return used;
}

TEST(watcher, gets_what_it_asked_for_and_wakes_its_worker)
{
    char text[1024];
    begin();
    struct watcher *fetches = watcher_add(&watchers, &home, WATCHER_FETCHERS, 4096);
    struct watcher *both =
        watcher_add(&watchers, &home, WATCHER_FETCHERS | WATCHER_DELETIONS, 4096);
    EXPECT(watchers_want(&watchers, WATCHER_DELETIONS));
    EXPECT(!watchers_want(&watchers, WATCHER_MUTATIONS));
    put(WATCHER_DELETIONS, 1);
    EXPECT(home.watched);
    EXPECT(!watcher_has_lines(&watchers, fetches));
    EXPECT(watcher_has_lines(&watchers, both));
    put(WATCHER_FETCHERS, 2);
    take(fetches, text, sizeof(text), 7);
    EXPECT(strstr(text, "gid=2 type=test number=2\n") != NULL);
    EXPECT(strstr(text, "number=1") == NULL);
    take(both, text, sizeof(text), 7);
    EXPECT(strstr(text, "gid=1 type=test number=1\n") < strstr(text, "gid=2 type=test number=2\n"));
    watcher_remove(&watchers, fetches);
    watcher_remove(&watchers, both);
    end();
}

/* Every number comes once or is in a count of skipped ones, wherever the ring wraps. */
TEST(watcher, is_told_how_many_lines_it_lost)
{
    static char text[1 << 16];
    for (uint32_t size = 100; size < 700; size += 13) {
        unsigned next = 0, seen = 0, skipped = 0;
        begin();
        struct watcher *watcher = watcher_add(&watchers, &home, WATCHER_FETCHERS, size);
        for (unsigned round = 0; round < 50; round++) {
            for (unsigned i = 0; i < round % 23; i++)
                put(WATCHER_FETCHERS, next++);
            take(watcher, text, sizeof(text), 1 + round % 40);
            for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
                const char *number = strstr(line, "number=");
                if (number == NULL) {
                    ASSERT_EQ(strncmp(line, "skipped=", 8), 0);
                    skipped += (unsigned)strtoul(line + 8, NULL, 10);
                    continue;
                }
                ASSERT_EQ(strtoul(number + 7, NULL, 10), seen + skipped);
                seen++;
            }
        }
        EXPECT(seen > 0);
        EXPECT_EQ(watchers.sent_count, seen);
        EXPECT_EQ(watchers.line_count, next);
        EXPECT_EQ(watchers.sent_count + watchers.skipped_count, next);
        watcher_remove(&watchers, watcher);
        end();
    }
}

TEST(watcher, there_are_at_most_so_many)
{
    struct watcher *all[WATCHER_COUNT_MAX];
    begin();
    for (int i = 0; i < WATCHER_COUNT_MAX; i++) {
        all[i] = watcher_add(&watchers, &home, WATCHER_EVICTIONS, 100);
        ASSERT(all[i] != NULL);
    }
    EXPECT(watcher_add(&watchers, &home, WATCHER_EVICTIONS, 100) == NULL);
    watcher_remove(&watchers, all[0]);
    all[0] = watcher_add(&watchers, &home, WATCHER_EVICTIONS, 100);
    EXPECT(all[0] != NULL);
    for (int i = 0; i < WATCHER_COUNT_MAX; i++)
        watcher_remove(&watchers, all[i]);
    end();
}
