/* The host's end of the channel to a VM's agent.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "guest-link-private.h"

#define REQUESTS_MAX    8
#define LOG_INTERVAL_MS 10000 /* between lines about bad frames */

struct request {
    uint64_t op; /* 0: free */
    enum symvirt_message_type type;
    json_t *message;
    int64_t deadline;
    int aborted;
};

struct guest_link {
    struct guest_link_callbacks callbacks;
    void *ctx;
    struct guest_link_transport functions;
    void *transport; /* NULL: none */
    struct symvirt_session *session;
    int watches_write;
    uint64_t last_op;
    struct request requests[REQUESTS_MAX];
    uint64_t bad_logged;
    int64_t log_quiet_until;
};

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Nanoseconds of the clock on the wall: for numbers that are new even after a restart. */
static uint64_t realtime_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

char *guest_link_printable(char *to, size_t size, const char *text)
{
    size_t length = 0;

    for (; *text && length + 1 < size; text++)
        to[length++] = *text >= ' ' && *text < 127 ? *text : '?';
    to[length] = '\0';
    return to;
}

static void log_line(struct guest_link *link, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void log_line(struct guest_link *link, const char *format, ...)
{
    char line[512], printable[512];
    va_list arguments;

    if (!link->callbacks.log)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    link->callbacks.log(link->ctx, guest_link_printable(printable, sizeof(printable), line));
}

static struct request *find_request(struct guest_link *link, uint64_t op)
{
    for (unsigned i = 0; op && i < REQUESTS_MAX; i++)
        if (link->requests[i].op == op)
            return &link->requests[i];
    return NULL;
}

static void link_flush(struct guest_link *link)
{
    const void *data;
    size_t size;
    int blocked = 0;

    while (link->transport && !blocked && (size = symvirt_session_output(link->session, &data))) {
        ssize_t n = link->functions.write(link->transport, data, size);

        if (n > 0)
            symvirt_session_written(link->session, (size_t)n);
        else
            blocked = 1; /* an error also ends reading, which reports it */
    }
    if (link->transport && blocked != link->watches_write) {
        link->watches_write = blocked;
        link->functions.watch_write(link->transport, blocked);
    }
}

static void link_send(struct guest_link *link, const struct request *request)
{
    symvirt_session_send(link->session, json_incref(request->message), now_ms());
    if (request->aborted)
        symvirt_session_send(link->session, symvirt_message_request(SYMVIRT_ABORT, request->op),
                             now_ms());
    link_flush(link);
}

/* Ends a request with 'result'. */
static void end_request(struct guest_link *link, struct request *request, const json_t *result)
{
    uint64_t op = request->op;

    json_decref(request->message);
    memset(request, 0, sizeof(*request));
    if (link->callbacks.result)
        link->callbacks.result(link->ctx, op, result);
}

static void on_message(void *ctx, enum symvirt_message_type type, json_t *message)
{
    struct guest_link *link = ctx;
    struct request *request = find_request(link, symvirt_message_op(message));
    char text[256];

    switch (type) {
    case SYMVIRT_RESULT:
        if (request)
            end_request(link, request, message);
        break;
    case SYMVIRT_PROGRESS:
        if (request && link->callbacks.progress)
            link->callbacks.progress(
                link->ctx, request->op,
                guest_link_printable(text, sizeof(text), symvirt_message_text(message, "what")));
        break;
    case SYMVIRT_EVENT:
        if (link->callbacks.event)
            link->callbacks.event(link->ctx, message);
        break;
    default:
        log_line(link, "the guest's agent sent a %s, which only hosts send: ignored",
                 symvirt_message_type_name(type));
    }
}

/* The result of 'op' in the agent's description of itself, or NULL. */
static const json_t *state_result(const json_t *state, uint64_t op)
{
    size_t i;
    json_t *result;
    enum symvirt_message_type type;

    json_array_foreach (json_object_get(state, "results"), i, result)
        if (!symvirt_message_check(result, &type) && type == SYMVIRT_RESULT &&
            symvirt_message_op(result) == op)
            return result;
    return NULL;
}

static void on_opened(void *ctx, const json_t *state)
{
    struct guest_link *link = ctx;

    if (link->callbacks.connected)
        link->callbacks.connected(link->ctx, state);
    for (unsigned i = 0; i < REQUESTS_MAX; i++) {
        struct request *request = &link->requests[i];
        const json_t *result = request->op ? state_result(state, request->op) : NULL;

        if (result)
            end_request(link, request, result);
        else if (request->op)
            link_send(
                link,
                request); /* the agent knows an operation by its number: nothing is done twice */
    }
}

int guest_link_create(struct guest_link **link, const struct guest_link_callbacks *callbacks,
                      void *ctx)
{
    static const struct symvirt_session_callbacks session_callbacks = {on_message, on_opened, NULL};
    struct guest_link *made = calloc(1, sizeof(*made));

    if (!made ||
        symvirt_session_create(&made->session, SYMVIRT_SESSION_HOST, &session_callbacks, made)) {
        free(made);
        return -ENOMEM;
    }
    made->callbacks = *callbacks;
    made->ctx = ctx;
    *link = made;
    return 0;
}

void guest_link_detach(struct guest_link *link)
{
    void *transport = link->transport;

    if (!transport)
        return;
    link->transport = NULL;
    link->watches_write = 0;
    symvirt_session_close(link->session);
    link->functions.close(transport);
}

void guest_link_destroy(struct guest_link *link)
{
    if (!link)
        return;
    guest_link_detach(link);
    for (unsigned i = 0; i < REQUESTS_MAX; i++)
        json_decref(link->requests[i].message);
    symvirt_session_destroy(link->session);
    free(link);
}

void guest_link_attach(struct guest_link *link, const struct guest_link_transport *functions,
                       void *transport)
{
    guest_link_detach(link);
    link->functions = *functions;
    link->transport = transport;
    symvirt_session_open(link->session, realtime_ns(), now_ms());
    link_flush(link);
}

int guest_link_is_connected(const struct guest_link *link)
{
    return symvirt_session_state(link->session) == SYMVIRT_SESSION_OPEN;
}

/* Notes 'message' (reference taken) as outstanding and sends it. */
static int add_request(struct guest_link *link, enum symvirt_message_type type, json_t *message,
                       int timeout_ms, uint64_t *op)
{
    struct request *request = NULL;

    for (unsigned i = 0; i < REQUESTS_MAX && !request; i++)
        if (!link->requests[i].op)
            request = &link->requests[i];
    if (!message || !request) {
        json_decref(message);
        return message ? -ENOBUFS : -ENOMEM;
    }
    *request = (struct request){.op = symvirt_message_op(message),
                                .type = type,
                                .message = message,
                                .deadline = now_ms() + timeout_ms};
    *op = request->op;
    if (guest_link_is_connected(link))
        link_send(link, request);
    return 0;
}

static uint64_t next_op(struct guest_link *link)
{
    uint64_t now = realtime_ns();

    link->last_op = now > link->last_op ? now : link->last_op + 1;
    return link->last_op;
}

static int changes_fabric(enum symvirt_message_type type)
{
    return type == SYMVIRT_RELEASE || type == SYMVIRT_RESUME;
}

int guest_link_request(struct guest_link *link, enum symvirt_message_type type,
                       const json_t *fabric, int timeout_ms, uint64_t *op)
{
    json_t *message;
    enum symvirt_message_type checked;

    for (unsigned i = 0; changes_fabric(type) && i < REQUESTS_MAX; i++)
        if (link->requests[i].op && changes_fabric(link->requests[i].type))
            return -EBUSY;
    message = symvirt_message_request(type, next_op(link));
    if (message && fabric)
        json_object_set_new(message, "fabric", json_deep_copy(fabric));
    if (symvirt_message_check(message, &checked)) {
        json_decref(message);
        return -EINVAL;
    }
    return add_request(link, type, message, timeout_ms, op);
}

int guest_link_ask_links(struct guest_link *link, uint64_t process, uint64_t first, int timeout_ms,
                         uint64_t *op)
{
    return add_request(link, SYMVIRT_STATUS,
                       symvirt_message_links_request(next_op(link), process, first), timeout_ms,
                       op);
}

int guest_link_set_time(struct guest_link *link, int timeout_ms, uint64_t *op)
{
    return add_request(link, SYMVIRT_SETTIME,
                       json_pack("{s:s, s:I, s:I}", "type", "settime", "op",
                                 (json_int_t)next_op(link), "realtime_ns",
                                 (json_int_t)realtime_ns()),
                       timeout_ms, op);
}

int guest_link_abort(struct guest_link *link, uint64_t op)
{
    struct request *request = find_request(link, op);

    if (!request)
        return -ENOENT;
    request->aborted = 1;
    symvirt_session_send(link->session, symvirt_message_request(SYMVIRT_ABORT, op), now_ms());
    link_flush(link);
    return 0;
}

/* Says once in a while that the guest sends nonsense. */
static void log_bad_frames(struct guest_link *link)
{
    const struct symvirt_decoder_counters *decoder =
        symvirt_session_decoder_counters(link->session);
    uint64_t bad = decoder->bad_length + decoder->bad_crc + decoder->bad_json + decoder->cut +
                   symvirt_session_counters(link->session)->bad_messages;

    if (bad == link->bad_logged || now_ms() < link->log_quiet_until)
        return;
    log_line(link, "%llu bad frames from the guest skipped (%llu bytes so far)",
             (unsigned long long)(bad - link->bad_logged),
             (unsigned long long)decoder->bytes_skipped);
    link->bad_logged = bad;
    link->log_quiet_until = now_ms() + LOG_INTERVAL_MS;
}

void guest_link_on_readable(struct guest_link *link)
{
    char buffer[16384];

    /* A bound, so that an endless guest does not keep the others waiting. */
    for (int round = 0; round < 16 && link->transport; round++) {
        ssize_t n = link->functions.read(link->transport, buffer, sizeof(buffer));

        if (n == -EAGAIN)
            break;
        if (n <= 0) {
            guest_link_detach(link);
            if (link->callbacks.disconnected)
                link->callbacks.disconnected(link->ctx, n ? (int)-n : ECONNRESET);
            return;
        }
        symvirt_session_input(link->session, buffer, (size_t)n, now_ms());
    }
    log_bad_frames(link);
    link_flush(link);
}

void guest_link_on_writable(struct guest_link *link)
{
    link_flush(link);
}

static void time_out(struct guest_link *link, struct request *request)
{
    json_t *result = symvirt_message_result(
        request->op, ETIMEDOUT,
        guest_link_is_connected(link) ? "the guest's agent did not finish within the time limit"
                                      : "the guest's agent does not answer",
        NULL);

    if (request->type == SYMVIRT_RELEASE)
        guest_link_abort(link, request->op);
    end_request(link, request, result);
    json_decref(result);
}

void guest_link_tick(struct guest_link *link)
{
    int64_t now = now_ms();

    for (unsigned i = 0; i < REQUESTS_MAX; i++)
        if (link->requests[i].op && now >= link->requests[i].deadline)
            time_out(link, &link->requests[i]);
    symvirt_session_tick(link->session, now);
    link_flush(link);
}

int guest_link_timeout_ms(const struct guest_link *link)
{
    int64_t now = now_ms();
    int64_t first = symvirt_session_timeout_ms(link->session, now);

    for (unsigned i = 0; i < REQUESTS_MAX; i++) {
        int64_t left = link->requests[i].deadline - now;

        if (link->requests[i].op && (first < 0 || left < first))
            first = left > 0 ? left : 0;
    }
    return (int)first;
}

void *guest_link_transport_of(const struct guest_link *link,
                              const struct guest_link_transport *functions)
{
    return link->transport && link->functions.read == functions->read ? link->transport : NULL;
}
