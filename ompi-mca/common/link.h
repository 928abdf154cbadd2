/*
 * The link: a rank's reliable connection to one peer; exactly-once, in order, while transports come
 * and go.
 *
 * Two channels are numbered independently: data (the upper layer's messages and gets) and control
 * (path messages, on the lifeline only). Frames stay in the channel's retained list until the peer
 * acknowledges them. Each end chooses the path of its own half-link (`send_path`); it accepts
 * frames from every path that it knows.
 *
 * All functions are called with the core's gate held.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_LINK_H
#define NINJA_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "frame.h"
#include "get.h"
#include "path.h"

/* Fabrics that one rank can know at a time, besides the lifeline. */
#define NINJA_FABRICS_MAX 4

/* A frame that arrived before one with a lower number, or that waits for its memory. */
struct ninja_early_frame {
    struct ninja_early_frame *next;
    struct ninja_frame_header header;
    bool placed;        /* payload is already where it belongs */
    uint32_t footprint; /* bytes of memory */
    unsigned char payload[];
};

/* One numbered stream of frames in each direction. */
struct ninja_channel {
    uint64_t next_sequence;   /* of the next frame to be sent */
    uint64_t acknowledged;    /* by the peer */
    struct ninja_frame *head; /* retained, by sequence number */
    struct ninja_frame *tail;
    struct ninja_frame *cursor; /* no frame before it waits to be handed over; NULL: none waits */
    size_t retained_bytes; /* memory of frames kept for replay (user buffers are not counted) */

    uint64_t received;          /* all frames up to this one are in our memory */
    uint64_t acknowledged_sent; /* the last value of `received` that we told the peer */
    uint64_t idle_received;     /* `received` when the control thread last looked */
    uint64_t acknowledge_at_ms; /* if that stays so, the peer is told then */
    uint32_t unacknowledged_bytes;
    bool acknowledge_now;            /* an ACK frame must leave with the next pump */
    struct ninja_early_frame *early; /* arrived too early, by sequence number */
    struct ninja_early_frame *early_tail;
    size_t early_bytes; /* memory of them */
};

/* Counters, for status and tests. */
struct ninja_link_counters {
    uint64_t frames_sent[NINJA_FABRICS_MAX + 1]; /* index 0: the lifeline, then by fabric slot */
    uint64_t bytes_sent[NINJA_FABRICS_MAX + 1];
    uint64_t frames_received[NINJA_FABRICS_MAX + 1];
    uint64_t bytes_received[NINJA_FABRICS_MAX + 1];
    uint64_t replayed;
    uint64_t duplicates;
    uint64_t switches;
    uint64_t reconnects;
    uint64_t reads; /* gets that a path's transport took from the peer's memory by itself */
};

struct ninja_lifeline;

struct ninja_link {
    struct ninja_core *core;
    struct ninja_link *next; /* in the core's list of all links */
    struct ninja_link *next_in_bucket;
    uint64_t peer; /* the peer's id: unique among all processes that can talk to this one */
    void *user;    /* the upper layer's, for its callbacks; NULL until it knows the peer */
    struct ninja_channel data;
    struct ninja_channel control;
    struct ninja_path lifeline_path;
    struct ninja_path paths[NINJA_FABRICS_MAX]; /* by fabric slot */
    struct ninja_path *send_path;               /* of our half-link */
    struct ninja_lifeline *lifeline;            /* its connection (lifeline.c) */
    unsigned draining;                          /* paths in state DRAINING */
    uint32_t next_generation;
    bool in_pump_list; /* has something to send at the end of the pass */
    struct ninja_link *next_to_pump;
    uint64_t burst_pass;  /* the pass in or after which the present burst of sends goes on */
    unsigned burst;       /* sends in it */
    uint64_t burst_at_ns; /* its last send */
    unsigned gathered;    /* frames that wait for others, to leave in one write */
    size_t gathered_bytes;
    bool pumping;          /* inside ninja_link_pump() */
    bool peer_gone;        /* the peer said BYE */
    bool failed;           /* given up */
    bool loss_told;        /* the upper layer knows */
    unsigned gets_waiting; /* gets whose data has not all come */
    uint64_t gap_since_us; /* a frame has arrived and an earlier one has not; 0: in order */
    size_t inbox_bytes;    /* memory of undelivered messages taken in by the control thread */
    bool dormant;          /* a path was not opened for want of traffic */
    uint64_t used;         /* numbered frames in both directions when that was last looked at */
    uint64_t used_at_ms;   /* when it had changed */
    struct ninja_link_counters counters;
};

