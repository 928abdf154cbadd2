/* What the real agent tells of the links of its processes, as ninjad asks for them.
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
#include "ranks-query.h"

/* Asks for the links of all processes as ninjad does; returns what came (new reference). */
static json_t *ask_ranks(struct fixture *fixture)
{
    struct ranks_query *query = ranks_query_create();
    uint64_t process, first, op;
    json_t *result;

    while (ranks_query_next(query, &process, &first)) {
        json_decref(fixture->result);
        fixture->result = NULL;
        assert_int_equal(guest_link_ask_links(fixture->link, process, first, 5000, &op), 0);
        assert_int_equal(wait_result(fixture), 0);
        ranks_query_take(query, json_object_get(fixture->result, "detail"));
    }
    result = ranks_query_result(query);
    ranks_query_destroy(query);
    return result;
}

static const json_t *rank_of(const json_t *ranks, pid_t pid)
{
    const json_t *rank;
    size_t i;

    json_array_foreach (json_object_get(ranks, "ranks"), i, rank)
        if (json_integer_value(json_object_get(rank, "pid")) == pid)
            return rank;
    fail_msg("process %d is missing", (int)pid);
    return NULL;
}

static const char *error_of(const json_t *rank)
{
    return symvirt_message_text(rank, "error");
}

static void test_links_of_all_processes_are_told(void **state)
{
    struct fixture *fixture = *state;
    const struct process *many, *none, *liar, *stopped;
    const json_t *rank, *links, *link;
    json_t *ranks;
    int64_t begin;

    ranks = ask_ranks(fixture);
    assert_int_equal(json_array_size(json_object_get(ranks, "ranks")), 0);
    json_decref(ranks);
    many = start_client(fixture, "links", 0);
    none = start_client(fixture, "ok", 0);
    liar = start_client(fixture, "liar", 0);
    stopped = start_client(fixture, "links", 0);
    expect_output(fixture, many, "agent connected");
    expect_output(fixture, none, "agent connected");
    expect_output(fixture, liar, "agent connected");
    expect_output(fixture, stopped, "agent connected");
    kill(stopped->pid, SIGSTOP);
    begin = now_ms();
    ranks = ask_ranks(fixture);
    kill(stopped->pid, SIGCONT);
    assert_in_range(now_ms() - begin, 500, 5000); /* one process does not answer: one second */
    assert_int_equal(json_array_size(json_object_get(ranks, "ranks")), 4);
    assert_false(json_is_true(json_object_get(ranks, "truncated")));

    rank = rank_of(ranks, many->pid);
    links = json_object_get(rank, "links");
    assert_int_equal(json_array_size(links), 600);
    assert_int_equal(json_integer_value(json_object_get(rank, "rank")), 3);
    link = json_array_get(links, 599);
    assert_int_equal(json_integer_value(json_object_get(link, "rank")), 599);
    assert_string_equal(symvirt_message_text(link, "transport"), "ib0");
    assert_true(json_real_value(json_object_get(link, "since_s")) == 599.0);

    rank = rank_of(ranks, none->pid);
    assert_int_equal(json_array_size(json_object_get(rank, "links")), 0);
    assert_string_equal(error_of(rank), "it does not tell its links");
    assert_string_equal(error_of(rank_of(ranks, stopped->pid)), "it does not answer");

    /* Nothing of a liar's is worse than empty. */
    links = json_object_get(rank_of(ranks, liar->pid), "links");
    for (size_t i = 0; i < json_array_size(links); i++) {
        const char *text = symvirt_message_text(json_array_get(links, i), "transport");

        assert_null(strchr(text, 27));
        assert_true(json_integer_value(json_object_get(json_array_get(links, i), "rank")) >= 0);
    }
    json_decref(ranks);
    /* And the agent does what it is for. */
    assert_int_equal(request(fixture, SYMVIRT_PING), 0);
}

static void test_process_that_ends_while_it_is_asked(void **state)
{
    struct fixture *fixture = *state;
    const struct process *process;
    uint64_t op;

    process = start_client(fixture, "links", 0);
    expect_output(fixture, process, "agent connected");
    kill(process->pid, SIGSTOP);
    json_decref(fixture->result);
    fixture->result = NULL;
    assert_int_equal(guest_link_ask_links(fixture->link, 0, 0, 5000, &op), 0);
    run_for(fixture, 100);
    /* A second question while one is open is refused, not queued. */
    assert_int_equal(guest_link_ask_links(fixture->link, 0, 0, 5000, &op), 0);
    assert_int_equal(wait_result(fixture), EBUSY);
    json_decref(fixture->result);
    fixture->result = NULL;
    kill(process->pid, SIGKILL);
    assert_int_equal(wait_result(fixture), 0);
    assert_string_equal(error_of(json_object_get(fixture->result, "detail")), "it has ended");
}

static void test_guest_that_turns_in_circles_is_left(void **state)
{
    struct ranks_query *query = ranks_query_create();
    uint64_t process, first;
    unsigned questions = 0;
    json_t *result;

    while (ranks_query_next(query, &process, &first)) {
        json_t *detail =
            json_pack("{s:i, s:i, s:s, s:{s:I, s:[[i, i, s, f]]}}", "process", 5, "next", 6, "name",
                      "x", "links", "total", (json_int_t)INT64_MAX, "links", 1, 2, "ib", 0.5);

        ranks_query_take(query, detail);
        json_decref(detail);
        assert_true(++questions <= RANKS_QUERY_QUESTIONS_MAX);
    }
    result = ranks_query_result(query);
    assert_true(json_is_true(json_object_get(result, "truncated")));
    json_decref(result);
    ranks_query_destroy(query);

    /* One that names an earlier process, or none, is done with. */
    query = ranks_query_create();
    result = json_pack("{s:i, s:i}", "process", 5, "next", 4);
    ranks_query_take(query, result);
    json_decref(result);
    assert_false(ranks_query_next(query, &process, &first));
    ranks_query_destroy(query);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_links_of_all_processes_are_told),
        TEST(test_process_that_ends_while_it_is_asked),
        cmocka_unit_test(test_guest_that_turns_in_circles_is_left),
    };

    return programs_are_there() ? cmocka_run_group_tests(tests, NULL, NULL) : 77;
}
