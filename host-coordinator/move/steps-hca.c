/* The states that take the HCA out of a VM and put one into it.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "hca.h"
#include "move.h"

#define DETACH_AGAIN_MS 10000 /* a guest in early boot loses the request */
#define RESUME_GRACE_MS                                                                            \
    10000 /* between our limit, at which the agent is told to give up, and its silence */

static struct guest *guest_of(struct move *move)
{
    return coordinator_guest(move->coordinator, move->vm);
}

#define ASK_AGAIN_MS 500 /* an agent that is busy with something else */

/* Asks the agent about the fabric of the move's HCA; 'again' is called while it cannot be asked. */
static void ask_about_fabric(struct move *move, enum symvirt_message_type type, unsigned add,
                             int limit_ms, guest_done done, void (*again)(void *move))
{
    const struct inventory_hca *hca = move_hca(move);
    json_t *fabric = coordinator_fabric(move->coordinator, move->vm, hca->of_fabric, hca, add);

    move->op = guest_request(guest_of(move), type, fabric, limit_ms, done, move);
    json_decref(fabric);
    if (!move->op)
        loop_timer_start(&move->again, ASK_AGAIN_MS, again, move);
}

/* --- RELEASING ------------------------------------------------------------------------------ */

static void releasing_on_result(void *ctx, int error, const char *message, const json_t *detail)
{
    struct move *move = ctx;

    move->op = 0;
    if (error && error != ETIMEDOUT)
        move->released = 0; /* the agent has undone what it began */
    if (move->abort_reason[0])
        move_error(move, "%s", move->abort_reason);
    else if (error)
        move_error(move, "%s does not give up %s: %s", move->vm->name,
                   move_hca(move)->of_fabric->name, message[0] ? message : strerror(error));
    else
        move_ok(move, "nobody in the guest holds the HCA");
}

static void releasing_ask(void *arg)
{
    ask_about_fabric(arg, SYMVIRT_RELEASE, 0, SYMVIRT_COORDINATOR_TIMEOUT_MS, releasing_on_result,
                     releasing_ask);
}

void step_releasing(struct move *move)
{
    if (!move->hca_from) {
        move_skip(move, "it has no HCA");
        return;
    }
    move->released = 1;
    move_note(move, "the ranks in %s to move to the lifeline", move->vm->name);
    releasing_ask(move);
}

void step_releasing_cancel(struct move *move)
{
    if (move->op)
        guest_abort(guest_of(move), move->op);
    else
        move_error(move, "%s", move->abort_reason);
}

/* --- DETACHING ------------------------------------------------------------------------------ */

static void detach_run(struct step_job *job)
{
    job->rc = domain_detach(job->at->uri, job->vm->name, job->vm->hca_alias, job->error);
    if (!job->rc || job->rc == -ENODEV)
        return;
    /* "already in progress" and the like: the live definition tells. */
    domain_look(job->at->uri, job->vm->name, job->vm->hca_alias, &job->view, job->error);
}

static void detach_config_run(struct step_job *job)
{
    job->rc = domain_look(job->at->uri, job->vm->name, job->vm->hca_alias, &job->view, job->error);
    if (!job->rc && job->view.hca_live) {
        job->rc = -EAGAIN;
        return;
    }
    if (!job->rc)
        job->rc = domain_detach_config(job->at->uri, job->vm->name, job->vm->hca_alias, job->error);
}

static void detach_again(void *arg);

static void detach_config_finish(struct move *move, struct step_job *job)
{
    if (job->rc == -EAGAIN)
        loop_timer_start(&move->again, DETACH_AGAIN_MS, detach_again, move);
    else if (job->rc)
        move_error(move, "the HCA of %s cannot be taken out of its definition: %s", move->vm->name,
                   job->error);
    else
        move_ok(move, "the HCA has left the VM");
}

static void detach_finish(struct move *move, struct step_job *job)
{
    if (job->rc == -ENODEV)
        step_submit(move, detach_config_run, detach_config_finish, 0);
    else
        loop_timer_start(&move->again, DETACH_AGAIN_MS, detach_again, move);
}

static void detach_again(void *arg)
{
    step_submit(arg, detach_run, detach_finish, 0);
}

void move_on_device_removed(struct move *move, const struct inventory_host *host, const char *alias)
{
    if (move->state != MOVE_DETACHING || host != move->from || strcmp(alias, move->vm->hca_alias))
        return;
    loop_timer_stop(&move->again);
    step_submit(move, detach_config_run, detach_config_finish, 0);
}

void step_detaching(struct move *move)
{
    move->detached = 1;
    move_note(move, "the guest to let the HCA go");
    step_submit(move, detach_run, detach_finish, 0);
}

/* --- ATTACHING ------------------------------------------------------------------------------ */

