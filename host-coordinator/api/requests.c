/* What ninjactl can ask. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "move.h"
#include "planning.h"
#include "server.h"
#include "survey.h"

#define PARALLEL_MAX 32

/* A request that is answered later. */
struct pending {
    struct coordinator *coordinator;
    uint64_t client;
    const struct inventory_vm *vm;
    const struct inventory_fabric *fabric;
    const char *verb;
    enum symvirt_message_type type;
    int limit_ms;
    unsigned asked;
    struct loop_timer again;
};

static struct pending *pending_create(struct coordinator *coordinator, struct client *client)
{
    struct pending *pending = calloc(1, sizeof(*pending));

    if (!pending) {
        api_fail(client, 1, "out of memory");
        return NULL;
    }
    pending->coordinator = coordinator;
    pending->client = api_client_id(client);
    return pending;
}

static const char *text_of(const json_t *request, const char *member)
{
    const char *text = json_string_value(json_object_get(request, member));

    return text ? text : "";
}

/* --- status --------------------------------------------------------------------------------- */

static json_t *host_describe(struct coordinator *coordinator, const struct survey *survey,
                             const struct inventory_host *host)
{
    const struct survey_host *seen = &survey->hosts[host->number];
    json_t *hcas = json_array();

    for (unsigned i = 0; i < host->hcas_count; i++)
        json_array_append_new(hcas, json_pack("{s:s, s:s, s:b}", "name", host->hcas[i].name,
                                              "fabric", host->hcas[i].fabric, "used",
                                              survey_hca_used(survey, &host->hcas[i])));
    return json_pack("{s:s, s:s, s:b, s:s, s:i, s:o}", "name", host->name, "site", host->site->name,
                     "reachable", seen->reachable, "error", seen->error, "active_vms",
                     (int)seen->active, "hcas", hcas);
}

static json_t *vm_describe(struct coordinator *coordinator, const struct survey *survey,
                           const struct inventory_vm *vm)
{
    const struct inventory_host *host = survey_find(survey, vm);
    const struct domain_view *view = host ? survey_view(survey, host->number, vm) : NULL;
    const struct inventory_hca *hca =
        view && view->hca_live ? inventory_hca_by_key(host, view->hca_key) : NULL;
    struct move *move = move_of(coordinator, vm);
    unsigned copies = 0;

    for (unsigned h = 0; h < coordinator->inventory->hosts_count; h++)
        copies += survey_view(survey, h, vm)->presence == DOMAIN_RUNNING;
    return json_pack("{s:s, s:s, s:s?, s:s?, s:s, s:i, s:s?, s:s?, s:b, s:o, s:s?, s:s?}", "name",
                     vm->name, "cluster", vm->cluster->name, "site", host ? host->site->name : NULL,
                     "host", host ? host->name : NULL, "state",
                     !host                              ? "absent"
                     : view->presence == DOMAIN_RUNNING ? "running"
                                                        : "paused",
                     "running_copies", (int)copies, "hca",
                     hca                      ? hca->name
                     : view && view->hca_live ? view->hca_key
                                              : NULL,
                     "fabric", hca ? hca->fabric : NULL, "agent",
                     guest_alive(coordinator_guest(coordinator, vm)), "move",
                     move ? json_integer((json_int_t)move->id) : json_null(), "move_state",
                     move ? move_table[move->state].name : NULL, "missing",
                     move && move->missing[0] ? move->missing : NULL);
}

static void status_on_survey(void *ctx, struct survey *survey)
{
    struct pending *pending = ctx;
    struct coordinator *coordinator = pending->coordinator;
    struct client *client = api_client(pending->client);
    json_t *hosts = json_array(), *vms = json_array();

    for (unsigned h = 0; h < coordinator->inventory->hosts_count; h++)
        json_array_append_new(hosts, host_describe(coordinator, survey,
                                                   inventory_host_at(coordinator->inventory, h)));
    for (unsigned v = 0; v < coordinator->inventory->all_vms_count; v++)
        json_array_append_new(
            vms, vm_describe(coordinator, survey, inventory_vm_at(coordinator->inventory, v)));
    if (client)
        api_send(client, json_pack("{s:O, s:O}", "hosts", hosts, "vms", vms));
    json_decref(hosts);
    json_decref(vms);
    free(pending);
}

