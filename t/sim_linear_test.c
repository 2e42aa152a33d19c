/* The judge of histories must itself be right. Goal: it says "linearizable" exactly when some order
 * of the operations explains every answer. Method: thousands of small random histories, right ones
 * and ones with one answer falsified, judged by it and by trying every order; and a few classical
 * violations by name. */
#include "base/prng.h"
#include "t/sim_linear.h"
#include "t/test.h"

enum { OPERATION_COUNT_MAX = 7, STEP_COUNT_MAX = 1000000 };

struct history {
    struct sim_operation operations[OPERATION_COUNT_MAX];
    const struct sim_operation *list[OPERATION_COUNT_MAX];
    unsigned count;
};

static bool is_known(const struct sim_operation *operation)
{
    return operation->answered != UINT64_MAX;
}

/* Every order, with no memory and no cleverness. */
static bool any_order(const struct history *history, unsigned placed, const struct sim_state *state)
{
    bool complete = true;
    uint64_t answered_min = UINT64_MAX;
    for (unsigned i = 0; i < history->count; i++) {
        const struct sim_operation *operation = &history->operations[i];
        if ((placed >> i & 1) == 0 && is_known(operation)) {
            complete = false;
            if (operation->answered < answered_min)
                answered_min = operation->answered;
        }
    }
    if (complete)
        return true;
    for (unsigned i = 0; i < history->count; i++) {
        const struct sim_operation *operation = &history->operations[i];
        if ((placed >> i & 1) != 0 || operation->invoked > answered_min ||
            (operation->type == REQUEST_GET && !is_known(operation)))
            continue;
        bool cas_seen = false;
        for (unsigned j = 0; j < history->count; j++) {
            const struct sim_operation *other = &history->operations[j];
            cas_seen |= (placed >> j & 1) != 0 && is_known(other) && other->result_cas != 0 &&
                        other->result_cas == operation->result_cas;
        }
        for (int variant = 0; variant < SIM_VARIANT_COUNT; variant++) {
            struct sim_state after;
            if (sim_spec_apply(state, operation, (enum sim_variant)variant, cas_seen, &after) &&
                any_order(history, placed | 1u << i, &after))
                return true;
        }
    }
    return false;
}

static struct sim_value value_of(const char *text)
{
    struct sim_value value = {.size = (uint8_t)strlen(text)};
    memcpy(value.bytes, text, value.size);
    return value;
}

static struct sim_operation random_command(struct prng *prng)
{
    static const enum request_type types[] = {
        REQUEST_GET,  REQUEST_GET,   REQUEST_GET,     REQUEST_SET,
        REQUEST_SET,  REQUEST_ADD,   REQUEST_REPLACE, REQUEST_APPEND,
        REQUEST_INCR, REQUEST_CAS,   REQUEST_DELETE,  REQUEST_TOUCH,
        REQUEST_GAT,  REQUEST_FLUSH, REQUEST_DECR,    REQUEST_PREPEND};
    static const char *const values[] = {"1", "9", "x"};
    struct sim_operation operation = {
        .type = types[prng_below(prng, sizeof(types) / sizeof(types[0]))],
        .value = value_of(values[prng_below(prng, 3)]),
        .cas = prng_below(prng, 4),
        .delta = 1 + prng_below(prng, 2),
        .initial = prng_below(prng, 10),
        .compare = prng_chance(prng, 20),
        .vivify = prng_chance(prng, 30),
        .large = prng_chance(prng, 20),
        .exptime = prng_chance(prng, 20) ? 5 : 0,
        .wall_max = prng_chance(prng, 50) ? 9 : 1,
    };
    return operation;
}

/* Asks the specification itself what the answer is, by trying all. */
static void answer(struct sim_operation *operation, struct sim_state *state, uint64_t *version)
{
    bool expired = state->exists && state->exptime != 0 && state->exptime <= operation->wall_max;
    struct sim_state after;
    operation->answered = 1;
    operation->result = state->value;
    operation->result_flags = state->flags;
    operation->result_large = state->large;
    bool reads = operation->type == REQUEST_GET || operation->type == REQUEST_GAT ||
                 operation->type == REQUEST_TOUCH;
    operation->result_cas = reads ? state->cas : 0;
    for (operation->outcome = 0; operation->outcome < OUTCOME_UNKNOWN; operation->outcome++)
        for (operation->number = 0; operation->number < 100; operation->number++)
            if (sim_spec_apply(state, operation, (enum sim_variant)expired, false, &after)) {
                if (after.exists && after.cas == 0)
                    after.cas = ++*version;
                bool wrote =
                    operation->outcome == OUTCOME_STORED || operation->outcome == OUTCOME_NUMBER;
                if (wrote && *version % 2 == 0) /* text clients are not told */
                    operation->result_cas = after.cas;
                else if (operation->outcome != OUTCOME_HIT && operation->outcome != OUTCOME_TOUCHED)
                    operation->result_cas = 0;
                *state = after;
                return;
            }
}

static void falsify(struct sim_operation *operation, struct prng *prng)
{
    static const char *const values[] = {"1", "9", "x", "2", "10", "1x"};
    switch (prng_below(prng, 4)) {
    case 0:
        operation->outcome = (enum outcome)prng_below(prng, OUTCOME_TOO_LARGE);
        break;
    case 1:
        operation->result = value_of(values[prng_below(prng, 6)]);
        break;
    case 2:
        operation->result_cas = 1 + prng_below(prng, 4);
        break;
    default:
        operation->number = prng_below(prng, 12);
        break;
    }
}

/* Runs commands on one object in the order of their numbers, with starts and answers spread
 * around. */
