/*
 * Fuzz target: the decoder of the verbs transport, in a core with a link whose path is alive, over
 * a device that is not there.
 *
 * The input is a list of steps, each a byte and what it needs: messages that arrive, requests that
 * are completed, what the application and the control thread do meanwhile, faults. Whatever it is,
 * nothing may crash, leak or stall; a path that has failed takes nothing more; and as long as the
 * peer keeps to the protocol, each frame is delivered once, in order, with the right contents.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <sched.h>
#include <string.h>

#include "verbs-peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte of the input. */
enum {
    OPTION_PROBING = 0x1, /* the echo of the handshake is still to come */
    OPTION_NO_INLINE = 0x2,
    OPTION_FEW_REQUESTS = 0x4,
    OPTION_GATHER = 0x8
};

/* Less than the longest gets. */
#define REGISTRATION_LIMIT (3U << 19)

/* More than any input needs to come to rest. */
#define ROUNDS_MAX 100000

static struct ninja_core *core;
static struct ninja_tuning tuning;
static struct ninja_fabric *fabric;
static struct verbs_transport *transport;
static struct ninja_path *path;
static struct peer peer;
static uint32_t failed_number; /* queue pair of a path that has failed */
static unsigned sends, sends_complete;

/* --- The application ------------------------------------------------------------------------- */

static void receive(struct ninja_link *link, uint8_t tag, const void *payload, size_t size)
{
    peer_received(&peer, payload, size);
}

static void lost(struct ninja_link *link, int error)
{
}

static void send_complete(void *context, int status)
{
    REQUIRE(++sends_complete <= sends);
}

static void send_frame(struct input *input)
{
    uint32_t inline_length = input_word(input), place_length = input_word(input) * 8U;
    struct ninja_frame *frame;

    if (peer.bytes > PEER_BYTES)
        return;
    peer.bytes += inline_length + place_length;
    frame = ninja_core_frame_new(core, inline_length);
    REQUIRE(frame != NULL);
    memcpy(frame->data, noise, inline_length);
    frame->inline_length = inline_length;
    frame->place = noise;
    frame->place_length = place_length;
    sends++;
    (void)ninja_core_send(peer.link, frame, 1, send_complete, NULL);
}

/* One pass of whoever progresses. */
static void progress(void)
{
    if (!core->control_progress) {
        (void)ninja_core_progress(core);
        return;
    }
    ninja_gate_enter(&core->gate);
    (void)ninja_core_pass(core);
    ninja_gate_leave(&core->gate);
}

/* From now on the control thread progresses, or the application, which first takes what the other
 * one left for it. */
static void change_thread(bool control)
{
    core->control_progress = control;
    if (!control)
        progress();
}

/* --- The path -------------------------------------------------------------------------------- */

static void accept_offer(void)
{
    const struct verbs_address address = {
        .magic = VERBS_ADDRESS_MAGIC, .queue_pair = 9, .instance = PEER_INSTANCE};

    struct ninja_path_message accept = path->offer;

    accept.address_size = sizeof(address);
    REQUIRE(ninja_path_keep_offer(path, &accept, &address));
    ninja_path_handle(path, NINJA_PATH_ACCEPT);
}

/* What comes next in the life of a path. */
static void path_step(void)
{
    ninja_gate_enter(&core->gate);
    switch (path->state) {
    case NINJA_PATH_CLOSED:
        path->peer_up = path->wanted = true;
        ninja_path_handle(path, NINJA_PATH_START);
        break;
    case NINJA_PATH_OFFERED:
        accept_offer();
        break;
    case NINJA_PATH_PROBING:
        ninja_path_handle(path, NINJA_PATH_ECHO);
        break;
    case NINJA_PATH_OPEN:
        ninja_path_handle(path, NINJA_PATH_PEER_DOWN);
        break;
    case NINJA_PATH_DRAINING:
    case NINJA_PATH_ACCEPTED:
        ninja_path_handle(path, NINJA_PATH_TIMEOUT);
        break;
    default:
        (void)ninja_core_pass(core);
        sched_yield();
    }
    ninja_gate_leave(&core->gate);
}

