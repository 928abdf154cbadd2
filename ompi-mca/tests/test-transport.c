/*
 * Tests a transport alone, between two ends in one process: ucx over shared memory and over UCX's
 * TCP on the loopback, or what $NINJA_TEST_TRANSPORT names, such as verbs@rxe0.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "../common/transport-ucx.h"
#include "transport-fixture.h"

static const uint32_t sizes[] = {0,     1,      47,     48,     255,     256,
                                 4096,  8191,   8192,   8300,   65535,   65536,
                                 72000, 131072, 262145, 524288, 1048575, 1048576};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static struct end *ends;

static const char *test_device;

static int set_up(void **state)
{
    ends = calloc(2, sizeof(*ends));
    ends_open(ends, test_device);
    return 0;
}

static int tear_down(void **state)
{
    for (int i = 0; i < 2; i++)
        if (ends[i].path.transport != NULL)
            path_close_one(ends, &ends[i]);
    ends_close(ends);
    free(ends);
    return 0;
}

/* All that `from` has queued is at the other end, intact, once, and has been given back. */
static void assert_all_arrived(struct end *from, struct end *to)
{
    WAIT_FOR(ends, to->arrivals == from->queued && from->returned == from->queued);
    assert_int_equal(to->corrupt, 0);
    assert_int_equal(to->duplicates, 0);
    assert_int_equal(to->landings_overlapped, 0);
    for (unsigned i = 1; i <= from->queued; i++)
        assert_true(to->arrived[i]);
}

/* --- Frames ---------------------------------------------------------------------------------- */

static void test_inline_frames_of_all_sizes(void **state)
{
    paths_open(ends);
    for (unsigned i = 0; i < SIZES; i++)
        frame_queue(&ends[0], NINJA_FRAME_DATA, sizes[i], 0);
    assert_all_arrived(&ends[0], &ends[1]);
}

static void test_frames_with_place_of_all_sizes(void **state)
{
    paths_open(ends);
    for (unsigned i = 0; i < SIZES; i++) {
        uint32_t inline_length = sizes[i] < 56 ? sizes[i] : 56;

        frame_queue(&ends[1], NINJA_FRAME_DATA, inline_length, sizes[i] - inline_length);
        frame_queue(&ends[1], NINJA_FRAME_DATA, 0, sizes[i]);
    }
    assert_all_arrived(&ends[1], &ends[0]);
}

static void test_placed_frames_of_all_sizes(void **state)
{
    paths_open(ends);
    for (unsigned round = 0; round < 4; round++)
        for (unsigned i = 0; i < SIZES; i++)
            frame_queue(&ends[0], NINJA_FRAME_GET_DATA, 0, sizes[i]);
    assert_all_arrived(&ends[0], &ends[1]);
    assert_int_equal(ends[1].placed, ends[0].queued);
}

static void test_small_frames_arrive_in_order(void **state)
{
    paths_open(ends);
    for (unsigned i = 0; i < 4000; i++)
        frame_queue(&ends[0], NINJA_FRAME_DATA, i % 200, 0);
    assert_all_arrived(&ends[0], &ends[1]);
    assert_int_equal(ends[1].disordered, 0);
}

/* More frames than a path may have requests, in one go: they go in messages of many. */
static void test_small_frames_share_messages(void **state)
{
    if (transport_ops != &ninja_transport_verbs)
        skip();
    paths_open(ends);
    for (unsigned i = 0; i < 1000; i++)
        frame_queue(&ends[0], NINJA_FRAME_DATA, 100, 0);
    pump(&ends[0]);
    assert_int_equal(ends[0].taken, 1000);
    assert_all_arrived(&ends[0], &ends[1]);
    assert_int_equal(ends[1].disordered, 0);
}

static void test_both_directions_at_once(void **state)
{
    paths_open(ends);
    for (unsigned i = 0; i < 400; i++)
        for (int side = 0; side < 2; side++)
            frame_queue(&ends[side], i % 3 == 0 ? NINJA_FRAME_GET_DATA : NINJA_FRAME_DATA, 0,
                        sizes[(i + 5 * side) % SIZES] / 4);
    WAIT_FOR(ends, ends[0].arrivals == 400 && ends[1].arrivals == 400);
    assert_all_arrived(&ends[0], &ends[1]);
    assert_all_arrived(&ends[1], &ends[0]);
}

