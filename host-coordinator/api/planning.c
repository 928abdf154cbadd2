/* Chooses destination hosts and HCAs for the VMs of a plan, and checks every move before any
 * starts. SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "move.h"
#include "planning.h"
#include "survey.h"

#define PING_LIMIT_MS 5000

struct choice {
    struct planning *planning;
    const struct inventory_vm *vm;
    const struct inventory_host *from, *to;
    const struct inventory_hca *hca_from, *hca_to;
    struct domain_fitness fitness;
    char error[SENTENCE_MAX]; /* why it cannot move */
};

struct planning {
    struct coordinator *coordinator;
    uint64_t client;
    char what[64], to[64];
    unsigned parallel;
    int dry;
    const struct inventory_site *site; /* the destination: a site ... */
    const struct inventory_host *host; /* ... or a host */
    unsigned count, waiting;
    struct choice *choices;
};

static void planning_free(struct planning *planning)
{
    free(planning->choices);
    free(planning);
}

/* --- Choosing ------------------------------------------------------------------------------- */

static int hca_reserved(const struct planning *planning, const struct inventory_hca *hca)
{
    for (struct move *move = planning->coordinator->moves; move; move = move->next)
        if (!move->ended && (move->hca_from == hca || move->hca_to == hca))
            return 1;
    for (unsigned i = 0; i < planning->count; i++)
        if (planning->choices[i].hca_to == hca)
            return 1;
    return 0;
}

static const struct inventory_hca *free_hca(const struct planning *planning,
                                            const struct survey *survey,
                                            const struct inventory_host *host)
{
    for (unsigned i = 0; i < host->hcas_count; i++)
        if (!survey_hca_used(survey, &host->hcas[i]) && !hca_reserved(planning, &host->hcas[i]))
            return &host->hcas[i];
    return NULL;
}

/* How full a host is or will be: of equally good ones the emptiest is taken. */
static unsigned load_of(const struct planning *planning, const struct survey *survey,
                        const struct inventory_host *host)
{
    unsigned load = survey->hosts[host->number].active;

    for (struct move *move = planning->coordinator->moves; move; move = move->next)
        load += !move->ended && !move->committed && move->to == host;
    for (unsigned i = 0; i < planning->count; i++)
        load += planning->choices[i].to == host;
    return load;
}

static void choose_host(struct planning *planning, const struct survey *survey,
                        struct choice *choice)
{
    const struct inventory_host *best = planning->host;

    for (unsigned h = 0; planning->site && h < planning->site->hosts_count; h++) {
        const struct inventory_host *host = &planning->site->hosts[h];
        int has = free_hca(planning, survey, host) != NULL;
        int best_has = best && free_hca(planning, survey, best) != NULL;

        if (!survey->hosts[host->number].reachable)
            continue;
        if (!best || has > best_has ||
            (has == best_has && load_of(planning, survey, host) < load_of(planning, survey, best)))
            best = host;
    }
    if (!best)
        sentence_set(choice->error, "no host of %s answers: %.200s", planning->to,
                     survey->hosts[planning->site->hosts[0].number].error);
    else if (!survey->hosts[best->number].reachable)
        sentence_set(choice->error, "%s does not answer: %.300s", best->name,
                     survey->hosts[best->number].error);
    else
        choice->to = best;
    if (choice->to)
        choice->hca_to = free_hca(planning, survey, choice->to);
}

/* 'vm' joins the plan unless it is at the destination already. */
static void choose(struct planning *planning, const struct survey *survey,
                   const struct inventory_vm *vm)
{
    struct choice *choice = &planning->choices[planning->count];
    const struct inventory_host *from = survey_find(survey, vm);
    const struct domain_view *view;
    struct move *other = move_of(planning->coordinator, vm);

    if (from && (from == planning->host || from->site == planning->site))
        return;
    choice->planning = planning;
    choice->vm = vm;
    choice->from = from;
    if (!from) {
        sentence_set(choice->error, "%s runs at no host of the inventory", vm->name);
    } else if (other && other->state != MOVE_DEGRADED) {
        sentence_set(choice->error, "%s is being moved already (move %lld, %s)", vm->name,
                     (long long)other->id, move_table[other->state].name);
    } else {
        view = survey_view(survey, from->number, vm);
        choice->hca_from = view->hca_live ? inventory_hca_by_key(from, view->hca_key) : NULL;
        if (view->hca_live && !choice->hca_from)
            sentence_set(choice->error, "the HCA of %s (%s) is not in the inventory of %s",
                         vm->name, view->hca_key, from->name);
        else if (view->presence != DOMAIN_RUNNING)
            sentence_set(choice->error, "%s is paused at %s", vm->name, from->name);
        else
            choose_host(planning, survey, choice);
    }
    planning->count++;
}

/* --- Checking ------------------------------------------------------------------------------- */

static void check_run(void *arg)
{
    struct choice *choice = arg;
    char why[SENTENCE_MAX];

    if (domain_check(choice->from->uri, choice->to->uri, choice->vm->name, choice->vm->hca_alias,
                     choice->vm->base_image, &choice->fitness, why))
        sentence_set(choice->error, "%s cannot move to %s: %.300s", choice->vm->name,
                     choice->to->name, why);
}

static json_t *choice_describe(const struct choice *choice)
{
    return json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:I}", "vm", choice->vm->name, "from",
                     choice->from->name, "to", choice->to->name, "hca_from",
                     choice->hca_from ? choice->hca_from->name : NULL, "hca_to",
                     choice->hca_to ? choice->hca_to->name : NULL, "memory_bytes",
                     (json_int_t)(choice->fitness.memory_kib * 1024));
}

static const char *first_error(const struct planning *planning)
{
    for (unsigned i = 0; i < planning->count; i++)
        if (planning->choices[i].error[0])
            return planning->choices[i].error;
    return NULL;
}

