/* The real agent, driven over a guest link: release, resume, holders, restarts, hostile bytes.
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
    assert_int_equal(
        json_array_size(json_object_get(json_object_get(fixture->result, "detail"), "processes")),
        1);
    /* Of all results that are kept, what each process said would not fit into a greeting. */
    assert_int_equal(request(fixture, SYMVIRT_STATUS), 0);
    assert_null(json_object_get(
        json_object_get(
            json_array_get(json_object_get(json_object_get(fixture->result, "detail"), "results"),
                           0),
            "detail"),
        "processes"));
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

static size_t count_registered(struct fixture *fixture)
{
    assert_int_equal(request(fixture, SYMVIRT_STATUS), 0);
    return json_array_size(
        json_object_get(json_object_get(fixture->result, "detail"), "processes"));
}

static void test_process_that_ended_is_gone_although_a_child_has_its_connection(void **state)
{
    struct fixture *fixture = *state;
    struct process *parent = start_client(fixture, "parent", 0);
    int64_t end = now_ms() + 5000;

    expect_output(fixture, parent, "present");
    assert_int_equal(count_registered(fixture), 1);
    kill(parent->pid, SIGKILL);
    while (count_registered(fixture) > 0 && now_ms() < end)
        run_for(fixture, 10);
    assert_int_equal(count_registered(fixture), 0);
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

/* Such as one whose interface was given another MAC, or moved to a container's network: what cannot
 * be recognised cannot be proved free. */
static void test_device_that_is_not_recognised_is_not_called_free(void **state)
{
    struct fixture *fixture = *state;

    put_file(fixture, "sys/class/net/hca0/address", "52:54:00:ca:00:02\n");
    kill(fixture->agent, SIGHUP);
    run_for(fixture, 200);
    assert_int_equal(request(fixture, SYMVIRT_RELEASE), ENODEV);
    expect_in_message(fixture, "none of the RDMA devices here is the fabric's");
    assert_true(node_is_open_to_all(fixture));
    put_file(fixture, "sys/class/net/hca0/address", "52:54:00:ca:00:01\n");
    kill(fixture->agent, SIGHUP);
    run_for(fixture, 200);
    assert_int_equal(request(fixture, SYMVIRT_RELEASE), 0);
}

static int request_about(struct fixture *fixture, enum symvirt_message_type type,
                         const char *fabric_text)
{
    ask_about(fixture, type, fabric_text, 10000);
    return wait_result(fixture);
}

/* InfiniBand has no MAC: only that the fabric left behind was released tells whose device it is. */
static void test_hca_without_a_mac_goes_from_fabric_to_fabric(void **state)
{
    static const char there[] = "{\"uuid\":\"33333333-2222-3333-4444-555555555555\",\"name\":"
                                "\"there\",\"epoch\":1}",
                      here[] = "{\"uuid\":\"44444444-2222-3333-4444-555555555555\",\"name\":"
                               "\"here\",\"epoch\":1}";
    struct fixture *fixture = *state;

    kill_agent(fixture, SIGTERM);
    put_file(fixture, "fabrics.json", "{\"fabrics\": []}");
    unlink(path_in(fixture, "run/state.json"));
    start_agent(fixture);
    assert_int_equal(request_about(fixture, SYMVIRT_RESUME, here), 0);
    assert_int_equal(request_about(fixture, SYMVIRT_RELEASE, here), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(request_about(fixture, SYMVIRT_RESUME, there), 0);
        assert_true(node_is_open_to_all(fixture));
        assert_int_equal(request_about(fixture, SYMVIRT_RELEASE, there), 0);
        assert_false(node_is_open_to_all(fixture));
        assert_int_equal(request_about(fixture, SYMVIRT_RESUME, here), 0);
        assert_int_equal(request_about(fixture, SYMVIRT_RELEASE, here), 0);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_greeting_describes_the_fabrics),
        TEST(test_release_and_resume_with_a_process),
        TEST(test_process_that_has_not_come_back_after_a_restart_is_waited_for),
        TEST(test_foreign_holder_is_named_and_nobody_disturbed),
        TEST(test_silent_process_that_holds_is_named_and_others_resume),
        TEST(test_silent_process_that_does_not_hold_is_no_obstacle),
        TEST(test_process_that_ended_is_gone_although_a_child_has_its_connection),
        TEST(test_abort_undoes_a_release),
        TEST(test_process_started_during_the_fence_waits_for_the_resume),
        TEST(test_process_started_while_others_are_told_gets_the_fabric),
        TEST(test_device_unplugged_and_another_plugged_in),
        TEST(test_device_that_is_not_recognised_is_not_called_free),
        TEST(test_hca_without_a_mac_goes_from_fabric_to_fabric),
        TEST(test_port_that_stays_down_ends_the_resume_in_time),
        TEST(test_agent_killed_while_asking),
        TEST(test_agent_killed_when_released),
        TEST(test_agent_killed_while_a_resume_waits),
        TEST(test_result_that_the_host_missed_is_heard_by_the_next),
        TEST(test_garbage_and_an_endless_frame_from_the_host),
        TEST(test_agent_that_does_not_answer),
        TEST(test_one_fabric_operation_at_a_time),
    };

    return programs_are_there() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
