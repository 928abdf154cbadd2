/*
 * Links: order, duplicates, numbers beyond 32 bits, retention marks, replay, landings of large
 * data.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "rig.h"

#include <errno.h>
#include <unistd.h>

#include "control.h"

static void count_completion(void *context, int status)
{
    rig->completions++;
}

static struct ninja_path *lifeline(void)
{
    return &rig->link->lifeline_path;
}

/* Opens the rig's path as initiator; our half-link is on it afterwards. */
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

static void assert_received(const uint64_t *numbers, unsigned count)
{
    assert_int_equal(rig->received_count, count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(rig->received[i], numbers[i]);
}

static void early_frames_wait_for_their_turn(void **state)
{
    const uint64_t in_order[] = {1, 2, 3, 4, 5};

    rig_arrive(lifeline(), 3);
    rig_arrive(lifeline(), 5);
    rig_arrive(lifeline(), 1);
    assert_received(in_order, 1);
    rig_arrive(lifeline(), 4);
    rig_arrive(lifeline(), 2);
    assert_received(in_order, 5);
    assert_int_equal(rig->link->data.early_bytes, 0);
    assert_null(rig->link->data.early);
}

/* A fast path may bring everything that the application has sent before a slow one brings its last
 * frame. */
static void early_frames_may_take_much_memory(void **state)
{
    enum { FRAMES = 300, SIZE = 1 << 20 };
    struct ninja_frame_header header = {
        .magic = NINJA_FRAME_MAGIC, .type = NINJA_FRAME_DATA, .length = SIZE};
    unsigned char *payload = calloc(1, SIZE);

    /* They are kept for the next pass: the rig's upper layer expects the payload of rig_arrive().
     */
    rig->core->control_progress = true;
    for (header.sequence = FRAMES; header.sequence >= 1; header.sequence--)
        ninja_path_received(lifeline(), &header, payload);
    free(payload);
    assert_int_equal(rig->link->data.received, FRAMES);
    assert_int_equal(rig->link->data.early_bytes, 0);
}

static void many_early_frames_are_cheap(void **state)
{
    enum { FRAMES = 200000 };
    uint64_t begin = ninja_now_ms();

    /* One path has lost its connection with frame 1 on it, another goes on. */
    rig->core->control_progress = true;
    for (uint64_t i = 2; i <= FRAMES; i++)
        rig_arrive(lifeline(), i);
    rig_arrive(lifeline(), 1);
    assert_int_equal(rig->link->data.received, FRAMES);
    assert_null(rig->link->data.early);
    assert_in_range(ninja_now_ms() - begin, 0, 3000);
    rig_arrive(lifeline(), FRAMES + 3);
    rig_arrive(lifeline(), FRAMES + 2);
    rig_arrive(lifeline(), FRAMES + 1);
    assert_int_equal(rig->link->data.received, FRAMES + 3);
}

static void duplicates_are_dropped_and_acknowledged_again(void **state)
{
    const uint64_t once[] = {1, 2, 3};

    rig_arrive(lifeline(), 1);
    rig_arrive(lifeline(), 3);
    rig_arrive(lifeline(), 1);
    rig_arrive(lifeline(), 3);
    rig_arrive(lifeline(), 2);
    rig_arrive(lifeline(), 2);
    assert_received(once, 3);
    assert_int_equal(rig->link->counters.duplicates, 3);
    assert_true(rig->link->data.acknowledge_now);
    (void)ninja_core_pass(rig->core);
    assert_int_equal(rig->lifeline.sent[rig->lifeline.count - 1]->header.type, NINJA_FRAME_ACK);
    assert_int_equal(rig->lifeline.sent[rig->lifeline.count - 1]->header.acknowledged, 3);
}

static void numbers_go_beyond_32_bits(void **state)
{
    const uint64_t base = UINT32_MAX - 1;
    const uint64_t numbers[] = {base + 1, base + 2, base + 3, base + 4};

    rig->link->data.received = base;
    rig->link->data.next_sequence = base + 1;
    rig->link->data.acknowledged = base;
    for (unsigned i = 4; i > 0; i--)
        rig_arrive(lifeline(), base + i);
    assert_received(numbers, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_true(rig_send(8));
    assert_int_equal(rig->lifeline.sent[3]->header.sequence, base + 4);
    ninja_link_acknowledged(rig->link, &rig->link->data, base + 3);
    assert_int_equal(rig->link->data.head->header.sequence, base + 4);
}

static void impossible_acknowledgements_are_ignored(void **state)
{
    assert_true(rig_send(8));
    ninja_link_acknowledged(rig->link, &rig->link->data, 2);
    assert_non_null(rig->link->data.head);
    ninja_link_acknowledged(rig->link, &rig->link->data, UINT64_MAX);
    assert_non_null(rig->link->data.head);
    ninja_link_acknowledged(rig->link, &rig->link->data, 1);
    assert_null(rig->link->data.head);
    ninja_link_acknowledged(rig->link, &rig->link->data, 1);
}

static void below_the_low_mark_a_copy_is_complete_at_once(void **state)
{
    assert_true(rig_send(9000));
    assert_int_equal(rig->completions, 0);
    assert_in_range(rig->link->data.retained_bytes, 9000, 9999);
}

static void above_the_low_mark_completion_waits_for_the_acknowledgement(void **state)
{
    assert_true(rig_send(9000));
    assert_true(rig_send(1000));
    assert_false(rig_send(100));
    assert_int_equal(rig->lifeline.sent[2]->header.flags & NINJA_FRAME_ACK_NOW,
                     NINJA_FRAME_ACK_NOW);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->completions, 0);
    ninja_link_acknowledged(rig->link, &rig->link->data, 2);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->completions, 0);
    ninja_link_acknowledged(rig->link, &rig->link->data, 3);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->completions, 1);
    assert_int_equal(rig->last_status, 0);
    assert_int_equal(rig->link->data.retained_bytes, 0);
    assert_true(rig_send(8));
}

