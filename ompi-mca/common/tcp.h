/*
 * Frames over TCP sockets: the listener, the greeting and the streams that the lifeline and the tcp
 * transport share.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_TCP_H
#define NINJA_TCP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "transport.h"

struct ninja_tcp;
struct ninja_tcp_stream;

/* An IPv4 or IPv6 address with port, as it travels between ranks. */
union ninja_tcp_address {
    struct sockaddr generic;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Each side's first bytes on a connection. */
enum ninja_tcp_greeting_kind {
    NINJA_TCP_HELLO = 1, /* of the side that connects */
    NINJA_TCP_WELCOME,   /* the answer: frames may follow */
    NINJA_TCP_REJECT     /* the answer: not now; `number` is the highest connection number known */
};

struct ninja_tcp_greeting {
    char magic[8];           /* "NINJA\0" and the version; also tells the byte order */
    uint32_t kind;           /* enum ninja_tcp_greeting_kind */
    uint32_t generation;     /* of the path; 0: the lifeline */
    uint64_t sender;         /* id of who says this */
    uint64_t receiver;       /* id of who should hear it */
    uint64_t receiver_nonce; /* the receiver's secret, from its contact: only members of the job
                                know it */
    uint64_t sender_nonce;   /* lifeline: so that the receiver can connect back */
    uint64_t path_nonce;     /* other paths: from the offer */
    uint64_t data_received;  /* lifeline: what need not be replayed */
    uint64_t control_received;
    uint32_t number; /* lifeline: of this connection between the two, growing */
    uint32_t padding;
    union ninja_tcp_address address; /* lifeline: where the sender listens */
    uint32_t padding2;
};

/* What the owner of a ninja_tcp is told. All with the gate held. */
struct ninja_tcp_callbacks {
    /*
     * Somebody connected and said `hello`. Returns the path that the stream is to carry, with
     * *answer filled in (WELCOME), or NULL with *answer a REJECT. The stream carries frames after
     * this has returned.
     */
    struct ninja_path *(*hello)(struct ninja_tcp *tcp, struct ninja_tcp_stream *stream,
                                const struct ninja_tcp_greeting *hello,
                                struct ninja_tcp_greeting *answer);
    /* A stream that we connected was answered. Returns false if the stream is of no use (it is
     * closed then). */
    bool (*answered)(struct ninja_tcp_stream *stream, const struct ninja_tcp_greeting *answer);
    /* A stream with a path broke or was never established; it is closed after this returns. */
    void (*broken)(struct ninja_tcp_stream *stream, int error);
};

/* A listener with its streams; the first member is the transport that it serves. */
struct ninja_tcp {
    struct ninja_transport transport; /* event_fd is the epoll instance */
    const struct ninja_tcp_callbacks *callbacks;
    int listen_fd;
    union ninja_tcp_address address; /* where we listen; also the source of our connections */
    struct ninja_tcp_stream *streams;
    struct ninja_tcp_stream *dead; /* to be freed when no event can name them any more */
    struct ninja_tcp_stream *hot;  /* the only one that has had data lately: read without asking */
    struct ninja_tcp_stream *last; /* the one that had data last */
    bool hot_is_dry;               /* the last look at `hot` brought nothing */
    unsigned streak;               /* how often in a row only `last` had data */
    unsigned cold_passes;          /* since all were looked at */
    unsigned writers;              /* established streams whose socket is full */
    uint64_t examine_at_ms;        /* ninja_tcp_end_vain(); 0: at once */
    bool some_wait;                /* a stream has unread frames that no event will announce */
    unsigned char *buffer;         /* what a read brings, shared by all streams */
    char far_congestion[16];       /* the choice of the system, for far peers; "": all have it */
};

/*
 * Listens on `address` (port 0: any). `event_fd` and `buffer` are made. Returns 0 or a negative
 * errno; on failure nothing is left open.
 */
int ninja_tcp_listen(struct ninja_tcp *tcp, const union ninja_tcp_address *address,
                     const struct ninja_tcp_callbacks *callbacks);

/* Closes the listener and all streams, without callbacks. */
void ninja_tcp_shutdown(struct ninja_tcp *tcp);

/*
 * Begins to connect to `address` for `path`, to say `hello`. Returns NULL when no socket could be
 * made
 * (*error is set).
 */
struct ninja_tcp_stream *ninja_tcp_connect(struct ninja_tcp *tcp, struct ninja_path *path,
                                           const union ninja_tcp_address *address,
                                           const struct ninja_tcp_greeting *hello, int *error);

/* Closes connections that never say hello. */
void ninja_tcp_tick(struct ninja_tcp *tcp, uint64_t now);

/*
 * Breaks the connections of a fabric on which nothing arrives any more although both ends are
 * there: TCP itself would go on for a quarter of an hour, and their links have the lifeline.
 * Returns when to look again (0: when something was sent).
 */
uint64_t ninja_tcp_end_vain(struct ninja_tcp *tcp, uint64_t now);

/* Closes `stream` at once, without callbacks; frames that it held are given back. NULL is accepted.
 */
void ninja_tcp_stream_close(struct ninja_tcp_stream *stream);

/* Says that no more will be sent, after what has been accepted by the kernel. */
void ninja_tcp_stream_finish(struct ninja_tcp_stream *stream);

/* `stream` carries frames: both greetings are done. */
bool ninja_tcp_stream_established(const struct ninja_tcp_stream *stream);

struct ninja_path *ninja_tcp_stream_path(const struct ninja_tcp_stream *stream);

/* Sends what the stream's path has, as much as the socket takes. */
void ninja_tcp_stream_pump(struct ninja_tcp_stream *stream);

/* What the kernel knows of a connection. */
struct ninja_tcp_trouble {
    bool connected;          /* the peer's kernel has answered */
    unsigned unacknowledged; /* bytes in the kernel that the peer's kernel has not acknowledged */
    unsigned retransmits;    /* how often they were sent in vain in a row */
    unsigned round_trip_us;
};
void ninja_tcp_stream_trouble(const struct ninja_tcp_stream *stream,
                              struct ninja_tcp_trouble *trouble);

/* Handles all events there are; returns the number of frames moved. */
int ninja_tcp_progress(struct ninja_tcp *tcp);

/* As the operation announce() of a transport. */
void ninja_tcp_announce(struct ninja_tcp *tcp);

/*
 * The address of the interface, address or network that `what` names ("eth0", "10.0.0.5",
 * "10.0.0.0/24"); empty or NULL: the interface of the default route, else the first that is up and
 * not loopback, else loopback. Returns 0, or -ENODEV with a sentence in `why`.
 */
int ninja_tcp_choose_address(const char *what, union ninja_tcp_address *address, char *why,
                             size_t why_size);

/* Fills magic, kind and the ids of a greeting of ours to `link`. */
void ninja_tcp_greeting_init(struct ninja_tcp_greeting *greeting, enum ninja_tcp_greeting_kind kind,
                             const struct ninja_core *core, uint64_t receiver);

/* `greeting` is of our version and byte order. */
bool ninja_tcp_greeting_valid(const struct ninja_tcp_greeting *greeting);

/* Length of `address` for the socket calls. */
socklen_t ninja_tcp_address_length(const union ninja_tcp_address *address);

#endif
