/*
 * The quiesce: who begins it, what it waits for, and how it ends. The test is the control thread.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "rig.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>

static struct {
    pthread_t thread;
    unsigned limit_ms;
    int rc;
    char why[256];
    unsigned asked; /* how often the checkpointer was */
} caller;

static struct ninja_quiesce *quiesce(void)
{
    return &rig->core->quiesce;
}

static void tick(void)
{
    ninja_gate_take(&rig->core->gate);
    (void)ninja_quiesce_tick(rig->core, ninja_now_ms());
    ninja_gate_give(&rig->core->gate);
}

static enum ninja_quiesce_state state_now(void)
{
    enum ninja_quiesce_state state;

    pthread_mutex_lock(&quiesce()->lock);
    state = quiesce()->state;
    pthread_mutex_unlock(&quiesce()->lock);
    return state;
}

/* Ticks until `state` is reached; fails after 5 s. */
static void tick_until(enum ninja_quiesce_state state)
{
    for (unsigned i = 0; i < 1000 && state_now() != state; i++) {
        tick();
        (void)poll(NULL, 0, 5);
    }
    assert_string_equal(ninja_quiesce_state_name(state_now()), ninja_quiesce_state_name(state));
}

static void *call(void *unused)
{
    caller.rc = ninja_core_quiesce(rig->core, caller.limit_ms, caller.why, sizeof(caller.why));
    return NULL;
}

static void begin_call(unsigned limit_ms)
{
    caller.limit_ms = limit_ms;
    caller.rc = 1;
    assert_int_equal(pthread_create(&caller.thread, NULL, call, NULL), 0);
}

/* The call ends; until it has, the control thread goes on. */
static int end_call(void)
{
    struct timespec limit;

    for (unsigned i = 0; i < 1000; i++) {
        tick();
        clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_nsec += 5000000;
        if (limit.tv_nsec >= 1000000000) {
            limit.tv_sec++;
            limit.tv_nsec -= 1000000000;
        }
        if (pthread_timedjoin_np(caller.thread, NULL, &limit) == 0)
            return caller.rc;
    }
    fail_msg("the call does not end");
    return 1;
}

static void on_wanted(void *context)
{
    caller.asked++;
}

static bool ask_release(void)
{
    bool taken;

    ninja_gate_take(&rig->core->gate);
    taken = ninja_quiesce_take_release(rig->core, rig->fabric, 0);
    ninja_gate_give(&rig->core->gate);
    return taken;
}

/* The fabric has no paths: its release is complete with the next look. */
static void close_fabric(void)
{
    assert_int_equal(rig->fabric->state, NINJA_FABRIC_RELEASING);
    rig->fabric->state = NINJA_FABRIC_DOWN;
}

static void reopen_fabric(void)
{
    rig->fabric->state = NINJA_FABRIC_UP;
    ninja_quiesce_resumed(rig->core, rig->fabric);
}

static int setup(void **state)
{
    memset(&caller, 0, sizeof(caller));
    return rig_setup(state);
}

static void call_gives_up_all_and_waits_for_the_resume(void **state)
{
    begin_call(0);
    tick_until(NINJA_QUIESCE_RELEASING);
    close_fabric();
    tick_until(NINJA_QUIESCE_RELEASED);
    (void)poll(NULL, 0, 50);
    tick();
    assert_int_equal(state_now(), NINJA_QUIESCE_RELEASED);
    reopen_fabric();
    assert_int_equal(end_call(), 0);
    assert_int_equal(state_now(), NINJA_QUIESCE_IDLE);
    assert_int_equal(quiesce()->count, 1);
    assert_int_equal(quiesce()->failed, 0);
}

static void call_without_fabrics_ends_at_once(void **state)
{
    rig->fabric->state = NINJA_FABRIC_DOWN;
    begin_call(0);
    assert_int_equal(end_call(), 0);
    assert_non_null(strstr(caller.why, "no fabric"));
    rig->fabric->state = NINJA_FABRIC_UP;
}

static void call_ends_at_its_limit(void **state)
{
    begin_call(50);
    tick_until(NINJA_QUIESCE_RELEASING);
    (void)poll(NULL, 0, 80); /* the limit counts from when all is released */
    close_fabric();
    tick_until(NINJA_QUIESCE_RELEASED);
    assert_int_equal(end_call(), 0);
    assert_non_null(strstr(caller.why, "in time"));
    rig->fabric->state = NINJA_FABRIC_UP;
}

static void release_that_joins_has_the_limit_begin_anew(void **state)
{
    begin_call(1000);
    tick_until(NINJA_QUIESCE_RELEASING);
    close_fabric();
    tick_until(NINJA_QUIESCE_RELEASED);
    rig->fabric->state = NINJA_FABRIC_RELEASING;
    assert_false(ask_release());
    assert_int_equal(state_now(), NINJA_QUIESCE_RELEASING);
    (void)poll(NULL, 0, 1200);
    close_fabric();
    tick_until(NINJA_QUIESCE_RELEASED);
    (void)poll(NULL, 0, 200);
    assert_int_equal(state_now(), NINJA_QUIESCE_RELEASED);
    assert_int_equal(end_call(), 0);
    assert_non_null(strstr(caller.why, "in time"));
    rig->fabric->state = NINJA_FABRIC_UP;
}

