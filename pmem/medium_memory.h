/* medium_memory.h: segments in anonymous memory: for a node without persistence, and for tests. */
#ifndef PMEM_MEDIUM_MEMORY_H
#define PMEM_MEDIUM_MEMORY_H

#include "pmem/medium.h"

/* Every drain is done on return: there is nothing that could be lost later than the process. */
enum status medium_memory_open(struct medium **medium, uint32_t segment_size) MUST_CHECK;

#endif
