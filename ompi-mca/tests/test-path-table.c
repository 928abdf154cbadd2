/*
 * Every cell of the switch state table: what it says, and what really happens when the event
 * arrives in the state.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "rig.h"

#include <errno.h>
#include <stdio.h>

/*
 * The table a second time, written from the protocol and not from the code: "ACTION STATE" for each
 * event in the order START TURN OFFER ACCEPT REFUSE PROBE ECHO RELEASE PEER_DOWN DRAINED
 * PEER_CLOSED FAILED TIMEOUT GONE.
 */
static const char *const expected[NINJA_PATH_STATES][NINJA_PATH_EVENTS] = {
    [NINJA_PATH_CLOSED] = {"QUEUE WAITING", "ERROR CLOSED", "QUEUE ASKED", "NOTHING CLOSED",
                           "NOTHING CLOSED", "ERROR CLOSED", "ERROR CLOSED", "NOTHING CLOSED",
                           "NOTHING CLOSED", "ERROR CLOSED", "NOTHING CLOSED", "ERROR CLOSED",
                           "ERROR CLOSED", "ERROR CLOSED"},
    [NINJA_PATH_WAITING] = {"NOTHING WAITING", "OFFER OFFERED", "ERROR WAITING", "NOTHING WAITING",
                            "NOTHING WAITING", "ERROR WAITING", "ERROR WAITING", "LEAVE CLOSED",
                            "LEAVE CLOSED", "ERROR WAITING", "NOTHING WAITING", "ERROR WAITING",
                            "ERROR WAITING", "ERROR WAITING"},
    [NINJA_PATH_ASKED] = {"NOTHING ASKED", "ACCEPT ACCEPTED", "QUEUE ASKED", "ERROR ASKED",
                          "ERROR ASKED", "ERROR ASKED", "ERROR ASKED", "LEAVE CLOSED",
                          "LEAVE CLOSED", "ERROR ASKED", "LEAVE CLOSED", "ERROR ASKED",
                          "ERROR ASKED", "ERROR ASKED"},
    [NINJA_PATH_OFFERED] = {"NOTHING OFFERED", "ERROR OFFERED", "ERROR OFFERED", "CONNECT PROBING",
                            "FORGET CLOSED", "ERROR OFFERED", "ERROR OFFERED", "FORGET CLOSED",
                            "FORGET CLOSED", "ERROR OFFERED", "FORGET CLOSED", "ERROR OFFERED",
                            "FORGET CLOSED", "ERROR OFFERED"},
    [NINJA_PATH_ACCEPTED] = {"NOTHING ACCEPTED", "ERROR ACCEPTED", "REACCEPT CLOSING",
                             "ERROR ACCEPTED", "ERROR ACCEPTED", "ECHO OPEN", "ERROR ACCEPTED",
                             "FORCE CLOSING", "FORCE CLOSING", "ERROR ACCEPTED", "FORCE CLOSING",
                             "FORCE CLOSING", "FORCE CLOSING", "ERROR ACCEPTED"},
    [NINJA_PATH_PROBING] = {"NOTHING PROBING", "ERROR PROBING", "ERROR PROBING", "ERROR PROBING",
                            "FORCE CLOSING", "ERROR PROBING", "SWITCH OPEN", "FORCE CLOSING",
                            "FORCE CLOSING", "ERROR PROBING", "FORCE CLOSING", "FORCE CLOSING",
                            "FORCE CLOSING", "ERROR PROBING"},
    [NINJA_PATH_OPEN] = {"NOTHING OPEN", "ERROR OPEN", "REACCEPT CLOSING", "ERROR OPEN",
                         "ERROR OPEN", "REPEAT_ECHO OPEN", "NOTHING OPEN", "DRAIN DRAINING",
                         "DRAIN DRAINING", "ERROR OPEN", "FORCE CLOSING", "FORCE CLOSING",
                         "ERROR OPEN", "ERROR OPEN"},
    [NINJA_PATH_DRAINING] = {"NOTHING DRAINING", "ERROR DRAINING", "REACCEPT CLOSING",
                             "ERROR DRAINING", "ERROR DRAINING", "NOTHING DRAINING",
                             "NOTHING DRAINING", "NOTHING DRAINING", "NOTHING DRAINING",
                             "CLOSE CLOSING", "FORCE CLOSING", "FORCE CLOSING", "FORCE CLOSING",
                             "ERROR DRAINING"},
    [NINJA_PATH_CLOSING] = {"NOTHING CLOSING", "ERROR CLOSING", "REACCEPT CLOSING",
                            "NOTHING CLOSING", "NOTHING CLOSING", "NOTHING CLOSING",
                            "NOTHING CLOSING", "NOTHING CLOSING", "NOTHING CLOSING",
                            "ERROR CLOSING", "NOTHING CLOSING", "NOTHING CLOSING", "ERROR CLOSING",
                            "FINISH CLOSED"},
};

