/* The session: each message arrives once and in order whatever the channel does, and both sides
 * find each other again. SPDX-License-Identifier: BSD-3-Clause
 *
 * Time is simulated; the channel loses, repeats, cuts and invents bytes by a seeded random number
 * generator.
 */
#include "config.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "symvirt.h"

struct side {
    struct symvirt_session *session;
    uint64_t next_expected; /* the op that must arrive next */
    uint64_t next_to_send;
    unsigned opened;
    uint64_t state_seen; /* from the guest's HELLO */
};

/* Chances in 1000, for each piece that goes through the channel. */
struct faults {
    int lose, repeat, cut, garbage, flip;
};

struct fixture {
    struct side host, guest;
    int64_t now_ms;
    struct faults faults;
};

static void on_message(void *ctx, enum symvirt_message_type type, json_t *message)
{
    struct side *side = ctx;

    assert_int_equal(type, SYMVIRT_PING);
    assert_int_equal(symvirt_message_op(message), side->next_expected);
    side->next_expected++;
}

static void on_opened(void *ctx, const json_t *state)
{
    struct side *side = ctx;

    side->opened++;
    side->state_seen = symvirt_message_number(state, "mark", 0);
}

/* A state that the guest is to have besides its mark. */
static char *more;

static json_t *describe(void *ctx)
{
    return json_pack("{s:i, s:s*}", "mark", 42, "more", more);
}

static const struct symvirt_session_callbacks callbacks = {on_message, on_opened, describe};

static void side_start(struct side *side, enum symvirt_session_role role)
{
    *side = (struct side){.next_expected = 1, .next_to_send = 1};
    assert_int_equal(symvirt_session_create(&side->session, role, &callbacks, side), 0);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    side_start(&fixture->host, SYMVIRT_SESSION_HOST);
    side_start(&fixture->guest, SYMVIRT_SESSION_GUEST);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    symvirt_session_destroy(fixture->host.session);
    symvirt_session_destroy(fixture->guest.session);
    free(fixture);
    return 0;
}

static int chance(int per_mille)
{
    return random() % 1000 < per_mille;
}

/* Moves what waits at 'from' to 'to', in pieces, with the faults asked for. */
static void channel_move(struct fixture *fixture, struct side *from, struct side *to)
{
    const void *output;
    size_t size, at = 0;
    char *bytes;

    size = symvirt_session_output(from->session, &output);
    if (!size)
        return;
    bytes = malloc(size);
    memcpy(bytes, output, size);
    symvirt_session_written(from->session, size);
    while (at < size) {
        size_t piece = 1 + (size_t)random() % 150;
        char noise[16];

        if (piece > size - at)
            piece = size - at;
        if (chance(fixture->faults.flip))
            bytes[at] ^= (char)(1 << random() % 8);
        if (chance(fixture->faults.garbage)) {
            for (size_t i = 0; i < sizeof(noise); i++)
                noise[i] = "\xffSYV\0\0\0\1{"[random() % 9];
            symvirt_session_input(to->session, noise, sizeof(noise), fixture->now_ms);
        }
        if (!chance(fixture->faults.lose))
            symvirt_session_input(to->session, bytes + at,
                                  chance(fixture->faults.cut) ? piece / 2 : piece, fixture->now_ms);
        if (chance(fixture->faults.repeat))
            symvirt_session_input(to->session, bytes, at + piece, fixture->now_ms);
        at += piece;
    }
    free(bytes);
}

/* Lets simulated time go by in steps of 10 ms. */
static void run(struct fixture *fixture, int milliseconds)
{
    for (int elapsed = 0; elapsed < milliseconds; elapsed += 10) {
        channel_move(fixture, &fixture->host, &fixture->guest);
        channel_move(fixture, &fixture->guest, &fixture->host);
        fixture->now_ms += 10;
        symvirt_session_tick(fixture->host.session, fixture->now_ms);
        symvirt_session_tick(fixture->guest.session, fixture->now_ms);
    }
}

static int send_next(struct fixture *fixture, struct side *side)
{
    int rc = symvirt_session_send(
        side->session, symvirt_message_request(SYMVIRT_PING, side->next_to_send), fixture->now_ms);

    if (!rc)
        side->next_to_send++;
    return rc;
}

