/* The client: controllers, operations, and an agent that comes, goes and comes back.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "stream.h"

static const struct symvirt_fabric ib = {
    .uuid = "11111111-2222-3333-4444-555555555555", .name = "ib", .epoch = 4};

struct fixture {
    char directory[32];
    char control[64];
    char agent[64];
    struct symvirt_client *client;
    unsigned releases, resumes, aborts, presents, agent_up, agent_down;
    uint64_t last_op;
    int complete_at_once;
};

static void on_release(void *ctx, uint64_t op, const struct symvirt_fabric *fabric)
{
    struct fixture *fixture = ctx;

    fixture->releases++;
    fixture->last_op = op;
    assert_true(symvirt_fabric_same(fabric, &ib));
    if (fixture->complete_at_once)
        assert_int_equal(symvirt_client_complete(fixture->client, op, 0, NULL, NULL), 0);
}

static void on_resume(void *ctx, uint64_t op, const struct symvirt_fabric *fabric)
{
    struct fixture *fixture = ctx;

    fixture->resumes++;
    fixture->last_op = op;
}

static void on_abort(void *ctx, uint64_t op)
{
    struct fixture *fixture = ctx;

    fixture->aborts++;
    symvirt_client_complete(fixture->client, op, ECANCELED, NULL, NULL);
}

static json_t *on_status(void *ctx)
{
    return json_pack("{s:s}", "state", "fine");
}

static void on_present(void *ctx, const struct symvirt_fabric *fabric)
{
    ((struct fixture *)ctx)->presents++;
}

static void on_agent(void *ctx, int connected)
{
    struct fixture *fixture = ctx;

    *(connected ? &fixture->agent_up : &fixture->agent_down) += 1;
}

static int setup(void **state)
{
    static const struct symvirt_client_callbacks callbacks = {
        .release = on_release,
        .resume = on_resume,
        .abort = on_abort,
        .status = on_status,
        .fabric_present = on_present,
        .agent_connected = on_agent,
    };
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    strcpy(fixture->directory, "/tmp/test-client-XXXXXX");
    if (!mkdtemp(fixture->directory))
        return -1;
    snprintf(fixture->control, sizeof(fixture->control), "%s/c", fixture->directory);
    snprintf(fixture->agent, sizeof(fixture->agent), "%s/a", fixture->directory);
    fixture->complete_at_once = 1;
    *state = fixture;
    return symvirt_client_create(&fixture->client, "t", &callbacks, fixture);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    symvirt_client_destroy(fixture->client);
    unlink(fixture->agent);
    /* Fails, and so the test, if the client left its socket behind. */
    if (rmdir(fixture->directory))
        return -1;
    free(fixture);
    return 0;
}

/* Lets the client work until 'milliseconds' have gone by. */
static void pump(struct fixture *fixture, int milliseconds)
{
    int64_t end = symvirt_now_ms() + milliseconds;
    int64_t left;

    while ((left = end - symvirt_now_ms()) > 0) {
        struct pollfd polled = {.fd = symvirt_client_fd(fixture->client), .events = POLLIN};
        int timeout = symvirt_client_timeout_ms(fixture->client);

        poll(&polled, 1, timeout < 0 || timeout > left ? (int)left : timeout);
        symvirt_client_dispatch(fixture->client);
    }
}

static struct symvirt_requester *connect_controller(struct fixture *fixture)
{
    struct symvirt_requester *requester;

    assert_int_equal(symvirt_requester_connect(&requester, fixture->control), 0);
    return requester;
}

static uint64_t ask(struct symvirt_requester *requester, json_t *message)
{
    uint64_t op;

    assert_int_equal(symvirt_requester_send(requester, message, &op), 0);
    json_decref(message);
    return op;
}

