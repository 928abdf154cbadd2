/*
 * The table of a fabric in a rank, cell by cell, and that a release is answered.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "rig.h"

#include <errno.h>

/* Actions and next states in the order RESUME RENEW RELEASE IDLE TIMEOUT BROKEN, written from
 * the protocol. */
static const struct ninja_fabric_transition expected[NINJA_FABRIC_STATES][NINJA_FABRIC_EVENTS] = {
    [NINJA_FABRIC_DOWN] = {{NINJA_FABRIC_DO_OPEN, NINJA_FABRIC_UP},
                           {NINJA_FABRIC_DO_OPEN, NINJA_FABRIC_UP},
                           {NINJA_FABRIC_DO_ANSWER, NINJA_FABRIC_DOWN},
                           {NINJA_FABRIC_DO_NOTHING, NINJA_FABRIC_DOWN},
                           {NINJA_FABRIC_DO_NOTHING, NINJA_FABRIC_DOWN},
                           {NINJA_FABRIC_DO_NOTHING, NINJA_FABRIC_DOWN}},
    [NINJA_FABRIC_UP] = {{NINJA_FABRIC_DO_ANSWER, NINJA_FABRIC_UP},
                         {NINJA_FABRIC_DO_REOPEN, NINJA_FABRIC_RELEASING},
                         {NINJA_FABRIC_DO_DRAIN, NINJA_FABRIC_RELEASING},
                         {NINJA_FABRIC_DO_NOTHING, NINJA_FABRIC_UP},
                         {NINJA_FABRIC_DO_NOTHING, NINJA_FABRIC_UP},
                         {NINJA_FABRIC_DO_BREAK, NINJA_FABRIC_RELEASING}},
    [NINJA_FABRIC_RELEASING] = {{NINJA_FABRIC_DO_RESUME_LATER, NINJA_FABRIC_RELEASING},
                                {NINJA_FABRIC_DO_RESUME_LATER, NINJA_FABRIC_RELEASING},
                                {NINJA_FABRIC_DO_JOIN, NINJA_FABRIC_RELEASING},
                                {NINJA_FABRIC_DO_CLOSE, NINJA_FABRIC_DOWN},
                                {NINJA_FABRIC_DO_FAIL, NINJA_FABRIC_RELEASING},
                                {NINJA_FABRIC_DO_BREAK, NINJA_FABRIC_RELEASING}},
};

static void table_says_what_the_protocol_says(void **state)
{
    for (unsigned s = 0; s < NINJA_FABRIC_STATES; s++)
        for (unsigned e = 0; e < NINJA_FABRIC_EVENTS; e++)
            if (ninja_fabric_table[s][e].action != expected[s][e].action ||
                ninja_fabric_table[s][e].next != expected[s][e].next)
                fail_msg("%s in %s", ninja_fabric_event_name(e), ninja_fabric_state_name(s));
}

/* As the control thread: the gate is ours. */
static void handle(enum ninja_fabric_event event)
{
    ninja_gate_take(&rig->core->gate);
    ninja_fabric_handle(rig->fabric, event, 0);
    ninja_gate_give(&rig->core->gate);
}

static void open_path(void)
{
    rig->path->peer_up = true;
    rig->path->wanted = true;
    ninja_path_handle(rig->path, NINJA_PATH_START);
    ninja_path_handle(rig->path, NINJA_PATH_ACCEPT);
    ninja_path_handle(rig->path, NINJA_PATH_ECHO);
    rig_give_back(&rig->lifeline);
}

static void release_tells_the_peer_and_drains(void **state)
{
    open_path();
    handle(NINJA_FABRIC_RELEASE);
    assert_int_equal(rig->fabric->state, NINJA_FABRIC_RELEASING);
    assert_int_equal(rig_messages(NINJA_MESSAGE_FABRIC_DOWN), 1);
    assert_int_equal(rig_messages(NINJA_MESSAGE_MARKER), 1);
    assert_int_not_equal(rig->fabric->deadline_ms, 0);
    ninja_path_handle(rig->path, NINJA_PATH_TIMEOUT);
    assert_int_equal(rig->fabric->open_paths, 0);
}

static void release_during_release_cancels_a_resume_that_waits(void **state)
{
    open_path();
    handle(NINJA_FABRIC_RELEASE);
    handle(NINJA_FABRIC_RESUME);
    assert_true(rig->fabric->resume_later);
    handle(NINJA_FABRIC_RELEASE);
    assert_false(rig->fabric->resume_later);
}