static void test_frames_that_must_wait_arrive_later(void **state)
{
    paths_open(ends);
    ends[1].force = NINJA_LANDING_WAIT;
    for (unsigned i = 0; i < 60; i++)
        frame_queue(&ends[0], i % 2 == 0 ? NINJA_FRAME_DATA : NINJA_FRAME_GET_DATA, 0,
                    sizes[i % SIZES] / 8);
    WAIT_FOR(ends, ends[1].asked > 1000);
    assert_int_equal(ends[1].arrivals, 0);
    ends[1].force = NINJA_LANDING_COPY;
    assert_all_arrived(&ends[0], &ends[1]);
}

static void test_acknowledgements_pass_waiting_frames(void **state)
{
    paths_open(ends);
    ends[1].force = NINJA_LANDING_WAIT;
    frame_queue(&ends[0], NINJA_FRAME_DATA, 100, 0);
    frame_queue(&ends[0], NINJA_FRAME_ACK, 0, 0);
    WAIT_FOR(ends, ends[1].arrivals == 1);
    assert_true(ends[1].arrived[2]);
    ends[1].force = NINJA_LANDING_COPY;
    assert_all_arrived(&ends[0], &ends[1]);
}

static void test_discarded_frames_come_back(void **state)
{
    paths_open(ends);
    ends[1].force = NINJA_LANDING_DISCARD;
    for (unsigned i = 0; i < SIZES; i++)
        frame_queue(&ends[0], NINJA_FRAME_DATA, 0, sizes[i]);
    WAIT_FOR(ends, ends[1].arrivals == SIZES && ends[0].returned == SIZES);
}

static void test_sends_in_flight_are_bounded(void **state)
{
    paths_open(ends);
    frame_queue(&ends[0], NINJA_FRAME_DATA, 8, 0);
    assert_all_arrived(&ends[0], &ends[1]);
    for (unsigned i = 0; i < 100; i++)
        frame_queue(&ends[0], NINJA_FRAME_GET_DATA, 0, NINJA_FRAME_PAYLOAD_MAX);
    /* The other end stands still. */
    for (unsigned i = 0; i < 1000; i++) {
        pump(&ends[0]);
        (void)transport_ops->progress(ends[0].transport);
    }
    assert_in_range(ends[0].taken - ends[0].returned, 1, 32);
    assert_all_arrived(&ends[0], &ends[1]);
}

/* --- Closing and opening --------------------------------------------------------------------- */

/* Closes the path of end `first` with much in flight both ways: nothing may stay with the
 * transport. */
static void close_in_flight(int first, unsigned turns)
{
    paths_open(ends);
    for (unsigned i = 0; i < 64; i++)
        for (int side = 0; side < 2; side++)
            frame_queue(&ends[side], i % 2 == 0 ? NINJA_FRAME_GET_DATA : NINJA_FRAME_DATA, 0,
                        sizes[SIZES - 1 - i % 8]);
    for (unsigned i = 0; i < turns; i++)
        turn(ends);
    path_close_one(ends, &ends[first]);
    assert_int_equal(ends[first].taken, ends[first].returned);
    path_close_one(ends, &ends[1 - first]);
    assert_int_equal(ends[1 - first].taken, ends[1 - first].returned);
    for (int side = 0; side < 2; side++) {
        assert_int_equal(ends[side].corrupt, 0);
        assert_int_equal(ends[side].duplicates, 0);
        frames_reset(&ends[side]);
    }
}

static void test_close_with_frames_in_flight(void **state)
{
    for (unsigned turns = 0; turns < 60; turns += 3)
        close_in_flight(turns % 2, turns);
}

static void test_nothing_lands_after_the_path_is_closed(void **state)
{
    unsigned arrivals;

    paths_open(ends);
    for (unsigned i = 0; i < 7; i++)
        frame_queue(&ends[0], NINJA_FRAME_GET_DATA, 0, NINJA_FRAME_PAYLOAD_MAX);
    WAIT_FOR(ends, ends[1].arrivals > 0);
    path_close_one(ends, &ends[1]);
    arrivals = ends[1].arrivals;
    memset(ends[1].landing, 0xee, LANDING_SIZE);
    for (unsigned i = 0; i < 2000; i++)
        turn(ends);
    for (size_t i = 0; i < LANDING_SIZE; i++)
        assert_int_equal(ends[1].landing[i], 0xee);
    assert_int_equal(ends[1].arrivals, arrivals);
    path_close_one(ends, &ends[0]);
}