static void table_says_what_the_protocol_says(void **state)
{
    for (unsigned s = 0; s < NINJA_PATH_STATES; s++) {
        for (unsigned e = 0; e < NINJA_PATH_EVENTS; e++) {
            const struct ninja_path_transition *cell = &ninja_path_table[s][e];
            char text[64];

            snprintf(text, sizeof(text), "%s %s", ninja_path_action_name(cell->action),
                     ninja_path_state_name(cell->next));
            if (strcmp(text, expected[s][e]) != 0)
                fail_msg("%s in %s is '%s', not '%s'", ninja_path_event_name(e),
                         ninja_path_state_name(s), text, expected[s][e]);
        }
    }
}

/* Brings the rig's path into `state` as the protocol would; turns come by their event only. */
static void enter(enum ninja_path_state state)
{
    struct ninja_path *path = rig->path;
    static const enum ninja_path_event ways[NINJA_PATH_STATES][5] = {
        [NINJA_PATH_WAITING] = {NINJA_PATH_START},
        [NINJA_PATH_ASKED] = {NINJA_PATH_OFFER},
        [NINJA_PATH_OFFERED] = {NINJA_PATH_START, NINJA_PATH_TURN},
        [NINJA_PATH_ACCEPTED] = {NINJA_PATH_OFFER, NINJA_PATH_TURN},
        [NINJA_PATH_PROBING] = {NINJA_PATH_START, NINJA_PATH_TURN, NINJA_PATH_ACCEPT},
        [NINJA_PATH_OPEN] = {NINJA_PATH_START, NINJA_PATH_TURN, NINJA_PATH_ACCEPT, NINJA_PATH_ECHO},
        [NINJA_PATH_DRAINING] = {NINJA_PATH_START, NINJA_PATH_TURN, NINJA_PATH_ACCEPT,
                                 NINJA_PATH_ECHO, NINJA_PATH_RELEASE},
        [NINJA_PATH_CLOSING] = {NINJA_PATH_START, NINJA_PATH_TURN, NINJA_PATH_ACCEPT,
                                NINJA_PATH_FAILED},
    };
    static const unsigned steps[NINJA_PATH_STATES] = {0, 1, 1, 2, 2, 3, 4, 5, 4};

    rig->core->config.handshakes = 0;
    path->peer_up = true;
    path->wanted = true;
    path->offer.generation = 9;
    path->offer.nonce = 99;
    rig->device.slow_close = state == NINJA_PATH_CLOSING;
    for (unsigned i = 0; i < steps[state]; i++)
        ninja_path_handle(path, ways[state][i]);
    assert_int_equal(path->state, state);
    /* Something that the path was given and the peer has not acknowledged. */
    if (state == NINJA_PATH_OPEN)
        assert_true(rig_send(8));
    rig_give_back(&rig->lifeline);
    rig->device.opened = rig->device.closed = 0;
}

