/*
 * What the agent and controllers ask of a rank: release, resume, abort, status; and the socket on
 * which they ask. The control thread calls this.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "requests.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <symvirt.h>

#include "control.h"
#include "core.h"
#include "status.h"

void ninja_control_answer(struct ninja_core *core, uint64_t operation, int error,
                          const char *message)
{
    struct symvirt_client *client = ninja_control_client(core);
    json_t *detail;

    if (client == NULL)
        return;
    detail = error == 0 ? NULL : ninja_status_fabrics(core);
    (void)symvirt_client_complete(client, operation, error, message, detail);
    json_decref(detail);
}

static bool parse_uuid(const char *text, unsigned char uuid[16])
{
    unsigned digits = 0;

    memset(uuid, 0, 16);
    for (; *text != '\0'; text++) {
        unsigned value;

        if (*text == '-')
            continue;
        if (digits == 32 || sscanf((char[2]){*text, '\0'}, "%x", &value) != 1)
            return false;
        uuid[digits / 2] = (unsigned char)(uuid[digits / 2] << 4 | value);
        digits++;
    }
    return digits == 32;
}

/* Our fabric that is meant, or NULL. The agent's UUID, epoch and device replace what configuration
 * guessed. */
static struct ninja_fabric *find_fabric(struct ninja_core *core, const struct symvirt_fabric *asked)
{
    unsigned char uuid[16];
    bool has_uuid = parse_uuid(asked->uuid, uuid);
    struct ninja_fabric *fabric = has_uuid ? ninja_fabric_find(core, NULL, uuid) : NULL;

    if (fabric == NULL && asked->name[0] != '\0')
        fabric = ninja_fabric_find(core, asked->name, NULL);
    return fabric;
}

/*
 * Notes what a resume says of the fabric, for its next opening; returns whether that is another
 * instance than the one in use.
 */
static bool update_fabric(struct ninja_fabric *fabric, const struct symvirt_fabric *asked)
{
    struct ninja_fabric_identity next = {.epoch = fabric->epoch};
    bool changed = false;

    memcpy(next.uuid, fabric->uuid, sizeof(next.uuid));
    memcpy(next.device, fabric->device, sizeof(next.device));
    if (parse_uuid(asked->uuid, next.uuid))
        changed = memcmp(next.uuid, fabric->uuid, sizeof(next.uuid)) != 0;
    else
        memcpy(next.uuid, fabric->uuid, sizeof(next.uuid));
    if (asked->epoch != 0 && asked->epoch != fabric->epoch) {
        next.epoch = asked->epoch;
        changed = true;
    }
    /* A tcp fabric's device is an interface that the agent knows nothing of. */
    if (asked->device[0] != '\0' && fabric->ops != &ninja_transport_tcp &&
        strcmp(asked->device, fabric->device) != 0) {
        snprintf(next.device, sizeof(next.device), "%s", asked->device);
        changed = true;
    }
    fabric->next = next;
    fabric->has_next = true;
    return changed;
}

/* The fabric of a resume: known, or new by the agent's word. */
static struct ninja_fabric *fabric_for_resume(struct ninja_core *core,
                                              const struct symvirt_fabric *asked)
{
    struct ninja_fabric *fabric = find_fabric(core, asked);
    unsigned char uuid[16];

    if (fabric == NULL && parse_uuid(asked->uuid, uuid) && ninja_fabric_make_room(core))
        fabric = ninja_fabric_add(core, asked->name[0] != '\0' ? asked->name : asked->uuid, uuid,
                                  &ninja_transport_verbs, asked->device);
    return fabric;
}

static void resume(struct ninja_core *core, uint64_t operation, const struct symvirt_fabric *asked)
{
    struct ninja_fabric *fabric;
    bool changed;

    ninja_control_enter(core);
    ninja_quiesce_hurry(core);
    fabric = fabric_for_resume(core, asked);
    if (fabric != NULL) {
        changed = update_fabric(fabric, asked);
        ninja_fabric_handle(fabric, changed ? NINJA_FABRIC_RENEW : NINJA_FABRIC_RESUME, operation);
        ninja_quiesce_resumed(core, fabric);
    } else if (operation != 0) {
        ninja_control_answer(core, operation, ENOENT, "this rank knows no such fabric");
    }
    ninja_control_leave(core);
}

