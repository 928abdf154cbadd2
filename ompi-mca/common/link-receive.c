/*
 * Links, receiving half: order, duplicates, and where data lands.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "get.h"
#include "lifeline.h"
#include "link.h"

/* So much may arrive before an ACK frame of its own is sent; acknowledgements travel with other
 * frames before. */
#define ACKNOWLEDGE_FRAMES 128
#define ACKNOWLEDGE_BYTES  (256U * 1024U)
/* After so long without anything new, the rest is acknowledged too. */
#define ACKNOWLEDGE_MS 50

/* --- Acknowledging
 * ------------------------------------------------------------------------------------------------
 */

void ninja_link_acknowledge_soon(struct ninja_link *link, struct ninja_channel *channel, bool now)
{
    if (!now && channel->received - channel->acknowledged_sent < ACKNOWLEDGE_FRAMES &&
        channel->unacknowledged_bytes < ACKNOWLEDGE_BYTES)
        return;
    channel->acknowledge_now = true;
    ninja_link_pump_later(link);
}

static uint64_t tick_channel(struct ninja_link *link, struct ninja_channel *channel, uint64_t now)
{
    if (channel->received == channel->acknowledged_sent)
        return 0;
    if (channel->idle_received != channel->received) {
        channel->idle_received = channel->received;
        channel->acknowledge_at_ms = now + ACKNOWLEDGE_MS;
    } else if (now >= channel->acknowledge_at_ms) {
        ninja_link_acknowledge_soon(link, channel, true);
        ninja_link_pump(link);
        return 0;
    }
    return channel->acknowledge_at_ms;
}

uint64_t ninja_link_acknowledge_tick(struct ninja_link *link, uint64_t now)
{
    uint64_t data = tick_channel(link, &link->data, now);
    uint64_t control = tick_channel(link, &link->control, now);

    return data == 0 || (control != 0 && control < data) ? control : data;
}

/* --- Landings
 * -----------------------------------------------------------------------------------------------------
 */

/* A path of `link`, other than `path`, that is writing the data of frame `sequence` to its place
 * right now. */
static struct ninja_path *landing_elsewhere(struct ninja_link *link, const struct ninja_path *path,
                                            uint64_t sequence)
{
    struct ninja_path *all[NINJA_FABRICS_MAX + 1] = {&link->lifeline_path};

    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
        all[i + 1] = &link->paths[i];
    for (unsigned i = 0; i < NINJA_FABRICS_MAX + 1; i++)
        if (all[i] != path && all[i]->landing_active && !all[i]->landing_cancelled &&
            all[i]->landing_sequence == sequence)
            return all[i];
    return NULL;
}

/* The early frame with number `sequence`, or NULL. */
static struct ninja_early_frame *find_early(const struct ninja_channel *channel, uint64_t sequence)
{
    struct ninja_early_frame *early = channel->early;

    if (early == NULL || channel->early_tail->header.sequence < sequence)
        return NULL; /* most often: there may be very many */
    while (early != NULL && early->header.sequence < sequence)
        early = early->next;
    return early != NULL && early->header.sequence == sequence ? early : NULL;
}

static bool is_duplicate(const struct ninja_channel *channel, uint64_t sequence)
{
    return sequence <= channel->received || find_early(channel, sequence) != NULL;
}

