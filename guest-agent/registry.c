/* The processes that use fabrics: their connections, and what they were asked.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

#define DESCRIBED_MAX 64 /* processes in a status: it must fit into a frame */

static void process_update_poll(struct process *process)
{
    int wanted = symvirt_stream_waits_to_write(&process->stream);
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0),
                                .data.u64 = process->id};

    if (wanted == process->polled_for_write || process->stream.error)
        return;
    if (epoll_ctl(process->agent->epoll_fd, EPOLL_CTL_MOD, process->stream.fd, &event))
        process->stream.error = -errno;
    process->polled_for_write = wanted;
}

void registry_send(struct process *process, json_t *message)
{
    symvirt_stream_send(&process->stream, message);
    process_update_poll(process);
}

/* A process's own word about itself, made fit for logs. */
static void copy_printable(char *to, size_t size, const char *from)
{
    size_t length = 0;

    for (; *from && length + 1 < size; from++)
        to[length++] = *from >= ' ' && *from < 127 && *from != '"' && *from != '\\' ? *from : '?';
    to[length] = '\0';
}

static void on_register(struct process *process, const json_t *message)
{
    struct agent *agent = process->agent;
    json_t *fabrics = json_array();
    const struct operation *operation = &agent->operation;

    copy_printable(process->name, sizeof(process->name), symvirt_message_text(message, "name"));
    process->registered = 1;
    for (unsigned i = 0; i < agent->fabric_count; i++) {
        const struct fabric_entry *fabric = &agent->fabrics[i];

        int in_release = operation->phase != PHASE_IDLE && operation->type == SYMVIRT_RELEASE &&
                         operation->fabric == fabric;

        /* A fabric that is being released takes no new users. */
        if (fabric->state == FABRIC_PRESENT && !in_release)
            json_array_append_new(fabrics, symvirt_fabric_to_json(&fabric->id));
    }
    agent_log("registered: process %d, %s", (int)process->pid, process->name);
    registry_send(process, json_pack("{s:s, s:o}", "type", "registered", "fabrics", fabrics));
}

static void on_result(struct process *process, const json_t *message)
{
    if (ranks_on_result(process, message))
        return;
    if (!process->asked_op || process->answered || symvirt_message_op(message) != process->asked_op)
        return; /* an answer that nobody waits for any more */
    process->answered = 1;
    process->error = (int)symvirt_message_number(message, "error", 0);
    if (!process->error && !json_is_true(json_object_get(message, "ok")))
        process->error = EIO;
    copy_printable(process->message, sizeof(process->message),
                   symvirt_message_text(message, "message"));
}

static void on_message(void *ctx, enum symvirt_message_type type, json_t *message)
{
    struct process *process = ctx;

    switch (type) {
    case SYMVIRT_REGISTER:
        if (!process->registered)
            on_register(process, message);
        break;
    case SYMVIRT_RESULT:
        on_result(process, message);
        break;
    case SYMVIRT_PROGRESS:
        break; /* nice to know, but its result decides */
    case SYMVIRT_PING:
        registry_send(process, symvirt_message_result(symvirt_message_op(message), 0, NULL, NULL));
        break;
    case SYMVIRT_STATUS: {
        json_t *detail = operation_describe(process->agent);

        registry_send(process,
                      symvirt_message_result(symvirt_message_op(message), 0, NULL, detail));
        json_decref(detail);
        break;
    }
    default:
        if (json_object_get(message, "op"))
            registry_send(process, symvirt_message_result(symvirt_message_op(message), EPERM,
                                                          "only the host may ask for that", NULL));
    }
}

int registry_open(struct agent *agent)
{
    mode_t before = umask(0); /* every user may register */

    agent->listen_fd = symvirt_socket_listen(agent->options.socket, 0666);
    umask(before);
    if (agent->listen_fd < 0)
        return agent->listen_fd;
    return agent_poll_add(agent, agent->listen_fd, EPOLLIN, POLL_LISTEN);
}

static void process_destroy(struct process *process)
{
    if (process->end_fd >= 0)
        close(process->end_fd);
    symvirt_stream_close(&process->stream);
    free(process);
}

void registry_close(struct agent *agent)
{
    struct process *process;

    while ((process = agent->processes)) {
        agent->processes = process->next;
        process_destroy(process);
    }
    if (agent->listen_fd >= 0) {
        unlink(agent->options.socket);
        close(agent->listen_fd);
    }
    agent->listen_fd = -1;
}

/*
 * Has us told when the process ends. Its connection alone does not tell: a child that it forked may
 * still have it. Without that (a process outside our PID namespace, an old kernel) the connection
 * must do.
 */
static void watch_end(struct process *process)
{
    process->end_fd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (process->end_fd >= 0)
        (void)agent_poll_add(process->agent, process->end_fd, EPOLLIN, process->id + 1);
    else if (errno == ESRCH)
        process->stream.error = -ESRCH; /* it has ended before we came to it */
}

