/*
 * The ucx transport's receiving half: frames that arrive whole, frames that come by rendezvous,
 * frames that wait.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "transport-ucx.h"

/* --- Frames that wait ------------------------------------------------------------------------ */

/*
 * Keeps a frame for later. What has arrived whole is copied, so that UCX keeps its receive buffers;
 * its sender's retention bounds how much that can be. Of a rendezvous only UCX's descriptor is
 * kept. Returns false if memory is exhausted: the path has failed then.
 */
static bool hold(struct ucx_path *vp, const struct ninja_frame_header *header, void *data,
                 bool rendezvous)
{
    size_t size = rendezvous ? 0 : header->length;
    struct ucx_held *held = malloc(sizeof(*held) + size);

    if (held == NULL) {
        ucx_path_fail(vp, -ENOMEM, "no memory for frames that wait");
        return false;
    }
    held->next = NULL;
    held->header = *header;
    held->descriptor = rendezvous ? data : NULL;
    if (size > 0)
        memcpy(held->payload, data, size);
    if (vp->held_head == NULL) {
        vp->held_head = held;
        vp->transport->holding++;
    } else {
        vp->held_tail->next = held;
    }
    vp->held_tail = held;
    return true;
}

static struct ucx_held *take_held(struct ucx_path *vp)
{
    struct ucx_held *held = vp->held_head;

    vp->held_head = held->next;
    if (vp->held_head == NULL)
        vp->transport->holding--;
    return held;
}

void ucx_receive_drop(struct ucx_path *vp)
{
    while (vp->held_head != NULL) {
        struct ucx_held *held = take_held(vp);

        /* The sender takes this for a success; only the link's acknowledgement counts. */
        if (held->descriptor != NULL && vp->worker != NULL)
            ucp_am_data_release(vp->worker->ucp, held->descriptor);
        free(held);
    }
}

/* --- Rendezvous ------------------------------------------------------------------------------ */

void ucx_receive_done(struct ucx_operation *operation, ucs_status_t status)
{
    struct ucx_path *vp = operation->owner;
    struct ninja_frame_header header = operation->frame_header.frame;
    void *buffer = operation->buffer;

    ucx_operation_free(operation);
    if (buffer == NULL)
        vp->placing = false;
    if (vp->state == UCX_PATH_CLOSING) {
        ucx_path_task(vp, UCX_TASK_CLOSE);
    } else if (status != UCS_OK) {
        ucx_path_fail(vp, ucx_error(status), ucs_status_string(status));
    } else if (buffer != NULL) {
        ninja_path_received(vp->path, &header, buffer);
    } else {
        ninja_path_placed(vp->path, &header);
    }
    vp->transport->handled++;
    free(buffer);
}

static void on_received(void *request, ucs_status_t status, size_t length, void *context)
{
    ucp_request_free(request);
    ucx_receive_done(context, status);
}

/*
 * Begins to receive the payload that `descriptor` stands for, into `place`, or into memory of ours
 * if it is NULL. Returns false if there is no memory: the path has failed, the descriptor is
 * untouched.
 */
static bool begin(struct ucx_path *vp, const struct ninja_frame_header *header, void *descriptor,
                  void *place)
{
    struct ucx_operation *operation = ucx_operation_new(vp, UCX_RECEIVE);
    void *buffer = place == NULL ? malloc(header->length) : NULL;
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                        UCP_OP_ATTR_FIELD_MEMORY_TYPE,
        .cb.recv_am = on_received,
        .user_data = operation,
        .memory_type = UCS_MEMORY_TYPE_HOST,
    };
    ucs_status_ptr_t request;

    if (operation == NULL || (place == NULL && buffer == NULL)) {
        if (operation != NULL)
            ucx_operation_free(operation);
        free(buffer);
        ucx_path_fail(vp, -ENOMEM, "no memory for a frame that arrives");
        return false;
    }
    operation->frame_header.frame = *header;
    operation->buffer = buffer;
    vp->placing = vp->placing || buffer == NULL;
    request = ucp_am_recv_data_nbx(vp->worker->ucp, descriptor, buffer != NULL ? buffer : place,
                                   header->length, &param);
    if (!UCS_PTR_IS_PTR(request))
        ucx_receive_done(operation, UCS_PTR_STATUS(request));
    return true;
}

/* --- Landing --------------------------------------------------------------------------------- */

/* What became of a frame's payload. */
enum outcome {
    TAKEN,  /* done with, or under way */
    THROWN, /* not wanted */
    WAITS   /* there is no place for it yet */
};

/* Puts a frame where it belongs: `data` is its payload, or of a rendezvous UCX's descriptor. */
static enum outcome land(struct ucx_path *vp, const struct ninja_frame_header *header, void *data,
                         bool rendezvous)
{
    void *place = NULL;

    switch (ninja_path_landing(vp->path, header, &place)) {
    case NINJA_LANDING_COPY:
        if (rendezvous)
            return begin(vp, header, data, NULL) ? TAKEN : THROWN;
        ninja_path_received(vp->path, header, data);
        return TAKEN;
    case NINJA_LANDING_PLACE:
        if (rendezvous)
            return begin(vp, header, data, place) ? TAKEN : THROWN;
        memcpy(place, data, header->length);
        ninja_path_placed(vp->path, header);
        return TAKEN;
    case NINJA_LANDING_DISCARD:
        return THROWN;
    default:
        return WAITS;
    }
}

/*
 * Must this frame wait whatever the core says? Numbered frames keep behind those that wait; and the
 * core knows only one landing per path, which a second one that is placed would overwrite.
 */
