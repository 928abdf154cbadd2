/* ninja-guestctl's requests to the agent in a VM.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "guestctl.h"
#include "ranks-query.h"

#define REOPEN_MS 500 /* after the channel ended */

struct conversation {
    const struct guestctl_options *options;
    virDomainPtr domain;
    struct guest_link *link;
    int socket_watch; /* libvirt's watch on the unix socket; -1: none */
    int64_t begin;
    int64_t reopen_at; /* 0: the channel is open */
    uint64_t op;
    struct ranks_query *ranks; /* command ranks */
    int done;
    int code;
};

static void on_socket(int watch, int fd, int events, void *ctx)
{
    struct conversation *conversation = ctx;

    if (events & VIR_EVENT_HANDLE_WRITABLE)
        guest_link_on_writable(conversation->link);
    if (events & (VIR_EVENT_HANDLE_READABLE | VIR_EVENT_HANDLE_HANGUP | VIR_EVENT_HANDLE_ERROR))
        guest_link_on_readable(conversation->link);
}

/* Opens the channel. Returns 0 or a negative errno. */
static int open_channel(struct conversation *conversation)
{
    const struct guestctl_options *options = conversation->options;
    int rc;

    if (!options->socket)
        return guest_link_attach_libvirt(conversation->link, conversation->domain, options->force);
    rc = guest_link_attach_unix(conversation->link, options->socket);
    if (!rc)
        conversation->socket_watch =
            virEventAddHandle(guest_link_unix_fd(conversation->link), VIR_EVENT_HANDLE_READABLE,
                              on_socket, conversation, NULL);
    return rc;
}

static void on_disconnected(void *ctx, int error)
{
    struct conversation *conversation = ctx;

    if (conversation->socket_watch >= 0)
        virEventRemoveHandle(conversation->socket_watch);
    conversation->socket_watch = -1;
    conversation->reopen_at = guestctl_now_ms() + REOPEN_MS;
}

static void on_progress(void *ctx, uint64_t op, const char *what)
{
    const struct conversation *conversation = ctx;

    if (op == conversation->op && !conversation->options->json)
        printf("%s: %s\n", conversation->options->vm, what);
}

static void print_fabrics(const json_t *detail)
{
    size_t i;
    json_t *fabric;
    char name[40], state[20], device[70], port[20];

    json_array_foreach (json_object_get(detail, "fabrics"), i, fabric)
        printf(
            "  fabric %s: %s, device %s, port %s\n",
            guest_link_printable(name, sizeof(name), symvirt_message_text(fabric, "name")),
            guest_link_printable(state, sizeof(state), symvirt_message_text(fabric, "state")),
            guest_link_printable(device, sizeof(device), symvirt_message_text(fabric, "device")),
            guest_link_printable(port, sizeof(port), symvirt_message_text(fabric, "port_state")));
    printf("  %lld processes\n", (long long)symvirt_message_number(detail, "process_count", 0));
}

static void print_ranks(const json_t *detail)
{
    json_t *rank, *link;
    size_t i, j;

    json_array_foreach (json_object_get(detail, "ranks"), i, rank) {
        printf("  process %lld, %s: %s\n", (long long)symvirt_message_number(rank, "pid", 0),
               symvirt_message_text(rank, "name"), symvirt_message_text(rank, "error"));
        json_array_foreach (json_object_get(rank, "links"), j, link)
            printf("    rank %lld: %s for %.1f s\n",
                   (long long)symvirt_message_number(link, "rank", 0),
                   symvirt_message_text(link, "transport"),
                   json_number_value(json_object_get(link, "since_s")));
    }
}

static int ask_ranks(struct conversation *conversation)
{
    uint64_t process, first;

    if (!conversation->ranks && !(conversation->ranks = ranks_query_create()))
        return -ENOMEM;
    ranks_query_next(conversation->ranks, &process, &first);
    return guest_link_ask_links(conversation->link, process, first,
                                conversation->options->timeout_ms, &conversation->op);
}

/* Takes a page of links; returns true if another one is awaited. */
static int go_on(struct conversation *conversation, const json_t *detail)
{
    uint64_t process, first;

    ranks_query_take(conversation->ranks, detail);
    return ranks_query_next(conversation->ranks, &process, &first) && !ask_ranks(conversation);
}

