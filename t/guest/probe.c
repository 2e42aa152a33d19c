/* probe: can processes of this machine connect reliable queue pairs to each other, and what comes
 * of it? Stands apart from net/, so that a failure here is one of the machine, not of ours.
 *
 *     probe ADDRESS...
 *
 * One process an address, which listens there and dials all that stand before it, from its own
 * address. Each connection carries one SEND either way and one RDMA READ. Then the first process is
 * killed, and the others say how long it took until they knew. Exit code 0: all of that happened.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>
#include <rdma/rdma_verbs.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    PORT_FIRST = 7470,
    PROCESS_MAX = 7,
    TEXT_SIZE = 64,
    ACK_TIMEOUT_EXPONENT = 14, /* 67 ms; rdma_cm's own is 2 s */
    RNR_TIMER = 12,            /* 0.64 ms; rdma_cm's own is 655 ms */
    SECONDS_MAX = 20,
};

struct memory {
    char heard[TEXT_SIZE];  /* where the peer's message comes to */
    char said[TEXT_SIZE];   /* what goes there */
    char pulled[TEXT_SIZE]; /* what was read from the peer's `said` */
};

/* What a peer must know to read `said`. */
struct greeting {
    uint64_t address;
    uint32_t rkey;
    char text[TEXT_SIZE - 12];
};
_Static_assert(sizeof(struct greeting) == TEXT_SIZE, "fits a message");

struct peer {
    struct rdma_cm_id *id;
    struct ibv_mr *region;
    struct memory memory;
};

static unsigned self;
static const char *volatile doing = "start"; /* of what takes so long when the alarm comes */

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void need(bool done, const char *what)
{
    if (done)
        return;
    printf("process %u: %s: %s\n", self, what, strerror(errno));
    exit(1);
}

static void on_alarm(int number)
{
    char text[TEXT_SIZE];
    (void)number;
    snprintf(text, sizeof(text), "process %u: no end of: %s\n", self, doing);
    (void)!write(STDOUT_FILENO, text, strlen(text));
    _exit(1);
}

static struct ibv_qp_init_attr qp_attributes(void)
{
    return (struct ibv_qp_init_attr){
        .qp_type = IBV_QPT_RC,
        .cap = {.max_send_wr = 8,
                .max_recv_wr = 8,
                .max_send_sge = 1,
                .max_recv_sge = 1,
                .max_inline_data = 220},
        .sq_sig_all = 1,
    };
}

static void set_ack_timeout(struct rdma_cm_id *id)
{
    uint8_t exponent = ACK_TIMEOUT_EXPONENT;
    need(rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &exponent,
                         sizeof(exponent)) == 0,
         "set the ACK timeout");
}

static struct rdma_conn_param connection_parameters(void)
{
    return (struct rdma_conn_param){
        .responder_resources = 4, .initiator_depth = 4, .retry_count = 3, .rnr_retry_count = 6};
}

/* Receives are posted before the connection can be there. */
static void make_ready(struct peer *peer)
{
    peer->region = ibv_reg_mr(peer->id->pd, &peer->memory, sizeof(peer->memory),
                              IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);
    need(peer->region != NULL, "register memory");
    need(rdma_post_recv(peer->id, NULL, peer->memory.heard, TEXT_SIZE, peer->region) == 0,
         "post a receive");
}

static struct sockaddr_in address_of(const char *text, unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    need(inet_pton(AF_INET, text, &address.sin_addr) == 1, "not an IPv4 address");
    return address;
}

static struct rdma_cm_id *listen_at(const char *text)
{
    struct sockaddr_in address = address_of(text, PORT_FIRST + self);
    struct rdma_cm_id *id;
    struct ibv_qp_init_attr attributes = qp_attributes();
    struct rdma_addrinfo info = {.ai_flags = RAI_PASSIVE,
                                 .ai_family = AF_INET,
                                 .ai_qp_type = IBV_QPT_RC,
                                 .ai_port_space = RDMA_PS_TCP,
                                 .ai_src_len = sizeof(address),
                                 .ai_src_addr = (struct sockaddr *)&address};
    need(rdma_create_ep(&id, &info, NULL, &attributes) == 0, "bind to the address");
    need(rdma_listen(id, PROCESS_MAX) == 0, "listen");
    return id;
}

static void dial(struct peer *peer, const char *own, const char *text, unsigned number)
{
    struct sockaddr_in source = address_of(own, 0);
    struct sockaddr_in destination = address_of(text, PORT_FIRST + number);
    struct ibv_qp_init_attr attributes = qp_attributes();
    struct rdma_conn_param parameters = connection_parameters();
    need(rdma_create_id(NULL, &peer->id, NULL, RDMA_PS_TCP) == 0, "make an id");
    need(rdma_resolve_addr(peer->id, (struct sockaddr *)&source, (struct sockaddr *)&destination,
                           2000) == 0,
         "resolve the address");
    need(rdma_resolve_route(peer->id, 2000) == 0, "resolve the route");
    need(rdma_create_qp(peer->id, NULL, &attributes) == 0, "make a queue pair");
    make_ready(peer);
    set_ack_timeout(peer->id);
    doing = "connect";
    need(rdma_connect(peer->id, &parameters) == 0, "connect");
}

static void answer(struct peer *peer, struct rdma_cm_id *listener)
{
    struct rdma_conn_param parameters = connection_parameters();
    doing = "wait for a request";
    need(rdma_get_request(listener, &peer->id) == 0, "get a request");
    make_ready(peer);
    set_ack_timeout(peer->id);
    need(rdma_accept(peer->id, &parameters) == 0, "accept");
}

