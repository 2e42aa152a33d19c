/* net_sim_wire.h: a wire of net (net_private.h) made of the simulator's network (sim_queue.h): what
 * one end writes waits in a queue for a random time, and comes out at the other in order; an end
 * that goes loses what is under way, but for the first few. Greetings are still over TCP. Shows
 * that the simulator's network keeps the contract of net.h, the contract that the core is simulated
 * on. Any number of nodes and threads in one process; one mutex. */
#ifndef T_NET_SIM_WIRE_H
#define T_NET_SIM_WIRE_H

#include <stdint.h>

struct net;

/* Before the lanes of `net` are opened. Delays and losses come from `seed`. */
void sim_wire_use(struct net *net, uint64_t seed);

#endif
