/*
 * The core: start and end, the upper layer's functions, and one pass of progress.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "core.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "control.h"
#include "lifeline.h"

/* While links use other fabrics, the lifeline is looked at in one pass of so many. */
#define LIFELINE_PASSES 64
/* The application's way from one send of a burst to the next is shorter. */
#define BURST_GAP_NS 10000
/* Memory for frames that was not needed for so long goes back to the system. */
#define TRIM_MS 1000

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
    rc = ninja_gate_init(&core->gate, config->threads);
    if (rc != 0) {
        snprintf(why, why_size, "this kernel has no membarrier(2): %s", strerror(-rc));
        goto no_gate;
    }
    if (getrandom(&core->nonce, sizeof(core->nonce), 0) != (ssize_t)sizeof(core->nonce)) {
        rc = -EIO;
        goto no_control;
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
no_control:
    ninja_gate_destroy(&core->gate);
no_gate:
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
        fabric->transport->ops->close(fabric->transport);
        fabric->transport = NULL;
        core->active_count =
            1; /* the lifeline; the other fabrics need no more progress than the loop above gives */
        for (unsigned j = i + 1; j < NINJA_FABRICS_MAX; j++)
            if (core->fabrics[j].transport != NULL)
                core->active[core->active_count++] = core->fabrics[j].transport;
    }
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
    free_core(core);
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

int ninja_core_get(struct ninja_link *link, void *local, uint64_t remote, size_t length,
                   ninja_complete_fn complete, void *context)
{
    int rc;

    ninja_gate_enter(&link->core->gate);
    rc = ninja_link_get(link, local, remote, length, complete, context);
    ninja_gate_leave(&link->core->gate);
    return rc;
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

/* --- Progress
 * -----------------------------------------------------------------------------------------------------
 */

int ninja_core_complete(struct ninja_core *core, ninja_complete_fn complete, void *context,
                        int status)
{
    if (core->completion_tail - core->completion_head == core->completion_size) {
        size_t size = core->completion_size * 2;
        struct ninja_completion *larger = calloc(size, sizeof(*larger));

        if (larger == NULL) {
            ninja_log(core, 0, "out of memory for completions");
            abort(); /* a completion dropped is a request that never ends */
        }
        for (size_t i = core->completion_head; i != core->completion_tail; i++)
            larger[i & (size - 1)] = core->completions[i & (core->completion_size - 1)];
        free(core->completions);
        core->completions = larger;
        core->completion_size = size;
    }
    core->completions[core->completion_tail++ & (core->completion_size - 1)] =
        (struct ninja_completion){complete, context, status};
    return 0;
}

void ninja_core_deliver(struct ninja_link *link, uint8_t tag, const void *payload, size_t size)
{
    struct ninja_core *core = link->core;
    struct ninja_frame *message;

    if (!core->control_progress && !core->gate.threads) {
        core->callbacks.receive(link, tag, payload, size);
        return;
    }
    message = ninja_frame_new(&core->pool, size);
    if (message == NULL) {
        ninja_log(core, 0,
                  "out of memory for a message that arrived while the application computes");
        abort(); /* it has been acknowledged */
    }
    message->context = link;
    message->header.tag = tag;
    message->inline_length = (uint32_t)size;
    memcpy(message->data, payload, size);
    if (core->inbox_tail != NULL)
        core->inbox_tail->next = message;
    else
        core->inbox_head = message;
    core->inbox_tail = message;
    link->inbox_bytes += ninja_frame_footprint(message);
}

/*
 * Around callbacks: with several threads the upper layer holds locks of its own when it calls us,
 * and takes them in its callbacks, so that it must not hold ours there. `in_pass` keeps other
 * threads from overtaking the one that delivers.
 */
static void step_out(struct ninja_core *core)
{
    if (core->gate.threads)
        ninja_gate_leave(&core->gate);
}

static void step_in(struct ninja_core *core)
{
    if (core->gate.threads)
        ninja_gate_enter(&core->gate);
}

static int drain_inbox(struct ninja_core *core)
{
    int count = 0;

    while (core->inbox_head != NULL) {
        struct ninja_frame *message = core->inbox_head;
        struct ninja_link *link = message->context;

        core->inbox_head = message->next;
        if (core->inbox_head == NULL)
            core->inbox_tail = NULL;
        link->inbox_bytes -= ninja_frame_footprint(message);
        step_out(core);
        core->callbacks.receive(link, message->header.tag, message->data, message->inline_length);
        step_in(core);
        ninja_frame_free(&core->pool, message);
        count++;
    }
    return count;
}

static int drain_completions(struct ninja_core *core)
{
    int count = 0;

    while (core->completion_head != core->completion_tail) {
        struct ninja_completion *next =
            &core->completions[core->completion_head & (core->completion_size - 1)];
        struct ninja_completion completion = *next;

        core->completion_head++;
        step_out(core);
        completion.complete(completion.context, completion.status);
        step_in(core);
        count++;
    }
    return count;
}

static void tell_lost(struct ninja_core *core)
{
    core->lost_links = false;
    for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
        if (link->failed && !link->loss_told) {
            link->loss_told = true;
            step_out(core);
            core->callbacks.lost(link, -ECONNRESET);
            step_in(core);
        }
    }
}

