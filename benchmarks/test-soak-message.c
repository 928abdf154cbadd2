/* Tests that every kind of damage to a message, and every kind of wrong arrival, is noticed.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "soak-buffer.h"
#include "soak-message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct soak_identity identity = {
    .seed = 7, .seq = 42, .src = 3, .dst = 1, .stream = SOAK_STREAM_ORDERED};
static const size_t sizes[] = {0, 1, 7, 8, 39, 40, 41, 47, 48, 71, 72, 73, 1000, 4096, 5003, 70001};

static void test_intact(void **state)
{
    struct soak_identity found;
    unsigned char data[70001];
    size_t i, bad;

    for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        soak_message_stamp(data, sizes[i], &identity);
        assert_int_equal(soak_message_verify(data, sizes[i], &identity, &found, &bad), SOAK_INTACT);
    }
}

/* Flips each bit of small messages, and a sample of those of large ones. */
static void test_flipped_bit(void **state)
{
    struct soak_identity found;
    unsigned char data[70001];
    size_t i, bit, bad, step;

    for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        soak_message_stamp(data, sizes[i], &identity);
        step = sizes[i] > 5003 ? 1009 : 1;
        for (bit = 0; bit < 8 * sizes[i]; bit += step) {
            data[bit / 8] ^= (unsigned char)(1u << bit % 8);
            bad = (size_t)-1;
            assert_int_equal(soak_message_verify(data, sizes[i], &identity, &found, &bad),
                             SOAK_CORRUPT);
            if (sizes[i] < SOAK_STAMP_SIZE || bit / 8 >= SOAK_STAMP_SIZE)
                assert_int_equal(bad, bit / 8);
            data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
    }
}

static void test_swapped_words(void **state)
{
    struct soak_identity found;
    unsigned char data[4096], word[8];
    size_t bad;

    soak_message_stamp(data, sizeof data, &identity);
    memcpy(word, data + 800, 8);
    memcpy(data + 800, data + 832, 8);
    memcpy(data + 832, word, 8);
    assert_int_equal(soak_message_verify(data, sizeof data, &identity, &found, &bad), SOAK_CORRUPT);
    assert_int_equal(bad, 800);
}

static void test_truncated(void **state)
{
    struct soak_identity found;
    unsigned char data[4096];
    size_t bad;

    soak_message_stamp(data, sizeof data, &identity);
    assert_int_equal(soak_message_verify(data, 4088, &identity, &found, &bad), SOAK_CORRUPT);
}

/* A message that is whole but stands in the place of another one says who it is. */
static void test_other_message(void **state)
{
    struct soak_identity other = identity, found;
    unsigned char data[512];
    size_t bad;

    other.seq = 43;
    soak_message_stamp(data, sizeof data, &other);
    assert_int_equal(soak_message_verify(data, sizeof data, &identity, &found, &bad), SOAK_OTHER);
    assert_int_equal(found.seq, 43);
    soak_message_stamp(data, 8, &other);
    assert_int_equal(soak_message_verify(data, 8, &identity, &found, &bad), SOAK_CORRUPT);
}

/* Parts of two messages mixed, as a replay from a buffer that is used again would do. */
static void test_mixed_messages(void **state)
{
    struct soak_identity other = identity, found;
    unsigned char data[8192], next[8192];
    size_t bad;

    other.seq = 43;
    soak_message_stamp(data, sizeof data, &identity);
    soak_message_stamp(next, sizeof next, &other);
    memcpy(data + 4096, next + 4096, 4096);
    assert_int_equal(soak_message_verify(data, sizeof data, &identity, &found, &bad), SOAK_CORRUPT);
    assert_int_equal(bad, 4096);
}

static void test_tracker_in_order(void **state)
{
    struct soak_tracker tracker = {0};
    uint64_t seq;

    for (seq = 0; seq < 3 * SOAK_TRACKER_WINDOW; seq++)
        assert_int_equal(soak_tracker_note(&tracker, seq), SOAK_ARRIVED);
    assert_int_equal(soak_tracker_lost(&tracker, seq), 0);
    assert_int_equal(soak_tracker_lost(&tracker, seq + 1), 1);
}

static void test_tracker_lost(void **state)
{
    struct soak_tracker tracker = {0};
    uint64_t seq;

    for (seq = 0; seq < 3 * SOAK_TRACKER_WINDOW; seq++)
        if (seq != 5 && seq != SOAK_TRACKER_WINDOW + 7)
            assert_int_equal(soak_tracker_note(&tracker, seq), SOAK_ARRIVED);
    assert_int_equal(soak_tracker_lost(&tracker, seq), 2);
}

static void test_tracker_duplicated(void **state)
{
    struct soak_tracker tracker = {0};
    uint64_t seq;

    for (seq = 0; seq < 2 * SOAK_TRACKER_WINDOW; seq++) {
        soak_tracker_note(&tracker, seq);
        if (seq % 100 == 0)
            assert_int_equal(soak_tracker_note(&tracker, seq), SOAK_DUPLICATED);
    }
    assert_int_equal(soak_tracker_note(&tracker, 1), SOAK_DUPLICATED);
    assert_int_equal(soak_tracker_note(&tracker, seq - SOAK_TRACKER_WINDOW), SOAK_DUPLICATED);
    assert_int_equal(tracker.duplicated, 2 * SOAK_TRACKER_WINDOW / 100 + 3);
    assert_int_equal(soak_tracker_lost(&tracker, seq), 0);
}

static void test_tracker_reordered(void **state)
{
    struct soak_tracker tracker = {0};

    assert_int_equal(soak_tracker_note(&tracker, 0), SOAK_ARRIVED);
    assert_int_equal(soak_tracker_note(&tracker, 2), SOAK_ARRIVED);
    assert_int_equal(soak_tracker_note(&tracker, 1), SOAK_REORDERED);
    assert_int_equal(soak_tracker_note(&tracker, 1), SOAK_DUPLICATED);
    assert_int_equal(soak_tracker_note(&tracker, 3), SOAK_ARRIVED);
    assert_int_equal(soak_tracker_lost(&tracker, 4), 0);
    assert_int_equal(soak_tracker_note(&tracker, 10 * SOAK_TRACKER_WINDOW), SOAK_ARRIVED);
    assert_int_equal(soak_tracker_note(&tracker, 10 * SOAK_TRACKER_WINDOW - 9), SOAK_REORDERED);
}

static void test_buffer_overwritten(void **state)
{
    struct soak_pool pool = {0};
    struct soak_buffer *buffer;

    buffer = soak_buffer_take(&pool, 1000);
    assert_true(soak_poison_intact(buffer->data, buffer->room));
    memset(buffer->data, 0, 1000);
    soak_buffer_give(&pool, buffer);
    assert_true(soak_poison_intact(buffer->data, buffer->room));
    assert_true(soak_pool_damage(&pool));
    soak_pool_drain(&pool);
    assert_int_equal(pool.overwritten, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_intact),
        cmocka_unit_test(test_flipped_bit),
        cmocka_unit_test(test_swapped_words),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_other_message),
        cmocka_unit_test(test_mixed_messages),
        cmocka_unit_test(test_tracker_in_order),
        cmocka_unit_test(test_tracker_lost),
        cmocka_unit_test(test_tracker_duplicated),
        cmocka_unit_test(test_tracker_reordered),
        cmocka_unit_test(test_buffer_overwritten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
