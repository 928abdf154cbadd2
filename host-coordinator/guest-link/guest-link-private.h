/* What the transports of guest-link share with it.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef GUEST_LINK_PRIVATE_H
#define GUEST_LINK_PRIVATE_H

#include "guest-link.h"

/* The transport in use if its functions are 'functions', else NULL. */
void *guest_link_transport_of(const struct guest_link *link,
                              const struct guest_link_transport *functions);

#endif
