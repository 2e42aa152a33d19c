/* sim: runs the simulated cluster with the seeds given, and says which of them find a fault.
 *
 *     build/sim SEED...                       build/sim --from 1 --count 2000
 *     build/sim --trace SEED                  every event, for people
 *     build/faults/sim --fault NAME --from 1 --count 300     with a planted fault
 *                                                            (base/fault.def) */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fault.h"
#include "t/sim.h"

struct arguments {
    struct sim_options options;
    const char *fault;
    uint64_t from, count;
    bool verbose, twice, until_failure;
};

static const char *const fault_names[] = {
    "NONE",
#define FAULT_ROW(name, text) #name,
#include "base/fault.def"
#undef FAULT_ROW
};

static const char *const fault_texts[] = {
    "no fault",
#define FAULT_ROW(name, text) text,
#include "base/fault.def"
#undef FAULT_ROW
};

static void usage(void)
{
    puts("usage: sim [--from A --count N] [--fault NAME] [--scenario NAME] [--model NAME|any] "
         "[--nodes N] [--quick] [--trace] [--twice]\n"
         "           [--until-failure] [-v] [SEED...]\n"
         "       sim --faults        lists the planted faults\n"
         "scenarios:");
    sim_scenarios_print(stdout);
}

static bool set_fault(const char *name)
{
#ifdef FAULTS
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        if (strcmp(name, fault_names[i]) == 0) {
            fault_active = (enum fault)i;
            return true;
        }
    }
    fprintf(stderr, "sim: no such fault: %s\n", name);
#else
    fprintf(stderr,
            "sim: this build holds no planted faults (%s): make VARIANT=faults build/faults/sim\n",
            name);
#endif
    return false;
}

static void list_faults(void)
{
    for (size_t i = 1; i < FAULT_COUNT; i++)
        printf("%s\t%s\n", fault_names[i], fault_texts[i]);
}

static void print_result(const struct arguments *arguments, uint64_t seed,
                         const struct sim_result *result)
{
    if (!result->passed)
        printf("seed %" PRIu64 " FAILED: %s\n    again: build/%ssim%s%s%s%s%s%s%s --trace %" PRIu64
               "\n",
               seed, result->reason, arguments->fault != NULL ? "faults/" : "",
               arguments->fault != NULL ? " --fault " : "",
               arguments->fault != NULL ? arguments->fault : "",
               arguments->options.scenario != NULL ? " --scenario " : "",
               arguments->options.scenario != NULL ? arguments->options.scenario : "",
               arguments->options.model != NULL ? " --model " : "",
               arguments->options.model != NULL ? arguments->options.model : "",
               arguments->options.quick ? " --quick" : "", seed);
    if (arguments->verbose)
        printf("seed %" PRIu64 " hash %016" PRIx64 ": %s\n", seed, result->hash, result->summary);
    fflush(stdout);
}

static bool run_seed(const struct arguments *arguments, uint64_t seed)
{
    struct sim_options options = arguments->options;
    struct sim_result result;
    options.seed = seed;
    sim_run(&options, &result);
    if (arguments->fault != NULL && strstr(result.reason, "undecided") != NULL)
        result.passed = true; /* that finds nothing */
    print_result(arguments, seed, &result);
    if (arguments->twice) {
        struct sim_result again;
        sim_run(&options, &again);
        if (again.hash != result.hash) {
            printf("seed %" PRIu64 " FAILED: two runs differ: %016" PRIx64 " and %016" PRIx64 "\n",
                   seed, result.hash, again.hash);
            return false;
        }
    }
    return result.passed;
}

enum {
    OPTION_FROM = 256,
    OPTION_COUNT,
    OPTION_FAULT,
    OPTION_SCENARIO,
    OPTION_TRACE,
    OPTION_NODES,
    OPTION_QUICK,
    OPTION_TWICE,
    OPTION_FAULTS,
    OPTION_MODEL,
    OPTION_UNTIL
};

static const struct option long_options[] = {{"help", no_argument, NULL, 'h'},
                                             {"from", required_argument, NULL, OPTION_FROM},
                                             {"count", required_argument, NULL, OPTION_COUNT},
                                             {"fault", required_argument, NULL, OPTION_FAULT},
                                             {"scenario", required_argument, NULL, OPTION_SCENARIO},
                                             {"model", required_argument, NULL, OPTION_MODEL},
                                             {"nodes", required_argument, NULL, OPTION_NODES},
                                             {"trace", no_argument, NULL, OPTION_TRACE},
                                             {"quick", no_argument, NULL, OPTION_QUICK},
                                             {"twice", no_argument, NULL, OPTION_TWICE},
                                             {"faults", no_argument, NULL, OPTION_FAULTS},
                                             {"until-failure", no_argument, NULL, OPTION_UNTIL},
                                             {NULL, 0, NULL, 0}};

static void take_option(struct arguments *arguments, int option)
{
    switch (option) {
    case OPTION_FROM:
        arguments->from = strtoull(optarg, NULL, 10);
        break;
    case OPTION_COUNT:
        arguments->count = strtoull(optarg, NULL, 10);
        break;
    case OPTION_FAULT:
        arguments->fault = optarg;
        if (!set_fault(optarg))
            exit(2);
        break;
    case OPTION_SCENARIO:
        arguments->options.scenario = optarg;
        break;
    case OPTION_MODEL:
        arguments->options.model = optarg;
        break;
    case OPTION_NODES:
        arguments->options.node_count = (unsigned)strtoul(optarg, NULL, 10);
        break;
    case OPTION_TRACE:
        arguments->options.trace = true;
        break;
    case OPTION_QUICK:
        arguments->options.quick = true;
        break;
    case OPTION_TWICE:
        arguments->twice = true;
        break;
    case OPTION_UNTIL:
        arguments->until_failure = true;
        break;
    case 'v':
        arguments->verbose = true;
        break;
    case 'h':
        usage();
        exit(0);
    case OPTION_FAULTS:
        list_faults();
        exit(0);
    default:
        usage();
        exit(2);
    }
}

int main(int count, char **words)
{
    struct arguments arguments = {.from = 1};
    int option;
    while ((option = getopt_long(count, words, "vh", long_options, NULL)) != -1)
        take_option(&arguments, option);
    if (arguments.count == 0 && optind == count) {
        usage();
        return 2;
    }
    uint64_t passed = 0, failed = 0;
    for (; optind < count; optind++) {
        bool ok = run_seed(&arguments, strtoull(words[optind], NULL, 10));
        passed += ok;
        failed += !ok;
    }
    for (uint64_t i = 0; i < arguments.count; i++) {
        bool ok = run_seed(&arguments, arguments.from + i);
        passed += ok;
        failed += !ok;
        if (!ok && arguments.until_failure)
            break;
    }
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
