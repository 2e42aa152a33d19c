/* ports.h: ports of 127.0.0.1 that no other test of this project has at the same time. How, and the
 * same for the tests in Python: t/ports.py. Functions static inline, because a test is one program;
 * one thread. */
#ifndef T_PORTS_H
#define T_PORTS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "t/test.h"

enum {
    PORTS_RAFT_OFFSET = 10000, /* membership listens at the peer port and this */
    PORTS_SLOT_COUNT = 600,
    PORTS_SLOT_SIZE = 8,
    PORTS_HELD_MAX = 24, /* slots of one process; the oldest is given back for a new one */
    PORTS_USUAL_TOP = 32768,
    PORTS_LOWEST = 1024,
};

/* One more than the highest port: below what the kernel gives to outgoing connections. */
static inline unsigned ports_top(void)
{
    unsigned lowest_outgoing = PORTS_USUAL_TOP;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "r");
    if (file != NULL) {
        if (fscanf(file, "%u", &lowest_outgoing) != 1)
            lowest_outgoing = PORTS_USUAL_TOP;
        fclose(file);
    }
    unsigned below = PORTS_RAFT_OFFSET + PORTS_SLOT_COUNT * PORTS_SLOT_SIZE + PORTS_LOWEST;
    return lowest_outgoing < below || lowest_outgoing > PORTS_USUAL_TOP ? PORTS_USUAL_TOP
                                                                        : lowest_outgoing;
}

static inline bool ports_is_free(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;
    int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    bool is_free = bind(probe, (void *)&address, sizeof(address)) == 0;
    close(probe);
    return is_free;
}

/* The socket that holds the slot; -1: another process has it, or a stranger one of its ports. */
static inline int ports_claim(unsigned slot, unsigned first_peer)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int size = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "healcached-ports-%u", slot);
    int holder = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool is_ours =
        bind(holder, (void *)&name,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)size)) == 0;
    for (unsigned i = 0; is_ours && i < PORTS_SLOT_SIZE; i++)
        is_ours =
            ports_is_free(first_peer + i) && ports_is_free(first_peer + PORTS_RAFT_OFFSET + i);
    if (is_ours)
        return holder;
    close(holder);
    return -1;
}

/* The first peer port of a new slot. */
static inline unsigned ports_take_slot(void)
{
    static int held[PORTS_HELD_MAX]; /* 0: none; a ring */
    static unsigned taken;
    unsigned top = ports_top();
    for (unsigned tries = 0; tries < 10 * PORTS_SLOT_COUNT; tries++) {
        unsigned slot;
        if (getrandom(&slot, sizeof(slot), 0) != sizeof(slot))
            break;
        slot %= PORTS_SLOT_COUNT;
        unsigned first = top - (PORTS_SLOT_COUNT - slot) * PORTS_SLOT_SIZE - PORTS_RAFT_OFFSET;
        int holder = ports_claim(slot, first);
        if (holder < 0)
            continue;
        int *seat = &held[taken++ % PORTS_HELD_MAX];
        if (*seat != 0)
            close(*seat);
        *seat = holder;
        return first;
    }
    test_fail(__FILE__, __LINE__, "no free ports: all slots are taken");
    abort();
}

/* A peer port; it and raft's port of it stay this process's until it ends, or has taken some 180
 * more. */
static inline uint16_t free_port(void)
{
    static unsigned next, left;
    if (left == 0) {
        next = ports_take_slot();
        left = PORTS_SLOT_SIZE;
    }
    left--;
    return (uint16_t)next++;
}

#endif
