/*
 * For tests of a transport alone: the core that it talks to.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "transport-fixture.h"

const struct ninja_transport_ops *transport_ops;

static struct end *end_of(const struct ninja_path *path)
{
    return path->link->user;
}

/* --- What the transport calls ---------------------------------------------------------------- */

uint64_t ninja_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void ninja_log(const struct ninja_core *core, int level, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    printf("# end %u: ", (unsigned)core->id);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
}

void ninja_core_forget_released(struct ninja_core *core)
{
}

/* Byte `position` of the payload of frame `sequence`. */
static unsigned char pattern(uint64_t sequence, size_t position)
{
    return (unsigned char)(sequence * 37 + position * 11 + (position >> 8));
}

static bool is_intact(uint64_t sequence, const unsigned char *payload, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (payload[i] != pattern(sequence, i))
            return false;
    return true;
}

struct ninja_frame *ninja_path_next(struct ninja_path *path)
{
    struct end *end = end_of(path);
    struct ninja_frame *frame;

    if (end->taken == end->queued)
        return NULL;
    frame = end->queue[end->taken++];
    frame->in_transport++;
    frame->header.generation = path->generation;
    return frame;
}

void ninja_path_sent(struct ninja_path *path, struct ninja_frame *frame)
{
    assert_int_equal(frame->in_transport, 1);
    frame->in_transport--;
    end_of(path)->returned++;
}

enum ninja_landing ninja_path_landing(struct ninja_path *path,
                                      const struct ninja_frame_header *header, void **where)
{
    struct end *end = end_of(path);

    if (header->type >= NINJA_FRAME_ACK)
        return NINJA_LANDING_COPY;
    if (end->force == NINJA_LANDING_WAIT) {
        end->asked++;
        return NINJA_LANDING_WAIT;
    }
    if (end->force == NINJA_LANDING_DISCARD) {
        end->arrivals++;
        return NINJA_LANDING_DISCARD;
    }
    if (header->type != NINJA_FRAME_GET_DATA)
        return NINJA_LANDING_COPY;
    end->landings_overlapped += end->landing_active;
    end->landing_active = true;
    *where = end->landing + header->offset;
    return NINJA_LANDING_PLACE;
}

/* Notes that `header`'s frame is here, with its payload at `payload`. */
static void note(struct end *end, const struct ninja_frame_header *header, const void *payload)
{
    uint64_t sequence = header->sequence;

    assert_in_range(sequence, 1, FRAMES_MAX);
    end->duplicates += end->arrived[sequence];
    end->disordered += sequence != end->last_arrived + 1;
    end->last_arrived = sequence;
    end->arrived[sequence] = true;
    end->arrivals++;
    end->corrupt += !is_intact(sequence, payload, header->length);
}

void ninja_path_received(struct ninja_path *path, const struct ninja_frame_header *header,
                         const void *payload)
{
    note(end_of(path), header, payload);
}

void ninja_path_placed(struct ninja_path *path, const struct ninja_frame_header *header)
{
    struct end *end = end_of(path);

    end->landing_active = false;
    end->placed++;
    note(end, header, end->landing + header->offset);
}

/* The tests of gets have a core (test-verbs-get.c). */
void ninja_path_got(struct ninja_path *path, uint64_t cookie, size_t length)
{
    fail();
}

void ninja_path_failed(struct ninja_path *path, int error, const char *why)
{
    struct end *end = end_of(path);

    printf("# end %u: path failed: %s\n", (unsigned)end->core.id, why);
    end->failed = error;
    path->transport->ops->path_close(path);
}

void ninja_core_wake_control(struct ninja_core *core)
{
}

void ninja_transport_lost(struct ninja_transport *transport, const char *why)
{
    printf("# end %u: device lost: %s\n", (unsigned)transport->core->id, why);
}

void ninja_path_closed(struct ninja_path *path)
{
    struct end *end = end_of(path);

    assert_false(end->closed);
    assert_null(path->transport_data);
    end->closed = true;
    end->landing_active = false;
    path->transport = NULL;
}

/* --- What tests call ------------------------------------------------------------------------- */