static bool must_wait(const struct ucx_path *vp, const struct ninja_frame_header *header)
{
    return vp->placing && header->type == NINJA_FRAME_GET_DATA;
}

void ucx_receive_held(struct ucx_path *vp)
{
    while (vp->held_head != NULL && vp->state == UCX_PATH_LIVE && !vp->failed) {
        struct ucx_held *held = vp->held_head;
        bool rendezvous = held->descriptor != NULL;
        enum outcome outcome;

        if (must_wait(vp, &held->header))
            return;
        outcome =
            land(vp, &held->header, rendezvous ? held->descriptor : held->payload, rendezvous);
        if (outcome == WAITS)
            return;
        if (outcome == THROWN && rendezvous)
            ucp_am_data_release(vp->worker->ucp, held->descriptor);
        free(take_held(vp));
        vp->transport->handled++;
    }
}

/* --- What UCX calls -------------------------------------------------------------------------- */

static ucs_status_t on_frame(void *context, const void *header, size_t header_size, void *data,
                             size_t size, const ucp_am_recv_param_t *param)
{
    struct ucx_worker *worker = context;
    bool rendezvous = (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0;
    struct ucx_frame_header copy;
    struct ucx_path *vp;
    bool waits;

    if (header_size != sizeof(copy))
        return UCS_OK;
    memcpy(&copy, header, sizeof(copy));
    vp = ucx_path_find(worker->transport, copy.to);
    if (vp == NULL || vp->worker != worker)
        return UCS_OK; /* the path is closed or closing: whatever counts will be sent again */
    if (ninja_frame_header_check(&copy.frame) != 0 || copy.frame.length != size) {
        ucx_path_fail(vp, -EPROTO, "a frame that is not understood");
        return UCS_OK;
    }
    worker->transport->handled++;
    waits =
        must_wait(vp, &copy.frame) || (vp->held_head != NULL && copy.frame.type < NINJA_FRAME_ACK);
    if (!waits)
        waits = land(vp, &copy.frame, data, rendezvous) == WAITS;
    if (!waits || !hold(vp, &copy.frame, data, rendezvous))
        return UCS_OK;
    return rendezvous ? UCS_INPROGRESS : UCS_OK;
}

/* The path of `transport` that waits for this HELLO, or NULL. */
static struct ucx_path *find_waiting(struct ucx_transport *transport, const struct ucx_hello *hello)
{
    for (struct ucx_path *vp = transport->paths; vp != NULL; vp = vp->next)
        if (vp->state == UCX_PATH_WAITING && vp->peer_address == NULL &&
            vp->path->link->peer == hello->sender && vp->path->generation == hello->generation &&
            vp->path->nonce == hello->nonce)
            return vp;
    return NULL;
}

static ucs_status_t on_hello(void *context, const void *header, size_t header_size, void *data,
                             size_t size, const ucp_am_recv_param_t *param)
{
    struct ucx_worker *worker = context;
    struct ucx_hello hello;
    struct ucx_path *vp;

    if (header_size != sizeof(hello) || size == 0 || size > NINJA_TRANSPORT_ADDRESS_MAX ||
        (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0)
        return UCS_OK;
    memcpy(&hello, header, sizeof(hello));
    vp = find_waiting(worker->transport, &hello);
    if (vp == NULL) {
        ninja_log(worker->transport->base.core, 2,
                  "%s: a peer, %" PRIx64 ", connects for a path that is not open here; ignored",
                  worker->transport->device_name, hello.sender);
        return UCS_OK;
    }
    vp->peer_address = malloc(size);
    if (vp->peer_address == NULL) {
        ucx_path_fail(vp, -ENOMEM, "no memory for the peer's address");
        return UCS_OK;
    }
    memcpy(vp->peer_address, data, size);
    vp->peer = hello.from;
    vp->worker = worker;
    worker->paths++;
    worker->transport->handled++;
    ucx_path_task(vp, UCX_TASK_CONNECT);
    return UCS_OK;
}

static ucs_status_t on_welcome(void *context, const void *header, size_t header_size, void *data,
                               size_t size, const ucp_am_recv_param_t *param)
{
    struct ucx_worker *worker = context;
    struct ucx_hello hello;
    struct ucx_path *vp;

    if (header_size != sizeof(hello))
        return UCS_OK;
    memcpy(&hello, header, sizeof(hello));
    vp = ucx_path_find(worker->transport, hello.to);
    if (vp == NULL || vp->state != UCX_PATH_CONNECTING || vp->path->link->peer != hello.sender ||
        vp->path->nonce != hello.nonce)
        return UCS_OK;
    vp->peer = hello.from;
    vp->state = UCX_PATH_LIVE;
    worker->transport->handled++;
    ucx_path_task(vp, UCX_TASK_PUMP);
    return UCS_OK;
}

int ucx_receive_register(struct ucx_worker *worker)
{
    static const ucp_am_recv_callback_t callbacks[] = {
        [UCX_MESSAGE_FRAME] = on_frame,
        [UCX_MESSAGE_HELLO] = on_hello,
        [UCX_MESSAGE_WELCOME] = on_welcome,
    };

    for (unsigned id = 0; id < sizeof(callbacks) / sizeof(callbacks[0]); id++) {
        ucp_am_handler_param_t param = {
            .field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                          UCP_AM_HANDLER_PARAM_FIELD_ARG,
            .id = id,
            .cb = callbacks[id],
            .arg = worker,
        };
        ucs_status_t status = ucp_worker_set_am_recv_handler(worker->ucp, &param);

        if (status != UCS_OK)
            return ucx_error(status);
    }
    return 0;
}
