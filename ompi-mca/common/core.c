/*
 * The core: start and end, and the upper layer's functions.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "control.h"
#include "lifeline.h"
#include "released.h"

/* The application's way from one send of a burst to the next is shorter. */
#define BURST_GAP_NS 10000

const struct ninja_transport_ops *ninja_transport_find(const char *name)
{
    static const struct ninja_transport_ops *const all[] = {
        &ninja_transport_tcp,
        &ninja_transport_verbs,
        &ninja_transport_ucx,
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    return NULL;
}

static const struct ninja_tuning default_tuning = {
    .drain_limit_ms = 500,
    .release_limit_ms = 2000,
    .open_limit_ms = 10000,
    .retry_ms = 100,
    .refused_limit_ms = 60000,
    .retain_low = 4U << 20,
    .retain_high = 16U << 20,
    .inbox_limit = 4U << 20,
};

void ninja_tuning_default(struct ninja_tuning *tuning)
{
    *tuning = default_tuning;
}

void ninja_config_default(struct ninja_config *config)
{
    *config = (struct ninja_config){
        .congestion = NINJA_CONGESTION_AUTO,
        .handshakes = 32,
        .pool_limit = 16U << 20,
        .tuning = &default_tuning,
    };
}

/* --- Start and end
 * ------------------------------------------------------------------------------------------------
 */

static char *copy_text(const char *text)
{
    return strdup(text != NULL ? text : "");
}

static int copy_config(struct ninja_core *core, const struct ninja_config *config,
                       const char *rank_name)
{
    core->config = *config;
    if (config->handshakes == 0) /* no path would ever be opened */
        core->config.handshakes = 1;
    core->config.lifeline = copy_text(config->lifeline);
    core->config.fabrics = copy_text(config->fabrics);
    core->config.control_dir = copy_text(config->control_dir);
    core->config.agent = copy_text(config->agent);
    core->config.fault = copy_text(config->fault);
    core->config.congestion = copy_text(config->congestion);
    core->rank_name = copy_text(rank_name);
    return core->config.lifeline && core->config.fabrics && core->config.control_dir &&
                   core->config.agent && core->config.fault && core->config.congestion &&
                   core->rank_name
               ? 0
               : -ENOMEM;
}

static void free_core(struct ninja_core *core)
{
    free((void *)core->config.lifeline);
    free((void *)core->config.fabrics);
    free((void *)core->config.control_dir);
    free((void *)core->config.agent);
    free((void *)core->config.fault);
    free((void *)core->config.congestion);
    free((void *)core->rank_name);
    ninja_frame_pool_destroy(&core->pool);
    free(core->buckets);
    free(core->completions);
    free(core->gets);
    free(core);
}

int ninja_core_create(struct ninja_core **created, const struct ninja_config *config,
                      const struct ninja_callbacks *callbacks, uint64_t id, const char *rank_name,
                      char *why, size_t why_size)
{
    struct ninja_core *core = calloc(1, sizeof(*core));
    int rc;

    why[0] = '\0';
    if (core == NULL)
        return -ENOMEM;
    core->callbacks = *callbacks;
    core->pool.limit = config->pool_limit;
    core->id = id;
    core->burst_gap_ns = BURST_GAP_NS;
    core->bucket_count = 64;
    core->buckets = calloc(core->bucket_count, sizeof(struct ninja_link *));
    core->completion_size = 256;
    core->completions = calloc(core->completion_size, sizeof(*core->completions));
    rc = copy_config(core, config, rank_name);
    if (rc != 0 || core->buckets == NULL || core->completions == NULL) {
        free_core(core);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
        core->fabrics[i].core = core;
    for (unsigned i = 0; i < 2; i++)
        ninja_turns_init(&core->turns[i]);
    ninja_gate_init(&core->gate, config->threads);
    if (core->gate.fence)
        ninja_log(core, 2, "membarrier(2) is not to be had: each call costs two fences more");
    if (getrandom(&core->nonce, sizeof(core->nonce), 0) != (ssize_t)sizeof(core->nonce)) {
        rc = -EIO;
        goto no_control;
    }
    if (core->config.registration_limit > 0 && ninja_released_begin() != 0) {
        ninja_log(core, 1,
                  "memory is registered for each message anew: nobody tells when it is unmapped");
        core->config.registration_limit = 0;
    }
    ninja_quiesce_init(core);
    rc = ninja_control_create(core);
    if (rc != 0)
        goto no_quiesce;
    rc = ninja_fault_parse(&core->fault, core->config.fault, why, why_size);
    if (rc != 0)
        goto no_lifeline;
    ninja_fault_begin(core);
    rc = ninja_fabrics_configure(core, core->config.fabrics, why, why_size);
    if (rc != 0)
        goto no_lifeline;
    rc = ninja_lifeline_open(core, core->config.lifeline, why, why_size);
    if (rc != 0)
        goto no_lifeline;
    core->active[core->active_count++] = core->lifeline;
    ninja_control_watch(core, core->lifeline, true);
    *created = core;
    return 0;

no_lifeline:
    ninja_control_destroy(core);
no_quiesce:
    ninja_quiesce_destroy(core);
    if (core->config.registration_limit > 0)
        ninja_released_end();
no_control:
    ninja_gate_destroy(&core->gate);
    free_core(core);
    return rc;
}

int ninja_core_start(struct ninja_core *core, char *why, size_t why_size)
{
    return ninja_control_start(core, why, why_size);
}

/* Closes all paths of all fabrics by force; those that need time for it get a second. */
static void close_fabrics(struct ninja_core *core)
{
    uint64_t until = ninja_now_ms() + 1000;

    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++) {
        struct ninja_fabric *fabric = &core->fabrics[i];

        if (fabric->transport == NULL)
            continue;
        fabric->state = NINJA_FABRIC_RELEASING;
        for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
            ninja_path_handle(&link->paths[i], NINJA_PATH_RELEASE);
            if (link->paths[i].state == NINJA_PATH_DRAINING)
                ninja_path_handle(&link->paths[i], NINJA_PATH_TIMEOUT);
        }
        while (fabric->open_paths > 0 && ninja_now_ms() < until) {
            (void)poll(NULL, 0, 1);
            (void)ninja_core_pass(core);
        }
        if (fabric->open_paths > 0) {
            ninja_log(core, 0, "fabric %s: %u paths would not close", fabric->name,
                      fabric->open_paths);
            continue;
        }
        ninja_exposures_end(core, fabric->transport);
        fabric->transport->ops->close(fabric->transport);
        fabric->transport = NULL;
        core->active_count =
            1; /* the lifeline; the other fabrics need no more progress than the loop above gives */
        for (unsigned j = i + 1; j < NINJA_FABRICS_MAX; j++)
            if (core->fabrics[j].transport != NULL)
                core->active[core->active_count++] = core->fabrics[j].transport;
    }
}

