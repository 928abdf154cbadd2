/* Who holds an RDMA device: processes by /proc and by the kernel's own list, and users inside the
 * kernel. SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef AGENT_HOLDERS_H
#define AGENT_HOLDERS_H

#include <sys/types.h>

#include "devices.h"

#define HOLDERS_MAX 32

struct holder {
    pid_t pid;        /* 0: the kernel, or a process that cannot be named */
    char comm[32];    /* the process's name, or the kernel user's */
    char how[64];     /* by what sign it was found */
    int opener_ended; /* whose it is now is not known: perhaps a registered process's */
};

struct holder_list {
    unsigned count; /* found; only the first HOLDERS_MAX are kept */
    struct holder holders[HOLDERS_MAX];
};

/* Adds a holder. A process that is there already is not added again. */
void holders_add(struct holder_list *list, pid_t pid, const char *comm, const char *how);

/* Fills 'list' with all who hold 'device', whose node now lies at 'node_path'. Returns 0, or a
 * negative errno if a sign could not be read: then nothing is proved. */
int holders_find(const struct roots *roots, const struct rdma_device *device, const char *node_path,
                 struct holder_list *list);

/* Adds the holders of 'device_name' that the kernel's RDMA netlink interface lists: contexts of
 * processes, and objects of kernel users. Returns 0, or a negative errno; -EOPNOTSUPP if this
 * kernel cannot tell. (holders-netlink.c) */
int holders_find_by_netlink(const struct roots *roots, const char *device_name,
                            struct holder_list *list);

#endif