static void request_status(struct coordinator *coordinator, struct client *client,
                           const json_t *request)
{
    struct pending *pending = pending_create(coordinator, client);

    if (pending && survey_start(coordinator->inventory, status_on_survey, pending)) {
        free(pending);
        api_fail(client, 1, "out of memory");
    }
}

/* --- migrate, follow, abort ------------------------------------------------------------------ */

static void request_migrate(struct coordinator *coordinator, struct client *client,
                            const json_t *request)
{
    json_int_t parallel = json_integer_value(json_object_get(request, "parallel"));

    if (parallel < 0 || parallel > PARALLEL_MAX) {
        api_fail(client, 2, "at most %d moves can run at the same time", PARALLEL_MAX);
        return;
    }
    planning_start(coordinator, client, text_of(request, "what"), text_of(request, "to"),
                   parallel ? (unsigned)parallel : 1,
                   json_is_true(json_object_get(request, "plan")));
}

/* A client that was there before a restart comes back to its plan. */
static void request_follow(struct coordinator *coordinator, struct client *client,
                           const json_t *request)
{
    json_int_t id = json_integer_value(json_object_get(request, "plan"));
    struct plan *plan = coordinator->plans;
    json_t *rows, *row;
    size_t i;
    int found = 0, ok = 1;

    while (plan && (plan->id != id || plan->told_end))
        plan = plan->next;
    if (plan) {
        api_follow(client, id);
        return;
    }
    rows = journal_moves(coordinator->journal, 0, 0);
    json_array_foreach (rows, i, row)
        if (json_integer_value(json_object_get(row, "plan")) == id) {
            found = 1;
            ok = ok && !strcmp(text_of(row, "state"), move_table[MOVE_DONE].name);
        }
    json_decref(rows);
    if (found)
        api_send(client, json_pack("{s:s, s:I, s:b, s:b}", "event", "end", "plan", id, "ok", ok,
                                   "degraded", 0));
    else
        api_fail(client, 2, "there is no plan %lld", (long long)id);
}

static void request_abort(struct coordinator *coordinator, struct client *client,
                          const json_t *request)
{
    json_int_t id = json_integer_value(json_object_get(request, "move"));
    struct move *move = move_by_id(coordinator, id);
    char error[SENTENCE_MAX];

    if (!move)
        api_fail(client, 2, "there is no move %lld under way", (long long)id);
    else if (move_abort(move, error))
        api_fail(client, 2, "%s", error);
    else
        api_send(client, json_pack("{s:b, s:I}", "ok", 1, "move", id));
}

/* --- history, explain ------------------------------------------------------------------------ */

static void request_history(struct coordinator *coordinator, struct client *client,
                            const json_t *request)
{
    json_t *rows = journal_moves(coordinator->journal, 0,
                                 (unsigned)json_integer_value(json_object_get(request, "limit")));
    json_t *moves = json_array(), *row;
    size_t i;

    json_array_foreach (rows, i, row)
        json_array_append_new(moves, move_report(row));
    json_decref(rows);
    api_send(client, json_pack("{s:o}", "moves", moves));
}

static void request_explain(struct coordinator *coordinator, struct client *client,
                            const json_t *request)
{
    json_int_t id = json_integer_value(json_object_get(request, "move"));
    struct move *move = move_by_id(coordinator, id);
    json_t *row = journal_move(coordinator->journal, id), *report;

    if (!row) {
        api_fail(client, 2, "there is no move %lld", (long long)id);
        return;
    }
    report = move_report(row);
    json_object_set_new(report, "transitions", journal_transitions(coordinator->journal, id));
    if (move)
        json_object_set_new(report, "waits_for", json_string(move->waits_for));
    json_decref(row);
    api_send(client, report);
}

