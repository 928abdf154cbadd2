/* The real agent, driven over a guest link, on a made-up device tree: release, resume, holders,
 * restarts, hostile bytes. SPDX-License-Identifier: BSD-3-Clause
 *
 * AGENT and CLIENT_PROCESS in the environment name the two programs.
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

#include "guest-link.h"
#include "ranks-query.h"

#define NODE_MODE 0640

struct process {
    pid_t pid;
    int input; /* the process ends when this is closed */
    char output[300];
};

struct fixture {
    char root[40];
    int listen_fd;
    struct guest_link *link;
    pid_t agent;
    unsigned connections, events;
    json_t *state;
    uint64_t result_op;
    json_t *result;
    char progress[256];
    struct process processes[4];
    unsigned process_count;
};

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- The made-up machine --------------------------------------------------------------------- */

static const char *path_in(const struct fixture *fixture, const char *name)
{
    static char path[300];

    snprintf(path, sizeof(path), "%s/%s", fixture->root, name);
    return path;
}

/* Writes a file, making the directories above it. */
static void put_file(const struct fixture *fixture, const char *name, const char *text)
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

static void plug_device(const struct fixture *fixture, const char *port_state)
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

static void unplug_device(const struct fixture *fixture)
{
    run_shell(
        fixture,
        "rm -rf sys/class/infiniband/rxe0 sys/class/infiniband_verbs/uverbs0 sys/class/net/hca0 "
        "dev/infiniband/uverbs0");
}

static int node_is_open_to_all(const struct fixture *fixture)
{
    struct stat info;

    return !stat(path_in(fixture, "dev/infiniband/uverbs0"), &info) &&
           (info.st_mode & 0777) == NODE_MODE;
}

static ino_t node_inode(const struct fixture *fixture)
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

static void run_for(struct fixture *fixture, int milliseconds)
{
    int64_t end = now_ms() + milliseconds;

    while (now_ms() < end)
        step(fixture);
}

