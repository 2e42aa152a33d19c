/* The options with a shape of their own: the nodes of a group, files; and what must fit
 * together. */
#include "server/options_take.h"

#include <errno.h>
#include <string.h>

#include "base/slice.h"
#include "pmem/log.h"
#include "server/raft_driver.h"

TAKER(delimiter)
{
    if (strlen(text) != 1)
        return options_refuse_argument(parse, row, text, "one character");
    parse->options->delimiter = text[0];
    parse->options->detail = true;
    return true;
}

TAKER(node)
{
    uint64_t number;
    if (!options_read_number(parse, row, text, 1, OPTIONS_PEER_MAX, &number))
        return false;
    parse->nodes = text;
    parse->options->self = (unsigned)number;
    parse->options->self_given = true;
    return true;
}

/* NULL, or what is wrong with it. */
static const char *take_peer(struct options *options, struct slice piece)
{
    const char *begin = piece.data;
    struct options_address peer = {.id = 0};
    if (piece.size < 3 || begin[0] < '1' || begin[0] > '7' || begin[1] != '@')
        return "does not begin with an id and @";
    if (!options_split_address(slice_make(begin + 2, piece.size - 2), &peer))
        return "has no good address";
    peer.id = (unsigned)(begin[0] - '0');
    uint8_t bit = (uint8_t)(1u << (peer.id - 1));
    if (peer.host[0] == 0)
        return "has no host";
    if (peer.port == 0)
        return "has no port";
    if ((options->configured & bit) != 0)
        return "has the id of another";
    uint32_t at = options->peer_count++;
    for (; at > 0 && options->peers[at - 1].id > peer.id; at--)
        options->peers[at] = options->peers[at - 1];
    options->peers[at] = peer;
    options->configured |= bit;
    return NULL;
}

/* On one host no two may listen at the same port, nor one where another's raft does. */
static bool ports_meet(const struct options_address *a, const struct options_address *b)
{
    uint16_t a_raft = raft_driver_port(a->port), b_raft = raft_driver_port(b->port);
    return strcmp(a->host, b->host) == 0 &&
           (a->port == b->port || a->port == b_raft || a_raft == b->port || a_raft == b_raft);
}

static bool check_ports(struct parse *parse)
{
    const struct options *options = parse->options;
    for (uint32_t i = 0; i < options->peer_count; i++) {
        const struct options_address *a = &options->peers[i];
        for (uint32_t j = 0; j < i; j++) {
            const struct options_address *b = &options->peers[j];
            if (ports_meet(a, b))
                return options_refuse(parse, EXIT_USAGE,
                                      "--peers: nodes %u and %u cannot both listen on %s: each "
                                      "needs its port (%u and %u) and the one 10000 away",
                                      b->id, a->id, a->host, b->port, a->port);
        }
    }
    return true;
}

TAKER(peers)
{
    (void)row;
    static const char allowed[] =
        "ID@HOST:PORT,... with different ids from 1 to 7; 1, 3, 5 or 7 nodes";
    struct options *options = parse->options;
    struct slice piece;
    options->peer_count = 0;
    options->configured = 0;
    for (const char *list = text; options_next_piece(&list, &piece);) {
        const char *wrong = take_peer(options, piece);
        if (wrong != NULL)
            return options_refuse(parse, EXIT_USAGE, "--peers: '%.*s' %s; it must be %s",
                                  (int)piece.size, (const char *)piece.data, wrong, allowed);
    }
    if (options->peer_count % 2 == 0)
        return options_refuse(parse, EXIT_USAGE, "--peers: %u nodes; it must be %s",
                              options->peer_count, allowed);
    return check_ports(parse);
}

TAKER(data)
{
    parse->options->data = text;
    return text[0] != 0 || options_refuse_argument(parse, row, text, "a directory");
}

TAKER(segment)
{
    uint32_t *size = &parse->options->segment_size;
    return (options_read_size(text, 2u << 20, LOG_SEGMENT_SIZE_MAX, size) &&
            (*size & (*size - 1)) == 0) ||
           options_refuse_argument(parse, row, text, "a power of two from 2m to 256m");
}