void ninja_core_pump_links(struct ninja_core *core)
{
    while (core->pump_list != NULL) {
        struct ninja_link *link = core->pump_list;

        core->pump_list = link->next_to_pump;
        link->in_pump_list = false;
        ninja_link_pump(link);
    }
    if (core->flush_planned)
        ninja_control_plan_flush(core, false);
}

int ninja_core_pass(struct ninja_core *core)
{
    int moved = 0;

    for (size_t i = 0; i < core->active_count; i++) {
        struct ninja_transport *transport = core->active[i];

        /* A lifeline that only carries control frames may wait a little. */
        if (i == 0 && core->active_count > 1 && core->lifeline_quiet > 0 &&
            !core->control_progress && core->lifeline_quiet++ < LIFELINE_PASSES)
            continue;
        int n = transport->ops->progress(transport);

        if (i == 0)
            core->lifeline_quiet = n == 0;
        moved += n;
    }
    ninja_core_pump_links(core);
    return moved;
}

int ninja_core_progress(struct ninja_core *core)
{
    int count = 0;

    ninja_gate_enter(&core->gate);
    /* A callback of ours may have come back here; the reading of frames cannot. */
    if (core->in_pass) {
        ninja_gate_leave(&core->gate);
        return 0;
    }
    core->in_pass = true;
    atomic_store_explicit(&core->passes,
                          atomic_load_explicit(&core->passes, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    if (core->inbox_head != NULL)
        count += drain_inbox(core);
    count += ninja_core_pass(core);
    if (core->gate.threads && core->inbox_head != NULL)
        count += drain_inbox(core);
    if (core->completion_head != core->completion_tail)
        count += drain_completions(core);
    if (core->lost_links)
        tell_lost(core);
    /* What those callbacks sent. */
    if (core->pump_list != NULL)
        ninja_core_pump_links(core);
    core->in_pass = false;
    ninja_gate_leave(&core->gate);
    return count;
}

/* --- Time
 * ---------------------------------------------------------------------------------------------------------
 */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static uint64_t tick_path(struct ninja_path *path, uint64_t now)
{
    if (path->deadline_ms != 0 && now >= path->deadline_ms) {
        path->deadline_ms = 0;
        if (path->state != NINJA_PATH_CLOSED)
            ninja_path_handle(path, NINJA_PATH_TIMEOUT);
        else
            ninja_path_try(path);
    }
    return path->deadline_ms;
}

/* Memory for frames that was not needed for a while is given back; returns when to look again (0:
 * not). */
static uint64_t trim_pool(struct ninja_core *core, uint64_t now)
{
    if (core->pool.idle_bytes == 0)
        return 0;
    if (now >= core->trim_at_ms) {
        ninja_frame_pool_trim(&core->pool);
        core->trim_at_ms = now + TRIM_MS;
    }
    return core->pool.idle_bytes > 0 ? core->trim_at_ms : 0;
}

int ninja_core_tick(struct ninja_core *core)
{
    uint64_t now = ninja_now_ms();
    uint64_t next = 0;

    for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
        for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
            next = earlier(next, tick_path(&link->paths[i], now));
        (void)ninja_link_last_used(link, now);
        next = earlier(next, ninja_link_acknowledge_tick(link, now));
        next = earlier(next, ninja_lifeline_tick(link, now));
    }
    ninja_tcp_tick((struct ninja_tcp *)core->lifeline, now);
    if (core->fault.on)
        next = earlier(next, ninja_fault_tick(core, now));
    next = earlier(next, ninja_turns_tick(core, now));
    next = earlier(next, ninja_fabrics_tick(core, now));
    next = earlier(next, ninja_quiesce_tick(core, now));
    next = earlier(next, trim_pool(core, now));
    core->control_sleeps = next == 0;
    if (next == 0)
        return -1;
    now = ninja_now_ms();
    return next > now ? (int)(next - now) : 0;
}
