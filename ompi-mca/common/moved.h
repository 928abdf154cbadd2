/*
 * Notices that this machine was moved: its network card announces itself at the new place.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_MOVED_H
#define NINJA_MOVED_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Opens a descriptor that becomes readable when the kernel tells of changes of network interfaces.
 * Needs no privilege. Returns it, or a negative errno; the caller closes it.
 */
int ninja_moved_open(void);

/*
 * Takes all that has come on `fd`. Returns whether an interface told its peers where it is now: a
 * virtual machine's interface does so, several times, when the machine runs again after a live
 * migration. A bond that fails over does it too.
 */
bool ninja_moved_read(int fd);

/* Whether one netlink message of `size` bytes says so: for tests. */
bool ninja_moved_parse(const void *message, size_t size);

#endif
