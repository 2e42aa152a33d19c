/* disk.h: what the operator must know of the place where the log lies. Control thread, at start. */
#ifndef SERVER_DISK_H
#define SERVER_DISK_H

#include "base/status.h"

struct node;

/* Compares what -m may use with what is free, before the shards are opened. A line warns when it is
 * more. STATUS_NO_SPACE: it is a new directory, and not even the smallest log fits; a line says so.
 */
enum status disk_check(const struct node *node) MUST_CHECK;

/* One line on how the open log is made durable; a warning where it can't be. */
void disk_tell(const struct node *node);

#endif
