/*
 * Fault injection: how it is configured, that its lots depend on the seed alone, and what each
 * fault does to frames and paths.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "rig.h"

#include <errno.h>
#include <poll.h>

/* Turns faults on in the rig, as configuration would; all of them for every frame unless said
 * otherwise. */
static void faults(const char *text)
{
    char why[512];

    assert_int_equal(ninja_fault_parse(&rig->core->fault, text, why, sizeof(why)), 0);
    ninja_fault_begin(rig->core);
}

/* Held back for so long that it surely is when the test looks, on the busiest machine too. */
#define HELD ",hold=60000,seed=1"

static void tick_after(unsigned milliseconds)
{
    (void)poll(NULL, 0, (int)milliseconds);
    ninja_gate_take(&rig->core->gate);
    (void)ninja_fault_tick(rig->core, ninja_now_ms());
    ninja_gate_give(&rig->core->gate);
}

static void open_path(void)
{
    rig->path->peer_up = true;
    rig->path->wanted = true;
    ninja_path_handle(rig->path, NINJA_PATH_START);
    ninja_path_handle(rig->path, NINJA_PATH_ACCEPT);
    ninja_path_handle(rig->path, NINJA_PATH_ECHO);
    assert_int_equal(rig->path->state, NINJA_PATH_OPEN);
    rig_give_back(&rig->lifeline);
    rig_give_back(&rig->device);
}

static uint64_t sent(const struct rig_transport *transport, unsigned index)
{
    assert_true(index < transport->count);
    return transport->sent[index]->header.sequence;
}

/* --- Configuration and lots ------------------------------------------------------------------ */

static void configuration_is_read(void **state)
{
    struct ninja_fault fault;
    char why[512];

    assert_int_equal(ninja_fault_parse(&fault, NULL, why, sizeof(why)), 0);
    assert_false(fault.on);
    assert_int_equal(ninja_fault_parse(&fault, "seed=4", why, sizeof(why)), 0);
    assert_false(fault.on);
    assert_int_equal(
        ninja_fault_parse(&fault, "reset=20,kill=0,hold=7,gone=0,seed=4", why, sizeof(why)), 0);
    assert_true(fault.on);
    assert_int_equal(fault.rate[NINJA_FAULT_RESET], 20);
    assert_int_equal(fault.rate[NINJA_FAULT_KILL], 0);
    assert_int_equal(fault.hold_ms, 7);
    assert_int_equal(fault.gone_ms, 0);
    assert_int_equal(fault.seed, 4);
}

static void nonsense_is_refused(void **state)
{
    static const char *const nonsense[] = {"reset",
                                           "reset=",
                                           "reset=2x",
                                           "reset=-1",
                                           "melt=2",
                                           "=2",
                                           ",",
                                           "hold=0",
                                           "rese=2",
                                           "drop=1;",
                                           "drop= 1",
                                           "reset=99999999999",
                                           "seed=99999999999999999999"};
    struct ninja_fault fault;
    char why[512];

    for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
        if (ninja_fault_parse(&fault, nonsense[i], why, sizeof(why)) != -EINVAL)
            fail_msg("'%s' was taken", nonsense[i]);
        assert_non_null(strstr(why, "duplicate"));
    }
}

static void lots_depend_on_seed_ranks_and_number_only(void **state)
{
    struct ninja_frame_header header = {.type = NINJA_FRAME_DATA};
    unsigned hit[NINJA_FAULT_KINDS + 1] = {0}, differ = 0, again = 0;
    struct ninja_fault fault;
    uint64_t random, random2;
    char why[512];

    assert_int_equal(ninja_fault_parse(&fault, "drop=10,delay=100,seed=5", why, sizeof(why)), 0);
    for (header.sequence = 1; header.sequence <= 100000; header.sequence++) {
        enum ninja_fault_kind kind = ninja_fault_draw(&fault, 1, 2, &header, 0, &random);

        hit[kind]++;
        assert_int_equal(ninja_fault_draw(&fault, 1, 2, &header, 0, &random2), kind);
        if (kind != NINJA_FAULT_NONE)
            assert_int_equal(random, random2);
        differ += ninja_fault_draw(&fault, 2, 1, &header, 0, &random) != kind;
        again += ninja_fault_draw(&fault, 1, 2, &header, 1, &random) == NINJA_FAULT_DROP &&
                 kind == NINJA_FAULT_DROP;
    }
    assert_in_range(hit[NINJA_FAULT_DROP], 9500, 10500);
    assert_in_range(hit[NINJA_FAULT_DELAY], 750, 1050);
    assert_int_equal(hit[NINJA_FAULT_DUPLICATE], 0);
    assert_in_range(differ, 15000, 25000);
    /* A frame that was lost once is lost again with the same likelihood only. */
    assert_in_range(again, 800, 1200);
}

/* --- What is done to frames ------------------------------------------------------------------ */

