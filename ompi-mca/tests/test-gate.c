/*
 * The gate: application and control thread are never inside together, and both get in.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "control.h"
#include "gate.h"

static struct ninja_gate gate;
static volatile unsigned inside; /* not atomic: the gate is what protects it */
static volatile uint64_t shared;
static volatile uint64_t collisions;
static atomic_bool stop;
static uint64_t control_turns;
static bool forbidden; /* membarrier(2), from now on */

static void touch(void)
{
    if (++inside != 1)
        collisions++;
    shared++;
    inside--;
}

static void *control(void *unused)
{
    while (!atomic_load(&stop)) {
        ninja_gate_take(&gate);
        touch();
        ninja_gate_give(&gate);
        control_turns++;
        usleep(50);
    }
    return NULL;
}

static void *application(void *count)
{
    uint64_t turns = 0;

    while (!atomic_load(&stop)) {
        ninja_gate_enter(&gate);
        touch();
        ninja_gate_enter(&gate); /* from a callback */
        touch();
        ninja_gate_leave(&gate);
        ninja_gate_leave(&gate);
        turns += 2;
    }
    *(uint64_t *)count = turns;
    return NULL;
}

static void run(unsigned threads)
{
    pthread_t control_thread, application_threads[4];
    uint64_t turns[4], sum = 0;

    shared = 0;
    control_turns = 0;
    atomic_store(&stop, false);
    ninja_gate_init(&gate, threads > 1);
    assert_int_equal(gate.fence, forbidden);
    pthread_create(&control_thread, NULL, control, NULL);
    for (unsigned i = 0; i < threads; i++)
        pthread_create(&application_threads[i], NULL, application, &turns[i]);
    usleep(500000);
    atomic_store(&stop, true);
    pthread_join(control_thread, NULL);
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(application_threads[i], NULL);
        assert_int_not_equal(turns[i], 0);
        sum += turns[i];
    }
    assert_int_equal(collisions, 0);
    assert_int_not_equal(control_turns, 0);
    /* Nobody's increment was lost to somebody else. */
    assert_int_equal(shared, sum + control_turns);
    ninja_gate_destroy(&gate);
}

static void one_application_thread(void **state)
{
    run(1);
}

static void several_application_threads(void **state)
{
    run(3);
}

static void *take_once(void *switches)
{
    struct rusage before, after;

    getrusage(RUSAGE_THREAD, &before);
    ninja_gate_take(&gate);
    getrusage(RUSAGE_THREAD, &after);
    touch();
    ninja_gate_give(&gate);
    *(long *)switches = after.ru_nvcsw - before.ru_nvcsw;
    return NULL;
}

/* On a single processor each look would take it from the application. */
static void control_sleeps_until_the_application_is_out(void **state)
{
    pthread_t control_thread;
    long switches;

    ninja_gate_init(&gate, false);
    ninja_gate_enter(&gate);
    pthread_create(&control_thread, NULL, take_once, &switches);
    for (unsigned i = 0; i < 10000 && atomic_load(&gate.wanted) == 0; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&gate.wanted), 1);
    usleep(100000);
    ninja_gate_leave(&gate);
    pthread_join(control_thread, NULL);
    assert_in_range(switches, 1, 5);
    ninja_gate_destroy(&gate);
}

/* What it costs to look for the application may not become a part of the application's time. */
static void looks_are_seldom_where_they_cost_much(void **state)
{
    assert_int_equal(ninja_control_patience(0), 20);
    assert_int_equal(ninja_control_patience(10000), 20);
    assert_int_equal(ninja_control_patience(500000), 50);
    assert_int_equal(ninja_control_patience(1000000000), 100);
}

/* As some containers do: the system call fails with EPERM. */
static void forbid_membarrier(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = {.len = 4, .filter = program};

    if (forbidden)
        return;
    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
    forbidden = true;
}

/* A gate that was made before that has no fence. */
static void membarrier_is_forbidden_later(void **state)
{
    pthread_t control_thread;
    long switches;

    if (forbidden)
        skip();
    ninja_gate_init(&gate, false);
    assert_false(gate.fence);
    forbid_membarrier();
    pthread_create(&control_thread, NULL, take_once, &switches);
    pthread_join(control_thread, NULL);
    assert_int_equal(collisions, 0);
    ninja_gate_destroy(&gate);
}

static void one_application_thread_without_membarrier(void **state)
{
    forbid_membarrier();
    run(1);
}

static void several_application_threads_without_membarrier(void **state)
{
    forbid_membarrier();
    run(3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_sleeps_until_the_application_is_out),
        cmocka_unit_test(looks_are_seldom_where_they_cost_much),
        cmocka_unit_test(one_application_thread),
        cmocka_unit_test(several_application_threads),
        /* These cannot be undone. */
        cmocka_unit_test(membarrier_is_forbidden_later),
        cmocka_unit_test(one_application_thread_without_membarrier),
        cmocka_unit_test(several_application_threads_without_membarrier),
    };

    /* Where this is run it may be forbidden already. */
    ninja_gate_init(&gate, false);
    forbidden = gate.fence;
    ninja_gate_destroy(&gate);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
