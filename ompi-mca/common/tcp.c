/*
 * The TCP listener: events of all its streams, connecting, accepting and the greeting on both
 * sides.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "core.h"
#include "tcp-stream.h"

static const char greeting_magic[8] = {'N', 'I', 'N', 'J', 'A', 0, 1, 0};
/* Written in our byte order: a peer with the other one reads something else. */
#define GREETING_KIND_MARK 0x00a10000U

/* A stream becomes hot when so often in a row it was the only one that had data. */
#define HOT_STREAK 4
/* How often in a row only the hot stream is looked at before all are. */
#define HOT_PASSES 16
/* An accepted connection that does not say hello by then is closed. */
#define HELLO_LIMIT_MS 5000
/* So many retransmissions in a row in vain, for so long at least: packets of a crowded network are
 * not lost that often, and a VM that moves is stopped for less. */
#define VAIN_RETRANSMITS 5
#define VAIN_MS          3000
/* How often a connection is examined on which nothing was acknowledged since the last time. */
#define EXAMINE_MS 500

void ninja_tcp_greeting_init(struct ninja_tcp_greeting *greeting, enum ninja_tcp_greeting_kind kind,
                             const struct ninja_core *core, uint64_t receiver)
{
    memset(greeting, 0, sizeof(*greeting));
    memcpy(greeting->magic, greeting_magic, sizeof(greeting_magic));
    greeting->kind = GREETING_KIND_MARK | kind;
    greeting->sender = core->id;
    greeting->sender_nonce = core->nonce;
    greeting->receiver = receiver;
}

bool ninja_tcp_greeting_valid(const struct ninja_tcp_greeting *greeting)
{
    return memcmp(greeting->magic, greeting_magic, sizeof(greeting_magic)) == 0 &&
           (greeting->kind & 0xffff0000U) == GREETING_KIND_MARK;
}

static enum ninja_tcp_greeting_kind greeting_kind(const struct ninja_tcp_greeting *greeting)
{
    return greeting->kind & 0xffffU;
}

/* --- Opening
 * ------------------------------------------------------------------------------------------------------
 */

int ninja_tcp_listen(struct ninja_tcp *tcp, const union ninja_tcp_address *address,
                     const struct ninja_tcp_callbacks *callbacks)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    socklen_t size = sizeof(tcp->address);
    int rc;

    tcp->callbacks = callbacks;
    tcp->transport.event_fd = epoll_create1(EPOLL_CLOEXEC);
    tcp->listen_fd =
        socket(address->generic.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    tcp->buffer = malloc(NINJA_TCP_BUFFER);
    if (tcp->listen_fd >= 0)
        ninja_tcp_congestion_begin(tcp, tcp->listen_fd); /* whom it accepts inherits it */
    if (tcp->transport.event_fd < 0 || tcp->listen_fd < 0 || tcp->buffer == NULL ||
        bind(tcp->listen_fd, &address->generic, ninja_tcp_address_length(address)) != 0 ||
        listen(tcp->listen_fd, SOMAXCONN) != 0 ||
        getsockname(tcp->listen_fd, &tcp->address.generic, &size) != 0 ||
        epoll_ctl(tcp->transport.event_fd, EPOLL_CTL_ADD, tcp->listen_fd, &event) != 0) {
        rc = errno != 0 ? -errno : -ENOMEM;
        ninja_tcp_shutdown(tcp);
        return rc;
    }
    return 0;
}

static void free_dead(struct ninja_tcp *tcp)
{
    while (tcp->dead != NULL) {
        struct ninja_tcp_stream *stream = tcp->dead;

        tcp->dead = stream->next;
        ninja_tcp_stream_free(stream);
    }
}

void ninja_tcp_shutdown(struct ninja_tcp *tcp)
{
    while (tcp->streams != NULL)
        ninja_tcp_stream_close(tcp->streams);
    free_dead(tcp);
    if (tcp->listen_fd >= 0) {
        /* A forked child may have it too, and peers must be refused all the same. */
        (void)shutdown(tcp->listen_fd, SHUT_RDWR);
        close(tcp->listen_fd);
    }
    if (tcp->transport.event_fd >= 0)
        close(tcp->transport.event_fd);
    free(tcp->buffer);
    tcp->listen_fd = -1;
    tcp->transport.event_fd = -1;
    tcp->buffer = NULL;
}

