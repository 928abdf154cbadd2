/* A move as JSON: what the journal keeps, and what users see. SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "move.h"

/* A time that may not have come yet: null. */
static json_t *time_or_null(double at)
{
    return at ? json_real(at) : json_null();
}

static json_t *text_or_null(const char *text)
{
    return text && text[0] ? json_string(text) : json_null();
}

json_t *move_record(const struct move *move)
{
    json_t *record = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o}", "vm", move->vm->name, "from",
                               move->from->name, "to", move->to->name, "from_site",
                               move->from->site->name, "to_site", move->to->site->name, "hca_from",
                               text_or_null(move->hca_from ? move->hca_from->name : NULL), "hca_to",
                               text_or_null(move->hca_to ? move->hca_to->name : NULL));
    json_t *phases = json_object();

    for (int i = 0; i < MOVE_PHASES; i++)
        json_object_set_new(phases, move_phase_names[i], json_real(move->phases[i]));
    json_object_set_new(record, "phases", phases);
    json_object_set_new(record, "bytes",
                        json_pack("{s:I, s:I}", "storage", (json_int_t)move->bytes_storage,
                                  "memory", (json_int_t)move->bytes_memory));
    json_object_set_new(record, "asked_at", time_or_null(move->asked));
    json_object_set_new(record, "ended_at", time_or_null(move->ended));
    json_object_set_new(record, "stop_at", time_or_null(move->stop_at));
    json_object_set_new(record, "resume_at", time_or_null(move->resume_at));
    json_object_set_new(record, "qemu_downtime_ms", json_integer((json_int_t)move->downtime_ms));
    json_object_set_new(record, "failure", text_or_null(move->failure));
    json_object_set_new(record, "missing", text_or_null(move->missing));
    json_object_set_new(record, "internal",
                        json_pack("{s:b, s:b, s:b, s:b, s:b, s:b, s:s, s:i, s:s, s:s, s:f}",
                                  "started", move->started, "released", move->released, "detached",
                                  move->detached, "prepared", move->prepared, "committed",
                                  move->committed, "undoing", move->undoing, "retry_state",
                                  move_table[move->retry_state].name, "retries", (int)move->retries,
                                  "disks", move->disks, "disk_path", move->disk_path,
                                  "memory_since", move->memory_since));
    return record;
}

static const char *text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));

    return text ? text : "";
}

static int flag_of(const json_t *object, const char *member)
{
    return json_is_true(json_object_get(object, member));
}

static double number_of(const json_t *object, const char *member)
{
    return json_number_value(json_object_get(object, member));
}

int move_record_read(struct move *move, const json_t *record)
{
    const struct inventory *inventory = move->coordinator->inventory;
    const json_t *internal = json_object_get(record, "internal"),
                 *bytes = json_object_get(record, "bytes");

    move->vm = inventory_vm(inventory, text_of(record, "vm"));
    move->from = inventory_host(inventory, text_of(record, "from"));
    move->to = inventory_host(inventory, text_of(record, "to"));
    if (!move->vm || !move->from || !move->to)
        return -EINVAL;
    move->hca_from = inventory_hca(move->from, text_of(record, "hca_from"));
    move->hca_to = inventory_hca(move->to, text_of(record, "hca_to"));
    for (int i = 0; i < MOVE_PHASES; i++)
        move->phases[i] = number_of(json_object_get(record, "phases"), move_phase_names[i]);
    move->bytes_storage = (uint64_t)number_of(bytes, "storage");
    move->bytes_memory = (uint64_t)number_of(bytes, "memory");
    move->asked = number_of(record, "asked_at");
    move->stop_at = number_of(record, "stop_at");
    move->resume_at = number_of(record, "resume_at");
    move->downtime_ms = (uint64_t)number_of(record, "qemu_downtime_ms");
    snprintf(move->failure, sizeof(move->failure), "%s", text_of(record, "failure"));
    snprintf(move->missing, sizeof(move->missing), "%s", text_of(record, "missing"));
    move->started = flag_of(internal, "started");
    move->released = flag_of(internal, "released");
    move->detached = flag_of(internal, "detached");
    move->prepared = flag_of(internal, "prepared");
    move->committed = flag_of(internal, "committed");
    move->undoing = flag_of(internal, "undoing");
    move->retry_state = move_state_named(text_of(internal, "retry_state"));
    move->retries = (unsigned)number_of(internal, "retries");
    snprintf(move->disks, sizeof(move->disks), "%s", text_of(internal, "disks"));
    snprintf(move->disk_path, sizeof(move->disk_path), "%s", text_of(internal, "disk_path"));
    move->memory_since = number_of(internal, "memory_since");
    return 0;
}

json_t *move_row(const struct move *move)
{
    return json_pack("{s:I, s:I, s:s, s:s, s:b, s:o}", "id", (json_int_t)move->id, "plan",
                     (json_int_t)move->plan, "vm", move->vm->name, "state",
                     move_table[move->state].name, "ended", move->ended != 0, "record",
                     move_record(move));
}

json_t *move_report(const json_t *row)
{
    json_t *report = json_deep_copy(json_object_get(row, "record"));

    json_object_del(report, "internal");
    json_object_set(report, "id", json_object_get(row, "id"));
    json_object_set(report, "plan", json_object_get(row, "plan"));
    json_object_set(report, "state", json_object_get(row, "state"));
    return report;
}
