/*
 * Which paths are opened, and when: for want of traffic, in their turn, busy links first.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "rig.h"

#include <stdio.h>

#define LINKS 5

/* A path message of the peer of `link`. */
static void tell(struct ninja_link *link, enum ninja_path_message_type type, uint32_t generation,
                 uint64_t last)
{
    struct ninja_path_message message = {.type = type, .generation = generation, .last = last};

    memcpy(message.fabric, rig->fabric->uuid, sizeof(message.fabric));
    ninja_path_message_received(link, &message, sizeof(message));
}

static struct ninja_path *path_to(uint64_t peer)
{
    return &ninja_link_find(rig->core, peer, true)->paths[rig->fabric->slot];
}

/* What the last FABRIC_UP on the lifeline said in `last`; fails if there was none. */
static uint64_t told_up(void)
{
    struct ninja_path_message message;

    for (unsigned i = rig->lifeline.count; i > 0; i--) {
        if (rig->lifeline.sent[i - 1]->header.type != NINJA_FRAME_CONTROL)
            continue;
        memcpy(&message, rig->lifeline.sent[i - 1]->data, sizeof(message));
        if (message.type == NINJA_MESSAGE_FABRIC_UP)
            return message.last;
    }
    fail_msg("the peer was not told");
    return 0;
}

/* How many of the links to peers 100... are in `state`. */
static unsigned count(enum ninja_path_state wanted)
{
    unsigned found = 0;

    for (const struct ninja_link *link = rig->core->links; link != NULL; link = link->next)
        found += link->paths[rig->fabric->slot].state == wanted;
    return found;
}

/* Peers 100 to 104 want their paths; nobody gets a turn yet. */
static void everybody_wants(void)
{
    rig->core->config.handshakes = 0;
    for (uint64_t peer = 100; peer < 100 + LINKS; peer++) {
        (void)path_to(peer);
        tell(ninja_link_find(rig->core, peer, false), NINJA_MESSAGE_FABRIC_UP, 0, NINJA_UP_WANTED);
    }
    rig->core->config.handshakes = 2;
}

/* --- Traffic ---------------------------------------------------------------------------------- */

static void a_link_without_traffic_opens_nothing(void **state)
{
    tell(rig->link, NINJA_MESSAGE_FABRIC_UP, 0, NINJA_UP_ANSWER);
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
    assert_int_equal(told_up(), 0);
    assert_int_equal(rig_messages(NINJA_MESSAGE_OFFER), 0);
}

static void its_first_message_opens_the_path(void **state)
{
    tell(rig->link, NINJA_MESSAGE_FABRIC_UP, 0, 0);
    assert_true(rig_send(8));
    assert_int_equal(rig->path->state, NINJA_PATH_OFFERED);
    assert_ptr_equal(rig->link->send_path, &rig->link->lifeline_path);
    assert_false(rig->link->dormant);
    assert_true(rig_send(8));
    assert_int_equal(rig_messages(NINJA_MESSAGE_OFFER), 1);
}

static void traffic_before_the_fabric_came_counts(void **state)
{
    assert_true(rig_send(8));
    tell(rig->link, NINJA_MESSAGE_FABRIC_UP, 0, 0);
    assert_int_equal(rig->path->state, NINJA_PATH_OFFERED);
}

static void a_message_received_counts(void **state)
{
    rig_arrive(&rig->link->lifeline_path, 1);
    tell(rig->link, NINJA_MESSAGE_FABRIC_UP, 0, 0);
    assert_int_equal(rig->path->state, NINJA_PATH_OFFERED);
}

static void traffic_of_long_ago_does_not_count(void **state)
{
    assert_true(rig_send(8));
    (void)ninja_link_last_used(rig->link, ninja_now_ms() - 60000);
    tell(rig->link, NINJA_MESSAGE_FABRIC_UP, 0, 0);
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
    assert_true(rig_send(8));
    assert_int_equal(rig->path->state, NINJA_PATH_OFFERED);
}

