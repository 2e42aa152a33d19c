/* The options that say where clients connect: ports, addresses with what stands before them, the
 * UNIX socket, and what must fit together with TLS. */
#include "server/options_take.h"

#include <string.h>
#include <sys/un.h>

#include "base/slice.h"

/* host, host:port, [v6]:port, :port; a bare v6 address has no port. False: no address. */
bool options_split_address(struct slice text, struct options_address *address)
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
    uint64_t number = 0;
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

bool options_next_piece(const char **list, struct slice *piece)
{
    if (**list == 0)
        return false;
    size_t size = strcspn(*list, ",");
    *piece = slice_make(*list, size);
    *list += size + ((*list)[size] == ',');
    return true;
}

/* ---- -l ---- */

static bool drop_prefix(struct slice *text, const char *prefix)
{
    size_t size = strlen(prefix);
    if (text->size < size || memcmp(text->data, prefix, size) != 0)
        return false;
    *text = slice_make((const char *)text->data + size, text->size - size);
    return true;
}

/* tag[anything]: names a listener for memcached's proxy; here it means nothing. */
static bool drop_tag(struct slice *text)
{
    struct slice rest = *text;
    if (!drop_prefix(&rest, "tag["))
        return false;
    const char *end = memmem(rest.data, rest.size, "]:", 2);
    if (end == NULL)
        return false;
    size_t size = (size_t)(end - (const char *)rest.data) + 2;
    *text = slice_make((const char *)rest.data + size, rest.size - size);
    return true;
}

