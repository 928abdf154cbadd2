/*
 * Turns: how many new paths are being opened at a time, and whose turn is next. A resume with a
 * thousand peers would otherwise be a thousand handshakes at once, in which the links that the
 * application waits for are lost among all others.
 *
 * Paths that we open and paths that peers open have turns of their own: a peer that waits for an
 * answer must never wait for one that waits itself.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_TURNS_H
#define NINJA_TURNS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct ninja_core;
struct ninja_path;

/* A handshake that takes longer keeps no other path waiting: its peer may be stopped. */
#define NINJA_TURN_LIMIT_MS 200

/* Waiting paths by how recently their links carried messages: the busy ones are first. */
#define NINJA_TURN_QUEUES 3

enum ninja_turn {
    NINJA_TURN_NONE,    /* in no list */
    NINJA_TURN_WAITING, /* for NINJA_PATH_TURN */
    NINJA_TURN_TAKEN,   /* its handshake runs, and counts */
};

TAILQ_HEAD(ninja_turn_list, ninja_path);

struct ninja_turns {
    struct ninja_turn_list waiting[NINJA_TURN_QUEUES];
    struct ninja_turn_list taken; /* the longest one first */
    unsigned taken_count;
    bool giving; /* inside the loop that gives turns */
};

/* What a path keeps of its turn. */
struct ninja_path_turn {
    TAILQ_ENTRY(ninja_path) entry;
    enum ninja_turn state;
    unsigned queue;    /* while it waits */
    uint64_t since_ms; /* when it was taken */
};

/* All functions are called with the gate held. */

void ninja_turns_init(struct ninja_turns *turns);

/* `path` waits for its turn, which may come (NINJA_PATH_TURN) before this returns. */
void ninja_turns_ask(struct ninja_path *path);

/* `path` waits no longer, or its handshake is over; others may get their turn before this returns.
 */
void ninja_turns_leave(struct ninja_path *path);

/* Turns that have taken too long no longer count; returns when to look again (0: not). */
uint64_t ninja_turns_tick(struct ninja_core *core, uint64_t now);

#endif
