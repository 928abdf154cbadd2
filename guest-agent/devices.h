/* The RDMA devices of this machine, as sysfs shows them.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef AGENT_DEVICES_H
#define AGENT_DEVICES_H

#include <sys/types.h>

#include "roots.h"

#define DEVICES_MAX 32

struct rdma_device {
    char name[64];       /* mlx5_0, rxe0 */
    char uverbs[32];     /* its node in /dev/infiniband; "" while there is none */
    char netdev[32];     /* RoCE: the network device under it, or "" */
    char mac[24];        /* of that */
    char pci[16];        /* 0000:05:00.0, or "" */
    unsigned port;       /* the port that 'port_state' is about: an ACTIVE one if there is one */
    char port_state[16]; /* ACTIVE, DOWN, INIT, ARMED; "" if there is no port */
    int usable;          /* that port is ACTIVE, has a GID and, on InfiniBand, a LID */
};

struct rdma_device_list {
    unsigned count;
    struct rdma_device devices[DEVICES_MAX];
};

/* Fills 'list' with what is there now. Returns 0, or a negative errno if it cannot be seen: then
 * 'list' is left as it is. */
int devices_scan(const struct roots *roots, struct rdma_device_list *list);

/* The device named 'name', or NULL. */
const struct rdma_device *devices_find(const struct rdma_device_list *list, const char *name);

/* True if an IPoIB network device on 'device' is up; then '*netdev' names it. */
int devices_ipoib_up(const struct roots *roots, const struct rdma_device *device, char *netdev,
                     size_t size);

#endif
