/* The coordinator: follows all VMs, hands events to their moves, takes up what is unfinished.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator.h"
#include "move.h"
#include "survey.h"

struct host *coordinator_host(const struct coordinator *coordinator,
                              const struct inventory_host *host)
{
    return coordinator->hosts[host->number];
}

struct guest *coordinator_guest(const struct coordinator *coordinator,
                                const struct inventory_vm *vm)
{
    return coordinator->guests[vm->number];
}

static void on_lifecycle(void *ctx, struct host *host, const char *name, int event, int detail,
                         double at)
{
    struct coordinator *coordinator = ctx;
    const struct inventory_vm *vm = inventory_vm(coordinator->inventory, name);
    struct move *move = vm ? move_of(coordinator, vm) : NULL;

    if (!vm)
        return;
    if (move)
        move_on_lifecycle(move, host_inventory(host), event, detail, at);
    /* A VM that moves without us, or that was started: its agent is where it runs now. */
    if (event == VIR_DOMAIN_EVENT_RESUMED ||
        (event == VIR_DOMAIN_EVENT_STARTED && detail != VIR_DOMAIN_EVENT_STARTED_MIGRATED))
        guest_follow(coordinator_guest(coordinator, vm), host, 0);
}

static void on_device_removed(void *ctx, struct host *host, const char *name, const char *alias)
{
    struct coordinator *coordinator = ctx;
    const struct inventory_vm *vm = inventory_vm(coordinator->inventory, name);
    struct move *move = vm ? move_of(coordinator, vm) : NULL;

    if (move)
        move_on_device_removed(move, host_inventory(host), alias);
}

static void on_survey(void *ctx, struct survey *survey)
{
    struct coordinator *coordinator = ctx;

    for (unsigned v = 0; v < coordinator->inventory->all_vms_count; v++) {
        const struct inventory_vm *vm = inventory_vm_at(coordinator->inventory, v);
        const struct inventory_host *host = survey_find(survey, vm);
        struct move *move = move_of(coordinator, vm);

        /* A look may be older than what the move has seen since. */
        if (host && survey_view(survey, host->number, vm)->presence == DOMAIN_RUNNING &&
            (!move || host == move_host(move)))
            guest_follow(coordinator->guests[v], coordinator_host(coordinator, host), 0);
    }
}

static void on_host_connected(void *ctx, struct host *host, int connected)
{
    struct coordinator *coordinator = ctx;

    /* What happened there meanwhile was not told. */
    if (connected)
        survey_start(coordinator->inventory, on_survey, coordinator);
}

static void on_guest_event(void *ctx, struct guest *guest, const json_t *message)
{
    struct move *move = move_of(ctx, guest_vm(guest));

    if (move)
        move_on_guest_event(move, message);
}

static void on_guest_progress(void *ctx, struct guest *guest, const char *what)
{
    struct move *move = move_of(ctx, guest_vm(guest));

    if (!move || !move->op)
        return;
    sentence_set(move->waits_for, "%s", what);
    move_tell_progress(move);
}

json_t *coordinator_fabric(const struct coordinator *coordinator, const struct inventory_vm *vm,
                           const struct inventory_fabric *fabric, const struct inventory_hca *hca,
                           unsigned add)
{
    uint64_t epoch = journal_epoch(coordinator->journal, vm->name, fabric->name, add);

    return json_pack("{s:s, s:s, s:I, s:s*}", "uuid", fabric->uuid, "name", fabric->name, "epoch",
                     (json_int_t)epoch, "mac", hca ? hca->mac : NULL);
}

/* --- Agents that do not know their fabric ----------------------------------------------------- */

#define ANNOUNCE_LIMIT_MS 20000

static void announce_on_result(void *ctx, int error, const char *message, const json_t *detail)
{
    const struct inventory_vm *vm = ctx;

    if (error)
        log_line("%s: its agent does not take up its fabric: %s", vm->name, message);
}

static void announce_on_survey(void *ctx, struct survey *survey)
{
    struct coordinator *coordinator = ctx;

    for (unsigned v = 0; v < coordinator->inventory->all_vms_count; v++) {
        const struct inventory_vm *vm = inventory_vm_at(coordinator->inventory, v);
        const struct inventory_host *host = survey_find(survey, vm);
        const struct domain_view *view = host ? survey_view(survey, host->number, vm) : NULL;
        const struct inventory_hca *hca =
            view && view->hca_live ? inventory_hca_by_key(host, view->hca_key) : NULL;
        json_t *fabric;

        if (!coordinator->announce[v] || !hca || move_of(coordinator, vm))
            continue;
        coordinator->announce[v] = 0;
        log_line("%s: tells its agent of the fabric %s", vm->name, hca->fabric);
        fabric = coordinator_fabric(coordinator, vm, hca->of_fabric, hca, 0);
        guest_request(coordinator->guests[v], SYMVIRT_RESUME, fabric, ANNOUNCE_LIMIT_MS,
                      announce_on_result, (void *)vm);
        json_decref(fabric);
    }
}

static int knows_a_fabric(const json_t *state)
{
    json_t *fabric;
    size_t i;

    json_array_foreach (json_object_get(state, "fabrics"), i, fabric)
        if (symvirt_message_text(fabric, "uuid")[0])
            return 1;
    return 0;
}

/* An agent in a VM that has just booted must be told which of its devices is which fabric; one that
 * knows is left alone: its fabric may be released on purpose. */
static void on_guest_alive(void *ctx, struct guest *guest, int alive, const json_t *state)
{
    struct coordinator *coordinator = ctx;

    if (!alive || knows_a_fabric(state))
        return;
    coordinator->announce[guest_vm(guest)->number] = 1;
    survey_start(coordinator->inventory, announce_on_survey, coordinator);
}

static void recover_plans(struct coordinator *coordinator)
{
    json_t *rows = journal_moves(coordinator->journal, 1, 0), *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        struct move *move = move_recover(coordinator, row);
        struct plan *plan = coordinator->plans;
        json_t *written;

        while (move && plan && plan->id != move->plan)
            plan = plan->next;
        if (!move || plan)
            continue;
        written = journal_plan(coordinator->journal, move->plan);
        plan_create(coordinator, move->plan,
                    (unsigned)json_integer_value(json_object_get(written, "parallel")));
        json_decref(written);
    }
    json_decref(rows);
    plan_advance(coordinator);
}

int coordinator_start(struct coordinator *coordinator)
{
    static const struct host_callbacks host_callbacks = {on_lifecycle, on_device_removed,
                                                         on_host_connected};
    static const struct guest_callbacks guest_callbacks = {on_guest_event, on_guest_progress,
                                                           on_guest_alive};
    const struct inventory *inventory = coordinator->inventory;

    coordinator->hosts = calloc(inventory->hosts_count, sizeof(*coordinator->hosts));
    coordinator->guests = calloc(inventory->all_vms_count, sizeof(*coordinator->guests));
    coordinator->announce = calloc(inventory->all_vms_count, 1);
    if (!coordinator->hosts || !coordinator->guests || !coordinator->announce)
        return -ENOMEM;
    for (unsigned v = 0; v < inventory->all_vms_count; v++) {
        coordinator->guests[v] =
            guest_create(inventory_vm_at(inventory, v), &guest_callbacks, coordinator);
        if (!coordinator->guests[v])
            return -ENOMEM;
    }
    for (unsigned h = 0; h < inventory->hosts_count; h++) {
        coordinator->hosts[h] =
            host_create(inventory_host_at(inventory, h), &host_callbacks, coordinator);
        if (!coordinator->hosts[h])
            return -ENOMEM;
    }
    recover_plans(coordinator);
    return 0;
}
