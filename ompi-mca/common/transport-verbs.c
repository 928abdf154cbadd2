/*
 * The verbs transport: frames over an RDMA device, by reliable connections of libibverbs.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "transport-verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core.h"

/* Completions fetched at a time, and handled in one call of progress(). */
#define BATCH      16
#define PASS_LIMIT 128U

/* Requests of all paths in the device's queues. */
#define REQUESTS_MAX 4096U

/* RDMA READs that a queue pair serves or asks at a time, if the device can. */
#define READS_MAX 16

/* How often a device that may be going is looked for, and for how long if nothing says more. */
#define LOOK_AGAIN_MS 100
#define LOOKS         100U

/* Device events come seldom: the application's thread looks every so many passes. */
#define EVENT_PASSES 4096U

/* Opened so far, by the control thread. */
static uint32_t instances;

static struct verbs_transport *verbs_of(struct ninja_transport *transport)
{
    return (struct verbs_transport *)transport;
}

/* --- Completions ----------------------------------------------------------------------------- */

static void on_received(struct verbs_transport *transport, const struct ibv_wc *completion)
{
    unsigned index = (unsigned)(completion->wr_id >> 1);
    struct verbs_path *vp = verbs_path_find(transport, completion->qp_num);
    enum ibv_wc_status status = completion->status;

    if (vp != NULL)
        status = verbs_status(vp, status);
    if (status == IBV_WC_SUCCESS && vp != NULL)
        verbs_receive_message(vp, verbs_receive_buffer(transport, index), completion->byte_len);
    else if (vp != NULL)
        verbs_path_fail(vp, -EIO, ibv_wc_status_str(status));
    verbs_receive_again(transport, index);
}

static void fail_all(struct verbs_transport *transport, const char *why)
{
    for (struct verbs_path *vp = transport->paths; vp != NULL; vp = vp->next)
        verbs_path_fail(vp, -EIO, why);
}

unsigned verbs_poll(struct verbs_transport *transport, unsigned limit)
{
    struct ibv_wc completions[BATCH];
    unsigned handled = 0;
    int count;

    do {
        count = ibv_poll_cq(transport->completions, BATCH, completions);
        if (count < 0)
            fail_all(transport, "the completion queue cannot be read");
        for (int i = 0; i < count; i++) {
            if (completions[i].wr_id & 1)
                on_received(transport, &completions[i]);
            else
                verbs_operation_done((struct verbs_operation *)(uintptr_t)completions[i].wr_id,
                                     completions[i].status);
        }
        /* Not while the application waits for what has just arrived, unless there are many. */
        if (count <= 0 || transport->repost_count >= BATCH)
            verbs_receives_post(transport);
        if (count > 0)
            handled += (unsigned)count;
    } while (count == BATCH && handled < limit);
    transport->handled += (int)handled;
    return handled;
}

/* Asks for an event at the next completion. Returns false if there is one to be handled already. */
static bool arm(struct verbs_transport *transport)
{
    struct ibv_cq *queue;
    void *context;

    while (ibv_get_cq_event(transport->channel, &queue, &context) == 0)
        transport->unacked++;
    if (transport->unacked > 0)
        ibv_ack_cq_events(transport->completions, transport->unacked);
    transport->unacked = 0;
    (void)ibv_req_notify_cq(transport->completions, 0);
    return verbs_poll(transport, PASS_LIMIT) == 0;
}

/* --- Events of the device -------------------------------------------------------------------- */

/* For the next `looks` periods of LOOK_AGAIN_MS the event file is readable once in each. */
static void look_again(struct verbs_transport *transport, unsigned looks)
{
    const struct timespec period = {.tv_nsec = looks > 0 ? LOOK_AGAIN_MS * 1000000L : 0};
    const struct itimerspec timer = {period, period};

    transport->looks = looks;
    (void)timerfd_settime(transport->timer_fd, 0, &timer, NULL);
}

static void lose(struct verbs_transport *transport, const char *why)
{
    transport->lost = true;
    look_again(transport, 0);
    ninja_transport_lost(&transport->base, why);
}

/*
 * Something happened to the port: an address changed, the cable was pulled, or the whole device.
 * Drivers that can take it from under us say the latter by an event; the others, soft-RoCE among
 * them, wait until we close it, and what tells is that its device node is gone.
 */
