/*
 * The ucx transport's paths: how they connect, send, fail and close.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core.h"
#include "transport-ucx.h"

/* So much may be in flight on a path: enough to fill a fabric, little enough to drain at once. */
#define SENDS_MAX      32
#define SEND_BYTES_MAX (4U * 1024U * 1024U)

/* --- Operations ------------------------------------------------------------------------------ */

struct ucx_operation *ucx_operation_new(struct ucx_path *vp, int kind)
{
    struct ucx_transport *transport = vp->transport;
    struct ucx_operation *operation = transport->free_operations;

    if (operation != NULL)
        transport->free_operations = operation->next;
    else
        operation = malloc(sizeof(*operation));
    if (operation == NULL)
        return NULL;
    operation->owner = vp;
    operation->kind = kind;
    operation->frame = NULL;
    operation->bytes = 0;
    operation->buffer = NULL;
    operation->previous = NULL;
    operation->next = vp->operations;
    if (vp->operations != NULL)
        vp->operations->previous = operation;
    vp->operations = operation;
    return operation;
}

void ucx_operation_free(struct ucx_operation *operation)
{
    struct ucx_transport *transport = operation->owner->transport;

    if (operation->previous != NULL)
        operation->previous->next = operation->next;
    else
        operation->owner->operations = operation->next;
    if (operation->next != NULL)
        operation->next->previous = operation->previous;
    operation->next = transport->free_operations;
    transport->free_operations = operation;
}

/* --- Sending --------------------------------------------------------------------------------- */

/* A send is over: its frame goes back. */
void ucx_send_done(struct ucx_operation *operation, ucs_status_t status)
{
    struct ucx_path *vp = operation->owner;
    struct ninja_frame *frame = operation->frame;

    vp->sends--;
    vp->send_bytes -= operation->bytes;
    ucx_operation_free(operation);
    if (frame != NULL)
        ninja_path_sent(vp->path, frame);
    if (vp->state == UCX_PATH_CLOSING)
        ucx_path_task(vp, UCX_TASK_CLOSE);
    else if (status != UCS_OK)
        ucx_path_fail(vp, ucx_error(status), ucs_status_string(status));
    else if (!vp->pumping)
        ucx_path_task(vp, UCX_TASK_PUMP);
}

static void on_sent(void *request, ucs_status_t status, void *context)
{
    struct ucx_operation *operation = context;

    ucp_request_free(request);
    operation->owner->transport->handled++;
    ucx_send_done(operation, status);
}

static void send_message(struct ucx_operation *operation, enum ucx_message message,
                         const void *header, size_t header_size, const void *payload, size_t count,
                         bool vector)
{
    struct ucx_path *vp = operation->owner;
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA |
                        UCP_OP_ATTR_FIELD_DATATYPE | UCP_OP_ATTR_FIELD_MEMORY_TYPE,
        .cb.send = on_sent,
        .user_data = operation,
        .datatype = vector ? ucp_dt_make_iov() : ucp_dt_make_contig(1),
        .memory_type = UCS_MEMORY_TYPE_HOST,
    };
    ucs_status_ptr_t request;

    vp->sends++;
    vp->send_bytes += operation->bytes;
    request = ucp_am_send_nbx(vp->endpoint, message, header, header_size, payload, count, &param);
    if (!UCS_PTR_IS_PTR(request))
        ucx_send_done(operation, UCS_PTR_STATUS(request));
}

/* Returns false if memory is exhausted: the frame has been given back and the path has failed. */
static bool send_frame(struct ucx_path *vp, struct ninja_frame *frame)
{
    struct ucx_operation *operation = ucx_operation_new(vp, UCX_SEND);
    const void *payload = frame->data;
    size_t count = frame->inline_length;
    bool vector = frame->inline_length > 0 && frame->place_length > 0;

    if (operation == NULL) {
        ninja_path_sent(vp->path, frame);
        ucx_path_fail(vp, -ENOMEM, "no memory to send");
        return false;
    }
    operation->frame = frame;
    operation->bytes = ninja_frame_length(frame);
    /* A copy: the link may change the frame's header, to replay it, while UCX still reads ours. */
    operation->frame_header.to = vp->peer;
    operation->frame_header.frame = frame->header;
    if (vector) {
        operation->iov[0].buffer = frame->data;
        operation->iov[0].length = frame->inline_length;
        operation->iov[1].buffer = (void *)(uintptr_t)frame->place;
        operation->iov[1].length = frame->place_length;
        payload = operation->iov;
        count = 2;
    } else if (frame->place_length > 0) {
        payload = frame->place;
        count = frame->place_length;
    }
    send_message(operation, UCX_MESSAGE_FRAME, &operation->frame_header,
                 sizeof(operation->frame_header), payload, count, vector);
    return true;
}

static void pump(struct ucx_path *vp)
{
    struct ninja_frame *frame;

    if (vp->pumping)
        return;
    vp->pumping = true;
    while (vp->state == UCX_PATH_LIVE && !vp->failed && vp->sends < SENDS_MAX &&
           vp->send_bytes < SEND_BYTES_MAX && (frame = ninja_path_next(vp->path)) != NULL)
        if (!send_frame(vp, frame))
            break;
    vp->pumping = false;
}

