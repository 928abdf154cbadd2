/*
 * A core with one link whose transports are recorders: for tests of links and paths without a
 * network.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_TEST_RIG_H
#define NINJA_TEST_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core.h"

#define RIG_FRAMES 256

/* A transport that keeps what it is given and closes when it is told to. */
struct rig_transport {
    struct ninja_transport base;
    struct ninja_frame *sent[RIG_FRAMES]; /* references held until rig_give_back() */
    struct ninja_path *sent_path[RIG_FRAMES];
    unsigned count;
    bool blocked;    /* takes nothing */
    bool slow_close; /* path_close() does not finish by itself */
    bool refuse_open, refuse_prepare;
    int prepared; /* prepared, but neither opened nor forgotten */
    unsigned opened, closed;
    unsigned looks; /* calls of progress() */
};

struct rig {
    struct ninja_core *core;
    struct ninja_tuning tuning; /* the core's */
    struct ninja_link *link;
    struct ninja_path *path; /* over the fabric */
    struct ninja_fabric *fabric;
    struct rig_transport lifeline;
    struct rig_transport device;
    struct ninja_transport *real_lifeline;
    /* What the upper layer got. */
    uint64_t received[RIG_FRAMES];
    unsigned received_count;
    unsigned completions;
    int last_status;
};

/* Made by rig_create() for the test that runs. */
extern struct rig *rig;

/* Makes `rig`; our id is `id`, the peer's is 100; the fabric is up. */
void rig_create(uint64_t id);
void rig_destroy(void);

/* Gives the references of `transport` back and forgets its frames. */
void rig_give_back(struct rig_transport *transport);

/* A DATA frame that arrives on `path` with number `sequence`; its payload is the number. */
void rig_arrive(struct ninja_path *path, uint64_t sequence);

/* Sends a message of `size` bytes to the link; returns whether it completed at once. */
bool rig_send(size_t size);

/* The number of path messages of `type` among what `lifeline` was given. */
unsigned rig_messages(enum ninja_path_message_type type);

/* cmocka set-up and tear-down. */
int rig_setup(void **state);
int rig_teardown(void **state);

#endif
