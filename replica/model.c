#include "replica/model.h"

#include <assert.h>
#include <string.h>

static const struct model_row rows[] = {
#define MODEL(NAME, name_, acks_, answered_, readable_, text_)                                     \
    [MODEL_##NAME] = {.name = (name_),                                                             \
                      .text = (text_),                                                             \
                      .acks = (acks_),                                                             \
                      .answered = (answered_),                                                     \
                      .readable = (readable_)},
#include "replica/model.def"
#undef MODEL
};

const struct model_row *model_row(enum model model)
{
    assert(model < MODEL_COUNT);
    return &rows[model];
}

const char *model_name(enum model model)
{
    return model_row(model)->name;
}

bool model_parse(const char *name, enum model *model)
{
    for (unsigned i = 0; i < MODEL_COUNT; i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        *model = (enum model)i;
        return true;
    }
    return false;
}