static void duplicated_frame_is_sent_twice(void **state)
{
    faults("duplicate=1" HELD);
    assert_true(rig_send(8));
    assert_int_equal(rig->lifeline.count, 1);
    ninja_fault_end(rig->core);
    assert_int_equal(rig->lifeline.count, 2);
    assert_int_equal(sent(&rig->lifeline, 0), sent(&rig->lifeline, 1));
    assert_ptr_not_equal(rig->lifeline.sent[0], rig->lifeline.sent[1]);
    assert_memory_equal(rig->lifeline.sent[0]->data, rig->lifeline.sent[1]->data, 8);
    assert_int_equal(rig->core->fault.injected[NINJA_FAULT_DUPLICATE], 1);
}

static void duplicate_needs_no_buffer_of_the_user(void **state)
{
    struct ninja_frame *frame = ninja_core_frame_new(rig->core, 4);
    char *user = malloc(1000);
    const struct ninja_frame *copy;

    memset(user, 9, 1000);
    frame->inline_length = 4;
    memset(frame->data, 8, 4);
    frame->place = user;
    frame->place_length = 1000;
    faults("duplicate=1,hold=5,seed=1");
    assert_false(ninja_core_send(rig->link, frame, 1, NULL, NULL));
    memset(user, 0, 1000);
    free(user); /* as if it had been acknowledged */
    tick_after(7);
    assert_int_equal(rig->lifeline.count, 2);
    copy = rig->lifeline.sent[1];
    assert_int_equal(copy->inline_length, 4);
    assert_int_equal(copy->place_length, 1000);
    assert_int_equal(copy->header.length, 1004);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(((const char *)copy->place)[i], 9);
}

static void reordered_frame_is_overtaken(void **state)
{
    unsigned overtaken = 0;

    rig->tuning.retain_low = 1U << 20;
    faults("reorder=3,hold=1000,seed=2");
    for (unsigned i = 0; i < 60; i++)
        assert_true(rig_send(8));
    /* Each number leaves once at most, and what is missing is still held. */
    for (unsigned i = 0; i < rig->lifeline.count; i++)
        for (unsigned j = i + 1; j < rig->lifeline.count; j++) {
            assert_int_not_equal(sent(&rig->lifeline, i), sent(&rig->lifeline, j));
            overtaken += sent(&rig->lifeline, i) > sent(&rig->lifeline, j);
        }
    assert_in_range(rig->core->fault.injected[NINJA_FAULT_REORDER], 10, 30);
    assert_true(overtaken >= 10);
    assert_in_range(rig->lifeline.count, 52, 60);
    ninja_fault_end(rig->core);
    assert_int_equal(rig->lifeline.count, 60);
}

static void reordered_frame_leaves_without_others(void **state)
{
    faults("reorder=1,hold=5,seed=1");
    assert_true(rig_send(8));
    assert_int_equal(rig->core->fault.injected[NINJA_FAULT_REORDER], 1);
    tick_after(7);
    assert_int_equal(rig->lifeline.count, 1);
}

static void delayed_frame_holds_up_those_behind(void **state)
{
    faults("delay=1" HELD);
    assert_true(rig_send(8));
    rig->core->fault.rate[NINJA_FAULT_DELAY] = 0;
    assert_true(rig_send(8));
    assert_int_equal(rig->lifeline.count, 0);
    ninja_fault_end(rig->core);
    assert_int_equal(rig->lifeline.count, 2);
    assert_int_equal(sent(&rig->lifeline, 0), 1);
    assert_int_equal(sent(&rig->lifeline, 1), 2);
}

static void delayed_frame_leaves_in_time(void **state)
{
    faults("delay=1,hold=5,seed=1");
    assert_true(rig_send(8));
    assert_int_equal(rig->core->fault.injected[NINJA_FAULT_DELAY], 1);
    tick_after(7);
    assert_int_equal(rig->lifeline.count, 1);
}

static void dropped_frame_breaks_the_path_and_is_replayed(void **state)
{
    open_path();
    faults("drop=1,hold=5,seed=1");
    assert_true(rig_send(8));
    rig->core->fault.rate[NINJA_FAULT_DROP] = 0;
    assert_true(rig_send(8));
    assert_int_equal(rig->device.count, 1);
    assert_int_equal(sent(&rig->device, 0), 2);
    assert_int_equal(rig->path->state, NINJA_PATH_OPEN);
    tick_after(7);
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
    /* Both again: neither was acknowledged. */
    assert_int_equal(rig->link->counters.replayed, 2);
    assert_true(rig->link->data.head->handed);
    assert_int_equal(rig->link->data.head->header.generation, 0);
}

