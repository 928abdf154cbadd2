/*
 * The core: everything of one rank that is not Open MPI's - links, fabrics, lifeline, control
 * thread - behind the functions that the Open MPI components call.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_CORE_H
#define NINJA_CORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "counters.h"
#include "fabric.h"
#include "fault.h"
#include "gate.h"
#include "get.h"
#include "link.h"
#include "quiesce.h"

#define NINJA_API __attribute__((visibility("default")))

/*
 * What may change while the core runs: it is read each time it is needed, so a change holds for
 * what begins afterwards. Times are in milliseconds.
 */
struct ninja_tuning {
    unsigned drain_limit_ms;
    unsigned release_limit_ms;
    unsigned open_limit_ms; /* an offer that is not answered by then is withdrawn; 0: never */
    unsigned retry_ms; /* first pause before a failed path is tried again; doubles up to 64 times */
    unsigned refused_limit_ms; /* a peer that refuses connections for so long is called lost;
                                  0: never */
    unsigned long retain_low;  /* bytes: above it a copied frame completes only when acknowledged */
    unsigned long
        retain_high; /* bytes: above it no new frames are made while completions are outstanding */
    unsigned long
        inbox_limit; /* bytes of undelivered messages per link that the control thread takes in */
    int verbose;     /* 0: errors; 1: switches; 2: every path event; 3: connections */
};

/* What the upper layer sets before ninja_core_create(); strings are copied. */
struct ninja_config {
    const char *lifeline; /* interface name, address or CIDR of the lifeline; NULL or "": choose */
    const char
        *fabrics; /* "NAME=TRANSPORT@DEVICE[,...]"; NULL or "": none but what the agent names */
    const char *control_dir; /* directory of the control socket; NULL or "": the default */
    const char *agent; /* path of the guest agent's socket; "": the default; "none": no agent */
    const char *fault; /* fault injection; NULL or "": none */
    const char
        *congestion;     /* TCP's congestion control; "": the system's; "auto": see docs/speed.md */
    unsigned handshakes; /* new paths that are being opened at a time, by us and by peers each */
    unsigned long pool_limit; /* bytes of memory for frames that are kept although none is in use */
    unsigned long registration_limit;  /* bytes of the upper layer's memory that a transport keeps
                                          registered; 0: none */
    const struct ninja_tuning *tuning; /* must outlive the core; NULL is not allowed */
    bool threads;                      /* several threads call at once (MPI_THREAD_MULTIPLE) */
};

#define NINJA_AGENT_NONE      "none"
#define NINJA_CONGESTION_AUTO "auto"

/* Payloads of this size and more may be given to ninja_core_send() in place, in a frame with room
 * for them: a write is begun before they are copied. Of smaller ones the copy costs less than a
 * write of two pieces (docs/speed.md). */
#define NINJA_COPY_LATE_BYTES 8192

/* What the core calls; always by a thread of the upper layer, never by the control thread. */
struct ninja_callbacks {
    /* A message has arrived on `link` with `tag`. `payload` is valid during the call. */
    void (*receive)(struct ninja_link *link, uint8_t tag, const void *payload, size_t size);
    /* The peer of `link` is lost for good. */
    void (*lost)(struct ninja_link *link, int error);
};

/* A completion that the upper layer has not been told of yet. */
struct ninja_completion {
    ninja_complete_fn complete;
    void *context;
    int status;
};

struct ninja_tcp_listener;
struct ninja_control;

struct ninja_core {
    struct ninja_config config;
    struct ninja_callbacks callbacks;
    struct ninja_gate gate;
    uint64_t id;    /* ours, as peers know it */
    uint64_t nonce; /* secret of this process: a peer shows it when it connects */
    struct ninja_frame_pool pool;
    uint64_t trim_at_ms; /* when to look what of it was not needed */

    struct ninja_link *links; /* all, newest first */
    struct ninja_link **buckets;
    size_t bucket_count;
    size_t link_count;
    struct ninja_link *pump_list; /* links that have something to send at the end of the pass */

    struct ninja_fabric fabrics[NINJA_FABRICS_MAX];
    struct ninja_turns turns[2];      /* of paths that peers open, and that we open */
    struct ninja_transport *lifeline; /* the transport of all lifelines */
    struct ninja_transport
        *active[NINJA_FABRICS_MAX + 1]; /* transports that progress() looks after */
    size_t active_count;

    struct ninja_exposure_list exposures; /* of transports that are open */
    struct ninja_get *gets;
    size_t get_count;
    uint32_t get_free; /* index + 1 of the first free one */
    uint64_t get_serial;

