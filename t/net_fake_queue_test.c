/* Goal: queue pairs, memory and completions of the fake device are as strict as it says
 * (fake_verbs.h), or the tests of RDMA would prove little. Method: two nodes with a queue pair
 * each, without net; every rule is broken once, and kept where that says something. */
#include "t/fake_pair.h"

/* ---- queues ---- */

TEST(fake_queue, needs_a_queue_pair_that_the_device_can_make)
{
    struct pair pair = plan();
    open_pair(&pair);
    pair.dialler.api->rdma_create_id(pair.dialler.channel, &pair.dialler.id, NULL, RDMA_PS_TCP);
    EXPECT(make_qp(&pair, &pair.dialler) != 0 && errno == EINVAL); /* no device yet */
    destroy_id(&pair.dialler);
    resolve(&pair);
    pair.dialler.api->rdma_destroy_qp(pair.dialler.id);
    pair.cap.max_inline_data = 221;
    EXPECT(make_qp(&pair, &pair.dialler) != 0 && errno == EINVAL);
    pair.cap.max_inline_data = 220;
    pair.cap.max_send_wr = 1025;
    EXPECT(make_qp(&pair, &pair.dialler) != 0 && errno == EINVAL);
    pair.cap.max_send_wr = 4;
    struct ibv_pd *own = pair.dialler.pd;
    pair.dialler.pd = pair.acceptor.pd;
    EXPECT(make_qp(&pair, &pair.dialler) != 0 && errno == EINVAL); /* of another device */
    pair.dialler.pd = own;
    EXPECT_EQ(make_qp(&pair, &pair.dialler), 0);
    EXPECT(make_qp(&pair, &pair.dialler) != 0); /* it has one */
    close_pair(&pair);
}

TEST(fake_queue, delivers_and_leaves_open_fields_open)
{
    struct pair pair = plan();
    struct ibv_wc wc;
    join(&pair);
    memcpy(pair.dialler.memory, "message", 8);
    EXPECT_EQ(post_receive(&pair.acceptor, 7, place(&pair.acceptor, 100, 64)), 0);
    EXPECT_EQ(pair.acceptor.memory[163], 0xaa); /* the device's now */
    EXPECT_EQ(post_send(&pair.dialler, 8, place(&pair.dialler, 0, 8), IBV_SEND_SIGNALED), 0);
    ASSERT_EQ(ibv_poll_cq(pair.acceptor.cq, 1, &wc), 1);
    EXPECT_EQ(wc.status, IBV_WC_SUCCESS);
    EXPECT_EQ(wc.opcode, IBV_WC_RECV);
    EXPECT_EQ(wc.byte_len, 8);
    EXPECT_EQ(wc.src_qp, 0xaaaaaaaa);
    EXPECT(memcmp(pair.acceptor.memory + 100, "message", 8) == 0);
    ASSERT_EQ(ibv_poll_cq(pair.dialler.cq, 1, &wc), 1);
    EXPECT_EQ(wc.opcode, IBV_WC_SEND);
    EXPECT_EQ(wc.byte_len, 0xaaaaaaaa); /* of receives only */
    close_pair(&pair);
}

TEST(fake_queue, says_next_to_nothing_of_a_failure)
{
    struct pair pair = plan();
    struct ibv_wc wc;
    join(&pair);
    EXPECT_EQ(post_send(&pair.dialler, 8, place(&pair.dialler, 0, 8), 0), 0);
    ASSERT_EQ(ibv_poll_cq(pair.dialler.cq, 1, &wc), 1);
    EXPECT_EQ(wc.wr_id, 8);
    EXPECT_EQ(wc.status, IBV_WC_RNR_RETRY_EXC_ERR);
    EXPECT_EQ(wc.qp_num, pair.dialler.id->qp->qp_num);
    EXPECT_EQ((unsigned)wc.opcode, 0xaaaaaaaa);
    EXPECT_EQ(wc.byte_len, 0xaaaaaaaa);
    close_pair(&pair);
}

