/* The one operation that may be running: release or resume, from phase to phase.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"
#include "fence.h"

#define HOLDER_GRACE_MS   1000 /* for a process that is just closing the device */
#define REGISTER_GRACE_MS 3000 /* after our start: processes come back within a second or so */
#define HOLDER_AGAIN_MS   100
#define TELLING_LIMIT_MS  8000 /* opening a device in many processes takes its time */

static void checking_step(struct agent *agent, int64_t now);
static void asking_step(struct agent *agent, int64_t now);
static void proving_step(struct agent *agent, int64_t now);
static void waiting_step(struct agent *agent, int64_t now);
static void telling_step(struct agent *agent, int64_t now);

/* release: idle -> checking -> asking -> proving -> idle; resume: idle -> waiting -> telling ->
 * idle. */
static const struct {
    const char *name;
    void (*step)(struct agent *agent, int64_t now); /* goes on if the world allows */
} phases[PHASES] = {
    [PHASE_IDLE] = {"idle", NULL},
    [PHASE_CHECKING] = {"checking", checking_step},
    [PHASE_ASKING] = {"asking", asking_step},
    [PHASE_PROVING] = {"proving", proving_step},
    [PHASE_WAITING] = {"waiting", waiting_step},
    [PHASE_TELLING] = {"telling", telling_step},
};

const char *operation_phase_name(enum phase phase)
{
    return phases[phase].name;
}

