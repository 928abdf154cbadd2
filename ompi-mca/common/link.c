/*
 * Links, sending half: numbering, retention, choice of path, acknowledgement and replay.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "link.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "core.h"
#include "lifeline.h"

/* So many sends with no pass of progress between them are a burst if they follow each other within
 * core->burst_gap_ns, or half the time of a write; from then on they are gathered, up to so many.
 */
#define BURST_FRAMES  4
#define GATHER_FRAMES 32
#define GATHER_BYTES  (64U * 1024U)
/* How long a write takes is learnt from frames up to this size, and no write is taken to be slower.
 */
#define WRITE_SAMPLE_BYTES 2048U
#define WRITE_NS_MAX       500000

/* --- The table of links
 * ------------------------------------------------------------------------------------------ */

static struct ninja_link **bucket_of(struct ninja_core *core, uint64_t peer)
{
    return &core->buckets[(peer * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (core->bucket_count - 1)];
}

/* Doubles the buckets when there are as many links; a failure only makes look-ups slower. */
static void grow_buckets(struct ninja_core *core)
{
    struct ninja_link **buckets;

    if (core->link_count < core->bucket_count)
        return;
    buckets = calloc(core->bucket_count * 2, sizeof(struct ninja_link *));
    if (buckets == NULL)
        return;
    free(core->buckets);
    core->buckets = buckets;
    core->bucket_count *= 2;
    for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
        struct ninja_link **bucket = bucket_of(core, link->peer);

        link->next_in_bucket = *bucket;
        *bucket = link;
    }
}

static void init_path(struct ninja_link *link, struct ninja_path *path, struct ninja_fabric *fabric)
{
    path->link = link;
    path->fabric = fabric;
    path->state = NINJA_PATH_CLOSED;
}

static struct ninja_link *make_link(struct ninja_core *core, uint64_t peer)
{
    struct ninja_link *link = calloc(1, sizeof(*link));

    if (link == NULL)
        return NULL;
    link->core = core;
    link->peer = peer;
    link->data.next_sequence = 1;
    link->used = 1;
    link->control.next_sequence = 1;
    init_path(link, &link->lifeline_path, NULL);
    link->lifeline_path.state = NINJA_PATH_OPEN;
    link->lifeline_path.transport = core->lifeline;
    link->lifeline_path.since_ms = ninja_now_ms();
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
        init_path(link, &link->paths[i], &core->fabrics[i]);
    link->send_path = &link->lifeline_path;
    if (ninja_lifeline_create(link) != 0) {
        free(link);
        return NULL;
    }
    return link;
}

struct ninja_link *ninja_link_find(struct ninja_core *core, uint64_t peer, bool make)
{
    struct ninja_link **bucket = bucket_of(core, peer);
    struct ninja_link *link = *bucket;

    while (link != NULL && link->peer != peer)
        link = link->next_in_bucket;
    if (link != NULL || !make)
        return link;
    link = make_link(core, peer);
    if (link == NULL)
        return NULL;
    link->next_in_bucket = *bucket;
    *bucket = link;
    link->next = core->links;
    core->links = link;
    core->link_count++;
    grow_buckets(core);
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
        if (core->fabrics[i].state == NINJA_FABRIC_UP)
            ninja_path_announce(&link->paths[i], true, true);
    return link;
}

static void release_frame(struct ninja_core *core, struct ninja_frame *frame)
{
    if (!frame->retained && frame->in_transport == 0)
        ninja_frame_free(&core->pool, frame);
}

static void destroy_channel(struct ninja_core *core, struct ninja_channel *channel)
{
    struct ninja_frame *frame = channel->head;
    struct ninja_early_frame *early = channel->early;

    while (frame != NULL) {
        struct ninja_frame *next = frame->next;

        if (frame->complete != NULL)
            (void)ninja_core_complete(core, frame->complete, frame->context, -ECANCELED);
        frame->retained = false;
        release_frame(core, frame);
        frame = next;
    }
    while (early != NULL) {
        struct ninja_early_frame *next = early->next;

        free(early);
        early = next;
    }
}