void ucx_path_pump(struct ninja_path *path)
{
    if (path->transport_data != NULL)
        pump(path->transport_data);
}

/* Sends HELLO, with our address, or WELCOME. Returns 0 or -ENOMEM. */
static int send_hello(struct ucx_path *vp, enum ucx_message message)
{
    struct ucx_operation *operation = ucx_operation_new(vp, UCX_SEND);
    bool hello = message == UCX_MESSAGE_HELLO;

    if (operation == NULL)
        return -ENOMEM;
    operation->hello = (struct ucx_hello){
        .to = vp->peer,
        .from = vp->handle,
        .sender = vp->transport->base.core->id,
        .nonce = vp->path->nonce,
        .generation = vp->path->generation,
    };
    send_message(operation, message, &operation->hello, sizeof(operation->hello),
                 hello ? vp->worker->address : NULL, hello ? vp->worker->address_size : 0, false);
    return 0;
}

/* --- Paths ----------------------------------------------------------------------------------- */

struct ucx_path *ucx_path_find(struct ucx_transport *transport, struct ucx_handle handle)
{
    struct ucx_path *vp =
        handle.slot < transport->slot_count ? transport->slots[handle.slot] : NULL;

    return vp != NULL && vp->handle.use == handle.use && !vp->failed &&
                   (vp->state == UCX_PATH_LIVE || vp->state == UCX_PATH_CONNECTING)
               ? vp
               : NULL;
}

void ucx_kick(struct ucx_transport *transport)
{
    const uint64_t one = 1;

    if (transport->kicked)
        return;
    transport->kicked = true;
    (void)!write(transport->kick_fd, &one, sizeof(one));
}

void ucx_path_task(struct ucx_path *vp, enum ucx_task task)
{
    if (vp->tasks == 0) {
        vp->next_task = vp->transport->tasks;
        vp->transport->tasks = vp;
    }
    vp->tasks |= task;
    if (!vp->transport->busy)
        ucx_kick(vp->transport);
}

void ucx_path_fail(struct ucx_path *vp, int error, const char *why)
{
    if (vp->failed || vp->state == UCX_PATH_CLOSING)
        return;
    vp->failed = true;
    vp->error = error;
    snprintf(vp->why, sizeof(vp->why), "%s", why);
    ucx_path_task(vp, UCX_TASK_FAIL);
}

static void on_error(void *context, ucp_ep_h endpoint, ucs_status_t status)
{
    ucx_path_fail(context, ucx_error(status), ucs_status_string(status));
}

static int connect_endpoint(struct ucx_path *vp, const void *address)
{
    ucp_ep_params_t params = {
        .field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER,
        .address = address,
        .err_mode = UCP_ERR_HANDLING_MODE_PEER,
        .err_handler = {.cb = on_error, .arg = vp},
    };

    return ucx_error(ucp_ep_create(vp->worker->ucp, &params, &vp->endpoint));
}

/* Gives `vp` a slot and puts it into the list. */
static int add_path(struct ucx_transport *transport, struct ucx_path *vp)
{
    size_t slot = 0;

    while (slot < transport->slot_count && transport->slots[slot] != NULL)
        slot++;
    if (slot == transport->slot_count) {
        size_t count = slot == 0 ? 16 : slot * 2;
        struct ucx_path **slots = realloc(transport->slots, count * sizeof(struct ucx_path *));

        if (slots == NULL)
            return -ENOMEM;
        memset(slots + slot, 0, (count - slot) * sizeof(struct ucx_path *));
        transport->slots = slots;
        transport->slot_count = count;
    }
    vp->handle = (struct ucx_handle){.slot = (uint32_t)slot, .use = ++transport->next_use};
    transport->slots[slot] = vp;
    vp->next = transport->paths;
    if (vp->next != NULL)
        vp->next->previous = vp;
    transport->paths = vp;
    return 0;
}

/* Forgets and frees `vp`, which has no endpoint and no operations left. */
static void remove_path(struct ucx_path *vp)
{
    struct ucx_transport *transport = vp->transport;
    struct ucx_worker *worker = vp->worker;

    ucx_receive_drop(vp);
    if (vp->previous != NULL)
        vp->previous->next = vp->next;
    else
        transport->paths = vp->next;
    if (vp->next != NULL)
        vp->next->previous = vp->previous;
    transport->slots[vp->handle.slot] = NULL;
    free(vp->peer_address);
    free(vp);
    if (worker != NULL)
        ucx_worker_leave(worker);
}