TEST(fake_queue, frees_slots_only_when_a_later_completion_was_polled)
{
    struct pair pair = plan();
    join(&pair);
    for (uint64_t i = 0; i < 4; i++)
        EXPECT_EQ(post_receive(&pair.acceptor, i, place(&pair.acceptor, 0, 64)), 0);
    EXPECT_EQ(post_receive(&pair.acceptor, 4, place(&pair.acceptor, 0, 64)), ENOMEM);
    for (uint64_t i = 0; i < 4; i++)
        EXPECT_EQ(
            post_send(&pair.dialler, i, place(&pair.dialler, 0, 8), i == 2 ? IBV_SEND_SIGNALED : 0),
            0);
    EXPECT_EQ(post_send(&pair.dialler, 4, place(&pair.dialler, 0, 8), 0), ENOMEM);
    EXPECT_EQ(post_receive(&pair.acceptor, 4, place(&pair.acceptor, 0, 64)), ENOMEM);
    EXPECT_EQ(completed(&pair.acceptor, 0), IBV_WC_SUCCESS);
    EXPECT_EQ(post_receive(&pair.acceptor, 4, place(&pair.acceptor, 0, 64)), 0);
    EXPECT_EQ(completed(&pair.dialler, 2), IBV_WC_SUCCESS);
    EXPECT_EQ(completed(&pair.dialler, 2), -1);
    for (uint64_t i = 4; i < 7; i++)
        EXPECT_EQ(post_send(&pair.dialler, i, place(&pair.dialler, 0, 8), 0),
                  0); /* three were freed, one not */
    EXPECT_EQ(post_send(&pair.dialler, 7, place(&pair.dialler, 0, 8), 0), ENOMEM);
    close_pair(&pair);
}

/* The status with which a SEND of 32 bytes from `offset` with `key` more than the right one ends.
 */
static int status_of_send(struct pair *pair, uint32_t offset, uint32_t key)
{
    join(pair);
    struct ibv_sge sge = place(&pair->dialler, offset, 32);
    sge.lkey += key;
    post_receive(&pair->acceptor, 1, place(&pair->acceptor, 0, 64));
    EXPECT_EQ(post_send(&pair->dialler, 2, sge, IBV_SEND_SIGNALED), 0);
    int status = completed(&pair->dialler, 2);
    close_pair(pair);
    return status;
}

TEST(fake_queue, checks_the_memory_of_a_send)
{
    struct pair pair = plan();
    EXPECT_EQ(status_of_send(&pair, MEMORY_SIZE - 32, 0), IBV_WC_SUCCESS);
    EXPECT_EQ(status_of_send(&pair, MEMORY_SIZE - 31, 0), IBV_WC_LOC_PROT_ERR);
    EXPECT_EQ(status_of_send(&pair, 0, 1), IBV_WC_LOC_PROT_ERR);   /* the remote key */
    EXPECT_EQ(status_of_send(&pair, 0, 256), IBV_WC_LOC_PROT_ERR); /* another device's */
    EXPECT_EQ(violations(), 0);
}

TEST(fake_queue, checks_what_a_receive_may_write)
{
    struct pair pair = plan();
    pair.access = 0;
    join(&pair);
    EXPECT_EQ(post_receive(&pair.acceptor, 1, place(&pair.acceptor, 0, 64)), 0);
    EXPECT_EQ(post_send(&pair.dialler, 2, place(&pair.dialler, 0, 8), 0), 0);
    EXPECT_EQ(completed(&pair.acceptor, 1), IBV_WC_LOC_PROT_ERR);
    EXPECT_EQ(completed(&pair.dialler, 2), IBV_WC_REM_OP_ERR);
    close_pair(&pair);
}

TEST(fake_queue, fails_both_ends_when_a_receive_is_too_small)
{
    struct pair pair = plan();
    join(&pair);
    EXPECT_EQ(post_receive(&pair.acceptor, 1, place(&pair.acceptor, 0, 31)), 0);
    EXPECT_EQ(post_receive(&pair.acceptor, 2, place(&pair.acceptor, 0, 64)), 0);
    EXPECT_EQ(post_send(&pair.dialler, 3, place(&pair.dialler, 0, 32), 0), 0);
    EXPECT_EQ(completed(&pair.acceptor, 1), IBV_WC_LOC_LEN_ERR);
    EXPECT_EQ(completed(&pair.acceptor, 2), IBV_WC_WR_FLUSH_ERR);
    EXPECT_EQ(completed(&pair.dialler, 3), IBV_WC_REM_INV_REQ_ERR);
    EXPECT_EQ(post_send(&pair.dialler, 4, place(&pair.dialler, 0, 32), 0), 0);
    EXPECT_EQ(completed(&pair.dialler, 4), IBV_WC_WR_FLUSH_ERR);
    close_pair(&pair);
}

