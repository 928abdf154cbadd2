/*
 * Lifelines: connecting on demand, deciding between crossing connections, reconnecting and
 * replaying.
 *
 * Connections between two ranks are numbered. The end that wants one takes a number above all that
 * it knows; an end that hears a number above its own replaces what it has. When both connect at
 * once with the same number, the connection of the end with the lower id wins.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "lifeline.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

/*
 * A connection attempt that is not answered within four round trips is begun anew, because TCP's
 * own patience grows too fast: while a VM is stopped for its switch, what it is sent is lost, and
 * its peers should not wait for their back-off after it runs again. The limits are of this time,
 * and the count after which only the longer one is used.
 */
#define CONNECT_FIRST_MS    100
#define CONNECT_LIMIT_MS    2000
#define CONNECT_FAST        20
#define CONNECT_ROUND_TRIPS 4
#define RETRY_FIRST_MS      10
#define RETRY_MAX_MS        1000
/* How often a connection is examined on which nothing was acknowledged since the last time. */
#define EXAMINE_MS 200
/* A connection that is younger than this is not replaced because the machine was moved. */
#define RENEW_AGE_MS 1000
/*
 * So many retransmissions in vain, and a second connection is tried beside the first. One or two
 * are lost on a crowded link too, where a new connection would only add to the crowd.
 */
#define TROUBLE_RETRANSMITS 3

struct ninja_lifeline {
    struct ninja_contact contact; /* of the peer */
    bool has_contact;
    struct ninja_tcp_stream
        *current; /* carries frames (or is about to: its greeting is under way) */
    struct ninja_tcp_stream *attempt; /* our own connection that is not answered yet */
    uint32_t number;                  /* of `current`, or the highest that is known */
    uint32_t attempt_number;
    unsigned retry_ms;
    uint64_t retry_at_ms; /* 0: no attempt is planned */
    uint64_t attempt_until_ms;
    bool attempt_heard;     /* the peer's kernel has our greeting: only the peer itself is slow */
    uint64_t adopted_at_ms; /* when `current` became the one */
    uint64_t examine_at_ms;
    uint64_t examined_data; /* acknowledged then */
    uint64_t examined_control;
    unsigned round_trip_ms;    /* of the last connection, as TCP measured it */
    unsigned vain_attempts;    /* in a row that nobody answered */
    uint64_t refused_since_ms; /* of an unbroken row of refusals; 0: none */
    uint64_t gap_since_us;     /* frames wait, and there was a connection before; 0: no */
};

static struct ninja_tcp *tcp_of(const struct ninja_core *core)
{
    return (struct ninja_tcp *)core->lifeline;
}

/* Each attempt that fails makes the pause before the next one longer. */
static void plan_retry(struct ninja_link *link)
{
    struct ninja_lifeline *lifeline = link->lifeline;
    unsigned twice = lifeline->retry_ms * 2;

    lifeline->retry_at_ms = ninja_now_ms() + lifeline->retry_ms;
    lifeline->retry_ms = twice < RETRY_MAX_MS ? twice : RETRY_MAX_MS;
    ninja_core_wake_control(link->core);
}

/* Frames of our half-link wait, and the connection is gone. */
static void note_gap(struct ninja_link *link)
{
    struct ninja_lifeline *lifeline = link->lifeline;

    if (lifeline->gap_since_us == 0 && lifeline->number > 0 && link->data.head != NULL &&
        link->send_path == &link->lifeline_path)
        lifeline->gap_since_us = ninja_now_us();
}

/* How long an answer may take. */
static unsigned connect_limit(const struct ninja_lifeline *lifeline)
{
    unsigned limit = CONNECT_ROUND_TRIPS * lifeline->round_trip_ms;

    if (lifeline->vain_attempts >= CONNECT_FAST || limit > CONNECT_LIMIT_MS)
        return CONNECT_LIMIT_MS;
    return limit > CONNECT_FIRST_MS ? limit : CONNECT_FIRST_MS;
}

