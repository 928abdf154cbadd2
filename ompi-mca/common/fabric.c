/*
 * Fabrics of a rank: configuration, the state table, opening and releasing.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "fabric.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "core.h"

#define CELL(event, what, state)                                                                   \
    [NINJA_FABRIC_##event] = {.action = NINJA_FABRIC_DO_##what, .next = NINJA_FABRIC_##state}

/* clang-format off */
const struct ninja_fabric_transition ninja_fabric_table[NINJA_FABRIC_STATES][NINJA_FABRIC_EVENTS] = {
    [NINJA_FABRIC_DOWN] = {
        CELL(RESUME,  OPEN,         UP), /* stays DOWN if it cannot be opened */
        CELL(RENEW,   OPEN,         UP),
        CELL(RELEASE, ANSWER,       DOWN),
        CELL(IDLE,    NOTHING,      DOWN),
        CELL(TIMEOUT, NOTHING,      DOWN),
        CELL(BROKEN,  NOTHING,      DOWN),
    },
    [NINJA_FABRIC_UP] = {
        CELL(RESUME,  ANSWER,       UP),
        CELL(RENEW,   REOPEN,       RELEASING),
        CELL(RELEASE, DRAIN,        RELEASING),
        CELL(IDLE,    NOTHING,      UP),
        CELL(TIMEOUT, NOTHING,      UP),
        CELL(BROKEN,  BREAK,        RELEASING),
    },
    [NINJA_FABRIC_RELEASING] = {
        CELL(RESUME,  RESUME_LATER, RELEASING),
        CELL(RENEW,   RESUME_LATER, RELEASING),
        CELL(RELEASE, JOIN,         RELEASING),
        CELL(IDLE,    CLOSE,        DOWN),
        CELL(TIMEOUT, FAIL,         RELEASING),
        CELL(BROKEN,  BREAK,        RELEASING),
    },
};
/* clang-format on */

const char *ninja_fabric_state_name(enum ninja_fabric_state state)
{
    static const char *const names[NINJA_FABRIC_STATES] = {"DOWN", "UP", "RELEASING"};

    return (unsigned)state < NINJA_FABRIC_STATES ? names[state] : "?";
}

const char *ninja_fabric_event_name(enum ninja_fabric_event event)
{
    static const char *const names[NINJA_FABRIC_EVENTS] = {"RESUME", "RENEW",   "RELEASE",
                                                           "IDLE",   "TIMEOUT", "BROKEN"};

    return (unsigned)event < NINJA_FABRIC_EVENTS ? names[event] : "?";
}

/* --- Configuration
 * ------------------------------------------------------------------------------------------------
 */

/* Without an agent, ranks that name a fabric alike mean the same: its UUID is a hash of the name
 * (FNV-1a, twice). */
static void uuid_of_name(const char *name, unsigned char uuid[16])
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (unsigned half = 0; half < 2; half++) {
        for (const char *c = name; *c != '\0'; c++)
            hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
        hash = (hash ^ 0xff) * UINT64_C(0x100000001b3);
        memcpy(uuid + 8 * half, &hash, 8);
    }
}

struct ninja_fabric *ninja_fabric_add(struct ninja_core *core, const char *name,
                                      const unsigned char *uuid,
                                      const struct ninja_transport_ops *ops, const char *device)
{
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++) {
        struct ninja_fabric *fabric = &core->fabrics[i];

        if (fabric->used)
            continue;
        memset(fabric, 0, sizeof(*fabric));
        fabric->used = true;
        fabric->core = core;
        fabric->slot = i;
        fabric->ops = ops;
        fabric->since_ms = ninja_now_ms();
        snprintf(fabric->name, sizeof(fabric->name), "%s", name);
        snprintf(fabric->device, sizeof(fabric->device), "%s", device);
        if (uuid != NULL)
            memcpy(fabric->uuid, uuid, sizeof(fabric->uuid));
        else
            uuid_of_name(name, fabric->uuid);
        return fabric;
    }
    return NULL;
}