static void inject_fault(struct input *input)
{
    unsigned choice = input_byte(input);

    peer.lost = true;
    fake.refuse_post = choice & 1;
    fake.refuse_region = choice & 2;
    if (choice & 4 && path->transport_data != NULL)
        path->transport->ops->inject(path, NINJA_FAULT_COMPLETION);
    if (choice & 8)
        fake_verbs_complete(1, IBV_WC_RETRY_EXC_ERR);
}

/* --- What always holds ----------------------------------------------------------------------- */

/* The path, if messages still arrive over it. */
static const struct verbs_path *live_path(void)
{
    const struct verbs_path *vp = path->transport_data;

    return vp != NULL && vp->state == VERBS_PATH_LIVE && !vp->failed ? vp : NULL;
}

static void check_path(const struct verbs_path *vp)
{
    unsigned buffers = 0, offers = 0, landings = vp->partial.how == VERBS_PARTS_PLACE;

    for (const struct verbs_operation *at = vp->operations; at != NULL; at = at->next) {
        buffers += at->buffer >= 0;
        landings += at->kind == VERBS_READ && at->ours == NULL;
    }
    REQUIRE(vp->failed || landings == vp->placing);
    for (unsigned i = 0; i < transport->ticket_count; i++)
        offers += transport->tickets[i].owner == vp;
    REQUIRE(transport->free_send_count + buffers == transport->send_count);
    REQUIRE(vp->offers == offers && offers <= VERBS_PATH_OFFERS);
    REQUIRE(vp->sends <= VERBS_PATH_SENDS && vp->requests <= VERBS_QUEUE_DEPTH);
    REQUIRE(vp->requests == transport->requests);
    REQUIRE((vp->held_head != NULL) == transport->holding);
    if (vp->state == VERBS_PATH_LIVE)
        REQUIRE(vp->requests == fake_verbs_pending());
    if (vp->state == VERBS_PATH_LIVE && !vp->failed && !peer.wild)
        REQUIRE(peer.number != vp->number || peer.ticket_count == offers);
    if (vp->failed)
        failed_number = vp->number;
    REQUIRE(vp->failed || failed_number != vp->number);
}

static bool at_rest(void)
{
    return fake_verbs_pending() == 0 && transport->holding == 0 && core->inbox_head == NULL &&
           (path->transport_data == NULL || (peer.partial == 0 && peer.ticket_count == 0));
}

/* Everything has the time that it needs; then nothing may still wait. */
static void settle(void)
{
    const struct verbs_path *vp;
    unsigned rounds = 0;

    change_thread(false);
    do {
        REQUIRE(++rounds < ROUNDS_MAX);
        peer_follow(&peer);
        peer_say_part(&peer, UINT32_MAX);
        peer_say_done(&peer, 0);
        fake_verbs_complete(UINT32_MAX, IBV_WC_SUCCESS);
        progress();
        progress();
    } while (!at_rest());
    vp = live_path();
    peer.lost |= vp == NULL;
    peer_check_complete(&peer);
    if (vp == NULL)
        return;
    REQUIRE(vp->sending == NULL && vp->following == NULL && vp->waiting_head == NULL);
    REQUIRE(vp->operations == NULL && vp->requests == 0);
    if (peer.link->send_path == path)
        REQUIRE(peer.link->data.cursor == NULL);
}

/* --- One input ------------------------------------------------------------------------------- */

