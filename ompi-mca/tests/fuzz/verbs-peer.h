/*
 * The other end of a verbs path, as the fuzzer plays it: what it says follows the protocol unless
 * the input wants otherwise, and what comes of it is checked.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_FUZZ_VERBS_PEER_H
#define NINJA_FUZZ_VERBS_PEER_H

#include "fake-verbs.h"

/* The fuzzer's bytes; zeroes when they are used up. */
struct input {
    const uint8_t *at;
    size_t left;
};
uint8_t input_byte(struct input *input);
uint16_t input_word(struct input *input);

#define PEER_FRAMES 512
#define PEER_GETS   16
#define PEER_OFFERS 256

/* Our device, as the core knows it. */
#define PEER_INSTANCE 7U

/* A payload may not take more than that in all, nor a get alone. */
#define PEER_BYTES    (16U << 20)
#define PEER_GET_SIZE (2U << 20)

/* Frame of the data channel with a certain number: each time it is sent it is the same. */
struct peer_frame {
    uint8_t type; /* 0: not made yet */
    bool sent;    /* all of it, on a path that was alive */
    uint8_t get;  /* GET_DATA: index in gets */
    uint32_t length;
    uint64_t offset;
    uint64_t address; /* GET_REQUEST */
};

/* A get of ours. */
struct peer_get {
    uint64_t cookie;
    unsigned char *local;
    uint32_t length, next; /* of these: bytes in frames already made */
    unsigned completed;
    bool by_device; /* read from our memory: no frames bring it */
};

struct peer {
    struct ninja_link *link;
    struct ninja_path *path;
    struct peer_frame frames[PEER_FRAMES];
    uint64_t next;      /* number of the next new frame */
    uint64_t delivered; /* up to this number */
    struct peer_get gets[PEER_GETS];
    unsigned get_count;
    uint64_t bytes; /* of payload so far */

    uint32_t number;                     /* queue pair of the path that the following is about */
    uint64_t partial;                    /* the frame whose parts are sent; 0: none */
    uint32_t partial_at;                 /* bytes of it that are */
    uint32_t tickets[VERBS_PATH_OFFERS]; /* of the core's offers that are not answered */
    unsigned ticket_count;
    uint32_t heard_left; /* bytes missing of the frame whose parts we hear */

    uint32_t first_ticket; /* of our offers */
    unsigned offer_count;
    uint8_t answers[PEER_OFFERS]; /* to each */

    uint32_t answered; /* the last of the core's offers that is done with; 0: none */
    bool disordered;   /* frames were left out, or are read in their own time */
    bool lost;         /* something may be lost: the path broke or was closed */
    bool left;         /* the path was not OPEN at some time: the device may have read in part */
    bool wild; /* bytes were said that follow no protocol: what is received may be anything */
};

/* Contents of all payloads are cut from here. */
#define NOISE_SIZE (4U << 20)
extern unsigned char noise[NOISE_SIZE];

void peer_init(struct peer *peer, struct ninja_path *path);

/* Gives the exact bytes to the decoder, as a message that has arrived. */
void peer_deliver(struct peer *peer, const unsigned char *message, size_t size);

/* Sees whether the path is another one by now: parts and offers end with it. */
void peer_follow(struct peer *peer);

/* Messages that the input describes; those of bytes are repaired a little, or not (verbs-wild.c).
 */
void peer_say_bytes(struct peer *peer, struct input *input);

/* A message that is wrong in a certain way: the path must fail by it. */
void peer_say_wrong(struct peer *peer, unsigned choice);
void peer_say_frames(struct peer *peer, struct input *input);
void peer_say_part(struct peer *peer, uint32_t most);
void peer_say_offer(struct peer *peer, struct input *input);
void peer_say_done(struct peer *peer, unsigned which);
void peer_say_path_message(struct peer *peer, struct input *input);

/* What fake_verbs asks of the other end; `context` is the peer. */
void peer_hear(void *context, const unsigned char *message, size_t size);
void peer_give(void *context, uint64_t address, void *to, size_t size);

/* The core asks for `length` bytes of the peer's memory. */
void peer_get(struct peer *peer, uint32_t length);

/* The core has delivered a message. */
void peer_received(struct peer *peer, const void *payload, size_t size);

/* Frames that arrive in order and are not read are taken in order. */
void peer_check_order(const struct peer *peer);

/* Everything was given the time it needs: nothing may be missing. */
void peer_check_complete(const struct peer *peer);

void peer_destroy(struct peer *peer);

#endif
