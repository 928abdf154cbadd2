/*
 * Fault injection: configuration, lots, and what is done to frames and paths.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "fault.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "lifeline.h"

#define HOLD_DEFAULT_MS 20
#define GONE_DEFAULT_MS 500

/* A frame is overtaken by, or repeated after, at most so many others. */
#define DISTANCE_MAX 8

/* A copy of a frame that leaves later. Copies, because the frame itself may be replayed, and its
 * memory given back, meanwhile. */
struct aside {
    struct aside *next;
    struct ninja_frame *frame;
    unsigned after; /* so many others first */
    uint64_t until_ms;
};

/* What faults do on one path; made with the first of them. */
struct ninja_fault_path {
    struct aside *asides;
    uint64_t hold_until_ms; /* nothing leaves before; 0: all may */
    uint64_t break_at_ms;   /* 0: it does not break */
    enum ninja_fault_kind why;
};

/* --- Configuration
 * ------------------------------------------------------------------------------------------------
 */

static const char *const names[NINJA_FAULT_KINDS] = {"kill",    "reset",     "drop", "delay",
                                                     "reorder", "duplicate", "post", "completion",
                                                     "queue",   "fatal"};

const char *ninja_fault_name(enum ninja_fault_kind kind)
{
    return (unsigned)kind < NINJA_FAULT_KINDS ? names[kind] : "none";
}

/* Sets what `key` of `length` characters names; returns whether there is such a key. */
static bool set_key(struct ninja_fault *fault, const char *key, size_t length, uint64_t value)
{
    for (unsigned kind = 0; kind < NINJA_FAULT_KINDS; kind++) {
        if (strlen(names[kind]) == length && strncmp(key, names[kind], length) == 0) {
            fault->rate[kind] = (unsigned)value;
            fault->on |= value != 0;
            return value <= UINT32_MAX;
        }
    }
    if (length == 4 && strncmp(key, "hold", 4) == 0 && value > 0 && value <= 60000) {
        fault->hold_ms = (unsigned)value;
    } else if (length == 4 && strncmp(key, "gone", 4) == 0 && value <= 3600000) {
        fault->gone_ms = (unsigned)value;
    } else if (length == 4 && strncmp(key, "seed", 4) == 0) {
        fault->seed = value;
        fault->seed_given = true;
    } else {
        return false;
    }
    return true;
}

int ninja_fault_parse(struct ninja_fault *fault, const char *text, char *why, size_t why_size)
{
    memset(fault, 0, sizeof(*fault));
    fault->hold_ms = HOLD_DEFAULT_MS;
    fault->gone_ms = GONE_DEFAULT_MS;
    while (text != NULL && *text != '\0') {
        const char *equals = strchr(text, '=');
        char *end = NULL;
        uint64_t value = 0;

        if (equals != NULL && equals[1] >= '0' && equals[1] <= '9') {
            errno = 0;
            value = strtoull(equals + 1, &end, 10);
        }
        if (end == NULL || errno != 0 || (*end != ',' && *end != '\0') ||
            !set_key(fault, text, (size_t)(equals - text), value)) {
            snprintf(why, why_size,
                     "fault '%s' is not understood: write KEY=NUMBER,... with drop, duplicate, "
                     "delay, reorder, reset, kill, post, completion, queue, fatal (one of so many "
                     "frames), hold, gone (milliseconds), seed",
                     text);
            return -EINVAL;
        }
        text = *end == ',' ? end + 1 : end;
    }
    return 0;
}

