/* Reads what the coordinator must know from libvirt's XML. SPDX-License-Identifier: BSD-3-Clause */
#ifndef DOMXML_H
#define DOMXML_H

#include "log.h"

/* The text at 'xpath' in 'xml', or "" if there is none. For the caller to free(); NULL only when
 * memory is out or 'xml' is no XML. Any thread, as are the others. */
char *domxml_text(const char *xml, const char *xpath);

/* Finds the device with 'alias'. Returns 1 and its MAC or, for a passed-through device without one,
 * its PCI address in 'key' ('size' bytes; "" if it has neither); 0 if there is no such device. */
int domxml_device(const char *xml, const char *alias, char *key, size_t size);

/* Calls 'each' with every MAC of an interface and PCI address of a passed-through device. */
void domxml_keys(const char *xml, void (*each)(void *ctx, const char *key), void *ctx);

/* Target names (vda) of the file disks to copy, with commas between, into 'targets'; the file of
 * the first into 'path'. Returns 0, or -EINVAL with a sentence about a disk that cannot move. */
int domxml_disks(const char *xml, char *targets, size_t targets_size, char *path, size_t path_size,
                 char *error);

/* A sentence about what in the definition cannot move although the HCA with 'alias' is taken out
 * first: GPUs and other passed-through devices, pinned NUMA. Returns 0 if nothing. */
int domxml_immovable(const char *xml, const char *alias, char *error);

/* The <cpu> element as text, for the caller to free(); NULL if there is none. */
char *domxml_cpu(const char *xml);

#endif
