/*
 * Unit tests of reads of exposed memory over verbs: a real core with a path whose device is not
 * there. What is read, in which pieces, and what becomes of the rest when the path goes.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "verbs-rig.h"

#define PIECE     (4U * 1024U * 1024U)
#define AT_A_TIME 2U

static unsigned char *theirs, *ours; /* 8 pieces each */
static const struct ninja_key key = {.instance = VERBS_RIG_PEER_INSTANCE, .key = 5};
static unsigned completions, reads, requests_heard;

static void complete(void *context, int status)
{
    assert_int_equal(status, 0);
    completions++;
}

static void hear(void *context, const unsigned char *message, size_t size)
{
    struct ninja_frame_header header;

    memcpy(&header, message + sizeof(struct verbs_header), sizeof(header));
    requests_heard += header.type == NINJA_FRAME_GET_REQUEST;
}

static void give(void *context, uint64_t address, void *to, size_t size)
{
    assert_in_range(size, 1, PIECE);
    memcpy(to, (void *)(uintptr_t)address, size);
    reads++;
}

static int setup(void **state)
{
    theirs = malloc(8 * PIECE);
    ours = calloc(8, PIECE);
    for (unsigned i = 0; i < 8 * PIECE; i++)
        theirs[i] = (unsigned char)(i * 2654435761U >> 24);
    completions = reads = requests_heard = 0;
    if (verbs_rig_create(8 * PIECE) != 0)
        return -1;
    fake.hear = hear;
    fake.give = give;
    verbs_rig_open_path();
    return 0;
}

static const struct ninja_frame *asked(void);

/* The reaper's thread ends the queue pair. Until it has, the device may write, so nothing may be
 * asked for. */
static void wait_until_closed(void)
{
    uint64_t limit = ninja_now_ms() + 10000;
    bool asked_before = asked() != NULL;

    while (path->state != NINJA_PATH_CLOSED) {
        assert_true(ninja_now_ms() < limit);
        if (fake.queue_pairs > 0)
            assert_true(asked_before || asked() == NULL);
        (void)ninja_core_pass(core);
        sched_yield();
    }
}

static int teardown(void **state)
{
    fabric->state = NINJA_FABRIC_RELEASING;
    ninja_path_handle(path, NINJA_PATH_RELEASE);
    if (path->state == NINJA_PATH_DRAINING)
        ninja_path_handle(path, NINJA_PATH_TIMEOUT);
    wait_until_closed();
    assert_int_equal(path->gets, 0);
    verbs_rig_destroy();
    assert_int_equal(fake.regions, 0);
    free(theirs);
    free(ours);
    return 0;
}

static void begin_get(const struct ninja_key *with, size_t length)
{
    assert_int_equal(
        ninja_link_get(link_to_peer, with, ours, (uintptr_t)theirs, length, complete, NULL), 0);
}

/* `count` requests are completed, and what follows from it is done. */
static void complete_requests(unsigned count, enum ibv_wc_status status)
{
    fake_verbs_complete(count, status);
    (void)ninja_core_progress(core);
}

/* The last request by frame, or NULL. */
static const struct ninja_frame *asked(void)
{
    const struct ninja_frame *last = NULL;

    for (const struct ninja_frame *frame = link_to_peer->data.head; frame != NULL;
         frame = frame->next)
        if (frame->header.type == NINJA_FRAME_GET_REQUEST)
            last = frame;
    return last;
}

/* The last request by frame is for `length` bytes from `offset` on. */
static void assert_asked(size_t offset, size_t length)
{
    const struct ninja_frame *frame = asked();
    uint64_t remote;

    assert_non_null(frame);
    memcpy(&remote, frame->data, sizeof(remote));
    assert_int_equal(remote, (uintptr_t)theirs + offset);
    assert_int_equal(frame->header.offset, length);
}