    struct ninja_frame *inbox_head; /* messages that the control thread took in, for the upper
                                       layer's next progress; `context` is the link */
    struct ninja_frame *inbox_tail;
    struct ninja_completion *completions; /* ring */
    size_t completion_size;               /* a power of two */
    size_t completion_head;
    size_t completion_tail;

    bool control_progress;   /* the control thread is the one that progresses now: enqueue, do not
                                deliver */
    _Atomic uint64_t passes; /* of progress by the upper layer; the control thread watches it */
    bool in_pass;            /* the upper layer is inside ninja_core_progress() */
    bool inbox_full;         /* a frame has had to wait; the control thread clears it */
    unsigned lifeline_quiet; /* passes since the lifeline had something */
    unsigned lifeline_look;  /* it is looked at again when those are so many */
    bool control_sleeps;     /* the control thread has no deadline soon: wake it for frames that are
                                sent */
    bool announced;  /* the control thread waits for the event_fd of transports: they must tell of
                        all  that arrives */
    bool can_gather; /* the control thread runs: it sends what was gathered if nobody else does */
    unsigned burst_gap_ns; /* sends that follow each other more slowly are no burst */
    uint64_t write_ns;     /* how long a write in a burst takes, on average */
    bool flush_planned;    /* it has been told to */
    bool lost_links;       /* some link has failed since the upper layer last looked */

    struct ninja_fault fault;
    struct ninja_stalls stalls;
    struct ninja_quiesce quiesce;
    struct ninja_control *control;
    const char *rank_name; /* "JOBID.RANK", for logs and the control socket */
};

/* Fills `config` with the defaults; its tuning, too, is the default. */
NINJA_API void ninja_config_default(struct ninja_config *config);
/* Fills `tuning` with the defaults. */
NINJA_API void ninja_tuning_default(struct ninja_tuning *tuning);

/*
 * Starts the core: opens the lifeline's listener. `id` is this process's id, `rank_name`
 * "JOBID.RANK". Returns 0 or a negative errno with a sentence for the user in `why`.
 */
NINJA_API int ninja_core_create(struct ninja_core **core, const struct ninja_config *config,
                                const struct ninja_callbacks *callbacks, uint64_t id,
                                const char *rank_name, char *why, size_t why_size);

/* Starts the control thread: from now on the rank listens on its control socket and opens its
 * fabrics. */
NINJA_API int ninja_core_start(struct ninja_core *core, char *why, size_t why_size);

/* Says BYE to all peers and frees everything; stops the control thread if it runs. NULL is
 * accepted. */
NINJA_API void ninja_core_destroy(struct ninja_core *core);

/* What peers need to reach this process: to be published; at most NINJA_CONTACT_MAX bytes, size in
 * *size. */
#define NINJA_CONTACT_MAX 256
NINJA_API int ninja_core_contact(struct ninja_core *core, void *contact, size_t *size);

/*
 * The link to `peer`, whose published contact is `contact`. Takes the gate itself. `user` is kept
 * in link->user, unless that is set already. Returns NULL when memory is exhausted or the contact
 * is not understood.
 */
NINJA_API struct ninja_link *ninja_core_connect(struct ninja_core *core, uint64_t peer,
                                                const void *contact, size_t size, void *user);

/*
 * Keeps `user` in link->user, unless that is set already: the peer of a link may write before it is
 * connected. Returns what is in link->user then. Takes the gate itself.
 */
NINJA_API void *ninja_core_adopt(struct ninja_link *link, void *user);

/* The upper layer forgets `link`: nothing more is delivered to `user`. Takes the gate itself. */
NINJA_API void ninja_core_disconnect(struct ninja_link *link);

/* One pass: delivers messages and completions, sends what waits. Takes the gate itself. Returns the
 * number of events. */
NINJA_API int ninja_core_progress(struct ninja_core *core);

/*
 * Sends `size` inline bytes, copied from `data`, with `tag`: the small, blocking way. Takes the
 * gate itself. Returns 0, or -EAGAIN when the link is above its low mark, -ENOMEM.
 */
NINJA_API int ninja_core_send_copy(struct ninja_link *link, uint8_t tag, const void *header,
                                   size_t header_size, const void *data, size_t size);

/* A frame for `inline_size` bytes at frame->data. Takes the gate itself. */
NINJA_API struct ninja_frame *ninja_core_frame_new(struct ninja_core *core, size_t inline_size);
NINJA_API void ninja_core_frame_free(struct ninja_core *core, struct ninja_frame *frame);