/* --- release, resume ------------------------------------------------------------------------- */

static void fabric_on_result(void *ctx, int error, const char *message, const json_t *detail)
{
    struct pending *pending = ctx;
    struct client *client = api_client(pending->client);

    if (client && error)
        api_fail(client, 1, "%s does not %s %s: %s", pending->vm->name, pending->verb,
                 pending->fabric->name, message[0] ? message : strerror(error));
    else if (client)
        api_send(client, json_pack("{s:b, s:s, s:s}", "ok", 1, "vm", pending->vm->name, "fabric",
                                   pending->fabric->name));
    free(pending);
}

/* An agent that is busy, perhaps with what ninjad itself told it just now, is asked again. */
#define ASK_AGAIN_MS 250
#define ASK_LIMIT    80

static void ask_about_fabric(void *arg)
{
    struct pending *pending = arg;
    struct coordinator *coordinator = pending->coordinator;
    struct client *client = api_client(pending->client);
    json_t *object;

    if (!client) {
        free(pending);
        return;
    }
    object = coordinator_fabric(coordinator, pending->vm, pending->fabric, NULL, 0);
    if (guest_request(coordinator_guest(coordinator, pending->vm), pending->type, object,
                      pending->limit_ms, fabric_on_result, pending)) {
        /* fabric_on_result() goes on */
    } else if (guest_alive(coordinator_guest(coordinator, pending->vm)) &&
               ++pending->asked < ASK_LIMIT) {
        loop_timer_start(&pending->again, ASK_AGAIN_MS, ask_about_fabric, pending);
    } else {
        api_fail(client, 1, "the agent in %s %s", pending->vm->name,
                 pending->asked < ASK_LIMIT ? "does not answer" : "is busy");
        free(pending);
    }
    json_decref(object);
}

static void request_fabric(struct coordinator *coordinator, struct client *client,
                           const json_t *request, const char *verb, enum symvirt_message_type type,
                           int limit_ms)
{
    const struct inventory_vm *vm = inventory_vm(coordinator->inventory, text_of(request, "vm"));
    const struct inventory_fabric *fabric =
        inventory_fabric(coordinator->inventory, text_of(request, "fabric"));
    struct pending *pending;

    if (!vm || !fabric) {
        api_fail(client, 2, "there is no %s named '%s' in the inventory", vm ? "fabric" : "VM",
                 text_of(request, vm ? "fabric" : "vm"));
        return;
    }
    if (move_of(coordinator, vm)) {
        api_fail(client, 2, "%s is being moved", vm->name);
        return;
    }
    pending = pending_create(coordinator, client);
    if (!pending)
        return;
    pending->vm = vm;
    pending->fabric = fabric;
    pending->verb = verb;
    pending->type = type;
    pending->limit_ms = limit_ms;
    ask_about_fabric(pending);
}

static void request_release(struct coordinator *coordinator, struct client *client,
                            const json_t *request)
{
    request_fabric(coordinator, client, request, "release", SYMVIRT_RELEASE,
                   SYMVIRT_COORDINATOR_TIMEOUT_MS);
}

static void request_resume(struct coordinator *coordinator, struct client *client,
                           const json_t *request)
{
    request_fabric(coordinator, client, request, "resume", SYMVIRT_RESUME, 125000);
}

void api_request(struct coordinator *coordinator, struct client *client, const json_t *request)
{
    static const struct {
        const char *name;
        void (*answer)(struct coordinator *coordinator, struct client *client,
                       const json_t *request);
    } known[] = {
        {"status", request_status},   {"migrate", request_migrate}, {"follow", request_follow},
        {"abort", request_abort},     {"history", request_history}, {"explain", request_explain},
        {"release", request_release}, {"resume", request_resume},   {"ranks", request_ranks}};
    const char *name = text_of(request, "request");

    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (!strcmp(known[i].name, name)) {
            known[i].answer(coordinator, client, request);
            return;
        }
    api_fail(client, 2, "unknown request '%.40s'", name);
}
