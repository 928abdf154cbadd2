/*
 * For tests of a transport alone: two ends that stand for the core above it, in one process.
 *
 * It answers what transport.h asks of the core in the simplest way that can check everything:
 * frames are numbered and filled with a pattern, each must come back and arrive at most once.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_TEST_TRANSPORT_FIXTURE_H
#define NINJA_TEST_TRANSPORT_FIXTURE_H

#include "../common/core.h"
#include "../common/transport.h"

/* Frames that one end sends in a test. */
#define FRAMES_MAX 4096

/* Bytes where the payload of placed frames lands. */
#define LANDING_SIZE (8U * NINJA_FRAME_PAYLOAD_MAX)

/* What is tested. */
extern const struct ninja_transport_ops *transport_ops;

/* One end: a core without threads, one link, one path. */
struct end {
    struct ninja_core core;
    struct ninja_link link;
    struct ninja_path path;
    struct ninja_transport *transport;
    unsigned char address[NINJA_TRANSPORT_ADDRESS_MAX]; /* of the path that was prepared last */
    size_t address_size;

    struct ninja_frame *queue[FRAMES_MAX]; /* in the order of their numbers, from 1 */
    unsigned queued, taken, returned;      /* of these: made, handed to the transport, given back */

    bool arrived[FRAMES_MAX + 1]; /* by number */
    unsigned arrivals, disordered, corrupt, duplicates, landings_overlapped;
    uint64_t last_arrived;
    unsigned char *landing; /* of GET_DATA, at the frame's offset */
    bool landing_active;
    unsigned placed;
    enum ninja_landing force; /* NINJA_LANDING_DISCARD or WAIT: the answer for numbered frames */
    unsigned asked;           /* how often with WAIT */

    bool closed;
    int failed; /* the error, 0 if none */
};

/* Opens the transport of both ends on `device` with ids 1 and 2; fails the test if that fails. */
void ends_open(struct end ends[2], const char *device);
void ends_close(struct end ends[2]);

/* Opens the path of both ends, as OFFER and ACCEPT would; end 0 initiates. */
void paths_open(struct end ends[2]);

/* Prepares the path of one end: its address is in `end` then. */
void path_prepare_one(struct end *end);
void path_forget_one(struct end *end);

/* Opens the path of one end only; both have been prepared. */
int path_open_one(struct end *end, struct end *peer, uint32_t generation, bool initiator);

/* Closes the path of `end` and waits until the transport has answered. */
void path_close_one(struct end ends[2], struct end *end);

/* Queues a frame of `type` with so much payload of each kind; both parts are filled. Returns its
 * number. */
uint64_t frame_queue(struct end *end, enum ninja_frame_type type, uint32_t inline_length,
                     uint32_t place_length);

/* Frees the frames of `end` and forgets what arrived; all must have been given back. */
void frames_reset(struct end *end);

/* Lets `end` send what is queued. */
void pump(struct end *end);

/* Progresses both ends. */
void turn(struct end ends[2]);

/* Progresses both ends until `condition`; gives up after 20 s and fails the test. */
#define WAIT_FOR(ends, condition)                                                                  \
    do {                                                                                           \
        uint64_t limit_ = ninja_now_ms() + 20000;                                                  \
        while (!(condition)) {                                                                     \
            if (ninja_now_ms() > limit_)                                                           \
                fail_msg("not within 20 s: %s", #condition);                                       \
            turn(ends);                                                                            \
        }                                                                                          \
    } while (0)

#endif
