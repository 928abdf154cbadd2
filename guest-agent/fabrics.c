/* Fabrics: which device belongs to which, and what processes and the host are told about them.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "agent.h"
#include "fence.h"

/* No event tells that a GID or LID was set, so a device that is coming up is looked at for a while.
 */
#define COMING_UP_MS       120000
#define COMING_UP_EVERY_MS 250

static const char *const state_names[] = {
    [FABRIC_ABSENT] = "absent", [FABRIC_PRESENT] = "present", [FABRIC_RELEASED] = "released"};

const char *fabric_state_name(enum fabric_state state)
{
    return state_names[state];
}

static void copy_member(char *to, size_t size, const json_t *object, const char *member)
{
    const char *text = symvirt_message_text(object, member);

    if (*text && strlen(text) < size)
        strcpy(to, text);
}

struct fabric_entry *fabrics_get(struct agent *agent, const json_t *object, int update)
{
    struct fabric_entry *entry = NULL;
    struct symvirt_fabric id;

    if (symvirt_fabric_from_json(object, &id))
        return NULL;
    for (unsigned i = 0; i < agent->fabric_count && !entry; i++)
        if (symvirt_fabric_same(&agent->fabrics[i].id, &id))
            entry = &agent->fabrics[i];
    if (!entry) {
        if (agent->fabric_count == FABRICS_MAX || (!id.uuid[0] && !id.name[0]))
            return NULL;
        entry = &agent->fabrics[agent->fabric_count++];
        memset(entry, 0, sizeof(*entry));
        update = 1;
    }
    if (!update)
        return entry;
    copy_member(entry->id.uuid, sizeof(entry->id.uuid), object, "uuid");
    copy_member(entry->id.name, sizeof(entry->id.name), object, "name");
    if (id.epoch)
        entry->id.epoch = id.epoch;
    /* The device may be another one now; what the message does not say is open. */
    if (id.device[0] || json_object_get(object, "netdev") || json_object_get(object, "mac") ||
        json_object_get(object, "pci")) {
        entry->want_device[0] = entry->want_netdev[0] = entry->want_mac[0] = entry->want_pci[0] =
            '\0';
        copy_member(entry->want_device, sizeof(entry->want_device), object, "device");
        copy_member(entry->want_netdev, sizeof(entry->want_netdev), object, "netdev");
        copy_member(entry->want_mac, sizeof(entry->want_mac), object, "mac");
        copy_member(entry->want_pci, sizeof(entry->want_pci), object, "pci");
    }
    return entry;
}

int fabrics_load(struct agent *agent)
{
    json_error_t error;
    json_t *root, *object;
    size_t i;

    if (access(agent->options.config, F_OK))
        return 0;
    root = json_load_file(agent->options.config, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        agent_log("%s:%d: %s", agent->options.config, error.line, error.text);
        return -EINVAL;
    }
    json_array_foreach (json_object_get(root, "fabrics"), i, object) {
        if (!json_object_get(object, "epoch"))
            json_object_set_new(object, "epoch", json_integer(1));
        if (!fabrics_get(agent, object, 1)) {
            agent_log(
                "%s: fabric number %zu needs a \"uuid\" and a \"name\" of letters, digits and ._:-",
                agent->options.config, i + 1);
            json_decref(root);
            return -EINVAL;
        }
    }
    json_decref(root);
    return 0;
}

static int device_matches(const struct rdma_device *device, const struct fabric_entry *fabric)
{
    return (!fabric->want_device[0] || !strcmp(fabric->want_device, device->name)) &&
           (!fabric->want_netdev[0] || !strcmp(fabric->want_netdev, device->netdev)) &&
           (!fabric->want_mac[0] || !strcasecmp(fabric->want_mac, device->mac)) &&
           (!fabric->want_pci[0] || !strcasecmp(fabric->want_pci, device->pci));
}

int fabrics_told_apart(const struct fabric_entry *fabric)
{
    return fabric->want_device[0] || fabric->want_netdev[0] || fabric->want_mac[0] ||
           fabric->want_pci[0];
}

static int in_operation(const struct agent *agent, const struct fabric_entry *fabric)
{
    return agent->operation.phase != PHASE_IDLE && agent->operation.fabric == fabric;
}

/*
 * Can the only device be meant by no other fabric than this one? Those that were released and left
 * behind in another place do not count.
 */
static int only_fabric(const struct agent *agent, const struct fabric_entry *fabric)
{
    int in_use = fabric->state == FABRIC_PRESENT || in_operation(agent, fabric);

    if (fabric->state == FABRIC_RELEASED && !in_use)
        return agent->fabric_count == 1;
    for (unsigned i = 0; i < agent->fabric_count; i++) {
        const struct fabric_entry *other = &agent->fabrics[i];

        if (other != fabric && (other->state == FABRIC_PRESENT || in_operation(agent, other) ||
                                (other->state == FABRIC_ABSENT && !in_use)))
            return 0;
    }
    return 1;
}

