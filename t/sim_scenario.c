/* Scenarios by their names. */
#include <string.h>

#include "t/sim_scenario.h"

static const struct scenario {
    const char *name, *text;
    void (*narrow)(struct sim *sim, struct sim_profile *p);
} scenarios[] = {
#define SCENARIO(function, name, text) {name, text, scenario_##function},
#include "t/sim_scenario.def"
#undef SCENARIO
};

void sim_scenarios_print(FILE *file)
{
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
        fprintf(file, "  %-20s %s\n", scenarios[i].name, scenarios[i].text);
}

bool sim_scenario_narrow(struct sim *sim, const char *name, struct sim_profile *p)
{
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        if (strcmp(name, scenarios[i].name) != 0)
            continue;
        scenarios[i].narrow(sim, p);
        return true;
    }
    return false;
}
