/*
 * The ucx transport: frames over an RDMA device, by UCX's active messages.
 *
 * For tests on machines without such a device there are two that run the same code over something
 * else, and are of no other use: "ucx-shm", shared memory of one machine, notices no dead peer;
 * "ucx-tcp:INTERFACE" does, but UCX 1.13 aborts the process when a connection over it is closed
 * while the peer's answer to it still waits to be sent.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "transport-ucx.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core.h"

/* Devices for tests. */
#define DEVICE_TCP "ucx-tcp:"
#define DEVICE_SHM "ucx-shm"

static struct ucx_transport *ucx_of(struct ninja_transport *transport)
{
    return (struct ucx_transport *)transport;
}

/* --- When UCX keeps what is ours ------------------------------------------------------------- */

/* Destroys all workers, after which no memory of ours is touched any more, and takes all operations
 * back. */
static void give_up_workers(struct ucx_transport *transport)
{
    struct ucx_path *next;

    for (struct ucx_path *vp = transport->paths; vp != NULL; vp = vp->next) {
        ucx_receive_drop(vp);
        vp->worker = NULL;
        vp->endpoint = NULL;
    }
    while (transport->workers != NULL)
        ucx_worker_destroy(transport->workers);
    for (struct ucx_path *vp = transport->paths; vp != NULL; vp = next) {
        next = vp->next;
        while (vp->operations != NULL) {
            struct ucx_operation *operation = vp->operations;

            if (operation->kind == UCX_SEND)
                ucx_send_done(operation, UCS_ERR_CANCELED);
            else if (operation->kind == UCX_RECEIVE)
                ucx_receive_done(operation, UCS_ERR_CANCELED);
            else
                ucx_operation_free(operation);
        }
        ucx_path_task(vp, UCX_TASK_CLOSE);
    }
}

/*
 * Looks whether closed paths have waited too long for their operations, as it happens when the
 * device vanished. Then all paths of this transport have to go, and the workers with them: that
 * ends every access for certain.
 */
static void check_closing(struct ucx_transport *transport)
{
    uint64_t now = ninja_now_ms();
    bool all_closing = true;

    for (struct ucx_path *vp = transport->paths; vp != NULL; vp = vp->next) {
        if (vp->state != UCX_PATH_CLOSING) {
            all_closing = false;
        } else if (!transport->broken && now >= vp->close_deadline_ms) {
            transport->broken = true;
            ninja_log(transport->base.core, 0,
                      "%s: UCX does not end what it had begun on a path within %u ms of its end; "
                      "all paths over this device are given up",
                      transport->device_name, UCX_CLOSE_LIMIT_MS);
        }
    }
    if (!transport->broken)
        return;
    if (all_closing) {
        give_up_workers(transport);
        return;
    }
    for (struct ucx_path *vp = transport->paths; vp != NULL; vp = vp->next)
        ucx_path_fail(vp, -EIO, "another path over this device could not be ended");
}

/* --- The transport --------------------------------------------------------------------------- */

static int ucx_progress(struct ninja_transport *base)
{
    struct ucx_transport *transport = ucx_of(base);
    unsigned progressed = 0;

    if (transport->busy)
        return 0;
    transport->busy = true;
    transport->handled = 0;
    for (struct ucx_worker *worker = transport->workers; worker != NULL; worker = worker->next)
        progressed += ucp_worker_progress(worker->ucp);
    if (transport->tasks != NULL)
        ucx_tasks_run(transport);
    if (transport->holding > 0)
        for (struct ucx_path *vp = transport->paths; vp != NULL; vp = vp->next)
            ucx_receive_held(vp);
    if (transport->closing > 0)
        check_closing(transport);
    if (transport->workers != NULL && transport->workers->next != NULL)
        ucx_workers_expire(transport);
    /*
     * The control thread sleeps on the event file after a pass without result; the application's
     * thread polls, and must not pay for events.
     */
    if (progressed == 0 && transport->handled == 0 && base->core->control_progress &&
        !ucx_workers_arm(transport))
        progressed = 1;
    if (transport->tasks != NULL)
        ucx_tasks_run(transport);
    if (transport->kicked && transport->closing == 0) {
        uint64_t count;

        transport->kicked = false;
        (void)!read(transport->kick_fd, &count, sizeof(count));
    }
    transport->busy = false;
    return transport->handled > 0 ? transport->handled : progressed > 0;
}

/* Is `wanted` a device for tests? Then this sets the UCX name for it. */
static bool find_test_device(struct ucx_transport *transport, const char *wanted, char *ucx_device,
                             size_t size)
{
    const char *name = "all";

    if (strcmp(wanted, DEVICE_SHM) == 0) {
        transport->kind = UCX_OVER_SHM;
    } else if (strncmp(wanted, DEVICE_TCP, strlen(DEVICE_TCP)) == 0) {
        transport->kind = UCX_OVER_TCP;
        name = wanted + strlen(DEVICE_TCP);
    } else {
        return false;
    }
    snprintf(ucx_device, size, "%s", name);
    snprintf(transport->device_name, sizeof(transport->device_name), "%s", wanted);
    return true;
}

