/* The datagrams between a running program and ninja-observer, and how to send them.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HEARTBEAT_H
#define HEARTBEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEARTBEAT_MAGIC        0x4e4a4842u /* "NJHB" */
#define HEARTBEAT_VERSION      1
#define HEARTBEAT_INTERVAL_NS  10000000ull
#define HEARTBEAT_LABEL_SIZE   32
#define HEARTBEAT_DEFAULT_PORT "7510"

/* What a datagram says. Requests are answered with one JSON datagram. */
enum heartbeat_kind {
    HEARTBEAT_WORK = 1,   /* messages were completed since the last one */
    HEARTBEAT_ALIVE = 2,  /* nothing to do just now, or computing outside MPI: not stalled */
    HEARTBEAT_PAUSE = 3,  /* a silence that is meant follows: it is no stall */
    HEARTBEAT_END = 4,    /* the last one of this source */
    HEARTBEAT_REPORT = 5, /* request: what was seen of this job (0: of all) */
    HEARTBEAT_MARK = 6,   /* request: the window 'label' starts now */
    HEARTBEAT_UNMARK = 7, /* request: the window 'label' ends now; answers its longest stall */
};

/* One datagram; all integers in network byte order. */
struct heartbeat_frame {
    uint32_t magic;
    uint16_t version;
    uint16_t kind;
    uint64_t job; /* names the job; the same in all its ranks */
    uint32_t rank;
    uint32_t ranks;
    uint64_t seq;                     /* of this source, from 0 */
    uint64_t messages;                /* verified so far by this source */
    uint64_t bytes;                   /* verified so far by this source */
    char label[HEARTBEAT_LABEL_SIZE]; /* of MARK and UNMARK, else zeros */
};
_Static_assert(sizeof(struct heartbeat_frame) == 80, "the frame has no padding");

/* A source of heartbeats. */
struct heartbeat {
    int fd; /* connected socket, -1: no observer */
    uint64_t job;
    uint32_t rank, ranks;
    uint64_t seq;
    uint64_t last_ns; /* when the last one was sent, monotonic */
};

/* Returns the monotonic clock in nanoseconds. */
uint64_t heartbeat_clock(void);

/* Opens a non-blocking UDP socket connected to 'address' ("HOST:PORT", "[IPV6]:PORT" or "HOST").
 * Returns the socket, or -1 after printing why not. */
int heartbeat_connect(const char *address);

/* Starts a source of heartbeats of 'rank' in 'job' to 'address'; with NULL none are sent.
 * Returns 0, or -1 after printing why not. */
int heartbeat_open(struct heartbeat *hb, const char *address, uint64_t job, uint32_t rank,
                   uint32_t ranks);

/* Sends a heartbeat of 'kind' unless one was sent in the last 10 ms. WORK is to be called after
 * completed work only, so that heartbeats stop when the work does. */
void heartbeat_beat(struct heartbeat *hb, enum heartbeat_kind kind, uint64_t messages,
                    uint64_t bytes);

/* Sends PAUSE or END at once; several times, because a datagram may be lost. */
void heartbeat_announce(struct heartbeat *hb, enum heartbeat_kind kind, uint64_t messages,
                        uint64_t bytes);

/* Sends a request on connected socket 'fd' and waits for the answer, 5 tries of 400 ms; a lost
 * answer makes the observer see a request twice, which it bears. 'label' may be NULL. Writes the
 * answer as a string into the 'size' bytes at 'answer'. Returns 0, or -1 if none came. */
int heartbeat_request(int fd, enum heartbeat_kind kind, uint64_t job, const char *label,
                      char *answer, size_t size);

void heartbeat_close(struct heartbeat *hb);

#endif