/* Is `fabric` one that was left behind, with nothing under way? */
static bool is_left(const struct ninja_fabric *fabric)
{
    if (!fabric->used || fabric->configured || fabric->state != NINJA_FABRIC_DOWN ||
        fabric->open_paths > 0 || fabric->release_count > 0 || fabric->resume_count > 0 ||
        fabric->revive_at_ms != 0)
        return false;
    for (const struct ninja_link *link = fabric->core->links; link != NULL; link = link->next)
        if (link->paths[fabric->slot].state != NINJA_PATH_CLOSED)
            return false;
    return true;
}

bool ninja_fabric_make_room(struct ninja_core *core)
{
    struct ninja_fabric *oldest = NULL;

    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++) {
        struct ninja_fabric *fabric = &core->fabrics[i];

        if (!fabric->used)
            return true;
        if (is_left(fabric) && (oldest == NULL || fabric->since_ms < oldest->since_ms))
            oldest = fabric;
    }
    if (oldest == NULL)
        return false;
    ninja_log(core, 1, "fabric %s: forgotten, another one takes its place", oldest->name);
    for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
        struct ninja_path *path = &link->paths[oldest->slot];

        ninja_path_forget_peer(path);
        path->deadline_ms = 0;
    }
    oldest->used = false;
    return true;
}

/* Adds the fabric that `entry`, "NAME=TRANSPORT@DEVICE", describes; changes `entry`. */
static int configure_one(struct ninja_core *core, char *entry, char *why, size_t why_size)
{
    char *transport = strchr(entry, '=');
    char *device = strchr(entry, '@');
    const struct ninja_transport_ops *ops;
    struct ninja_fabric *fabric;

    if (transport == NULL || transport == entry || (device != NULL && device < transport) ||
        (size_t)(transport - entry) >= sizeof(core->fabrics[0].name)) {
        snprintf(
            why, why_size,
            "fabric '%s' is not understood: write NAME=TRANSPORT@DEVICE, such as ib=verbs@mlx5_0",
            entry);
        return -EINVAL;
    }
    *transport++ = '\0';
    if (device != NULL)
        *device++ = '\0';
    ops = ninja_transport_find(transport);
    if (ops == NULL) {
        snprintf(why, why_size,
                 "fabric '%s': there is no transport '%s' (there are: verbs, ucx, tcp)", entry,
                 transport);
        return -EINVAL;
    }
    if (ninja_fabric_find(core, entry, NULL) != NULL) {
        snprintf(why, why_size, "fabric '%s' is named twice", entry);
        return -EINVAL;
    }
    fabric = ninja_fabric_add(core, entry, NULL, ops, device != NULL ? device : "");
    if (fabric == NULL) {
        snprintf(why, why_size, "more than %d fabrics are named", NINJA_FABRICS_MAX);
        return -EINVAL;
    }
    fabric->configured = true;
    return 0;
}

int ninja_fabrics_configure(struct ninja_core *core, const char *text, char *why, size_t why_size)
{
    char *copy, *entry, *rest;
    int rc = 0;

    if (text == NULL || text[0] == '\0')
        return 0;
    copy = strdup(text);
    if (copy == NULL)
        return -ENOMEM;
    for (entry = strtok_r(copy, ", ", &rest); entry != NULL && rc == 0;
         entry = strtok_r(NULL, ", ", &rest))
        rc = configure_one(core, entry, why, why_size);
    free(copy);
    return rc;
}

struct ninja_fabric *ninja_fabric_find(struct ninja_core *core, const char *name,
                                       const unsigned char *uuid)
{
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++) {
        struct ninja_fabric *fabric = &core->fabrics[i];

        if (fabric->used &&
            ((uuid != NULL && memcmp(fabric->uuid, uuid, sizeof(fabric->uuid)) == 0) ||
             (name != NULL && strcmp(fabric->name, name) == 0)))
            return fabric;
    }
    return NULL;
}

/* --- Operations that wait for an answer
 * --------------------------------------------------------------------------- */

static void answer_all(struct ninja_fabric *fabric, uint64_t *operations, unsigned *count,
                       int error, const char *message)
{
    unsigned n = *count;

    *count = 0;
    for (unsigned i = 0; i < n; i++)
        ninja_control_answer(fabric->core, operations[i], error, message);
}