static void test_close_drops_what_waits(void **state)
{
    paths_open(ends);
    ends[1].force = NINJA_LANDING_WAIT;
    for (unsigned i = 0; i < SIZES; i++)
        frame_queue(&ends[0], NINJA_FRAME_DATA, 0, sizes[i]);
    WAIT_FOR(ends, ends[1].asked > 100);
    path_close_one(ends, &ends[1]);
    path_close_one(ends, &ends[0]);
    assert_int_equal(ends[1].arrivals, 0);
}

static void test_reopened_paths_work(void **state)
{
    for (unsigned round = 0; round < 20; round++) {
        paths_open(ends);
        for (unsigned i = 0; i < SIZES; i++) {
            frame_queue(&ends[0], NINJA_FRAME_DATA, sizes[i], 0);
            frame_queue(&ends[1], NINJA_FRAME_GET_DATA, 0, sizes[i]);
        }
        assert_all_arrived(&ends[0], &ends[1]);
        assert_all_arrived(&ends[1], &ends[0]);
        path_close_one(ends, &ends[round % 2]);
        path_close_one(ends, &ends[1 - round % 2]);
        frames_reset(&ends[0]);
        frames_reset(&ends[1]);
    }
}

/* UCX pairs endpoints by counting: an opening that one side did not see must not cross later ones.
 */
static void test_openings_of_one_side_do_no_harm(void **state)
{
    for (unsigned round = 0; round < 6; round++) {
        uint32_t generation = 1000 + round;
        int lonely = round % 3 == 0 ? 1 : 0;

        path_prepare_one(&ends[0]);
        path_prepare_one(&ends[1]);
        path_forget_one(&ends[1 - lonely]);
        assert_int_equal(path_open_one(&ends[lonely], &ends[1 - lonely], generation, lonely == 0),
                         0);
        for (unsigned i = 0; i < 300; i++)
            turn(ends);
        path_close_one(ends, &ends[lonely]);
        paths_open(ends);
        frame_queue(&ends[0], NINJA_FRAME_DATA, 100, 0);
        frame_queue(&ends[1], NINJA_FRAME_DATA, 100, 0);
        assert_all_arrived(&ends[0], &ends[1]);
        assert_all_arrived(&ends[1], &ends[0]);
        path_close_one(ends, &ends[0]);
        path_close_one(ends, &ends[1]);
        frames_reset(&ends[0]);
        frames_reset(&ends[1]);
    }
}

static void test_hello_with_wrong_nonce_is_ignored(void **state)
{
    if (transport_ops != &ninja_transport_ucx)
        skip(); /* has no HELLO */
    path_prepare_one(&ends[0]);
    path_prepare_one(&ends[1]);
    assert_int_equal(path_open_one(&ends[1], &ends[0], 77, false), 0);
    ends[1].path.nonce++;
    assert_int_equal(path_open_one(&ends[0], &ends[1], 77, true), 0);
    frame_queue(&ends[0], NINJA_FRAME_DATA, 100, 0);
    for (unsigned i = 0; i < 3000; i++)
        turn(ends);
    assert_int_equal(ends[1].arrivals, 0);
    assert_int_equal(ends[0].taken, 0);
}

static void test_malformed_address_is_refused(void **state)
{
    static const unsigned char zeros[64];
    struct ninja_path *path = &ends[0].path;

    path_prepare_one(&ends[1]);
    path_prepare_one(&ends[0]);
    assert_int_equal(transport_ops->path_open(path, zeros, 3, true), -EPROTO);
    assert_int_equal(transport_ops->path_open(path, zeros, sizeof(zeros), true), -EPROTO);
    assert_int_equal(
        transport_ops->path_open(path, ends[1].address, ends[1].address_size - 1, true), -EPROTO);
    path_forget_one(&ends[0]);
    path_forget_one(&ends[1]);
}

