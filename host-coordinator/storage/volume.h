/* A VM's disk at a host: a qcow2 overlay of the base image, made through libvirt.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * Blocking, for a job in the pool. Return 0 or a negative errno with a sentence in 'error'.
 */
#ifndef VOLUME_H
#define VOLUME_H

#include "log.h"

/* Makes a fresh overlay at 'path' on top of 'base_image', as large as the disk at the same path of
 * the host 'from_uri', at the host 'uri'. One that is there already is removed first: a stale
 * overlay would keep stale clusters. */
int volume_create(const char *uri, const char *from_uri, const char *path, const char *base_image,
                  char *error);

/* Removes the file at 'path'; absent is fine. */
int volume_delete(const char *uri, const char *path, char *error);

#endif
