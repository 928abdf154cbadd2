/*
 * A fabric as one rank sees it: opened and released on request, by a state table of its own.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_FABRIC_H
#define NINJA_FABRIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport.h"

enum ninja_fabric_state {
    NINJA_FABRIC_DOWN,      /* no transport is open; no file of the device either */
    NINJA_FABRIC_UP,        /* the transport is open; paths may be */
    NINJA_FABRIC_RELEASING, /* paths drain and close */
    NINJA_FABRIC_STATES
};

enum ninja_fabric_event {
    NINJA_FABRIC_RESUME,  /* asked to use the device */
    NINJA_FABRIC_RENEW,   /* asked to use another instance of it: new epoch or device */
    NINJA_FABRIC_RELEASE, /* asked to give it up */
    NINJA_FABRIC_IDLE,    /* all paths are closed */
    NINJA_FABRIC_TIMEOUT, /* the release takes longer than its limit */
    NINJA_FABRIC_BROKEN,  /* the device is gone, without a release */
    NINJA_FABRIC_EVENTS
};

enum ninja_fabric_action {
    NINJA_FABRIC_DO_OPEN,         /* open the transport, tell the peers, answer the operation */
    NINJA_FABRIC_DO_REOPEN,       /* another instance of the fabric: release first, then open */
    NINJA_FABRIC_DO_DRAIN,        /* tell the peers, drain all paths */
    NINJA_FABRIC_DO_CLOSE,        /* close the transport, answer the operation */
    NINJA_FABRIC_DO_JOIN,         /* a further operation waits for the release that runs */
    NINJA_FABRIC_DO_RESUME_LATER, /* resume as soon as the release is complete */
    NINJA_FABRIC_DO_ANSWER,       /* already so: answer the operation */
    NINJA_FABRIC_DO_FAIL,         /* answer the operation with what holds it back; go on trying */
    NINJA_FABRIC_DO_BREAK,        /* tell the peers, close all paths by force */
    NINJA_FABRIC_DO_NOTHING,
    NINJA_FABRIC_ACTIONS
};

struct ninja_fabric_transition {
    enum ninja_fabric_action action;
    enum ninja_fabric_state next;
};

extern const struct ninja_fabric_transition ninja_fabric_table[NINJA_FABRIC_STATES]
                                                              [NINJA_FABRIC_EVENTS];

const char *ninja_fabric_state_name(enum ninja_fabric_state state);
const char *ninja_fabric_event_name(enum ninja_fabric_event event);

/* Operations that one fabric can have outstanding; more are answered with EBUSY. */
#define NINJA_FABRIC_OPERATIONS 8

/* Which instance of a fabric is meant: from configuration or from the agent. */
struct ninja_fabric_identity {
    unsigned char uuid[16];
    uint64_t epoch;  /* attach epoch, from the host; 0 without an agent */
    char device[64]; /* for the transport; may be empty */
};

struct ninja_fabric {
    bool used;
    bool configured; /* by the user, who meant it for the whole job */
    struct ninja_core *core;
    unsigned slot; /* index in core->fabrics and link->paths: also the order of preference */
    char name[32];
    unsigned char uuid[16];
    uint64_t epoch;  /* attach epoch, from the host; 0 without an agent */
    char device[64]; /* for the transport; may be empty */
    const struct ninja_transport_ops *ops;
    struct ninja_transport *transport; /* NULL unless UP or RELEASING */
    enum ninja_fabric_state state;
    unsigned open_paths;   /* paths that are not CLOSED */
    uint64_t deadline_ms;  /* of RELEASING; 0: none */
    uint64_t since_ms;     /* of the present state */
    uint64_t revive_at_ms; /* fault injection: when a killed device comes back; 0: not */
    char lost[96];         /* why the device is gone, when a transport said so; "": it is not */
    bool resume_later;     /* a resume arrived during the release */
    bool has_next;         /* `next` replaces what is known when the fabric is opened next */
    struct ninja_fabric_identity next; /* until then peers know the fabric by what it was */
    uint64_t release_operations[NINJA_FABRIC_OPERATIONS];
    unsigned release_count;
    uint64_t resume_operations[NINJA_FABRIC_OPERATIONS];
    unsigned resume_count;
    char failure[256]; /* why the last opening failed, or the device broke; "": neither */
};

/*
 * Adds the fabrics of `text`, "NAME=TRANSPORT@DEVICE,...", to the core; their UUID is derived from
 * the name. Returns 0, or -EINVAL with a sentence in `why`.
 */
int ninja_fabrics_configure(struct ninja_core *core, const char *text, char *why, size_t why_size);

/* The fabric called `name` or with UUID `uuid` (either may be NULL), or NULL. */
struct ninja_fabric *ninja_fabric_find(struct ninja_core *core, const char *name,
                                       const unsigned char *uuid);

/* Sees to it that a fabric can be added: if all slots are taken, the one that has been down for the
 * longest time and has no part in anything is forgotten. Returns false if there is none. */
bool ninja_fabric_make_room(struct ninja_core *core);

/* Makes a fabric; `uuid` NULL: derived from the name. Returns NULL when all slots are taken. */
struct ninja_fabric *ninja_fabric_add(struct ninja_core *core, const char *name,
                                      const unsigned char *uuid,
                                      const struct ninja_transport_ops *ops, const char *device);

/*
 * Runs the table. By the control thread only, with the gate held; it is given up and taken again
 * while a transport is opened or closed. `operation` (0: none) is answered through
 * ninja_control_answer().
 */
void ninja_fabric_handle(struct ninja_fabric *fabric, enum ninja_fabric_event event,
                         uint64_t operation);

/* Undoes the release `operation` if it still runs; returns whether it did. As ninja_fabric_handle()
 * otherwise. */
bool ninja_fabric_abort(struct ninja_fabric *fabric, uint64_t operation);

/*
 * The device of `fabric` is gone (`why`, for the log): its transport is closed as soon as no path
 * uses it, without waiting for anything. Tried again after `revive_ms` unless that is 0 or a
 * release comes. As ninja_fabric_handle() otherwise.
 */
void ninja_fabric_break(struct ninja_fabric *fabric, const char *why, unsigned revive_ms);

/* Runs IDLE for fabrics whose paths have all closed, and TIMEOUT; returns the earliest deadline (0:
 * none). */
uint64_t ninja_fabrics_tick(struct ninja_core *core, uint64_t now);

#endif
