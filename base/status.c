#include "base/status.h"

static const char *const texts[] = {
#define STATUS(name, text) [STATUS_##name] = (text),
#include "base/status.def"
#undef STATUS
};

const char *status_text(enum status status)
{
    if ((unsigned)status >= STATUS_COUNT)
        return "unknown status";
    return texts[status];
}
