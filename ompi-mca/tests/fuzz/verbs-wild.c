/*
 * The other end of a verbs path: messages of any bytes, a little repaired so that more than their
 * first check is reached.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <string.h>

#include "verbs-peer.h"

/* What is repaired. */
enum {
    REPAIR_KIND = 0x1,
    REPAIR_HEADERS = 0x2,
    REPAIR_LENGTHS = 0x4, /* frames end in the message, offers add up */
    REPAIR_SEQUENCE = 0x8,
    REPAIR_COOKIE = 0x10,
    REPAIR_TICKET = 0x20
};

static void repair_header(struct peer *peer, struct ninja_frame_header *header, unsigned how,
                          size_t left)
{
    if (how & REPAIR_HEADERS) {
        header->magic = NINJA_FRAME_MAGIC;
        header->generation = peer->path->generation;
        header->type = (uint8_t)(1 + header->type % (NINJA_FRAME_TYPES - 1));
        header->length %= NINJA_FRAME_PAYLOAD_MAX + 1;
        if (header->type >= NINJA_FRAME_ACK)
            header->length = 0;
    }
    if (how & REPAIR_LENGTHS && header->length > left)
        header->length %= left + 1;
    if (how & REPAIR_SEQUENCE)
        header->sequence = peer->link->data.received + header->sequence % 4;
    if (how & REPAIR_COOKIE && peer->get_count > 0) {
        const struct peer_get *get = &peer->gets[header->cookie % peer->get_count];

        header->cookie = get->cookie;
        header->offset %= get->length;
    }
}

/*
 * Peers are trusted to name only memory that exists and to ask for no more than there is: a frame
 * that asks for something is made to do so, or, if it is not all here, to be another one.
 */
static void tame(struct ninja_frame_header *header, unsigned char *payload, size_t left)
{
    const uint64_t address = (uintptr_t)noise;

    if (header->type != NINJA_FRAME_GET_REQUEST)
        return;
    header->offset %= NOISE_SIZE;
    if (header->length != sizeof(address))
        return;
    if (left >= sizeof(address))
        memcpy(payload, &address, sizeof(address));
    else
        header->type = NINJA_FRAME_DATA;
}

/* Every frame of a message, as the decoder finds them. */
static void repair_frames(struct peer *peer, unsigned char *at, size_t size, unsigned how)
{
    struct ninja_frame_header header;

    while (size >= sizeof(header)) {
        memcpy(&header, at, sizeof(header));
        size -= sizeof(header);
        repair_header(peer, &header, how, size);
        tame(&header, at + sizeof(header), size);
        memcpy(at, &header, sizeof(header));
        at += sizeof(header);
        peer->bytes += header.length % (NINJA_FRAME_PAYLOAD_MAX + 1);
        if (size < header.length)
            break;
        at += header.length;
        size -= header.length;
    }
}

/* Returns the size of the message. */
static size_t repair_offer(struct peer *peer, struct verbs_header *head, unsigned char *at,
                           size_t size, unsigned how)
{
    struct ninja_frame_header header;
    struct verbs_segment segments[2];

    if (size < sizeof(header))
        return size;
    memcpy(&header, at, sizeof(header));
    repair_header(peer, &header, how & ~(unsigned)REPAIR_LENGTHS, 0);
    tame(&header, NULL, 0);
    memcpy(at, &header, sizeof(header));
    peer->bytes += header.length % (NINJA_FRAME_PAYLOAD_MAX + 1);
    if ((how & REPAIR_LENGTHS) == 0 || size < sizeof(header) + sizeof(segments))
        return size;
    head->segments = 1 + head->segments % 2;
    memcpy(segments, at + sizeof(header), sizeof(segments));
    segments[0].length = head->segments == 1
                             ? header.length
                             : (uint32_t)(segments[0].length % ((uint64_t)header.length + 1));
    segments[1].length = header.length - segments[0].length;
    memcpy(at + sizeof(header), segments, sizeof(segments));
    return sizeof(header) + head->segments * sizeof(segments[0]);
}