/* Puts `operation` on a list; one too many is refused. */
static void remember(struct ninja_fabric *fabric, uint64_t *operations, unsigned *count,
                     uint64_t operation)
{
    if (operation == 0)
        return;
    if (*count == NINJA_FABRIC_OPERATIONS)
        ninja_control_answer(fabric->core, operation, EBUSY,
                             "too many operations wait for this fabric");
    else
        operations[(*count)++] = operation;
}

/* --- Actions
 * ------------------------------------------------------------------------------------------------------
 */

static void set_state(struct ninja_fabric *fabric, enum ninja_fabric_state state)
{
    if (fabric->state == state)
        return;
    ninja_log(fabric->core, 1, "fabric %s: %s -> %s", fabric->name,
              ninja_fabric_state_name(fabric->state), ninja_fabric_state_name(state));
    fabric->state = state;
    fabric->since_ms = ninja_now_ms();
}

static void announce(struct ninja_fabric *fabric, bool up)
{
    for (struct ninja_link *link = fabric->core->links; link != NULL; link = link->next)
        ninja_path_announce(&link->paths[fabric->slot], up, up);
}

static void activate(struct ninja_fabric *fabric, struct ninja_transport *transport)
{
    struct ninja_core *core = fabric->core;

    fabric->transport = transport;
    core->active[core->active_count++] = transport;
    ninja_control_watch(core, transport, true);
}

static void deactivate(struct ninja_fabric *fabric)
{
    struct ninja_core *core = fabric->core;
    size_t i = 0;

    ninja_control_watch(core, fabric->transport, false);
    while (core->active[i] != fabric->transport)
        i++;
    core->active[i] = core->active[--core->active_count];
    fabric->transport = NULL;
}

/* From now on the fabric is the instance that the last resume named. */
static void adopt_next(struct ninja_fabric *fabric)
{
    if (!fabric->has_next)
        return;
    fabric->has_next = false;
    if (memcmp(fabric->uuid, fabric->next.uuid, sizeof(fabric->uuid)) != 0)
        for (struct ninja_link *link = fabric->core->links; link != NULL; link = link->next)
            ninja_path_forget_peer(&link->paths[fabric->slot]);
    memcpy(fabric->uuid, fabric->next.uuid, sizeof(fabric->uuid));
    memcpy(fabric->device, fabric->next.device, sizeof(fabric->device));
    fabric->epoch = fabric->next.epoch;
}

/* Opens the transport; the gate is given up meanwhile, because that may take long. */
static void do_open(struct ninja_fabric *fabric, uint64_t operation)
{
    struct ninja_core *core = fabric->core;
    struct ninja_transport *transport = NULL;
    char why[sizeof(fabric->failure)] = "";
    int rc;

    adopt_next(fabric);
    ninja_control_leave(core);
    rc = fabric->ops->open(core, fabric->device, &transport, why, sizeof(why));
    ninja_control_enter(core);
    if (rc != 0) {
        /* Said once: a job without the device is a normal thing. */
        if (strcmp(fabric->failure, why) != 0)
            ninja_log(core, 0, "fabric %s is not used, the job runs without it: %s", fabric->name,
                      why[0] != '\0' ? why : strerror(-rc));
        snprintf(fabric->failure, sizeof(fabric->failure), "%s",
                 why[0] != '\0' ? why : strerror(-rc));
        if (operation != 0)
            ninja_control_answer(core, operation, -rc, fabric->failure);
        return;
    }
    fabric->failure[0] = '\0';
    activate(fabric, transport);
    set_state(fabric, NINJA_FABRIC_UP);
    announce(fabric, true);
    if (operation != 0)
        ninja_control_answer(core, operation, 0, "in use");
}

