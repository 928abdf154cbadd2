/* A process that uses a fabric: serves controllers and the agent from one poll descriptor, without
 * blocking. SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "stream.h"

#define CONNECTIONS_MAX    64  /* controllers at a time */
#define OPERATIONS_MAX     256 /* running, from all controllers and the agent */
#define AGENT_RESULTS_KEPT 8   /* for an agent that restarts */
#define BACKOFF_FIRST_MS   100
#define BACKOFF_LAST_MS    1000

/* Who is behind a connection, and the epoll data; controllers count up from FIRST_CONTROLLER. */
enum { LISTENER = 1, AGENT = 2, FIRST_CONTROLLER = 16 };

struct connection {
    struct connection *next;
    struct symvirt_client *client;
    uint64_t id;
    int polled_for_write;
    struct symvirt_stream stream;
};

struct operation {
    struct operation *next;
    uint64_t op;         /* ours */
    uint64_t remote_op;  /* the asker's */
    uint64_t connection; /* the asker */
    enum symvirt_message_type type;
    struct symvirt_fabric fabric;
    json_t *result; /* kept for the agent once the operation ended; NULL while it runs */
};

struct symvirt_client {
    struct symvirt_client_callbacks callbacks;
    void *ctx;
    char name[64];
    int epoll_fd;
    int listen_fd;
    char *listen_path;
    struct stat listen_file; /* so that only our own file is removed */
    char *agent_path;        /* NULL: no agent wanted */
    int64_t agent_retry_at;  /* when to connect again, while there is no agent connection */
    int agent_backoff_ms;
    int agent_registered;
    uint64_t last_connection;
    uint64_t last_op;
    struct connection *connections;
    struct operation *operations; /* newest first */
};

static struct connection *client_find_connection(const struct symvirt_client *client, uint64_t id)
{
    struct connection *connection = client->connections;

    while (connection && connection->id != id)
        connection = connection->next;
    return connection;
}

static struct operation *client_find_remote(const struct symvirt_client *client,
                                            uint64_t connection, uint64_t op)
{
    struct operation *operation = client->operations;

    while (operation && (operation->connection != connection || operation->remote_op != op))
        operation = operation->next;
    return operation;
}

static struct operation *client_find_running(const struct symvirt_client *client, uint64_t op)
{
    struct operation *operation = client->operations;

    while (operation && (operation->op != op || operation->result))
        operation = operation->next;
    return operation;
}

/* Polls for writing only while something waits to be written. */
static void connection_update_poll(struct connection *connection)
{
    int wanted = symvirt_stream_waits_to_write(&connection->stream);
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0),
                                .data.u64 = connection->id};

    if (wanted == connection->polled_for_write || connection->stream.error)
        return;
    if (epoll_ctl(connection->client->epoll_fd, EPOLL_CTL_MOD, connection->stream.fd, &event))
        connection->stream.error = -errno;
    connection->polled_for_write = wanted;
}

/* Sends 'message' (reference taken) to connection 'id' if it is still there. */
static void client_send(struct symvirt_client *client, uint64_t id, json_t *message)
{
    struct connection *connection = client_find_connection(client, id);

    if (!connection) {
        json_decref(message);
        return;
    }
    symvirt_stream_send(&connection->stream, message);
    connection_update_poll(connection);
}

static void client_forget(struct symvirt_client *client, const struct operation *forgotten)
{
    struct operation **at = &client->operations, *operation;

    while ((operation = *at) != forgotten)
        at = &operation->next;
    *at = operation->next;
    json_decref(operation->result);
    free(operation);
}

/* Keeps only the newest results for the agent. */
static void client_trim_results(struct symvirt_client *client)
{
    struct operation *operation = client->operations, *next;
    int kept = 0;

    for (; operation; operation = next) {
        next = operation->next;
        if (operation->result && ++kept > AGENT_RESULTS_KEPT)
            client_forget(client, operation);
    }
}

static unsigned client_count_operations(const struct symvirt_client *client)
{
    unsigned count = 0;

    for (const struct operation *operation = client->operations; operation;
         operation = operation->next)
        count++;
    return count;
}