/* The error of the next message, which must be the result of 'op'. */
static int expect_result(struct fixture *fixture, struct symvirt_requester *requester, uint64_t op)
{
    enum symvirt_message_type type;
    json_t *message;
    int error, rc;

    for (int tries = 0;
         (rc = symvirt_requester_receive(requester, &message)) == -EAGAIN && tries < 100; tries++)
        pump(fixture, 5);
    assert_int_equal(rc, 0);
    assert_int_equal(symvirt_message_check(message, &type), 0);
    assert_int_equal(type, SYMVIRT_RESULT);
    assert_int_equal(symvirt_message_op(message), op);
    error = (int)symvirt_message_number(message, "error", 999);
    assert_int_equal(json_is_true(json_object_get(message, "ok")), error == 0);
    json_decref(message);
    return error;
}

static void test_controllers_in_parallel_get_their_own_results(void **state)
{
    struct fixture *fixture = *state;
    struct symvirt_requester *a, *b;
    uint64_t a_op, b_op;

    assert_int_equal(symvirt_client_listen(fixture->client, fixture->control), 0);
    assert_int_equal(symvirt_client_listen(fixture->client, fixture->control), -EALREADY);
    a = connect_controller(fixture);
    b = connect_controller(fixture);
    fixture->complete_at_once = 0;
    a_op = ask(a, symvirt_message_fabric_request(SYMVIRT_RELEASE, 0, &ib));
    pump(fixture, 10);
    b_op = ask(b, symvirt_message_request(SYMVIRT_STATUS, 0));
    assert_int_equal(expect_result(fixture, b, b_op), 0);
    b_op = ask(b, symvirt_message_request(SYMVIRT_PING, 0));
    assert_int_equal(expect_result(fixture, b, b_op), 0);
    assert_int_equal(symvirt_client_complete(fixture->client, fixture->last_op, EBUSY, "x", NULL),
                     0);
    assert_int_equal(symvirt_client_complete(fixture->client, fixture->last_op, 0, NULL, NULL),
                     -ENOENT);
    assert_int_equal(expect_result(fixture, a, a_op), EBUSY);
    symvirt_requester_destroy(a);
    symvirt_requester_destroy(b);
}

static void test_abort_ends_the_operation_it_names(void **state)
{
    struct fixture *fixture = *state;
    struct symvirt_requester *requester;
    uint64_t op;

    symvirt_client_listen(fixture->client, fixture->control);
    requester = connect_controller(fixture);
    fixture->complete_at_once = 0;
    op = ask(requester, symvirt_message_fabric_request(SYMVIRT_RELEASE, 0, &ib));
    pump(fixture, 10);
    ask(requester, symvirt_message_request(SYMVIRT_ABORT, op));
    assert_int_equal(expect_result(fixture, requester, op), ECANCELED);
    assert_int_equal(fixture->aborts, 1);
    ask(requester, symvirt_message_request(SYMVIRT_ABORT, op));
    assert_int_equal(expect_result(fixture, requester, op), ENOENT);
    symvirt_requester_destroy(requester);
}

static void test_controller_that_leaves_does_not_hurt(void **state)
{
    struct fixture *fixture = *state;
    struct symvirt_requester *requester;

    symvirt_client_listen(fixture->client, fixture->control);
    requester = connect_controller(fixture);
    fixture->complete_at_once = 0;
    ask(requester, symvirt_message_fabric_request(SYMVIRT_RELEASE, 0, &ib));
    pump(fixture, 10);
    symvirt_requester_destroy(requester);
    pump(fixture, 10);
    assert_int_equal(symvirt_client_complete(fixture->client, fixture->last_op, 0, NULL, NULL), 0);
}

static void test_garbage_from_a_controller_is_skipped(void **state)
{
    struct fixture *fixture = *state;
    char garbage[3000];
    int fd;

    symvirt_client_listen(fixture->client, fixture->control);
    fd = symvirt_socket_connect(fixture->control);
    memset(garbage, 0xff, sizeof(garbage));
    assert_int_equal(write(fd, garbage, sizeof(garbage)), sizeof(garbage));
    pump(fixture, 10);
    close(fd);
    pump(fixture, 10);
    assert_int_equal(fixture->releases, 0);
}

