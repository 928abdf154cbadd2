/* The link to a VM's agent. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libvirt/virterror.h>

#include "guest.h"

#define RETRY_FIRST_MS 100
#define RETRY_LAST_MS  2000

struct request {
    struct request *next;
    uint64_t op;
    json_t *message;
    int64_t deadline;
    guest_done done;
    void *ctx;
};

struct guest {
    const struct inventory_vm *vm;
    struct guest_callbacks callbacks;
    void *ctx;
    struct host *host;       /* where the VM runs, NULL: unknown */
    unsigned generation;     /* counts the openings: an old one's results are dropped */
    int opening;             /* a job is opening the channel */
    virStreamPtr stream;
    virConnectPtr connection; /* of the stream */
    int stream_events;
    struct symvirt_session *session;
    struct request *requests;
    int was_alive;
    int in_input; /* inside the session: its callbacks must not close it */
    int retry_ms;
    struct loop_timer retry, tick;
};

static void guest_try(void *arg);
static void guest_flush(struct guest *guest);

/* Numbers of operations: never used twice between this host and this guest, also after a restart. */
static uint64_t next_op(void)
{
    static uint64_t last;
    uint64_t now = (uint64_t)(loop_now() * 1e6);

    last = now > last ? now : last + 1;
    return last;
}

int guest_alive(const struct guest *guest)
{
    return guest->stream && symvirt_session_state(guest->session) == SYMVIRT_SESSION_OPEN;
}

static void guest_tell_alive(struct guest *guest)
{
    int alive = guest_alive(guest);

    if (alive == guest->was_alive)
        return;
    guest->was_alive = alive;
    log_line("%s: agent %s", guest->vm->name, alive ? "answers" : "is gone");
    guest->callbacks.alive(guest->ctx, guest, alive);
}

/* Ends a request that was taken out of the list. */
static void request_end(struct request *request, int error, const char *message, const json_t *detail)
{
    if (request->done)
        request->done(request->ctx, error, message, detail);
    json_decref(request->message);
    free(request);
}

static struct request *guest_take(struct guest *guest, uint64_t op)
{
    for (struct request **at = &guest->requests; *at; at = &(*at)->next)
        if ((*at)->op == op) {
            struct request *request = *at;

            *at = request->next;
            return request;
        }
    return NULL;
}

static void guest_on_result(struct guest *guest, const json_t *message)
{
    struct request *request = guest_take(guest, symvirt_message_op(message));
    int ok = json_is_true(json_object_get(message, "ok"));
    uint64_t error = symvirt_message_number(message, "error", EIO);

    if (request)
        request_end(request, ok ? 0 : error && error < 4096 ? (int)error : EIO,
                    symvirt_message_text(message, "message"), json_object_get(message, "detail"));
}

static void on_message(void *ctx, enum symvirt_message_type type, json_t *message)
{
    struct guest *guest = ctx;

    if (type == SYMVIRT_RESULT)
        guest_on_result(guest, message);
    else if (type == SYMVIRT_PROGRESS)
        guest->callbacks.progress(guest->ctx, guest, symvirt_message_text(message, "what"));
    else if (type == SYMVIRT_EVENT)
        guest->callbacks.event(guest->ctx, guest, message);
}

static void guest_send(struct guest *guest, struct request *request)
{
    int rc = symvirt_session_send(guest->session, json_incref(request->message), loop_now_ms());

    if (rc && rc != -ENOTCONN)
        log_line("%s: cannot send to the agent: %s", guest->vm->name, strerror(-rc));
}

/* A new epoch: what is outstanding is asked again. The agent knows an operation that it has seen by
 * its number, and answers or goes on. */
static void on_opened(void *ctx, const json_t *state)
{
    struct guest *guest = ctx;

    guest->retry_ms = RETRY_FIRST_MS;
    for (struct request *request = guest->requests; request; request = request->next)
        guest_send(guest, request);
}

static const struct symvirt_session_callbacks session_callbacks = {.message = on_message,
                                                                   .opened = on_opened};

static void guest_close(struct guest *guest)
{
    guest->generation++;
    guest->opening = 0;
    loop_timer_stop(&guest->retry);
    symvirt_session_close(guest->session);
    if (guest->stream) {
        virStreamEventRemoveCallback(guest->stream);
        virStreamAbort(guest->stream);
        virStreamFree(guest->stream);
        virConnectClose(guest->connection);
        guest->stream = NULL;
    }
    guest_tell_alive(guest);
}

