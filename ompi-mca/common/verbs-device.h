/*
 * RDMA devices as the kernel shows them: which one to use, whether it can be used, and who has it
 * open.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_VERBS_DEVICE_H
#define NINJA_VERBS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Where the kernel lists its devices, and where their device nodes are. */
#define NINJA_VERBS_SYSFS "/sys/class"
#define NINJA_VERBS_NODES "/dev/infiniband"

struct ninja_verbs_device {
    char name[64];       /* as in /sys/class/infiniband */
    unsigned port;       /* counted from 1 */
    bool soft_roce;      /* the kernel's software HCA over an Ethernet device (rdma_rxe) */
    char node[32];       /* name of its device node, "uverbs0"; "" if the kernel made none */
    dev_t device_number; /* of that node */
};

/*
 * Finds the device `wanted`, "NAME" or "NAME:PORT", below `sysfs`; an empty `wanted` takes the
 * first device and port that is ACTIVE. Without a port the first ACTIVE one is taken. Fills in
 * *device and returns 0; or returns -ENODEV (no such device or port), -ENETDOWN (not ACTIVE) or
 * -EINVAL (not a name), with a sentence in `why`.
 */
int ninja_verbs_device_find(const char *sysfs, const char *wanted,
                            struct ninja_verbs_device *device, char *why, size_t why_size);

/*
 * Checks that the node of `device` below `nodes` can be opened by this process. Returns 0, or a
 * negative errno with a sentence in `why`. The node is not opened.
 */
int ninja_verbs_device_check_node(const char *nodes, const struct ninja_verbs_device *device,
                                  char *why, size_t why_size);

/*
 * What a transport of this process asks before it opens `wanted`: finds the device, checks its node
 * and the limit of locked memory. *foreign says whether somebody else in this process has it open.
 * Returns 0 or a negative errno with a sentence in `why`.
 */
int ninja_verbs_device_choose(const char *wanted, struct ninja_verbs_device *device, bool *foreign,
                              char *why, size_t why_size);

/* A transport of this process has opened a device. Any thread. */
void ninja_verbs_device_opened(void);

/* It has closed `device`. Returns the number of its files that are open all the same, 0 while other
 * transports use devices. Any thread. */
unsigned ninja_verbs_device_closed(const struct ninja_verbs_device *device);

/* Does the kernel still offer `device` to programs? (What is removed, it does not, although those
 * that have it open may keep it from going.) */
bool ninja_verbs_device_present(const char *sysfs, const struct ninja_verbs_device *device);

/* The number of open files of this process that belong to `device`; each keeps the device from
 * being unplugged. */
unsigned ninja_verbs_device_open_files(const struct ninja_verbs_device *device);

/*
 * Checks that this process may lock enough memory for a transport. Returns 0, or -ENOMEM with a
 * sentence in `why` that says what to do.
 */
int ninja_verbs_memlock_check(char *why, size_t why_size);

#endif