static void on_release(void *context, uint64_t operation, const struct symvirt_fabric *asked)
{
    struct ninja_core *core = context;
    struct ninja_fabric *fabric;

    ninja_control_enter(core);
    fabric = find_fabric(core, asked);
    if (fabric != NULL) {
        if (!ninja_quiesce_take_release(core, fabric, operation))
            ninja_fabric_handle(fabric, NINJA_FABRIC_RELEASE, operation);
    } else {
        ninja_control_answer(core, operation, 0, "this rank does not use the fabric");
    }
    ninja_control_leave(core);
}

static void on_resume(void *context, uint64_t operation, const struct symvirt_fabric *asked)
{
    resume(context, operation, asked);
}

static void on_fabric_present(void *context, const struct symvirt_fabric *asked)
{
    resume(context, 0, asked);
}

static void on_abort(void *context, uint64_t operation)
{
    struct ninja_core *core = context;

    ninja_control_enter(core);
    ninja_quiesce_hurry(core);
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++)
        if (core->fabrics[i].used && ninja_fabric_abort(&core->fabrics[i], operation))
            break;
    ninja_control_leave(core);
}

static json_t *on_status(void *context)
{
    struct ninja_core *core = context;
    json_t *status;

    ninja_control_enter(core);
    status = ninja_status(core);
    ninja_control_leave(core);
    return status;
}

static json_t *on_links(void *context, uint64_t first)
{
    struct ninja_core *core = context;
    json_t *links;

    ninja_control_enter(core);
    links = ninja_status_links(core, first);
    ninja_control_leave(core);
    return links;
}

static json_t *on_details(void *context, uint64_t first)
{
    struct ninja_core *core = context;
    json_t *details;

    ninja_control_enter(core);
    details = ninja_status_details(core, first);
    ninja_control_leave(core);
    return details;
}

static const struct symvirt_client_callbacks client_callbacks = {
    .release = on_release,
    .resume = on_resume,
    .abort = on_abort,
    .status = on_status,
    .links = on_links,
    .details = on_details,
    .fabric_present = on_fabric_present,
};

/* --- The socket
 * ---------------------------------------------------------------------------------------------------
 */

/* The directory of control sockets: ours alone. */
static int make_directory(const struct ninja_core *core, char *path, size_t size, char *why,
                          size_t why_size)
{
    const char *environment = getenv("NINJA_CONTROL_DIR");
    struct stat info;

    if (core->config.control_dir[0] != '\0')
        snprintf(path, size, "%s", core->config.control_dir);
    else if (environment != NULL && environment[0] != '\0')
        snprintf(path, size, "%s", environment);
    else
        snprintf(path, size, "/tmp/ninja-ranks-%u", (unsigned)geteuid());
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        snprintf(why, why_size, "cannot make the directory of control sockets '%s': %s", path,
                 strerror(errno));
        return -errno;
    }
    if (lstat(path, &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != geteuid() ||
        (info.st_mode & 022) != 0) {
        snprintf(why, why_size,
                 "'%s' must be a directory of this user that nobody else can write to", path);
        return -EPERM;
    }
    return 0;
}

int ninja_requests_open(struct ninja_core *core, struct symvirt_client **client, char *why,
                        size_t why_size)
{
    const char *agent = core->config.agent;
    char directory[PATH_MAX], path[PATH_MAX + sizeof("/.sock") + 64], name[64];
    int rc = make_directory(core, directory, sizeof(directory), why, why_size);

    if (rc != 0)
        return rc;
    snprintf(path, sizeof(path), "%s/%s.sock", directory, core->rank_name);
    snprintf(name, sizeof(name), "rank %s", core->rank_name);
    rc = symvirt_client_create(client, name, &client_callbacks, core);
    if (rc == 0)
        rc = symvirt_client_listen(*client, path);
    if (rc == 0 && strcmp(agent, NINJA_AGENT_NONE) != 0)
        rc = symvirt_client_connect_agent(*client, agent[0] != '\0' ? agent : NULL);
    if (rc == 0)
        return 0;
    snprintf(why, why_size, "no control socket at '%s': %s", path, strerror(-rc));
    symvirt_client_destroy(*client);
    *client = NULL;
    return rc;
}