/* The peer answers what it was asked, over the lifeline. */
static void answer(size_t offset, size_t length)
{
    struct ninja_frame_header header = {
        .magic = NINJA_FRAME_MAGIC,
        .type = NINJA_FRAME_GET_DATA,
        .length = (uint32_t)length,
        .sequence = link_to_peer->data.received + 1,
        .cookie = asked()->header.cookie,
    };
    void *where = NULL;

    assert_int_equal(ninja_path_landing(&link_to_peer->lifeline_path, &header, &where),
                     NINJA_LANDING_PLACE);
    assert_ptr_equal(where, ours + offset);
    memcpy(where, theirs + offset, length);
    ninja_path_placed(&link_to_peer->lifeline_path, &header);
    (void)ninja_core_progress(core);
}

static unsigned markers(void)
{
    unsigned count = 0;

    for (const struct ninja_frame *frame = link_to_peer->control.head; frame != NULL;
         frame = frame->next)
        count += ((const struct ninja_path_message *)frame->data)->type == NINJA_MESSAGE_MARKER;
    return count;
}

static void it_is_read_in_pieces_without_a_frame(void **state)
{
    size_t length = 6 * PIECE + 100;

    begin_get(&key, length);
    assert_int_equal(fake_verbs_pending(), AT_A_TIME);
    complete_requests(1, IBV_WC_SUCCESS);
    assert_int_equal(fake_verbs_pending(), AT_A_TIME);
    complete_requests(2, IBV_WC_SUCCESS);
    complete_requests(2, IBV_WC_SUCCESS);
    assert_int_equal(fake_verbs_pending(), 2);
    assert_int_equal(completions, 0);
    complete_requests(2, IBV_WC_SUCCESS);
    assert_int_equal(completions, 1);
    assert_int_equal(reads, 7);
    assert_memory_equal(ours, theirs, length);
    assert_null(asked());
    assert_int_equal(link_to_peer->counters.bytes_received[fabric->slot + 1], length);
}

static void no_piece_is_longer_than_the_device_takes(void **state)
{
    transport->port.max_msg_sz = PIECE / 4;
    begin_get(&key, 10 * (PIECE / 4) + 100);
    assert_int_equal(fake_verbs_pending(), 8);
    complete_requests(8, IBV_WC_SUCCESS);
    complete_requests(3, IBV_WC_SUCCESS);
    assert_int_equal(completions, 1);
    assert_int_equal(reads, 11);
    assert_memory_equal(ours, theirs, 10 * (PIECE / 4) + 100);
}

static void several_are_read_one_after_the_other(void **state)
{
    begin_get(&key, 3 * PIECE);
    assert_int_equal(ninja_link_get(link_to_peer, &key, ours + 4 * PIECE,
                                    (uintptr_t)theirs + 4 * PIECE, 3 * PIECE, complete, NULL),
                     0);
    assert_int_equal(fake_verbs_pending(), AT_A_TIME);
    complete_requests(2, IBV_WC_SUCCESS);
    assert_int_equal(completions, 0);
    complete_requests(2, IBV_WC_SUCCESS);
    assert_int_equal(completions, 1);
    complete_requests(2, IBV_WC_SUCCESS);
    assert_int_equal(completions, 2);
    assert_memory_equal(ours, theirs, 3 * PIECE);
    assert_memory_equal(ours + 4 * PIECE, theirs + 4 * PIECE, 3 * PIECE);
}

static void short_ones_are_under_way_together(void **state)
{
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(ninja_link_get(link_to_peer, &key, ours + i * (PIECE / 4),
                                        (uintptr_t)theirs + i * (PIECE / 4), PIECE / 4, complete,
                                        NULL),
                         0);
    assert_int_equal(fake_verbs_pending(), 8);
    complete_requests(8, IBV_WC_SUCCESS);
    assert_int_equal(completions, 8);
    complete_requests(1, IBV_WC_SUCCESS);
    assert_int_equal(completions, 9);
    assert_memory_equal(ours, theirs, 9 * (PIECE / 4));
}

static void what_has_another_device_is_asked_for(void **state)
{
    const struct ninja_key other = {.instance = VERBS_RIG_PEER_INSTANCE + 1, .key = 5};

    begin_get(&other, PIECE);
    assert_int_equal(requests_heard, 1);
    assert_asked(0, PIECE);
    answer(0, PIECE);
    assert_int_equal(completions, 1);
    assert_int_equal(reads, 0);
}