/*
 * Sends a frame made by ninja_core_frame_new() with `tag`. What is at frame->place is copied, if
 * the frame was made with room for it and the link is below its low mark. Returns true if the frame
 * is complete at once (nothing is left in place, below the mark): then `complete` is not called.
 * Takes the gate itself.
 */
NINJA_API bool ninja_core_send(struct ninja_link *link, struct ninja_frame *frame, uint8_t tag,
                               ninja_complete_fn complete, void *context);

/* The next ninja_core_progress() calls `complete` with status 0. Takes the gate itself. */
NINJA_API void ninja_core_complete_later(struct ninja_core *core, ninja_complete_fn complete,
                                         void *context);

/* As ninja_link_get(), taking the gate itself. */
NINJA_API int ninja_core_get(struct ninja_link *link, const struct ninja_key *key, void *local,
                             uint64_t remote, size_t length, ninja_complete_fn complete,
                             void *context);

/* As ninja_exposure_begin() and ninja_exposure_end(), taking the gate themselves. */
NINJA_API void ninja_core_expose(struct ninja_link *link, const void *at, size_t length,
                                 struct ninja_exposure *exposure);
NINJA_API void ninja_core_conceal(struct ninja_core *core, struct ninja_exposure *exposure);

/* The link keeps so much for replay, with completions outstanding, that no new frames should be
 * made now. */
NINJA_API bool ninja_core_congested(struct ninja_link *link);

/* What was counted so far. Takes the gate itself. */
NINJA_API void ninja_core_counters(struct ninja_core *core, struct ninja_counters *counters);

/*
 * Gives up the fabrics that were asked for, or all that are in use; waits until they are in use
 * again, at most `limit_ms` (0: for ever) after the last device was closed. The application goes on
 * meanwhile, over the lifeline, unless it is the one that calls. Any thread but the control thread,
 * without the gate. Returns 0; -ETIMEDOUT if a device could not be given up in time, -ENODEV if one
 * could not be opened again, -EBUSY if another call runs, -ECANCELED if the rank ends. A sentence
 * is left in `why`.
 */
NINJA_API int ninja_core_quiesce(struct ninja_core *core, unsigned limit_ms, char *why,
                                 size_t why_size);

/*
 * From now on a release that is asked for begins with `checkpointer`, which must see to it that the
 * thread that calls this calls ninja_core_quiesce() at once; it may not block. NULL: no longer, and
 * whoever waits in ninja_core_quiesce() returns.
 */
NINJA_API void ninja_core_set_checkpointer(struct ninja_core *core,
                                           void (*checkpointer)(void *context), void *context);

/* The earlier one of two times, of which 0 means never. */
static inline uint64_t ninja_earlier(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* Milliseconds, nanoseconds of CLOCK_MONOTONIC. */
uint64_t ninja_now_ms(void);
uint64_t ninja_now_ns(void);

/* --- Inside
 * -----------------------------------------------------------------------------------------------------
 */

/* One pass over all transports, acknowledgements and waiting frames. The gate is held. Returns the
 * number of frames. */
int ninja_core_pass(struct ninja_core *core);

/* Pumps the links that have asked for it. The gate is held. */
void ninja_core_pump_links(struct ninja_core *core);

/* Tells the transports of memory that was unmapped. The gate is held. */
void ninja_core_forget_released(struct ninja_core *core);

/* Queues a completion for the upper layer. Returns 0 or -ENOMEM. */
int ninja_core_complete(struct ninja_core *core, ninja_complete_fn complete, void *context,
                        int status);

/* Gives a message to the upper layer, or queues it if the control thread progresses. */
void ninja_core_deliver(struct ninja_link *link, uint8_t tag, const void *payload, size_t size);

/* Deadlines of lifelines, paths and fabrics; returns milliseconds until the next one, -1 if there
 * is none. */
int ninja_core_tick(struct ninja_core *core);

/* Wakes the control thread, so that it looks at deadlines anew. Any thread. */
void ninja_core_wake_control(struct ninja_core *core);

/* What is not acknowledged, in either direction, is the control thread's to look after: it must
 * have a deadline. The gate is held. */
static inline void ninja_core_watch_over(struct ninja_core *core)
{
    if (!core->control_sleeps)
        return;
    core->control_sleeps = false;
    ninja_core_wake_control(core);
}

/* Writes a line to standard error: "[host:pid] ninja RANK: ...". Level 0 always, else up to
 * tuning->verbose. */
NINJA_API void ninja_log(const struct ninja_core *core, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
