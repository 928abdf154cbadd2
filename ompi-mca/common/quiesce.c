/*
 * The quiesce: its states, the caller's side and the control thread's side.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "quiesce.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core.h"

const char *ninja_quiesce_state_name(enum ninja_quiesce_state state)
{
    static const char *const names[NINJA_QUIESCE_STATES] = {"IDLE", "WANTED", "RELEASING",
                                                            "RELEASED", "DONE"};

    return (unsigned)state < NINJA_QUIESCE_STATES ? names[state] : "?";
}

void ninja_quiesce_init(struct ninja_core *core)
{
    struct ninja_quiesce *quiesce = &core->quiesce;
    pthread_condattr_t attributes;

    pthread_mutex_init(&quiesce->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&quiesce->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

void ninja_quiesce_destroy(struct ninja_core *core)
{
    pthread_cond_destroy(&core->quiesce.changed);
    pthread_mutex_destroy(&core->quiesce.lock);
}

/* The lock is held. */
static void set_state(struct ninja_core *core, enum ninja_quiesce_state state)
{
    struct ninja_quiesce *quiesce = &core->quiesce;

    if (quiesce->state == state)
        return;
    ninja_log(core, 1, "quiesce: %s -> %s", ninja_quiesce_state_name(quiesce->state),
              ninja_quiesce_state_name(state));
    quiesce->state = state;
    pthread_cond_broadcast(&quiesce->changed);
}

/* A quiesce begins to be wanted. The lock is held. */
static void want(struct ninja_core *core)
{
    struct ninja_quiesce *quiesce = &core->quiesce;

    quiesce->held = quiesce->back = quiesce->resumed = 0;
    quiesce->error = 0;
    quiesce->why[0] = '\0';
    quiesce->wanted_at_ms = ninja_now_ms();
    set_state(core, NINJA_QUIESCE_WANTED);
}

/* It is over, with `error`. The lock is held. */
static void finish(struct ninja_core *core, int error, const char *why)
{
    struct ninja_quiesce *quiesce = &core->quiesce;

    quiesce->error = error;
    snprintf(quiesce->why, sizeof(quiesce->why), "%s", why);
    quiesce->count++;
    quiesce->failed += error != 0;
    set_state(core, NINJA_QUIESCE_DONE);
}

/* --- The caller
 * --------------------------------------------------------------------------------------------------
 */

/* Waits for a change until `until` (NULL: for ever); the lock is held. Returns false when the time
 * is up. */
static bool wait_for_change(struct ninja_quiesce *quiesce, const struct timespec *until)
{
    if (until == NULL)
        return pthread_cond_wait(&quiesce->changed, &quiesce->lock) == 0;
    return pthread_cond_timedwait(&quiesce->changed, &quiesce->lock, until) != ETIMEDOUT;
}

/* Waits until the quiesce is over; the lock is held. `limit_ms` counts from when all is released.
 */
static void wait_for_end(struct ninja_core *core, unsigned limit_ms)
{
    struct ninja_quiesce *quiesce = &core->quiesce;
    struct timespec until;
    bool limited = false;

    while (quiesce->state != NINJA_QUIESCE_DONE && !quiesce->ending) {
        if (quiesce->state != NINJA_QUIESCE_RELEASED)
            limited = false; /* another release has joined */
        if (!limited && limit_ms != 0 && quiesce->state == NINJA_QUIESCE_RELEASED) {
            limited = true;
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec += (time_t)(limit_ms / 1000);
            until.tv_nsec += (long)(limit_ms % 1000) * 1000000;
            if (until.tv_nsec >= 1000000000) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000;
            }
        }
        if (!wait_for_change(quiesce, limited ? &until : NULL) &&
            quiesce->state == NINJA_QUIESCE_RELEASED)
            finish(core, 0, "the devices did not come back in time; the job goes on without them");
    }
}