struct ninja_tcp_stream *ninja_tcp_connect(struct ninja_tcp *tcp, struct ninja_path *path,
                                           const union ninja_tcp_address *address,
                                           const struct ninja_tcp_greeting *hello, int *error)
{
    union ninja_tcp_address source = tcp->address;
    struct ninja_tcp_stream *stream;
    const int on = 1;
    int fd = socket(address->generic.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        *error = -errno;
        return NULL;
    }
    ninja_tcp_congestion_begin(tcp, fd);
    /* Or else each connection would take a port for itself alone, whatever peer it is to. */
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    /* From our own address: other interfaces may not survive a move. */
    source.v4.sin_port = 0;
    if ((source.generic.sa_family == address->generic.sa_family &&
         bind(fd, &source.generic, ninja_tcp_address_length(&source)) != 0) ||
        (connect(fd, &address->generic, ninja_tcp_address_length(address)) != 0 &&
         errno != EINPROGRESS)) {
        *error = -errno;
        close(fd);
        return NULL;
    }
    stream = ninja_tcp_stream_new(tcp, fd, NINJA_TCP_CONNECTING, error);
    if (stream == NULL) {
        close(fd);
        return NULL;
    }
    stream->path = path;
    stream->greeting = *hello;
    stream->since_ms = ninja_now_ms();
    return stream;
}

/* --- The greeting
 * -------------------------------------------------------------------------------------------------
 */

static void break_stream(struct ninja_tcp_stream *stream, int error)
{
    if (stream->state == NINJA_TCP_DEAD)
        return;
    if (stream->path != NULL)
        stream->tcp->callbacks->broken(stream, error);
    ninja_tcp_stream_close(stream);
}

/* The socket of our connection is writable: it is connected, or it failed. */
static int say_hello(struct ninja_tcp_stream *stream)
{
    int error = 0;
    socklen_t size = sizeof(error);
    ssize_t sent;

    if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0)
        return error != 0 ? -error : -errno;
    sent = send(stream->fd, &stream->greeting, sizeof(stream->greeting), MSG_NOSIGNAL);
    if (sent != (ssize_t)sizeof(stream->greeting))
        return sent < 0 ? -errno : -EIO; /* a new socket always has room for it */
    stream->state = NINJA_TCP_GREETED;
    ninja_tcp_stream_want(stream, false);
    return 0;
}

static void establish(struct ninja_tcp_stream *stream)
{
    int segment = 0;
    socklen_t size = sizeof(segment);

    (void)getsockopt(stream->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, &size);
    stream->segment = segment > (int)sizeof(stream->header)
                          ? (uint32_t)segment - (uint32_t)sizeof(stream->header)
                          : 0;
    stream->state = NINJA_TCP_ESTABLISHED;
    ninja_tcp_congestion_settle(stream);
    stream->header_have = 0;
    stream->in_payload = false;
}

/* A peer's hello is whole. */
static int answer_hello(struct ninja_tcp_stream *stream)
{
    struct ninja_tcp_greeting answer;
    struct ninja_path *path;

    if (greeting_kind(&stream->greeting) != NINJA_TCP_HELLO)
        return -EPROTO;
    memset(&answer, 0, sizeof(answer));
    path = stream->tcp->callbacks->hello(stream->tcp, stream, &stream->greeting, &answer);
    stream->path = path;
    if (send(stream->fd, &answer, sizeof(answer), MSG_NOSIGNAL) != (ssize_t)sizeof(answer))
        return -ECONNRESET;
    if (path == NULL)
        return -ECONNREFUSED;
    establish(stream);
    ninja_tcp_stream_pump(stream);
    return 0;
}

/* Reads greeting bytes; returns 1 when it is whole, 0 if not yet, or a negative errno. */
static int read_greeting(struct ninja_tcp_stream *stream)
{
    ssize_t got = recv(stream->fd, (char *)&stream->greeting + stream->greeting_have,
                       sizeof(stream->greeting) - stream->greeting_have, MSG_DONTWAIT);

    if (got == 0)
        return -ECONNRESET;
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    stream->greeting_have += (size_t)got;
    if (stream->greeting_have < sizeof(stream->greeting))
        return 0;
    return ninja_tcp_greeting_valid(&stream->greeting) ? 1 : -EPROTO;
}

