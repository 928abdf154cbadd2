/*
 * The verbs transport's paths: how they are prepared, opened, fail and close.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "transport-verbs.h"

/* --- The table of paths ---------------------------------------------------------------------- */

static struct verbs_path **bucket_of(const struct verbs_transport *transport, uint32_t queue_pair)
{
    return (struct verbs_path **)(uintptr_t)&transport->buckets[queue_pair % VERBS_BUCKETS];
}

struct verbs_path *verbs_path_find(const struct verbs_transport *transport, uint32_t queue_pair)
{
    struct verbs_path *vp = *bucket_of(transport, queue_pair);

    while (vp != NULL && vp->number != queue_pair)
        vp = vp->next_in_bucket;
    return vp;
}

static void add_path(struct verbs_path *vp)
{
    struct verbs_transport *transport = vp->transport;
    struct verbs_path **bucket = bucket_of(transport, vp->number);

    vp->next_in_bucket = *bucket;
    *bucket = vp;
    vp->next = transport->paths;
    if (vp->next != NULL)
        vp->next->previous = vp;
    transport->paths = vp;
}

static void remove_path(struct verbs_path *vp)
{
    struct verbs_transport *transport = vp->transport;
    struct verbs_path **at = bucket_of(transport, vp->number);

    while (*at != vp)
        at = &(*at)->next_in_bucket;
    *at = vp->next_in_bucket;
    if (vp->next != NULL)
        vp->next->previous = vp->previous;
    if (vp->previous != NULL)
        vp->previous->next = vp->next;
    else
        transport->paths = vp->next;
}

/* --- Opening --------------------------------------------------------------------------------- */

int verbs_path_prepare(struct ninja_path *path, void *address, size_t *size)
{
    struct verbs_transport *transport = (struct verbs_transport *)path->transport;
    struct verbs_path *vp;
    int rc;

    if (transport->down)
        return -ENETDOWN;
    rc = verbs_port_renew(transport);
    if (rc != 0)
        return rc;
    vp = calloc(1, sizeof(*vp));
    if (vp == NULL)
        return -ENOMEM;
    vp->transport = transport;
    vp->path = path;
    vp->state = VERBS_PATH_PREPARED;
    rc = verbs_queue_create(vp);
    if (rc != 0) {
        free(vp);
        return rc;
    }
    add_path(vp);
    path->transport_data = vp;
    verbs_queue_address(vp, address);
    *size = sizeof(struct verbs_address);
    return 0;
}

void verbs_path_forget(struct ninja_path *path)
{
    struct verbs_path *vp = path->transport_data;

    path->transport_data = NULL;
    if (vp == NULL)
        return;
    if (verbs_device_may_be_going(vp->transport)) {
        vp->state = VERBS_PATH_CLOSING;
        vp->path = NULL;
        vp->forgotten_of = path->fabric;
        path->fabric->open_paths++; /* the device is not free before this one has ended */
        vp->stopped = true;         /* it has never run */
        verbs_reaper_take(vp);
        return;
    }
    remove_path(vp);
    verbs_queue_destroy(vp);
    free(vp);
}

int verbs_path_open(struct ninja_path *path, const void *address, size_t size, bool initiator)
{
    struct verbs_path *vp = path->transport_data;
    struct verbs_address peer;
    int rc;

    if (size != sizeof(peer))
        return -EPROTO;
    memcpy(&peer, address, sizeof(peer));
    if (peer.magic != VERBS_ADDRESS_MAGIC ||
        peer.ethernet != (vp->transport->port.link_layer == IBV_LINK_LAYER_ETHERNET))
        return -EPROTO;
    vp->peer_instance = peer.instance;
    rc = verbs_queue_connect(vp, &peer);
    if (rc == 0)
        vp->state = VERBS_PATH_LIVE;
    return rc;
}

/* --- What is put off until progress() -------------------------------------------------------- */

