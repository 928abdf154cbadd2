/*
 * The verbs transport's sending half: frames cut into parts or offered, and the requests in a send
 * queue.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "transport-verbs.h"

/* Send buffers that only answers may take: what the peer waits for must not wait for us. */
#define BUFFERS_FOR_ANSWERS 16U

/* --- Operations ------------------------------------------------------------------------------ */

struct verbs_operation *verbs_operation_new(struct verbs_path *vp, int kind)
{
    struct verbs_transport *transport = vp->transport;
    struct verbs_operation *operation = transport->free_operations;

    if (operation != NULL)
        transport->free_operations = operation->next;
    else
        operation = malloc(sizeof(*operation));
    if (operation == NULL)
        return NULL;
    operation->owner = vp;
    operation->kind = kind;
    operation->buffer = -1;
    operation->registration = NULL;
    operation->ours = NULL;
    operation->reads = 0;
    operation->previous = NULL;
    operation->next = vp->operations;
    if (vp->operations != NULL)
        vp->operations->previous = operation;
    vp->operations = operation;
    return operation;
}

static void give_buffer_back(struct verbs_operation *operation)
{
    struct verbs_transport *transport = operation->owner->transport;

    if (operation->buffer >= 0)
        transport->free_sends[transport->free_send_count++] = operation->buffer;
    operation->buffer = -1;
}

void verbs_operation_free(struct verbs_operation *operation)
{
    struct verbs_transport *transport = operation->owner->transport;

    give_buffer_back(operation);
    if (operation->registration != NULL)
        verbs_unregister(transport, operation->registration);
    free(operation->ours);
    if (operation->previous != NULL)
        operation->previous->next = operation->next;
    else
        operation->owner->operations = operation->next;
    if (operation->next != NULL)
        operation->next->previous = operation->previous;
    operation->next = transport->free_operations;
    transport->free_operations = operation;
}

static void count_requests(struct verbs_path *vp, int more)
{
    vp->requests += (unsigned)more;
    vp->transport->requests += (unsigned)more;
}

bool verbs_has_room(struct verbs_path *vp, unsigned count)
{
    if (vp->requests + count > VERBS_QUEUE_DEPTH)
        return false; /* a completion of its own will pump this path */
    if (vp->transport->requests + count <= vp->transport->requests_max)
        return true;
    vp->transport->starved = true;
    return false;
}

static bool has_buffer(struct verbs_path *vp, unsigned kept)
{
    if (vp->transport->free_send_count > kept)
        return true;
    vp->transport->starved = true;
    return false;
}

static void take_buffer(struct verbs_operation *operation)
{
    struct verbs_transport *transport = operation->owner->transport;

    operation->buffer = transport->free_sends[--transport->free_send_count];
}

void verbs_request_post(struct verbs_operation *operation, struct ibv_send_wr *request)
{
    struct verbs_path *vp = operation->owner;
    struct ibv_send_wr *refused = request;
    int rc = EIO;

    for (struct ibv_send_wr *each = request; each != NULL; each = each->next)
        each->wr_id = (uintptr_t)operation;
    if (!vp->refuse_post)
        rc = ibv_post_send(vp->queue_pair, request, &refused);
    vp->refuse_post = false;
    if (rc == 0)
        refused = NULL;
    for (; request != refused; request = request->next)
        count_requests(vp, 1);
    if (rc != 0)
        verbs_path_fail(vp, -rc, "a request was not taken by the device");
}

/* Posts the first `size` bytes of the operation's buffer. */
static void post_buffer(struct verbs_operation *operation, size_t size)
{
    struct verbs_transport *transport = operation->owner->transport;
    struct ibv_sge piece = {
        .addr = (uintptr_t)verbs_send_buffer(transport, (unsigned)operation->buffer),
        .length = (uint32_t)size,
        .lkey = transport->region->lkey,
    };
    struct ibv_send_wr request = {.sg_list = &piece, .num_sge = 1, .opcode = IBV_WR_SEND};

    verbs_request_post(operation, &request);
}

