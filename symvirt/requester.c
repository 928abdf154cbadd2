/* The other end of a control socket: sends a request, waits for its result.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "stream.h"

#define SEND_TIMEOUT_MS 1000

struct symvirt_requester {
    struct symvirt_stream stream;
    uint64_t last_op;
    json_t *inbox; /* checked messages that came and were not fetched yet, an array */
};

static void requester_on_message(void *ctx, enum symvirt_message_type type, json_t *message)
{
    struct symvirt_requester *requester = ctx;

    json_array_append(requester->inbox, message);
}

int symvirt_requester_connect(struct symvirt_requester **requester, const char *path)
{
    struct symvirt_requester *made = calloc(1, sizeof(*made));
    int fd = -ENOMEM;

    if (made)
        made->inbox = json_array();
    if (made && made->inbox)
        fd = symvirt_socket_connect(path);
    if (fd < 0) {
        if (made)
            json_decref(made->inbox);
        free(made);
        return fd;
    }
    symvirt_stream_open(&made->stream, fd, requester_on_message, made);
    *requester = made;
    return 0;
}

void symvirt_requester_destroy(struct symvirt_requester *requester)
{
    if (!requester)
        return;
    symvirt_stream_close(&requester->stream);
    json_decref(requester->inbox);
    free(requester);
}

int symvirt_requester_fd(const struct symvirt_requester *requester)
{
    return requester->stream.fd;
}

pid_t symvirt_requester_peer(const struct symvirt_requester *requester)
{
    struct ucred peer = {.pid = 0};
    socklen_t size = sizeof(peer);

    getsockopt(requester->stream.fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    return peer.pid;
}

int symvirt_requester_send(struct symvirt_requester *requester, json_t *message, uint64_t *op)
{
    int64_t deadline = symvirt_now_ms() + SEND_TIMEOUT_MS;
    struct pollfd poll_fd = {.fd = requester->stream.fd, .events = POLLOUT};
    uint64_t number = symvirt_message_op(message);

    if (strcmp(symvirt_message_text(message, "type"), symvirt_message_type_name(SYMVIRT_ABORT))) {
        number = ++requester->last_op;
        if (json_object_set_new(message, "op", json_integer((json_int_t)number)))
            return -ENOMEM;
    }
    symvirt_stream_send(&requester->stream, json_incref(message));
    while (!requester->stream.error && symvirt_stream_waits_to_write(&requester->stream)) {
        int64_t left = deadline - symvirt_now_ms();

        if (left <= 0)
            return -ETIMEDOUT;
        poll(&poll_fd, 1, (int)left);
        symvirt_stream_flush(&requester->stream);
    }
    if (!requester->stream.error && op)
        *op = number;
    return requester->stream.error;
}

int symvirt_requester_receive(struct symvirt_requester *requester, json_t **message)
{
    json_t *first;

    if (!json_array_size(requester->inbox) && !requester->stream.error)
        symvirt_stream_read(&requester->stream);
    first = json_array_get(requester->inbox, 0);
    if (!first)
        return requester->stream.error ? -ECONNRESET : -EAGAIN;
    *message = json_incref(first);
    json_array_remove(requester->inbox, 0);
    return 0;
}

int symvirt_requester_call(struct symvirt_requester *requester, json_t *message, int timeout_ms,
                           void (*progress)(void *ctx, const char *what), void *ctx,
                           json_t **result)
{
    int64_t deadline = symvirt_now_ms() + timeout_ms;
    struct pollfd poll_fd = {.fd = requester->stream.fd, .events = POLLIN};
    uint64_t op;
    int rc = symvirt_requester_send(requester, message, &op);

    while (!rc) {
        enum symvirt_message_type type;
        int64_t left = deadline - symvirt_now_ms();
        json_t *reply;

        rc = symvirt_requester_receive(requester, &reply);
        if (rc == -EAGAIN) {
            rc = left <= 0 ? -ETIMEDOUT : 0;
            if (!rc)
                poll(&poll_fd, 1, (int)left);
            continue;
        }
        if (rc)
            break;
        if (!symvirt_message_check(reply, &type) && symvirt_message_op(reply) == op) {
            if (type == SYMVIRT_RESULT) {
                *result = reply;
                return 0;
            }
            if (type == SYMVIRT_PROGRESS && progress)
                progress(ctx, symvirt_message_text(reply, "what"));
        }
        json_decref(reply);
    }
    return rc;
}