int ninja_core_quiesce(struct ninja_core *core, unsigned limit_ms, char *why, size_t why_size)
{
    struct ninja_quiesce *quiesce = &core->quiesce;
    void (*again)(void *context) = NULL;
    void *context = NULL;
    int rc;

    pthread_mutex_lock(&quiesce->lock);
    if (quiesce->called || quiesce->ending) {
        rc = quiesce->called ? -EBUSY : -ECANCELED;
        pthread_mutex_unlock(&quiesce->lock);
        snprintf(why, why_size, "%s", rc == -EBUSY ? "another one runs" : "the rank ends");
        return rc;
    }
    if (quiesce->state == NINJA_QUIESCE_IDLE && quiesce->checkpointer != NULL &&
        pthread_equal(quiesce->thread, pthread_self())) {
        /* What it was asked for somebody else has done. */
        pthread_mutex_unlock(&quiesce->lock);
        snprintf(why, why_size, "nothing is to be released");
        return 0;
    }
    quiesce->called = true;
    if (quiesce->state == NINJA_QUIESCE_IDLE) {
        quiesce->all = true;
        want(core);
    }
    ninja_core_wake_control(core);
    wait_for_end(core, limit_ms);
    rc = quiesce->state == NINJA_QUIESCE_DONE ? quiesce->error : -ECANCELED;
    snprintf(why, why_size, "%s", rc == -ECANCELED ? "the rank ends" : quiesce->why);
    quiesce->called = false;
    set_state(core, NINJA_QUIESCE_IDLE);
    if (quiesce->request_count > 0) {
        want(core); /* came while we were about to leave */
        again = quiesce->checkpointer;
        context = quiesce->context;
    }
    pthread_mutex_unlock(&quiesce->lock);
    if (again != NULL)
        again(context);
    return rc;
}

void ninja_core_set_checkpointer(struct ninja_core *core, void (*checkpointer)(void *context),
                                 void *context)
{
    struct ninja_quiesce *quiesce = &core->quiesce;

    pthread_mutex_lock(&quiesce->lock);
    quiesce->checkpointer = checkpointer;
    quiesce->context = context;
    quiesce->thread = pthread_self();
    quiesce->ending = checkpointer == NULL;
    pthread_cond_broadcast(&quiesce->changed);
    pthread_mutex_unlock(&quiesce->lock);
    ninja_core_wake_control(core);
}

/* --- The control thread
 * ------------------------------------------------------------------------------------------ */

bool ninja_quiesce_take_release(struct ninja_core *core, struct ninja_fabric *fabric,
                                uint64_t operation)
{
    struct ninja_quiesce *quiesce = &core->quiesce;
    bool taken = false;

    pthread_mutex_lock(&quiesce->lock);
    if (fabric->state != NINJA_FABRIC_DOWN &&
        (quiesce->state == NINJA_QUIESCE_RELEASING || quiesce->state == NINJA_QUIESCE_RELEASED)) {
        /* It joins what runs. */
        quiesce->held |= 1U << fabric->slot;
        quiesce->back &= ~(1U << fabric->slot);
        quiesce->resumed &= ~(1U << fabric->slot);
        set_state(core, NINJA_QUIESCE_RELEASING);
    } else if (quiesce->checkpointer != NULL && !quiesce->ending &&
               fabric->state == NINJA_FABRIC_UP &&
               (quiesce->state != NINJA_QUIESCE_DONE || quiesce->called) &&
               quiesce->request_count < NINJA_QUIESCE_REQUESTS) {
        quiesce->requests[quiesce->request_count].slot = fabric->slot;
        quiesce->requests[quiesce->request_count++].operation = operation;
        taken = true;
        if (quiesce->state == NINJA_QUIESCE_IDLE) {
            want(core);
            quiesce->checkpointer(quiesce->context);
        }
    }
    pthread_mutex_unlock(&quiesce->lock);
    return taken;
}

/* Begins the releases that are wanted. */
static void begin(struct ninja_core *core)
{
    struct ninja_quiesce *quiesce = &core->quiesce;
    unsigned slots[NINJA_QUIESCE_REQUESTS + NINJA_FABRICS_MAX], count = 0;
    uint64_t operations[NINJA_QUIESCE_REQUESTS + NINJA_FABRICS_MAX];

    pthread_mutex_lock(&quiesce->lock);
    for (unsigned i = 0; i < quiesce->request_count; i++) {
        slots[count] = quiesce->requests[i].slot;
        operations[count++] = quiesce->requests[i].operation;
    }
    quiesce->request_count = 0;
    for (unsigned i = 0; quiesce->all && i < NINJA_FABRICS_MAX; i++)
        if (core->fabrics[i].used && core->fabrics[i].state == NINJA_FABRIC_UP) {
            slots[count] = i;
            operations[count++] = 0;
        }
    quiesce->all = false;
    for (unsigned i = 0; i < count; i++)
        quiesce->held |= 1U << slots[i];
    set_state(core, NINJA_QUIESCE_RELEASING);
    pthread_mutex_unlock(&quiesce->lock);
    for (unsigned i = 0; i < count; i++)
        ninja_fabric_handle(&core->fabrics[slots[i]], NINJA_FABRIC_RELEASE, operations[i]);
}

