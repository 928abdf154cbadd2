/* Messages between a host and a guest over a channel that loses bytes: each arrives once, in order.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symvirt.h"

#define QUEUE_MAX       64           /* messages not acknowledged */
#define WINDOW          16           /* of these, how many may be on their way */
#define OUTPUT_MAX      (256 * 1024) /* above it nothing is repeated: the channel does not move */
#define REPEAT_FIRST_MS 100
#define REPEAT_LAST_MS  1000
#define OLD_EPOCHS      8 /* remembered, so that a repeated old HELLO does not reset a session */

struct queued {
    void *frame;
    size_t size;
};

struct symvirt_session {
    enum symvirt_session_role role;
    enum symvirt_session_state state;
    struct symvirt_session_callbacks callbacks;
    void *ctx;
    struct symvirt_session_counters counters;
    struct symvirt_decoder *decoder;
    uint64_t epoch; /* of the session; 0: the guest knows none */
    uint64_t old_epochs[OLD_EPOCHS];
    unsigned old_epoch_next;
    uint64_t sent;     /* sequence of the last message queued */
    uint64_t received; /* sequence of the last message taken */
    struct queued queue[QUEUE_MAX];
    unsigned queue_begin, queue_count;
    int64_t repeat_at;
    int repeat_ms; /* between this repetition and the next */
    int64_t now_ms;
    char *output;
    size_t output_begin, output_size;
};

static size_t session_output_waiting(const struct symvirt_session *session)
{
    return session->output_size - session->output_begin;
}

/* Puts bytes into the output. Returns -ENOMEM or -ENOBUFS. */
static int session_put(struct symvirt_session *session, const void *data, size_t size)
{
    size_t waiting = session_output_waiting(session);
    char *grown;

    if (waiting + size > OUTPUT_MAX)
        return -ENOBUFS;
    if (waiting)
        memmove(session->output, session->output + session->output_begin, waiting);
    session->output_begin = 0;
    session->output_size = waiting;
    grown = realloc(session->output, waiting + size);
    if (!grown)
        return -ENOMEM;
    memcpy(grown + waiting, data, size);
    session->output = grown;
    session->output_size = waiting + size;
    return 0;
}

/* Sends a HELLO or ACK, whose reference is taken; if it cannot be sent now, it will be repeated.
 * Returns an error of symvirt_frame_encode(). */
static int session_put_unnumbered(struct symvirt_session *session, json_t *message)
{
    void *frame;
    size_t size;
    int rc = message ? symvirt_frame_encode(message, 0, session->epoch, &frame, &size) : -ENOMEM;

    if (!rc) {
        session_put(session, frame, size);
        free(frame);
    }
    json_decref(message);
    return rc;
}

/* 'state': reference taken, may be NULL. */
static json_t *hello(const struct symvirt_session *session, json_t *state)
{
    int guest = session->role == SYMVIRT_SESSION_GUEST;

    return json_pack("{s:s, s:I, s:s, s:i, s:o*}", "type", "hello", "epoch",
                     (json_int_t)session->epoch, "role", guest ? "guest" : "host", "protocol",
                     SYMVIRT_PROTOCOL, "state", state);
}

static void session_put_hello(struct symvirt_session *session)
{
    json_t *state = session->role == SYMVIRT_SESSION_GUEST && session->callbacks.describe
                        ? session->callbacks.describe(session->ctx)
                        : NULL;

    /* A state that is too long for a frame must not keep the two from meeting. */
    if (session_put_unnumbered(session, hello(session, state)) == -EMSGSIZE)
        (void)session_put_unnumbered(session, hello(session, NULL));
}

static void session_put_ack(struct symvirt_session *session)
{
    (void)session_put_unnumbered(
        session, json_pack("{s:s, s:I}", "type", "ack", "sequence", (json_int_t)session->received));
}

static struct queued *session_queue_at(struct symvirt_session *session, unsigned index)
{
    return &session->queue[(session->queue_begin + index) % QUEUE_MAX];
}

static void session_queue_drop_first(struct symvirt_session *session)
{
    free(session_queue_at(session, 0)->frame);
    session->queue_begin = (session->queue_begin + 1) % QUEUE_MAX;
    session->queue_count--;
}

static void session_repeat_after(struct symvirt_session *session, int ms)
{
    session->repeat_ms = ms;
    session->repeat_at = session->now_ms + ms;
}

/* Forgets all of the old epoch. */
static void session_begin_epoch(struct symvirt_session *session, uint64_t epoch)
{
    if (session->epoch) {
        session->old_epochs[session->old_epoch_next] = session->epoch;
        session->old_epoch_next = (session->old_epoch_next + 1) % OLD_EPOCHS;
    }
    while (session->queue_count)
        session_queue_drop_first(session);
    session->epoch = epoch;
    session->sent = session->received = 0;
}