/* The stream is not established yet, and something happened. Returns 0 or the negative errno that
 * ends it. */
static int greet(struct ninja_tcp_stream *stream)
{
    int rc;

    if (stream->state == NINJA_TCP_CONNECTING)
        return say_hello(stream);
    rc = read_greeting(stream);
    if (rc <= 0)
        return rc;
    if (stream->state == NINJA_TCP_ACCEPTED)
        return answer_hello(stream);
    if (greeting_kind(&stream->greeting) == NINJA_TCP_WELCOME)
        establish(stream);
    if (!stream->tcp->callbacks->answered(stream, &stream->greeting) ||
        greeting_kind(&stream->greeting) != NINJA_TCP_WELCOME)
        ninja_tcp_stream_close(stream);
    else
        ninja_tcp_stream_pump(stream);
    return 0;
}

static void accept_all(struct ninja_tcp *tcp)
{
    for (;;) {
        int fd = accept4(tcp->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct ninja_tcp_stream *stream;
        int error;

        if (fd < 0)
            return;
        stream = ninja_tcp_stream_new(tcp, fd, NINJA_TCP_ACCEPTED, &error);
        if (stream == NULL) {
            close(fd);
            return;
        }
        stream->since_ms = ninja_now_ms();
    }
}

/* --- Events
 * -------------------------------------------------------------------------------------------------------
 */

/* Reads until the socket is empty, but not for ever: others wait too. */
static unsigned read_stream(struct ninja_tcp_stream *stream)
{
    unsigned before = stream->moved;

    for (unsigned i = 0; i < 4 && stream->state == NINJA_TCP_ESTABLISHED; i++) {
        unsigned moved = stream->moved;
        int rc = ninja_tcp_stream_read(stream);

        if (rc == -EAGAIN)
            break;
        if (rc < 0) {
            break_stream(stream, rc);
            break;
        }
        if (moved != stream->moved && !stream->in_payload)
            break; /* most often nothing more is there: the next pass looks */
    }
    return stream->moved - before;
}

/* No stream is the only one with data. */
static void cool_down(struct ninja_tcp *tcp)
{
    if (tcp->hot != NULL)
        ninja_tcp_stream_watch(tcp->hot, true);
    tcp->hot = NULL;
    tcp->streak = 0;
}

/* The events say that `stream` has data. */
static void note_data(struct ninja_tcp_stream *stream)
{
    struct ninja_tcp *tcp = stream->tcp;

    if (tcp->last != stream)
        cool_down(tcp);
    tcp->last = stream;
    tcp->hot_is_dry = false;
    if (tcp->hot == NULL && ++tcp->streak >= HOT_STREAK)
        tcp->hot = stream;
}

/* Most often the next frame comes from where the last one came from. */
static unsigned read_hot(struct ninja_tcp *tcp)
{
    struct ninja_tcp_stream *stream = tcp->hot;
    unsigned moved = read_stream(stream);

    if (tcp->hot != stream)
        return moved;
    tcp->hot_is_dry = moved == 0;
    /* While we look ourselves, each frame's wake-up of the epoll set would be for nothing. */
    if (stream->large)
        ninja_tcp_stream_watch(stream, true);
    else if (moved > 0 && stream->watched && !stream->want_write && !tcp->transport.core->announced)
        ninja_tcp_stream_watch(stream, false);
    return moved;
}

void ninja_tcp_announce(struct ninja_tcp *tcp)
{
    if (tcp->hot != NULL)
        ninja_tcp_stream_watch(tcp->hot, true);
}

static unsigned handle_event(struct ninja_tcp_stream *stream, uint32_t events)
{
    unsigned moved = 0;
    int rc;

    if (stream->state == NINJA_TCP_DEAD)
        return 0;
    if (stream->state != NINJA_TCP_ESTABLISHED) {
        rc = greet(stream);
        if (rc != 0)
            break_stream(stream, rc);
        return 1;
    }
    if (events & EPOLLOUT) {
        unsigned before = stream->moved;

        if (stream->error == 0)
            ninja_tcp_stream_want(stream, false);
        ninja_tcp_stream_pump(stream);
        moved = stream->moved - before;
    }
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP) || stream->error != 0) {
        note_data(stream);
        moved += read_stream(stream);
    }
    return moved;
}

