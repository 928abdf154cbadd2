/* Takes moves from state to state: journal, time limits, ends. SPDX-License-Identifier:
 * BSD-3-Clause */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "move.h"

const struct inventory_host *move_host(const struct move *move)
{
    return move->committed ? move->to : move->from;
}

const struct inventory_hca *move_hca(const struct move *move)
{
    return move->committed ? move->hca_to : move->hca_from;
}

struct move *move_of(const struct coordinator *coordinator, const struct inventory_vm *vm)
{
    for (struct move *move = coordinator->moves; move; move = move->next)
        if (move->vm == vm && !move->ended)
            return move;
    return NULL;
}

struct move *move_by_id(const struct coordinator *coordinator, int64_t id)
{
    for (struct move *move = coordinator->moves; move; move = move->next)
        if (move->id == id && !move->ended)
            return move;
    return NULL;
}

struct move *move_create(struct coordinator *coordinator, int64_t plan,
                         const struct inventory_vm *vm, const struct inventory_hca *hca_from,
                         const struct inventory_host *from, const struct inventory_host *to,
                         const struct inventory_hca *hca_to)
{
    struct move *move = calloc(1, sizeof(*move)), **end = &coordinator->moves;
    json_t *record;

    if (!move)
        return NULL;
    move->coordinator = coordinator;
    move->plan = plan;
    move->vm = vm;
    move->from = from;
    move->to = to;
    move->hca_from = hca_from;
    move->hca_to = hca_to;
    move->state = move->retry_state = MOVE_PLANNED;
    move->asked = move->entered = loop_now();
    record = move_record(move);
    move->id = journal_move_add(coordinator->journal, plan, vm->name, move_table[MOVE_PLANNED].name,
                                record, move->asked);
    json_decref(record);
    if (move->id < 0) {
        free(move);
        return NULL;
    }
    while (*end)
        end = &(*end)->next;
    *end = move;
    return move;
}

static void tell_state(struct move *move, const char *why)
{
    move->coordinator->tell(move->coordinator, move->plan,
                            json_pack("{s:s, s:I, s:s, s:s, s:s, s:f, s:s, s:s, s:s}", "event",
                                      "state", "move", (json_int_t)move->id, "vm", move->vm->name,
                                      "state", move_table[move->state].name, "why", why, "at",
                                      move->entered, "doing", move_table[move->state].doing, "from",
                                      move->from->name, "to", move->to->name));
}

void move_tell_progress(struct move *move)
{
    const struct domain_progress *progress = &move->progress;

    move->coordinator->tell(
        move->coordinator, move->plan,
        json_pack("{s:s, s:I, s:s, s:s, s:s, s:f, s:I, s:I, s:I, s:I, s:I}", "event", "progress",
                  "move", (json_int_t)move->id, "vm", move->vm->name, "state",
                  move_table[move->state].name, "waits_for", move->waits_for, "at", loop_now(),
                  "bytes_done", (json_int_t)(progress->disk_processed + progress->memory_processed),
                  "bytes_left", (json_int_t)(progress->disk_remaining + progress->memory_remaining),
                  "bytes_total", (json_int_t)(progress->disk_total + progress->memory_total),
                  "bytes_per_s", (json_int_t)progress->bytes_per_s, "iteration",
                  (json_int_t)progress->iteration));
}

static void leave_state(struct move *move)
{
    enum move_phase phase = move_table[move->state].phase;
    double now = loop_now();

    loop_timer_stop(&move->limit);
    loop_timer_stop(&move->again);
    loop_timer_stop(&move->sampler);
    if (phase != PHASE_NONE)
        move->phases[phase] += now - move->entered;
    if (move->op) {
        guest_forget(coordinator_guest(move->coordinator, move->vm), move->op);
        move->op = 0;
    }
    move->waits_for[0] = move->abort_reason[0] = '\0';
    move->parts = 0;
    move->serial++;
    move->entered = now;
}

static void on_limit(void *arg)
{
    struct move *move = arg;
    const struct move_row *row = &move_table[move->state];
    char reason[SENTENCE_MAX];

    sentence_set(reason, "%s took longer than %.0f s%s%.200s", row->name,
                 loop_now() - move->entered, move->waits_for[0] ? ": " : "", move->waits_for);
    if (move_steps[move->state].cancel && !move->abort_reason[0]) {
        /* The step ends what it has going, and then fails; it gets a while for that. */
        sentence_set(move->abort_reason, "%s", reason);
        loop_timer_start(&move->limit, 120000, on_limit, move);
        move_steps[move->state].cancel(move);
        return;
    }
    move_error(move, "%s", reason);
}

void move_limit(struct move *move, int ms)
{
    loop_timer_start(&move->limit, ms, on_limit, move);
}