/* What must be true after `action` was carried out from `before`. */
static void check_effects(enum ninja_path_action action, enum ninja_path_state before)
{
    struct ninja_path *path = rig->path;
    bool on_lifeline = rig->link->send_path == &rig->link->lifeline_path;

    switch (action) {
    case NINJA_PATH_DO_ERROR:
    case NINJA_PATH_DO_NOTHING:
        assert_int_equal(path->state, before);
        assert_int_equal(rig->device.opened + rig->device.closed, 0);
        break;
    case NINJA_PATH_DO_QUEUE:
        assert_int_equal(path->turn.state, NINJA_TURN_WAITING);
        assert_int_equal(rig->device.prepared + rig->device.opened, 0);
        break;
    case NINJA_PATH_DO_LEAVE:
        assert_int_equal(path->turn.state, NINJA_TURN_NONE);
        break;
    case NINJA_PATH_DO_OFFER:
        assert_int_equal(rig_messages(NINJA_MESSAGE_OFFER), 1);
        assert_int_equal(rig->device.opened, 0);
        assert_int_not_equal(path->deadline_ms, 0);
        break;
    case NINJA_PATH_DO_ACCEPT:
        assert_int_equal(rig_messages(NINJA_MESSAGE_ACCEPT), 1);
        assert_int_equal(rig->device.opened, 1);
        assert_int_equal(path->generation, 9);
        assert_true(on_lifeline);
        break;
    case NINJA_PATH_DO_CONNECT:
        assert_int_equal(rig->device.opened, 1);
        assert_int_equal(rig->device.sent[rig->device.count - 1]->header.type, NINJA_FRAME_PROBE);
        assert_true(on_lifeline);
        break;
    case NINJA_PATH_DO_ECHO:
        assert_false(on_lifeline);
        assert_int_equal(rig->device.sent[0]->header.type, NINJA_FRAME_ECHO);
        break;
    case NINJA_PATH_DO_REPEAT_ECHO:
        assert_int_equal(rig->device.sent[rig->device.count - 1]->header.type, NINJA_FRAME_ECHO);
        break;
    case NINJA_PATH_DO_SWITCH:
        assert_false(on_lifeline);
        assert_int_equal(path->deadline_ms, 0);
        break;
    case NINJA_PATH_DO_DRAIN:
        assert_true(on_lifeline);
        assert_int_equal(rig_messages(NINJA_MESSAGE_MARKER), 1);
        assert_int_equal(rig->device.closed, 0);
        assert_int_not_equal(path->deadline_ms, 0);
        break;
    case NINJA_PATH_DO_CLOSE:
        assert_int_equal(rig_messages(NINJA_MESSAGE_CLOSED), 1);
        assert_int_equal(rig->device.closed, 1);
        break;
    case NINJA_PATH_DO_FORCE:
        assert_true(on_lifeline);
        assert_int_equal(rig_messages(NINJA_MESSAGE_CLOSED), 1);
        assert_int_equal(rig->device.closed, 1);
        /* What only the dead path had is on the lifeline now. */
        if (before == NINJA_PATH_OPEN)
            assert_int_equal(rig->link->data.head->header.generation, 0);
        break;
    case NINJA_PATH_DO_FORGET:
        assert_int_equal(rig_messages(NINJA_MESSAGE_CLOSED), 1);
        assert_int_equal(rig->device.closed, 0);
        assert_int_equal(rig->fabric->open_paths, 0);
        break;
    case NINJA_PATH_DO_REACCEPT:
        if (before == NINJA_PATH_CLOSING) {
            assert_true(path->open_again);
        } else {
            assert_int_equal(rig->device.closed, 1);
            assert_int_equal(path->state, NINJA_PATH_ASKED);
            assert_int_equal(path->generation, 9);
        }
        break;
    case NINJA_PATH_DO_FINISH:
        assert_int_equal(rig->fabric->open_paths, 0);
        assert_null(path->transport);
        break;
    default:
        fail_msg("action %s has no check", ninja_path_action_name(action));
    }
}