static void what_is_not_exposed_is_asked_for(void **state)
{
    const struct ninja_key none = {.instance = 0};

    begin_get(&none, PIECE);
    assert_asked(0, PIECE);
    begin_get(NULL, 2 * PIECE);
    assert_asked(0, 2 * PIECE);
    assert_int_equal(requests_heard, 2);
}

static void what_cannot_be_registered_is_asked_for(void **state)
{
    fake.refuse_region = true;
    begin_get(&key, PIECE);
    assert_asked(0, PIECE);
    transport->registrations.limit = PIECE;
    begin_get(&key, 2 * PIECE);
    assert_asked(0, 2 * PIECE);
    assert_int_equal(path->gets, 0);
}

/* What is under way ends first, and only then is the peer told that it may close. */
static void a_path_that_is_left_asks_for_the_rest(void **state)
{
    begin_get(&key, 7 * PIECE);
    complete_requests(1, IBV_WC_SUCCESS);
    ninja_path_handle(path, NINJA_PATH_PEER_DOWN);
    path->marker_received = true;
    assert_int_equal(markers(), 0);
    complete_requests(AT_A_TIME - 1, IBV_WC_SUCCESS);
    assert_int_equal(path->state, NINJA_PATH_DRAINING);
    assert_int_equal(markers(), 0);
    assert_null(asked());
    complete_requests(1, IBV_WC_SUCCESS);
    assert_int_equal(fake_verbs_pending(), 0);
    assert_int_equal(reads, 3);
    assert_int_equal(markers(), 1);
    assert_int_not_equal(path->state, NINJA_PATH_DRAINING);
    assert_asked(3 * PIECE, 4 * PIECE);
    answer(3 * PIECE, PIECE);
    assert_int_equal(completions, 0);
}

static void a_path_that_breaks_asks_for_the_rest(void **state)
{
    begin_get(&key, 3 * PIECE);
    complete_requests(1, IBV_WC_SUCCESS);
    complete_requests(1, IBV_WC_RETRY_EXC_ERR);
    /* The device may still write until its queue pair is destroyed. */
    wait_until_closed();
    assert_asked(PIECE, 2 * PIECE);
    assert_int_equal(completions, 0);
    memset(ours + PIECE, 0, 2 * PIECE);
    answer(PIECE, 2 * PIECE);
    assert_int_equal(completions, 1);
    assert_memory_equal(ours, theirs, 3 * PIECE);
}

/* The time to drain is up with reads under way: what comes of them afterwards does not count. */
static void a_path_that_is_closed_by_force_asks_for_the_rest(void **state)
{
    begin_get(&key, 7 * PIECE);
    complete_requests(1, IBV_WC_SUCCESS);
    ninja_path_handle(path, NINJA_PATH_RELEASE);
    ninja_path_handle(path, NINJA_PATH_TIMEOUT);
    assert_int_equal(path->state, NINJA_PATH_CLOSING);
    complete_requests(1, IBV_WC_SUCCESS);
    assert_null(asked());
    wait_until_closed();
    assert_int_equal(markers(), 0);
    assert_asked(PIECE, 6 * PIECE);
    assert_int_equal(completions, 0);
}

static void a_request_that_is_refused_breaks_the_path(void **state)
{
    fake.refuse_post = true;
    begin_get(&key, 3 * PIECE);
    wait_until_closed();
    assert_asked(0, 3 * PIECE);
}

static void one_of_two_requests_that_is_refused_breaks_the_path(void **state)
{
    fake.refuse_post = true;
    fake.takes = 1;
    begin_get(&key, 3 * PIECE);
    assert_int_equal(fake_verbs_pending(), 1);
    wait_until_closed();
    assert_int_equal(transport->requests, 0);
    assert_asked(0, 3 * PIECE);
}

static void exposed_memory_can_be_read(void **state)
{
    struct ninja_exposure exposure;

    ninja_core_expose(link_to_peer, ours, PIECE, &exposure);
    assert_int_equal(exposure.key.instance, transport->instance);
    assert_true(
        fake_verbs_covers((uintptr_t)ours, PIECE, exposure.key.key, IBV_ACCESS_REMOTE_READ));
    ninja_core_conceal(core, &exposure);
    assert_true(LIST_EMPTY(&core->exposures));
}

