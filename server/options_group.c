/* The options with a shape of their own: addresses, the nodes of a group, files; and what must fit
 * together. */
#include "server/options_take.h"

#include <string.h>

#include "base/slice.h"

/* host, host:port, [v6]:port, :port; a bare v6 address has no port. False: no address. */
static bool split_address(struct slice text, uint16_t port, struct options_address *address)
{
    const char *begin = text.data;
    const char *end = begin + text.size;
    const char *colon = memrchr(begin, ':', text.size);
    struct slice host = text;
    if (text.size > 0 && begin[0] == '[') {
        const char *bracket = memchr(begin, ']', text.size);
        if (bracket == NULL || (bracket + 1 != end && bracket[1] != ':'))
            return false;
        host = slice_make(begin + 1, (size_t)(bracket - begin - 1));
        colon = bracket + 1 == end ? NULL : bracket + 1;
    } else if (colon != NULL && memchr(begin, ':', (size_t)(colon - begin)) != NULL) {
        colon = NULL;
    } else if (colon != NULL) {
        host.size = (size_t)(colon - begin);
    }
    uint64_t number = port;
    if (colon != NULL &&
        (!slice_to_u64(slice_make(colon + 1, (size_t)(end - colon - 1)), &number) ||
         number > 65535))
        return false;
    if (host.size >= sizeof(address->host))
        return false;
    address->port = (uint16_t)number;
    memcpy(address->host, host.data, host.size);
    address->host[host.size] = 0;
    if (strcmp(address->host, "*") == 0)
        address->host[0] = 0;
    return true;
}

/* The next piece of a comma list. */
static bool next_piece(const char **list, struct slice *piece)
{
    if (**list == 0)
        return false;
    size_t size = strcspn(*list, ",");
    *piece = slice_make(*list, size);
    *list += size + ((*list)[size] == ',');
    return true;
}

TAKER(listen)
{
    struct options *options = parse->options;
    struct slice piece;
    for (const char *list = text; next_piece(&list, &piece);) {
        if (options->listen_count == OPTIONS_LISTEN_MAX ||
            !split_address(piece, 0, &options->listen[options->listen_count++].at))
            return options_refuse_argument(parse, row, text,
                                           "up to 16 of host, host:port or [v6]:port");
    }
    return true;
}

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
    return true;
}

static bool take_peer(struct options *options, struct slice piece)
{
    const char *begin = piece.data;
    struct options_address peer = {.id = 0};
    if (piece.size < 3 || begin[0] < '1' || begin[0] > '7' || begin[1] != '@')
        return false;
    if (!split_address(slice_make(begin + 2, piece.size - 2), 0, &peer))
        return false;
    peer.id = (unsigned)(begin[0] - '0');
    uint8_t bit = (uint8_t)(1u << (peer.id - 1));
    if (peer.port == 0 || peer.host[0] == 0 || options->peer_count == OPTIONS_PEER_MAX ||
        (options->configured & bit) != 0)
        return false;
    uint32_t at = options->peer_count++;
    for (; at > 0 && options->peers[at - 1].id > peer.id; at--)
        options->peers[at] = options->peers[at - 1];
    options->peers[at] = peer;
    options->configured |= bit;
    return true;
}

TAKER(peers)
{
    static const char allowed[] =
        "ID@HOST:PORT,... with different ids from 1 to 7; 1, 3, 5 or 7 nodes";
    struct options *options = parse->options;
    struct slice piece;
    options->peer_count = 0;
    options->configured = 0;
    for (const char *list = text; next_piece(&list, &piece);) {
        if (!take_peer(options, piece))
            return options_refuse_argument(parse, row, text, allowed);
    }
    return options->peer_count % 2 == 1 || options_refuse_argument(parse, row, text, allowed);
}

TAKER(data)
{
    parse->options->data = text;
    return text[0] != 0 || options_refuse_argument(parse, row, text, "a directory");
}

TAKER(segment)
{
    uint32_t *size = &parse->options->segment_size;
    return (options_read_size(text, 65536, 1u << 31, size) && (*size & (*size - 1)) == 0) ||
           options_refuse_argument(parse, row, text, "a power of two from 64k to 2048m");
}

TAKER(secret)
{
    char *secret = parse->options->secret;
    FILE *file = fopen(text, "re");
    if (file == NULL)
        return options_refuse_argument(parse, row, text, "a file that can be read");
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
    for (const char *list = parse->force; next_piece(&list, &piece);) {
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

static bool check_listen(struct parse *parse)
{
    struct options *options = parse->options;
    if (options->listen_count == 0 && options->port != 0)
        options->listen_count = 1; /* All interfaces, as memcached does. */
    for (uint32_t i = 0; i < options->listen_count; i++) {
        if (options->listen[i].at.port == 0)
            options->listen[i].at.port = (uint16_t)options->port;
        if (options->listen[i].at.port == 0)
            return options_refuse(parse, EXIT_USAGE, "--listen=%s has no port, and -p is 0",
                                  options->listen[i].at.host);
    }
    return true;
}

bool options_check_together(struct parse *parse)
{
    parse->options->item_size_group = parse->options->item_size_max;
    return check_group(parse) && check_listen(parse);
}
