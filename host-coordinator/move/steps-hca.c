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
/* Without a word from the agent about the port it is asked to resume and waits for the port itself.
 */
#define LINK_UP_ASK_MS  10000
#define RESUME_LIMIT_MS 125000

static struct guest *guest_of(struct move *move)
{
    return coordinator_guest(move->coordinator, move->vm);
}

/* Asks the agent about the fabric of the move's HCA, telling how to know its device from others. */
static void ask_about_fabric(struct move *move, enum symvirt_message_type type, int new_attachment,
                             int limit_ms, guest_done done)
{
    const struct inventory_hca *hca = move_hca(move);
    const struct inventory_fabric *fabric = hca->of_fabric;
    uint64_t epoch = journal_epoch(move->coordinator->journal, move->vm->name, fabric->name,
                                   (unsigned)new_attachment);
    json_t *object = json_pack("{s:s, s:s, s:I}", "uuid", fabric->uuid, "name", fabric->name,
                               "epoch", (json_int_t)epoch);

    if (hca->mac)
        json_object_set_new(object, "mac", json_string(hca->mac));
    move->op = guest_request(guest_of(move), type, object, limit_ms, done, move);
    json_decref(object);
    if (!move->op)
        move_error(move, "the agent in %s is busy with another request", move->vm->name);
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

void step_releasing(struct move *move)
{
    if (!move->hca_from) {
        move_skip(move, "it has no HCA");
        return;
    }
    move->released = 1;
    move_note(move, "the ranks in %s to move to the lifeline", move->vm->name);
    ask_about_fabric(move, SYMVIRT_RELEASE, 0, SYMVIRT_COORDINATOR_TIMEOUT_MS, releasing_on_result);
}

void step_releasing_cancel(struct move *move)
{
    guest_abort(guest_of(move), move->op);
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

void step_attaching(struct move *move)
{
    const struct inventory_hca *hca = move_hca(move);

    if (!hca) {
        move_skip(move, "there is no HCA at this host; the job runs on over TCP");
        return;
    }
    move->hca_usable = 0;
    move_note(move, "%s of %s to enter %s", hca->name, hca->host->name, move->vm->name);
    step_submit(move, attach_run, attach_finish, 0);
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
    loop_timer_start(&move->again, LINK_UP_ASK_MS, link_up_ask, move);
}

/* --- RESUMING ------------------------------------------------------------------------------- */

static void resuming_on_result(void *ctx, int error, const char *message, const json_t *detail)
{
    struct move *move = ctx;

    move->op = 0;
    if (error) {
        move->retry_state = MOVE_ATTACHING;
        move_error(move, "%s runs at %s over TCP: it does not take up %s: %s", move->vm->name,
                   move_host(move)->name, move_hca(move)->of_fabric->name,
                   message[0] ? message : strerror(error));
        return;
    }
    move->released = move->detached = 0;
    move_ok(move, "the ranks use the fabric");
}

void step_resuming(struct move *move)
{
    move_note(move, "the ranks in %s to move to %s", move->vm->name,
              move_hca(move)->of_fabric->name);
    ask_about_fabric(move, SYMVIRT_RESUME, 1, RESUME_LIMIT_MS, resuming_on_result);
}