static enum ninja_quiesce_state state_of(struct ninja_core *core, bool *called, bool *ending)
{
    struct ninja_quiesce *quiesce = &core->quiesce;
    enum ninja_quiesce_state state;

    pthread_mutex_lock(&quiesce->lock);
    state = quiesce->state;
    *called = quiesce->called;
    *ending = quiesce->ending;
    pthread_mutex_unlock(&quiesce->lock);
    return state;
}

void ninja_quiesce_hurry(struct ninja_core *core)
{
    bool called, ending;

    if (state_of(core, &called, &ending) == NINJA_QUIESCE_WANTED)
        begin(core);
}

void ninja_quiesce_resumed(struct ninja_core *core, const struct ninja_fabric *fabric)
{
    struct ninja_quiesce *quiesce = &core->quiesce;

    pthread_mutex_lock(&quiesce->lock);
    quiesce->resumed |= quiesce->held & (1U << fabric->slot);
    pthread_mutex_unlock(&quiesce->lock);
}

/* Whether all fabrics of the quiesce are closed, or have come back already. The lock is held. */
static bool all_released(struct ninja_core *core)
{
    struct ninja_quiesce *quiesce = &core->quiesce;

    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++) {
        const struct ninja_fabric *fabric = &core->fabrics[i];

        if ((quiesce->held & (1U << i)) == 0)
            continue;
        if (fabric->state == NINJA_FABRIC_RELEASING) {
            /* Its deadline is gone: the release has been reported as failed. */
            if (fabric->deadline_ms == 0)
                finish(core, -ETIMEDOUT, "a fabric could not be released in time");
            return false;
        }
    }
    return true;
}

/* Whether all fabrics of the quiesce are in use again; ends it if one cannot be. The lock is held.
 */
static void check_back(struct ninja_core *core)
{
    struct ninja_quiesce *quiesce = &core->quiesce;
    const struct ninja_fabric *broken = NULL;

    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++) {
        const struct ninja_fabric *fabric = &core->fabrics[i];
        unsigned bit = 1U << i;

        if ((quiesce->held & bit) == 0)
            continue;
        if (fabric->state == NINJA_FABRIC_UP)
            quiesce->back |= bit;
        else if ((quiesce->resumed & bit) != 0 && fabric->state == NINJA_FABRIC_DOWN)
            broken = fabric;
    }
    if (broken != NULL)
        finish(core, -ENODEV, broken->failure);
    else if (quiesce->back == quiesce->held)
        finish(core, 0, quiesce->held != 0 ? "resumed" : "no fabric is in use");
}

uint64_t ninja_quiesce_tick(struct ninja_core *core, uint64_t now)
{
    struct ninja_quiesce *quiesce = &core->quiesce;
    bool called, ending;

    if (state_of(core, &called, &ending) == NINJA_QUIESCE_WANTED) {
        uint64_t patience = quiesce->wanted_at_ms + NINJA_QUIESCE_PATIENCE_MS;

        if (!called && !ending && now < patience)
            return patience;
        if (!called && !ending)
            ninja_log(core, 1, "quiesce: nobody called in time; the release does not wait");
        begin(core);
    }
    pthread_mutex_lock(&quiesce->lock);
    if (quiesce->state == NINJA_QUIESCE_RELEASING && all_released(core))
        set_state(core, NINJA_QUIESCE_RELEASED);
    if (quiesce->state == NINJA_QUIESCE_RELEASED)
        check_back(core);
    /* Nobody will come for the result. */
    if (quiesce->state == NINJA_QUIESCE_DONE && !quiesce->called &&
        (quiesce->checkpointer == NULL || quiesce->ending))
        set_state(core, NINJA_QUIESCE_IDLE);
    pthread_mutex_unlock(&quiesce->lock);
    return 0;
}

void ninja_quiesce_end(struct ninja_core *core)
{
    struct ninja_quiesce *quiesce = &core->quiesce;

    pthread_mutex_lock(&quiesce->lock);
    quiesce->ending = true;
    pthread_cond_broadcast(&quiesce->changed);
    pthread_mutex_unlock(&quiesce->lock);
}
