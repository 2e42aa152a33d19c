/* stats items and slabs, for readers that expect a slab allocator: one class holds everything. */
#include <stdio.h>

#include "server/stats_private.h"
#include "server/tuning.h"

static void class_line(struct text *text, const char *before, const char *name, uint64_t value)
{
    char whole[64];
    snprintf(whole, sizeof(whole), "%s%d:%s", before, SLAB_CLASS, name);
    stat_number(text, whole, value);
}

/* As in memcached, an empty class has no lines. */
void stats_items(struct text *text, const struct node *node)
{
    struct totals totals;
    stats_sum(node, &totals);
    if (totals.item_count == 0)
        return;
#define ITEM(name, number) class_line(text, "items:", #name, number);
#define SLAB(name, number)
#include "server/slab.def"
#undef ITEM
#undef SLAB
}

void stats_slabs(struct text *text, const struct node *node)
{
    struct totals totals;
    stats_sum(node, &totals);
#define ITEM(name, number)
#define SLAB(name, number) class_line(text, "", #name, number);
#include "server/slab.def"
#undef ITEM
#undef SLAB
    stat_number(text, "active_slabs", 1);
    stat_number(text, "total_malloced", totals.limit_bytes);
}