/* Begins to connect, unless an attempt is under way or the peer cannot be reached by us. */
static void connect_now(struct ninja_link *link)
{
    struct ninja_lifeline *lifeline = link->lifeline;
    struct ninja_core *core = link->core;
    struct ninja_tcp_greeting hello;
    int error = 0;

    if (lifeline->attempt != NULL || !lifeline->has_contact || link->peer_gone || link->failed)
        return;
    ninja_tcp_greeting_init(&hello, NINJA_TCP_HELLO, core, link->peer);
    hello.receiver_nonce = lifeline->contact.nonce;
    hello.data_received = link->data.received;
    hello.control_received = link->control.received;
    hello.number = lifeline->number + 1;
    hello.address = tcp_of(core)->address;
    lifeline->attempt_number = hello.number;
    lifeline->retry_at_ms = 0;
    lifeline->attempt_until_ms = ninja_now_ms() + connect_limit(lifeline);
    lifeline->attempt_heard = false;
    lifeline->attempt = ninja_tcp_connect(tcp_of(core), &link->lifeline_path,
                                          &lifeline->contact.address, &hello, &error);
    if (lifeline->attempt == NULL) {
        ninja_log(core, 3, "lifeline to %" PRIx64 ": no connection: %s", link->peer,
                  strerror(-error));
        plan_retry(link);
    }
    ninja_core_wake_control(core);
}

/* The connection of `stream` is the lifeline now; the peer has what it says in `greeting`. */
static void adopt(struct ninja_link *link, struct ninja_tcp_stream *stream,
                  const struct ninja_tcp_greeting *greeting)
{
    struct ninja_lifeline *lifeline = link->lifeline;
    struct ninja_tcp_stream *old = lifeline->current;

    lifeline->current = stream;
    lifeline->number = greeting->number;
    lifeline->retry_ms = RETRY_FIRST_MS;
    lifeline->retry_at_ms = 0;
    lifeline->refused_since_ms = 0;
    lifeline->vain_attempts = 0;
    lifeline->adopted_at_ms = ninja_now_ms();
    lifeline->examine_at_ms = lifeline->adopted_at_ms + EXAMINE_MS;
    if (lifeline->gap_since_us != 0) {
        ninja_stall_note(link->core, lifeline->gap_since_us);
        lifeline->gap_since_us = 0;
    }
    if (old != stream)
        ninja_tcp_stream_close(old);
    ninja_link_acknowledged(link, &link->data, greeting->data_received);
    ninja_link_acknowledged(link, &link->control, greeting->control_received);
    ninja_link_replay(link, &link->lifeline_path);
    if (greeting->number > 1)
        link->counters.reconnects++;
    ninja_log(link->core, 3, "lifeline to %" PRIx64 ": connection %u", link->peer,
              greeting->number);
}

/* --- What the sockets tell
 * ---------------------------------------------------------------------------------------- */

/* Whether the peer's connection with `number` takes the place of what we have. */
static bool should_accept(const struct ninja_link *link, uint32_t number)
{
    const struct ninja_lifeline *lifeline = link->lifeline;

    if (number <= lifeline->number)
        return false;
    if (lifeline->attempt != NULL && number <= lifeline->attempt_number &&
        link->core->id < link->peer)
        return false; /* both connect at once: ours is the one */
    return true;
}

static struct ninja_path *on_hello(struct ninja_tcp *tcp, struct ninja_tcp_stream *stream,
                                   const struct ninja_tcp_greeting *hello,
                                   struct ninja_tcp_greeting *answer)
{
    struct ninja_core *core = tcp->transport.core;
    struct ninja_link *link;
    struct ninja_lifeline *lifeline;