static void above_the_high_mark_the_link_is_congested(void **state)
{
    assert_false(ninja_core_congested(rig->link));
    while (rig->link->data.retained_bytes < 20000)
        (void)rig_send(4000);
    assert_true(ninja_core_congested(rig->link));
    ninja_link_acknowledged(rig->link, &rig->link->data, 2);
    assert_false(ninja_core_congested(rig->link));
}

static void frames_in_place_complete_at_the_acknowledgement(void **state)
{
    static const char user[100000];
    struct ninja_frame *frame = ninja_core_frame_new(rig->core, 16);

    frame->inline_length = 16;
    frame->place = user;
    frame->place_length = sizeof(user);
    assert_false(ninja_core_send(rig->link, frame, 1, count_completion, NULL));
    assert_in_range(rig->link->data.retained_bytes, 16, 1000); /* the user's memory is not ours */
    assert_int_equal(rig->lifeline.sent[0]->header.length, 16 + sizeof(user));
    ninja_link_acknowledged(rig->link, &rig->link->data, 1);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->completions, 1);
}

/* Sends of a burst: the first leave at once, the others together. */
static void a_burst_is_gathered(void **state)
{
    unsigned at_once;

    rig->core->can_gather = true;
    rig->core->burst_gap_ns = 1000000000; /* whoever else has the processor meanwhile */
    for (unsigned i = 0; i < 16; i++)
        assert_true(rig_send(8));
    at_once = rig->lifeline.count;
    assert_in_range(at_once, 3, 15);
    assert_true(rig->core->flush_planned);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->lifeline.count, 16);
    assert_false(rig->core->flush_planned);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(rig->lifeline.sent[i]->header.sequence, i + 1);
    assert_true(rig_send(8)); /* a pass was made: a new burst */
    assert_int_equal(rig->lifeline.count, 17);
}

static void frames_longer_than_the_transport_gathers_leave_at_once(void **state)
{
    rig->core->can_gather = true;
    rig->core->burst_gap_ns = 1000000000;
    for (unsigned i = 1; i <= 8; i++) {
        assert_true(rig_send(33));
        assert_int_equal(rig->lifeline.count, i);
    }
    assert_false(rig->core->flush_planned);
}

/* Where a write takes long, sends that follow each other within half of it are a burst. */
static void slow_writes_make_slower_sends_a_burst(void **state)
{
    rig->core->can_gather = true;
    rig->core->burst_gap_ns = 0;
    rig->core->write_ns = UINT64_C(2000000000);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(rig_send(8));
        usleep(100);
    }
    assert_in_range(rig->lifeline.count, 3, 4);
}

static void sends_with_pauses_are_no_burst(void **state)
{
    rig->core->can_gather = true;
    for (unsigned i = 1; i <= 8; i++) {
        assert_true(rig_send(8));
        assert_int_equal(rig->lifeline.count, i);
        usleep(100);
    }
    assert_false(rig->core->flush_planned);
}