static void attach_run(struct step_job *job)
{
    char *xml = NULL;

    job->rc = hca_device_xml(job->hca, job->vm->hca_alias, &xml, job->error);
    if (!job->rc)
        job->rc = domain_attach(job->at->uri, job->vm->name, job->vm->hca_alias, xml, job->error);
    free(xml);
}

static void attach_finish(struct move *move, struct step_job *job)
{
    if (job->rc)
        move_error(move, "%s runs at %s over TCP: its HCA %s cannot be attached: %s",
                   move->vm->name, move_host(move)->name, job->hca->name, job->error);
    else
        move_ok(move, "attached");
}

/* Seconds that the job is left to catch up after the VM's stop, before its processor is busy with
 * finding a new device. */
#define SETTLE_S 1.0

static void attach_now(void *arg)
{
    struct move *move = arg;

    move->entered = loop_now(); /* the phase is the attachment, not the wait before it */
    step_submit(move, attach_run, attach_finish, 0);
}

void step_attaching(struct move *move)
{
    const struct inventory_hca *hca = move_hca(move);
    double settled = move->resume_at ? move->resume_at + SETTLE_S - loop_now() : 0;

    if (!hca) {
        move_skip(move, "there is no HCA at this host; the job runs on over TCP");
        return;
    }
    move->hca_usable = 0;
    move_note(move, "%s of %s to enter %s", hca->name, hca->host->name, move->vm->name);
    if (settled > 0 && settled <= SETTLE_S)
        loop_timer_start(&move->again, (int)(settled * 1000), attach_now, move);
    else
        attach_now(move);
}

/* --- LINK_UP -------------------------------------------------------------------------------- */

void move_on_guest_event(struct move *move, const json_t *message)
{
    const struct inventory_hca *hca = move_hca(move);
    const char *key = hca ? inventory_hca_key(hca) : NULL;

    if (!key || (move->state != MOVE_ATTACHING && move->state != MOVE_LINK_UP) ||
        (strcasecmp(symvirt_message_text(message, "mac"), key) &&
         strcasecmp(symvirt_message_text(message, "pci"), key)))
        return;
    if (!strcmp(symvirt_message_text(message, "event"), SYMVIRT_EVENT_DEVICE_REMOVED))
        return;
    move->hca_usable = json_is_true(json_object_get(message, "usable"));
    if (move->state == MOVE_LINK_UP && move->hca_usable)
        move_ok(move, "the port is ACTIVE");
}

/* Without a word about the port, a third of the time is left to the agent, which says what it
 * misses. */
static void link_up_ask(void *arg)
{
    move_ok(arg, "no word about the port yet; the agent waits for it");
}

void step_link_up(struct move *move)
{
    if (move->hca_usable) {
        move_ok(move, "the port is ACTIVE");
        return;
    }
    move_note(move, "the port of %s in %s to become ACTIVE", move_hca(move)->name, move->vm->name);
    move_limit(move, move->coordinator->link_limit_s * 1000);
    loop_timer_start(&move->again, move->coordinator->link_limit_s * 667, link_up_ask, move);
}

/* --- RESUMING ------------------------------------------------------------------------------- */

static void resuming_on_result(void *ctx, int error, const char *message, const json_t *detail)
{
    struct move *move = ctx;
    const char *why = move->abort_reason[0] ? move->abort_reason
                      : message[0]          ? message
                                            : strerror(error);

    move->op = 0;
    if (error) {
        move_error(move, "%s runs at %s over TCP: it does not take up %s: %.250s", move->vm->name,
                   move_host(move)->name, move_hca(move)->of_fabric->name, why);
        return;
    }
    move->released = move->detached = 0;
    move_ok(move, "the ranks use the fabric");
}

/* The limit has come: the agent gives up, and its result ends the step. */
void step_resuming_cancel(struct move *move)
{
    if (move->op)
        guest_abort(guest_of(move), move->op);
    else
        move_error(move, "%s", move->abort_reason);
}

static int resuming_limit_ms(const struct move *move)
{
    /* What LINK_UP left over; a port that is usable already needs less. */
    return move->hca_usable ? move_table[MOVE_RESUMING].limit_s * 1000
                            : move->coordinator->link_limit_s * 333;
}

static void resuming_ask(void *arg)
{
    struct move *move = arg;

    ask_about_fabric(move, SYMVIRT_RESUME, 0, resuming_limit_ms(move) + RESUME_GRACE_MS,
                     resuming_on_result, resuming_ask);
}

void step_resuming(struct move *move)
{
    const struct inventory_hca *hca = move_hca(move);
    int again = move->retries > 0 && move->retry_state == MOVE_RESUMING;

    /* A new epoch has ranks open the device anew: not because one of them did not answer. */
    journal_epoch(move->coordinator->journal, move->vm->name, hca->of_fabric->name, again ? 0 : 1);
    move_limit(move, resuming_limit_ms(move));
    move_note(move, "the ranks in %s to move to %s", move->vm->name, hca->of_fabric->name);
    resuming_ask(move);
}