static void open_both(struct fixture *fixture, uint64_t epoch)
{
    symvirt_session_open(fixture->guest.session, 0, fixture->now_ms);
    symvirt_session_open(fixture->host.session, epoch, fixture->now_ms);
    run(fixture, 50);
    assert_int_equal(symvirt_session_state(fixture->host.session), SYMVIRT_SESSION_OPEN);
    assert_int_equal(symvirt_session_state(fixture->guest.session), SYMVIRT_SESSION_OPEN);
}

static void expect_all_arrived(const struct fixture *fixture)
{
    assert_int_equal(fixture->guest.next_expected, fixture->host.next_to_send);
    assert_int_equal(fixture->host.next_expected, fixture->guest.next_to_send);
    assert_true(symvirt_session_all_acknowledged(fixture->host.session));
    assert_true(symvirt_session_all_acknowledged(fixture->guest.session));
}

static void test_greeting_carries_the_guests_state(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(send_next(fixture, &fixture->host), -ENOTCONN);
    open_both(fixture, 100);
    assert_int_equal(fixture->host.state_seen, 42);
    assert_int_equal(fixture->host.opened, 1);
    assert_int_equal(fixture->guest.opened, 1);
    assert_int_equal(symvirt_session_timeout_ms(fixture->host.session, fixture->now_ms), -1);
    assert_int_equal(symvirt_session_timeout_ms(fixture->guest.session, fixture->now_ms), -1);
}

static void test_state_too_long_for_a_frame_keeps_nobody_apart(void **state)
{
    struct fixture *fixture = *state;

    more = malloc(70001);
    memset(more, 'x', 70000);
    more[70000] = '\0';
    open_both(fixture, 100);
    free(more);
    more = NULL;
    assert_int_equal(fixture->host.opened, 1);
    assert_int_equal(fixture->host.state_seen, 0);
    assert_int_equal(send_next(fixture, &fixture->host), 0);
    run(fixture, 50);
    expect_all_arrived(fixture);
}

static void test_good_channel_repeats_nothing(void **state)
{
    struct fixture *fixture = *state;

    open_both(fixture, 100);
    for (int i = 0; i < 500; i++) {
        assert_int_equal(send_next(fixture, &fixture->host), 0);
        assert_int_equal(send_next(fixture, &fixture->guest), 0);
        run(fixture, 10);
    }
    run(fixture, 10);
    expect_all_arrived(fixture);
    assert_int_equal(symvirt_session_counters(fixture->host.session)->resent, 0);
    assert_int_equal(symvirt_session_counters(fixture->guest.session)->resent, 0);
}

static void test_queue_larger_than_the_window_and_full(void **state)
{
    struct fixture *fixture = *state;

    open_both(fixture, 100);
    for (int i = 0; i < 64; i++)
        assert_int_equal(send_next(fixture, &fixture->host), 0);
    assert_int_equal(send_next(fixture, &fixture->host), -ENOBUFS);
    run(fixture, 100);
    expect_all_arrived(fixture);
    assert_int_equal(symvirt_session_counters(fixture->host.session)->resent, 0);
}

/* 300 messages in each direction over a channel as bad as 'faults' says. */
static void bad_channel(struct fixture *fixture, const struct faults *faults, unsigned seed)
{
    srandom(seed);
    open_both(fixture, 100);
    fixture->faults = *faults;
    for (int i = 0;
         i < 100000 && (fixture->host.next_to_send <= 300 || fixture->guest.next_to_send <= 300);
         i++) {
        if (fixture->host.next_to_send <= 300)
            send_next(fixture, &fixture->host);
        if (fixture->guest.next_to_send <= 300)
            send_next(fixture, &fixture->guest);
        run(fixture, 10);
    }
    for (int i = 0; i < 1000 && !(symvirt_session_all_acknowledged(fixture->host.session) &&
                                  symvirt_session_all_acknowledged(fixture->guest.session));
         i++)
        run(fixture, 100);
    expect_all_arrived(fixture);
    assert_int_equal(fixture->host.next_expected, 301);
    assert_int_equal(fixture->guest.opened, 1);
}