/* --- Frames in parts ------------------------------------------------------------------------- */

/* Copies `size` bytes of the payload of `frame`, from `offset` on; returns where they end. */
static unsigned char *copy_payload(unsigned char *to, const struct ninja_frame *frame,
                                   size_t offset, size_t size)
{
    if (offset < frame->inline_length) {
        size_t count = frame->inline_length - offset;

        count = count < size ? count : size;
        memcpy(to, frame->data + offset, count);
        to += count;
        offset += count;
        size -= count;
    }
    if (size > 0)
        memcpy(to, (const unsigned char *)frame->place + (offset - frame->inline_length), size);
    return to + size;
}

/* The whole of a small frame, out of its own memory: the device takes it with the request. */
static void post_inline(struct verbs_operation *operation, const struct ninja_frame *frame)
{
    const struct verbs_header head = {.kind = VERBS_FRAME};
    struct ibv_sge pieces[3] = {
        {.addr = (uintptr_t)&head, .length = sizeof(head)},
        {.addr = (uintptr_t)&frame->header,
         .length = (uint32_t)sizeof(frame->header) + frame->inline_length},
        {.addr = (uintptr_t)frame->place, .length = frame->place_length},
    };
    struct ibv_send_wr request = {
        .sg_list = pieces,
        .num_sge = frame->place_length > 0 ? 3 : 2,
        .opcode = IBV_WR_SEND,
        .send_flags = IBV_SEND_INLINE,
    };

    verbs_request_post(operation, &request);
}

/* Writes the frame's header and the first `size` bytes of its payload; returns where they end. */
static unsigned char *put_frame(unsigned char *to, const struct ninja_frame *frame, uint32_t size)
{
    memcpy(to, &frame->header, sizeof(frame->header));
    return copy_payload(to + sizeof(frame->header), frame, 0, size);
}

static unsigned char *put_head(unsigned char *to, enum verbs_kind kind)
{
    const struct verbs_header head = {.kind = (uint8_t)kind};

    memcpy(to, &head, sizeof(head));
    return to + sizeof(head);
}

static void post_part(struct verbs_operation *operation, const struct ninja_frame *frame)
{
    struct verbs_path *vp = operation->owner;
    bool first = vp->sent == 0;
    uint32_t left = ninja_frame_length(frame) - vp->sent;
    uint32_t room = VERBS_BUFFER_SIZE - (uint32_t)sizeof(struct verbs_header);
    unsigned char *buffer, *end;

    take_buffer(operation);
    buffer = verbs_send_buffer(vp->transport, (unsigned)operation->buffer);
    end = put_head(buffer, first ? VERBS_FRAME : VERBS_PART);
    room -= first ? (uint32_t)sizeof(frame->header) : 0;
    left = left < room ? left : room;
    end = first ? put_frame(end, frame, left) : copy_payload(end, frame, vp->sent, left);
    vp->sent += left;
    post_buffer(operation, (size_t)(end - buffer));
}

/* Has a message that is `size` bytes long room for all of `frame`? */
static bool fits(size_t size, const struct ninja_frame *frame)
{
    return size + sizeof(frame->header) + ninja_frame_length(frame) <= VERBS_BUFFER_SIZE;
}

/* The frame whose turn it is after vp->sending, or NULL. */
static struct ninja_frame *look_ahead(struct verbs_path *vp)
{
    if (vp->following == NULL)
        vp->following = ninja_path_next(vp->path);
    return vp->following;
}

/* Do vp->sending and the frame behind it go into one message? */
static bool is_one_of_several(struct verbs_path *vp)
{
    const struct ninja_frame *frame = vp->sending;
    size_t size = sizeof(struct verbs_header);

    if (vp->sent > 0 || !fits(size, frame))
        return false;
    size += sizeof(frame->header) + ninja_frame_length(frame);
    return look_ahead(vp) != NULL && fits(size, vp->following);
}