/* Streams whose frames waited for memory have no event to announce them. */
static unsigned handle_waiting(struct ninja_tcp *tcp)
{
    struct ninja_tcp_stream *stream = tcp->streams;
    unsigned moved = 0;

    tcp->some_wait = false;
    while (stream != NULL) {
        struct ninja_tcp_stream *next = stream->next;

        if (stream->waiting) {
            moved += read_stream(stream);
            tcp->some_wait |= stream->waiting;
            if (next != NULL && next->state == NINJA_TCP_DEAD) {
                tcp->some_wait = true; /* the list changed: the next pass goes on */
                break;
            }
        }
        stream = next;
    }
    return moved;
}

/*
 * Whether to look at the hot stream without asking. Looking for nothing keeps its socket locked
 * half of the time; then several segments that arrive are left to us, acknowledging them included,
 * which otherwise the sender's processor does meanwhile. So large frames are waited for by the
 * epoll set.
 */
static bool hot_is_next(const struct ninja_tcp *tcp)
{
    return tcp->hot != NULL && !(tcp->hot->large && tcp->hot_is_dry && tcp->hot->watched);
}

int ninja_tcp_progress(struct ninja_tcp *tcp)
{
    struct epoll_event events[32];
    unsigned moved = 0;
    int count;

    if (tcp->some_wait)
        moved += handle_waiting(tcp);
    if (hot_is_next(tcp)) {
        moved += read_hot(tcp);
        if (hot_is_next(tcp) && tcp->writers == 0 && !tcp->transport.core->control_progress &&
            ++tcp->cold_passes < HOT_PASSES) {
            free_dead(tcp);
            return (int)moved;
        }
    }
    tcp->cold_passes = 0;
    count = epoll_wait(tcp->transport.event_fd, events, 32, 0);
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == NULL)
            accept_all(tcp);
        else
            moved += handle_event(events[i].data.ptr, events[i].events);
    }
    free_dead(tcp);
    return (int)moved;
}

void ninja_tcp_tick(struct ninja_tcp *tcp, uint64_t now)
{
    struct ninja_tcp_stream *stream = tcp->streams;

    while (stream != NULL) {
        struct ninja_tcp_stream *next = stream->next;

        if (stream->state == NINJA_TCP_ACCEPTED && now - stream->since_ms > HELLO_LIMIT_MS)
            ninja_tcp_stream_close(stream);
        stream = next;
    }
    free_dead(tcp);
}

/* Has nothing been acknowledged for long? A link that gets acknowledgements costs nothing here. */
static bool is_vain(struct ninja_tcp_stream *stream, uint64_t now)
{
    const struct ninja_link *link = stream->path->link;
    bool well = stream->examined != link->data.acknowledged || stream->well_ms == 0;
    struct ninja_tcp_trouble trouble = {.retransmits = 0};

    stream->examined = link->data.acknowledged;
    if (!well) {
        ninja_tcp_stream_trouble(stream, &trouble);
        well = trouble.unacknowledged == 0 || trouble.retransmits == 0;
    }
    if (well)
        stream->well_ms = now;
    return !well && trouble.retransmits >= VAIN_RETRANSMITS && now - stream->well_ms >= VAIN_MS;
}

uint64_t ninja_tcp_end_vain(struct ninja_tcp *tcp, uint64_t now)
{
    struct ninja_tcp_stream *stream = tcp->streams;
    bool busy = false;

    if (now < tcp->examine_at_ms)
        return tcp->examine_at_ms;
    while (stream != NULL) {
        struct ninja_tcp_stream *next = stream->next;

        if (stream->state == NINJA_TCP_ESTABLISHED && stream->path->link->data.head != NULL) {
            busy = true;
            if (is_vain(stream, now))
                break_stream(stream, -ETIMEDOUT);
        }
        if (next != NULL && next->state == NINJA_TCP_DEAD)
            break; /* the list changed: the next look goes on */
        stream = next;
    }
    free_dead(tcp);
    tcp->examine_at_ms = busy ? now + EXAMINE_MS : 0;
    return tcp->examine_at_ms;
}
