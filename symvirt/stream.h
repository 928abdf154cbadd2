/* A unix socket that carries frames: buffers, limits, never blocks. Private to libsymvirt and the
 * agent. SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef SYMVIRT_STREAM_H
#define SYMVIRT_STREAM_H

#include "symvirt.h"

/* A peer that lets more than this pile up is cut off. */
#define SYMVIRT_STREAM_BACKLOG_MAX (512 * 1024)

/* Gets a message that passed symvirt_message_check(); it is valid during the call. */
typedef void (*symvirt_stream_handler)(void *ctx, enum symvirt_message_type type, json_t *message);

struct symvirt_stream {
    int fd;    /* -1: closed */
    int error; /* why it is to be closed, a negative errno; 0: it is alive */
    symvirt_stream_handler handler;
    void *ctx;
    uint64_t bad_messages; /* frames that were fine but held no known message */
    struct symvirt_decoder *decoder;
    uint64_t sequence; /* of the last frame sent */
    char *backlog;     /* bytes not yet written */
    size_t backlog_begin;
    size_t backlog_size;
};

struct sockaddr_un;

/* Fills '*address' for 'path'. Returns -ENAMETOOLONG or -EINVAL. */
int symvirt_socket_address(const char *path, struct sockaddr_un *address);

/* A non-blocking connection to 'path': a descriptor, or a negative errno. */
int symvirt_socket_connect(const char *path);

/* A non-blocking listening socket at 'path' with file mode 'mode': a descriptor, or a negative
 * errno. The file of a process that is gone is replaced; -EADDRINUSE if one lives. */
int symvirt_socket_listen(const char *path, unsigned mode);

/* Starts to use 'fd', which the stream owns from now on. */
void symvirt_stream_open(struct symvirt_stream *stream, int fd, symvirt_stream_handler handler,
                         void *ctx);

/* Closes it; may be called twice. */
void symvirt_stream_close(struct symvirt_stream *stream);

/* Queues 'message', whose reference is taken, and writes what can be written. NULL or trouble sets
 * stream->error. */
void symvirt_stream_send(struct symvirt_stream *stream, json_t *message);

/* Writes what can be written. */
void symvirt_stream_flush(struct symvirt_stream *stream);

/* Reads what is there, up to a bound, and calls the handler. Sets stream->error at the end of the
 * stream. */
void symvirt_stream_read(struct symvirt_stream *stream);

/* True if bytes wait for the descriptor to become writable. */
static inline int symvirt_stream_waits_to_write(const struct symvirt_stream *stream)
{
    return stream->backlog_begin < stream->backlog_size;
}

/* CLOCK_MONOTONIC in milliseconds. */
int64_t symvirt_now_ms(void);

#endif
