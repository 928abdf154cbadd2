/*
 * The frame: what travels between two ranks on any transport, and the memory that keeps it until it
 * is acknowledged.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_FRAME_H
#define NINJA_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define NINJA_FRAME_MAGIC 0x4e4aU /* "NJ" */

/* No frame carries more than this; a longer length on the wire is a protocol error. */
#define NINJA_FRAME_PAYLOAD_MAX (1024U * 1024U)

/*
 * Types of frames. DATA to GET_DATA are numbered in the link's data channel, CONTROL in its control
 * channel; both are kept until acknowledged and replayed. The rest is never kept: losing one loses
 * nothing.
 */
enum ninja_frame_type {
    NINJA_FRAME_DATA = 1,    /* an active message for the upper layer */
    NINJA_FRAME_GET_REQUEST, /* asks for `offset` bytes at the payload's address, for `cookie` */
    NINJA_FRAME_GET_DATA,    /* bytes for get `cookie` at `offset` */
    NINJA_FRAME_CONTROL,     /* a path message (path.h), on the lifeline only */
    NINJA_FRAME_ACK,         /* acknowledges the data channel */
    NINJA_FRAME_CONTROL_ACK, /* acknowledges the control channel */
    NINJA_FRAME_PROBE,       /* first frame on a new path; `cookie` is the nonce */
    NINJA_FRAME_ECHO,        /* answers PROBE with the same nonce */
    NINJA_FRAME_BYE,         /* the sender ends in good order; on the lifeline only */
    NINJA_FRAME_TYPES
};

/* The receiver should acknowledge at once: a completion waits for it. */
#define NINJA_FRAME_ACK_NOW 0x1U

/*
 * On the wire, in the byte order of the machine (both ends of a job have the same one; the
 * handshake checks it). `acknowledged` is the sequence number of the last frame of the same channel
 * that the sender of this header has in its memory with all before it; sequence numbers begin at 1.
 */
struct ninja_frame_header {
    uint16_t magic;
    uint8_t type;        /* enum ninja_frame_type */
    uint8_t tag;         /* DATA: the upper layer's tag */
    uint32_t length;     /* bytes of payload after the header */
    uint32_t generation; /* of the path it was handed to; 0 is the lifeline */
    uint32_t flags;
    uint64_t sequence;
    uint64_t acknowledged;
    uint64_t cookie;
    uint64_t offset;
};
_Static_assert(sizeof(struct ninja_frame_header) == 48, "the header has no padding");

struct ninja_frame;
struct ninja_slab;

/* What the upper layer is told when a frame that it waits for is acknowledged; `status` is 0 or a
 * negative errno. */
typedef void (*ninja_complete_fn)(void *context, int status);

/*
 * A numbered frame. It lives from ninja_frame_new() until both hold: the peer has acknowledged it
 * (or the link ended), and no transport holds a reference (`in_transport`). Header and inline
 * payload are one piece of memory, so a transport sends a small frame with one address.
 */
struct ninja_frame {
    struct ninja_frame *next;   /* in the link's retained list, by sequence number */
    ninja_complete_fn complete; /* NULL: nobody waits */
    void *context;
    const void
        *place; /* the part of the payload that stays in the user's buffer, after the inline part */
    uint32_t place_length;  /* bytes at `place` */
    uint32_t inline_length; /* bytes of payload right after `header` */
    uint16_t in_transport;  /* references held by transports */
    bool handed;            /* given to the path whose generation is in the header */
    bool retained;          /* in a link's retained list */
    uint8_t size_class;
    uint8_t attempts;        /* how often it was handed over; counted while faults are injected */
    uint32_t room;           /* bytes of `data` */
    struct ninja_slab *slab; /* that it lies in */
    struct ninja_frame_header header;
    unsigned char data[];
};

/* Frames lie in slabs by the size of their inline part. */
#define NINJA_FRAME_CLASSES 7

LIST_HEAD(ninja_slab_list, ninja_slab);

/* The memory of all frames; one per core, protected by its gate. It begins with zeroes. */
struct ninja_frame_pool {
    struct ninja_slab_list room[NINJA_FRAME_CLASSES]; /* slabs that can take a frame */
    size_t limit;      /* bytes of slabs without a frame that are kept for the next ones */
    size_t idle_bytes; /* kept now */
    size_t idle_least; /* the least of it since ninja_frame_pool_trim() */
};

/*
 * Takes a frame with room for `inline_size` bytes of inline payload (at most
 * NINJA_FRAME_PAYLOAD_MAX). The header is zeroed but for the magic. Returns NULL when memory is
 * exhausted.
 */
struct ninja_frame *ninja_frame_new(struct ninja_frame_pool *pool, size_t inline_size);

/* Gives `frame` back to `pool`; NULL is accepted. */
void ninja_frame_free(struct ninja_frame_pool *pool, struct ninja_frame *frame);

/* Gives back what was idle all the time since this was called last. */
void ninja_frame_pool_trim(struct ninja_frame_pool *pool);

/* Frees all memory that `pool` keeps; there must be no frames. */
void ninja_frame_pool_destroy(struct ninja_frame_pool *pool);

/* Checks the header of an arriving frame; returns 0, or -EPROTO when it cannot be one of ours. */
int ninja_frame_header_check(const struct ninja_frame_header *header);

/* The name of a frame type for logs, "?" if unknown. */
const char *ninja_frame_type_name(unsigned type);

/* Bytes of memory that `frame` takes. */
static inline size_t ninja_frame_footprint(const struct ninja_frame *frame)
{
    return sizeof(*frame) + frame->room;
}

/* Bytes of payload of `frame`, inline part and place. */
static inline uint32_t ninja_frame_length(const struct ninja_frame *frame)
{
    return frame->inline_length + frame->place_length;
}

#endif
