/*
 * One TCP connection: frames out by gathering writes from where they are, in straight to where they
 * belong.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include "tcp-stream.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core.h"

/* Frames are taken from the link until a batch holds this much: more would have to drain at a
 * switch. */
#define BATCH_BYTES (256U * 1024U)

/* Puts the stream into the epoll set, changes what it waits for there, or takes it out. */
static void set_events(struct ninja_tcp_stream *stream, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | (stream->want_write ? EPOLLOUT : 0),
                                .data.ptr = stream};

    /* A stream that could not be put in is not watched, and so still read without asking. */
    stream->watched =
        epoll_ctl(stream->tcp->transport.event_fd, operation, stream->fd, &event) == 0 &&
        operation != EPOLL_CTL_DEL;
}

void ninja_tcp_stream_want(struct ninja_tcp_stream *stream, bool write)
{
    if (stream->want_write == write)
        return;
    stream->want_write = write;
    if (stream->state == NINJA_TCP_ESTABLISHED)
        stream->tcp->writers += write ? 1U : -1U;
    set_events(stream, stream->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD);
}

void ninja_tcp_stream_watch(struct ninja_tcp_stream *stream, bool on)
{
    if (stream->watched != on)
        set_events(stream, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL);
}

/* --- Sending
 * ------------------------------------------------------------------------------------------------------
 */

/* Takes frames from the link until the batch is full; returns false if the link has no more. */
static bool fill_batch(struct ninja_tcp_stream *stream)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < stream->batch_count; i++)
        bytes += ninja_frame_length(stream->batch[i]);
    while (stream->batch_count < NINJA_TCP_BATCH && bytes < BATCH_BYTES) {
        struct ninja_frame *frame = ninja_path_next(stream->path);

        if (frame == NULL)
            return false;
        stream->batch[stream->batch_count++] = frame;
        bytes += ninja_frame_length(frame);
    }
    return true;
}

/* Describes what of the batch is unwritten; returns the number of pieces. */
static int gather(const struct ninja_tcp_stream *stream, struct iovec *pieces)
{
    size_t skip = stream->batch_written;
    int count = 0;

    for (unsigned i = 0; i < stream->batch_count; i++) {
        const struct ninja_frame *frame = stream->batch[i];
        struct iovec parts[2] = {
            {(void *)&frame->header, sizeof(frame->header) + frame->inline_length},
            {(void *)frame->place, frame->place_length},
        };

        for (int part = 0; part < 2; part++) {
            if (skip >= parts[part].iov_len) {
                skip -= parts[part].iov_len;
                continue;
            }
            pieces[count].iov_base = (char *)parts[part].iov_base + skip;
            pieces[count++].iov_len = parts[part].iov_len - skip;
            skip = 0;
        }
    }
    return count;
}

/* `written` more bytes of the batch are in the kernel: gives back the frames that are whole. */
static void advance(struct ninja_tcp_stream *stream, size_t written)
{
    unsigned done = 0;

    stream->batch_written += written;
    while (done < stream->batch_count) {
        struct ninja_frame *frame = stream->batch[done];
        size_t size = sizeof(frame->header) + ninja_frame_length(frame);

        if (stream->batch_written < size)
            break;
        stream->batch_written -= size;
        ninja_path_sent(stream->path, frame);
        done++;
    }
    stream->batch_count -= done;
    memmove(stream->batch, stream->batch + done, stream->batch_count * sizeof(stream->batch[0]));
}