void ninja_link_destroy(struct ninja_link *link)
{
    struct ninja_core *core = link->core;
    struct ninja_link **at = bucket_of(core, link->peer);

    while (*at != link)
        at = &(*at)->next_in_bucket;
    *at = link->next_in_bucket;
    for (at = &core->links; *at != link;)
        at = &(*at)->next;
    *at = link->next;
    core->link_count--;
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
        ninja_turns_leave(&link->paths[i]);
    /* May still take in frames, and so ask for an acknowledgement. */
    ninja_lifeline_destroy(link);
    ninja_fault_forget(&link->lifeline_path);
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++) {
        ninja_fault_forget(&link->paths[i]);
        free(link->paths[i].offer_address);
    }
    for (at = &core->pump_list; link->in_pump_list && *at != NULL;) {
        if (*at == link) {
            *at = link->next_to_pump;
            link->in_pump_list = false;
        } else {
            at = &(*at)->next_to_pump;
        }
    }
    destroy_channel(core, &link->data);
    destroy_channel(core, &link->control);
    free(link);
}

/* --- Sending
 * ------------------------------------------------------------------------------------------------------
 */

static void append(struct ninja_channel *channel, struct ninja_frame *frame)
{
    frame->header.sequence = channel->next_sequence++;
    frame->header.length = ninja_frame_length(frame);
    frame->retained = true;
    frame->handed = false;
    frame->next = NULL;
    if (channel->tail != NULL)
        channel->tail->next = frame;
    else
        channel->head = frame;
    channel->tail = frame;
    if (channel->cursor == NULL)
        channel->cursor = frame;
    channel->retained_bytes += ninja_frame_footprint(frame);
}

void ninja_link_pump_later(struct ninja_link *link)
{
    struct ninja_core *core = link->core;

    if (link->in_pump_list)
        return;
    link->in_pump_list = true;
    link->next_to_pump = core->pump_list;
    core->pump_list = link;
}