/* Sends vp->sending and all that wait behind it and fit: a message costs more than the copies. */
static void post_several(struct verbs_operation *operation)
{
    struct verbs_path *vp = operation->owner;
    unsigned char *buffer, *end;

    take_buffer(operation);
    buffer = verbs_send_buffer(vp->transport, (unsigned)operation->buffer);
    end = put_head(buffer, VERBS_FRAME);
    for (;;) {
        struct ninja_frame *frame = vp->sending;

        end = put_frame(end, frame, ninja_frame_length(frame));
        vp->sending = NULL;
        ninja_path_sent(vp->path, frame);
        if (look_ahead(vp) == NULL || !fits((size_t)(end - buffer), vp->following))
            break;
        vp->sending = vp->following;
        vp->following = NULL;
    }
    post_buffer(operation, (size_t)(end - buffer));
}

/* Sends the next part of vp->sending, or all of it; what is sent as a whole goes back. Returns
 * false if the path has failed. */
static bool send_some(struct verbs_path *vp)
{
    struct ninja_frame *frame = vp->sending;
    uint32_t length = ninja_frame_length(frame);
    struct verbs_operation *operation = verbs_operation_new(vp, VERBS_SEND);

    if (operation == NULL) {
        verbs_path_fail(vp, -ENOMEM, "no memory to send");
        return false;
    }
    vp->sends++;
    if (is_one_of_several(vp)) {
        post_several(operation);
        return !vp->failed;
    }
    if (sizeof(struct verbs_header) + sizeof(frame->header) + length <= vp->inline_size) {
        post_inline(operation, frame);
        vp->sent = length;
    } else {
        post_part(operation, frame);
    }
    if (vp->sent == length) {
        vp->sending = NULL;
        ninja_path_sent(vp->path, frame);
    }
    return !vp->failed;
}

/* --- Offers ---------------------------------------------------------------------------------- */

/* A free entry of the table of tickets, or NULL. */
static struct verbs_ticket *new_ticket(struct verbs_transport *transport)
{
    struct verbs_ticket *ticket;

    if (transport->free_ticket == 0) {
        unsigned count = transport->ticket_count + 64;
        struct verbs_ticket *tickets;

        if (count > UINT16_MAX)
            return NULL;
        tickets = realloc(transport->tickets, count * sizeof(*tickets));
        if (tickets == NULL)
            return NULL;
        memset(tickets + transport->ticket_count, 0, 64 * sizeof(*tickets));
        transport->tickets = tickets;
        for (unsigned i = transport->ticket_count; i < count; i++) {
            tickets[i].next_free = transport->free_ticket;
            transport->free_ticket = (uint16_t)(i + 1);
        }
        transport->ticket_count = count;
    }
    ticket = &transport->tickets[transport->free_ticket - 1];
    transport->free_ticket = ticket->next_free;
    ticket->use++;
    return ticket;
}

/* The offer is over: its frame goes back. */
static void end_ticket(struct verbs_transport *transport, struct verbs_ticket *ticket)
{
    struct verbs_path *vp = ticket->owner;
    struct ninja_frame *frame = ticket->frame;

    for (unsigned i = 0; i < VERBS_SEGMENTS_MAX; i++) {
        if (ticket->registration[i] != NULL)
            verbs_unregister(transport, ticket->registration[i]);
        ticket->registration[i] = NULL;
    }
    ticket->owner = NULL;
    ticket->frame = NULL;
    ticket->next_free = transport->free_ticket;
    transport->free_ticket = (uint16_t)(ticket - transport->tickets + 1);
    vp->offers--;
    if (frame != NULL)
        ninja_path_sent(vp->path, frame);
}

void verbs_ticket_done(struct verbs_path *vp, uint32_t name)
{
    struct verbs_transport *transport = vp->transport;
    unsigned index = name & 0xffff;

    if (index >= transport->ticket_count || transport->tickets[index].owner != vp ||
        transport->tickets[index].use != name >> 16) {
        verbs_path_fail(vp, -EPROTO, "an answer to no offer");
        return;
    }
    end_ticket(transport, &transport->tickets[index]);
    verbs_pump(vp);
}

