#include "net/rdma_api.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

static struct rdma_api loaded;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char failure[256];

#define LOAD(library, name) resolve(library, #name, (void **)&loaded.name)

/* One object pointer stands for any function's: POSIX says that it may. */
static void resolve(void *library, const char *name, void **function)
{
    *function = dlsym(library, name);
    if (*function == NULL && failure[0] == '\0')
        snprintf(failure, sizeof(failure), "the RDMA libraries of this system have no %s", name);
}

static void *open_library(const char *name)
{
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL && failure[0] == '\0')
        snprintf(failure, sizeof(failure),
                 "%s (packages librdmacm1, libibverbs1, ibverbs-providers)", dlerror());
    return library;
}

static void load_cm(void *cm)
{
    LOAD(cm, rdma_create_event_channel);
    LOAD(cm, rdma_destroy_event_channel);
    LOAD(cm, rdma_create_id);
    LOAD(cm, rdma_destroy_id);
    LOAD(cm, rdma_bind_addr);
    LOAD(cm, rdma_listen);
    LOAD(cm, rdma_get_src_port);
    LOAD(cm, rdma_resolve_addr);
    LOAD(cm, rdma_resolve_route);
    LOAD(cm, rdma_create_qp);
    LOAD(cm, rdma_destroy_qp);
    LOAD(cm, rdma_connect);
    LOAD(cm, rdma_accept);
    LOAD(cm, rdma_reject);
    LOAD(cm, rdma_disconnect);
    LOAD(cm, rdma_migrate_id);
    LOAD(cm, rdma_set_option);
    LOAD(cm, rdma_get_cm_event);
    LOAD(cm, rdma_ack_cm_event);
    LOAD(cm, rdma_get_devices);
    LOAD(cm, rdma_free_devices);
}

static void load_verbs(void *verbs)
{
    LOAD(verbs, ibv_query_device);
    LOAD(verbs, ibv_alloc_pd);
    LOAD(verbs, ibv_dealloc_pd);
    LOAD(verbs, ibv_reg_mr);
    LOAD(verbs, ibv_dereg_mr);
    LOAD(verbs, ibv_create_comp_channel);
    LOAD(verbs, ibv_destroy_comp_channel);
    LOAD(verbs, ibv_create_cq);
    LOAD(verbs, ibv_destroy_cq);
    LOAD(verbs, ibv_get_cq_event);
    LOAD(verbs, ibv_ack_cq_events);
    LOAD(verbs, ibv_modify_qp);
    LOAD(verbs, ibv_get_async_event);
    LOAD(verbs, ibv_ack_async_event);
    LOAD(verbs, ibv_wc_status_str);
}

static void load(void)
{
    void *verbs = open_library("libibverbs.so.1");
    void *cm = verbs != NULL ? open_library("librdmacm.so.1") : NULL;
    if (cm == NULL)
        return;
    load_verbs(verbs);
    load_cm(cm);
}

enum status rdma_api_load(const struct rdma_api **api, const char **why)
{
    pthread_once(&once, load);
    *api = &loaded;
    *why = failure;
    return failure[0] == '\0' ? STATUS_OK : STATUS_NOT_FOUND;
}
