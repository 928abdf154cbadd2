/* The link to a VM's agent: a guest-link over libvirt's stream, opened anew wherever the VM is.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "guest.h"
#include "guest-link-libvirt.h"
#include "ranks-query.h"

#define RETRY_FIRST_MS 100
#define RETRY_LAST_MS  2000
/* A channel that another program has open is taken from it only after so many tries: libvirtd may
 * still be clearing up after an earlier coordinator that was killed, and libvirtd 11.3 crashes when
 * a stream is taken over in that moment. */
#define FORCE_AFTER 12

struct request {
    struct request *next;
    uint64_t op;
    guest_done done;
    void *ctx;
};

struct guest {
    const struct inventory_vm *vm;
    struct guest_callbacks callbacks;
    void *ctx;
    struct host *host;   /* where the VM runs, NULL: unknown */
    unsigned generation; /* counts the openings: an old one's results are dropped */
    int opening;         /* a job looks for the VM */
    int open;            /* the channel is */
    struct guest_link *link;
    struct request *requests;
    int retry_ms;
    unsigned refused; /* openings in a row that failed */
    struct loop_timer retry, tick;
};

static void guest_try(void *arg);

int guest_alive(const struct guest *guest)
{
    return guest_link_is_connected(guest->link);
}

/* --- What the link tells ---------------------------------------------------------------------- */

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

static void on_result(void *ctx, uint64_t op, const json_t *result)
{
    struct guest *guest = ctx;
    struct request *request = guest_take(guest, op);
    int ok = json_is_true(json_object_get(result, "ok"));
    uint64_t error = symvirt_message_number(result, "error", EIO);
    char text[SENTENCE_MAX];

    if (!request)
        return;
    guest_link_printable(text, sizeof(text), symvirt_message_text(result, "message"));
    request->done(request->ctx,
                  ok                      ? 0
                  : error && error < 4096 ? (int)error
                                          : EIO,
                  text, json_object_get(result, "detail"));
    free(request);
}

static void on_progress(void *ctx, uint64_t op, const char *what)
{
    struct guest *guest = ctx;
    char text[SENTENCE_MAX];

    guest->callbacks.progress(guest->ctx, guest, guest_link_printable(text, sizeof(text), what));
}

static void on_event(void *ctx, const json_t *event)
{
    struct guest *guest = ctx;

    guest->callbacks.event(guest->ctx, guest, event);
}

static void on_connected(void *ctx, const json_t *state)
{
    struct guest *guest = ctx;

    guest->retry_ms = RETRY_FIRST_MS;
    log_line("%s: the agent answers", guest->vm->name);
    guest->callbacks.alive(guest->ctx, guest, 1, state);
}

static void guest_retry_later(struct guest *guest)
{
    guest->open = 0;
    if (!guest->host)
        return;
    loop_timer_start(&guest->retry, guest->retry_ms, guest_try, guest);
    guest->retry_ms = guest->retry_ms * 2 < RETRY_LAST_MS ? guest->retry_ms * 2 : RETRY_LAST_MS;
}

static void on_disconnected(void *ctx, int error)
{
    struct guest *guest = ctx;

    log_line("%s: the channel to the agent ended: %s", guest->vm->name, strerror(error));
    guest->callbacks.alive(guest->ctx, guest, 0, NULL);
    guest_retry_later(guest);
}

static void on_log(void *ctx, const char *line)
{
    struct guest *guest = ctx;

    log_line("%s: %s", guest->vm->name, line);
}

static const struct guest_link_callbacks link_callbacks = {.connected = on_connected,
                                                           .disconnected = on_disconnected,
                                                           .event = on_event,
                                                           .progress = on_progress,
                                                           .result = on_result,
                                                           .log = on_log};

/* --- Time ------------------------------------------------------------------------------------- */

static void guest_schedule(struct guest *guest);

static void guest_on_tick(void *arg)
{
    struct guest *guest = arg;

    guest_link_tick(guest->link);
    guest_schedule(guest);
}

/* The link needs the time when bytes came or went, too, which the loop does not tell: so at least
 * each 200 ms while something is going on, which is when it says that a tick is due at all. */
static void guest_schedule(struct guest *guest)
{
    int ms = guest_link_timeout_ms(guest->link);

    if (ms < 0 && guest->open)
        ms = 200;
    if (ms >= 0)
        loop_timer_start(&guest->tick, ms < 200 ? ms : 200, guest_on_tick, guest);
}

/* --- Opening the channel ---------------------------------------------------------------------- */

struct opening {
    struct guest *guest;
    unsigned generation;
    virConnectPtr connection;
    virDomainPtr domain;
    const char *name;
};

static void opening_run(void *arg)
{
    struct opening *opening = arg;

    opening->domain = virDomainLookupByName(opening->connection, opening->name);
}

static void opening_done(void *arg)
{
    struct opening *opening = arg;
    struct guest *guest = opening->guest;

    if (opening->generation == guest->generation) {
        guest->opening = 0;
        if (opening->domain && !guest_link_attach_libvirt(guest->link, opening->domain,
                                                          guest->refused >= FORCE_AFTER)) {
            guest->open = 1;
            guest->refused = 0;
            guest_schedule(guest);
        } else {
            if (guest->refused++ == 0)
                log_line("%s: its channel cannot be opened yet: %s", guest->vm->name,
                         virGetLastErrorMessage());
            guest_retry_later(guest);
        }
    }
    if (opening->domain)
        virDomainFree(opening->domain);
    virConnectClose(opening->connection);
    free(opening);
}