static void random_history(struct history *history, struct prng *prng)
{
    struct sim_state state = {0};
    uint64_t version = 0;
    history->count = 2 + (unsigned)prng_below(prng, OPERATION_COUNT_MAX - 1);
    for (unsigned i = 0; i < history->count; i++) {
        struct sim_operation *operation = &history->operations[i];
        uint64_t moment = 100 * (i + 1);
        *operation = random_command(prng);
        answer(operation, &state, &version);
        operation->invoked = moment - 1 - prng_below(prng, 99) - 100 * prng_below(prng, i + 1);
        operation->answered = moment + prng_below(prng, 300);
        if (prng_chance(prng, 15))
            operation->answered = UINT64_MAX;
        history->list[i] = operation;
    }
    if (prng_chance(prng, 60))
        falsify(&history->operations[prng_below(prng, history->count)], prng);
}

TEST(sim_linear, agrees_with_trying_every_order)
{
    struct prng prng = {20261122};
    unsigned right = 0, wrong = 0;
    for (unsigned round = 0; round < 20000; round++) {
        struct history history;
        const struct sim_state empty = {0};
        uint64_t steps;
        random_history(&history, &prng);
        bool expected = any_order(&history, 0, &empty);
        enum sim_verdict verdict =
            sim_linear_check(history.list, history.count, STEP_COUNT_MAX, &steps);
        ASSERT_EQ(verdict, expected ? SIM_LINEARIZABLE : SIM_VIOLATION);
        right += expected;
        wrong += !expected;
    }
    EXPECT(right > 2000);
    EXPECT(wrong > 2000);
}

static enum sim_verdict judge(struct sim_operation *operations, unsigned count)
{
    const struct sim_operation *list[OPERATION_COUNT_MAX];
    uint64_t steps;
    for (unsigned i = 0; i < count; i++)
        list[i] = &operations[i];
    return sim_linear_check(list, count, STEP_COUNT_MAX, &steps);
}

static struct sim_operation set(uint64_t from, uint64_t to, const char *text)
{
    return (struct sim_operation){.type = REQUEST_SET,
                                  .invoked = from,
                                  .answered = to,
                                  .outcome = OUTCOME_STORED,
                                  .value = value_of(text)};
}

static struct sim_operation get(uint64_t from, uint64_t to, const char *text, uint64_t cas)
{
    return (struct sim_operation){.type = REQUEST_GET,
                                  .invoked = from,
                                  .answered = to,
                                  .outcome = OUTCOME_HIT,
                                  .result = value_of(text),
                                  .result_cas = cas};
}

static struct sim_operation incr(uint64_t from, uint64_t to, uint64_t number)
{
    return (struct sim_operation){.type = REQUEST_INCR,
                                  .invoked = from,
                                  .answered = to,
                                  .outcome = OUTCOME_NUMBER,
                                  .delta = 1,
                                  .number = number};
}

TEST(sim_linear, refuses_new_then_old)
{
    struct sim_operation history[] = {set(1, 2, "a"), set(3, 90, "b"), get(4, 5, "b", 7),
                                      get(6, 8, "a", 6)};
    EXPECT_EQ(judge(history, 4), SIM_VIOLATION);
    EXPECT_EQ(judge(history, 3), SIM_LINEARIZABLE);
}

TEST(sim_linear, refuses_an_increment_that_counted_twice)
{
    struct sim_operation history[] = {set(1, 2, "5"), incr(3, 4, 6), get(5, 6, "7", 3)};
    EXPECT_EQ(judge(history, 3), SIM_VIOLATION);
    history[2] = get(5, 6, "6", 3);
    EXPECT_EQ(judge(history, 3), SIM_LINEARIZABLE);
}

TEST(sim_linear, an_unknown_write_shows_late_but_only_once)
{
    struct sim_operation history[] = {set(1, UINT64_MAX, "u"), set(2, 3, "a"), get(4, 5, "a", 1),
                                      get(6, 7, "u", 2),       set(8, 9, "b"), get(10, 11, "u", 2)};
    EXPECT_EQ(judge(history, 5), SIM_LINEARIZABLE);
    EXPECT_EQ(judge(history, 6), SIM_VIOLATION);
}

TEST(sim_linear, a_unique_names_one_version)
{
    struct sim_operation history[] = {set(1, 2, "a"), get(3, 4, "a", 1), set(5, 6, "a"),
                                      get(7, 8, "a", 2)};
    EXPECT_EQ(judge(history, 4), SIM_LINEARIZABLE);
    history[3] = get(7, 8, "a", 1);
    EXPECT_EQ(judge(history, 4), SIM_VIOLATION);
}

TEST(sim_linear, a_search_that_gives_up_says_so)
{
    struct sim_operation history[] = {set(1, 2, "a"), get(3, 4, "a", 1)};
    const struct sim_operation *list[] = {&history[0], &history[1]};
    uint64_t steps;
    EXPECT_EQ(sim_linear_check(list, 2, 1, &steps), SIM_UNDECIDED);
}

TEST(sim_spec, decr_pads_and_incr_reads_what_decr_left)
{
    struct sim_operation decr = {
        .type = REQUEST_DECR, .delta = 1, .outcome = OUTCOME_NUMBER, .number = 9};
    struct sim_state state = {.exists = true, .value = value_of("10")}, after, last;
    EXPECT(sim_spec_apply(&state, &decr, SIM_AS_IT_IS, false, &after));
    EXPECT_EQ(after.value.size, 2);
    EXPECT(memcmp(after.value.bytes, "9 ", 2) == 0);
    struct sim_operation next = incr(1, 2, 10);
    EXPECT(sim_spec_apply(&after, &next, SIM_AS_IT_IS, false, &last));
    EXPECT(memcmp(last.value.bytes, "10", 2) == 0);
}
