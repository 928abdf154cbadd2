/* What the states of a move do: checks, preparation, the end of a copy, undoing, trying again.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "move.h"
#include "overlay.h"
#include "volume.h"

#define PING_LIMIT_MS    5000
#define LIFE_LIMIT_MS    30000
#define RETRY_FIRST_MS   5000
#define RETRY_LAST_MS    60000
#define SETTIME_LIMIT_MS 5000

static struct guest *guest_of(struct move *move)
{
    return coordinator_guest(move->coordinator, move->vm);
}

/* --- PLANNED: all that can be checked ------------------------------------------------------- */

static void planned_run(struct step_job *job)
{
    job->rc = domain_check(job->from->uri, job->to->uri, job->vm->name, job->vm->hca_alias,
                           job->vm->base_image, &job->fitness, job->error);
}

static void planned_part_done(struct move *move)
{
    if (--move->parts == 0)
        move_ok(move, "all checks passed");
}

static void planned_finish(struct move *move, struct step_job *job)
{
    if (job->rc) {
        move_error(move, "%s cannot move to %s: %s", move->vm->name, move->to->name, job->error);
        return;
    }
    snprintf(move->disks, sizeof(move->disks), "%s", job->fitness.disks);
    snprintf(move->disk_path, sizeof(move->disk_path), "%s", job->fitness.disk_path);
    planned_part_done(move);
}

static void planned_on_ping(void *ctx, int error, const char *message, const json_t *detail)
{
    struct move *move = ctx;

    move->op = 0;
    if (error)
        move_error(move, "the agent in %s does not answer (%s); nothing was changed",
                   move->vm->name, message);
    else
        planned_part_done(move);
}

static void step_planned(struct move *move)
{
    move->parts = 2;
    step_submit(move, planned_run, planned_finish, 0);
    if (move->state == MOVE_PLANNED)
        move->op =
            guest_request(guest_of(move), SYMVIRT_PING, NULL, PING_LIMIT_MS, planned_on_ping, move);
}

/* --- PREPARING ------------------------------------------------------------------------------ */

static void preparing_run(struct step_job *job)
{
    if (job->disks[0])
        job->rc = volume_create(job->to->uri, job->from->uri, job->disk_path, job->vm->base_image,
                                job->error);
    if (!job->rc)
        job->rc = overlay_prepare(job->vm, job->from, job->to, job->error);
}

static void preparing_finish(struct move *move, struct step_job *job)
{
    if (job->rc)
        move_error(move, "%s could not be prepared for %s: %s", move->to->name, move->vm->name,
                   job->error);
    else
        move_ok(move, "a fresh disk overlay is at the destination");
}

static void step_preparing(struct move *move)
{
    move->prepared = 1;
    move_note(move, "%s makes a disk overlay", move->to->name);
    step_submit(move, preparing_run, preparing_finish, 0);
}

/* --- FINALISING ----------------------------------------------------------------------------- */

static void finalising_run(struct step_job *job)
{
    char ignored[SENTENCE_MAX];

    job->rc = overlay_finalise(job->vm, job->to, job->error);
    /* The VM's old disk: only after a sign of life from the new one. */
    if (!job->rc && job->disk_path[0] && volume_delete(job->from->uri, job->disk_path, ignored))
        log_line("%s: its old disk stays at %s: %s", job->vm->name, job->from->name, ignored);
    if (!domain_completed(job->to->uri, job->vm->name, &job->progress, ignored))
        job->tried = 1;
}

static void finalising_finish(struct move *move, struct step_job *job)
{
    if (job->tried) {
        move->downtime_ms = job->progress.downtime_ms;
        if (job->progress.memory_processed > move->bytes_memory)
            move->bytes_memory = job->progress.memory_processed;
        if (job->progress.disk_processed > move->bytes_storage)
            move->bytes_storage = job->progress.disk_processed;
    }
    /* An earlier coordinator may have missed the events. */
    if (!move->stop_at || !move->resume_at)
        move->phases[PHASE_DOWNTIME] = (double)move->downtime_ms / 1000;
    if (job->rc)
        move_error(move, "the overlay does not follow %s to %s: %s", move->vm->name, move->to->name,
                   job->error);
    else
        move_ok(move, "the guest lives, its clock is right, its old disk is gone");
}

static void finalising_on_settime(void *ctx, int error, const char *message, const json_t *detail)
{
    struct move *move = ctx;

    move->op = 0;
    if (error)
        log_line("%s: its clock was not set: %s", move->vm->name, message);
    step_submit(move, finalising_run, finalising_finish, 0);
}

static void finalising_on_ping(void *ctx, int error, const char *message, const json_t *detail)
{
    struct move *move = ctx;

    move->op = 0;
    if (error) {
        move_error(move, "%s runs at %s, but its agent gives no sign of life (%s)", move->vm->name,
                   move->to->name, message);
        return;
    }
    move->op = guest_set_time(guest_of(move), SETTIME_LIMIT_MS, finalising_on_settime, move);
}