static void add_task(struct verbs_path *vp, enum verbs_task task)
{
    struct verbs_transport *transport = vp->transport;
    uint64_t one = 1;

    if (vp->tasks == 0) {
        vp->next_task = transport->tasks;
        transport->tasks = vp;
    }
    vp->tasks |= task;
    if (transport->kicked)
        return;
    transport->kicked = true;
    (void)!write(transport->kick_fd, &one, sizeof(one));
}

/* The queue pair of `vp` is destroyed: what it held goes back, and the core hears it. */
static void finish_closing(struct verbs_path *vp)
{
    struct ninja_path *path = vp->path;
    struct ninja_fabric *forgotten_of = vp->forgotten_of;

    verbs_sends_drop(vp);
    verbs_receive_drop(vp);
    /* Whoever waits for the buffers of this path has another pass. */
    vp->transport->handled += vp->transport->starved;
    free(vp);
    if (forgotten_of != NULL) {
        forgotten_of->open_paths--;
        ninja_core_wake_control(forgotten_of->core);
        return;
    }
    path->transport_data = NULL;
    ninja_path_closed(path);
}

/*
 * Takes what the reaper has done. The completions are handled between stopping and destroying,
 * because some devices drop those of a queue pair that is destroyed, and with them our receive
 * buffers; and once more after it, because others leave them in the queue.
 */
static void take_reaped(struct verbs_transport *transport)
{
    struct verbs_path *vp = atomic_exchange(&transport->reaper.done, NULL);

    if (vp != NULL)
        verbs_poll(transport, transport->requests_max + transport->receive_count);
    while (vp != NULL) {
        struct verbs_path *next = vp->next_task;

        if (vp->queue_pair != NULL) {
            verbs_reaper_take(vp);
        } else {
            remove_path(vp);
            finish_closing(vp);
        }
        vp = next;
    }
}

void verbs_tasks_run(struct verbs_transport *transport)
{
    struct verbs_path *vp;

    if (atomic_load_explicit(&transport->reaper.done, memory_order_relaxed) != NULL)
        take_reaped(transport);
    while ((vp = transport->tasks) != NULL) {
        transport->tasks = vp->next_task;
        vp->tasks = 0;
        if (vp->state == VERBS_PATH_CLOSING)
            verbs_reaper_take(vp);
        else if (vp->failed)
            ninja_path_failed(vp->path, vp->error, vp->why);
    }
}

void verbs_path_fail(struct verbs_path *vp, int error, const char *why)
{
    if (vp->failed || vp->state != VERBS_PATH_LIVE)
        return;
    vp->failed = true;
    vp->error = error;
    snprintf(vp->why, sizeof(vp->why), "%s", why);
    add_task(vp, VERBS_TASK_FAIL);
}

void verbs_path_inject(struct ninja_path *path, enum ninja_fault_kind kind)
{
    struct verbs_path *vp = path->transport_data;
    struct verbs_transport *transport = vp->transport;
    uint64_t one = 1;

    switch (kind) {
    case NINJA_FAULT_POST:
        vp->refuse_post = true;
        break;
    case NINJA_FAULT_COMPLETION:
        vp->spoil_completion = true;
        break;
    default:
        transport->injected_event =
            kind == NINJA_FAULT_QUEUE ? IBV_EVENT_CQ_ERR : IBV_EVENT_DEVICE_FATAL;
        transport->inject_event = true;
        (void)!write(transport->kick_fd, &one, sizeof(one));
    }
}

void verbs_path_pump(struct ninja_path *path)
{
    struct verbs_path *vp = path->transport_data;

    if (vp != NULL)
        verbs_pump(vp);
}

void verbs_path_close(struct ninja_path *path)
{
    struct verbs_path *vp = path->transport_data;

    if (vp == NULL) {
        ninja_path_closed(path);
        return;
    }
    if (vp->state == VERBS_PATH_CLOSING)
        return;
    vp->state = VERBS_PATH_CLOSING;
    add_task(vp, VERBS_TASK_CLOSE);
}
