/* An HCA of the inventory as a device for libvirt. SPDX-License-Identifier: BSD-3-Clause */
#ifndef HCA_H
#define HCA_H

#include "inventory.h"

/* libvirt's XML for plugging 'hca' in with the alias 'alias': the inventory's own device file, or
 * PCI passthrough of the device or of the virtual function, whose address its host is asked for.
 * Blocking. '*xml' is for the caller to free(). Returns 0 or a negative errno with a sentence. */
int hca_device_xml(const struct inventory_hca *hca, const char *alias, char **xml, char *error);

#endif
