/*
 * Paths: what each action of the state table does, and the messages by which both ends of a link
 * agree.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "path.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core.h"

/* Pauses between openings double up to this many times. */
#define BACK_OFF_MAX 6

/* A link that carried a message within this time wants its paths as soon as their fabric is there;
 * one that did not opens them when it has something to send. */
#define RECENT_MS 10000

/* The message buffer holds any address. */
struct message_buffer {
    struct ninja_path_message message;
    unsigned char address[NINJA_TRANSPORT_ADDRESS_MAX];
};

static void send_message(struct ninja_path *path, enum ninja_path_message_type type, uint64_t last,
                         const void *address, size_t size)
{
    struct message_buffer buffer = {
        .message = {.type = type,
                    .generation = path->generation,
                    .epoch = path->fabric->epoch,
                    .nonce = path->nonce,
                    .last = last,
                    .address_size = (uint32_t)size},
    };

    memcpy(buffer.message.fabric, path->fabric->uuid, sizeof(buffer.message.fabric));
    if (size > 0)
        memcpy(buffer.address, address, size);
    if (ninja_link_send_control(path->link, &buffer, sizeof(buffer.message) + size) != 0)
        ninja_log(path->link->core, 0, "out of memory: a path message is lost");
}

/* Tells the peer that our endpoint is gone, and what it need not send again. */
static void send_closed(struct ninja_path *path)
{
    send_message(path, NINJA_MESSAGE_CLOSED, path->link->data.received, NULL, 0);
}

static void set_state(struct ninja_path *path, enum ninja_path_state state)
{
    path->link->draining += (state == NINJA_PATH_DRAINING) - (path->state == NINJA_PATH_DRAINING);
    path->state = state;
}

static bool both_up(const struct ninja_path *path)
{
    return path->peer_up && path->fabric->state == NINJA_FABRIC_UP;
}

bool ninja_path_initiates(const struct ninja_path *path)
{
    return path->link->core->id < path->link->peer;
}

/* --- Which paths are opened, and when
 * ----------------------------------------------------------------------------- */

/* Whether the link's traffic so far wants `path`; if not, its next message is looked at. */
static void consider(struct ninja_path *path)
{
    uint64_t now = ninja_now_ms();
    uint64_t used = ninja_link_last_used(path->link, now);

    if (used != 0 && now - used < RECENT_MS)
        path->wanted = true;
    if (!path->wanted)
        path->link->dormant = true;
}

static void forget_wishes(struct ninja_path *path)
{
    path->wanted = false;
    path->peer_wants = false;
}

void ninja_path_forget_peer(struct ninja_path *path)
{
    path->peer_up = false;
    forget_wishes(path);
}

void ninja_path_announce(struct ninja_path *path, bool up, bool answer)
{
    if (up)
        consider(path);
    else
        forget_wishes(path);
    send_message(path, up ? NINJA_MESSAGE_FABRIC_UP : NINJA_MESSAGE_FABRIC_DOWN,
                 (answer ? NINJA_UP_ANSWER : 0) | (path->wanted ? NINJA_UP_WANTED : 0), NULL, 0);
}

/* Our end is to open `path`. */
static bool should_open(const struct ninja_path *path)
{
    return ninja_path_initiates(path) && both_up(path) && (path->wanted || path->peer_wants);
}

void ninja_path_try(struct ninja_path *path)
{
    if (should_open(path))
        ninja_path_handle(path, NINJA_PATH_START);
}

void ninja_paths_wake(struct ninja_link *link)
{
    link->dormant = false;
    for (unsigned i = 0; i < NINJA_FABRICS_MAX; i++) {
        struct ninja_path *path = &link->paths[i];

        if (path->wanted || !both_up(path))
            continue; /* considered anew when both are */
        path->wanted = true;
        if (ninja_path_initiates(path))
            ninja_path_try(path);
        else
            ninja_path_announce(path, true, false);
    }
}

