/* The overlay network that a VM's MAC and IP live in: what a move has to tell it.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * A driver per kind of overlay; a site's "overlay" in the inventory names it. Blocking, for a job
 * in the pool; return 0 or a negative errno with a sentence in 'error'.
 */
#ifndef OVERLAY_H
#define OVERLAY_H

#include "inventory.h"

struct overlay_driver {
    const char *name;
    /* Before the copy: the port may appear at 'to' while it is in use at 'from'. May be NULL. */
    int (*prepare)(const struct inventory_vm *vm, const struct inventory_host *from,
                   const struct inventory_host *to, char *error);
    /* After the VM resumed at 'to': all its traffic goes there. May be NULL. */
    int (*finalise)(const struct inventory_vm *vm, const struct inventory_host *to, char *error);
    /* The move failed: the port stays at 'from'. May be NULL. */
    int (*undo)(const struct inventory_vm *vm, const struct inventory_host *from,
                const struct inventory_host *to, char *error);
};

/* The driver of that name; NULL names the default. */
const struct overlay_driver *overlay_driver(const char *name);

int overlay_prepare(const struct inventory_vm *vm, const struct inventory_host *from,
                    const struct inventory_host *to, char *error);
int overlay_finalise(const struct inventory_vm *vm, const struct inventory_host *to, char *error);
int overlay_undo(const struct inventory_vm *vm, const struct inventory_host *from,
                 const struct inventory_host *to, char *error);

#endif