static void end_open(struct end *end, uint64_t id, const char *device)
{
    char why[256] = "";
    int rc;

    memset(end, 0, sizeof(*end));
    end->core.id = id;
    end->link.core = &end->core;
    end->link.peer = 3 - id;
    end->link.user = end;
    end->path.link = &end->link;
    end->landing = malloc(LANDING_SIZE);
    assert_non_null(end->landing);
    rc = transport_ops->open(&end->core, device, &end->transport, why, sizeof(why));
    if (rc != 0)
        fail_msg("open %s: %s (%s)", device, why, strerror(-rc));
}

void ends_open(struct end ends[2], const char *device)
{
    end_open(&ends[0], 1, device);
    end_open(&ends[1], 2, device);
}

void ends_close(struct end ends[2])
{
    for (int i = 0; i < 2; i++) {
        frames_reset(&ends[i]);
        free(ends[i].landing);
        transport_ops->close(ends[i].transport);
    }
}

void path_prepare_one(struct end *end)
{
    end->path.transport = end->transport;
    end->path.transport_data = NULL;
    assert_int_equal(transport_ops->path_prepare(&end->path, end->address, &end->address_size), 0);
}

void path_forget_one(struct end *end)
{
    transport_ops->path_forget(&end->path);
    end->path.transport = NULL;
}

int path_open_one(struct end *end, struct end *peer, uint32_t generation, bool initiator)
{
    int rc;

    end->closed = false;
    end->failed = 0;
    end->path.generation = generation;
    end->path.nonce = UINT64_C(0x1234567800000000) + generation;
    rc = transport_ops->path_open(&end->path, peer->address, peer->address_size, initiator);
    if (rc != 0)
        path_forget_one(end);
    return rc;
}

void paths_open(struct end ends[2])
{
    static uint32_t generation;

    generation++;
    path_prepare_one(&ends[0]);
    path_prepare_one(&ends[1]);
    assert_int_equal(path_open_one(&ends[1], &ends[0], generation, false), 0);
    assert_int_equal(path_open_one(&ends[0], &ends[1], generation, true), 0);
}

void path_close_one(struct end ends[2], struct end *end)
{
    if (end->path.transport != NULL)
        transport_ops->path_close(&end->path);
    WAIT_FOR(ends, end->closed);
}

uint64_t frame_queue(struct end *end, enum ninja_frame_type type, uint32_t inline_length,
                     uint32_t place_length)
{
    uint64_t sequence = end->queued + 1;
    struct ninja_frame *frame;
    unsigned char *place = NULL;

    assert_true(end->queued < FRAMES_MAX);
    frame = ninja_frame_new(&end->core.pool, inline_length);
    assert_non_null(frame);
    frame->header.type = type;
    frame->header.sequence = sequence;
    frame->header.length = inline_length + place_length;
    /* Landings of frames that follow each other do not overlap. */
    frame->header.offset = sequence % 7 * NINJA_FRAME_PAYLOAD_MAX;
    frame->inline_length = inline_length;
    frame->place_length = place_length;
    for (uint32_t i = 0; i < inline_length; i++)
        frame->data[i] = pattern(sequence, i);
    if (place_length > 0) {
        place = malloc(place_length);
        assert_non_null(place);
        for (uint32_t i = 0; i < place_length; i++)
            place[i] = pattern(sequence, inline_length + i);
    }
    frame->place = place;
    end->queue[end->queued++] = frame;
    return sequence;
}

void frames_reset(struct end *end)
{
    assert_int_equal(end->taken, end->returned);
    for (unsigned i = 0; i < end->queued; i++) {
        assert_int_equal(end->queue[i]->in_transport, 0);
        free((void *)(uintptr_t)end->queue[i]->place);
        ninja_frame_free(&end->core.pool, end->queue[i]);
    }
    ninja_frame_pool_destroy(&end->core.pool);
    end->queued = end->taken = end->returned = 0;
    memset(end->arrived, 0, sizeof(end->arrived));
    end->arrivals = end->disordered = end->corrupt = end->duplicates = 0;
    end->landings_overlapped = end->placed = end->asked = 0;
    end->last_arrived = 0;
    end->force = NINJA_LANDING_COPY;
}

void pump(struct end *end)
{
    if (end->path.transport != NULL)
        transport_ops->path_pump(&end->path);
}

void turn(struct end ends[2])
{
    for (int i = 0; i < 2; i++) {
        pump(&ends[i]);
        (void)transport_ops->progress(ends[i].transport);
    }
}