/* Spreads the bits of `value` (the finaliser of splitmix64). */
static uint64_t mix(uint64_t value)
{
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

void ninja_fault_begin(struct ninja_core *core)
{
    struct ninja_fault *fault = &core->fault;
    char text[256] = "";
    size_t at = 0;

    if (!fault->on)
        return;
    /* Nothing is agreed between ranks here, but each job has a number of its own. */
    if (!fault->seed_given)
        fault->seed = mix(core->id >> 32) & UINT32_MAX;
    for (unsigned kind = 0; kind < NINJA_FAULT_KINDS; kind++)
        if (fault->rate[kind] != 0)
            at += (size_t)snprintf(text + at, sizeof(text) - at, "%s=%u,", names[kind],
                                   fault->rate[kind]);
    ninja_log(core, (uint32_t)core->id == 0 ? 0 : 1,
              "fault injection is on; to repeat it: --mca btl_ninja_fault "
              "%shold=%u,gone=%u,seed=%" PRIu64,
              text, fault->hold_ms, fault->gone_ms, fault->seed);
}

/* --- Lots
 * ---------------------------------------------------------------------------------------------------------
 */

enum ninja_fault_kind ninja_fault_draw(const struct ninja_fault *fault, uint32_t from, uint32_t to,
                                       const struct ninja_frame_header *header, unsigned attempt,
                                       uint64_t *random)
{
    bool control = header->type == NINJA_FRAME_CONTROL;
    uint64_t lot = mix(fault->seed ^ mix((uint64_t)from << 32 | to));

    lot = mix(lot ^ header->sequence);
    lot = mix(lot ^ ((uint64_t)attempt << 1 | control));
    for (unsigned kind = 0; kind < NINJA_FAULT_KINDS; kind++) {
        lot = mix(lot);
        if (fault->rate[kind] != 0 && lot % fault->rate[kind] == 0) {
            *random = mix(lot + 1);
            return kind;
        }
    }
    return NINJA_FAULT_NONE;
}

/* --- Frames
 * -------------------------------------------------------------------------------------------------------
 */

static struct ninja_fault_path *state_of(struct ninja_path *path)
{
    if (path->fault == NULL)
        path->fault = calloc(1, sizeof(*path->fault));
    return path->fault;
}

/* A frame of its own with all that `frame` carries, also what lies in the user's buffer. */
static struct ninja_frame *copy_frame(struct ninja_core *core, const struct ninja_frame *frame)
{
    struct ninja_frame *copy = ninja_frame_new(&core->pool, ninja_frame_length(frame));

    if (copy == NULL)
        return NULL;
    copy->header = frame->header;
    copy->inline_length = frame->inline_length;
    copy->place_length = frame->place_length;
    memcpy(copy->data, frame->data, frame->inline_length);
    if (frame->place_length > 0) {
        copy->place = copy->data + frame->inline_length;
        memcpy(copy->data + frame->inline_length, frame->place, frame->place_length);
    }
    copy->in_transport = 1;
    return copy;
}

/* Puts a copy of `frame` aside; it leaves after `after` others, or when `milliseconds` are over. */
static bool put_aside(struct ninja_path *path, const struct ninja_frame *frame, unsigned after,
                      unsigned milliseconds)
{
    struct ninja_core *core = path->link->core;
    struct ninja_fault_path *state = state_of(path);
    struct aside *aside = malloc(sizeof(*aside));

    if (state == NULL || aside == NULL || (aside->frame = copy_frame(core, frame)) == NULL) {
        free(aside);
        return false;
    }
    aside->after = after;
    aside->until_ms = ninja_now_ms() + milliseconds;
    aside->next = state->asides;
    state->asides = aside;
    ninja_core_wake_control(core);
    return true;
}

/* Takes a frame whose time has come from what lies aside. */
static struct ninja_frame *take_aside(struct ninja_path *path)
{
    bool ending = path->link->core->fault.ending;
    uint64_t now = ninja_now_ms();

    for (struct aside **at = &path->fault->asides; *at != NULL; at = &(*at)->next) {
        struct aside *aside = *at;
        struct ninja_frame *frame = aside->frame;

        if (!ending && aside->after > 0 && now < aside->until_ms)
            continue;
        *at = aside->next;
        free(aside);
        return frame;
    }
    return NULL;
}

static void count_down(struct ninja_path *path)
{
    for (struct aside *aside = path->fault->asides; aside != NULL; aside = aside->next)
        if (aside->after > 0)
            aside->after--;
}

/* `path` breaks within the time that faults may last. */
static void plan_break(struct ninja_path *path, enum ninja_fault_kind kind, uint64_t random)
{
    struct ninja_core *core = path->link->core;
    struct ninja_fault_path *state = state_of(path);

    if (state == NULL || state->break_at_ms != 0)
        return;
    state->break_at_ms = ninja_now_ms() + random % (core->fault.hold_ms + 1);
    state->why = kind;
    ninja_core_wake_control(core);
}

/* Whether `kind` can befall what is sent on `path`. */
static bool applies(const struct ninja_path *path, enum ninja_fault_kind kind)
{
    if (kind == NINJA_FAULT_KILL)
        return path->fabric != NULL;
    return kind < NINJA_FAULT_POST || path->transport->ops->inject != NULL;
}

/* Draws the lot of `frame` and does what it says. Returns the frame to be sent now, or NULL if it
 * is lost or held back. */
static struct ninja_frame *inflict(struct ninja_path *path, struct ninja_frame *frame)
{
    struct ninja_link *link = path->link;
    struct ninja_fault *fault = &link->core->fault;
    unsigned milliseconds;
    uint64_t random = 0;
    enum ninja_fault_kind kind =
        ninja_fault_draw(fault, (uint32_t)link->core->id, (uint32_t)link->peer, &frame->header,
                         frame->attempts, &random);

    if (frame->attempts < UINT8_MAX)
        frame->attempts++;
    else
        kind = NINJA_FAULT_NONE; /* lots would not change any more */
    if (kind == NINJA_FAULT_NONE || !applies(path, kind))
        return frame;
    milliseconds = 1 + (unsigned)(random >> 32) % fault->hold_ms;
    fault->injected[kind]++;
    ninja_log(link->core, 2, "fault: %s, %s %" PRIu64 " to %" PRIx64 " on %s",
              ninja_fault_name(kind),
              frame->header.type == NINJA_FRAME_CONTROL ? "control frame after" : "frame",
              frame->header.sequence, link->peer,
              path->fabric != NULL ? path->fabric->name : "the lifeline");
    switch (kind) {
    case NINJA_FAULT_DROP:
        /* Without memory for the break the loss would not be made good. */
        if (state_of(path) == NULL)
            return frame;
        plan_break(path, kind, random);
        break;
    case NINJA_FAULT_DELAY:
        if (!put_aside(path, frame, 0, milliseconds))
            return frame;
        path->fault->hold_until_ms = ninja_now_ms() + milliseconds;
        break;
    case NINJA_FAULT_REORDER:
        if (!put_aside(path, frame, 1 + (unsigned)random % DISTANCE_MAX, milliseconds))
            return frame;
        break;
    case NINJA_FAULT_DUPLICATE:
        (void)put_aside(path, frame, 1 + (unsigned)random % DISTANCE_MAX, milliseconds);
        return frame;
    case NINJA_FAULT_POST:
    case NINJA_FAULT_COMPLETION:
    case NINJA_FAULT_QUEUE:
    case NINJA_FAULT_FATAL:
        path->transport->ops->inject(path, kind);
        return frame;
    default:
        plan_break(path, kind, random);
        return frame;
    }
    ninja_path_sent(path, frame);
    return NULL;
}

struct ninja_frame *ninja_fault_next(struct ninja_path *path)
{
    const struct ninja_fault *fault = &path->link->core->fault;

    for (;;) {
        struct ninja_fault_path *state = path->fault;
        struct ninja_frame *frame;

        if (state != NULL && state->hold_until_ms != 0) {
            if (!fault->ending && ninja_now_ms() < state->hold_until_ms)
                return NULL;
            state->hold_until_ms = 0;
        }
        if (state != NULL && state->asides != NULL && (frame = take_aside(path)) != NULL)
            return frame;
        frame = ninja_path_next_plain(path);
        if (frame == NULL)
            return NULL;
        if (state != NULL)
            count_down(path);
        /* Handshakes and bare acknowledgements share the fate of the path. */
        if (frame->header.sequence == 0 || fault->ending)
            return frame;
        frame = inflict(path, frame);
        if (frame != NULL)
            return frame;
    }
}

void ninja_fault_forget(struct ninja_path *path)
{
    struct ninja_fault_path *state = path->fault;

    if (state == NULL)
        return;
    while (state->asides != NULL) {
        struct aside *aside = state->asides;

        state->asides = aside->next;
        ninja_frame_free(&path->link->core->pool, aside->frame);
        free(aside);
    }
    free(state);
    path->fault = NULL;
}

/* --- Paths
 * --------------------------------------------------------------------------------------------------------
 */

static void break_path(struct ninja_path *path)
{
    enum ninja_fault_kind kind = path->fault->why;

    path->fault->break_at_ms = 0;
    if (kind == NINJA_FAULT_KILL)
        ninja_fabric_break(path->fabric, "fault injection", path->link->core->fault.gone_ms);
    else if (path->fabric != NULL)
        ninja_path_failed(path, -ECONNRESET, "fault injection");
    else
        ninja_lifeline_reset(path->link);
}

/* Whether the transport of `path` may be asked to send. */
static bool can_pump(const struct ninja_path *path)
{
    return path->transport != NULL && path->state != NINJA_PATH_CLOSED &&
           path->state != NINJA_PATH_CLOSING;
}

static uint64_t tick_path(struct ninja_path *path, uint64_t now)
{
    uint64_t next = 0;
    bool due;

    if (path->fault == NULL)
        return 0;
    if (path->fault->break_at_ms != 0 && now >= path->fault->break_at_ms)
        break_path(path);
    if (path->fault == NULL || !can_pump(path))
        return 0; /* the path is gone */
    due = path->fault->hold_until_ms != 0 && now >= path->fault->hold_until_ms;
    for (struct aside *aside = path->fault->asides; aside != NULL; aside = aside->next)
        due |= now >= aside->until_ms;
    if (due)
        path->transport->ops->path_pump(path);
    if (path->fault == NULL)
        return 0;
    next = path->fault->break_at_ms;
    /* What is due already the transport takes as soon as it has room. */
    if (path->fault->hold_until_ms > now)
        next = ninja_earlier(next, path->fault->hold_until_ms);
    for (struct aside *aside = path->fault->asides; aside != NULL; aside = aside->next)
        if (aside->until_ms > now)
            next = ninja_earlier(next, aside->until_ms);
    return next;
}

uint64_t ninja_fault_tick(struct ninja_core *core, uint64_t now)
{
    uint64_t next = 0;

    for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
        next = ninja_earlier(next, tick_path(&link->lifeline_path, now));
        for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
            next = ninja_earlier(next, tick_path(&link->paths[i], now));
    }
    return next;
}

void ninja_fault_end(struct ninja_core *core)
{
    core->fault.ending = true;
    for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
        for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
            if (link->paths[i].fault != NULL && can_pump(&link->paths[i]))
                link->paths[i].transport->ops->path_pump(&link->paths[i]);
        ninja_link_pump(link);
    }
}
