/*
 * Status of a rank as JSON; the schema is in docs/rank-status.md.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "status.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include <symvirt.h>

#include "core.h"
#include "lifeline.h"

static double seconds_since(uint64_t since_ms)
{
    return (double)(ninja_now_ms() - since_ms) / 1000.0;
}

static json_t *fabric_status(const struct ninja_fabric *fabric)
{
    char uuid[37];
    int at = 0;

    for (unsigned i = 0; i < 16; i++)
        at += snprintf(uuid + at, sizeof(uuid) - (size_t)at, "%s%02x",
                       i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", fabric->uuid[i]);
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:f, s:i, s:s}", "name", fabric->name, "uuid",
                     uuid, "epoch", (json_int_t)fabric->epoch, "transport", fabric->ops->name,
                     "device", fabric->device, "state", ninja_fabric_state_name(fabric->state),
                     "since_s", seconds_since(fabric->since_ms), "paths", (int)fabric->open_paths,
                     "failure", fabric->failure);
}

static json_t *fabrics(struct ninja_core *core)
{
    json_t *all = json_array();

    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
        if (core->fabrics[i].used)
            json_array_append_new(all, fabric_status(&core->fabrics[i]));
    return all;
}

json_t *ninja_status_fabrics(struct ninja_core *core)
{
    return json_pack("{s:o}", "fabrics", fabrics(core));
}

static json_t *traffic(const struct ninja_link *link, unsigned slot)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "frames_sent",
                     (json_int_t)link->counters.frames_sent[slot], "bytes_sent",
                     (json_int_t)link->counters.bytes_sent[slot], "frames_received",
                     (json_int_t)link->counters.frames_received[slot], "bytes_received",
                     (json_int_t)link->counters.bytes_received[slot]);
}

static json_t *link_status(const struct ninja_link *link)
{
    const struct ninja_link_counters *counters = &link->counters;
    const struct ninja_fabric *fabric = link->send_path->fabric;
    json_t *paths = json_object();
    json_t *transports = json_object();

    json_object_set_new(transports, "lifeline", traffic(link, 0));
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++) {
        const struct ninja_path *path = &link->paths[i];

        if (!path->fabric->used)
            continue;
        json_object_set_new(paths, path->fabric->name,
                            json_string(ninja_path_state_name(path->state)));
        json_object_set_new(transports, path->fabric->name, traffic(link, i + 1));
    }
    return json_pack(
        "{s:I, s:I, s:s, s:f, s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "job",
        (json_int_t)(link->peer >> 32), "rank", (json_int_t)(link->peer & UINT32_MAX), "transport",
        fabric != NULL ? fabric->name : "lifeline", "since_s",
        seconds_since(link->send_path->since_ms), "lifeline", ninja_lifeline_state(link), "paths",
        paths, "traffic", transports, "switches", (json_int_t)counters->switches, "replayed",
        (json_int_t)counters->replayed, "duplicates", (json_int_t)counters->duplicates,
        "reconnects", (json_int_t)counters->reconnects, "reads", (json_int_t)counters->reads,
        "retained_bytes", (json_int_t)link->data.retained_bytes, "unacknowledged",
        (json_int_t)(link->data.next_sequence - 1 - link->data.acknowledged), "early_bytes",
        (json_int_t)link->data.early_bytes);
}

static json_t *fault_status(const struct ninja_core *core)
{
    json_t *injected;

    if (!core->fault.on)
        return json_null();
    injected = json_object();
    for (unsigned kind = 0; kind < NINJA_FAULT_KINDS; kind++)
        json_object_set_new(injected, ninja_fault_name(kind),
                            json_integer((json_int_t)core->fault.injected[kind]));
    return json_pack("{s:s, s:I, s:o}", "rates", core->config.fault, "seed",
                     (json_int_t)core->fault.seed, "injected", injected);
}

static json_t *stall_status(const struct ninja_core *core)
{
    json_t *counts = json_array();

    for (unsigned i = 0; i < NINJA_STALL_BUCKETS; i++)
        json_array_append_new(counts, json_integer((json_int_t)core->stalls.bucket[i]));
    return json_pack("{s:o, s:f, s:f}", "counts", counts, "longest_ms",
                     (double)core->stalls.longest_us / 1000.0, "total_ms",
                     (double)core->stalls.total_us / 1000.0);
}

static json_t *quiesce_status(struct ninja_core *core)
{
    struct ninja_quiesce *quiesce = &core->quiesce;
    json_t *status;

    pthread_mutex_lock(&quiesce->lock);
    status = json_pack("{s:b, s:s, s:I, s:I, s:s}", "checkpointer", quiesce->checkpointer != NULL,
                       "state", ninja_quiesce_state_name(quiesce->state), "count",
                       (json_int_t)quiesce->count, "failed", (json_int_t)quiesce->failed, "last",
                       quiesce->why);
    pthread_mutex_unlock(&quiesce->lock);
    return status;
}

/* At most a page of links, from number `first` on. */
static json_t *links_from(const struct ninja_core *core, uint64_t first)
{
    json_t *page = json_array();
    uint64_t number = 0;

    for (const struct ninja_link *link = core->links;
         link != NULL && json_array_size(page) < SYMVIRT_DETAILS_PAGE; link = link->next)
        if (number++ >= first)
            json_array_append_new(page, link_status(link));
    return page;
}

json_t *ninja_status_details(struct ninja_core *core, uint64_t first)
{
    return json_pack("{s:I, s:I, s:o}", "total", (json_int_t)core->link_count, "first",
                     (json_int_t)first, "links", links_from(core, first));
}

json_t *ninja_status(struct ninja_core *core)
{
    return json_pack("{s:i, s:I, s:I, s:s, s:o, s:o, s:o, s:o, s:I, s:o}", "pid", (int)getpid(),
                     "job", (json_int_t)(core->id >> 32), "rank",
                     (json_int_t)(core->id & UINT32_MAX), "name", core->rank_name, "fault",
                     fault_status(core), "stalls", stall_status(core), "quiesce",
                     quiesce_status(core), "fabrics", fabrics(core), "links_total",
                     (json_int_t)core->link_count, "links", links_from(core, 0));
}

json_t *ninja_status_links(struct ninja_core *core, uint64_t first)
{
    json_t *page = json_array();
    uint64_t number = 0;

    for (const struct ninja_link *link = core->links; link != NULL; link = link->next, number++) {
        const struct ninja_path *path = link->send_path;

        if (number < first || json_array_size(page) == SYMVIRT_LINKS_PAGE)
            continue;
        json_array_append_new(page,
                              json_pack("[I, I, s, f]", (json_int_t)(link->peer >> 32),
                                        (json_int_t)(link->peer & UINT32_MAX),
                                        path->fabric != NULL ? path->fabric->name : "lifeline",
                                        seconds_since(path->since_ms)));
    }
    return json_pack("{s:I, s:I, s:I, s:I, s:o}", "job", (json_int_t)(core->id >> 32), "rank",
                     (json_int_t)(core->id & UINT32_MAX), "total", (json_int_t)number, "first",
                     (json_int_t)first, "links", page);
}
