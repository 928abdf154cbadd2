/*
 * Turns of paths that are being opened: who waits, whose handshake runs.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "turns.h"

#include "core.h"

/* Links whose last message is at most so old wait in the queue of that index, all others in the last
 * one. */
static const uint64_t queue_age_ms[NINJA_TURN_QUEUES - 1] = {100, 1000};

static struct ninja_turns *turns_of(const struct ninja_path *path)
{
    return &path->link->core->turns[ninja_path_initiates(path)];
}

void ninja_turns_init(struct ninja_turns *turns)
{
    for (unsigned i = 0; i < NINJA_TURN_QUEUES; i++)
        TAILQ_INIT(&turns->waiting[i]);
    TAILQ_INIT(&turns->taken);
}

static unsigned queue_of(struct ninja_path *path, uint64_t now)
{
    uint64_t used = ninja_link_last_used(path->link, now);
    unsigned queue = 0;

    if (used == 0)
        return NINJA_TURN_QUEUES - 1;
    while (queue < NINJA_TURN_QUEUES - 1 && now - used > queue_age_ms[queue])
        queue++;
    return queue;
}

/* The next path in the order of queues, or NULL. */
static struct ninja_path *next_waiting(struct ninja_turns *turns)
{
    for (unsigned i = 0; i < NINJA_TURN_QUEUES; i++)
        if (!TAILQ_EMPTY(&turns->waiting[i]))
            return TAILQ_FIRST(&turns->waiting[i]);
    return NULL;
}

static void unlink_turn(struct ninja_turns *turns, struct ninja_path *path)
{
    if (path->turn.state == NINJA_TURN_WAITING) {
        TAILQ_REMOVE(&turns->waiting[path->turn.queue], path, turn.entry);
    } else if (path->turn.state == NINJA_TURN_TAKEN) {
        TAILQ_REMOVE(&turns->taken, path, turn.entry);
        turns->taken_count--;
    }
    path->turn.state = NINJA_TURN_NONE;
}

static void drop_overdue(struct ninja_turns *turns, uint64_t now)
{
    struct ninja_path *path;

    while ((path = TAILQ_FIRST(&turns->taken)) != NULL &&
           now >= path->turn.since_ms + NINJA_TURN_LIMIT_MS)
        unlink_turn(turns, path);
}

/* Gives turns until all are taken. A handshake that fails at once comes back here from inside:
 * the loop goes on, so that a thousand of them do not nest. */
static void give(struct ninja_core *core, struct ninja_turns *turns, uint64_t now)
{
    struct ninja_path *path;

    if (turns->giving)
        return;
    turns->giving = true;
    drop_overdue(turns, now);
    while (turns->taken_count < core->config.handshakes && (path = next_waiting(turns)) != NULL) {
        unlink_turn(turns, path);
        path->turn.state = NINJA_TURN_TAKEN;
        path->turn.since_ms = now;
        TAILQ_INSERT_TAIL(&turns->taken, path, turn.entry);
        turns->taken_count++;
        ninja_path_handle(path, NINJA_PATH_TURN);
    }
    turns->giving = false;
}

void ninja_turns_ask(struct ninja_path *path)
{
    struct ninja_turns *turns = turns_of(path);
    uint64_t now = ninja_now_ms();

    unlink_turn(turns, path);
    path->turn.state = NINJA_TURN_WAITING;
    path->turn.queue = queue_of(path, now);
    TAILQ_INSERT_TAIL(&turns->waiting[path->turn.queue], path, turn.entry);
    give(path->link->core, turns, now);
    if (path->turn.state == NINJA_TURN_WAITING) /* until some turn is overdue */
        ninja_core_wake_control(path->link->core);
}

void ninja_turns_leave(struct ninja_path *path)
{
    struct ninja_turns *turns = turns_of(path);

    if (path->turn.state == NINJA_TURN_NONE)
        return;
    unlink_turn(turns, path);
    give(path->link->core, turns, ninja_now_ms());
}

uint64_t ninja_turns_tick(struct ninja_core *core, uint64_t now)
{
    uint64_t next = 0;

    for (unsigned i = 0; i < 2; i++) {
        struct ninja_turns *turns = &core->turns[i];

        give(core, turns, now);
        if (next_waiting(turns) != NULL && !TAILQ_EMPTY(&turns->taken)) {
            uint64_t overdue = TAILQ_FIRST(&turns->taken)->turn.since_ms + NINJA_TURN_LIMIT_MS;

            next = ninja_earlier(next, overdue);
        }
    }
    return next;
}
