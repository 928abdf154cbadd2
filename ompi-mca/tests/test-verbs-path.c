/*
 * Unit tests of how paths over verbs are opened: by which GID peers know our port.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "verbs-rig.h"

static int setup(void **state)
{
    return verbs_rig_create(0);
}

static int teardown(void **state)
{
    fabric->state = NINJA_FABRIC_RELEASING;
    ninja_path_handle(path, NINJA_PATH_RELEASE);
    assert_int_equal(path->state, NINJA_PATH_CLOSED);
    verbs_rig_destroy();
    return 0;
}

/* The last octet of the GID in the offer that a path of ours begins with. */
static unsigned offered_gid(void)
{
    struct verbs_address address;

    path->offer.generation++;
    ninja_path_handle(path, NINJA_PATH_START);
    assert_int_equal(path->state, NINJA_PATH_OFFERED);
    verbs_queue_address(path->transport_data, &address);
    ninja_path_handle(path, NINJA_PATH_TIMEOUT);
    assert_int_equal(path->state, NINJA_PATH_CLOSED);
    return address.gid.raw[15];
}

static void device_says(enum ibv_event_type event)
{
    transport->injected_event = event;
    transport->inject_event = true;
    core->control_progress = true;
    (void)ninja_core_pass(core);
    core->control_progress = false;
}

static void a_gid_that_changed_is_told_to_new_peers(void **state)
{
    transport->gid.raw[15] = 1;
    fake.gid.raw[15] = 2;
    assert_int_equal(offered_gid(), 1);
    device_says(IBV_EVENT_GID_CHANGE);
    assert_int_equal(offered_gid(), 2);
    fake.gid.raw[15] = 3;
    assert_int_equal(offered_gid(), 2); /* nothing was said */
}

static void a_port_that_comes_back_is_read_anew(void **state)
{
    fake.gid.raw[15] = 2;
    device_says(IBV_EVENT_PORT_ACTIVE);
    assert_int_equal(offered_gid(), 2);
}

/* While a device goes, the kernel may take seconds to end a queue pair: nobody waits for that. */
static void a_path_that_is_forgotten_while_the_device_goes_is_the_reapers(void **state)
{
    uint64_t limit = ninja_now_ms() + 10000;

    ninja_path_handle(path, NINJA_PATH_START);
    assert_int_equal(path->state, NINJA_PATH_OFFERED);
    assert_int_equal(fake.queue_pairs, 1);
    transport->lost = true;
    ninja_path_handle(path, NINJA_PATH_TIMEOUT);
    assert_int_equal(path->state, NINJA_PATH_CLOSED);
    assert_null(path->transport_data);
    while (transport->paths != NULL) {
        assert_true(ninja_now_ms() < limit);
        (void)ninja_core_pass(core);
    }
    assert_int_equal(fake.queue_pairs, 0);
}

static void what_the_reaper_has_ends_before_the_device_is_closed(void **state)
{
    ninja_path_handle(path, NINJA_PATH_START);
    transport->lost = true;
    ninja_path_handle(path, NINJA_PATH_TIMEOUT);
    teardown(NULL);
    assert_int_equal(fake.queue_pairs, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_gid_that_changed_is_told_to_new_peers, setup, teardown),
        cmocka_unit_test_setup_teardown(a_port_that_comes_back_is_read_anew, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_path_that_is_forgotten_while_the_device_goes_is_the_reapers, setup, teardown),
        cmocka_unit_test_setup(what_the_reaper_has_ends_before_the_device_is_closed, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