static void what_a_completion_waits_for_is_not_gathered(void **state)
{
    rig->core->can_gather = true;
    for (unsigned i = 0; i < 8; i++)
        assert_true(rig_send(8));
    assert_true(rig_send(9000));
    assert_false(rig_send(8)); /* above the low mark */
    assert_int_equal(rig->lifeline.count, 10);
}

/* As the application that leaves MPI right after a burst. */
static void the_control_thread_sends_what_was_gathered(void **state)
{
    char directory[] = "/tmp/ninja-test-link.XXXXXX", why[256];
    unsigned waited_ms = 0;

    assert_non_null(mkdtemp(directory));
    free((void *)rig->core->config.control_dir);
    rig->core->config.control_dir = strdup(directory);
    free((void *)rig->core->config.agent);
    rig->core->config.agent = strdup(NINJA_AGENT_NONE);
    /* The thread looks after the lifeline's sockets, which the recorder does not have. */
    rig->core->lifeline = rig->real_lifeline;
    rig->core->active[0] = rig->real_lifeline;
    assert_int_equal(ninja_core_start(rig->core, why, sizeof(why)), 0);
    for (unsigned i = 0; i < 16; i++)
        assert_true(rig_send(8));
    while (rig->lifeline.count < 16 && waited_ms++ < 2000)
        usleep(1000);
    ninja_control_stop(rig->core);
    rig->core->lifeline = &rig->lifeline.base;
    rig->core->active[0] = &rig->lifeline.base;
    assert_int_equal(rig->lifeline.count, 16);
    assert_int_equal(rmdir(directory), 0);
}

static void a_peer_that_sends_no_more_is_told_what_we_have(void **state)
{
    uint64_t now = ninja_now_ms();

    rig_arrive(&rig->link->lifeline_path, 1);
    assert_true(ninja_link_acknowledge_tick(rig->link, now) > now);
    assert_int_equal(rig->lifeline.count, 0);
    rig_arrive(&rig->link->lifeline_path, 2);
    assert_true(ninja_link_acknowledge_tick(rig->link, now + 100) > now + 100);
    assert_int_equal(rig->lifeline.count, 0);
    assert_int_equal(ninja_link_acknowledge_tick(rig->link, now + 200), 0);
    assert_int_equal(rig->lifeline.count, 1);
    assert_int_equal(rig->lifeline.sent[0]->header.type, NINJA_FRAME_ACK);
    assert_int_equal(rig->lifeline.sent[0]->header.acknowledged, 2);
    assert_int_equal(ninja_link_acknowledge_tick(rig->link, now + 300), 0);
}

static void replay_sends_again_only_what_the_dead_path_had(void **state)
{
    assert_true(rig_send(8)); /* 1: lifeline */
    open_path();
    assert_true(rig_send(8)); /* 2, 3: fabric */
    assert_true(rig_send(8));
    ninja_link_acknowledged(rig->link, &rig->link->data, 2);
    rig->device.slow_close = true;
    ninja_path_failed(rig->path, -EIO, "pulled out");
    assert_int_equal(rig->link->counters.replayed, 1);
    for (unsigned i = 0; i < rig->lifeline.count; i++)
        if (rig->lifeline.sent[i]->header.type == NINJA_FRAME_DATA)
            assert_int_equal(rig->lifeline.sent[i]->header.sequence, 3);
    /* Acknowledged while the dead transport still holds it: its memory must wait for the transport.
     */
    ninja_link_acknowledged(rig->link, &rig->link->data, 3);
    assert_null(rig->link->data.head);
    rig_give_back(&rig->device);
    ninja_path_closed(rig->path);
}

static void what_the_lifeline_lost_goes_to_the_path_in_use(void **state)
{
    assert_true(rig_send(8)); /* 1: lifeline */
    open_path();
    assert_int_equal(rig->device.count, 0);
    /* Its connection broke after the switch: nobody sends anything that brings frame 1 along. */
    ninja_link_replay(rig->link, lifeline());
    for (unsigned i = 0; i < rig->device.count; i++) {
        if (rig->device.sent[i]->header.type == NINJA_FRAME_DATA) {
            assert_int_equal(rig->device.sent[i]->header.sequence, 1);
            return;
        }
    }
    fail_msg("frame 1 waits for ever");
}

