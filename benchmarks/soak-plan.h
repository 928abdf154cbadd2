/* What each rank sends in each batch: computed alike by all ranks from the seed alone.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef SOAK_PLAN_H
#define SOAK_PLAN_H

#include "soak-message.h"

#define SOAK_BATCH_MAX        8            /* messages that each rank sends in a batch */
#define SOAK_WILDCARD_MAX     (256u << 10) /* bytes of a message that a wildcard may receive */
#define SOAK_COLLECTIVE_EVERY 8            /* batches */

enum soak_pattern {
    SOAK_PATTERN_MIXED,
    SOAK_PATTERN_RING,
    SOAK_PATTERN_PAIRS,
    SOAK_PATTERN_ALL,
    SOAK_PATTERN_RANDOM,
    SOAK_PATTERN_COUNT
};

enum soak_send { SOAK_ISEND, SOAK_ISSEND, SOAK_SEND, SOAK_SSEND };
enum soak_receive { SOAK_IRECV, SOAK_RECV, SOAK_MPROBE };
enum soak_layout_kind { SOAK_CONTIGUOUS, SOAK_VECTOR, SOAK_INDEXED };
enum soak_wait { SOAK_TESTSOME, SOAK_WAITANY, SOAK_WAITALL };

/* One message of a batch. */
struct soak_message {
    uint32_t src, dst;
    enum soak_stream stream;
    enum soak_send send;
    enum soak_receive receive;
    enum soak_layout_kind send_layout, receive_layout;
    int tag;
    size_t size;
    uint64_t seq; /* in its stream; left 0 by the plan */
};

/* What the plan is made from. */
struct soak_plan {
    uint64_t seed;
    uint32_t ranks, me;
    unsigned per_rank; /* messages that each rank sends in a batch */
    size_t min_size, max_size;
    enum soak_pattern pattern;
};

/* Returns the name of 'pattern' on the command line, or NULL behind the last one. */
const char *soak_pattern_name(unsigned pattern);

/* Writes the messages of batch 'batch' that 'plan->me' sends or receives to 'list', which has
 * room for plan->per_rank * plan->ranks of them, in the order that all ranks agree on. Returns
 * their number. */
unsigned soak_plan_batch(const struct soak_plan *plan, uint64_t batch, struct soak_message *list);

/* How 'plan->me' waits for the end of the requests of 'batch'. */
enum soak_wait soak_plan_wait(const struct soak_plan *plan, uint64_t batch);

/* Returns true if the persistent requests are started in 'batch'; all ranks agree. */
bool soak_plan_persistent(const struct soak_plan *plan, uint64_t batch);

/* True for the streams whose receives do not name a source. */
static inline bool soak_stream_is_wild(enum soak_stream stream)
{
    return stream == SOAK_STREAM_ANY_SOURCE || stream == SOAK_STREAM_ANY;
}

#endif