static int session_is_old_epoch(const struct symvirt_session *session, uint64_t epoch)
{
    for (unsigned i = 0; i < OLD_EPOCHS; i++)
        if (session->old_epochs[i] == epoch)
            return 1;
    return 0;
}

static void session_set_open(struct symvirt_session *session, const json_t *state)
{
    session->state = SYMVIRT_SESSION_OPEN;
    session->counters.epochs++;
    if (session->callbacks.opened)
        session->callbacks.opened(session->ctx, state);
}

/* The guest got a HELLO: a new epoch, or the host did not hear our answer. */
static void guest_on_hello(struct symvirt_session *session, uint64_t epoch)
{
    if (!epoch || session_is_old_epoch(session, epoch)) {
        session->counters.stale++;
        return;
    }
    if (epoch == session->epoch && session->state == SYMVIRT_SESSION_OPEN) {
        session_put_hello(session);
        return;
    }
    session_begin_epoch(session, epoch);
    session_put_hello(session);
    session_set_open(session, NULL);
}

/* The host got a HELLO: the answer, or the question of a guest that restarted. */
static void host_on_hello(struct symvirt_session *session, uint64_t epoch, const json_t *message)
{
    if (epoch == session->epoch && session->state == SYMVIRT_SESSION_GREETING) {
        session_set_open(session, json_object_get(message, "state"));
        return;
    }
    if (epoch || session->state != SYMVIRT_SESSION_OPEN) {
        session->counters.stale++;
        return;
    }
    session_begin_epoch(session, session->epoch + 1);
    session->state = SYMVIRT_SESSION_GREETING;
    session_put_hello(session);
    session_repeat_after(session, REPEAT_FIRST_MS);
}

static void session_on_hello(struct symvirt_session *session, const json_t *message)
{
    uint64_t epoch = symvirt_message_number(message, "epoch", 0);
    const char *role = symvirt_message_text(message, "role");

    /* Our own words, if the channel echoes. */
    if (!strcmp(role, session->role == SYMVIRT_SESSION_GUEST ? "guest" : "host"))
        session->counters.stale++;
    else if (session->role == SYMVIRT_SESSION_GUEST)
        guest_on_hello(session, epoch);
    else
        host_on_hello(session, epoch, message);
}

/* Frees what arrived, and lets the next ones into the window. */
static void session_on_ack(struct symvirt_session *session, uint64_t sequence)
{
    uint64_t first = session->sent - session->queue_count + 1;
    unsigned freed = 0;

    if (sequence > session->sent)
        return; /* never sent: not from an honest peer */
    for (; session->queue_count && first <= sequence; first++, freed++)
        session_queue_drop_first(session);
    if (!freed)
        return;
    session_repeat_after(session, REPEAT_FIRST_MS);
    for (unsigned i = WINDOW - (freed < WINDOW ? freed : WINDOW);
         i < WINDOW && i < session->queue_count; i++)
        session_put(session, session_queue_at(session, i)->frame,
                    session_queue_at(session, i)->size);
}

static void session_on_numbered(struct symvirt_session *session, uint64_t sequence, int known,
                                enum symvirt_message_type type, json_t *message)
{
    if (sequence != session->received + 1) {
        *(sequence <= session->received ? &session->counters.repeated : &session->counters.gaps) +=
            1;
        session_put_ack(session);
        return;
    }
    /* A message that nobody understands is taken too: repeating it would not help. */
    session->received++;
    session_put_ack(session);
    if (!known || type == SYMVIRT_HELLO || type == SYMVIRT_ACK) {
        session->counters.bad_messages++;
        return;
    }
    session->counters.delivered++;
    session->callbacks.message(session->ctx, type, message);
}

static void session_on_frame(void *ctx, json_t *message, uint64_t sequence, uint64_t epoch)
{
    struct symvirt_session *session = ctx;
    enum symvirt_message_type type = SYMVIRT_MESSAGE_TYPES;
    int known = !symvirt_message_check(message, &type);

    if (session->state == SYMVIRT_SESSION_CLOSED)
        return;
    if (!sequence && !known)
        session->counters.bad_messages++;
    else if (!sequence && type == SYMVIRT_HELLO)
        session_on_hello(session, message);
    else if (session->state != SYMVIRT_SESSION_OPEN || epoch != session->epoch)
        session->counters.stale++;
    else if (sequence)
        session_on_numbered(session, sequence, known, type, message);
    else if (type == SYMVIRT_ACK)
        session_on_ack(session, symvirt_message_number(message, "sequence", 0));
    else
        session->counters.bad_messages++;
}

