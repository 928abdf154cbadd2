/* What must hold in an inventory beyond its form. SPDX-License-Identifier: BSD-3-Clause */
#ifndef INVENTORY_CHECK_H
#define INVENTORY_CHECK_H

#include "inventory.h"

/* Checks 'inventory', which was read from 'path' and whose parts point at each other. Returns 0, or
 * -EINVAL with "FILE:LINE: what is wrong" in 'error'. */
int inventory_check(const char *path, const struct inventory *inventory, char *error);

#endif