static void drained_needs_both_directions(void **state)
{
    struct ninja_path_message marker = {.type = NINJA_MESSAGE_MARKER};

    open_path();
    assert_true(rig_send(8));
    rig_arrive(rig->path, 1);
    rig->device.slow_close = true;
    ninja_path_handle(rig->path, NINJA_PATH_RELEASE);
    assert_int_equal(rig->path->state, NINJA_PATH_DRAINING);
    ninja_link_acknowledged(rig->link, &rig->link->data, 1);
    assert_int_equal(rig->path->state, NINJA_PATH_DRAINING);
    marker.generation = rig->path->generation;
    memcpy(marker.fabric, rig->fabric->uuid, sizeof(marker.fabric));
    marker.last = 2;
    ninja_path_message_received(rig->link, &marker, sizeof(marker));
    assert_int_equal(rig->path->state, NINJA_PATH_DRAINING);
    rig_arrive(rig->path, 2);
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSING);
    ninja_path_closed(rig->path);
}

static void reply(void *context, int status)
{
    assert_true(rig_send(8));
}

static void an_acknowledgement_travels_with_what_callbacks_send(void **state)
{
    rig_arrive(lifeline(), 1);
    ninja_link_acknowledge_soon(rig->link, &rig->link->data, true);
    (void)ninja_core_complete(rig->core, reply, NULL, 0);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->lifeline.count, 1);
    assert_int_equal(rig->lifeline.sent[0]->header.type, NINJA_FRAME_DATA);
    assert_int_equal(rig->lifeline.sent[0]->header.acknowledged, 1);
    /* Alone, if there is nothing. */
    rig_arrive(lifeline(), 2);
    ninja_link_acknowledge_soon(rig->link, &rig->link->data, true);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->lifeline.count, 2);
    assert_int_equal(rig->lifeline.sent[1]->header.type, NINJA_FRAME_ACK);
}

/* --- The lifeline beside a fabric ------------------------------------------------------------- */

/* The upper layer's passes, and how often the lifeline is looked at meanwhile. */
static unsigned looks_in(unsigned passes)
{
    unsigned before = rig->lifeline.looks;

    for (unsigned i = 0; i < passes; i++)
        (void)ninja_core_progress(rig->core);
    return rig->lifeline.looks - before;
}

static void a_quiet_lifeline_is_looked_at_seldom(void **state)
{
    assert_int_equal(looks_in(1000), 1000);
    rig->core->active[rig->core->active_count++] = &rig->device.base;
    rig->core->lifeline_quiet = rig->core->lifeline_look = 0;
    /* Not later than an eighth of the time that it has been quiet. */
    assert_int_equal(looks_in(8), 8);
    assert_in_range(looks_in(100000), 100, 250);
    assert_in_range(looks_in(100000), 90, 110);
    assert_int_equal(rig->device.looks, 200008);
    rig->core->active_count--;
}

static void an_answer_on_the_lifeline_is_awaited(void **state)
{
    rig->core->active[rig->core->active_count++] = &rig->device.base;
    (void)looks_in(100000);
    (void)ninja_link_send_control(rig->link, "x", 1);
    assert_int_equal(looks_in(8), 8);
    (void)looks_in(100000);
    assert_true(rig_send(8));
    assert_int_equal(looks_in(8), 8);
    open_path();
    (void)looks_in(100000);
    assert_true(rig_send(8));
    assert_in_range(looks_in(8), 0, 1);
    rig->core->active_count--;
}

/* --- Gets
 * ----------------------------------------------------------------------------------------------------------
 */

static unsigned char user_buffer[64];

static struct ninja_frame_header get_data(uint64_t sequence, uint64_t offset, uint32_t length)
{
    struct ninja_frame_header header = {
        .magic = NINJA_FRAME_MAGIC,
        .type = NINJA_FRAME_GET_DATA,
        .length = length,
        .sequence = sequence,
        .cookie = rig->core->gets[0].cookie,
        .offset = offset,
    };

    return header;
}

static void begin_get(void)
{
    memset(user_buffer, 0, sizeof(user_buffer));
    /* Slots are handed out from the first. */
    assert_int_equal(ninja_core_get(rig->link, NULL, user_buffer, 0x1000, sizeof(user_buffer),
                                    count_completion, NULL),
                     0);
}

static void data_of_another_rank_does_not_land(void **state)
{
    struct ninja_link *other = ninja_link_find(rig->core, 101, true);
    static const unsigned char nonsense[64] = {1};
    struct ninja_frame_header header;
    void *where = NULL;

    begin_get();
    header = get_data(1, 0, 64);
    assert_int_not_equal(ninja_path_landing(&other->lifeline_path, &header, &where),
                         NINJA_LANDING_PLACE);
    ninja_path_received(&other->lifeline_path, &header, nonsense);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->completions, 0);
    assert_int_equal(user_buffer[0], 0);
    header = get_data(1, 0, 64);
    assert_int_equal(ninja_path_landing(lifeline(), &header, &where), NINJA_LANDING_PLACE);
    ninja_path_placed(lifeline(), &header);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->completions, 1);
}

