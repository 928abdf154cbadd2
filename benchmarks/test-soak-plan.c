/* Tests that all ranks make the same plan, and that layouts keep every byte and every gap.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "soak-buffer.h"
#include "soak-layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define RANKS 5

/* Each message must be in the plans of exactly its two ranks, in the same order in both. */
static void test_plans_agree(void **state)
{
    struct soak_message lists[RANKS][SOAK_BATCH_MAX * RANKS];
    struct soak_plan plan = {.seed = 3, .ranks = RANKS, .per_rank = 8, .max_size = 8u << 20};
    unsigned counts[RANKS], places[RANKS], i;
    struct soak_message *mine, *theirs;
    uint64_t batch;

    for (batch = 0; batch < 2000; batch++) {
        plan.pattern = (enum soak_pattern)(batch % SOAK_PATTERN_COUNT);
        for (plan.me = 0; plan.me < RANKS; plan.me++)
            counts[plan.me] = soak_plan_batch(&plan, batch, lists[plan.me]);
        memset(places, 0, sizeof places);
        for (i = 0; i < counts[0]; i++) {
            mine = &lists[0][i];
            assert_true(mine->src != mine->dst && mine->dst < RANKS && mine->src < RANKS);
            assert_true(mine->size <= plan.max_size);
            theirs = lists[mine->src == 0 ? mine->dst : mine->src];
            plan.me = mine->src == 0 ? mine->dst : mine->src;
            while (theirs[places[plan.me]].src != 0 && theirs[places[plan.me]].dst != 0)
                places[plan.me]++;
            assert_memory_equal(mine, &theirs[places[plan.me]++], sizeof *mine);
        }
    }
}

/* Every stream, size class, layout and way to send and receive must occur. */
static void test_plan_covers_all(void **state)
{
    struct soak_message list[SOAK_BATCH_MAX * 2];
    struct soak_plan plan = {.seed = 1, .ranks = 2, .per_rank = 8, .max_size = 8u << 20};
    unsigned streams[SOAK_STREAM_COUNT] = {0}, sends[4] = {0}, receives[3] = {0}, count, i;
    unsigned layouts[3][3] = {{0}}, empty = 0, tiny = 0, largest = 0;
    uint64_t batch;

    for (batch = 0; batch < 3000; batch++) {
        count = soak_plan_batch(&plan, batch, list);
        for (i = 0; i < count; i++) {
            streams[list[i].stream]++;
            sends[list[i].send]++;
            receives[list[i].receive]++;
            layouts[list[i].send_layout][list[i].receive_layout]++;
            empty += list[i].size == 0;
            tiny += list[i].size > 0 && list[i].size < SOAK_STAMP_SIZE;
            largest += list[i].size == plan.max_size;
            if (soak_stream_is_wild(list[i].stream))
                assert_in_range(list[i].size, SOAK_STAMP_SIZE, SOAK_WILDCARD_MAX);
        }
    }
    for (i = 0; i < SOAK_STREAM_PERSISTENT; i++)
        assert_int_not_equal(streams[i], 0);
    for (i = 0; i < 4; i++)
        assert_int_not_equal(sends[i], 0);
    for (i = 0; i < 9; i++)
        assert_int_not_equal(layouts[i / 3][i % 3], 0);
    for (i = 0; i < 3; i++)
        assert_int_not_equal(receives[i], 0);
    assert_true(empty > 0 && tiny > 0 && largest > 0);
}

static void test_layouts(void **state)
{
    static const size_t sizes[] = {0, 1, 12, 13, 14, 1000, 1023, 5000, 250000, 262145, 1000003};
    unsigned char *packed, *spread, *back;
    unsigned kind;
    size_t i, j, span;

    for (kind = SOAK_CONTIGUOUS; kind <= SOAK_INDEXED; kind++) {
        for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            span = soak_layout_span(kind, sizes[i]);
            packed = malloc(sizes[i] + 1);
            back = malloc(sizes[i] + 1);
            spread = malloc(span + 1);
            assert_true(packed && back && spread);
            for (j = 0; j < sizes[i]; j++)
                packed[j] = (unsigned char)(j % 251);
            memset(spread, SOAK_POISON, span + 1);
            soak_layout_scatter(kind, sizes[i], packed, spread);
            assert_true(soak_layout_gather(kind, sizes[i], spread, back));
            assert_memory_equal(packed, back, sizes[i]);
            assert_int_equal(spread[span], SOAK_POISON);
            if (span > sizes[i]) {
                j = soak_layout_segment(kind, sizes[i], 0).length;
                spread[j] ^= 1;
                assert_false(soak_layout_gather(kind, sizes[i], spread, back));
            }
            free(packed);
            free(back);
            free(spread);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plans_agree),
        cmocka_unit_test(test_plan_covers_all),
        cmocka_unit_test(test_layouts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