static void report_progress(struct agent *agent, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Tells the host what goes on, once. */
static void report_progress(struct agent *agent, const char *format, ...)
{
    struct operation *operation = &agent->operation;
    char what[sizeof(operation->last_progress)];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    if (!strcmp(what, operation->last_progress))
        return;
    strcpy(operation->last_progress, what);
    agent_log("%s %s (op %llu): %s", symvirt_message_type_name(operation->type),
              operation->fabric->id.name, (unsigned long long)operation->op, what);
    channel_send(agent, symvirt_message_progress(operation->op, what));
}

static void enter_phase(struct agent *agent, enum phase phase, int64_t limit)
{
    agent->operation.phase = phase;
    agent->operation.phase_limit =
        limit < agent->operation.deadline ? limit : agent->operation.deadline;
    agent->operation.look_again = 0;
}

void operation_send_result(struct agent *agent, json_t *result)
{
    json_t *kept;

    if (!result)
        return;
    /* All that are kept must fit into one HELLO, so without what each process said. */
    kept = json_deep_copy(result);
    json_object_del(json_object_get(kept, "detail"), "processes");
    json_array_append_new(agent->results, kept);
    if (json_array_size(agent->results) > RESULTS_MAX)
        json_array_remove(agent->results, 0);
    state_save(agent);
    channel_send(agent, result);
}

/* Ends the operation. 'detail' (reference taken) may be NULL. */
static void finish(struct agent *agent, int error, const char *message, json_t *detail)
{
    struct operation *operation = &agent->operation;

    agent_log("%s %s (op %llu): %s%s%s", symvirt_message_type_name(operation->type),
              operation->fabric->id.name, (unsigned long long)operation->op,
              error ? strerror(error) : "done", message ? ": " : "", message ? message : "");
    operation->phase = PHASE_IDLE;
    operation_send_result(agent, symvirt_message_result(operation->op, error, message, detail));
    json_decref(detail);
}

/* Lifts the fence and gives the fabric back to the processes; then ends the operation. */
static void undo_release(struct agent *agent, int error, const char *message, json_t *detail)
{
    struct fabric_entry *fabric = agent->operation.fabric;
    const struct rdma_device *device = fabrics_device(agent, fabric);
    const char *uverbs = fabric->withheld[0] ? fabric->withheld : device ? device->uverbs : "";
    int rc = uverbs[0] ? fence_restore(&agent->options.roots, uverbs) : 0;

    if (rc)
        agent_log("cannot put back %s: %s", uverbs, strerror(-rc));
    registry_abort(agent);
    fabric->state = device && device->usable ? FABRIC_PRESENT : FABRIC_ABSENT;
    if (fabric->state == FABRIC_PRESENT) {
        if (agent->operation.asked)
            registry_ask(agent, SYMVIRT_RESUME, &fabric->id);
        registry_tell_present(agent, &fabric->id); /* those that came meanwhile */
    }
    finish(agent, error, message, detail);
}

/* A sentence and a list for those who hold the device; 'only_foreign': without registered
 * processes. Returns how many there are. */
static unsigned describe_holders(struct agent *agent, const struct holder_list *list,
                                 int only_foreign, char *text, size_t size, json_t **detail)
{
    json_t *array = json_array();
    unsigned count = 0;
    size_t length = 0;

    text[0] = '\0';
    for (unsigned i = 0; i < list->count && i < HOLDERS_MAX; i++) {
        const struct holder *holder = &list->holders[i];
        char pid[32] = "";

        if (only_foreign &&
            (holder->opener_ended || (holder->pid && registry_has(agent, holder->pid))))
            continue;
        if (holder->pid)
            snprintf(pid, sizeof(pid), "process %d, ", (int)holder->pid);
        if (count++ < 4 && length < size)
            length += (size_t)snprintf(text + length, size - length, "%s%s (%s%s)",
                                       count > 1 ? ", " : "", holder->comm, pid, holder->how);
        json_array_append_new(array,
                              json_pack("{s:I, s:s, s:s, s:b}", "pid", (json_int_t)holder->pid,
                                        "comm", holder->comm, "how", holder->how, "registered",
                                        holder->pid && registry_has(agent, holder->pid)));
    }
    *detail = json_pack("{s:o}", "holders", array);
    return count;
}

static const char not_recognised[] =
    "none of the RDMA devices here is the fabric's, by its name, MAC or PCI address";

/* Is the fabric's device gone, not only unrecognised? Then nobody holds it. */
static int has_left(const struct agent *agent, const struct fabric_entry *fabric)
{
    return !agent->devices.count || fabric->state == FABRIC_RELEASED ||
           (fabric->last_device[0] && !devices_find(&agent->devices, fabric->last_device));
}

/* Looks who holds the device. Returns 1 if nobody does; 0 if the phase must wait or the operation
 * has failed. */
static int nobody_holds(struct agent *agent, int64_t now, int only_foreign)
{
    struct operation *operation = &agent->operation;
    const struct rdma_device *device = fabrics_device(agent, operation->fabric);
    struct holder_list list;
    char path[512], who[400], message[512];
    json_t *detail;
    unsigned count;
    int rc;

    if (!device && has_left(agent, operation->fabric))
        return 1;
    if (!device) {
        undo_release(agent, ENODEV, not_recognised, NULL);
        return 0;
    }
    fence_node_path(&agent->options.roots, device->uverbs, path, sizeof(path));
    rc = holders_find(&agent->options.roots, device, path, &list);
    if (rc) {
        snprintf(message, sizeof(message), "cannot see who holds %s: %s", device->name,
                 strerror(-rc));
        undo_release(agent, -rc, message, NULL);
        return 0;
    }
    count = describe_holders(agent, &list, only_foreign, who, sizeof(who), &detail);
    if (count && now >= operation->phase_limit) {
        snprintf(message, sizeof(message), "%s is held by %s%s", device->name, who,
                 count > 4 ? " and others" : "");
        undo_release(agent, EBUSY, message, detail);
        return 0;
    }
    json_decref(detail);
    if (!count)
        return 1;
    operation->look_again = now + HOLDER_AGAIN_MS;
    report_progress(agent, "%s holds %s", who, device->name);
    return 0;
}

static void checking_step(struct agent *agent, int64_t now)
{
    struct operation *operation = &agent->operation;

    if (!nobody_holds(agent, now, 1))
        return;
    operation->asked = 1;
    registry_ask(agent, SYMVIRT_RELEASE, &operation->fabric->id);
    enter_phase(agent, PHASE_ASKING, now + agent->options.process_ms);
    report_progress(agent, "asked %u processes", registry_count(agent));
}

static void asking_step(struct agent *agent, int64_t now)
{
    unsigned pending = registry_count_pending(agent);

    if (pending && now < agent->operation.phase_limit)
        return;
    enter_phase(agent, PHASE_PROVING, now + HOLDER_GRACE_MS);
    if (pending)
        report_progress(agent,
                        "%u processes did not answer in time; looking whether they hold the device",
                        pending);
    else
        report_progress(agent, "all processes answered; proving that nobody holds the device");
}

static void proving_step(struct agent *agent, int64_t now)
{
    struct operation *operation = &agent->operation;
    const struct rdma_device *device = fabrics_device(agent, operation->fabric);

    if (!nobody_holds(agent, now, 0))
        return;
    operation->fabric->state = FABRIC_RELEASED;
    operation->fabric->released_op = operation->op;
    finish(agent, 0, NULL,
           json_pack("{s:s, s:s, s:s, s:o}", "device", device ? device->name : "", "pci",
                     device ? device->pci : "", "mac", device ? device->mac : "", "processes",
                     registry_describe(agent)));
}

/* Says what a resume waits for; NULL if for nothing. */
static const char *what_is_missing(struct agent *agent, const struct rdma_device *device)
{
    char path[512];

    if (!device)
        return "there is no such device yet";
    if (strcmp(device->port_state, "ACTIVE"))
        return "the port is not ACTIVE yet";
    if (!device->usable)
        return "the port is ACTIVE but has no address (GID, LID) yet";
    fence_node_path(&agent->options.roots, device->uverbs, path, sizeof(path));
    if (!device->uverbs[0] || access(path, F_OK))
        return "the device has no node in /dev/infiniband yet";
    return NULL;
}

static void waiting_step(struct agent *agent, int64_t now)
{
    struct operation *operation = &agent->operation;
    struct fabric_entry *fabric = operation->fabric;
    const struct rdma_device *device = fabrics_device(agent, fabric);
    const char *missing = what_is_missing(agent, device);
    char message[256];
    int rc;

    if (missing && now < operation->deadline) {
        report_progress(agent, "%s%s%s", device ? device->name : "waiting", ": ", missing);
        operation->look_again = device ? now + 200 : 0; /* no event tells that an address was set */
        return;
    }
    if (missing) {
        snprintf(message, sizeof(message), "%s%s%s", device ? device->name : "", device ? ": " : "",
                 missing);
        finish(agent, ETIMEDOUT, message, NULL);
        return;
    }
    rc = fence_restore(&agent->options.roots, device->uverbs);
    if (rc) {
        snprintf(message, sizeof(message), "cannot put back the node of %s", device->name);
        finish(agent, -rc, message, NULL);
        return;
    }
    snprintf(fabric->id.device, sizeof(fabric->id.device), "%s", device->name);
    fabric->state = FABRIC_PRESENT;
    fabric->released_op = 0;
    operation->deadline = now + TELLING_LIMIT_MS;
    registry_ask(agent, SYMVIRT_RESUME, &fabric->id);
    enter_phase(agent, PHASE_TELLING, now + TELLING_LIMIT_MS);
    report_progress(agent, "%s is usable; told %u processes", device->name, registry_count(agent));
}

static void telling_step(struct agent *agent, int64_t now)
{
    unsigned pending = registry_count_pending(agent), failed = registry_count_failed(agent);
    char message[128];
    json_t *detail;

    if (pending && now < agent->operation.phase_limit)
        return;
    detail = json_pack("{s:s, s:o}", "device", agent->operation.fabric->id.device, "processes",
                       registry_describe(agent));
    if (!pending && !failed) {
        finish(agent, 0, NULL, detail);
        return;
    }
    snprintf(message, sizeof(message),
             "the device is there, but of %u processes %u could not use it and %u did not answer",
             registry_count(agent), failed, pending);
    finish(agent, pending ? ETIMEDOUT : EIO, message, detail);
}

void operation_step(struct agent *agent)
{
    enum phase before;

    do {
        before = agent->operation.phase;
        if (phases[before].step)
            phases[before].step(agent, symvirt_now_ms());
    } while (agent->operation.phase != before);
}

int64_t operation_next_look(const struct agent *agent)
{
    const struct operation *operation = &agent->operation;

    if (operation->phase == PHASE_IDLE)
        return -1;
    if (operation->look_again && operation->look_again < operation->phase_limit)
        return operation->look_again;
    return operation->phase_limit;
}

static void begin(struct agent *agent, uint64_t op, enum symvirt_message_type type,
                  struct fabric_entry *fabric, int limit_ms)
{
    agent->operation = (struct operation){
        .op = op, .type = type, .fabric = fabric, .deadline = symvirt_now_ms() + limit_ms};
}

static void begin_release(struct agent *agent, uint64_t op, struct fabric_entry *fabric)
{
    const struct rdma_device *device = fabrics_device(agent, fabric);
    int64_t limit;
    int rc;

    begin(agent, op, SYMVIRT_RELEASE, fabric, agent->options.release_ms);
    /* A device that is not recognised may be the one: without a look nothing is proved. */
    if (!device && !has_left(agent, fabric)) {
        finish(agent, fabrics_told_apart(fabric) ? ENODEV : EINVAL,
               fabrics_told_apart(fabric)
                   ? not_recognised
                   : "there are several devices or fabrics: say which device is this fabric's",
               NULL);
        return;
    }
    if (device)
        snprintf(fabric->withheld, sizeof(fabric->withheld), "%s", device->uverbs);
    limit = symvirt_now_ms() + HOLDER_GRACE_MS;
    if (limit < agent->started + REGISTER_GRACE_MS)
        limit = agent->started + REGISTER_GRACE_MS;
    enter_phase(agent, PHASE_CHECKING, limit);
    state_save(agent); /* before the fence: whoever finds the node withheld must know why */
    rc = device && device->uverbs[0] ? fence_withhold(&agent->options.roots, device->uverbs) : 0;
    if (rc)
        undo_release(agent, -rc, "cannot withhold the device node", NULL);
}

void operation_continue(struct agent *agent, uint64_t op, struct fabric_entry *fabric,
                        int64_t deadline)
{
    begin(agent, op, SYMVIRT_RESUME, fabric, 0);
    agent->operation.deadline = deadline;
    enter_phase(agent, PHASE_WAITING, deadline);
}

static void begin_fabric_operation(struct agent *agent, enum symvirt_message_type type, uint64_t op,
                                   const json_t *message)
{
    struct operation *operation = &agent->operation;
    struct fabric_entry *fabric;
    char text[200];

    if (operation->phase != PHASE_IDLE) {
        snprintf(text, sizeof(text), "busy with %s %s (op %llu, %s)",
                 symvirt_message_type_name(operation->type), operation->fabric->id.name,
                 (unsigned long long)operation->op, phases[operation->phase].name);
        channel_send(agent, symvirt_message_result(op, EBUSY, text, NULL));
        return;
    }
    fabric = fabrics_get(agent, json_object_get(message, "fabric"), 1);
    if (!fabric) {
        channel_send(agent,
                     symvirt_message_result(
                         op, EINVAL, "the fabric needs a name, and there is room for 16", NULL));
        return;
    }
    fabrics_on_event(agent);
    if (type == SYMVIRT_RELEASE) {
        begin_release(agent, op, fabric);
    } else {
        begin(agent, op, SYMVIRT_RESUME, fabric, agent->options.resume_ms);
        enter_phase(agent, PHASE_WAITING, agent->operation.deadline);
        state_save(agent);
    }
    operation_step(agent);
}

static json_t *find_result(const struct agent *agent, uint64_t op)
{
    for (size_t i = json_array_size(agent->results); i > 0; i--) {
        json_t *result = json_array_get(agent->results, i - 1);

        if (symvirt_message_op(result) == op)
            return result; /* the newest */
    }
    return NULL;
}

/* The fabric that operation 'op' released and nothing has touched since, or NULL. */
static struct fabric_entry *released_by(struct agent *agent, uint64_t op)
{
    for (unsigned i = 0; i < agent->fabric_count; i++)
        if (agent->fabrics[i].state == FABRIC_RELEASED && agent->fabrics[i].released_op == op)
            return &agent->fabrics[i];
    return NULL;
}

static void on_abort(struct agent *agent, uint64_t op)
{
    struct operation *operation = &agent->operation;
    struct fabric_entry *released = released_by(agent, op);
    json_t *result = find_result(agent, op);

    if (operation->phase == PHASE_IDLE && released) {
        /* The host gave up waiting before it heard that the release was done. */
        begin(agent, op, SYMVIRT_RELEASE, released, 0);
        operation->asked = 1;
        undo_release(agent, ECANCELED, "aborted by the host; all undone", NULL);
        return;
    }
    if (result) {
        channel_send(agent, json_incref(result));
        return;
    }

    if (operation->phase == PHASE_IDLE || operation->op != op)
        channel_send(agent,
                     symvirt_message_result(op, ENOENT, "no such operation is running", NULL));
    else if (operation->type == SYMVIRT_RELEASE)
        undo_release(agent, ECANCELED, "aborted by the host; all undone", NULL);
    else if (operation->phase == PHASE_WAITING)
        finish(agent, ECANCELED, "aborted by the host; the fabric stays released", NULL);
    /* While processes are being told it is too late: the result tells how it ended. */
}

static void on_settime(struct agent *agent, uint64_t op, const json_t *message)
{
    uint64_t wanted = symvirt_message_number(message, "realtime_ns", 0);
    struct timespec to = {.tv_sec = (time_t)(wanted / 1000000000),
                          .tv_nsec = (long)(wanted % 1000000000)},
                    from;
    json_t *detail;
    int error;

    clock_gettime(CLOCK_REALTIME, &from);
    error = clock_settime(CLOCK_REALTIME, &to) ? errno : 0;
    detail =
        json_pack("{s:I}", "stepped_ns",
                  (json_int_t)(to.tv_sec - from.tv_sec) * 1000000000 + (to.tv_nsec - from.tv_nsec));
    agent_log("clock stepped: %s", error ? strerror(error) : "done");
    channel_send(agent, symvirt_message_result(op, error, NULL, detail));
    json_decref(detail);
}

void operation_on_request(struct agent *agent, enum symvirt_message_type type,
                          const json_t *message)
{
    uint64_t op = symvirt_message_op(message);
    json_t *result = find_result(agent, op), *detail;

    if (result && (type == SYMVIRT_RELEASE || type == SYMVIRT_RESUME)) {
        channel_send(agent, json_incref(result)); /* the host did not hear it */
        return;
    }
    switch (type) {
    case SYMVIRT_RELEASE:
    case SYMVIRT_RESUME:
        if (agent->operation.phase == PHASE_IDLE || agent->operation.op != op)
            begin_fabric_operation(agent, type, op, message);
        break;
    case SYMVIRT_ABORT:
        on_abort(agent, op);
        break;
    case SYMVIRT_PING:
        channel_send(agent, symvirt_message_result(op, 0, NULL, NULL));
        break;
    case SYMVIRT_STATUS:
        if (!strcmp(symvirt_message_text(message, "of"), SYMVIRT_STATUS_LINKS)) {
            ranks_on_request(agent, op, message);
            break;
        }
        detail = operation_describe(agent);
        json_object_set_new(detail, "channel", channel_describe(agent));
        json_object_set_new(detail, "processes", registry_describe(agent));
        channel_send(agent, symvirt_message_result(op, 0, NULL, detail));
        json_decref(detail);
        break;
    case SYMVIRT_SETTIME:
        on_settime(agent, op, message);
        break;
    default:
        break;
    }
}

json_t *operation_describe(const struct agent *agent)
{
    const struct operation *operation = &agent->operation;
    json_t *object = json_pack("{s:s, s:I, s:I, s:o, s:O, s:I}", "version", PACKAGE_VERSION, "pid",
                               (json_int_t)getpid(), "running_ms",
                               (json_int_t)(symvirt_now_ms() - agent->started), "fabrics",
                               fabrics_describe(agent), "results", agent->results, "process_count",
                               (json_int_t)registry_count(agent));

    if (operation->phase != PHASE_IDLE)
        json_object_set_new(object, "operation",
                            json_pack("{s:I, s:s, s:s, s:o}", "op", (json_int_t)operation->op,
                                      "request", symvirt_message_type_name(operation->type),
                                      "phase", phases[operation->phase].name, "fabric",
                                      symvirt_fabric_to_json(&operation->fabric->id)));
    return object;
}
