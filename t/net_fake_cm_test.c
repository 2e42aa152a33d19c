/* Goal: the fake device's connection manager is as strict as it says (fake_verbs.h), or the tests
 * of RDMA would prove little. Method: two nodes with a queue pair each, without net; every rule is
 * broken once, and kept where that says something. */
#include "t/fake_pair.h"

TEST(fake_cm, pads_private_data_and_crosses_the_depths)
{
    struct pair pair = plan();
    struct rdma_cm_event *event;
    uint8_t data[56] = "hello", zeros[51] = {0};
    open_pair(&pair);
    resolve(&pair);
    pair.param.private_data = data;
    pair.param.private_data_len = 57;
    EXPECT(pair.dialler.api->rdma_connect(pair.dialler.id, &pair.param) != 0 && errno == EINVAL);
    pair.param.private_data_len = 5;
    pair.param.initiator_depth = 3;
    EXPECT_EQ(pair.dialler.api->rdma_connect(pair.dialler.id, &pair.param), 0);
    ASSERT_EQ(pair.acceptor.api->rdma_get_cm_event(pair.acceptor.channel, &event), 0);
    EXPECT_EQ(event->event, RDMA_CM_EVENT_CONNECT_REQUEST);
    EXPECT(event->listen_id == pair.acceptor.listener && event->id != event->listen_id);
    EXPECT_EQ(event->param.conn.private_data_len, 56);
    EXPECT(memcmp(event->param.conn.private_data, "hello", 5) == 0);
    EXPECT(memcmp((const uint8_t *)event->param.conn.private_data + 5, zeros, 51) == 0);
    EXPECT_EQ(event->param.conn.responder_resources, 3);
    pair.acceptor.id = event->id;
    pair.acceptor.api->rdma_ack_cm_event(event);
    close_pair(&pair);
    EXPECT_EQ(violations(), 0);
}

TEST(fake_cm, refuses_where_nobody_listens_or_the_program_does)
{
    struct pair pair = plan();
    struct rdma_cm_event *event;
    open_pair(&pair);
    request(&pair);
    pair.acceptor.api->rdma_destroy_qp(pair.acceptor.id);
    EXPECT_EQ(pair.acceptor.api->rdma_reject(pair.acceptor.id, "no", 2), 0);
    ASSERT_EQ(pair.dialler.api->rdma_get_cm_event(pair.dialler.channel, &event), 0);
    EXPECT_EQ(event->event, RDMA_CM_EVENT_REJECTED);
    EXPECT(memcmp(event->param.conn.private_data, "no", 3) == 0);
    pair.dialler.api->rdma_ack_cm_event(event);
    destroy_id(&pair.dialler);
    destroy_id(&pair.acceptor);
    resolve(&pair);
    pair.acceptor.api->rdma_destroy_id(pair.acceptor.listener);
    EXPECT_EQ(pair.dialler.api->rdma_connect(pair.dialler.id, &pair.param), 0);
    EXPECT_EQ(next_event(&pair.dialler), RDMA_CM_EVENT_REJECTED);
    pair.acceptor.api->rdma_create_id(pair.acceptor.channel, &pair.acceptor.listener, NULL,
                                      RDMA_PS_TCP);
    close_pair(&pair);
}

TEST(fake_cm, takes_no_more_requests_than_the_queue_is_long)
{
    struct pair pair = plan();
    open_pair(&pair);
    resolve(&pair);
    EXPECT_EQ(pair.dialler.api->rdma_connect(pair.dialler.id, &pair.param), 0);
    struct rdma_cm_id *first = pair.dialler.id;
    resolve(&pair);
    EXPECT_EQ(pair.dialler.api->rdma_connect(pair.dialler.id, &pair.param), 0);
    EXPECT_EQ(next_event(&pair.dialler), RDMA_CM_EVENT_REJECTED);
    destroy_id(&pair.dialler);
    pair.dialler.id = first;
    close_pair(&pair); /* with a request that nobody fetched */
    EXPECT_EQ(violations(), 0);
}

TEST(fake_cm, has_descriptors_to_wait_on)
{
    struct pair pair = plan();
    struct rdma_cm_event *event;
    open_pair(&pair);
    struct pollfd readable = {.fd = pair.acceptor.channel->fd, .events = POLLIN};
    EXPECT_EQ(poll(&readable, 1, 0), 0);
    EXPECT(pair.acceptor.api->rdma_get_cm_event(pair.acceptor.channel, &event) != 0 &&
           errno == EAGAIN);
    resolve(&pair);
    EXPECT_EQ(pair.dialler.api->rdma_connect(pair.dialler.id, &pair.param), 0);
    EXPECT_EQ(poll(&readable, 1, 0), 1);
    EXPECT_EQ(next_event(&pair.acceptor), RDMA_CM_EVENT_CONNECT_REQUEST);
    EXPECT_EQ(poll(&readable, 1, 0), 0);
    close_pair(&pair);
}

