/* What an agent that is restarted must know, in run/state.json.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "agent.h"
#include "fence.h"

static json_t *describe_fabric(const struct fabric_entry *fabric)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:I, s:b}", "uuid", fabric->id.uuid,
                     "name", fabric->id.name, "epoch", (json_int_t)fabric->id.epoch, "device",
                     fabric->want_device, "netdev", fabric->want_netdev, "mac", fabric->want_mac,
                     "pci", fabric->want_pci, "released_op", (json_int_t)fabric->released_op,
                     "released", fabric->state == FABRIC_RELEASED);
}

void state_save(const struct agent *agent)
{
    const struct operation *operation = &agent->operation;
    json_t *fabrics = json_array(), *root;
    char path[512], temporary[520];

    for (unsigned i = 0; i < agent->fabric_count; i++)
        json_array_append_new(fabrics, describe_fabric(&agent->fabrics[i]));
    root = json_pack("{s:o, s:O, s:I}", "fabrics", fabrics, "results", agent->results, "last_ask",
                     (json_int_t)agent->last_ask);
    if (operation->phase != PHASE_IDLE)
        json_object_set_new(root, "operation",
                            json_pack("{s:I, s:s, s:o, s:I}", "op", (json_int_t)operation->op,
                                      "request", symvirt_message_type_name(operation->type),
                                      "fabric", describe_fabric(operation->fabric), "deadline",
                                      (json_int_t)operation->deadline));
    snprintf(path, sizeof(path), "%s/state.json", agent->options.roots.run);
    snprintf(temporary, sizeof(temporary), "%s.new", path);
    /* The rename makes it whole or not at all. */
    if (json_dump_file(root, temporary, JSON_INDENT(1)) || rename(temporary, path))
        agent_log("cannot write %s: %s", path, strerror(errno));
    json_decref(root);
}

static int keep_withheld(void *ctx, const char *uverbs)
{
    const struct agent *agent = ctx;

    for (unsigned i = 0; i < agent->fabric_count; i++) {
        const struct rdma_device *device = fabrics_device(agent, &agent->fabrics[i]);

        if (agent->fabrics[i].state == FABRIC_RELEASED && device && !strcmp(device->uverbs, uverbs))
            return 1;
    }
    return 0;
}

/* The operation that the old agent was at: a resume goes on; a release was undone with the fence,
 * and is over. */
static void load_operation(struct agent *agent, const json_t *object)
{
    struct fabric_entry *fabric = fabrics_get(agent, json_object_get(object, "fabric"), 0);
    uint64_t op = symvirt_message_op(object);

    if (!fabric)
        return;
    if (!strcmp(symvirt_message_text(object, "request"),
                symvirt_message_type_name(SYMVIRT_RESUME))) {
        agent_log("goes on with resume %s (op %llu)", fabric->id.name, (unsigned long long)op);
        operation_continue(agent, op, fabric,
                           (int64_t)symvirt_message_number(object, "deadline", 0));
    } else {
        agent_log("release %s (op %llu) was under way when the agent ended: undone",
                  fabric->id.name, (unsigned long long)op);
        fabric->state = FABRIC_ABSENT; /* the next scan shows it present, and processes are told */
        operation_send_result(
            agent, symvirt_message_result(op, EAGAIN,
                                          "the guest's agent was restarted; the release was undone",
                                          NULL));
    }
}

void state_load(struct agent *agent)
{
    struct timespec now;
    char path[512];
    json_t *root, *object;
    size_t i;

    snprintf(path, sizeof(path), "%s/state.json", agent->options.roots.run);
    root = json_load_file(path, 0, NULL);
    json_array_foreach (json_object_get(root, "fabrics"), i, object) {
        struct fabric_entry *fabric = fabrics_get(agent, object, 1);

        if (!fabric || !json_is_true(json_object_get(object, "released")))
            continue;
        fabric->state = FABRIC_RELEASED;
        fabric->released_op = symvirt_message_number(object, "released_op", 0);
    }
    json_array_foreach (json_object_get(root, "results"), i, object)
        json_array_append(agent->results, object);
    /* Never the number of an old question, even if the file was lost. */
    clock_gettime(CLOCK_REALTIME, &now);
    agent->last_ask = symvirt_message_number(root, "last_ask", 0);
    if (agent->last_ask < (uint64_t)now.tv_sec * 1000000000)
        agent->last_ask = (uint64_t)now.tv_sec * 1000000000;
    (void)devices_scan(&agent->options.roots, &agent->devices); /* tried again below */
    object = json_object_get(root, "operation");
    if (object)
        load_operation(agent, object);
    fence_restore_others(&agent->options.roots, keep_withheld, agent);
    json_decref(root);
    fabrics_on_event(agent);
}
