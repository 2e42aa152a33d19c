#include "net/net_private.h"
const struct wire wire_rdma = {0};
bool rdma_lane_poll(struct net_lane *lane) { (void)lane; return false; }
bool rdma_lane_may_sleep(struct net_lane *lane) { (void)lane; return true; }
void rdma_lane_set_polling(struct net_lane *lane, bool polling) { (void)lane; (void)polling; }