int symvirt_session_create(struct symvirt_session **session, enum symvirt_session_role role,
                           const struct symvirt_session_callbacks *callbacks, void *ctx)
{
    struct symvirt_session *made = calloc(1, sizeof(*made));

    if (!made || symvirt_decoder_create(&made->decoder, session_on_frame, made)) {
        free(made);
        return -ENOMEM;
    }
    made->role = role;
    made->callbacks = *callbacks;
    made->ctx = ctx;
    *session = made;
    return 0;
}

void symvirt_session_destroy(struct symvirt_session *session)
{
    if (!session)
        return;
    while (session->queue_count)
        session_queue_drop_first(session);
    symvirt_decoder_destroy(session->decoder);
    free(session->output);
    free(session);
}

void symvirt_session_open(struct symvirt_session *session, uint64_t epoch, int64_t now_ms)
{
    if (session->state != SYMVIRT_SESSION_CLOSED)
        symvirt_session_close(session);
    session->now_ms = now_ms;
    session->state = SYMVIRT_SESSION_GREETING;
    if (session->role == SYMVIRT_SESSION_HOST)
        session_begin_epoch(session, epoch ? epoch : 1);
    else
        session_begin_epoch(session, 0);
    session_put_hello(session);
    session_repeat_after(session, REPEAT_FIRST_MS);
}

void symvirt_session_close(struct symvirt_session *session)
{
    session->state = SYMVIRT_SESSION_CLOSED;
    session->output_begin = session->output_size = 0;
    symvirt_decoder_reset(session->decoder);
}

void symvirt_session_input(struct symvirt_session *session, const void *data, size_t size,
                           int64_t now_ms)
{
    session->now_ms = now_ms;
    symvirt_decoder_feed(session->decoder, data, size);
}

size_t symvirt_session_output(const struct symvirt_session *session, const void **data)
{
    size_t waiting = session_output_waiting(session);

    *data = waiting ? session->output + session->output_begin : NULL;
    return waiting;
}

void symvirt_session_written(struct symvirt_session *session, size_t size)
{
    session->output_begin += size;
    if (session_output_waiting(session))
        return;
    free(session->output);
    session->output = NULL;
    session->output_begin = session->output_size = 0;
}

int symvirt_session_send(struct symvirt_session *session, json_t *message, int64_t now_ms)
{
    struct queued queued;
    int rc = 0;

    session->now_ms = now_ms;
    if (session->state != SYMVIRT_SESSION_OPEN)
        rc = -ENOTCONN;
    else if (session->queue_count == QUEUE_MAX)
        rc = -ENOBUFS;
    else
        rc = symvirt_frame_encode(message, session->sent + 1, session->epoch, &queued.frame,
                                  &queued.size);
    json_decref(message);
    if (rc)
        return rc;
    session->sent++;
    *session_queue_at(session, session->queue_count++) = queued;
    if (session->queue_count == 1)
        session_repeat_after(session, REPEAT_FIRST_MS);
    if (session->queue_count <= WINDOW)
        session_put(session, queued.frame, queued.size);
    return 0;
}

int symvirt_session_timeout_ms(const struct symvirt_session *session, int64_t now_ms)
{
    if (session->state == SYMVIRT_SESSION_CLOSED ||
        (session->state == SYMVIRT_SESSION_OPEN && !session->queue_count))
        return -1;
    return session->repeat_at > now_ms ? (int)(session->repeat_at - now_ms) : 0;
}

void symvirt_session_tick(struct symvirt_session *session, int64_t now_ms)
{
    int next;

    session->now_ms = now_ms;
    if (symvirt_session_timeout_ms(session, now_ms))
        return;
    next = session->repeat_ms * 2;
    session_repeat_after(session, next < REPEAT_LAST_MS ? next : REPEAT_LAST_MS);
    /* What still waits to be written need not be repeated. */
    if (session_output_waiting(session))
        return;
    if (session->state == SYMVIRT_SESSION_GREETING) {
        session_put_hello(session);
        session->counters.resent++;
        return;
    }
    for (unsigned i = 0; i < session->queue_count && i < WINDOW; i++) {
        struct queued *queued = session_queue_at(session, i);

        if (session_put(session, queued->frame, queued->size))
            break;
        session->counters.resent++;
    }
}

enum symvirt_session_state symvirt_session_state(const struct symvirt_session *session)
{
    return session->state;
}

int symvirt_session_all_acknowledged(const struct symvirt_session *session)
{
    return !session->queue_count;
}

const struct symvirt_session_counters *
symvirt_session_counters(const struct symvirt_session *session)
{
    return &session->counters;
}

const struct symvirt_decoder_counters *
symvirt_session_decoder_counters(const struct symvirt_session *session)
{
    return symvirt_decoder_counters(session->decoder);
}