static void set_deadline(struct ninja_path *path, uint64_t milliseconds)
{
    path->deadline_ms = ninja_now_ms() + milliseconds;
    ninja_core_wake_control(path->link->core);
}

/* A fresh generation begins on `path`. */
static void begin(struct ninja_path *path, uint32_t generation, uint64_t nonce)
{
    unsigned open_limit_ms = path->link->core->config.tuning->open_limit_ms;

    ninja_fault_forget(path);
    path->generation = generation;
    path->nonce = nonce;
    path->last_sent = 0;
    path->gets = 0;
    path->marker_owed = false;
    path->marker_received = false;
    path->peer_last = 0;
    path->probe_wanted = false;
    path->echo_wanted = false;
    path->open_again = false;
    path->transport = path->fabric->transport;
    path->transport_data = NULL;
    path->fabric->open_paths++;
    path->deadline_ms = 0;
    if (open_limit_ms > 0)
        set_deadline(path, open_limit_ms);
}

/* `path` has no endpoint any more; tries again after a pause if it still should be open. */
static void end(struct ninja_path *path)
{
    struct ninja_core *core = path->link->core;

    path->transport = NULL;
    path->transport_data = NULL;
    path->deadline_ms = 0;
    path->fabric->open_paths--;
    if (path->fabric->state != NINJA_FABRIC_UP) {
        if (path->fabric->open_paths == 0)
            ninja_core_wake_control(core);
        return;
    }
    if (should_open(path)) {
        unsigned shift = path->attempts < BACK_OFF_MAX ? path->attempts : BACK_OFF_MAX;
        uint64_t pause = core->config.tuning->retry_ms;

        path->attempts++;
        /* Never at once: what fails in the same way each time would leave time for nothing else. */
        set_deadline(path, (pause > 0 ? pause : 1) << shift);
    }
}

static void leave(struct ninja_path *path)
{
    struct ninja_link *link = path->link;

    if (link->send_path == path)
        ninja_link_switch(link, ninja_link_best_path(link));
}

static void do_queue(struct ninja_path *path)
{
    path->deadline_ms = 0;
    /* What the peer says of its offer while that waits is about this generation. */
    if (path->state == NINJA_PATH_ASKED)
        path->generation = path->offer.generation;
    ninja_turns_ask(path);
}

/* Returns false if no endpoint could be prepared: it is tried again after a pause. */
static bool do_offer(struct ninja_path *path)
{
    struct ninja_link *link = path->link;
    unsigned char address[NINJA_TRANSPORT_ADDRESS_MAX];
    size_t size = 0;
    uint64_t nonce = 0;
    int rc;

    if (!both_up(path))
        return false; /* the release that will say so has not come to this link yet */
    (void)!getrandom(&nonce, sizeof(nonce), 0);
    begin(path, ++link->next_generation, nonce);
    rc = path->transport->ops->path_prepare(path, address, &size);
    if (rc != 0) {
        ninja_log(link->core, 1, "fabric %s: no offer to rank %" PRIx64 ": %s", path->fabric->name,
                  link->peer, strerror(-rc));
        end(path);
        return false;
    }
    send_message(path, NINJA_MESSAGE_OFFER, 0, address, size);
    return true;
}

/* Takes the offer that lies in path->offer. Returns false if no endpoint could be made: the peer
 * has been told. */
static bool do_accept(struct ninja_path *path)
{
    unsigned char address[NINJA_TRANSPORT_ADDRESS_MAX];
    size_t size = 0;
    int rc = -ENODEV;

    begin(path, path->offer.generation, path->offer.nonce);
    if (path->fabric->state == NINJA_FABRIC_UP)
        rc = path->transport->ops->path_prepare(path, address, &size);
    if (rc == 0) {
        rc = path->transport->ops->path_open(path, path->offer_address, path->offer.address_size,
                                             false);
        if (rc != 0)
            path->transport->ops->path_forget(path);
    }
    if (rc != 0) {
        ninja_log(path->link->core, 1, "fabric %s: offer of rank %" PRIx64 " refused: %s",
                  path->fabric->name, path->link->peer, strerror(-rc));
        send_message(path, NINJA_MESSAGE_REFUSE, 0, NULL, 0);
        end(path);
        return false;
    }
    send_message(path, NINJA_MESSAGE_ACCEPT, 0, address, size);
    return true;
}

