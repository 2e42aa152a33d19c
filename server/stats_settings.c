/* stats settings: what the command line came to. */
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "server/stats_private.h"

static const char *protocol_name(uint32_t protocol)
{
    switch ((enum options_protocol)protocol) {
    case PROTOCOL_AUTO:
        return "auto-negotiate";
    case PROTOCOL_ASCII:
        return "ascii";
    case PROTOCOL_BINARY:
        return "binary";
    }
    return "unknown";
}

static const char *tls_version_name(uint32_t version)
{
    static const char *const names[] = {"tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3"};
    return version < sizeof(names) / sizeof(names[0]) ? names[version] : "unknown";
}

static const char *net_choice_name(uint32_t choice)
{
    switch ((enum net_choice)choice) {
    case NET_CHOOSE_TCP:
        return "tcp";
    case NET_CHOOSE_RDMA:
        return "rdma";
    case NET_CHOOSE_AUTO:
        return "auto";
    }
    return "unknown";
}

static const char *text_or(const char *text, const char *none)
{
    return text != NULL ? text : none;
}

static void setting_lines(struct text *text, const struct node *node, const struct options *options)
{
    const struct tls_options *tls = &options->tls;
    struct totals totals;
    stats_sum(node, &totals);
#define VALUE(name, number) stat_number(text, #name, number);
#define TEXT(name, ...) stat_text(text, #name, __VA_ARGS__);
#define YES(name, condition) stat_text(text, #name, "%s", yes_no(condition));
#include "server/setting.def"
#undef VALUE
#undef TEXT
#undef YES
}

void stats_settings(struct text *text, const struct node *node)
{
    const struct options *options = &node->options;
    setting_lines(text, node, options);
    for (uint32_t i = 0; i < options->peer_count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "peer%u", options->peers[i].id);
        stat_text(text, name, "%s:%u", options->peers[i].host, options->peers[i].port);
    }
}