static uint64_t ask(struct fixture *fixture, enum symvirt_message_type type, int timeout_ms)
{
    static const char fabric_text[] =
        "{\"uuid\":\"11111111-2222-3333-4444-555555555555\",\"name\":\"ib0\",\"epoch\":7,"
        "\"mac\":\"52:54:00:CA:00:01\"}";
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

/* Waits for the result; returns its error. */
static int wait_result(struct fixture *fixture)
{
    int64_t end = now_ms() + 15000;

    while (!fixture->result && now_ms() < end)
        step(fixture);
    assert_non_null(fixture->result);
    return (int)symvirt_message_number(fixture->result, "error", 9999);
}

static int request(struct fixture *fixture, enum symvirt_message_type type)
{
    ask(fixture, type, 10000);
    return wait_result(fixture);
}

static void expect_in_message(struct fixture *fixture, const char *text)
{
    const char *message = symvirt_message_text(fixture->result, "message");

    if (!strstr(message, text))
        fail_msg("'%s' is not in '%s'", text, message);
}

/* --- Processes ---------------------------------------------------------------------------------
 */

static void start_agent(struct fixture *fixture)
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

static void kill_agent(struct fixture *fixture, int signal_number)
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

/* A process that registers in 'mode' (see client-process.c), holding the node if 'holds'. */
static struct process *start_client(struct fixture *fixture, const char *mode, int holds)
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

static int output_has(const struct process *process, const char *line)
{
    char text[4096];
    int fd = open(process->output, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    text[n < 0 ? 0 : n] = '\0';
    return strstr(text, line) != NULL;
}

static void expect_output(struct fixture *fixture, const struct process *process, const char *line)
{
    int64_t end = now_ms() + 5000;

    while (!output_has(process, line) && now_ms() < end)
        step(fixture);
    if (!output_has(process, line))
        fail_msg("the process did not print '%s'", line);
}

static int setup(void **state)
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

static int teardown(void **state)
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

/* --- Tests -------------------------------------------------------------------------------------
 */

static void test_greeting_describes_the_fabrics(void **state)
{
    struct fixture *fixture = *state;
    const json_t *fabric = json_array_get(json_object_get(fixture->state, "fabrics"), 0);

    assert_string_equal(symvirt_message_text(fabric, "name"), "ib0");
    assert_string_equal(symvirt_message_text(fabric, "device"), "rxe0");
    assert_string_equal(symvirt_message_text(fabric, "state"), "present");
    assert_int_equal(request(fixture, SYMVIRT_PING), 0);
    assert_int_equal(request(fixture, SYMVIRT_STATUS), 0);
    assert_int_equal(symvirt_message_number(json_object_get(fixture->result, "detail"), "pid", 0),
                     fixture->agent);
}

static void test_release_and_resume_with_a_process(void **state)
{
    struct fixture *fixture = *state;
    struct process *process = start_client(fixture, "ok", 1);
    ino_t inode = node_inode(fixture);

    expect_output(fixture, process, "present ib0 rxe0 3");
    assert_int_equal(request(fixture, SYMVIRT_RELEASE), 0);
    assert_true(output_has(process, "release ib0"));
    assert_false(node_is_open_to_all(fixture));
    assert_string_equal(symvirt_message_text(json_object_get(fixture->result, "detail"), "mac"),
                        "52:54:00:ca:00:01");
    assert_int_equal(request(fixture, SYMVIRT_RELEASE), 0); /* already: fine */
    assert_int_equal(request(fixture, SYMVIRT_RESUME), 0);
    expect_output(fixture, process, "resume ib0");
    assert_true(output_has(process, "rxe0 7")); /* the host's epoch */
    assert_true(node_is_open_to_all(fixture));
    assert_int_equal(node_inode(fixture), inode);
}

static void test_process_that_has_not_come_back_after_a_restart_is_waited_for(void **state)
{
    struct fixture *fixture = *state;
    struct process *process = start_client(fixture, "ok", 1);

    expect_output(fixture, process, "present");
    kill_agent(fixture, SIGKILL);
    run_for(fixture, 1000); /* the process tries less and less often */
    start_agent(fixture);
    assert_int_equal(request(fixture, SYMVIRT_RELEASE), 0);
    assert_true(output_has(process, "release ib0"));
}

static void test_foreign_holder_is_named_and_nobody_disturbed(void **state)
{
    struct fixture *fixture = *state;
    struct process *process = start_client(fixture, "ok", 1);
    char expected[64];
    pid_t holder;
    int64_t begin;

    expect_output(fixture, process, "present");
    holder = fork();
    if (!holder) {
        int fd = open(path_in(fixture, "dev/infiniband/uverbs0"), O_RDWR);

        dup2(fd, 100); /* not closed by exec */
        execlp("sleep", "sleep", "60", NULL);
        _exit(127);
    }
    run_for(fixture, 100);
    begin = now_ms();
    assert_int_equal(request(fixture, SYMVIRT_RELEASE), EBUSY);
    assert_in_range(now_ms() - begin, 900, 5000);
    snprintf(expected, sizeof(expected), "rxe0 is held by sleep (process %d", (int)holder);
    expect_in_message(fixture, expected);
    assert_true(node_is_open_to_all(fixture));
    assert_false(output_has(process, "release"));
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    assert_int_equal(request(fixture, SYMVIRT_RELEASE), 0);
}

static void test_silent_process_that_holds_is_named_and_others_resume(void **state)
{
    struct fixture *fixture = *state;
    struct process *good = start_client(fixture, "ok", 1),
                   *silent = start_client(fixture, "silent", 1);
    char expected[64];

    expect_output(fixture, good, "present");
    expect_output(fixture, silent, "present");
    assert_int_equal(request(fixture, SYMVIRT_RELEASE), EBUSY);
    snprintf(expected, sizeof(expected), "held by client-process (process %d", (int)silent->pid);
    expect_in_message(fixture, expected);
    expect_output(fixture, good, "resume ib0");
    expect_output(fixture, silent, "abort");
    assert_true(node_is_open_to_all(fixture));
}

static void test_silent_process_that_does_not_hold_is_no_obstacle(void **state)
{
    struct fixture *fixture = *state;
    struct process *silent = start_client(fixture, "silent", 0);

    expect_output(fixture, silent, "present");
    assert_int_equal(request(fixture, SYMVIRT_RELEASE), 0);
}

static void test_abort_undoes_a_release(void **state)
{
    struct fixture *fixture = *state;
    struct process *silent = start_client(fixture, "silent", 1);
    uint64_t op;

    expect_output(fixture, silent, "present");
    op = ask(fixture, SYMVIRT_RELEASE, 10000);
    expect_output(fixture, silent, "release");
    assert_false(node_is_open_to_all(fixture));
    assert_int_equal(guest_link_abort(fixture->link, op), 0);
    assert_int_equal(wait_result(fixture), ECANCELED);
    expect_output(fixture, silent, "abort");
    assert_true(node_is_open_to_all(fixture));
}

static void test_process_started_during_the_fence_waits_for_the_resume(void **state)
{
    struct fixture *fixture = *state;
    struct process *late;

    assert_int_equal(request(fixture, SYMVIRT_RELEASE), 0);
    late = start_client(fixture, "ok", 0);
    expect_output(fixture, late, "agent connected");
    run_for(fixture, 100);
    assert_false(output_has(late, "present"));
    assert_int_equal(request(fixture, SYMVIRT_RESUME), 0);
    expect_output(fixture, late, "resume ib0");
}

static void test_process_started_while_others_are_told_gets_the_fabric(void **state)
{
    struct fixture *fixture = *state;
    struct process *silent = start_client(fixture, "silent", 0), *late;

    expect_output(fixture, silent, "present");
    assert_int_equal(request(fixture, SYMVIRT_RELEASE), 0);
    ask(fixture, SYMVIRT_RESUME, 10000);
    expect_output(fixture, silent, "resume ib0");
    late = start_client(fixture, "ok", 0);
    expect_output(fixture, late, "present ib0 rxe0 7");
    assert_null(fixture->result); /* it still waits for the silent one */
}

static void test_device_unplugged_and_another_plugged_in(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(request(fixture, SYMVIRT_RELEASE), 0);
    unplug_device(fixture);
    kill(fixture->agent, SIGHUP);
    run_for(fixture, 200);
    assert_int_not_equal(access(path_in(fixture, "dev/infiniband/.symvirt-withheld/uverbs0"), F_OK),
                         0);
    ask(fixture, SYMVIRT_RESUME, 10000);
    run_for(fixture, 200);
    assert_string_equal(fixture->progress, "waiting: there is no such device yet");
    plug_device(fixture, "1: DOWN\n");
    kill(fixture->agent, SIGHUP);
    run_for(fixture, 300);
    assert_string_equal(fixture->progress, "rxe0: the port is not ACTIVE yet");
    assert_null(fixture->result);
    put_file(fixture, "sys/class/infiniband/rxe0/ports/1/state", "4: ACTIVE\n");
    assert_int_equal(wait_result(fixture), 0);
    assert_true(fixture->events >= 3); /* removed, added, port state */
}

static void test_port_that_stays_down_ends_the_resume_in_time(void **state)
{
    struct fixture *fixture = *state;

    put_file(fixture, "sys/class/infiniband/rxe0/ports/1/state", "1: DOWN\n");
    assert_int_equal(request(fixture, SYMVIRT_RESUME), ETIMEDOUT);
    expect_in_message(fixture, "rxe0: the port is not ACTIVE yet");
}

static void test_agent_killed_while_asking(void **state)
{
    struct fixture *fixture = *state;
    struct process *good = start_client(fixture, "ok", 1),
                   *silent = start_client(fixture, "silent", 0);

    expect_output(fixture, good, "present");
    expect_output(fixture, silent, "present");
    ask(fixture, SYMVIRT_RELEASE, 10000);
    expect_output(fixture, good, "release");
    assert_false(node_is_open_to_all(fixture));
    kill_agent(fixture, SIGKILL);
    start_agent(fixture);
    assert_int_equal(wait_result(fixture), EAGAIN);
    assert_true(node_is_open_to_all(fixture));
    expect_output(fixture, good, "agent lost\nagent connected\npresent ib0");
    assert_int_equal(request(fixture, SYMVIRT_RELEASE), 0);
}

static void test_agent_killed_when_released(void **state)
{
    struct fixture *fixture = *state;
    struct process *good = start_client(fixture, "ok", 1);

    expect_output(fixture, good, "present");
    assert_int_equal(request(fixture, SYMVIRT_RELEASE), 0);
    kill_agent(fixture, SIGKILL);
    start_agent(fixture);
    assert_false(node_is_open_to_all(fixture));
    assert_string_equal(symvirt_message_text(
                            json_array_get(json_object_get(fixture->state, "fabrics"), 0), "state"),
                        "released");
    expect_output(fixture, good, "agent lost\nagent connected\n");
    assert_false(output_has(good, "agent connected\npresent ib0 rxe0 7"));
    assert_int_equal(request(fixture, SYMVIRT_RESUME), 0);
    expect_output(fixture, good, "resume ib0");
    assert_true(node_is_open_to_all(fixture));
}

static void test_agent_killed_while_a_resume_waits(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(request(fixture, SYMVIRT_RELEASE), 0);
    put_file(fixture, "sys/class/infiniband/rxe0/ports/1/state", "1: DOWN\n");
    ask(fixture, SYMVIRT_RESUME, 10000);
    run_for(fixture, 200);
    kill_agent(fixture, SIGKILL);
    start_agent(fixture);
    run_for(fixture, 300);
    assert_null(fixture->result);
    put_file(fixture, "sys/class/infiniband/rxe0/ports/1/state", "4: ACTIVE\n");
    assert_int_equal(wait_result(fixture), 0);
    assert_true(node_is_open_to_all(fixture));
}

static void test_result_that_the_host_missed_is_heard_by_the_next(void **state)
{
    struct fixture *fixture = *state;
    struct process *silent = start_client(fixture, "silent", 0);
    uint64_t op;

    expect_output(fixture, silent, "present");
    op = ask(fixture, SYMVIRT_RELEASE, 10000);
    expect_output(fixture, silent, "release");
    /* The host goes away and comes back after the operation ended. */
    guest_link_detach(fixture->link);
    for (int64_t end = now_ms() + 1500; now_ms() < end;)
        usleep(10000);
    assert_int_equal(wait_result(fixture), 0);
    assert_int_equal(fixture->result_op, op);
    assert_int_equal(fixture->connections, 2);
}

static void test_garbage_and_an_endless_frame_from_the_host(void **state)
{
    struct fixture *fixture = *state;
    char garbage[5000];
    int fd = guest_link_unix_fd(fixture->link);

    memset(garbage, '{', sizeof(garbage));
    memcpy(garbage, "\xffSYV\0\1\0\0", 8);
    memset(garbage + 8, 0, 24);
    for (int i = 0; i < 30; i++)
        assert_int_equal(
            send(fd, garbage + (i ? 32 : 0), sizeof(garbage) - (i ? 32 : 0), MSG_NOSIGNAL),
            (ssize_t)(sizeof(garbage) - (i ? 32 : 0)));
    assert_int_equal(request(fixture, SYMVIRT_PING), 0);
}

static void test_agent_that_does_not_answer(void **state)
{
    struct fixture *fixture = *state;
    uint64_t op;

    kill(fixture->agent, SIGSTOP);
    op = ask(fixture, SYMVIRT_RELEASE, 300);
    assert_int_equal(wait_result(fixture), ETIMEDOUT);
    assert_int_equal(fixture->result_op, op);
    kill(fixture->agent, SIGCONT);
    run_for(fixture, 1500);
    assert_true(
        node_is_open_to_all(fixture)); /* the abort that followed undid it, or it never began */
}

static void test_one_fabric_operation_at_a_time(void **state)
{
    struct fixture *fixture = *state;
    json_t *fabric = json_pack("{s:s, s:s, s:i}", "uuid", "", "name", "ib0", "epoch", 0),
           *bad = json_object();
    struct process *silent = start_client(fixture, "silent", 0);
    uint64_t op;

    expect_output(fixture, silent, "present");
    ask(fixture, SYMVIRT_RELEASE, 10000);
    assert_int_equal(guest_link_request(fixture->link, SYMVIRT_RESUME, fabric, 1000, &op), -EBUSY);
    assert_int_equal(wait_result(fixture), 0);
    assert_int_equal(guest_link_request(fixture->link, SYMVIRT_RESUME, bad, 1000, &op), -EINVAL);
    json_decref(fabric);
    json_decref(bad);
}

/* Asks for the links of all processes as ninjad does; returns what came (new reference). */
static json_t *ask_ranks(struct fixture *fixture)
{
    struct ranks_query *query = ranks_query_create();
    uint64_t process, first, op;
    json_t *result;

    while (ranks_query_next(query, &process, &first)) {
        json_decref(fixture->result);
        fixture->result = NULL;
        assert_int_equal(guest_link_ask_links(fixture->link, process, first, 5000, &op), 0);
        assert_int_equal(wait_result(fixture), 0);
        ranks_query_take(query, json_object_get(fixture->result, "detail"));
    }
    result = ranks_query_result(query);
    ranks_query_destroy(query);
    return result;
}

static const json_t *rank_of(const json_t *ranks, pid_t pid)
{
    const json_t *rank;
    size_t i;

    json_array_foreach (json_object_get(ranks, "ranks"), i, rank)
        if (json_integer_value(json_object_get(rank, "pid")) == pid)
            return rank;
    fail_msg("process %d is missing", (int)pid);
    return NULL;
}

static const char *error_of(const json_t *rank)
{
    return symvirt_message_text(rank, "error");
}

static void test_links_of_all_processes_are_told(void **state)
{
    struct fixture *fixture = *state;
    const struct process *many, *none, *liar, *stopped;
    const json_t *rank, *links, *link;
    json_t *ranks;
    int64_t begin;

    ranks = ask_ranks(fixture);
    assert_int_equal(json_array_size(json_object_get(ranks, "ranks")), 0);
    json_decref(ranks);
    many = start_client(fixture, "links", 0);
    none = start_client(fixture, "ok", 0);
    liar = start_client(fixture, "liar", 0);
    stopped = start_client(fixture, "links", 0);
    expect_output(fixture, many, "agent connected");
    expect_output(fixture, none, "agent connected");
    expect_output(fixture, liar, "agent connected");
    expect_output(fixture, stopped, "agent connected");
    kill(stopped->pid, SIGSTOP);
    begin = now_ms();
    ranks = ask_ranks(fixture);
    kill(stopped->pid, SIGCONT);
    assert_in_range(now_ms() - begin, 500, 5000); /* one process does not answer: one second */
    assert_int_equal(json_array_size(json_object_get(ranks, "ranks")), 4);
    assert_false(json_is_true(json_object_get(ranks, "truncated")));

    rank = rank_of(ranks, many->pid);
    links = json_object_get(rank, "links");
    assert_int_equal(json_array_size(links), 600);
    assert_int_equal(json_integer_value(json_object_get(rank, "rank")), 3);
    link = json_array_get(links, 599);
    assert_int_equal(json_integer_value(json_object_get(link, "rank")), 599);
    assert_string_equal(symvirt_message_text(link, "transport"), "ib0");
    assert_true(json_real_value(json_object_get(link, "since_s")) == 599.0);

    rank = rank_of(ranks, none->pid);
    assert_int_equal(json_array_size(json_object_get(rank, "links")), 0);
    assert_string_equal(error_of(rank), "it does not tell its links");
    assert_string_equal(error_of(rank_of(ranks, stopped->pid)), "it does not answer");

    /* Nothing of a liar's is worse than empty. */
    links = json_object_get(rank_of(ranks, liar->pid), "links");
    for (size_t i = 0; i < json_array_size(links); i++) {
        const char *text = symvirt_message_text(json_array_get(links, i), "transport");

        assert_null(strchr(text, 27));
        assert_true(json_integer_value(json_object_get(json_array_get(links, i), "rank")) >= 0);
    }
    json_decref(ranks);
    /* And the agent does what it is for. */
    assert_int_equal(request(fixture, SYMVIRT_PING), 0);
}

static void test_process_that_ends_while_it_is_asked(void **state)
{
    struct fixture *fixture = *state;
    const struct process *process;
    uint64_t op;

    process = start_client(fixture, "links", 0);
    expect_output(fixture, process, "agent connected");
    kill(process->pid, SIGSTOP);
    json_decref(fixture->result);
    fixture->result = NULL;
    assert_int_equal(guest_link_ask_links(fixture->link, 0, 0, 5000, &op), 0);
    run_for(fixture, 100);
    /* A second question while one is open is refused, not queued. */
    assert_int_equal(guest_link_ask_links(fixture->link, 0, 0, 5000, &op), 0);
    assert_int_equal(wait_result(fixture), EBUSY);
    json_decref(fixture->result);
    fixture->result = NULL;
    kill(process->pid, SIGKILL);
    assert_int_equal(wait_result(fixture), 0);
    assert_string_equal(error_of(json_object_get(fixture->result, "detail")), "it has ended");
}

static void test_guest_that_turns_in_circles_is_left(void **state)
{
    struct ranks_query *query = ranks_query_create();
    uint64_t process, first;
    unsigned questions = 0;
    json_t *result;

    while (ranks_query_next(query, &process, &first)) {
        json_t *detail =
            json_pack("{s:i, s:i, s:s, s:{s:I, s:[[i, i, s, f]]}}", "process", 5, "next", 6, "name",
                      "x", "links", "total", (json_int_t)INT64_MAX, "links", 1, 2, "ib", 0.5);

        ranks_query_take(query, detail);
        json_decref(detail);
        assert_true(++questions <= RANKS_QUERY_QUESTIONS_MAX);
    }
    result = ranks_query_result(query);
    assert_true(json_is_true(json_object_get(result, "truncated")));
    json_decref(result);
    ranks_query_destroy(query);

    /* One that names an earlier process, or none, is done with. */
    query = ranks_query_create();
    result = json_pack("{s:i, s:i}", "process", 5, "next", 4);
    ranks_query_take(query, result);
    json_decref(result);
    assert_false(ranks_query_next(query, &process, &first));
    ranks_query_destroy(query);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_greeting_describes_the_fabrics),
        TEST(test_release_and_resume_with_a_process),
        TEST(test_process_that_has_not_come_back_after_a_restart_is_waited_for),
        TEST(test_foreign_holder_is_named_and_nobody_disturbed),
        TEST(test_silent_process_that_holds_is_named_and_others_resume),
        TEST(test_silent_process_that_does_not_hold_is_no_obstacle),
        TEST(test_abort_undoes_a_release),
        TEST(test_process_started_during_the_fence_waits_for_the_resume),
        TEST(test_process_started_while_others_are_told_gets_the_fabric),
        TEST(test_device_unplugged_and_another_plugged_in),
        TEST(test_port_that_stays_down_ends_the_resume_in_time),
        TEST(test_agent_killed_while_asking),
        TEST(test_agent_killed_when_released),
        TEST(test_agent_killed_while_a_resume_waits),
        TEST(test_result_that_the_host_missed_is_heard_by_the_next),
        TEST(test_garbage_and_an_endless_frame_from_the_host),
        TEST(test_agent_that_does_not_answer),
        TEST(test_one_fabric_operation_at_a_time),
        TEST(test_links_of_all_processes_are_told),
        TEST(test_process_that_ends_while_it_is_asked),
        cmocka_unit_test(test_guest_that_turns_in_circles_is_left),
    };

    if (!getenv("AGENT") || access(getenv("AGENT"), X_OK) || !getenv("CLIENT_PROCESS") ||
        access(getenv("CLIENT_PROCESS"), X_OK)) {
        puts("skipped: AGENT and CLIENT_PROCESS do not name programs");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
