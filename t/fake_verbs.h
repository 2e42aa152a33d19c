/* fake_verbs.h: RDMA devices without hardware, for tests: `fake_verbs` takes the place of
 * librdmacm and libibverbs. Many nodes in one process, strict as hardware is, or stricter where
 * hardware is kind by luck:
 *
 *  - Each node of a test has a table of its own, and a device; all have the address 127.0.0.1
 *    (::1), device N 127.0.1.N as well, and share the ports. What belongs to one device cannot be
 *    used with another.
 *  - What was posted takes effect in order, asynchronously: at fake_verbs_run(), or, unless
 *    `manual` or a delay is set, right after the call that posted it. A SEND may overtake a READ
 *    before it, as on the wire; completions never do.
 *  - Memory is checked at each use: key, protection domain, bounds, access. A SEND reads its bytes
 *    when it takes effect, a READ when it completes. Receive buffers and the sinks of READs are
 *    overwritten with 0xaa when they are posted.
 *  - A slot of the send queue is free again when its completion, or a later one, was POLLED. A
 *    request that is not signalled and succeeded never completes, not even when the queue pair
 *    breaks.
 *  - A queue pair that is moved to the error state tells its peer nothing: what the peer sends
 *    ends with IBV_WC_RETRY_EXC_ERR. Only rdma_disconnect() and rdma_destroy_id() are heard.
 *  - All of a completion that the standard leaves open is 0xaa.
 *
 * What would hang or be undefined with the real libraries is a violation: it aborts, or is counted
 * (`count_violations`). Any thread; one mutex. */
#ifndef T_FAKE_VERBS_H
#define T_FAKE_VERBS_H

#include <stdbool.h>
#include <stdint.h>

#include "net/rdma_api.h"

enum { FAKE_DEVICE_COUNT = 8 };

/* The table of `device`, 1..8. */
const struct rdma_api *fake_verbs_of(unsigned device);
extern const struct rdma_api fake_verbs; /* of device 1 */

struct fake_settings {
    uint64_t seed;
    bool manual;    /* nothing takes effect but in fake_verbs_run() */
    unsigned delay; /* calls of fake_verbs_run() that anything may take longer; implies manual */
    /* iWARP: the acceptor may not send before it has received (violation), a missing receive ends
     * the connection, 80 bytes inline, READ sinks need IBV_ACCESS_REMOTE_WRITE, the peer's queue
     * pair breaks with ours. */
    bool iwarp;
    unsigned inline_max;      /* more than that: no queue pair (EINVAL) */
    unsigned read_max;        /* max_qp_rd_atom and max_qp_init_rd_atom of the devices */
    unsigned queue_max;       /* max_qp_wr */
    unsigned fail_reg_mr;     /* the n-th ibv_reg_mr() from now on fails with ENOMEM; 0: none */
    unsigned fail_cq;         /* the n-th ibv_create_cq() likewise */
    unsigned fail_qp;         /* the n-th rdma_create_qp() likewise */
    unsigned damage;          /* the n-th SEND or READ that takes effect carries a wrong byte */
    unsigned loopback_device; /* 127.0.0.1 and ::1 are this one's alone; 0: everybody's */
    bool no_device;           /* rdma_bind_addr() and what it would lead to: ENODEV */
    bool silent_removal;      /* a removed device flushes nothing */
    bool count_violations;    /* instead of abort() */
};

struct fake_settings fake_settings_default(void);

/* Begins anew; nothing may be left of what was before (what is, is a violation). */
void fake_verbs_begin(const struct fake_settings *settings);

/* Changes what is set, for what comes. */
void fake_verbs_set(const struct fake_settings *settings);

/* One step: all that is due takes effect. False: nothing did, and nothing waits for its time. */
bool fake_verbs_run(void);

/* ---- misfortunes ---- */

/* Connections (two queue pairs that are ready to send) now; numbered by age from 0. */
unsigned fake_verbs_pairs(void);

/* Both ends break: the oldest request of each fails with `status`, the others are flushed. The CM
 * says nothing. False: there is no such pair. */
bool fake_verbs_break(unsigned pair, enum ibv_wc_status status);

/* IBV_EVENT_DEVICE_FATAL and RDMA_CM_EVENT_DEVICE_REMOVAL; nothing works on it any more but
 * destroying, until fake_verbs_restore(). Once their events are read, its descriptors and those of
 * its completion channels stay readable, and reading fails with EIO, as Linux does it. */
void fake_verbs_remove(unsigned device);
void fake_verbs_restore(unsigned device);

/* The program has given back all of the device, and the library let go of it: it may be restored,
 * which is a violation otherwise (removing a soft-RoCE device waits for that). */
bool fake_verbs_is_free(unsigned device);

/* Nothing leaves or reaches the device, no request and no message of the CM, until it goes on. */
void fake_verbs_stall(unsigned device, bool stalled);

/* ---- what happened ---- */

struct fake_counters {
    uint64_t sends, inline_sends, reads, receives; /* posted */
    uint64_t send_calls, receive_calls;            /* doorbells */
    uint64_t completions, polls, empty_polls;
    uint64_t arms;                               /* ibv_req_notify_cq() */
    uint64_t cq_events, cm_events, async_events; /* fetched */
    uint64_t registered, registered_max;         /* bytes */
    unsigned pds, mrs, cqs, qps, ids, channels;  /* alive; channels of both kinds */
    uint64_t rnr;                                /* a receive was missing */
    uint64_t joins;                              /* connections established */
    uint64_t hang_ups;            /* reads of a descriptor of a device that was removed */
    uint64_t without_ack_timeout; /* ends of them without RDMA_OPTION_ID_ACK_TIMEOUT */
    uint64_t endless_retries;     /* dialled with retry_count 7, which soft-RoCE takes for ever */
    uint64_t violations;
};

void fake_verbs_counters(struct fake_counters *counters);

/* The last violation. */
const char *fake_verbs_violation(void);

#endif
