/*
 * What a rank has counted since it started: traffic by transport, switches, replays, and how long
 * messages were held up.
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef NINJA_COUNTERS_H
#define NINJA_COUNTERS_H

#include <stdint.h>

/* Index 0: the lifeline, then the fabrics in the order of their slots. */
#define NINJA_COUNTERS_TRANSPORTS 5

/* Bucket 0: stalls below 1 ms; bucket n: from 2^(n-1) ms to below 2^n ms; the last one: all above.
 */
#define NINJA_STALL_BUCKETS 16

/*
 * A stall is a time in which delivery on a link stood still although something was under way: a
 * frame had arrived and an earlier one was missing (it was on the path that the peer has left), or
 * the lifeline had no connection while frames waited for it.
 */
struct ninja_stalls {
    uint64_t bucket[NINJA_STALL_BUCKETS];
    uint64_t longest_us;
    uint64_t total_us;
};

struct ninja_counters {
    uint64_t messages_sent[NINJA_COUNTERS_TRANSPORTS]; /* frames: messages, or pieces of one */
    uint64_t messages_received[NINJA_COUNTERS_TRANSPORTS];
    uint64_t bytes_sent[NINJA_COUNTERS_TRANSPORTS]; /* payload */
    uint64_t bytes_received[NINJA_COUNTERS_TRANSPORTS];
    uint64_t switches; /* a half-link of ours changed its path */
    uint64_t replayed; /* frames sent again */
    uint64_t duplicates;
    uint64_t reconnects;     /* lifelines connected anew */
    uint64_t reads;          /* long messages taken from a peer's memory without frames */
    uint64_t retained_bytes; /* copies kept for replay, now */
    uint64_t links;
    struct ninja_stalls stalls;
};

struct ninja_core;

/* Microseconds of CLOCK_MONOTONIC. */
uint64_t ninja_now_us(void);

/* A stall that began at `since_us` is over. The gate is held. */
void ninja_stall_note(struct ninja_core *core, uint64_t since_us);

/* Sums up all links. The gate is held. */
void ninja_counters_sum(const struct ninja_core *core, struct ninja_counters *counters);

#endif
