/* The control and event connection to a host's libvirtd. SPDX-License-Identifier: BSD-3-Clause
 *
 * One for each host. It carries events, guest channels and nothing that blocks for long; jobs open
 * connections of their own (libvirt/domain.h). It comes back by itself.
 */
#ifndef HOST_H
#define HOST_H

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include "inventory.h"
#include "loop.h"

struct host;

/* What happens at hosts; called on the loop's thread. 'at' is when the event came. */
struct host_callbacks {
    /* A VM started, stopped, was suspended or resumed: virDomainEventType and its detail. */
    void (*lifecycle)(void *ctx, struct host *host, const char *vm, int event, int detail,
                      double at);
    /* The device 'alias' has left 'vm'. */
    void (*device_removed)(void *ctx, struct host *host, const char *vm, const char *alias);
    /* The connection came (1) or went (0). */
    void (*connected)(void *ctx, struct host *host, int connected);
};

/* Makes the connection's object and begins to connect. Lives as long as the daemon. */
struct host *host_create(const struct inventory_host *inventory,
                         const struct host_callbacks *callbacks, void *ctx);

const struct inventory_host *host_inventory(const struct host *host);

/* The connection with a reference for the caller (virConnectClose() it), or NULL while there is
 * none. */
virConnectPtr host_connection(struct host *host);

/* Why there is no connection; "" if there is one. */
const char *host_error(const struct host *host);

/* Opens a connection for a blocking job, with keepalive. NULL with a sentence in 'error'. Any
 * thread but the loop's. */
virConnectPtr host_connect(const char *uri, char *error);

#endif