TEST(fake_queue, inlines_any_memory_up_to_the_limit)
{
    struct pair pair = plan();
    uint8_t bytes[17] = "on the stack";
    struct ibv_sge sge = {.addr = (uintptr_t)bytes, .length = 17};
    pair.settings.manual = true;
    join(&pair);
    EXPECT_EQ(post_receive(&pair.acceptor, 1, place(&pair.acceptor, 0, 64)), 0);
    EXPECT_EQ(post_send(&pair.dialler, 2, sge, IBV_SEND_INLINE), EINVAL);
    sge.length = 16;
    EXPECT_EQ(post_send(&pair.dialler, 2, sge, IBV_SEND_INLINE), 0);
    memset(bytes, 0, sizeof(bytes)); /* It is free again at once. */
    run();
    EXPECT_EQ(completed(&pair.acceptor, 1), IBV_WC_SUCCESS);
    EXPECT_TEXT((const char *)pair.acceptor.memory, "on the stack");
    close_pair(&pair);
}

TEST(fake_queue, reads_what_is_sent_when_it_takes_effect)
{
    struct pair pair = plan();
    pair.settings.manual = true;
    join(&pair);
    memcpy(pair.dialler.memory, "early", 6);
    EXPECT_EQ(post_receive(&pair.acceptor, 1, place(&pair.acceptor, 0, 64)), 0);
    EXPECT_EQ(post_send(&pair.dialler, 2, place(&pair.dialler, 0, 6), IBV_SEND_SIGNALED), 0);
    EXPECT_EQ(completed(&pair.acceptor, 1), -1);
    memcpy(pair.dialler.memory, "late!", 6);
    run();
    EXPECT_EQ(completed(&pair.acceptor, 1), IBV_WC_SUCCESS);
    EXPECT_TEXT((const char *)pair.acceptor.memory, "late!");
    close_pair(&pair);
}

TEST(fake_queue, counts_a_missing_receive_and_retries_as_the_peer_said)
{
    struct pair pair = plan();
    struct fake_counters counters;
    pair.param.rnr_retry_count = 7;
    join(&pair);
    EXPECT_EQ(post_send(&pair.dialler, 1, place(&pair.dialler, 0, 8), IBV_SEND_SIGNALED), 0);
    run();
    EXPECT_EQ(completed(&pair.dialler, 1), -1);
    EXPECT_EQ(post_receive(&pair.acceptor, 2, place(&pair.acceptor, 0, 64)), 0);
    run();
    EXPECT_EQ(completed(&pair.dialler, 1), IBV_WC_SUCCESS);
    fake_verbs_counters(&counters);
    EXPECT(counters.rnr > 1);
    close_pair(&pair);
}

