/* For tests of the agent: how it is run, spoken to and ended.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent-fixture.h"

int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- The made-up machine --------------------------------------------------------------------- */

const char *path_in(const struct fixture *fixture, const char *name)
{
    static char path[300];

    snprintf(path, sizeof(path), "%s/%s", fixture->root, name);
    return path;
}

void put_file(const struct fixture *fixture, const char *name, const char *text)
{
    char path[300];
    FILE *file;

    snprintf(path, sizeof(path), "%s", path_in(fixture, name));
    for (char *slash = path + strlen(fixture->root) + 1; (slash = strchr(slash, '/'));
         *slash++ = '/') {
        *slash = '\0';
        mkdir(path, 0755);
    }
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

void plug_device(const struct fixture *fixture, const char *port_state)
{
    put_file(fixture, "sys/class/infiniband/rxe0/parent", "hca0\n");
    put_file(fixture, "sys/class/infiniband/rxe0/ports/1/state", port_state);
    put_file(fixture, "sys/class/infiniband/rxe0/ports/1/link_layer", "Ethernet\n");
    put_file(fixture, "sys/class/infiniband/rxe0/ports/1/gids/0",
             "fe80:0000:0000:0000:5054:00ff:feca:0001\n");
    put_file(fixture, "sys/class/infiniband_verbs/uverbs0/ibdev", "rxe0\n");
    put_file(fixture, "sys/class/infiniband_verbs/uverbs0/dev", "231:192\n");
    put_file(fixture, "sys/class/net/hca0/address", "52:54:00:ca:00:01\n");
    put_file(fixture, "dev/infiniband/uverbs0", "");
    chmod(path_in(fixture, "dev/infiniband/uverbs0"), NODE_MODE);
}

static void run_shell(const struct fixture *fixture, const char *command)
{
    char line[400];

    snprintf(line, sizeof(line), "cd %s && %s", fixture->root, command);
    assert_int_equal(system(line), 0);
}

void unplug_device(const struct fixture *fixture)
{
    run_shell(
        fixture,
        "rm -rf sys/class/infiniband/rxe0 sys/class/infiniband_verbs/uverbs0 sys/class/net/hca0 "
        "dev/infiniband/uverbs0");
}

int node_is_open_to_all(const struct fixture *fixture)
{
    struct stat info;

    return !stat(path_in(fixture, "dev/infiniband/uverbs0"), &info) &&
           (info.st_mode & 0777) == NODE_MODE;
}

ino_t node_inode(const struct fixture *fixture)
{
    struct stat info = {.st_ino = 0};

    stat(path_in(fixture, "dev/infiniband/uverbs0"), &info);
    return info.st_ino;
}

/* --- The link ----------------------------------------------------------------------------------
 */

static void on_connected(void *ctx, const json_t *state)
{
    struct fixture *fixture = ctx;

    fixture->connections++;
    json_decref(fixture->state);
    fixture->state = json_deep_copy(state);
}

static void on_event(void *ctx, const json_t *event)
{
    ((struct fixture *)ctx)->events++;
}

static void on_progress(void *ctx, uint64_t op, const char *what)
{
    snprintf(((struct fixture *)ctx)->progress, 256, "%s", what);
}

static void on_result(void *ctx, uint64_t op, const json_t *result)
{
    struct fixture *fixture = ctx;

    fixture->result_op = op;
    json_decref(fixture->result);
    fixture->result = json_deep_copy(result);
}

static void on_log(void *ctx, const char *line)
{
    printf("log: %s\n", line);
}

static void make_link(struct fixture *fixture)
{
    static const struct guest_link_callbacks callbacks = {.connected = on_connected,
                                                          .event = on_event,
                                                          .progress = on_progress,
                                                          .result = on_result,
                                                          .log = on_log};

    assert_int_equal(guest_link_create(&fixture->link, &callbacks, fixture), 0);
}

/* Takes part in the loop for a step; accepts the agent when it comes (again). */
static void step(struct fixture *fixture)
{
    struct pollfd polled[2] = {{.fd = fixture->listen_fd, .events = POLLIN},
                               {.fd = guest_link_unix_fd(fixture->link), .events = POLLIN}};
    int timeout = guest_link_timeout_ms(fixture->link);

    if (guest_link_unix_wants_write(fixture->link))
        polled[1].events |= POLLOUT;
    poll(polled, 2, timeout < 0 || timeout > 20 ? 20 : timeout);
    if (polled[0].revents)
        guest_link_attach_fd(fixture->link,
                             accept4(fixture->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
    else if (polled[1].revents & POLLOUT)
        guest_link_on_writable(fixture->link);
    if (!polled[0].revents && polled[1].revents & (POLLIN | POLLHUP))
        guest_link_on_readable(fixture->link);
    guest_link_tick(fixture->link);
}

void run_for(struct fixture *fixture, int milliseconds)
{
    int64_t end = now_ms() + milliseconds;

    while (now_ms() < end)
        step(fixture);
}

uint64_t ask_about(struct fixture *fixture, enum symvirt_message_type type, const char *fabric_text,
                   int timeout_ms)
{
    json_t *fabric = json_loads(fabric_text, 0, NULL);
    uint64_t op;

    json_decref(fixture->result);
    fixture->result = NULL;
    fixture->progress[0] = '\0';
    assert_int_equal(
        guest_link_request(fixture->link, type,
                           type == SYMVIRT_RELEASE || type == SYMVIRT_RESUME ? fabric : NULL,
                           timeout_ms, &op),
        0);
    json_decref(fabric);
    return op;
}

uint64_t ask(struct fixture *fixture, enum symvirt_message_type type, int timeout_ms)
{
    return ask_about(
        fixture, type,
        "{\"uuid\":\"11111111-2222-3333-4444-555555555555\",\"name\":\"ib0\",\"epoch\":7,"
        "\"mac\":\"52:54:00:CA:00:01\"}",
        timeout_ms);
}

int wait_result(struct fixture *fixture)
{
    int64_t end = now_ms() + 15000;

    while (!fixture->result && now_ms() < end)
        step(fixture);
    assert_non_null(fixture->result);
    return (int)symvirt_message_number(fixture->result, "error", 9999);
}

int request(struct fixture *fixture, enum symvirt_message_type type)
{
    ask(fixture, type, 10000);
    return wait_result(fixture);
}

void expect_in_message(struct fixture *fixture, const char *text)
{
    const char *message = symvirt_message_text(fixture->result, "message");

    if (!strstr(message, text))
        fail_msg("'%s' is not in '%s'", text, message);
}

/* --- Processes ---------------------------------------------------------------------------------
 */

void start_agent(struct fixture *fixture)
{
    unsigned before = fixture->connections;
    int64_t end = now_ms() + 10000;

    fixture->agent = fork();
    if (!fixture->agent) {
        char dev[60], sys[60], run[60], port[60], socket_path[60], config[60];

        snprintf(dev, sizeof(dev), "%s/dev", fixture->root);
        snprintf(sys, sizeof(sys), "%s/sys", fixture->root);
        snprintf(run, sizeof(run), "%s/run", fixture->root);
        snprintf(port, sizeof(port), "%s/port", fixture->root);
        snprintf(socket_path, sizeof(socket_path), "%s/agent", fixture->root);
        snprintf(config, sizeof(config), "%s/fabrics.json", fixture->root);
        execl(getenv("AGENT"), "symvirt-agentd", "--dev", dev, "--sys", sys, "--run", run, "--port",
              port, "--socket", socket_path, "--config", config, "--process-ms", "600",
              "--resume-ms", "4000", NULL);
        _exit(127);
    }
    while (fixture->connections == before && now_ms() < end)
        step(fixture);
    assert_int_equal(fixture->connections, before + 1);
}

void kill_agent(struct fixture *fixture, int signal_number)
{
    int status;

    if (fixture->agent <= 0)
        return;
    kill(fixture->agent, signal_number);
    assert_int_equal(waitpid(fixture->agent, &status, 0), fixture->agent);
    if (signal_number == SIGTERM)
        assert_int_equal(status, 0); /* it ended by itself, and a sanitizer found nothing */
    fixture->agent = 0;
}

struct process *start_client(struct fixture *fixture, const char *mode, int holds)
{
    struct process *process = &fixture->processes[fixture->process_count++];
    int ends[2];

    snprintf(process->output, sizeof(process->output), "%s", path_in(fixture, "out0"));
    process->output[strlen(process->output) - 1] += (char)fixture->process_count;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    process->pid = fork();
    if (!process->pid) {
        char agent[60], node[80];
        int out = open(process->output, O_CREAT | O_WRONLY | O_APPEND, 0600);

        snprintf(agent, sizeof(agent), "%s/agent", fixture->root);
        snprintf(node, sizeof(node), "%s/dev/infiniband/uverbs0", fixture->root);
        dup2(ends[0], 0);
        dup2(out, 1);
        execl(getenv("CLIENT_PROCESS"), "client-process", "-", agent, mode, holds ? node : NULL,
              NULL);
        _exit(127);
    }
    close(ends[0]);
    process->input = ends[1];
    return process;
}

int output_has(const struct process *process, const char *line)
{
    char text[4096];
    int fd = open(process->output, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    text[n < 0 ? 0 : n] = '\0';
    return strstr(text, line) != NULL;
}

void expect_output(struct fixture *fixture, const struct process *process, const char *line)
{
    int64_t end = now_ms() + 5000;

    while (!output_has(process, line) && now_ms() < end)
        step(fixture);
    if (!output_has(process, line))
        fail_msg("the process did not print '%s'", line);
}

int setup(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    strcpy(fixture->root, "/tmp/test-agent-XXXXXX");
    if (!mkdtemp(fixture->root))
        return -1;
    plug_device(fixture, "4: ACTIVE\n");
    put_file(fixture, "fabrics.json",
             "{\"fabrics\": [{\"uuid\": \"11111111-2222-3333-4444-555555555555\", \"name\": "
             "\"ib0\", \"epoch\": 3, "
             "\"netdev\": \"hca0\"}]}");
    fixture->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    strcpy(address.sun_path, path_in(fixture, "port"));
    if (bind(fixture->listen_fd, (struct sockaddr *)&address, sizeof(address)) ||
        listen(fixture->listen_fd, 1))
        return -1;
    make_link(fixture);
    start_agent(fixture);
    *state = fixture;
    return 0;
}

int teardown(void **state)
{
    struct fixture *fixture = *state;

    for (unsigned i = 0; i < fixture->process_count; i++) {
        close(fixture->processes[i].input);
        waitpid(fixture->processes[i].pid, NULL, 0);
    }
    kill_agent(fixture, SIGTERM);
    guest_link_destroy(fixture->link);
    close(fixture->listen_fd);
    json_decref(fixture->state);
    json_decref(fixture->result);
    run_shell(fixture, "cd / && rm -rf \"$OLDPWD\"");
    free(fixture);
    return 0;
}

int programs_are_there(void)
{
    const char *agent = getenv("AGENT"), *client = getenv("CLIENT_PROCESS");

    if (agent && client && access(agent, X_OK) == 0 && access(client, X_OK) == 0)
        return 1;
    puts("skipped: AGENT and CLIENT_PROCESS do not name programs");
    return 0;
}
