/* Asks all hosts at once what runs there and which devices are taken.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "domain-private.h"
#include "domxml.h"
#include "host.h"
#include "loop.h"
#include "survey.h"

struct survey_job {
    struct survey *survey;
    unsigned host;
};

static void survey_add_key(void *ctx, const char *key)
{
    struct survey_host *host = ctx;

    if (host->key_count < SURVEY_KEYS_MAX)
        snprintf(host->keys[host->key_count++], sizeof(host->keys[0]), "%.39s", key);
}

static void survey_add_keys(struct survey_host *host, virDomainPtr domain, unsigned flags)
{
    char *xml = virDomainGetXMLDesc(domain, flags);

    if (xml)
        domxml_keys(xml, survey_add_key, host);
    free(xml);
}

static void survey_run(void *arg)
{
    struct survey_job *job = arg;
    const struct inventory *inventory = job->survey->inventory;
    const struct inventory_host *at = inventory_host_at(inventory, job->host);
    struct survey_host *host = &job->survey->hosts[job->host];
    virConnectPtr connection = host_connect(at->uri, host->error);
    virDomainPtr *domains = NULL;
    int count;

    if (!connection)
        return;
    count = virConnectListAllDomains(connection, &domains, 0);
    if (count < 0)
        sentence_set(host->error, "%s", virGetLastErrorMessage());
    host->reachable = count >= 0;
    for (int i = 0; i < count; i++) {
        host->active += virDomainIsActive(domains[i]) == 1;
        if (domain_can_describe(domains[i]))
            survey_add_keys(host, domains[i], 0);
        if (virDomainIsPersistent(domains[i]) == 1)
            survey_add_keys(host, domains[i], VIR_DOMAIN_XML_INACTIVE);
        virDomainFree(domains[i]);
    }
    free(domains);
    for (unsigned v = 0; count > 0 && v < inventory->all_vms_count; v++) {
        const struct inventory_vm *vm = inventory_vm_at(inventory, v);

        domain_look(at->uri, vm->name, vm->hca_alias, &host->views[v], host->error);
    }
    virConnectClose(connection);
}

static void survey_destroy(struct survey *survey)
{
    for (unsigned i = 0; survey->hosts && i < survey->inventory->hosts_count; i++)
        free(survey->hosts[i].views);
    free(survey->hosts);
    free(survey);
}

static void survey_done(void *arg)
{
    struct survey_job *job = arg;
    struct survey *survey = job->survey;

    free(job);
    if (--survey->waiting)
        return;
    survey->done(survey->ctx, survey);
    survey_destroy(survey);
}

int survey_start(const struct inventory *inventory, void (*done)(void *ctx, struct survey *survey),
                 void *ctx)
{
    struct survey *survey = calloc(1, sizeof(*survey));

    if (!survey)
        return -ENOMEM;
    survey->inventory = inventory;
    survey->done = done;
    survey->ctx = ctx;
    survey->hosts = calloc(inventory->hosts_count, sizeof(*survey->hosts));
    for (unsigned i = 0; survey->hosts && i < inventory->hosts_count; i++) {
        struct survey_job *job = calloc(1, sizeof(*job));

        survey->hosts[i].views = calloc(inventory->all_vms_count, sizeof(struct domain_view));
        if (!job || !survey->hosts[i].views) {
            free(job);
            continue;
        }
        job->survey = survey;
        job->host = i;
        survey->waiting++;
        if (loop_submit(survey_run, survey_done, job)) {
            survey->waiting--;
            free(job);
        }
    }
    if (survey->waiting)
        return 0;
    survey_destroy(survey);
    return -ENOMEM;
}

const struct domain_view *survey_view(const struct survey *survey, unsigned host,
                                      const struct inventory_vm *vm)
{
    static const struct domain_view nothing;

    return survey->hosts[host].views ? &survey->hosts[host].views[vm->number] : &nothing;
}

const struct inventory_host *survey_find(const struct survey *survey, const struct inventory_vm *vm)
{
    const struct inventory_host *paused = NULL;

    for (unsigned i = 0; i < survey->inventory->hosts_count; i++) {
        enum domain_presence presence = survey_view(survey, i, vm)->presence;

        if (presence == DOMAIN_RUNNING)
            return inventory_host_at(survey->inventory, i);
        if (presence == DOMAIN_PAUSED)
            paused = inventory_host_at(survey->inventory, i);
    }
    return paused;
}

int survey_hca_used(const struct survey *survey, const struct inventory_hca *hca)
{
    const struct survey_host *host = &survey->hosts[hca->host->number];
    const char *key = inventory_hca_key(hca);

    for (unsigned i = 0; key && i < host->key_count; i++)
        if (!strcasecmp(host->keys[i], key))
            return 1;
    return 0;
}
