/* A unix socket that carries frames: buffers, limits, never blocks.
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "stream.h"

int64_t symvirt_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int symvirt_socket_address(const char *path, struct sockaddr_un *address)
{
    size_t length = strlen(path);

    if (!length)
        return -EINVAL;
    if (length >= sizeof(address->sun_path))
        return -ENAMETOOLONG;
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, length);
    return 0;
}

int symvirt_socket_connect(const char *path)
{
    struct sockaddr_un address;
    int rc = symvirt_socket_address(path, &address);
    int fd;

    if (rc)
        return rc;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

/* Removes the socket file of a process that is gone. */
static int socket_remove_stale(const char *path)
{
    struct stat file;
    int fd;

    if (lstat(path, &file))
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(file.st_mode))
        return -EEXIST;
    fd = symvirt_socket_connect(path);
    if (fd >= 0)
        close(fd);
    if (fd != -ECONNREFUSED)
        return -EADDRINUSE;
    return unlink(path) && errno != ENOENT ? -errno : 0;
}

int symvirt_socket_listen(const char *path, unsigned mode)
{
    struct sockaddr_un address;
    int rc = symvirt_socket_address(path, &address);
    int fd;

    if (!rc)
        rc = socket_remove_stale(path);
    if (rc)
        return rc;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* The mode set before bind() is the one that the file is born with (less the umask). */
    if (fchmod(fd, mode) || bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
        listen(fd, 64)) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

void symvirt_stream_open(struct symvirt_stream *stream, int fd, symvirt_stream_handler handler,
                         void *ctx)
{
    *stream = (struct symvirt_stream){.fd = fd, .handler = handler, .ctx = ctx};
}

void symvirt_stream_close(struct symvirt_stream *stream)
{
    if (stream->fd >= 0) {
        /* A child of this process may have the socket too. */
        (void)shutdown(stream->fd, SHUT_RDWR);
        close(stream->fd);
    }
    stream->fd = -1;
    symvirt_decoder_destroy(stream->decoder);
    stream->decoder = NULL;
    free(stream->backlog);
    stream->backlog = NULL;
    stream->backlog_begin = stream->backlog_size = 0;
}

static int stream_queue(struct symvirt_stream *stream, const void *frame, size_t size)
{
    size_t waiting = stream->backlog_size - stream->backlog_begin;
    char *grown;

    if (waiting + size > SYMVIRT_STREAM_BACKLOG_MAX)
        return -ENOBUFS;
    if (stream->backlog)
        memmove(stream->backlog, stream->backlog + stream->backlog_begin, waiting);
    stream->backlog_begin = 0;
    stream->backlog_size = waiting;
    grown = realloc(stream->backlog, waiting + size);
    if (!grown)
        return -ENOMEM;
    memcpy(grown + waiting, frame, size);
    stream->backlog = grown;
    stream->backlog_size = waiting + size;
    return 0;
}

void symvirt_stream_send(struct symvirt_stream *stream, json_t *message)
{
    void *frame = NULL;
    size_t size;
    int rc = -ENOMEM;

    if (!stream->error && message) {
        rc = symvirt_frame_encode(message, stream->sequence + 1, 0, &frame, &size);
        if (!rc)
            rc = stream_queue(stream, frame, size);
        if (!rc)
            stream->sequence++;
    }
    free(frame);
    json_decref(message);
    if (stream->error)
        return;
    stream->error = rc;
    symvirt_stream_flush(stream);
}

void symvirt_stream_flush(struct symvirt_stream *stream)
{
    while (!stream->error && symvirt_stream_waits_to_write(stream)) {
        ssize_t n = send(stream->fd, stream->backlog + stream->backlog_begin,
                         stream->backlog_size - stream->backlog_begin, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n >= 0)
            stream->backlog_begin += (size_t)n;
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR)
            stream->error = -errno;
    }
    if (!symvirt_stream_waits_to_write(stream)) {
        free(stream->backlog);
        stream->backlog = NULL;
        stream->backlog_begin = stream->backlog_size = 0;
    }
}

static void stream_on_frame(void *ctx, json_t *message, uint64_t sequence, uint64_t epoch)
{
    struct symvirt_stream *stream = ctx;
    enum symvirt_message_type type;

    if (stream->error)
        return;
    if (symvirt_message_check(message, &type)) {
        stream->bad_messages++;
        return;
    }
    stream->handler(stream->ctx, type, message);
}

void symvirt_stream_read(struct symvirt_stream *stream)
{
    char buffer[16384];

    /* A bound, so that a chatty peer cannot keep the others waiting. */
    for (int round = 0; round < 16 && !stream->error; round++) {
        ssize_t n = recv(stream->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            stream->error = n ? -errno : -ECONNRESET;
            return;
        }
        /* The decoder is large; a connection that never speaks need not have one. */
        if (!stream->decoder && symvirt_decoder_create(&stream->decoder, stream_on_frame, stream)) {
            stream->error = -ENOMEM;
            return;
        }
        symvirt_decoder_feed(stream->decoder, buffer, (size_t)n);
    }
}
