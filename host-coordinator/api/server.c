/* ninjad's unix socket. SPDX-License-Identifier: BSD-3-Clause */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <libvirt/libvirt.h>

#include "log.h"
#include "server.h"

/* A client that does not read what it asked for is cut off. */
#define BACKLOG_MAX (4 * 1024 * 1024)
#define CLIENTS_MAX 64

struct client {
    struct client *next;
    uint64_t id;
    int fd, watch, dead;
    int64_t follows; /* a plan, or 0 */
    char *input;
    size_t input_size;
    char *output;
    size_t output_size;
};

static struct {
    struct coordinator *coordinator;
    struct client *clients;
    unsigned count;
    uint64_t last_id;
    int fd, watch;
    char path[108];
} server = {.fd = -1};

static void client_free(void *arg)
{
    struct client *client = arg;

    free(client->input);
    free(client->output);
    free(client);
}

/* The memory lives until libvirt has made its last use of the handle. */
static void client_close(struct client *client)
{
    struct client **at = &server.clients;

    while (*at != client)
        at = &(*at)->next;
    *at = client->next;
    server.count--;
    virEventRemoveHandle(client->watch);
    close(client->fd);
    client->fd = -1;
}

static void client_flush(struct client *client)
{
    while (client->output_size && !client->dead) {
        ssize_t n =
            send(client->fd, client->output, client->output_size, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0) {
            client->dead = errno != EAGAIN;
            break;
        }
        client->output_size -= (size_t)n;
        memmove(client->output, client->output + n, client->output_size);
    }
    virEventUpdateHandle(client->watch, VIR_EVENT_HANDLE_READABLE |
                                            (client->output_size ? VIR_EVENT_HANDLE_WRITABLE : 0));
}

void api_send(struct client *client, json_t *message)
{
    char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
    size_t size = text ? strlen(text) : 0;
    char *output = size && client->output_size + size < BACKLOG_MAX
                       ? realloc(client->output, client->output_size + size + 1)
                       : NULL;

    json_decref(message);
    if (!output) {
        client->dead = 1;
    } else {
        memcpy(output + client->output_size, text, size);
        output[client->output_size + size] = '\n';
        client->output = output;
        client->output_size += size + 1;
        client_flush(client);
    }
    free(text);
}

void api_fail(struct client *client, int code, const char *format, ...)
{
    char text[SENTENCE_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    api_send(client, json_pack("{s:s, s:i}", "error", text, "code", code));
}

void api_follow(struct client *client, int64_t plan)
{
    client->follows = plan;
}

void api_tell(struct coordinator *coordinator, int64_t plan, json_t *message)
{
    for (struct client *client = server.clients; client; client = client->next)
        if (client->follows == plan)
            api_send(client, json_incref(message));
    json_decref(message);
}

uint64_t api_client_id(const struct client *client)
{
    return client->id;
}

struct client *api_client(uint64_t id)
{
    struct client *client = server.clients;

    while (client && client->id != id)
        client = client->next;
    return client && !client->dead ? client : NULL;
}

static void client_on_line(struct client *client, char *line)
{
    json_error_t error;
    json_t *request = json_loads(line, JSON_REJECT_DUPLICATES, &error);

    if (json_is_object(request))
        api_request(server.coordinator, client, request);
    else
        api_fail(client, 2, "a request must be a JSON object: %s", error.text);
    json_decref(request);
}

static void client_read(struct client *client)
{
    ssize_t n;
    char *end;

    if (!client->input)
        client->input = malloc(API_LINE_MAX + 1);
    n = client->input ? recv(client->fd, client->input + client->input_size,
                             API_LINE_MAX - client->input_size, MSG_DONTWAIT)
                      : 0;
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        client->dead = 1;
        return;
    }
    client->input_size += (size_t)n;
    client->input[client->input_size] = '\0';
    while (!client->dead && (end = strchr(client->input, '\n'))) {
        *end = '\0';
        client_on_line(client, client->input);
        client->input_size -= (size_t)(end + 1 - client->input);
        memmove(client->input, end + 1, client->input_size + 1);
    }
    /* A full buffer without a line, or a zero byte, is no request. */
    if (client->input_size >= API_LINE_MAX || strlen(client->input) != client->input_size)
        client->dead = 1;
}

static void client_on_event(int watch, int fd, int events, void *opaque)
{
    struct client *client = opaque;

    if (client->fd < 0)
        return;
    if (events & VIR_EVENT_HANDLE_WRITABLE)
        client_flush(client);
    if (events & ~VIR_EVENT_HANDLE_WRITABLE)
        client_read(client);
    if (client->dead)
        client_close(client);
}

static void server_on_event(int watch, int fd, int events, void *opaque)
{
    int client_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct client *client =
        client_fd >= 0 && server.count < CLIENTS_MAX ? calloc(1, sizeof(*client)) : NULL;

    if (!client) {
        if (client_fd >= 0)
            close(client_fd);
        return;
    }
    client->fd = client_fd;
    client->id = ++server.last_id;
    client->watch = virEventAddHandle(client_fd, VIR_EVENT_HANDLE_READABLE, client_on_event, client,
                                      client_free);
    if (client->watch < 0) {
        close(client_fd);
        free(client);
        return;
    }
    client->next = server.clients;
    server.clients = client;
    server.count++;
}

int api_start(struct coordinator *coordinator, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t mask;
    int rc;

    if (strlen(path) >= sizeof(address.sun_path)) {
        log_line("%s: the name is too long for a unix socket", path);
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, path);
    strcpy(server.path, path);
    server.coordinator = coordinator;
    server.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The journal's lock has shown that no other daemon is alive: a file here is a dead one's. */
    unlink(path);
    mask = umask(0177);
    rc = bind(server.fd, (struct sockaddr *)&address, sizeof(address)) || listen(server.fd, 16)
             ? -errno
             : 0;
    umask(mask);
    if (!rc) {
        server.watch =
            virEventAddHandle(server.fd, VIR_EVENT_HANDLE_READABLE, server_on_event, NULL, NULL);
        rc = server.watch < 0 ? -EIO : 0;
    }
    if (rc)
        log_line("%s: %s", path, strerror(-rc));
    return rc;
}

void api_stop(void)
{
    if (server.fd < 0)
        return;
    virEventRemoveHandle(server.watch);
    close(server.fd);
    unlink(server.path);
}