/* Opens the endpoint towards the address in path->offer_address (of the ACCEPT). */
static bool do_connect(struct ninja_path *path)
{
    int rc;

    path->probe_wanted = true;
    rc = path->transport->ops->path_open(path, path->offer_address, path->offer.address_size, true);
    if (rc != 0) {
        ninja_log(path->link->core, 1, "fabric %s: no path to rank %" PRIx64 ": %s",
                  path->fabric->name, path->link->peer, strerror(-rc));
        path->transport->ops->path_forget(path);
        send_closed(path);
        end(path);
        return false;
    }
    if (path->state == NINJA_PATH_PROBING)
        path->transport->ops->path_pump(path);
    return true;
}

static void do_switch(struct ninja_path *path)
{
    path->attempts = 0;
    path->deadline_ms = 0;
    ninja_link_switch(path->link, ninja_link_best_path(path->link));
}

/* The peer may close its end once it has our MARKER: not while we read from its memory. */
static void send_marker(struct ninja_path *path)
{
    path->marker_owed = path->gets > 0;
    if (!path->marker_owed)
        send_message(path, NINJA_MESSAGE_MARKER, path->last_sent, NULL, 0);
}

static void do_drain(struct ninja_path *path)
{
    leave(path);
    send_marker(path);
    /* The peer cannot drain before it knows what we have. */
    ninja_link_acknowledge_soon(path->link, &path->link->data, true);
    set_deadline(path, path->link->core->config.tuning->drain_limit_ms);
    ninja_link_pump(path->link);
}

/* Our half-link must be elsewhere already. The state is CLOSING. */
static void close_endpoint(struct ninja_path *path)
{
    path->deadline_ms = 0;
    send_closed(path);
    path->transport->ops->path_close(path);
}

static void do_force(struct ninja_path *path)
{
    struct ninja_link *link = path->link;

    leave(path);
    ninja_link_replay(link, path);
    ninja_link_acknowledge_soon(link, &link->data, true);
    close_endpoint(path);
    ninja_link_pump(link);
}

static void do_finish(struct ninja_path *path)
{
    bool again = path->open_again;

    path->open_again = false;
    ninja_link_landing_ended(path->link, path);
    end(path);
    if (again && path->fabric->state == NINJA_FABRIC_UP)
        ninja_path_handle(path, NINJA_PATH_OFFER);
}

/* Carries out `action`; the state has been changed already. Returns false if the path fell back to
 * CLOSED at once. */
static bool act(struct ninja_path *path, enum ninja_path_action action)
{
    switch (action) {
    case NINJA_PATH_DO_QUEUE:
        do_queue(path);
        return true;
    case NINJA_PATH_DO_OFFER:
        return do_offer(path);
    case NINJA_PATH_DO_ACCEPT:
        return do_accept(path);
    case NINJA_PATH_DO_CONNECT:
        return do_connect(path);
    case NINJA_PATH_DO_ECHO:
        path->echo_wanted = true;
        do_switch(path);
        path->transport->ops->path_pump(path);
        return true;
    case NINJA_PATH_DO_REPEAT_ECHO:
        path->echo_wanted = true;
        path->transport->ops->path_pump(path);
        return true;
    case NINJA_PATH_DO_SWITCH:
        do_switch(path);
        return true;
    case NINJA_PATH_DO_DRAIN:
        do_drain(path);
        return true;
    case NINJA_PATH_DO_CLOSE:
        close_endpoint(path);
        return true;
    case NINJA_PATH_DO_FORCE:
        do_force(path);
        return true;
    case NINJA_PATH_DO_FORGET:
        path->transport->ops->path_forget(path);
        send_closed(path);
        end(path);
        return true;
    case NINJA_PATH_DO_FINISH:
        do_finish(path);
        return true;
    default:
        return true;
    }
}