static void test_stale_socket_is_replaced_and_a_living_one_is_not(void **state)
{
    struct fixture *fixture = *state;
    struct symvirt_client *second;
    struct symvirt_client_callbacks none = {NULL};
    struct stat file;
    int fd = symvirt_socket_listen(fixture->control, 0600);

    close(fd); /* leaves the file behind, as a killed process does */
    assert_int_equal(symvirt_client_listen(fixture->client, fixture->control), 0);
    assert_int_equal(lstat(fixture->control, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
    assert_int_equal(symvirt_client_create(&second, "second", &none, NULL), 0);
    assert_int_equal(symvirt_client_listen(second, fixture->control), -EADDRINUSE);
    symvirt_client_destroy(second);
    assert_int_equal(lstat(fixture->control, &file), 0);
}

/* An agent of the test's own: remembers the last message that came. */
struct test_agent {
    struct symvirt_stream stream;
    enum symvirt_message_type last_type;
    json_t *last;
};

static void agent_on_message(void *ctx, enum symvirt_message_type type, json_t *message)
{
    struct test_agent *agent = ctx;

    agent->last_type = type;
    json_decref(agent->last);
    agent->last = json_incref(message);
}

/* Waits for the client at 'listen_fd'. */
static void agent_accept(struct fixture *fixture, struct test_agent *agent, int listen_fd)
{
    int fd = -1;

    for (int tries = 0; fd < 0 && tries < 300; tries++) {
        pump(fixture, 10);
        fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK);
    }
    assert_true(fd >= 0);
    memset(agent, 0, sizeof(*agent));
    symvirt_stream_open(&agent->stream, fd, agent_on_message, agent);
}

static void agent_expect(struct fixture *fixture, struct test_agent *agent,
                         enum symvirt_message_type type)
{
    json_decref(agent->last);
    agent->last = NULL;
    for (int tries = 0; !agent->last && tries < 100; tries++) {
        pump(fixture, 5);
        symvirt_stream_read(&agent->stream);
    }
    assert_non_null(agent->last);
    assert_int_equal(agent->last_type, type);
}

static void agent_close(struct test_agent *agent)
{
    json_decref(agent->last);
    symvirt_stream_close(&agent->stream);
}

static void agent_welcome(struct fixture *fixture, struct test_agent *agent)
{
    agent_expect(fixture, agent, SYMVIRT_REGISTER);
    assert_int_equal(symvirt_message_number(agent->last, "pid", 0), getpid());
    symvirt_stream_send(&agent->stream, json_pack("{s:s, s:[o]}", "type", "registered", "fabrics",
                                                  symvirt_fabric_to_json(&ib)));
}

static void test_agent_that_comes_late_and_restarts(void **state)
{
    struct fixture *fixture = *state;
    struct test_agent agent;
    json_t *operation;
    int listen_fd;

    fixture->complete_at_once = 0;
    assert_int_equal(symvirt_client_connect_agent(fixture->client, fixture->agent), 0);
    pump(fixture, 250);
    listen_fd = symvirt_socket_listen(fixture->agent, 0600);
    agent_accept(fixture, &agent, listen_fd);
    agent_welcome(fixture, &agent);
    symvirt_stream_send(&agent.stream, symvirt_message_fabric_request(SYMVIRT_RELEASE, 900, &ib));
    pump(fixture, 20);
    assert_int_equal(fixture->agent_up, 1);
    assert_int_equal(fixture->presents, 1);
    assert_int_equal(fixture->releases, 1);

    agent_close(&agent); /* the agent dies; the operation goes on and ends before it is back */
    pump(fixture, 20);
    assert_int_equal(fixture->agent_down, 1);
    assert_int_equal(
        symvirt_client_complete(fixture->client, fixture->last_op, 0, "given up", NULL), 0);

    agent_accept(fixture, &agent, listen_fd);
    agent_welcome(fixture, &agent);
    operation = json_array_get(json_object_get(agent.last, "operations"), 0);
    assert_int_equal(symvirt_message_op(operation), 900);
    assert_string_equal(symvirt_message_text(operation, "request"), "release");
    assert_string_equal(symvirt_message_text(json_object_get(operation, "result"), "message"),
                        "given up");
    /* Repeated, it is answered again without a second release. */
    symvirt_stream_send(&agent.stream, symvirt_message_fabric_request(SYMVIRT_RELEASE, 900, &ib));
    agent_expect(fixture, &agent, SYMVIRT_RESULT);
    assert_int_equal(fixture->releases, 1);
    assert_int_equal(fixture->agent_up, 2);
    agent_close(&agent);
    close(listen_fd);
}

static void test_present_event_and_old_results_trimmed(void **state)
{
    struct fixture *fixture = *state;
    struct test_agent agent;
    int listen_fd = symvirt_socket_listen(fixture->agent, 0600);

    symvirt_client_connect_agent(fixture->client, fixture->agent);
    agent_accept(fixture, &agent, listen_fd);
    agent_welcome(fixture, &agent);
    symvirt_stream_send(&agent.stream, json_pack("{s:s, s:s, s:o}", "type", "event", "event",
                                                 SYMVIRT_EVENT_FABRIC_PRESENT, "fabric",
                                                 symvirt_fabric_to_json(&ib)));
    pump(fixture, 10);
    assert_int_equal(fixture->presents, 2);
    for (uint64_t op = 1; op <= 20; op++) {
        symvirt_stream_send(&agent.stream,
                            symvirt_message_fabric_request(SYMVIRT_RELEASE, op, &ib));
        agent_expect(fixture, &agent, SYMVIRT_RESULT);
    }
    agent_close(&agent);
    agent_accept(fixture, &agent, listen_fd);
    agent_expect(fixture, &agent, SYMVIRT_REGISTER);
    assert_int_equal(json_array_size(json_object_get(agent.last, "operations")), 8);
    assert_int_equal(
        symvirt_message_op(json_array_get(json_object_get(agent.last, "operations"), 7)), 20);
    agent_close(&agent);
    close(listen_fd);
}

/* A child that the application has forked has all sockets, too. */
static void test_nothing_is_left_of_a_connection_that_a_child_has(void **state)
{
    struct fixture *fixture = *state;
    struct symvirt_requester *controller;
    struct pollfd polled = {.events = POLLIN};
    pid_t child;

    assert_int_equal(symvirt_client_listen(fixture->client, fixture->control), 0);
    controller = connect_controller(fixture);
    pump(fixture, 50);
    child = fork();
    if (child == 0) {
        symvirt_requester_destroy(controller);
        alarm(30);
        pause();
        _exit(0);
    }
    symvirt_requester_destroy(controller);
    pump(fixture, 50);
    polled.fd = symvirt_client_fd(fixture->client);
    assert_int_equal(poll(&polled, 1, 0), 0);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void test_paths_too_long_are_refused(void **state)
{
    struct fixture *fixture = *state;
    char path[300];

    memset(path, 'x', sizeof(path));
    path[299] = '\0';
    assert_int_equal(symvirt_client_listen(fixture->client, path), -ENAMETOOLONG);
    assert_int_equal(symvirt_client_connect_agent(fixture->client, path), -ENAMETOOLONG);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_controllers_in_parallel_get_their_own_results),
        TEST(test_abort_ends_the_operation_it_names),
        TEST(test_controller_that_leaves_does_not_hurt),
        TEST(test_garbage_from_a_controller_is_skipped),
        TEST(test_stale_socket_is_replaced_and_a_living_one_is_not),
        TEST(test_agent_that_comes_late_and_restarts),
        TEST(test_present_event_and_old_results_trimmed),
        TEST(test_nothing_is_left_of_a_connection_that_a_child_has),
        TEST(test_paths_too_long_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
