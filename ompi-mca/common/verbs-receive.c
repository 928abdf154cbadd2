/*
 * The verbs transport's receiving half: frames whole, in parts, offered, and those that wait.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "transport-verbs.h"

/* What the sender of an offer says about it. */
struct offer {
    uint32_t ticket;
    unsigned segments;
    struct verbs_segment segment[VERBS_SEGMENTS_MAX];
};

/* --- Frames that wait ------------------------------------------------------------------------ */

/* Memory for a frame with `size` bytes of payload; NULL if it is exhausted: the path has failed. */
static struct verbs_held *new_held(struct verbs_path *vp, const struct ninja_frame_header *header,
                                   size_t size)
{
    struct verbs_held *held = malloc(sizeof(*held) + size);

    if (held == NULL) {
        verbs_path_fail(vp, -ENOMEM, "no memory for a frame that arrives");
        return NULL;
    }
    held->next = NULL;
    held->header = *header;
    held->segments = 0;
    return held;
}

static void hold(struct verbs_path *vp, struct verbs_held *held)
{
    if (vp->held_head == NULL) {
        vp->held_head = held;
        vp->transport->holding++;
    } else {
        vp->held_tail->next = held;
    }
    vp->held_tail = held;
}

static struct verbs_held *take_held(struct verbs_path *vp)
{
    struct verbs_held *held = vp->held_head;

    vp->held_head = held->next;
    if (vp->held_head == NULL)
        vp->transport->holding--;
    return held;
}

void verbs_receive_drop(struct verbs_path *vp)
{
    while (vp->held_head != NULL)
        free(take_held(vp));
    free(vp->partial.held);
    vp->partial = (struct verbs_partial){VERBS_NO_PARTS};
}

/*
 * Must this frame wait whatever the core says? Numbered frames keep behind those that wait; and the
 * core knows only one landing per path, which a second one that is placed would overwrite.
 */
static bool must_wait(const struct verbs_path *vp, const struct ninja_frame_header *header)
{
    return (vp->placing && header->type == NINJA_FRAME_GET_DATA) ||
           (vp->held_head != NULL && header->type < NINJA_FRAME_ACK);
}

/* --- Offers ---------------------------------------------------------------------------------- */

/* Says that the peer's offer is done with. */
static void answer(struct verbs_path *vp, uint32_t ticket)
{
    struct verbs_operation *operation = verbs_operation_new(vp, VERBS_ANSWER);

    if (operation == NULL) {
        verbs_path_fail(vp, -ENOMEM, "no memory to answer");
        return;
    }
    operation->ticket = ticket;
    verbs_operation_post(operation);
}

/* Begins to read an offered payload to `place`, or into memory of ours if it is NULL. */
static void begin_read(struct verbs_path *vp, const struct ninja_frame_header *header,
                       const struct offer *offer, void *place)
{
    struct verbs_operation *operation = verbs_operation_new(vp, VERBS_READ);

    if (operation == NULL)
        goto no_memory;
    operation->header = *header;
    operation->ticket = offer->ticket;
    operation->segments = offer->segments;
    memcpy(operation->segment, offer->segment, sizeof(operation->segment));
    if (place == NULL)
        operation->ours = malloc(header->length);
    else
        vp->placing = true;
    operation->to = place != NULL ? place : operation->ours;
    if (operation->to != NULL)
        operation->registration =
            verbs_register(vp->transport, operation->to, header->length, VERBS_TO_BE_WRITTEN);
    if (operation->registration == NULL) {
        verbs_operation_free(operation);
        goto no_memory;
    }
    verbs_operation_post(operation);
    return;
no_memory:
    verbs_path_fail(vp, -ENOMEM, "no (locked) memory for a frame that arrives");
}

void verbs_receive_read(struct verbs_operation *operation)
{
    struct verbs_path *vp = operation->owner;
    struct ninja_frame_header header = operation->header;
    unsigned char *ours = operation->ours;

    verbs_unregister(vp->transport, operation->registration);
    operation->registration = NULL;
    operation->ours = NULL;
    operation->kind = VERBS_ANSWER;
    verbs_operation_post(operation);
    if (ours == NULL) {
        vp->placing = false;
        ninja_path_placed(vp->path, &header);
        return;
    }
    ninja_path_received(vp->path, &header, ours);
    free(ours);
}

