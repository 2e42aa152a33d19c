/* break_qp: puts all queue pairs of another process into the error state, as a failing device does.
 *
 *     break_qp PID
 *
 * Takes a copy of the process's descriptor of the device and does there what the process itself
 * would do by ibv_modify_qp(): the process runs as it is, without any means for this. Root only;
 * Linux 5.6 or later; soft-RoCE. Prints how many there were; exit code 0: at least one. */
#include <dirent.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Objects of all kinds share these numbers, in the order of their making. */
enum { HANDLE_MAX = 1024 };

struct command {
    struct ib_uverbs_ioctl_hdr header;
    struct ib_uverbs_attr attributes[2];
};

/* 0, or an errno: EINVAL or ENOENT where the handle is of no queue pair. */
static int break_one(int device, uint32_t handle)
{
    struct ib_uverbs_modify_qp change = {
        .qp_handle = handle, .attr_mask = IBV_QP_STATE, .qp_state = IBV_QPS_ERR};
    struct command command = {
        .header = {.length = sizeof(command),
                   .object_id = UVERBS_OBJECT_DEVICE,
                   .method_id = UVERBS_METHOD_INVOKE_WRITE,
                   .num_attrs = 2,
                   .driver_id = RDMA_DRIVER_RXE},
        .attributes = {{.attr_id = UVERBS_ATTR_WRITE_CMD,
                        .len = sizeof(uint64_t),
                        .flags = UVERBS_ATTR_F_MANDATORY,
                        .data = IB_USER_VERBS_CMD_MODIFY_QP},
                       {.attr_id = UVERBS_ATTR_CORE_IN,
                        .len = sizeof(change),
                        .flags = UVERBS_ATTR_F_MANDATORY,
                        .data = (uintptr_t)&change}},
    };
    return ioctl(device, RDMA_VERBS_IOCTL, &command) == 0 ? 0 : errno;
}

static unsigned break_all(int device)
{
    unsigned broken = 0;
    for (uint32_t handle = 0; handle < HANDLE_MAX; handle++)
        broken += break_one(device, handle) == 0;
    return broken;
}

/* Of the process's descriptor number `fd`; negative: it is of no RDMA device, or cannot be had. */
static int device_of(pid_t pid, int process, int fd)
{
    char link[64], target[256];
    snprintf(link, sizeof(link), "/proc/%d/fd/%d", (int)pid, fd);
    ssize_t size = readlink(link, target, sizeof(target) - 1);
    if (size < 0)
        return -1;
    target[size] = '\0';
    if (strncmp(target, "/dev/infiniband/uverbs", strlen("/dev/infiniband/uverbs")) != 0)
        return -1;
    return (int)syscall(SYS_pidfd_getfd, process, fd, 0);
}

int main(int argc, char **argv)
{
    char folder[64];
    unsigned broken = 0;
    pid_t pid = argc == 2 ? atoi(argv[1]) : 0;
    snprintf(folder, sizeof(folder), "/proc/%d/fd", (int)pid);
    int process = (int)syscall(SYS_pidfd_open, pid, 0);
    DIR *descriptors = process >= 0 ? opendir(folder) : NULL;
    if (descriptors == NULL) {
        fprintf(stderr, "break_qp PID: %s\n", strerror(errno));
        return 64;
    }
    for (struct dirent *entry = readdir(descriptors); entry != NULL; entry = readdir(descriptors)) {
        int device = device_of(pid, process, atoi(entry->d_name));
        if (device < 0)
            continue;
        broken += break_all(device);
        close(device);
    }
    closedir(descriptors);
    printf("%u\n", broken);
    return broken > 0 ? 0 : 1;
}
