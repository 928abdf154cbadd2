/*
 * The quiesce: one call that gives up fabrics, waits until they are back, and says how it ended.
 * This is what a checkpoint is here: the VM is moved with its memory while the call waits.
 *
 * Two roads lead into it. A caller begins one by itself: all fabrics in use are given up. Or a
 * checkpointer has been set: then a release that the agent or a controller asks for is not begun at
 * once, but the checkpointer is asked to call; if it does not in time, the release begins all the
 * same, because a device that is to be unplugged cannot wait.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_QUIESCE_H
#define NINJA_QUIESCE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ninja_core;
struct ninja_fabric;

enum ninja_quiesce_state {
    NINJA_QUIESCE_IDLE,      /* none runs */
    NINJA_QUIESCE_WANTED,    /* fabrics are to be released; begins when the caller is there */
    NINJA_QUIESCE_RELEASING, /* links drain, fabrics are closed */
    NINJA_QUIESCE_RELEASED,  /* no device is open: the VM may move; waits for the devices */
    NINJA_QUIESCE_DONE,      /* over: the caller takes the result */
    NINJA_QUIESCE_STATES
};

/* A checkpointer is given so long to call; after that the release does not wait for it. */
#define NINJA_QUIESCE_PATIENCE_MS 200

/* Requests that wait for a checkpointer; more are begun at once. */
#define NINJA_QUIESCE_REQUESTS 8

struct ninja_quiesce {
    pthread_mutex_t lock; /* of what follows; taken inside the gate, never around it */
    pthread_cond_t changed;
    enum ninja_quiesce_state state;
    bool called;      /* a caller is inside ninja_core_quiesce() */
    bool ending;      /* the core, or the checkpointer, ends: nobody waits any more */
    bool all;         /* the caller wants all fabrics released */
    unsigned held;    /* fabrics, by slot, of the running quiesce */
    unsigned back;    /* of these: in use again */
    unsigned resumed; /* of these: asked back */
    int error;        /* the result */
    char why[256];
    uint64_t wanted_at_ms;
    struct {
        unsigned slot;
        uint64_t operation;
    } requests[NINJA_QUIESCE_REQUESTS];
    unsigned request_count;
    void (*checkpointer)(void *context); /* NULL: nobody is asked */
    void *context;
    pthread_t thread; /* the checkpointer's */
    uint64_t count;   /* quiesces that ended */
    uint64_t failed;  /* of these: with an error */
};

const char *ninja_quiesce_state_name(enum ninja_quiesce_state state);

/* Prepares core->quiesce, and frees it. */
void ninja_quiesce_init(struct ninja_core *core);
void ninja_quiesce_destroy(struct ninja_core *core);

/* --- For the control thread, with the gate held ------------------------------------------------
 */

/*
 * `operation` asks that `fabric` be released. Returns true if that will happen by a quiesce; false
 * if the control thread is to do it now.
 */
bool ninja_quiesce_take_release(struct ninja_core *core, struct ninja_fabric *fabric,
                                uint64_t operation);

/* A resume, or an abort, comes: releases that still wait for the checkpointer begin, so that the
 * order stays. */
void ninja_quiesce_hurry(struct ninja_core *core);

/* `fabric` was asked back and has been opened, or not. */
void ninja_quiesce_resumed(struct ninja_core *core, const struct ninja_fabric *fabric);

/* Goes on with the quiesce that runs; returns the next deadline (0: none). */
uint64_t ninja_quiesce_tick(struct ninja_core *core, uint64_t now);

/* Whoever waits in ninja_core_quiesce() returns with -ECANCELED. */
void ninja_quiesce_end(struct ninja_core *core);

#endif