/* A release or resume: hands it to the process, unless it is one that the asker repeats. */
static void client_begin_operation(struct connection *from, enum symvirt_message_type type,
                                   const json_t *message)
{
    struct symvirt_client *client = from->client;
    uint64_t remote_op = symvirt_message_op(message);
    struct operation *operation = client_find_remote(client, from->id, remote_op);
    void (*callback)(void *, uint64_t, const struct symvirt_fabric *) =
        type == SYMVIRT_RELEASE ? client->callbacks.release : client->callbacks.resume;
    struct symvirt_fabric fabric;

    if (operation && operation->type == type) {
        if (operation->result)
            client_send(client, from->id, json_incref(operation->result));
        return;
    }
    if (operation || client_count_operations(client) >= OPERATIONS_MAX) {
        client_send(client, from->id,
                    symvirt_message_result(remote_op, operation ? EEXIST : EBUSY,
                                           operation ? "this number names another operation"
                                                     : "too many operations at a time",
                                           NULL));
        return;
    }
    operation = callback ? calloc(1, sizeof(*operation)) : NULL;
    if (!operation) {
        client_send(client, from->id,
                    symvirt_message_result(remote_op, callback ? ENOMEM : EOPNOTSUPP, NULL, NULL));
        return;
    }
    symvirt_fabric_from_json(json_object_get(message, "fabric"), &operation->fabric);
    operation->op = ++client->last_op;
    operation->remote_op = remote_op;
    operation->connection = from->id;
    operation->type = type;
    operation->next = client->operations;
    client->operations = operation;
    fabric = operation->fabric; /* the callback may complete the operation, which frees it */
    callback(client->ctx, operation->op, &fabric);
}

static void client_on_abort(struct connection *from, const json_t *message)
{
    struct symvirt_client *client = from->client;
    uint64_t remote_op = symvirt_message_op(message);
    struct operation *operation = client_find_remote(client, from->id, remote_op);

    if (!operation)
        client_send(
            client, from->id,
            symvirt_message_result(remote_op, ENOENT, "no such operation is running", NULL));
    else if (operation->result)
        client_send(client, from->id, json_incref(operation->result));
    else if (client->callbacks.abort)
        client->callbacks.abort(client->ctx, operation->op);
}

static void client_on_status(struct connection *from, const json_t *message)
{
    struct symvirt_client *client = from->client;
    const struct symvirt_client_callbacks *callbacks = &client->callbacks;
    json_t *detail = json_pack("{s:s, s:I}", "name", client->name, "pid", (json_int_t)getpid());
    json_t *status = NULL;
    const char *of = symvirt_message_text(message, "of");
    uint64_t first = symvirt_message_number(message, "first", 0);

    if (!strcmp(of, SYMVIRT_STATUS_LINKS)) {
        if (callbacks->links)
            status = callbacks->links(client->ctx, first);
    } else if (!strcmp(of, SYMVIRT_STATUS_DETAILS)) {
        if (callbacks->details)
            status = callbacks->details(client->ctx, first);
    } else if (callbacks->status) {
        status = callbacks->status(client->ctx);
        of = "status";
    }
    if (status)
        json_object_set_new(detail, of, status);

    client_send(client, from->id,
                symvirt_message_result(symvirt_message_op(message), 0, NULL, detail));
    json_decref(detail);
}

static void client_tell_present(struct symvirt_client *client, const json_t *object)
{
    struct symvirt_fabric fabric;

    if (client->callbacks.fabric_present && !symvirt_fabric_from_json(object, &fabric))
        client->callbacks.fabric_present(client->ctx, &fabric);
}

static void client_on_registered(struct symvirt_client *client, const json_t *message)
{
    size_t i;
    json_t *object;

    client->agent_backoff_ms = BACKOFF_FIRST_MS;
    if (!client->agent_registered) {
        client->agent_registered = 1;
        if (client->callbacks.agent_connected)
            client->callbacks.agent_connected(client->ctx, 1);
    }
    json_array_foreach (json_object_get(message, "fabrics"), i, object)
        client_tell_present(client, object);
}