static void guest_retry_later(struct guest *guest)
{
    guest_close(guest);
    if (!guest->host)
        return;
    loop_timer_start(&guest->retry, guest->retry_ms, guest_try, guest);
    guest->retry_ms = guest->retry_ms * 2 < RETRY_LAST_MS ? guest->retry_ms * 2 : RETRY_LAST_MS;
}

static void guest_expire(struct guest *guest)
{
    int64_t now = loop_now_ms();
    struct request *request = guest->requests;

    while (request) {
        if (request->deadline > now) {
            request = request->next;
            continue;
        }
        guest_take(guest, request->op);
        request_end(request, ETIMEDOUT, guest_alive(guest) ? "no answer in time" : "the agent does not answer",
                    NULL);
        /* The callback may have changed the list. */
        request = guest->requests;
    }
}

static void guest_on_tick(void *arg)
{
    struct guest *guest = arg;

    if (guest->stream)
        symvirt_session_tick(guest->session, loop_now_ms());
    guest_expire(guest);
    guest_flush(guest);
}

/* When to look again without an event. */
static void guest_schedule(struct guest *guest)
{
    int64_t now = loop_now_ms(), next = -1;
    int session_ms = guest->stream ? symvirt_session_timeout_ms(guest->session, now) : -1;

    if (session_ms >= 0)
        next = now + session_ms;
    for (struct request *request = guest->requests; request; request = request->next)
        if (next < 0 || request->deadline < next)
            next = request->deadline;
    if (next < 0)
        loop_timer_stop(&guest->tick);
    else
        loop_timer_start(&guest->tick, next > now ? (int)(next - now) : 0, guest_on_tick, guest);
}

/* Writes what the session has for the channel. */
static void guest_flush(struct guest *guest)
{
    int events = VIR_STREAM_EVENT_READABLE | VIR_STREAM_EVENT_HANGUP | VIR_STREAM_EVENT_ERROR;
    const void *data;
    size_t size;

    if (guest->in_input)
        return; /* on_stream() flushes afterwards */
    while (guest->stream && (size = symvirt_session_output(guest->session, &data)) > 0) {
        int sent = virStreamSend(guest->stream, data, size);

        if (sent == -2) {
            events |= VIR_STREAM_EVENT_WRITABLE;
            break;
        }
        if (sent < 0) {
            guest_retry_later(guest);
            break;
        }
        symvirt_session_written(guest->session, (size_t)sent);
    }
    if (guest->stream && events != guest->stream_events) {
        virStreamEventUpdateCallback(guest->stream, events);
        guest->stream_events = events;
    }
    guest_tell_alive(guest);
    guest_schedule(guest);
}

static void on_stream(virStreamPtr stream, int events, void *opaque)
{
    struct guest *guest = opaque;
    char data[16384];
    int got = -2;

    /* A bound for each turn: a guest that never stops talking must not keep the loop. */
    for (int i = 0; i < 8 && guest->stream && events & VIR_STREAM_EVENT_READABLE; i++) {
        got = virStreamRecv(guest->stream, data, sizeof(data));
        if (got <= 0)
            break;
        guest->in_input = 1;
        symvirt_session_input(guest->session, data, (size_t)got, loop_now_ms());
        guest->in_input = 0;
    }
    if (got == 0 || got == -1 || events & (VIR_STREAM_EVENT_HANGUP | VIR_STREAM_EVENT_ERROR))
        guest_retry_later(guest);
    guest_flush(guest);
}

/* A job that opens the channel. */
struct opening {
    struct guest *guest;
    unsigned generation;
    virConnectPtr connection;
    virStreamPtr stream;
    char name[64];
};

static void opening_run(void *arg)
{
    struct opening *opening = arg;
    virDomainPtr domain = virDomainLookupByName(opening->connection, opening->name);
    virStreamPtr stream = domain ? virStreamNew(opening->connection, VIR_STREAM_NONBLOCK) : NULL;

    if (stream && virDomainOpenChannel(domain, SYMVIRT_CHANNEL_NAME, stream, VIR_DOMAIN_CHANNEL_FORCE) < 0) {
        virStreamFree(stream);
        stream = NULL;
    }
    opening->stream = stream;
    if (domain)
        virDomainFree(domain);
}

