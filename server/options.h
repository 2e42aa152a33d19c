/* options.h: the command line. Read once, before any thread; constant afterwards. The table is
 * option.def. */
#ifndef SERVER_OPTIONS_H
#define SERVER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "replica/model.h"
#include "server/tls.h"

enum {
    OPTIONS_LISTEN_MAX = 16,
    OPTIONS_PEER_MAX = 7,
    OPTIONS_SECRET_SIZE_MAX = 256,
    OPTIONS_EXTENDED_SIZE = 16384,
    OPTIONS_THREAD_MAX = 64,
    OPTIONS_IGNORED_MAX = 192, /* rows of option.def */
    EXIT_WRONG = 1,            /* as memcached: unknown options, and some wrong values */
    EXIT_USAGE = 64,           /* as memcached: wrong use */
    EXIT_NO_USER = 67,         /* unknown user */
    EXIT_SYSTEM = 71,          /* cannot listen */
    EXIT_MEDIUM = 74,          /* the medium of the log failed */
};

/* A numeric address or a name, and a port. */
struct options_address {
    unsigned id; /* of peers only */
    uint16_t port;
    char host[256]; /* empty: all interfaces */
};

enum options_protocol {
    PROTOCOL_AUTO,
    PROTOCOL_ASCII,
    PROTOCOL_BINARY,
};

/* With -Z, a listener may differ from what the options say of all. */
enum listen_tls { LISTEN_TLS_OPTION, LISTEN_TLS_NONE, LISTEN_TLS_BASIC, LISTEN_TLS_MUTUAL };

/* What a node that has no others does with a log that is damaged. */
enum options_damaged { DAMAGED_REFUSE, DAMAGED_SERVE };

/* A place where clients connect. Ports that are 0: any. */
struct options_listen {
    struct options_address at;
    uint16_t udp_port; /* if there is UDP at all */
    bool has_tcp;
    bool is_unix; /* at unix_path; nothing else then */
    enum listen_tls tls;
    bool own_protocol; /* not that of -B */
    uint32_t protocol; /* enum options_protocol */
};

struct options {
    uint32_t port; /* 0: no client port, unless --listen names one */
    bool port_any; /* the kernel chooses */
    uint32_t udp_port;
    bool udp_port_any;
    const char *unix_path; /* NULL: none */
    uint32_t unix_mask;    /* its permissions */
    struct options_listen listen[OPTIONS_LISTEN_MAX];
    uint32_t listen_count; /* at least 1, with -p 0 maybe none */
    uint64_t memory_size;
    uint32_t connection_max;
    uint32_t client_memory_mb; /* 0: to be chosen */
    uint32_t thread_count;
    bool no_eviction;
    bool no_flush;
    bool no_dump;  /* stats cachedump and detail, lru_crawler metadump and mgdump */
    bool no_watch; /* the command watch */
    bool no_cas;   /* every cas unique is printed as 0 */
    bool shutdown_allowed;
    uint32_t item_size_max;
    uint32_t backlog;
    uint32_t per_turn_max;
    uint32_t protocol; /* enum options_protocol */
    uint32_t idle_timeout_s;
    uint32_t watcher_buffer_kb;
    bool track_sizes;
    bool detail;    /* stats detail is on from the start */
    char delimiter; /* ends the prefix of a key, for stats detail */
    uint32_t verbose;
    bool daemon;
    bool core_dumps;
    const char *pid_file;
    const char *user;
    bool sasl;             /* clients authenticate in the binary protocol */
    const char *auth_file; /* NULL: not in the text protocol */
    bool tls_enabled;      /* -Z */
    struct tls_options tls;

    unsigned self;                                  /* 1 without --peers */
    bool self_given;                                /* --node */
    struct options_address peers[OPTIONS_PEER_MAX]; /* in the order of their ids */
    uint32_t peer_count;                            /* 0: a single node */
    uint8_t configured;                             /* node set */
    const char *data;
    uint32_t segment_size; /* 0: to be chosen */
    bool recovery_full;
    enum model persistency;
    bool rebuild_index;
    uint32_t damaged;            /* enum options_damaged */
    const char *index_directory; /* "none": the process's own memory */
    uint32_t net;                /* enum net_choice */
    uint32_t poll_us;            /* 0: never */
    uint32_t suspect_ms;
    uint32_t lease_ms;
    uint32_t election_ms;
    uint32_t stall_ms;
    char secret[OPTIONS_SECRET_SIZE_MAX]; /* empty: none */
    char extended[OPTIONS_EXTENDED_SIZE]; /* the lists of -o, cut into words: texts point into it */
    uint32_t extended_used;
    uint8_t force_members; /* node set; 0: not forced */

    int exit_code;                              /* after OPTIONS_WRONG */
    uint64_t ignored[OPTIONS_IGNORED_MAX / 64]; /* given, but without a meaning here */
};

enum options_verdict {
    OPTIONS_RUN,
    OPTIONS_EXIT, /* -h, -V or the like was answered on stdout */
    OPTIONS_WRONG /* one line about it is in `why`; end with options->exit_code */
};

/* Texts point into `arguments`. `why` gets one line, which names the option and what is allowed. */
enum options_verdict options_parse(struct options *options, int count, char **arguments, char *why,
                                   size_t why_size);

static inline bool options_has_udp(const struct options *options)
{
    return options->udp_port != 0 || options->udp_port_any;
}

/* Says once, in the log, which of the given options have no meaning here, and why. */
void options_log_ignored(const struct options *options);

/* options_text.c: what -h, -V, -i and --manual answer. */
void options_print_help(FILE *out);
void options_print_version(FILE *out);
void options_print_license(FILE *out);
void options_print_manual(FILE *out); /* roff: doc/healcached.1 */

/* Hashes of what must be equal on all nodes (for connecting), and of what a data directory belongs
 * to. */
uint64_t options_cluster_hash(const struct options *options);
uint64_t options_directory_hash(const struct options *options);

#endif