static unsigned open_files(void)
{
    DIR *directory = opendir("/proc/self/fd");
    unsigned count = 0;

    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

static void test_open_and_close_leave_no_files(void **state)
{
    unsigned before = 0;

    for (unsigned round = 0; round < 8; round++) {
        ends = calloc(2, sizeof(*ends));
        ends_open(ends, test_device);
        paths_open(ends);
        frame_queue(&ends[0], NINJA_FRAME_DATA, 5000, 0);
        assert_all_arrived(&ends[0], &ends[1]);
        path_close_one(ends, &ends[0]);
        path_close_one(ends, &ends[1]);
        ends_close(ends);
        free(ends);
        if (round == 0)
            before = open_files();
    }
    assert_int_equal(open_files(), before);
}

/* --- Events and errors ----------------------------------------------------------------------- */

static void test_event_file_wakes_a_sleeper(void **state)
{
    struct pollfd wait = {.fd = ends[1].transport->event_fd, .events = POLLIN};

    paths_open(ends);
    ends[1].core.control_progress = true;
    for (unsigned round = 0; round < 50; round++) {
        uint64_t limit = ninja_now_ms() + 5000;

        /* Until there is nothing left to do: then it sleeps. */
        do {
            for (unsigned idle = 0; idle < 20;) {
                idle = transport_ops->progress(ends[1].transport) == 0 ? idle + 1 : 0;
                (void)transport_ops->progress(ends[0].transport);
                assert_true(ninja_now_ms() < limit);
            }
        } while (poll(&wait, 1, 20) != 0);
        frame_queue(&ends[0], NINJA_FRAME_DATA, 64, 0);
        pump(&ends[0]);
        while (poll(&wait, 1, 0) == 0) {
            (void)transport_ops->progress(ends[0].transport);
            assert_true(ninja_now_ms() < limit);
        }
        while (ends[1].arrivals != ends[0].queued) {
            (void)transport_ops->progress(ends[0].transport);
            (void)transport_ops->progress(ends[1].transport);
            assert_true(ninja_now_ms() < limit);
        }
    }
    assert_all_arrived(&ends[0], &ends[1]);
}

/* Runs end 1 in a child that is killed in the middle; end 0 must hear of it, and get all back. */
static void test_killed_peer_fails_the_path(void **state)
{
    int to_child[2], from_child[2], status;
    struct pollfd arrived;
    uint64_t begin;
    struct end *mine;
    char byte;
    pid_t child;

    if (strcmp(test_device, "ucx-shm") == 0)
        skip(); /* it notices nothing */
    assert_int_equal(pipe(to_child), 0);
    assert_int_equal(pipe(from_child), 0);
    fflush(stdout);
    arrived = (struct pollfd){.fd = from_child[0], .events = POLLIN};
    child = fork();
    if (child == 0) {
        alarm(60);
        ends = calloc(2, sizeof(*ends));
        ends_open(ends, test_device);
        path_prepare_one(&ends[1]);
        if (write(from_child[1], &ends[1].address_size, sizeof(size_t)) < 0 ||
            write(from_child[1], ends[1].address, sizeof(ends[1].address)) < 0 ||
            read(to_child[0], &ends[0].address_size, sizeof(size_t)) < 0 ||
            read(to_child[0], ends[0].address, sizeof(ends[0].address)) < 0)
            _exit(1);
        if (path_open_one(&ends[1], &ends[0], 5, false) != 0 || write(from_child[1], "o", 1) < 0)
            _exit(1);
        while (ends[1].arrivals < 10)
            turn(ends);
        (void)!write(from_child[1], "a", 1);
        pause();
    }
    ends = calloc(2, sizeof(*ends));
    ends_open(ends, test_device);
    mine = &ends[0];
    path_prepare_one(mine);
    assert_int_equal(read(from_child[0], &ends[1].address_size, sizeof(size_t)), sizeof(size_t));
    assert_int_equal(read(from_child[0], ends[1].address, sizeof(ends[1].address)),
                     sizeof(ends[1].address));
    assert_int_equal(write(to_child[1], &mine->address_size, sizeof(size_t)), sizeof(size_t));
    assert_int_equal(write(to_child[1], mine->address, sizeof(mine->address)),
                     sizeof(mine->address));
    assert_int_equal(read(from_child[0], &byte, 1), 1);
    assert_int_equal(path_open_one(mine, &ends[1], 5, true), 0);
    for (unsigned i = 0; i < 10; i++)
        frame_queue(mine, NINJA_FRAME_DATA, 100, 0);
    WAIT_FOR(ends, poll(&arrived, 1, 0) == 1);
    kill(child, SIGKILL);
    /* Only what must be sent finds out; a rendezvous would wait for the peer without sending. */
    for (unsigned i = 0; i < 40; i++)
        frame_queue(mine, NINJA_FRAME_DATA, 100, 0);
    frame_queue(mine, NINJA_FRAME_DATA, 0, NINJA_FRAME_PAYLOAD_MAX);
    assert_int_equal(waitpid(child, &status, 0), child);
    begin = ninja_now_ms();
    WAIT_FOR(ends, mine->failed != 0);
    printf("# noticed after %u ms\n", (unsigned)(ninja_now_ms() - begin));
    WAIT_FOR(ends, mine->closed);
    assert_int_equal(mine->taken, mine->returned);
    for (int i = 0; i < 2; i++) {
        close(to_child[i]);
        close(from_child[i]);
    }
    ends_close(ends);
    free(ends);
}

/* Every name in our settings is one that UCX knows; UCX itself would not say so. */
static void test_settings_are_known_to_ucx(void **state)
{
    char line[512];
    bool found[32] = {false};
    unsigned count = 0;
    FILE *pipe = popen("ucx_info -c 2>/dev/null", "r");

    assert_non_null(pipe);
    while (fgets(line, sizeof(line), pipe) != NULL)
        for (count = 0; ninja_ucx_setting_name(count) != NULL; count++) {
            size_t length = strlen(ninja_ucx_setting_name(count));

            if (strncmp(line, "UCX_", 4) == 0 &&
                strncmp(line + 4, ninja_ucx_setting_name(count), length) == 0 &&
                line[4 + length] == '=')
                found[count] = true;
        }
    if (pclose(pipe) != 0 || count == 0) {
        printf("# ucx_info (package ucx-utils) is not here\n");
        skip();
    }
    for (unsigned i = 0; i < count; i++)
        if (!found[i])
            fail_msg("UCX does not know %s", ninja_ucx_setting_name(i));
}

/* The optional argument is a pattern: only tests whose names match run. */
int main(int argc, char **argv)
{
#define WITH_ENDS(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings_are_known_to_ucx),
        WITH_ENDS(test_inline_frames_of_all_sizes),
        WITH_ENDS(test_frames_with_place_of_all_sizes),
        WITH_ENDS(test_placed_frames_of_all_sizes),
        WITH_ENDS(test_small_frames_arrive_in_order),
        WITH_ENDS(test_small_frames_share_messages),
        WITH_ENDS(test_both_directions_at_once),
        WITH_ENDS(test_frames_that_must_wait_arrive_later),
        WITH_ENDS(test_acknowledgements_pass_waiting_frames),
        WITH_ENDS(test_discarded_frames_come_back),
        WITH_ENDS(test_sends_in_flight_are_bounded),
        WITH_ENDS(test_close_with_frames_in_flight),
        WITH_ENDS(test_nothing_lands_after_the_path_is_closed),
        WITH_ENDS(test_close_drops_what_waits),
        WITH_ENDS(test_reopened_paths_work),
        WITH_ENDS(test_openings_of_one_side_do_no_harm),
        WITH_ENDS(test_hello_with_wrong_nonce_is_ignored),
        WITH_ENDS(test_malformed_address_is_refused),
        WITH_ENDS(test_event_file_wakes_a_sleeper),
        cmocka_unit_test(test_open_and_close_leave_no_files),
        cmocka_unit_test(test_killed_peer_fails_the_path),
    };

    static const char *const transports[] = {"ucx@ucx-shm", "ucx@ucx-tcp:lo"};
    const char *named = getenv("NINJA_TEST_TRANSPORT");
    unsigned count = named != NULL ? 1 : 2;
    int failed = 0;

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (unsigned i = 0; i < count; i++) {
        const char *name = named != NULL ? named : transports[i];

        transport_ops =
            strncmp(name, "verbs@", 6) == 0 ? &ninja_transport_verbs : &ninja_transport_ucx;
        test_device = strchr(name, '@') != NULL ? strchr(name, '@') + 1 : "";
        printf("# over %s\n", name);
        failed += cmocka_run_group_tests(tests, NULL, NULL);
    }
    return failed != 0;
}