/* Puts an offered frame where it belongs. Returns false if there is no place for it yet. */
static bool land_offer(struct verbs_path *vp, const struct ninja_frame_header *header,
                       const struct offer *offer)
{
    void *place = NULL;

    switch (ninja_path_landing(vp->path, header, &place)) {
    case NINJA_LANDING_COPY:
        begin_read(vp, header, offer, NULL);
        return true;
    case NINJA_LANDING_PLACE:
        begin_read(vp, header, offer, place);
        return true;
    case NINJA_LANDING_DISCARD:
        answer(vp, offer->ticket);
        return true;
    default:
        return false;
    }
}

static void receive_offer(struct verbs_path *vp, const struct verbs_header *head,
                          const struct ninja_frame_header *header, const unsigned char *rest,
                          size_t size)
{
    struct offer offer = {.ticket = head->ticket, .segments = head->segments};
    struct verbs_held *held;
    uint64_t total = 0;

    if (offer.segments == 0 || offer.segments > VERBS_SEGMENTS_MAX ||
        size != offer.segments * sizeof(offer.segment[0])) {
        verbs_path_fail(vp, -EPROTO, "an offer that is not understood");
        return;
    }
    memcpy(offer.segment, rest, size);
    for (unsigned i = 0; i < offer.segments; i++)
        total += offer.segment[i].length;
    if (total != header->length || total == 0) {
        verbs_path_fail(vp, -EPROTO, "an offer that is not understood");
        return;
    }
    if (!must_wait(vp, header) && land_offer(vp, header, &offer))
        return;
    held = new_held(vp, header, 0);
    if (held == NULL)
        return;
    held->segments = offer.segments;
    held->ticket = offer.ticket;
    memcpy(held->segment, offer.segment, sizeof(held->segment));
    hold(vp, held);
}

/* --- Frames that are here -------------------------------------------------------------------- */

/* Puts a frame with its payload where it belongs. Returns false if there is no place for it yet. */
static bool land(struct verbs_path *vp, const struct ninja_frame_header *header,
                 const unsigned char *payload)
{
    void *place = NULL;

    switch (ninja_path_landing(vp->path, header, &place)) {
    case NINJA_LANDING_COPY:
        ninja_path_received(vp->path, header, payload);
        return true;
    case NINJA_LANDING_PLACE:
        memcpy(place, payload, header->length);
        ninja_path_placed(vp->path, header);
        return true;
    case NINJA_LANDING_DISCARD:
        return true;
    default:
        return false;
    }
}

void verbs_receive_held(struct verbs_path *vp)
{
    while (vp->held_head != NULL && vp->state == VERBS_PATH_LIVE && !vp->failed) {
        struct verbs_held *held = vp->held_head;
        struct offer offer = {.ticket = held->ticket, .segments = held->segments};

        if (vp->placing && held->header.type == NINJA_FRAME_GET_DATA)
            return;
        memcpy(offer.segment, held->segment, sizeof(offer.segment));
        if (!(held->segments > 0 ? land_offer(vp, &held->header, &offer)
                                 : land(vp, &held->header, held->payload)))
            return;
        free(take_held(vp));
        vp->transport->handled++;
    }
}

static void receive_whole(struct verbs_path *vp, const struct ninja_frame_header *header,
                          const unsigned char *payload)
{
    struct verbs_held *held;

    if (!must_wait(vp, header) && land(vp, header, payload))
        return;
    held = new_held(vp, header, header->length);
    if (held == NULL)
        return;
    if (header->length > 0)
        memcpy(held->payload, payload, header->length);
    hold(vp, held);
}

/* --- Frames in parts ------------------------------------------------------------------------- */

