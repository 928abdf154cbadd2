/*
 * The other end of a verbs path: frames that follow the protocol, and checks of what comes of them.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "verbs-peer.h"

#include <string.h>

/* Addresses of offered payloads name the frame and the offset in it. */
#define OFFERED (UINT64_C(1) << 60)
/* Those of exposed memory name the get. */
#define EXPOSED       (UINT64_C(1) << 59)
#define OFFSET_BITS   24
#define NOISE_SPREAD  4096U
#define UNNUMBERED    4
#define REQUESTED_MAX (1U << 20)

unsigned char noise[NOISE_SIZE];

uint8_t input_byte(struct input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->at++;
}

uint16_t input_word(struct input *input)
{
    uint16_t low = input_byte(input);

    return (uint16_t)(low | input_byte(input) << 8);
}

void peer_init(struct peer *peer, struct ninja_path *path)
{
    memset(peer, 0, sizeof(*peer));
    peer->path = path;
    peer->link = path->link;
    peer->next = 1;
    peer->first_ticket = 0xfffffff0;
    if (noise[0] != 0)
        return;
    for (uint32_t i = 0, value = 1; i < NOISE_SIZE; i++) {
        value = value * 1664525 + 1013904223;
        noise[i] = (unsigned char)(value >> 24 | 1);
    }
}

void peer_destroy(struct peer *peer)
{
    for (unsigned i = 0; i < peer->get_count; i++)
        free(peer->gets[i].local);
}

/* --- Frames ---------------------------------------------------------------------------------- */

/* The contents of get `index`. */
static const unsigned char *get_contents(unsigned index)
{
    return noise + (1000 + index) * 61 % NOISE_SPREAD;
}

static const unsigned char *contents(const struct peer *peer, uint64_t sequence)
{
    const struct peer_frame *frame = &peer->frames[sequence];

    switch (frame->type) {
    case NINJA_FRAME_GET_DATA:
        return get_contents(frame->get) + frame->offset;
    case NINJA_FRAME_GET_REQUEST:
        return (const unsigned char *)&frame->address;
    default:
        return noise + sequence * 61 % NOISE_SPREAD;
    }
}

/* Makes frame `sequence`, of about `length` bytes, if it is new. */
static void define(struct peer *peer, uint64_t sequence, unsigned kind, uint32_t length)
{
    struct peer_frame *frame = &peer->frames[sequence];
    struct peer_get *get = NULL;

    if (frame->type != 0)
        return;
    for (unsigned i = 0; i < peer->get_count && get == NULL; i++)
        if (peer->gets[i].next < peer->gets[i].length)
            get = &peer->gets[i];
    frame->type = NINJA_FRAME_DATA;
    frame->length = length < NINJA_FRAME_PAYLOAD_MAX ? length : NINJA_FRAME_PAYLOAD_MAX;
    if (kind % 4 == 3 && get != NULL) {
        uint32_t left = get->length - get->next;

        frame->type = NINJA_FRAME_GET_DATA;
        frame->get = (uint8_t)(get - peer->gets);
        frame->offset = get->next;
        frame->length = frame->length < left ? frame->length : left;
        get->next += frame->length;
    } else if (kind % 16 == 7) {
        frame->type = NINJA_FRAME_GET_REQUEST;
        frame->address = (uintptr_t)noise + length % NOISE_SPREAD;
        frame->offset = length * 7U % REQUESTED_MAX; /* so many bytes */
        frame->length = sizeof(frame->address);
    }
}

/* The number of a frame: mostly a new one. 0: there are no more. */
static uint64_t choose_sequence(struct peer *peer, unsigned choice)
{
    peer->disordered |= choice % 8 >= 6;
    if (choice % 8 == 5 && peer->next > 1)
        return 1 + choice / 8 % (peer->next - 1);
    if (choice % 8 == 6 && peer->next < PEER_FRAMES - 1)
        peer->next++;
    for (uint64_t i = 1; choice % 8 == 7 && i < peer->next; i++)
        if (!peer->frames[i].sent)
            return i;
    return peer->next < PEER_FRAMES ? peer->next++ : 0;
}