void peer_say_bytes(struct peer *peer, struct input *input)
{
    unsigned how = input_byte(input);
    size_t size = input_word(input) % (VERBS_BUFFER_SIZE + 1);
    unsigned char message[VERBS_BUFFER_SIZE];
    struct verbs_header head;
    size_t rest;

    size = size < input->left ? size : input->left;
    if (peer->bytes > PEER_BYTES)
        return;
    memcpy(message, input->at, size);
    input->at += size;
    input->left -= size;
    peer_follow(peer);
    peer->wild = peer->lost = true;
    if (size >= sizeof(head)) {
        memcpy(&head, message, sizeof(head));
        rest = size - sizeof(head);
        if (how & REPAIR_KIND)
            head.kind = (uint8_t)(1 + head.kind % (VERBS_KINDS - 1));
        if (how & REPAIR_TICKET && peer->ticket_count > 0)
            head.ticket = peer->tickets[head.ticket % peer->ticket_count];
        if (head.kind == VERBS_FRAME)
            repair_frames(peer, message + sizeof(head), rest, how);
        else if (head.kind == VERBS_OFFER)
            size = sizeof(head) + repair_offer(peer, &head, message + sizeof(head), rest, how);
        for (unsigned i = 0; i < peer->ticket_count && head.kind == VERBS_DONE; i++)
            if (peer->tickets[i] == head.ticket)
                peer->tickets[i] = peer->tickets[--peer->ticket_count];
        memcpy(message, &head, sizeof(head));
    }
    peer_deliver(peer, message, size);
}

/* --- Wrong messages -------------------------------------------------------------------------- */

/* Puts the wrong thing number `choice` into a message of `head`, `header` and `rest` bytes; returns
 * false if it would be right just now. */
static bool spoil(const struct peer *peer, unsigned choice, struct verbs_header *head,
                  struct ninja_frame_header *header, size_t *rest)
{
    const struct peer_frame *frame = &peer->frames[peer->partial];

    head->kind = choice & 0x40 ? VERBS_OFFER : VERBS_FRAME;
    head->segments = 1;
    *rest = head->kind == VERBS_OFFER ? sizeof(struct verbs_segment) : header->length;
    switch (choice % 12) {
    case 0: /* a frame between the parts of another one */
        return peer->partial != 0;
    case 1: /* a part of none */
        head->kind = VERBS_PART;
        return peer->partial == 0;
    case 2: /* a part that is too long */
        head->kind = VERBS_PART;
        *rest = frame->length - peer->partial_at + 1 - sizeof(*header);
        return peer->partial != 0 && *rest < VERBS_BUFFER_SIZE / 2;
    case 3:
        header->generation--;
        return true;
    case 4:
        header->magic++;
        return true;
    case 5:
        header->length = NINJA_FRAME_PAYLOAD_MAX + 1;
        return true;
    case 6:
        header->type = choice & 0x20 ? 0 : NINJA_FRAME_TYPES;
        return true;
    case 7: /* an offer that does not add up */
        head->kind = VERBS_OFFER;
        *rest = sizeof(struct verbs_segment);
        header->length++;
        return true;
    case 8: /* more or fewer segments than there are */
        head->kind = VERBS_OFFER;
        head->segments = choice & 0x20 ? 0 : VERBS_SEGMENTS_MAX + 1;
        *rest = head->segments * sizeof(struct verbs_segment);
        return true;
    case 9: /* an answer to no offer, or a second one */
        head->kind = VERBS_DONE;
        head->ticket = choice & 0x20 ? peer->answered : 0xffff;
        return true;
    case 10:
        head->kind = choice & 0x20 ? 0 : VERBS_KINDS;
        return true;
    default: /* the second frame is cut in its header */
        head->kind = VERBS_FRAME;
        *rest = header->length + 1 + choice / 12;
        return true;
    }
}

void peer_say_wrong(struct peer *peer, unsigned choice)
{
    static unsigned char message[2 * VERBS_BUFFER_SIZE];
    const struct verbs_path *vp = peer->path->transport_data;
    struct verbs_header head = {0};
    struct ninja_frame_header header = {
        .magic = NINJA_FRAME_MAGIC,
        .type = NINJA_FRAME_DATA,
        .length = 24,
        .generation = peer->path->generation,
        .sequence = UINT64_MAX, /* if it is taken for right, a gap that never ends */
    };
    const struct verbs_segment segment = {.address = 4096, .length = 24};
    size_t rest;

    peer_follow(peer);
    if (vp == NULL || vp->state != VERBS_PATH_LIVE || vp->failed || peer->wild ||
        !spoil(peer, choice, &head, &header, &rest))
        return;
    memcpy(message, &head, sizeof(head));
    memcpy(message + sizeof(head), &header, sizeof(header));
    memset(message + sizeof(head) + sizeof(header), 0, rest);
    memcpy(message + sizeof(head) + sizeof(header), &segment, sizeof(segment));
    peer_deliver(peer, message, sizeof(head) + sizeof(header) + rest);
    REQUIRE(vp->failed);
}