enum ninja_landing ninja_path_landing(struct ninja_path *path,
                                      const struct ninja_frame_header *header, void **where)
{
    struct ninja_link *link = path->link;
    struct ninja_core *core = link->core;
    struct ninja_path *other;

    if (header->type == NINJA_FRAME_DATA && core->control_progress &&
        link->inbox_bytes > core->config.tuning->inbox_limit) {
        core->inbox_full = true;
        return NINJA_LANDING_WAIT;
    }
    if (header->type != NINJA_FRAME_GET_DATA)
        return NINJA_LANDING_COPY;
    if (is_duplicate(&link->data, header->sequence)) {
        link->counters.duplicates++;
        ninja_link_acknowledged(link, &link->data, header->acknowledged);
        ninja_link_acknowledge_soon(link, &link->data, true);
        return NINJA_LANDING_DISCARD;
    }
    *where = ninja_get_place(link, header);
    if (*where == NULL) {
        ninja_log(core, 0, "rank %" PRIx64 " sent data that nobody asked for (frame %" PRIu64 ")",
                  link->peer, header->sequence);
        return NINJA_LANDING_COPY;
    }
    other = landing_elsewhere(link, path, header->sequence);
    if (other != NULL) {
        /* Two writers of one buffer: the first must be stopped, or else waited for. */
        if (!other->transport->ops->landing_can_cancel)
            return NINJA_LANDING_COPY;
        other->landing_cancelled = true;
    }
    path->landing_active = true;
    path->landing_cancelled = false;
    path->landing_sequence = header->sequence;
    return NINJA_LANDING_PLACE;
}

/* --- Accepting in order
 * ------------------------------------------------------------------------------------------- */

/* Frame `header` is the next one; `payload` is NULL if it is at its place already. */
static void accept_frame(struct ninja_link *link, struct ninja_channel *channel,
                         const struct ninja_frame_header *header, const void *payload)
{
    struct ninja_core *core = link->core;

    channel->received = header->sequence;
    channel->unacknowledged_bytes += header->length;
    ninja_link_acknowledge_soon(link, channel, (header->flags & NINJA_FRAME_ACK_NOW) != 0);
    ninja_core_watch_over(core);
    switch (header->type) {
    case NINJA_FRAME_DATA:
        ninja_core_deliver(link, header->tag, payload, header->length);
        break;
    case NINJA_FRAME_GET_REQUEST:
        ninja_get_answer(link, header, payload);
        break;
    case NINJA_FRAME_GET_DATA:
        if (payload != NULL) {
            unsigned char *place = ninja_get_place(link, header);

            if (place == NULL)
                break;
            memcpy(place, payload, header->length);
        }
        ninja_get_advance(link, header);
        break;
    case NINJA_FRAME_CONTROL:
        ninja_path_message_received(link, payload, header->length);
        break;
    default:
        break;
    }
}

/* Accepts the early frames whose turn has come. */
static void accept_early(struct ninja_link *link, struct ninja_channel *channel)
{
    if (channel->early == NULL)
        return;
    while (channel->early != NULL && channel->early->header.sequence == channel->received + 1) {
        struct ninja_early_frame *early = channel->early;

        if (!early->placed && early->header.type == NINJA_FRAME_GET_DATA &&
            landing_elsewhere(link, NULL, early->header.sequence) != NULL)
            return; /* another path still writes there */
        channel->early = early->next;
        if (channel->early == NULL)
            channel->early_tail = NULL;
        channel->early_bytes -= early->footprint;
        accept_frame(link, channel, &early->header, early->placed ? NULL : early->payload);
        free(early);
    }
    if (channel->early == NULL && channel == &link->data && link->gap_since_us != 0) {
        ninja_stall_note(link->core, link->gap_since_us);
        link->gap_since_us = 0;
    }
}

/*
 * Keeps a frame whose turn has not come. There is no limit: the path on which an earlier one is
 * under way may be much slower than this one, and what the peer has under way is bounded by its
 * own memory.
 */
static void keep_early(struct ninja_link *link, struct ninja_channel *channel,
                       const struct ninja_frame_header *header, const void *payload)
{
    struct ninja_early_frame **at = &channel->early;
    size_t size = payload != NULL ? header->length : 0;
    struct ninja_early_frame *early = malloc(sizeof(*early) + size);

    if (early == NULL) {
        ninja_log(link->core, 0, "out of memory for frames that arrive early from rank %" PRIx64,
                  link->peer);
        abort(); /* a frame dropped here would not be sent again on a healthy path */
    }
    if (channel->early == NULL && channel == &link->data)
        link->gap_since_us = ninja_now_us();
    early->header = *header;
    early->placed = payload == NULL;
    if (size > 0)
        memcpy(early->payload, payload, size);
    early->footprint = (uint32_t)(sizeof(*early) + size);
    channel->early_bytes += early->footprint;
    if (channel->early_tail != NULL && channel->early_tail->header.sequence < header->sequence)
        at = &channel->early_tail->next;
    while (*at != NULL && (*at)->header.sequence < header->sequence)
        at = &(*at)->next;
    early->next = *at;
    *at = early;
    if (early->next == NULL)
        channel->early_tail = early;
}