static struct ninja_frame_header header_of(const struct peer *peer, uint64_t sequence,
                                           unsigned choice)
{
    const struct peer_frame *frame = &peer->frames[sequence];

    return (struct ninja_frame_header){
        .magic = NINJA_FRAME_MAGIC,
        .type = frame->type,
        .length = frame->length,
        .generation = peer->path->generation,
        .flags = choice & NINJA_FRAME_ACK_NOW,
        .sequence = sequence,
        .acknowledged = choice * peer->link->data.next_sequence / 256,
        .cookie = frame->type == NINJA_FRAME_GET_DATA ? peer->gets[frame->get].cookie : 0,
        .offset = frame->offset,
    };
}

/* One that is not numbered; PROBE and ECHO with the right nonce. */
static struct ninja_frame_header unnumbered(const struct peer *peer, unsigned choice)
{
    return (struct ninja_frame_header){
        .magic = NINJA_FRAME_MAGIC,
        .type = (uint8_t)(NINJA_FRAME_ACK + choice % UNNUMBERED),
        .generation = peer->path->generation,
        .acknowledged = choice * peer->link->data.next_sequence / 256,
        .cookie = peer->path->nonce,
    };
}

/* What a numbered frame is to be, from the input. Returns its number, or 0. */
static uint64_t next_frame(struct peer *peer, struct input *input,
                           struct ninja_frame_header *header)
{
    unsigned kind = input_byte(input), choice = input_byte(input);
    uint32_t length = (uint32_t)input_word(input) << (kind & 0x80 ? 4 : 0);
    uint64_t sequence;

    if ((kind & 0x70) == 0x70) {
        *header = unnumbered(peer, choice);
        return PEER_FRAMES;
    }
    if (peer->bytes > PEER_BYTES || (sequence = choose_sequence(peer, choice)) == 0)
        return 0;
    define(peer, sequence, kind, kind & 0x40 ? length % 64 : length);
    *header = header_of(peer, sequence, choice);
    peer->bytes += header->length;
    return sequence;
}

/* --- Messages -------------------------------------------------------------------------------- */

void peer_deliver(struct peer *peer, const unsigned char *message, size_t size)
{
    struct verbs_path *vp = peer->path->transport_data;
    struct ninja_link_counters before = peer->link->counters;
    unsigned char *copy;
    bool dead;

    if (vp == NULL)
        return;
    dead = vp->failed || vp->state != VERBS_PATH_LIVE;
    copy = malloc(size > 0 ? size : 1);
    memcpy(copy, message, size);
    ninja_gate_enter(&peer->link->core->gate);
    verbs_receive_message(vp, copy, size);
    ninja_gate_leave(&peer->link->core->gate);
    free(copy);
    REQUIRE(peer->path->transport_data == vp);
    if (dead) {
        REQUIRE(vp->failed || vp->state != VERBS_PATH_LIVE);
        REQUIRE(memcmp(&before, &peer->link->counters, sizeof(before)) == 0);
    }
    if (vp->failed || vp->state != VERBS_PATH_LIVE)
        peer->lost = true;
}

static size_t put_head(unsigned char *message, enum verbs_kind kind, uint32_t ticket,
                       unsigned segments)
{
    const struct verbs_header head = {
        .kind = (uint8_t)kind, .segments = (uint8_t)segments, .ticket = ticket};

    memcpy(message, &head, sizeof(head));
    return sizeof(head);
}

void peer_follow(struct peer *peer)
{
    const struct verbs_path *vp = peer->path->transport_data;
    /* Before it is connected a queue pair takes nothing. */
    uint32_t number = vp != NULL && vp->state != VERBS_PATH_PREPARED ? vp->number : 0;

    if (peer->number == number)
        return;
    peer->number = number;
    peer->partial = 0;
    peer->ticket_count = 0;
    peer->heard_left = 0;
}