static void step_finalising(struct move *move)
{
    guest_follow(guest_of(move), coordinator_host(move->coordinator, move->to), 0);
    move_note(move, "a sign of life from inside %s", move->vm->name);
    move->op =
        guest_request(guest_of(move), SYMVIRT_PING, NULL, LIFE_LIMIT_MS, finalising_on_ping, move);
}

/* --- UNDOING -------------------------------------------------------------------------------- */

/* Looks at both sides and makes sure that the source's copy is the one that runs. */
static void undoing_run(struct step_job *job)
{
    char ignored[SENTENCE_MAX];

    job->rc =
        domain_look(job->from->uri, job->vm->name, job->vm->hca_alias, &job->view, job->error);
    if (job->rc)
        return;
    job->view_to_rc =
        domain_look(job->to->uri, job->vm->name, job->vm->hca_alias, &job->view_to, ignored);
    if (job->view_to.presence == DOMAIN_RUNNING)
        return;
    if (job->view.presence == DOMAIN_RUNNING) {
        if (job->view_to.presence == DOMAIN_PAUSED || job->view_to.presence == DOMAIN_STOPPED)
            domain_destroy(job->to->uri, job->vm->name, ignored);
    } else if (job->view.presence == DOMAIN_PAUSED) {
        /* Only when the destination surely has no copy that may run. */
        if (job->view_to_rc) {
            job->rc = job->view_to_rc;
            sentence_set(job->error,
                         "%s is paused, and %s cannot be asked whether it runs there: %.200s",
                         job->vm->name, job->to->name, ignored);
            return;
        }
        if (job->view_to.presence == DOMAIN_PAUSED)
            domain_destroy(job->to->uri, job->vm->name, ignored);
        job->rc = domain_resume(job->from->uri, job->vm->name, job->error);
        if (job->rc)
            return;
    }
    if (job->disk_path[0] && !job->view_to_rc &&
        volume_delete(job->to->uri, job->disk_path, ignored))
        log_line("%s: the unused disk stays at %s: %s", job->vm->name, job->to->name, ignored);
    overlay_undo(job->vm, job->from, job->to, ignored);
}

static void undoing_finish(struct move *move, struct step_job *job)
{
    if (job->rc) {
        move_error(move, "%s", job->error);
        return;
    }
    if (job->view_to.presence == DOMAIN_RUNNING) {
        /* The switch went through after all. */
        move->undoing = 0;
        move->failure[0] = '\0';
        move->committed = 1;
        move_goto(move, MOVE_SWITCHING, "the VM runs at the destination after all");
        return;
    }
    if (job->view.presence <= DOMAIN_STOPPED) {
        move->released = move->detached = 0;
        sentence_set(move->failure, "%s runs neither at %s nor at %s: it is lost or was stopped",
                     move->vm->name, move->from->name, move->to->name);
        move_skip(move, "");
        return;
    }
    guest_follow(guest_of(move), coordinator_host(move->coordinator, move->from), 0);
    if (move->released || move->detached)
        move_ok(move, "the source keeps the VM; it gets its HCA back");
    else
        move_skip(move, "the source keeps the VM");
}

void step_undoing(struct move *move)
{
    move->undoing = 1;
    step_submit(move, undoing_run, undoing_finish, 0);
}

/* --- DEGRADED ------------------------------------------------------------------------------- */

static void degraded_again(void *arg)
{
    struct move *move = arg;

    move->retries++;
    move_goto(move, move->retry_state, "tried again");
}

static void step_degraded(struct move *move)
{
    unsigned shift = move->retries < 4 ? move->retries : 4;
    int ms = RETRY_FIRST_MS << shift;

    ms = ms < RETRY_LAST_MS ? ms : RETRY_LAST_MS;
    /* Where the VM's whereabouts are in doubt, waiting helps nobody. */
    if (move->retry_state == MOVE_SWITCHING || move->retry_state == MOVE_UNDOING)
        ms = 2000;
    move_note(move, "the next try in %d s", ms / 1000);
    loop_timer_start(&move->again, ms, degraded_again, move);
    plan_advance(move->coordinator);
}

static void step_ended(struct move *move)
{
}

const struct move_step move_steps[MOVE_STATES] = {
    [MOVE_PLANNED] = {step_planned, NULL},
    [MOVE_RELEASING] = {step_releasing, step_releasing_cancel},
    [MOVE_DETACHING] = {step_detaching, NULL},
    [MOVE_PREPARING] = {step_preparing, NULL},
    [MOVE_COPYING] = {step_copying, step_copying_cancel},
    [MOVE_SWITCHING] = {step_switching, NULL},
    [MOVE_FINALISING] = {step_finalising, NULL},
    [MOVE_ATTACHING] = {step_attaching, NULL},
    [MOVE_LINK_UP] = {step_link_up, NULL},
    [MOVE_RESUMING] = {step_resuming, step_resuming_cancel},
    [MOVE_DEGRADED] = {step_degraded, NULL},
    [MOVE_UNDOING] = {step_undoing, NULL},
    [MOVE_DONE] = {step_ended, NULL},
    [MOVE_FAILED] = {step_ended, NULL},
};