/* The handshake runs, or waits for its turn. */
static bool is_opening(const struct ninja_path *path)
{
    return path->state >= NINJA_PATH_WAITING && path->state <= NINJA_PATH_PROBING;
}

void ninja_path_handle(struct ninja_path *path, enum ninja_path_event event)
{
    enum ninja_path_state old = path->state;
    const struct ninja_path_transition *cell = &ninja_path_table[old][event];
    struct ninja_core *core = path->link->core;

    ninja_log(core, cell->action == NINJA_PATH_DO_ERROR ? 0 : 2,
              "path %s to %" PRIx64 " generation %u: %s in %s -> %s, %s", path->fabric->name,
              path->link->peer, path->generation, ninja_path_event_name(event),
              ninja_path_state_name(old), ninja_path_action_name(cell->action),
              ninja_path_state_name(cell->next));
    set_state(path, cell->next);
    if (cell->action == NINJA_PATH_DO_REACCEPT) {
        path->open_again = true;
        if (old != NINJA_PATH_CLOSING)
            do_force(path);
    } else if (!act(path, cell->action)) {
        set_state(path, NINJA_PATH_CLOSED);
    }
    if (path->state == NINJA_PATH_DRAINING)
        ninja_path_check_drained(path);
    if (!is_opening(path))
        ninja_turns_leave(path);
}

void ninja_path_check_drained(struct ninja_path *path)
{
    const struct ninja_channel *data = &path->link->data;

    if (path->state == NINJA_PATH_DRAINING && path->marker_received && path->gets == 0 &&
        data->acknowledged >= path->last_sent && data->received >= path->peer_last)
        ninja_path_handle(path, NINJA_PATH_DRAINED);
}

void ninja_path_get_ended(struct ninja_path *path)
{
    path->gets--;
    if (path->state != NINJA_PATH_DRAINING || path->gets > 0)
        return;
    if (path->marker_owed)
        send_marker(path);
    ninja_path_check_drained(path);
}

/* --- Messages
 * ----------------------------------------------------------------------------------------------------
 */

/* The fabric is at both ends now, or was already, and the peer wants the path by now. */
static void peer_fabric_up(struct ninja_path *path, const struct ninja_path_message *message)
{
    bool told = path->wanted;

    path->peer_up = true;
    path->attempts = 0;
    path->peer_wants = path->peer_wants || (message->last & NINJA_UP_WANTED) != 0;
    if (path->fabric->state != NINJA_FABRIC_UP)
        return;
    consider(path);
    /* The peer asks for an answer: it did not hear us if it knew the fabric later than we did. */
    if ((message->last & NINJA_UP_ANSWER) != 0 ||
        (path->wanted && !told && !ninja_path_initiates(path)))
        ninja_path_announce(path, true, false);
    ninja_path_try(path);
}

static void peer_fabric_down(struct ninja_path *path)
{
    ninja_path_forget_peer(path);
    path->open_again = false;
    if (path->state == NINJA_PATH_CLOSED)
        path->deadline_ms = 0;
    ninja_path_handle(path, NINJA_PATH_PEER_DOWN);
}

bool ninja_path_keep_offer(struct ninja_path *path, const struct ninja_path_message *message,
                           const void *address)
{
    void *copy = NULL;

    if (message->address_size > 0) {
        copy = malloc(message->address_size);
        if (copy == NULL) {
            ninja_log(path->link->core, 0, "out of memory for an offer of rank %" PRIx64,
                      path->link->peer);
            return false; /* the handshake ends at its limit, and is tried again */
        }
        memcpy(copy, address, message->address_size);
    }
    free(path->offer_address);
    path->offer_address = copy;
    path->offer = *message;
    return true;
}

