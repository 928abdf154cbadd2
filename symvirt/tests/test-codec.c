/* The codec: what is encoded comes out again, whatever lies between the frames, and bounds hold.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "crc32c.h"
#include "symvirt.h"

struct received {
    unsigned count;
    uint64_t last_sequence, last_epoch;
    json_t *last;
};

static void on_frame(void *ctx, json_t *message, uint64_t sequence, uint64_t epoch)
{
    struct received *received = ctx;

    received->count++;
    received->last_sequence = sequence;
    received->last_epoch = epoch;
    json_decref(received->last);
    received->last = json_incref(message);
}

struct fixture {
    struct symvirt_decoder *decoder;
    struct received received;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    *state = fixture;
    return !fixture || symvirt_decoder_create(&fixture->decoder, on_frame, &fixture->received);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    symvirt_decoder_destroy(fixture->decoder);
    json_decref(fixture->received.last);
    free(fixture);
    return 0;
}

/* A frame with {"n": number}, for the caller to free. */
static uint8_t *make_frame(uint64_t number, size_t *size)
{
    json_t *message = json_pack("{s:I}", "n", (json_int_t)number);
    void *frame;

    assert_int_equal(symvirt_frame_encode(message, number, 77, &frame, size), 0);
    json_decref(message);
    return frame;
}

/* A frame with any payload at all and a right CRC. */
static uint8_t *make_raw_frame(const void *payload, size_t length, size_t *size)
{
    uint8_t *frame = calloc(1, SYMVIRT_FRAME_HEADER + length);
    uint32_t big = htobe32((uint32_t)length), crc;

    memcpy(frame, "\xffSYV", 4);
    memcpy(frame + 4, &big, 4);
    memcpy(frame + SYMVIRT_FRAME_HEADER, payload, length);
    crc = symvirt_crc32c(0, frame + 4, 4);
    crc = symvirt_crc32c(crc, frame + 12, SYMVIRT_FRAME_HEADER - 12);
    crc = htobe32(symvirt_crc32c(crc, payload, length));
    memcpy(frame + 8, &crc, 4);
    *size = SYMVIRT_FRAME_HEADER + length;
    return frame;
}

static void feed_raw(struct fixture *fixture, const void *payload, size_t length)
{
    size_t size;
    uint8_t *frame = make_raw_frame(payload, length, &size);

    symvirt_decoder_feed(fixture->decoder, frame, size);
    free(frame);
}

static void feed_good(struct fixture *fixture, uint64_t number)
{
    size_t size;
    uint8_t *frame = make_frame(number, &size);

    symvirt_decoder_feed(fixture->decoder, frame, size);
    free(frame);
}