static uint64_t longer(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The write of `frame`, in a burst, took from `begin` to `end`. What took very long was something
 * else that ran meanwhile; long frames and full queues tell nothing. */
static void note_write(struct ninja_core *core, const struct ninja_frame *frame, uint64_t begin,
                       uint64_t end)
{
    uint64_t time = end - begin < WRITE_NS_MAX ? end - begin : WRITE_NS_MAX;

    if (frame->handed && ninja_frame_length(frame) <= WRITE_SAMPLE_BYTES)
        core->write_ns = (7 * core->write_ns + time) / 8;
}

/*
 * Whether the frame just appended, of a burst, should wait for more of them: a write costs as much
 * as copying 30 KB. It waits until there are enough, or for the end of the pass in which or after
 * which it was sent; if no pass comes, the control thread sends it.
 */
static bool gather(struct ninja_link *link, const struct ninja_frame *frame)
{
    struct ninja_core *core = link->core;
    uint64_t pass = atomic_load_explicit(&core->passes, memory_order_relaxed);
    uint64_t now, before;

    if (link->burst_pass != pass) {
        link->burst_pass = pass;
        link->burst = 0;
    }
    if (++link->burst < BURST_FRAMES)
        return false;
    now = ninja_now_ns();
    before = link->burst_at_ns;
    link->burst_at_ns = now;
    if (!core->can_gather ||
        ninja_frame_length(frame) > link->send_path->transport->ops->gather_max ||
        now - before > longer(core->burst_gap_ns, core->write_ns / 2) ||
        (frame->header.flags & NINJA_FRAME_ACK_NOW) != 0)
        return false;
    link->gathered_bytes += ninja_frame_length(frame);
    if (++link->gathered >= GATHER_FRAMES || link->gathered_bytes >= GATHER_BYTES)
        return false;
    ninja_link_pump_later(link);
    if (!core->in_pass && !core->flush_planned)
        ninja_control_plan_flush(core, true);
    return true;
}

/* Something leaves by the lifeline: it is looked at often again. */
static void expect_answer(struct ninja_core *core)
{
    core->lifeline_quiet = core->lifeline_look = 0;
}

void ninja_link_send(struct ninja_link *link, struct ninja_frame *frame, ninja_complete_fn complete,
                     void *context)
{
    frame->complete = complete;
    frame->context = context;
    append(&link->data, frame);
    ninja_core_watch_over(link->core);
    if (link->send_path == &link->lifeline_path)
        expect_answer(link->core);
    if (complete != NULL || link->data.retained_bytes > link->core->config.tuning->retain_low)
        frame->header.flags |= NINJA_FRAME_ACK_NOW;
    if (__builtin_expect(link->dormant, false))
        ninja_paths_wake(link);
    if (gather(link, frame))
        return;
    ninja_link_pump(link);
    if (link->burst >= BURST_FRAMES) {
        uint64_t now = ninja_now_ns();

        /* The time that the write took is no gap. */
        note_write(link->core, frame, link->burst_at_ns, now);
        link->burst_at_ns = now;
    }
}

int ninja_link_send_control(struct ninja_link *link, const void *message, size_t size)
{
    struct ninja_frame *frame = ninja_frame_new(&link->core->pool, size);

    if (frame == NULL)
        return -ENOMEM;
    frame->header.type = NINJA_FRAME_CONTROL;
    frame->inline_length = (uint32_t)size;
    memcpy(frame->data, message, size);
    append(&link->control, frame);
    expect_answer(link->core);
    ninja_core_watch_over(link->core);
    ninja_link_pump(link);
    return 0;
}

bool ninja_link_below_mark(const struct ninja_link *link)
{
    return link->data.retained_bytes < link->core->config.tuning->retain_low;
}

bool ninja_link_above_limit(const struct ninja_link *link)
{
    return link->data.retained_bytes > link->core->config.tuning->retain_high;
}

uint64_t ninja_link_last_used(struct ninja_link *link, uint64_t now)
{
    uint64_t used = link->data.next_sequence + link->data.received;

    if (used != link->used) {
        link->used = used;
        link->used_at_ms = now;
    }
    return link->used_at_ms;
}

struct ninja_path *ninja_link_best_path(struct ninja_link *link)
{
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
        if (link->paths[i].state == NINJA_PATH_OPEN)
            return &link->paths[i];
    return &link->lifeline_path;
}

void ninja_link_switch(struct ninja_link *link, struct ninja_path *path)
{
    if (link->send_path == path)
        return;
    ninja_log(link->core, 1, "link to %" PRIx64 ": %s -> %s at sequence %" PRIu64, link->peer,
              link->send_path->fabric ? link->send_path->fabric->name : "lifeline",
              path->fabric ? path->fabric->name : "lifeline", link->data.next_sequence);
    link->send_path = path;
    path->since_ms = ninja_now_ms();
    link->counters.switches++;
    ninja_link_pump(link);
}

void ninja_link_pump(struct ninja_link *link)
{
    struct ninja_path *path;

    if (link->pumping)
        return;
    link->pumping = true;
    link->gathered = 0;
    link->gathered_bytes = 0;
    /* The path may change under way, when it fails. */
    do {
        path = link->send_path;
        path->transport->ops->path_pump(path);
    } while (path != link->send_path);
    if (path != &link->lifeline_path &&
        (link->control.cursor != NULL || link->control.acknowledge_now))
        link->core->lifeline->ops->path_pump(&link->lifeline_path);
    link->pumping = false;
}

/* --- What a path sends next
 * --------------------------------------------------------------------------------------- */

static unsigned counter_slot(const struct ninja_path *path)
{
    return path->fabric == NULL ? 0 : path->fabric->slot + 1;
}

/* The first frame of `channel` that waits to be handed over, or NULL. */
static struct ninja_frame *next_waiting(struct ninja_channel *channel)
{
    struct ninja_frame *frame = channel->cursor;

    while (frame != NULL && frame->handed)
        frame = frame->next;
    channel->cursor = frame != NULL ? frame->next : NULL;
    return frame;
}

/* Notes that the peer is told of all that we have. */
static uint64_t acknowledge(struct ninja_channel *channel)
{
    channel->acknowledged_sent = channel->received;
    channel->unacknowledged_bytes = 0;
    channel->acknowledge_now = false;
    return channel->received;
}

static struct ninja_frame *hand_over(struct ninja_path *path, struct ninja_channel *channel,
                                     struct ninja_frame *frame)
{
    struct ninja_link *link = path->link;
    unsigned slot = counter_slot(path);

    frame->handed = true;
    frame->in_transport++;
    frame->header.generation = path->generation;
    frame->header.acknowledged = acknowledge(channel);
    if (channel == &link->data && frame->header.sequence > path->last_sent)
        path->last_sent = frame->header.sequence;
    link->counters.frames_sent[slot]++;
    link->counters.bytes_sent[slot] += frame->header.length;
    return frame;
}

/* A frame that is not kept; NULL when memory is exhausted. */
static struct ninja_frame *unnumbered(struct ninja_path *path, enum ninja_frame_type type,
                                      uint64_t acknowledged, uint64_t cookie)
{
    struct ninja_frame *frame = ninja_frame_new(&path->link->core->pool, 0);

    if (frame == NULL)
        return NULL;
    frame->header.type = type;
    frame->header.generation = path->generation;
    frame->header.acknowledged = acknowledged;
    frame->header.cookie = cookie;
    frame->in_transport = 1;
    return frame;
}

/* Control frames, and what else only the lifeline carries. */
static struct ninja_frame *next_on_lifeline(struct ninja_path *path)
{
    struct ninja_link *link = path->link;
    struct ninja_frame *frame = next_waiting(&link->control);

    if (frame != NULL)
        return hand_over(path, &link->control, frame);
    if (link->control.acknowledge_now)
        return unnumbered(path, NINJA_FRAME_CONTROL_ACK, acknowledge(&link->control), 0);
    return NULL;
}

/* The handshake of a new path. */
static struct ninja_frame *next_of_handshake(struct ninja_path *path)
{
    if (path->probe_wanted) {
        path->probe_wanted = false;
        return unnumbered(path, NINJA_FRAME_PROBE, 0, path->nonce);
    }
    if (path->echo_wanted) {
        path->echo_wanted = false;
        return unnumbered(path, NINJA_FRAME_ECHO, 0, path->nonce);
    }
    return NULL;
}

struct ninja_frame *ninja_path_next(struct ninja_path *path)
{
    if (__builtin_expect(path->link->core->fault.on, false))
        return ninja_fault_next(path);
    return ninja_path_next_plain(path);
}

struct ninja_frame *ninja_path_next_plain(struct ninja_path *path)
{
    struct ninja_link *link = path->link;
    struct ninja_frame *frame;

    frame = path->fabric == NULL ? next_on_lifeline(path) : next_of_handshake(path);
    if (frame != NULL)
        return frame;
    if (link->send_path != path)
        return NULL;
    frame = next_waiting(&link->data);
    if (frame != NULL)
        return hand_over(path, &link->data, frame);
    if (link->data.acknowledge_now)
        return unnumbered(path, NINJA_FRAME_ACK, acknowledge(&link->data), 0);
    if (path->bye_wanted && path->fabric == NULL) {
        path->bye_wanted = false;
        return unnumbered(path, NINJA_FRAME_BYE, 0, 0);
    }
    return NULL;
}

void ninja_path_sent(struct ninja_path *path, struct ninja_frame *frame)
{
    frame->in_transport--;
    release_frame(path->link->core, frame);
}

/* --- Acknowledgement and replay
 * ----------------------------------------------------------------------------------- */

void ninja_link_acknowledged(struct ninja_link *link, struct ninja_channel *channel,
                             uint64_t sequence)
{
    struct ninja_core *core = link->core;

    if (sequence <= channel->acknowledged || sequence >= channel->next_sequence)
        return;
    channel->acknowledged = sequence;
    while (channel->head != NULL && channel->head->header.sequence <= sequence) {
        struct ninja_frame *frame = channel->head;

        channel->head = frame->next;
        if (channel->head == NULL)
            channel->tail = NULL;
        if (channel->cursor == frame)
            channel->cursor = frame->next;
        channel->retained_bytes -= ninja_frame_footprint(frame);
        if (frame->complete != NULL)
            (void)ninja_core_complete(core, frame->complete, frame->context, 0);
        frame->retained = false;
        release_frame(core, frame);
    }
    if (link->draining > 0 && channel == &link->data)
        for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
            ninja_path_check_drained(&link->paths[i]);
}

/* Everything of `channel` that went to `generation` waits again. */
static void rewind_channel(struct ninja_link *link, struct ninja_channel *channel,
                           uint32_t generation)
{
    bool found = false;

    for (struct ninja_frame *frame = channel->head; frame != NULL; frame = frame->next) {
        if (frame->handed && frame->header.generation == generation) {
            frame->handed = false;
            link->counters.replayed++;
        }
        if (!frame->handed && !found) {
            channel->cursor = frame;
            found = true;
        }
    }
}

void ninja_link_replay(struct ninja_link *link, struct ninja_path *path)
{
    rewind_channel(link, &link->data, path->generation);
    if (path->fabric == NULL)
        rewind_channel(link, &link->control, path->generation);
    /* The half-link may be on a path that has no other reason to send. */
    ninja_link_pump(link);
}
