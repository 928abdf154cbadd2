/* The fence: withholds a device node, so that nobody opens the device between the proof that it is
 * free and its removal; and puts it back exactly as it was. SPDX-License-Identifier: BSD-3-Clause
 *
 * The node is renamed into a directory that only root enters. A rename keeps mode, owner, access
 * lists, and the kernel's mark by which devtmpfs removes its own nodes; unlink and mknod would not.
 */
#ifndef AGENT_FENCE_H
#define AGENT_FENCE_H

#include "roots.h"

/* Withholds /dev/infiniband/'uverbs'. Already withheld is no error. Returns 0 or a negative errno.
 */
int fence_withhold(const struct roots *roots, const char *uverbs);

/* Puts it back. Nothing withheld is no error; a node whose device is gone, or that the kernel made
 * anew, is removed. Returns 0 or a negative errno. */
int fence_restore(const struct roots *roots, const char *uverbs);

/* Removes withheld nodes whose device is gone: the kernel did not find them where it had put them. */
void fence_forget_vanished(const struct roots *roots);

/* True if the node is withheld. */
int fence_is_up(const struct roots *roots, const char *uverbs);

/* Puts back every withheld node except those for which 'keep' returns true: what an agent that was
 * killed left behind. */
void fence_restore_others(const struct roots *roots, int (*keep)(void *ctx, const char *uverbs),
                          void *ctx);

/* The path at which the node is now, withheld or not. */
void fence_node_path(const struct roots *roots, const char *uverbs, char *path, size_t size);

#endif
