/* The journal keeps what it was told, also across a death. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "journal.h"

static char path[] = "/tmp/journal-XXXXXX";

static int64_t number(const json_t *object, const char *member)
{
    return json_integer_value(json_object_get(object, member));
}

static void test_death(void **state)
{
    struct journal *journal;
    json_t *moves, *row, *transitions;
    int status;
    pid_t child = fork();

    if (!child) {
        json_t *record = json_pack("{s:i}", "tries", 1);
        int64_t plan, move;

        if (journal_open(&journal, path))
            _exit(1);
        plan = journal_plan_add(journal, "c1", "cloud", 2, 100.5);
        move = journal_move_add(journal, plan, "vm1", "PLANNED", record, 101);
        journal_move_add(journal, plan, "vm2", "PLANNED", record, 101);
        json_object_set_new(record, "tries", json_integer(2));
        if (journal_move_enter(journal, move, "COPYING", "off it goes", record, 0, 102))
            _exit(2);
        _exit(0); /* without closing: as a killed daemon */
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(journal_open(&journal, path), 0);
    moves = journal_moves(journal, 1, 0);
    assert_int_equal(json_array_size(moves), 2);
    row = json_array_get(moves, 0);
    assert_string_equal(json_string_value(json_object_get(row, "state")), "COPYING");
    assert_int_equal(number(json_object_get(row, "record"), "tries"), 2);
    transitions = journal_transitions(journal, number(row, "id"));
    assert_int_equal(json_array_size(transitions), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(transitions, 1), "why")),
                        "off it goes");
    json_decref(transitions);
    row = journal_plan(journal, number(row, "plan"));
    assert_int_equal(number(row, "parallel"), 2);
    json_decref(row);
    json_decref(moves);
    journal_close(journal);
}

static void test_end(void **state)
{
    struct journal *journal;
    json_t *moves, *row, *record = json_object();

    assert_int_equal(journal_open(&journal, path), 0);
    assert_int_equal(journal_move_enter(journal, 1, "DONE", "", record, 1, 103), 0);
    moves = journal_moves(journal, 1, 0);
    assert_int_equal(json_array_size(moves), 1);
    assert_int_equal(number(json_array_get(moves, 0), "id"), 2);
    json_decref(moves);
    moves = journal_moves(journal, 0, 1);
    assert_int_equal(json_array_size(moves), 1);
    assert_int_equal(number(json_array_get(moves, 0), "id"), 2);
    json_decref(moves);
    row = journal_move(journal, 1);
    assert_true(json_is_true(json_object_get(row, "ended")));
    json_decref(row);
    assert_null(journal_move(journal, 99));
    json_decref(record);
    journal_close(journal);
}

static void test_one_owner(void **state)
{
    struct journal *journal, *second;

    assert_int_equal(journal_open(&journal, path), 0);
    assert_int_equal(journal_open(&second, path), -EBUSY);
    journal_close(journal);
}

static void test_epoch(void **state)
{
    struct journal *journal;

    assert_int_equal(journal_open(&journal, path), 0);
    assert_int_equal(journal_epoch(journal, "vm1", "ib0", 0), 1);
    assert_int_equal(journal_epoch(journal, "vm1", "ib0", 0), 1);
    assert_int_equal(journal_epoch(journal, "vm1", "ib0", 1), 2);
    assert_int_equal(journal_epoch(journal, "vm2", "ib0", 0), 1);
    journal_close(journal);
    assert_int_equal(journal_open(&journal, path), 0);
    assert_int_equal(journal_epoch(journal, "vm1", "ib0", 1), 3);
    journal_close(journal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_death), cmocka_unit_test(test_end),
                                       cmocka_unit_test(test_one_owner),
                                       cmocka_unit_test(test_epoch)};
    char name[64];
    int fd = mkstemp(path), failed;

    if (fd < 0)
        return 1;
    close(fd);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    snprintf(name, sizeof(name), "%s-wal", path);
    unlink(name);
    return failed;
}