static void the_peers_traffic_opens_the_path(void **state)
{
    tell(rig->link, NINJA_MESSAGE_FABRIC_UP, 0, 0);
    tell(rig->link, NINJA_MESSAGE_FABRIC_UP, 0, NINJA_UP_WANTED);
    assert_int_equal(rig->path->state, NINJA_PATH_OFFERED);
}

static void the_end_that_does_not_begin_asks(void **state)
{
    rig_create(200);
    tell(rig->link, NINJA_MESSAGE_FABRIC_UP, 0, NINJA_UP_ANSWER);
    assert_int_equal(told_up(), 0);
    assert_true(rig_send(8));
    assert_int_equal(told_up(), NINJA_UP_WANTED);
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
    /* Once. */
    rig_give_back(&rig->lifeline);
    assert_true(rig_send(8));
    tell(rig->link, NINJA_MESSAGE_FABRIC_UP, 0, 0);
    assert_int_equal(rig_messages(NINJA_MESSAGE_FABRIC_UP), 0);
    rig_destroy();
}

static void the_end_that_does_not_begin_asks_for_traffic_of_before(void **state)
{
    rig_create(200);
    assert_true(rig_send(8));
    tell(rig->link, NINJA_MESSAGE_FABRIC_UP, 0, 0);
    assert_int_equal(told_up(), NINJA_UP_WANTED);
    rig_destroy();
}

static void wishes_end_with_the_fabric(void **state)
{
    rig->core->config.handshakes = 0;
    tell(rig->link, NINJA_MESSAGE_FABRIC_UP, 0, NINJA_UP_WANTED);
    assert_int_equal(rig->path->state, NINJA_PATH_WAITING);
    tell(rig->link, NINJA_MESSAGE_FABRIC_DOWN, 0, 0);
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
    tell(rig->link, NINJA_MESSAGE_FABRIC_UP, 0, 0);
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
}

static void a_path_that_nobody_wants_is_not_tried_again(void **state)
{
    rig->device.refuse_prepare = true;
    tell(rig->link, NINJA_MESSAGE_FABRIC_UP, 0, NINJA_UP_WANTED);
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
    assert_int_not_equal(rig->path->deadline_ms, 0);
    tell(rig->link, NINJA_MESSAGE_FABRIC_DOWN, 0, 0);
    assert_int_equal(rig->path->deadline_ms, 0);
}

/* --- Turns ------------------------------------------------------------------------------------ */

static void only_so_many_handshakes_run_at_a_time(void **state)
{
    everybody_wants();
    assert_int_equal(count(NINJA_PATH_WAITING), LINKS);
    (void)ninja_turns_tick(rig->core, ninja_now_ms());
    assert_int_equal(count(NINJA_PATH_OFFERED), 2);
    ninja_path_handle(path_to(100), NINJA_PATH_ACCEPT);
    assert_int_equal(count(NINJA_PATH_WAITING), 3);
    ninja_path_handle(path_to(100), NINJA_PATH_ECHO);
    assert_int_equal(path_to(100)->state, NINJA_PATH_OPEN);
    assert_int_equal(count(NINJA_PATH_WAITING), 2);
    ninja_path_handle(path_to(101), NINJA_PATH_REFUSE);
    assert_int_equal(count(NINJA_PATH_WAITING), 1);
    assert_int_equal(count(NINJA_PATH_OFFERED), 2);
    assert_int_equal(rig->core->turns[1].taken_count, 2);
}

static void busy_links_are_first(void **state)
{
    struct ninja_link *busy = ninja_link_find(rig->core, 103, true);

    (void)ninja_core_send_copy(busy, 1, "", 0, "12345678", 8);
    everybody_wants();
    rig->core->config.handshakes = 1;
    (void)ninja_turns_tick(rig->core, ninja_now_ms());
    assert_int_equal(path_to(103)->state, NINJA_PATH_OFFERED);
    assert_int_equal(count(NINJA_PATH_OFFERED), 1);
}

