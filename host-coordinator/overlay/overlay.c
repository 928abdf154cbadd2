/* Picks the overlay's driver. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <string.h>

#include "overlay.h"

/* Overlays that need not be told anything:
 *
 * gre   switches with a full mesh of GRE tunnels learn a MAC from its traffic; QEMU announces the
 * VM with RARP when it resumes at the destination, and that moves the MAC. none  the VM's network
 * is not an overlay's business (one L2 network, or no network at all).
 */
static const struct overlay_driver drivers[] = {{.name = "gre"}, {.name = "none"}};

const struct overlay_driver *overlay_driver(const char *name)
{
    for (unsigned i = 0; name && i < sizeof(drivers) / sizeof(drivers[0]); i++)
        if (!strcmp(drivers[i].name, name))
            return &drivers[i];
    return &drivers[0];
}

int overlay_prepare(const struct inventory_vm *vm, const struct inventory_host *from,
                    const struct inventory_host *to, char *error)
{
    const struct overlay_driver *driver = overlay_driver(to->site->overlay);

    return driver->prepare ? driver->prepare(vm, from, to, error) : 0;
}

int overlay_finalise(const struct inventory_vm *vm, const struct inventory_host *to, char *error)
{
    const struct overlay_driver *driver = overlay_driver(to->site->overlay);

    return driver->finalise ? driver->finalise(vm, to, error) : 0;
}

int overlay_undo(const struct inventory_vm *vm, const struct inventory_host *from,
                 const struct inventory_host *to, char *error)
{
    const struct overlay_driver *driver = overlay_driver(to->site->overlay);

    return driver->undo ? driver->undo(vm, from, to, error) : 0;
}