/* What completed with success and without a signal never shows, whatever comes later. */
TEST(fake_queue, flushes_in_order_what_was_not_done)
{
    struct pair pair = plan();
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_ERR};
    pair.settings.manual = true;
    join(&pair);
    EXPECT_EQ(post_receive(&pair.acceptor, 1, place(&pair.acceptor, 0, 64)), 0);
    EXPECT_EQ(post_send(&pair.dialler, 2, place(&pair.dialler, 0, 8), 0), 0);
    run();
    EXPECT_EQ(post_send(&pair.dialler, 3, place(&pair.dialler, 0, 8), 0), 0);
    EXPECT_EQ(post_send(&pair.dialler, 4, place(&pair.dialler, 0, 8), IBV_SEND_SIGNALED), 0);
    EXPECT_EQ(post_receive(&pair.dialler, 5, place(&pair.dialler, 0, 64)), 0);
    EXPECT_EQ(fake_verbs.ibv_modify_qp(pair.dialler.id->qp, &attr, IBV_QP_STATE), 0);
    run();
    EXPECT_EQ(completed(&pair.dialler, 3), IBV_WC_WR_FLUSH_ERR);
    EXPECT_EQ(completed(&pair.dialler, 4), IBV_WC_WR_FLUSH_ERR);
    EXPECT_EQ(completed(&pair.dialler, 5), IBV_WC_WR_FLUSH_ERR);
    EXPECT_EQ(completed(&pair.dialler, 6), -1);
    EXPECT_EQ(next_event(&pair.acceptor), -1); /* The peer is told nothing. */
    EXPECT_EQ(completed(&pair.acceptor, 1), IBV_WC_SUCCESS);
    EXPECT_EQ(post_send(&pair.acceptor, 7, place(&pair.acceptor, 0, 8), 0), 0);
    run();
    EXPECT_EQ(completed(&pair.acceptor, 7), IBV_WC_RETRY_EXC_ERR);
    close_pair(&pair);
}

TEST(fake_queue, modifies_what_a_connected_queue_pair_allows)
{
    struct pair pair = plan();
    struct ibv_qp_attr attr = {.qp_state = IBV_QPS_RTS, .min_rnr_timer = 12};
    join(&pair);
    struct ibv_qp *qp = pair.dialler.id->qp;
    EXPECT_EQ(fake_verbs.ibv_modify_qp(qp, &attr, IBV_QP_MIN_RNR_TIMER), 0);
    EXPECT_EQ(fake_verbs.ibv_modify_qp(qp, &attr, IBV_QP_TIMEOUT), EINVAL);
    attr.min_rnr_timer = 32;
    EXPECT_EQ(fake_verbs.ibv_modify_qp(qp, &attr, IBV_QP_MIN_RNR_TIMER), EINVAL);
    close_pair(&pair);
}

/* ---- reads ---- */

/* The status with which a READ of 32 bytes ends at the dialler; *peer_fails: the acceptor's queue
 * pair broke, too. */
static int status_of_read(struct pair *pair, uint32_t key, bool *peer_fails)
{
    join(pair);
    post_receive(&pair->acceptor, 1, place(&pair->acceptor, 64, 64));
    EXPECT_EQ(post_read(pair, 2, 32, pair->acceptor.mr->rkey + key), 0);
    run();
    int status = completed(&pair->dialler, 2);
    *peer_fails = completed(&pair->acceptor, 1) == IBV_WC_WR_FLUSH_ERR;
    close_pair(pair);
    return status;
}

TEST(fake_read, needs_access_at_both_ends_and_a_depth)
{
    struct pair pair = plan();
    bool peer_fails;
    EXPECT_EQ(status_of_read(&pair, 0, &peer_fails), IBV_WC_SUCCESS);
    EXPECT(!peer_fails);
    EXPECT_EQ(status_of_read(&pair, -1u, &peer_fails), IBV_WC_REM_ACCESS_ERR); /* a local key */
    EXPECT(peer_fails);
    pair.access = IBV_ACCESS_LOCAL_WRITE;
    EXPECT_EQ(status_of_read(&pair, 0, &peer_fails), IBV_WC_REM_ACCESS_ERR);
    pair.access = IBV_ACCESS_REMOTE_READ;
    EXPECT_EQ(status_of_read(&pair, 0, &peer_fails), IBV_WC_LOC_PROT_ERR);
    EXPECT(!peer_fails);
    pair.access = ALL_ACCESS;
    pair.param.initiator_depth = 0;
    EXPECT_EQ(status_of_read(&pair, 0, &peer_fails), IBV_WC_LOC_QP_OP_ERR);
    pair.param.initiator_depth = 4;
    pair.settings.iwarp = true;
    EXPECT_EQ(status_of_read(&pair, 0, &peer_fails), IBV_WC_LOC_PROT_ERR); /* REMOTE_WRITE */
    pair.access |= IBV_ACCESS_REMOTE_WRITE;
    EXPECT_EQ(status_of_read(&pair, 0, &peer_fails), IBV_WC_SUCCESS);
}

