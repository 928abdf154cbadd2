/* A move: one VM from one host to another, state by state. SPDX-License-Identifier: BSD-3-Clause
 *
 * The state table (states.h) says what follows what; steps.c does what a state is for; flow.c takes
 * moves from state to state and writes the journal. Loop's thread only.
 */
#ifndef MOVE_H
#define MOVE_H

#include "coordinator.h"
#include "domain.h"
#include "loop.h"
#include "states.h"

struct plan {
    struct plan *next;
    int64_t id;
    unsigned parallel;
    int told_end;
};

struct move {
    struct move *next;
    struct coordinator *coordinator;
    int64_t id, plan;
    const struct inventory_vm *vm;
    const struct inventory_host *from, *to;
    const struct inventory_hca *hca_from, *hca_to; /* NULL: none; both are reserved for the move */
    enum move_state state;
    unsigned serial; /* counts the states entered: what an earlier one started is told by it */
    double entered;
    struct loop_timer limit, again, sampler;
    unsigned jobs; /* in the pool: the move cannot be freed */

    /* What a restart must know too. */
    int started;                 /* PLANNED, and its turn has come */
    int released;                /* the guest was asked to give up the fabric */
    int detached;                /* the HCA was asked out of the VM */
    int prepared;                /* a disk was made at the destination */
    int committed;               /* the VM resumed at the destination */
    int undoing;                 /* the source keeps the VM */
    enum move_state retry_state; /* in DEGRADED: what is tried again */
    unsigned retries;
    char failure[SENTENCE_MAX]; /* why it failed */
    char missing[SENTENCE_MAX]; /* in DEGRADED: what is missing */
    char disks[64], disk_path[256];
    double asked, ended;
    double phases[MOVE_PHASES];
    double stop_at, resume_at, memory_since; /* by the host's clock; 0: not seen */
    uint64_t bytes_storage, bytes_memory, downtime_ms;

    /* Of the present state only. */
    char waits_for[SENTENCE_MAX];
    char abort_reason[SENTENCE_MAX]; /* not empty: the state is being cancelled */
    uint64_t op;                     /* of the guest */
    int parts;                       /* of the step that are still going on */
    int migrating;                   /* the copying job runs in this process */
    int adopted;                     /* ... or did in an earlier one */
    int hca_usable;
    struct domain_progress progress;
    double advanced; /* when the copy last came forward */
};

/* The host where the VM is, as far as the move knows. */
const struct inventory_host *move_host(const struct move *move);

/* The HCA that belongs into the VM where it is, or NULL. */
const struct inventory_hca *move_hca(const struct move *move);

/* flow.c */

/* Writes a new move of 'plan' to the journal; it waits in PLANNED. NULL on failure. */
struct move *move_create(struct coordinator *coordinator, int64_t plan,
                         const struct inventory_vm *vm, const struct inventory_hca *hca_from,
                         const struct inventory_host *from, const struct inventory_host *to,
                         const struct inventory_hca *hca_to);

/* Goes to 'state': journal first, then action. */
void move_goto(struct move *move, enum move_state state, const char *why);

/* The present state's step has ended; the table says what follows. */
void move_ok(struct move *move, const char *why);
void move_skip(struct move *move, const char *why);
void move_error(struct move *move, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Writes the move's record without a change of state, and tells followers. */
void move_note(struct move *move, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Sets the present state's time limit anew, from now. */
void move_limit(struct move *move, int ms);

/* The user wants the move undone. Returns 0, or -EPERM with a sentence why not. */
int move_abort(struct move *move, char *error);

/* Ends a move that is tried again and again, because a newer one takes the VM. */
void move_supersede(struct move *move);

/* The move of 'vm' that has not ended, or NULL. */
struct move *move_of(const struct coordinator *coordinator, const struct inventory_vm *vm);
struct move *move_by_id(const struct coordinator *coordinator, int64_t id);

/* Tells followers how far the copy is. */
void move_tell_progress(struct move *move);

/* steps.c, steps-copy.c, steps-hca.c: what a state does when it is entered, and how it is cancelled
 * (NULL: at once). */
struct move_step {
    void (*enter)(struct move *move);
    void (*cancel)(struct move *move);
};
extern const struct move_step move_steps[MOVE_STATES];

void step_releasing(struct move *move);
void step_releasing_cancel(struct move *move);
void step_detaching(struct move *move);
void step_attaching(struct move *move);
void step_link_up(struct move *move);
void step_resuming(struct move *move);
void step_resuming_cancel(struct move *move);
void step_copying(struct move *move);
void step_copying_cancel(struct move *move);
void step_switching(struct move *move);
void step_undoing(struct move *move);

/* Something happened at a host or in a guest that a move may wait for. */
void move_on_lifecycle(struct move *move, const struct inventory_host *host, int event, int detail,
                       double at);
void move_on_device_removed(struct move *move, const struct inventory_host *host,
                            const char *alias);
void move_on_guest_event(struct move *move, const json_t *message);

/* recover.c: takes up a move as the journal has it. */
struct move *move_recover(struct coordinator *coordinator, const json_t *row);

/* record.c */

/* The record for the journal (new reference). */
json_t *move_record(const struct move *move);

/* Fills 'move' from 'record'. Returns -EINVAL if the inventory no longer knows its VM or hosts. */
int move_record_read(struct move *move, const json_t *record);

/* A journal row as users see it: docs/moves.md (new reference). */
json_t *move_report(const json_t *row);

/* The move as a row (new reference). */
json_t *move_row(const struct move *move);

/* plan.c */

/* Starts what may start, ends plans that have ended. */
void plan_advance(struct coordinator *coordinator);

/* Frees moves that have ended and that nothing refers to any more. Not from inside a step: the main
 * loop calls it. */
void plan_reap(struct coordinator *coordinator);

struct plan *plan_create(struct coordinator *coordinator, int64_t id, unsigned parallel);

/* A blocking job of a move's step. */
struct step_job {
    struct move *move;
    unsigned serial;
    void (*run)(struct step_job *job); /* in a pool thread: only what is below */
    void (*finish)(struct move *move, struct step_job *job); /* on the loop's thread */
    int always; /* finish is called even when the state has changed */
    int rc;
    char error[SENTENCE_MAX];
    const struct inventory_vm *vm;
    const struct inventory_host *from, *to, *at;
    const struct inventory_hca *hca;
    int tried;
    char disks[64], disk_path[256];
    int view_rc, view_to_rc;
    struct domain_view view, view_to;
    struct domain_progress progress;
    struct domain_fitness fitness;
};

/* Submits a job; when that is impossible the step fails. */
void step_submit(struct move *move, void (*run)(struct step_job *job),
                 void (*finish)(struct move *move, struct step_job *job), int always);

#endif