static void on_result(void *ctx, uint64_t op, const json_t *result)
{
    struct conversation *conversation = ctx;
    const json_t *detail = json_object_get(result, "detail");
    int error = (int)symvirt_message_number(result, "error", 0);
    json_t *ranks = NULL;

    if (op != conversation->op || (conversation->ranks && !error && go_on(conversation, detail)))
        return;
    if (conversation->ranks)
        detail = ranks = ranks_query_result(conversation->ranks);
    conversation->code =
        guestctl_report(conversation->options, error, symvirt_message_text(result, "message"),
                        detail, conversation->begin);
    if (!error && !conversation->options->json && !strcmp(conversation->options->command, "status"))
        print_fabrics(detail);
    if (!error && !conversation->options->json && ranks)
        print_ranks(detail);
    json_decref(ranks);
    conversation->done = 1;
}

static void on_log(void *ctx, const char *line)
{
    fprintf(stderr, "ninja-guestctl: %s\n", line);
}

/* Only so that the loop wakes up; the work is done after it. */
static void on_timer(int timer, void *ctx)
{
}

/* Ctrl-C takes the request back; the result tells how it ended. */
static void on_signal(int watch, int fd, int events, void *ctx)
{
    struct conversation *conversation = ctx;
    struct signalfd_siginfo info;

    if (read(fd, &info, sizeof(info)) == sizeof(info))
        guest_link_abort(conversation->link, conversation->op);
}

static int send_request(struct conversation *conversation)
{
    const struct guestctl_options *options = conversation->options;
    static const enum symvirt_message_type types[] = {SYMVIRT_RELEASE, SYMVIRT_RESUME,
                                                      SYMVIRT_STATUS, SYMVIRT_PING};

    if (!strcmp(options->command, "ranks"))
        return ask_ranks(conversation);
    if (!strcmp(options->command, "settime"))
        return guest_link_set_time(conversation->link, options->timeout_ms, &conversation->op);
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
        if (!strcmp(options->command, symvirt_message_type_name(types[i])))
            return guest_link_request(
                conversation->link, types[i],
                types[i] == SYMVIRT_RELEASE || types[i] == SYMVIRT_RESUME ? options->fabric : NULL,
                options->timeout_ms, &conversation->op);
    return -EINVAL;
}

/* One round of the loop. */
static void converse(struct conversation *conversation, int timer)
{
    int timeout = guest_link_timeout_ms(conversation->link);

    if (conversation->socket_watch >= 0)
        virEventUpdateHandle(
            conversation->socket_watch,
            VIR_EVENT_HANDLE_READABLE |
                (guest_link_unix_wants_write(conversation->link) ? VIR_EVENT_HANDLE_WRITABLE : 0));
    if (conversation->reopen_at && (timeout < 0 || timeout > REOPEN_MS))
        timeout = REOPEN_MS;
    virEventUpdateTimeout(timer, timeout);
    virEventRunDefaultImpl();
    guest_link_tick(conversation->link);
    if (!conversation->done && conversation->reopen_at &&
        guestctl_now_ms() >= conversation->reopen_at)
        conversation->reopen_at = open_channel(conversation) ? guestctl_now_ms() + REOPEN_MS : 0;
}

int guestctl_ask_agent(const struct guestctl_options *options, virDomainPtr domain)
{
    static const struct guest_link_callbacks callbacks = {.disconnected = on_disconnected,
                                                          .progress = on_progress,
                                                          .result = on_result,
                                                          .log = on_log};
    struct conversation conversation = {
        .options = options, .domain = domain, .socket_watch = -1, .begin = guestctl_now_ms()};
    sigset_t signals;
    int rc, signal_fd, timer;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    virEventAddHandle(signal_fd, VIR_EVENT_HANDLE_READABLE, on_signal, &conversation, NULL);
    timer = virEventAddTimeout(-1, on_timer, NULL, NULL);
    rc = guest_link_create(&conversation.link, &callbacks, &conversation);
    if (rc)
        return guestctl_report(options, -rc, NULL, NULL, conversation.begin);
    rc = open_channel(&conversation);
    if (rc && !options->socket) {
        conversation.code =
            guestctl_report_libvirt(options, "cannot open the agent's channel", conversation.begin);
        goto out;
    }
    if (!rc)
        rc = send_request(&conversation);
    if (rc) {
        conversation.code = guestctl_report(options, -rc, NULL, NULL, conversation.begin);
        goto out;
    }
    while (!conversation.done)
        converse(&conversation, timer);
out:
    guest_link_destroy(conversation.link);
    ranks_query_destroy(conversation.ranks);
    close(signal_fd);
    return conversation.code;
}