TEST(fake_read, stays_within_the_remote_memory_and_takes_one_place)
{
    struct pair pair = plan();
    struct ibv_sge places[2] = {{0}};
    struct ibv_send_wr *bad = NULL,
                       wr = {
                           .wr_id = 9, .sg_list = places, .num_sge = 2, .opcode = IBV_WR_RDMA_READ};
    join(&pair);
    EXPECT_EQ(ibv_post_send(pair.dialler.id->qp, &wr, &bad), EINVAL);
    EXPECT(bad == &wr);
    pair.acceptor.api->ibv_dereg_mr(pair.acceptor.mr);
    pair.acceptor.mr = (pair.acceptor.api->ibv_reg_mr)(pair.acceptor.pd, pair.acceptor.memory, 31,
                                                       IBV_ACCESS_REMOTE_READ);
    EXPECT_EQ(post_read(&pair, 2, 32, pair.acceptor.mr->rkey), 0);
    EXPECT_EQ(completed(&pair.dialler, 2), IBV_WC_REM_ACCESS_ERR);
    close_pair(&pair);
}

/* Whoever reuses the source too early is found out. */
TEST(fake_read, takes_its_bytes_at_completion_and_may_be_overtaken)
{
    struct pair pair = plan();
    pair.settings.delay = 6;
    unsigned overtaken = 0;
    for (pair.settings.seed = 1; pair.settings.seed <= 20; pair.settings.seed++) {
        join(&pair);
        memcpy(pair.acceptor.memory, "early", 6);
        EXPECT_EQ(post_receive(&pair.acceptor, 1, place(&pair.acceptor, 64, 64)), 0);
        EXPECT_EQ(post_read(&pair, 2, 6, pair.acceptor.mr->rkey), 0);
        EXPECT_EQ(pair.dialler.memory[2048], 0xaa);
        EXPECT_EQ(post_send(&pair.dialler, 3, place(&pair.dialler, 0, 8), IBV_SEND_SIGNALED), 0);
        memcpy(pair.acceptor.memory, "late!", 6);
        bool sent = false;
        int status = -1;
        while (status < 0) {
            fake_verbs_run();
            sent = sent || completed(&pair.acceptor, 1) == IBV_WC_SUCCESS;
            status = completed(&pair.dialler, 2);
            overtaken += sent && status < 0;
        }
        EXPECT_EQ(status, IBV_WC_SUCCESS);
        EXPECT_TEXT((const char *)pair.dialler.memory + 2048, "late!");
        run();
        EXPECT_EQ(completed(&pair.dialler, 3), IBV_WC_SUCCESS);
        close_pair(&pair);
    }
    EXPECT(overtaken > 0);
}

/* ---- completion queues ---- */

TEST(fake_completion, wakes_once_an_arming_and_only_for_what_comes_later)
{
    struct pair pair = plan();
    struct ibv_cq *cq;
    void *user;
    join(&pair);
    struct side *side = &pair.acceptor;
    for (uint64_t i = 0; i < 4; i++)
        EXPECT_EQ(post_receive(side, i, place(side, 0, 64)), 0);
    EXPECT_EQ(post_send(&pair.dialler, 1, place(&pair.dialler, 0, 8), 0), 0);
    EXPECT_EQ(ibv_req_notify_cq(side->cq, 0), 0);
    EXPECT(side->api->ibv_get_cq_event(side->completions, &cq, &user) != 0 && errno == EAGAIN);
    EXPECT_EQ(post_send(&pair.dialler, 2, place(&pair.dialler, 0, 8), 0), 0);
    EXPECT_EQ(post_send(&pair.dialler, 3, place(&pair.dialler, 0, 8), 0), 0);
    struct pollfd readable = {.fd = side->completions->fd, .events = POLLIN};
    EXPECT_EQ(poll(&readable, 1, 0), 1);
    ASSERT_EQ(side->api->ibv_get_cq_event(side->completions, &cq, &user), 0);
    EXPECT(cq == side->cq && user == side);
    EXPECT(side->api->ibv_get_cq_event(side->completions, &cq, &user) != 0);
    EXPECT_EQ(violations(), 0);
    destroy_id(side);
    struct ibv_cq *kept = side->cq;
    side->cq = side->api->ibv_create_cq(side->pd->context, 4, NULL, NULL, 0);
    EXPECT_EQ(side->api->ibv_destroy_cq(kept), 0);
    EXPECT_EQ(violations(), 1); /* It waits for an acknowledgement. */
    close_pair(&pair);
}

