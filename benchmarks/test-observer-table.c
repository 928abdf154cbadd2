/* Tests that gaps are measured, attributed to windows and left out when they were announced.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "observer-table.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define MS UINT64_C(1000000)

/* Lets a heartbeat of 'rank' with number 'seq' arrive at 'ms'; returns the gap in ms. */
static uint64_t beat(struct observer_table *table, uint32_t rank, uint64_t seq, uint64_t ms,
                     enum heartbeat_kind kind)
{
    struct heartbeat_frame frame = {
        .kind = htons((uint16_t)kind),
        .job = htobe64(9),
        .rank = htonl(rank),
        .ranks = htonl(2),
        .seq = htobe64(seq),
    };
    uint64_t gap_ns;

    observer_table_note(table, &frame, ms * MS, &gap_ns);
    return gap_ns / MS;
}

static void test_gap(void **state)
{
    static struct observer_table table;
    struct observer_gap gap;

    assert_int_equal(beat(&table, 0, 0, 1000, HEARTBEAT_WORK), 0);
    assert_int_equal(beat(&table, 0, 1, 1010, HEARTBEAT_WORK), 10);
    assert_int_equal(beat(&table, 1, 0, 1500, HEARTBEAT_WORK), 0);
    assert_int_equal(beat(&table, 0, 2, 1310, HEARTBEAT_ALIVE), 300);
    assert_int_equal(beat(&table, 1, 1, 1520, HEARTBEAT_WORK), 20);
    beat(&table, 0, 3, 1520, HEARTBEAT_WORK);
    gap = observer_table_longest(&table, 0, 1521 * MS);
    assert_int_equal(gap.length_ns / MS, 300);
    assert_int_equal(gap.start_ns / MS, 1010);
    assert_int_equal(gap.rank, 0);
    /* A silence that still lasts counts. */
    gap = observer_table_longest(&table, 9, 2520 * MS);
    assert_int_equal(gap.length_ns / MS, 1000);
    assert_int_equal(observer_table_longest(&table, 8, 2520 * MS).length_ns, 0);
    observer_table_clear(&table);
}

static void test_announced_silence(void **state)
{
    static struct observer_table table;

    beat(&table, 0, 0, 0, HEARTBEAT_WORK);
    beat(&table, 0, 1, 10, HEARTBEAT_PAUSE);
    assert_int_equal(beat(&table, 0, 2, 30010, HEARTBEAT_WORK), 0);
    beat(&table, 0, 3, 30020, HEARTBEAT_END);
    assert_int_equal(observer_table_longest(&table, 0, 90000 * MS).length_ns / MS, 10);
    observer_table_clear(&table);
}

static void test_late_datagram(void **state)
{
    static struct observer_table table;

    beat(&table, 0, 0, 0, HEARTBEAT_WORK);
    beat(&table, 0, 5, 50, HEARTBEAT_WORK);
    assert_int_equal(table.sources[0].lost, 4);
    assert_int_equal(beat(&table, 0, 4, 60, HEARTBEAT_WORK), 0);
    assert_int_equal(beat(&table, 0, 6, 80, HEARTBEAT_WORK), 30);
    observer_table_clear(&table);
}

static void test_windows(void **state)
{
    static struct observer_table table;
    const struct observer_window *window;

    beat(&table, 0, 0, 0, HEARTBEAT_WORK);
    assert_int_equal(observer_table_mark(&table, "vm1.there", 100 * MS), 0);
    assert_int_equal(observer_table_mark(&table, "vm1.there", 150 * MS), 0);
    beat(&table, 0, 1, 200, HEARTBEAT_WORK);
    window = observer_table_unmark(&table, "vm1.there", 210 * MS);
    assert_non_null(window);
    assert_int_equal(window->start_ns / MS, 100);
    assert_int_equal(window->longest.length_ns / MS, 200);
    /* It began before the end of the window, so it belongs to it, whole. */
    beat(&table, 0, 2, 700, HEARTBEAT_WORK);
    assert_int_equal(window->longest.length_ns / MS, 500);
    /* This one did not. */
    beat(&table, 0, 3, 1700, HEARTBEAT_WORK);
    assert_int_equal(window->longest.length_ns / MS, 500);
    assert_null(observer_table_unmark(&table, "vm2", 210 * MS));
    assert_int_equal(observer_table_mark(&table, "bad label\"", 0), EINVAL);
    assert_int_equal(observer_table_mark(&table, "", 0), EINVAL);
    observer_table_clear(&table);
}

static void test_sources_are_bounded(void **state)
{
    static struct observer_table table;
    uint32_t rank;

    for (rank = 0; rank < OBSERVER_SOURCES_MAX + 10; rank++)
        beat(&table, rank, 0, 0, HEARTBEAT_WORK);
    assert_int_equal(table.source_count, OBSERVER_SOURCES_MAX);
    assert_int_equal(table.refused, 10);
    observer_table_clear(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gap),
        cmocka_unit_test(test_announced_silence),
        cmocka_unit_test(test_late_datagram),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_sources_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