static void release_that_takes_too_long_goes_on(void **state)
{
    open_path();
    handle(NINJA_FABRIC_RELEASE);
    handle(NINJA_FABRIC_TIMEOUT);
    assert_int_equal(rig->fabric->state, NINJA_FABRIC_RELEASING);
    assert_int_equal(rig->fabric->deadline_ms, 0);
}

static void peers_know_the_old_name_until_the_fabric_is_closed(void **state)
{
    unsigned char old[16];

    open_path();
    memcpy(old, rig->fabric->uuid, sizeof(old));
    memset(rig->fabric->next.uuid, 7, sizeof(rig->fabric->next.uuid));
    rig->fabric->has_next = true;
    handle(NINJA_FABRIC_RENEW);
    assert_int_equal(rig->fabric->state, NINJA_FABRIC_RELEASING);
    assert_memory_equal(rig->fabric->uuid, old, sizeof(old));
    assert_int_equal(rig_messages(NINJA_MESSAGE_FABRIC_DOWN), 1);
    for (unsigned i = 0; i < rig->lifeline.count; i++) {
        struct ninja_path_message message;

        if (rig->lifeline.sent[i]->header.type != NINJA_FRAME_CONTROL)
            continue;
        memcpy(&message, rig->lifeline.sent[i]->data, sizeof(message));
        assert_memory_equal(message.fabric, old, sizeof(old));
    }
    ninja_path_handle(rig->path, NINJA_PATH_TIMEOUT);
}

static int open_nothing(struct ninja_core *core, const char *device,
                        struct ninja_transport **transport, char *why, size_t why_size)
{
    return -ENODEV;
}

/* A peer that stayed where it was has not the new fabric: it would refuse each offer. */
static void what_peers_said_of_the_old_fabric_is_forgotten(void **state)
{
    const struct ninja_transport_ops ops = {.name = "nothing", .open = open_nothing};

    rig->fabric->ops = &ops;
    rig->fabric->state = NINJA_FABRIC_DOWN;
    rig->path->peer_up = rig->path->wanted = rig->path->peer_wants = true;
    memcpy(rig->fabric->next.uuid, rig->fabric->uuid, sizeof(rig->fabric->uuid));
    rig->fabric->next.epoch = rig->fabric->epoch + 1;
    rig->fabric->has_next = true;
    handle(NINJA_FABRIC_RESUME);
    assert_true(rig->path->peer_up); /* the same one again */
    memset(rig->fabric->next.uuid, 7, sizeof(rig->fabric->next.uuid));
    rig->fabric->has_next = true;
    handle(NINJA_FABRIC_RESUME);
    assert_false(rig->path->peer_up || rig->path->wanted || rig->path->peer_wants);
}

static void configuration_is_checked(void **state)
{
    char why[256];
    struct ninja_fabric *fabric;

    assert_int_equal(ninja_fabrics_configure(rig->core, "ib=tcp@lo,eth=tcp", why, sizeof(why)), 0);
    fabric = ninja_fabric_find(rig->core, "ib", NULL);
    assert_non_null(fabric);
    assert_string_equal(fabric->device, "lo");
    assert_ptr_equal(ninja_fabric_find(rig->core, NULL, fabric->uuid), fabric);
    assert_int_equal(ninja_fabrics_configure(rig->core, "ib=tcp@lo", why, sizeof(why)), -EINVAL);
    assert_int_equal(ninja_fabrics_configure(rig->core, "x=carrier-pigeon@lo", why, sizeof(why)),
                     -EINVAL);
    assert_int_equal(ninja_fabrics_configure(rig->core, "nothing", why, sizeof(why)), -EINVAL);
    assert_int_equal(ninja_fabrics_configure(rig->core, "c=tcp,d=tcp,e=tcp", why, sizeof(why)),
                     -EINVAL);
}