    ninja_tcp_greeting_init(answer, NINJA_TCP_REJECT, core, hello->sender);
    if (hello->receiver != core->id || hello->receiver_nonce != core->nonce ||
        hello->generation != 0)
        return NULL; /* not a member of this job */
    link = ninja_link_find(core, hello->sender, true);
    if (link == NULL)
        return NULL;
    lifeline = link->lifeline;
    if (!lifeline->has_contact) {
        struct ninja_contact contact = {NINJA_CONTACT_VERSION, 0, hello->sender_nonce,
                                        hello->address};

        ninja_lifeline_set_contact(link, &contact);
    }
    answer->number = lifeline->number;
    if (!should_accept(link, hello->number))
        return NULL;
    ninja_tcp_stream_close(lifeline->attempt);
    lifeline->attempt = NULL;
    link->peer_gone = false;
    adopt(link, stream, hello);
    ninja_tcp_greeting_init(answer, NINJA_TCP_WELCOME, core, hello->sender);
    answer->number = hello->number;
    answer->data_received = link->data.received;
    answer->control_received = link->control.received;
    return &link->lifeline_path;
}

static bool on_answered(struct ninja_tcp_stream *stream, const struct ninja_tcp_greeting *answer)
{
    struct ninja_link *link = ninja_tcp_stream_path(stream)->link;
    struct ninja_lifeline *lifeline = link->lifeline;

    if (stream != lifeline->attempt)
        return false;
    lifeline->attempt = NULL;
    if (!ninja_tcp_stream_established(stream)) {
        /* Rejected: our number was too low, or the peer's own connection is on its way. */
        if (answer->number > lifeline->number)
            lifeline->number = answer->number;
        plan_retry(link);
        return false;
    }
    adopt(link, stream, answer);
    return true;
}

/* `error` repeats itself; a peer whose machine answers "nobody listens" for long has died. */
static void note_refusal(struct ninja_link *link, int error)
{
    struct ninja_lifeline *lifeline = link->lifeline;
    struct ninja_core *core = link->core;
    unsigned limit_ms = core->config.tuning->refused_limit_ms;
    uint64_t now = ninja_now_ms();

    if (error != -ECONNREFUSED && error != -ECONNRESET) {
        lifeline->refused_since_ms = 0;
        return;
    }
    if (lifeline->refused_since_ms == 0)
        lifeline->refused_since_ms = now;
    if (limit_ms == 0 || now - lifeline->refused_since_ms < limit_ms || link->data.head == NULL)
        return;
    ninja_log(core, 0, "rank %" PRIx64 " has refused connections for %u s: it is lost", link->peer,
              limit_ms / 1000);
    link->failed = true;
    core->lost_links = true;
}

static void on_broken(struct ninja_tcp_stream *stream, int error)
{
    struct ninja_link *link = ninja_tcp_stream_path(stream)->link;
    struct ninja_lifeline *lifeline = link->lifeline;
    bool was_current = stream == lifeline->current;

    ninja_log(link->core, 3, "lifeline to %" PRIx64 ": %s", link->peer, strerror(-error));
    if (stream == lifeline->attempt) {
        lifeline->attempt = NULL;
        note_refusal(link, error);
    }
    if (was_current) {
        lifeline->current = NULL;
        lifeline->retry_ms = RETRY_FIRST_MS;
        note_gap(link);
    }
    if (link->peer_gone || link->failed || lifeline->current != NULL)
        return;
    plan_retry(link);
}

static const struct ninja_tcp_callbacks callbacks = {
    .hello = on_hello,
    .answered = on_answered,
    .broken = on_broken,
};

/* --- The transport
 * ------------------------------------------------------------------------------------------------
 */

static void lifeline_pump(struct ninja_path *path)
{
    struct ninja_link *link = path->link;

    if (ninja_tcp_stream_established(link->lifeline->current))
        ninja_tcp_stream_pump(link->lifeline->current);
    else if (link->lifeline->current == NULL &&
             (link->data.cursor != NULL || link->control.cursor != NULL)) {
        note_gap(link);
        if (link->lifeline->retry_at_ms == 0)
            connect_now(link);
    }
}

static int lifeline_progress(struct ninja_transport *transport)
{
    return ninja_tcp_progress((struct ninja_tcp *)transport);
}

static uint64_t lifeline_tick(struct ninja_transport *transport, uint64_t now)
{
    ninja_tcp_tick((struct ninja_tcp *)transport, now);
    return 0;
}