static void begin(unsigned options)
{
    static const struct ninja_callbacks callbacks = {.receive = receive, .lost = lost};
    struct ninja_config config;
    char why[256];

    ninja_config_default(&config);
    ninja_tuning_default(&tuning);
    tuning.verbose = -1;
    tuning.retain_low = 100000;
    tuning.inbox_limit = 5000;
    config.lifeline = "lo";
    config.tuning = &tuning;
    config.registration_limit = REGISTRATION_LIMIT;
    REQUIRE(ninja_core_create(&core, &config, &callbacks, 1, "fuzz.0", why, sizeof(why)) == 0);
    core->can_gather = options & OPTION_GATHER;
    core->burst_gap_ns = UINT32_MAX;
    fake = (struct fake_verbs){.hear = peer_hear, .give = peer_give, .context = &peer};
    fake.no_inline = options & OPTION_NO_INLINE;
    fabric = ninja_fabric_add(core, "fast", NULL, &ninja_transport_verbs, "");
    fabric->transport = fake_verbs_open(core);
    fabric->state = NINJA_FABRIC_UP;
    core->active[core->active_count++] = fabric->transport;
    transport = (struct verbs_transport *)fabric->transport;
    transport->registrations.limit = REGISTRATION_LIMIT; /* whatever may be locked here */
    if (options & OPTION_FEW_REQUESTS)
        transport->requests_max = 8;
    path = &ninja_link_find(core, 100, true)->paths[fabric->slot];
    peer_init(&peer, path);
    failed_number = 0;
    sends = sends_complete = 0;
    for (int steps = options & OPTION_PROBING ? 2 : 3; steps > 0; steps--)
        path_step();
    REQUIRE(path->state == (options & OPTION_PROBING ? NINJA_PATH_PROBING : NINJA_PATH_OPEN));
}

static void close_path(void)
{
    ninja_gate_enter(&core->gate);
    fabric->state = NINJA_FABRIC_RELEASING;
    ninja_path_handle(path, NINJA_PATH_RELEASE);
    if (path->state == NINJA_PATH_DRAINING)
        ninja_path_handle(path, NINJA_PATH_TIMEOUT);
    while (fabric->open_paths > 0) {
        (void)ninja_core_pass(core);
        sched_yield();
    }
    ninja_gate_leave(&core->gate);
}

static void end(void)
{
    close_path();
    REQUIRE(fake.queue_pairs == 0 && fake.regions == 1 + transport->registrations.count);
    REQUIRE(transport->claimed == 0 && path->gets == 0);
    REQUIRE(transport->requests == 0 && transport->holding == 0 && transport->paths == NULL);
    REQUIRE(transport->free_send_count == transport->send_count);
    for (unsigned i = 0; i < transport->ticket_count; i++)
        REQUIRE(transport->tickets[i].owner == NULL);
    fake_verbs_reset();
    while (core->links != NULL)
        ninja_link_destroy(core->links);
    ninja_core_destroy(core);
    REQUIRE(fake.regions == 0);
    peer_destroy(&peer);
}

static void step(struct input *input)
{
    unsigned what = input_byte(input);

    switch (what % 16) {
    case 0:
        peer_say_bytes(&peer, input);
        break;
    case 1:
    case 2:
    case 3:
        peer_say_frames(&peer, input);
        break;
    case 4:
        peer_say_part(&peer, input_word(input));
        break;
    case 5:
        peer_say_part(&peer, UINT32_MAX);
        break;
    case 6:
    case 7:
        peer_say_offer(&peer, input);
        break;
    case 8:
        peer_say_done(&peer, what / 16);
        break;
    case 9:
        fake_verbs_complete(1 + what / 16, IBV_WC_SUCCESS);
        progress();
        break;
    case 10:
        progress();
        break;
    case 11:
        send_frame(input);
        break;
    case 12:
        peer_get(&peer, input_word(input) * 32U + what / 16);
        break;
    case 13:
        change_thread(!core->control_progress);
        break;
    case 14:
        if (what < 128)
            peer_say_path_message(&peer, input);
        else
            peer_say_wrong(&peer, input_byte(input));
        break;
    default:
        if (what < 128)
            inject_fault(input);
        else
            path_step();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};

    begin(input_byte(&input));
    while (input.left > 0) {
        step(&input);
        if (path->transport_data != NULL)
            check_path(path->transport_data);
        peer.lost |= live_path() == NULL;
        peer.left |= path->state != NINJA_PATH_OPEN;
        peer_check_order(&peer);
    }
    settle();
    end();
    return 0;
}