TEST(fake_cm, binds_what_is_free_on_a_device_that_is_there)
{
    struct pair pair = plan();
    open_pair(&pair);
    struct rdma_cm_id *id;
    struct sockaddr_in taken = local(ntohs(fake_verbs.rdma_get_src_port(pair.acceptor.listener)));
    struct sockaddr_in foreign = local(0), any_port = local(0);
    foreign.sin_addr.s_addr = htonl(0xc0000201);
    fake_verbs.rdma_create_id(pair.dialler.channel, &id, NULL, RDMA_PS_TCP);
    EXPECT(fake_verbs.rdma_bind_addr(id, (struct sockaddr *)&taken) != 0 && errno == EADDRINUSE);
    EXPECT(fake_verbs.rdma_bind_addr(id, (struct sockaddr *)&foreign) != 0 && errno == ENODEV);
    pair.settings.no_device = true;
    fake_verbs_set(&pair.settings);
    EXPECT(fake_verbs.rdma_bind_addr(id, (struct sockaddr *)&any_port) != 0 && errno == ENODEV);
    pair.settings.no_device = false;
    fake_verbs_set(&pair.settings);
    EXPECT_EQ(fake_verbs.rdma_bind_addr(id, (struct sockaddr *)&any_port), 0);
    EXPECT(fake_verbs.rdma_get_src_port(id) != 0 && id->verbs != NULL);
    EXPECT(id->verbs != pair.acceptor.listener->verbs);
    fake_verbs.rdma_destroy_id(id);
    close_pair(&pair);
}

/* What would hang for ever. */
TEST(fake_cm, counts_what_is_destroyed_too_early)
{
    struct pair pair = plan();
    struct rdma_cm_event *event;
    join(&pair);
    EXPECT_EQ(pair.acceptor.api->rdma_disconnect(pair.acceptor.id), 0);
    ASSERT_EQ(pair.dialler.api->rdma_get_cm_event(pair.dialler.channel, &event), 0);
    EXPECT_EQ(event->event, RDMA_CM_EVENT_DISCONNECTED);
    pair.dialler.api->rdma_destroy_qp(pair.dialler.id);
    EXPECT_EQ(violations(), 0);
    pair.dialler.api->rdma_destroy_id(pair.dialler.id);
    EXPECT_EQ(violations(), 1); /* an event is not acknowledged */
    pair.dialler.api->rdma_ack_cm_event(event);
    pair.dialler.id = NULL;
    pair.acceptor.api->rdma_destroy_id(pair.acceptor.id);
    EXPECT_EQ(violations(), 2); /* it has a queue pair */
    pair.acceptor.id = NULL;
    fake_verbs_begin(&pair.settings);
    EXPECT_EQ(violations(), 1); /* much is left over */
    close_pair(&pair);
}

TEST(fake_cm, keeps_what_is_in_use)
{
    struct pair pair = plan();
    join(&pair);
    const struct side *side = &pair.acceptor;
    EXPECT_EQ(side->api->ibv_dealloc_pd(side->pd), EBUSY);
    EXPECT_EQ(side->api->ibv_destroy_cq(side->cq), EBUSY);
    EXPECT_EQ(side->api->ibv_destroy_comp_channel(side->completions), EBUSY);
    close_pair(&pair);
    EXPECT_EQ(violations(), 0);
}

TEST(fake_cm, moves_an_id_with_its_events_but_not_while_one_is_held)
{
    struct pair pair = plan();
    struct rdma_cm_event *event;
    join(&pair);
    struct side *side = &pair.acceptor;
    struct rdma_event_channel *first = side->channel,
                              *other = side->api->rdma_create_event_channel();
    nonblocking(other->fd);
    EXPECT_EQ(pair.dialler.api->rdma_disconnect(pair.dialler.id), 0);
    EXPECT_EQ(side->api->rdma_migrate_id(side->id, other), 0);
    EXPECT_EQ(next_event(side), -1);
    ASSERT_EQ(side->api->rdma_get_cm_event(other, &event), 0);
    EXPECT_EQ(event->event, RDMA_CM_EVENT_DISCONNECTED);
    EXPECT_EQ(violations(), 0);
    EXPECT_EQ(side->api->rdma_migrate_id(side->id, first), 0);
    EXPECT_EQ(violations(), 1);
    side->api->rdma_ack_cm_event(event);
    side->api->rdma_destroy_event_channel(other);
    close_pair(&pair);
    EXPECT_EQ(violations(), 1);
}