static void contact_of_another_version_is_not_taken(void **state)
{
    unsigned char contact[NINJA_CONTACT_MAX];
    size_t size = 0;

    rig->core->lifeline = rig->real_lifeline;
    (void)ninja_core_contact(rig->core, contact, &size);
    rig->core->lifeline = &rig->lifeline.base;
    assert_non_null(ninja_core_connect(rig->core, 102, contact, size, NULL));
    contact[0]++;
    assert_null(ninja_core_connect(rig->core, 103, contact, size, NULL));
}

static void get_lands_in_place_and_completes_in_order(void **state)
{
    struct ninja_frame_header first, second;
    void *where = NULL;

    begin_get();
    first = get_data(1, 0, 32);
    second = get_data(2, 32, 32);
    assert_int_equal(ninja_path_landing(lifeline(), &second, &where), NINJA_LANDING_PLACE);
    assert_ptr_equal(where, user_buffer + 32);
    ninja_path_placed(lifeline(), &second);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->completions, 0);
    assert_int_equal(ninja_path_landing(lifeline(), &first, &where), NINJA_LANDING_PLACE);
    assert_ptr_equal(where, user_buffer);
    ninja_path_placed(lifeline(), &first);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->completions, 1);
    /* Late duplicates must not touch the buffer, which is the user's again. */
    assert_int_equal(ninja_path_landing(lifeline(), &second, &where), NINJA_LANDING_DISCARD);
}

static void get_of_nothing_completes_by_itself(void **state)
{
    assert_int_equal(
        ninja_core_get(rig->link, NULL, user_buffer, 0x1000, 0, count_completion, NULL), 0);
    assert_int_equal(rig->completions, 0); /* the upper layer is still inside its call */
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->completions, 1);
    assert_null(rig->link->data.head);
}

static void second_writer_stops_the_first(void **state)
{
    struct ninja_frame_header data;
    void *where = NULL;

    open_path();
    begin_get();
    data = get_data(1, 0, 64);
    assert_int_equal(ninja_path_landing(rig->path, &data, &where), NINJA_LANDING_PLACE);
    assert_int_equal(ninja_path_landing(lifeline(), &data, &where), NINJA_LANDING_PLACE);
    assert_true(rig->path->landing_cancelled);
    ninja_path_placed(lifeline(), &data);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->completions, 1);
    ninja_path_placed(rig->path, &data);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->completions, 1);
}

static void second_copy_waits_for_a_writer_that_cannot_be_stopped(void **state)
{
    static struct ninja_transport_ops stubborn;
    struct ninja_frame_header data;
    unsigned char payload[64];
    void *where = NULL;

    open_path();
    begin_get();
    stubborn = *rig->device.base.ops;
    stubborn.landing_can_cancel = false;
    rig->device.base.ops = &stubborn;
    data = get_data(1, 0, 64);
    memset(payload, 5, sizeof(payload));
    assert_int_equal(ninja_path_landing(rig->path, &data, &where), NINJA_LANDING_PLACE);
    assert_int_equal(ninja_path_landing(lifeline(), &data, &where), NINJA_LANDING_COPY);
    ninja_path_received(lifeline(), &data, payload);
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->completions, 0);
    assert_int_equal(user_buffer[0], 0);
    /* The first writer ends without success: now the copy may be written. */
    ninja_path_failed(rig->path, -EIO, "pulled out");
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->completions, 1);
    assert_int_equal(user_buffer[0], 5);
    assert_int_equal(user_buffer[63], 5);
}

static void unasked_data_goes_nowhere(void **state)
{
    struct ninja_frame_header data;
    unsigned char payload[64] = {9};
    void *where = user_buffer;

    begin_get();
    data = get_data(1, 32, 64); /* beyond the end */
    assert_int_equal(ninja_path_landing(lifeline(), &data, &where), NINJA_LANDING_COPY);
    ninja_path_received(lifeline(), &data, payload);
    assert_int_equal(user_buffer[32], 0);
    data = get_data(2, 0, 64);
    data.cookie += 1U << 20; /* an older use of the slot */
    assert_int_equal(ninja_path_landing(lifeline(), &data, &where), NINJA_LANDING_COPY);
}

