/* process.h: what a daemon does to its process before threads start. */
#ifndef SERVER_PROCESS_H
#define SERVER_PROCESS_H

#include "server/options.h"

/* Each returns 0, or the exit code after a line on stderr. */
int process_check_user(const struct options *options); /* root needs -u, as in memcached */
int process_allow_core(const struct options *options); /* -r */
int process_raise_descriptors(const struct options *options);
/* What RDMA may lock, as far as this user may say so; net tells when it is too little. */
void process_raise_locked(const struct options *options);
int process_detach(const struct options *options); /* -d */
int process_write_pid(const struct options *options);
int process_drop_user(const struct options *options);
void process_remove_pid(const struct options *options);
void process_ignore_signals(void);

#endif