static void a_peer_that_does_not_answer_holds_up_nobody_for_long(void **state)
{
    uint64_t now = ninja_now_ms(), next;

    everybody_wants();
    next = ninja_turns_tick(rig->core, now);
    assert_int_equal(next, now + NINJA_TURN_LIMIT_MS);
    assert_int_equal(ninja_turns_tick(rig->core, next - 1), next);
    assert_int_equal(count(NINJA_PATH_OFFERED), 2);
    (void)ninja_turns_tick(rig->core, next);
    assert_int_equal(count(NINJA_PATH_OFFERED), 4);
    (void)ninja_turns_tick(rig->core, next + NINJA_TURN_LIMIT_MS);
    assert_int_equal(count(NINJA_PATH_OFFERED), 5);
}

static void handshakes_that_fail_at_once_pass_their_turn_on(void **state)
{
    rig->device.refuse_prepare = true;
    everybody_wants();
    assert_int_equal(ninja_turns_tick(rig->core, ninja_now_ms()), 0);
    assert_int_equal(count(NINJA_PATH_CLOSED), LINKS);
    assert_int_equal(rig->core->turns[1].taken_count, 0);
}

static void a_release_ends_the_waiting(void **state)
{
    everybody_wants();
    (void)ninja_turns_tick(rig->core, ninja_now_ms());
    ninja_gate_take(&rig->core->gate);
    ninja_fabric_handle(rig->fabric, NINJA_FABRIC_RELEASE, 0);
    ninja_gate_give(&rig->core->gate);
    assert_int_equal(count(NINJA_PATH_CLOSED), LINKS);
    assert_int_equal(rig_messages(NINJA_MESSAGE_OFFER), 2);
    assert_int_equal(rig->core->turns[1].taken_count, 0);
    assert_int_equal(ninja_turns_tick(rig->core, ninja_now_ms()), 0);
}

static void offers_of_peers_have_turns_of_their_own(void **state)
{
    rig_create(102);
    everybody_wants();
    rig->core->config.handshakes = 1;
    (void)ninja_turns_tick(rig->core, ninja_now_ms());
    assert_int_equal(path_to(103)->state, NINJA_PATH_OFFERED);
    assert_int_equal(path_to(104)->state, NINJA_PATH_WAITING);
    tell(path_to(100)->link, NINJA_MESSAGE_OFFER, 1, 0);
    tell(path_to(101)->link, NINJA_MESSAGE_OFFER, 7, 0);
    assert_int_equal(path_to(100)->state, NINJA_PATH_ACCEPTED);
    assert_int_equal(path_to(101)->state, NINJA_PATH_ASKED);
    /* Withdrawn, and made again. */
    tell(path_to(101)->link, NINJA_MESSAGE_CLOSED, 7, 0);
    assert_int_equal(path_to(101)->state, NINJA_PATH_CLOSED);
    tell(path_to(101)->link, NINJA_MESSAGE_OFFER, 8, 0);
    assert_int_equal(path_to(101)->state, NINJA_PATH_ASKED);
    ninja_path_handle(path_to(100), NINJA_PATH_PROBE);
    assert_int_equal(path_to(101)->state, NINJA_PATH_ACCEPTED);
    assert_int_equal(path_to(101)->generation, 8);
    rig_destroy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_link_without_traffic_opens_nothing, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(its_first_message_opens_the_path, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(traffic_before_the_fabric_came_counts, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_message_received_counts, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(traffic_of_long_ago_does_not_count, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(the_peers_traffic_opens_the_path, rig_setup, rig_teardown),
        cmocka_unit_test(the_end_that_does_not_begin_asks),
        cmocka_unit_test(the_end_that_does_not_begin_asks_for_traffic_of_before),
        cmocka_unit_test_setup_teardown(wishes_end_with_the_fabric, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_path_that_nobody_wants_is_not_tried_again, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(only_so_many_handshakes_run_at_a_time, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(busy_links_are_first, rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(a_peer_that_does_not_answer_holds_up_nobody_for_long,
                                        rig_setup, rig_teardown),
        cmocka_unit_test_setup_teardown(handshakes_that_fail_at_once_pass_their_turn_on, rig_setup,
                                        rig_teardown),
        cmocka_unit_test_setup_teardown(a_release_ends_the_waiting, rig_setup, rig_teardown),
        cmocka_unit_test(offers_of_peers_have_turns_of_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