static void test_bad_channels(void **state)
{
    static const struct faults kinds[] = {
        {.lose = 100},    {.repeat = 150}, {.cut = 100},
        {.garbage = 200}, {.flip = 100},   {40, 40, 40, 40, 40},
    };

    for (size_t kind = 0; kind < sizeof(kinds) / sizeof(*kinds); kind++) {
        for (unsigned seed = 1; seed <= 5; seed++) {
            void *fresh;

            setup(&fresh);
            bad_channel(fresh, &kinds[kind], seed);
            teardown(&fresh);
        }
    }
}

static void test_greeting_over_a_bad_channel(void **state)
{
    struct fixture *fixture = *state;

    srandom(7);
    fixture->faults = (struct faults){.lose = 500};
    symvirt_session_open(fixture->guest.session, 0, fixture->now_ms);
    symvirt_session_open(fixture->host.session, 100, fixture->now_ms);
    run(fixture, 60000);
    assert_int_equal(symvirt_session_state(fixture->host.session), SYMVIRT_SESSION_OPEN);
    assert_int_equal(symvirt_session_state(fixture->guest.session), SYMVIRT_SESSION_OPEN);
}

static void test_another_host_takes_over(void **state)
{
    struct fixture *fixture = *state;

    open_both(fixture, 100);
    send_next(fixture, &fixture->host);
    run(fixture, 50);
    /* The old host dies with a message under way, whose bytes end in the middle. */
    send_next(fixture, &fixture->host);
    fixture->faults = (struct faults){.cut = 1000};
    channel_move(fixture, &fixture->host, &fixture->guest);
    fixture->faults = (struct faults){0};
    symvirt_session_destroy(fixture->host.session);
    send_next(fixture, &fixture->guest); /* nobody hears it */

    side_start(&fixture->host, SYMVIRT_SESSION_HOST);
    symvirt_session_open(fixture->host.session, 200, fixture->now_ms);
    run(fixture, 300);
    assert_int_equal(fixture->host.opened, 1);
    assert_int_equal(fixture->guest.opened, 2);
    fixture->guest.next_expected = 1;
    fixture->guest.next_to_send = fixture->host.next_expected = 9;
    send_next(fixture, &fixture->host);
    send_next(fixture, &fixture->guest);
    run(fixture, 300);
    expect_all_arrived(fixture);
}

static void test_guest_that_restarts_asks_for_a_new_epoch(void **state)
{
    struct fixture *fixture = *state;

    open_both(fixture, 100);
    symvirt_session_destroy(fixture->guest.session);
    side_start(&fixture->guest, SYMVIRT_SESSION_GUEST);
    symvirt_session_open(fixture->guest.session, 0, fixture->now_ms);
    run(fixture, 300);
    assert_int_equal(fixture->host.opened, 2);
    assert_int_equal(fixture->guest.opened, 1);
    fixture->host.next_to_send = 1;
    send_next(fixture, &fixture->host);
    run(fixture, 100);
    expect_all_arrived(fixture);
}

static void test_old_hello_does_not_reset_the_session(void **state)
{
    struct fixture *fixture = *state;
    char old_hello[256];
    const void *output;
    size_t size;

    symvirt_session_open(fixture->guest.session, 0, fixture->now_ms);
    symvirt_session_open(fixture->host.session, 100, fixture->now_ms);
    size = symvirt_session_output(fixture->host.session, &output);
    assert_in_range(size, SYMVIRT_FRAME_HEADER, sizeof(old_hello));
    memcpy(old_hello, output, size);
    run(fixture, 100);
    symvirt_session_open(fixture->host.session, 200, fixture->now_ms);
    run(fixture, 100);
    assert_int_equal(fixture->guest.opened, 2);
    symvirt_session_input(fixture->guest.session, old_hello, size, fixture->now_ms);
    assert_int_equal(fixture->guest.opened, 2);
    send_next(fixture, &fixture->guest);
    run(fixture, 100);
    expect_all_arrived(fixture);
}

