/*
 * Fault injection, asked for by configuration: harm done to frames and paths between the link and
 * its transports, at rates and by one seed, so that a run can be repeated. docs/fault-injection.md
 * says what each fault stands for.
 *
 * Only numbered frames draw lots, each at every hand-over; the lot depends on the seed, the two
 * ranks, the frame's number and how often it was handed over, never on time.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_FAULT_H
#define NINJA_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ninja_core;
struct ninja_fabric;
struct ninja_fault_path;
struct ninja_frame;
struct ninja_frame_header;
struct ninja_link;
struct ninja_path;

enum ninja_fault_kind {
    NINJA_FAULT_KILL,      /* the fabric's device is gone, for all links at once */
    NINJA_FAULT_RESET,     /* the path breaks soon, with whatever is in flight */
    NINJA_FAULT_DROP,      /* the frame is lost, later ones may arrive; then the path breaks */
    NINJA_FAULT_DELAY,     /* the frame and all behind it wait */
    NINJA_FAULT_REORDER,   /* the frame is overtaken by later ones */
    NINJA_FAULT_DUPLICATE, /* the frame is sent twice */
    /* Done inside the transport, if it can (inject() in transport.h): */
    NINJA_FAULT_POST,       /* the device does not take the next request of the path */
    NINJA_FAULT_COMPLETION, /* the next completion of the path has an error */
    NINJA_FAULT_QUEUE,      /* the device says that a queue of all paths failed */
    NINJA_FAULT_FATAL,      /* the device says that it failed */
    NINJA_FAULT_KINDS,
    NINJA_FAULT_NONE = NINJA_FAULT_KINDS
};

struct ninja_fault {
    bool on;     /* some rate is not 0 */
    bool ending; /* the core ends: no more harm, and nothing is held back */
    bool seed_given;
    unsigned rate[NINJA_FAULT_KINDS]; /* one of so many frames; 0: never */
    unsigned hold_ms;                 /* nothing is held back, and no break waits, for longer */
    unsigned gone_ms;                 /* a killed device is opened again after that; 0: never */
    uint64_t seed;
    uint64_t injected[NINJA_FAULT_KINDS];
};

/* The name of `kind`, as in the configuration. */
const char *ninja_fault_name(enum ninja_fault_kind kind);

/*
 * Reads "KIND=N,...,hold=MS,gone=MS,seed=NUMBER" into `fault`; NULL or "" is no fault. Returns 0,
 * or -EINVAL with a sentence in `why`.
 */
int ninja_fault_parse(struct ninja_fault *fault, const char *text, char *why, size_t why_size);

/* Chooses the seed if none is given, the same in all ranks of the job, and tells it. */
void ninja_fault_begin(struct ninja_core *core);

/* What befalls the frame `header` on the `attempt`th time that `from` hands it over to `to`: the
 * draw alone, without consequences. */
enum ninja_fault_kind ninja_fault_draw(const struct ninja_fault *fault, uint32_t from, uint32_t to,
                                       const struct ninja_frame_header *header, unsigned attempt,
                                       uint64_t *random);

/* ninja_path_next() while faults are on. The gate is held. */
struct ninja_frame *ninja_fault_next(struct ninja_path *path);

/*
 * Breaks and kills what is to be broken by now, and lets go what was held back for long enough;
 * returns the next deadline (0: none). As ninja_fabric_handle() otherwise.
 */
uint64_t ninja_fault_tick(struct ninja_core *core, uint64_t now);

/* A generation begins or ends on `path`: what was held back of the last one is lost with it. */
void ninja_fault_forget(struct ninja_path *path);

/* The core is about to end: what is held back may leave, and no more harm is done. */
void ninja_fault_end(struct ninja_core *core);

#endif