/* Lets the peer read a piece of the payload; nothing if it is empty. */
static bool offer_segment(struct verbs_path *vp, struct verbs_ticket *ticket,
                          struct verbs_segment *segments, uint8_t *count, const void *at,
                          uint32_t length)
{
    struct verbs_registration *registration;

    if (length == 0)
        return true;
    registration = verbs_register(vp->transport, at, length, VERBS_TO_BE_READ);
    if (registration == NULL)
        return false;
    ticket->registration[*count] = registration;
    segments[*count].address = (uintptr_t)at;
    segments[*count].length = length;
    segments[*count].key = registration->region->rkey;
    ++*count;
    return true;
}

/* Offers `frame`. Returns false if that is not possible: it can still be sent in parts. */
static bool send_offer(struct verbs_path *vp, struct ninja_frame *frame)
{
    struct verbs_transport *transport = vp->transport;
    struct verbs_operation *operation = verbs_operation_new(vp, VERBS_SEND);
    struct verbs_ticket *ticket = operation != NULL ? new_ticket(transport) : NULL;
    struct verbs_segment segments[VERBS_SEGMENTS_MAX];
    struct verbs_header head = {.kind = VERBS_OFFER};
    unsigned char *buffer;

    if (ticket == NULL) {
        if (operation != NULL)
            verbs_operation_free(operation);
        return false;
    }
    ticket->owner = vp;
    vp->offers++;
    if (!offer_segment(vp, ticket, segments, &head.segments, frame->data, frame->inline_length) ||
        !offer_segment(vp, ticket, segments, &head.segments, frame->place, frame->place_length)) {
        end_ticket(transport, ticket);
        verbs_operation_free(operation);
        return false;
    }
    ticket->frame = frame;
    head.ticket = (uint32_t)(ticket - transport->tickets) | (uint32_t)ticket->use << 16;
    take_buffer(operation);
    buffer = verbs_send_buffer(transport, (unsigned)operation->buffer);
    memcpy(buffer, &head, sizeof(head));
    memcpy(buffer + sizeof(head), &frame->header, sizeof(frame->header));
    memcpy(buffer + sizeof(head) + sizeof(frame->header), segments,
           head.segments * sizeof(segments[0]));
    vp->sends++;
    post_buffer(operation,
                sizeof(head) + sizeof(frame->header) + head.segments * sizeof(segments[0]));
    return true;
}

/* --- Reading what the peer offers ------------------------------------------------------------ */

static void post_reads(struct verbs_operation *operation)
{
    uint32_t offset = 0;

    for (unsigned i = 0; i < operation->segments && !operation->owner->failed; i++) {
        struct ibv_sge piece = {
            .addr = (uintptr_t)operation->to + offset,
            .length = operation->segment[i].length,
            .lkey = operation->registration->region->lkey,
        };
        struct ibv_send_wr request = {
            .sg_list = &piece,
            .num_sge = 1,
            .opcode = IBV_WR_RDMA_READ,
            .wr.rdma = {.remote_addr = operation->segment[i].address,
                        .rkey = operation->segment[i].key},
        };

        verbs_request_post(operation, &request);
        operation->reads += !operation->owner->failed;
        offset += operation->segment[i].length;
    }
}

static void post_answer(struct verbs_operation *operation)
{
    struct verbs_path *vp = operation->owner;
    struct verbs_header head = {.kind = VERBS_DONE, .ticket = operation->ticket};

    if (vp->inline_size >= sizeof(head)) {
        struct ibv_sge piece = {.addr = (uintptr_t)&head, .length = sizeof(head)};
        struct ibv_send_wr request = {
            .sg_list = &piece,
            .num_sge = 1,
            .opcode = IBV_WR_SEND,
            .send_flags = IBV_SEND_INLINE,
        };

        verbs_request_post(operation, &request);
        return;
    }
    take_buffer(operation);
    memcpy(verbs_send_buffer(vp->transport, (unsigned)operation->buffer), &head, sizeof(head));
    post_buffer(operation, sizeof(head));
}