static void do_drain(struct ninja_fabric *fabric)
{
    struct ninja_core *core = fabric->core;

    set_state(fabric, NINJA_FABRIC_RELEASING);
    fabric->deadline_ms = ninja_now_ms() + core->config.tuning->release_limit_ms;
    for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
        struct ninja_path *path = &link->paths[fabric->slot];

        path->open_again = false;
        if (path->state == NINJA_PATH_CLOSED)
            path->deadline_ms = 0;
        ninja_path_announce(path, false, false);
        ninja_path_handle(path, NINJA_PATH_RELEASE);
    }
}

static void do_break(struct ninja_fabric *fabric)
{
    struct ninja_core *core = fabric->core;

    ninja_log(core, 0, "fabric %s: the device is lost, the job goes on without it: %s",
              fabric->name, fabric->failure);
    if (fabric->state == NINJA_FABRIC_UP)
        fabric->deadline_ms = ninja_now_ms() + core->config.tuning->release_limit_ms;
    set_state(fabric, NINJA_FABRIC_RELEASING);
    for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
        struct ninja_path *path = &link->paths[fabric->slot];

        path->open_again = false;
        if (path->state == NINJA_PATH_CLOSED)
            path->deadline_ms = 0;
        ninja_path_announce(path, false, false);
        if (path->transport == NULL || path->state == NINJA_PATH_OFFERED)
            ninja_path_handle(path, NINJA_PATH_RELEASE);
        else
            ninja_path_failed(path, -ENODEV, fabric->failure);
    }
    ninja_core_wake_control(core);
}

/* All paths are closed: nothing but the transport itself holds the device. */
static void do_close(struct ninja_fabric *fabric)
{
    struct ninja_core *core = fabric->core;
    struct ninja_transport *transport = fabric->transport;
    uint64_t resume[NINJA_FABRIC_OPERATIONS];
    unsigned resume_count = fabric->resume_count;

    deactivate(fabric);
    ninja_exposures_end(core, transport);
    ninja_control_leave(core);
    transport->ops->close(transport);
    ninja_control_enter(core);
    fabric->deadline_ms = 0;
    set_state(fabric, NINJA_FABRIC_DOWN);
    answer_all(fabric, fabric->release_operations, &fabric->release_count, 0, "released");
    if (!fabric->resume_later)
        return;
    fabric->resume_later = false;
    memcpy(resume, fabric->resume_operations, sizeof(resume));
    fabric->resume_count = 0;
    do_open(fabric, resume_count > 0 ? resume[0] : 0);
    for (unsigned i = 1; i < resume_count; i++)
        ninja_fabric_handle(fabric, NINJA_FABRIC_RESUME, resume[i]);
}

static void do_fail(struct ninja_fabric *fabric)
{
    char message[128];

    fabric->deadline_ms = 0;
    snprintf(message, sizeof(message), "%u paths are not closed after %u ms", fabric->open_paths,
             fabric->core->config.tuning->release_limit_ms);
    ninja_log(fabric->core, 0, "fabric %s: release: %s", fabric->name, message);
    answer_all(fabric, fabric->release_operations, &fabric->release_count, ETIMEDOUT, message);
}

void ninja_fabric_handle(struct ninja_fabric *fabric, enum ninja_fabric_event event,
                         uint64_t operation)
{
    const struct ninja_fabric_transition *cell = &ninja_fabric_table[fabric->state][event];

    ninja_log(fabric->core, 2, "fabric %s: %s in %s", fabric->name, ninja_fabric_event_name(event),
              ninja_fabric_state_name(fabric->state));
    if (event == NINJA_FABRIC_RELEASE)
        fabric->revive_at_ms = 0;
    switch (cell->action) {
    case NINJA_FABRIC_DO_OPEN:
        do_open(fabric, operation);
        break;
    case NINJA_FABRIC_DO_REOPEN:
        fabric->resume_later = true;
        remember(fabric, fabric->resume_operations, &fabric->resume_count, operation);
        do_drain(fabric);
        break;
    case NINJA_FABRIC_DO_DRAIN:
        remember(fabric, fabric->release_operations, &fabric->release_count, operation);
        do_drain(fabric);
        break;
    case NINJA_FABRIC_DO_JOIN:
        remember(fabric, fabric->release_operations, &fabric->release_count, operation);
        fabric->resume_later = false;
        answer_all(fabric, fabric->resume_operations, &fabric->resume_count, ECANCELED,
                   "a release came after it");
        if (fabric->deadline_ms == 0)
            fabric->deadline_ms = ninja_now_ms() + fabric->core->config.tuning->release_limit_ms;
        break;
    case NINJA_FABRIC_DO_RESUME_LATER:
        fabric->resume_later = true;
        remember(fabric, fabric->resume_operations, &fabric->resume_count, operation);
        break;
    case NINJA_FABRIC_DO_CLOSE:
        do_close(fabric);
        break;
    case NINJA_FABRIC_DO_ANSWER:
        if (operation != 0)
            ninja_control_answer(fabric->core, operation, 0,
                                 event == NINJA_FABRIC_RELEASE ? "not in use" : "in use already");
        break;
    case NINJA_FABRIC_DO_FAIL:
        do_fail(fabric);
        break;
    case NINJA_FABRIC_DO_BREAK:
        do_break(fabric);
        break;
    default:
        break;
    }
}