const struct rdma_device *fabrics_device(const struct agent *agent,
                                         const struct fabric_entry *fabric)
{
    if (!fabrics_told_apart(fabric))
        return agent->devices.count == 1 && only_fabric(agent, fabric) ? &agent->devices.devices[0]
                                                                       : NULL;
    for (unsigned i = 0; i < agent->devices.count; i++)
        if (device_matches(&agent->devices.devices[i], fabric))
            return &agent->devices.devices[i];
    return NULL;
}

static void tell_host(struct agent *agent, const char *event, const struct rdma_device *device)
{
    agent_log("%s: %s%s%s%s", event, device->name, device->port_state[0] ? ", port " : "",
              device->port_state, device->usable ? ", usable" : "");
    channel_send(agent, json_pack("{s:s, s:s, s:s, s:I, s:s, s:b, s:s, s:s}", "type", "event",
                                  "event", event, "device", device->name, "port",
                                  (json_int_t)device->port, "state", device->port_state, "usable",
                                  device->usable, "mac", device->mac, "pci", device->pci));
}

static void tell_changes(struct agent *agent, const struct rdma_device_list *before)
{
    for (unsigned i = 0; i < before->count; i++)
        if (!devices_find(&agent->devices, before->devices[i].name))
            tell_host(agent, SYMVIRT_EVENT_DEVICE_REMOVED, &before->devices[i]);
    for (unsigned i = 0; i < agent->devices.count; i++) {
        const struct rdma_device *now = &agent->devices.devices[i],
                                 *then = devices_find(before, now->name);

        if (!then)
            tell_host(agent, SYMVIRT_EVENT_DEVICE_ADDED, now);
        else if (strcmp(then->port_state, now->port_state) || then->usable != now->usable)
            tell_host(agent, SYMVIRT_EVENT_PORT_STATE, now);
    }
}

/* Follows what happened to a fabric's device without an operation. */
static void update_fabric(struct agent *agent, struct fabric_entry *fabric)
{
    const struct rdma_device *device = fabrics_device(agent, fabric);

    snprintf(fabric->id.device, sizeof(fabric->id.device), "%s", device ? device->name : "");
    if (device)
        snprintf(fabric->last_device, sizeof(fabric->last_device), "%s", device->name);
    if (in_operation(agent, fabric) || fabric->state == FABRIC_RELEASED)
        return;
    if (fabric->state == FABRIC_PRESENT && !device) {
        agent_log("fabric %s: its device went away unasked", fabric->id.name);
        fabric->state = FABRIC_ABSENT;
        fabric->id.epoch++; /* what comes back is another attachment */
    } else if (fabric->state == FABRIC_ABSENT && device && device->usable) {
        agent_log("fabric %s: present as %s", fabric->id.name, device->name);
        fabric->state = FABRIC_PRESENT;
        registry_tell_present(agent, &fabric->id);
    }
}

void fabrics_rescan(struct agent *agent)
{
    struct rdma_device_list before = agent->devices;
    int64_t now = symvirt_now_ms();

    int rc = devices_scan(&agent->options.roots, &agent->devices);

    if (rc) {
        agent_log("cannot see which RDMA devices are there: %s", strerror(-rc));
        agent->rescan_at = now + COMING_UP_EVERY_MS;
        return;
    }
    tell_changes(agent, &before);
    fence_forget_vanished(&agent->options.roots);
    for (unsigned i = 0; i < agent->fabric_count; i++)
        update_fabric(agent, &agent->fabrics[i]);
    agent->rescan_at = 0;
    for (unsigned i = 0; i < agent->devices.count; i++)
        if (!agent->devices.devices[i].usable && now < agent->rescan_until)
            agent->rescan_at = now + COMING_UP_EVERY_MS;
}

json_t *fabrics_describe(const struct agent *agent)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < agent->fabric_count; i++) {
        const struct fabric_entry *fabric = &agent->fabrics[i];
        const struct rdma_device *device = fabrics_device(agent, fabric);
        json_t *object = symvirt_fabric_to_json(&fabric->id);

        json_object_set_new(object, "state", json_string(fabric_state_name(fabric->state)));
        json_object_set_new(object, "port_state", json_string(device ? device->port_state : ""));
        json_object_set_new(object, "usable", json_boolean(device && device->usable));
        json_object_set_new(
            object, "fenced",
            json_boolean(device && fence_is_up(&agent->options.roots, device->uverbs)));
        json_array_append_new(list, object);
    }
    return list;
}

void fabrics_on_event(struct agent *agent)
{
    agent->rescan_until = symvirt_now_ms() + COMING_UP_MS;
    fabrics_rescan(agent);
}