void peer_say_frames(struct peer *peer, struct input *input)
{
    unsigned char message[VERBS_BUFFER_SIZE];
    size_t size = put_head(message, VERBS_FRAME, 0, 0), begin = size;
    unsigned shape = input_byte(input);

    peer_follow(peer);
    if (peer->partial != 0)
        return;
    for (unsigned count = 1 + shape % 16; count > 0; count--) {
        struct ninja_frame_header header;
        size_t room = sizeof(message) - size;
        uint64_t sequence;
        uint32_t here;

        if (room < sizeof(header) || (sequence = next_frame(peer, input, &header)) == 0)
            break;
        memcpy(message + size, &header, sizeof(header));
        size += sizeof(header);
        room -= sizeof(header);
        here = header.length;
        if (count == 1 && shape & 0x10 && here > 0)
            here = input_word(input) % here;
        here = here < room ? here : (uint32_t)room;
        if (sequence < PEER_FRAMES && here > 0)
            memcpy(message + size, contents(peer, sequence), here);
        size += here;
        if (here < header.length) {
            peer->partial = sequence;
            peer->partial_at = here;
            break;
        }
        if (sequence < PEER_FRAMES)
            peer->frames[sequence].sent = true;
    }
    if (size > begin)
        peer_deliver(peer, message, size);
}

void peer_say_part(struct peer *peer, uint32_t most)
{
    unsigned char message[VERBS_BUFFER_SIZE];
    size_t size = put_head(message, VERBS_PART, 0, 0);
    uint32_t count = (uint32_t)(sizeof(message) - size);
    uint64_t sequence;

    peer_follow(peer);
    sequence = peer->partial;
    if (sequence == 0)
        return;
    count = most < count ? most : count;
    if (count > peer->frames[sequence].length - peer->partial_at)
        count = peer->frames[sequence].length - peer->partial_at;
    memcpy(message + size, contents(peer, sequence) + peer->partial_at, count);
    peer->partial_at += count;
    if (peer->partial_at == peer->frames[sequence].length) {
        peer->frames[sequence].sent = true;
        peer->partial = 0;
    }
    peer_deliver(peer, message, size + count);
}

void peer_say_offer(struct peer *peer, struct input *input)
{
    unsigned char message[VERBS_BUFFER_SIZE];
    struct ninja_frame_header header;
    struct verbs_segment segments[2];
    unsigned count = 1 + input_byte(input) % 2;
    uint64_t sequence;
    size_t size;

    peer_follow(peer);
    if (peer->partial != 0 || peer->offer_count == PEER_OFFERS)
        return;
    sequence = next_frame(peer, input, &header);
    peer->disordered = true;
    if (sequence == 0 || sequence == PEER_FRAMES || header.length == 0)
        return;
    segments[0] = (struct verbs_segment){OFFERED | sequence << OFFSET_BITS, header.length, 1};
    if (count == 2) {
        segments[0].length = input_word(input) % (header.length + 1);
        segments[1] = (struct verbs_segment){segments[0].address + segments[0].length,
                                             header.length - segments[0].length, 2};
    }
    size = put_head(message, VERBS_OFFER, peer->first_ticket + peer->offer_count++, count);
    memcpy(message + size, &header, sizeof(header));
    size += sizeof(header);
    memcpy(message + size, segments, count * sizeof(segments[0]));
    size += count * sizeof(segments[0]);
    peer->frames[sequence].sent = true;
    peer_deliver(peer, message, size);
}

void peer_say_done(struct peer *peer, unsigned which)
{
    unsigned char message[sizeof(struct verbs_header)];

    peer_follow(peer);
    if (peer->ticket_count == 0)
        return;
    which %= peer->ticket_count;
    peer->answered = peer->tickets[which];
    put_head(message, VERBS_DONE, peer->answered, 0);
    peer->tickets[which] = peer->tickets[--peer->ticket_count];
    peer_deliver(peer, message, sizeof(message));
}

/* A path message, which belongs on the lifeline but is taken here too: it may end the path while
 * its frames are decoded. A frame follows it. */
