/*
 * The transport: the small interface behind which a fabric's own way to move frames lives (tcp,
 * verbs).
 *
 * A transport is opened once for a fabric instance in a rank and carries one path to each peer. It
 * moves frames; it keeps no promise of delivery: numbering, acknowledgement, replay and the choice
 * of path belong to the link (link.h).
 *
 * Sending is by pull. When a path may have something to send, the core calls path_pump(); the
 * transport takes frames with ninja_path_next() for as long as it can take more, and gives back its
 * reference to each with ninja_path_sent() when it no longer needs the frame's memory.
 *
 * Receiving: for every frame that arrives, the transport asks ninja_path_landing() where the
 * payload belongs, moves it there, and says ninja_path_received() (landing COPY) or
 * ninja_path_placed() (landing PLACE).
 *
 * Thread rules: open() and close() are called by the control thread without the gate;
 * all others with the gate held, by whichever thread progresses. None of these blocks.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_TRANSPORT_H
#define NINJA_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault.h"
#include "frame.h"
#include "get.h"

/* The longest address of a transport, in bytes, that fits into an offer. */
#define NINJA_TRANSPORT_ADDRESS_MAX 2048

struct ninja_core;
struct ninja_link;
struct ninja_path;
struct ninja_transport_ops;

/* An open transport; transports put this first in a structure of their own. */
struct ninja_transport {
    const struct ninja_transport_ops *ops;
    struct ninja_core *core;
    int event_fd; /* readable when progress() has something to do (see announce()); -1 if it must be
                     polled */
};

/* Where the payload of an arriving frame belongs. */
enum ninja_landing {
    NINJA_LANDING_COPY,    /* the transport collects it and calls ninja_path_received() */
    NINJA_LANDING_PLACE,   /* write it to `*where`, then call ninja_path_placed() */
    NINJA_LANDING_DISCARD, /* a duplicate: throw the payload away and forget it */
    NINJA_LANDING_WAIT     /* memory for undelivered messages is used up: leave it unread, ask again
                              later */
};

struct ninja_transport_ops {
    const char *name;

    /*
     * Writes into an in-flight landing can be stopped at once (ninja_path.landing_cancelled is
     * looked at before each write). Otherwise the link waits for ninja_path_placed() or
     * ninja_path_closed() before the memory is written by another path.
     */
    bool landing_can_cancel;

    /*
     * Between two calls nothing reads the memory of a frame that was handed over: a payload may
     * move from `place` to behind the inline part.
     */
    bool frames_can_move;

    /* Frames longer than that gain nothing by waiting for others to leave with; 0: none does. */
    uint32_t gather_max;

    /*
     * Opens `device` (what the fabric's configuration or the agent named; may be empty: choose
     * one). Sets *transport on success. Returns 0 or a negative errno, with a sentence for the user
     * in `why` (of `why_size` bytes). May block for some 100 ms.
     */
    int (*open)(struct ninja_core *core, const char *device, struct ninja_transport **transport,
                char *why, size_t why_size);

    /* Closes a transport that has no paths left, and frees it. After it returns no device file is
     * open. */
    void (*close)(struct ninja_transport *transport);

    /*
     * Makes what the peer has to know before `path` can be opened (path->transport is set,
     * path->transport_data is the transport's own from here on): writes the address of this end
     * into `address` (NINJA_TRANSPORT_ADDRESS_MAX bytes) and its size into *size. Returns 0 or a
     * negative errno. Followed by path_open() or path_forget().
     */
    int (*path_prepare)(struct ninja_path *path, void *address, size_t *size);

    /* Undoes path_prepare() at once. */
    void (*path_forget)(struct ninja_path *path);

    /*
     * Opens `path`; `address` is the peer's. The side that made the offer has `initiator` true: it
     * connects, the other waits. Returns 0, or a negative errno and the path is as it was before.
     * Failure later is reported by ninja_path_failed().
     */
    int (*path_open)(struct ninja_path *path, const void *address, size_t size, bool initiator);

    /* Sends what the link has for `path`, as much as it takes now. May be called at any time, also
     * from inside a callback. */
    void (*path_pump)(struct ninja_path *path);