static void wait_completion(struct rdma_cm_id *id, int (*get)(struct rdma_cm_id *, struct ibv_wc *),
                            const char *what)
{
    struct ibv_wc completion;
    need(get(id, &completion) == 1 && completion.status == IBV_WC_SUCCESS, what);
}

static void talk(struct peer *peer)
{
    struct memory *memory = &peer->memory;
    struct greeting greeting = {.address = (uintptr_t)memory->said, .rkey = peer->region->rkey};
    doing = "talk";
    snprintf(greeting.text, sizeof(greeting.text), "process %u speaks", self);
    memcpy(memory->said, &greeting, sizeof(greeting));
    need(rdma_post_send(peer->id, NULL, memory->said, TEXT_SIZE, peer->region, IBV_SEND_INLINE) ==
             0,
         "post a send");
    wait_completion(peer->id, rdma_get_send_comp, "send");
    wait_completion(peer->id, rdma_get_recv_comp, "receive");
    memcpy(&greeting, memory->heard, sizeof(greeting));
    need(rdma_post_read(peer->id, NULL, memory->pulled, TEXT_SIZE, peer->region, 0,
                        greeting.address, greeting.rkey) == 0,
         "post a read");
    wait_completion(peer->id, rdma_get_send_comp, "read");
    need(memcmp(memory->pulled, memory->heard, TEXT_SIZE) == 0, "what was read is what was sent");
}

static void report(const struct peer *peer, const char *role)
{
    struct ibv_qp_attr now, change = {.min_rnr_timer = RNR_TIMER};
    struct ibv_qp_init_attr made;
    int changed = ibv_modify_qp(peer->id->qp, &change, IBV_QP_MIN_RNR_TIMER);
    need(ibv_query_qp(peer->id->qp, &now, IBV_QP_PATH_MTU | IBV_QP_TIMEOUT | IBV_QP_MIN_RNR_TIMER,
                      &made) == 0,
         "query the queue pair");
    printf("process %u %s %s on %s: mtu %u, inline %u, ACK timeout %u, retries %u, RNR timer %u "
           "(%s)\n",
           self, role, peer->memory.heard + offsetof(struct greeting, text),
           peer->id->verbs->device->name, 128U << now.path_mtu, made.cap.max_inline_data,
           now.timeout, now.retry_cnt, now.min_rnr_timer,
           changed == 0 ? "set" : "cannot be set while connected");
}

/* Synchronous ids report through a channel of their own. */
static void wait_end(const struct peer *peer, double killed)
{
    struct rdma_cm_event *event;
    doing = "wait for the end of process 0";
    need(rdma_get_cm_event(peer->id->channel, &event) == 0, "get an event");
    printf("process %u: %s %.0f ms after the kill\n", self, rdma_event_str(event->event),
           (seconds_now() - killed) * 1000);
    rdma_ack_cm_event(event);
}

/* `go` is closed by the parent once all listen; `done` is told when this one has talked to all;
 * `end` carries the moment of the kill. */
static void live(unsigned count, char **addresses, const int *go, int done, const int *end)
{
    struct peer peers[PROCESS_MAX] = {0};
    struct rdma_cm_id *listener = listen_at(addresses[self]);
    double killed;
    char byte = 0;
    signal(SIGALRM, on_alarm);
    alarm(SECONDS_MAX);
    setlinebuf(stdout);
    need(write(done, &byte, 1) == 1, "tell the parent");
    need(read(go[0], &byte, 1) == 1, "wait for the parent");
    for (unsigned i = 0; i < self; i++)
        dial(&peers[i], addresses[self], addresses[i], i);
    for (unsigned i = self + 1; i < count; i++)
        answer(&peers[i], listener);
    for (unsigned i = 0; i < count; i++) {
        if (i == self)
            continue;
        talk(&peers[i]);
        report(&peers[i], i < self ? "dialled" : "accepted");
    }
    need(write(done, &byte, 1) == 1, "tell the parent");
    need(read(end[0], &killed, sizeof(killed)) == sizeof(killed), "wait for the parent");
    if (self != 0)
        wait_end(&peers[0], killed);
    exit(0);
}

static void wait_all(unsigned count, int done, const char *what)
{
    char byte;
    for (unsigned i = 0; i < count; i++)
        need(read(done, &byte, 1) == 1, what);
}

int main(int argc, char **argv)
{
    pid_t children[PROCESS_MAX];
    int go[2], done[2], end[2], failed = 0;
    unsigned count = (unsigned)argc - 1;
    if (argc < 3 || count > PROCESS_MAX) {
        fprintf(stderr, "usage: probe ADDRESS ADDRESS...\n");
        return 64;
    }
    need(pipe(go) == 0 && pipe(done) == 0 && pipe(end) == 0, "pipes");
    for (unsigned i = 0; i < count; i++) {
        children[i] = fork();
        need(children[i] >= 0, "fork");
        if (children[i] == 0) {
            self = i;
            close(done[0]);
            live(count, argv + 1, go, done[1], end);
        }
    }
    close(done[1]);
    wait_all(count, done[0], "not all can listen");
    need(write(go[1], "1234567", count) == (ssize_t)count, "go");
    wait_all(count, done[0], "not all have talked to all");
    kill(children[0], SIGKILL);
    double killed = seconds_now();
    for (unsigned i = 1; i < count; i++)
        need(write(end[1], &killed, sizeof(killed)) == sizeof(killed), "end");
    for (unsigned i = 0; i < count; i++) {
        int status;
        waitpid(children[i], &status, 0);
        failed |= i > 0 && status != 0;
    }
    return failed;
}
