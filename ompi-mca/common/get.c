/*
 * Gets: by request, and by the transport itself from memory that the peer exposed.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "get.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "link.h"

/* --- The table of gets ----------------------------------------------------------------------- */

/* A cookie names the slot in its lower 20 bits and this use of it above. */
#define COOKIE_SLOT_BITS 20
#define GETS_MAX         (1U << COOKIE_SLOT_BITS)

static struct ninja_get *find_get(struct ninja_core *core, uint64_t cookie)
{
    size_t slot = cookie & (GETS_MAX - 1);

    return slot < core->get_count && core->gets[slot].cookie == cookie && cookie != 0
               ? &core->gets[slot]
               : NULL;
}

static int grow_gets(struct ninja_core *core)
{
    size_t count = core->get_count == 0 ? 64 : core->get_count * 2;
    struct ninja_get *gets;

    if (count > GETS_MAX)
        return -ENOMEM;
    gets = realloc(core->gets, count * sizeof(*gets));
    if (gets == NULL)
        return -ENOMEM;
    core->gets = gets;
    for (size_t i = core->get_count; i < count; i++) {
        gets[i].cookie = 0;
        gets[i].next_free = i + 1 < count ? (uint32_t)i + 2 : core->get_free;
    }
    core->get_free = (uint32_t)core->get_count + 1;
    core->get_count = count;
    return 0;
}

static struct ninja_get *new_get(struct ninja_link *link)
{
    struct ninja_core *core = link->core;
    struct ninja_get *get;

    if (core->get_free == 0 && grow_gets(core) != 0)
        return NULL;
    get = &core->gets[core->get_free - 1];
    core->get_free = get->next_free;
    get->cookie = (++core->get_serial << COOKIE_SLOT_BITS) | (uint64_t)(get - core->gets);
    get->link = link;
    get->done = 0;
    link->gets_waiting++;
    return get;
}

static void free_get(struct ninja_core *core, struct ninja_get *get)
{
    get->cookie = 0;
    get->link->gets_waiting--;
    get->next_free = core->get_free;
    core->get_free = (uint32_t)(get - core->gets) + 1;
}

static void finish(struct ninja_core *core, struct ninja_get *get)
{
    (void)ninja_core_complete(core, get->complete, get->context, 0);
    free_get(core, get);
}

/* --- By request ------------------------------------------------------------------------------ */

/* Asks the peer for all that `get` still needs. Returns 0 or -ENOMEM. */
static int request(const struct ninja_get *get)
{
    struct ninja_link *link = get->link;
    struct ninja_frame *frame = ninja_frame_new(&link->core->pool, sizeof(get->remote));

    if (frame == NULL)
        return -ENOMEM;
    frame->header.type = NINJA_FRAME_GET_REQUEST;
    frame->header.cookie = get->cookie;
    frame->header.offset = get->length;
    frame->inline_length = sizeof(get->remote);
    memcpy(frame->data, &get->remote, sizeof(get->remote));
    ninja_link_send(link, frame, NULL, NULL);
    return 0;
}

/* The data goes straight from the user's buffer, which ob1 keeps until the peer's FIN. */
void ninja_get_answer(struct ninja_link *link, const struct ninja_frame_header *header,
                      const void *payload)
{
    uint64_t remote;

    if (header->length != sizeof(remote)) {
        ninja_log(link->core, 0, "rank %" PRIx64 " sent a malformed get; ignored", link->peer);
        return;
    }
    memcpy(&remote, payload, sizeof(remote));
    for (uint64_t offset = 0; offset < header->offset;) {
        uint64_t left = header->offset - offset;
        uint32_t length = left < NINJA_FRAME_PAYLOAD_MAX ? (uint32_t)left : NINJA_FRAME_PAYLOAD_MAX;
        struct ninja_frame *frame = ninja_frame_new(&link->core->pool, 0);

        if (frame == NULL) {
            ninja_log(link->core, 0, "out of memory while answering a get of rank %" PRIx64,
                      link->peer);
            abort(); /* the peer would wait for ever */
        }
        frame->header.type = NINJA_FRAME_GET_DATA;
        frame->header.cookie = header->cookie;
        frame->header.offset = offset;
        frame->place = (const unsigned char *)(uintptr_t)remote + offset;
        frame->place_length = length;
        ninja_link_send(link, frame, NULL, NULL);
        offset += length;
    }
}

