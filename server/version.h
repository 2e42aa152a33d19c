/* version.h: the version that clients and operators see: digits and dots, because clients parse it. */
#ifndef SERVER_VERSION_H
#define SERVER_VERSION_H

#define SERVER_VERSION "0.1.0"

#endif