/* Writes what of the batch is unwritten, as much as the socket takes. */
static ssize_t write_batch(const struct ninja_tcp_stream *stream)
{
    struct iovec pieces[2 * NINJA_TCP_BATCH];
    struct msghdr message = {.msg_iov = pieces};

    message.msg_iovlen = (size_t)gather(stream, pieces);
    /* The kernel is quicker with one piece if it need not read a list of them. */
    if (message.msg_iovlen == 1)
        return send(stream->fd, pieces[0].iov_base, pieces[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sendmsg(stream->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void ninja_tcp_stream_pump(struct ninja_tcp_stream *stream)
{
    bool more = true;

    if (stream->state != NINJA_TCP_ESTABLISHED || stream->want_write || stream->finishing)
        return;
    while (more || stream->batch_count > 0) {
        ssize_t written;

        more = fill_batch(stream);
        if (stream->batch_count == 0)
            return;
        written = write_batch(stream);
        if (written < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            ninja_tcp_stream_want(stream, true);
            return;
        }
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            /* The reader sees it too, from where closing the stream is safe. */
            stream->error = -errno;
            ninja_tcp_stream_want(stream, true);
            return;
        }
        stream->moved++;
        advance(stream, (size_t)written);
    }
}

/* --- Receiving
 * ----------------------------------------------------------------------------------------------------
 */

/* A frame's header is whole: finds out where its payload goes. Returns 0, -EAGAIN (WAIT), or a
 * negative errno. */
static int begin_frame(struct ninja_tcp_stream *stream)
{
    struct ninja_frame_header *header = &stream->header;
    void *where = NULL;
    int rc = ninja_frame_header_check(header);

    if (rc != 0)
        return rc;
    stream->landing = ninja_path_landing(stream->path, header, &where);
    if (stream->landing == NINJA_LANDING_WAIT)
        return -EAGAIN;
    stream->payload_have = 0;
    stream->place = stream->landing == NINJA_LANDING_PLACE ? where : NULL;
    stream->in_payload = true;
    return 0;
}

/* The payload is whole, at `payload` if it was copied. The stream may be dead afterwards. */
static void end_frame(struct ninja_tcp_stream *stream, const void *payload)
{
    struct ninja_frame_header header = stream->header;

    stream->in_payload = false;
    stream->header_have = 0;
    stream->large = header.length > stream->segment;
    stream->moved++;
    if (stream->landing == NINJA_LANDING_PLACE)
        ninja_path_placed(stream->path, &header);
    else if (stream->landing == NINJA_LANDING_COPY)
        ninja_path_received(stream->path, &header, payload);
}

/* Where payload bytes that are not in the shared buffer go: the user's memory, the stash, or
 * nowhere (NULL). */
static unsigned char *payload_target(struct ninja_tcp_stream *stream)
{
    if (stream->landing == NINJA_LANDING_PLACE)
        return stream->path->landing_cancelled ? NULL : stream->place + stream->payload_have;
    if (stream->landing == NINJA_LANDING_COPY)
        return stream->stash + stream->payload_have;
    return NULL;
}

/* Makes room for the part of a copied payload that has not arrived. */
static int make_stash(struct ninja_tcp_stream *stream)
{
    if (stream->landing != NINJA_LANDING_COPY || stream->stash_size >= stream->header.length)
        return 0;
    free(stream->stash);
    stream->stash_size = stream->header.length;
    stream->stash = malloc(stream->stash_size);
    if (stream->stash == NULL) {
        stream->stash_size = 0;
        return -ENOMEM;
    }
    return 0;
}

/* Takes payload from [at, end); returns how much, or a negative errno. */
static ssize_t take_payload(struct ninja_tcp_stream *stream, const unsigned char *at,
                            size_t available)
{
    size_t missing = stream->header.length - stream->payload_have;
    size_t take = available < missing ? available : missing;
    unsigned char *target;

    if (stream->payload_have == 0 && take == missing && stream->landing == NINJA_LANDING_COPY) {
        end_frame(stream, at); /* whole in the shared buffer: no copy */
        return (ssize_t)take;
    }
    if (make_stash(stream) != 0)
        return -ENOMEM;
    target = payload_target(stream);
    if (target != NULL && take > 0)
        memcpy(target, at, take);
    stream->payload_have += (uint32_t)take;
    if (take == missing)
        end_frame(stream, stream->stash);
    return (ssize_t)take;
}

/* Keeps bytes that cannot be handled now (WAIT), for ninja_tcp_stream_read() to begin with. */
static int keep_rest(struct ninja_tcp_stream *stream, const unsigned char *at, size_t size)
{
    unsigned char *rest = NULL;

    if (size > 0) {
        rest = malloc(size);
        if (rest == NULL)
            return -ENOMEM;
        memcpy(rest, at, size);
    }
    free(stream->rest);
    stream->rest = rest;
    stream->rest_size = size;
    return 0;
}

/* Handles `size` bytes that have arrived. Returns 0 or a negative errno. */
static int parse(struct ninja_tcp_stream *stream, const unsigned char *at, size_t size)
{
    while (size > 0 || stream->waiting) {
        if (stream->state != NINJA_TCP_ESTABLISHED)
            return 0; /* a frame that was handled closed this stream */
        if (!stream->in_payload) {
            size_t missing = sizeof(stream->header) - stream->header_have;
            size_t take = size < missing ? size : missing;
            int rc;

            memcpy((unsigned char *)&stream->header + stream->header_have, at, take);
            stream->header_have += take;
            at += take;
            size -= take;
            if (stream->header_have < sizeof(stream->header))
                return 0;
            rc = begin_frame(stream);
            stream->waiting = rc == -EAGAIN;
            stream->tcp->some_wait |= stream->waiting;
            if (rc == -EAGAIN)
                return keep_rest(stream, at, size);
            if (rc != 0)
                return rc;
            if (stream->header.length == 0) {
                end_frame(stream, at);
                continue;
            }
        }
        if (size > 0) {
            ssize_t taken = take_payload(stream, at, size);

            if (taken < 0)
                return (int)taken;
            at += taken;
            size -= (size_t)taken;
        }
    }
    return 0;
}

/* Goes on with what WAIT left behind. Returns 0, -EAGAIN if it must still wait, or a negative
 * errno. */
static int resume_waiting(struct ninja_tcp_stream *stream)
{
    unsigned char *rest = stream->rest;
    size_t size = stream->rest_size;
    int rc;

    stream->rest = NULL;
    stream->rest_size = 0;
    rc = parse(stream, rest, size);
    free(rest);
    if (rc != 0)
        return rc;
    return stream->waiting ? -EAGAIN : 0;
}

int ninja_tcp_stream_read(struct ninja_tcp_stream *stream)
{
    struct ninja_tcp *tcp = stream->tcp;
    struct iovec pieces[2];
    struct msghdr message = {.msg_iov = pieces};
    unsigned char *target = NULL;
    size_t direct = 0;
    ssize_t got;

    if (stream->error != 0)
        return stream->error;
    if (stream->waiting) {
        int rc = resume_waiting(stream);

        if (rc != 0)
            return rc;
        if (stream->state != NINJA_TCP_ESTABLISHED)
            return 0;
    }
    if (stream->in_payload) {
        direct = stream->header.length - stream->payload_have;
        if (make_stash(stream) != 0)
            return -ENOMEM;
        target = payload_target(stream);
    }
    /* A payload under way is read to where it belongs, and what follows it to the shared buffer. */
    if (target != NULL)
        pieces[message.msg_iovlen++] = (struct iovec){target, direct};
    pieces[message.msg_iovlen++] = (struct iovec){
        tcp->buffer, stream->path->link->gets_waiting > 0 ? NINJA_TCP_GLANCE : NINJA_TCP_BUFFER};
    got = message.msg_iovlen == 1
              ? recv(stream->fd, pieces[0].iov_base, pieces[0].iov_len, MSG_DONTWAIT)
              : recvmsg(stream->fd, &message, MSG_DONTWAIT);
    if (got == 0)
        return -ECONNRESET;
    if (got < 0)
        return errno == EINTR ? 0 : -errno;
    if (target != NULL) {
        size_t taken = (size_t)got < direct ? (size_t)got : direct;

        stream->payload_have += (uint32_t)taken;
        got -= (ssize_t)taken;
        if (taken < direct)
            return 0;
        end_frame(stream, stream->stash);
    }
    return got > 0 ? parse(stream, tcp->buffer, (size_t)got) : 0;
}

/* --- Life
 * ---------------------------------------------------------------------------------------------------------
 */

struct ninja_tcp_stream *ninja_tcp_stream_new(struct ninja_tcp *tcp, int fd,
                                              enum ninja_tcp_state state, int *error)
{
    struct ninja_tcp_stream *stream = calloc(1, sizeof(*stream));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = stream};
    const int on = 1;

    if (stream == NULL) {
        *error = -ENOMEM;
        return NULL;
    }
    stream->tcp = tcp;
    stream->fd = fd;
    stream->state = state;
    if (state == NINJA_TCP_CONNECTING) {
        event.events |= EPOLLOUT;
        stream->want_write = true;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    /* A short outage should not be doubled by exponential back-off. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, &on, sizeof(on));
    if (epoll_ctl(tcp->transport.event_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        *error = -errno;
        free(stream);
        return NULL;
    }
    stream->watched = true;
    stream->next = tcp->streams;
    tcp->streams = stream;
    return stream;
}

void ninja_tcp_stream_close(struct ninja_tcp_stream *stream)
{
    struct ninja_tcp *tcp;
    struct ninja_tcp_stream **at;

    if (stream == NULL || stream->state == NINJA_TCP_DEAD)
        return;
    tcp = stream->tcp;
    if (stream->state == NINJA_TCP_ESTABLISHED && stream->want_write)
        tcp->writers--;
    stream->state = NINJA_TCP_DEAD;
    /* A child that the application has forked may have this socket too: closing it here would end
     * neither the connection nor its events. */
    ninja_tcp_stream_watch(stream, false);
    (void)shutdown(stream->fd, SHUT_RDWR);
    close(stream->fd);
    stream->fd = -1;
    for (unsigned i = 0; i < stream->batch_count; i++)
        ninja_path_sent(stream->path, stream->batch[i]);
    stream->batch_count = 0;
    for (at = &tcp->streams; *at != stream;)
        at = &(*at)->next;
    *at = stream->next;
    stream->next = tcp->dead;
    tcp->dead = stream;
    if (tcp->hot == stream)
        tcp->hot = NULL;
    if (tcp->last == stream)
        tcp->last = NULL;
    if (stream->path != NULL && stream->in_payload && stream->landing == NINJA_LANDING_PLACE)
        ninja_link_landing_ended(stream->path->link, stream->path);
}

void ninja_tcp_stream_free(struct ninja_tcp_stream *stream)
{
    free(stream->stash);
    free(stream->rest);
    free(stream);
}

void ninja_tcp_stream_finish(struct ninja_tcp_stream *stream)
{
    stream->finishing = true;
    (void)shutdown(stream->fd, SHUT_WR);
}

bool ninja_tcp_stream_established(const struct ninja_tcp_stream *stream)
{
    return stream != NULL && stream->state == NINJA_TCP_ESTABLISHED;
}

struct ninja_path *ninja_tcp_stream_path(const struct ninja_tcp_stream *stream)
{
    return stream->path;
}

void ninja_tcp_stream_trouble(const struct ninja_tcp_stream *stream,
                              struct ninja_tcp_trouble *trouble)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);
    int bytes = 0;

    memset(trouble, 0, sizeof(*trouble));
    if (ioctl(stream->fd, SIOCOUTQ, &bytes) == 0 && bytes > 0)
        trouble->unacknowledged = (unsigned)bytes;
    if (getsockopt(stream->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0) {
        trouble->connected = info.tcpi_state == TCP_ESTABLISHED;
        trouble->retransmits = info.tcpi_retransmits;
        trouble->round_trip_us = info.tcpi_rtt;
    }
}