TEST(fake_cm, tells_both_of_a_disconnection_and_flushes_the_one_that_asked)
{
    struct pair pair = plan();
    join(&pair);
    EXPECT_EQ(post_receive(&pair.dialler, 1, place(&pair.dialler, 0, 64)), 0);
    EXPECT_EQ(post_receive(&pair.acceptor, 2, place(&pair.acceptor, 0, 64)), 0);
    EXPECT_EQ(pair.dialler.api->rdma_disconnect(pair.dialler.id), 0);
    EXPECT_EQ(next_event(&pair.dialler), RDMA_CM_EVENT_DISCONNECTED);
    EXPECT_EQ(next_event(&pair.dialler), RDMA_CM_EVENT_TIMEWAIT_EXIT);
    EXPECT_EQ(next_event(&pair.acceptor), RDMA_CM_EVENT_DISCONNECTED);
    EXPECT_EQ(completed(&pair.dialler, 1), IBV_WC_WR_FLUSH_ERR);
    EXPECT_EQ(completed(&pair.acceptor, 2), -1);
    EXPECT_EQ(post_send(&pair.acceptor, 3, place(&pair.acceptor, 0, 8), 0), 0);
    EXPECT_EQ(completed(&pair.acceptor, 3), IBV_WC_RETRY_EXC_ERR);
    EXPECT_EQ(completed(&pair.acceptor, 2), IBV_WC_WR_FLUSH_ERR);
    EXPECT_EQ(pair.acceptor.api->rdma_disconnect(pair.acceptor.id), 0);
    EXPECT_EQ(next_event(&pair.acceptor), RDMA_CM_EVENT_TIMEWAIT_EXIT);
    EXPECT_EQ(next_event(&pair.acceptor), -1);
    close_pair(&pair);
}

TEST(fake_cm, counts_ends_without_an_ack_timeout)
{
    struct pair pair = plan();
    struct fake_counters counters;
    uint8_t timeout = 14;
    open_pair(&pair);
    resolve(&pair);
    pair.param.retry_count = 7;
    EXPECT_EQ(fake_verbs.rdma_set_option(pair.dialler.id, RDMA_OPTION_ID,
                                         RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, 1),
              0);
    EXPECT_EQ(pair.dialler.api->rdma_connect(pair.dialler.id, &pair.param), 0);
    EXPECT_EQ(next_event(&pair.acceptor), RDMA_CM_EVENT_CONNECT_REQUEST);
    EXPECT_EQ(make_qp(&pair, &pair.acceptor), 0);
    EXPECT_EQ(pair.acceptor.api->rdma_accept(pair.acceptor.id, &pair.param), 0);
    EXPECT_EQ(next_event(&pair.dialler), RDMA_CM_EVENT_ESTABLISHED);
    fake_verbs_counters(&counters);
    EXPECT_EQ(counters.joins, 1);
    EXPECT_EQ(counters.without_ack_timeout, 1); /* It is not inherited. */
    EXPECT_EQ(counters.endless_retries, 1);
    close_pair(&pair);
}

/* The library makes the dialler's queue pair ready when the event is fetched. */
TEST(fake_cm, lets_nobody_send_before_the_connection_is_there)
{
    struct pair pair = plan();
    open_pair(&pair);
    resolve(&pair);
    EXPECT_EQ(post_send(&pair.dialler, 1, place(&pair.dialler, 0, 8), 0), EINVAL);
    EXPECT_EQ(post_receive(&pair.dialler, 1, place(&pair.dialler, 0, 8)), 0);
    EXPECT_EQ(pair.dialler.api->rdma_connect(pair.dialler.id, &pair.param), 0);
    EXPECT_EQ(next_event(&pair.acceptor), RDMA_CM_EVENT_CONNECT_REQUEST);
    EXPECT_EQ(make_qp(&pair, &pair.acceptor), 0);
    EXPECT_EQ(pair.acceptor.api->rdma_accept(pair.acceptor.id, &pair.param), 0);
    EXPECT_EQ(post_send(&pair.dialler, 2, place(&pair.dialler, 0, 8), 0), EINVAL);
    EXPECT_EQ(next_event(&pair.acceptor), -1);
    EXPECT_EQ(next_event(&pair.dialler), RDMA_CM_EVENT_ESTABLISHED);
    EXPECT_EQ(next_event(&pair.acceptor), RDMA_CM_EVENT_ESTABLISHED);
    EXPECT_EQ(post_send(&pair.dialler, 2, place(&pair.dialler, 0, 8), 0), 0);
    close_pair(&pair);
}
