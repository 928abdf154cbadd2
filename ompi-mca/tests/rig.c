/*
 * A core with one link whose transports are recorders.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "rig.h"

#include <errno.h>

struct rig *rig;

static void receive(struct ninja_link *link, uint8_t tag, const void *payload, size_t size)
{
    assert_in_range(size, 0, 1 << 20);
    assert_true(rig->received_count < RIG_FRAMES);
    memcpy(&rig->received[rig->received_count++], payload, sizeof(uint64_t));
}

static void lost(struct ninja_link *link, int error)
{
}

static void complete(void *context, int status)
{
    rig->completions++;
    rig->last_status = status;
}

static void pump(struct ninja_path *path)
{
    struct rig_transport *transport = (struct rig_transport *)path->transport;
    struct ninja_frame *frame;

    while (!transport->blocked && transport->count < RIG_FRAMES &&
           (frame = ninja_path_next(path)) != NULL) {
        transport->sent_path[transport->count] = path;
        transport->sent[transport->count++] = frame;
    }
}

static int path_prepare(struct ninja_path *path, void *address, size_t *size)
{
    struct rig_transport *transport = (struct rig_transport *)path->transport;

    if (transport->refuse_prepare)
        return -ENOMEM;
    transport->prepared++;
    memset(address, 0, 4);
    *size = 4;
    return 0;
}

static void path_forget(struct ninja_path *path)
{
    ((struct rig_transport *)path->transport)->prepared--;
}

static int path_open(struct ninja_path *path, const void *address, size_t size, bool initiator)
{
    struct rig_transport *transport = (struct rig_transport *)path->transport;

    if (transport->refuse_open)
        return -EIO;
    transport->prepared--;
    transport->opened++;
    return 0;
}

static void path_close(struct ninja_path *path)
{
    struct rig_transport *transport = (struct rig_transport *)path->transport;

    transport->closed++;
    if (!transport->slow_close)
        ninja_path_closed(path);
}

static int progress(struct ninja_transport *transport)
{
    ((struct rig_transport *)transport)->looks++;
    return 0;
}

static void transport_close(struct ninja_transport *transport)
{
}

static const struct ninja_transport_ops recorder = {
    .name = "recorder",
    .gather_max = 32,
    .landing_can_cancel = true,
    .close = transport_close,
    .path_prepare = path_prepare,
    .path_forget = path_forget,
    .path_open = path_open,
    .path_pump = pump,
    .path_close = path_close,
    .progress = progress,
};

static void init_transport(struct rig_transport *transport)
{
    transport->base.ops = &recorder;
    transport->base.core = rig->core;
    transport->base.event_fd = -1;
}

void rig_create(uint64_t id)
{
    static const struct ninja_callbacks callbacks = {.receive = receive, .lost = lost};
    struct ninja_config config;
    char why[256];

    rig = calloc(1, sizeof(*rig));
    ninja_config_default(&config);
    config.lifeline = "lo";
    config.tuning = &rig->tuning;
    ninja_tuning_default(&rig->tuning);
    rig->tuning.verbose = -1; /* tests provoke errors on purpose */
    rig->tuning.retain_low = 10000;
    rig->tuning.retain_high = 20000;
    rig->tuning.inbox_limit = 5000;
    assert_int_equal(
        ninja_core_create(&rig->core, &config, &callbacks, id, "test.0", why, sizeof(why)), 0);
    init_transport(&rig->lifeline);
    init_transport(&rig->device);
    rig->real_lifeline = rig->core->lifeline;
    rig->core->lifeline = &rig->lifeline.base;
    rig->core->active[0] = &rig->lifeline.base;
    rig->fabric = ninja_fabric_add(rig->core, "fast", NULL, &recorder, "");
    rig->fabric->transport = &rig->device.base;
    rig->fabric->state = NINJA_FABRIC_UP;
    rig->link = ninja_link_find(rig->core, 100, true);
    rig->path = &rig->link->paths[rig->fabric->slot];
    rig_give_back(&rig->lifeline);
}

void rig_destroy(void)
{
    rig_give_back(&rig->lifeline);
    rig_give_back(&rig->device);
    while (rig->core->links != NULL)
        ninja_link_destroy(rig->core->links);
    rig->fabric->transport = NULL;
    rig->core->lifeline = rig->real_lifeline;
    rig->core->active[0] = rig->real_lifeline;
    ninja_core_destroy(rig->core);
    free(rig);
    rig = NULL;
}

void rig_give_back(struct rig_transport *transport)
{
    for (unsigned i = 0; i < transport->count; i++)
        ninja_path_sent(transport->sent_path[i], transport->sent[i]);
    transport->count = 0;
}

void rig_arrive(struct ninja_path *path, uint64_t sequence)
{
    struct ninja_frame_header header = {
        .magic = NINJA_FRAME_MAGIC,
        .type = NINJA_FRAME_DATA,
        .length = sizeof(sequence),
        .sequence = sequence,
    };

    ninja_path_received(path, &header, &sequence);
}

bool rig_send(size_t size)
{
    struct ninja_frame *frame = ninja_core_frame_new(rig->core, size);

    frame->inline_length = (uint32_t)size;
    memset(frame->data, 7, size);
    return ninja_core_send(rig->link, frame, 1, complete, NULL);
}

unsigned rig_messages(enum ninja_path_message_type type)
{
    unsigned found = 0;

    for (unsigned i = 0; i < rig->lifeline.count; i++) {
        const struct ninja_frame *frame = rig->lifeline.sent[i];
        struct ninja_path_message message;

        if (frame->header.type != NINJA_FRAME_CONTROL)
            continue;
        memcpy(&message, frame->data, sizeof(message));
        found += message.type == type;
    }
    return found;
}

int rig_setup(void **state)
{
    rig_create(1);
    return 0;
}

int rig_teardown(void **state)
{
    rig_destroy();
    return 0;
}
