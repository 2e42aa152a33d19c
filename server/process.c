#include "server/process.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "net/net.h"

enum {
    DESCRIPTORS_BESIDE = 256,    /* segments, strangers at the door, membership, letters */
    DESCRIPTORS_PER_THREAD = 12, /* its loop, what wakes it, its RDMA queues; 10 by count */
};

int process_check_user(const struct options *options)
{
    if (geteuid() != 0)
        return 0;
    if (options->user == NULL || options->user[0] == 0) {
        log_error("can't run as root without the -u switch");
        return EXIT_USAGE;
    }
    if (getpwnam(options->user) == NULL) {
        log_error("-u (--user): can't find the user %s to switch to", options->user);
        return EXIT_NO_USER;
    }
    return 0;
}

int process_raise_descriptors(const struct options *options)
{
    struct rlimit limit;
    rlim_t threads = (rlim_t)options->thread_count + 1; /* the control thread */
    rlim_t wanted = options->connection_max + DESCRIPTORS_BESIDE +
                    threads * (DESCRIPTORS_PER_THREAD + options->peer_count);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= wanted)
        return 0;
    if (limit.rlim_max < wanted)
        limit.rlim_max = wanted; /* Root may. */
    limit.rlim_cur = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return 0;
    log_error("-c (--conn-limit): %u connections need %llu open files, which this user may not "
              "have (ulimit -n): %s",
              options->connection_max, (unsigned long long)wanted, strerror(errno));
    return EXIT_SYSTEM;
}

void process_raise_locked(const struct options *options)
{
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    if (options->net == NET_CHOOSE_TCP || options->peer_count < 2)
        return;
    if (setrlimit(RLIMIT_MEMLOCK, &limit) == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_MEMLOCK, &limit);
}

int process_allow_core(const struct options *options)
{
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    if (!options->core_dumps || setrlimit(RLIMIT_CORE, &limit) == 0)
        return 0;
    /* Not root: as much as is allowed. */
    if (getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max > 0) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_CORE, &limit) == 0)
            return 0;
    }
    log_error("-r (--enable-coredumps): core files are not allowed here (ulimit -c)");
    return EXIT_SYSTEM;
}

int process_detach(const struct options *options)
{
    if (!options->daemon)
        return 0;
    if (daemon(1, options->verbose > 0) == 0)
        return 0;
    log_error("-d (--daemon): %s", strerror(errno));
    return EXIT_SYSTEM;
}

int process_write_pid(const struct options *options)
{
    if (options->pid_file == NULL)
        return 0;
    FILE *file = fopen(options->pid_file, "we");
    if (file == NULL || fprintf(file, "%ld\n", (long)getpid()) < 0 || fclose(file) != 0) {
        log_error("-P (--pidfile): %s: %s", options->pid_file, strerror(errno));
        return EXIT_SYSTEM;
    }
    return 0;
}

void process_remove_pid(const struct options *options)
{
    if (options->pid_file != NULL)
        unlink(options->pid_file);
}

int process_drop_user(const struct options *options)
{
    if (geteuid() != 0)
        return 0;
    const struct passwd *user = getpwnam(options->user);
    if (user != NULL &&
        (user->pw_uid == 0 ||
         (setgroups(0, NULL) == 0 && setgid(user->pw_gid) == 0 && setuid(user->pw_uid) == 0)))
        return 0;
    log_error("-u (--user): cannot become %s: %s", options->user, strerror(errno));
    return EXIT_SYSTEM;
}

void process_ignore_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* Files that may grow no further (ulimit -f) are as a full disk. */
}