static void handshakes_draw_no_lots(void **state)
{
    faults("drop=1,hold=5,seed=1");
    rig->path->peer_up = true;
    rig->path->wanted = true;
    rig->core->fault.rate[NINJA_FAULT_DROP] = 0;
    ninja_path_handle(rig->path, NINJA_PATH_START);
    rig->core->fault.rate[NINJA_FAULT_DROP] = 1;
    ninja_path_handle(rig->path, NINJA_PATH_ACCEPT);
    assert_int_equal(rig->device.count, 1);
    assert_int_equal(rig->device.sent[0]->header.type, NINJA_FRAME_PROBE);
}

static void reset_breaks_the_path_of_the_frame(void **state)
{
    open_path();
    faults("reset=1,hold=5,seed=1");
    assert_true(rig_send(8));
    assert_int_equal(rig->device.count, 1);
    rig->core->fault.rate[NINJA_FAULT_RESET] = 0;
    tick_after(7);
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
    assert_int_equal(rig->fabric->state, NINJA_FABRIC_UP);
    assert_int_not_equal(rig->path->deadline_ms, 0); /* it will be tried again */
}

static void kill_takes_the_fabric_and_brings_it_back(void **state)
{
    open_path();
    faults("kill=1,hold=5,gone=50,seed=1");
    assert_true(rig_send(8));
    rig->core->fault.rate[NINJA_FAULT_KILL] = 0;
    tick_after(7);
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
    assert_int_equal(rig->fabric->state, NINJA_FABRIC_RELEASING);
    assert_int_not_equal(rig->fabric->revive_at_ms, 0);
    /* A release that comes meanwhile is obeyed: the device is not the rank's any more. */
    ninja_gate_take(&rig->core->gate);
    ninja_fabric_handle(rig->fabric, NINJA_FABRIC_RELEASE, 0);
    ninja_gate_give(&rig->core->gate);
    assert_int_equal(rig->fabric->revive_at_ms, 0);
}

static void lifeline_is_not_killed(void **state)
{
    faults("kill=1,hold=5,seed=1");
    assert_true(rig_send(8));
    assert_int_equal(rig->lifeline.count, 1);
    assert_int_equal(rig->core->fault.injected[NINJA_FAULT_KILL], 0);
    tick_after(7);
}

static enum ninja_fault_kind injected[4];
static unsigned injected_count;

static void note_injected(struct ninja_path *path, enum ninja_fault_kind kind)
{
    assert_ptr_equal(path, rig->path);
    assert_true(injected_count < 4);
    injected[injected_count++] = kind;
}

/* Those of the device are the transport's business; the frame leaves as always. */
static void faults_of_the_device_are_left_to_the_transport(void **state)
{
    static const char *const names[] = {"post=1", "completion=1", "queue=1", "fatal=1"};
    struct ninja_transport_ops able = *rig->device.base.ops;
    struct ninja_transport *transport;

    open_path();
    transport = rig->path->transport;
    able.inject = note_injected;
    injected_count = 0;
    for (unsigned i = 0; i < 4; i++) {
        const struct ninja_transport_ops *unable = transport->ops;

        faults(names[i]);
        assert_true(rig_send(8));
        assert_int_equal(injected_count, i); /* this transport has no such faults */
        assert_int_equal(rig->core->fault.injected[NINJA_FAULT_POST + i], 0);
        transport->ops = &able;
        assert_true(rig_send(8));
        transport->ops = unable;
        assert_int_equal(injected_count, i + 1);
        assert_int_equal(injected[i], NINJA_FAULT_POST + i);
        assert_int_equal(rig->core->fault.injected[NINJA_FAULT_POST + i], 1);
    }
    assert_int_equal(rig->device.count, 8);
}

static void what_is_held_back_goes_with_its_path(void **state)
{
    open_path();
    faults("reorder=1,hold=1000,seed=1");
    assert_true(rig_send(8));
    assert_int_equal(rig->device.count, 0);
    rig->core->fault.rate[NINJA_FAULT_REORDER] = 0;
    ninja_path_failed(rig->path, -EIO, "test");
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
    rig_give_back(&rig->lifeline);
    open_path();
    ninja_fault_end(rig->core);
    assert_int_equal(rig->device.count, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configuration_is_read),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(lots_depend_on_seed_ranks_and_number_only),
        TEST(duplicated_frame_is_sent_twice),
        TEST(duplicate_needs_no_buffer_of_the_user),
        TEST(reordered_frame_is_overtaken),
        TEST(reordered_frame_leaves_without_others),
        TEST(delayed_frame_holds_up_those_behind),
        TEST(delayed_frame_leaves_in_time),
        TEST(dropped_frame_breaks_the_path_and_is_replayed),
        TEST(handshakes_draw_no_lots),
        TEST(reset_breaks_the_path_of_the_frame),
        TEST(kill_takes_the_fabric_and_brings_it_back),
        TEST(lifeline_is_not_killed),
        TEST(faults_of_the_device_are_left_to_the_transport),
        TEST(what_is_held_back_goes_with_its_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