static void messages_wait_while_the_inbox_is_full(void **state)
{
    struct ninja_frame_header header = {
        .magic = NINJA_FRAME_MAGIC, .type = NINJA_FRAME_DATA, .sequence = 1};
    void *where;
    char payload[6000] = {0};

    rig->core->control_progress = true;
    header.length = sizeof(payload);
    assert_int_equal(ninja_path_landing(lifeline(), &header, &where), NINJA_LANDING_COPY);
    ninja_path_received(lifeline(), &header, payload);
    assert_int_equal(rig->received_count, 0);
    header.sequence = 2;
    assert_int_equal(ninja_path_landing(lifeline(), &header, &where), NINJA_LANDING_WAIT);
    rig->core->control_progress = false;
    (void)ninja_core_progress(rig->core);
    assert_int_equal(rig->received_count, 1);
    assert_int_equal(ninja_path_landing(lifeline(), &header, &where), NINJA_LANDING_COPY);
}

static void malformed_path_messages_are_ignored(void **state)
{
    struct ninja_path_message message = {.type = NINJA_MESSAGE_OFFER, .address_size = 100};
    char large[sizeof(message) + NINJA_TRANSPORT_ADDRESS_MAX + 1] = {0};

    ninja_path_message_received(rig->link, &message, 3);
    ninja_path_message_received(rig->link, &message, sizeof(message));
    message.type = 77;
    ninja_path_message_received(rig->link, &message, sizeof(message));
    ninja_path_message_received(rig->link, large, sizeof(large));
    assert_int_equal(rig->path->state, NINJA_PATH_CLOSED);
    assert_int_equal(rig->device.opened, 0);
}

static void malformed_headers_are_refused(void **state)
{
    struct ninja_frame_header header = {
        .magic = NINJA_FRAME_MAGIC, .type = NINJA_FRAME_DATA, .length = 10};

    assert_int_equal(ninja_frame_header_check(&header), 0);
    header.length = NINJA_FRAME_PAYLOAD_MAX + 1;
    assert_int_equal(ninja_frame_header_check(&header), -EPROTO);
    header.length = 0;
    header.type = NINJA_FRAME_TYPES;
    assert_int_equal(ninja_frame_header_check(&header), -EPROTO);
    header.type = NINJA_FRAME_DATA;
    header.magic = 0;
    assert_int_equal(ninja_frame_header_check(&header), -EPROTO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(early_frames_wait_for_their_turn),
        TEST(early_frames_may_take_much_memory),
        TEST(many_early_frames_are_cheap),
        TEST(duplicates_are_dropped_and_acknowledged_again),
        TEST(an_acknowledgement_travels_with_what_callbacks_send),
        TEST(a_quiet_lifeline_is_looked_at_seldom),
        TEST(an_answer_on_the_lifeline_is_awaited),
        TEST(numbers_go_beyond_32_bits),
        TEST(impossible_acknowledgements_are_ignored),
        TEST(below_the_low_mark_a_copy_is_complete_at_once),
        TEST(above_the_low_mark_completion_waits_for_the_acknowledgement),
        TEST(above_the_high_mark_the_link_is_congested),
        TEST(frames_in_place_complete_at_the_acknowledgement),
        TEST(a_burst_is_gathered),
        TEST(frames_longer_than_the_transport_gathers_leave_at_once),
        TEST(slow_writes_make_slower_sends_a_burst),
        TEST(sends_with_pauses_are_no_burst),
        TEST(what_a_completion_waits_for_is_not_gathered),
        TEST(the_control_thread_sends_what_was_gathered),
        TEST(a_peer_that_sends_no_more_is_told_what_we_have),
        TEST(replay_sends_again_only_what_the_dead_path_had),
        TEST(what_the_lifeline_lost_goes_to_the_path_in_use),
        TEST(drained_needs_both_directions),
        TEST(data_of_another_rank_does_not_land),
        TEST(contact_of_another_version_is_not_taken),
        TEST(get_lands_in_place_and_completes_in_order),
        TEST(get_of_nothing_completes_by_itself),
        TEST(second_writer_stops_the_first),
        TEST(second_copy_waits_for_a_writer_that_cannot_be_stopped),
        TEST(unasked_data_goes_nowhere),
        TEST(messages_wait_while_the_inbox_is_full),
        TEST(malformed_path_messages_are_ignored),
        TEST(malformed_headers_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