static void look_for_device(struct verbs_transport *transport)
{
    uint64_t count;

    if (transport->looks == 0 || read(transport->timer_fd, &count, sizeof(count)) != sizeof(count))
        return;
    if (!ninja_verbs_device_present(NINJA_VERBS_SYSFS, &transport->device))
        lose(transport, "it was removed");
    else if (!transport->down)
        look_again(transport, transport->looks - 1);
}

static void handle_event(struct verbs_transport *transport, const struct ibv_async_event *event)
{
    struct verbs_path *vp = NULL;

    switch (event->event_type) {
    case IBV_EVENT_PORT_ERR:
        if (event->element.port_num != (int)transport->device.port)
            return;
        transport->down = true;
        look_again(transport, LOOKS);
        fail_all(transport, "the port went down");
        break;
    case IBV_EVENT_PORT_ACTIVE:
        if (event->element.port_num != (int)transport->device.port)
            return;
        transport->down = false;
        transport->port_changed = true;
        break;
    case IBV_EVENT_LID_CHANGE:
        transport->port_changed = true;
        break;
    case IBV_EVENT_GID_CHANGE:
        transport->port_changed = true;
        if (!transport->lost)
            look_again(transport, LOOKS);
        break;
    case IBV_EVENT_DEVICE_FATAL:
        transport->down = true;
        lose(transport, "the device failed");
        break;
    case IBV_EVENT_CQ_ERR:
    case IBV_EVENT_SRQ_ERR:
        transport->down = true;
        lose(transport, "a queue of the device failed");
        break;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
        vp = verbs_path_find(transport, event->element.qp->qp_num);
        if (vp != NULL)
            verbs_path_fail(vp, -EIO, ibv_event_type_str(event->event_type));
        break;
    default:
        break;
    }
}

static void look_for_events(struct verbs_transport *transport)
{
    struct ibv_async_event event;

    while (ibv_get_async_event(transport->context, &event) == 0) {
        ninja_log(transport->base.core, 2, "%s: %s", transport->device_name,
                  ibv_event_type_str(event.event_type));
        handle_event(transport, &event);
        ibv_ack_async_event(&event);
    }
    if (transport->inject_event) {
        event = (struct ibv_async_event){.event_type = transport->injected_event};
        transport->inject_event = false;
        ninja_log(transport->base.core, 2, "%s: %s (injected)", transport->device_name,
                  ibv_event_type_str(event.event_type));
        handle_event(transport, &event);
    }
    look_for_device(transport);
}

/* --- Progress -------------------------------------------------------------------------------- */

/* Lets paths go on that had to stop: for memory of the core, or for want of a buffer. */
static void resume_stopped(struct verbs_transport *transport)
{
    bool starved = transport->starved;

    if (!starved && transport->holding == 0)
        return;
    transport->starved = false;
    for (struct verbs_path *vp = transport->paths; vp != NULL; vp = vp->next) {
        verbs_receive_held(vp);
        if (starved)
            verbs_pump(vp);
    }
}

static void run_tasks(struct verbs_transport *transport)
{
    uint64_t count;

    /* The reaper kicks too; only the control thread sleeps on this file. */
    if (transport->kicked || transport->base.core->control_progress)
        (void)!read(transport->kick_fd, &count, sizeof(count));
    transport->kicked = false;
    verbs_tasks_run(transport);
}

static int verbs_progress(struct ninja_transport *base)
{
    struct verbs_transport *transport = verbs_of(base);
    bool control = base->core->control_progress;

    if (transport->busy)
        return 0;
    transport->busy = true;
    transport->handled = 0;
    verbs_poll(transport, PASS_LIMIT);
    resume_stopped(transport);
    if (control || ++transport->passes % EVENT_PASSES == 0) {
        look_for_events(transport);
        /* So that what was unmapped is not kept from others. */
        ninja_core_forget_released(base->core);
    }
    run_tasks(transport);
    /*
     * The control thread sleeps on the event file after a pass without result; the application's
     * thread polls, and must not pay for events.
     */
    if (transport->handled == 0 && control && !arm(transport))
        run_tasks(transport);
    transport->busy = false;
    return transport->handled;
}