static void lifeline_announce(struct ninja_transport *transport)
{
    ninja_tcp_announce((struct ninja_tcp *)transport);
}

static const struct ninja_transport_ops lifeline_ops = {
    .name = "lifeline",
    .landing_can_cancel = true,
    .frames_can_move = true,
    .gather_max = NINJA_FRAME_PAYLOAD_MAX,
    .path_pump = lifeline_pump,
    .progress = lifeline_progress,
    .announce = lifeline_announce,
    .tick = lifeline_tick,
};

int ninja_lifeline_open(struct ninja_core *core, const char *what, char *why, size_t why_size)
{
    struct ninja_tcp *tcp = calloc(1, sizeof(*tcp));
    union ninja_tcp_address address;
    int rc;

    if (tcp == NULL)
        return -ENOMEM;
    tcp->transport.ops = &lifeline_ops;
    tcp->transport.core = core;
    rc = ninja_tcp_choose_address(what, &address, why, why_size);
    if (rc == 0) {
        rc = ninja_tcp_listen(tcp, &address, &callbacks);
        if (rc != 0)
            snprintf(why, why_size, "cannot listen on the lifeline's interface: %s", strerror(-rc));
    }
    if (rc != 0) {
        free(tcp);
        return rc;
    }
    core->lifeline = &tcp->transport;
    return 0;
}

/* Whether the peer still has to hear something from us on a connection that works. */
static bool farewell_pending(const struct ninja_core *core)
{
    for (const struct ninja_link *link = core->links; link != NULL; link = link->next)
        if (ninja_tcp_stream_established(link->lifeline->current) && !link->peer_gone &&
            (link->data.head != NULL || link->control.head != NULL))
            return true;
    return false;
}

void ninja_lifeline_close(struct ninja_core *core, unsigned limit_ms)
{
    uint64_t until = ninja_now_ms() + limit_ms;

    if (core->lifeline == NULL)
        return;
    for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
        link->lifeline_path.bye_wanted = true;
        link->data.acknowledge_now = true;
        ninja_link_pump(link);
    }
    core->announced = true;
    ninja_tcp_announce(tcp_of(core));
    /* Peers acknowledge what they have; those that ended before us never will. */
    while (farewell_pending(core) && ninja_now_ms() < until) {
        struct pollfd wait = {.fd = core->lifeline->event_fd, .events = POLLIN};

        (void)poll(&wait, 1, 10);
        (void)ninja_core_pass(core);
    }
    for (struct ninja_link *link = core->links; link != NULL; link = link->next)
        if (ninja_tcp_stream_established(link->lifeline->current))
            ninja_tcp_stream_finish(link->lifeline->current);
}

void ninja_lifeline_contact(const struct ninja_core *core, struct ninja_contact *contact)
{
    memset(contact, 0, sizeof(*contact));
    contact->version = NINJA_CONTACT_VERSION;
    contact->nonce = core->nonce;
    contact->address = tcp_of(core)->address;
}

/* --- Of one link
 * --------------------------------------------------------------------------------------------------
 */

int ninja_lifeline_create(struct ninja_link *link)
{
    link->lifeline = calloc(1, sizeof(*link->lifeline));
    if (link->lifeline == NULL)
        return -ENOMEM;
    link->lifeline->retry_ms = RETRY_FIRST_MS;
    return 0;
}

void ninja_lifeline_destroy(struct ninja_link *link)
{
    ninja_tcp_stream_close(link->lifeline->current);
    ninja_tcp_stream_close(link->lifeline->attempt);
    free(link->lifeline);
}

void ninja_lifeline_set_contact(struct ninja_link *link, const struct ninja_contact *contact)
{
    link->lifeline->contact = *contact;
    link->lifeline->has_contact = true;
}

void ninja_lifeline_peer_gone(struct ninja_link *link)
{
    link->peer_gone = true;
    link->lifeline->retry_at_ms = 0;
}