void peer_say_path_message(struct peer *peer, struct input *input)
{
    unsigned char message[512];
    struct ninja_path *path = peer->path;
    unsigned choice = input_byte(input);
    struct ninja_path_message said = {
        .type = (uint8_t)(1 + choice % (NINJA_MESSAGE_TYPES - 1)),
        .generation = path->generation + (choice >= 128),
        .nonce = choice,
        .last = input_byte(input),
    };
    struct verbs_address address = {.magic = VERBS_ADDRESS_MAGIC, .queue_pair = 7};
    struct ninja_frame_header header = {
        .magic = NINJA_FRAME_MAGIC,
        .type = NINJA_FRAME_CONTROL,
        .generation = path->generation,
        .sequence = peer->link->control.received + 1,
        .acknowledged = peer->link->control.next_sequence - 1,
    };
    size_t size = put_head(message, VERBS_FRAME, 0, 0);
    const uint64_t *frames_received = &peer->link->counters.frames_received[path->fabric->slot + 1];
    const struct verbs_path *vp;
    uint64_t before;

    peer_follow(peer);
    if (peer->partial != 0)
        return;
    if (said.type == NINJA_MESSAGE_OFFER)
        said.generation = path->generation + 1;
    if (said.type == NINJA_MESSAGE_OFFER || said.type == NINJA_MESSAGE_ACCEPT)
        said.address_size = sizeof(address);
    memcpy(said.fabric, path->fabric->uuid, sizeof(said.fabric));
    header.length = (uint32_t)sizeof(said) + said.address_size;
    memcpy(message + size, &header, sizeof(header));
    size += sizeof(header);
    memcpy(message + size, &said, sizeof(said));
    size += sizeof(said);
    memcpy(message + size, &address, said.address_size);
    size += said.address_size;
    header = unnumbered(peer, choice);
    memcpy(message + size, &header, sizeof(header));
    before = *frames_received;
    peer_deliver(peer, message, size + sizeof(header));
    vp = path->transport_data;
    if (vp != NULL && vp->state != VERBS_PATH_LIVE)
        REQUIRE(*frames_received <= before + 1);
}

/* --- What the core does ---------------------------------------------------------------------- */

/* Frames of the core are well formed; parts make them whole. */
static void hear_frames(struct peer *peer, const unsigned char *at, size_t size)
{
    struct ninja_frame_header header;

    REQUIRE(peer->heard_left == 0 && size > 0);
    while (size > 0) {
        REQUIRE(size >= sizeof(header));
        memcpy(&header, at, sizeof(header));
        REQUIRE(ninja_frame_header_check(&header) == 0);
        REQUIRE(header.generation == peer->path->generation);
        at += sizeof(header);
        size -= sizeof(header);
        if (header.length > size) {
            peer->heard_left = header.length - (uint32_t)size;
            return;
        }
        at += header.length;
        size -= header.length;
    }
}

static void hear_offer(struct peer *peer, const struct verbs_header *head, const unsigned char *at,
                       size_t size)
{
    struct ninja_frame_header header;
    struct verbs_segment segment;
    uint64_t total = 0;

    REQUIRE(peer->heard_left == 0 && head->segments <= VERBS_SEGMENTS_MAX);
    REQUIRE(size == sizeof(header) + head->segments * sizeof(segment));
    memcpy(&header, at, sizeof(header));
    at += sizeof(header);
    for (unsigned i = 0; i < head->segments; i++, at += sizeof(segment)) {
        memcpy(&segment, at, sizeof(segment));
        REQUIRE(fake_verbs_covers(segment.address, segment.length, segment.key,
                                  IBV_ACCESS_REMOTE_READ));
        total += segment.length;
    }
    REQUIRE(total == header.length && header.generation == peer->path->generation);
    REQUIRE(peer->ticket_count < VERBS_PATH_OFFERS);
    peer->tickets[peer->ticket_count++] = head->ticket;
}

void peer_hear(void *context, const unsigned char *message, size_t size)
{
    struct peer *peer = context;
    struct verbs_header head;

    peer_follow(peer);
    REQUIRE(size >= sizeof(head));
    memcpy(&head, message, sizeof(head));
    message += sizeof(head);
    size -= sizeof(head);
    switch (head.kind) {
    case VERBS_FRAME:
        hear_frames(peer, message, size);
        break;
    case VERBS_PART:
        REQUIRE(size > 0 && size <= peer->heard_left);
        peer->heard_left -= (uint32_t)size;
        break;
    case VERBS_OFFER:
        hear_offer(peer, &head, message, size);
        break;
    default:
        REQUIRE(head.kind == VERBS_DONE && size == 0);
        if (peer->wild)
            return;
        REQUIRE(head.ticket - peer->first_ticket < peer->offer_count);
        REQUIRE(peer->answers[head.ticket - peer->first_ticket]++ == 0);
    }
}