unsigned char *ninja_get_place(struct ninja_link *link, const struct ninja_frame_header *header)
{
    struct ninja_get *get = find_get(link->core, header->cookie);

    if (get == NULL || get->link != link || header->offset > get->length ||
        header->length > get->length - header->offset)
        return NULL;
    return get->local + header->offset;
}

void ninja_get_advance(struct ninja_link *link, const struct ninja_frame_header *header)
{
    struct ninja_get *get = find_get(link->core, header->cookie);

    if (get == NULL || get->link != link)
        return;
    get->done += header->length;
    if (get->done >= get->length)
        finish(link->core, get);
}

/* --- By the transport itself ----------------------------------------------------------------- */

static bool begin_read(struct ninja_link *link, const struct ninja_get *get,
                       const struct ninja_key *key)
{
    struct ninja_path *path = link->send_path;

    if (key == NULL || key->instance == 0 || path->transport->ops->path_get == NULL)
        return false;
    /* It may be over before the call returns. */
    path->gets++;
    if (path->transport->ops->path_get(path, get->cookie, key, get->local, get->remote,
                                       get->length))
        return true;
    path->gets--;
    return false;
}

void ninja_path_got(struct ninja_path *path, uint64_t cookie, size_t length)
{
    struct ninja_link *link = path->link;
    struct ninja_get *get = find_get(link->core, cookie);

    link->counters.bytes_received[path->fabric->slot + 1] += length;
    link->counters.reads += length > 0;
    if (get != NULL && length == get->length) {
        finish(link->core, get);
    } else if (get != NULL) {
        get->local += length;
        get->remote += length;
        get->length -= length;
        if (request(get) != 0) {
            ninja_log(link->core, 0, "out of memory while a get goes on by another path");
            abort(); /* it would wait for ever */
        }
    }
    ninja_path_get_ended(path);
}

int ninja_link_get(struct ninja_link *link, const struct ninja_key *key, void *local,
                   uint64_t remote, size_t length, ninja_complete_fn complete, void *context)
{
    struct ninja_core *core = link->core;
    struct ninja_get *get;

    if (length == 0) /* nothing would be sent, and so nothing would complete it */
        return ninja_core_complete(core, complete, context, 0);
    get = new_get(link);
    if (get == NULL)
        return -ENOMEM;
    get->local = local;
    get->remote = remote;
    get->length = length;
    get->complete = complete;
    get->context = context;
    if (begin_read(link, get, key) || request(get) == 0)
        return 0;
    free_get(core, get);
    return -ENOMEM;
}

/* --- Exposures ------------------------------------------------------------------------------- */

void ninja_exposure_begin(struct ninja_link *link, const void *at, size_t length,
                          struct ninja_exposure *exposure)
{
    struct ninja_transport *transport = link->send_path->transport;

    *exposure = (struct ninja_exposure){.transport = NULL, .length = length};
    if (transport->ops->expose == NULL || !transport->ops->expose(transport, at, exposure))
        return;
    exposure->transport = transport;
    LIST_INSERT_HEAD(&link->core->exposures, exposure, of_core);
}

void ninja_exposure_end(struct ninja_exposure *exposure)
{
    if (exposure->transport == NULL)
        return;
    exposure->transport->ops->conceal(exposure->transport, exposure);
    exposure->transport = NULL;
    LIST_REMOVE(exposure, of_core);
}

void ninja_exposures_end(struct ninja_core *core, struct ninja_transport *transport)
{
    struct ninja_exposure *next;

    for (struct ninja_exposure *exposure = LIST_FIRST(&core->exposures); exposure != NULL;
         exposure = next) {
        next = LIST_NEXT(exposure, of_core);
        if (exposure->transport == transport)
            ninja_exposure_end(exposure);
    }
}