void ninja_fabric_break(struct ninja_fabric *fabric, const char *why, unsigned revive_ms)
{
    if (fabric->state == NINJA_FABRIC_DOWN)
        return;
    snprintf(fabric->failure, sizeof(fabric->failure), "%s", why);
    if (fabric->state == NINJA_FABRIC_UP && revive_ms != 0)
        fabric->revive_at_ms = ninja_now_ms() + revive_ms;
    ninja_fabric_handle(fabric, NINJA_FABRIC_BROKEN, 0);
}

bool ninja_fabric_abort(struct ninja_fabric *fabric, uint64_t operation)
{
    for (unsigned i = 0; i < fabric->release_count; i++) {
        if (fabric->release_operations[i] != operation)
            continue;
        fabric->release_operations[i] = fabric->release_operations[--fabric->release_count];
        /* What has been drained is taken up again as soon as it is closed, unless others want it
         * released, too. */
        if (fabric->release_count == 0)
            fabric->resume_later = true;
        ninja_control_answer(fabric->core, operation, ECANCELED, "undone");
        return true;
    }
    return false;
}

void ninja_transport_lost(struct ninja_transport *transport, const char *why)
{
    struct ninja_core *core = transport->core;

    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
        if (core->fabrics[i].used && core->fabrics[i].transport == transport)
            snprintf(core->fabrics[i].lost, sizeof(core->fabrics[i].lost), "%s", why);
    /* The table is the control thread's. */
    ninja_core_wake_control(core);
}

/* A killed device that is back by now is opened again; returns when to look next (0: not). */
static uint64_t revive(struct ninja_fabric *fabric, uint64_t now)
{
    if (fabric->revive_at_ms == 0 || fabric->state != NINJA_FABRIC_DOWN)
        return 0; /* looked at again when it is closed */
    if (now < fabric->revive_at_ms)
        return fabric->revive_at_ms;
    fabric->revive_at_ms = 0;
    ninja_fabric_handle(fabric, NINJA_FABRIC_RESUME, 0);
    return 0;
}

uint64_t ninja_fabrics_tick(struct ninja_core *core, uint64_t now)
{
    uint64_t next = 0;

    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++) {
        struct ninja_fabric *fabric = &core->fabrics[i];

        if (fabric->lost[0] != '\0') {
            /* If the loss was injected, nobody else says when the device is back. */
            ninja_fabric_break(fabric, fabric->lost, core->fault.on ? core->fault.gone_ms : 0);
            fabric->lost[0] = '\0';
        }
        if (fabric->state == NINJA_FABRIC_RELEASING) {
            if (fabric->open_paths == 0)
                ninja_fabric_handle(fabric, NINJA_FABRIC_IDLE, 0);
            else if (fabric->deadline_ms != 0 && now >= fabric->deadline_ms)
                ninja_fabric_handle(fabric, NINJA_FABRIC_TIMEOUT, 0);
            else
                next = ninja_earlier(next, fabric->deadline_ms);
        }
        next = ninja_earlier(next, revive(fabric, now));
    }
    return next;
}
