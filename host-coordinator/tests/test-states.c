/* The state table of a move keeps its promises, whatever row is changed.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "states.h"

static int is_end(int state)
{
    return state == MOVE_DONE || state == MOVE_FAILED;
}

static void test_names(void **ignored)
{
    for (int i = 0; i < MOVE_STATES; i++) {
        assert_non_null(move_table[i].name);
        assert_int_equal(move_state_named(move_table[i].name), i);
    }
    assert_int_equal(move_state_named("NONSENSE"), MOVE_STATES);
}

/* The source's copy never runs again: nothing after the point of no return leads back. */
static void test_no_way_back(void **ignored)
{
    for (int i = 0; i < MOVE_STATES; i++)
        for (int end = 0; move_table[i].committed && end < STEP_ENDS; end++) {
            enum move_state next = move_table[i].next[end];

            assert_true(move_table[next].committed);
            assert_int_not_equal(next, MOVE_FAILED);
        }
}

static void test_abort_only_before(void **ignored)
{
    for (int i = 0; i < MOVE_STATES; i++)
        if (move_table[i].can_abort) {
            enum move_state next = move_table[i].next[STEP_ERROR];

            assert_false(move_table[i].committed);
            assert_true(next == MOVE_UNDOING || next == MOVE_FAILED);
        }
}

/* Every wait has a limit; only trying again lasts as long as it must. */
static void test_limits(void **ignored)
{
    for (int i = 0; i < MOVE_STATES; i++)
        if (!is_end(i) && i != MOVE_DEGRADED)
            assert_true(move_table[i].limit_s > 0 && move_table[i].limit_s <= 1800);
}

/* An end is reached from every state when all goes well, and when nothing is to be done. */
static void test_ends(void **ignored)
{
    for (int i = 0; i < MOVE_STATES; i++)
        for (int end = STEP_OK; end <= STEP_SKIP; end++) {
            int state = i, steps = 0;

            while (!is_end(state) && steps++ < MOVE_STATES)
                state = (int)move_table[state].next[end];
            assert_true(is_end(state));
        }
}

static void test_order(void **ignored)
{
    static const enum move_state order[] = {MOVE_PLANNED,    MOVE_RELEASING, MOVE_DETACHING,
                                            MOVE_PREPARING,  MOVE_COPYING,   MOVE_SWITCHING,
                                            MOVE_FINALISING, MOVE_ATTACHING, MOVE_LINK_UP,
                                            MOVE_RESUMING,   MOVE_DONE};

    for (unsigned i = 0; i + 1 < sizeof(order) / sizeof(order[0]); i++)
        assert_int_equal(move_table[order[i]].next[STEP_OK], order[i + 1]);
}

/* Undoing goes through the same states that give the HCA back. */
static void test_undo(void **ignored)
{
    assert_int_equal(move_table[MOVE_UNDOING].next[STEP_OK], MOVE_ATTACHING);
    assert_int_equal(move_table[MOVE_UNDOING].next[STEP_ERROR], MOVE_DEGRADED);
    assert_int_equal(move_table[MOVE_PLANNED].next[STEP_ERROR], MOVE_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names),
                                       cmocka_unit_test(test_no_way_back),
                                       cmocka_unit_test(test_abort_only_before),
                                       cmocka_unit_test(test_limits),
                                       cmocka_unit_test(test_ends),
                                       cmocka_unit_test(test_order),
                                       cmocka_unit_test(test_undo)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
