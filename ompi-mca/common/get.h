/*
 * Gets: how a rank fetches a long message from its peer's memory.
 *
 * By request: a GET_REQUEST frame asks, and GET_DATA frames bring the data, over whatever path the
 * link has. Or by itself: the peer has exposed the memory to its device and the message that
 * announced it told the key, so the path's transport can read it there, and no frames travel. What
 * such a read has not fetched when its path closes is asked for by request.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_GET_H
#define NINJA_GET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "frame.h"

struct ninja_core;
struct ninja_link;
struct ninja_transport;

/* What a peer must know to read exposed memory; travels in the upper layer's message. */
struct ninja_key {
    uint32_t instance; /* of the transport at its owner, as its paths know it; 0: it must ask */
    uint32_t key;
};

/* Memory of the upper layer that peers may read. */
struct ninja_exposure {
    struct ninja_key key;              /* first: what the peer is told */
    struct ninja_transport *transport; /* NULL: none, or it is closed: peers must ask */
    void *registration;                /* the transport's */
    size_t length;
    LIST_ENTRY(ninja_exposure) of_core;
};

LIST_HEAD(ninja_exposure_list, ninja_exposure);

/* A get that waits for its data; found by cookie. */
struct ninja_get {
    uint64_t cookie; /* 0: free */
    struct ninja_link *link;
    unsigned char *local;
    uint64_t remote;
    size_t length; /* with `local` and `remote`: what is missing once a read has ended early */
    size_t done;   /* bytes received in order, by request */
    ninja_complete_fn complete;
    void *context;
    uint32_t next_free;
};

/* All functions are called with the core's gate held. */

/* Exposes the `length` bytes at `at` to the peer of `link`, if the transport that it uses can do
 * that; fills in all of `exposure`, which stays where it is until ninja_exposure_end(). */
void ninja_exposure_begin(struct ninja_link *link, const void *at, size_t length,
                          struct ninja_exposure *exposure);

/* Nobody reads the memory of `exposure` any more. */
void ninja_exposure_end(struct ninja_exposure *exposure);

/* `transport` is about to be closed: peers that still want the memory must ask for it. */
void ninja_exposures_end(struct ninja_core *core, struct ninja_transport *transport);

/* Sends the data that GET_REQUEST `header` asks for. */
void ninja_get_answer(struct ninja_link *link, const struct ninja_frame_header *header,
                      const void *payload);

/* Where the data of GET_DATA `header` belongs; NULL if it fits no get of `link`. */
unsigned char *ninja_get_place(struct ninja_link *link, const struct ninja_frame_header *header);

/* The bytes of `header` are at their place; the get completes with its last frame. */
void ninja_get_advance(struct ninja_link *link, const struct ninja_frame_header *header);

#endif