/* The first part of a frame is here: finds out where all of it goes. */
static void begin_parts(struct verbs_path *vp, const struct ninja_frame_header *header)
{
    struct verbs_partial *partial = &vp->partial;
    enum ninja_landing landing = NINJA_LANDING_WAIT;
    void *place = NULL;

    if (!must_wait(vp, header))
        landing = ninja_path_landing(vp->path, header, &place);
    partial->header = *header;
    partial->have = 0;
    partial->to = place;
    partial->held = NULL;
    if (landing == NINJA_LANDING_PLACE) {
        partial->how = VERBS_PARTS_PLACE;
        vp->placing = true;
    } else if (landing == NINJA_LANDING_DISCARD) {
        partial->how = VERBS_PARTS_DROP;
    } else {
        partial->how = landing == NINJA_LANDING_COPY ? VERBS_PARTS_COPY : VERBS_PARTS_HOLD;
        partial->held = new_held(vp, header, header->length);
        partial->to = partial->held != NULL ? partial->held->payload : NULL;
    }
}

static void end_parts(struct verbs_path *vp)
{
    struct verbs_partial partial = vp->partial;

    vp->partial = (struct verbs_partial){VERBS_NO_PARTS};
    switch (partial.how) {
    case VERBS_PARTS_PLACE:
        vp->placing = false;
        ninja_path_placed(vp->path, &partial.header);
        break;
    case VERBS_PARTS_COPY:
        ninja_path_received(vp->path, &partial.header, partial.held->payload);
        free(partial.held);
        break;
    case VERBS_PARTS_HOLD:
        hold(vp, partial.held);
        break;
    default:
        break;
    }
}

static void receive_part(struct verbs_path *vp, const unsigned char *payload, size_t size)
{
    struct verbs_partial *partial = &vp->partial;

    if (partial->how == VERBS_NO_PARTS || size > partial->header.length - partial->have) {
        verbs_path_fail(vp, -EPROTO, "a part of no frame");
        return;
    }
    if (partial->to != NULL)
        memcpy(partial->to + partial->have, payload, size);
    partial->have += (uint32_t)size;
    if (partial->have == partial->header.length)
        end_parts(vp);
}

/* --- Messages -------------------------------------------------------------------------------- */

/* Reads the header of a frame; returns false, and the path has failed, if it cannot be one. */
static bool read_header(struct verbs_path *vp, struct ninja_frame_header *header,
                        const unsigned char *bytes, size_t size)
{
    if (size >= sizeof(*header) && vp->partial.how == VERBS_NO_PARTS) {
        memcpy(header, bytes, sizeof(*header));
        if (ninja_frame_header_check(header) == 0 && header->generation == vp->path->generation)
            return true;
    }
    verbs_path_fail(vp, -EPROTO, "a frame that is not understood");
    return false;
}

/* One frame or several; the last one may be only its first part. */
static void receive_frames(struct verbs_path *vp, const unsigned char *bytes, size_t size)
{
    struct ninja_frame_header header;

    do {
        if (!read_header(vp, &header, bytes, size))
            return;
        bytes += sizeof(header);
        size -= sizeof(header);
        if (size < header.length) {
            begin_parts(vp, &header);
            if (!vp->failed)
                receive_part(vp, bytes, size);
            return;
        }
        receive_whole(vp, &header, bytes);
        bytes += header.length;
        size -= header.length;
    } while (size > 0 && vp->state == VERBS_PATH_LIVE && !vp->failed);
}

void verbs_receive_message(struct verbs_path *vp, const unsigned char *message, size_t size)
{
    struct ninja_frame_header header;
    struct verbs_header head;

    if (vp->state != VERBS_PATH_LIVE || vp->failed)
        return;
    if (size < sizeof(head)) {
        verbs_path_fail(vp, -EPROTO, "a message that is not understood");
        return;
    }
    memcpy(&head, message, sizeof(head));
    message += sizeof(head);
    size -= sizeof(head);
    switch (head.kind) {
    case VERBS_FRAME:
        receive_frames(vp, message, size);
        break;
    case VERBS_OFFER:
        if (read_header(vp, &header, message, size))
            receive_offer(vp, &head, &header, message + sizeof(header), size - sizeof(header));
        break;
    case VERBS_PART:
        receive_part(vp, message, size);
        break;
    case VERBS_DONE:
        verbs_ticket_done(vp, head.ticket);
        break;
    default:
        verbs_path_fail(vp, -EPROTO, "a message that is not understood");
    }
}