/* --- Opening and closing --------------------------------------------------------------------- */

static int find_device(struct verbs_transport *transport, const char *wanted, char *why,
                       size_t why_size)
{
    struct ninja_verbs_device *device = &transport->device;
    bool foreign;
    int rc = ninja_verbs_device_choose(wanted, device, &foreign, why, why_size);

    if (rc != 0)
        return rc;
    snprintf(transport->device_name, sizeof(transport->device_name), "RDMA device %s",
             device->name);
    if (foreign)
        ninja_log(
            transport->base.core, 0,
            "%s is already open in this process: another component of Open MPI uses it, so it "
            "cannot be given up (exclude btl openib, btl uct, mtl ofi, pml ucx and osc ucx)",
            transport->device_name);
    return 0;
}

static struct ibv_context *open_device(const char *name)
{
    struct ibv_context *context = NULL;
    int count = 0;
    struct ibv_device **all = ibv_get_device_list(&count);

    for (int i = 0; all != NULL && i < count; i++) {
        if (strcmp(ibv_get_device_name(all[i]), name) == 0) {
            context = ibv_open_device(all[i]);
            break;
        }
    }
    if (all != NULL)
        ibv_free_device_list(all);
    return context;
}

static void destroy(struct verbs_transport *transport)
{
    verbs_reaper_destroy(&transport->reaper);
    if (transport->receives != NULL)
        ibv_destroy_srq(transport->receives);
    if (transport->completions != NULL)
        ibv_destroy_cq(transport->completions);
    if (transport->channel != NULL)
        ibv_destroy_comp_channel(transport->channel);
    verbs_registrations_destroy(transport);
    verbs_memory_destroy(transport);
    if (transport->domain != NULL)
        ibv_dealloc_pd(transport->domain);
    if (transport->context != NULL)
        ibv_close_device(transport->context);
    if (transport->kick_fd >= 0)
        close(transport->kick_fd);
    if (transport->timer_fd >= 0)
        close(transport->timer_fd);
    if (transport->base.event_fd >= 0)
        close(transport->base.event_fd);
    while (transport->free_operations != NULL) {
        struct verbs_operation *operation = transport->free_operations;

        transport->free_operations = operation->next;
        free(operation);
    }
    free(transport->tickets);
    free(transport);
}

/* The event file: over those of completions, of the device, and our own. */
static int open_events(struct verbs_transport *transport)
{
    int files[] = {transport->channel->fd, transport->context->async_fd, -1, -1};
    struct epoll_event event = {.events = EPOLLIN};

    transport->base.event_fd = epoll_create1(EPOLL_CLOEXEC);
    if (transport->base.event_fd < 0)
        return -errno;
    transport->kick_fd = files[2] = eventfd(0, EFD_CLOEXEC);
    transport->timer_fd = files[3] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    for (int i = 0; i < 4; i++) {
        int flags = fcntl(files[i], F_GETFL);

        if (flags < 0 || fcntl(files[i], F_SETFL, flags | O_NONBLOCK) != 0 ||
            epoll_ctl(transport->base.event_fd, EPOLL_CTL_ADD, files[i], &event) != 0)
            return -errno;
    }
    return 0;
}

/* What the device can do, within what we want. */
static int ask_device(struct verbs_transport *transport)
{
    struct ibv_device_attr device;
    int rc = ibv_query_device(transport->context, &device);

    if (rc == 0)
        rc = ibv_query_port(transport->context, (uint8_t)transport->device.port, &transport->port);
    if (rc != 0)
        return -rc;
    transport->reads_served =
        (uint8_t)(device.max_qp_rd_atom < READS_MAX ? device.max_qp_rd_atom : READS_MAX);
    transport->reads_asked =
        (uint8_t)(device.max_qp_init_rd_atom < READS_MAX ? device.max_qp_init_rd_atom : READS_MAX);
    transport->requests_max = REQUESTS_MAX;
    if (device.max_cqe < (int)(REQUESTS_MAX + 1024))
        transport->requests_max = (unsigned)device.max_cqe / 2;
    return device.max_srq > 0 ? 0 : -ENOTSUP;
}