static unsigned count_of_user(const struct agent *agent, uid_t user)
{
    unsigned count = 0;

    for (const struct process *process = agent->processes; process; process = process->next)
        count += process->user == user;
    return count;
}

static void add_process(struct agent *agent, int fd)
{
    struct process *process = calloc(1, sizeof(*process));
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (!process || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) ||
        (peer.uid != 0 && count_of_user(agent, peer.uid) >= PROCESSES_OF_USER_MAX) ||
        agent_poll_add(agent, fd, EPOLLIN, POLL_FIRST_PROCESS + 2 * agent->last_process)) {
        free(process);
        close(fd);
        return;
    }
    process->agent = agent;
    process->id = POLL_FIRST_PROCESS + 2 * agent->last_process++;
    process->pid = peer.pid;
    process->user = peer.uid;
    symvirt_stream_open(&process->stream, fd, on_message, process);
    watch_end(process);
    process->next = agent->processes;
    agent->processes = process;
}

void registry_accept(struct agent *agent)
{
    unsigned count = 0;
    int fd;

    for (const struct process *process = agent->processes; process; process = process->next)
        count++;
    while ((fd = accept4(agent->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (count++ < PROCESSES_MAX)
            add_process(agent, fd);
        else
            close(fd);
    }
}

void registry_on_poll(struct agent *agent, uint64_t id, uint32_t events)
{
    struct process *process = agent->processes;

    while (process && process->id != (id & ~1ULL))
        process = process->next;
    if (!process)
        return;
    if (id != process->id) {
        symvirt_stream_read(&process->stream); /* what it said last */
        if (!process->stream.error)
            process->stream.error = -ESRCH;
        return;
    }
    if (events & EPOLLOUT)
        symvirt_stream_flush(&process->stream);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        symvirt_stream_read(&process->stream);
    process_update_poll(process);
}

void registry_sweep(struct agent *agent)
{
    struct process **at = &agent->processes, *process;

    while ((process = *at)) {
        if (!process->stream.error) {
            at = &process->next;
            continue;
        }
        if (process->registered)
            agent_log("gone: process %d, %s", (int)process->pid, process->name);
        *at = process->next;
        process_destroy(process);
    }
}

void registry_ask(struct agent *agent, enum symvirt_message_type type,
                  const struct symvirt_fabric *fabric)
{
    agent->last_ask++;
    for (struct process *process = agent->processes; process; process = process->next) {
        if (!process->registered)
            continue;
        process->asked_op = agent->last_ask;
        process->answered = process->error = 0;
        process->message[0] = '\0';
        registry_send(process, symvirt_message_fabric_request(type, agent->last_ask, fabric));
    }
}

void registry_abort(struct agent *agent)
{
    for (struct process *process = agent->processes; process; process = process->next) {
        if (process->asked_op && !process->answered)
            registry_send(process, symvirt_message_request(SYMVIRT_ABORT, process->asked_op));
        process->asked_op = 0;
    }
}

unsigned registry_count_pending(const struct agent *agent)
{
    unsigned count = 0;

    for (const struct process *process = agent->processes; process; process = process->next)
        count += process->asked_op == agent->last_ask && !process->answered;
    return count;
}

unsigned registry_count_failed(const struct agent *agent)
{
    unsigned count = 0;

    for (const struct process *process = agent->processes; process; process = process->next)
        count += process->asked_op == agent->last_ask && process->answered && process->error;
    return count;
}

unsigned registry_count(const struct agent *agent)
{
    unsigned count = 0;

    for (const struct process *process = agent->processes; process; process = process->next)
        count += process->registered != 0;
    return count;
}

int registry_has(const struct agent *agent, pid_t pid)
{
    for (const struct process *process = agent->processes; process; process = process->next)
        if (process->registered && process->pid == pid)
            return 1;
    return 0;
}

void registry_tell_present(struct agent *agent, const struct symvirt_fabric *fabric)
{
    for (struct process *process = agent->processes; process; process = process->next)
        if (process->registered)
            registry_send(process, json_pack("{s:s, s:s, s:o}", "type", "event", "event",
                                             SYMVIRT_EVENT_FABRIC_PRESENT, "fabric",
                                             symvirt_fabric_to_json(fabric)));
}

json_t *registry_describe(const struct agent *agent)
{
    json_t *list = json_array();

    for (const struct process *process = agent->processes;
         process && json_array_size(list) < DESCRIBED_MAX; process = process->next)
        if (process->registered)
            json_array_append_new(list, json_pack("{s:I, s:s, s:b, s:i, s:s}", "pid",
                                                  (json_int_t)process->pid, "name", process->name,
                                                  "answered", process->answered, "error",
                                                  process->error, "message", process->message));
    return list;
}