/* Is there a fabric that could not be closed? */
static bool is_stuck(const struct ninja_core *core)
{
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
        if (core->fabrics[i].transport != NULL)
            return true;
    return false;
}

static void free_inbox(struct ninja_core *core)
{
    while (core->inbox_head != NULL) {
        struct ninja_frame *message = core->inbox_head;

        core->inbox_head = message->next;
        ninja_frame_free(&core->pool, message);
    }
}

void ninja_core_destroy(struct ninja_core *core)
{
    if (core == NULL)
        return;
    ninja_quiesce_end(core);
    ninja_control_stop(core);
    ninja_gate_enter(&core->gate);
    /* The upper layer is going: what still arrives is taken in and dropped. */
    core->control_progress = true;
    if (core->fault.on)
        ninja_fault_end(core);
    close_fabrics(core);
    ninja_lifeline_close(core, 200);
    while (core->links != NULL)
        ninja_link_destroy(core->links);
    ninja_tcp_shutdown((struct ninja_tcp *)core->lifeline);
    free(core->lifeline);
    free_inbox(core);
    ninja_gate_leave(&core->gate);
    ninja_control_destroy(core);
    ninja_quiesce_destroy(core);
    ninja_gate_destroy(&core->gate);
    if (core->config.registration_limit > 0)
        ninja_released_end();
    if (!is_stuck(core)) {
        free_core(core);
        return;
    }
    /* A thread that waits for a device may still speak of the core; the component that has the
     * tuning is unloaded. */
    core->config.tuning = &default_tuning;
}

/* --- Memory
 * ------------------------------------------------------------------------------------------------------
 */

static void forget_memory(void *context, uintptr_t start, uintptr_t end)
{
    struct ninja_core *core = context;

    for (size_t i = 0; i < core->active_count; i++)
        if (core->active[i]->ops->forget_memory != NULL)
            core->active[i]->ops->forget_memory(core->active[i], start, end);
}

void ninja_core_forget_released(struct ninja_core *core)
{
    ninja_released_take(forget_memory, core);
}

/* --- The upper layer's functions
 * ---------------------------------------------------------------------------------- */

int ninja_core_contact(struct ninja_core *core, void *contact, size_t *size)
{
    ninja_lifeline_contact(core, contact);
    *size = sizeof(struct ninja_contact);
    return 0;
}
_Static_assert(sizeof(struct ninja_contact) <= NINJA_CONTACT_MAX, "a contact fits");

struct ninja_link *ninja_core_connect(struct ninja_core *core, uint64_t peer, const void *contact,
                                      size_t size, void *user)
{
    struct ninja_contact known;
    struct ninja_link *link;

    if (size != sizeof(known))
        return NULL;
    memcpy(&known, contact, sizeof(known));
    if (known.version != NINJA_CONTACT_VERSION)
        return NULL;
    ninja_gate_enter(&core->gate);
    link = ninja_link_find(core, peer, true);
    if (link != NULL) {
        ninja_lifeline_set_contact(link, &known);
        if (link->user == NULL)
            link->user = user;
        ninja_link_pump(link);
    }
    ninja_gate_leave(&core->gate);
    return link;
}

