/*
 * The core: one pass of progress, what it delivers, and what is due by time.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "core.h"
#include "lifeline.h"

/* While there are other fabrics, a lifeline that has had nothing for n passes is looked at again
 * after n / LIFELINE_SHARE of them, LIFELINE_PASSES at most: a look costs a system call. */
#define LIFELINE_SHARE  8
#define LIFELINE_PASSES 1024
/* Who begins to send while the control thread sleeps for longer wakes it: what is due then is
 * sooner. */
#define SLEEP_MS 50
/* Memory for frames that was not needed for so long goes back to the system. */
#define TRIM_MS 1000

/* --- Passes ---------------------------------------------------------------------------------- */

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

static bool lifeline_may_wait(struct ninja_core *core)
{
    return core->active_count > 1 && !core->control_progress &&
           ++core->lifeline_quiet < core->lifeline_look;
}

static void note_lifeline(struct ninja_core *core, bool quiet)
{
    unsigned most = LIFELINE_SHARE * LIFELINE_PASSES;

    if (!quiet)
        core->lifeline_quiet = 0;
    else if (core->lifeline_quiet > most)
        core->lifeline_quiet = most;
    core->lifeline_look = core->lifeline_quiet + core->lifeline_quiet / LIFELINE_SHARE;
}

/* Moves what has arrived. Returns the number of frames. */
static int look_at_transports(struct ninja_core *core)
{
    int moved = 0;

    for (size_t i = 0; i < core->active_count; i++) {
        struct ninja_transport *transport = core->active[i];
        int n;

        if (i == 0 && lifeline_may_wait(core))
            continue;
        n = transport->ops->progress(transport);
        if (i == 0)
            note_lifeline(core, n == 0);
        moved += n;
    }
    return moved;
}

int ninja_core_pass(struct ninja_core *core)
{
    int moved = look_at_transports(core);

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
    count += look_at_transports(core);
    if (core->gate.threads && core->inbox_head != NULL)
        count += drain_inbox(core);
    if (core->completion_head != core->completion_tail)
        count += drain_completions(core);
    if (core->lost_links)
        tell_lost(core);
    /* Last, so that acknowledgements travel with what those callbacks sent. */
    ninja_core_pump_links(core);
    core->in_pass = false;
    ninja_gate_leave(&core->gate);
    return count;
}

/* --- Time ------------------------------------------------------------------------------------ */

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
    uint64_t next = 0, acknowledge;
    bool waiting = false; /* frames for acknowledgements, so that a deadline is set */

    for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
        for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
            next = ninja_earlier(next, tick_path(&link->paths[i], now));
        (void)ninja_link_last_used(link, now);
        acknowledge = ninja_link_acknowledge_tick(link, now);
        /* Otherwise the control thread looks soon anyway. */
        if (core->announced)
            next = ninja_earlier(next, acknowledge);
        next = ninja_earlier(next, ninja_lifeline_tick(link, now));
        waiting |= link->data.head != NULL || link->control.head != NULL;
    }
    for (size_t i = 0; i < core->active_count; i++)
        if (core->active[i]->ops->tick != NULL)
            next = ninja_earlier(next, core->active[i]->ops->tick(core->active[i], now));
    if (core->fault.on)
        next = ninja_earlier(next, ninja_fault_tick(core, now));
    next = ninja_earlier(next, ninja_turns_tick(core, now));
    next = ninja_earlier(next, ninja_fabrics_tick(core, now));
    next = ninja_earlier(next, ninja_quiesce_tick(core, now));
    next = ninja_earlier(next, trim_pool(core, now));
    core->control_sleeps = next == 0 || (!waiting && next > now + SLEEP_MS);
    if (next == 0)
        return -1;
    now = ninja_now_ms();
    return next > now ? (int)(next - now) : 0;
}
