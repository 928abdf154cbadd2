/* The control and event connection to a host's libvirtd: connects, listens, reconnects.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "log.h"

/* A host that says nothing for 5 s, three times, is gone. */
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT      3
#define RETRY_FIRST_MS       500
#define RETRY_LAST_MS        10000

struct host {
    const struct inventory_host *inventory;
    struct host_callbacks callbacks;
    void *ctx;
    virConnectPtr connection;
    virConnectPtr made; /* by the running job */
    char error[SENTENCE_MAX];
    char last_logged[SENTENCE_MAX];
    int retry_ms;
    struct loop_timer retry;
};

static void host_try(void *arg);
static void on_close(virConnectPtr connection, int reason, void *opaque);

virConnectPtr host_connect(const char *uri, char *error)
{
    virConnectPtr connection = virConnectOpen(uri);

    if (!connection) {
        sentence_set(error, "%s", virGetLastErrorMessage());
        return NULL;
    }
    /* A driver that lives in this process has no connection that could die. */
    if (virConnectSetKeepAlive(connection, KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT) < 0 &&
        virGetLastErrorCode() != VIR_ERR_NO_SUPPORT) {
        sentence_set(error, "keepalive refused: %s", virGetLastErrorMessage());
        virConnectClose(connection);
        return NULL;
    }
    return connection;
}

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail,
                        void *opaque)
{
    struct host *host = opaque;

    host->callbacks.lifecycle(host->ctx, host, virDomainGetName(domain), event, detail, loop_now());
    return 0;
}

static void on_device_removed(virConnectPtr connection, virDomainPtr domain, const char *alias,
                              void *opaque)
{
    struct host *host = opaque;

    host->callbacks.device_removed(host->ctx, host, virDomainGetName(domain), alias);
}

/* The connection is gone: drops it and tries for a new one. */
static void host_lost(struct host *host)
{
    virConnectPtr connection = host->connection;

    if (!connection)
        return;
    log_line("host %s: connection lost", host->inventory->name);
    sentence_set(host->error, "connection lost");
    host->connection = NULL;
    host->callbacks.connected(host->ctx, host, 0);
    virConnectUnregisterCloseCallback(connection, on_close);
    virConnectClose(connection);
    loop_timer_start(&host->retry, RETRY_FIRST_MS, host_try, host);
}

static void on_lost_timeout(int timer, void *opaque)
{
    struct host *host = opaque;

    virEventRemoveTimeout(timer);
    if (host->connection && virConnectIsAlive(host->connection) != 1)
        host_lost(host);
}

/* Called inside whatever call on the connection noticed, in its thread and with libvirt's lock
 * held: only marks. */
static void on_close(virConnectPtr connection, int reason, void *opaque)
{
    virEventAddTimeout(0, on_lost_timeout, opaque, NULL);
}

static void connect_run(void *arg)
{
    struct host *host = arg;
    virConnectPtr connection = host_connect(host->inventory->uri, host->error);

    host->made = NULL;
    if (!connection)
        return;
    if (virConnectDomainEventRegisterAny(connection, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                         VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), host, NULL) < 0 ||
        virConnectDomainEventRegisterAny(connection, NULL, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
                                         VIR_DOMAIN_EVENT_CALLBACK(on_device_removed), host,
                                         NULL) < 0 ||
        virConnectRegisterCloseCallback(connection, on_close, host, NULL) < 0) {
        sentence_set(host->error, "%s", virGetLastErrorMessage());
        virConnectClose(connection);
        return;
    }
    host->made = connection;
}

static void connect_done(void *arg)
{
    struct host *host = arg;

    if (!host->made) {
        if (strcmp(host->error, host->last_logged))
            log_line("host %s: cannot connect: %s", host->inventory->name, host->error);
        sentence_set(host->last_logged, "%s", host->error);
        loop_timer_start(&host->retry, host->retry_ms, host_try, host);
        host->retry_ms = host->retry_ms * 2 < RETRY_LAST_MS ? host->retry_ms * 2 : RETRY_LAST_MS;
        return;
    }
    log_line("host %s: connected", host->inventory->name);
    host->connection = host->made;
    host->error[0] = host->last_logged[0] = '\0';
    host->retry_ms = RETRY_FIRST_MS;
    host->callbacks.connected(host->ctx, host, 1);
    /* It may have been lost before the close callback knew it as ours. */
    if (host->connection && virConnectIsAlive(host->connection) != 1)
        host_lost(host);
}

static void host_try(void *arg)
{
    struct host *host = arg;

    if (loop_submit(connect_run, connect_done, host))
        loop_timer_start(&host->retry, RETRY_LAST_MS, host_try, host);
}

struct host *host_create(const struct inventory_host *inventory,
                         const struct host_callbacks *callbacks, void *ctx)
{
    struct host *host = calloc(1, sizeof(*host));

    if (!host)
        return NULL;
    host->inventory = inventory;
    host->callbacks = *callbacks;
    host->ctx = ctx;
    host->retry_ms = RETRY_FIRST_MS;
    sentence_set(host->error, "not connected yet");
    host_try(host);
    return host;
}

const struct inventory_host *host_inventory(const struct host *host)
{
    return host->inventory;
}

virConnectPtr host_connection(struct host *host)
{
    if (host->connection)
        virConnectRef(host->connection);
    return host->connection;
}

const char *host_error(const struct host *host)
{
    return host->connection ? "" : host->error;
}