void *ninja_core_adopt(struct ninja_link *link, void *user)
{
    ninja_gate_enter(&link->core->gate);
    if (link->user == NULL)
        link->user = user;
    user = link->user;
    ninja_gate_leave(&link->core->gate);
    return user;
}

void ninja_core_disconnect(struct ninja_link *link)
{
    ninja_gate_enter(&link->core->gate);
    link->user = NULL;
    ninja_gate_leave(&link->core->gate);
}

struct ninja_frame *ninja_core_frame_new(struct ninja_core *core, size_t inline_size)
{
    struct ninja_frame *frame;

    ninja_gate_enter(&core->gate);
    frame = ninja_frame_new(&core->pool, inline_size);
    ninja_gate_leave(&core->gate);
    return frame;
}

void ninja_core_frame_free(struct ninja_core *core, struct ninja_frame *frame)
{
    ninja_gate_enter(&core->gate);
    ninja_frame_free(&core->pool, frame);
    ninja_gate_leave(&core->gate);
}

/* The payload at `place` becomes part of the inline payload: the frame keeps a copy. */
static void take_in(struct ninja_frame *frame)
{
    if (frame->place_length > 0)
        memcpy(frame->data + frame->inline_length, frame->place, frame->place_length);
    frame->inline_length += frame->place_length;
    frame->place = NULL;
    frame->place_length = 0;
}

/*
 * Sends a frame that has room for its payload at `place`, and keeps a copy of it. A large one is
 * copied after the write, while the peer receives, if the transport lets it move then.
 */
static void send_kept(struct ninja_link *link, struct ninja_frame *frame)
{
    bool late = frame->place_length >= NINJA_COPY_LATE_BYTES &&
                link->send_path->transport->ops->frames_can_move && !link->core->fault.on;

    if (!late)
        take_in(frame);
    ninja_link_send(link, frame, NULL, NULL);
    if (late)
        take_in(frame);
}

bool ninja_core_send(struct ninja_link *link, struct ninja_frame *frame, uint8_t tag,
                     ninja_complete_fn complete, void *context)
{
    struct ninja_core *core = link->core;
    bool has_room = frame->place_length <= frame->room - frame->inline_length;
    bool at_once;

    ninja_gate_enter(&core->gate);
    frame->header.type = NINJA_FRAME_DATA;
    frame->header.tag = tag;
    at_once = has_room && ninja_link_below_mark(link);
    if (at_once)
        send_kept(link, frame);
    else
        ninja_link_send(link, frame, complete, context);
    ninja_gate_leave(&core->gate);
    return at_once;
}

int ninja_core_send_copy(struct ninja_link *link, uint8_t tag, const void *header,
                         size_t header_size, const void *data, size_t size)
{
    struct ninja_core *core = link->core;
    struct ninja_frame *frame = NULL;
    int rc = 0;

    ninja_gate_enter(&core->gate);
    if (!ninja_link_below_mark(link))
        rc = -EAGAIN;
    else if ((frame = ninja_frame_new(&core->pool, header_size + size)) == NULL)
        rc = -ENOMEM;
    if (rc == 0) {
        memcpy(frame->data, header, header_size);
        frame->inline_length = (uint32_t)header_size;
        frame->place = data;
        frame->place_length = (uint32_t)size;
        frame->header.type = NINJA_FRAME_DATA;
        frame->header.tag = tag;
        send_kept(link, frame);
    }
    ninja_gate_leave(&core->gate);
    return rc;
}

int ninja_core_get(struct ninja_link *link, const struct ninja_key *key, void *local,
                   uint64_t remote, size_t length, ninja_complete_fn complete, void *context)
{
    int rc;

    ninja_gate_enter(&link->core->gate);
    rc = ninja_link_get(link, key, local, remote, length, complete, context);
    ninja_gate_leave(&link->core->gate);
    return rc;
}

void ninja_core_expose(struct ninja_link *link, const void *at, size_t length,
                       struct ninja_exposure *exposure)
{
    ninja_gate_enter(&link->core->gate);
    ninja_exposure_begin(link, at, length, exposure);
    ninja_gate_leave(&link->core->gate);
}

void ninja_core_conceal(struct ninja_core *core, struct ninja_exposure *exposure)
{
    ninja_gate_enter(&core->gate);
    ninja_exposure_end(exposure);
    ninja_gate_leave(&core->gate);
}

void ninja_core_complete_later(struct ninja_core *core, ninja_complete_fn complete, void *context)
{
    ninja_gate_enter(&core->gate);
    (void)ninja_core_complete(core, complete, context, 0);
    ninja_gate_leave(&core->gate);
}

bool ninja_core_congested(struct ninja_link *link)
{
    return ninja_link_above_limit(link);
}
