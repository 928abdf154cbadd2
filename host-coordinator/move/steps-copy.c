/* COPYING and SWITCHING: the live migration, from source libvirtd to destination libvirtd.
 * SPDX-License-Identifier: BSD-3-Clause
 *
 * The source's libvirtd does the work and goes on if the coordinator dies. The destination's
 * RESUMED event is the point of no return. However the migrating call ends, both hosts are looked
 * at before anything is decided.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "move.h"

/* A copy of which no byte arrives for so long has lost its network; QEMU's and libvirt's own limits
 * take minutes. */
#define STALL_S   30
#define SAMPLE_MS 250
#define LOOK_MS   500

static void copying_sample(void *arg);
static void copying_look(struct move *move);

/* --- Progress ------------------------------------------------------------------------------- */

static void sample_run(struct step_job *job)
{
    job->rc = domain_sample(job->from->uri, job->vm->name, &job->progress, job->error);
}

static void sample_finish(struct move *move, struct step_job *job)
{
    const struct domain_progress *progress = &job->progress;

    if (!job->rc && progress->active) {
        uint64_t done = progress->disk_processed + progress->memory_processed;

        if (done != move->progress.disk_processed + move->progress.memory_processed ||
            !move->advanced)
            move->advanced = loop_now();
        move->progress = *progress;
        if (progress->memory_processed && !move->memory_since)
            move->memory_since = loop_now();
        if (progress->disk_processed > move->bytes_storage)
            move->bytes_storage = progress->disk_processed;
        if (progress->memory_processed > move->bytes_memory)
            move->bytes_memory = progress->memory_processed;
        sentence_set(move->waits_for, "%s", progress->memory_processed ? "the memory" : "the disk");
        move_tell_progress(move);
        if (loop_now() - move->advanced > STALL_S && !move->abort_reason[0]) {
            sentence_set(move->abort_reason,
                         "no byte arrived at %s for %d s: the network between the hosts is broken; "
                         "%s runs on at %s",
                         move->to->name, STALL_S, move->vm->name, move->from->name);
            step_copying_cancel(move);
        }
    }
    if (move->adopted && (job->rc || !progress->active))
        copying_look(move);
    else
        loop_timer_start(&move->sampler, SAMPLE_MS, copying_sample, move);
}

static void copying_sample(void *arg)
{
    step_submit(arg, sample_run, sample_finish, 0);
}

/* Splits the time of the copy into its phases. */
static void copy_times(struct move *move, double end)
{
    double stop = move->stop_at ? move->stop_at : end;
    double memory = move->memory_since && move->memory_since < stop ? move->memory_since : stop;

    move->phases[PHASE_STORAGE] += memory > move->entered ? memory - move->entered : 0;
    move->phases[PHASE_MEMORY] += stop - memory;
}

/* --- The point of no return ----------------------------------------------------------------- */

/* After its stop the VM's processor is left to the job for so long: an agent that is spoken to at
 * once costs the ranks half as much time as the stop itself. */
#define LET_RUN_MS 500

static void commit(struct move *move, double at, const char *why)
{
    copy_times(move, at);
    move->resume_at = at;
    if (move->stop_at)
        move->phases[PHASE_DOWNTIME] = at - move->stop_at;
    move->committed = 1;
    guest_follow_later(coordinator_guest(move->coordinator, move->vm),
                       coordinator_host(move->coordinator, move->to), LET_RUN_MS);
    move_goto(move, MOVE_SWITCHING, why);
}

void move_on_lifecycle(struct move *move, const struct inventory_host *host, int event, int detail,
                       double at)
{
    if (move->state != MOVE_COPYING)
        return;
    if (host == move->from && event == VIR_DOMAIN_EVENT_SUSPENDED) {
        move->stop_at = at;
    } else if (host == move->from && event == VIR_DOMAIN_EVENT_RESUMED) {
        move->stop_at = 0; /* the attempt to switch failed */
    } else if (host == move->to && event == VIR_DOMAIN_EVENT_RESUMED) {
        commit(move, at, "the destination resumed the VM");
    }
}

/* --- A look at both sides -------------------------------------------------------------------- */

static void look_run(struct step_job *job)
{
    char error[SENTENCE_MAX];

    job->view_rc =
        domain_look(job->from->uri, job->vm->name, job->vm->hca_alias, &job->view, job->error);
    job->view_to_rc =
        domain_look(job->to->uri, job->vm->name, job->vm->hca_alias, &job->view_to, error);
    if (job->view_to_rc)
        sentence_set(job->error, "%s", error);
}

static void copying_look_again(void *arg)
{
    copying_look(arg);
}

/* In COPYING, when no job of this process is at it: who has the VM? */
static void copying_look_finish(struct move *move, struct step_job *job)
{
    if (job->view_to.presence == DOMAIN_RUNNING) {
        commit(move, move->resume_at ? move->resume_at : loop_now(),
               "the VM runs at the destination");
    } else if (job->view_rc || (job->view_to_rc && job->view.presence != DOMAIN_RUNNING) ||
               job->view.job || job->view.presence == DOMAIN_PAUSED) {
        /* Not over, or one side cannot be asked: never guess. */
        sentence_set(move->waits_for, "%s",
                     job->view_rc || job->view_to_rc ? job->error : "the end of the migration");
        move_tell_progress(move);
        if (job->view.job && !job->view_rc)
            loop_timer_start(&move->sampler, SAMPLE_MS, copying_sample, move);
        else
            loop_timer_start(&move->sampler, LOOK_MS, copying_look_again, move);
    } else {
        copy_times(move, loop_now());
        move_error(move, "%s",
                   move->abort_reason[0] ? move->abort_reason
                   : move->failure[0]    ? move->failure
                                         : "the copy ended without success");
    }
}