/* Writes plan and moves to the journal and starts them. */
static int64_t planning_commit(struct planning *planning)
{
    struct coordinator *coordinator = planning->coordinator;
    int64_t id = journal_plan_add(coordinator->journal, planning->what, planning->to,
                                  planning->parallel, loop_now());

    if (id < 0)
        return id;
    for (unsigned i = 0; i < planning->count; i++) {
        const struct choice *choice = &planning->choices[i];
        struct move *other = move_of(coordinator, choice->vm);

        if (other)
            move_supersede(other);
        if (!move_create(coordinator, id, choice->vm, choice->hca_from, choice->from, choice->to,
                         choice->hca_to))
            return -1;
    }
    return plan_create(coordinator, id, planning->parallel) ? id : -1;
}

static void planning_answer(struct planning *planning, struct client *client, int64_t id)
{
    json_t *moves = json_array();

    for (unsigned i = 0; i < planning->count; i++)
        json_array_append_new(moves, choice_describe(&planning->choices[i]));
    api_send(client, json_pack("{s:s, s:I, s:s, s:s, s:i, s:o}", "event", "plan", "plan",
                               (json_int_t)id, "what", planning->what, "to", planning->to,
                               "parallel", (int)planning->parallel, "moves", moves));
}

static void planning_end(struct planning *planning)
{
    struct client *client = api_client(planning->client);
    const char *error = first_error(planning);
    int64_t id = 0;

    if (error) {
        log_line("refused to move %s to %s: %s", planning->what, planning->to, error);
        if (client)
            api_fail(client, 2, "%s; nothing was changed", error);
    } else if (client) {
        /* Nobody starts a plan whose asker has gone meanwhile. */
        if (!planning->dry && planning->count)
            id = planning_commit(planning);
        if (id < 0) {
            api_fail(client, 1, "the journal cannot be written; nothing was changed");
        } else {
            planning_answer(planning, client, id);
            if (id)
                api_follow(client, id);
            else
                api_send(client, json_pack("{s:s, s:b}", "event", "end", "ok", 1));
        }
    }
    if (id > 0)
        plan_advance(planning->coordinator);
    planning_free(planning);
}

static void ping_done(void *ctx, int error, const char *message, const json_t *detail)
{
    struct choice *choice = ctx;

    if (error)
        sentence_set(choice->error, "the agent in %s does not answer (%s)", choice->vm->name,
                     message);
    if (!--choice->planning->waiting)
        planning_end(choice->planning);
}

/* The agents are asked once libvirt has nothing against the moves. */
static void planning_ping(struct planning *planning)
{
    planning->waiting = planning->count;
    for (unsigned i = 0; i < planning->count; i++)
        if (!guest_request(coordinator_guest(planning->coordinator, planning->choices[i].vm),
                           SYMVIRT_PING, NULL, PING_LIMIT_MS, ping_done, &planning->choices[i])) {
            sentence_set(planning->choices[i].error, "the agent in %s cannot be asked",
                         planning->choices[i].vm->name);
            planning->waiting--;
        }
    if (!planning->waiting)
        planning_end(planning);
}

static void checks_end(struct planning *planning)
{
    if (first_error(planning))
        planning_end(planning);
    else
        planning_ping(planning);
}

static void checks_part_done(void *arg)
{
    struct choice *choice = arg;

    if (!--choice->planning->waiting)
        checks_end(choice->planning);
}

static void on_survey(void *ctx, struct survey *survey)
{
    struct planning *planning = ctx;
    const struct inventory *inventory = planning->coordinator->inventory;
    const struct inventory_cluster *cluster = inventory_cluster(inventory, planning->what);

    for (unsigned v = 0; cluster && v < cluster->vms_count; v++)
        choose(planning, survey, &cluster->vms[v]);
    if (!cluster)
        choose(planning, survey, inventory_vm(inventory, planning->what));
    if (first_error(planning) || !planning->count) {
        planning_end(planning);
        return;
    }
    planning->waiting = planning->count;
    for (unsigned i = 0; i < planning->count; i++)
        if (loop_submit(check_run, checks_part_done, &planning->choices[i])) {
            sentence_set(planning->choices[i].error, "out of memory");
            planning->waiting--;
        }
    if (!planning->waiting)
        planning_end(planning);
}

void planning_start(struct coordinator *coordinator, struct client *client, const char *what,
                    const char *to, unsigned parallel, int dry)
{
    const struct inventory *inventory = coordinator->inventory;
    struct planning *planning;

    if (!inventory_cluster(inventory, what) && !inventory_vm(inventory, what)) {
        api_fail(client, 2,
                 "there is no cluster or VM named '%s' in the inventory; nothing was changed",
                 what);
        return;
    }
    if (!inventory_site(inventory, to) && !inventory_host(inventory, to)) {
        api_fail(client, 2,
                 "there is no site or host named '%s' in the inventory; nothing was changed", to);
        return;
    }
    planning = calloc(1, sizeof(*planning));
    if (planning)
        planning->choices = calloc(inventory->all_vms_count, sizeof(*planning->choices));
    if (!planning || !planning->choices) {
        free(planning);
        api_fail(client, 1, "out of memory");
        return;
    }
    planning->coordinator = coordinator;
    planning->client = api_client_id(client);
    snprintf(planning->what, sizeof(planning->what), "%s", what);
    snprintf(planning->to, sizeof(planning->to), "%s", to);
    planning->parallel = parallel;
    planning->dry = dry;
    planning->site = inventory_site(inventory, to);
    planning->host = inventory_host(inventory, to);
    if (survey_start(inventory, on_survey, planning)) {
        planning_free(planning);
        api_fail(client, 1, "out of memory");
    }
}
