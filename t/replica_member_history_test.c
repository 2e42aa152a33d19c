/* Goal: no lease outlives a view, and the group comes together again, whatever happens. Method:
 * random histories of crashes, cuts, pauses and elections on the simulated group of
 * t/member_cluster.h, where invariant 8 of replica/member.h is checked after each step (MEMBER_SEED
 * and MEMBER_SEEDS choose; a failure names its seed). In a build with -DFAULTS the planted faults
 * must be seen. */
#include <stdlib.h>

#include "base/fault.h"
#include "t/member_cluster.h"
#include "t/test.h"

static struct cluster cluster;

/* ---- random histories ---- */

static void stir(struct cluster *group)
{
    struct prng *prng = &group->prng;
    unsigned id = 1 + (unsigned)prng_below(prng, group->count);
    unsigned other = 1 + (unsigned)prng_below(prng, group->count);
    switch (prng_below(prng, 8)) {
    case 0:
        cluster_kill(group, id);
        break;
    case 1:
    case 2:
        if (!group->nodes[id].up)
            cluster_start(group, id);
        break;
    case 3:
        cluster_isolate(group, id, prng_chance(prng, 40));
        break;
    case 4:
        if (id != other)
            cluster_cut(group, id, other, prng_chance(prng, 30), prng_chance(prng, 50));
        break;
    case 5:
        group->nodes[id].paused = group->nodes[id].up && prng_chance(prng, 50);
        break;
    case 6:
        group->nodes[id].heals = prng_chance(prng, 80);
        break;
    case 7:
        if (group->nodes[id].up && group->leader != 0 && prng_chance(prng, 30))
            group->elect_at_us = group->now_us;
        break;
    }
}

static void calm(struct cluster *group)
{
    for (unsigned id = 1; id <= group->count; id++) {
        cluster_isolate(group, id, false);
        group->nodes[id].paused = false;
        group->nodes[id].heals = true;
        if (!group->nodes[id].up)
            cluster_start(group, id);
    }
    group->slow_raft = false;
}

/* False: a violation, or the group did not come together again. */
static bool history(uint64_t seed, unsigned stirs)
{
    static const unsigned counts[] = {2, 3, 3, 3, 5, 7};
    cluster_init(&cluster, counts[seed % 6], seed);
    cluster.slow_raft = seed % 2 == 1;
    for (unsigned id = 1; id <= cluster.count; id++)
        cluster_start(&cluster, id);
    cluster_run(&cluster, 1500);
    for (unsigned i = 0; i < stirs && cluster.violation == NULL; i++) {
        stir(&cluster);
        cluster_run(&cluster, (unsigned)prng_below(&cluster.prng,
                                                   prng_chance(&cluster.prng, 20) ? 2000 : 150));
    }
    calm(&cluster);
    uint8_t all = (uint8_t)((1u << cluster.count) - 1);
    if (cluster_wait(&cluster, all, 0, 30000) > 30000 && cluster.violation == NULL)
        cluster.violation = "the group does not come together";
    return cluster.violation == NULL;
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

TEST(member, no_history_has_a_lease_outside_the_newest_view_and_all_end_together)
{
    uint64_t first = number_from("MEMBER_SEED", 1), count = number_from("MEMBER_SEEDS", 60);
    for (uint64_t seed = first; seed < first + count; seed++) {
        if (history(seed, 100))
            continue;
        test_fail(__FILE__, __LINE__, "MEMBER_SEED=%llu: %s at %llu us", (unsigned long long)seed,
                  cluster.violation, (unsigned long long)cluster.now_us);
        return;
    }
}

#ifdef FAULTS
static void fault_is_seen(enum fault fault, const char *name)
{
    bool seen = false;
    fault_active = fault;
    for (uint64_t seed = 1; seed <= 200 && !seen; seed++)
        seen = !history(seed, 100);
    fault_active = FAULT_NONE;
    if (!seen)
        test_fail(__FILE__, __LINE__, "%s was not seen", name);
}

TEST(member, planted_faults_are_seen)
{
    fault_is_seen(FAULT_NO_LEASE_WAIT, "NO_LEASE_WAIT");
    fault_is_seen(FAULT_LEADER_EARLY, "LEADER_EARLY");
    fault_is_seen(FAULT_GRANT_OLD, "GRANT_OLD");
}

TEST(member, a_cold_start_by_anybody_is_seen)
{
    fault_active = FAULT_COLD_ANY;
    cluster_init(&cluster, 3, 7);
    for (unsigned id = 1; id <= 3; id++)
        cluster_start(&cluster, id);
    ASSERT(cluster_wait(&cluster, 7, 0, 2000) <= 2000);
    for (unsigned id = 1; id <= 3; id++)
        cluster_kill(&cluster, id);
    cluster_start(&cluster, 1);
    cluster_start(&cluster, 2);
    cluster_run(&cluster, 2000);
    EXPECT(cluster.epoch_max > 1);
    fault_active = FAULT_NONE;
}
#endif
