/*
 * The memory of frames: used again, bounded when idle, given back in time; and that undelivered
 * messages are counted with all that they take.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "rig.h"

#define FRAMES 2000

static struct ninja_frame_pool pool;
static struct ninja_frame *frames[FRAMES];

/* Makes FRAMES frames of `size` bytes each and writes all over them. */
static void make(size_t size)
{
    for (unsigned i = 0; i < FRAMES; i++) {
        frames[i] = ninja_frame_new(&pool, size);
        assert_non_null(frames[i]);
        assert_int_equal(frames[i]->inline_length, 0);
        assert_in_range(frames[i]->room, size, UINT32_MAX);
        memset(frames[i]->data, (int)i, frames[i]->room);
    }
}

/* Gives back frames[i] for each i from `first` on in steps of `step`. */
static void give_back(unsigned first, unsigned step)
{
    for (unsigned i = first; i < FRAMES; i += step) {
        assert_int_equal(frames[i]->data[frames[i]->room - 1], (unsigned char)i);
        ninja_frame_free(&pool, frames[i]);
    }
}

static int begin(void **state)
{
    memset(&pool, 0, sizeof(pool));
    pool.limit = 4U << 20;
    return 0;
}

static int end(void **state)
{
    ninja_frame_pool_destroy(&pool);
    assert_int_equal(pool.idle_bytes, 0);
    for (unsigned i = 0; i < NINJA_FRAME_CLASSES; i++)
        assert_true(LIST_EMPTY(&pool.room[i]));
    return 0;
}

static void a_frame_is_used_again(void **state)
{
    struct ninja_frame *frame = ninja_frame_new(&pool, 100);

    ninja_frame_free(&pool, frame);
    assert_ptr_equal(ninja_frame_new(&pool, 20), frame);
    ninja_frame_free(&pool, frame);
    ninja_frame_free(&pool, NULL);
}

static void idle_memory_is_bounded(void **state)
{
    static const size_t sizes[] = {1, 512, 9000, 64 * 1024, 200 * 1024};

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        make(sizes[i]);
        /* Out of order, so that every slab has holes for a while. */
        give_back(0, 2);
        give_back(1, 2);
        assert_in_range(pool.idle_bytes, 0, pool.limit);
    }
    assert_in_range(pool.idle_bytes, 1, pool.limit);
}

static void what_was_not_needed_is_given_back(void **state)
{
    size_t kept;

    make(9000);
    give_back(0, 1);
    kept = pool.idle_bytes;
    assert_in_range(kept, 1U << 20, pool.limit);
    /* It was needed since the pool began. */
    ninja_frame_pool_trim(&pool);
    assert_int_equal(pool.idle_bytes, kept);
    ninja_frame_pool_trim(&pool);
    assert_int_equal(pool.idle_bytes, 0);
}

static void what_is_needed_now_and_then_stays(void **state)
{
    struct ninja_frame *frame;
    size_t kept;

    make(9000);
    give_back(0, 1);
    ninja_frame_pool_trim(&pool);
    frame = ninja_frame_new(&pool, 9000);
    ninja_frame_free(&pool, frame);
    ninja_frame_pool_trim(&pool);
    kept = pool.idle_bytes;
    assert_in_range(kept, 1, 1U << 20);
    frame = ninja_frame_new(&pool, 9000);
    ninja_frame_free(&pool, frame);
    ninja_frame_pool_trim(&pool);
    assert_int_equal(pool.idle_bytes, kept);
}

/* Tiny messages take ten times their payload: the limit is one of memory. */
static void undelivered_messages_are_counted_in_full(void **state)
{
    struct ninja_frame_header header = {.magic = NINJA_FRAME_MAGIC, .type = NINJA_FRAME_DATA};
    uint64_t sequence = 0;
    void *where;

    rig_create(1);
    rig->core->control_progress = true;
    while (ninja_path_landing(&rig->link->lifeline_path, &header, &where) != NINJA_LANDING_WAIT) {
        rig_arrive(&rig->link->lifeline_path, ++sequence);
        assert_in_range(sequence, 1, rig->tuning.inbox_limit / 100);
    }
    assert_in_range(rig->link->inbox_bytes, rig->tuning.inbox_limit + 1,
                    rig->tuning.inbox_limit + 1000);
    rig->core->control_progress = false;
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->received_count, sequence);
    assert_int_equal(rig->link->inbox_bytes, 0);
    rig_destroy();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_frame_is_used_again, begin, end),
        cmocka_unit_test_setup_teardown(idle_memory_is_bounded, begin, end),
        cmocka_unit_test_setup_teardown(what_was_not_needed_is_given_back, begin, end),
        cmocka_unit_test_setup_teardown(what_is_needed_now_and_then_stays, begin, end),
        cmocka_unit_test(undelivered_messages_are_counted_in_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