static void every_cell_does_what_it_says(void **state)
{
    for (unsigned s = 0; s < NINJA_PATH_STATES; s++) {
        for (unsigned e = 0; e < NINJA_PATH_EVENTS; e++) {
            const struct ninja_path_transition *cell = &ninja_path_table[s][e];

            rig_create(1);
            enter((enum ninja_path_state)s);
            /* The endpoint's end is an event of its own: keep it from following at once. */
            rig->device.slow_close =
                cell->action != NINJA_PATH_DO_REACCEPT || s == NINJA_PATH_CLOSING;
            ninja_path_handle(rig->path, (enum ninja_path_event)e);
            if (cell->action != NINJA_PATH_DO_REACCEPT)
                assert_int_equal(rig->path->state, cell->next);
            check_effects(cell->action, (enum ninja_path_state)s);
            /* Nothing prepared is left behind. */
            assert_int_equal(rig->device.prepared, rig->path->state == NINJA_PATH_OFFERED);
            rig_destroy();
        }
    }
}

static void release_ends_in_closed_from_every_state(void **state)
{
    for (unsigned s = 0; s < NINJA_PATH_STATES; s++) {
        rig_create(1);
        enter((enum ninja_path_state)s);
        rig->fabric->state = NINJA_FABRIC_RELEASING;
        ninja_path_handle(rig->path, NINJA_PATH_RELEASE);
        /* The peer never answers: time alone must do. */
        if (rig->path->state == NINJA_PATH_DRAINING)
            ninja_path_handle(rig->path, NINJA_PATH_TIMEOUT);
        if (rig->path->state == NINJA_PATH_CLOSING)
            ninja_path_closed(rig->path);
        assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
        assert_int_equal(rig->fabric->open_paths, 0);
        assert_ptr_equal(rig->link->send_path, &rig->link->lifeline_path);
        rig_destroy();
    }
}

static void refused_endpoint_falls_back_to_closed(void **state)
{
    rig_create(1);
    rig->path->peer_up = true;
    rig->path->wanted = true;
    rig->device.refuse_open = true;
    ninja_path_handle(rig->path, NINJA_PATH_START);
    ninja_path_handle(rig->path, NINJA_PATH_ACCEPT);
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
    assert_int_equal(rig->fabric->open_paths, 0);
    /* It is tried again, but not at once. */
    assert_int_not_equal(rig->path->deadline_ms, 0);
    assert_int_equal(rig->device.prepared, 0);
    rig_destroy();
}

static void refused_preparation_falls_back_to_closed(void **state)
{
    static const enum ninja_path_event events[] = {NINJA_PATH_START, NINJA_PATH_OFFER};

    for (unsigned i = 0; i < 2; i++) {
        rig_create(1);
        rig->path->peer_up = true;
        rig->path->wanted = true;
        rig->device.refuse_prepare = true;
        ninja_path_handle(rig->path, events[i]);
        assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
        assert_int_equal(rig->fabric->open_paths, 0);
        assert_int_equal(rig_messages(NINJA_MESSAGE_OFFER), 0);
        assert_int_equal(rig_messages(NINJA_MESSAGE_REFUSE), i);
        assert_int_not_equal(rig->path->deadline_ms, 0);
        rig_destroy();
    }
}

static void without_a_limit_a_handshake_has_no_deadline(void **state)
{
    rig_create(1);
    rig->tuning.open_limit_ms = 0;
    enter(NINJA_PATH_OFFERED);
    assert_int_equal(rig->path->deadline_ms, 0);
    rig_destroy();
}

static void names_are_complete(void **state)
{
    for (unsigned i = 0; i < NINJA_PATH_STATES; i++)
        assert_string_not_equal(ninja_path_state_name(i), "?");
    for (unsigned i = 0; i < NINJA_PATH_EVENTS; i++)
        assert_string_not_equal(ninja_path_event_name(i), "?");
    for (unsigned i = 0; i < NINJA_PATH_ACTIONS; i++)
        assert_string_not_equal(ninja_path_action_name(i), "?");
    assert_string_equal(ninja_path_state_name(NINJA_PATH_STATES), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_says_what_the_protocol_says),
        cmocka_unit_test(every_cell_does_what_it_says),
        cmocka_unit_test(release_ends_in_closed_from_every_state),
        cmocka_unit_test(refused_endpoint_falls_back_to_closed),
        cmocka_unit_test(refused_preparation_falls_back_to_closed),
        cmocka_unit_test(without_a_limit_a_handshake_has_no_deadline),
        cmocka_unit_test(names_are_complete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