TEST(fake_completion, is_dead_after_an_overflow)
{
    struct pair pair = plan();
    struct ibv_async_event event;
    struct ibv_wc wc;
    pair.depth = 2;
    join(&pair);
    struct side *side = &pair.acceptor;
    for (uint64_t i = 0; i < 3; i++) {
        EXPECT_EQ(post_receive(side, i, place(side, 0, 64)), 0);
        EXPECT_EQ(post_send(&pair.dialler, i, place(&pair.dialler, 0, 8), 0), 0);
    }
    EXPECT(ibv_poll_cq(side->cq, 1, &wc) < 0);
    ASSERT_EQ(side->api->ibv_get_async_event(side->pd->context, &event), 0);
    EXPECT_EQ(event.event_type, IBV_EVENT_CQ_ERR);
    EXPECT(event.element.cq == side->cq);
    side->api->ibv_ack_async_event(&event);
    close_pair(&pair);
    EXPECT_EQ(violations(), 0);
}

/* ---- iWARP and misfortunes ---- */

TEST(fake_iwarp, lets_the_dialler_speak_first_and_inlines_less)
{
    struct pair pair = plan();
    pair.settings.iwarp = true;
    join(&pair);
    EXPECT_EQ(pair.dialler.pd->context->device->transport_type, IBV_TRANSPORT_IWARP);
    EXPECT_EQ(post_receive(&pair.dialler, 1, place(&pair.dialler, 0, 64)), 0);
    EXPECT_EQ(post_receive(&pair.acceptor, 2, place(&pair.acceptor, 0, 64)), 0);
    EXPECT_EQ(post_send(&pair.acceptor, 3, place(&pair.acceptor, 0, 8), 0), 0);
    EXPECT_EQ(violations(), 1);
    EXPECT_EQ(post_send(&pair.dialler, 4, place(&pair.dialler, 0, 8), 0), 0);
    EXPECT_EQ(post_receive(&pair.dialler, 5, place(&pair.dialler, 0, 64)), 0);
    EXPECT_EQ(post_send(&pair.acceptor, 6, place(&pair.acceptor, 0, 8), 0), 0);
    EXPECT_EQ(violations(), 1);
    pair.dialler.api->rdma_destroy_qp(pair.dialler.id);
    pair.cap.max_inline_data = 81;
    EXPECT(make_qp(&pair, &pair.dialler) != 0 && errno == EINVAL);
    close_pair(&pair);
}

TEST(fake_iwarp, ends_the_connection_where_no_receive_is_posted)
{
    struct pair pair = plan();
    pair.settings.iwarp = true;
    pair.param.rnr_retry_count = 7;
    join(&pair);
    EXPECT_EQ(post_receive(&pair.dialler, 1, place(&pair.dialler, 0, 64)), 0);
    EXPECT_EQ(post_send(&pair.dialler, 2, place(&pair.dialler, 0, 8), 0), 0);
    EXPECT_EQ(completed(&pair.dialler, 2), IBV_WC_WR_FLUSH_ERR);
    EXPECT_EQ(completed(&pair.dialler, 1), IBV_WC_WR_FLUSH_ERR);
    EXPECT_EQ(post_receive(&pair.acceptor, 3, place(&pair.acceptor, 0, 64)), 0);
    EXPECT_EQ(completed(&pair.acceptor, 3), IBV_WC_WR_FLUSH_ERR);
    close_pair(&pair);
}