    /*
     * Closes `path`, dropping what is in flight. When the transport can no longer touch frames or
     * landings of this path it calls ninja_path_closed(), perhaps before this returns.
     */
    void (*path_close)(struct ninja_path *path);

    /* Moves what has arrived and what waits to leave. Returns the number of frames handled. */
    int (*progress)(struct ninja_transport *transport);

    /* Does what is due by time; returns when something will be (0: nothing). May be NULL. */
    uint64_t (*tick)(struct ninja_transport *transport, uint64_t now);

    /*
     * Lets peers read the exposure->length bytes at `at` by themselves: fills in exposure->key and
     * exposure->registration. Returns false if that is not possible. conceal() undoes it; all are
     * concealed before close(). May be NULL.
     */
    bool (*expose)(struct ninja_transport *transport, const void *at,
                   struct ninja_exposure *exposure);
    void (*conceal)(struct ninja_transport *transport, struct ninja_exposure *exposure);

    /*
     * Begins to read `length` bytes at `remote`, which the peer has exposed with `key`, into
     * `local`. Returns false if that is not possible on `path`. Ends with ninja_path_got(), at the
     * latest when `path` is closed, and soon when it is no longer OPEN. NULL if expose() is.
     */
    bool (*path_get)(struct ninja_path *path, uint64_t cookie, const struct ninja_key *key,
                     void *local, uint64_t remote, size_t length);

    /*
     * From now on, while core->announced, event_fd tells of everything that arrives; at other times
     * the application polls, and what only makes events may be left out. May be NULL: it always
     * does.
     */
    void (*announce)(struct ninja_transport *transport);

    /*
     * The memory from `start` up to, not including, `stop` was unmapped or has other pages: what
     * the transport keeps of it for later messages is of no use. May be NULL.
     */
    void (*forget_memory)(struct ninja_transport *transport, uintptr_t start, uintptr_t stop);

    /*
     * Fault injection: from here on the transport behaves as if its device had done `kind`
     * (NINJA_FAULT_POST and those after it), once. NULL: its device has no such faults.
     */
    void (*inject)(struct ninja_path *path, enum ninja_fault_kind kind);
};

extern const struct ninja_transport_ops ninja_transport_tcp;
extern const struct ninja_transport_ops ninja_transport_verbs;
extern const struct ninja_transport_ops ninja_transport_ucx;

/* The transport called `name`, or NULL. */
const struct ninja_transport_ops *ninja_transport_find(const char *name);

/* --- What transports call (link-receive.c, link.c, path.c), always with the gate held
 * --------------------------- */

/*
 * The next frame to be sent on `path`, or NULL. Its header is filled in; the caller holds a
 * reference until ninja_path_sent(). The frame's payload is `inline_length` bytes after the header,
 * then `place_length` at `place`.
 */
struct ninja_frame *ninja_path_next(struct ninja_path *path);

/* The transport no longer needs the memory of `frame`. */
void ninja_path_sent(struct ninja_path *path, struct ninja_frame *frame);

/* Where the payload of the frame `header`, now arriving on `path`, belongs; sets *where for PLACE.
 */
enum ninja_landing ninja_path_landing(struct ninja_path *path,
                                      const struct ninja_frame_header *header, void **where);

/* A frame has arrived with its payload in the transport's memory, valid during the call. */
void ninja_path_received(struct ninja_path *path, const struct ninja_frame_header *header,
                         const void *payload);

/* The payload of `header` has been written to where ninja_path_landing() said. */
void ninja_path_placed(struct ninja_path *path, const struct ninja_frame_header *header);

/* The read that path_get() began has ended: the first `length` bytes are at their place, and the
 * memory behind them will not be written. */
void ninja_path_got(struct ninja_path *path, uint64_t cookie, size_t length);

/* `path` is broken; `error` is a negative errno, `why` a few words for the log. The core will call
 * path_close(). */
void ninja_path_failed(struct ninja_path *path, int error, const char *why);

/*
 * The device of `transport` is gone for good; `why` for the log. Its paths fail, and the core
 * closes it as soon as none is left, so that nothing holds up the removal of the device.
 */
void ninja_transport_lost(struct ninja_transport *transport, const char *why);

/* The answer to path_close(). */
void ninja_path_closed(struct ninja_path *path);

#endif
