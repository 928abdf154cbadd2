/*
 * The tcp transport: a fabric over TCP on an interface of its own, one connection a path.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "tcp.h"

/* path->transport_data is the path's stream; NULL until the initiator's connection is there. */
static struct ninja_tcp *tcp_of(struct ninja_transport *transport)
{
    return (struct ninja_tcp *)transport;
}

/* The path of `tcp` that `hello` is meant for, or NULL. */
static struct ninja_path *find_path(struct ninja_tcp *tcp, const struct ninja_tcp_greeting *hello)
{
    struct ninja_core *core = tcp->transport.core;
    struct ninja_link *link;

    if (hello->receiver != core->id || hello->receiver_nonce != core->nonce)
        return NULL;
    link = ninja_link_find(core, hello->sender, false);
    for (unsigned i = 0; link != NULL && i < NINJA_FABRICS_MAX; i++) {
        struct ninja_path *path = &link->paths[i];

        if (path->transport == &tcp->transport && path->state == NINJA_PATH_ACCEPTED &&
            path->generation == hello->generation && path->nonce == hello->path_nonce)
            return path;
    }
    return NULL;
}

static struct ninja_path *on_hello(struct ninja_tcp *tcp, struct ninja_tcp_stream *stream,
                                   const struct ninja_tcp_greeting *hello,
                                   struct ninja_tcp_greeting *answer)
{
    struct ninja_path *path = find_path(tcp, hello);

    ninja_tcp_greeting_init(answer, path != NULL ? NINJA_TCP_WELCOME : NINJA_TCP_REJECT,
                            tcp->transport.core, hello->sender);
    if (path == NULL || path->transport_data != NULL)
        return NULL;
    path->transport_data = stream;
    return path;
}

static bool on_answered(struct ninja_tcp_stream *stream, const struct ninja_tcp_greeting *answer)
{
    if (ninja_tcp_stream_established(stream))
        return true;
    ninja_path_failed(ninja_tcp_stream_path(stream), -ECONNREFUSED,
                      "the peer rejected the connection");
    return false;
}

static void on_broken(struct ninja_tcp_stream *stream, int error)
{
    ninja_path_failed(ninja_tcp_stream_path(stream), error, "connection broken");
}

static const struct ninja_tcp_callbacks callbacks = {
    .hello = on_hello,
    .answered = on_answered,
    .broken = on_broken,
};

static int tcp_open(struct ninja_core *core, const char *device, struct ninja_transport **transport,
                    char *why, size_t why_size)
{
    struct ninja_tcp *tcp = calloc(1, sizeof(*tcp));
    union ninja_tcp_address address;
    int rc;

    if (tcp == NULL)
        return -ENOMEM;
    tcp->transport.ops = &ninja_transport_tcp;
    tcp->transport.core = core;
    rc = ninja_tcp_choose_address(device, &address, why, why_size);
    if (rc == 0) {
        rc = ninja_tcp_listen(tcp, &address, &callbacks);
        if (rc != 0)
            snprintf(why, why_size, "cannot listen on '%s': %s", device, strerror(-rc));
    }
    if (rc != 0) {
        free(tcp);
        return rc;
    }
    *transport = &tcp->transport;
    return 0;
}

static void tcp_close(struct ninja_transport *transport)
{
    ninja_tcp_shutdown(tcp_of(transport));
    free(transport);
}

/* What an offer carries: where we listen, and the secret to be shown there. */
struct offer {
    union ninja_tcp_address address;
    uint64_t nonce;
};

static int tcp_path_prepare(struct ninja_path *path, void *address, size_t *size)
{
    struct offer offer;

    memset(&offer, 0, sizeof(offer));
    offer.address = tcp_of(path->transport)->address;
    offer.nonce = path->link->core->nonce;
    memcpy(address, &offer, sizeof(offer));
    *size = sizeof(offer);
    return 0;
}

static void tcp_path_forget(struct ninja_path *path)
{
    path->transport_data = NULL;
}

static int tcp_path_open(struct ninja_path *path, const void *address, size_t size, bool initiator)
{
    struct ninja_tcp_greeting hello;
    struct offer offer;
    int error = 0;

    if (size != sizeof(offer))
        return -EPROTO;
    path->transport_data = NULL;
    if (!initiator)
        return 0;
    memcpy(&offer, address, sizeof(offer));
    ninja_tcp_greeting_init(&hello, NINJA_TCP_HELLO, path->link->core, path->link->peer);
    hello.receiver_nonce = offer.nonce;
    hello.generation = path->generation;
    hello.path_nonce = path->nonce;
    path->transport_data =
        ninja_tcp_connect(tcp_of(path->transport), path, &offer.address, &hello, &error);
    return path->transport_data != NULL ? 0 : error;
}

static void tcp_path_pump(struct ninja_path *path)
{
    if (path->transport_data != NULL)
        ninja_tcp_stream_pump(path->transport_data);
}

static void tcp_path_close(struct ninja_path *path)
{
    ninja_tcp_stream_close(path->transport_data);
    path->transport_data = NULL;
    ninja_path_closed(path);
}

static int tcp_progress(struct ninja_transport *transport)
{
    return ninja_tcp_progress(tcp_of(transport));
}

static uint64_t tcp_tick(struct ninja_transport *transport, uint64_t now)
{
    ninja_tcp_tick(tcp_of(transport), now);
    return ninja_tcp_end_vain(tcp_of(transport), now);
}

static void tcp_announce(struct ninja_transport *transport)
{
    ninja_tcp_announce(tcp_of(transport));
}

const struct ninja_transport_ops ninja_transport_tcp = {
    .name = "tcp",
    .landing_can_cancel = true,
    .frames_can_move = true,
    .gather_max = NINJA_FRAME_PAYLOAD_MAX,
    .open = tcp_open,
    .close = tcp_close,
    .path_prepare = tcp_path_prepare,
    .path_forget = tcp_path_forget,
    .path_open = tcp_path_open,
    .path_pump = tcp_path_pump,
    .path_close = tcp_path_close,
    .progress = tcp_progress,
    .announce = tcp_announce,
    .tick = tcp_tick,
};
