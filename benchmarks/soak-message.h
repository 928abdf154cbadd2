/* Stamps messages so that a receiver can tell a lost, duplicated, reordered or damaged one.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef SOAK_MESSAGE_H
#define SOAK_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A kind of traffic with an order of its own between each pair of ranks. */
enum soak_stream {
    SOAK_STREAM_NAMED,      /* source and a tag of its own: matches exactly one receive */
    SOAK_STREAM_ORDERED,    /* source and one tag for all: must arrive in order */
    SOAK_STREAM_ANY_TAG,    /* MPI_ANY_TAG: must arrive in order */
    SOAK_STREAM_ANY_SOURCE, /* MPI_ANY_SOURCE: must arrive in order from each source */
    SOAK_STREAM_ANY,        /* MPI_ANY_SOURCE and MPI_ANY_TAG */
    SOAK_STREAM_PERSISTENT, /* persistent requests, restarted on the same buffers */
    SOAK_STREAM_COUNT
};

/* Who sent what to whom; enough to regenerate the bytes of a message. */
struct soak_identity {
    uint64_t seed;   /* of the run */
    uint64_t seq;    /* number of the message in its stream from 'src' to 'dst', from 0 */
    uint32_t src;    /* rank */
    uint32_t dst;    /* rank */
    uint32_t stream; /* enum soak_stream */
};

/* Bytes of the stamp at the head of each message that has room for it. */
#define SOAK_STAMP_SIZE 40

/* What looking at a received message showed. */
enum soak_verdict {
    SOAK_INTACT,  /* exactly the expected message */
    SOAK_OTHER,   /* an undamaged message, but another one than expected */
    SOAK_CORRUPT, /* damaged */
};

/* Returns a short name of 'stream' for messages to the user. */
const char *soak_stream_name(unsigned stream);

/* Mixes 'value' into 64 well-spread bits; used for all pseudo-random choices. */
uint64_t soak_mix(uint64_t value);

/* Fills the 'size' bytes at 'data' with the message that 'id' names. */
void soak_message_stamp(void *data, size_t size, const struct soak_identity *id);

/* Looks at the 'size' bytes at 'data', expecting the message that 'expected' names. Messages of
 * at least SOAK_STAMP_SIZE bytes say themselves who they are: '*found' gets that, and the verdict
 * is SOAK_OTHER if it differs from 'expected'. In a shorter one every difference is damage. For
 * SOAK_CORRUPT '*bad_offset' gets the offset of the first wrong byte. */
enum soak_verdict soak_message_verify(const void *data, size_t size,
                                      const struct soak_identity *expected,
                                      struct soak_identity *found, size_t *bad_offset);

/* Which messages of one stream from one source have arrived. */
#define SOAK_TRACKER_WINDOW 4096
struct soak_tracker {
    uint64_t next;                           /* one more than the highest number seen */
    uint64_t distinct;                       /* different messages seen */
    uint64_t duplicated;                     /* messages seen again */
    uint64_t reordered;                      /* messages seen after a later one */
    uint64_t seen[SOAK_TRACKER_WINDOW / 64]; /* bit map of the latest window of numbers */
};

/* What the arrival of one message means. */
enum soak_arrival { SOAK_ARRIVED, SOAK_DUPLICATED, SOAK_REORDERED };

/* Notes in 'tracker' that message 'seq' arrived. A number older than the window counts as
 * duplicated. */
enum soak_arrival soak_tracker_note(struct soak_tracker *tracker, uint64_t seq);

/* Returns how many of the 'sent' messages never arrived. */
uint64_t soak_tracker_lost(const struct soak_tracker *tracker, uint64_t sent);

#endif
