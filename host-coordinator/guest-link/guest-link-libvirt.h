/* A guest link over libvirt: works on remote hosts too, and needs no path of a socket.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef GUEST_LINK_LIBVIRT_H
#define GUEST_LINK_LIBVIRT_H

#include <libvirt/libvirt.h>

#include "guest-link.h"

/* Opens the agent's channel of 'domain' for 'link'. libvirt's event loop must run
 * (virEventRegisterDefaultImpl() or one's own): it calls the link when bytes come. The caller still
 * calls guest_link_tick(). A channel that another program has open is taken from it if 'force'.
 * Returns 0, or -ENOTCONN if libvirt refused: its own error says why. */
int guest_link_attach_libvirt(struct guest_link *link, virDomainPtr domain, int force);

#endif
