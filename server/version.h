/* version.h: what this is. */
#ifndef SERVER_VERSION_H
#define SERVER_VERSION_H

/* Our own. */
#define SERVER_VERSION "0.1.0"

/* What `version` answers: the memcached whose protocol this speaks. Clients decide by it what they
 * may use, and libmemcached refuses a major version of 0. */
#define SERVER_VERSION_PROTOCOL "1.6.45-healcached"

#endif
