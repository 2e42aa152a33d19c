/* main.c: healcached. Where to read on:
 *
 *   options.c     the command line (option.def)
 *   node.c        what is opened in which order, and closed in reverse
 *   control.c     the control thread: clients that connect, membership, signals
 *   worker.c      the worker threads: one event loop, one shard, many clients each
 *   connection.c  one client */
#include "server/node.h"
#include "server/options.h"
#include "server/process.h"

#include <stdio.h>

int main(int count, char **arguments)
{
    static struct options options;
    char why[512];
    switch (options_parse(&options, count, arguments, why, sizeof(why))) {
    case OPTIONS_EXIT:
        return 0;
    case OPTIONS_WRONG:
        fprintf(stderr, "healcached: %s\n", why);
        return options.exit_code;
    case OPTIONS_RUN:
        break;
    }
    return node_run(&options);
}