int ucx_path_open(struct ninja_path *path, const void *address, size_t size, bool initiator)
{
    struct ucx_transport *transport = (struct ucx_transport *)path->transport;
    struct ucx_address head;
    struct ucx_path *vp;
    int rc;

    if (transport->broken)
        return -ENODEV;
    if (size < sizeof(head))
        return -EPROTO;
    memcpy(&head, address, sizeof(head));
    if (head.magic != UCX_ADDRESS_MAGIC || head.size != size - sizeof(head) || head.size == 0)
        return -EPROTO;
    vp = calloc(1, sizeof(*vp));
    if (vp == NULL)
        return -ENOMEM;
    vp->transport = transport;
    vp->path = path;
    rc = add_path(transport, vp);
    if (rc != 0) {
        free(vp);
        return rc;
    }
    path->transport_data = vp;
    vp->state = UCX_PATH_WAITING;
    if (!initiator)
        return 0;
    vp->state = UCX_PATH_CONNECTING;
    rc = ucx_worker_for(transport, path->link->peer, &vp->worker);
    if (rc != 0)
        goto remove;
    vp->worker->paths++;
    rc = connect_endpoint(vp, (const unsigned char *)address + sizeof(head));
    if (rc != 0)
        goto remove;
    /* A failure from here on is told like any other failure of the path. */
    rc = send_hello(vp, UCX_MESSAGE_HELLO);
    if (rc != 0)
        ucx_path_fail(vp, rc, "no memory to send");
    return 0;
remove:
    path->transport_data = NULL;
    remove_path(vp);
    return rc;
}

/* The initiator's HELLO has come: completes our side. */
static void answer_hello(struct ucx_path *vp)
{
    int rc = connect_endpoint(vp, vp->peer_address);

    free(vp->peer_address);
    vp->peer_address = NULL;
    vp->state = UCX_PATH_LIVE;
    if (rc == 0)
        rc = send_hello(vp, UCX_MESSAGE_WELCOME);
    if (rc != 0)
        ucx_path_fail(vp, rc, "no endpoint");
    else
        pump(vp);
}

/* --- Closing --------------------------------------------------------------------------------- */

static void on_endpoint_closed(void *request, ucs_status_t status, void *context)
{
    struct ucx_operation *operation = context;
    struct ucx_path *vp = operation->owner;

    ucp_request_free(request);
    ucx_operation_free(operation);
    ucx_path_task(vp, UCX_TASK_CLOSE);
}

/* Closes the endpoint by force: UCX then calls back for all that is in flight, from its progress.
 */
static void close_endpoint(struct ucx_path *vp)
{
    struct ucx_operation *operation = ucx_operation_new(vp, UCX_CLOSE);
    ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
        .flags = UCP_EP_CLOSE_FLAG_FORCE,
    };
    ucs_status_ptr_t request;

    if (operation != NULL) {
        param.op_attr_mask |= UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
        param.cb.send = on_endpoint_closed;
        param.user_data = operation;
    }
    request = ucp_ep_close_nbx(vp->endpoint, &param);
    vp->endpoint = NULL;
    if (operation != NULL && !UCS_PTR_IS_PTR(request))
        ucx_operation_free(operation);
    else if (operation == NULL && UCS_PTR_IS_PTR(request))
        ucp_request_free(request);
}

/* Closes what is open of `vp`; when nothing is in flight any more, the core hears that it is
 * closed. */
static void continue_closing(struct ucx_path *vp)
{
    struct ninja_path *path = vp->path;
    struct ucx_transport *transport = vp->transport;

    if (vp->endpoint != NULL)
        close_endpoint(vp);
    ucx_receive_drop(vp);
    /* UCX may have called back from the closing: then this task is there again. */
    if (vp->operations != NULL || vp->tasks != 0)
        return;
    transport->closing--;
    path->transport_data = NULL;
    remove_path(vp);
    ninja_path_closed(path);
}

/* Does what was put off while UCX was on the call stack. */
void ucx_tasks_run(struct ucx_transport *transport)
{
    struct ucx_path *vp;

    while ((vp = transport->tasks) != NULL) {
        unsigned tasks = vp->tasks;

        transport->tasks = vp->next_task;
        vp->tasks = 0;
        if (vp->state == UCX_PATH_CLOSING) {
            continue_closing(vp);
        } else if (vp->failed) {
            if (tasks & UCX_TASK_FAIL)
                ninja_path_failed(vp->path, vp->error, vp->why);
        } else {
            if (tasks & UCX_TASK_CONNECT)
                answer_hello(vp);
            pump(vp);
        }
    }
}

/* Runs the tasks unless somebody further up the call stack will. */
static void run_tasks_if_free(struct ucx_transport *transport)
{
    if (transport->busy)
        return;
    transport->busy = true;
    ucx_tasks_run(transport);
    transport->busy = false;
}

void ucx_path_close(struct ninja_path *path)
{
    struct ucx_path *vp = path->transport_data;
    struct ucx_transport *transport;

    if (vp == NULL) {
        ninja_path_closed(path);
        return;
    }
    if (vp->state == UCX_PATH_CLOSING)
        return;
    transport = vp->transport;
    vp->state = UCX_PATH_CLOSING;
    vp->close_deadline_ms = ninja_now_ms() + UCX_CLOSE_LIMIT_MS;
    transport->closing++;
    ucx_path_task(vp, UCX_TASK_CLOSE);
    run_tasks_if_free(transport);
    if (transport->closing > 0)
        ucx_kick(transport);
}