void move_goto(struct move *move, enum move_state state, const char *why)
{
    const struct move_row *row = &move_table[state];
    int ends = state == MOVE_DONE || state == MOVE_FAILED;
    json_t *record;

    leave_state(move);
    move->state = state;
    if (ends)
        move->ended = move->entered;
    log_line("move %lld %s: %s%s%s", (long long)move->id, move->vm->name, row->name,
             why[0] ? ": " : "", why);
    record = move_record(move);
    if (journal_move_enter(move->coordinator->journal, move->id, row->name, why, record, ends,
                           move->entered))
        log_line("move %lld: the journal does not take the state %s", (long long)move->id,
                 row->name);
    json_decref(record);
    tell_state(move, why);
    if (ends) {
        plan_advance(move->coordinator);
        return;
    }
    if (row->limit_s)
        loop_timer_start(&move->limit, row->limit_s * 1000, on_limit, move);
    move_steps[state].enter(move);
}

/* Where the table leads, seen with what the move has been through. */
static enum move_state next_state(struct move *move, enum step_end end)
{
    enum move_state next = move_table[move->state].next[end];

    return next == MOVE_DONE && move->undoing ? MOVE_FAILED : next;
}

void move_ok(struct move *move, const char *why)
{
    enum move_state next = next_state(move, STEP_OK);

    if (next == MOVE_DONE || next == MOVE_FAILED)
        move->missing[0] = '\0';
    move_goto(move, next, next == MOVE_FAILED ? move->failure : why);
}

void move_skip(struct move *move, const char *why)
{
    enum move_state next = next_state(move, STEP_SKIP);

    if (next == MOVE_DONE || next == MOVE_FAILED)
        move->missing[0] = '\0';
    move_goto(move, next, next == MOVE_FAILED ? move->failure : why);
}

void move_error(struct move *move, const char *format, ...)
{
    enum move_state next = next_state(move, STEP_ERROR);
    char why[SENTENCE_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    if (next == MOVE_DEGRADED) {
        sentence_set(move->missing, "%s", why);
        move->retry_state = move->state;
    } else if (!move->failure[0]) {
        sentence_set(move->failure, "%s", why);
    }
    if (next == MOVE_UNDOING || next == MOVE_FAILED)
        move->undoing = 1;
    move_goto(move, next, why);
}

void move_note(struct move *move, const char *format, ...)
{
    json_t *record = move_record(move);
    va_list args;

    va_start(args, format);
    vsnprintf(move->waits_for, sizeof(move->waits_for), format, args);
    va_end(args);
    journal_move_update(move->coordinator->journal, move->id, record);
    json_decref(record);
    move_tell_progress(move);
}

int move_abort(struct move *move, char *error)
{
    const struct move_row *row = &move_table[move->state];

    if (!row->can_abort || move->committed) {
        sentence_set(error,
                     move->undoing
                         ? "move %lld is being undone already"
                         : "move %lld has passed the point of no return: %s runs at %s; move it "
                           "back instead",
                     (long long)move->id, move->vm->name, move->to->name);
        return -EPERM;
    }
    if (move->abort_reason[0])
        return 0;
    sentence_set(move->abort_reason, "aborted by the user in %s", row->name);
    if (move_steps[move->state].cancel)
        move_steps[move->state].cancel(move);
    else
        move_error(move, "aborted by the user in %s", row->name);
    return 0;
}

void move_supersede(struct move *move)
{
    if (move->state == MOVE_DEGRADED)
        move_goto(move, move->undoing ? MOVE_FAILED : MOVE_DONE, "a newer move takes over");
}

static void step_job_run(void *arg)
{
    struct step_job *job = arg;

    job->run(job);
}

static void step_job_done(void *arg)
{
    struct step_job *job = arg;
    struct move *move = job->move;

    move->jobs--;
    if (job->always || job->serial == move->serial)
        job->finish(move, job);
    free(job);
    plan_advance(move->coordinator);
}

void step_submit(struct move *move, void (*run)(struct step_job *job),
                 void (*finish)(struct move *move, struct step_job *job), int always)
{
    struct step_job *job = calloc(1, sizeof(*job));

    if (job) {
        job->move = move;
        job->serial = move->serial;
        job->run = run;
        job->finish = finish;
        job->always = always;
        job->vm = move->vm;
        job->from = move->from;
        job->to = move->to;
        job->at = move_host(move);
        job->hca = move_hca(move);
        snprintf(job->disks, sizeof(job->disks), "%s", move->disks);
        snprintf(job->disk_path, sizeof(job->disk_path), "%s", move->disk_path);
    }
    move->jobs++;
    if (!job || loop_submit(step_job_run, step_job_done, job)) {
        move->jobs--;
        free(job);
        move_error(move, "out of memory");
    }
}