static void client_on_message(void *ctx, enum symvirt_message_type type, json_t *message)
{
    struct connection *from = ctx;
    struct symvirt_client *client = from->client;
    int agent = from->id == AGENT;

    switch (type) {
    case SYMVIRT_RELEASE:
    case SYMVIRT_RESUME:
        client_begin_operation(from, type, message);
        break;
    case SYMVIRT_ABORT:
        client_on_abort(from, message);
        break;
    case SYMVIRT_STATUS:
        client_on_status(from, message);
        break;
    case SYMVIRT_PING:
        client_send(client, from->id,
                    symvirt_message_result(symvirt_message_op(message), 0, NULL, NULL));
        break;
    case SYMVIRT_REGISTERED:
        if (agent)
            client_on_registered(client, message);
        break;
    case SYMVIRT_EVENT:
        if (agent && !strcmp(symvirt_message_text(message, "event"), SYMVIRT_EVENT_FABRIC_PRESENT))
            client_tell_present(client, json_object_get(message, "fabric"));
        break;
    default: /* what only others get */
        from->stream.bad_messages++;
    }
}

/* Starts to serve 'fd', which is closed on failure. */
static int client_add_connection(struct symvirt_client *client, int fd, uint64_t id)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = id};
    struct connection *connection = calloc(1, sizeof(*connection));

    if (!connection || epoll_ctl(client->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
        free(connection);
        close(fd);
        return -ENOMEM;
    }
    connection->client = client;
    connection->id = id;
    symvirt_stream_open(&connection->stream, fd, client_on_message, connection);
    connection->next = client->connections;
    client->connections = connection;
    return 0;
}

/* Only the same user and root may control a process. */
static int controller_allowed(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) &&
           (peer.uid == geteuid() || peer.uid == 0);
}