/* Everything on the device that all paths share. Returns 0 or a negative errno; *step says what it
 * was. */
static int make_queues(struct verbs_transport *transport, const char **step)
{
    struct ibv_srq_init_attr receives = {.attr = {.max_wr = 1024, .max_sge = 1}};
    int rc;

    *step = "protection domain";
    transport->domain = ibv_alloc_pd(transport->context);
    if (transport->domain == NULL)
        return -errno;
    *step = "completion channel";
    transport->channel = ibv_create_comp_channel(transport->context);
    if (transport->channel == NULL)
        return -errno;
    *step = "event file";
    rc = open_events(transport);
    if (rc != 0)
        return rc;
    *step = "completion queue";
    transport->completions = ibv_create_cq(transport->context, (int)transport->requests_max + 1024,
                                           NULL, transport->channel, 0);
    if (transport->completions == NULL)
        return -errno;
    *step = "shared receive queue";
    transport->receives = ibv_create_srq(transport->domain, &receives);
    if (transport->receives == NULL)
        return -errno;
    *step = "table of registrations";
    rc = verbs_registrations_create(transport);
    if (rc != 0)
        return rc;
    *step = "registered memory for buffers";
    return verbs_memory_create(transport);
}

static int verbs_open(struct ninja_core *core, const char *wanted, struct ninja_transport **out,
                      char *why, size_t why_size)
{
    struct verbs_transport *transport = calloc(1, sizeof(*transport));
    uint64_t begin = ninja_now_ms();
    const char *step = "device";
    int rc;

    if (transport == NULL) {
        snprintf(why, why_size, "out of memory");
        return -ENOMEM;
    }
    transport->base = (struct ninja_transport){&ninja_transport_verbs, core, -1};
    transport->instance = ++instances;
    transport->kick_fd = transport->timer_fd = -1;
    verbs_reaper_init(&transport->reaper);
    rc = find_device(transport, wanted, why, why_size);
    if (rc != 0)
        goto destroy;
    transport->context = open_device(transport->device.name);
    rc = transport->context != NULL ? ask_device(transport) : errno != 0 ? -errno : -ENODEV;
    if (rc == 0) {
        rc = verbs_gid_choose(transport, why, why_size);
        if (rc != 0)
            goto destroy;
        rc = make_queues(transport, &step);
    }
    if (rc != 0) {
        snprintf(why, why_size, "%s cannot be used: %s: %s%s", transport->device_name, step,
                 strerror(-rc), rc == -ENOTSUP ? " (transport ucx may work)" : "");
        goto destroy;
    }
    ninja_verbs_device_opened();
    ninja_log(core, 2, "%s: opened in %u ms; up to %zu KiB stay registered after a message",
              transport->device_name, (unsigned)(ninja_now_ms() - begin),
              transport->registrations.limit / 1024);
    *out = &transport->base;
    return 0;
destroy:
    destroy(transport);
    return rc;
}

static void verbs_close(struct ninja_transport *base)
{
    struct verbs_transport *transport = verbs_of(base);
    struct ninja_verbs_device device = transport->device;
    struct ninja_core *core = base->core;
    uint64_t begin = ninja_now_ms();
    unsigned files;

    destroy(transport);
    ninja_log(core, 2, "RDMA device %s: closed in %u ms", device.name,
              (unsigned)(ninja_now_ms() - begin));
    files = ninja_verbs_device_closed(&device);
    if (files > 0)
        ninja_log(core, 0, "RDMA device %s: %u file(s) of it are still open in this process",
                  device.name, files);
}

const struct ninja_transport_ops ninja_transport_verbs = {
    .name = "verbs",
    .landing_can_cancel = false,
    .gather_max = VERBS_GATHER_MAX,
    .open = verbs_open,
    .close = verbs_close,
    .path_prepare = verbs_path_prepare,
    .path_forget = verbs_path_forget,
    .path_open = verbs_path_open,
    .path_pump = verbs_path_pump,
    .path_close = verbs_path_close,
    .progress = verbs_progress,
    .expose = verbs_expose,
    .conceal = verbs_conceal,
    .path_get = verbs_path_get,
    .forget_memory = verbs_registrations_forget,
    .inject = verbs_path_inject,
};
