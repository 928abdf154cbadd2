/* The states of a move. SPDX-License-Identifier: BSD-3-Clause */
#ifndef MOVE_STATES_H
#define MOVE_STATES_H

enum move_state {
    MOVE_PLANNED,    /* waits for its turn; then everything is checked that can be */
    MOVE_RELEASING,  /* the guest gives up the fabric */
    MOVE_DETACHING,  /* the HCA leaves the VM */
    MOVE_PREPARING,  /* disk and overlay at the destination */
    MOVE_COPYING,    /* disk and memory are copied while the VM runs */
    MOVE_SWITCHING,  /* the VM has resumed at the destination: no way back */
    MOVE_FINALISING, /* sign of life, clock, overlay, the source's disk */
    MOVE_ATTACHING,  /* an HCA enters the VM where it is now */
    MOVE_LINK_UP,    /* the HCA's port becomes usable */
    MOVE_RESUMING,   /* the guest takes the fabric up */
    MOVE_DEGRADED,   /* the VM runs, something is missing; tried again and again */
    MOVE_UNDOING,    /* the source keeps the VM; what was prepared is taken back */
    MOVE_DONE,
    MOVE_FAILED, /* the VM is where it was */
    MOVE_STATES
};

/* The timed phases of a report. */
enum move_phase {
    PHASE_RELEASE,
    PHASE_DETACH,
    PHASE_STORAGE,
    PHASE_MEMORY,
    PHASE_DOWNTIME,
    PHASE_ATTACH,
    PHASE_LINK_UP,
    PHASE_RESUME,
    MOVE_PHASES,
    PHASE_NONE = MOVE_PHASES
};

/* How a step of a move ends. */
enum step_end {
    STEP_OK,
    STEP_SKIP, /* there is nothing to do here */
    STEP_ERROR,
    STEP_ENDS
};

/* One row of the state table. */
struct move_row {
    const char *name;      /* in logs, journal, --json and tests */
    const char *doing;     /* for humans: "VM: ..." */
    enum move_phase phase; /* its time counts here */
    int limit_s;           /* 0: ends otherwise */
    int can_abort;         /* before the point of no return */
    int committed;         /* after it: the source's copy must never run again */
    enum move_state next[STEP_ENDS];
};

extern const struct move_row move_table[MOVE_STATES];

extern const char *const move_phase_names[MOVE_PHASES];

/* The state of that name; MOVE_STATES if there is none. */
enum move_state move_state_named(const char *name);

#endif
