/* Shared by the files of libvirt/. SPDX-License-Identifier: BSD-3-Clause */
#ifndef DOMAIN_PRIVATE_H
#define DOMAIN_PRIVATE_H

#include <libvirt/libvirt.h>

/* A VM on a connection of a job's own. */
struct domain_handle {
    virConnectPtr connection;
    virDomainPtr domain;
};

/* Opens 'vm'; close it after success only. */
int domain_open(struct domain_handle *handle, const char *uri, const char *vm, char *error);
void domain_close(struct domain_handle *handle);

/* True if the live definition can be read at once: that of a VM that is coming in by migration is
 * given out only when the migration is over. */
int domain_can_describe(virDomainPtr domain);

/* Puts "WHAT: libvirt's words" into 'error' and returns the negative errno for it. */
int domain_fail(char *error, const char *what);

#endif