TEST(fake_misfortune, breaks_both_ends)
{
    struct pair pair = plan();
    join(&pair);
    fake_verbs_stall(2, true);
    EXPECT_EQ(fake_verbs_pairs(), 1);
    EXPECT_EQ(post_receive(&pair.acceptor, 1, place(&pair.acceptor, 0, 64)), 0);
    EXPECT_EQ(post_send(&pair.dialler, 2, place(&pair.dialler, 0, 8), 0), 0);
    EXPECT_EQ(post_send(&pair.dialler, 3, place(&pair.dialler, 0, 8), 0), 0);
    EXPECT(fake_verbs_break(0, IBV_WC_RETRY_EXC_ERR));
    EXPECT(!fake_verbs_break(0, IBV_WC_RETRY_EXC_ERR));
    EXPECT_EQ(completed(&pair.dialler, 2), IBV_WC_RETRY_EXC_ERR);
    EXPECT_EQ(completed(&pair.dialler, 3), IBV_WC_WR_FLUSH_ERR);
    EXPECT_EQ(completed(&pair.acceptor, 1), IBV_WC_WR_FLUSH_ERR);
    close_pair(&pair);
}

TEST(fake_misfortune, stalls_and_goes_on)
{
    struct pair pair = plan();
    join(&pair);
    EXPECT_EQ(post_receive(&pair.acceptor, 1, place(&pair.acceptor, 0, 64)), 0);
    fake_verbs_stall(2, true);
    EXPECT_EQ(post_send(&pair.dialler, 2, place(&pair.dialler, 0, 8), 0), 0);
    EXPECT_EQ(pair.dialler.api->rdma_disconnect(pair.dialler.id), 0);
    run();
    EXPECT_EQ(next_event(&pair.acceptor), -1);
    EXPECT_EQ(completed(&pair.acceptor, 1), -1);
    fake_verbs_stall(2, false);
    EXPECT_EQ(next_event(&pair.acceptor), RDMA_CM_EVENT_DISCONNECTED);
    close_pair(&pair);
}

TEST(fake_misfortune, removes_a_device)
{
    struct pair pair = plan();
    struct ibv_async_event event;
    join(&pair);
    EXPECT_EQ(post_receive(&pair.acceptor, 1, place(&pair.acceptor, 0, 64)), 0);
    fake_verbs_remove(2);
    ASSERT_EQ(pair.acceptor.api->ibv_get_async_event(pair.acceptor.pd->context, &event), 0);
    EXPECT_EQ(event.event_type, IBV_EVENT_DEVICE_FATAL);
    pair.acceptor.api->ibv_ack_async_event(&event);
    EXPECT_EQ(next_event(&pair.acceptor), RDMA_CM_EVENT_DEVICE_REMOVAL); /* the connection's */
    EXPECT_EQ(next_event(&pair.acceptor), RDMA_CM_EVENT_DEVICE_REMOVAL); /* the listener's */
    EXPECT_EQ(completed(&pair.acceptor, 1), IBV_WC_WR_FLUSH_ERR);
    EXPECT_EQ(post_receive(&pair.acceptor, 2, place(&pair.acceptor, 0, 64)), EIO);
    EXPECT_EQ(post_send(&pair.dialler, 3, place(&pair.dialler, 0, 8), 0), 0);
    EXPECT_EQ(completed(&pair.dialler, 3), IBV_WC_RETRY_EXC_ERR);
    close_pair(&pair);
    EXPECT_EQ(violations(), 0);
}

TEST(fake_misfortune, fails_the_registration_that_was_chosen)
{
    struct pair pair = plan();
    open_pair(&pair);
    pair.settings.fail_reg_mr = 2;
    fake_verbs_set(&pair.settings);
    struct side *side = &pair.dialler;
    struct ibv_mr *first = (side->api->ibv_reg_mr)(side->pd, side->memory, 8, 0);
    EXPECT(first != NULL);
    EXPECT((side->api->ibv_reg_mr)(side->pd, side->memory, 8, 0) == NULL && errno == ENOMEM);
    struct ibv_mr *third = (side->api->ibv_reg_mr)(side->pd, side->memory, 8, 0);
    EXPECT(third != NULL);
    EXPECT((side->api->ibv_reg_mr)(side->pd, side->memory, 8, IBV_ACCESS_REMOTE_WRITE) == NULL &&
           errno == EINVAL); /* not without LOCAL_WRITE */
    side->api->ibv_dereg_mr(first);
    side->api->ibv_dereg_mr(third);
    close_pair(&pair);
}