static void too_much_is_not_exposed(void **state)
{
    struct ninja_exposure exposure;

    transport->registrations.limit = PIECE;
    ninja_core_expose(link_to_peer, ours, 2 * PIECE, &exposure);
    assert_null(exposure.transport);
    assert_int_equal(exposure.key.instance, 0);
    ninja_core_conceal(core, &exposure);
}

/* Memory that waits for peers must leave room for what cannot wait. */
static void all_together_stay_within_the_limit(void **state)
{
    struct ninja_exposure first, second, third;

    transport->registrations.limit = 3 * PIECE;
    ninja_core_expose(link_to_peer, ours, 2 * PIECE, &first);
    ninja_core_expose(link_to_peer, ours + 2 * PIECE, 2 * PIECE, &second);
    ninja_core_expose(link_to_peer, ours + 4 * PIECE, PIECE, &third);
    assert_ptr_equal(first.transport, &transport->base);
    assert_null(second.transport);
    assert_ptr_equal(third.transport, &transport->base);
    begin_get(&key, PIECE);
    assert_asked(0, PIECE);
    ninja_core_conceal(core, &first);
    begin_get(&key, 2 * PIECE);
    assert_int_equal(path->gets, 1);
    ninja_core_conceal(core, &third);
    complete_requests(UINT32_MAX, IBV_WC_SUCCESS);
    assert_int_equal(transport->claimed, 0);
}

static void a_device_that_goes_exposes_nothing(void **state)
{
    struct ninja_exposure exposure;

    transport->down = true;
    ninja_core_expose(link_to_peer, ours, PIECE, &exposure);
    assert_null(exposure.transport);
    transport->down = false;
}

static void exposures_end_with_their_device(void **state)
{
    struct ninja_exposure first, second, third;

    ninja_core_expose(link_to_peer, ours, PIECE, &first);
    ninja_core_expose(link_to_peer, ours + 2 * PIECE, PIECE, &second);
    ninja_core_expose(link_to_peer, ours + 4 * PIECE, PIECE, &third);
    ninja_core_conceal(core, &second);
    ninja_exposures_end(core, &transport->base);
    assert_null(first.transport);
    assert_null(third.transport);
    ninja_core_conceal(core, &first);
    ninja_core_conceal(core, &third);
    assert_true(LIST_EMPTY(&core->exposures));
}

static void over_the_lifeline_nothing_is_exposed(void **state)
{
    struct ninja_exposure exposure;

    ninja_path_handle(path, NINJA_PATH_PEER_DOWN);
    ninja_core_expose(link_to_peer, ours, PIECE, &exposure);
    assert_null(exposure.transport);
    begin_get(&key, PIECE);
    assert_asked(0, PIECE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_is_read_in_pieces_without_a_frame, setup, teardown),
        cmocka_unit_test_setup_teardown(no_piece_is_longer_than_the_device_takes, setup, teardown),
        cmocka_unit_test_setup_teardown(several_are_read_one_after_the_other, setup, teardown),
        cmocka_unit_test_setup_teardown(short_ones_are_under_way_together, setup, teardown),
        cmocka_unit_test_setup_teardown(what_has_another_device_is_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_exposed_is_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_registered_is_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(a_path_that_is_left_asks_for_the_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(a_path_that_breaks_asks_for_the_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(a_path_that_is_closed_by_force_asks_for_the_rest, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_request_that_is_refused_breaks_the_path, setup, teardown),
        cmocka_unit_test_setup_teardown(one_of_two_requests_that_is_refused_breaks_the_path, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(exposed_memory_can_be_read, setup, teardown),
        cmocka_unit_test_setup_teardown(too_much_is_not_exposed, setup, teardown),
        cmocka_unit_test_setup_teardown(all_together_stay_within_the_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(a_device_that_goes_exposes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(exposures_end_with_their_device, setup, teardown),
        cmocka_unit_test_setup_teardown(over_the_lifeline_nothing_is_exposed, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