static void test_crc_known_value(void **state)
{
    assert_int_equal(symvirt_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(symvirt_crc32c(symvirt_crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

static void test_round_trip_in_one_piece_and_byte_by_byte(void **state)
{
    struct fixture *fixture = *state;
    size_t size;
    uint8_t *frame = make_frame(5, &size);

    symvirt_decoder_feed(fixture->decoder, frame, size);
    assert_int_equal(fixture->received.count, 1);
    for (size_t i = 0; i < size; i++)
        symvirt_decoder_feed(fixture->decoder, frame + i, 1);
    assert_int_equal(fixture->received.count, 2);
    assert_int_equal(fixture->received.last_sequence, 5);
    assert_int_equal(fixture->received.last_epoch, 77);
    assert_int_equal(symvirt_message_number(fixture->received.last, "n", 0), 5);
    assert_int_equal(symvirt_decoder_counters(fixture->decoder)->bytes_skipped, 0);
    free(frame);
}

static void test_frame_found_at_every_offset_in_garbage(void **state)
{
    struct fixture *fixture = *state;
    uint8_t garbage[200];
    unsigned expected = 0;

    srandom(1);
    for (size_t length = 0; length < sizeof(garbage); length++) {
        for (size_t i = 0; i < length; i++)
            garbage[i] = (uint8_t)(random() % 4 ? random() : 0xff);
        symvirt_decoder_feed(fixture->decoder, garbage, length);
        feed_good(fixture, length);
        assert_int_equal(fixture->received.count, ++expected);
        assert_int_equal(symvirt_message_number(fixture->received.last, "n", 999), length);
    }
}

static void test_cut_frame_does_not_swallow_the_next(void **state)
{
    struct fixture *fixture = *state;
    unsigned expected = 0;
    size_t size;
    uint8_t *frame = make_frame(1, &size);

    for (size_t length = 0; length < size; length++) {
        symvirt_decoder_feed(fixture->decoder, frame, length);
        feed_good(fixture, 2);
        if (fixture->received.count != ++expected && length > 4) {
            /* Cut in the header: what follows was taken for the header's rest; the frame after it
             * is found. */
            feed_good(fixture, 2);
        }
        assert_int_equal(fixture->received.count, expected);
        assert_int_equal(fixture->received.last_sequence, 2);
    }
    free(frame);
}

static void test_every_flipped_bit_is_noticed(void **state)
{
    struct fixture *fixture = *state;
    unsigned expected = 0;
    size_t size;
    uint8_t *frame = make_frame(1, &size);

    for (size_t bit = 0; bit < size * 8; bit++) {
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
        symvirt_decoder_feed(fixture->decoder, frame, size);
        frame[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(fixture->received.count, expected);
        /* A longer length waits for bytes; a reset stands for the resend that brings them. */
        symvirt_decoder_reset(fixture->decoder);
        symvirt_decoder_feed(fixture->decoder, frame, size);
        assert_int_equal(fixture->received.count, ++expected);
    }
    free(frame);
}

static void test_impossible_length_skipped_at_once(void **state)
{
    struct fixture *fixture = *state;
    uint8_t header[SYMVIRT_FRAME_HEADER] = {0xff, 'S', 'Y', 'V', 0xff, 0xff, 0xff, 0xf0};

    symvirt_decoder_feed(fixture->decoder, header, sizeof(header));
    feed_good(fixture, 3);
    assert_int_equal(fixture->received.count, 1);
    assert_int_equal(symvirt_decoder_counters(fixture->decoder)->bad_length, 1);
}

static void test_endless_frame_keeps_memory_and_recovers(void **state)
{
    struct fixture *fixture = *state;
    char block[4096];
    uint8_t header[SYMVIRT_FRAME_HEADER] = {0xff, 'S', 'Y', 'V', 0, 1, 0, 0};

    memset(block, '[', sizeof(block));
    symvirt_decoder_feed(fixture->decoder, header, sizeof(header));
    for (int i = 0; i < 4096; i++)
        symvirt_decoder_feed(fixture->decoder, block, sizeof(block));
    feed_good(fixture, 4);
    assert_int_equal(fixture->received.count, 1);
    assert_int_equal(symvirt_decoder_counters(fixture->decoder)->bad_crc, 1);
}

static void test_payloads_that_are_no_strict_json_object(void **state)
{
    static const char *const bad[] = {
        "[]",
        "42",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1}x",
        "{\"a\":\"\\u0000\"}",
        "{a:1}",
        "{\"a\":1,}",
        "{\"a\":99999999999999999999}",
        "{\"a\":\"\xc3\x28\"}",
        "{\"a\"",
        "  ",
        "{\"a\":nul}",
        "{\"a\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}",
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        feed_raw(fixture, bad[i], strlen(bad[i]));
        assert_int_equal(symvirt_decoder_counters(fixture->decoder)->bad_json, i + 1);
    }
    assert_int_equal(fixture->received.count, 0);
    feed_good(fixture, 1);
    assert_int_equal(fixture->received.count, 1);
}

static void test_brackets_in_strings_are_not_depth(void **state)
{
    static const char text[] = "{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[{{{{\"}";
    struct fixture *fixture = *state;

    feed_raw(fixture, text, strlen(text));
    assert_int_equal(fixture->received.count, 1);
}

static void test_encode_refuses_what_decode_would(void **state)
{
    json_t *deep = json_object(), *inner = deep, *big = json_object();
    char *text = malloc(SYMVIRT_PAYLOAD_MAX + 1);
    void *frame;
    size_t size;

    for (int i = 0; i < SYMVIRT_JSON_DEPTH_MAX; i++) {
        json_object_set_new(inner, "x", json_object());
        inner = json_object_get(inner, "x");
    }
    assert_int_equal(symvirt_frame_encode(deep, 1, 1, &frame, &size), -EINVAL);
    memset(text, 'x', SYMVIRT_PAYLOAD_MAX);
    text[SYMVIRT_PAYLOAD_MAX] = '\0';
    json_object_set_new(big, "x", json_string(text));
    assert_int_equal(symvirt_frame_encode(big, 1, 1, &frame, &size), -EMSGSIZE);
    /* The longest that fits: {"x":"..."} has 8 bytes around the text. */
    text[SYMVIRT_PAYLOAD_MAX - 8] = '\0';
    json_object_set_new(big, "x", json_string(text));
    assert_int_equal(symvirt_frame_encode(big, 1, 1, &frame, &size), 0);
    assert_int_equal(size, SYMVIRT_FRAME_HEADER + SYMVIRT_PAYLOAD_MAX);
    symvirt_decoder_feed(((struct fixture *)*state)->decoder, frame, size);
    assert_int_equal(((struct fixture *)*state)->received.count, 1);
    free(frame);
    free(text);
    json_decref(deep);
    json_decref(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc_known_value),
        cmocka_unit_test_setup_teardown(test_round_trip_in_one_piece_and_byte_by_byte, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_frame_found_at_every_offset_in_garbage, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_cut_frame_does_not_swallow_the_next, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_flipped_bit_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_impossible_length_skipped_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_endless_frame_keeps_memory_and_recovers, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_payloads_that_are_no_strict_json_object, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_brackets_in_strings_are_not_depth, setup, teardown),
        cmocka_unit_test_setup_teardown(test_encode_refuses_what_decode_would, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