/* --- Sending (link.c)
 * ------------------------------------------------------------------------------------------- */

/*
 * Sends `frame` (type and inline payload, perhaps place, filled in) on the data channel. The link
 * owns it from now on. `complete`, if not NULL, is called once the peer has acknowledged it.
 */
void ninja_link_send(struct ninja_link *link, struct ninja_frame *frame, ninja_complete_fn complete,
                     void *context);

/*
 * Fetches `length` bytes at `remote` in the peer's memory into `local`; `complete` is called when
 * they are there. `key` is what the peer told of its exposure of that memory; NULL: nothing.
 * Returns 0 or -ENOMEM. (get.c)
 */
int ninja_link_get(struct ninja_link *link, const struct ninja_key *key, void *local,
                   uint64_t remote, size_t length, ninja_complete_fn complete, void *context);

/* Sends a path message of `size` bytes on the control channel. Returns 0 or -ENOMEM. */
int ninja_link_send_control(struct ninja_link *link, const void *message, size_t size);

/* Retained copies are below the low mark, so a copied frame may be called complete at hand-over. */
bool ninja_link_below_mark(const struct ninja_link *link);

/* Retained copies are above the high mark: the upper layer should stop making new ones. */
bool ninja_link_above_limit(const struct ninja_link *link);

/* About when the data channel last carried a frame, in either direction (ninja_now_ms()); 0: never.
 */
uint64_t ninja_link_last_used(struct ninja_link *link, uint64_t now);

/* Moves our half-link to `path`, which is OPEN or the lifeline. */
void ninja_link_switch(struct ninja_link *link, struct ninja_path *path);

/* The best path that is open: by the order of the fabrics, the lifeline last. */
struct ninja_path *ninja_link_best_path(struct ninja_link *link);

/*
 * The generation of `path` is dead: everything handed to it and not acknowledged will be sent
 * again. For the lifeline: also the control channel.
 */
void ninja_link_replay(struct ninja_link *link, struct ninja_path *path);

/* Takes note of an acknowledgement of `channel` up to `sequence`; ignores one for frames never
 * sent. */
void ninja_link_acknowledged(struct ninja_link *link, struct ninja_channel *channel,
                             uint64_t sequence);

/* ninja_path_next() without fault injection. */
struct ninja_frame *ninja_path_next_plain(struct ninja_path *path);

/* Lets the transports of `link` send what waits. */
void ninja_link_pump(struct ninja_link *link);

/* Has `link` pumped at the end of this pass, or of the next one. */
void ninja_link_pump_later(struct ninja_link *link);

/* --- Receiving (link-receive.c)
 * --------------------------------------------------------------------------------- */

/* Asks for an ACK frame on `channel` with the next pump, and puts `link` on the core's list for it.
 */
void ninja_link_acknowledge_soon(struct ninja_link *link, struct ninja_channel *channel, bool now);

/*
 * Tells a peer that sends nothing more what we have, so that it need not keep it. Returns when to
 * look again (ninja_now_ms()), 0 for not until something arrives.
 */
uint64_t ninja_link_acknowledge_tick(struct ninja_link *link, uint64_t now);

/* `path` no longer writes its landing, which may not be complete: frames that waited for it go on.
 */
void ninja_link_landing_ended(struct ninja_link *link, struct ninja_path *path);

/* --- Life
 * -------------------------------------------------------------------------------------------------------
 */

/* The core's link to `peer`, made if there is none. NULL: out of memory. */
struct ninja_link *ninja_link_find(struct ninja_core *core, uint64_t peer, bool make);

/* Frees `link` and all that it retains; completions are called with -ECANCELED. Its paths must be
 * closed. */
void ninja_link_destroy(struct ninja_link *link);

#endif