static void guest_try(void *arg)
{
    struct guest *guest = arg;
    virConnectPtr connection = guest->host ? host_connection(guest->host) : NULL;
    struct opening *opening = connection ? calloc(1, sizeof(*opening)) : NULL;

    if (opening) {
        *opening = (struct opening){guest, guest->generation, connection, NULL, guest->vm->name};
        guest->opening = 1;
        if (!loop_submit(opening_run, opening_done, opening))
            return;
        guest->opening = 0;
        free(opening);
    }
    if (connection)
        virConnectClose(connection);
    guest_retry_later(guest);
}

struct guest *guest_create(const struct inventory_vm *vm, const struct guest_callbacks *callbacks,
                           void *ctx)
{
    struct guest *guest = calloc(1, sizeof(*guest));

    if (!guest)
        return NULL;
    guest->vm = vm;
    guest->callbacks = *callbacks;
    guest->ctx = ctx;
    guest->retry_ms = RETRY_FIRST_MS;
    if (guest_link_create(&guest->link, &link_callbacks, guest)) {
        free(guest);
        return NULL;
    }
    return guest;
}

const struct inventory_vm *guest_vm(const struct guest *guest)
{
    return guest->vm;
}

/* The VM is at 'host': what there was of the link ends. */
static void guest_leave(struct guest *guest, struct host *host)
{
    guest->generation++;
    guest->opening = guest->open = 0;
    loop_timer_stop(&guest->retry);
    guest_link_detach(guest->link);
    guest->host = host;
    guest->retry_ms = RETRY_FIRST_MS;
    guest->refused = 0;
}

void guest_follow(struct guest *guest, struct host *host, int again)
{
    if (host == guest->host && !again && (guest->open || guest->opening || guest->retry.id))
        return;
    guest_leave(guest, host);
    if (host)
        guest_try(guest);
}

void guest_follow_later(struct guest *guest, struct host *host, int ms)
{
    guest_leave(guest, host);
    loop_timer_start(&guest->retry, ms, guest_try, guest);
}

static uint64_t guest_expect(struct guest *guest, int rc, uint64_t op, guest_done done, void *ctx)
{
    struct request *request = rc ? NULL : calloc(1, sizeof(*request));

    if (!request) {
        /* Whoever asks a busy agent asks again. */
        if (rc != -EBUSY)
            log_line("%s: cannot ask the agent: %s", guest->vm->name, strerror(rc ? -rc : ENOMEM));
        return 0;
    }
    *request = (struct request){guest->requests, op, done, ctx};
    guest->requests = request;
    guest_schedule(guest);
    return op;
}

uint64_t guest_request(struct guest *guest, enum symvirt_message_type type, const json_t *fabric,
                       int limit_ms, guest_done done, void *ctx)
{
    uint64_t op = 0;
    int rc = guest_link_request(guest->link, type, fabric, limit_ms, &op);

    return guest_expect(guest, rc, op, done, ctx);
}

/* --- Ranks ------------------------------------------------------------------------------------ */

struct asking {
    struct guest *guest;
    struct ranks_query *query;
    int64_t deadline; /* of all questions together */
    guest_done done;
    void *ctx;
};

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void asking_end(struct asking *asking, int error, const char *message)
{
    json_t *result = ranks_query_result(asking->query);

    asking->done(asking->ctx, error, message, result);
    json_decref(result);
    ranks_query_destroy(asking->query);
    free(asking);
}

static void asking_on_answer(void *ctx, int error, const char *message, const json_t *detail);

/* Asks for the next page. */
static int asking_go_on(struct asking *asking)
{
    int64_t left = asking->deadline - now_ms();
    uint64_t process, first, op = 0;
    int rc;

    ranks_query_next(asking->query, &process, &first);
    if (left <= 0)
        return -ETIMEDOUT;
    rc = guest_link_ask_links(asking->guest->link, process, first, (int)left, &op);
    return guest_expect(asking->guest, rc, op, asking_on_answer, asking) ? 0 : -EBUSY;
}

static void asking_on_answer(void *ctx, int error, const char *message, const json_t *detail)
{
    struct asking *asking = ctx;
    uint64_t process, first;

    if (!error)
        ranks_query_take(asking->query, detail);
    if (!error && ranks_query_next(asking->query, &process, &first)) {
        error = -asking_go_on(asking);
        if (!error)
            return;
        message = strerror(error);
    }
    asking_end(asking, error, message);
}

int guest_ask_ranks(struct guest *guest, int limit_ms, guest_done done, void *ctx)
{
    struct asking *asking = calloc(1, sizeof(*asking));
    int rc = -ENOMEM;

    if (!asking)
        return rc;
    *asking = (struct asking){guest, ranks_query_create(), now_ms() + limit_ms, done, ctx};
    if (asking->query && !(rc = asking_go_on(asking)))
        return 0;
    ranks_query_destroy(asking->query);
    free(asking);
    return rc;
}

uint64_t guest_set_time(struct guest *guest, int limit_ms, guest_done done, void *ctx)
{
    uint64_t op = 0;
    int rc = guest_link_set_time(guest->link, limit_ms, &op);

    return guest_expect(guest, rc, op, done, ctx);
}

void guest_abort(struct guest *guest, uint64_t op)
{
    guest_link_abort(guest->link, op);
    guest_schedule(guest);
}

void guest_forget(struct guest *guest, uint64_t op)
{
    guest_link_abort(guest->link, op);
    free(guest_take(guest, op));
}