TAKER(secret)
{
    char *secret = parse->options->secret;
    FILE *file = fopen(text, "re");
    if (file == NULL)
        return options_refuse(parse, EXIT_USAGE, "--secret-file: '%s' cannot be read: %s", text,
                              strerror(errno));
    size_t size = fread(secret, 1, OPTIONS_SECRET_SIZE_MAX, file);
    fclose(file);
    while (size > 0 && (secret[size - 1] == '\n' || secret[size - 1] == '\r'))
        size--;
    if (size < 8 || size == OPTIONS_SECRET_SIZE_MAX || memchr(secret, 0, size) != NULL)
        return options_refuse_argument(parse, row, text, "a file of 8 to 255 characters");
    secret[size] = 0;
    return true;
}

TAKER(force)
{
    (void)row;
    parse->force = text;
    return true;
}

/* ---- what must fit together ---- */

static bool take_force(struct parse *parse)
{
    struct options *options = parse->options;
    struct slice piece;
    if (parse->force[0] == 0)
        return options_refuse_argument(parse, &option_rows[OPTION_FORCE], "",
                                       "a comma list of ids in --peers");
    for (const char *list = parse->force; options_next_piece(&list, &piece);) {
        unsigned id = piece.size == 1 ? (unsigned)(((const char *)piece.data)[0] - '0') : 0;
        if (id < 1 || id > 7 || (options->configured & (1u << (id - 1))) == 0)
            return options_refuse_argument(parse, &option_rows[OPTION_FORCE], parse->force,
                                           "a comma list of ids in --peers");
        options->force_members |= (uint8_t)(1u << (id - 1));
    }
    return true;
}

static bool check_group(struct parse *parse)
{
    struct options *options = parse->options;
    if (options->peer_count > 0 && parse->nodes == NULL)
        return options_refuse(parse, EXIT_USAGE, "--peers needs --node: which of them this one is");
    if (options->peer_count == 0) {
        if (parse->nodes == NULL)
            options->self = 1;
        options->configured = (uint8_t)(1u << (options->self - 1));
    }
    if ((options->configured & (1u << (options->self - 1))) == 0)
        return options_refuse(parse, EXIT_USAGE, "--node=%u is not one of --peers", options->self);
    return parse->force == NULL || take_force(parse);
}

/* Each way to authenticate knows one protocol; the other would be an open door. */
static bool check_auth(struct parse *parse)
{
    struct options *options = parse->options;
    if (options->sasl && options->auth_file != NULL)
        return options_refuse(parse, EXIT_USAGE,
                              "-S (--enable-sasl) is for the binary protocol, -Y (--auth-file) for "
                              "the text protocol: only one of them");
    if (options->sasl && options->protocol == PROTOCOL_ASCII)
        return options_refuse(parse, EXIT_USAGE,
                              "-S (--enable-sasl) needs the binary protocol: not -B ascii");
    if (options->auth_file != NULL && options->protocol == PROTOCOL_BINARY)
        return options_refuse(parse, EXIT_USAGE,
                              "-Y (--auth-file) needs the text protocol: not -B binary");
    if (options->sasl)
        options->protocol = PROTOCOL_BINARY;
    if (options->auth_file != NULL)
        options->protocol = PROTOCOL_ASCII;
    if ((options->sasl || options->auth_file != NULL) && options_has_udp(options))
        return options_refuse(parse, EXIT_USAGE,
                              "-U (--udp-port): UDP cannot be used when clients must authenticate");
    return true;
}

/* No listener may speak the other protocol, either. */
static bool check_auth_listeners(struct parse *parse)
{
    struct options *options = parse->options;
    for (uint32_t i = 0; i < options->listen_count; i++) {
        struct options_listen *listen = &options->listen[i];
        bool other = listen->protocol != options->protocol && listen->protocol != PROTOCOL_AUTO;
        if (!options->sasl && options->auth_file == NULL)
            continue;
        if (other)
            return options_refuse(parse, EXIT_USAGE,
                                  "--listen: proto[]: with -S only binary, with -Y only ascii");
        listen->protocol = options->protocol;
    }
    return true;
}

bool options_check_together(struct parse *parse)
{
    return check_group(parse) && check_auth(parse) && options_check_listen(parse) &&
           check_auth_listeners(parse);
}