/* Finds the device and checks that it can be used; sets the UCX names for it. */
static int find_device(struct ucx_transport *transport, const char *wanted, char *ucx_device,
                       size_t size, char *why, size_t why_size)
{
    struct ninja_verbs_device *device = &transport->device;
    bool foreign;
    int rc = ninja_verbs_device_choose(wanted, device, &foreign, why, why_size);

    if (rc != 0)
        return rc;
    snprintf(transport->device_name, sizeof(transport->device_name), "RDMA device %s",
             device->name);
    snprintf(ucx_device, size, "%s:%u", device->name, device->port);
    if (foreign)
        ninja_log(
            transport->base.core, 0,
            "%s is already open in this process: another component of Open MPI uses it, so it "
            "cannot be given up (exclude btl openib, btl uct, mtl ofi, pml ucx and osc ucx)",
            transport->device_name);
    return 0;
}

static void destroy(struct ucx_transport *transport)
{
    while (transport->workers != NULL)
        ucx_worker_destroy(transport->workers);
    if (transport->context != NULL)
        ucp_cleanup(transport->context);
    if (transport->kick_fd >= 0)
        close(transport->kick_fd);
    if (transport->base.event_fd >= 0)
        close(transport->base.event_fd);
    while (transport->free_operations != NULL) {
        struct ucx_operation *operation = transport->free_operations;

        transport->free_operations = operation->next;
        free(operation);
    }
    free(transport->slots);
    free(transport);
}

/* The event file: over those of all workers, and our own. */
static int open_events(struct ucx_transport *transport)
{
    struct epoll_event event = {.events = EPOLLIN};

    transport->base.event_fd = epoll_create1(EPOLL_CLOEXEC);
    if (transport->base.event_fd < 0)
        return -errno;
    transport->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (transport->kick_fd < 0 ||
        epoll_ctl(transport->base.event_fd, EPOLL_CTL_ADD, transport->kick_fd, &event) != 0)
        return -errno;
    return 0;
}

static int ucx_open(struct ninja_core *core, const char *device, struct ninja_transport **out,
                    char *why, size_t why_size)
{
    struct ucx_transport *transport = calloc(1, sizeof(*transport));
    struct ucx_worker *worker;
    uint64_t begin = ninja_now_ms();
    char ucx_device[80];
    int rc;

    if (transport == NULL) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    transport->base = (struct ninja_transport){&ninja_transport_ucx, core, -1};
    transport->kick_fd = -1;
    if (!find_test_device(transport, device, ucx_device, sizeof(ucx_device))) {
        rc = find_device(transport, device, ucx_device, sizeof(ucx_device), why, why_size);
        if (rc != 0)
            goto destroy;
    }
    rc = open_events(transport);
    if (rc != 0) {
        snprintf(why, why_size, "no event file: %s", strerror(-rc));
        goto destroy;
    }
    rc = ucx_context_create(transport, ucx_device, why, why_size);
    if (rc != 0)
        goto destroy;
    rc = ucx_worker_create(transport, &worker);
    if (rc != 0) {
        snprintf(why, why_size, "UCX cannot use %s: %s", transport->device_name, strerror(-rc));
        goto destroy;
    }
    if (transport->kind == UCX_OVER_RDMA)
        ninja_verbs_device_opened();
    ninja_log(core, 2, "%s: opened in %u ms", transport->device_name,
              (unsigned)(ninja_now_ms() - begin));
    *out = &transport->base;
    return 0;
destroy:
    destroy(transport);
    return rc;
}

static void ucx_close(struct ninja_transport *base)
{
    struct ucx_transport *transport = ucx_of(base);
    struct ninja_verbs_device device = transport->device;
    struct ninja_core *core = base->core;
    uint64_t begin = ninja_now_ms();
    bool rdma = transport->kind == UCX_OVER_RDMA;
    char name[sizeof(transport->device_name)];
    unsigned files;

    memcpy(name, transport->device_name, sizeof(name));
    destroy(transport);
    ninja_log(core, 2, "%s: closed in %u ms", name, (unsigned)(ninja_now_ms() - begin));
    files = rdma ? ninja_verbs_device_closed(&device) : 0;
    if (files > 0)
        ninja_log(core, 0, "RDMA device %s: %u file(s) of it are still open in this process",
                  device.name, files);
}

static int ucx_path_prepare(struct ninja_path *path, void *address, size_t *size)
{
    struct ucx_worker *worker = ucx_of(path->transport)->workers;
    struct ucx_address head = {.magic = UCX_ADDRESS_MAGIC};

    if (worker == NULL) /* given up: UCX did not end what it had begun */
        return -ENODEV;
    head.size = (uint32_t)worker->address_size;
    if (sizeof(head) + worker->address_size > NINJA_TRANSPORT_ADDRESS_MAX)
        return -EMSGSIZE;
    memcpy(address, &head, sizeof(head));
    memcpy((unsigned char *)address + sizeof(head), worker->address, worker->address_size);
    *size = sizeof(head) + worker->address_size;
    return 0;
}

static void ucx_path_forget(struct ninja_path *path)
{
    path->transport_data = NULL;
}

const struct ninja_transport_ops ninja_transport_ucx = {
    .name = "ucx",
    .landing_can_cancel = false,
    .open = ucx_open,
    .close = ucx_close,
    .path_prepare = ucx_path_prepare,
    .path_forget = ucx_path_forget,
    .path_open = ucx_path_open,
    .path_pump = ucx_path_pump,
    .path_close = ucx_path_close,
    .progress = ucx_progress,
};