/* A VM that has been in many places. */
static void fabric_left_behind_makes_room_for_another(void **state)
{
    static const char *const names[] = {"a", "b", "c"};
    struct ninja_fabric *fabric;
    unsigned slot;

    for (unsigned i = 0; i < 3; i++) {
        fabric = ninja_fabric_add(rig->core, names[i], NULL, &ninja_transport_tcp, "");
        fabric->since_ms = 100 + i;
    }
    ninja_fabric_find(rig->core, "a", NULL)->resume_count = 1; /* is about to be opened */
    slot = ninja_fabric_find(rig->core, "b", NULL)->slot;
    rig->link->paths[slot].peer_up = true;
    assert_true(ninja_fabric_make_room(rig->core));
    assert_null(ninja_fabric_find(rig->core, "b", NULL));
    assert_false(rig->link->paths[slot].peer_up);
    fabric = ninja_fabric_add(rig->core, "d", NULL, &ninja_transport_tcp, "");
    assert_int_equal(fabric->slot, slot);
    assert_non_null(ninja_fabric_find(rig->core, "fast", NULL));
    assert_non_null(ninja_fabric_find(rig->core, "a", NULL));
    ninja_fabric_find(rig->core, "a", NULL)->resume_count = 0;
}

static void fabrics_in_use_or_named_by_the_user_make_no_room(void **state)
{
    assert_int_equal(ninja_fabrics_configure(rig->core, "a=tcp,b=tcp", NULL, 0), 0);
    (void)ninja_fabric_add(rig->core, "c", NULL, &ninja_transport_tcp, "");
    rig->core->fabrics[3].state = NINJA_FABRIC_UP;
    assert_false(ninja_fabric_make_room(rig->core));
    rig->core->fabrics[3].state = NINJA_FABRIC_DOWN;
    rig->link->paths[3].state = NINJA_PATH_WAITING;
    assert_false(ninja_fabric_make_room(rig->core));
    rig->link->paths[3].state = NINJA_PATH_CLOSED;
    assert_true(ninja_fabric_make_room(rig->core));
    assert_null(ninja_fabric_find(rig->core, "c", NULL));
}

static void undone_release_leaves_the_other_one(void **state)
{
    open_path();
    ninja_gate_take(&rig->core->gate);
    ninja_fabric_handle(rig->fabric, NINJA_FABRIC_RELEASE, 5);
    ninja_fabric_handle(rig->fabric, NINJA_FABRIC_RELEASE, 6);
    assert_true(ninja_fabric_abort(rig->fabric, 5));
    assert_false(rig->fabric->resume_later);
    assert_true(ninja_fabric_abort(rig->fabric, 6));
    assert_true(rig->fabric->resume_later);
    rig->fabric->resume_later = false;
    ninja_gate_give(&rig->core->gate);
    ninja_path_handle(rig->path, NINJA_PATH_TIMEOUT);
}

static void device_that_breaks_is_closed_at_once(void **state)
{
    open_path();
    rig->device.blocked = true;
    assert_true(rig_send(8));
    ninja_gate_take(&rig->core->gate);
    ninja_fabric_break(rig->fabric, "test", 0);
    assert_int_equal(rig->fabric->state, NINJA_FABRIC_RELEASING);
    assert_int_equal(rig->fabric->open_paths, 0);
    ninja_gate_give(&rig->core->gate);
    assert_int_equal(rig_messages(NINJA_MESSAGE_FABRIC_DOWN), 1);
    assert_int_equal(rig_messages(NINJA_MESSAGE_CLOSED), 1);
    assert_int_equal(rig_messages(NINJA_MESSAGE_MARKER), 0);
    assert_ptr_equal(rig->link->send_path, &rig->link->lifeline_path);
    /* What it had not taken leaves over the lifeline. */
    assert_int_equal(rig->link->data.head->header.generation, 0);
    assert_true(rig->link->data.head->handed);
    assert_string_equal(rig->fabric->failure, "test");
}

static void device_that_breaks_while_it_drains_is_closed_at_once(void **state)
{
    open_path();
    assert_true(rig_send(8)); /* never acknowledged */
    handle(NINJA_FABRIC_RELEASE);
    assert_int_equal(rig->path->state, NINJA_PATH_DRAINING);
    handle(NINJA_FABRIC_BROKEN);
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
    assert_int_equal(rig->link->data.head->header.generation, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(table_says_what_the_protocol_says),
        TEST(release_tells_the_peer_and_drains),
        TEST(release_during_release_cancels_a_resume_that_waits),
        TEST(release_that_takes_too_long_goes_on),
        TEST(peers_know_the_old_name_until_the_fabric_is_closed),
        TEST(what_peers_said_of_the_old_fabric_is_forgotten),
        TEST(configuration_is_checked),
        TEST(fabric_left_behind_makes_room_for_another),
        TEST(fabrics_in_use_or_named_by_the_user_make_no_room),
        TEST(undone_release_leaves_the_other_one),
        TEST(device_that_breaks_is_closed_at_once),
        TEST(device_that_breaks_while_it_drains_is_closed_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