static void copying_look(struct move *move)
{
    step_submit(move, look_run, copying_look_finish, 0);
}

/* --- COPYING -------------------------------------------------------------------------------- */

static void migrate_run(struct step_job *job)
{
    job->rc = domain_migrate(job->from->uri, job->vm->name, job->to->migration_uri, job->disks,
                             job->error);
}

/* The copy's failure in words that name the cause rather than libvirt's functions. */
static void migrate_explain(struct move *move, const char *error)
{
    static const struct {
        const char *says, *means;
    } causes[] = {
        {"onnection reset", "its QEMU there ended or the network between the hosts broke"},
        {"Broken pipe", "its QEMU there ended or the network between the hosts broke"},
        {"write to socket", "its QEMU there ended or the network between the hosts broke"},
        {"read from", "its QEMU there ended or the network between the hosts broke"},
        {"keepalive", "the network between the hosts broke"},
        {"timed out", "the network between the hosts broke"},
        {"No route", "the network between the hosts broke"},
        {"end of file", "the libvirtd there ended or the network between the hosts broke"},
        {"End of file", "the libvirtd there ended or the network between the hosts broke"},
        {"monitor", "its QEMU there ended"},
        {"socket is closed", "the network between the hosts broke"},
        {"No space", "a disk is full"},
    };
    const char *found = NULL, *means = strncmp(error, "migrate: ", 9) ? error : error + 9;

    log_line("move %lld: libvirt says: %s", (long long)move->id, error);
    for (unsigned i = 0; i < sizeof(causes) / sizeof(causes[0]) && !found; i++)
        if (strstr(error, causes[i].says))
            means = found = causes[i].means;
    if (move->abort_reason[0])
        sentence_set(move->failure, "%s", move->abort_reason);
    else
        sentence_set(move->failure, "the copy to %s failed because %.250s; %s runs on at %s",
                     move->to->name, means, move->vm->name, move->from->name);
}

static void migrate_finish(struct move *move, struct step_job *job)
{
    move->migrating = 0;
    if (move->state == MOVE_COPYING && move->serial == job->serial) {
        if (job->rc)
            migrate_explain(move, job->error);
        loop_timer_stop(&move->sampler);
        copying_look(move);
    } else if (move->state == MOVE_SWITCHING) {
        if (job->rc)
            log_line("move %lld: libvirt says after the switch: %s", (long long)move->id,
                     job->error);
        move_steps[MOVE_SWITCHING].enter(move);
    }
}

void step_copying(struct move *move)
{
    memset(&move->progress, 0, sizeof(move->progress));
    move->memory_since = move->stop_at = move->resume_at = move->advanced = 0;
    if (move->adopted) {
        copying_look(move);
        return;
    }
    move->migrating = 1;
    step_submit(move, migrate_run, migrate_finish, 1);
    if (move->state == MOVE_COPYING)
        loop_timer_start(&move->sampler, SAMPLE_MS, copying_sample, move);
}

static void cancel_run(struct step_job *job)
{
    job->rc = domain_abort(job->from->uri, job->vm->name, job->error);
}

static void cancel_finish(struct move *move, struct step_job *job)
{
    if (job->rc)
        log_line("move %lld: the copy cannot be cancelled now: %s", (long long)move->id,
                 job->error);
    /* How it ended is told by the migrating job, or by the sampler of an adopted one. */
}

void step_copying_cancel(struct move *move)
{
    step_submit(move, cancel_run, cancel_finish, 0);
}

/* --- SWITCHING ------------------------------------------------------------------------------ */

/* The source's copy must never run again, whatever libvirt thinks of the migration's end. */
static void switching_run(struct step_job *job)
{
    look_run(job);
    if (!job->view_to_rc && job->view_to.presence == DOMAIN_RUNNING && !job->view_rc &&
        job->view.presence != DOMAIN_ABSENT && !job->view.job) {
        log_line("%s runs at %s; ending its copy at %s", job->vm->name, job->to->name,
                 job->from->name);
        job->rc = domain_destroy(job->from->uri, job->vm->name, job->error);
        job->tried = 1;
    }
}

static void switching_look(void *arg);

static void switching_finish(struct move *move, struct step_job *job)
{
    int source_gone =
        !job->view_rc && (job->view.presence == DOMAIN_ABSENT || (job->tried && !job->rc));

    if (!job->view_to_rc && job->view_to.presence == DOMAIN_RUNNING && source_gone) {
        move_ok(move, "one copy runs, at the destination");
    } else if (!job->view_to_rc && !job->view_rc && job->view_to.presence <= DOMAIN_STOPPED &&
               job->view.presence == DOMAIN_RUNNING) {
        /* The destination's QEMU died in the moment of the switch and libvirt gave the VM back. */
        move->committed = 0;
        sentence_set(move->failure, "the copy at %s died right after the switch; %s runs on at %s",
                     move->to->name, move->vm->name, move->from->name);
        move->undoing = 1;
        move_goto(move, MOVE_UNDOING, move->failure);
    } else {
        if (job->view_rc || job->view_to_rc || job->rc)
            sentence_set(move->waits_for, "%s", job->error);
        loop_timer_start(&move->sampler, LOOK_MS, switching_look, move);
    }
}

static void switching_look(void *arg)
{
    step_submit(arg, switching_run, switching_finish, 0);
}

void step_switching(struct move *move)
{
    if (move->migrating) {
        sentence_set(move->waits_for, "the end of libvirt's migration");
        return; /* migrate_finish() comes back here */
    }
    switching_look(move);
}