static void opening_done(void *arg)
{
    struct opening *opening = arg;
    struct guest *guest = opening->guest;

    if (opening->generation != guest->generation) {
        if (opening->stream) {
            virStreamAbort(opening->stream);
            virStreamFree(opening->stream);
        }
        virConnectClose(opening->connection);
        free(opening);
        return;
    }
    guest->opening = 0;
    guest->stream = opening->stream;
    guest->connection = opening->connection;
    if (!guest->stream)
        virConnectClose(opening->connection);
    free(opening);
    guest->stream_events = VIR_STREAM_EVENT_READABLE | VIR_STREAM_EVENT_HANGUP | VIR_STREAM_EVENT_ERROR;
    if (!guest->stream ||
        virStreamEventAddCallback(guest->stream, guest->stream_events, on_stream, guest, NULL) < 0) {
        guest_retry_later(guest);
        return;
    }
    symvirt_session_open(guest->session, (uint64_t)(loop_now() * 1e9), loop_now_ms());
    guest_flush(guest);
}

static void guest_try(void *arg)
{
    struct guest *guest = arg;
    struct opening *opening;
    virConnectPtr connection = guest->host ? host_connection(guest->host) : NULL;

    if (!connection) {
        guest_retry_later(guest);
        return;
    }
    opening = calloc(1, sizeof(*opening));
    if (!opening) {
        virConnectClose(connection);
        guest_retry_later(guest);
        return;
    }
    opening->guest = guest;
    opening->generation = guest->generation;
    opening->connection = connection;
    snprintf(opening->name, sizeof(opening->name), "%s", guest->vm->name);
    guest->opening = 1;
    if (loop_submit(opening_run, opening_done, opening)) {
        virConnectClose(connection);
        free(opening);
        guest_retry_later(guest);
    }
}

struct guest *guest_create(const struct inventory_vm *vm, const struct guest_callbacks *callbacks, void *ctx)
{
    struct guest *guest = calloc(1, sizeof(*guest));

    if (!guest)
        return NULL;
    guest->vm = vm;
    guest->callbacks = *callbacks;
    guest->ctx = ctx;
    guest->retry_ms = RETRY_FIRST_MS;
    if (symvirt_session_create(&guest->session, SYMVIRT_SESSION_HOST, &session_callbacks, guest)) {
        free(guest);
        return NULL;
    }
    return guest;
}

const struct inventory_vm *guest_vm(const struct guest *guest)
{
    return guest->vm;
}

void guest_follow(struct guest *guest, struct host *host, int again)
{
    if (host == guest->host && !again && (guest->stream || guest->opening || guest->retry.id))
        return;
    guest_close(guest);
    guest->host = host;
    guest->retry_ms = RETRY_FIRST_MS;
    if (host)
        guest_try(guest);
}

uint64_t guest_request(struct guest *guest, json_t *message, int limit_ms, guest_done done, void *ctx)
{
    struct request *request = calloc(1, sizeof(*request));

    if (!request || !message) {
        json_decref(message);
        free(request);
        return 0;
    }
    request->op = next_op();
    request->message = message;
    request->deadline = loop_now_ms() + limit_ms;
    request->done = done;
    request->ctx = ctx;
    request->next = guest->requests;
    guest->requests = request;
    json_object_set_new(message, "op", json_integer((json_int_t)request->op));
    if (guest_alive(guest))
        guest_send(guest, request);
    guest_flush(guest);
    return request->op;
}

void guest_abort(struct guest *guest, uint64_t op)
{
    for (struct request *request = guest->requests; request; request = request->next)
        if (request->op == op && guest_alive(guest)) {
            symvirt_session_send(guest->session, symvirt_message_request(SYMVIRT_ABORT, op),
                                 loop_now_ms());
            guest_flush(guest);
            return;
        }
}

void guest_forget(struct guest *guest, uint64_t op)
{
    struct request *request = guest_take(guest, op);

    if (!request)
        return;
    json_decref(request->message);
    free(request);
    guest_schedule(guest);
}