static void device_that_cannot_be_opened_again_is_an_error(void **state)
{
    begin_call(0);
    tick_until(NINJA_QUIESCE_RELEASING);
    close_fabric();
    tick_until(NINJA_QUIESCE_RELEASED);
    snprintf(rig->fabric->failure, sizeof(rig->fabric->failure), "port is down");
    ninja_quiesce_resumed(rig->core, rig->fabric);
    assert_int_equal(end_call(), -ENODEV);
    assert_string_equal(caller.why, "port is down");
    assert_int_equal(quiesce()->failed, 1);
    rig->fabric->state = NINJA_FABRIC_UP;
}

static void release_that_takes_too_long_is_an_error(void **state)
{
    begin_call(0);
    tick_until(NINJA_QUIESCE_RELEASING);
    ninja_gate_take(&rig->core->gate);
    ninja_fabric_handle(rig->fabric, NINJA_FABRIC_TIMEOUT, 0);
    ninja_gate_give(&rig->core->gate);
    assert_int_equal(end_call(), -ETIMEDOUT);
    rig->fabric->state = NINJA_FABRIC_UP;
}

static void second_call_is_refused(void **state)
{
    char why[256];

    begin_call(0);
    tick_until(NINJA_QUIESCE_RELEASING);
    assert_int_equal(ninja_core_quiesce(rig->core, 0, why, sizeof(why)), -EBUSY);
    close_fabric();
    reopen_fabric();
    assert_int_equal(end_call(), 0);
}

static void release_waits_for_the_checkpointer(void **state)
{
    ninja_core_set_checkpointer(rig->core, on_wanted, NULL);
    assert_true(ask_release());
    assert_int_equal(caller.asked, 1);
    tick();
    assert_int_equal(state_now(), NINJA_QUIESCE_WANTED);
    assert_int_equal(rig->fabric->state, NINJA_FABRIC_UP);
    begin_call(0);
    tick_until(NINJA_QUIESCE_RELEASING);
    close_fabric();
    reopen_fabric();
    assert_int_equal(end_call(), 0);
    assert_int_equal(caller.asked, 1);
}

static void release_does_not_wait_for_ever(void **state)
{
    ninja_core_set_checkpointer(rig->core, on_wanted, NULL);
    assert_true(ask_release());
    tick_until(NINJA_QUIESCE_RELEASING);
    assert_in_range(ninja_now_ms() - quiesce()->wanted_at_ms, NINJA_QUIESCE_PATIENCE_MS, 3000);
    assert_int_equal(rig->fabric->state, NINJA_FABRIC_RELEASING);
    close_fabric();
    reopen_fabric();
    tick_until(NINJA_QUIESCE_DONE);
    /* The caller that is late gets the result. */
    begin_call(0);
    assert_int_equal(end_call(), 0);
    assert_int_equal(quiesce()->count, 1);
}

static void resume_hurries_a_release_that_waits(void **state)
{
    ninja_core_set_checkpointer(rig->core, on_wanted, NULL);
    assert_true(ask_release());
    ninja_gate_take(&rig->core->gate);
    ninja_quiesce_hurry(rig->core);
    ninja_gate_give(&rig->core->gate);
    assert_int_equal(state_now(), NINJA_QUIESCE_RELEASING);
    assert_int_equal(rig->fabric->state, NINJA_FABRIC_RELEASING);
    rig->fabric->state = NINJA_FABRIC_UP;
}

static void release_during_a_quiesce_joins_it(void **state)
{
    ninja_core_set_checkpointer(rig->core, on_wanted, NULL);
    begin_call(0);
    tick_until(NINJA_QUIESCE_RELEASING);
    close_fabric();
    tick_until(NINJA_QUIESCE_RELEASED);
    /* It came back and is released again, before anybody looked. */
    reopen_fabric();
    assert_false(ask_release());
    rig->fabric->state = NINJA_FABRIC_RELEASING;
    tick();
    assert_int_equal(state_now(), NINJA_QUIESCE_RELEASING);
    close_fabric();
    reopen_fabric();
    assert_int_equal(end_call(), 0);
    assert_int_equal(quiesce()->count, 1);
    assert_int_equal(caller.asked, 0);
}

static void end_of_the_rank_ends_the_call(void **state)
{
    begin_call(0);
    tick_until(NINJA_QUIESCE_RELEASING);
    ninja_core_set_checkpointer(rig->core, NULL, NULL);
    assert_int_equal(end_call(), -ECANCELED);
    /* From now on releases are the control thread's. */
    rig->fabric->state = NINJA_FABRIC_UP;
    assert_false(ask_release());
    assert_int_equal(caller.asked, 0);
}

static void checkpointer_that_comes_for_nothing_releases_nothing(void **state)
{
    char why[256];

    ninja_core_set_checkpointer(rig->core, on_wanted, NULL); /* this thread is the checkpointer's */
    assert_int_equal(ninja_core_quiesce(rig->core, 0, why, sizeof(why)), 0);
    assert_int_equal(rig->fabric->state, NINJA_FABRIC_UP);
    assert_int_equal(quiesce()->count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(call_gives_up_all_and_waits_for_the_resume),
        TEST(call_without_fabrics_ends_at_once),
        TEST(call_ends_at_its_limit),
        TEST(release_that_joins_has_the_limit_begin_anew),
        TEST(device_that_cannot_be_opened_again_is_an_error),
        TEST(release_that_takes_too_long_is_an_error),
        TEST(second_call_is_refused),
        TEST(release_waits_for_the_checkpointer),
        TEST(release_does_not_wait_for_ever),
        TEST(resume_hurries_a_release_that_waits),
        TEST(release_during_a_quiesce_joins_it),
        TEST(end_of_the_rank_ends_the_call),
        TEST(checkpointer_that_comes_for_nothing_releases_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