/* A message about `path`; OFFER, ACCEPT: `address` has message->address_size bytes. */
static void dispatch(struct ninja_path *path, const struct ninja_path_message *message,
                     const void *address)
{
    bool current = message->generation == path->generation;

    switch (message->type) {
    case NINJA_MESSAGE_FABRIC_UP:
        peer_fabric_up(path, message);
        break;
    case NINJA_MESSAGE_FABRIC_DOWN:
        peer_fabric_down(path);
        break;
    case NINJA_MESSAGE_OFFER:
        path->peer_up = true;
        if (ninja_path_keep_offer(path, message, address))
            ninja_path_handle(path, NINJA_PATH_OFFER);
        break;
    case NINJA_MESSAGE_ACCEPT:
        if (!current || path->state == NINJA_PATH_CLOSED)
            break;
        if (ninja_path_keep_offer(path, message, address))
            ninja_path_handle(path, NINJA_PATH_ACCEPT);
        break;
    case NINJA_MESSAGE_REFUSE:
        if (current)
            ninja_path_handle(path, NINJA_PATH_REFUSE);
        break;
    case NINJA_MESSAGE_MARKER:
        if (!current || path->state == NINJA_PATH_CLOSED)
            break;
        path->marker_received = true;
        path->peer_last = message->last;
        ninja_path_check_drained(path);
        break;
    case NINJA_MESSAGE_CLOSED:
        ninja_link_acknowledged(path->link, &path->link->data, message->last);
        if (current)
            ninja_path_handle(path, NINJA_PATH_PEER_CLOSED);
        break;
    default:
        break;
    }
}

void ninja_path_message_received(struct ninja_link *link, const void *payload, size_t size)
{
    struct message_buffer buffer;
    struct ninja_fabric *fabric;

    if (size < sizeof(buffer.message) || size > sizeof(buffer)) {
        ninja_log(link->core, 0, "rank %" PRIx64 " sent a path message of %zu bytes; ignored",
                  link->peer, size);
        return;
    }
    memcpy(&buffer, payload, size);
    if (buffer.message.type == 0 || buffer.message.type >= NINJA_MESSAGE_TYPES ||
        buffer.message.address_size != size - sizeof(buffer.message)) {
        ninja_log(link->core, 0,
                  "rank %" PRIx64 " sent a path message that is not understood; ignored",
                  link->peer);
        return;
    }
    /* What we have received is news to a peer that drains. */
    ninja_link_acknowledge_soon(link, &link->data, true);
    fabric = ninja_fabric_find(link->core, NULL, buffer.message.fabric);
    if (fabric != NULL) {
        dispatch(&link->paths[fabric->slot], &buffer.message, buffer.address);
    } else if (buffer.message.type == NINJA_MESSAGE_OFFER) {
        ninja_log(link->core, 1, "rank %" PRIx64 " offers a fabric that is not known here; refused",
                  link->peer);
        buffer.message.type = NINJA_MESSAGE_REFUSE;
        buffer.message.address_size = 0;
        (void)ninja_link_send_control(link, &buffer.message, sizeof(buffer.message));
    }
}

/* --- What transports report
 * --------------------------------------------------------------------------------------- */

void ninja_path_failed(struct ninja_path *path, int error, const char *why)
{
    if (path->transport == NULL || path->state == NINJA_PATH_CLOSING)
        return;
    ninja_log(path->link->core, path->state == NINJA_PATH_DRAINING ? 2 : 1,
              "fabric %s: path to rank %" PRIx64 " failed: %s (%s)", path->fabric->name,
              path->link->peer, why, strerror(-error));
    ninja_path_handle(path, NINJA_PATH_FAILED);
}

void ninja_path_closed(struct ninja_path *path)
{
    ninja_path_handle(path, NINJA_PATH_GONE);
}