/* One of the words before an address. False: none is there. */
static bool take_prefix(struct slice *text, struct options_listen *listen)
{
    static const struct {
        const char *word;
        enum listen_tls tls;
    } kinds[] = {
        {"notls:", LISTEN_TLS_NONE}, {"btls:", LISTEN_TLS_BASIC}, {"mtls:", LISTEN_TLS_MUTUAL}};
    static const struct {
        const char *word;
        enum options_protocol protocol;
    } protocols[] = {{"proto[auto]:", PROTOCOL_AUTO},
                     {"proto[ascii]:", PROTOCOL_ASCII},
                     {"proto[binary]:", PROTOCOL_BINARY}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (drop_prefix(text, kinds[i].word)) {
            listen->tls = kinds[i].tls;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++) {
        if (drop_prefix(text, protocols[i].word)) {
            listen->own_protocol = true;
            listen->protocol = protocols[i].protocol;
            return true;
        }
    }
    return drop_tag(text);
}

TAKER(listen)
{
    struct options *options = parse->options;
    struct slice piece;
    uint32_t before = options->listen_count;
    for (const char *list = text; options_next_piece(&list, &piece);) {
        struct options_listen *listen = &options->listen[options->listen_count];
        if (piece.size == 0)
            continue;
        if (options->listen_count == OPTIONS_LISTEN_MAX)
            return options_refuse_argument(parse, row, text, "16 addresses at most");
        while (take_prefix(&piece, listen))
            continue;
        if (!options_split_address(piece, &listen->at))
            return options_refuse_argument(
                parse, row, text,
                "a comma list of host, host:port or [v6]:port, each maybe behind "
                "notls:, btls:, mtls:, proto[ascii|binary|auto]: or tag[NAME]:");
        options->listen_count++;
    }
    /* Not all interfaces, by a variable that is empty. */
    return options->listen_count > before ||
           options_refuse_argument(parse, row, text, "an address");
}

/* ---- ports ---- */

/* -1: the kernel chooses. */
static bool take_port(struct parse *parse, const struct option_row *row, const char *text,
                      uint32_t *port, bool *any)
{
    uint64_t number = 0;
    *any = strcmp(text, "-1") == 0;
    if (!*any && (!slice_to_u64(slice_text(text), &number) || number > 65535))
        return options_refuse_argument(parse, row, text,
                                       "a number from 0 to 65535, or -1: any free port");
    *port = (uint32_t)number;
    return true;
}

TAKER(port)
{
    return take_port(parse, row, text, &parse->options->port, &parse->options->port_any);
}

TAKER(udp_port)
{
    return take_port(parse, row, text, &parse->options->udp_port, &parse->options->udp_port_any);
}

/* ---- UNIX socket ---- */

TAKER(unix_path)
{
    char allowed[64];
    size_t size_max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
    snprintf(allowed, sizeof(allowed), "a path of at most %zu bytes", size_max);
    parse->options->unix_path = text;
    return (text[0] != 0 && strlen(text) <= size_max) ||
           options_refuse_argument(parse, row, text, allowed);
}

TAKER(unix_mask)
{
    uint32_t mask = 0;
    size_t size = strlen(text);
    bool good = size > 0 && size <= 4 && strspn(text, "01234567") == size;
    for (const char *digit = text; good && *digit != 0; digit++)
        mask = mask * 8 + (uint32_t)(*digit - '0');
    parse->options->unix_mask = mask;
    return (good && mask <= 0777) ||
           options_refuse_argument(parse, row, text, "an octal number from 0 to 777");
}

/* ---- TLS ---- */

TAKER(key_format)
{
    uint32_t *format = &parse->options->tls.key_format;
    if (strcmp(text, "1") == 0 || strcmp(text, "PEM") == 0)
        *format = TLS_KEY_PEM;
    else if (strcmp(text, "2") == 0 || strcmp(text, "DER") == 0)
        *format = TLS_KEY_DER;
    else
        return options_refuse_argument(parse, row, text, "1 (PEM) or 2 (DER)");
    return true;
}

/* ---- what must fit together ---- */

/* A UNIX socket turns the network off, as memcached does. */
static void listen_on_unix_only(struct options *options)
{
    options->listen[0] = (struct options_listen){.is_unix = true, .tls = LISTEN_TLS_NONE};
    options->listen_count = 1;
    options->udp_port = 0;
    options->udp_port_any = false;
}

/* Each address gets the ports of -p and -U, unless it has one of its own, which is for both. */
static bool give_ports(struct parse *parse)
{
    struct options *options = parse->options;
    bool tcp = options->port != 0 || options->port_any;
    bool udp = options_has_udp(options);
    if (options->listen_count == 0 && (tcp || udp))
        options->listen_count = 1; /* All interfaces, as memcached does. */
    for (uint32_t i = 0; i < options->listen_count; i++) {
        struct options_listen *listen = &options->listen[i];
        bool own = listen->at.port != 0;
        listen->has_tcp = own || tcp;
        listen->udp_port = own ? listen->at.port : (uint16_t)options->udp_port;
        if (!own)
            listen->at.port = (uint16_t)options->port;
        if (!listen->has_tcp && !udp)
            return options_refuse(parse, EXIT_USAGE, "--listen=%s has no port, and -p is 0",
                                  listen->at.host);
    }
    return true;
}

static void give_protocols(struct options *options)
{
    for (uint32_t i = 0; i < options->listen_count; i++) {
        struct options_listen *listen = &options->listen[i];
        if (!listen->own_protocol)
            listen->protocol = options->protocol;
    }
}

static bool check_tls(struct parse *parse)
{
    struct options *options = parse->options;
    bool tcp = false;
    for (uint32_t i = 0; i < options->listen_count; i++) {
        const struct options_listen *listen = &options->listen[i];
        tcp = tcp || listen->has_tcp;
        if (listen->tls != LISTEN_TLS_OPTION && !options->tls_enabled && !listen->is_unix)
            return options_refuse(
                parse, EXIT_USAGE,
                "--listen: notls:, btls: and mtls: are valid only with -Z (--enable-ssl)");
        if (listen->tls == LISTEN_TLS_MUTUAL)
            options->tls.required_anywhere = true;
    }
    if (options->tls_enabled && !tcp)
        return options_refuse(parse, EXIT_USAGE, "-Z (--enable-ssl): TLS needs a TCP port");
    return true;
}

/* UDP has no connection that could log in, so it would be a way around whatever asks clients who
 * they are. */
static bool check_udp(struct parse *parse)
{
    const struct options *options = parse->options;
    bool certificates = options->tls_enabled && (options->tls.verify_mode == TLS_MODE_REQUIRE ||
                                                 options->tls.required_anywhere);
    if (options_has_udp(options) && certificates)
        return options_refuse(
            parse, EXIT_USAGE,
            "-U (--udp-port): UDP cannot be used when clients must show a certificate");
    return true;
}

bool options_check_listen(struct parse *parse)
{
    if (parse->options->unix_path != NULL)
        listen_on_unix_only(parse->options);
    else if (!give_ports(parse))
        return false;
    give_protocols(parse->options);
    return check_tls(parse) && check_udp(parse);
}