static void client_accept(struct symvirt_client *client)
{
    unsigned count = 0;
    int fd;

    for (const struct connection *connection = client->connections; connection;
         connection = connection->next)
        count++;
    while ((fd = accept4(client->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (count >= CONNECTIONS_MAX || !controller_allowed(fd))
            close(fd);
        else if (!client_add_connection(client, fd, FIRST_CONTROLLER + client->last_connection++))
            count++;
    }
}

/* What an agent that restarted must know: {op, request, fabric, result?}, oldest first. */
static json_t *client_describe_agent_operations(const struct symvirt_client *client)
{
    json_t *list = json_array();

    for (const struct operation *operation = client->operations; operation;
         operation = operation->next)
        if (operation->connection == AGENT)
            json_array_insert_new(
                list, 0,
                json_pack("{s:I, s:s, s:o, s:O*}", "op", (json_int_t)operation->remote_op,
                          "request", symvirt_message_type_name(operation->type), "fabric",
                          symvirt_fabric_to_json(&operation->fabric), "result", operation->result));
    return list;
}

/* Tries to reach the agent if it is time to. */
static void client_try_agent(struct symvirt_client *client)
{
    int64_t now;
    int fd;

    if (!client->agent_path || client_find_connection(client, AGENT))
        return;
    now = symvirt_now_ms();
    if (now < client->agent_retry_at)
        return;
    client->agent_retry_at = now + client->agent_backoff_ms;
    client->agent_backoff_ms *= 2;
    if (client->agent_backoff_ms > BACKOFF_LAST_MS)
        client->agent_backoff_ms = BACKOFF_LAST_MS;
    fd = symvirt_socket_connect(client->agent_path);
    if (fd < 0 || client_add_connection(client, fd, AGENT))
        return;
    client_send(client, AGENT,
                json_pack("{s:s, s:I, s:s, s:s, s:i, s:o}", "type", "register", "pid",
                          (json_int_t)getpid(), "name", client->name, "kind", "process", "protocol",
                          SYMVIRT_PROTOCOL, "operations",
                          client_describe_agent_operations(client)));
}

/* Closes connections that came to their end. */
static void client_sweep(struct symvirt_client *client)
{
    struct connection **at = &client->connections, *connection;
    int agent_lost = 0;

    while ((connection = *at)) {
        if (!connection->stream.error) {
            at = &connection->next;
            continue;
        }
        if (connection->id == AGENT) {
            agent_lost = client->agent_registered;
            client->agent_registered = 0;
        }
        *at = connection->next;
        /* Its events go on if a child of this process has the socket, too. */
        (void)epoll_ctl(client->epoll_fd, EPOLL_CTL_DEL, connection->stream.fd, NULL);
        symvirt_stream_close(&connection->stream);
        free(connection);
    }
    if (agent_lost && client->callbacks.agent_connected)
        client->callbacks.agent_connected(client->ctx, 0);
}

int symvirt_client_create(struct symvirt_client **client, const char *name,
                          const struct symvirt_client_callbacks *callbacks, void *ctx)
{
    struct symvirt_client *made = calloc(1, sizeof(*made));
    int rc;

    if (!made)
        return -ENOMEM;
    made->callbacks = *callbacks;
    made->ctx = ctx;
    strncpy(made->name, name, sizeof(made->name) - 1);
    made->listen_fd = -1;
    made->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (made->epoll_fd < 0) {
        rc = -errno;
        free(made);
        return rc;
    }
    *client = made;
    return 0;
}

void symvirt_client_destroy(struct symvirt_client *client)
{
    struct connection *connection;
    struct stat file;

    if (!client)
        return;
    while ((connection = client->connections)) {
        client->connections = connection->next;
        symvirt_stream_close(&connection->stream);
        free(connection);
    }
    while (client->operations)
        client_forget(client, client->operations);
    if (client->listen_fd >= 0) {
        if (!lstat(client->listen_path, &file) && file.st_dev == client->listen_file.st_dev &&
            file.st_ino == client->listen_file.st_ino)
            unlink(client->listen_path);
        (void)shutdown(client->listen_fd, SHUT_RDWR);
        close(client->listen_fd);
    }
    close(client->epoll_fd);
    free(client->listen_path);
    free(client->agent_path);
    free(client);
}

int symvirt_client_listen(struct symvirt_client *client, const char *path)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = LISTENER};
    char *copy;
    int fd;

    if (client->listen_fd >= 0)
        return -EALREADY;
    copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    fd = symvirt_socket_listen(path, 0600);
    if (fd < 0) {
        free(copy);
        return fd;
    }
    if (lstat(path, &client->listen_file) ||
        epoll_ctl(client->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
        int rc = -errno;

        unlink(path);
        close(fd);
        free(copy);
        return rc;
    }
    client->listen_fd = fd;
    client->listen_path = copy;
    return 0;
}

int symvirt_client_connect_agent(struct symvirt_client *client, const char *path)
{
    struct sockaddr_un address;
    int rc;

    if (client->agent_path)
        return -EALREADY;
    if (!path)
        path = SYMVIRT_AGENT_SOCKET;
    rc = symvirt_socket_address(path, &address);
    if (rc)
        return rc;
    client->agent_path = strdup(path);
    if (!client->agent_path)
        return -ENOMEM;
    client->agent_backoff_ms = BACKOFF_FIRST_MS;
    client_try_agent(client);
    return 0;
}

int symvirt_client_fd(const struct symvirt_client *client)
{
    return client->epoll_fd;
}

int symvirt_client_timeout_ms(const struct symvirt_client *client)
{
    int64_t wait;

    for (const struct connection *connection = client->connections; connection;
         connection = connection->next)
        if (connection->stream.error)
            return 0;
    if (!client->agent_path || client_find_connection(client, AGENT))
        return -1;
    wait = client->agent_retry_at - symvirt_now_ms();
    return wait > 0 ? (int)wait : 0;
}

void symvirt_client_dispatch(struct symvirt_client *client)
{
    struct epoll_event events[16];
    int count = epoll_wait(client->epoll_fd, events, 16, 0);

    for (int i = 0; i < count; i++) {
        struct connection *connection = client_find_connection(client, events[i].data.u64);

        if (events[i].data.u64 == LISTENER)
            client_accept(client);
        if (!connection)
            continue;
        if (events[i].events & EPOLLOUT)
            symvirt_stream_flush(&connection->stream);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            symvirt_stream_read(&connection->stream);
        connection_update_poll(connection);
    }
    client_sweep(client);
    client_try_agent(client);
}

int symvirt_client_complete(struct symvirt_client *client, uint64_t op, int error,
                            const char *message, json_t *detail)
{
    struct operation *operation = client_find_running(client, op);
    json_t *result;

    if (!operation)
        return -ENOENT;
    result = symvirt_message_result(operation->remote_op, error, message, detail);
    client_send(client, operation->connection, json_incref(result));
    if (operation->connection == AGENT && result) {
        operation->result = result;
        client_trim_results(client);
    } else {
        client_forget(client, operation);
        json_decref(result);
    }
    return 0;
}

int symvirt_client_progress(struct symvirt_client *client, uint64_t op, const char *what)
{
    const struct operation *operation = client_find_running(client, op);

    if (!operation)
        return -ENOENT;
    client_send(client, operation->connection,
                symvirt_message_progress(operation->remote_op, what));
    return 0;
}