const char *ninja_lifeline_state(const struct ninja_link *link)
{
    const struct ninja_lifeline *lifeline = link->lifeline;

    if (link->failed)
        return "lost";
    if (link->peer_gone)
        return "gone";
    if (ninja_tcp_stream_established(lifeline->current))
        return "connected";
    if (lifeline->attempt != NULL)
        return "connecting";
    return lifeline->retry_at_ms != 0 ? "waiting" : "idle";
}

void ninja_lifeline_reset(struct ninja_link *link)
{
    struct ninja_tcp_stream *stream = link->lifeline->current;

    if (stream == NULL)
        return;
    on_broken(stream, -ECONNRESET);
    ninja_tcp_stream_close(stream);
}

void ninja_lifeline_renew_all(struct ninja_core *core)
{
    uint64_t now = ninja_now_ms();

    for (struct ninja_link *link = core->links; link != NULL; link = link->next) {
        struct ninja_lifeline *lifeline = link->lifeline;

        if (ninja_tcp_stream_established(lifeline->current) &&
            now - lifeline->adopted_at_ms >= RENEW_AGE_MS) {
            connect_now(link);
        } else if (lifeline->current == NULL && lifeline->retry_at_ms != 0) {
            /* What failed before may go now. */
            lifeline->retry_ms = RETRY_FIRST_MS;
            connect_now(link);
        }
    }
}

/*
 * The attempt was not answered in time. If the network has delivered it, a new one would not be
 * answered sooner, and would undo what the peer is about to do: it gets the longer limit.
 */
static void attempt_expired(struct ninja_link *link, uint64_t now)
{
    struct ninja_lifeline *lifeline = link->lifeline;
    struct ninja_tcp_stream *stream = lifeline->attempt;
    struct ninja_tcp_trouble trouble;

    ninja_tcp_stream_trouble(stream, &trouble);
    if (!lifeline->attempt_heard && trouble.connected && trouble.unacknowledged == 0) {
        lifeline->attempt_heard = true;
        lifeline->attempt_until_ms = now + CONNECT_LIMIT_MS;
        return;
    }
    lifeline->vain_attempts++;
    on_broken(stream, -ETIMEDOUT);
    ninja_tcp_stream_close(stream);
}

/*
 * Looks whether the network still takes what we send; if not, a second connection is tried beside
 * the first. A link that gets acknowledgements costs nothing here.
 */
static void examine(struct ninja_link *link, uint64_t now)
{
    struct ninja_lifeline *lifeline = link->lifeline;
    bool advanced = lifeline->examined_data != link->data.acknowledged ||
                    lifeline->examined_control != link->control.acknowledged;
    struct ninja_tcp_trouble trouble;

    lifeline->examine_at_ms = now + EXAMINE_MS;
    lifeline->examined_data = link->data.acknowledged;
    lifeline->examined_control = link->control.acknowledged;
    if (advanced || !ninja_tcp_stream_established(lifeline->current) || lifeline->attempt != NULL)
        return;
    ninja_tcp_stream_trouble(lifeline->current, &trouble);
    lifeline->round_trip_ms = trouble.round_trip_us / 1000;
    if (trouble.unacknowledged > 0 && trouble.retransmits >= TROUBLE_RETRANSMITS)
        connect_now(link);
}

uint64_t ninja_lifeline_tick(struct ninja_link *link, uint64_t now)
{
    struct ninja_lifeline *lifeline = link->lifeline;
    uint64_t next = 0;

    if (lifeline->attempt != NULL && now >= lifeline->attempt_until_ms)
        attempt_expired(link, now);
    if (lifeline->retry_at_ms != 0 && now >= lifeline->retry_at_ms) {
        lifeline->retry_at_ms = 0;
        if (lifeline->current == NULL)
            connect_now(link);
    }
    if (lifeline->current != NULL && now >= lifeline->examine_at_ms)
        examine(link, now);
    if (lifeline->attempt != NULL)
        next = lifeline->attempt_until_ms;
    next = ninja_earlier(next, lifeline->retry_at_ms);
    if (lifeline->current != NULL && (link->data.head != NULL || link->control.head != NULL))
        next = ninja_earlier(next, lifeline->examine_at_ms);
    return next;
}