/* Posts what waits for room. */
static void post_waiting(struct verbs_path *vp)
{
    struct verbs_operation *operation;

    while (vp->state == VERBS_PATH_LIVE && !vp->failed && (operation = vp->waiting_head) != NULL) {
        bool is_read = operation->kind == VERBS_READ;

        if (!verbs_has_room(vp, is_read ? operation->segments : 1) ||
            (!is_read && !has_buffer(vp, 0)))
            return;
        vp->waiting_head = operation->next_waiting;
        if (is_read)
            post_reads(operation);
        else
            post_answer(operation);
    }
}

void verbs_operation_post(struct verbs_operation *operation)
{
    struct verbs_path *vp = operation->owner;

    operation->next_waiting = NULL;
    if (vp->waiting_head == NULL)
        vp->waiting_head = operation;
    else
        vp->waiting_tail->next_waiting = operation;
    vp->waiting_tail = operation;
    post_waiting(vp);
}

/* --- All together ---------------------------------------------------------------------------- */

static bool may_send(struct verbs_path *vp)
{
    return !vp->failed && vp->state == VERBS_PATH_LIVE && vp->sends < VERBS_PATH_SENDS &&
           verbs_has_room(vp, 1) && has_buffer(vp, BUFFERS_FOR_ANSWERS);
}

/* Has vp->sending be a frame that may be sent now; returns false if there is none. */
static bool take_frame(struct verbs_path *vp)
{
    bool begins = vp->sending == NULL || vp->sent == 0;

    /* Nothing begins while the peer has so much to read. */
    if (begins && vp->offers == VERBS_PATH_OFFERS)
        return false;
    if (vp->sending == NULL) {
        vp->sending = look_ahead(vp);
        vp->following = NULL;
        vp->sent = 0;
    }
    return vp->sending != NULL;
}

void verbs_pump(struct verbs_path *vp)
{
    if (vp->pumping || vp->state != VERBS_PATH_LIVE)
        return;
    vp->pumping = true;
    post_waiting(vp);
    verbs_gets_post(vp);
    while (may_send(vp) && take_frame(vp)) {
        if (vp->sent == 0 && ninja_frame_length(vp->sending) > VERBS_OFFER_ABOVE &&
            send_offer(vp, vp->sending))
            vp->sending = NULL;
        else if (!send_some(vp))
            break;
    }
    vp->pumping = false;
}

void verbs_operation_done(struct verbs_operation *operation, enum ibv_wc_status status)
{
    struct verbs_path *vp = operation->owner;

    count_requests(vp, -1);
    status = verbs_status(vp, status);
    if (status != IBV_WC_SUCCESS)
        verbs_path_fail(vp, -EIO, ibv_wc_status_str(status));
    if (operation->kind == VERBS_GET) {
        verbs_get_done(operation);
    } else if (operation->kind == VERBS_READ) {
        operation->reads--;
        if (operation->reads == 0 && !vp->failed && vp->state == VERBS_PATH_LIVE)
            verbs_receive_read(operation);
    } else {
        vp->sends -= operation->kind == VERBS_SEND;
        verbs_operation_free(operation);
    }
    verbs_pump(vp);
}

void verbs_sends_drop(struct verbs_path *vp)
{
    struct verbs_transport *transport = vp->transport;

    count_requests(vp, -(int)vp->requests);
    vp->gets_head = NULL;
    while (vp->operations != NULL) {
        if (vp->operations->kind == VERBS_GET)
            verbs_get_end(vp->operations);
        else
            verbs_operation_free(vp->operations);
    }
    for (unsigned i = 0; vp->offers > 0 && i < transport->ticket_count; i++)
        if (transport->tickets[i].owner == vp)
            end_ticket(transport, &transport->tickets[i]);
    if (vp->sending != NULL)
        ninja_path_sent(vp->path, vp->sending);
    if (vp->following != NULL)
        ninja_path_sent(vp->path, vp->following);
    vp->sending = vp->following = NULL;
}