static void test_hostile_acknowledgement_and_numbers(void **state)
{
    struct fixture *fixture = *state;
    static const char *const texts[] = {
        "{\"type\":\"ack\",\"sequence\":9223372036854775807}",
        "{\"type\":\"ack\"}",
        "{\"type\":\"ping\",\"op\":77}",
        "{\"type\":\"nonsense\"}",
    };

    open_both(fixture, 100);
    send_next(fixture, &fixture->host);
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        for (uint64_t sequence = 0; sequence < UINT64_MAX / 2; sequence = sequence * 1000 + 5) {
            json_t *message = json_loads(texts[i], 0, NULL);
            void *frame;
            size_t size;

            assert_int_equal(symvirt_frame_encode(message, sequence, 100, &frame, &size), 0);
            symvirt_session_input(fixture->host.session, frame, size, fixture->now_ms);
            free(frame);
            json_decref(message);
        }
    }
    assert_false(symvirt_session_all_acknowledged(fixture->host.session));
    run(fixture, 200);
    expect_all_arrived(fixture);
}

static void test_channel_that_does_not_move_keeps_memory_bounded(void **state)
{
    struct fixture *fixture = *state;
    char *text = malloc(60001);
    const void *output;

    open_both(fixture, 100);
    memset(text, 'x', 60000);
    text[60000] = '\0';
    for (int i = 0; i < 100; i++) {
        symvirt_session_send(fixture->host.session, symvirt_message_progress(1, text),
                             fixture->now_ms);
        fixture->now_ms += 1000;
        symvirt_session_tick(fixture->host.session, fixture->now_ms);
    }
    assert_in_range(symvirt_session_output(fixture->host.session, &output), 1, 256 * 1024);
    free(text);
}

/* The same over a real socket pair, with the far end closed in the middle of a frame and opened
 * again. */
static void test_over_a_socket_pair_that_breaks(void **state)
{
    struct fixture *fixture = *state;
    struct side *sides[2] = {&fixture->host, &fixture->guest};

    for (int round = 0; round < 3; round++) {
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
        symvirt_session_open(fixture->host.session, 1000 + (uint64_t)round, fixture->now_ms);
        symvirt_session_open(fixture->guest.session, 0, fixture->now_ms);
        for (int i = 0; i < 2; i++)
            sides[i]->next_expected = sides[i]->next_to_send = 1;
        for (int step = 0; step < 200; step++) {
            for (int i = 0; i < 2; i++) {
                char bytes[100];
                const void *output;
                size_t size = symvirt_session_output(sides[i]->session, &output);
                ssize_t n = size ? write(fds[i], output, size < 70 ? size : 70) : 0;

                if (n > 0)
                    symvirt_session_written(sides[i]->session, (size_t)n);
                n = read(fds[i], bytes, sizeof(bytes));
                if (n > 0)
                    symvirt_session_input(sides[i]->session, bytes, (size_t)n, fixture->now_ms);
                if (step < 100)
                    send_next(fixture, sides[i]);
            }
            fixture->now_ms++;
        }
        assert_int_equal(fixture->host.opened, round + 1);
        assert_in_range(fixture->host.next_expected, 10, 101);
        assert_in_range(fixture->guest.next_expected, 10, 101);
        close(fds[0]);
        close(fds[1]);
        symvirt_session_close(fixture->host.session);
        symvirt_session_close(fixture->guest.session);
        assert_int_equal(send_next(fixture, &fixture->host), -ENOTCONN);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_greeting_carries_the_guests_state),
        TEST(test_state_too_long_for_a_frame_keeps_nobody_apart),
        TEST(test_good_channel_repeats_nothing),
        TEST(test_queue_larger_than_the_window_and_full),
        cmocka_unit_test(test_bad_channels),
        TEST(test_greeting_over_a_bad_channel),
        TEST(test_another_host_takes_over),
        TEST(test_guest_that_restarts_asks_for_a_new_epoch),
        TEST(test_old_hello_does_not_reset_the_session),
        TEST(test_hostile_acknowledgement_and_numbers),
        TEST(test_channel_that_does_not_move_keeps_memory_bounded),
        TEST(test_over_a_socket_pair_that_breaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