static void check_drained(struct ninja_link *link)
{
    if (link->draining == 0)
        return;
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
        ninja_path_check_drained(&link->paths[i]);
}

/* A numbered frame; `payload` is NULL if it is at its place already. */
static void receive_numbered(struct ninja_path *path, struct ninja_channel *channel,
                             const struct ninja_frame_header *header, const void *payload)
{
    struct ninja_link *link = path->link;

    ninja_link_acknowledged(link, channel, header->acknowledged);
    if (is_duplicate(channel, header->sequence)) {
        link->counters.duplicates++;
        ninja_link_acknowledge_soon(link, channel, true);
        return;
    }
    if (header->sequence != channel->received + 1 ||
        (payload != NULL && header->type == NINJA_FRAME_GET_DATA &&
         landing_elsewhere(link, path, header->sequence) != NULL)) {
        keep_early(link, channel, header, payload);
        return;
    }
    accept_frame(link, channel, header, payload);
    accept_early(link, channel);
    check_drained(link);
}

static void count_received(struct ninja_path *path, const struct ninja_frame_header *header)
{
    unsigned slot = path->fabric == NULL ? 0 : path->fabric->slot + 1;

    path->link->counters.frames_received[slot]++;
    path->link->counters.bytes_received[slot] += header->length;
}

void ninja_path_received(struct ninja_path *path, const struct ninja_frame_header *header,
                         const void *payload)
{
    struct ninja_link *link = path->link;

    count_received(path, header);
    switch (header->type) {
    case NINJA_FRAME_ACK:
        ninja_link_acknowledged(link, &link->data, header->acknowledged);
        break;
    case NINJA_FRAME_CONTROL_ACK:
        ninja_link_acknowledged(link, &link->control, header->acknowledged);
        break;
    case NINJA_FRAME_PROBE:
        if (path->fabric != NULL && header->cookie == path->nonce)
            ninja_path_handle(path, NINJA_PATH_PROBE);
        break;
    case NINJA_FRAME_ECHO:
        if (path->fabric != NULL && header->cookie == path->nonce)
            ninja_path_handle(path, NINJA_PATH_ECHO);
        break;
    case NINJA_FRAME_BYE:
        ninja_lifeline_peer_gone(link);
        break;
    case NINJA_FRAME_CONTROL:
        receive_numbered(path, &link->control, header, payload != NULL ? payload : "");
        break;
    default:
        /* NULL would say that it is at its place; an empty message is not. */
        receive_numbered(path, &link->data, header, payload != NULL ? payload : "");
        break;
    }
}

void ninja_path_placed(struct ninja_path *path, const struct ninja_frame_header *header)
{
    struct ninja_link *link = path->link;
    struct ninja_early_frame *early;
    bool cancelled = path->landing_cancelled;

    path->landing_active = false;
    path->landing_cancelled = false;
    if (cancelled)
        return;
    count_received(path, header);
    early = find_early(&link->data, header->sequence);
    if (early != NULL) {
        /* A copy of this frame came by another path and waited for us. */
        early->placed = true;
        accept_early(link, &link->data);
        check_drained(link);
        return;
    }
    receive_numbered(path, &link->data, header, NULL);
}

void ninja_link_landing_ended(struct ninja_link *link, struct ninja_path *path)
{
    if (!path->landing_active)
        return;
    path->landing_active = false;
    path->landing_cancelled = false;
    accept_early(link, &link->data);
    check_drained(link);
}