void peer_give(void *context, uint64_t address, void *to, size_t size)
{
    const struct peer *peer = context;
    uint64_t sequence = (address & ~OFFERED) >> OFFSET_BITS;
    size_t offset = address & ((1U << OFFSET_BITS) - 1);
    uint64_t get = (address & ~EXPOSED) >> OFFSET_BITS;

    if ((address & EXPOSED) != 0 && get < peer->get_count)
        memcpy(to, get_contents((unsigned)get) + offset, size);
    else if ((address & OFFERED) == 0 || sequence >= PEER_FRAMES ||
             offset + size > peer->frames[sequence].length)
        memset(to, 0x5a, size); /* a wild address */
    else
        memcpy(to, contents(peer, sequence) + offset, size);
}

static void get_complete(void *context, int status)
{
    struct peer_get *get = context;

    REQUIRE(++get->completed == 1);
}

void peer_get(struct peer *peer, uint32_t length)
{
    const struct ninja_key key = {.instance = PEER_INSTANCE, .key = 1};
    unsigned index = peer->get_count, reads = peer->path->gets;
    struct peer_get *get = &peer->gets[index];
    struct ninja_core *core = peer->link->core;

    if (peer->get_count == PEER_GETS || length == 0 || length > PEER_GET_SIZE)
        return;
    get->length = length;
    get->local = malloc(length);
    peer->get_count++;
    REQUIRE(ninja_core_get(peer->link, index % 2 ? &key : NULL, get->local,
                           EXPOSED | (uint64_t)index << OFFSET_BITS, length, get_complete,
                           get) == 0);
    get->by_device = peer->path->gets > reads;
    get->next = get->by_device ? length : 0;
    for (size_t i = 0; i < core->get_count; i++)
        if (core->gets[i].cookie != 0 && core->gets[i].local == get->local)
            get->cookie = core->gets[i].cookie;
}

void peer_received(struct peer *peer, const void *payload, size_t size)
{
    const struct peer_frame *frame;

    if (peer->wild)
        return;
    do {
        REQUIRE(++peer->delivered < peer->next);
        frame = &peer->frames[peer->delivered];
        REQUIRE(frame->type != 0);
    } while (frame->type != NINJA_FRAME_DATA);
    REQUIRE(size == frame->length);
    REQUIRE(size == 0 || memcmp(payload, contents(peer, peer->delivered), size) == 0);
}

/* The gets whose data is all here are complete, and it is the right data. */
static void check_gets(const struct peer *peer)
{
    uint32_t done[PEER_GETS] = {0};

    for (uint64_t i = 1; i <= peer->link->data.received; i++) {
        const struct peer_frame *frame = &peer->frames[i];

        if (frame->type != NINJA_FRAME_GET_DATA)
            continue;
        done[frame->get] += frame->length;
        REQUIRE(memcmp(peer->gets[frame->get].local + frame->offset, contents(peer, i),
                       frame->length) == 0);
    }
    for (unsigned i = 0; i < peer->get_count; i++) {
        const struct peer_get *get = &peer->gets[i];

        if (!get->by_device)
            REQUIRE(get->completed == (done[i] == get->length));
        else if (get->completed)
            REQUIRE(memcmp(get->local, get_contents(i), get->length) == 0);
        else
            REQUIRE(peer->lost || peer->left);
    }
}

void peer_check_order(const struct peer *peer)
{
    REQUIRE(peer->wild || peer->lost || peer->disordered || peer->link->data.early == NULL);
}

void peer_check_complete(const struct peer *peer)
{
    uint64_t received = peer->link->data.received;

    if (peer->wild)
        return;
    for (uint64_t i = peer->delivered + 1; i <= received; i++)
        REQUIRE(peer->frames[i].type != NINJA_FRAME_DATA);
    check_gets(peer);
    if (peer->lost)
        return;
    REQUIRE(received + 1 == peer->next || !peer->frames[received + 1].sent);
    for (unsigned i = 0; i < peer->offer_count; i++)
        REQUIRE(peer->answers[i] == 1);
}
