/*
 * A TCP connection from the inside, for tcp-stream.c (frames) and tcp.c (events and greetings).
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_TCP_STREAM_H
#define NINJA_TCP_STREAM_H

#include "tcp.h"

/* Frames gathered into one write. */
#define NINJA_TCP_BATCH 32
/* The buffer that reads share: room for the largest message that is copied. */
#define NINJA_TCP_BUFFER (256U * 1024U)
/* While data of a get is awaited, reads beyond what is known are short, so that its payload is not
 * read here and copied. */
#define NINJA_TCP_GLANCE 1024U

enum ninja_tcp_state {
    NINJA_TCP_CONNECTING,  /* ours: the socket is not connected yet */
    NINJA_TCP_GREETED,     /* ours: hello is sent, the answer is awaited */
    NINJA_TCP_ACCEPTED,    /* the peer's: its hello is awaited */
    NINJA_TCP_ESTABLISHED, /* frames flow */
    NINJA_TCP_DEAD         /* closed, to be freed */
};

struct ninja_tcp_stream {
    struct ninja_tcp *tcp;
    struct ninja_tcp_stream *next; /* in tcp->streams or tcp->dead */
    struct ninja_path *path;       /* NULL while ACCEPTED */
    int fd;
    enum ninja_tcp_state state;
    uint32_t segment;  /* payload that one segment carries besides a header */
    int error;         /* met while sending: the reader reports it */
    bool want_write;   /* the socket is full or not connected: EPOLLOUT is awaited */
    bool watched;      /* in the epoll set; not while it is `hot` and the application polls */
    bool finishing;    /* nothing more is sent */
    unsigned moved;    /* frames and writes, for progress() to count */
    uint64_t since_ms; /* of the connection's beginning */
    uint64_t examined; /* ninja_tcp_end_vain(): what was acknowledged at the last look */
    uint64_t well_ms;  /* when it last looked well */

    struct ninja_tcp_greeting greeting; /* ours to be sent, or the peer's as it arrives */
    size_t greeting_have;

    struct ninja_frame *batch[NINJA_TCP_BATCH]; /* taken from the link, not wholly written */
    unsigned batch_count;
    size_t batch_written; /* bytes of batch[0] that are in the kernel */

    struct ninja_frame_header header; /* of the frame that arrives */
    size_t header_have;
    bool in_payload;
    bool large;   /* the last frame came in several segments */
    bool waiting; /* the header is whole, but the link cannot take the frame now */
    enum ninja_landing landing;
    unsigned char *place; /* PLACE: where the payload begins */
    uint32_t payload_have;
    unsigned char *stash; /* a copied payload that arrives in pieces */
    size_t stash_size;
    unsigned char *rest; /* bytes read behind the frame that waits */
    size_t rest_size;
};

/* Makes a stream for the connected or connecting socket `fd`, which it owns on success. */
struct ninja_tcp_stream *ninja_tcp_stream_new(struct ninja_tcp *tcp, int fd,
                                              enum ninja_tcp_state state, int *error);

/* A new socket that will listen or connect: gives it the congestion control to begin with. */
void ninja_tcp_congestion_begin(struct ninja_tcp *tcp, int fd);

/* `stream` is connected, and so it is known how far the peer is: gives a far one what suits it. */
void ninja_tcp_congestion_settle(const struct ninja_tcp_stream *stream);

/* Frees a dead stream. */
void ninja_tcp_stream_free(struct ninja_tcp_stream *stream);

/*
 * Reads once and handles the frames that came. Returns 0, -EAGAIN when there is nothing to read or
 * the link cannot take more, or the negative errno that ends the stream.
 */
int ninja_tcp_stream_read(struct ninja_tcp_stream *stream);

/* Asks for EPOLLOUT or no longer. */
void ninja_tcp_stream_want(struct ninja_tcp_stream *stream, bool write);

/* Puts `stream` into the epoll set or takes it out: a socket in no set makes no wake-ups. */
void ninja_tcp_stream_watch(struct ninja_tcp_stream *stream, bool on);

#endif
